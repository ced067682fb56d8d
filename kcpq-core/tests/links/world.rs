//! One publisher, one broker, one subscriber in virtual time: a message crosses the simulated link twice.

use std::net::{Ipv4Addr, SocketAddr};

use kcpq_core::broker::{self, Broker, Keys};
use kcpq_core::client::{self, Client, Event, Parts, PublishError};
use kcpq_core::frame::Properties;
use kcpq_core::lane::Lane;
use kcpq_core::seal::{Cipher, SharedSecret, Trust};
use kcpq_core::sim::{self, Link};
use kcpq_core::store::Heap;
use kcpq_core::time::{Duration, Instant};

/// Bytes of IPv4 and UDP headers around each datagram.
const IP_UDP: u64 = 28;

/// A client and its two directions of the link.
pub(crate) struct Node {
    pub(crate) client: Client<Heap>,
    addr: SocketAddr,
    pub(crate) up: Link,
    pub(crate) down: Link,
}

/// How the three are set up.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) link: sim::Config,
    pub(crate) client: client::Config,
    pub(crate) broker: broker::Config,
    /// With keys.
    pub(crate) sealed: bool,
}

impl Setup {
    pub(crate) fn native(link: sim::Config) -> Self {
        Self { link, client: client::Config::default(), broker: broker::Config::default(), sealed: false }
    }
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) broker: Broker<SocketAddr>,
    pub(crate) publisher: Node,
    pub(crate) subscriber: Node,
    /// What the subscriber got, by number, with the time at which it got it.
    pub(crate) arrivals: Vec<(u64, Instant)>,
    buf: Vec<u8>,
    subscribed: bool,
}

impl World {
    /// Connected and subscribed.
    pub(crate) fn new(setup: &Setup, seed: u64) -> Self {
        let mut world = Self::begin(setup, seed);
        while !(world.subscribed && world.publisher.client.is_connected()) {
            assert!(world.now < Instant::from_millis(600_000), "not connected within ten minutes");
            world.step(None);
        }
        world
    }

    /// About to connect and to subscribe.
    pub(crate) fn begin(setup: &Setup, seed: u64) -> Self {
        let client = |seed: u64| {
            let client = Client::new(setup.client, seed, Parts::heap(&setup.client));
            if !setup.sealed {
                return client;
            }
            let trust = Trust::Shared { secret: SharedSecret::from_bytes(&[1; 32]) };
            client.with_keys(trust, Cipher::ChaChaPoly, &[seed as u8; 32]).unwrap()
        };
        let mut broker = Broker::new(setup.broker.clone(), seed);
        if setup.sealed {
            let keys = Keys { secret: Some(SharedSecret::from_bytes(&[1; 32])), ..Keys::default() };
            broker = broker.with_keys(keys, &[2; 32]);
        }
        let node = |port: u16, seed: u64| Node {
            client: client(seed),
            addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port)),
            up: Link::new(setup.link, seed),
            down: Link::new(setup.link, seed ^ 0x5555_5555),
        };
        let mut world = Self {
            now: Instant::from_millis(1),
            broker,
            publisher: node(1, seed * 2 + 1),
            subscriber: node(2, seed * 2 + 2),
            arrivals: Vec::new(),
            buf: vec![0; 65_000],
            subscribed: false,
        };
        world.publisher.client.connect(world.now);
        world.subscriber.client.connect(world.now);
        world.subscriber.client.subscribe(world.now, "video.*").unwrap();
        world.settle();
        world
    }

    /// Publishes message `number` with `size` bytes.
    pub(crate) fn publish(&mut self, number: u64, size: usize) -> Result<(), PublishError> {
        let mut payload = vec![number as u8; size.max(8)];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let result = self.publisher.client.publish(self.now, "video.camera", &payload);
        self.settle();
        result
    }

    /// The same in a lane.
    pub(crate) fn publish_in(&mut self, lane: Lane, number: u64, size: usize) -> Result<(), PublishError> {
        let mut payload = vec![number as u8; size.max(8)];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let client = &mut self.publisher.client;
        let result = client.publish_in(self.now, lane, "video.camera", &payload, Properties::NONE, None);
        self.settle();
        result
    }

    /// The same, where only the latest counts.
    pub(crate) fn publish_latest(&mut self, lane: Lane, number: u64, size: usize) -> Result<(), PublishError> {
        let mut payload = vec![number as u8; size.max(8)];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let client = &mut self.publisher.client;
        let result = client.publish_in(self.now, lane, "video.camera", &payload, Properties::LATEST, None);
        self.settle();
        result
    }

    /// Goes on to `end`.
    pub(crate) fn run_to(&mut self, end: Instant) {
        while self.now < end {
            self.step(Some(end));
        }
    }

    /// Bytes on the wire, headers of IP and UDP and both directions of both hops included.
    pub(crate) fn wire_bytes(&self) -> u64 {
        let links = [&self.publisher.up, &self.publisher.down, &self.subscriber.up, &self.subscriber.down];
        links.iter().map(|link| link.stats().bytes + IP_UDP * link.stats().sent).sum()
    }

    fn settle(&mut self) {
        let now = self.now;
        loop {
            let mut idle = true;
            for node in [&mut self.publisher, &mut self.subscriber] {
                while let Some(mut datagram) = node.up.recv(now) {
                    self.broker.handle_datagram(now, node.addr, &mut datagram);
                    idle = false;
                }
            }
            while let Some(transmit) = self.broker.poll_transmit(now, &mut self.buf) {
                let node = if transmit.to == self.publisher.addr { &mut self.publisher } else { &mut self.subscriber };
                for datagram in self.buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                    node.down.send(now, datagram);
                }
                idle = false;
            }
            while self.broker.poll_event().is_some() {}
            for node in [&mut self.publisher, &mut self.subscriber] {
                while let Some(mut datagram) = node.down.recv(now) {
                    node.client.handle_datagram(now, &mut datagram);
                    idle = false;
                }
                while let Some(event) = node.client.poll_event() {
                    match event {
                        Event::Message { message, .. } => {
                            let number = u64::from_be_bytes(message.payload()[..8].try_into().unwrap());
                            self.arrivals.push((number, now));
                        }
                        Event::Subscribed(_) => self.subscribed = true,
                        _ => {}
                    }
                    idle = false;
                }
                while let Some(len) = node.client.poll_transmit(now, &mut self.buf) {
                    node.up.send(now, &self.buf[..len]);
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
    }

    /// Goes to the next moment at which something happens, `limit` at the latest.
    pub(crate) fn step(&mut self, limit: Option<Instant>) {
        let mut next = [limit, self.broker.poll_timeout().map(|deadline| deadline.at)].into_iter().flatten().min();
        for node in [&self.publisher, &self.subscriber] {
            let timeout = node.client.poll_timeout().map(|deadline| deadline.at);
            next = [next, node.up.next_arrival(), node.down.next_arrival(), timeout].into_iter().flatten().min();
        }
        self.now = next.expect("a connection has heartbeats").max(self.now + Duration::from_micros(1));
        self.broker.handle_timeout(self.now);
        self.publisher.client.handle_timeout(self.now);
        self.subscriber.client.handle_timeout(self.now);
        self.settle();
    }
}
