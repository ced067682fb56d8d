//! Original clients and our broker.

use std::net::{Ipv4Addr, SocketAddr};

use kcpq_core::broker::{self, Broker, Event};
use kcpq_core::frame::{Frame, command};
use kcpq_core::kcp;
use kcpq_core::sim::{self, Link};
use kcpq_core::subject::SubjectError;
use kcpq_core::time::{Duration, Instant};

use crate::ms;
use crate::peer::Ticking;

/// A client and its two directions of the link.
struct Node {
    peer: Ticking,
    addr: SocketAddr,
    up: Link,
    down: Link,
}

/// Original clients and our broker: the first one publishes, the others subscribe.
struct World {
    now: Instant,
    broker: Broker<SocketAddr>,
    nodes: Vec<Node>,
    buf: Vec<u8>,
    /// Who got which message when.
    arrivals: Vec<(usize, u64, Instant)>,
    /// Why subjects were refused, as the broker tells.
    refused: Vec<SubjectError>,
}

impl World {
    fn new(link: sim::Config, tick: Duration, jitter: Duration, subscribers: u32, seed: u64) -> Self {
        let node = |conv: u32| Node {
            peer: Ticking::new(conv, tick, jitter, Instant::from_millis(1)),
            // Not a loopback address: between machines.
            addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), conv as u16)),
            up: Link::new(link, seed * 100 + u64::from(conv)),
            down: Link::new(link, seed * 100 + 50 + u64::from(conv)),
        };
        let mut world = Self {
            now: Instant::from_millis(1),
            broker: Broker::new(broker::Config::default(), seed),
            nodes: (1..=subscribers + 1).map(node).collect(),
            buf: vec![0; 65_000],
            arrivals: Vec::new(),
            refused: Vec::new(),
        };
        let subscribe = Frame { command: command::SUB, subject: b"video.*", payload: b"" };
        for index in 1..world.nodes.len() {
            world.nodes[index].peer.write(&subscribe);
            world.flush(index);
        }
        while world.broker.stats().subscriptions < u64::from(subscribers) {
            world.step(None);
        }
        world
    }

    fn publish(&mut self, number: u64, size: usize) {
        let mut payload = vec![number as u8; size.max(8)];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        self.nodes[0].peer.write(&Frame { command: command::PUB, subject: b"video.camera", payload: &payload });
        self.flush(0);
        self.settle();
    }

    /// Client `index` sends what it has.
    fn flush(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(len) = node.peer.kcp.poll_transmit(self.now, &mut self.buf) {
            node.up.send(self.now, &self.buf[..len]);
        }
    }

    fn settle(&mut self) {
        let now = self.now;
        loop {
            let mut idle = true;
            for node in &mut self.nodes {
                while let Some(mut datagram) = node.up.recv(now) {
                    self.broker.handle_datagram(now, node.addr, &mut datagram);
                    idle = false;
                }
            }
            while let Some(transmit) = self.broker.poll_transmit(now, &mut self.buf) {
                let node = self.nodes.iter_mut().find(|node| node.addr == transmit.to).unwrap();
                for datagram in self.buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                    node.down.send(now, datagram);
                }
                idle = false;
            }
            while let Some(event) = self.broker.poll_event() {
                self.refused.extend(match event {
                    Event::SubjectRefused { why, .. } => Some(why),
                    _ => None,
                });
            }
            for index in 0..self.nodes.len() {
                let mut slid = false;
                while let Some(datagram) = self.nodes[index].down.recv(now) {
                    slid |= self.nodes[index].peer.handle_datagram(now, &datagram);
                    idle = false;
                }
                for (command, _, payload) in self.nodes[index].peer.frames() {
                    if command == command::MSG {
                        self.arrivals.push((index, u64::from_be_bytes(payload[..8].try_into().unwrap()), now));
                    }
                }
                if slid || self.nodes[index].peer.ticks(now) {
                    self.flush(index);
                }
            }
            if idle {
                return;
            }
        }
    }

    /// Goes to the next moment at which something happens, `limit` at the latest.
    fn step(&mut self, limit: Option<Instant>) {
        let broker = self.broker.poll_timeout().map(|deadline| deadline.at);
        let nodes =
            self.nodes.iter().flat_map(|node| [Some(node.peer.next), node.up.next_arrival(), node.down.next_arrival()]);
        let next = nodes.chain([limit, broker]).flatten().min().unwrap();
        self.now = next.max(self.now + Duration::from_micros(1));
        self.broker.handle_timeout(self.now);
        self.settle();
    }

    fn run_to(&mut self, end: Instant) {
        while self.now < end {
            self.step(Some(end));
        }
    }

    /// True if every subscriber got each of `count` messages once and in order.
    fn is_complete(&self, count: u64) -> bool {
        (1..self.nodes.len()).all(|index| {
            let numbers = self.arrivals.iter().filter(|(to, ..)| *to == index).map(|(_, number, _)| *number);
            numbers.eq(0..count)
        })
    }
}

