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
//! * Startup ends as well when each round trip of a round had a queue (HyStart++, RFC 9406).
//! * Thin flows have a bound besides, which follows the queue (see `bound`); while there is one, the least round trip does
//!   not get old.
//! * ProbeBW's gains are 1.15 and 0.85 instead of 1.25 and 0.75, and its window gain is 1.5 instead of 2, for a shorter
//!   queue.
//! * While something urgent shares the link with what can wait, the gains are lower, and Startup ends with the first sign of a
//!   queue: what is urgent would wait in it.
//! * ProbeRTT leaves half a BDP in flight instead of four segments.
//! * Where more than a third of a round is lost, the bandwidth is lowered; where less is lost and there is no queue,
//!   that much more is sent.

use super::bound::Bound;
use super::pacer::{Pacer, Pacing};
use super::urgent::Urgent;
use super::{Controller, Sample};
use crate::kcp::config::CongestionControl;
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
    app_limited: bool,
}

/// The state of one flow.
#[derive(Clone, Copy, Debug)]
pub(in crate::kcp) struct Bbr {
    /// The bandwidth filter (BtlBwFilter): the maximum delivery rates of this and of the last rounds, in bytes per
    /// second.
    bw_filter: [u64; BW_FILTER_LEN],
    /// Round count; a round ends when what was sent at its beginning is acknowledged.
    round: u32,
    round_end: u32,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    /// The peer's acknowledgement delay (max_ack_delay): what is in flight has to last until its acknowledgements come.
    ack_delay: Duration,
    delivered: u32,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// App-limited until this many bytes are delivered.
    app_limited_until: Option<u32>,
    /// Not all that was queued has been sent.
    has_more: bool,
    phase: Phase,
    /// Startup's full-pipe estimator: the bandwidth it last grew to, and the rounds without growth since.
    full_bw: u64,
    full_bw_count: u8,
    pacer: Pacer,
    bound: Bound,
    /// What waits elsewhere has to go on waiting.
    holding: bool,
    lost_in_round: u32,
    acked_in_round: u32,
    /// The least round trip in this round.
    round_rtt: Duration,
    /// Of so many.
    round_samples: u8,
    /// This round had a sample that was not app-limited.
    saw_full_rate: bool,
    /// Loss that is made up for: percent of the last round that got lost although there was no queue, above
    /// [`HARMLESS_LOSS`], at most [`MAX_COMPENSATION`].
    compensation: u64,
    mss: u32,
    urgent: Urgent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Startup: doubles the rate every round until the bandwidth grows no more (the pipe is full).
    Startup,
    /// Drain: empties the queue that Startup has filled.
    Drain,
    /// ProbeBW: in step `step` of the gain cycle [`PACING_GAINS`], since then.
    ProbeBw { step: u8, since: Instant },
    /// ProbeRTT: half of the BDP in flight, to measure the round trip without a queue.
    ProbeRtt { until: Instant },
}

/// The length of the bandwidth filter in rounds.
const BW_FILTER_LEN: usize = 10;
/// ProbeBW's pacing gains, each for one minimum round trip, in percent of the bandwidth.
const PACING_GAINS: [u64; 8] = [115, 85, 100, 100, 100, 100, 100, 100];
/// The same while something urgent shares the link, which would wait in whatever queue there is.
const URGENT_GAINS: [u64; 8] = [105, 80, 92, 92, 92, 92, 92, 92];
/// Startup's gain, 2 / ln 2, in percent: the least pacing gain that doubles the rate every round.
const STARTUP_GAIN: u64 = 289;
/// Rounds without growth that show that the pipe is full.
const FULL: u8 = 3;
/// So long a queue shows the same, if each of a round's round trips has it: an eighth of the round trip within these bounds
/// (HyStart++, RFC 9406).
const MIN_QUEUE_SEEN: Duration = Duration::from_millis(4);
const MAX_QUEUE_SEEN: Duration = Duration::from_millis(16);
const ENOUGH_SAMPLES: u8 = 8;
/// The most percent of loss that is made up for by sending faster: what looks like a lossy link may be a short queue.
const MAX_COMPENSATION: u64 = 10;
/// Percent of loss that the probes make up for.
const HARMLESS_LOSS: u64 = 5;
/// The lifetime of the minimum round trip (RTpropFilterLen).
const MIN_RTT_FILTER_LEN: Duration = Duration::from_secs(10);
/// The length of ProbeRTT (ProbeRTTDuration), or a round trip if longer.
const PROBE_RTT_DURATION: Duration = Duration::from_millis(200);
/// Maximum unpaced burst in bytes before a bottleneck was seen.
const MAX_UNPACED_BURST: u64 = 64 << 10;
/// Minimum window in segments (BBRMinPipeCwnd).
const MIN_PIPE_CWND: u32 = 4;
/// Initial window in segments, and its maximum in bytes where segments are long, unless two do not fit (as RFC 6928 bounds
/// it): what waits in a queue are bytes.
const INITIAL_CWND: u32 = 32;
const MAX_INITIAL_CWND: u32 = 64 << 10;

