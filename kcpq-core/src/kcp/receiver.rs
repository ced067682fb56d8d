//! The receiving half: reordering, the window, and the acknowledgements that are owed.

use super::config::{Config, Mode};
use super::segment::{Command, HEADER, Header};
use super::seq::{Sn, Ts};
use super::stats::Stats;
use crate::store::{Queue, RxWindow, Store};
use crate::time::{Duration, Instant};

/// An acknowledgement that is owed.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ack {
    sn: Sn,
    ts: Ts,
}

/// Window updates (WINS) sent after a zero window has opened again, unless the peer sends before.
const TELLS: u8 = 8;
/// Interval of the first two window updates; it doubles with each further one.
const TELL_AGAIN: Duration = Duration::from_millis(50);

pub(super) struct Receiver<S: Store> {
    rx: S::Rx,
    acks: S::Queue<Ack>,
    /// The next number expected.
    next: Sn,
    /// Segments in order at the front of the window that were not read yet.
    ready: usize,
    /// Bytes of segment `next` that were read when it came, although its rest was too large to be kept.
    partial: usize,
    /// When the acknowledgements are due.
    ack_at: Option<Instant>,
    /// Unsolicited window updates still to be sent, and when the next one is due.
    tell: Option<(u8, Instant)>,
}

impl<S: Store> Receiver<S> {
    pub(super) fn new(rx: S::Rx, acks: S::Queue<Ack>) -> Self {
        Self { rx, acks, next: Sn(0), ready: 0, partial: 0, ack_at: None, tell: None }
    }

    pub(super) fn reset(&mut self) {
        self.rx.clear();
        self.acks.clear();
        self.next = Sn(0);
        self.ready = 0;
        self.partial = 0;
        self.ack_at = None;
        self.tell = None;
    }

    #[cfg(all(test, feature = "alloc"))]
    pub(super) fn start_at(&mut self, sn: Sn) {
        self.next = sn;
    }

    /// Everything before this number has arrived.
    pub(super) fn next(&self) -> Sn {
        self.next
    }

    fn slots(&self, config: &Config) -> usize {
        self.rx.slots().min(usize::from(config.recv_window))
    }

    /// Free segments, as advertised.
    pub(super) fn window(&self, config: &Config) -> u16 {
        self.slots(config).saturating_sub(self.ready) as u16
    }

    /// True if segment `sn` has come.
    #[cfg(feature = "fec")]
    pub(super) fn has(&self, sn: Sn) -> bool {
        usize::try_from(sn.distance(self.next)).map_or(true, |ahead| self.rx.has(ahead + self.ready))
    }

    /// Takes in one data segment. What is in order and unread goes through `sink`, which returns how much it took. True
    /// if it was new.
    pub(super) fn on_push(
        &mut self,
        now: Instant,
        config: &Config,
        header: &Header,
        data: &[u8],
        sink: &mut impl FnMut(&[u8]) -> usize,
        stats: &mut Stats,
    ) -> bool {
        let ahead = header.sn.distance(self.next);
        let slot = match usize::try_from(ahead) {
            Ok(ahead) => ahead + self.ready,
            Err(_) => {
                // Old: the acknowledgement was lost, or the network doubled it.
                stats.duplicates += 1;
                self.owe_ack(now, config, header);
                return false;
            }
        };
        if slot >= self.slots(config) {
            stats.refused += 1;
            return false;
        }
        if self.rx.has(slot) {
            stats.duplicates += 1;
            self.owe_ack(now, config, header);
            return false;
        }
        let in_order = ahead == 0 && self.ready == 0 && config.mode == Mode::Stream;
        let mut rest = data;
        if in_order {
            let had = self.partial.min(data.len());
            self.partial = had + drain(data.get(had..).unwrap_or_default(), sink);
            rest = data.get(self.partial..).unwrap_or_default();
        }
        if in_order && rest.is_empty() {
            self.rx.advance();
            self.next = self.next.plus(1);
        } else if self.rx.put(slot, header.frg, rest).is_err() {
            stats.refused += 1;
            return false;
        }
        if in_order {
            self.partial = 0;
        }
        self.tell = None;
        stats.segments_received += 1;
        stats.bytes_received += data.len() as u64;
        while self.rx.has(self.ready) {
            self.ready += 1;
            self.next = self.next.plus(1);
        }
        self.owe_ack(now, config, header);
        if config.mode == Mode::Stream {
            self.recv(now, config, sink);
        }
        true
    }

    fn owe_ack(&mut self, now: Instant, config: &Config, header: &Header) {
        // No more than the window has segments: more are doubled ones, and the oldest are left to `una` or to be asked for
        // again. The bound is the engine's, so that every store does the same.
        if !self.acks.has_room() || self.acks.len() >= self.slots(config).max(1) {
            self.acks.pop();
        }
        // A store without any room acknowledges by `una` alone.
        let _ = self.acks.push(Ack { sn: header.sn, ts: header.ts });
        let at = now + config.ack_delay;
        self.ack_at = Instant::earlier(self.ack_at, Some(at));
    }

