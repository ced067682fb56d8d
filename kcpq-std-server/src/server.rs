//! The server as a library: bind, look at it, shut it down.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kcpq_core::access::{Access, AccessError, RuleError};
use kcpq_core::broker::gateway;
use kcpq_core::broker::{self, Broker, KeptView, Keys, LastValues, NotKept, SessionId};
use kcpq_core::cipher::Key;
use kcpq_core::datagram::{Protection, USUAL_DATAGRAM};
use kcpq_core::{DEFAULT_PORT, Instant, fec, kcp};
use kcpq_udp::{LISTENING_BUFFER, Socket};

use crate::backbone::{self, Backbone, Running};
use crate::failure::{Guard, Watch};
use crate::handle::Handle;
use crate::limits::{self, LimitTooLow};
use crate::peer::Client;
use crate::register::{self, Left, Register};
use crate::shard::{Command, Shard};
use crate::values::{self, Values};
use crate::view::{Pattern, Session, View};

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 chooses a free one.
    pub listen: SocketAddr,
    /// Further addresses to listen on, [`MAX_LISTENERS`](Self::MAX_LISTENERS) in all. One on `::` has IPv4 as well, unless an
    /// address of IPv4 is among them.
    pub listen_also: Vec<SocketAddr>,
    /// Number of threads, each with sessions and, for each address, a socket of its own, up to [`MAX_SHARDS`](Self::MAX_SHARDS); the
    /// kernel assigns clients to them by address. The limits on sessions, on queues in all and on stateless replies are
    /// divided among them equally. More than one needs Linux, and pays where one processor is not enough.
    pub shards: usize,
    /// For how long a thread that has done what there was to do looks for the next thing before it sleeps; zero unless set. To
    /// wake a sleeping thread takes tens of microseconds, which a message that travels alone has to wait for. **Each thread
    /// takes a processor all the time** if datagrams come more often than that.
    pub spin: Duration,
    /// Limits, queues and timers.
    pub broker: broker::Config,
    /// Who may do what; `None`: everybody may do everything. Limits on the sessions of an identity are divided among the
    /// threads as well.
    pub access: Option<Access>,
    /// The key of KCPQ v2.1's cipher. With a key, datagrams that are not encrypted with it are dropped. **It does not
    /// protect against altered or replayed datagrams**: for compatibility only.
    pub compat_key: Option<Key>,
    /// The server's own keys: clients that know them get sealed sessions (PROTOCOL.md 10). Whom else it lets in is
    /// [`access`](Self::access)'s to say.
    pub keys: Keys,
    /// A file for what outlives the server: its secret, and where its clients are, so that those who only listen hear at once
    /// when it is back after it was killed. It is written as long as the server runs, and readable by its owner alone. `None`:
    /// they notice by their next heartbeat.
    pub register: Option<PathBuf>,
    /// The last values of subjects: what is kept of them, and how much.
    pub last_values: LastValues,
    /// A file for these, so that they outlive the server: readable by its owner alone, written within a second or so of
    /// a change and at the end. One that cannot be read is put aside. `None`: they do not.
    pub values_file: Option<PathBuf>,
    /// NATS servers over which several servers are one; there is something only with the feature `nats`.
    pub backbone: Option<Backbone>,
}

impl Config {
    /// Maximum number of threads.
    pub const MAX_SHARDS: usize = broker::MAX_SHARDS;
    /// Maximum number of addresses to listen on.
    pub const MAX_LISTENERS: usize = 16;
}

impl Default for Config {
    /// Port 4000 for clients on the same machine, all of which may do everything, served by one thread.
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT));
        Self {
            listen,
            listen_also: Vec::new(),
            shards: 1,
            spin: Duration::ZERO,
            broker: broker::Config::default(),
            access: None,
            compat_key: None,
            keys: Keys::default(),
            register: None,
            last_values: LastValues::default(),
            values_file: None,
            backbone: None,
        }
    }
}

/// The server's statistics at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Sessions and messages.
    pub broker: broker::Stats,
    /// KCP: the sum over open sessions.
    pub transport: kcp::Stats,
    /// Forward error correction: the sum over open sessions.
    pub fec: fec::Stats,
    /// Datagrams that the operating system refused to send.
    pub unsendable: u64,
}

