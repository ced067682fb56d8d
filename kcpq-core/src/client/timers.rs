//! What a client waits for by itself. One table: from it is read when the client wants to be called again, and what has
//! run out when it is.

use super::Client;
use super::event::Disconnect;
use super::phase::Phase;
use crate::outbox::FrameStore;
use crate::time::{Deadline, Instant, Why};

/// What runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// The time for a client that was closed to find a connection.
    Close,
    /// The time for what the client is about: to connect, to wait before that, to close.
    Phase,
    /// The time in which a server that may have forgotten the session has to be heard.
    Suspect,
    /// The time without a word from the server.
    Silence,
    /// The time without an acknowledgement of what is under way.
    Stall,
    /// The time for an answer to PING.
    Answer,
    /// The time until the next PING.
    Heartbeat,
    /// The time without what has come regularly.
    Rhythm,
}

impl Timer {
    /// All, in the order in which they count if several have run out.
    const ALL: [Self; 8] = [
        Self::Close,
        Self::Phase,
        Self::Suspect,
        Self::Silence,
        Self::Stall,
        Self::Answer,
        Self::Heartbeat,
        Self::Rhythm,
    ];
}

impl<S: FrameStore> Client<S> {
    /// When a timer runs out, if it runs.
    fn runs_out(&self, timer: Timer) -> Option<Instant> {
        if timer == Timer::Close {
            return self.close_by;
        }
        let up = match &self.phase {
            Phase::Up(up) => up,
            Phase::Connecting { until, .. } | Phase::Waiting { until, .. } | Phase::Closing { until, .. } => {
                return (timer == Timer::Phase).then_some(*until);
            }
            Phase::Idle | Phase::Closed => return None,
        };
        let (since, span) = match timer {
            Timer::Close | Timer::Phase => return None,
            Timer::Suspect => return up.suspect,
            Timer::Heartbeat => return Some(up.heartbeat_at),
            Timer::Rhythm => return self.rhythm.look_at(),
            Timer::Silence => (up.silent_since, self.config.read_timeout),
            Timer::Stall => {
                let (stalled, span) = (self.session.kcp.stalled_since()?, self.config.stall_timeout);
                (up.silent_since.max(stalled).min(stalled + span.div(2)), span)
            }
            Timer::Answer => {
                let patience = self.session.kcp.rtt().rto().saturating_mul(3);
                (self.waits_for_answer()?, self.config.pong_timeout.max(patience))
            }
        };
        Some(since + span)
    }

    /// Since when a PING that is not answered may be because the session is gone.
    fn waits_for_answer(&self) -> Option<Instant> {
        let (ping, kcp) = (self.pings.heartbeat()?, &self.session.kcp);
        // The PONG may stand behind what nobody has read yet, or not have come through. A native server that lives says that it
        // does not know the session; an original one that was started again may say nothing at all.
        let may_come = self.current.is_some() || kcp.front().is_some() || !ping.acknowledged;
        (!may_come).then_some(ping.waits_since)
    }

    /// What a timer is for.
    fn why(&self, timer: Timer) -> Why {
        match (timer, &self.phase) {
            (Timer::Close, _) | (Timer::Phase, Phase::Closing { .. }) => Why::Linger,
            (Timer::Phase, _) => Why::Reconnect,
            (Timer::Heartbeat | Timer::Rhythm, _) => Why::Heartbeat,
            (Timer::Suspect | Timer::Silence | Timer::Stall | Timer::Answer, _) => Why::Idle,
        }
    }

    /// Lets timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.set_now(now);
        if self.suspended {
            return;
        }
        self.requests.on_time(self.now);
        self.confirms.on_time(self.now);
        let due = |timer: &Timer| self.runs_out(*timer).is_some_and(|at| at <= self.now);
        match Timer::ALL.into_iter().find(due) {
            None => {}
            Some(Timer::Close) => self.give_up(),
            Some(Timer::Phase) => match self.phase {
                Phase::Waiting { .. } => self.open(),
                Phase::Connecting { hinted: true, failed: 0, .. } => self.open_another(),
                // As long as something is acknowledged, it goes on.
                Phase::Closing { acked, .. } if acked != self.session.kcp.acked_offset() => {
                    self.linger(self.now + self.config.linger);
                }
                Phase::Closing { .. } => self.give_up(),
                _ => self.lose(Disconnect::NoAnswer),
            },
            Some(Timer::Suspect) => self.lose(Disconnect::Forgotten),
            Some(Timer::Silence) => self.lose(Disconnect::Silent),
            Some(Timer::Stall) => self.lose(Disconnect::Stalled),
            Some(Timer::Answer) => self.lose(Disconnect::Unanswered),
            Some(Timer::Heartbeat) => self.beat(),
            Some(Timer::Rhythm) if self.rhythm.on_time(self.now) => self.session.say(self.now),
            Some(Timer::Rhythm) => {}
        }
        self.advance();
    }

    /// When the client wants to be called again, and why; `None`: not before input.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.suspended {
            return None;
        }
        let mut next: Option<(Instant, Timer)> = None;
        for timer in Timer::ALL {
            if let Some(at) = self.runs_out(timer)
                && next.is_none_or(|(earliest, _)| at < earliest)
            {
                next = Some((at, timer));
            }
        }
        let mut next = next.map(|(at, timer)| Deadline { at, why: self.why(timer) });
        // One by one: of what is not built in nothing is left then.
        let mut add = |at: Option<Instant>, why| {
            if let Some(at) = at {
                next = Deadline::earlier(next, Some(Deadline { at, why }));
            }
        };
        add(self.requests.next_timeout(), Why::Request);
        add(self.confirms.next_timeout(), Why::Request);
        if !self.phase.is_open() {
            return next;
        }
        add(self.subscriptions.next_timeout().filter(|_| !self.is_held()), Why::SubscribeRetry);
        add(self.handshake.poll_timeout(), Why::Transmit);
        Deadline::earlier(next, self.session.poll_timeout())
    }
}
