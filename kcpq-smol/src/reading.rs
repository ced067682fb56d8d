//! What a subscription's reader waits for: the next message, and the end.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::{Stream, StreamExt};
use kcpq_core::client::SubscriptionId;

use crate::error::{FlushError, NextError};
use crate::message::Message;
use crate::operation::{BoxFuture, Limit, deadline};
use crate::shared::{Handle, State};
use crate::subscription::Subscription;

/// Waits for the next message, however long that takes: `None` once the subscription has ended.
/// [`within`](Self::within) gives it a time.
///
/// Cancel-safe: dropping it loses no message.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Next<'s> {
    subscription: &'s mut Subscription,
}

impl<'s> Next<'s> {
    pub(crate) fn new(subscription: &'s mut Subscription) -> Self {
        Self { subscription }
    }

    /// Waits no longer than this.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use kcpq_smol::NextError;
    ///
    /// # async fn example(mut sensors: kcpq_smol::Subscription) {
    /// match sensors.next().within(Duration::from_secs(10)).await {
    ///     Ok(message) => println!("{}", message.text()),
    ///     Err(NextError::TimedOut { after }) => println!("no news for {after:?}"),
    ///     Err(_) => println!("that was all"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// When awaited: [`NextError`].
    pub fn within(self, span: Duration) -> NextWithin<'s> {
        NextWithin { subscription: self.subscription, limit: Limit::new(span) }
    }

    /// Waits no longer than until then.
    ///
    /// # Errors
    /// When awaited: [`NextError`].
    pub fn until(self, moment: Instant) -> NextWithin<'s> {
        self.within(moment.saturating_duration_since(Instant::now()))
    }
}

impl Future for Next<'_> {
    type Output = Option<Message>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        Pin::new(&mut *self.subscription).poll_next(cx)
    }
}

/// Waits for the next message for a while. Ready with it, or with a [`NextError`].
///
/// Cancel-safe: dropping it loses no message.
#[derive(Debug)]
#[must_use = "operations do nothing unless awaited"]
pub struct NextWithin<'s> {
    subscription: &'s mut Subscription,
    limit: Limit,
}

impl<'s> IntoFuture for NextWithin<'s> {
    type Output = Result<Message, NextError>;
    type IntoFuture = BoxFuture<'s, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { subscription, limit } = self;
        Box::pin(async move {
            match limit.bound(StreamExt::next(subscription)).await {
                Some(Some(message)) => Ok(message),
                Some(None) => Err(NextError::Ended),
                None => Err(NextError::TimedOut { after: limit.span() }),
            }
        })
    }
}

/// Ends a subscription, and waits until the server knows that. Without a connection, or if that is lost meanwhile, there is
/// nothing to wait for.
///
/// Ended is ended: neither dropping this nor a timeout changes that.
#[must_use = "operations wait for nothing unless awaited"]
pub struct Unsubscribe {
    handle: Arc<Handle>,
    id: SubscriptionId,
    limit: Limit,
}

impl Unsubscribe {
    /// Waits for what has begun.
    pub(crate) fn new(handle: Arc<Handle>, id: SubscriptionId) -> Self {
        let limit = Limit::new(handle.0.timeout);
        Self { handle, id, limit }
    }

    deadline!();

    async fn run(self) -> Result<(), FlushError> {
        let Self { handle, id, limit } = self;
        let shared = &handle.0;
        let conversation = shared.lock().core.conversation();
        let gone = move |state: &State| !state.core.is_connected() || state.core.conversation() != conversation;
        // A PING that stands behind the UNSUB: not one that is under way already.
        let behind = |state: &mut State| {
            if gone(state) {
                return Some(false);
            }
            let told = !state.core.is_leaving(id) && state.core.heartbeat_outstanding().is_none();
            state.asks |= !told;
            told.then_some(true)
        };
        let timed_out = Err(FlushError::TimedOut { after: limit.span() });
        match limit.wait(shared, behind).await {
            Some(true) => {}
            Some(false) => return Ok(()),
            None => return timed_out,
        }
        {
            let mut state = shared.lock();
            state.core.ask(shared.now());
            state.asks = true;
            state.nudge();
        }
        let answered = |state: &mut State| (gone(state) || state.core.heartbeat_outstanding().is_none()).then_some(());
        limit.wait(shared, answered).await.map_or(timed_out, Ok)
    }
}

impl IntoFuture for Unsubscribe {
    type Output = Result<(), FlushError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
