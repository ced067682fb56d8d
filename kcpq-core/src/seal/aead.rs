//! The ciphers behind one trait, so that a server may bring a faster implementation.

use super::Cipher;
use super::aes_gcm::AesGcm;
use super::chacha_poly::ChaChaPoly;

/// Bytes by which a sealed text is longer: its tag.
pub const TAG: usize = 16;

/// An implementation of one or more [`Cipher`]s with a key.
///
/// Nonces are numbers. They become the 12 bytes of a nonce as Noise has it (revision 34, section 12): four zeros and the
/// number, in little endian for ChaCha20-Poly1305 and in big endian for AES-GCM.
///
/// An implementation compares tags in constant time, wipes its key when dropped, and decrypts nothing that is forged.
pub trait Aead: Sized {
    /// A cipher with its key; `None` if this implementation does not have it.
    fn new(cipher: Cipher, key: &[u8; 32]) -> Option<Self>;

    /// Encrypts in place and gives the tag over text and `header`. `None` if the text is too long for the cipher, which no
    /// datagram is.
    ///
    /// `nonce` must never have been used with this key.
    fn seal(&self, nonce: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]>;

    /// Decrypts in place what stands before its tag, and gives the text. `None` if the tag is not that of text and header: what
    /// is there then is of no use.
    fn open<'s>(&self, nonce: u64, header: &[u8], sealed: &'s mut [u8]) -> Option<&'s mut [u8]>;
}

/// The ciphers of the RustCrypto project: portable, in constant time, with the processor's instructions where they are found
/// at run time. ChaCha20-Poly1305 needs no allocator. With the feature `aws-lc` AES-256-GCM is that of AWS-LC, on x86-64 Linux.
pub struct RustCrypto(Key);

enum Key {
    ChaChaPoly(ChaChaPoly),
    AesGcm(AesGcm),
}

impl Aead for RustCrypto {
    fn new(cipher: Cipher, key: &[u8; 32]) -> Option<Self> {
        let key = match cipher {
            Cipher::ChaChaPoly => Key::ChaChaPoly(ChaChaPoly::new(key)),
            Cipher::AesGcm => Key::AesGcm(AesGcm::new(key)?),
        };
        Some(Self(key))
    }

    fn seal(&self, nonce: u64, header: &[u8], text: &mut [u8]) -> Option<[u8; TAG]> {
        match &self.0 {
            Key::ChaChaPoly(key) => key.seal(nonce, header, text),
            Key::AesGcm(key) => key.seal(nonce, header, text),
        }
    }

    fn open<'s>(&self, nonce: u64, header: &[u8], sealed: &'s mut [u8]) -> Option<&'s mut [u8]> {
        match &self.0 {
            Key::ChaChaPoly(key) => key.open(nonce, header, sealed),
            Key::AesGcm(key) => key.open(nonce, header, sealed),
        }
    }
}

/// A nonce as ChaCha20-Poly1305 has it in Noise.
pub(super) fn nonce_le(nonce: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = nonce.to_le_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// A nonce as AES-GCM has it.
#[cfg(feature = "sealed-aes")]
pub(super) fn nonce_be(nonce: u64) -> [u8; 12] {
    nonce_le(nonce.swap_bytes())
}
