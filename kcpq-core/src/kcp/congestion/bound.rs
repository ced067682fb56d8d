//! How much a thin flow sends over a link that it shares: a bound on its rate that follows the delay of the queue.
//!
//! A thin flow never fills a link, so it never learns how much the link carries; but with others like it, it fills the
//! queue. So it watches that. A *standing* queue is one that no datagram of a round finds short (CoDel, RFC 8289), where
//! short means what the path's own jitter explains (see `jitter`). Once there is one that loses, or is very long, the flow
//! sends less than arrives of it until the queue is nearly gone, and then a little more with each round trip: additive
//! increase and multiplicative decrease by delay, as in LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus). Flows that share a
//! queue see the same delay, so they back off together and their shares become equal; and the queue is empty now and then,
//! so that the least round trip stays known.
//!
//! When many flows begin at once their queue is full within a few round trips, so there is no time to see much of it. What
//! could be left out is left out from the first round trip on that is too long; where there is little jitter few round trips
//! tell; and once something is lost as well, one round does. A flow that has more to send than it may makes a queue by itself
//! when it begins, which is not to be taken for that of many: its queue has to show for longer.
//!
//! Draining has to help: where the delay stays as it was in the mean, time and again, it is the path's own, and counts as
//! its jitter from then on.
//!
//! A queue that does not react was made by flows that heed nothing but loss. To keep it short would mean to starve, so for
//! a while delay says nothing, and loss is heeded (the competitive mode of Copa, Arun and Balakrishnan, NSDI 2018).

use super::drain::{Drain, Effect, REACTS};
use super::jitter::Jitter;
use super::losses::Losses;
use crate::time::{Duration, Instant};

