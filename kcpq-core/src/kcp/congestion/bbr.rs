//! Filling a link without filling its queue, after BBR (draft-cardwell-iccrg-bbr-congestion-control-00).
//!
//! Two things are measured: how fast the link delivers at most, and how short the round trip is at least. Their product
//! is what the link holds when its queue is empty. Segments leave at the pace of the delivery; now and then a little
//! faster, to see whether there is more, and then as much slower, so that the queue that came of it drains. Loss as such
//! is no sign of anything: radio links lose for other reasons.
//!
//! What differs from the draft: bursts of flows that leave the link idle are not paced before there was any sign of a
//! bottleneck, since waiting costs them latency; the probe is 1.15 instead of 1.25 and the minimal round trip is looked for
//! at half of the usual flight, both for a shorter queue; where more than a third is lost the estimate is lowered, where
//! less is lost without a queue that much more is sent.

use crate::time::{Duration, Instant};

/// What is known when a segment leaves, to be compared with what is known when it is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(in crate::kcp) struct Snapshot {
    /// Bytes delivered by then, wrapping.
    delivered: u32,
    /// When the last of them were acknowledged.
    delivered_at: Instant,
    /// When the segment was sent whose acknowledgement that was.
    first_sent_at: Instant,
    /// The application had too little to send to fill the link.
    limited: bool,
}

/// The state of one flow.
#[derive(Clone, Copy, Debug)]
pub(in crate::kcp) struct Bbr {
    /// The greatest rates of delivery of this and of the last few rounds, in bytes per second.
    rates: [u64; ROUNDS],
    /// The rounds so far; one is the time until what was sent at its beginning is acknowledged.
    round: u32,
    round_ends: u32,
    least_rtt: Option<Duration>,
    least_rtt_at: Instant,
    /// How long the peer collects acknowledgements: what is in flight has to last until they come.
    tick: Duration,
    delivered: u32,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// What is sent before so many bytes are delivered does not fill the link.
    limited_until: Option<u32>,
    phase: Phase,
    /// The rate that the start-up last grew to, and for how many rounds it has not grown since.
    plateau: (u64, u8),
    /// Bytes that may go at once; below zero after more went than that.
    credit: i64,
    credit_at: Instant,
    lost_in_round: u32,
    acked_in_round: u32,
    /// The present round had samples of a full link.
    saw_unlimited: bool,
    /// Percent of the last round that got lost although there was no queue, above [`HARMLESS`], at most [`MOST_LOSSY`].
    lossy: u64,
    mss: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Doubling every round until the rate grows no more.
    Startup,
    /// What start-up put into the queue leaves it.
    Drain,
    /// The link is full; `step` of [`CYCLE`] since then.
    Cruise { step: u8, since: Instant },
    /// Half of the usual flight, to see the round trip without a queue.
    Settle { until: Instant },
}

/// Rounds that a rate counts.
const ROUNDS: usize = 10;
/// How fast to send in the steps of cruising, a least round trip each, in percent of the rate.
const CYCLE: [u64; 8] = [115, 85, 100, 100, 100, 100, 100, 100];
/// 2 / ln 2: the least pace that doubles the rate every round.
const STARTUP: u64 = 289;
/// The most percent of loss that is made up for by sending faster: what looks like a lossy link may be a short queue.
const MOST_LOSSY: u64 = 10;
/// Percent of loss that the probes make up for.
const HARMLESS: u64 = 5;
/// How old the least round trip may be.
const RTT_AGE: Duration = Duration::from_secs(10);
/// How long it is looked for.
const SETTLE: Duration = Duration::from_millis(200);
/// Most bytes that go at once before a bottleneck was seen.
const FREE_BURST: i64 = 64 << 10;
/// Least segments that may be in flight.
const LEAST_WINDOW: u32 = 4;
/// Segments in flight before anything was measured.
const FIRST_WINDOW: u32 = 32;

impl Bbr {
    pub(super) fn new(mss: u32) -> Self {
        Self {
            rates: [0; ROUNDS],
            round: 0,
            round_ends: 0,
            least_rtt: None,
            least_rtt_at: Instant::ZERO,
            tick: Duration::ZERO,
            delivered: 0,
            delivered_at: Instant::ZERO,
            first_sent_at: Instant::ZERO,
            limited_until: None,
            phase: Phase::Startup,
            plateau: (0, 0),
            credit: FREE_BURST,
            credit_at: Instant::ZERO,
            lost_in_round: 0,
            acked_in_round: 0,
            saw_unlimited: false,
            lossy: 0,
            mss: mss.max(1),
        }
    }

