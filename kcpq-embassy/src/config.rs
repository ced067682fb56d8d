//! How a client is set up.

use kcpq_core::client;
use kcpq_core::{Duration, kcp};

/// A client's parameters. What depends on sizes (windows, lengths of datagrams, the queue) follows from those of
/// [`Resources`](crate::Resources) and need not be set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The core's.
    pub client: client::Config,
    /// For how long a received message waits for its subscription to read it, before it is passed over.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client: client::Config { kcp: kcp::Config::GAMES, ..client::Config::default() },
            patience: Duration::from_secs(5),
        }
    }
}

/// The sizes that a configuration has to fit.
#[derive(Clone, Copy)]
pub(crate) struct Fitted {
    /// The longest datagram, in bytes of UDP payload.
    pub(crate) datagram: usize,
    /// Segments each way.
    pub(crate) window: usize,
    /// Bytes of messages that may wait.
    pub(crate) queue: usize,
}

impl Config {
    /// The core's configuration, fitted to `sizes`.
    pub(crate) fn fit(&self, sizes: Fitted) -> client::Config {
        let to_u16 = |size: usize| u16::try_from(size).unwrap_or(u16::MAX);
        let (datagram, window) = (to_u16(sizes.datagram), to_u16(sizes.window));
        let mut config = self.client;
        config.max_datagram = config.max_datagram.min(datagram);
        config.native_datagram = config.native_datagram.min(datagram);
        config.kcp.send_window = config.kcp.send_window.min(window);
        config.kcp.recv_window = config.kcp.recv_window.min(window);
        config.queue = config.queue.min(sizes.queue);
        config
    }
}
