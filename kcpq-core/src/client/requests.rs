//! Requests: messages whose answers come back to who published them (PROTOCOL.md 3.10).
//!
//! All answers to a client come to one subscription, `_INBOX.TOKEN.*`, whose name others do not know; the last token of their
//! subject is the number of the request.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::event::{PublishError, RequestError, RequestFailure, RequestId, SubscribeError, SubscribeFailure};
use super::subscriptions::{SubscriptionId, Wants};
use super::{Client, State};
use crate::frame::properties::PropertiesBuf;
use crate::frame::{Properties, PropertyError};
use crate::outbox::{Dialect, FrameStore};
use crate::rng::{Rng, draw};
use crate::store::Text;
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
pub const MAX_REQUESTS: usize = 1 << SLOT_BITS;
/// A request's number is that of its place in the table, and above that how often the place was used before.
const SLOT_BITS: u32 = 16;

/// The requests of a client.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Random: the name of the inbox comes from it.
    seed: u64,
    /// Made with the first request.
    inbox: Option<Inbox>,
    places: Vec<Place>,
    free: Vec<u16>,
    /// None runs out before this.
    next_timeout: Option<Instant>,
    /// What the user is to be told.
    failed: VecDeque<(RequestId, RequestFailure)>,
}

#[derive(Debug)]
struct Inbox {
    subscription: SubscriptionId,
    /// What its subjects begin with: all but the number.
    prefix: String,
}

#[derive(Debug, Default)]
struct Place {
    /// How often it was used before, wrapping.
    uses: u16,
    /// Answers that are still waited for; 0: it is free.
    left: u32,
    until: Instant,
}

impl Requests {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// True if answers come to this subscription.
    pub(super) fn is_inbox(&self, id: SubscriptionId) -> bool {
        self.inbox.as_ref().is_some_and(|inbox| inbox.subscription == id)
    }

    /// An answer has come: to which request, and whether it is the last. `None` if nobody waits for it, or if it is the word
    /// of the server that there is nobody to answer.
    pub(super) fn on_reply(&mut self, subject: &[u8], properties: Properties<'_>) -> Option<(RequestId, bool)> {
        let number = subject.strip_prefix(self.inbox.as_ref()?.prefix.as_bytes())?;
        let id = RequestId(core::str::from_utf8(number).ok()?.parse().ok()?);
        if properties.has_nobody() {
            if self.remove(id) {
                self.failed.push_back((id, RequestFailure::NoResponders));
            }
            return None;
        }
        let place = self.place(id)?;
        place.left -= 1;
        let last = place.left == 0;
        if last {
            self.release(id);
        }
        Some((id, last))
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
        for slot in 0..self.places.len() {
            if let Some(id) = self.used(slot) {
                self.release(id);
                self.failed.push_back((id, why));
            }
        }
        self.next_timeout = None;
    }

    /// Lets time run out.
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.next_timeout.is_none_or(|at| now < at) {
            return;
        }
        self.next_timeout = None;
        for slot in 0..self.places.len() {
            let Some((id, until)) = self.used(slot).zip(self.places.get(slot).map(|place| place.until)) else {
                continue;
            };
            if until <= now {
                self.release(id);
                self.failed.push_back((id, RequestFailure::TimedOut));
            } else {
                self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// What the user is to be told, once.
    pub(super) fn poll_failed(&mut self) -> Option<(RequestId, RequestFailure)> {
        self.failed.pop_front()
    }

    /// A place for a request, and where answers to it are to go. Nothing is told of it before it is [armed](Self::arm).
    fn add(&mut self) -> Option<(RequestId, String)> {
        if self.free.is_empty() && self.places.len() < MAX_REQUESTS {
            self.free.push(self.places.len() as u16);
            self.places.push(Place::default());
        }
        let slot = *self.free.last()?;
        let id = id(slot.into(), self.places.get(usize::from(slot))?);
        Some((id, format!("{}{}", self.inbox.as_ref()?.prefix, id.0)))
    }

    /// The request is on its way.
    fn arm(&mut self, id: RequestId, until: Instant, left: u32) {
        if let Some(place) = self.places.get_mut(id.slot()) {
            self.free.pop();
            (place.until, place.left) = (until, left.max(1));
            self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
        }
    }

    /// The request at this place, if it is used.
    fn used(&self, slot: usize) -> Option<RequestId> {
        self.places.get(slot).filter(|place| place.left > 0).map(|place| id(slot, place))
    }

    fn place(&mut self, id: RequestId) -> Option<&mut Place> {
        self.places.get_mut(id.slot()).filter(|place| place.left > 0 && place.uses == id.uses())
    }

    fn remove(&mut self, id: RequestId) -> bool {
        let known = self.place(id).is_some();
        if known {
            self.release(id);
        }
        known
    }

    fn release(&mut self, id: RequestId) {
        if let Some(place) = self.places.get_mut(id.slot()) {
            (place.left, place.uses) = (0, place.uses.wrapping_add(1));
            self.free.push(id.slot() as u16);
        }
    }
}

fn id(slot: usize, place: &Place) -> RequestId {
    RequestId(u32::from(place.uses) << SLOT_BITS | slot as u32)
}

impl RequestId {
    fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    fn uses(self) -> u16 {
        (self.0 >> SLOT_BITS) as u16
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
        let (id, reply) = self.requests.add().ok_or(RequestError::TooMany)?;
        let mut properties = PropertiesBuf::new();
        properties.reply(&reply).and_then(|()| properties.append(request.headers)).map_err(refused)?;
        let expires = self.now + request.within;
        // What has waited here for so long nobody waits for any more.
        let published = self.publish_until(now, subject, payload, properties.properties(), Some(expires));
        published.map_err(RequestError::Refused)?;
        self.requests.arm(id, expires, request.replies);
        Ok(id)
    }

    /// Answers to a request are not waited for any more. False if they were not.
    pub fn forget_request(&mut self, id: RequestId) -> bool {
        self.requests.remove(id)
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
        let wants = Wants { latest: false, without_kept: true };
        let added = if self.subscriptions.has_room() { self.subscriptions.add(pattern, wants) } else { None };
        let subscription = added.ok_or(RequestError::Inbox(SubscribeError::TooMany))?;
        self.requests.inbox = Some(Inbox { subscription, prefix });
        self.stats.total_subscriptions += 1;
        self.advance();
        Ok(())
    }
}
