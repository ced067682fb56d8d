//! Whether a publisher is held back.

use crate::time::{Deadline, Instant, Why};

/// Of one publisher.
#[derive(Default)]
pub(super) struct Throttle {
    /// Until when at most it is held back.
    until: Option<Instant>,
}

impl Throttle {
    /// Nothing more is to be read of this publisher, until then at the latest. True if that is news.
    pub(super) fn hold(&mut self, until: Instant) -> bool {
        self.until.replace(until).is_none()
    }

    /// It may go on.
    pub(super) fn release(&mut self) {
        self.until = None;
    }

    /// True while it is held back.
    pub(super) fn holds(&mut self, now: Instant) -> bool {
        self.until.take_if(|until| *until <= now);
        self.until.is_some()
    }

    /// When it goes on at the latest.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.until.map(|at| Deadline { at, why: Why::Throttle })
    }
}
