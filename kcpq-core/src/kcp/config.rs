//! How an engine is set up.

use crate::time::Duration;

/// What the boundaries of `send` mean to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mode {
    /// A stream of bytes: segments are filled whatever the calls were, `frg` is written 0. What kcpq uses.
    Stream,
    /// Messages: each begins a segment and is handed out whole. At most 255 segments long (docs/original.md 3.2), and
    /// no longer than the receiver's window.
    #[cfg(feature = "kcp-modes")]
    Message,
}

/// What holds the sender back besides the two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CongestionControl {
    /// Nothing (the original's `nc = 1`): for links that are known to be wide enough, as within one machine.
    Off,
    /// KCP's own window (`nc = 0`, PROTOCOL.md 2.6): halves on loss, as TCP of old. For links that other flows of that
    /// kind use, and that lose for no other reason.
    #[cfg(feature = "kcp-modes")]
    Kcp,
    /// Measures how fast the link delivers and how short the round trip is, and sends at that pace: fills a link without
    /// filling its queue, whatever it loses (after BBR). For everything that leaves the machine.
    #[cfg(feature = "alloc")]
    Bbr,
}

impl CongestionControl {
    /// What the presets for fast links use: [`Bbr`](Self::Bbr), or nothing without `alloc`, for senders whose windows are
    /// smaller than any link.
    #[cfg(feature = "alloc")]
    pub const DEFAULT: Self = Self::Bbr;
    /// What the presets for fast links use.
    #[cfg(not(feature = "alloc"))]
    pub const DEFAULT: Self = Self::Off;
}

/// An engine's parameters. Start from one of the presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Most bytes of segments in one datagram, headers included; what lies around them (FEC, cipher) comes on top.
    /// At least [`Config::MIN_MTU`].
    pub mtu: u16,
    /// Most segments sent and not acknowledged; at least 1.
    pub send_window: u16,
    /// Most bytes of data sent and not acknowledged, whatever the windows say: what a peer's socket can take in while
    /// its program is busy. At least one segment goes. A congestion control that knows the link bounds them itself.
    pub max_in_flight: u32,
    /// Most segments held for the reader; at least 1. The store may hold fewer.
    pub recv_window: u16,
    /// Stream or messages.
    pub mode: Mode,
    /// KCP's `interval`: the longest that an acknowledgement may wait for company. It is no tick: nothing happens here
    /// unless something is due.
    pub interval: Duration,
    /// How long an acknowledgement waits for data to ride with; at most `interval`. Zero: it goes at the end of the
    /// batch of datagrams that brought what it acknowledges.
    pub ack_delay: Duration,
    /// The least retransmission timeout.
    pub min_rto: Duration,
    /// The least that the retransmission timeout lies above the measured round trip, however steady that is. KCP takes
    /// its `interval` for it.
    pub rto_margin: Duration,
    /// KCP's `nodelay`: the timeout of a segment grows by half of itself each time, not by all.
    pub gentle_backoff: bool,
    /// KCP's `resend`: a segment is sent again after this many acknowledgements of later ones, unless segments were seen
    /// to overtake each other without loss; 0 never. What the count does not find, time does (see `recovery`).
    pub fast_resend: u8,
    /// For how long after the last acknowledgement the oldest segment is sent again every half round trip, so that an
    /// outage ends when the link is back and not when a timer that has backed off runs out. Zero: never, as in KCP.
    pub outage_probes: Duration,
    /// The most repairs for each message of one segment, in percent, on flows that leave the link mostly idle (see
    /// `redundancy`); bursts of several segments get at most 40 %. How many are sent follows from the measured loss:
    /// none on a clean link. 0 is off, and so is everything without the feature `redundancy`.
    pub redundancy: u16,
    /// What else holds the sender back.
    pub congestion: CongestionControl,
    /// First wait before a closed window is asked about; half as long again each time (PROTOCOL.md 2.7).
    pub probe_initial: Duration,
    /// The longest such wait.
    pub probe_limit: Duration,
}

impl Config {
    /// The least that a datagram must hold: a header and a little data.
    pub const MIN_MTU: u16 = 64;
    /// The longest retransmission timeout (PROTOCOL.md 2.6).
    pub const MAX_RTO: Duration = Duration::from_secs(60);
    /// Segments that may be outstanding before the peer was heard (PROTOCOL.md 2.3).
    pub const UNHEARD_WINDOW: u16 = 32;

    /// Games, telemetry: the shortest delays (`nodelay` 1/10/2/1; the original client's).
    pub const GAMES: Self = Self {
        mtu: 1400,
        send_window: 4096,
        max_in_flight: 1_500_000,
        recv_window: 4096,
        mode: Mode::Stream,
        interval: Duration::from_millis(10),
        ack_delay: Duration::ZERO,
        min_rto: Duration::from_millis(5),
        rto_margin: Duration::from_millis(4),
        gentle_backoff: true,
        fast_resend: 2,
        outage_probes: Duration::from_secs(5),
        redundancy: 100,
        congestion: CongestionControl::DEFAULT,
        probe_initial: Duration::from_millis(500),
        probe_limit: Duration::from_secs(10),
    };

    /// Video: as games, a little less eager (`nodelay` 1/20/2/1; the original server's).
    pub const VIDEO: Self = Self { interval: Duration::from_millis(20), ..Self::GAMES };

    /// Steady flows over shared links: patient and with congestion control (`nodelay` 0/100/0/0).
    #[cfg(feature = "kcp-modes")]
    pub const STEADY: Self = Self {
        interval: Duration::from_millis(100),
        min_rto: Duration::from_millis(100),
        rto_margin: Duration::from_millis(100),
        gentle_backoff: false,
        fast_resend: 0,
        redundancy: 0,
        congestion: CongestionControl::Kcp,
        ..Self::GAMES
    };

    /// The same with values out of range set to the nearest in range.
    pub fn clamped(mut self) -> Self {
        self.mtu = self.mtu.max(Self::MIN_MTU);
        self.send_window = self.send_window.max(1);
        self.recv_window = self.recv_window.max(1);
        self.ack_delay = self.ack_delay.min(self.interval);
        self.min_rto = self.min_rto.max(Duration::from_millis(1)).min(Self::MAX_RTO);
        self.probe_initial = self.probe_initial.max(Duration::from_millis(10));
        self.probe_limit = self.probe_limit.max(self.probe_initial);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::GAMES
    }
}
