//! A message on its way to its subscribers: the frame that came, made the MSG that leaves.
//!
//! A PUB differs from its MSG in the command byte, a PUBX in the properties behind the message as well. So the frame is
//! not parsed and written anew but used as it came, with another head, and for those who know properties with these behind
//! it; and where several subscribers keep it, or it is long, all of them keep the same bytes.

use bytes::{Bytes, BytesMut};

use crate::frame::{HEAD, Head, Properties, command, properties, subject_of};
use crate::lane::Lane;
use crate::outbox::{HeapOutbox, Outbox};
use crate::store::{HeapInbox, Inbox};
use crate::time::Instant;

/// Messages from this size on are kept once for all their subscribers, if these are likely to be several: a count of
/// references each costs less than a copy each.
const SHARE_FROM: usize = 1024;
/// And for a single one from this size on.
const SHARE_ALONE_FROM: usize = 4096;

/// See above.
pub(super) struct Message<'f> {
    /// The frame up to the end of the message.
    bytes: &'f [u8],
    /// Bytes behind it that its head still counts.
    cut: usize,
    /// Properties, for those who know such.
    properties: Properties<'f>,
    /// When it is to be forgotten where it still waits.
    expires: Option<Instant>,
    /// Under which number other brokers of the server are to say how many sessions got it, if that matters.
    ticket: Option<u32>,
    /// The gateway is to see to it that it is stored, under this id.
    store: Option<&'f str>,
    /// The lane in which it was published.
    lane: Lane,
    /// How many other brokers were asked for a member of the only group that it is for, before this one was.
    asked: Option<u8>,
    /// Of the messages of its subject that are under way only the latest counts.
    latest: bool,
    /// The MSG, once it exists by itself, and the MSGX.
    shared: Option<Bytes>,
    extended: Option<Bytes>,
    /// From which size on they are to exist.
    share_from: usize,
}

impl<'f> Message<'f> {
    /// The message of a whole PUB; kept once for all subscribers if it has `share_from` bytes.
    pub(super) fn published(frame: &'f [u8], share_from: usize) -> Self {
        let properties = Properties::NONE;
        let (expires, ticket, store, lane, latest) = (None, None, None, Lane::NORMAL, false);
        Self {
            bytes: frame,
            cut: 0,
            properties,
            expires,
            ticket,
            store,
            lane,
            asked: None,
            latest,
            shared: None,
            extended: None,
            share_from,
        }
    }

    /// The message of a whole PUBX or MSGX, of which `properties` go to subscribers.
    pub(super) fn extended(
        frame: &'f [u8],
        cut: usize,
        properties: Properties<'f>,
        expires: Option<Instant>,
        share_from: usize,
    ) -> Self {
        let bytes = frame.get(..frame.len().saturating_sub(cut)).unwrap_or_default();
        let (ticket, store, lane, latest) = (None, None, Lane::NORMAL, false);
        Self {
            bytes,
            cut,
            properties,
            expires,
            ticket,
            store,
            lane,
            asked: None,
            latest,
            shared: None,
            extended: None,
            share_from,
        }
    }

    /// Other brokers of the server are to say under this number how many sessions got it, if there is one.
    pub(super) fn set_ticket(&mut self, ticket: Option<u32>) {
        self.ticket = ticket;
    }

    /// It is to be stored, under this id, if there is one.
    pub(super) fn set_store(&mut self, id: Option<&'f str>) {
        self.store = id;
    }

    /// Its ticket and its id, if it is to be stored.
    pub(super) fn store(&self) -> Option<(u32, &'f str)> {
        self.ticket.zip(self.store)
    }

