//! The broker: sessions, routing and fan-out, for one thread and one socket.
//!
//! Like the rest it is sans-IO. The driver hands in datagrams with the peer they came from, and takes out datagrams
//! with the peer they go to, many at once where they go to the same one:
//!
//! ```text
//! datagram -> session's engine -> frames -> router -> queues of sessions -> their engines -> datagrams
//! ```
//!
//! The driver's order: any number of [`handle_datagram`](Broker::handle_datagram), then
//! [`poll_event`](Broker::poll_event) until `None`, then [`poll_transmit`](Broker::poll_transmit) until `None`, then sleep
//! until [`poll_timeout`](Broker::poll_timeout) or input, then [`handle_timeout`](Broker::handle_timeout).
//! A driver that has very much input hands in some of it at a time, so that those who are to be sent something do not
//! wait for all of it.
//!
//! A session that says HELLO is a native one; one that never does is an original one and is treated in the original's
//! manner (PROTOCOL.md 3.2, 4.4). What cannot be delivered is counted with its reason; nothing is lost silently.
//!
//! # Rooms
//! From the bottom up; each uses only those below it.
//!
//! ```text
//! sessions   their lives: opened, read, filled into datagrams, closed      strays     what leaves without a session
//! dispatch   what a frame does
//! hub        the router, and handing a message to its subscribers          keeping    last values, in and out
//! shards     what brokers of one server tell each other                replays    what is stored, to sessions that ask for it
//! presence   what the server says of its sessions                          wills      messages of those who are lost
//! admission  who is let in, and what new rules change for those who are there
//! comeback   who had a session before a restart, and is waited for         newcomers  of whom nothing is known, if there are many
//! table      where the sessions are, which are ready, and their timers     session    one session
//! kept       the last values of subjects
//! outlet     what waits for one party, how much may, who waits for that    throttle   whether a publisher is held back
//! turn       how much is done for whom before others come first            supply     whether a party can be kept waiting
//!                                                                          memory     who may take in more when it is short
//!                                                                          relief     who gives way when queues have too much
//! receipts   publishers that wait to hear who has their message, and whether it is stored
//! message    a frame made the MSG that its subscribers share                foreign    subjects that only the original allows
//! run        messages that lie one behind the other and go the same way
//! party      a session or a shard, as publisher and subscriber             guard      who the sessions are, what they may do
//! pass       what was decided for one session                              context    configuration, time, counters, events
//! view       what it looks like to whoever runs it
//! ```

mod admission;
mod announce;
mod backlog;
mod comeback;
mod config;
mod context;
mod delivery;
mod dispatch;
mod event;
mod foreign;
pub mod gateway;
mod groups;
mod guard;
mod half_open;
mod hand_over;
#[cfg_attr(not(feature = "sealed"), path = "absent/handshakes.rs")]
mod handshakes;
mod hub;
mod keeping;
mod kept;
mod membership;
mod memory;
mod message;
#[cfg_attr(not(feature = "sealed"), path = "absent/names.rs")]
mod names;
mod newcomers;
mod outlet;
mod party;
mod pass;
mod peer;
mod presence;
mod receipts;
mod relief;
mod replays;
mod run;
mod session;
mod sessions;
mod shards;
mod stats;
mod strays;
mod stream;
mod supply;
mod table;
#[cfg(test)]
mod tests;
mod throttle;
mod turn;
mod view;
mod wills;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;

use bytes::Bytes;

pub use config::{Audience, Config, HandshakeLimits, LastValues, Presence, SlowConsumer};
pub use event::{Ended, Event, InvalidSessionId, SessionId};
#[cfg(feature = "sealed")]
pub use handshakes::Keys;
pub use kept::NotKept;
pub use party::MAX_SHARDS;
pub use peer::{Peer, Transmit};
pub use sessions::Forward;
pub use shards::Relay;
pub use stats::Stats;
pub use stream::{STREAM_WINDOW, StreamEvent, refusal};
pub use view::{
    ClientKind, KeptCursor, KeptView, Page, PatternCursor, PatternView, SessionCursor, SessionStats, SessionView,
};

