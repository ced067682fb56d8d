//! 32 bytes that are nobody else's.

use core::ops::{Deref, DerefMut};

use zeroize::Zeroize;

/// 32 bytes that are wiped when they are dropped. It is dropped in so many places that a firmware has the loop once.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(super) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Zeros, as a place for one.
    pub(super) const fn empty() -> Self {
        Self([0; 32])
    }
}

impl Deref for Secret {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl Drop for Secret {
    #[cfg_attr(target_os = "none", inline(never))]
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
