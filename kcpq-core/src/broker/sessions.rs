//! The lives of sessions: opened by a first segment, read, filled into datagrams, closed.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::announce::Announcements;
use super::config::SlowConsumer;
use super::context::Context;
use super::delivery::{About, Publisher};
use super::dispatch::{self, Dispatch, Outcome};
use super::event::{Ended, Event, SessionId};
use super::foreign;
use super::groups;
use super::hand_over::HandOver;
use super::handshakes::Handshakes;
use super::hub::Hub;
use super::newcomers::Newcomers;
use super::party::Party;
use super::peer::{Peer, Transmit};
use super::receipts::Receipt;
use super::replays::{Key, Say};
#[cfg(feature = "sealed")]
use super::session::Greeting;
use super::session::{Due, Session};
use super::shards::{Relay, Told};
use super::strays::{MAX_STRAY, Strays};
use super::stream::StreamEvent;
use super::table::{self, Slot, Table};
use super::turn;
use crate::datagram::{Content, Framing, Protection, native};
#[cfg(feature = "sealed")]
use crate::hello::Hello;
use crate::hello::{CloseReason, Named};
use crate::kcp::{Command, Header};
#[cfg(feature = "sealed")]
use crate::seal::Transport;
use crate::session;
use crate::store::Gather;
use crate::subject::Pattern;
use crate::time::Duration;

/// All sessions of a broker, and what they share.
pub(super) struct Sessions<P: Peer> {
    pub(super) cx: Context<P>,
    pub(super) hub: Hub,
    pub(super) table: Table<P, Session>,
    pub(super) strays: Strays<P>,
    pub(super) newcomers: Newcomers<P>,
    /// The sessions that have not shown that they are where they say they are, oldest first, and some that have.
    pub(super) half_open: VecDeque<SessionId>,
    /// Datagrams for other shards.
    pub(super) forwards: VecDeque<(usize, Forward<P>)>,
    /// What there is for the streams of sessions.
    pub(super) streams: VecDeque<(SessionId, StreamEvent)>,
    pub(super) announcements: Announcements<P>,
    pub(super) hand_over: HandOver,
    pub(super) handshakes: Handshakes<P>,
}

/// A datagram for another broker of the same server, without its protection.
#[derive(Clone, Debug)]
pub struct Forward<P> {
    pub(super) from: P,
    pub(super) datagram: Box<[u8]>,
}

/// The session that is looked for is another shard's.
pub(super) struct Elsewhere;

/// It is not its turn yet.
pub(super) struct Later;

/// Most datagrams that wait to be handed to other shards.
const MAX_FORWARDS: usize = 1024;
/// How long an address has to answer before it is asked again.
const ANSWER_TIME: Duration = Duration::from_millis(100);

impl<P: Peer> Sessions<P> {
    // --- in ---

    /// The session that segments belong to, opened if they may do that; `None` if there is none, which is answered. Those of a
    /// peer that is not known wait for their turn, unless they come `late` to it.
    pub(super) fn find_or_open(
        &mut self,
        from: P,
        segments: &[u8],
        framing: Framing,
        late: bool,
    ) -> Result<Option<u32>, Later> {
        let Some((conv, sn)) = Header::peek(segments) else { return Ok(None) };
        let opens = sn.0 == 0
            && matches!(Header::split(segments, conv), Ok((header, data, _))
                if header.command == Command::Push && !data.is_empty());
        if let Some(index) = self.table.find(from, conv) {
            if opens && self.table.get(index).is_some_and(|slot| slot.session.is_beyond_its_beginning()) {
                // A straggler, or a client that was started again and has drawn the same number.
                self.strays.hint(&mut self.cx, from, conv);
            }
            return Ok(Some(index));
        }
        if !(late || self.newcomers.is_empty() && self.cx.turn.welcomes()) {
            return Err(Later);
        }
        if !opens {
            self.strays.hint(&mut self.cx, from, conv);
            return Ok(None);
        }
        self.cx.turn.welcome();
        let framing = if framing == Framing::Plain { framing } else { self.cx.config.compat_framing };
        let index = self.open(from, conv, framing);
        if index.is_none() {
            self.strays.refuse(&mut self.cx, from, conv, framing, segments);
        }
        Ok(index)
    }

