//! The bytes before a frame's subject, and how the head of a message changes with the message's form.

use super::{Frame, FrameError, Limits};

/// Bytes before the subject.
pub const HEAD: usize = 7;
/// Bytes of the length field, which `body_len` does not count.
pub const LENGTH: usize = 4;

/// The smallest `body_len`: command and subject length.
pub(super) const MIN_BODY: u32 = (HEAD - LENGTH) as u32;

/// What stands before a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Head {
    /// Bytes behind the length field: the rest of the head, subject and payload.
    pub body_len: u32,
    /// See [`command`](super::command).
    pub command: u8,
    /// Bytes of the subject.
    pub subject_len: u16,
}

impl Head {
    /// The head of a frame with these lengths; `None` if one does not fit its field.
    pub fn new(command: u8, subject_len: usize, payload_len: usize) -> Option<Self> {
        let subject = u16::try_from(subject_len).ok()?;
        let body = MIN_BODY as usize + subject_len;
        let body_len = u32::try_from(body.checked_add(payload_len)?).ok()?;
        Some(Self { body_len, command, subject_len: subject })
    }

    /// What the bytes say, whether that makes sense or not.
    pub fn from_bytes([l0, l1, l2, l3, command, s0, s1]: [u8; HEAD]) -> Self {
        Self { body_len: u32::from_be_bytes([l0, l1, l2, l3]), command, subject_len: u16::from_be_bytes([s0, s1]) }
    }

    /// What the first bytes of a frame say; of fewer than [`HEAD`] nothing.
    pub(super) fn read(frame: &[u8]) -> Self {
        let &[l0, l1, l2, l3, command, s0, s1, ..] = frame else { return Self::from_bytes([0; HEAD]) };
        Self::from_bytes([l0, l1, l2, l3, command, s0, s1])
    }

    /// The bytes on the wire.
    pub fn to_bytes(self) -> [u8; HEAD] {
        let [l0, l1, l2, l3] = self.body_len.to_be_bytes();
        let [s0, s1] = self.subject_len.to_be_bytes();
        [l0, l1, l2, l3, self.command, s0, s1]
    }

    /// Bytes of the whole frame.
    pub fn frame_len(self) -> usize {
        frame_len(self.body_len.to_be_bytes())
    }

    /// The frame in `bytes`, which begin with this head and hold what it announces.
    pub(crate) fn frame(self, bytes: &[u8]) -> Frame<'_> {
        let rest = bytes.get(HEAD..).unwrap_or_default();
        let (subject, payload) = rest.split_at_checked(usize::from(self.subject_len)).unwrap_or_default();
        Frame { command: self.command, subject, payload }
    }

    /// Whether the subject is as long as it may be, when the length of the body is.
    pub(super) fn check_subject(self, limits: &Limits) -> Result<(), FrameError> {
        let Self { body_len, subject_len, .. } = self;
        if u32::from(subject_len) > body_len.saturating_sub(MIN_BODY) {
            return Err(FrameError::SubjectOverrunsBody { subject: subject_len, body: body_len });
        }
        if subject_len > limits.max_subject {
            return Err(FrameError::SubjectTooLong { limit: limits.max_subject, actual: subject_len });
        }
        Ok(())
    }

    /// The head of the same message as a `command` with `added` bytes more behind it; `None` if the length does not fit its
    /// field.
    pub(crate) fn longer(self, command: u8, added: usize) -> Option<Self> {
        let body_len = self.body_len.checked_add(u32::try_from(added).ok()?)?;
        Some(Self { body_len, command, ..self })
    }

    /// The head of the same message as a `command` without the last `cut` bytes.
    pub(crate) fn shorter(self, command: u8, cut: usize) -> Self {
        Self { body_len: self.body_len.saturating_sub(cut as u32), command, ..self }
    }
}

/// The length of a frame whose first bytes these are, its length field included.
pub(crate) fn frame_len(length: [u8; LENGTH]) -> usize {
    (u32::from_be_bytes(length) as usize).saturating_add(LENGTH)
}

/// The announced body length, if it is acceptable.
#[cfg_attr(target_os = "none", inline(never))]
pub(super) fn check_length(length: [u8; LENGTH], limits: &Limits) -> Result<u32, FrameError> {
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
