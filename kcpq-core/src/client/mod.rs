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

mod commands;
mod config;
mod connection;
mod event;
mod inbound;
mod memory;
#[cfg(feature = "alloc")]
mod push;
mod stats;
mod subscriptions;
#[cfg(all(test, feature = "alloc"))]
mod tests;

use core::fmt;

pub use config::{Backoff, Config, Overflow};
pub use event::{Disconnect, Event, Message, PublishError, SubscribeError, SubscribeFailure};
pub use memory::Memory;
#[cfg(feature = "alloc")]
pub use push::Arrived;
pub use stats::{Latency, Stats};
pub use subscriptions::{Subscription, SubscriptionId};

use self::inbound::Current;
use self::subscriptions::Subscriptions;
use crate::datagram::{self, Content, Link, Protection, SAFE_DATAGRAM};
use crate::frame::Leave;
use crate::hello::Reset;
use crate::outbox::{FrameStore, Outbox};
use crate::rng::{Rng, draw};
use crate::session::{self, Arrivals, Session};
use crate::time::{Deadline, Duration, Instant, Why};

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

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Not yet asked to connect.
    Idle,
    /// Waiting for a server's first answer.
    Connecting {
        /// When this attempt is given up.
        until: Instant,
    },
    /// A server answers.
    Up {
        /// It speaks the native protocol.
        native: bool,
    },
    /// Waiting for the next attempt.
    Waiting {
        /// When it begins.
        until: Instant,
    },
    /// The last frames are on their way.
    Closing {
        /// When that is given up.
        until: Instant,
    },
    /// Nothing will happen any more.
    Closed,
}

/// What a native server said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Server {
    max_body: u32,
    max_subject: u16,
    max_tokens: u8,
    /// After how long a silence it forgets a session; zero: it does not say.
    keep_alive: Duration,
    epoch: u64,
}

/// Events that borrow nothing and wait to be told: the latest of each kind, in this order, news of subscriptions behind
/// `connected`.
#[derive(Clone, Copy, Debug, Default)]
struct Notices {
    disconnected: Option<(Disconnect, Option<Instant>)>,
    connected: Option<(bool, bool)>,
    flushed: Option<u64>,
    writable: bool,
    closed: bool,
}

/// A question to the server that is under way.
#[derive(Clone, Copy, Debug)]
struct Ping {
    number: u32,
    at: Instant,
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
    state: State,
    /// The latest time that any call brought.
    now: Instant,
    protection: Protection,
    session: Session<S>,
    subscriptions: Subscriptions<S>,
    server: Option<Server>,
    /// Attempts that failed in a row.
    failed: u32,
    /// HELLO has not been queued yet in this conversation; CLOSE has.
    greet: bool,
    said_close: bool,
    /// The server has closed the session; that is still to be acknowledged.
    last_words: bool,
    /// PINGs sent and PONGs received in this conversation.
    pings: u32,
    pongs: u32,
    /// The heartbeat that is not answered yet.
    heartbeat: Option<Ping>,
    next_heartbeat: Instant,
    /// When new data last came.
    data_at: Instant,
    round_trip: Option<Duration>,
    /// When a session that the server may have forgotten is given up, unless something is heard.
    suspect: Option<Instant>,
    /// The user has stopped the clock; see [`Client::suspend`].
    suspended: bool,
    /// When it went on again, and whether the server has not been heard since.
    resumed: Instant,
    waking: bool,
    /// Messages taken by `publish`, in all; dropped and in-doubt ones included.
    published: u64,
    /// Messages dropped from the queue, in all; expired ones included.
    dropped: u64,
    /// How far a flush was asked for, and the one that is under way: its PING, and what it covers.
    flush_wanted: u64,
    flush: Option<(u32, u64)>,
    flushed: u64,
    /// `publish` has refused for want of room.
    blocked: bool,
    current: Option<Current>,
    #[cfg(feature = "alloc")]
    recent: push::Recent,
    notices: Notices,
    stats: Stats,
}

impl<S: FrameStore> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<S: FrameStore> Client<S> {
    /// A client that does nothing until [`connect`](Self::connect). `seed` is random: conversation numbers and jitter
    /// come from it.
    pub fn new(config: Config, seed: u64, parts: Parts<S>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let link = Link::new(config.framing, config.max_datagram.min(SAFE_DATAGRAM));
        let session = Session::new(draw(&mut rng), config.kcp, config.frames, link, parts.session);
        Self {
            config,
            rng,
            state: State::Idle,
            now: Instant::ZERO,
            protection: Protection::NONE,
            session,
            subscriptions: Subscriptions::new(parts.subscriptions),
            server: None,
            failed: 0,
            greet: false,
            said_close: false,
            last_words: false,
            pings: 0,
            pongs: 0,
            heartbeat: None,
            next_heartbeat: Instant::ZERO,
            data_at: Instant::ZERO,
            round_trip: None,
            suspect: None,
            suspended: false,
            resumed: Instant::ZERO,
            waking: false,
            published: 0,
            dropped: 0,
            flush_wanted: 0,
            flush: None,
            flushed: 0,
            blocked: false,
            current: None,
            #[cfg(feature = "alloc")]
            recent: push::Recent::default(),
            notices: Notices::default(),
            stats: Stats::default(),
        }
    }

