//! Frames in a rope.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::latest::Latest;
use super::{Dialect, FrameStore, Moved, Outbox, PushError};
use crate::frame::{self, Frame, HEAD, Head, LENGTH, Limits, command, frames, properties, set_commands, subject_of};
use crate::histogram::{Histogram, Micros};
use crate::store::{Heap, HeapTx, Piece, TxStream};
use crate::time::Instant;

impl FrameStore for Heap {
    type Outbox = HeapOutbox;

    fn outbox() -> Option<HeapOutbox> {
        Some(HeapOutbox::default())
    }
}

/// Frames shorter than this are copied next to each other; longer ones are kept by reference.
const COPY_BELOW: usize = 4096;
/// A run of copied frames is closed when it is this long: about the data of the longest datagrams.
const RUN: usize = 16 * 1024;

/// Whole frames that lie together, or one that lies apart.
#[derive(Debug)]
struct Chunk {
    piece: Piece,
    /// The payload of its only frame, if that lies elsewhere. Such a frame has no properties, and its time does not run.
    payload: Option<Bytes>,
    frames: u32,
    /// When its only frame is to be forgotten, if ever.
    expires: Option<Instant>,
    /// There are PUBX among them.
    extended: bool,
    /// Its only frame gives way to the next one of its subject.
    latest: bool,
    /// When the first of its frames came, and the last: microseconds, wrapping after 71 minutes.
    first: u32,
    last: u32,
}

impl Chunk {
    /// One frame, which came at this time.
    fn one(piece: Piece, expires: Option<Instant>, came: u32) -> Self {
        Self { piece, payload: None, frames: 1, expires, extended: false, latest: false, first: came, last: came }
    }

    fn len(&self) -> usize {
        self.bytes().len() + self.payload.as_ref().map_or(0, Bytes::len)
    }

    /// The bytes, to be kept by others as well.
    fn share(self) -> Bytes {
        let bytes = self.piece.share();
        match self.payload {
            None => bytes,
            Some(payload) => [&bytes[..], &payload[..]].concat().into(),
        }
    }

    /// The bytes, but for a payload that lies elsewhere.
    fn bytes(&self) -> &[u8] {
        self.piece.bytes()
    }

    /// What its only frame says of the time that is left, if that runs.
    fn told(&self, now: Instant) -> Option<Told> {
        let left = self.expires?.since(now);
        let bytes = self.bytes();
        let head = Head::from_bytes(*bytes.first_chunk()?);
        let (command, tag) = match head.command {
            command::PUB | command::PUBX => (command::PUBX, properties::tag::TTL),
            _ => (command::MSGX, properties::tag::LEFT),
        };
        // Other properties have a length behind them already.
        let (cut, others) = match head.command {
            command::PUBX | command::MSGX => (properties::END, properties::len(*bytes.last_chunk()?)),
            _ => (0, 0),
        };
        let mut tail = [0; TOLD];
        let (time, end) = tail.split_at_mut(properties::TTL);
        time.copy_from_slice(&properties::time(tag, left));
        end.copy_from_slice(&properties::end(others + properties::TTL));
        Some(Told { head: head.longer(command, TOLD - cut)?.to_bytes(), cut, tail })
    }

    /// Moves its only frame into the stream, which says how much time is left.
    #[cold]
    fn move_told(self, stream: &mut HeapTx, now: Instant, latest: Option<u64>) -> Moved {
        let (before, frames) = (stream.len(), self.frames);
        match self.told(now) {
            Some(told) => told.move_to(stream, self.piece),
            None => stream.append(self.piece),
        }
        Moved { bytes: stream.len() - before, frames, latest }
    }

    /// Makes all its frames ordinary ones.
    fn strip(&mut self) {
        let mut rest = self.bytes();
        let mut plain = Vec::with_capacity(rest.len());
        while let Ok(frame) = Frame::parse(rest, &Limits::NONE)
            && let Some((bytes, behind)) = rest.split_at_checked(frame.encoded_len())
        {
            rest = behind;
            if frame.command == command::PUBX
                && let Some((message, _)) = frame.message()
                && let Some(head) = Frame::head(command::PUB, frame.subject.len(), message.len())
            {
                for part in [&head, frame.subject, message] {
                    plain.extend_from_slice(part);
                }
            } else {
                plain.extend_from_slice(bytes);
            }
        }
        self.piece = plain.into();
    }
}

