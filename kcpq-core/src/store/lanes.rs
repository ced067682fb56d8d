//! What a session keeps of lanes (PROTOCOL.md 2.12): as many as are used where memory grows, as many as were lent otherwise.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

#[cfg(feature = "alloc")]
use hashbrown::HashTable;

use crate::lane::Lane;

/// The most lanes besides lane 0 that lent memory can be for: one of each priority.
pub const LENT_LANES: usize = 3;

/// Something for each lane but lane 0 that is used.
pub trait PerLane<T>: Default {
    /// How many lanes there can be.
    fn most(&self) -> usize;
    /// True if none is used.
    fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
    /// That of a lane that is used.
    fn get(&self, lane: Lane) -> Option<&T>;
    /// The same, to be changed.
    fn get_mut(&mut self, lane: Lane) -> Option<&mut T>;
    /// That of a lane that is used from now on. `new` makes it where memory grows; what was lent is there already. `None` if
    /// all that was lent is of others.
    fn claim(&mut self, lane: Lane, new: impl FnOnce() -> Option<T>) -> Option<&mut T>;
    /// All that are used, those that go first in front.
    fn iter<'l>(&'l self) -> impl Iterator<Item = (Lane, &'l T)>
    where
        T: 'l;
    /// The same, to be changed.
    fn iter_mut<'l>(&'l mut self) -> impl Iterator<Item = (Lane, &'l mut T)>
    where
        T: 'l;
    /// From now on none is used. What was lent is shown, to be made as it was.
    fn release(&mut self, reset: impl FnMut(&mut T));
    /// Takes what is lent for one more. False if there are as many as there can be, or if memory grows.
    fn lend(&mut self, item: T) -> bool;
}

/// [`PerLane`] on the heap.
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct HeapLanes<T>(Vec<(Lane, T)>);

#[cfg(feature = "alloc")]
impl<T> Default for HeapLanes<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[cfg(feature = "alloc")]
impl<T> PerLane<T> for HeapLanes<T> {
    fn most(&self) -> usize {
        Lane::COUNT - 1
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, lane: Lane) -> Option<&T> {
        self.0.iter().find(|(other, _)| *other == lane).map(|(_, item)| item)
    }

    fn get_mut(&mut self, lane: Lane) -> Option<&mut T> {
        self.0.iter_mut().find(|(other, _)| *other == lane).map(|(_, item)| item)
    }

    fn claim(&mut self, lane: Lane, new: impl FnOnce() -> Option<T>) -> Option<&mut T> {
        if self.get(lane).is_none() {
            self.0.push((lane, new()?));
            self.0.sort_by_key(|(lane, _)| lane.priority());
        }
        self.get_mut(lane)
    }

    fn iter<'l>(&'l self) -> impl Iterator<Item = (Lane, &'l T)>
    where
        T: 'l,
    {
        self.0.iter().map(|(lane, item)| (*lane, item))
    }

    fn iter_mut<'l>(&'l mut self) -> impl Iterator<Item = (Lane, &'l mut T)>
    where
        T: 'l,
    {
        self.0.iter_mut().map(|(lane, item)| (*lane, item))
    }

    fn release(&mut self, _: impl FnMut(&mut T)) {
        self.0 = Vec::new();
    }

    fn lend(&mut self, _: T) -> bool {
        false
    }
}

/// [`PerLane`] of what was lent; each is of the first lane that asks for it. Those that are used stand in front.
#[derive(Debug)]
pub struct LentLanes<T>(heapless::Vec<(Option<Lane>, T), LENT_LANES>);

impl<T> Default for LentLanes<T> {
    fn default() -> Self {
        Self(heapless::Vec::new())
    }
}

