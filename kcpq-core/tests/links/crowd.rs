//! Many clients behind one narrow link, in virtual time: one broker, a publisher beside it, and subscribers that want the
//! latest of one subject, whose datagrams all wait in the same queue. A TCP flow may fill it as well.

use std::net::{Ipv4Addr, SocketAddr};

use kcpq_core::broker::{self, Broker};
use kcpq_core::client::{self, Client, Event, Parts};
use kcpq_core::kcp;
use kcpq_core::sim::{self, Link};
use kcpq_core::store::Heap;
use kcpq_core::time::{Duration, Instant};

use crate::reno::Reno;

/// Bytes of IPv4 and UDP headers around each datagram; in the simulation they say whose it is.
const IP_UDP: usize = 28;
/// What stands there in the packets of the TCP flow.
const TCP: usize = 0xffff;
/// The first client is the publisher.
const PUBLISHER: usize = 0;

pub(crate) struct Crowd {
    pub(crate) now: Instant,
    broker: Broker<SocketAddr>,
    clients: Vec<Node>,
    /// The publisher's link: as long as the other, and clean.
    there: Link,
    back: Link,
    /// What all others share: to them, and back.
    pub(crate) down: Link,
    up: Link,
    pub(crate) tcp: Option<Reno>,
    buf: Vec<u8>,
}

pub(crate) struct Node {
    client: Client<Heap>,
    /// It may have something to send.
    busy: bool,
    subscribed: bool,
    /// The newest message that has come, and how many have.
    pub(crate) newest: Option<u64>,
    pub(crate) count: u64,
}

/// How the ends are set up.
#[derive(Clone, Default)]
pub(crate) struct Ends {
    pub(crate) client: client::Config,
    pub(crate) broker: broker::Config,
}

fn addr(whose: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), whose as u16))
}

/// What a link carries of a datagram: with its headers, which say whose it is.
fn packet(datagram: &[u8], whose: usize) -> Vec<u8> {
    let mut packet = vec![0; datagram.len() + IP_UDP];
    packet[..datagram.len()].copy_from_slice(datagram);
    packet[datagram.len()..][..2].copy_from_slice(&(whose as u16).to_be_bytes());
    packet
}

fn datagram(packet: &mut [u8]) -> (&mut [u8], usize) {
    let (datagram, headers) = packet.split_at_mut(packet.len() - IP_UDP);
    (datagram, u16::from_be_bytes([headers[0], headers[1]]).into())
}

impl Crowd {
    /// So many subscribers, all of them connected and subscribed.
    pub(crate) fn new(link: sim::Config, count: usize, ends: &Ends, seed: u64) -> Self {
        let clean = sim::Config { loss: 0.0, bandwidth: None, ..link };
        let mut crowd = Self {
            now: Instant::from_millis(1),
            broker: Broker::new(ends.broker.clone(), seed),
            clients: Vec::new(),
            there: Link::new(clean, seed),
            back: Link::new(clean, seed + 1),
            down: Link::new(link, seed + 2),
            up: Link::new(link, seed + 3),
            tcp: None,
            buf: vec![0; 65_000],
        };
        for n in 0..=count {
            let mut client = Client::new(ends.client, seed * 1_000 + n as u64, Parts::heap(&ends.client));
            client.connect(crowd.now);
            if n != PUBLISHER {
                client.subscribe_latest(crowd.now, "state.*").unwrap();
            }
            crowd.clients.push(Node { client, busy: true, subscribed: n == PUBLISHER, newest: None, count: 0 });
            crowd.run_to(crowd.now + Duration::from_millis(5));
        }
        while !crowd.clients.iter().all(|node| node.subscribed && node.client.is_connected()) {
            assert!(crowd.now < Instant::from_millis(60_000), "not connected within a minute");
            crowd.run_to(crowd.now + Duration::from_millis(10));
        }
        crowd
    }

    pub(crate) fn subscribers(&self) -> &[Node] {
        &self.clients[PUBLISHER + 1..]
    }

