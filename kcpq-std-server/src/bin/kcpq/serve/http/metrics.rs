//! `/metrics`: the server, for Prometheus.

use std::time::UNIX_EPOCH;

use kcpq_std_server::BackboneView;
use kcpq_std_server::broker::ClientKind;

use super::look::{About, Look};
use crate::openmetrics::{self, Family, Unit, counter, counters, gauge, gauges, histogram};

/// A kind of clients, as a label.
pub(super) fn kind(kind: ClientKind) -> &'static str {
    kind.as_str()
}

/// All metrics at the moment of a look.
pub(super) fn text(about: &About, look: &Look) -> String {
    openmetrics::write(families(about, look))
}

fn families(about: &About, look: &Look) -> Vec<Family> {
    let mut all = sessions(about, look);
    all.extend(messages(look));
    all.extend(network(look));
    all.extend(look.backbone.iter().flat_map(backbone));
    all.extend(look.backbone.iter().map(|view| {
        let stayed = look.broker().no_interest + view.stats.no_interest;
        counter("backbone_no_interest", "Messages that stayed here: nobody behind them wanted these", stayed)
    }));
    all
}

/// NATS, of whoever stands on it.
pub(crate) fn backbone(view: &BackboneView) -> Vec<Family> {
    let stats = &view.stats;
    vec![
        gauge("backbone_connected", "1 if the NATS servers of the backbone are there", stats.joined as f64),
        counter("backbone_connects", "Times that they were there anew", stats.connects),
        counter("backbone_disconnects", "Times that they were lost", stats.disconnects),
        counter("backbone_complaints", "Times that they have refused something", view.complaints),
        gauge("backbone_subscriptions", "Patterns passed on to them", stats.subscriptions as f64),
        counter(
            "backbone_subscriptions_refused",
            "Patterns too long for them, or not permitted",
            stats.patterns_refused,
        ),
        gauge("backbone_wants", "Patterns that a leaf node knows to be wanted there", stats.wants as f64),
        counter("backbone_wants_refused", "Of these, such as there was no room for", stats.wants_refused),
        counter("backbone_messages_sent", "Messages handed to them", stats.messages_out),
        counter("backbone_messages_sent", "Bytes of these, subject and message", stats.bytes_out).of(Unit::Bytes),
        counter("backbone_messages_received", "Messages that came from them", stats.messages_in),
        counter("backbone_messages_received", "Bytes of these, subject and message", stats.bytes_in).of(Unit::Bytes),
        counters(
            "backbone_messages_dropped",
            "Messages that did not cross, to them or from them",
            "reason",
            [
                ("away", stats.dropped_away),
                ("settled", stats.dropped_settled),
                ("in_doubt", stats.in_doubt),
                ("too_large", stats.dropped_too_large),
                ("unmapped", stats.dropped_unmapped),
                ("denied", stats.dropped_denied),
                ("expired", stats.expired),
                ("unwanted", stats.unwanted),
                ("returned", stats.returned),
            ],
        ),
        gauge("backbone_waiting", "Messages that wait for them", stats.waiting as f64),
        gauge("backbone_waiting_size", "Size of these", stats.waiting_bytes as f64).of(Unit::Bytes),
        counter("backbone_headers_stripped", "Headers and subjects for answers that did not cross", stats.stripped),
        counter("backbone_no_responders", "Requests that nobody at any server was there for", stats.nobody),
        counter("backbone_stored", "Messages that were stored, as JetStream has said", stats.stored),
        counter("backbone_stored_duplicates", "Of these those that it had already", stats.store_duplicates),
        counter("backbone_store_repeats", "Times that it was handed a message again", stats.store_repeats),
        counters(
            "backbone_not_stored",
            "Messages that were to be stored and are not, or it is not known that they are",
            "reason",
            [
                ("no_stream", stats.store_no_stream),
                ("refused", stats.store_refused),
                ("in_doubt", stats.store_in_doubt),
                ("full", stats.store_full),
            ],
        ),
        gauge("backbone_storing", "Messages that are kept until they are stored", stats.storing as f64),
        gauge("backbone_storing_size", "Size of these", stats.storing_bytes as f64).of(Unit::Bytes),
        gauge("backbone_values_read", "1 if the bucket of last values is there, and read", stats.values_read as f64),
        gauge("backbone_values_waiting", "Changes that it may not have", stats.values_waiting as f64),
        counter("backbone_values_sent", "Changes of last values that were put there", stats.values_out),
        counter("backbone_values_received", "Changes of last values that came from there", stats.values_in),
        counter("backbone_values_repeats", "Times that one was put there again", stats.values_repeats),
        counters(
            "backbone_values_dropped",
            "Changes of last values that were not put there, or did not come from there",
            "reason",
            [
                ("overtaken", stats.values_overtaken),
                ("full", stats.values_full),
                ("refused", stats.values_refused),
                ("unmapped", stats.values_unmapped),
            ],
        ),
        gauge("backbone_replays", "Subscriptions to what is stored there", stats.replays as f64),
        counter("backbone_replays_opened", "Times that one began", stats.replays_opened),
        counter("backbone_replays_resumed", "Times that one went on after a loss", stats.replays_resumed),
        counter("backbone_replays_refused", "Times that one did not begin, or not yet go on", stats.replays_refused),
        counter("backbone_replayed", "Stored messages that came for sessions", stats.replayed),
        counter("backbone_redelivered", "Of these, those that had come before under a durable name", stats.redelivered),
        counters(
            "backbone_settled",
            "Messages of durable subscriptions of which clients have said what is to become",
            "how",
            [("ack", stats.replays_acknowledged), ("nak", stats.replays_returned), ("term", stats.replays_terminated)],
        ),
        gauge("backbone_replay_backlog", "Stored messages that are still to come", stats.replay_backlog as f64),
    ]
}

