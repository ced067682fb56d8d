//! What waits for one party: how much may, what happens beyond that, and who is held back because of it.
//!
//! The same for sessions and for shards. The queue itself lies where it is emptied, beside the outlet.
//!
//! ```text
//!  0        low-water        high-water       max_queued
//!  | hungry |       fed        |    behind    | dropped
//!                            <-' until a sixteenth less waits
//! ```

mod run;

use alloc::vec::Vec;

use super::config::SlowConsumer;
use super::context::Context;
use super::message::Message;
use super::party::Party;
use super::relief;
use super::stats::Stats;
use super::supply::{Patience, Supply};
use super::view::SessionStats;
use crate::frame::LENGTH;
use crate::lane::Lane;
use crate::outbox::Queues;
use crate::store::Heap;
use crate::time::{Duration, Instant};

/// See above.
pub(super) struct Outlet {
    kind: Kind,
    /// What a session has sent as well: here, beside what is counted most often.
    pub(super) counts: SessionStats,
    /// The largest frame body that the party takes.
    max_body: u32,
    /// Most bytes that may wait.
    max_queued: usize,
    /// The party knows properties.
    extended: bool,
    /// From so many bytes that wait on, the party is behind.
    high: usize,
    /// Bytes that have left the queue and still wait: they are on their way to a shard.
    beyond: usize,
    /// Bytes that waited when that was last looked at: the total of all queues includes them.
    accounted: usize,
    /// The queue was full and has not been emptied far enough since.
    slow: bool,
    /// When messages began to be dropped, the last time that this was news.
    misses: Option<Instant>,
    /// Nothing waits, nor is under way.
    drained: bool,
    supply: Supply,
    /// Since when the party is behind, or when another sixteenth of the high-water mark had left since.
    behind: Option<Instant>,
    /// Bytes that have left after that.
    left: usize,
    /// How much it had acknowledged when that was last looked at, wrapping.
    acked: u32,
    /// If it ever got something for certain: when it last did, or when it began to have something to get.
    progress: Option<Instant>,
    /// What a shard has said of those it has the messages for.
    reported: Option<Report>,
    /// Who is to be told once it is not behind any more.
    held: Vec<Party>,
}

/// How much waits for a party, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Less than the low-water mark.
    Hungry,
    /// Enough.
    Fed,
    /// More than those who publish to it should add to.
    Behind,
    /// However much: it gets nothing of it.
    Deaf,
}

/// What has become of a message for a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    /// It waits now.
    pub(super) taken: bool,
    /// The queue is full, for the first time since there was plenty of room.
    pub(super) slow: bool,
}

impl Admission {
    const TAKEN: Self = Self { taken: true, slow: false };

    fn dropped(slow: bool) -> Self {
        Self { taken: false, slow }
    }
}

/// What a shard says of those whom the messages are for that it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// One of them is behind, and holds the sender back.
    pub(super) behind: bool,
    /// Messages are dropped for that one.
    pub(super) lossy: bool,
    /// How long the others can be kept waiting.
    pub(super) patience: Option<Patience>,
    /// What waited for that member of a queue group which had least when it was given a message, as [`Outlet::load`] says.
    pub(super) load: u32,
}

/// Whose outlet it is, for the counters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Session,
    Shard,
}

/// So many bytes count as one when the loads of members of a queue group are compared.
pub(super) const LOAD: usize = 16 * 1024;
/// For so long it counts what a shard has said of the load of its sessions.
const REPORT_LASTS: Duration = Duration::from_millis(50);
/// What can come later comes while less than this waits.
const APPETITE: usize = 64 * 1024;
/// How long it is remembered that messages are dropped for a party.
const LOSSY_FOR: Duration = Duration::from_secs(4);

impl Outlet {
    /// For a session that begins now.
    pub(super) fn of_session<P>(cx: &Context<P>) -> Self {
        Self::new(Kind::Session, cx.now, cx.config.high_water)
    }

    /// For a shard, with a high-water mark of its own.
    pub(super) fn of_shard(high_water: usize) -> Self {
        Self::new(Kind::Shard, Instant::ZERO, high_water)
    }

    fn new(kind: Kind, now: Instant, high: usize) -> Self {
        Self {
            kind,
            counts: SessionStats::default(),
            max_body: u32::MAX,
            max_queued: usize::MAX,
            extended: kind == Kind::Shard,
            high,
            beyond: 0,
            accounted: 0,
            slow: false,
            misses: None,
            drained: true,
            supply: Supply::new(now),
            behind: None,
            left: 0,
            acked: 0,
            progress: None,
            reported: None,
            held: Vec::new(),
        }
    }

