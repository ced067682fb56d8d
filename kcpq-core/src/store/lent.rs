//! Memory lent by the caller: slices and fixed-capacity queues, for firmware without an allocator.
//!
//! Rings keep an index beside every count; no index is derived from a wrapping offset, which would be wrong after 2^32
//! bytes unless the capacity were a power of two.

use heapless::deque::DequeView;

use super::{Full, Inbox, Moved, Outbox, PushError, Queue, RxWindow, Store, Text, TooLarge, TxStream};

use crate::layout::{self, HEAD, command};
use crate::time::Instant;

/// The store whose containers borrow for `'a`, usually from a `static`. `TEXT` is the longest pattern that can be
/// subscribed to, in bytes.
#[derive(Debug)]
pub struct Lent<'a, const TEXT: usize = 64>(core::marker::PhantomData<&'a mut ()>);

impl<'a, const TEXT: usize> Store for Lent<'a, TEXT> {
    type Body<'b> = &'b [u8];
    type Text = heapless::String<TEXT>;
    type Queue<T: 'static> = &'a mut DequeView<T>;
    type Tx = LentTx<'a>;
    type Rx = LentRx<'a>;
    type Outbox = LentOutbox<'a>;
    type Inbox = LentInbox<'a>;
}

impl<const N: usize> Text for heapless::String<N> {
    fn new(text: &str) -> Result<Self, TooLarge> {
        Self::try_from(text).map_err(|_| TooLarge { limit: N, actual: text.len() })
    }
}

impl<T> Queue<T> for &mut DequeView<T> {
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    fn len(&self) -> usize {
        self.storage_len()
    }

    #[cfg_attr(not(feature = "alloc"), inline(never))]
    fn get(&self, index: usize) -> Option<&T> {
        (**self).get(index)
    }

    #[cfg_attr(not(feature = "alloc"), inline(never))]
    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        (**self).get_mut(index)
    }

    #[cfg_attr(not(feature = "alloc"), inline(never))]
    fn push(&mut self, item: T) -> Result<(), Full> {
        self.push_back(item).map_err(|_| Full)
    }

    #[cfg_attr(not(feature = "alloc"), inline(never))]
    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    #[cfg_attr(not(feature = "alloc"), inline(never))]
    fn swap_remove(&mut self, index: usize) -> Option<T> {
        self.swap_remove_back(index)
    }

    fn clear(&mut self) {
        (**self).clear();
    }

    #[cfg_attr(not(feature = "alloc"), inline(never))]
    fn has_room(&self) -> bool {
        !self.is_full()
    }
}

/// A ring of bytes over a borrowed slice.
#[derive(Debug)]
struct Ring<'a> {
    buf: &'a mut [u8],
    head: usize,
    len: usize,
}

impl<'a> Ring<'a> {
    fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, head: 0, len: 0 }
    }

    fn room(&self) -> usize {
        self.buf.len() - self.len
    }

    /// Index of the byte `at` places behind the front. `at` is at most the capacity.
    fn index(&self, at: usize) -> usize {
        let index = self.head + at;
        if index >= self.buf.len() { index - self.buf.len() } else { index }
    }

    /// Appends what fits and returns how much that was.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let bytes = bytes.get(..self.room()).unwrap_or(bytes);
        let Some((start, end)) = self.buf.split_at_mut_checked(self.index(self.len)) else { return 0 };
        let first = copy(bytes, end);
        let count = first + copy(bytes.get(first..).unwrap_or_default(), start);
        self.len += count;
        count
    }

    /// The bytes from `skip` on, in at most two runs.
    fn slices(&self, skip: usize) -> (&[u8], &[u8]) {
        let skip = skip.min(self.len);
        let count = self.len - skip;
        let (start, end) = self.buf.split_at_checked(self.index(skip)).unwrap_or_default();
        let first = end.get(..count).unwrap_or(end);
        (first, start.get(..count - first.len()).unwrap_or_default())
    }

    fn copy_to(&self, skip: usize, out: &mut [u8]) -> usize {
        let (a, b) = self.slices(skip);
        let count = copy(a, out);
        count + copy(b, out.get_mut(count..).unwrap_or_default())
    }

    /// Writes over what is there from `skip` on. The caller stays within what is held.
    fn patch(&mut self, skip: usize, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let index = self.index(skip + at);
            if let Some(place) = self.buf.get_mut(index) {
                *place = *byte;
            }
        }
    }

    fn release(&mut self, count: usize) {
        let count = count.min(self.len);
        self.head = self.index(count);
        self.len -= count;
    }

    fn clear(&mut self) {
        self.head = 0;
        self.len = 0;
    }
}

/// Copies what fits from the front of `from` to the front of `to`, and returns how much that was. Cannot panic.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..count), to.get_mut(..count)) {
        to.copy_from_slice(from);
    }
    count
}

