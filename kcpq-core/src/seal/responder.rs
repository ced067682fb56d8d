//! The server's side of a handshake, in the order of what it costs: one hash, the key agreements, the answer.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::aead::{Aead, TAG};
use super::hash::{hash, mac};
use super::noise::{self, ResponderKeys, SECOND_OVERHEAD, first_overhead};
use super::transport::{OpenError, Opened, Role, Transport};
use super::wire::{concat, handshake_id};
use super::{
    INITIAL_MAX, Instant, PAYLOAD_MAX, Pattern, PrivateKey, PublicKey, Rejected, SharedSecret, Suite, TokenHash,
};
use crate::header::{HEADER, header, kind};

/// Bytes of each of the two keyed hashes at the end of an INITIAL.
pub(super) const MAC: usize = 16;

/// Bytes of a cookie.
pub(super) const COOKIE: usize = 16;

/// Bytes of a RETRY.
pub const RETRY_LEN: usize = HEADER + COOKIE + MAC;

/// Bytes of a REPLY at most.
pub const REPLY_MAX: usize = HEADER + SECOND_OVERHEAD + PAYLOAD_MAX;

/// A REPLY has at most this many times the bytes of its INITIAL (RFC 9000, section 8.1): whose address was forged is not
/// flooded.
const AMPLIFICATION: usize = 3;

/// What both sides mix into the handshake before it begins: version, header and suite.
pub(super) fn prologue(header: &[u8; HEADER], suite: Suite) -> [u8; PROLOGUE.len() + HEADER + 1] {
    concat(&[PROLOGUE, header, &[suite.byte()]])
}

const PROLOGUE: &[u8] = b"kcpq sealed 1";

/// The key of `mac1` for those who know the server's public key.
pub(super) fn mac_key_of_server(server: &PublicKey) -> [u8; 32] {
    hash(&[PROLOGUE, b" mac1 public key", server.as_bytes()])
}

/// The key of `mac1` for those who know the shared secret.
pub(super) fn mac_key_of_secret(secret: &SharedSecret) -> [u8; 32] {
    hash(&[PROLOGUE, b" mac1 shared secret", secret.secret()])
}

/// A server's keys: one for all handshakes.
pub struct Responder {
    /// The private key and the key of `mac1`.
    key: Option<(PrivateKey, [u8; 32])>,
    /// The secret and the key of `mac1`.
    secret: Option<(SharedSecret, [u8; 32])>,
}

impl Responder {
    /// A server with a private key, a shared secret, or both. Handshakes for which it does not have what they need are
    /// rejected.
    pub fn new(key: Option<PrivateKey>, secret: Option<SharedSecret>) -> Self {
        Self {
            key: key.map(|key| {
                let mac_key = mac_key_of_server(&key.public());
                (key, mac_key)
            }),
            secret: secret.map(|secret| {
                let mac_key = mac_key_of_secret(&secret);
                (secret, mac_key)
            }),
        }
    }

