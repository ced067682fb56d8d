//! Memory from the allocator: containers that hold nothing while a session is idle.

#[cfg(feature = "lanes")]
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::index::{HeapIndex, HeapText};
#[cfg(feature = "lanes")]
use super::lanes::{HeapLanes, HeapNumbers};
use super::rope::HeapTx;
use super::{Full, Inbox, Queue, Room, RxWindow, Store, TooLarge};

/// The longest empty buffer that is kept for what comes next.
pub(super) const SPARE: usize = 2 * 1024;

/// The store of servers and desktop programs.
#[derive(Debug)]
pub struct Heap(());

impl Store for Heap {
    type Body<'b> = Bytes;
    type Text = HeapText;
    type Index = HeapIndex;
    type Queue<T: 'static> = VecDeque<T>;
    type Tx = HeapTx;
    type Rx = HeapRx;
    type Inbox = HeapInbox;
    #[cfg(feature = "lanes")]
    type Lanes<T> = HeapLanes<T>;
    #[cfg(feature = "lanes")]
    type Own<T> = Box<T>;
    #[cfg(feature = "lanes")]
    type Numbers = HeapNumbers;

    const GROWS: bool = true;

    fn stream() -> Option<HeapTx> {
        Some(HeapTx::default())
    }

    #[cfg(any(feature = "lanes", feature = "confirm", feature = "request"))]
    fn queue<T: 'static>() -> Option<VecDeque<T>> {
        Some(VecDeque::new())
    }

    #[cfg(feature = "lanes")]
    fn numbers() -> Option<HeapNumbers> {
        Some(HeapNumbers::default())
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

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn has_room(&self) -> bool {
        true
    }

    fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

/// [`RxWindow`] as a list of what has come, in order: what is missing before it costs nothing.
#[derive(Debug)]
pub struct HeapRx {
    slots: usize,
    held: VecDeque<Slot>,
    /// The number of the first slot, wrapping.
    base: u32,
    consumed: usize,
    /// Of memory that all entries take.
    bytes: usize,
    /// How much more may be taken in, where memory is short.
    room: Option<Room>,
    /// Segments that have left and count as unread.
    elsewhere: usize,
    /// Emptied buffers for the segments to come.
    free: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Slot {
    /// Its slot's number, counted as [`HeapRx::base`].
    number: u32,
    frg: u8,
    data: Vec<u8>,
}

/// The most emptied buffers that are kept.
const FREE: usize = 8;
/// Places for segments that an empty window keeps.
const PLACES: usize = 64;
/// What an entry takes besides its data: its place, and what an allocator needs.
const ENTRY: usize = size_of::<Slot>() + 16;

impl HeapRx {
    /// A window of `slots` segments.
    pub fn new(slots: usize) -> Self {
        let (held, free) = (VecDeque::new(), Vec::new());
        Self { slots, held, base: 0, consumed: 0, bytes: 0, room: None, elsewhere: 0, free }
    }

    /// Which slot an entry lies in, from the front of the window.
    fn slot_of(&self, entry: &Slot) -> usize {
        entry.number.wrapping_sub(self.base) as usize
    }

    /// Where the segment in `slot` stands, or is to stand.
    fn find(&self, slot: usize) -> Result<usize, usize> {
        // As long as nothing is missing before it.
        match self.held.get(slot) {
            Some(entry) if self.slot_of(entry) == slot => Ok(slot),
            _ => self.held.binary_search_by_key(&slot, |entry| self.slot_of(entry)),
        }
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
        if let Err(index) = self.find(slot) {
            let mut buffer = self.free.pop().unwrap_or_default();
            buffer.extend_from_slice(data);
            let number = self.base.wrapping_add(slot as u32);
            self.bytes += buffer.capacity() + ENTRY;
            self.held.insert(index, Slot { number, frg, data: buffer });
        }
        Ok(())
    }

    fn has(&self, slot: usize) -> bool {
        !self.held.is_empty() && self.find(slot).is_ok()
    }

    fn front(&self) -> Option<(&[u8], u8)> {
        let entry = self.held.front().filter(|entry| entry.number == self.base)?;
        Some((entry.data.get(self.consumed..).unwrap_or_default(), entry.frg))
    }

    fn peek(&self, slot: usize) -> Option<(u8, usize)> {
        let entry = self.held.get(self.find(slot).ok()?)?;
        Some((entry.frg, entry.data.len()))
    }

    #[cfg(feature = "lanes")]
    fn get(&self, slot: usize) -> Option<(u8, &[u8])> {
        let entry = self.held.get(self.find(slot).ok()?)?;
        Some((entry.frg, &entry.data))
    }

    #[cfg(feature = "lanes")]
    type Kept = Vec<u8>;

    #[cfg(feature = "lanes")]
    fn exchange(&mut self, slot: usize, frg: u8, data: &[u8]) -> Option<Vec<u8>> {
        let index = self.find(slot).ok()?;
        let entry = self.held.get_mut(index)?;
        entry.frg = frg;
        let before = core::mem::replace(&mut entry.data, data.to_vec());
        self.bytes = self.bytes + entry.data.capacity() - before.capacity();
        Some(before)
    }

    #[cfg(feature = "lanes")]
    #[inline]
    fn can_keep(&self, _: usize) -> bool {
        true
    }

    #[cfg(feature = "lanes")]
    fn keep(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        Some(data.to_vec())
    }

    #[cfg(feature = "lanes")]
    fn kept<'k>(&'k self, kept: &'k Vec<u8>) -> &'k [u8] {
        kept
    }

    #[cfg(feature = "lanes")]
    fn release(&mut self, _: Vec<u8>) {}

    #[cfg(feature = "lanes")]
    fn weight(kept: &Vec<u8>) -> usize {
        kept.capacity()
    }

    fn consume(&mut self, count: usize) {
        self.consumed = self.consumed.saturating_add(count);
    }

    fn advance(&mut self) {
        self.consumed = 0;
        let front = self.held.front().is_some_and(|entry| entry.number == self.base);
        self.base = self.base.wrapping_add(1);
        if !front {
            return;
        }
        if let Some(mut entry) = self.held.pop_front() {
            self.bytes -= entry.data.capacity() + ENTRY;
            if self.free.len() < FREE && entry.data.capacity() <= SPARE {
                entry.data.clear();
                self.free.push(entry.data);
            }
        }
        if self.held.is_empty() {
            // Nothing is out of order any more: keep one buffer, give the rest back.
            if self.free.len() > 1 {
                self.free = Vec::new();
            }
            if self.held.capacity() > PLACES {
                self.held = VecDeque::new();
            }
        }
    }

    fn held(&self) -> usize {
        self.bytes
    }

    fn room(&self) -> Option<Room> {
        self.room
    }

    fn set_room(&mut self, room: Option<Room>) {
        self.room = room;
    }

    fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    fn set_elsewhere(&mut self, segments: usize) {
        self.elsewhere = segments;
    }

    fn clear(&mut self) {
        *self = Self::new(self.slots);
    }
}

/// The longest record for which memory is taken at its beginning.
const USUAL: usize = 64 * 1024;

/// [`Inbox`] that hands out pieces of larger buffers, so that small records cost no allocation each.
///
/// The memory of a record grows with what there is of it, to twice that: what is only announced costs nothing. Each time it
/// grows it may have to be copied; so one that comes after others of its length has memory for all of it at once.
#[derive(Debug)]
pub struct HeapInbox {
    limit: usize,
    arena: usize,
    buf: BytesMut,
    /// The length that the present record will have, as far as that is known.
    end: usize,
    /// The length of the records before, up to [`USUAL`].
    usual: usize,
    /// What was taken for the present one because of that.
    reserved: usize,
}

impl HeapInbox {
    /// An inbox for records of up to `limit` bytes; small records share buffers of `arena` bytes.
    pub fn new(limit: usize, arena: usize) -> Self {
        Self { limit, arena, buf: BytesMut::new(), end: 0, usual: 0, reserved: 0 }
    }

    /// The bytes of the present record so far, to change them.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf
    }

    fn append(&mut self, data: &[u8]) {
        if self.buf.capacity() - self.buf.len() < data.len() {
            self.grow(data.len());
        }
        self.buf.extend_from_slice(data);
    }

    #[cfg(test)]
    pub(super) fn capacity_now(&self) -> usize {
        self.buf.capacity()
    }

    /// Makes room for `len` bytes: at most for as many again, or for a usual record, and not beyond what was announced.
    fn grow(&mut self, len: usize) {
        let (had, has) = (self.buf.len(), self.buf.len() + len);
        self.reserved = self.reserved.max(self.usual);
        let room = self.end.max(has).min(self.usual.max(2 * has));
        if room == self.end && room > self.arena {
            // Exactly so much.
            let mut all = BytesMut::with_capacity(room);
            all.extend_from_slice(&self.buf);
            self.buf = all;
        } else {
            self.buf.reserve(room.max(self.arena) - had);
        }
    }

    /// The longest buffer that is kept for what comes next.
    fn spare(&self) -> usize {
        self.arena.max(SPARE)
    }

    /// If the record is whole, the next ones may be as long. One that is shorter is not yet a reason to think otherwise.
    fn learn(&mut self) {
        if self.end > 0 && self.buf.len() == self.end {
            self.usual = self.end.min(USUAL).max(self.usual / 2);
        }
    }
}

impl Inbox<Heap> for HeapInbox {
    fn capacity(&self) -> usize {
        self.limit
    }

    fn bytes(&self) -> &[u8] {
        &self.buf
    }

    fn another(&self) -> Option<Self> {
        Some(Self::new(self.limit, self.arena))
    }

    fn expect(&mut self, missing: usize) {
        self.end = self.buf.len() + missing;
    }

    fn write(&mut self, data: &[u8]) {
        self.append(data);
    }

    fn take(&mut self) -> Bytes {
        self.learn();
        let record = self.buf.split().freeze();
        if record.len() > self.spare() {
            // What is left of its buffer would keep all of it.
            self.buf = BytesMut::new();
        }
        record
    }

    fn duplicate(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.buf)
    }

    fn adopt<'b>(&'b mut self, source: &'b [u8]) -> Bytes {
        self.append(source);
        self.buf.split().freeze()
    }

    fn clear(&mut self) {
        self.learn();
        if self.buf.capacity() > self.spare() {
            self.buf = BytesMut::new();
        } else {
            self.buf.clear();
        }
        (self.end, self.reserved) = (0, 0);
    }

    fn be_frugal(&mut self) {
        self.usual = 0;
    }

    fn held(&self) -> usize {
        let len = self.buf.len();
        self.reserved.max(2 * len).min(self.end.max(len))
    }

    fn announced(&self) -> usize {
        if self.buf.is_empty() { 0 } else { self.end.max(self.buf.len()) }
    }

    fn ahead(&self) -> usize {
        let (len, held) = (self.buf.len(), self.held());
        if held < self.end { (held / 2).saturating_sub(len) } else { self.end.saturating_sub(len) }
    }
}
