//! The program `kcpq`.

use std::process::Command;

/// The program, whatever the environment of the tests says about servers and keys.
pub(crate) fn kcpq() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kcpq"));
    for variable in ["KCPQ_CONFIG", "KCPQ_SERVER", "KCPQ_AES256_KEY_HEX", "KCP_NATS_ADDR"] {
        command.env_remove(variable);
    }
    command
}
