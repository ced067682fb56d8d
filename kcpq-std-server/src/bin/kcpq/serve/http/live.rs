//! `/live`: the documents again and again, as server-sent events, for as long as somebody listens.
//!
//! Each event is made when the one before has been taken, from a look that all listeners share. It holds the page of
//! sessions and of patterns that the listener asked for, and no more of them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::Stream;
use futures_lite::stream::{self, StreamExt};
use hyper::body::Bytes;
use serde_json::{Value, json};
use smol::Timer;

use super::crowd::Lease;
use super::look::Looker;
use super::query::Query;
use super::{connz, subsz, varz};

/// The time from one event to the next.
const PACE: Duration = Duration::from_secs(1);
/// Patterns are many and change little: once in so many events.
const PATTERNS_EVERY: u32 = 5;

/// Which pages a listener wants.
#[derive(Debug)]
struct Wanted {
    sessions: Query,
    patterns: Query,
    /// Of those that are behind, this many.
    slow: Query,
}

/// Events, the first at once: what is asked of `/connz` with `connz.` before each name, what of `/subsz` with `subsz.`.
///
/// # Errors
/// For people: what is wrong with the query.
pub(super) fn events(
    looker: Rc<Looker>,
    lease: Rc<Lease>,
    query: &Query,
) -> Result<impl Stream<Item = Bytes> + use<>, String> {
    let [sessions, patterns] = query.parts(["connz.", "subsz."])?;
    let wanted = Wanted { sessions, patterns, slow: Query::new("sort=pending&limit=5") };
    let first = document(&looker, &wanted, 0)?;
    let state = first.is_some().then_some((looker, wanted, lease, 1));
    let rest = stream::unfold(state, |state| async move {
        let (looker, wanted, lease, count) = state?;
        let begun = Instant::now();
        lease.renew();
        Timer::at(begun + PACE).await;
        if lease.is_lost() {
            return Some((event("full", &Value::Null), None));
        }
        let document = document(&looker, &wanted, count).ok()?;
        let next = document.is_some().then_some((looker, wanted, lease, count + 1));
        Some((look(document), next))
    });
    Ok(stream::once(look(first)).chain(rest))
}

/// What is shown; `None` if a thread of the server does not answer.
fn document(looker: &Looker, wanted: &Wanted, count: u32) -> Result<Option<Value>, String> {
    let Some(look) = looker.look() else { return Ok(None) };
    let started = looker.about.started;
    let mut shown = json!({
        "varz": varz::document(looker, &look),
        "connz": connz::document(started, &look, &wanted.sessions)?,
        "slow": connz::document(started, &look, &wanted.slow)?,
    });
    if count.is_multiple_of(PATTERNS_EVERY)
        && let Some(patterns) = looker.patterns()
    {
        shown["subsz"] = subsz::document(&patterns, &wanted.patterns)?;
    }
    Ok(Some(shown))
}

/// A look at the server, or that there was none, which is the last event.
fn look(document: Option<Value>) -> Bytes {
    document.map_or_else(|| event("gone", &Value::Null), |document| event("look", &document))
}

/// In the format of server-sent events; JSON on one line has no line ends to escape.
pub(super) fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}