/// The bound of one flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    state: State,
    /// In bytes per second; means nothing in [`State::Free`].
    rate: u64,
    /// The rate of delivery, smoothed, in bytes per second.
    delivery: u64,
    losses: Losses,
    /// The last round trip.
    rtt: Duration,
    /// How much longer than the least round trip a full segment takes although there is no queue: its serialization.
    base: Duration,
    /// The least round trip ever.
    shortest: Duration,
    jitter: Jitter,
    /// What it was when there was no bound, and no queue: flows that share one make some themselves.
    own_jitter: Duration,
    effect: Effect,
    /// How long it competes when draining is in vain again.
    competes_for: Duration,
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
/// So many rounds on end make a queue, of at least so many samples each; of fewer if there is little jitter.
const CONVINCING: u8 = 2;
const SAMPLES: u8 = 8;
const FEW_SAMPLES: u8 = 4;
/// So many samples tell the path's jitter, to a flow that has more to send than it may, and to one that has not.
const ENOUGH: u8 = 16;
const ENOUGH_OF_LITTLE: u8 = 8;
/// The first queue has to lose a tenth, in 1024ths, of a flow that has more to send than it may, and of others anything; or to
/// be so many times as long as it should be: who jitters is not late for it.
const LOSES: u64 = 100;
const VERY_LONG: u32 = 4;
const VERY_LONG_OF_LITTLE: u32 = 3;
/// Least length of a round.
const MIN_ROUND: Duration = Duration::from_millis(20);
/// Percent of what arrives that is sent while a queue drains, and of what was sent before that is sent afterwards.
const DRAIN_GAIN: u64 = 60;
const REFILL_GAIN: u64 = 80;
/// What is added for each round trip, in bytes for each round trip.
const STEP: u64 = 60;
/// How long a queue that does not drain is taken for that of others; each time on end twice as long.
const COMPETES_FOR: Duration = Duration::from_secs(1);
const MAX_COMPETES_FOR: Duration = Duration::from_secs(16);
/// A flow that need not wait for so long is not bounded any more.
const SETTLES: Duration = Duration::from_secs(1);
/// How long it takes after a queue until there is room for what could be left out; twice as long if that made the queue.
const CALM: Duration = Duration::from_secs(2);
/// In which time it comes back, and of what it takes a growing part.
const RETURNS_IN: Duration = Duration::from_secs(2);
const SLICE: Duration = Duration::from_millis(64);
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
            losses: Losses::new(),
            rtt: Duration::ZERO,
            base: Duration::ZERO,
            shortest: Duration::MAX,
            jitter: Jitter::default(),
            own_jitter: Duration::ZERO,
            effect: Effect::default(),
            competes_for: COMPETES_FOR,
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

    /// True if what could be left out may be sent as well: there is no queue now, and was none for some time. Then it comes
    /// back little by little, in a growing part of each [`SLICE`], so that a queue that it makes is seen before it is full.
    pub(super) fn is_calm(&self, now: Instant) -> bool {
        // One round trip makes no queue, but at the start there is no time to see more of them before it is full.
        if self.rtt > self.full(self.shortest) {
            return false;
        }
        let Some(since) = self.congested_at.map(|at| now.since(at)) else { return true };
        let (into_slice, returned) =
            (since.as_micros() % SLICE.as_micros(), (since - self.calm).min(RETURNS_IN).as_micros());
        into_slice * RETURNS_IN.as_micros() < returned * SLICE.as_micros()
    }

    /// True if the queue is ours, as far as is known, and gone now and then: the least round trip is what it was.
    pub(super) fn drains(&self) -> bool {
        match self.state {
            State::Free => false,
            State::Filling { .. } | State::Draining(_) => true,
            State::Competing { .. } => self.competes_for < MAX_COMPETES_FOR,
        }
    }

    /// The longest queue that is no reason to send less, where the least round trip is `least`: jitter makes none.
    fn target(&self, least: Duration) -> Duration {
        base_target(least) + self.jitter()
    }

    /// A round trip this long, where the least one is `least`, has found the queue of a full link.
    fn full(&self, least: Duration) -> Duration {
        self.shortest.saturating_mul(2) + self.target(least)
    }

    /// By how much a round trip may be longer than the least without a queue.
    pub(super) fn jitter(&self) -> Duration {
        Jitter::reach(if self.rate().is_some() { self.own_jitter } else { self.jitter.mean() })
    }

    /// How many samples make a round. They are few where there is little jitter, and with a bound, which has to react soon,
    /// fewer.
    fn enough_samples(&self, least: Duration) -> u8 {
        let is_quick = self.jitter().saturating_mul(2) <= self.target(least);
        match self.rate() {
            _ if self.loses_much() => 1,
            Some(_) if is_quick => 1,
            None if is_quick && !self.round.busy => FEW_SAMPLES,
            _ => SAMPLES,
        }
    }

    /// A segment of `len` bytes has arrived, where `least` is the least round trip, if one is known.
    pub(super) fn on_acked(&mut self, now: Instant, len: u16, least: Option<Duration>) {
        self.round.arrived = self.round.arrived.saturating_add(len.into());
        self.round.longest = self.round.longest.max(len);
        self.losses.on_acked(now, len, self.rtt);
        // Where nearly everything is sent again there are few round trips to wait for.
        if self.loses_much()
            && let Some(least) = least
        {
            self.round.queue = self.round.queue.min(self.rtt - least - self.base);
            self.end_round_in_time(now, least);
        }
    }

    /// So many bytes got lost, in segments of up to `longest`.
    pub(super) fn on_lost(&mut self, bytes: u32, longest: u16) {
        self.round.lost = self.round.lost.saturating_add(bytes);
        self.losses.on_lost(bytes, longest);
    }

    /// Of what was lost so many bytes had not been.
    pub(super) fn on_spurious(&mut self, bytes: u32) {
        self.round.lost = self.round.lost.saturating_sub(bytes);
        self.losses.on_spurious(bytes);
    }

    /// A segment took `rtt`, where `least` is the least round trip; `busy` if there was more to send.
    pub(super) fn on_sample(&mut self, now: Instant, rtt: Duration, least: Duration, busy: bool) {
        self.jitter.on_sample(rtt);
        self.rtt = rtt;
        let round = &mut self.round;
        self.shortest = self.shortest.min(rtt);
        self.base = self.base.min(rtt - least);
        round.queue = round.queue.min(rtt - least - self.base);
        self.effect.on_sample(rtt - least);
        round.samples = round.samples.saturating_add(1);
        round.busy |= busy;
        if self.round.samples >= self.enough_samples(least) {
            self.end_round_in_time(now, least);
        }
    }

    fn end_round_in_time(&mut self, now: Instant, least: Duration) {
        let took = now.since(self.round.began);
        // What a bound does is seen a round trip later. To see that one is needed there is no time.
        let trip = if self.rate().is_some() || self.round.busy { self.rtt } else { least };
        if took >= trip.max(MIN_ROUND) {
            self.end_round(now, took, least);
        }
    }

    fn end_round(&mut self, now: Instant, took: Duration, least: Duration) {
        let rtt = self.rtt;
        let round = core::mem::replace(&mut self.round, Round::begin(now));
        let delivery = u64::from(round.arrived) * 1_000_000 / took.as_micros().max(1);
        self.delivery = (self.delivery + delivery) / 2;
        let arrives = delivery.max(self.delivery);
        let target = self.target(least);
        let is_long = self.is_long(&round, target);
        let per_trip = arrives.saturating_mul(least.as_micros()) / 1_000_000;
        let (loses, very_long, enough) = match round.busy {
            true => (self.losses.part() > LOSES, VERY_LONG, ENOUGH),
            false => (round.lost > 0 || self.losses.part() > LOSES, VERY_LONG_OF_LITTLE, ENOUGH_OF_LITTLE),
        };
        let counts = loses || self.effect.is_proved || round.queue > base_target(least).saturating_mul(very_long);
        self.long_rounds = if is_long && counts { self.long_rounds.saturating_add(1) } else { 0 };
        let is_known = self.rate().is_some() || self.jitter.samples() >= enough || self.loses_much();
        if per_trip > THIN || !is_known {
            self.state = State::Free;
        } else {
            // By time, not by rounds: those of the slowest flow are the longest.
            let trips = (took.as_micros() * 100 / rtt.as_micros().max(1)).min(2_000);
            let step = STEP * trips * 10_000 / rtt.as_micros().max(1);
            self.adapt(now, &round, arrives, step, target);
        }
        if self.rate().is_none() && round.lost == 0 && round.queue <= base_target(least).div(2) {
            self.own_jitter = self.jitter.mean();
        }
        // The least round trip may have been measured anew beside flows that keep the queue full.
        let is_full = least + round.queue > self.full(least);
        if self.is_standing(&round) || is_full || self.rate().is_some() {
            self.on_congestion(now);
        }
    }

    /// True if there is a queue, where it should be no longer than `target`, or it is too short to be seen and loses.
    fn is_long(&self, round: &Round, target: Duration) -> bool {
        round.queue > target || self.loses_much() && round.lost > 0
    }

    /// True if so much gets lost that there must be a queue.
    fn loses_much(&self) -> bool {
        self.losses.part() > HEAVY
    }

    /// True if the last rounds make a queue, or the last one alone, `round`, since it lost something.
    fn is_standing(&self, round: &Round) -> bool {
        let is_lossy = !round.busy && round.lost > 0 || self.loses_much();
        self.long_rounds >= CONVINCING || self.long_rounds > 0 && is_lossy
    }

    /// A round is over, in which this much `arrives` in a second, where a queue should be no longer than `target`; `step` is to
    /// be added to the rate for the time it took.
    fn adapt(&mut self, now: Instant, round: &Round, arrives: u64, step: u64, target: Duration) {
        let (is_short, is_long) = (round.queue <= target.div(2), self.is_long(round, target));
        let (is_standing, loses_much) = (self.is_standing(round), self.loses_much());
        match &mut self.state {
            State::Free if is_standing => {
                self.effect.forget();
                self.drain(round, arrives, arrives);
            }
            State::Free => return,
            State::Filling { .. } if is_long && self.effect.is_none() && !loses_much => {
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
                if drain.is_serialization(round.longest) {
                    self.base = self.base + drain.least;
                    self.rate = drain.delivery;
                    self.state = State::Filling { since: now };
                } else if is_short || drain.rounds > REACTS && !is_long {
                    self.competes_for = COMPETES_FOR;
                    self.rate = self.rate * REFILL_GAIN / DRAIN_GAIN;
                    self.state = State::Filling { since: now };
                } else if drain.is_in_vain() {
                    self.rate = drain.delivery;
                    self.state = State::Competing { until: now + self.competes_for };
                    self.competes_for = self.competes_for.saturating_mul(2).min(MAX_COMPETES_FOR);
                } else if is_longer && drain.rounds % REACTS == 0 && self.competes_for == COMPETES_FOR {
                    // Who has had to compete does not give way any further: others would take that as well.
                    self.rate = (self.rate * DRAIN_GAIN / 100).max(drain.delivery / 4);
                }
            }
            State::Competing { until } if now > *until || is_short => self.state = State::Filling { since: now },
            State::Competing { .. } if round.lost > 0 => self.rate = self.delivery * 70 / 100,
            State::Competing { .. } => self.rate = (self.rate + step + self.rate / 8).min(self.delivery * 2),
        }
        self.rate = self.rate.max(step).max(1);
    }

    /// Begins to drain the queue, of which no more is ours than arrives, or than was sent at `rate`.
    fn drain(&mut self, round: &Round, arrives: u64, rate: u64) {
        self.effect.begin();
        self.rate = rate.min(arrives * 5 / 4) * DRAIN_GAIN / 100;
        self.state = State::Draining(Drain::new(round.queue, self.delivery));
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
            bound.on_acked(*now, LEN, Some(LEAST));
            bound.on_sample(*now, LEAST + Duration::from_millis(queue), LEAST, false);
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
        pass(&mut bound, &mut now, [70; 14]);
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
    fn who_competes_sends_seven_tenths_of_what_arrives_when_something_gets_lost() {
        let (mut bound, now) = begun();
        let mut round = Round::begin(now);
        (round.queue, round.lost) = (Duration::from_millis(90), 1);
        (bound.state, bound.delivery) = (State::Competing { until: now }, 20_000);
        bound.adapt(now, &round, 20_000, 1, Duration::from_millis(15));
        assert_eq!(bound.rate(), Some(14_000));
    }

    /// As when many begin at once: none of them has seen more than its own handshake, and the queue is soon full.
    #[test]
    fn a_queue_that_grows_from_the_start_is_seen_before_it_is_long_full() {
        for loses in [false, true] {
            let (mut bound, mut now) = (Bound::new(), Instant::from_millis(1));
            pass(&mut bound, &mut now, [0; 4]);
            let mut samples = 0;
            while bound.rate().is_none() {
                samples += 1;
                assert!(samples <= if loses { 16 } else { 20 }, "{samples} of 20 ms");
                let queue = (samples * 8).min(100);
                if loses && queue == 100 {
                    bound.on_lost(700, LEN);
                }
                pass(&mut bound, &mut now, [queue]);
                assert_eq!(bound.is_calm(now), queue <= 45, "{queue} ms: nothing but what has to be sent");
            }
        }
    }

    #[test]
    fn what_could_be_left_out_comes_back_little_by_little() {
        let (mut bound, mut now) = begun();
        pass(&mut bound, &mut now, [70; 24]);
        pass(&mut bound, &mut now, [0; 100]);
        assert_eq!(bound.rate(), None);
        let at = bound.congested_at.unwrap() + bound.calm;
        let part = |from: u64| (0..320).filter(|n| bound.is_calm(at + Duration::from_millis(from + n))).count();
        let parts = [0, 500, 1_000, 1_500, 2_000].map(part);
        assert!(parts.is_sorted() && parts[0] < 40 && (100..220).contains(&parts[2]) && parts[4] == 320, "{parts:?}");
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
        assert!(bound.rate().unwrap() > before && matches!(bound.state, State::Competing { .. }));
        bound.on_lost(700, LEN);
        let before = bound.rate().unwrap();
        pass(&mut bound, &mut now, [80; 6]);
        assert!(bound.rate().unwrap() < before, "loss is heeded");
    }

    /// As one does that is filled by others meanwhile, be it TCP or flows like this one that do not drain.
    #[test]
    fn a_queue_that_only_grows_while_it_is_to_drain_is_competed_with_soon() {
        let (mut bound, mut now) = begun();
        pass(&mut bound, &mut now, [50; 12]);
        assert!(matches!(bound.state, State::Draining(_)));
        let mut samples = 0;
        while matches!(bound.state, State::Draining(_)) {
            samples += 1;
            assert!(samples < 40, "{:?}", bound.state);
            pass(&mut bound, &mut now, [50 + 2 * samples]);
        }
        assert!(matches!(bound.state, State::Competing { .. }));
    }

    #[test]
    fn without_room_for_a_queue_loss_tells() {
        let (mut bound, mut now) = begun();
        for _ in 0..300 {
            bound.on_lost(u32::from(LEN), LEN);
            pass(&mut bound, &mut now, [1]);
        }
        assert!(bound.rate().is_some());
    }

    #[test]
    fn absurd_samples_do_not_overflow() {
        let (mut bound, mut now) = begun();
        for rtt in [Duration::MAX, Duration::ZERO, Duration::from_secs(1 << 30)] {
            now += Duration::from_secs(1 << 20);
            bound.on_lost(u32::MAX, u16::MAX);
            bound.round.arrived = u32::MAX;
            bound.on_sample(now, rtt, Duration::ZERO, true);
            assert!(bound.window(rtt).is_none_or(|window| window > 0));
        }
    }
}
