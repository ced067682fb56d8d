//! The counters and gauges of a broker.

use crate::histogram::{Histogram, Micros, Things};

/// Statistics of one broker. *Gauge*: the value now. All others are counters since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Gauge: open sessions.
    pub sessions: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions refused because of a limit.
    pub sessions_refused: u64,
    /// Sessions ended because their client is not let in.
    pub sessions_denied: u64,
    /// Sessions ended by [`Broker::kick`](super::Broker::kick).
    pub sessions_kicked: u64,
    /// Gauge: open sessions of native clients, which said HELLO.
    pub native_sessions: u64,
    /// Sessions that went on at another address of their client.
    pub sessions_moved: u64,
    /// Datagrams handed to the broker (shard) of the same server that they are for; and those among them that were dropped
    /// because too many waited.
    pub forwarded: u64,
    /// See [`forwarded`](Self::forwarded).
    pub dropped_forward: u64,
    /// Gauge: subscriptions. A pattern counts once per session.
    pub subscriptions: u64,
    /// Subscriptions refused: invalid pattern, too many, or not permitted.
    pub subscriptions_refused: u64,
    /// Subscriptions ended because they are not permitted any more.
    pub subscriptions_ended: u64,
    /// Messages received from publishers.
    pub messages_in: u64,
    /// Bytes of these messages' frames.
    pub bytes_in: u64,
    /// Messages queued for subscribers, once for each.
    pub messages_out: u64,
    /// Bytes of these messages' frames.
    pub bytes_out: u64,
    /// Messages without any subscriber.
    pub unrouted: u64,
    /// Messages of sessions that did not go to the [gateway](super::gateway), where there is one: nobody behind it wants them, as
    /// a leaf node knows, or they are not exported.
    pub no_interest: u64,
    /// Messages whose publishers were told what became of them.
    pub confirmed: u64,
    /// Messages refused with ERR: invalid subject.
    pub messages_refused: u64,
    /// Messages dropped: their publisher may not publish to that subject.
    pub messages_denied: u64,
    /// Messages dropped: their publisher has sent more bytes in a second than it may.
    pub dropped_excess: u64,
    /// Messages not delivered to a subscriber that may not have them although its pattern matches, once for each.
    pub messages_withheld: u64,
    /// Times that a publisher was throttled because a subscriber was behind ([`Config::high_water`](super::Config)).
    pub throttled: u64,
    /// Times that a session's messages waited after a restart for those who had sessions before it
    /// ([`Config::restart_wait`](super::Config)).
    pub restart_waits: u64,
    /// Messages dropped: the subscriber's queue was full.
    pub dropped_slow: u64,
    /// Messages dropped: their time to live was over before they could be sent.
    pub expired: u64,
    /// Messages of queue groups that were given to another member, because the one that they waited for left.
    pub requeued: u64,
    /// Messages replaced in a queue by a newer one of their subject, for latest-only subscriptions.
    pub superseded: u64,
    /// Gauge: last values of subjects that are kept. All brokers of a server have the same.
    pub kept: u64,
    /// Gauge: bytes that these take.
    pub kept_bytes: u64,
    /// Messages that were to be kept and are not, because of a limit.
    pub kept_refused: u64,
    /// Last values that are not kept any more because their time to live was over. Each broker of a server counts all.
    pub kept_lapsed: u64,
    /// Last values queued for those who subscribed later, once for each.
    pub kept_delivered: u64,
    /// What was said of sessions, in messages of the server's own; and what was not because it was too much.
    pub presence: u64,
    /// See [`presence`](Self::presence).
    pub presence_missed: u64,
    /// Gauge: last wills that clients have left.
    pub wills: u64,
    /// Gauge: bytes of these.
    pub wills_bytes: u64,
    /// Last wills that were published because their sessions ended without a CLOSE of the client.
    pub wills_published: u64,
    /// Last wills that were not taken, or not published: not permitted, too large, or there were too many.
    pub wills_refused: u64,
    /// Messages dropped: larger than the subscriber accepts.
    pub dropped_too_large: u64,
    /// Messages dropped: all queues together were full.
    pub dropped_memory: u64,
    /// Messages dropped that had been queued: their session took nothing, and gave way when all queues together had too
    /// much.
    pub dropped_stuck: u64,
    /// Messages dropped: the session ended while they were in its queue, or in flight to it.
    pub dropped_closed: u64,
    /// Messages relayed to other brokers (shards) of the same server.
    pub relayed: u64,
    /// Messages dropped: too many were on their way to another broker of the same server.
    pub dropped_relay: u64,
    /// Sessions that have begun to miss messages; one that has caught up since and does so again counts again.
    pub slow_consumers: u64,
    /// Of these, sessions closed for that, if the configuration says so ([`SlowConsumer`](super::SlowConsumer)).
    pub slow_sessions: u64,
    /// Sessions closed by [`Config::idle_timeout`](super::Config): nothing was received from them.
    pub idle_sessions: u64,
    /// Sessions closed by [`Config::stall_timeout`](super::Config): they were heard and did not acknowledge.
    pub stalled_sessions: u64,
    /// Sessions dropped because nothing showed that their address was not forged.
    pub half_open_sessions: u64,
    /// Sessions closed because of a malformed frame.
    pub broken_sessions: u64,
    /// Frames with an unknown command; answered with ERR.
    pub unknown_commands: u64,
    /// Malformed datagrams: too short for a segment, or with segments that make no sense.
    pub malformed_datagrams: u64,
    /// Datagrams that could not be decrypted: another key, no encryption, or damaged.
    pub unopened_datagrams: u64,
    /// Sealed sessions opened.
    pub sealed_sessions_opened: u64,
    /// Handshakes of strangers: they do not know the server's key or secret, or are not what they say. They get silence.
    pub strangers: u64,
    /// Clients that had to show that they are where they say they are before their handshake went on, since there was load.
    pub retries: u64,
    /// Handshakes that came to nothing because there were too many.
    pub handshakes_dropped: u64,
    /// Stray datagrams: they belong to no session and do not open one.
    pub stray_datagrams: u64,
    /// Datagrams of peers that are not known for which there was no room where they wait.
    pub dropped_newcomers: u64,
    /// Replies to datagrams without a session (RESET and refusals).
    pub stateless_replies: u64,
    /// Gauge: bytes of messages in all queues.
    pub queued: u64,
    /// Gauge: bytes of memory that what has come takes as long as it waits: parts of frames, segments that wait for earlier
    /// ones or to be read, and what is kept to rebuild others with.
    pub received: u64,
    /// Times that a session had to wait, with its window closed, because that memory was short
    /// ([`Config::max_received_total`](super::Config)).
    pub receive_waits: u64,
    /// Times that a session had to wait for others because enough was done for it: it asks for more than its share of
    /// the thread's time.
    pub turn_waits: u64,
    /// Sessions closed because they kept others waiting for that memory and did not get on themselves.
    pub stuck_sessions: u64,
    /// Events lost because they were not polled in time.
    pub events_lost: u64,
    /// How long messages waited, from when they were routed until they went into the stream of a session of this
    /// broker, once for each session, in microseconds.
    pub queueing: Histogram<Micros>,
    /// How many sessions of this broker a message was for: those that nobody wanted, and those of other brokers that
    /// somebody here wanted, included.
    pub fan_out: Histogram<Things>,
}

