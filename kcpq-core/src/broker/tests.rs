//! What the stories of clients do not reach: slow subscribers and the publishers that feed them.

use alloc::vec;
use core::net::SocketAddr;

use alloc::vec::Vec;

use super::party::{Party, Subscriber};
use super::*;
use crate::client::{self, Client, Parts};
use crate::frame::properties::PropertiesBuf;
use crate::frame::{Frame, command};
use crate::hello::{Hello, MAX_WELCOME, features};
use crate::kcp::CongestionControl;
use crate::outbox::Outbox;
use crate::store::Heap;
use crate::time::Duration;

mod backlog;
mod kept;
mod memory;
mod presence;
mod runs;
mod stream;
mod turns;
mod view;

/// A broker and clients that are connected without any delay; some may be deaf.
struct Room {
    now: Instant,
    broker: Broker<SocketAddr>,
    clients: Vec<(Client<Heap>, bool, u64)>,
}

impl Room {
    fn new(config: Config, clients: usize) -> Self {
        let now = Instant::from_millis(1);
        let client = |seed| {
            let config = client::Config { queue: 1 << 20, kcp: KCP, ..client::Config::default() };
            let mut client = Client::new(config, seed, Parts::heap(&config));
            client.connect(now);
            (client, false, 0)
        };
        let clients = (0..clients as u64).map(client).collect();
        let mut room = Self { now, broker: Broker::new(Config { kcp: KCP, ..config }, 1), clients };
        room.settle();
        room
    }

    fn addr(index: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1_000 + index as u16))
    }

    /// Lets everything happen that is due. Who is deaf takes no datagrams.
    fn settle(&mut self) {
        self.settle_but(SocketAddr::from(([192, 0, 2, 1], 1)), |_| unreachable!("nobody is there"));
    }

    /// Another client, which connects.
    fn add_client(&mut self) {
        let config = client::Config { queue: 1 << 20, kcp: KCP, ..client::Config::default() };
        let mut client = Client::new(config, 100 + self.clients.len() as u64, Parts::heap(&config));
        client.connect(self.now);
        self.clients.push((client, false, 0));
    }

    /// The same beside somebody who is shown the lengths of what is sent to it, and others who take nothing.
    fn settle_but(&mut self, other: SocketAddr, mut sent: impl FnMut(usize)) {
        let mut buf = vec![0; 60_000];
        loop {
            let mut idle = true;
            for (index, (client, deaf, received)) in self.clients.iter_mut().enumerate() {
                while !*deaf && let Some(len) = client.poll_transmit(self.now, &mut buf) {
                    self.broker.handle_datagram(self.now, Self::addr(index), &mut buf[..len]);
                    idle = false;
                }
                while let Some(event) = client.poll_event() {
                    *received += u64::from(matches!(event, client::Event::Message { .. }));
                }
            }
            while let Some(transmit) = self.broker.poll_transmit(self.now, &mut buf) {
                idle = false;
                if transmit.to == other {
                    sent(transmit.len);
                    continue;
                }
                let index = usize::from(transmit.to.port()) - 1_000;
                let Some((client, deaf, _)) = self.clients.get_mut(index) else { continue };
                for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                    if !*deaf {
                        client.handle_datagram(self.now, datagram);
                    }
                }
            }
            if idle {
                return;
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        self.broker.handle_timeout(self.now);
        for (client, ..) in &mut self.clients {
            client.handle_timeout(self.now);
        }
        self.settle();
    }

    /// Publishes as much as is taken; returns how many messages that were.
    fn flood(&mut self, from: usize, messages: u64, size: usize) -> u64 {
        let payload = vec![7; size];
        for sent in 0..messages {
            if self.clients[from].0.publish(self.now, "flood", &payload).is_err() {
                return sent;
            }
            self.settle();
        }
        messages
    }
}

/// No time passes here between sending and receiving, so there is no link whose pace could be kept.
const KCP: kcp::Config =
    kcp::Config { congestion: CongestionControl::Off, send_window: 1024, recv_window: 1024, ..kcp::Config::GAMES };

