//! Messages on the short way: from the datagram to whoever subscribed, without waiting in the window.
//!
//! Only MSG and MSGX frames go this way, and only in order. Whatever else comes, and all that comes behind it, waits for
//! [`poll_event`](Client::poll_event).

use alloc::vec::Vec;
use core::ops::ControlFlow;

use bytes::Bytes;

use super::event::{Disconnect, Recipient};
use super::finder::Finder;
use super::requests::Requests;
use super::subscriptions::{SubscriptionId, Subscriptions};
use super::{Client, Config, Stats};
use crate::frame::{
    Flaw, Frame, FrameError, HEAD, Head, LENGTH, Reader, Sink, Whole, alike, command, frames, properties,
};
use crate::store::{Heap, HeapInbox, Inbox};
use crate::subject::{Limits, Subject};
use crate::time::Instant;

/// Frames from this length on, if they had to be put together, are handed over instead of lent.
const WHOLE_FROM: usize = 1024;

/// A frame with a message, or several, whole and checked: see [`Frame::parse`](crate::frame::Frame::parse).
#[derive(Debug)]
pub enum Arrived<'d> {
    /// It lies in the datagram.
    Lent(&'d [u8]),
    /// So many frames of one subject, which lie in the datagram one behind the other: all MSG, or all MSGX that say the same of their
    /// messages, none of which has a time that runs.
    Run(&'d [u8], usize),
    /// It was put together from several.
    Whole(Bytes),
}

impl Arrived<'_> {
    /// The frame, or the frames one behind the other.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Arrived::Lent(bytes) | Arrived::Run(bytes, _) => bytes,
            Arrived::Whole(bytes) => bytes,
        }
    }

    /// How many frames.
    pub fn count(&self) -> usize {
        match self {
            Arrived::Run(_, count) => *count,
            Arrived::Lent(_) | Arrived::Whole(_) => 1,
        }
    }

    /// Each of the frames.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        frames(self.bytes())
    }
}

/// How a MSGX ends that has one property, whose subscription it is for.
type Addressed = [u8; properties::MEMBER + properties::END];

/// Who wants the subject that came last: most messages of a datagram are about the same one.
#[derive(Debug, Default)]
pub(super) struct Recent {
    subject: Vec<u8>,
    wanted_by: Vec<SubscriptionId>,
    known: bool,
    /// One subscription wants it, and it is no answer to a request.
    alone: Option<SubscriptionId>,
    /// The last message was for one subscription alone, as a member of a queue group, and said only that behind itself.
    addressed: Option<(SubscriptionId, Addressed)>,
    /// Nothing is handed out at present.
    held: bool,
    finder: Finder,
}

impl Client<Heap> {
    /// Hands out no messages, nor reads what comes behind them, as long as `held`: what the network brings waits in the window,
    /// which closes, and then at the server. For a driver that has no room for what must not be dropped. Events that lend
    /// nothing are handed out all the same.
    pub fn hold(&mut self, held: bool) {
        self.recent.held = held;
    }

    /// As [`handle_datagram`](Self::handle_datagram), but messages that come in order are handed to `deliver` at once, for
    /// each subscription that matches, and for the request that they answer; those of one subject that only one subscription
    /// wants several at a time. [`poll_event`](Self::poll_event) is to be called until `None` before the next one, as ever:
    /// the rest waits there.
    pub fn handle_datagram_with(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        deliver: impl FnMut(Recipient, Arrived<'_>),
    ) {
        if self.current.is_some() || !self.is_connected() || self.recent.held {
            return self.handle_datagram(now, datagram);
        }
        let Some((datagram, content)) = self.open_datagram(now, datagram) else { return };
        let Self { config, session, subscriptions, requests, recent, stats, .. } = self;
        let mut pushed = Pushed { config, subscriptions, requests, recent, stats, deliver, broken: None };
        let before = session.arrivals();
        let understood = session.handle_datagram(self.now, datagram, content, &mut pushed);
        let broken = pushed.broken;
        self.after_datagram(before, understood);
        if let Some(error) = broken {
            self.lose(Disconnect::BrokenStream(error));
        }
    }
}

/// Hands out the messages of one datagram.
struct Pushed<'c, D> {
    config: &'c Config,
    subscriptions: &'c mut Subscriptions<Heap>,
    requests: &'c mut Requests,
    recent: &'c mut Recent,
    stats: &'c mut Stats,
    deliver: D,
    broken: Option<FrameError>,
}

