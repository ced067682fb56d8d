//! What happens to a client besides messages.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_broadcast::{InactiveReceiver, Receiver, Sender};
use futures_lite::Stream;
use kcpq_core::client::Disconnect;

use crate::subscription::Name;

/// Something happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A server answers.
    Connected {
        /// It speaks the native protocol.
        native: bool,
    },
    /// A server answers again; subscriptions are being made again.
    Reconnected {
        /// It speaks the native protocol.
        native: bool,
    },
    /// There is no connection.
    Disconnected {
        /// Why.
        why: Disconnect,
        /// When the next attempt begins; `None`: never.
        retry_in: Option<Duration>,
    },
    /// A subscription that had been acknowledged failed after a reconnect.
    SubscriptionLost {
        /// Its pattern.
        pattern: Name,
    },
    /// A subscription's queue was full and a message was dropped. Told at the first and then at each power of two, so that
    /// a flood of messages does not become a flood of events; [`SubscriptionStats`](crate::SubscriptionStats) counts all.
    Dropped {
        /// Its pattern.
        pattern: Name,
        /// Messages that it dropped, in all.
        total: u64,
    },
    /// A callback took long.
    SlowHandler {
        /// The pattern of its subscription.
        pattern: Name,
        /// How long.
        took: Duration,
    },
    /// A message was larger than what this client takes, and passed over.
    Oversize {
        /// Its size in bytes.
        actual: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// The server refused something.
    Refused {
        /// Its words.
        text: String,
    },
    /// The client has closed.
    Closed,
}

/// A stream of [`Event`]s. It holds the last 1,024; who is slower loses the oldest and can see how many.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    lost: u64,
}

/// Events that are kept for a slow listener.
const CAPACITY: usize = 1_024;

impl Events {
    /// Events that this listener was too slow for.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next event; `None` once the client has closed.
    pub async fn next(&mut self) -> Option<Event> {
        futures_lite::StreamExt::next(self).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            return match Pin::new(&mut self.receiver).poll_recv(cx) {
                Poll::Ready(Some(Ok(event))) => Poll::Ready(Some(event)),
                Poll::Ready(Some(Err(async_broadcast::RecvError::Overflowed(count)))) => {
                    self.lost += count;
                    continue;
                }
                Poll::Ready(Some(Err(async_broadcast::RecvError::Closed)) | None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            };
        }
    }
}

/// The sending side: never waits, and keeps nothing when nobody listens.
#[derive(Debug)]
pub(crate) struct Announcer {
    sender: Sender<Event>,
    inactive: InactiveReceiver<Event>,
}

impl Announcer {
    pub(crate) fn new() -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(CAPACITY);
        sender.set_overflow(true);
        sender.set_await_active(false);
        Self { sender, inactive: receiver.deactivate() }
    }

    pub(crate) fn announce(&self, event: Event) {
        // Without listeners nobody misses it.
        let _ = self.sender.try_broadcast(event);
    }

    pub(crate) fn listen(&self) -> Events {
        Events { receiver: self.inactive.activate_cloned(), lost: 0 }
    }

    pub(crate) fn close(&self) {
        self.sender.close();
    }
}