const SUBSCRIBER: usize = 0;
const OTHER: usize = 1;
const PUBLISHER: usize = 2;

fn crowded(config: Config) -> Room {
    let mut room = Room::new(config, 3);
    let now = room.now;
    room.clients[SUBSCRIBER].0.subscribe(now, "flood").unwrap();
    room.clients[OTHER].0.subscribe(now, "flood").unwrap();
    room.settle();
    assert_eq!(room.broker.stats().subscriptions, 2);
    room
}

/// All ways to write 16 tokens as `a` or `*` would make each message take 131,071 steps.
#[test]
fn patterns_that_would_make_messages_of_others_dear_are_refused() {
    let mut room = Room::new(Config::default(), 2);
    let now = room.now;
    for bits in 0..1_000 {
        let tokens: Vec<&str> = (0..16).map(|at| if bits >> at & 1 == 0 { "a" } else { "*" }).collect();
        room.clients[0].0.subscribe(now, &tokens.join(".")).unwrap();
        room.settle();
    }
    let refused = room.broker.stats().subscriptions_refused;
    assert!(refused > 900 && room.broker.stats().subscriptions + refused == 1_000, "{refused}");
    // Of one shape there may be as many as before.
    for id in 0..1_000 {
        room.clients[1].0.subscribe(now, &alloc::format!("game.*.player.{id}.*")).unwrap();
    }
    room.settle();
    assert_eq!(room.broker.stats().subscriptions_refused, refused);
}

#[test]
fn a_publisher_is_held_back_while_a_subscriber_is_behind_and_nothing_is_dropped() {
    let config = Config { high_water: 100_000, max_queued: 10 << 20, ..Config::default() };
    let mut room = crowded(config);
    room.clients[SUBSCRIBER].1 = true;
    let sent = room.flood(PUBLISHER, 20_000, 1_000);
    assert!(sent < 10_000, "the publisher feels it: {sent} were taken");
    assert!(room.broker.stats().queued < 4 << 20);
    // It hears again: what it missed is sent again, and the publisher goes on.
    room.clients[SUBSCRIBER].1 = false;
    let mut more = 0;
    for _ in 0..200 {
        room.pass(Duration::from_millis(20));
        more += room.flood(PUBLISHER, 100, 1_000);
    }
    room.pass(Duration::from_secs(1));
    assert!(more > 5_000, "{more} more were taken");
    let stats = room.broker.stats();
    assert_eq!((stats.dropped_slow, stats.queued), (0, 0));
    assert!(stats.throttled > 0);
    assert_eq!(room.clients[SUBSCRIBER].2, sent + more);
    assert_eq!(room.clients[OTHER].2, sent + more);
}

/// It is held to what is left of the memory of all, which is less than its own limit: it has not caught up while it has so much.
#[test]
fn a_subscriber_is_said_to_be_slow_once_where_the_memory_of_all_is_what_it_lacks() {
    let config = Config { high_water: 100_000, max_queued: 1_000_000, max_queued_total: 300_000, ..Config::default() };
    let mut room = crowded(config);
    room.clients[SUBSCRIBER].1 = true;
    for _ in 0..100 {
        room.flood(PUBLISHER, 100, 1_000);
        room.pass(Duration::from_millis(10));
    }
    let stats = room.broker.stats();
    assert!(stats.dropped_memory > 1_000, "{stats:?}");
    assert!((1..10).contains(&stats.slow_consumers) && stats.slow_sessions == 0, "{stats:?}");
}