impl Snapshot {
    /// Adds the counters of another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        self.broker.add(&other.broker);
        self.transport.add(&other.transport);
        self.fec.add(&other.fec);
        self.unsendable += other.unsendable;
    }
}

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The server cannot listen on the address.
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// There are more addresses to listen on than [`Config::MAX_LISTENERS`].
    TooManyListeners,
    /// A limit is so low that no client could connect.
    Limit(LimitTooLow),
    /// The rules of who may do what make no sense.
    Access(AccessError),
    /// A pattern of subjects whose last values are to be kept is none.
    LastValues(RuleError),
    /// A pattern of what crosses to the backbone is none, or the prefix.
    Backbone(RuleError),
    /// The operating system gave no random numbers.
    Random(getrandom::Error),
    /// No thread could be started.
    Thread(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { addr, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {addr}: address already in use; choose another address or port")
            }
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::Unsupported => {
                f.write_str("cannot use several shards: this system does not distribute datagrams over sockets; use 1")
            }
            Self::Bind { addr, source } => write!(f, "cannot listen on {addr}: {source}"),
            Self::TooManyListeners => write!(f, "a server listens on {} addresses at most", Config::MAX_LISTENERS),
            Self::Limit(error) => error.fmt(f),
            Self::Access(error) => error.fmt(f),
            Self::LastValues(error) => write!(f, "subjects whose last values are to be kept: {error}"),
            Self::Backbone(error) => write!(f, "subjects of the backbone: {error}"),
            Self::Random(error) => write!(f, "the system gives no random numbers: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Thread(source) => Some(source),
            Self::Limit(error) => Some(error),
            Self::Access(error) => Some(error),
            Self::LastValues(error) => Some(error),
            Self::Backbone(error) => Some(error),
            Self::Random(error) => Some(error),
            Self::TooManyListeners => None,
        }
    }
}

/// A running server. Dropping it ends it at once; [`shutdown`](Self::shutdown) tells its clients first.
///
/// If one of its threads panics it ends by itself, and says so to [`on_failure`](Self::on_failure).
#[derive(Debug)]
pub struct Server {
    local_addrs: Arc<[SocketAddr]>,
    shards: Vec<Handle>,
    watch: Arc<Watch>,
    threads: Vec<JoinHandle<Vec<Socket>>>,
    backbone: Option<Running>,
    /// End when the threads have.
    _register: Option<Register>,
    values: Option<Values>,
}

impl Server {
    /// Listens and serves in threads of its own.
    ///
    /// # Errors
    /// [`BindError`] when the address, a thread or randomness could not be had, or a limit lets nobody in.
    pub fn bind(mut config: Config) -> Result<Self, BindError> {
        limits::check(&config.broker).map_err(BindError::Limit)?;
        let count = config.shards.clamp(1, Config::MAX_SHARDS);
        let seed = getrandom::u64().map_err(BindError::Random)?;
        let epoch = std::time::Instant::now();
        config.broker = config.broker.shared_by(count);
        let (mut shards, mut handles) = (Vec::new(), Vec::new());
        let listeners = Listeners::bind(config.listen, &config.listen_also, count)?;
        let local_addrs: Arc<[SocketAddr]> = listeners.local_addrs.as_slice().into();
        let bind = |source| BindError::Bind { addr: config.listen, source };
        // Nobody else has the port, so it is nobody else's file.
        let mut left = config.register.as_deref().map_or_else(Left::default, register::read);
        left.peers.retain(|(client, _)| usize::from(client.listener) < local_addrs.len());
        let secret = match left.secret {
            Some(secret) => secret,
            None => random()?,
        };
        let register = config.register.take().map(|file| Register::start(file, secret, left.peers.clone()));
        let register = register.transpose().map_err(BindError::Thread)?;
        let (kept, may_write) = config.values_file.as_deref().map_or_else(|| (Vec::new(), false), values::read);
        let mut values_file = config.values_file.take().filter(|_| may_write);
        let mut changes = None;
        let to_backbone = gateway::Config {
            id: getrandom::u64().map_err(BindError::Random)?,
            high_water: config.broker.high_water,
            frames: config.broker.frames,
            subjects: config.broker.subjects,
            ..gateway::Config::default()
        };
        let shares_values = config.backbone.as_ref().is_some_and(Backbone::shares_values);
        let prepared =
            config.backbone.take().map(|backbone| backbone::prepare(backbone, to_backbone, count, seed, epoch));
        let prepared = prepared.transpose().map_err(BindError::Thread)?.transpose().map_err(BindError::Backbone)?;
        for (own, sockets) in listeners.sockets.into_iter().enumerate() {
            if own == 0 {
                look_at(&sockets, &mut config.broker).map_err(bind)?;
            }
            let broker::Config { max_datagram, native_datagram, local_datagram, .. } = config.broker;
            let mut broker = Broker::new(config.broker.clone(), seed).with_shards(own, count).with_secret(&secret);
            if prepared.is_some() {
                broker = broker.with_gateway();
            }
            if shares_values {
                broker = broker.with_shared_values();
            }
            if own == 0 {
                broker.announce(Instant::ZERO, left.peers.iter().copied());
            }
            broker.wait_for(Instant::ZERO, left.peers.iter().map(|(peer, _)| *peer));
            broker = broker.with_last_values(&config.last_values).map_err(BindError::LastValues)?;
            let refused: Vec<_> = kept.iter().filter_map(|value| restore(&mut broker, value).err()).collect();
            if let Some(why) = refused.first().filter(|_| own == 0) {
                let (count, all) = (refused.len(), kept.len());
                tracing::error!(count, all, "last values of subjects that cannot be kept on: {why}");
                values_file = values_file.filter(|file| values::put_aside(file));
            }
            let reporter = (own == 0 && values_file.is_some()).then(|| {
                let (reporter, received) = values::channel(&broker);
                changes = Some(received);
                reporter
            });
            let access = config.access.clone().map(|access| access.shared_by(count));
            broker.set_access(Instant::ZERO, access.as_ref()).map_err(BindError::Access)?;
            if config.keys.key.is_some() || config.keys.secret.is_some() {
                broker = broker.with_keys(config.keys.clone(), &random()?);
            }
            if let Some(key) = &config.compat_key {
                broker = broker.with_protection(Protection::compat_aes256(key, random()?));
            }
            let longest = max_datagram.max(native_datagram).max(local_datagram);
            let (mut shard, handle) = Shard::new(
                sockets,
                broker,
                epoch,
                longest,
                register.as_ref().and_then(|register| register.reporter(own)),
                reporter,
            )
            .map_err(bind)?;
            shard.spin = config.spin;
            shards.push(shard);
            handles.push(handle);
        }
        let values = values_file.zip(changes).zip(handles.first());
        let values = values.map(|((file, changes), shard)| Values::start(file, shard.clone(), changes));
        let values = values.transpose().map_err(BindError::Thread)?;
        // From here on dropping it ends the threads that run.
        let mut server = Self {
            local_addrs,
            shards: handles,
            watch: Arc::default(),
            threads: Vec::new(),
            backbone: None,
            _register: register,
            values,
        };
        let mut siblings = server.shards.clone();
        if let Some((prepared, handle)) = prepared {
            siblings.push(handle.clone());
            let guard = Guard { watch: Arc::clone(&server.watch), shards: server.shards.clone() };
            server.backbone = Some(prepared.start(&server.shards, handle, guard).map_err(BindError::Thread)?);
        }
        for (own, mut shard) in shards.into_iter().enumerate() {
            if count > 1 {
                shard.discard().map_err(bind)?;
            }
            shard.join(own, &siblings);
            let thread = std::thread::Builder::new().name(format!("kcpq-shard-{own}"));
            let guard = Guard { watch: Arc::clone(&server.watch), shards: server.shards.clone() };
            let run = move || {
                let _guard = guard;
                shard.run()
            };
            server.threads.push(thread.spawn(run).map_err(BindError::Thread)?);
        }
        Ok(server)
    }

