//! What both ends of a session share: frames that wait, the engine, and the datagrams around it.
//!
//! ```text
//! control, outbox --frames--> engine --segments--> link --datagram-->
//! ```
//!
//! Frames wait outside of the engine until it is about to send them. So frames of the protocol overtake waiting
//! messages, the oldest message can still be dropped, and what waits survives a reconnect.

mod frames;
mod intake;
#[cfg_attr(not(feature = "lanes"), path = "absent/lanes.rs")]
mod lanes;
mod native;
mod negotiate;
#[cfg(feature = "alloc")]
mod stream;
mod transmit;

use core::fmt;

#[cfg(feature = "alloc")]
use bytes::Bytes;

pub(crate) use self::frames::Found;
pub(crate) use self::intake::Arrivals;
#[cfg(feature = "alloc")]
pub(crate) use self::intake::{Intake, Waiting};
#[cfg(feature = "lanes")]
pub(crate) use self::lanes::LaneParts;
use self::lanes::Lanes;
pub(crate) use self::native::Word;
pub(crate) use self::negotiate::Native;
pub use self::transmit::{Mark, Transmit};
use crate::datagram::{Framing, Link};
#[cfg(feature = "lanes")]
use crate::frame::Properties;
use crate::frame::properties::{self, Behind};
use crate::frame::{Frame, Limits, Reader, command};
use crate::kcp::{self, Kcp};
use crate::lane::{Each, Lane};
#[cfg(feature = "alloc")]
use crate::outbox::HeapOutbox;
use crate::outbox::{Dialect, FrameStore, Outbox, PushError, Queues};
use crate::store::{Full, Queue};
use crate::time::{Deadline, Duration, Instant};

/// The memory of one session.
pub struct Parts<S: FrameStore> {
    /// The engine's.
    pub kcp: kcp::Parts<S>,
    /// Frames of the protocol itself (SUB, PING, ...): they go before messages.
    pub control: S::Outbox,
    /// Messages that wait.
    pub outbox: S::Outbox,
    /// The frame being put together; as long as the longest that is to be received in several segments.
    pub inbox: S::Inbox,
    /// One entry for each move from outbox to engine that is not yet acknowledged; the last entry takes what does not
    /// fit.
    pub marks: S::Queue<Mark>,
}

impl<S: FrameStore> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Messages have properties at all. Where they have none no code for them is left.
const EXTENDED: bool = cfg!(feature = "properties");

/// One end of a session.
pub(crate) struct Session<S: FrameStore> {
    pub(crate) kcp: Kcp<S>,
    pub(crate) link: Link,
    pub(crate) control: S::Outbox,
    pub(crate) outbox: Queues<S>,
    pub(crate) reader: Reader<S>,
    /// What there is of other lanes than 0; all else here is of lane 0.
    lanes: Lanes<S>,
    /// Messages wait for the peer's first answer.
    pub(crate) hold: bool,
    marks: S::Queue<Mark>,
    /// The end of what was moved into the stream, wrapping.
    moved_to: u32,
    /// The same of the frames of the protocol.
    control_to: u32,
    /// Messages moved into the stream, in all.
    moved: u64,
    /// Messages whose last byte the peer has acknowledged, in all.
    acknowledged: u64,
    /// Messages that waited until their time was over, since that was asked for last.
    expired: Each<u32>,
    has_expired: bool,
    /// What the peer makes of properties.
    pub(crate) dialect: Dialect,
    speech: Speech,
    /// How long the last acknowledged messages were under way, if that has not been asked for yet.
    latency: Option<Duration>,
}

/// What may still be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Free,
    /// One datagram without new frames; then this end may give the session up.
    LastWords {
        gives_up: bool,
    },
    /// One datagram that says so.
    GivesUp,
    Over,
}

impl<S: FrameStore> Session<S> {
    /// A session whose peer has not been heard. What comes from it is held to `limits`.
    pub(crate) fn new(conv: u32, config: kcp::Config, limits: Limits, link: Link, parts: Parts<S>) -> Self {
        let mut session = Self {
            kcp: Kcp::new(conv, config, parts.kcp),
            link,
            control: parts.control,
            outbox: Queues::new(parts.outbox),
            reader: Reader::new(limits, parts.inbox),
            lanes: Lanes::new(),
            hold: false,
            marks: parts.marks,
            moved_to: 0,
            control_to: 0,
            moved: 0,
            acknowledged: 0,
            expired: Each::default(),
            has_expired: false,
            dialect: Dialect::Unknown,
            speech: Speech::Free,
            latency: None,
        };
        session.kcp.set_mtu(session.link.mtu());
        session
    }

