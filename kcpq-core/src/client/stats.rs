//! What a client counts: everything that the original names (docs/original.md 8), and each of them really.

use crate::frame::{Flaw, Frame};
use crate::time::{Duration, Instant};

/// Statistics of a client, since its start.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Stats {
    /// True while connected.
    pub connected: bool,
    /// When the current or the last connection was made.
    pub connected_at: Option<Instant>,
    /// When the last connection was lost.
    pub disconnected_at: Option<Instant>,
    /// Messages sent: put into the transport's stream.
    pub messages_sent: u64,
    /// Messages received, each counted once no matter how many subscriptions match.
    pub messages_received: u64,
    /// Bytes of subjects and payloads sent.
    pub bytes_sent: u64,
    /// Bytes of subjects and payloads received.
    pub bytes_received: u64,
    /// Measured latency: round trips of heartbeats, and of messages until they were acknowledged.
    pub latency: Latency,
    /// Active subscriptions: acknowledged by the server.
    pub active_subscriptions: u32,
    /// Total number of subscriptions requested.
    pub total_subscriptions: u64,
    /// Failed attempts to connect and lost connections.
    pub connection_errors: u64,
    /// Messages that `publish` refused.
    pub publish_errors: u64,
    /// Subscriptions that failed or were refused.
    pub subscription_errors: u64,
    /// Reconnects: connections made after the first one.
    pub reconnects: u64,
    /// Messages that the server's transport has acknowledged.
    pub messages_acknowledged: u64,
    /// Messages dropped: the send queue was full while disconnected.
    pub dropped_overflow: u64,
    /// Messages dropped: they were queued before the server said that it takes none so large
    /// ([`Client::largest_message`](super::Client::largest_message)).
    pub dropped_too_large: u32,
    /// Messages dropped: their time to live was over while they were in the send queue.
    pub expired: u64,
    /// Messages in flight when a connection was lost: they may have arrived or not, and are not sent again.
    pub dropped_in_doubt: u64,
    /// Messages that were still in the send queue or in flight when the client closed; the latter count as in doubt, too.
    pub lost_on_close: u64,
    /// Messages received that matched no subscription.
    pub unmatched: u64,
    /// Messages skipped: larger than the memory for received messages.
    pub oversize: u64,
    /// Malformed frames, and frames with an invalid text, subject or properties.
    pub malformed: u64,
    /// Datagrams dropped: malformed, or not of this session.
    pub foreign_datagrams: u64,
    /// RESETs: hints that the server does not know this session.
    pub reset_hints: u64,
}

impl Stats {
    /// Something was received that is no frame.
    pub(super) fn on_flaw(&mut self, flaw: Flaw) {
        match flaw {
            Flaw::Oversize { .. } => self.oversize += 1,
            Flaw::Frame(_) | Flaw::Stream(_) => self.malformed += 1,
        }
    }

    /// A message was received.
    pub(super) fn on_message(&mut self, frame: Frame<'_>) {
        self.messages_received += 1;
        self.bytes_received += (frame.subject.len() + frame.payload.len()) as u64;
    }

    /// Messages sent and received per second since the connection was made.
    pub fn rates(&self, now: Instant) -> (f64, f64) {
        let seconds = self.connected_at.map_or(0.0, |at| now.since(at).as_micros() as f64 / 1e6);
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        (self.messages_sent as f64 / seconds, self.messages_received as f64 / seconds)
    }
}

/// A running summary of measured times.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Latency {
    /// Number of samples.
    pub samples: u64,
    /// The last one.
    pub last: Duration,
    /// The minimum.
    pub min: Duration,
    /// The maximum.
    pub max: Duration,
    sum: u64,
}

impl Latency {
    /// The mean of all samples.
    pub fn mean(&self) -> Duration {
        Duration::from_micros(self.sum.checked_div(self.samples).unwrap_or(0))
    }

    pub(super) fn add(&mut self, sample: Duration) {
        self.min = if self.samples == 0 { sample } else { self.min.min(sample) };
        self.max = self.max.max(sample);
        self.last = sample;
        self.sum = self.sum.saturating_add(sample.as_micros());
        self.samples += 1;
    }
}
