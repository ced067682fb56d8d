//! A client and a broker with keys, and between them somebody who drops, holds back, doubles, swaps, cuts and alters their
//! datagrams, sends old ones from elsewhere, and starts the server anew: what is delivered was published, once and in order,
//! and afterwards both find each other.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use kcpq_core::broker::{self, Broker, Keys};
use kcpq_core::client::{Client, Config, Event, Parts};
use kcpq_core::seal::{Cipher, PrivateKey, SharedSecret, Token, Trust};
use kcpq_core::store::Heap;
use kcpq_core::{Duration, Instant};

use crate::Seed;

/// What a step's first byte, modulo 10, asks for; the second says how much, or where.
mod op {
    /// Lets the oldest datagram to the server through, or to the client.
    pub(super) const UP: u8 = 0;
    pub(super) const DOWN: u8 = 1;
    /// Drops the oldest each way.
    pub(super) const DROP: u8 = 2;
    /// Alters a bit of the newest each way.
    pub(super) const ALTER: u8 = 3;
    /// Cuts the newest each way.
    pub(super) const CUT: u8 = 4;
    /// The oldest each way becomes the newest.
    pub(super) const SWAP: u8 = 5;
    /// Sends something that was seen once more, to both, from an address of its own.
    pub(super) const REPLAY: u8 = 6;
    /// Time passes, in steps of 20 ms, or up to the next deadline.
    pub(super) const WAIT: u8 = 7;
    /// Publishes.
    pub(super) const PUBLISH: u8 = 8;
    /// The server is started again, or the client's address changes.
    pub(super) const CHANGE: u8 = 9;
    pub(super) const COUNT: u8 = 10;
}

/// See the module. The first byte chooses how they know each other.
pub fn run(data: &[u8]) {
    let [trust, rest @ ..] = data else { return };
    let mut talk = Talk::new(*trust);
    let (steps, _) = rest.as_chunks::<2>();
    for [kind, amount] in steps {
        talk.step(*kind, *amount);
        talk.settle();
    }
    talk.finish();
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes(&[seed; 32])
}

fn secret() -> SharedSecret {
    SharedSecret::from_bytes(&[7; 32])
}

fn broker(life: u8) -> Broker<SocketAddr> {
    let keys = Keys { key: Some(key(1)), secret: Some(secret()) };
    let config = broker::Config { max_sessions: 8, ..broker::Config::default() };
    Broker::new(config, life.into()).with_secret(&[3; 32]).with_keys(keys, &[life; 32])
}

struct Talk {
    now: Instant,
    client: Client<Heap>,
    broker: Broker<SocketAddr>,
    life: u8,
    address: SocketAddr,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    seen: Vec<Vec<u8>>,
    published: u64,
    /// One more than the number of the last message that was delivered.
    delivered: u64,
    out: Vec<u8>,
}

impl Talk {
    fn new(choice: u8) -> Self {
        let trust = match choice % 4 {
            0 => Trust::Identity { key: key(2), server: key(1).public() },
            1 => Trust::Anonymous { server: key(1).public() },
            2 => Trust::Token { token: Token::from_bytes(&[4; 32]), server: key(1).public() },
            _ => Trust::Shared { secret: secret() },
        };
        let config = Config::default();
        let client = Client::new(config, choice.into(), Parts::heap(&config));
        let mut client = client.with_keys(trust, Cipher::ChaChaPoly, &[choice; 32]).expect("keys that somebody has");
        let now = Instant::from_millis(1);
        client.connect(now);
        client.subscribe(now, "a").expect("room");
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
        Self {
            now,
            client,
            broker: broker(1),
            life: 1,
            address,
            up: VecDeque::new(),
            down: VecDeque::new(),
            seen: Vec::new(),
            published: 0,
            delivered: 0,
            out: vec![0; 70_000],
        }
    }

