//! How much the round trips of a path vary by themselves.

use crate::time::Duration;

/// A queue grows and shrinks over several round trips. So what counts is by how much one sticks out: from the one before and
/// from the one behind, whichever is less.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Jitter {
    last: Option<Duration>,
    /// By how much the last one was longer than the one before, or shorter.
    rise: Duration,
    fall: Duration,
    /// Smoothed.
    mean: Duration,
    samples: u8,
}

/// How many times the mean a round trip is longer than the least one at most, as a rule: where each way takes anything up to
/// some most, which is the worst kind, this is the sum of both in more than eight of ten cases.
const REACH: u32 = 6;
/// Samples over which the mean is taken.
const SPAN: u8 = 32;

impl Jitter {
    /// A round trip took `rtt`.
    pub(super) fn on_sample(&mut self, rtt: Duration) {
        let Some(last) = self.last.replace(rtt) else { return };
        let (rise, fall) = (rtt - last, last - rtt);
        let sticks_out = self.rise.min(fall).max(self.fall.min(rise));
        (self.rise, self.fall) = (rise, fall);
        self.samples = self.samples.saturating_add(1);
        let span = u32::from(self.samples.min(SPAN));
        self.mean = (self.mean.saturating_mul(span - 1) + sticks_out).div(span);
    }

    /// By how much round trips stick out in the mean.
    pub(super) fn mean(&self) -> Duration {
        self.mean
    }

    /// How many samples there were, as far as that is counted.
    pub(super) fn samples(&self) -> u8 {
        self.samples
    }

    /// By how much a round trip may be longer than the least, where they stick out by `mean`.
    pub(super) fn reach(mean: Duration) -> Duration {
        mean.saturating_mul(REACH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn after(round_trips: impl IntoIterator<Item = u64>) -> u64 {
        let mut jitter = Jitter::default();
        round_trips.into_iter().for_each(|micros| jitter.on_sample(Duration::from_micros(micros)));
        Jitter::reach(jitter.mean()).as_millis()
    }

    #[test]
    fn a_queue_that_grows_and_shrinks_is_none() {
        assert_eq!(after((0..400).map(|n| 30_000 + 40_000 * (n % 40) / 40)), 0);
    }

    #[test]
    fn what_comes_and_goes_from_one_to_the_next_is() {
        for most in [10, 20, 50] {
            let mut rng = Rng::with_seed(most);
            let mut way = || rng.u64(..most * 1_000);
            let reach = after((0..400).map(|_| 30_000 + way() + way()));
            assert!((most * 8 / 10..=most * 2).contains(&reach), "{reach} ms of twice {most}");
        }
    }
}
