//! AES-256 as kcp-go uses it, for compatibility with KCPQ v2.1 and nothing else (PROTOCOL.md 1.4).
//!
//! ```text
//! | nonce, 16 B | CRC-32 u32 LE of the body | body |      all of it encrypted in place
//! 0             16                          20
//! ```
//!
//! **This is no authenticated encryption.** AES-256-CFB with a constant IV (the nonce in front plays its role) hides the
//! content from whoever only listens. The CRC finds a wrong key and accidents of transmission, not forgery: who can
//! alter datagrams can flip bits of the content and mend the CRC, and who recorded a datagram can send it again, from
//! anywhere, and it is taken. It is here because the original's peers speak nothing else; where that does not count, do
//! not use it.
//!
//! ```
//! use kcpq_core::cipher::{self, CompatAes256Cfb, Key};
//!
//! let key = Key::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")?;
//! let cipher = CompatAes256Cfb::new(&key);
//!
//! let mut datagram = [0; cipher::LEN + 5];
//! datagram[cipher::LEN..].copy_from_slice(b"hello");
//! cipher.seal([7; 16], &mut datagram)?; // a random nonce in earnest, new for each datagram
//! assert_eq!(cipher.open(&mut datagram).as_deref(), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::fmt;

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit};
use zeroize::Zeroizing;

/// Bytes in front of the body: nonce and CRC.
pub const LEN: usize = NONCE + 4;

/// Bytes of a nonce.
pub const NONCE: usize = 16;

/// kcp-go's initial vector, the same for everybody.
const IV: [u8; 16] = *b"\xa7\x73\x4f\x9c\x12\xac\x1b\x01\xa4\x15\xf2\xc1\xfc\x78\xe6\x6b";

/// kcp-go's datagram cipher: secrecy at best, **no integrity, no authenticity, no replay protection**.
///
/// Holds the expanded key, which is wiped on drop. Uses the processor's AES instructions where it finds them at run
/// time, otherwise a constant-time implementation. Sealing is serial by the nature of CFB; opening is not.
pub struct CompatAes256Cfb {
    aes: Aes256,
}

impl CompatAes256Cfb {
    /// Expands a key.
    pub fn new(key: &Key) -> Self {
        Self { aes: Aes256::new((&*key.0).into()) }
    }

    /// Encrypts a datagram in place. Its body lies behind [`LEN`] bytes of head room, which are filled in.
    ///
    /// The nonce must be random and must not be used twice with a key: equal nonces show what two bodies have in common.
    ///
    /// # Errors
    /// [`NoHeadRoom`] if the datagram is shorter than [`LEN`]; nothing is written then.
    pub fn seal(&self, nonce: [u8; NONCE], datagram: &mut [u8]) -> Result<(), NoHeadRoom> {
        let len = datagram.len();
        let Some((head, body)) = datagram.split_first_chunk_mut::<LEN>() else { return Err(NoHeadRoom { len }) };
        let (nonce_place, crc_place) = head.split_at_mut(NONCE);
        nonce_place.copy_from_slice(&nonce);
        crc_place.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        self.encrypt(datagram);
        Ok(())
    }

    /// Decrypts a datagram in place and gives its body.
    ///
    /// `None` if it is shorter than [`LEN`], or if the CRC does not match: the peer has another key, or none, or the
    /// datagram was damaged. Its bytes are worthless then.
    pub fn open<'d>(&self, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        if datagram.len() < LEN {
            return None;
        }
        self.decrypt(datagram);
        let (head, body) = datagram.split_first_chunk_mut::<LEN>()?;
        let crc = u32::from_le_bytes(*head.last_chunk()?);
        (crc == crc32fast::hash(body)).then_some(body)
    }

    fn encrypt(&self, bytes: &mut [u8]) {
        cfb_mode::Encryptor::inner_iv_init(&self.aes, &IV.into()).encrypt(bytes);
    }

    fn decrypt(&self, bytes: &mut [u8]) {
        cfb_mode::Decryptor::inner_iv_init(&self.aes, &IV.into()).decrypt(bytes);
    }
}

