//! A simulated link in virtual time (feature `sim`): seeded, so that every run can be repeated exactly.
//!
//! One [`Link`] carries datagrams in one direction. It is sans-IO like the rest: [`send`](Link::send) puts a datagram
//! in, [`recv`](Link::recv) takes out what has arrived, [`next_arrival`](Link::next_arrival) says when to look again.
//! A [`Relay`] stands between clients and a server as NATs and proxies do, and may forget whose a port was.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use fastrand::Rng;

use crate::time::{Duration, Instant};

/// What a link does to datagrams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Propagation delay.
    pub delay: Duration,
    /// Each datagram takes up to this much longer, evenly spread; more than the spacing of datagrams reorders them.
    pub jitter: Duration,
    /// How many are lost, 0 to 1.
    pub loss: f64,
    /// Mean length of a run of losses in datagrams (Gilbert-Elliott: all lost in the bad state); 1 is independent loss.
    pub burst: f64,
    /// How many arrive twice, 0 to 1.
    pub duplicate: f64,
    /// How many arrive with a flipped bit, 0 to 1.
    pub corrupt: f64,
    /// Bytes per second; `None` is no limit.
    pub bandwidth: Option<u64>,
    /// Bytes that may wait for the bandwidth; beyond that datagrams are dropped at the tail.
    pub queue: usize,
    /// The longest datagram that the link carries; longer ones are lost.
    pub mtu: usize,
    /// Of longer datagrams only so many bytes arrive, as some proxies do.
    pub cut: usize,
}

impl Config {
    /// A link that delivers everything after `delay`.
    pub const fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            duplicate: 0.0,
            corrupt: 0.0,
            bandwidth: None,
            queue: usize::MAX,
            mtu: usize::MAX,
            cut: usize::MAX,
        }
    }
}

/// What happened on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams put in.
    pub sent: u64,
    /// Bytes put in.
    pub bytes: u64,
    /// Datagrams lost.
    pub lost: u64,
    /// Datagrams dropped because the queue was full.
    pub overflowed: u64,
}

/// One direction of a simulated link.
#[derive(Debug)]
pub struct Link {
    config: Config,
    rng: Rng,
    bad: bool,
    down: bool,
    /// When the last byte that waits for the bandwidth will have left.
    free_at: Instant,
    /// What is left of the microsecond in which it leaves, in byte-microseconds per second: small datagrams on a fast
    /// link take fractions of one.
    rest: u64,
    on_the_way: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    order: u64,
    stats: Stats,
}

impl Link {
    /// A link that behaves the same each time for the same `seed`.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            rng: Rng::with_seed(seed),
            bad: false,
            down: false,
            free_at: Instant::ZERO,
            rest: 0,
            on_the_way: BinaryHeap::new(),
            order: 0,
            stats: Stats::default(),
        }
    }

    /// While down, all that is put in is lost.
    pub fn set_down(&mut self, down: bool) {
        self.down = down;
    }

    /// Changes what the link does to datagrams from now on.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How long a datagram that is put in at `now` waits for the bandwidth.
    pub fn queueing_delay(&self, now: Instant) -> Duration {
        self.free_at.since(now)
    }

    /// Puts a datagram in.
    pub fn send(&mut self, now: Instant, datagram: &[u8]) {
        self.stats.sent += 1;
        self.stats.bytes += datagram.len() as u64;
        if self.down || datagram.len() > self.config.mtu {
            // It does not get as far as the queue.
            self.stats.lost += 1;
            return;
        }
        let mut leaves = now;
        if let Some(bandwidth) = self.config.bandwidth.filter(|rate| *rate > 0) {
            let waiting = self.free_at.since(now).as_micros() as u128 * u128::from(bandwidth) / 1_000_000;
            if waiting as usize + datagram.len() > self.config.queue {
                self.stats.overflowed += 1;
                return;
            }
            if self.free_at < now {
                (self.free_at, self.rest) = (now, 0);
            }
            let takes = datagram.len() as u64 * 1_000_000 + self.rest;
            self.rest = takes % bandwidth;
            self.free_at += Duration::from_micros(takes / bandwidth);
            leaves = self.free_at;
        }
        if self.loses() {
            self.stats.lost += 1;
            return;
        }
        let copies = 1 + usize::from(self.rng.f64() < self.config.duplicate);
        for _ in 0..copies {
            let mut copy = datagram.get(..self.config.cut).unwrap_or(datagram).to_vec();
            if self.rng.f64() < self.config.corrupt && !copy.is_empty() {
                let at = self.rng.usize(..copy.len());
                copy[at] ^= 1 << self.rng.u8(..8);
            }
            let jitter = self.rng.u64(..=self.config.jitter.as_micros());
            let arrives = leaves + self.config.delay + Duration::from_micros(jitter);
            self.order += 1;
            self.on_the_way.push(Reverse((arrives, self.order, copy)));
        }
    }

    /// Gilbert-Elliott: in the good state nothing is lost, in the bad one everything.
    fn loses(&mut self) -> bool {
        if self.config.loss <= 0.0 {
            return false;
        }
        let leave_bad = 1.0 / self.config.burst.max(1.0);
        let enter_bad = leave_bad * self.config.loss / (1.0 - self.config.loss).max(f64::MIN_POSITIVE);
        if self.config.burst <= 1.0 {
            return self.rng.f64() < self.config.loss;
        }
        self.bad = if self.bad { self.rng.f64() >= leave_bad } else { self.rng.f64() < enter_bad };
        self.bad
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.on_the_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes out a datagram that has arrived by `now`.
    pub fn recv(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next_arrival()? > now {
            return None;
        }
        self.on_the_way.pop().map(|Reverse((_, _, datagram))| datagram)
    }
}

