//! The handle of a client.

use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::raw::RawMutex;
#[cfg(feature = "ttl")]
use kcpq_core::Duration;
#[cfg(any(feature = "confirm", feature = "lanes"))]
use kcpq_core::client::LendError;
#[cfg(feature = "will")]
use kcpq_core::client::Will;
#[cfg(feature = "lanes")]
use kcpq_core::client::{LaneMemory, Subscribing};
use kcpq_core::client::{PublishError, State};
#[cfg(any(feature = "headers", feature = "retain"))]
use kcpq_core::frame::Properties;

#[cfg(feature = "confirm")]
use crate::confirm::ConfirmMemory;
use crate::shared::Shared;
use crate::{Closed, Event, Publish, Stats, SubscribeError, Subscription};

/// A handle of a client. It is `Copy`, and all handles of a client are equal. Nothing happens unless the
/// [`Runner`](crate::Runner) runs.
///
/// All futures are cancel-safe; each says what that means.
///
/// # Panics
/// Every method panics if it is called from the closure given to [`Subscription::next`], which runs under the lock.
pub struct Client<'d, R: RawMutex, const TEXT: usize = 64> {
    shared: &'d Shared<'d, R, TEXT>,
}

impl<R: RawMutex, const TEXT: usize> Clone for Client<'_, R, TEXT> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: RawMutex, const TEXT: usize> Copy for Client<'_, R, TEXT> {}

impl<R: RawMutex, const TEXT: usize> fmt::Debug for Client<'_, R, TEXT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<R: RawMutex, const TEXT: usize> defmt::Format for Client<'_, R, TEXT> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Client");
    }
}

impl<'d, R: RawMutex, const TEXT: usize> Client<'d, R, TEXT> {
    #[cfg(feature = "sealed")]
    pub(crate) fn shared(&self) -> &'d Shared<'d, R, TEXT> {
        self.shared
    }

    pub(crate) fn new(shared: &'d Shared<'d, R, TEXT>) -> Self {
        Self { shared }
    }

    /// Lends memory for lanes, once and before the [`Runner`](crate::Runner) runs for the first time. Without it there is only
    /// lane 0, and the server is told so.
    ///
    /// # Errors
    /// [`LendError`]: there are no lanes then.
    #[cfg(feature = "lanes")]
    pub fn lend_lanes<const LANES: usize, const BYTES: usize, const WINDOW: usize>(
        &self,
        memory: &'d mut LaneMemory<LANES, BYTES, WINDOW>,
    ) -> Result<(), LendError> {
        self.shared.with(|inner| inner.core.lend_lanes(memory))
    }

    /// Lends memory for messages that are published [confirmed](Publish::confirmed) or [stored](Publish::stored), once: without it,
    /// and when as many wait for the server's word as it is for, there is none of these.
    ///
    /// # Errors
    /// [`LendError::Late`]: there is such memory.
    #[cfg(feature = "confirm")]
    pub fn lend_confirms<const MESSAGES: usize>(
        &self,
        memory: &'d mut ConfirmMemory<MESSAGES>,
    ) -> Result<(), LendError> {
        self.shared.with(|inner| {
            let (core, expected) = memory.parts();
            inner.core.lend_confirms(core)?;
            inner.expected = expected;
            Ok(())
        })
    }

    // --- publish ---

