//! RESET: the server does not know a session any more, and says so in a way that only it can.

use core::fmt;

use subtle::ConstantTimeEq;

use super::PrivateKey;
use super::hash::{hash, mac};
use super::secret::Secret;
use super::wire::concat;
use crate::header::{HEADER, header, kind};

/// Bytes of a token.
pub const TOKEN: usize = 16;

/// Bytes of a RESET.
pub const RESET_LEN: usize = HEADER + TOKEN;

/// The tokens of all sessions of a server, none of which it keeps: each is a keyed hash of the session's id (RFC 9000,
/// section 10.3). A client learns that of its session in WELCOME.
///
/// A server **must not** reset an id of which any of its threads knows the session: who gets a RESET can end the session with
/// it. Servers that do not share their sessions must not share the secret.
pub struct ResetTokens {
    secret: Secret,
}

impl ResetTokens {
    /// `secret` is random, and the same after a restart.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { secret: Secret::new(*secret) }
    }

    /// With a secret that is derived from the server's private key, so that there is no other to keep.
    pub fn of_key(key: &PrivateKey) -> Self {
        Self { secret: Secret::new(hash(&[b"kcpq sealed 1 reset tokens", &**key.secret()])) }
    }

    /// The token of a session.
    pub fn token(&self, id: u64) -> ResetToken {
        ResetToken(mac(&self.secret, &[&id.to_le_bytes()]))
    }

    /// The RESET for an id that no session has. No longer than the shortest sealed datagram, and
    /// never an answer to one, so that servers cannot keep each other busy.
    pub fn datagram(&self, id: u64) -> [u8; RESET_LEN] {
        concat(&[&header(id, kind::RESET, 0), self.token(id).as_bytes()])
    }
}

impl fmt::Debug for ResetTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetTokens").finish_non_exhaustive()
    }
}

/// The token of one session: secret until it is used.
#[derive(Clone, Copy)]
pub struct ResetToken([u8; TOKEN]);

impl ResetToken {
    /// The token that WELCOME told.
    pub const fn from_bytes(bytes: [u8; TOKEN]) -> Self {
        Self(bytes)
    }

    /// The bytes for WELCOME.
    pub const fn as_bytes(&self) -> &[u8; TOKEN] {
        &self.0
    }

    /// Whether a datagram is the RESET of the session `id` whose token this is. Takes the same time for all tokens.
    pub fn is_in(&self, id: u64, datagram: &[u8]) -> bool {
        let Some((head, token)) = datagram.split_first_chunk::<HEADER>() else { return false };
        *head == header(id, kind::RESET, 0) && token.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for ResetToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetToken").finish_non_exhaustive()
    }
}
