//! Without an allocator there are few subscriptions: if there is something to do for any, all are looked at.

use core::ops::Range;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span(bool);

impl Span {
    pub(super) fn all(_: usize) -> Self {
        Self(true)
    }

    pub(super) fn add(&mut self, _: usize) {
        self.0 = true;
    }

    pub(super) fn take(&mut self, len: usize) -> Range<usize> {
        if core::mem::take(&mut self.0) { 0..len } else { 0..0 }
    }

    pub(super) fn set(&mut self, _: Range<usize>) {
        self.0 = true;
    }

    pub(super) fn on_moved(&mut self, _: usize) {}
}
