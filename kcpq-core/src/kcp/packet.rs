//! A datagram being filled with segments.

use super::segment::{Command, HEADER, Header};

/// Bytes of segments that every path in use carries: of a datagram of 1200 bytes what FEC, a cipher and the like leave.
const SAFE: usize = 1_152;

/// What was written so far, and what every header of it has in common.
#[derive(Debug)]
pub(super) struct Packet<'o> {
    out: &'o mut [u8],
    len: usize,
    /// Conversation, window and `una` of this moment.
    template: Header,
}

impl<'o> Packet<'o> {
    /// An empty datagram of up to `out.len()` bytes.
    pub(super) fn new(out: &'o mut [u8], template: Header) -> Self {
        Self { out, len: 0, template }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.out.len()
    }

    /// The header of a segment without data, before command, number and clock are filled in.
    pub(super) fn template(&self) -> Header {
        self.template
    }

    /// Bytes of data that a further segment may have; `None` if not even its header has room.
    pub(super) fn room(&self) -> Option<usize> {
        (self.out.len() - self.len).checked_sub(HEADER)
    }

    /// True if a segment of `len` bytes of data that got lost more than once may be added: alone, or among others in a
    /// datagram that every path carries, for what got lost may have been a datagram that was too long for it.
    pub(super) fn takes_again(&mut self, len: u16) -> bool {
        let end = self.len + HEADER + usize::from(len);
        if self.len > 0 && end > SAFE {
            return false;
        }
        let limit = end.max(SAFE).min(self.out.len());
        self.out = core::mem::take(&mut self.out).split_at_mut(limit).0;
        true
    }

    /// Appends a segment and returns the place of its data, which `header.len` says; `None` if it has no room.
    pub(super) fn push(&mut self, header: Header) -> Option<&mut [u8]> {
        let end = self.len + HEADER + header.len as usize;
        let (head, data) = self.out.get_mut(self.len..end)?.split_first_chunk_mut::<HEADER>()?;
        *head = header.to_bytes();
        self.len = end;
        Some(data)
    }

    /// Appends a segment without data. False if it has no room.
    pub(super) fn push_bare(&mut self, command: Command) -> bool {
        self.push(Header { command, ..self.template }).is_some()
    }
}
