//! Options.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kcpq_core::DEFAULT_PORT;
use kcpq_core::cipher::Key;
use kcpq_core::client::{self, Disconnect, Overflow, Parts};
use kcpq_core::datagram::{Framing, Protection};
use kcpq_core::fec::header::Shards;
use kcpq_core::hello::CloseReason;
use kcpq_core::seal::{Cipher, PrivateKey, PublicKey, SharedSecret, Token};
use kcpq_udp::Socket;

use crate::address::{Address, AddressError};
use crate::client::Client;
use crate::error::ConnectError;
use crate::events::Announcer;
use crate::operation::Limit;
use crate::own::Own;
use crate::paths::Paths;
use crate::place::{Place, Task};
use crate::pool::PoolBuilder;
use crate::preset::{Backoff, Preset};
use crate::queue::Capacity;
use crate::route::{Longest, Resolver, Route};
use crate::runner::Runner;
use crate::seal::{Seal, SealedBy};
use crate::shared::Shared;
use crate::will::Will;

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
    name: Option<String>,
    will: Option<Will>,
    capacity: Capacity,
    /// How long operations wait, if the user says so.
    timeout: Option<Duration>,
    key: Option<Key>,
    seal: Seal,
    datagram: Option<u16>,
    others: Vec<Address>,
    shuffle: bool,
    background: bool,
    place: Place,
    resolver: Resolver,
}

