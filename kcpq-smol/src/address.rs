//! The address of a server.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The address of a server: "host:port" as text, or a socket address.
///
/// ```
/// use kcpq_smol::Address;
///
/// let by_name = Address::from("localhost:4000");
/// let by_number = Address::from(([127, 0, 0, 1], 4000));
/// assert_eq!(by_number.to_string(), "127.0.0.1:4000");
/// # let _ = by_name;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// "host:port", resolved when a client connects.
    Name(String),
    /// An IP address and port.
    Socket(SocketAddr),
}

impl Address {
    /// All addresses that it stands for: one at least.
    pub(crate) async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found = match self {
            Self::Socket(addr) => vec![*addr],
            Self::Name(name) => smol::net::resolve(name.as_str()).await?,
        };
        if found.is_empty() {
            Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
        } else {
            Ok(found)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Socket(addr) => addr.fmt(f),
        }
    }
}

impl From<&str> for Address {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl From<&String> for Address {
    fn from(name: &String) -> Self {
        Self::Name(name.clone())
    }
}

impl From<String> for Address {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Socket(addr)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from(addr: (I, u16)) -> Self {
        Self::Socket(addr.into())
    }
}