#[test]
fn a_subscriber_that_stays_behind_harms_itself_only() {
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest, SlowConsumer::Disconnect] {
        let config = Config { high_water: 100_000, max_queued: 300_000, slow_consumer: policy, ..Config::default() };
        let mut room = crowded(config);
        room.clients[SUBSCRIBER].1 = true;
        let mut sent = room.flood(PUBLISHER, 10_000, 1_000);
        room.pass(Duration::from_millis(600));
        // The patience is over: the others get everything, at full speed.
        for _ in 0..50 {
            sent += room.flood(PUBLISHER, 100, 1_000);
            room.pass(Duration::from_millis(1));
        }
        assert_eq!(room.clients[OTHER].2, sent, "{policy:?}");
        let stats = room.broker.stats();
        assert!(stats.dropped_slow > 0 && stats.slow_consumers == 1, "{policy:?}: {stats:?}");
        assert!(stats.queued <= 301_000);
        let delivered = room.clients[SUBSCRIBER].2;
        assert!(delivered < sent);
        if policy == SlowConsumer::Disconnect {
            room.pass(Duration::from_secs(3));
            assert_eq!(room.broker.sessions(), 2, "its session is gone");
        }
    }
}

#[test]
fn who_asks_faster_than_it_takes_answers_is_not_read_further() {
    let mut room = Room::new(Config::default(), 1);
    room.pass(Duration::from_millis(10));
    // PINGs by hand, and no acknowledgement of the answers.
    let mut session = crate::session::Session::new(
        77,
        KCP,
        crate::frame::Limits::KCPQ,
        datagram::Link::new(Framing::Plain, 1400, 0),
        Parts::heap(&client::Config { kcp: KCP, ..client::Config::default() }).session,
    );
    let mut buf = vec![0; 1400];
    for _ in 0..50_000 {
        session.control(command::PING, &[], &[]).unwrap();
        while let Some(len) = session.poll_transmit(room.now, &mut Protection::default(), &mut buf) {
            room.broker.handle_datagram(room.now, Room::addr(9), &mut buf[..len]);
            let mut out = vec![0; 60_000];
            while let Some(transmit) = room.broker.poll_transmit(room.now, &mut out) {
                for datagram in out[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                    let Ok(content) = datagram::parse(datagram) else { continue };
                    // It sees how far it may send, but takes nothing: its window closes.
                    session.handle_datagram(room.now, datagram, content, &mut crate::frame::Leave);
                }
            }
        }
    }
    let table = &mut room.broker.sessions.table;
    let slot = table.find(Room::addr(9), 77).and_then(|index| table.get_mut(index)).unwrap();
    let (_, me) = slot.session.split(slot.id);
    assert!(me.control.len() < 70_000, "{} bytes of replies wait", me.control.len());
    assert!(me.is_asking_too_fast());
}

/// Payloads of `subject` that a client gets after it was deaf while `count` messages were published.
fn after_silence(latest: &[&str], every: &[&str], count: u32) -> (Stats, u64) {
    let mut room = Room::new(Config { high_water: usize::MAX, ..Config::default() }, 2);
    let now = room.now;
    for pattern in latest {
        room.clients[0].0.subscribe_latest(now, pattern).unwrap();
    }
    for pattern in every {
        room.clients[0].0.subscribe(now, pattern).unwrap();
    }
    room.settle();
    room.clients[0].1 = true;
    for n in 0..count {
        let subject = alloc::format!("state.{}", n % 7);
        room.clients[1].0.publish(room.now, &subject, &[n.to_be_bytes().as_slice(), &[0; 500]].concat()).unwrap();
        room.settle();
    }
    let waits = room.broker.stats().queued;
    room.clients[0].1 = false;
    for _ in 0..200 {
        room.pass(Duration::from_millis(20));
    }
    let stats = room.broker.stats();
    assert_eq!(stats.queued, 0);
    assert_eq!(
        room.clients[0].0.stats().messages_received + stats.superseded,
        u64::from(count),
        "each is delivered or counted"
    );
    (stats, waits)
}

#[test]
fn of_what_waits_for_a_subscription_to_the_latest_only_the_newest_of_each_subject_is_kept() {
    let (stats, waits) = after_silence(&["state.*"], &[], 3_000);
    assert!(stats.superseded > 1_000 && waits < 8 * 600, "{stats:?}");
    let (stats, waits) = after_silence(&["state.*", "state.3", ">"], &[], 3_000);
    assert!(stats.superseded > 1_000 && waits < 8 * 600, "however many patterns match: {stats:?}");
}

