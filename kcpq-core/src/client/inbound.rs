//! What comes from the server: frames are read when the user asks for events, one at a time.

use super::Client;
use super::event::{Disconnect, Event, Message, RequestId};
use super::phase::Phase;
use super::subscriptions::SubscriptionId;
use super::will::Wills;
use crate::frame::{Flaw, Frame, command};
use crate::hello::{Ack, CloseReason, Hello, Notice, VERSION};
use crate::outbox::FrameStore;
use crate::session::Found;
use crate::store::{Text, TooLarge};
use crate::subject::Subject;

/// The frame that was told last, or is a message that others are still to be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    found: Found,
    /// Whose turn it is.
    next: Option<SubscriptionId>,
    /// It stays until the user releases it.
    held: bool,
}

/// How the original answers a command that it does not know (PROTOCOL.md 3.2, 4.3).
const UNKNOWN_COMMAND: &[u8] = b"handle error: unknown command";
/// The OK texts of the original (PROTOCOL.md 3.2).
const SUBSCRIBED_TO: &[u8] = b"subscribed to ";

/// In place of a text for people that is none.
pub(super) const NO_TEXT: &str = "(text is not UTF-8)";

impl<S: FrameStore> Client<S> {
    /// The next event; `None` when there is none. It lends what it holds until the next call.
    pub fn poll_event(&mut self) -> Option<Event<'_, S>> {
        loop {
            if let Some(event) = self.poll_pending() {
                return Some(event);
            }
            if let Some(Current { found, next, held }) = self.current {
                if held || self.is_held() {
                    return None;
                }
                if let Some((id, last)) = next.and_then(|id| self.take_turn(found, id)) {
                    let subject_len = found.head.subject_len;
                    if self.requests.is_inbox(id) {
                        let Some((request, done)) = self.take_reply(found) else { continue };
                        let message = Message::new(self.session.body(found, last), subject_len);
                        return Some(Event::Reply { request, message, last: done });
                    }
                    let message = Message::new(self.session.body(found, last), subject_len);
                    return Some(Event::Message { subscription: id, message });
                }
                self.current = None;
                self.session.leave(self.now, found);
            }
            if !self.phase.is_open() || self.is_held() {
                return None;
            }
            match self.session.poll_frame(self.now)? {
                Ok(found) if self.act(found) => {
                    self.current = Some(Current { found, next: None, held: false });
                    let frame = self.session.frame(found);
                    #[cfg(feature = "confirm")]
                    if let Some(event) = self.confirms.told(frame) {
                        return Some(event);
                    }
                    if let Some(Notice::PublishDenied(subject)) = Notice::decode(frame.payload) {
                        return Some(Event::Denied(subject));
                    }
                    let text = core::str::from_utf8(frame.subject).unwrap_or(NO_TEXT);
                    return Some(match Wills::is_refusal(frame.payload) {
                        true => Event::WillRefused(text),
                        false => Event::Refused(text),
                    });
                }
                Ok(_) => {}
                Err(flaw) => {
                    self.stats.on_flaw(flaw);
                    match flaw {
                        Flaw::Oversize { limit, actual } => return Some(Event::Oversize(TooLarge { limit, actual })),
                        Flaw::Frame(_) => {}
                        Flaw::Stream(error) => self.lose(Disconnect::BrokenStream(error)),
                    }
                }
            }
        }
    }

    /// Nothing that comes from the server is read for now. Its greeting is.
    pub(super) fn is_held(&self) -> bool {
        self.recent.is_held() && self.is_connected()
    }

    /// Gives the message in `found` to subscription `id`, or if that is gone, to the one behind it that wants the message.
    /// Says to which, and whether it is the last one.
    fn take_turn(&mut self, found: Found, id: SubscriptionId) -> Option<(SubscriptionId, bool)> {
        let frame = self.session.frame(found);
        if let Some(number) = frame.addressee() {
            if let Some(stored) = frame.stored() {
                self.subscriptions.on_handed_out(number, stored.sequence);
            }
            self.current = Some(Current { found, next: None, held: false });
            return Some((self.subscriptions.addressee(number)?, true));
        }
        let subject = frame.subject;
        let id = if self.subscriptions.is_listed(id) { id } else { self.subscriptions.next_for(subject, Some(id))? };
        let next = self.subscriptions.next_for(subject, Some(id));
        self.current = Some(Current { found, next, held: false });
        Some((id, next.is_none()))
    }

    /// The request that an answer is for, and whether it is the last.
    fn take_reply(&mut self, found: Found) -> Option<(RequestId, bool)> {
        let reply = self.requests.on_reply(self.session.frame(found).subject);
        self.stats.unmatched += u64::from(reply.is_none());
        reply
    }

    /// Takes note of a message. It stays where it is while somebody is to be given it.
    fn on_message(&mut self, found: Found) {
        let frame = self.session.frame(found);
        // An original server forwards any subject; only what is text can be matched.
        let next = if self.requests.hears_of_nobody(frame) {
            None
        } else if frame.is_understood() && Subject::from_bytes(frame.subject, &self.config.subjects).is_ok() {
            self.stats.on_message(frame);
            let next = match frame.addressee() {
                Some(number) => self.subscriptions.addressee(number),
                None => self.subscriptions.next_for(frame.subject, None),
            };
            self.stats.unmatched += u64::from(next.is_none());
            next
        } else {
            self.stats.malformed += 1;
            None
        };
        match next {
            Some(_) => self.current = Some(Current { found, next, held: false }),
            None => self.session.leave(self.now, found),
        }
    }

    /// Acts on a frame. True if it is something for the user, who is to be told it before it is left.
    #[cfg_attr(target_os = "none", inline(never))]
    fn act(&mut self, found: Found) -> bool {
        let frame = self.session.frame(found);
        match frame.command {
            command if Frame::is_message(command) => {
                self.on_message(found);
                return false;
            }
            command::PONG => self.on_pong(),
            command::OK => {
                // The original's client takes the bare pattern as well (docs/original.md 5.3).
                let text = frame.subject;
                let pattern = text.strip_prefix(SUBSCRIBED_TO).unwrap_or(text);
                if let Ok(pattern) = core::str::from_utf8(pattern)
                    && let Ok(pattern) = S::Text::new(pattern)
                {
                    self.subscriptions.confirm(&pattern, false);
                }
                self.up(false);
            }
            command::ERR => {
                let connecting = self.server.is_none() && matches!(self.phase, Phase::Connecting { .. });
                if let Some(Notice::SubscriptionEnded(pattern)) = Notice::decode(frame.payload) {
                    self.subscriptions.on_ended(pattern);
                } else if connecting && frame.subject.starts_with(UNKNOWN_COMMAND) {
                    // The answer of an original server to HELLO: it is there, and speaks the original protocol.
                    self.up(false);
                } else {
                    return true;
                }
            }
            command::WELCOME => {
                let hello = Hello::decode(frame.payload).filter(|hello| hello.version >= VERSION);
                if let Some(hello) = &hello {
                    self.names.on_server(hello.name);
                }
                if let Some(hello) = hello.as_ref().map(Hello::nameless) {
                    self.session.name(hello.session);
                    self.welcome(&hello);
                } else {
                    self.stats.malformed += 1;
                }
            }
            command::ACK => {
                if let Some(ack) = Ack::decode(frame.payload) {
                    let first = Ack::first(frame.payload);
                    self.subscriptions.on_ack(self.now, &self.config, ack, first);
                } else {
                    self.stats.malformed += 1;
                }
            }
            command::PUBACK => match self.confirms.concerns(frame.payload) {
                Some(true) => return true,
                Some(false) => {}
                None => self.stats.malformed += 1,
            },
            command::CLOSE => {
                let reason = CloseReason::decode(frame.payload);
                self.names.on_close(frame.payload);
                self.lose(Disconnect::ByServer(reason));
                return false;
            }
            // Nothing else is for a client; the original ignores it as well.
            _ => {}
        }
        self.session.leave(self.now, found);
        self.advance();
        false
    }

    fn on_pong(&mut self) {
        let answer = self.pings.on_pong(self.now);
        if let Some(sample) = answer.round_trip {
            self.round_trip = Some(sample);
            self.stats.latency.add(sample);
        }
        if let Some(published) = answer.flushed {
            self.outgoing.on_flushed(published);
            self.pending.flushed();
        }
        self.up(false);
    }
}

impl<S> Client<S>
where
    S: for<'b> FrameStore<Body<'b> = &'b [u8]>,
{
    /// Keeps the message that [`poll_event`](Client::poll_event) handed out last where it is, so that a driver can lend it
    /// to a reader who comes later: until [`release_message`](Self::release_message) other events are handed out, but none
    /// that lends something, and nothing that came behind the message is read.
    pub fn hold_message(&mut self) {
        if let Some(current) = self.current.as_mut().filter(|current| Frame::is_message(current.found.head.command)) {
            current.held = true;
        }
    }

    /// True if a message is held, and its connection is not gone, which would have taken it along.
    pub fn holds_message(&self) -> bool {
        self.current.is_some_and(|current| current.held) && self.phase.is_open()
    }

    /// The message that is held, once more. `None` if there [is none](Self::holds_message).
    pub fn held_message(&mut self) -> Option<Message<&[u8]>> {
        let Current { found, .. } = self.current.filter(|_| self.holds_message())?;
        Some(Message::new(self.session.body(found, false), found.head.subject_len))
    }

    /// Lets the message that is held go: the next event may be one that lends something.
    pub fn release_message(&mut self) {
        if let Some(current) = &mut self.current {
            current.held = false;
        }
    }
}
