//! One broker of the server, as the gateway sees it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::Channel;
use crate::broker::outlet::Report;
use crate::broker::receipts::StoreOutcome;
use crate::broker::shards::Told;
use crate::broker::supply::Patience;
use crate::lane::Lane;
use crate::time::{Duration, Instant};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Link {
    told: VecDeque<Told>,
    /// Messages of one lane that follow all of these.
    batch: BytesMut,
    lane: Lane,
    /// Bytes of messages for it: of those that wait here, and of those that it has not placed.
    queued: usize,
    beyond: usize,
    /// Sessions of it hold the gateway back as a publisher.
    is_behind: bool,
    /// Bytes of its messages that need not be waited for any more, and what it is to hear of those with a ticket; since when there
    /// is any of that, and whether it is to hear it at once. To be woken for a few bytes alone is dearer than to hear of them
    /// a moment later.
    placed: usize,
    answers: Vec<(u32, u32)>,
    owed_since: Option<Instant>,
    is_due: bool,
    /// What it is to hear of those that were to be stored.
    stored: Vec<(u32, StoreOutcome)>,
    /// Patterns that it has told of, each with the ping that confirms it, if it is to wait for one.
    known: VecDeque<Option<(Channel, u64)>>,
}

/// So many bytes of messages go together.
const BATCH: usize = 64 * 1024;
/// So many that have found their place are told at once, and fewer with what else there is to tell, or after this.
const PLACED: usize = 16 * 1024;
const TOLD_WITHIN: Duration = Duration::from_millis(5);

impl Link {
    /// Something else than a message.
    pub(super) fn tell(&mut self, told: Told) {
        self.close_batch();
        self.told.push_back(told);
    }

    /// The last value of a subject.
    pub(super) fn tell_value(&mut self, told: Told) {
        if let Told::Value { frame: Some(frame), .. } = &told {
            self.queued += frame.len();
        }
        self.tell(told);
    }

    /// A message, as a whole frame, to be forgotten if it still waits then.
    pub(super) fn send(&mut self, frame: &[u8], lane: Lane, expires: Option<Instant>) {
        self.queued += frame.len();
        if lane != self.lane || expires.is_some() || self.batch.len() + frame.len() > BATCH {
            self.close_batch();
        }
        if expires.is_some() {
            return self.told.push_back(Told::Messages { frames: Bytes::copy_from_slice(frame), expires, lane });
        }
        self.lane = lane;
        self.batch.extend_from_slice(frame);
    }

    fn close_batch(&mut self) {
        if !self.batch.is_empty() {
            let frames = core::mem::take(&mut self.batch).freeze();
            self.told.push_back(Told::Messages { frames, expires: None, lane: self.lane });
        }
    }

    /// It has told of a pattern: it hears that this is known once the ping is answered.
    pub(super) fn know(&mut self, confirmed_by: Option<(Channel, u64)>) {
        self.known.push_back(confirmed_by);
    }

    /// So many bytes of its messages have found their place.
    pub(super) fn place(&mut self, now: Instant, bytes: usize) {
        if bytes > 0 {
            self.placed += bytes;
            self.owed_since.get_or_insert(now);
            self.is_due |= self.placed >= PLACED;
        }
    }

    /// What has become of a message with a ticket, in the order of these. `waits`: somebody does.
    pub(super) fn answer(&mut self, now: Instant, ticket: u32, answer: u32, waits: bool) {
        self.answers.push((ticket, answer));
        self.owed_since.get_or_insert(now);
        self.is_due |= waits;
    }

    /// Lets time run out.
    pub(super) fn on_time(&mut self, now: Instant) {
        self.is_due |= self.next_timeout().is_some_and(|at| at <= now);
    }

    /// When it is to hear what it has not yet.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.owed_since.map(|since| since + TOLD_WITHIN)
    }

    /// Whether a message with a ticket is stored.
    pub(super) fn tell_stored(&mut self, ticket: u32, outcome: StoreOutcome) {
        self.stored.push((ticket, outcome));
    }

    /// It has placed so many bytes, and holds the gateway back or not.
    pub(super) fn on_placed(&mut self, bytes: usize, is_behind: bool) {
        self.beyond = self.beyond.saturating_sub(bytes);
        self.is_behind = is_behind;
    }

    /// True if it takes more messages, with so many bytes on their way at most.
    pub(super) fn has_room(&self, high_water: usize) -> bool {
        !self.is_behind && self.queued + self.beyond < high_water
    }

    /// The next thing to tell it. `is_answered` says whether a ping is.
    pub(super) fn poll(&mut self, is_answered: impl Fn((Channel, u64)) -> bool) -> Option<Told> {
        let is_woken = !(self.stored.is_empty() && self.told.is_empty() && self.batch.is_empty());
        if self.owed_since.is_some() && (self.is_due || is_woken) {
            (self.owed_since, self.is_due) = (None, false);
            // However slow others are, they need not go on for the backbone's sake.
            let report = Report { patience: Some(Patience::ENDLESS), ..Report::default() };
            let (bytes, answers) = (core::mem::take(&mut self.placed), core::mem::take(&mut self.answers));
            return Some(Told::Placed { bytes, report, answers });
        }
        if !self.stored.is_empty() {
            return Some(Told::Stored { answers: core::mem::take(&mut self.stored) });
        }
        // In their order: the broker counts them.
        if self.known.front().is_some_and(|by| by.is_none_or(&is_answered)) {
            self.known.pop_front();
            return Some(Told::Known);
        }
        self.close_batch();
        let told = self.told.pop_front()?;
        if let Told::Messages { frames, .. } | Told::Value { frame: Some(frames), .. } = &told {
            self.queued -= frames.len();
            self.beyond += frames.len();
        }
        Some(told)
    }
}
