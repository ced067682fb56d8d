//! What a session's frames do: one frame after the other, replies and messages in the order of their causes.

mod publish;
mod replays;
mod runs;
mod subscriptions;
mod will;

pub(super) use self::publish::{read, receipt};
pub(super) use self::replays::{begun, refused};

use alloc::format;
use core::ops::ControlFlow;

use super::context::Context;
use super::event::{Ended, Event};
use super::hub::Hub;
use super::message::{self, Message};
use super::peer::Peer;
use super::run::Alike;
use super::session::{Greeting, Me, Session};
use super::table::Table;
use super::turn;
use crate::datagram::Framing;
use crate::frame::{Flaw, Frame, FrameError, Head, Reader, Sink, Whole, command};
use crate::hello::{CloseReason, Hello, MAX_WELCOME, Named, Notice, VERSION, beginning, features};
use crate::lane::Lane;
use crate::outbox::{HeapOutbox, Outbox};
use crate::store::{Heap, HeapInbox, Inbox};
use crate::subject::Pattern;

/// The longest text that an original client takes (docs/original.md 5.1).
const MAX_TEXT: usize = 4096;

/// One session whose bytes are read, and what they act on.
pub(super) struct Dispatch<'b, P: Peer> {
    cx: &'b mut Context<P>,
    hub: &'b mut Hub,
    table: &'b mut Table<P, Session>,
    me: Me<'b>,
    /// The longest datagram that a native client there may send.
    max_datagram: u16,
    /// Of which frames are read.
    lane: Lane,
    outcome: Outcome,
}

/// What the bytes lead to, once the engine has been left.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// HELLO came.
    pub(super) greeted: Option<Greeting>,
    /// The session is to end.
    pub(super) end: Option<Ended>,
}

impl<P: Peer> Sink<Heap> for Dispatch<'_, P> {
    fn wants(&mut self, reader: &Reader<Heap>, input: &[u8]) -> bool {
        if self.is_over() {
            return false;
        }
        if self.me.pauses(self.lane) {
            return self.me.fills_backlog(self.lane) && self.is_long(reader, input);
        }
        !(self.cx.turn.is_used_up() && self.is_put_off() || self.cx.comeback.is_awaited() && self.waits(reader, input))
    }

    fn run(&mut self, reader: &Reader<Heap>, input: &[u8]) -> usize {
        #[cfg(test)]
        if self.cx.runs.is_none() {
            return 0;
        }
        Alike::begin(input, reader.limits()).map_or(0, |messages| self.publish_alike(messages))
    }

    fn frame(&mut self, frame: Whole<'_>, inbox: &mut HeapInbox) -> ControlFlow<()> {
        self.act(frame, inbox);
        ControlFlow::Continue(())
    }

    fn flaw(&mut self, flaw: Flaw) {
        let error = match flaw {
            Flaw::Oversize { actual, .. } => FrameError::BodyTooLarge {
                limit: self.cx.config.frames.max_body,
                actual: u32::try_from(actual).unwrap_or(u32::MAX),
            },
            Flaw::Frame(error) | Flaw::Stream(error) => error,
        };
        self.cx.stats.broken_sessions += 1;
        self.error(&format!("{error}"));
        self.outcome.end = Some(Ended::Broken(error));
    }

    #[cfg(feature = "lanes")]
    fn enter(&mut self, lane: Lane) {
        self.lane = lane;
    }

    fn is_over(&self) -> bool {
        self.outcome.end.is_some() || self.cx.draining || !self.me.is_open()
    }
}

impl<'b, P: Peer> Dispatch<'b, P> {
    pub(super) fn new(
        cx: &'b mut Context<P>,
        hub: &'b mut Hub,
        table: &'b mut Table<P, Session>,
        me: Me<'b>,
        max_datagram: u16,
    ) -> Self {
        Self { cx, hub, table, me, max_datagram, lane: Lane::NORMAL, outcome: Outcome::default() }
    }

    pub(super) fn finish(self) -> Outcome {
        self.outcome
    }

