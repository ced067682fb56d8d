//! Subscriptions: a stream of messages, or a callback for each.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use futures_lite::{Stream, StreamExt};
use kcpq_core::client::SubscriptionId;

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
    /// Its user has gone: no more calls of a callback.
    left: AtomicBool,
}

/// What a subscription has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionStats {
    /// Messages that came for it.
    pub received: u64,
    /// Messages that were taken from its queue and, with a callback, dealt with.
    pub processed: u64,
    /// Messages dropped because its queue was full.
    pub dropped: u64,
    /// Messages that wait in its queue.
    pub queued: usize,
    /// It still receives.
    pub active: bool,
}

/// The filling side of a subscription's queue.
pub(crate) struct Queue {
    sender: Sender<Message>,
    capacity: usize,
    counters: Arc<Counters>,
    pattern: Name,
}

impl Queue {
    pub(crate) fn new(pattern: Name, capacity: usize) -> (Self, Outlet) {
        // Not `bounded`, which takes the memory of all its places at once.
        let (sender, receiver) = async_channel::unbounded();
        let counters = Arc::new(Counters::default());
        let outlet = Outlet { receiver: Box::pin(receiver), counters: Arc::clone(&counters) };
        (Self { sender, capacity: capacity.max(1), counters, pattern }, outlet)
    }

    pub(crate) fn pattern(&self) -> Name {
        Arc::clone(&self.pattern)
    }

    /// Queues a message; if there is no room it is dropped, counted and told.
    pub(crate) fn deliver(&self, message: Message, events: &Announcer) {
        self.counters.received.fetch_add(1, Relaxed);
        // Only the runner fills, so there is no other one to come in between.
        if self.sender.len() < self.capacity {
            // Whoever took the messages may have gone.
            let _ = self.sender.try_send(message);
        } else {
            let total = self.counters.dropped.fetch_add(1, Relaxed) + 1;
            // The first, then each power of two: a flood of losses must not become a flood of events.
            if total.is_power_of_two() {
                events.announce(Event::Dropped { pattern: self.pattern(), total });
            }
        }
    }

    /// No more messages come.
    pub(crate) fn close(&self) {
        self.sender.close();
    }
}

/// The emptying side.
pub(crate) struct Outlet {
    receiver: Pin<Box<Receiver<Message>>>,
    counters: Arc<Counters>,
}

impl Outlet {
    fn stats(&self) -> SubscriptionStats {
        SubscriptionStats {
            received: self.counters.received.load(Relaxed),
            processed: self.counters.processed.load(Relaxed),
            dropped: self.counters.dropped.load(Relaxed),
            queued: self.receiver.len(),
            active: !self.receiver.is_closed(),
        }
    }
}

/// A stream of messages. Dropping it ends the subscription.
///
/// Messages wait in a queue of the capacity that was asked for (see [`Subscribe::capacity`](crate::Subscribe::capacity));
/// when it is full the newest is dropped and counted, and an [`Event::Dropped`] says so. The stream ends when the client
/// has closed.
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

    /// The next message; `None` once the client has closed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        StreamExt::next(self).await
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The counters.
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
            while let Some(first) = self.outlet.receiver.next().await {
                // A callback may block. On the thread of the runner it would hold up every client.
                let calls = Calls {
                    receiver: Receiver::clone(&self.outlet.receiver),
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
    receiver: Receiver<Message>,
    counters: Arc<Counters>,
    pattern: Name,
    shared: Arc<Shared>,
}

impl Calls {
    /// Calls `handle` with `first` and with all that waits.
    fn run(&self, first: Message, handle: &mut impl FnMut(Message)) {
        let mut next = Some(first);
        while let Some(message) = next.filter(|_| !self.counters.left.load(Relaxed)) {
            let begun = Instant::now();
            handle(message);
            let took = begun.elapsed();
            self.counters.processed.fetch_add(1, Relaxed);
            if took > SLOW {
                self.shared.events.announce(Event::SlowHandler { pattern: Arc::clone(&self.pattern), took });
            }
            next = self.receiver.try_recv().ok();
        }
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.outlet.receiver.as_mut().poll_next(cx);
        if let Poll::Ready(Some(_)) = next {
            self.outlet.counters.processed.fetch_add(1, Relaxed);
        }
        next
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

/// A subscription whose messages go to a callback. Dropping it ends the subscription, after the call that is under way.
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

    /// The counters. What the callback is being called with counts as queued.
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