    /// Offers in-order bytes to `sink` until it takes no more. True if anything was taken.
    pub(super) fn recv(&mut self, now: Instant, config: &Config, sink: &mut impl FnMut(&[u8]) -> usize) -> bool {
        let closed = self.window(config) == 0;
        let mut any = false;
        while self.ready > 0 {
            let Some((data, _)) = self.rx.front() else { break };
            let len = data.len();
            let taken = drain(data, sink);
            any |= taken > 0;
            if taken < len {
                self.rx.consume(taken);
                break;
            }
            self.pop();
        }
        self.reopen(now, config, closed);
        any
    }

    /// The length of the next message, once all of it is there.
    pub(super) fn message_len(&self) -> Option<usize> {
        let mut len = 0;
        for slot in 0..self.ready {
            let (frg, bytes) = self.rx.peek(slot)?;
            len += bytes;
            if frg == 0 {
                return Some(len);
            }
        }
        None
    }

    /// Copies the next message, which is known to fit, to `out`.
    pub(super) fn recv_message(&mut self, now: Instant, config: &Config, out: &mut [u8]) {
        let closed = self.window(config) == 0;
        let mut at = 0;
        while let Some((data, frg)) = self.rx.front() {
            if let Some(place) = out.get_mut(at..at + data.len()) {
                place.copy_from_slice(data);
            }
            at += data.len();
            self.pop();
            if frg == 0 {
                break;
            }
        }
        self.reopen(now, config, closed);
    }

    /// The unread bytes at the front of the window.
    pub(super) fn front(&self) -> Option<&[u8]> {
        if self.ready == 0 {
            return None;
        }
        self.rx.front().map(|(data, _)| data)
    }

    /// Takes `count` of the bytes that [`front`](Self::front) showed.
    pub(super) fn consume(&mut self, now: Instant, config: &Config, count: usize) {
        let Some(len) = self.front().map(<[u8]>::len) else { return };
        if count < len {
            self.rx.consume(count);
            return;
        }
        let closed = self.window(config) == 0;
        self.pop();
        self.reopen(now, config, closed);
    }

    /// The front segment leaves the window.
    fn pop(&mut self) {
        self.rx.advance();
        self.ready = self.ready.saturating_sub(1);
    }

    /// Begins the window updates (WINS) for a zero window that has opened again. They are repeated, since the peer may
    /// wait seconds for a lost one (PROTOCOL.md 2.7).
    fn reopen(&mut self, now: Instant, config: &Config, closed: bool) {
        if closed && self.window(config) > 0 {
            self.tell = Some((TELLS, now));
        }
    }

    /// A window probe (WASK) came: a window update is owed.
    pub(super) fn on_ask(&mut self, now: Instant) {
        let left = self.tell.map_or(0, |(left, _)| left).max(1);
        self.tell = Some((left, now));
    }

    pub(super) fn ack_due(&self) -> Option<Instant> {
        self.ack_at
    }

    pub(super) fn tell_due(&self) -> Option<Instant> {
        self.tell.map(|(_, at)| at)
    }

    /// Writes owed acknowledgements to `out`, as many as fit, if they are due or `riding` along with something else.
    pub(super) fn write_acks(&mut self, now: Instant, template: Header, out: &mut [u8], riding: bool) -> usize {
        if !riding && self.ack_at.is_none_or(|at| now < at) {
            return 0;
        }
        let mut at = 0;
        while let Some(ack) = self.acks.get(0).copied() {
            // What `una` covers needs no word of its own; the last one goes all the same, for its echo
            // (PROTOCOL.md 2.5).
            if ack.sn.before(self.next) && self.acks.len() > 1 {
                self.acks.pop();
                continue;
            }
            let Some(place) = out.get_mut(at..at + HEADER) else { break };
            let header = Header { command: Command::Ack, sn: ack.sn, ts: ack.ts, ..template };
            place.copy_from_slice(&header.to_bytes());
            at += HEADER;
            self.acks.pop();
        }
        if self.acks.is_empty() {
            self.ack_at = None;
        }
        at
    }

    /// True if a window update is due now; the next one is scheduled.
    pub(super) fn take_tell(&mut self, now: Instant) -> bool {
        let Some((left, at)) = self.tell.filter(|(_, at)| *at <= now) else { return false };
        let wait = TELL_AGAIN.saturating_mul(1 << TELLS.saturating_sub(left).min(10));
        self.tell = (left > 1).then_some((left - 1, at.max(now) + wait));
        true
    }
}

/// Offers `data` until the sink takes no more; returns how much it took.
fn drain(data: &[u8], sink: &mut impl FnMut(&[u8]) -> usize) -> usize {
    let mut taken = 0;
    while let Some(rest) = data.get(taken..).filter(|rest| !rest.is_empty()) {
        match sink(rest).min(rest.len()) {
            0 => break,
            count => taken += count,
        }
    }
    taken
}
