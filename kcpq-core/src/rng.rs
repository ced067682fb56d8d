//! Randomness, from a seed that the caller hands in.

/// A small generator for conversation numbers and jitter. Not for keys.
pub use fastrand::Rng;

/// The next 32 random bits.
#[cfg_attr(target_os = "none", inline(never))]
pub(crate) fn draw(rng: &mut Rng) -> u32 {
    rng.u32(..)
}
