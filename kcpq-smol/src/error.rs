//! What can go wrong, in the words of the user.

use std::fmt;
use std::io;
use std::time::Duration;

use kcpq_core::client::{self, ConfirmFailure, Disconnect, RequestFailure, SubscribeFailure};

use crate::confirm::Unasked;
use crate::seal::SealedBy;

/// Why there is no client.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address could not be resolved.
    Resolve {
        /// The address as given.
        addr: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// No socket could be opened.
    Socket(io::Error),
    /// The operating system gave no thread ([`Builder::own_thread`](crate::Builder::own_thread)).
    Thread(io::Error),
    /// The operating system gave no random numbers.
    Random(getrandom::Error),
    /// The keys of sealed sessions that were given do not go together, or cannot be used.
    Keys(&'static str),
    /// The last will is none.
    Will(client::PublishError),
    /// No server answered in time.
    TimedOut {
        /// The address.
        addr: String,
        /// The timeout.
        after: Duration,
    },
    /// No server answered in time in a sealed session. One that does not know the client's keys does not answer.
    Unanswered {
        /// The address.
        addr: String,
        /// The timeout.
        after: Duration,
        /// By what they would know each other.
        by: SealedBy,
    },
    /// Nobody listens there, as the system at the other end says.
    Refused {
        /// The address.
        addr: String,
    },
    /// The attempt failed, and reconnecting is switched off.
    Failed(Disconnect),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { addr, source } => write!(f, "cannot resolve '{addr}': {source}"),
            Self::Socket(error) => write!(f, "cannot open a UDP socket: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Random(error) => write!(f, "the system gives no random numbers: {error}"),
            Self::Keys(why) => write!(f, "keys: {why}"),
            Self::Will(error) => write!(f, "last will: {error}"),
            Self::TimedOut { addr, after } => {
                write!(f, "no server answered at {addr} within {after:?}; is `kcpq serve` running there?")
            }
            Self::Unanswered { addr, after, by } => {
                write!(f, "no answer from {addr} within {after:?}, and who is not known gets none: {by}")
            }
            Self::Refused { addr } => {
                write!(f, "nobody listens at {addr}: connection refused; is `kcpq serve` running there?")
            }
            Self::Failed(why) => write!(f, "no connection: {why}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. } | Self::Socket(source) | Self::Thread(source) => Some(source),
            Self::Random(error) => Some(error),
            Self::Failed(why) => Some(why),
            Self::Will(error) => Some(error),
            Self::TimedOut { .. } | Self::Unanswered { .. } | Self::Refused { .. } | Self::Keys(_) => None,
        }
    }
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// The client refused it. [`client::PublishError::Full`] comes from `try_publish` only.
    Refused(client::PublishError),
    /// The message that was to be answered asks for no answer.
    NoReply,
    /// The queue stayed full.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::NoReply => f.write_str("the message asks for no answer"),
            Self::TimedOut { after } => write!(f, "the queue of messages to send stayed full for {after:?}"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Why it is not known that a message was routed, or known that it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfirmError {
    /// Nothing was published.
    Unpublished(PublishError),
    /// Nothing was published: 65,536 messages wait for the server's word.
    TooMany,
    /// Nothing was published: the server does not say what becomes of messages, as an original one.
    Unsupported,
    /// It was published, and this came of it.
    Failed(ConfirmFailure),
}

impl fmt::Display for ConfirmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpublished(error) => error.fmt(f),
            Self::TooMany => client::ConfirmError::TooMany.fmt(f),
            Self::Unsupported => client::ConfirmError::Unsupported.fmt(f),
            Self::Failed(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for ConfirmError {}

/// Why a message that was to be stored is not, or why that is not known.
pub type StoreFailure = client::StoreFailure<Box<str>>;

/// Why a message is not stored, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing was published.
    Unpublished(PublishError),
    /// Nothing was published: 65,536 messages wait for the server's word.
    TooMany,
    /// Nothing was published: the server has no backbone that stores messages, as an original one.
    Unsupported,
    /// Nothing was published: the id is longer than 64 bytes, or has a control character.
    Id,
    /// It was published, and this came of it.
    Failed(StoreFailure),
}

impl StoreError {
    /// True if the message may be stored all the same, or be so later: publishing it again is safe under an id of its own.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Failed(why) if why.is_in_doubt())
    }
}

impl From<Unasked> for StoreError {
    fn from(why: Unasked) -> Self {
        match why {
            Unasked::Unpublished(error) => Self::Unpublished(error),
            Unasked::Refused(client::ConfirmError::TooMany) => Self::TooMany,
            Unasked::Refused(client::ConfirmError::StoreId) => Self::Id,
            Unasked::Refused(_) => Self::Unsupported,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpublished(error) => error.fmt(f),
            Self::TooMany => client::ConfirmError::TooMany.fmt(f),
            Self::Unsupported => client::ConfirmError::NoStore.fmt(f),
            Self::Id => client::ConfirmError::StoreId.fmt(f),
            Self::Failed(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The client refused it; nothing was published.
    Refused(client::RequestError),
    /// No answer came. [`RequestFailure::NoResponders`]: nobody is subscribed; [`RequestFailure::TimedOut`]: somebody may be, but
    /// did not answer in time.
    Failed(RequestFailure),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Failed(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

/// Why a subscription was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The client refused it.
    Refused(client::SubscribeError),
    /// The server refused it, or did not acknowledge it.
    Failed(SubscribeFailure),
    /// No acknowledgement came in time.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The client was closed meanwhile.
    Closed,
    /// What is stored is not for members of a queue group. Several subscriptions of one durable name share it.
    QueueOfStored,
    /// What is stored is subscribed to by one pattern each time.
    SeveralOfStored,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Failed(error) => write!(f, "subscription failed: {error}"),
            Self::QueueOfStored => {
                f.write_str("what is stored is not for a queue group: subscribe several times under one durable name")
            }
            Self::SeveralOfStored => {
                f.write_str("what is stored has one pattern for each subscription: subscribe to each")
            }
            Self::TimedOut { after } => write!(f, "the server did not acknowledge the subscription within {after:?}"),
            Self::Closed => f.write_str("the client was closed"),
        }
    }
}

impl std::error::Error for SubscribeError {}

/// Why it could not be said what is to become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettleError {
    /// It is of no durable subscription.
    NotDurable,
    /// There is no connection now, or the subscription has ended: the message comes again.
    Disconnected,
}

impl fmt::Display for SettleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDurable => f.write_str("the message is of no durable subscription"),
            Self::Disconnected => {
                f.write_str("there is no connection, or the subscription has ended: the message comes again")
            }
        }
    }
}