/// What tells a server's clients apart at a relay: each one's datagrams leave from a port of the relay's own.
#[derive(Clone, Debug)]
pub struct Relay<C> {
    known: Vec<(C, u16)>,
    next: u16,
}

impl<C: Copy + PartialEq> Relay<C> {
    /// A relay that gives ports from `first` on.
    pub fn new(first: u16) -> Self {
        Self { known: Vec::new(), next: first }
    }

    /// The port from which what `client` sends leaves: a new one if it is not known, or not any more.
    pub fn port_of(&mut self, client: C) -> u16 {
        if let Some((_, port)) = self.known.iter().find(|(known, _)| *known == client) {
            return *port;
        }
        let port = self.next;
        self.next = self.next.wrapping_add(1);
        self.known.push((client, port));
        port
    }

    /// Whom it passes on to what comes to a port; `None` if nobody is known there, or not any more.
    pub fn client_of(&self, port: u16) -> Option<C> {
        self.known.iter().find(|(_, known)| *known == port).map(|(client, _)| *client)
    }

    /// Forgets whose the ports were.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(config: Config, len: usize) -> Option<usize> {
        let mut link = Link::new(config, 1);
        link.send(Instant::ZERO, &alloc::vec![7; len]);
        assert!(link.recv(Instant::ZERO).is_none(), "nothing is there at once");
        link.recv(Instant::ZERO + config.delay).map(|datagram| datagram.len())
    }

    #[test]
    fn what_is_too_long_is_lost_or_cut() {
        let clean = Config::clean(Duration::from_millis(1));
        for (len, lost, cut) in [(1_299, Some(1_299), 1_299), (1_300, Some(1_300), 1_300), (1_301, None, 1_300)] {
            assert_eq!(carried(clean, len), Some(len));
            assert_eq!(carried(Config { mtu: 1_300, ..clean }, len), lost);
            assert_eq!(carried(Config { cut: 1_300, ..clean }, len), Some(cut));
        }
    }

    #[test]
    fn a_relay_gives_each_client_a_port_until_it_forgets() {
        let mut relay = Relay::new(7);
        assert_eq!((relay.port_of('a'), relay.port_of('b'), relay.port_of('a')), (7, 8, 7));
        assert_eq!((relay.client_of(7), relay.client_of(8), relay.client_of(9)), (Some('a'), Some('b'), None));
        relay.forget();
        assert_eq!((relay.client_of(7), relay.port_of('a'), relay.client_of(9)), (None, 9, Some('a')));
    }

    #[test]
    fn a_link_that_is_down_loses_everything() {
        let mut link = Link::new(Config::clean(Duration::ZERO), 1);
        link.set_down(true);
        link.send(Instant::ZERO, b"lost");
        link.set_down(false);
        link.send(Instant::ZERO, b"there");
        assert_eq!(link.recv(Instant::ZERO).as_deref(), Some(&b"there"[..]));
        assert_eq!((link.recv(Instant::ZERO), link.stats().lost), (None, 1));
    }
}
