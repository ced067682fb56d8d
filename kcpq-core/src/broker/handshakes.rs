//! The server's half of handshakes (PROTOCOL.md 10.3, 10.4): who shows to be nobody gets silence, and nothing comes of a
//! handshake before the client has sent a sealed datagram.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::config::HandshakeLimits;
use super::context::Context;
use super::dispatch::welcome;
use super::event::Event;
use super::peer::Peer;
use super::sessions::{Elsewhere, Sessions};
use crate::access::Credential;
use crate::datagram::Content;
use crate::datagram::sealing::opened;
use crate::header::{HEADER, id_of, kind, kind_of};
use crate::hello::{CloseReason, Hello, MAX_WELCOME, Named, refusal};
use crate::seal::{Cookies, Entropy, Identity, PrivateKey, Responder, SharedSecret, Transport, Unconfirmed};
use crate::time::{Duration, Instant};

/// Hashes what peers choose, so it is seeded.
type Map<V> = HashMap<u64, V, SeedableRandomState>;

/// A server's keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Its private key: for clients who know the public one, with keys of their own or without.
    pub key: Option<PrivateKey>,
    /// A secret that clients have as well.
    pub secret: Option<SharedSecret>,
}

/// Those that wait for the client's first sealed datagram, and what they are answered with; nothing without keys.
pub(super) struct Handshakes<P> {
    means: Option<Means>,
    waiting: Map<Box<Waiting<P>>>,
    /// The names of the sessions they are to become, by the ids of their INITIALs.
    by_initial: Map<u64>,
    /// Their names, the oldest first.
    order: VecDeque<u64>,
    load: Load,
    /// INITIALs that wait to be opened, one in each turn.
    late: VecDeque<(P, Box<[u8]>)>,
}

struct Means {
    responder: Responder,
    cookies: Cookies,
    entropy: Entropy,
}

struct Waiting<P> {
    unconfirmed: Unconfirmed,
    initial: u64,
    until: Instant,
    session: Greeted<P>,
}

/// A session that is to be.
struct Greeted<P> {
    /// Where REPLY was sent.
    peer: P,
    identity: Identity,
    named: Named,
    hello: Vec<u8>,
}

/// What a client has shown by its handshake.
fn credential(identity: &Identity) -> Credential {
    match identity {
        Identity::Key(key) => Credential::Key(*key.as_bytes()),
        Identity::Token(hash) => Credential::Token(*hash.as_bytes()),
        Identity::Anonymous => Credential::Sealed,
        Identity::Shared => Credential::Shared,
    }
}

impl<P> Greeted<P> {
    /// What the client has said; it was looked at before.
    fn hello(&self) -> Option<Hello<'_>> {
        Hello::decode(&self.hello)
    }
}

/// A session that is confirmed: its keys, and what the datagram holds that did it.
struct Confirmed<'d, P> {
    transport: Transport,
    session: Greeted<P>,
    datagram: &'d [u8],
    content: Content<'d>,
}

/// What an INITIAL leads to.
enum Decision {
    /// Silence.
    None,
    /// This goes back.
    Answer(Box<[u8]>),
}

/// The first messages of this second that were opened, which is what costs.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    second: u64,
    opened: u32,
    before: u32,
}

/// Most INITIALs that wait for their turns.
const MAX_LATE: usize = 256;
/// How long a client has to send its first sealed datagram.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);

impl Load {
    fn at(&mut self, now: Instant) {
        let second = now.as_micros() / 1_000_000;
        if second != self.second {
            self.before = if second == self.second + 1 { self.opened } else { 0 };
            (self.second, self.opened) = (second, 0);
        }
    }

    fn is_high(&self, limits: &HandshakeLimits) -> bool {
        self.opened.max(self.before) >= limits.before_retry
    }
}

impl<P: Peer> Handshakes<P> {
    pub(super) fn new(seed: u64) -> Self {
        let state = |salt: u64| SeedableRandomState::with_seed(seed ^ salt, SharedSeed::global_fixed());
        Self {
            means: None,
            waiting: Map::with_hasher(state(5)),
            by_initial: Map::with_hasher(state(6)),
            order: VecDeque::new(),
            load: Load::default(),
            late: VecDeque::new(),
        }
    }

