//! Messages of a lane of which only the latest of each subject counts (PROTOCOL.md 2.12).
//!
//! ```text
//! stream of the lane    ordinary bytes | message | message | ordinary bytes | message
//! segments              as they fit      one each             as they fit     one
//! ```
//!
//! Each is a segment of its own. Once a newer one of its subject stands in the stream it is *stale*: if it is lost, or was not
//! sent yet, nothing goes in its place but its number.

use crate::store::{Numbers, Queue, Store};

/// The messages of one lane that are in its stream.
pub(super) struct Latest<S: Store> {
    /// In the order of the stream; so many of them were cut into segments.
    messages: S::Queue<LatestMessage>,
    cut: usize,
    /// For each of their subjects where the newest of them begins; the number is what is said of it.
    subjects: S::Numbers,
    /// The number of the segment behind the last ordinary one.
    run: u16,
}

/// A message of which only the latest of its subject counts.
#[derive(Clone, Copy, Debug)]
pub struct LatestMessage {
    /// Where it begins in the stream of its lane, in bytes, wrapping.
    start: u32,
    len: u16,
    /// What is said of its segment.
    said: Said,
    /// The hash of its subject.
    key: u64,
    stale: bool,
}

/// What a segment says of the message that it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    /// The number of its subject among those that are under way.
    pub(super) flow: u16,
    /// So many segments of its lane before it are such messages as well: it need not wait for these.
    pub(super) run: u16,
}

/// What may be cut next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// A message of its own, of so many bytes.
    Message(usize),
    /// So many bytes at most.
    Bytes(usize),
}

/// A segment says no longer run: no window is as long.
const MAX_RUN: u16 = 1 << 14;

