//! What becomes of messages when something dies, hangs, is full or goes back in time: the program `kcpq serve`, clients in this
//! process and others, numbered messages, and the counters of both ends.
//!
//! In each case everything is back by itself; no message comes twice or out of its order; and of each that was published it is
//! known what became of it: it came, or it was in doubt at its publisher, or the server counts why it did not come, or it was
//! taken by who was killed, of which it is known how much that can be.
//!
//! `KCPQ_CRASH_SECONDS` sets how long things are away (2 without it); with `--nocapture` each case prints a line of figures. The
//! long form is
//!
//! ```text
//! KCPQ_CRASH_SECONDS=60 cargo test -p kcpq-std-server --test crash -- --nocapture --test-threads 7
//! ```

#![cfg(target_os = "linux")]

mod child;
mod hung;
mod killed;
mod limits;
mod load;
mod outside;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use load::Outcome;
use server::Node;
use smol::Timer;
use support::wait::LIMIT;

/// For how long something is away, or hangs.
fn absence() -> Duration {
    let seconds = std::env::var("KCPQ_CRASH_SECONDS").map_or(2, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// The same, but for less than a client waits for an answer (4 s, PROTOCOL.md 7).
fn short_absence() -> Duration {
    absence().min(Duration::from_secs(3))
}

/// Tells what was measured of a case.
fn measured(case: &str, figures: &str) {
    println!("{case}: {figures}");
}

/// Waits until sums agree: what a server has counted is seen up to a second later, and what waits for a session that ends counts
/// when it has ended.
async fn agree(mut sums: impl FnMut() -> Result<String, String>) -> String {
    let mut last = Err(String::new());
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        last = sums();
        if last.is_ok() {
            break;
        }
        Timer::after(Duration::from_millis(100)).await;
    }
    last.unwrap_or_else(|sums| panic!("the sums do not agree: {sums}"))
}

/// Whether the counters of a server that has lived through it, and had no other load, agree with those of its clients; what it
/// has counted, for people.
async fn lived_through(node: &Node, outcome: &Outcome, subscribers: u64) -> String {
    agree(|| {
        let counted = node.counted();
        let (came, queued, closed) = (counted.came(), counted.queued(), counted.dropped("closed"));
        let sums = [
            // Messages in doubt have come or not; all others have.
            (outcome.published - outcome.in_doubt..=outcome.published).contains(&came),
            // What did not come although it was queued was in the queue of a session that has ended, or under way to it: there it
            // may have come all the same.
            (outcome.received..=outcome.received + closed).contains(&queued),
            // What was not queued for all came while a subscriber had no session; what was queued twice came while it had two, of
            // which the former one has ended since.
            queued <= came * subscribers + closed,
            counted.dropped_otherwise(&["closed"]) == 0,
        ];
        let said = format!("the server had {came}, queued {queued}, and dropped {closed} with sessions");
        if sums == [true; 4] { Ok(said) } else { Err(format!("{said}: {sums:?} {outcome:?}")) }
    })
    .await
}
