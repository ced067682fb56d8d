//! Without BBR nothing is measured, and nothing is remembered for each segment.

use super::Controller;
use crate::kcp::config::CongestionControl;

#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(in crate::kcp) struct Snapshot(());

/// There is none.
#[derive(Clone, Copy, Debug)]
pub(in crate::kcp) enum Bbr {}

impl Bbr {
    pub(super) fn chosen(_: CongestionControl, _: u32) -> Option<Self> {
        None
    }
}

impl Controller for Bbr {}
