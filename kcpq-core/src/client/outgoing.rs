//! How far what was published has come.

use crate::lane::{Each, LANES, Lane};

/// Messages, counted from the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outgoing {
    lanes: Each<Count>,
    /// How far the user wants to know that the server has handled them.
    wanted: u64,
    /// How far the server has said so.
    flushed: u64,
}

/// Messages of one lane.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Taken from the user; dropped ones and those in doubt included.
    published: u64,
    /// Dropped from the queue; expired ones included.
    dropped: u64,
    /// As [`Outgoing::wanted`].
    wanted: u64,
}

impl Outgoing {
    /// A message was taken.
    pub(super) fn on_published(&mut self, lane: Lane) {
        self.lanes[lane].published += 1;
    }

    /// So many were taken that had been staged.
    #[cfg(feature = "alloc")]
    pub(super) fn on_staged(&mut self, count: u64) {
        self.lanes[Lane::NORMAL].published += count;
    }

    /// How many messages of a lane were taken: the number of the last one.
    #[cfg(feature = "confirm")]
    pub(super) fn published(&self, lane: Lane) -> u64 {
        self.lanes[lane].published
    }

    /// How many messages of a lane do not wait any more, when so many have been `moved` into its stream: the number of the last
    /// one of these.
    pub(super) fn gone(&self, lane: Lane, moved: u64) -> u64 {
        moved + self.lanes[lane].dropped
    }

    /// Messages were dropped from the queue.
    pub(super) fn on_dropped(&mut self, lane: Lane, count: u64) {
        self.lanes[lane].dropped += count;
    }

    /// The user wants to know when all that was published has been handled. Returns how many messages that are.
    pub(super) fn want_flush(&mut self) -> u64 {
        let mut all = 0;
        for count in self.lanes.iter_mut() {
            count.wanted = count.published;
            all += count.published;
        }
        self.wanted = self.wanted.max(all);
        self.wanted
    }

    /// How many messages a PING is to be sent behind now, when so many of each lane are certain to be handled `before` it.
    pub(super) fn flush_due(&self, before: impl Fn(Lane) -> u64) -> Option<u64> {
        let is_there = |lane: Lane| self.gone(lane, before(lane)) >= self.lanes[lane].wanted;
        (self.wanted > self.flushed && Lane::all().take(LANES).all(is_there)).then_some(self.wanted)
    }

    /// The server has handled the first `published` messages.
    pub(super) fn on_flushed(&mut self, published: u64) {
        self.flushed = published;
    }

    /// How many messages the server is known to have handled.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed
    }
}
