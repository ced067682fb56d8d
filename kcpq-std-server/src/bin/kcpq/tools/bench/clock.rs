//! Time as messages carry it.

use std::time::{Duration, Instant, SystemTime};

use smol::Timer;

/// Tells Unix time, so that processes on one machine agree about when a message was due. It is set once and monotonic from
/// then on, whatever happens to the system's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    started_at: u64,
}

impl Clock {
    /// A clock that begins at one at least: 0 stands for "not timed" in messages.
    pub(super) fn start() -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), started_at: nanos(unix).max(1) }
    }

    /// Nanoseconds since 1970; enough until 2554.
    pub(super) fn now(&self) -> u64 {
        self.started_at.saturating_add(nanos(self.start.elapsed()))
    }

    /// Waits until `moment`; not at all if that has passed.
    pub(super) async fn wait(&self, moment: u64) {
        if moment > self.now() {
            Timer::at(self.start + Duration::from_nanos(moment - self.started_at)).await;
        }
    }
}

/// A span in nanoseconds.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
