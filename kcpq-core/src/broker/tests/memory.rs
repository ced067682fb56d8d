//! Memory for what has come and cannot be handed on yet, when many want it.

use alloc::string::String;
use core::net::Ipv4Addr;

use super::super::memory::EACH;
use super::*;
use crate::kcp::{Kcp, Origin};
use crate::sim::{self, Link};

const MIB: usize = 1 << 20;
const FRAME: usize = 8 * MIB;

/// A broker, clients that behave, and others of which only the engine does.
struct Hall {
    now: Instant,
    /// How long nobody is looked at.
    tick: Duration,
    broker: Broker<SocketAddr>,
    clients: Vec<Guest>,
    engines: Vec<Engine>,
    /// The most that the broker has had.
    peak: u64,
}

struct Guest {
    client: Client<Heap>,
    up: Link,
    down: Link,
    /// First bytes of the messages that came, and when.
    got: Vec<(u64, Instant)>,
    lost: Vec<String>,
}

impl Guest {
    fn listen(&mut self, now: Instant) {
        while let Some(event) = self.client.poll_event() {
            match event {
                client::Event::Message { message, .. } => {
                    self.got.push((u64::from_be_bytes(*message.payload().first_chunk().unwrap()), now));
                }
                client::Event::Disconnected { .. } | client::Event::Refused(_) => {
                    self.lost.push(alloc::format!("{event:?}"));
                }
                _ => {}
            }
        }
    }
}

/// Somebody who sends parts of frames.
struct Engine {
    kcp: Kcp<Heap>,
    /// When it wants to be looked at.
    due: Option<Instant>,
    ended: bool,
}

impl Hall {
    fn new(config: Config, tick: Duration) -> Self {
        let broker = Broker::new(config, 1);
        Self { now: Instant::from_millis(1), tick, broker, clients: Vec::new(), engines: Vec::new(), peak: 0 }
    }

    fn add(&mut self, link: sim::Config) -> usize {
        let config = client::Config { queue: 64 * MIB, reconnect: None, ..client::Config::default() };
        let seed = self.clients.len() as u64;
        let mut client = Client::new(config, seed, Parts::heap(&config));
        client.connect(self.now);
        let (up, down) = (Link::new(link, seed), Link::new(link, seed ^ 0xaaaa));
        self.clients.push(Guest { client, up, down, got: Vec::new(), lost: Vec::new() });
        self.clients.len() - 1
    }

    /// One that has begun a frame of 8 MiB and has so much of it to send.
    fn add_engine(&mut self, len: usize) {
        let config = kcp::Config { congestion: CongestionControl::Off, ..kcp::Config::VIDEO };
        let mut kcp = Kcp::new(self.engines.len() as u32 + 1, config, kcp::Parts::heap(&config));
        kcp.set_mtu(1_400);
        kcp.send(&Frame::head(command::PING, 0, 0).unwrap()).unwrap();
        kcp.send(&Frame::head(command::PUB, 1, FRAME - 100).unwrap()).unwrap();
        kcp.send(&vec![b'x'; len]).unwrap();
        self.engines.push(Engine { kcp, due: Some(self.now), ended: false });
    }

