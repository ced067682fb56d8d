//! The sockets of a client: one for each address that is tried, and then the one where the server is.
//!
//! An attempt to connect that may go to several addresses goes to the first of them, after a while to the next as well, and
//! so on; the first that answers is kept (RFC 8305, happy eyeballs). It is one conversation everywhere: a server that is
//! asked later gets the datagrams that were sent before.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::task::Poll;

use kcpq_core::{Duration, Instant};
use mio::Registry;

use crate::udp::{Udp, is_about_source};

/// How long an address has to answer before the next one is tried as well (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);
/// When to try again if the system has no way to any address.
const RETRY: Duration = Duration::from_secs(1);
/// Datagrams that addresses get which are tried later; what is sent behind them, KCP sends again.
const SAID: usize = 8;

/// A socket, and where it sends to.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) udp: Udp,
    pub(crate) server: SocketAddr,
}

/// All sockets.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    open: Vec<Path>,
    /// Addresses to be tried in this attempt.
    waiting: VecDeque<SocketAddr>,
    /// When the next one is.
    next_at: Option<Instant>,
    /// What was sent in this attempt, as long as there is somebody else who may need it.
    said: Vec<Vec<u8>>,
    stagger: Duration,
    /// The addresses of this attempt, for when the system has a way to none of them.
    all: Vec<SocketAddr>,
}

impl Paths {
    /// Begins an attempt to connect to one of `candidates`, which has to answer within `limit`. If there is no new socket
    /// to be had, the old ones stay: with a native server they serve as well.
    ///
    /// # Errors
    /// The system's, about the last address, when it has no way to any of them.
    pub(crate) fn begin(&mut self, now: Instant, candidates: Vec<SocketAddr>, limit: Duration) -> io::Result<()> {
        self.said.clear();
        self.stagger = STAGGER.min(limit.div(candidates.len() as u32 + 1));
        self.waiting = candidates.iter().copied().collect();
        self.all = candidates;
        let old = std::mem::take(&mut self.open);
        let opened = self.open_next(now);
        if opened.is_err() {
            self.open = old;
            self.next_at = Some(now + RETRY);
        }
        opened
    }

    /// Opens a socket towards the next address that the system has a way to, and says there what was said.
    fn open_next(&mut self, now: Instant) -> io::Result<()> {
        let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
        while let Some(server) = self.waiting.pop_front() {
            let opened = Udp::connect(server).and_then(|udp| {
                for datagram in &self.said {
                    udp.socket.sender().send(server, datagram, None)?;
                }
                Ok(Path { udp, server })
            });
            match opened {
                Ok(path) => {
                    self.open.push(path);
                    self.next_at = (!self.waiting.is_empty()).then_some(now + self.stagger);
                    return Ok(());
                }
                Err(why) => error = why,
            }
        }
        self.next_at = None;
        Err(error)
    }

    /// The only one, once it is known where the server is.
    pub(crate) fn settled(&mut self) -> Option<&mut Path> {
        if self.is_open() { None } else { self.open.first_mut() }
    }

    /// True while it is open which address will answer.
    fn is_open(&self) -> bool {
        self.open.len() != 1 || !self.waiting.is_empty()
    }

