//! The number of threads of smol's global executor, which reads it from the environment when it starts.
//!
//! There is one by default, on which publishers and subscribers would wait for each other.

use super::Failure;

const VARIABLE: &str = "SMOL_THREADS";
/// One for those who publish, one for those who subscribe.
const THREADS: u16 = 2;

/// Sees to it that there are so many threads. To change one's own environment is unsound while other threads may read
/// it, so the program is started anew in its own place, with the variable set.
#[cfg(unix)]
pub(super) fn apply(threads: Option<u16>) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;

    let Some(wanted) = missing(threads) else { return Ok(()) };
    let program = std::env::current_exe()?;
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(VARIABLE, wanted).exec();
    Err(Failure::Error(format!("--threads: cannot start anew: {error}")))
}

/// Sees to it that there are so many threads.
#[cfg(not(unix))]
pub(super) fn apply(threads: Option<u16>) -> Result<(), Failure> {
    match missing(threads).filter(|_| threads.is_some()) {
        None => Ok(()),
        Some(wanted) => Err(Failure::Error(format!("--threads: set the environment variable {VARIABLE}={wanted}"))),
    }
}

/// What the variable should say and does not.
fn missing(threads: Option<u16>) -> Option<String> {
    let found = std::env::var(VARIABLE).ok();
    let wanted = match (threads, &found) {
        (Some(threads), _) => threads.to_string(),
        (None, Some(_)) => return None,
        (None, None) => THREADS.to_string(),
    };
    (found.as_ref() != Some(&wanted)).then_some(wanted)
}
