//! Keys: a side's own, the other side's, and one that both share.

use core::fmt;

use x25519_dalek::StaticSecret;

use super::Rejected;
use super::hash::hash;
use super::secret::Secret;

/// A private key (X25519), with its public one. Never printed, wiped on drop, compared by nobody.
///
/// As text it is one line, `kcpq-private-` and 56 letters and digits: [`to_text`](Self::to_text), `parse`.
#[derive(Clone)]
pub struct PrivateKey {
    secret: Secret,
    public: PublicKey,
}

impl PrivateKey {
    /// The private key of 32 bytes: random ones for a new key. The caller's copy is the caller's to wipe.
    ///
    /// Computes the public key, which takes as long as a key agreement.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self { secret: Secret::new(*bytes), public: PublicKey(public(bytes)) }
    }

    /// Its public key.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The 32 bytes, for [`text`](super::text) and what is derived from them.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// X25519 of a secret with another's public key. The result is refused if it does not depend on the secret, that is for
/// the few public keys of small order (RFC 7748, section 6.1).
#[cfg_attr(target_os = "none", inline(never))]
pub(super) fn agree(secret: &Secret, with: &PublicKey) -> Result<Secret, Rejected> {
    let shared = StaticSecret::from(**secret).diffie_hellman(&x25519_dalek::PublicKey::from(with.0));
    if shared.was_contributory() { Ok(Secret::new(*shared.as_bytes())) } else { Err(Rejected::Forged) }
}

/// With a table of the base point's multiples, which is faster and takes 30 KB.
#[cfg(feature = "alloc")]
fn public(secret: &[u8; 32]) -> [u8; 32] {
    x25519_dalek::PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

/// By the same code as a key agreement, which a firmware has anyway.
#[cfg(not(feature = "alloc"))]
fn public(secret: &[u8; 32]) -> [u8; 32] {
    let base = x25519_dalek::PublicKey::from(x25519_dalek::X25519_BASEPOINT_BYTES);
    StaticSecret::from(*secret).diffie_hellman(&base).to_bytes()
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A public key (X25519): by it a peer is known. Not secret.
///
/// As text it is one line, `kcpq-public-` and 56 letters and digits: `Display`, `parse`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub(super) [u8; 32]);

impl PublicKey {
    /// The key of 32 bytes; any are one.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret of 32 random bytes that both sides have. Never printed, wiped on drop.
///
/// Whoever has it can be client and server, so it tells no peer from another. As text it is one line, `kcpq-shared-` and 56
/// letters and digits: [`to_text`](Self::to_text), `parse`.
#[derive(Clone)]
pub struct SharedSecret(Secret);

impl SharedSecret {
    /// The secret of 32 bytes. They must be random: what people make up can be guessed from one datagram.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Secret::new(*bytes))
    }

    /// The secret that those have in common who have a key of KCPQ v2.1's cipher. Derived, so that one key has one use.
    pub fn from_aes256_key(key: &[u8; 32]) -> Self {
        Self(Secret::new(hash(&[b"kcpq sealed 1 shared secret of an AES-256 key", key])))
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSecret").finish_non_exhaustive()
    }
}
