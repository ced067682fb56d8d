//! The command line: one file for each command.

mod publish;
mod serve;
mod subscribe;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Publish/subscribe over KCP: early even when the link is bad.
///
/// Without a command it serves, as `kcpq serve` does.
#[derive(Debug, Parser)]
#[command(name = "kcpq", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the wait was over before the count was reached";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server until SIGINT or SIGTERM
    Serve(serve::Serve),
    /// Publish one message
    Pub(publish::Publish),
    /// Subscribe and print what arrives
    Sub(subscribe::Subscribe),
}

/// Which server to talk to.
#[derive(Debug, Args)]
struct ServerArg {
    /// Address of the server, host:port
    #[arg(short, long, env = "KCPQ_SERVER", default_value = "127.0.0.1:4000", value_name = "ADDR")]
    server: String,
    /// How long to wait for the server's answer
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: std::time::Duration,
}

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

/// Reads the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or_else(|| Command::Serve(serve::Serve::parse_from(["kcpq"]))) {
        Command::Serve(serve) => serve.run(),
        Command::Pub(publish) => async_io::block_on(publish.run()),
        Command::Sub(subscribe) => async_io::block_on(subscribe.run()),
    };
    let (text, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Error(text)) => (text, 1),
        Err(Failure::Timeout(text)) => (text, 3),
    };
    // Whoever closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "kcpq: {text}");
    ExitCode::from(code)
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
