//! The two ends of a path: where a datagram came from, and which of this machine's addresses it came to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

/// The two ends of a path.
///
/// What comes back along the path of a datagram leaves from the address that the datagram was sent to. On a machine with
/// several the system would choose one by itself, and the peer knows no other than the one it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The peer's end.
    pub remote: SocketAddr,
    /// This end. `None` leaves it to the system: for a socket that is bound to one address, where the system does not
    /// tell, and where it could not be answered from.
    pub local: Option<IpAddr>,
}

/// A path that leaves this end to the system.
impl From<SocketAddr> for Path {
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: None }
    }
}

/// The IPv4 addresses that datagrams came to lately, and whether each is one machine's: to a broadcast address others
/// listen as well, and nothing leaves from it.
#[derive(Debug, Default)]
pub(crate) struct Locals {
    known: Vec<(Ipv4Addr, bool)>,
    /// Which of them makes room for the next.
    oldest: usize,
}

/// Addresses that are remembered. More cost system calls, not correctness.
const MAX_KNOWN: usize = 32;

impl Locals {
    /// The address `to` that a datagram of `remote` came to, if an answer can leave from there.
    pub(crate) fn answering(&mut self, remote: SocketAddr, to: IpAddr) -> Option<IpAddr> {
        let answers = match to.to_canonical() {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && self.is_one_machine(ip),
            // A link-local source needs a link, which a wider destination does not name.
            IpAddr::V6(ip) => {
                !ip.is_unspecified()
                    && !ip.is_multicast()
                    && (!ip.is_unicast_link_local() || is_link_local(remote.ip()))
            }
        };
        answers.then_some(to)
    }

    fn is_one_machine(&mut self, ip: Ipv4Addr) -> bool {
        if let Some((_, is_one)) = self.known.iter().find(|(known, _)| *known == ip) {
            return *is_one;
        }
        let is_one = !is_broadcast(ip);
        match self.known.get_mut(self.oldest) {
            Some(place) => *place = (ip, is_one),
            None => self.known.push((ip, is_one)),
        }
        self.oldest = (self.oldest + 1) % MAX_KNOWN;
        is_one
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Whether it is a broadcast address, which only the system knows of a subnet's: it connects to none unless asked to.
fn is_broadcast(ip: Ipv4Addr) -> bool {
    /// Any: nothing is sent.
    const PORT: u16 = 9;
    let connected = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((ip, PORT)));
    ip.is_broadcast() || connected.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leaves_from_what_is_one_machines_address_alone() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let peer = |text: &str| SocketAddr::new(ip(text), 4000);
        let mut locals = Locals::default();
        for (remote, to, answers) in [
            ("127.0.0.1", "127.0.0.2", true),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.2", true),
            ("127.0.0.1", "255.255.255.255", false),
            ("127.0.0.1", "::ffff:255.255.255.255", false),
            ("127.0.0.1", "224.0.0.1", false),
            ("127.0.0.1", "0.0.0.0", false),
            ("2001:db8::1", "2001:db8::2", true),
            ("2001:db8::1", "ff02::1", false),
            ("2001:db8::1", "::", false),
            ("fe80::1", "fe80::2", true),
            ("2001:db8::1", "fe80::2", false),
        ] {
            let expected = answers.then(|| ip(to));
            assert_eq!(locals.answering(peer(remote), ip(to)), expected, "{remote} to {to}");
        }
        if cfg!(target_os = "linux") {
            assert_eq!(
                locals.answering(peer("127.0.0.1"), ip("127.255.255.255")),
                None,
                "loopback's broadcast address"
            );
        }
    }

    #[test]
    fn what_is_remembered_of_addresses_has_a_bound() {
        let mut locals = Locals::default();
        for _ in 0..2 {
            for host in 1..=100 {
                let to = IpAddr::from([127, 1, 1, host]);
                assert_eq!(locals.answering(SocketAddr::from(([127, 0, 0, 1], 1)), to), Some(to));
            }
        }
        assert_eq!(locals.known.len(), MAX_KNOWN);
    }
}
