//! The receiving half of a session: from a datagram to the frames in it.

use super::Session;
use super::lanes::Lanes;
use crate::datagram::{Content, Link};
use crate::frame::{Reader, Sink};
use crate::kcp::{Kcp, Origin};
use crate::lane::Lane;
use crate::outbox::FrameStore;
#[cfg(feature = "alloc")]
use crate::outbox::Queues;
#[cfg(feature = "alloc")]
use crate::store::Room;
use crate::time::Instant;

/// See above. While it hands out frames the rest of its session can be used.
pub(crate) struct Intake<'s, S: FrameStore> {
    kcp: &'s mut Kcp<S>,
    link: &'s mut Link,
    pub(super) reader: &'s mut Reader<S>,
    lanes: &'s mut Lanes<S>,
}

/// What waits to be sent in a session.
#[cfg(feature = "alloc")]
pub(crate) struct Waiting<'s, S: FrameStore> {
    pub(crate) control: &'s mut S::Outbox,
    pub(crate) outbox: &'s mut Queues<S>,
}

/// What has come from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrivals {
    /// When it was heard last.
    pub(crate) heard: Option<Instant>,
    /// Segments with new data.
    pub(crate) segments: u64,
}

impl<S: FrameStore> Intake<'_, S> {
    /// Takes in a datagram; frames that come in order go to `sink` at once, and what it leaves stays in the engine. False if
    /// part of the datagram was not understood.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        content: Content<'_>,
        sink: &mut impl Sink<S>,
    ) -> bool {
        let Self { kcp, link, reader, lanes } = self;
        let mut feed = |lane: Lane, bytes: &[u8]| match lane.is_main() {
            true => reader.feed(bytes, sink),
            false => lanes.feed(lane, reader, bytes, sink),
        };
        // First the datagram's own segments, then those that it rebuilds.
        let mut understood = match link.open(now, datagram, content) {
            Some((segments, origin)) => kcp.handle_datagram_lanes(now, segments, origin, &mut feed).is_ok(),
            None => true,
        };
        while let Some(rebuilt) = link.poll_rebuilt() {
            understood &= kcp.handle_datagram_lanes(now, rebuilt, Origin::Rebuilt, &mut feed).is_ok();
        }
        understood
    }

    /// Reads on where `sink` left something.
    #[cfg(feature = "alloc")]
    pub(crate) fn read_on(&mut self, now: Instant, sink: &mut impl Sink<S>) {
        let Self { kcp, reader, lanes, .. } = self;
        kcp.recv_lanes(now, |lane, bytes| match lane.is_main() {
            true => reader.feed(bytes, sink),
            false => lanes.feed(lane, reader, bytes, sink),
        });
    }
}

impl<S: FrameStore> Session<S> {
    /// Lends out the receiving half, and what frames may add to.
    #[cfg(feature = "alloc")]
    pub(crate) fn split(&mut self) -> (Intake<'_, S>, Waiting<'_, S>) {
        let Self { kcp, link, reader, lanes, control, outbox, .. } = self;
        (Intake { kcp, link, reader, lanes }, Waiting { control, outbox })
    }

    /// See [`Intake::handle_datagram`]. What was left waits for [`poll_frame`](Self::poll_frame).
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        content: Content<'_>,
        sink: &mut impl Sink<S>,
    ) -> bool {
        let Self { kcp, link, reader, lanes, .. } = self;
        Intake { kcp, link, reader, lanes }.handle_datagram(now, datagram, content, sink)
    }

    /// Bytes of memory taken by what has come and waits, or is put together.
    #[cfg(feature = "alloc")]
    pub(crate) fn held(&self) -> usize {
        self.kcp.held() + self.reader.held() + self.lanes.held() + self.link.held()
    }

    /// Bytes of the frames that have begun to come, once they are whole.
    #[cfg(feature = "alloc")]
    pub(crate) fn announced(&self) -> usize {
        self.reader.announced() + self.lanes.announced()
    }

    /// Bytes that can come without more of that: what frames that have begun have room for, but for what waits to go there
    /// behind something that is missing.
    #[cfg(feature = "alloc")]
    pub(crate) fn ahead(&self) -> usize {
        self.reader.ahead().saturating_add(self.lanes.ahead()).saturating_sub(self.waiting())
    }

    /// Bytes of that which wait for earlier segments, or to be read.
    #[cfg(feature = "alloc")]
    pub(crate) fn waiting(&self) -> usize {
        self.kcp.waiting()
    }

    /// How much more may be taken in, where memory is short.
    #[cfg(feature = "alloc")]
    pub(crate) fn set_room(&mut self, now: Instant, room: Option<Room>) {
        if room.is_some() {
            self.reader.be_frugal();
            self.lanes.be_frugal();
        }
        self.kcp.set_room(now, room);
    }

    /// Forgets what is only kept to rebuild others with, which are sent again without it.
    #[cfg(feature = "alloc")]
    pub(crate) fn forget_helpers(&mut self) {
        self.kcp.forget_helpers();
        self.link.forget_helpers();
    }

    /// Forgets all that has come and was not read, because nobody will.
    #[cfg(feature = "alloc")]
    pub(crate) fn forget_received(&mut self) {
        self.kcp.forget_received();
        self.reader.reset();
        self.lanes.forget_received();
        self.link.forget_helpers();
    }

    /// What has come so far.
    pub(crate) fn arrivals(&self) -> Arrivals {
        Arrivals { heard: self.kcp.last_heard(), segments: self.kcp.stats().segments_received }
    }
}
