//! What a session's frames do: one frame after the other, replies and messages in the order of their causes.

use alloc::format;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::config::{Config, SlowConsumer};
use super::event::{Ended, Event, SessionId};
use super::siblings::{Sibling, Siblings};
use super::stats::Stats;
use super::table::{Member, Pause, Phase, Table};
use super::{Events, Peer};
use crate::datagram::Framing;
use crate::frame::{self, Frame, FrameError, HEAD, Progress, Reader, command};
use crate::hello::{Ack, CloseReason, Hello, MAX_HELLO, Refusal, VERSION, features, subscribe};
use crate::layout;
use crate::router::Router;
use crate::store::{Heap, HeapOutbox, Inbox, Outbox};
use crate::subject::{Pattern, Subject};
use crate::time::{Duration, Instant};

/// Replies that may wait for one session, in bytes. A session that asks faster than it reads is not read further.
const MAX_REPLIES: usize = 64 * 1024;
/// Answers to SUB and UNSUB that may wait for one session until siblings know of its patterns.
const MAX_UNANSWERED: u32 = 1024;
/// Messages from this size on are kept once for all their subscribers, if these are likely to be several: a count of
/// references each costs less than a copy each.
const SHARE_FROM: usize = 1024;
/// And for a single one from this size on.
const SHARE_ALONE_FROM: usize = 4096;
/// The longest text that an original client takes (docs/original.md 5.1).
const MAX_TEXT: usize = 4096;

/// The rest of the broker, while one session's bytes are read.
pub(super) struct Inbound<'b, P: Peer> {
    pub(super) config: &'b Config,
    pub(super) now: Instant,
    /// The longest datagram that a native client here may send.
    pub(super) max_datagram: u16,
    /// The server stops: nothing more is read.
    pub(super) draining: bool,
    pub(super) epoch: u64,
    pub(super) seed: u64,
    pub(super) deferred: &'b mut Vec<u32>,
    /// Sessions that the last message went to.
    pub(super) reach: &'b mut u32,
    pub(super) table: &'b mut Table<P>,
    pub(super) router: &'b mut Router,
    pub(super) stats: &'b mut Stats,
    pub(super) events: &'b mut Events<P>,
    pub(super) siblings: &'b mut Siblings,
    /// The session whose bytes these are, which is not in the table now; or a sibling.
    pub(super) me: SessionId,
    /// The session's own queues.
    pub(super) control: &'b mut HeapOutbox,
    pub(super) outbox: &'b mut HeapOutbox,
    pub(super) member: &'b mut Member,
    /// HELLO came.
    pub(super) greeted: Option<Greeting>,
    /// The session is to end.
    pub(super) end: Option<Ended>,
}

