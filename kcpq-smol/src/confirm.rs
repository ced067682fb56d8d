//! Messages whose publisher is told what became of them.

use std::collections::HashMap;
use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use kcpq_core::client::{self, ConfirmFailure, ConfirmId};
use kcpq_core::frame::PropertyError;
use kcpq_core::frame::properties::PropertiesBuf;
use kcpq_core::lane::Lane;

use crate::client::Client;
use crate::error::{ConfirmError, PublishError};
use crate::operation::{BoxFuture, Limit, Marks, deadline, headers};
use crate::shared::{Handle, State};

/// Publishes a message; ready when the server has said to how many sessions it has given it. Made by
/// [`Publish::confirmed`](crate::Publish::confirmed).
///
/// Nothing is sent twice: if the connection is lost while the message is on its way, that is an error, and it may have
/// arrived. While disconnected it waits in the queue.
///
/// Cancel-safe: if dropped before it is ready, the server's word is not waited for any more; the message may have been
/// published.
#[must_use = "operations do nothing unless awaited"]
pub struct Confirm<'c, P> {
    pub(crate) client: &'c Client,
    /// `None`: the message that is answered asks for no answer.
    pub(crate) subject: Option<&'c str>,
    pub(crate) payload: P,
    pub(crate) properties: Result<PropertiesBuf, PropertyError>,
    pub(crate) marks: Marks,
    /// When the message expires.
    pub(crate) expires: Option<Instant>,
    pub(crate) lane: Lane,
    pub(crate) limit: Limit,
}

impl<'c, P: AsRef<[u8]>> Confirm<'c, P> {
    deadline!();

    headers!();

    async fn run(mut self) -> Result<u32, ConfirmError> {
        let expected = self.publish(None).await?;
        let outcome = expected.told(|state| &mut state.confirms).await;
        outcome.unwrap_or(Err(ConfirmFailure::Closed)).map_err(ConfirmError::Failed)
    }

    /// Publishes the message as soon as there is room for it, to be stored under this id if so.
    pub(crate) async fn publish(&mut self, store: Option<&str>) -> Result<Awaited, Unasked> {
        self.marks.add_to(&mut self.properties);
        let shared = self.client.shared();
        let subject = self.subject.ok_or(Unasked::Unpublished(PublishError::NoReply))?;
        let refused = |error| Unasked::Unpublished(PublishError::Refused(error));
        let properties = self.properties.as_ref().map_err(|error| refused(client::PublishError::Properties(*error)))?;
        let mut room = None;
        loop {
            let published = {
                let mut state = shared.lock();
                let mut confirmed = client::Confirmed::default();
                confirmed.properties = properties.properties();
                confirmed.ttl = self.expires.map(|at| at.saturating_duration_since(Instant::now()).into());
                confirmed.within = self.limit.left().into();
                confirmed.lane = self.lane;
                let (now, payload) = (shared.now(), self.payload.as_ref());
                let published = match store {
                    None => state.core.publish_confirmed(now, subject, payload, &confirmed),
                    Some(id) => state.core.publish_stored(now, subject, payload, id, &confirmed),
                };
                match (published, store) {
                    (Ok(id), None) => drop(state.confirms.insert(id, Expected::Waiting(None))),
                    (Ok(id), Some(_)) => drop(state.stores.insert(id, Expected::Waiting(None))),
                    (Err(_), _) => {}
                }
                shared.published(&mut state, published.is_ok());
                published
            };
            match published {
                Ok(id) => return Ok(Awaited { id, handle: self.client.handle(), done: false }),
                Err(client::ConfirmError::Refused(client::PublishError::Full)) => {
                    // Only who has to wait pays for a listener. Then it tries once more, so that no room is missed between.
                    let Some(room) = room.take() else {
                        room = Some(shared.writable.listen());
                        continue;
                    };
                    if self.limit.bound(room).await.is_none() {
                        let after = self.limit.span();
                        return Err(Unasked::Unpublished(PublishError::TimedOut { after }));
                    }
                }
                Err(client::ConfirmError::Refused(error)) => return Err(refused(error)),
                Err(error) => return Err(Unasked::Refused(error)),
            }
        }
    }
}

impl<'c, P: AsRef<[u8]> + Send + Sync + 'c> IntoFuture for Confirm<'c, P> {
    type Output = Result<u32, ConfirmError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<P> fmt::Debug for Confirm<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Why nothing was published.
pub(crate) enum Unasked {
    Unpublished(PublishError),
    Refused(client::ConfirmError),
}

impl From<Unasked> for ConfirmError {
    fn from(why: Unasked) -> Self {
        match why {
            Unasked::Unpublished(error) => Self::Unpublished(error),
            Unasked::Refused(client::ConfirmError::TooMany) => Self::TooMany,
            Unasked::Refused(_) => Self::Unsupported,
        }
    }
}

/// A message, as the runner sees it.
pub(crate) enum Expected<T> {
    /// The server has not said what became of it.
    Waiting(Option<Waker>),
    Told(T),
}

/// Messages of which the server is to say what became.
pub(crate) type AllExpected<T> = HashMap<ConfirmId, Expected<T>>;

impl<T> Expected<T> {
    /// It is known what became of it. Says whom to wake.
    pub(crate) fn tell(&mut self, outcome: T) -> Option<Waker> {
        match std::mem::replace(self, Self::Told(outcome)) {
            Self::Waiting(waiter) => waiter,
            Self::Told(_) => None,
        }
    }
}

/// Somebody waits for what becomes of a message.
pub(crate) struct Awaited {
    id: ConfirmId,
    handle: Arc<Handle>,
    done: bool,
}

impl Awaited {
    /// What became of it, once that is known; it is one of `these`. `None` if the client is gone before.
    pub(crate) async fn told<T>(mut self, these: impl Fn(&mut State) -> &mut AllExpected<T>) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.handle.0.lock();
            let these = these(&mut state);
            if let Some(Expected::Waiting(waiter)) = these.get_mut(&self.id) {
                *waiter = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let outcome = match these.remove(&self.id) {
                Some(Expected::Told(outcome)) => Some(outcome),
                Some(Expected::Waiting(_)) | None => None,
            };
            self.done = true;
            Poll::Ready(outcome)
        })
        .await
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        // Its number may be another message's by now.
        if !self.done {
            let mut state = self.handle.0.lock();
            state.core.forget_confirmation(self.id);
            state.confirms.remove(&self.id);
            state.stores.remove(&self.id);
        }
    }
}
