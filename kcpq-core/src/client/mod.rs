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
//! and the client goes on in the original's manner (WIRE.md 11).

mod config;
mod event;
mod inbound;
mod memory;
mod stats;
mod subscriptions;
#[cfg(all(test, feature = "alloc"))]
mod tests;

use core::fmt;

pub use config::{Backoff, Config, Overflow};
pub use event::{Disconnect, Event, Message, PublishError, SubscribeError, SubscribeFailure};
pub use memory::Memory;
pub use stats::{Latency, Stats};
pub use subscriptions::{Subscription, SubscriptionId};

use self::inbound::Current;
use self::subscriptions::{Request, Subscriptions};
use crate::datagram::{self, Framing, Link, Protection};
use crate::frame::{self, command};
use crate::hello::{self, CloseReason, Hello, MAX_HELLO, Reset, VERSION};
use crate::rng::Rng;
use crate::session::{self, Session};
use crate::store::{Outbox, PushError, Store, Text, TooLarge};
use crate::subject::{Pattern, Subject};
use crate::time::{Deadline, Duration, Instant, Why};

/// The memory of a client.
pub struct Parts<S: Store> {
    /// The session's.
    pub session: session::Parts<S>,
    /// The frame being put together; as long as the largest message to be received.
    pub inbox: S::Inbox,
    /// One entry for each subscription.
    pub subscriptions: S::Queue<Subscription<S::Text>>,
}

impl<S: Store> fmt::Debug for Parts<S> {
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
    epoch: u64,
}

/// Events that borrow nothing and wait to be told; a bit each, told in this order.
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
pub struct Client<S: Store> {
    config: Config,
    rng: Rng,
    state: State,
    /// The latest time that any call brought.
    now: Instant,
    protection: Protection,
    session: Session<S>,
    reader: frame::Reader<S>,
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
    round_trip: Option<Duration>,
    /// When a session that the server may have forgotten is given up, unless something is heard.
    suspect: Option<Instant>,
    /// Messages taken by `publish`, in all; dropped and in-doubt ones included.
    published: u64,
    /// Messages dropped from the queue, in all.
    dropped: u64,
    /// How far a flush was asked for, and the one that is under way: its PING, and what it covers.
    flush_wanted: u64,
    flush: Option<(u32, u64)>,
    flushed: u64,
    /// `publish` has refused for want of room.
    blocked: bool,
    current: Option<Current>,
    notices: Notices,
    stats: Stats,
}

