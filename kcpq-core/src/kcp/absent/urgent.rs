//! Without lanes nothing is more urgent than the rest.

use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct Urgent;

impl Urgent {
    pub(super) const fn new() -> Self {
        Self
    }

    pub(super) fn is_any(self) -> bool {
        false
    }

    pub(super) fn on_sent(&mut self, _: Instant) {}

    pub(super) fn on_time(&mut self, _: Instant) {}
}
