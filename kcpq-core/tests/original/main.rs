//! Original peers, in virtual time. They collect acknowledgements: these go out when the peer's clock ticks (every 10 ms
//! in the original's client, 20 ms in its server), when it writes something, and when its window slides; never because
//! data arrived (docs/original.md 3.4).
//!
//! `cargo test --release -p kcpq-core --features full --test original -- --nocapture` prints the rates.

mod clients;
#[path = "../common/engine.rs"]
mod engine;
mod peer;
mod restricted;
mod server;

use kcpq_core::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
