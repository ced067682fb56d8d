//! The life of a session: opened by its first segment, read, filled into datagrams, closed.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::event::{Ended, Event, SessionId};
use super::inbound::{Inbound, Want};
use super::siblings::Stranger;
use super::table::{Member, Pause, Phase, Slot};
use super::{Broker, Peer, Stateless, Transmit};
use crate::datagram::{Content, Framing, Link, SAFE_DATAGRAM};
use crate::frame::{self, command};
use crate::hello::{CloseReason, Reset};
use crate::kcp::{self, Command, Header, Origin};
use crate::session::{self, Native, Session};
use crate::store::{Heap, HeapInbox, HeapOutbox, Outbox};
use crate::subject::Pattern;

impl<P: Peer> Broker<P> {
    /// The session that segments belong to, opened if they may do that; `None` if there is none, which is answered.
    pub(super) fn session_of(&mut self, from: P, segments: &[u8], framing: Framing) -> Option<u32> {
        let (conv, sn) = Header::peek(segments)?;
        if let Some(index) = self.table.find(from, conv) {
            return Some(index);
        }
        let opens = matches!(Header::split(segments, conv), Ok((header, data, _))
            if header.command == Command::Push && sn.0 == 0 && !data.is_empty());
        let framing = if framing == Framing::Plain { framing } else { self.config.compat_framing };
        let index = self.open(from, conv, framing, opens);
        if index.is_none() {
            self.answer_stray(from, conv, framing, segments, opens);
        }
        index
    }

    /// Opens a session if the datagram may do that.
    pub(super) fn open(&mut self, peer: P, conv: u32, framing: Framing, opens: bool) -> Option<u32> {
        if !opens || self.draining {
            return None;
        }
        // One socket of an original client carries one session: a new conversation from there means that the old one
        // is gone (PROTOCOL.md 4.4). Native clients say CLOSE, and a stranger must not end their sessions.
        if let Some(old) = self.table.newest(peer)
            && self.table.get_mut(old).is_some_and(|slot| !slot.member.native)
            && let Some(slot) = self.table.take(old)
        {
            self.remove(slot, Ended::ByBroker(CloseReason::Superseded));
        }
        if self.table.len() >= self.config.max_sessions
            || self.table.of_host(peer.host()) >= self.config.max_sessions_per_host
        {
            self.stats.sessions_refused += 1;
            self.events.push(&mut self.stats, Event::Refused { peer });
            return None;
        }
        let session = self.new_session(conv, framing);
        let inbox_limit = (self.config.frames.max_body as usize).saturating_add(frame::LENGTH);
        let reader = frame::Reader::new(self.config.frames, HeapInbox::new(inbox_limit, 0));
        let member = Member::new(self.seed, self.now);
        let id = self.table.insert(peer, session, reader, member);
        self.stats.sessions_opened += 1;
        self.events.push(&mut self.stats, Event::Opened { id, peer });
        Some(id.slot)
    }

    pub(super) fn new_session(&self, conv: u32, framing: Framing) -> Session<Heap> {
        let parts = session::Parts {
            kcp: kcp::Parts::heap(&self.config.kcp),
            control: HeapOutbox::default(),
            outbox: HeapOutbox::default(),
            marks: VecDeque::new(),
        };
        Session::new(
            conv,
            self.config.kcp,
            Link::new(framing, self.inner(self.config.max_datagram.min(SAFE_DATAGRAM))),
            parts,
        )
    }

