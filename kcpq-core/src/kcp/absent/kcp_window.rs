//! Without KCP's congestion window it cannot be chosen.

use super::Controller;
use crate::kcp::config::CongestionControl;

/// There is none.
#[derive(Clone, Copy, Debug)]
pub(in crate::kcp) enum KcpWindow {}

impl KcpWindow {
    pub(super) fn chosen(_: CongestionControl, _: u32) -> Option<Self> {
        None
    }
}

impl Controller for KcpWindow {}