    fn addr(index: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), index as u16))
    }

    fn engine_addr(index: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), index as u16))
    }

    fn tick(&mut self) {
        self.now += self.tick;
        let now = self.now;
        let mut buf = vec![0; 65_000];
        self.broker.handle_timeout(now);
        for (index, Engine { kcp, due, ended }) in self.engines.iter_mut().enumerate() {
            if *ended || due.is_none_or(|due| due > now) {
                continue;
            }
            while let Some(len) = kcp.poll_transmit(now, &mut buf) {
                self.broker.handle_datagram(now, Self::engine_addr(index), &mut buf[..len]);
                self.peak = self.peak.max(self.broker.stats().received);
            }
            *due = kcp.poll_timeout().map(|deadline| deadline.at);
        }
        for (index, guest) in self.clients.iter_mut().enumerate() {
            guest.client.handle_timeout(now);
            while let Some(mut datagram) = guest.down.recv(now) {
                guest.client.handle_datagram(now, &mut datagram);
                guest.listen(now);
            }
            guest.listen(now);
            while let Some(len) = guest.client.poll_transmit(now, &mut buf) {
                guest.up.send(now, &buf[..len]);
            }
            while let Some(mut datagram) = guest.up.recv(now) {
                self.broker.handle_datagram(now, Self::addr(index), &mut datagram);
                self.peak = self.peak.max(self.broker.stats().received);
            }
        }
        while let Some(transmit) = self.poll_transmit(&mut buf) {
            let index = usize::from(transmit.to.port());
            let own = transmit.to == Self::addr(index);
            for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                if own {
                    self.clients[index].down.send(now, datagram);
                } else {
                    let Engine { kcp, due, ended } = &mut self.engines[index];
                    *ended |= datagram.len() == 12; // a RESET
                    *due = Some(now);
                    let _ = kcp.handle_datagram(now, datagram, Origin::Wire, <[u8]>::len);
                }
            }
        }
        while self.broker.poll_event().is_some() {}
    }

    /// The next datagrams, of this turn or the next.
    fn poll_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit<SocketAddr>> {
        loop {
            let transmit = self.broker.poll_transmit(self.now, buf);
            if transmit.is_some() || self.broker.poll_timeout().is_none_or(|deadline| deadline.at > self.now) {
                return transmit;
            }
            self.broker.handle_timeout(self.now);
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.tick();
        }
    }

    fn run_until(&mut self, what: &str, within: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + within;
        while !done(self) {
            assert!(self.now < end, "{within} passed without: {what}");
            self.tick();
        }
    }

    fn subscribe(&mut self, index: usize, pattern: &str) {
        self.clients[index].client.subscribe(self.now, pattern).unwrap();
        let before = self.broker.stats().subscriptions;
        self.run_until("subscription", Duration::from_secs(1), |hall| hall.broker.stats().subscriptions > before);
    }

    fn publish(&mut self, index: usize, subject: &str, number: u64, size: usize) {
        let mut payload = vec![7; size];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        self.clients[index].client.publish(self.now, subject, &payload).unwrap();
    }

    fn numbers(&self, index: usize) -> Vec<u64> {
        self.clients[index].got.iter().map(|(number, _)| *number).collect()
    }
}

const FAST: sim::Config = sim::Config::clean(Duration::from_millis(10));
const UPLINK: sim::Config = sim::Config { bandwidth: Some(12_500_000), queue: 200_000, ..FAST };

/// Whatever others do: memory stays below the limit and what is stated beside it, small messages are never late, and large
/// ones get through.
#[test]
fn a_thousand_sessions_that_trickle_large_frames_keep_nobody_from_getting_on() {
    const LIMIT: usize = 64 * MIB;
    let config = Config { max_received_total: LIMIT, max_queued: 256 * MIB, ..Config::default() };
    let mut hall = Hall::new(config, Duration::from_millis(5));
    let (sub, large, small) = (hall.add(FAST), hall.add(UPLINK), hall.add(FAST));
    let other = hall.add(FAST);
    hall.subscribe(sub, "small");
    hall.subscribe(other, "large");
    // They send as fast as they can at first.
    for _ in 0..1_000 {
        hall.add_engine(40_000);
    }
    hall.run_for(Duration::from_secs(1));
    let stats = hall.broker.stats();
    assert!(stats.received > LIMIT as u64 / 2 && stats.receive_waits >= 1_000, "{stats:?}");
    for number in 0..3 {
        hall.publish(large, "large", number, FRAME - 1_000);
    }
    let mut sent = Vec::new();
    for number in 0..1_000 {
        if number % 25 == 0 {
            // And then a kilobyte a second.
            for Engine { kcp, due, .. } in &mut hall.engines {
                kcp.send(&[b'x'; 1_000]).unwrap();
                *due = Some(hall.now);
            }
        }
        sent.push(hall.now);
        hall.publish(small, "small", number, 200 + number as usize % 5 * 5_000);
        hall.run_for(Duration::from_millis(40));
    }
    hall.run_until("the large messages", Duration::from_secs(60), |hall| hall.numbers(other) == [0, 1, 2]);
    hall.run_until("the small ones", Duration::from_secs(1), |hall| hall.clients[sub].got.len() == 1_000);
    assert!(hall.numbers(sub).into_iter().eq(0..1_000));
    let late = hall.clients[sub].got.iter().zip(sent).map(|((_, at), sent)| at.since(sent)).max().unwrap();
    assert!(late < Duration::from_millis(150), "{late} late");
    let stats = hall.broker.stats();
    let most = (LIMIT + FRAME) as u64 + stats.sessions_opened * EACH;
    assert!(hall.peak <= most, "{} of {most}", hall.peak);
    assert!(stats.stuck_sessions > 500 && stats.broken_sessions == 0, "{}", stats.stuck_sessions);
    assert!(hall.clients.iter().all(|guest| guest.lost.is_empty()));
}

