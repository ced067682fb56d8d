//! What part of what a flow sends gets lost.

use crate::time::{Duration, Instant};

/// Counted over spans of a round trip at least, so that an outage, in which all that is under way gets lost at once, is one
/// of them and no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    began: Instant,
    /// Bytes.
    arrived: u32,
    lost: u32,
    /// Segments that arrived.
    segments: u8,
    /// The longest segment that arrived in this span, and in the one before.
    longest: u16,
    before: u16,
    /// In 1024ths, smoothed.
    part: u64,
}

/// Least length of a span.
const SPAN: Duration = Duration::from_millis(50);
/// A span counts by what it tells, which is as many sixteenths as there are fours of segments, up to so many.
const MOST: u64 = 4;

impl Losses {
    pub(super) fn new() -> Self {
        Self { began: Instant::ZERO, arrived: 0, lost: 0, segments: 0, longest: 0, before: 0, part: 0 }
    }

    /// In 1024ths, smoothed.
    pub(super) fn part(&self) -> u64 {
        self.part
    }

    /// A segment of `len` bytes has arrived, where round trips take `rtt` now.
    pub(super) fn on_acked(&mut self, now: Instant, len: u16, rtt: Duration) {
        self.arrived = self.arrived.saturating_add(len.into());
        self.longest = self.longest.max(len);
        self.segments = self.segments.saturating_add(1);
        let took = now.since(self.began);
        if took >= rtt.max(SPAN) {
            let (arrived, lost) = (u64::from(self.arrived), u64::from(self.lost));
            let segments = u64::from(self.segments) * (lost + arrived) / arrived.max(1);
            let weight = (segments / 4).clamp(1, MOST);
            self.part = (self.part * (16 - weight) + weight * lost * 1_024 / (lost + arrived).max(1)) / 16;
            *self = Self { began: now, before: self.longest, part: self.part, ..Self::new() };
        }
    }

    /// So many bytes got lost, in segments of up to `longest`. If none as long arrives, the path may be too narrow for them:
    /// that is no full queue.
    pub(super) fn on_lost(&mut self, bytes: u32, longest: u16) {
        if longest <= self.longest.max(self.before) {
            self.lost = self.lost.saturating_add(bytes);
        }
    }

    /// Of what was lost so many bytes had not been.
    pub(super) fn on_spurious(&mut self, bytes: u32) {
        self.lost = self.lost.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u16 = 700;

    /// Segments of which every so many-th gets lost, one every 15 ms.
    fn pass(losses: &mut Losses, now: &mut Instant, count: u32, each: u32) {
        for n in 0..count {
            *now += Duration::from_millis(15);
            if n % each == each - 1 {
                losses.on_lost(LEN.into(), LEN);
            } else {
                losses.on_acked(*now, LEN, Duration::from_millis(30));
            }
        }
    }

    fn begun() -> (Losses, Instant) {
        let (mut losses, mut now) = (Losses::new(), Instant::from_millis(1));
        pass(&mut losses, &mut now, 20, u32::MAX);
        (losses, now)
    }

    #[test]
    fn a_part_is_known_after_some_time() {
        let (mut losses, mut now) = begun();
        pass(&mut losses, &mut now, 400, 2);
        assert!((450..570).contains(&losses.part()), "{}", losses.part());
        pass(&mut losses, &mut now, 400, u32::MAX);
        assert!(losses.part() < 10);
    }

    #[test]
    fn an_outage_is_one_span_however_much_it_took() {
        let (mut losses, mut now) = begun();
        losses.on_lost(1_000_000, LEN);
        pass(&mut losses, &mut now, 20, u32::MAX);
        assert!(losses.part() < 340, "{}", losses.part());
    }

    #[test]
    fn what_is_longer_than_all_that_arrives_says_nothing() {
        let (mut losses, mut now) = begun();
        for _ in 0..100 {
            losses.on_lost(1_400, 1_400);
            pass(&mut losses, &mut now, 2, u32::MAX);
        }
        assert_eq!(losses.part(), 0);
        losses.on_lost(700, LEN);
        losses.on_spurious(700);
        pass(&mut losses, &mut now, 20, u32::MAX);
        assert_eq!(losses.part(), 0, "nor does what had not been lost");
    }
}
