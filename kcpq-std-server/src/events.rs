//! The broker's events in the log, as many as anybody wants to read: whoever can send a datagram can make a session, and
//! must not be able to fill a disk with lines about it.

use kcpq_core::broker::Event;
use kcpq_core::{Duration, Instant};

use crate::peer::Client;

/// Lines of one kind that may follow each other at once.
const BURST: u32 = 100;
/// The time that has to pass for one more.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long lines are left out before it is told how many they were.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// Writes events to the log within a budget for each kind, and how many it has left out.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    opened: Budget,
    closed: Budget,
    refused: Budget,
    subjects: Budget,
    slow: Budget,
    denied: Budget,
    not_kept: Budget,
}

impl EventLog {
    /// Writes a line about `event`, or counts it.
    pub(crate) fn write(&mut self, now: Instant, event: Event<Client>) {
        match event {
            Event::Opened { id, peer } if self.opened.spend(now) => {
                tracing::info!(session = %id, %peer, "session opened");
            }
            Event::Greeted { id, version, .. } => tracing::debug!(session = %id, version, "native client"),
            Event::Moved { id, from, to } => {
                tracing::debug!(session = %id, %from, %to, "session goes on at another address");
            }
            Event::Identified { id, identity } => tracing::debug!(session = %id, identity = &*identity, "identified"),
            Event::Closed { id, peer, why, undelivered, identity } if self.closed.spend(now) => {
                tracing::info!(session = %id, %peer, identity = identity.as_deref(), undelivered, "session closed: {why}");
            }
            Event::PublishDenied { id, identity, subject } if self.denied.spend(now) => {
                let (identity, subject) = (identity.as_deref(), &*subject);
                tracing::warn!(session = %id, identity, subject, "not permitted to publish");
            }
            Event::SubscriptionDenied { id, identity, pattern } if self.denied.spend(now) => {
                let (identity, pattern) = (identity.as_deref(), &*pattern);
                tracing::warn!(session = %id, identity, pattern, "not permitted to subscribe");
            }
            Event::Excess { id, identity } if self.denied.spend(now) => {
                let identity = identity.as_deref();
                tracing::warn!(session = %id, identity, "publishes more bytes in a second than it may");
            }
            Event::NotKept { id, subject, why } if self.not_kept.spend(now) => {
                tracing::warn!(session = %id, %subject, "last value not kept: {why}");
            }
            Event::Refused { peer } if self.refused.spend(now) => {
                tracing::warn!(%peer, "session refused: too many");
            }
            Event::SubjectRefused { id, why } if self.subjects.spend(now) => {
                tracing::warn!(session = %id, "{why} (told once for each session)");
            }
            Event::Slow { id, peer } if self.slow.spend(now) => {
                tracing::warn!(session = %id, %peer, "subscriber does not keep up");
            }
            _ => {}
        }
    }

    /// Tells of lines that were left out for long enough.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let Self { opened, closed, refused, subjects, slow, denied, not_kept } = self;
        if let Some(count) = opened.due(now) {
            tracing::info!(count, "more sessions opened than have a line here");
        }
        if let Some(count) = closed.due(now) {
            tracing::info!(count, "more sessions closed than have a line here");
        }
        if let Some(count) = refused.due(now) {
            tracing::warn!(count, "more sessions refused than have a line here");
        }
        if let Some(count) = subjects.due(now) {
            tracing::warn!(count, "more sessions had a subject refused than have a line here");
        }
        if let Some(count) = slow.due(now) {
            tracing::warn!(count, "more subscribers did not keep up than have a line here");
        }
        if let Some(count) = denied.due(now) {
            tracing::warn!(count, "more was not permitted than has a line here");
        }
        if let Some(count) = not_kept.due(now) {
            tracing::warn!(count, "more last values were not kept than have a line here");
        }
    }

    /// When it wants to tell.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let Self { opened, closed, refused, subjects, slow, denied, not_kept } = self;
        [opened, closed, refused, subjects, slow, denied, not_kept].into_iter().filter_map(Budget::poll_timeout).min()
    }
}

/// A token bucket (as GCRA: it keeps the time at which it will be full).
#[derive(Debug, Default)]
struct Budget {
    full_at: Instant,
    /// Lines left out and not told of, and since when.
    left_out: u64,
    since: Instant,
}

impl Budget {
    /// True if there may be a line now; otherwise it is counted.
    fn spend(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + INTERVAL;
        if full_at.since(now) <= INTERVAL.saturating_mul(BURST) {
            self.full_at = full_at;
            return true;
        }
        if self.left_out == 0 {
            self.since = now;
        }
        self.left_out += 1;
        false
    }

    /// How many were left out, if it is time to tell.
    fn due(&mut self, now: Instant) -> Option<u64> {
        self.poll_timeout().filter(|at| *at <= now).map(|_| std::mem::take(&mut self.left_out))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (self.left_out > 0).then(|| self.since + TOLD_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_a_burst_then_slowly_and_those_left_out_are_counted_once() {
        let (mut budget, begin) = (Budget::default(), Instant::from_micros(5));
        assert_eq!((0..2_000).filter(|_| budget.spend(begin)).count() as u32, BURST);
        assert_eq!(budget.poll_timeout(), Some(begin + TOLD_AFTER));
        assert!(budget.spend(begin + INTERVAL));
        assert!(!budget.spend(begin + INTERVAL));
        assert_eq!(budget.due(begin + INTERVAL), None);
        assert_eq!(budget.due(begin + TOLD_AFTER), Some(2_000 - u64::from(BURST) + 1));
        assert_eq!((budget.due(begin + TOLD_AFTER), budget.poll_timeout()), (None, None));
        // Who waits has the burst again, and not more.
        let later = begin + INTERVAL.saturating_mul(10 * BURST);
        assert_eq!((0..2_000).filter(|_| budget.spend(later)).count() as u32, BURST);
    }

    #[test]
    fn one_kind_of_lines_does_not_use_up_anothers_budget() {
        let (mut log, now) = (EventLog::default(), Instant::from_micros(5));
        let peer = Client { path: std::net::SocketAddr::from(([192, 0, 2, 1], 50_000)).into(), listener: 0 };
        for _ in 0..2_000 {
            log.write(now, Event::Refused { peer });
        }
        assert_eq!((log.refused.left_out, log.opened.left_out), (2_000 - u64::from(BURST), 0));
        assert!(log.slow.spend(now));
        assert_eq!(log.poll_timeout(), Some(now + TOLD_AFTER));
        log.handle_timeout(now + TOLD_AFTER);
        assert_eq!((log.refused.left_out, log.poll_timeout()), (0, None));
    }
}
