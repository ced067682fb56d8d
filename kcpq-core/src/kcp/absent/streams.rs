//! Without lanes there is one stream.

use super::in_flight::Slice;
use crate::kcp::seq::Sn;
use crate::lane::{Lane, Priority};
use crate::store::{Store, TxStream};

/// All segments are of lane 0.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(in crate::kcp) struct Tag;

impl Tag {
    pub(super) fn is_main(self) -> bool {
        true
    }

    pub(super) fn head(self) -> usize {
        0
    }

    pub(super) fn is_whole(self) -> bool {
        false
    }

    pub(super) fn ordinary(self) -> Self {
        self
    }

    pub(super) fn priority(self) -> Priority {
        Priority::Normal
    }

    pub(in crate::kcp) fn flags(self) -> u8 {
        0
    }
}

#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) tag: Tag,
    pub(super) unsent: usize,
    pub(super) offset: Option<u32>,
}

pub(in crate::kcp) struct Streams<S: Store>(S::Tx);

impl<S: Store> Streams<S> {
    pub(super) fn new(main: S::Tx) -> Self {
        Self(main)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn main(&mut self) -> &mut S::Tx {
        &mut self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn of(&mut self, lane: Lane, _: Sn) -> Option<&mut S::Tx> {
        lane.is_main().then_some(&mut self.0)
    }

    pub(super) fn una_offset(&self, _: Lane) -> u32 {
        0
    }

    pub(super) fn una_offsets(&self) -> u32 {
        0
    }

    pub(super) fn unsent_of(&self, _: Lane, main_cut: usize) -> usize {
        self.unsent(main_cut)
    }

    pub(super) fn unsent(&self, main_cut: usize) -> usize {
        self.0.len().saturating_sub(main_cut)
    }

    pub(super) fn cut_of_others(&self) -> usize {
        0
    }

    pub(super) fn next(&self, main_cut: usize, _: usize, window: u16) -> Option<(Cut, u16)> {
        let unsent = self.unsent(main_cut);
        (unsent > 0).then_some((Cut { tag: Tag, unsent, offset: None }, window))
    }

    pub(super) fn longest(_: Tag, len: usize) -> usize {
        len
    }

    pub(super) fn on_cut(&mut self, _: Tag, _: usize, _: usize) {}

    pub(super) fn release(&mut self, _: Tag, _: usize) {}

    pub(super) fn or_void(&self, slice: Slice) -> Slice {
        slice
    }

    pub(super) fn overtakes(&self, _: usize, _: Tag) -> bool {
        false
    }

    pub(super) fn are_several(&self) -> bool {
        false
    }

    pub(super) fn place(&mut self, slice: &Slice, out: &mut [u8]) {
        self.0.place(slice.skip, out);
    }

    #[cfg(any(feature = "pieces", feature = "repair"))]
    pub(in crate::kcp) fn copy_to(&mut self, slice: &Slice, from: usize, out: &mut [u8]) {
        self.0.copy_to(slice.skip + from, out);
    }
}
