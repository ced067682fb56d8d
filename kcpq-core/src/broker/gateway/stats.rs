//! What a gateway counts.

/// Counters and gauges of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Gauge: 1 if the backbone is there and has all subscriptions.
    pub joined: u64,
    /// Times that it was there anew.
    pub connects: u64,
    /// Times that it was lost.
    pub disconnects: u64,
    /// Gauge: subscriptions at the backbone, those in queue groups included.
    pub subscriptions: u64,
    /// Patterns that cannot be subscribed to there: too long for it, or a leaf node may not want them.
    pub patterns_refused: u64,
    /// Gauge: patterns that are wanted there, as a leaf node knows, those of queue groups included.
    pub wants: u64,
    /// Of these such as there was no room for: everything that is exported was handed over from then on.
    pub wants_refused: u64,
    /// Messages handed to the backbone.
    pub messages_out: u64,
    /// Bytes of these: subject and message.
    pub bytes_out: u64,
    /// Messages that came to the gateway of a leaf node and nobody there wanted: most of these the brokers do not hand it, see
    /// [`Stats::no_interest`](crate::broker::Stats::no_interest).
    pub no_interest: u64,
    /// Messages from the backbone that were handed on to brokers, each once.
    pub messages_in: u64,
    /// Bytes of these.
    pub bytes_in: u64,
    /// Messages from the backbone that nobody wants any more.
    pub unwanted: u64,
    /// Messages of this gateway's own that came back from a server of the backbone that had hung.
    pub returned: u64,
    /// Messages not handed to the backbone: it was not there, and too many waited.
    pub dropped_away: u64,
    /// The same: queue groups here had got them while it was not there, or who asked was told that nobody is.
    pub dropped_settled: u64,
    /// Larger than the backbone takes; or than a frame may be, of those that came from there.
    pub dropped_too_large: u64,
    /// Their subject is none on the other side.
    pub dropped_unmapped: u64,
    /// The backbone does not permit a leaf node to publish them.
    pub dropped_denied: u64,
    /// Their time to live was over before they could be handed on.
    pub expired: u64,
    /// Messages handed to the backbone of which it is not known whether it had them when it was lost.
    pub in_doubt: u64,
    /// Headers, and subjects for answers, that are none on the other side: the messages went without.
    pub stripped: u64,
    /// Requests whose publishers were told that nobody is there to answer.
    pub nobody: u64,
    /// Gauge: subscriptions of sessions to what is stored.
    pub replays: u64,
    /// Times that one began.
    pub replays_opened: u64,
    /// Times that one went on after the store or the backbone had been lost.
    pub replays_resumed: u64,
    /// Times that one did not begin, or could not go on yet.
    pub replays_refused: u64,
    /// Messages from the store that were handed on to sessions.
    pub replayed: u64,
    /// Of these, messages that had been handed out under the same durable name before.
    pub redelivered: u64,
    /// Messages of durable subscriptions that are done with,
    pub replays_acknowledged: u64,
    /// that are to come again,
    pub replays_returned: u64,
    /// and that are never to.
    pub replays_terminated: u64,
    /// Gauge: messages that are stored for these subscriptions and have not come yet, as far as the store has said.
    pub replay_backlog: u64,
    /// Gauge: 1 if the bucket of last values is there, and is read.
    pub values_read: u64,
    /// Gauge: changes of last values by sessions here that the bucket may not have.
    pub values_waiting: u64,
    /// Changes that were put there.
    pub values_out: u64,
    /// Values that have come from there, or that there are none any more.
    pub values_in: u64,
    /// Times that one was put there again, since there was no word of it.
    pub values_repeats: u64,
    /// Changes not put there: while it was away somebody else has changed the value, later.
    pub values_overtaken: u64,
    /// The same: too many waited.
    pub values_full: u64,
    /// The same: it does not take them, or they are larger than the backbone takes.
    pub values_refused: u64,
    /// Values whose subject is none on the other side.
    pub values_unmapped: u64,
    /// Gauge: messages that wait for the backbone.
    pub waiting: u64,
    /// Gauge: bytes of these.
    pub waiting_bytes: u64,
    /// Messages that were stored, as the backbone has said.
    pub stored: u64,
    /// Of these those that had been stored before, under the same id.
    pub store_duplicates: u64,
    /// Messages that were to be stored and are not: nobody stores their subject, or nobody did in the end.
    pub store_no_stream: u64,
    /// The same: the store has refused them.
    pub store_refused: u64,
    /// It is not known whether they are stored: nothing was said of it until their time was over.
    pub store_in_doubt: u64,
    /// They were not kept until they are stored, since too many were.
    pub store_full: u64,
    /// Times that one was handed over again.
    pub store_repeats: u64,
    /// Gauge: messages that are kept until they are stored.
    pub storing: u64,
    /// Gauge: bytes of these.
    pub storing_bytes: u64,
}
