//! A gateway: several servers as one, over a backbone that is a publish/subscribe system itself (NATS).
//!
//! To the brokers of its server it is one more broker: they tell it what their sessions want, it takes from them what they
//! publish, once however many want it, and hands them what comes. Its only session is the backbone:
//!
//! ```text
//!  brokers -- Relay --> interest ---- Order::Subscribe ----> backbone
//!             Relay --> outbound ---- Publish -------------> backbone        at most once, in the order of each broker
//!  brokers <-- Relay -- inbound <---- Incoming ------------- backbone
//! ```
//!
//! Like the rest it has no socket and no clock. The driver has **two connections**, both to the same server of the backbone:
//!
//! * [`Channel::Main`] publishes, and has the subscriptions of sessions. What it publishes does not come back to it. All of
//!   its subscriptions are in one queue group that nobody else is in, so that a message comes once, whatever the number of
//!   patterns that match it, and while these change.
//! * [`Channel::Groups`] has the subscriptions of queue groups. What the other one publishes does come to it: as long as the
//!   gateway is joined to the backbone, that alone chooses who of a group gets a message, of the members at all servers.
//!
//! **Without the backbone** ([`on_disconnected`](Gateway::on_disconnected)) queue groups are served here, subscriptions are
//! acknowledged at once, and what is published waits, as far as it is worth something and there is room. What queue groups
//! here have got does not go out any more: no other member gets it as well. When the backbone is back what waits goes out a
//! moment later, since other servers have lost it as well, and what is published before they are back has nobody there.
//!
//! **What is to be stored** is kept until the backbone has said that it is, and handed over again if need be.
//!
//! **Last values** of sessions are in a bucket there as well, if there is one, and those that are there are the server's.
//!
//! **What is stored** at the backbone sessions read through the gateway: [`StoreOrder`], [`StoreEvent`]. Each asks for as much as
//! it takes, and none waits for another.
//!
//! **Answers** to requests come to `_INBOX.` subjects, which only who asks knows. They are the gateway's at the backbone:
//! `_INBOX.ID.x` there is `_INBOX.x` here, and `_INBOX.ID.y` here is `_INBOX.y` there. No other `_INBOX.` subject crosses.

mod changes;
mod doubts;
mod inbound;
mod interest;
mod keys;
mod link;
mod outbound;
mod replays;
pub mod stand_in;
mod stats;
mod store;
mod stores;
mod storing;
mod subjects;
#[cfg(test)]
mod tests;
mod values;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::BytesMut;

use self::doubts::Doubts;
pub use self::inbound::Incoming;
use self::interest::Interest;
use self::link::Link;
pub use self::outbound::Publish;
use self::outbound::Waiting;
use self::replays::Replays;
pub use self::stand_in::StandIn;
pub use self::stats::Stats;
pub use self::store::{StoreEvent, StoreOrder, StoredMessage};
use self::stores::{Known, Stores};
pub use self::storing::Receipt;
use self::subjects::Subjects;
use self::values::Values;
use super::foreign;
use super::groups;
use super::shards::{Relay, Told};
use crate::access::RuleError;
use crate::frame;
use crate::rng::Rng;
use crate::subject::{self, Pattern, is_reserved};
use crate::time::{Deadline, Duration, Instant, Why};

/// What a gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What tells this gateway from all others at the backbone: random.
    pub id: u64,
    /// Patterns of what goes out. One that begins with a wildcard matches no subject that begins with `$`.
    pub export: Vec<Box<str>>,
    /// Patterns of what comes in, likewise.
    pub import: Vec<Box<str>>,
    /// First tokens of all subjects at the backbone, without a dot behind them; empty for none.
    pub prefix: Box<str>,
    /// Patterns of what is to be stored behind the backbone, as if their publishers had asked for that: it goes out, whatever
    /// [`export`](Self::export) says. One that begins with a wildcard matches no subject that begins with `$`.
    pub store: Vec<Box<str>>,
    /// What the subjects begin with under which a store behind the backbone has the newest message of each (a key/value bucket of
    /// JetStream: `$KV.NAME`); empty for none. The last values of sessions are there as well then, and those there are the
    /// server's: its brokers have been told ([`Broker::with_shared_values`](super::Broker::with_shared_values)).
    pub values: Box<str>,
    /// Maximum size of what waits while there is no backbone, in bytes of frames; the oldest makes room. As much again may wait
    /// to be stored, of 65,536 messages at most: of that what comes last finds no room.
    pub buffer: usize,
    /// So many bytes may be on their way to each broker before nothing more is read from the backbone.
    pub high_water: usize,
    /// Limits of the server's frames and subjects.
    pub frames: frame::Limits,
    /// See [`frames`](Self::frames).
    pub subjects: subject::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: 0,
            export: Vec::from([">".into()]),
            import: Vec::from([">".into()]),
            prefix: "".into(),
            store: Vec::new(),
            values: "".into(),
            buffer: 8 << 20,
            high_water: 4 << 20,
            frames: frame::Limits::default(),
            subjects: subject::Limits::default(),
        }
    }
}

