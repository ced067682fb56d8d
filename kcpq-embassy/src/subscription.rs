//! The reading end of a subscription.

use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use embassy_sync::blocking_mutex::raw::RawMutex;
use kcpq_core::client::{Message, SubscriptionId};

use crate::Ended;
use crate::shared::Shared;

/// A subscription. Dropping it ends it; the server is told when the runner next runs.
#[must_use = "dropped, a subscription is ended"]
pub struct Subscription<'d, R: RawMutex, const TEXT: usize = 64> {
    shared: &'d Shared<'d, R, TEXT>,
    id: SubscriptionId,
    slot: usize,
}

impl<R: RawMutex, const TEXT: usize> fmt::Debug for Subscription<'_, R, TEXT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.id).finish()
    }
}

#[cfg(feature = "defmt")]
impl<R: RawMutex, const TEXT: usize> defmt::Format for Subscription<'_, R, TEXT> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Subscription({})", self.id.0);
    }
}

impl<'d, R: RawMutex, const TEXT: usize> Subscription<'d, R, TEXT> {
    pub(crate) fn new(shared: &'d Shared<'d, R, TEXT>, id: SubscriptionId, slot: usize) -> Self {
        Self { shared, id, slot }
    }

    /// Its identifier in events.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Waits until the server has acknowledged it for the first time.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn acknowledged(&self) -> Result<(), Ended> {
        poll_fn(|cx| self.shared.with(|inner| inner.poll_acknowledged(self.slot, cx))).await
    }

    /// Waits for the next message and passes it to `read`, borrowed from the receive window. Returns what `read`
    /// returns.
    ///
    /// Cancel-safe: `read` runs in the same poll that makes the future ready, so dropping it loses no message.
    ///
    /// `read` runs under the client's lock: keep it short, and do not use the client in it (see
    /// [`Client`](crate::Client)). To reply to a message, return from `read` what the reply needs, and publish
    /// afterwards.
    ///
    /// # Errors
    /// [`Ended`]: there will be no more messages.
    pub fn next<T>(&mut self, read: impl FnOnce(&Message<&[u8]>) -> T) -> impl Future<Output = Result<T, Ended>> {
        let mut read = Some(read);
        poll_fn(move |cx| {
            self.shared.with(|inner| {
                let shown = inner.poll_message(self.slot, self.id, cx, |message| read.take().map(|read| read(message)));
                match shown {
                    Poll::Ready(Ok(Some(result))) => Poll::Ready(Ok(result)),
                    Poll::Ready(Err(ended)) => Poll::Ready(Err(ended)),
                    // `read` is there until the future is ready, and a ready future is not polled again.
                    Poll::Ready(Ok(None)) | Poll::Pending => Poll::Pending,
                }
            })
        })
    }

    /// Ends the subscription, as dropping it does.
    pub fn unsubscribe(self) {}
}

impl<R: RawMutex, const TEXT: usize> Drop for Subscription<'_, R, TEXT> {
    fn drop(&mut self) {
        self.shared.leave(self.slot);
    }
}
