//! Several brokers as one server, each in a thread of its own: what they tell each other.
//!
//! Each knows the others as members of its router, under the patterns that their sessions have: a message that somebody
//! there wants goes there once, whatever their number, and is routed among them there. The driver carries [`Relay`]s
//! from [`poll_relay`](Broker::poll_relay) of one to [`handle_relay`](Broker::handle_relay) of another, in order.
//!
//! A subscription is acknowledged when all siblings know of it. Back-pressure crosses over as well: messages count as
//! under way until the sibling has found room for them, and while these are many their publishers are held back.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::config::Config;
use super::event::SessionId;
use super::inbound::Want;
use super::table::{Map, Member, Pause, hasher};
use super::{Broker, Peer};
use crate::frame::{Frame, LENGTH};
use crate::store::{HeapOutbox, Outbox};
use crate::subject::{Pattern, Subject};
use crate::time::Instant;

/// What one broker tells another.
#[derive(Clone, Debug)]
pub struct Relay(Told);

#[derive(Clone, Debug)]
enum Told {
    /// Messages, as whole frames that follow each other, to be forgotten if they still wait then.
    Messages { frames: Bytes, expires: Instant },
    /// Whether there are sessions with this pattern.
    Interest { pattern: Box<str>, wanted: bool },
    /// One more pattern that is wanted has been taken note of.
    Known,
    /// So many more bytes of messages have found their place.
    Placed { bytes: usize },
    /// The server stops, and no more messages follow.
    Last,
}

/// Another broker of the same server, as this one sees it.
pub(super) struct Sibling {
    /// Messages for it.
    pub(super) outbox: HeapOutbox,
    /// All else.
    told: VecDeque<Relay>,
    /// From so many bytes on their way to it on, its publishers are held back.
    pub(super) stall_at: usize,
    /// It is to be told, and has told, that no more messages follow.
    last_due: bool,
    has_said_last: bool,
    /// Bytes of messages that it got and has not placed yet.
    under_way: usize,
    /// Since when more waits for it than its publishers may add to.
    pub(super) behind: Option<Instant>,
    /// Sessions that are not read because of that.
    pub(super) held: Vec<u32>,
    /// Patterns of ours that it knows, counted as they were told.
    known: u64,
    /// Bytes that it is not told yet to have been placed, because a subscriber here is behind; and until when.
    owed: usize,
    owed_until: Instant,
}

impl Sibling {
    fn new(stall_at: usize) -> Self {
        Self {
            stall_at,
            last_due: false,
            has_said_last: false,
            outbox: HeapOutbox::default(),
            told: VecDeque::new(),
            under_way: 0,
            behind: None,
            held: Vec::new(),
            known: 0,
            owed: 0,
            owed_until: Instant::ZERO,
        }
    }

    /// Bytes of messages on their way to it.
    pub(super) fn waiting(&self) -> usize {
        self.outbox.len() + self.under_way
    }

    fn place(&mut self) {
        self.owed_until = Instant::ZERO;
        let bytes = core::mem::take(&mut self.owed);
        if bytes > 0 {
            self.told.push_back(Relay(Told::Placed { bytes }));
        }
    }
}

/// All brokers of a server but this one. Their numbers are those of slots that no session has; this one's stays unused.
pub(super) struct Siblings {
    all: Vec<Option<Sibling>>,
    /// Patterns of the sessions here, and how many have each.
    wanted: Map<Box<str>, u32>,
    /// How many patterns were told to all.
    asked: u64,
    /// Answers to SUB, and which pattern has to be known everywhere before.
    answers: VecDeque<(u64, SessionId, HeapOutbox)>,
    /// How long the last messages of the others are waited for, once the server stops.
    last_until: Option<Instant>,
    /// Stands for the publishers of other brokers.
    pub(super) stranger: Option<Box<Stranger>>,
}

/// What a session has and a sibling has not.
pub(super) struct Stranger {
    pub(super) control: HeapOutbox,
    pub(super) outbox: HeapOutbox,
    pub(super) member: Member,
}

impl Siblings {
    /// This is broker `own` of `count`. From `stall_at` bytes on their way to the others on, publishers are held back.
    pub(super) fn new(own: usize, count: usize, seed: u64, stall_at: usize) -> Self {
        let stall_at = stall_at / count.saturating_sub(1).max(1);
        let stranger = Stranger {
            control: HeapOutbox::default(),
            outbox: HeapOutbox::default(),
            member: Member::new(seed, Instant::ZERO),
        };
        Self {
            all: (0..count).map(|index| (index != own).then(|| Sibling::new(stall_at))).collect(),
            wanted: Map::with_hasher(hasher(seed)),
            asked: 0,
            answers: VecDeque::new(),
            last_until: None,
            stranger: (count > 1).then(|| Box::new(stranger)),
        }
    }

