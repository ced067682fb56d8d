//! `kcpq serve`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use async_signal::{Signal, Signals};
use clap::{Parser, ValueEnum};
use futures_lite::StreamExt;
use kcpq_core::broker::{self, SlowConsumer};
use kcpq_core::datagram::{Framing, PATH_DATAGRAM, USUAL_DATAGRAM};
use kcpq_core::fec::header::Shards;
use kcpq_core::kcp::{self, CongestionControl};
use kcpq_std_server::{Config, Server};
use tracing::level_filters::LevelFilter;

use super::{Failure, KeyArg, parse_size};

/// The flags of `kcpq serve`.
#[derive(Debug, Parser)]
pub(super) struct Serve {
    /// Where to listen
    #[arg(short, long, env = "KCP_NATS_ADDR", default_value = "0.0.0.0:4000", value_name = "ADDR",
          value_parser = parse_listen)]
    listen: SocketAddr,
    /// Threads that serve, each with clients of its own, or auto for one on each processor; more than one needs Linux
    #[arg(long, default_value = "1", value_name = "N", value_parser = parse_shards)]
    shards: usize,
    /// What the server calls itself towards its clients
    #[arg(long, default_value = "kcpq")]
    name: String,
    /// Most sessions
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    max_sessions: usize,
    /// Most sessions from one address
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    max_sessions_per_host: usize,
    /// Most subscriptions of one session
    #[arg(long, default_value_t = 65_536, value_name = "N")]
    max_subscriptions: usize,
    /// Largest message with its subject
    #[arg(long, default_value = "8M", value_name = "SIZE", value_parser = parse_size)]
    max_message: usize,
    /// Deepest subject, in tokens
    #[arg(long, default_value_t = 32, value_name = "N")]
    max_tokens: u8,
    /// Most bytes that wait for one subscriber
    #[arg(long, default_value = "32M", value_name = "SIZE", value_parser = parse_size)]
    max_queued: usize,
    /// Most bytes that wait for all subscribers together
    #[arg(long, default_value = "1G", value_name = "SIZE", value_parser = parse_size)]
    max_queued_total: usize,
    /// What happens to a message for a subscriber whose queue is full
    #[arg(long, value_enum, default_value_t = Slow::DropNewest, value_name = "POLICY")]
    slow_consumer: Slow,
    /// How long a session may be silent
    #[arg(long, default_value = "120s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    idle_timeout: Duration,
    /// How long a stopping server waits for what is still under way
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    linger: Duration,
    /// Longest datagram towards other machines, in bytes of UDP payload; towards native clients as much of it is used as
    /// the path is found to carry, towards original ones 1400 at most
    #[arg(long, default_value_t = PATH_DATAGRAM, value_name = "BYTES",
          value_parser = clap::value_parser!(u16).range(256..=9_000))]
    max_datagram: u16,
    #[command(flatten)]
    key: KeyArg,
    /// Send FEC parity to original clients: 30 % more bytes for fewer waits on a link that loses some
    #[arg(long)]
    compat_parity: bool,
    /// What holds the server's sending back towards other machines
    #[arg(long, value_enum, default_value_t = Congestion::Rate, value_name = "CONTROL")]
    congestion: Congestion,
    /// Most repairs for each small message on links that lose some, in percent; 0 sends nothing that is not lost
    #[arg(long, default_value_t = 100, value_name = "PERCENT")]
    redundancy: u16,
    /// What to log: off, error, warn, info, debug or trace
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: LevelFilter,
}

/// [`SlowConsumer`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Slow {
    /// Drop the new message
    DropNewest,
    /// Drop the oldest that waits
    DropOldest,
    /// Close the subscriber's session
    Disconnect,
}

/// [`CongestionControl`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Congestion {
    /// Fill a link without filling its queue, whatever it loses (after BBR)
    Rate,
    /// KCP's own window, which halves on loss
    Kcp,
    /// Nothing, as the original: for links that are known to be wide enough
    Off,
}

/// An address to listen on; `:4000` is taken as the original's programs do.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.into() };
    full.parse().map_err(|_| format!("'{text}' is no address to listen on; give IP:PORT, such as 0.0.0.0:4000"))
}

/// A number of shards.
fn parse_shards(text: &str) -> Result<usize, String> {
    let most = Config::MAX_SHARDS;
    if text == "auto" {
        return Ok(std::thread::available_parallelism().map_or(1, |count| count.get().min(most)));
    }
    match text.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(count),
        _ => Err(format!("'{text}' is no number of shards; give 1 to {most}, or auto")),
    }
}

impl Serve {
    /// Serves until a signal comes.
    pub(super) fn run(self) -> Result<(), Failure> {
        tracing_subscriber::fmt()
            .with_max_level(self.log_level)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        // Before the first client can come, so that a signal is never missed.
        let mut signals = Signals::new([Signal::Int, Signal::Term])?;
        let server = Server::bind(self.config()?)?;
        // For scripts that wait for it.
        println!("listening on {}", server.local_addr());
        std::io::stdout().flush()?;
        let signal = async_io::block_on(signals.next());
        tracing::info!(?signal, "stopping");
        server.shutdown();
        Ok(())
    }

    fn config(&self) -> Result<Config, Failure> {
        let defaults = broker::Config::default();
        let max_body = u32::try_from(self.max_message)
            .map_err(|_| Failure::Error(format!("--max-message {}: at most 4 GiB", self.max_message)))?;
        Ok(Config {
            listen: self.listen,
            shards: self.shards,
            compat_key: self.key.read()?,
            broker: broker::Config {
                name: self.name.as_str().into(),
                max_sessions: self.max_sessions,
                max_sessions_per_host: self.max_sessions_per_host,
                max_subscriptions: self.max_subscriptions,
                frames: kcpq_core::frame::Limits { max_body, ..defaults.frames },
                subjects: kcpq_core::subject::Limits { max_tokens: self.max_tokens, ..defaults.subjects },
                max_queued: self.max_queued,
                max_queued_total: self.max_queued_total,
                slow_consumer: match self.slow_consumer {
                    Slow::DropNewest => SlowConsumer::DropNewest,
                    Slow::DropOldest => SlowConsumer::DropOldest,
                    Slow::Disconnect => SlowConsumer::Disconnect,
                },
                max_datagram: self.max_datagram.min(USUAL_DATAGRAM),
                native_datagram: self.max_datagram,
                idle_timeout: self.idle_timeout.into(),
                kcp: kcp::Config {
                    congestion: match self.congestion {
                        Congestion::Rate => CongestionControl::Bbr,
                        Congestion::Kcp => CongestionControl::Kcp,
                        Congestion::Off => CongestionControl::Off,
                    },
                    redundancy: self.redundancy,
                    ..defaults.kcp
                },
                linger: self.linger.into(),
                compat_framing: if self.compat_parity {
                    Framing::Parity(Shards::KCPQ)
                } else {
                    defaults.compat_framing
                },
                ..defaults
            },
        })
    }
}
