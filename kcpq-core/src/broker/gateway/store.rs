//! What the gateway and the store behind the backbone say to each other. The store keeps messages in *streams*, and whoever
//! reads them, how far that has come: what NATS calls JetStream. How it is spoken to is the driver's.

use alloc::boxed::Box;

use crate::hello::Refusal;
use crate::replay::{Settlement, Start};
use crate::time::Duration;

/// What the store is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOrder {
    /// Somebody wants to read, under a number that is used once. [`StoreEvent::Opened`] or [`StoreEvent::Refused`] is the
    /// answer.
    Open {
        /// Its number.
        id: u32,
        /// The messages that are wanted: a pattern of subjects as they are at the backbone.
        pattern: Box<str>,
        /// Where it begins.
        start: Start,
        /// The name under which the store remembers how far it has come. What is read under one has to be
        /// [settled](Self::Settle), each message by itself; all else does not.
        durable: Option<Box<str>>,
    },
    /// So many messages more are to come, of which [`StoreEvent::Ended`] says if not all do.
    Pull {
        /// Of which.
        id: u32,
        /// How many.
        count: u32,
        /// No more than so many bytes, if there is a bound.
        bytes: Option<u32>,
    },
    /// What is to become of a message.
    Settle {
        /// By what the store knows it ([`StoredMessage::handle`]).
        handle: Box<str>,
        /// See there.
        settlement: Settlement,
    },
    /// Nobody reads any more.
    Close {
        /// Its number.
        id: u32,
    },
}

/// What comes of that.
#[derive(Clone, Copy, Debug)]
pub enum StoreEvent<'e> {
    /// It begins.
    Opened {
        /// Which.
        id: u32,
        /// No message of an earlier sequence comes; 0 if that is not known.
        first: u64,
        /// How many are stored for it.
        pending: u64,
    },
    /// It does not begin, or is no more.
    Refused {
        /// Which.
        id: u32,
        /// Why: [`Refusal::StoreAway`] if it may be otherwise in a moment.
        why: Refusal,
        /// The same for people.
        text: &'e str,
    },
    /// A message.
    Message(StoredMessage<'e>),
    /// The store still waits for messages to hand out.
    Alive {
        /// To whom.
        id: u32,
    },
    /// No more come of what was asked for last.
    Ended {
        /// By whom.
        id: u32,
        /// The next one is larger than the bound.
        too_large: bool,
    },
    /// The store does not know it any more.
    Lost {
        /// Which.
        id: u32,
    },
}

impl StoreEvent<'_> {
    /// Of which reader it is.
    pub fn id(&self) -> u32 {
        match self {
            Self::Opened { id, .. }
            | Self::Refused { id, .. }
            | Self::Alive { id }
            | Self::Ended { id, .. }
            | Self::Lost { id } => *id,
            Self::Message(message) => message.id,
        }
    }
}

/// A message from the store.
#[derive(Clone, Copy, Debug)]
pub struct StoredMessage<'m> {
    /// For whom.
    pub id: u32,
    /// Its subject there.
    pub subject: &'m str,
    /// Names and values.
    pub headers: &'m [(&'m str, &'m str)],
    /// The message.
    pub payload: &'m [u8],
    /// Its place in the stream.
    pub sequence: u64,
    /// The how manyth it is that is handed out under this number, from 1.
    pub place: u64,
    /// How often it was handed out under the durable name, this time included.
    pub deliveries: u32,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at: u64,
    /// How long ago that was.
    pub age: Duration,
    /// How many that are stored follow it.
    pub pending: u64,
    /// By what it is settled, if it has to be.
    pub handle: Option<&'m str>,
}
