//! What waits, by lane (PROTOCOL.md 2.12).

use super::{FrameStore, Outbox};
use crate::lane::Lane;
use crate::store::PerLane;
use crate::time::Instant;

/// The outboxes of a session or of a shard. Those of other lanes than 0 are there once something was put into them.
pub(crate) struct Queues<S: FrameStore> {
    main: S::Outbox,
    others: S::Lanes<S::Outbox>,
}

impl<S: FrameStore> Queues<S> {
    pub(crate) fn new(main: S::Outbox) -> Self {
        Self { main, others: Default::default() }
    }

    /// Memory for what waits in one more lane. False if there are as many as there can be.
    pub(crate) fn lend(&mut self, outbox: S::Outbox) -> bool {
        self.others.lend(outbox)
    }

    /// That of lane 0.
    #[inline]
    pub(crate) fn main(&mut self) -> &mut S::Outbox {
        &mut self.main
    }

    /// That of a lane; that of lane 0 if the store has no memory for another.
    #[inline]
    pub(crate) fn of(&mut self, lane: Lane) -> &mut S::Outbox {
        if lane.is_main() { &mut self.main } else { self.other(lane) }
    }

    #[cold]
    fn other(&mut self, lane: Lane) -> &mut S::Outbox {
        self.others.claim(lane, S::outbox).unwrap_or(&mut self.main)
    }

    /// The lanes other than 0 in which something waits, those that go first in front.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Lane> {
        self.others.iter().filter(|(_, outbox)| !outbox.is_empty()).map(|(lane, _)| lane)
    }

    fn all(&self) -> impl Iterator<Item = &S::Outbox> {
        core::iter::once(&self.main).chain(self.others.iter().map(|(_, outbox)| outbox))
    }

    fn all_mut(&mut self) -> impl Iterator<Item = (Lane, &mut S::Outbox)> {
        core::iter::once((Lane::NORMAL, &mut self.main)).chain(self.others.iter_mut())
    }

    /// Bytes that wait in one lane.
    pub(crate) fn len_of(&self, lane: Lane) -> usize {
        if lane.is_main() { self.main.len() } else { self.others.get(lane).map_or(0, Outbox::len) }
    }

    /// Bytes that wait, in all lanes.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        if self.others.is_empty() { self.main.len() } else { self.all().map(Outbox::len).sum() }
    }

    /// True if nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.others.iter().all(|(_, outbox)| outbox.is_empty())
    }

    /// Frames that wait.
    pub(crate) fn frames(&self) -> usize {
        self.all().map(Outbox::frames).sum()
    }

    /// Forgets what is at the front of each lane and whose time is over; says how many of which.
    pub(crate) fn expire(&mut self, now: Instant, mut told: impl FnMut(Lane, u32)) {
        self.all_mut().for_each(|(lane, outbox)| told(lane, outbox.expire(now)));
    }

    /// Forgets the oldest frame of a lane; if nothing waits there, of that which would go last. Says of which it was.
    pub(crate) fn drop_oldest(&mut self, lane: Lane) -> Option<Lane> {
        if self.len_of(lane) > 0 {
            return self.of(lane).drop_oldest().then_some(lane);
        }
        let waiting = self.all_mut().filter(|(_, outbox)| !outbox.is_empty());
        let (lane, outbox) = waiting.max_by_key(|(lane, _)| lane.priority())?;
        outbox.drop_oldest().then_some(lane)
    }

    /// Forgets frames with bodies of more than `limit` bytes; says how many of which lane.
    pub(crate) fn drop_longer(&mut self, limit: usize, mut told: impl FnMut(Lane, u32)) {
        self.all_mut().for_each(|(lane, outbox)| told(lane, outbox.drop_longer(limit)));
    }

    /// The lane whose front frame has been moved in part, if there is one.
    pub(crate) fn mid_frame(&self) -> Option<Lane> {
        let main = core::iter::once((Lane::NORMAL, &self.main));
        main.chain(self.others.iter()).find(|(_, outbox)| outbox.mid_frame()).map(|(lane, _)| lane)
    }

    /// Forgets the rest of each front frame that has been moved in part; says of which lanes they were.
    pub(crate) fn drop_begun(&mut self, mut told: impl FnMut(Lane)) {
        self.all_mut().filter_map(|(lane, outbox)| outbox.drop_begun().then_some(lane)).for_each(&mut told);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.main.clear();
        self.others.release(Outbox::clear);
    }

    /// Takes out whole frames of one lane that lie together, and when they are to be forgotten.
    #[cfg(feature = "alloc")]
    pub(crate) fn take_front(&mut self) -> Option<(Lane, bytes::Bytes, Option<Instant>)>
    where
        S: FrameStore<Outbox = super::HeapOutbox>,
    {
        let waiting = self.all_mut().filter(|(_, outbox)| outbox.frames() > 0);
        let (lane, outbox) = waiting.min_by_key(|(lane, _)| lane.priority())?;
        outbox.take_front().map(|(frames, expires)| (lane, frames, expires))
    }

    /// True if something that waits in lane 0 gives way to the next one of its subject.
    #[cfg(feature = "alloc")]
    pub(crate) fn gives_way(&self) -> bool
    where
        S: FrameStore<Outbox = super::HeapOutbox>,
    {
        self.main.gives_way()
    }

    /// Lends a lane where it is counted how long frames have waited; or takes it back.
    pub(crate) fn lend_waits(&mut self, lane: Lane) {
        if let Some(outbox) = self.others.get_mut(lane) {
            outbox.swap_waits_with(&mut self.main);
        }
    }

    /// Does something with the outboxes of all lanes.
    #[cfg(feature = "alloc")]
    pub(crate) fn for_each(&mut self, mut act: impl FnMut(&mut S::Outbox)) {
        self.all_mut().for_each(|(_, outbox)| act(outbox));
    }
}