use self::announce::Announcements;
use self::context::Context;
use self::guard::Guard;
use self::hand_over::HandOver;
use self::handshakes::Handshakes;
use self::hub::Hub;
use self::kept::Kept;
use self::newcomers::Newcomers;
use self::sessions::{Elsewhere, Later, Sessions};
use self::shards::Shards;
use self::strays::{Stray, Strays};
use self::table::Table;
use crate::access::{Access, AccessError, Credential, RuleError};
use crate::datagram::{self, Content, Framing, Protection};
use crate::hello::CloseReason;
use crate::kcp;
use crate::store::Gather;
use crate::time::{Deadline, Duration, Instant, Why};

/// Says whether [`Broker::set_access`] takes an [`Access`].
///
/// # Errors
/// What makes no sense.
pub fn check_access(access: &Access) -> Result<(), AccessError> {
    Guard::new(access, 0).map(drop)
}

/// A broker.
///
/// The loop of a driver, with two clients in place of the network:
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::net::SocketAddr;
///
/// use kcpq_core::Instant;
/// use kcpq_core::broker::{Broker, Config, Event};
/// use kcpq_core::client::{self, Client, Parts};
/// use kcpq_core::time::Deadline;
///
/// let mut broker = Broker::new(Config::default(), 1); // a program takes a random seed
/// let config = client::Config::default();
/// let mut clients = [2, 3].map(|seed| Client::new(config, seed, Parts::heap(&config)));
/// let addresses = [1, 2].map(|host| SocketAddr::from(([192, 0, 2, host], 50_000)));
/// let mut now = Instant::ZERO;
/// let mut buffer = vec![0; 64 << 10]; // room for many datagrams to one peer at a time
/// let mut greeting = None;
///
/// for client in &mut clients {
///     client.connect(now);
/// }
/// clients[0].subscribe(now, "greet.*")?;
/// clients[1].publish(now, "greet.world", b"hello")?;
///
/// while greeting.is_none() {
///     // Input: all datagrams that have come, ...
///     for (client, address) in clients.iter_mut().zip(addresses) {
///         while let Some(len) = client.poll_transmit(now, &mut buffer) {
///             broker.handle_datagram(now, address, &mut buffer[..len]);
///         }
///     }
///     // ... then events until there are none, ...
///     while let Some(event) = broker.poll_event() {
///         if let Event::Opened { id, peer } = event {
///             println!("session {id} from {peer}");
///         }
///     }
///     // ... then datagrams until there are none. Several for one peer are equally long, but for the last one.
///     while let Some(transmit) = broker.poll_transmit(now, &mut buffer) {
///         for datagram in buffer[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
///             for (client, _) in clients.iter_mut().zip(addresses).filter(|(_, address)| *address == transmit.to) {
///                 client.handle_datagram(now, datagram);
///                 while let Some(event) = client.poll_event() {
///                     if let client::Event::Message { message, .. } = event {
///                         greeting = Some(message.payload().to_vec());
///                     }
///                 }
///             }
///         }
///     }
///     // Sleep until the deadline, or until something comes.
///     let deadline = clients.iter().map(Client::poll_timeout).fold(broker.poll_timeout(), Deadline::earlier);
///     if let Some(deadline) = deadline {
///         now = now.max(deadline.at);
///         broker.handle_timeout(now);
///         clients.iter_mut().for_each(|client| client.handle_timeout(now));
///     }
/// }
/// assert_eq!(greeting.as_deref(), Some(&b"hello"[..]));
/// assert_eq!(broker.stats().sessions, 2);
/// # Ok(())
/// # }
/// ```
pub struct Broker<P: Peer> {
    protection: Protection,
    sessions: Sessions<P>,
}

