//! What a session has for each of its lanes but lane 0 (PROTOCOL.md 2.12).

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use super::transmit::push_mark;
use super::{Mark, Session};
use crate::frame::{Flaw, Reader, Sink};
use crate::kcp::{self, Kcp};
use crate::lane::{Lane, Priority};
use crate::outbox::{Dialect, FrameStore, Outbox};
use crate::store::{PerLane, Queue};
use crate::time::{Duration, Instant};

/// The memory of a lane besides lane 0, where memory is lent.
pub(crate) struct LaneParts<S: FrameStore> {
    /// The engine's.
    pub(crate) kcp: kcp::LaneParts<S>,
    /// Messages that wait.
    pub(crate) outbox: S::Outbox,
    /// The frame being put together.
    pub(crate) inbox: S::Inbox,
    /// As for lane 0.
    pub(crate) marks: S::Queue<Mark>,
}

/// Lanes that were used, in either direction.
pub(crate) struct Lanes<S: FrameStore> {
    used: S::Lanes<Branch<S>>,
    /// A frame that goes when all lanes have been acknowledged: command and payload.
    #[cfg(feature = "alloc")]
    last: Option<(u8, Box<[u8]>)>,
}

/// One of them.
struct Branch<S: FrameStore> {
    reader: Reader<S>,
    marks: S::Queue<Mark>,
    /// The end of what was moved into its stream, wrapping.
    moved_to: u32,
    /// Messages moved into its stream, and those whose last byte the peer has acknowledged, in all.
    moved: u64,
    acknowledged: u64,
}

impl<S: FrameStore> Branch<S> {
    fn new(reader: Reader<S>, marks: S::Queue<Mark>) -> Self {
        Self { reader, marks, moved_to: 0, moved: 0, acknowledged: 0 }
    }
}

impl<S: FrameStore> Lanes<S> {
    pub(super) fn new() -> Self {
        Self {
            used: Default::default(),
            #[cfg(feature = "alloc")]
            last: None,
        }
    }

    /// What is kept of a lane other than 0; `main` shows how frames are read. `None` if the store has no memory for it.
    fn of(&mut self, lane: Lane, main: &Reader<S>) -> Option<&mut Branch<S>> {
        self.used.claim(lane, || Some(Branch::new(main.another()?, S::queue()?)))
    }

    fn get(&self, lane: Lane) -> Option<&Branch<S>> {
        self.used.get(lane)
    }

    fn all(&self) -> impl Iterator<Item = &Branch<S>> {
        self.used.iter().map(|(_, branch)| branch)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Branch<S>> {
        self.used.iter_mut().map(|(_, branch)| branch)
    }

    /// The reader of a lane other than 0.
    pub(super) fn reader(&mut self, lane: Lane) -> Option<&mut Reader<S>> {
        self.used.get_mut(lane).map(|branch| &mut branch.reader)
    }

    /// What that reader has put together.
    pub(super) fn assembled(&self, lane: Lane) -> &[u8] {
        self.get(lane).map_or(&[], |branch| branch.reader.assembled())
    }

    /// Feeds bytes of a lane other than 0 to its reader; returns how many were taken. Those of a lane that there is no memory for
    /// are passed over, and that is told.
    #[cold]
    pub(super) fn feed(&mut self, lane: Lane, main: &Reader<S>, bytes: &[u8], sink: &mut impl Sink<S>) -> usize {
        let Some(branch) = self.of(lane, main) else {
            sink.flaw(Flaw::Oversize { limit: 0, actual: bytes.len() });
            return bytes.len();
        };
        sink.enter(lane);
        let taken = branch.reader.feed(bytes, sink);
        sink.enter(Lane::NORMAL);
        taken
    }

    /// Begins anew with another conversation.
    pub(super) fn reset(&mut self) {
        #[cfg(feature = "alloc")]
        {
            self.last = None;
        }
        for branch in self.all_mut() {
            branch.reader.reset();
            branch.moved_to = 0;
        }
    }

    /// Messages in doubt are given up.
    pub(super) fn give_up(&mut self) {
        for branch in self.all_mut() {
            branch.acknowledged = branch.moved;
            branch.marks.clear();
        }
    }

    /// What came and was not read is of no interest any more.
    #[cfg(feature = "alloc")]
    pub(super) fn forget_received(&mut self) {
        self.all_mut().for_each(|branch| branch.reader.reset());
    }

    /// Bytes of memory taken by frames that are being put together, and how many can come without more of that.
    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        self.all().map(|branch| branch.reader.held()).sum()
    }

