//! The client's side of a handshake.

use core::fmt;

use subtle::ConstantTimeEq;

use super::aead::{Aead, TAG};
use super::hash::mac;
use super::noise::{self, InitiatorKeys, first_overhead};
use super::responder::{COOKIE, MAC, RETRY_LEN, mac_key_of_secret, mac_key_of_server, prologue};
use super::transport::{Role, Transport};
use super::wire::{concat, fill};
use super::{Cipher, PAYLOAD_MAX, Pattern, PrivateKey, PublicKey, Rejected, SharedSecret, Suite, Token};
use crate::header::{HEADER, header, kind};

/// Bytes of an INITIAL at most.
pub const INITIAL_MAX: usize = HEADER + 1 + first_overhead(Pattern::Ik) + PAYLOAD_MAX + 2 * MAC;

/// Bytes of HELLO that an [`Initiator`] takes. Where there is no allocator it is in static memory all the time.
const HELLO_MAX: usize = if cfg!(feature = "alloc") { PAYLOAD_MAX } else { 96 };

/// Bytes of the longest INITIAL that an [`Initiator`] writes.
const OWN_MAX: usize = INITIAL_MAX - PAYLOAD_MAX + HELLO_MAX;

/// How the client knows the server, and the server the client.
#[derive(Clone, Copy, Debug)]
pub enum Credentials<'a> {
    /// By their public keys.
    Identity {
        /// The client's own.
        key: &'a PrivateKey,
        /// The server's.
        server: &'a PublicKey,
    },
    /// The server by its public key, the client not at all.
    Anonymous {
        /// The server's.
        server: &'a PublicKey,
    },
    /// The server by its public key, the client by a token.
    Token {
        /// The client's.
        token: &'a Token,
        /// The server's.
        server: &'a PublicKey,
    },
    /// By a secret that both have.
    Shared {
        /// It.
        secret: &'a SharedSecret,
    },
}

/// A client's handshake that waits for its REPLY.
///
/// [`datagram`](Self::datagram) is to be sent, and sent again as it is until there is an answer: the server answers a
/// repetition with the same REPLY. Whatever is given to [`handle_reply`](Self::handle_reply) and
/// [`handle_retry`](Self::handle_retry), nothing but the server's own word changes anything.
pub struct Initiator {
    id: u64,
    cipher: Cipher,
    /// `None` once it is over: the keys of a session are handed out once.
    noise: Option<noise::Initiator>,
    mac_key: [u8; 32],
    datagram: [u8; OWN_MAX],
    /// Bytes of it before `mac1`.
    signed: usize,
}

