//! The handle of a client.

use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::raw::RawMutex;
use kcpq_core::client::{PublishError, State};

use crate::shared::Shared;
use crate::{Closed, Event, Stats, SubscribeError, Subscription};

/// A handle of a client: `Copy`, and as good as any other of the same client. Nothing happens unless the
/// [`Runner`](crate::Runner) runs.
///
/// All futures are cancel-safe; each says what that means.
///
/// # Panics
/// All methods, when called in a closure that was given to [`Subscription::next`]: it holds the lock.
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
    pub(crate) fn new(shared: &'d Shared<'d, R, TEXT>) -> Self {
        Self { shared }
    }

    // --- publish ---

    /// Publishes a message: ready when it is queued, which is at once unless the queue is full. Without a connection it
    /// waits in the queue.
    ///
    /// Dropped before it is ready, nothing was queued.
    ///
    /// # Errors
    /// [`PublishError`], but never `Full`: nothing was queued.
    pub async fn publish(&self, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        poll_fn(|cx| {
            self.shared.with(|inner| {
                let now = inner.now();
                match inner.core.publish(now, subject, payload) {
                    Err(PublishError::Full) => {
                        inner.on_room(cx);
                        Poll::Pending
                    }
                    done => {
                        inner.nudge();
                        Poll::Ready(done)
                    }
                }
            })
        })
        .await
    }

    /// Publishes a message if there is room for it now.
    ///
    /// # Errors
    /// [`PublishError`]: nothing was queued.
    pub fn try_publish(&self, subject: &str, payload: &[u8]) -> Result<(), PublishError> {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.publish(now, subject, payload)?;
            inner.nudge();
            Ok(())
        })
    }

    /// Waits until the server has handled everything published before, through a reconnect if need be. Messages that
    /// were under way as a connection was lost are counted in [`Stats`] (`dropped_in_doubt`).
    ///
    /// The server's answer comes behind messages to this client: they have to be read.
    ///
    /// Dropped early, nothing is undone.
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

    /// Subscribes to `pattern`: ready when the server has acknowledged it.
    ///
    /// The acknowledgement comes behind messages for other subscriptions of this client: another task has to read them, or
    /// they are passed over after the patience. A task that reads several subscriptions itself makes all of them with
    /// [`subscribe_later`](Self::subscribe_later).
    ///
    /// Dropped before it is ready, the subscription is taken back.
    ///
    /// # Errors
    /// [`SubscribeError`]: there is no subscription.
    pub async fn subscribe(&self, pattern: &str) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let subscription = self.subscribe_later(pattern)?;
        subscription.acknowledged().await?;
        Ok(subscription)
    }

    /// Subscribes to `pattern` without waiting for the server; [`Subscription::acknowledged`] does.
    ///
    /// # Errors
    /// [`SubscribeError::Invalid`]: there is no subscription.
    pub fn subscribe_later(&self, pattern: &str) -> Result<Subscription<'d, R, TEXT>, SubscribeError> {
        let (id, slot) = self.shared.with(|inner| inner.add(pattern)).map_err(SubscribeError::Invalid)?;
        Ok(Subscription::new(self.shared, id, slot))
    }

    // --- state ---

    /// Waits until a server answers; ready at once while one does.
    ///
    /// Dropped early, nothing is lost.
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

    /// Where the client stands.
    pub fn state(&self) -> State {
        self.shared.with(|inner| inner.core.state())
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.shared.with(|inner| Stats {
            client: inner.core.stats(),
            transport: *inner.core.transport(),
            unread: inner.unread,
            missed_events: inner.missed_events,
            send_errors: inner.send_errors,
            receive_errors: inner.receive_errors,
        })
    }

    /// The next event. Each is given once, so one task should read them; the last 3 wait, older ones are counted as
    /// missed. Nobody has to read them.
    ///
    /// Dropped early, no event is lost.
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

    /// Stops the client's clock before the device sleeps: nothing is sent, no timer runs, the session is thought alive.
    /// [`flush`](Self::flush) before, to sleep with nothing under way.
    pub fn suspend(&self) {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.suspend(now);
            inner.nudge();
        });
    }

    /// Goes on after [`suspend`](Self::suspend). What is published next goes out at once: in the session as it was, if the
    /// server can still have it (by default, after less than 105 s), else behind the HELLO of a new one in the same flight.
    pub fn resume(&self) {
        self.shared.with(|inner| {
            let now = inner.now();
            inner.core.resume(now);
            inner.deliver();
            inner.nudge();
        });
    }

    /// Ends the session and waits for that: what is queued still goes out, and the server is told. The runner returns, and
    /// all handles are of no more use.
    ///
    /// Dropped early, closing goes on by itself.
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
