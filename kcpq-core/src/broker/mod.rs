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
//!
//! A session that says HELLO is a native one; one that never does is an original one and is treated in the original's
//! manner (PROTOCOL.md 3.2, 4.4). What cannot be delivered is counted with its reason; nothing is lost silently.

mod config;
mod event;
mod inbound;
mod sessions;
mod siblings;
mod stats;
mod table;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, SocketAddr};

pub use config::{Config, SlowConsumer};
pub use event::{Ended, Event, SessionId};
pub use siblings::Relay;
pub use stats::Stats;

use self::siblings::Siblings;
use self::table::{Pause, Phase, Table};
use crate::datagram::{self, Content, Framing, Protection};
use crate::hello::CloseReason;
use crate::kcp;
use crate::rng::Rng;
use crate::router::Router;
use crate::store::Outbox;
use crate::time::{Deadline, Instant, Why};

/// Where datagrams come from and go to. The broker only compares and counts them.
pub trait Peer: Copy + Eq + Hash + fmt::Debug {
    /// What several peers have in common if they are one machine.
    type Host: Copy + Eq + Hash;

    /// The machine, for the limit of sessions per address.
    fn host(&self) -> Self::Host;

    /// True if it is the machine that the broker runs on.
    fn is_local(&self) -> bool {
        false
    }
}

impl Peer for SocketAddr {
    type Host = IpAddr;

    fn host(&self) -> IpAddr {
        self.ip()
    }

    fn is_local(&self) -> bool {
        self.ip().to_canonical().is_loopback()
    }
}

/// Datagrams to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<P> {
    /// To whom.
    pub to: P,
    /// Bytes written to the buffer.
    pub len: usize,
    /// The length of each datagram but the last, if there are several.
    pub segment: Option<usize>,
    /// It asks whether the path carries a datagram of its length: that the system refuses to send it is an answer as well.
    pub asks: bool,
}

/// Events that wait to be fetched.
struct Events<P>(VecDeque<Event<P>>);

/// Most events that wait.
const MAX_EVENTS: usize = 4096;

impl<P> Events<P> {
    fn push(&mut self, stats: &mut Stats, event: Event<P>) {
        if self.0.len() < MAX_EVENTS {
            self.0.push_back(event);
        } else {
            stats.events_lost += 1;
        }
    }
}

/// Answers to datagrams that belong to no session: a budget for each second.
#[derive(Clone, Copy, Debug, Default)]
struct Stateless {
    second: u64,
    spent: u32,
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
    config: Config,
    seed: u64,
    epoch: u64,
    now: Instant,
    protection: Protection,
    table: Table<P>,
    router: Router,
    events: Events<P>,
    stateless: Stateless,
    /// Sessions that want the message being routed as the latest only; empty between messages.
    deferred: Vec<u32>,
    /// Sessions that the last message went to.
    reach: u32,
    siblings: Siblings,
    /// Stateless answers to be sent: at most a second's budget.
    replies: VecDeque<(P, Box<[u8]>)>,
    draining: bool,
    stats: Stats,
}

impl<P: Peer> fmt::Debug for Broker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("sessions", &self.table.len()).finish_non_exhaustive()
    }
}

impl<P: Peer> Broker<P> {
    /// A broker without sessions. `seed` should be random: hashing and the epoch are derived from it.
    pub fn new(config: Config, seed: u64) -> Self {
        let epoch = Rng::with_seed(seed).u64(1..);
        Self {
            config,
            seed,
            epoch,
            now: Instant::ZERO,
            protection: Protection::NONE,
            table: Table::new(seed),
            router: Router::new(seed),
            events: Events(VecDeque::new()),
            stateless: Stateless::default(),
            deferred: Vec::new(),
            reach: 0,
            siblings: Siblings::new(0, 1, seed, 0),
            replies: VecDeque::new(),
            draining: false,
            stats: Stats::default(),
        }
    }

    /// The same with a protection around all datagrams; to be chosen before the first one.
    #[must_use]
    pub fn with_protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    // --- commands ---

    /// Ends all sessions and opens no more: native clients are told, what waits still goes out within
    /// [`Config::linger`]. One of several brokers waits before, as long at most, for what the others still have for its
    /// sessions: they are to drain as well.
    pub fn drain(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.draining = true;
        if !self.siblings.say_last(self.now + self.config.linger) {
            self.close_all();
        }
    }

    fn close_all(&mut self) {
        for index in self.table.indices() {
            self.close(index, CloseReason::Shutdown);
        }
    }

    // --- in ---