/// How the time that is left changes a frame: another head, and something in place of the last `cut` bytes.
struct Told {
    head: [u8; HEAD],
    cut: usize,
    tail: [u8; TOLD],
}

/// Bytes of a time and of the length behind all properties.
const TOLD: usize = properties::TTL + properties::END;

impl Told {
    /// Moves the frame into the stream, changed. What others may see as well stays as it is.
    fn move_to(&self, stream: &mut HeapTx, mut piece: Piece) {
        let rest = piece.bytes().len() - self.cut;
        if let Some(frame) = piece.own() {
            frame.truncate(rest);
            frame.extend_from_slice(&self.tail);
            if let Some(head) = frame.first_chunk_mut() {
                *head = self.head;
            }
            stream.append(piece);
            return;
        }
        let frame = piece.share();
        if rest < COPY_BELOW {
            let mut copy = BytesMut::with_capacity(rest + TOLD);
            copy.extend_from_slice(&self.head);
            copy.extend_from_slice(frame.get(HEAD..rest).unwrap_or_default());
            copy.extend_from_slice(&self.tail);
            stream.push_shared(copy.freeze());
        } else {
            stream.push_shared(Bytes::copy_from_slice(&self.head));
            stream.push_shared(frame.slice(HEAD..rest));
            stream.push_shared(Bytes::copy_from_slice(&self.tail));
        }
    }
}

/// What the chunk with this number holds, if the first one has the number `left`.
fn chunk_at(chunks: &VecDeque<Chunk>, left: u64, number: u64) -> &[u8] {
    number.checked_sub(left).and_then(|index| chunks.get(index as usize)).map_or(&[], Chunk::bytes)
}

/// [`Outbox`] as a rope. It has no bound of its own: its owner asks for [`len`](Outbox::len) before it pushes.
#[derive(Debug, Default)]
pub struct HeapOutbox {
    chunks: VecDeque<Chunk>,
    len: usize,
    frames: usize,
    spare: Vec<u8>,
    /// The length of the last run: the next one is likely to get as long.
    last_run: usize,
    /// How many chunks have left at the front: the number of the first that waits.
    left: u64,
    /// Which chunks are to be superseded, if there ever were such.
    latest: Option<Box<Latest>>,
    /// When what is appended now has come, for who wants to know how long it waits.
    now: u32,
    /// Where that is counted.
    waits: Waits,
}

/// How long frames have waited, where somebody counts it.
pub(crate) type Waits = Option<Box<Histogram<Micros>>>;

/// Makes a frame one of another command.
fn set_command(frame: &mut [u8], command: u8) {
    if let Some(place) = frame.get_mut(LENGTH) {
        *place = command;
    }
}

