//! Takes frames out of the stream.

use core::ops::ControlFlow;

use super::head::{Head, LENGTH, check_length};
use super::{FrameError, Limits};
#[cfg(feature = "lanes")]
use crate::lane::Lane;
use crate::store::{Inbox, Store, copy};

/// A whole frame whose head makes sense and is within the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole<'a> {
    /// Its head.
    pub head: Head,
    /// The frame, if it lies in the input. Otherwise it lies in the inbox, and the next read forgets it.
    pub in_place: Option<&'a [u8]>,
}

/// What comes in place of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A frame that is longer than the inbox. Its bytes are passed over as they come; this is said once, at its beginning.
    Oversize {
        /// The most that the inbox holds.
        limit: usize,
        /// The length of the frame.
        actual: usize,
    },
    /// A frame that makes no sense. Where it ends is known all the same.
    Frame(FrameError),
    /// The stream makes no sense from here on.
    Stream(FrameError),
}

/// Takes frames out of a byte stream that comes in pieces of any size.
#[derive(Debug)]
pub struct Reader<S: Store> {
    limits: Limits,
    inbox: S::Inbox,
    state: State,
}

/// Where the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a frame; what there is of its length field lies in the inbox.
    Begin,
    /// In a frame that is put together, with so many bytes still to come.
    Assemble(usize),
    /// In a frame that is passed over, with so many bytes still to come.
    PassOver(usize),
    /// Behind a frame that lies in the inbox.
    Done,
}

impl<S: Store> Reader<S> {
    /// A reader at the beginning of a stream.
    pub fn new(limits: Limits, inbox: S::Inbox) -> Self {
        Self { limits, inbox, state: State::Begin }
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

    /// Bytes of memory that the frame being put together takes, or may take with what comes next.
    #[cfg(feature = "alloc")]
    pub(crate) fn held(&self) -> usize {
        self.inbox.held()
    }

    /// Bytes that it will have once it is whole.
    #[cfg(feature = "alloc")]
    pub(crate) fn announced(&self) -> usize {
        self.inbox.announced()
    }

    /// Bytes of it that can come without more of that.
    #[cfg(feature = "alloc")]
    pub(crate) fn ahead(&self) -> usize {
        self.inbox.ahead()
    }

    /// Memory is short: what there is of the next frame is all that counts.
    #[cfg(feature = "alloc")]
    pub(crate) fn be_frugal(&mut self) {
        self.inbox.be_frugal();
    }

    /// Another one, for another stream, if the store has memory for it.
    #[cfg(feature = "lanes")]
    pub(crate) fn another(&self) -> Option<Self> {
        Some(Self::new(self.limits, self.inbox.another()?))
    }

    /// Back to the beginning of a stream.
    pub fn reset(&mut self) {
        self.inbox.clear();
        self.state = State::Begin;
    }

    /// Reads up to the end of one frame. Returns how many bytes of `input` it took, at least one unless `input` is empty
    /// or the stream is broken; and the frame if it is whole now, or what came in its place.
    #[inline(always)] // into the one loop around it
    pub fn read<'i>(&mut self, input: &'i [u8]) -> (usize, Result<Option<Whole<'i>>, Flaw>) {
        if self.state == State::Done {
            self.reset();
        }
        if self.state == State::Begin
            && self.inbox.bytes().is_empty()
            && let Some(length) = input.first_chunk()
            && let Ok(body) = check_length(*length, &self.limits)
            && let Some(frame) = input.get(..LENGTH + body as usize)
        {
            let head = self.check(frame);
            return (frame.len(), head.map(|head| Some(Whole { head, in_place: Some(frame) })));
        }
        let (count, read) = self.assemble(input);
        (count, read.map(|head| head.map(|head| Whole { head, in_place: None })))
    }

    /// The same for a frame that does not lie whole in `input`.
    fn assemble(&mut self, input: &[u8]) -> (usize, Result<Option<Head>, Flaw>) {
        let mut begun = Ok(None);
        if self.state == State::Begin {
            let Some(length) = self.peek(input) else {
                self.inbox.write(input);
                return (input.len(), Ok(None));
            };
            let len = match check_length(length, &self.limits) {
                Ok(body) => LENGTH + body as usize,
                Err(error) => return (0, Err(Flaw::Stream(error))),
            };
            let missing = len.saturating_sub(self.inbox.bytes().len());
            self.state = State::Assemble(missing);
            if len > self.inbox.capacity() {
                begun = Err(Flaw::Oversize { limit: self.inbox.capacity(), actual: len });
                self.inbox.clear();
                self.state = State::PassOver(missing);
            }
        }
        match self.state {
            State::Assemble(missing) => {
                let piece = input.get(..missing).unwrap_or(input);
                self.inbox.expect(missing);
                self.inbox.write(piece);
                if piece.len() < missing {
                    self.state = State::Assemble(missing - piece.len());
                    return (piece.len(), Ok(None));
                }
                self.state = State::Done;
                (piece.len(), self.check(self.inbox.bytes()).map(Some))
            }
            State::PassOver(missing) => {
                let count = missing.min(input.len());
                self.state = if count < missing { State::PassOver(missing - count) } else { State::Begin };
                (count, begun)
            }
            State::Begin | State::Done => (0, begun),
        }
    }

