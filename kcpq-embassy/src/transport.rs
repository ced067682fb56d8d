//! What a client needs from its surroundings: datagrams to and from one server, and timers.

use kcpq_core::Instant;

/// Datagrams to and from one server.
///
/// The futures need not be `Send`: a runner lives in one task.
#[allow(async_fn_in_trait)]
pub trait Transport {
    /// The error of the network stack. It is counted; KCP retransmits what was lost.
    type Error;

    /// Sends one datagram to the server. If dropped before it is ready, which happens if it takes long, the datagram may be
    /// lost.
    ///
    /// # Errors
    /// The stack's.
    async fn send(&mut self, datagram: &[u8]) -> Result<(), Self::Error>;

    /// Waits for one datagram from the server, writes it to the front of `buffer` and returns its length, or 0 if it
    /// was longer than `buffer` and has been dropped.
    ///
    /// It must be cancel-safe: if dropped before it is ready, no datagram is lost.
    ///
    /// # Errors
    /// The stack's. The runner pauses before it tries again.
    async fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error>;

    /// True if `error` says that a datagram was too long for the stack or the path: later ones are shorter then, where path
    /// MTU discovery is built in. Otherwise, or if the stack does not say, it is lost like any other.
    fn is_too_long(error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// A new conversation begins: moves to another local port, if possible. An original server distinguishes sessions
    /// by address only (PROTOCOL.md 4.1); a native one does not need this.
    ///
    /// # Errors
    /// The stack's. The runner continues with the old port.
    async fn renew(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Waits until given times, by the clock that the client was given.
#[allow(async_fn_in_trait)]
pub trait Timer {
    /// Returns at `at` or a little later; at once if that has passed. Cancel-safe.
    async fn wait_until(&mut self, at: Instant);
}
