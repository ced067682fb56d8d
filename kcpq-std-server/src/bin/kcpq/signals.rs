//! Signals. Windows has Ctrl-C alone.

use std::io;

use async_signal::{Signal, Signals};

/// Those that end a program.
#[cfg(unix)]
const ENDING: &[Signal] = &[Signal::Int, Signal::Term];
#[cfg(not(unix))]
const ENDING: &[Signal] = &[Signal::Int];

/// Those that would kill a server by default and mean something else: a terminal that closes, a log that was moved away,
/// a supervisor that asks, a file that may not become longer (`LimitFSIZE=`): who writes to that has an error as well. SIGPIPE is
/// not among them because the standard library ignores it.
#[cfg(unix)]
const NOTED: &[Signal] = &[Signal::Hup, Signal::Usr1, Signal::Usr2, Signal::Xfsz];
#[cfg(not(unix))]
const NOTED: &[Signal] = &[];

/// Catches those that end a program.
///
/// # Errors
/// The system's.
pub(super) fn ending() -> io::Result<Signals> {
    Signals::new(ENDING)
}

/// Catches those that a server has to do with.
///
/// # Errors
/// The system's.
pub(super) fn of_a_server() -> io::Result<Signals> {
    Signals::new(ENDING.iter().chain(NOTED))
}

/// True if who has caused the signal is told by an error. It comes with each line of a log that may not grow, which makes one
/// that tells of it a line too many.
pub(super) fn is_told_otherwise(signal: Signal) -> bool {
    signal == Signal::Xfsz
}

/// True if the signal ends a program.
pub(super) fn ends(signal: Signal) -> bool {
    ENDING.contains(&signal)
}
