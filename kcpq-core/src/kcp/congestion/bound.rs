//! How much of a link a flow takes that it shares: a bound on its rate that follows the delay of the queue.
//!
//! A thin flow never fills a link, so it never learns how much the link carries; but with others like it, it fills the
//! queue. So the queue is watched, as CoDel does (RFC 8289): a *standing* queue is one that no datagram of a round finds
//! short. While there is one, flows send less than arrives of them, until it is nearly gone; then they add a little each
//! round. That is additive increase, multiplicative decrease on delay, as in LEDBAT++ and Copa: who shares a queue sees
//! the same delay, so the shares become equal; and it is short again and again, so the propagation delay stays known.
//!
//! A queue that does not become short although the flow backs off is made by others, which heed nothing but loss, or it is
//! none and the path has become longer. Then delay says nothing, for a while, and loss is heeded (Copa's competitive mode).

use crate::time::{Duration, Instant};

/// The bound of one flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    state: State,
    /// In bytes per second, unless the state is [`State::Free`].
    rate: u64,
    /// The rate of delivery, smoothed.
    delivery: u64,
    /// What is lost, smoothed, in 1024ths.
    loss: u64,
    /// How much longer than the least round trip it takes although there is no queue: a long segment on a slow link.
    base: Duration,
    round: Round,
    /// When there was a standing queue, or any other reason for a bound, for the last time.
    congested_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// The shortest queue.
    queue: Duration,
    longest: u16,
    arrived: u32,
    lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No queue: no bound.
    Free,
    /// A little more each round.
    Filling { since: Instant },
    /// Less than arrives, until the queue is nearly gone.
    Draining { rounds: u8, least: Duration, last: Duration, steady: u8, delivery: u64 },
    /// The queue is not ours.
    Competing { until: Instant },
}

/// A longer queue is too long: half of the round trip, at least this.
const MIN_TARGET: Duration = Duration::from_millis(15);
/// Least length of a round.
const MIN_ROUND: Duration = Duration::from_millis(20);
/// Percent of what arrives that is sent while a queue is drained.
const DRAIN_GAIN: u64 = 60;
/// What is added each round, in bytes for each round trip.
const STEP: u64 = 90;
/// As many rounds as the longest queue takes to drain.
const GIVE_UP: u8 = 6;
const SAME: Duration = Duration::from_millis(1);
const COMPETES_FOR: Duration = Duration::from_secs(10);
/// Without a queue for so long there is no bound any more.
const SETTLES: Duration = Duration::from_secs(1);
/// Nothing that could be left out is sent for so long after a queue.
const CALM: Duration = Duration::from_secs(2);
/// What arrives of a thin flow in a round trip, in bytes at most.
const THIN: u64 = 16 << 10;
/// A third.
const HEAVY: u64 = 340;

impl Round {
    fn begin(now: Instant) -> Self {
        Self { began: now, queue: Duration::MAX, longest: 0, arrived: 0, lost: 0 }
    }
}

impl Bound {
    pub(super) fn new() -> Self {
        Self {
            state: State::Free,
            rate: 0,
            delivery: 0,
            loss: 0,
            base: Duration::ZERO,
            round: Round::begin(Instant::ZERO),
            congested_at: None,
        }
    }

    /// In bytes per second, not 0, if there is one.
    pub(super) fn rate(&self) -> Option<u64> {
        (self.state != State::Free).then_some(self.rate)
    }

