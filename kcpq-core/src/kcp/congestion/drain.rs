//! How a queue reacts to flows that send less than arrives of them.

use crate::time::Duration;

/// A queue that is to drain now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) rounds: u8,
    /// The longest queue in its first rounds, the shortest since it began, and the last one.
    most: Duration,
    pub(super) least: Duration,
    last: Duration,
    /// Rounds on end in which the queue stayed as it was.
    still: u8,
    /// The rate of delivery when it began, in bytes per second.
    pub(super) delivery: u64,
}

/// A queue that is ours drains by a quarter in so many rounds, and is gone in so many.
pub(super) const REACTS: u8 = 3;
const DRAINS: u8 = 10;
/// What looks like a queue and does not change in so many rounds is none.
const STEADY: u8 = 2;
/// Queues that differ less are the same.
const SAME: Duration = Duration::from_millis(1);

impl Drain {
    /// Of a `queue`, while `delivery` bytes arrive in a second.
    pub(super) fn new(queue: Duration, delivery: u64) -> Self {
        Self { rounds: 0, most: queue, least: queue, last: Duration::MAX, still: 0, delivery }
    }

    /// A round is over that has seen this `queue`. True if it is no shorter than before.
    pub(super) fn observe(&mut self, queue: Duration) -> bool {
        let is_same = queue + SAME >= self.last && self.last + SAME >= queue;
        let is_longer = queue >= self.last;
        self.still = if is_same { self.still + 1 } else { 0 };
        self.rounds += 1;
        if self.rounds < REACTS {
            self.most = self.most.max(queue);
        }
        self.least = self.least.min(queue);
        self.last = queue;
        is_longer
    }

    /// True if what looks like a queue is the time in which a segment leaves, of `longest` bytes at most: always the same, and
    /// no longer than it takes at the rate of delivery.
    pub(super) fn is_serialization(&self, longest: u16) -> bool {
        let update = u64::from(longest) * 1_250_000 / self.delivery.max(1);
        self.still >= STEADY && self.last.as_micros() <= update
    }

    /// True if the queue does not react: it may have been shorter when this began.
    pub(super) fn is_in_vain(&self) -> bool {
        self.rounds > DRAINS || self.rounds > REACTS && self.last.saturating_mul(4) > self.most.saturating_mul(3)
    }
}

/// Whether draining makes the queue shorter, in the mean over many times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effect {
    /// The queue in the mean: now, when it was to drain last, and at its shortest since.
    mean: Duration,
    before: Duration,
    shortest: Duration,
    /// How often on end it did not help, as known when it is to drain again.
    in_vain: u8,
    /// It has helped: the path has a queue that is ours.
    pub(super) is_proved: bool,
}

/// A drain helps after which the queue is less than so many percent of what it was, in the mean; after so many on end that do
/// not help there was none.
const HELPS: u32 = 85;
const IN_VAIN: u8 = 5;

impl Effect {
    pub(super) fn on_sample(&mut self, queue: Duration) {
        self.mean = (self.mean.saturating_mul(15) + queue).div(16);
        self.shortest = self.shortest.min(self.mean);
    }

    /// A queue is to drain for the first time.
    pub(super) fn forget(&mut self) {
        (self.before, self.in_vain) = (Duration::ZERO, 0);
    }

    pub(super) fn begin(&mut self) {
        self.in_vain = self.times_in_vain();
        self.is_proved |= self.in_vain == 0;
        (self.before, self.shortest) = (self.mean, self.mean);
    }

    fn times_in_vain(&self) -> u8 {
        let helped = self.shortest.as_micros() * 100 < self.before.as_micros().saturating_mul(HELPS.into());
        if helped { 0 } else { self.in_vain + 1 }
    }

    /// True if it has not helped for too often.
    pub(super) fn is_none(&self) -> bool {
        self.times_in_vain() >= IN_VAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_queue_is_not_ours_that_is_not_shorter_by_a_quarter_after_three_rounds() {
        let (mut stays, mut drains) = (Drain::new(ms(40), 1_000_000), Drain::new(ms(40), 1_000_000));
        for _ in 0..REACTS {
            stays.observe(ms(40));
            drains.observe(ms(30));
            assert!(!stays.is_in_vain());
        }
        stays.observe(ms(40));
        drains.observe(ms(30));
        assert!(stays.is_in_vain() && !drains.is_in_vain());
        // Nor if it is not gone after ten.
        for _ in REACTS + 1..DRAINS {
            drains.observe(ms(20));
        }
        assert!(!drains.is_in_vain());
        drains.observe(ms(20));
        assert!(drains.is_in_vain());
    }
}
