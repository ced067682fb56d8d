//! What follows for a session from what is known of its peer: framing, the engine's part, the length of datagrams.

use super::Session;
use crate::datagram::{Framing, SAFE_DATAGRAM, USUAL_DATAGRAM};
use crate::hello::features;
use crate::kcp::{self, CongestionControl, MtuSearch};
use crate::outbox::{Dialect, FrameStore};
use crate::time::{Duration, Instant};

/// The least retransmission timeout within a machine.
const LOCAL_MIN_RTO: Duration = Duration::from_millis(50);

/// An original peer acknowledges when its clock ticks: a server after this, and nobody knows before it is learned
/// (docs/original.md 3.4). The least timeout is its own (PROTOCOL.md 2.6).
const ORIGINAL_TICK: Duration = Duration::from_millis(20);
const ORIGINAL_MIN_RTO: Duration = Duration::from_millis(30);

/// What a peer may ask for at least; less makes no sense and would leave no room for data.
const MIN_DATAGRAM: u16 = 128;

/// What is known of a native peer.
pub(crate) struct Native {
    /// How datagrams to it are framed: see [`Framing::to_server`] and [`Framing::to_client`].
    pub(crate) framing: Framing,
    /// The longest datagram that is to be sent here, in bytes of UDP payload.
    pub(crate) max_datagram: u16,
    /// The longest that the peer takes.
    pub(crate) accepts: u16,
    /// It runs on this machine.
    pub(crate) local: bool,
    /// See [`features`].
    pub(crate) features: u32,
}

impl<S: FrameStore> Session<S> {
    /// Changes how datagrams are framed and how long they may be, and the engine's share of them with it.
    pub(crate) fn set_framing(&mut self, framing: Framing, max_datagram: u16) {
        self.link.set(framing, max_datagram);
        self.kcp.set_mtu(self.link.mtu());
    }

    /// The same with an original peer. With one on this machine (`local`) there is no link to share.
    pub(crate) fn set_original(&mut self, framing: Framing, max_datagram: u16, local: bool) {
        let mut peer = kcp::Peer::unknown(self.kcp.config());
        peer.min_rto = ORIGINAL_MIN_RTO;
        peer.ack_delay = ORIGINAL_TICK;
        if local {
            peer.congestion = CongestionControl::Off;
        }
        self.kcp.negotiated(peer);
        self.set_framing(framing, max_datagram);
        self.dialect = Dialect::Plain;
    }

    /// The same with a native peer. How long datagrams the path carries is found out, within a machine as well: what an
    /// address says of that is no more than a guess, for a relay or a container may lie between. If the peer does not help it
    /// is taken to be what is usual.
    pub(crate) fn set_native(&mut self, native: &Native) {
        let Native { framing, local, features, .. } = *native;
        let longest = native.max_datagram.min(native.accepts.max(MIN_DATAGRAM));
        let plain = |feature| framing == Framing::Plain && features & features::SUPPORTED & feature != 0;
        let mut peer = kcp::Peer::unknown(self.kcp.config());
        peer.repairs = plain(features::REPAIR);
        peer.pieces = plain(features::PIECES);
        // Native datagrams are certain to begin once the session has a name.
        peer.lanes = plain(features::LANES) && self.knows_lanes() && self.link.named().is_some();
        peer.latest = peer.lanes && plain(features::SUPERSEDES);
        if local {
            // There is no link to share, and silence is a busy process.
            peer.congestion = CongestionControl::Off;
            peer.min_rto = LOCAL_MIN_RTO;
        }
        let length = if plain(features::PROBES) {
            let overhead = self.link.overhead_of(framing);
            let (longest, native) = (longest.saturating_sub(overhead), self.link.named().is_some());
            peer.mtu_search = Some(MtuSearch { longest, overhead, native });
            longest.min(SAFE_DATAGRAM)
        } else {
            longest.min(USUAL_DATAGRAM)
        };
        self.kcp.negotiated(peer);
        self.set_framing(framing, length);
        let extended = features & features::PROPERTIES != 0;
        self.dialect = if extended { Dialect::Extended } else { Dialect::Plain };
    }

    /// The system has refused a datagram of `len` bytes of UDP payload as too long for the path (EMSGSIZE).
    pub(crate) fn on_too_long(&mut self, now: Instant, len: usize) {
        let segments = len.saturating_sub(self.link.headroom());
        self.kcp.on_too_long(now, u16::try_from(segments).unwrap_or(u16::MAX));
        self.follow_mtu();
    }

    /// The engine may have found out that the path carries longer datagrams, or shorter ones only.
    pub(super) fn follow_mtu(&mut self) {
        let mtu = self.kcp.mtu();
        if mtu != self.link.mtu() {
            self.link.set_mtu(mtu);
        }
    }
}

impl Framing {
    /// How to frame what goes to a native server of these features: FEC is over, unless it was chosen and both understand
    /// it.
    #[cfg(feature = "fec")]
    pub(crate) fn to_server(self, theirs: u32) -> Self {
        match self {
            Self::Parity(_) if theirs & features::FEC != 0 => self,
            _ => Self::Plain,
        }
    }

    /// How to frame what goes to a native client of these features: with parity if it wants some.
    #[cfg(feature = "fec")]
    pub(crate) fn to_client(theirs: u32) -> Self {
        const PARITY: u32 = features::FEC | features::WANTS_PARITY;
        if theirs & PARITY == PARITY { Self::Parity(crate::fec::header::Shards::KCPQ) } else { Self::Plain }
    }

    /// What a client says of itself: what it understands, and what it asks for.
    #[cfg(feature = "fec")]
    pub(crate) fn features(self) -> u32 {
        match self {
            Self::Plain | Self::Fec => features::SUPPORTED,
            Self::Parity(_) => features::SUPPORTED | features::WANTS_PARITY,
        }
    }
}

/// The same where there is no parity.
#[cfg(not(feature = "fec"))]
impl Framing {
    pub(crate) fn to_server(self, _: u32) -> Self {
        Self::Plain
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn to_client(_: u32) -> Self {
        Self::Plain
    }

    pub(crate) fn features(self) -> u32 {
        features::SUPPORTED
    }
}
