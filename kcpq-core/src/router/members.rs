//! The members of one pattern: most have one, some have a hundred thousand.

use alloc::boxed::Box;

use foldhash::fast::FixedState;
use indexmap::IndexSet;

/// A set of members. 16 bytes while there is one; then a set from which any one leaves at the same cost.
#[derive(Default)]
pub(crate) enum Members {
    #[default]
    None,
    One(u32),
    // The keys are our own numbers, so a fixed hash will do.
    Many(Box<IndexSet<u32, FixedState>>),
}

impl Members {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(set) => set.len(),
        }
    }

    pub(crate) fn contains(&self, member: u32) -> bool {
        match self {
            Self::None => false,
            Self::One(only) => *only == member,
            Self::Many(set) => set.contains(&member),
        }
    }

    /// False if it was there.
    pub(super) fn insert(&mut self, member: u32) -> bool {
        match self {
            Self::None => *self = Self::One(member),
            Self::One(only) if *only == member => return false,
            Self::One(only) => {
                let mut set = IndexSet::with_hasher(FixedState::default());
                set.insert(*only);
                set.insert(member);
                *self = Self::Many(Box::new(set));
            }
            Self::Many(set) => return set.insert(member),
        }
        true
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, member: u32) -> bool {
        match self {
            Self::One(only) if *only == member => *self = Self::None,
            Self::None | Self::One(_) => return false,
            Self::Many(set) => {
                if !set.swap_remove(&member) {
                    return false;
                }
                if set.len() == 1
                    && let Some(last) = set.first()
                {
                    *self = Self::One(*last);
                } else if set.capacity() > 64 && set.len() < set.capacity() / 4 {
                    set.shrink_to(set.len() * 2);
                }
            }
        }
        true
    }

    pub(crate) fn for_each(&self, tell: impl FnMut(u32)) {
        match self {
            Self::None => {}
            Self::One(only) => core::iter::once(*only).for_each(tell),
            Self::Many(set) => set.iter().copied().for_each(tell),
        }
    }
}
