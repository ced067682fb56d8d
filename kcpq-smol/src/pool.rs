//! Several sessions to one server, for publishers that outgrow one.

use std::fmt;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::Boxed;

use crate::address::Address;
use crate::builder::Builder;
use crate::client::{Client, Snapshot};
use crate::error::{CloseError, ConnectError, FlushError, PublishError};
use crate::operation::{BoxFuture, Close, Drain, Flush, Publish, Subscribe};
use crate::request::Request;

/// Several sessions to one server, used as one [`Client`]: for who publishes more than the window of one session, or the thread of
/// one client ([`Builder::own_thread`]), carries. Made by [`Builder::pool`], cheap to clone.
///
/// Each subject has its session, always the same: **messages of one subject stay in their order, and messages of different
/// subjects may overtake each other**. Subscriptions are all of the first session, so that a message which several of them match
/// comes once. The sessions connect and reconnect each by itself: while one is away the subjects of the others go on, and its own
/// wait in its queue. What was under way in it is in doubt, as after any loss, and counted ([`stats`](Self::stats)).
///
/// ```
/// # // A server in this process.
/// # use std::net::UdpSocket;
/// # use kcpq_smol::kcpq_core::{Instant, broker};
/// # fn serve() -> std::io::Result<std::net::SocketAddr> {
/// #     let (socket, mut buffer) = (UdpSocket::bind("127.0.0.1:0")?, vec![0; 65_535]);
/// #     let (addr, epoch) = (socket.local_addr()?, std::time::Instant::now());
/// #     let now = move || Instant::from_micros(epoch.elapsed().as_micros() as u64);
/// #     let mut server = broker::Broker::new(broker::Config::default(), 1);
/// #     std::thread::spawn(move || loop {
/// #         let span = server.poll_timeout().map_or(20_000, |due| due.at.since(now()).as_micros().clamp(1, 20_000));
/// #         socket.set_read_timeout(Some(std::time::Duration::from_micros(span))).unwrap();
/// #         if let Ok((len, from)) = socket.recv_from(&mut buffer) {
/// #             server.handle_datagram(now(), from, &mut buffer[..len]);
/// #         }
/// #         server.handle_timeout(now());
/// #         while let Some(transmit) = server.poll_transmit(now(), &mut buffer) {
/// #             for datagram in buffer[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len)) {
/// #                 let _ = socket.send_to(datagram, transmit.to);
/// #             }
/// #         }
/// #     });
/// #     Ok(addr)
/// # }
/// use kcpq_smol::Client;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let addr = serve()?;
/// smol::block_on(async {
///     let pool = Client::builder().name("feed").pool(4).connect(addr).await?;
///     let mut quotes = pool.subscribe("quote.*").await?;
///     for price in 0..100 {
///         pool.publish("quote.abc", format!("{price}")).await?;
///         pool.publish("quote.xyz", format!("{}", 1_000 - price)).await?;
///     }
///     let mut next = 0;
///     while next < 100 {
///         let quote = quotes.next().await.ok_or("the pool was closed")?;
///         if quote.subject() == "quote.abc" {
///             assert_eq!(quote.text(), next.to_string());
///             next += 1;
///         }
///     }
///     pool.flush().await?;
///     assert_eq!(pool.stats().client.messages_sent, 200);
///     pool.close().await?;
///     Ok(())
/// })
/// # }
/// ```
///
/// What is not here is had of a session: [`for_subject`](Self::for_subject), [`sessions`](Self::sessions).
#[derive(Clone)]
pub struct Pool {
    /// One at least.
    sessions: Arc<[Client]>,
}

/// Options of a [`Pool`]: those of its clients, and how many sessions it has. See [`Builder::pool`].
#[derive(Clone, Debug)]
#[must_use = "a pool has to be connected"]
pub struct PoolBuilder {
    builder: Builder,
    sessions: usize,
}

impl PoolBuilder {
    pub(crate) fn new(builder: Builder, sessions: usize) -> Self {
        Self { builder, sessions: sessions.max(1) }
    }

    /// The options of each session. The first one alone leaves a will, or each of them would publish it.
    fn builders(&self) -> impl Iterator<Item = Builder> {
        let others = std::iter::repeat_n(self.builder.clone().without_will(), self.sessions - 1);
        std::iter::once(self.builder.clone()).chain(others)
    }

    /// Connects all sessions, as [`Builder::connect`] does; ready when the server has answered to each of them.
    ///
    /// # Errors
    /// [`ConnectError`] of the first session that cannot be made. The others are closed then.
    pub async fn connect(self, addr: impl Into<Address>) -> Result<Pool, ConnectError> {
        let addr = addr.into();
        let connecting = self.builders().map(|builder| {
            let addr = addr.clone();
            let connecting: Boxed<_> = Box::pin(builder.connect(addr));
            connecting
        });
        let sessions = join(connecting.collect()).await.into_iter().collect::<Result<_, _>>()?;
        Ok(Pool { sessions })
    }

    /// A pool at once, whose sessions connect in the background, as [`Builder::connect_in_background`] does.
    ///
    /// # Errors
    /// As there.
    pub fn connect_in_background(self, addr: impl Into<Address>) -> Result<Pool, ConnectError> {
        let addr = addr.into();
        let sessions = self.builders().map(|builder| builder.connect_in_background(addr.clone()));
        Ok(Pool { sessions: sessions.collect::<Result<_, _>>()? })
    }
}

impl Pool {
    /// The session in which messages to `subject` go: a client like any other. What is published by it stands in the order of
    /// what the pool publishes to that subject. A [question](crate::Message::respond) may be answered by any session.
    pub fn for_subject(&self, subject: &str) -> &Client {
        if let [session] = &*self.sessions {
            return session;
        }
        let mut hasher = DefaultHasher::new();
        subject.hash(&mut hasher);
        let index = hasher.finish() % self.sessions.len() as u64;
        &self.sessions[index as usize]
    }

