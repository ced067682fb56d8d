//! The life of the connection: it begins, is watched, is lost and begins again; and what its state asks to be sent.

use super::Client;
use super::event::{ConfirmFailure, Disconnect, RequestFailure};
use super::phase::{Abilities, Phase, Server, Up};
use super::pings::Pings;
use super::rhythm::Rhythm;
use super::subscriptions::{Knows, Request};
use crate::datagram::{Framing, SAFE_DATAGRAM};
use crate::frame::{LENGTH, command};
use crate::hello::{CloseReason, Hello, MAX_SUBSCRIBE, MAX_WELCOME, Subscribe, VERSION, features};
use crate::outbox::{Dialect, FrameStore, Outbox};
use crate::rng::draw;
use crate::session::Native;
use crate::time::{Duration, Instant};

/// How long the last datagram of a session has to leave before the next one begins.
const FAREWELL: Duration = Duration::from_millis(10);
/// What is said of lanes.
const LANES: u32 = features::LANES | features::SUPERSEDES;
/// Bytes of SUB and UNSUB that wait; the others are queued when some of these have gone.
const REQUESTS: usize = 16 * 1024;

impl<S: FrameStore> Client<S> {
    /// Begins a conversation, after `failed` attempts in a row that came to nothing.
    pub(super) fn open(&mut self) {
        let failed = if let Phase::Waiting { failed, .. } = self.phase { failed } else { 0 };
        // Not before the last datagram of the session before was taken: a driver that is late would lose it.
        if self.session.owes_farewell() {
            self.phase = Phase::Waiting { until: self.now, failed };
            return;
        }
        let conv = draw(&mut self.rng);
        let in_doubt = self.session.reset(conv, self.config.framing, self.config.max_datagram.min(SAFE_DATAGRAM));
        self.stats.dropped_in_doubt += in_doubt;
        self.current = None;
        self.server = None;
        self.pings = Pings::default();
        self.rhythm = Rhythm::default();
        // Messages that go out now are in doubt if nobody answers, so that is risked once.
        self.long_waits &= !self.session.outbox.is_empty();
        self.session.hold = !self.config.early || failed > 0 || self.long_waits;
        self.phase = Phase::Connecting { until: self.now + self.config.connect_timeout, failed, hinted: false };
        let mut payload = [0; MAX_WELCOME];
        let len = self.hello().encode(&mut payload);
        let hello = payload.get(..len).unwrap_or_default();
        if self.handshake.is_wanted() {
            self.handshake.begin(self.now, hello, &mut self.session);
        } else {
            // It is the first that waits. Where there is no room even so, there is none for any conversation.
            let _ = self.session.control(command::HELLO, &[], hello);
        }
        self.advance();
    }

    /// Begins another conversation at once, since the server seems to know one of this number.
    pub(super) fn open_another(&mut self) {
        self.subscriptions.on_disconnect();
        self.phase = Phase::Waiting { until: self.now, failed: 1 };
        self.open();
    }

