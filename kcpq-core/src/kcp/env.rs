//! What the parts of an engine share: the moment, the parameters, the timers and the counters.

use super::config::{Config, Mode};
use super::native::{self, Items, Numbers};
use super::peer::Peer;
use super::recv::Pieces;
use super::repair;
use super::segment::HEADER;
use super::seq::Ts;
use super::stats::Stats;
use super::timers::Timers;
use crate::time::{Duration, Instant};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Env {
    /// The moment of the present call.
    pub(super) now: Instant,
    /// What the user has chosen; it never changes.
    pub(super) config: Config,
    /// What holds for this conversation.
    pub(super) peer: Peer,
    /// How far the wire's clock is ahead of the caller's.
    clock: u32,
    /// The peer has echoed our clock, or need not: it is where it says it is.
    pub(super) proved: bool,
    /// Maximum size of the segments in one datagram, as far as is known by now.
    pub(super) mtu: u16,
    /// Numbers of datagrams, once they are native ones.
    pub(super) numbers: Option<Numbers>,
    pub(super) timers: Timers,
    pub(super) stats: Stats,
}

impl Env {
    pub(super) fn new(config: Config) -> Self {
        Self {
            now: Instant::ZERO,
            mtu: config.mtu,
            numbers: None,
            peer: Peer::unknown(&config),
            config,
            clock: 0,
            proved: true,
            timers: Timers::new(),
            stats: Stats::default(),
        }
    }

    /// For another conversation. What was found of the path is forgotten; the counters go on.
    pub(super) fn reset(&mut self) {
        self.mtu = self.mtu.min(self.config.mtu);
        self.numbers = None;
        self.peer = Peer::unknown(&self.config);
        self.timers = Timers::new();
        self.proved = true;
    }

    /// The peer has to echo this clock before it is believed: see [`Kcp::demand_proof`](super::Kcp::demand_proof).
    #[cfg(feature = "alloc")]
    pub(super) fn demand_proof(&mut self, clock: u32) {
        (self.clock, self.proved) = (clock, false);
    }

    /// What marks what goes out now, and comes back with its acknowledgement: what our clock shows, or the datagram's number.
    pub(super) fn ts(&self) -> Ts {
        self.numbers.as_ref().map_or_else(|| self.clock_now(), |numbers| numbers.stamp(self.now))
    }

    fn clock_now(&self) -> Ts {
        Ts(Ts::of(self.now).0.wrapping_add(self.clock))
    }

    /// True if repairs are understood at both ends.
    pub(super) fn repairs(&self) -> bool {
        self.can_repair(0)
    }

    /// True if segments of `len` bytes of data can be repaired.
    pub(super) fn can_repair(&self, len: usize) -> bool {
        repair::covers(len) && self.peer.repairs && self.config.mode == Mode::Stream
    }

    /// True if a segment of `len` bytes of data fits a datagram.
    pub(super) fn fits(&self, len: u16) -> bool {
        usize::from(len) + HEADER <= usize::from(self.mtu)
    }

    /// True if pieces of segments are understood at both ends.
    pub(super) fn pieces(&self) -> bool {
        Pieces::KNOWN && self.peer.pieces
    }

    /// Most data bytes that a datagram had which carried segments of up to `len`, in pieces if need be.
    pub(super) fn longest_of(&self, len: u16) -> u16 {
        len.min(self.mtu.saturating_sub(HEADER as u16))
    }

    /// Most data bytes in one segment: a repair over it has to fit as well.
    pub(super) fn mss(&self) -> usize {
        let head = if self.numbers.is_some() { native::HEAD } else { HEADER };
        let reserve = if self.repairs() { repair::OVERHEAD } else { 0 };
        usize::from(self.mtu).saturating_sub(head + reserve).max(1)
    }

    /// How long ago that went out of which this is the echo, to the millisecond, as far as is known.
    pub(super) fn age(&self, echo: Ts) -> Option<Duration> {
        match &self.numbers {
            Some(numbers) => numbers.age(self.now, echo),
            None => repair::age(self.clock_now(), echo),
        }
    }

    /// How long ago at least, where [`age`](Self::age) does not know.
    pub(super) fn least_age(&self, echo: Ts) -> Option<Duration> {
        self.numbers.as_ref()?.least_age(self.now, echo)
    }

    /// How a datagram is filled that goes out now, if not with KCP's segments.
    pub(super) fn items(&self) -> Option<Items> {
        self.numbers.as_ref().map(Numbers::items)
    }
}
