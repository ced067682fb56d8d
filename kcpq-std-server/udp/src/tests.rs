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

/// Sends datagrams of four bytes, whose parts lie in several places, from `from` along `path`, and receives them at `to`.
fn slices_arrive(from: &Socket, path: Path, to: &mut Socket) {
    let slices: [&[u8]; 6] = [b"on", b"ceup", b"", b"o", b"n..e", b"nd"];
    from.sender().send_slices(path, slices.into_iter(), Some(4)).unwrap();
    from.sender().send_slices(path, slices.into_iter(), None).unwrap();
    from.sender().send_slices(path, slices.into_iter().take(1), None).unwrap();
    let (begun, mut came) = (Instant::now(), Vec::new());
    while came.len() < 6 {
        assert!(begun.elapsed() < LIMIT, "{} datagrams came", came.len());
        to.recv(|_, datagram| came.push(datagram.to_vec())).unwrap();
    }
    let expected: [&[u8]; 6] = [b"once", b"upon", b"..en", b"d", b"onceupon..end", b"on"];
    assert!(came.iter().map(|datagram| &datagram[..]).eq(expected));
}

#[test]
fn what_lies_in_several_places_arrives_in_one() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(mut server) = Socket::bind(addr.parse().unwrap()) else { continue };
        let addr = server.local_addr().unwrap();
        let client = Socket::connect(addr).unwrap();
        slices_arrive(&client, addr.into(), &mut server);
        // From the address that the other knows, where the system might choose among several.
        let (mut client, local) = (client, Some(addr.ip()));
        let to = Path { remote: client.local_addr().unwrap(), local };
        slices_arrive(&server, to, &mut client);
    }
    let (mut server, addr) = plain(None);
    let (client, _) = plain(Some(addr));
    assert!(!client.sender().gathers());
    slices_arrive(&client, addr.into(), &mut server);
}

#[test]
fn an_error_of_what_lies_in_several_places_is_told() {
    let client = Socket::connect("127.0.0.1:9".parse().unwrap()).unwrap();
    let long = vec![7; 40_000];
    let sent = client.sender().send_slices(client.local_addr().unwrap(), [&long[..], &long].into_iter(), None);
    assert!(is_too_long(&sent.unwrap_err()));
}
