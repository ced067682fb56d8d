//! The flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use kcpq_smol::{Address, Builder, Client, Pool};

use super::payload;
use super::run::Roles;
use crate::{Failure, ServerArg, parse_size};

/// What all measurements take.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) server: ServerArg,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Show no progress bar (never shown unless standard error is a terminal)
    #[arg(long)]
    pub(super) no_progress: bool,
    /// Process ID of the server, to report its CPU time and memory (Linux)
    #[arg(long, value_name = "PID")]
    pub(super) server_pid: Option<u32>,
    /// Number of client threads [default: SMOL_THREADS if set, else 2, or 1 with --rate or for latency]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) threads: Option<u16>,
    /// Give each connection a thread, which looks for what comes for so long before it sleeps; 0s: it sleeps at once
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    spin: Option<Duration>,
}

impl Common {
    /// A connection.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        Ok(self.builder()?.connect(self.server.first()?).await?)
    }

    /// Several connections, used as one, to this server if it is another one.
    pub(super) async fn connect_pool(&self, sessions: u16, other: Option<&Address>) -> Result<Pool, Failure> {
        let server = other.cloned().map_or_else(|| self.server.first(), Ok)?;
        Ok(self.builder()?.pool(sessions.into()).connect(server).await?)
    }

    pub(super) fn builder(&self) -> Result<Builder, Failure> {
        let builder = self.server.builder("kcpq bench")?;
        Ok(match self.spin {
            Some(span) => builder.spin(span),
            None => builder,
        })
    }
}

/// What measurements with messages take.
#[derive(Debug, Args)]
pub(super) struct Load {
    #[command(flatten)]
    pub(super) common: Common,
    /// Message size; latency needs at least 16 bytes, detecting duplicates at least 8, telling runs apart at least 20
    #[arg(long, default_value = "128", value_name = "SIZE", value_parser = parse_size)]
    size: usize,
    /// Number of messages per publisher; for `sub` those that each subscriber waits for
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// How long to publish [default: 5s, without --count]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Messages per second and publisher, on a fixed schedule (open loop); latency counts from the scheduled time, so
    /// that no delay is omitted. If absent, publishers send as fast as the server accepts
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Maximum number of messages in flight: publishers wait for the slowest subscriber (closed loop), so that the
    /// server never has to drop messages for subscribers that fall behind
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    window: Option<u64>,
    /// Publishers connect to this server, subscribers to the other one: what crosses if several servers are one
    #[arg(long, value_name = "ADDR")]
    pub_server: Option<Address>,
    /// Number of publishers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pubs: Option<u16>,
    /// Number of subscribers; each receives every message, unless they are a queue group
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    subs: Option<u16>,
    /// Subscribers are members of this queue group: each message goes to one of them
    #[arg(long, value_name = "GROUP", conflicts_with = "window")]
    queue: Option<String>,
    /// Whether publishers share one connection and subscribers another
    #[arg(long, value_enum, default_value_t = Connections::Separate)]
    connections: Connections,
    /// Number of sessions that a publisher's connection has (a pool): its messages go in turn to as many subjects, SUBJECT.N,
    /// each of which has its session
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    sessions: u16,
    /// Warm-up: publish for this long before measuring
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Subject of the messages
    #[arg(long, default_value = "bench")]
    subject: String,
    /// Write the latency percentiles as an SVG plot
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Do not fail if messages are lost
    #[arg(long)]
    pub(super) allow_loss: bool,
}

/// Who uses which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Connections {
    /// One connection for all publishers, one for all subscribers
    Shared,
    /// One connection each
    Separate,
}

/// What to run, with nothing left open.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) roles: Roles,
    pub(super) pubs: u16,
    pub(super) subs: u16,
    pub(super) queue: Option<String>,
    /// The publishers' server, if it is another one.
    pub(super) pub_server: Option<Address>,
    pub(super) connections: Connections,
    /// Sessions of a publisher's connection, and so many subjects.
    pub(super) sessions: u16,
    pub(super) subject: String,
    pub(super) size: usize,
    pub(super) warmup: Duration,
    pub(super) window: Option<u64>,
    pub(super) plot: Option<PathBuf>,
    /// What each publisher does while it counts.
    pub(super) phase: Phase,
}

impl Plan {
    /// How often each message is to be delivered.
    pub(super) fn copies(&self) -> u64 {
        if self.queue.is_some() { self.subs.min(1).into() } else { self.subs.into() }
    }
}

/// How long a publisher publishes, and how fast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    /// Messages, if they are limited.
    pub(super) count: Option<u64>,
    /// Time, if it is limited.
    pub(super) duration: Option<Duration>,
    /// Messages per second; `None`: as fast as it goes.
    pub(super) rate: Option<f64>,
}

/// Without `--count` and `--duration`.
const DURATION: Duration = Duration::from_secs(5);

impl Load {
    /// Fills in what depends on the command.
    pub(super) fn plan(&self, name: &'static str, roles: Roles, pubs: u16, subs: u16) -> Result<Plan, Failure> {
        let limited = self.count.is_some() || self.duration.is_some();
        let duration = if limited { self.duration } else { Some(DURATION) };
        let phase = Phase { count: self.count, duration, rate: self.rate };
        if self.pubs.is_some() && roles == Roles::Subscribe {
            return Err(Failure::Error("--pubs: this command does not publish".into()));
        }
        if self.subs.is_some() && roles == Roles::Publish {
            return Err(Failure::Error("--subs: this command does not subscribe".into()));
        }
        if self.queue.is_some() && (roles == Roles::Publish || roles == Roles::Ask) {
            return Err(Failure::Error("--queue: this command has no subscribers that could share".into()));
        }
        if self.plot.is_some() && (self.size < payload::TIMED || !roles.receives()) {
            return Err(Failure::Error("--plot: no latency is measured".into()));
        }
        if self.pub_server.is_some() && !roles.both() {
            return Err(Failure::Error("--pub-server: needs subscribers in the same process".into()));
        }
        if self.window.is_some() && !roles.both() {
            return Err(Failure::Error("--window: needs subscribers in the same process".into()));
        }
        if self.sessions > 1 && (roles == Roles::Subscribe || roles == Roles::Ask) {
            return Err(Failure::Error("--sessions: this command publishes nothing, or to one subject".into()));
        }
        let pubs = self.pubs.unwrap_or(pubs);
        if pubs.checked_mul(self.sessions).is_none() {
            return Err(Failure::Error("--pubs, --sessions: more than 65535 sessions".into()));
        }
        let window = match (roles, self.rate) {
            // One question at a time, unless they are due at fixed times.
            (Roles::Ask, None) => self.window.or_else(|| Some(pubs.into())),
            _ => self.window,
        };
        Ok(Plan {
            name,
            roles,
            pubs,
            subs: self.subs.unwrap_or(subs),
            queue: self.queue.clone(),
            pub_server: self.pub_server.clone(),
            connections: self.connections,
            sessions: self.sessions,
            subject: self.subject.clone(),
            size: self.size,
            warmup: self.warmup,
            window,
            plot: self.plot.clone(),
            phase,
        })
    }
}

/// A number of messages per second: finite and above 0.
fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if f64::is_normal(rate) && rate > 0.0 => Ok(rate),
        _ => Err(format!("'{text}' is not a number above 0")),
    }
}