    /// The head of a whole frame whose length was found acceptable.
    #[cfg_attr(target_os = "none", inline(never))]
    fn check(&self, frame: &[u8]) -> Result<Head, Flaw> {
        let head = Head::read(frame);
        match head.check_subject(&self.limits) {
            Ok(()) => Ok(head),
            Err(error @ FrameError::SubjectTooLong { .. }) => Err(Flaw::Frame(error)),
            Err(error) => Err(Flaw::Stream(error)),
        }
    }

    /// The first bytes of the frame that `input` begins or goes on with, if they are there.
    fn peek<const N: usize>(&self, input: &[u8]) -> Option<[u8; N]> {
        let begun = if self.state == State::Done { &[] } else { self.inbox.bytes() };
        if let Some(bytes) = begun.first_chunk().or_else(|| input.first_chunk().filter(|_| begun.is_empty())) {
            return Some(*bytes);
        }
        let mut bytes = [0; N];
        let held = copy(begun, &mut bytes);
        let count = held + copy(input, bytes.get_mut(held..).unwrap_or_default());
        (count == N).then_some(bytes)
    }
}

/// What is made of a stream, by whoever it is for: see [`Reader::feed`].
pub(crate) trait Sink<S: Store> {
    /// Asked again and again: whether more of the stream is to be read, of which `input` is next.
    fn wants(&mut self, reader: &Reader<S>, input: &[u8]) -> bool;
    /// Asked before a frame of which nothing has been read: takes whole frames that `input` begins with, all at once, and says
    /// how many bytes that are. What it does not take comes as a [`frame`](Self::frame).
    fn run(&mut self, _reader: &Reader<S>, _input: &[u8]) -> usize {
        0
    }
    /// A frame has come. If it does not lie in the input it does in the `inbox`. With `Break` it stays there, and nothing
    /// behind it is read.
    fn frame(&mut self, frame: Whole<'_>, inbox: &mut S::Inbox) -> ControlFlow<()>;
    /// Something else has come.
    fn flaw(&mut self, flaw: Flaw);
    /// What comes until this is said again is of this lane; of lane 0 before.
    #[cfg(feature = "lanes")]
    fn enter(&mut self, _lane: Lane) {}
    /// True if the rest of the stream is of no interest: it is taken and forgotten.
    fn is_over(&self) -> bool {
        false
    }
}

/// The sink that leaves everything where it is.
pub(crate) struct Leave;

impl<S: Store> Sink<S> for Leave {
    #[inline(always)]
    fn wants(&mut self, _: &Reader<S>, _: &[u8]) -> bool {
        false
    }

    fn frame(&mut self, _: Whole<'_>, _: &mut S::Inbox) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn flaw(&mut self, _: Flaw) {}
}

impl<S: Store> Reader<S> {
    /// Reads frame after frame out of `input`, as long as `sink` wants more; returns how many bytes were taken.
    pub(crate) fn feed(&mut self, input: &[u8], sink: &mut impl Sink<S>) -> usize {
        let mut taken = 0;
        while let Some(rest) = input.get(taken..).filter(|rest| !rest.is_empty())
            && sink.wants(self, rest)
        {
            if self.is_between_frames() {
                let run = sink.run(self, rest);
                if run > 0 {
                    taken += run;
                    continue;
                }
            }
            let (count, read) = self.read(rest);
            let goes_on = match read {
                Ok(None) => true,
                Ok(Some(frame)) => match sink.frame(frame, &mut self.inbox) {
                    ControlFlow::Continue(()) => {
                        if frame.in_place.is_none() {
                            self.reset(); // at once: the next bytes may be long in coming
                        }
                        true
                    }
                    ControlFlow::Break(()) if frame.in_place.is_some() => break,
                    ControlFlow::Break(()) => false,
                },
                Err(flaw) => {
                    sink.flaw(flaw);
                    !matches!(flaw, Flaw::Stream(_))
                }
            };
            taken += count;
            if !goes_on {
                break;
            }
        }
        if sink.is_over() { input.len() } else { taken }
    }

    fn is_between_frames(&self) -> bool {
        self.state == State::Begin && self.inbox.bytes().is_empty()
    }

    /// The head of the frame that `input` begins or goes on with; `None` if it is not all there, and while the rest of an
    /// oversize frame is passed over.
    #[cfg(feature = "alloc")]
    pub(crate) fn upcoming(&self, input: &[u8]) -> Option<Head> {
        if let State::PassOver(_) = self.state { None } else { self.peek(input).map(Head::from_bytes) }
    }
}
