//! Time as messages carry it.

use std::time::{Duration, Instant};

use smol::Timer;

/// Counts nanoseconds from its creation: monotonic, and only of use within this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// A clock that begins at one: 0 stands for "not timed" in messages.
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self(now.checked_sub(Duration::from_nanos(1)).unwrap_or(now))
    }

    /// Nanoseconds since the start; enough for 584 years.
    pub(super) fn now(&self) -> u64 {
        nanos(self.0.elapsed())
    }

    /// Waits until `moment`; not at all if that has passed.
    pub(super) async fn wait(&self, moment: u64) {
        if moment > self.now() {
            Timer::at(self.0 + Duration::from_nanos(moment)).await;
        }
    }
}

/// A span in nanoseconds.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
