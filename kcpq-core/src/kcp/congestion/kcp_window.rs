//! KCP's own congestion window (PROTOCOL.md 2.6): loss-based, as TCP Reno's.

use super::Controller;
use crate::kcp::config::CongestionControl;

/// In segments and bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::kcp) struct KcpWindow {
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

impl KcpWindow {
    /// KCP's window, if that was chosen.
    pub(super) fn chosen(kind: CongestionControl, mss: u32) -> Option<Self> {
        let new = Self { window: 1, threshold: MIN_THRESHOLD, incr: mss, mss, before_loss: None };
        (kind == CongestionControl::Kcp).then_some(new)
    }
}

impl Controller for KcpWindow {
    fn window(&self) -> u32 {
        self.window
    }

    fn set_mss(&mut self, mss: u32) {
        if self.mss != mss {
            self.mss = mss;
            self.incr = self.window.saturating_mul(mss);
        }
    }

    fn on_progress(&mut self, remote: u16) {
        let (remote, mss) = (u32::from(remote), self.mss.max(1));
        if self.window >= remote {
            return;
        }
        if self.window < self.threshold {
            self.window += 1;
            self.incr = self.incr.saturating_add(mss);
        } else {
            self.incr = self.incr.max(mss);
            self.incr = self.incr.saturating_add(mss.saturating_mul(mss) / self.incr + mss / 16);
            if (self.window + 1).saturating_mul(mss) <= self.incr {
                self.window = self.incr.div_ceil(mss);
            }
        }
        if self.window > remote {
            self.window = remote.max(1);
            self.incr = self.window.saturating_mul(mss);
        }
    }

    fn on_fast_loss(&mut self, in_flight: u32, resend: u8) {
        self.before_loss = Some((self.window, self.threshold, self.incr));
        self.threshold = (in_flight / 2).max(MIN_THRESHOLD);
        self.window = self.threshold + u32::from(resend);
        self.incr = self.window.saturating_mul(self.mss);
    }

    fn on_timeout(&mut self) {
        self.before_loss = Some((self.window, self.threshold, self.incr));
        self.threshold = (self.window / 2).max(MIN_THRESHOLD);
        self.window = 1;
        self.incr = self.mss;
    }

    fn on_spurious(&mut self) {
        if let Some((window, threshold, incr)) = self.before_loss.take() {
            self.window = self.window.max(window);
            self.threshold = self.threshold.max(threshold);
            self.incr = self.incr.max(incr);
        }
    }
}