    /// The peer acknowledges once in `tick`.
    pub(super) fn set_tick(&mut self, tick: Duration) {
        self.tick = tick;
    }

    /// The least time from a segment to its acknowledgement that can be counted on.
    fn round_trip(&self) -> Option<Duration> {
        self.least_rtt.map(|least| least + self.tick)
    }

    /// Bytes per second that the link delivers, as far as seen.
    pub(super) fn rate(&self) -> u64 {
        self.rates.into_iter().max().unwrap_or(0)
    }

    /// Bytes in flight that keep the link busy without a queue.
    fn fill(&self) -> u64 {
        let rtt = self.round_trip().unwrap_or(Duration::ZERO).as_micros();
        (u128::from(self.rate()) * u128::from(rtt) / 1_000_000) as u64
    }

    /// Most bytes in flight.
    pub(super) fn window(&self) -> u64 {
        let percent = match self.phase {
            Phase::Startup | Phase::Drain => STARTUP,
            Phase::Cruise { .. } => 150,
            Phase::Settle { .. } => 50,
        };
        let least = match self.phase {
            Phase::Startup => FIRST_WINDOW,
            _ => LEAST_WINDOW,
        };
        // A few more for acknowledgements that come together.
        let slack = if matches!(self.phase, Phase::Settle { .. }) { 0 } else { 3 * u64::from(self.mss) };
        (self.fill() * percent / 100 + slack).max(u64::from(least * self.mss))
    }

    fn has_seen_bottleneck(&self) -> bool {
        self.plateau.1 >= 3
    }

    /// Bytes per second to send at; `None` if nothing is known yet.
    fn pace(&self) -> Option<u64> {
        let percent = match self.phase {
            Phase::Startup => STARTUP,
            Phase::Drain => 10_000 / STARTUP,
            Phase::Cruise { step, .. } => CYCLE[usize::from(step) % CYCLE.len()],
            Phase::Settle { .. } => 100,
        };
        // What gets lost without a queue has to be sent besides.
        let pace = self.rate() * percent / (100 - self.lossy);
        let least = match (self.phase, self.round_trip()) {
            // Flows that leave the link idle show a rate of their own, not the link's.
            (Phase::Startup, Some(rtt)) => FREE_BURST as u64 * 1_000_000 / rtt.as_micros().max(1),
            _ => 0,
        };
        Some(pace.max(least)).filter(|pace| *pace > 0)
    }

