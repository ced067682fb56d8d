//! Subscriptions: a stream of messages, or a callback for each message.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_lite::{Stream, StreamExt};
use kcpq_core::client::{Arrived, SubscriptionId};

use crate::events::{Announcer, Event};
use crate::message::Message;
use crate::shared::{Handle, Shared};

/// A pattern that many may hold.
pub(crate) type Name = Arc<str>;

/// A callback that takes longer is worth an event.
const SLOW: Duration = Duration::from_millis(100);

/// Counters of one subscription.
#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    dropped: AtomicU64,
    processed: AtomicU64,
    /// Bytes of the messages taken from the queue.
    taken: AtomicU64,
    /// Its user has gone: no more calls of a callback.
    left: AtomicBool,
}

/// Statistics of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Messages received.
    pub received: u64,
    /// Messages taken from the queue; with a callback, messages whose call has returned.
    pub processed: u64,
    /// Messages dropped because the queue was full.
    pub dropped: u64,
    /// Messages in the queue now.
    pub queued: usize,
    /// True while it receives messages.
    pub active: bool,
}

/// What may wait in a subscription's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) messages: usize,
    /// Subjects and payloads, and 7 bytes for each message.
    pub(crate) bytes: usize,
}

impl Capacity {
    /// A burst has room, as with other clients, and a reader that stands still does not take the machine's memory.
    pub(crate) const DEFAULT: Self = Self { messages: 65_536, bytes: 64 << 20 };
}

/// The filling side of a subscription's queue, or of a request's.
pub(crate) struct Queue {
    line: Arc<Line>,
    /// Messages in a row that were taken in and are not in line yet.
    run: BytesMut,
    /// How many these are.
    frames: u32,
    capacity: Capacity,
    /// Messages and bytes that certainly have room.
    room: u64,
    bytes_room: u64,
    /// Messages and bytes queued so far.
    queued: u64,
    bytes_queued: u64,
    counters: Arc<Counters>,
    pattern: Name,
}

/// Small messages share buffers of this many bytes.
const RUN: usize = 64 * 1024;

impl Queue {
    pub(crate) fn new(pattern: Name, capacity: Capacity) -> (Self, Outlet) {
        let (line, counters) = (Arc::new(Line::default()), Arc::new(Counters::default()));
        let outlet = Outlet { line: Arc::clone(&line), taken: Taken::default(), counters: Arc::clone(&counters) };
        let (run, frames) = (BytesMut::new(), 0);
        let (room, bytes_room, queued, bytes_queued) = (0, 0, 0, 0);
        let queue = Self { line, run, frames, capacity, room, bytes_room, queued, bytes_queued, counters, pattern };
        (queue, outlet)
    }

    pub(crate) fn pattern(&self) -> Name {
        Arc::clone(&self.pattern)
    }

    /// Queues a message, given as its frame; if there is no room it is dropped, counted and told. The subscriber sees it
    /// after [`flush`](Self::flush).
    pub(crate) fn deliver(&mut self, frame: Arrived<'_>, events: &Announcer) {
        // Whoever fills holds the client's lock, so there is no other one.
        add(&self.counters.received, 1);
        let len = match &frame {
            Arrived::Lent(bytes) => bytes.len(),
            Arrived::Whole(bytes) => bytes.len(),
        } as u64;
        if self.room == 0 || self.bytes_room < len {
            self.look_for_room();
        }
        // One alone has room, however long it is.
        if self.room == 0 || self.bytes_room < len && self.bytes_queued > self.counters.taken.load(Relaxed) {
            let total = self.counters.dropped.fetch_add(1, Relaxed) + 1;
            // The first, then each power of two: a flood of losses must not become a flood of events.
            if total.is_power_of_two() {
                events.announce(Event::Dropped { pattern: self.pattern(), total });
            }
            return;
        }
        self.room -= 1;
        self.queued += 1;
        self.bytes_room = self.bytes_room.saturating_sub(len);
        self.bytes_queued += len;
        match frame {
            Arrived::Lent(frame) => {
                if self.run.capacity() - self.run.len() < frame.len() {
                    self.flush();
                    self.run.reserve(frame.len().max(RUN));
                }
                self.run.extend_from_slice(frame);
                self.frames += 1;
            }
            Arrived::Whole(frame) => {
                self.flush();
                self.line.push(frame);
            }
        }
    }