    /// Lets a session take in a datagram, or read on where it had paused.
    pub(super) fn receive(&mut self, index: u32, input: Option<(&[u8], Content<'_>)>) {
        let Some(mut slot) = self.table.take(index) else { return };
        let Slot { id, peer, session, reader, member, .. } = &mut *slot;
        let Session { kcp, link, control, outbox, .. } = session;
        let max_datagram = if peer.is_local() { self.config.local_datagram } else { self.config.native_datagram };
        let mut inbound = Inbound {
            max_datagram,
            draining: self.draining,
            config: &self.config,
            now: self.now,
            epoch: self.epoch,
            seed: self.seed,
            deferred: &mut self.deferred,
            reach: &mut self.reach,
            table: &mut self.table,
            router: &mut self.router,
            stats: &mut self.stats,
            events: &mut self.events,
            siblings: &mut self.siblings,
            me: *id,
            control,
            outbox,
            member,
            greeted: None,
            end: None,
        };
        let understood = match input {
            Some((datagram, content)) => {
                let mut sink = |bytes: &[u8]| inbound.read(reader, bytes);
                session::handle_datagram(kcp, link, self.now, datagram, content, &mut sink)
            }
            None => {
                kcp.recv(self.now, |bytes| inbound.read(reader, bytes));
                true
            }
        };
        let (greeted, end) = (inbound.greeted, inbound.end);
        self.stats.malformed_datagrams += u64::from(!understood);
        if let Some((_, content)) = input {
            slot.member.heard = self.now;
            // An original peer is answered as it last spoke (PROTOCOL.md 4.4).
            let framing = match content {
                Content::Plain(_) => Framing::Plain,
                Content::Fec(_) | Content::Parity => self.config.compat_framing,
            };
            let max_datagram = self.inner(self.config.max_datagram);
            if !slot.member.native && !slot.session.link.is(framing, max_datagram) {
                let local = slot.peer.is_local();
                slot.session.set_original(framing, max_datagram, local);
            }
        }
        slot.session.after_input(self.now);
        if let Some(greeting) = greeted {
            let max_datagram = max_datagram.min(greeting.max_datagram.max(MIN_DATAGRAM));
            let native = Native {
                max_datagram: self.inner(max_datagram),
                overhead: self.protection.headroom() as u16,
                local: slot.peer.is_local(),
                features: greeting.features,
            };
            slot.session.set_native(greeting.framing, &native);
            self.events.push(&mut self.stats, Event::Greeted { id: slot.id, version: greeting.version });
        }
        match end {
            None => {}
            Some(Ended::ByClient(_)) => {
                // Nothing more is for it but the acknowledgement of its CLOSE.
                self.acknowledge_last(&mut slot);
                return self.remove(slot, end.unwrap_or(Ended::ByBroker(CloseReason::Normal)));
            }
            Some(Ended::ByBroker(reason)) => self.begin_closing(&mut slot, reason),
            Some(Ended::Broken(_)) => self.begin_closing(&mut slot, CloseReason::Protocol),
        }
        self.settle(&mut slot);
        self.table.put_back(slot);
        self.table.wake(index);
    }

    /// What messages of another broker need to find their sessions.
    pub(super) fn stranger_inbound<'b>(&'b mut self, slot: u32, stranger: &'b mut Stranger) -> Inbound<'b, P> {
        let Stranger { control, outbox, member } = stranger;
        Inbound {
            max_datagram: 0,
            draining: false,
            config: &self.config,
            now: self.now,
            epoch: self.epoch,
            seed: self.seed,
            deferred: &mut self.deferred,
            reach: &mut self.reach,
            table: &mut self.table,
            router: &mut self.router,
            stats: &mut self.stats,
            events: &mut self.events,
            siblings: &mut self.siblings,
            me: SessionId { slot, generation: 0 },
            control,
            outbox,
            member,
            greeted: None,
            end: None,
        }
    }

    /// Sends what a session that leaves still owes: one datagram of acknowledgements.
    pub(super) fn acknowledge_last(&mut self, slot: &mut Slot<P>) {
        let mut out = [0; MAX_STATELESS];
        if let Some(len) = slot.session.poll_transmit(self.now, &mut out) {
            self.replies.push_back((slot.peer, out[..len].into()));
        }
    }

    /// The longest datagram inside the protection, if `whole` is the longest outside.
    pub(super) fn inner(&self, whole: u16) -> u16 {
        whole.saturating_sub(self.protection.headroom() as u16)
    }

    /// Fills `out` with datagrams of one session.
    pub(super) fn fill(&mut self, slot: &mut Slot<P>, out: &mut [u8]) -> Option<Transmit<P>> {
        let headroom = self.protection.headroom();
        let size = headroom + usize::from(slot.session.link.max_datagram());
        let mut len = 0;
        let mut count = 0;
        let mut first = 0;
        // A batch of equal datagrams: it goes on while they are as long as they can be. A longer one, which asks about the
        // path, goes alone.
        while let Some(room) = out.get_mut(len..)
            && (count == 0 || room.len() >= size)
            && count < MAX_BATCH
        {
            let limit = if count == 0 { room.len() } else { size };
            let Some(inner) = room.get_mut(headroom..limit) else { break };
            let Some(written) = slot.session.poll_transmit(self.now, inner) else { break };
            let written = headroom + written;
            self.protection.seal(&mut room[..written]);
            first = if count == 0 { written } else { first };
            len += written;
            count += 1;
            if written != size {
                break;
            }
        }
        let segment = (count > 1).then_some(first);
        (count > 0).then_some(Transmit { to: slot.peer, len, segment, asks: first > size })
    }

    /// Brings the totals up to date after a session was worked on.
    pub(super) fn settle(&mut self, slot: &mut Slot<P>) {
        self.stats.expired += slot.session.take_expired();
        let queued = slot.session.outbox.len();
        self.stats.queued = (self.stats.queued + queued as u64).saturating_sub(slot.member.accounted as u64);
        slot.member.accounted = queued;
        if slot.member.slow && queued <= self.config.max_queued / 2 {
            slot.member.slow = false;
        }
        self.table.release(&mut slot.member, queued, self.config.stall_at);
    }

    /// Sets the timer of a session that has nothing to send now.
    pub(super) fn arm(&mut self, slot: &mut Slot<P>) {
        let own = match slot.member.phase {
            Phase::Open => slot.member.heard + self.config.idle_timeout,
            Phase::Closing { until, .. } => until,
        };
        let own = match slot.member.paused {
            Some(Pause::Held { until }) if until > self.now => own.min(until),
            _ => own,
        };
        let at = slot.session.poll_timeout().map_or(own, |deadline| deadline.at.min(own));
        self.table.arm(slot, at);
    }

    /// Begins to close the session at `index`.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason) {
        let Some(mut slot) = self.table.take(index) else { return };
        self.begin_closing(&mut slot, reason);
        self.settle(&mut slot);
        self.table.put_back(slot);
        self.table.wake(index);
    }

