//! The handshake of a client whose sessions are sealed (PROTOCOL.md 10.3): HELLO rides in it, and WELCOME comes back in it.

use super::Client;
use crate::header::{HEADER, kind, kind_of};
use crate::hello::{Hello, VERSION};
use crate::outbox::FrameStore;
use crate::seal::{Cipher, Entropy, Initiator, StartError, Transport, Trust};
use crate::time::{Duration, Instant};

/// What a client is about that has keys; nothing without.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    means: Option<Means>,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct Means {
    trust: Trust,
    cipher: Cipher,
    entropy: Entropy,
}

#[derive(Debug)]
struct UnderWay {
    initiator: Initiator,
    /// When INITIAL goes, and how long to wait before it goes again.
    due_at: Instant,
    pause: Duration,
}

/// What a datagram of a handshake has brought.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Answer<'d> {
    /// Nothing; it is none of this handshake's.
    Nothing,
    /// The server wants to see that the client is where it says it is.
    Retry,
    /// The session's keys, and WELCOME.
    Welcome(Transport, &'d [u8]),
}

/// The first pause; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);

impl Handshake {
    /// From now on the client's sessions are sealed.
    ///
    /// # Errors
    /// With these keys or this cipher no handshake could begin.
    pub(super) fn use_keys(&mut self, trust: Trust, cipher: Cipher, entropy: &[u8; 32]) -> Result<(), StartError> {
        Initiator::new(0, trust.credentials(), cipher, &[0; 32], &[])?;
        self.means = Some(Means { trust, cipher, entropy: Entropy::new(entropy) });
        Ok(())
    }

    /// True if there are keys: nothing is said but in sealed sessions.
    pub(super) fn is_wanted(&self) -> bool {
        self.means.is_some()
    }

    /// Begins one. Without keys it does nothing.
    pub(super) fn begin(&mut self, now: Instant, hello: &[u8]) {
        let Some(Means { trust, cipher, entropy }) = &mut self.means else { return };
        let id = entropy.draw().first_chunk().map_or(0, |id| u64::from_le_bytes(*id));
        // Keys and cipher were tried, and HELLO fits: what cannot be is as if nobody answered.
        let initiator = Initiator::new(id, trust.credentials(), *cipher, &entropy.draw(), hello).ok();
        self.under_way = initiator.map(|initiator| UnderWay { initiator, due_at: now, pause: PAUSE });
    }

    /// It is over, whatever has come of it.
    pub(super) fn end(&mut self) {
        self.under_way = None;
    }

    /// When there is something to send.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|under_way| under_way.due_at)
    }

    /// Writes INITIAL if it is due.
    pub(super) fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let UnderWay { initiator, due_at, pause } =
            self.under_way.as_mut().filter(|under_way| under_way.due_at <= now)?;
        let datagram = initiator.datagram();
        let place = out.get_mut(..datagram.len())?;
        place.copy_from_slice(datagram);
        *due_at = now + *pause;
        *pause = pause.saturating_mul(2);
        Some(place.len())
    }

    /// Takes in a datagram. What anybody else sends changes nothing.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn handle_datagram<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Answer<'d> {
        let Some(under_way) = &mut self.under_way else { return Answer::Nothing };
        match datagram.first_chunk::<HEADER>().map(kind_of) {
            Some(kind::RETRY) if under_way.initiator.handle_retry(datagram).is_ok() => {
                under_way.due_at = now;
                Answer::Retry
            }
            Some(kind::REPLY) => match under_way.initiator.handle_reply(datagram) {
                Ok((transport, welcome)) => {
                    self.under_way = None;
                    Answer::Welcome(transport, welcome)
                }
                Err(_) => Answer::Nothing,
            },
            _ => Answer::Nothing,
        }
    }
}

impl<S: FrameStore> Client<S> {
    /// The same with keys: see [`use_keys`](Self::use_keys).
    ///
    /// # Errors
    /// With these keys, or this cipher in this build, no handshake can begin.
    pub fn with_keys(mut self, trust: Trust, cipher: Cipher, entropy: &[u8; 32]) -> Result<Self, StartError> {
        self.use_keys(trust, cipher, entropy)?;
        Ok(self)
    }

    /// The client's sessions are sealed from now on, and it speaks with nobody else; to be chosen before
    /// [`connect`](Self::connect). `entropy` is random, secret, and of no other use. A microcontroller takes
    /// [`Cipher::ChaChaPoly`].
    ///
    /// # Errors
    /// With these keys, or this cipher in this build, no handshake can begin. Nothing has changed then.
    pub fn use_keys(&mut self, trust: Trust, cipher: Cipher, entropy: &[u8; 32]) -> Result<(), StartError> {
        self.handshake.use_keys(trust, cipher, entropy)
    }

    /// True if all that may be said now belongs to a handshake.
    pub(super) fn is_greeting(&self) -> bool {
        self.handshake.is_wanted() && !self.session.is_sealed()
    }

    /// Takes in what comes as long as [`is_greeting`](Self::is_greeting).
    pub(super) fn handle_greeting(&mut self, datagram: &mut [u8]) {
        match self.handshake.handle_datagram(self.now, datagram) {
            Answer::Retry => {}
            Answer::Nothing => self.stats.foreign_datagrams += 1,
            Answer::Welcome(transport, welcome) => {
                let hello = Hello::decode(welcome).filter(|hello| hello.version >= VERSION);
                if let Some((hello, named)) = hello.and_then(|hello| Some((hello, hello.session?))) {
                    self.names.on_server(hello.name);
                    self.session.begin_sealed(named, transport);
                    self.welcome(&hello);
                    self.session.greet_sealed(self.now);
                } else {
                    self.stats.malformed += 1;
                }
            }
        }
        self.advance();
    }
}
