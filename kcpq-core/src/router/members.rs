//! The members of one pattern: most have one, some have a hundred thousand.

use alloc::boxed::Box;
use core::cell::Cell;

use foldhash::fast::FixedState;
use indexmap::IndexSet;

/// A set of members, and how many messages they got. 16 bytes while there is one; then a set from which any one leaves at
/// the same cost.
#[derive(Default)]
pub(crate) enum Members {
    #[default]
    None,
    One(u32, Messages),
    // The keys are our own numbers, so a fixed hash will do.
    Many(Box<IndexSet<u32, FixedState>>, Messages),
}

/// Messages that were counted, modulo 2^32: for rates, which need no more room than is there anyway.
type Messages = Cell<u32>;

impl Members {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(set, _) => set.len(),
        }
    }

    pub(crate) fn contains(&self, member: u32) -> bool {
        match self {
            Self::None => false,
            Self::One(only, _) => *only == member,
            Self::Many(set, _) => set.contains(&member),
        }
    }

    /// False if it was there.
    pub(super) fn insert(&mut self, member: u32) -> bool {
        match self {
            Self::None => *self = Self::One(member, Messages::default()),
            Self::One(only, _) if *only == member => return false,
            Self::One(only, messages) => {
                let mut set = IndexSet::with_hasher(FixedState::default());
                set.insert(*only);
                set.insert(member);
                *self = Self::Many(Box::new(set), messages.clone());
            }
            Self::Many(set, _) => return set.insert(member),
        }
        true
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, member: u32) -> bool {
        match self {
            Self::One(only, _) if *only == member => *self = Self::None,
            Self::None | Self::One(..) => return false,
            Self::Many(set, messages) => {
                if !set.swap_remove(&member) {
                    return false;
                }
                if set.len() == 1
                    && let Some(last) = set.first()
                {
                    *self = Self::One(*last, messages.clone());
                } else if set.capacity() > 64 && set.len() < set.capacity() / 4 {
                    set.shrink_to(set.len() * 2);
                }
            }
        }
        true
    }

    /// So many messages are for them.
    pub(super) fn count(&self, count: u32) {
        if let Self::One(_, messages) | Self::Many(_, messages) = self {
            messages.set(messages.get().wrapping_add(count));
        }
    }

    /// How many were, modulo 2^32, since there was a first member.
    pub(crate) fn messages(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::One(_, messages) | Self::Many(_, messages) => messages.get(),
        }
    }

    pub(crate) fn for_each(&self, tell: impl FnMut(u32)) {
        match self {
            Self::None => {}
            Self::One(only, _) => core::iter::once(*only).for_each(tell),
            Self::Many(set, _) => set.iter().copied().for_each(tell),
        }
    }
}
