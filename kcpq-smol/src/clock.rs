//! The time as the core counts it.

use std::time::Duration;

use kcpq_core::Instant;

/// A clock that began with its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: std::time::Instant::now() }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_micros(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// A moment of the core on the system's clock.
    pub(crate) fn at(self, instant: Instant) -> std::time::Instant {
        self.epoch + Duration::from_micros(instant.as_micros())
    }
}
