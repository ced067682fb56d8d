//! The program `kcpq`: server, and a publisher and subscriber for the shell.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
