//! Where a server of the backbone is: `nats://HOST:PORT`, as other clients of NATS take it.

use std::fmt;
use std::str::FromStr;

/// The port of NATS.
const DEFAULT_PORT: u16 = 4222;

/// The address of a NATS server: `nats://` or `tls://`, then USER:PASSWORD@ or TOKEN@ if need be, a host, and a port unless it
/// is 4222. Without a scheme it is `nats://`.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsAddress {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) user: Option<(String, Option<String>)>,
}

impl NatsAddress {
    /// It is `tls://`.
    pub fn is_secure(&self) -> bool {
        self.tls
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
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("nats", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            Some(_) => return Err(NatsAddressError("it begins with nats:// or tls://")),
        };
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
        let port =
            port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| NatsAddressError("the port is none")))?;
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(NatsAddressError("the host is none"));
        }
        Ok(Self { host: host.into(), port, tls, user })
    }
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
        let scheme = if self.tls { "tls" } else { "nats" };
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
        for wrong in ["", "http://a", "nats://", "a:b", "a:99999", "[::1", "u%4@a", "a/b", "u%zz@a"] {
            assert!(wrong.parse::<NatsAddress>().is_err(), "{wrong}");
        }
    }
}
