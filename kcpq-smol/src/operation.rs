//! Operations: futures with a deadline that can be dropped at any moment.

use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;
use bytes::Bytes;
use event_listener::EventListener;
use kcpq_core::client::{self, Replaying, Subscribing, SubscriptionId};
use kcpq_core::frame::PropertyError;
use kcpq_core::frame::properties::PropertiesBuf;
use kcpq_core::lane::Lane;
use kcpq_core::replay::Start;

use crate::client::Client;
use crate::confirm::Confirm;
use crate::error::{CloseError, FlushError, PingError, PublishError, SubscribeError};
use crate::message::Message;
use crate::queue::{Capacity, Full, Name, Queue, Rules};
use crate::shared::{Shared, State, Subscribed};
use crate::store::Store;
use crate::subscription::{CallbackSubscription, Subscription};

pub(crate) type BoxFuture<'c, T> = Pin<Box<dyn Future<Output = T> + Send + 'c>>;

/// The time limit of an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    span: Duration,
    until: Option<Instant>,
}

impl Limit {
    pub(crate) fn new(span: Duration) -> Self {
        Self { span, until: Instant::now().checked_add(span) }
    }

    /// No limit.
    fn never() -> Self {
        Self { span: Duration::MAX, until: None }
    }

    pub(crate) fn span(&self) -> Duration {
        self.span
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.until.map_or(self.span, |until| until.saturating_duration_since(Instant::now()))
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    fn timer(&self) -> Timer {
        self.until.map_or_else(Timer::never, Timer::at)
    }

    /// The output of `future`; `None` on timeout.
    pub(crate) async fn bound<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let over = async {
            self.timer().await;
            None
        };
        futures_lite::future::or(async { Some(future.await) }, over).await
    }

    /// Waits until `check` gives something, checking again after each change; `None` on timeout.
    pub(crate) async fn wait<T>(&self, shared: &Shared, mut check: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let found = self.bound(async {
            loop {
                // Listening comes before looking, so that no change is missed between the two.
                let changed = shared.changed.listen();
                if let Some(found) = check(&mut shared.lock()) {
                    return found;
                }
                changed.await;
            }
        });
        found.await
    }
}

/// Gives an operation its `within` and `until`.
macro_rules! deadline {
    () => {
        /// Sets the timeout, from now.
        pub fn within(mut self, span: Duration) -> Self {
            self.limit = Limit::new(span);
            self
        }

        /// Sets the time at which the operation times out.
        pub fn until(mut self, moment: Instant) -> Self {
            self.limit = Limit::new(moment.saturating_duration_since(Instant::now()));
            self
        }
    };
}
pub(crate) use deadline;

/// Gives an operation that publishes its `header` and `headers`.
macro_rules! headers {
    () => {
        /// Adds a header: a name of 1 to 255 visible ASCII characters without a colon, and text without control characters.
        /// A name may come several times. Original servers and subscribers get the message without.
        ///
        /// What is no header shows as an error when the message is published: [`PropertyError`](crate::PropertyError). There
        /// may be 64 headers, of 16 KiB in all.
        pub fn header(self, name: &str, value: &str) -> Self {
            self.headers([(name, value)])
        }

        /// Adds headers, as [`header`](Self::header) does.
        pub fn headers<'h>(mut self, headers: impl IntoIterator<Item = (&'h str, &'h str)>) -> Self {
            for (name, value) in headers {
                self.properties =
                    self.properties.and_then(|mut properties| properties.header(name, value).map(|()| properties));
            }
            self
        }
    };
}
pub(crate) use headers;

/// What the server is to do with a message besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// Keep it as the last value of its subject.
    retain: bool,
    /// Forget those before it of its subject that are under way.
    latest: bool,
}

impl Marks {
    /// Adds them to what the message carries.
    pub(crate) fn add_to(self, properties: &mut Result<PropertiesBuf, PropertyError>) {
        let Ok(properties) = properties else { return };
        if self.retain {
            properties.retain();
        }
        if self.latest {
            properties.latest();
        }
    }
}

