//! A flood of forged first datagrams of sealed handshakes (PROTOCOL.md 10.3), to see what else a server still does: for
//! `scripts/flood`, which has a real client connect meanwhile. To servers on this machine alone.
//!
//! ```sh
//! cargo run --release -p kcpq-tools --bin flood -- 127.0.0.1:4000 --server-key kcpq-public-... --kind signed
//! ```
//!
//! prints one JSON object: what was sent in what time.

#![forbid(unsafe_code)]

mod forge;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use kcpq_core::rng::Rng;
use kcpq_core::seal::PublicKey;

use forge::{Forger, Kind};

/// Sends forged first datagrams to a server on this machine.
#[derive(Clone, Debug, Parser)]
struct Flags {
    /// Where the server listens: an IPv4 address of this machine, 127.x.x.x
    addr: SocketAddr,
    /// The server's public key, which anybody may know
    #[arg(long)]
    server_key: PublicKey,
    /// What the datagrams are
    #[arg(long, value_enum)]
    kind: Kind,
    /// Datagrams per second, in all
    #[arg(long, default_value_t = 100_000)]
    rate: u32,
    /// How long
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Addresses they come from, each with a port of its own: 127.0.1.0 and those that follow
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    sources: u16,
    /// Threads that send
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
}

/// Datagrams that a thread sends before it looks at the clock.
const BURST: u64 = 32;

fn main() -> ExitCode {
    let flags = Flags::parse();
    if !flags.addr.ip().is_loopback() || !flags.addr.is_ipv4() {
        eprintln!("flood: {} is not an address 127.x.x.x; it is for servers on this machine alone", flags.addr);
        return ExitCode::from(2);
    }
    match run(&flags) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> std::io::Result<serde_json::Value> {
    let sockets: Vec<_> = (0..flags.sources).map(source).collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let (sent, failed) = thread::scope(|scope| {
        let share = sockets.len().div_ceil(flags.threads as usize);
        let threads: Vec<_> = sockets.chunks(share).zip(0..).collect();
        let rate = f64::from(flags.rate) / threads.len() as f64;
        let threads = threads.into_iter().map(|(sockets, seed)| scope.spawn(move || send(flags, sockets, seed, rate)));
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    });
    let seconds = begun.elapsed().as_secs_f64();
    let kind = format!("{:?}", flags.kind).to_lowercase();
    Ok(serde_json::json!({
        "kind": kind, "sent": sent, "failed": failed, "seconds": seconds, "per_s": sent as f64 / seconds,
    }))
}

/// A socket at the address of this number. What is answered there nobody reads.
fn source(index: u16) -> std::io::Result<UdpSocket> {
    let [high, low] = index.to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 1 + high, low), 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sends as many as are due. Gives how many went, and how many the system did not take.
fn send(flags: &Flags, sockets: &[UdpSocket], seed: u64, rate: f64) -> (u64, u64) {
    let mut forger = Forger::new(flags.kind, &flags.server_key, Rng::with_seed(seed));
    let (mut sent, mut failed) = (0, 0);
    let begun = Instant::now();
    for socket in sockets.iter().cycle() {
        let elapsed = begun.elapsed();
        if elapsed >= flags.duration {
            break;
        }
        let ahead = (sent + failed) as f64 / rate - elapsed.as_secs_f64();
        if ahead > 0.0 {
            thread::sleep(Duration::from_secs_f64(ahead));
        }
        for _ in 0..BURST {
            match socket.send_to(forger.next(), flags.addr) {
                Ok(_) => sent += 1,
                Err(_) => failed += 1,
            }
        }
    }
    (sent, failed)
}
