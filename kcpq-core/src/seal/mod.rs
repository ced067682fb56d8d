//! Sealed sessions: handshake, keys and datagrams that nobody else reads, alters or repeats (PROTOCOL.md 10).
//!
//! This is the cryptographic half, by itself: bytes in, bytes out, without sockets, sessions, allocator or a source of
//! randomness, which the caller brings. The handshake is one of the
//! [Noise Protocol Framework](https://noiseprotocol.org/noise.html) over X25519 and BLAKE2s, the transport is
//! ChaCha20-Poly1305 or AES-256-GCM; the primitives are those of the RustCrypto and dalek projects, and
//! AWS-LC's where that is wanted. What lies around it, silence
//! towards strangers, cookies under load and a window against replay, is WireGuard's.
//!
//! ```text
//! client                                              server
//! Initiator::new --------- INITIAL (HELLO) ---------> Responder::look      one hash; strangers get silence
//!   handle_retry <-------- RETRY (cookie) ----------- Cookies              only under load
//!                -------------------------------------> Responder::open    key agreement: who is it?
//!   handle_reply <-------- REPLY (WELCOME) ---------- Pending::reply
//! Transport ----------------- sealed ---------------> Unconfirmed::confirm nothing has come of it until here
//! Transport <---------------- sealed ---------------> Transport
//! ```
//!
//! | module | what |
//! |---|---|
//! | `suite`, `key`, `token`, `trust`, `text` | what is chosen, who is who, and how that is written down |
//! | `wire` | headers of handshakes |
//! | `hash`, `aead`, `secret`, `entropy` | the primitives, as Noise wants them, and secrets drawn from one |
//! | `noise` | the handshake's two messages |
//! | `initiator`, `responder`, `cookie` | the datagrams of a handshake |
//! | `transport`, `replay` | sealed datagrams |
//! | `reset` | the end of a session that the server has forgotten |
//!
//! # What it promises
//! * Who does not have the server's private key cannot be the server; who does not have the client's cannot be the client
//!   with that key.
//! * What was sealed stays secret when private keys are stolen later, and what was sealed before the last generation of keys
//!   stays secret when those of the session are. Except for HELLO: who steals the *server's* private key can read it.
//! * A client's public key is seen by the server alone.
//! * A first message that is recorded and sent again makes a session that nobody can confirm, and nothing else: so it needs no
//!   clock and no counter that a microcontroller would have to keep. That is why [`Unconfirmed`] seals nothing.
//! * Lengths, times and ids are seen by all, and whoever is on the way can drop what he likes.
//!
//! ```
//! use kcpq_core::Instant;
//! use kcpq_core::seal::{Cipher, Credentials, HEADER, Identity, Initiator, PrivateKey, Responder, Transport, header, kind};
//!
//! let (client_key, server_key) = (PrivateKey::from_bytes(&[1; 32]), PrivateKey::from_bytes(&[2; 32])); // random in earnest
//! let server = server_key.public();
//! let responder = Responder::new(Some(server_key), None);
//! let now = Instant::ZERO;
//!
//! // The client knows the server's public key.
//! let credentials = Credentials::Identity { key: &client_key, server: &server };
//! let mut initiator = Initiator::new(7, credentials, Cipher::ChaChaPoly, &[3; 32], b"HELLO")?;
//! let mut datagram = initiator.datagram().to_vec();
//!
//! // The server learns who it is, and decides.
//! let pending = responder.open(responder.look(&mut datagram)?)?;
//! assert_eq!(pending.identity(), Identity::Key(client_key.public()));
//! assert_eq!(pending.hello(), b"HELLO");
//! let mut unconfirmed = pending.reply(&[4; 32], b"WELCOME")?;
//!
//! let mut datagram = unconfirmed.datagram().to_vec();
//! let (mut client, welcome): (Transport, _) = initiator.handle_reply(&mut datagram)?;
//! assert_eq!(welcome, b"WELCOME");
//!
//! // The client's first datagram confirms the session.
//! let (mut head, mut body) = (header(99, kind::SEALED, 0), *b"hi..................");
//! let len = client.seal(now, 0, &mut head, &mut body, 2)?;
//! let (mut server, opened): (Transport, _) = unconfirmed.confirm(now, &head, &mut body[..len])?;
//! assert_eq!((opened.number, &*opened.body), (0, &b"hi"[..]));
//!
//! let len = server.seal(now, 0, &mut head, &mut body, 2)?;
//! assert_eq!(client.open(now, &head, &mut body[..len])?.body, b"hi");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod aead;
#[cfg_attr(not(feature = "sealed-aes"), path = "absent/aes_gcm.rs")]
#[cfg_attr(all(feature = "aws-lc", target_os = "linux", target_arch = "x86_64"), path = "aws_lc.rs")]
mod aes_gcm;
#[cfg_attr(feature = "sealed-small", path = "chacha_poly_small.rs")]
mod chacha_poly;
mod cookie;
mod entropy;
mod hash;
mod initiator;
mod key;
mod noise;
mod replay;
mod reset;
mod responder;
mod secret;
mod suite;
mod text;
mod token;
mod transport;
mod trust;
mod wire;

use core::fmt;

use crate::{Duration, Instant};

pub use crate::header::{HEADER, expand, header, id_of, kind, kind_of, low_number_of};
pub use aead::{Aead, RustCrypto, TAG};
pub use cookie::{COOKIE_PERIOD, Cookies};
pub(crate) use entropy::Entropy;
#[cfg(feature = "alloc")]
pub(crate) use hash::mac as keyed_hash;
pub use initiator::{Credentials, INITIAL_MAX, Initiator, StartError};
pub use key::{PrivateKey, PublicKey, SharedSecret};
pub use replay::Replay;
pub use reset::{RESET_LEN, ResetToken, ResetTokens, TOKEN};
pub use responder::{Identity, Initial, Pending, REPLY_MAX, RETRY_LEN, ReplyError, Responder, Unconfirmed};
pub use suite::{Cipher, Pattern, Suite};
pub use text::{KeyText, KeyTextError, Kind};
pub use token::{Token, TokenHash};
pub use transport::{OpenError, Opened, PREVIOUS_FOR, REKEY_AFTER, REKEY_INTERVAL, SEAL_LIMIT, SealError, Transport};
pub use trust::Trust;

/// Bytes of HELLO and of WELCOME at most.
pub const PAYLOAD_MAX: usize = 384;

/// Why a datagram of a handshake is dropped. For a counter, not for the other side: all get silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Rejected {
    /// Not such a datagram, or not of this handshake.
    Malformed,
    /// A suite that is not known, or for which this side has no key or no cipher.
    Unsupported,
    /// From somebody who does not know the server's public key, or the shared secret.
    Stranger,
    /// It is not what its sender made of it, or the sender is not who it claims to be.
    Forged,
    /// The handshake is over.
    Repeated,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a datagram of this handshake",
            Self::Unsupported => "suite is not supported",
            Self::Stranger => "sender does not know the key",
            Self::Forged => "datagram is not genuine",
            Self::Repeated => "the handshake is over",
        })
    }
}

impl core::error::Error for Rejected {}
