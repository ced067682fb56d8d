//! Datagrams of an established session: sealed, opened once, under keys that change (PROTOCOL.md 10.5).
//!
//! Each direction has a key. With every generation it is replaced by Noise's `Rekey` of itself (revision 34, section 4.2),
//! which cannot be turned back. The client begins a generation; the server's direction follows when the server has opened a
//! datagram of it; the client begins no other before it has opened the server's answer. So neither is ever more than one
//! generation ahead of what the other can open, and one bit in the kind of a datagram tells which of two keys it is under.

use core::fmt;

use super::aead::{Aead, RustCrypto, TAG};
use super::noise::Split;
use super::replay::Replay;
use super::secret::Secret;
use super::{Cipher, Duration, Instant};
use crate::header::{HEADER, expand, kind, kind_of, low_number_of};

/// So many datagrams of either direction make the client begin a new generation.
pub const REKEY_AFTER: u64 = 1 << 20;

/// So long after the last one the client begins a new generation, with the next datagram that it seals.
pub const REKEY_INTERVAL: Duration = Duration::from_secs(120);

/// So many datagrams are sealed under one key and no more, if the client does not begin a new generation: the limit of
/// AES-GCM in RFC 9001, section 6.6, for datagrams of up to 16 KiB. ChaCha20-Poly1305 would have a larger one.
pub const SEAL_LIMIT: u64 = 1 << 23;

/// So long a key is kept for datagrams that were overtaken by one of the next generation.
pub const PREVIOUS_FOR: Duration = Duration::from_secs(10);

/// The nonce of `Rekey`, which no datagram has.
const REKEY_NONCE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Client,
    Server,
}

/// The keys of a session: seals what is sent, opens what is received, each genuine datagram once.
///
/// A datagram is a header of [`HEADER`] bytes and a body. The header is readable by all and altered by nobody; the body is
/// also hidden. Both are worked on in place, in one pass.
///
/// `A` is the implementation of the ciphers.
pub struct Transport<A = RustCrypto> {
    role: Role,
    cipher: Cipher,
    sending: Sending<A>,
    receiving: Receiving<A>,
}

/// One direction's key.
struct Current<A> {
    aead: A,
    /// From 0.
    generation: u64,
    /// The number of the datagram with which it began here. Where it is received it may have overtaken others of the same
    /// generation, but those of the previous one all lie before it, and those of the next behind it.
    first: u64,
}

struct Sending<A> {
    current: Current<A>,
    /// Lower numbers were used.
    next: u64,
    /// When the generation began: with the first datagram sealed.
    since: Option<Instant>,
}

struct Receiving<A> {
    current: Current<A>,
    /// The previous key, and until when it is of use.
    previous: Option<(A, Instant)>,
    replay: Replay,
}

/// What was in a genuine datagram.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'b> {
    /// The datagram's number.
    pub number: u64,
    /// What was sealed.
    pub body: &'b mut [u8],
}

impl<A: Aead> Current<A> {
    fn new(cipher: Cipher, key: &Secret) -> Option<Self> {
        Some(Self { aead: A::new(cipher, key)?, generation: 0, first: 0 })
    }

    /// The next generation, of which the first datagram has this number.
    fn next(&self, cipher: Cipher, first: u64) -> Option<Self> {
        let mut key = Secret::empty();
        self.aead.seal(REKEY_NONCE, &[], &mut *key)?;
        let aead = A::new(cipher, &key)?;
        Some(Self { aead, generation: self.generation + 1, first })
    }

    fn kind(&self) -> u8 {
        if self.generation.is_multiple_of(2) { kind::SEALED } else { kind::SEALED_ODD }
    }
}

