//! Adaptive redundancy for thin flows, which leave the link mostly idle: a loss costs milliseconds, not a round trip.
//!
//! Between peers that both know REPAIR, repairs over the last segments are sent (see `repair`): for a burst of several
//! segments, at once at its end; for a single-segment message, a few milliseconds later, when the two are less likely
//! to be lost together. To any other peer a single segment is sent once more instead, which is a duplicate to it.
//! Either is coalesced with newer segments if there are any by then.
//!
//! The amount follows from the measured loss rate; without loss it is none. This file plans; the table of segments in
//! flight knows what is planned for each, and the sender writes.

use super::in_flight::InFlight;
use crate::kcp::env::Env;
use crate::kcp::rtt::Rtt;
use crate::kcp::timers::Timer;
use crate::store::Store;
use crate::time::{Duration, Instant};

/// The loss rate: a moving average, over the last few hundred segments, of those whose first transmission got lost; in
/// 65536ths.
///
/// Where each segment has an acknowledgement of its own, lost acknowledgements count as well.
#[derive(Clone, Copy, Debug, Default)]
struct LossRate {
    rate: u32,
    samples: u16,
}

/// All of [`LossRate::rate`].
const WHOLE: u32 = 1 << 16;

impl LossRate {
    /// Samples that count: long enough that one loss in a thousand is still remembered.
    const SPAN: u16 = 256;

    fn sample(&mut self, lost: bool) {
        self.samples = (self.samples + 1).min(Self::SPAN);
        // The first few weigh more, or the estimate would take seconds to rise.
        let weight = i64::from((self.samples + 32).min(Self::SPAN));
        let target = if lost { WHOLE } else { 0 };
        let change = (i64::from(target) - i64::from(self.rate)) / weight;
        self.rate = (i64::from(self.rate) + change) as u32;
    }
}

/// What is to be sent besides the segments themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Redundancy {
    loss: LossRate,
    /// Repairs owed. Of their copies, the segments know how many they get.
    repairs: u8,
    /// Between a segment and its repair, and between two repairs.
    gap: Duration,
    /// The fractional part of the repair budget that earlier bursts left, in 256ths.
    carry: u8,
    /// Bytes of the current burst, and of its longest segment.
    burst: usize,
    longest: u16,
    /// When the last burst ended.
    planned_at: Instant,
}

/// Below this loss rate no repair is sent: 0.15 %.
const CLEAN: u32 = WHOLE * 15 / 10_000;
/// Samples that it takes to call a path clean.
const CONVINCING: u16 = 64;
/// From this loss rate on retransmissions are doubled: 2 %.
const HEAVY: u32 = WHOLE * 2 / 100;
/// Between a single-segment message and its repair.
const MAX_GAP: Duration = Duration::from_millis(4);
const MIN_GAP: Duration = Duration::from_millis(2);
/// Maximum flight of a thin flow, in segments. Others have enough later segments to detect losses by, and fill the
/// link.
const THIN: usize = 512;
/// Minimum repairs for a single-segment message, in 256ths.
const MIN_SINGLE: u32 = 180;
/// Maximum repairs per segment of a burst, in 256ths.
const MAX_PER_SEGMENT: u32 = 98;
/// How long after a message its repair is still of use.
const SHARED_WITHIN: Duration = Duration::from_millis(16);
/// Repairs for single-segment messages do not pile up: one over all of them does as well.
const MAX_OWED: u8 = 2;

impl Redundancy {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A segment was acknowledged, of which the first transmission was lost or not.
    pub(super) fn sample(&mut self, lost: bool) {
        self.loss.sample(lost);
    }

    /// True if for long hardly anything got lost.
    pub(super) fn is_clean(&self) -> bool {
        self.loss.rate < CLEAN && self.loss.samples >= CONVINCING
    }

    /// A segment of `len` bytes is sent for the first time.
    pub(super) fn on_new(&mut self, len: usize) {
        self.burst += len;
        self.longest = self.longest.max(len as u16);
    }

