//! Clients and a broker over simulated links, on both stores.

mod absence;
#[cfg(feature = "confirm")]
mod confirms;
mod groups;
#[cfg(all(feature = "properties", feature = "ttl"))]
mod kept;
#[cfg(all(feature = "lanes", feature = "properties", feature = "fec"))]
mod lanes;
#[cfg(all(feature = "lanes", feature = "properties", feature = "fec", feature = "confirm"))]
mod latest;
mod narrow;
mod permissions;
mod presence;
mod relay;
#[cfg(feature = "request")]
mod requests;
#[cfg(feature = "sealed-aes")]
mod sealed;
#[cfg(all(feature = "lanes", feature = "properties", feature = "ttl"))]
mod staged;
#[cfg(feature = "will")]
mod wills;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::broker::{self, Broker};
use crate::datagram::{PATH_DATAGRAM, native};
#[cfg(feature = "properties")]
use crate::frame::properties::PropertiesBuf;
use crate::frame::{Frame, command};
#[cfg(feature = "properties")]
use crate::frame::{Properties, PropertyError};
use crate::hello::CloseReason;
use crate::sim::{Link as SimLink, Relay};

/// What a client has told.
#[derive(Default)]
struct Log {
    events: Vec<String>,
    /// Payloads by subscription.
    messages: BTreeMap<SubscriptionId, Vec<(String, Vec<u8>)>>,
    /// Of each message where to answer, and its headers; and what is left of its time.
    properties: Vec<String>,
    left: Vec<Option<Duration>>,
    /// Of each message of a subscription for how long the server has kept it.
    kept: BTreeMap<SubscriptionId, Vec<Option<Duration>>>,
    /// Answers to requests, and whether each was the last.
    replies: Vec<(RequestId, String, bool)>,
    /// What became of messages.
    confirmed: Vec<(ConfirmId, Result<u32, ConfirmFailure>)>,
}

impl Log {
    fn saw(&self, text: &str) -> usize {
        self.events.iter().filter(|event| event.starts_with(text)).count()
    }

    fn payloads(&self, id: SubscriptionId) -> Vec<&[u8]> {
        self.messages.get(&id).into_iter().flatten().map(|(_, payload)| &payload[..]).collect()
    }
}

struct Node<S: FrameStore> {
    client: Client<S>,
    addr: SocketAddr,
    up: SimLink,
    down: SimLink,
    log: Log,
}

/// One broker, its clients and the links between them.
struct World<S: FrameStore> {
    now: Instant,
    broker: Broker<SocketAddr>,
    /// While the server is away, what is sent to it is lost.
    away: bool,
    /// What clients say of sessions that they have given up is lost.
    no_farewells: bool,
    nodes: Vec<Node<S>>,
    /// What stands between them and the server, if anything does.
    relay: Option<Relay<usize>>,
    /// All datagrams that were sent.
    seen: Vec<Vec<u8>>,
}

impl<S: Make> World<S> {
    fn new(config: broker::Config) -> Self {
        Self {
            now: Instant::from_millis(1),
            broker: Broker::new(config, 1),
            away: false,
            no_farewells: false,
            nodes: Vec::new(),
            relay: None,
            seen: Vec::new(),
        }
    }

    fn add(&mut self, config: Config, link: sim::Config) -> usize {
        self.add_with(config, link, |client| client)
    }