    /// All sessions, for instance to hear the [`events`](Client::events) of each. The first has the subscriptions, and the
    /// [will](Builder::will).
    pub fn sessions(&self) -> &[Client] {
        &self.sessions
    }

    /// As [`Client::publish`], in the session of the subject.
    ///
    /// # Errors
    /// As there.
    pub fn publish<'p, P: AsRef<[u8]>>(&'p self, subject: &'p str, payload: P) -> Publish<'p, P> {
        self.for_subject(subject).publish(subject, payload)
    }

    /// As [`Client::publish_bytes`], in the session of the subject.
    ///
    /// # Errors
    /// As there.
    pub fn publish_bytes<'p>(&'p self, subject: &'p str, payload: impl Into<Bytes>) -> Publish<'p, Bytes> {
        self.for_subject(subject).publish_bytes(subject, payload)
    }

    /// As [`Client::try_publish`], in the session of the subject.
    ///
    /// # Errors
    /// As there.
    pub fn try_publish(&self, subject: &str, payload: impl AsRef<[u8]>) -> Result<(), PublishError> {
        self.for_subject(subject).try_publish(subject, payload)
    }

    /// As [`Client::request`], in the session of the subject.
    ///
    /// # Errors
    /// As there.
    pub fn request<'p, P: AsRef<[u8]>>(&'p self, subject: &'p str, payload: P) -> Request<'p, P> {
        self.for_subject(subject).request(subject, payload)
    }

    /// As [`Client::subscribe`], in the first session.
    ///
    /// # Errors
    /// As there.
    pub fn subscribe<'p>(&'p self, pattern: &str) -> Subscribe<'p> {
        self.sessions[0].subscribe(pattern)
    }

    /// As [`Client::flush`], for all sessions at the same time.
    ///
    /// # Errors
    /// [`FlushError`] of the first session for which it is uncertain.
    pub fn flush(&self) -> All<Flush<'_>> {
        self.all(Client::flush)
    }

    /// As [`Client::drain`], for all sessions at the same time.
    ///
    /// # Errors
    /// [`FlushError`] of the first session for which it is uncertain; all are closed anyway. The messages that were lost are
    /// those of all sessions.
    pub fn drain(&self) -> All<Drain<'_>> {
        self.all(Client::drain)
    }

    /// Closes all sessions, for all handles.
    ///
    /// # Errors
    /// [`CloseError`] of the first session that has one. The messages that were lost are those of all sessions.
    pub fn close(&self) -> All<Close<'_>> {
        self.all(Client::close)
    }

    fn all<'p, Op>(&'p self, begin: impl Fn(&'p Client) -> Op) -> All<Op> {
        All(self.sessions.iter().map(begin).collect())
    }

    /// True while all sessions are connected.
    pub fn is_connected(&self) -> bool {
        self.sessions.iter().all(Client::is_connected)
    }

    /// Statistics of all sessions together: counters, rates and queues are sums. Of round trips and silences it is the longest
    /// one, and of datagrams the shortest maximum; connected is who has all sessions.
    pub fn stats(&self) -> Snapshot {
        let (first, others) = self.sessions.split_first().expect("a pool has a session");
        others.iter().fold(first.stats(), |sum, session| sum.plus(&session.stats()))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("server", &self.sessions[0].server())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

/// An operation on all sessions of a [`Pool`] at the same time; ready when it is done with each of them. Dropping it does to each
/// of them what dropping the operation of a client does.
#[must_use = "operations do nothing unless awaited"]
pub struct All<Op>(Vec<Op>);

/// What of two failures is told.
trait Failure {
    fn and(self, other: Self) -> Self;
}

impl Failure for FlushError {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lost { messages }, Self::Lost { messages: more }) => Self::Lost { messages: messages + more },
            (first, _) => first,
        }
    }
}

impl Failure for CloseError {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lost { messages }, Self::Lost { messages: more }) => Self::Lost { messages: messages + more },
            (first, _) => first,
        }
    }
}

/// Lets an operation of a client be one of a pool.
macro_rules! on_all {
    ($operation:ident, $error:ty) => {
        impl All<$operation<'_>> {
            /// Sets the timeout, from now.
            pub fn within(self, span: Duration) -> Self {
                Self(self.0.into_iter().map(|one| one.within(span)).collect())
            }

            /// Sets the time at which the operation times out.
            pub fn until(self, moment: Instant) -> Self {
                Self(self.0.into_iter().map(|one| one.until(moment)).collect())
            }
        }

        impl<'p> IntoFuture for All<$operation<'p>> {
            type Output = Result<(), $error>;
            type IntoFuture = BoxFuture<'p, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                let all = self.0.into_iter().map(IntoFuture::into_future).collect();
                Box::pin(async {
                    let failures = join(all).await.into_iter().filter_map(Result::err);
                    failures.reduce(Failure::and).map_or(Ok(()), Err)
                })
            }
        }
    };
}

on_all!(Flush, FlushError);
on_all!(Drain, FlushError);
on_all!(Close, CloseError);

impl All<Flush<'_>> {
    /// As [`Flush::patient`], for each session by itself.
    pub fn patient(self) -> Self {
        Self(self.0.into_iter().map(Flush::patient).collect())
    }
}

/// What all give, in their order, when the last one is ready.
async fn join<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
    poll_fn(|cx| {
        let mut waits = false;
        for (future, given) in &mut futures {
            if let Some(running) = future {
                match running.as_mut().poll(cx) {
                    Poll::Ready(value) => (*future, *given) = (None, Some(value)),
                    Poll::Pending => waits = true,
                }
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, given)| given).collect()
}
