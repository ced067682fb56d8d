//! Texts on the heap, and where they are.

use alloc::boxed::Box;

use hashbrown::HashTable;

use super::{Index, Text, TooLarge};

/// A text on the heap, with a hash by which most others are told from it without a look at them.
#[derive(Clone, Debug)]
pub struct HeapText {
    hash: u32,
    text: Box<str>,
}

impl AsRef<str> for HeapText {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl Text for HeapText {
    fn new(text: &str) -> Result<Self, TooLarge> {
        // FNV-1a. Who keeps texts has chosen them, so the hash needs no secret.
        let hash = text.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Ok(Self { hash, text: text.into() })
    }

    fn concat(parts: [&str; 3]) -> Result<Self, TooLarge> {
        Self::new(&parts.concat())
    }

    fn is(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

/// [`Index`] by hash: 8 bytes for each record.
#[derive(Debug, Default)]
pub struct HeapIndex {
    /// The hash of a record's text, and its number.
    table: HashTable<(u32, u32)>,
}

/// The bits of a text's hash, spread: the table takes some of both ends.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Index<HeapText> for HeapIndex {
    fn insert(&mut self, text: &HeapText, number: u32) {
        self.table.insert_unique(spread(text.hash), (text.hash, number), |(hash, _)| spread(*hash));
    }

    fn remove(&mut self, text: &HeapText, number: u32) {
        if let Ok(entry) = self.table.find_entry(spread(text.hash), |(_, other)| *other == number) {
            entry.remove();
        }
    }

    fn places(&self, text: &HeapText, _: usize) -> impl Iterator<Item = u32> {
        let found = self.table.iter_hash(spread(text.hash));
        found.filter(move |(hash, _)| *hash == text.hash).map(|(_, number)| *number)
    }

    fn position(place: u32, find: impl FnOnce(u32) -> Option<usize>) -> Option<usize> {
        find(place)
    }
}
