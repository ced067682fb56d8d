//! What a client tells its user, and why it refuses.

use core::fmt;

use super::subscriptions::SubscriptionId;
use crate::frame::{Frame, HEAD, LENGTH, Properties, PropertyError};
use crate::hello::{CloseReason, Refusal};
use crate::puback::Rejection;
#[cfg(feature = "confirm")]
use crate::puback::Stored;
use crate::store::{Store, TooLarge};
use crate::subject::SubjectError;
use crate::time::Instant;

/// An event of a client. It borrows from the client, and is invalid after the next call.
#[non_exhaustive]
pub enum Event<'e, S: Store> {
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
    /// The server has acknowledged a subscription; again after each reconnect.
    Subscribed(SubscriptionId),
    /// A subscription failed and has been removed.
    SubscribeFailed {
        /// Which.
        id: SubscriptionId,
        /// Why.
        why: SubscribeFailure,
    },
    /// A message for a subscription. If several subscriptions match, there is one event for each.
    Message {
        /// For which.
        subscription: SubscriptionId,
        /// The message.
        message: Message<S::Body<'e>>,
    },
    /// An answer to a request of this client.
    Reply {
        /// To which.
        request: RequestId,
        /// The answer.
        message: Message<S::Body<'e>>,
        /// No more come.
        last: bool,
    },
    /// No more answers come to a request.
    RequestFailed {
        /// To which.
        request: RequestId,
        /// Why.
        why: RequestFailure,
    },
    /// What became of a message whose publisher wanted to know: the number of sessions that the server has given it to, each
    /// once for itself and once for each of its queue groups.
    Confirmed {
        /// Of which.
        id: ConfirmId,
        /// It was routed, or why that is not known.
        outcome: Result<u32, ConfirmFailure>,
    },
    /// What became of a message that was to be stored.
    #[cfg(feature = "confirm")]
    Stored {
        /// Of which.
        id: ConfirmId,
        /// Where it is stored, or why it is not, or that this is not known.
        outcome: Result<Stored, StoreFailure<&'e str>>,
    },
    /// A message larger than the memory for received messages was skipped.
    Oversize(TooLarge),
    /// The server refused something; the text is for humans.
    Refused(&'e str),
    /// This client may not publish to this subject: messages to it are dropped by the server. Told now and then, not for each.
    Denied(&'e str),
    /// The server has not taken the last will, and so has none; the text, which says why, is for humans.
    WillRefused(&'e str),
    /// The server has handled every message that was published before number `published` (see `Client::flush`).
    Flushed {
        /// Total number of messages published.
        published: u64,
    },
    /// The send queue was full and has room again.
    Writable,
    /// The client is closed. This is the last event.
    Closed,
}

/// Names a request of one client, as long as answers to it are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RequestId(pub(super) u32);

/// Names a message of one client, as long as it is waited for what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConfirmId(pub(super) u32);

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Recipient {
    /// The user of a subscription.
    Subscription(SubscriptionId),
    /// Whoever made a request.
    Request {
        /// Which.
        id: RequestId,
        /// No more answers come.
        last: bool,
    },
}

/// A received message: a frame, kept or borrowed, and where its parts are.
#[derive(Clone, Copy)]
pub struct Message<B> {
    frame: B,
    subject_len: u16,
}

impl<B: AsRef<[u8]>> Message<B> {
    pub(super) fn new(frame: B, subject_len: u16) -> Self {
        Self { frame, subject_len }
    }

    /// The subject it was published to.
    pub fn subject(&self) -> &str {
        let bytes = self.frame.as_ref().get(HEAD..HEAD + usize::from(self.subject_len));
        // Checked when the frame was read.
        bytes.and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.parts().0
    }

    /// What it carries besides: headers, and where an answer is to go.
    pub fn properties(&self) -> Properties<'_> {
        self.parts().1
    }

    /// Checked when the frame was read.
    fn parts(&self) -> (&[u8], Properties<'_>) {
        let bytes = self.frame.as_ref();
        let command = bytes.get(LENGTH).copied().unwrap_or_default();
        let payload = bytes.get(HEAD + usize::from(self.subject_len)..).unwrap_or_default();
        Frame { command, subject: &[], payload }.message().unwrap_or_default()
    }

    /// The memory that holds the message, and where in it subject and payload are.
    pub fn into_parts(self) -> (B, core::ops::Range<usize>, core::ops::Range<usize>) {
        let payload = HEAD + usize::from(self.subject_len);
        let end = payload + self.payload().len();
        (self.frame, HEAD..payload, payload..end)
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for Message<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("subject", &self.subject()).field("payload", &self.payload().len()).finish()
    }
}

impl<S: Store> fmt::Debug for Event<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { native, again } => {
                f.debug_struct("Connected").field("native", native).field("again", again).finish()
            }
            Self::Disconnected { why, retry_at } => {
                f.debug_struct("Disconnected").field("why", why).field("retry_at", retry_at).finish()
            }
            Self::Subscribed(id) => f.debug_tuple("Subscribed").field(id).finish(),
            Self::SubscribeFailed { id, why } => {
                f.debug_struct("SubscribeFailed").field("id", id).field("why", why).finish()
            }
            Self::Message { subscription, message } => {
                f.debug_struct("Message").field("subscription", subscription).field("message", message).finish()
            }
            Self::Reply { request, message, last } => {
                let mut reply = f.debug_struct("Reply");
                reply.field("request", request).field("message", message).field("last", last).finish()
            }
            Self::RequestFailed { request, why } => {
                f.debug_struct("RequestFailed").field("request", request).field("why", why).finish()
            }
            Self::Confirmed { id, outcome } => {
                f.debug_struct("Confirmed").field("id", id).field("outcome", outcome).finish()
            }
            #[cfg(feature = "confirm")]
            Self::Stored { id, outcome } => f.debug_struct("Stored").field("id", id).field("outcome", outcome).finish(),
            Self::Oversize(size) => f.debug_tuple("Oversize").field(size).finish(),
            Self::Refused(text) => f.debug_tuple("Refused").field(text).finish(),
            Self::Denied(subject) => f.debug_tuple("Denied").field(subject).finish(),
            Self::WillRefused(why) => f.debug_tuple("WillRefused").field(why).finish(),
            Self::Flushed { published } => f.debug_struct("Flushed").field("published", published).finish(),
            Self::Writable => f.write_str("Writable"),
            Self::Closed => f.write_str("Closed"),
        }
    }
}

