//! The clients of a simulation behind one face, whatever memory they have and however they are driven.

use std::collections::VecDeque;

use kcpq_core::client::{
    Client, Config, ConfirmFailure, Confirmed, Disconnect, Event, Recipient, Request, RequestFailure, Stats,
    SubscriptionId,
};
use kcpq_core::frame::properties::PropertiesBuf;
use kcpq_core::frame::{Frame, Limits, Properties};
use kcpq_core::lane::Lane;
use kcpq_core::outbox::FrameStore;
use kcpq_core::session::Transmit;
use kcpq_core::store::{Gather, Heap, Lent};
use kcpq_core::time::{Duration, Instant};

/// What a client has told.
#[derive(Debug)]
pub(crate) enum News {
    Connected,
    /// Why, and how many messages it had received and had acknowledged.
    Disconnected(Disconnect, Counts),
    Subscribed(u32),
    SubscribeFailed(u32, String),
    Message(u32, Got),
    Reply {
        request: u32,
        got: Got,
        last: bool,
    },
    RequestFailed(u32, RequestFailure),
    Confirmed(u32, Result<u32, ConfirmFailure>),
    Flushed,
    Denied,
    Closed,
}

impl News {
    /// A program that has ended a subscription reads no more of it, though it had come before.
    pub(crate) fn forget(waiting: &mut VecDeque<Self>, subscription: u32) {
        waiting.retain(|news| !matches!(news, Self::Message(of, _) if *of == subscription));
    }
}

/// Messages in all, each way; received are also those that newer ones superseded on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) acknowledged: u64,
}

/// A message as it came.
pub(crate) struct Got {
    pub(crate) subject: String,
    pub(crate) payload: Vec<u8>,
    /// It is a value that the server has kept for so long.
    pub(crate) kept: Option<Duration>,
    pub(crate) reply: Option<String>,
    pub(crate) header: Option<String>,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { subject, payload, kept, .. } = self;
        write!(f, "{subject} {:?}", crate::message::read(payload))?;
        kept.map_or(Ok(()), |age| write!(f, " kept for {age}"))
    }
}

impl Got {
    /// Without properties.
    pub(crate) fn plain(subject: &str, payload: &[u8]) -> Self {
        Self::new(subject, payload, Properties::NONE)
    }

    fn new(subject: &str, payload: &[u8], properties: Properties<'_>) -> Self {
        Self {
            subject: subject.into(),
            payload: payload.into(),
            kept: properties.kept(),
            reply: properties.reply().map(Into::into),
            header: properties.header("id").next().map(Into::into),
        }
    }
}

/// How a subscription is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Every,
    Latest,
    WithoutKept,
    Group(&'static str),
}

/// How a message is published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub(crate) subject: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) retain: bool,
    pub(crate) header: Option<String>,
    pub(crate) confirm: bool,
    /// Only the latest of its subject counts, in this lane.
    pub(crate) state: Option<Lane>,
    /// Answers are wanted, so many.
    pub(crate) replies: Option<u32>,
}

/// A client.
pub(crate) trait End {
    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_timeout(&self) -> Option<Instant>;
    fn poll_news(&mut self) -> Option<News>;
    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit>;
    fn on_too_long(&mut self, now: Instant, len: usize);
    fn connect(&mut self, now: Instant);
    /// The number of its confirmation or request, or 0.
    fn publish(&mut self, now: Instant, order: &Order) -> Result<u32, String>;
    fn subscribe(&mut self, now: Instant, pattern: &str, how: How) -> Result<u32, String>;
    fn unsubscribe(&mut self, now: Instant, id: u32);
    fn flush(&mut self, now: Instant);
    fn close(&mut self, now: Instant);
    fn reconnect(&mut self, now: Instant);
    fn is_connected(&self) -> bool;
    /// Bytes of messages that wait.
    fn queued(&self) -> usize;
    fn stats(&self) -> Stats;
    /// Messages that have come, or were superseded on the way.
    fn came(&self) -> u64;
    /// It sends from another address from now on. Told once.
    fn takes_moved(&mut self) -> bool {
        false
    }
}

