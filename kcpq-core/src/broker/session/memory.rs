//! Memory for what has come of a session and waits: how much it may take in, and what it has (PROTOCOL.md 6).

use super::Session;
use crate::broker::context::Context;
use crate::broker::event::SessionId;
use crate::broker::memory::{Progress, Wish};

impl Session {
    /// To be called before session `id` takes something in.
    pub(in crate::broker) fn limit_memory<P>(&mut self, cx: &Context<P>, id: SessionId) {
        if self.member.share.limited || cx.memory.is_short(cx.stats.received) {
            self.set_room(cx, id);
        }
    }

    /// It may take in so much, or anything.
    #[cold]
    fn set_room<P>(&mut self, cx: &Context<P>, id: SessionId) -> usize {
        let transport = &self.transport;
        let (ahead, frames, waiting) = (transport.ahead(), transport.announced(), transport.waiting());
        let wish = Wish { stranger: self.is_half_open(), ahead, frames, waiting, paused: self.member.paused.is_some() };
        let room = || self.member.share.room(&cx.memory, cx.stats.received, id, wish);
        let room = cx.memory.is_short(cx.stats.received).then(room);
        self.member.share.limited = room.is_some();
        match &mut self.member.stream {
            None => self.transport.set_room(cx.now, room),
            Some(stream) => stream.set_room(room),
        }
        room.map_or(usize::MAX, |room| room.next)
    }

    /// What it has is counted.
    pub(super) fn count_held<P>(&mut self, cx: &mut Context<P>) {
        let Self { transport, member } = self;
        let streamed = member.stream.as_ref().map_or(0, |stream| stream.held());
        let held = (transport.held() + member.backlog.held() + streamed) as u64;
        let before = self.member.share.set_held(held);
        if held != before {
            cx.stats.received = (cx.stats.received + held).saturating_sub(before);
            if held < before {
                cx.memory.on_released();
            }
        }
    }

    /// It was worked on, and there are limits.
    #[cold]
    pub(super) fn settle_share<P>(&mut self, cx: &mut Context<P>, id: SessionId) {
        let mut room = self.set_room(cx, id);
        if room == 0 {
            self.transport.forget_helpers();
            self.count_held(cx);
            room = self.set_room(cx, id);
        }
        let waits = self.member.share.settle(&mut cx.memory, id, room, self.member.paused.is_some());
        cx.stats.receive_waits += u64::from(waits);
    }

    /// It is its turn, if it waits for that: its peer is told.
    pub(in crate::broker) fn begin_turn<P>(&mut self, cx: &Context<P>, id: SessionId) -> bool {
        let progress = self.progress();
        let begins = self.member.share.begin_turn(cx.now, progress, self.member.paused.is_some());
        if begins {
            self.set_room(cx, id);
        }
        begins
    }

    /// There is enough memory for all.
    pub(in crate::broker) fn release_share<P>(&mut self, cx: &Context<P>, id: SessionId) {
        self.member.share.release();
        self.set_room(cx, id);
    }

    /// True if it keeps others waiting for memory and does not get on itself. One that is held back, put off, or about
    /// to end, need not. What is only kept to rebuild lost segments with makes room for those who wait.
    pub(in crate::broker) fn is_stuck<P>(&mut self, cx: &mut Context<P>) -> bool {
        if self.member.share.has_much() {
            self.transport.forget_helpers();
            self.count_held(cx);
        }
        let now = cx.now;
        let judged = self.member.is_open() && !self.member.throttle.holds() && !self.is_put_off();
        let progress = self.progress();
        self.member.share.is_stuck(now, progress, judged)
    }

    fn progress(&self) -> Progress {
        let came = || {
            // What waits for earlier segments has not got anywhere yet.
            self.stats().bytes_received.saturating_sub(self.transport.kcp.held() as u64)
        };
        let bytes = self.member.stream.as_ref().map_or_else(came, |stream| stream.read());
        Progress { bytes, messages: self.member.outlet.counts.messages_in }
    }

    /// What has come of it is of no interest any more.
    pub(in crate::broker) fn forget_received<P>(&mut self, cx: &mut Context<P>) {
        self.transport.forget_received();
        self.member.backlog.clear();
        if let Some(stream) = &mut self.member.stream {
            stream.take_arrived();
        }
        self.count_held(cx);
    }

    /// It is no more.
    pub(in crate::broker) fn release_memory<P>(&mut self, cx: &mut Context<P>, id: SessionId) {
        cx.stats.received = cx.stats.received.saturating_sub(self.member.share.set_held(0));
        cx.memory.on_ended(id, &self.member.share);
    }
}
