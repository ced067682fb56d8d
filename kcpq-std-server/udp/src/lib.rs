//! A UDP socket that moves many datagrams per system call: what the server and the client on smol have in common.
//!
//! `quinn-udp` does the work: segmentation offload on the way out, `recvmmsg` and receive offload on the way in. What lies in
//! several places goes out by a call of its own ([`Sender::send_slices`]; Linux), without being copied together. Where
//! the system refuses what that needs, the plain calls of the standard library stand in.
//!
//! A [`Socket`] is non-blocking, and waiting for it is left to its user: a poller takes [`Socket::socket`], a reactor the
//! shared [`Sender`], which implements `AsFd` (on Windows `AsSocket`).
//!
//! ```
//! use kcpq_udp::Socket;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut server = Socket::bind("127.0.0.1:0".parse()?)?;
//! let client = Socket::connect(server.local_addr()?)?;
//! // Two datagrams of four bytes, and one of two.
//! client.sender().send(server.local_addr()?, b"onceupon..", Some(4))?;
//! // Whoever has waited for the socket reads it until it is empty.
//! while server.recv(|path, datagram| println!("{}: {datagram:?}", path.remote))? {}
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod buffers;
mod calls;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "absent/gather.rs")]
mod gather;
mod path;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket};
use std::sync::Arc;

use quinn_udp::BATCH_SIZE;
use socket2::{Domain, Protocol, SockRef, Type};

use self::buffers::Buffers;
use self::calls::Calls;
use self::path::Locals;
pub use self::path::Path;

/// The example of README.md is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// Size of the send buffer and of the receive buffer that a listening socket asks for, in bytes.
pub const LISTENING_BUFFER: usize = 8 << 20;
/// The same for a socket with one peer.
const CONNECTED_BUFFER: usize = 4 << 20;
/// Whether a socket with one peer is connected: then the system tells it when nobody listens at the peer's address.
/// Elsewhere a connected socket may refuse an address with each datagram, which is how `quinn-udp` sends.
const CONNECTS: bool = cfg!(any(target_os = "linux", target_os = "android"));
/// Buffers of one receive call: all that the system takes for a socket that listens, which hears many; few for one peer.
const LISTENING_RECEIVES: usize = BATCH_SIZE;
const CONNECTED_RECEIVES: usize = 4;

/// A non-blocking socket. What it receives into is the thread's that calls [`recv`](Self::recv).
#[derive(Debug)]
pub struct Socket {
    sender: Arc<Sender>,
    /// Buffers that one receive call fills, and the bytes that each has to hold.
    receives: usize,
    longest: usize,
    /// The only one it hears, if it does not listen.
    peer: Option<SocketAddr>,
    /// Of which addresses it has been asked, if it listens on all of them.
    locals: Option<Locals>,
}

/// The sending half of a socket; several threads may use it.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    calls: Calls,
}

/// The socket buffers that the operating system granted, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// Size of the receive buffer.
    pub receive: usize,
    /// Size of the send buffer.
    pub send: usize,
}

