//! The queue between a client and a reader: that of a subscription, or of a request's answers.
//!
//! The client fills it, under its lock; the reader empties it in a task or on a thread of its own. There are two kinds. Where
//! the messages that came first are to be read whatever comes later, they wait as a [`line`] of long runs, which costs least.
//! Where newer ones take the place of older ones, they wait one by one, as at the server ([`newest`]).

mod line;
mod newest;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll};

use kcpq_core::Instant;
use kcpq_core::client::Arrived;
use kcpq_core::frame::{Frame, LENGTH, Limits, command};

use crate::clock::Clock;
use crate::events::{Announcer, Event};
use crate::message::Message;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

/// A pattern that many may hold.
pub(crate) type Name = Arc<str>;

/// What may wait in a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) messages: usize,
    /// Subjects and payloads, and 7 bytes for each message.
    pub(crate) bytes: usize,
}

impl Capacity {
    /// A burst has room, as with other clients, and a reader that stands still does not take the machine's memory.
    pub(crate) const DEFAULT: Self = Self { messages: 65_536, bytes: 64 << 20 };

    /// True if `bytes` more may wait beside so many messages and bytes. One alone has room, however long it is.
    fn has_room(self, messages: usize, waiting: usize, bytes: usize) -> bool {
        messages == 0 || messages < self.messages.max(1) && waiting + bytes <= self.bytes
    }
}

/// What is dropped when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    DropNewest,
    DropOldest,
    /// Nothing: what comes waits at the server, as long as the queue is full.
    Wait,
}

/// What waits in a queue, and what does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) capacity: Capacity,
    pub(crate) full: Full,
    /// Of the messages of one subject only the newest waits.
    pub(crate) latest: bool,
}

impl Rules {
    /// All wait, in the order in which they came.
    pub(crate) const fn all(capacity: Capacity) -> Self {
        Self { capacity, full: Full::DropNewest, latest: false }
    }
}

/// Counters of one queue. But for `expired` only one side at a time writes each.
#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    dropped: AtomicU64,
    superseded: AtomicU64,
    expired: AtomicU64,
    processed: AtomicU64,
    /// Bytes of the messages received, and of those taken from the queue.
    arrived: AtomicU64,
    taken: AtomicU64,
    /// It is full, and nothing is taken in by the client before there is room again.
    stopped: AtomicBool,
}

/// Only one at a time writes the counter, so this needs no read-modify-write.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}

/// Statistics of a subscription: what was received was processed, superseded, dropped, or is expired or queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Messages received.
    pub received: u64,
    /// Messages taken from the queue; with a callback, messages whose call has returned.
    pub processed: u64,
    /// Messages dropped because the queue was full.
    pub dropped: u64,
    /// Messages in whose place a newer one of their subject waits or waited, of a subscription to the
    /// [`latest`](crate::Subscribe::latest).
    pub superseded: u64,
    /// Messages whose [time to live](crate::Publish::ttl) was over before they were read.
    pub expired: u64,
    /// Messages in the queue now.
    pub queued: usize,
    /// True while it receives messages.
    pub active: bool,
}

/// What a reader's side and others see of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<Counters>);

impl Gauge {
    pub(crate) fn stats(&self, active: bool) -> SubscriptionStats {
        let Counters { received, dropped, superseded, expired, processed, .. } = &*self.0;
        // Read in this order, the difference is not negative.
        let processed = processed.load(Relaxed);
        let [dropped, superseded, expired] = [dropped, superseded, expired].map(|counter| counter.load(Relaxed));
        let received = received.load(Relaxed);
        let queued = received.saturating_sub(processed + dropped + superseded + expired) as usize;
        SubscriptionStats { received, processed, dropped, superseded, expired, queued, active }
    }

    /// Messages that wait, and their bytes.
    fn waiting(&self) -> (usize, usize) {
        let Counters { arrived, taken, .. } = &*self.0;
        let bytes = arrived.load(Relaxed).saturating_sub(taken.load(Relaxed));
        (self.stats(true).queued, bytes as usize)
    }

    /// True if it is full, which is noted until [`resumes`](Self::resumes).
    fn stops(&self, capacity: Capacity) -> bool {
        let is_full = || {
            let (messages, bytes) = self.waiting();
            messages >= capacity.messages.max(1) || bytes >= capacity.bytes
        };
        if !is_full() {
            return false;
        }
        self.0.stopped.store(true, SeqCst);
        // Its reader may have emptied it meanwhile, and sleep; who sees the other's change last sees to it.
        fence(SeqCst);
        if !is_full() && self.0.stopped.swap(false, SeqCst) {
            return false;
        }
        self.0.stopped.load(SeqCst)
    }

    /// True, once, if it was full and half of it has room again.
    fn resumes(&self, capacity: Capacity) -> bool {
        fence(SeqCst);
        if !self.0.stopped.load(SeqCst) {
            return false;
        }
        let (messages, bytes) = self.waiting();
        messages <= capacity.messages / 2 && bytes <= capacity.bytes / 2 && self.0.stopped.swap(false, SeqCst)
    }

    /// A message was dealt with.
    pub(crate) fn done(&self, len: u64) {
        add(&self.0.processed, 1);
        add(&self.0.taken, len);
    }
}

/// The filling side. Whoever fills holds the client's lock, so there is no other one.
pub(crate) struct Queue {
    filler: Filler,
    gauge: Gauge,
    pattern: Name,
    clock: Clock,
    /// What may wait before nothing more is taken in, if it is never to drop anything.
    stops_at: Option<Capacity>,
}

enum Filler {
    Line(line::Filler),
    Newest(newest::Filler),
}

