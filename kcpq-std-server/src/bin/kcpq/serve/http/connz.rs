//! `/connz`: the sessions, in the words of nats-server where it means the same.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kcpq_std_server::Session;
use kcpq_std_server::broker::SessionId;
use serde_json::{Value, json};

use super::look::Look;
use super::metrics::kind;
use super::query::{Query, seconds};
use super::recent::Rate;
use super::varz::transport;

/// By what sessions can be sorted; the greatest first, but for the first four.
const SORTS: [&str; 24] = [
    "ip",
    "cid",
    "start",
    "name",
    "uptime",
    "idle",
    "rtt",
    "loss",
    "subs",
    "rate_to",
    "rate_from",
    "byte_rate_to",
    "byte_rate_from",
    "pending",
    "unacked",
    "msgs_to",
    "msgs_from",
    "bytes_to",
    "bytes_from",
    "dropped",
    "lost",
    "retransmitted",
    "turn_waits",
    "repairs",
];

/// A page of sessions.
///
/// # Errors
/// For people: what is wrong with the query.
pub(super) fn document(started: SystemTime, look: &Look, query: &Query) -> Result<Value, String> {
    query.knows(&["offset", "limit", "sort", "order", "search", "cid", "kind", "user", "name"])?;
    let cid = query.parsed::<SessionId>("cid")?;
    let is = |wanted: Option<&str>, value: Option<&str>| wanted.is_none_or(|wanted| Some(wanted) == value);
    let mut list: Vec<&Session> =
        look.sessions.iter().filter(|session| cid.is_none_or(|id| id == session.id)).collect();
    list.retain(|session| {
        is(query.get("kind"), Some(kind(session.kind)))
            && is(query.get("user"), session.identity.as_deref())
            && is(query.get("name"), session.client.as_deref())
            && (query.get("search").is_none() || {
                let (peer, id) = (session.peer.to_string(), session.id.to_string());
                let texts = [session.client.as_deref(), session.identity.as_deref(), Some(&*peer), Some(&*id)];
                query.finds(texts.into_iter().flatten())
            })
    });
    sort(look, &mut list, query)?;
    let page = query.page(list.len())?;
    let shown = list.get(page.range.clone()).unwrap_or_default();
    Ok(json!({
        "now": humantime::format_rfc3339_millis(look.at).to_string(),
        "server_start": humantime::format_rfc3339_millis(started).to_string(),
        "num_connections": shown.len(),
        "total": list.len(),
        "offset": page.offset,
        "limit": page.limit,
        "connections": shown.iter().map(|session| connection(look, session)).collect::<Vec<_>>(),
    }))
}

/// What a session is sorted by.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Key {
    Id(SessionId),
    Number(f64),
    Text(Option<Arc<str>>),
    Ip(IpAddr, u16),
}

fn sort(look: &Look, list: &mut [&Session], query: &Query) -> Result<(), String> {
    let by = query.get("sort").unwrap_or("cid");
    let ascending = query.is_ascending(matches!(by, "cid" | "name" | "ip"))?;
    let Some(key) = key(look, by) else {
        return Err(format!("sort: '{by}' is not known; known are {}", SORTS.join(", ")));
    };
    let mut keyed: Vec<(Key, &Session)> = list.iter().map(|session| (key(session), *session)).collect();
    keyed.sort_unstable_by(|(a, x), (b, y)| {
        let order = a.partial_cmp(b).unwrap_or(Ordering::Equal);
        (if ascending { order } else { order.reverse() }).then(x.id.cmp(&y.id))
    });
    list.iter_mut().zip(keyed).for_each(|(place, (_, session))| *place = session);
    Ok(())
}

/// Tells what a session is sorted by.
type By<'l> = Box<dyn Fn(&Session) -> Key + 'l>;

/// What sessions are sorted by, by its name.
fn key<'l>(look: &'l Look, by: &str) -> Option<By<'l>> {
    fn number<'k>(value: impl Fn(&Session) -> f64 + 'k) -> Option<By<'k>> {
        Some(Box::new(move |session| Key::Number(value(session))))
    }
    let rate =
        |value: fn(&Rate) -> f64| number(move |session| look.recent.rate(session.id).as_ref().map_or(0.0, value));
    match by {
        "cid" => Some(Box::new(|session| Key::Id(session.id))),
        "ip" => Some(Box::new(|session| Key::Ip(session.peer.ip(), session.peer.port()))),
        "name" => Some(Box::new(|session| Key::Text(session.client.clone()))),
        "start" | "uptime" => number(|session| session.age.as_micros() as f64),
        "idle" => number(|session| session.silent.as_micros() as f64),
        "rtt" => number(|session| session.round_trip.map_or(-1.0, |span| span.as_micros() as f64)),
        "loss" => number(|session| look.recent.loss(session.id).unwrap_or(-1.0)),
        "subs" => number(|session| session.subscriptions as f64),
        "rate_to" => rate(|rate| rate.messages_out),
        "rate_from" => rate(|rate| rate.messages_in),
        "byte_rate_to" => rate(|rate| rate.bytes_out),
        "byte_rate_from" => rate(|rate| rate.bytes_in),
        "pending" => number(|session| session.queued as f64),
        "unacked" => number(|session| session.unacked as f64),
        "msgs_to" => number(|session| session.messages.messages_out as f64),
        "msgs_from" => number(|session| session.messages.messages_in as f64),
        "bytes_to" => number(|session| session.messages.bytes_out as f64),
        "bytes_from" => number(|session| session.messages.bytes_in as f64),
        "dropped" => number(|session| dropped(session) as f64),
        "lost" => number(|session| (session.transport.lost_timeout + session.transport.lost_fast) as f64),
        "retransmitted" => number(|session| session.transport.retransmitted as f64),
        "turn_waits" => number(|session| session.messages.turn_waits as f64),
        "repairs" => number(|session| session.transport.repairs_sent as f64),
        _ => None,
    }
}

/// Messages that it did not get, and that were not wanted of it.
fn dropped(session: &Session) -> u64 {
    let stats = &session.messages;
    let to = stats.dropped_slow + stats.dropped_too_large + stats.dropped_memory + stats.dropped_stuck + stats.expired;
    to + stats.denied + stats.excess + stats.refused
}

/// Without its id in native datagrams, which is as good as its client's place.
fn connection(look: &Look, session: &Session) -> Value {
    let stats = &session.messages;
    let rate = look.recent.rate(session.id);
    let rate = |value: fn(&Rate) -> f64| rate.as_ref().map(value);
    let ago = |micros: u64| {
        let at = look.at.checked_sub(Duration::from_micros(micros)).unwrap_or(SystemTime::UNIX_EPOCH);
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
        "loss": look.recent.loss(session.id),
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
        "in_msgs_rate": rate(|rate| rate.messages_in),
        "in_bytes_rate": rate(|rate| rate.bytes_in),
        "out_msgs_rate": rate(|rate| rate.messages_out),
        "out_bytes_rate": rate(|rate| rate.bytes_out),
        "dropped": {
            "slow": stats.dropped_slow,
            "too_large": stats.dropped_too_large,
            "memory": stats.dropped_memory,
            "stuck": stats.dropped_stuck,
            "expired": stats.expired,
            "denied": stats.denied,
            "excess": stats.excess,
            "refused": stats.refused,
        },
        "unrouted": stats.unrouted,
        "superseded": stats.superseded,
        "withheld": stats.withheld,
        "turn_waits": stats.turn_waits,
        "transport": transport(&session.transport),
    })
}
