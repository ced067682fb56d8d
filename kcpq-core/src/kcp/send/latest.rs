//! Messages of a lane of which only the latest of each subject counts (PROTOCOL.md 2.12).
//!
//! ```text
//! stream of the lane    ordinary bytes | message | message | ordinary bytes | message
//! segments              as they fit      one each             as they fit     one
//! ```
//!
//! Each is a segment of its own. Once a newer one of its subject stands in the stream it is *stale*: if it is lost, or was not
//! sent yet, nothing goes in its place but its number.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use hashbrown::HashTable;

/// The messages of one lane that are in its stream.
#[derive(Debug, Default)]
pub(super) struct Latest {
    /// In the order of the stream; so many of them were cut into segments.
    messages: VecDeque<Message>,
    cut: usize,
    /// The subjects of these.
    flows: HashTable<Flow>,
    /// Numbers of flows that are not in use, and how many there were ever.
    free: Vec<u16>,
    numbers: u16,
    /// The number of the segment behind the last ordinary one.
    run: u16,
}

#[derive(Debug)]
struct Message {
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

/// A subject with messages in the stream.
#[derive(Debug)]
struct Flow {
    key: u64,
    number: u16,
    /// Where the newest of them begins.
    newest: u32,
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

impl Latest {
    /// A message of `len` bytes begins at `start`; `key` is the hash of its subject.
    pub(super) fn add(&mut self, start: u32, len: u16, key: u64) {
        let flow = match self.flows.find_mut(key, |flow| flow.key == key) {
            Some(flow) => {
                let (number, before) = (flow.number, core::mem::replace(&mut flow.newest, start));
                if let Some(message) = self.place(before).and_then(|place| self.messages.get_mut(place)) {
                    message.stale = true;
                }
                number
            }
            None => {
                // No more than there are numbers: each has a message in the stream, and most of these are in the window.
                let Some(number) = self.free.pop().or_else(|| {
                    let number = self.numbers;
                    self.numbers = number.checked_add(1)?;
                    Some(number)
                }) else {
                    return;
                };
                self.flows.insert_unique(key, Flow { key, number, newest: start }, |flow| flow.key);
                number
            }
        };
        self.messages.push_back(Message { start, len, said: Said { flow, run: 0 }, key, stale: false });
    }

    /// The place of the message that begins at `start`.
    fn place(&self, start: u32) -> Option<usize> {
        let first = self.messages.front()?.start;
        let place = |start: u32| start.wrapping_sub(first);
        self.messages.binary_search_by_key(&place(start), |message| place(message.start)).ok()
    }

    fn find(&self, start: u32) -> Option<&Message> {
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
        let is_released = |message: &Message| (message.start.wrapping_sub(una) as i32) < 0;
        while self.messages.front().is_some_and(is_released)
            && let Some(message) = self.messages.pop_front()
        {
            self.cut = self.cut.saturating_sub(1);
            let newest = |flow: &Flow| flow.key == message.key && flow.newest == message.start;
            if let Ok(flow) = self.flows.find_entry(message.key, newest) {
                let (flow, _) = flow.remove();
                self.free.push(flow.number);
            }
        }
        if self.messages.is_empty() {
            (self.messages, self.free, self.numbers) = (VecDeque::new(), Vec::new(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_one_of_its_subject_makes_a_message_stale_and_numbers_are_used_again() {
        let mut latest = Latest::default();
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
        assert!(latest.flows.is_empty() && latest.messages.is_empty() && latest.cut == 0);
    }

    #[test]
    fn one_that_goes_as_ordinary_bytes_is_waited_for() {
        let mut latest = Latest::default();
        latest.add(0, 100, 7);
        latest.on_cut(0, 60, false);
        latest.on_cut(1, 100, false);
        latest.add(100, 10, 7);
        latest.on_cut(2, 110, true);
        assert_eq!(latest.said(100).run, 0);
        latest.release(60);
        latest.release(110);
        assert!(latest.flows.is_empty());
    }
}
