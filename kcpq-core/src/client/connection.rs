//! The life of the connection: it begins, is watched, is lost and begins again; and what its state asks to be sent.

use super::event::Disconnect;
use super::subscriptions::Request;
use super::{Client, Ping, State};
use crate::datagram::{Framing, SAFE_DATAGRAM};
use crate::frame::{LENGTH, command};
use crate::hello::{self, CloseReason, Hello, MAX_HELLO, VERSION};
use crate::outbox::{FrameStore, Outbox};
use crate::rng::draw;
use crate::time::Instant;

impl<S: FrameStore> Client<S> {
    /// A conversation exists.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Connecting { .. } | State::Up { .. } | State::Closing { .. })
    }

    /// Begins a conversation.
    pub(super) fn open(&mut self) {
        let conv = draw(&mut self.rng);
        let in_doubt = self.session.reset(conv, self.config.framing);
        self.stats.dropped_in_doubt += in_doubt;
        self.session.set_framing(self.config.framing, self.inner(self.config.max_datagram.min(SAFE_DATAGRAM)));
        self.current = None;
        self.server = None;
        self.greet = true;
        self.said_close = false;
        self.last_words = false;
        self.pings = 0;
        self.pongs = 0;
        self.heartbeat = None;
        self.suspect = None;
        self.flush = None;
        self.state = State::Connecting { until: self.now + self.config.connect_timeout };
        self.advance();
    }

    /// The server has answered.
    pub(super) fn up(&mut self, native: bool) {
        if !matches!(self.state, State::Connecting { .. }) {
            return;
        }
        if !native {
            // As long as the original's own. Its server's socket holds less than a window, so that even within a machine
            // (docs/original.md 6.1) what it takes in has to be found out.
            self.session.set_original(self.config.framing, self.inner(self.config.max_datagram), false);
        }
        let again = self.stats.connected_at.is_some();
        self.state = State::Up { native };
        self.failed = 0;
        self.next_heartbeat = self.now + self.config.heartbeat;
        self.stats.connected = true;
        self.stats.connected_at = Some(self.now);
        self.stats.reconnects += u64::from(again);
        self.notices.connected = Some((native, again));
    }

    /// When the server was heard, or could have been for the first time.
    pub(super) fn heard(&self) -> Instant {
        self.session.kcp.last_heard().unwrap_or(self.now).max(self.resumed)
    }

    /// There is no connection any more.
    pub(super) fn lose(&mut self, why: Disconnect) {
        if self.stats.connected {
            self.stats.connected = false;
            self.stats.disconnected_at = Some(self.now);
        }
        if matches!(self.state, State::Closing { .. }) {
            return self.finish();
        }
        self.last_words = matches!(why, Disconnect::ByServer(_));
        self.stats.connection_errors += 1;
        self.failed = self.failed.saturating_add(u32::from(matches!(self.state, State::Connecting { .. })));
        self.subscriptions.on_disconnect();
        self.notices.connected = None;
        match self.config.reconnect {
            Some(backoff) => {
                // After sleep it is known why the session is gone: no crowd comes back with this client.
                let wait = backoff.wait(self.failed, &mut self.rng);
                let until = if core::mem::take(&mut self.waking) { self.now } else { self.now + wait };
                self.state = State::Waiting { until };
                self.notices.disconnected = Some((why, Some(until)));
            }
            None => {
                self.notices.disconnected = Some((why, None));
                self.finish();
            }
        }
    }

    /// The end.
    pub(super) fn finish(&mut self) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.stats.connected = false;
            self.stats.dropped_in_doubt += self.session.in_doubt();
            self.stats.dropped_overflow += self.session.outbox.frames() as u64;
            self.session.outbox.clear();
            self.notices.closed = true;
        }
    }

    /// Queues PING and returns its number.
    pub(super) fn ping(&mut self) -> Option<u32> {
        self.session.control(command::PING, &[], &[]).ok()?;
        self.pings = self.pings.wrapping_add(1);
        Some(self.pings)
    }

    /// Queues what the state of things asks for. What finds no room is asked for again by the next call.
    pub(super) fn advance(&mut self) {
        if !self.is_open() || self.suspended {
            return;
        }
        if self.greet {
            let mut payload = [0; MAX_HELLO];
            let len = self.hello().encode(&mut payload);
            if self.session.control(command::HELLO, &[], payload.get(..len).unwrap_or_default()).is_err() {
                return;
            }
            self.greet = false;
        }
        self.subscriptions.on_time(self.now, &self.config);
        if self.subscriptions.is_unanswered() {
            return self.lose(Disconnect::SubscribeUnanswered);
        }
        let session = &mut self.session;
        self.subscriptions.send_requests(self.now, &self.config, |request| {
            let (command, number, pattern, latest) = match request {
                Request::Subscribe { number, pattern, latest } => (command::SUB, number, pattern, latest),
                Request::Unsubscribe { number, pattern } => (command::UNSUB, number, pattern, false),
            };
            let [a, b, c, d] = number.to_be_bytes();
            let payload = [a, b, c, d, hello::subscribe::LATEST];
            session
                .control(command, pattern.as_bytes(), payload.get(..4 + usize::from(latest)).unwrap_or_default())
                .is_ok()
        });
        // All that a flush covers has to be in the stream before its PING is.
        let in_stream = self.session.moved() + self.dropped;
        if self.flush.is_none() && self.flush_wanted > self.flushed && in_stream >= self.flush_wanted {
            self.flush = self.ping().map(|number| (number, self.flush_wanted));
        }
        if matches!(self.state, State::Closing { .. }) && self.session.outbox.is_empty() {
            self.say_close();
        }
    }

    /// CLOSE, once; when it is acknowledged the client is closed.
    pub(super) fn say_close(&mut self) {
        let native = self.server.is_some();
        if native && !self.said_close {
            let reason = [CloseReason::Normal.code()];
            self.said_close = self.session.control(command::CLOSE, &[], &reason).is_ok();
        }
        if (self.said_close || !native) && self.session.is_drained() {
            self.finish();
        }
    }

    pub(super) fn hello(&self) -> Hello<'static> {
        // What fits the memory however it is cut into segments.
        let held = u32::try_from(self.session.reader.capacity().saturating_sub(LENGTH)).unwrap_or(u32::MAX);
        Hello {
            version: VERSION,
            features: features(self.config.framing),
            max_datagram: self.config.native_datagram,
            window: self.config.kcp.recv_window,
            max_body: self.config.frames.max_body.min(held),
            max_subject: self.config.frames.max_subject,
            max_tokens: self.config.subjects.max_tokens,
            keep_alive: (self.config.heartbeat.as_millis() / 1000).min(u64::from(u16::MAX)) as u16,
            epoch: 0,
            name: self.config.name,
        }
    }

    /// When a PING that is not answered shows that the session is gone.
    pub(super) fn answer_due(&self) -> Option<Instant> {
        let State::Up { native } = self.state else { return None };
        let (ping, kcp) = (self.heartbeat?, &self.session.kcp);
        // The PONG may stand behind what nobody has read yet, or not have come through. A native server that lives says that it
        // does not know the session; an original one that was started again may say nothing at all.
        if self.current.is_some()
            || kcp.front().is_some()
            || native && kcp.stalled_since().is_some_and(|at| at <= ping.at)
        {
            return None;
        }
        Some(ping.at.max(self.data_at) + self.config.pong_timeout.max(kcp.rtt().rto().saturating_mul(3)))
    }

    pub(super) fn check_health(&mut self) {
        let heard = self.heard();
        let stalled = self.session.kcp.stalled_since().map(|since| since.max(heard) + self.config.stall_timeout);
        if self.suspect.is_some_and(|until| until <= self.now) {
            self.lose(Disconnect::Forgotten);
        } else if heard + self.config.read_timeout <= self.now {
            self.lose(Disconnect::Silent);
        } else if stalled.is_some_and(|until| until <= self.now) {
            self.lose(Disconnect::Stalled);
        } else if self.answer_due().is_some_and(|until| until <= self.now) {
            self.lose(Disconnect::Unanswered);
        } else if self.next_heartbeat <= self.now {
            self.next_heartbeat = self.now + self.config.heartbeat;
            if let Some(number) = self.ping()
                && self.heartbeat.is_none()
            {
                self.heartbeat = Some(Ping { number, at: self.now });
            }
        }
    }
}

/// What to say of FEC: whether it is understood, and whether it is asked for.
fn features(framing: Framing) -> u32 {
    match framing {
        Framing::Plain | Framing::Fec => hello::features::SUPPORTED,
        #[cfg(feature = "fec")]
        Framing::Parity(_) => hello::features::SUPPORTED | hello::features::WANTS_PARITY,
    }
}
