//! What the operating system says of the server's sockets: datagrams that never came to the server.

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

/// Of the sockets bound to these; `None` where the system does not tell (proc(5), so Linux alone does).
pub(crate) fn receive_queues(addrs: &[SocketAddr]) -> Option<ReceiveQueues> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let mut all = ReceiveQueues::default();
    for addr in addrs {
        let table = if addr.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
        let ReceiveQueues { bytes, dropped } = sum(&std::fs::read_to_string(table).ok()?, *addr)?;
        all.bytes += bytes;
        all.dropped += dropped;
    }
    Some(all)
}

/// The sum over the lines of a table of sockets.
fn sum(table: &str, addr: SocketAddr) -> Option<ReceiveQueues> {
    let wanted = in_hex(addr);
    let mut found = None;
    for line in table.lines().skip(1) {
        // sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode ref pointer drops
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, _, queues, .., dropped] = fields[..] else { continue };
        if local != wanted {
            continue;
        }
        let bytes = queues.split_once(':').and_then(|(_, waiting)| u64::from_str_radix(waiting, 16).ok());
        let sum: &mut ReceiveQueues = found.get_or_insert_default();
        sum.bytes += bytes.unwrap_or(0);
        sum.dropped += dropped.parse::<u64>().unwrap_or(0);
    }
    found
}

/// An address as it stands there: words in the order of the machine.
fn in_hex(addr: SocketAddr) -> String {
    let octets = match addr {
        SocketAddr::V4(addr) => addr.ip().octets().to_vec(),
        SocketAddr::V6(addr) => addr.ip().octets().to_vec(),
    };
    let (words, _) = octets.as_chunks::<4>();
    let words: String = words.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect();
    format!("{words}:{:04X}", addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn sockets_of_an_address_are_found_and_added_up() {
        let head = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops";
        let line = |local: &str, waiting: &str, dropped: u32| {
            format!(
                "  1: {local} 00000000:0000 07 00000000:{waiting} 00:00000000 00000000 1000 0 12 2 0000000000000000 {dropped}"
            )
        };
        let table = [
            head.into(),
            line("0100007F:0FA0", "00000300", 3),
            line("0100007F:0FA1", "1", 9),
            line("0100007F:0FA0", "0", 4),
        ];
        let found = |addr: &str| sum(&table.join("\n"), addr.parse().unwrap());
        assert_eq!(found("127.0.0.1:4000"), Some(ReceiveQueues { bytes: 0x300, dropped: 7 }));
        assert_eq!(found("127.0.0.1:4002"), None);
        assert_eq!(in_hex("[::1]:4000".parse().unwrap()), "00000000000000000000000001000000:0FA0");
        assert_eq!(sum("", "127.0.0.1:1".parse().unwrap()), None);
        assert_eq!(sum("x\nshort line\n", "127.0.0.1:1".parse().unwrap()), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_socket_had_no_room_for_is_told_by_the_system() {
        let sockets = ["127.0.0.1:0", "[::1]:0"].map(std::net::UdpSocket::bind);
        for socket in sockets.into_iter().flatten() {
            let addr = socket.local_addr().unwrap();
            assert_eq!(receive_queues(&[addr]), Some(ReceiveQueues::default()));
            let sender = std::net::UdpSocket::bind((addr.ip(), 0)).unwrap();
            // Far more than any receive buffer that nobody empties.
            while receive_queues(&[addr]).unwrap().dropped == 0 {
                (0..100).for_each(|_| drop(sender.send_to(&[0; 8_000], addr)));
            }
            assert!(receive_queues(&[addr]).unwrap().bytes > 0);
        }
    }
}