impl Initiator {
    /// Begins a handshake.
    ///
    /// `id` is random and shown in the datagrams of the handshake, `entropy` is random and secret, and both are used
    /// once. `hello` is carried in the first message; it has [`PAYLOAD_MAX`] bytes at most, 96 without the feature
    /// `alloc`. It is secret, but not forward secret (who takes the server's private key later can read it), and the
    /// server must not act upon it before the session is confirmed.
    ///
    /// # Errors
    /// [`StartError`]; nothing was begun then.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn new(
        id: u64,
        credentials: Credentials<'_>,
        cipher: Cipher,
        entropy: &[u8; 32],
        hello: &[u8],
    ) -> Result<Self, StartError> {
        if hello.len() > HELLO_MAX {
            return Err(StartError::TooLong { limit: HELLO_MAX, actual: hello.len() });
        }
        let (pattern, keys) = match credentials {
            Credentials::Identity { key, server } => (Pattern::Ik, InitiatorKeys::Ik { key, server }),
            Credentials::Anonymous { server } => (Pattern::Nk, InitiatorKeys::Nk { server }),
            Credentials::Token { server, .. } => (Pattern::NkToken, InitiatorKeys::Nk { server }),
            Credentials::Shared { secret } => (Pattern::NnPsk0, InitiatorKeys::NnPsk0 { secret }),
        };
        let mac_key = match keys {
            InitiatorKeys::Ik { server, .. } | InitiatorKeys::Nk { server } => mac_key_of_server(server),
            InitiatorKeys::NnPsk0 { secret } => mac_key_of_secret(secret),
        };
        let token: &[u8] = if let Credentials::Token { token, .. } = credentials { &**token.secret() } else { &[] };
        let suite = Suite { pattern, cipher };
        let header = header(id, kind::INITIAL, 0);

        // The rest stays zero until it is written: the fields of the message, the places of tags, `mac2`.
        let mut datagram = [0; OWN_MAX];
        let before_hello = HEADER + 1 + first_overhead(suite.pattern) - TAG;
        let signed = before_hello + hello.len() + TAG;
        fill(&mut datagram, &[&header, &[suite.byte()]]);
        fill(datagram.get_mut(before_hello - token.len()..).unwrap_or_default(), &[token, hello]);
        let message = datagram.get_mut(HEADER + 1..signed).unwrap_or_default();
        let noise = noise::Initiator::write(&keys, cipher, &prologue(&header, suite), entropy, message);
        let noise = noise.map_err(|why| match why {
            Rejected::Unsupported => StartError::Unsupported { cipher },
            _ => StartError::Key,
        })?;
        let (before, rest) = datagram.split_at_mut_checked(signed).unwrap_or_default();
        fill(rest, &[&mac(&mac_key, &[before])]);
        Ok(Self { id, cipher, noise: Some(noise), mac_key, datagram, signed })
    }

    /// The id of the handshake.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The INITIAL to send.
    pub fn datagram(&self) -> &[u8] {
        self.datagram.get(..self.signed + 2 * MAC).unwrap_or_default()
    }

    /// Takes a RETRY: the server is busy and wants its cookie back. [`datagram`](Self::datagram) has it then, and is to be
    /// sent at once.
    ///
    /// # Errors
    /// [`Rejected`] if it does not answer this INITIAL; nothing has changed.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn handle_retry(&mut self, retry: &[u8]) -> Result<(), Rejected> {
        let retry: &[u8; RETRY_LEN] = retry.try_into().map_err(|_| Rejected::Malformed)?;
        let (head, rest) = retry.split_first_chunk::<HEADER>().ok_or(Rejected::Malformed)?;
        let (cookie, tag) = rest.split_first_chunk::<COOKIE>().ok_or(Rejected::Malformed)?;
        if *head != header(self.id, kind::RETRY, 0) {
            return Err(Rejected::Malformed);
        }
        let (before, mac2) = self.datagram.split_at_mut_checked(self.signed + MAC).ok_or(Rejected::Malformed)?;
        let mac1 = before.last_chunk::<MAC>().ok_or(Rejected::Malformed)?;
        if !bool::from(mac(&self.mac_key, &[head, cookie, mac1]).ct_eq(tag)) {
            return Err(Rejected::Forged);
        }
        fill(mac2, &[&mac(&cookie_key(cookie), &[before])]);
        Ok(())
    }

    /// Takes the REPLY, in place: gives the session's keys and what the server said. The handshake is over then.
    ///
    /// The session **must** be confirmed by a sealed datagram at once: before that the server sends nothing.
    ///
    /// # Errors
    /// [`Rejected`] if it is not the server's answer to this INITIAL, or came before; nothing has changed.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn handle_reply<'d, A: Aead>(&mut self, reply: &'d mut [u8]) -> Result<(Transport<A>, &'d mut [u8]), Rejected> {
        let (head, message) = reply.split_first_chunk_mut::<HEADER>().ok_or(Rejected::Malformed)?;
        if *head != header(self.id, kind::REPLY, 0) {
            return Err(Rejected::Malformed);
        }
        let (split, welcome) = self.noise.as_ref().ok_or(Rejected::Repeated)?.read(message)?;
        let transport = Transport::new(Role::Client, self.cipher, split).ok_or(Rejected::Unsupported)?;
        self.noise = None;
        Ok((transport, welcome))
    }
}

/// The key of `mac2`.
pub(super) fn cookie_key(cookie: &[u8; COOKIE]) -> [u8; 32] {
    concat(&[cookie])
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("id", &self.id).field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

/// Why a handshake cannot begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StartError {
    /// HELLO is too long.
    TooLong {
        /// Bytes it may have.
        limit: usize,
        /// Bytes it has.
        actual: usize,
    },
    /// This build does not have the cipher.
    Unsupported {
        /// It.
        cipher: Cipher,
    },
    /// The server's public key is one of the few that nobody can have.
    Key,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit, actual } => write!(f, "HELLO of {actual} bytes, the limit is {limit}"),
            Self::Unsupported { cipher } => write!(f, "{cipher:?} is not in this build"),
            Self::Key => f.write_str("the server's public key is none that anybody can have"),
        }
    }
}

impl core::error::Error for StartError {}
