//! What leaves without a session: answers to datagrams that belong to none, and last words of sessions that are gone.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::context::Context;
use super::session;
use crate::datagram::native;
use crate::datagram::{Framing, Protection};
use crate::frame::command;
#[cfg(feature = "sealed")]
use crate::hello::Named;
use crate::hello::{CloseReason, MAX_SUCCESSORS, Reset};
use crate::kcp::Origin;
#[cfg(feature = "sealed")]
use crate::seal::Transport;

/// One of them.
#[derive(Debug)]
pub(super) struct Stray<P> {
    pub(super) to: P,
    pub(super) datagram: Box<[u8]>,
    /// It belongs to a sealed session, and is not protected otherwise.
    pub(super) bare: bool,
}

/// Datagrams that wait to be sent: answers, at most a second's budget, and last words, at most one for each datagram
/// taken in.
#[derive(Debug)]
pub(super) struct Strays<P> {
    waiting: VecDeque<Stray<P>>,
    /// The second that the budget is for, and what was spent of it.
    second: u64,
    spent: u32,
}

/// Why a newcomer is kept out, and in words.
fn refusal<P>(cx: &Context<P>) -> (CloseReason, &'static str) {
    if cx.stops { (CloseReason::Shutdown, "the server stops") } else { (CloseReason::Limit, "too many sessions") }
}

/// Longest datagram that leaves without a session.
pub(super) const MAX_STRAY: usize = 512;

impl<P: Copy> Strays<P> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), second: 0, spent: 0 }
    }

    /// Keeps a datagram, which is protected when it leaves.
    pub(super) fn push(&mut self, to: P, datagram: &[u8]) {
        self.waiting.push_back(Stray { to, datagram: datagram.into(), bare: false });
    }

    /// Keeps one of a sealed session, or of a handshake.
    pub(super) fn push_bare(&mut self, to: P, datagram: &[u8]) {
        self.waiting.push_back(Stray { to, datagram: datagram.into(), bare: true });
    }

    pub(super) fn poll(&mut self) -> Option<Stray<P>> {
        self.waiting.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Tells a peer that its session is not known here: a reason to ask, never a verdict (PROTOCOL.md 4.6).
    pub(super) fn hint(&mut self, cx: &mut Context<P>, peer: P, conv: u32) {
        if self.may_answer(cx) {
            self.push(peer, &Reset { conv }.encode());
        }
    }

    /// The same to one that calls its session by name; `sealed` if it was a sealed datagram.
    pub(super) fn hint_named(&mut self, cx: &mut Context<P>, peer: P, name: u64, sealed: bool) {
        if self.may_answer(cx) {
            let bare = sealed || cx.headroom == 0;
            self.reset(cx, peer, name, bare);
        }
    }

    /// Tells a peer of the server's last life that its session is no more; which may have been `sealed` or not.
    pub(super) fn announce(&mut self, cx: &Context<P>, peer: P, name: u64, sealed: bool) {
        if cx.headroom > 0 {
            self.reset(cx, peer, name, false);
        }
        if cx.headroom == 0 || sealed {
            self.reset(cx, peer, name, true);
        }
    }

    fn reset(&mut self, cx: &Context<P>, to: P, name: u64, bare: bool) {
        self.waiting.push_back(Stray { to, datagram: native::reset(cx.names.named(name)).as_slice().into(), bare });
    }

    /// Tells a newcomer, which sent these segments, that a limit keeps it out or that the server stops.
    pub(super) fn refuse(&mut self, cx: &mut Context<P>, peer: P, conv: u32, framing: Framing, segments: &[u8]) {
        if !self.may_answer(cx) {
            return;
        }
        let ((reason, text), mut payload) = (refusal(cx), [0; 1 + MAX_SUCCESSORS]);
        let mut session = session::transport(cx, conv, framing);
        let _ = session.kcp.handle_datagram(cx.now, segments, Origin::Wire, <[u8]>::len);
        // CLOSE first: to a native client ERR alone would be the answer of an original server. Original ones pass CLOSE over.
        let _ = session.control(command::CLOSE, text.as_bytes(), reason.encode(&cx.config.successors, &mut payload));
        let _ = session.control(command::ERR, text.as_bytes(), &[]);
        let mut out = [0; MAX_STRAY];
        let written = session.poll_transmit(cx.now, &mut Protection::default(), &mut out);
        if let Some(datagram) = written.and_then(|len| out.get(cx.headroom.into()..len)) {
            self.push(peer, datagram);
        }
    }

    /// The same to one that has confirmed a sealed session for which there is no room any more: in that session, of
    /// which nothing is kept.
    #[cfg(feature = "sealed")]
    pub(super) fn refuse_sealed(&mut self, cx: &mut Context<P>, peer: P, named: Named, keys: Transport) {
        if !self.may_answer(cx) {
            return;
        }
        let ((reason, text), mut payload) = (refusal(cx), [0; 1 + MAX_SUCCESSORS]);
        let mut session = session::transport(cx, 0, Framing::Plain);
        session.kcp.prove();
        session.begin_sealed(named, keys);
        session.greet_sealed(cx.now);
        let _ = session.control(command::CLOSE, text.as_bytes(), reason.encode(&cx.config.successors, &mut payload));
        let mut out = [0; MAX_STRAY];
        let written = session.poll_transmit(cx.now, &mut Protection::default(), &mut out);
        if let Some(datagram) = written.and_then(|len| out.get(..len)) {
            self.push_bare(peer, datagram);
        }
    }

    /// All of them cost no state, and are limited in number.
    fn may_answer(&mut self, cx: &mut Context<P>) -> bool {
        let second = cx.now.as_micros() / 1_000_000;
        if second != self.second {
            (self.second, self.spent) = (second, 0);
        }
        let may = self.spent < cx.config.stateless_replies;
        self.spent += u32::from(may);
        cx.stats.stateless_replies += u64::from(may);
        may
    }
}