impl HeapOutbox {
    /// What is appended from now on has come at this time.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now.as_micros() as u32;
    }

    /// Exchanges where it is counted how long what leaves has waited since [`set_now`](Self::set_now).
    pub(crate) fn swap_waits(&mut self, waits: &mut Waits) {
        core::mem::swap(&mut self.waits, waits);
    }

    /// Appends one whole frame that others may hold as well, to be forgotten if it still waits at `expires`.
    pub fn push_shared(&mut self, frame: Bytes, expires: Option<Instant>) {
        self.append(Chunk::one(frame.into(), expires, self.now));
    }

    /// Appends a copy of one whole frame, with this command.
    pub(crate) fn push_as(&mut self, frame: &[u8], command: u8) {
        let count = frame.len();
        if count >= COPY_BELOW {
            let mut copy = BytesMut::from(frame);
            set_command(&mut copy, command);
            return self.push_shared(copy.freeze(), None);
        }
        if let Some(run) = self.grow_run(count, 1) {
            let begin = run.len();
            run.extend_from_slice(frame);
            set_command(run.get_mut(begin..).unwrap_or_default(), command);
        }
    }

    /// Appends one whole frame, given in parts.
    #[inline]
    pub(crate) fn push_parts<const N: usize>(&mut self, parts: [&[u8]; N]) {
        let count = parts.iter().map(|part| part.len()).sum();
        if count >= COPY_BELOW {
            // It has room: there is always more.
            let _ = self.push(&parts, None);
        } else if let Some(run) = self.grow_run(count, 1) {
            parts.iter().for_each(|part| run.extend_from_slice(part));
        }
    }

    /// Appends copies of so many whole frames that lie together, each with this command.
    pub(crate) fn push_run(&mut self, frames: &[u8], count: u32, command: u8) {
        if let Some(run) = self.grow_run(frames.len(), count) {
            let begin = run.len();
            run.extend_from_slice(frames);
            set_commands(run.get_mut(begin..).unwrap_or_default(), command);
        }
    }

    /// The same, each as a MSGX with this `tail` behind it.
    pub(crate) fn push_run_with(&mut self, whole: &[u8], count: u32, tail: &[u8]) {
        if let Some(run) = self.grow_run(whole.len() + count as usize * tail.len(), count) {
            for frame in frames(whole) {
                let Some((head, rest)) = frame.split_first_chunk() else { continue };
                // The caller has seen that they are not too long.
                let Some(head) = Head::from_bytes(*head).longer(command::MSGX, tail.len()) else { continue };
                run.extend_from_slice(&head.to_bytes());
                run.extend_from_slice(rest);
                run.extend_from_slice(tail);
            }
        }
    }

    /// The same where others may hold them as well.
    pub(crate) fn push_shared_run(&mut self, frames: Bytes, count: u32) {
        self.append(Chunk { frames: count, ..Chunk::one(frames.into(), None, self.now) });
    }

    /// Appends one whole frame that gives way to the next one of its subject (see [`supersede`](Self::supersede)).
    /// `seed` is random: peers choose the subjects.
    pub fn push_latest(&mut self, frame: Bytes, expires: Option<Instant>, seed: u64) {
        let number = self.left + self.chunks.len() as u64;
        self.append(Chunk { latest: true, ..Chunk::one(frame.into(), expires, self.now) });
        let Self { chunks, left, latest, .. } = self;
        let latest = latest.get_or_insert_with(|| Box::new(Latest::new(seed)));
        latest.insert(number, |number| subject_of(chunk_at(chunks, *left, number)));
    }

    /// Puts `frame` in the place of the one of its subject that was appended by
    /// [`push_latest`](Self::push_latest) and still waits. False if there is none, or if more than `limit` bytes would wait then.
    pub fn supersede(&mut self, frame: &Bytes, expires: Option<Instant>, limit: usize) -> bool {
        let Self { chunks, len, left, latest: Some(latest), .. } = self else { return false };
        let key = subject_of(frame);
        let Some(number) = latest.find(key, |number| subject_of(chunk_at(chunks, *left, number)) == key) else {
            return false;
        };
        let Some(chunk) = chunks.get_mut((number - *left) as usize) else { return false };
        let after = *len - chunk.len() + frame.len();
        if after > limit && after > *len {
            latest.remove(key, number);
            return false;
        }
        *len = after;
        let (extended, latest) = (chunk.extended, true);
        *chunk = Chunk { extended, latest, ..Chunk::one(frame.clone().into(), expires, self.now) };
        true
    }

    /// There may be frames that give way.
    #[inline]
    pub(crate) fn has_latest(&self) -> bool {
        self.latest.is_some()
    }

    /// A frame of this subject is to follow that does not give way: so none that comes later may take a place before it.
    pub(crate) fn settle_place(&mut self, subject: &[u8]) {
        let Self { chunks, left, latest: Some(latest), .. } = self else { return };
        if let Some(number) = latest.find(subject, |number| subject_of(chunk_at(chunks, *left, number)) == subject) {
            latest.remove(subject, number);
        }
    }

    /// Takes out whole frames that lie together, and when they are to be forgotten.
    pub fn take_front(&mut self) -> Option<(Bytes, Option<Instant>)> {
        let chunk = self.pop()?;
        self.last_run = chunk.piece.own_len().unwrap_or(self.last_run);
        let expires = chunk.expires;
        Some((chunk.share(), expires))
    }

    /// Appends one whole frame whose payload is kept where it lies if it is long, behind `head`.
    pub(crate) fn push_apart(&mut self, head: &[&[u8]], payload: &Bytes) {
        let head: Vec<u8> = head.concat();
        if payload.len() < COPY_BELOW {
            // It has room: there is always more.
            let _ = self.push(&[&head, payload], None);
            return;
        }
        self.append(Chunk { payload: Some(payload.clone()), ..Chunk::one(Bytes::from(head).into(), None, self.now) });
    }

    /// Takes out the frames that `wanted` says, with the times when they are to be forgotten. The others stay in their order.
    /// None of those that were appended by [`push_latest`](Self::push_latest) is asked for.
    pub(crate) fn extract(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) -> Vec<(Bytes, Option<Instant>)> {
        let mut taken = Vec::new();
        for chunk in &mut self.chunks {
            if !frames(chunk.bytes()).any(&mut wanted) {
                continue;
            }
            let (mut kept, before) = (Vec::new(), taken.len());
            for frame in frames(chunk.bytes()) {
                if wanted(frame) {
                    taken.push((Bytes::copy_from_slice(frame), chunk.expires));
                    self.len -= frame.len();
                } else {
                    kept.extend_from_slice(frame);
                }
            }
            // It stays, even if nothing is left of it: the numbers of those behind it hold.
            chunk.piece = kept.into();
            self.frames -= taken.len() - before;
            chunk.frames -= (taken.len() - before) as u32;
        }
        self.trim();
        taken
    }

    /// Lets go of chunks at the front of which nothing is left.
    fn trim(&mut self) {
        while self.chunks.front().is_some_and(|chunk| chunk.frames == 0) {
            self.chunks.pop_front();
            self.left += 1;
        }
    }

    /// Moves all frames to the end of `other`.
    pub(crate) fn append_to(&mut self, other: &mut Self) {
        while let Some(chunk) = self.pop() {
            other.append(chunk);
        }
    }

    /// The same, for one that is filled and handed over again and again: what has room in the last run goes there, as if it
    /// had been appended at once.
    pub(crate) fn hand_over(&mut self, other: &mut Self) {
        // The first run of the next time is likely to get as long as this one's.
        self.last_run = self.chunks.front().and_then(|chunk| chunk.piece.own_len()).unwrap_or(self.last_run);
        while let Some(mut chunk) = self.pop() {
            if chunk.expires.is_none()
                && !chunk.extended
                && let Some(frames) = chunk.piece.own()
                && other.goes_on(frames.len())
                && let Some(run) = other.grow_run(frames.len(), chunk.frames)
            {
                run.append(frames);
                self.spare = core::mem::take(frames);
            } else {
                other.append(chunk);
            }
        }
    }

    /// True if something that waits gives way to the next one of its subject.
    pub(crate) fn gives_way(&self) -> bool {
        self.latest.as_ref().is_some_and(|latest| !latest.is_empty())
    }

    fn append(&mut self, chunk: Chunk) {
        self.len += chunk.len();
        self.frames += chunk.frames as usize;
        self.chunks.push_back(chunk);
    }

    /// Takes the front chunk out.
    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        if let Some(latest) = &mut self.latest {
            latest.remove(subject_of(chunk.bytes()), self.left);
        }
        self.left += 1;
        self.len -= chunk.len();
        self.frames -= chunk.frames as usize;
        self.trim();
        Some(chunk)
    }

    /// The run that frames of `count` bytes in all are appended to, which counts as done.
    fn grow_run(&mut self, count: usize, frames: u32) -> Option<&mut Vec<u8>> {
        self.len += count;
        self.frames += frames as usize;
        let now = self.now;
        let chunk = self.run(count);
        chunk.last = now;
        chunk.frames += frames;
        chunk.piece.own()
    }

    /// True if the last run has room for `count` bytes.
    fn goes_on(&self, count: usize) -> bool {
        matches!(self.chunks.back(), Some(Chunk { piece, expires: None, .. })
            if piece.own_len().is_some_and(|len| len + count <= RUN))
    }

    /// The run that still has room for `count` bytes, begun if need be.
    fn run(&mut self, count: usize) -> &mut Chunk {
        if !self.goes_on(count) {
            let mut run = core::mem::take(&mut self.spare);
            // Behind a full one the next is likely to get full as well: to grow bit by bit would copy it each time.
            let goes_on = matches!(self.chunks.back(), Some(Chunk { piece, expires: None, .. })
                if piece.own_len().is_some());
            run.reserve(if goes_on { RUN } else { count.max(self.last_run) });
            self.chunks.push_back(Chunk { frames: 0, ..Chunk::one(run.into(), None, self.now) });
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }
}