    fn add_with(&mut self, config: Config, link: sim::Config, with: impl FnOnce(Client<S>) -> Client<S>) -> usize {
        let index = self.nodes.len();
        let seed = index as u64 * 7 + 3;
        let mut client = with(S::client(config, seed));
        client.connect(self.now);
        self.nodes.push(Node {
            client,
            addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 5000 + index as u16)),
            up: SimLink::new(link, seed),
            down: SimLink::new(link, seed ^ 0xaaaa),
            log: Log::default(),
        });
        index
    }

    /// Another broker in place of the present one, which is gone without a word.
    fn restart(&mut self, config: broker::Config) {
        self.broker = Broker::new(config, 2);
    }

    fn settle(&mut self) {
        let now = self.now;
        let mut buf = vec![0; 65_000];
        loop {
            let mut idle = true;
            for (index, node) in self.nodes.iter_mut().enumerate() {
                while let Some(mut datagram) = node.up.recv(now) {
                    if let Some(relay) = &mut self.relay {
                        node.addr.set_port(relay.port_of(index));
                    }
                    let is_farewell = self.no_farewells && native::read_reset(&datagram).is_some();
                    if !self.away && !is_farewell {
                        self.broker.handle_datagram(now, node.addr, &mut datagram);
                    }
                    idle = false;
                }
            }
            while let Some(transmit) = self.broker.poll_transmit(now, &mut buf) {
                let forgotten = self.relay.as_ref().is_some_and(|relay| relay.client_of(transmit.to.port()).is_none());
                let mut nodes = self.nodes.iter_mut().filter(|_| !forgotten);
                if let Some(node) = nodes.find(|node| node.addr == transmit.to) {
                    for datagram in buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                        self.seen.push(datagram.to_vec());
                        node.down.send(now, datagram);
                    }
                }
                idle = false;
            }
            while self.broker.poll_event().is_some() {}
            for node in &mut self.nodes {
                while let Some(mut datagram) = node.down.recv(now) {
                    node.client.handle_datagram(now, &mut datagram);
                    idle = false;
                }
                while let Some(event) = node.client.poll_event() {
                    let text = alloc::format!("{event:?}");
                    if let Event::Message { subscription, message } = event {
                        let entry = (message.subject().into(), message.payload().into());
                        node.log.messages.entry(subscription).or_default().push(entry);
                        node.log.kept.entry(subscription).or_default().push(message.properties().kept());
                        node.log.left.push(message.properties().left());
                        let mut properties = alloc::format!("{:?} ", message.properties().reply());
                        for (name, value) in message.properties().headers() {
                            properties += &alloc::format!("{name}={value} ");
                        }
                        node.log.properties.push(properties);
                    } else if let Event::Reply { request, message, last } = event {
                        let text = String::from_utf8_lossy(message.payload()).into_owned();
                        node.log.replies.push((request, text, last));
                    } else if let Event::Confirmed { id, outcome } = event {
                        node.log.confirmed.push((id, outcome));
                    } else {
                        node.log.events.push(text);
                    }
                    idle = false;
                }
                while let Some(transmit) = S::transmit(&mut node.client, now, &mut buf) {
                    for datagram in buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                        self.seen.push(datagram.to_vec());
                        node.up.send(now, datagram);
                    }
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let mut next = self.broker.poll_timeout().map(|deadline| deadline.at).filter(|_| !self.away);
        for node in &self.nodes {
            for at in [node.up.next_arrival(), node.down.next_arrival(), node.client.poll_timeout().map(|d| d.at)] {
                next = match (next, at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
        next
    }

    fn step(&mut self) -> bool {
        self.settle();
        let Some(next) = self.next() else { return false };
        self.now = next.max(self.now + Duration::from_micros(1));
        if !self.away {
            self.broker.handle_timeout(self.now);
        }
        for node in &mut self.nodes {
            node.client.handle_timeout(self.now);
        }
        self.settle();
        true
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while self.next().is_some_and(|next| next <= end) && self.step() {}
        self.now = self.now.max(end);
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + Duration::from_secs(3_600);
        self.settle();
        while !done(self) {
            assert!(self.now < end && self.step(), "an hour passed without: {what}");
        }
    }

    fn subscribe(&mut self, node: usize, pattern: &str) -> SubscriptionId {
        let id = self.nodes[node].client.subscribe(self.now, pattern).unwrap();
        let told = alloc::format!("Subscribed({id:?})");
        self.run_until("acknowledgement", |world| world.nodes[node].log.saw(&told) > 0);
        id
    }

    fn publish(&mut self, node: usize, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        self.nodes[node].client.publish(self.now, subject, payload)
    }
}

fn a_message_travels<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(sub, "sensors.*.temp");
    world.publish(publisher, "sensors.kitchen.temp", b"21.5").unwrap();
    world.publish(publisher, "sensors.kitchen.humidity", b"no").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[sub].log.messages[&id], [("sensors.kitchen.temp".into(), b"21.5".to_vec())]);
    assert_eq!(world.nodes[sub].log.events[0], "Connected { native: true, again: false }");
    assert_eq!((world.broker.stats().messages_in, world.broker.stats().messages_out), (2, 1));
    assert_eq!(world.broker.stats().unrouted, 1);
    assert!(world.nodes[sub].client.unsubscribe(world.now, id));
    world.publish(publisher, "sensors.kitchen.temp", b"22").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[sub].log.messages[&id].len(), 1);
    assert_eq!(world.broker.stats().subscriptions, 0);
}

#[test]
fn a_message_travels_from_publisher_to_subscriber() {
    a_message_travels::<Heap>();
    a_message_travels::<Lent<'static>>();
}

fn another_connection_is_made_when_it_is_asked_for<S: Make>(reconnect: Option<Backoff>) {
    let mut world = World::<S>::new(broker::Config { name: "the server".into(), ..broker::Config::default() });
    let config = Config { reconnect, ..Config::default() };
    let node = world.add(config, CLEAN);
    let id = world.subscribe(node, "a");
    let conversation = world.nodes[node].client.conversation();
    assert_eq!(world.nodes[node].client.server().map(|server| server.max_tokens), Some(32));
    world.nodes[node].client.reconnect(world.now);
    assert_eq!(world.nodes[node].client.server(), None);
    world.publish(node, "a", b"meanwhile").unwrap();
    world.run_for(Duration::from_secs(1));
    let Node { client, log, .. } = &world.nodes[node];
    assert_ne!(client.conversation(), conversation);
    assert!(log.saw("Disconnected { why: Requested") == 1 && log.saw("Connected { native: true, again: true") == 1);
    assert_eq!(log.payloads(id), [b"meanwhile"]);
    assert_eq!((client.stats().reconnects, client.stats().connection_errors), (1, 0));
    assert_eq!(world.broker.sessions(), 1, "the server was told");
    // Nothing is lost by asking twice, nor by asking while the client waits.
    for _ in 0..2 {
        world.nodes[node].client.reconnect(world.now);
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.nodes[node].client.stats().reconnects, world.broker.sessions()), (2, 1));
    world.nodes[node].client.close(world.now);
    world.run_for(Duration::from_secs(1));
    world.nodes[node].client.reconnect(world.now);
    assert_eq!(world.nodes[node].client.state(), State::Closed);
}

#[test]
fn another_connection_can_be_asked_for() {
    for reconnect in [None, Some(Backoff::DEFAULT)] {
        another_connection_is_made_when_it_is_asked_for::<Heap>(reconnect);
        another_connection_is_made_when_it_is_asked_for::<Lent<'static>>(reconnect);
    }
}

/// CLOSE stands behind all that has begun to go out: what ends the session at once is its token.
fn a_session_with_a_backlog_is_given_up<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "a");
    world.run_for(Duration::from_secs(1));
    while world.publish(node, "b", &[7; 1_000]).is_ok() {}
    world.run_for(Duration::from_millis(1));
    world.nodes[node].client.reconnect(world.now);
    // However late the driver is.
    world.now += Duration::from_millis(100);
    world.nodes[node].client.handle_timeout(world.now);
    world.run_for(Duration::from_millis(900));
    let Node { client, log, .. } = &world.nodes[node];
    assert!(log.saw("Connected { native: true, again: true") == 1 && client.stats().dropped_in_doubt > 0);
    let stats = world.broker.stats();
    assert_eq!((world.broker.sessions(), stats.sessions_opened, stats.subscriptions), (1, 2, 1));
}