    /// Begins anew with conversation `conv`. Messages that wait stay; those that were moved into the stream and are not
    /// acknowledged are given up, and their number is returned.
    pub(crate) fn reset(&mut self, conv: u32, framing: Framing, max_datagram: u16) -> u64 {
        // A frame that has begun to go out cannot go on in another stream.
        let Self { outbox, lanes, moved, .. } = self;
        outbox.drop_begun(|lane| match lane.is_main() {
            true => *moved += 1,
            false => lanes.on_cut_off(lane),
        });
        let in_doubt = self.give_up();
        self.kcp.reset(conv);
        self.link.reset(framing, max_datagram);
        self.kcp.set_mtu(self.link.mtu());
        self.reader.reset();
        self.lanes.reset();
        self.control.clear();
        self.moved_to = 0;
        self.control_to = 0;
        self.latency = None;
        self.dialect = Dialect::Unknown;
        self.speech = Speech::Free;
        in_doubt
    }

    /// Messages in doubt are given up; their number is returned.
    pub(crate) fn give_up(&mut self) -> u64 {
        let in_doubt = self.in_doubt();
        self.acknowledged = self.moved;
        self.marks.clear();
        self.lanes.give_up();
        in_doubt
    }

    /// Nothing more is sent until the next [`reset`](Self::reset), but for `last_words`, if any: one more datagram of what
    /// the engine owes, such as the acknowledgement of the peer's CLOSE.
    pub(crate) fn end(&mut self, last_words: bool) {
        if self.speech == Speech::Free {
            self.speech = if last_words { Speech::LastWords { gives_up: false } } else { Speech::Over };
        }
    }

    /// The protection takes so many bytes of each datagram.
    pub(crate) fn set_protection(&mut self, headroom: usize) {
        self.link.set_protection(headroom as u16);
        self.kcp.set_mtu(self.link.mtu());
    }

    /// The longest datagram, in bytes of UDP payload, besides those that ask for more.
    pub(crate) fn max_datagram(&self) -> usize {
        self.link.max_datagram().into()
    }

    /// Messages moved into the stream and not acknowledged.
    pub(crate) fn in_doubt(&self) -> u64 {
        self.moved() - self.acknowledged - self.lanes.acknowledged()
    }

    /// Messages moved into the stream, in all.
    pub(crate) fn moved(&self) -> u64 {
        self.moved + self.lanes.moved()
    }

    /// The same of one lane.
    pub(crate) fn moved_of(&self, lane: Lane) -> u64 {
        if lane.is_main() { self.moved } else { self.lanes.moved_of(lane) }
    }

    /// Messages of a lane that the peer is certain to read before what is queued now as a frame of the protocol.
    pub(crate) fn before_control(&self, lane: Lane) -> u64 {
        if self.kcp.peer().lanes && !lane.is_main() { self.lanes.acknowledged_of(lane) } else { self.moved_of(lane) }
    }

    /// Queues a frame of the protocol.
    pub(crate) fn control(&mut self, command: u8, subject: &[u8], payload: &[u8]) -> Result<(), Full> {
        let head = Frame::head(command, subject.len(), payload.len()).ok_or(Full)?;
        self.control.push(&[&head, subject, payload], None).map_err(|_| Full)
    }

    /// The same with a payload in parts.
    #[cfg(feature = "will")]
    pub(crate) fn control_in_parts(&mut self, command: u8, subject: &[u8], payload: [&[u8]; 4]) -> Result<(), Full> {
        let head = Frame::head(command, subject.len(), payload.iter().map(|part| part.len()).sum()).ok_or(Full)?;
        let [a, b, c, d] = payload;
        self.control.push(&[&head, subject, a, b, c, d], None).map_err(|_| Full)
    }

