//! What is waited for: each thing until a time, under a number that is not used again soon.

use crate::store::{Queue, Store};
use crate::time::Instant;

/// The most that are waited for at the same time.
pub(super) const MAX_AWAITED: usize = 1 << SLOT_BITS;
/// A number is that of a place in the table, and above that how often the place was used before.
const SLOT_BITS: u32 = 16;

/// See above. Where memory is lent there are as many places as it was lent for.
pub(super) struct Awaited<S: Store, T: 'static> {
    places: Option<S::Queue<Place<T>>>,
    /// The first and the last of the free places, which follow each other. The one that has been free for longest is used next.
    free: Option<(u16, u16)>,
    /// Things that are waited for.
    count: usize,
    /// No time is over before this.
    next_timeout: Option<Instant>,
    /// Where `take_one` looks next.
    #[cfg(feature = "confirm")]
    look_at: usize,
}

/// A place in the table.
#[derive(Debug)]
pub(super) struct Place<T> {
    /// How often it was used before, wrapping.
    uses: u16,
    /// The free place behind it, if it is a free one and not the last.
    next: u16,
    until: Instant,
    thing: Option<T>,
}

impl<S: Store, T: 'static> Awaited<S, T> {
    /// Nothing is waited for.
    pub(super) fn new() -> Self {
        Self {
            places: S::queue(),
            free: None,
            count: 0,
            next_timeout: None,
            #[cfg(feature = "confirm")]
            look_at: 0,
        }
    }

    /// Memory for as many things as fit there. False if there is some already.
    #[cfg(feature = "confirm")]
    pub(super) fn lend(&mut self, places: S::Queue<Place<T>>) -> bool {
        let first = self.places.is_none();
        if first {
            self.places = Some(places);
        }
        first
    }

    /// The number that the next thing will have; `None` if there are as many as may be.
    pub(super) fn upcoming(&mut self) -> Option<u32> {
        let places = self.places.as_mut()?;
        if self.free.is_none() {
            let slot = Some(places.len()).filter(|slot| *slot < MAX_AWAITED)? as u16;
            places.push(Place { uses: 0, next: 0, until: Instant::ZERO, thing: None }).ok()?;
            self.free = Some((slot, slot));
        }
        let (slot, _) = self.free?;
        Some(number(slot.into(), places.get(slot.into())?))
    }

    /// Waits for a thing from now on: it has the number that was the [upcoming](Self::upcoming) one, whatever was removed
    /// meanwhile.
    pub(super) fn insert(&mut self, until: Instant, thing: T) {
        let Some((first, last)) = self.free else { return };
        let Some(place) = self.places.as_mut().and_then(|places| places.get_mut(first.into())) else { return };
        (place.until, place.thing) = (until, Some(thing));
        self.free = (first != last).then_some((place.next, last));
        self.count += 1;
        self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.place(number)?.thing.as_mut()
    }

    fn place(&mut self, number: u32) -> Option<&mut Place<T>> {
        let place = self.places.as_mut()?.get_mut(slot(number))?;
        (place.uses == uses(number)).then_some(place)
    }

    /// It is not waited for any more.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.place(number)?;
        let thing = place.thing.take()?;
        place.uses = place.uses.wrapping_add(1);
        self.count -= 1;
        if self.count == 0 {
            self.next_timeout = None;
        }
        let slot = slot(number) as u16;
        let Some((first, last)) = self.free.replace((slot, slot)) else { return Some(thing) };
        if let Some(place) = self.places.as_mut().and_then(|places| places.get_mut(last.into())) {
            place.next = slot;
        }
        self.free = Some((first, slot));
        Some(thing)
    }

    /// Shows all things, with their numbers and until when they are waited for; those for which `stays` is false are not any more.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(u32, Instant, &mut T) -> bool) {
        let count = self.places.as_ref().map_or(0, Queue::len);
        for slot in 0..count {
            let Some(place) = self.places.as_mut().and_then(|places| places.get_mut(slot)) else { return };
            let number = number(slot, place);
            if place.thing.as_mut().is_some_and(|thing| !stays(number, place.until, thing)) {
                self.remove(number);
            }
        }
    }

    /// Shows those whose time is over; those for which `stays` is false are not waited for any more.
    pub(super) fn expire(&mut self, now: Instant, mut stays: impl FnMut(u32, &mut T) -> bool) {
        if self.next_timeout.is_none_or(|at| now < at) {
            return;
        }
        let mut next = None;
        self.retain(|number, until, thing| {
            if until <= now {
                return stays(number, thing);
            }
            next = Instant::earlier(next, Some(until));
            true
        });
        self.next_timeout = next;
    }

    /// Takes a thing like this, with its number: all of them have their turn.
    #[cfg(feature = "confirm")]
    pub(super) fn take_one(&mut self, like: impl Fn(&T) -> bool) -> Option<(u32, T)> {
        let places = self.places.as_ref()?;
        let count = places.len();
        let number = (self.look_at..count).chain(0..self.look_at.min(count)).find_map(|slot| {
            let place = places.get(slot)?;
            place.thing.as_ref().is_some_and(&like).then(|| number(slot, place))
        })?;
        self.look_at = slot(number) + 1;
        Some((number, self.remove(number)?))
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

#[cfg(all(test, feature = "request"))]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::store::Heap;

    const LATE: Instant = Instant::from_micros(100);

    fn wait(awaited: &mut Awaited<Heap, char>, thing: char) -> u32 {
        let number = awaited.upcoming().unwrap();
        awaited.insert(LATE, thing);
        number
    }

    #[test]
    fn a_number_is_not_used_again_soon_and_what_is_removed_meanwhile_does_not_take_it_away() {
        let mut awaited = Awaited::new();
        let [a, b, c] = ['a', 'b', 'c'].map(|thing| wait(&mut awaited, thing));
        assert_eq!(awaited.remove(a), Some('a'));
        let next = awaited.upcoming().unwrap();
        assert_eq!((awaited.remove(b), awaited.remove(c), awaited.remove(b)), (Some('b'), Some('c'), None));
        assert_eq!(awaited.next_timeout(), None, "nothing is waited for");
        assert_eq!(wait(&mut awaited, 'd'), next);
        assert_eq!(awaited.get_mut(a), None);
        assert_eq!(awaited.get_mut(next), Some(&mut 'd'));
        let more: Vec<u32> = (0..1_000).map(|_| wait(&mut awaited, 'e')).collect();
        assert!(!more.contains(&a) && !more.contains(&b) && !more.contains(&c));
        // From the second on it is as with the first.
        assert!(more.iter().all(|number| awaited.remove(*number) == Some('e')));
        assert_eq!(awaited.remove(next), Some('d'));
    }

    #[test]
    fn there_are_as_many_as_may_be() {
        let mut awaited = Awaited::new();
        let all: Vec<u32> = (0..MAX_AWAITED).map(|_| wait(&mut awaited, 'a')).collect();
        assert_eq!(awaited.upcoming(), None);
        assert_eq!(awaited.remove(all[7]), Some('a'));
        assert_eq!(awaited.upcoming().map(slot), Some(7));
    }

    #[test]
    fn those_whose_time_is_over_are_shown_once() {
        let mut awaited = Awaited::<Heap, char>::new();
        let early = awaited.upcoming().unwrap();
        awaited.insert(Instant::from_micros(7), 'a');
        let late = wait(&mut awaited, 'b');
        let mut over = Vec::new();
        for at in [6, 7, 8] {
            awaited.expire(Instant::from_micros(at), |number, thing| {
                over.push((at, number, *thing));
                false
            });
        }
        assert_eq!((over, awaited.next_timeout()), ([(7, early, 'a')].into(), Some(LATE)));
        awaited.retain(|number, until, _| (number, until) != (late, LATE));
        assert_eq!(awaited.get_mut(late), None);
        assert_eq!(awaited.next_timeout(), None);
    }
}