/// Who is closed just then makes one more connection, for what waits, and leaves neither behind.
fn a_client_is_closed_that_gives_its_session_up<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "a");
    world.run_for(Duration::from_secs(1));
    while world.publish(node, "b", &[7; 1_000]).is_ok() {}
    world.run_for(Duration::from_millis(1));
    world.nodes[node].client.reconnect(world.now);
    world.nodes[node].client.close(world.now);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.nodes[node].client.state(), State::Closed);
    let stats = world.broker.stats();
    assert_eq!((world.broker.sessions(), stats.sessions_opened), (0, 2));
}

#[test]
fn a_session_that_is_given_up_is_gone_at_once_whatever_was_under_way() {
    a_client_is_closed_that_gives_its_session_up::<Heap>();
    a_client_is_closed_that_gives_its_session_up::<Lent<'static>>();
    a_session_with_a_backlog_is_given_up::<Heap>();
    a_session_with_a_backlog_is_given_up::<Lent<'static>>();
}

/// Nothing of the server's comes through any more, so nothing that it has got is acknowledged.
#[test]
fn a_client_that_closes_in_vain_says_at_last_that_it_is_gone() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "a");
    world.run_for(Duration::from_secs(1));
    while world.publish(node, "b", &[7; 1_000]).is_ok() {}
    world.nodes[node].down = SimLink::new(sim::Config { loss: 1.0, ..CLEAN }, 1);
    world.nodes[node].client.close(world.now);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.nodes[node].client.state(), State::Closed);
    assert_eq!(world.broker.sessions(), 0);
}

#[test]
fn both_ends_know_what_the_other_calls_itself() {
    let mut world = World::<Heap>::new(broker::Config { name: "the server".into(), ..broker::Config::default() });
    let named = alloc::format!("sensor-{}", 7);
    let node = world.add_with(Config::default(), CLEAN, |client| client.with_name(&named));
    assert_eq!(world.nodes[node].client.server_name(), None);
    world.subscribe(node, "a");
    assert_eq!(world.nodes[node].client.server_name(), Some("the server"));
    let page = world.broker.view_sessions(world.now, broker::SessionCursor::default(), 100);
    let shown: Vec<_> = page.items.iter().map(|session| session.client.as_deref()).collect();
    assert_eq!(shown, [Some(&*named)]);
}

/// Headers and where to answer to go with a message, whether it was published before or after the server answered.
#[cfg(feature = "properties")]
fn properties_travel<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let mut properties = PropertiesBuf::new();
    properties.reply("answers.7").unwrap();
    for (name, value) in [("unit", "K"), ("sensor", "1"), ("sensor", "2")] {
        properties.header(name, value).unwrap();
    }
    let properties = properties.properties();
    let early = world.nodes[publisher].client.publish_with(world.now, "early", b"", properties, None);
    assert_eq!(early, Ok(()));
    let id = world.subscribe(sub, "a");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.broker.stats().messages_in, 1, "it waited for the server's answer, and went");
    for size in [2, 3_000] {
        let payload = vec![b'7'; size];
        let ttl = Some(Duration::from_secs(60));
        for (properties, ttl) in [(properties, None), (properties, ttl), (Properties::NONE, ttl)] {
            world.nodes[publisher].client.publish_with(world.now, "a", &payload, properties, ttl).unwrap();
            world.run_for(Duration::from_secs(1));
        }
    }
    assert_eq!(world.nodes[sub].log.payloads(id).len(), 6);
    assert!(world.nodes[sub].log.payloads(id).iter().all(|payload| payload.iter().all(|byte| *byte == b'7')));
    let with = "Some(\"answers.7\") unit=K sensor=1 sensor=2 ";
    assert_eq!(world.nodes[sub].log.properties, [with, with, "None ", with, with, "None "]);
    let refused = PropertyError::Reply(crate::subject::SubjectError::Wildcard { at: 0 });
    let mut wrong = PropertiesBuf::new();
    wrong.reply("*").unwrap();
    let published = world.nodes[publisher].client.publish_with(world.now, "a", b"", wrong.properties(), None);
    assert_eq!(published, Err(PublishError::Properties(refused)));
    let stats = world.nodes[sub].client.stats();
    assert_eq!((stats.messages_received, stats.malformed, stats.unmatched), (6, 0, 0));
    assert_eq!(world.broker.stats().messages_refused, 0);
}

#[cfg(feature = "properties")]
#[test]
fn properties_travel_with_their_message() {
    properties_travel::<Heap>();
    properties_travel::<Lent<'static>>();
}

fn stale_messages_are_dropped_where_they_wait<S: Make>(seed: u64) {
    // Four segments in flight, whatever the link does.
    let congestion = crate::kcp::CongestionControl::Off;
    let kcp = crate::kcp::Config { send_window: 4, congestion, ..crate::kcp::Config::VIDEO };
    let mut world = World::<S>::new(broker::Config { kcp, ..broker::Config::default() });
    // What the publisher cannot send in time waits there; what the subscriber's link cannot carry, at the broker.
    let narrow = |bandwidth| sim::Config { bandwidth: Some(bandwidth), ..CLEAN };
    let config = Config { kcp, ..Config::default() };
    let (sub, publisher) = (world.add(Config::default(), narrow(20_000)), world.add(config, narrow(40_000)));
    let id = world.subscribe(sub, ">");
    let mut rng = Rng::with_seed(seed);
    let (mut kept, mut count) = (Vec::new(), 0);
    for n in 0..3_000u32 {
        let (now, client) = (world.now, &mut world.nodes[publisher].client);
        let taken = if n % 10 == 0 {
            client.publish(now, "kept", &n.to_be_bytes())
        } else {
            client.publish_for(now, "stale", &[&n.to_be_bytes()[..], &[0; 100]].concat(), Duration::from_millis(60))
        };
        match taken {
            Ok(()) if n % 10 == 0 => kept.push(n.to_be_bytes()),
            Ok(()) => count += 1,
            Err(error) => assert_eq!(error, PublishError::Full),
        }
        if rng.u8(..50) == 0 {
            world.run_for(Duration::from_millis(50));
        }
    }
    world.run_for(Duration::from_secs(60));
    let got = world.nodes[sub].log.payloads(id);
    let (arrived_kept, arrived): (Vec<_>, Vec<_>) = got.into_iter().partition(|payload| payload.len() == 4);
    assert_eq!(arrived_kept, kept, "what has no time to live arrives, all of it and in order");
    assert!(arrived.is_sorted() && !arrived.is_empty(), "the rest is in order as well");
    let (stats, broker) = (world.nodes[publisher].client.stats(), world.broker.stats());
    assert!(
        stats.expired > 0 && broker.expired > 0,
        "{} at the publisher, {} at the broker",
        stats.expired,
        broker.expired
    );
    assert_eq!(arrived.len() as u64 + stats.expired + broker.expired, count, "each is delivered or counted once");
    assert_eq!(broker.queued, 0);
}