impl<T> PerLane<T> for LentLanes<T> {
    fn most(&self) -> usize {
        self.0.len()
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn get(&self, lane: Lane) -> Option<&T> {
        self.0.iter().find(|(other, _)| *other == Some(lane)).map(|(_, item)| item)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn get_mut(&mut self, lane: Lane) -> Option<&mut T> {
        self.0.iter_mut().find(|(other, _)| *other == Some(lane)).map(|(_, item)| item)
    }

    fn claim(&mut self, lane: Lane, _: impl FnOnce() -> Option<T>) -> Option<&mut T> {
        if self.get(lane).is_none() {
            let mut index = self.0.iter().position(|(other, _)| other.is_none())?;
            self.0.get_mut(index)?.0 = Some(lane);
            while let Some((before, behind)) = self.0.split_at_mut_checked(index)
                && let (Some(before), Some(own)) = (before.last_mut(), behind.first_mut())
                && before.0.is_some_and(|before| before.priority() > lane.priority())
            {
                core::mem::swap(before, own);
                index -= 1;
            }
        }
        self.get_mut(lane)
    }

    fn iter<'l>(&'l self) -> impl Iterator<Item = (Lane, &'l T)>
    where
        T: 'l,
    {
        self.0.iter().map_while(|(lane, item)| Some(((*lane)?, item)))
    }

    fn iter_mut<'l>(&'l mut self) -> impl Iterator<Item = (Lane, &'l mut T)>
    where
        T: 'l,
    {
        self.0.iter_mut().map_while(|(lane, item)| Some(((*lane)?, item)))
    }

    fn release(&mut self, mut reset: impl FnMut(&mut T)) {
        for (lane, item) in &mut self.0 {
            *lane = None;
            reset(item);
        }
    }

    fn lend(&mut self, item: T) -> bool {
        self.0.push((None, item)).is_ok()
    }
}

/// A value where it is: what stands for a `Box` where there are none.
#[derive(Debug)]
pub struct Inline<T>(T);

impl<T> From<T> for Inline<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Inline<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Inline<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Small numbers for keys of 64 bits, each with a value.
pub trait Numbers {
    /// The number of a key, and its value.
    fn find(&mut self, key: u64) -> Option<(u16, &mut u32)>;
    /// A number for a key that has none; `None` if all are in use.
    fn insert(&mut self, key: u64, value: u32) -> Option<u16>;
    /// A key that has this value has no number any more.
    fn remove(&mut self, key: u64, value: u32);
    /// None has a number.
    fn clear(&mut self);
}

/// [`Numbers`] on the heap.
#[cfg(feature = "alloc")]
#[derive(Debug, Default)]
pub struct HeapNumbers {
    entries: HashTable<Entry>,
    /// Numbers that are not in use, and how many there were ever.
    free: Vec<u16>,
    count: u16,
}

#[cfg(feature = "alloc")]
#[derive(Debug)]
struct Entry {
    key: u64,
    number: u16,
    value: u32,
}

#[cfg(feature = "alloc")]
impl Numbers for HeapNumbers {
    fn find(&mut self, key: u64) -> Option<(u16, &mut u32)> {
        self.entries.find_mut(key, |entry| entry.key == key).map(|entry| (entry.number, &mut entry.value))
    }

    fn insert(&mut self, key: u64, value: u32) -> Option<u16> {
        let number = self.free.pop().or_else(|| {
            let number = self.count;
            self.count = number.checked_add(1)?;
            Some(number)
        })?;
        self.entries.insert_unique(key, Entry { key, number, value }, |entry| entry.key);
        Some(number)
    }

    fn remove(&mut self, key: u64, value: u32) {
        if let Ok(entry) = self.entries.find_entry(key, |entry| entry.key == key && entry.value == value) {
            let (entry, _) = entry.remove();
            self.free.push(entry.number);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        (self.free, self.count) = (Vec::new(), 0);
    }
}

/// A place of [`LentNumbers`].
#[derive(Clone, Copy, Debug)]
pub struct NumberSlot {
    used: bool,
    value: u32,
    key: u64,
}

impl NumberSlot {
    /// An empty one; all zeros.
    pub const EMPTY: Self = Self { used: false, value: 0, key: 0 };
}

/// [`Numbers`] over a borrowed slice, whose places they count.
#[derive(Debug)]
pub struct LentNumbers<'a>(&'a mut [NumberSlot]);

impl<'a> LentNumbers<'a> {
    /// As many numbers as there are places.
    pub fn new(slots: &'a mut [NumberSlot]) -> Self {
        Self(slots)
    }
}

impl Numbers for LentNumbers<'_> {
    fn find(&mut self, key: u64) -> Option<(u16, &mut u32)> {
        let mut slots = self.0.iter_mut().enumerate();
        let (number, slot) = slots.find(|(_, slot)| slot.used && slot.key == key)?;
        Some((number as u16, &mut slot.value))
    }

    fn insert(&mut self, key: u64, value: u32) -> Option<u16> {
        let (number, slot) = self.0.iter_mut().enumerate().find(|(_, slot)| !slot.used)?;
        *slot = NumberSlot { used: true, value, key };
        u16::try_from(number).ok()
    }

    fn remove(&mut self, key: u64, value: u32) {
        let mut slots = self.0.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.used && slot.key == key && slot.value == value) {
            slot.used = false;
        }
    }

    fn clear(&mut self) {
        self.0.fill(NumberSlot::EMPTY);
    }
}
