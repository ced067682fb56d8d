//! The number of threads of smol's global executor, which reads it from the environment when it starts.
//!
//! There is one by default. At full speed publishers and subscribers would wait for each other on it; messages that travel
//! alone are better off with one than with several, which would hand them from one to the other.

use super::Failure;

const VARIABLE: &str = "SMOL_THREADS";
/// One for those who publish, one for those who subscribe.
const AT_FULL_SPEED: u16 = 2;
/// For messages that travel alone.
const ALONE: u16 = 1;

/// Sees to it that there are so many threads, or as many as serve best. To change one's own environment is unsound while other threads may read
/// it, so the program is started anew in its own place, with the variable set.
#[cfg(unix)]
pub(super) fn apply(threads: Option<u16>, alone: bool) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;

    let Some(wanted) = missing(threads, alone) else { return Ok(()) };
    let program = std::env::current_exe()?;
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(VARIABLE, wanted).exec();
    Err(Failure::Error(format!("--threads: cannot start anew: {error}")))
}

/// Sees to it that there are so many threads.
#[cfg(not(unix))]
pub(super) fn apply(threads: Option<u16>, alone: bool) -> Result<(), Failure> {
    match missing(threads, alone).filter(|_| threads.is_some()) {
        None => Ok(()),
        Some(wanted) => Err(Failure::Error(format!("--threads: set the environment variable {VARIABLE}={wanted}"))),
    }
}

/// What the variable should say and does not.
fn missing(threads: Option<u16>, alone: bool) -> Option<String> {
    let found = std::env::var(VARIABLE).ok();
    let wanted = match (threads, &found) {
        (Some(threads), _) => threads.to_string(),
        (None, Some(_)) => return None,
        (None, None) if alone => ALONE.to_string(),
        (None, None) => AT_FULL_SPEED.to_string(),
    };
    (found.as_ref() != Some(&wanted)).then_some(wanted)
}