/// A window of messages under way, as many as go for `span`: bytes a second, and what the broker's engines counted.
fn window(
    link: sim::Config,
    tick: Duration,
    jitter: Duration,
    size: usize,
    window: u64,
    seed: u64,
) -> (f64, kcp::Stats) {
    let mut world = World::new(link, tick, jitter, 1, seed);
    let span = Duration::from_secs(5);
    let (mut published, end) = (0, world.now + span);
    while world.now < end {
        while published < world.arrivals.len() as u64 + window {
            world.publish(published, size);
            published += 1;
        }
        world.step(Some(end));
    }
    let delivered = world.arrivals.len();
    world.run_to(end + Duration::from_secs(20));
    assert!(world.is_complete(published), "each once and in order");
    (delivered as f64 * size as f64 / span.as_micros() as f64 * 1e6, world.broker.transport())
}

/// Bytes per second that the link carries.
const BANDWIDTH: u64 = 50_000_000;

/// A link with this round trip, in microseconds.
fn link(round_trip: u64, loss: f64) -> sim::Config {
    let clean = sim::Config::clean(Duration::from_micros(round_trip / 2));
    sim::Config { loss, bandwidth: Some(BANDWIDTH), queue: 1 << 20, ..clean }
}

/// Round trip in microseconds, tick and jitter in milliseconds, and the least rates in MB/s, at losses of 0, 1 and 10 %.
type Row = (u64, u64, u64, [f64; 3]);

#[test]
fn a_window_of_messages_is_as_fast_as_links_and_windows_let_it_be() {
    const ROWS: [Row; 10] = [
        (200, 5, 0, [45.0, 30.0, 18.0]),
        (200, 10, 0, [45.0, 24.0, 14.0]),
        (200, 10, 10, [45.0, 18.0, 8.0]),
        (200, 20, 5, [40.0, 13.0, 5.5]),
        // From here on a window of the subscriber's does not last from tick to tick, or the messages' over a round trip.
        (200, 40, 10, [20.0, 7.0, 3.5]),
        (200, 100, 10, [9.0, 3.0, 1.8]),
        (20_000, 10, 5, [20.0, 6.0, 3.5]),
        (20_000, 20, 0, [20.0, 5.5, 3.0]),
        (200_000, 10, 2, [1.9, 0.7, 0.4]),
        (200_000, 20, 10, [1.9, 0.7, 0.4]),
    ];
    for (round_trip, tick, jitter, least) in ROWS {
        for (loss, least) in [0.0, 0.01, 0.1].into_iter().zip(least) {
            let (rate, stats) = window(link(round_trip, loss), ms(tick), ms(jitter), 1_000, 500, 1);
            println!(
                "round trip {:5.1} ms, ticks of {tick} to {} ms, loss {:2.0} % | {:5.2} MB/s, at least {least} | segments {}, \
                 again {} (overtaken {}, timer {}, in vain {}), repairs {}",
                round_trip as f64 / 1e3,
                tick + jitter,
                loss * 100.0,
                rate / 1e6,
                stats.segments_sent,
                stats.retransmitted,
                stats.lost_fast,
                stats.lost_timeout,
                stats.spurious,
                stats.repairs_sent
            );
            assert!(rate >= least * 1e6);
            if loss == 0.0 {
                // Only before anything is known of path and clock.
                assert!(stats.retransmitted <= 60 && stats.repairs_sent == 0, "nothing was lost");
            }
        }
    }
}

#[test]
fn subjects_that_only_the_original_allows_travel_between_its_clients() {
    let subjects = [
        &b"room 1.chat"[..],
        b"a..b",
        b"",
        b"tab\there",
        b"\xff\xfe.x",
        b"what.*",
        &[b"a", b".b".repeat(60).as_slice()].concat(),
    ];
    let mut world = World::new(sim::Config::clean(ms(1)), ms(10), Duration::ZERO, 1, 1);
    for subject in subjects {
        world.nodes[1].peer.write(&Frame { command: command::SUB, subject, payload: b"" });
    }
    world.flush(1);
    world.run_to(world.now + ms(100));
    assert_eq!(world.broker.stats().subscriptions, 1 + subjects.len() as u64);
    for (number, subject) in subjects.into_iter().enumerate() {
        let payload = (number as u64).to_be_bytes();
        world.nodes[0].peer.write(&Frame { command: command::PUB, subject, payload: &payload });
    }
    world.flush(0);
    world.run_to(world.now + ms(100));
    assert!(world.is_complete(subjects.len() as u64), "{:?}", world.arrivals);
    for subject in subjects {
        world.nodes[1].peer.write(&Frame { command: command::UNSUB, subject, payload: b"" });
    }
    world.flush(1);
    world.run_to(world.now + ms(100));
    assert_eq!(world.broker.stats().subscriptions, 1);
}

#[test]
fn a_subject_that_is_refused_is_told_once_for_each_session() {
    let mut world = World::new(sim::Config::clean(ms(1)), ms(10), Duration::ZERO, 1, 1);
    let deep = b".".repeat(300);
    for (index, command) in [(0, command::PUB), (1, command::SUB), (0, command::PUB), (1, command::PUB)] {
        world.nodes[index].peer.write(&Frame { command, subject: &deep, payload: b"" });
        world.flush(index);
    }
    world.run_to(world.now + ms(100));
    assert_eq!(world.refused, [SubjectError::TooDeep { limit: u8::MAX }; 2]);
    let stats = world.broker.stats();
    assert_eq!((stats.messages_refused, stats.subscriptions_refused), (3, 1));
}
