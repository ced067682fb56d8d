//! Messages whose publisher wants to know what becomes of them (PROTOCOL.md 3.12).

use alloc::collections::VecDeque;
use alloc::string::String;

use super::awaited::Awaited;
use super::event::{ConfirmError, ConfirmFailure, ConfirmId, Event, StoreFailure};
use super::{Client, Overflow, State};
use crate::frame::properties::{self, PropertiesBuf, is_store_id};
use crate::frame::{self, Properties};
use crate::lane::Lane;
use crate::outbox::{Dialect, FrameStore};
use crate::puback::{PubAck, Rejection, Stored};
use crate::store::Store;
use crate::time::{Duration, Instant};

/// How a message is published whose publisher wants to know what becomes of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Confirmed<'c> {
    /// What it carries besides.
    pub properties: Properties<'c>,
    /// For how long it is worth something, if not for ever; see `Client::publish_for`.
    pub ttl: Option<Duration>,
    /// For how long the server's word is waited for.
    pub within: Duration,
    /// The lane in which it goes; see `Client::publish_in`.
    pub lane: Lane,
}

impl Default for Confirmed<'_> {
    /// Within 5 s, without properties.
    fn default() -> Self {
        Self { properties: Properties::NONE, ttl: None, within: Duration::from_secs(5), lane: Lane::NORMAL }
    }
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    awaited: Awaited<Unconfirmed>,
    /// What the user is to be told.
    news: VecDeque<News>,
}

#[derive(Clone, Copy, Debug)]
struct Unconfirmed {
    /// Which message of its lane it is, as [`Outgoing`](super::outgoing::Outgoing) counts them.
    message: u64,
    lane: Lane,
    /// Bytes of its frame.
    len: usize,
    /// It is to be stored.
    is_to_be_stored: bool,
}

#[derive(Debug)]
enum News {
    Confirmed(ConfirmId, Result<u32, ConfirmFailure>),
    Stored(ConfirmId, Result<Stored, StoreFailure>),
}

impl News {
    fn failed(number: u32, unconfirmed: &Unconfirmed, why: ConfirmFailure) -> Self {
        match unconfirmed.is_to_be_stored {
            true => Self::Stored(ConfirmId(number), Err(StoreFailure::Unconfirmed(why))),
            false => Self::Confirmed(ConfirmId(number), Err(why)),
        }
    }
}

impl Confirms {
    /// The server says what became of a message, with a text for people. False if that makes no sense.
    pub(super) fn on_puback(&mut self, text: &[u8], payload: &[u8]) -> bool {
        let Some(PubAck { number, outcome, stored }) = PubAck::decode(payload) else { return false };
        let Some(unconfirmed) = self.awaited.remove(number) else { return true };
        let id = ConfirmId(number);
        let news = match (unconfirmed.is_to_be_stored, outcome) {
            (false, outcome) => News::Confirmed(id, outcome.map_err(ConfirmFailure::Rejected)),
            (true, Ok(_)) => News::Stored(id, stored.ok_or(StoreFailure::Unconfirmed(ConfirmFailure::Unsupported))),
            (true, Err(Rejection::NotStored)) => {
                News::Stored(id, Err(StoreFailure::Refused(String::from_utf8_lossy(text).into())))
            }
            (true, Err(Rejection::NoStream)) => News::Stored(id, Err(StoreFailure::NoStream)),
            (true, Err(Rejection::InDoubt)) => News::Stored(id, Err(StoreFailure::InDoubt)),
            (true, Err(why)) => News::failed(number, &unconfirmed, ConfirmFailure::Rejected(why)),
        };
        self.news.push_back(news);
        true
    }

    /// A server answers, which says what becomes of messages or not, and whether they are stored.
    pub(super) fn on_connected(&mut self, confirms: bool, stores: bool) {
        let is_told = |unconfirmed: &Unconfirmed| if unconfirmed.is_to_be_stored { stores } else { confirms };
        self.fail(ConfirmFailure::Unsupported, |unconfirmed| !is_told(unconfirmed));
    }

    /// The connection is lost. All up to this message of each lane were on their way, or dropped before.
    pub(super) fn on_lost(&mut self, gone: impl Fn(Lane) -> u64) {
        self.fail(ConfirmFailure::InDoubt, |unconfirmed| unconfirmed.message <= gone(unconfirmed.lane));
    }

    /// The queue was full, and this message was dropped for another one.
    pub(super) fn on_dropped(&mut self, lane: Lane, message: u64) {
        self.fail(ConfirmFailure::Dropped, |unconfirmed| (unconfirmed.lane, unconfirmed.message) == (lane, message));
    }

    /// The server takes no frames longer than this, and all behind this message of each lane were dropped that are.
    pub(super) fn on_limit(&mut self, limit: usize, gone: impl Fn(Lane) -> u64) {
        self.fail(ConfirmFailure::TooLarge, |unconfirmed| {
            unconfirmed.message > gone(unconfirmed.lane) && unconfirmed.len > limit
        });
    }

    /// No word comes of any of them.
    pub(super) fn fail_all(&mut self, why: ConfirmFailure) {
        self.fail(why, |_| true);
    }

