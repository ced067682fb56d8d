//! Memory from the allocator: ropes of `Bytes` that hold nothing while a session is idle.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::latest::Latest;
use super::{Full, Inbox, Moved, Outbox, PushError, Queue, RxWindow, Store, Text, TooLarge, TxStream};

use crate::layout::{self, command};
use crate::time::Instant;

/// The store of servers and desktop programs.
#[derive(Debug)]
pub struct Heap(());

impl Store for Heap {
    type Body<'b> = Bytes;
    type Text = Box<str>;
    type Queue<T: 'static> = VecDeque<T>;
    type Tx = HeapTx;
    type Rx = HeapRx;
    type Outbox = HeapOutbox;
    type Inbox = HeapInbox;
}

impl Text for Box<str> {
    fn new(text: &str) -> Result<Self, TooLarge> {
        Ok(text.into())
    }
}

/// No bound of its own: what goes in is bounded by windows and by the counts that configuration sets.
impl<T> Queue<T> for VecDeque<T> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn get(&self, index: usize) -> Option<&T> {
        Self::get(self, index)
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        Self::get_mut(self, index)
    }

    fn push(&mut self, item: T) -> Result<(), Full> {
        self.push_back(item);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn swap_remove(&mut self, index: usize) -> Option<T> {
        self.swap_remove_back(index)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn has_room(&self) -> bool {
        true
    }
}

/// Frames shorter than this are copied next to each other; longer ones are kept by reference.
const COPY_BELOW: usize = 4096;
/// A run of copied frames is closed when it is this long: about the data of the longest datagrams.
const RUN: usize = 16 * 1024;
/// The longest empty buffer that is kept for the next run or frame.
const SPARE: usize = 2 * 1024;

/// One link of a rope: whole frames, of which the first `start` bytes are gone already.
#[derive(Debug)]
struct Chunk {
    data: Data,
    start: usize,
    frames: u32,
    /// When its only frame is to be forgotten; [`Instant::MAX`] for frames that wait as long as it takes.
    expires: Instant,
}

#[derive(Debug)]
enum Data {
    Run(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn new(data: Data, frames: u32) -> Self {
        Self { data, start: 0, frames, expires: Instant::MAX }
    }

    fn bytes(&self) -> &[u8] {
        let all: &[u8] = match &self.data {
            Data::Run(run) => run,
            Data::Shared(bytes) => bytes,
        };
        all.get(self.start..).unwrap_or_default()
    }

    /// Makes a PUBT of its only frame.
    fn tell(&mut self, now: Instant) {
        if let Data::Run(frame) = &mut self.data
            && let Some(head) = frame.first_chunk_mut()
            && layout::retime(head, command::PUBT, layout::TTL as i32)
        {
            frame.extend_from_slice(&layout::ttl(self.expires.since(now)));
        }
    }
}

/// The subject of a whole frame.
fn subject(frame: &[u8]) -> &[u8] {
    let subject = frame.split_first_chunk().and_then(|([.., s0, s1], rest): (&[u8; layout::HEAD], _)| {
        rest.get(..usize::from(u16::from_be_bytes([*s0, *s1])))
    });
    subject.unwrap_or_default()
}

/// What the chunk with this number holds, if the first one has the number `left`.
fn chunk_at(chunks: &VecDeque<Chunk>, left: u64, number: u64) -> &[u8] {
    number.checked_sub(left).and_then(|index| chunks.get(index as usize)).map_or(&[], Chunk::bytes)
}

/// [`TxStream`] as a rope.
#[derive(Debug, Default)]
pub struct HeapTx {
    chunks: VecDeque<Chunk>,
    len: usize,
    /// Where the last read ended, as a chunk's index and the bytes of the stream before that chunk: reads go forward,
    /// so the next one need not walk from the front.
    cursor: (usize, usize),
    spare: Vec<u8>,
}

impl HeapTx {
    /// Appends `bytes` by reference.
    pub fn push_shared(&mut self, bytes: Bytes) {
        self.append(Chunk::new(Data::Shared(bytes), 0));
    }

    fn append(&mut self, chunk: Chunk) {
        self.len += chunk.bytes().len();
        self.chunks.push_back(chunk);
    }
}

impl TxStream for HeapTx {
    fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.push_shared(Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn copy_to(&mut self, skip: usize, out: &mut [u8]) {
        let (mut index, mut before) = if skip >= self.cursor.1 { self.cursor } else { (0, 0) };
        let mut out = out;
        let mut skip = skip;
        while let Some(chunk) = self.chunks.get(index) {
            let bytes = chunk.bytes();
            if let Some(from) = skip.checked_sub(before).and_then(|at| bytes.get(at..)) {
                let count = from.len().min(out.len());
                out[..count].copy_from_slice(&from[..count]);
                out = &mut out[count..];
                skip += count;
            }
            if out.is_empty() {
                break;
            }
            before += bytes.len();
            index += 1;
        }
        self.cursor = (index, before);
    }

    fn release(&mut self, count: usize) {
        let mut count = count.min(self.len);
        self.len -= count;
        let (mut index, mut before) = self.cursor;
        while let Some(front) = self.chunks.front_mut() {
            let held = front.bytes().len();
            if count < held {
                front.start += count;
                // What was before the cursor shrinks, unless the cursor stands on this chunk.
                before = if index == 0 { 0 } else { before.saturating_sub(count) };
                break;
            }
            count -= held;
            (index, before) = if index == 0 { (0, 0) } else { (index - 1, before.saturating_sub(held)) };
            if let Some(Chunk { data: Data::Run(mut run), .. }) = self.chunks.pop_front()
                && run.capacity() <= SPARE
            {
                run.clear();
                self.spare = run;
            }
        }
        self.cursor = (index, before);
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// [`RxWindow`] as a ring of buffers that exist only while they hold something.
#[derive(Debug)]
pub struct HeapRx {
    slots: usize,
    ring: VecDeque<Option<Slot>>,
    consumed: usize,
    /// Emptied buffers for the segments to come.
    free: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Slot {
    frg: u8,
    data: Vec<u8>,
}

/// The most emptied buffers that are kept.
const FREE: usize = 64;

impl HeapRx {
    /// A window of `slots` segments.
    pub fn new(slots: usize) -> Self {
        Self { slots, ring: VecDeque::new(), consumed: 0, free: Vec::new() }
    }
}

impl RxWindow for HeapRx {
    fn slots(&self) -> usize {
        self.slots
    }

    fn put(&mut self, slot: usize, frg: u8, data: &[u8]) -> Result<(), TooLarge> {
        if slot >= self.slots {
            return Err(TooLarge { limit: self.slots, actual: slot });
        }
        if slot >= self.ring.len() {
            self.ring.resize_with(slot + 1, || None);
        }
        let place = &mut self.ring[slot];
        if place.is_none() {
            let mut buffer = self.free.pop().unwrap_or_default();
            buffer.extend_from_slice(data);
            *place = Some(Slot { frg, data: buffer });
        }
        Ok(())
    }

    fn has(&self, slot: usize) -> bool {
        self.ring.get(slot).is_some_and(Option::is_some)
    }

    fn front(&self) -> Option<(&[u8], u8)> {
        let slot = self.ring.front()?.as_ref()?;
        Some((slot.data.get(self.consumed..).unwrap_or_default(), slot.frg))
    }

    fn peek(&self, slot: usize) -> Option<(u8, usize)> {
        self.ring.get(slot)?.as_ref().map(|slot| (slot.frg, slot.data.len()))
    }

    fn consume(&mut self, count: usize) {
        self.consumed = self.consumed.saturating_add(count);
    }

    fn advance(&mut self) {
        self.consumed = 0;
        if let Some(Some(mut slot)) = self.ring.pop_front()
            && self.free.len() < FREE
        {
            slot.data.clear();
            self.free.push(slot.data);
        }
        if self.ring.is_empty() && self.free.len() > 1 {
            // Nothing is out of order any more: keep one buffer, give the rest back.
            self.free = Vec::new();
        }
    }

    fn clear(&mut self) {
        *self = Self::new(self.slots);
    }
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
}

impl HeapOutbox {
    /// Appends one whole frame that others may hold as well, to be forgotten if it still waits at `expires`
    /// ([`Instant::MAX`]: never).
    pub fn push_shared(&mut self, frame: Bytes, expires: Instant) {
        self.append(Chunk { expires, ..Chunk::new(Data::Shared(frame), 1) });
    }

    /// Appends one whole frame that gives way to the next one of its subject (see [`supersede`](Self::supersede)).
    /// `seed` is random: peers choose the subjects.
    pub fn push_latest(&mut self, frame: Bytes, expires: Instant, seed: u64) {
        let number = self.left + self.chunks.len() as u64;
        self.push_shared(frame, expires);
        let Self { chunks, left, latest, .. } = self;
        let latest = latest.get_or_insert_with(|| Box::new(Latest::new(seed)));
        latest.insert(number, |number| subject(chunk_at(chunks, *left, number)));
    }

    /// Puts `frame` in the place of the one of its subject that was appended by [`push_latest`](Self::push_latest) and
    /// still waits. False if there is none, or if more than `limit` bytes would wait then.
    pub fn supersede(&mut self, frame: &Bytes, expires: Instant, limit: usize) -> bool {
        let Self { chunks, len, left, latest: Some(latest), .. } = self else { return false };
        let key = subject(frame);
        let Some(number) = latest.find(key, |number| subject(chunk_at(chunks, *left, number)) == key) else {
            return false;
        };
        let Some(chunk) = chunks.get_mut((number - *left) as usize) else { return false };
        let after = *len - chunk.bytes().len() + frame.len();
        if after > limit && after > *len {
            return false;
        }
        *len = after;
        *chunk = Chunk { expires, ..Chunk::new(Data::Shared(frame.clone()), 1) };
        true
    }

    /// Takes out whole frames that lie together, and when they are to be forgotten.
    pub(crate) fn take_front(&mut self) -> Option<(Bytes, Instant)> {
        let chunk = self.pop()?;
        let bytes = match chunk.data {
            Data::Run(run) => {
                self.last_run = run.len();
                run.into()
            }
            Data::Shared(bytes) => bytes,
        };
        Some((bytes.slice(chunk.start..), chunk.expires))
    }

    /// Moves all frames to the end of `other`.
    pub(crate) fn append_to(&mut self, other: &mut Self) {
        while let Some(chunk) = self.pop() {
            other.append(chunk);
        }
    }

    fn append(&mut self, chunk: Chunk) {
        self.len += chunk.bytes().len();
        self.frames += chunk.frames as usize;
        self.chunks.push_back(chunk);
    }

    /// Takes the front chunk out.
    fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        if let Some(latest) = &mut self.latest {
            latest.remove(subject(chunk.bytes()), self.left);
        }
        self.left += 1;
        self.len -= chunk.bytes().len();
        self.frames -= chunk.frames as usize;
        Some(chunk)
    }

    /// The run that still has room for `count` bytes, begun if need be.
    fn run(&mut self, count: usize) -> &mut Chunk {
        let fits = matches!(self.chunks.back(), Some(Chunk { data: Data::Run(run), expires: Instant::MAX, .. })
            if run.len() + count <= RUN);
        if !fits {
            let mut run = core::mem::take(&mut self.spare);
            // Behind a full one the next is likely to get full as well: to grow bit by bit would copy it each time.
            let goes_on = matches!(self.chunks.back(), Some(Chunk { data: Data::Run(_), expires: Instant::MAX, .. }));
            run.reserve(if goes_on { RUN } else { count.max(self.last_run) });
            self.chunks.push_back(Chunk::new(Data::Run(run), 0));
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

    fn push(&mut self, parts: &[&[u8]]) -> Result<(), PushError> {
        let count = parts.iter().map(|part| part.len()).sum();
        if count >= COPY_BELOW {
            let mut frame = BytesMut::with_capacity(count);
            for part in parts {
                frame.extend_from_slice(part);
            }
            self.push_shared(frame.freeze(), Instant::MAX);
            return Ok(());
        }
        let chunk = self.run(count);
        if let Data::Run(run) = &mut chunk.data {
            for part in parts {
                run.extend_from_slice(part);
            }
            chunk.frames += 1;
        }
        self.len += count;
        self.frames += 1;
        Ok(())
    }

    fn push_until(&mut self, parts: &[&[u8]], expires: Instant) -> Result<(), PushError> {
        // In a chunk of its own, with room for what may be told of its time.
        let count: usize = parts.iter().map(|part| part.len()).sum();
        let mut frame = core::mem::take(&mut self.spare);
        frame.reserve(count + layout::TTL);
        for part in parts {
            frame.extend_from_slice(part);
        }
        self.append(Chunk { expires, ..Chunk::new(Data::Run(frame), 1) });
        Ok(())
    }

    fn expire(&mut self, now: Instant) -> u32 {
        let mut expired = 0;
        while self.chunks.front().is_some_and(|chunk| chunk.expires <= now) {
            expired += self.pop().map_or(0, |chunk| chunk.frames);
        }
        expired
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(chunk) = self.chunks.front_mut() else { return false };
        if chunk.frames == 1 {
            self.pop();
            return true;
        }
        let bytes = chunk.bytes();
        let announced = bytes.first_chunk().map_or(0, |head: &[u8; 4]| u32::from_be_bytes(*head) as usize);
        let count = announced.saturating_add(4).min(bytes.len());
        chunk.start += count;
        chunk.frames = chunk.frames.saturating_sub(1);
        self.len -= count;
        self.frames -= 1;
        true
    }

    fn drop_begun(&mut self) -> bool {
        false
    }

    fn move_to(&mut self, stream: &mut HeapTx, now: Instant, tell: bool) -> Option<Moved> {
        let expired = self.expire(now);
        let Some(mut chunk) = self.pop() else {
            return (expired > 0).then_some(Moved { bytes: 0, frames: 0, expired });
        };
        if tell && chunk.expires < Instant::MAX {
            chunk.tell(now);
        }
        let moved = Moved { bytes: chunk.bytes().len(), frames: chunk.frames, expired };
        if let Data::Run(run) = &chunk.data {
            self.last_run = run.len();
        }
        if self.spare.capacity() == 0 {
            self.spare = core::mem::take(&mut stream.spare);
        }
        stream.append(chunk);
        Some(moved)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// [`Inbox`] that hands out pieces of larger buffers, so that small messages cost no allocation each.
#[derive(Debug)]
pub struct HeapInbox {
    limit: usize,
    arena: usize,
    buf: BytesMut,
}

impl HeapInbox {
    /// An inbox for frames of up to `limit` bytes; small ones share buffers of `arena` bytes.
    pub fn new(limit: usize, arena: usize) -> Self {
        Self { limit, arena, buf: BytesMut::new() }
    }

    /// The bytes of the current frame so far, to change them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf
    }

    fn append(&mut self, data: &[u8]) {
        if self.buf.capacity() - self.buf.len() < data.len() {
            // Grows with what has arrived, never with what was announced.
            self.buf.reserve(data.len().max(self.arena).max(self.buf.len()));
        }
        self.buf.extend_from_slice(data);
    }
}

impl Inbox<Heap> for HeapInbox {
    fn capacity(&self) -> usize {
        self.limit
    }

    fn bytes(&self) -> &[u8] {
        &self.buf
    }

    fn write(&mut self, data: &[u8]) {
        self.append(data);
    }

    fn take(&mut self) -> Bytes {
        self.buf.split().freeze()
    }

    fn duplicate(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.buf)
    }

    fn adopt<'b>(&'b mut self, source: &'b [u8]) -> Bytes {
        self.append(source);
        self.buf.split().freeze()
    }

    fn clear(&mut self) {
        if self.buf.capacity() > self.arena.max(SPARE) {
            self.buf = BytesMut::new();
        } else {
            self.buf.clear();
        }
    }
}
