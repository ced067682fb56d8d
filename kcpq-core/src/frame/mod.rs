//! Frames: what travels in KCP's byte stream (PROTOCOL.md 3).
//!
//! ```text
//!  0               4     5            7                     7 + subject_len
//! +---------------+-----+------------+---------------------+----------------+
//! | body_len u32  | cmd | subject_len| subject             | payload        |   all integers big-endian
//! +---------------+-----+------------+---------------------+----------------+
//!                 |<------------------- body_len -------------------------->|
//! ```
//!
//! Frames and segments are unrelated: a segment may hold several frames, and a frame may need thousands of segments.
//! [`Reader`] takes bytes as they come; a frame that lies whole in its input is handed out in place.

mod head;
pub mod properties;
mod reader;
#[cfg(test)]
mod tests;

use core::fmt;

pub(crate) use self::head::frame_len;
pub use self::head::{HEAD, Head, LENGTH};
use self::head::{MIN_BODY, check_length};
pub use self::properties::{Properties, PropertyError};
pub use self::reader::{Flaw, Reader, Whole};
pub(crate) use self::reader::{Leave, Sink};

/// Command bytes. 1 to 8 are the original's; our own start at 0x10, which the original answers with ERR.
pub mod command {
    /// Subscribe to a pattern. Native clients put a number into the payload (u32 big-endian), which the original ignores.
    pub const SUB: u8 = 0x01;
    /// Take a subscription back; the number as in [`SUB`].
    pub const UNSUB: u8 = 0x02;
    /// Publish a message.
    pub const PUB: u8 = 0x03;
    /// A message for a subscriber: the PUB with another command byte.
    pub const MSG: u8 = 0x04;
    /// Are you there?
    pub const PING: u8 = 0x05;
    /// The answer to a PING.
    pub const PONG: u8 = 0x06;
    /// Done; the text is in the subject.
    pub const OK: u8 = 0x07;
    /// Refused; the text is in the subject.
    pub const ERR: u8 = 0x08;
    /// A native client's first frame.
    pub const HELLO: u8 = 0x10;
    /// A native server's answer to HELLO.
    pub const WELCOME: u8 = 0x11;
    /// The session ends, with a reason.
    pub const CLOSE: u8 = 0x12;
    /// A numbered SUB or UNSUB was carried out, or refused.
    pub const ACK: u8 = 0x13;
    /// A PUB with properties behind the message.
    pub const PUBX: u8 = 0x15;
    /// A MSG with properties behind the message.
    pub const MSGX: u8 = 0x16;
    /// What has become of a PUBX whose publisher wants to know.
    pub const PUBACK: u8 = 0x17;
    /// A native client's last will: a message that the server is to publish when the session ends without CLOSE.
    pub const WILL: u8 = 0x18;
    /// A native client's word on a message of a durable subscription: it is done with, or is to come again.
    pub const MSGACK: u8 = 0x19;
}

/// One frame, borrowed from where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Frame<'a> {
    /// See [`command`].
    pub command: u8,
    /// Subject, pattern or text; not validated.
    pub subject: &'a [u8],
    /// Message, or what the command says.
    pub payload: &'a [u8],
}

/// How large a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Largest `body_len`, inclusive.
    pub max_body: u32,
    /// Longest subject in bytes, inclusive.
    pub max_subject: u16,
}

impl Limits {
    /// The original's, version 2.1: 8 MiB and 4096 bytes (docs/original.md 5.1).
    pub const KCPQ: Self = Self { max_body: 8 * 1024 * 1024, max_subject: 4096 };
    /// What the fields can express.
    pub const NONE: Self = Self { max_body: u32::MAX, max_subject: u16::MAX };
}

impl Default for Limits {
    fn default() -> Self {
        Self::KCPQ
    }
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FrameError {
    /// The announced body has no room for command and subject length.
    BodyTooShort {
        /// The announced body length.
        actual: u32,
    },
    /// The announced body is longer than the limit.
    BodyTooLarge {
        /// The largest body length allowed.
        limit: u32,
        /// The announced body length.
        actual: u32,
    },
    /// The subject would end behind the body.
    SubjectOverrunsBody {
        /// The announced subject length.
        subject: u16,
        /// The announced body length.
        body: u32,
    },
    /// The subject is longer than the limit.
    SubjectTooLong {
        /// The longest subject allowed.
        limit: u16,
        /// The announced subject length.
        actual: u16,
    },
    /// Fewer bytes than the frame announces.
    Incomplete,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BodyTooShort { actual } => write!(f, "frame body of {actual} bytes, at least {MIN_BODY} are needed"),
            Self::BodyTooLarge { limit, actual } => write!(f, "frame body of {actual} bytes, the limit is {limit}"),
            Self::SubjectOverrunsBody { subject, body } => {
                write!(f, "subject of {subject} bytes in a frame body of {body}")
            }
            Self::SubjectTooLong { limit, actual } => write!(f, "subject of {actual} bytes, the limit is {limit}"),
            Self::Incomplete => f.write_str("frame ends early"),
        }
    }
}

