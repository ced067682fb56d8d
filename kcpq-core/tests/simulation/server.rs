//! The server of a simulation: its shards, what is on its way between them, and what outlives it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use fastrand::Rng;
use kcpq_core::access::Access;
use kcpq_core::broker::{Broker, Config, Ended, Event, Forward, KeptCursor, Keys, LastValues, Relay, SessionId, Stats};
use kcpq_core::time::{Duration, Instant};

use crate::clock::Clock;
use crate::keys;

/// What one shard has for another.
enum Carried {
    Relay(Relay),
    Forward(Forward<SocketAddr>),
}

pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) values: LastValues,
    pub(crate) shards: usize,
    pub(crate) clock: Clock,
    /// None while the server is not there.
    pub(crate) brokers: Vec<Broker<SocketAddr>>,
    /// How often it was started.
    pub(crate) lives: u64,
    /// By from and to: when it arrives, by the world's clock.
    on_the_way: Vec<VecDeque<(Instant, Carried)>>,
    rng: Rng,
    draining: bool,
    /// Who may do what.
    pub(crate) access: Option<Access>,
    /// Who has sessions, as a file keeps it.
    register: BTreeMap<SessionId, (SocketAddr, u64)>,
    /// Why sessions have ended.
    pub(crate) ended: Vec<Ended>,
    /// The counters of lives that are over.
    pub(crate) past: Stats,
}

impl Server {
    pub(crate) fn new(config: Config, values: LastValues, shards: usize, rng: Rng) -> Self {
        Self {
            config: config.shared_by(shards),
            values,
            shards,
            clock: Clock::default(),
            brokers: Vec::new(),
            lives: 0,
            on_the_way: Vec::new(),
            rng,
            draining: false,
            access: None,
            register: BTreeMap::new(),
            ended: Vec::new(),
            past: Stats::default(),
        }
    }

    /// Starts the server; with `register` it knows of its last life what a file would have kept.
    pub(crate) fn start(&mut self, now: Instant, register: bool) {
        self.lives += 1;
        self.draining = false;
        let now = self.clock.read(now);
        let left = std::mem::take(&mut self.register);
        self.on_the_way = (0..self.shards * self.shards).map(|_| VecDeque::new()).collect();
        self.brokers.clear();
        for own in 0..self.shards {
            let seed = self.rng.u64(..);
            let keys = Keys { key: Some(keys::server()), secret: Some(keys::secret()) };
            let mut entropy = [0; 32];
            entropy[..8].copy_from_slice(&self.rng.u64(..).to_le_bytes());
            let broker = Broker::new(self.config.clone(), seed).with_shards(own, self.shards);
            let broker = broker.with_last_values(&self.values).expect("patterns");
            let mut broker = broker.with_secret(&[7; 32]).with_keys(keys, &entropy);
            self.set_access_of(&mut broker, now);
            if register {
                let mine = left.iter().filter(|(_, (peer, _))| self.shard_of(*peer) == own);
                broker.announce(now, mine.clone().map(|(_, there)| *there));
                broker.wait_for(now, mine.map(|(_, (peer, _))| *peer));
            }
            self.brokers.push(broker);
        }
    }

    /// The server is gone.
    pub(crate) fn end(&mut self) {
        self.past = self.stats();
        self.brokers.clear();
        self.on_the_way.clear();
        self.draining = false;
    }

    /// Begins to stop the server as a signal does.
    pub(crate) fn drain(&mut self, now: Instant) {
        let now = self.clock.read(now);
        self.draining = true;
        self.brokers.iter_mut().for_each(|broker| broker.drain(now));
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// The counters of all lives.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.past;
        self.brokers.iter().for_each(|broker| stats.add(&broker.stats()));
        stats
    }

    pub(crate) fn sessions(&self) -> usize {
        self.brokers.iter().map(Broker::sessions).sum()
    }

    fn set_access_of(&self, broker: &mut Broker<SocketAddr>, now: Instant) {
        let access = self.access.clone().map(|access| access.shared_by(self.shards));
        broker.set_access(now, access.as_ref()).expect("rules");
    }

    pub(crate) fn set_access(&mut self, now: Instant, access: Option<Access>) {
        self.access = access;
        let now = self.clock.read(now);
        let mut brokers = std::mem::take(&mut self.brokers);
        brokers.iter_mut().for_each(|broker| self.set_access_of(broker, now));
        self.brokers = brokers;
    }

    /// To which shard the system gives what comes from an address.
    fn shard_of(&self, from: SocketAddr) -> usize {
        let SocketAddr::V4(v4) = from else { return 0 };
        let number = u64::from(u32::from(*v4.ip())) << 16 | u64::from(from.port());
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % self.shards
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let (shard, now) = (self.shard_of(from), self.clock.read(now));
        if let Some(broker) = self.brokers.get_mut(shard) {
            broker.handle_datagram(now, from, datagram);
        }
    }

