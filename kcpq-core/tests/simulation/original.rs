//! A client of the original, as far as a server can tell: KCP that moves when its clock ticks, and the frames of its
//! protocol (docs/original.md). What its program is told it makes up itself.

use std::collections::VecDeque;

use kcpq_core::client::{Disconnect, Stats};
use kcpq_core::frame::{Frame, command};
use kcpq_core::session::Transmit;
use kcpq_core::time::{Duration, Instant};

use crate::end::{Counts, End, Got, How, News, Order};
use crate::peer::Ticking;
use crate::rules::matches;

const TICK: Duration = Duration::from_millis(10);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// No frame for so long, and it begins anew; that segments are acknowledged says nothing (docs/original.md 4.3).
const SILENCE: Duration = Duration::from_secs(90);
/// A SUB that is not answered goes again after this time. Another life of the server may have been about to answer it.
const AGAIN: Duration = Duration::from_secs(6);

struct Subscription {
    id: u32,
    pattern: String,
    acked: bool,
    asked: Instant,
}

impl Subscription {
    fn ask(&mut self, now: Instant) -> String {
        self.asked = now;
        self.pattern.clone()
    }
}

pub(crate) struct Original {
    peer: Ticking,
    conv: u32,
    now: Instant,
    subscriptions: Vec<Subscription>,
    last_id: u32,
    heard: Instant,
    next_heartbeat: Instant,
    connected: bool,
    /// The kernel has something to be sent.
    flush: bool,
    closed: bool,
    news: VecDeque<News>,
    received: u64,
    /// It has another address now: the original's server tells sessions apart by that.
    moved: bool,
}

impl Original {
    pub(crate) fn new(conv: u32, now: Instant) -> Self {
        Self {
            peer: Ticking::new(conv, TICK, Duration::ZERO, now),
            conv,
            now,
            subscriptions: Vec::new(),
            last_id: 0,
            heard: now,
            next_heartbeat: now,
            connected: false,
            flush: false,
            closed: false,
            news: VecDeque::new(),
            received: 0,
            moved: false,
        }
    }

    fn write(&mut self, command: u8, subject: &str, payload: &[u8]) {
        self.peer.write(&Frame { command, subject: subject.as_bytes(), payload });
        self.flush = true;
    }

    /// Gives the connection up and makes another one, from another socket.
    fn begin_anew(&mut self, why: Disconnect) {
        self.news.push_back(News::Disconnected(why, Counts { received: self.received, acknowledged: 0 }));
        self.conv = self.conv.wrapping_add(1);
        self.peer = Ticking::new(self.conv, TICK, Duration::ZERO, self.now);
        (self.connected, self.moved, self.heard, self.next_heartbeat) = (false, true, self.now, self.now);
        let patterns: Vec<String> = self.subscriptions.iter().map(|sub| sub.pattern.clone()).collect();
        self.subscriptions.iter_mut().for_each(|sub| (sub.acked, sub.asked) = (false, self.now));
        patterns.iter().for_each(|pattern| self.write(command::SUB, pattern, &[]));
    }

    fn on_frame(&mut self, command: u8, subject: &[u8], payload: &[u8]) {
        let subject = String::from_utf8_lossy(subject).into_owned();
        if !self.connected {
            self.connected = true;
            self.news.push_back(News::Connected);
        }
        match command {
            command::MSG => {
                self.received += 1;
                for sub in self.subscriptions.iter().filter(|sub| matches(&sub.pattern, &subject)) {
                    let got = Got::plain(&subject, payload);
                    self.news.push_back(News::Message(sub.id, got));
                }
            }
            command::OK => {
                let pattern = subject.strip_prefix("subscribed to ").unwrap_or(&subject);
                for sub in self.subscriptions.iter_mut().filter(|sub| sub.pattern == pattern && !sub.acked) {
                    sub.acked = true;
                    self.news.push_back(News::Subscribed(sub.id));
                }
            }
            _ => {}
        }
    }
}

