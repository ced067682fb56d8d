//! By what a client and its server know each other in sealed sessions.

use std::fmt;

use kcpq_core::seal::{PrivateKey, PublicKey, SharedSecret, Token, TokenHash, Trust};

use crate::error::ConnectError;

/// What a user has given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seal {
    pub(crate) server: Option<PublicKey>,
    pub(crate) identity: Option<PrivateKey>,
    pub(crate) token: Option<Token>,
    pub(crate) secret: Option<SharedSecret>,
}

impl Seal {
    /// What a client needs for a handshake; `None` if sessions are not to be sealed.
    pub(crate) fn trust(&self) -> Result<Option<Trust>, ConnectError> {
        let Self { server, identity, token, secret } = self.clone();
        match (server, identity, token, secret) {
            (None, None, None, None) => Ok(None),
            (None, None, None, Some(secret)) => Ok(Some(Trust::Shared { secret })),
            (Some(server), None, None, None) => Ok(Some(Trust::Anonymous { server })),
            (Some(server), Some(key), None, None) => Ok(Some(Trust::Identity { key, server })),
            (Some(server), None, Some(token), None) => Ok(Some(Trust::Token { token, server })),
            (_, Some(_), Some(_), _) => Err(ConnectError::Keys("either an identity or a token, not both")),
            (None, Some(_), None, _) => Err(ConnectError::Keys("an identity needs the server's key as well")),
            (None, None, Some(_), _) => Err(ConnectError::Keys("a token needs the server's key as well")),
            (Some(_), _, _, Some(_)) => Err(ConnectError::Keys("either a shared secret or the server's key, not both")),
        }
    }
}

/// By what a client whose sessions are sealed is known to the server, and the server to it. None of it is secret.
///
/// A server that does not know a client does not answer: `Display` says what to look at then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealedBy {
    /// Both by their public keys.
    Identity {
        /// The client's.
        key: PublicKey,
        /// The server's.
        server: PublicKey,
    },
    /// The server by its public key, the client not at all.
    Anonymous {
        /// The server's.
        server: PublicKey,
    },
    /// The server by its public key, the client by a token.
    Token {
        /// By this the server knows it.
        hash: TokenHash,
        /// The server's key.
        server: PublicKey,
    },
    /// Both by a secret that they share.
    Shared,
}

impl From<&Trust> for SealedBy {
    fn from(trust: &Trust) -> Self {
        match trust {
            Trust::Identity { key, server } => Self::Identity { key: key.public(), server: *server },
            Trust::Anonymous { server } => Self::Anonymous { server: *server },
            Trust::Token { token, server } => Self::Token { hash: token.hash(), server: *server },
            Trust::Shared { .. } => Self::Shared,
        }
    }
}

impl fmt::Display for SealedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { key, server } => {
                write!(f, "is {server} the server's key, and this client's key, {key}, among its clients'?")
            }
            Self::Anonymous { server } => {
                write!(f, "is {server} the server's key, and does it let clients in that have no key?")
            }
            Self::Token { hash, server } => {
                write!(f, "is {server} the server's key, and this client's token, {hash}, among its clients'?")
            }
            Self::Shared => {
                f.write_str("is this client's secret the server's, and does it let clients in that have it?")
            }
        }
    }
}
