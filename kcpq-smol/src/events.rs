//! Events of a client, other than messages.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_broadcast::{InactiveReceiver, Receiver, Sender};
use futures_lite::Stream;
use kcpq_core::client::{Disconnect, SubscribeFailure};

use crate::queue::Name;

/// An event of a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Connected.
    Connected {
        /// It speaks the native protocol.
        native: bool,
    },
    /// Connected again; subscriptions are being restored.
    Reconnected {
        /// It speaks the native protocol.
        native: bool,
    },
    /// The connection was lost.
    Disconnected {
        /// Why.
        why: Disconnect,
        /// When the next attempt begins; `None`: there is none.
        retry_in: Option<Duration>,
    },
    /// The names of all servers are unknown, or no name server answers; connecting goes on when one is found. Only of a
    /// client that [connects in the background](crate::Builder::connect_in_background).
    Unresolved {
        /// The operating system's error.
        why: Arc<io::Error>,
        /// When they are looked up again.
        retry_in: Duration,
    },
    /// Messages were in flight when a connection was lost: they may have arrived or not, and are not sent again. They are
    /// the last ones that had left the queue; whoever keeps what was published can publish them again. Told when the
    /// next attempt to connect begins.
    InDoubt {
        /// How many.
        messages: u64,
    },
    /// Messages were queued before the server said that it takes none so large, and were dropped.
    TooLarge {
        /// How many.
        messages: u64,
        /// The largest message that the server takes, as [`client::Client::largest_message`] counts.
        ///
        /// [`client::Client::largest_message`]: kcpq_core::client::Client::largest_message
        limit: usize,
    },
    /// The client was closed while messages were in the send queue or in flight. [`Closed`](Self::Closed) comes next.
    Lost {
        /// How many.
        messages: u64,
    },
    /// A subscription that had been acknowledged failed after a reconnect.
    SubscriptionLost {
        /// Its pattern.
        pattern: Name,
        /// Why.
        why: SubscribeFailure,
    },
    /// A subscription's queue was full, or that of a request's answers, and a message was dropped. Reported for the first and
    /// then whenever the total reaches a power of two, so that a flood of messages does not become a flood of events;
    /// [`SubscriptionStats`](crate::SubscriptionStats) counts all, and those that were superseded or stale besides.
    Dropped {
        /// Its pattern; the subject of a request.
        pattern: Name,
        /// Total number of messages dropped by it.
        total: u64,
    },
    /// A callback took more than 100 ms.
    SlowHandler {
        /// The pattern of its subscription.
        pattern: Name,
        /// How long.
        took: Duration,
    },
    /// A message larger than this client accepts was skipped.
    Oversize {
        /// Its size in bytes.
        actual: usize,
        /// The maximum that is accepted.
        limit: usize,
    },
    /// This client may not publish to a subject: messages to it are dropped by the server. Told once in a while for each
    /// subject.
    Denied {
        /// The subject.
        subject: Name,
    },
    /// The server has not taken the last will ([`Will`](crate::Will)), and so has none.
    WillRefused {
        /// Why, for people.
        why: String,
    },
    /// The server refused something.
    Refused {
        /// The server's text.
        text: String,
    },
    /// The client is closed.
    Closed,
}

/// A stream of [`Event`]s. It buffers the last 1,024; a slower reader loses the oldest ones, and
/// [`lost`](Self::lost) counts them.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    lost: u64,
}

/// Events that are kept for a slow listener.
const CAPACITY: usize = 1_024;

impl Events {
    /// Number of events lost because this stream was not read in time.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The next event; `None` once the client is closed.
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
pub(crate) struct Announcer(Mutex<Channel>);

#[derive(Debug)]
enum Channel {
    /// Nobody has listened so far, and most clients' events nobody ever does: there is no memory for them.
    Unheard,
    Open(Open),
    Closed,
}

#[derive(Debug)]
struct Open {
    sender: Sender<Event>,
    inactive: InactiveReceiver<Event>,
    /// Who listens from the beginning, until somebody asks to.
    first: Option<Receiver<Event>>,
}

impl Open {
    fn new() -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(CAPACITY);
        sender.set_overflow(true);
        sender.set_await_active(false);
        Self { sender, inactive: receiver.deactivate(), first: None }
    }
}

impl Announcer {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Channel::Unheard))
    }

    /// The same, where the first listener hears what was told before it listened.
    pub(crate) fn from_the_beginning() -> Self {
        let open = Open::new();
        let first = Some(open.inactive.activate_cloned());
        Self(Mutex::new(Channel::Open(Open { first, ..open })))
    }

    fn lock(&self) -> MutexGuard<'_, Channel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn announce(&self, event: Event) {
        if let Channel::Open(Open { sender, .. }) = &*self.lock() {
            // Without listeners nobody misses it.
            let _ = sender.try_broadcast(event);
        }
    }

    pub(crate) fn listen(&self) -> Events {
        let mut channel = self.lock();
        if matches!(*channel, Channel::Unheard) {
            *channel = Channel::Open(Open::new());
        }
        let receiver = match &mut *channel {
            Channel::Open(Open { inactive, first, .. }) => first.take().unwrap_or_else(|| inactive.activate_cloned()),
            // There is nothing more to hear: its sender is gone.
            Channel::Unheard | Channel::Closed => async_broadcast::broadcast(1).1,
        };
        Events { receiver, lost: 0 }
    }

    pub(crate) fn close(&self) {
        match &mut *self.lock() {
            // Who listens hears what was told before.
            Channel::Open(Open { sender, .. }) => _ = sender.close(),
            channel => *channel = Channel::Closed,
        }
    }
}