impl End for Original {
    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8]) {
        self.now = now;
        if self.closed {
            return; // whoever closes it reads no more, though the news of that may be late
        }
        if datagram.len() < 24 {
            return; // shorter than a segment: a hint for others
        }
        // FEC framing: what lies behind its header is KCP.
        let inner = match datagram.get(4..6) {
            Some([0xf1, 0]) => &datagram[8..],
            Some([0xf2, 0]) => return,
            _ => datagram,
        };
        self.flush |= self.peer.handle_datagram(now, inner);
        for (command, subject, payload) in self.peer.frames() {
            self.heard = now;
            self.on_frame(command, &subject, &payload);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if self.closed {
            return;
        }
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + HEARTBEAT;
            self.write(command::PING, "", &[]);
        }
        if now >= self.heard + SILENCE {
            self.begin_anew(Disconnect::Silent);
        }
        let again = |sub: &&mut Subscription| !sub.acked && now >= sub.asked + AGAIN;
        let late: Vec<String> = self.subscriptions.iter_mut().filter(again).map(|sub| sub.ask(now)).collect();
        late.iter().for_each(|pattern| self.write(command::SUB, pattern, &[]));
        self.flush |= self.peer.ticks(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        // Its clock ticks whether something is due or not; what happens without is left out.
        let tick = TICK.as_micros();
        let grid = |at: Instant| Instant::from_micros(at.as_micros().div_ceil(tick) * tick);
        let ticks = self.peer.kcp.poll_timeout().map(|deadline| grid(deadline.at.max(self.peer.next)));
        let again = self.subscriptions.iter().filter(|sub| !sub.acked).map(|sub| sub.asked + AGAIN).min();
        let others = self.next_heartbeat.min(self.heard + SILENCE);
        Instant::earlier(ticks, Instant::earlier(again, Some(others)))
    }

    fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        if !self.flush || self.closed {
            return None;
        }
        let len = self.peer.kcp.poll_transmit(now, out);
        self.flush = len.is_some();
        Some(Transmit { len: len?, segment: None, asks: false })
    }

    fn on_too_long(&mut self, _: Instant, _: usize) {}

    fn connect(&mut self, now: Instant) {
        (self.now, self.heard, self.next_heartbeat) = (now, now, now);
    }

    fn publish(&mut self, now: Instant, order: &Order) -> Result<u32, String> {
        self.now = now;
        if order.confirm || order.retain || order.replies.is_some() || order.ttl.is_some() {
            return Err("the original does not know that".into());
        }
        if order.payload.len() > 20_000 || self.peer.kcp.unacked() > 100_000 {
            return Err("too much waits".into());
        }
        self.write(command::PUB, &order.subject, &order.payload);
        Ok(0)
    }

    fn subscribe(&mut self, now: Instant, pattern: &str, how: How) -> Result<u32, String> {
        self.now = now;
        if how != How::Every {
            return Err("the original does not know that".into());
        }
        self.last_id += 1;
        // Its server answers a second SUB of a pattern as it did the first.
        let sub = Subscription { id: self.last_id, pattern: pattern.into(), acked: false, asked: now };
        self.subscriptions.push(sub);
        self.write(command::SUB, pattern, &[]);
        Ok(self.last_id)
    }

    fn unsubscribe(&mut self, now: Instant, id: u32) {
        self.now = now;
        let Some(at) = self.subscriptions.iter().position(|sub| sub.id == id) else { return };
        let pattern = self.subscriptions.remove(at).pattern;
        News::forget(&mut self.news, id);
        if !self.subscriptions.iter().any(|sub| sub.pattern == pattern) {
            self.write(command::UNSUB, &pattern, &[]);
        }
    }

    fn flush(&mut self, _: Instant) {}

    /// It vanishes without a word.
    fn close(&mut self, _: Instant) {
        self.closed = true;
        self.news.push_back(News::Closed);
    }

    fn reconnect(&mut self, now: Instant) {
        self.now = now;
        self.begin_anew(Disconnect::Requested);
    }

    fn is_connected(&self) -> bool {
        self.connected
    }

    fn queued(&self) -> usize {
        self.peer.kcp.unacked()
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.messages_received = self.received;
        stats
    }

    fn came(&self) -> u64 {
        self.received
    }

    fn takes_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}
