//! What the subject that was routed last has matched: those who publish often do so on one subject, many times in a row.

use alloc::vec::Vec;

/// See above. It is remembered of a subject that comes a second time: of those that change all the time it would cost more than
/// it is worth.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Tells the last subject from most others.
    mark: u64,
    subject: Vec<u8>,
    /// What has the pattern that alone matches it, if there is one.
    found: Option<Found>,
    /// That is known, and no subscription has changed since.
    known: bool,
}

/// Where the members of a pattern are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// In this place of the table of literal patterns.
    Literal(usize),
    /// At this node of the trie: of the pattern that ends there, or that ends there with `>`.
    Node(u32, bool),
}

impl Recent {
    /// Where those of a subject are, if there are any; `None` if that is not known.
    #[inline]
    pub(super) fn get(&self, subject: &[u8]) -> Option<Option<Found>> {
        (self.known && self.subject == subject).then_some(self.found)
    }

    /// These have been found.
    #[inline]
    pub(super) fn set(&mut self, subject: &[u8], found: Option<Found>) {
        let mark = mark(subject);
        self.known = core::mem::replace(&mut self.mark, mark) == mark;
        if self.known {
            self.found = found;
            self.subject.clear();
            self.subject.extend_from_slice(subject);
        }
    }

    /// A subscription has come or gone, or several patterns match.
    #[inline]
    pub(super) fn forget(&mut self) {
        self.known = false;
    }
}

/// Another number for most other subjects: their ends are often alike. Whoever finds those for which it is the same only has
/// them remembered in vain.
#[inline]
fn mark(subject: &[u8]) -> u64 {
    let word = |at: usize| subject.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word));
    let len = subject.len();
    let (middle, end) = (word(len / 2), word(len.saturating_sub(8)));
    middle.unwrap_or(0).rotate_left(32) ^ end.unwrap_or(0) ^ (len as u64) << 24
}
