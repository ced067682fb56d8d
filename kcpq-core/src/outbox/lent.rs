//! Frames in a ring of bytes.

use super::{Dialect, FrameStore, Moved, Outbox, PushError};
use crate::frame::{self, HEAD, Head, LENGTH, command, properties};
use crate::store::{Lent, LentTx, Ring, TooLarge, TxStream};
use crate::time::Instant;

impl<'a, const TEXT: usize> FrameStore for Lent<'a, TEXT> {
    type Outbox = LentOutbox<'a>;
}

/// [`Outbox`] over a borrowed slice.
///
/// A frame whose time runs lies there with another bit in its command, and behind it the moment at which it is to be
/// forgotten.
#[derive(Debug)]
pub struct LentOutbox<'a> {
    ring: Ring<'a>,
    frames: usize,
    /// Bytes of the front frame that have not been moved, if some of it has.
    rest: usize,
    /// Bytes behind the front frame that are not to be moved, if some of it has been.
    tail: usize,
}

/// The bit of a command that says that its frame's time runs.
const RUNS: u8 = 0x80;
/// That of its subject only the latest counts, and that it keeps its place all the same; its frame is a PUBX.
const LATEST: u8 = 0x40;
const HELD: u8 = 0x20;
/// All of them.
const BITS: u8 = RUNS | LATEST | HELD;
/// Bytes of the moment behind such a frame: as many as the time that is left takes as the only property.
const EXPIRES: usize = properties::TTL + properties::END;
/// Frames have times, and other properties, at all. Where they have none no code for it is left.
const TIMED: bool = cfg!(feature = "ttl");
const EXTENDED: bool = cfg!(feature = "properties");
const SUPERSEDING: bool = EXTENDED && cfg!(feature = "lanes");

/// The front frame, if its head is not to go out as it lies there.
struct Special {
    head: Head,
    /// When it is to be forgotten.
    expires: Option<Instant>,
    /// It is a PUBX.
    extended: bool,
    /// Of its subject only the latest counts.
    latest: bool,
}

