//! The patterns without wildcards: one hash table, one lookup of the whole subject.

use alloc::boxed::Box;

use hashbrown::HashTable;

use super::members::Members;
use super::shrink;
use crate::hash::Secret;

/// Subjects and their members. 32 bytes for each and its text.
#[derive(Default)]
pub(super) struct Literal {
    table: HashTable<(Box<[u8]>, Members)>,
    /// How often the places in the table may have become others.
    moves: u64,
}

impl Literal {
    /// In which place a subject is.
    pub(super) fn find(&self, secret: &Secret, subject: &[u8]) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        self.table.find_bucket_index(secret.hash(0, subject), |(text, _)| **text == *subject)
    }

    /// The members of that in a place.
    pub(super) fn at(&self, place: usize) -> Option<&Members> {
        self.table.get_bucket(place).map(|(_, members)| members)
    }

    /// The members of `subject`; none, and a place for them, if it is new. They must not stay empty.
    pub(super) fn plant(&mut self, secret: &Secret, subject: &[u8]) -> &mut Members {
        let hash = secret.hash(0, subject);
        let same = |(text, _): &(Box<[u8]>, Members)| **text == *subject;
        let rehash = |(text, _): &(Box<[u8]>, Members)| secret.hash(0, text);
        let new = || (subject.into(), Members::default());
        // Only where there is no room for one more.
        self.moves += u64::from(self.table.len() == self.table.capacity());
        &mut self.table.entry(hash, same, rehash).or_insert_with(new).into_mut().1
    }

    /// Takes `member` away; nothing if it was not there, otherwise whether it was the last.
    pub(super) fn remove(&mut self, secret: &Secret, subject: &[u8], member: u32) -> Option<bool> {
        let hash = secret.hash(0, subject);
        let mut entry = self.table.find_entry(hash, |(text, _)| **text == *subject).ok()?;
        if !entry.get_mut().1.remove(member) {
            return None;
        }
        let last = entry.get().1.is_empty();
        if last {
            entry.remove();
            self.moves += u64::from(shrink(&mut self.table, |(text, _)| secret.hash(0, text)));
        }
        Some(last)
    }

    /// Shows what lies in the places from `at` on, `count` at most; `None` if there are no more.
    pub(super) fn visit(&self, at: usize, count: usize, visit: &mut dyn FnMut(&str, &Members)) -> Option<usize> {
        let end = at.saturating_add(count).min(self.table.num_buckets());
        for (text, members) in (at..end).filter_map(|index| self.table.get_bucket(index)) {
            if let Ok(text) = core::str::from_utf8(text) {
                visit(text, members);
            }
        }
        (end < self.table.num_buckets()).then_some(end)
    }

    /// Another number if what was in one place may be in another now.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity()
    }
}
