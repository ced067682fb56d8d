//! What an engine counts.

/// Counters of one engine, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stats {
    /// Data segments sent, retransmissions included.
    pub segments_sent: u64,
    /// Data segments received that were new.
    pub segments_received: u64,
    /// Data bytes sent, each counted once.
    pub bytes_sent: u64,
    /// Data bytes received, each counted once.
    pub bytes_received: u64,
    /// Data segments sent again.
    pub retransmitted: u64,
    /// Segments taken for lost because their timer ran out.
    pub lost_timeout: u64,
    /// Segments taken for lost because later ones were acknowledged.
    pub lost_fast: u64,
    /// Segments sent again for nothing: an earlier copy had arrived.
    pub spurious: u64,
    /// Copies and parities sent before anything was known to be lost.
    pub repairs_sent: u64,
    /// Segments rebuilt from parity.
    pub rebuilt: u64,
    /// Data segments received that were there already.
    pub duplicates: u64,
    /// Data segments received that lie outside of the window, or are larger than a slot.
    pub refused: u64,
    /// Datagrams, or rests of them, that were not understood.
    pub malformed: u64,
    /// Datagrams that segments were written to.
    pub datagrams_sent: u64,
    /// Datagrams whose segments were taken in.
    pub datagrams_received: u64,
    /// Times that the peer's closed window was asked about.
    pub window_probes: u64,
    /// Datagrams sent to ask whether the path carries their length.
    #[cfg(feature = "alloc")]
    pub path_probes: u64,
}

impl Stats {
    /// Adds the counters of another engine.
    pub fn add(&mut self, other: &Self) {
        self.segments_sent += other.segments_sent;
        self.segments_received += other.segments_received;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.retransmitted += other.retransmitted;
        self.lost_timeout += other.lost_timeout;
        self.lost_fast += other.lost_fast;
        self.spurious += other.spurious;
        self.repairs_sent += other.repairs_sent;
        self.rebuilt += other.rebuilt;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.malformed += other.malformed;
        self.datagrams_sent += other.datagrams_sent;
        self.datagrams_received += other.datagrams_received;
        self.window_probes += other.window_probes;
        #[cfg(feature = "alloc")]
        {
            self.path_probes += other.path_probes;
        }
    }
}