/// The pacing gain of a step of ProbeBW.
fn pacing_gain(step: u8) -> u64 {
    PACING_GAINS[usize::from(step) % PACING_GAINS.len()]
}

impl Bbr {
    /// BBR, if that was chosen.
    pub(super) fn chosen(kind: CongestionControl, mss: u32) -> Option<Self> {
        (kind == CongestionControl::Bbr).then(|| Self::new(mss))
    }

    fn new(mss: u32) -> Self {
        Self {
            bw_filter: [0; BW_FILTER_LEN],
            round: 0,
            round_end: 0,
            min_rtt: None,
            min_rtt_at: Instant::ZERO,
            ack_delay: Duration::ZERO,
            delivered: 0,
            delivered_at: Instant::ZERO,
            first_sent_at: Instant::ZERO,
            app_limited_until: None,
            has_more: false,
            phase: Phase::Startup,
            full_bw: 0,
            full_bw_count: 0,
            pacer: Pacer::new(MAX_UNPACED_BURST),
            bound: Bound::new(),
            holding: false,
            lost_in_round: 0,
            acked_in_round: 0,
            round_rtt: Duration::MAX,
            round_samples: 0,
            saw_full_rate: false,
            compensation: 0,
            mss,
            urgent: Urgent::new(),
        }
    }

    /// The least time from a segment to its acknowledgement that can be counted on.
    fn round_trip(&self) -> Option<Duration> {
        self.min_rtt.map(|least| least + self.ack_delay)
    }

    /// The bandwidth estimate (max_bw), in bytes per second.
    fn max_bw(&self) -> u64 {
        self.bw_filter.into_iter().max().unwrap_or(0)
    }

    /// The BDP in bytes, plus what is delivered during the acknowledgement delay: the flight that keeps the link busy
    /// without a queue.
    fn bdp(&self) -> u64 {
        let rtt = self.round_trip().unwrap_or(Duration::ZERO).as_micros();
        (u128::from(self.max_bw()) * u128::from(rtt) / 1_000_000) as u64
    }

    /// The congestion window in bytes: window gain (cwnd_gain) times BDP.
    fn cwnd(&self) -> u64 {
        let gain = match self.phase {
            Phase::Startup | Phase::Drain if self.urgent.is_any() => 200,
            Phase::Startup | Phase::Drain => STARTUP_GAIN,
            Phase::ProbeBw { .. } if self.urgent.is_any() => 115,
            Phase::ProbeBw { .. } => 150,
            Phase::ProbeRtt { .. } => 50,
        };
        let least = match self.phase {
            Phase::Startup => (INITIAL_CWND * self.mss).min(MAX_INITIAL_CWND.max(2 * self.mss)),
            _ => MIN_PIPE_CWND * self.mss,
        };
        // A few more for acknowledgements that come together.
        let slack = if matches!(self.phase, Phase::ProbeRtt { .. }) { 0 } else { 3 * u64::from(self.mss) };
        (self.bdp() * gain / 100 + slack).max(least.into())
    }

    /// Startup has found the bottleneck (the draft's filled_pipe).
    fn is_pipe_full(&self) -> bool {
        self.full_bw_count >= FULL
    }