/// A store, and how a driver for it works.
pub(crate) trait Drive: FrameStore {
    fn input(client: &mut Client<Self>, now: Instant, datagram: &mut [u8], news: Option<&mut VecDeque<News>>);
    fn transmit(client: &mut Client<Self>, now: Instant, out: &mut [u8]) -> Option<Transmit>;
    fn join(client: &mut Client<Self>, now: Instant, pattern: &str, group: &str) -> Result<SubscriptionId, String>;
}

impl Drive for Heap {
    fn input(client: &mut Client<Self>, now: Instant, datagram: &mut [u8], news: Option<&mut VecDeque<News>>) {
        let Some(news) = news else { return client.handle_datagram(now, datagram) };
        client.handle_datagram_with(now, datagram, |recipient, arrived| {
            for bytes in arrived.frames() {
                let frame = Frame::parse(bytes, &Limits::KCPQ).expect("whole: what is handed out is a frame");
                let (payload, properties) = frame.message().expect("whole: what is handed out is a message");
                let subject = std::str::from_utf8(frame.subject).expect("whole: subjects are text");
                let got = Got::new(subject, payload, properties);
                news.push_back(match recipient {
                    Recipient::Subscription(id) => News::Message(id.0, got),
                    Recipient::Request { id, last } => News::Reply { request: number(&id), got, last },
                });
            }
        });
    }

    fn transmit(client: &mut Client<Self>, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let mut gather = Gather::default();
        let transmit = client.poll_transmit_gather(now, out, 5, &mut gather)?;
        gathered(&gather, &mut out[..transmit.len]);
        Some(transmit)
    }

    fn join(client: &mut Client<Self>, now: Instant, pattern: &str, group: &str) -> Result<SubscriptionId, String> {
        client.subscribe_queue(now, pattern, group).map_err(|error| error.to_string())
    }
}

impl Drive for Lent<'_> {
    fn input(client: &mut Client<Self>, now: Instant, datagram: &mut [u8], _: Option<&mut VecDeque<News>>) {
        client.handle_datagram(now, datagram);
    }

    fn transmit(client: &mut Client<Self>, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        Some(Transmit { len: client.poll_transmit(now, out)?, segment: None, asks: false })
    }

    fn join(client: &mut Client<Self>, now: Instant, pattern: &str, group: &str) -> Result<SubscriptionId, String> {
        client.subscribe_queue(now, pattern, group).map_err(|error| error.to_string())
    }
}

/// Does to datagrams what a system call does that gathers them.
pub(crate) fn gathered(gather: &Gather, datagrams: &mut [u8]) {
    let whole = gather.slices(datagrams).collect::<Vec<_>>().concat();
    datagrams.copy_from_slice(&whole);
}

/// Ids of requests and confirmations keep their numbers to themselves, but for who looks at them.
fn number(id: &impl std::fmt::Debug) -> u32 {
    let text = format!("{id:?}");
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().expect("an id shows its number")
}

/// A client of ours.
pub(crate) struct Native<S: FrameStore> {
    client: Client<S>,
    /// Messages are handed out of the datagrams in which they come.
    push: bool,
    pushed: VecDeque<News>,
}

impl<S: FrameStore> Native<S> {
    pub(crate) fn new(client: Client<S>, push: bool) -> Self {
        Self { client, push, pushed: VecDeque::new() }
    }
}

