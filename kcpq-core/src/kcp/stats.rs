//! The counters of an engine.

/// Counters of one engine, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Stats {
    /// Data segments sent, retransmissions included.
    pub segments_sent: u64,
    /// Data segments received that were new.
    pub segments_received: u64,
    /// Data bytes sent, each counted once.
    pub bytes_sent: u64,
    /// Data bytes received, each counted once.
    pub bytes_received: u64,
    /// Retransmissions.
    pub retransmitted: u64,
    /// Segments considered lost because their retransmission timer (RTO) expired.
    pub lost_timeout: u64,
    /// Segments considered lost because later ones were acknowledged (fast retransmit and RACK).
    pub lost_fast: u64,
    /// Spurious retransmissions: an earlier copy had arrived.
    pub spurious: u64,
    /// Redundancy sent before anything was known to be lost: copies and repairs.
    pub repairs_sent: u64,
    /// Segments rebuilt from repairs.
    pub rebuilt: u64,
    /// Duplicate data segments received.
    pub duplicates: u64,
    /// Data segments received outside of the window, or larger than a slot.
    pub refused: u64,
    /// Malformed datagrams; what precedes the malformed segment has been taken in.
    pub malformed: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Zero-window probes (WASK) sent.
    pub window_probes: u64,
    /// Path MTU probes sent.
    pub mtu_probes: u64,
    /// Times that datagrams became shorter because the path carries less than it did.
    pub narrowed: u64,
    /// Pieces of segments that were sent when the path carried more.
    pub pieces_sent: u64,
    /// Void segments sent, in place of messages that newer ones had superseded (PROTOCOL.md 2.12).
    #[cfg(feature = "lanes")]
    pub voids_sent: u64,
    /// Messages that did not come for that reason, or were not handed on.
    #[cfg(feature = "lanes")]
    pub superseded: u64,
}

impl Stats {
    /// Adds the counters of another engine.
    pub fn add(&mut self, other: &Self) {
        self.with_each(other, |own, other| *own += other);
    }

    /// What was counted since the same engine's counters were these.
    #[cfg(feature = "alloc")]
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        self.with_each(earlier, |own, earlier| *own = own.saturating_sub(earlier));
        self
    }

    fn with_each(&mut self, other: &Self, act: impl Fn(&mut u64, u64)) {
        act(&mut self.segments_sent, other.segments_sent);
        act(&mut self.segments_received, other.segments_received);
        act(&mut self.bytes_sent, other.bytes_sent);
        act(&mut self.bytes_received, other.bytes_received);
        act(&mut self.retransmitted, other.retransmitted);
        act(&mut self.lost_timeout, other.lost_timeout);
        act(&mut self.lost_fast, other.lost_fast);
        act(&mut self.spurious, other.spurious);
        act(&mut self.repairs_sent, other.repairs_sent);
        act(&mut self.rebuilt, other.rebuilt);
        act(&mut self.duplicates, other.duplicates);
        act(&mut self.refused, other.refused);
        act(&mut self.malformed, other.malformed);
        act(&mut self.datagrams_sent, other.datagrams_sent);
        act(&mut self.datagrams_received, other.datagrams_received);
        act(&mut self.window_probes, other.window_probes);
        act(&mut self.mtu_probes, other.mtu_probes);
        act(&mut self.narrowed, other.narrowed);
        act(&mut self.pieces_sent, other.pieces_sent);
        #[cfg(feature = "lanes")]
        {
            act(&mut self.voids_sent, other.voids_sent);
            act(&mut self.superseded, other.superseded);
        }
    }
}
