//! Messages whose publisher wants to know what becomes of them (PROTOCOL.md 3.12).

use core::fmt;

use heapless::Deque;

use super::awaited::{Awaited, MAX_AWAITED, Place};
use super::event::{ConfirmError, ConfirmFailure, ConfirmId, Event, PublishError, StoreFailure};
use super::inbound::NO_TEXT;
use super::memory::LendError;
use super::{Client, Overflow, State};
use crate::frame::properties::{self, Behind, is_store_id};
use crate::frame::{self, Frame, Properties, command};
use crate::lane::Lane;
use crate::outbox::{Dialect, FrameStore};
use crate::puback::{PubAck, Rejection};
use crate::store::{Lent, Store};
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
pub(super) struct Confirms<S: Store> {
    awaited: Awaited<S, Unconfirmed>,
    /// How many of them have failed, of which the user is still to be told.
    failed: usize,
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
    /// No word comes of it, and why.
    failed: Option<ConfirmFailure>,
}

impl<S: Store> Confirms<S> {
    pub(super) fn new() -> Self {
        Self { awaited: Awaited::new(), failed: 0 }
    }

    /// True if the server says what became of a message, and somebody waits to hear that; `None` if it makes no sense.
    pub(super) fn concerns(&mut self, payload: &[u8]) -> Option<bool> {
        let PubAck { number, .. } = PubAck::decode(payload)?;
        Some(self.awaited.get_mut(number).is_some())
    }

    /// What the user is to be told of a frame, if it says what became of a message.
    pub(super) fn told<'e>(&mut self, frame: Frame<'e>) -> Option<Event<'e, S>> {
        if frame.command != command::PUBACK {
            return None;
        }
        let PubAck { number, outcome, stored } = PubAck::decode(frame.payload)?;
        let Unconfirmed { is_to_be_stored, failed, .. } = self.awaited.remove(number)?;
        self.failed -= usize::from(failed.is_some());
        let id = ConfirmId(number);
        if !is_to_be_stored {
            return Some(Event::Confirmed { id, outcome: outcome.map_err(ConfirmFailure::Rejected) });
        }
        let outcome = match outcome {
            Ok(_) => stored.ok_or(StoreFailure::Unconfirmed(ConfirmFailure::Unsupported)),
            Err(Rejection::NotStored) => {
                Err(StoreFailure::Refused(core::str::from_utf8(frame.subject).unwrap_or(NO_TEXT)))
            }
            Err(Rejection::NoStream) => Err(StoreFailure::NoStream),
            Err(Rejection::InDoubt) => Err(StoreFailure::InDoubt),
            Err(why) => Err(StoreFailure::Unconfirmed(ConfirmFailure::Rejected(why))),
        };
        Some(Event::Stored { id, outcome })
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
        let Self { awaited, failed } = self;
        awaited.retain(|_, _, unconfirmed| {
            if which(unconfirmed) {
                unconfirmed.fail(why, failed);
            }
            true
        });
    }

    /// Lets time run out.
    pub(super) fn on_time(&mut self, now: Instant) {
        let Self { awaited, failed } = self;
        awaited.expire(now, |_, unconfirmed| {
            unconfirmed.fail(ConfirmFailure::TimedOut, failed);
            true
        });
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.awaited.next_timeout()
    }

    /// The next of those that have failed, once.
    pub(super) fn poll<'e>(&mut self) -> Option<Event<'e, S>> {
        if self.failed == 0 {
            return None;
        }
        let (number, unconfirmed) = self.awaited.take_one(|unconfirmed| unconfirmed.failed.is_some())?;
        self.failed -= 1;
        let (id, why) = (ConfirmId(number), unconfirmed.failed?);
        Some(match unconfirmed.is_to_be_stored {
            true => Event::Stored { id, outcome: Err(StoreFailure::Unconfirmed(why)) },
            false => Event::Confirmed { id, outcome: Err(why) },
        })
    }

    /// It is not waited for what becomes of a message. False if it was not, or if that is known.
    fn forget(&mut self, id: ConfirmId) -> bool {
        let Some(unconfirmed) = self.awaited.remove(id.0) else { return false };
        self.failed -= usize::from(unconfirmed.failed.is_some());
        unconfirmed.failed.is_none()
    }
}

impl Unconfirmed {
    /// No word comes of it, unless it is known already that none does; counts those of which the user is to be told.
    fn fail(&mut self, why: ConfirmFailure, failed: &mut usize) {
        *failed += usize::from(self.failed.is_none());
        self.failed.get_or_insert(why);
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
        let (now, Confirmed { properties, ttl, within, lane }) = (self.now, *confirmed);
        let number = self.confirms.awaited.upcoming().ok_or(ConfirmError::TooMany)?;
        let refused = |error| ConfirmError::Refused(PublishError::Properties(error));
        let behind = Behind::asking(properties, number, store).map_err(refused)?;
        let (expires, dropped) = (ttl.map(|ttl| now + ttl), self.stats.dropped_overflow);
        let published = self.publish_until(now, lane, subject, payload, behind, expires);
        published.map_err(ConfirmError::Refused)?;
        let ttl = if expires.is_some() { properties::TTL } else { 0 };
        let len = frame::HEAD + subject.len() + payload.len() + behind.len() + ttl + properties::END;
        let message = self.outgoing.published(lane);
        let unconfirmed = Unconfirmed { message, lane, len, is_to_be_stored: store.is_some(), failed: None };
        self.confirms.awaited.insert(now + within, unconfirmed);
        if self.config.overflow == Overflow::DropNewest && self.stats.dropped_overflow > dropped {
            self.confirms.on_dropped(lane, message);
        }
        self.advance();
        Ok(ConfirmId(number))
    }

    /// What becomes of a message is not waited for any more, and nothing is told of it. False if it was not, or if what became of
    /// it is known.
    pub fn forget_confirmation(&mut self, id: ConfirmId) -> bool {
        self.confirms.forget(id)
    }
}

/// Memory for `MESSAGES` messages of which it is to be heard what became of them, 1 to 65,536, for a client without an allocator.
///
/// All zeros, as [`Memory`](super::Memory) is.
pub struct ConfirmMemory<const MESSAGES: usize> {
    places: Deque<Place<Unconfirmed>, MESSAGES>,
}

impl<const M: usize> ConfirmMemory<M> {
    /// Empty memory.
    pub const fn new() -> Self {
        const { assert!(M >= 1 && M <= MAX_AWAITED, "MESSAGES is 1 to 65,536") };
        Self { places: Deque::new() }
    }
}

impl<const M: usize> Default for ConfirmMemory<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const M: usize> fmt::Debug for ConfirmMemory<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfirmMemory").field("messages", &M).finish_non_exhaustive()
    }
}

impl<'a, const TEXT: usize> Client<Lent<'a, TEXT>> {
    /// Lends memory for messages of which it is to be heard what became of them, once: without it
    /// [`publish_confirmed`](Self::publish_confirmed) and [`publish_stored`](Self::publish_stored) refuse each with
    /// [`ConfirmError::TooMany`], and with it those that it has no room for.
    ///
    /// # Errors
    /// [`LendError::Late`]: the client has such memory.
    pub fn lend_confirms<const M: usize>(&mut self, memory: &'a mut ConfirmMemory<M>) -> Result<(), LendError> {
        memory.places.clear();
        if self.confirms.awaited.lend(memory.places.as_mut_view()) { Ok(()) } else { Err(LendError::Late) }
    }
}