    /// Sealed sessions may be opened from now on. `entropy` is random.
    pub(super) fn use_keys(&mut self, keys: Keys, entropy: &[u8; 32]) {
        let mut entropy = Entropy::new(entropy);
        let cookies = Cookies::new(&entropy.draw());
        self.means = Some(Means { responder: Responder::new(keys.key, keys.secret), cookies, entropy });
    }

    /// True if there are keys.
    pub(super) fn is_on(&self) -> bool {
        self.means.is_some()
    }

    /// True if somebody waits for a turn.
    pub(super) fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Takes in an INITIAL, or one that came `late` to its turn. Whoever it is from, a session of `peer` may be kept
    /// out for a reason.
    fn handle_initial(
        &mut self,
        cx: &mut Context<P>,
        peer: P,
        keeps_out: Option<CloseReason>,
        datagram: &mut [u8],
        late: bool,
    ) -> Decision {
        let (now, limits) = (cx.now, cx.config.handshakes);
        self.forget(now);
        let Some(Means { responder, cookies, entropy }) = &mut self.means else { return Decision::None };
        let Ok(initial) = responder.look(datagram) else {
            cx.stats.strangers += 1;
            return Decision::None;
        };
        let address = cx.fingerprint(&peer);
        let waiting = self.by_initial.get(&initial.id()).and_then(|name| self.waiting.get(name));
        if let Some(waiting) = waiting {
            // Its REPLY was lost; or somebody else has chosen the same id, who has to choose another one.
            return match waiting.unconfirmed.answers(&initial) {
                true => Decision::Answer(waiting.unconfirmed.datagram().into()),
                false => Decision::None,
            };
        }
        self.load.at(now);
        if self.load.is_high(&limits) && !cookies.has_cookie(now, &initial, &address) {
            cx.stats.retries += 1;
            return Decision::Answer(cookies.retry(now, &initial, &address).as_slice().into());
        }
        if self.load.opened >= limits.per_second {
            cx.stats.handshakes_dropped += 1;
            return Decision::None;
        }
        if cx.turn.has_opened() || !(late || self.late.is_empty()) {
            if self.late.len() < MAX_LATE {
                self.late.push_back((peer, datagram.into()));
            } else {
                cx.stats.handshakes_dropped += 1;
            }
            return Decision::None;
        }
        cx.turn.open();
        self.load.opened += 1;
        let id = initial.id();
        let Ok(pending) = responder.open(initial) else {
            cx.stats.strangers += 1;
            return Decision::None;
        };
        let identity = pending.identity();
        let hello = pending.hello().to_vec();
        let Some(said) = Hello::decode(&hello) else {
            cx.stats.strangers += 1;
            return Decision::None;
        };
        let judged = cx.guard.as_ref().map_or(Ok(()), |guard| guard.would_admit(&credential(&identity)));
        if judged == Err(CloseReason::Denied) {
            cx.stats.sessions_denied += 1;
            return Decision::None;
        }
        // Whom it knows it tells why not, and keeps nothing of it.
        let refused = judged.err().or(keeps_out);
        let named = cx.name();
        let mut payload = [0; MAX_WELCOME];
        let len = match refused {
            Some(reason) => {
                let refusal = refusal(reason);
                payload[..refusal.len()].copy_from_slice(&refusal);
                refusal.len()
            }
            None => welcome(cx, &said, cx.max_datagram(&peer), Some(named)).encode(&mut payload),
        };
        let replied: Result<Unconfirmed, _> = pending.reply(&entropy.draw(), payload.get(..len).unwrap_or_default());
        let Ok(unconfirmed) = replied else {
            cx.stats.handshakes_dropped += 1;
            return Decision::None;
        };
        let reply = unconfirmed.datagram().into();
        if refused.is_some() {
            cx.stats.sessions_refused += 1;
            cx.tell(Event::Refused { peer });
            return Decision::Answer(reply);
        }
        if self.waiting.len() >= limits.unconfirmed {
            self.drop_oldest();
        }
        let session = Greeted { peer, identity, named, hello };
        let until = now + CONFIRMED_WITHIN;
        self.waiting.insert(named.id, Box::new(Waiting { unconfirmed, initial: id, until, session }));
        self.by_initial.insert(id, named.id);
        self.order.push_back(named.id);
        Decision::Answer(reply)
    }

