//! The queue groups in which one session is, by the numbers of its subscriptions.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::groups::parts;
use crate::frame::{Frame, Limits};
use crate::outbox::Queues;
use crate::store::Heap;
use crate::time::{Duration, Instant};

/// See above.
pub(super) struct Membership {
    /// Pattern and group, as [`groups::text`](super::groups::text) joins them.
    texts: HashMap<u32, Box<str>, SeedableRandomState>,
    /// When what waits for the session may be searched for what is to be given back.
    search_from: Instant,
}

/// A session is a member so many times at most: it is given each message once for each group of its own.
pub(super) const MAX: usize = 1024;
/// To go through all that waits for a session costs more than to ask for it. It is not done more often than this.
const BETWEEN_SEARCHES: Duration = Duration::from_millis(250);

impl Membership {
    /// `seed` is random: peers choose the numbers.
    pub(super) fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { texts: HashMap::with_hasher(state), search_from: Instant::ZERO }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Pattern and group of the subscription of this number.
    pub(super) fn get(&self, number: u32) -> Option<&str> {
        self.texts.get(&number).map(|text| &**text)
    }

    /// Notes one, in the place of the one that had its number before.
    pub(super) fn insert(&mut self, number: u32, text: &str) {
        self.texts.insert(number, text.into());
    }

    pub(super) fn remove(&mut self, number: u32) {
        self.texts.remove(&number);
    }

    /// All of them: number, pattern and group.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.texts.iter().map(|(number, text)| (*number, &**text))
    }

    /// Keeps those whose patterns `keep` says; hands the others to `ended`.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool, mut ended: impl FnMut(u32, Box<str>)) {
        for (number, text) in self.texts.extract_if(|_, text| !keep(parts(text).0)) {
            ended(number, text);
        }
    }

    /// True if what waits may be gone through now.
    pub(super) fn may_search(&mut self, now: Instant) -> bool {
        let may = self.search_from <= now;
        if may {
            self.search_from = now + BETWEEN_SEARCHES;
        }
        may
    }

    /// Takes out of what waits for the session that which is for it as a member, of all groups or by one number alone: the
    /// text of the membership, the frame, and when it is to be forgotten.
    pub(super) fn take_from(
        &self,
        queue: &mut Queues<Heap>,
        number: Option<u32>,
    ) -> Vec<(Box<str>, Bytes, Option<Instant>)> {
        let of = |frame: &[u8]| Frame::parse(frame, &Limits::NONE).ok()?.message()?.1.member();
        let wanted = |found: u32| number.is_none_or(|number| number == found) && self.texts.contains_key(&found);
        let mut taken = Vec::new();
        queue.for_each(|outbox| taken.extend(outbox.extract(|frame| of(frame).is_some_and(wanted))));
        let with_text = |(frame, expires): (Bytes, _)| Some((self.texts.get(&of(&frame)?)?.clone(), frame, expires));
        taken.into_iter().filter_map(with_text).collect()
    }
}
