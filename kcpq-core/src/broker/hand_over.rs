//! A server that is about to stop lets its sessions go one after the other: its successors do not get all of them at once.

use alloc::vec::Vec;

use super::event::SessionId;
use crate::time::{Duration, Instant};

/// Who is still to go.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    /// The next one last.
    staying: Vec<SessionId>,
    total: u64,
    began_at: Instant,
    over: Duration,
}

impl HandOver {
    /// These go, evenly over this time.
    pub(super) fn begin(&mut self, now: Instant, over: Duration, sessions: Vec<SessionId>) {
        *self = Self { total: sessions.len() as u64, staying: sessions, began_at: now, over };
    }

    /// The next one, if it has to go by now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<SessionId> {
        self.poll_timeout().filter(|at| *at <= now).and_then(|_| self.staying.pop())
    }

    /// When the next one has to go.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let gone = self.total - self.staying.len() as u64;
        (!self.staying.is_empty())
            .then(|| self.began_at + Duration::from_micros(self.over.as_micros().saturating_mul(gone) / self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_go_evenly_over_the_time() {
        let mut hand_over = HandOver::default();
        assert_eq!(hand_over.poll_timeout(), None);
        let sessions = (0..1_000).map(|slot| SessionId::of(slot, 7)).collect();
        hand_over.begin(Instant::from_millis(3_000), Duration::from_secs(10), sessions);
        let mut gone = Vec::new();
        while let Some(now) = hand_over.poll_timeout() {
            gone.extend(hand_over.poll(now).map(|id| (now, id.slot)));
            assert_eq!(hand_over.poll(now), None, "one at a time");
        }
        assert_eq!(gone.len(), 1_000);
        assert_eq!(gone[0].0, Instant::from_millis(3_000));
        assert_eq!(gone[500].0, Instant::from_millis(8_000));
        assert_eq!(gone[999].0, Instant::from_millis(12_990));
        gone.dedup_by_key(|(_, slot)| *slot);
        assert_eq!(gone.len(), 1_000);
    }

    #[test]
    fn without_time_all_go_at_once() {
        let mut hand_over = HandOver::default();
        hand_over.begin(
            Instant::from_millis(3_000),
            Duration::ZERO,
            (0..9).map(|slot| SessionId::of(slot, 7)).collect(),
        );
        assert_eq!(core::iter::from_fn(|| hand_over.poll(Instant::from_millis(3_000))).count(), 9);
    }
}
