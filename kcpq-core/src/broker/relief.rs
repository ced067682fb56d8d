//! Memory for what waits, when it is short: who takes nothing gives way to those who do.
//!
//! All queues share [`max_queued_total`](super::Config::max_queued_total). While not half of it is taken only a
//! session's own limit counts. From there on
//!
//! * one that is *stuck*, to which something has been on its way for [`PATIENCE`] and nothing was acknowledged, gets no
//!   more than [`LITTLE`], and what waits for it is dropped, the oldest half at a time, until no more than half is
//!   taken;
//! * each other may have as much as is left of three quarters (dynamic thresholds, after Choudhury and Hahne), so that
//!   long queues pay before short ones;
//! * and [`EACH`] as long as there is any: the last quarter is for those who have little.
//!
//! So many that stop reading at once fill three quarters at most, and within [`PATIENCE`] give back what is more than
//! half.

use crate::time::{Deadline, Duration, Instant, Why};

/// For so long nothing is acknowledged of one that is stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// What a session that is not stuck may always have waiting, in bytes, as long as there is memory.
pub(super) const EACH: usize = 64 * 1024;
/// The same for one that is stuck, or was never heard.
const LITTLE: usize = 2 * 1024;
/// In so many places it is looked for somebody who is stuck before others are seen to.
pub(super) const PLACES: usize = 256;
/// Nobody was stuck: before that nobody is by then.
const PAUSE: Duration = Duration::from_millis(100);

/// Of one broker: the search for those who give way.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// When it goes on.
    at: Option<Instant>,
    /// It does not begin before this.
    not_before: Instant,
    /// The place where it goes on, and how many are left.
    next: usize,
    left: usize,
}

/// How much may wait for a session when `queued` bytes of `total` do, if that is less than its own limit.
pub(super) fn most(total: usize, queued: u64, stuck: bool) -> Option<usize> {
    let left = total.saturating_sub(usize::try_from(queued).unwrap_or(usize::MAX));
    if left >= total / 2 {
        return None;
    }
    let most = if stuck { LITTLE } else { left.saturating_sub(total / 4).max(EACH) };
    Some(most.min(left))
}

impl Relief {
    /// Memory is short.
    pub(super) fn demand(&mut self, now: Instant) {
        if self.at.is_none() {
            self.at = Some(now.max(self.not_before));
            self.left = usize::MAX;
        }
    }

    /// If it is time: where to look in a table of so many places.
    pub(super) fn search(&mut self, now: Instant, places: usize) -> Option<core::ops::Range<usize>> {
        self.at.filter(|at| *at <= now)?;
        self.left = self.left.min(places);
        if self.next >= places {
            self.next = 0;
        }
        let begin = self.next;
        let count = PLACES.min(places - begin).min(self.left);
        self.next += count;
        self.left -= count;
        if self.left == 0 {
            self.pause(now);
        } else {
            self.at = Some(now);
        }
        Some(begin..begin + count)
    }

    /// Nothing more is to be found.
    pub(super) fn pause(&mut self, now: Instant) {
        self.at = None;
        self.not_before = now + PAUSE;
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.at.map(|at| Deadline { at, why: Why::Memory })
    }
}
