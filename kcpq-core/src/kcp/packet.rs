//! A datagram being filled with segments.

use super::env::Env;
use super::native::{self, Items};
use super::segment::{Command, HEADER, Header};

/// Bytes of segments that every path in use carries: of a datagram of 1200 bytes what FEC, a cipher and the like leave.
const SAFE: usize = 1_152;

/// What was written so far, and what every segment of it has in common.
#[derive(Debug)]
pub(super) struct Packet<'o> {
    out: &'o mut [u8],
    len: usize,
    /// Conversation, window and `una` of this moment.
    template: Header,
    /// In place of KCP's segments.
    items: Option<Items>,
}

impl<'o> Packet<'o> {
    /// An empty datagram of up to `out.len()` bytes.
    pub(super) fn new(env: &Env, out: &'o mut [u8], template: Header) -> Self {
        Self { out, len: 0, template, items: env.items() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The most that it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.out.len()
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
        // What a full segment leaves is for none.
        self.room_for(Command::Push).filter(|room| self.items.is_none() || *room >= native::LEAST)
    }

    /// The same for a segment with this command.
    pub(super) fn room_for(&self, command: Command) -> Option<usize> {
        let head = if self.items.is_some() { Items::head(command) } else { HEADER };
        (self.out.len() - self.len).checked_sub(head)
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
    #[cfg_attr(target_os = "none", inline(never))]
    #[cfg_attr(not(target_os = "none"), inline)]
    pub(super) fn push(&mut self, header: Header) -> Option<&mut [u8]> {
        let begin = match &mut self.items {
            Some(items) => items.push(self.out, self.len, &self.template, &header)?,
            None => {
                *self.out.get_mut(self.len..)?.first_chunk_mut()? = header.to_bytes();
                self.len + HEADER
            }
        };
        let end = begin + header.len as usize;
        let data = self.out.get_mut(begin..end)?;
        self.len = end;
        Some(data)
    }

    /// Appends a segment without data. False if it has no room.
    pub(super) fn push_bare(&mut self, command: Command) -> bool {
        self.push(Header { command, ..self.template }).is_some()
    }

    /// The datagram's length, if there is anything in it.
    pub(super) fn finish(&mut self) -> Option<usize> {
        if self.len > 0
            && let Some(items) = self.items.take()
        {
            self.len = items.finish(self.out, self.len);
        }
        (self.len > 0).then_some(self.len)
    }
}
