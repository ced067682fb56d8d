//! Where datagrams come from and go to.

use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, SocketAddr};

/// Where datagrams come from and go to. The broker only compares and counts them.
pub trait Peer: Copy + Eq + Hash + fmt::Debug {
    /// What several peers have in common if they are one machine.
    type Host: Copy + Eq + Hash;

    /// The machine, for the limit of sessions per address.
    fn host(&self) -> Self::Host;

    /// Where it is, if that is an address that can be told others ([`Presence::addresses`](super::Presence::addresses)).
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// True if it is the machine that the broker runs on.
    fn is_local(&self) -> bool {
        false
    }
}

impl Peer for SocketAddr {
    type Host = IpAddr;

    fn host(&self) -> IpAddr {
        self.ip()
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(*self)
    }

    fn is_local(&self) -> bool {
        self.ip().to_canonical().is_loopback()
    }
}

/// Datagrams to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<P> {
    /// To whom.
    pub to: P,
    /// Bytes written to the buffer.
    pub len: usize,
    /// The length of each datagram but the last, if there are several.
    pub segment: Option<usize>,
    /// It asks whether the path carries a datagram of its length: that the system refuses to send it is an answer as well.
    pub asks: bool,
}
