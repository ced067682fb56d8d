//! Loss detection: which of the segments in flight are lost. There are three loss signals; to the other side each is
//! ordinary KCP:
//!
//! * **Time** (RACK, RFC 8985, over KCP's acknowledgement of each segment and its echoed clock): once a segment that
//!   was sent later has arrived, an earlier one is lost when a round trip and the *reordering window* have passed since
//!   it was sent: the time by which segments are known to overtake each other on this path.
//! * **Count** (KCP's `resend`, TCP's duplicate ACKs): enough datagrams have acknowledged later segments. Only while no
//!   reordering was seen.
//! * **The retransmission timer**: nothing was heard of a segment for the RTO. A timer that expires for many segments
//!   at once says more about the link than about them: only the first few are retransmitted, and when these are
//!   acknowledged, time tells what became of the others. So the timer is the tail loss probe (PTO) as well.
//!
//! In an outage, the oldest segments are retransmitted every half round trip ([`Config::outage_probes`]).
//!
//! A spurious retransmission (the first transmission is acknowledged after all) widens the reordering window, and
//! congestion control undoes its reaction.

use super::config::Config;
use super::congestion::Snapshot;
use super::sender::{Sender, now_ts};
use super::seq::{Sn, Ts};
use super::stats::Stats;
use crate::store::{Queue, Store};
use crate::time::{Duration, Instant};

/// The state of loss detection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery {
    /// RACK's newest delivery: of the segments that have arrived, the one sent last.
    newest: Option<Delivered>,
    /// RACK's reordering timer: when the first overtaken segment counts as lost.
    check_at: Option<Instant>,
    /// Reordering was seen.
    reordered: bool,
    /// The greatest reordering seen lately: how late an overtaken segment came.
    reorder: Duration,
    /// When the next probe of an outage is due: the oldest segments, retransmitted.
    probe_at: Option<Instant>,
    /// When something was last acknowledged, or the first segment of the flight was sent.
    heard_at: Instant,
    /// Segments of the last burst that ended.
    pub(super) last_burst: usize,
}

/// A delivery sample: a segment that has arrived, as far as its acknowledgement tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    /// When that copy of it was sent.
    sent_at: Instant,
    sn: Sn,
    /// Its round trip.
    rtt: Duration,
    /// The state of congestion control when it was sent, if it was the last copy.
    snapshot: Option<Snapshot>,
}

impl Delivered {
    /// The one that was sent later.
    pub(super) fn later(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if (other.sent_at, other.sn.distance(self.sn)) > (self.sent_at, 0) => other,
            _ => self,
        }
    }

    pub(super) fn rtt(&self) -> Duration {
        self.rtt
    }

    pub(super) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    /// True if it is known to the microsecond which copy has arrived.
    pub(super) fn is_exact(&self) -> bool {
        self.snapshot.is_some()
    }
}

/// Maximum segments retransmitted when the timer expires.
const TIMER_BURST: usize = 2;
/// Maximum segments retransmitted by one probe of an outage.
const PROBE_BURST: usize = 8;
/// Minimum of the reordering window.
const MIN_PATIENCE: Duration = Duration::from_millis(1);
/// Minimum time between two probes of an outage.
const MIN_PROBE_WAIT: Duration = Duration::from_millis(10);

impl Recovery {
    pub(super) const fn new() -> Self {
        Self {
            newest: None,
            check_at: None,
            reordered: false,
            reorder: Duration::ZERO,
            probe_at: None,
            heard_at: Instant::ZERO,
            last_burst: 0,
        }
    }

    /// The first segment of a flight was sent.
    pub(super) fn begin(&mut self, now: Instant) {
        self.heard_at = now;
        self.probe_at = None;
    }

    /// Something was acknowledged that was not before.
    pub(super) fn on_progress(&mut self, now: Instant) {
        self.heard_at = now;
        self.probe_at = None;
    }

    /// Nothing is in flight.
    pub(super) fn on_empty(&mut self) {
        self.check_at = None;
        self.probe_at = None;
    }

    pub(super) fn next_check(&self) -> Option<Instant> {
        Instant::earlier(self.check_at, self.probe_at)
    }

    /// The reordering window (RACK's reo_wnd): how much later than one sent after it a segment may come.
    fn patience(&self, smoothed: Duration) -> Duration {
        let seen = if self.reordered { self.reorder + self.reorder.div(4) } else { smoothed.div(16) };
        seen.max(MIN_PATIENCE).min(smoothed.max(MIN_PATIENCE))
    }

