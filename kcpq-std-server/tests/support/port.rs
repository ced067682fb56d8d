//! Ports for those who have to be told one: servers that are named before they run, or that come back where they were.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Below those that a system gives to who asks for any, so that no socket has one by chance while its owner is away.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that nobody has, neither for UDP nor for TCP. The tests of a process get different ones.
pub(crate) fn free() -> u16 {
    static TURN: AtomicU16 = AtomicU16::new(0);
    // Processes side by side begin at different ones.
    let begin = std::process::id() % u32::from(COUNT) * 199;
    loop {
        let turn = u32::from(TURN.fetch_add(1, Relaxed));
        let port = FIRST + ((begin + turn) % u32::from(COUNT)) as u16;
        let addr = ("127.0.0.1", port);
        if UdpSocket::bind(addr).is_ok() && TcpListener::bind(addr).is_ok() {
            return port;
        }
    }
}

/// Such a port with its address.
pub(crate) fn free_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free()))
}