    /// Where it listens; with the port that was taken. Of several addresses the first.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs[0]
    }

    /// Where it listens: all of its addresses, in the order of its configuration, with the ports that were taken.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// A look at it for another thread.
    pub fn view(&self) -> View {
        View {
            shards: self.shards.as_slice().into(),
            local_addrs: Arc::clone(&self.local_addrs),
            backbone: self.backbone.as_ref().map(|running| running.handle.clone()),
            values_failures: self.values.as_ref().map(|values| Arc::clone(&values.failures)),
        }
    }

    /// The counters of all threads; `None` if one has ended: see [`View::snapshot`].
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.view().snapshot()
    }

    /// All sessions: see [`View::sessions`].
    pub fn sessions(&self) -> impl Iterator<Item = Session> + use<> {
        self.view().sessions()
    }

    /// All patterns that sessions have, how many have each and how much it matches: see [`View::patterns`].
    pub fn patterns(&self) -> Option<HashMap<Box<str>, Pattern>> {
        self.view().patterns()
    }

    /// The last values of all subjects that are kept: see [`View::kept`].
    pub fn kept(&self) -> Option<Vec<KeptView>> {
        self.view().kept()
    }

    /// Ends a session: see [`View::kick`].
    pub fn kick(&self, id: SessionId) -> bool {
        self.view().kick(id)
    }

    /// Replaces the rules of who may do what, for the sessions that exist as well: see
    /// [`Broker::set_access`]. Each thread does so as soon as it gets to it.
    ///
    /// # Errors
    /// What makes no sense. Nothing has changed then.
    pub fn set_access(&self, access: Option<&Access>) -> Result<(), AccessError> {
        access.map_or(Ok(()), broker::check_access)?;
        let access = access.map(|access| Arc::new(access.clone().shared_by(self.shards.len())));
        for shard in &self.shards {
            shard.send(Command::SetAccess(access.clone()));
        }
        Ok(())
    }

    /// Calls `act`, from any thread, if one of the server's threads panics: at once if that has happened. The other threads
    /// tell their clients that the server stops, and end as with [`shutdown`](Self::shutdown), which waits for them.
    /// Called again, it takes the place of the one before.
    pub fn on_failure(&self, act: impl FnOnce() + Send + 'static) {
        self.watch.on_failure(Box::new(act));
    }

    /// Opens no more sessions, and lets those of native clients go, evenly over this time: each is told that the server stops,
    /// and where to go instead ([`successors`](broker::Config::successors)). Returns at once; all else goes on until
    /// [`shutdown`](Self::shutdown).
    pub fn hand_over(&self, over: Duration) {
        for shard in &*self.shards {
            shard.send(Command::HandOver(over));
        }
    }

    /// Tells all clients that the server stops, sends what waits for them within the linger time, and ends.
    pub fn shutdown(mut self) {
        self.end(|| Command::Drain);
    }

    /// Tells all threads to end, and waits for them.
    fn end(&mut self, command: impl Fn() -> Command) {
        for shard in &self.shards {
            // One that has ended already needs no telling.
            shard.send(command());
        }
        // Their sockets close together, when all have ended.
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        if ended.iter().any(Result::is_err) {
            tracing::error!("a thread of the server has panicked");
        }
        // It has all now that they had for it.
        if let Some(mut backbone) = self.backbone.take() {
            backbone.end(command());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(|| Command::Stop);
    }
}