impl<A: Aead> Transport<A> {
    /// `None` if `A` does not have the cipher.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn new(role: Role, cipher: Cipher, split: Split) -> Option<Self> {
        let (own, other) = match role {
            Role::Client => (split.of_initiator, split.of_responder),
            Role::Server => (split.of_responder, split.of_initiator),
        };
        Some(Self {
            role,
            cipher,
            sending: Sending { current: Current::new(cipher, &own)?, next: 0, since: None },
            receiving: Receiving { current: Current::new(cipher, &other)?, previous: None, replay: Replay::new() },
        })
    }

    /// The cipher of the session.
    pub const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The lowest number that [`seal`](Self::seal) takes.
    pub const fn next_number(&self) -> u64 {
        self.sending.next
    }

    /// Seals a datagram in place and gives the length of its body: `len` bytes of `body`, and [`TAG`] more for which there
    /// has to be room behind them. The id stands in `header` already; kind and number are written into it.
    ///
    /// Numbers need not follow each other, but each has to be higher than the one before: as the nonce of a key it must not
    /// be used twice.
    ///
    /// # Errors
    /// [`SealError`]; nothing was sealed, and the number was not used.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn seal(
        &mut self,
        now: Instant,
        number: u64,
        header: &mut [u8; HEADER],
        body: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        if number < self.sending.next || number == u64::MAX {
            return Err(SealError::Used { next: self.sending.next });
        }
        let room = body.len();
        let no_room = SealError::NoRoom { needed: len.saturating_add(TAG), room };
        let (text, rest) = body.split_at_mut_checked(len).ok_or(no_room)?;
        let tag = rest.first_chunk_mut::<TAG>().ok_or(no_room)?;
        self.begin_generation_if_due(now, number);
        if number - self.sending.current.first >= SEAL_LIMIT {
            return Err(SealError::Exhausted);
        }

        let [.., kind, _, _, _, _, x, y, z] = header;
        *kind = self.sending.current.kind();
        [*x, *y, *z, ..] = number.to_le_bytes();
        *tag = self.sending.current.aead.seal(number, header, text).ok_or(SealError::Exhausted)?;
        self.sending.next = number + 1;
        Ok(len + TAG)
    }

    /// Opens a datagram in place.
    ///
    /// # Errors
    /// [`OpenError`] if it is not genuine, or was opened before; nothing has changed, and it **must not** be answered.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn open<'b>(
        &mut self,
        now: Instant,
        header: &[u8; HEADER],
        body: &'b mut [u8],
    ) -> Result<Opened<'b>, OpenError> {
        let kind = kind_of(header);
        if kind != kind::SEALED && kind != kind::SEALED_ODD {
            return Err(OpenError::Malformed);
        }
        if body.len() < TAG {
            return Err(OpenError::Malformed);
        }
        let receiving = &mut self.receiving;
        let number = expand(low_number_of(header), receiving.replay.expected());
        if !receiving.replay.is_fresh(number) {
            return Err(OpenError::Repeated);
        }
        receiving.previous.take_if(|(_, until)| now > *until);

        let body = if kind == receiving.current.kind() {
            receiving.current.aead.open(number, header, body).ok_or(OpenError::Forged)?
        } else if number < receiving.current.first {
            let (previous, _) = receiving.previous.as_ref().ok_or(OpenError::Forged)?;
            previous.open(number, header, body).ok_or(OpenError::Forged)?
        } else {
            let awaited = self.sending.current.generation > receiving.current.generation;
            if self.role == Role::Client && !awaited {
                return Err(OpenError::Forged); // the server only follows
            }
            let next = receiving.current.next(self.cipher, number).ok_or(OpenError::Forged)?;
            let body = next.aead.open(number, header, body).ok_or(OpenError::Forged)?;
            let previous = core::mem::replace(&mut receiving.current, next);
            receiving.previous = Some((previous.aead, now + PREVIOUS_FOR));
            if self.role == Role::Server {
                self.begin_generation(now, self.sending.next);
            }
            body
        };
        self.receiving.replay.take(number);
        Ok(Opened { number, body })
    }

    /// How often the keys of sending and of receiving were replaced.
    pub const fn generations(&self) -> (u64, u64) {
        (self.sending.current.generation, self.receiving.current.generation)
    }

    fn begin_generation_if_due(&mut self, now: Instant, number: u64) {
        let since = *self.sending.since.get_or_insert(now);
        let (own, other) = (&self.sending.current, &self.receiving.current);
        let due = number - own.first >= REKEY_AFTER
            || self.receiving.replay.expected().saturating_sub(other.first) >= REKEY_AFTER
            || now.since(since) >= REKEY_INTERVAL;
        if self.role == Role::Client && due && own.generation == other.generation {
            self.begin_generation(now, number);
        }
    }

    fn begin_generation(&mut self, now: Instant, first: u64) {
        // There always is a next one: the cipher is one that the implementation has.
        if let Some(next) = self.sending.current.next(self.cipher, first) {
            self.sending.current = next;
            self.sending.since = Some(now);
        }
    }
}

impl<A> fmt::Debug for Transport<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

/// Why a datagram was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SealError {
    /// There is no room for the tag behind the body.
    NoRoom {
        /// Bytes that are needed.
        needed: usize,
        /// Bytes there are.
        room: usize,
    },
    /// The number was used, or is below one that was.
    Used {
        /// The lowest that was not.
        next: u64,
    },
    /// The key has sealed [`SEAL_LIMIT`] datagrams, and the client has not begun a new generation. The session has to end.
    Exhausted,
}

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OpenError {
    /// Too short, or of another kind.
    Malformed,
    /// Its number was taken, or lies before the window.
    Repeated,
    /// It is not what the other side has sealed.
    Forged,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { needed, room } => write!(f, "sealed body of {needed} bytes, there is room for {room}"),
            Self::Used { next } => write!(f, "datagram number was used, the next one is {next}"),
            Self::Exhausted => f.write_str("the session's key has sealed all that it may"),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a sealed datagram",
            Self::Repeated => "datagram number was taken before",
            Self::Forged => "datagram is not genuine",
        })
    }
}

impl core::error::Error for SealError {}
impl core::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_begins_a_generation_by_itself_is_not_followed() {
        let now = Instant::from_millis(1);
        let split = || Split { of_initiator: Secret::new([1; 32]), of_responder: Secret::new([2; 32]) };
        let [mut client, mut server] = [Role::Client, Role::Server]
            .map(|role| Transport::<RustCrypto>::new(role, Cipher::ChaChaPoly, split()).unwrap());
        server.begin_generation(now, 0);
        let (mut header, mut body) = ([0; HEADER], [0; TAG]);
        server.seal(now, 0, &mut header, &mut body, 0).unwrap();
        assert_eq!(client.open(now, &header, &mut body), Err(OpenError::Forged));
        // Of its own accord the client goes there, and then understands.
        client.begin_generation(now, 0);
        assert!(client.open(now, &header, &mut body).is_ok());
    }
}
