//! BBR (draft-cardwell-iccrg-bbr-congestion-control-00): fills a link without filling its queue (PROTOCOL.md 2.6).
//!
//! Two things are measured: the bottleneck bandwidth (the maximum delivery rate of the last rounds) and the propagation
//! delay (the minimum round trip). Their product, the BDP, is what the link holds when its queue is empty. Segments are
//! paced at the bandwidth; now and then a little faster, to see whether there is more (ProbeBW), and then as much
//! slower, so that the queue that came of it drains. Loss as such is no congestion signal: radio links lose for other
//! reasons.
//!
//! What differs from the draft:
//! * App-limited flows, which leave the link idle, are not paced before there was any sign of a bottleneck, since
//!   pacing costs them latency.
//! * ProbeBW's gains are 1.15 and 0.85 instead of 1.25 and 0.75, and its window gain is 1.5 instead of 2, for a shorter
//!   queue.
//! * ProbeRTT leaves half a BDP in flight instead of four segments.
//! * Where more than a third of a round is lost, the bandwidth is lowered; where less is lost and there is no queue,
//!   that much more is sent.

use crate::time::{Duration, Instant};

/// The state at the sending of a segment, from which its acknowledgement makes a delivery rate sample (the draft's
/// P.delivered and so on).
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(in crate::kcp) struct Snapshot {
    /// Bytes delivered by then, wrapping.
    delivered: u32,
    /// When the last of them were acknowledged.
    delivered_at: Instant,
    /// When the segment was sent whose acknowledgement that was.
    first_sent_at: Instant,
    /// App-limited: the application had too little to send to fill the link.
    limited: bool,
}

/// The state of one flow.
#[derive(Clone, Copy, Debug)]
pub(in crate::kcp) struct Bbr {
    /// The bandwidth filter (BtlBwFilter): the maximum delivery rates of this and of the last rounds, in bytes per
    /// second.
    rates: [u64; ROUNDS],
    /// Round count; a round ends when what was sent at its beginning is acknowledged.
    round: u32,
    round_ends: u32,
    least_rtt: Option<Duration>,
    least_rtt_at: Instant,
    /// The peer's acknowledgement delay (max_ack_delay): what is in flight has to last until its acknowledgements come.
    tick: Duration,
    delivered: u32,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// App-limited until this many bytes are delivered.
    limited_until: Option<u32>,
    phase: Phase,
    /// Startup's full-pipe estimator (full_bw, full_bw_count): the bandwidth it last grew to, and the rounds without
    /// growth since.
    plateau: (u64, u8),
    /// The pacer's tokens in bytes; negative after more was sent.
    credit: i64,
    credit_at: Instant,
    lost_in_round: u32,
    acked_in_round: u32,
    /// This round had a sample that was not app-limited.
    saw_unlimited: bool,
    /// Percent of the last round that got lost although there was no queue, above [`HARMLESS`], at most [`MOST_LOSSY`].
    lossy: u64,
    mss: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Startup: doubles the rate every round until the bandwidth grows no more (the pipe is full).
    Startup,
    /// Drain: empties the queue that Startup has filled.
    Drain,
    /// ProbeBW: in step `step` of the gain cycle [`CYCLE`], since then.
    Cruise { step: u8, since: Instant },
    /// ProbeRTT: half of the BDP in flight, to measure the round trip without a queue.
    Settle { until: Instant },
}

/// The length of the bandwidth filter in rounds.
const ROUNDS: usize = 10;
/// ProbeBW's pacing gains, each for one minimum round trip, in percent of the bandwidth.
const CYCLE: [u64; 8] = [115, 85, 100, 100, 100, 100, 100, 100];
/// Startup's gain, 2 / ln 2, in percent: the least pacing gain that doubles the rate every round.
const STARTUP: u64 = 289;
/// The most percent of loss that is made up for by sending faster: what looks like a lossy link may be a short queue.
const MOST_LOSSY: u64 = 10;
/// Percent of loss that the probes make up for.
const HARMLESS: u64 = 5;
/// The lifetime of the minimum round trip (RTpropFilterLen).
const RTT_AGE: Duration = Duration::from_secs(10);
/// The length of ProbeRTT (ProbeRTTDuration), or a round trip if longer.
const SETTLE: Duration = Duration::from_millis(200);
/// Maximum unpaced burst in bytes before a bottleneck was seen.
const FREE_BURST: i64 = 64 << 10;
/// Minimum window in segments (BBRMinPipeCwnd).
const LEAST_WINDOW: u32 = 4;
/// Initial window in segments.
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

    /// The peer delays acknowledgements by up to `tick`.
    pub(super) fn set_tick(&mut self, tick: Duration) {
        self.tick = tick;
    }

    /// The least time from a segment to its acknowledgement that can be counted on.
    fn round_trip(&self) -> Option<Duration> {
        self.least_rtt.map(|least| least + self.tick)
    }

    /// The bandwidth estimate (max_bw), in bytes per second.
    pub(super) fn rate(&self) -> u64 {
        self.rates.into_iter().max().unwrap_or(0)
    }

    /// The BDP in bytes, plus what is delivered during the acknowledgement delay: the flight that keeps the link busy
    /// without a queue.
    fn fill(&self) -> u64 {
        let rtt = self.round_trip().unwrap_or(Duration::ZERO).as_micros();
        (u128::from(self.rate()) * u128::from(rtt) / 1_000_000) as u64
    }

    /// The congestion window in bytes: window gain times BDP.
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

    /// The pacing rate in bytes per second: pacing gain times bandwidth; `None` if nothing is known yet.
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
            // App-limited flows show their own rate, not the link's.
            (Phase::Startup, Some(rtt)) => FREE_BURST as u64 * 1_000_000 / rtt.as_micros().max(1),
            _ => 0,
        };
        Some(pace.max(least)).filter(|pace| *pace > 0)
    }

    /// The pacer: when the next segment may be sent, if not now.
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

    /// App-limited: nothing is left to send although the window allows more than `pipe` in flight.
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
