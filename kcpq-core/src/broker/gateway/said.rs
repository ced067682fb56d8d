//! What the far side of a leaf node's connection is told that sessions here want: each pattern once, and each pattern of a queue
//! group with its weight, however many reasons there are.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::Order;
use super::wants::LIMITS;
use crate::access::Matcher;
use crate::broker::groups;
use crate::subject::Pattern;

/// See above.
pub(super) struct Said {
    plain: HashMap<Box<str>, u32, SeedableRandomState>,
    /// By pattern and group, as [`groups::text`] joins them.
    groups: HashMap<Box<str>, u32, SeedableRandomState>,
    /// What it permits, as far as it has said so. Whoever says more than that is cut off.
    permitted: Option<Matcher>,
    /// Patterns that it does not permit, for people; and how many there were.
    denied: VecDeque<Box<str>>,
    denials: u64,
}

/// So many denied patterns wait to be told.
const MAX_DENIED: usize = 16;

impl Said {
    pub(super) fn new(seed: u64) -> Self {
        let state = || SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self {
            plain: HashMap::with_hasher(state()),
            groups: HashMap::with_hasher(state()),
            permitted: None,
            denied: VecDeque::new(),
            denials: 0,
        }
    }

    /// Patterns, those of groups included.
    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.groups.len()
    }

    /// Times that one was not permitted.
    pub(super) fn denials(&self) -> u64 {
        self.denials
    }

    /// The next pattern that is not permitted.
    pub(super) fn poll_denied(&mut self) -> Option<Box<str>> {
        self.denied.pop_front()
    }

    /// What it permits from now on; `None` for everything.
    pub(super) fn permit(&mut self, permitted: Option<Matcher>) {
        self.permitted = permitted;
    }

    /// There is one reason more for a pattern.
    pub(super) fn want(&mut self, subject: &str, orders: &mut VecDeque<Order>) {
        let reasons = self.plain.entry(subject.into()).or_default();
        *reasons += 1;
        if *reasons == 1 {
            self.say(subject, None, 1, orders);
        }
    }

    /// There is one less.
    pub(super) fn leave(&mut self, subject: &str, orders: &mut VecDeque<Order>) {
        let Some(reasons) = self.plain.get_mut(subject) else { return };
        *reasons -= 1;
        if *reasons == 0 {
            self.plain.remove(subject);
            self.say(subject, None, 0, orders);
        }
    }

    /// A group has so many members with a pattern, after so many `before`.
    pub(super) fn count(&mut self, subject: &str, group: &str, before: u32, now: u32, orders: &mut VecDeque<Order>) {
        if before == now {
            return;
        }
        let text: Box<str> = groups::text(subject, group).into();
        let weight = self.groups.get(&text).copied().unwrap_or(0).saturating_sub(before).saturating_add(now);
        if weight == 0 {
            self.groups.remove(&text);
        } else {
            self.groups.insert(text, weight);
        }
        self.say(subject, Some(group), weight, orders);
    }

    /// Says all of it again, to one who knows nothing.
    pub(super) fn say_again(&mut self, orders: &mut VecDeque<Order>) {
        let (plain, groups) = (core::mem::take(&mut self.plain), core::mem::take(&mut self.groups));
        for subject in plain.keys() {
            self.say(subject, None, 1, orders);
        }
        for (text, weight) in &groups {
            let (subject, group) = groups::parts(text);
            self.say(subject, Some(group), *weight, orders);
        }
        (self.plain, self.groups) = (plain, groups);
    }

    fn say(&mut self, subject: &str, group: Option<&str>, weight: u32, orders: &mut VecDeque<Order>) {
        if let Some(permitted) = &mut self.permitted
            && !Pattern::new(subject, &LIMITS).is_ok_and(|pattern| permitted.covers(pattern))
        {
            if weight > 0 {
                self.denials += 1;
                if self.denied.len() < MAX_DENIED {
                    self.denied.push_back(subject.into());
                }
            }
            return;
        }
        let (subject, group) = (subject.into(), group.map(Into::into));
        orders.push_back(match weight {
            0 => Order::Unwant { subject, group },
            weight => Order::Want { subject, group, weight },
        });
    }
}
