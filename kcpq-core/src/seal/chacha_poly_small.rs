//! ChaCha20-Poly1305 (RFC 8439, 2.8) put together from its two halves: in half the flash of the library that is made
//! for it, which has the rounds more than once.

use chacha20::cipher::{KeyIvInit, StreamCipherCore};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::aead::{TAG, nonce_le};
use super::secret::Secret;

/// Bytes of a block of the keystream.
const BLOCK: usize = 64;

pub(super) struct ChaChaPoly(Secret);

impl ChaChaPoly {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Secret::new(*key))
    }

    pub(super) fn seal(&self, nonce: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        let mut stream = Stream::new(&self.0, nonce, text)?;
        let one_time = stream.block();
        stream.apply(text);
        Some(tag(&one_time, header, text))
    }

    pub(super) fn open<'s>(&self, nonce: u64, header: &[u8], sealed: &'s mut [u8]) -> Option<&'s mut [u8]> {
        let (text, told) = sealed.split_last_chunk_mut::<TAG>()?;
        let mut stream = Stream::new(&self.0, nonce, text)?;
        if !bool::from(tag(&stream.block(), header, text).ct_eq(told)) {
            return None;
        }
        stream.apply(text);
        Some(text)
    }
}

/// The keystream of a nonce. Its first block is the authenticator's.
struct Stream(ChaChaCore<R20, Ietf>);

impl Stream {
    /// `None` for a text that is longer than the stream, which counts its blocks with 32 bits.
    fn new(key: &Secret, nonce: u64, text: &[u8]) -> Option<Self> {
        u32::try_from(text.len().div_ceil(BLOCK)).ok().filter(|blocks| *blocks < u32::MAX)?;
        Some(Self(ChaChaCore::new((&**key).into(), &nonce_le(nonce).into())))
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn block(&mut self) -> Zeroizing<[u8; BLOCK]> {
        let mut block = Zeroizing::new([0; BLOCK]);
        self.0.write_keystream_block((&mut *block).into());
        block
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn apply(&mut self, text: &mut [u8]) {
        for part in text.chunks_mut(BLOCK) {
            part.iter_mut().zip(&*self.block()).for_each(|(byte, key)| *byte ^= key);
        }
    }
}

/// The tag over header and encrypted text, by a key that is used once: the first half of a block.
#[cfg_attr(target_os = "none", inline(never))]
fn tag(key: &[u8; BLOCK], header: &[u8], text: &[u8]) -> [u8; TAG] {
    let (key, _) = key.split_first_chunk::<32>().unwrap_or((&[0; 32], &[])); // there are 64
    let mut mac = Poly1305::new(key.into());
    let (of_header, of_text) = ((header.len() as u64).to_le_bytes(), (text.len() as u64).to_le_bytes());
    let lengths: [u8; TAG] = super::wire::concat(&[&of_header, &of_text]);
    for part in [header, text, &lengths] {
        mac.update_padded(part);
    }
    mac.finalize().into()
}