    /// Slots that are none of sessions.
    pub(super) fn slots(&self) -> usize {
        if self.is_alone() { 0 } else { self.all.len() }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.all.len() < 2
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Sibling> {
        self.all.get_mut(slot as usize)?.as_mut()
    }

    fn tell_all(&mut self, told: &Told) {
        for sibling in self.all.iter_mut().flatten() {
            sibling.told.push_back(Relay(told.clone()));
        }
    }

    /// A session here has a pattern that it had not.
    pub(super) fn want(&mut self, pattern: &str) {
        if self.is_alone() {
            return;
        }
        let count = self.wanted.entry(pattern.into()).or_insert(0);
        *count += 1;
        if *count == 1 {
            self.asked += 1;
            self.tell_all(&Told::Interest { pattern: pattern.into(), wanted: true });
        }
    }

    /// A session here has a pattern no more.
    pub(super) fn leave(&mut self, pattern: &str) {
        let Some(count) = self.wanted.get_mut(pattern) else { return };
        *count -= 1;
        if *count == 0 {
            self.wanted.remove(pattern);
            self.tell_all(&Told::Interest { pattern: pattern.into(), wanted: false });
        }
    }

    /// The server stops: no more messages come from here, and those of the others are waited for, until then. False if
    /// there is nothing to wait for.
    pub(super) fn say_last(&mut self, until: Instant) -> bool {
        for sibling in self.all.iter_mut().flatten() {
            sibling.last_due = true;
        }
        let waits = self.all.iter().flatten().any(|sibling| !sibling.has_said_last);
        self.last_until = waits.then_some(until);
        waits
    }

    /// True once the last messages have been waited for long enough.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        self.last_until.take_if(|until| *until <= now).is_some()
    }

    /// A sibling has said that no more messages follow. True if that was the last one that was waited for.
    fn on_last(&mut self, slot: u32) -> bool {
        if let Some(sibling) = self.get_mut(slot) {
            sibling.has_said_last = true;
        }
        let all = self.all.iter().flatten().all(|sibling| sibling.has_said_last);
        self.last_until.take_if(|_| all).is_some()
    }

    /// True if an answer has to wait until all siblings know of the patterns here.
    pub(super) fn are_asked(&self) -> bool {
        self.known() < self.asked
    }

    /// Keeps the answer to a SUB until then.
    pub(super) fn answer_later(&mut self, id: SessionId, answer: HeapOutbox) {
        self.answers.push_back((self.asked, id, answer));
    }

    /// Patterns that all siblings know.
    fn known(&self) -> u64 {
        self.all.iter().flatten().map(|sibling| sibling.known).min().unwrap_or(self.asked)
    }

    /// When something is to be told to a sibling without anything else happening.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let owed = self.all.iter().flatten().filter(|sibling| sibling.owed > 0).map(|sibling| sibling.owed_until);
        owed.chain(self.last_until).min()
    }
}

impl<P: Peer> Broker<P> {
    /// The same as number `own`, from 0, of `count` brokers of one server, which have been given the same configuration
    /// and seed; to be chosen before the first datagram. Limits are this broker's own
    /// (see [`Config::shared_by`]), and for each sibling as much may be on its way as for a session.
    #[must_use]
    pub fn with_siblings(mut self, own: usize, count: usize) -> Self {
        self.siblings = Siblings::new(own, count, self.seed, self.config.stall_at);
        self.table.reserve(self.siblings.slots());
        self
    }

    /// The next thing to be told to another broker, and to which; to be called until `None` when
    /// [`poll_transmit`](Self::poll_transmit) has nothing more.
    pub fn poll_relay(&mut self) -> Option<(usize, Relay)> {
        for slot in core::mem::take(&mut self.table.released) {
            // A subscriber has caught up: the publishers there may go on.
            if let Some(sibling) = self.siblings.get_mut(slot) {
                sibling.place();
            }
        }
        let now = self.now;
        for (index, sibling) in self.siblings.all.iter_mut().enumerate() {
            let Some(sibling) = sibling else { continue };
            if sibling.owed_until <= now {
                sibling.place();
            }
            if let Some(relay) = sibling.told.pop_front() {
                return Some((index, relay));
            }
            self.stats.expired += u64::from(sibling.outbox.expire(now));
            if let Some((frames, expires)) = sibling.outbox.take_front() {
                sibling.under_way += frames.len();
                return Some((index, Relay(Told::Messages { frames, expires })));
            }
            if core::mem::take(&mut sibling.last_due) {
                return Some((index, Relay(Told::Last)));
            }
        }
        None
    }