    /// The pacing rate in bytes per second: pacing gain times bandwidth; `None` if nothing is known yet.
    fn pacing_rate(&self) -> Option<u64> {
        let gain = match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => 10_000 / STARTUP_GAIN,
            Phase::ProbeBw { step, .. } if self.urgent.is_any() => URGENT_GAINS[usize::from(step) % URGENT_GAINS.len()],
            Phase::ProbeBw { step, .. } => pacing_gain(step),
            Phase::ProbeRtt { .. } => 100,
        };
        // What gets lost without a queue has to be sent besides.
        let rate = self.max_bw() * gain / (100 - self.compensation.min(MAX_COMPENSATION));
        let least = match (self.phase, self.round_trip()) {
            // App-limited flows show their own rate, not the link's.
            (Phase::Startup, Some(rtt)) if self.urgent.is_any() => {
                u64::from(10 * self.mss) * 1_000_000 / rtt.as_micros().max(1)
            }
            (Phase::Startup, Some(rtt)) => MAX_UNPACED_BURST * 1_000_000 / rtt.as_micros().max(1),
            _ => 0,
        };
        Some(rate.max(least)).filter(|rate| *rate > 0)
    }

    fn end_round(&mut self, rtt: Duration) {
        self.round_end = self.delivered;
        let least = core::mem::replace(&mut self.round_rtt, Duration::MAX);
        let samples = core::mem::take(&mut self.round_samples);
        let (lost, acked) = (u64::from(self.lost_in_round), u64::from(self.acked_in_round));
        (self.lost_in_round, self.acked_in_round) = (0, 0);
        let has_queue = self.round_trip().is_some_and(|least| rtt > least + least.div(16) + Duration::from_millis(1));
        self.compensation = if has_queue {
            0
        } else {
            (lost * 100 / (lost + acked).max(1)).saturating_sub(HARMLESS_LOSS).min(MAX_COMPENSATION)
        };
        if lost > acked / 2 {
            // More is sent than arrives: what was measured before no longer holds.
            for rate in &mut self.bw_filter {
                *rate = *rate * 85 / 100;
            }
        }
        if !core::mem::take(&mut self.saw_full_rate) {
            return; // says nothing about the link; what is known of it stays
        }
        if self.urgent.is_any() && has_queue {
            self.full_bw_count = FULL;
        }
        if !self.is_pipe_full() {
            let max_bw = self.max_bw();
            if max_bw >= self.full_bw + self.full_bw / 4 {
                (self.full_bw, self.full_bw_count) = (max_bw, 0);
            } else {
                self.full_bw_count += 1;
            }
            let queue = least - self.round_trip().unwrap_or(least);
            let seen = least.div(8).max(MIN_QUEUE_SEEN).min(MAX_QUEUE_SEEN) + self.bound.jitter();
            if samples >= ENOUGH_SAMPLES && queue > seen {
                self.full_bw_count = FULL;
            }
        }
        self.round = self.round.wrapping_add(1);
        self.bw_filter[self.round as usize % BW_FILTER_LEN] = 0;
    }

    fn change_phase(&mut self, now: Instant, pipe: u32) {
        self.urgent.on_time(now);
        let pipe = u64::from(pipe);
        let probe_bw = Phase::ProbeBw { step: 2, since: now };
        match self.phase {
            Phase::Startup if self.is_pipe_full() => self.phase = Phase::Drain,
            Phase::Drain if pipe <= self.bdp() => self.phase = probe_bw,
            Phase::ProbeBw { .. } if now.since(self.min_rtt_at) > MIN_RTT_FILTER_LEN && !self.bound.drains() => {
                self.phase = Phase::ProbeRtt {
                    until: now + PROBE_RTT_DURATION.max(self.round_trip().unwrap_or(PROBE_RTT_DURATION)),
                };
            }
            Phase::ProbeBw { step, since } => {
                let least = self.round_trip().unwrap_or(Duration::ZERO);
                let over = now.since(since) > least;
                // The slow step ends as soon as the queue is gone.
                if over || pacing_gain(step) < 100 && pipe <= self.bdp() {
                    self.phase = Phase::ProbeBw { step: (step + 1) % PACING_GAINS.len() as u8, since: now };
                }
            }
            Phase::ProbeRtt { until } if now >= until => {
                self.min_rtt_at = now;
                self.phase = probe_bw;
            }
            _ => {}
        }
    }
}

