//! Takes frames out of the stream.

use super::head::{LENGTH, check_length};
use super::{FrameError, Limits};
use crate::store::{Inbox, Store};

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
