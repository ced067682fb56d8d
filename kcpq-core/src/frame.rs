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

#[cfg(all(test, feature = "alloc"))]
mod tests;

use core::fmt;

pub use crate::layout::{HEAD, LENGTH, TTL, command};
use crate::store::{Inbox, Store};

/// The smallest `body_len`: command and subject length.
const MIN_BODY: u32 = 3;

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
        let subject = u16::try_from(subject_len).ok()?.to_be_bytes();
        let body = MIN_BODY as usize + subject_len;
        let length = u32::try_from(body.checked_add(payload_len)?).ok()?.to_be_bytes();
        Some([length[0], length[1], length[2], length[3], command, subject[0], subject[1]])
    }
}

/// The announced body length, if it is acceptable.
fn check_length(length: [u8; LENGTH], limits: &Limits) -> Result<u32, FrameError> {
    let actual = u32::from_be_bytes(length);
    // The frame's length fits a `usize`, which on 32-bit machines takes the last few lengths that the field can express.
    let limit = limits.max_body.min(u32::try_from(usize::MAX - LENGTH).unwrap_or(u32::MAX));
    if actual > limit {
        return Err(FrameError::BodyTooLarge { limit, actual });
    }
    if actual < MIN_BODY {
        return Err(FrameError::BodyTooShort { actual });
    }
    Ok(actual)
}

/// What [`Reader::read`] made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The input is used up in the middle of a frame, or exactly at the end of one.
    More,
    /// A whole frame lies in the input.
    InPlace(&'a [u8]),
    /// A whole frame lies in the inbox; the next read forgets it.
    Assembled,
    /// A frame is longer than the inbox. Its bytes are passed over as they come; this is said once, at its beginning.
    Oversize {
        /// The most that the inbox holds.
        limit: usize,
        /// The length of the frame.
        actual: usize,
    },
    /// The stream makes no sense from here on.
    Broken(FrameError),
}

/// Takes frames out of a byte stream that comes in pieces of any size.
#[derive(Debug)]
pub struct Reader<S: Store> {
    limits: Limits,
    inbox: S::Inbox,
    /// Bytes of an oversize frame that are still to come.
    skip: usize,
    done: bool,
}

impl<S: Store> Reader<S> {
    /// A reader at the beginning of a stream.
    pub fn new(limits: Limits, inbox: S::Inbox) -> Self {
        Self { limits, inbox, skip: 0, done: false }
    }

    /// The limits that frames are held to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The longest frame that can come in pieces, in bytes with its length field.
    pub fn capacity(&self) -> usize {
        self.inbox.capacity()
    }

    /// The inbox, to take an assembled frame from, or to adopt one that was found in place.
    pub fn inbox(&mut self) -> &mut S::Inbox {
        &mut self.inbox
    }

    /// The frame that was assembled last, until the next read.
    pub fn assembled(&self) -> &[u8] {
        self.inbox.bytes()
    }

    /// What has arrived of a frame that is not complete yet; `None` while the rest of an oversize one is passed over.
    #[cfg(feature = "alloc")]
    pub(crate) fn begun(&self) -> Option<&[u8]> {
        (self.skip == 0).then(|| if self.done { &[][..] } else { self.inbox.bytes() })
    }

    /// Back to the beginning of a stream.
    pub fn reset(&mut self) {
        self.inbox.clear();
        self.skip = 0;
        self.done = false;
    }

    /// Reads up to the end of one frame. Returns how many bytes of `input` it took, at least one unless `input` is
    /// empty or the stream is broken.
    pub fn read<'i>(&mut self, input: &'i [u8]) -> (usize, Progress<'i>) {
        if core::mem::take(&mut self.done) {
            self.inbox.clear();
        }
        if self.skip > 0 {
            let count = self.skip.min(input.len());
            self.skip -= count;
            return (count, Progress::More);
        }
        let held = self.inbox.bytes().len();
        if held == 0
            && let Some(length) = input.first_chunk()
        {
            let len = match check_length(*length, &self.limits) {
                Ok(body) => LENGTH + body as usize,
                Err(error) => return (0, Progress::Broken(error)),
            };
            if let Some(frame) = input.get(..len) {
                return (len, Progress::InPlace(frame));
            }
            if len > self.inbox.capacity() {
                self.skip = len - input.len();
                return (input.len(), Progress::Oversize { limit: self.inbox.capacity(), actual: len });
            }
            self.inbox.write(input);
            return (input.len(), Progress::More);
        }
        self.assemble(held, input)
    }

    /// Continues a frame whose first bytes are in the inbox.
    fn assemble<'i>(&mut self, held: usize, input: &'i [u8]) -> (usize, Progress<'i>) {
        let mut taken = 0;
        if held < LENGTH {
            taken = input.len().min(LENGTH - held);
            self.inbox.write(input.get(..taken).unwrap_or_default());
        }
        let Some(length) = self.inbox.bytes().first_chunk() else { return (taken, Progress::More) };
        let len = match check_length(*length, &self.limits) {
            Ok(body) => LENGTH + body as usize,
            Err(error) => return (taken, Progress::Broken(error)),
        };
        let have = held + taken;
        if len > self.inbox.capacity() {
            self.inbox.clear();
            let count = (len - have).min(input.len() - taken);
            self.skip = len - have - count;
            return (taken + count, Progress::Oversize { limit: self.inbox.capacity(), actual: len });
        }
        let count = (len - have).min(input.len() - taken);
        self.inbox.write(input.get(taken..taken + count).unwrap_or_default());
        if have + count < len {
            return (taken + count, Progress::More);
        }
        self.done = true;
        (taken + count, Progress::Assembled)
    }
}