    /// Publishes a message; ready when it is queued, which is at once unless the queue is full. While disconnected it
    /// stays in the queue.
    ///
    /// Cancel-safe: if dropped before it is ready, nothing was queued.
    ///
    /// # Errors
    /// [`PublishError`], but never `Full`. Nothing was queued then.
    pub fn publish<'p>(&self, subject: &'p str, payload: &'p [u8]) -> Publish<'p, 'd, R, TEXT> {
        Publish::new(self.shared, subject, payload)
    }

    /// As [`publish`](Self::publish), for a message that is worth nothing after `ttl`, counted from the first poll: one that
    /// still waits in a queue then is dropped and counted (`expired` in [`Stats::client`]), here and, by a native server, in
    /// its queue for each subscriber. One that has begun to be sent is sent completely.
    ///
    /// # Errors
    /// As [`publish`](Self::publish). That a message was dropped later is no error.
    #[cfg(feature = "ttl")]
    pub async fn publish_for(&self, subject: &str, payload: &[u8], ttl: Duration) -> Result<(), PublishError> {
        let mut expires = None;
        poll_fn(|cx| {
            self.shared.with(|inner| {
                let now = inner.now();
                let left = expires.get_or_insert(now + ttl).since(now);
                let taken = inner.core.publish_for(now, subject, payload, left);
                inner.poll_taken(cx, taken)
            })
        })
        .await
    }

    /// As [`publish`](Self::publish), for the last value of a subject: the server keeps it, and whoever subscribes
    /// later gets it first. One without payload takes the value away.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); [`PublishError::Unsupported`] if the server is known to keep none, as an original
    /// one.
    #[cfg(feature = "retain")]
    pub async fn publish_retained(&self, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        poll_fn(|cx| {
            self.shared.with(|inner| {
                let now = inner.now();
                let taken = inner.core.publish_with(now, subject, payload, Properties::RETAIN, None);
                inner.poll_taken(cx, taken)
            })
        })
        .await
    }

    /// As [`publish`](Self::publish), with properties: headers, and where answers are to go. Who answers a message takes
    /// [`Message::properties`](crate::Message::properties)`().reply()` from it and publishes there.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); [`PublishError::Properties`] if the subject for answers is none.
    #[cfg(feature = "headers")]
    pub async fn publish_with(
        &self,
        subject: &str,
        payload: &[u8],
        properties: Properties<'_>,
    ) -> Result<(), PublishError> {
        poll_fn(|cx| {
            self.shared.with(|inner| {
                let now = inner.now();
                let taken = inner.core.publish_with(now, subject, payload, properties, None);
                inner.poll_taken(cx, taken)
            })
        })
        .await
    }

    /// Publishes a message if there is room for it now.
    ///
    /// # Errors
    /// [`PublishError`]. Nothing was queued then.
    pub fn try_publish(&self, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        self.publish(subject, payload).try_now()
    }

    /// As [`publish_retained`](Self::publish_retained) if there is room for the message now.
    ///
    /// # Errors
    /// As there, and [`PublishError::Full`]. Nothing was queued then.
    #[cfg(feature = "retain")]
    pub fn try_publish_retained(&self, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.publish_with(now, subject, payload, Properties::RETAIN, None)?;
            inner.nudge();
            Ok(())
        })
    }

    /// As [`publish_with`](Self::publish_with) if there is room for the message now.
    ///
    /// # Errors
    /// As there, and [`PublishError::Full`]. Nothing was queued then.
    #[cfg(feature = "headers")]
    pub fn try_publish_with(
        &self,
        subject: &str,
        payload: &[u8],
        properties: Properties<'_>,
    ) -> Result<(), PublishError> {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.publish_with(now, subject, payload, properties, None)?;
            inner.nudge();
            Ok(())
        })
    }

    /// As [`publish_for`](Self::publish_for) if there is room for the message now.
    ///
    /// # Errors
    /// [`PublishError`]. Nothing was queued then.
    #[cfg(feature = "ttl")]
    pub fn try_publish_for(&self, subject: &str, payload: &[u8], ttl: Duration) -> Result<(), PublishError> {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.publish_for(now, subject, payload, ttl)?;
            inner.nudge();
            Ok(())
        })
    }

    /// Leaves a last will with the server, in place of an earlier one, now and in each later session: it is published if the
    /// session ends and this client has not [closed](Self::close) it. What it says is lent for good; 230 bytes at most,
    /// subject included. [`Event::WillRefused`](crate::Event::WillRefused) says that the server has none.
    ///
    /// # Errors
    /// [`PublishError`]: invalid subject, too large for the server, closed. Nothing has changed then.
    #[cfg(feature = "will")]
    pub fn set_will(&self, will: Will<'static>) -> Result<(), PublishError> {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.set_will(now, will)?;
            inner.nudge();
            Ok(())
        })
    }

    /// Takes the last will back, if there is one.
    #[cfg(feature = "will")]
    pub fn clear_will(&self) {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.clear_will(now);
            inner.nudge();
        });
    }

    /// Waits until the server has handled everything published before, across a reconnect if necessary. Messages in
    /// flight when a connection was lost are counted in [`Stats`] (`dropped_in_doubt`).
    ///
    /// The server's answer arrives behind earlier messages for this client: they have to be read meanwhile.
    ///
    /// Cancel-safe: dropping it undoes nothing.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn flush(&self) -> Result<(), Closed> {
        let wanted = self.shared.with(|inner| {
            let now = inner.now();
            let wanted = inner.core.flush(now);
            inner.nudge();
            wanted
        });
        poll_fn(|cx| {
            self.shared.with(|inner| {
                if inner.flushed >= wanted {
                    return Poll::Ready(Ok(()));
                }
                if inner.closed {
                    return Poll::Ready(Err(Closed));
                }
                inner.on_change(cx);
                Poll::Pending
            })
        })
        .await
    }

    // --- subscribe ---

    /// Subscribes to `pattern`; ready when the server has acknowledged the subscription.
    ///
    /// The acknowledgement arrives behind earlier messages for other subscriptions of this client: another task has to
    /// read these, or they are skipped after [`Config::patience`](crate::Config::patience). A task that reads several
    /// subscriptions itself makes all of them with [`subscribe_later`](Self::subscribe_later).
    ///
    /// Cancel-safe: if dropped before it is ready, the subscription is cancelled.
    ///
    /// # Errors
    /// [`SubscribeError`]: there is no subscription then.
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let subscription = self.subscribe_later(pattern)?;
        subscription.acknowledged().await?;
        Ok(subscription)
    }

    /// Subscribes to `pattern` without waiting for the server; [`Subscription::acknowledged`] waits.
    ///
    /// # Errors
    /// [`SubscribeError::Invalid`]: there is no subscription then.
    pub fn subscribe_later(&self, pattern: &str) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        self.add(pattern, false)
    }

    /// As [`subscribe`](Self::subscribe), for state that supersedes itself: of the messages of one subject that wait for
    /// this client at the server, only the newest is kept, in the place of the older one. A message that another
    /// subscription of this client matches too, one that wants every message, is not superseded; and an original server
    /// delivers every message.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_latest(&self, pattern: &str) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let subscription = self.subscribe_latest_later(pattern)?;
        subscription.acknowledged().await?;
        Ok(subscription)
    }

    /// As [`subscribe_latest`](Self::subscribe_latest) without waiting for the server; [`Subscription::acknowledged`]
    /// waits.
    ///
    /// # Errors
    /// [`SubscribeError::Invalid`]: there is no subscription then.
    pub fn subscribe_latest_later(&self, pattern: &str) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        self.add(pattern, true)
    }

    /// As [`subscribe`](Self::subscribe), as a member of a queue group: each message goes to one of all the members of this
    /// name, of all clients, whose patterns it matches. Pattern and name have to fit `TEXT` together, and a space. A server that
    /// does not know queue groups, such as an original one, fails it.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    #[cfg(feature = "queue")]
    pub async fn subscribe_queue(
        &self,
        pattern: &str,
        group: &str,
    ) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let subscription = self.subscribe_queue_later(pattern, group)?;
        subscription.acknowledged().await?;
        Ok(subscription)
    }

    /// As [`subscribe_queue`](Self::subscribe_queue) without waiting for the server; [`Subscription::acknowledged`] waits.
    ///
    /// # Errors
    /// [`SubscribeError::Invalid`]: there is no subscription then.
    #[cfg(feature = "queue")]
    pub fn subscribe_queue_later(
        &self,
        pattern: &str,
        group: &str,
    ) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let asked = self.shared.with(|inner| inner.add_with(|core, now| core.subscribe_queue(now, pattern, group)));
        let (id, slot) = asked.map_err(SubscribeError::Invalid)?;
        Ok(Subscription::new(self.shared, id, slot))
    }

    /// As [`subscribe`](Self::subscribe), with all that can be wanted of a subscription, as the [lane](crate::Lane) in which its messages
    /// are to come. Without one they come in lane 0.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    #[cfg(feature = "lanes")]
    pub async fn subscribe_as(
        &self,
        pattern: &str,
        wanted: &Subscribing<'_>,
    ) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let subscription = self.subscribe_as_later(pattern, wanted)?;
        subscription.acknowledged().await?;
        Ok(subscription)
    }

    /// As [`subscribe_as`](Self::subscribe_as) without waiting for the server; [`Subscription::acknowledged`] waits.
    ///
    /// # Errors
    /// [`SubscribeError::Invalid`]: there is no subscription then.
    #[cfg(feature = "lanes")]
    pub fn subscribe_as_later(
        &self,
        pattern: &str,
        wanted: &Subscribing<'_>,
    ) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let asked = self.shared.with(|inner| inner.add_with(|core, now| core.subscribe_as(now, pattern, wanted)));
        let (id, slot) = asked.map_err(SubscribeError::Invalid)?;
        Ok(Subscription::new(self.shared, id, slot))
    }

    fn add(&self, pattern: &str, latest: bool) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let (id, slot) = self.shared.with(|inner| inner.add(pattern, latest)).map_err(SubscribeError::Invalid)?;
        Ok(Subscription::new(self.shared, id, slot))
    }

    // --- state ---

    /// Waits until connected; ready at once if it is.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn connected(&self) -> Result<(), Closed> {
        poll_fn(|cx| {
            self.shared.with(|inner| {
                if inner.core.is_connected() {
                    return Poll::Ready(Ok(()));
                }
                if inner.closed {
                    return Poll::Ready(Err(Closed));
                }
                inner.on_change(cx);
                Poll::Pending
            })
        })
        .await
    }

    /// The state of the connection.
    pub fn state(&self) -> State {
        self.shared.with(|inner| inner.core.state())
    }

    /// Statistics.
    pub fn stats(&self) -> Stats {
        self.shared.with(|inner| Stats {
            client: inner.core.stats(),
            transport: *inner.core.transport(),
            unread: inner.unread,
            missed_events: inner.events.missed,
            send_errors: inner.send_errors,
            receive_errors: inner.receive_errors,
        })
    }

    /// The next event. Each is delivered once, so one task should read them. The last 3 are kept, older ones are
    /// dropped and counted. Reading events is optional.
    ///
    /// Cancel-safe: dropping the future loses no event.
    pub async fn next_event(&self) -> Event {
        poll_fn(|cx| {
            self.shared.with(|inner| match inner.next_event() {
                Some(event) => Poll::Ready(event),
                None => {
                    inner.on_change(cx);
                    Poll::Pending
                }
            })
        })
        .await
    }

    // --- sleep and end ---

    /// Stops the client's clock before the device sleeps: until [`resume`](Self::resume) nothing is sent, no timer
    /// runs, and the session counts as alive. To sleep with nothing in flight, [`flush`](Self::flush) first.
    pub fn suspend(&self) {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.suspend(now);
            inner.nudge();
        });
    }

    /// Continues after [`suspend`](Self::suspend). What is published next is sent at once: in the old session if the
    /// server can still have it (the silence was shorter than 7/8 of the server's keep-alive; 105 s by default),
    /// otherwise behind the HELLO of a new one, in the same flight.
    pub fn resume(&self) {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.resume(now);
            inner.deliver();
            inner.nudge();
        });
    }

    /// Closes the session for all handles and waits until it is closed: what is queued is still sent, then the server
    /// is told. The runner returns.
    ///
    /// If dropped early, closing goes on in the background.
    pub async fn close(&self) {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.close(now);
            inner.nudge();
        });
        poll_fn(|cx| {
            self.shared.with(|inner| {
                if inner.closed {
                    return Poll::Ready(());
                }
                inner.on_change(cx);
                Poll::Pending
            })
        })
        .await;
    }
}
