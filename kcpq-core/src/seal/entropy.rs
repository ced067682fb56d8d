//! Secrets of which each is used once, from one that the caller has brought.

use super::hash::hash;
use super::secret::Secret;

/// A ratchet over BLAKE2s: who takes what is left here cannot compute what was drawn before.
pub(crate) struct Entropy(Secret);

impl Entropy {
    /// `bytes` are random.
    pub(crate) fn new(bytes: &[u8; 32]) -> Self {
        Self(Secret::new(*bytes))
    }

    /// 32 bytes that nobody can guess.
    pub(crate) fn draw(&mut self) -> Secret {
        let drawn = Secret::new(hash(&[b"kcpq entropy drawn", &*self.0]));
        self.0 = Secret::new(hash(&[b"kcpq entropy left", &*self.0]));
        drawn
    }
}

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy")
    }
}
