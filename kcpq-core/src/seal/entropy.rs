//! Secrets of which each is used once, from one that the caller has brought.

use zeroize::Zeroizing;

use super::hash::{Secret, hash};

/// A ratchet over BLAKE2s: who takes what is left here cannot compute what was drawn before.
pub(crate) struct Entropy(Secret);

impl Entropy {
    /// `bytes` are random.
    pub(crate) fn new(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// 32 bytes that nobody can guess.
    pub(crate) fn draw(&mut self) -> Secret {
        let drawn = Zeroizing::new(hash(&[b"kcpq entropy drawn", &*self.0]));
        self.0 = Zeroizing::new(hash(&[b"kcpq entropy left", &*self.0]));
        drawn
    }
}

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Entropy")
    }
}
