//! Adaptive redundancy for thin flows, which leave the link mostly idle: a loss costs milliseconds, not a round trip.
//!
//! Between peers that both know PARITY, parity over the last segments is sent (see `repair`): for a burst of several
//! segments, at once at its end; for a single-segment message, a few milliseconds later, when the two are less likely
//! to be lost together. To any other peer a single segment is sent once more instead, which is a duplicate to it.
//! Either is coalesced with newer segments if there are any by then.
//!
//! The amount follows from the measured loss rate; without loss it is none.

use super::config::Config;
use super::segment::{HEADER, Header};
use super::sender::Sender;
use super::stats::Stats;
use crate::store::{Queue, Store};
use crate::time::{Duration, Instant};

/// The loss rate: a moving average, over the last few hundred segments, of those whose first transmission got lost; in
/// 65536ths.
///
/// Where each segment has an acknowledgement of its own, lost acknowledgements count as well.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loss {
    rate: u32,
    samples: u16,
}

/// Without the feature nothing is repaired, and the compiler leaves out what would.
const BUILT: bool = cfg!(feature = "redundancy");

/// All of [`Loss::rate`].
const WHOLE: u32 = 1 << 16;

impl Loss {
    /// Samples that count: long enough that one loss in a thousand is still remembered.
    const SPAN: u16 = 256;

    pub(super) fn sample(&mut self, lost: bool) {
        if !BUILT {
            return;
        }
        self.samples = (self.samples + 1).min(Self::SPAN);
        // The first few weigh more, or the estimate would take seconds to rise.
        let weight = i64::from((self.samples + 32).min(Self::SPAN));
        let target = if lost { WHOLE } else { 0 };
        let change = (i64::from(target) - i64::from(self.rate)) / weight;
        self.rate = (i64::from(self.rate) + change) as u32;
    }
}

/// A burst: new segments sent since there was nothing left to send.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Burst {
    pub(super) segments: usize,
    pub(super) bytes: usize,
}

/// What is to be sent besides the segments themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Redundancy {
    /// When the next parity is due, and how many are owed.
    parity_due: Option<Instant>,
    parities: u8,
    /// When the next copy is due. The segments know how many they get.
    copy_due: Option<Instant>,
    /// Between a segment and its repair, and between two repairs.
    gap: Duration,
    /// The fractional part of the repair budget that earlier bursts left, in 256ths.
    carry: u32,
    /// When the last burst ended.
    planned_at: Instant,
}

/// Below this loss rate no repair is sent: 0.15 %.
const CLEAN: u32 = WHOLE * 15 / 10_000;
/// From this loss rate on retransmissions are doubled: 2 %.
const HEAVY: u32 = WHOLE * 2 / 100;
/// Between a single-segment message and its repair.
const MAX_GAP: Duration = Duration::from_millis(4);
const MIN_GAP: Duration = Duration::from_millis(2);
/// Maximum flight of a thin flow, in segments. Others have enough later segments to detect losses by, and fill the
/// link.
const THIN: usize = 512;
/// Minimum repairs for a single-segment message, in 256ths.
const LEAST_LONE: u32 = 180;
/// Maximum parity per segment of a burst, in 256ths.
const MOST_EACH: u32 = 100;
/// How long after a message its repair is still of use.
const TOGETHER: Duration = Duration::from_millis(16);

impl Redundancy {
    pub(super) fn due(&self) -> Option<Instant> {
        if !BUILT {
            return None;
        }
        Instant::earlier(self.parity_due, self.copy_due)
    }

    /// The repair budget of a burst of `segments`, in 256ths. `company` bursts are sent while the repair of one is
    /// still of use, and share it.
    fn want(loss: u32, segments: usize, company: u32) -> u32 {
        if loss < CLEAN {
            return 0;
        }
        let company = company.max(1);
        // The expected losses among the segments repaired together, and 4.25 standard deviations of that.
        let mean = loss.saturating_mul(segments as u32 * company);
        let want = ((mean >> 8) + mean.isqrt() * 17 / 4) / company;
        if segments == 1 { want.max(LEAST_LONE / company) } else { want.min(segments as u32 * MOST_EACH) }
    }
}

impl<S: Store> Sender<S> {
    /// All that was queued has been sent: the burst has ended. `parity` says that the peer can use some.
    pub(super) fn end_burst(&mut self, now: Instant, config: &Config, parity: bool) {
        let burst = core::mem::take(&mut self.burst);
        self.congestion.on_limited(self.pipe);
        if burst.segments == 0 {
            return;
        }
        self.recovery.last_burst = burst.segments;
        self.plan_repair(now, config, burst, parity);
    }