impl Socket {
    /// A socket that listens on `addr`; port 0 takes a free one.
    ///
    /// # Errors
    /// Those of the operating system, for instance `AddrInUse`.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        Self::listen(addr, false)
    }

    /// The same; with `only_v6`, one that listens on `::` leaves IPv4 to others.
    ///
    /// # Errors
    /// Those of the operating system, for instance `AddrInUse`.
    pub fn listen(addr: SocketAddr, only_v6: bool) -> io::Result<Self> {
        Self::listen_on(new_socket(addr, LISTENING_BUFFER, only_v6)?, addr)
    }

    /// One more socket that listens where this one does (SO_REUSEPORT): all datagrams of a peer go to the same one of them.
    ///
    /// This one has taken the address for itself, so that nobody else's socket is among them, and keeps it meanwhile, so
    /// that nobody else gets it.
    ///
    /// # Errors
    /// Those of the operating system; `Unsupported` everywhere but on Linux.
    pub fn share(&self) -> io::Result<Self> {
        let own = SockRef::from(&self.sender.socket);
        let addr = self.local_addr()?;
        let other = new_socket(addr, LISTENING_BUFFER, addr.is_ipv6() && own.only_v6()?)?;
        share(&own)?;
        share(&other)?;
        Self::listen_on(other, addr)
    }

    fn listen_on(socket: socket2::Socket, addr: SocketAddr) -> io::Result<Self> {
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        let calls = Calls::new(&socket)?;
        Self::new(socket, calls, LISTENING_RECEIVES, None)
    }

    /// A socket on a free port that receives from `peer` only.
    ///
    /// # Errors
    /// Those of the operating system, for instance when there is no route.
    pub fn connect(peer: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(peer, CONNECTED_BUFFER, false)?;
        if CONNECTS {
            socket.connect(&peer.into())?;
        } else {
            let any: IpAddr = if peer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            socket.bind(&SocketAddr::from((any, 0)).into())?;
        }
        let socket = UdpSocket::from(socket);
        let calls = Calls::new(&socket)?;
        Self::new(socket, calls, CONNECTED_RECEIVES, Some(peer))
    }

    fn new(socket: UdpSocket, calls: Calls, receives: usize, peer: Option<SocketAddr>) -> io::Result<Self> {
        let (most, longest) = calls.buffers();
        // One that is bound to an address answers from there anyway.
        let listens_on_all = peer.is_none() && socket.local_addr()?.ip().is_unspecified();
        let locals = listens_on_all.then(Locals::default);
        let sender = Arc::new(Sender { socket, calls });
        Ok(Self { sender, receives: receives.min(most), longest, peer, locals })
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sender.socket.local_addr()
    }

    /// The socket buffers that the operating system granted.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn granted(&self) -> io::Result<Granted> {
        let socket = SockRef::from(&self.sender.socket);
        Ok(Granted { receive: socket.recv_buffer_size()?, send: socket.send_buffer_size()? })
    }

    /// The socket, to register it with a poller.
    pub fn socket(&self) -> &UdpSocket {
        &self.sender.socket
    }

    /// True if a datagram that is too long for the path may be fragmented (the operating system cannot forbid it).
    pub fn may_fragment(&self) -> bool {
        self.sender.calls.may_fragment()
    }

    /// Maximum number of datagrams in one [`send`](Sender::send), at least 1 (segmentation offload, GSO).
    pub fn max_segments(&self) -> usize {
        self.sender.calls.max_segments()
    }

    /// The sending half.
    pub fn sender(&self) -> &Arc<Sender> {
        &self.sender
    }

    /// Receives what one system call gives, calling `each` with the path and the contents of every datagram. True if
    /// there may be more.
    ///
    /// # Errors
    /// Those of the operating system, but not `WouldBlock`. `ConnectionRefused` or `ConnectionReset` only for a socket
    /// made by [`connect`](Self::connect): nobody listens at the peer's address ([`is_about_peer`]).
    pub fn recv(&mut self, each: impl FnMut(Path, &mut [u8])) -> io::Result<bool> {
        Buffers::with(self.receives, self.longest, |buffers| self.recv_into(buffers, each))
    }

    fn recv_into(&mut self, buffers: &mut Buffers, mut each: impl FnMut(Path, &mut [u8])) -> io::Result<bool> {
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let Buffers { memory, metas } = buffers;
        let count = self.receives;
        for (slice, buffer) in slices.iter_mut().zip(memory) {
            *slice = IoSliceMut::new(buffer);
        }
        let slices = &mut slices[..count];
        let Sender { socket, calls } = &*self.sender;
        let filled = match calls.recv(socket, slices, &mut metas[..count]) {
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP message about one of many peers; the next call gives data again.
            Err(error) if self.peer.is_none() && is_about_peer(&error) => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in metas.iter().zip(slices).take(filled) {
            if let Some(peer) = self.peer.filter(|_| !CONNECTS)
                && (peer.ip(), peer.port()) != (meta.addr.ip(), meta.addr.port())
            {
                continue;
            }
            // Nobody can be answered there, and the attempt would cost the socket its offload.
            if meta.addr.port() == 0 {
                continue;
            }
            let to = meta.dst_ip.zip(self.locals.as_mut());
            let path = Path { remote: meta.addr, local: to.and_then(|(to, locals)| locals.answering(meta.addr, to)) };
            if meta.len == 0 {
                // An empty datagram is one as well: it was read, and is counted by whoever counts.
                each(path, &mut []);
            }
            let stride = meta.stride.max(1);
            for datagram in buffer[..meta.len].chunks_mut(stride) {
                each(path, datagram);
            }
        }
        // A call that leaves buffers empty has emptied the socket.
        Ok(filled == count)
    }
}

