//! Without lanes there is one outbox.

use super::{FrameStore, Outbox};
use crate::lane::Lane;
use crate::time::Instant;

pub(crate) struct Queues<S: FrameStore>(S::Outbox);

impl<S: FrameStore> Queues<S> {
    pub(crate) fn new(main: S::Outbox) -> Self {
        Self(main)
    }

    #[inline]
    pub(crate) fn main(&mut self) -> &mut S::Outbox {
        &mut self.0
    }

    #[inline]
    pub(crate) fn of(&mut self, _: Lane) -> &mut S::Outbox {
        &mut self.0
    }

    pub(crate) fn len_of(&self, _: Lane) -> usize {
        self.0.len()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn frames(&self) -> usize {
        self.0.frames()
    }

    pub(crate) fn expire(&mut self, now: Instant, mut told: impl FnMut(Lane, u32)) {
        told(Lane::NORMAL, self.0.expire(now));
    }

    pub(crate) fn drop_oldest(&mut self, _: Lane) -> Option<Lane> {
        self.0.drop_oldest().then_some(Lane::NORMAL)
    }

    pub(crate) fn drop_longer(&mut self, limit: usize, mut told: impl FnMut(Lane, u32)) {
        told(Lane::NORMAL, self.0.drop_longer(limit));
    }

    pub(crate) fn drop_begun(&mut self, mut told: impl FnMut(Lane)) {
        if self.0.drop_begun() {
            told(Lane::NORMAL);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn take_front(&mut self) -> Option<(Lane, bytes::Bytes, Option<Instant>)>
    where
        S: FrameStore<Outbox = super::HeapOutbox>,
    {
        self.0.take_front().map(|(frames, expires)| (Lane::NORMAL, frames, expires))
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn gives_way(&self) -> bool
    where
        S: FrameStore<Outbox = super::HeapOutbox>,
    {
        self.0.gives_way()
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn waiting(&self) -> impl Iterator<Item = Lane> {
        core::iter::empty()
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn lend_waits(&mut self, _: Lane) {}

    #[cfg(feature = "alloc")]
    pub(crate) fn for_each(&mut self, mut act: impl FnMut(&mut S::Outbox)) {
        act(&mut self.0);
    }
}
