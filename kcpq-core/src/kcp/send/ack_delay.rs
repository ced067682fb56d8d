//! The peer's acknowledgement delay (max_ack_delay): how long it collects acknowledgements before it sends them.
//!
//! A native peer acknowledges what arrives at once. An original one does so when its clock ticks (every 10 ms in the
//! original's client, 20 ms in its server), when it writes, or when its window slides. So a segment's round trip is up to
//! a tick longer than the path's, and what is in flight has to cover both. How long the ticks are is learned from the
//! gaps between acknowledgements while something is in flight: what arrives in a gap is acknowledged at its end.

use crate::time::{Duration, Instant};

/// The gaps between a peer's acknowledgements.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckDelay {
    /// The present estimate; zero for peers that acknowledge at once.
    tick: Duration,
    since: Since,
}

/// What the next acknowledgement is waited for since.
#[derive(Clone, Copy, Debug)]
enum Since {
    /// Nothing is in flight.
    Idle,
    /// A segment was sent when nothing was in flight.
    Sent(Instant),
    /// Something else was acknowledged.
    Acknowledged(Instant),
}

/// Datagrams that come within this time belong to the same tick.
const TOGETHER: Duration = Duration::from_millis(1);
/// No tick is longer: such a gap comes from loss.
const LONGEST: Duration = Duration::from_millis(250);

impl AckDelay {
    /// The peer collects acknowledgements, for about `tick` as long as nothing else is known; or not at all.
    pub(super) fn new(tick: Duration) -> Self {
        Self { tick, since: Since::Idle }
    }

    /// The same of a peer that has become known since.
    pub(super) fn set(&mut self, tick: Duration) {
        self.tick = tick;
    }

    /// How long the peer collects acknowledgements; zero if it does not.
    pub(super) fn estimate(&self) -> Duration {
        self.tick
    }

    /// True if the peer collects acknowledgements, so that one that is late says nothing about its segment.
    pub(super) fn is_expected(&self) -> bool {
        !self.tick.is_zero()
    }

    /// By how much the retransmission timeout exceeds the round trips that are seen: samples come from the segments that
    /// waited least, and clocks are late at times.
    pub(super) fn rto_margin(&self) -> Duration {
        self.estimate() + self.estimate().div(2)
    }

    /// A segment leaves, and nothing else is in flight.
    pub(super) fn on_begin(&mut self, now: Instant) {
        self.since = Since::Sent(now);
    }

    /// A datagram acknowledged something; `in_flight` says that something else is under way, `least` is the least round
    /// trip seen.
    pub(super) fn on_acknowledged(&mut self, now: Instant, in_flight: bool, least: Duration) {
        let tick = self.tick;
        if tick.is_zero() {
            return;
        }
        // Of what was sent at some time between two ticks it is known only that it has not waited longer than one, so that
        // counts less on the way down.
        let (gap, weight) = match self.since {
            Since::Idle => (None, 1),
            Since::Sent(at) => (Some(now.since(at) - least), 32),
            Since::Acknowledged(at) => (Some(now.since(at)), 8),
        };
        match self.since {
            _ if !in_flight => self.since = Since::Idle,
            Since::Acknowledged(at) if now.since(at) < TOGETHER => return,
            _ => self.since = Since::Acknowledged(now),
        }
        let Some(gap) = gap.filter(|gap| *gap <= LONGEST) else { return };
        // Up fast: what is in flight would not reach to the next tick. Down slowly: a peer that also acknowledges for other
        // reasons than its clock does so in between.
        self.tick = if gap > tick { tick + (gap - tick).div(2) } else { tick - (tick - gap).div(weight) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    fn learned(gaps: impl IntoIterator<Item = u64>) -> Duration {
        let mut ack_delay = AckDelay::new(Duration::from_millis(20));
        let mut now = Instant::from_millis(1);
        ack_delay.on_acknowledged(now, true, Duration::ZERO);
        for gap in gaps {
            now += Duration::from_micros(gap);
            ack_delay.on_acknowledged(now, true, Duration::ZERO);
        }
        ack_delay.estimate()
    }

    #[test]
    fn ticks_are_learned_whatever_was_expected() {
        for tick in [5, 10, 20, 40, 100] {
            let learned = learned((0..100).map(|_| tick * 1_000));
            assert!(learned.as_millis().abs_diff(tick) <= 1, "{learned:?} for {tick} ms");
        }
        // Several datagrams each time, and a clock that is late by up to a half.
        let learned = learned((0..300).map(|n| [10_000, 200, 300, 14_500][n % 4]));
        assert!((10..=15).contains(&learned.as_millis()), "{learned:?}");
    }

    #[test]
    fn silence_is_no_tick() {
        let mut ack_delay = AckDelay::new(TICK);
        let mut now = Instant::from_millis(1);
        for _ in 0..100 {
            ack_delay.on_acknowledged(now, false, Duration::ZERO);
            now += Duration::from_millis(90);
        }
        assert_eq!(ack_delay.estimate(), TICK);
        ack_delay.on_acknowledged(now, true, Duration::ZERO);
        ack_delay.on_acknowledged(now + Duration::from_secs(2), true, Duration::ZERO);
        assert_eq!(ack_delay.estimate(), TICK);
    }

    #[test]
    fn ticks_are_learned_from_flights_that_each_tick_acknowledges_whole() {
        let (mut ack_delay, path) = (AckDelay::new(TICK), Duration::from_millis(30));
        let mut now = Instant::from_millis(1);
        for _ in 0..100 {
            ack_delay.on_begin(now);
            now += path + Duration::from_millis(40);
            ack_delay.on_acknowledged(now, false, path);
        }
        assert!(ack_delay.estimate().as_millis().abs_diff(40) <= 1, "{:?}", ack_delay.estimate());
    }

    #[test]
    fn peers_that_acknowledge_at_once_have_none() {
        let mut ack_delay = AckDelay::new(Duration::ZERO);
        ack_delay.on_acknowledged(Instant::from_millis(1), true, Duration::ZERO);
        ack_delay.on_acknowledged(Instant::from_millis(50), true, Duration::ZERO);
        assert_eq!(ack_delay.estimate(), Duration::ZERO);
    }
}