#[test]
fn a_message_that_another_subscription_wants_is_not_superseded() {
    assert_eq!(after_silence(&["state.*"], &[">"], 3_000).0.superseded, 0);
    assert_eq!(after_silence(&["state.*"], &["state.*"], 3_000).0.superseded, 0, "of two to one pattern as well");
    let (stats, _) = after_silence(&["state.*"], &["state.3"], 3_000);
    assert!(stats.superseded > 1_000 && stats.superseded < 3_000 * 6 / 7);
}

#[test]
fn a_deadline_says_what_it_is_for() {
    let mut room = crowded(Config { high_water: 10_000, ..Config::default() });
    for _ in 0..10 {
        room.pass(Duration::from_millis(500));
    }
    let why = |room: &Room| room.broker.poll_timeout().map(|deadline| deadline.why);
    assert_eq!(why(&room), Some(Why::Idle));
    room.clients[SUBSCRIBER].1 = true;
    room.flood(PUBLISHER, 3_000, 1_000);
    assert_eq!(why(&room), Some(Why::Throttle), "the publisher waits for one that does not acknowledge anything");
    room.pass(Duration::from_millis(300));
    assert_eq!(why(&room), Some(Why::Retransmit), "for a short while");
    room.broker.drain(room.now);
    assert_eq!(why(&room), Some(Why::Transmit), "all are told");
}

#[test]
fn subscribers_have_dense_numbers_that_tell_them_apart() {
    // The gateway stands behind the last of them.
    let shards = (0..=MAX_SHARDS).map(|index| Subscriber::Every(Party::Shard(index as u8)));
    for (number, subscriber) in shards.chain([Subscriber::Abroad]).enumerate() {
        assert_eq!((u32::from(subscriber), Subscriber::from(number as u32)), (number as u32, subscriber));
    }
    for index in 0..100 {
        let all = [Subscriber::Every(Party::Session(index)), Subscriber::Latest(index), Subscriber::Share(index)];
        for (kind, subscriber) in all.into_iter().enumerate() {
            assert_eq!(u32::from(subscriber), MAX_SHARDS as u32 + 2 + index * 4 + kind as u32);
            assert_eq!(Subscriber::from(u32::from(subscriber)), subscriber);
        }
    }
}

#[test]
fn who_does_not_know_properties_gets_the_message_without() {
    use self::forged::{frame, hello_of, push};
    use crate::kcp::{Command, Header};

    let mut room = Room::new(Config::default(), 1);
    let sub = |number| frame(command::SUB, b"a", &[0, 0, 0, number]);
    // An original one, one that knows no properties, one that does.
    let greetings = [vec![], hello_of(features::SUPPORTED & !features::PROPERTIES), hello_of(features::PROPERTIES)];
    let peer = |index| SocketAddr::from(([192, 0, 2, 9], 100 + index as u16));
    for (index, greeting) in greetings.iter().enumerate() {
        let mut datagram = push(7, 0, 0, &[greeting.as_slice(), &sub(1)].concat());
        room.broker.handle_datagram(room.now, peer(index), &mut datagram);
    }
    let mut buf = vec![0; 60_000];
    while let Some(transmit) = room.broker.poll_transmit(room.now, &mut buf) {
        // It has heard the answer, which shows where it is.
        let mut rest = &buf[..transmit.len];
        let mut acks = Vec::new();
        while let Ok((header, _, behind)) = Header::split(rest, 7) {
            rest = behind;
            if header.command == Command::Push {
                acks.extend(Header { command: Command::Ack, wnd: 64, len: 0, ..header }.to_bytes());
            }
        }
        room.broker.handle_datagram(room.now, transmit.to, &mut acks);
    }
    let mut properties = PropertiesBuf::new();
    properties.reply("b").unwrap();
    let ttl = Some(Duration::from_secs(9));
    room.clients[0].0.publish_with(room.now, "a", b"hello", properties.properties(), ttl).unwrap();
    let client = &mut room.clients[0].0;
    while let Some(len) = client.poll_transmit(room.now, &mut buf) {
        room.broker.handle_datagram(room.now, Room::addr(0), &mut buf[..len]);
    }
    let mut sent = vec![Vec::new(); greetings.len()];
    while let Some(transmit) = room.broker.poll_transmit(room.now, &mut buf) {
        if let Some(index) = (0..greetings.len()).find(|index| peer(*index) == transmit.to) {
            sent[index].extend_from_slice(&buf[..transmit.len]);
        }
    }
    let msg = frame(command::MSG, b"a", b"hello");
    // With the time that is left.
    let msgx = frame(command::MSGX, b"a", b"hello\x01\0\x01b\x04\0\x04\0\0\x23\x28\0\x0b");
    for (sent, expected) in sent.iter().zip([msg.clone(), msg, msgx]) {
        assert!(sent.ends_with(&expected), "{}", sent.escape_ascii());
    }
}