    /// The party takes no larger frame bodies, and knows properties or not.
    pub(super) fn set_native(&mut self, max_body: u32, extended: bool) {
        (self.max_body, self.extended) = (max_body, extended);
    }

    /// No more than so many bytes are to wait, if the configuration allows more. The party is behind from an eighth on.
    pub(super) fn set_max_queued(&mut self, max_queued: Option<usize>, high_water: usize) {
        self.max_queued = max_queued.unwrap_or(usize::MAX);
        self.high = high_water.min(self.max_queued / 8).max(16);
    }

    /// The party knows properties.
    pub(super) fn is_extended(&self) -> bool {
        self.extended
    }

    /// Bytes left the queue, and wait elsewhere until they have [`arrived`](Self::arrived).
    pub(super) fn sent(&mut self, bytes: usize) {
        self.beyond += bytes;
    }

    /// So many bytes that had been sent wait no more.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.beyond = self.beyond.saturating_sub(bytes);
    }

    /// Messages for the party that were dropped, for whatever reason.
    pub(super) fn lost(&self) -> u64 {
        let SessionStats { expired, dropped_slow, dropped_memory, dropped_stuck, dropped_too_large, .. } = self.counts;
        expired + dropped_slow + dropped_memory + dropped_stuck + dropped_too_large
    }

    /// Queues a message in a lane, or the `latest` of its subject only, if the party takes it and there is room; with `more` properties,
    /// to one who knows such.
    pub(super) fn admit<P>(
        &mut self,
        cx: &mut Context<P>,
        queue: &mut Queues<Heap>,
        message: &mut Message<'_>,
        lane: Lane,
        latest: bool,
        more: &[u8],
    ) -> Admission {
        let Context { config, stats, .. } = cx;
        let extended = self.extended && (message.is_extended() || !more.is_empty());
        let len = message.len(extended) + more.len();
        let max_queued = config.max_queued.min(self.max_queued);
        let told = if self.extended { message.time_len() } else { 0 };
        if len + told - LENGTH > self.max_body as usize {
            stats.dropped_too_large += 1;
            self.counts.dropped_too_large += 1;
            return Admission::dropped(false);
        }
        queue.of(lane).set_now(cx.now);
        if latest && message.supersede_in(queue.of(lane), extended, max_queued) {
            stats.superseded += 1;
            self.counts.superseded += 1;
            self.took(stats, cx.now, (1, len), queue);
            return Admission::TAKEN;
        }
        let mut full = false;
        if self.waiting(queue) + len > max_queued {
            let mut expired = 0;
            queue.expire(cx.now, |_, count| expired += u64::from(count));
            stats.expired += expired;
            self.counts.expired += expired;
            while !self.has_room(queue, lane, len, max_queued) {
                full = true;
                *self.dropped(stats) += 1;
                self.counts.dropped_slow += 1;
                if config.slow_consumer != SlowConsumer::DropOldest || queue.drop_oldest(lane).is_none() {
                    return Admission::dropped(self.is_full(cx));
                }
            }
        }
        if stats.queued as usize > config.max_queued_total / 2 && self.is_refused(cx, queue, len) {
            let stats = &mut cx.stats;
            stats.dropped_memory += 1;
            self.counts.dropped_memory += 1;
            return Admission::dropped(self.is_full(cx));
        }
        if !latest && queue.of(lane).has_latest() {
            message.settle_place_in(queue.of(lane));
        }
        if latest {
            message.append_latest_to(queue.of(lane), extended, cx.seed);
        } else if more.is_empty() {
            message.append_to(queue.of(lane), extended);
        } else {
            message.append_with(queue.of(lane), more);
        }
        self.took(&mut cx.stats, cx.now, (1, len), queue);
        Admission { taken: true, slow: full && self.is_full(cx) }
    }

    /// There is little memory: true if there is none for `len` bytes more that wait for this party.
    #[cold]
    fn is_refused<P>(&self, cx: &mut Context<P>, queue: &Queues<Heap>, len: usize) -> bool {
        cx.relief.demand(cx.now);
        !queue.is_empty() && self.most(cx).is_some_and(|most| self.waiting(queue) + len > most)
    }

    /// What all queues together leave for this one, if they do not leave it all that it may have.
    fn most<P>(&self, cx: &Context<P>) -> Option<usize> {
        relief::most(cx.config.max_queued_total, cx.stats.queued, self.is_stuck(cx.now))
    }

    /// True for a session that takes nothing of what there is for it.
    fn is_stuck(&self, now: Instant) -> bool {
        self.kind == Kind::Session && !self.drained && self.progress.is_none_or(|at| at + relief::PATIENCE <= now)
    }

    /// Memory is short: if it is stuck, the older half of what waits for it is dropped. True if that is news.
    pub(super) fn give_way<P>(&mut self, cx: &mut Context<P>, queue: &mut Queues<Heap>) -> bool {
        if !self.is_stuck(cx.now) {
            return false;
        }
        let (rest, mut dropped) = (queue.len() / 2, 0);
        while queue.len() > rest && queue.drop_oldest(Lane::NORMAL).is_some() {
            dropped += 1;
        }
        cx.stats.dropped_stuck += dropped;
        self.counts.dropped_stuck += dropped;
        self.account(&mut cx.stats, self.waiting(queue));
        dropped > 0 && self.is_full(cx)
    }

    /// True if nothing waits for the party, here or on its way to it.
    pub(super) fn is_idle(&self, queue: &Queues<Heap>) -> bool {
        self.waiting(queue) == 0
    }

    /// True if it has room for a message of `len` bytes that may as well come later: little waits for it, and nothing
    /// would be dropped.
    pub(super) fn has_appetite<P>(&self, cx: &Context<P>, queue: &Queues<Heap>, len: usize) -> bool {
        let waiting = self.waiting(queue);
        let left = self.most(cx).unwrap_or(usize::MAX);
        let limit = APPETITE.min(self.low()).min(cx.config.max_queued).min(self.max_queued).min(left);
        waiting == 0 || waiting + len <= limit
    }

    /// One message may always wait, whatever its size. A lane that fills the queue leaves others an eighth of it each.
    fn has_room(&self, queue: &Queues<Heap>, lane: Lane, len: usize, limit: usize) -> bool {
        let waiting = self.waiting(queue);
        waiting == 0 || waiting + len <= limit || !lane.is_main() && queue.len_of(lane) + len <= limit / 8
    }

    /// A message was dropped. True if that is news.
    fn is_full<P>(&mut self, cx: &Context<P>) -> bool {
        if self.misses.is_none_or(|at| at + cx.config.throttle_for + LOSSY_FOR <= cx.now) {
            self.misses = Some(cx.now);
        }
        !core::mem::replace(&mut self.slow, true)
    }

    /// So many messages of so many bytes wait as well.
    fn took(&mut self, stats: &mut Stats, now: Instant, (count, bytes): (u32, usize), queue: &Queues<Heap>) {
        match self.kind {
            Kind::Session => {
                stats.messages_out += u64::from(count);
                stats.bytes_out += bytes as u64;
                self.counts.messages_out += u64::from(count);
                self.counts.bytes_out += bytes as u64;
            }
            Kind::Shard => stats.relayed += u64::from(count),
        }
        self.account(stats, self.waiting(queue));
        if core::mem::take(&mut self.drained)
            && let Some(at) = &mut self.progress
        {
            *at = now;
        }
    }

    fn dropped<'s>(&self, stats: &'s mut Stats) -> &'s mut u64 {
        match self.kind {
            Kind::Session => &mut stats.dropped_slow,
            Kind::Shard => &mut stats.dropped_relay,
        }
    }

    fn account(&mut self, stats: &mut Stats, waiting: usize) {
        stats.queued = (stats.queued + waiting as u64).saturating_sub(self.accounted as u64);
        self.accounted = waiting;
    }

    // --- back-pressure ---

    fn waiting(&self, queue: &Queues<Heap>) -> usize {
        self.beyond + queue.len()
    }

    /// How much waits, now that something was queued.
    pub(super) fn level<P>(&mut self, cx: &Context<P>, queue: &Queues<Heap>) -> Level {
        let waiting = self.waiting(queue);
        if waiting >= self.low() {
            self.supply.feed(cx.now);
            if waiting >= self.high {
                self.behind.get_or_insert(cx.now);
            }
        }
        if !self.progresses(cx) {
            Level::Deaf
        } else if self.behind.is_some() {
            Level::Behind
        } else if waiting >= self.low() {
            Level::Fed
        } else {
            Level::Hungry
        }
    }

    /// How much waits for the party beside others that could have a message in its place: 0 is nothing to speak of, and the
    /// most that it gets nothing of it. A shard stands for `sessions`, and says how it is with these, for a while. What
    /// is on the way to it is nothing up to half of the high-water mark, as nothing is that is in flight to a session.
    pub(super) fn load<P>(&self, cx: &Context<P>, queue: &Queues<Heap>, sessions: u32) -> u32 {
        if !(self.drained || self.progresses(cx)) {
            return u32::MAX;
        }
        let waiting = queue.len() + self.beyond.saturating_sub(self.high / 2);
        let own = (waiting / LOAD) as u32 / sessions.max(1);
        let recent = self.progress.is_some_and(|at| at + REPORT_LASTS > cx.now);
        own.saturating_add(self.reported.filter(|_| recent).map_or(0, |report| report.load))
    }

    /// How much may wait for the party at present.
    fn limit<P>(&self, cx: &Context<P>) -> usize {
        let own = cx.config.max_queued.min(self.max_queued);
        self.most(cx).map_or(own, |most| own.min(most))
    }

    /// The low-water mark.
    fn low(&self) -> usize {
        self.high / 8
    }

    /// How long the party can be kept waiting; `None` if it does not wait, for who gets nothing misses nothing.
    pub(super) fn patience<P>(&self, cx: &Context<P>) -> Option<Patience> {
        if !(self.drained || self.progresses(cx)) {
            return None;
        }
        if self.behind.is_some() {
            return Some(Patience::of_fed(cx.now));
        }
        // What a shard has got it hands on at once: what waits there it has to say.
        let reported = self.reported.and_then(|report| report.patience);
        Some(reported.unwrap_or_else(|| self.supply.patience(cx.now)))
    }

    /// True if more waits than publishers should add to.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// True if messages are dropped for the party although its publishers were held back. It has the benefit of the doubt at
    /// first, and again from time to time.
    pub(super) fn is_lossy<P>(&self, cx: &Context<P>) -> bool {
        let since = self.misses.map(|at| at + cx.config.throttle_for);
        since.is_some_and(|since| since <= cx.now && cx.now < since + LOSSY_FOR)
            || self.reported.is_some_and(|report| report.lossy)
    }

    /// Until when at most publishers are to be held back, if so: as long as the party is behind, gets something for certain,
    /// and takes not too long for the next sixteenth.
    pub(super) fn holds_until<P>(&self, cx: &Context<P>) -> Option<Instant> {
        let since = self.behind?.min(self.progress?);
        Some(since + cx.config.throttle_for).filter(|until| *until > cx.now)
    }

    fn progresses<P>(&self, cx: &Context<P>) -> bool {
        self.progress.is_some_and(|at| at + cx.config.throttle_for > cx.now)
    }

    /// The party has got something for certain.
    pub(super) fn on_progress(&mut self, now: Instant) {
        self.progress = Some(now);
    }

    /// A shard has said how those are off whom the messages are for.
    pub(super) fn on_report(&mut self, now: Instant, report: Report) {
        self.reported = Some(report);
        if report.behind {
            // It says so only as long as one of them may hold back its publishers.
            self.behind = Some(now);
        }
        self.on_progress(now);
    }

    /// Notes whom to tell once the party is not behind any more.
    pub(super) fn list(&mut self, publisher: Party) {
        self.held.push(publisher);
    }

    /// To be called after something has left the queue, or arrived: what was sent is acknowledged up to offset `acked` of
    /// the stream, and `unacked` bytes behind that are not.
    pub(super) fn settle<P>(&mut self, cx: &mut Context<P>, queue: &Queues<Heap>, acked: u32, unacked: usize) {
        if self.acked != acked {
            self.acked = acked;
            self.on_progress(cx.now);
        }
        let waiting = self.waiting(queue);
        let left = self.accounted.saturating_sub(waiting);
        self.account(&mut cx.stats, waiting);
        self.drained = waiting + unacked == 0;
        cx.emptied |= self.supply.drain(cx.now, waiting, acked, unacked) || (waiting < LOAD && waiting + left >= LOAD);
        if self.slow && waiting <= self.limit(cx) / 2 && !self.is_stuck(cx.now) {
            self.slow = false;
        }
        if let Some(since) = &mut self.behind {
            self.left += left;
            if self.left >= self.high / 16 {
                (*since, self.left) = (cx.now, 0);
            }
            if waiting <= self.high - self.high / 16 && !self.reported.is_some_and(|report| report.behind) {
                self.release(cx);
            }
        }
    }

    /// The party is gone, and what waits for it with it.
    pub(super) fn close<P>(&mut self, cx: &mut Context<P>) {
        self.account(&mut cx.stats, 0);
        self.release(cx);
    }

    fn release<P>(&mut self, cx: &mut Context<P>) {
        (self.behind, self.left) = (None, 0);
        // Who goes first gets the most: not always the same one.
        if self.held.len() > 1 {
            self.held.rotate_left(1);
        }
        cx.released.extend(self.held.drain(..));
    }
}
