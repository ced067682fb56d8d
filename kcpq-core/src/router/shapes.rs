//! What patterns can make a message cost.
//!
//! Of a pattern the *shape* is where its `*` stand: for a given subject there is at most one node of the trie for each
//! beginning of a shape. So a match visits no more nodes than there are different beginnings of shapes, and that is what is
//! counted here, whatever the patterns say otherwise: a thousand of `game.*.player.*.<n>` are one shape.
//!
//! Beginnings with one `*` at most are free: those of up to [`FREE_DEPTH`] tokens are few hundred in all.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};

use super::shrink;
use crate::hash::Secret;
use crate::subject::Pattern;

/// The most nodes that a match visits because of all patterns together, free ones aside.
pub(super) const WORK: u32 = 2_048;
/// The most because of one member's.
pub(super) const WORK_OF_MEMBER: u32 = 256;
/// Up to here a beginning with one `*` is free.
const FREE_DEPTH: u8 = 32;

/// A shape: the number of tokens without `>`, and a bit for each that is `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    tokens: u8,
    stars: [u8; 32],
    /// Beginnings that are not free.
    work: u8,
}

impl Shape {
    fn of(pattern: Pattern<'_>) -> Self {
        let mut shape = Self { tokens: 0, stars: [0; 32], work: 0 };
        let mut stars = 0;
        for token in pattern.tokens().filter(|token| *token != ">") {
            if token == "*" {
                stars += 1;
                if let Some(byte) = shape.stars.get_mut(usize::from(shape.tokens / 8)) {
                    *byte |= 1 << (shape.tokens % 8);
                }
            }
            shape.tokens = shape.tokens.saturating_add(1); // a pattern has at most 255
            shape.work += u8::from(stars > 1 || stars == 1 && shape.tokens > FREE_DEPTH);
        }
        shape
    }
}

/// A shape that is in use.
struct Known {
    shape: Shape,
    id: u32,
    members: u32,
}

/// The shapes of all patterns whose beginnings are not all free, and whose they are.
#[derive(Default)]
pub(super) struct Shapes {
    known: HashTable<Known>,
    next_id: u32,
    work: u32,
    // The keys are our own numbers, so a fixed hash will do.
    /// How many patterns of a shape a member has.
    patterns: HashMap<(u32, u32), u32, FixedState>,
    /// What all shapes of a member cost.
    members: HashMap<u32, u32, FixedState>,
}

/// What stands against a pattern.
pub(super) enum Excess {
    /// The shapes of this member.
    OfMember,
    /// The shapes of all members together.
    OfAll,
}

impl Shapes {
    /// Whether a match would still be cheap enough if `member` had `pattern`.
    pub(super) fn admits(&self, secret: &Secret, pattern: Pattern<'_>, member: u32) -> Result<(), Excess> {
        let shape = Shape::of(pattern);
        let work = u32::from(shape.work);
        if work == 0 {
            return Ok(());
        }
        let known = self.known.find(hash(secret, &shape), |known| known.shape == shape);
        if known.is_some_and(|known| self.patterns.contains_key(&(member, known.id))) {
            return Ok(());
        }
        if self.members.get(&member).copied().unwrap_or(0) + work > WORK_OF_MEMBER {
            return Err(Excess::OfMember);
        }
        if known.is_none() && self.work.saturating_add(work) > WORK {
            return Err(Excess::OfAll);
        }
        Ok(())
    }

    /// `member` has `pattern` from now on.
    pub(super) fn add(&mut self, secret: &Secret, pattern: Pattern<'_>, member: u32) {
        let shape = Shape::of(pattern);
        let work = u32::from(shape.work);
        if work == 0 {
            return;
        }
        let Self { known, next_id, .. } = self;
        let same = |known: &Known| known.shape == shape;
        let new = || {
            *next_id = next_id.wrapping_add(1);
            Known { shape, id: *next_id, members: 0 }
        };
        let rehash = |known: &Known| hash(secret, &known.shape);
        let known = known.entry(hash(secret, &shape), same, rehash).or_insert_with(new).into_mut();
        let patterns = self.patterns.entry((member, known.id)).or_insert(0);
        *patterns += 1;
        if *patterns > 1 {
            return;
        }
        if known.members == 0 {
            self.work += work;
        }
        known.members += 1;
        *self.members.entry(member).or_insert(0) += work;
    }

    /// `member` has `pattern` no more.
    pub(super) fn remove(&mut self, secret: &Secret, pattern: Pattern<'_>, member: u32) {
        let shape = Shape::of(pattern);
        let work = u32::from(shape.work);
        if work == 0 {
            return;
        }
        let Ok(mut entry) = self.known.find_entry(hash(secret, &shape), |known| known.shape == shape) else { return };
        let known = entry.get_mut();
        let Some(patterns) = self.patterns.get_mut(&(member, known.id)) else { return };
        *patterns -= 1;
        if *patterns > 0 {
            return;
        }
        self.patterns.remove(&(member, known.id));
        known.members -= 1;
        if known.members == 0 {
            self.work -= work;
            entry.remove();
            shrink(&mut self.known, |known| hash(secret, &known.shape));
        }
        if let Some(of_member) = self.members.get_mut(&member) {
            *of_member -= work;
            if *of_member == 0 {
                self.members.remove(&member);
            }
        }
        if self.patterns.is_empty() {
            self.patterns = HashMap::default();
            self.members = HashMap::default();
        }
    }

    /// What is counted at present, of all members.
    #[cfg(test)]
    pub(super) fn work(&self) -> u32 {
        self.work
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.patterns.is_empty() && self.members.is_empty() && self.work == 0
    }
}

fn hash(secret: &Secret, shape: &Shape) -> u64 {
    secret.hash(shape.tokens.into(), &shape.stars)
}
