//! Pieces are not understood, and so nobody sends them.

use crate::kcp::seq::Sn;

#[derive(Debug)]
pub(in crate::kcp) struct Pieces;

impl Pieces {
    /// This end does not understand them.
    pub(in crate::kcp) const KNOWN: bool = false;

    pub(super) const fn new() -> Self {
        Self
    }

    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        0
    }

    pub(super) fn on_piece(&mut self, _: Sn, _: &[u8]) -> Option<[u8; 0]> {
        None
    }

    pub(super) fn forget_before(&mut self, _: Sn) {}
}
