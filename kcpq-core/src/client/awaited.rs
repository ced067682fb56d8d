//! What is waited for: each thing until a time, under a number that is not used again soon.

use alloc::vec::Vec;

use crate::time::Instant;

/// The most that are waited for at the same time.
pub(super) const MAX_AWAITED: usize = 1 << SLOT_BITS;
/// A number is that of a place in the table, and above that how often the place was used before.
const SLOT_BITS: u32 = 16;

/// See above.
#[derive(Debug)]
pub(super) struct Awaited<T> {
    places: Vec<Place<T>>,
    free: Vec<u16>,
    /// No time is over before this.
    next_timeout: Option<Instant>,
}

#[derive(Debug)]
struct Place<T> {
    /// How often it was used before, wrapping.
    uses: u16,
    until: Instant,
    thing: Option<T>,
}

impl<T> Default for Awaited<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), next_timeout: None }
    }
}

impl<T> Awaited<T> {
    /// The number that the next thing will have; `None` if there are as many as may be.
    pub(super) fn upcoming(&mut self) -> Option<u32> {
        if self.free.is_empty() && self.places.len() < MAX_AWAITED {
            self.free.push(self.places.len() as u16);
            self.places.push(Place { uses: 0, until: Instant::ZERO, thing: None });
        }
        let slot = *self.free.last()?;
        Some(number(slot.into(), self.places.get(usize::from(slot))?))
    }

    /// Waits for the thing that has this number, which was the upcoming one; others may have been removed meanwhile.
    pub(super) fn insert(&mut self, number: u32, until: Instant, thing: T) {
        if let Some(place) = self.places.get_mut(slot(number))
            && let Some(at) = self.free.iter().rposition(|free| usize::from(*free) == slot(number))
        {
            self.free.swap_remove(at);
            (place.until, place.thing) = (until, Some(thing));
            self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
        }
    }

    #[cfg(feature = "request")]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let place = self.places.get_mut(slot(number)).filter(|place| place.uses == uses(number))?;
        place.thing.as_mut()
    }

    /// It is not waited for any more.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.places.get_mut(slot(number)).filter(|place| place.uses == uses(number))?;
        let thing = place.thing.take()?;
        place.uses = place.uses.wrapping_add(1);
        self.free.push(slot(number) as u16);
        if self.free.len() == self.places.len() {
            self.next_timeout = None;
        }
        Some(thing)
    }

    /// Things like these are not waited for any more; says which they were, with their numbers.
    pub(super) fn remove_if(&mut self, mut condition: impl FnMut(&T, Instant) -> bool) -> Vec<(u32, T)> {
        let mut meets = |place: &Place<T>| place.thing.as_ref().is_some_and(|thing| condition(thing, place.until));
        let met = self.places.iter().enumerate().filter(|(_, place)| meets(place));
        let numbers: Vec<_> = met.map(|(slot, place)| number(slot, place)).collect();
        numbers.into_iter().filter_map(|number| Some((number, self.remove(number)?))).collect()
    }

    /// Those whose time is over are not waited for any more; says which they were.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(u32, T)> {
        if self.next_timeout.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut next = None;
        let expired = self.remove_if(|_, until| {
            let over = until <= now;
            if !over {
                next = Instant::earlier(next, Some(until));
            }
            over
        });
        self.next_timeout = next;
        expired
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }
}

fn number<T>(slot: usize, place: &Place<T>) -> u32 {
    u32::from(place.uses) << SLOT_BITS | slot as u32
}

fn slot(number: u32) -> usize {
    (number & ((1 << SLOT_BITS) - 1)) as usize
}

fn uses(number: u32) -> u16 {
    (number >> SLOT_BITS) as u16
}