    fn look_for_room(&mut self) {
        let waiting = self.queued.saturating_sub(self.counters.processed.load(Relaxed));
        self.room = (self.capacity.messages.max(1) as u64).saturating_sub(waiting);
        let waiting = self.bytes_queued.saturating_sub(self.counters.taken.load(Relaxed));
        self.bytes_room = (self.capacity.bytes as u64).saturating_sub(waiting);
    }

    /// Hands over what was queued.
    pub(crate) fn flush(&mut self) {
        if self.frames > 0 {
            self.frames = 0;
            self.line.push(self.run.split().freeze());
        }
    }

    /// No more messages come.
    pub(crate) fn close(&mut self) {
        self.flush();
        self.line.close();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.close();
    }
}

/// Runs of messages on their way to the subscriber: each holds whole frames, one behind the other.
#[derive(Debug, Default)]
struct Line(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    runs: VecDeque<Bytes>,
    /// The subscriber, if it waits.
    waker: Option<Waker>,
    closed: bool,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, run: Bytes) {
        let mut waiting = self.lock();
        waiting.runs.push_back(run);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

/// What the subscriber has taken out of the line: messages are cut from it on the subscriber's thread.
#[derive(Debug, Default)]
struct Taken {
    run: Bytes,
    runs: VecDeque<Bytes>,
}

impl Taken {
    /// The next message of what was taken.
    fn pop(&mut self) -> Option<Message> {
        while self.run.is_empty() {
            self.run = self.runs.pop_front()?;
        }
        let message = Message::cut(&mut self.run);
        if message.is_none() {
            // The core hands out whole frames only.
            self.run.clear();
        }
        message
    }

    /// Takes all that waits in `line`; false if nothing does.
    fn refill(&mut self, line: &Line) -> bool {
        std::mem::swap(&mut self.runs, &mut line.lock().runs);
        !self.runs.is_empty()
    }
}

/// The emptying side.
pub(crate) struct Outlet {
    line: Arc<Line>,
    taken: Taken,
    counters: Arc<Counters>,
}

impl Outlet {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(message) = self.taken.pop() {
                return Poll::Ready(Some(message));
            }
            let mut waiting = self.line.lock();
            if waiting.runs.is_empty() {
                if waiting.closed {
                    return Poll::Ready(None);
                }
                waiting.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            std::mem::swap(&mut self.taken.runs, &mut waiting.runs);
        }
    }

    /// The same, and what comes out has been dealt with.
    pub(crate) fn take_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.poll_next(cx);
        if let Poll::Ready(Some(message)) = &next {
            add(&self.counters.processed, 1);
            add(&self.counters.taken, message.len());
        }
        next
    }

    fn stats(&self) -> SubscriptionStats {
        // Read in this order, the difference is not negative.
        let processed = self.counters.processed.load(Relaxed);
        let dropped = self.counters.dropped.load(Relaxed);
        let received = self.counters.received.load(Relaxed);
        let queued = received.saturating_sub(processed + dropped) as usize;
        SubscriptionStats { received, processed, dropped, queued, active: !self.line.is_closed() }
    }
}

/// Only one at a time writes a counter, so this needs no read-modify-write.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}

/// A stream of messages. Dropping it ends the subscription.
///
/// Its queue has a fixed capacity in messages and in bytes (see [`Subscribe::capacity`](crate::Subscribe::capacity) and
/// [`Subscribe::max_bytes`](crate::Subscribe::max_bytes)); when it is full, new messages are dropped and counted, and
/// reported as [`Event::Dropped`]. The stream ends when the client is closed.
pub struct Subscription {
    id: SubscriptionId,
    pattern: Name,
    outlet: Outlet,
    handle: Arc<Handle>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("pattern", &self.pattern).field("stats", &self.stats()).finish()
    }
}

