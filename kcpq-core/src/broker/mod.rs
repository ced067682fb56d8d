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
//! manner (WIRE.md 4.3, 11). What cannot be delivered is counted with its reason; nothing is lost silently.

mod config;
mod event;
mod inbound;
mod stats;
mod table;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, SocketAddr};

pub use config::{Config, SlowConsumer};
pub use event::{Ended, Event, SessionId};
pub use stats::Stats;

use self::inbound::Inbound;
use self::table::{Member, Phase, Slot, Table, hasher};
use crate::datagram::{self, Content, Framing, Link, Protection};
use crate::frame::{self, command};
use crate::hello::{CloseReason, Reset};
use crate::kcp::{self, Command, Header, Origin};
use crate::rng::Rng;
use crate::router::Router;
use crate::session::{self, Session};
use crate::store::{Heap, HeapInbox, HeapOutbox, HeapRx, HeapTx, Outbox};
use crate::subject::Pattern;
use crate::time::{Deadline, Instant, Why};

/// Where datagrams come from and go to. The broker only compares and counts them.
pub trait Peer: Copy + Eq + Hash + fmt::Debug {
    /// What several peers have in common if they are one machine.
    type Host: Copy + Eq + Hash;

    /// The machine, for the limit of sessions per address.
    fn host(&self) -> Self::Host;
}

impl Peer for SocketAddr {
    type Host = IpAddr;

