//! A received message.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use kcpq_core::frame::{Frame, HEAD, Limits};

/// A received message. Cheap to clone: clones share the buffer it was received in.
#[derive(Clone)]
pub struct Message {
    frame: Bytes,
    subject: Range<usize>,
}

impl Message {
    /// Cuts the first frame off a run of whole frames (PROTOCOL.md 3.1).
    pub(crate) fn cut(run: &mut Bytes) -> Option<Self> {
        let frame = Frame::parse(run, &Limits::NONE).ok()?;
        let (len, subject) = (frame.encoded_len(), HEAD..HEAD + frame.subject.len());
        // The last one takes the run itself.
        let frame = if len == run.len() { std::mem::take(run) } else { run.split_to(len) };
        Some(Self { frame, subject })
    }

    /// The subject it was published to.
    pub fn subject(&self) -> &str {
        // The core hands out valid subjects only.
        self.frame.get(self.subject.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.frame.get(self.subject.end..).unwrap_or_default()
    }

    /// Bytes that it takes in a queue.
    pub(crate) fn len(&self) -> u64 {
        self.frame.len() as u64
    }

    /// The payload, without a copy.
    pub fn into_payload(self) -> Bytes {
        self.frame.slice(self.subject.end..)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("subject", &self.subject()).field("payload", &self.payload().len()).finish()
    }
}
