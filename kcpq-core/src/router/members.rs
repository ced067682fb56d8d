//! The members of one pattern: most have one, some have a hundred thousand.

use alloc::boxed::Box;
use core::cell::Cell;

use foldhash::fast::FixedState;
use indexmap::IndexSet;

/// A set of members, and how many messages they got. 16 bytes while there is one; then a set from which any one leaves at
/// the same cost.
pub(crate) struct Members {
    /// The only one, one of many, or [`NOBODY`].
    one: u32,
    /// Messages that were counted, modulo 2^32: for rates, which need no more room than is there anyway.
    messages: Cell<u32>,
    /// All of them, if there are several. The keys are our own numbers, so a fixed hash will do.
    many: Option<Box<IndexSet<u32, FixedState>>>,
}

/// No member has this number: the router would have to hold 32 GiB for it.
const NOBODY: u32 = u32::MAX;

impl Default for Members {
    fn default() -> Self {
        Self { one: NOBODY, messages: Cell::new(0), many: None }
    }
}

impl Members {
    pub(crate) fn is_empty(&self) -> bool {
        self.one == NOBODY
    }

    pub(crate) fn len(&self) -> usize {
        self.many.as_ref().map_or_else(|| usize::from(!self.is_empty()), |set| set.len())
    }

    pub(crate) fn contains(&self, member: u32) -> bool {
        self.many.as_ref().map_or(self.one == member && !self.is_empty(), |set| set.contains(&member))
    }

    /// False if it was there.
    pub(super) fn insert(&mut self, member: u32) -> bool {
        if let Some(set) = &mut self.many {
            return set.insert(member);
        }
        if self.one == member {
            return false;
        }
        if self.is_empty() {
            *self = Self { one: member, ..Self::default() };
        } else {
            let mut set = IndexSet::with_hasher(FixedState::default());
            set.insert(self.one);
            set.insert(member);
            self.many = Some(Box::new(set));
        }
        true
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, member: u32) -> bool {
        let Some(set) = &mut self.many else {
            let found = self.contains(member);
            if found {
                *self = Self::default();
            }
            return found;
        };
        if !set.swap_remove(&member) {
            return false;
        }
        if set.len() == 1
            && let Some(last) = set.first()
        {
            (self.one, self.many) = (*last, None);
        } else if set.capacity() > 64 && set.len() < set.capacity() / 4 {
            set.shrink_to(set.len() * 2);
        }
        true
    }

    /// So many messages are for them.
    pub(super) fn count(&self, count: u32) {
        self.messages.set(self.messages.get().wrapping_add(count));
    }

    /// How many were, modulo 2^32, since there was a first member.
    pub(crate) fn messages(&self) -> u32 {
        self.messages.get()
    }

    pub(crate) fn for_each(&self, tell: impl FnMut(u32)) {
        match &self.many {
            Some(set) => set.iter().copied().for_each(tell),
            None if self.is_empty() => {}
            None => core::iter::once(self.one).for_each(tell),
        }
    }
}
