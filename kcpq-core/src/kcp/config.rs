//! The parameters of an engine.

use crate::time::Duration;

/// Stream or messages: whether the peer sees the boundaries between calls of `send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Mode {
    /// A byte stream: segments are filled regardless of calls, and `frg` is 0. What kcpq uses.
    Stream,
    /// Messages: each begins a segment and is delivered whole. At most 255 segments long (docs/original.md 3.2), and no
    /// longer than the receiver's window.
    #[cfg(feature = "kcp-modes")]
    Message,
}

/// Congestion control: what limits the sender besides the two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CongestionControl {
    /// None (the original's `nc = 1`): only for links with bandwidth to spare, as within one machine.
    Off,
    /// KCP's congestion window (`nc = 0`, PROTOCOL.md 2.6): loss-based and halved on loss, as TCP Reno's. For links
    /// that such flows share, and that lose packets by congestion only.
    #[cfg(feature = "kcp-modes")]
    Kcp,
    /// BBR (PROTOCOL.md 2.6): measures bottleneck bandwidth and minimum round trip, paces at that rate and limits the
    /// flight to a small multiple of the BDP. Fills a link but not its queue, and tolerates loss. For everything that
    /// leaves the machine.
    #[cfg(feature = "bbr")]
    Bbr,
}

impl CongestionControl {
    /// The default of the presets `GAMES` and `VIDEO`: [`Bbr`](Self::Bbr), or none without the feature `bbr`, for senders
    /// whose windows are smaller than the BDP of any link.
    #[cfg(feature = "bbr")]
    pub const DEFAULT: Self = Self::Bbr;
    /// The default of the presets `GAMES` and `VIDEO`.
    #[cfg(not(feature = "bbr"))]
    pub const DEFAULT: Self = Self::Off;
}

/// An engine's parameters. Start from one of the presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Maximum size of the segments in one datagram, in bytes, headers included; FEC and cipher headers come on top. At
    /// least [`Config::MIN_MTU`].
    pub mtu: u16,
    /// Send window: maximum unacknowledged segments, but for [`Config::URGENT_RESERVE`]; at least 1.
    pub send_window: u16,
    /// Maximum flight in bytes of data, whatever the windows say: what a peer's socket buffer can hold while its
    /// program is busy. One segment may always be sent. BBR limits the flight itself.
    pub max_in_flight: u32,
    /// Receive window: maximum segments held for the reader; at least 1. The store may hold fewer.
    pub recv_window: u16,
    /// Stream or messages.
    pub mode: Mode,
    /// KCP's `interval`: the maximum acknowledgement delay. It is not a tick: nothing happens unless something is due.
    pub interval: Duration,
    /// Acknowledgement delay, to coalesce acknowledgements with data; at most `interval`. Zero: sent at the end of the
    /// batch of datagrams that brought what is acknowledged.
    pub ack_delay: Duration,
    /// Minimum RTO.
    pub min_rto: Duration,
    /// Minimum margin of the RTO above SRTT, however steady the round trip is. KCP uses its `interval`.
    pub rto_margin: Duration,
    /// KCP's `nodelay`: with each timeout half of the connection's RTO is added to that of the segment, instead of all.
    pub gentle_backoff: bool,
    /// KCP's `resend`: fast retransmit after this many acknowledgements of later segments, unless reordering was seen;
    /// 0 never. Losses that the count does not find are found by RACK (see `send::loss`).
    pub fast_resend: u8,
    /// Outage probes: for this long after the last acknowledgement the oldest segments are retransmitted every half
    /// round trip, so that the session recovers when the link is back and not when a backed-off timer expires. Zero:
    /// never, as in KCP.
    pub outage_probes: Duration,
    /// Maximum redundancy of single-segment messages, in percent, on thin flows, which leave the link mostly idle (see
    /// `redundancy`); bursts of several segments get at most 40 %. The amount follows from the measured loss rate: none
    /// on a clean link. 0 is off, as is everything without the feature `redundancy`.
    pub redundancy: u16,
    /// Congestion control.
    pub congestion: CongestionControl,
    /// First interval of zero-window probes; grows by half each time (PROTOCOL.md 2.7).
    pub window_probe_initial: Duration,
    /// Maximum interval of zero-window probes.
    pub window_probe_limit: Duration,
}

impl Config {
    /// Minimum of [`mtu`](Self::mtu): a header and a little data.
    pub const MIN_MTU: u16 = 64;
    /// Maximum RTO (PROTOCOL.md 2.6).
    pub const MAX_RTO: Duration = Duration::from_secs(60);
    /// Initial window: maximum unacknowledged segments before the peer was heard (PROTOCOL.md 2.3).
    pub const UNHEARD_WINDOW: u16 = 32;

    /// Segments that urgent lanes may have under way beyond the windows of both sides (PROTOCOL.md 2.12).
    pub const URGENT_RESERVE: u16 = 16;

    /// Games, telemetry: lowest latency (`nodelay` 1/10/2/1; the original client's).
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
        window_probe_initial: Duration::from_millis(500),
        window_probe_limit: Duration::from_secs(10),
    };

    /// Video: as `GAMES` with a longer acknowledgement interval (`nodelay` 1/20/2/1; the original server's).
    pub const VIDEO: Self = Self { interval: Duration::from_millis(20), ..Self::GAMES };

    /// Bulk and background flows on shared links: long timeouts, loss-based congestion control (`nodelay` 0/100/0/0).
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

    /// The same with each value clamped to its range.
    pub fn clamped(mut self) -> Self {
        self.mtu = self.mtu.max(Self::MIN_MTU);
        self.send_window = self.send_window.max(1);
        self.recv_window = self.recv_window.max(1);
        // Comparisons, which the compiler does for whoever gives constants.
        let min = |a, b| if b < a { b } else { a };
        let max = |a, b| if b > a { b } else { a };
        self.ack_delay = min(self.ack_delay, self.interval);
        self.min_rto = min(max(self.min_rto, Duration::from_millis(1)), Self::MAX_RTO);
        self.window_probe_initial = max(self.window_probe_initial, Duration::from_millis(10));
        self.window_probe_limit = max(self.window_probe_limit, self.window_probe_initial);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::GAMES
    }
}
