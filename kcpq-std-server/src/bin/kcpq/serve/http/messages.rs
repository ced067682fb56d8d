//! `/messages?pattern=...`: what is published to a pattern, as server-sent events, for as long as somebody listens.
//!
//! A listener is a client of the server with a session of its own, which proves nothing: it sees what such clients may see,
//! and of that what the configuration lets it. It wants the latest of each subject only, so that it holds nobody back, and is
//! shown the beginnings of so many messages in a second, however many there are and however slowly it reads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use futures_lite::Stream;
use futures_lite::future::or;
use futures_lite::stream;
use hyper::body::Bytes;
use kcpq_core::access::{Matcher, Rules};
use kcpq_core::subject::{Limits, Pattern};
use kcpq_smol::{Client, Key, Message, PublicKey, SharedSecret, Subscription};
use serde_json::{Value, json};
use smol::Timer;

use super::crowd::Lease;
use super::live::event;
use super::query::Query;

/// What may be watched, and how to come to it.
#[derive(Debug)]
pub(in super::super) struct Viewing {
    /// Where the server listens.
    pub(in super::super) address: SocketAddr,
    /// Who it is there.
    pub(in super::super) pass: Pass,
    /// What the configuration lets it see; nothing if there are none.
    pub(in super::super) patterns: Vec<String>,
}

/// What a client without a key of its own shows.
#[derive(Debug)]
pub(in super::super) enum Pass {
    Nothing,
    ServerKey(PublicKey),
    Secret(SharedSecret),
    OriginalKey(Key),
}

/// See above.
#[derive(Debug)]
pub(super) struct Viewer {
    viewing: Viewing,
    allowed: RefCell<Option<Matcher>>,
}

/// Messages that are shown at once, and the time from one event to the next.
const SHOWN: usize = 20;
const PACE: Duration = Duration::from_millis(250);
/// Messages, and their bytes, that may wait for a listener.
const QUEUE: usize = 256;
const QUEUE_BYTES: usize = 1 << 20;
/// Bytes of a payload that are shown, of text and of anything else.
const TEXT: usize = 256;
const BYTES: usize = 48;
/// A listener that hears nothing for so long is told so, which shows whether it is still there.
const SILENCE: Duration = Duration::from_secs(10);
/// How long connecting and subscribing may take.
const PATIENCE: Duration = Duration::from_secs(5);
const LIMITS: Limits = Limits { max_tokens: u8::MAX, ..Limits::DEFAULT };

impl Viewer {
    pub(super) fn new(viewing: Viewing) -> Self {
        let rules =
            Rules { allow: Some(viewing.patterns.iter().map(|text| text.as_str().into()).collect()), deny: Vec::new() };
        // The patterns are the operator's, and were looked at; nobody chooses what is hashed.
        Self { viewing, allowed: RefCell::new(Matcher::new(&rules, 0).ok()) }
    }

    /// What may be watched.
    pub(super) fn patterns(&self) -> &[String] {
        &self.viewing.patterns
    }

    fn may_see(&self, pattern: &str) -> bool {
        let Ok(pattern) = Pattern::new(pattern, &LIMITS) else { return false };
        self.allowed.borrow_mut().as_mut().is_some_and(|allowed| allowed.covers(pattern))
    }

    /// # Errors
    /// For people: why not.
    async fn watch(&self, pattern: &str) -> Result<(Client, Subscription), String> {
        if !self.may_see(pattern) {
            return Err(match self.patterns() {
                [] => "the configuration lets nobody see messages here (--http-subscribe)".into(),
                patterns => format!("the configuration lets this page see {} only", patterns.join(", ")),
            });
        }
        let mut builder = Client::builder().name("kcpq page").timeout(PATIENCE).capacity(QUEUE).max_bytes(QUEUE_BYTES);
        builder = match &self.viewing.pass {
            Pass::Nothing => builder,
            Pass::ServerKey(key) => builder.server_key(*key),
            Pass::Secret(secret) => builder.secret(secret.clone()),
            Pass::OriginalKey(key) => builder.compat_aes256(key.clone()),
        };
        let client = builder.connect(reachable(self.viewing.address)).await.map_err(|error| error.to_string())?;
        let subscription = client.subscribe(pattern).latest().await.map_err(|error| error.to_string())?;
        Ok((client, subscription))
    }
}

/// Where this machine reaches a server that listens there.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listens.port())
}

/// How far it is with a listener.
enum State {
    Begins(Rc<Viewer>, String),
    Watches { subscription: Box<Subscription>, told: u64, client: Client },
    Ends,
}

