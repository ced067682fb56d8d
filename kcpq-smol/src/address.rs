//! The address of a server.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use kcpq_core::DEFAULT_PORT;

/// The address of a server: text, or a socket address.
///
/// As text it is a host or `host:port`, with `kcpq://` before it or not; the port is [`DEFAULT_PORT`] unless given. An
/// IPv6 address with a port stands in brackets.
///
/// ```
/// use kcpq_smol::Address;
///
/// let by_name = Address::from("localhost:4000");
/// let by_number = Address::from(([127, 0, 0, 1], 4000));
/// assert_eq!(by_number.to_string(), "127.0.0.1:4000");
/// assert_eq!("kcpq://127.0.0.1".parse(), Ok(by_number));
/// # let _ = by_name;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// As text; it is resolved, and errors in it are found, when a client connects.
    Name(String),
    /// An IP address and port.
    Socket(SocketAddr),
}

/// Why a text is not the address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// It is a URL of another scheme than `kcpq`.
    Scheme,
    /// There is no host, or something that cannot be one.
    Host,
    /// The port is not a number from 0 to 65535.
    Port,
    /// There is a number alone, which would be an IPv4 address in an old notation, and was meant as a port.
    Number,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the scheme has to be kcpq://",
            Self::Host => "no valid host: expected HOST[:PORT], for instance localhost:4000 or [::1]:4000",
            Self::Port => "the port has to be a number from 0 to 65535",
            Self::Number => "a number is no host: for a port of this machine write localhost:PORT",
        })
    }
}

impl Error for AddressError {}

impl Address {
    /// Looks up the socket addresses of the host, one at least, in the order in which the operating system prefers them.
    ///
    /// # Errors
    /// Those of the look-up; `InvalidInput` with an [`AddressError`] for a text that is not an address.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let found = match self {
            Self::Socket(addr) => vec![*addr],
            Self::Name(text) => {
                let place = host_and_port(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                smol::net::resolve(place).await?
            }
        };
        if found.is_empty() {
            Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
        } else {
            Ok(found)
        }
    }
}

/// Reads an address; that of a name says which port is meant.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = host_and_port(text)?;
        Ok(match host.parse::<IpAddr>() {
            Ok(ip) => Self::Socket((ip, port).into()),
            Err(_) if host.contains(':') => Self::Name(format!("[{host}]:{port}")),
            Err(_) => Self::Name(format!("{host}:{port}")),
        })
    }
}

fn host_and_port(text: &str) -> Result<(&str, u16), AddressError> {
    let place = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("kcpq") => rest.strip_suffix('/').unwrap_or(rest),
        Some(_) => return Err(AddressError::Scheme),
        None => text,
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => match rest.split_once(']').ok_or(AddressError::Host)? {
            (host, "") => (host, None),
            (host, port) => (host, Some(port.strip_prefix(':').ok_or(AddressError::Host)?)),
        },
        None => match place.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            // None, or those of an IPv6 address.
            _ => (place, None),
        },
    };
    let is_v6 = place.starts_with('[') || host.contains(':');
    // An IPv6 address may name its network interface behind a %.
    let valid = match is_v6 {
        true => host.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        false => !host.is_empty() && !host.contains(|c: char| c == '/' || c == ']' || c.is_whitespace()),
    };
    if !valid {
        return Err(AddressError::Host);
    }
    if host.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::Number);
    }
    let Some(port) = port else { return Ok((host, DEFAULT_PORT)) };
    match port.parse() {
        // A number may have a sign, a port does not.
        Ok(number) if !port.starts_with('+') => Ok((host, number)),
        _ => Err(AddressError::Port),
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