impl<S: Store> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<S: Store> Client<S> {
    /// A client that does nothing until [`connect`](Self::connect). `seed` is random: conversation numbers and jitter
    /// come from it.
    pub fn new(config: Config, seed: u64, parts: Parts<S>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let link = Link::new(config.framing, config.max_datagram);
        let session = Session::new(rng.u32(..), config.kcp, link, parts.session);
        Self {
            config,
            rng,
            state: State::Idle,
            now: Instant::ZERO,
            protection: Protection::NONE,
            session,
            reader: frame::Reader::new(config.frames, parts.inbox),
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
            round_trip: None,
            suspect: None,
            published: 0,
            dropped: 0,
            flush_wanted: 0,
            flush: None,
            flushed: 0,
            blocked: false,
            current: None,
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

    /// The longest datagram inside the protection, if `whole` is the longest outside.
    fn inner(&self, whole: u16) -> u16 {
        whole.saturating_sub(self.protection.headroom() as u16)
    }

    // --- commands ---

    /// Begins to connect. Without effect unless the client is idle.
    pub fn connect(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.state == State::Idle {
            self.open();
        }
    }

    /// Asks for a subscription. [`Event::Subscribed`] says when the server has acknowledged it.
    ///
    /// # Errors
    /// [`SubscribeError`]: nothing was asked for.
    pub fn subscribe(&mut self, now: Instant, pattern: &str) -> Result<SubscriptionId, SubscribeError> {
        self.now = self.now.max(now);
        let added = self.try_subscribe(pattern);
        self.stats.subscription_errors += u64::from(added.is_err());
        self.advance();
        added
    }

    fn try_subscribe(&mut self, pattern: &str) -> Result<SubscriptionId, SubscribeError> {
        if matches!(self.state, State::Closing { .. } | State::Closed) {
            return Err(SubscribeError::Closed);
        }
        Pattern::new(pattern, &self.config.subjects).map_err(SubscribeError::Pattern)?;
        if !self.subscriptions.has_room() {
            return Err(SubscribeError::TooMany);
        }
        let pattern = S::Text::new(pattern).map_err(SubscribeError::TooLong)?;
        let id = self.subscriptions.add(pattern).ok_or(SubscribeError::TooMany)?;
        self.stats.total_subscriptions += 1;
        Ok(id)
    }

    /// Ends a subscription: no message for it comes after this call. False if there is none of that name.
    pub fn unsubscribe(&mut self, now: Instant, id: SubscriptionId) -> bool {
        self.now = self.now.max(now);
        let removed = self.subscriptions.remove(id);
        self.advance();
        removed
    }

    /// Takes a message for sending. Without a connection it waits in the queue.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was queued.
    pub fn publish(&mut self, now: Instant, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        self.now = self.now.max(now);
        let taken = self.try_publish(subject, payload);
        match taken {
            Ok(()) => {}
            Err(PublishError::Full) => self.blocked = true,
            Err(_) => self.stats.publish_errors += 1,
        }
        taken
    }

    fn try_publish(&mut self, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        if matches!(self.state, State::Closing { .. } | State::Closed) {
            return Err(PublishError::Closed);
        }
        Subject::new(subject, &self.config.subjects).map_err(PublishError::Subject)?;
        let limit = self.server.map_or(self.config.frames.max_body, |server| server.max_body) as usize;
        let frame = frame::HEAD + subject.len() + payload.len();
        if frame - frame::LENGTH > limit {
            return Err(PublishError::TooLarge(TooLarge { limit, actual: frame - frame::LENGTH }));
        }
        let offline = !matches!(self.state, State::Up { .. });
        loop {
            let fits = self.session.outbox.is_empty() || self.session.outbox.len() + frame <= self.config.queue;
            let pushed = if fits {
                self.session.message(command::PUB, subject.as_bytes(), payload)
            } else {
                Err(PushError::Full)
            };
            match pushed {
                Ok(()) => break,
                Err(PushError::TooLarge(error)) => return Err(PublishError::TooLarge(error)),
                Err(PushError::Full) if offline && self.config.overflow == Overflow::DropNewest => {
                    self.published += 1;
                    self.dropped += 1;
                    self.stats.dropped_overflow += 1;
                    return Ok(());
                }
                Err(PushError::Full)
                    if offline && self.config.overflow == Overflow::DropOldest && self.session.outbox.drop_oldest() =>
                {
                    self.dropped += 1;
                    self.stats.dropped_overflow += 1;
                }
                Err(PushError::Full) => return Err(PublishError::Full),
            }
        }
        self.published += 1;
        self.stats.messages_sent += 1;
        self.stats.bytes_sent += (subject.len() + payload.len()) as u64;
        Ok(())
    }

    /// Asks to be told when the server has handled everything published so far: [`Event::Flushed`] with at least the
    /// returned number.
    pub fn flush(&mut self, now: Instant) -> u64 {
        self.now = self.now.max(now);
        self.flush_wanted = self.flush_wanted.max(self.published);
        if self.flush_wanted <= self.flushed {
            self.notices.flushed = Some(self.flushed);
        }
        self.advance();
        self.flush_wanted
    }

    /// Ends the session: what is queued still goes out, then CLOSE, within [`Config::linger`].
    pub fn close(&mut self, now: Instant) {
        self.now = self.now.max(now);
        match self.state {
            State::Closing { .. } | State::Closed => {}
            State::Up { .. } => {
                self.state = State::Closing { until: self.now + self.config.linger };
                self.advance();
            }
            State::Connecting { .. } | State::Idle | State::Waiting { .. } => self.finish(),
        }
    }

    /// Something hints that the server does not know this session, or is not there at all (for instance, an ICMP
    /// message): it is asked at once, and given up unless it answers within [`Config::suspect_timeout`].
    pub fn suspect(&mut self, now: Instant) {
        self.now = self.now.max(now);
        match self.state {
            State::Up { .. } if self.suspect.is_none() => {
                let patience = self.config.suspect_timeout.max(self.session.kcp.rtt().rto().saturating_mul(3));
                self.suspect = Some(self.now + patience);
                self.ping();
            }
            State::Closing { .. } => self.finish(),
            _ => {}
        }
    }

    // --- in ---

    /// Takes in a datagram from the server, which is opened in place. What it cannot use is counted.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        self.now = self.now.max(now);
        let Some(datagram) = self.protection.open(datagram) else {
            self.stats.foreign_datagrams += 1;
            return;
        };
        let datagram = &*datagram;
        if let Some(reset) = Reset::decode(datagram) {
            if reset.conv == self.session.kcp.conv() {
                self.stats.reset_hints += 1;
                self.suspect(now);
            } else {
                self.stats.foreign_datagrams += 1;
            }
            return;
        }
        let content = match datagram::parse(datagram) {
            Ok(content) if self.is_open() => content,
            _ => {
                self.stats.foreign_datagrams += 1;
                return;
            }
        };
        let heard = self.session.kcp.last_heard();
        // Nothing is taken here: `poll_event` reads, so a slow user closes the window.
        let understood = self.session.handle_datagram(self.now, datagram, content, |_| 0);
        self.stats.foreign_datagrams += u64::from(!understood);
        if self.session.kcp.last_heard() != heard {
            self.suspect = None;
        }
        self.session.after_input(self.now);
        if let Some(sample) = self.session.take_latency() {
            self.stats.latency.add(sample);
        }
        self.advance();
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        match self.state {
            State::Connecting { until } if until <= self.now => self.lose(Disconnect::NoAnswer),
            State::Waiting { until } if until <= self.now => self.open(),
            State::Closing { until } if until <= self.now => self.finish(),
            State::Up { .. } => self.check_health(),
            _ => {}
        }
        self.advance();
    }

    fn check_health(&mut self) {
        let heard = self.session.kcp.last_heard().unwrap_or(self.now);
        let stalled = self.session.kcp.stalled_since().map(|since| since.max(heard) + self.config.stall_timeout);
        if self.suspect.is_some_and(|until| until <= self.now) {
            self.lose(Disconnect::Forgotten);
        } else if heard + self.config.read_timeout <= self.now {
            self.lose(Disconnect::Silent);
        } else if stalled.is_some_and(|until| until <= self.now) {
            self.lose(Disconnect::Stalled);
        } else if self.next_heartbeat <= self.now {
            self.next_heartbeat = self.now + self.config.heartbeat;
            if let Some(number) = self.ping()
                && self.heartbeat.is_none()
            {
                self.heartbeat = Some(Ping { number, at: self.now });
            }
        }
    }

    // --- out ---

    /// Writes the next datagram to the front of `out` and returns its length; `None` when nothing is due.
    /// `out` holds at least [`Config::max_datagram`] bytes.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.now = self.now.max(now);
        if core::mem::take(&mut self.last_words) {
            return self.transmit(out, Session::last_words);
        }
        if !self.is_open() {
            return None;
        }
        self.advance();
        let len = self.transmit(out, Session::poll_transmit)?;
        if self.blocked && self.session.outbox.len() <= self.config.queue / 2 {
            self.blocked = false;
            self.notices.writable = true;
        }
        Some(len)
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
            State::Idle | State::Closed => return None,
            State::Connecting { until } | State::Waiting { until } => Deadline { at: until, why: Why::Reconnect },
            State::Closing { until } => Deadline { at: until, why: Why::Linger },
            State::Up { .. } => {
                let heard = self.session.kcp.last_heard().unwrap_or(self.now);
                let mut at = (heard + self.config.read_timeout).min(self.suspect.unwrap_or(Instant::MAX));
                if let Some(since) = self.session.kcp.stalled_since() {
                    at = at.min(since.max(heard) + self.config.stall_timeout);
                }
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
    /// socket: an original server tells sessions apart by address only (WIRE.md 3.5).
    pub fn conversation(&self) -> u32 {
        self.session.kcp.conv()
    }

    /// The longest datagram that the present session sends, in bytes.
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

    /// Which life of a native server this is; `None` for an original one.
    pub fn server_epoch(&self) -> Option<u64> {
        self.server.map(|server| server.epoch)
    }

    // --- inside ---

    /// A conversation exists.
    fn is_open(&self) -> bool {
        matches!(self.state, State::Connecting { .. } | State::Up { .. } | State::Closing { .. })
    }

    /// Begins a conversation.
    fn open(&mut self) {
        let conv = self.rng.u32(..);
        let in_doubt = self.session.reset(conv, self.config.framing);
        self.stats.dropped_in_doubt += in_doubt;
        self.session.set_framing(self.config.framing, self.inner(self.config.max_datagram));
        self.reader.reset();
        self.current = None;
        self.server = None;
        self.greet = true;
        self.said_close = false;
        self.last_words = false;
        self.pings = 0;
        self.pongs = 0;
        self.heartbeat = None;
        self.suspect = None;
        self.flush = None;
        self.state = State::Connecting { until: self.now + self.config.connect_timeout };
        self.advance();
    }

    /// The server has answered.
    fn up(&mut self, native: bool) {
        if !matches!(self.state, State::Connecting { .. }) {
            return;
        }
        let again = self.stats.connected_at.is_some();
        self.state = State::Up { native };
        self.failed = 0;
        self.next_heartbeat = self.now + self.config.heartbeat;
        self.stats.connected = true;
        self.stats.connected_at = Some(self.now);
        self.stats.reconnects += u64::from(again);
        self.notices.connected = Some((native, again));
    }

    /// There is no connection any more.
    fn lose(&mut self, why: Disconnect) {
        if self.stats.connected {
            self.stats.connected = false;
            self.stats.disconnected_at = Some(self.now);
        }
        if matches!(self.state, State::Closing { .. }) {
            return self.finish();
        }
        self.last_words = matches!(why, Disconnect::ByServer(_));
        self.stats.connection_errors += 1;
        self.failed = self.failed.saturating_add(u32::from(matches!(self.state, State::Connecting { .. })));
        self.subscriptions.on_disconnect();
        self.notices.connected = None;
        match self.config.reconnect {
            Some(backoff) => {
                let until = self.now + backoff.wait(self.failed, &mut self.rng);
                self.state = State::Waiting { until };
                self.notices.disconnected = Some((why, Some(until)));
            }
            None => {
                self.notices.disconnected = Some((why, None));
                self.finish();
            }
        }
    }

    /// The end.
    fn finish(&mut self) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.stats.connected = false;
            self.stats.dropped_in_doubt += self.session.reset(0, self.config.framing);
            self.stats.dropped_overflow += self.session.outbox.frames() as u64;
            self.session.outbox.clear();
            self.notices.closed = true;
        }
    }