    fn fail(&mut self, why: ConfirmFailure, which: impl Fn(&Unconfirmed) -> bool) {
        let failed = self.awaited.remove_if(|unconfirmed, _| which(unconfirmed));
        self.news.extend(failed.iter().map(|(number, unconfirmed)| News::failed(*number, unconfirmed, why)));
    }

    /// Lets time run out.
    pub(super) fn on_time(&mut self, now: Instant) {
        let expired = self.awaited.expire(now);
        let failed = |(number, unconfirmed): &_| News::failed(*number, unconfirmed, ConfirmFailure::TimedOut);
        self.news.extend(expired.iter().map(failed));
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.awaited.next_timeout()
    }

    /// What the user is to be told, once.
    pub(super) fn poll<'e, S: Store>(&mut self) -> Option<Event<'e, S>> {
        Some(match self.news.pop_front()? {
            News::Confirmed(id, outcome) => Event::Confirmed { id, outcome },
            News::Stored(id, outcome) => Event::Stored { id, outcome },
        })
    }
}

impl<S: FrameStore> Client<S> {
    /// Publishes a message and asks what becomes of it: [`Event::Confirmed`] says to how many sessions
    /// the server has given it, or why it has not. That a session has it does not say that its program has read it.
    ///
    /// Without a connection it waits for one. If one is lost while the message is on its way, nobody knows whether it has
    /// arrived: that is said, and nothing is sent twice. Once its time is over, nothing more is said of it; it may still be
    /// routed, unless it has a `ttl`.
    ///
    /// # Errors
    /// [`ConfirmError`]: nothing was published.
    pub fn publish_confirmed(
        &mut self,
        now: Instant,
        subject: &str,
        payload: &[u8],
        confirmed: &Confirmed<'_>,
    ) -> Result<ConfirmId, ConfirmError> {
        self.set_now(now);
        if self.is_with_original() || self.server.is_some_and(|server| !server.confirms()) {
            return Err(ConfirmError::Unsupported);
        }
        self.publish_and_ask(subject, payload, confirmed, None)
    }

    /// Publishes a message that is to be stored by a stream behind the server's backbone (PROTOCOL.md 3.12):
    /// [`Event::Stored`] says under which number it is there, or why it is not. What has the same `id` is
    /// stored once, as far back as the stream looks (two minutes unless it was told otherwise), so that it can be published
    /// again if nobody knows; an empty one is none. Sessions get the message as any other, and wait for nothing.
    ///
    /// The server tries until the message's `ttl` is over, or for a minute without one. All else is as with
    /// [`publish_confirmed`](Self::publish_confirmed).
    ///
    /// # Errors
    /// [`ConfirmError`]: nothing was published.
    pub fn publish_stored(
        &mut self,
        now: Instant,
        subject: &str,
        payload: &[u8],
        id: &str,
        confirmed: &Confirmed<'_>,
    ) -> Result<ConfirmId, ConfirmError> {
        self.set_now(now);
        if !is_store_id(id) {
            return Err(ConfirmError::StoreId);
        }
        if self.is_with_original() || self.server.is_some_and(|server| !server.stores()) {
            return Err(ConfirmError::NoStore);
        }
        self.publish_and_ask(subject, payload, confirmed, Some(id))
    }

    fn is_with_original(&self) -> bool {
        self.session.dialect == Dialect::Plain && !matches!(self.state(), State::Waiting { .. })
    }

    /// Publishes a message and asks what becomes of it, or that it is stored under this id.
    fn publish_and_ask(
        &mut self,
        subject: &str,
        payload: &[u8],
        confirmed: &Confirmed<'_>,
        store: Option<&str>,
    ) -> Result<ConfirmId, ConfirmError> {
        let now = self.now;
        let number = self.confirms.awaited.upcoming().ok_or(ConfirmError::TooMany)?;
        let mut properties = PropertiesBuf::new();
        properties
            .append(confirmed.properties)
            .and_then(|()| match store {
                None => properties.confirm(number),
                Some(id) => properties.store(number, id),
            })
            .map_err(|error| ConfirmError::Refused(super::PublishError::Properties(error)))?;
        let expires = confirmed.ttl.map(|ttl| self.now + ttl);
        let dropped = self.stats.dropped_overflow;
        let lane = confirmed.lane;
        self.publish_until(now, lane, subject, payload, properties.properties(), expires)
            .map_err(ConfirmError::Refused)?;
        let behind = properties.properties().as_bytes().len() + properties::END;
        let ttl = if expires.is_some() { properties::TTL } else { 0 };
        let len = frame::HEAD + subject.len() + payload.len() + behind + ttl;
        let message = self.outgoing.published(lane);
        let unconfirmed = Unconfirmed { message, lane, len, is_to_be_stored: store.is_some() };
        self.confirms.awaited.insert(number, self.now + confirmed.within, unconfirmed);
        if self.config.overflow == Overflow::DropNewest && self.stats.dropped_overflow > dropped {
            self.confirms.on_dropped(lane, message);
        }
        self.advance();
        Ok(ConfirmId(number))
    }

    /// What becomes of a message is not waited for any more. False if it was not.
    pub fn forget_confirmation(&mut self, id: ConfirmId) -> bool {
        self.confirms.awaited.remove(id.0).is_some()
    }
}