/// Nonces for [`CompatAes256Cfb::seal`]: a counter, encrypted under a random key of its own. They never repeat, and who
/// sees some of them cannot tell the next.
pub struct Nonces {
    aes: Aes256,
    counter: u128,
}

impl Nonces {
    /// A sequence of its own; `entropy` is random.
    pub fn new(entropy: [u8; 32]) -> Self {
        Self { aes: Aes256::new(&entropy.into()), counter: 0 }
    }

    /// The next one.
    #[allow(clippy::should_implement_trait)] // it never ends
    pub fn next(&mut self) -> [u8; NONCE] {
        let mut block = self.counter.to_be_bytes().into();
        self.counter = self.counter.wrapping_add(1);
        self.aes.encrypt_block(&mut block);
        block.into()
    }
}

/// A key of 32 bytes. Never printed, wiped on drop.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; Self::LEN]>);

impl Key {
    /// Bytes of a key.
    pub const LEN: usize = 32;

    /// A key from its bytes. The caller's copy is the caller's to wipe.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// A key from 64 hexadecimal digits of either case, as the original's programs take it. Nothing may stand around
    /// them: trim what comes from a file.
    ///
    /// # Errors
    /// [`KeyError`], which never holds a digit of the key.
    pub fn from_hex(digits: &str) -> Result<Self, KeyError> {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if pairs.len() != Self::LEN || !rest.is_empty() {
            return Err(KeyError::Length { len: digits.len() });
        }
        let mut key = Self(Zeroizing::new([0; Self::LEN]));
        for ((index, [high, low]), byte) in pairs.iter().enumerate().zip(key.0.iter_mut()) {
            let high = hex_digit(*high).ok_or(KeyError::Digit { position: 2 * index })?;
            let low = hex_digit(*low).ok_or(KeyError::Digit { position: 2 * index + 1 })?;
            *byte = high << 4 | low;
        }
        Ok(key)
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

impl fmt::Debug for CompatAes256Cfb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompatAes256Cfb").finish_non_exhaustive()
    }
}

/// Why digits are no key. Tells where, never what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum KeyError {
    /// Not 64 digits.
    Length {
        /// Bytes there were.
        len: usize,
    },
    /// Not a hexadecimal digit.
    Digit {
        /// Its place, from 0.
        position: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len } => write!(f, "aes-256 key must be {} hex digits, got {len}", 2 * Key::LEN),
            Self::Digit { position } => write!(f, "aes-256 key has no hex digit at position {position}"),
        }
    }
}

impl core::error::Error for KeyError {}

/// A datagram too short for nonce and CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoHeadRoom {
    /// Its length in bytes.
    pub len: usize,
}

impl fmt::Display for NoHeadRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "datagram of {} bytes has no room for the {LEN} of the cipher", self.len)
    }
}

impl core::error::Error for NoHeadRoom {}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Bare CFB, without nonce and CRC; whole datagrams are in tests/cipher.rs.
    #[test]
    fn every_recorded_buffer_is_encrypted_and_decrypted_to_the_byte() {
        let vectors: serde_json::Value = serde_json::from_str(include_str!("../tests/vectors/crypt.json")).unwrap();
        let buffers = vectors["buffers"].as_array().unwrap();
        assert_eq!(buffers.len(), 18);
        for buffer in buffers {
            let [key, plain, sealed] = ["key", "plaintext", "ciphertext"].map(|field| buffer[field].as_str().unwrap());
            let cipher = CompatAes256Cfb::new(&Key::from_hex(key).unwrap());
            let mut bytes = unhex(plain);
            cipher.encrypt(&mut bytes);
            assert_eq!(bytes, unhex(sealed));
            cipher.decrypt(&mut bytes);
            assert_eq!(bytes, unhex(plain));
        }
    }

    fn unhex(digits: &str) -> Vec<u8> {
        let (pairs, _) = digits.as_bytes().as_chunks::<2>();
        pairs.iter().map(|&[high, low]| hex_digit(high).unwrap() << 4 | hex_digit(low).unwrap()).collect()
    }
}
