//! What a client keeps of the keys of both sides.

use core::fmt;

use super::{Credentials, PrivateKey, PublicKey, SharedSecret, Token};

/// How a client knows its server, and the server the client.
#[derive(Clone)]
pub enum Trust {
    /// By their public keys.
    Identity {
        /// The client's own.
        key: PrivateKey,
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
        /// The client's.
        token: Token,
        /// The server's.
        server: PublicKey,
    },
    /// By a secret that both have.
    Shared {
        /// It.
        secret: SharedSecret,
    },
}

impl Trust {
    /// The same for a handshake.
    pub const fn credentials(&self) -> Credentials<'_> {
        match self {
            Self::Identity { key, server } => Credentials::Identity { key, server },
            Self::Anonymous { server } => Credentials::Anonymous { server },
            Self::Token { token, server } => Credentials::Token { token, server },
            Self::Shared { secret } => Credentials::Shared { secret },
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.credentials().fmt(f)
    }
}
