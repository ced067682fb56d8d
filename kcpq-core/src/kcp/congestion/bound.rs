//! How much a thin flow sends over a link that it shares: a bound on its rate that follows the delay of the queue.
//!
//! A thin flow never fills a link, so it never learns how much the link carries; but with others like it, it fills the
//! queue. So it watches that. A *standing* queue is one that no datagram of a round finds short (CoDel, RFC 8289), where
//! short means what the path's own jitter explains (see `jitter`). Once there is one that loses, or is very long, the flow sends less than arrives of it until the queue is nearly gone, and then a little more with each
//! round trip: additive increase and multiplicative decrease by delay, as in LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus).
//! Flows that share a queue see the same delay, so they back off together and their shares become equal; and the queue is
//! empty now and then, so that the least round trip stays known.
//!
//! Draining has to help: where the delay stays as it was in the mean, time and again, it is the path's own, and counts as
//! its jitter from then on.
//!
//! A queue that does not react was made by flows that heed nothing but loss. To keep it short would mean to starve, so for
//! a while delay says nothing, and loss is heeded (the competitive mode of Copa, Arun and Balakrishnan, NSDI 2018).

use super::jitter::Jitter;
use crate::time::{Duration, Instant};

/// The bound of one flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    state: State,
    /// In bytes per second; means nothing in [`State::Free`].
    rate: u64,
    /// The rate of delivery, smoothed, in bytes per second.
    delivery: u64,
    /// What gets lost, smoothed, in 1024ths.
    loss: u64,
    /// How much longer than the least round trip a full segment takes although there is no queue: its serialization.
    base: Duration,
    /// The least round trip ever.
    shortest: Duration,
    jitter: Jitter,
    /// What it was when there was no bound, and no queue: flows that share one make some themselves.
    own_jitter: Duration,
    effect: Effect,
    /// How many rounds on end saw a queue that is too long.
    long_rounds: u8,
    round: Round,
    /// When there was a bound, or a reason for one, for the last time.
    congested_at: Option<Instant>,
    /// After so long without, there is room.
    calm: Duration,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No bound.
    Free,
    /// A little more with each round trip. `since` then the flow had no more to send than it might.
    Filling { since: Instant },
    /// Less than arrives, until the queue is nearly gone.
    Draining(Drain),
    /// The queue is not ours.
    Competing { until: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Drain {
    rounds: u8,
    /// The longest queue in its first rounds, the shortest since it began, and the last one.
    most: Duration,
    least: Duration,
    last: Duration,
    /// Rounds on end in which the queue stayed as it was.
    still: u8,
    /// The rate of delivery when it began.
    delivery: u64,
}

/// What is seen in a round, which lasts for a round trip at least.
#[derive(Clone, Copy, Debug)]
struct Round {
    began: Instant,
    /// The shortest queue.
    queue: Duration,
    /// Round trips seen.
    samples: u8,
    /// The longest segment.
    longest: u16,
    /// Something was sent after it had to wait.
    busy: bool,
    /// Bytes.
    arrived: u32,
    lost: u32,
}

/// A longer queue is too long: half of the least round trip, at least this.
const MIN_TARGET: Duration = Duration::from_millis(15);
/// So many rounds on end make a queue, of at least so many samples each.
const CONVINCING: u8 = 2;
const SAMPLES: u8 = 8;
/// So many samples tell the path's jitter.
const ENOUGH: u8 = 16;
/// The first queue has to lose a tenth, in 1024ths, or to be so many times as long as it should be: who jitters is not late for
/// it.
const LOSES: u64 = 100;
const VERY_LONG: u32 = 4;
/// A drain helps after which the queue is less than so many percent of what it was, in the mean; after so many on end that do
/// not help there was none.
const HELPS: u32 = 85;
const IN_VAIN: u8 = 5;
/// Least length of a round.
const MIN_ROUND: Duration = Duration::from_millis(20);
/// Percent of what arrives that is sent while a queue drains, and of what was sent before that is sent afterwards.
const DRAIN_GAIN: u64 = 60;
const REFILL_GAIN: u64 = 80;
/// What is added for each round trip, in bytes for each round trip.
const STEP: u64 = 60;
/// A queue that is ours drains by a quarter in so many rounds, and is gone in so many.
const REACTS: u8 = 3;
const DRAINS: u8 = 10;
/// What looks like a queue and does not change in so many rounds is none.
const STEADY: u8 = 2;
/// Queues that differ less are the same.
const SAME: Duration = Duration::from_millis(1);
const COMPETES_FOR: Duration = Duration::from_secs(10);
/// A flow that need not wait for so long is not bounded any more.
const SETTLES: Duration = Duration::from_secs(1);
/// How long it takes after a queue until there is room for what could be left out; twice as long if that made the queue.
const CALM: Duration = Duration::from_secs(2);
const MAX_CALM: Duration = Duration::from_secs(32);
/// Where more is lost, a third, that is a queue too short to be seen.
const HEAVY: u64 = 340;
/// Most bytes that arrive of a thin flow in a round trip. Others fill links, and learn what these carry.
const THIN: u64 = 16 << 10;

impl Round {
    fn begin(now: Instant) -> Self {
        Self { began: now, queue: Duration::MAX, samples: 0, longest: 0, busy: false, arrived: 0, lost: 0 }
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
            shortest: Duration::MAX,
            jitter: Jitter::default(),
            own_jitter: Duration::ZERO,
            effect: Effect::default(),
            long_rounds: 0,
            round: Round::begin(Instant::ZERO),
            congested_at: None,
            calm: CALM,
        }
    }

    /// In bytes per second, not 0, if there is one.
    pub(super) fn rate(&self) -> Option<u64> {
        (!matches!(self.state, State::Free)).then_some(self.rate)
    }

    /// What may be in flight, in bytes, where the least round trip is `least`: what the rate brings while the queue is twice
    /// as long as it should be.
    pub(super) fn window(&self, least: Duration) -> Option<u64> {
        let longest = least + self.target(least).saturating_mul(2);
        Some(1 + self.rate()?.saturating_mul(longest.as_micros()) / 1_000_000)
    }

    /// True if there was no queue for some time: what could be left out may be sent as well.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        self.congested_at.is_none_or(|at| now.since(at) > self.calm)
    }

    /// True if the queue is ours, and gone now and then: the least round trip is what it was.
    pub(super) fn drains(&self) -> bool {
        matches!(self.state, State::Filling { .. } | State::Draining(_))
    }

    /// The longest queue that is no reason to send less, where the least round trip is `least`: jitter makes none.
    fn target(&self, least: Duration) -> Duration {
        base_target(least) + self.jitter()
    }

    /// By how much a round trip may be longer than the least without a queue.
    pub(super) fn jitter(&self) -> Duration {
        Jitter::reach(if self.rate().is_some() { self.own_jitter } else { self.jitter.mean() })
    }

    /// How many samples make a round. With a bound they are few where there is little jitter: it has to react soon.
    fn enough_samples(&self, least: Duration) -> u8 {
        let is_quick = self.rate().is_some() && self.jitter().saturating_mul(2) <= self.target(least);
        let loses = self.loss > HEAVY || self.round.lost / 4 > self.round.arrived;
        if is_quick || loses { 1 } else { SAMPLES }
    }

    /// `len` bytes have arrived.
    pub(super) fn on_acked(&mut self, len: u16) {
        self.round.arrived = self.round.arrived.saturating_add(len.into());
    }

    /// So many bytes got lost.
    pub(super) fn on_lost(&mut self, bytes: u32) {
        self.round.lost = self.round.lost.saturating_add(bytes);
    }

    /// Of what was lost so many bytes had not been.
    pub(super) fn on_spurious(&mut self, bytes: u32) {
        self.round.lost = self.round.lost.saturating_sub(bytes);
    }

    /// A segment of `len` bytes took `rtt`, where `least` is the least round trip; `busy` if there was more to send.
    pub(super) fn on_sample(&mut self, now: Instant, rtt: Duration, least: Duration, len: u16, busy: bool) {
        self.jitter.on_sample(rtt);
        let round = &mut self.round;
        self.shortest = self.shortest.min(rtt);
        self.base = self.base.min(rtt - least);
        round.queue = round.queue.min(rtt - least - self.base);
        self.effect.on_sample(rtt - least);
        round.samples = round.samples.saturating_add(1);
        round.longest = round.longest.max(len);
        round.busy |= busy;
        let took = now.since(round.began);
        if took >= rtt.max(MIN_ROUND) && self.round.samples >= self.enough_samples(least) {
            self.end_round(now, took, rtt, least);
        }
    }

    fn end_round(&mut self, now: Instant, took: Duration, rtt: Duration, least: Duration) {
        let round = core::mem::replace(&mut self.round, Round::begin(now));
        let (arrived, lost) = (u64::from(round.arrived), u64::from(round.lost));
        let delivery = arrived * 1_000_000 / took.as_micros().max(1);
        self.delivery = (self.delivery + delivery) / 2;
        self.loss = (self.loss * 15 + lost * 1_024 / (lost + arrived).max(1)) / 16;
        let arrives = delivery.max(self.delivery);
        let target = self.target(least);
        let is_long = self.is_long(&round, target);
        let per_trip = arrives.saturating_mul(least.as_micros()) / 1_000_000;
        let counts =
            self.loss > LOSES || self.effect.is_proved || round.queue > base_target(least).saturating_mul(VERY_LONG);
        self.long_rounds = if is_long && counts { self.long_rounds.saturating_add(1) } else { 0 };
        let is_known = self.jitter.samples() >= ENOUGH || self.loss > HEAVY;
        if per_trip > THIN || !is_known {
            self.state = State::Free;
        } else {
            // By time, not by rounds: those of the slowest flow are the longest.
            let trips = (took.as_micros() * 100 / rtt.as_micros().max(1)).min(2_000);
            let step = STEP * trips * 10_000 / rtt.as_micros().max(1);
            self.adapt(now, &round, arrives, step, target);
        }
        if self.rate().is_none() && lost == 0 && round.queue <= base_target(least).div(2) {
            self.own_jitter = self.jitter.mean();
        }
        // The least round trip may have been measured anew beside flows that keep the queue full.
        let is_full = least + round.queue > self.shortest.saturating_mul(2) + target;
        if self.is_standing() || is_full || self.rate().is_some() {
            self.on_congestion(now);
        }
    }

    /// True if there is a queue, where it should be no longer than `target`, or it is too short to be seen and loses.
    fn is_long(&self, round: &Round, target: Duration) -> bool {
        round.queue > target || self.loss > HEAVY
    }

    /// True if the last rounds make a queue.
    fn is_standing(&self) -> bool {
        self.long_rounds >= CONVINCING || self.long_rounds > 0 && self.loss > HEAVY
    }

    /// A round is over, in which this much `arrives` in a second, where a queue should be no longer than `target`; `step` is to
    /// be added to the rate for the time it took.
    fn adapt(&mut self, now: Instant, round: &Round, arrives: u64, step: u64, target: Duration) {
        let (is_short, is_long) = (round.queue <= target.div(2), self.is_long(round, target));
        let is_standing = self.is_standing();
        match &mut self.state {
            State::Free if is_standing => {
                self.effect.forget();
                self.drain(round, arrives, arrives);
            }
            State::Free => return,
            State::Filling { .. } if is_long && self.effect.is_none() && self.loss <= HEAVY => {
                self.own_jitter = self.jitter.mean();
                self.effect.is_proved = false;
                self.state = State::Free;
                return;
            }
            State::Filling { .. } if is_long => self.drain(round, arrives, self.rate),
            State::Filling { since } if !round.busy && now.since(*since) > SETTLES => {
                self.state = State::Free;
                return;
            }
            State::Filling { since } => {
                if round.busy {
                    *since = now;
                }
                let more = if is_short { self.rate / 16 } else { 0 };
                self.rate = (self.rate + more).min(arrives * 3 / 2).max(self.rate) + step;
            }
            State::Draining(drain) => {
                let is_longer = drain.observe(round.queue);
                if drain.is_serialization(round) {
                    self.base = self.base + drain.least;
                    self.rate = drain.delivery;
                    self.state = State::Filling { since: now };
                } else if is_short || drain.rounds > REACTS && !is_long {
                    self.rate = self.rate * REFILL_GAIN / DRAIN_GAIN;
                    self.state = State::Filling { since: now };
                } else if drain.is_in_vain() {
                    self.rate = drain.delivery;
                    self.state = State::Competing { until: now + COMPETES_FOR };
                } else if is_longer && drain.rounds % REACTS == 0 {
                    self.rate = (self.rate * DRAIN_GAIN / 100).max(drain.delivery / 4);
                }
            }
            State::Competing { until } if now > *until || is_short => self.state = State::Filling { since: now },
            State::Competing { .. } if round.lost > 0 => self.rate = self.delivery * 70 / 100,
            State::Competing { .. } => self.rate = (self.rate + step + self.rate / 8).min(self.delivery * 4),
        }
        self.rate = self.rate.max(step).max(1);
    }

    /// Begins to drain the queue, of which no more is ours than arrives, or than was sent at `rate`.
    fn drain(&mut self, round: &Round, arrives: u64, rate: u64) {
        self.effect.begin();
        let (queue, delivery) = (round.queue, self.delivery);
        self.rate = rate.min(arrives * 5 / 4) * DRAIN_GAIN / 100;
        let (most, least, last) = (queue, queue, Duration::MAX);
        self.state = State::Draining(Drain { rounds: 0, most, least, last, still: 0, delivery });
    }

    #[cold]
    fn on_congestion(&mut self, now: Instant) {
        if let Some(at) = self.congested_at.replace(now) {
            let after = now.since(at);
            if after > self.calm.saturating_mul(4) {
                self.calm = CALM;
            } else if after > self.calm {
                self.calm = self.calm.saturating_mul(2).min(MAX_CALM);
            }
        }
    }
}

