//! The handshake of a client whose sessions are sealed (PROTOCOL.md 10.3): HELLO rides in it, and WELCOME comes back in it.

use super::{Client, Disconnect};
use crate::header::{HEADER, kind, kind_of};
use crate::hello::{CloseReason, Hello, MAX_WELCOME, VERSION, read_refusal};
use crate::outbox::FrameStore;
use crate::seal::{Cipher, Entropy, Initiator, StartError, Transport, Trust};
use crate::session::Session;
use crate::time::{Duration, Instant};

/// What a client is about that has keys; nothing without. The handshake itself is the session's, whose keys take its
/// place.
#[derive(Debug, Default)]
pub(super) struct Handshake {
    means: Option<Means>,
    /// As long as one is under way.
    due: Option<Due>,
}

#[derive(Debug)]
struct Means {
    trust: Trust,
    cipher: Cipher,
    entropy: Entropy,
}

/// When INITIAL goes, and how long to wait before it goes again.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    pause: Duration,
}

/// What a datagram of a handshake has brought.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Answer<'d> {
    /// Nothing; it is none of this handshake's.
    Nothing,
    /// The server wants to see that the client is where it says it is.
    Retry,
    /// The server knows the client, and does not let it in.
    Refused(CloseReason),
    /// The session's keys, and WELCOME.
    Welcome(Transport, &'d [u8]),
}

/// The first pause; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(200);

impl Handshake {
    /// From now on the client's sessions are sealed.
    ///
    /// # Errors
    /// With these keys, this cipher or what the client says of itself no handshake could begin.
    fn use_keys(&mut self, trust: Trust, cipher: Cipher, entropy: &[u8; 32], hello: &[u8]) -> Result<(), StartError> {
        Initiator::new(0, trust.credentials(), cipher, &[0; 32], hello)?;
        self.means = Some(Means { trust, cipher, entropy: Entropy::new(entropy) });
        Ok(())
    }

    /// True if there are keys: nothing is said but in sealed sessions.
    pub(super) fn is_wanted(&self) -> bool {
        self.means.is_some()
    }

    /// Begins one. Without keys it does nothing.
    pub(super) fn begin<S: FrameStore>(&mut self, now: Instant, hello: &[u8], session: &mut Session<S>) {
        let Some(Means { trust, cipher, entropy }) = &mut self.means else { return };
        let id = entropy.draw().first_chunk().map_or(0, |id| u64::from_le_bytes(*id));
        // Keys, cipher and HELLO were tried: what cannot be is as if nobody answered.
        if let Ok(initiator) = Initiator::new(id, trust.credentials(), *cipher, &entropy.draw(), hello) {
            session.greet_by(initiator);
            self.due = Some(Due { at: now, pause: PAUSE });
        }
    }

    /// It is over, whatever has come of it.
    pub(super) fn end(&mut self) {
        self.due = None;
    }

    /// When there is something to send.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.map(|due| due.at)
    }

    /// Writes INITIAL if it is due.
    pub(super) fn poll_transmit<S: FrameStore>(
        &mut self,
        now: Instant,
        out: &mut [u8],
        session: &mut Session<S>,
    ) -> Option<usize> {
        let due = self.due.as_mut().filter(|due| due.at <= now)?;
        let datagram = session.greeting()?.datagram();
        let place = out.get_mut(..datagram.len())?;
        place.copy_from_slice(datagram);
        *due = Due { at: now + due.pause, pause: due.pause.saturating_mul(2) };
        Some(place.len())
    }

    /// Takes in a datagram. What anybody else sends changes nothing.
    fn handle_datagram<'d>(&mut self, now: Instant, initiator: &mut Initiator, datagram: &'d mut [u8]) -> Answer<'d> {
        let Some(due) = &mut self.due else { return Answer::Nothing };
        match datagram.first_chunk::<HEADER>().map(kind_of) {
            Some(kind::RETRY) if initiator.handle_retry(datagram).is_ok() => {
                due.at = now;
                Answer::Retry
            }
            Some(kind::REPLY) => match initiator.handle_reply(datagram) {
                Ok((transport, welcome)) => {
                    self.due = None;
                    match read_refusal(welcome) {
                        Some(reason) => Answer::Refused(reason),
                        None => Answer::Welcome(transport, welcome),
                    }
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
    /// With these keys, or this cipher in this build, no handshake can begin; or the client's name is too long for one.
    /// Nothing has changed then.
    pub fn use_keys(&mut self, trust: Trust, cipher: Cipher, entropy: &[u8; 32]) -> Result<(), StartError> {
        let mut payload = [0; MAX_WELCOME];
        let len = self.hello().encode(&mut payload);
        self.handshake.use_keys(trust, cipher, entropy, payload.get(..len).unwrap_or_default())
    }

    /// True if all that may be said now belongs to a handshake.
    pub(super) fn is_greeting(&self) -> bool {
        self.handshake.is_wanted() && !self.session.is_sealed()
    }

    /// Takes in what comes as long as [`is_greeting`](Self::is_greeting).
    pub(super) fn handle_greeting(&mut self, datagram: &mut [u8]) {
        let answer = match self.session.greeting() {
            Some(initiator) => self.handshake.handle_datagram(self.now, initiator, datagram),
            None => Answer::Nothing,
        };
        match answer {
            Answer::Refused(reason) => self.lose(Disconnect::ByServer(reason)),
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
