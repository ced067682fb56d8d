//! Where a server of the backbone is: `nats://HOST:PORT`, as other clients of NATS take it, or `nats-leaf://HOST:PORT`, as leaf nodes
//! do.

use std::fmt;
use std::str::FromStr;

/// The ports of NATS: for clients, and for leaf nodes.
const DEFAULT_PORT: u16 = 4222;
const DEFAULT_LEAF_PORT: u16 = 7422;

/// The address of a NATS server: `nats://` or `tls://`, then USER:PASSWORD@ or TOKEN@ if need be, a host, and a port unless it
/// is 4222. Without a scheme it is `nats://`. With `nats-leaf://` it is where leaf nodes are let in, 7422 unless it says otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsAddress {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) is_leaf: bool,
    pub(super) user: Option<(String, Option<String>)>,
}

impl NatsAddress {
    /// It is `tls://`.
    pub fn is_secure(&self) -> bool {
        self.tls
    }

    /// It is where leaf nodes are let in.
    pub fn is_leaf(&self) -> bool {
        self.is_leaf
    }

    /// Reads the address where a server lets leaf nodes in: as others, but that is what it is for, whatever its scheme.
    ///
    /// # Errors
    /// [`NatsAddressError`]
    pub fn leaf(text: &str) -> Result<Self, NatsAddressError> {
        read(text, true)
    }
}

/// What is wrong with the text of a [`NatsAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatsAddressError(&'static str);

impl fmt::Display for NatsAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no address of a NATS server, as in nats://host:4222: {}", self.0)
    }
}

impl std::error::Error for NatsAddressError {}

impl FromStr for NatsAddress {
    type Err = NatsAddressError;

    fn from_str(text: &str) -> Result<Self, NatsAddressError> {
        read(text, false)
    }
}

fn read(text: &str, is_leaf: bool) -> Result<NatsAddress, NatsAddressError> {
    let (tls, is_leaf, rest) = match text.split_once("://") {
        None => (false, is_leaf, text),
        Some(("nats", rest)) => (false, is_leaf, rest),
        Some(("tls", rest)) => (true, is_leaf, rest),
        Some(("nats-leaf", rest)) => (false, true, rest),
        Some(_) => return Err(NatsAddressError("it begins with nats:// or tls://, or for leaf nodes nats-leaf://")),
    };
    let default = if is_leaf { DEFAULT_LEAF_PORT } else { DEFAULT_PORT };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, place) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((user, place)) => {
            let (name, password) = match user.split_once(':') {
                Some((name, password)) => (name, Some(decode(password)?)),
                None => (user, None),
            };
            (Some((decode(name)?, password)), place)
        }
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(NatsAddressError("']' is missing"))?;
            (host, port.strip_prefix(':'))
        }
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map_or(Ok(default), |port| port.parse().map_err(|_| NatsAddressError("the port is none")))?;
    if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
        return Err(NatsAddressError("the host is none"));
    }
    Ok(NatsAddress { host: host.into(), port, tls, is_leaf, user })
}

/// Without `%`, as addresses write what means something there.
fn decode(text: &str) -> Result<String, NatsAddressError> {
    const WRONG: NatsAddressError = NatsAddressError("behind '%' stand two hexadecimal digits");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(WRONG)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| WRONG)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| WRONG)
}

/// Without user and password.
impl fmt::Display for NatsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.tls, self.is_leaf) {
            (true, _) => "tls",
            (false, true) => "nats-leaf",
            (false, false) => "nats",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for NatsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_other_clients() {
        for (text, shown, user) in [
            ("a", "nats://a:4222", None),
            ("nats://a:1/", "nats://a:1", None),
            ("tls://u:p%40:x@a", "tls://a:4222", Some(("u", Some("p@:x")))),
            ("nats://token@[::1]:2", "nats://[::1]:2", Some(("token", None))),
        ] {
            let address: NatsAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            let said = address.user.as_ref().map(|(name, password)| (name.as_str(), password.as_deref()));
            assert_eq!(said, user);
            assert!(!format!("{address:?}").contains("p@"), "passwords are not shown");
        }
        for (text, shown) in [
            ("a", "nats-leaf://a:7422"),
            ("nats-leaf://u:p@a:1", "nats-leaf://a:1"),
            ("nats://a", "nats-leaf://a:7422"),
            ("tls://[::1]", "tls://[::1]:7422"),
        ] {
            let address = NatsAddress::leaf(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_leaf()), (shown, true));
        }
        assert!("nats-leaf://a".parse::<NatsAddress>().unwrap().is_leaf());
        for wrong in ["", "http://a", "nats://", "a:b", "a:99999", "[::1", "u%4@a", "a/b", "u%zz@a"] {
            assert!(wrong.parse::<NatsAddress>().is_err(), "{wrong}");
        }
    }
}
