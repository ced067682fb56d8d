//! Subscriptions: a stream of messages, or a callback for each message.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::Stream;
use kcpq_core::client::SubscriptionId;

use crate::blocking::Iter;
use crate::events::Event;
use crate::message::{Message, Source};
use crate::queue::{Gauge, Name, Outlet, SubscriptionStats};
use crate::reading::{Next, Unsubscribe};
use crate::shared::{Handle, Shared};

/// A callback that takes longer is worth an event.
const SLOW: Duration = Duration::from_millis(100);

/// A stream of messages. Dropping it ends the subscription.
///
/// Its queue has a fixed capacity in messages and in bytes (see [`Subscribe::capacity`](crate::Subscribe::capacity) and
/// [`Subscribe::max_bytes`](crate::Subscribe::max_bytes)); when it is full, new messages are dropped and counted, and
/// reported as [`Event::Dropped`]; or the oldest are ([`Subscribe::drop_oldest`](crate::Subscribe::drop_oldest)), or those
/// that a newer one of their subject supersedes ([`Subscribe::latest`](crate::Subscribe::latest)). A message whose
/// [time to live](crate::Publish::ttl) is over while it waits is not read any more. The stream ends when the client is closed.
pub struct Subscription {
    id: SubscriptionId,
    pattern: Name,
    outlet: Outlet,
    handle: Arc<Handle>,
    /// Its further patterns: what comes for these is in its queue.
    further: Vec<Self>,
    /// After how many more messages it ends, if it is to.
    left: Option<u64>,
    /// By what its messages are acknowledged, if they are to be.
    source: Option<Arc<Source>>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("pattern", &self.pattern).field("stats", &self.stats()).finish()
    }
}

impl Subscription {
    pub(crate) fn new(
        id: SubscriptionId,
        pattern: Name,
        outlet: Outlet,
        handle: Arc<Handle>,
        is_durable: bool,
    ) -> Self {
        let source = is_durable.then(|| Arc::new(Source::new(id, Arc::clone(&handle.0))));
        Self { id, pattern, outlet, handle, further: Vec::new(), left: None, source }
    }

    /// Takes in another one: what comes for it waits in this one's queue from now on, unless it matches one of these patterns.
    pub(crate) fn join(&mut self, other: Self, before: Vec<Name>) {
        self.handle.0.lock().joined.insert(other.id, self.id, before);
        self.further.push(other);
    }