impl<S: Drive> End for Native<S> {
    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        S::input(&mut self.client, now, datagram, self.push.then_some(&mut self.pushed));
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.client.poll_timeout().map(|deadline| deadline.at)
    }

    fn poll_news(&mut self) -> Option<News> {
        if let Some(news) = self.pushed.pop_front() {
            return Some(news);
        }
        loop {
            let mut news = match self.client.poll_event()? {
                Event::Connected { .. } => News::Connected,
                Event::Disconnected { why, .. } => News::Disconnected(why, Counts::default()),
                Event::Subscribed(id) => News::Subscribed(id.0),
                Event::SubscribeFailed { id, why } => News::SubscribeFailed(id.0, why.to_string()),
                Event::Message { subscription, message } => {
                    let got = Got::new(message.subject(), message.payload(), message.properties());
                    News::Message(subscription.0, got)
                }
                Event::Reply { request, message, last } => {
                    let got = Got::new(message.subject(), message.payload(), message.properties());
                    News::Reply { request: number(&request), got, last }
                }
                Event::RequestFailed { request, why } => News::RequestFailed(number(&request), why),
                Event::Confirmed { id, outcome } => News::Confirmed(number(&id), outcome),
                Event::Flushed { .. } => News::Flushed,
                Event::Denied(_) => News::Denied,
                Event::Closed => News::Closed,
                _ => continue,
            };
            if let News::Disconnected(_, counts) = &mut news {
                // Messages that nobody wanted any more may have been read before that in the same call.
                let acknowledged = self.client.stats().messages_acknowledged;
                *counts = Counts { received: self.came(), acknowledged };
            }
            return Some(news);
        }
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        S::transmit(&mut self.client, now, out)
    }

    fn on_too_long(&mut self, now: Instant, len: usize) {
        self.client.on_too_long(now, len);
    }

    fn connect(&mut self, now: Instant) {
        self.client.connect(now);
    }

    fn publish(&mut self, now: Instant, order: &Order) -> Result<u32, String> {
        let Order { subject, payload, ttl, retain, header, confirm, state, replies } = order;
        let mut properties = PropertiesBuf::new();
        if let Some(header) = header {
            properties.header("id", header).expect("a header");
        }
        if *retain {
            properties.retain();
        }
        if state.is_some() {
            properties.latest();
        }
        let properties = properties.properties();
        if let Some(replies) = replies {
            let mut request = Request::default();
            (request.headers, request.replies) = (properties, *replies);
            return match self.client.request(now, subject, payload, &request) {
                Ok(id) => Ok(number(&id)),
                Err(error) => Err(error.to_string()),
            };
        }
        if *confirm {
            let mut confirmed = Confirmed::default();
            (confirmed.properties, confirmed.ttl) = (properties, *ttl);
            let published = self.client.publish_confirmed(now, subject, payload, &confirmed);
            return published.map(|id| number(&id)).map_err(|error| error.to_string());
        }
        if let Some(lane) = *state {
            let published = self.client.publish_in(now, lane, subject, payload, properties, *ttl);
            return published.map(|()| 0).map_err(|error| error.to_string());
        }
        let published = match (properties.is_empty(), *ttl) {
            (true, None) => self.client.publish(now, subject, payload),
            (true, Some(ttl)) => self.client.publish_for(now, subject, payload, ttl),
            (false, ttl) => self.client.publish_with(now, subject, payload, properties, ttl),
        };
        published.map(|()| 0).map_err(|error| error.to_string())
    }

    fn subscribe(&mut self, now: Instant, pattern: &str, how: How) -> Result<u32, String> {
        let id = match how {
            How::Every => self.client.subscribe(now, pattern).map_err(|error| error.to_string()),
            How::Latest => self.client.subscribe_latest(now, pattern).map_err(|error| error.to_string()),
            How::WithoutKept => {
                self.client.subscribe_without_kept(now, pattern, false).map_err(|error| error.to_string())
            }
            How::Group(group) => S::join(&mut self.client, now, pattern, group),
        };
        id.map(|id| id.0)
    }

    fn unsubscribe(&mut self, now: Instant, id: u32) {
        self.client.unsubscribe(now, SubscriptionId(id));
        News::forget(&mut self.pushed, id);
    }

    fn flush(&mut self, now: Instant) {
        self.client.flush(now);
    }

    fn close(&mut self, now: Instant) {
        self.client.close(now);
    }

    fn reconnect(&mut self, now: Instant) {
        self.client.reconnect(now);
    }

    fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    fn queued(&self) -> usize {
        self.client.queued()
    }

    fn stats(&self) -> Stats {
        self.client.stats()
    }

    fn came(&self) -> u64 {
        self.client.stats().messages_received + self.client.transport().superseded
    }
}

/// The configuration of a client that a simulation can overwhelm.
pub(crate) fn config(queue: usize, early: bool, native_datagram: u16) -> Config {
    Config { queue, early, native_datagram, ..Config::default() }
}