impl<S: Store> Latest<S> {
    pub(super) fn new(messages: S::Queue<LatestMessage>, subjects: S::Numbers) -> Self {
        Self { messages, cut: 0, subjects, run: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.subjects.clear();
        (self.cut, self.run) = (0, 0);
    }

    /// A message of `len` bytes begins at `start`; `key` is the hash of its subject. Where there is no room for it, nor for its
    /// subject, it is an ordinary one.
    pub(super) fn add(&mut self, start: u32, len: u16, key: u64) {
        if !self.messages.has_room() {
            return;
        }
        let flow = match self.subjects.find(key) {
            Some((number, newest)) => {
                let before = core::mem::replace(newest, start);
                if let Some(message) = self.place(before).and_then(|place| self.messages.get_mut(place)) {
                    message.stale = true;
                }
                number
            }
            None => match self.subjects.insert(key, start) {
                Some(number) => number,
                None => return,
            },
        };
        let _ = self.messages.push(LatestMessage { start, len, said: Said { flow, run: 0 }, key, stale: false });
    }

    /// The place of the message that begins at `start`.
    fn place(&self, start: u32) -> Option<usize> {
        let first = self.messages.get(0)?.start;
        let wanted = start.wrapping_sub(first);
        let (mut from, mut to) = (0, self.messages.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.messages.get(middle)?.start.wrapping_sub(first) {
                begin if begin == wanted => return Some(middle),
                begin if begin < wanted => from = middle + 1,
                _ => to = middle,
            }
        }
        None
    }

    fn find(&self, start: u32) -> Option<&LatestMessage> {
        self.messages.get(self.place(start)?)
    }

    /// What may be cut where so many bytes from `start` on were not.
    pub(super) fn next(&self, start: u32, unsent: usize) -> Next {
        match self.messages.get(self.cut) {
            Some(message) if message.start == start => Next::Message(message.len.into()),
            Some(message) => Next::Bytes(unsent.min(message.start.wrapping_sub(start) as usize)),
            None => Next::Bytes(unsent),
        }
    }

    /// Segment `number` of the lane was cut, up to `end`: a message of its own, or not.
    pub(super) fn on_cut(&mut self, number: u16, end: u32, own: bool) {
        while let Some(message) = self.messages.get_mut(self.cut)
            && (message.start.wrapping_sub(end) as i32) < 0
        {
            message.said.run = number.wrapping_sub(self.run).min(MAX_RUN);
            self.cut += 1;
        }
        if !own {
            self.run = number.wrapping_add(1);
        }
    }

    /// What the segment says that begins at `start`.
    pub(super) fn said(&self, start: u32) -> Said {
        self.find(start).map(|message| message.said).unwrap_or_default()
    }

    /// True if there is a newer one of the subject of the message that begins at `start`.
    pub(super) fn is_stale(&self, start: u32) -> bool {
        self.find(start).is_some_and(|message| message.stale)
    }

    /// All before `una` has arrived.
    pub(super) fn release(&mut self, una: u32) {
        let is_released = |message: &LatestMessage| (message.start.wrapping_sub(una) as i32) < 0;
        while self.messages.get(0).is_some_and(is_released)
            && let Some(message) = self.messages.pop()
        {
            self.cut = self.cut.saturating_sub(1);
            self.subjects.remove(message.key, message.start);
        }
        if self.messages.is_empty() {
            self.messages.shrink();
            self.subjects.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use super::*;
    use crate::store::{Lent, LentNumbers, NumberSlot};

    /// In lent memory: for so many messages, and as many subjects.
    fn lent<const N: usize>() -> Latest<Lent<'static>> {
        let messages = Box::leak(Box::new(heapless::Deque::<LatestMessage, N>::new()));
        Latest::new(messages.as_mut_view(), LentNumbers::new(Box::leak(Box::new([NumberSlot::EMPTY; N]))))
    }

    /// The stories are told once for each store.
    #[cfg(feature = "alloc")]
    fn heap() -> Latest<crate::store::Heap> {
        Latest::new(Default::default(), Default::default())
    }

    fn is_empty<S: Store>(latest: &mut Latest<S>, keys: &[u64]) -> bool {
        latest.messages.is_empty() && latest.cut == 0 && keys.iter().all(|key| latest.subjects.find(*key).is_none())
    }

    #[test]
    fn a_newer_one_of_its_subject_makes_a_message_stale_and_numbers_are_used_again() {
        story(lent::<4>());
        #[cfg(feature = "alloc")]
        story(heap());
    }

    fn story<S: Store>(mut latest: Latest<S>) {
        let start = u32::MAX - 20;
        let at = |bytes: u32| start.wrapping_add(bytes);
        latest.add(at(10), 10, 7);
        latest.add(at(20), 10, 8);
        latest.add(at(30), 10, 7);
        assert!(
            matches!(latest.next(at(0), 40), Next::Bytes(10)),
            "the message is not cut into with what is before it"
        );
        latest.on_cut(4, at(10), false);
        for (number, bytes) in [(5, 10), (6, 20), (7, 30)] {
            assert!(matches!(latest.next(at(bytes), 40 - bytes as usize), Next::Message(10)));
            latest.on_cut(number, at(bytes + 10), true);
        }
        assert!(matches!(latest.next(at(40), 3), Next::Bytes(3)));
        assert_eq!([10, 20, 30].map(|bytes| latest.is_stale(at(bytes))), [true, false, false]);
        assert_eq!([10, 20, 30].map(|bytes| latest.said(at(bytes)).run), [0, 1, 2]);
        assert_eq!([10, 20, 30].map(|bytes| latest.said(at(bytes)).flow), [0, 1, 0]);
        latest.release(at(30));
        latest.add(at(40), 10, 9);
        assert_eq!(latest.said(at(40)).flow, 1, "of that subject nothing is under way any more");
        latest.release(at(50));
        assert!(is_empty(&mut latest, &[7, 8, 9]));
    }

    #[test]
    fn one_that_goes_as_ordinary_bytes_is_waited_for() {
        goes_as_ordinary_bytes(lent::<4>());
        #[cfg(feature = "alloc")]
        goes_as_ordinary_bytes(heap());
    }

    fn goes_as_ordinary_bytes<S: Store>(mut latest: Latest<S>) {
        latest.add(0, 100, 7);
        latest.on_cut(0, 60, false);
        latest.on_cut(1, 100, false);
        latest.add(100, 10, 7);
        latest.on_cut(2, 110, true);
        assert_eq!(latest.said(100).run, 0);
        latest.release(60);
        latest.release(110);
        assert!(is_empty(&mut latest, &[7]));
    }

    /// What there is no room for goes as ordinary bytes, and makes nothing stale that it would have to come before.
    #[test]
    fn where_there_is_no_room_a_message_is_an_ordinary_one() {
        let mut latest = lent::<2>();
        latest.add(0, 10, 7);
        latest.add(10, 10, 8);
        latest.add(20, 10, 7);
        assert!(!latest.is_stale(0));
        for (number, end) in [(0, 10), (1, 20)] {
            assert!(matches!(latest.next(end - 10, 30), Next::Message(10)));
            latest.on_cut(number, end, true);
        }
        assert!(matches!(latest.next(20, 10), Next::Bytes(10)));
        latest.on_cut(2, 30, false);
        latest.release(10);
        latest.add(30, 10, 8);
        assert!(latest.is_stale(10));
        latest.on_cut(3, 40, true);
        assert_eq!((latest.said(30).run, latest.said(30).flow), (0, latest.said(10).flow));
        latest.release(40);
        assert!(is_empty(&mut latest, &[7, 8]));
    }
}