    /// Decides what `burst`, which has just been sent, gets for its repair.
    fn plan_repair(&mut self, now: Instant, config: &Config, burst: Burst, parity: bool) {
        if !BUILT {
            return;
        }
        let interval = now.since(core::mem::replace(&mut self.redundancy.planned_at, now));
        let lone = burst.bytes <= self.mss(config);
        if !self.repairs(config) || !(lone || parity) {
            return;
        }
        let company = if lone { (TOGETHER.as_micros() / interval.as_micros().max(1)).clamp(1, 8) as u32 } else { 1 };
        let mut want = Redundancy::want(self.loss.rate, burst.segments, company);
        if lone {
            want = want.min(256) * u32::from(config.redundancy) / 100;
        }
        let sum = self.redundancy.carry + want;
        let count = (sum / 256) as u8;
        let gap = if lone { self.gap() } else { Duration::ZERO };
        let redundancy = &mut self.redundancy;
        redundancy.carry = sum % 256;
        redundancy.gap = gap;
        let due = match if parity { redundancy.parity_due } else { redundancy.copy_due } {
            Some(at) => Some(at.min(now + gap)),
            None => (count > 0).then_some(now + gap),
        };
        if parity {
            let most = if lone { MOST_PARITIES_OWED } else { u8::MAX };
            redundancy.parities = redundancy.parities.saturating_add(count).min(most);
            redundancy.parity_due = due;
        } else {
            redundancy.copy_due = due;
        }
        // Nobody should miss these segments before their repairs had their chance.
        let patience = gap.saturating_mul(u32::from(count.max(1))).as_micros() as u16;
        for index in self.sent.len().saturating_sub(burst.segments)..self.sent.len() {
            if let Some(segment) = self.sent.get_mut(index) {
                segment.patience = patience;
                segment.covered = true;
                segment.copies = if parity { 0 } else { count };
            }
        }
    }

    /// Segment `index` has been sent again. Where much is lost it goes once more.
    pub(super) fn plan_copy(&mut self, now: Instant, config: &Config, index: usize) {
        if !BUILT || self.loss.rate < HEAVY || !self.repairs(config) {
            return;
        }
        let gap = self.gap();
        self.redundancy.gap = self.redundancy.gap.max(gap);
        self.redundancy.copy_due = Some(self.redundancy.copy_due.map_or(now + gap, |at| at.min(now + gap)));
        if let Some(segment) = self.sent.get_mut(index) {
            segment.patience = gap.as_micros() as u16;
            segment.copies = 1;
        }
    }

    /// True if this flow is one whose losses are repaired before they are known.
    fn repairs(&self, config: &Config) -> bool {
        config.redundancy > 0 && self.loss.rate >= CLEAN && self.sent.len() <= THIN
    }

    fn gap(&self) -> Duration {
        self.rtt.smoothed().unwrap_or(MAX_GAP).div(8).max(MIN_GAP).min(MAX_GAP)
    }

    /// True if a parity may go: it is due, or `rides` along with something new.
    #[cfg(feature = "fec")]
    pub(super) fn takes_parity(&self, now: Instant, rides: bool) -> bool {
        self.redundancy.parity_due.is_some_and(|due| due <= now || rides && !self.redundancy.gap.is_zero())
    }

    /// A parity was written, or it cannot be.
    #[cfg(feature = "fec")]
    pub(super) fn parity_done(&mut self, now: Instant, written: bool) {
        let redundancy = &mut self.redundancy;
        redundancy.parities = if written { redundancy.parities.saturating_sub(1) } else { 0 };
        redundancy.parity_due = (redundancy.parities > 0).then(|| now + redundancy.gap);
    }

    /// Writes a copy of a segment to the front of `out`, if one is due or `rides` along with something new.
    pub(super) fn write_copy(
        &mut self,
        now: Instant,
        header: Header,
        out: &mut [u8],
        rides: bool,
        stats: &mut Stats,
    ) -> Option<usize> {
        if !BUILT || !self.redundancy.copy_due.is_some_and(|due| due <= now || rides) {
            return None;
        }
        let room = out.len().checked_sub(HEADER)?;
        let index = (0..self.sent.len()).find(|index| {
            self.sent.get(*index).is_some_and(|segment| {
                let waits = segment.copies > 0 && !(segment.acked || segment.lost);
                waits && segment.sent_at < now && usize::from(segment.len) <= room
            })
        });
        if index.is_some() || !rides {
            self.redundancy.copy_due = index.map(|_| now + self.redundancy.gap);
        }
        let index = index?;
        self.sent.get_mut(index)?.copies -= 1;
        stats.repairs_sent += 1;
        // With the clock of this moment, so that its echo tells which copy arrived.
        self.put_segment(now, index, header, out, stats)
    }
}

/// Parities for lone segments do not pile up: one over all of them does as well.
const MOST_PARITIES_OWED: u8 = 2;
