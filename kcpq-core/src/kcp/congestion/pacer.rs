//! The pacer: a token bucket that spreads segments over time.

use crate::time::{Duration, Instant};

/// How fast to send.
pub(super) struct Pacing {
    /// Bytes per second; not 0.
    pub(super) rate: u64,
    /// Bytes that are released together after a wait.
    pub(super) quantum: u64,
    /// Bytes that may be sent at once after a pause.
    pub(super) burst: u64,
    /// Bytes that may be sent before their time.
    pub(super) credit: u64,
}

/// The bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pacer {
    /// Bytes that may be sent; negative after more was sent.
    tokens: i64,
    filled_at: Instant,
}

impl Pacer {
    /// A bucket with `tokens` bytes.
    pub(super) fn new(tokens: u64) -> Self {
        Self { tokens: tokens as i64, filled_at: Instant::ZERO }
    }

    /// `len` bytes are sent.
    pub(super) fn spend(&mut self, len: u16) {
        self.tokens -= i64::from(len);
    }

    /// True if there is something left of what was filled in at this moment: the next segment may be sent.
    pub(super) fn is_filled(&self, now: Instant) -> bool {
        self.tokens > 0 && self.filled_at == now
    }

    /// When the next segment may be sent, if not now.
    pub(super) fn release_at(&mut self, now: Instant, pacing: &Pacing) -> Option<Instant> {
        let Pacing { rate, quantum, burst, credit } = *pacing;
        let earned = u128::from(rate) * u128::from(now.since(self.filled_at).as_micros()) / 1_000_000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX)).min(burst as i64);
            self.filled_at = now;
        }
        let tokens = self.tokens + credit as i64;
        if tokens > 0 {
            return None;
        }
        // Not before a quantum is there, so that several datagrams go together.
        let lacks = (quantum as i64 - tokens) as u64;
        Some(now + Duration::from_micros((lacks * 1_000_000).div_ceil(rate.max(1)).max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_keeps_to_the_rate_and_goes_in_quanta() {
        let pacing = Pacing { rate: 1_000_000, quantum: 3_000, burst: 10_000, credit: 0 };
        let mut pacer = Pacer::new(10_000);
        let (mut now, mut sent) = (Instant::from_millis(1), 0);
        let begun = now;
        while now < begun + Duration::from_secs(1) {
            match pacer.release_at(now, &pacing) {
                Some(at) => {
                    assert!(at.since(now) >= Duration::from_millis(3), "a quantum takes three milliseconds");
                    now = at;
                }
                None => {
                    pacer.spend(1_000);
                    sent += 1_000;
                }
            }
        }
        assert!((1_000_000..=1_013_000).contains(&sent), "{sent} bytes in a second, a burst included");
    }
}