impl std::error::Error for SettleError {}

/// Why there is no next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextError {
    /// None came in time; the next one may.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The subscription has ended, or the client is closed.
    Ended,
}

impl fmt::Display for NextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(f, "no message within {after:?}"),
            Self::Ended => f.write_str("the subscription has ended"),
        }
    }
}

impl std::error::Error for NextError {}

/// Why it is not known that the server has handled what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushError {
    /// The server did not say so in time.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The connection was lost meanwhile: messages under way may have arrived or not.
    Disconnected,
    /// The client was closed.
    Closed,
    /// The client was closed while messages were in the send queue or in flight.
    Lost {
        /// How many.
        messages: u64,
    },
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(f, "the server did not confirm within {after:?}"),
            Self::Disconnected => f.write_str("the connection was lost; messages under way may have arrived or not"),
            Self::Closed => f.write_str("the client was closed"),
            Self::Lost { messages } => CloseError::Lost { messages: *messages }.fmt(f),
        }
    }
}

impl std::error::Error for FlushError {}

impl From<CloseError> for FlushError {
    fn from(error: CloseError) -> Self {
        match error {
            CloseError::TimedOut { after } => Self::TimedOut { after },
            CloseError::Lost { messages } => Self::Lost { messages },
        }
    }
}

/// Why there is no round-trip time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PingError {
    /// The server did not answer in time.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// There is no connection, or it was lost meanwhile.
    Disconnected,
    /// The client was closed.
    Closed,
}

impl fmt::Display for PingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(f, "no answer within {after:?}"),
            Self::Disconnected => f.write_str("there is no connection"),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl std::error::Error for PingError {}

/// What did not go well when a client was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseError {
    /// The session did not end in time; it ends by itself.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The client is closed, but messages were still in the send queue or in flight: the latter may have arrived or not.
    Lost {
        /// How many.
        messages: u64,
    },
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { after } => write!(f, "the session did not end within {after:?}; it ends by itself"),
            Self::Lost { messages: 1 } => f.write_str("the client was closed before 1 message was delivered"),
            Self::Lost { messages } => write!(f, "the client was closed before {messages} messages were delivered"),
        }
    }
}

impl std::error::Error for CloseError {}