/// How long operations wait unless the user says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            config: client::Config { early: false, ..client::Config::default() },
            name: None,
            will: None,
            capacity: Capacity::DEFAULT,
            timeout: None,
            key: None,
            seal: Seal::default(),
            datagram: None,
            others: Vec::new(),
            shuffle: false,
            background: false,
            place: Place::Global,
            resolver: Resolver::default(),
        }
    }

    /// Default timeout of operations. 5 s unless set; subscribing then waits for all its attempts
    /// ([`Subscribe`](crate::Subscribe)).
    #[must_use]
    pub fn timeout(mut self, span: Duration) -> Self {
        self.timeout = Some(span);
        self
    }

    /// Name of the client, as reported to the server. At most 255 bytes are sent.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Last will of the client: a message that the server publishes if the session ends without that the client has closed
    /// it. [`Event::WillRefused`](crate::Event::WillRefused) says if the server does not take it; with a will the first listener
    /// to [`events`](Client::events) hears them from the beginning.
    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// Parameters of the transport: [`GAMES`](Preset::GAMES) (the default), [`VIDEO`](Preset::VIDEO) or
    /// [`STEADY`](Preset::STEADY), or one of your own. Nothing else that was set changes with it.
    #[must_use]
    pub fn preset(mut self, preset: Preset) -> Self {
        self.config.kcp = preset.0;
        self
    }

    /// Default capacity of a subscription's queue, in messages. 65,536 unless set, so that a burst has room.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity.messages = messages;
        self
    }

    /// The same in bytes of subjects and payloads, and 7 for each message. 64 MiB unless set.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.capacity.bytes = bytes;
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

    /// How to reconnect; `None` disables it. Unless set: without limit, after 0.4 s, then every 4 s,
    /// each time times 0.5 to 1.5.
    #[must_use]
    pub fn reconnect(mut self, backoff: Option<Backoff>) -> Self {
        self.config.reconnect = backoff.map(client::Backoff::from);
        self
    }

    /// Heartbeat interval, 1 ms at least. 15 s unless set. A restart of the server, if it does not tell of it, is
    /// noticed with the next heartbeat at the latest.
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
        self.datagram = Some(bytes);
        self
    }

    /// Encrypts all datagrams with the cipher of KCPQ v2.1, for servers that use it. **It does not protect against
    /// altered or replayed datagrams** (PROTOCOL.md 1.4): for compatibility only.
    #[must_use]
    pub fn compat_aes256(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// The public key of the server, as `kcpq key public` prints it: sessions are sealed (PROTOCOL.md 10), so that nobody else
    /// reads, alters or repeats anything, and with no other server there is one. Without an [`identity`](Self::identity) the
    /// client is anonymous.
    #[must_use]
    pub fn server_key(mut self, key: PublicKey) -> Self {
        self.seal.server = Some(key);
        self
    }

    /// The client's own key, by which the server knows it; together with [`server_key`](Self::server_key).
    #[must_use]
    pub fn identity(mut self, key: PrivateKey) -> Self {
        self.seal.identity = Some(key);
        self
    }

    /// A token, by which the server knows the client, which shows it to nobody else; together with
    /// [`server_key`](Self::server_key), in place of an [`identity`](Self::identity).
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.seal.token = Some(token);
        self
    }

    /// A secret that the server has as well, in place of keys: sessions are sealed. Whoever has it is let in, and can be the
    /// server.
    #[must_use]
    pub fn secret(mut self, secret: SharedSecret) -> Self {
        self.seal.secret = Some(secret);
        self
    }

    /// Sends FEC parity, three datagrams for every ten, and asks a native server to do so, too: 30 % more bytes, fewer
    /// retransmission delays on a lossy link.
    #[must_use]
    pub fn parity(mut self) -> Self {
        self.config.framing = Framing::Parity(Shards::KCPQ);
        self
    }

    /// Sets all parameters of [`kcpq_core::client`], which this crate exports, at once.
    #[must_use]
    pub fn config(mut self, config: client::Config) -> Self {
        self.config = config;
        self.datagram = Some(config.native_datagram);
        self
    }

    /// Runs the client's background task on a thread of its own, so that nothing that the program's tasks do, such as to
    /// block, keeps it from its timers; it takes three files more, and its timers are true to the millisecond. Unless set, it
    /// runs on smol's global executor ([what that means](crate#threads)).
    #[must_use]
    pub fn own_thread(self) -> Self {
        self.spin(Duration::ZERO)
    }

    /// The same with a thread that, after each thing that it had to do, looks for the next one for so long before it
    /// sleeps. To wake a sleeping thread takes tens of microseconds, which messages that travel alone need not wait for. **It
    /// takes a processor all the time** if messages come more often than that, so there have to be more processors than
    /// threads that spin. What others wait for on their own threads is woken as ever.
    #[must_use]
    pub fn spin(mut self, span: Duration) -> Self {
        self.place = Place::Thread(span);
        self
    }

    /// Runs the client's background task by `spawn`, for instance on an executor of the program:
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// # async fn example() -> Result<(), kcpq_smol::ConnectError> {
    /// let executor = Arc::new(smol::Executor::new());
    /// let mine = Arc::clone(&executor);
    /// let builder = kcpq_smol::Client::builder().executor(move |task| mine.spawn(task).detach());
    /// let client = executor.run(builder.connect("telemetry.example:4000")).await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn executor(mut self, spawn: impl Fn(Task) + Send + Sync + 'static) -> Self {
        self.place = Place::Given(Arc::new(spawn));
        self
    }

    #[cfg(test)]
    pub(crate) fn resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = resolver;
        self
    }

    /// Adds a server to try, after the one to connect to and those that were added before. What they serve has to be the
    /// same: the client stays with the one that answers until it is lost, and then tries that one first.
    #[must_use]
    pub fn or_server(mut self, addr: impl Into<Address>) -> Self {
        self.others.push(addr.into());
        self
    }

    /// Tries servers in random order, so that many clients spread over them. As given unless set.
    #[must_use]
    pub fn shuffle(mut self) -> Self {
        self.shuffle = true;
        self
    }

    /// Several `sessions`, one at least, in place of one, for who publishes more than one carries: see [`Pool`](crate::Pool). Each has all that
    /// these options say, its own queue and, with [`own_thread`](Self::own_thread), its own thread; but there is one
    /// [will](Self::will). Of several servers each session finds its own.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = kcpq_smol::Client::builder().own_thread().pool(4).connect("telemetry.example:4000").await?;
    /// pool.publish("sensor.7", "21.5").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pool(self, sessions: usize) -> PoolBuilder {
        PoolBuilder::new(self, sessions)
    }

    /// The same without a will.
    pub(crate) fn without_will(mut self) -> Self {
        self.will = None;
        self
    }

    /// Connects to the server at `addr`, text such as "host:port" or a `SocketAddr` ([`Address`]); ready when the server
    /// has answered. Dropping the future cancels the attempt.
    ///
    /// Of several addresses, of a name or of several servers, each is tried when the one before it has refused or has not
    /// answered for 250 ms, and the first that answers is taken (RFC 8305). After a loss names are looked up again before
    /// each attempt; what they stood for before stays when that fails.
    ///
    /// # Errors
    /// [`ConnectError`]; at once where the system says that nobody listens at any of the addresses, and otherwise when no
    /// server has answered in time.
    pub async fn connect(self, addr: impl Into<Address>) -> Result<Client, ConnectError> {
        let limit = Limit::new(self.patience());
        let (servers, shown) = self.servers(addr.into())?;
        let Some(found) = limit.bound(self.resolver.look_up(servers.clone())).await else {
            return Err(ConnectError::TimedOut { addr: shown, after: self.patience() });
        };
        let addrs = found.map_err(|source| ConnectError::Resolve { addr: shown.clone(), source })?;
        self.connect_to(servers, addrs, limit).await
    }

    /// Connects to the first of `addrs` (one at least) that answers.
    pub(crate) async fn connect_to(
        self,
        servers: Vec<Address>,
        addrs: Vec<SocketAddr>,
        limit: Limit,
    ) -> Result<Client, ConnectError> {
        let (timeout, shown) = (self.patience(), list(&servers));
        let client = self.start(servers, addrs)?;
        let silence = |addr| match client.sealed_by() {
            Some(by) => ConnectError::Unanswered { addr, after: timeout, by: *by },
            None => ConnectError::TimedOut { addr, after: timeout },
        };
        let connected = limit.wait(client.shared(), |state| {
            if state.connections > 0 {
                return Some(Ok(()));
            }
            if state.refused {
                return Some(Err(ConnectError::Refused { addr: shown.clone() }));
            }
            match (state.closed, state.last_loss) {
                // Who is not let in will not be let in by the next attempt.
                (_, Some(why @ Disconnect::ByServer(CloseReason::Denied))) | (true, Some(why)) => {
                    Some(Err(ConnectError::Failed(why)))
                }
                _ => None,
            }
        });
        let connected = connected.await;
        let last_loss = client.shared().lock().last_loss;
        match connected {
            Some(Ok(())) => Ok(client),
            Some(Err(ConnectError::Failed(Disconnect::NoAnswer))) => Err(silence(shown)),
            Some(Err(error)) => Err(error),
            None => Err(match last_loss {
                None | Some(Disconnect::NoAnswer) => silence(shown),
                Some(why) => ConnectError::Failed(why),
            }),
        }
    }

    /// A client at once, which connects in the background: for services that may start before their server, or before the
    /// network. What is published meanwhile waits in the send queue, and [`subscribe`](Client::subscribe) waits until there
    /// is a connection, unless it is given a time. [`events`](Client::events) tell what becomes of the attempts.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = kcpq_smol::Client::builder().connect_in_background("telemetry.example:4000")?;
    /// client.publish("device.7.started", "").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ConnectError::Resolve`] if `addr` is not an address, [`ConnectError::Random`], [`ConnectError::Will`]. A name that is unknown is no
    /// error, as it may be known later.
    pub fn connect_in_background(mut self, addr: impl Into<Address>) -> Result<Client, ConnectError> {
        let (servers, _) = self.servers(addr.into())?;
        self.background = true;
        let known = servers.iter().map(|server| match server {
            Address::Socket(addr) => Some(*addr),
            Address::Name(_) => None,
        });
        // If all are known, there is nothing to look up.
        let addrs = known.collect::<Option<Vec<_>>>().unwrap_or_default();
        self.start(servers, addrs)
    }

    fn patience(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// How long a subscription waits; `None`: until the client says what came of it.
    pub(crate) fn subscribe_patience(&self) -> Option<Duration> {
        if self.background {
            return self.timeout;
        }
        let client::Config { subscribe_timeout, subscribe_pause, subscribe_attempts, .. } = self.config;
        // The client itself is to be the first to give up.
        let attempts = Duration::from(subscribe_timeout + subscribe_pause) * subscribe_attempts.into();
        Some(self.timeout.unwrap_or_else(|| attempts.max(TIMEOUT)))
    }

    /// All servers in the order in which they are tried, and how they are called together.
    fn servers(&self, first: Address) -> Result<(Vec<Address>, String), ConnectError> {
        let mut servers = vec![first];
        servers.extend_from_slice(&self.others);
        for server in &mut servers {
            if let Address::Name(text) = server {
                let parsed = text.parse();
                *server = parsed.map_err(|error: AddressError| ConnectError::Resolve {
                    addr: text.clone(),
                    source: io::Error::new(io::ErrorKind::InvalidInput, error),
                })?;
            }
        }
        if self.shuffle {
            for index in (1..servers.len()).rev() {
                let other = getrandom::u64().map_err(ConnectError::Random)? % (index as u64 + 1);
                servers.swap(index, other as usize);
            }
        }
        let shown = list(&servers);
        Ok((servers, shown))
    }

    /// Starts a client, which connects at once if there are `addrs`.
    fn start(mut self, servers: Vec<Address>, addrs: Vec<SocketAddr>) -> Result<Client, ConnectError> {
        let shown = list(&servers);
        let mut paths = Paths::default();
        if !addrs.is_empty() {
            let limit = self.config.connect_timeout;
            match paths.begin(kcpq_core::Instant::ZERO, addrs.clone(), limit) {
                // The network may come later.
                Err(error) if !self.background => return Err(ConnectError::Socket(error)),
                _ => {}
            }
        }
        let may_fragment = match paths.iter().next() {
            Some(path) => path.udp.socket.may_fragment(),
            // Any socket tells.
            None => Socket::connect(([127, 0, 0, 1], DEFAULT_PORT).into()).is_ok_and(|socket| socket.may_fragment()),
        };
        let route = Route::new(servers, addrs, Longest { chosen: self.datagram, may_fragment }, self.resolver.clone());
        self.config.local = route.is_local();
        self.config.native_datagram = route.datagram();
        let seed = getrandom::u64().map_err(ConnectError::Random)?;
        let mut core = client::Client::new(self.config, seed, Parts::heap(&self.config));
        if let Some(name) = &self.name {
            core = core.with_name(name);
        }
        if let Some(will) = &self.will {
            core.set_will(kcpq_core::Instant::ZERO, will.as_core()).map_err(ConnectError::Will)?;
        }
        let mut entropy = [0; 32];
        getrandom::fill(&mut entropy).map_err(ConnectError::Random)?;
        let trust = self.seal.trust()?;
        let sealed_by = trust.as_ref().map(SealedBy::from);
        core = match (trust, &self.key) {
            (Some(_), Some(_)) => {
                return Err(ConnectError::Keys("a sealed session has no use for the key of KCPQ v2.1"));
            }
            (Some(trust), None) => core
                .with_keys(trust, fastest_cipher(), &entropy)
                .map_err(|_| ConnectError::Keys("the server's is none"))?,
            (None, Some(key)) => core.with_protection(Protection::compat_aes256(key, entropy)),
            (None, None) => core,
        };
        // What the server makes of a will it may say before anybody can listen.
        let early = self.background || self.will.is_some();
        let events = if early { Announcer::from_the_beginning() } else { Announcer::new() };
        let own = self.place.own().map_err(ConnectError::Thread)?;
        let (timeout, subscribing) = (self.patience(), self.subscribe_patience());
        let bell = own.as_ref().map(Own::bell);
        let shared = Arc::new(Shared::new(core, timeout, subscribing, events, shown, sealed_by, bell));
        if route.is_known() {
            let now = shared.now();
            shared.lock().core.connect(now);
        }
        let client = Client::new(Arc::clone(&shared), self.capacity);
        let task = Box::pin(Runner::new(Arc::clone(&shared), route, paths, own).run());
        self.place.spawn(task).map_err(ConnectError::Thread)?;
        Ok(client)
    }
}

/// AES where the processor has instructions for it.
fn fastest_cipher() -> Cipher {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has_aes = std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    if has_aes { Cipher::AesGcm } else { Cipher::ChaChaPoly }
}

/// Servers as they are shown.
fn list(servers: &[Address]) -> String {
    servers.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
}
