//! Which handshake and which cipher: one byte on the wire, chosen by the client.

/// Who the two sides are to each other: a pattern of the [Noise Protocol Framework](https://noiseprotocol.org/noise.html),
/// revision 34, section 7.5 and 9.4. Each takes one round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Pattern {
    /// `IK`: the client knows the server's public key and has one of its own, which it shows to nobody else.
    Ik = 1,
    /// `NK`: the client knows the server's public key and stays anonymous.
    Nk = 2,
    /// `NNpsk0`: both have the same shared secret.
    NnPsk0 = 3,
    /// `NK`, and before HELLO a token by which the client is known.
    NkToken = 4,
}

/// What seals a datagram. Both have keys of 32 bytes and tags of [`TAG`](super::TAG) bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Cipher {
    /// ChaCha20-Poly1305 (RFC 8439): fast in software, and in constant time there. Every peer has it.
    #[default]
    ChaChaPoly = 0x00,
    /// AES-256-GCM (NIST SP 800-38D): faster where the processor has AES and carry-less multiplication. Every server has
    /// it; in this crate it needs the feature `sealed-aes`.
    AesGcm = 0x10,
}

impl Cipher {
    /// What a client should choose on this machine: AES-256-GCM if this build has it and the processor has instructions
    /// for it. Without the feature `std` the processor is not asked, and the answer is ChaCha20-Poly1305.
    pub fn preferred() -> Self {
        if cfg!(feature = "sealed-aes") && has_aes() { Self::AesGcm } else { Self::ChaChaPoly }
    }
}

#[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "x86")))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(all(feature = "std", target_arch = "aarch64"))]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(all(feature = "std", any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64"))))]
fn has_aes() -> bool {
    false
}

/// A pattern and a cipher; with X25519 and BLAKE2s, which all have, that is a Noise protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Suite {
    /// The handshake.
    pub pattern: Pattern,
    /// The cipher, of the handshake and of what follows.
    pub cipher: Cipher,
}

impl Suite {
    /// The byte on the wire (PROTOCOL.md 10.2): the pattern in its low half, the cipher in its high one.
    pub const fn byte(self) -> u8 {
        self.pattern as u8 | self.cipher as u8
    }

    /// The suite of a byte, if it is one.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        let pattern = match byte & 0x0f {
            1 => Pattern::Ik,
            2 => Pattern::Nk,
            3 => Pattern::NnPsk0,
            4 => Pattern::NkToken,
            _ => return None,
        };
        let cipher = match byte & 0xf0 {
            0x00 => Cipher::ChaChaPoly,
            0x10 => Cipher::AesGcm,
            _ => return None,
        };
        Some(Self { pattern, cipher })
    }

    /// Noise's name for it, which is mixed into every handshake.
    pub const fn protocol_name(self) -> &'static str {
        match (self.pattern, self.cipher) {
            (Pattern::Ik, Cipher::ChaChaPoly) => "Noise_IK_25519_ChaChaPoly_BLAKE2s",
            (Pattern::Ik, Cipher::AesGcm) => "Noise_IK_25519_AESGCM_BLAKE2s",
            (Pattern::Nk | Pattern::NkToken, Cipher::ChaChaPoly) => "Noise_NK_25519_ChaChaPoly_BLAKE2s",
            (Pattern::Nk | Pattern::NkToken, Cipher::AesGcm) => "Noise_NK_25519_AESGCM_BLAKE2s",
            (Pattern::NnPsk0, Cipher::ChaChaPoly) => "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s",
            (Pattern::NnPsk0, Cipher::AesGcm) => "Noise_NNpsk0_25519_AESGCM_BLAKE2s",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn eight_bytes_are_suites_and_come_back() {
        let suites: Vec<_> = (0..=u8::MAX).filter_map(Suite::from_byte).collect();
        assert_eq!(suites.iter().map(|suite| suite.byte()).collect::<Vec<_>>(), [1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14]);
    }
}