#[test]
fn stale_messages_are_dropped_where_they_wait_and_counted() {
    for seed in 0..3 {
        stale_messages_are_dropped_where_they_wait::<Heap>(seed);
        stale_messages_are_dropped_where_they_wait::<Lent<'static>>(seed);
    }
}

fn stale_messages_make_room<S: Make>() {
    let mut client = S::client(Config::default(), 1);
    let (now, ttl) = (Instant::from_millis(5), Duration::from_secs(1));
    let mut sent = 0;
    while client.publish_for(now, "a", &[0; 500], ttl).is_ok() {
        sent += 1;
    }
    assert_eq!(client.publish(now, "a", &[1; 500]), Err(PublishError::Full));
    assert_eq!(client.stats().expired, 0);
    client.publish(now + ttl, "a", &[1; 500]).unwrap();
    assert_eq!(client.stats().expired, sent);
    assert!(client.queued() < 600);
}

#[test]
fn stale_messages_make_room_while_there_is_no_connection() {
    stale_messages_make_room::<Heap>();
    stale_messages_make_room::<Lent<'static>>();
}

/// Messages of many sizes through a path that loses longer datagrams than `mtu` bytes, and one in ten of the others; the
/// longest datagrams of the client in the end.
fn through_a_narrow_path<S: Make>(mtu: usize, longest: u16) -> usize {
    let link = sim::Config { mtu, loss: 0.1, ..CLEAN };
    let mut world = World::<S>::new(broker::Config::default());
    let config = Config { native_datagram: longest, ..Config::default() };
    let (sub, publisher) = (world.add(config, link), world.add(config, link));
    let id = world.subscribe(sub, ">");
    for size in (1..3_900).step_by(50) {
        while let Err(error) = world.publish(publisher, "a.b", &vec![7; size]) {
            assert_eq!(error, PublishError::Full);
            assert!(world.now < Instant::from_millis(60_000) && world.step(), "no room for {size} bytes");
        }
    }
    world.run_for(Duration::from_secs(20));
    let got = world.nodes[sub].log.payloads(id);
    assert!(
        got.iter().map(|payload| payload.len()).eq((1..3_900).step_by(50)),
        "{} of 78 through {mtu} bytes",
        got.len()
    );
    assert_eq!((world.nodes[sub].client.stats().reconnects, world.nodes[publisher].client.stats().reconnects), (0, 0));
    world.nodes[publisher].client.max_datagram()
}