fn sessions(about: &About, look: &Look) -> Vec<Family> {
    let (sum, sessions) = (look.broker(), &look.sessions);
    let kinds = ClientKind::ALL;
    let of = |wanted: ClientKind| sessions.iter().filter(|session| session.kind == wanted).count() as f64;
    let which =
        |is: fn(&kcpq_std_server::Session) -> bool| sessions.iter().filter(|session| is(session)).count() as f64;
    let shards =
        look.shards.iter().enumerate().map(|(shard, counted)| (shard.to_string(), counted.broker.sessions as f64));
    let started = about.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let names = ["0.5", "0.9", "0.99", "1"];
    let quantiles = names.into_iter().zip(look.round_trips([0.5, 0.9, 0.99, 1.0]));
    let quantiles = quantiles.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    vec![
        gauges("build_info", "The program, always 1", "version", [(env!("CARGO_PKG_VERSION").to_owned(), 1.0)]),
        gauge("start_time", "When the server was started, in seconds since 1970", started).of(Unit::Seconds),
        gauges("sessions", "Open sessions", "kind", kinds.map(|wanted| (kind(wanted).to_owned(), of(wanted)))),
        gauges("shard_sessions", "Open sessions of each thread of the server", "shard", shards),
        gauge("max_sessions", "Most sessions that may be open", about.max_sessions as f64),
        gauge(
            "half_open_sessions",
            "Sessions whose address nothing has proved yet",
            which(|session| session.half_open),
        ),
        gauge("throttled_sessions", "Publishers that are held back at this moment", which(|session| session.throttled)),
        counter("sessions_opened", "Sessions opened", sum.sessions_opened),
        counters(
            "sessions_refused",
            "Sessions refused",
            "reason",
            [("limit", sum.sessions_refused), ("denied", sum.sessions_denied)],
        ),
        counters(
            "sessions_ended",
            "Sessions that the server has ended",
            "reason",
            [
                ("idle", sum.idle_sessions),
                ("stalled", sum.stalled_sessions),
                ("slow_consumer", sum.slow_sessions),
                ("half_open", sum.half_open_sessions),
                ("broken", sum.broken_sessions),
                ("stuck", sum.stuck_sessions),
                ("kicked", sum.sessions_kicked),
            ],
        ),
        counter("slow_consumers", "Sessions that have begun to miss messages", sum.slow_consumers),
        counter("sessions_moved", "Sessions that went on at another address of their client", sum.sessions_moved),
        gauge("subscriptions", "Patterns of all sessions", sum.subscriptions as f64),
        counter("subscriptions_refused", "Subscriptions refused", sum.subscriptions_refused),
        counter(
            "subscriptions_ended",
            "Subscriptions ended because they are not permitted any more",
            sum.subscriptions_ended,
        ),
        gauges(
            "round_trip",
            "Smoothed round trips of the open sessions, by the share that is not above",
            "share",
            quantiles,
        )
        .of(Unit::Seconds),
    ]
}