    /// The session of this name; `None` if there is none. A datagram for another shard is handed over.
    pub(super) fn look_up(&mut self, from: P, name: u64, datagram: &[u8]) -> Result<Option<u32>, Elsewhere> {
        let Self { cx, table, forwards, .. } = self;
        let (own, count) = cx.shard;
        let shard = name % count;
        if shard == own {
            return Ok(table.find_named(name));
        }
        if forwards.len() < MAX_FORWARDS {
            cx.stats.forwarded += 1;
            forwards.push_back((shard as usize, Forward { from, datagram: datagram.into() }));
        } else {
            cx.stats.dropped_forward += 1;
        }
        Err(Elsewhere)
    }

    /// The same; if there is none that is answered.
    pub(super) fn find_named(&mut self, from: P, name: u64, datagram: &[u8]) -> Result<Option<u32>, Elsewhere> {
        let found = self.look_up(from, name, datagram)?;
        if found.is_none() {
            self.strays.hint_named(&mut self.cx, from, name, false);
        }
        Ok(found)
    }

    /// Ends a session whose client says so by the token that WELCOME told: it gives the session up, and CLOSE may not have
    /// come through (PROTOCOL.md 4.7). False if the datagram is something else. It is never answered.
    pub(super) fn handle_farewell(&mut self, from: P, datagram: &[u8]) -> bool {
        let Some(Named { id, .. }) = native::read_reset(datagram) else { return false };
        if !self.cx.names.is_farewell(id, datagram) {
            return false;
        }
        if let Ok(Some(index)) = self.look_up(from, id, datagram)
            && let Some(slot) = self.table.take(index)
        {
            self.remove(slot, Ended::ByClient(CloseReason::Normal));
        }
        true
    }

    /// Opens a session, unless a limit keeps it out.
    fn open(&mut self, peer: P, conv: u32, framing: Framing) -> Option<u32> {
        if !self.make_room(peer) {
            return None;
        }
        let mut session = Session::new(&mut self.cx, conv, framing);
        session.member().local = peer.is_local();
        let id = self.table.insert(peer, Some(conv), session);
        self.half_open.push_back(id);
        if self.half_open.len() > 2 * self.table.len() + 64 {
            let table = &self.table;
            self.half_open.retain(|id| is_half_open(table, *id));
        }
        self.cx.stats.sessions_opened += 1;
        self.cx.tell(Event::Opened { id, peer });
        Some(id.slot)
    }

    /// The same for a sealed one for which there is room, and of which it is known whose it is and where. It is taken
    /// out.
    #[cfg(feature = "sealed")]
    pub(super) fn open_named(&mut self, peer: P, named: Named, transport: Transport) -> Option<Box<Slot<P, Session>>> {
        let session = Session::new(&mut self.cx, 0, Framing::Plain);
        let id = self.table.insert(peer, None, session);
        let mut slot = self.table.take(id.slot)?;
        slot.session.begin_sealed(named, transport);
        self.table.name(&mut slot, named.id);
        self.table.count(&mut slot);
        self.cx.stats.sessions_opened += 1;
        self.cx.tell(Event::Opened { id, peer });
        Some(slot)
    }

    /// The client of a sealed session that was opened has said this before.
    #[cfg(feature = "sealed")]
    pub(super) fn greet(&mut self, slot: &mut Slot<P, Session>, hello: &Hello<'_>, named: Named) {
        let cx = &mut self.cx;
        let (_, me) = slot.session.split(slot.id);
        cx.stats.native_sessions += u64::from(me.member.greet(hello));
        let greeting = Greeting::new(hello, Some(named));
        slot.session.greet(greeting, cx.max_datagram(&slot.peer), slot.peer.is_local());
        slot.session.greet_sealed(cx.now);
        let (id, peer, name) = (slot.id, slot.peer, Some(named.id));
        cx.comeback.on_session(cx.now, peer);
        cx.tell(Event::Greeted { id, peer, version: greeting.version, name });
    }

    /// Why there would be no room for a session of `peer`, if so.
    #[cfg(feature = "sealed")]
    pub(super) fn keeps_out(&self, peer: P) -> Option<CloseReason> {
        let Self { cx, table, half_open, .. } = self;
        let full = table.len() >= cx.config.max_sessions && half_open.is_empty();
        match cx.stops {
            true => Some(CloseReason::Shutdown),
            false if full || table.of_host(peer.host()) >= cx.config.max_sessions_per_host => Some(CloseReason::Limit),
            false => None,
        }
    }

