//! The system's calls: those of `quinn-udp`, or the plain ones where the system has not what these need.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};

use crate::path::Path;

/// The longest UDP payload.
const MAX_PAYLOAD: usize = 65_535;
/// The longest datagram that native peers send, on one machine, and a little more.
const MAX_DATAGRAM: usize = 17_000;

/// How datagrams go to the system and come from it.
#[derive(Debug)]
pub(crate) enum Calls {
    /// Many in a call, as far as the system can.
    Batched(UdpSocketState),
    /// One in a call, from the address that the system chooses, and cut into fragments if it likes.
    Plain,
}

impl Calls {
    /// Prepares a socket. `quinn-udp` insists on options that only matter for speed, for machines with several addresses
    /// and for path MTU discovery: where one is refused (by Wine, or in a sandbox) it goes without all of them.
    ///
    /// # Errors
    /// The system's, when the socket cannot be made non-blocking.
    pub(crate) fn new(socket: &UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(UdpSocketState::new(socket.into()).map_or(Self::Plain, Self::Batched))
    }

    /// Sends datagrams of `segment` bytes, of which the last may be shorter; without `segment` it is one.
    pub(crate) fn send(
        &self,
        socket: &UdpSocket,
        path: Path,
        contents: &[u8],
        segment: Option<usize>,
    ) -> io::Result<()> {
        let Path { remote, local } = path;
        match self {
            Self::Batched(state) => {
                let transmit =
                    Transmit { destination: remote, ecn: None, contents, segment_size: segment, src_ip: local };
                state.try_send(socket.into(), &transmit)
            }
            Self::Plain => match segment {
                None => socket.send_to(contents, remote).map(drop),
                Some(len) => {
                    contents.chunks(len.max(1)).try_for_each(|datagram| socket.send_to(datagram, remote).map(drop))
                }
            },
        }
    }

    /// Fills buffers; returns how many.
    pub(crate) fn recv(
        &self,
        socket: &UdpSocket,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> io::Result<usize> {
        match self {
            Self::Batched(state) => state.recv(socket.into(), buffers, metas),
            Self::Plain => {
                let Some((buffer, meta)) = buffers.first_mut().zip(metas.first_mut()) else { return Ok(0) };
                let (len, addr) = socket.recv_from(buffer)?;
                (meta.addr, meta.len, meta.stride, meta.dst_ip) = (addr, len, len, None);
                Ok(1)
            }
        }
    }

    /// Most datagrams in one call of [`send`](Self::send), at least 1.
    pub(crate) fn max_segments(&self) -> usize {
        match self {
            Self::Batched(state) => state.max_gso_segments().max(1),
            Self::Plain => 1,
        }
    }

    /// Most buffers that a call of [`recv`](Self::recv) fills, and the length that each has to have.
    pub(crate) fn buffers(&self) -> (usize, usize) {
        match self {
            // With receive offload each may get many datagrams.
            Self::Batched(state) if state.gro_segments() > 1 => (BATCH_SIZE, MAX_PAYLOAD),
            Self::Batched(_) => (BATCH_SIZE, MAX_DATAGRAM),
            // What is longer than its buffer some systems call an error.
            Self::Plain => (1, MAX_PAYLOAD),
        }
    }

    /// True if a datagram that is too long for its path may be cut into fragments.
    pub(crate) fn may_fragment(&self) -> bool {
        match self {
            Self::Batched(state) => state.may_fragment(),
            Self::Plain => true,
        }
    }
}
