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
//!
//! The verdicts are passed on the table of segments in flight; what follows from them for the congestion control is the
//! sender's.

use super::in_flight::{Arrival, Delivered, InFlight, Lost};
use crate::kcp::config::Config;
use crate::kcp::env::Env;
use crate::kcp::rtt::Rtt;
use crate::kcp::timers::Timer;
use crate::store::Store;
use crate::time::{Duration, Instant};

/// Maximum segments retransmitted when the timer expires.
const RTO_BURST: usize = 2;
/// Maximum segments retransmitted by one probe of an outage.
const OUTAGE_PROBE_BURST: usize = 8;
/// Minimum of the reordering window.
const MIN_REORDERING_WINDOW: Duration = Duration::from_millis(1);
/// Minimum time between two probes of an outage.
const MIN_OUTAGE_PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// The state of loss detection.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossDetection {
    /// RACK's newest delivery: of the segments that have arrived, the one sent last.
    newest: Option<Delivered>,
    /// Reordering was seen.
    reordered: bool,
    /// The greatest reordering seen lately: how late an overtaken segment came.
    reordering: Duration,
    /// When something was last acknowledged, or the first segment of the flight was sent.
    heard_at: Instant,
}

impl LossDetection {
    pub(super) const fn new() -> Self {
        Self { newest: None, reordered: false, reordering: Duration::ZERO, heard_at: Instant::ZERO }
    }

    /// The first segment of a flight was sent, or something was acknowledged that was not before.
    pub(super) fn on_progress(&mut self, env: &mut Env) {
        self.heard_at = env.now;
        env.timers.stop(Timer::OutageProbe);
    }

    /// A segment was sent whose timer is to run out after `rto`. In an outage it waits for those that wait already.
    pub(super) fn on_sent(&self, env: &mut Env, rto: Duration) {
        let silent = !env.config.outage_probes.is_zero() && env.now.since(self.heard_at) > rto;
        if !(silent && env.timers.get(Timer::Rto).is_some()) {
            env.timers.hasten(Timer::Rto, env.now + rto);
        }
    }

    /// Nothing is in flight.
    pub(super) fn on_empty(&mut self, env: &mut Env) {
        for timer in [Timer::Rto, Timer::Reordering, Timer::OutageProbe] {
            env.timers.stop(timer);
        }
    }

    /// A segment has arrived.
    pub(super) fn on_arrival(&mut self, arrival: &Arrival) {
        if let Some(late) = arrival.late {
            self.reordered = true;
            self.reordering = self.reordering.max(late);
        }
        self.reordering = self.reordering - self.reordering.div(256);
        // What was seen long ago says nothing of the path as it is.
        self.reordered &= self.reordering >= MIN_REORDERING_WINDOW;
    }

    /// A datagram acknowledged `delivered`: what was sent before it and is missing has been overtaken. `tail`: there is
    /// nothing more to send.
    pub(super) fn on_delivered<S: Store>(
        &mut self,
        env: &mut Env,
        flight: &mut InFlight<S>,
        rtt: &Rtt,
        delivered: Delivered,
        tail: bool,
    ) -> Lost {
        let newest = delivered.later(self.newest);
        self.newest = Some(newest);
        self.find_overtaken(env, flight, rtt, &newest, Count { more: 1, tail })
    }

    /// The reordering timer.
    pub(super) fn on_reordering_timer<S: Store>(
        &mut self,
        env: &mut Env,
        flight: &mut InFlight<S>,
        rtt: &Rtt,
        tail: bool,
    ) -> Lost {
        match self.newest {
            Some(newest) if env.timers.is_due(Timer::Reordering, env.now) => {
                self.find_overtaken(env, flight, rtt, &newest, Count { more: 0, tail })
            }
            _ => Lost::default(),
        }
    }

    fn find_overtaken<S: Store>(
        &self,
        env: &mut Env,
        flight: &mut InFlight<S>,
        rtt: &Rtt,
        newest: &Delivered,
        count: Count,
    ) -> Lost {
        let Env { now, config, timers, .. } = env;
        timers.stop(Timer::Reordering);
        // With nothing more to send there will be no further acknowledgements to count (docs/original.md 3.4, rule c).
        let enough = if count.tail { 1 } else { config.fast_resend };
        let by_count = enough > 0 && !self.reordered;
        let wait = newest.sample.rtt + self.reordering_window(rtt.smoothed().unwrap_or(newest.sample.rtt));
        let lost = flight.overtaken_by(*now, newest, count.more, |segment| {
            let due = segment.repaired_at() + wait;
            let lost = *now >= due || by_count && !segment.is_covered() && segment.overtaken() >= enough;
            if !lost {
                timers.hasten(Timer::Reordering, due);
            }
            lost
        });
        env.stats.lost_fast += lost.segments as u64;
        lost
    }

