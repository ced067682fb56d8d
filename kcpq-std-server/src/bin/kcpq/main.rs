//! The program `kcpq`: server, publisher and subscriber for the shell, and tools. One file for each command.

#![forbid(unsafe_code)]
// `json!` takes a step for each member.
#![recursion_limit = "256"]

mod bridge;
mod context;
mod figures;
mod format;
mod header;
mod interrupt;
mod key;
mod lane;
mod log;
mod manual;
mod nats;
mod openmetrics;
mod ping;
mod preset;
mod progress;
mod publish;
mod reader;
mod reply;
mod request;
mod serve;
mod settings;
mod signals;
mod subscribe;
mod tables;
mod tools;
mod web;
mod will;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use kcpq_smol::{Address, Builder, Client, Key};

use key::SealArg;
use preset::Preset;
use tools::{bench, check, stream, top};
use will::WillArg;

/// Real-time publish/subscribe over KCP: low latency on lossy links, too.
///
/// Without a command it runs a server, as `kcpq serve` does.
#[derive(Debug, Parser)]
#[command(name = "kcpq", version = env!("KCPQ_VERSION"), after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 usage error, 3 ended before the requested count was reached, 130 killed by a \
     second signal";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server until SIGINT or SIGTERM
    #[command(alias = "server")]
    Serve(serve::Serve),
    /// Publish a message, once or again and again, or one for each line of a file
    #[command(alias = "publish")]
    Pub(publish::Publish),
    /// Subscribe and print what arrives
    #[command(alias = "subscribe")]
    Sub(subscribe::Subscribe),
    /// Ask a server whether it is there, and how far away
    #[command(alias = "rtt")]
    Ping(ping::Ping),
    /// Publish a message that asks for answers, and print these
    #[command(alias = "request")]
    Req(request::Request),
    /// Answer what is asked
    Reply(reply::Reply),
    /// Look for what keeps a server or its clients from working, and say what to do about it
    Check(check::Check),
    /// Show what the store of a server's backbone keeps
    Stream(stream::Stream),
    /// Watch a server that was started with --http, in the terminal
    Top(top::Top),
    /// Measure a server: throughput, latency, connections
    Bench(bench::Bench),
    /// Carry messages between a kcpq server and NATS until SIGINT or SIGTERM, for servers that cannot do so themselves
    Bridge(bridge::Bridge),
    /// Make keys for sealed sessions, and show their public half
    Key(key::Key),
    /// Keep how to reach a server under a name, and use it
    Context(context::Context),
    /// Print what a shell needs to complete the command line
    Completions(manual::Completions),
    /// Write man pages to a folder
    Man(manual::Pages),
}

/// The server to connect to.
#[derive(Debug, Args)]
struct ServerArg {
    /// Address of the server, HOST:PORT or kcpq://HOST:PORT; without a port 4000. Of several, separated by commas, the first
    /// that answers
    #[arg(short, long, env = "KCPQ_SERVER", default_value = "127.0.0.1:4000", value_name = "ADDR",
          value_delimiter = ',', value_parser = Address::from_str)]
    server: Vec<Address>,
    /// Use what `kcpq context add` has kept under this name [default: the selected one, if no server is named]
    #[arg(long, env = "KCPQ_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// Name of this client, as the server shows it [default: kcpq and the command]
    #[arg(long, value_name = "NAME")]
    connection_name: Option<String>,
    /// Try servers in random order
    #[arg(long)]
    shuffle: bool,
    /// Maximum time to wait for a response from the server; for large messages, from one response to the next
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// What the transport is tuned for
    #[arg(long, env = "KCPQ_PRESET", value_enum, default_value_t = Preset::Games, value_name = "PRESET")]
    preset: Preset,
    /// Send FEC parity: 30 % more bytes, fewer retransmission delays on a lossy link
    #[arg(long)]
    parity: bool,
    #[command(flatten)]
    seal: SealArg,
    #[command(flatten)]
    key: KeyArg,
}

/// The key of KCPQ v2.1's cipher. It is never a command-line argument, which other users of the machine can see.
#[derive(Debug, Args)]
struct KeyArg {
    /// File with the AES-256 key, 64 hex digits (encryption as in KCPQ v2.1); or set KCPQ_AES256_KEY_HEX
    #[arg(long, value_name = "FILE")]
    aes256_key_file: Option<PathBuf>,
}

