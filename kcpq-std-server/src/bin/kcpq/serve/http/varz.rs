//! `/varz`: the server, in the words of nats-server where it means the same.

use kcpq_core::histogram::{Histogram, Scale};
use kcpq_core::kcp;
use kcpq_std_server::BackboneView;
use kcpq_std_server::broker::ClientKind;
use serde_json::{Value, json};

use super::look::{About, Look, Looker};
use super::metrics::kind;

pub(super) fn document(looker: &Looker, look: &Look) -> Value {
    let About { name, started, max_sessions, max_message, max_queued, max_queued_total } = &looker.about;
    let (sum, view) = (look.broker(), looker.view());
    let of = |wanted: ClientKind| look.sessions.iter().filter(|session| session.kind == wanted).count();
    let kinds = ClientKind::ALL;
    let addrs = view.local_addrs();
    let addr = addrs.first();
    let [median, p90, p99, longest] = look.round_trips([0.5, 0.9, 0.99, 1.0]);
    json!({
        "server_name": name,
        "version": env!("CARGO_PKG_VERSION"),
        "git_commit": option_env!("KCPQ_COMMIT"),
        "host": addr.map(|addr| addr.ip().to_string()),
        "port": addr.map(|addr| addr.port()),
        "listen": addrs.iter().map(|addr| addr.to_string()).collect::<Vec<_>>(),
        "http_subscribe": looker.viewer.patterns(),
        "shards": view.shards(),
        "start": humantime::format_rfc3339_millis(*started).to_string(),
        "now": humantime::format_rfc3339_millis(look.at).to_string(),
        "uptime_seconds": look.at.duration_since(*started).unwrap_or_default().as_secs_f64(),
        "max_connections": max_sessions,
        "max_payload": max_message,
        "max_pending": max_queued,
        "max_pending_total": max_queued_total,
        "connections": sum.sessions,
        "total_connections": sum.sessions_opened,
        "kinds": kinds.iter().map(|wanted| (kind(*wanted).into(), of(*wanted).into())).collect::<serde_json::Map<_, _>>(),
        "subscriptions": sum.subscriptions,
        "in_msgs": sum.messages_in,
        "in_bytes": sum.bytes_in,
        "out_msgs": sum.messages_out,
        "out_bytes": sum.bytes_out,
        "pending_bytes": sum.queued,
        "rtt_seconds": { "p50": median, "p90": p90, "p99": p99, "max": longest },
        "queueing_seconds": histogram(&sum.queueing, 1e6),
        "fan_out": histogram(&sum.fan_out, 1.0),
        "received_bytes": sum.received,
        "receive_waits": sum.receive_waits,
        "turn_waits": sum.turn_waits,
        "stuck_sessions": sum.stuck_sessions,
        "slow_consumers": sum.slow_consumers,
        "throttled": sum.throttled,
        "dropped": {
            "slow": sum.dropped_slow,
            "too_large": sum.dropped_too_large,
            "memory": sum.dropped_memory,
            "stuck": sum.dropped_stuck,
            "closed": sum.dropped_closed,
            "relay": sum.dropped_relay,
            "expired": sum.expired,
            "denied": sum.messages_denied,
            "excess": sum.dropped_excess,
            "refused": sum.messages_refused,
        },
        "unrouted": sum.unrouted,
        "confirmed": sum.confirmed,
        "restart_waits": sum.restart_waits,
        "superseded": sum.superseded,
        "requeued": sum.requeued,
        "withheld": sum.messages_withheld,
        "last_values": {
            "subjects": sum.kept,
            "bytes": sum.kept_bytes,
            "refused": sum.kept_refused,
            "lapsed": sum.kept_lapsed,
            "delivered": sum.kept_delivered,
            "write_failures": look.kept_write_failures,
        },
        "presence": { "messages": sum.presence, "missed": sum.presence_missed },
        "wills": {
            "left": sum.wills,
            "bytes": sum.wills_bytes,
            "published": sum.wills_published,
            "refused": sum.wills_refused,
        },
        "backbone": look.backbone.as_ref().map(|view| backbone(view, sum.no_interest)),
        "transport": transport(&look.transport()),
        "udp_receive_dropped": look.queues.map(|queues| queues.dropped),
        "udp_receive_queue_bytes": look.queues.map(|queues| queues.bytes),
        "unsendable": look.unsendable(),
    })
}

