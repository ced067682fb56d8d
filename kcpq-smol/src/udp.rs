//! The socket of a client, and the reactor of `async-io` that waits for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_io::Async;
use kcpq_udp::{Sender, Socket};
use mio::{Interest, Registry};

use crate::own;

/// A socket that tasks wait for.
#[derive(Debug)]
pub(crate) struct Udp {
    pub(crate) socket: Socket,
    /// The same socket, as the reactor knows it.
    registered: Async<Arc<Sender>>,
    /// The same, as the poller of a client's own thread knows it.
    polled: Option<mio::net::UdpSocket>,
}

impl Udp {
    /// A socket on a free port that hears `peer` only.
    ///
    /// # Errors
    /// The system's, for instance when there is no route.
    pub(crate) fn connect(peer: SocketAddr) -> io::Result<Self> {
        let socket = Socket::connect(peer)?;
        let registered = Async::new_nonblocking(Arc::clone(socket.sender()))?;
        Ok(Self { socket, registered, polled: None })
    }

    /// Ready when there may be something to receive. One task only may wait for it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registered.poll_readable(cx)
    }

    /// Lets a poller tell when there is something to receive; once is enough.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        if self.polled.is_none() {
            let mut polled = mio::net::UdpSocket::from_std(self.socket.socket().try_clone()?);
            registry.register(&mut polled, own::SOCKET, Interest::READABLE)?;
            self.polled = Some(polled);
        }
        Ok(())
    }

    /// It was read until it was empty: on Windows a poller tells of nothing more before it knows.
    pub(crate) fn emptied(&self) {
        if let Some(polled) = &self.polled {
            let _ = polled.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.registered.writable().await
    }
}

/// Whether an error of sending says that the socket's source address is gone, or the way that it was chosen for: another
/// socket may do better. A cable instead of Wi-Fi, a new address from DHCP or PPPoE, a network that came up late.
pub(crate) fn is_about_source(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, InvalidInput, NetworkDown, NetworkUnreachable};
    // EINVAL is what Linux says of a source address that is no longer its own.
    matches!(error.kind(), AddrNotAvailable | InvalidInput | NetworkDown | NetworkUnreachable)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_when_the_source_address_or_the_network_is_gone() {
        let about = |code| is_about_source(&io::Error::from_raw_os_error(code));
        // EINVAL, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH.
        assert!([22, 99, 100, 101].into_iter().all(about));
        // EPERM, EAGAIN, EMSGSIZE, ECONNREFUSED.
        assert!(![1, 11, 90, 111].into_iter().any(about));
    }

    #[test]
    fn a_source_address_that_cannot_reach_the_peer_is_such_an_error() {
        // A socket of this machine's loopback network is not let out of it.
        let socket = Socket::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let error = socket.sender().send(SocketAddr::from(([192, 0, 2, 1], 9)), b"hello", None).unwrap_err();
        assert!(is_about_source(&error), "{error}");
    }
}