impl KeyArg {
    /// The key, if there is one.
    fn read(&self) -> Result<Option<Key>, Failure> {
        let (digits, from) = match &self.aes256_key_file {
            Some(path) => {
                let mut text = String::new();
                // No more of it than could be a key: some files have no end.
                File::open(path)
                    .and_then(|file| file.take(MAX_KEY_FILE).read_to_string(&mut text))
                    .map_err(|error| Failure::Error(format!("cannot read {}: {error}", path.display())))?;
                (text, path.display().to_string())
            }
            None => match std::env::var(KEY_VARIABLE) {
                Ok(text) if text.is_empty() => return Ok(None),
                Ok(text) => (text, KEY_VARIABLE.into()),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(Failure::Error(format!("{KEY_VARIABLE}: {error}"))),
            },
        };
        match Key::from_hex(digits.trim()) {
            Ok(key) => Ok(Some(key)),
            Err(error) => Err(Failure::Error(format!("the key in {from} cannot be used: {error}"))),
        }
    }
}

/// Bytes of a key file that are read: the digits, with room for white space.
const MAX_KEY_FILE: u64 = 4 << 10;

/// As the original's programs call it.
const KEY_VARIABLE: &str = "KCPQ_AES256_KEY_HEX";

impl ServerArg {
    async fn connect(&self, name: &'static str) -> Result<Client, Failure> {
        // What waits for its messages is another thread anyway.
        Ok(self.builder(name)?.own_thread().connect(self.first()?).await?)
    }

    /// The same with a last will, if there is one.
    async fn connect_with(&self, name: &'static str, will: &WillArg) -> Result<Client, Failure> {
        Ok(will.apply(self.builder(name)?).connect(self.first()?).await?)
    }

    /// The server that is named first.
    fn first(&self) -> Result<Address, Failure> {
        self.server.first().cloned().ok_or_else(|| Failure::Error("no server is named".into()))
    }

    /// The options that the flags ask for.
    fn builder(&self, name: &'static str) -> Result<Builder, Failure> {
        let name = self.connection_name.as_deref().unwrap_or(name);
        let mut builder = Client::builder().name(name).timeout(self.timeout).preset(self.preset.config().into());
        for server in self.server.iter().skip(1) {
            builder = builder.or_server(server.clone());
        }
        if self.shuffle {
            builder = builder.shuffle();
        }
        if let Some(key) = self.key.read()? {
            builder = builder.compat_aes256(key);
        }
        if self.parity {
            builder = builder.parity();
        }
        self.seal.apply(builder)
    }
}

/// See the manifest. What it does with memory ThreadSanitizer cannot see.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(kcpq_races)))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a command ended, if not well.
#[derive(Debug)]
enum Failure {
    /// With this text.
    Error(String),
    /// The wait was over before the count was reached.
    Timeout(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.to_string())
    }
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    // Contexts are read only once the line is known to be in order.
    let described = match context::apply(Cli::command(), &matches) {
        Ok(described) => described,
        Err(failure) => return end(Err(failure)),
    };
    let matches = described.clone().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command.unwrap_or_else(|| Command::Serve(serve::Serve::parse_from(["kcpq"]))) {
        Command::Serve(serve) => serve.run(),
        Command::Bridge(bridge) => bridge.run(&described),
        Command::Pub(publish) => async_io::block_on(publish.run()),
        Command::Ping(ping) => async_io::block_on(ping.run()),
        Command::Bench(bench) => bench.run(),
        Command::Key(key) => key.run(),
        Command::Context(context) => context.run(&matches),
        Command::Completions(completions) => completions.run(),
        Command::Man(pages) => pages.run(),
        Command::Check(check) => async_io::block_on(check.run()),
        Command::Stream(stream) => async_io::block_on(stream.run()),
        Command::Top(top) => async_io::block_on(top.run()),
        Command::Req(request) => async_io::block_on(request.run()),
        Command::Reply(reply) => async_io::block_on(reply.run()),
        Command::Sub(subscribe) => async_io::block_on(subscribe.run()),
    };
    end(result)
}

/// Says what went wrong, and which exit code that is.
fn end(result: Result<(), Failure>) -> ExitCode {
    let (text, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Error(text)) => (text, 1),
        Err(Failure::Timeout(text)) => (text, 3),
    };
    say(&format!("kcpq: {text}"));
    ExitCode::from(code)
}

/// A line on standard error. Whoever closed it, or does not read it, does not want to know, and is not waited for.
fn say(text: &str) {
    let text = format!("{text}\n");
    let (done, said) = mpsc::channel();
    let write = move || {
        let _ = std::io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = said.recv_timeout(Duration::from_secs(1));
    }
}

/// A number of bytes as people write it: 500, 64k, 8M, 1G (powers of 1024).
fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let factor: usize = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(format!("unknown unit '{unit}': use k, M or G")),
    };
    let number: usize = digits.parse().map_err(|_| format!("'{digits}' is not a whole number"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("500"), Ok(500));
        assert_eq!(parse_size("64k"), Ok(64 << 10));
        assert_eq!(parse_size("8MiB"), Ok(8 << 20));
        assert_eq!(parse_size("1GB"), Ok(1 << 30));
        assert!(parse_size("8 apples").is_err());
        assert!(parse_size("-1").is_err());
        assert!(parse_size("99999999999G").is_err());
    }
}