fn messages(look: &Look) -> Vec<Family> {
    let sum = look.broker();
    let longest = look.sessions.iter().map(|session| session.queued).max().unwrap_or(0);
    vec![
        counter("messages_received", "Messages received from publishers", sum.messages_in),
        counter("messages_received", "Bytes of these messages, with their frames", sum.bytes_in).of(Unit::Bytes),
        counter("messages_delivered", "Messages queued for subscribers, once for each", sum.messages_out),
        counter("messages_delivered", "Bytes of these messages, with their frames", sum.bytes_out).of(Unit::Bytes),
        counters(
            "messages_dropped",
            "Messages that a subscriber, or nobody, got although they were sent",
            "reason",
            [
                ("slow_consumer", sum.dropped_slow),
                ("too_large", sum.dropped_too_large),
                ("memory", sum.dropped_memory),
                ("stuck", sum.dropped_stuck),
                ("closed", sum.dropped_closed),
                ("relay", sum.dropped_relay),
                ("expired", sum.expired),
                ("denied", sum.messages_denied),
                ("excess", sum.dropped_excess),
                ("invalid_subject", sum.messages_refused),
            ],
        ),
        histogram(
            "message_queueing",
            "How long messages waited until they went into the stream of a subscriber",
            &sum.queueing,
            1e6,
        )
        .of(Unit::Seconds),
        histogram(
            "message_fan_out",
            "Subscribers of each message, on each thread of the server that has any",
            &sum.fan_out,
            1.0,
        ),
        counter("messages_unrouted", "Messages without a subscriber", sum.unrouted),
        counter("messages_confirmed", "Messages whose publishers were told what became of them", sum.confirmed),
        counter(
            "messages_superseded",
            "Messages replaced by a newer one where only the latest is wanted",
            sum.superseded,
        ),
        counter(
            "messages_requeued",
            "Messages given to another member of their queue group, because the one that they waited for left",
            sum.requeued,
        ),
        gauge("last_values", "Subjects whose last value is kept", sum.kept as f64),
        gauge("last_values_size", "Memory that these take", sum.kept_bytes as f64).of(Unit::Bytes),
        counter(
            "last_values_refused",
            "Messages that were to be kept and were not, for want of room",
            sum.kept_refused,
        ),
        counter("last_values_lapsed", "Last values whose time to live was over", sum.kept_lapsed),
        counter("last_values_delivered", "Last values queued for later subscribers, once for each", sum.kept_delivered),
        counter(
            "last_values_write_failures",
            "Times that the file of last values could not be written",
            look.kept_write_failures,
        ),
        counter("presence_messages", "Messages in which the server said who comes and goes", sum.presence),
        counter("presence_missed", "What it did not say of that because it was too much", sum.presence_missed),
        gauge("wills", "Last wills that clients have left", sum.wills as f64),
        gauge("wills_size", "Size of these", sum.wills_bytes as f64).of(Unit::Bytes),
        counter("wills_published", "Last wills published because the client was lost", sum.wills_published),
        counter("wills_refused", "Last wills not taken, or not published", sum.wills_refused),
        counter("messages_withheld", "Messages that a subscriber may not have", sum.messages_withheld),
        counter("messages_relayed", "Messages handed from one thread of the server to another", sum.relayed),
        counter("publishers_throttled", "Times that a publisher was held back", sum.throttled),
        counter(
            "publishers_waited_after_restart",
            "Times that a publisher's messages waited after a restart for those who had sessions before",
            sum.restart_waits,
        ),
        gauge("queued", "Bytes of messages that wait for subscribers", sum.queued as f64).of(Unit::Bytes),
        gauge(
            "received",
            "Memory taken by what has come and waits, parts of messages for example",
            sum.received as f64,
        )
        .of(Unit::Bytes),
        counter("receive_waits", "Times that a session had to wait because that was short", sum.receive_waits),
        counter(
            "turn_waits",
            "Times that a session had to wait for others because it asked for more than its share of time",
            sum.turn_waits,
        ),
        gauge("longest_queue", "Bytes that wait for the session with most of them", longest as f64).of(Unit::Bytes),
        counter(
            "log_events_lost",
            "Events that have no line in the log because too many came at once",
            sum.events_lost,
        ),
    ]
}

fn network(look: &Look) -> Vec<Family> {
    let (sum, stats) = (look.broker(), look.transport());
    let mut all = vec![
        counter("datagrams_received", "Datagrams of sessions received", stats.datagrams_received),
        counter("datagrams_sent", "Datagrams of sessions sent", stats.datagrams_sent),
        counters(
            "datagrams_discarded",
            "Datagrams received and not used, or not sent",
            "reason",
            [
                ("malformed", sum.malformed_datagrams),
                ("unopened", sum.unopened_datagrams),
                ("stray", sum.stray_datagrams),
                ("newcomer", sum.dropped_newcomers),
                ("forward", sum.dropped_forward),
                ("unsendable", look.unsendable()),
            ],
        ),
        counter("segments_received", "New data segments received", stats.segments_received),
        counter("segments_sent", "Data segments sent, with retransmissions", stats.segments_sent),
        counter("segments_retransmitted", "Data segments sent again", stats.retransmitted),
        counter("segments_spurious", "Data segments sent again although they had arrived", stats.spurious),
        counters(
            "segments_lost",
            "Data segments considered lost, by what showed it",
            "by",
            [("timeout", stats.lost_timeout), ("later", stats.lost_fast)],
        ),
        counter("segments_duplicate", "Data segments received again", stats.duplicates),
        counter("segments_rebuilt", "Data segments rebuilt from repairs", stats.rebuilt),
        counter("repairs_sent", "Redundancy sent before anything was known to be lost", stats.repairs_sent),
        counter("paths_narrowed", "Times that a path was found to carry less than before", stats.narrowed),
        counters(
            "handshakes_discarded",
            "Handshakes of sealed sessions that came to nothing",
            "reason",
            [("stranger", sum.strangers), ("load", sum.handshakes_dropped)],
        ),
        counter(
            "handshakes_retried",
            "Handshakes under load whose clients first had to show that they are where they say they are",
            sum.retries,
        ),
        counter("sealed_sessions_opened", "Sealed sessions opened", sum.sealed_sessions_opened),
    ];
    if let Some(queues) = look.queues {
        all.push(counter("udp_receive_dropped", "Datagrams that the operating system had no room for", queues.dropped));
        all.push(gauge("udp_receive_queue", "Bytes that wait in the sockets", queues.bytes as f64).of(Unit::Bytes));
    }
    all
}
