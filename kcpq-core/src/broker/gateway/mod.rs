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
//! **As a leaf node** of it ([`Config::leaf`]) there is the main connection alone, and the backbone says what it wants: it is
//! handed nothing else, and queue groups are served here as long as they have members here ([`Gateway::handle_interest`]).
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
mod leaf;
mod link;
mod outbound;
mod presence;
mod replays;
mod said;
pub mod stand_in;
mod stats;
mod store;
mod stores;
mod storing;
mod subjects;
#[cfg(test)]
mod tests;
mod values;
mod wants;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::BytesMut;

use self::doubts::Doubts;
pub use self::inbound::Incoming;
use self::interest::Interest;
use self::leaf::Leaf;
use self::link::Link;
pub use self::outbound::Publish;
use self::outbound::Waiting;
use self::presence::{Channels, HOLDS_FOR, State};
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
use crate::time::Instant;

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
    /// The backbone is joined as a leaf node of it, and not as a client: it says what it wants.
    pub leaf: bool,
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
            leaf: false,
            store: Vec::new(),
            values: "".into(),
            buffer: 8 << 20,
            high_water: 4 << 20,
            frames: frame::Limits::default(),
            subjects: subject::Limits::default(),
        }
    }
}

/// Which of the connections to the backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The one that publishes, and whose own messages do not come back.
    Main,
    /// The one for queue groups. A leaf node has none.
    Groups,
    /// The one to the store, of a leaf node, which does not reach it otherwise; of others the main one is that as well. It comes and
    /// goes by itself ([`Gateway::on_store_connected`]).
    Store,
}

impl Channel {
    /// All.
    pub const ALL: [Self; 3] = [Self::Main, Self::Groups, Self::Store];
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
    /// Of a leaf node: the backbone is to hand over what this pattern matches, from now on or with another weight.
    Want {
        /// The pattern.
        subject: Box<str>,
        /// For this queue group.
        group: Option<Box<str>>,
        /// How many members that has here; 1 without a group.
        weight: u32,
    },
    /// It is not to any more.
    Unwant {
        /// The pattern.
        subject: Box<str>,
        /// See [`Want`](Self::Want).
        group: Option<Box<str>>,
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
            Self::Want { .. } | Self::Unwant { .. } => Channel::Main,
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
    /// What the backbone wants, if this is a leaf node.
    leaf: Option<Box<Leaf>>,
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
    /// Of a leaf node: the connection to the store is there.
    has_store: bool,
    channels: Channels,
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
    groups: String,
    frame: BytesMut,
}

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
        let mut leaf = config.leaf.then(|| Box::new(Leaf::new(seed)));
        let exported = config.export.iter().map(|pattern| &**pattern).chain([subjects.answers()]);
        match &mut leaf {
            // What is to be stored is always to be handed over.
            Some(leaf) => exported
                .chain(config.store.iter().map(|pattern| &**pattern))
                .for_each(|pattern| leaf.tell(&mut links, pattern, true)),
            // Nobody is to say what nobody else may hear.
            None => exported.filter(|pattern| !is_reserved(pattern.as_bytes())).for_each(|pattern| {
                for link in &mut links {
                    link.tell(Told::Interest { pattern: pattern.into(), wanted: true });
                }
            }),
        }
        Ok(Self {
            subjects,
            links,
            interest: Interest::new(seed, Rng::with_seed(seed), config.leaf),
            leaf,
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
            has_store: false,
            channels: Channels::default(),
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
            patterns_refused: self.stats.patterns_refused + self.interest.denials(),
            wants: self.leaf.as_ref().map_or(0, |leaf| leaf.wants.len() as u64),
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
            Told::Known
            | Told::Counted { .. }
            | Told::Will { .. }
            | Told::Abroad { .. }
            | Told::Say { .. }
            | Told::Stored { .. } => {}
        }
    }

    /// The next thing to be told to a broker, and to which; to be called until `None` after anything else was.
    pub fn poll_relay(&mut self) -> Option<(usize, Relay)> {
        let channels = self.channels;
        let is_away = self.state == State::Away;
        self.links.iter_mut().enumerate().find_map(|(index, link)| {
            let told = link.poll(|(on, ping)| is_away || channels.of(on).answered >= ping)?;
            Some((index, Relay(told)))
        })
    }

    fn link(&mut self, index: u8) -> Option<&mut Link> {
        self.links.get_mut(usize::from(index))
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
        self.follow_up(Channel::Main, before, is_away, confirmed_by);
        if wanted && let Some(link) = self.link(from) {
            link.know(confirmed_by);
        }
    }

    /// So many subscriptions of sessions of a broker are in a queue group with a pattern.
    fn set_members(&mut self, from: u8, text: &str, count: u32) {
        let limits = foreign::limits(self.config.subjects);
        let Ok(pattern) = Pattern::new(groups::parts(text).0, &limits) else { return };
        let on = if self.is_leaf() { Channel::Main } else { Channel::Groups };
        let next = self.next_ping(on);
        let is_away = self.state == State::Away;
        let Self { interest, subjects, orders, stats, .. } = self;
        let before = orders.len();
        let (is_new, confirmed_by) = interest.set_members(from, text, pattern, count, subjects, next, orders, stats);
        self.follow_up(on, before, is_away, confirmed_by);
        if is_new && let Some(link) = self.link(from) {
            link.know(confirmed_by);
        }
    }

    /// Orders were added since there were so many, or a ping is waited for that has not been sent.
    fn follow_up(&mut self, on: Channel, before: usize, is_away: bool, confirmed_by: Option<(Channel, u64)>) {
        let is_awaited = confirmed_by.is_some_and(|(on, ping)| ping > self.channels.of(on).sent);
        if is_away {
            self.orders.clear(); // it is told all when it is there
        } else if self.orders.len() > before || is_awaited {
            self.news(on);
        }
    }

    /// Tells the brokers who sees to queue groups.
    fn set_abroad(&mut self, is: bool) {
        if self.is_leaf() {
            return; // that is always the brokers
        }
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