/// All are in the middle of a frame, and the limit is a fraction of what these need: nobody would ever get to the end of one
/// if all went on.
#[test]
fn large_frames_that_do_not_fit_together_get_through_one_after_the_other() {
    const LIMIT: usize = 12 * MIB;
    const COUNT: u64 = 10;
    let config = Config { max_received_total: LIMIT, max_queued: 256 * MIB, ..Config::default() };
    let mut hall = Hall::new(config, Duration::from_millis(1));
    let sub = hall.add(FAST);
    hall.subscribe(sub, ">");
    let publishers: Vec<usize> = (0..COUNT).map(|_| hall.add(UPLINK)).collect();
    hall.run_for(Duration::from_secs(1));
    for (number, index) in publishers.iter().enumerate() {
        hall.publish(*index, "large", number as u64, FRAME - 1_000);
        hall.publish(*index, "small", 100 + number as u64, 1_000);
    }
    hall.run_until("all of them", Duration::from_secs(60), |hall| hall.clients[sub].got.len() == 2 * COUNT as usize);
    let mut numbers = hall.numbers(sub);
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq((0..COUNT).chain(100..100 + COUNT)));
    let stats = hall.broker.stats();
    assert!(stats.receive_waits > 0 && stats.stuck_sessions == 0, "{stats:?}");
    let most = (LIMIT + FRAME) as u64 + COUNT * EACH;
    assert!(hall.peak <= most, "{} of {most}", hall.peak);
    assert!(hall.clients.iter().all(|guest| guest.lost.is_empty()));
    assert!(stats.received < EACH, "only what is kept to rebuild lost segments with");
}

/// Each begins a message and leaves out what follows; then they send that.
#[test]
fn what_comes_out_of_order_counts_and_what_is_missing_is_taken_in_turn() {
    const LIMIT: usize = 4 * MIB;
    let mut broker = Broker::new(Config { max_received_total: LIMIT, ..Config::default() }, 1);
    let mut now = Instant::from_millis(1);
    let push = |broker: &mut Broker<SocketAddr>, now: Instant, conv: u32, sn: u32, data: &[u8]| {
        broker.handle_datagram(now, Hall::addr(conv as usize), &mut segment(conv, sn, data));
    };
    let mut message = vec![0; 100_000];
    Frame { command: command::PUB, subject: b"a", payload: &[7; 99_992] }.encode(&mut message);
    let parts: Vec<&[u8]> = message.chunks(1_000).collect();
    for conv in 1..=60 {
        push(&mut broker, now, conv, 0, parts[0]);
        for (sn, part) in parts.iter().enumerate().skip(2) {
            push(&mut broker, now, conv, sn as u32, part);
        }
        // No more than some are let in before the turn is over.
        while broker.poll_transmit(now, &mut [0; 2_000]).is_some() {}
    }
    let stats = broker.stats();
    assert!((LIMIT as u64 / 2..LIMIT as u64).contains(&stats.received), "{} bytes of 6 MB", stats.received);
    assert!(stats.receive_waits > 0, "{stats:?}");
    // What was refused comes again, and again.
    for _ in 0..20 {
        now += Duration::from_millis(100);
        for conv in 1..=60 {
            for (sn, part) in parts.iter().enumerate().skip(1) {
                push(&mut broker, now, conv, sn as u32, part);
            }
        }
        broker.handle_timeout(now);
    }
    let stats = broker.stats();
    assert_eq!((stats.messages_in, stats.received, stats.stuck_sessions), (60, 0, 0));
}

/// One session that sends a stream of 3 MB in segments of a kilobyte, whatever window it is told.
struct Pusher {
    broker: Broker<SocketAddr>,
    now: Instant,
    stream: Vec<u8>,
    /// The most that the broker has had, and may have.
    peak: u64,
    most: u64,
}

