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

    /// How long operations wait unless told otherwise; five seconds.
    #[must_use]
    pub fn timeout(mut self, span: Duration) -> Self {
        self.timeout = span;
        self
    }

    /// What the client calls itself towards the server.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.config.name = name;
        self
    }

    /// The transport's parameters, for instance [`GAMES`](kcp::Config::GAMES) (the default),
    /// [`VIDEO`](kcp::Config::VIDEO) or [`STEADY`](kcp::Config::STEADY). With video's, 10,000 messages may wait for each
    /// subscription.
    #[must_use]
    pub fn preset(mut self, preset: kcp::Config) -> Self {
        self.config.kcp = preset;
        if preset == kcp::Config::VIDEO {
            self.capacity = VIDEO_CAPACITY;
        }
        self
    }

    /// How many messages may wait for each subscription; 100.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// Bytes of messages that may wait to be sent, for instance while there is no connection; 1 MiB.
    #[must_use]
    pub fn queue(mut self, bytes: usize) -> Self {
        self.config.queue = bytes;
        self
    }

    /// What happens to a message when the queue is full and there is no connection; `publish` waits.
    #[must_use]
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.config.overflow = policy;
        self
    }

    /// How to reconnect; `None`: not at all. Without limit, first after half a second, then 5 to 30 s.
    #[must_use]
    pub fn reconnect(mut self, backoff: Option<Backoff>) -> Self {
        self.config.reconnect = backoff;
        self
    }

    /// How often the server is asked whether it is there, one millisecond at least; 15 s. A server that was restarted is noticed at the latest
    /// then.
    #[must_use]
    pub fn heartbeat(mut self, span: Duration) -> Self {
        self.config.heartbeat = span.max(Duration::from_millis(1)).into();
        self
    }

    /// How long a server has to answer one attempt to connect; 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, span: Duration) -> Self {
        self.config.connect_timeout = span.into();
        self
    }

    /// How long the server may be silent; 90 s.
    #[must_use]
    pub fn read_timeout(mut self, span: Duration) -> Self {
        self.config.read_timeout = span.into();
        self
    }

    /// The longest datagram, in bytes of UDP payload, from 256 to 65,507. Otherwise 1400 towards original servers, towards
    /// native ones on other machines what the path is found to carry, up to 8952, and on this machine 16,000.
    #[must_use]
    pub fn max_datagram(mut self, bytes: u16) -> Self {
        let bytes = bytes.clamp(256, 65_507);
        self.config.max_datagram = bytes;
        self.config.native_datagram = bytes;
        self.datagram_chosen = true;
        self
    }

    /// Seals all datagrams with the cipher of KCPQ v2.1, for servers that have a key. **It keeps nobody from altering or
    /// repeating datagrams**: for compatibility only.
    #[must_use]
    pub fn compat_aes256(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Sends FEC parity, three datagrams for each ten, and asks a native server for the same: 30 % more bytes for
    /// fewer waits on a link that loses some.
    #[must_use]
    pub fn parity(mut self) -> Self {
        self.config.framing = Framing::Parity(Shards::KCPQ);
        self
    }

    /// All of the core's parameters at once.
    #[must_use]
    pub fn config(mut self, config: client::Config) -> Self {
        self.config = config;
        self.datagram_chosen = true;
        self
    }

    /// Connects to the server at `addr`: "host:port", or a `SocketAddr`; ready when it has answered. Of several addresses
    /// that a host has, those that refuse are passed over. Dropped before it is ready, nothing stays.
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

    /// Connects to the first of `addrs` that does not refuse; there is one at least.
    pub(crate) async fn connect_to(
        mut self,
        addr: Address,
        addrs: Vec<SocketAddr>,
        limit: Limit,
    ) -> Result<Client, ConnectError> {
        let local = addrs.iter().all(|addr| addr.ip().to_canonical().is_loopback());
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