    /// It was published in this lane.
    pub(super) fn set_lane(&mut self, lane: Lane) {
        self.lane = lane;
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Of the messages of its subject that are under way only the latest counts, if so.
    pub(super) fn set_latest(&mut self, latest: bool) {
        self.latest = latest;
    }

    /// It is for a member of one group, for which other brokers were asked before.
    pub(super) fn set_asked(&mut self, asked: Option<u8>) {
        self.asked = asked;
    }

    /// How many, if one of them has asked this broker.
    pub(super) fn asked(&self) -> Option<u8> {
        self.asked
    }

    pub(super) fn is_latest(&self) -> bool {
        self.latest
    }

    pub(super) fn ticket(&self) -> Option<u32> {
        self.ticket
    }

    /// A message that is a MSG already, whose bytes stay for as long as somebody wants them.
    pub(super) fn made(msg: &'f Bytes) -> Self {
        Self { shared: Some(msg.clone()), ..Self::published(msg, 0) }
    }

    /// A message that its member of a queue group does not get: what that was told beside others is forgotten.
    pub(super) fn returned(frame: &'f Bytes, expires: Option<Instant>) -> Self {
        let message = Self::relayed(frame, expires, SHARE_FROM);
        let all = message.properties.as_bytes();
        let properties =
            Properties::trusted(all.get(..all.len().saturating_sub(properties::MEMBER)).unwrap_or_default());
        Self { properties, shared: None, extended: None, ..message }
    }

    /// A MSG or MSGX that came together with others, from another shard: a small one would keep all of them.
    pub(super) fn relayed(msg: &'f Bytes, expires: Option<Instant>, share_from: usize) -> Self {
        let shared = (msg.len() >= SHARE_FROM || expires.is_some()).then(|| msg.clone());
        let head = msg.first_chunk().map(|head| Head::from_bytes(*head));
        match head.map(|head| head.frame(msg)).filter(|frame| frame.command == command::MSGX) {
            Some(frame) => {
                let (message, properties) = frame.message().unwrap_or_default();
                let cut = frame.payload.len() - message.len();
                let theirs = properties.for_subscribers();
                // What shards tell each other goes no further.
                let shared = shared.filter(|_| theirs == properties);
                Self { extended: shared, ..Self::extended(msg, cut, theirs, expires, share_from) }
            }
            None => Self { shared, expires, ..Self::published(msg, share_from) },
        }
    }

    /// A value that is kept, as [`stamped`](Self::stamped) has made it: without the stamp.
    pub(super) fn kept(frame: &'f Bytes, expires: Option<Instant>, share_from: usize) -> Self {
        Self { shared: None, extended: None, ..Self::relayed(frame, expires, share_from) }
    }

    /// The same for another shard: with the stamp, and every byte where it is.
    pub(super) fn whole(frame: &'f Bytes, expires: Option<Instant>) -> Self {
        let head = frame.first_chunk().map(|head| Head::from_bytes(*head));
        let (_, properties) = head.and_then(|head| head.frame(frame).message()).unwrap_or_default();
        let cut = properties.as_bytes().len() + properties::END;
        Self { extended: Some(frame.clone()), ..Self::extended(frame, cut, properties, expires, 0) }
    }

    /// Bytes of the frame as it was published.
    pub(super) fn frame_len(&self) -> usize {
        self.bytes.len() + self.cut
    }

    /// When it is to be forgotten where it still waits.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.expires
    }

    /// The message itself has no bytes.
    pub(super) fn is_blank(&self) -> bool {
        let head = self.bytes.first_chunk().map(|head| Head::from_bytes(*head));
        head.is_none_or(|head| self.bytes.len() <= HEAD + usize::from(head.subject_len))
    }

    /// Bytes of the frame as it is kept.
    pub(super) fn len_kept(&self) -> usize {
        self.len(true) + properties::STAMP
    }

    /// The MSGX by itself, as it is kept, and told to other shards. `None` if no frame is so long.
    pub(super) fn stamped(&self, stamp: u64, keeps: bool) -> Option<Bytes> {
        let more = properties::stamp(stamp, keeps);
        let (head, rest, end) = self.parts_with(more.len())?;
        Some(joined(&[&head, rest, self.properties.as_bytes(), &more, &end]))
    }

    /// True if it has properties for those who know such.
    pub(super) fn is_extended(&self) -> bool {
        !self.properties.is_empty()
    }

    /// Bytes of the MSG, or of the MSGX.
    pub(super) fn len(&self, extended: bool) -> usize {
        self.bytes.len() + if extended { self.properties.as_bytes().len() + properties::END } else { 0 }
    }

    /// Bytes that a party that knows properties is told of its time, beside others or not.
    pub(super) fn time_len(&self) -> usize {
        match self.expires {
            None => 0,
            Some(_) if self.is_extended() => properties::TTL,
            Some(_) => properties::TTL + properties::END,
        }
    }