/// Which of the two connections to the backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The one that publishes, and whose own messages do not come back.
    Main,
    /// The one for queue groups.
    Groups,
}

impl Channel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Main, Self::Groups];

    fn index(self) -> usize {
        usize::from(self == Self::Groups)
    }
}

/// What the backbone is to do. Publishing is another matter: [`Gateway::poll_publish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A subscription is to begin, under a number that is used once.
    Subscribe {
        /// On this connection.
        on: Channel,
        /// Its number.
        sid: u64,
        /// A pattern.
        subject: Box<str>,
        /// In this queue group.
        group: Option<Box<str>>,
    },
    /// It is to end.
    Unsubscribe {
        /// On this connection.
        on: Channel,
        /// Its number.
        sid: u64,
    },
    /// The backbone is to say that it has done all that it was told before ([`Gateway::on_pong`]).
    Ping {
        /// On this connection.
        on: Channel,
    },
}

impl Order {
    /// The connection that it is for.
    pub fn on(&self) -> Channel {
        match self {
            Self::Subscribe { on, .. } | Self::Unsubscribe { on, .. } | Self::Ping { on } => *on,
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    subjects: Subjects,
    /// The brokers of the server.
    links: Vec<Link>,
    interest: Interest,
    doubts: Doubts,
    outbound: VecDeque<Waiting>,
    /// Bytes in there.
    waiting: usize,
    /// Messages that are to be stored, which are not among these; and subjects of those that were.
    stores: Stores,
    known: Known,
    /// The number of the last message that was taken.
    last_taken: u64,
    orders: VecDeque<Order>,
    replays: Replays,
    values: Values,
    state: State,
    channels: [Progress; 2],
    /// Requests that nobody here answers, as long as the backbone may say the same: where answers are awaited, and the ping
    /// behind each.
    asked: VecDeque<(u64, Box<str>)>,
    /// Largest message that the backbone takes: headers and payload.
    max_payload: usize,
    /// Other servers are still on their way back: nothing goes out before.
    holds_until: Option<Instant>,
    /// Messages handed to the backbone once and for all, and those of them that it had for certain.
    gone: u64,
    certain: u64,
    stats: Stats,
    /// For messages that come, and for subjects of those that go.
    scratch: Scratch,
}

/// Memory that is used again.
#[derive(Debug, Default)]
struct Scratch {
    subject: String,
    reply: String,
    id: String,
    frame: BytesMut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Away,
    /// The backbone is being told the subscriptions.
    Joining,
    Joined,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Pings sent, and answered.
    sent: u64,
    answered: u64,
    /// The ping behind all subscriptions that there were when the backbone came.
    joins: u64,
    /// Something was told it since.
    news: bool,
    /// When the last ping was sent, and since when one is not answered.
    last: Option<Instant>,
    waits_since: Option<Instant>,
    /// Messages handed to the backbone before one of the pings that are not answered, and which that is.
    mark: Mark,
}

/// See [`Progress::mark`].
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    ping: u64,
    messages: u64,
}

/// A backbone that is not heard is asked so often whether it is there.
const PING_EVERY: Duration = Duration::from_secs(4);
/// So long after it has come back the first message goes out.
const HOLDS_FOR: Duration = Duration::from_secs(1);
/// It is taken to be lost if it has said nothing for so long although it was asked. Who subscribes waits no longer than that.
const PATIENCE: Duration = Duration::from_secs(4);

impl Gateway {
    /// A gateway for so many brokers, which have been made with [`Broker::with_gateway`](super::Broker::with_gateway). `seed`
    /// is random: peers choose what is hashed.
    ///
    /// # Errors
    /// One of the patterns is none, or the prefix.
    pub fn new(mut config: Config, brokers: usize, seed: u64) -> Result<Self, RuleError> {
        let unnamed = config.store.iter().filter(|pattern| !config.export.contains(pattern));
        config.export = config.export.iter().chain(unnamed).cloned().collect();
        let subjects = Subjects::new(&config)?;
        if !config.values.is_empty() {
            subject::Subject::new(&config.values, &config.subjects)
                .map_err(|why| RuleError { pattern: config.values.clone(), why })?;
        }
        let mut links: Vec<Link> = (0..brokers).map(|_| Link::default()).collect();
        for link in &mut links {
            let exported = config.export.iter().map(|pattern| &**pattern).chain([subjects.answers()]);
            // Nobody is to say what nobody else may hear.
            for pattern in exported.filter(|pattern| !is_reserved(pattern.as_bytes())) {
                link.tell(Told::Interest { pattern: pattern.into(), wanted: true });
            }
        }
        Ok(Self {
            subjects,
            links,
            interest: Interest::new(seed, Rng::with_seed(seed)),
            doubts: Doubts::new(seed),
            outbound: VecDeque::new(),
            stores: Stores::default(),
            known: Known::new(seed),
            last_taken: 0,
            waiting: 0,
            orders: VecDeque::new(),
            replays: Replays::default(),
            values: Values::new(&config.values, config.id),
            state: State::Away,
            channels: [Progress::default(); 2],
            asked: VecDeque::new(),
            max_payload: usize::MAX,
            holds_until: None,
            gone: 0,
            certain: 0,
            stats: Stats::default(),
            scratch: Scratch::default(),
            config,
        })
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            joined: u64::from(self.state == State::Joined),
            subscriptions: self.interest.subscriptions(),
            waiting: self.outbound.len() as u64,
            waiting_bytes: self.waiting as u64,
            storing: self.stores.size().0 as u64,
            storing_bytes: self.stores.size().1 as u64,
            replays: self.replays.len() as u64,
            replay_backlog: self.replays.backlog(),
            values_read: u64::from(self.values.size().0),
            values_waiting: self.values.size().1 as u64,
            ..self.stats
        }
    }

