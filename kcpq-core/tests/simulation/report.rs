//! How often what was reached.

use std::collections::BTreeMap;

use kcpq_core::broker::{Ended, Stats};
use kcpq_core::client::{ConfirmFailure, Disconnect};

use crate::adversary::SUDDEN;

/// With so many seeds also what is rare is reached.
const MANY: u64 = 2_000;

/// What happens in any hundred simulations: kinds of drops, ends and answers.
const USUAL: &[&str] = &[
    "confirmed",
    "delivered",
    "denied",
    "disconnected: ByServer(Denied)",
    "disconnected: ByServer(Kicked)",
    "disconnected: ByServer(Shutdown)",
    "disconnected: ByServer(SlowConsumer)",
    "disconnected: Forgotten",
    "disconnected: NoAnswer",
    "disconnected: Requested",
    "disconnected: Silent",
    "flushed",
    "not confirmed: InDoubt",
    "not confirmed: Rejected(NotPermitted)",
    "not confirmed: TimedOut",
    "refused: the queue of messages to send is full",
    "reply",
    "request failed: no answer came in time",
    "request failed: nobody is subscribed to the subject",
    "server: dropped_closed",
    "server: dropped_excess",
    "server: dropped_slow",
    "server: dropped_too_large",
    "server: expired",
    "server: forwarded",
    "server: half_open_sessions",
    "server: idle_sessions",
    "server: kept_delivered",
    "server: kept_lapsed",
    "server: malformed_datagrams",
    "server: messages_denied",
    "server: messages_withheld",
    "server: receive_waits",
    "server: relayed",
    "server: sealed_sessions_opened",
    "server: sessions_denied",
    "server: sessions_moved",
    "server: sessions_refused",
    "server: stateless_replies",
    "server: stray_datagrams",
    "server: subscriptions_ended",
    "server: subscriptions_refused",
    "server: superseded",
    "server: throttled",
    "server: turn_waits",
    "server: unrouted",
    "session ended: ByBroker(Denied)",
    "session ended: ByBroker(Idle)",
    "session ended: ByBroker(Kicked)",
    "session ended: ByBroker(Shutdown)",
    "session ended: ByBroker(SlowConsumer)",
    "session ended: ByClient(Normal)",
    "session ended: HalfOpen",
    "started with a register",
    "started without a register",
    "stopped: drained",
];

/// What happens in any thousand or two.
const RARE: &[&str] = &[
    "disconnected: Stalled",
    "disconnected: Unanswered",
    "not confirmed: Dropped",
    "not confirmed: Rejected(TooFast)",
    "server: dropped_memory",
    "server: dropped_relay",
    "server: dropped_stuck",
    "server: requeued",
    "server: restart_waits",
    "server: stuck_sessions",
    "session ended: ByBroker(Stalled)",
];

/// What has happened, and in how many simulations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<String, (u64, u64)>);

impl Tally {
    pub(crate) fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    pub(crate) fn add(&mut self, what: &str, count: u64) {
        if count > 0 {
            let entry = self.0.entry(what.into()).or_default();
            *entry = (entry.0 + count, 1);
        }
    }

    pub(crate) fn disconnected(&mut self, why: Disconnect) {
        self.count(&format!("disconnected: {why:?}"));
    }

    pub(crate) fn confirmed(&mut self, outcome: Result<u32, ConfirmFailure>) {
        match outcome {
            Ok(_) => self.count("confirmed"),
            Err(why) => self.count(&format!("not confirmed: {why:?}")),
        }
    }

    pub(crate) fn ended(&mut self, why: Ended) {
        self.count(&format!("session ended: {why:?}"));
    }

    /// The counters of a server.
    pub(crate) fn server(&mut self, stats: &Stats) {
        let text = format!("{stats:?}");
        for (name, value) in text.split(", ").filter_map(|field| field.rsplit_once(": ")) {
            let name = name.rsplit(' ').next().unwrap_or(name);
            if let Ok(value) = value.parse() {
                self.add(&format!("server: {name}"), value);
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, (count, runs)) in &other.0 {
            let entry = self.0.entry(what.clone()).or_default();
            *entry = (entry.0 + count, entry.1 + runs);
        }
    }

    /// What is claimed to be reached by so many seeds, and was not.
    pub(crate) fn missing(&self, seeds: u64) -> Vec<String> {
        let faults = SUDDEN.iter().map(|kind| format!("fault: {}", kind.name()));
        let rare = if seeds >= MANY { RARE } else { &[] };
        let others = USUAL.iter().chain(rare).map(|what| (*what).into());
        faults.chain(others).filter(|what| !self.0.contains_key(what)).collect()
    }

    pub(crate) fn print(&self) {
        println!("{:>10} {:>8}  what", "times", "seeds");
        for (what, (count, runs)) in &self.0 {
            println!("{count:>10} {runs:>8}  {what}");
        }
    }
}
