//! The program `kcpq`.

use std::process::Command;

/// The program, whatever the environment of the tests says about servers and keys.
pub(crate) fn kcpq() -> Command {
    alone(Command::new(env!("CARGO_BIN_EXE_kcpq")))
}

/// The same, started by a shell that sees to `first`.
#[cfg(unix)]
pub(crate) fn kcpq_after(first: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{first} exec \"$0\" \"$@\"")).arg(env!("CARGO_BIN_EXE_kcpq"));
    alone(command)
}

fn alone(mut command: Command) -> Command {
    const SAID: [&str; 14] = [
        "KCPQ_NATS",
        "KCPQ_NATS_LEAF",
        "KCPQ_HTTP",
        "KCPQ_CONFIG",
        "KCPQ_SERVER",
        "KCPQ_AES256_KEY_HEX",
        "KCP_NATS_ADDR",
        "KCPQ_SERVER_KEY",
        "KCPQ_KEY_FILE",
        "KCPQ_SECRET_FILE",
        "KCPQ_PRESET",
        "RUST_LOG",
        "KCPQ_CONTEXT",
        "KCPQ_TOKEN_FILE",
    ];
    for variable in SAID {
        command.env_remove(variable);
    }
    // Nothing of a test is to be found in the home of who runs it, nor the other way round.
    command.env("KCPQ_REGISTER", "none").env("XDG_CONFIG_HOME", "/nonexistent");
    command
}
