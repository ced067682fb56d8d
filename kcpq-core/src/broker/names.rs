//! What nobody should guess: the names of sessions, the tokens that end them, and challenges.

use crate::hello::Named;
use crate::seal::{ResetTokens, keyed_hash};

/// Names are keyed hashes of a count, so that whoever has seen some of them cannot tell the next.
pub(super) struct Names {
    tokens: ResetTokens,
    key: [u8; 32],
    count: u64,
}

impl Names {
    /// `secret` is the server's, the same in all its lives; `life` tells them apart, and its brokers.
    pub(super) fn new(secret: &[u8; 32], life: [u64; 2]) -> Self {
        let life = life.map(u64::to_le_bytes);
        let half = |half: &[u8]| keyed_hash(secret, &[b"kcpq names", half, life.as_flattened()]);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&half(b"1"));
        key[16..].copy_from_slice(&half(b"2"));
        Self { tokens: ResetTokens::new(secret), key, count: 0 }
    }

    /// Bytes that nobody can guess.
    pub(super) fn draw(&mut self) -> [u8; 8] {
        self.count += 1;
        let [a, b, c, d, e, f, g, h, ..] = keyed_hash(&self.key, &[&self.count.to_le_bytes()]);
        [a, b, c, d, e, f, g, h]
    }

    /// Whether a datagram is the word of a client that its session of this id is over.
    pub(super) fn is_farewell(&self, id: u64, datagram: &[u8]) -> bool {
        self.tokens.token(id).is_in(id, datagram)
    }

    /// How a session of this id is ended.
    pub(super) fn named(&self, id: u64) -> Named {
        Named { id, token: *self.tokens.token(id).as_bytes() }
    }
}
