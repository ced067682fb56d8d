//! A received message.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

/// A received message. Cheap to clone: it shares the memory it arrived in.
#[derive(Clone)]
pub struct Message {
    frame: Bytes,
    subject: Range<usize>,
}

impl Message {
    pub(crate) fn new(message: kcpq_core::client::Message<Bytes>) -> Self {
        let (frame, subject, _) = message.into_parts();
        Self { frame, subject }
    }

    /// The subject that it was published to.
    pub fn subject(&self) -> &str {
        // The core hands out valid subjects only.
        self.frame.get(self.subject.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// What was published.
    pub fn payload(&self) -> &[u8] {
        self.frame.get(self.subject.end..).unwrap_or_default()
    }

    /// What was published, without a copy.
    pub fn into_payload(self) -> Bytes {
        self.frame.slice(self.subject.end..)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("subject", &self.subject()).field("payload", &self.payload().len()).finish()
    }
}
