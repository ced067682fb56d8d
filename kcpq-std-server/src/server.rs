//! The server as a library: bind, look at it, shut it down.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_channel::Sender;
use kcpq_core::broker::{self, Broker};
use kcpq_core::cipher::Key;
use kcpq_core::datagram::{Protection, USUAL_DATAGRAM};
use kcpq_core::{fec, kcp};
use mio::Waker;

use crate::shard::{Command, Shard};
use kcpq_smol::udp::{BUFFER, Udp};

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Limits and timers.
    pub broker: broker::Config,
    /// The key of KCPQ v2.1's cipher, if its clients have one. With a key, only datagrams sealed with it are heard.
    /// **It keeps nobody from altering or repeating datagrams**: for compatibility only.
    pub compat_key: Option<Key>,
}

impl Default for Config {
    /// Port 4000 on all IPv4 addresses, as the original.
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 4000)), broker: broker::Config::default(), compat_key: None }
    }
}

/// The server's counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Sessions and messages.
    pub broker: broker::Stats,
    /// Segments, of the sessions that exist.
    pub transport: kcp::Stats,
    /// Forward error correction, of the sessions that exist.
    pub fec: fec::Stats,
    /// Datagrams that the system refused to send.
    pub unsendable: u64,
}

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The address could not be listened on.
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// The system gave no randomness.
    Random(getrandom::Error),
    /// No thread could be started.
    Thread(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { addr, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {addr}: something else does already; choose another address or port")
            }
            Self::Bind { addr, source } => write!(f, "cannot listen on {addr}: {source}"),
            Self::Random(error) => write!(f, "the system gives no random numbers: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Thread(source) => Some(source),
            Self::Random(error) => Some(error),
        }
    }
}

/// A running server. Dropping it ends it at once; [`shutdown`](Self::shutdown) tells its clients first.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    commands: Option<Sender<Command>>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens and serves in a thread of its own.
    ///
    /// # Errors
    /// [`BindError`] when the address, a thread or randomness could not be had.
    pub fn bind(mut config: Config) -> Result<Self, BindError> {
        let addr = config.listen;
        let bind = |source| BindError::Bind { addr, source };
        let udp = Udp::bind(addr).map_err(bind)?;
        let local_addr = udp.local_addr().map_err(bind)?;
        let granted = udp.granted().map_err(bind)?;
        if granted.receive < BUFFER {
            tracing::warn!(
                asked = BUFFER,
                receive = granted.receive,
                send = granted.send,
                "the system grants smaller socket buffers (on Linux, see net.core.rmem_max and wmem_max); \
                 bursts may be lost and sent again"
            );
        }
        if udp.may_fragment() {
            // It would seem that a path carries what is cut into pieces, of which each may be lost.
            let usual = config.broker.native_datagram.min(USUAL_DATAGRAM);
            config.broker.native_datagram = usual;
        }
        let seed = getrandom::u64().map_err(BindError::Random)?;
        let broker::Config { max_datagram, native_datagram, local_datagram, .. } = config.broker;
        let max_datagram = max_datagram.max(native_datagram).max(local_datagram);
        let (commands, inbox) = async_channel::unbounded();
        let mut broker = Broker::new(config.broker, seed);
        if let Some(key) = &config.compat_key {
            let mut entropy = [0; 32];
            getrandom::fill(&mut entropy).map_err(BindError::Random)?;
            broker = broker.with_protection(Protection::compat_aes256(key, entropy));
        }
        let shard = Shard::new(udp, broker, inbox, max_datagram).map_err(bind)?;
        let waker = shard.waker();
        let thread = std::thread::Builder::new()
            .name("kcpq-shard-0".into())
            .spawn(move || shard.run())
            .map_err(BindError::Thread)?;
        Ok(Self { local_addr, commands: Some(commands), waker, thread: Some(thread) })
    }

    /// Where it listens; with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The counters; `None` if the server has ended.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = async_channel::bounded(1);
        self.command(Command::Snapshot(reply))?;
        answer.recv_blocking().ok()
    }

    /// Tells all clients that the server stops, sends what waits for them within the linger time, and ends.
    pub fn shutdown(mut self) {
        // If it has ended already there is nothing to tell it.
        let _ = self.command(Command::Drain);
        self.join();
    }

    fn command(&self, command: Command) -> Option<()> {
        self.commands.as_ref()?.try_send(command).ok()?;
        self.wake();
        Some(())
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "the server's thread cannot be woken");
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the server's thread has panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Without a sender the shard ends at its next turn.
        self.commands = None;
        self.wake();
        self.join();
    }
}