    /// The sockets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.open.iter()
    }

    /// The socket of this index.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Path> {
        self.open.get_mut(index)
    }

    /// The server answers on the socket of this index: the others are closed.
    pub(crate) fn settle(&mut self, index: usize) {
        if index < self.open.len() {
            self.open.swap(0, index);
            self.open.truncate(1);
        }
        self.waiting.clear();
        self.next_at = None;
        self.said.clear();
    }

    /// Nobody listens at the address of this socket: the next one is tried at once. False if there is none, and no other
    /// socket.
    pub(crate) fn refused(&mut self, now: Instant, index: usize) -> bool {
        let next = self.open_next(now).is_ok();
        if !next && self.open.len() < 2 {
            return false;
        }
        if index < self.open.len() {
            self.open.remove(index);
        }
        true
    }

    /// When [`on_time`](Self::on_time) is due.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Tries the next address, if it is time to.
    pub(crate) fn on_time(&mut self, now: Instant) {
        if self.next_at.is_none_or(|at| now < at) {
            return;
        }
        if self.waiting.is_empty() {
            self.waiting = self.all.iter().copied().collect();
        }
        if self.open_next(now).is_err() && self.open.is_empty() {
            self.next_at = Some(now + RETRY);
        }
    }

    /// Sends to all addresses that are tried, datagrams of `segment` bytes if there are several.
    pub(crate) fn say(&mut self, now: Instant, datagrams: &[u8], segment: Option<usize>) {
        for datagram in datagrams.chunks(segment.unwrap_or(datagrams.len()).max(1)) {
            if self.said.len() < SAID {
                self.said.push(datagram.into());
            }
            // From the last one on: those that are opened meanwhile have been told.
            for index in (0..self.open.len()).rev() {
                let Some(Path { udp, server }) = self.open.get(index) else { continue };
                if let Err(error) = udp.socket.sender().send(*server, datagram, None)
                    && is_about_source(&error)
                {
                    self.refused(now, index);
                }
            }
        }
    }

    /// True if the system would send from another address by now than the socket does, which keeps the one that it began
    /// with: that may be gone, or belong to a network that leads nowhere any more.
    pub(crate) fn has_another_source(&self) -> bool {
        let [Path { udp, server }] = &*self.open else { return false };
        let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let asked = UdpSocket::bind((any, 0)).and_then(|asked| {
            asked.connect(server)?;
            asked.local_addr()
        });
        match (asked, udp.socket.local_addr()) {
            (Ok(asked), Ok(own)) => asked.ip() != own.ip() && !own.ip().is_unspecified(),
            _ => false,
        }
    }

    /// Opens the settled socket anew, because its source address is gone.
    ///
    /// # Errors
    /// The system's, when it has no way to the server now.
    pub(crate) fn rebind(&mut self) -> io::Result<()> {
        for path in &mut self.open {
            path.udp = Udp::connect(path.server)?;
        }
        Ok(())
    }

    /// Lets a poller tell when there is something to receive on any socket.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        self.open.iter_mut().try_for_each(|path| path.udp.register(registry))
    }

    /// Waits until there is something to receive on any socket.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let ready = self.open.iter().map(|path| path.udp.poll_readable(cx)).find(Poll::is_ready);
            ready.unwrap_or(Poll::Pending)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn peer() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let addr = socket.local_addr().unwrap();
        (socket, addr)
    }

    /// What has come, on loopback at once.
    fn heard(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let mut buffer = [0; 100];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())).collect()
    }

    #[test]
    fn the_next_address_is_tried_after_a_while_and_gets_what_was_said_before() {
        let [(a, at), (b, bt), (c, ct)] = [peer(), peer(), peer()];
        let mut paths = Paths::default();
        let begun = Instant::from_micros(7);
        paths.begin(begun, vec![at, bt, ct], LIMIT).unwrap();
        assert!(paths.settled().is_none(), "nobody has answered");
        paths.say(begun, b"hello", None);
        assert_eq!((heard(&a), heard(&b)), (vec![b"hello".to_vec()], vec![]));
        assert_eq!(paths.next_at(), Some(begun + STAGGER));
        paths.on_time(begun + Duration::from_millis(249));
        assert!(heard(&b).is_empty());
        paths.on_time(begun + STAGGER);
        assert_eq!((heard(&a).len(), heard(&b), heard(&c).len()), (0, vec![b"hello".to_vec()], 0));
        // From now on both hear what is said.
        paths.say(begun + STAGGER, b"onetwo", Some(3));
        assert_eq!((heard(&a).len(), heard(&b)), (2, vec![b"one".to_vec(), b"two".to_vec()]));
        paths.settle(1);
        assert_eq!(paths.settled().unwrap().server, bt);
        assert_eq!(paths.next_at(), None);
        paths.on_time(begun + LIMIT);
        assert!(heard(&c).is_empty(), "the others are not asked any more");
    }

    #[test]
    fn after_a_refusal_the_next_address_is_told_at_once() {
        let [(a, at), (b, bt)] = [peer(), peer()];
        let mut paths = Paths::default();
        paths.begin(Instant::ZERO, vec![at, bt], LIMIT).unwrap();
        paths.say(Instant::ZERO, b"hello", None);
        drop(a);
        assert!(paths.refused(Instant::ZERO, 0));
        assert_eq!(heard(&b), [b"hello"]);
        assert_eq!(paths.settled().unwrap().server, bt);
        assert!(!paths.refused(Instant::ZERO, 0), "the last one stays");
        assert!(paths.settled().is_some());
    }

    #[test]
    fn all_addresses_are_tried_within_the_limit() {
        let peers: Vec<_> = (0..9).map(|_| peer()).collect();
        let mut paths = Paths::default();
        paths.begin(Instant::ZERO, peers.iter().map(|(_, addr)| *addr).collect(), Duration::from_secs(1)).unwrap();
        paths.say(Instant::ZERO, b"hello", None);
        while let Some(at) = paths.next_at() {
            assert!(at < Instant::ZERO + Duration::from_secs(1));
            paths.on_time(at);
        }
        assert!(peers.iter().all(|(socket, _)| heard(socket).len() == 1));
    }

    #[test]
    fn without_a_way_to_any_address_it_is_looked_for_again() {
        let (a, at) = peer();
        // Nobody has a way there.
        let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
        let mut paths = Paths::default();
        assert!(paths.begin(Instant::ZERO, vec![nowhere], LIMIT).is_err());
        assert_eq!(paths.next_at(), Some(Instant::ZERO + RETRY));
        paths.say(Instant::ZERO, b"hello", None);
        paths.all = vec![at];
        paths.on_time(Instant::ZERO + RETRY);
        assert_eq!(heard(&a), [b"hello"]);
    }
}
