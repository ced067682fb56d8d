//! What a backbone was given last before it answered no more. It may go on after all, when this gateway stands on another server of
//! it: then its own messages come back by that one, as if somebody else had published them.

use alloc::collections::VecDeque;
use core::hash::BuildHasher as _;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use crate::time::{Duration, Instant};

/// See above.
pub(super) struct Doubts {
    hasher: SeedableRandomState,
    /// Messages that the backbone has not confirmed: which of all that were handed to it, and their hash.
    recent: VecDeque<(u64, u64)>,
    /// Those that may come back, by their hash how many, until then.
    awaited: HashMap<u64, u32, SeedableRandomState>,
    until: Instant,
}

/// More than the system keeps of small messages for one who does not read them.
const MAX: usize = 128 * 1024;
/// After so many the backbone is asked whether it has them.
const ASK_AGAIN: u64 = 16 * 1024;
/// A server that was left does not go on after so long; who says the same in the same words then is another one.
const AWAITED_FOR: Duration = Duration::from_secs(900);

impl core::fmt::Debug for Doubts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Doubts").field("recent", &self.recent.len()).finish_non_exhaustive()
    }
}

impl Doubts {
    pub(super) fn new(seed: u64) -> Self {
        let state = || SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { hasher: state(), recent: VecDeque::new(), awaited: HashMap::with_hasher(state()), until: Instant::ZERO }
    }

    /// Message `number` is handed to the backbone. True if that is to be asked whether it has it.
    pub(super) fn hand_over(&mut self, number: u64, subject: &str, payload: &[u8]) -> bool {
        if self.recent.len() >= MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((number, self.hasher.hash_one((subject, payload))));
        number.is_multiple_of(ASK_AGAIN)
    }

    /// It has all up to this one.
    pub(super) fn confirm(&mut self, number: u64) {
        while self.recent.front().is_some_and(|(first, _)| *first <= number) {
            self.recent.pop_front();
        }
    }

    /// It is lost. If it just answered no more it may go on.
    pub(super) fn lose(&mut self, now: Instant, may_go_on: bool) {
        if now >= self.until {
            self.awaited.clear();
        }
        if !may_go_on {
            return self.recent.clear();
        }
        self.until = now + AWAITED_FOR;
        for (_, hash) in self.recent.drain(..) {
            if self.awaited.len() < MAX {
                *self.awaited.entry(hash).or_default() += 1;
            }
        }
    }

    /// True if a message from the backbone is one of this gateway's own: it is not awaited any more.
    pub(super) fn is_back(&mut self, now: Instant, subject: &str, payload: &[u8]) -> bool {
        if self.awaited.is_empty() {
            return false;
        }
        if now >= self.until {
            self.awaited.clear();
            return false;
        }
        let hash = self.hasher.hash_one((subject, payload));
        let Some(count) = self.awaited.get_mut(&hash) else { return false };
        *count -= 1;
        if *count == 0 {
            self.awaited.remove(&hash);
        }
        true
    }
}
