//! What waits for one party: how much may, what happens beyond that, and who is held back because of it.
//!
//! The same for sessions and for shards. The queue itself lies where it is emptied, beside the outlet.

use alloc::vec::Vec;

use super::config::{Config, SlowConsumer};
use super::context::Context;
use super::message::Message;
use super::party::Party;
use super::stats::Stats;
use crate::outbox::{HeapOutbox, Outbox};
use crate::time::Instant;

/// See above.
pub(super) struct Outlet {
    kind: Kind,
    /// The largest frame body that the party takes.
    max_body: u32,
    /// From so many bytes that wait on, publishers are held back.
    stall_at: usize,
    /// Bytes that have left the queue and still wait: they are on their way to a shard.
    beyond: usize,
    /// Bytes of the queue that the total of all queues includes.
    accounted: usize,
    /// The queue was full and has not been emptied far enough since.
    slow: bool,
    /// Since when more waits than publishers may add to.
    behind: Option<Instant>,
    /// Who is held back because of that.
    held: Vec<Party>,
}

/// Whose outlet it is, for the counters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Session,
    Shard,
}

impl Outlet {
    /// For a session.
    pub(super) fn of_session(config: &Config) -> Self {
        Self::new(Kind::Session, config.stall_at)
    }

    /// For a shard, from `stall_at` bytes on whose publishers are held back.
    pub(super) fn of_shard(stall_at: usize) -> Self {
        Self::new(Kind::Shard, stall_at)
    }

    fn new(kind: Kind, stall_at: usize) -> Self {
        Self {
            kind,
            max_body: u32::MAX,
            stall_at,
            beyond: 0,
            accounted: 0,
            slow: false,
            behind: None,
            held: Vec::new(),
        }
    }

    /// The party takes no larger frame bodies.
    pub(super) fn set_max_body(&mut self, max_body: u32) {
        self.max_body = max_body;
    }

    /// Bytes left the queue, and wait elsewhere until they have [`arrived`](Self::arrived).
    pub(super) fn sent(&mut self, bytes: usize) {
        self.beyond += bytes;
    }

    /// So many bytes that had been sent wait no more.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.beyond = self.beyond.saturating_sub(bytes);
    }

    /// Queues a message, or the `latest` of its subject only, if the party takes it and there is room. True if there is
    /// no room, for the first time since there was plenty.
    pub(super) fn admit<P>(
        &mut self,
        cx: &mut Context<P>,
        queue: &mut HeapOutbox,
        message: &mut Message<'_>,
        latest: bool,
    ) -> bool {
        let Context { config, stats, .. } = cx;
        let len = message.len();
        if message.body_len() > self.max_body as usize {
            stats.dropped_too_large += 1;
            return false;
        }
        if latest && message.supersede_in(queue, config.max_queued) {
            stats.superseded += 1;
            self.took(stats, len, queue);
            return false;
        }
        let mut full = false;
        if self.beyond + queue.len() + len > config.max_queued {
            stats.expired += u64::from(queue.expire(cx.now));
            while !self.has_room(queue, len, config.max_queued) {
                full = true;
                *self.dropped(stats) += 1;
                if config.slow_consumer != SlowConsumer::DropOldest || !queue.drop_oldest() {
                    return self.is_full();
                }
            }
        }
        if stats.queued as usize + len > config.max_queued_total && !queue.is_empty() {
            stats.dropped_memory += 1;
            return self.is_full();
        }
        if latest {
            message.append_latest_to(queue, cx.seed);
        } else {
            message.append_to(queue);
        }
        self.took(stats, len, queue);
        full && self.is_full()
    }

    /// One message may always wait, whatever its size.
    fn has_room(&self, queue: &HeapOutbox, len: usize, limit: usize) -> bool {
        let waiting = self.beyond + queue.len();
        waiting == 0 || waiting + len <= limit
    }

    /// True if that is news.
    fn is_full(&mut self) -> bool {
        !core::mem::replace(&mut self.slow, true)
    }

    fn took(&mut self, stats: &mut Stats, len: usize, queue: &HeapOutbox) {
        match self.kind {
            Kind::Session => {
                stats.messages_out += 1;
                stats.bytes_out += len as u64;
            }
            Kind::Shard => stats.relayed += 1,
        }
        self.account(stats, queue.len());
    }

    fn dropped<'s>(&self, stats: &'s mut Stats) -> &'s mut u64 {
        match self.kind {
            Kind::Session => &mut stats.dropped_slow,
            Kind::Shard => &mut stats.dropped_relay,
        }
    }

    fn account(&mut self, stats: &mut Stats, len: usize) {
        stats.queued = (stats.queued + len as u64).saturating_sub(self.accounted as u64);
        self.accounted = len;
    }

    /// Until when at most who publishes to the party is to be held back, if so.
    pub(super) fn holds_until<P>(&mut self, cx: &Context<P>, queue: &HeapOutbox) -> Option<Instant> {
        if self.beyond + queue.len() < self.stall_at {
            return None;
        }
        let until = *self.behind.get_or_insert(cx.now) + cx.config.stall_for;
        (until > cx.now).then_some(until)
    }

    /// Notes whom to let go on once the party has caught up.
    pub(super) fn hold(&mut self, publisher: Party) {
        if !self.held.contains(&publisher) {
            self.held.push(publisher);
        }
    }

    /// To be called after something has left the queue, or arrived: those who waited for that may go on.
    pub(super) fn settle<P>(&mut self, cx: &mut Context<P>, queue: &HeapOutbox) {
        let len = queue.len();
        self.account(&mut cx.stats, len);
        if self.slow && self.beyond + len <= cx.config.max_queued / 2 {
            self.slow = false;
        }
        if self.behind.is_some() && self.beyond + len <= self.stall_at / 2 {
            self.release(cx);
        }
    }

    /// The party is gone, and what waits for it with it.
    pub(super) fn close<P>(&mut self, cx: &mut Context<P>) {
        self.account(&mut cx.stats, 0);
        self.release(cx);
    }

    fn release<P>(&mut self, cx: &mut Context<P>) {
        self.behind = None;
        cx.released.extend(self.held.drain(..));
    }
}
