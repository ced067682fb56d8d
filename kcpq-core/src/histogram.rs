//! How often values were how great: counts between fixed bounds, which cost little and can be added up.

use core::marker::PhantomData;

/// Bounds of every scale.
pub const BOUNDS: usize = 16;

/// What is measured, and where the bounds are.
pub trait Scale {
    /// Ascending. A value that is equal to one counts as below it.
    const UP_TO: [u64; BOUNDS];
}

/// Times in microseconds, from 100 us to 10 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Micros;

impl Scale for Micros {
    const UP_TO: [u64; BOUNDS] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000,
    ];
}

/// Numbers of things, from none to 50,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Things;

impl Scale for Things {
    const UP_TO: [u64; BOUNDS] = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];
}

/// Counts of values. None of them ever goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram<S> {
    counts: [u64; BOUNDS],
    above: u64,
    sum: u64,
    scale: PhantomData<S>,
}

impl<S: Scale> Histogram<S> {
    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        *self.place(value) += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    /// Counts so many values that are the same.
    pub fn record_many(&mut self, value: u64, count: u32) {
        *self.place(value) += u64::from(count);
        self.sum = self.sum.wrapping_add(value.wrapping_mul(count.into()));
    }

    /// Counts so many values that lie evenly from `least` to `greatest`, both included if there are two.
    pub fn record_evenly(&mut self, least: u64, greatest: u64, count: u32) {
        let count = u64::from(count);
        self.sum = self.sum.wrapping_add((least + greatest.saturating_sub(least) / 2).wrapping_mul(count));
        if greatest <= least || Self::index(least) == Self::index(greatest) {
            *self.place(least) += count;
            return;
        }
        let mut below = 0;
        for (place, up_to) in self.counts.iter_mut().zip(S::UP_TO) {
            let share = up_to.saturating_sub(least).min(greatest - least);
            // Only what is beyond the first bound has a share, and at the last bound it is all.
            let now = count.saturating_mul(share) / (greatest - least);
            *place += now - below;
            below = now;
        }
        self.above += count - below;
    }

    /// Adds the counts of another one.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(own, other)| *own += other);
        self.above += other.above;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Each bound, and how many values lie up to it and beyond the one before.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + use<'_, S> {
        S::UP_TO.into_iter().zip(self.counts)
    }

    /// How many values lie beyond the last bound.
    pub fn above(&self) -> u64 {
        self.above
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    /// The sum of all values, wrapping.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The first bound that is not less than a value. Most values are small.
    fn index(value: u64) -> Option<usize> {
        S::UP_TO.iter().position(|up_to| value <= *up_to)
    }

    fn place(&mut self, value: u64) -> &mut u64 {
        Self::index(value).and_then(|index| self.counts.get_mut(index)).unwrap_or(&mut self.above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn filled<S: Scale>(histogram: &Histogram<S>) -> Vec<(u64, u64)> {
        histogram.buckets().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_value_counts_below_the_first_bound_that_is_not_less() {
        let mut things = Histogram::<Things>::default();
        for value in [0, 1, 3, 5, 6, 50_000, 50_001, 1 << 40] {
            things.record(value);
        }
        assert_eq!(filled(&things), [(0, 1), (1, 1), (5, 2), (10, 1), (50_000, 1)]);
        assert_eq!((things.above(), things.count()), (2, 8));
        assert_eq!(things.sum(), 15 + 50_000 + 50_001 + (1 << 40));
    }

    #[test]
    fn values_that_lie_evenly_are_counted_as_if_one_by_one_nearly() {
        let mut rng = crate::rng::Rng::with_seed(7);
        for _ in 0..200 {
            let (least, span, count) = (rng.u64(..200_000), rng.u64(..2_000_000), rng.u32(1..500));
            let (mut at_once, mut singly) = (Histogram::<Micros>::default(), Histogram::<Micros>::default());
            at_once.record_evenly(least, least + span, count);
            for index in 0..u64::from(count) {
                singly.record(least + span * index / u64::from(count - 1).max(1));
            }
            assert_eq!(at_once.count(), singly.count());
            let mut apart = 0_i64;
            for ((_, a), (_, b)) in at_once.buckets().zip(singly.buckets()) {
                apart += a as i64 - b as i64;
                assert!(apart.abs() <= 1, "{least} {span} {count}: {at_once:?} {singly:?}");
            }
        }
    }

    #[test]
    fn histograms_add_up() {
        let (mut sum, mut other) = (Histogram::<Micros>::default(), Histogram::<Micros>::default());
        sum.record(20_000_000);
        other.record_evenly(99, 100, 3);
        sum.add(&other);
        assert_eq!((filled(&sum), sum.above(), sum.count()), (Vec::from([(100, 3)]), 1, 4));
        assert_eq!(sum.sum(), 20_000_000 + 3 * 99);
    }
}