/// [`TxStream`] over a borrowed slice.
#[derive(Debug)]
pub struct LentTx<'a>(Ring<'a>);

impl<'a> LentTx<'a> {
    /// A stream that holds at most `buf.len()` bytes. One segment's worth for each segment of the send window lets
    /// the window fill.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self(Ring::new(buf))
    }
}

impl TxStream for LentTx<'_> {
    fn len(&self) -> usize {
        self.0.len
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.len() > self.0.room() {
            return Err(Full);
        }
        self.0.write(bytes);
        Ok(())
    }

    fn copy_to(&mut self, skip: usize, out: &mut [u8]) {
        self.0.copy_to(skip, out);
    }

    fn release(&mut self, count: usize) {
        self.0.release(count);
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// What a slot of [`LentRx`] holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotInfo {
    used: bool,
    frg: u8,
    len: u16,
}

impl SlotInfo {
    /// An empty slot; all zeros, so that a `static` of them costs no flash.
    pub const EMPTY: Self = Self { used: false, frg: 0, len: 0 };
}

/// [`RxWindow`] over borrowed slices: one [`SlotInfo`] and an equal share of the bytes for each slot.
#[derive(Debug)]
pub struct LentRx<'a> {
    slots: &'a mut [SlotInfo],
    bytes: &'a mut [u8],
    slot_size: usize,
    head: usize,
    /// Bytes of the front segment that were consumed.
    consumed: usize,
}

impl<'a> LentRx<'a> {
    /// A window of `slots.len()` segments of `bytes.len() / slots.len()` bytes each.
    pub fn new(slots: &'a mut [SlotInfo], bytes: &'a mut [u8]) -> Self {
        let slot_size = bytes.len().checked_div(slots.len()).unwrap_or(0);
        Self { slots, bytes, slot_size, head: 0, consumed: 0 }
    }

    fn index(&self, slot: usize) -> Option<usize> {
        let count = self.slots.len();
        (slot < count).then(|| if self.head + slot >= count { self.head + slot - count } else { self.head + slot })
    }
}

impl RxWindow for LentRx<'_> {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn put(&mut self, slot: usize, frg: u8, data: &[u8]) -> Result<(), TooLarge> {
        let too_large = TooLarge { limit: self.slot_size, actual: data.len() };
        let index = self.index(slot).ok_or(too_large)?;
        let len = u16::try_from(data.len()).ok().filter(|_| data.len() <= self.slot_size).ok_or(too_large)?;
        let info = self.slots.get_mut(index).ok_or(too_large)?;
        if !info.used {
            *info = SlotInfo { used: true, frg, len };
            copy(data, self.bytes.get_mut(index * self.slot_size..).unwrap_or_default());
        }
        Ok(())
    }

    fn has(&self, slot: usize) -> bool {
        self.index(slot).and_then(|index| self.slots.get(index)).is_some_and(|info| info.used)
    }

    fn front(&self) -> Option<(&[u8], u8)> {
        let info = self.slots.get(self.head).filter(|info| info.used)?;
        let data = self.bytes.get(self.head * self.slot_size..)?.get(..usize::from(info.len))?;
        Some((data.get(self.consumed..).unwrap_or_default(), info.frg))
    }

    fn peek(&self, slot: usize) -> Option<(u8, usize)> {
        let info = self.slots.get(self.index(slot)?).filter(|info| info.used)?;
        Some((info.frg, usize::from(info.len)))
    }

    fn consume(&mut self, count: usize) {
        self.consumed = self.consumed.saturating_add(count);
    }

    fn advance(&mut self) {
        if let Some(info) = self.slots.get_mut(self.head) {
            *info = SlotInfo::EMPTY;
            self.head = if self.head + 1 == self.slots.len() { 0 } else { self.head + 1 };
        }
        self.consumed = 0;
    }

    fn clear(&mut self) {
        self.slots.fill(SlotInfo::EMPTY);
        self.head = 0;
        self.consumed = 0;
    }
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

