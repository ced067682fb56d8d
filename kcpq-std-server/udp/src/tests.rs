//! What stands in for `quinn-udp`: the system's plain calls have to do the same.

use std::time::{Duration, Instant};

use super::*;

/// Far more than anything here takes; only a failure waits for it.
const LIMIT: Duration = Duration::from_secs(60);

fn plain(peer: Option<SocketAddr>) -> (Socket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    (Socket::new(socket, Calls::Plain, LISTENING_RECEIVES, peer).unwrap(), addr)
}

#[test]
fn plain_calls_send_a_batch_one_by_one_and_receive_until_there_is_nothing() {
    let (mut server, addr) = plain(None);
    let (client, from) = plain(Some(addr));
    assert_eq!((client.max_segments(), client.may_fragment()), (1, true));
    assert!(!server.recv(|_, _| panic!("nothing was sent")).unwrap());
    let longest = vec![7; 60_000];
    client.sender().send(addr, b"onceupon..", Some(4)).unwrap();
    client.sender().send(addr, &[], None).unwrap();
    client.sender().send(addr, &longest, None).unwrap();
    let (begun, mut came) = (Instant::now(), Vec::new());
    while came.len() < 5 {
        assert!(begun.elapsed() < LIMIT, "{} datagrams came", came.len());
        server.recv(|path, datagram| came.push((path, datagram.to_vec()))).unwrap();
    }
    let expected: [&[u8]; 5] = [b"once", b"upon", b"..", b"", &longest];
    assert!(came.iter().map(|(_, datagram)| &datagram[..]).eq(expected));
    assert!(came.iter().all(|(path, _)| *path == Path::from(from)));
}

#[test]
fn what_the_system_granted_is_told_whatever_the_calls() {
    let (socket, _) = plain(None);
    let granted = socket.granted().unwrap();
    assert!(granted.receive > 0 && granted.send > 0, "{granted:?}");
}
