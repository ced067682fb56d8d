//! How often something comes from the server, so that it shows early when nothing comes any more (PROTOCOL.md 1.5).
//!
//! One who only listens says nothing while nothing comes. If what stood between the two has forgotten it, as a NAT does
//! that was started again, both would wait for each other until the next heartbeat.

use crate::time::{Duration, Instant};

/// The gaps between arrivals: smoothed, and how much they differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rhythm {
    last: Option<Instant>,
    gap: Duration,
    spread: Duration,
    arrivals: u8,
    /// When to look whether anything has come; and how often something was said since it did.
    look_at: Option<Instant>,
    said: u8,
    /// When it was last doubted that the server can be heard here.
    doubted_at: Option<Instant>,
}

/// Arrivals that make a rhythm.
const ENOUGH: u8 = 8;
/// Silence is no news before this time, and after it what comes has no rhythm.
const LEAST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_secs(1);
/// How long nothing comes that should before that is doubted, and how often it is.
const DOUBTS: Duration = Duration::from_millis(250);
/// What is said may get lost; it is said so often, each time after twice as long a wait.
const TIMES: u8 = 4;

impl Rhythm {
    /// Something has come.
    pub(super) fn on_arrival(&mut self, now: Instant) {
        let gap = self.last.replace(now).map_or(MOST, |last| now.since(last));
        self.said = 0;
        if gap >= MOST {
            (self.arrivals, self.look_at) = (0, None);
            return;
        }
        if self.arrivals == 0 {
            (self.gap, self.spread) = (gap, gap.div(2));
        } else {
            let off = gap.max(self.gap) - gap.min(self.gap);
            self.spread = self.spread.saturating_mul(7).div(8) + off.div(8);
            self.gap = self.gap.saturating_mul(7).div(8) + gap.div(8);
        }
        self.arrivals = self.arrivals.saturating_add(1);
        if self.arrivals >= ENOUGH && self.look_at.is_none() {
            self.look_at = self.silent_at(now);
        }
    }

    /// True, now and then, if something was said because it was so quiet and nothing has come since, or if that is so since
    /// `unheard`, from when on something should have come.
    pub(super) fn doubts(&mut self, now: Instant, unheard: Option<Instant>) -> bool {
        let doubts = self.said > 0 || unheard.is_some_and(|since| since + DOUBTS <= now);
        let due = self.doubted_at.is_none_or(|at| at + DOUBTS <= now);
        if doubts && due {
            self.doubted_at = Some(now);
        }
        doubts && due
    }

    /// When it is too quiet if nothing comes after `last`.
    fn silent_at(&self, last: Instant) -> Option<Instant> {
        let wait = (self.gap + self.spread.saturating_mul(4)).max(LEAST);
        (wait <= MOST).then(|| last + wait.saturating_mul(1 << self.said))
    }

    /// When to call [`on_time`](Self::on_time). Not put off with each arrival: a timer that is moved for each message costs
    /// more than one that runs out for nothing now and then.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// True if it has become so quiet that something is to be said.
    pub(super) fn on_time(&mut self, now: Instant) -> bool {
        let Some(at) = self.last.and_then(|last| self.silent_at(last)) else {
            self.look_at = None;
            return false;
        };
        if now < at {
            self.look_at = Some(at);
            return false;
        }
        self.said += 1;
        self.look_at = if self.said < TIMES { self.last.and_then(|last| self.silent_at(last)) } else { None };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Duration = Duration::from_millis(10);

    fn heard(count: u32, gap: Duration) -> (Rhythm, Instant) {
        let (mut rhythm, mut now) = (Rhythm::default(), Instant::from_millis(1));
        for _ in 0..count {
            while rhythm.look_at().is_some_and(|at| at <= now) {
                assert!(!rhythm.on_time(now), "at {now:?}");
            }
            rhythm.on_arrival(now);
            now += gap;
        }
        (rhythm, now)
    }

    #[test]
    fn silence_after_a_rhythm_is_noticed_and_something_is_said_a_few_times() {
        let (mut rhythm, begin) = heard(100, GAP);
        let mut said = Vec::new();
        while let Some(at) = rhythm.look_at() {
            if rhythm.on_time(at) {
                said.push((at.since(begin) + GAP).as_millis());
            }
        }
        assert_eq!(said, [50, 100, 200, 400]);
        rhythm.on_arrival(begin + Duration::from_millis(500));
        assert!(rhythm.look_at().is_some(), "it begins anew");
    }

    #[test]
    fn doubts_are_told_again_after_a_while() {
        let (mut rhythm, begin) = (Rhythm::default(), Instant::from_millis(60_000));
        assert!(!rhythm.doubts(begin, None), "nothing is amiss");
        let unheard = Some(begin - DOUBTS);
        assert!(!rhythm.doubts(begin - Duration::from_millis(1), unheard), "not yet");
        assert!(rhythm.doubts(begin, unheard));
        assert!(!rhythm.doubts(begin + DOUBTS - Duration::from_millis(1), unheard), "it was told");
        assert!(rhythm.doubts(begin + DOUBTS, unheard));
    }

    #[test]
    fn what_comes_now_and_then_has_no_rhythm() {
        assert_eq!(heard(100, Duration::from_millis(1500)).0.look_at(), None);
        assert_eq!(heard(5, GAP).0.look_at(), None);
    }

    #[test]
    fn a_timer_runs_out_a_few_times_a_second_at_most() {
        let (mut rhythm, mut now) = (Rhythm::default(), Instant::from_millis(1));
        let mut looks = 0;
        for _ in 0..1_000 {
            if rhythm.look_at().is_some_and(|at| at <= now) {
                assert!(!rhythm.on_time(now));
                looks += 1;
            }
            rhythm.on_arrival(now);
            now += Duration::from_millis(1);
        }
        assert!((15..=25).contains(&looks), "{looks} in a second");
    }
}
