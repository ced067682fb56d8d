//! What a broker counts.

/// Counters of one broker, from its start, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions that exist now.
    pub sessions: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions not opened because of a limit.
    pub sessions_refused: u64,
    /// Of the sessions that exist now, those that greeted with HELLO.
    pub native_sessions: u64,
    /// Patterns registered now, counted once for each session.
    pub subscriptions: u64,
    /// Subscriptions refused: invalid, or too many.
    pub subscriptions_refused: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Bytes of their frames.
    pub bytes_in: u64,
    /// Messages queued for subscribers.
    pub messages_out: u64,
    /// Bytes of their frames.
    pub bytes_out: u64,
    /// Messages that nobody had subscribed to.
    pub unrouted: u64,
    /// Messages with a subject that is not valid; answered with ERR.
    pub messages_refused: u64,
    /// Times that a publisher was not read further because a subscriber was behind.
    pub stalls: u64,
    /// Messages dropped because a subscriber's queue was full.
    pub dropped_slow: u64,
    /// Messages dropped because their time to live was over before they could be sent.
    pub expired: u64,
    /// Messages that gave way to a newer one of their subject, for subscriptions to the latest only.
    pub superseded: u64,
    /// Messages dropped because they are larger than the subscriber takes.
    pub dropped_too_large: u64,
    /// Messages dropped because all queues together were full.
    pub dropped_memory: u64,
    /// Messages that waited for a session, or were under way to it, when it ended.
    pub dropped_closed: u64,
    /// Messages handed to other brokers of the same server.
    pub relayed: u64,
    /// Messages dropped because too many were on their way to another broker of the same server.
    pub dropped_relay: u64,
    /// Sessions closed because they did not keep up.
    pub slow_consumers: u64,
    /// Sessions closed because nothing was heard.
    pub idle_sessions: u64,
    /// Sessions closed because of a frame that made no sense.
    pub broken_sessions: u64,
    /// Frames with a command that does not exist; answered with ERR.
    pub unknown_commands: u64,
    /// Datagrams too short for a segment, or with segments that were not understood.
    pub malformed_datagrams: u64,
    /// Datagrams that the cipher did not open: another key, none, or damaged.
    pub unopened_datagrams: u64,
    /// Datagrams that belong to no session and do not open one.
    pub stray_datagrams: u64,
    /// Answers to such datagrams.
    pub stateless_replies: u64,
    /// Bytes of messages that wait now.
    pub queued: u64,
    /// Events that nobody fetched in time.
    pub events_lost: u64,
}

impl Stats {
    /// Adds the counters of another broker of the same server.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.sessions_opened += other.sessions_opened;
        self.sessions_refused += other.sessions_refused;
        self.native_sessions += other.native_sessions;
        self.subscriptions += other.subscriptions;
        self.subscriptions_refused += other.subscriptions_refused;
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.messages_out += other.messages_out;
        self.bytes_out += other.bytes_out;
        self.unrouted += other.unrouted;
        self.messages_refused += other.messages_refused;
        self.stalls += other.stalls;
        self.dropped_slow += other.dropped_slow;
        self.expired += other.expired;
        self.superseded += other.superseded;
        self.dropped_too_large += other.dropped_too_large;
        self.dropped_memory += other.dropped_memory;
        self.dropped_closed += other.dropped_closed;
        self.relayed += other.relayed;
        self.dropped_relay += other.dropped_relay;
        self.slow_consumers += other.slow_consumers;
        self.idle_sessions += other.idle_sessions;
        self.broken_sessions += other.broken_sessions;
        self.unknown_commands += other.unknown_commands;
        self.malformed_datagrams += other.malformed_datagrams;
        self.unopened_datagrams += other.unopened_datagrams;
        self.stray_datagrams += other.stray_datagrams;
        self.stateless_replies += other.stateless_replies;
        self.queued += other.queued;
        self.events_lost += other.events_lost;
    }
}