impl<P: Peer> fmt::Debug for Broker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}

impl<P: Peer> Broker<P> {
    /// A broker without sessions. `seed` should be random: hashing and the epoch are derived from it.
    pub fn new(config: Config, seed: u64) -> Self {
        let hub = Hub::new(seed, Shards::new(0, 1, seed, 0, false));
        let cx = Context::new(config, seed);
        let (table, strays, newcomers) = (Table::new(seed), Strays::new(), Newcomers::new());
        let (half_open, forwards, streams, announcements) =
            (VecDeque::new(), VecDeque::new(), VecDeque::new(), Announcements::new());
        let (handshakes, hand_over) = (Handshakes::new(seed), HandOver::default());
        let sessions = Sessions {
            cx,
            hub,
            table,
            strays,
            newcomers,
            half_open,
            forwards,
            streams,
            announcements,
            handshakes,
            hand_over,
        };
        Self { protection: Protection::NONE, sessions }
    }

    /// The same with a protection around all datagrams; to be chosen before the first one.
    #[must_use]
    pub fn with_protection(mut self, protection: Protection) -> Self {
        self.sessions.cx.headroom = protection.headroom() as u16;
        self.protection = protection;
        self
    }

    /// The same as number `own`, from 0, of `count` brokers of one server, at most [`MAX_SHARDS`], which have been given
    /// the same configuration and seed; to be chosen before the first datagram. Limits are this broker's own
    /// (see [`Config::shared_by`]), and for each other one as much may be on its way as for a session.
    #[must_use]
    pub fn with_shards(mut self, own: usize, count: usize) -> Self {
        let Context { config, seed, .. } = &self.sessions.cx;
        let kept = core::mem::take(&mut self.sessions.hub.kept);
        self.sessions.hub = Hub::new(*seed, Shards::new(own, count, *seed, config.high_water, false));
        self.sessions.hub.kept = kept;
        self.sessions.cx.set_shard(own as u64, count as u64);
        self.sessions.table.set_shard(own as u8);
        self
    }

    /// The same with a [`Gateway`](gateway::Gateway) to a backbone, which the driver treats as one more broker, behind the last one; to be chosen
    /// after the number of these and before the first datagram. It is the same for all of them.
    #[must_use]
    pub fn with_gateway(mut self) -> Self {
        let Context { config, seed, shard: (own, count), .. } = &self.sessions.cx;
        let kept = core::mem::take(&mut self.sessions.hub.kept);
        let shards = Shards::new(*own as usize, *count as usize, *seed, config.high_water, true);
        self.sessions.hub = Hub::new(*seed, shards);
        self.sessions.hub.kept = kept;
        self.sessions.cx.stores = true;
        self.sessions.cx.replays = true;
        self
    }

    /// The same with a [`Gateway`](gateway::Gateway) that has a bucket of [last values](gateway::Config::values): it is told of each one
    /// that changes. To be chosen after it.
    #[must_use]
    pub fn with_shared_values(mut self) -> Self {
        self.sessions.hub.shards.share_values();
        self
    }

    /// The same with these rules for the last values of subjects, of several brokers of one server the same in all; to
    /// be chosen before the first datagram.
    ///
    /// # Errors
    /// One of the patterns is none.
    pub fn with_last_values(mut self, values: &LastValues) -> Result<Self, RuleError> {
        self.sessions.hub.kept = Kept::new(values.clone(), self.sessions.cx.seed)?;
        self.sessions.cx.keeps = self.sessions.hub.kept.is_on();
        Ok(self)
    }

    /// The same with the server's secret, from which come the names of sessions and the tokens that end them: 32 bytes that
    /// nobody can guess, the same for all brokers of the server, and in all its lives if clients are to believe it that they
    /// have to connect anew after a restart. To be chosen before the first datagram; without it one is made from the seed.
    #[cfg(feature = "sealed")]
    #[must_use]
    pub fn with_secret(mut self, secret: &[u8; 32]) -> Self {
        self.sessions.cx.set_secret(secret);
        self
    }

