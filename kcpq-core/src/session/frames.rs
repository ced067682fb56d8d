//! The frames that have come, one at a time, where they lie.

use core::ops::ControlFlow;

use super::Session;
use crate::frame::{Flaw, Frame, Head, Reader, Sink, Whole};
use crate::kcp::Kcp;
use crate::lane::Lane;
use crate::outbox::FrameStore;
use crate::store::Inbox;
use crate::time::Instant;

/// A whole frame that has come. It stays where it is until [`Session::leave`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) head: Head,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// At the front of the engine's window.
    Window,
    /// Put together in the inbox of this lane.
    Inbox(Lane),
}

/// Takes the first thing that comes, and leaves it in its place.
struct First {
    lane: Lane,
    found: Option<Result<Found, Flaw>>,
}

impl<S: FrameStore> Sink<S> for First {
    fn wants(&mut self, _: &Reader<S>, _: &[u8]) -> bool {
        self.found.is_none()
    }

    fn frame(&mut self, frame: Whole<'_>, _: &mut S::Inbox) -> ControlFlow<()> {
        let place = if frame.in_place.is_some() { Place::Window } else { Place::Inbox(self.lane) };
        self.found = Some(Ok(Found { head: frame.head, place }));
        ControlFlow::Break(())
    }

    fn flaw(&mut self, flaw: Flaw) {
        self.found = Some(Err(flaw));
    }
}

impl<S: FrameStore> Session<S> {
    /// The next frame, or what came in place of one; `None` when there is no whole one. The one before it was left.
    pub(crate) fn poll_frame(&mut self, now: Instant) -> Option<Result<Found, Flaw>> {
        let mut first = First { lane: Lane::NORMAL, found: None };
        while first.found.is_none() {
            first.lane = self.kcp.front_lane();
            let front = self.kcp.front()?;
            let taken = match first.lane.is_main() {
                true => self.reader.feed(front, &mut first),
                false => self.lanes.feed(first.lane, &self.reader, front, &mut first),
            };
            if taken > 0 || front.is_empty() {
                self.kcp.consume(now, taken);
            }
        }
        first.found
    }

    /// What was found.
    pub(crate) fn frame(&self, found: Found) -> Frame<'_> {
        found.head.frame(match found.place {
            Place::Window => in_window(&self.kcp, found),
            Place::Inbox(lane) if lane.is_main() => self.reader.assembled(),
            Place::Inbox(lane) => self.lanes.assembled(lane),
        })
    }

    /// The whole frame, to be given to the user: for the `last` time, so that it need not be kept, or not.
    pub(crate) fn body(&mut self, found: Found, last: bool) -> S::Body<'_> {
        match found.place {
            Place::Window => {
                // Others may be putting together something of their own.
                let Self { kcp, reader, lanes, .. } = self;
                lanes.reader(kcp.front_lane()).unwrap_or(reader).inbox().adopt(in_window(kcp, found))
            }
            Place::Inbox(lane) if last => self.reader_of(lane).inbox().take(),
            Place::Inbox(lane) => self.reader_of(lane).inbox().duplicate(),
        }
    }

    fn reader_of(&mut self, lane: Lane) -> &mut Reader<S> {
        self.lanes.reader(lane).unwrap_or(&mut self.reader)
    }

    /// A frame is dealt with.
    pub(crate) fn leave(&mut self, now: Instant, found: Found) {
        if matches!(found.place, Place::Window) {
            self.kcp.consume(now, found.head.frame_len());
        }
    }
}

fn in_window<S: FrameStore>(kcp: &Kcp<S>, found: Found) -> &[u8] {
    kcp.front().and_then(|front| front.get(..found.head.frame_len())).unwrap_or_default()
}