    /// Queues PING and returns its number.
    fn ping(&mut self) -> Option<u32> {
        self.session.control(command::PING, &[], &[]).ok()?;
        self.pings = self.pings.wrapping_add(1);
        Some(self.pings)
    }

    /// Queues what the state of things asks for. What finds no room is asked for again by the next call.
    fn advance(&mut self) {
        if !self.is_open() {
            return;
        }
        if self.greet {
            let mut payload = [0; MAX_HELLO];
            let len = self.hello().encode(&mut payload);
            if self.session.control(command::HELLO, &[], &payload[..len]).is_err() {
                return;
            }
            self.greet = false;
        }
        self.subscriptions.on_time(self.now, &self.config);
        if self.subscriptions.is_unanswered() {
            return self.lose(Disconnect::SubscribeUnanswered);
        }
        let session = &mut self.session;
        self.subscriptions.send_requests(self.now, &self.config, |request| {
            let (command, number, pattern) = match request {
                Request::Subscribe { number, pattern } => (command::SUB, number, pattern),
                Request::Unsubscribe { number, pattern } => (command::UNSUB, number, pattern),
            };
            session.control(command, pattern.as_bytes(), &number.to_be_bytes()).is_ok()
        });
        // All that a flush covers has to be in the stream before its PING is.
        let in_stream = self.session.moved() + self.dropped;
        if self.flush.is_none() && self.flush_wanted > self.flushed && in_stream >= self.flush_wanted {
            self.flush = self.ping().map(|number| (number, self.flush_wanted));
        }
        if matches!(self.state, State::Closing { .. }) && self.session.outbox.is_empty() {
            self.say_close();
        }
    }

