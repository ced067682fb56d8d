//! Messages that the backbone is to store, until it has them: in the order in which they came, no more than may wait, and each
//! with the time at which something follows.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::hash::BuildHasher as _;

use bytes::Bytes;
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use crate::lane::Lane;
use crate::time::{Duration, Instant};

/// The most messages that wait to be stored.
pub(super) const MAX_STORES: usize = 65_536;
/// So many are under way at most: the others wait for the word on these.
pub(super) const MAX_UNDER_WAY: usize = 4_096;
/// Without a word a message is handed over again after this, and then each time after twice as long, up to eight times.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// See above. Each has a number, which grows.
#[derive(Debug, Default)]
pub(super) struct Stores {
    all: BTreeMap<u64, Entry>,
    /// To be handed over.
    due: BTreeSet<u64>,
    timers: BTreeSet<(Instant, u64)>,
    bytes: usize,
    under_way: usize,
}

/// One message.
#[derive(Debug)]
pub(super) struct Entry {
    /// The MSG or MSGX.
    pub(super) frame: Bytes,
    /// When it is worth nothing any more, if its publisher has said so.
    pub(super) expires: Option<Instant>,
    /// When it is given up.
    pub(super) until: Option<Instant>,
    pub(super) lane: Lane,
    /// The broker that it came from.
    pub(super) from: u8,
    /// Under which number a session of that one wants to know; `None`: nobody does.
    pub(super) ticket: Option<u32>,
    /// Its broker has not been told that it is placed.
    pub(super) is_owed: bool,
    /// Members of queue groups here have it.
    pub(super) is_served: bool,
    /// Of a leaf node: which groups these are, with a space between their names; empty if it is not known.
    pub(super) served: Option<Box<str>>,
    /// How often it was handed over, how often it was not taken for now, and how often because nobody was there for it.
    pub(super) tries: u32,
    pub(super) refusals: u32,
    pub(super) nobody: u32,
    /// It has been handed to the backbone.
    pub(super) is_out: bool,
    is_under_way: bool,
    timer: Option<Instant>,
}

impl Entry {
    pub(super) fn new(frame: Bytes, expires: Option<Instant>, lane: Lane, from: u8) -> Self {
        Self {
            frame,
            expires,
            until: expires,
            lane,
            from,
            ticket: None,
            is_owed: false,
            is_served: false,
            served: None,
            tries: 0,
            refusals: 0,
            nobody: 0,
            is_out: false,
            is_under_way: false,
            timer: None,
        }
    }
}

/// Subjects of which something was stored: as many as there is room for, the last ones. What has been stored by somebody will
/// be so again, even if nobody is there for it at the moment: in a cluster another server is to take over.
pub(super) struct Known {
    state: SeedableRandomState,
    places: Vec<u64>,
}

/// Subjects that are known.
const MAX_KNOWN: usize = 1024;

impl core::fmt::Debug for Known {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Known {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: SeedableRandomState::with_seed(seed, SharedSeed::global_fixed()), places: Vec::new() }
    }

    pub(super) fn add(&mut self, subject: &[u8]) {
        self.places.resize(MAX_KNOWN, 0);
        let hash = self.state.hash_one(subject);
        if let Some(place) = self.places.get_mut(place(hash)) {
            *place = hash;
        }
    }

    pub(super) fn forget(&mut self, subject: &[u8]) {
        let hash = self.state.hash_one(subject);
        if let Some(place) = self.places.get_mut(place(hash)).filter(|place| **place == hash) {
            *place = 0;
        }
    }

    pub(super) fn has(&self, subject: &[u8]) -> bool {
        let hash = self.state.hash_one(subject);
        self.places.get(place(hash)) == Some(&hash)
    }
}

fn place(hash: u64) -> usize {
    hash as usize % MAX_KNOWN
}

impl Stores {
    /// Messages, and bytes of these.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.all.len(), self.bytes)
    }

    /// True if there is room for one of so many bytes.
    pub(super) fn has_room(&self, bytes: usize, limit: usize) -> bool {
        self.all.len() < MAX_STORES && self.bytes + bytes <= limit
    }

    /// Takes one that is to be handed over when it is its turn.
    pub(super) fn insert(&mut self, number: u64, entry: Entry) {
        self.bytes += entry.frame.len();
        let until = entry.until;
        self.all.insert(number, entry);
        self.due.insert(number);
        self.set_timer(number, until);
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.all.get_mut(&number)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.all.values_mut()
    }

    /// It is stored, or given up.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        self.set_timer(number, None);
        self.due.remove(&number);
        let entry = self.all.remove(&number)?;
        self.bytes -= entry.frame.len();
        self.under_way -= usize::from(entry.is_under_way);
        Some(entry)
    }

    /// The next one to be handed over, unless too many are under way.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().copied().filter(|_| self.under_way < MAX_UNDER_WAY)
    }

    /// It is handed over now.
    pub(super) fn on_handed_over(&mut self, now: Instant, number: u64) {
        self.due.remove(&number);
        let Some(entry) = self.all.get_mut(&number) else { return };
        let again = now + PATIENCE.saturating_mul(1 << entry.tries.min(3));
        entry.tries += 1;
        self.under_way += usize::from(!core::mem::replace(&mut entry.is_under_way, true));
        let timer = Instant::earlier(entry.until, Some(again));
        self.set_timer(number, timer);
    }

    /// It is to be handed over again at that time, or is given up if that comes before.
    pub(super) fn put_off(&mut self, number: u64, at: Instant) {
        let Some(entry) = self.all.get_mut(&number) else { return };
        self.under_way -= usize::from(core::mem::take(&mut entry.is_under_way));
        let timer = Instant::earlier(entry.until, Some(at));
        self.due.remove(&number);
        self.set_timer(number, timer);
    }

    /// The backbone is lost: all are to be handed over when it is back.
    pub(super) fn on_lost(&mut self) {
        self.under_way = 0;
        self.timers.clear();
        for (number, entry) in &mut self.all {
            entry.is_under_way = false;
            entry.timer = entry.until;
            self.timers.extend(entry.until.map(|until| (until, *number)));
            self.due.insert(*number);
        }
    }

    /// Lets time run out: one whose time is over. Others are due by this.
    pub(super) fn on_time(&mut self, now: Instant) -> Option<u64> {
        while let Some((at, number)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            let Some(entry) = self.all.get_mut(&number) else {
                self.timers.remove(&(at, number));
                continue;
            };
            let until = entry.until;
            if until.is_some_and(|until| until <= now) {
                return Some(number);
            }
            self.under_way -= usize::from(core::mem::take(&mut entry.is_under_way));
            self.due.insert(number);
            self.set_timer(number, until);
        }
        None
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn set_timer(&mut self, number: u64, at: Option<Instant>) {
        let Some(entry) = self.all.get_mut(&number) else { return };
        if let Some(before) = core::mem::replace(&mut entry.timer, at) {
            self.timers.remove(&(before, number));
        }
        self.timers.extend(at.map(|at| (at, number)));
    }
}
