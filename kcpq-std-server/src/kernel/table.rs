//! The kernel's table of all sockets, as a text: proc(5).

use std::net::SocketAddr;

use super::ReceiveQueues;

/// Of the sockets bound to `addr`; `None` if there are none, or the table cannot be read.
pub(super) fn receive_queues(addr: SocketAddr) -> Option<ReceiveQueues> {
    let table = if addr.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    sum(&std::fs::read_to_string(table).ok()?, addr)
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
        let queues = ReceiveQueues { bytes: bytes.unwrap_or(0), dropped: dropped.parse().unwrap_or(0) };
        found.get_or_insert_with(ReceiveQueues::default).add(queues);
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
}
