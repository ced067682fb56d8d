//! Frames in a ring of bytes.

use super::{FrameStore, Moved, Outbox, PushError};
use crate::frame::{self, HEAD, Head, LENGTH, TTL, command};
use crate::store::{Lent, LentTx, Ring, TooLarge};
use crate::time::Instant;

impl<'a, const TEXT: usize> FrameStore for Lent<'a, TEXT> {
    type Outbox = LentOutbox<'a>;
}

/// [`Outbox`] over a borrowed slice.
///
/// A frame whose time runs lies there as a PUBT with the moment at which it is to be forgotten (8 bytes) in place of the
/// time that is left.
#[derive(Debug)]
pub struct LentOutbox<'a> {
    ring: Ring<'a>,
    frames: usize,
    /// Bytes of the front frame that have not been moved, if some of it has.
    rest: usize,
    /// Bytes behind the front frame that are not to be moved, if some of it has been.
    tail: usize,
}

/// Bytes of the moment behind a frame whose time runs.
const EXPIRES: usize = 8;
/// Frames have times at all. Where they have none no code for it is left.
const TIMED: bool = cfg!(feature = "ttl");

impl<'a> LentOutbox<'a> {
    /// An outbox for frames of `buf.len()` bytes in all.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { ring: Ring::new(buf), frames: 0, rest: 0, tail: 0 }
    }

    /// Length of the first frame that is still whole, its own length field included.
    fn frame_len(&self) -> usize {
        let mut length = [0; LENGTH];
        self.ring.copy_to(self.rest, &mut length);
        frame::frame_len(length)
    }

    /// The head of the front frame and when it is to be forgotten, if its time runs and nothing of it was moved.
    fn timed(&self) -> Option<(Head, Instant)> {
        let mut bytes = [0; HEAD];
        if !TIMED || self.frames == 0 || self.rest > 0 || self.ring.copy_to(0, &mut bytes) < HEAD {
            return None;
        }
        let head = Some(Head::from_bytes(bytes)).filter(|head| head.command == command::PUBT)?;
        let mut expires = [0; EXPIRES];
        self.ring.copy_to(head.frame_len().saturating_sub(EXPIRES), &mut expires);
        Some((head, Instant::from_micros(u64::from_be_bytes(expires))))
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), PushError> {
        let actual = parts.iter().map(|part| part.len()).sum();
        if actual > self.ring.capacity() {
            return Err(PushError::TooLarge(TooLarge { limit: self.ring.capacity(), actual }));
        }
        if actual > self.ring.room() {
            return Err(PushError::Full);
        }
        for part in parts {
            self.ring.write(part);
        }
        self.frames += 1;
        Ok(())
    }

    fn write_timed(&mut self, parts: &[&[u8]], expires: Instant) -> Result<(), PushError> {
        let Some((first, others)) = parts.split_first() else { return Ok(()) };
        let Some((head, rest)) = first.split_first_chunk() else { return Err(PushError::Full) };
        let Some(head) = Head::from_bytes(*head).timed(EXPIRES).filter(|_| others.len() <= 3) else {
            return Err(PushError::Full);
        };
        let moment = expires.as_micros().to_be_bytes();
        let others = |index: usize| others.get(index).copied().unwrap_or_default();
        self.write(&[&head.to_bytes(), rest, others(0), others(1), others(2), &moment])
    }

    /// Begins with the front frame, of which nothing was moved; if its time runs it gets the form in which it goes out.
    fn begin(&mut self, now: Instant, tell: bool) {
        let timed = self.timed();
        let len = self.frame_len();
        (self.rest, self.tail) = (len, 0);
        if let Some((head, expires)) = timed {
            let (command, kept) = if tell { (command::PUBT, TTL) } else { (command::PUB, 0) };
            self.tail = EXPIRES - kept;
            self.rest = len - self.tail;
            self.ring.patch(0, &head.untimed(command, self.tail).to_bytes());
            self.ring.patch(self.rest - kept, frame::ttl(expires.since(now)).get(..kept).unwrap_or_default());
        }
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
            _ => self.write(parts),
        }
    }

    fn expires(&self) -> Option<Instant> {
        self.timed().map(|(_, expires)| expires)
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

    fn move_to(&mut self, stream: &mut LentTx<'_>, now: Instant, tell: bool) -> Option<Moved> {
        let mut moved = Moved { bytes: 0, frames: 0 };
        while stream.room() > 0 {
            if self.rest == 0 {
                if self.frames == 0 || (moved.bytes > 0 && self.timed().is_some()) {
                    break;
                }
                self.begin(now, tell);
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
            let timed = if self.timed().is_some() { EXPIRES - TTL } else { 0 };
            if len - timed > limit + LENGTH {
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