    /// Reordering: an overtaken segment came after all, `late` after it was first missed.
    fn saw_reordering(&mut self, late: Duration) {
        self.reordered = true;
        self.reorder = self.reorder.max(late);
    }
}

impl<S: Store> Sender<S> {
    /// Segment `sn` has arrived; `ts` is the echo of when that copy was sent. `None` if that says nothing new.
    pub(super) fn on_ack(&mut self, now: Instant, sn: Sn, ts: Ts, stats: &mut Stats) -> Option<Delivered> {
        let mut age = now_ts(now).millis_since(ts);
        if age.unsigned_abs() > i32::MAX as u32 / 2 {
            // What a parity rebuilt is acknowledged with the parity's clock.
            age = age.wrapping_add(i32::MIN);
        }
        let by_echo = u64::try_from(age).ok().map(Duration::from_millis);
        let by_echo = by_echo.map(|rtt| Delivered { sent_at: now - rtt, sn, rtt, snapshot: None });
        let index = usize::try_from(sn.distance(self.una)).ok();
        let Some(segment) = index.and_then(|index| self.sent.get_mut(index)) else {
            // Covered by `una` before: the echo alone must do. A number never sent is no sample (docs/original.md 3.5).
            let known = (1..=i32::from(self.acknowledged)).contains(&self.una.distance(sn));
            return by_echo.filter(|_| known);
        };
        let is_news = !core::mem::replace(&mut segment.acked, true);
        if is_news {
            self.congestion.on_acked(now, segment.len);
            if core::mem::take(&mut segment.lost) {
                self.lost -= 1;
            } else {
                self.pipe = self.pipe.saturating_sub(u32::from(segment.len));
            }
            self.recovery.on_progress(now);
            self.loss.sample(ts != segment.first_ts);
            if segment.overtaken > 0 && ts == segment.first_ts {
                let late = now.since(segment.overtaken_at);
                self.recovery.saw_reordering(late);
            }
            self.recovery.reorder = self.recovery.reorder - self.recovery.reorder.div(256);
            if segment.resent && ts == segment.first_ts && ts != segment.ts {
                stats.spurious += 1;
                self.congestion.on_spurious();
            }
        }
        if segment.ts == ts {
            // To the microsecond.
            let rtt = now.since(segment.sent_at);
            return Some(Delivered { sent_at: segment.sent_at, sn, rtt, snapshot: Some(segment.snapshot) });
        }
        by_echo
    }

    /// A datagram acknowledged `delivered`: what was sent before and is still missing has been overtaken.
    pub(super) fn on_delivered(&mut self, now: Instant, config: &Config, delivered: Delivered, stats: &mut Stats) {
        let least = self.rtt.least().unwrap_or(Duration::ZERO);
        self.rhythm.on_acknowledged(now, !self.sent.is_empty(), least);
        self.congestion.set_tick(self.rhythm.tick());
        if let Some(snapshot) = delivered.snapshot {
            self.congestion.on_sample(now, delivered.sent_at, delivered.rtt, snapshot, self.pipe);
        }
        let newest = delivered.later(self.recovery.newest);
        self.recovery.newest = Some(newest);
        self.find_overtaken(now, config, newest, 1, stats);
    }

    /// Looks for segments that were sent before `newest`; `count` datagrams more than before have told that it arrived.
    fn find_overtaken(&mut self, now: Instant, config: &Config, newest: Delivered, count: u8, stats: &mut Stats) {
        self.recovery.check_at = None;
        // With nothing more to send there will be no further acknowledgements to count (docs/original.md 3.4, rule c).
        let enough = if self.unsent() == 0 { 1 } else { config.fast_resend };
        let by_count = enough > 0 && !self.recovery.reordered;
        let patience = self.recovery.patience(self.rtt.smoothed().unwrap_or(newest.rtt));
        let mut found = false;
        for index in 0..self.sent.len() {
            let sn = self.una.plus(index as u32);
            let Some(segment) = self.sent.get_mut(index) else { break };
            let later = segment.sent_at > newest.sent_at || segment.sent_at == newest.sent_at && !sn.before(newest.sn);
            if later && !segment.resent {
                break; // and so were all behind it
            }
            if later || segment.acked || segment.lost {
                continue;
            }
            if segment.overtaken == 0 {
                segment.overtaken_at = now;
            }
            segment.overtaken = segment.overtaken.saturating_add(count);
            let due = segment.awaited_from() + newest.rtt + patience;
            if now >= due || by_count && !segment.covered && segment.overtaken >= enough {
                segment.lost = true;
                segment.timed_out = false;
                stats.lost_fast += 1;
                found = true;
                self.mark(index);
            } else {
                self.recovery.check_at = Instant::earlier(self.recovery.check_at, Some(due));
            }
        }
        if found {
            self.congestion.on_fast_loss(self.sent.len() as u32, config.fast_resend);
        }
    }