/// Publishes a message; ready when it is queued, which is at once unless the queue is full.
///
/// Cancel-safe: if dropped before it is ready, nothing was queued.
#[must_use = "futures do nothing unless awaited"]
pub struct Publish<'c, P> {
    client: &'c Client,
    /// `None`: the message that is answered asks for no answer.
    subject: Option<&'c str>,
    payload: P,
    /// The payload to be kept by reference, if that is possible.
    share: fn(&P) -> Option<&Bytes>,
    limit: Limit,
    /// When the message expires.
    expires: Option<Instant>,
    /// What it carries besides.
    properties: Result<PropertiesBuf, PropertyError>,
    marks: Marks,
    lane: Lane,
    waiting: Option<(EventListener, Timer)>,
}

impl<'c, P: AsRef<[u8]>> Publish<'c, P> {
    pub(crate) fn new(client: &'c Client, subject: Option<&'c str>, payload: P) -> Self {
        let limit = Limit { span: client.shared().timeout, until: None };
        let properties = Ok(PropertiesBuf::new());
        let (marks, lane, waiting) = (Marks::default(), Lane::NORMAL, None);
        let share = |_: &P| None;
        Self { client, subject, payload, share, limit, expires: None, properties, marks, lane, waiting }
    }

    deadline!();

    /// Sets the message's time to live, from now: if it is still in a queue after that, it is dropped and counted
    /// ([`Stats::expired`](crate::Stats::expired)), here, by a native server in its queue for each subscriber, and by that
    /// one's client. The publish succeeds when the message is queued. A message that has begun to be sent is sent
    /// completely.
    pub fn ttl(mut self, span: Duration) -> Self {
        self.expires = Instant::now().checked_add(span);
        self
    }

    headers!();

    /// Makes it ready only when the server has said to how many sessions it has given the message, or why to none: not
    /// permitted, too fast, too large. That a session has it does not say that its program has read it. An original server says
    /// nothing: [`ConfirmError::Unsupported`](crate::ConfirmError::Unsupported).
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let sessions = client.publish("orders.new", "3 apples").confirmed().await?;
    /// println!("{sessions} have it");
    /// # Ok(())
    /// # }
    /// ```
    pub fn confirmed(self) -> Confirm<'c, P> {
        let Self { client, subject, payload, limit, expires, properties, marks, lane, .. } = self;
        let limit = if limit.until.is_some() { limit } else { Limit::new(limit.span) };
        Confirm { client, subject, payload, properties, marks, expires, lane, limit }
    }

    /// Makes it ready only when a stream behind the server's backbone (JetStream) has stored it, with its number there. A server
    /// without such a backbone is an error at once: [`StoreError::Unsupported`](crate::StoreError::Unsupported).
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let stored = client.publish("orders.new", "3 apples").stored().id("order 17").await?;
    /// println!("number {}{}", stored.sequence, if stored.duplicate { ", already" } else { "" });
    /// # Ok(())
    /// # }
    /// ```
    pub fn stored(self) -> Store<'c, P> {
        Store { confirm: self.confirmed(), id: String::new() }
    }

    /// Publishes it in a lane: it waits for no message of another lane, neither here nor in the network nor at the server, which
    /// gives it to subscribers in the same lane unless they want [another one](Subscribe::lane). What is in an urgent lane
    /// goes before all else, and what is in a bulk lane behind all else; and where something urgent shares a link with what
    /// is not, the link is not filled to the brim.
    ///
    /// Messages stay in their order in each lane, and between lanes in none. A server that does not know lanes, such as an
    /// original one, gets one stream; and so does a client that asks for parity. Before a server has answered only lane 0 goes.
    /// A message that is to be [kept](Self::retain) goes from the server to its subscribers in lane 0.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client, map: Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
    /// use kcpq_smol::Lane;
    ///
    /// client.publish("game.map", map).lane(Lane::BULK).await?;
    /// client.publish("game.state", "x=1 y=2").lane(Lane::URGENT).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// The server keeps the message as the last value of its subject, in the place of the one before: whoever
    /// subscribes later gets it first, marked ([`Message::is_kept`]). One without payload takes the value away. With a
    /// [`ttl`](Self::ttl) it lapses then.
    ///
    /// A server that is known to keep none, as an original one, is an error
    /// ([`Unsupported`](kcpq_core::client::PublishError)). If there is no connection at the moment, and the next server
    /// keeps none, it is a message like any other. What the server has no room for it delivers and does not keep, and
    /// says so ([`Event::Refused`](crate::Event::Refused)).
    pub fn retain(mut self) -> Self {
        self.marks.retain = true;
        self
    }

    /// For state where a new message replaces the last, such as where something is, sixty times a second: of the messages of
    /// one subject that are under way only the latest counts. Where one waits, here or at the server for each subscriber, the
    /// newer one takes its place, however the subscriber has subscribed; and in another [lane](Self::lane) than 0 one that the
    /// network loses is not sent again if there is a newer one, which does not wait for it.
    ///
    /// A subscriber never gets something older of a subject after something newer, and always the newest at last; in such a
    /// lane messages of different subjects may overtake each other. What is longer than a datagram is sent again like
    /// other messages, and so is everything where an end does not know that, such as an original one. A message that is to be
    /// [kept](Self::retain), or for a [queue group](Subscribe::queue), is for these a message like any other; one that is
    /// [confirmed](Self::confirmed) is superseded only behind the server.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use kcpq_smol::Lane;
    ///
    /// client.publish("game.player.7", "x=1 y=2").lane(Lane::URGENT).latest().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn latest(mut self) -> Self {
        self.marks.latest = true;
        self
    }

    /// Sets the subject that answers are to be published to ([`Message::reply_to`]).
    pub fn reply_to(mut self, subject: &str) -> Self {
        self.properties = self.properties.and_then(|mut properties| properties.reply(subject).map(|()| properties));
        self
    }
}