    /// Takes in a sealed datagram of no session that exists. `None` if it confirms none.
    fn confirm<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<Confirmed<'d, P>> {
        let (head, body) = datagram.split_first_chunk_mut::<HEADER>()?;
        let name = id_of(head);
        let waiting = self.waiting.get_mut(&name).filter(|waiting| now < waiting.until)?;
        let (transport, opening) = waiting.unconfirmed.confirm(now, head, body).ok()?;
        let len = opening.body.len();
        let waiting = self.waiting.remove(&name)?;
        self.by_initial.remove(&waiting.initial);
        self.order.retain(|other| *other != name);
        let (datagram, content) = opened(datagram, len);
        Some(Confirmed { transport, session: waiting.session, datagram, content })
    }

    /// Drops those whose time is over.
    fn forget(&mut self, now: Instant) {
        while let Some(name) = self.order.front()
            && self.waiting.get(name).is_none_or(|waiting| waiting.until <= now)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(waiting) = self.order.pop_front().and_then(|name| self.waiting.remove(&name)) {
            self.by_initial.remove(&waiting.initial);
        }
    }
}

impl<P: Peer> Sessions<P> {
    /// True if this looks like a datagram of a handshake, or of a sealed session that is not here.
    pub(super) fn looks_like_a_strangers(&self, datagram: &[u8]) -> bool {
        self.handshakes.is_on()
            && datagram.first_chunk::<HEADER>().is_some_and(|head| match kind_of(head) {
                kind::INITIAL => true,
                kind::SEALED | kind::SEALED_ODD => self.table.find_named(id_of(head)).is_none(),
                _ => false,
            })
    }

    /// Takes in a datagram if it is one of a sealed session, or of a handshake. False if it is none, or of nobody.
    pub(super) fn handle_sealed(&mut self, from: P, datagram: &mut [u8]) -> bool {
        if self.handshakes.means.is_none() {
            return false;
        }
        let Some(head) = datagram.first_chunk::<HEADER>() else { return false };
        match kind_of(head) {
            kind::INITIAL => {
                self.handle_initial(from, datagram, false);
                true
            }
            kind::SEALED | kind::SEALED_ODD => match self.look_up(from, id_of(head), datagram) {
                Ok(Some(index)) => {
                    self.receive_sealed(index, from, datagram);
                    true
                }
                Ok(None) => self.open_sealed(from, datagram),
                Err(Elsewhere) => true,
            },
            _ => false,
        }
    }

    /// Opens one of the handshakes that wait for their turns.
    pub(super) fn open_late(&mut self) {
        if !self.cx.turn.has_opened()
            && let Some((from, mut datagram)) = self.handshakes.late.pop_front()
        {
            self.handle_initial(from, &mut datagram, true);
        }
    }

    fn handle_initial(&mut self, from: P, datagram: &mut [u8], late: bool) {
        let keeps_out = self.keeps_out(from);
        if let Decision::Answer(answer) = self.handshakes.handle_initial(&mut self.cx, from, keeps_out, datagram, late)
        {
            self.strays.push_bare(from, &answer);
        }
    }

    /// A sealed datagram for the session at `index`.
    fn receive_sealed(&mut self, index: u32, from: P, datagram: &mut [u8]) {
        let Some(mut slot) = self.table.take(index) else { return };
        if let Some((datagram, content)) = slot.session.open(self.cx.now, datagram) {
            self.receive_by(slot, Some((from, datagram, content)));
        } else {
            self.cx.stats.unopened_datagrams += 1;
            self.table.put_back(slot, false);
        }
    }

    /// A sealed datagram that may open a session: the client of a handshake has shown that it lives. False if it does not.
    fn open_sealed(&mut self, from: P, datagram: &mut [u8]) -> bool {
        let Some(confirmed) = self.handshakes.confirm(self.cx.now, datagram) else { return false };
        let Confirmed { transport, session: greeted, datagram, content } = confirmed;
        let Some(hello) = greeted.hello() else { return true };
        if !self.make_room(greeted.peer) {
            // There was room when it was welcomed.
            self.strays.refuse_sealed(&mut self.cx, greeted.peer, greeted.named, transport);
            return true;
        }
        if let Some(mut slot) = self.open_named(greeted.peer, greeted.named, transport) {
            self.cx.stats.sealed_sessions_opened += 1;
            self.greet(&mut slot, &hello, greeted.named);
            if let Err(reason) = self.cx.identify(slot.id, slot.session.member(), credential(&greeted.identity)) {
                self.begin_closing(&mut slot, reason);
            }
            self.receive_by(slot, Some((from, datagram, content)));
        }
        true
    }
}

impl<P> fmt::Debug for Handshakes<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshakes").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
