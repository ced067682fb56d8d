//! The handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kcpq_core::Instant;
use kcpq_core::client::Stats;
use kcpq_core::kcp;

use crate::address::Address;
use crate::builder::Builder;
use crate::error::{ConnectError, PublishError};
use crate::events::Events;
use crate::operation::{Close, Drain, Flush, Publish, Subscribe};
use crate::shared::{Handle, Shared};

/// A client of one server: a handle that is cheap to clone and usable from many tasks at once.
///
/// When the last handle is dropped, [`Subscription`](crate::Subscription)s included, the session is closed: what is
/// queued still goes out, within the linger time.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
    capacity: usize,
}

/// A client's counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Messages, connections, latencies.
    pub client: Stats,
    /// Segments.
    pub transport: kcp::Stats,
    /// The transport's smoothed round-trip time, once known.
    pub round_trip: Option<Duration>,
    /// The round trip of the last heartbeat, once there was one.
    pub heartbeat: Option<Duration>,
    /// Since when the present heartbeat is unanswered, if it is.
    pub heartbeat_outstanding: Option<Duration>,
    /// How long ago the server was last heard.
    pub last_heard: Option<Duration>,
    /// Messages sent per second, and received, since the connection was made.
    pub rates: (f64, f64),
    /// Bytes of messages that wait.
    pub queued: usize,
    /// Datagrams that the system refused to send.
    pub unsendable: u64,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, capacity: usize) -> Self {
        Self { handle: Arc::new(Handle(shared)), capacity }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.0
    }

    pub(crate) fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Connects to the server at `addr` ("host:port", or a `SocketAddr`) with the defaults; ready when it has answered.
    ///
    /// # Errors
    /// [`ConnectError`], for instance when no server answers within five seconds.
    pub async fn connect(addr: impl Into<Address>) -> Result<Self, ConnectError> {
        Self::builder().connect(addr).await
    }

    /// Options to connect with.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Publishes a message to `subject`: ready when it is queued. Without a connection it waits in the queue until there
    /// is one. Dropped before it is ready, nothing was queued.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// client.publish("sensor.kitchen", "21.5").await?;
    /// client.publish("sensor.cellar", b"12.0").within(Duration::from_millis(200)).await?;
    /// client.publish("player.7.position", [4, 2]).ttl(Duration::from_millis(100)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PublishError`] for a subject that is not valid, a message that is too large, a queue that stays full, or a
    /// closed client. Nothing was queued then.
    pub fn publish<'c, P: AsRef<[u8]>>(&'c self, subject: &'c str, payload: P) -> Publish<'c, P> {
        Publish::new(self, subject, payload)
    }

    /// As [`publish`](Self::publish), without waiting.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); a full queue is told at once.
    pub fn try_publish(&self, subject: &str, payload: impl AsRef<[u8]>) -> Result<(), PublishError> {
        self.queue(subject, payload.as_ref(), None)
    }

    /// Queues a message; if it still waits after `ttl`, it is dropped.
    pub(crate) fn queue(&self, subject: &str, payload: &[u8], ttl: Option<Duration>) -> Result<(), PublishError> {
        let shared = self.shared();
        let mut state = shared.lock();
        // Publishing reads no clock unless the message has a time: the client knows the time of the last thing that
        // happened, and the time of what is sent is taken when it is.
        let taken = match ttl {
            None => state.core.publish(Instant::ZERO, subject, payload),
            Some(ttl) => state.core.publish_for(shared.now(), subject, payload, ttl.into()),
        };
        shared.published(&mut state);
        taken.map_err(PublishError::Refused)
    }

    /// Subscribes to `pattern`: `*` stands for one token, `>` for all that follow. Ready when the server has
    /// acknowledged it; after a reconnect it is made again by itself. Dropped before it is ready, it is taken back.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut sensors = client.subscribe("sensor.*").capacity(1_000).await?;
    /// while let Some(message) = sensors.next().await {
    ///     println!("{}: {} bytes", message.subject(), message.payload().len());
    /// }
    /// let _printed = client.subscribe("log.>").for_each(|message| println!("{message:?}")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SubscribeError`](crate::SubscribeError) for a pattern that is not valid, or that the server refuses or does not
    /// acknowledge.
    pub fn subscribe<'c>(&'c self, pattern: &str) -> Subscribe<'c> {
        Subscribe::new(self, pattern)
    }

    /// Waits until the server has handled everything published before.
    ///
    /// # Errors
    /// [`FlushError`](crate::FlushError) when that is not known.
    pub fn flush(&self) -> Flush<'_> {
        Flush::new(self)
    }

    /// Ends all subscriptions, waits until what was published is handled, then closes.
    ///
    /// # Errors
    /// [`FlushError`](crate::FlushError) when it is not known whether everything was handled; the client is closed all
    /// the same.
    pub fn drain(&self) -> Drain<'_> {
        Drain::new(self)
    }

    /// Closes the session for all handles.
    ///
    /// # Errors
    /// [`CloseError`](crate::CloseError) when it takes too long; it then ends by itself.
    pub fn close(&self) -> Close<'_> {
        Close::new(self)
    }

    /// What happens besides messages, from now on.
    ///
    /// ```no_run
    /// use kcpq_smol::Event;
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut events = client.events();
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         Event::Disconnected { why, .. } => eprintln!("connection lost: {why}"),
    ///         Event::Reconnected { .. } => eprintln!("back again"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        self.shared().events.listen()
    }

    /// True while a server answers.
    pub fn is_connected(&self) -> bool {
        self.shared().lock().core.is_connected()
    }

    /// The transport's smoothed round-trip time, once one was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared().lock().core.round_trip().0.map(Duration::from)
    }

    /// The counters.
    pub fn stats(&self) -> Snapshot {
        let shared = self.shared();
        let state = shared.lock();
        let now = shared.now();
        let client = state.core.stats();
        let (round_trip, heartbeat) = state.core.round_trip();
        Snapshot {
            client,
            transport: *state.core.transport(),
            round_trip: round_trip.map(Duration::from),
            heartbeat: heartbeat.map(Duration::from),
            heartbeat_outstanding: state.core.heartbeat_outstanding().map(|at| now.since(at).into()),
            last_heard: state.core.last_heard().map(|at| now.since(at).into()),
            rates: client.rates(now),
            queued: state.core.queued(),
            unsendable: state.unsendable,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.shared().addr).finish_non_exhaustive()
    }
}