    /// Looks at a datagram at the cost of one hash: an [`Initial`] is from somebody who knows this server's public key or the
    /// shared secret, or was recorded from such a one.
    ///
    /// # Errors
    /// [`Rejected`]. Whoever sent it **must not** get an answer.
    pub fn look<'d>(&self, datagram: &'d mut [u8]) -> Result<Initial<'d>, Rejected> {
        if datagram.len() > INITIAL_MAX {
            return Err(Rejected::Malformed);
        }
        let (head, rest) = datagram.split_first_chunk::<HEADER>().ok_or(Rejected::Malformed)?;
        let id = handshake_id(head, kind::INITIAL).ok_or(Rejected::Malformed)?;
        let suite = rest.first().and_then(|byte| Suite::from_byte(*byte)).ok_or(Rejected::Unsupported)?;
        let (before, _mac2) = datagram.split_last_chunk::<MAC>().ok_or(Rejected::Malformed)?;
        let (signed, mac1) = before.split_last_chunk::<MAC>().ok_or(Rejected::Malformed)?;
        if signed.len() < HEADER + 1 + first_overhead(suite.pattern) {
            return Err(Rejected::Malformed);
        }
        let mac_key = self.mac_key(suite.pattern).ok_or(Rejected::Unsupported)?;
        if !bool::from(mac(mac_key, &[signed]).ct_eq(mac1)) {
            return Err(Rejected::Stranger);
        }
        Ok(Initial { id, suite, mac_key: *mac_key, mac1: *mac1, datagram })
    }

    fn mac_key(&self, pattern: Pattern) -> Option<&[u8; 32]> {
        match pattern {
            Pattern::Ik | Pattern::Nk | Pattern::NkToken => self.key.as_ref().map(|(_, mac_key)| mac_key),
            Pattern::NnPsk0 => self.secret.as_ref().map(|(_, mac_key)| mac_key),
        }
    }

    /// Opens the first message: two key agreements for a client with a key, one for an anonymous one, none with a shared
    /// secret.
    ///
    /// # Errors
    /// [`Rejected`]. Whoever sent it **must not** get an answer.
    pub fn open<'d>(&self, initial: Initial<'d>) -> Result<Pending<'d>, Rejected> {
        let Initial { id, suite, mac1, datagram, .. } = initial;
        let len = datagram.len();
        let (head, rest) = datagram.split_first_chunk_mut::<HEADER>().ok_or(Rejected::Malformed)?;
        let message = rest.get_mut(1..).and_then(|rest| {
            let end = rest.len().checked_sub(2 * MAC)?;
            rest.get_mut(..end)
        });
        let key = self.key.as_ref().map(|(key, _)| key);
        let secret = self.secret.as_ref().map(|(secret, _)| secret);
        let keys = match suite.pattern {
            Pattern::Ik => key.map(|key| ResponderKeys::Ik { key }),
            Pattern::Nk | Pattern::NkToken => key.map(|key| ResponderKeys::Nk { key }),
            Pattern::NnPsk0 => secret.map(|secret| ResponderKeys::NnPsk0 { secret }),
        };
        let (noise, payload) = noise::Responder::read(
            &keys.ok_or(Rejected::Unsupported)?,
            suite.cipher,
            &prologue(head, suite),
            message.ok_or(Rejected::Malformed)?,
        )?;
        let (identity, hello) = match (suite.pattern, noise.client) {
            (Pattern::NkToken, _) => {
                let (token, hello) = payload.split_first_chunk_mut().ok_or(Rejected::Malformed)?;
                let hash = TokenHash::of(token);
                token.zeroize();
                (Identity::Token(hash), hello)
            }
            (Pattern::NnPsk0, _) => (Identity::Shared, payload),
            (_, Some(key)) => (Identity::Key(key), payload),
            (_, None) => (Identity::Anonymous, payload),
        };
        Ok(Pending { id, suite, mac1, len, noise, identity, hello })
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.key.as_ref().map(|(key, _)| key.public());
        f.debug_struct("Responder").field("public", &public).finish_non_exhaustive()
    }
}

/// An INITIAL whose first check was passed. What can be decided about it costs nothing yet: its suite (are anonymous clients
/// allowed?), whether it repeats one that was [answered](Unconfirmed::answers), and whether it has to show a
/// [cookie](super::Cookies).
pub struct Initial<'d> {
    id: u64,
    suite: Suite,
    mac_key: [u8; 32],
    mac1: [u8; MAC],
    datagram: &'d mut [u8],
}

impl Initial<'_> {
    /// The id that the client chose for the handshake.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The suite that the client chose.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) const fn mac_key(&self) -> &[u8; 32] {
        &self.mac_key
    }

    pub(super) const fn mac1(&self) -> &[u8; MAC] {
        &self.mac1
    }

    /// What `mac2` is over, and `mac2`.
    pub(super) fn with_mac2(&self) -> Option<(&[u8], &[u8; MAC])> {
        self.datagram.split_last_chunk()
    }
}

impl fmt::Debug for Initial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initial").field("id", &self.id).field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Who a client has shown to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The owner of this key.
    Key(PublicKey),
    /// Who has the token of this hash.
    Token(TokenHash),
    /// Nobody in particular.
    Anonymous,
    /// One of those who have the shared secret.
    Shared,
}

