//! Several brokers as one server, each in a thread of its own: what they know of each other, and tell each other.
//!
//! Each knows the others as parties of its router, under the patterns that their sessions have: a message that somebody
//! there wants goes there once, whatever their number, and is routed among them there. The driver carries [`Relay`]s
//! from [`poll_relay`](super::Broker::poll_relay) of one to [`handle_relay`](super::Broker::handle_relay) of another, in
//! order.
//!
//! A subscription is acknowledged when all other shards know of it. Back-pressure crosses over as well: each says how well
//! the sessions are off that it has messages for, and throttles the other as it would a session.

mod owed;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use self::owed::Owed;
use super::context::Context;
use super::delivery::About;
use super::event::SessionId;
use super::kept::Kept;
use super::outlet::{Outlet, Report};
use super::party::{MAX_SHARDS, Party};
use super::receipts::{Counted, Receipts, StoreOutcome};
use super::replays::{Ask, Key, Say};
use super::supply::Patience;
use super::throttle::Throttle;
use crate::lane::Lane;
use crate::outbox::{HeapOutbox, Queues};
use crate::store::Heap;
use crate::time::{Deadline, Duration, Instant, Why};

/// What one broker tells another.
#[derive(Clone, Debug)]
pub struct Relay(pub(super) Told);

#[derive(Clone, Debug)]
pub(super) enum Told {
    /// Messages of one lane, as whole frames that follow each other, to be forgotten if they still wait then.
    Messages { frames: Bytes, expires: Option<Instant>, lane: Lane },
    /// The last value of a subject since that stamp, or that there is none, and for how long it has been kept: a message that said
    /// so may have been lost, or the gateway tells it, or is told.
    Value { subject: Box<str>, stamp: u64, frame: Option<Bytes>, expires: Option<Instant>, age: Duration },
    /// Whether there are sessions with this pattern.
    Interest { pattern: Box<str>, wanted: bool },
    /// How many subscriptions of sessions there are with this pattern in this queue group.
    Members { text: Box<str>, count: u32 },
    /// One more pattern that is wanted has been taken note of.
    Known,
    /// So many more bytes of messages have found their place, how those are off whom they are for, and how many sessions got
    /// those that had a ticket.
    Placed { bytes: usize, report: Report, answers: Vec<(u32, u32)> },
    /// How many sessions got one of those with a ticket that had gone on to another shard.
    Counted { ticket: u32, sessions: u32 },
    /// What sessions there have left as the will of the client of this key is void: it has come back.
    Will { key: u64 },
    /// The gateway's word that queue groups get messages of this pattern's subjects from it, or do not any more.
    Abroad { pattern: Box<str>, is: bool },
    /// The gateway's word on messages that were to be stored, by their tickets.
    Stored { answers: Vec<(u32, StoreOutcome)> },
    /// To the gateway, about a session's subscription to what is stored.
    Ask { key: Key, ask: Ask },
    /// The gateway's word on one.
    Say { key: Key, say: Say },
    /// The server stops, and no more messages follow.
    Last,
}

/// Another broker of the same server, as this one sees it.
struct Shard {
    /// Messages for it.
    queue: Queues<Heap>,
    outlet: Outlet,
    /// Last values that it may not know.
    owed: Owed,
    /// All else.
    told: VecDeque<Told>,
    /// It as the publisher of what comes from there.
    throttle: Throttle,
    /// Bytes from there that were placed, to be told.
    placed: usize,
    /// How those here are off that it publishes to.
    about: About,
    /// Tickets of messages that wait for it or are on their way, in their order; and those from there, with how many sessions
    /// here got them.
    asked: VecDeque<u32>,
    answers: Vec<(u32, u32)>,
    /// Whether it was told, and has not to be told again, that somebody here is behind.
    told_behind: Option<bool>,
    /// Patterns of ours that it knows, counted as they were told.
    known: u64,
    /// It is to be told, and has told, that no more messages follow.
    last_due: bool,
    has_said_last: bool,
}

impl Shard {
    fn new(high_water: usize) -> Self {
        Self {
            queue: Queues::new(HeapOutbox::default()),
            outlet: Outlet::of_shard(high_water),
            owed: Owed::default(),
            told: VecDeque::new(),
            throttle: Throttle::default(),
            placed: 0,
            about: About::default(),
            asked: VecDeque::new(),
            answers: Vec::new(),
            told_behind: Some(false),
            known: 0,
            last_due: false,
            has_said_last: false,
        }
    }