impl Queue {
    pub(crate) fn new(pattern: Name, rules: Rules, clock: Clock) -> (Self, Outlet) {
        let gauge = Gauge::default();
        let counters = || Arc::clone(&gauge.0);
        let stops_at = (rules.full == Full::Wait).then_some(rules.capacity);
        // Those that have come when it stops have room.
        let without_bound = Capacity { messages: usize::MAX, bytes: usize::MAX };
        let rules = Rules { capacity: stops_at.map_or(rules.capacity, |_| without_bound), ..rules };
        let (filler, reader) = if rules.latest || rules.full == Full::DropOldest {
            let (filler, reader) = newest::queue(rules, counters(), clock);
            (Filler::Newest(filler), Reader::Newest(reader))
        } else {
            let (filler, reader) = line::queue(rules.capacity, counters(), clock);
            (Filler::Line(filler), Reader::Line(reader))
        };
        let outlet = Outlet { reader, gauge: gauge.clone(), resumes_at: stops_at };
        (Self { filler, gauge, pattern, clock, stops_at }, outlet)
    }

    pub(crate) fn pattern(&self) -> Name {
        Arc::clone(&self.pattern)
    }

    /// Queues a message, given as its frame, or several; for each for which there is no room one is dropped, counted and told.
    /// The reader sees them after [`flush`](Self::flush). True if nothing more is to be taken in for now.
    pub(crate) fn deliver(&mut self, arrived: Arrived<'_>, events: &Announcer) -> bool {
        if arrived.count() > 1 && !self.has_room_for(&arrived) {
            // Of these some may be dropped, or take the place of others: each by itself.
            return arrived.frames().fold(false, |stops, frame| self.deliver(Arrived::Lent(frame), events) | stops);
        }
        let Counters { received, dropped, .. } = &*self.gauge.0;
        add(received, arrived.count() as u64);
        let expires = expires(&arrived, self.clock);
        let len = arrived.bytes().len();
        let count = match &mut self.filler {
            Filler::Line(filler) => filler.take(arrived, expires),
            Filler::Newest(filler) => filler.take(arrived, expires),
        };
        if count > 0 {
            let before = dropped.load(Relaxed);
            let total = before + count;
            dropped.store(total, Relaxed);
            // The first, then each power of two: a flood of losses must not become a flood of events.
            if before.checked_ilog2() != total.checked_ilog2() {
                events.announce(Event::Dropped { pattern: self.pattern(), total });
            }
        }
        add(&self.gauge.0.arrived, len as u64);
        self.stops_at.is_some_and(|capacity| self.gauge.stops(capacity))
    }

    /// True if all of these certainly have room.
    fn has_room_for(&mut self, arrived: &Arrived<'_>) -> bool {
        match &mut self.filler {
            Filler::Line(filler) => filler.find_room(arrived.bytes().len() as u64, arrived.count() as u64),
            Filler::Newest(_) => false,
        }
    }

    /// True if nothing more is to be taken in for it.
    pub(crate) fn is_stopped(&self) -> bool {
        self.gauge.0.stopped.load(SeqCst)
    }

    /// Hands over what was queued.
    pub(crate) fn flush(&mut self) {
        if let Filler::Line(filler) = &mut self.filler {
            filler.flush();
        }
    }

    /// No more messages come.
    pub(crate) fn close(&mut self) {
        match &mut self.filler {
            Filler::Line(filler) => filler.close(),
            Filler::Newest(filler) => filler.close(),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

/// When a message is to be forgotten, if ever (PROTOCOL.md 3.7); several that came together never.
fn expires(arrived: &Arrived<'_>, clock: Clock) -> Option<Instant> {
    let bytes = arrived.bytes();
    if bytes.get(LENGTH) != Some(&command::MSGX) {
        return None;
    }
    let (_, properties) = Frame::parse(bytes, &Limits::NONE).ok()?.message()?;
    Some(clock.now() + properties.left()?)
}

/// The emptying side.
pub(crate) struct Outlet {
    reader: Reader,
    gauge: Gauge,
    /// What the queue may hold, if nothing is taken in while it is full.
    resumes_at: Option<Capacity>,
}

enum Reader {
    Line(line::Reader),
    Newest(newest::Reader),
}

impl Outlet {
    /// The next message, which counts as queued until it is [`done`](Gauge::done).
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        match &mut self.reader {
            Reader::Line(reader) => reader.poll_next(cx),
            Reader::Newest(reader) => reader.poll_next(cx),
        }
    }

    /// The same if one waits already.
    pub(crate) fn next_now(&mut self) -> Option<Message> {
        match &mut self.reader {
            Reader::Line(reader) => reader.next_now(),
            Reader::Newest(reader) => reader.next_now(),
        }
    }

    /// The next message, and it has been dealt with.
    pub(crate) fn take_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.poll_next(cx);
        if let Poll::Ready(Some(message)) = &next {
            self.gauge.done(message.len());
        }
        next
    }

    /// The same if one waits already.
    pub(crate) fn take_now(&mut self) -> Option<Message> {
        self.next_now().inspect(|message| self.gauge.done(message.len()))
    }

    /// Another one to go on with, while this one stands still: it has what this one had taken out of the queue.
    pub(crate) fn hand_over(&mut self) -> Self {
        let reader = match &mut self.reader {
            Reader::Line(reader) => Reader::Line(reader.hand_over()),
            Reader::Newest(reader) => Reader::Newest(reader.clone()),
        };
        Self { reader, gauge: self.gauge.clone(), resumes_at: self.resumes_at }
    }

    /// True, once, if the queue was full and has room again: the client is to go on.
    pub(crate) fn resumes(&self) -> bool {
        self.resumes_at.is_some_and(|capacity| self.gauge.resumes(capacity))
    }

    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.reader {
            Reader::Line(reader) => reader.is_closed(),
            Reader::Newest(reader) => reader.is_closed(),
        }
    }
}