    /// Appends the message to what waits for one subscriber, with its properties if `extended`.
    pub(super) fn append_to(&mut self, queue: &mut HeapOutbox, extended: bool) {
        self.hold_place_in(queue);
        if self.bytes.len() < self.share_from && self.expires.is_none() {
            // Copied next to the other small ones: cheaper than a count of references each.
            if extended {
                if let Some((head, rest, end)) = self.extended_parts() {
                    let _ = queue.push(&[&head, rest, self.properties.as_bytes(), &end], None);
                }
            } else if self.cut == 0 {
                queue.push_as(self.bytes, command::MSG);
            } else if let Some((head, rest)) = self.head() {
                let _ = queue.push(&[&head, rest], None);
            }
            return;
        }
        queue.push_shared(self.shared(extended), self.expires);
    }

    /// What waits of its subject gives way no more.
    #[inline]
    fn hold_place_in(&self, queue: &mut HeapOutbox) {
        if queue.has_latest() {
            queue.hold(subject_of(self.bytes));
        }
    }

    /// The same for one who is told `more` about it than others are, by another property.
    pub(super) fn append_with(&mut self, queue: &mut HeapOutbox, more: &[u8]) {
        self.hold_place_in(queue);
        let Some((head, rest, end)) = self.parts_with(more.len()) else { return };
        let parts = [&head, rest, self.properties.as_bytes(), more, &end];
        if self.expires.is_some() {
            queue.push_shared(joined(&parts), self.expires);
        } else {
            queue.push_parts(parts);
        }
    }

    /// The same where only the latest message of each subject is to wait, in the place of the one before unless more than
    /// `limit` bytes would wait then. True if there was one.
    pub(super) fn supersede_in(&mut self, queue: &mut HeapOutbox, extended: bool, limit: usize) -> bool {
        queue.supersede(&self.shared(extended), self.expires, limit)
    }

    /// It is to follow as one that does not give way, behind any that would.
    pub(super) fn settle_place_in(&self, queue: &mut HeapOutbox) {
        queue.settle_place(subject_of(self.bytes));
    }

    /// The same where there was none before. `seed` is random: peers choose the subjects.
    pub(super) fn append_latest_to(&mut self, queue: &mut HeapOutbox, extended: bool, seed: u64) {
        queue.push_latest(self.shared(extended), self.expires, seed);
    }

    /// The head of the MSG, and what follows it.
    fn head(&self) -> Option<([u8; HEAD], &[u8])> {
        let (head, rest) = self.bytes.split_first_chunk::<HEAD>()?;
        Some((Head::from_bytes(*head).shorter(command::MSG, self.cut).to_bytes(), rest))
    }

    /// The head of the MSGX, what follows it, and what ends it behind the properties.
    fn extended_parts(&self) -> Option<([u8; HEAD], &[u8], [u8; properties::END])> {
        self.parts_with(0)
    }

    /// The same with so many bytes more of properties.
    fn parts_with(&self, more: usize) -> Option<([u8; HEAD], &[u8], [u8; properties::END])> {
        let (head, rest) = self.bytes.split_first_chunk::<HEAD>()?;
        let len = self.properties.as_bytes().len() + more;
        let head =
            Head::from_bytes(*head).shorter(command::MSGX, self.cut).longer(command::MSGX, len + properties::END)?;
        Some((head.to_bytes(), rest, properties::end(len)))
    }

    /// The MSG or the MSGX by itself, for all who keep it.
    fn shared(&mut self, extended: bool) -> Bytes {
        if extended {
            if self.extended.is_none()
                && let Some((head, rest, end)) = self.extended_parts()
            {
                self.extended = Some(joined(&[&head, rest, self.properties.as_bytes(), &end]));
            }
            return self.extended.clone().unwrap_or_default();
        }
        if self.shared.is_none()
            && let Some((head, rest)) = self.head()
        {
            self.shared = Some(joined(&[&head, rest]));
        }
        self.shared.clone().unwrap_or_default()
    }
}

fn joined(parts: &[&[u8]]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.freeze()
}

/// From which size on a message is kept once for all, if it has so many subscribers.
pub(super) fn share_from(reach: u32) -> usize {
    if reach > 1 { SHARE_FROM } else { SHARE_ALONE_FROM }
}

/// The MSG of a whole PUB.
pub(super) fn msg(frame: &[u8]) -> Bytes {
    Message::published(frame, 0).shared(false)
}

/// Takes a PUB out of where it was assembled, as a MSG: only the head is written again.
pub(super) fn take_assembled(inbox: &mut HeapInbox) -> Bytes {
    if let Some(head) = inbox.bytes_mut().first_chunk_mut() {
        *head = Head::from_bytes(*head).shorter(command::MSG, 0).to_bytes();
    }
    let msg = inbox.take();
    inbox.clear();
    msg
}