    /// What it was asked about has been dropped, if nothing is left that it could still get.
    fn give_up_asking(&mut self, receipts: &mut Receipts, is_gateway: bool) {
        if self.outlet.is_idle(&self.queue) {
            self.asked.drain(..).for_each(|ticket| receipts.on_dropped(ticket, is_gateway));
        }
    }

    /// The next thing to tell it. What is told besides messages may overtake them.
    fn poll<P>(&mut self, cx: &mut Context<P>, kept: &Kept) -> Option<Told> {
        let behind = self.throttle.holds();
        if self.placed > 0 || self.told_behind != Some(behind) {
            self.told_behind = Some(behind);
            let About { patience, member } = self.about;
            let load = member.map_or(0, |(load, _)| load);
            let report = Report { behind, lossy: self.throttle.is_lossy(), patience, load };
            let (bytes, answers) = (core::mem::take(&mut self.placed), core::mem::take(&mut self.answers));
            return Some(Told::Placed { bytes, report, answers });
        }
        if let Some(told) = self.told.pop_front() {
            return Some(told);
        }
        if !self.queue.is_empty() {
            self.queue.expire(cx.now, |_, count| {
                cx.stats.expired += u64::from(count);
                self.outlet.counts.expired += u64::from(count);
            });
            let front = self.queue.take_front();
            self.outlet.sent(front.as_ref().map_or(0, |(_, frames, _)| frames.len()));
            self.outlet.settle(cx, &self.queue, 0, 0);
            if let Some((lane, frames, expires)) = front {
                return Some(Told::Messages { frames, expires, lane });
            }
        }
        let owed = self.owed.poll(cx, kept, &mut self.outlet, &self.queue, self.last_due);
        owed.or_else(|| core::mem::take(&mut self.last_due).then_some(Told::Last))
    }
}

/// All brokers of a server but this one.
pub(super) struct Shards {
    /// By number; this one's place stays empty. The gateway to a backbone stands last.
    all: Vec<Option<Shard>>,
    gateway: Option<u8>,
    /// Patterns of the sessions here, and how many have each.
    wanted: HashMap<Box<str>, u32, SeedableRandomState>,
    /// How many patterns were told to all.
    asked: u64,
    /// Answers to SUB, and which pattern has to be known everywhere before.
    answers: VecDeque<(u64, SessionId, HeapOutbox)>,
    /// How long the last messages of the others are waited for, once the server stops.
    last_until: Option<Instant>,
}

impl Shards {
    /// This is broker `own` of `count`, to all of which together `high_water` bytes may be on their way before publishers
    /// are throttled; and as much to the gateway to a backbone, if there is one.
    pub(super) fn new(own: usize, count: usize, seed: u64, high_water: usize, has_gateway: bool) -> Self {
        let count = count.min(MAX_SHARDS);
        let share = high_water / count.saturating_sub(1).max(1);
        let siblings = (0..count).map(|index| (index != own).then(|| Shard::new(share)));
        Self {
            all: siblings.chain(has_gateway.then(|| Some(Shard::new(high_water)))).collect(),
            gateway: has_gateway.then_some(count as u8),
            wanted: HashMap::with_hasher(SeedableRandomState::with_seed(seed, SharedSeed::global_fixed())),
            asked: 0,
            answers: VecDeque::new(),
            last_until: None,
        }
    }

    fn get_mut(&mut self, index: u8) -> Option<&mut Shard> {
        self.all.get_mut(usize::from(index))?.as_mut()
    }

    /// All brokers of the server, this one and the gateway included.
    pub(super) fn count(&self) -> u8 {
        self.all.len() as u8
    }

    /// All brokers of the server, this one included and the gateway not.
    pub(super) fn brokers(&self) -> u8 {
        self.count() - u8::from(self.gateway.is_some())
    }

    /// The number of the gateway to a backbone.
    pub(super) fn gateway(&self) -> Option<u8> {
        self.gateway
    }

    /// The gateway is told of each last value that changes here.
    pub(super) fn share_values(&mut self) {
        if let Some(shard) = self.gateway.and_then(|index| self.get_mut(index)) {
            shard.owed.tell_all();
        }
    }

    /// The number of the gateway, if it is told of last values.
    pub(super) fn shares_values(&self) -> Option<u8> {
        let index = self.gateway?;
        let shard = self.all.get(usize::from(index))?.as_ref()?;
        shard.owed.tells_all().then_some(index)
    }

    /// Tells the gateway something, if there is one.
    pub(super) fn tell_gateway(&mut self, told: Told) {
        if let Some(shard) = self.gateway.and_then(|index| self.get_mut(index)) {
            shard.told.push_back(told);
        }
    }