    /// Those of all its patterns.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SubscriptionId> {
        [self.id].into_iter().chain(self.further.iter().map(|further| further.id))
    }

    /// The next message; `None` once the subscription has ended, or the client is closed. Cancel-safe: dropping the future
    /// loses no message. [`Next::within`] gives it a time.
    #[expect(clippy::should_implement_trait, reason = "it is awaited, as with all streams")]
    pub fn next(&mut self) -> Next<'_> {
        Next::new(self)
    }

    /// The messages for a program without tasks: each is waited for on the calling thread ([`blocking`](crate::blocking)).
    pub fn iter(&mut self) -> Iter<'_> {
        Iter::new(self)
    }

    /// The next message if one waits already, for loops that have a rhythm of their own. `None` says that none does now, or
    /// that none comes any more: [`SubscriptionStats::active`] tells which.
    ///
    /// ```no_run
    /// # fn example(positions: &mut kcpq_smol::Subscription) {
    /// // Once for each frame that is drawn:
    /// while let Some(position) = positions.try_next() {
    ///     println!("{}: {:?}", position.subject(), position.payload());
    /// }
    /// # }
    /// ```
    pub fn try_next(&mut self) -> Option<Message> {
        if self.left == Some(0) {
            return None;
        }
        let mut message = self.outlet.take_now()?;
        self.on_read(&mut message);
        Some(message)
    }

    /// A message was read, which can be acknowledged, if it is to be; and there may be room for more. The last one that is
    /// wanted ends the subscription.
    fn on_read(&mut self, message: &mut Message) {
        message.set_source(self.source.as_ref());
        if self.outlet.resumes() {
            self.handle.0.go_on();
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                self.leave();
            }
        }
    }

    /// No more messages come.
    fn leave(&self) {
        let shared = &self.handle.0;
        let mut state = shared.lock();
        let queue = state.queues.remove(&self.id);
        state.joined.remove(self.id);
        let now = shared.now();
        state.core.unsubscribe(now, self.id);
        state.nudge();
        let was_stopped = queue.as_ref().is_some_and(|subscribed| subscribed.queue.is_stopped());
        // Wakes whoever waits on the queue, which is better done without the lock.
        drop(state);
        drop(queue);
        if was_stopped {
            shared.go_on();
        }
        self.further.iter().for_each(Self::leave);
    }

    /// The pattern, the first one if it has several.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Statistics.
    pub fn stats(&self) -> SubscriptionStats {
        self.outlet.gauge().stats(!self.outlet.is_closed())
    }

    /// Ends the stream after so many messages more have been read; the last of them ends the subscription.
    pub fn unsubscribe_after(&mut self, messages: u64) {
        self.left = Some(messages);
        if messages == 0 {
            self.leave();
        }
    }

    /// Ends the subscription at once, as dropping it does; ready when the server knows that.
    ///
    /// # Errors
    /// [`FlushError`](crate::FlushError) if it did not say so in time.
    pub fn unsubscribe(self) -> Unsubscribe {
        let (handle, id) = (Arc::clone(&self.handle), self.id);
        drop(self);
        Unsubscribe::new(handle, id)
    }

    /// Ends the subscription, but not what it has received: that can still be read, then the stream ends. Ready when the
    /// server knows that no more is wanted. Messages that are on their way by then are not received any more.
    ///
    /// # Errors
    /// [`FlushError`](crate::FlushError) if it did not say so in time.
    pub fn drain(&mut self) -> Unsubscribe {
        self.leave();
        Unsubscribe::new(Arc::clone(&self.handle), self.id)
    }

    /// Calls `handle` with each message, one after the other.
    pub(crate) fn into_callback<F: FnMut(Message) + Send + 'static>(mut self, mut handle: F) -> CallbackSubscription {
        let (gauge, pattern) = (self.outlet.gauge().clone(), Arc::clone(&self.pattern));
        let left = Arc::new(AtomicBool::new(false));
        let user_left = Arc::clone(&left);
        let task = smol::spawn(async move {
            while let Some(first) = poll_fn(|cx| self.outlet.poll_next(cx)).await {
                // A callback may block. On the thread of the runner it would hold up every client.
                let mut calls = Calls {
                    outlet: self.outlet.hand_over(),
                    pattern: Arc::clone(&self.pattern),
                    shared: Arc::clone(&self.handle.0),
                    left: Arc::clone(&left),
                    source: self.source.clone(),
                };
                handle = smol::unblock(move || {
                    calls.run(first, &mut handle);
                    handle
                })
                .await;
            }
        });
        CallbackSubscription { pattern, gauge, left: user_left, task }
    }
}

/// What calls need that may go on for a moment after their subscription has ended.
struct Calls {
    outlet: Outlet,
    pattern: Name,
    shared: Arc<Shared>,
    left: Arc<AtomicBool>,
    source: Option<Arc<Source>>,
}

impl Calls {
    /// Calls `handle` with `first` and with all that waits.
    fn run(&mut self, first: Message, handle: &mut impl FnMut(Message)) {
        let mut next = Some(first);
        while let Some(mut message) = next.filter(|_| !self.left.load(Relaxed)) {
            let begun = Instant::now();
            let len = message.len();
            message.set_source(self.source.as_ref());
            handle(message);
            let took = begun.elapsed();
            self.outlet.gauge().done(len);
            if self.outlet.resumes() {
                self.shared.go_on();
            }
            if took > SLOW {
                self.shared.events.announce(Event::SlowHandler { pattern: Arc::clone(&self.pattern), took });
            }
            next = self.outlet.next_now();
        }
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let mut next = self.outlet.take_next(cx);
        if let Poll::Ready(Some(message)) = &mut next {
            self.on_read(message);
        }
        next
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A subscription with a callback. Dropping it ends the subscription, after the current call.
pub struct CallbackSubscription {
    pattern: Name,
    gauge: Gauge,
    /// Its user has gone: no more calls.
    left: Arc<AtomicBool>,
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
        self.gauge.stats(!self.task.is_finished())
    }

    /// Ends the subscription; the same as dropping it.
    pub fn unsubscribe(self) {}
}

impl Drop for CallbackSubscription {
    fn drop(&mut self) {
        self.left.store(true, Relaxed);
    }
}

impl fmt::Debug for CallbackSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSubscription").field("pattern", &self.pattern).field("stats", &self.stats()).finish()
    }
}