impl<'a> LentOutbox<'a> {
    /// An outbox for frames of `buf.len()` bytes in all.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { ring: Ring::new(buf), frames: 0, rest: 0, tail: 0 }
    }

    /// Length of the first frame that is still whole, its own length field included.
    fn frame_len(&self) -> usize {
        self.len_at(self.rest)
    }

    fn len_at(&self, at: usize) -> usize {
        let mut length = [0; LENGTH];
        self.ring.copy_to(at, &mut length);
        frame::frame_len(length)
    }

    /// The front frame, if its time runs or it has properties, and nothing of it was moved.
    fn special(&self) -> Option<Special> {
        let mut bytes = [0; HEAD];
        if !(TIMED || EXTENDED) || self.frames == 0 || self.rest > 0 || self.ring.copy_to(0, &mut bytes) < HEAD {
            return None;
        }
        let head = Head::from_bytes(bytes);
        let (runs, latest) = (TIMED && head.command & RUNS != 0, SUPERSEDING && head.command & LATEST != 0);
        let extended = EXTENDED && head.command & !BITS == command::PUBX;
        if !runs && !extended {
            return None;
        }
        let expires = runs.then(|| Instant::from_micros(u64::from_be_bytes(self.bytes_at(head.frame_len(), EXPIRES))));
        Some(Special { head, expires, extended, latest })
    }

    /// The bytes that lie `back` before `end`.
    fn bytes_at<const N: usize>(&self, end: usize, back: usize) -> [u8; N] {
        let mut bytes = [0; N];
        self.ring.copy_to(end.saturating_sub(back), &mut bytes);
        bytes
    }

    /// Where the frame of this subject begins that gives way, if one waits of which nothing was moved.
    fn find_latest(&self, subject: &[u8]) -> Option<usize> {
        let mut at = self.rest + self.tail;
        while SUPERSEDING && at < self.ring.len() {
            let mut bytes = [0; HEAD];
            self.ring.copy_to(at, &mut bytes);
            let head = Head::from_bytes(bytes);
            if head.command & (LATEST | HELD) == LATEST
                && usize::from(head.subject_len) == subject.len()
                && self.ring.is(at + HEAD, subject)
            {
                return Some(at);
            }
            at += head.frame_len();
        }
        None
    }

    /// Sets a bit of the frame at this place.
    fn set(&mut self, at: usize, bit: u8) {
        let mut command = [0];
        self.ring.copy_to(at + LENGTH, &mut command);
        self.ring.patch(at + LENGTH, &command.map(|command| command | bit));
    }

    /// A hash of the front frame's subject, of which nothing was moved: FNV-1a.
    fn key(&self) -> u64 {
        let mut bytes = [0; HEAD];
        self.ring.copy_to(0, &mut bytes);
        let (one, two) = self.ring.slices(HEAD);
        let subject = one.iter().chain(two).take(Head::from_bytes(bytes).subject_len.into());
        subject.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
    }

    fn write(&mut self, parts: &[&[u8]], behind: &[u8]) -> Result<(), PushError> {
        let actual = parts.iter().map(|part| part.len()).sum::<usize>() + behind.len();
        if actual > self.ring.capacity() {
            return Err(PushError::TooLarge(TooLarge { limit: self.ring.capacity(), actual }));
        }
        if actual > self.ring.room() {
            return Err(PushError::Full);
        }
        for part in parts {
            self.ring.write(part);
        }
        self.ring.write(behind);
        self.frames += 1;
        Ok(())
    }

    fn write_timed(&mut self, parts: &[&[u8]], expires: Instant) -> Result<(), PushError> {
        let head = parts.first().and_then(|first| first.first_chunk()).map(|bytes| Head::from_bytes(*bytes));
        let Some(head) = head.and_then(|head| head.longer(head.command | RUNS, EXPIRES)) else {
            return Err(PushError::Full);
        };
        let mut moment = [0; EXPIRES];
        if let Some(place) = moment.first_chunk_mut() {
            *place = expires.as_micros().to_be_bytes();
        }
        let at = self.ring.len();
        self.write(parts, &moment)?;
        self.ring.patch(at, &head.to_bytes());
        Ok(())
    }

    /// Begins with the front frame, of which nothing was moved; it gets the form in which it goes out.
    fn begin(&mut self, now: Instant, peer: Dialect) {
        let special = self.special();
        let len = self.frame_len();
        (self.rest, self.tail) = (len, 0);
        let Some(Special { head, expires, extended, latest }) = special else { return };
        let end = len - if expires.is_some() { EXPIRES } else { 0 };
        let (before, old) =
            if extended { (properties::END, properties::len(self.bytes_at(end, properties::END))) } else { (0, 0) };
        let mut command = command::PUB;
        if peer != Dialect::Extended {
            self.rest = end - if extended { before + old } else { 0 };
        } else if let Some(at) = expires {
            // Where the length of the other properties was, if there are any.
            let place = end - before;
            self.ring.patch(place, &properties::time(properties::tag::TTL, at.since(now)));
            self.ring.patch(place + properties::TTL, &properties::end(old + properties::TTL));
            self.rest = place + EXPIRES;
            command = command::PUBX;
        } else if latest {
            command = command::PUBX;
        } else {
            return;
        }
        self.tail = len - self.rest;
        self.ring.patch(0, &head.shorter(command, self.tail).to_bytes());
    }
}

impl Outbox<LentTx<'_>> for LentOutbox<'_> {
    fn len(&self) -> usize {
        self.ring.len()
    }

    fn frames(&self) -> usize {
        self.frames
    }

    fn mid_frame(&self) -> bool {
        self.rest > 0
    }

    fn push(&mut self, parts: &[&[u8]], expires: Option<Instant>) -> Result<(), PushError> {
        match expires {
            Some(expires) if TIMED => self.write_timed(parts, expires),
            _ => self.write(parts, &[]),
        }
    }

    fn push_superseding(&mut self, parts: &[&[u8]], expires: Option<Instant>, _seed: u64) -> Result<(), PushError> {
        let at = self.ring.len();
        self.push_extended(parts, expires)?;
        if SUPERSEDING {
            self.set(at, LATEST);
        }
        Ok(())
    }

