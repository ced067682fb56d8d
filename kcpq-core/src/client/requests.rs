//! Requests: messages whose answers come back to who published them (PROTOCOL.md 3.10).
//!
//! All answers to a client come to one subscription, `_INBOX.TOKEN.*`, whose name others do not know; the last token of their
//! subject is the number of the request.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use super::awaited::{Awaited, MAX_AWAITED};
use super::event::{PublishError, RequestError, RequestFailure, RequestId, SubscribeError, SubscribeFailure};
use super::subscriptions::{SubscriptionId, Wants};
use super::{Client, State};
use crate::frame::properties::PropertiesBuf;
use crate::frame::{Frame, Properties, PropertyError};
use crate::lane::Lane;
use crate::outbox::{Dialect, FrameStore};
use crate::rng::{Rng, draw};
use crate::store::{Heap, Text};
use crate::time::{Duration, Instant};

/// How a request is made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Request<'r> {
    /// What it carries besides: headers.
    pub headers: Properties<'r>,
    /// For how long answers are waited for.
    pub within: Duration,
    /// After how many answers it is done, at least 1.
    pub replies: u32,
}

impl Default for Request<'_> {
    /// One answer within 5 s, without headers.
    fn default() -> Self {
        Self { headers: Properties::NONE, within: Duration::from_secs(5), replies: 1 }
    }
}

/// The most requests that wait for answers at the same time.
pub const MAX_REQUESTS: usize = MAX_AWAITED;

/// The requests of a client.
pub(super) struct Requests {
    /// Random: the name of the inbox comes from it.
    seed: u64,
    /// Made with the first request.
    inbox: Option<Inbox>,
    /// How many answers to each are still waited for.
    awaited: Awaited<Heap, u32>,
    /// What the user is to be told.
    failed: VecDeque<(RequestId, RequestFailure)>,
}

#[derive(Debug)]
struct Inbox {
    subscription: SubscriptionId,
    /// What its subjects begin with: all but the number.
    prefix: String,
}

impl Requests {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, inbox: None, awaited: Awaited::new(), failed: VecDeque::new() }
    }

    /// True if answers come to this subscription.
    pub(super) fn is_inbox(&self, id: SubscriptionId) -> bool {
        self.inbox.as_ref().is_some_and(|inbox| inbox.subscription == id)
    }

    /// True if a message of this subject is an answer, to whatever request.
    #[cfg(feature = "alloc")]
    pub(super) fn is_answer(&self, subject: &[u8]) -> bool {
        self.named(subject).is_some()
    }

    /// An answer has come: to which request, and whether it is the last. `None` if nobody waits for it.
    pub(super) fn on_reply(&mut self, subject: &[u8]) -> Option<(RequestId, bool)> {
        let id = self.named(subject)?;
        let left = self.awaited.get_mut(id.0)?;
        *left -= 1;
        let last = *left == 0;
        if last {
            self.awaited.remove(id.0);
        }
        Some((id, last))
    }

    /// The name of a request, if the subject is that of answers to it.
    fn named(&self, subject: &[u8]) -> Option<RequestId> {
        let number = subject.strip_prefix(self.inbox.as_ref()?.prefix.as_bytes())?;
        Some(RequestId(core::str::from_utf8(number).ok()?.parse().ok()?))
    }

    /// True if this is not a message but the server's word that nobody is there to answer a request of this client, which
    /// is for no subscription, whatever it matches.
    pub(super) fn hears_of_nobody(&mut self, frame: Frame<'_>) -> bool {
        let Some(id) = self.named(frame.subject) else { return false };
        let is_word = frame.message().is_some_and(|(_, properties)| properties.has_nobody());
        if is_word && self.awaited.remove(id.0).is_some() {
            self.failed.push_back((id, RequestFailure::NoResponders));
        }
        is_word
    }

    /// What came of asking for a subscription, if that is the one for answers.
    pub(super) fn on_outcome(&mut self, id: SubscriptionId, outcome: Result<(), SubscribeFailure>) -> bool {
        let is_inbox = self.is_inbox(id);
        if is_inbox && let Err(why) = outcome {
            self.inbox = None;
            self.fail_all(RequestFailure::Inbox(why));
        }
        is_inbox
    }

    /// No answer comes any more, to none of them.
    pub(super) fn fail_all(&mut self, why: RequestFailure) {
        self.awaited.retain(|number, _, _| {
            self.failed.push_back((RequestId(number), why));
            false
        });
    }

    /// Lets time run out.
    pub(super) fn on_time(&mut self, now: Instant) {
        self.awaited.expire(now, |number, _| {
            self.failed.push_back((RequestId(number), RequestFailure::TimedOut));
            false
        });
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.awaited.next_timeout()
    }

    /// What the user is to be told, once.
    pub(super) fn poll_failed(&mut self) -> Option<(RequestId, RequestFailure)> {
        self.failed.pop_front()
    }

    /// The next request, and where answers to it are to go.
    fn upcoming(&mut self) -> Option<(RequestId, String)> {
        let id = RequestId(self.awaited.upcoming()?);
        Some((id, format!("{}{}", self.inbox.as_ref()?.prefix, id.0)))
    }
}