    /// When the next bytes may go, if not now.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Instant> {
        let pace = self.pace()?;
        let quantum = (pace / 1_000).clamp(2 * u64::from(self.mss), FREE_BURST as u64) as i64;
        let most = if self.has_seen_bottleneck() { quantum.max(10 * i64::from(self.mss)) } else { FREE_BURST };
        let earned = u128::from(pace) * u128::from(now.since(self.credit_at).as_micros()) / 1_000_000;
        if earned > 0 {
            self.credit = self.credit.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX)).min(most);
            self.credit_at = now;
        }
        if self.credit > 0 {
            return None;
        }
        // Not before a quantum is there, so that several datagrams go together.
        let lacks = (quantum - self.credit) as u64;
        Some(now + Duration::from_micros((lacks * 1_000_000).div_ceil(pace).max(1)))
    }

    /// `len` bytes leave; `pipe` were in flight before.
    pub(super) fn on_sent(&mut self, now: Instant, len: u32, pipe: u32) -> Snapshot {
        if pipe == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        self.credit -= i64::from(len);
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            limited: self.limited_until.is_some(),
        }
    }

    /// Nothing is left to send although more might be in flight than `pipe`.
    pub(super) fn on_limited(&mut self, pipe: u32) {
        if u64::from(pipe) < self.window() {
            self.limited_until = Some(self.delivered.wrapping_add(pipe.max(1)));
        }
    }

    /// `bytes` were acknowledged.
    pub(super) fn on_acked(&mut self, now: Instant, bytes: u32) {
        self.delivered = self.delivered.wrapping_add(bytes);
        self.delivered_at = now;
        self.acked_in_round = self.acked_in_round.saturating_add(bytes);
        if self.limited_until.is_some_and(|mark| (self.delivered.wrapping_sub(mark) as i32) >= 0) {
            self.limited_until = None;
        }
    }

    pub(super) fn on_lost(&mut self, bytes: u32) {
        self.lost_in_round = self.lost_in_round.saturating_add(bytes);
    }

    /// Of what a datagram acknowledged, the segment that was sent last: at `sent_at`, with `snapshot`. `pipe` bytes are
    /// still in flight.
    pub(super) fn on_sample(&mut self, now: Instant, sent_at: Instant, rtt: Duration, snapshot: Snapshot, pipe: u32) {
        self.first_sent_at = sent_at;
        let least = self.least_rtt.is_none_or(|least| rtt <= least);
        let is_old = now.since(self.least_rtt_at) > RTT_AGE;
        if least || is_old && matches!(self.phase, Phase::Settle { .. }) {
            self.least_rtt = Some(rtt.max(Duration::from_micros(1)));
            self.least_rtt_at = now;
        }
        if (snapshot.delivered.wrapping_sub(self.round_ends) as i32) >= 0 {
            self.end_round(rtt);
        }
        // The shorter of the two would be an artefact of sending or of acknowledging in bursts.
        let sending = sent_at.since(snapshot.first_sent_at);
        let acking = now.since(snapshot.delivered_at);
        let took = sending.max(acking).as_micros();
        let bytes = u64::from(self.delivered.wrapping_sub(snapshot.delivered));
        // Over less than a round trip it says nothing (the draft, 4.1.2).
        if took > 0 && self.least_rtt.is_some_and(|least| took >= least.as_micros()) {
            let rate = bytes * 1_000_000 / took;
            let place = &mut self.rates[self.round as usize % ROUNDS];
            if !snapshot.limited || rate > *place {
                *place = (*place).max(rate);
            }
            if !snapshot.limited {
                self.saw_unlimited = true;
            }
        }
        self.change_phase(now, pipe);
    }

    fn end_round(&mut self, rtt: Duration) {
        self.round_ends = self.delivered;
        let (lost, acked) = (u64::from(self.lost_in_round), u64::from(self.acked_in_round));
        (self.lost_in_round, self.acked_in_round) = (0, 0);
        let has_queue = self.round_trip().is_some_and(|least| rtt > least + least.div(16) + Duration::from_millis(1));
        self.lossy =
            if has_queue { 0 } else { (lost * 100 / (lost + acked).max(1)).saturating_sub(HARMLESS).min(MOST_LOSSY) };
        if lost > acked / 2 {
            // More is sent than arrives: what was measured before no longer holds.
            for rate in &mut self.rates {
                *rate = *rate * 85 / 100;
            }
        }
        if !core::mem::take(&mut self.saw_unlimited) {
            return; // says nothing about the link; what is known of it stays
        }
        if !self.has_seen_bottleneck() {
            let rate = self.rate();
            self.plateau = match self.plateau {
                (best, _) if rate >= best + best / 4 => (rate, 0),
                (best, count) => (best, count + 1),
            };
        }
        self.round = self.round.wrapping_add(1);
        self.rates[self.round as usize % ROUNDS] = 0;
    }

    fn change_phase(&mut self, now: Instant, pipe: u32) {
        let pipe = u64::from(pipe);
        let cruise = Phase::Cruise { step: 2, since: now };
        match self.phase {
            Phase::Startup if self.has_seen_bottleneck() => self.phase = Phase::Drain,
            Phase::Drain if pipe <= self.fill() => self.phase = cruise,
            Phase::Cruise { .. } if now.since(self.least_rtt_at) > RTT_AGE => {
                self.phase = Phase::Settle { until: now + SETTLE.max(self.round_trip().unwrap_or(SETTLE)) };
            }
            Phase::Cruise { step, since } => {
                let least = self.round_trip().unwrap_or(Duration::ZERO);
                let over = now.since(since) > least;
                // The slow step ends as soon as the queue is gone.
                if over || CYCLE[usize::from(step)] < 100 && pipe <= self.fill() {
                    self.phase = Phase::Cruise { step: (step + 1) % CYCLE.len() as u8, since: now };
                }
            }
            Phase::Settle { until } if now >= until => {
                self.least_rtt_at = now;
                self.phase = cruise;
            }
            _ => {}
        }
    }
}