    fn hold(&mut self, subject: &[u8]) {
        if let Some(at) = self.find_latest(subject) {
            self.set(at, HELD);
        }
    }

    fn replace(&mut self, parts: &[&[u8]], expires: Option<Instant>, limit: usize) -> bool {
        let Some(at) = parts.get(1).and_then(|subject| self.find_latest(subject)) else { return false };
        let old = self.len_at(at);
        let new = parts.iter().map(|part| part.len()).sum::<usize>() + if expires.is_some() { EXPIRES } else { 0 };
        let (all, behind) = (self.ring.len() - old + new, self.ring.len() - at - old);
        if all > self.ring.capacity() || all > limit && new > old {
            self.set(at, HELD);
            return false;
        }
        // Around once: what is before it goes to the back, then it does, then what is behind it.
        self.ring.rotate(at);
        self.ring.release(old);
        self.frames -= 1;
        let written = self.push_superseding(parts, expires, 0).is_ok();
        self.ring.rotate(behind);
        written
    }

    fn expires(&self) -> Option<Instant> {
        self.special()?.expires
    }

    fn drop_oldest(&mut self) -> bool {
        // A frame that has begun to go out must go out whole; only what is behind it could go, and a ring cannot
        // give up its middle.
        if self.frames == 0 || self.rest > 0 {
            return false;
        }
        self.ring.release(self.frame_len());
        self.frames -= 1;
        true
    }

    fn drop_begun(&mut self) -> bool {
        if self.rest == 0 {
            return false;
        }
        self.ring.release(core::mem::take(&mut self.rest) + core::mem::take(&mut self.tail));
        self.frames -= 1;
        true
    }

    fn move_to(&mut self, stream: &mut LentTx<'_>, now: Instant, peer: Dialect) -> Option<Moved> {
        let mut moved = Moved { bytes: 0, frames: 0, latest: None };
        while stream.room() > 0 {
            if self.rest == 0 {
                let special = self.special();
                // One that gives way goes alone, and at once.
                let latest = SUPERSEDING && special.as_ref().is_some_and(|front| front.latest);
                let fits = !latest || stream.is_empty() || stream.room() >= self.frame_len();
                let waits = |front: Special| {
                    let alone = front.expires.is_some() || front.latest;
                    moved.bytes > 0 && alone || front.extended && peer == Dialect::Unknown
                };
                if self.frames == 0 || !fits || special.is_some_and(waits) {
                    break;
                }
                moved.latest = (latest && stream.room() >= self.frame_len()).then(|| self.key());
                self.begin(now, peer);
            }
            let (front, _) = self.ring.slices(0);
            let count = stream.write(front.get(..self.rest).unwrap_or(front));
            self.ring.release(count);
            self.rest -= count;
            moved.bytes += count;
            if self.rest == 0 {
                self.ring.release(core::mem::take(&mut self.tail));
                self.frames -= 1;
                moved.frames += 1;
                if moved.latest.is_some() {
                    break;
                }
            }
        }
        (moved.bytes > 0).then_some(moved)
    }

    fn drop_longer(&mut self, limit: usize) -> u32 {
        let mut dropped = 0;
        let mut whole = self.frames;
        if self.rest > 0 {
            whole -= 1;
            self.ring.rotate(self.rest + self.tail);
        }
        // Around once: what stays goes to the back. The lengths of whole frames are read at the front.
        let rest = core::mem::take(&mut self.rest);
        for _ in 0..whole {
            let len = self.frame_len();
            // The time takes as many bytes on the wire, but for the length of properties that are there already.
            let both = |front: Special| front.expires.is_some() && front.extended;
            let less = if self.special().is_some_and(both) { properties::END } else { 0 };
            if len - less > limit + LENGTH {
                self.ring.release(len);
                dropped += 1;
            } else {
                self.ring.rotate(len);
            }
        }
        self.rest = rest;
        self.frames -= dropped as usize;
        dropped
    }

    fn clear(&mut self) {
        self.ring.clear();
        self.frames = 0;
        self.rest = 0;
        self.tail = 0;
    }
}