/// Whether draining makes the queue shorter.
#[derive(Clone, Copy, Debug, Default)]
struct Effect {
    /// The queue in the mean: now, when it was to drain last, and at its shortest since.
    mean: Duration,
    before: Duration,
    shortest: Duration,
    /// How often on end it did not help, as known when it is to drain again.
    in_vain: u8,
    /// It has helped: the path has a queue that is ours.
    is_proved: bool,
}

impl Effect {
    fn on_sample(&mut self, queue: Duration) {
        self.mean = (self.mean.saturating_mul(15) + queue).div(16);
        self.shortest = self.shortest.min(self.mean);
    }

    /// A queue is to drain for the first time.
    fn forget(&mut self) {
        (self.before, self.in_vain) = (Duration::ZERO, 0);
    }

    fn begin(&mut self) {
        self.in_vain = self.times_in_vain();
        self.is_proved |= self.in_vain == 0;
        (self.before, self.shortest) = (self.mean, self.mean);
    }

    fn times_in_vain(&self) -> u8 {
        let helped = self.shortest.as_micros() * 100 < self.before.as_micros().saturating_mul(HELPS.into());
        if helped { 0 } else { self.in_vain + 1 }
    }

    /// True if it has not helped for too often.
    fn is_none(&self) -> bool {
        self.times_in_vain() >= IN_VAIN
    }
}