impl Stats {
    /// Adds the counters of another broker of the same server.
    pub fn add(&mut self, other: &Self) {
        // By name, so that none is left out.
        let Self {
            sessions,
            sessions_opened,
            sessions_refused,
            sessions_denied,
            sessions_kicked,
            native_sessions,
            sessions_moved,
            forwarded,
            dropped_forward,
            subscriptions,
            subscriptions_refused,
            subscriptions_ended,
            messages_in,
            bytes_in,
            messages_out,
            bytes_out,
            unrouted,
            no_interest,
            confirmed,
            messages_refused,
            messages_denied,
            dropped_excess,
            messages_withheld,
            throttled,
            restart_waits,
            dropped_slow,
            expired,
            requeued,
            superseded,
            kept,
            kept_bytes,
            kept_refused,
            kept_lapsed,
            kept_delivered,
            presence,
            presence_missed,
            wills,
            wills_bytes,
            wills_published,
            wills_refused,
            dropped_too_large,
            dropped_memory,
            dropped_stuck,
            dropped_closed,
            relayed,
            dropped_relay,
            slow_consumers,
            slow_sessions,
            idle_sessions,
            stalled_sessions,
            half_open_sessions,
            broken_sessions,
            unknown_commands,
            malformed_datagrams,
            unopened_datagrams,
            sealed_sessions_opened,
            strangers,
            retries,
            handshakes_dropped,
            stray_datagrams,
            dropped_newcomers,
            stateless_replies,
            queued,
            received,
            receive_waits,
            turn_waits,
            stuck_sessions,
            events_lost,
            queueing,
            fan_out,
        } = other;
        self.sessions += sessions;
        self.sessions_opened += sessions_opened;
        self.sessions_refused += sessions_refused;
        self.sessions_denied += sessions_denied;
        self.sessions_kicked += sessions_kicked;
        self.native_sessions += native_sessions;
        self.sessions_moved += sessions_moved;
        self.forwarded += forwarded;
        self.dropped_forward += dropped_forward;
        self.subscriptions += subscriptions;
        self.subscriptions_refused += subscriptions_refused;
        self.subscriptions_ended += subscriptions_ended;
        self.messages_in += messages_in;
        self.bytes_in += bytes_in;
        self.messages_out += messages_out;
        self.bytes_out += bytes_out;
        self.unrouted += unrouted;
        self.no_interest += no_interest;
        self.confirmed += confirmed;
        self.messages_refused += messages_refused;
        self.messages_denied += messages_denied;
        self.dropped_excess += dropped_excess;
        self.messages_withheld += messages_withheld;
        self.throttled += throttled;
        self.restart_waits += restart_waits;
        self.dropped_slow += dropped_slow;
        self.expired += expired;
        self.requeued += requeued;
        self.superseded += superseded;
        // What all have is there once.
        self.kept = self.kept.max(*kept);
        self.kept_bytes = self.kept_bytes.max(*kept_bytes);
        self.kept_refused += kept_refused;
        self.kept_lapsed = self.kept_lapsed.max(*kept_lapsed);
        self.kept_delivered += kept_delivered;
        self.presence += presence;
        self.presence_missed += presence_missed;
        self.wills += wills;
        self.wills_bytes += wills_bytes;
        self.wills_published += wills_published;
        self.wills_refused += wills_refused;
        self.dropped_too_large += dropped_too_large;
        self.dropped_memory += dropped_memory;
        self.dropped_stuck += dropped_stuck;
        self.dropped_closed += dropped_closed;
        self.relayed += relayed;
        self.dropped_relay += dropped_relay;
        self.slow_consumers += slow_consumers;
        self.slow_sessions += slow_sessions;
        self.idle_sessions += idle_sessions;
        self.stalled_sessions += stalled_sessions;
        self.half_open_sessions += half_open_sessions;
        self.broken_sessions += broken_sessions;
        self.unknown_commands += unknown_commands;
        self.malformed_datagrams += malformed_datagrams;
        self.unopened_datagrams += unopened_datagrams;
        self.sealed_sessions_opened += sealed_sessions_opened;
        self.strangers += strangers;
        self.retries += retries;
        self.handshakes_dropped += handshakes_dropped;
        self.stray_datagrams += stray_datagrams;
        self.dropped_newcomers += dropped_newcomers;
        self.stateless_replies += stateless_replies;
        self.queued += queued;
        self.received += received;
        self.receive_waits += receive_waits;
        self.turn_waits += turn_waits;
        self.stuck_sessions += stuck_sessions;
        self.events_lost += events_lost;
        self.queueing.add(queueing);
        self.fan_out.add(fan_out);
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    macro_rules! multiples {
        ($times:expr, $($field:ident)*) => {{
            let (mut stats, mut place) = (Stats::default(), 0);
            $(
                place += 1;
                stats.$field = place * $times;
            )*
            stats
        }};
    }

    /// Counters that are multiples of their places, but for the histograms.
    fn counted(times: u64) -> Stats {
        multiples!(times,
            sessions sessions_opened sessions_refused sessions_denied sessions_kicked native_sessions sessions_moved forwarded
            dropped_forward subscriptions subscriptions_refused subscriptions_ended messages_in bytes_in messages_out bytes_out
            unrouted no_interest confirmed messages_refused messages_denied dropped_excess messages_withheld throttled
            restart_waits dropped_slow expired requeued superseded kept kept_bytes kept_refused kept_lapsed kept_delivered
            presence presence_missed wills wills_bytes wills_published wills_refused dropped_too_large dropped_memory
            dropped_stuck dropped_closed relayed dropped_relay slow_consumers slow_sessions idle_sessions stalled_sessions
            half_open_sessions broken_sessions unknown_commands malformed_datagrams unopened_datagrams sealed_sessions_opened
            strangers retries handshakes_dropped stray_datagrams dropped_newcomers stateless_replies queued received
            receive_waits turn_waits stuck_sessions events_lost
        )
    }

    #[test]
    fn what_two_brokers_count_adds_up() {
        let named = format!("{:?}", counted(1));
        let counters = named.split(" queueing:").next().unwrap_or_default();
        assert!(!counters.contains(": 0,"), "one is left out: {counters}");
        let mut sum = counted(2);
        sum.add(&counted(3));
        let three = counted(3);
        let once =
            Stats { kept: three.kept, kept_bytes: three.kept_bytes, kept_lapsed: three.kept_lapsed, ..counted(5) };
        assert_eq!(sum, once, "what all have is there once");
    }
}