    fn step(&mut self, kind: u8, amount: u8) {
        let at = usize::from(amount);
        match kind % op::COUNT {
            op::UP => {
                if let Some(datagram) = self.up.pop_front() {
                    self.arrive(self.address, datagram);
                }
            }
            op::DOWN => {
                if let Some(mut datagram) = self.down.pop_front() {
                    self.client.handle_datagram(self.now, &mut datagram);
                }
            }
            op::DROP => {
                self.up.pop_front();
                self.down.pop_front();
            }
            op::ALTER => {
                for datagram in self.up.back_mut().into_iter().chain(self.down.back_mut()) {
                    let bit = at % (datagram.len() * 8);
                    datagram[bit / 8] ^= 1 << (bit % 8);
                }
            }
            op::CUT => {
                for datagram in self.up.back_mut().into_iter().chain(self.down.back_mut()) {
                    datagram.truncate(1 + at % datagram.len());
                }
            }
            op::SWAP => {
                for way in [&mut self.up, &mut self.down] {
                    way.rotate_left(usize::from(!way.is_empty()));
                }
            }
            op::REPLAY => {
                if let Some(datagram) = self.seen.get(at % self.seen.len().max(1)).cloned() {
                    let elsewhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), amount.into());
                    self.arrive(elsewhere, datagram.clone());
                    self.client.handle_datagram(self.now, &mut datagram.clone());
                }
            }
            op::WAIT if amount == 0 => self.go_on(),
            op::WAIT => self.now += Duration::from_millis(20 * u64::from(amount)),
            op::PUBLISH => {
                if self.client.publish(self.now, "a", &self.published.to_be_bytes()).is_ok() {
                    self.published += 1;
                }
            }
            _ if amount < 16 => {
                self.life = self.life.wrapping_add(1);
                self.broker = broker(self.life);
            }
            _ => self.address.set_port(1 + u16::from(amount)),
        }
    }

    fn arrive(&mut self, from: SocketAddr, mut datagram: Vec<u8>) {
        self.broker.handle_datagram(self.now, from, &mut datagram);
    }

    /// Time passes up to the next deadline.
    fn go_on(&mut self) {
        let deadlines = [self.client.poll_timeout(), self.broker.poll_timeout()];
        let next = deadlines.into_iter().flatten().map(|deadline| deadline.at).min();
        self.now = next.map_or(self.now, |next| self.now.max(next)) + Duration::from_micros(1);
    }

    fn settle(&mut self) {
        self.client.handle_timeout(self.now);
        self.broker.handle_timeout(self.now);
        let mut given_up = false;
        while let Some(event) = self.client.poll_event() {
            given_up |= matches!(event, Event::SubscribeFailed { .. });
            if let Event::Message { message, .. } = event {
                let number = u64::from_be_bytes(message.payload().try_into().expect("nobody else has published"));
                assert!(number >= self.delivered && number < self.published, "{number} after {}", self.delivered);
                self.delivered = number + 1;
            }
        }
        if given_up {
            // One that never worked is given up after three attempts.
            self.client.subscribe(self.now, "a").expect("room");
        }
        while self.broker.poll_event().is_some() {}
        while let Some(len) = self.client.poll_transmit(self.now, &mut self.out) {
            self.up.push_back(self.out[..len].to_vec());
            self.seen.push(self.out[..len].to_vec());
        }
        while let Some(transmit) = self.broker.poll_transmit(self.now, &mut self.out) {
            for datagram in self.out[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
                self.seen.push(datagram.to_vec());
                if transmit.to == self.address {
                    self.down.push_back(datagram.to_vec());
                }
            }
        }
        self.seen.drain(..self.seen.len().saturating_sub(256));
        assert!(self.up.len() + self.down.len() < 20_000, "it would send for ever");
    }

    /// Left alone, they find each other.
    fn finish(&mut self) {
        let marker = self.published;
        let mut marked = false;
        for _ in 0..20_000 {
            if self.client.is_connected() && self.client.stats().active_subscriptions == 1 && !marked {
                marked = self.client.publish(self.now, "a", &marker.to_be_bytes()).is_ok();
                self.published = marker + u64::from(marked);
            }
            self.settle();
            if self.delivered > marker {
                return;
            }
            // A connection that was lost meanwhile took it along.
            marked &= self.client.is_connected();
            if self.up.is_empty() && self.down.is_empty() {
                self.go_on();
            }
            while let Some(datagram) = self.up.pop_front() {
                self.arrive(self.address, datagram);
            }
            while let Some(mut datagram) = self.down.pop_front() {
                self.client.handle_datagram(self.now, &mut datagram);
            }
        }
        panic!("they do not find each other: {:?} {:?}", self.client.state(), self.client.stats());
    }
}

/// Conversations that go well, and some that do not.
pub fn seeds() -> Vec<Seed> {
    let turn = [op::UP, 0, op::DOWN, 0, op::UP, 0, op::DOWN, 0, op::WAIT, 0];
    let mut plain = vec![0];
    for _ in 0..6 {
        plain.extend(turn);
        plain.extend([op::PUBLISH, 0]);
    }
    let mut bad = vec![1];
    for amount in 0..8 {
        bad.extend([op::PUBLISH, 0, op::ALTER, 31 * amount, op::UP, 0, op::SWAP, 0, op::CUT, amount, op::DOWN, 0]);
        bad.extend(turn);
        bad.extend([op::REPLAY, amount, op::DROP, 0]);
    }
    let mut changes = vec![2];
    for amount in [20, 3, 90, 4] {
        changes.extend(turn.repeat(3));
        changes.extend([op::PUBLISH, 0, op::CHANGE, amount, op::WAIT, 5]);
    }
    vec![("plain".into(), plain), ("bad".into(), bad), ("changes".into(), changes)]
}
