//! A client, as the broker knows it: the path to it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kcpq_core::broker::Peer;
use kcpq_udp::Path;

/// The path to a client. Both ends are part of it: what goes back leaves from the address that the client asked, and a
/// datagram that comes to another one came by another path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client(pub(crate) Path);

impl Peer for Client {
    type Host = IpAddr;

    fn host(&self) -> IpAddr {
        self.0.remote.host()
    }

    fn is_local(&self) -> bool {
        SocketAddr::is_local(&self.0.remote)
    }
}

/// Its address.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.remote.fmt(f)
    }
}