    /// Takes in what broker `from` has told.
    pub fn handle_relay(&mut self, now: Instant, from: usize, relay: Relay) {
        self.now = self.now.max(now);
        let slot = from as u32;
        match relay.0 {
            Told::Messages { frames, expires } => self.take_messages(slot, &frames, expires),
            Told::Interest { pattern, wanted } => {
                if let Ok(pattern) = Pattern::new(&pattern, &self.config.subjects) {
                    let number = Want { slot, latest: false }.number();
                    if wanted {
                        self.router.subscribe(pattern, number);
                    } else {
                        self.router.unsubscribe(pattern, number);
                    }
                }
                if wanted && let Some(sibling) = self.siblings.get_mut(slot) {
                    sibling.told.push_back(Relay(Told::Known));
                }
            }
            Told::Known => {
                if let Some(sibling) = self.siblings.get_mut(slot) {
                    sibling.known += 1;
                }
                self.answer_those_known();
            }
            Told::Placed { bytes } => self.placed(slot, bytes),
            Told::Last => {
                if self.siblings.on_last(slot) {
                    self.close_all();
                }
            }
        }
    }

    /// Routes messages of another broker among the sessions here.
    fn take_messages(&mut self, slot: u32, frames: &Bytes, expires: Instant) {
        let Some(mut stranger) = self.siblings.stranger.take() else { return };
        let mut rest = frames.clone();
        let mut behind = None;
        // The sibling wrote them.
        while let Some(len) = rest.first_chunk().map(|announced| LENGTH + u32::from_be_bytes(*announced) as usize) {
            let frame = rest.split_to(len.min(rest.len()));
            if expires <= self.now {
                self.stats.expired += 1;
                continue;
            }
            if let Ok(parsed) = Frame::parse(&frame, &self.config.frames)
                && let Ok(subject) = Subject::from_bytes(parsed.subject, &self.config.subjects)
            {
                let mut inbound = self.stranger_inbound(slot, &mut stranger);
                inbound.route_relayed(subject, &frame, expires);
            }
            if let Some(Pause::Held { until }) = stranger.member.paused.take() {
                behind = behind.max(Some(until));
            }
        }
        self.siblings.stranger = Some(stranger);
        self.close_doomed();
        if let Some(sibling) = self.siblings.get_mut(slot) {
            sibling.owed += frames.len();
            sibling.owed_until = behind.map_or(sibling.owed_until, |until| until.max(sibling.owed_until));
            if sibling.owed_until <= self.now {
                sibling.place();
            }
        }
    }

    fn answer_those_known(&mut self) {
        let known = self.siblings.known();
        while let Some((_, id, mut answer)) = self.siblings.answers.pop_front_if(|(asked, ..)| *asked <= known) {
            if let Some(slot) = self.table.get_mut(id.slot).filter(|slot| slot.id == id) {
                answer.append_to(&mut slot.session.control);
                slot.member.unanswered = slot.member.unanswered.saturating_sub(1);
                self.table.wake(id.slot);
            }
        }
    }

    fn placed(&mut self, slot: u32, bytes: usize) {
        let Some(sibling) = self.siblings.get_mut(slot) else { return };
        sibling.under_way = sibling.under_way.saturating_sub(bytes);
        if sibling.behind.is_some() && sibling.waiting() <= sibling.stall_at / 2 {
            sibling.behind = None;
            for publisher in core::mem::take(&mut sibling.held) {
                self.table.go_on(publisher);
            }
        }
    }
}

impl Config {
    /// The part of the limits that each of `count` brokers of one server keeps to.
    #[must_use]
    pub fn shared_by(mut self, count: usize) -> Self {
        let count = count.max(1);
        self.max_sessions = self.max_sessions.div_ceil(count);
        self.max_sessions_per_host = self.max_sessions_per_host.div_ceil(count);
        self.max_queued_total = self.max_queued_total.div_ceil(count);
        self.stateless_replies = self.stateless_replies.div_ceil(count as u32);
        self
    }
}
