//! Memory lent by the caller: slices and fixed-capacity queues, for firmware without an allocator.

use heapless::deque::DequeView;

#[cfg(feature = "lanes")]
use super::lanes::{Inline, LentLanes, LentNumbers};
use super::ring::{LentTx, copy};
use super::{Full, Inbox, Index, Queue, RxWindow, Store, Text, TooLarge};

/// The store whose containers borrow for `'a`, usually from a `static`. `TEXT` is the longest pattern that can be
/// subscribed to, in bytes.
#[derive(Debug)]
pub struct Lent<'a, const TEXT: usize = 64>(core::marker::PhantomData<&'a mut ()>);

impl<'a, const TEXT: usize> Store for Lent<'a, TEXT> {
    type Body<'b> = &'b [u8];
    type Text = heapless::String<TEXT>;
    type Index = NoIndex;
    type Queue<T: 'static> = &'a mut DequeView<T>;
    type Tx = LentTx<'a>;
    type Rx = LentRx<'a>;
    type Inbox = LentInbox<'a>;
    #[cfg(feature = "lanes")]
    type Lanes<T> = LentLanes<T>;
    #[cfg(feature = "lanes")]
    type Own<T> = Inline<T>;
    #[cfg(feature = "lanes")]
    type Numbers = LentNumbers<'a>;

    const GROWS: bool = false;
}

impl<const N: usize> Text for heapless::String<N> {
    #[cfg_attr(target_os = "none", inline(never))]
    fn new(text: &str) -> Result<Self, TooLarge> {
        Self::try_from(text).map_err(|_| TooLarge { limit: N, actual: text.len() })
    }

    #[cfg(any(feature = "alloc", feature = "queue"))]
    fn concat(parts: [&str; 3]) -> Result<Self, TooLarge> {
        let mut all = Self::new();
        for part in parts {
            let actual = parts.iter().map(|part| part.len()).sum();
            all.push_str(part).map_err(|_| TooLarge { limit: N, actual })?;
        }
        Ok(all)
    }
}

/// [`Index`] without memory: a text may be anywhere.
#[derive(Debug, Default)]
pub struct NoIndex(());

impl<T: Text> Index<T> for NoIndex {
    fn insert(&mut self, _: &T, _: u32) {}

    fn remove(&mut self, _: &T, _: u32) {}

    fn places(&self, _: &T, len: usize) -> impl Iterator<Item = u32> {
        0..len as u32
    }

    fn position(place: u32, _: impl FnOnce(u32) -> Option<usize>) -> Option<usize> {
        Some(place as usize)
    }
}