    pub(crate) fn on_too_long(&mut self, now: Instant, to: SocketAddr, shard: usize, len: usize) {
        let now = self.clock.read(now);
        self.brokers[shard].on_too_long(now, to, len);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let local = self.clock.read(now);
        for broker in &mut self.brokers {
            if broker.poll_timeout().is_some_and(|deadline| deadline.at <= local) {
                broker.handle_timeout(local);
            }
        }
    }

    /// When something happens here without anything from outside, by the world's clock.
    pub(crate) fn next(&self) -> Option<Instant> {
        let timers = self.brokers.iter().filter_map(|broker| Some(self.clock.when(broker.poll_timeout()?.at)));
        let carried = self.on_the_way.iter().filter_map(|queue| Some(self.clock.no_earlier(queue.front()?.0)));
        timers.chain(carried).min()
    }

    /// Carries what shards have for each other. True if anything moved.
    pub(crate) fn carry(&mut self, now: Instant) -> bool {
        let (local, shards) = (self.clock.read(now), self.shards);
        let mut moved = false;
        for from in 0..self.brokers.len() {
            while let Some((to, forward)) = self.brokers[from].poll_forward() {
                self.send(now, from, to, Carried::Forward(forward));
                moved = true;
            }
            while let Some((to, relay)) = self.brokers[from].poll_relay() {
                self.send(now, from, to, Carried::Relay(relay));
                moved = true;
            }
        }
        for index in 0..self.on_the_way.len() {
            while self.on_the_way[index].front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, carried)) = self.on_the_way[index].pop_front() else { break };
                let (from, broker) = (index / shards, &mut self.brokers[index % shards]);
                match carried {
                    Carried::Relay(relay) => broker.handle_relay(local, from, relay),
                    Carried::Forward(forward) => broker.handle_forward(local, forward),
                }
                moved = true;
            }
        }
        moved
    }

    fn send(&mut self, now: Instant, from: usize, to: usize, carried: Carried) {
        let queue = &mut self.on_the_way[from * self.shards + to];
        let at = now + Duration::from_micros(self.rng.u64(1..300));
        let at = queue.back().map_or(at, |(last, _)| at.max(*last));
        queue.push_back((at, carried));
    }

    /// Takes note of what the brokers tell.
    pub(crate) fn take_events(&mut self, trace: impl Fn(String)) {
        for broker in &mut self.brokers {
            while let Some(event) = broker.poll_event() {
                trace(format!("server: {event:?}"));
                match event {
                    Event::Greeted { id, peer, name: Some(name), .. } => {
                        self.register.insert(id, (peer, name));
                    }
                    Event::Moved { id, to, .. } => {
                        if let Some((peer, _)) = self.register.get_mut(&id) {
                            *peer = to;
                        }
                    }
                    Event::Closed { id, why, .. } => {
                        self.register.remove(&id);
                        self.ended.push(why);
                    }
                    _ => {}
                }
            }
        }
    }

    /// True once a server that stops has nothing more to do.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && self.brokers.iter().all(Broker::is_drained)
    }

    /// The last values, as a file keeps them.
    pub(crate) fn save(&self) -> Vec<(bytes::Bytes, Duration, Option<Duration>)> {
        self.brokers.first().map_or_else(Vec::new, kept)
    }

    /// A shard that has other last values than the first one.
    pub(crate) fn differs(&self) -> Option<usize> {
        let frames = |broker| kept(broker).into_iter().map(|(frame, ..)| frame).collect::<Vec<_>>();
        let all: Vec<_> = self.brokers.iter().map(frames).collect();
        all.iter().position(|frames| *frames != all[0])
    }

    pub(crate) fn restore(&mut self, now: Instant, kept: &[(bytes::Bytes, Duration, Option<Duration>)]) {
        let now = self.clock.read(now);
        for broker in &mut self.brokers {
            for (frame, age, left) in kept {
                // What the limits do not let in is not kept.
                let _ = broker.restore(now, frame, *age, *left);
            }
        }
    }
}

/// The last values that a broker has.
fn kept(broker: &Broker<SocketAddr>) -> Vec<(bytes::Bytes, Duration, Option<Duration>)> {
    let (mut from, mut all) = (KeptCursor::default(), Vec::new());
    loop {
        let page = broker.view_kept(&from, 100);
        all.extend(page.items.into_iter().map(|kept| (kept.frame, kept.age, kept.left)));
        match page.next {
            Some(next) => from = next,
            None => return all,
        }
    }
}