    /// Queues a frame behind the messages that wait.
    #[cfg(any(feature = "alloc", test))]
    pub(crate) fn message(&mut self, command: u8, subject: &[u8], payload: &[u8]) -> Result<(), PushError> {
        let head = Frame::head(command, subject.len(), payload.len()).ok_or(PushError::Full)?;
        self.outbox.main().push(&[&head, subject, payload], None)
    }

    /// Queues a PUB in a lane, or a PUBX if it has properties. One with an `expires` is dropped if it has not been moved into the stream
    /// at that moment.
    pub(crate) fn publish(
        &mut self,
        lane: Lane,
        subject: &[u8],
        payload: &[u8],
        behind: Behind<'_>,
        expires: Option<Instant>,
    ) -> Result<(), PushError> {
        let len = behind.len();
        if EXTENDED && len > 0 {
            let ([properties, asks, id], end) = (behind.parts(), properties::end(len));
            let head = Frame::head(command::PUBX, subject.len(), payload.len() + len + end.len());
            let head = head.ok_or(PushError::Full)?;
            let (parts, seed) = ([&head, subject, payload, properties, asks, id, &end], self.kcp.conv().into());
            let outbox = self.outbox.of(lane);
            if behind.gives_way() {
                return outbox.push_superseding(&parts, expires, seed);
            }
            outbox.hold(subject);
            return outbox.push_extended(&parts, expires);
        }
        let head = Frame::head(command::PUB, subject.len(), payload.len()).ok_or(PushError::Full)?;
        let outbox = self.outbox.of(lane);
        outbox.hold(subject);
        outbox.push(&[&head, subject, payload], expires)
    }

    /// Puts a message in the place of the one of its subject that waits in its lane, if it supersedes it. False if there is none,
    /// or if more than `limit` bytes would wait then.
    #[cfg(feature = "lanes")]
    pub(crate) fn supersede(
        &mut self,
        lane: Lane,
        subject: &[u8],
        payload: &[u8],
        properties: Properties<'_>,
        expires: Option<Instant>,
        limit: usize,
    ) -> bool {
        let (bytes, end) = (properties.as_bytes(), properties::end(properties.as_bytes().len()));
        let head = Frame::head(command::PUBX, subject.len(), payload.len() + bytes.len() + end.len());
        let Some(head) = head else { return false };
        self.outbox.of(lane).replace(&[&head, subject, payload, bytes, &end], expires, limit)
    }

    /// Queues a PUB in a lane whose payload is kept by reference, if it is long.
    #[cfg(feature = "alloc")]
    pub(crate) fn publish_bytes(&mut self, lane: Lane, subject: &[u8], payload: &Bytes) -> Result<(), PushError>
    where
        S: FrameStore<Outbox = HeapOutbox>,
    {
        let head = Frame::head(command::PUB, subject.len(), payload.len()).ok_or(PushError::Full)?;
        self.outbox.of(lane).push_apart(&[&head, subject], payload);
        Ok(())
    }

    /// Drops messages at the front of the queue whose time is over. True if there were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let Self { outbox, expired, .. } = self;
        let mut any = false;
        outbox.expire(now, |lane, count| {
            expired[lane] += count;
            any |= count > 0;
        });
        self.has_expired |= any;
        any
    }

    #[inline]
    fn on_expired(&mut self, lane: Lane, count: u32) {
        if count > 0 {
            self.expired[lane] += count;
            self.has_expired = true;
        }
    }

    /// Messages that were dropped because their time was over, since the last call, by lane; `None` if there were none.
    #[inline]
    pub(crate) fn take_expired(&mut self) -> Option<Each<u32>> {
        core::mem::take(&mut self.has_expired).then(|| core::mem::take(&mut self.expired))
    }

    /// To be called after the engine has taken in datagrams.
    pub(crate) fn after_input(&mut self, now: Instant) {
        self.follow_mtu();
        self.on_acknowledged(now);
    }

    /// True when all frames of the protocol that were queued have been acknowledged.
    pub(crate) fn is_control_acknowledged(&self) -> bool {
        self.control.is_empty() && self.kcp.acked_offset_of(Lane::NORMAL).wrapping_sub(self.control_to) as i32 >= 0
    }

    /// True when all that was queued has been acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.control.is_empty() && self.outbox.is_empty() && self.kcp.unacked() == 0 && !self.lanes.has_last()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earlier(self.kcp.poll_timeout(), self.link.poll_timeout())
    }
}
