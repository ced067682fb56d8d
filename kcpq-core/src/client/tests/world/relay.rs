//! Clients behind relays and proxies that misbehave.

use super::*;

/// 60 times a second.
const FRAME: Duration = Duration::from_micros(16_667);

/// What the subscriber and the publisher of a stream have between them and the server.
struct Stream {
    world: World<Heap>,
    publisher: usize,
    sub: usize,
    id: SubscriptionId,
    sent: Vec<Vec<u8>>,
}

impl Stream {
    /// Both sit at `host` behind a relay that does this to datagrams.
    fn new(link: sim::Config, host: Ipv4Addr) -> Self {
        let mut world = World::<Heap>::new(broker::Config::default());
        world.relay = Some(Relay::new(40_000));
        let config = Config { queue: 4 << 20, ..Config::default() };
        let config = if host.is_loopback() { Config { native_datagram: 16_000, ..config } } else { config };
        let (sub, publisher) = (world.add(config, link), world.add(config, link));
        for node in &mut world.nodes {
            node.addr = SocketAddr::from((host, 1));
        }
        let id = world.subscribe(sub, "a");
        Self { world, publisher, sub, id, sent: Vec::new() }
    }

    /// Publishes messages of `len` bytes, so many.
    fn publish(&mut self, count: usize, len: usize) {
        for _ in 0..count {
            let number = self.sent.len() as u32;
            let payload = [&number.to_be_bytes()[..], &vec![number as u8; len - 4]].concat();
            self.world.publish(self.publisher, "a", &payload).unwrap();
            self.sent.push(payload);
            self.world.run_for(FRAME);
        }
    }

    fn set(&mut self, link: sim::Config) {
        for node in &mut self.world.nodes {
            node.up.set_config(link);
            node.down.set_config(link);
        }
    }

    /// Waits until all is there, in order, over the connections of the beginning. How long that took.
    fn finish(mut self) -> Duration {
        let (begun, all) = (self.world.now, self.sent.len());
        let (sub, id) = (self.sub, self.id);
        self.world.run_until("all of it", |world| world.nodes[sub].log.payloads(id).len() >= all);
        assert!(self.world.nodes[sub].log.payloads(id).iter().eq(self.sent.iter()), "lost, doubled or out of order");
        for node in &self.world.nodes {
            assert_eq!((node.client.stats().reconnects, node.client.stats().dropped_in_doubt), (0, 0));
        }
        assert_eq!(self.world.broker.stats().sessions, 2);
        self.world.now.since(begun)
    }
}

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const WIDE: sim::Config = sim::Config { mtu: 8_952, ..CLEAN };

/// As a proxy does that reads into 1500 bytes, and so do those through which a service on the same machine is reached.
#[test]
fn long_messages_pass_a_relay_that_cuts_datagrams_off() {
    for host in [ELSEWHERE, Ipv4Addr::LOCALHOST] {
        for cut in [1_300, 1_500] {
            let mut stream = Stream::new(sim::Config { cut, ..CLEAN }, host);
            stream.publish(60, 20_000);
            assert!(stream.finish() < Duration::from_secs(2));
        }
    }
}

#[test]
fn a_stream_goes_on_when_its_relay_begins_to_drop_or_to_cut_what_is_long() {
    for (mtu, cut) in [(1_300, usize::MAX), (usize::MAX, 1_300)] {
        for host in [ELSEWHERE, Ipv4Addr::LOCALHOST] {
            let mut stream = Stream::new(WIDE, host);
            stream.publish(120, 8_000);
            stream.set(sim::Config { mtu, cut, ..CLEAN });
            stream.publish(240, 8_000);
            assert!(stream.finish() < Duration::from_secs(2));
        }
    }
}

/// The ports change under a stream, and while a subscriber only listens; twice also in the middle of a message.
#[test]
fn a_relay_that_forgets_its_clients_costs_no_message() {
    for (len, count) in [(200, 60), (100_000, 10)] {
        let mut stream = Stream::new(CLEAN, ELSEWHERE);
        for _ in 0..4 {
            stream.publish(count, len);
            stream.world.relay.as_mut().unwrap().forget();
        }
        stream.publish(count, len);
        let stats = stream.world.broker.stats();
        assert!(stats.sessions_moved >= 6, "{} moves", stats.sessions_moved);
        stream.finish();
    }
}

/// Nothing passes for a while, in one direction or in both.
#[test]
fn a_stream_goes_on_behind_a_relay_that_was_a_black_hole_for_ten_seconds() {
    for (up, down) in [(true, true), (true, false), (false, true)] {
        let mut stream = Stream::new(CLEAN, ELSEWHERE);
        stream.publish(60, 1_000);
        for node in &mut stream.world.nodes {
            node.up.set_down(up);
            node.down.set_down(down);
        }
        stream.publish(600, 1_000);
        for node in &mut stream.world.nodes {
            node.up.set_down(false);
            node.down.set_down(false);
        }
        stream.publish(60, 1_000);
        assert!(stream.finish() < Duration::from_secs(5));
    }
}