    // --- the brokers of the server ---

    /// Takes in what broker `from` has told.
    pub fn handle_relay(&mut self, now: Instant, from: usize, relay: Relay) {
        let Ok(from) = u8::try_from(from) else { return };
        if usize::from(from) >= self.links.len() {
            return;
        }
        match relay.0 {
            Told::Messages { frames, expires, lane } => self.take_all(now, from, frames, expires, lane),
            Told::Interest { pattern, wanted } => self.set_interest(from, &pattern, wanted),
            Told::Members { text, count } => self.set_members(from, &text, count),
            Told::Placed { bytes, report, .. } => {
                if let Some(link) = self.link(from) {
                    link.on_placed(bytes, report.behind);
                }
            }
            Told::Value { subject, stamp, frame, expires, .. } => {
                self.place(now, from, frame.as_ref().map_or(0, |frame| frame.len()));
                self.take_value(now, &subject, stamp, frame.map(|frame| (frame, expires)));
            }
            Told::Last => {
                if let Some(link) = self.link(from) {
                    link.tell(Told::Last);
                }
            }
            Told::Ask { key, ask } => self.on_ask(now, from, key, ask),
            Told::Known | Told::Will { .. } | Told::Abroad { .. } | Told::Say { .. } | Told::Stored { .. } => {}
        }
    }

    /// The next thing to be told to a broker, and to which; to be called until `None` after anything else was.
    pub fn poll_relay(&mut self) -> Option<(usize, Relay)> {
        let channels = self.channels;
        let is_away = self.state == State::Away;
        self.links.iter_mut().enumerate().find_map(|(index, link)| {
            let told = link.poll(|(on, ping)| is_away || channels[on.index()].answered >= ping)?;
            Some((index, Relay(told)))
        })
    }

    fn link(&mut self, index: u8) -> Option<&mut Link> {
        self.links.get_mut(usize::from(index))
    }

    // --- the backbone's presence ---