impl<'c> Publish<'c, Bytes> {
    /// The same with a payload that need not be copied.
    pub(crate) fn shared(client: &'c Client, subject: &'c str, payload: Bytes) -> Self {
        Self { share: |payload| Some(payload), ..Self::new(client, Some(subject), payload) }
    }
}

impl<P: AsRef<[u8]> + Unpin> Future for Publish<'_, P> {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.marks.add_to(&mut this.properties);
        loop {
            let ttl = self.expires.map(|at| at.saturating_duration_since(Instant::now()));
            let properties = match &self.properties {
                Ok(properties) => properties.properties(),
                Err(error) => return Poll::Ready(Err(PublishError::Refused(client::PublishError::Properties(*error)))),
            };
            let Some(subject) = self.subject else { return Poll::Ready(Err(PublishError::NoReply)) };
            let shared = (self.share)(&self.payload).filter(|_| properties.is_empty() && ttl.is_none());
            let queued = match shared {
                Some(payload) => self.client.queue_bytes(self.lane, subject, payload),
                None => self.client.queue(self.lane, subject, self.payload.as_ref(), properties, ttl),
            };
            match queued {
                Err(PublishError::Refused(client::PublishError::Full)) => {}
                done => return Poll::Ready(done),
            }
            let this = &mut *self;
            let Some((room, timer)) = &mut this.waiting else {
                // Only who has to wait pays for a listener and a timer. Then it looks once more.
                let until = this.limit.until.or_else(|| Instant::now().checked_add(this.limit.span));
                let timer = until.map_or_else(Timer::never, Timer::at);
                let room = this.client.shared().writable.listen();
                this.waiting = Some((room, timer));
                continue;
            };
            if Pin::new(&mut *room).poll(cx).is_ready() {
                *room = this.client.shared().writable.listen();
                continue;
            }
            if Pin::new(timer).poll(cx).is_ready() {
                return Poll::Ready(Err(PublishError::TimedOut { after: this.limit.span }));
            }
            return Poll::Pending;
        }
    }
}

