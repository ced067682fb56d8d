//! Tokens: secrets by which a server tells clients apart that have no keys of their own.

use core::fmt;

use super::hash::hash;
use super::secret::Secret;

/// Bytes of a token on the wire, where it stands before HELLO.
pub(super) const LEN: usize = 32;

/// 32 random bytes that a client shows to a server whose public key it knows, inside of the handshake. Never printed,
/// wiped on drop.
///
/// It is seen by the server alone; but whoever steals the server's private key can read it in handshakes that were
/// recorded before, which is not so with keys. As text it is one line, `kcpq-token-` and 56 letters and digits:
/// [`to_text`](Self::to_text), `parse`.
#[derive(Clone)]
pub struct Token(Secret);

impl Token {
    /// The token of 32 bytes. They must be random: the server keeps a hash that who reads it could try guesses on.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Secret::new(*bytes))
    }

    /// What the server knows it by.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("hash", &self.hash()).finish_non_exhaustive()
    }
}

/// What a server knows a token by: who reads it cannot make the token of it. So it needs no comparison in constant time
/// either: nobody can choose the hash of what he tries.
///
/// As text it is one line, `kcpq-tokenhash-` and 56 letters and digits: `Display`, `parse`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(pub(super) [u8; 32]);

impl TokenHash {
    pub(super) fn of(token: &[u8; LEN]) -> Self {
        Self(hash(&[b"kcpq sealed 1 token", token]))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