impl<P: Peer> Inbound<'_, P> {
    /// Reads as many frames as `bytes` hold; returns how many bytes were taken.
    pub(super) fn read(&mut self, reader: &mut Reader<Heap>, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            if self.end.is_some() || self.draining || self.member.phase != Phase::Open {
                return bytes.len();
            }
            if self.control.len() > MAX_REPLIES || self.member.unanswered > MAX_UNANSWERED {
                self.member.paused.get_or_insert(Pause::Replies);
            }
            if self.member.paused.is_some() {
                return taken;
            }
            let (count, progress) = reader.read(&bytes[taken..]);
            taken += count;
            match progress {
                Progress::More => {}
                Progress::InPlace(frame) => self.frame(reader, Some(frame)),
                Progress::Assembled => self.frame(reader, None),
                Progress::Oversize { actual, .. } => {
                    let limit = self.config.frames.max_body;
                    let actual = u32::try_from(actual).unwrap_or(u32::MAX);
                    self.break_off(FrameError::BodyTooLarge { limit, actual });
                }
                Progress::Broken(error) => self.break_off(error),
            }
        }
        taken
    }

    fn break_off(&mut self, error: FrameError) {
        self.stats.broken_sessions += 1;
        self.error(&format!("{error}"));
        self.end = Some(Ended::Broken(error));
    }

    /// Acts on a frame, in place or assembled in the reader.
    fn frame(&mut self, reader: &mut Reader<Heap>, in_place: Option<&[u8]>) {
        let bytes = in_place.unwrap_or_else(|| reader.assembled());
        let frame = match Frame::parse(bytes, &self.config.frames) {
            Ok(frame) => frame,
            Err(error) => return self.break_off(error),
        };
        match frame.command {
            command::PUB | command::PUBT => {
                let expires = if frame.command == command::PUB {
                    Instant::MAX
                } else if let Some(left) = frame.payload.last_chunk() {
                    self.now + Duration::from_millis(u32::from_be_bytes(*left).into())
                } else {
                    return self.error("PUBT is cut short");
                };
                let subject = match Subject::from_bytes(frame.subject, &self.config.subjects) {
                    Ok(subject) => subject,
                    Err(error) => {
                        self.stats.messages_refused += 1;
                        return self.error(&format!("{error}"));
                    }
                };
                if in_place.is_some() || bytes.len() < self.share_from() {
                    self.publish(subject, bytes, expires, None);
                } else {
                    // The assembled bytes themselves go to the subscribers; only the command differs.
                    let inbox = reader.inbox();
                    let cut = tail(expires);
                    if let Some(head) = inbox.bytes_mut().first_chunk_mut() {
                        layout::retime(head, command::MSG, -(cut as i32));
                    }
                    let mut shared = inbox.take();
                    shared.truncate(shared.len() - cut);
                    inbox.clear();
                    if let Ok(frame) = Frame::parse(&shared, &self.config.frames)
                        && let Ok(subject) = Subject::from_bytes(frame.subject, &self.config.subjects)
                    {
                        self.publish(subject, &shared, expires, Some(shared.clone()));
                    }
                }
            }
            command::SUB => self.answered(|inbound| inbound.subscribe(frame)),
            command::UNSUB => self.answered(|inbound| inbound.unsubscribe(frame)),
            command::PING => self.reply(command::PONG, &[], &[]),
            command::HELLO => self.greet(frame),
            command::CLOSE => self.end = Some(Ended::ByClient(CloseReason::decode(frame.payload))),
            unknown => {
                self.stats.unknown_commands += 1;
                self.error(&format!("handle error: unknown command: {unknown}"));
            }
        }
    }

    /// Hands the message of a sibling, a MSG, to the sessions that want it.
    pub(super) fn route_relayed(&mut self, subject: Subject<'_>, frame: &Bytes, expires: Instant) {
        // A small one would keep all those that came with it.
        let shared = (frame.len() >= SHARE_FROM || expires < Instant::MAX).then(|| frame.clone());
        self.route(subject, frame, expires, shared, true);
    }

    /// Hands a message to everybody who wants it. `bytes` is the whole frame as it came; or `shared` is the MSG, if
    /// it exists already, and `bytes` the same.
    fn publish(&mut self, subject: Subject<'_>, bytes: &[u8], expires: Instant, shared: Option<Bytes>) {
        self.stats.messages_in += 1;
        self.stats.bytes_in += bytes.len() as u64;
        if !self.route(subject, bytes, expires, shared, false) {
            self.stats.unrouted += 1;
        }
    }

    /// See [`publish`](Self::publish); what was `relayed` stays here. False if nobody wants it.
    fn route(
        &mut self,
        subject: Subject<'_>,
        bytes: &[u8],
        expires: Instant,
        shared: Option<Bytes>,
        relayed: bool,
    ) -> bool {
        let cut = if shared.is_some() { 0 } else { tail(expires) };
        let share_from = self.share_from();
        let mut message =
            MsgFrame { bytes: &bytes[..bytes.len() - cut], cut, expires, latest: None, shared, share_from };
        let Self {
            config, now, table, router, stats, events, me, outbox, member, seed, deferred, reach, siblings, ..
        } = self;
        let me = me.slot;
        **reach = 0;
        let mut deliver = |to: u32, message: &mut MsgFrame<'_>| {
            if to == me && relayed {
                // The sibling wants it as well, and has it.
                return;
            }
            if to == me {
                if message.queue(*now, config, stats, outbox, member) == Queued::Full {
                    member.slow = true;
                }
                return;
            }
            if let Some(sibling) = siblings.get_mut(to) {
                if !relayed {
                    message.queue_for_sibling(*now, config, stats, me, member, sibling);
                }
                return;
            }
            let Some(slot) = table.get_mut(to) else { return };
            let queued = message.queue(*now, config, stats, &mut slot.session.outbox, &mut slot.member);
            if slot.session.outbox.len() >= config.stall_at {
                let since = *slot.member.behind.get_or_insert(*now);
                let until = since + config.stall_for;
                if *now < until {
                    stats.stalls += u64::from(member.paused.is_none());
                    member.paused = Some(Pause::Held { until });
                    if !slot.member.held.contains(&me) {
                        slot.member.held.push(me);
                    }
                }
            }
            if queued == Queued::Full && !slot.member.slow {
                slot.member.slow = true;
                let (id, peer) = (slot.id, slot.peer);
                stats.slow_consumers += 1;
                events.push(stats, Event::Slow { id, peer });
                if config.slow_consumer == SlowConsumer::Disconnect {
                    table.doomed.push(to);
                }
            }
            table.wake(to);
        };
        router.route(subject, |number| {
            **reach += 1;
            match Want::of(number) {
                Want { slot, latest: false } => deliver(slot, &mut message),
                // It may match another pattern of this session, which wants every message.
                Want { slot, latest: true } => deferred.push(slot),
            }
        });
        for slot in deferred.drain(..) {
            if !router.was_told(Want { slot, latest: false }.number()) {
                message.latest = Some(*seed);
                deliver(slot, &mut message);
            }
        }
        *self.reach > 0
    }

    /// From which size on a message is kept once for all: the next one is likely to go to as many as the last.
    fn share_from(&self) -> usize {
        if *self.reach > 1 { SHARE_FROM } else { SHARE_ALONE_FROM }
    }

    /// Does what has one answer, which waits until all siblings know what was asked of them: what is published through
    /// them is not certain to come before. Later answers do not overtake it.
    fn answered(&mut self, act: impl FnOnce(&mut Self)) {
        if self.siblings.is_alone() {
            return act(self);
        }
        let others = core::mem::take(self.control);
        act(self);
        let mut answer = core::mem::replace(self.control, others);
        if self.siblings.are_asked() {
            self.member.unanswered += 1;
            return self.siblings.answer_later(self.me, answer);
        }
        answer.append_to(self.control);
    }

    fn subscribe(&mut self, frame: Frame<'_>) {
        let number = self.number(frame.payload);
        let pattern = match Pattern::from_bytes(frame.subject, &self.config.subjects) {
            Ok(pattern) => pattern,
            Err(error) => {
                self.stats.subscriptions_refused += 1;
                return self.answer(number, Some(Refusal::InvalidPattern), &format!("{error}"));
            }
        };
        let latest =
            number.is_some() && frame.payload.get(NUMBER).is_some_and(|options| options & subscribe::LATEST != 0);
        if let Some(known) = self.member.patterns.get_mut(pattern.as_str()) {
            // Asked for again, perhaps in another way.
            let before = core::mem::replace(known, latest);
            if before != latest {
                self.router.unsubscribe(pattern, Want { slot: self.me.slot, latest: before }.number());
                self.router.subscribe(pattern, Want { slot: self.me.slot, latest }.number());
            }
        } else {
            let limit = self.config.max_subscriptions;
            if self.member.patterns.len() >= limit {
                self.stats.subscriptions_refused += 1;
                let text = format!("too many subscriptions: the limit is {limit} for each session");
                return self.answer(number, Some(Refusal::TooManySubscriptions), &text);
            }
            self.member.patterns.insert(pattern.as_str().into(), latest);
            self.router.subscribe(pattern, Want { slot: self.me.slot, latest }.number());
            self.siblings.want(pattern.as_str());
            self.stats.subscriptions += 1;
        }
        self.acknowledge(number, "subscribed to ", frame.subject);
    }

    fn unsubscribe(&mut self, frame: Frame<'_>) {
        let number = self.number(frame.payload);
        if let Ok(pattern) = Pattern::from_bytes(frame.subject, &self.config.subjects)
            && let Some(latest) = self.member.patterns.remove(pattern.as_str())
        {
            self.router.unsubscribe(pattern, Want { slot: self.me.slot, latest }.number());
            self.siblings.leave(pattern.as_str());
            self.stats.subscriptions -= 1;
        }
        // Also when it was never subscribed, as the original does (PROTOCOL.md 3.2).
        self.acknowledge(number, "unsubscribed from ", frame.subject);
    }

    fn greet(&mut self, frame: Frame<'_>) {
        let Some(hello) = Hello::decode(frame.payload) else {
            return self.error("HELLO is cut short");
        };
        if !self.member.native {
            self.member.native = true;
            self.stats.native_sessions += 1;
        }
        let version = VERSION.min(hello.version.max(1));
        let Hello { max_datagram, features, .. } = hello;
        self.greeted = Some(Greeting { version, max_datagram, features, framing: framing(features) });
        self.member.max_body = hello.max_body;
        let welcome = Hello {
            version,
            features: features::SERVER,
            max_datagram: self.max_datagram,
            window: self.config.kcp.recv_window,
            max_body: self.config.frames.max_body,
            max_subject: self.config.subjects.max_len,
            max_tokens: self.config.subjects.max_tokens,
            keep_alive: u16::try_from(self.config.idle_timeout.as_millis() / 1000).unwrap_or(u16::MAX),
            epoch: self.epoch,
            name: &self.config.name,
        };
        let mut payload = [0; MAX_HELLO];
        let len = welcome.encode(&mut payload);
        self.reply(command::WELCOME, &[], &payload[..len]);
    }

    /// The number of a native SUB or UNSUB.
    fn number(&self, payload: &[u8]) -> Option<u32> {
        payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).filter(|_| self.member.native)
    }

    fn acknowledge(&mut self, number: Option<u32>, prefix: &str, pattern: &[u8]) {
        if number.is_some() {
            return self.answer(number, None, "");
        }
        // Too long a text would end an original client's session; the bare pattern does as well (docs/original.md 5.1,
        // 5.3).
        let prefix = if prefix.len() + pattern.len() > MAX_TEXT { "" } else { prefix };
        let mut text = BytesMut::with_capacity(prefix.len() + pattern.len());
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(pattern);
        self.reply(command::OK, &text, &[]);
    }

    /// The answer to a SUB or UNSUB: by number to a native client, else ERR with the text.
    fn answer(&mut self, number: Option<u32>, refusal: Option<Refusal>, text: &str) {
        match number {
            Some(number) => self.reply(command::ACK, text.as_bytes(), &Ack { number, refusal }.encode()),
            None => self.error(text),
        }
    }

    fn error(&mut self, text: &str) {
        self.reply(command::ERR, &text.as_bytes()[..text.floor_char_boundary(MAX_TEXT)], &[]);
    }

    fn reply(&mut self, command: u8, subject: &[u8], payload: &[u8]) {
        if let Some(head) = Frame::head(command, subject.len(), payload.len()) {
            // A heap outbox has room; how much is bounded where frames are read.
            let _ = self.control.push(&[&head, subject, payload]);
        }
    }
}