/// Subscribes; ready when the server has acknowledged the subscription. Without an acknowledgement the client asks
/// again, by default three times in 17 s, and then fails. That is waited for unless a shorter time is given, by
/// [`within`](Self::within) or as [`Builder::timeout`](crate::Builder::timeout), and so is a connection: by a client that
/// [connects in the background](crate::Builder::connect_in_background) without limit, by others as long as for the
/// acknowledgement.
///
/// Cancel-safe: if dropped before it is ready, the subscription is cancelled.
#[must_use = "operations do nothing unless awaited"]
pub struct Subscribe<'c> {
    client: &'c Client,
    pattern: Name,
    further: Vec<Name>,
    capacity: Capacity,
    full: Option<Full>,
    latest: bool,
    without_kept: bool,
    lane: Option<Lane>,
    group: Option<Name>,
    start: Option<Start>,
    durable: Option<Name>,
    limit: Limit,
}

impl<'c> Subscribe<'c> {
    pub(crate) fn new(client: &'c Client, pattern: &str) -> Self {
        let limit = client.shared().subscribe_timeout.map_or_else(Limit::never, Limit::new);
        let (capacity, pattern) = (client.capacity(), pattern.into());
        let (latest, without_kept, start, durable) = (false, false, None, None);
        let (full, lane, group, further) = (None, None, None, Vec::new());
        Self { client, pattern, further, capacity, full, latest, without_kept, lane, group, start, durable, limit }
    }

    deadline!();