    /// Bytes of these frames once they are whole.
    #[cfg(feature = "alloc")]
    pub(super) fn announced(&self) -> usize {
        self.all().map(|branch| branch.reader.announced()).sum()
    }

    /// As [`Reader::be_frugal`], for all of them.
    #[cfg(feature = "alloc")]
    pub(super) fn be_frugal(&mut self) {
        self.all_mut().for_each(|branch| branch.reader.be_frugal());
    }

    #[cfg(feature = "alloc")]
    pub(super) fn ahead(&self) -> usize {
        self.all().fold(0, |sum: usize, branch| sum.saturating_add(branch.reader.ahead()))
    }

    /// Messages moved into the streams of all these lanes, and those of one; and acknowledged.
    pub(super) fn moved(&self) -> u64 {
        self.all().map(|branch| branch.moved).sum()
    }

    pub(super) fn moved_of(&self, lane: Lane) -> u64 {
        self.get(lane).map_or(0, |branch| branch.moved)
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.all().map(|branch| branch.acknowledged).sum()
    }

    pub(super) fn acknowledged_of(&self, lane: Lane) -> u64 {
        self.get(lane).map_or(0, |branch| branch.acknowledged)
    }

    /// Takes note of what the peer has acknowledged. Returns how long the last of it was under way.
    pub(super) fn on_acknowledged(&mut self, now: Instant, kcp: &Kcp<S>) -> Option<Duration> {
        let mut latency = None;
        for (lane, branch) in self.used.iter_mut() {
            let acked = kcp.acked_offset_of(lane);
            while let Some(&mark) = branch.marks.get(0)
                && acked.wrapping_sub(mark.end) as i32 >= 0
            {
                branch.marks.pop();
                branch.acknowledged += u64::from(mark.frames);
                latency = Some(now.since(mark.at));
            }
        }
        latency
    }

    /// All that was moved into the streams of these lanes has been acknowledged.
    fn are_acknowledged(&self, kcp: &Kcp<S>) -> bool {
        self.used.iter().all(|(lane, branch)| kcp.acked_offset_of(lane) == branch.moved_to)
    }

    /// A frame is to go last of all, and has not gone.
    pub(super) fn has_last(&self) -> bool {
        #[cfg(feature = "alloc")]
        return self.last.is_some();
        #[cfg(not(feature = "alloc"))]
        false
    }

    /// A message of a lane that was begun cannot go on, and is in doubt.
    pub(super) fn on_cut_off(&mut self, lane: Lane) {
        if let Some(branch) = self.used.get_mut(lane) {
            branch.moved += 1;
        }
    }
}

impl<S: FrameStore> Session<S> {
    /// True if there can be other lanes than 0: it has memory for them.
    pub(crate) fn knows_lanes(&self) -> bool {
        self.lanes.used.most() > 0
    }