#[test]
fn a_subscriber_is_told_what_is_left_of_a_messages_time() {
    // Copied, shared, and in pieces; with other properties and without.
    for (len, reply) in [5, 2_000, 9_000].into_iter().flat_map(|len| [(len, None), (len, Some("b"))]) {
        let mut room = Room::new(Config::default(), 3);
        for subscriber in 1..3 {
            room.clients[subscriber].0.subscribe(room.now, "a").unwrap();
        }
        room.settle();
        let payload = vec![len as u8; len];
        let mut properties = PropertiesBuf::new();
        if let Some(reply) = reply {
            properties.reply(reply).unwrap();
        }
        let ttl = Some(Duration::from_secs(9));
        room.clients[0].0.publish_with(room.now, "a", &payload, properties.properties(), ttl).unwrap();
        room.clients[0].0.publish(room.now, "a", b"plain").unwrap();
        let [mut got, mut plain] = [0, 0];
        let mut out = vec![0; 70_000];
        while let Some(len) = room.clients[0].0.poll_transmit(room.now, &mut out) {
            room.broker.handle_datagram(room.now, Room::addr(0), &mut out[..len]);
        }
        room.now += Duration::from_millis(10);
        room.broker.handle_timeout(room.now);
        while let Some(transmit) = room.broker.poll_transmit(room.now, &mut out) {
            let Some(to) = (1..3).find(|index| Room::addr(*index) == transmit.to) else { continue };
            for datagram in out[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                room.clients[to].0.handle_datagram(room.now, datagram);
                while let Some(event) = room.clients[to].0.poll_event() {
                    let client::Event::Message { message, .. } = event else { continue };
                    assert_eq!(message.subject(), "a");
                    if message.payload() == b"plain" {
                        assert!(message.properties().is_empty(), "it is as short as ever");
                        plain += 1;
                        continue;
                    }
                    assert_eq!(message.payload(), payload);
                    assert_eq!(message.properties().reply(), reply);
                    assert_eq!(message.properties().left(), Some(Duration::from_millis(8_990)), "{len} bytes");
                    got += 1;
                }
            }
        }
        assert_eq!((got, plain), (2, 2), "{len} bytes");
    }
}

#[test]
fn a_message_whose_time_finds_no_room_is_too_large() {
    use crate::frame::{HEAD, LENGTH, Limits};
    let mut room = Room::new(Config::default(), 2);
    let (properties, len) = (PropertiesBuf::new(), 100);
    room.clients[1].0.subscribe(room.now, "a").unwrap();
    room.settle();
    let own = Limits { max_body: (HEAD - LENGTH + 1 + len + 9) as u32, ..Limits::KCPQ };
    let config = client::Config { frames: own, kcp: KCP, ..client::Config::default() };
    let mut client = Client::new(config, 100, Parts::heap(&config));
    client.connect(room.now);
    room.clients.push((client, false, 0));
    room.clients[2].0.subscribe(room.now, "a").unwrap();
    room.settle();
    let ttl = Some(Duration::from_secs(9));
    for len in [len, len + 1] {
        room.clients[0].0.publish_with(room.now, "a", &vec![1; len], properties.properties(), ttl).unwrap();
        room.settle();
    }
    assert_eq!(room.broker.stats().dropped_too_large, 1);
    let received = |index: usize| room.clients[index].0.stats().messages_received;
    assert_eq!((received(1), received(2)), (2, 1));
}

