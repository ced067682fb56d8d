//! A UDP socket that moves many datagrams per system call; the server uses it as well.
//!
//! `quinn-udp` does the work: segmentation offload on the way out, `recvmmsg` and receive offload on the way in, and
//! plain calls where the system has none of it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use async_io::Async;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes asked for as a server's socket buffers, each way; and as a client's.
pub const BUFFER: usize = 8 << 20;
const CLIENT_BUFFER: usize = 4 << 20;
/// Whether a client's socket is connected: then the system tells it when nobody listens at the server's address. Elsewhere
/// a connected socket may refuse an address with each datagram, which is how `quinn-udp` sends.
const CONNECTS: bool = cfg!(any(target_os = "linux", target_os = "android"));
/// The longest UDP payload; with receive offload a buffer may hold many datagrams.
const MAX_PAYLOAD: usize = 65_535;

/// A socket and its receive buffers.
#[derive(Debug)]
pub struct Udp {
    socket: Arc<Sender>,
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BATCH_SIZE],
    /// Who it is connected to.
    peer: Option<SocketAddr>,
}

/// The half of a socket that sends; several may use it.
#[derive(Debug)]
pub struct Sender {
    io: Io,
    state: UdpSocketState,
}

/// The socket, and who waits for it.
#[derive(Debug)]
enum Io {
    /// The reactor of `async-io`, for tasks.
    Task(Async<UdpSocket>),
    /// The thread that owns it, by a poller of its own: no other thread takes part.
    Thread(UdpSocket),
}

impl Io {
    fn socket(&self) -> &UdpSocket {
        match self {
            Self::Task(io) => io.get_ref(),
            Self::Thread(socket) => socket,
        }
    }
}

/// What the system gave of the buffers that were asked for, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// Of the receive buffer.
    pub receive: usize,
    /// Of the send buffer.
    pub send: usize,
}

impl Udp {
    /// A socket that listens on `addr`, for a thread that waits for it by itself: see [`socket`](Self::socket). If it is one
    /// of `several` on that address, the system gives each peer's datagrams to one of them.
    ///
    /// # Errors
    /// The system's, for instance when the address is taken; `Unsupported` where it knows no such thing as several.
    pub fn bind(addr: SocketAddr, several: bool) -> io::Result<Self> {
        let socket = new_socket(addr, BUFFER)?;
        if several {
            #[cfg(target_os = "linux")]
            socket.set_reuse_port(true)?;
            #[cfg(not(target_os = "linux"))]
            return Err(io::ErrorKind::Unsupported.into());
        }
        socket.bind(&addr.into())?;
        socket.set_nonblocking(true)?;
        Self::new(Io::Thread(socket.into()), MAX_RECEIVES, None)
    }

    /// A socket on a free port that hears `peer` only.
    ///
    /// # Errors
    /// The system's, for instance when there is no route.
    pub fn connect(peer: SocketAddr) -> io::Result<Self> {
        let socket = new_socket(peer, CLIENT_BUFFER)?;
        if CONNECTS {
            socket.connect(&peer.into())?;
        } else {
            let any: IpAddr = if peer.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            socket.bind(&SocketAddr::from((any, 0)).into())?;
        }
        Self::new(Io::Task(Async::new(UdpSocket::from(socket))?), CLIENT_RECEIVES, Some(peer))
    }

    fn new(io: Io, receives: usize, peer: Option<SocketAddr>) -> io::Result<Self> {
        let state = UdpSocketState::new(io.socket().into())?;
        let size = if state.gro_segments() > 1 { MAX_PAYLOAD } else { MAX_DATAGRAM };
        let buffers = vec![vec![0; size]; receives.min(BATCH_SIZE)];
        Ok(Self { socket: Arc::new(Sender { io, state }), buffers, metas: [RecvMeta::default(); BATCH_SIZE], peer })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io.socket().local_addr()
    }

    /// The buffers that the system gave.
    ///
    /// # Errors
    /// The system's.
    pub fn granted(&self) -> io::Result<Granted> {
        Ok(Granted {
            receive: self.socket.state.recv_buffer_size(self.socket.io.socket().into())?,
            send: self.socket.state.send_buffer_size(self.socket.io.socket().into())?,
        })
    }

