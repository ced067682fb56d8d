//! The socket of a client, and the reactor of `async-io` that waits for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_io::Async;
use kcpq_udp::{Sender, Socket};

/// A socket that tasks wait for.
#[derive(Debug)]
pub(crate) struct Udp {
    pub(crate) socket: Socket,
    /// The same socket, as the reactor knows it.
    registered: Async<Arc<Sender>>,
}

impl Udp {
    /// A socket on a free port that hears `peer` only.
    ///
    /// # Errors
    /// The system's, for instance when there is no route.
    pub(crate) fn connect(peer: SocketAddr) -> io::Result<Self> {
        let socket = Socket::connect(peer)?;
        let registered = Async::new_nonblocking(Arc::clone(socket.sender()))?;
        Ok(Self { socket, registered })
    }

    /// Waits until there is something to receive.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.registered.readable().await
    }

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.registered.writable().await
    }
}
