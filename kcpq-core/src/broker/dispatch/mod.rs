//! What a session's frames do: one frame after the other, replies and messages in the order of their causes.

mod subscriptions;

use alloc::format;
use core::ops::ControlFlow;

use super::context::Context;
use super::delivery::Publisher;
use super::event::{Ended, Event};
use super::foreign;
use super::guard::Forbidden;
use super::hub::Hub;
use super::message::{self, Message};
use super::peer::Peer;
use super::session::{Greeting, Me, Session};
use super::table::Table;
use crate::datagram::Framing;
use crate::frame::{Flaw, Frame, FrameError, Properties, PropertyError, Reader, Sink, Whole, command, properties};
use crate::hello::{CloseReason, Hello, MAX_WELCOME, Named, Notice, VERSION, features};
use crate::outbox::{HeapOutbox, Outbox};
use crate::store::{Heap, HeapInbox, Inbox};
use crate::subject::{Pattern, Subject, SubjectError};

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
    fn wants(&mut self, _: &Reader<Heap>, _: &[u8]) -> bool {
        !self.is_over() && !self.me.pauses()
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
        Self { cx, hub, table, me, max_datagram, outcome: Outcome::default() }
    }

    pub(super) fn finish(self) -> Outcome {
        self.outcome
    }

    /// Acts on a frame, in place or assembled in the inbox.
    fn act(&mut self, Whole { head, in_place }: Whole<'_>, inbox: &mut HeapInbox) {
        let bytes = in_place.unwrap_or_else(|| inbox.bytes());
        let frame = head.frame(bytes);
        if self.cx.guard.is_some() && !self.is_let_in(frame.command) {
            return;
        }
        match frame.command {
            command::PUB => {
                let subject = match Subject::from_bytes(frame.subject, &self.cx.config.subjects) {
                    Ok(subject) => subject,
                    Err(error) => return self.publish_foreign(frame.subject, error, bytes),
                };
                let share_from = self.hub.share_from();
                if in_place.is_some() || bytes.len() < share_from {
                    let _ = self.publish(subject, &mut Message::published(bytes, share_from));
                } else {
                    self.publish_assembled(inbox);
                }
            }
            command::PUBX => self.publish_extended(frame, bytes),
            command::SUB => self.subscribe(frame),
            command::UNSUB => self.unsubscribe(frame),
            command::PING => self.reply(command::PONG, &[], &[]),
            command::HELLO => self.greet(frame),
            command::CLOSE => self.outcome.end = Some(Ended::ByClient(CloseReason::decode(frame.payload))),
            unknown => {
                self.cx.stats.unknown_commands += 1;
                self.error(&format!("handle error: unknown command: {unknown}"));
            }
        }
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

    /// True if a message may be published. Its publisher is told of it now and then if not.
    fn may_publish(&mut self, subject: Subject<'_>, len: usize) -> bool {
        let Self { cx, me, .. } = self;
        let Context { guard: Some(guard), now, .. } = &mut *cx else { return true };
        let (now, Some(pass)) = (*now, me.member.pass.as_deref_mut()) else { return false };
        match guard.may_publish(now, pass, subject, len) {
            Ok(()) => return true,
            Err(Forbidden::Subject) => {
                cx.stats.messages_denied += 1;
                me.member.outlet.counts.denied += 1;
                if pass.tells(now, subject) {
                    let (identity, subject) = (pass.name().cloned(), subject.as_str());
                    cx.tell(Event::PublishDenied { id: me.id, identity, subject: subject.into() });
                    let text = format!("not permitted to publish to {subject}");
                    notify(me.control, me.member.native, &text, Notice::PublishDenied(subject));
                }
            }
            Err(Forbidden::Excess { rate }) => {
                cx.stats.dropped_excess += 1;
                me.member.outlet.counts.excess += 1;
                if pass.tells_excess(now) {
                    cx.tell(Event::Excess { id: me.id, identity: pass.name().cloned() });
                    self.error(&format!("more than {rate} bytes in a second: messages are dropped"));
                }
            }
        }
        false
    }

    /// True if a pattern may be subscribed to.
    fn may_subscribe(&mut self, pattern: Pattern<'_>) -> bool {
        let Self { cx, me, .. } = self;
        let (Some(guard), Some(pass)) = (&mut cx.guard, me.member.pass.as_deref_mut()) else { return false };
        let may = guard.may_subscribe(pass, pattern);
        if !may {
            let identity = pass.name().cloned();
            cx.tell(Event::SubscriptionDenied { id: me.id, identity, pattern: pattern.as_str().into() });
        }
        may
    }

    // --- messages ---

    /// False if nobody is subscribed.
    fn publish(&mut self, subject: Subject<'_>, message: &mut Message<'_>) -> bool {
        let cx = &mut *self.cx;
        cx.stats.messages_in += 1;
        cx.stats.bytes_in += message.frame_len() as u64;
        let counts = &mut self.me.member.outlet.counts;
        counts.messages_in += 1;
        counts.bytes_in += message.frame_len() as u64;
        if cx.guard.is_some() && !self.may_publish(subject, message.frame_len()) {
            return true;
        }
        let Self { cx, hub, table, me, .. } = self;
        let routed = hub.publish(cx, table, Publisher::session(me), subject, message);
        cx.stats.unrouted += u64::from(!routed);
        me.member.outlet.counts.unrouted += u64::from(!routed);
        routed
    }

    /// A message with properties: some are for the server, the others go on to those who know such.
    fn publish_extended(&mut self, frame: Frame<'_>, bytes: &[u8]) {
        let limits = &self.cx.config.subjects;
        let subject = match Subject::from_bytes(frame.subject, limits) {
            Ok(subject) => subject,
            Err(error) => return self.refuse_message(error),
        };
        let read = frame.message().ok_or(PropertyError::Malformed).and_then(|(message, properties)| {
            let properties = Properties::parse(properties.as_bytes())?;
            if properties.member().is_some() {
                return Err(PropertyError::Malformed); // only a server says that
            }
            match properties.reply().map_or(Ok(()), |reply| Subject::new(reply, limits).map(|_| ())) {
                Ok(()) => Ok((frame.payload.len() - message.len(), properties)),
                Err(error) => Err(PropertyError::Reply(error)),
            }
        });
        match read {
            Ok((cut, properties)) => {
                let expires = properties.ttl().map(|ttl| self.cx.now + ttl);
                let (properties, share_from) = (properties.for_subscribers(), self.hub.share_from());
                let mut message = Message::extended(bytes, cut, properties, expires, share_from);
                if !self.publish(subject, &mut message)
                    && let Some(reply) = properties.reply()
                    && self.me.member.outlet.is_extended()
                {
                    // Who waits for an answer need not wait.
                    self.reply(command::MSGX, reply.as_bytes(), &properties::NOBODY);
                }
            }
            Err(error) => {
                self.cx.stats.messages_refused += 1;
                self.me.member.outlet.counts.refused += 1;
                self.error(&format!("{error}"));
            }
        }
    }

    /// A subject that is not valid: original clients may have their reasons.
    fn publish_foreign(&mut self, subject: &[u8], error: SubjectError, bytes: &[u8]) {
        let limits = self.cx.config.subjects;
        let written = if self.me.member.native { Err(error) } else { foreign::subject(subject, &limits) };
        let written = written.as_deref().map_err(|error| *error);
        match written.and_then(|text| Subject::new(text, &foreign::limits(limits))) {
            Ok(subject) => {
                let _ = self.publish(subject, &mut Message::published(bytes, self.hub.share_from()));
            }
            Err(error) => self.refuse_message(error),
        }
    }

    fn refuse_message(&mut self, error: SubjectError) {
        self.cx.stats.messages_refused += 1;
        self.me.member.outlet.counts.refused += 1;
        self.tell_refused(error);
        self.error(&format!("{error}"));
    }

    /// Once for each session: a client that goes on must not fill a log.
    fn tell_refused(&mut self, why: SubjectError) {
        if !core::mem::replace(&mut self.me.member.refusal_told, true) {
            self.cx.tell(Event::SubjectRefused { id: self.me.id, why });
        }
    }

    /// The assembled bytes themselves go to the subscribers.
    fn publish_assembled(&mut self, inbox: &mut HeapInbox) {
        let msg = message::take_assembled(inbox);
        // As they were parsed before, but from where they lie now.
        if let Ok(frame) = Frame::parse(&msg, &self.cx.config.frames)
            && let Ok(subject) = Subject::from_bytes(frame.subject, &self.cx.config.subjects)
        {
            let _ = self.publish(subject, &mut Message::made(&msg));
        }
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
        let named = first && takes_native && Framing::to_client(hello.features) == Framing::Plain;
        let name = named.then(|| cx.name());
        self.outcome.greeted = Some(Greeting::new(&hello, name));
        let mut payload = [0; MAX_WELCOME];
        let len = welcome(cx, &hello, self.max_datagram, name).encode(&mut payload);
        self.reply(command::WELCOME, &[], &payload[..len]);
    }

    fn error(&mut self, text: &str) {
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
        features: features::SERVER,
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
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// Appends a frame. A heap outbox has room; how much may wait is bounded where frames are read.
fn push(queue: &mut HeapOutbox, command: u8, subject: &[u8], payload: &[u8]) {
    if let Some(head) = Frame::head(command, subject.len(), payload.len()) {
        let _ = queue.push(&[&head, subject, payload], None);
    }
}
