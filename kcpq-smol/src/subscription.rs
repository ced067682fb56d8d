//! Subscriptions: a stream of messages, or a callback for each.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender, TrySendError};
use futures_lite::{Stream, StreamExt};
use kcpq_core::client::SubscriptionId;

use crate::events::{Announcer, Event};
use crate::message::Message;
use crate::shared::Handle;

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
    counters: Arc<Counters>,
    pattern: Name,
}

impl Queue {
    pub(crate) fn new(pattern: Name, capacity: usize) -> (Self, Outlet) {
        let (sender, receiver) = async_channel::bounded(capacity.max(1));
        let counters = Arc::new(Counters::default());
        let outlet = Outlet { receiver: Box::pin(receiver), counters: Arc::clone(&counters) };
        (Self { sender, counters, pattern }, outlet)
    }

    pub(crate) fn pattern(&self) -> Name {
        Arc::clone(&self.pattern)
    }

    /// Queues a message; if there is no room it is dropped, counted and told.
    pub(crate) fn deliver(&self, message: Message, events: &Announcer) {
        self.counters.received.fetch_add(1, Relaxed);
        if let Err(TrySendError::Full(_)) = self.sender.try_send(message) {
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

    /// Calls `handle` with each message, in a task of its own, one after the other. A call that takes more than 100 ms
    /// gives an [`Event::SlowHandler`]; meanwhile messages wait in the queue.
    pub(crate) fn into_callback(self, mut handle: impl FnMut(Message) + Send + 'static) -> CallbackSubscription {
        let counters = Arc::clone(&self.outlet.counters);
        let pattern = Arc::clone(&self.pattern);
        let mut stream = self;
        let task = smol::spawn(async move {
            while let Some(message) = Pin::new(&mut stream).take_message().await {
                let begun = Instant::now();
                handle(message);
                stream.outlet.counters.processed.fetch_add(1, Relaxed);
                let took = begun.elapsed();
                if took > SLOW {
                    let pattern = Arc::clone(&stream.pattern);
                    stream.handle.0.events.announce(Event::SlowHandler { pattern, took });
                }
            }
        });
        CallbackSubscription { pattern, counters, _task: task }
    }

    /// The next message, not yet counted as dealt with.
    async fn take_message(self: Pin<&mut Self>) -> Option<Message> {
        self.get_mut().outlet.receiver.next().await
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
        state.queues.remove(&self.id);
        let now = shared.now();
        state.core.unsubscribe(now, self.id);
        shared.nudge(&mut state);
    }
}

/// A subscription whose messages go to a callback. Dropping it ends the subscription, after the call that is under way.
pub struct CallbackSubscription {
    pattern: Name,
    counters: Arc<Counters>,
    /// Dropping the task ends it, and with it the subscription.
    _task: smol::Task<()>,
}

impl CallbackSubscription {
    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Messages that came, that the callback has dealt with, and that were dropped.
    pub fn stats(&self) -> SubscriptionStats {
        let received = self.counters.received.load(Relaxed);
        let processed = self.counters.processed.load(Relaxed);
        let dropped = self.counters.dropped.load(Relaxed);
        let queued = received.saturating_sub(processed + dropped) as usize;
        SubscriptionStats { received, processed, dropped, queued, active: !self._task.is_finished() }
    }
}

impl fmt::Debug for CallbackSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSubscription").field("pattern", &self.pattern).field("stats", &self.stats()).finish()
    }
}