    /// The server has answered.
    pub(super) fn up(&mut self, native: bool) {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return;
        }
        if !native {
            // As long as the original's own. Its server's socket holds less than a window, so that even within a machine
            // (docs/original.md 6.1) what it takes in has to be found out.
            self.session.set_original(self.config.framing, self.config.max_datagram, false);
        }
        self.phase = Phase::Up(Up {
            native,
            heartbeat_at: self.now + self.config.heartbeat,
            suspect: None,
            silent_since: self.session.kcp.last_heard().unwrap_or(self.now),
            woken: false,
        });
        self.session.hold = false;
        if let Some(until) = self.close_by.take() {
            // Until now there was nobody to close the session with.
            self.linger(until);
        }
        if self.session.dialect == Dialect::Plain {
            self.requests.fail_all(RequestFailure::Unsupported);
        }
        let (confirms, stores) = self.server.map_or((false, false), |server| (server.confirms(), server.stores()));
        self.confirms.on_connected(confirms, stores);
        self.wills.on_connected();
        let again = self.stats.connected_at.is_some();
        self.stats.connected = true;
        self.stats.connected_at = Some(self.now);
        self.stats.reconnects += u64::from(again);
        self.pending.connected(native, again);
    }

    /// The server was heard.
    pub(super) fn on_heard(&mut self) {
        if let Phase::Up(up) = &mut self.phase {
            up.suspect = None;
            up.silent_since = self.now;
            up.woken = false;
        }
    }

    #[cfg(not(feature = "native"))]
    pub(super) fn give_up_former(&mut self, _: &mut [u8]) -> Option<usize> {
        None // no session has a name
    }

    /// Writes that the session before this one is no more, if that could not be said when it was lost. The server would go on to
    /// keep messages for it, beside those for this one.
    #[cfg(feature = "native")]
    pub(super) fn give_up_former(&mut self, out: &mut [u8]) -> Option<usize> {
        let Phase::Up(Up { native: true, .. }) = self.phase else { return None };
        let former = self.former.take()?;
        self.session.write_farewell(former, &mut self.protection, out)
    }

    /// There is no connection any more.
    pub(super) fn lose(&mut self, why: Disconnect) {
        if self.stats.connected {
            self.stats.connected = false;
            self.stats.disconnected_at = Some(self.now);
        }
        let (failed, woken) = match self.phase {
            Phase::Closing { .. } => return self.finish(),
            Phase::Connecting { failed, .. } => (failed.saturating_add(1), false),
            Phase::Up(up) => (0, up.woken),
            Phase::Idle | Phase::Waiting { .. } | Phase::Closed => return,
        };
        self.stats.connection_errors += u64::from(why != Disconnect::Requested);
        #[cfg(feature = "native")]
        if !matches!(why, Disconnect::ByServer(_) | Disconnect::Forgotten) {
            self.former = self.session.farewell().or(self.former);
        }
        self.handshake.end();
        let Self { confirms, outgoing, session, .. } = self;
        confirms.on_lost(|lane| outgoing.gone(lane, session.moved_of(lane)));
        self.session.end(matches!(why, Disconnect::ByServer(_)));
        self.subscriptions.on_disconnect();
        let until = match (why, self.config.reconnect) {
            // It is known why the session is gone: no crowd comes back with this client.
            (Disconnect::Requested, _) => Some(self.now + FAREWELL),
            (_, Some(_)) if woken => Some(self.now),
            (_, backoff) => backoff.map(|backoff| self.now + backoff.wait(failed, &mut self.rng)),
        };
        self.pending.disconnected(why, until);
        match until {
            Some(until) => self.phase = Phase::Waiting { until, failed },
            None => self.finish(),
        }
    }

    /// What is queued still goes out, until then if nothing is acknowledged meanwhile.
    pub(super) fn linger(&mut self, until: Instant) {
        let said = matches!(self.phase, Phase::Closing { said: true, .. });
        self.phase = Phase::Closing { until, acked: self.session.kcp.acked_offset(), said };
    }

    /// The end, although the server has not acknowledged all: it is told once more that this client is no more.
    pub(super) fn give_up(&mut self) {
        if cfg!(feature = "native") {
            self.session.part(self.now, false);
        }
        self.finish();
    }

    /// The end.
    pub(super) fn finish(&mut self) {
        self.handshake.end();
        self.session.end(false);
        self.phase = Phase::Closed;
        self.close_by = None;
        self.stats.connected = false;
        let in_doubt = self.session.give_up();
        self.stats.dropped_in_doubt += in_doubt;
        self.stats.lost_on_close += in_doubt + self.session.outbox.frames() as u64;
        self.session.outbox.clear();
        self.requests.fail_all(RequestFailure::Closed);
        self.confirms.fail_all(ConfirmFailure::Closed);
        // Who waits for room is told before the end, not after it.
        self.pending.has_room();
        self.pending.closed();
    }

    /// Queues PING. False if it finds no room.
    pub(super) fn ping(&mut self) -> bool {
        let queued = self.session.control(command::PING, &[], &[]).is_ok();
        if queued {
            self.pings.on_sent();
        }
        queued
    }

    /// A heartbeat is due.
    pub(super) fn beat(&mut self) {
        if let Phase::Up(up) = &mut self.phase {
            up.heartbeat_at = self.now + self.config.heartbeat;
        }
        if self.ping() {
            let native = matches!(&self.phase, Phase::Up(up) if up.native);
            self.pings.is_heartbeat(self.now, !native);
        }
    }

    /// Queues what the state of things asks for. What finds no room is asked for again by the next call.
    pub(super) fn advance(&mut self) {
        if !self.phase.is_open() || self.suspended {
            return;
        }
        // The answers may have come, and not been read.
        if !self.is_held() {
            self.subscriptions.on_time(self.now, &self.config);
        }
        if self.subscriptions.is_unanswered() {
            return self.lose(Disconnect::SubscribeUnanswered);
        }
        self.send_will();
        let knows = self.is_connected().then(|| Knows::of(self.server.as_ref()));
        let session = &mut self.session;
        self.subscriptions.send_requests(self.now, &self.config, knows, |request| {
            // The time for an answer runs from here, and a PING that comes later stands behind all of them.
            if session.control.len() > REQUESTS {
                return false;
            }
            let (command, pattern, record) = match request {
                Request::Subscribe { pattern, record } => (command::SUB, pattern, record),
                Request::Unsubscribe { number, pattern } => {
                    (command::UNSUB, pattern, Subscribe { number, ..Subscribe::default() })
                }
            };
            let mut payload = [0; MAX_SUBSCRIBE];
            let len = record.encode(&mut payload);
            session.control(command, pattern.as_bytes(), payload.get(..len).unwrap_or_default()).is_ok()
        });
        if !self.pings.is_flushing()
            && let Some(published) = self.outgoing.flush_due(|lane| self.session.before_control(lane))
            && self.ping()
        {
            self.pings.is_flush(published);
        }
        if self.session.outbox.is_empty()
            && self.session.are_lanes_idle()
            && let Phase::Closing { said, .. } = &mut self.phase
        {
            // CLOSE, once; when it is acknowledged the client is closed.
            let native = self.server.is_some();
            if native && !*said {
                *said = self.session.control(command::CLOSE, &[], &[CloseReason::Normal.code()]).is_ok();
            }
            if (*said || !native) && self.session.is_drained() {
                self.finish();
            }
        }
    }

    /// How datagrams of a native session are framed, as far as it is the client's to choose.
    fn framing(&self) -> Framing {
        if self.handshake.is_wanted() { Framing::Plain } else { self.config.framing }
    }

    /// A native server has said this of itself.
    pub(super) fn welcome(&mut self, hello: &Hello<'_>) {
        self.server = Some(Server {
            max_body: hello.max_body.min(self.config.frames.max_body),
            max_subject: hello.max_subject,
            max_tokens: hello.max_tokens,
            keep_alive: Duration::from_secs(hello.keep_alive.into()),
            epoch: hello.epoch,
            abilities: Abilities::new(hello.features),
        });
        self.session.set_native(&Native {
            framing: self.framing().to_server(hello.features),
            max_datagram: self.config.native_datagram,
            accepts: hello.max_datagram,
            local: self.config.local,
            features: hello.features,
        });
        self.drop_longer();
        self.up(true);
    }

    /// Drops what waits and is longer than the server takes: it would end the session.
    pub(super) fn drop_longer(&mut self) {
        let limit = self.largest_message();
        let Self { confirms, outgoing, session, stats, .. } = self;
        confirms.on_limit(limit + LENGTH, |lane| outgoing.gone(lane, session.moved_of(lane)));
        session.outbox.drop_longer(limit, |lane, count| {
            outgoing.on_dropped(lane, count.into());
            stats.dropped_too_large += count;
        });
    }

    pub(super) fn hello(&self) -> Hello<'_> {
        // What fits the memory however it is cut into segments.
        let held = u32::try_from(self.session.reader.capacity().saturating_sub(LENGTH)).unwrap_or(u32::MAX);
        Hello {
            version: VERSION,
            features: self.framing().features() & if self.session.knows_lanes() { u32::MAX } else { !LANES },
            max_datagram: self.config.native_datagram,
            window: self.config.kcp.recv_window,
            max_body: self.config.frames.max_body.min(held),
            max_subject: self.config.frames.max_subject,
            max_tokens: self.config.subjects.max_tokens,
            keep_alive: (self.config.heartbeat.as_millis() / 1000).min(u64::from(u16::MAX)) as u16,
            epoch: 0,
            name: self.names.own(self.config.name),
            session: None,
        }
    }
}