    /// True if there is room for a session of `peer`.
    pub(super) fn make_room(&mut self, peer: P) -> bool {
        if self.cx.stops {
            return false;
        }
        // One socket of an original client carries one session: a new conversation from there means that the old one
        // is gone (PROTOCOL.md 4.4). Native clients say CLOSE, and a stranger must not end their sessions.
        if let Some(old) = self.table.newest(peer)
            && self.table.get_mut(old).is_some_and(|slot| !slot.session.is_native())
            && let Some(slot) = self.table.take(old)
        {
            self.remove(slot, Ended::ByBroker(CloseReason::Superseded));
        }
        if self.table.len() >= self.cx.config.max_sessions {
            self.drop_half_open();
        }
        let config = &self.cx.config;
        if self.table.len() >= config.max_sessions || self.table.of_host(peer.host()) >= config.max_sessions_per_host {
            self.cx.stats.sessions_refused += 1;
            self.cx.tell(Event::Refused { peer });
            return false;
        }
        true
    }

    /// Drops the oldest session of which nothing shows that it is where it says it is: whoever fills the table with forged
    /// addresses keeps nobody out.
    fn drop_half_open(&mut self) {
        while let Some(id) = self.half_open.pop_front() {
            if is_half_open(&self.table, id)
                && let Some(slot) = self.table.take(id.slot)
            {
                self.cx.stats.half_open_sessions += 1;
                return self.remove(slot, Ended::HalfOpen);
            }
        }
    }