#[test]
fn a_session_finds_out_how_long_datagrams_its_path_carries() {
    // Less than IPv6 allows, its least, WireGuard, Ethernet, jumbo frames, and a LAN that takes any.
    for (mtu, found) in [(1_210, 1_200), (1_232, 1_232), (1_372, 1_372), (1_452, 1_452), (8_952, 8_952), (9_100, 8_952)]
    {
        assert_eq!(through_a_narrow_path::<Heap>(mtu, PATH_DATAGRAM), found);
    }
    assert_eq!(through_a_narrow_path::<Lent<'static>>(1_232, 1_400), 1_232);
}

/// Both ways of a path between two sessions get narrower while messages of 8 kB go at 60 Hz.
fn a_path_narrows<S: Make>(sizes: [usize; 2], local: bool) {
    let link = sim::Config { mtu: sizes[0], ..CLEAN };
    let mut world = World::<S>::new(broker::Config::default());
    let longest = if local { 16_000 } else { PATH_DATAGRAM };
    let config = Config { native_datagram: longest, local, queue: 1 << 20, ..Config::default() };
    let (sub, publisher) = (world.add(config, link), world.add(config, link));
    let id = world.subscribe(sub, ">");
    let (mut sent, mut worst) = (0u64, Duration::ZERO);
    for frame in 0..300u64 {
        if frame == 120 {
            for node in &mut world.nodes {
                for link in [&mut node.up, &mut node.down] {
                    link.set_config(sim::Config { mtu: sizes[1], ..CLEAN });
                }
            }
        }
        let mut payload = vec![frame as u8; 8_000];
        payload[..8].copy_from_slice(&world.now.as_micros().to_be_bytes());
        world.publish(publisher, "a.b", &payload).unwrap();
        sent += 1;
        let until = world.now + Duration::from_micros(16_667);
        while world.now < until && world.step() {
            if let Some(last) = world.nodes[sub].log.payloads(id).last() {
                worst =
                    worst.max(world.now.since(Instant::from_micros(u64::from_be_bytes(*last.first_chunk().unwrap()))));
            }
        }
    }
    world.run_for(Duration::from_secs(2));
    let got = world.nodes[sub].log.payloads(id);
    assert!(got.iter().map(|payload| u64::from(payload[8])).eq((0..sent).map(|frame| frame % 256)), "{}", got.len());
    assert!(worst < Duration::from_secs(1), "{sizes:?}: {worst:?}");
    for node in &world.nodes {
        assert_eq!((node.client.stats().reconnects, node.client.transport().malformed), (0, 0));
    }
    assert!(world.nodes[publisher].client.max_datagram() <= sizes[1] && world.broker.transport().narrowed > 0);
}

#[test]
fn a_path_that_gets_narrower_holds_nothing_up_for_long() {
    a_path_narrows::<Heap>([1_452, 1_280], false);
    a_path_narrows::<Heap>([16_000, 1_472], true);
    a_path_narrows::<Heap>([8_952, 600], false);
}

/// A path that carries less than anybody asks about: small things go through, and what is sent first never does.
#[test]
fn both_ends_notice_a_stream_that_stands_still_although_they_hear_each_other() {
    for server_sends in [false, true] {
        let mut world = World::<Heap>::new(broker::Config::default());
        // It would miss the PONG otherwise, which does not come through either.
        let node = world.add(Config { pong_timeout: Duration::from_secs(3_600), ..Config::default() }, CLEAN);
        let other = world.add(Config::default(), CLEAN);
        world.subscribe(if server_sends { node } else { other }, "long");
        let narrow = sim::Config { mtu: 400, ..CLEAN };
        let (from, name) =
            if server_sends { (other, "Disconnected { why: Forgotten") } else { (node, "Disconnected { why: Stalled") };
        let Node { up, down, .. } = &mut world.nodes[node];
        if server_sends { down } else { up }.set_config(narrow);
        world.publish(from, "long", &[7; 5_000]).unwrap();
        let begun = world.now;
        for _ in 0..50 {
            let _ = world.publish(node, "short", b"alive");
            world.run_for(Duration::from_secs(1));
            if world.nodes[node].log.saw("Disconnected") > 0 || world.broker.stats().stalled_sessions > 0 {
                break;
            }
        }
        let took = world.now.since(begun).as_millis() / 1_000;
        assert!((25..40).contains(&took), "{took} s");
        assert_eq!(world.broker.stats().stalled_sessions, u64::from(server_sends));
        world.run_until("a new session", |world| world.nodes[node].log.saw("Connected") > 1);
        assert_eq!(world.nodes[node].log.saw(name), 1, "{:?}", world.nodes[node].log.events);
    }
}

fn messages_of_all_sizes<S: Make>(seed: u64, count: usize) {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::<S>::new(broker::Config::default());
    let (sub, publisher) = (world.add(Config::default(), BAD), world.add(Config::default(), BAD));
    let id = world.subscribe(sub, ">");
    let max = if world.nodes[publisher].client.config.queue > 10_000 { 60_000 } else { 4_000 };
    let sizes: Vec<usize> =
        (0..count).map(|_| if rng.u8(..10) == 0 { rng.usize(1..max) } else { rng.usize(1..300) }).collect();
    let payload = |n: usize, size: usize| -> Vec<u8> { (0..size).map(|at| (at * 7 + n * 13) as u8).collect() };
    let mut next = 0;
    world.run_until("all messages", |_| true);
    while world.nodes[sub].log.messages.get(&id).map_or(0, Vec::len) < count {
        while next < count {
            match world.publish(publisher, "a.b", &payload(next, sizes[next])) {
                Ok(()) => next += 1,
                Err(error) => {
                    assert_eq!(error, PublishError::Full);
                    break;
                }
            }
        }
        assert!(world.step());
    }
    for (n, got) in world.nodes[sub].log.payloads(id).into_iter().enumerate() {
        assert!(got == payload(n, sizes[n]), "message {n}");
    }
    assert!(world.nodes[publisher].log.saw("Writable") > 0, "backpressure was felt");
}

#[test]
fn messages_of_all_sizes_arrive_once_in_order_and_intact_over_a_bad_link() {
    for seed in 0..3 {
        messages_of_all_sizes::<Heap>(seed, 2_000);
        messages_of_all_sizes::<Lent<'static>>(seed, 1_000);
    }
}

fn a_restarted_server<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let nodes: Vec<usize> = (0..50).map(|_| world.add(Config::default(), CLEAN)).collect();
    let ids: Vec<SubscriptionId> = nodes.iter().map(|node| world.subscribe(*node, "news.>")).collect();
    world.away = true;
    world.run_for(Duration::from_secs(3));
    world.restart(broker::Config::default());
    world.away = false;
    world.run_until("resubscription of all", |world| world.nodes.iter().all(|node| node.log.saw("Subscribed") == 2));
    world.publish(0, "news.today", b"hello again").unwrap();
    world.run_for(Duration::from_secs(1));
    for (node, id) in nodes.into_iter().zip(ids) {
        assert_eq!(world.nodes[node].log.payloads(id), [b"hello again"]);
        assert_eq!(world.nodes[node].client.stats().reconnects, 1);
    }
}

#[test]
fn clients_of_a_restarted_server_come_back_by_themselves() {
    a_restarted_server::<Heap>();
    a_restarted_server::<Lent<'static>>();
}

#[test]
fn a_restart_is_noticed_by_the_next_heartbeat() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "a");
    world.restart(broker::Config::default());
    let before = world.now;
    world.run_until("resubscription", |world| world.nodes[node].log.saw("Subscribed") == 2);
    assert!(world.now.since(before) < Duration::from_secs(18), "took {}", world.now.since(before));
    assert!(world.nodes[node].client.stats().reset_hints >= 1);
}

#[test]
fn a_forged_reset_hint_ends_nothing() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "a");
    let conv = world.nodes[node].client.session.kcp.conv();
    for _ in 0..100 {
        let now = world.now;
        world.nodes[node].client.handle_datagram(now, &mut crate::hello::Reset { conv }.encode());
        world.run_for(Duration::from_millis(300));
    }
    assert_eq!(world.nodes[node].client.stats().connection_errors, 0);
    assert_eq!(world.nodes[node].log.saw("Disconnected"), 0);
}