/// Why a connection was lost, or an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Disconnect {
    /// No server answered within the connect timeout.
    NoAnswer,
    /// Nothing was received for the read timeout.
    Silent,
    /// Data were in flight for the stall timeout and nothing was acknowledged.
    Stalled,
    /// The server does not know the session: it did not answer after a hint of that, or acknowledges less than before.
    Forgotten,
    /// A PING was not answered.
    Unanswered,
    /// A subscription was not acknowledged after all attempts.
    SubscribeUnanswered,
    /// The server sent a malformed frame.
    BrokenStream(crate::frame::FrameError),
    /// The server closed the session.
    ByServer(CloseReason),
    /// The user wanted another connection ([`Client::reconnect`](super::Client::reconnect)).
    Requested,
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("no server answers"),
            Self::Silent => f.write_str("nothing was heard from the server for too long"),
            Self::Stalled => f.write_str("the server acknowledges nothing any more"),
            Self::Forgotten => f.write_str("the server does not know this session any more"),
            Self::Unanswered => f.write_str("the server does not answer"),
            Self::SubscribeUnanswered => f.write_str("the server does not acknowledge a subscription"),
            Self::BrokenStream(error) => write!(f, "the server sent a broken frame: {error}"),
            Self::ByServer(reason) => write!(f, "the server closed the session: {reason}"),
            Self::Requested => f.write_str("another connection was asked for"),
        }
    }
}

impl core::error::Error for Disconnect {}

/// Why a subscription failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SubscribeFailure {
    /// The server did not acknowledge it after all attempts.
    Unanswered {
        /// The number of attempts.
        attempts: u8,
    },
    /// The server refused it.
    Refused(Refusal),
    /// The server does not know queue groups, as an original one.
    Unsupported,
    /// The server hands out nothing that is stored: it has no store, or is too old.
    NoReplays,
}

