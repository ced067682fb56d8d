//! The PINGs of one conversation. Each PONG answers the oldest that is not answered.

use crate::time::{Duration, Instant};

/// PINGs sent and PONGs received.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pings {
    sent: u32,
    answered: u32,
    heartbeat: Option<Heartbeat>,
    /// The number of the PING behind what a flush covers, and how many messages that are.
    flush: Option<(u32, u64)>,
}

/// The heartbeat that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    number: u32,
    pub(super) at: Instant,
    /// When it was acknowledged, and nothing else had come from the server any more.
    pub(super) waits_since: Instant,
    /// The server's transport has it, or need not have it for its answer to be waited for.
    pub(super) acknowledged: bool,
}

/// What a PONG says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// How long the heartbeat took.
    pub(super) round_trip: Option<Duration>,
    /// How many messages the server has handled.
    pub(super) flushed: Option<u64>,
}

impl Pings {
    /// A PING was queued.
    pub(super) fn on_sent(&mut self) {
        self.sent = self.sent.wrapping_add(1);
    }

    /// The last PING is the heartbeat, if none is under way. Its answer is not waited for before it is `acknowledged`.
    pub(super) fn is_heartbeat(&mut self, now: Instant, acknowledged: bool) {
        self.heartbeat.get_or_insert(Heartbeat { number: self.sent, at: now, waits_since: now, acknowledged });
    }

    /// The last PING stands behind the first `published` messages.
    pub(super) fn is_flush(&mut self, published: u64) {
        self.flush = Some((self.sent, published));
    }

    /// The heartbeat that is not answered yet.
    pub(super) fn heartbeat(&self) -> Option<Heartbeat> {
        self.heartbeat
    }

    /// True while a flush is under way.
    pub(super) fn is_flushing(&self) -> bool {
        self.flush.is_some()
    }

    /// The heartbeat is not waited for any longer.
    pub(super) fn forget_heartbeat(&mut self) {
        self.heartbeat = None;
    }

    /// A datagram came from the server: with new data, behind which the answer may be, or not; by now all PINGs are
    /// `acknowledged`, or not.
    #[inline]
    pub(super) fn on_datagram(&mut self, now: Instant, data: bool, acknowledged: impl FnOnce() -> bool) {
        let Some(heartbeat) = &mut self.heartbeat else { return };
        if data || !heartbeat.acknowledged {
            heartbeat.waits_since = now;
            heartbeat.acknowledged = heartbeat.acknowledged || acknowledged();
        }
    }

    /// A PONG came.
    pub(super) fn on_pong(&mut self, now: Instant) -> Answer {
        self.answered = self.answered.wrapping_add(1);
        let heartbeat = self.heartbeat.take_if(|heartbeat| heartbeat.number == self.answered);
        let flush = self.flush.take_if(|(number, _)| *number == self.answered);
        Answer {
            round_trip: heartbeat.map(|heartbeat| now.since(heartbeat.at)),
            flushed: flush.map(|(_, published)| published),
        }
    }
}
