//! `kcpq bridge`: between a kcpq server that cannot be touched, such as an original one, and NATS.
//!
//! ```text
//!  kcpq server --> client --> to_nats: trail, map -----> uplink --> NATS
//!  kcpq server <-- client <-- to_kcpq: queue <-- map, trail <-- uplink <-- NATS
//! ```
//!
//! To the server it is a client like others, and to NATS what the backbone of a server is.

#[cfg(feature = "nats")]
mod counters;
#[cfg(feature = "nats")]
mod down;
mod file;
#[cfg(feature = "nats")]
mod http;
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "flags are the same in all builds"))]
mod map;
#[cfg(feature = "nats")]
mod queue;
#[cfg_attr(not(feature = "nats"), path = "absent.rs")]
mod run;
#[cfg(feature = "nats")]
mod shared;
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "flags are the same in all builds"))]
mod trail;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;
use std::{env, panic};

use clap::{ArgGroup, Command, Parser};
use kcpq_core::subject::{Limits, Pattern};
use tracing_subscriber::filter::Targets;

use self::file::Reread;
use self::map::Rule;
use super::nats::NatsServers;
use super::serve::logging::{self, Format, Logging};
use super::serve::{LAST_LINES, http as monitoring};
use super::{Failure, ServerArg, context, parse_size, settings};

/// The flags of `kcpq bridge`.
#[derive(Debug, Parser)]
#[command(
    group = ArgGroup::new("directions").args(["to_nats", "to_kcpq", context::FILE]).required(true).multiple(true),
    group = ArgGroup::new("backbone").args(["nats", context::FILE]).required(true).multiple(true),
)]
#[cfg_attr(not(feature = "nats"), allow(dead_code, reason = "flags are the same in all builds"))]
pub(super) struct Bridge {
    /// Configuration file (TOML). Flags win over the environment, and both over the file, which wins over a context. It is read
    /// again at SIGHUP
    #[arg(id = context::FILE, short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check what is said, print what would be in force and where it was said, and exit
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    server: ServerArg,
    #[command(flatten)]
    nats: Box<NatsServers>,
    /// Patterns of subjects at the kcpq server that are handed to NATS, separated by spaces. What begins with $ has to be named
    #[arg(long, value_name = "PATTERNS", value_delimiter = ' ', value_parser = parse_pattern)]
    to_nats: Vec<Box<str>>,
    /// Patterns of subjects at NATS that are handed to the kcpq server, likewise
    #[arg(long, value_name = "PATTERNS", value_delimiter = ' ', value_parser = parse_pattern)]
    to_kcpq: Vec<Box<str>>,
    /// What the one pattern matches at the kcpq server is called as the other one says at NATS, and the other way round, as in
    /// telemetry.>=site.7.telemetry.>; both have the same wildcards in the same order. May be given several times: the first that
    /// fits counts, and what none fits keeps its name
    #[arg(long, value_name = "KCPQ=NATS")]
    map: Vec<Rule>,
    /// Name of what is between this kcpq server and this NATS: a message crosses what is called the same once. Bridges that
    /// stand side by side have the same, all others another one [default: the first address of the kcpq server]
    #[arg(long, value_name = "NAME", value_parser = trail::parse_link)]
    link: Option<String>,
    /// Maximum size of the messages that wait while the kcpq server is away, or slow; the oldest make room
    #[arg(long, default_value = "8M", value_name = "SIZE", value_parser = parse_size)]
    kcpq_buffer: usize,
    /// Maximum time to hand over what waits when stopping, for each side
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    linger: Duration,
    // Not `http`: that is where a context says that others listen.
    /// Answer over HTTP there, /healthz and /metrics: HOST:PORT, or a port alone for this machine
    #[arg(id = "monitoring", long = "http", value_name = "ADDR", value_parser = monitoring::parse)]
    monitoring: Option<String>,
    /// Do so for everybody who can reach the address given by --http
    #[arg(long)]
    http_open: bool,
    /// Log level: off, error, warn, info, debug or trace; also by where lines are from, as warn,kcpq_std_server=debug
    #[arg(long, env = "RUST_LOG", default_value = "info", value_name = "LEVEL", value_parser = logging::parse_level)]
    log_level: Targets,
    /// What lines of the log look like
    #[arg(long, value_enum, default_value_t = Format::Auto, value_name = "FORMAT")]
    log_format: Format,
}

impl Bridge {
    /// Carries messages until a signal comes, or something fails. `described` are the flags of the whole program.
    pub(super) fn run(self, described: &Command) -> Result<(), Failure> {
        // Behind the name of the program and the command.
        let reread = Reread { described, arguments: env::args_os().skip(2).collect(), path: self.config };
        let (bridge, mut values) = reread.load().map_err(Failure::Error)?;
        if bridge.check {
            bridge.prepare()?;
            io::stdout().write_all(settings::describe(&values).as_bytes())?;
            return Ok(());
        }
        let Logging { log, flood, set_level } = Logging::start(bridge.log_level.clone(), bridge.log_format)?;
        // The usual way would wait for standard error.
        panic::set_hook(Box::new(|info| tracing::error!("{info}")));
        let result = bridge.carry(&flood, || reread.again(&mut values, &set_level));
        flood.tell();
        log.finish(LAST_LINES);
        result
    }
}

/// A pattern of subjects.
fn parse_pattern(text: &str) -> Result<Box<str>, String> {
    let limits = Limits { max_tokens: u8::MAX, ..Limits::DEFAULT };
    Pattern::new(text, &limits).map(|_| text.into()).map_err(|error| error.to_string())
}
