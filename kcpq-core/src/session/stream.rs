//! A session whose frames come and go in a stream that something else keeps whole and in order (PROTOCOL.md 11): the
//! engine rests, and what waits goes straight there.

use super::Session;
use super::intake::Intake;
use crate::frame::Sink;
use crate::lane::{Lane, Priority};
use crate::outbox::{Dialect, FrameStore, Outbox};
use crate::store::TxStream;
use crate::time::Instant;

impl<S: FrameStore> Intake<'_, S> {
    /// Reads frames out of what has come of the stream; returns how many bytes `sink` took.
    pub(crate) fn read_stream(&mut self, bytes: &[u8], sink: &mut impl Sink<S>) -> usize {
        self.reader.feed(bytes, sink)
    }
}

impl<S: FrameStore> Session<S> {
    /// The peer knows properties or not. Of what else it says nothing matters without datagrams.
    pub(crate) fn set_stream(&mut self, extended: bool) {
        self.dialect = if extended { Dialect::Extended } else { Dialect::Plain };
    }

    /// Moves whole frames out until `enough` bytes are there, or nothing waits: those of the protocol first, then lane
    /// by lane. Returns how many messages there are among them.
    pub(crate) fn move_out(&mut self, now: Instant, out: &mut S::Tx, enough: usize) -> u64 {
        let mut messages = 0;
        while out.len() < enough {
            self.finish_lanes();
            if self.control.move_to(out, now, self.dialect).is_some() {
                continue;
            }
            let lane = self.first_lane();
            self.outbox.lend_waits(lane);
            let expired = self.outbox.of(lane).expire(now);
            self.on_expired(lane, expired);
            let moved = self.outbox.of(lane).move_to(out, now, self.dialect);
            self.outbox.lend_waits(lane);
            match moved {
                Some(moved) => messages += u64::from(moved.frames),
                None if expired > 0 => {}
                None => break,
            }
        }
        messages
    }

    /// Whose turn it is: bulk goes behind all else.
    fn first_lane(&self) -> Lane {
        let first = self.outbox.waiting().next().unwrap_or(Lane::NORMAL);
        let main = self.outbox.len_of(Lane::NORMAL) > 0 && first.priority() >= Priority::Bulk;
        if main { Lane::NORMAL } else { first }
    }
}