    /// Takes in a datagram, which is opened in place. What it cannot use is counted.
    pub fn handle_datagram(&mut self, now: Instant, from: P, datagram: &mut [u8]) {
        self.now = self.now.max(now);
        // Before there is any state, and answered with silence.
        let Some(datagram) = self.protection.open(datagram) else {
            self.stats.unopened_datagrams += 1;
            return;
        };
        let datagram = &*datagram;
        let Ok(content) = datagram::parse(datagram) else {
            self.stats.malformed_datagrams += 1;
            return;
        };
        let index = match content {
            Content::Parity => datagram::conversation_of_parity(datagram).and_then(|conv| self.table.find(from, conv)),
            Content::Plain(segments) => self.session_of(from, segments, Framing::Plain),
            Content::Fec(segments) => self.session_of(from, segments, Framing::Fec),
        };
        match index {
            Some(index) => self.receive(index, Some((datagram, content))),
            None => self.stats.stray_datagrams += 1,
        }
        self.close_doomed();
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.siblings.give_up(self.now) {
            self.close_all();
        }
        while let Some(index) = self.table.expire(self.now) {
            let Some(slot) = self.table.get_mut(index) else { continue };
            match slot.member.phase {
                Phase::Open if slot.member.heard + self.config.idle_timeout <= self.now => {
                    self.stats.idle_sessions += 1;
                    self.close(index, CloseReason::Idle);
                }
                Phase::Closing { until, reason } if until <= self.now => {
                    if let Some(slot) = self.table.take(index) {
                        self.remove(slot, Ended::ByBroker(reason));
                    }
                }
                _ => self.table.wake(index),
            }
        }
    }

    // --- out ---

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event<P>> {
        self.events.0.pop_front()
    }

    /// Writes datagrams for one peer to the front of `out`; `None` when nothing is due. `out` holds at least one
    /// datagram of [`Config::max_datagram`] bytes; if it holds several, as many as there are follow each other, all of
    /// the same length but the last.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit<P>> {
        self.now = self.now.max(now);
        if let Some((to, reply)) = self.replies.pop_front()
            && let headroom = self.protection.headroom()
            && let Some(place) = out.get_mut(..headroom + reply.len())
        {
            place[headroom..].copy_from_slice(&reply);
            self.protection.seal(place);
            return Some(Transmit { to, len: place.len(), segment: None, asks: false });
        }
        while let Some(mut slot) = self.table.take_ready() {
            let goes_on = match slot.member.paused {
                None => false,
                Some(Pause::Replies) => slot.session.control.is_empty() && slot.member.unanswered == 0,
                Some(Pause::Held { until }) => until <= self.now,
            };
            if goes_on {
                slot.member.paused = None;
                let index = slot.id.slot;
                self.table.put_back(slot);
                self.receive(index, None);
                self.close_doomed();
                continue;
            }
            let transmit = self.fill(&mut slot, out);
            self.settle(&mut slot);
            let drained = matches!(slot.member.phase, Phase::Closing { .. }) && slot.session.is_drained();
            if transmit.is_none() {
                self.arm(&mut slot);
            }
            let index = slot.id.slot;
            match slot.member.phase {
                Phase::Closing { reason, .. } if drained => self.remove(slot, Ended::ByBroker(reason)),
                _ => self.table.put_back(slot),
            }
            if transmit.is_some() {
                // There may be more; the others come first.
                self.table.wake(index);
                return transmit;
            }
        }
        None
    }

    /// When the broker wants to be called again, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.table.has_ready() || !self.replies.is_empty() {
            return Some(Deadline { at: self.now, why: Why::Transmit });
        }
        let timer = self.table.next_timer().map(|at| Deadline { at, why: Why::Retransmit });
        Deadline::earlier(timer, self.siblings.poll_timeout().map(|at| Deadline { at, why: Why::Transmit }))
    }

    // --- getters ---

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats { sessions: self.table.len() as u64, ..self.stats }
    }

    /// Number of sessions.
    pub fn sessions(&self) -> usize {
        self.table.len()
    }

    /// Patterns registered, each counted once.
    pub fn patterns(&self) -> usize {
        self.router.patterns()
    }

    /// The engines' counters of the sessions that exist, added up.
    pub fn transport(&self) -> kcp::Stats {
        let mut sum = kcp::Stats::default();
        for slot in self.table.iter() {
            sum.add(slot.session.kcp.stats());
        }
        sum
    }

    /// The FEC decoders' counters of the sessions that exist, added up.
    #[cfg(feature = "fec")]
    pub fn fec(&self) -> crate::fec::Stats {
        let mut sum = crate::fec::Stats::default();
        for slot in self.table.iter() {
            sum.add(&slot.session.link.fec_stats());
        }
        sum
    }

    /// The epoch: a random number that identifies this run of the server.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}