    /// Both connections are there and have been greeted. `max_payload` is the most bytes of headers and message that the
    /// backbone takes.
    pub fn on_connected(&mut self, now: Instant, max_payload: usize) {
        self.max_payload = max_payload;
        self.state = State::Joining;
        self.stats.connects += 1;
        let waits = !self.outbound.is_empty() || self.stores.size().0 > 0;
        self.holds_until = (self.stats.disconnects > 0 || waits).then(|| now + HOLDS_FOR);
        self.certain = self.gone;
        self.orders.clear();
        for channel in &mut self.channels {
            channel.waits_since = None;
            channel.last = Some(now);
            channel.joins = channel.sent + 1;
        }
        for (sid, subject) in [
            (interest::ANSWERS, self.subjects.answers_there().into()),
            (interest::RECEIPTS, self.subjects.receipts_there().into()),
        ] {
            self.orders.push_back(Order::Subscribe { on: Channel::Main, sid, subject, group: None });
        }
        let Self { interest, orders, channels, .. } = self;
        interest.subscribe_again(orders, channels.map(|channel| channel.joins));
        self.news(Channel::Main);
        self.news(Channel::Groups);
        self.resume_replays(now);
        self.resume_values(now);
    }

    /// One of them is lost, and the other one with it.
    pub fn on_disconnected(&mut self, now: Instant) {
        if self.state == State::Away {
            return;
        }
        if self.state == State::Joined {
            self.set_abroad(false);
        }
        self.doubts.lose(now, self.is_deaf(now));
        self.state = State::Away;
        self.stats.disconnects += 1;
        self.stats.in_doubt += self.gone - self.certain;
        self.orders.clear();
        self.asked.clear();
        for channel in &mut self.channels {
            // Nobody waits for these any more.
            channel.answered = channel.sent;
            (channel.news, channel.waits_since) = (false, None);
        }
        self.settle_all(now);
        self.keep_stores(now);
        self.suspend_replays(now);
        self.suspend_values();
    }

    /// A connection has done all that it was told before the oldest [`Order::Ping`] that it had not answered.
    pub fn on_pong(&mut self, now: Instant, on: Channel) {
        if self.state == State::Away {
            return;
        }
        let channel = &mut self.channels[on.index()];
        channel.answered = (channel.answered + 1).min(channel.sent);
        channel.waits_since = (channel.answered < channel.sent).then_some(now);
        let answered = channel.answered;
        if on == Channel::Main {
            if answered >= channel.mark.ping {
                self.certain = self.certain.max(channel.mark.messages);
                self.doubts.confirm(self.certain);
            }
            // It says that nobody is there before it answers what follows.
            while self.asked.front().is_some_and(|(ping, _)| *ping <= answered) {
                self.asked.pop_front();
            }
        }
        if self.state == State::Joining && self.channels.iter().all(|channel| channel.answered >= channel.joins) {
            self.state = State::Joined;
            self.set_abroad(true);
        }
    }

    /// True if the backbone is there and does not answer any more: it is to be left.
    pub fn is_deaf(&self, now: Instant) -> bool {
        self.state != State::Away
            && self.channels.iter().any(|channel| channel.waits_since.is_some_and(|since| since + PATIENCE <= now))
    }

