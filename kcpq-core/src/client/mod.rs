//! The client: connects, subscribes and publishes, notices when the server is gone, and comes back.
//!
//! One state machine for every runtime. It is told what the user wants and what arrived, and hands out datagrams,
//! events and the time at which it wants to be called again:
//!
//! ```text
//!                    answer                    lost
//!  Idle -> Connecting ------> Up ---------------------> Waiting
//!              ^  |           |                          |
//!              |  | no answer | close                    | backoff over
//!              |  v           v                          |
//!              | Waiting   Closing -> Closed             |
//!              +-----------------------------------------+
//! ```
//!
//! The driver's order: one input ([`handle_datagram`](Client::handle_datagram), [`handle_timeout`](Client::handle_timeout)
//! or a command), then [`poll_event`](Client::poll_event) until `None`, then [`poll_transmit`](Client::poll_transmit)
//! until `None`, then sleep until [`poll_timeout`](Client::poll_timeout) or input.
//!
//! A native server is greeted with HELLO; the first SUBs go right behind it. An original server answers HELLO with ERR,
//! and the client goes on in the original's manner (PROTOCOL.md 4.3).

#[cfg(any(feature = "confirm", feature = "request"))]
mod awaited;
mod commands;
mod config;
#[cfg_attr(not(feature = "confirm"), path = "absent/confirms.rs")]
mod confirms;
mod connection;
mod event;
#[cfg(feature = "alloc")]
mod finder;
#[cfg_attr(not(feature = "sealed"), path = "absent/handshake.rs")]
mod handshake;
mod inbound;
#[cfg(feature = "lanes")]
mod lane_memory;
mod memory;
#[cfg_attr(not(feature = "alloc"), path = "absent/names.rs")]
mod names;
mod outgoing;
mod pending;
mod phase;
mod pings;
#[cfg_attr(not(feature = "alloc"), path = "absent/push.rs")]
mod push;
#[cfg_attr(not(feature = "replay"), path = "absent/replay.rs")]
mod replay;
#[cfg_attr(not(feature = "request"), path = "absent/requests.rs")]
mod requests;
#[cfg_attr(not(feature = "native"), path = "absent/rhythm.rs")]
mod rhythm;
#[cfg_attr(not(feature = "alloc"), path = "absent/span.rs")]
mod span;
#[cfg(feature = "alloc")]
mod stage;
mod stats;
mod subscriptions;
#[cfg(test)]
mod tests;
mod timers;
#[cfg_attr(not(feature = "will"), path = "absent/will.rs")]
mod will;

use core::fmt;

#[cfg(feature = "lanes")]
pub use commands::Subscribing;
pub use config::{Backoff, Config, Overflow};
#[cfg(feature = "confirm")]
pub use confirms::{ConfirmMemory, Confirmed};
#[cfg(feature = "confirm")]
pub use event::StoreFailure;
pub use event::{
    ConfirmError, ConfirmFailure, ConfirmId, Disconnect, Event, Message, PublishError, Recipient, RequestError,
    RequestFailure, RequestId, SubscribeError, SubscribeFailure,
};
#[cfg(feature = "lanes")]
pub use lane_memory::LaneMemory;
#[cfg(any(feature = "confirm", feature = "lanes"))]
pub use memory::LendError;
pub use memory::Memory;
pub use phase::{Server, State};
#[cfg(feature = "alloc")]
pub use push::Arrived;
#[cfg(feature = "replay")]
pub use replay::Replaying;
#[cfg(feature = "request")]
pub use requests::{MAX_REQUESTS, Request};
#[cfg(feature = "alloc")]
pub use stage::Stage;
pub use stats::{Latency, Stats};
pub use subscriptions::{Subscription, SubscriptionId};
#[cfg(feature = "will")]
pub use will::Will;

#[cfg(feature = "alloc")]
pub use crate::session::Transmit;

use self::confirms::Confirms;
use self::handshake::Handshake;
use self::inbound::Current;
use self::names::Names;
use self::outgoing::Outgoing;
use self::pending::Pending;
use self::phase::Phase;
use self::pings::Pings;
use self::push::Recent;
use self::requests::Requests;
use self::rhythm::Rhythm;
use self::subscriptions::Subscriptions;
use self::will::Wills;
use crate::datagram::{Content, Link, Protection, SAFE_DATAGRAM};
use crate::frame::Leave;
#[cfg(feature = "native")]
use crate::hello::Named;
use crate::lane::Lane;
use crate::outbox::FrameStore;
use crate::rng::{Rng, draw};
use crate::session::{self, Arrivals, Session, Word};
#[cfg(feature = "alloc")]
use crate::store::{Gather, Heap};
use crate::time::{Duration, Instant};