impl core::error::Error for FrameError {}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begin with; what follows it is ignored.
    ///
    /// # Errors
    /// See [`FrameError`]; the checks come in the order of the original's version 2.1 (docs/original.md 5.1).
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, FrameError> {
        let length = bytes.first_chunk().ok_or(FrameError::Incomplete)?;
        let body_len = check_length(*length, limits)?;
        let body = bytes[LENGTH..].get(..body_len as usize).ok_or(FrameError::Incomplete)?;
        let [command, s0, s1, rest @ ..] = body else {
            return Err(FrameError::BodyTooShort { actual: body_len });
        };
        let subject_len = u16::from_be_bytes([*s0, *s1]);
        let (subject, payload) = rest
            .split_at_checked(usize::from(subject_len))
            .ok_or(FrameError::SubjectOverrunsBody { subject: subject_len, body: body_len })?;
        if subject_len > limits.max_subject {
            return Err(FrameError::SubjectTooLong { limit: limits.max_subject, actual: subject_len });
        }
        Ok(Self { command: *command, subject, payload })
    }

    /// Bytes of the whole frame.
    pub fn encoded_len(&self) -> usize {
        HEAD + self.subject.len() + self.payload.len()
    }

    /// Writes the frame to the front of `out` and returns its length; `None` if it does not fit there, or if a length
    /// does not fit its field.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let len = self.encoded_len();
        let out = out.get_mut(..len)?;
        let (head, rest) = out.split_at_mut(HEAD);
        head.copy_from_slice(&Self::head(self.command, self.subject.len(), self.payload.len())?);
        let (subject, payload) = rest.split_at_mut(self.subject.len());
        subject.copy_from_slice(self.subject);
        payload.copy_from_slice(self.payload);
        Some(len)
    }

    /// The bytes before the subject of a frame with these lengths; `None` if a length does not fit its field.
    pub fn head(command: u8, subject_len: usize, payload_len: usize) -> Option<[u8; HEAD]> {
        Head::new(command, subject_len, payload_len).map(Head::to_bytes)
    }
}

/// Whole frames that lie together, one by one.
#[cfg(feature = "alloc")]
pub(crate) fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let (frame, behind) = rest.split_at_checked(frame_len(*rest.first_chunk()?))?;
        rest = behind;
        Some(frame)
    })
}

/// The lengths of frames of one command and subject that `bytes` begin with, one behind the other, as far as they are whole.
#[cfg(feature = "alloc")]
#[inline]
pub(crate) fn alike(bytes: &[u8], command: u8, subject: &[u8]) -> impl Iterator<Item = usize> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk()?;
        let head = Head::from_bytes(*head);
        let len = head.frame_len();
        let is_alike = head.command == command
            && usize::from(head.subject_len) == subject.len()
            && behind.starts_with(subject)
            && len >= HEAD + subject.len();
        rest = rest.get(len..).filter(|_| is_alike)?;
        Some(len)
    })
}

/// Makes whole frames that lie together such of one command.
#[cfg(feature = "alloc")]
pub(crate) fn set_commands(bytes: &mut [u8], command: u8) {
    let mut rest = bytes;
    while let Some((head, _)) = rest.split_first_chunk_mut::<HEAD>() {
        let read = Head::from_bytes(*head);
        *head = Head { command, ..read }.to_bytes();
        rest = rest.get_mut(read.frame_len()..).unwrap_or_default();
    }
}

/// The subject of a whole frame.
#[cfg(feature = "alloc")]
pub(crate) fn subject_of(frame: &[u8]) -> &[u8] {
    let subject =
        frame.split_first_chunk().and_then(|(head, rest)| rest.get(..usize::from(Head::from_bytes(*head).subject_len)));
    subject.unwrap_or_default()
}
