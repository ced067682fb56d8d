//! What a broker tells its driver: for logs, never for the path of a message.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::str::FromStr;

use super::kept::NotKept;
use crate::frame::FrameError;
use crate::hello::CloseReason;
use crate::subject::SubjectError;

/// Identifies a session of one server; never reused. As text it is `SLOT.NUMBER`, or `SHARD.SLOT.NUMBER` if it is not of
/// the first broker (shard).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    pub(super) shard: u8,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

#[cfg(test)]
impl SessionId {
    /// The session in a slot, which was opened as number `generation` of all.
    pub(crate) fn of(slot: u32, generation: u32) -> Self {
        Self { shard: 0, slot, generation }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shard > 0 {
            write!(f, "{}.", self.shard)?;
        }
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

impl SessionId {
    /// Which of the server's brokers has it: see [`Broker::with_shards`](super::Broker::with_shards).
    pub fn shard(self) -> usize {
        self.shard.into()
    }
}

/// What is no [`SessionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSessionId;

impl fmt::Display for InvalidSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the id of a session, which is like 3.17 or 1.3.17")
    }
}

impl core::error::Error for InvalidSessionId {}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    /// Takes what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        let mut parts = text.rsplitn(3, '.');
        let mut next = || parts.next().map(|part| part.parse::<u32>().map_err(|_| InvalidSessionId)).transpose();
        match (next()?, next()?, next()?) {
            (Some(generation), Some(slot), shard) => {
                let shard = u8::try_from(shard.unwrap_or(0)).map_err(|_| InvalidSessionId)?;
                Ok(Self { shard, slot, generation })
            }
            _ => Err(InvalidSessionId),
        }
    }
}

/// An event of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<P> {
    /// A session was opened.
    Opened {
        /// Which.
        id: SessionId,
        /// From where.
        peer: P,
    },
    /// A session is a native one: its client said HELLO.
    Greeted {
        /// Which.
        id: SessionId,
        /// From where.
        peer: P,
        /// The version that both speak.
        version: u8,
        /// The session's id in native datagrams, if it has one: see [`Broker::announce`](super::Broker::announce).
        name: Option<u64>,
    },
    /// A session goes on at another address, which its client has proved to have.
    Moved {
        /// Which.
        id: SessionId,
        /// From where.
        from: P,
        /// To where.
        to: P,
    },
    /// It is known whose session it is, because there are rules for who may do what.
    Identified {
        /// Which.
        id: SessionId,
        /// The name of the identity: that of the configuration, or of a kind of clients.
        identity: Arc<str>,
    },
    /// A session ended.
    Closed {
        /// Which.
        id: SessionId,
        /// From where.
        peer: P,
        /// Why.
        why: Ended,
        /// Messages in its queue or in flight to it at that moment.
        undelivered: u64,
        /// Whose it was, if that was of interest.
        identity: Option<Arc<str>>,
    },
    /// A client may not publish to a subject: messages are dropped. Told as often as the client is: once in 10 s for each
    /// subject, and for 16 subjects at most.
    PublishDenied {
        /// Which.
        id: SessionId,
        /// Whose.
        identity: Option<Arc<str>>,
        /// The subject.
        subject: Box<str>,
    },
    /// A client publishes more bytes in a second than it may: messages are dropped. Told once in 10 s.
    Excess {
        /// Which.
        id: SessionId,
        /// Whose.
        identity: Option<Arc<str>>,
    },
    /// A client may not have a subscription: it was refused, or has ended since the rules were replaced.
    SubscriptionDenied {
        /// Which.
        id: SessionId,
        /// Whose.
        identity: Option<Arc<str>>,
        /// The pattern.
        pattern: Box<str>,
    },
    /// A message of a session is not kept as the last value of its subject. Told once in 10 s for each session.
    NotKept {
        /// Which.
        id: SessionId,
        /// The subject.
        subject: Box<str>,
        /// Why.
        why: NotKept,
    },
    /// A session was refused because of a limit.
    Refused {
        /// From where.
        peer: P,
    },
    /// A subject or pattern of a session was refused. Told once for each session: an original client does not hear of it.
    SubjectRefused {
        /// Which.
        id: SessionId,
        /// Why.
        why: SubjectError,
    },
    /// Slow consumer: a subscriber's queue is full and messages for it are dropped. Reported once until it has caught
    /// up.
    Slow {
        /// Which.
        id: SessionId,
        /// From where.
        peer: P,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The client said CLOSE.
    ByClient(CloseReason),
    /// The broker ended it.
    ByBroker(CloseReason),
    /// A frame made no sense.
    Broken(FrameError),
    /// Nothing showed that it was where it said it was, for [`Config::half_open_timeout`](super::Config) or when its place was
    /// needed.
    HalfOpen,
    /// Its stream has ended: the connection was lost, or its client gave it up without a word.
    Lost,
}

impl Ended {
    /// A word for it, as programs may tell it apart.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByClient(_) => "client",
            Self::ByBroker(reason) => reason.as_str(),
            Self::Broken(_) => CloseReason::Protocol.as_str(),
            Self::HalfOpen => "half_open",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient(reason) => write!(f, "the client closed it: {reason}"),
            Self::ByBroker(reason) => reason.fmt(f),
            Self::Broken(error) => write!(f, "broken frame: {error}"),
            Self::HalfOpen => f.write_str("its address was never proved"),
            Self::Lost => f.write_str("its connection has ended without a word"),
        }
    }
}