#[test]
fn what_is_published_without_a_connection_waits_and_overflow_is_counted() {
    for (overflow, expected) in [
        (Overflow::Refuse, vec![0, 1, 2, 3]),
        (Overflow::DropNewest, vec![0, 1, 2, 3]),
        (Overflow::DropOldest, vec![2, 3, 4, 5]),
    ] {
        let mut world = World::<Heap>::new(broker::Config::default());
        let sub = world.add(Config::default(), CLEAN);
        let id = world.subscribe(sub, "a");
        world.away = true;
        let config = Config { queue: 4 * (7 + 1 + 100), overflow, ..Config::default() };
        let publisher = world.add(config, CLEAN);
        world.run_for(Duration::from_secs(1));
        for n in 0..6u8 {
            let taken = world.publish(publisher, "a", &[n; 100]);
            assert_eq!(taken.is_err(), overflow == Overflow::Refuse && n >= 4);
        }
        world.away = false;
        world.run_until("delivery", |world| world.nodes[sub].log.payloads(id).len() == 4);
        world.run_for(Duration::from_secs(1));
        let got: Vec<u8> = world.nodes[sub].log.payloads(id).iter().map(|payload| payload[0]).collect();
        assert_eq!(got, expected, "{overflow:?}");
        let dropped = world.nodes[publisher].client.stats().dropped_overflow;
        assert_eq!(dropped, if overflow == Overflow::Refuse { 0 } else { 2 });
    }
}

#[test]
fn a_flush_covers_what_was_published_before() {
    let mut world = World::<Lent<'static>>::new(broker::Config::default());
    let node = world.add(Config::default(), BAD);
    world.run_until("connection", |world| world.nodes[node].log.saw("Connected") > 0);
    for n in 0..10 {
        world.publish(node, "a", &[n; 300]).unwrap();
    }
    let now = world.now;
    let target = world.nodes[node].client.flush(now);
    assert_eq!(target, 10);
    world.run_until("flush", |world| world.nodes[node].log.saw("Flushed { published: 10 }") > 0);
    assert_eq!(world.broker.stats().messages_in, 10);
}

#[test]
fn closing_is_told_to_the_server_at_once_and_nothing_queued_is_lost() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), BAD));
    let id = world.subscribe(sub, "a");
    world.run_until("connection", |world| world.nodes[publisher].log.saw("Connected") > 0);
    for n in 0..100u8 {
        world.publish(publisher, "a", &[n; 500]).unwrap();
    }
    let now = world.now;
    world.nodes[publisher].client.close(now);
    assert_eq!(world.publish(publisher, "a", b"late"), Err(PublishError::Closed));
    world.run_until("closed", |world| world.nodes[publisher].log.saw("Closed") > 0);
    assert!(world.now.since(now) < Duration::from_millis(900));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[sub].log.payloads(id).len(), 100);
    assert_eq!(world.broker.sessions(), 1);
}

#[test]
fn a_draining_server_tells_its_clients() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "a");
    let now = world.now;
    world.broker.drain(now);
    world.run_until("news of it", |world| world.nodes[node].log.saw("Disconnected { why: ByServer(Shutdown)") > 0);
    world.run_until("the end of the session", |world| world.broker.sessions() == 0);
    assert!(world.now.since(now) < Duration::from_millis(100));
}

#[test]
fn a_server_hands_over_its_clients_one_after_the_other() {
    const TOLD: &str = "Disconnected { why: ByServer(Shutdown)";
    let successors = "b.example:4000,192.0.2.9:4000";
    let mut world = World::<Heap>::new(broker::Config { successors: successors.into(), ..broker::Config::default() });
    let nodes: Vec<_> = (0..20).map(|_| world.add(Config::default(), CLEAN)).collect();
    let ids: Vec<_> = nodes.iter().map(|node| world.subscribe(*node, "a")).collect();
    let now = world.now;
    world.broker.hand_over(now, Duration::from_secs(10));
    let gone = |world: &World<Heap>| nodes.iter().filter(|node| world.nodes[**node].log.saw(TOLD) > 0).count();
    for expected in [5, 10, 15] {
        let before_the_next = now + Duration::from_millis(expected as u64 * 500 - 1);
        world.run_for(before_the_next.since(world.now));
        assert_eq!(gone(&world), expected);
        // Those whose turn is not the next go on as before.
        let staying = &nodes[..19 - expected];
        world.publish(staying[0], "a", &[expected as u8]).unwrap();
        world.run_until("the message", |world| {
            staying
                .iter()
                .all(|node| world.nodes[*node].log.payloads(ids[*node]).last() == Some(&&[expected as u8][..]))
        });
    }
    // Who comes now is told the same.
    let late = world.add(Config::default(), CLEAN);
    world.run_until("a word", |world| world.nodes[late].log.saw(TOLD) > 0);
    world.run_until("the last", |world| gone(world) == 20);
    assert!(world.now.since(now) < Duration::from_secs(10));
    for node in nodes.iter().chain([&late]) {
        assert_eq!(world.nodes[*node].client.successors().collect::<Vec<_>>(), ["b.example:4000", "192.0.2.9:4000"]);
    }
    world.run_until("the end of the sessions", |world| world.broker.sessions() == 0);
    assert!(!world.broker.is_drained(), "it serves until it is told to end");
    world.broker.drain(world.now);
    assert!(world.broker.is_drained());
}

#[test]
fn what_a_server_says_of_successors_is_taken_as_far_as_it_makes_sense() {
    let mut world =
        World::<Heap>::new(broker::Config { successors: "x".repeat(300).into(), ..broker::Config::default() });
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "a");
    world.broker.drain(world.now);
    world.run_until("news of it", |world| world.nodes[node].log.saw("Disconnected { why: ByServer(Shutdown)") > 0);
    assert_eq!(world.nodes[node].client.successors().count(), 0, "too many to be told");
    assert_eq!(CloseReason::successors(&[1, b'a', b',', b'b']), "a,b");
    assert_eq!(CloseReason::successors(&[9, b'a']), "", "only who stops has any");
    assert_eq!(CloseReason::successors(&[1, 0xff]), "");
    assert_eq!(CloseReason::successors(&[]), "");
    assert_eq!(CloseReason::successors(&[1; 300]), "");
}