/// What a forged address is sent and what it costs: nobody there ever answers.
mod forged {
    use super::*;
    use crate::kcp::{Command, Header, Sn, Ts};

    /// A datagram with one PUSH of these frames, as a stranger would make it.
    pub(super) fn push(conv: u32, sn: u32, una: u32, frames: &[u8]) -> Vec<u8> {
        let len = frames.len() as u32;
        let header =
            Header { conv, command: Command::Push, frg: 0, wnd: 4096, ts: Ts(1), sn: Sn(sn), una: Sn(una), len };
        [&header.to_bytes()[..], frames].concat()
    }

    pub(super) fn frame(command: u8, subject: &[u8], payload: &[u8]) -> Vec<u8> {
        let frame = Frame { command, subject, payload };
        let mut out = vec![0; frame.encoded_len()];
        frame.encode(&mut out).unwrap();
        out
    }

    fn hello() -> Vec<u8> {
        hello_of(features::SUPPORTED)
    }

    pub(super) fn hello_of(features: u32) -> Vec<u8> {
        let hello = Hello {
            version: 1,
            features,
            max_datagram: 8_952,
            window: 4_096,
            max_body: 1 << 23,
            max_subject: 4_096,
            max_tokens: 32,
            keep_alive: 15,
            epoch: 0,
            name: "",
            session: None,
        };
        let mut out = [0; MAX_WELCOME];
        let len = hello.encode(&mut out);
        frame(command::HELLO, &[], &out[..len])
    }