/// What a native client said that concerns its datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    pub(super) version: u8,
    pub(super) max_datagram: u16,
    pub(super) features: u32,
    pub(super) framing: Framing,
}

/// How to frame what goes to a native client.
fn framing(wanted: u32) -> Framing {
    #[cfg(feature = "fec")]
    if wanted & (features::FEC | features::WANTS_PARITY) == features::FEC | features::WANTS_PARITY {
        return Framing::Parity(crate::fec::header::Shards::KCPQ);
    }
    let _ = wanted;
    Framing::Plain
}

/// Bytes of a frame's length field, which `body_len` does not count.
const LENGTH_FIELD: usize = frame::LENGTH;

/// Bytes of a SUB's number; its options follow.
const NUMBER: usize = 4;

/// A session as the router knows it: one that wants every message, or only the latest of each subject, has two numbers.
pub(super) struct Want {
    pub(super) slot: u32,
    pub(super) latest: bool,
}

impl Want {
    fn of(number: u32) -> Self {
        Self { slot: number >> 1, latest: number & 1 != 0 }
    }

    pub(super) fn number(&self) -> u32 {
        self.slot << 1 | u32::from(self.latest)
    }
}

/// Bytes of the time to live behind a message, by when it expires.
fn tail(expires: Instant) -> usize {
    if expires < Instant::MAX { frame::TTL } else { 0 }
}

