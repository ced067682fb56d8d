//! How clients and server know each other.

use kcpq_core::seal::{PrivateKey, SharedSecret, Token, Trust};

pub(crate) fn server() -> PrivateKey {
    PrivateKey::from_bytes(&[1; 32])
}

pub(crate) fn secret() -> SharedSecret {
    SharedSecret::from_bytes(&[2; 32])
}

/// What a client shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    Nothing,
    /// The same in a sealed session.
    Sealed,
    Secret,
    Key,
    Token,
    Original,
}

impl Shows {
    pub(crate) fn is_sealed(self) -> bool {
        !matches!(self, Self::Nothing | Self::Original)
    }

    /// For a sealed session.
    pub(crate) fn trust(self) -> Option<Trust> {
        let server = server().public();
        Some(match self {
            Self::Nothing | Self::Original => return None,
            Self::Sealed => Trust::Anonymous { server },
            Self::Secret => Trust::Shared { secret: secret() },
            Self::Key => Trust::Identity { key: PrivateKey::from_bytes(&[3; 32]), server },
            Self::Token => Trust::Token { token: Token::from_bytes(&[5; 32]), server },
        })
    }
}
