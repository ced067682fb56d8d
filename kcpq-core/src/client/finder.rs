//! Who wants a message, at the cost of those who do: the subscriptions once more, by pattern.
//!
//! It follows the table of subscriptions late: new ones are taken in, and what has ended is passed over until there is much
//! of it. Clients with few subscriptions do without.

use alloc::vec::Vec;

use super::subscriptions::{SubscriptionId, Subscriptions};
use crate::router::Router;
use crate::store::Heap;
use crate::subject::{Limits, Pattern, Subject};

/// Up to so many subscriptions are looked at one by one.
const FEW: usize = 16;

/// The patterns of a client's subscriptions.
#[derive(Debug)]
pub(super) struct Finder {
    router: Router,
    /// The members of the router.
    members: Vec<SubscriptionId>,
    /// Those up to this one have been taken in.
    known: Option<SubscriptionId>,
}

impl Default for Finder {
    fn default() -> Self {
        // A client's own patterns are hashed, and nobody else adds to them.
        Self { router: Router::new(0), members: Vec::new(), known: None }
    }
}

impl Finder {
    /// Adds to `found` those that want messages to `subject`, in the order in which they were made.
    pub(super) fn find(
        &mut self,
        subject: Subject<'_>,
        subscriptions: &Subscriptions<Heap>,
        limits: &Limits,
        found: &mut Vec<SubscriptionId>,
    ) {
        if subscriptions.len() <= FEW {
            if !self.members.is_empty() {
                *self = Self::default();
            }
            let mut last = None;
            while let Some(id) = subscriptions.next_for(subject.as_str().as_bytes(), last) {
                found.push(id);
                last = Some(id);
            }
            return;
        }
        self.follow(subscriptions, limits);
        let Self { router, members, .. } = self;
        router.route(subject, |member| {
            let id = members.get(member as usize).copied();
            found.extend(id.filter(|id| subscriptions.is_listed(*id)));
        });
        found.sort_unstable();
    }

    /// Takes in what is new.
    fn follow(&mut self, subscriptions: &Subscriptions<Heap>, limits: &Limits) {
        if self.members.len() > 2 * subscriptions.len() {
            *self = Self::default();
        }
        for (id, pattern) in subscriptions.listed_behind(self.known) {
            // It was checked when it was made.
            if let Ok(pattern) = Pattern::new(pattern, limits) {
                self.router.subscribe(pattern, self.members.len() as u32);
                self.members.push(id);
            }
            self.known = Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::client::subscriptions::Wants;
    use crate::store::{HeapText, Text};

    fn found(finder: &mut Finder, subscriptions: &Subscriptions<Heap>, subject: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let subject = Subject::new(subject, &Limits::DEFAULT).unwrap();
        finder.find(subject, subscriptions, &Limits::DEFAULT, &mut found);
        found.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn it_finds_what_looking_at_all_of_them_finds_while_they_come_and_go() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut subscriptions = Subscriptions::<Heap>::new(Default::default());
        let (mut finder, mut all) = (Finder::default(), Vec::new());
        let token = |rng: &mut fastrand::Rng| ["a", "b", "c", "*"][rng.usize(..4)];
        for _ in 0..2_000 {
            // Their number goes up and down, so that the finder begins anew as well.
            if all.is_empty() || rng.usize(..40) > all.len() {
                let pattern = format!("{}.{}.{}", token(&mut rng), token(&mut rng), ["a", ">"][rng.usize(..2)]);
                all.push(subscriptions.add(HeapText::new(&pattern).unwrap(), Wants::default()).unwrap());
            } else {
                let id = all.swap_remove(rng.usize(..all.len()));
                assert!(subscriptions.remove(id));
                subscriptions.on_disconnect();
            }
            let subject = format!("{}.{}.a", ["a", "b"][rng.usize(..2)], ["a", "c"][rng.usize(..2)]);
            let (mut last, mut expected) = (None, Vec::new());
            while let Some(id) = subscriptions.next_for(subject.as_bytes(), last) {
                expected.push(id.0);
                last = Some(id);
            }
            assert_eq!(found(&mut finder, &subscriptions, &subject), expected, "{subject}");
            assert!(finder.members.len() <= 3 * subscriptions.len(), "it holds no more than it has to");
        }
    }
}
