//! What PUB and PUBX do.

use alloc::boxed::Box;
use alloc::format;
use core::fmt;

use bytes::Bytes;

use super::{Dispatch, cut, notify, push};
use crate::broker::context::Context;
use crate::broker::delivery::Publisher;
use crate::broker::event::Event;
use crate::broker::foreign;
use crate::broker::guard::Forbidden;
use crate::broker::message::Message;
use crate::broker::pass::Pass;
use crate::broker::peer::Peer;
use crate::broker::receipts::Reach;
use crate::frame::properties::Asked;
use crate::frame::{Frame, Properties, PropertyError, command, properties};
use crate::hello::Notice;
use crate::outbox::HeapOutbox;
use crate::puback::{PubAck, Rejection};
use crate::subject::{Limits, Subject, SubjectError};
use crate::time::Duration;

/// For so long a publisher is not told again that its values are not kept.
const TOLD_FOR: Duration = Duration::from_secs(10);

impl<P: Peer> Dispatch<'_, P> {
    /// Routes a message, if that is allowed. With `retain` it is to be the last value of its subject. Says who has it.
    pub(super) fn publish(
        &mut self,
        subject: Subject<'_>,
        message: &mut Message<'_>,
        retain: bool,
    ) -> Result<Reach, Rejection> {
        let cx = &mut *self.cx;
        cx.stats.messages_in += 1;
        cx.stats.bytes_in += message.frame_len() as u64;
        let counts = &mut self.me.member.outlet.counts;
        counts.messages_in += 1;
        counts.bytes_in += message.frame_len() as u64;
        if subject.is_reserved() {
            return Err(self.deny(subject));
        }
        if cx.guard.is_some() {
            self.may_publish(subject, message.frame_len())?;
        }
        message.set_lane(self.lane);
        let Self { cx, hub, table, me, .. } = self;
        if retain || hub.kept.chooses(subject) {
            return self.publish_kept(subject, message, retain);
        }
        let reach = hub.publish(cx, table, &mut Publisher::session(me), subject, message);
        let unrouted = u64::from(reach.subscribers == 0);
        cx.stats.unrouted += unrouted;
        me.member.outlet.counts.unrouted += unrouted;
        Ok(reach)
    }

    /// The same for what is to be the last value of its subject, because its publisher wants that or the configuration.
    #[cold]
    fn publish_kept(
        &mut self,
        subject: Subject<'_>,
        message: &mut Message<'_>,
        retain: bool,
    ) -> Result<Reach, Rejection> {
        let Self { cx, hub, table, me, .. } = self;
        let (reach, kept) = hub.publish_kept(cx, table, &mut Publisher::session(me), subject, message);
        let Err(why) = kept else { return Ok(reach) };
        let unrouted = u64::from(reach.subscribers == 0);
        cx.stats.unrouted += unrouted;
        me.member.outlet.counts.unrouted += unrouted;
        cx.stats.kept_refused += 1;
        if me.member.told_not_kept.is_none_or(|at| at + TOLD_FOR <= cx.now) {
            me.member.told_not_kept = Some(cx.now);
            cx.tell(Event::NotKept { id: me.id, subject: subject.as_str().into(), why });
            if retain {
                self.error(&format!("not kept as the last value of {}: {why}", subject.as_str()));
            }
        }
        if retain { Err(Rejection::NotKept) } else { Ok(reach) }
    }

    /// A subject that is not valid: original clients may have their reasons.
    pub(super) fn publish_foreign(&mut self, subject: &[u8], error: SubjectError, bytes: &[u8]) {
        let limits = self.cx.config.subjects;
        let written = if self.me.member.native { Err(error) } else { foreign::subject(subject, &limits) };
        let written = written.as_deref().map_err(|error| *error);
        match written.and_then(|text| Subject::new(text, &foreign::limits(limits))) {
            Ok(subject) => {
                let _ = self.publish(subject, &mut Message::published(bytes, self.hub.share_from()), false);
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
    pub(super) fn tell_refused(&mut self, why: SubjectError) {
        if !core::mem::replace(&mut self.me.member.refusal_told, true) {
            self.cx.tell(Event::SubjectRefused { id: self.me.id, why });
        }
    }

    /// A MSG goes to the subscribers as it is.
    pub(super) fn publish_made(&mut self, msg: &Bytes) {
        let Ok(frame) = Frame::parse(msg, &self.cx.config.frames) else { return };
        match Subject::from_bytes(frame.subject, &self.cx.config.subjects) {
            Ok(subject) => _ = self.publish(subject, &mut Message::made(msg), false),
            Err(error) => self.publish_foreign(frame.subject, error, msg),
        }
    }

    /// A message with properties: some are for the server, the others go on to those who know such.
    pub(super) fn publish_extended(&mut self, frame: Frame<'_>, bytes: &[u8]) {
        // One that makes no sense may still say that its publisher wants to know.
        let asked = frame.message().and_then(|(_, properties)| properties.asked());
        let (subject, cut, properties) = match read(frame, &self.cx.config.subjects) {
            Ok(parts) => parts,
            Err(unread) => return self.refuse_extended(asked, unread),
        };
        let expires = properties.ttl().map(|ttl| self.cx.now + ttl);
        let (retain, latest) = (properties.retains(), properties.supersedes());
        let (properties, share_from) = (properties.for_subscribers(), self.hub.share_from());
        let mut message = Message::extended(bytes, cut, properties, expires, share_from);
        let ticket = asked.filter(|_| self.hub.shards.count() > 1).map(|_| self.hub.receipts.ticket());
        let store = asked.and_then(|asked| asked.store);
        message.set_ticket(ticket);
        message.set_store(store);
        message.set_latest(latest);
        let outcome = self.publish(subject, &mut message, retain);
        if outcome.is_ok_and(|reach| reach.subscribers == 0)
            && let Some(reply) = properties.reply()
            && self.me.member.outlet.is_extended()
        {
            // Who waits for an answer need not wait.
            self.reply(command::MSGX, reply.as_bytes(), &properties::NOBODY);
        }
        let Some(Asked { number, .. }) = asked else { return };
        match outcome {
            Ok(reach) => match self.hub.receipts.routed(ticket, self.me.id, number, reach, store.is_some()) {
                Some((ack, text)) => self.confirm(ack, text),
                // Who waits until something is stored is read on, however long that takes.
                None => self.me.member.unanswered += u32::from(store.is_none()),
            },
            Err(rejection) => self.reject(number, rejection, &format!("{rejection}")),
        }
    }

    fn reject(&mut self, number: u32, why: Rejection, text: &str) {
        self.confirm(PubAck { number, outcome: Err(why), stored: None }, text);
    }

    /// Tells the publisher what became of a message.
    fn confirm(&mut self, ack: PubAck, text: &str) {
        self.cx.stats.confirmed += 1;
        receipt(self.me.control, ack, text);
    }

    /// A message with properties that makes no sense.
    fn refuse_extended(&mut self, asked: Option<Asked<'_>>, unread: Unread) {
        self.cx.stats.messages_refused += 1;
        self.me.member.outlet.counts.refused += 1;
        if let Unread::Subject(error) = unread {
            self.tell_refused(error);
        }
        let text = format!("{unread}");
        match asked {
            Some(Asked { number, .. }) => self.reject(number, Rejection::Invalid, &text),
            None => self.error(&text),
        }
    }

    /// Whether a message may be published. Its publisher is told of it now and then if not.
    fn may_publish(&mut self, subject: Subject<'_>, len: usize) -> Result<(), Rejection> {
        let Self { cx, me, .. } = self;
        let Context { guard: Some(guard), now, .. } = &mut *cx else { return Ok(()) };
        let (now, Some(pass)) = (*now, me.member.pass.as_deref_mut()) else { return Err(Rejection::NotPermitted) };
        match guard.may_publish(now, pass, subject, len) {
            Ok(()) => Ok(()),
            Err(Forbidden::Subject) => Err(self.deny(subject)),
            Err(Forbidden::Excess { rate }) => {
                cx.stats.dropped_excess += 1;
                me.member.outlet.counts.excess += 1;
                if pass.tells_excess(now) {
                    cx.tell(Event::Excess { id: me.id, identity: pass.name().cloned() });
                    self.error(&format!("more than {rate} bytes in a second: messages are dropped"));
                }
                Err(Rejection::TooFast)
            }
        }
    }

    /// A message is dropped because of its subject. Its publisher is told of it now and then.
    #[cold]
    fn deny(&mut self, subject: Subject<'_>) -> Rejection {
        let Self { cx, me, .. } = self;
        cx.stats.messages_denied += 1;
        me.member.outlet.counts.denied += 1;
        let shown = cx.credential(me.member, me.member.native);
        let pass = me.member.pass.get_or_insert_with(|| Box::new(Pass::of_nobody(shown)));
        if pass.tells(cx.now, subject) {
            let identity = pass.name().cloned();
            let why = if subject.is_reserved() { ", which is the server's own" } else { "" };
            let text = format!("not permitted to publish to {}{why}", subject.as_str());
            cx.tell(Event::PublishDenied { id: me.id, identity, subject: subject.as_str().into() });
            notify(me.control, me.member.native, &text, Notice::PublishDenied(subject.as_str()));
        }
        Rejection::NotPermitted
    }
}

/// Why a message with properties makes no sense.
#[derive(Clone, Copy)]
pub(in crate::broker) enum Unread {
    Subject(SubjectError),
    Properties(PropertyError),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(error) => error.fmt(f),
            Self::Properties(error) => error.fmt(f),
        }
    }
}

/// The parts of a message with properties: its subject, how many bytes stand behind the message, and the properties.
pub(in crate::broker) fn read<'f>(
    frame: Frame<'f>,
    limits: &Limits,
) -> Result<(Subject<'f>, usize, Properties<'f>), Unread> {
    let subject = Subject::from_bytes(frame.subject, limits).map_err(Unread::Subject)?;
    let (message, written) = frame.message().ok_or(Unread::Properties(PropertyError::Malformed))?;
    let properties = Properties::parse(written.as_bytes()).map_err(Unread::Properties)?;
    if properties.claims_to_be_a_servers() {
        return Err(Unread::Properties(PropertyError::Malformed)); // only a server says that
    }
    if let Some(reply) = properties.reply() {
        Subject::new(reply, limits).map_err(|error| Unread::Properties(PropertyError::Reply(error)))?;
    }
    Ok((subject, frame.payload.len() - message.len(), properties))
}

/// Writes what became of a message to what is told its publisher.
pub(in crate::broker) fn receipt(control: &mut HeapOutbox, ack: PubAck, text: &str) {
    let mut payload = [0; PubAck::MAX_LEN];
    let len = ack.encode(&mut payload);
    push(control, command::PUBACK, cut(text).as_bytes(), &payload[..len]);
}
