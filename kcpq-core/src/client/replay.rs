//! A subscription to what is stored, as the client remembers it: where it goes on after a loss of the connection
//! (PROTOCOL.md 3.15).

use alloc::boxed::Box;

use super::Client;
use super::event::SubscribeError;
use super::subscriptions::{SubscriptionId, Wants};
use crate::frame::command;
use crate::lane::{Asked, Lane};
use crate::outbox::FrameStore;
use crate::replay::{MsgAck, Settlement, Start, is_durable};
use crate::time::Instant;

/// What is wanted of a subscription to what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Replaying<'s> {
    /// Where it begins; of a durable one only the first time that there is one of its name.
    pub start: Start,
    /// Under this name, of 1 to 32 bytes of `A-Z`, `a-z`, `0-9`, `-` and `_`, the store remembers which messages were
    /// [settled](Client::settle): all others come again, to whoever subscribes next under it. Several that have the name at
    /// the same time share the messages.
    pub durable: Option<&'s str>,
    /// As with [`Subscribing::lane`](super::Subscribing::lane), for this subscription alone.
    pub lane: Option<Lane>,
}

/// What is remembered of one subscription; nothing if it is not to what is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay(Option<Box<Place>>);

#[derive(Clone, Debug)]
struct Place {
    start: Start,
    durable: Option<Box<str>>,
    begun: Instant,
    /// The sequence of the first message that was not handed out.
    next: Option<u64>,
}

#[cfg(feature = "defmt")]
impl defmt::Format for Replay {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Replay({=bool})", self.0.is_some());
    }
}

impl Replay {
    /// It is to what is stored.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// What is to be asked for now.
    pub(super) fn asks(&self, now: Instant) -> (Option<Start>, Option<&str>) {
        let Some(place) = &self.0 else { return (None, None) };
        let start = match (place.next, place.start) {
            (Some(next), _) => Start::From(next),
            // The moment stays where it was.
            (None, Start::Since(span)) => Start::Since(span + now.since(place.begun)),
            (None, start) => start,
        };
        (Some(start), place.durable.as_deref())
    }

    /// The server has begun with the message of this sequence, if it says so.
    pub(super) fn on_begun(&mut self, first: Option<u64>) {
        if let Some(place) = self.0.as_mut().filter(|place| place.durable.is_none() && place.next.is_none()) {
            place.next = first;
        }
    }

    /// A message of this sequence is handed out. Of a durable one the store remembers it.
    pub(super) fn on_handed_out(&mut self, sequence: u64) {
        if let Some(place) = self.0.as_mut().filter(|place| place.durable.is_none()) {
            place.next = sequence.checked_add(1);
        }
    }
}

impl<S: FrameStore> Client<S> {
    /// Subscribes to what is stored: messages of the past, from where [`start`](Replaying::start) says, and then those that
    /// are stored from now on, each once, in the order in which they were stored. They are handed out as others are, and
    /// [`Properties::stored`](crate::frame::Properties::stored) says which they are. After a loss of the connection it goes on
    /// behind the last one that was handed out, and a durable one with those that were not settled.
    ///
    /// A server that hands out nothing that is stored fails it
    /// ([`SubscribeFailure::NoReplays`](super::SubscribeFailure::NoReplays)).
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); [`SubscribeError::Durable`].
    pub fn subscribe_stored(
        &mut self,
        now: Instant,
        pattern: &str,
        wanted: &Replaying<'_>,
    ) -> Result<SubscriptionId, SubscribeError> {
        let Replaying { start, durable, lane } = *wanted;
        if durable.is_some_and(|name| !is_durable(name)) {
            return Err(SubscribeError::Durable);
        }
        let place = Place { start, durable: durable.map(Into::into), begun: self.now.max(now), next: None };
        let lane = lane.map(Asked::of).unwrap_or_default();
        let wants = Wants { lane, replay: Replay(Some(Box::new(place))), ..Wants::default() };
        self.subscribe_to(now, pattern, wants, None)
    }

    /// Says what is to become of a message of a durable subscription, by its sequence. False if that cannot be said, since there
    /// is no such subscription or no connection: then it comes again. It is sent once; whether the store has heard it is not
    /// known.
    pub fn settle(&mut self, now: Instant, id: SubscriptionId, sequence: u64, settlement: Settlement) -> bool {
        self.set_now(now);
        let payload = MsgAck { number: id.0, sequence, settlement }.encode();
        self.is_connected()
            && self.subscriptions.is_listed(id)
            && self.session.control(command::MSGACK, &[], &payload).is_ok()
    }
}