    /// Acts on a frame, in place or assembled in the inbox.
    fn act(&mut self, Whole { head, in_place }: Whole<'_>, inbox: &mut HeapInbox) {
        let bytes = in_place.unwrap_or_else(|| inbox.bytes());
        let frame = head.frame(bytes);
        self.cx.turn.charge_frame(bytes.len());
        if self.cx.guard.is_some() && !self.is_let_in(frame.command) {
            return;
        }
        match frame.command {
            command::PUB if self.me.fills_backlog(self.lane) => {
                let msg = in_place.map_or_else(|| message::take_assembled(inbox), message::msg);
                self.me.member.backlog.push(msg);
            }
            command::PUB => {
                let share_from = self.hub.share_from();
                if in_place.is_none() && bytes.len() >= share_from {
                    return self.publish_made(&message::take_assembled(inbox));
                }
                let mut message = Message::published(bytes, share_from);
                let mut checked = core::mem::take(&mut self.cx.subject);
                match checked.check(frame.subject, &self.cx.config.subjects) {
                    Ok(subject) => _ = self.publish(subject, &mut message, false),
                    Err(error) => self.publish_foreign(frame.subject, error, bytes),
                }
                self.cx.subject = checked;
            }
            command::PUBX => self.publish_extended(frame, bytes),
            command::SUB => self.subscribe(frame),
            command::UNSUB => self.unsubscribe(frame),
            command::WILL if self.me.member.native => self.leave_will(frame),
            command::MSGACK if self.me.member.native => self.settle(frame),
            command::PING => self.reply(command::PONG, &[], &[]),
            command::HELLO => self.greet(frame),
            command::CLOSE => self.outcome.end = Some(Ended::ByClient(CloseReason::decode(frame.payload))),
            unknown => {
                self.cx.stats.unknown_commands += 1;
                self.error(&format!("handle error: unknown command: {unknown}"));
            }
        }
    }

    /// True if a message is next that its subscribers are likely to share.
    #[cold]
    fn is_long(&self, reader: &Reader<Heap>, input: &[u8]) -> bool {
        let capacity = reader.capacity();
        let is_long =
            |head: Head| head.command == command::PUB && (self.hub.share_from()..=capacity).contains(&head.frame_len());
        reader.upcoming(input).is_some_and(is_long)
    }

    /// Publishes what has come while the session was held back, as long as it is not again, or put off.
    pub(super) fn publish_backlog(&mut self) {
        while !(self.me.member.backlog.is_empty()
            || self.is_over()
            || self.me.pauses(Lane::NORMAL)
            || self.cx.turn.is_used_up() && self.is_put_off())
        {
            if let Some(msg) = self.me.member.backlog.pop() {
                self.publish_made(&msg);
            }
        }
    }

    /// What may be done for it is used up, or not known yet. True if that is all in this turn, and others come first.
    #[inline(never)]
    fn is_put_off(&mut self) -> bool {
        let Self { cx, me, .. } = self;
        if cx.turn.lend(&mut me.member.account) {
            return false;
        }
        cx.stats.turn_waits += 1;
        me.member.outlet.counts.turn_waits += 1;
        me.put_off();
        true
    }

    /// True if a message is next, which waits for those who had sessions before a restart.
    #[cold]
    fn waits(&mut self, reader: &Reader<Heap>, input: &[u8]) -> bool {
        let is_message = |head: Head| matches!(head.command, command::PUB | command::PUBX);
        let waits = reader.upcoming(input).is_some_and(is_message);
        if waits {
            self.cx.stats.restart_waits += 1;
            self.cx.comeback.hold(self.me.id.slot);
            self.me.waits();
        }
        waits
    }

    // --- who may do what ---

    /// True if the session may be here. Its first frame shows what kind of client it is, if no handshake has.
    fn is_let_in(&mut self, command: u8) -> bool {
        let Self { cx, me, .. } = self;
        if me.member.pass.is_some() {
            if command == command::HELLO && !me.member.native && !me.is_known_by_handshake() {
                self.error("HELLO has to be the first frame");
                return false;
            }
            return true;
        }
        let native = command == command::HELLO;
        let credential = cx.credential(me.member, native);
        let Err(reason) = cx.identify(me.id, me.member, credential) else { return true };
        if !native {
            self.error(&format!("{reason}"));
        } else if !core::mem::replace(&mut me.member.native, true) {
            cx.stats.native_sessions += 1; // it understands CLOSE
        }
        self.outcome.end = Some(Ended::ByBroker(reason));
        false
    }

