//! Without lanes a session has one stream.

use core::marker::PhantomData;

use super::Session;
use crate::frame::{Reader, Sink};
use crate::kcp::Kcp;
use crate::lane::Lane;
use crate::outbox::FrameStore;
use crate::time::{Duration, Instant};

pub(crate) struct Lanes<S>(PhantomData<fn(S)>);

impl<S: FrameStore> Lanes<S> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }

    pub(super) fn reader(&mut self, _: Lane) -> Option<&mut Reader<S>> {
        None
    }

    pub(super) fn assembled(&self, _: Lane) -> &[u8] {
        &[]
    }

    pub(super) fn feed(&mut self, _: Lane, _: &Reader<S>, bytes: &[u8], _: &mut impl Sink<S>) -> usize {
        bytes.len()
    }

    pub(super) fn reset(&mut self) {}

    pub(super) fn give_up(&mut self) {}

    #[cfg(feature = "alloc")]
    pub(super) fn forget_received(&mut self) {}

    #[cfg(feature = "alloc")]
    pub(super) fn be_frugal(&mut self) {}

    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        0
    }

    #[cfg(feature = "alloc")]
    pub(super) fn announced(&self) -> usize {
        0
    }

    #[cfg(feature = "alloc")]
    pub(super) fn ahead(&self) -> usize {
        0
    }

    pub(super) fn moved(&self) -> u64 {
        0
    }

    pub(super) fn moved_of(&self, _: Lane) -> u64 {
        0
    }

    pub(super) fn acknowledged(&self) -> u64 {
        0
    }

    pub(super) fn acknowledged_of(&self, _: Lane) -> u64 {
        0
    }

    pub(super) fn on_acknowledged(&mut self, _: Instant, _: &Kcp<S>) -> Option<Duration> {
        None
    }

    pub(super) fn has_last(&self) -> bool {
        false
    }

    pub(super) fn on_cut_off(&mut self, _: Lane) {}
}

impl<S: FrameStore> Session<S> {
    pub(crate) fn knows_lanes(&self) -> bool {
        false
    }

    pub(crate) fn are_lanes_idle(&self) -> bool {
        true
    }

    pub(super) fn refill_lanes(&mut self, _: Instant) {}

    pub(super) fn is_cut_short(&self) -> bool {
        false
    }

    #[cfg(feature = "alloc")]
    pub(super) fn finish_lanes(&mut self) {}

    #[cfg(feature = "alloc")]
    pub(crate) fn finish_with(&mut self, command: u8, payload: &[u8]) {
        let _ = self.message(command, &[], payload);
    }
}
