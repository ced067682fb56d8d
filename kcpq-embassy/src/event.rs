//! What a client tells besides messages, and why it refuses.

use core::fmt;

use kcpq_core::client::{self, Disconnect, SubscribeFailure, SubscriptionId};
use kcpq_core::store::TooLarge;
use kcpq_core::{Instant, kcp};

/// Something happened. What is for one subscription or one call is told there; this is the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// A server answers.
    Connected {
        /// It speaks the native protocol.
        native: bool,
        /// Not for the first time: subscriptions are being made again.
        again: bool,
    },
    /// There is no connection any more, or an attempt failed.
    Disconnected {
        /// Why.
        why: Disconnect,
        /// When the next attempt begins; `None`: never.
        retry_at: Option<Instant>,
    },
    /// A frame was larger than what can be received, and passed over. The session goes on.
    Oversize(TooLarge),
    /// A message was passed over, because its subscription did not read it within the patience.
    Unread(SubscriptionId),
    /// The server refused something.
    Refused,
    /// The client has closed; nothing more comes.
    Closed,
}

/// The client's counters.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stats {
    /// The core's.
    pub client: client::Stats,
    /// The engine's.
    pub transport: kcp::Stats,
    /// Messages passed over because no subscription read them within the patience, or before their connection was gone.
    pub unread: u32,
    /// Events that nobody had read when newer ones came.
    pub missed_events: u32,
    /// Datagrams that the transport refused to send. What matters is sent again.
    pub send_errors: u32,
    /// Failed attempts to receive.
    pub receive_errors: u32,
}

/// The client is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client is closed")
    }
}

impl core::error::Error for Closed {}

/// Why a subscription gives no more messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ended {
    /// The server does not acknowledge it, or refuses.
    Failed(SubscribeFailure),
    /// The client is closed.
    Closed,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => why.fmt(f),
            Self::Closed => Closed.fmt(f),
        }
    }
}

impl core::error::Error for Ended {}

/// Why there is no subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SubscribeError {
    /// It was not even asked for.
    Invalid(client::SubscribeError),
    /// The server does not acknowledge it, or refuses.
    Failed(SubscribeFailure),
    /// The client was closed meanwhile.
    Closed,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::Failed(why) => why.fmt(f),
            Self::Closed => Closed.fmt(f),
        }
    }
}

impl core::error::Error for SubscribeError {}

impl From<Ended> for SubscribeError {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Failed(why) => Self::Failed(why),
            Ended::Closed => Self::Closed,
        }
    }
}
