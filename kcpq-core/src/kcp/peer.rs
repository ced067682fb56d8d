//! What is known of the peer, and of the path to it, before anything was measured.

use super::config::{Config, CongestionControl};
use crate::time::Duration;

/// What both ends have agreed upon, and what one of them knows besides. It holds for one conversation, stands beside what
/// the user has configured, and is replaced as a whole: see [`Kcp::negotiated`](super::Kcp::negotiated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Peer {
    /// Minimum RTO, at most [`Config::MAX_RTO`].
    pub min_rto: Duration,
    /// Minimum margin of the RTO above SRTT, at most [`Config::MAX_RTO`].
    pub rto_margin: Duration,
    /// The peer collects acknowledgements for about so long, until they have shown how long that is (PROTOCOL.md 2.6).
    /// Zero: it acknowledges at once.
    pub ack_delay: Duration,
    /// Congestion control.
    pub congestion: CongestionControl,
    /// Both ends know [`Command::Repair`](super::Command::Repair). For stream mode.
    pub repairs: bool,
    /// Both ends know [`Command::Piece`](super::Command::Piece). For stream mode.
    pub pieces: bool,
    /// Both ends know lanes (PROTOCOL.md 2.12); they are used in native datagrams. For stream mode.
    pub lanes: bool,
    /// Both ends know messages in lanes of which only the latest counts (PROTOCOL.md 2.12).
    pub latest: bool,
    /// Both ends know [`Command::MtuProbe`](super::Command::MtuProbe), and it is to be found out how long datagrams may be.
    pub mtu_search: Option<MtuSearch>,
}

/// What is to be found out of the path's MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MtuSearch {
    /// The longest segments of one datagram to look for, in bytes, headers included.
    pub longest: u16,
    /// Bytes of a datagram that lie around its segments.
    pub overhead: u16,
    /// That is so in native datagrams: it is begun with the first one.
    pub native: bool,
}

impl Peer {
    /// A peer of which nothing is known: what was configured holds.
    pub fn unknown(config: &Config) -> Self {
        Self {
            min_rto: config.min_rto,
            rto_margin: config.rto_margin,
            ack_delay: Duration::ZERO,
            congestion: config.congestion,
            repairs: false,
            pieces: false,
            lanes: false,
            latest: false,
            mtu_search: None,
        }
    }

    /// The same with each value clamped to its range.
    pub(super) fn clamped(mut self) -> Self {
        self.min_rto = self.min_rto.min(Config::MAX_RTO);
        self.rto_margin = self.rto_margin.min(Config::MAX_RTO);
        self
    }
}
