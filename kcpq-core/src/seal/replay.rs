//! Which datagrams were taken: each is taken once.

/// A window over the numbers of datagrams, ending at the highest taken. What was taken within it is remembered; what lies
/// before it counts as taken. `WORDS` is a power of two and makes `32 * WORDS` numbers.
///
/// ```
/// use kcpq_core::seal::Replay;
///
/// let mut window = Replay::<64>::new();
/// assert!(window.is_fresh(7));
/// window.take(7);
/// assert!(!window.is_fresh(7));
/// assert!(window.is_fresh(3), "late, but not taken yet");
/// window.take(10_000);
/// assert!(!window.is_fresh(3), "before the window");
/// ```
#[derive(Clone, Debug)]
pub struct Replay<const WORDS: usize = 64> {
    /// One more than the highest taken; 0 if none was.
    next: u64,
    /// Bit `number % BITS` of the ring: whether that number of the window was taken.
    words: [u32; WORDS],
}

impl<const WORDS: usize> Replay<WORDS> {
    /// How many numbers the window has.
    pub const BITS: u64 = {
        assert!(WORDS.is_power_of_two(), "the ring's index is a mask");
        32 * WORDS as u64
    };

    /// Nothing taken.
    pub const fn new() -> Self {
        Self { next: 0, words: [0; WORDS] }
    }

    /// One more than the highest number taken: what is expected next.
    pub const fn expected(&self) -> u64 {
        self.next
    }

    /// Whether a datagram of this number may be taken.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn is_fresh(&self, number: u64) -> bool {
        if number >= self.next {
            return number < u64::MAX;
        }
        self.next - number <= Self::BITS && self.words.get(Self::word(number)).is_some_and(|w| w & bit(number) == 0)
    }

    /// Takes a number that [is fresh](Self::is_fresh). For another one this does nothing.
    ///
    /// Only after the datagram has been found genuine: a forged one would move the window.
    pub fn take(&mut self, number: u64) {
        if !self.is_fresh(number) {
            return;
        }
        if number >= self.next {
            self.forget(self.next, number);
            self.next = number + 1;
        }
        if let Some(word) = self.words.get_mut(Self::word(number)) {
            *word |= bit(number);
        }
    }

    /// Clears the places of the numbers from `first` to `last`, which held others, one turn of the ring before.
    fn forget(&mut self, first: u64, last: u64) {
        if last - first >= Self::BITS {
            self.words = [0; WORDS];
            return;
        }
        let mut number = first;
        while number <= last {
            if let Some(word) = self.words.get_mut(Self::word(number)) {
                *word &= !bit(number);
            }
            number += 1;
        }
    }

    const fn word(number: u64) -> usize {
        (number / 32) as usize & (WORDS - 1)
    }
}

impl<const WORDS: usize> Default for Replay<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

const fn bit(number: u64) -> u32 {
    1 << (number % 32)
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    /// The same by a set of all numbers.
    #[derive(Default)]
    struct Model {
        taken: BTreeSet<u64>,
    }

    impl Model {
        fn is_fresh(&self, number: u64, bits: u64) -> bool {
            let next = self.taken.last().map_or(0, |last| last + 1);
            !self.taken.contains(&number) && (number >= next || next - number <= bits)
        }
    }

    fn compare<const WORDS: usize>(seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut window, mut model) = (Replay::<WORDS>::new(), Model::default());
        let bits = Replay::<WORDS>::BITS;
        for _ in 0..4_000 {
            let next = window.expected();
            let number = match rng.u8(..10) {
                0..4 => next + rng.u64(..3),
                4..7 => next.saturating_sub(rng.u64(..bits + bits / 4)),
                7 => next + rng.u64(..bits + 70),
                8 => (next + rng.u64(..=2)).saturating_sub(bits + 1),
                _ => (next / 32 + rng.u64(..=2)) * 32 - u64::from(next > 32 && rng.bool()),
            };
            let fresh = model.is_fresh(number, bits);
            assert_eq!(window.is_fresh(number), fresh, "{number}, expected {next}, seed {seed}");
            // Some are forged: looked at, and not taken.
            if rng.u8(..5) > 0 {
                window.take(number);
                if fresh {
                    model.taken.insert(number);
                }
            }
        }
    }

    #[test]
    fn the_window_is_a_set_of_all_numbers_as_far_as_it_reaches() {
        for seed in 0..40 {
            compare::<1>(seed);
            compare::<2>(seed);
            compare::<64>(seed);
        }
    }

    #[test]
    fn the_end_of_all_numbers_is_not_taken() {
        let mut window = Replay::<64>::new();
        window.take(u64::MAX - 1);
        assert!(!window.is_fresh(u64::MAX - 1));
        assert!(window.is_fresh(u64::MAX - 2));
        window.take(u64::MAX);
        assert!(!window.is_fresh(u64::MAX), "its nonce is that of rekeying");
    }
}
