//! What a client counts: everything that the original names (docs/original.md 8), and each of them really.

use crate::frame::{Flaw, Frame};
use crate::time::{Duration, Instant};

/// Statistics of a client, since its start; with moments and spans as the core has them, or as its driver shows them.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Stats<At = Instant, Span = Duration> {
    /// True while connected.
    pub connected: bool,
    /// When the current or the last connection was made.
    pub connected_at: Option<At>,
    /// When the last connection was lost.
    pub disconnected_at: Option<At>,
    /// Messages sent: put into the transport's stream.
    pub messages_sent: u64,
    /// Messages received, each counted once no matter how many subscriptions match.
    pub messages_received: u64,
    /// Bytes of subjects and payloads sent.
    pub bytes_sent: u64,
    /// Bytes of subjects and payloads received.
    pub bytes_received: u64,
    /// Measured latency: round trips of heartbeats, and of messages until they were acknowledged.
    pub latency: Latency<Span>,
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
    /// Messages that were not sent: while they were in the send queue a newer one of their subject came, which supersedes
    /// them.
    #[cfg(feature = "lanes")]
    pub superseded: u64,
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

    /// The same with the moments and spans of a driver.
    pub fn shown<At, Span>(&self, at: impl Fn(Instant) -> At, span: impl Fn(Duration) -> Span) -> Stats<At, Span> {
        let Latency { samples, last, min, max, sum } = self.latency;
        Stats {
            connected: self.connected,
            connected_at: self.connected_at.map(&at),
            disconnected_at: self.disconnected_at.map(&at),
            messages_sent: self.messages_sent,
            messages_received: self.messages_received,
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            latency: Latency { samples, last: span(last), min: span(min), max: span(max), sum },
            active_subscriptions: self.active_subscriptions,
            total_subscriptions: self.total_subscriptions,
            connection_errors: self.connection_errors,
            publish_errors: self.publish_errors,
            subscription_errors: self.subscription_errors,
            reconnects: self.reconnects,
            messages_acknowledged: self.messages_acknowledged,
            dropped_overflow: self.dropped_overflow,
            dropped_too_large: self.dropped_too_large,
            expired: self.expired,
            #[cfg(feature = "lanes")]
            superseded: self.superseded,
            dropped_in_doubt: self.dropped_in_doubt,
            lost_on_close: self.lost_on_close,
            unmatched: self.unmatched,
            oversize: self.oversize,
            malformed: self.malformed,
            foreign_datagrams: self.foreign_datagrams,
            reset_hints: self.reset_hints,
        }
    }
}

impl<At: Ord + Copy, Span: Ord + Copy> Stats<At, Span> {
    /// Adds those of another client: counters are sums, moments the latest of both, and connected is who has two connections.
    pub fn add(&mut self, other: &Self) {
        let Self {
            connected,
            connected_at,
            disconnected_at,
            messages_sent,
            messages_received,
            bytes_sent,
            bytes_received,
            latency,
            active_subscriptions,
            total_subscriptions,
            connection_errors,
            publish_errors,
            subscription_errors,
            reconnects,
            messages_acknowledged,
            dropped_overflow,
            dropped_too_large,
            expired,
            #[cfg(feature = "lanes")]
            superseded,
            dropped_in_doubt,
            lost_on_close,
            unmatched,
            oversize,
            malformed,
            foreign_datagrams,
            reset_hints,
        } = other;
        self.connected &= connected;
        self.connected_at = self.connected_at.max(*connected_at);
        self.disconnected_at = self.disconnected_at.max(*disconnected_at);
        self.messages_sent += messages_sent;
        self.messages_received += messages_received;
        self.bytes_sent += bytes_sent;
        self.bytes_received += bytes_received;
        self.latency.merge(latency);
        self.active_subscriptions += active_subscriptions;
        self.total_subscriptions += total_subscriptions;
        self.connection_errors += connection_errors;
        self.publish_errors += publish_errors;
        self.subscription_errors += subscription_errors;
        self.reconnects += reconnects;
        self.messages_acknowledged += messages_acknowledged;
        self.dropped_overflow += dropped_overflow;
        self.dropped_too_large += dropped_too_large;
        self.expired += expired;
        #[cfg(feature = "lanes")]
        {
            self.superseded += superseded;
        }
        self.dropped_in_doubt += dropped_in_doubt;
        self.lost_on_close += lost_on_close;
        self.unmatched += unmatched;
        self.oversize += oversize;
        self.malformed += malformed;
        self.foreign_datagrams += foreign_datagrams;
        self.reset_hints += reset_hints;
    }
}