impl Subscription {
    pub(crate) fn new(id: SubscriptionId, pattern: Name, outlet: Outlet, handle: Arc<Handle>) -> Self {
        Self { id, pattern, outlet, handle }
    }

    /// The next message; `None` once the client is closed. Cancel-safe: dropping the future loses no message.
    pub async fn next(&mut self) -> Option<Message> {
        StreamExt::next(self).await
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Statistics.
    pub fn stats(&self) -> SubscriptionStats {
        self.outlet.stats()
    }

    /// Ends the subscription; the same as dropping it.
    pub fn unsubscribe(self) {}

    /// Calls `handle` with each message, one after the other.
    pub(crate) fn into_callback<F: FnMut(Message) + Send + 'static>(mut self, mut handle: F) -> CallbackSubscription {
        let counters = Arc::clone(&self.outlet.counters);
        let pattern = Arc::clone(&self.pattern);
        let task = smol::spawn(async move {
            while let Some(first) = poll_fn(|cx| self.outlet.poll_next(cx)).await {
                // A callback may block. On the thread of the runner it would hold up every client.
                let mut calls = Calls {
                    line: Arc::clone(&self.outlet.line),
                    taken: std::mem::take(&mut self.outlet.taken),
                    counters: Arc::clone(&self.outlet.counters),
                    pattern: Arc::clone(&self.pattern),
                    shared: Arc::clone(&self.handle.0),
                };
                handle = smol::unblock(move || {
                    calls.run(first, &mut handle);
                    handle
                })
                .await;
            }
        });
        CallbackSubscription { pattern, counters, task }
    }
}

/// What calls need that may go on for a moment after their subscription has ended.
struct Calls {
    line: Arc<Line>,
    taken: Taken,
    counters: Arc<Counters>,
    pattern: Name,
    shared: Arc<Shared>,
}

impl Calls {
    /// Calls `handle` with `first` and with all that waits.
    fn run(&mut self, first: Message, handle: &mut impl FnMut(Message)) {
        let mut next = Some(first);
        while let Some(message) = next.filter(|_| !self.counters.left.load(Relaxed)) {
            let begun = Instant::now();
            let len = message.len();
            handle(message);
            let took = begun.elapsed();
            add(&self.counters.processed, 1);
            add(&self.counters.taken, len);
            if took > SLOW {
                self.shared.events.announce(Event::SlowHandler { pattern: Arc::clone(&self.pattern), took });
            }
            next = self.taken.pop().or_else(|| self.taken.refill(&self.line).then(|| self.taken.pop()).flatten());
        }
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.outlet.take_next(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let shared = &self.handle.0;
        let mut state = shared.lock();
        let queue = state.queues.remove(&self.id);
        let now = shared.now();
        state.core.unsubscribe(now, self.id);
        state.nudge();
        // Wakes whoever waits on the queue, which is better done without the lock.
        drop(state);
        drop(queue);
    }
}

/// A subscription with a callback. Dropping it ends the subscription, after the current call.
pub struct CallbackSubscription {
    pattern: Name,
    counters: Arc<Counters>,
    /// Dropping the task ends it, and with it the subscription.
    task: smol::Task<()>,
}

impl CallbackSubscription {
    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Statistics. The message of the current call counts as queued.
    pub fn stats(&self) -> SubscriptionStats {
        // Read in this order, the differences are not negative.
        let processed = self.counters.processed.load(Relaxed);
        let dropped = self.counters.dropped.load(Relaxed);
        let received = self.counters.received.load(Relaxed);
        let queued = received.saturating_sub(processed + dropped) as usize;
        SubscriptionStats { received, processed, dropped, queued, active: !self.task.is_finished() }
    }

    /// Ends the subscription; the same as dropping it.
    pub fn unsubscribe(self) {}
}

impl Drop for CallbackSubscription {
    fn drop(&mut self) {
        self.counters.left.store(true, Relaxed);
    }
}

impl fmt::Debug for CallbackSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSubscription").field("pattern", &self.pattern).field("stats", &self.stats()).finish()
    }
}