    fn host(&self) -> IpAddr {
        self.ip()
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
    /// A broker without sessions. `seed` is random: hashing and the epoch of this life come from it.
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
    /// [`Config::linger`].
    pub fn drain(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.draining = true;
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

    /// The session that segments belong to, opened if they may do that; `None` if there is none, which is answered.
    fn session_of(&mut self, from: P, segments: &[u8], framing: Framing) -> Option<u32> {
        let (conv, sn) = Header::peek(segments)?;
        if let Some(index) = self.table.find(from, conv) {
            return Some(index);
        }
        let opens = matches!(Header::split(segments, conv), Ok((header, data, _))
            if header.command == Command::Push && sn.0 == 0 && !data.is_empty());
        let framing = if framing == Framing::Plain { framing } else { self.config.compat_framing };
        let index = self.open(from, conv, framing, opens);
        if index.is_none() {
            self.answer_stray(from, conv, framing, segments, opens);
        }
        index
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
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
            return Some(Transmit { to, len: place.len(), segment: None });
        }
        while let Some(mut slot) = self.table.take_ready() {
            if slot.member.paused && slot.session.control.is_empty() {
                slot.member.paused = false;
                let index = slot.id.slot;
                self.table.put_back(slot);
                self.receive(index, None);
                self.close_doomed();
                continue;
            }
            let transmit = self.fill(&mut slot, out);
            self.settle(&mut slot);
            let drained = matches!(slot.member.phase, Phase::Closing { .. }) && slot.session.is_drained();
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
        self.table.next_timer().map(|at| Deadline { at, why: Why::Retransmit })
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

    /// Which life of the server this is.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    // --- inside ---

    /// Opens a session if the datagram may do that.
    fn open(&mut self, peer: P, conv: u32, framing: Framing, opens: bool) -> Option<u32> {
        if !opens || self.draining {
            return None;
        }
        // One socket of an original client carries one session: a new conversation from there means that the old one
        // is gone (WIRE.md 3.4). Native clients say CLOSE, and a stranger must not end their sessions.
        if let Some(old) = self.table.newest(peer)
            && self.table.get_mut(old).is_some_and(|slot| !slot.member.native)
            && let Some(slot) = self.table.take(old)
        {
            self.remove(slot, Ended::ByBroker(CloseReason::Superseded));
        }
        if self.table.len() >= self.config.max_sessions
            || self.table.of_host(peer.host()) >= self.config.max_sessions_per_host
        {
            self.stats.sessions_refused += 1;
            self.events.push(&mut self.stats, Event::Refused { peer });
            return None;
        }
        let session = self.new_session(conv, framing);
        let inbox_limit = (self.config.frames.max_body as usize).saturating_add(frame::LENGTH);
        let reader = frame::Reader::new(self.config.frames, HeapInbox::new(inbox_limit, 0));
        let member = Member {
            native: false,
            patterns: hashbrown::HashSet::with_hasher(hasher(self.seed)),
            phase: Phase::Open,
            heard: self.now,
            slow: false,
            paused: false,
            accounted: 0,
        };
        let id = self.table.insert(peer, session, reader, member);
        self.stats.sessions_opened += 1;
        self.events.push(&mut self.stats, Event::Opened { id, peer });
        Some(id.slot)
    }

    fn new_session(&self, conv: u32, framing: Framing) -> Session<Heap> {
        let parts = session::Parts {
            kcp: kcp::Parts {
                tx: HeapTx::default(),
                sent: VecDeque::new(),
                ends: VecDeque::new(),
                rx: HeapRx::new(usize::from(self.config.kcp.recv_window)),
                acks: VecDeque::new(),
            },
            control: HeapOutbox::default(),
            outbox: HeapOutbox::default(),
            marks: VecDeque::new(),
        };
        Session::new(conv, self.config.kcp, Link::new(framing, self.inner(self.config.max_datagram)), parts)
    }

    /// Lets a session take in a datagram, or read on where it had paused.
    fn receive(&mut self, index: u32, input: Option<(&[u8], Content<'_>)>) {
        let Some(mut slot) = self.table.take(index) else { return };
        let Slot { session, reader, member, .. } = &mut *slot;
        let Session { kcp, link, control, outbox, .. } = session;
        let mut inbound = Inbound {
            config: &self.config,
            epoch: self.epoch,
            table: &mut self.table,
            router: &mut self.router,
            stats: &mut self.stats,
            events: &mut self.events,
            me: index,
            control,
            outbox,
            member,
            greeted: None,
            end: None,
        };
        let understood = match input {
            Some((datagram, content)) => {
                let mut sink = |bytes: &[u8]| inbound.read(reader, bytes);
                session::handle_datagram(kcp, link, self.now, datagram, content, &mut sink)
            }
            None => {
                kcp.recv(self.now, |bytes| inbound.read(reader, bytes));
                true
            }
        };
        let (greeted, end) = (inbound.greeted, inbound.end);
        self.stats.malformed_datagrams += u64::from(!understood);
        if let Some((_, content)) = input {
            slot.member.heard = self.now;
            // An original peer is answered as it last spoke (WIRE.md 11).
            let framing = match content {
                Content::Plain(_) => Framing::Plain,
                Content::Fec(_) | Content::Parity => self.config.compat_framing,
            };
            if !slot.member.native && !slot.session.link.is_framed(framing) {
                slot.session.set_framing(framing, self.inner(self.config.max_datagram));
            }
        }
        slot.session.after_input(self.now);
        if let Some(greeting) = greeted {
            let max_datagram = self.config.max_datagram.min(greeting.max_datagram.max(MIN_DATAGRAM));
            slot.session.set_framing(greeting.framing, self.inner(max_datagram));
            self.events.push(&mut self.stats, Event::Greeted { id: slot.id, version: crate::hello::VERSION });
        }
        match end {
            None => {}
            Some(Ended::ByClient(_)) => {
                // Nothing more is for it but the acknowledgement of its CLOSE.
                self.acknowledge_last(&mut slot);
                return self.remove(slot, end.unwrap_or(Ended::ByBroker(CloseReason::Normal)));
            }
            Some(Ended::ByBroker(reason)) => self.begin_closing(&mut slot, reason),
            Some(Ended::Broken(_)) => self.begin_closing(&mut slot, CloseReason::Protocol),
        }
        self.settle(&mut slot);
        self.table.put_back(slot);
        self.table.wake(index);
    }

    /// Sends what a session that leaves still owes: one datagram of acknowledgements.
    fn acknowledge_last(&mut self, slot: &mut Slot<P>) {
        let mut out = [0; MAX_STATELESS];
        if let Some(len) = slot.session.poll_transmit(self.now, &mut out) {
            self.replies.push_back((slot.peer, out[..len].into()));
        }
    }

    /// The longest datagram inside the protection, if `whole` is the longest outside.
    fn inner(&self, whole: u16) -> u16 {
        whole.saturating_sub(self.protection.headroom() as u16)
    }

    /// Fills `out` with datagrams of one session.
    fn fill(&mut self, slot: &mut Slot<P>, out: &mut [u8]) -> Option<Transmit<P>> {
        let headroom = self.protection.headroom();
        let size = headroom + usize::from(slot.session.link.max_datagram());
        let mut len = 0;
        let mut count = 0;
        let mut first = 0;
        // A batch of equal datagrams: it goes on while they are as long as they can be.
        while let Some(room) = out.get_mut(len..)
            && (count == 0 || room.len() >= size)
            && count < MAX_BATCH
        {
            let limit = room.len().min(size);
            let Some(inner) = room.get_mut(headroom..limit) else { break };
            let Some(written) = slot.session.poll_transmit(self.now, inner) else { break };
            let written = headroom + written;
            self.protection.seal(&mut room[..written]);
            first = if count == 0 { written } else { first };
            len += written;
            count += 1;
            if written < size {
                break;
            }
        }
        (count > 0).then(|| Transmit { to: slot.peer, len, segment: (count > 1).then_some(first) })
    }

    /// Brings the totals and the timer of a session that was worked on up to date.
    fn settle(&mut self, slot: &mut Slot<P>) {
        let queued = slot.session.outbox.len();
        self.stats.queued = (self.stats.queued + queued as u64).saturating_sub(slot.member.accounted as u64);
        slot.member.accounted = queued;
        if slot.member.slow && queued <= self.config.max_queued / 2 {
            slot.member.slow = false;
        }
        let own = match slot.member.phase {
            Phase::Open => slot.member.heard + self.config.idle_timeout,
            Phase::Closing { until, .. } => until,
        };
        let at = slot.session.poll_timeout().map_or(own, |deadline| deadline.at.min(own));
        self.table.arm(slot, at);
    }

    /// Begins to close the session at `index`.
    fn close(&mut self, index: u32, reason: CloseReason) {
        let Some(mut slot) = self.table.take(index) else { return };
        self.begin_closing(&mut slot, reason);
        self.settle(&mut slot);
        self.table.put_back(slot);
        self.table.wake(index);
    }

    /// No more messages for this session; what waits goes out, then CLOSE if it understands that.
    fn begin_closing(&mut self, slot: &mut Slot<P>, reason: CloseReason) {
        if slot.member.phase != Phase::Open {
            return;
        }
        self.unsubscribe_all(slot);
        slot.member.phase = Phase::Closing { until: self.now + self.config.linger, reason };
        if reason == CloseReason::SlowConsumer {
            // It would not get through what waits; that is why it is closed.
            self.stats.dropped_slow += slot.session.outbox.frames() as u64;
            slot.session.outbox.clear();
        }
        if slot.member.native {
            // Behind the messages, which it is to get before.
            let _ = slot.session.message(command::CLOSE, &[], &[reason.code()]);
        } else if reason == CloseReason::SlowConsumer {
            let _ = slot.session.message(command::ERR, b"slow consumer: the session is closed", &[]);
        }
    }

    fn unsubscribe_all(&mut self, slot: &mut Slot<P>) {
        for pattern in slot.member.patterns.drain() {
            if let Ok(pattern) = Pattern::new(&pattern, &self.config.subjects) {
                self.router.unsubscribe(pattern, slot.id.slot);
                self.stats.subscriptions -= 1;
            }
        }
    }

    /// A session that was taken out is no more.
    fn remove(&mut self, mut slot: Box<Slot<P>>, why: Ended) {
        self.unsubscribe_all(&mut slot);
        let undelivered = slot.session.outbox.frames() as u64 + slot.session.in_doubt();
        self.stats.dropped_closed += undelivered;
        self.stats.queued = self.stats.queued.saturating_sub(slot.member.accounted as u64);
        self.stats.native_sessions -= u64::from(slot.member.native);
        self.table.forget(&slot);
        self.events.push(&mut self.stats, Event::Closed { id: slot.id, peer: slot.peer, why, undelivered });
    }

    fn close_doomed(&mut self) {
        while let Some(index) = self.table.doomed.pop() {
            self.close(index, CloseReason::SlowConsumer);
        }
    }

    /// A datagram that belongs to no session: a newcomer that a limit keeps out is told so, anything else gets a hint
    /// that its session is not known here. Both cost no state, and are limited in number.
    fn answer_stray(&mut self, peer: P, conv: u32, framing: Framing, segments: &[u8], opens: bool) {
        let second = self.now.as_micros() / 1_000_000;
        if second != self.stateless.second {
            self.stateless = Stateless { second, spent: 0 };
        }
        if self.stateless.spent >= self.config.stateless_replies {
            return;
        }
        self.stateless.spent += 1;
        self.stats.stateless_replies += 1;
        if !opens {
            self.replies.push_back((peer, Box::new(Reset { conv }.encode())));
            return;
        }
        let reason = if self.draining { CloseReason::Shutdown } else { CloseReason::Limit };
        let text = if self.draining { "the server stops" } else { "too many sessions" };
        let mut session = self.new_session(conv, framing);
        let _ = session.kcp.handle_datagram(self.now, segments, Origin::Wire, <[u8]>::len);
        let _ = session.control(command::ERR, text.as_bytes(), &[]);
        let _ = session.control(command::CLOSE, text.as_bytes(), &[reason.code()]);
        let mut out = [0; MAX_STATELESS];
        if let Some(len) = session.poll_transmit(self.now, &mut out) {
            self.replies.push_back((peer, out[..len].into()));
        }
    }
}

/// Most datagrams in one batch (the kernel's limit for segmentation offload).
const MAX_BATCH: usize = 64;
/// Longest datagram that leaves without a session.
const MAX_STATELESS: usize = 512;
/// What a client may ask for at least; less makes no sense and would leave no room for data.
const MIN_DATAGRAM: u16 = 128;