impl<T> Queue<T> for &mut DequeView<T> {
    #[cfg_attr(target_os = "none", inline(never))]
    fn len(&self) -> usize {
        self.storage_len()
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn get(&self, index: usize) -> Option<&T> {
        (**self).get(index)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        (**self).get_mut(index)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn push(&mut self, item: T) -> Result<(), Full> {
        self.push_back(item).map_err(|_| Full)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn clear(&mut self) {
        (**self).clear();
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn has_room(&self) -> bool {
        !self.is_full()
    }

    fn capacity(&self) -> usize {
        self.storage_capacity()
    }
}

/// What a slot of [`LentRx`] holds.
#[derive(Clone, Copy, Debug)]
pub struct SlotInfo {
    used: bool,
    frg: u8,
    len: u16,
    #[cfg(feature = "lanes")]
    place: Place,
    /// The share of the bytes that has the same place as this slot holds something, of whichever slot.
    #[cfg(feature = "lanes")]
    busy: bool,
}

impl SlotInfo {
    /// An empty slot; all zeros, so that a `static` of them costs no flash.
    pub const EMPTY: Self = Self {
        used: false,
        frg: 0,
        len: 0,
        #[cfg(feature = "lanes")]
        place: Place::Short([0; SHORT]),
        #[cfg(feature = "lanes")]
        busy: false,
    };

    /// The slot is empty from now on.
    fn empty(&mut self) {
        *self = Self {
            #[cfg(feature = "lanes")]
            busy: self.busy,
            ..Self::EMPTY
        };
    }
}

/// Data of so many bytes need no share of the memory: as of a segment of a lane that is no more than its number.
#[cfg(feature = "lanes")]
const SHORT: usize = 3;

/// Where data lie once there are lanes: what is read in another order than that in which it came has to stay where it is.
#[cfg(feature = "lanes")]
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Place {
    Short([u8; SHORT]) = 0,
    /// In the share of this number.
    Share(u16) = 1,
}

/// Data that were taken out of a [`LentRx`].
#[cfg(feature = "lanes")]
#[derive(Clone, Copy, Debug)]
pub struct LentKept {
    len: u16,
    place: Place,
}

/// [`RxWindow`] over borrowed slices: one [`SlotInfo`] and an equal share of the bytes for each slot. With lanes any slot may have
/// any share, and what is kept beside the window has the others.
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

    /// The data of a slot in use.
    #[cfg(not(feature = "lanes"))]
    fn data(&self, index: usize, info: &SlotInfo) -> Option<&[u8]> {
        self.bytes.get(index * self.slot_size..)?.get(..usize::from(info.len))
    }

    #[cfg(feature = "lanes")]
    fn data<'d>(&'d self, _: usize, info: &'d SlotInfo) -> Option<&'d [u8]> {
        self.at(&info.place, info.len)
    }

    /// Puts data that were found to fit into a slot, unless it is in use. `None` if there is no room for them.
    #[cfg(not(feature = "lanes"))]
    fn fill(&mut self, index: usize, frg: u8, data: &[u8], len: u16) -> Option<()> {
        let info = self.slots.get_mut(index)?;
        if !info.used {
            *info = SlotInfo { used: true, frg, len };
            copy(data, self.bytes.get_mut(index * self.slot_size..).unwrap_or_default());
        }
        Some(())
    }

    #[cfg(feature = "lanes")]
    fn fill(&mut self, index: usize, frg: u8, data: &[u8], len: u16) -> Option<()> {
        if !self.slots.get(index)?.used {
            let place = self.write(index, data)?;
            let info = self.slots.get_mut(index)?;
            *info = SlotInfo { used: true, frg, len, place, ..*info };
        }
        Some(())
    }
}

#[cfg(feature = "lanes")]
impl LentRx<'_> {
    fn at<'d>(&'d self, place: &'d Place, len: u16) -> Option<&'d [u8]> {
        match place {
            Place::Short(bytes) => bytes.get(..usize::from(len)),
            Place::Share(share) => self.bytes.get(usize::from(*share) * self.slot_size..)?.get(..usize::from(len)),
        }
    }

    /// Writes data to a share that is free: that with this place, if it is. `None` if none is.
    fn write(&mut self, index: usize, data: &[u8]) -> Option<Place> {
        if let Some(short) = short(data) {
            return Some(Place::Short(short));
        }
        let own = self.slots.get(index).filter(|slot| !slot.busy).map(|_| index);
        let share = own.or_else(|| self.slots.iter().position(|slot| !slot.busy))?;
        let place = Place::Share(u16::try_from(share).ok()?);
        self.slots.get_mut(share)?.busy = true;
        copy(data, self.bytes.get_mut(share * self.slot_size..).unwrap_or_default());
        Some(place)
    }

    fn free(&mut self, place: Place) {
        if let Place::Share(share) = place
            && let Some(slot) = self.slots.get_mut(usize::from(share))
        {
            slot.busy = false;
        }
    }
}

/// Data that need no share, with zeros behind them.
#[cfg(feature = "lanes")]
fn short(data: &[u8]) -> Option<[u8; SHORT]> {
    let mut bytes = [0; SHORT];
    bytes.get_mut(..data.len())?.copy_from_slice(data);
    Some(bytes)
}

impl RxWindow for LentRx<'_> {
    fn slots(&self) -> usize {
        self.slots.len()
    }

    fn put(&mut self, slot: usize, frg: u8, data: &[u8]) -> Result<(), TooLarge> {
        let too_large = TooLarge { limit: self.slot_size, actual: data.len() };
        let index = self.index(slot).ok_or(too_large)?;
        let len = u16::try_from(data.len()).ok().filter(|_| data.len() <= self.slot_size).ok_or(too_large)?;
        self.fill(index, frg, data, len).ok_or(too_large)
    }

    fn has(&self, slot: usize) -> bool {
        self.index(slot).and_then(|index| self.slots.get(index)).is_some_and(|info| info.used)
    }

    fn front(&self) -> Option<(&[u8], u8)> {
        let info = self.slots.get(self.head).filter(|info| info.used)?;
        let data = self.data(self.head, info)?;
        Some((data.get(self.consumed..).unwrap_or_default(), info.frg))
    }

    fn peek(&self, slot: usize) -> Option<(u8, usize)> {
        let info = self.slots.get(self.index(slot)?).filter(|info| info.used)?;
        Some((info.frg, usize::from(info.len)))
    }

    #[cfg(feature = "lanes")]
    fn get(&self, slot: usize) -> Option<(u8, &[u8])> {
        let index = self.index(slot)?;
        let info = self.slots.get(index).filter(|info| info.used)?;
        Some((info.frg, self.data(index, info)?))
    }

    #[cfg(feature = "lanes")]
    type Kept = LentKept;

    #[cfg(feature = "lanes")]
    fn exchange(&mut self, slot: usize, frg: u8, data: &[u8]) -> Option<LentKept> {
        let place = Place::Short(short(data)?);
        let index = self.index(slot)?;
        let info = self.slots.get_mut(index).filter(|info| info.used)?;
        let kept = LentKept { len: info.len, place: info.place };
        *info = SlotInfo { frg, len: data.len() as u16, place, ..*info };
        Some(kept)
    }

    #[cfg(feature = "lanes")]
    fn can_keep(&self, len: usize) -> bool {
        len <= self.slot_size && self.slots.iter().any(|slot| !slot.busy)
    }

    #[cfg(feature = "lanes")]
    fn keep(&mut self, data: &[u8]) -> Option<LentKept> {
        let len = u16::try_from(data.len()).ok()?;
        Some(LentKept { len, place: self.write(self.head, data)? })
    }

    #[cfg(feature = "lanes")]
    fn kept<'k>(&'k self, kept: &'k LentKept) -> &'k [u8] {
        self.at(&kept.place, kept.len).unwrap_or_default()
    }

    #[cfg(feature = "lanes")]
    fn release(&mut self, kept: LentKept) {
        self.free(kept.place);
    }

    fn consume(&mut self, count: usize) {
        self.consumed = self.consumed.saturating_add(count);
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn advance(&mut self) {
        #[cfg(feature = "lanes")]
        if let Some(info) = self.slots.get(self.head).filter(|info| info.used) {
            self.free(info.place);
        }
        if let Some(info) = self.slots.get_mut(self.head) {
            info.empty();
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

/// [`Inbox`] over a borrowed slice.
#[derive(Debug)]
pub struct LentInbox<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl<'a> LentInbox<'a> {
    /// An inbox for records of up to `buf.len()` bytes.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
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
        self.held()
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn write(&mut self, data: &[u8]) {
        self.len += copy(data, self.buf.get_mut(self.len..).unwrap_or_default());
    }

    fn take(&mut self) -> &[u8] {
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
    }
}
