//! Events other than messages, statistics, and errors.

use core::fmt;

use kcpq_core::client::{self, Disconnect, SubscribeFailure, SubscriptionId};
use kcpq_core::store::TooLarge;
use kcpq_core::{Instant, kcp};

/// An event of the client. What concerns a single subscription or call is reported there instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// Connected.
    Connected {
        /// It speaks the native protocol.
        native: bool,
        /// Reconnected: subscriptions are being restored.
        again: bool,
    },
    /// The connection was lost, or an attempt failed.
    Disconnected {
        /// Why.
        why: Disconnect,
        /// When the next attempt begins; `None`: there is none.
        retry_at: Option<Instant>,
    },
    /// A message larger than the memory for received messages was skipped. The session continues.
    Oversize(TooLarge),
    /// A message was skipped because its subscription had not read it within
    /// [`Config::patience`](crate::Config::patience).
    Unread(SubscriptionId),
    /// The client may not publish to a subject: messages to it are dropped by the server. Told now and then.
    Denied,
    /// The server has not taken the last will, and so has none.
    WillRefused,
    /// The server refused something.
    Refused,
    /// The client is closed. This is the last event.
    Closed,
}

#[cfg(any(feature = "defmt", feature = "log"))]
impl Event {
    /// A line in the log: a warning if something was lost or refused.
    pub(crate) fn log(&self) {
        let ordinary = matches!(self, Self::Connected { .. } | Self::Closed);
        #[cfg(feature = "defmt")]
        if ordinary {
            defmt::info!("kcpq: {}", self);
        } else {
            defmt::warn!("kcpq: {}", self);
        }
        #[cfg(feature = "log")]
        log::log!(if ordinary { log::Level::Info } else { log::Level::Warn }, "{self:?}");
    }
}

/// Statistics of a client.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Stats {
    /// Messages, connections, latency.
    pub client: client::Stats,
    /// KCP segments.
    pub transport: kcp::Stats,
    /// Messages skipped: not read within [`Config::patience`](crate::Config::patience), or before the connection was
    /// lost.
    pub unread: u32,
    /// Events dropped because they were not read in time.
    pub missed_events: u32,
    /// Datagrams that the transport failed to send. KCP retransmits their content.
    pub send_errors: u32,
    /// Errors of the transport when receiving.
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

/// Why a subscription has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Ended {
    /// The server refused it, or did not acknowledge it.
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
#[non_exhaustive]
pub enum SubscribeError {
    /// The client refused it; the server was not asked.
    Invalid(client::SubscribeError),
    /// The server refused it, or did not acknowledge it.
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