    /// The reordering timer: marks the overtaken segments whose reordering window is over as lost.
    pub(super) fn on_time(&mut self, now: Instant, config: &Config, stats: &mut Stats) {
        if let Some(newest) = self.recovery.newest
            && self.recovery.check_at.is_some_and(|at| at <= now)
        {
            self.find_overtaken(now, config, newest, 0, stats);
        }
        if self.next_timeout.is_some_and(|at| at <= now) {
            self.on_timer(now, config, stats);
        }
        if self.recovery.probe_at.is_some_and(|at| at <= now) {
            self.probe_outage(now, config, stats);
        }
    }

    /// The retransmission timer: marks the segments whose RTO has expired as lost.
    fn on_timer(&mut self, now: Instant, config: &Config, stats: &mut Stats) {
        // It is most likely there, and its acknowledgement lost: the next one will tell.
        let more = self.rtt.smoothed().unwrap_or(Duration::ZERO).div(2);
        let silent_from = self.recovery.heard_at + more;
        if now < silent_from && !config.outage_probes.is_zero() {
            // While acknowledgements come, time tells.
            self.next_timeout = Some(silent_from);
            return;
        }
        self.next_timeout = None;
        let step = if config.gentle_backoff { self.rtt.rto().div(2) } else { self.rtt.rto() };
        let most = if config.outage_probes.is_zero() { usize::MAX } else { TIMER_BURST };
        let quiet_until = now + step.max(MIN_PROBE_WAIT);
        let mut found = 0;
        for index in 0..self.sent.len() {
            let Some(segment) = self.sent.get_mut(index) else { break };
            if segment.acked || segment.lost {
                continue;
            }
            let mut at = segment.awaited_from() + Duration::from_micros(u64::from(segment.rto));
            if segment.covered {
                at += more;
            }
            if at <= now {
                if found < most {
                    let rto = (Duration::from_micros(u64::from(segment.rto)) + step).min(Config::MAX_RTO);
                    segment.rto = rto.as_micros() as u32;
                    segment.lost = true;
                    segment.timed_out = true;
                    stats.lost_timeout += 1;
                    found += 1;
                    self.mark(index);
                    continue;
                }
                at = quiet_until;
            }
            self.next_timeout = Instant::earlier(self.next_timeout, Some(at));
        }
        if found > 0 {
            if self.rhythm.collects() {
                // The peer may just be late: the others, sent a little later, would follow one by one.
                self.next_timeout = self.next_timeout.map(|at| at.max(quiet_until));
            }
            self.congestion.on_timeout();
            if !config.outage_probes.is_zero() && self.recovery.probe_at.is_none() {
                self.recovery.probe_at = Some(now + self.probe_wait(config));
            }
        }
    }

    /// An outage: no acknowledgement for longer than an RTO. The oldest segments probe whether the link is back.
    fn probe_outage(&mut self, now: Instant, config: &Config, stats: &mut Stats) {
        self.recovery.probe_at = None;
        if now.since(self.recovery.heard_at) > config.outage_probes {
            return; // the timers, which have backed off, go on
        }
        self.recovery.probe_at = Some(now + self.probe_wait(config));
        // As much as makes a message.
        let mut left = self.recovery.last_burst.max(self.burst.segments).clamp(1, PROBE_BURST);
        for index in 0..self.sent.len() {
            let Some(segment) = self.sent.get_mut(index).filter(|_| left > 0) else { break };
            if segment.acked {
                continue;
            }
            left -= 1;
            if !segment.lost {
                segment.lost = true;
                segment.timed_out = true;
                stats.lost_timeout += 1;
                self.mark(index);
            }
        }
    }

    fn probe_wait(&self, config: &Config) -> Duration {
        self.rtt.smoothed().unwrap_or_else(|| self.rtt.rto()).div(2).max(MIN_PROBE_WAIT).max(config.min_rto)
    }

    /// Marks entry `index` as lost.
    fn mark(&mut self, index: usize) {
        let sn = self.una.plus(index as u32);
        if self.lost == 0 || sn.before(self.first_lost) {
            self.first_lost = sn;
        }
        self.lost += 1;
        let len = self.sent.get(index).map_or(0, |segment| segment.len);
        self.pipe = self.pipe.saturating_sub(u32::from(len));
        self.congestion.on_lost(len);
    }
}
