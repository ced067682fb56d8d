//! Load for other brokers, by the same method as `kcpq bench pubsub`: for `scripts/compare`, and no part of the program.
//!
//! One publisher thread, one thread for each subscriber, blocking sockets with Nagle's algorithm off. Each broker's own
//! protocol is written and read by hand, so that no client library is in the way: a publisher writes up to 32 KiB of
//! messages with one call, a subscriber reads up to 256 KiB with one. As all messages of a run have the same subject and
//! size, all that surrounds them is the same bytes each time, compared and not parsed.
//!
//! NATS is spoken by TLS as well, by rustls with the AES of AWS-LC, which kcpq has there too.
//!
//! A window keeps the messages under way below what makes these brokers drop messages or subscribers.
//!
//! ```sh
//! cargo run --release -p kcpq-tools --bin rivals -- nats 127.0.0.1:4222 --size 128 --subs 1
//! ```
//!
//! prints one JSON object with the fields of `kcpq bench --json` that apply.

#![forbid(unsafe_code)]

mod load;
mod protocol;
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), path = "absent/tls.rs")]
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use protocol::Broker;

/// Load for brokers other than kcpq.
#[derive(Debug, Parser)]
struct Flags {
    /// What the broker speaks
    #[arg(value_enum)]
    broker: Broker,
    /// Where it listens
    addr: SocketAddr,
    /// Bytes of each message, 16 at least
    #[arg(long, default_value_t = 128)]
    size: usize,
    /// How long to publish
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Messages per second, due at fixed times; without it as many as it takes
    #[arg(long)]
    rate: Option<f64>,
    /// Subscribers
    #[arg(long, default_value_t = 1)]
    subs: usize,
    /// Most messages under way to the slowest subscriber
    #[arg(long, default_value_t = 10_000)]
    window: u64,
    /// File with the certificate, in PEM, that the broker's is signed by: NATS by TLS
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// How long to publish before measuring
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    warmup: Duration,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.tls_ca.is_some() && flags.broker != Broker::Nats {
        eprintln!("rivals: --tls-ca is for nats alone");
        return ExitCode::from(2);
    }
    match load::run(&flags) {
        Ok(true) => ExitCode::SUCCESS,
        // It says so in its output.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rivals: {error}");
            ExitCode::FAILURE
        }
    }
}