impl Pusher {
    /// Of messages of 200 kB, with half a megabyte for all that has come.
    fn new() -> Self {
        const LIMIT: usize = MIB / 2;
        const FRAME: usize = 200_000;
        let mut config = Config { max_received_total: LIMIT, ..Config::default() };
        config.frames.max_body = FRAME as u32;
        let mut message = vec![0; FRAME];
        Frame { command: command::PUB, subject: b"a", payload: &vec![7; FRAME - 8] }.encode(&mut message);
        let stream = message.repeat(15);
        let most = (LIMIT + 2 * FRAME) as u64 + EACH + (128 << 10);
        Self { broker: Broker::new(config, 1), now: Instant::from_millis(1), stream, peak: 0, most }
    }

    fn segments(&self) -> usize {
        self.stream.len().div_ceil(1_000)
    }

    fn push(&mut self, sns: impl Iterator<Item = usize>) {
        for sn in sns {
            let data = self.stream.chunks(1_000).nth(sn).unwrap();
            self.broker.handle_datagram(self.now, Hall::addr(7), &mut segment(7, sn as u32, data));
            self.peak = self.peak.max(self.broker.stats().received);
        }
        self.now += Duration::from_millis(100);
        self.broker.handle_timeout(self.now);
    }
}

fn segment(conv: u32, sn: u32, data: &[u8]) -> Vec<u8> {
    let (command, len, ts, una) = (kcp::Command::Push, data.len() as u32, kcp::Ts(0), kcp::Sn(0));
    let header = kcp::Header { conv, command, frg: 0, wnd: 32, ts, sn: kcp::Sn(sn), una, len };
    [&header.to_bytes(), data].concat()
}

/// The rest of a frame has room where it is put together, but not what comes while a segment of it is missing: that waits
/// elsewhere first.
#[test]
fn what_waits_behind_a_gap_takes_no_more_because_a_frame_has_begun() {
    let mut pusher = Pusher::new();
    let (missing, segments) = (120, pusher.segments());
    for _ in 0..5 {
        pusher.push((0..segments).filter(|sn| *sn != missing));
    }
    for _ in 0..20 {
        pusher.push(missing..segments);
    }
    let stats = pusher.broker.stats();
    assert_eq!((stats.messages_in, stats.received, stats.stuck_sessions), (15, 0, 0));
    assert!(pusher.peak <= pusher.most, "{} of {}", pusher.peak, pusher.most);
}

/// A byte in each segment, of which the first is missing: what a segment takes besides its data is most of what it takes.
#[test]
fn segments_of_a_byte_take_no_more_memory_than_others() {
    const LIMIT: usize = MIB;
    const SESSIONS: u64 = 100;
    let mut broker = Broker::new(Config { max_received_total: LIMIT, ..Config::default() }, 1);
    let (now, mut answers) = (Instant::from_millis(1), [0; 60_000]);
    for conv in 1..=SESSIONS as u32 {
        let mut begin = segment(conv, 0, &Frame::head(command::PUB, 1, FRAME - 100).unwrap());
        broker.handle_datagram(now, Hall::addr(conv as usize), &mut begin);
        for first in (2..1_000).step_by(40) {
            let mut datagram = (first..first + 40).flat_map(|sn| segment(conv, sn, b"x")).collect::<Vec<u8>>();
            broker.handle_datagram(now, Hall::addr(conv as usize), &mut datagram);
        }
        while broker.poll_transmit(now, &mut answers).is_some() {}
    }
    let stats = broker.stats();
    assert!(stats.receive_waits > 0 && stats.sessions == SESSIONS, "{stats:?}");
    assert!(stats.received < LIMIT as u64 / 4 * 5, "{} bytes", stats.received);
}

/// A message with properties is written anew, so what came of it is left where it was put together.
#[test]
fn a_large_message_that_was_handed_on_takes_no_memory_any_more() {
    let config = Config { max_queued: 256 * MIB, ..Config::default() };
    let mut hall = Hall::new(config, Duration::from_millis(1));
    let publisher = hall.add(FAST);
    let mut properties = PropertiesBuf::new();
    properties.header("unit", "K").unwrap();
    let client = &mut hall.clients[publisher].client;
    client.publish_with(hall.now, "a", &vec![7; MIB], properties.properties(), None).unwrap();
    hall.run_until("the message", Duration::from_secs(5), |hall| hall.broker.stats().messages_in == 1);
    assert!(hall.peak > MIB as u64 && hall.broker.stats().received < EACH);
}