    /// The same for a further pattern: all messages wait in one queue, in the order in which they came, and one that several
    /// patterns match is there once. If one of the patterns is lost the stream ends.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), kcpq_smol::SubscribeError> {
    /// let mut all = client.subscribe("telemetry.>").and("alarms.*").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn and(mut self, pattern: &str) -> Self {
        self.further.push(pattern.into());
        self
    }

    /// Capacity of the queue, in messages, at least 1; 65,536 unless set here or for the client. When it is full, new
    /// messages are dropped and counted.
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity.messages = messages;
        self
    }

    /// Capacity of the queue, in bytes of subjects and payloads and 7 for each message; 64 MiB unless set here or for the
    /// client. One message has room, however long it is.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.capacity.bytes = bytes;
        self
    }

    /// When the queue is full, the oldest message makes room for a new one.
    pub fn drop_oldest(mut self) -> Self {
        self.full = Some(Full::DropOldest);
        self
    }

    /// When the queue is full, new messages are dropped, as without this option unless the
    /// [`latest`](Self::latest) are wanted.
    pub fn drop_newest(mut self) -> Self {
        self.full = Some(Full::DropNewest);
        self
    }

    /// Latest only, for state where a new message replaces the last: of the messages of one subject that wait, only the
    /// newest is kept, in the place of the one before. That holds for the queue of this subscription and, unless the message
    /// also matches another one of this client without this option, for what the server has queued for this client, and in
    /// another [lane](Self::lane) than 0 for what the network loses (see [`Publish::latest`]). A server
    /// that does not know the option, such as an original one, sends every message.
    ///
    /// When more subjects wait than the queue has room for, the oldest message is dropped, unless
    /// [`drop_newest`](Self::drop_newest) says otherwise.
    pub fn latest(mut self) -> Self {
        self.latest = true;
        self
    }

    /// Without the last values that the server has kept of subjects ([`Publish::retain`]): only what is published from
    /// now on.
    pub fn without_kept(mut self) -> Self {
        self.without_kept = true;
        self
    }

    /// In this lane, in whichever the messages are published: they wait for none of another lane on their way from the server
    /// to this client, and overtake those whose lane has a lower priority. See [`Publish::lane`].
    ///
    /// Of several subscriptions of this client to one pattern the one counts that was made last, and of several patterns that
    /// match, the lane that goes first. Each member of a [queue group](Self::queue) has its own. Without effect where the server
    /// does not know lanes.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = Some(lane);
        self
    }

    /// As a member of a queue group: each message goes to one of all the members of this name, of all clients, whose patterns
    /// match. The server chooses by turns among those that have least waiting; what waits there for a member that leaves or
    /// dies goes to the others. A name has 1 to 64 bytes, without spaces. [`latest`](Self::latest) has no effect beside it.
    ///
    /// Last values that the server has kept are for no member. Other subscriptions get the message all the same. A
    /// server that does not know queue groups, such as an original one, fails the subscription.
    pub fn queue(mut self, group: &str) -> Self {
        self.group = Some(group.into());
        self
    }

    /// With what is stored: from the oldest message on, and then those that are stored from now on, each once and in the order
    /// in which they were stored. For a server that stands on a backbone with a store, and subjects that a stream there has;
    /// what is published to other subjects does not come. After a reconnect it goes on behind the last message that had come.
    ///
    /// Nothing is dropped when the queue is full, unless [`drop_newest`](Self::drop_newest) or
    /// [`drop_oldest`](Self::drop_oldest) says so: what comes waits at the server then, and that for all subscriptions of this
    /// client, so that one that reads slowly is better given a client of its own. [`latest`](Self::latest) and
    /// [`without_kept`](Self::without_kept) have no effect beside it.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut orders = client.subscribe("orders.>").from_start().await?;
    /// while let Some(order) = orders.next().await {
    ///     println!("{:?}: {}", order.sequence(), order.text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_start(self) -> Self {
        self.starting(Start::All)
    }

    /// As [`from_start`](Self::from_start), from the message of this sequence on ([`Message::sequence`]), or the first behind it.
    pub fn from(self, sequence: u64) -> Self {
        self.starting(Start::From(sequence))
    }

    /// As [`from_start`](Self::from_start), from the first message on that was stored no longer ago than this, by the server's
    /// clock.
    pub fn since(self, ago: Duration) -> Self {
        self.starting(Start::Since(ago.into()))
    }

    /// As [`from_start`](Self::from_start), from the newest message of each subject on.
    pub fn last(self) -> Self {
        self.starting(Start::Last)
    }

    /// As [`from_start`](Self::from_start), with none of the messages that are stored already.
    pub fn from_now(self) -> Self {
        self.starting(Start::New)
    }

    fn starting(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// What is stored, under a name of 1 to 32 characters of `A-Z`, `a-z`, `0-9`, `-` and `_`, by which the store remembers
    /// which messages were [acknowledged](Message::ack): all others come again, to whoever subscribes next under it, at any
    /// server of the backbone and after any loss. One that is not acknowledged within the time that the store gives it (30 s) comes
    /// again as well. Where it begins ([`from_start`](Self::from_start) unless something else is said) counts only when there
    /// is none of this name yet. Several at a time share the messages.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut orders = client.subscribe("orders.>").durable("billing").await?;
    /// while let Some(order) = orders.next().await {
    ///     println!("{}", order.text()); // or something of more use
    ///     order.ack()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn durable(mut self, name: &str) -> Self {
        self.durable = Some(name.into());
        self
    }

    /// Calls `handle` for each message, in place of a stream. The callback may block: it runs in a task of its own on a
    /// thread for blocking work. Calls never overlap; meanwhile messages stay in the queue. A call that takes more than
    /// 100 ms is reported as [`Event::SlowHandler`](crate::Event::SlowHandler).
    ///
    /// # Errors
    /// [`SubscribeError`], as for the stream.
    pub async fn for_each(
        self,
        handle: impl FnMut(Message) + Send + 'static,
    ) -> Result<CallbackSubscription, SubscribeError> {
        Ok(self.await?.into_callback(handle))
    }

    async fn run(self) -> Result<Subscription, SubscribeError> {
        let shared = self.client.shared();
        let start = self.start.or_else(|| self.durable.as_ref().map(|_| Start::All));
        if start.is_some() && self.group.is_some() {
            return Err(SubscribeError::QueueOfStored);
        }
        if start.is_some() && !self.further.is_empty() {
            return Err(SubscribeError::SeveralOfStored);
        }
        let latest = self.latest && start.is_none();
        let usual = match (start, latest) {
            (Some(_), _) => Full::Wait,
            (None, true) => Full::DropOldest,
            (None, false) => Full::DropNewest,
        };
        let rules = Rules { capacity: self.capacity, full: self.full.unwrap_or(usual), latest };
        let mut wanted = Subscribing::default();
        match &self.group {
            Some(group) => wanted.group = Some(group),
            None => (wanted.latest, wanted.without_kept) = (self.latest, self.without_kept),
        }
        wanted.lane = self.lane;
        let durable = self.durable.as_deref();
        // All are asked for before the first is waited for. From then on each exists: dropped early, it is taken back.
        let ask = |pattern: &Name| -> Result<Subscription, SubscribeError> {
            let (queue, outlet) = Queue::new(Name::clone(pattern), rules, shared.clock);
            let mut state = shared.lock();
            let (now, core) = (shared.now(), &mut state.core);
            let id = match start {
                Some(start) => core.subscribe_stored(now, pattern, &Replaying { start, durable, lane: self.lane }),
                None => core.subscribe_as(now, pattern, &wanted),
            };
            let id = id.map_err(SubscribeError::Refused)?;
            state.queues.insert(id, Subscribed { queue, outcome: None, waiter: None });
            state.nudge();
            Ok(Subscription::new(id, Name::clone(pattern), outlet, self.client.handle(), durable.is_some()))
        };
        let mut subscription = ask(&self.pattern)?;
        let mut before = vec![Name::clone(&self.pattern)];
        for pattern in &self.further {
            // A member of a group gets what is for it alone.
            let others = if self.group.is_some() { Vec::new() } else { before.clone() };
            subscription.join(ask(pattern)?, others);
            before.push(Name::clone(pattern));
        }
        let acknowledged = async {
            for id in subscription.ids() {
                poll_fn(|cx| {
                    let mut state = shared.lock();
                    let outcome = outcome(&state, id);
                    if outcome.is_none()
                        && let Some(subscribed) = state.queues.get_mut(&id)
                    {
                        subscribed.waiter = Some(cx.waker().clone());
                    }
                    outcome.map_or(Poll::Pending, Poll::Ready)
                })
                .await?;
            }
            Ok(())
        };
        match self.limit.bound(acknowledged).await {
            Some(Ok(())) => Ok(subscription),
            Some(Err(error)) => Err(error),
            None => Err(SubscribeError::TimedOut { after: self.limit.span() }),
        }
    }
}