/// A running summary of measured times.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Latency<Span = Duration> {
    /// Number of samples.
    pub samples: u64,
    /// The last one.
    pub last: Span,
    /// The minimum.
    pub min: Span,
    /// The maximum.
    pub max: Span,
    /// Microseconds.
    sum: u64,
}

impl<Span: From<Duration>> Latency<Span> {
    /// The mean of all samples.
    pub fn mean(&self) -> Span {
        Duration::from_micros(self.sum.checked_div(self.samples).unwrap_or(0)).into()
    }
}

impl<Span: Ord + Copy> Latency<Span> {
    /// Takes in the samples of another one, whose last one counts as later.
    fn merge(&mut self, other: &Self) {
        if self.samples == 0 {
            *self = *other;
        } else if other.samples > 0 {
            self.min = self.min.min(other.min);
            self.max = self.max.max(other.max);
            self.last = other.last;
            self.sum = self.sum.saturating_add(other.sum);
            self.samples += other.samples;
        }
    }
}

impl Latency {
    pub(super) fn add(&mut self, sample: Duration) {
        if self.samples == 0 || sample < self.min {
            self.min = sample;
        }
        self.max = self.max.max(sample);
        self.last = sample;
        self.sum = self.sum.saturating_add(sample.as_micros());
        self.samples += 1;
    }
}

#[cfg(all(test, feature = "lanes"))]
mod tests {
    use alloc::format;

    use super::*;

    /// Counters that are multiples of their places.
    fn counted(times: u64) -> Stats {
        Stats {
            connected: true,
            connected_at: Some(Instant::from_millis(1)),
            disconnected_at: Some(Instant::from_millis(2)),
            messages_sent: times,
            messages_received: 2 * times,
            bytes_sent: 3 * times,
            bytes_received: 4 * times,
            latency: Latency::default(),
            active_subscriptions: 5 * times as u32,
            total_subscriptions: 6 * times,
            connection_errors: 7 * times,
            publish_errors: 8 * times,
            subscription_errors: 9 * times,
            reconnects: 10 * times,
            messages_acknowledged: 11 * times,
            dropped_overflow: 12 * times,
            dropped_too_large: 13 * times as u32,
            expired: 14 * times,
            superseded: 15 * times,
            dropped_in_doubt: 16 * times,
            lost_on_close: 17 * times,
            unmatched: 18 * times,
            oversize: 19 * times,
            malformed: 20 * times,
            foreign_datagrams: 21 * times,
            reset_hints: 22 * times,
        }
    }

    #[test]
    fn what_two_clients_count_adds_up() {
        let mut sum = counted(2);
        sum.add(&counted(3));
        assert_eq!(format!("{sum:?}"), format!("{:?}", counted(5)));
        let other = Stats { connected_at: Some(Instant::from_millis(3)), ..Stats::default() };
        sum.add(&other);
        let expected = Stats { connected: false, connected_at: other.connected_at, ..counted(5) };
        assert_eq!(format!("{sum:?}"), format!("{expected:?}"), "one of them has no connection");
    }

    #[test]
    fn rates_are_those_since_the_connection_was_made() {
        let stats = Stats { messages_sent: 30, messages_received: 15, ..Stats::default() };
        assert_eq!(stats.rates(Instant::from_millis(9)), (0.0, 0.0), "there was none");
        let stats = Stats { connected_at: Some(Instant::from_millis(500)), ..stats };
        assert_eq!(stats.rates(Instant::from_millis(500)), (0.0, 0.0));
        assert_eq!(stats.rates(Instant::from_millis(3_500)), (10.0, 5.0));
    }

    #[test]
    fn measured_times_of_two_clients_are_summed_up() {
        let [mut one, mut other, mut all] = [Latency::default(); 3];
        for millis in [3, 1, 2] {
            one.add(Duration::from_millis(millis));
            all.add(Duration::from_millis(millis));
        }
        let before = format!("{one:?}");
        one.merge(&other);
        assert_eq!(format!("{one:?}"), before, "nothing was measured");
        for millis in [9, 4] {
            other.add(Duration::from_millis(millis));
            all.add(Duration::from_millis(millis));
        }
        one.merge(&other);
        assert_eq!(format!("{one:?}"), format!("{all:?}"));
        assert_eq!(one.mean(), Duration::from_micros(19_000 / 5));
        let mut first = Latency::default();
        first.merge(&other);
        assert_eq!(format!("{first:?}"), format!("{other:?}"));
    }
}