    fn others(&self) -> impl Iterator<Item = &Shard> {
        self.all.iter().flatten()
    }

    // --- messages ---

    /// What waits for a shard, and the rules for it.
    pub(super) fn outlet(&mut self, index: u8) -> Option<(&mut Queues<Heap>, &mut Outlet)> {
        self.get_mut(index).map(|shard| (&mut shard.queue, &mut shard.outlet))
    }

    /// A last value with this stamp, or that there is none, was put on the way to a shard, or dropped before.
    pub(super) fn note_value(&mut self, index: u8, subject: &str, stamp: u64) {
        if let Some(shard) = self.get_mut(index) {
            shard.owed.note(subject, stamp);
        }
    }

    /// A shard as a publisher.
    pub(super) fn throttle(&mut self, index: u8) -> Option<&mut Throttle> {
        self.get_mut(index).map(|shard| &mut shard.throttle)
    }

    /// Messages of that many bytes that came from a shard have been placed; those whom they were for, if any, are off like
    /// this.
    pub(super) fn has_placed(&mut self, index: u8, bytes: usize, about: About, answers: Vec<(u32, u32)>) {
        if let Some(shard) = self.get_mut(index) {
            shard.about = shard.about.and(about, shard.placed == 0);
            shard.placed += bytes;
            shard.answers.extend(answers);
        }
    }

    /// A shard is to say how many of its sessions got the message that was just queued for it.
    pub(super) fn ask(&mut self, index: u8, ticket: u32) {
        if let Some(shard) = self.get_mut(index) {
            shard.asked.push_back(ticket);
        }
    }

    /// A shard that waits for it is told how many sessions got a message.
    pub(super) fn tell_counted(&mut self, Counted { broker, ticket, sessions }: Counted) {
        if let Some(shard) = self.get_mut(broker) {
            shard.told.push_back(Told::Counted { ticket, sessions });
        }
    }

    /// A shard as a publisher, if those here that it publishes to had enough waiting when it last did.
    pub(super) fn fed(&self, index: u8) -> Option<&Throttle> {
        let shard = self.all.get(usize::from(index))?.as_ref()?;
        shard.about.patience.is_some().then_some(&shard.throttle)
    }

    /// They can be kept waiting for so long now.
    pub(super) fn set_patience(&mut self, index: u8, patience: Patience) {
        if let Some(shard) = self.get_mut(index) {
            shard.about.patience = Some(patience);
        }
        self.tell_again(index);
    }

    /// The member of a queue group that has least waiting of those whom a shard publishes to, if it had something.
    pub(super) fn least_loaded(&self, index: u8) -> Option<Party> {
        let (load, member) = self.all.get(usize::from(index))?.as_ref()?.about.member?;
        (load > 0).then_some(member)
    }

    /// It has nothing to speak of any more.
    pub(super) fn set_unloaded(&mut self, index: u8) {
        if let Some(shard) = self.get_mut(index) {
            shard.about.member = None;
        }
        self.tell_again(index);
    }

    /// Whether a shard is held back as a publisher was looked at again: it is to be told even if that has not changed.
    pub(super) fn tell_again(&mut self, index: u8) {
        if let Some(shard) = self.get_mut(index) {
            shard.told_behind = None;
        }
    }

    /// A shard has placed so many bytes of what was sent to it, and says how those are off whom they are for.
    pub(super) fn on_placed<P>(&mut self, cx: &mut Context<P>, index: u8, bytes: usize, report: Report) {
        if let Some(Shard { outlet, queue, .. }) = self.get_mut(index) {
            outlet.arrived(bytes);
            outlet.on_report(cx.now, report);
            outlet.settle(cx, queue, 0, 0);
        }
    }

    /// A shard has said how many of its sessions got messages that it was asked about.
    pub(super) fn on_answers(&mut self, index: u8, answers: &[(u32, u32)], receipts: &mut Receipts) {
        let is_gateway = self.gateway == Some(index);
        let Some(shard) = self.get_mut(index) else { return };
        for (ticket, sessions) in answers {
            // It answers in order: one that was passed over was dropped on the way.
            while let Some(asked) = shard.asked.pop_front() {
                if asked == *ticket {
                    receipts.on_answer(asked, *sessions);
                    break;
                }
                receipts.on_dropped(asked, is_gateway);
            }
        }
        shard.give_up_asking(receipts, is_gateway);
    }