    const VICTIM: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 9)), 7);

    /// Lets time pass; returns the bytes and datagrams that went to the victim.
    fn sent_to_victim(room: &mut Room, seconds: u64) -> (usize, usize) {
        let (mut bytes, mut count) = (0, 0);
        let until = room.now + Duration::from_secs(seconds);
        let mut buf = vec![0; 60_000];
        loop {
            let mut turns = 0;
            while let Some(transmit) = room.broker.poll_transmit(room.now, &mut buf) {
                if transmit.to == VICTIM {
                    bytes += transmit.len;
                    count += transmit.len.div_ceil(transmit.segment.unwrap_or(transmit.len));
                }
                turns += 1;
                assert!(turns < 10_000, "it spins");
            }
            let next = room.broker.poll_timeout().map_or(until, |deadline| deadline.at);
            if next >= until {
                room.now = until;
                room.broker.handle_timeout(until);
                return (bytes, count);
            }
            room.now = next.max(room.now + Duration::from_micros(1));
            room.broker.handle_timeout(room.now);
        }
    }

    #[test]
    fn an_address_that_is_not_proved_gets_three_times_what_came_from_it() {
        for frames in
            [hello(), [hello(), frame(command::SUB, b">", &[0, 0, 0, 1])].concat(), frame(command::SUB, b">", &[])]
        {
            let mut room = Room::new(Config::default(), 1);
            // Also when it claims to have what it was sent, and to have a window.
            let mut came = 0;
            for datagram in [push(5, 0, 0, &frames), push(5, 1, 1, &frame(command::PING, &[], &[]))] {
                came += datagram.len() + 28;
                room.broker.handle_datagram(room.now, VICTIM, &mut datagram.clone());
            }
            let (mut bytes, mut count) = sent_to_victim(&mut room, 1);
            for _ in 0..1_000 {
                room.clients[0].0.publish(room.now, "flood", &[7; 1_000]).unwrap();
            }
            room.settle_but(VICTIM, |len| {
                bytes += len;
                count += 1;
            });
            let (more, further) = sent_to_victim(&mut room, 40);
            let wire = bytes + more + 28 * (count + further);
            assert!(wire <= 3 * came, "{wire} bytes for {came}");
            assert_eq!(room.broker.sessions(), 1, "it is gone after {:?}", Config::default().half_open_timeout);
            assert_eq!(room.broker.stats().half_open_sessions, 1);
        }
    }

    #[test]
    fn forged_sessions_keep_nobody_out_and_count_for_no_host() {
        let config = Config { max_sessions: 100, max_sessions_per_host: 10, ..Config::default() };
        let mut room = Room::new(config, 2);
        let forge = |room: &mut Room, conv: u32| {
            let from = SocketAddr::from(([127, 0, 0, 1], 20_000 + (conv % 10_000) as u16));
            room.broker.handle_datagram(room.now, from, &mut push(conv, 0, 0, &hello()));
        };
        for conv in 0..500 {
            forge(&mut room, conv);
        }
        // So many turns take their time.
        while room.broker.poll_timeout().is_some_and(|due| due.at <= room.now) {
            room.settle_but(VICTIM, |_| ());
        }
        assert_eq!((room.broker.sessions(), room.broker.stats().sessions_refused), (100, 0));
        // Who was there stays, and who comes gets in, from the same host as well.
        assert!(room.clients.iter().all(|(client, ..)| client.is_connected()));
        let before = room.broker.stats().native_sessions;
        room.add_client();
        room.settle_but(VICTIM, |_| ());
        assert!(room.clients.iter().all(|(client, ..)| client.is_connected()));
        for conv in 1_000..1_500 {
            forge(&mut room, conv);
        }
        room.settle_but(VICTIM, |_| ());
        assert!(before > 0 && room.clients.iter().all(|(client, ..)| client.is_connected()));
        // Those of one host who are really there are counted.
        for _ in 0..10 {
            room.add_client();
            room.settle_but(VICTIM, |_| ());
        }
        let connected = room.clients.iter().filter(|(client, ..)| client.is_connected()).count();
        assert_eq!((connected, room.broker.stats().sessions_refused > 0), (10, true));
    }

    /// A peer that only publishes is never sent anything that it could acknowledge: it stays as long as any other.
    #[test]
    fn who_was_asked_nothing_need_not_prove_anything() {
        let mut room = Room::new(Config::default(), 0);
        room.broker.handle_datagram(room.now, VICTIM, &mut push(5, 0, 0, &frame(command::PUB, b"a", b"b")));
        sent_to_victim(&mut room, 100);
        assert_eq!(room.broker.sessions(), 1);
        sent_to_victim(&mut room, 30);
        assert_eq!(room.broker.sessions(), 0);
    }
}

#[cfg(all(feature = "aes", feature = "sealed"))]
#[test]
fn an_encrypted_datagram_that_looks_sealed_by_chance_is_taken_for_what_it_is() {
    let protection = |entropy| Protection::compat_aes256(&crate::cipher::Key::from_bytes(&[9; 32]), [entropy; 32]);
    let keys = Keys { key: Some(crate::seal::PrivateKey::from_bytes(&[3; 32])), secret: None };
    let broker = Broker::new(Config::default(), 1).with_protection(protection(1)).with_shards(0, 2);
    let mut broker = broker.with_keys(keys, &[4; 32]);
    let mut client = protection(2);
    let headroom = client.headroom();
    let mut looked_sealed = 0;
    for _ in 0..4_000 {
        // Inside is a segment of nobody's, and it is to be counted as just that.
        let mut datagram = vec![0; headroom + 30];
        client.seal(&mut datagram);
        looked_sealed += u32::from(matches!(datagram[4], 0x81 | 0x82 | 0x89));
        broker.handle_datagram(Instant::from_millis(1), Room::addr(0), &mut datagram);
    }
    assert!(looked_sealed > 20, "{looked_sealed}");
    let stats = broker.stats();
    assert_eq!(stats.stray_datagrams, 4_000);
    assert_eq!((stats.strangers, stats.unopened_datagrams, stats.forwarded), (0, 0, 0));
}
