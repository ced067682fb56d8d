//! Takes frames out of the stream.

#[cfg(feature = "alloc")]
use super::head::HEAD;
use super::head::{Head, LENGTH, check_length};
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

/// What is made of a stream, by whoever it is for: see [`Reader::feed`].
pub(crate) trait Sink<S: Store> {
    /// Asked again and again: what is to be done with the rest of the `input`.
    fn next(&mut self, reader: &Reader<S>, input: &[u8]) -> Next;
    /// A frame has come. It lies `in_place` in the input, or else has been put together in the `inbox`.
    fn frame(&mut self, head: Head, in_place: Option<&[u8]>, inbox: &mut S::Inbox) -> Then;
    /// Something has come that is no frame to be used.
    fn flaw(&mut self, flaw: Flaw);
}

/// What is done next with bytes of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// They are read up to the end of one frame.
    Read,
    /// They are left where they are.
    Leave,
}

/// What is done with a frame after it was shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// It is done with.
    Done,
    /// It stays where it is, and nothing behind it is read.
    Keep,
}

/// What is wrong with the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flaw {
    /// A frame longer than the inbox, which is passed over.
    Oversize { limit: usize, actual: usize },
    /// A frame that makes no sense; the next one can be read all the same.
    Frame,
    /// Nothing makes sense from here on.
    Stream(FrameError),
}

/// The sink that leaves everything where it is.
pub(crate) struct Leave;

impl<S: Store> Sink<S> for Leave {
    #[inline(always)]
    fn next(&mut self, _: &Reader<S>, _: &[u8]) -> Next {
        Next::Leave
    }

    fn frame(&mut self, _: Head, _: Option<&[u8]>, _: &mut S::Inbox) -> Then {
        Then::Keep
    }

    fn flaw(&mut self, _: Flaw) {}
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

    /// The head of the frame that `input` begins or goes on with; `None` if it is not all there, and while the rest of an
    /// oversize frame is passed over.
    #[cfg(feature = "alloc")]
    pub(crate) fn upcoming(&self, input: &[u8]) -> Option<Head> {
        if self.skip > 0 {
            return None;
        }
        let begun = if self.done { &[] } else { self.inbox.bytes() };
        let bytes = match begun {
            [] => *input.first_chunk()?,
            begun => {
                let mut bytes = [0; HEAD];
                let (old, new) = bytes.split_at_mut(begun.len().min(HEAD));
                old.copy_from_slice(begun.get(..old.len())?);
                new.copy_from_slice(input.get(..new.len())?);
                bytes
            }
        };
        Some(Head::from_bytes(bytes))
    }

    /// Back to the beginning of a stream.
    pub fn reset(&mut self) {
        self.inbox.clear();
        self.skip = 0;
        self.done = false;
    }

    /// Reads frame after frame out of `input`, as long as `sink` wants more; returns how many bytes were taken.
    pub(crate) fn feed(&mut self, input: &[u8], sink: &mut impl Sink<S>) -> usize {
        let (mut taken, mut broken) = (0, false);
        while let Some(rest) = input.get(taken..).filter(|rest| !rest.is_empty()) {
            match sink.next(self, rest) {
                Next::Read if broken => break,
                Next::Read => {}
                Next::Leave => break,
            }
            let (count, progress) = self.read(rest);
            let in_place = matches!(progress, Progress::InPlace(_));
            let flaw = match progress {
                Progress::InPlace(frame) => self.hand_over(Some(frame), sink),
                Progress::Assembled => self.hand_over(None, sink),
                Progress::More => Ok(Then::Done),
                Progress::Oversize { limit, actual } => Err(Flaw::Oversize { limit, actual }),
                Progress::Broken(error) => Err(Flaw::Stream(error)),
            };
            match flaw {
                Ok(Then::Done) => {}
                Ok(Then::Keep) => return if in_place { taken } else { taken + count },
                Err(flaw) => {
                    broken = matches!(flaw, Flaw::Stream(_));
                    sink.flaw(flaw);
                }
            }
            taken += count;
        }
        taken
    }

    /// Hands a whole frame to `sink`: one that lies in the input, or the assembled one.
    #[inline(always)]
    fn hand_over(&mut self, in_place: Option<&[u8]>, sink: &mut impl Sink<S>) -> Result<Then, Flaw> {
        let bytes = in_place.unwrap_or_else(|| self.inbox.bytes()).first_chunk();
        let head = Head::from_bytes(*bytes.ok_or(Flaw::Stream(FrameError::Incomplete))?);
        match head.check_subject(&self.limits) {
            Ok(()) => Ok(sink.frame(head, in_place, &mut self.inbox)),
            // Where the frame ends is known all the same.
            Err(FrameError::SubjectTooLong { .. }) => Err(Flaw::Frame),
            Err(error) => Err(Flaw::Stream(error)),
        }
    }

    /// Reads up to the end of one frame. Returns how many bytes of `input` it took, at least one unless `input` is
    /// empty or the stream is broken.
    #[inline(always)]
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