    /// True if a pattern may be subscribed to.
    fn may_subscribe(&mut self, pattern: Pattern<'_>) -> bool {
        let Self { cx, me, .. } = self;
        let may = cx.may_subscribe(me.member.pass.as_mut(), pattern);
        if !may {
            let identity = me.member.pass.as_ref().and_then(|pass| pass.name().cloned());
            cx.tell(Event::SubscriptionDenied { id: me.id, identity, pattern: pattern.as_str().into() });
        }
        may
    }

    // --- the session ---

    fn greet(&mut self, frame: Frame<'_>) {
        let Some(hello) = Hello::decode(frame.payload) else {
            return self.error("HELLO is cut short");
        };
        let Self { cx, me, .. } = self;
        let first = me.member.greet(&hello);
        cx.stats.native_sessions += u64::from(first);
        let takes_native = features::SUPPORTED & hello.features & features::NATIVE != 0;
        let named =
            first && takes_native && me.member.stream.is_none() && Framing::to_client(hello.features) == Framing::Plain;
        let name = named.then(|| cx.name());
        self.outcome.greeted = Some(Greeting::new(&hello, name));
        let mut payload = [0; MAX_WELCOME];
        let mut welcome = welcome(cx, &hello, self.max_datagram, name);
        if me.member.stream.is_some() {
            welcome.features &= !features::OF_DATAGRAMS;
        }
        let len = welcome.encode(&mut payload);
        self.reply(command::WELCOME, &[], &payload[..len]);
    }

    fn error(&mut self, text: &str) {
        self.cx.turn.charge(turn::ENTRY);
        self.reply(command::ERR, cut(text).as_bytes(), &[]);
    }

    fn reply(&mut self, command: u8, subject: &[u8], payload: &[u8]) {
        push(self.me.control, command, subject, payload);
    }
}

/// What the server says of itself to a client that has said this.
pub(super) fn welcome<'c, P>(
    cx: &'c Context<P>,
    hello: &Hello<'_>,
    max_datagram: u16,
    session: Option<Named>,
) -> Hello<'c> {
    let config = &cx.config;
    Hello {
        version: spoken(hello),
        features: features::SERVER
            | if cx.keeps { features::KEEPS } else { 0 }
            | if cx.stores { features::STORES } else { 0 }
            | if cx.replays { features::REPLAYS } else { 0 },
        max_datagram,
        window: config.kcp.recv_window,
        max_body: config.frames.max_body,
        max_subject: config.subjects.max_len,
        max_tokens: config.subjects.max_tokens,
        keep_alive: u16::try_from(config.idle_timeout.as_millis() / 1000).unwrap_or(u16::MAX),
        epoch: cx.epoch,
        name: &config.name,
        session,
    }
}

/// The version that both speak.
pub(super) fn spoken(hello: &Hello<'_>) -> u8 {
    VERSION.min(hello.version.max(1))
}

/// Says ERR: with what it is about to a native client, for people to others.
pub(super) fn notify(control: &mut HeapOutbox, native: bool, text: &str, notice: Notice<'_>) {
    let (kind, about) = notice.parts();
    let payload = if native { &[&[kind], about.as_bytes()].concat()[..] } else { &[] };
    push(control, command::ERR, cut(text).as_bytes(), payload);
}

/// What an original client takes of a text.
fn cut(text: &str) -> &str {
    beginning(text, MAX_TEXT)
}

/// Appends a frame. A heap outbox has room; how much may wait is bounded where frames are read.
fn push(queue: &mut HeapOutbox, command: u8, subject: &[u8], payload: &[u8]) {
    if let Some(head) = Frame::head(command, subject.len(), payload.len()) {
        let _ = queue.push(&[&head, subject, payload], None);
    }
}
