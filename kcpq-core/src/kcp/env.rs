//! What the parts of an engine share: the moment, the parameters, the timers and the counters.

use super::config::{Config, Mode};
use super::peer::Peer;
use super::recv::Pieces;
use super::repair;
use super::segment::HEADER;
use super::seq::Ts;
use super::stats::Stats;
use super::timers::Timers;
use crate::time::Instant;

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
    pub(super) timers: Timers,
    pub(super) stats: Stats,
}

impl Env {
    pub(super) fn new(config: Config) -> Self {
        Self {
            now: Instant::ZERO,
            mtu: config.mtu,
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
        self.peer = Peer::unknown(&self.config);
        self.timers = Timers::new();
        self.proved = true;
    }

    /// The peer has to echo this clock before it is believed: see [`Kcp::demand_proof`](super::Kcp::demand_proof).
    #[cfg(feature = "alloc")]
    pub(super) fn demand_proof(&mut self, clock: u32) {
        (self.clock, self.proved) = (clock, false);
    }

    /// What the wire's clock shows.
    pub(super) fn ts(&self) -> Ts {
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
        let reserve = if self.repairs() { repair::OVERHEAD } else { 0 };
        usize::from(self.mtu).saturating_sub(HEADER + reserve).max(1)
    }
}
