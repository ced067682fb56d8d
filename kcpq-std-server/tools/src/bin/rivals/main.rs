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
mod measure;
mod protocol;
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), path = "absent/tls.rs")]
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use measure::Work;
use protocol::Broker;

/// Load for brokers other than kcpq.
#[derive(Debug, Parser)]
struct Flags {
    /// What the broker speaks
    #[arg(value_enum)]
    broker: Broker,
    /// Where it listens
    addr: SocketAddr,
    #[command(flatten)]
    work: Work,
    /// File with the certificate, in PEM, that the broker's is signed by: NATS by TLS
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
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