impl<'a> LentOutbox<'a> {
    /// An outbox for frames of `buf.len()` bytes in all.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { ring: Ring::new(buf), frames: 0, rest: 0, tail: 0 }
    }

    /// Length of the first frame that is still whole, its own length field included.
    fn frame_len(&self) -> usize {
        let mut head = [0; 4];
        self.ring.copy_to(self.rest, &mut head);
        (u32::from_be_bytes(head) as usize).saturating_add(4)
    }

    /// The head of the front frame and when it is to be forgotten, if its time runs and nothing of it was moved.
    fn timed(&self) -> Option<([u8; HEAD], Instant)> {
        let mut head = [0; HEAD];
        if !cfg!(feature = "ttl")
            || self.frames == 0
            || self.rest > 0
            || self.ring.copy_to(0, &mut head) < HEAD
            || head[4] != command::PUBT
        {
            return None;
        }
        let mut expires = [0; EXPIRES];
        self.ring.copy_to(self.frame_len().saturating_sub(EXPIRES), &mut expires);
        Some((head, Instant::from_micros(u64::from_be_bytes(expires))))
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), PushError> {
        let actual = parts.iter().map(|part| part.len()).sum();
        if actual > self.ring.buf.len() {
            return Err(PushError::TooLarge(TooLarge { limit: self.ring.buf.len(), actual }));
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

    /// Begins with the front frame, of which nothing was moved; if its time runs it gets the form in which it goes out.
    fn begin(&mut self, now: Instant, tell: bool) {
        let timed = self.timed();
        let len = self.frame_len();
        (self.rest, self.tail) = (len, 0);
        if let Some((mut head, expires)) = timed {
            let (command, kept) = if tell { (command::PUBT, layout::TTL) } else { (command::PUB, 0) };
            self.tail = EXPIRES - kept;
            self.rest = len - self.tail;
            layout::retime(&mut head, command, -(self.tail as i32));
            self.ring.patch(0, &head);
            self.ring.patch(self.rest - kept, layout::ttl(expires.since(now)).get(..kept).unwrap_or_default());
        }
    }
}

impl Outbox<LentTx<'_>> for LentOutbox<'_> {
    fn len(&self) -> usize {
        self.ring.len
    }

    fn frames(&self) -> usize {
        self.frames
    }

    fn mid_frame(&self) -> bool {
        self.rest > 0
    }

    fn push(&mut self, parts: &[&[u8]]) -> Result<(), PushError> {
        self.write(parts)
    }

    fn push_until(&mut self, parts: &[&[u8]], expires: Instant) -> Result<(), PushError> {
        let Some((first, others)) = parts.split_first() else { return Ok(()) };
        let Some((head, rest)) = first.split_first_chunk() else { return Err(PushError::Full) };
        let mut head = *head;
        if others.len() > 3 || !layout::retime(&mut head, command::PUBT, EXPIRES as i32) {
            return Err(PushError::Full);
        }
        let moment = expires.as_micros().to_be_bytes();
        let others = |index: usize| others.get(index).copied().unwrap_or_default();
        self.write(&[&head, rest, others(0), others(1), others(2), &moment])
    }

    fn expire(&mut self, now: Instant) -> u32 {
        let mut expired = 0;
        while self.timed().is_some_and(|(_, expires)| expires <= now) {
            self.drop_oldest();
            expired += 1;
        }
        expired
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
        let mut moved = Moved { bytes: 0, frames: 0, expired: 0 };
        while stream.0.room() > 0 {
            if self.rest == 0 {
                if moved.bytes > 0 && self.timed().is_some() {
                    // Not before its turn: in the stream its time does not count any more.
                    break;
                }
                moved.expired += self.expire(now);
                if self.frames == 0 {
                    break;
                }
                self.begin(now, tell);
            }
            let (front, _) = self.ring.slices(0);
            let count = stream.0.write(front.get(..self.rest).unwrap_or(front));
            self.ring.release(count);
            self.rest -= count;
            moved.bytes += count;
            if self.rest == 0 {
                self.ring.release(core::mem::take(&mut self.tail));
                self.frames -= 1;
                moved.frames += 1;
            }
        }
        (moved.bytes > 0 || moved.expired > 0).then_some(moved)
    }

    fn clear(&mut self) {
        self.ring.clear();
        self.frames = 0;
        self.rest = 0;
        self.tail = 0;
    }
}

/// [`Inbox`] over a borrowed slice.
#[derive(Debug)]
pub struct LentInbox<'a> {
    buf: &'a mut [u8],
    len: usize,
    taken: bool,
}

impl<'a> LentInbox<'a> {
    /// An inbox for frames of up to `buf.len()` bytes.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0, taken: false }
    }

    fn held(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }
}

impl<const TEXT: usize> Inbox<Lent<'_, TEXT>> for LentInbox<'_> {
    fn capacity(&self) -> usize {
        self.buf.len()
    }

    fn bytes(&self) -> &[u8] {
        if self.taken { &[] } else { self.held() }
    }

    fn write(&mut self, data: &[u8]) {
        if self.taken {
            self.len = 0;
            self.taken = false;
        }
        self.len += copy(data, self.buf.get_mut(self.len..).unwrap_or_default());
    }

    fn take(&mut self) -> &[u8] {
        self.taken = true;
        self.held()
    }

    fn duplicate(&mut self) -> &[u8] {
        self.held()
    }

    fn adopt<'b>(&'b mut self, source: &'b [u8]) -> &'b [u8] {
        source
    }

    fn clear(&mut self) {
        self.len = 0;
        self.taken = false;
    }
}