    /// True if the flow has the link for itself, as far as it can see.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        self.congested_at.is_none_or(|at| now.since(at) > CALM)
    }

    /// The longest queue that is no reason to send less, where the least round trip is `least`.
    pub(super) fn target(least: Duration) -> Duration {
        least.div(2).max(MIN_TARGET)
    }

    /// `len` bytes have arrived.
    pub(super) fn on_acked(&mut self, len: u16) {
        self.round.arrived = self.round.arrived.saturating_add(len.into());
    }

    /// So many bytes got lost.
    pub(super) fn on_lost(&mut self, bytes: u32) {
        self.round.lost = self.round.lost.saturating_add(bytes);
    }

    /// A round trip took `rtt`, of at `least` so much, with `len` bytes.
    pub(super) fn on_sample(&mut self, now: Instant, rtt: Duration, least: Duration, len: u16) {
        self.base = self.base.min(rtt - least);
        self.round.queue = self.round.queue.min(rtt - least - self.base);
        self.round.longest = self.round.longest.max(len);
        let took = now.since(self.round.began);
        if took >= rtt.max(MIN_ROUND) {
            self.end_round(now, took, rtt, least);
        }
    }

    fn end_round(&mut self, now: Instant, took: Duration, rtt: Duration, least: Duration) {
        let round = core::mem::replace(&mut self.round, Round::begin(now));
        let (arrived, lost) = (u64::from(round.arrived), u64::from(round.lost));
        let delivery = arrived * 1_000_000 / took.as_micros().max(1);
        self.delivery = (self.delivery + delivery) / 2;
        let arrives = delivery.max(self.delivery);
        self.loss = (self.loss * 15 + lost * 1_024 / (lost + arrived).max(1)) / 16;
        let (queue, target) = (round.queue, Self::target(least));
        let (is_short, is_long) = (queue <= target.div(2), queue > target || self.loss > HEAVY);
        if arrives * least.as_micros() / 1_000_000 > THIN {
            self.state = State::Free;
            self.congested_at = if is_long { Some(now) } else { self.congested_at };
            return;
        }
        let trips = (took.as_micros() * 100 / rtt.as_micros().max(1)).min(2_000);
        let step = STEP * trips * 10_000 / rtt.as_micros().max(1);
        match self.state {
            State::Free if !is_long => return,
            State::Filling { since } if now.since(since) > SETTLES && !is_long => {
                self.state = State::Free;
                return;
            }
            State::Free => {
                self.rate = u64::MAX;
                self.drain(queue, arrives);
            }
            State::Filling { .. } if is_long || lost > 0 && !is_short => self.drain(queue, arrives),
            State::Filling { .. } => {
                let more = if is_short { self.rate / 16 } else { 0 };
                self.rate = (self.rate + more).min(arrives * 3 / 2).max(self.rate) + step;
            }
            State::Draining { .. } if is_short => {
                self.state = State::Filling { since: now };
                self.rate = self.rate * 100 / DRAIN_GAIN * 80 / 100;
            }
            State::Draining { rounds, least, last, steady, delivery } => {
                let still = queue + SAME >= last && last + SAME >= queue;
                let steady = if still { steady + 1 } else { 0 };
                let (rounds, least) = (rounds + 1, least.min(queue));
                if rounds % 3 == 0 && queue >= last {
                    self.rate = self.rate * DRAIN_GAIN / 100;
                }
                let update = u64::from(round.longest) * 1_250_000 / delivery.max(1);
                if steady >= 3 && queue.as_micros() <= update {
                    self.base = self.base + least;
                    self.state = State::Filling { since: now };
                    self.rate = delivery;
                } else if rounds > GIVE_UP {
                    self.state = State::Competing { until: now + COMPETES_FOR };
                    self.rate = delivery;
                } else {
                    self.state = State::Draining { rounds, least, last: queue, steady, delivery };
                }
            }
            State::Competing { until } if now > until || is_short => self.state = State::Filling { since: now },
            State::Competing { .. } if lost > 0 => self.rate = self.delivery * 70 / 100,
            State::Competing { .. } => self.rate = (self.rate + step + self.rate / 16).min(self.delivery * 4),
        }
        self.rate = self.rate.max(step);
        self.congested_at = Some(now);
    }

    fn drain(&mut self, queue: Duration, arrives: u64) {
        self.rate = self.rate.min(arrives * 5 / 4) * DRAIN_GAIN / 100;
        self.state =
            State::Draining { rounds: 0, least: queue, last: Duration::MAX, steady: 0, delivery: self.delivery };
    }
}
