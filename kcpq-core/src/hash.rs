//! The hash of what peers choose, with a secret.

#[cfg(feature = "sealed")]
use core::hash::Hash;
use core::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// A secret, and the hash that it makes.
///
/// Not a `BuildHasher`: those of foldhash take six of their seven secret words from a `static`, which without `std` is a
/// constant that everyone can read, and words that are known let a peer build subjects that all have one hash.
pub(crate) struct Secret {
    words: SharedSeed,
    start: u64,
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { words: SharedSeed::from_u64(seed), start: seed.rotate_left(32) }
    }

    /// The hash of anything.
    #[cfg(feature = "sealed")]
    pub(crate) fn hash_of<T: Hash>(&self, value: &T) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.start, &self.words);
        value.hash(&mut hasher);
        hasher.finish()
    }

    /// The hash of `token` below the node `parent`; of texts that stand alone, below 0.
    pub(crate) fn hash(&self, parent: u32, token: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.start, &self.words);
        hasher.write_u32(parent);
        hasher.write(token);
        hasher.finish()
    }
}