/// Events: `watching`, then `messages` as they come; `refused` if there is nothing to see.
///
/// # Errors
/// For people: what is wrong with the query.
pub(super) fn events(
    viewer: Rc<Viewer>,
    lease: Rc<Lease>,
    query: &Query,
) -> Result<impl Stream<Item = Bytes> + use<>, String> {
    query.knows(&["pattern"])?;
    let pattern = query.get("pattern").ok_or("pattern: it has to be said")?.to_owned();
    Pattern::new(&pattern, &LIMITS).map_err(|error| format!("pattern: {error}"))?;
    Ok(stream::unfold((State::Begins(viewer, pattern), lease), |(state, lease)| async move {
        lease.renew();
        let (event, state) = step(state, &lease).await?;
        Some((event, (state, lease)))
    }))
}

/// The next event; none after the last.
async fn step(state: State, lease: &Lease) -> Option<(Bytes, State)> {
    match state {
        State::Begins(viewer, pattern) => Some(match viewer.watch(&pattern).await {
            Ok((client, subscription)) => {
                let subscription = Box::new(subscription);
                (event("watching", &json!({ "pattern": pattern })), State::Watches { subscription, told: 0, client })
            }
            Err(why) => (event("refused", &json!({ "why": why })), State::Ends),
        }),
        State::Watches { .. } if lease.is_lost() => Some((event("full", &Value::Null), State::Ends)),
        State::Watches { mut subscription, told, client } => {
            let silence = async {
                Timer::after(SILENCE).await;
                None
            };
            let Some(next) = or(async { Some(subscription.next().await) }, silence).await else {
                return Some((": nothing yet\n\n".into(), State::Watches { subscription, told, client }));
            };
            let Some(first) = next else {
                return Some((event("refused", &json!({ "why": "the subscription has ended" })), State::Ends));
            };
            Timer::after(PACE).await;
            let mut shown = VecDeque::from([first]);
            let mut left_out = 0;
            while let Some(message) = subscription.try_next() {
                shown.push_back(message);
                if shown.len() > SHOWN {
                    shown.pop_front();
                    left_out += 1;
                }
            }
            let stats = subscription.stats();
            let lost = stats.dropped + stats.superseded;
            left_out += lost - told;
            let messages: Vec<Value> = shown.iter().map(show).collect();
            let event = event("messages", &json!({ "messages": messages, "left_out": left_out }));
            Some((event, State::Watches { subscription, told: lost, client }))
        }
        State::Ends => None,
    }
}

/// What is shown of a message.
fn show(message: &Message) -> Value {
    let payload = message.payload();
    let (kind, text) = preview(payload);
    json!({
        "time": humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        "subject": message.subject(),
        "size": payload.len(),
        "headers": message.headers().iter().count(),
        kind: text,
    })
}

/// The beginning of a payload: as text if it is that, otherwise its bytes.
fn preview(payload: &[u8]) -> (&'static str, String) {
    let begin = payload.get(..TEXT).unwrap_or(payload);
    let text = match std::str::from_utf8(begin) {
        Ok(text) => Some(text),
        // What the end has cut is no mistake.
        Err(error) if error.error_len().is_none() && begin.len() < payload.len() => {
            std::str::from_utf8(&begin[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let is_plain = |text: &&str| text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace());
    if let Some(text) = text.filter(is_plain) {
        return ("text", text.into());
    }
    let bytes = payload.iter().take(BYTES).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x} ");
        text
    });
    ("hex", bytes.trim_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_payload_the_beginning_is_shown_as_what_it_is() {
        assert_eq!(preview(b"21.5\n"), ("text", "21.5\n".into()));
        assert_eq!(preview(b""), ("text", String::new()));
        assert_eq!(preview(b"\x1b[2J"), ("hex", "1b 5b 32 4a".into()));
        assert_eq!(preview(&[0xff; 100]).1.len(), 3 * BYTES - 1);
        // A letter of two bytes lies across the end.
        let long = format!("x{}", "\u{e4}".repeat(TEXT));
        assert_eq!(preview(long.as_bytes()), ("text", format!("x{}", "\u{e4}".repeat(TEXT / 2 - 1))));
        assert_eq!(preview(b"\xc3"), ("hex", "c3".into()));
    }

    #[test]
    fn what_may_be_seen_is_what_the_configuration_says() {
        let viewer = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|text| (*text).into()).collect();
            Viewer::new(Viewing { address: ([127, 0, 0, 1], 1).into(), pass: Pass::Nothing, patterns })
        };
        let some = viewer(&["a.>", "b"]);
        for (pattern, is) in [("a.b", true), ("a.*", true), ("b", true), ("*", false), (">", false), ("a..b", false)] {
            assert_eq!(some.may_see(pattern), is, "{pattern}");
        }
        assert!(viewer(&[">"]).may_see(">") && !viewer(&[]).may_see("a"));
        assert_eq!(reachable("0.0.0.0:7".parse().unwrap()).to_string(), "127.0.0.1:7");
        assert_eq!(reachable("[::]:7".parse().unwrap()).to_string(), "[::1]:7");
    }
}
