//! What holds the sender back besides the windows of both ends.

use super::config::CongestionControl;

/// The state of the chosen [`CongestionControl`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Congestion {
    Off,
    Kcp(KcpWindow),
}

/// KCP's own congestion window (WIRE.md 2.8), in segments and bytes.
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

/// Least slow-start threshold (WIRE.md 2.2).
const MIN_THRESHOLD: u32 = 2;

impl Congestion {
    pub(super) fn new(kind: CongestionControl, mss: usize) -> Self {
        let mss = mss as u32;
        match kind {
            CongestionControl::Off => Self::Off,
            CongestionControl::Kcp => Self::Kcp(KcpWindow {
                window: 1,
                threshold: MIN_THRESHOLD,
                incr: mss,
                mss: mss.max(1),
                before_loss: None,
            }),
        }
    }

    /// Most segments in flight.
    pub(super) fn window(&self) -> u32 {
        match self {
            Self::Off => u32::MAX,
            Self::Kcp(kcp) => kcp.window,
        }
    }

    /// The cumulative acknowledgement moved on; the peer's window is `remote`.
    pub(super) fn on_progress(&mut self, remote: u16) {
        let Self::Kcp(kcp) = self else { return };
        let remote = u32::from(remote);
        if kcp.window >= remote {
            return;
        }
        if kcp.window < kcp.threshold {
            kcp.window += 1;
            kcp.incr = kcp.incr.saturating_add(kcp.mss);
        } else {
            kcp.incr = kcp.incr.max(kcp.mss);
            kcp.incr = kcp.incr.saturating_add(kcp.mss.saturating_mul(kcp.mss) / kcp.incr + kcp.mss / 16);
            if (kcp.window + 1).saturating_mul(kcp.mss) <= kcp.incr {
                kcp.window = kcp.incr.div_ceil(kcp.mss);
            }
        }
        if kcp.window > remote {
            kcp.window = remote.max(1);
            kcp.incr = kcp.window.saturating_mul(kcp.mss);
        }
    }

    /// Segments were found lost by later acknowledgements; `in_flight` were outstanding.
    pub(super) fn on_fast_loss(&mut self, in_flight: u32, resend: u8) {
        let Self::Kcp(kcp) = self else { return };
        kcp.before_loss = Some((kcp.window, kcp.threshold, kcp.incr));
        kcp.threshold = (in_flight / 2).max(MIN_THRESHOLD);
        kcp.window = kcp.threshold + u32::from(resend);
        kcp.incr = kcp.window.saturating_mul(kcp.mss);
    }

    /// A segment's timer ran out.
    pub(super) fn on_timeout(&mut self) {
        let Self::Kcp(kcp) = self else { return };
        kcp.before_loss = Some((kcp.window, kcp.threshold, kcp.incr));
        kcp.threshold = (kcp.window / 2).max(MIN_THRESHOLD);
        kcp.window = 1;
        kcp.incr = kcp.mss;
    }
    /// A segment that was taken for lost had arrived: what was taken back is given again.
    pub(super) fn on_spurious(&mut self) {
        let Self::Kcp(kcp) = self else { return };
        if let Some((window, threshold, incr)) = kcp.before_loss.take() {
            kcp.window = kcp.window.max(window);
            kcp.threshold = kcp.threshold.max(threshold);
            kcp.incr = kcp.incr.max(incr);
        }
    }
}
