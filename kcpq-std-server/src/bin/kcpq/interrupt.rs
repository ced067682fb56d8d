//! Signals that end a command of a client.

use std::io;

use async_io::block_on;
use async_signal::Signals;
use futures_lite::StreamExt;

use super::signals;

/// The exit code of a program that was killed by SIGINT, as shells tell it.
const KILLED: i32 = 130;

/// Waits for a signal.
pub(super) struct Interrupt(Option<Signals>);

impl Interrupt {
    /// From now on signals do not kill, but come here.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self(Some(signals::ending()?)))
    }

    /// Waits for a signal; at once after the first. The command then ends what it is about, and whoever cannot wait for that
    /// sends a second one, which kills.
    pub(super) async fn come(&mut self) {
        let Some(signals) = &mut self.0 else { return };
        signals.next().await;
        if let Some(mut signals) = self.0.take() {
            std::thread::spawn(move || {
                block_on(signals.next());
                std::process::exit(KILLED);
            });
        }
    }
}