impl<S: FrameStore> Client<S> {
    /// Publishes a message that asks for answers. They come as [`Event::Reply`](super::Event::Reply), from whoever is subscribed
    /// to `subject` and answers; that no more come, and why, as [`Event::RequestFailed`](super::Event::RequestFailed), unless
    /// the last one was marked so. A server that finds nobody subscribed says so at once.
    ///
    /// Without a connection it waits for one. A connection that is lost takes no request with it: its answers may still
    /// come, or its time runs out.
    ///
    /// # Errors
    /// [`RequestError`]: nothing was published.
    pub fn request(
        &mut self,
        now: Instant,
        subject: &str,
        payload: &[u8],
        request: &Request<'_>,
    ) -> Result<RequestId, RequestError> {
        self.set_now(now);
        if self.session.dialect == Dialect::Plain && !matches!(self.state(), State::Waiting { .. }) {
            return Err(RequestError::Unsupported);
        }
        let refused = |error| RequestError::Refused(PublishError::Properties(error));
        // Who has answers sent elsewhere does not wait for them.
        if request.headers.reply().is_some() {
            return Err(refused(PropertyError::Malformed));
        }
        if self.requests.inbox.is_none() {
            self.open_inbox()?;
        }
        let (id, reply) = self.requests.upcoming().ok_or(RequestError::TooMany)?;
        let mut properties = PropertiesBuf::new();
        properties.reply(&reply).and_then(|()| properties.append(request.headers)).map_err(refused)?;
        let expires = self.now + request.within;
        // What has waited here for so long nobody waits for any more.
        let behind = properties.properties().into();
        let published = self.publish_until(now, Lane::NORMAL, subject, payload, behind, Some(expires));
        published.map_err(RequestError::Refused)?;
        self.requests.awaited.insert(expires, request.replies.max(1));
        Ok(id)
    }

    /// Answers to a request are not waited for any more. False if they were not.
    pub fn forget_request(&mut self, id: RequestId) -> bool {
        self.requests.awaited.remove(id.0).is_some()
    }

    /// Subscribes to what answers are to be published to.
    fn open_inbox(&mut self) -> Result<(), RequestError> {
        if self.is_ending() {
            return Err(RequestError::Refused(PublishError::Closed));
        }
        // Not one of the numbers that datagrams show.
        let mut rng = Rng::with_seed(!self.requests.seed);
        let token: String = (0..4).map(|_| format!("{:08x}", draw(&mut rng))).collect();
        let prefix = format!("_INBOX.{token}.");
        let pattern = S::Text::new(&format!("{prefix}*")).map_err(SubscribeError::TooLong);
        let pattern = pattern.map_err(RequestError::Inbox)?;
        let wants = Wants { without_kept: true, ..Wants::default() };
        let added = if self.subscriptions.has_room() { self.subscriptions.add(pattern, wants) } else { None };
        let subscription = added.ok_or(RequestError::Inbox(SubscribeError::TooMany))?;
        self.requests.inbox = Some(Inbox { subscription, prefix });
        self.stats.total_subscriptions += 1;
        self.advance();
        Ok(())
    }
}
