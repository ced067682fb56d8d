//! Randomness, from a seed that the caller hands in.

/// A small generator for conversation numbers and jitter. Not for keys.
pub use fastrand::Rng;