    /// Lets a session take in a datagram, or read on where it had paused.
    pub(super) fn receive(&mut self, index: u32, input: Option<(P, &[u8], Content<'_>)>) {
        let Some(slot) = self.table.take(index) else { return };
        if input.is_some() && slot.session.is_sealed() {
            // In the clear somebody else has written it.
            self.cx.stats.unopened_datagrams += 1;
            return self.table.put_back(slot, false);
        }
        self.receive_by(slot, input);
    }

    /// The same for a session that is taken out, and a datagram that is known to be its own.
    pub(super) fn receive_by(&mut self, mut slot: Box<Slot<P, Session>>, input: Option<(P, &[u8], Content<'_>)>) {
        let Self { cx, hub, table, .. } = self;
        slot.session.limit_memory(cx, slot.id);
        slot.session.before_input();
        let (now, max_datagram) = (cx.now, cx.max_datagram(&slot.peer));
        if let Some((_, _, Content::Native(..))) = input {
            slot.session.begin_native(now);
        }
        let again = input.is_none() && cx.turn.is_lent();
        let arrived = slot.session.member().stream.as_mut().map(|stream| stream.take_arrived());
        let (mut intake, me) = slot.session.split(slot.id);
        let mut dispatch = Dispatch::new(cx, hub, table, me, max_datagram);
        dispatch.publish_backlog();
        let (mut understood, mut read) = (true, 0);
        match (input, &arrived) {
            (Some((_, datagram, content)), _) => {
                understood = intake.handle_datagram(now, datagram, content, &mut dispatch);
            }
            (None, None) => intake.read_on(now, &mut dispatch),
            (None, Some(arrived)) => read = intake.read_stream(arrived, &mut dispatch),
        }
        let Outcome { greeted, end } = dispatch.finish();
        if cx.turn.is_lent() {
            cx.turn.settle(&mut slot.session.member().account, again);
        }
        if let (Some(stream), Some(arrived)) = (&mut slot.session.member().stream, arrived) {
            stream.put_back(arrived, read);
        }
        cx.stats.malformed_datagrams += u64::from(!understood);
        if let Some((from, datagram, content)) = input {
            slot.session.heard(cx, content, datagram.len(), slot.peer.is_local());
            if matches!(content, Content::Native(..)) {
                self.follow(&mut slot, from);
            }
        }
        let Self { cx, table, .. } = self;
        slot.session.after_input(cx);
        if let Some(greeting) = greeted {
            if let Some(name) = greeting.name {
                table.name(&mut slot, name.id);
                slot.session.agree(name);
            }
            slot.session.greet(greeting, max_datagram, slot.peer.is_local());
            let name = greeting.name.map(|name| name.id);
            cx.comeback.on_session(now, slot.peer);
            cx.tell(Event::Greeted { id: slot.id, peer: slot.peer, version: greeting.version, name });
        }
        match end {
            None | Some(Ended::HalfOpen | Ended::Lost) => {}
            Some(why @ Ended::ByClient(_)) => {
                // Nothing more is for it but the acknowledgement of its CLOSE.
                let mut out = [0; MAX_STRAY];
                let is_bare = slot.session.is_sealed();
                let begin = if is_bare { 0 } else { self.cx.headroom.into() };
                if let Some(words) = slot.session.last_words(now, &mut out).and_then(|len| out.get(begin..len)) {
                    if is_bare {
                        self.strays.push_bare(slot.peer, words);
                    } else {
                        self.strays.push(slot.peer, words);
                    }
                }
                return self.remove(slot, why);
            }
            Some(Ended::ByBroker(reason)) => self.begin_closing(&mut slot, reason),
            Some(Ended::Broken(_)) => self.begin_closing(&mut slot, CloseReason::Protocol),
        }
        if slot.session.is_proved_now() && self.table.count(&mut slot) > self.cx.config.max_sessions_per_host {
            self.cx.stats.sessions_refused += 1;
            self.cx.tell(Event::Refused { peer: slot.peer });
            self.begin_closing(&mut slot, CloseReason::Limit);
        }
        if !slot.session.as_member().announced && slot.session.as_member().is_present() {
            self.say_opened(&mut slot);
        }
        self.put_back(slot, true);
    }

    /// A datagram of a session came `from` this address. If it is another one than before, and nothing newer came from there,
    /// it is asked to prove itself; when it has, the session goes on there.
    fn follow(&mut self, slot: &mut Slot<P, Session>, from: P) {
        let Self { cx, table, strays, .. } = self;
        // What may be done on this machine cannot be taken along to others.
        if from == slot.peer || slot.session.is_let_in_as_local() && !from.is_local() {
            return;
        }
        let known = slot.elsewhere.filter(|elsewhere| elsewhere.peer == from);
        if known.is_some_and(|known| slot.session.proof() == Some(known.token)) {
            cx.stats.sessions_moved += 1;
            cx.tell(Event::Moved { id: slot.id, from: slot.peer, to: from });
            table.move_to(slot, from);
            slot.session.member().local &= from.is_local();
            slot.session.on_new_path(cx.now);
        } else if slot.session.is_newest() && known.is_none_or(|known| known.asked_at + ANSWER_TIME <= cx.now) {
            let token = known.map_or_else(|| cx.names.draw(), |known| known.token);
            slot.elsewhere = Some(table::Elsewhere { peer: from, token, asked_at: cx.now });
            let mut out = [0; MAX_STRAY];
            let written = slot.session.write_challenge(cx.now, token, &mut out);
            if let Some(challenge) = written.and_then(|len| out.get(..len)) {
                if slot.session.is_sealed() {
                    strays.push_bare(from, challenge);
                } else {
                    strays.push(from, challenge);
                }
            }
        }
    }

    /// The system has refused a datagram of `len` bytes to `peer` as too long for the path.
    pub(super) fn on_too_long(&mut self, peer: P, len: usize) {
        if let Some(index) = self.table.newest(peer)
            && let Some(slot) = self.table.wake(index)
        {
            slot.session.on_too_long(self.cx.now, len);
        }
    }

    /// A session that was taken out and worked on goes on; with `wakes` it may have something to send.
    pub(super) fn put_back(&mut self, mut slot: Box<Slot<P, Session>>, wakes: bool) {
        slot.session.settle(&mut self.cx, slot.id);
        if slot.session.is_put_off() {
            self.table.put_last(slot);
        } else {
            self.table.put_back(slot, wakes);
        }
    }

    /// The same for one that has more to send than others, or more that has to be done.
    fn put_last(&mut self, mut slot: Box<Slot<P, Session>>) {
        slot.session.settle(&mut self.cx, slot.id);
        self.table.put_last(slot);
    }

    /// Sees to those whom it has concerned what others did, and who could not be worked on meanwhile.
    pub(super) fn see_to_others(&mut self) {
        let Context { slow, released, notices, emptied, memory, .. } = &self.cx;
        if !(slow.is_empty() && released.is_empty() && notices.is_empty()) || *emptied || memory.changed {
            self.see_to_them();
            // Which may find some slow, and let others go on.
            while self.publish_notices() {
                self.see_to_them();
            }
        }
    }

    #[cold]
    fn see_to_them(&mut self) {
        while let Some(index) = self.cx.slow.pop_front() {
            let Some(slot) = self.table.get_mut(index) else { continue };
            self.cx.stats.slow_consumers += 1;
            self.cx.tell(Event::Slow { id: slot.id, peer: slot.peer });
            self.say_slow(index);
            if self.cx.config.slow_consumer == SlowConsumer::Disconnect {
                self.cx.stats.slow_sessions += 1;
                self.close(index, CloseReason::SlowConsumer);
            }
        }
        if core::mem::take(&mut self.cx.memory.changed) {
            self.share_memory();
        }
        if core::mem::take(&mut self.cx.emptied) {
            self.hub.review_receivers(&mut self.cx, &mut self.table);
        }
        while let Some(party) = self.cx.released.pop_front() {
            let throttle = match party {
                Party::Session(index) => self.table.wake(index).map(|slot| slot.session.throttle()),
                Party::Shard(index) => self.hub.shards.throttle(index),
            };
            if let Some(throttle) = throttle {
                throttle.release(self.cx.now, &self.cx.config);
                throttle.unlist();
            }
        }
    }

    /// Memory for what has come has become short, or less so: whose turn is it?
    fn share_memory(&mut self) {
        let Self { cx, table, .. } = self;
        if !cx.memory.is_short(cx.stats.received) {
            for id in cx.memory.release_all().collect::<Vec<_>>() {
                if table.get(id.slot).is_some_and(|slot| slot.id == id)
                    && let Some(slot) = table.wake(id.slot)
                {
                    slot.session.release_share(cx, id);
                }
            }
            return;
        }
        let goes_on = |id: &SessionId| {
            table.get(id.slot).is_some_and(|slot| slot.id == *id && slot.session.as_member().share.has_turn())
        };
        cx.memory.forget_turns(goes_on);
        let held = |table: &Table<P, Session>, id: &SessionId| {
            table.get(id.slot).filter(|slot| slot.id == *id).map_or(0, |slot| slot.session.as_member().share.held())
        };
        while let Some(id) = cx.memory.next_waiting(cx.stats.received, |id| held(table, id)) {
            if let Some(slot) = table.get_mut(id.slot).filter(|slot| slot.id == id)
                && slot.session.begin_turn(cx, id)
            {
                cx.memory.add_turn(id);
                table.wake(id.slot);
            }
        }
        cx.memory.watch(cx.now);
    }

    /// Ends those who keep others waiting for memory and do not get on themselves.
    #[cold]
    fn end_stuck(&mut self) {
        for index in self.table.indices() {
            if let Some(slot) = self.table.get_mut(index)
                && slot.session.is_stuck(&mut self.cx)
                && let Some(mut slot) = self.table.take(index)
            {
                self.cx.stats.stuck_sessions += 1;
                slot.session.forget_received(&mut self.cx);
                self.begin_closing(&mut slot, CloseReason::Limit);
                self.put_back(slot, true);
            }
        }
        self.cx.memory.watch(self.cx.now);
    }

    /// Those to whom nothing gets through give way to others, if too much waits for all.
    fn relieve(&mut self) {
        let Self { cx, table, .. } = self;
        let Some(places) = cx.relief.search(cx.now, table.places()) else { return };
        for index in places {
            if cx.stats.queued as usize <= cx.config.max_queued_total / 2 {
                return cx.relief.pause(cx.now);
            }
            if let Some(slot) = table.get_mut(index as u32) {
                let (queue, outlet) = slot.session.outlet();
                if outlet.give_way(cx, queue) {
                    cx.slow.push_back(index as u32);
                }
            }
        }
    }

    /// Lets timers run out.
    pub(super) fn handle_timeout(&mut self) {
        if self.hub.shards.give_up(self.cx.now) {
            self.close_all();
        }
        while let Some(slot) = self.table.expire(self.cx.now) {
            let index = slot.id.slot;
            let due = slot.session.due(&self.cx);
            self.on_due(index, due);
        }
        self.cx.stats.kept_lapsed += self.hub.kept.lapse(self.cx.now);
        if self.cx.memory.is_review_due(self.cx.now) {
            self.end_stuck();
        }
        self.relieve();
        let awaited = self.cx.comeback.is_awaited();
        for index in self.cx.comeback.end(self.cx.now) {
            self.table.wake(index);
        }
        if awaited && !self.cx.comeback.is_awaited() {
            self.say_of_server("started");
        }
        self.on_presence_timeout();
        self.let_go();
        self.hub.review_shards(&mut self.cx, &mut self.table);
        self.see_to_others();
    }

    /// Does about a session what is due.
    fn on_due(&mut self, index: u32, due: Due) {
        match due {
            Due::Transmit => {
                self.table.wake(index);
            }
            Due::Idle => {
                self.cx.stats.idle_sessions += 1;
                self.close(index, CloseReason::Idle);
            }
            Due::Stalled => {
                self.cx.stats.stalled_sessions += 1;
                self.close(index, CloseReason::Stalled);
            }
            Due::Forged => {
                if let Some(slot) = self.table.take(index) {
                    self.cx.stats.half_open_sessions += 1;
                    self.remove(slot, Ended::HalfOpen);
                }
            }
            Due::Over(reason) => {
                if let Some(slot) = self.table.take(index) {
                    self.remove(slot, Ended::ByBroker(reason));
                }
            }
        }
    }

    // --- out ---

    /// Tells those who had sessions in the server's last life, as far as it is their turn.
    pub(super) fn announce(&mut self) {
        let sealed = self.handshakes.is_on();
        let Self { cx, table, strays, announcements, .. } = self;
        while let Some((peer, name)) = announcements.poll(cx.now, |peer| table.newest(peer).is_some()) {
            strays.announce(cx, peer, name, sealed);
        }
    }

    /// Fills `out` with datagrams of one session; `None` when no session has any, or the turn is over.
    pub(super) fn poll_transmit(
        &mut self,
        protection: &mut Protection,
        out: &mut [u8],
        mut gather: Option<&mut Gather>,
    ) -> Option<Transmit<P>> {
        while !self.cx.turn.is_over()
            && let Some((mut slot, is_last)) = self.table.take_ready(self.cx.turn.is_half_over())
        {
            let (index, to) = (slot.id.slot, slot.peer);
            if slot.session.throttle().due(self.cx.now).is_some() {
                let (_, mut me) = slot.session.split(slot.id);
                self.hub.review(&mut self.cx, &mut self.table, &mut Publisher::session(&mut me));
            }
            if slot.session.goes_on(&mut self.cx, is_last) {
                self.table.put_back(slot, false);
                self.receive(index, None);
                self.see_to_others();
                // What it is told of that goes out before more is read of it.
                let Some(still) = self.table.take(index) else { continue };
                slot = still;
            }
            let goes_on = slot.session.catch_up(&mut self.cx, &self.hub, slot.id);
            slot.session.feed(&mut self.cx, &mut self.hub, slot.id);
            while let Some(event) = slot.session.poll_stream(&mut self.cx) {
                self.streams.push_back((slot.id, event));
            }
            let gather = gather.as_deref_mut();
            let batch = slot.session.poll_transmit(self.cx.now, protection, &mut self.cx.waits, out, gather);
            if batch.is_none() {
                let deadline = slot.session.poll_timeout(&self.cx.config);
                // What was heard or sent just now may have shown that its time is over.
                let due = if deadline.at > self.cx.now { Due::Transmit } else { slot.session.due(&self.cx) };
                if due != Due::Transmit {
                    self.put_back(slot, false);
                    self.on_due(index, due);
                    self.see_to_others();
                    continue;
                }
                self.table.arm(&mut slot, deadline);
            }
            match slot.session.has_ended() {
                Some(reason) => self.remove(slot, Ended::ByBroker(reason)),
                // There may be more; the others come first, and before one with much of it those who have little.
                None if goes_on || batch.is_some_and(|batch| batch.len >= turn::BULK) => self.put_last(slot),
                None => self.put_back(slot, batch.is_some()),
            }
            self.see_to_others();
            if let Some(session::Transmit { len, segment, asks }) = batch {
                self.cx.turn.send(len);
                return Some(Transmit { to, len, segment, asks });
            }
            if goes_on {
                self.cx.turn.search();
            }
        }
        self.cx.turn.end();
        None
    }

    // --- the end ---

    /// Opens no more sessions and ends all: those that other shards still have messages for as soon as these came.
    pub(super) fn drain(&mut self) {
        self.stop();
        self.cx.draining = true;
        if !self.hub.shards.say_last(self.cx.now + self.cx.config.linger) {
            self.close_all();
        }
    }

    /// Opens no more sessions, and lets those go over this time that can be told to.
    pub(super) fn hand_over(&mut self, over: Duration) {
        self.stop();
        let sessions = self.table.indices().into_iter().filter_map(|index| Some(self.table.get(index)?.id)).collect();
        self.hand_over.begin(self.cx.now, over, sessions);
        self.let_go();
        self.see_to_others();
    }

    /// Opens no more sessions, and says so.
    fn stop(&mut self) {
        if !core::mem::replace(&mut self.cx.stops, true) {
            self.say_of_server("stopping");
            self.see_to_others();
        }
    }

    /// Ends the sessions whose turn it is. Original clients would not know, and stay.
    fn let_go(&mut self) {
        while let Some(id) = self.hand_over.poll(self.cx.now) {
            let is_told = |slot: &Slot<P, Session>| slot.id == id && slot.session.understands_close();
            if self.table.get(id.slot).is_some_and(is_told) {
                self.close(id.slot, CloseReason::Shutdown);
            }
        }
    }

    pub(super) fn close_all(&mut self) {
        for index in self.table.indices() {
            self.close(index, CloseReason::Shutdown);
        }
    }

    /// Ends a session that whoever runs the server does not want. False if there is none, or if it is about to end.
    pub(super) fn kick(&mut self, id: SessionId) -> bool {
        let there =
            self.table.get(id.slot).is_some_and(|slot| slot.id == id && slot.session.closes_because().is_none());
        if there {
            self.cx.stats.sessions_kicked += 1;
            self.close(id.slot, CloseReason::Kicked);
            self.see_to_others();
        }
        there
    }

    /// Begins to close the session at `index`.
    fn close(&mut self, index: u32, reason: CloseReason) {
        let Some(mut slot) = self.table.take(index) else { return };
        self.begin_closing(&mut slot, reason);
        self.put_back(slot, true);
    }

    /// The same for one that is taken out.
    pub(super) fn begin_closing(&mut self, slot: &mut Slot<P, Session>, reason: CloseReason) {
        if slot.session.closes_because().is_some() {
            return;
        }
        self.unsubscribe_all(slot);
        self.end_will(slot, reason != CloseReason::Shutdown);
        if reason == CloseReason::SlowConsumer {
            self.cx.stats.dropped_closed += self.give_back(slot);
        }
        slot.session.begin_closing(&mut self.cx, reason);
    }

    /// Gives what waits for a session that has left its queue groups to others there. Says for how many messages there is nobody.
    fn give_back(&mut self, slot: &mut Slot<P, Session>) -> u64 {
        let returns = slot.session.take_returns();
        self.hub.give_back(&mut self.cx, &mut self.table, slot.id.slot, None, returns)
    }

    fn unsubscribe_all(&mut self, slot: &mut Slot<P, Session>) {
        for (pattern, latest) in slot.session.take_patterns() {
            if let Ok(pattern) = Pattern::new(&pattern, &foreign::limits(self.cx.config.subjects)) {
                self.hub.unsubscribe(pattern, slot.id.slot, latest);
                self.cx.stats.subscriptions -= 1;
            }
        }
        let Self { cx, hub, .. } = self;
        let limits = foreign::limits(cx.config.subjects);
        // What it is a member of it knows until it is gone: what waits for it then goes to others.
        for (number, text) in slot.session.member().membership.iter().flat_map(|membership| membership.iter()) {
            if let Ok(pattern) = Pattern::new(groups::parts(text).0, &limits)
                && hub.part(text, pattern, slot.id.slot, number)
            {
                cx.stats.subscriptions -= 1;
            }
        }
        let ended = hub.end_replays(slot.id, &mut slot.session.member().replays);
        cx.stats.subscriptions -= ended.len() as u64;
    }

    /// A session that was taken out is no more.
    pub(super) fn remove(&mut self, mut slot: Box<Slot<P, Session>>, why: Ended) {
        self.unsubscribe_all(&mut slot);
        self.end_will(&mut slot, !matches!(why, Ended::ByClient(_)));
        self.say_closed(&slot, why);
        let undelivered = self.give_back(&mut slot) + slot.session.undelivered();
        slot.session.outlet().1.close(&mut self.cx);
        if slot.session.as_member().stream.is_some() {
            self.streams.push_back((slot.id, StreamEvent::Ended));
        }
        slot.session.release_memory(&mut self.cx, slot.id);
        self.cx.stats.dropped_closed += undelivered;
        self.cx.stats.native_sessions -= u64::from(slot.session.is_native());
        slot.session.count(&mut self.cx.transport);
        self.table.forget(&slot);
        let member = slot.session.member();
        let identity = member.pass.as_ref().and_then(|pass| pass.name().cloned());
        self.cx.has_left(member);
        self.cx.tell(Event::Closed { id: slot.id, peer: slot.peer, why, undelivered, identity });
    }

    /// Tells publishers what became of messages that other shards were asked about.
    pub(super) fn hand_out_receipts(&mut self) {
        let Self { cx, hub, table, .. } = self;
        while let Some(counted) = hub.receipts.poll_counted() {
            hub.shards.tell_counted(counted);
        }
        while let Some(Receipt { publisher: id, ack, text, is_counted }) = hub.receipts.poll() {
            if let Some(slot) = table.get_mut(id.slot).filter(|slot| slot.id == id) {
                slot.session.answer_with(is_counted, |control| dispatch::receipt(control, ack, &text));
                cx.stats.confirmed += 1;
                table.wake(id.slot);
            }
        }
    }

    /// The gateway has said something about a session's subscription to what is stored.
    fn on_say(&mut self, Key { session: id, serial }: Key, say: Say) {
        let Self { cx, table, .. } = self;
        let Some(slot) = table.get_mut(id.slot).filter(|slot| slot.id == id) else { return };
        let Some(replays) = &mut slot.session.member().replays else { return };
        let Some(number) = replays.number(serial) else { return };
        match say {
            Say::Opened { first } if replays.on_opened(number) => {
                slot.session.answer(dispatch::begun(number, first), true);
            }
            Say::Opened { .. } => {}
            Say::Message(frame) => replays.take(number, frame),
            Say::Refused { refusal, text } => {
                let Some((_, _, was_open)) = replays.remove(number) else { return };
                cx.stats.subscriptions -= 1;
                cx.stats.subscriptions_refused += 1;
                // One that had begun was answered then.
                slot.session.answer(dispatch::refused(number, refusal, &text), !was_open);
            }
        }
        table.wake(id.slot);
    }

    // --- other shards ---

    /// Takes in what another broker has told.
    pub(super) fn handle_relay(&mut self, from: u8, relay: Relay) {
        let Self { cx, hub, table, .. } = self;
        match relay.0 {
            Told::Messages { frames, expires, lane } => {
                hub.publish_relayed(cx, table, from, (lane, frames), expires);
            }
            Told::Value { subject, stamp, frame, expires, age } => {
                hub.keep_relayed(cx, (stamp, from), &subject, frame.as_ref(), (expires, age));
                let bytes = frame.map_or(0, |frame| frame.len());
                hub.shards.has_placed(from, bytes, About::default(), Vec::new());
            }
            Told::Placed { bytes, report, answers } => {
                hub.shards.on_placed(cx, from, bytes, report);
                hub.shards.on_answers(from, &answers, &mut hub.receipts);
                self.hand_out_receipts();
            }
            Told::Interest { pattern, wanted } => {
                if let Ok(pattern) = Pattern::new(&pattern, &foreign::limits(cx.config.subjects)) {
                    hub.set_interest(from, pattern, wanted);
                }
            }
            Told::Members { text, count } => {
                if let Ok(pattern) = Pattern::new(groups::parts(&text).0, &foreign::limits(cx.config.subjects)) {
                    hub.set_members(from, &text, pattern, count);
                }
            }
            Told::Known => {
                hub.shards.on_known(from, cx.now);
                while let Some((id, answer)) = hub.shards.poll_answer() {
                    if let Some(slot) = table.get_mut(id.slot).filter(|slot| slot.id == id) {
                        slot.session.answer(answer, true);
                        table.wake(id.slot);
                    }
                }
            }
            Told::Abroad { pattern, is } => {
                if let Ok(pattern) = Pattern::new(&pattern, &foreign::limits(cx.config.subjects)) {
                    hub.set_abroad(pattern, is);
                }
            }
            Told::Stored { answers } => {
                for (ticket, outcome) in answers {
                    hub.receipts.on_store(ticket, outcome);
                }
                self.hand_out_receipts();
            }
            Told::Counted { ticket, sessions } => {
                hub.receipts.on_answer(ticket, sessions);
                self.hand_out_receipts();
            }
            Told::Will { key } => cx.void_wills_of(table, key),
            Told::Say { key, say } => self.on_say(key, say),
            Told::Ask { .. } => {} // only the gateway is asked
            Told::Last => {
                if hub.shards.on_last(from) {
                    self.close_all();
                }
            }
        }
        self.see_to_others();
    }
}

/// True if the address of a session that exists may be forged.
fn is_half_open<P: Peer>(table: &Table<P, Session>, id: SessionId) -> bool {
    table.get(id.slot).is_some_and(|slot| slot.id == id && slot.session.is_half_open())
}
