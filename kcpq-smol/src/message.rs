//! A received message.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use kcpq_core::client::SubscriptionId;
use kcpq_core::frame::{Frame, HEAD, LENGTH, Limits, Properties};
use kcpq_core::replay::Settlement;

use crate::client::Client;
use crate::error::SettleError;
use crate::headers::Headers;
use crate::operation::Publish;
use crate::shared::Shared;

/// A received message. Cheap to clone: clones share the buffer it was received in.
#[derive(Clone)]
pub struct Message {
    frame: Bytes,
    /// Where the subject ends, and the payload begins.
    subject: u32,
    /// Where the payload ends; what it carries besides follows.
    end: u32,
    /// By what it is acknowledged, if it is to be.
    source: Option<Arc<Source>>,
}

/// A durable subscription, as its messages know it.
pub(crate) struct Source {
    id: SubscriptionId,
    shared: Arc<Shared>,
}

impl Source {
    pub(crate) fn new(id: SubscriptionId, shared: Arc<Shared>) -> Self {
        Self { id, shared }
    }
}

impl Message {
    /// Cuts the first frame off a run of whole frames (PROTOCOL.md 3.1).
    pub(crate) fn cut(run: &mut Bytes) -> Option<Self> {
        let frame = Frame::parse(run, &Limits::NONE).ok()?;
        let (len, subject) = (frame.encoded_len(), HEAD + frame.subject.len());
        let end = subject + frame.message()?.0.len();
        let (subject, end) = (u32::try_from(subject).ok()?, u32::try_from(end).ok()?);
        // The last one takes the run itself.
        let frame = if len == run.len() { std::mem::take(run) } else { run.split_to(len) };
        Some(Self { frame, subject, end, source: None })
    }

    /// It is acknowledged by this, if at all.
    pub(crate) fn set_source(&mut self, source: Option<&Arc<Source>>) {
        if source.is_some() {
            self.source = source.cloned();
        }
    }

    /// Where the payload lies in the frame.
    fn place(&self) -> Range<usize> {
        self.subject as usize..self.end as usize
    }

    /// The subject it was published to.
    pub fn subject(&self) -> &str {
        // The core hands out valid subjects only.
        self.frame.get(HEAD..self.place().start).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.frame.get(self.place()).unwrap_or_default()
    }

    /// The payload as text. What is not UTF-8 in it shows as U+FFFD, the replacement character.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.payload())
    }

    /// The headers it was published with.
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(self.properties())
    }

    /// True if it is not a new message, but the last value of its subject, which the server has kept
    /// ([`Publish::retain`](crate::Publish::retain)): as the first of its subject after subscribing, and again after a
    /// reconnect.
    pub fn is_kept(&self) -> bool {
        self.properties().kept().is_some()
    }

    /// For how long the server had kept it when it sent it, if it [has](Self::is_kept); in whole milliseconds.
    pub fn age(&self) -> Option<Duration> {
        self.properties().kept().map(Duration::from)
    }

    /// What was left of its [time to live](crate::Publish::ttl) when it came, if it has one and its server says so; in whole
    /// milliseconds.
    pub fn left(&self) -> Option<Duration> {
        self.properties().left().map(Duration::from)
    }

    /// Its place among all messages that are stored with it, if it [was](crate::Subscribe::from_start).
    pub fn sequence(&self) -> Option<u64> {
        self.properties().stored().map(|stored| stored.sequence)
    }

    /// When it was stored, by the store's clock, if it was.
    pub fn stored_at(&self) -> Option<SystemTime> {
        let stored = self.properties().stored()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(stored.stored_at))
    }

    /// How often it was delivered under its [durable](crate::Subscribe::durable) name, this time included; 1 for all else that
    /// is stored. 0 for what is not.
    pub fn deliveries(&self) -> u32 {
        self.properties().stored().map_or(0, |stored| stored.deliveries)
    }

    /// Says that it is done with: it does not come again under its [durable](crate::Subscribe::durable) name. That is sent at
    /// once, and not waited for; if the connection is lost just then the message may come again all the same.
    ///
    /// # Errors
    /// [`SettleError`]: it could not be said.
    pub fn ack(&self) -> Result<(), SettleError> {
        self.settle(Settlement::Ack)
    }

    /// Says that it is to come again, at once, to whoever is subscribed under the name.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nak(&self) -> Result<(), SettleError> {
        self.settle(Settlement::Nak)
    }

    /// Says that it is never to come again, although it is not done with.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn term(&self) -> Result<(), SettleError> {
        self.settle(Settlement::Term)
    }

    /// Says that it is still worked on: the time after which it would come again, 30 s unless the stream's owner has chosen
    /// another, begins anew.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn working(&self) -> Result<(), SettleError> {
        self.settle(Settlement::Working)
    }

    fn settle(&self, settlement: Settlement) -> Result<(), SettleError> {
        let (Some(source), Some(sequence)) = (&self.source, self.sequence()) else {
            return Err(SettleError::NotDurable);
        };
        let mut state = source.shared.lock();
        let told = state.core.settle(source.shared.now(), source.id, sequence, settlement);
        state.nudge();
        if told { Ok(()) } else { Err(SettleError::Disconnected) }
    }

    /// Publishes an answer to a request. Several may be given.
    ///
    /// ```no_run
    /// # async fn example(client: kcpq_smol::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut questions = client.subscribe("echo").await?;
    /// while let Some(question) = questions.next().await {
    ///     question.respond(&client, question.payload()).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::publish`]; [`PublishError::NoReply`](crate::PublishError::NoReply) if its publisher wants no answer.
    pub fn respond<'c, P: AsRef<[u8]>>(&'c self, client: &'c Client, payload: P) -> Publish<'c, P> {
        Publish::new(client, self.reply_to(), payload)
    }

    /// The subject that an answer is to be published to, if its publisher wants one.
    pub fn reply_to(&self) -> Option<&str> {
        self.properties().reply()
    }

    fn properties(&self) -> Properties<'_> {
        let command = self.frame.get(LENGTH).copied().unwrap_or_default();
        let payload = self.frame.get(self.place().start..).unwrap_or_default();
        Frame { command, subject: &[], payload }.message().unwrap_or_default().1
    }

    /// Bytes that it takes in a queue.
    pub(crate) fn len(&self) -> u64 {
        self.frame.len() as u64
    }

    /// The payload, without a copy.
    pub fn into_payload(self) -> Bytes {
        self.frame.slice(self.place())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("subject", &self.subject()).field("payload", &self.payload().len()).finish()
    }
}
