//! The program `kcpq`.

use std::process::Command;

/// The program, whatever the environment of the tests says about servers and keys.
pub(crate) fn kcpq() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
    const SAID: [&str; 13] = [
        "KCPQ_NATS",
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
