//! The client's handle.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kcpq_core::client::State;
use kcpq_core::frame::Properties;
use kcpq_core::kcp;
use kcpq_core::lane::Lane;

use crate::address::Address;
use crate::builder::Builder;
use crate::connection::{ConnectionState, ServerInfo, Watch};
use crate::error::{ConnectError, PublishError};
use crate::events::Events;
use crate::operation::{Close, Drain, Flush, Ping, Publish, Subscribe};
use crate::queue::Capacity;
use crate::request::Request;
use crate::seal::SealedBy;
use crate::shared::{Handle, Shared};
use crate::will::Will;

/// A client of one server: a handle that is cheap to clone and usable from many tasks at once.
///
/// When the last handle is dropped, [`Subscription`](crate::Subscription)s included, the session is closed in the
/// background, as by [`close`](Self::close): what is queued is still sent. What could not be is told to
/// [`events`](Self::events) as [`Event::Lost`](crate::Event::Lost).
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
    capacity: Capacity,
}

/// What a client counts.
pub type Stats = kcpq_core::client::Stats<Instant, Duration>;

/// Measured times, in short.
pub type Latency = kcpq_core::client::Latency<Duration>;

/// A client's statistics at one moment.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// Messages, connections, latency.
    pub client: Stats,
    /// KCP segments.
    pub transport: kcp::Stats,
    /// Smoothed round-trip time (SRTT) of the transport, once known.
    pub round_trip: Option<Duration>,
    /// Round-trip time of the last heartbeat, once there was one.
    pub heartbeat: Option<Duration>,
    /// For how long the current heartbeat has been unanswered, if it is.
    pub heartbeat_outstanding: Option<Duration>,
    /// Time since the last datagram from the server.
    pub last_heard: Option<Duration>,
    /// Messages sent and received per second since the connection was made.
    pub rates: (f64, f64),
    /// Bytes of messages in the send queue.
    pub queued: usize,
    /// Maximum size of the datagrams sent to the present server, in bytes: what the path was found to carry.
    pub max_datagram: usize,
    /// Datagrams that the operating system refused to send.
    pub unsendable: u64,
}