impl Controller for Bbr {
    fn admits(&self, pipe: u32) -> bool {
        let bound = self.round_trip().and_then(|least| self.bound.window(least));
        u64::from(pipe) < self.cwnd().min(bound.unwrap_or(u64::MAX))
    }

    fn is_rate_based(&self) -> bool {
        true
    }

    fn is_calm(&self, now: Instant) -> bool {
        self.bound.is_calm(now)
    }

    fn is_bounded(&self) -> bool {
        self.bound.rate().is_some()
    }

    fn hold(&mut self, now: Instant, waits: bool, unsent: usize, pipe: u32) -> bool {
        self.holding =
            waits && self.is_bounded() && (unsent > 0 || !self.admits(pipe) || self.release_at(now, false).is_some());
        self.holding
    }

    fn is_holding(&self) -> bool {
        self.holding && self.is_bounded()
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
    }

    fn set_ack_delay(&mut self, delay: Duration) {
        self.ack_delay = delay;
    }

    fn release_at(&mut self, now: Instant, again: bool) -> Option<Instant> {
        if self.pacer.is_filled(now) {
            return None; // whatever the rate is
        }
        let rate = self.pacing_rate()?;
        let mss = u64::from(self.mss);
        let urgent = self.urgent.is_any();
        let quantum = |rate: u64, least: u64| (rate / 1_000).min(MAX_UNPACED_BURST).max(least);
        let pacing = match self.bound.rate() {
            Some(bound) if bound < rate => {
                let quantum = quantum(bound, 1);
                let credit = if again { mss } else { 0 };
                Pacing { rate: bound, quantum, burst: quantum.max(mss / 2), credit }
            }
            _ => {
                let quantum = quantum(rate, if urgent { mss } else { 2 * mss });
                let burst = match urgent {
                    true => 2 * quantum,
                    false if self.is_pipe_full() => quantum.max(10 * mss),
                    false => MAX_UNPACED_BURST,
                };
                Pacing { rate, quantum, burst, credit: 0 }
            }
        };
        self.pacer.release_at(now, &pacing)
    }

