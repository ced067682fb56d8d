//! A UDP socket that moves many datagrams per system call.
//!
//! `quinn-udp` does the work: segmentation offload on the way out, `recvmmsg` and receive offload on the way in, and
//! plain calls where the system has none of it.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};

use async_io::Async;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes asked for as the socket's buffers, each way.
pub(crate) const BUFFER: usize = 8 << 20;
/// The longest UDP payload; with receive offload a buffer may hold many datagrams.
const MAX_PAYLOAD: usize = 65_535;

/// A bound socket and its receive buffers.
pub(crate) struct Udp {
    io: Async<UdpSocket>,
    state: UdpSocketState,
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BATCH_SIZE],
}

/// What the system gave of the buffers that were asked for, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) receive: usize,
    pub(crate) send: usize,
}

impl Udp {
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            // One socket for both families; a system that cannot do that keeps to IPv6.
            let _ = socket.set_only_v6(false);
        }
        // The system may grant less; `granted` tells.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.bind(&addr.into())?;
        let io = Async::new(UdpSocket::from(socket))?;
        let state = UdpSocketState::new((&io).into())?;
        let size = if state.gro_segments() > 1 { MAX_PAYLOAD } else { MAX_DATAGRAM };
        Ok(Self { state, buffers: vec![vec![0; size]; BATCH_SIZE], metas: [RecvMeta::default(); BATCH_SIZE], io })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    pub(crate) fn granted(&self) -> io::Result<Granted> {
        Ok(Granted {
            receive: self.state.recv_buffer_size((&self.io).into())?,
            send: self.state.send_buffer_size((&self.io).into())?,
        })
    }

    /// Datagrams that one call of [`send`](Self::send) may carry.
    pub(crate) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Takes in what one system call gives; returns the number of datagrams, 0 when there are none.
    pub(crate) fn recv(&mut self, mut each: impl FnMut(SocketAddr, &mut [u8])) -> io::Result<usize> {
        let mut slices = self.buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
        let filled = match self.state.recv((&self.io).into(), &mut slices, &mut self.metas) {
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            // An ICMP message about a peer that went away; the next call gives data again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut count = 0;
        for (meta, buffer) in self.metas.iter().zip(&mut slices).take(filled) {
            let stride = meta.stride.max(1);
            for datagram in buffer[..meta.len].chunks_mut(stride) {
                each(meta.addr, datagram);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Sends `contents`, cut into datagrams of `segment` bytes if there is one.
    ///
    /// # Errors
    /// `WouldBlock` when the socket is full; nothing was sent then. Others are the system's word that this cannot be
    /// sent.
    pub(crate) fn send(&self, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        let transmit = Transmit { destination: to, ecn: None, contents, segment_size: segment, src_ip: None };
        let Err(error) = self.state.try_send((&self.io).into(), &transmit) else { return Ok(()) };
        let Some(segment) = segment.filter(|_| error.kind() != io::ErrorKind::WouldBlock) else { return Err(error) };
        // Some systems advertise an offload that they do not have and say so only now.
        for datagram in contents.chunks(segment) {
            let transmit = Transmit { destination: to, ecn: None, contents: datagram, segment_size: None, src_ip: None };
            self.state.try_send((&self.io).into(), &transmit)?;
        }
        Ok(())
    }
}

/// The longest datagram without receive offload; peers send 1400 at most (WIRE.md 0.4), ours may be told more.
const MAX_DATAGRAM: usize = 9_216;
