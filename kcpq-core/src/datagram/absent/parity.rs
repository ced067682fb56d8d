//! The place of parity in builds without it: none is made, and none is used.

use super::Framing;
use crate::fec::header::Numbering;
use crate::time::{Deadline, Instant};

#[derive(Debug)]
pub(super) struct Parity;

impl Parity {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn set(&mut self, _: Framing, _: u16, _: &mut Numbering) {}

    pub(super) fn seal(&mut self, _: Instant, _: &mut [u8]) -> bool {
        false
    }

    pub(super) fn poll(&mut self, _: &mut [u8]) -> Option<usize> {
        None
    }

    pub(super) fn learn(&mut self, _: Instant, _: &[u8], _: bool) {}

    pub(super) fn poll_rebuilt(&mut self) -> Option<&[u8]> {
        None
    }

    pub(super) fn on_time(&mut self, _: Instant) {}

    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        0
    }

    #[cfg(feature = "alloc")]
    pub(super) fn forget(&mut self) {}

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        None
    }
}