/// Gives a broker a value of the server's last life.
fn restore(broker: &mut Broker<Client>, value: &values::Left) -> Result<(), NotKept> {
    broker.restore(Instant::ZERO, &value.frame, value.age.into(), value.left.map(Into::into))
}

/// The sockets of a server.
struct Listeners {
    /// Where they listen.
    local_addrs: Vec<SocketAddr>,
    /// Of each thread one for each address.
    sockets: Vec<Vec<Socket>>,
}

impl Listeners {
    /// Listens on all addresses, with `count` threads.
    fn bind(first: SocketAddr, others: &[SocketAddr], count: usize) -> Result<Self, BindError> {
        let addrs: Vec<SocketAddr> = [first].iter().chain(others).copied().collect();
        if addrs.len() > Config::MAX_LISTENERS {
            return Err(BindError::TooManyListeners);
        }
        let only_v6 = addrs.iter().any(SocketAddr::is_ipv4);
        let (mut local_addrs, mut sockets) = (Vec::new(), Vec::from_iter((0..count).map(|_| Vec::new())));
        for addr in addrs {
            let bind = |source| BindError::Bind { addr, source };
            let first = Socket::listen(addr, only_v6).map_err(bind)?;
            let local_addr = first.local_addr().map_err(bind)?;
            let shared = (1..count).map(|_| first.share().map_err(bind)).collect::<Result<Vec<_>, _>>()?;
            for (own, socket) in sockets.iter_mut().zip([first].into_iter().chain(shared)) {
                own.push(socket);
            }
            local_addrs.push(local_addr);
        }
        Ok(Self { local_addrs, sockets })
    }
}

/// Bytes that nobody can guess.
fn random() -> Result<[u8; 32], BindError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(BindError::Random)?;
    Ok(bytes)
}

/// Says what the system does not grant, and keeps the configuration to what it can.
fn look_at(sockets: &[Socket], config: &mut broker::Config) -> io::Result<()> {
    let granted = sockets.iter().map(Socket::granted).collect::<io::Result<Vec<_>>>()?;
    if let Some(granted) = granted.iter().min_by_key(|granted| granted.receive)
        && granted.receive < LISTENING_BUFFER
    {
        tracing::warn!(
            asked = LISTENING_BUFFER,
            receive = granted.receive,
            send = granted.send,
            "the system grants smaller socket buffers (on Linux, see net.core.rmem_max and wmem_max); \
             bursts may be lost and sent again"
        );
    }
    if sockets.iter().any(Socket::may_fragment) {
        // It would seem that a path carries what is cut into pieces, of which each may be lost.
        config.native_datagram = config.native_datagram.min(USUAL_DATAGRAM);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Far more than anything here takes; only a failure waits for it.
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_panics_takes_the_others_with_it_and_its_owner_is_told() {
        for shards in if cfg!(target_os = "linux") { [1, 3] } else { [1, 1] } {
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let server = Server::bind(Config { listen, shards, ..Config::default() }).unwrap();
            let (told, failure) = mpsc::channel();
            let again = told.clone();
            server.on_failure(move || told.send(()).unwrap());
            assert!(server.snapshot().is_some());
            server.shards[shards - 1].send(Command::Panic);
            failure.recv_timeout(LIMIT).unwrap();
            assert!(server.snapshot().is_none());
            // Who asks later is told as well.
            server.on_failure(move || again.send(()).unwrap());
            failure.recv_timeout(LIMIT).unwrap();
            server.shutdown();
        }
    }
}
