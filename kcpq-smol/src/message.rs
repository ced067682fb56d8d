//! A received message.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use kcpq_core::frame::{Frame, HEAD, LENGTH, Limits, Properties};

use crate::client::Client;
use crate::headers::Headers;
use crate::operation::Publish;

/// A received message. Cheap to clone: clones share the buffer it was received in.
#[derive(Clone)]
pub struct Message {
    frame: Bytes,
    subject: Range<usize>,
    /// Where the payload ends; what it carries besides follows.
    end: usize,
}

impl Message {
    /// Cuts the first frame off a run of whole frames (PROTOCOL.md 3.1).
    pub(crate) fn cut(run: &mut Bytes) -> Option<Self> {
        let frame = Frame::parse(run, &Limits::NONE).ok()?;
        let (len, subject) = (frame.encoded_len(), HEAD..HEAD + frame.subject.len());
        let end = subject.end + frame.message()?.0.len();
        // The last one takes the run itself.
        let frame = if len == run.len() { std::mem::take(run) } else { run.split_to(len) };
        Some(Self { frame, subject, end })
    }

    /// The subject it was published to.
    pub fn subject(&self) -> &str {
        // The core hands out valid subjects only.
        self.frame.get(self.subject.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.frame.get(self.subject.end..self.end).unwrap_or_default()
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
        let payload = self.frame.get(self.subject.end..).unwrap_or_default();
        Frame { command, subject: &[], payload }.message().unwrap_or_default().1
    }

    /// Bytes that it takes in a queue.
    pub(crate) fn len(&self) -> u64 {
        self.frame.len() as u64
    }

    /// The payload, without a copy.
    pub fn into_payload(self) -> Bytes {
        self.frame.slice(self.subject.end..self.end)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("subject", &self.subject()).field("payload", &self.payload().len()).finish()
    }
}