impl Outbox<HeapTx> for HeapOutbox {
    fn len(&self) -> usize {
        self.len
    }

    fn frames(&self) -> usize {
        self.frames
    }

    fn mid_frame(&self) -> bool {
        false
    }

    fn swap_waits_with(&mut self, other: &mut Self) {
        self.swap_waits(&mut other.waits);
    }

    fn push(&mut self, parts: &[&[u8]], expires: Option<Instant>) -> Result<(), PushError> {
        let count = parts.iter().map(|part| part.len()).sum();
        if expires.is_some() {
            // In a chunk of its own, with room for what may be told of its time.
            let mut frame = core::mem::take(&mut self.spare);
            frame.reserve(count + TOLD);
            for part in parts {
                frame.extend_from_slice(part);
            }
            self.append(Chunk::one(frame.into(), expires, self.now));
        } else if count >= COPY_BELOW {
            let mut frame = BytesMut::with_capacity(count);
            for part in parts {
                frame.extend_from_slice(part);
            }
            self.push_shared(frame.freeze(), None);
        } else if let Some(run) = self.grow_run(count, 1) {
            for part in parts {
                run.extend_from_slice(part);
            }
        }
        Ok(())
    }

    fn push_extended(&mut self, parts: &[&[u8]], expires: Option<Instant>) -> Result<(), PushError> {
        self.push(parts, expires)?;
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.extended = true;
        }
        Ok(())
    }

    fn push_superseding(&mut self, parts: &[&[u8]], expires: Option<Instant>, seed: u64) -> Result<(), PushError> {
        self.push_latest(parts.concat().into(), expires, seed);
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.extended = true;
        }
        Ok(())
    }

    #[inline]
    fn hold(&mut self, subject: &[u8]) {
        let Self { chunks, left, latest, .. } = self;
        if let Some(latest) = latest.as_mut().filter(|latest| !latest.is_empty()) {
            latest.forget(subject, |number| subject_of(chunk_at(chunks, *left, *number)) == subject);
        }
    }

    fn replace(&mut self, parts: &[&[u8]], expires: Option<Instant>, limit: usize) -> bool {
        self.latest.is_some() && self.supersede(&parts.concat().into(), expires, limit)
    }

    fn expires(&self) -> Option<Instant> {
        self.chunks.front()?.expires
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(chunk) = self.chunks.front_mut() else { return false };
        if chunk.frames == 1 {
            self.pop();
            return true;
        }
        let bytes = chunk.bytes();
        let announced = bytes.first_chunk().map_or(LENGTH, |length| frame::frame_len(*length));
        let count = announced.min(bytes.len());
        chunk.piece.skip(count);
        chunk.frames = chunk.frames.saturating_sub(1);
        self.len -= count;
        self.frames -= 1;
        true
    }

    fn drop_begun(&mut self) -> bool {
        false
    }

    fn move_to(&mut self, stream: &mut HeapTx, now: Instant, peer: Dialect) -> Option<Moved> {
        if peer == Dialect::Unknown && self.chunks.front()?.extended {
            return None;
        }
        let mut chunk = self.pop()?;
        if peer != Dialect::Extended && chunk.extended {
            chunk.strip();
        }
        if let Some(waits) = &mut self.waits {
            let now = now.as_micros() as u32;
            let [longest, least] = [chunk.first, chunk.last].map(|came| u64::from(now.wrapping_sub(came)));
            waits.record_evenly(least, longest, chunk.frames);
        }
        self.last_run = chunk.piece.own_len().unwrap_or(self.last_run);
        if self.spare.capacity() == 0 {
            self.spare = stream.take_spare();
        }
        let latest = match &self.latest {
            Some(latest) if chunk.latest => Some(latest.key(subject_of(chunk.bytes()))),
            _ => None,
        };
        if chunk.expires.is_some() && peer == Dialect::Extended {
            return Some(chunk.move_told(stream, now, latest));
        }
        let moved = Moved { bytes: chunk.len(), frames: chunk.frames, latest };
        stream.append(chunk.piece);
        if let Some(payload) = chunk.payload {
            stream.push_shared(payload);
        }
        Some(moved)
    }

    fn drop_longer(&mut self, limit: usize) -> u32 {
        let before = self.frames;
        for _ in 0..self.chunks.len() {
            let Some(chunk) = self.pop() else { break };
            let ttl = match chunk.expires {
                None => 0,
                Some(_) if chunk.extended => properties::TTL,
                Some(_) => properties::TTL + properties::END,
            };
            if chunk.len() + ttl <= limit + LENGTH {
                self.append(chunk);
            } else if chunk.frames > 1 {
                for frame in frames(chunk.bytes()) {
                    if frame.len() <= limit + LENGTH {
                        // It has room, however much waits.
                        let _ = if frame.get(LENGTH) == Some(&command::PUBX) {
                            self.push_extended(&[frame], None)
                        } else {
                            self.push(&[frame], None)
                        };
                    }
                }
            }
        }
        (before - self.frames) as u32
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
