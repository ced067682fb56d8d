//! What a client counts: everything that the original names (docs/original.md 8), and each of them really.

use crate::time::{Duration, Instant};

/// A client's counters, from its start.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stats {
    /// True while a server answers.
    pub connected: bool,
    /// When the present or the last connection was made.
    pub connected_at: Option<Instant>,
    /// When the last connection was lost.
    pub disconnected_at: Option<Instant>,
    /// Messages given to the transport.
    pub messages_sent: u64,
    /// Messages received, each counted once however many subscriptions match.
    pub messages_received: u64,
    /// Bytes of subjects and payloads given to the transport.
    pub bytes_sent: u64,
    /// Bytes of subjects and payloads received.
    pub bytes_received: u64,
    /// Round trips measured: of heartbeats, and of messages until their acknowledgement.
    pub latency: Latency,
    /// Subscriptions that the server has acknowledged.
    pub active_subscriptions: u32,
    /// Subscriptions asked for, in all.
    pub total_subscriptions: u64,
    /// Attempts to connect that failed, and connections that were lost.
    pub connection_errors: u64,
    /// Messages that `publish` refused.
    pub publish_errors: u64,
    /// Subscriptions that failed or were refused.
    pub subscription_errors: u64,
    /// Connections made after the first one.
    pub reconnects: u64,
    /// Messages that the server's engine has acknowledged.
    pub messages_acknowledged: u64,
    /// Messages dropped because the queue was full while there was no connection.
    pub dropped_overflow: u64,
    /// Messages dropped from the queue because their time to live was over.
    pub expired: u64,
    /// Messages that were under way when a connection was lost: they may have arrived or not, and are not sent again.
    pub dropped_in_doubt: u64,
    /// Messages received that no subscription matched any more.
    pub unmatched: u64,
    /// Frames larger than the inbox, passed over.
    pub oversize: u64,
    /// Frames that made no sense here: broken ones, and texts or subjects that are not valid.
    pub malformed: u64,
    /// Datagrams that belong to no session of this client, or are none.
    pub foreign_datagrams: u64,
    /// Hints that the server does not know this session.
    pub reset_hints: u64,
}

impl Stats {
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
pub struct Latency {
    /// Number of samples.
    pub samples: u64,
    /// The last one.
    pub last: Duration,
    /// The least.
    pub min: Duration,
    /// The greatest.
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
