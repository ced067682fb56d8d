//! Options.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kcpq_core::cipher::Key;
use kcpq_core::client::{self, Backoff, Overflow, Parts};
use kcpq_core::datagram::{Framing, LOCAL_DATAGRAM, PATH_DATAGRAM, Protection, USUAL_DATAGRAM};
use kcpq_core::fec::header::Shards;
use kcpq_core::kcp;

use crate::address::Address;
use crate::client::Client;
use crate::error::ConnectError;
use crate::operation::Limit;
use crate::runner::{Route, Runner};
use crate::shared::Shared;

/// Options of a client.
///
/// ```no_run
/// use std::time::Duration;
///
/// use kcpq_smol::{Client, Overflow, Preset};
///
/// # async fn example() -> Result<(), kcpq_smol::ConnectError> {
/// let client = Client::builder()
///     .name("thermometer")
///     .preset(Preset::STEADY)
///     .queue(64 << 10)
///     .overflow(Overflow::DropOldest)
///     .timeout(Duration::from_secs(2))
///     .connect("telemetry.example:4000")
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    config: client::Config,
    capacity: usize,
    timeout: Duration,
    key: Option<Key>,
    datagram_chosen: bool,
}

/// Messages that may wait for one subscription, as in the original (docs/original.md 6.2).
const CAPACITY: usize = 100;
/// The same for video, where messages come in bursts.
const VIDEO_CAPACITY: usize = 10_000;

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            config: client::Config::default(),
            capacity: CAPACITY,
            timeout: Duration::from_secs(5),
            key: None,
            datagram_chosen: false,
        }
    }

    /// Default timeout of operations. 5 s unless set.
    #[must_use]
    pub fn timeout(mut self, span: Duration) -> Self {
        self.timeout = span;
        self
    }

    /// Name of the client, as reported to the server. At most 255 bytes are sent.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.config.name = name;
        self
    }

    /// Parameters of the transport: [`GAMES`](kcp::Config::GAMES) (the default), [`VIDEO`](kcp::Config::VIDEO) or
    /// [`STEADY`](kcp::Config::STEADY), or one of your own. With `VIDEO` the queue of a subscription holds 10,000
    /// messages.
    #[must_use]
    pub fn preset(mut self, preset: kcp::Config) -> Self {
        self.config.kcp = preset;
        if preset == kcp::Config::VIDEO {
            self.capacity = VIDEO_CAPACITY;
        }
        self
    }

    /// Default capacity of a subscription's queue, in messages. 100 unless set.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Capacity of the send queue, in bytes; it also holds what is published while disconnected. 1 MiB unless set.
    #[must_use]
    pub fn queue(mut self, bytes: usize) -> Self {
        self.config.queue = bytes;
        self
    }

    /// What to do with a message when the send queue is full while disconnected. Unless set, `publish` waits for room.
    #[must_use]
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.config.overflow = policy;
        self
    }

    /// How to reconnect; `None` disables it. Unless set: without limit, after 0.5 s, then every 5 to 30 s.
    #[must_use]
    pub fn reconnect(mut self, backoff: Option<Backoff>) -> Self {
        self.config.reconnect = backoff;
        self
    }

    /// Heartbeat interval, 1 ms at least. 15 s unless set. A restart of the server is noticed with the next heartbeat
    /// at the latest.
    #[must_use]
    pub fn heartbeat(mut self, span: Duration) -> Self {
        self.config.heartbeat = span.max(Duration::from_millis(1)).into();
        self
    }

    /// Maximum time for one attempt to connect. 5 s unless set.
    #[must_use]
    pub fn connect_timeout(mut self, span: Duration) -> Self {
        self.config.connect_timeout = span.into();
        self
    }

    /// The connection is lost when nothing has been received for this long. 90 s unless set.
    #[must_use]
    pub fn read_timeout(mut self, span: Duration) -> Self {
        self.config.read_timeout = span.into();
        self
    }

    /// Maximum datagram size in bytes of UDP payload, from 256 to 65,507. Unless set: 1400 towards original servers;
    /// towards native ones what path MTU discovery finds, up to 8952; 16,000 on the same machine.
    #[must_use]
    pub fn max_datagram(mut self, bytes: u16) -> Self {
        let bytes = bytes.clamp(256, 65_507);
        self.config.max_datagram = bytes;
        self.config.native_datagram = bytes;
        self.datagram_chosen = true;
        self
    }

    /// Encrypts all datagrams with the cipher of KCPQ v2.1, for servers that use it. **It does not protect against
    /// altered or replayed datagrams** (PROTOCOL.md 1.4): for compatibility only.
    #[must_use]
    pub fn compat_aes256(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Sends FEC parity, three datagrams for every ten, and asks a native server to do so, too: 30 % more bytes, fewer
    /// retransmission delays on a lossy link.
    #[must_use]
    pub fn parity(mut self) -> Self {
        self.config.framing = Framing::Parity(Shards::KCPQ);
        self
    }

    /// Sets all parameters of [`kcpq_core::client`] at once.
    #[must_use]
    pub fn config(mut self, config: client::Config) -> Self {
        self.config = config;
        self.datagram_chosen = true;
        self
    }

    /// Connects to the server at `addr`, text such as "host:port" or a `SocketAddr` ([`Address`]); ready when the server has answered. If the host
    /// has several addresses, those that refuse are skipped. Dropping the future cancels the attempt.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(self, addr: impl Into<Address>) -> Result<Client, ConnectError> {
        let limit = Limit::new(self.timeout);
        let addr = addr.into();
        let Some(resolved) = limit.bound(addr.resolve()).await else {
            return Err(ConnectError::TimedOut { addr: addr.to_string(), after: self.timeout });
        };
        let addrs = resolved.map_err(|source| ConnectError::Resolve { addr: addr.to_string(), source })?;
        self.connect_to(addr, addrs, limit).await
    }

    /// Connects to the first of `addrs` (one at least) that does not refuse.
    pub(crate) async fn connect_to(
        mut self,
        addr: Address,
        addrs: Vec<SocketAddr>,
        limit: Limit,
    ) -> Result<Client, ConnectError> {
        let local = addrs.iter().all(|addr| addr.ip().to_canonical().is_loopback());
        self.config.local = local;
        let mut route = Route::new(addrs);
        let udp = route.open().map_err(ConnectError::Socket)?;
        if !self.datagram_chosen {
            self.config.native_datagram = match local {
                true => LOCAL_DATAGRAM,
                // It would seem that the path carries what is cut into pieces, of which each may be lost.
                false if udp.socket.may_fragment() => USUAL_DATAGRAM,
                false => PATH_DATAGRAM,
            };
        }
        let seed = getrandom::u64().map_err(ConnectError::Random)?;
        let mut core = client::Client::new(self.config, seed, Parts::heap(&self.config));
        if let Some(key) = &self.key {
            let mut entropy = [0; 32];
            getrandom::fill(&mut entropy).map_err(ConnectError::Random)?;
            core = core.with_protection(Protection::compat_aes256(key, entropy));
        }
        let shared = Arc::new(Shared::new(core, self.timeout, addr.to_string()));
        let now = shared.now();
        shared.lock().core.connect(now);
        let client = Client::new(Arc::clone(&shared), self.capacity);
        smol::spawn(Runner::new(Arc::clone(&shared), udp, route).run()).detach();
        let connected = limit.wait(&shared, |state| {
            if state.connections > 0 {
                return Some(Ok(()));
            }
            match (state.closed, state.last_loss) {
                (true, Some(why)) => Some(Err(ConnectError::Failed(why))),
                _ => None,
            }
        });
        match connected.await {
            Some(Ok(())) => Ok(client),
            Some(Err(ConnectError::Failed(client::Disconnect::NoAnswer))) | None => {
                Err(ConnectError::TimedOut { addr: addr.to_string(), after: self.timeout })
            }
            Some(Err(error)) => Err(error),
        }
    }
}
