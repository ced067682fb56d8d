//! Which of the subscriptions there is something to do for: the entries of the table from one on, up to and without another.

use core::ops::Range;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    first: usize,
    end: usize,
}

impl Span {
    /// The first `len` entries.
    pub(super) fn all(len: usize) -> Self {
        Self { first: 0, end: len }
    }

    /// Takes in the entry of this index.
    pub(super) fn add(&mut self, index: usize) {
        let first = if self.first >= self.end { index } else { self.first.min(index) };
        *self = Self { first, end: self.end.max(index + 1) };
    }

    /// The entries, of the `_len` that there are, which are forgotten.
    pub(super) fn take(&mut self, _len: usize) -> Range<usize> {
        let Self { first, end } = core::mem::take(self);
        first..end
    }

    /// These are what there is.
    pub(super) fn set(&mut self, rest: Range<usize>) {
        *self = Self { first: rest.start, end: rest.end };
    }

    /// Entries have moved up: those that were meant are among the first `len`.
    pub(super) fn on_moved(&mut self, len: usize) {
        if self.first < self.end {
            *self = Self::all(len);
        }
    }
}
