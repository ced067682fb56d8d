//! Messages whose publisher is told where they are stored.

use std::fmt;
use std::future::IntoFuture;
use std::time::{Duration, Instant};

use kcpq_core::client::ConfirmFailure;
use kcpq_core::puback::Stored;

use crate::confirm::Confirm;
use crate::error::{StoreError, StoreFailure};
use crate::operation::BoxFuture;

/// Publishes a message; ready when a stream behind the server's backbone (JetStream) has stored it, with its number there. Made by
/// [`Publish::stored`](crate::Publish::stored).
///
/// Subscribers get the message as any other, and nobody else waits. If nobody knows whether it is stored, it can be published
/// again under the same [`id`](Self::id): as far back as the stream looks, two minutes unless it was told otherwise, it has each id
/// once. While disconnected it waits in the queue.
///
/// Cancel-safe: if dropped before it is ready, the server's word is not waited for any more; the message may have been
/// published, and stored.
#[must_use = "operations do nothing unless awaited"]
pub struct Store<'c, P> {
    pub(crate) confirm: Confirm<'c, P>,
    pub(crate) id: String,
}

impl<'c, P: AsRef<[u8]>> Store<'c, P> {
    /// Gives the message an id: text of at most 64 bytes without control characters. An empty one is none.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets the timeout, from now. The server tries for as long as the message lives ([`ttl`](crate::Publish::ttl)), or for a
    /// minute.
    pub fn within(self, span: Duration) -> Self {
        Self { confirm: self.confirm.within(span), ..self }
    }

    /// Sets the time at which the operation times out.
    pub fn until(self, moment: Instant) -> Self {
        Self { confirm: self.confirm.until(moment), ..self }
    }

    /// Adds a header, as [`Publish::header`](crate::Publish::header) does.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { confirm: self.confirm.header(name, value), ..self }
    }

    /// Adds headers, as [`Publish::headers`](crate::Publish::headers) does.
    pub fn headers<'h>(self, headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Self {
        Self { confirm: self.confirm.headers(headers), ..self }
    }

    async fn run(mut self) -> Result<Stored, StoreError> {
        let expected = self.confirm.publish(Some(&self.id)).await?;
        let outcome = expected.told(|state| &mut state.stores).await;
        let closed = StoreFailure::Unconfirmed(ConfirmFailure::Closed);
        outcome.unwrap_or(Err(closed)).map_err(StoreError::Failed)
    }
}

impl<'c, P: AsRef<[u8]> + Send + Sync + 'c> IntoFuture for Store<'c, P> {
    type Output = Result<Stored, StoreError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<P> fmt::Debug for Store<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { confirm, id } = self;
        f.debug_struct("Store").field("subject", &confirm.subject).field("id", id).finish_non_exhaustive()
    }
}