    /// Memory for one more lane. False if there are as many as there can be.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn lend_lane(&mut self, parts: LaneParts<S>) -> bool {
        let reader = Reader::new(*self.reader.limits(), parts.inbox);
        self.lanes.used.lend(Branch::new(reader, parts.marks))
            && self.outbox.lend(parts.outbox)
            && self.kcp.lend_lane(parts.kcp)
    }

    /// True if a lane can be used: whoever uses one that was not used so far has it for good. Where memory is lent there are as
    /// many as it was lent for.
    pub(crate) fn claim(&mut self, lane: Lane) -> bool {
        S::GROWS || lane.is_main() || self.lanes.of(lane, &self.reader).is_some()
    }

    /// Nothing waits in other lanes than 0, nor is under way there.
    pub(crate) fn are_lanes_idle(&self) -> bool {
        self.outbox.waiting().next().is_none() && self.lanes.are_acknowledged(&self.kcp)
    }

    /// Moves frames of other lanes than 0 into their streams, as many as the next datagram needs; to a peer that knows no lanes
    /// into the one stream, those that go first in front.
    pub(super) fn refill_lanes(&mut self, now: Instant) {
        if self.outbox.waiting().next().is_some() && !self.hold {
            self.move_lanes(now);
        }
        self.finish_lanes();
    }

    /// Queues what is to go last of all, when all else has gone.
    pub(super) fn finish_lanes(&mut self) {
        #[cfg(feature = "alloc")]
        if self.lanes.last.is_some() && self.outbox.is_empty() && self.are_lanes_idle() {
            self.say_last();
        }
    }

    /// True if the stream of lane 0 has the beginning of a frame of another lane, so that nothing may go before its rest.
    pub(super) fn is_cut_short(&self) -> bool {
        !S::GROWS && !self.kcp.has_lanes() && self.outbox.mid_frame().is_some_and(|lane| !lane.is_main())
    }

    #[cold]
    fn move_lanes(&mut self, now: Instant) {
        let one_stream = !self.kcp.peer().lanes && self.dialect != Dialect::Unknown;
        if !(one_stream || self.kcp.has_lanes()) {
            return; // it is not known yet, or native datagrams are about to begin
        }
        let enough = self.kcp.mss();
        while let Some(lane) = self.next_lane(enough, one_stream) {
            if !self.move_one(now, lane, one_stream) {
                return;
            }
        }
    }

    /// A lane other than 0 whose stream needs more.
    fn next_lane(&self, enough: usize, one_stream: bool) -> Option<Lane> {
        if one_stream && let Some(begun) = self.outbox.mid_frame() {
            // In one stream it goes on with that.
            return (!begun.is_main() && self.kcp.unsent_of(Lane::NORMAL) < enough).then_some(begun);
        }
        self.outbox.waiting().find(|lane| {
            let stream = if one_stream { Lane::NORMAL } else { *lane };
            let turn = !one_stream || lane.priority() < Priority::Bulk || self.outbox.len_of(Lane::NORMAL) == 0;
            turn && self.kcp.unsent_of(stream) < enough
        })
    }

    /// Moves some frames of a lane. False if there are none that could be moved.
    fn move_one(&mut self, now: Instant, lane: Lane, one_stream: bool) -> bool {
        let into = if one_stream { Lane::NORMAL } else { lane };
        self.outbox.lend_waits(lane);
        let expired = self.outbox.of(lane).expire(now);
        self.on_expired(lane, expired);
        let Some(stream) = self.kcp.stream_of(into) else { return false };
        let moved = self.outbox.of(lane).move_to(stream, now, self.dialect);
        self.outbox.lend_waits(lane);
        let Some(moved) = moved else { return expired > 0 };
        let Some(branch) = self.lanes.of(lane, &self.reader) else { return false };
        branch.moved += u64::from(moved.frames);
        if let Some(key) = moved.latest.filter(|_| !one_stream) {
            self.kcp.supersede(lane, moved.bytes, key);
        }
        if one_stream {
            // It is acknowledged as what is of lane 0.
            self.moved_to = self.moved_to.wrapping_add(moved.bytes as u32);
            self.mark(now, moved.frames);
        } else {
            branch.moved_to = branch.moved_to.wrapping_add(moved.bytes as u32);
            push_mark::<S>(&mut branch.marks, Mark { end: branch.moved_to, frames: moved.frames, at: now });
        }
        true
    }

    /// Queues a frame that goes behind all that waits, in whichever lane: only when that is acknowledged it is certain to be
    /// the last that is read.
    #[cfg(feature = "alloc")]
    pub(crate) fn finish_with(&mut self, command: u8, payload: &[u8]) {
        if self.are_lanes_idle() {
            let _ = self.message(command, &[], payload);
        } else {
            self.lanes.last = Some((command, payload.into()));
        }
    }

    #[cfg(feature = "alloc")]
    #[cold]
    fn say_last(&mut self) {
        if let Some((command, payload)) = self.lanes.last.take() {
            let _ = self.control(command, &[], &payload);
        }
    }
}
