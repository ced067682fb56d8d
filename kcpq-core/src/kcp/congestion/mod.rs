//! Congestion control: what limits the sender besides the windows of both ends.

#[cfg(feature = "alloc")]
mod bbr;

#[cfg(feature = "alloc")]
pub(super) use bbr::{Bbr, Snapshot};

use super::config::CongestionControl;
use crate::time::{Duration, Instant};

/// The state of the chosen [`CongestionControl`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Congestion {
    Off,
    #[cfg(feature = "kcp-modes")]
    Kcp(KcpWindow),
    #[cfg(feature = "alloc")]
    Bbr(Bbr),
}

/// Nothing needs to be remembered for each segment.
#[cfg(not(feature = "alloc"))]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Snapshot(());

/// KCP's own congestion window (PROTOCOL.md 2.6), in segments and bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct KcpWindow {
    window: u32,
    threshold: u32,
    /// Bytes that may be in flight; grows by fractions of a segment.
    incr: u32,
    mss: u32,
    /// Window, threshold and bytes before the last loss.
    before_loss: Option<(u32, u32, u32)>,
}

/// Least slow-start threshold (PROTOCOL.md 2.6).
const MIN_THRESHOLD: u32 = 2;

impl Congestion {
    pub(super) fn new(kind: CongestionControl, mss: usize) -> Self {
        match kind {
            CongestionControl::Off => {
                let _ = mss;
                Self::Off
            }
            #[cfg(feature = "kcp-modes")]
            CongestionControl::Kcp => Self::Kcp(KcpWindow {
                window: 1,
                threshold: MIN_THRESHOLD,
                incr: mss as u32,
                mss: (mss as u32).max(1),
                before_loss: None,
            }),
            #[cfg(feature = "alloc")]
            CongestionControl::Bbr => Self::Bbr(Bbr::new(mss as u32)),
        }
    }

    /// The congestion window in segments.
    pub(super) fn window(&self) -> u32 {
        match self {
            #[cfg(feature = "kcp-modes")]
            Self::Kcp(kcp) => kcp.window,
            _ => u32::MAX,
        }
    }

    /// True if another segment may be sent while `pipe` bytes are in flight.
    pub(super) fn admits(&self, pipe: u32) -> bool {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => u64::from(pipe) < bbr.window(),
            _ => {
                let _ = pipe;
                true
            }
        }
    }

    /// The peer delays acknowledgements by up to `tick`.
    pub(super) fn set_tick(&mut self, tick: Duration) {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => bbr.set_tick(tick),
            _ => {
                let _ = tick;
            }
        }
    }

    /// True if it is rate-based: it limits the flight to a multiple of the BDP itself.
    pub(super) fn knows_the_link(&self) -> bool {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(_) => true,
            _ => false,
        }
    }

    /// When the pacer releases the next segment, if not now.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => bbr.wait(now),
            _ => {
                let _ = now;
                None
            }
        }
    }

    /// A segment of `len` bytes leaves; `pipe` were in flight before.
    pub(super) fn on_sent(&mut self, now: Instant, len: u16, pipe: u32) -> Snapshot {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => bbr.on_sent(now, u32::from(len), pipe),
            _ => {
                let _ = (now, len, pipe);
                Snapshot::default()
            }
        }
    }

    /// App-limited: all that was queued has been sent, and the window would allow more.
    pub(super) fn on_limited(&mut self, pipe: u32) {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => bbr.on_limited(pipe),
            _ => {
                let _ = pipe;
            }
        }
    }

    /// A segment of `len` bytes was acknowledged for the first time.
    pub(super) fn on_acked(&mut self, now: Instant, len: u16) {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => bbr.on_acked(now, u32::from(len)),
            _ => {
                let _ = (now, len);
            }
        }
    }

    /// A segment of `len` bytes is considered lost.
    pub(super) fn on_lost(&mut self, bytes: u32) {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => bbr.on_lost(bytes),
            _ => {
                let _ = bytes;
            }
        }
    }

    /// The newest segment that a datagram acknowledged was sent at `sent_at` and took `rtt`; `pipe` bytes are still in
    /// flight.
    pub(super) fn on_sample(&mut self, now: Instant, sent_at: Instant, rtt: Duration, snapshot: Snapshot, pipe: u32) {
        match self {
            #[cfg(feature = "alloc")]
            Self::Bbr(bbr) => bbr.on_sample(now, sent_at, rtt, snapshot, pipe),
            _ => {
                let _ = (now, sent_at, rtt, snapshot, pipe);
            }
        }
    }

    /// KCP's own window, if that was chosen.
    fn kcp(&mut self) -> Option<&mut KcpWindow> {
        match self {
            #[cfg(feature = "kcp-modes")]
            Self::Kcp(kcp) => Some(kcp),
            _ => None,
        }
    }

    /// The cumulative acknowledgement moved on; the peer's window is `remote`.
    pub(super) fn on_progress(&mut self, remote: u16) {
        let Some(kcp) = self.kcp() else { return };
        let (remote, mss) = (u32::from(remote), kcp.mss.max(1));
        if kcp.window >= remote {
            return;
        }
        if kcp.window < kcp.threshold {
            kcp.window += 1;
            kcp.incr = kcp.incr.saturating_add(mss);
        } else {
            kcp.incr = kcp.incr.max(mss);
            kcp.incr = kcp.incr.saturating_add(mss.saturating_mul(mss) / kcp.incr + mss / 16);
            if (kcp.window + 1).saturating_mul(mss) <= kcp.incr {
                kcp.window = kcp.incr.div_ceil(mss);
            }
        }
        if kcp.window > remote {
            kcp.window = remote.max(1);
            kcp.incr = kcp.window.saturating_mul(mss);
        }
    }

    /// Segments were found lost by later acknowledgements; `in_flight` were outstanding.
    pub(super) fn on_fast_loss(&mut self, in_flight: u32, resend: u8) {
        let Some(kcp) = self.kcp() else { return };
        kcp.before_loss = Some((kcp.window, kcp.threshold, kcp.incr));
        kcp.threshold = (in_flight / 2).max(MIN_THRESHOLD);
        kcp.window = kcp.threshold + u32::from(resend);
        kcp.incr = kcp.window.saturating_mul(kcp.mss);
    }

    /// A segment's RTO expired.
    pub(super) fn on_timeout(&mut self) {
        let Some(kcp) = self.kcp() else { return };
        kcp.before_loss = Some((kcp.window, kcp.threshold, kcp.incr));
        kcp.threshold = (kcp.window / 2).max(MIN_THRESHOLD);
        kcp.window = 1;
        kcp.incr = kcp.mss;
    }

    /// A spurious loss: a segment that was considered lost had arrived. The reaction is undone.
    pub(super) fn on_spurious(&mut self) {
        let Some(kcp) = self.kcp() else { return };
        if let Some((window, threshold, incr)) = kcp.before_loss.take() {
            kcp.window = kcp.window.max(window);
            kcp.threshold = kcp.threshold.max(threshold);
            kcp.incr = kcp.incr.max(incr);
        }
    }
}
