//! Which of the frames that wait give way to a newer one of their subject.

use hashbrown::HashTable;

use crate::hash::Secret;

/// Numbers of frames, found by subject. It keeps no subjects: they are read from the frames themselves.
#[derive(Debug)]
pub(super) struct Latest {
    secret: Secret,
    numbers: HashTable<u64>,
}

/// A table that is not larger is kept while nothing waits.
const SPARE: usize = 64;

impl Latest {
    pub(super) fn new(seed: u64) -> Self {
        Self { secret: Secret::new(seed), numbers: HashTable::new() }
    }

    /// A hash of a subject, as good as the subject itself.
    pub(super) fn key(&self, subject: &[u8]) -> u64 {
        self.secret.hash(0, subject)
    }

    /// The number of the frame with this subject, which `is` recognises by its number.
    pub(super) fn find(&self, subject: &[u8], mut is: impl FnMut(u64) -> bool) -> Option<u64> {
        self.numbers.find(self.secret.hash(0, subject), |number| is(*number)).copied()
    }

    /// Adds the frame `number`, whose subject is not there; `subject_of` tells each one's.
    pub(super) fn insert<'s>(&mut self, number: u64, subject_of: impl Fn(u64) -> &'s [u8]) {
        let Self { secret, numbers } = self;
        numbers.insert_unique(secret.hash(0, subject_of(number)), number, |number| secret.hash(0, subject_of(*number)));
    }

    /// Forgets the frame with this subject, which `is` recognises by its number.
    #[cold]
    pub(super) fn forget(&mut self, subject: &[u8], is: impl FnMut(&u64) -> bool) {
        if let Ok(entry) = self.numbers.find_entry(self.secret.hash(0, subject), is) {
            entry.remove();
        }
    }

    /// True if no frame gives way.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Forgets a frame, if it is known.
    pub(super) fn remove(&mut self, subject: &[u8], number: u64) {
        if let Ok(entry) = self.numbers.find_entry(self.secret.hash(0, subject), |other| *other == number) {
            entry.remove();
            if self.numbers.is_empty() && self.numbers.capacity() > SPARE {
                self.numbers = HashTable::new();
            }
        }
    }
}