    /// The same with a protection around all datagrams; to be chosen before [`connect`](Self::connect).
    #[must_use]
    pub fn with_protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    /// The time is `now`, unless a call brought a later one.
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// The longest datagram inside the protection, if `whole` is the longest outside.
    pub(super) fn inner(&self, whole: u16) -> u16 {
        whole.saturating_sub(self.protection.headroom() as u16)
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

    /// What a datagram holds for the session.
    fn open_datagram<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<(&'d [u8], Content<'d>)> {
        self.set_now(now);
        let datagram: Option<&[u8]> = self.protection.open(datagram).map(|datagram| &*datagram);
        if let Some(reset) = datagram.and_then(Reset::decode)
            && reset.conv == self.session.kcp.conv()
        {
            self.stats.reset_hints += 1;
            self.suspect(now);
            return None;
        }
        let opened =
            datagram.filter(|_| self.is_open()).and_then(|datagram| Some((datagram, datagram::parse(datagram).ok()?)));
        self.stats.foreign_datagrams += u64::from(opened.is_none());
        opened
    }

    /// The session has taken in a datagram; `before` it was this that had come.
    fn after_datagram(&mut self, before: Arrivals, understood: bool) {
        self.stats.foreign_datagrams += u64::from(!understood);
        let arrivals = self.session.arrivals();
        if arrivals.heard != before.heard {
            self.suspect = None;
            self.waking = false;
        }
        if arrivals.segments != before.segments {
            self.data_at = self.now;
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

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.set_now(now);
        if self.suspended {
            return;
        }
        match self.state {
            State::Connecting { until } if until <= self.now => self.lose(Disconnect::NoAnswer),
            State::Waiting { until } if until <= self.now => self.open(),
            State::Closing { until } if until <= self.now => self.finish(),
            State::Up { .. } => self.check_health(),
            _ => {}
        }
        self.advance();
    }

    // --- out ---

    /// Writes the next datagram to the front of `out` and returns its length; `None` when nothing is due.
    /// `out` holds at least [`Client::max_datagram`] bytes. A longer datagram, which is written only where there is room
    /// for it, asks whether the path carries it: that the system refuses to send it is an answer as well.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.set_now(now);
        if self.suspended {
            return None;
        }
        if core::mem::take(&mut self.last_words) {
            return self.transmit(out, Session::last_words);
        }
        if !self.is_open() {
            return None;
        }
        self.advance();
        let len = self.transmit(out, Session::poll_transmit);
        self.count_expired();
        if self.blocked && self.session.outbox.len() <= self.config.queue / 2 {
            self.blocked = false;
            self.notices.writable = true;
        }
        len
    }

    /// Takes note of messages that the session has dropped because their time was over.
    pub(super) fn count_expired(&mut self) {
        let expired = self.session.take_expired();
        self.dropped += expired;
        self.stats.expired += expired;
    }

    /// Lets the session write a datagram, and protects it.
    fn transmit(
        &mut self,
        out: &mut [u8],
        write: impl Fn(&mut Session<S>, Instant, &mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        let headroom = self.protection.headroom();
        let len = headroom + write(&mut self.session, self.now, out.get_mut(headroom..)?)?;
        self.protection.seal(out.get_mut(..len)?);
        Some(len)
    }

    /// When the client wants to be called again, and why; `None`: not before input.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let own = match self.state {
            _ if self.suspended => return None,
            State::Idle | State::Closed => return None,
            State::Connecting { until } | State::Waiting { until } => Deadline { at: until, why: Why::Reconnect },
            State::Closing { until } => Deadline { at: until, why: Why::Linger },
            State::Up { .. } => {
                let heard = self.heard();
                let mut at = (heard + self.config.read_timeout).min(self.suspect.unwrap_or(Instant::MAX));
                if let Some(since) = self.session.kcp.stalled_since() {
                    at = at.min(since.max(heard) + self.config.stall_timeout);
                }
                let at = at.min(self.answer_due().unwrap_or(at));
                let idle = Deadline { at, why: Why::Idle };
                let heartbeat = Deadline { at: self.next_heartbeat, why: Why::Heartbeat };
                if heartbeat.at < idle.at { heartbeat } else { idle }
            }
        };
        if matches!(self.state, State::Waiting { .. }) {
            return Some(own);
        }
        let retry = self.subscriptions.next_timeout().map(|at| Deadline { at, why: Why::SubscribeRetry });
        Deadline::earlier(Deadline::earlier(Some(own), retry), self.session.poll_timeout())
    }

    // --- getters ---

    /// Where the client stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// True while a server answers.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// The number of the present conversation, another one after each attempt to connect. A driver gives each its own
    /// socket: an original server tells sessions apart by address only (PROTOCOL.md 4.1).
    pub fn conversation(&self) -> u32 {
        self.session.kcp.conv()
    }

    /// The longest datagram that the present session sends, in bytes, besides those that ask for more.
    pub fn max_datagram(&self) -> usize {
        self.protection.headroom() + usize::from(self.session.link.max_datagram())
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats {
            active_subscriptions: self.subscriptions.active(),
            messages_acknowledged: self.session.moved() - self.session.in_doubt() - self.stats.dropped_in_doubt,
            ..self.stats
        }
    }

    /// The engine's counters, of all conversations together.
    pub fn transport(&self) -> &crate::kcp::Stats {
        self.session.kcp.stats()
    }

    /// When the server was last heard.
    pub fn last_heard(&self) -> Option<Instant> {
        self.session.kcp.last_heard()
    }

    /// Since when a heartbeat is unanswered.
    pub fn heartbeat_outstanding(&self) -> Option<Instant> {
        self.heartbeat.map(|ping| ping.at)
    }

    /// The smoothed round-trip time of the transport, and that of the last heartbeat.
    pub fn round_trip(&self) -> (Option<Duration>, Option<Duration>) {
        (self.session.kcp.rtt().smoothed(), self.round_trip)
    }

    /// Bytes of messages that wait.
    pub fn queued(&self) -> usize {
        self.session.outbox.len()
    }

    /// The epoch of a native server, which changes when it restarts; `None` for an original one.
    pub fn server_epoch(&self) -> Option<u64> {
        self.server.map(|server| server.epoch)
    }
}