    /// CLOSE, once; when it is acknowledged the client is closed.
    fn say_close(&mut self) {
        let native = self.server.is_some();
        if native && !self.said_close {
            let reason = [CloseReason::Normal.code()];
            self.said_close = self.session.control(command::CLOSE, &[], &reason).is_ok();
        }
        if (self.said_close || !native) && self.session.is_drained() {
            self.finish();
        }
    }

    fn hello(&self) -> Hello<'static> {
        Hello {
            version: VERSION,
            features: features(self.config.framing),
            max_datagram: self.config.max_datagram,
            window: self.config.kcp.recv_window,
            max_body: self.config.frames.max_body,
            max_subject: self.config.frames.max_subject,
            max_tokens: self.config.subjects.max_tokens,
            keep_alive: (self.config.heartbeat.as_millis() / 1000).min(u64::from(u16::MAX)) as u16,
            epoch: 0,
            name: self.config.name,
        }
    }
}

/// What to say of FEC: whether it is understood, and whether it is asked for.
fn features(framing: Framing) -> u32 {
    match framing {
        Framing::Plain | Framing::Fec => hello::features::SUPPORTED,
        #[cfg(feature = "fec")]
        Framing::Parity(_) => hello::features::SUPPORTED | hello::features::WANTS_PARITY,
    }
}
