//! UDP by embassy-net (feature `embassy-net`).

use core::future::poll_fn;
use core::task::{Poll, ready};

use embassy_net::IpEndpoint;
use embassy_net::udp::{BindError, RecvError, SendError, UdpSocket};

use crate::Transport;

/// A socket of embassy-net and the server's address. Wait until the stack has an address (`Stack::wait_config_up`)
/// before running the client; until then sending fails and the client keeps trying to connect.
///
/// The socket's receive buffer should hold as many datagrams as the window: further ones are dropped silently by the
/// stack and have to be retransmitted.
pub struct Udp<'s> {
    socket: UdpSocket<'s>,
    server: IpEndpoint,
}

impl core::fmt::Debug for Udp<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Udp").field("server", &self.server).finish_non_exhaustive()
    }
}

/// An error of the network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// Sending failed.
    Send(SendError),
    /// Binding to another port failed.
    Bind(BindError),
}

impl<'s> Udp<'s> {
    /// A transport to `server`. A `socket` that is not open yet is bound to a port of the stack's choice.
    ///
    /// # Errors
    /// The stack's, if there is no port.
    pub fn new(mut socket: UdpSocket<'s>, server: impl Into<IpEndpoint>) -> Result<Self, BindError> {
        if !socket.is_open() {
            socket.bind(0)?;
        }
        Ok(Self { socket, server: server.into() })
    }

    /// The server's address.
    pub fn server(&self) -> IpEndpoint {
        self.server
    }

    /// Changes the server, from the next datagram on.
    pub fn set_server(&mut self, server: impl Into<IpEndpoint>) {
        self.server = server.into();
    }
}

impl Transport for Udp<'_> {
    type Error = Error;

    // By polling: each future of the stack's own around it takes flash and RAM.

    fn send(&mut self, datagram: &[u8]) -> impl Future<Output = Result<(), Error>> {
        poll_fn(|cx| self.socket.poll_send_to(datagram, self.server, cx).map_err(Error::Send))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> impl Future<Output = Result<usize, Error>> {
        poll_fn(|cx| {
            loop {
                return Poll::Ready(Ok(match ready!(self.socket.poll_recv_from(buffer, cx)) {
                    Ok((len, from)) if from.endpoint == self.server => len,
                    // Someone else's.
                    Ok(_) => continue,
                    Err(RecvError::Truncated) => 0,
                }));
            }
        })
    }

    fn is_too_long(error: &Error) -> bool {
        matches!(error, Error::Send(SendError::PacketTooLarge))
    }

    async fn renew(&mut self) -> Result<(), Error> {
        self.socket.close();
        self.socket.bind(0).map_err(Error::Bind)
    }
}