impl Snapshot {
    /// Both together: see [`Pool::stats`](crate::Pool::stats).
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        self.client.add(&other.client);
        self.transport.add(&other.transport);
        Self {
            client: self.client,
            transport: self.transport,
            round_trip: self.round_trip.max(other.round_trip),
            heartbeat: self.heartbeat.max(other.heartbeat),
            heartbeat_outstanding: self.heartbeat_outstanding.max(other.heartbeat_outstanding),
            last_heard: self.last_heard.max(other.last_heard),
            rates: (self.rates.0 + other.rates.0, self.rates.1 + other.rates.1),
            queued: self.queued + other.queued,
            max_datagram: self.max_datagram.min(other.max_datagram),
            unsendable: self.unsendable + other.unsendable,
        }
    }
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, capacity: Capacity) -> Self {
        Self { handle: Arc::new(Handle(shared)), capacity }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.0
    }

    pub(crate) fn handle(&self) -> Arc<Handle> {
        Arc::clone(&self.handle)
    }

    pub(crate) fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Connects to the server at `addr` (text such as "host:port", or a `SocketAddr`: [`Address`]) with default options; ready when the server has
    /// answered.
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

    /// Publishes a message to `subject`; ready when it is queued. While disconnected it stays in the queue. If the
    /// future is dropped before it is ready, nothing was queued.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// client.publish("sensor.kitchen", "21.5").await?;
    /// client.publish("sensor.cellar", b"12.0").within(Duration::from_millis(200)).await?;
    /// client.publish("player.7.position", [4, 2]).ttl(Duration::from_millis(100)).await?;
    /// client.publish("orders.new", "3 apples").header("Trace-Id", "7f3a").await?;
    /// // Checked when the program is compiled.
    /// client.publish(&kcpq_smol::subject!("sensor.attic"), "3.5").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PublishError`]: invalid subject, message too large, queue full until the timeout, or client closed. Nothing
    /// was queued then.
    pub fn publish<'c, P: AsRef<[u8]>>(&'c self, subject: &'c str, payload: P) -> Publish<'c, P> {
        Publish::new(self, Some(subject), payload)
    }

    /// As [`publish`](Self::publish), for a payload that need not be copied: it is kept by reference until the server has it,
    /// if it is long (4 KiB at least) and has neither headers nor a time to live. `Vec<u8>` and `String` become
    /// [`Bytes`](crate::Bytes) as they are; `Bytes` may be published several times.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client, frame: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    /// client.publish_bytes("camera.1", frame).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_bytes<'c>(&'c self, subject: &'c str, payload: impl Into<Bytes>) -> Publish<'c, Bytes> {
        Publish::shared(self, subject, payload.into())
    }

    /// Asks for an answer: publishes a message, and is ready with what whoever is subscribed to `subject` answers by
    /// [`Message::respond`](crate::Message::respond). Any number may wait for answers at the same time, up to 65,536. All answers
    /// of a client come to one subscription, whose name others do not know.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let sum = client.request("sum", "1 2").within(Duration::from_millis(500)).await?;
    /// println!("{:?}", sum.payload());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError`](crate::RequestError): the message was refused, nobody is subscribed, or no answer came in time.
    pub fn request<'c, P: AsRef<[u8]>>(&'c self, subject: &'c str, payload: P) -> Request<'c, P> {
        Request::new(self, subject, payload)
    }

    /// Publishes without waiting.
    ///
    /// # Errors
    /// As [`publish`](Self::publish); a full queue is an error at once.
    pub fn try_publish(&self, subject: &str, payload: impl AsRef<[u8]>) -> Result<(), PublishError> {
        self.queue(Lane::NORMAL, subject, payload.as_ref(), Properties::NONE, None)
    }

    /// Queues a message in a lane; it is dropped if it is still in the queue after `ttl`.
    pub(crate) fn queue(
        &self,
        lane: Lane,
        subject: &str,
        payload: &[u8],
        properties: Properties<'_>,
        ttl: Option<Duration>,
    ) -> Result<(), PublishError> {
        let shared = self.shared();
        let is_plain = lane.is_main() && ttl.is_none() && properties.is_empty();
        if is_plain && shared.staging.publish(|stage| stage.publish(subject, payload)) {
            return Ok(());
        }
        let mut state = shared.lock();
        // Publishing reads no clock unless the message has a time: the client knows the time of the last thing that
        // happened, and the time of what is sent is taken when it is.
        let taken = match ttl {
            None => {
                let now = state.core.now();
                state.core.publish_in(now, lane, subject, payload, properties, None)
            }
            Some(ttl) => state.core.publish_in(shared.now(), lane, subject, payload, properties, Some(ttl.into())),
        };
        shared.published(&mut state, taken.is_ok());
        taken.map_err(PublishError::Refused)
    }

    /// Queues a message in a lane without copying it.
    pub(crate) fn queue_bytes(&self, lane: Lane, subject: &str, payload: &Bytes) -> Result<(), PublishError> {
        let shared = self.shared();
        if lane.is_main() && shared.staging.publish(|stage| stage.publish_bytes(subject, payload)) {
            return Ok(());
        }
        let mut state = shared.lock();
        let now = state.core.now();
        let taken = state.core.publish_bytes(now, lane, subject, payload);
        shared.published(&mut state, taken.is_ok());
        taken.map_err(PublishError::Refused)
    }

    /// Leaves a last will with the server, in place of an earlier one, now and in each later session: see [`Will`]. What is
    /// published from now on comes after it, so a [`flush`](Self::flush) shows that the server has it, unless
    /// [`Event::WillRefused`](crate::Event::WillRefused) says that it has not.
    ///
    /// # Errors
    /// [`PublishError`]: invalid subject, too large, or client closed. Nothing has changed then.
    pub fn set_will(&self, will: &Will) -> Result<(), PublishError> {
        let shared = self.shared();
        let mut state = shared.lock();
        let taken = state.core.set_will(shared.now(), will.as_core());
        state.nudge();
        taken.map_err(PublishError::Refused)
    }

    /// Takes the last will back, if there is one.
    pub fn clear_will(&self) {
        let shared = self.shared();
        let mut state = shared.lock();
        state.core.clear_will(shared.now());
        state.nudge();
    }

    /// Subscribes to `pattern`: `*` matches one token, `>` one or more at the end. Ready when the server has
    /// acknowledged the subscription; after a reconnect it is restored automatically. Dropping the future cancels it.
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
    /// [`SubscribeError`](crate::SubscribeError): invalid pattern, refused by the server, or not acknowledged in time.
    pub fn subscribe<'c>(&'c self, pattern: &str) -> Subscribe<'c> {
        Subscribe::new(self, pattern)
    }

    /// Waits until the server has handled everything published so far.
    ///
    /// # Errors
    /// [`FlushError`](crate::FlushError) if that is uncertain.
    pub fn flush(&self) -> Flush<'_> {
        Flush::new(self)
    }

    /// Asks the server for an answer, behind the messages that are under way to this client; ready with the time that took.
    ///
    /// # Errors
    /// [`PingError`](crate::PingError): there was none.
    pub fn ping(&self) -> Ping<'_> {
        Ping::new(self)
    }

    /// Ends all subscriptions, waits until the server has handled everything published, then closes.
    ///
    /// # Errors
    /// [`FlushError`](crate::FlushError) if it is uncertain whether everything was handled; the client is closed
    /// anyway.
    pub fn drain(&self) -> Drain<'_> {
        Drain::new(self)
    }

    /// Closes the session for all handles.
    ///
    /// # Errors
    /// [`CloseError`](crate::CloseError): messages were not delivered, and how many; or the timeout, after which closing goes
    /// on in the background.
    pub fn close(&self) -> Close<'_> {
        Close::new(self)
    }

    /// Events other than messages, from now on. For who [connects in the background](Builder::connect_in_background), or
    /// leaves a [will](Builder::will), the first listener hears them from the beginning.
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

    /// The server, as it was named.
    pub fn server(&self) -> &str {
        &self.shared().addr
    }

    /// By what it is known to the server, and the server to it; `None` if its sessions are not sealed.
    pub fn sealed_by(&self) -> Option<&SealedBy> {
        self.shared().sealed_by.as_ref()
    }

    /// What is known of the server; `None` without a connection.
    pub fn server_info(&self) -> Option<ServerInfo> {
        self.shared().server_info()
    }

    /// Where the connection stands now.
    pub fn state(&self) -> ConnectionState {
        self.shared().connection()
    }

    /// Where the connection stands, as it changes.
    pub fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.handle.0))
    }

    /// Gives up the present connection and makes another at once, or does not wait for the next attempt: for who knows that
    /// the network, or the best of several servers, is another one now. What is under way is in doubt, as after any loss
    /// ([`flush`](Self::flush) before avoids that); what waits in the queue is sent afterwards, and subscriptions are restored.
    pub fn force_reconnect(&self) {
        let shared = self.shared();
        let mut state = shared.lock();
        state.core.reconnect(shared.now());
        state.nudge();
    }

    /// True while connected to a server that speaks the native protocol.
    pub fn is_native(&self) -> bool {
        self.shared().lock().core.state() == State::Up { native: true }
    }

    /// True while connected.
    pub fn is_connected(&self) -> bool {
        self.shared().lock().core.is_connected()
    }

    /// Smoothed round-trip time (SRTT) of the transport, once measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.shared().lock().core.round_trip().0.map(Duration::from)
    }

    /// Statistics.
    pub fn stats(&self) -> Snapshot {
        let shared = self.shared();
        let state = shared.lock();
        let now = shared.now();
        let client = state.core.stats();
        let (round_trip, heartbeat) = state.core.round_trip();
        Snapshot {
            client: client.shown(|at| shared.clock.at(at), Duration::from),
            transport: *state.core.transport(),
            round_trip: round_trip.map(Duration::from),
            heartbeat: heartbeat.map(Duration::from),
            heartbeat_outstanding: state.core.heartbeat_outstanding().map(|at| now.since(at).into()),
            last_heard: state.core.last_heard().map(|at| now.since(at).into()),
            rates: client.rates(now),
            queued: state.core.queued(),
            max_datagram: state.core.max_datagram(),
            unsendable: state.unsendable,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.shared().addr).finish_non_exhaustive()
    }
}