/// A message on its way to several sessions.
struct MsgFrame<'f> {
    /// The frame as it was published, up to the end of the message.
    bytes: &'f [u8],
    /// Bytes behind it that its head still counts: a time to live.
    cut: usize,
    /// When it is to be forgotten where it still waits.
    expires: Instant,
    /// It gives way to the next one of its subject, and the seed for finding it then.
    latest: Option<u64>,
    /// The frame as it is delivered, once it exists.
    shared: Option<Bytes>,
    /// From which size on it is to exist.
    share_from: usize,
}

#[derive(PartialEq, Eq)]
enum Queued {
    Yes,
    Full,
}

impl MsgFrame<'_> {
    /// Queues the message for one session, if its queue and the sum of all allow it.
    fn queue(
        &mut self,
        now: Instant,
        config: &Config,
        stats: &mut Stats,
        outbox: &mut HeapOutbox,
        member: &mut Member,
    ) -> Queued {
        let len = self.bytes.len();
        if member.phase != Phase::Open {
            stats.dropped_closed += 1;
            return Queued::Yes;
        }
        if len - LENGTH_FIELD > member.max_body as usize {
            stats.dropped_too_large += 1;
            return Queued::Yes;
        }
        let mut full = false;
        if self.latest.is_some() && outbox.supersede(&self.shared(), self.expires, config.max_queued) {
            stats.superseded += 1;
            stats.messages_out += 1;
            stats.bytes_out += len as u64;
            stats.queued = (stats.queued + outbox.len() as u64).saturating_sub(member.accounted as u64);
            member.accounted = outbox.len();
            return Queued::Yes;
        }
        if outbox.len() + len > config.max_queued {
            stats.expired += u64::from(outbox.expire(now));
        }
        while !outbox.is_empty() && outbox.len() + len > config.max_queued {
            full = true;
            if config.slow_consumer != SlowConsumer::DropOldest || !outbox.drop_oldest() {
                stats.dropped_slow += 1;
                return Queued::Full;
            }
            stats.dropped_slow += 1;
        }
        if stats.queued as usize + len > config.max_queued_total && !outbox.is_empty() {
            stats.dropped_memory += 1;
            return Queued::Full;
        }
        self.append(outbox);
        stats.messages_out += 1;
        stats.bytes_out += len as u64;
        stats.queued = (stats.queued + outbox.len() as u64).saturating_sub(member.accounted as u64);
        member.accounted = outbox.len();
        if full { Queued::Full } else { Queued::Yes }
    }

    /// Queues the message for a sibling, by the rules that hold for one session.
    fn queue_for_sibling(
        &mut self,
        now: Instant,
        config: &Config,
        stats: &mut Stats,
        me: u32,
        member: &mut Member,
        sibling: &mut Sibling,
    ) {
        if sibling.waiting() > 0 && sibling.waiting() + self.bytes.len() > config.max_queued {
            stats.dropped_relay += 1;
            return;
        }
        self.append(&mut sibling.outbox);
        stats.relayed += 1;
        if sibling.waiting() >= sibling.stall_at {
            let until = *sibling.behind.get_or_insert(now) + config.stall_for;
            if now < until {
                stats.stalls += u64::from(member.paused.is_none());
                member.paused = Some(Pause::Held { until });
                if !sibling.held.contains(&me) {
                    sibling.held.push(me);
                }
            }
        }
    }

    fn append(&mut self, outbox: &mut HeapOutbox) {
        if self.bytes.len() < self.share_from && self.expires == Instant::MAX && self.latest.is_none() {
            // Copied next to the other small ones: cheaper than a count of references each.
            if let Some((head, rest)) = self.head() {
                let _ = outbox.push(&[&head, rest]);
            }
            return;
        }
        let shared = self.shared();
        match self.latest {
            Some(seed) => outbox.push_latest(shared, self.expires, seed),
            None => outbox.push_shared(shared, self.expires),
        }
    }

    /// The head of the MSG, and what follows it.
    fn head(&self) -> Option<([u8; HEAD], &[u8])> {
        let (head, rest) = self.bytes.split_first_chunk::<HEAD>()?;
        let mut head = *head;
        layout::retime(&mut head, command::MSG, -(self.cut as i32));
        Some((head, rest))
    }

    /// The MSG, kept once for all its subscribers.
    fn shared(&mut self) -> Bytes {
        if self.shared.is_none()
            && let Some((head, rest)) = self.head()
        {
            let mut frame = BytesMut::with_capacity(self.bytes.len());
            frame.extend_from_slice(&head);
            frame.extend_from_slice(rest);
            self.shared = Some(frame.freeze());
        }
        self.shared.clone().unwrap_or_default()
    }
}
