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
use crate::time::Instant;

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
    /// Bytes of its messages that need not be waited for any more, and what it is to hear of those with a ticket.
    placed: usize,
    answers: Vec<(u32, u32)>,
    /// What it is to hear of those that were to be stored.
    stored: Vec<(u32, StoreOutcome)>,
    /// Patterns that it has told of, each with the ping that confirms it, if it is to wait for one.
    known: VecDeque<Option<(Channel, u64)>>,
}

/// So many bytes of messages go together.
const BATCH: usize = 64 * 1024;

impl Link {
    /// Something else than a message.
    pub(super) fn tell(&mut self, told: Told) {
        self.close_batch();
        self.told.push_back(told);
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
    pub(super) fn place(&mut self, bytes: usize) {
        self.placed += bytes;
    }

    /// What has become of a message with a ticket.
    pub(super) fn answer(&mut self, ticket: u32, answer: u32) {
        self.answers.push((ticket, answer));
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
        if self.placed > 0 || !self.answers.is_empty() {
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
        if let Told::Messages { frames, .. } = &told {
            self.queued -= frames.len();
            self.beyond += frames.len();
        }
        Some(told)
    }
}