    /// No more messages for this session; what waits goes out, then CLOSE if it understands that.
    pub(super) fn begin_closing(&mut self, slot: &mut Slot<P>, reason: CloseReason) {
        if slot.member.phase != Phase::Open {
            return;
        }
        self.unsubscribe_all(slot);
        slot.member.phase = Phase::Closing { until: self.now + self.config.linger, reason };
        if reason == CloseReason::SlowConsumer {
            // It would not get through what waits; that is why it is closed.
            self.stats.dropped_slow += slot.session.outbox.frames() as u64;
            slot.session.outbox.clear();
        }
        if slot.member.native {
            // Behind the messages, which it is to get before.
            let _ = slot.session.message(command::CLOSE, &[], &[reason.code()]);
        } else if reason == CloseReason::SlowConsumer {
            let _ = slot.session.message(command::ERR, b"slow consumer: the session is closed", &[]);
        }
    }

    pub(super) fn unsubscribe_all(&mut self, slot: &mut Slot<P>) {
        for (pattern, latest) in slot.member.patterns.drain() {
            if let Ok(pattern) = Pattern::new(&pattern, &self.config.subjects) {
                self.router.unsubscribe(pattern, Want { slot: slot.id.slot, latest }.number());
                self.siblings.leave(pattern.as_str());
                self.stats.subscriptions -= 1;
            }
        }
    }

    /// A session that was taken out is no more.
    pub(super) fn remove(&mut self, mut slot: Box<Slot<P>>, why: Ended) {
        self.unsubscribe_all(&mut slot);
        self.table.release(&mut slot.member, 0, self.config.stall_at);
        let undelivered = slot.session.outbox.frames() as u64 + slot.session.in_doubt();
        self.stats.dropped_closed += undelivered;
        self.stats.queued = self.stats.queued.saturating_sub(slot.member.accounted as u64);
        self.stats.native_sessions -= u64::from(slot.member.native);
        self.table.forget(&slot);
        self.events.push(&mut self.stats, Event::Closed { id: slot.id, peer: slot.peer, why, undelivered });
    }

    pub(super) fn close_doomed(&mut self) {
        while let Some(index) = self.table.doomed.pop() {
            self.close(index, CloseReason::SlowConsumer);
        }
    }

    /// A datagram that belongs to no session: a newcomer that a limit keeps out is told so, anything else gets a hint
    /// that its session is not known here. Both cost no state, and are limited in number.
    pub(super) fn answer_stray(&mut self, peer: P, conv: u32, framing: Framing, segments: &[u8], opens: bool) {
        let second = self.now.as_micros() / 1_000_000;
        if second != self.stateless.second {
            self.stateless = Stateless { second, spent: 0 };
        }
        if self.stateless.spent >= self.config.stateless_replies {
            return;
        }
        self.stateless.spent += 1;
        self.stats.stateless_replies += 1;
        if !opens {
            self.replies.push_back((peer, Box::new(Reset { conv }.encode())));
            return;
        }
        let reason = if self.draining { CloseReason::Shutdown } else { CloseReason::Limit };
        let text = if self.draining { "the server stops" } else { "too many sessions" };
        let mut session = self.new_session(conv, framing);
        let _ = session.kcp.handle_datagram(self.now, segments, Origin::Wire, <[u8]>::len);
        // CLOSE first: to a native client ERR alone would be the answer of an original server. Original ones pass CLOSE over.
        let _ = session.control(command::CLOSE, text.as_bytes(), &[reason.code()]);
        let _ = session.control(command::ERR, text.as_bytes(), &[]);
        let mut out = [0; MAX_STATELESS];
        if let Some(len) = session.poll_transmit(self.now, &mut out) {
            self.replies.push_back((peer, out[..len].into()));
        }
    }
}

/// Most datagrams in one batch (the kernel's limit for segmentation offload).
const MAX_BATCH: usize = 64;
/// Longest datagram that leaves without a session.
const MAX_STATELESS: usize = 512;
/// What a client may ask for at least; less makes no sense and would leave no room for data.
const MIN_DATAGRAM: u16 = 128;