impl Sender {
    /// Sends `contents` along a path, or to an address, as one datagram, or as datagrams of `segment` bytes, of which the
    /// last may be shorter: at most [`max_segments`](Socket::max_segments).
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full; nothing was sent then. Others mean that this cannot be sent, for
    /// instance because it [is too long](is_too_long).
    pub fn send(&self, to: impl Into<Path>, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        let path = to.into();
        let Err(error) = self.calls.send(&self.socket, path, contents, segment) else { return Ok(()) };
        let Some(segment) = segment.filter(|_| error.kind() != io::ErrorKind::WouldBlock) else { return Err(error) };
        // Some systems advertise an offload that they do not have and say so only now.
        contents.chunks(segment).try_for_each(|datagram| self.calls.send(&self.socket, path, datagram, None))
    }

    /// True if the system takes what [`send_slices`](Self::send_slices) sends from where it lies. Otherwise that copies it.
    pub fn gathers(&self) -> bool {
        gather::GATHERS && self.calls.max_segments() > 1
    }

    /// As [`send`](Self::send), for datagrams that lie in several places, one behind the other: the length of a slice says
    /// nothing about that of a datagram.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_slices<'s>(
        &self,
        to: impl Into<Path>,
        slices: impl Iterator<Item = &'s [u8]>,
        segment: Option<usize>,
    ) -> io::Result<()> {
        let path = to.into();
        let slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
        if let [contents] = &slices[..] {
            return self.send(path, contents, segment);
        }
        if self.gathers() {
            match gather::send(&self.socket, path, &slices, segment) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        // What the system does not take this way it may in one piece, or each by itself; if not its error is told.
        let mut contents = Vec::new();
        slices.iter().for_each(|slice| contents.extend_from_slice(slice));
        self.send(path, &contents, segment)
    }
}

#[cfg(unix)]
impl AsFd for Sender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(windows)]
impl AsSocket for Sender {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        self.socket.as_socket()
    }
}

/// Whether an error is about where one datagram went, and not about the socket: `ConnectionRefused` or, on some systems,
/// `ConnectionReset` says that nobody listens at the peer's address; Windows tells of routers' complaints as well.
pub fn is_about_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused) || is_net_reset(error)
}

/// Whether an error means that a datagram is longer than the first link of its path, or the system, carries.
pub fn is_too_long(error: &io::Error) -> bool {
    quinn_udp::is_msg_size_err(error)
}

/// WSAENETRESET: an earlier datagram went through too many routers.
#[cfg(windows)]
fn is_net_reset(error: &io::Error) -> bool {
    error.raw_os_error() == Some(10_052)
}

#[cfg(not(windows))]
fn is_net_reset(_: &io::Error) -> bool {
    false
}

fn new_socket(family: SocketAddr, buffer: usize, only_v6: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(family), Type::DGRAM, Some(Protocol::UDP))?;
    if family.is_ipv6() {
        // One socket for both families, unless there is another one; a system that cannot do that keeps to IPv6.
        let _ = socket.set_only_v6(only_v6);
    }
    // The system may grant less; `granted` tells.
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    Ok(socket)
}

/// Elsewhere this lets several sockets have an address as well, of which one gets everything.
#[cfg(target_os = "linux")]
fn share(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(target_os = "linux"))]
fn share(_: &socket2::Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