    /// The socket, to wait for it. It does not block.
    pub fn socket(&self) -> &UdpSocket {
        self.socket.io.socket()
    }

    /// True if the system may cut a datagram on its way into pieces when it is too long for the path.
    pub fn may_fragment(&self) -> bool {
        self.socket.state.may_fragment()
    }

    /// Datagrams that one call of the kernel may carry.
    pub fn max_segments(&self) -> usize {
        self.socket.state.max_gso_segments()
    }

    /// Waits until there is something to receive. A socket for a thread does not wait.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.socket.io {
            Io::Task(io) => io.readable().await,
            Io::Thread(_) => Ok(()),
        }
    }

    /// Waits until there is room to send. A socket for a thread does not wait.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match &self.socket.io {
            Io::Task(io) => io.writable().await,
            Io::Thread(_) => Ok(()),
        }
    }

    /// The half that sends.
    pub fn sender(&self) -> &Arc<Sender> {
        &self.socket
    }

    /// Takes in what one system call gives, and says whether there may be more.
    ///
    /// # Errors
    /// The system's; `ConnectionRefused` and `ConnectionReset` only for a client's socket, on systems that tell: nobody listens at the peer's address.
    pub fn recv(&mut self, mut each: impl FnMut(SocketAddr, &mut [u8])) -> io::Result<bool> {
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let count = self.buffers.len();
        for (slice, buffer) in slices.iter_mut().zip(&mut self.buffers) {
            *slice = IoSliceMut::new(buffer);
        }
        let slices = &mut slices[..count];
        let filled = match self.socket.state.recv(self.socket.io.socket().into(), slices, &mut self.metas[..count]) {
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // An ICMP message about one of many peers; the next call gives data again.
            Err(error) if self.peer.is_none() && is_about_peer(&error) => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in self.metas.iter().zip(slices).take(filled) {
            if let Some(peer) = self.peer.filter(|_| !CONNECTS)
                && (peer.ip(), peer.port()) != (meta.addr.ip(), meta.addr.port())
            {
                continue;
            }
            if meta.len == 0 {
                // An empty datagram is one as well: it was read, and is counted by whoever counts.
                each(meta.addr, &mut []);
            }
            let stride = meta.stride.max(1);
            for datagram in buffer[..meta.len].chunks_mut(stride) {
                each(meta.addr, datagram);
            }
        }
        // A call that leaves buffers empty has emptied the socket.
        Ok(filled == count)
    }
}

impl Sender {
    /// Sends `contents`, cut into datagrams of `segment` bytes if there is one.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full; nothing was sent then. Others are the system's word that this cannot be
    /// sent.
    pub fn send(&self, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size: segment, src_ip: None };
        let Err(error) = self.state.try_send(self.io.socket().into(), &transmit) else { return Ok(()) };
        let Some(segment) = segment.filter(|_| error.kind() != io::ErrorKind::WouldBlock) else { return Err(error) };
        // Some systems advertise an offload that they do not have and say so only now.
        for datagram in contents.chunks(segment) {
            let transmit =
                Transmit { destination: to, ecn: None, contents: datagram, segment_size: None, src_ip: None };
            self.state.try_send(self.io.socket().into(), &transmit)?;
        }
        Ok(())
    }
}

fn new_socket(family: SocketAddr, buffer: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(family), Type::DGRAM, Some(Protocol::UDP))?;
    if family.is_ipv6() {
        // One socket for both families; a system that cannot do that keeps to IPv6.
        let _ = socket.set_only_v6(false);
    }
    // The system may grant less; `granted` tells.
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    Ok(socket)
}

/// Whether an error says that nobody listens at the peer's address. Which of the two it is depends on the system.
pub(crate) fn is_about_peer(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

/// Buffers of one receive call: all that the system takes for a server, which hears many; few for a client.
const MAX_RECEIVES: usize = BATCH_SIZE;
const CLIENT_RECEIVES: usize = 4;
/// The longest datagram without receive offload: a little more than native peers on one machine send.
const MAX_DATAGRAM: usize = 17_000;
