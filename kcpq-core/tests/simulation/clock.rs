//! The clock of a process, which may jump, and the process, which may stand still.

use kcpq_core::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// So far it is ahead of the world's.
    ahead: Duration,
    /// Nothing happens until then, by the world's clock.
    asleep_until: Option<Instant>,
}

impl Clock {
    /// What it shows.
    pub(crate) fn read(&self, now: Instant) -> Instant {
        now + self.ahead
    }

    /// When it shows that, by the world's clock, and the process can do something about it.
    pub(crate) fn when(&self, local: Instant) -> Instant {
        self.no_earlier(Instant::from_micros(local.as_micros().saturating_sub(self.ahead.as_micros())))
    }

    /// The same for a moment by the world's clock.
    pub(crate) fn no_earlier(&self, at: Instant) -> Instant {
        self.asleep_until.map_or(at, |until| at.max(until))
    }

    pub(crate) fn jump(&mut self, by: Duration) {
        self.ahead = self.ahead + by;
    }

    pub(crate) fn sleep_until(&mut self, at: Instant) {
        self.asleep_until = Some(at);
    }

    pub(crate) fn is_asleep(&self, now: Instant) -> bool {
        self.asleep_until.is_some_and(|until| now < until)
    }
}
