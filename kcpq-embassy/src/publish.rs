//! A message that is about to be queued.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use embassy_sync::blocking_mutex::raw::RawMutex;
#[cfg(feature = "confirm")]
use kcpq_core::Duration;
#[cfg(feature = "confirm")]
use kcpq_core::client::Confirmed;
use kcpq_core::client::PublishError;
#[cfg(feature = "lanes")]
use kcpq_core::frame::Properties;
#[cfg(feature = "lanes")]
use kcpq_core::lane::Lane;

#[cfg(feature = "confirm")]
use crate::confirm::{Confirm, Store};
use crate::shared::{Inner, Shared};

/// A message to be published; see [`Client::publish`](crate::Client::publish). It is a future.
#[must_use = "nothing is published until it is awaited"]
pub struct Publish<'p, 'd, R: RawMutex, const TEXT: usize = 64> {
    pub(crate) shared: &'d Shared<'d, R, TEXT>,
    pub(crate) subject: &'p str,
    pub(crate) payload: &'p [u8],
    #[cfg(feature = "lanes")]
    lane: Lane,
    #[cfg(feature = "lanes")]
    properties: Properties<'static>,
}

impl<R: RawMutex, const TEXT: usize> fmt::Debug for Publish<'_, '_, R, TEXT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl<'p, 'd, R: RawMutex, const TEXT: usize> Publish<'p, 'd, R, TEXT> {
    pub(crate) fn new(shared: &'d Shared<'d, R, TEXT>, subject: &'p str, payload: &'p [u8]) -> Self {
        Self {
            shared,
            subject,
            payload,
            #[cfg(feature = "lanes")]
            lane: Lane::NORMAL,
            #[cfg(feature = "lanes")]
            properties: Properties::NONE,
        }
    }

    /// Publishes it in a lane: it waits for no message of another lane, neither here nor in the network nor at the server, which
    /// gives it to subscribers in the same lane unless they have asked for another one. What is in an urgent lane goes before all
    /// else, and what is in a bulk lane behind all else. Messages stay in their order in each lane, and between lanes in none.
    ///
    /// Other lanes than 0 have the memory that was lent for them ([`Client::lend_lanes`](crate::Client::lend_lanes)); without it,
    /// and when it is in use by as many other lanes, the message is refused with [`PublishError::Lane`]. To a server that knows
    /// no lanes all go in one stream.
    #[cfg(feature = "lanes")]
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Only the latest message of its subject counts: what waits, here or at the server, gives way to it; and in another
    /// [lane](Self::lane) than 0 what got lost is not sent again once there is a newer one.
    #[cfg(feature = "lanes")]
    pub fn latest(mut self) -> Self {
        self.properties = Properties::LATEST;
        self
    }

    /// Waits until the server has routed it: awaited, it gives the number of sessions that the server has given the message to. How
    /// many are waited for at a time is what [memory](crate::Client::lend_confirms) was lent for.
    #[cfg(feature = "confirm")]
    pub fn confirmed(self) -> Confirm<'p, 'd, R, TEXT> {
        Confirm::new(self)
    }

    /// Waits until a stream behind the server's backbone (JetStream) has stored it: awaited, it gives the message's number there. It
    /// takes a server with such a backbone, and [memory](crate::Client::lend_confirms).
    #[cfg(feature = "confirm")]
    pub fn stored(self) -> Store<'p, 'd, R, TEXT> {
        Store::new(self)
    }

    /// How it is published if it is waited for the server's word, for so long.
    #[cfg(feature = "confirm")]
    pub(crate) fn confirmed_with(&self, within: Duration) -> Confirmed<'static> {
        let mut confirmed = Confirmed::default();
        confirmed.within = within;
        #[cfg(feature = "lanes")]
        {
            (confirmed.lane, confirmed.properties) = (self.lane, self.properties);
        }
        confirmed
    }

    /// Publishes it if there is room for it now.
    ///
    /// # Errors
    /// [`PublishError`]. Nothing was queued then.
    pub fn try_now(&self) -> Result<(), PublishError> {
        self.shared.with(|inner| {
            self.push(inner)?;
            inner.nudge();
            Ok(())
        })
    }

    fn push(&self, inner: &mut Inner<'d, TEXT>) -> Result<(), PublishError> {
        let now = inner.now();
        #[cfg(feature = "lanes")]
        return inner.core.publish_in(now, self.lane, self.subject, self.payload, self.properties, None);
        #[cfg(not(feature = "lanes"))]
        inner.core.publish(now, self.subject, self.payload)
    }
}

impl<R: RawMutex, const TEXT: usize> Future for Publish<'_, '_, R, TEXT> {
    type Output = Result<(), PublishError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.with(|inner| {
            let taken = self.push(inner);
            inner.poll_taken(cx, taken)
        })
    }
}