impl fmt::Display for SubscribeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered { attempts } => write!(f, "no acknowledgement after {attempts} attempts"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unsupported => f.write_str("the server does not know queue groups"),
            Self::NoReplays => {
                f.write_str("the server hands out nothing that is stored: it has no backbone with a store")
            }
        }
    }
}

impl core::error::Error for SubscribeFailure {}

/// Why a message was refused. Nothing of it was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PublishError {
    /// Invalid subject.
    Subject(SubjectError),
    /// It is larger than this client, its memory or the server accepts.
    TooLarge(TooLarge),
    /// The properties are none.
    Properties(PropertyError),
    /// The message is to be kept as the last value of its subject, and the server keeps none, as an original one.
    Unsupported,
    /// The memory that was lent for lanes is in use by others, or there is none.
    Lane,
    /// The queue is full; [`Event::Writable`] will say when there is room.
    Full,
    /// The client is closing or closed.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(error) => error.fmt(f),
            Self::Properties(error) => error.fmt(f),
            Self::Unsupported => f.write_str("the server keeps no last values of subjects"),
            Self::Lane => f.write_str(NO_LANE),
            Self::TooLarge(error) => write!(f, "message too large: {error}"),
            Self::Full => f.write_str("the queue of messages to send is full"),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl core::error::Error for PublishError {}

const NO_LANE: &str = "no memory was lent for another lane";

/// Why a subscription was refused by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SubscribeError {
    /// Invalid pattern.
    Pattern(SubjectError),
    /// The pattern is longer than the client's memory allows.
    TooLong(TooLarge),
    /// The name of a queue group is empty, longer than 64 bytes, or has spaces or control characters.
    Group,
    /// The name of a durable subscription is empty, longer than 32 bytes, or has something else than `A-Z`, `a-z`, `0-9`, `-`
    /// and `_`.
    Durable,
    /// The client has its maximum number of subscriptions.
    TooMany,
    /// The memory that was lent for lanes is in use by others.
    Lane,
    /// The client is closing or closed.
    Closed,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(error) => error.fmt(f),
            Self::TooLong(error) => write!(f, "pattern too long: {error}"),
            Self::Group => {
                f.write_str("the name of a queue group is 1 to 64 bytes without spaces and control characters")
            }
            Self::Durable => {
                f.write_str("the name of a durable subscription is 1 to 32 characters of A-Z, a-z, 0-9, - and _")
            }
            Self::TooMany => f.write_str("no room for another subscription"),
            Self::Lane => f.write_str(NO_LANE),
            Self::Closed => f.write_str("the client is closed"),
        }
    }
}

impl core::error::Error for SubscribeError {}

/// Why a request was refused. Nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RequestError {
    /// The message.
    Refused(PublishError),
    /// The subscription to answers.
    Inbox(SubscribeError),
    /// As many requests wait for answers as may.
    TooMany,
    /// The server does not know requests, as an original one.
    Unsupported,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Inbox(error) => write!(f, "cannot subscribe to answers: {error}"),
            Self::TooMany => f.write_str("too many requests wait for answers"),
            Self::Unsupported => f.write_str(UNSUPPORTED),
        }
    }
}

impl core::error::Error for RequestError {}

const UNSUPPORTED: &str = "the server does not know requests";

/// Why no more answers come to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RequestFailure {
    /// Its time is over.
    TimedOut,
    /// Nobody is subscribed to its subject.
    NoResponders,
    /// The server does not know requests, as an original one: the message may have arrived, but nobody knows where to
    /// answer.
    Unsupported,
    /// The subscription to answers failed.
    Inbox(SubscribeFailure),
    /// The client was closed.
    Closed,
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer came in time"),
            Self::NoResponders => f.write_str("nobody is subscribed to the subject"),
            Self::Unsupported => f.write_str(UNSUPPORTED),
            Self::Inbox(why) => write!(f, "the subscription to answers failed: {why}"),
            Self::Closed => f.write_str("the client was closed"),
        }
    }
}

impl core::error::Error for RequestFailure {}

/// Why a message was refused whose publisher wants to know what becomes of it. Nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfirmError {
    /// The message.
    Refused(PublishError),
    /// As many messages wait for the server's word as may: 65,536, or where memory is lent as many as that is for.
    TooMany,
    /// The server does not say what becomes of messages, as an original one.
    Unsupported,
    /// The message was to be stored, and the server has no backbone that stores any.
    NoStore,
    /// The message was to be stored under an id that is none: longer than 64 bytes, or with a control character.
    StoreId,
}

