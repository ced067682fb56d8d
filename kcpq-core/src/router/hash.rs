//! The hash of what peers choose.

use core::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// Hashes a token below its parent, with a secret.
///
/// Not a `BuildHasher`: those of foldhash take six of their seven secret words from a `static`, which without `std` is a
/// constant that everyone can read, and words that are known let a peer build subjects that all have one hash.
pub(super) struct Secret {
    words: SharedSeed,
    start: u64,
}

impl Secret {
    pub(super) const fn new(seed: u64) -> Self {
        Self { words: SharedSeed::from_u64(seed), start: seed.rotate_left(32) }
    }

    pub(super) fn hash(&self, parent: u32, token: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.start, &self.words);
        hasher.write_u32(parent);
        hasher.write(token);
        hasher.finish()
    }
}
