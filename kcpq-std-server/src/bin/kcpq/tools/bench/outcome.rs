//! What came out of a measurement.

use kcpq_smol::Client;

use super::process::Usage;
use super::subscriber::Latency;
use crate::Failure;

/// What came out of a measurement.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) subs: u16,
    pub(super) published: u64,
    /// Of all subscribers together, each message once; where nobody subscribes, those that the server has acknowledged.
    pub(super) delivered: u64,
    /// What should have been delivered, or acknowledged, and was not.
    pub(super) lost: u64,
    /// Of these where nobody subscribes: those that were on their way when a connection was lost, and those that never left.
    pub(super) in_doubt: u64,
    pub(super) unsent: u64,
    /// Messages that came more than once.
    pub(super) repeated: u64,
    /// Runs of `bench pub` that messages came from.
    pub(super) runs: u64,
    /// What each subscriber was to receive, if that was said, and what the slowest of them has received.
    pub(super) wanted: Option<u64>,
    pub(super) slowest: u64,
    /// What the one has received that received most.
    pub(super) most: u64,
    /// Messages that this process dropped because a subscriber did not take them.
    pub(super) dropped: u64,
    /// From the first publish to the last delivery.
    pub(super) seconds: f64,
    pub(super) latency: Option<Latency>,
    pub(super) transport: Transport,
    /// Datagrams that the machine's sockets had no room for.
    pub(super) overrun: Option<u64>,
    /// This process and the server's: CPU time of the measurement, memory at its end.
    pub(super) own: Option<Usage>,
    pub(super) server: Option<Usage>,
}

/// What became of messages at the clients that published them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) acknowledged: u64,
    pub(super) in_doubt: u64,
    /// Dropped from a queue.
    pub(super) unsent: u64,
}

impl Fate {
    /// The sum of all clients' counters.
    pub(super) fn of(clients: &[Client]) -> Self {
        clients.iter().map(|client| client.stats().client).fold(Self::default(), |sum, stats| Self {
            acknowledged: sum.acknowledged + stats.messages_acknowledged,
            in_doubt: sum.in_doubt + stats.dropped_in_doubt,
            unsent: sum.unsent + stats.dropped_overflow + u64::from(stats.dropped_too_large) + stats.expired,
        })
    }
}

/// What the transports of this process's connections have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Transport {
    pub(super) segments_sent: u64,
    pub(super) retransmitted: u64,
    pub(super) datagrams_sent: u64,
    pub(super) datagrams_received: u64,
    /// Segments that came more than once: the other side sent them again without need.
    pub(super) duplicates: u64,
}

impl Transport {
    /// The sum of all clients' counters.
    pub(super) fn of(clients: &[Client]) -> Self {
        clients.iter().map(|client| client.stats().transport).fold(Self::default(), |sum, stats| Self {
            segments_sent: sum.segments_sent + stats.segments_sent,
            retransmitted: sum.retransmitted + stats.retransmitted,
            datagrams_sent: sum.datagrams_sent + stats.datagrams_sent,
            datagrams_received: sum.datagrams_received + stats.datagrams_received,
            duplicates: sum.duplicates + stats.duplicates,
        })
    }

    /// What was added after `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            segments_sent: self.segments_sent.saturating_sub(before.segments_sent),
            retransmitted: self.retransmitted.saturating_sub(before.retransmitted),
            datagrams_sent: self.datagrams_sent.saturating_sub(before.datagrams_sent),
            datagrams_received: self.datagrams_received.saturating_sub(before.datagrams_received),
            duplicates: self.duplicates.saturating_sub(before.duplicates),
        }
    }
}

impl Outcome {
    /// Deliveries per second; acknowledged messages, where nobody subscribes.
    pub(super) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.delivered as f64 / self.seconds } else { 0.0 }
    }

    /// A run that lost something is a failure, and so is one that came to no end.
    pub(super) fn verdict(&self, allow_loss: bool) -> Result<(), Failure> {
        if let Some(wanted) = self.wanted.filter(|wanted| self.slowest < *wanted) {
            return Err(Failure::Timeout(format!("timed out: {} of {wanted} messages received", self.slowest)));
        }
        if self.repeated > 0 && !allow_loss {
            return Err(Failure::Error(format!("{} messages came more than once", self.repeated)));
        }
        if self.lost == 0 || allow_loss {
            return Ok(());
        }
        let all = self.delivered.saturating_add(self.lost);
        if self.subs == 0 {
            return Err(Failure::Error(format!("{} of {all} messages were not acknowledged by the server", self.lost)));
        }
        Err(Failure::Error(format!(
            "{} of {all} messages were lost: the figures above are not worth quoting",
            self.lost
        )))
    }
}