    /// The backbone has sent something, whatever it is.
    pub fn on_heard(&mut self, now: Instant, on: Channel) {
        if let Some(since) = &mut self.channels[on.index()].waits_since {
            *since = now;
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let placed = self.links.iter().filter_map(Link::next_timeout);
        let stores = self.stores.next_timeout().into_iter().chain(placed).min();
        let stores = stores.map(|at| Deadline { at, why: Why::Request });
        if self.state == State::Away {
            return stores;
        }
        let due = |channel: &Progress| match channel.waits_since {
            Some(since) => since + PATIENCE,
            None => channel.last.map_or(Instant::ZERO, |last| last + PING_EVERY),
        };
        let (replays, values) = (self.replays.next_timeout(), self.values.next_timeout());
        let own = self.channels.iter().map(due).chain(self.holds_until).chain(replays).chain(values).min();
        Deadline::earlier(own.map(|at| Deadline { at, why: Why::Heartbeat }), stores)
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.links.iter_mut().for_each(|link| link.on_time(now));
        self.expire_stores(now);
        if self.state == State::Away {
            return;
        }
        self.holds_until.take_if(|until| *until <= now);
        self.on_store_time(now);
        self.on_values_time(now);
        for channel in &mut self.channels {
            if channel.waits_since.is_none() && channel.last.is_none_or(|last| last + PING_EVERY <= now) {
                channel.news = true;
            }
        }
    }

    /// The server stops: nothing waits any longer than it has to.
    pub fn drain(&mut self) {
        self.holds_until = None;
    }

    /// Lets the backbone be asked once more whether it has all, the last message included.
    pub fn flush(&mut self) {
        self.news(Channel::Main);
    }

    /// True if nothing waits for the backbone, to be stored, or for the bucket of last values, and it has said that it has all.
    pub fn is_flushed(&self) -> bool {
        let main = &self.channels[Channel::Main.index()];
        let waits = !self.outbound.is_empty() || self.stores.size().0 > 0 || self.values.size().1 > 0;
        !waits && !main.news && main.answered == main.sent
    }

    /// The next thing that the backbone is to do; to be called until `None` before messages are published. `None` as well
    /// while it is not there.
    pub fn poll_order(&mut self, now: Instant) -> Option<Order> {
        if self.state == State::Away {
            return None;
        }
        if let Some(order) = self.orders.pop_front() {
            return Some(order);
        }
        let on = Channel::ALL.into_iter().find(|on| self.channels[on.index()].news)?;
        let messages = self.gone;
        let channel = &mut self.channels[on.index()];
        channel.news = false;
        channel.sent += 1;
        channel.last = Some(now);
        channel.waits_since.get_or_insert(now);
        if channel.answered >= channel.mark.ping {
            channel.mark = Mark { ping: channel.sent, messages };
        }
        Some(Order::Ping { on })
    }

    /// Something was told a connection that it is to confirm.
    fn news(&mut self, on: Channel) {
        self.channels[on.index()].news = true;
    }

    /// The ping that confirms what a connection is told now.
    fn next_ping(&self, on: Channel) -> (Channel, u64) {
        (on, self.channels[on.index()].sent + 1)
    }

    // --- what sessions want ---

    /// Sessions of a broker have a pattern, or have it no more.
    fn set_interest(&mut self, from: u8, text: &str, wanted: bool) {
        let limits = foreign::limits(self.config.subjects);
        let Ok(pattern) = Pattern::new(text, &limits) else { return };
        let next = self.next_ping(Channel::Main);
        let is_away = self.state == State::Away;
        let Self { interest, subjects, orders, stats, .. } = self;
        let before = orders.len();
        let confirmed_by = if wanted {
            interest.want(from, pattern, subjects, next, orders, stats)
        } else {
            interest.leave(from, pattern, orders);
            None
        };
        self.follow_up(Channel::Main, before, is_away);
        if wanted && let Some(link) = self.link(from) {
            link.know(confirmed_by);
        }
    }

    /// So many subscriptions of sessions of a broker are in a queue group with a pattern.
    fn set_members(&mut self, from: u8, text: &str, count: u32) {
        let limits = foreign::limits(self.config.subjects);
        let Ok(pattern) = Pattern::new(groups::parts(text).0, &limits) else { return };
        let next = self.next_ping(Channel::Groups);
        let is_away = self.state == State::Away;
        let Self { interest, subjects, orders, stats, .. } = self;
        let before = orders.len();
        let (is_new, confirmed_by) = interest.set_members(from, text, pattern, count, subjects, next, orders, stats);
        self.follow_up(Channel::Groups, before, is_away);
        if is_new && let Some(link) = self.link(from) {
            link.know(confirmed_by);
        }
    }

    /// Orders were added since there were so many.
    fn follow_up(&mut self, on: Channel, before: usize, is_away: bool) {
        if is_away {
            self.orders.clear(); // it is told all when it is there
        } else if self.orders.len() > before {
            self.news(on);
        }
    }

    /// Tells the brokers who sees to queue groups.
    fn set_abroad(&mut self, is: bool) {
        for link in &mut self.links {
            for pattern in self.subjects.shared() {
                link.tell(Told::Abroad { pattern: pattern.clone(), is });
            }
        }
    }
}

/// What the gateway's own subjects for answers begin with, behind `_INBOX.`.
fn token(id: u64) -> String {
    format!("{TOKEN}{id:016x}")
}

/// What those of every gateway begin with.
const TOKEN: &str = "kcpq";
