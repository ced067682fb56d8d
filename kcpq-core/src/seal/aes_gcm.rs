//! AES-256-GCM, for those that have an allocator, by the RustCrypto project.

use alloc::boxed::Box;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};

use super::aead::{TAG, nonce_be};

/// A key. In a box: expanded it has twenty times the size of the other cipher's.
pub(super) struct AesGcm(Box<Aes256Gcm>);

impl AesGcm {
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        Some(Self(Box::new(Aes256Gcm::new(key.into()))))
    }

    pub(super) fn seal(&self, nonce: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        self.0.encrypt_inout_detached(&nonce_be(nonce).into(), header, text.into()).ok().map(Into::into)
    }

    pub(super) fn open<'s>(&self, nonce: u64, header: &[u8], sealed: &'s mut [u8]) -> Option<&'s mut [u8]> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG>()?;
        self.0.decrypt_inout_detached(&nonce_be(nonce).into(), header, (&mut *text).into(), (&*tag).into()).ok()?;
        Some(text)
    }
}