    /// The same with keys: clients that know them can open sealed sessions. To be chosen before the first datagram; of several
    /// brokers of one server all have the same. `entropy` is random, secret, and another one for each.
    #[cfg(feature = "sealed")]
    #[must_use]
    pub fn with_keys(mut self, keys: Keys, entropy: &[u8; 32]) -> Self {
        self.sessions.handshakes.use_keys(keys, entropy);
        self
    }

    // --- commands ---

    /// Tells the peers of the server's last life, with the names of their sessions ([`Event::Greeted`]), that these are no
    /// more: those who are not back within moments are told a second and a third time.
    pub fn announce(&mut self, now: Instant, peers: impl IntoIterator<Item = (P, u64)>) {
        self.sessions.cx.advance(now);
        self.sessions.announcements.begin(now, peers);
    }

    /// Messages wait until these peers, who had sessions in the server's last life, have some again, or
    /// [`Config::restart_wait`] is over: publishers that are back first would publish to nobody. One of several brokers does not
    /// hear of those who come back to others, and waits as long as that.
    pub fn wait_for(&mut self, now: Instant, peers: impl IntoIterator<Item = P>) {
        let cx = &mut self.sessions.cx;
        cx.advance(now);
        cx.comeback.begin(cx.now + cx.config.restart_wait, peers);
    }

    /// The server stops soon: opens no more sessions, and ends those of clients that can be told to go, evenly over this time;
    /// they are told where to ([`Config::successors`]). All else goes on until [`drain`](Self::drain), original clients too.
    pub fn hand_over(&mut self, now: Instant, over: Duration) {
        self.sessions.cx.advance(now);
        self.sessions.hand_over(over);
    }

    /// Ends all sessions and opens no more: native clients are told, what waits still goes out within
    /// [`Config::linger`]. One of several brokers waits before, as long at most, for what the others still have for its
    /// sessions: they are to drain as well.
    pub fn drain(&mut self, now: Instant) {
        self.sessions.cx.advance(now);
        self.sessions.drain();
    }

    /// Chooses who may do what; `None`, as at first: everybody may do everything. Sessions that exist go on by these rules:
    /// those that are not let in any more end (CLOSE 8), and subscriptions that are not permitted any more end with a
    /// reason that the client is told. Of several brokers of one server each is to be told, with its part of the limits
    /// ([`Access::shared_by`]). Takes time that grows with the number of subscriptions.
    ///
    /// # Errors
    /// What makes no sense. Nothing has changed then.
    pub fn set_access(&mut self, now: Instant, access: Option<&Access>) -> Result<(), AccessError> {
        self.sessions.cx.advance(now);
        let seed = self.sessions.cx.seed;
        let guard = access.map(|access| Guard::new(access, seed)).transpose()?;
        self.sessions.set_guard(guard.map(Box::new));
        Ok(())
    }

    /// Ends a session because whoever runs the server wants it: what waits for it still goes out within
    /// [`Config::linger`]. Its client is told (CLOSE 9) and may come back. False if there is no such session, or if it is
    /// about to end anyway.
    pub fn kick(&mut self, now: Instant, id: SessionId) -> bool {
        self.sessions.cx.advance(now);
        self.sessions.kick(id)
    }

    /// True if somebody who shows this is let in, limits aside.
    pub fn lets_in(&self, credential: &Credential) -> bool {
        self.sessions.cx.guard.as_ref().is_none_or(|guard| guard.would_admit(credential) != Err(CloseReason::Denied))
    }

    /// A handshake has shown whose session it is: to be called before any of its frames is read. Who is not known is better
    /// not given a session ([`lets_in`](Self::lets_in)). False if there is no such session, or if it is about to end because
    /// it is not let in.
    pub fn identify(&mut self, now: Instant, id: SessionId, credential: Credential) -> bool {
        self.sessions.cx.advance(now);
        self.sessions.identify(id, credential)
    }

