//! When what is due: the timers of an engine in one table, so that the earliest keeps its reason.

use crate::time::{Deadline, Instant, Why};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The acknowledgements owed go out.
    Ack,
    /// RTO: no retransmission timer of a segment in flight expires before this.
    Rto,
    /// RACK's reordering timer: when the first overtaken segment counts as lost.
    Reordering,
    /// The next probe of an outage: the oldest segments, retransmitted.
    OutageProbe,
    /// The next repair.
    #[cfg(feature = "redundancy")]
    Repair,
    /// The next copy of a segment.
    #[cfg(feature = "redundancy")]
    Copy,
    /// The pacer releases the next segment.
    Pacing,
    /// The next unsolicited window update (WINS).
    WindowUpdate,
    /// The persist timer: the next zero-window probe (WASK).
    WindowProbe,
    /// The next probe of the path's MTU (PROBE).
    #[cfg(feature = "mtud")]
    MtuProbe,
    /// The answer to the peer's probe of the path's MTU (PROBE-ACK).
    #[cfg(feature = "mtud")]
    MtuProbeAck,
}

/// What there is to know of a timer.
struct Row {
    timer: Timer,
    why: Why,
    /// It rests while nothing is in flight: it is about what is.
    needs_flight: bool,
}

const fn row(timer: Timer, why: Why) -> Row {
    Row { timer, why, needs_flight: false }
}

const fn row_of_flight(timer: Timer, why: Why) -> Row {
    Row { timer, why, needs_flight: true }
}

/// The timers, in the order in which they precede at the same moment.
const ROWS: &[Row] = &[
    row(Timer::Ack, Why::AckDelay),
    row_of_flight(Timer::Rto, Why::Retransmit),
    row_of_flight(Timer::Reordering, Why::Reordering),
    row_of_flight(Timer::OutageProbe, Why::OutageProbe),
    #[cfg(feature = "redundancy")]
    row_of_flight(Timer::Repair, Why::Repair),
    #[cfg(feature = "redundancy")]
    row_of_flight(Timer::Copy, Why::Repair),
    row(Timer::Pacing, Why::Pacing),
    row(Timer::WindowUpdate, Why::WindowUpdate),
    row(Timer::WindowProbe, Why::WindowProbe),
    #[cfg(feature = "mtud")]
    row(Timer::MtuProbe, Why::MtuProbe),
    #[cfg(feature = "mtud")]
    row(Timer::MtuProbeAck, Why::MtuProbe),
];

// The order of the table is that of the names.
const _: () = {
    let mut index = 0;
    while index < ROWS.len() {
        assert!(ROWS[index].timer as usize == index);
        index += 1;
    }
};

/// When each expires.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers([Instant; ROWS.len()]);

/// A timer that is not set. Nothing is ever due then, and half of an `Option<Instant>` is saved.
const NEVER: Instant = Instant::MAX;

impl Timers {
    /// None is set.
    pub(super) const fn new() -> Self {
        Self([NEVER; ROWS.len()])
    }

    pub(super) fn start(&mut self, timer: Timer, at: Instant) {
        *self.place(timer) = at;
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        *self.place(timer) = NEVER;
    }

    /// Lets a timer expire no later than `at`.
    pub(super) fn hasten(&mut self, timer: Timer, at: Instant) {
        let place = self.place(timer);
        *place = at.min(*place);
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        Some(self.at(timer)).filter(|at| *at < NEVER)
    }

    pub(super) fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.at(timer) <= now
    }

    // Each timer has a row, which the compiler has counted above.

    #[inline]
    fn at(&self, timer: Timer) -> Instant {
        self.0[timer as usize]
    }

    #[inline]
    fn place(&mut self, timer: Timer) -> &mut Instant {
        &mut self.0[timer as usize]
    }

    /// The earliest, of those that need something in flight only if there is.
    pub(super) fn next(&self, in_flight: bool) -> Option<Deadline> {
        let mut next: Option<Deadline> = None;
        for (row, at) in ROWS.iter().zip(self.0) {
            if at < next.map_or(NEVER, |next| next.at) && (in_flight || !row.needs_flight) {
                next = Some(Deadline { at, why: row.why });
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Instant = Instant::from_millis(5);

    #[test]
    fn the_earliest_timer_keeps_its_reason() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(true), None);
        timers.start(Timer::WindowProbe, AT);
        timers.start(Timer::Pacing, Instant::from_millis(4));
        assert_eq!(timers.next(true), Some(Deadline { at: Instant::from_millis(4), why: Why::Pacing }));
        timers.hasten(Timer::WindowProbe, Instant::from_millis(3));
        timers.hasten(Timer::WindowProbe, AT);
        assert_eq!(timers.next(true), Some(Deadline { at: Instant::from_millis(3), why: Why::WindowProbe }));
        timers.stop(Timer::WindowProbe);
        assert_eq!(timers.get(Timer::WindowProbe), None);
        assert_eq!(timers.next(true).map(|next| next.why), Some(Why::Pacing));
    }

    #[test]
    fn what_is_about_segments_in_flight_rests_while_there_are_none() {
        for &Row { timer, why, needs_flight } in ROWS {
            let mut timers = Timers::new();
            timers.start(timer, AT);
            assert_eq!(timers.next(true), Some(Deadline { at: AT, why }));
            assert_eq!(timers.next(false).is_none(), needs_flight);
            assert!(timers.is_due(timer, AT) && !timers.is_due(timer, Instant::from_millis(4)));
        }
    }
}