fn outcome(state: &State, id: SubscriptionId) -> Option<Result<(), SubscribeError>> {
    match state.queues.get(&id) {
        Some(Subscribed { outcome: Some(outcome), .. }) => Some(outcome.map_err(SubscribeError::Failed)),
        Some(_) if !state.closed => None,
        // Or another handle drains the client.
        _ => Some(Err(SubscribeError::Closed)),
    }
}

impl<'c> IntoFuture for Subscribe<'c> {
    type Output = Result<Subscription, SubscribeError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Waits until the server has handled everything published before, across a reconnect if necessary. If messages were in
/// flight when a connection was lost, it is uncertain whether they were handled, and the flush fails; those of
/// connections lost before the flush began are counted in [`Stats`](client::Stats).
///
/// Cancel-safe: dropping it undoes nothing.
#[must_use = "operations do nothing unless awaited"]
pub struct Flush<'c> {
    client: &'c Client,
    limit: Limit,
    patient: bool,
}

impl<'c> Flush<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        Self { client, limit: Limit::new(client.shared().timeout), patient: false }
    }

    deadline!();

    /// The timeout counts from the last progress, so that large messages have their time on a slow link: from when the
    /// server last acknowledged something, or a connection was made.
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    async fn run(self) -> Result<(), FlushError> {
        flush(self.client.shared(), &self.limit, self.patient).await
    }
}

/// How often a patient operation looks whether there is progress.
const LOOK: Duration = Duration::from_millis(200);

/// What changes as long as there is progress.
fn progress(state: &State) -> (u32, u32, u64) {
    (state.core.conversation(), state.core.acked_offset(), state.connections)
}