    /// Keeps a value that the server's last life has left, as [`KeptView`] shows it: a frame that has been kept for
    /// `age`, and is worth something for `left`, or always. To be called before the first datagram; of several brokers
    /// of one server each is told the same ones in the same order.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn restore(
        &mut self,
        now: Instant,
        frame: &Bytes,
        age: Duration,
        left: Option<Duration>,
    ) -> Result<(), NotKept> {
        self.sessions.cx.advance(now);
        let Sessions { cx, hub, .. } = &mut self.sessions;
        hub.restore(cx, frame, age, left)
    }

    // --- in ---

    /// Takes in a datagram, which is opened in place. What it cannot use is counted.
    pub fn handle_datagram(&mut self, now: Instant, from: P, datagram: &mut [u8]) {
        let Self { protection, sessions } = self;
        sessions.cx.advance(now);
        // To whom has no key of these datagrams they are noise, one in a hundred of which looks sealed.
        if protection.headroom() > 0 && sessions.looks_like_a_strangers(datagram) {
            let mut copy = datagram.to_vec();
            if let Some(datagram) = protection.open(&mut copy) {
                return self.handle_opened(from, datagram, false);
            }
        }
        if sessions.handle_sealed(from, datagram) || sessions.handle_farewell(from, datagram) {
            return sessions.see_to_others();
        }
        // Before there is any state, and answered with silence.
        let Some(datagram) = protection.open(datagram) else {
            sessions.cx.stats.unopened_datagrams += 1;
            return;
        };
        self.handle_opened(from, datagram, false);
    }

    /// Takes in a datagram that another broker of the same server has handed over: see
    /// [`poll_forward`](Self::poll_forward).
    pub fn handle_forward(&mut self, now: Instant, mut forward: Forward<P>) {
        self.sessions.cx.advance(now);
        if self.sessions.handle_sealed(forward.from, &mut forward.datagram) {
            return self.sessions.see_to_others();
        }
        self.handle_opened(forward.from, &forward.datagram, false);
    }

    /// The same with what was inside of the protection, also if it comes `late` to its turn.
    fn handle_opened(&mut self, from: P, datagram: &[u8], late: bool) {
        let sessions = &mut self.sessions;
        if sessions.handle_farewell(from, datagram) {
            return sessions.see_to_others();
        }
        let Ok(content) = datagram::parse(datagram) else {
            sessions.cx.stats.malformed_datagrams += 1;
            return;
        };
        let found = match content {
            Content::Parity => {
                Ok(datagram::conversation_of_parity(datagram).and_then(|conv| sessions.table.find(from, conv)))
            }
            Content::Plain(segments) => sessions.find_or_open(from, segments, Framing::Plain, late),
            Content::Fec(segments) => sessions.find_or_open(from, segments, Framing::Fec, late),
            Content::Native(header, _) if header.is_sealed() => {
                // Of no session, or there are no keys here.
                sessions.strays.hint_named(&mut sessions.cx, from, header.id(), true);
                Ok(None)
            }
            Content::Native(header, _) => match sessions.find_named(from, header.id(), datagram) {
                Ok(index) => Ok(index),
                Err(Elsewhere) => return,
            },
        };
        match found {
            Ok(Some(index)) => sessions.receive(index, Some((from, datagram, content))),
            Ok(None) => sessions.cx.stats.stray_datagrams += 1,
            Err(Later) => {
                let waits = sessions.newcomers.push(from, datagram);
                sessions.cx.stats.dropped_newcomers += u64::from(!waits);
            }
        }
        sessions.see_to_others();
    }

    /// Takes in what broker `from` of the same server has told.
    pub fn handle_relay(&mut self, now: Instant, from: usize, relay: Relay) {
        self.sessions.cx.advance(now);
        if let Ok(from) = u8::try_from(from) {
            self.sessions.handle_relay(from, relay);
        }
    }

    /// The system has refused to send a datagram of `len` bytes to `peer`, because it is too long for the path (EMSGSIZE):
    /// later ones are shorter.
    pub fn on_too_long(&mut self, now: Instant, peer: P, len: usize) {
        self.sessions.cx.advance(now);
        self.sessions.on_too_long(peer, len);
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sessions.cx.advance(now);
        self.sessions.handle_timeout();
    }

    // --- out ---

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event<P>> {
        self.sessions.cx.poll_event()
    }

    /// Writes datagrams for one peer to the front of `out`; `None` when nothing is due, or when so much was done that
    /// it is time to look at the network again: then [`poll_timeout`](Self::poll_timeout) is now. `out` holds at least
    /// one datagram of [`Config::max_datagram`] bytes; if it holds several, as many as there are follow each other, all of
    /// the same length but the last.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit<P>> {
        self.transmit(now, out, None)
    }

    /// As [`poll_transmit`](Self::poll_transmit), for systems that take a datagram in parts: `gather` has what lies elsewhere
    /// and was not copied to `out`, until the next call.
    pub fn poll_transmit_gather(&mut self, now: Instant, out: &mut [u8], gather: &mut Gather) -> Option<Transmit<P>> {
        gather.clear();
        self.transmit(now, out, Some(gather))
    }

    fn transmit(&mut self, now: Instant, out: &mut [u8], gather: Option<&mut Gather>) -> Option<Transmit<P>> {
        self.sessions.cx.advance(now);
        self.sessions.announce();
        self.sessions.open_late();
        while self.sessions.cx.turn.welcomes()
            && let Some((from, datagram)) = self.sessions.newcomers.pop()
        {
            self.handle_opened(from, &datagram, true);
        }
        let Self { protection, sessions } = self;
        if let Some(Stray { to, datagram, bare }) = sessions.strays.poll()
            && let headroom = if bare { 0 } else { protection.headroom() }
            && let Some(place) = out.get_mut(..headroom + datagram.len())
        {
            place[headroom..].copy_from_slice(&datagram);
            if !bare {
                protection.seal(place);
            }
            return Some(Transmit { to, len: place.len(), segment: None, asks: false });
        }
        sessions.poll_transmit(protection, out, gather)
    }

    /// The next thing to be told to another broker of the same server, and to which; to be called until `None` when
    /// [`poll_transmit`](Self::poll_transmit) has nothing more.
    pub fn poll_relay(&mut self) -> Option<(usize, Relay)> {
        let Sessions { cx, hub: Hub { shards, kept, receipts, .. }, .. } = &mut self.sessions;
        let relay = shards.poll(cx, kept, receipts);
        self.sessions.hand_out_receipts();
        relay
    }

    /// The next datagram that is for another broker of the same server, and for which: a client's address has changed, and
    /// the system gives its datagrams to this one. To be called until `None` after datagrams were taken in.
    pub fn poll_forward(&mut self) -> Option<(usize, Forward<P>)> {
        self.sessions.forwards.pop_front()
    }

    /// When the broker wants to be called again, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let Sessions { cx, hub, table, strays, newcomers, announcements, handshakes, hand_over, .. } = &self.sessions;
        if table.has_ready() || !strays.is_empty() || handshakes.has_late() || !newcomers.is_empty() {
            return Some(Deadline { at: cx.now, why: Why::Transmit });
        }
        let announce = announcements.poll_timeout().map(|at| Deadline { at, why: Why::Transmit });
        let comeback = cx.comeback.poll_timeout().map(|at| Deadline { at, why: Why::Throttle });
        let memory = Deadline::earlier(cx.memory.poll_timeout(), cx.relief.poll_timeout());
        let others = Deadline::earlier(hub.shards.poll_timeout(), memory);
        let others = Deadline::earlier(comeback, others);
        let others = Deadline::earlier(others, hub.kept.poll_timeout());
        let missed = cx.notices.poll_timeout().map(|at| Deadline { at, why: Why::Throttle });
        let leaving = hand_over.poll_timeout().map(|at| Deadline { at, why: Why::Transmit });
        let others = Deadline::earlier(leaving, Deadline::earlier(others, missed));
        Deadline::earlier(announce, Deadline::earlier(table.poll_timeout(), others))
    }

    // --- getters ---

    /// The name of the identity that a session has; `None` if that is not known, or of no interest because there are no
    /// rules.
    pub fn identity(&self, id: SessionId) -> Option<&str> {
        let slot = self.sessions.table.get(id.slot).filter(|slot| slot.id == id)?;
        slot.session.pass()?.name().map(|name| &**name)
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let Context { stats, waits, .. } = &self.sessions.cx;
        let (kept, kept_bytes) = self.sessions.hub.kept.size();
        Stats {
            sessions: self.sessions() as u64,
            queueing: waits.as_deref().copied().unwrap_or_default(),
            kept: kept as u64,
            kept_bytes: kept_bytes as u64,
            ..*stats
        }
    }

    /// Number of sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.table.len()
    }

    /// True once a broker that [drains](Self::drain) has done so: no session is left, and what the other brokers of the
    /// server had to tell has come.
    pub fn is_drained(&self) -> bool {
        let Sessions { cx, hub, table, .. } = &self.sessions;
        cx.draining && table.len() == 0 && !hub.shards.waits_for_last()
    }

    /// Patterns registered, each counted once.
    pub fn patterns(&self) -> usize {
        self.sessions.hub.patterns()
    }

    /// A page of sessions, in no particular order: those in the next `slots` places, which bounds what it costs. Brings
    /// [`transport_total`](Self::transport_total) up to date for them.
    pub fn view_sessions(
        &mut self,
        now: Instant,
        from: SessionCursor,
        slots: usize,
    ) -> Page<SessionView<P>, SessionCursor> {
        self.sessions.cx.advance(now);
        self.sessions.view(from, slots)
    }

    /// A page of the patterns that sessions of this broker have, in no particular order: those in the next `places` places
    /// of tables, which bounds what it costs. One may come twice, on several pages; the last time counts.
    pub fn view_patterns(&self, from: PatternCursor, places: usize) -> Page<PatternView, PatternCursor> {
        self.sessions.view_patterns(from, places)
    }

    /// A page of the last values of subjects, in the order of these: the next `places`. Of several brokers of one
    /// server all have the same.
    pub fn view_kept(&self, from: &KeptCursor, places: usize) -> Page<KeptView, KeptCursor> {
        self.sessions.view_kept(from, places)
    }

    /// How often the last values have changed: as long as that stays as it is, so do they.
    pub fn kept_changes(&self) -> u64 {
        self.sessions.hub.kept.changes()
    }

    /// The engines' counters of all sessions that there have ever been: of one that exists up to when it was last
    /// [viewed](Self::view_sessions). They never go back.
    pub fn transport_total(&self) -> kcp::Stats {
        self.sessions.cx.transport
    }

    /// The engines' counters of the sessions that exist, added up.
    pub fn transport(&self) -> kcp::Stats {
        let mut sum = kcp::Stats::default();
        for session in self.sessions.table.iter() {
            sum.add(session.stats());
        }
        sum
    }

    /// The FEC decoders' counters of the sessions that exist, added up.
    #[cfg(feature = "fec")]
    pub fn fec(&self) -> crate::fec::Stats {
        let mut sum = crate::fec::Stats::default();
        for session in self.sessions.table.iter() {
            sum.add(&session.fec_stats());
        }
        sum
    }

    /// The epoch: a random number that identifies this run of the server.
    pub fn epoch(&self) -> u64 {
        self.sessions.cx.epoch
    }
}
