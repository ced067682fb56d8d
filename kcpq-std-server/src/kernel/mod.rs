//! What the operating system says of the server's sockets: datagrams that never came to the server.
//!
//! Linux alone tells. It is asked for the sockets of one port ([`diag`]); where that is not to be had, in some sandboxes, its
//! table of all sockets is read ([`table`]).

#[cfg(target_os = "linux")]
mod diag;
#[cfg(target_os = "linux")]
mod table;

use std::net::SocketAddr;

/// The receive queues of a server's sockets, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiveQueues {
    /// Bytes that wait to be read, with what the system needs for each datagram.
    pub bytes: u64,
    /// Datagrams dropped since the sockets were opened, mostly because there was no more room: see the advice on buffers in
    /// the README.
    pub dropped: u64,
}

impl ReceiveQueues {
    /// Adds those of other sockets.
    #[cfg(target_os = "linux")]
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.dropped += other.dropped;
    }
}

/// Of the sockets bound to these; `None` where the system does not tell.
#[cfg(target_os = "linux")]
pub(crate) fn receive_queues(addrs: &[SocketAddr]) -> Option<ReceiveQueues> {
    let mut all = ReceiveQueues::default();
    for addr in addrs {
        all.add(diag::receive_queues(*addr).or_else(|| table::receive_queues(*addr))?);
    }
    Some(all)
}

/// It does not tell.
#[cfg(not(target_os = "linux"))]
pub(crate) fn receive_queues(_: &[SocketAddr]) -> Option<ReceiveQueues> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_a_socket_had_no_room_for_is_told_by_the_system() {
        for ask in [diag::receive_queues, table::receive_queues] {
            for socket in ["127.0.0.1:0", "[::1]:0"].map(UdpSocket::bind).into_iter().flatten() {
                let addr = socket.local_addr().unwrap();
                assert_eq!(ask(addr), Some(ReceiveQueues::default()));
                let sender = UdpSocket::bind((addr.ip(), 0)).unwrap();
                // Far more than any receive buffer that nobody empties.
                while ask(addr).unwrap().dropped == 0 {
                    (0..100).for_each(|_| drop(sender.send_to(&[0; 8_000], addr)));
                }
                assert!(ask(addr).unwrap().bytes > 0);
                assert_eq!(diag::receive_queues(addr), table::receive_queues(addr));
                drop(socket);
                assert_eq!(ask(addr), None, "nobody is there");
            }
        }
    }
}
