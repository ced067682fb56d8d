//! The configuration of a client.

use kcpq_core::client;
use kcpq_core::{Duration, kcp};

/// The parameters of a client. Those that depend on sizes (windows, datagrams, the queue) are set from the sizes of
/// [`Resources`](crate::Resources).
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Parameters of [`kcpq_core::client`].
    pub client: client::Config,
    /// Read timeout of subscriptions: a received message that its subscription has not read after this long is skipped.
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
    /// Maximum datagram size in bytes of UDP payload.
    pub(crate) datagram: usize,
    /// Window in segments, each way.
    pub(crate) window: usize,
    /// Capacity of the send queue in bytes.
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
