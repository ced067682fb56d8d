//! Whether something urgent shares the link with what can wait.

use crate::time::{Duration, Instant};

/// So long after the last of it.
const LASTS: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Urgent(Option<Instant>);

impl Urgent {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn is_any(self) -> bool {
        self.0.is_some()
    }

    /// Some of it is sent.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.0 = Some(now + LASTS);
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        self.0 = self.0.filter(|until| *until > now);
    }
}