    /// A shard that is held back as a publisher, where that has to be looked at again.
    pub(super) fn due(&self, now: Instant) -> Option<u8> {
        let due = |shard: &Option<Shard>| shard.as_ref().is_some_and(|shard| shard.throttle.due(now).is_some());
        self.all.iter().position(due).map(|index| index as u8)
    }

    /// The next thing to be told to a shard, and to which.
    pub(super) fn poll<P>(
        &mut self,
        cx: &mut Context<P>,
        kept: &Kept,
        receipts: &mut Receipts,
    ) -> Option<(usize, Relay)> {
        let gateway = self.gateway.map(usize::from);
        let mut shards = self.all.iter_mut().enumerate();
        shards.find_map(|(index, shard)| {
            let shard = shard.as_mut()?;
            let told = shard.poll(cx, kept);
            if !shard.asked.is_empty() {
                shard.give_up_asking(receipts, gateway == Some(index)); // time was over for all that waited
            }
            Some((index, Relay(told?)))
        })
    }

    /// When to look at the shards again without anything else happening.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let last = self.last_until.map(|at| Deadline { at, why: Why::Linger });
        self.others().fold(last, |next, shard| Deadline::earlier(next, shard.throttle.poll_timeout()))
    }

    // --- patterns ---

    fn tell_all(&mut self, told: &Told) {
        for shard in self.all.iter_mut().flatten() {
            shard.told.push_back(told.clone());
        }
    }

    /// A session here has a pattern that it had not.
    pub(super) fn want(&mut self, pattern: &str) {
        if self.all.len() < 2 {
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

    /// So many subscriptions of sessions here are in a queue group with a pattern, of which the `first` has just come.
    pub(super) fn count_members(&mut self, text: &str, count: u32, first: bool) {
        if self.all.len() < 2 {
            return;
        }
        self.asked += u64::from(first);
        self.tell_all(&Told::Members { text: text.into(), count });
    }

    /// What sessions of the other shards have left under this key is void.
    pub(super) fn void_wills_of(&mut self, key: u64) {
        self.tell_all(&Told::Will { key });
    }

    /// A pattern that a shard wants has been taken note of here.
    pub(super) fn has_known(&mut self, index: u8) {
        if let Some(shard) = self.get_mut(index) {
            shard.told.push_back(Told::Known);
        }
    }

    /// A shard has taken note of one more pattern that is wanted here.
    pub(super) fn on_known(&mut self, index: u8, now: Instant) {
        if let Some(shard) = self.get_mut(index) {
            shard.known += 1;
            shard.outlet.on_progress(now);
        }
    }

    /// True if an answer has to wait until all shards know of the patterns here: what is published through them is not
    /// certain to come before.
    pub(super) fn are_asked(&self) -> bool {
        self.known() < self.asked
    }

    /// Keeps the answer to a SUB until then.
    pub(super) fn answer_later(&mut self, id: SessionId, answer: HeapOutbox) {
        self.answers.push_back((self.asked, id, answer));
    }

    /// The next answer that need not wait any more.
    pub(super) fn poll_answer(&mut self) -> Option<(SessionId, HeapOutbox)> {
        let known = self.known();
        self.answers.front().filter(|(asked, ..)| *asked <= known)?;
        let (_, id, answer) = self.answers.pop_front()?;
        Some((id, answer))
    }

    /// Patterns that all shards know.
    fn known(&self) -> u64 {
        self.others().map(|shard| shard.known).min().unwrap_or(self.asked)
    }

    // --- the end ---

    /// The server stops: no more messages come from here, and those of the others are waited for, until then. False if
    /// there is nothing to wait for.
    pub(super) fn say_last(&mut self, until: Instant) -> bool {
        for shard in self.all.iter_mut().flatten() {
            shard.last_due = true;
        }
        let waits = self.others().any(|shard| !shard.has_said_last);
        self.last_until = waits.then_some(until);
        waits
    }

    /// True as long as the last messages of others are waited for.
    pub(super) fn waits_for_last(&self) -> bool {
        self.last_until.is_some()
    }

    /// True once the last messages have been waited for long enough.
    pub(super) fn give_up(&mut self, now: Instant) -> bool {
        self.last_until.take_if(|until| *until <= now).is_some()
    }

    /// A shard has said that no more messages follow. True if that was the last one that was waited for.
    pub(super) fn on_last(&mut self, index: u8) -> bool {
        if let Some(shard) = self.get_mut(index) {
            shard.has_said_last = true;
        }
        let all = self.others().all(|shard| shard.has_said_last);
        self.last_until.take_if(|_| all).is_some()
    }
}