#[test]
fn ten_thousand_subscriptions_are_made_and_heard_and_made_again() {
    const COUNT: u32 = 10_000;
    let mut world = World::<Heap>::new(broker::Config::default());
    let (node, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    for n in 0..COUNT {
        world.nodes[node].client.subscribe(world.now, &alloc::format!("a.{n}")).unwrap();
    }
    let all = |world: &World<Heap>| world.nodes[node].client.stats().active_subscriptions == COUNT;
    world.run_until("all", all);
    world.publish(publisher, "a.7777", b"x").unwrap();
    world.run_until("the message", |world| world.nodes[node].log.messages.len() == 1);
    world.restart(broker::Config::default());
    world.run_until("the loss", |world| world.nodes[node].client.stats().active_subscriptions == 0);
    world.run_until("all again", all);
}

/// Its heartbeats stand behind it, and nobody may take that for silence.
#[test]
fn a_message_that_is_under_way_for_a_minute_arrives_over_one_connection() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let slow = sim::Config { bandwidth: Some(150_000), queue: 50_000, ..CLEAN };
    let config = Config { queue: 16 << 20, ..Config::default() };
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(config, slow));
    let id = world.subscribe(sub, "a");
    world.publish(publisher, "a", &vec![7; 8_000_000]).unwrap();
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.nodes[sub].log.payloads(id), [vec![7; 8_000_000]]);
    assert_eq!(world.nodes[publisher].client.stats().reconnects, 0);
}

#[test]
fn several_subscriptions_to_one_pattern_share_a_registration() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    let now = world.now;
    let one = world.nodes[node].client.subscribe(now, "a.*").unwrap();
    let two = world.nodes[node].client.subscribe(now, "a.*").unwrap();
    let three = world.subscribe(node, "a.b");
    world.run_until("all", |world| world.nodes[node].client.stats().active_subscriptions == 3);
    assert_eq!(world.broker.stats().subscriptions, 2);
    world.publish(node, "a.b", b"x").unwrap();
    world.run_for(Duration::from_secs(1));
    for id in [one, two, three] {
        assert_eq!(world.nodes[node].log.payloads(id), [b"x"]);
    }
    assert_eq!(world.broker.stats().messages_out, 1, "one copy for each session");
    let now = world.now;
    world.nodes[node].client.unsubscribe(now, one);
    world.publish(node, "a.b", b"y").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[node].log.payloads(one).len(), 1);
    assert_eq!(world.nodes[node].log.payloads(two).len(), 2, "the other one goes on");
}

#[test]
fn limits_answer_with_errors_and_cost_only_their_sender() {
    let config = broker::Config { max_sessions: 2, max_subscriptions: 1, ..broker::Config::default() };
    let mut world = World::<Heap>::new(config);
    let (a, b) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    world.subscribe(a, "x");
    let now = world.now;
    world.nodes[a].client.subscribe(now, "y").unwrap();
    world.subscribe(b, "z");
    assert_eq!(world.nodes[a].log.saw("SubscribeFailed"), 1);
    let late = world.add(Config::default(), CLEAN);
    world.run_until("refusal", |world| world.nodes[late].log.saw("Disconnected { why: ByServer(Limit)") > 0);
    assert_eq!(world.broker.sessions(), 2);
    assert!(world.broker.stats().sessions_refused >= 1);
    assert_eq!(world.nodes[b].log.saw("Disconnected"), 0);
}

#[test]
fn a_refused_newcomer_was_never_connected() {
    let mut world = World::<Heap>::new(broker::Config { max_sessions: 0, ..broker::Config::default() });
    let node = world.add(Config { reconnect: None, ..Config::default() }, CLEAN);
    world.run_until("the end", |world| world.nodes[node].log.saw("Closed") > 0);
    assert_eq!(world.nodes[node].log.saw("Connected"), 0);
    assert_eq!(world.nodes[node].log.saw("Disconnected { why: ByServer(Limit), retry_at: None }"), 1);
}

#[test]
fn a_client_without_reconnect_acknowledges_the_end() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config { reconnect: None, ..Config::default() }, CLEAN);
    world.subscribe(node, "a");
    let now = world.now;
    world.broker.drain(now);
    world.run_until("the end of the session", |world| world.broker.sessions() == 0);
    assert!(world.now.since(now) < Duration::from_millis(100), "not only after the linger time");
}

#[test]
fn a_message_that_a_subscriber_cannot_take_is_counted_and_the_session_goes_on() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let frames = frame::Limits { max_body: 1_000, ..frame::Limits::KCPQ };
    let small = world.add(Config { frames, ..Config::default() }, CLEAN);
    let large = world.add(Config::default(), CLEAN);
    let (one, two) = (world.subscribe(small, "a"), world.subscribe(large, "a"));
    world.publish(large, "a", &[1; 5_000]).unwrap();
    world.publish(large, "a", &[2; 500]).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[small].log.payloads(one), [[2; 500]]);
    assert_eq!(world.nodes[large].log.payloads(two).len(), 2);
    assert_eq!(world.broker.stats().dropped_too_large, 1);
    assert!(matches!(world.publish(small, "a", &[1; 5_000]), Err(PublishError::TooLarge(_))));
}

