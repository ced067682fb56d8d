//! Round-trip time (SRTT, RTTVAR) and the retransmission timeout (RTO): RFC 6298 with KCP's weights (PROTOCOL.md 2.6).

use crate::time::Duration;

/// No sample and no margin counts as longer, so that the arithmetic fits 32 bits: 268 s.
const LONGEST: Duration = Duration::from_micros(1 << 28);

/// The estimator. Works in microseconds; the shifts are the original's, so in milliseconds it gives the original's
/// numbers (see the tests).
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rtt {
    srtt: i32,
    rttvar: i32,
    rto: Duration,
    last: Duration,
    least: Duration,
}

impl Rtt {
    /// No sample yet: the timeout is 200 ms.
    pub const fn new() -> Self {
        Self { srtt: 0, rttvar: 0, rto: Duration::from_millis(200), last: Duration::ZERO, least: Duration::MAX }
    }

    /// Takes one sample. `interval` is the minimum of the margin 4 * rttvar, `min` that of the RTO.
    pub fn sample(&mut self, sample: Duration, interval: Duration, min: Duration, max: Duration) {
        self.last = sample.min(max).min(LONGEST);
        self.least = self.least.min(self.last);
        let sample = self.last.as_micros() as i32;
        if self.srtt == 0 {
            self.srtt = sample;
            self.rttvar = sample >> 1;
        } else {
            let delta = sample - self.srtt;
            self.srtt += delta >> 3;
            let weight = if sample < self.srtt - self.rttvar { 5 } else { 2 };
            self.rttvar += (delta.abs() - self.rttvar) >> weight;
        }
        let margin = (4 * self.rttvar).max(interval.min(LONGEST).as_micros() as i32);
        self.rto = Duration::from_micros((self.srtt + margin).max(0) as u64).max(min).min(max);
    }

    /// The smoothed round-trip time (SRTT), if there was a sample.
    pub fn smoothed(&self) -> Option<Duration> {
        (self.least != Duration::MAX).then(|| Duration::from_micros(self.srtt.max(0) as u64))
    }

    /// The mean deviation of the round-trip time (RTTVAR).
    pub fn rttvar(&self) -> Duration {
        Duration::from_micros(self.rttvar.max(0) as u64)
    }

    /// The last sample, zero before the first.
    pub fn last(&self) -> Duration {
        self.last
    }

    /// The minimum round-trip time, if there was a sample.
    pub fn least(&self) -> Option<Duration> {
        (self.least != Duration::MAX).then_some(self.least)
    }

    /// The retransmission timeout (RTO).
    pub fn rto(&self) -> Duration {
        self.rto
    }
}

impl Default for Rtt {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_sets_and_later_ones_smooth() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.smoothed(), None);
        let (interval, min, max) = (Duration::from_millis(10), Duration::from_millis(30), Duration::from_secs(60));
        rtt.sample(Duration::from_millis(100), interval, min, max);
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(100)));
        assert_eq!(rtt.rto(), Duration::from_millis(300));
        for _ in 0..100 {
            rtt.sample(Duration::from_millis(20), interval, min, max);
        }
        assert!(rtt.smoothed().unwrap() < Duration::from_millis(21));
        assert_eq!(rtt.rto(), min.max(rtt.rto()));
    }

    #[test]
    fn absurd_samples_neither_overflow_nor_pass_the_limit() {
        let mut rtt = Rtt::new();
        for sample in [Duration::MAX, Duration::ZERO, Duration::MAX] {
            rtt.sample(sample, Duration::ZERO, Duration::from_millis(30), Duration::from_secs(60));
            assert!(rtt.rto() <= Duration::from_secs(60));
        }
    }
}