async fn flush(shared: &Shared, limit: &Limit, patient: bool) -> Result<(), FlushError> {
    let (target, in_doubt) = {
        let mut state = shared.lock();
        let now = shared.now();
        let target = state.core.flush(now);
        state.nudge();
        (target, state.core.stats().dropped_in_doubt)
    };
    let mut done = |state: &mut State| {
        if state.closed {
            return Some(Err(FlushError::Closed));
        }
        if state.core.stats().dropped_in_doubt != in_doubt {
            return Some(Err(FlushError::Disconnected));
        }
        (state.flushed >= target).then_some(Ok(()))
    };
    let (mut limit, mut seen) = (*limit, progress(&shared.lock()));
    // With patience the time begins anew whenever there was progress.
    while patient && !limit.is_over() {
        if let Some(done) = Limit::new(LOOK.min(limit.span())).wait(shared, &mut done).await {
            return done;
        }
        let now = progress(&shared.lock());
        if std::mem::replace(&mut seen, now) != now {
            limit = Limit::new(limit.span());
        }
    }
    let done = limit.wait(shared, done).await;
    done.unwrap_or_else(|| Err(FlushError::TimedOut { after: limit.span() }))
}

impl<'c> IntoFuture for Flush<'c> {
    type Output = Result<(), FlushError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Asks the server for an answer, and says how long that took.
///
/// Cancel-safe: dropping it undoes nothing.
#[must_use = "operations do nothing unless awaited"]
pub struct Ping<'c> {
    client: &'c Client,
    limit: Limit,
}

impl<'c> Ping<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        Self { client, limit: Limit::new(client.shared().timeout) }
    }

    deadline!();

    async fn run(self) -> Result<Duration, PingError> {
        let shared = self.client.shared();
        let conversation = {
            let mut state = shared.lock();
            state.core.ask(shared.now());
            state.asks = true;
            state.nudge();
            state.core.conversation()
        };
        let answer = self.limit.wait(shared, |state| {
            if state.closed {
                return Some(Err(PingError::Closed));
            }
            if !state.core.is_connected() || state.core.conversation() != conversation {
                return Some(Err(PingError::Disconnected));
            }
            let took = state.core.round_trip().1.filter(|_| state.core.heartbeat_outstanding().is_none())?;
            Some(Ok(took.into()))
        });
        answer.await.unwrap_or_else(|| Err(PingError::TimedOut { after: self.limit.span() }))
    }
}

impl<'c> IntoFuture for Ping<'c> {
    type Output = Result<Duration, PingError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Ends all subscriptions, waits until the server has handled everything published, then closes. Messages already in
/// the subscriptions' queues can still be read; then their streams end.
///
/// If dropped early, the subscriptions stay ended; the client stays open unless closing had begun.
#[must_use = "operations do nothing unless awaited"]
pub struct Drain<'c> {
    client: &'c Client,
    limit: Limit,
}

impl<'c> Drain<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        Self { client, limit: Limit::new(client.shared().timeout) }
    }

    deadline!();

    async fn run(self) -> Result<(), FlushError> {
        let shared = self.client.shared();
        {
            let now = shared.now();
            shared.lock().unsubscribe_all(now);
        }
        let flushed = flush(shared, &self.limit, false).await;
        let closed = close(shared, &self.limit).await;
        flushed?;
        Ok(closed?)
    }
}

impl<'c> IntoFuture for Drain<'c> {
    type Output = Result<(), FlushError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Closes the session for all handles: what is queued is still sent, then the server is told. That goes on as long as
/// the server acknowledges something at least every second. Without a connection, messages in the queue have a second
/// for one to be made.
///
/// If dropped early, closing goes on in the background.
#[must_use = "operations do nothing unless awaited"]
pub struct Close<'c> {
    client: &'c Client,
    limit: Limit,
}

impl<'c> Close<'c> {
    pub(crate) fn new(client: &'c Client) -> Self {
        Self { client, limit: Limit::new(client.shared().timeout) }
    }

    deadline!();

    async fn run(self) -> Result<(), CloseError> {
        close(self.client.shared(), &self.limit).await
    }
}

async fn close(shared: &Shared, limit: &Limit) -> Result<(), CloseError> {
    {
        let mut state = shared.lock();
        let now = shared.now();
        state.core.close(now);
        state.nudge();
    }
    let lost = limit.wait(shared, |state| state.closed.then(|| state.core.stats().lost_on_close)).await;
    match lost {
        Some(0) => Ok(()),
        Some(messages) => Err(CloseError::Lost { messages }),
        None => Err(CloseError::TimedOut { after: limit.span() }),
    }
}

impl<'c> IntoFuture for Close<'c> {
    type Output = Result<(), CloseError>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