/// What a message needs to its subscriber after its publisher has slept for `span`, and how often that one reconnected.
fn wakes<S: Make>(span: Duration) -> (Duration, u64) {
    let mut world = World::<S>::new(broker::Config::default());
    let (sub, sleeper) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(sub, "a");
    world.publish(sleeper, "a", b"before").unwrap();
    world.run_for(Duration::from_secs(1));
    let (now, client) = (world.now, &mut world.nodes[sleeper].client);
    client.suspend(now);
    let sent = client.transport().datagrams_sent;
    assert_eq!(client.poll_timeout(), None, "no timer runs");
    world.run_for(span);
    // The world's clock stands where something happened last.
    world.now = world.now.max(now + span);
    let (now, client) = (world.now, &mut world.nodes[sleeper].client);
    assert_eq!(client.transport().datagrams_sent, sent, "nothing is sent");
    client.resume(now);
    client.publish(now, "a", b"after").unwrap();
    world.run_until("the second message", |world| world.nodes[sub].log.payloads(id).len() == 2);
    assert_eq!(world.nodes[sub].log.payloads(id), [&b"before"[..], b"after"]);
    let stats = world.nodes[sleeper].client.stats();
    assert_eq!(stats.dropped_in_doubt, 0);
    (world.now.since(now), stats.reconnects)
}

fn a_client_publishes_within_a_round_trip_after_sleep<S: Make>() {
    let round_trip = Duration::from_millis(20);
    for (seconds, reconnects) in [(1, 0), (60, 0), (100, 0), (180, 1), (600, 1), (36_000, 1)] {
        let (took, again) = wakes::<S>(Duration::from_secs(seconds));
        assert!(took <= round_trip, "after {seconds} s: {took}");
        assert_eq!(again, reconnects, "after {seconds} s");
    }
}

#[test]
fn a_client_that_slept_for_minutes_publishes_within_a_round_trip() {
    a_client_publishes_within_a_round_trip_after_sleep::<Heap>();
    a_client_publishes_within_a_round_trip_after_sleep::<Lent<'static>>();
}

#[test]
fn bad_subjects_are_refused_here_and_by_the_server() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.subscribe(node, "ok");
    for bad in ["", "a..b", ".a", "a.", "a b", "a\tb", "a.*", ">", "a.>"] {
        assert!(matches!(world.publish(node, bad, b""), Err(PublishError::Subject(_))), "{bad:?}");
    }
    for bad in ["", "a..b", "a.>.b", "a b"] {
        let now = world.now;
        assert!(matches!(world.nodes[node].client.subscribe(now, bad), Err(SubscribeError::Pattern(_))), "{bad:?}");
    }
    // A client that does not check.
    for (n, bad) in [&b"a..b"[..], b"a.*", b"\xff\xfe", b"a b", b""].into_iter().enumerate() {
        world.nodes[node].client.session.message(command::PUB, bad, b"x").unwrap();
        world.run_for(Duration::from_millis(100));
        assert_eq!(world.broker.stats().messages_refused, n as u64 + 1);
        assert_eq!(world.nodes[node].log.saw("Refused(\"invalid subject"), n + 1);
    }
    assert_eq!(world.nodes[node].log.saw("Disconnected"), 0, "the session goes on");
    world.nodes[node].client.session.message(77, b"", b"").unwrap();
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.nodes[node].log.saw("Refused(\"handle error: unknown command: 77\")"), 1);
}

#[test]
fn a_broken_frame_ends_the_session_with_a_word() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let (node, other) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    world.subscribe(node, "a");
    world.subscribe(other, "a");
    let frame = Frame::head(command::PUB, 0, 0).unwrap();
    world.nodes[node].client.session.kcp.send(&[0, 0, 0, 1, frame[4]]).unwrap();
    world.run_until("news", |world| world.nodes[node].log.saw("Disconnected { why: ByServer(Protocol)") > 0);
    assert_eq!(world.broker.stats().broken_sessions, 1);
    assert_eq!(world.nodes[other].log.saw("Disconnected"), 0);
}

/// How long nothing came at most.
fn moves<S: Make>(link: sim::Config) -> Duration {
    let mut world = World::<S>::new(broker::Config::default());
    let (sub, publisher) = (world.add(Config::default(), link), world.add(Config::default(), link));
    let id = world.subscribe(sub, "a");
    let payload = |n: u32| n.to_be_bytes();
    let (mut came, mut came_at, mut longest) = (0, world.now, Duration::ZERO);
    for n in 0..300 {
        world.publish(publisher, "a", &payload(n)).unwrap();
        world.run_for(Duration::from_millis(10));
        let count = world.nodes[sub].log.payloads(id).len();
        if count > came {
            longest = longest.max(world.now.since(came_at));
            (came, came_at) = (count, world.now);
        }
        if n == 100 || n == 200 {
            // What is under way to the old address is lost.
            let node = &mut world.nodes[sub];
            node.addr.set_port(node.addr.port() + 1000);
            node.down = SimLink::new(link, u64::from(n));
        }
    }
    world.run_for(Duration::from_secs(2));
    let got = world.nodes[sub].log.payloads(id);
    assert!(got.iter().copied().eq((0..300).map(payload).collect::<Vec<_>>().iter().map(|payload| &payload[..])));
    assert_eq!(world.nodes[sub].client.stats().reconnects, 0);
    assert_eq!((world.broker.stats().sessions_moved, world.broker.stats().sessions), (2, 2));
    longest
}

#[test]
fn who_has_another_address_says_so_and_goes_on_within_a_round_trip_and_a_half() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(publisher, "a");
    world.publish(sub, "a", b"under way").unwrap();
    world.settle();
    let node = &mut world.nodes[sub];
    // It never arrives.
    node.up = SimLink::new(CLEAN, 7);
    node.addr.set_port(node.addr.port() + 1000);
    node.client.on_new_address(world.now);
    world.run_for(CLEAN.delay.saturating_mul(2));
    assert_eq!(world.nodes[publisher].log.payloads(id), [b"under way"]);
    world.run_for(CLEAN.delay);
    assert_eq!(world.broker.stats().sessions_moved, 1);
}

#[test]
fn a_session_goes_on_at_another_address_and_nothing_is_lost_doubled_or_reordered() {
    let longest = moves::<Heap>(CLEAN);
    let most = CLEAN.delay.saturating_mul(4) + Duration::from_millis(100);
    assert!(longest <= most, "nothing came for {longest:?}, two round trips and 100 ms are {most:?}");
    moves::<Heap>(BAD);
}