/// The memory of a client.
pub struct Parts<S: FrameStore> {
    /// The session's. Its inbox is as long as the largest message to be received.
    pub session: session::Parts<S>,
    /// One entry for each subscription.
    pub subscriptions: S::Queue<Subscription<S::Text>>,
}

impl<S: FrameStore> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// A client of one server.
///
/// The loop of a driver, with a broker in place of the network:
///
/// ```
/// # #[cfg(feature = "alloc")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::net::SocketAddr;
///
/// use kcpq_core::Instant;
/// use kcpq_core::broker::{self, Broker};
/// use kcpq_core::client::{Client, Config, Event, Parts};
/// use kcpq_core::time::Deadline;
///
/// let config = Config::default();
/// let mut client = Client::new(config, 1, Parts::heap(&config)); // a program takes a random seed
/// let mut server = Broker::new(broker::Config::default(), 2);
/// let address = SocketAddr::from(([192, 0, 2, 1], 50_000));
/// let mut now = Instant::ZERO;
/// let mut buffer = vec![0; client.max_datagram().max(usize::from(config.native_datagram))];
/// let mut greeting = None;
///
/// // Commands. The first datagram carries all three.
/// client.connect(now);
/// client.subscribe(now, "greet.*")?;
/// client.publish(now, "greet.world", b"hello")?;
///
/// while greeting.is_none() {
///     // After each command and each input: events until there are none, ...
///     while let Some(event) = client.poll_event() {
///         match event {
///             Event::Message { message, .. } => greeting = Some(message.payload().to_vec()),
///             Event::Disconnected { why, .. } => panic!("{why}"),
///             _ => {}
///         }
///     }
///     // ... then datagrams until there are none.
///     while let Some(len) = client.poll_transmit(now, &mut buffer) {
///         server.handle_datagram(now, address, &mut buffer[..len]);
///     }
///     // The next input: a datagram if one has come, or the deadline.
///     if let Some(transmit) = server.poll_transmit(now, &mut buffer) {
///         for datagram in buffer[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
///             client.handle_datagram(now, datagram);
///         }
///     } else if let Some(deadline) = Deadline::earlier(client.poll_timeout(), server.poll_timeout()) {
///         now = now.max(deadline.at);
///         client.handle_timeout(now);
///         server.handle_timeout(now);
///     }
/// }
/// assert_eq!(greeting.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "alloc"))]
/// # fn main() {}
/// ```
pub struct Client<S: FrameStore> {
    config: Config,
    rng: Rng,
    /// The latest time that any call brought.
    now: Instant,
    phase: Phase,
    /// The user has closed the client, and messages wait for a connection: when they are given up.
    close_by: Option<Instant>,
    /// The user has stopped the clock; see [`Client::suspend`].
    suspended: bool,
    /// Among the messages that wait there may be some that do not fit a datagram.
    long_waits: bool,
    protection: Protection,
    handshake: Handshake,
    session: Session<S>,
    /// A session that was given up when the server was not heard: that it is no more the server is told when it is heard again.
    #[cfg(feature = "native")]
    former: Option<Named>,
    subscriptions: Subscriptions<S>,
    requests: Requests,
    confirms: Confirms<S>,
    wills: Wills,
    names: Names,
    /// What the server of this conversation said of itself, if it is a native one.
    server: Option<Server>,
    pings: Pings,
    rhythm: Rhythm,
    /// How long the last heartbeat took.
    round_trip: Option<Duration>,
    outgoing: Outgoing,
    current: Option<Current>,
    recent: Recent,
    pending: Pending,
    stats: Stats,
}

impl<S: FrameStore> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl<S: FrameStore> Client<S> {
    /// A client that does nothing until [`connect`](Self::connect). `seed` is random: conversation numbers and jitter
    /// come from it.
    pub fn new(config: Config, seed: u64, parts: Parts<S>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let link = Link::new(config.framing, config.max_datagram.min(SAFE_DATAGRAM), 0);
        let mut session = Session::new(draw(&mut rng), config.kcp, config.frames, link, parts.session);
        session.end(false);
        Self {
            config,
            rng,
            now: Instant::ZERO,
            phase: Phase::Idle,
            close_by: None,
            suspended: false,
            long_waits: false,
            protection: Protection::NONE,
            handshake: Handshake::default(),
            session,
            #[cfg(feature = "native")]
            former: None,
            subscriptions: Subscriptions::new(parts.subscriptions),
            requests: Requests::new(seed),
            confirms: Confirms::new(),
            wills: Wills::default(),
            names: Names::default(),
            server: None,
            pings: Pings::default(),
            rhythm: Rhythm::default(),
            round_trip: None,
            outgoing: Outgoing::default(),
            current: None,
            recent: Recent::default(),
            pending: Pending::default(),
            stats: Stats::default(),
        }
    }