    fn on_sent(&mut self, now: Instant, len: u16, pipe: u32) -> Snapshot {
        if pipe == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        self.pacer.spend(len);
        self.has_more = true;
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited_until.is_some(),
        }
    }

    fn on_urgent(&mut self, now: Instant) {
        self.urgent.on_sent(now);
    }

    fn on_app_limited(&mut self, pipe: u32) {
        self.has_more = false;
        if u64::from(pipe) < self.cwnd() {
            self.app_limited_until = Some(self.delivered.wrapping_add(pipe.max(1)));
        }
    }

    fn on_acked(&mut self, now: Instant, len: u16) {
        self.delivered = self.delivered.wrapping_add(u32::from(len));
        self.delivered_at = now;
        self.bound.on_acked(now, len, self.round_trip());
        self.acked_in_round = self.acked_in_round.saturating_add(u32::from(len));
        if self.app_limited_until.is_some_and(|mark| (self.delivered.wrapping_sub(mark) as i32) >= 0) {
            self.app_limited_until = None;
        }
    }

    fn on_spurious(&mut self) {
        self.bound.on_spurious(self.mss);
    }

    fn on_lost(&mut self, bytes: u32, longest: u16) {
        self.bound.on_lost(bytes, longest);
        self.lost_in_round = self.lost_in_round.saturating_add(bytes);
    }

    fn on_sample(&mut self, now: Instant, sample: &Sample, pipe: u32) {
        let Sample { sent_at, rtt, snapshot: Some(snapshot) } = *sample else { return };
        self.first_sent_at = sent_at;
        let least = self.min_rtt.is_none_or(|least| rtt <= least);
        let is_old = now.since(self.min_rtt_at) > MIN_RTT_FILTER_LEN;
        if least || is_old && matches!(self.phase, Phase::ProbeRtt { .. }) {
            self.min_rtt = Some(rtt.max(Duration::from_micros(1)));
            self.min_rtt_at = now;
        }
        if let Some(least) = self.round_trip() {
            // The first flight of much is marked by what little was sent before it.
            let busy = !snapshot.app_limited || self.has_more;
            self.bound.on_sample(now, rtt, least, busy);
        }
        self.round_rtt = self.round_rtt.min(rtt);
        self.round_samples = self.round_samples.saturating_add(1);
        if (snapshot.delivered.wrapping_sub(self.round_end) as i32) >= 0 {
            self.end_round(rtt);
        }
        // The shorter of the two would be an artefact of sending or of acknowledging in bursts.
        let sending = sent_at.since(snapshot.first_sent_at);
        let acking = now.since(snapshot.delivered_at);
        let took = sending.max(acking).as_micros();
        let bytes = u64::from(self.delivered.wrapping_sub(snapshot.delivered));
        // Over less than a round trip it says nothing (the draft, 4.1.2).
        if took > 0 && self.min_rtt.is_some_and(|least| took >= least.as_micros()) {
            let rate = bytes * 1_000_000 / took;
            let max = &mut self.bw_filter[self.round as usize % BW_FILTER_LEN];
            if !snapshot.app_limited || rate > *max {
                *max = (*max).max(rate);
            }
            if !snapshot.app_limited {
                self.saw_full_rate = true;
            }
        }
        self.change_phase(now, pipe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_segments_there_are_can_be_paced() {
        let (sent, came) = (Instant::from_millis(1), Instant::from_millis(11));
        let len = u16::MAX;
        let mut bbr = Bbr::new(len.into());
        let snapshot = Some(bbr.on_sent(sent, len, 0));
        bbr.on_acked(came, len);
        bbr.on_sample(came, &Sample { sent_at: sent, rtt: came.since(sent), snapshot }, 0);
        assert!(bbr.pacing_rate().is_some(), "something is known");
        let mut now = came;
        for _ in 0..10 {
            while let Some(at) = bbr.release_at(now, false) {
                assert!(at > now);
                now = at;
            }
            bbr.on_sent(now, len, len.into());
        }
        assert!(now > came, "not all at once");
    }

    const MSS: u32 = 1_000;
    const LEAST: Duration = Duration::from_millis(40);

    /// A flow that knows its path's least round trip, and little of its rate.
    fn thin() -> Bbr {
        let mut bbr = Bbr::new(MSS);
        (bbr.min_rtt, bbr.bw_filter[0]) = (Some(LEAST), 1_000);
        bbr
    }

    #[test]
    fn four_segments_may_always_be_under_way() {
        let mut bbr = thin();
        let probes =
            [Phase::ProbeBw { step: 2, since: Instant::ZERO }, Phase::ProbeRtt { until: Instant::ZERO }, Phase::Drain];
        for phase in probes {
            bbr.phase = phase;
            assert!(bbr.admits(4 * MSS - 1) && !bbr.admits(4 * MSS), "{phase:?}");
        }
    }

    #[test]
    fn loss_without_a_queue_is_made_up_for_as_far_as_the_probes_do_not() {
        let compensation = |lost, acked, rtt| {
            let mut bbr = thin();
            (bbr.lost_in_round, bbr.acked_in_round) = (lost, acked);
            bbr.end_round(rtt);
            bbr.compensation
        };
        assert_eq!(compensation(12, 88, LEAST), 12 - HARMLESS_LOSS);
        assert_eq!(compensation(5, 95, LEAST), 0);
        assert_eq!(compensation(90, 10, LEAST), MAX_COMPENSATION);
        assert_eq!(compensation(12, 88, LEAST + Duration::from_millis(5)), 0, "there is a queue");
    }

    #[test]
    fn the_start_is_over_when_each_of_enough_round_trips_has_a_queue() {
        // A sixteenth of the round trip and a millisecond is one, if something urgent shares the path.
        let is_over = |queue, samples, urgent| {
            let (mut bbr, now) = (thin(), Instant::from_millis(1));
            if urgent {
                bbr.urgent.on_sent(now);
            }
            let rtt = LEAST + Duration::from_millis(queue);
            (bbr.round_rtt, bbr.round_samples, bbr.saw_full_rate) = (rtt, samples, true);
            bbr.end_round(rtt);
            bbr.is_pipe_full()
        };
        assert!(is_over(6, ENOUGH_SAMPLES, false));
        assert!(!is_over(5, ENOUGH_SAMPLES, false), "an eighth of the round trip may be jitter");
        assert!(!is_over(6, ENOUGH_SAMPLES - 1, false));
        assert!(is_over(4, 1, true) && !is_over(3, 1, true));
    }
}
