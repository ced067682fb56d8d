//! ChaCha20-Poly1305 (RFC 8439) by the library that is made for it.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};

use super::aead::{TAG, nonce_le};

pub(super) struct ChaChaPoly(ChaCha20Poly1305);

impl ChaChaPoly {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    pub(super) fn seal(&self, nonce: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        self.0.encrypt_inout_detached(&nonce_le(nonce).into(), header, text.into()).ok().map(Into::into)
    }

    pub(super) fn open<'s>(&self, nonce: u64, header: &[u8], sealed: &'s mut [u8]) -> Option<&'s mut [u8]> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG>()?;
        let nonce = nonce_le(nonce).into();
        self.0.decrypt_inout_detached(&nonce, header, (&mut *text).into(), (&*tag).into()).ok()?;
        Some(text)
    }
}
