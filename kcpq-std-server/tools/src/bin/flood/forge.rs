//! First datagrams that nobody means.

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput, Update};
use kcpq_core::rng::Rng;
use kcpq_core::seal::{Cipher, Pattern, PublicKey, Suite, header, kind};

/// What a server has to do about a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A header, and noise: costs a hash
    Garbage,
    /// With the hash of somebody who knows the server's public key, and an ephemeral key: a key agreement, or a RETRY
    /// under load
    Signed,
    /// Both in turn
    Both,
}

/// Bytes of an INITIAL of an anonymous client: header, suite, key, HELLO of 27 bytes with a tag, two hashes.
const LEN: usize = 12 + 1 + 32 + 27 + 16 + 2 * MAC;
const MAC: usize = 16;

/// Makes one after the other, each with an id and a key of its own.
pub(crate) struct Forger {
    kind: Kind,
    mac_key: [u8; 32],
    rng: Rng,
    datagram: [u8; LEN],
    turn: bool,
}

impl Forger {
    pub(crate) fn new(kind: Kind, server: &PublicKey, rng: Rng) -> Self {
        let mac_key = blake2s(None, &[b"kcpq sealed 1 mac1 public key", server.as_bytes()]);
        Self { kind, mac_key, rng, datagram: [0; LEN], turn: false }
    }

    pub(crate) fn next(&mut self) -> &[u8] {
        self.turn = !self.turn;
        let suite = Suite { pattern: Pattern::Nk, cipher: Cipher::ChaChaPoly };
        let (signed, macs) = self.datagram.split_at_mut(LEN - 2 * MAC);
        let (head, rest) = signed.split_at_mut(12);
        head.copy_from_slice(&header(self.rng.u64(..), kind::INITIAL, 0));
        rest.chunks_mut(8).for_each(|bytes| bytes.copy_from_slice(&self.rng.u64(..).to_le_bytes()[..bytes.len()]));
        rest[0] = suite.byte();
        if self.kind == Kind::Signed || self.kind == Kind::Both && self.turn {
            macs[..MAC].copy_from_slice(&blake2s(Some(&self.mac_key), &[signed])[..MAC]);
        }
        &self.datagram
    }
}

fn blake2s(key: Option<&[u8]>, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Blake2sMac256::new_with_salt_and_personal(key, &[], &[]).expect("no key, or one of 32 bytes");
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize_fixed().into()
}
