//! AES-256-GCM by AWS-LC, which uses wider instructions of the processor than portable code can.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::aead::{TAG, nonce_be};

/// A key. AWS-LC holds it, and wipes it.
pub(super) struct AesGcm(LessSafeKey);

impl AesGcm {
    pub(super) fn new(key: &[u8; 32]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new).map(Self)
    }

    pub(super) fn seal(&self, nonce: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        let tag = self.0.seal_in_place_separate_tag(assigned(nonce), Aad::from(header), text).ok()?;
        tag.as_ref().try_into().ok()
    }

    pub(super) fn open<'s>(&self, nonce: u64, header: &[u8], sealed: &'s mut [u8]) -> Option<&'s mut [u8]> {
        self.0.open_in_place(assigned(nonce), Aad::from(header), sealed).ok()
    }
}

/// That it is used once only is the transport's to see to.
fn assigned(nonce: u64) -> Nonce {
    Nonce::assume_unique_for_key(nonce_be(nonce))
}
