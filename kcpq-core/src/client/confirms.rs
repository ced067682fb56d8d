//! Messages whose publisher wants to know what becomes of them (PROTOCOL.md 3.12).

use alloc::collections::VecDeque;

use super::awaited::Awaited;
use super::event::{ConfirmError, ConfirmFailure, ConfirmId};
use super::{Client, Overflow, State};
use crate::frame::properties::{self, PropertiesBuf};
use crate::frame::{self, Properties};
use crate::lane::Lane;
use crate::outbox::{Dialect, FrameStore};
use crate::puback::PubAck;
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
    news: VecDeque<(ConfirmId, Result<u32, ConfirmFailure>)>,
}

#[derive(Clone, Copy, Debug)]
struct Unconfirmed {
    /// Which message of its lane it is, as [`Outgoing`](super::outgoing::Outgoing) counts them.
    message: u64,
    lane: Lane,
    /// Bytes of its frame.
    len: usize,
}

impl Confirms {
    /// The server says what became of a message. False if that makes no sense.
    pub(super) fn on_puback(&mut self, payload: &[u8]) -> bool {
        let ack = PubAck::decode(payload);
        if let Some(PubAck { number, outcome }) = ack
            && self.awaited.remove(number).is_some()
        {
            self.news.push_back((ConfirmId(number), outcome.map_err(ConfirmFailure::Rejected)));
        }
        ack.is_some()
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
        self.news.extend(failed.into_iter().map(|number| (ConfirmId(number), Err(why))));
    }

    /// Lets time run out.
    pub(super) fn on_time(&mut self, now: Instant) {
        let expired = self.awaited.expire(now);
        self.news.extend(expired.into_iter().map(|number| (ConfirmId(number), Err(ConfirmFailure::TimedOut))));
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.awaited.next_timeout()
    }

    /// What the user is to be told, once.
    pub(super) fn poll(&mut self) -> Option<(ConfirmId, Result<u32, ConfirmFailure>)> {
        self.news.pop_front()
    }
}

impl<S: FrameStore> Client<S> {
    /// Publishes a message and asks what becomes of it: [`Event::Confirmed`](super::Event::Confirmed) says to how many sessions
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
        let plain = self.session.dialect == Dialect::Plain && !matches!(self.state(), State::Waiting { .. });
        if plain || self.server.is_some_and(|server| !server.confirms()) {
            return Err(ConfirmError::Unsupported);
        }
        let number = self.confirms.awaited.upcoming().ok_or(ConfirmError::TooMany)?;
        let mut properties = PropertiesBuf::new();
        properties
            .append(confirmed.properties)
            .and_then(|()| properties.confirm(number))
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
        self.confirms.awaited.insert(number, self.now + confirmed.within, Unconfirmed { message, lane, len });
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