    /// The reordering window (RACK's reo_wnd): how much later than one sent after it a segment may come.
    fn reordering_window(&self, smoothed: Duration) -> Duration {
        let seen = if self.reordered { self.reordering + self.reordering.div(4) } else { smoothed.div(16) };
        seen.max(MIN_REORDERING_WINDOW).min(smoothed.max(MIN_REORDERING_WINDOW))
    }

    /// The retransmission timer. `delays`: the peer delays acknowledgements.
    pub(super) fn on_rto<S: Store>(
        &mut self,
        env: &mut Env,
        flight: &mut InFlight<S>,
        rtt: &Rtt,
        delays: bool,
    ) -> Lost {
        let Env { now, config, timers, .. } = env;
        let (now, probes) = (*now, !config.outage_probes.is_zero());
        // It is most likely there, and its acknowledgement lost: the next one will tell.
        let more = rtt.smoothed().unwrap_or(Duration::ZERO).div(2);
        let silent_from = self.heard_at + more;
        if now < silent_from && probes {
            // While acknowledgements come, time tells.
            timers.start(Timer::Rto, silent_from);
            return Lost::default();
        }
        timers.stop(Timer::Rto);
        let step = if config.gentle_backoff { rtt.rto().div(2) } else { rtt.rto() };
        let silence = now.since(self.heard_at);
        let quiet_until = now + step.max(MIN_OUTAGE_PROBE_INTERVAL).max(silence.div(32));
        let mut left = if probes { RTO_BURST } else { usize::MAX };
        let lost = flight.timed_out(|segment| {
            let mut at = segment.repaired_at() + segment.rto();
            if segment.is_covered() {
                at += more;
            }
            if at <= now {
                if left > 0 {
                    left -= 1;
                    segment.set_rto((segment.rto() + step).min(Config::MAX_RTO));
                    return true;
                }
                at = quiet_until;
            }
            timers.hasten(Timer::Rto, at);
            false
        });
        env.stats.lost_timeout += lost.segments as u64;
        if lost.segments > 0 {
            if (delays || probes)
                && let Some(at) = env.timers.get(Timer::Rto)
            {
                // The peer may just be late, or be there no more: the others, sent a little later, would follow one by one.
                env.timers.start(Timer::Rto, at.max(quiet_until));
            }
            if probes && env.proved && env.timers.get(Timer::OutageProbe).is_none() {
                env.timers.start(Timer::OutageProbe, env.now + outage_probe_interval(env, rtt));
            }
        }
        lost
    }

    /// An outage: no acknowledgement for longer than an RTO. The oldest segments, as many as a `burst` had, probe whether
    /// the link is back.
    pub(super) fn on_outage_probe<S: Store>(
        &mut self,
        env: &mut Env,
        flight: &mut InFlight<S>,
        rtt: &Rtt,
        burst: usize,
    ) -> Lost {
        env.timers.stop(Timer::OutageProbe);
        if env.now.since(self.heard_at) > env.config.outage_probes {
            return Lost::default(); // the timers, which have backed off, go on
        }
        env.timers.start(Timer::OutageProbe, env.now + outage_probe_interval(env, rtt));
        // As much as makes a message.
        let lost = flight.lose_oldest(burst.clamp(1, OUTAGE_PROBE_BURST));
        env.stats.lost_timeout += lost.segments as u64;
        lost
    }
}

/// What is counted of the datagrams that acknowledge later segments.
#[derive(Clone, Copy)]
struct Count {
    /// Datagrams more than before.
    more: u8,
    /// There is nothing more to send.
    tail: bool,
}

fn outage_probe_interval(env: &Env, rtt: &Rtt) -> Duration {
    rtt.smoothed().unwrap_or_else(|| rtt.rto()).div(2).max(MIN_OUTAGE_PROBE_INTERVAL).max(env.peer.min_rto)
}
