//! A client, as the broker knows it: the path to it, and by which of the server's addresses it leads.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kcpq_core::broker::Peer;
use kcpq_udp::Path;

/// The path to a client. Both ends are part of it: what goes back leaves from the address that the client asked, and a
/// datagram that comes to another one came by another path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) path: Path,
    /// Which of the addresses that the server listens on, in the order of its configuration.
    pub(crate) listener: u8,
}

impl Client {
    /// The listener of those that came over a stream: no address that datagrams come to.
    const STREAM: u8 = u8::MAX;

    /// One that came over a stream.
    pub(crate) fn of_stream(remote: SocketAddr) -> Self {
        Self { path: remote.into(), listener: Self::STREAM }
    }
}

impl Peer for Client {
    type Host = IpAddr;

    fn host(&self) -> IpAddr {
        self.path.remote.host()
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.path.remote)
    }

    fn is_local(&self) -> bool {
        self.listener != Self::STREAM && SocketAddr::is_local(&self.path.remote)
    }
}

/// Its address.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.remote.fmt(f)
    }
}