/// A first message that was opened. The server decides by [`identity`](Self::identity): it replies, or drops this, which is
/// silence.
///
/// The message may be an old one that somebody else sends again. So nothing must come of it but a [REPLY](Self::reply) until
/// the session is [confirmed](Unconfirmed::confirm), which only who has the keys can do.
pub struct Pending<'d> {
    id: u64,
    suite: Suite,
    mac1: [u8; MAC],
    len: usize,
    noise: noise::Responder,
    identity: Identity,
    hello: &'d mut [u8],
}

impl Pending<'_> {
    /// Who the client is, if the session is confirmed.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// What the client said.
    pub fn hello(&self) -> &[u8] {
        self.hello
    }

    /// The suite that the client chose.
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Replies: one new key and one key agreement, two for a client with a key. `entropy` is random, secret, and used once.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub fn reply<A: Aead>(self, entropy: &[u8; 32], welcome: &[u8]) -> Result<Unconfirmed<A>, ReplyError> {
        let actual = HEADER + SECOND_OVERHEAD + welcome.len();
        let limit = REPLY_MAX.min(AMPLIFICATION * self.len);
        if actual > limit {
            return Err(ReplyError::TooLong { limit, actual });
        }
        let mut datagram = heapless::Vec::new();
        let too_long = |_| ReplyError::TooLong { limit, actual };
        datagram.extend_from_slice(&header(self.id, kind::REPLY, 0)).map_err(too_long)?;
        datagram.extend_from_slice(&[0; SECOND_OVERHEAD - TAG]).map_err(too_long)?;
        datagram.extend_from_slice(welcome).map_err(too_long)?;
        datagram.extend_from_slice(&[0; TAG]).map_err(too_long)?;
        let message = datagram.get_mut(HEADER..).unwrap_or_default();
        let split = self.noise.write(entropy, message).map_err(|_| ReplyError::Key)?;
        let transport = Transport::new(Role::Server, self.suite.cipher, split).ok_or(ReplyError::Unsupported)?;
        Ok(Unconfirmed { mac1: self.mac1, datagram, transport: Some(transport) })
    }
}

impl fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("id", &self.id).field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A session that was replied to, and of which it is not known yet that the client lives. Nothing can be sealed with it.
///
/// It should be forgotten after some seconds, and there should be few of them for an identity and in all.
pub struct Unconfirmed<A = super::RustCrypto> {
    mac1: [u8; MAC],
    datagram: heapless::Vec<u8, REPLY_MAX>,
    /// `None` once it was confirmed.
    transport: Option<Transport<A>>,
}

impl<A: Aead> Unconfirmed<A> {
    /// The REPLY, to be sent, and sent again for each INITIAL that it [answers](Self::answers).
    pub fn datagram(&self) -> &[u8] {
        &self.datagram
    }

    /// Whether an INITIAL is the one that was replied to.
    pub fn answers(&self, initial: &Initial<'_>) -> bool {
        self.mac1.ct_eq(&initial.mac1).into()
    }

    /// Takes a sealed datagram; the first genuine one confirms the session and gives it.
    ///
    /// # Errors
    /// [`OpenError`] if it is not genuine; nothing has changed.
    pub fn confirm<'b>(
        &mut self,
        now: Instant,
        header: &[u8; HEADER],
        body: &'b mut [u8],
    ) -> Result<(Transport<A>, Opened<'b>), OpenError> {
        let opened = self.transport.as_mut().ok_or(OpenError::Repeated)?.open(now, header, body)?;
        let transport = self.transport.take().ok_or(OpenError::Repeated)?;
        Ok((transport, opened))
    }
}

impl<A> fmt::Debug for Unconfirmed<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unconfirmed").finish_non_exhaustive()
    }
}

/// Why there is no REPLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ReplyError {
    /// It would be longer than a REPLY may be, or than three times the INITIAL.
    TooLong {
        /// Bytes it may have.
        limit: usize,
        /// Bytes it would have.
        actual: usize,
    },
    /// The implementation of ciphers that was asked for does not have this one.
    Unsupported,
    /// The client's key is none that anybody can have: to be treated as an INITIAL that is rejected.
    Key,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit, actual } => write!(f, "REPLY of {actual} bytes, the limit is {limit}"),
            Self::Unsupported => f.write_str("the cipher is not in this build"),
            Self::Key => f.write_str("the client's public key is none that anybody can have"),
        }
    }
}

impl core::error::Error for ReplyError {}
