//! What a client needs of the world: datagrams to and from one server, and timers.

use kcpq_core::Instant;

/// Datagrams to and from one server.
///
/// The futures need not be `Send`: a runner lives in one task.
#[allow(async_fn_in_trait)]
pub trait Transport {
    /// The stack's error. It is counted, and the datagram sent again if it matters.
    type Error;

    /// Sends one datagram to the server.
    ///
    /// # Errors
    /// The stack's.
    async fn send(&mut self, datagram: &[u8]) -> Result<(), Self::Error>;

    /// Waits for one datagram from the server, writes it to the front of `buffer` and returns its length. One that is
    /// longer than `buffer` is dropped; 0 says so.
    ///
    /// Has to be cancel-safe: dropped before it is ready, it has taken nothing.
    ///
    /// # Errors
    /// The stack's. The runner pauses before it tries again.
    async fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;

    /// Another conversation begins: takes another local port, if that can be done. An original server tells sessions
    /// apart by address only (PROTOCOL.md 4.1); a native one does not need it.
    ///
    /// # Errors
    /// The stack's. The runner goes on with what there is.
    async fn renew(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Waits for moments of the clock that the client was given.
#[allow(async_fn_in_trait)]
pub trait Timer {
    /// Returns at `at` or a little later, at once if that has passed. Cancel-safe.
    async fn wait_until(&mut self, at: Instant);
}
