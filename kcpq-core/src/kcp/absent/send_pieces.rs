//! No segment is cut up: what has become too long for its path goes as it is.

use super::Sender;
use crate::kcp::env::Env;
use crate::kcp::packet::Packet;
use crate::kcp::seq::Sn;
use crate::store::Store;

#[derive(Clone, Copy, Debug)]
pub(super) struct CutUp;

impl CutUp {
    pub(super) const fn new() -> Self {
        Self
    }

    pub(super) fn is_any(self) -> bool {
        false
    }

    pub(super) fn begin(&mut self, _: Sn) {}
}

impl<S: Store> Sender<S> {
    pub(super) fn write_piece(&mut self, _: &mut Env, _: &mut Packet<'_>) -> Option<bool> {
        None
    }
}