impl Drain {
    /// A round is over that has seen this `queue`. True if it is no shorter than before.
    fn observe(&mut self, queue: Duration) -> bool {
        let is_same = queue + SAME >= self.last && self.last + SAME >= queue;
        let is_longer = queue >= self.last;
        self.still = if is_same { self.still + 1 } else { 0 };
        self.rounds += 1;
        if self.rounds < REACTS {
            self.most = self.most.max(queue);
        }
        self.least = self.least.min(queue);
        self.last = queue;
        is_longer
    }

    /// True if what looks like a queue is the time in which a segment leaves: always the same, and no longer than it takes at
    /// the rate of delivery.
    fn is_serialization(&self, round: &Round) -> bool {
        let update = u64::from(round.longest) * 1_250_000 / self.delivery.max(1);
        self.still >= STEADY && round.queue.as_micros() <= update
    }

    /// True if the queue does not react.
    fn is_in_vain(&self) -> bool {
        self.rounds > DRAINS || self.rounds > REACTS && self.least.saturating_mul(4) > self.most.saturating_mul(3)
    }
}

/// The longest queue that is no reason to send less, on a path without jitter.
fn base_target(least: Duration) -> Duration {
    least.div(2).max(MIN_TARGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(30);
    const LEN: u16 = 700;

    /// A flow of 700 bytes every 20 ms, whose segments find a queue of so many milliseconds each.
    fn pass(bound: &mut Bound, now: &mut Instant, queues: impl IntoIterator<Item = u64>) {
        for queue in queues {
            *now += Duration::from_millis(20);
            bound.on_acked(LEN);
            bound.on_sample(*now, LEAST + Duration::from_millis(queue), LEAST, LEN, false);
        }
    }

    fn begun() -> (Bound, Instant) {
        let (mut bound, mut now) = (Bound::new(), Instant::from_millis(1));
        pass(&mut bound, &mut now, [0; 50]);
        (bound, now)
    }

    #[test]
    fn a_queue_that_each_datagram_finds_bounds_the_rate_until_it_is_gone() {
        let (mut bound, mut now) = begun();
        pass(&mut bound, &mut now, (0..50).map(|n| if n % 2 == 0 { 90 } else { 5 }));
        assert_eq!((bound.rate(), bound.is_calm(now)), (None, true), "some find none");
        // What that said of the path's jitter is forgotten.
        pass(&mut bound, &mut now, [0; 200]);
        pass(&mut bound, &mut now, [70; 24]);
        let drained = bound.rate().unwrap();
        assert!((15_000..25_000).contains(&drained) && !bound.is_calm(now), "{drained} of 35,000");
        pass(&mut bound, &mut now, [0; 6]);
        assert!(bound.rate().unwrap() > drained);
        pass(&mut bound, &mut now, [0; 100]);
        assert_eq!((bound.rate(), bound.is_calm(now)), (None, false));
        pass(&mut bound, &mut now, [0; 100]);
        assert!(bound.is_calm(now));
    }

    #[test]
    fn jitter_is_no_queue_even_if_there_was_one_once() {
        let (mut bound, mut now) = begun();
        pass(&mut bound, &mut now, [70; 24]);
        pass(&mut bound, &mut now, [0; 6]);
        assert!(bound.rate().is_some());
        // From now on the path jitters: each drain is in vain, until that is known.
        let mut rng = crate::rng::Rng::with_seed(1);
        pass(&mut bound, &mut now, core::iter::repeat_with(|| rng.u64(..25) + rng.u64(..25)).take(1_000));
        assert_eq!(bound.rate(), None);
        for _ in 0..10_000 {
            pass(&mut bound, &mut now, [rng.u64(..25) + rng.u64(..25)]);
            assert_eq!(bound.rate(), None);
        }
    }

    #[test]
    fn a_queue_that_does_not_react_is_competed_with() {
        let (mut bound, mut now) = begun();
        pass(&mut bound, &mut now, (0..30).map(|n| 80 + n % 5));
        let before = bound.rate().unwrap();
        pass(&mut bound, &mut now, (0..20).map(|n| 80 + n % 5));
        assert!(bound.rate().unwrap() > before && !bound.drains());
        bound.on_lost(700);
        let before = bound.rate().unwrap();
        pass(&mut bound, &mut now, [80; 6]);
        assert!(bound.rate().unwrap() < before, "loss is heeded");
    }

    #[test]
    fn without_room_for_a_queue_loss_tells() {
        let (mut bound, mut now) = begun();
        for _ in 0..300 {
            bound.on_lost(u32::from(LEN));
            pass(&mut bound, &mut now, [1]);
        }
        assert!(bound.rate().is_some());
    }

    #[test]
    fn absurd_samples_do_not_overflow() {
        let (mut bound, mut now) = begun();
        for rtt in [Duration::MAX, Duration::ZERO, Duration::from_secs(1 << 30)] {
            now += Duration::from_secs(1 << 20);
            bound.on_lost(u32::MAX);
            bound.round.arrived = u32::MAX;
            bound.on_sample(now, rtt, Duration::ZERO, u16::MAX, true);
            assert!(bound.window(rtt).is_none_or(|window| window > 0));
        }
    }
}