    /// Publishes message `number` with `size` bytes.
    pub(crate) fn publish(&mut self, number: u64, size: usize) {
        let mut payload = vec![number as u8; size.max(8)];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        let publisher = &mut self.clients[PUBLISHER];
        publisher.client.publish(self.now, "state.game", &payload).unwrap();
        publisher.busy = true;
        self.settle();
    }

    /// What the engines of the broker have sent.
    pub(crate) fn sent(&self) -> kcp::Stats {
        self.broker.transport()
    }

    /// Goes on to `end`.
    pub(crate) fn run_to(&mut self, end: Instant) {
        self.settle();
        while self.now < end {
            let links = [&self.there, &self.back, &self.down, &self.up].map(Link::next_arrival);
            let clients = self.clients.iter().map(|node| node.client.poll_timeout());
            let timeouts = clients.chain([self.broker.poll_timeout()]).flatten().map(|deadline| deadline.at);
            let tcp = self.tcp.as_ref().map(Reno::poll_timeout);
            let next = links.into_iter().flatten().chain(timeouts).chain(tcp).min().unwrap_or(end);
            self.now = next.min(end).max(self.now + Duration::from_micros(1));
            self.broker.handle_timeout(self.now);
            for node in &mut self.clients {
                if node.client.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                    node.client.handle_timeout(self.now);
                    node.busy = true;
                }
            }
            if let Some(tcp) = &mut self.tcp {
                tcp.handle_timeout(self.now);
            }
            self.settle();
        }
    }

    /// All that can happen at this moment.
    fn settle(&mut self) {
        let now = self.now;
        loop {
            let mut idle = true;
            for link in [&mut self.there, &mut self.up] {
                while let Some(mut packet) = link.recv(now) {
                    idle = false;
                    let (datagram, whose) = datagram(&mut packet);
                    match &mut self.tcp {
                        Some(tcp) if whose == TCP => tcp.on_acknowledged(now, datagram),
                        _ => self.broker.handle_datagram(now, addr(whose), datagram),
                    }
                }
            }
            while let Some(transmit) = self.broker.poll_transmit(now, &mut self.buf) {
                idle = false;
                let whose = usize::from(transmit.to.port());
                let link = if whose == PUBLISHER { &mut self.back } else { &mut self.down };
                for datagram in self.buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                    link.send(now, &packet(datagram, whose));
                }
            }
            while self.broker.poll_event().is_some() {}
            while let Some(segment) = self.tcp.as_mut().and_then(|tcp| tcp.poll_transmit(now)) {
                self.down.send(now, &packet(&segment, TCP));
            }
            for link in [&mut self.back, &mut self.down] {
                while let Some(mut packet) = link.recv(now) {
                    idle = false;
                    let (datagram, whose) = datagram(&mut packet);
                    match self.clients.get_mut(whose) {
                        Some(node) => {
                            node.client.handle_datagram(now, datagram);
                            node.busy = true;
                        }
                        None => self.up.send(now, &self::packet(&Reno::acknowledge(datagram), TCP)),
                    }
                }
            }
            for (whose, node) in self.clients.iter_mut().enumerate().filter(|(_, node)| node.busy) {
                idle = false;
                node.busy = false;
                while let Some(event) = node.client.poll_event() {
                    match event {
                        Event::Message { message, .. } => {
                            let number = u64::from_be_bytes(message.payload()[..8].try_into().unwrap());
                            node.newest = node.newest.max(Some(number));
                            node.count += 1;
                        }
                        Event::Subscribed(_) => node.subscribed = true,
                        _ => {}
                    }
                }
                while let Some(len) = node.client.poll_transmit(now, &mut self.buf) {
                    let link = if whose == PUBLISHER { &mut self.there } else { &mut self.up };
                    link.send(now, &packet(&self.buf[..len], whose));
                }
            }
            if idle {
                return;
            }
        }
    }
}