/// The servers of NATS over which several servers are one.
fn backbone(view: &BackboneView, stayed: u64) -> Value {
    let stats = &view.stats;
    json!({
        "connected": stats.joined == 1,
        "server": view.server,
        "trouble": view.trouble,
        "store_trouble": view.store_trouble,
        "connects": stats.connects,
        "disconnects": stats.disconnects,
        "complaints": view.complaints,
        "subscriptions": stats.subscriptions,
        "subscriptions_refused": stats.patterns_refused,
        "wants": stats.wants,
        "wants_refused": stats.wants_refused,
        "in_msgs": stats.messages_in,
        "in_bytes": stats.bytes_in,
        "out_msgs": stats.messages_out,
        "out_bytes": stats.bytes_out,
        "no_interest": stayed + stats.no_interest,
        "pending_msgs": stats.waiting,
        "pending_bytes": stats.waiting_bytes,
        "dropped": {
            "away": stats.dropped_away,
            "settled": stats.dropped_settled,
            "in_doubt": stats.in_doubt,
            "too_large": stats.dropped_too_large,
            "unmapped": stats.dropped_unmapped,
            "denied": stats.dropped_denied,
            "expired": stats.expired,
            "unwanted": stats.unwanted,
            "returned": stats.returned,
        },
        "storing": {
            "pending_msgs": stats.storing,
            "pending_bytes": stats.storing_bytes,
            "stored": stats.stored,
            "duplicates": stats.store_duplicates,
            "repeats": stats.store_repeats,
            "no_stream": stats.store_no_stream,
            "refused": stats.store_refused,
            "in_doubt": stats.store_in_doubt,
            "full": stats.store_full,
        },
        "last_values": {
            "read": stats.values_read == 1,
            "trouble": view.values_trouble,
            "pending": stats.values_waiting,
            "in": stats.values_in,
            "out": stats.values_out,
            "repeats": stats.values_repeats,
            "overtaken": stats.values_overtaken,
            "full": stats.values_full,
            "refused": stats.values_refused,
            "unmapped": stats.values_unmapped,
        },
        "stripped": stats.stripped,
        "no_responders": stats.nobody,
        "replays": {
            "open": stats.replays,
            "opened": stats.replays_opened,
            "resumed": stats.replays_resumed,
            "refused": stats.replays_refused,
            "messages": stats.replayed,
            "redelivered": stats.redelivered,
            "acknowledged": stats.replays_acknowledged,
            "returned": stats.replays_returned,
            "terminated": stats.replays_terminated,
            "backlog": stats.replay_backlog,
        },
    })
}

/// The sum, and how many values lie between each bound and the one before; those beyond the last have none.
fn histogram<S: Scale>(values: &Histogram<S>, per: f64) -> Value {
    let up_to = values.buckets().map(|(up_to, count)| (json!(up_to as f64 / per), count));
    let buckets: Vec<_> = up_to.chain([(Value::Null, values.above())]).collect();
    json!({ "sum": values.sum() as f64 / per, "buckets": buckets })
}

/// What engines have counted.
pub(super) fn transport(stats: &kcp::Stats) -> Value {
    json!({
        "datagrams_in": stats.datagrams_received,
        "datagrams_out": stats.datagrams_sent,
        "segments_in": stats.segments_received,
        "segments_out": stats.segments_sent,
        "lost": stats.lost_timeout + stats.lost_fast,
        "retransmitted": stats.retransmitted,
        "spurious": stats.spurious,
        "repairs_out": stats.repairs_sent,
        "rebuilt": stats.rebuilt,
        "duplicates": stats.duplicates,
        "narrowed": stats.narrowed,
    })
}
