//! Several patterns of one subscription: their messages wait in one queue, in the order in which they came.

use std::collections::HashMap;

use kcpq_core::client::{Arrived, SubscriptionId};
use kcpq_core::frame::{Frame, Limits};
use kcpq_core::subject::{self, Pattern, Subject};

use crate::queue::Name;

/// Of the further patterns of subscriptions, where their messages go.
#[derive(Debug, Default)]
pub(crate) struct Joined(HashMap<SubscriptionId, Further>);

/// A further pattern.
#[derive(Debug)]
struct Further {
    /// The subscription whose queue it is.
    first: SubscriptionId,
    /// The patterns before it: what one of these matches has come by that one.
    before: Vec<Name>,
}

impl Joined {
    /// What comes for `id` is for the queue of `first`, unless one of the patterns `before` matches it as well.
    pub(crate) fn insert(&mut self, id: SubscriptionId, first: SubscriptionId, before: Vec<Name>) {
        self.0.insert(id, Further { first, before });
    }

    pub(crate) fn remove(&mut self, id: SubscriptionId) {
        self.0.remove(&id);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The subscription that this is a further pattern of.
    pub(crate) fn first(&self, id: SubscriptionId) -> Option<SubscriptionId> {
        self.0.get(&id).map(|further| further.first)
    }

    /// Whose queue a message for `id` is for; `None` if it is there already.
    pub(crate) fn queue_of(&self, id: SubscriptionId, frame: &Arrived<'_>) -> Option<SubscriptionId> {
        if self.0.is_empty() {
            return Some(id);
        }
        let Some(Further { first, before }) = self.0.get(&id) else { return Some(id) };
        let subject = Frame::parse(frame.bytes(), &Limits::NONE).ok().map(|frame| frame.subject)?;
        (!before.iter().any(|pattern| matches(pattern, subject))).then_some(*first)
    }
}

fn matches(pattern: &str, subject: &[u8]) -> bool {
    const LIMITS: subject::Limits = subject::Limits { max_tokens: u8::MAX, ..subject::Limits::DEFAULT };
    let pattern = Pattern::new(pattern, &LIMITS);
    pattern.is_ok_and(|pattern| Subject::from_bytes(subject, &LIMITS).is_ok_and(|subject| pattern.matches(subject)))
}
