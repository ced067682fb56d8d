//! Connecting: names are looked up and connections opened in threads of their own, for both wait.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::address::NatsAddress;
use super::connection::Trouble;
use crate::handle::Handle;

/// For so long it is waited for an address to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause when no server is there, at first and in the end. When one is lost the next one is tried at once. All are back
/// before those that were first say anything.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(750);
/// Servers that others of their cluster have named, at most.
const MAX_SERVERS: usize = 64;

/// A connection, to whom, and where that is.
pub(super) type Dialed = Result<(mio::net::TcpStream, NatsAddress, SocketAddr), Trouble>;

/// See above.
pub(super) struct Dialer {
    waker: Handle,
    servers: Vec<NatsAddress>,
    /// Of these so many were configured.
    configured: usize,
    turn: usize,
    /// Attempts since one succeeded.
    failed: u32,
    next: Instant,
    is_dialing: bool,
    sender: Sender<Dialed>,
    dialed: Receiver<Dialed>,
    last: String,
}

impl Dialer {
    pub(super) fn new(waker: Handle, servers: &[NatsAddress]) -> Self {
        let (sender, dialed) = mpsc::channel();
        Self {
            waker,
            servers: servers.to_vec(),
            configured: servers.len(),
            turn: 0,
            failed: 0,
            next: Instant::now(),
            is_dialing: false,
            sender,
            dialed,
            last: String::new(),
        }
    }

    /// When it is to be tried again, unless it is tried just now.
    pub(super) fn next(&self) -> Option<Instant> {
        (!self.is_dialing && !self.servers.is_empty()).then_some(self.next)
    }

    /// The server that was tried last.
    pub(super) fn last(&self) -> String {
        self.last.clone()
    }

    /// Tries the next server, if it is time.
    pub(super) fn dial_next(&mut self) {
        if self.is_dialing || Instant::now() < self.next {
            return;
        }
        if let Some(address) = self.servers.get(self.turn % self.servers.len().max(1)).cloned() {
            self.turn += 1;
            self.last = address.to_string();
            self.dial(address, None);
        }
    }

    /// Opens a second connection to the same server.
    pub(super) fn dial_again(&mut self, address: &NatsAddress, peer: SocketAddr) {
        if !self.is_dialing {
            self.dial(address.clone(), Some(peer));
        }
    }

    fn dial(&mut self, address: NatsAddress, peer: Option<SocketAddr>) {
        let (sender, waker) = (self.sender.clone(), self.waker.clone());
        let dial = move || {
            let stream = connect(&address, peer);
            let dialed = stream.map(|(stream, peer)| (mio::net::TcpStream::from_std(stream), address, peer));
            // Nobody waits for it any more if the server has ended.
            let _ = sender.send(dialed.map_err(|error| Trouble::Unreachable(error.to_string())));
            waker.wake();
        };
        self.is_dialing = match std::thread::Builder::new().name("kcpq-dial".into()).spawn(dial) {
            Ok(_) => true,
            Err(error) => self.sender.send(Err(Trouble::Unreachable(error.to_string()))).is_ok(),
        };
    }

    /// What has become of the attempt.
    pub(super) fn poll(&mut self) -> Option<Dialed> {
        let dialed = self.dialed.try_recv().ok()?;
        self.is_dialing = false;
        Some(dialed)
    }

    /// A server has let us in, and has named others of its cluster.
    pub(super) fn succeed(&mut self, others: &[NatsAddress]) {
        self.failed = 0;
        self.servers.truncate(self.configured);
        for other in others {
            let is_known = self.servers.iter().any(|known| (&known.host, known.port) == (&other.host, other.port));
            if !is_known && self.servers.len() < self.configured + MAX_SERVERS {
                self.servers.push(other.clone());
            }
        }
    }

    /// Lets some time pass before it is tried again: none before all servers were tried once.
    pub(super) fn pause(&mut self) {
        self.failed += 1;
        let rounds = self.failed as usize / self.servers.len().max(1);
        let pause = if rounds == 0 {
            Duration::ZERO
        } else {
            FIRST_PAUSE.saturating_mul(1 << (rounds - 1).min(8)).min(LONGEST_PAUSE)
        };
        // Many servers that have lost the same one do not come back in the same moment.
        let spread = chance(self.turn) * pause.as_secs_f64() / 4.0;
        self.next = Instant::now() + pause + Duration::from_secs_f64(spread);
    }
}

/// Between 0 and 1, another one for each process and turn.
fn chance(turn: usize) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(turn) as f64 / u64::MAX as f64
}

fn connect(address: &NatsAddress, peer: Option<SocketAddr>) -> io::Result<(TcpStream, SocketAddr)> {
    let all = match peer {
        Some(peer) => vec![peer],
        None => (address.host.as_str(), address.port).to_socket_addrs()?.collect(),
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for peer in all {
        match TcpStream::connect_timeout(&peer, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok((stream, peer));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