    /// Decides what the burst of `segments` that ends here gets, if there is `room`: repairs, or copies.
    pub(super) fn plan<S: Store>(
        &mut self,
        env: &mut Env,
        flight: &mut InFlight<S>,
        rtt: &Rtt,
        segments: usize,
        room: bool,
    ) {
        let repairs = env.can_repair(core::mem::take(&mut self.longest).into());
        let single = core::mem::take(&mut self.burst) <= env.mss();
        let interval = env.now.since(core::mem::replace(&mut self.planned_at, env.now));
        if !(room && self.is_worth_it(env, flight) && (single || repairs)) {
            return;
        }
        let sharing =
            if single { (SHARED_WITHIN.as_micros() / interval.as_micros().max(1)).clamp(1, 8) as u32 } else { 1 };
        let mut budget = budget(self.loss.rate, segments, sharing);
        if single {
            budget = budget.min(256) * u32::from(env.config.redundancy) / 100;
        }
        let sum = u32::from(self.carry) + budget;
        let count = (sum / 256) as u8;
        self.carry = (sum % 256) as u8;
        self.gap = if single { gap(rtt) } else { Duration::ZERO };
        let timer = if repairs { Timer::Repair } else { Timer::Copy };
        if count > 0 || env.timers.get(timer).is_some() {
            env.timers.hasten(timer, env.now + self.gap);
        }
        if repairs {
            self.repairs = self.repairs.saturating_add(count).min(if single { MAX_OWED } else { u8::MAX });
        }
        // Nobody should miss these segments before their repairs had their chance.
        let delay = self.gap.saturating_mul(u32::from(count.max(1)));
        flight.cover_last(segments, delay, if repairs { 0 } else { count });
    }

    /// Segment `index` has been retransmitted. At a high loss rate it goes once more.
    pub(super) fn on_resent<S: Store>(&mut self, env: &mut Env, flight: &mut InFlight<S>, rtt: &Rtt, index: usize) {
        if self.loss.rate < HEAVY || !self.is_worth_it(env, flight) {
            return;
        }
        let gap = gap(rtt);
        self.gap = self.gap.max(gap);
        env.timers.hasten(Timer::Copy, env.now + gap);
        flight.double(index, gap);
    }

    /// True if the losses of this flow are repaired before they are known.
    fn is_worth_it<S: Store>(&self, env: &Env, flight: &InFlight<S>) -> bool {
        env.config.redundancy > 0 && self.loss.rate >= CLEAN && flight.len() <= THIN
    }

    /// True if a repair may go: it is due, or `rides` along with something new.
    pub(super) fn is_repair_due(&self, env: &Env, rides: bool) -> bool {
        env.timers.get(Timer::Repair).is_some_and(|due| due <= env.now || rides && !self.gap.is_zero())
    }

    /// A repair was written, or it cannot be.
    pub(super) fn on_repair(&mut self, env: &mut Env, written: bool) {
        self.repairs = if written { self.repairs.saturating_sub(1) } else { 0 };
        if self.repairs > 0 {
            env.timers.start(Timer::Repair, env.now + self.gap);
        } else {
            env.timers.stop(Timer::Repair);
        }
    }

    /// The segment of at most `room` bytes that is to be copied now, if one is due or `rides` along with something new.
    pub(super) fn take_copy<S: Store>(
        &mut self,
        env: &mut Env,
        flight: &mut InFlight<S>,
        room: usize,
        rides: bool,
    ) -> Option<usize> {
        if !env.timers.get(Timer::Copy).is_some_and(|due| due <= env.now || rides) {
            return None;
        }
        let index = flight.take_copy(env.now, room);
        if index.is_some() {
            env.timers.start(Timer::Copy, env.now + self.gap);
        } else if !rides {
            env.timers.stop(Timer::Copy);
        }
        index
    }
}

/// The repair budget of a burst of `segments`, in 256ths. So many bursts are sent while the repair of one is still of
/// use, and are `sharing` it.
fn budget(loss: u32, segments: usize, sharing: u32) -> u32 {
    if loss < CLEAN {
        return 0;
    }
    let sharing = sharing.max(1);
    // The expected losses among the segments repaired together, and 4.25 standard deviations of that.
    let mean = loss.saturating_mul(segments as u32 * sharing);
    let budget = ((mean >> 8) + mean.isqrt() * 17 / 4) / sharing;
    if segments == 1 { budget.max(MIN_SINGLE / sharing) } else { budget.min(segments as u32 * MAX_PER_SEGMENT) }
}

fn gap(rtt: &Rtt) -> Duration {
    rtt.smoothed().unwrap_or(MAX_GAP).div(8).max(MIN_GAP).min(MAX_GAP)
}
