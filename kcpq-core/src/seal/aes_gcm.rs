//! AES-256-GCM, for those that have an allocator.

use alloc::boxed::Box;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};

use super::aead::{TAG, nonce_le};

/// A key. In a box: expanded it has twenty times the size of the other cipher's.
pub(super) struct AesGcm(Box<Aes256Gcm>);

impl AesGcm {
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        Some(Self(Box::new(Aes256Gcm::new(key.into()))))
    }

    pub(super) fn seal(&self, nonce: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        self.0.encrypt_inout_detached(&nonce_be(nonce).into(), header, text.into()).ok().map(Into::into)
    }

    pub(super) fn open(&self, nonce: u64, header: &[u8], text: &mut [u8], tag: &[u8; TAG]) -> Option<()> {
        self.0.decrypt_inout_detached(&nonce_be(nonce).into(), header, text.into(), tag.into()).ok()
    }
}

fn nonce_be(nonce: u64) -> [u8; 12] {
    nonce_le(nonce.swap_bytes())
}
