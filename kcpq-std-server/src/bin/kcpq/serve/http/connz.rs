//! `/connz`: the sessions, in the words of nats-server where it means the same.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use kcpq_std_server::Session;
use kcpq_std_server::broker::SessionId;
use serde_json::{Value, json};

use super::look::Look;
use super::metrics::kind;
use super::query::{Query, seconds};
use super::varz::transport;

/// By what sessions can be sorted; the greatest first, but for the first three.
const SORTS: [&str; 17] = [
    "cid",
    "start",
    "name",
    "uptime",
    "idle",
    "rtt",
    "subs",
    "pending",
    "unacked",
    "msgs_to",
    "msgs_from",
    "bytes_to",
    "bytes_from",
    "dropped",
    "lost",
    "retransmitted",
    "repairs",
];

/// A page of sessions.
///
/// # Errors
/// For people: what is wrong with the query.
pub(super) fn document(started: SystemTime, look: &Look, query: &Query) -> Result<Value, String> {
    query.knows(&["offset", "limit", "sort", "cid", "kind", "user", "name"])?;
    let cid = query.parsed::<SessionId>("cid")?;
    let is = |wanted: Option<&str>, value: Option<&str>| wanted.is_none_or(|wanted| Some(wanted) == value);
    let mut list: Vec<&Session> =
        look.sessions.iter().filter(|session| cid.is_none_or(|id| id == session.id)).collect();
    list.retain(|session| {
        is(query.get("kind"), Some(kind(session.kind)))
            && is(query.get("user"), session.identity.as_deref())
            && is(query.get("name"), session.client.as_deref())
    });
    sort(&mut list, query.get("sort").unwrap_or("cid"))?;
    let page = query.page(list.len())?;
    let shown = list.get(page.range.clone()).unwrap_or_default();
    Ok(json!({
        "now": humantime::format_rfc3339_millis(look.at).to_string(),
        "server_start": humantime::format_rfc3339_millis(started).to_string(),
        "num_connections": shown.len(),
        "total": list.len(),
        "offset": page.offset,
        "limit": page.limit,
        "connections": shown.iter().map(|session| connection(look.at, session)).collect::<Vec<_>>(),
    }))
}

fn sort(list: &mut [&Session], by: &str) -> Result<(), String> {
    let greatest = |list: &mut [&Session], key: &dyn Fn(&Session) -> u64| {
        list.sort_by_cached_key(|session| (Reverse(key(session)), session.id));
    };
    match by {
        "cid" => list.sort_unstable_by_key(|session| session.id),
        "start" => list.sort_by_cached_key(|session| (Reverse(session.age), session.id)),
        "name" => list.sort_by_cached_key(|session| (session.client.clone(), session.id)),
        "uptime" => greatest(list, &|session| session.age.as_micros()),
        "idle" => greatest(list, &|session| session.silent.as_micros()),
        "rtt" => greatest(list, &|session| session.round_trip.map_or(0, |span| span.as_micros())),
        "subs" => greatest(list, &|session| session.subscriptions as u64),
        "pending" => greatest(list, &|session| session.queued as u64),
        "unacked" => greatest(list, &|session| session.unacked as u64),
        "msgs_to" => greatest(list, &|session| session.messages.messages_out),
        "msgs_from" => greatest(list, &|session| session.messages.messages_in),
        "bytes_to" => greatest(list, &|session| session.messages.bytes_out),
        "bytes_from" => greatest(list, &|session| session.messages.bytes_in),
        "dropped" => greatest(list, &dropped),
        "lost" => greatest(list, &|session| session.transport.lost_timeout + session.transport.lost_fast),
        "retransmitted" => greatest(list, &|session| session.transport.retransmitted),
        "repairs" => greatest(list, &|session| session.transport.repairs_sent),
        other => return Err(format!("sort: '{other}' is not known; known are {}", SORTS.join(", "))),
    }
    Ok(())
}

/// Messages that it did not get, and that were not wanted of it.
fn dropped(session: &Session) -> u64 {
    let stats = &session.messages;
    let to = stats.dropped_slow + stats.dropped_too_large + stats.dropped_memory + stats.expired;
    to + stats.denied + stats.excess + stats.refused
}

/// Without its id in native datagrams, which is as good as its client's place.
fn connection(now: SystemTime, session: &Session) -> Value {
    let stats = &session.messages;
    let ago = |micros: u64| {
        let at = now.checked_sub(Duration::from_micros(micros)).unwrap_or(SystemTime::UNIX_EPOCH);
        humantime::format_rfc3339_millis(at).to_string()
    };
    json!({
        "cid": session.id.to_string(),
        "kind": kind(session.kind),
        "ip": session.peer.ip().to_string(),
        "port": session.peer.port(),
        "name": session.client.as_deref(),
        "authorized_user": session.identity.as_deref(),
        "start": ago(session.age.as_micros()),
        "last_activity": ago(session.silent.as_micros()),
        "uptime_seconds": seconds(session.age.as_micros()),
        "idle_seconds": seconds(session.silent.as_micros()),
        "rtt_seconds": session.round_trip.map(|span| seconds(span.as_micros())),
        "rtt_variation_seconds": session.round_trip.map(|_| seconds(session.round_trip_variation.as_micros())),
        "path_mtu": session.path_mtu,
        "half_open": session.half_open,
        "throttled": session.throttled,
        "received_bytes": session.received,
        "waits_for_memory": session.waits_for_memory,
        "closing": session.closing.map(|reason| reason.to_string()),
        "pending_bytes": session.queued,
        "unacked_bytes": session.unacked,
        "subscriptions": session.subscriptions,
        "in_msgs": stats.messages_in,
        "in_bytes": stats.bytes_in,
        "out_msgs": stats.messages_out,
        "out_bytes": stats.bytes_out,
        "dropped": {
            "slow": stats.dropped_slow,
            "too_large": stats.dropped_too_large,
            "memory": stats.dropped_memory,
            "expired": stats.expired,
            "denied": stats.denied,
            "excess": stats.excess,
            "refused": stats.refused,
        },
        "unrouted": stats.unrouted,
        "superseded": stats.superseded,
        "withheld": stats.withheld,
        "transport": transport(&session.transport),
    })
}
