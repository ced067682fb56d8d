//! How often what was reached.

use std::collections::BTreeMap;

use kcpq_core::broker::{Ended, Stats};
use kcpq_core::client::{ConfirmFailure, Disconnect};

/// What has happened, and in how many simulations.
#[derive(Clone, Debug, Default)]
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

    pub(crate) fn has(&self, what: &str) -> bool {
        self.0.contains_key(what)
    }

    pub(crate) fn print(&self) {
        println!("{:>10} {:>8}  what", "times", "seeds");
        for (what, (count, runs)) in &self.0 {
            println!("{count:>10} {runs:>8}  {what}");
        }
    }
}