impl fmt::Display for ConfirmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::TooMany => f.write_str("too many messages wait for the server's word"),
            Self::Unsupported => f.write_str(UNCONFIRMED),
            Self::NoStore => f.write_str(NO_STORE),
            Self::StoreId => f.write_str("the id of a message is at most 64 bytes without control characters"),
        }
    }
}

impl core::error::Error for ConfirmError {}

const NO_STORE: &str = "the server has no backbone that stores messages";

/// Why a message that was to be stored is not, or why that is not known. `T` is how the server's text is kept: an event lends it.
#[cfg(feature = "confirm")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StoreFailure<T> {
    /// No stream stores its subject.
    NoStream,
    /// The stream has refused it, or too much waits to be stored: why, for people.
    Refused(T),
    /// The stream has not said in time whether it has it, or the backbone went away and did not come back in time. Publishing it
    /// again under the same id stores it once.
    InDoubt,
    /// What becomes of any message may have become of it. [`ConfirmFailure::Unsupported`]: the server has no backbone that
    /// stores.
    Unconfirmed(ConfirmFailure),
}

#[cfg(feature = "confirm")]
impl<T> StoreFailure<T> {
    /// True if the message may be stored all the same, or be so later: publishing it again is safe under an id of its own.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::InDoubt => true,
            Self::Unconfirmed(why) => {
                matches!(why, ConfirmFailure::InDoubt | ConfirmFailure::TimedOut | ConfirmFailure::Closed)
            }
            Self::NoStream | Self::Refused(_) => false,
        }
    }

    /// The same with its text kept in another way.
    pub fn map<U>(self, keep: impl FnOnce(T) -> U) -> StoreFailure<U> {
        match self {
            Self::NoStream => StoreFailure::NoStream,
            Self::Refused(text) => StoreFailure::Refused(keep(text)),
            Self::InDoubt => StoreFailure::InDoubt,
            Self::Unconfirmed(why) => StoreFailure::Unconfirmed(why),
        }
    }
}

#[cfg(feature = "confirm")]
impl<T: fmt::Display> fmt::Display for StoreFailure<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStream => f.write_str("the message is not stored: no stream stores its subject"),
            Self::Refused(why) => write!(f, "the message is not stored: {why}"),
            Self::InDoubt => f.write_str("nothing was said in time of whether the message is stored"),
            Self::Unconfirmed(ConfirmFailure::Unsupported) => f.write_str(NO_STORE),
            Self::Unconfirmed(why) => why.fmt(f),
        }
    }
}

#[cfg(feature = "confirm")]
impl<T: fmt::Debug + fmt::Display> core::error::Error for StoreFailure<T> {}

const UNCONFIRMED: &str = "the server does not say what becomes of messages";

/// Why it is not known, or known too well, what became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfirmFailure {
    /// The server has not routed it.
    Rejected(Rejection),
    /// The server does not say what becomes of messages, as an original one; it may have arrived.
    Unsupported,
    /// The connection was lost while it was on its way: it may have arrived.
    InDoubt,
    /// The server has said nothing in time. It may have arrived, or still do so.
    TimedOut,
    /// The queue was full without a connection, and it was dropped ([`Config::overflow`](super::Config::overflow)).
    Dropped,
    /// It is larger than the server accepts.
    TooLarge,
    /// The client was closed; it may have arrived.
    Closed,
}

impl fmt::Display for ConfirmFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Unsupported => f.write_str(UNCONFIRMED),
            Self::InDoubt => {
                f.write_str("the connection was lost while the message was on its way: it may have arrived")
            }
            Self::TimedOut => {
                f.write_str("the server has not said in time what became of the message: it may have arrived")
            }
            Self::Dropped => f.write_str("the message was dropped from a queue that was full"),
            Self::TooLarge => f.write_str("the message is larger than the server accepts"),
            Self::Closed => f.write_str("the client was closed: the message may have arrived"),
        }
    }
}

impl core::error::Error for ConfirmFailure {}