    /// The same with a protection around all datagrams; to be chosen before [`connect`](Self::connect).
    #[must_use]
    pub fn with_protection(mut self, protection: Protection) -> Self {
        self.session.set_protection(protection.headroom());
        self.protection = protection;
        self
    }

    /// The time is `now`, unless a call brought a later one.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    // --- in ---

    /// Takes in a datagram from the server, which is opened in place. What it cannot use is counted.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        let Some((datagram, content)) = self.open_datagram(now, datagram) else { return };
        let before = self.session.arrivals();
        // Nothing is taken here: `poll_event` reads, so a slow user closes the window.
        let understood = self.session.handle_datagram(self.now, datagram, content, &mut Leave);
        self.after_datagram(before, understood);
    }

    /// The system has refused to send a datagram of `len` bytes, because it is too long for the path (EMSGSIZE): later ones
    /// are shorter.
    pub fn on_too_long(&mut self, now: Instant, len: usize) {
        self.set_now(now);
        self.session.on_too_long(self.now, len);
    }

    /// True, now and then, while the server should have been heard and was not: a driver that can tell looks whether the system
    /// would send from another address by now ([`on_new_address`](Self::on_new_address)). A socket keeps the address that it
    /// began with, and the system may go on sending from one that nothing comes back to.
    pub fn doubts_address(&mut self, now: Instant) -> bool {
        self.set_now(now);
        let kcp = &self.session.kcp;
        let unheard = kcp.stalled_since().map(|since| kcp.last_heard().map_or(since, |heard| since.max(heard)));
        self.is_connected() && self.rhythm.doubts(self.now, unheard)
    }

    /// What is sent from now on leaves from another address of this machine than before, because that is gone. A native server
    /// follows; whether another one still knows the session is found out at once.
    pub fn on_new_address(&mut self, now: Instant) {
        self.set_now(now);
        if self.session.may_move() {
            self.session.on_new_path(self.now);
            self.session.say(self.now);
        } else {
            self.suspect(now);
        }
    }

    /// What a datagram holds for the session.
    #[cfg_attr(target_os = "none", inline(never))]
    fn open_datagram<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<(&'d [u8], Content<'d>)> {
        self.set_now(now);
        self.recent.forget();
        if self.is_greeting() {
            self.handle_greeting(datagram);
            return None;
        }
        let datagram = self.protection.open(datagram);
        if let Some(word) = datagram.as_deref().and_then(|datagram| self.session.read_reset(datagram)) {
            self.stats.reset_hints += 1;
            match word {
                Word::Hint => self.on_hint(),
                Word::Verdict => self.lose(Disconnect::Forgotten),
            }
            return None;
        }
        let opened =
            datagram.filter(|_| self.phase.is_open()).and_then(|datagram| self.session.open(self.now, datagram));
        self.stats.foreign_datagrams += u64::from(opened.is_none());
        opened
    }

    /// The session has taken in a datagram; `before` it was this that had come.
    #[cfg_attr(target_os = "none", inline(never))]
    fn after_datagram(&mut self, before: Arrivals, understood: bool) {
        self.stats.foreign_datagrams += u64::from(!understood);
        let arrivals = self.session.arrivals();
        if arrivals.heard != before.heard {
            self.on_heard();
        }
        let data = arrivals.segments != before.segments;
        self.pings.on_datagram(self.now, data, || self.session.is_control_acknowledged());
        if data {
            self.rhythm.on_arrival(self.now);
        }
        if self.session.kcp.is_forgotten() {
            return self.lose(Disconnect::Forgotten);
        }
        self.session.after_input(self.now);
        if let Some(sample) = self.session.take_latency() {
            self.stats.latency.add(sample);
        }
        self.advance();
    }

    // --- out ---

    /// Writes the next datagram to the front of `out` and returns its length; `None` when nothing is due.
    /// `out` holds at least [`Client::max_datagram`] bytes. A longer datagram, which is written only where there is room
    /// for it, asks whether the path carries it: that the system refuses to send it is an answer as well.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.transmit(now, out, |len| len, |session, now, protection, out| session.poll_transmit(now, protection, out))
    }

    /// As [`poll_transmit`](Self::poll_transmit), but writes as many datagrams as there are and as `out` holds, `most` at
    /// most: for systems that send several with one call.
    #[cfg(feature = "alloc")]
    pub fn poll_transmit_batch(&mut self, now: Instant, out: &mut [u8], most: usize) -> Option<Transmit> {
        let alone = |len| Transmit { len, segment: None, asks: false };
        self.transmit(now, out, alone, |session, now, protection, out| session.poll_batch(now, protection, out, most))
    }

    /// Lets the session write what is due, or the handshake, whose datagram goes `alone`.
    fn transmit<T>(
        &mut self,
        now: Instant,
        out: &mut [u8],
        alone: impl FnOnce(usize) -> T,
        write: impl FnOnce(&mut Session<S>, Instant, &mut Protection, &mut [u8]) -> Option<T>,
    ) -> Option<T> {
        self.set_now(now);
        if self.suspended {
            return None;
        }
        self.advance();
        let written = if self.is_greeting() {
            self.handshake.poll_transmit(self.now, out, &mut self.session).map(alone)
        } else if let Some(len) = self.give_up_former(out) {
            Some(alone(len))
        } else {
            write(&mut self.session, self.now, &mut self.protection, out)
        };
        self.count_expired();
        if self.session.outbox.len() <= self.config.queue / 2 {
            self.pending.has_room();
        }
        written
    }

    /// Takes note of messages that the session has dropped because their time was over.
    pub(super) fn count_expired(&mut self) {
        for (lane, expired) in self.session.take_expired().into_iter().flat_map(|all| Lane::all().zip(all)) {
            self.outgoing.on_dropped(lane, expired.into());
            self.stats.expired += u64::from(expired);
        }
    }

    // --- getters ---

    /// The latest time that any call brought.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Where the client stands.
    pub fn state(&self) -> State {
        self.phase.state()
    }

    /// True while a server answers.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    /// The number of the present conversation, another one after each attempt to connect. A driver gives each its own
    /// socket: an original server tells sessions apart by address only (PROTOCOL.md 4.1).
    pub fn conversation(&self) -> u32 {
        self.session.kcp.conv()
    }

    /// The longest datagram that the present session sends, in bytes, besides those that ask for more.
    pub fn max_datagram(&self) -> usize {
        self.session.max_datagram()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats {
            active_subscriptions: self.subscriptions.active(),
            messages_acknowledged: self.session.moved() - self.session.in_doubt() - self.stats.dropped_in_doubt,
            ..self.stats
        }
    }

    /// Messages dropped in doubt and for being too large, as [`stats`](Self::stats) tells; these cost nothing to ask for.
    pub fn dropped(&self) -> (u64, u32) {
        (self.stats.dropped_in_doubt, self.stats.dropped_too_large)
    }

    /// The engine's counters, of all conversations together.
    pub fn transport(&self) -> &crate::kcp::Stats {
        self.session.kcp.stats()
    }

    /// How far the server has acknowledged the present conversation, in bytes of its stream, wrapping: as long as it
    /// changes, what was published is under way.
    pub fn acked_offset(&self) -> u32 {
        self.session.kcp.acked_offset()
    }

    /// When the server was last heard.
    pub fn last_heard(&self) -> Option<Instant> {
        self.session.kcp.last_heard()
    }

    /// Since when a heartbeat is unanswered.
    pub fn heartbeat_outstanding(&self) -> Option<Instant> {
        self.pings.heartbeat().map(|ping| ping.at)
    }

    /// The smoothed round-trip time of the transport, and that of the last heartbeat.
    pub fn round_trip(&self) -> (Option<Duration>, Option<Duration>) {
        (self.session.kcp.rtt().smoothed(), self.round_trip)
    }

    /// Bytes of messages that wait.
    pub fn queued(&self) -> usize {
        self.session.outbox.len()
    }

    /// The largest message that the present server takes, or this client if the server has not said: subject, payload and 3
    /// bytes more, and its properties: 9 bytes for a time to live alone.
    pub fn largest_message(&self) -> usize {
        self.server.map_or(self.config.frames.max_body, |server| server.max_body) as usize
    }

    /// The epoch of a native server, which changes when it restarts; `None` for an original one.
    pub fn server_epoch(&self) -> Option<u64> {
        self.server.map(|server| server.epoch)
    }

    /// What the present server said of itself; `None` from an original one, and without a connection.
    pub fn server(&self) -> Option<Server> {
        self.server.filter(|_| self.is_connected())
    }
}

#[cfg(feature = "alloc")]
impl Client<Heap> {
    /// As [`poll_transmit_batch`](Self::poll_transmit_batch), for systems that take a datagram in parts: `gather` has what lies
    /// elsewhere and was not copied to `out`, until the next call.
    pub fn poll_transmit_gather(
        &mut self,
        now: Instant,
        out: &mut [u8],
        most: usize,
        gather: &mut Gather,
    ) -> Option<Transmit> {
        gather.clear();
        let alone = |len| Transmit { len, segment: None, asks: false };
        self.transmit(now, out, alone, |session, now, protection, out| {
            session.poll_gathered(now, protection, out, most, gather)
        })
    }
}