impl<D: FnMut(Recipient, Arrived<'_>)> Sink<Heap> for Pushed<'_, D> {
    fn wants(&mut self, reader: &Reader<Heap>, input: &[u8]) -> bool {
        // One that is too long is told by `poll_event`, as are all frames that are no messages.
        let is_message = |head: Head| {
            Frame::is_message(head.command) && head.frame_len() <= reader.capacity() && self.broken.is_none()
        };
        reader.upcoming(input).is_some_and(is_message)
    }

    fn run(&mut self, reader: &Reader<Heap>, input: &[u8]) -> usize {
        let longest = reader.capacity().min((reader.limits().max_body as usize).saturating_add(LENGTH));
        let Recent { subject, alone, addressed, .. } = &*self.recent;
        let alike = |command| alike(input, command, subject).take_while(|len| *len <= longest);
        let (mut len, mut count) = (0, 0);
        let id = match (input.get(LENGTH), alone, addressed) {
            (Some(&command::MSG), Some(id), _) => {
                for frame in alike(command::MSG) {
                    len += frame;
                    count += 1;
                }
                *id
            }
            (Some(&command::MSGX), _, Some((id, tail))) => {
                for frame in alike(command::MSGX) {
                    let behind = input.get(len + HEAD + subject.len()..len + frame).and_then(<[u8]>::last_chunk);
                    if behind != Some(tail) {
                        break;
                    }
                    len += frame;
                    count += 1;
                }
                *id
            }
            _ => return 0,
        };
        if count > 0 {
            self.stats.messages_received += count as u64;
            self.stats.bytes_received += (len - count * HEAD) as u64;
            (self.deliver)(Recipient::Subscription(id), Arrived::Run(input.get(..len).unwrap_or_default(), count));
        }
        len
    }

    fn frame(&mut self, Whole { head, in_place }: Whole<'_>, inbox: &mut HeapInbox) -> ControlFlow<()> {
        let arrived = match in_place {
            Some(bytes) => Arrived::Lent(bytes),
            None if head.frame_len() >= WHOLE_FROM => Arrived::Whole(inbox.take()),
            None => Arrived::Lent(inbox.bytes()),
        };
        let frame = head.frame(arrived.bytes());
        if !frame.is_understood() {
            self.stats.malformed += 1;
            return ControlFlow::Continue(());
        }
        if !self.recent.is_about(frame.subject) {
            let Ok(subject) = Subject::from_bytes(frame.subject, &self.config.subjects) else {
                self.stats.malformed += 1;
                return ControlFlow::Continue(());
            };
            self.recent.look_up(subject, self.subscriptions, &self.config.subjects);
            self.recent.alone = match self.recent.wanted_by[..] {
                [id] if !self.requests.is_inbox(id) && !self.requests.is_answer(frame.subject) => Some(id),
                _ => None,
            };
        }
        if self.requests.hears_of_nobody(frame) {
            return ControlFlow::Continue(());
        }
        self.stats.on_message(frame);
        let addressee = frame.addressee().map(|number| self.subscriptions.addressee(number));
        if addressee.is_some()
            && let Some(stored) = frame.stored()
        {
            self.subscriptions.on_handed_out(stored.number, stored.sequence);
        }
        self.recent.addressed = match addressee {
            Some(Some(id)) if !self.requests.is_inbox(id) => addressed(frame).map(|tail| (id, tail)),
            _ => None,
        };
        let wanted_by = addressee.as_ref().map_or(&self.recent.wanted_by[..], Option::as_slice);
        self.stats.unmatched += u64::from(wanted_by.is_empty());
        for id in wanted_by {
            let mut recipient = Recipient::Subscription(*id);
            if self.requests.is_inbox(*id) {
                let reply = self.requests.on_reply(frame.subject);
                self.stats.unmatched += u64::from(reply.is_none());
                let Some((id, last)) = reply else { continue };
                recipient = Recipient::Request { id, last };
            }
            (self.deliver)(
                recipient,
                match &arrived {
                    Arrived::Whole(bytes) => Arrived::Whole(bytes.clone()),
                    lent => Arrived::Lent(lent.bytes()),
                },
            );
        }
        ControlFlow::Continue(())
    }

    fn flaw(&mut self, flaw: Flaw) {
        self.stats.on_flaw(flaw);
        if let Flaw::Stream(error) = flaw {
            self.broken = Some(error);
        }
    }
}

/// How it ends, if it says of its message for which member of a queue group it is, and nothing else.
fn addressed(frame: Frame<'_>) -> Option<Addressed> {
    let (_, properties) = frame.message()?;
    let is_alone = properties.as_bytes().len() == properties::MEMBER && properties.member().is_some();
    frame.payload.last_chunk().copied().filter(|_| is_alone)
}

impl Recent {
    /// See [`Client::hold`].
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Another datagram begins, and subscriptions may have changed since the last.
    pub(super) fn forget(&mut self) {
        (self.known, self.alone, self.addressed) = (false, None, None);
    }

    fn is_about(&self, subject: &[u8]) -> bool {
        self.known && self.subject == subject
    }

    fn look_up(&mut self, subject: Subject<'_>, subscriptions: &Subscriptions<Heap>, limits: &Limits) {
        self.subject.clear();
        self.subject.extend_from_slice(subject.as_str().as_bytes());
        (self.known, self.addressed) = (true, None);
        self.wanted_by.clear();
        self.finder.find(subject, subscriptions, limits, &mut self.wanted_by);
    }
}
