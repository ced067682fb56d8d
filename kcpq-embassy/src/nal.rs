//! UDP by any stack of embedded-nal-async (feature `embedded-nal-async`).

use core::net::SocketAddr;

use embedded_nal_async::{ConnectedUdp, UdpStack};

use crate::Transport;

/// A connected socket of `stack`. Its `receive_into` has to be cancel-safe, as it usually is.
#[derive(Debug)]
pub struct Udp<'s, S: UdpStack> {
    stack: &'s S,
    server: SocketAddr,
    socket: S::Connected,
}

/// An error of the UDP stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error<C, E> {
    /// Connecting failed.
    Connect(C),
    /// Sending or receiving failed.
    Socket(E),
}

impl<'s, S: UdpStack> Udp<'s, S> {
    /// A transport to `server`.
    ///
    /// # Errors
    /// The stack's.
    pub async fn connect(stack: &'s S, server: SocketAddr) -> Result<Self, S::Error> {
        let (_, socket) = stack.connect(server).await?;
        Ok(Self { stack, server, socket })
    }
}

impl<S: UdpStack> Transport for Udp<'_, S> {
    type Error = Error<S::Error, <S::Connected as ConnectedUdp>::Error>;

    async fn send(&mut self, datagram: &[u8]) -> Result<(), Self::Error> {
        self.socket.send(datagram).await.map_err(Error::Socket)
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        let len = self.socket.receive_into(buffer).await.map_err(Error::Socket)?;
        // A longer one was cut, which its length tells.
        Ok(if len > buffer.len() { 0 } else { len })
    }

    async fn renew(&mut self) -> Result<(), Self::Error> {
        let (_, socket) = self.stack.connect(self.server).await.map_err(Error::Connect)?;
        self.socket = socket;
        Ok(())
    }
}
