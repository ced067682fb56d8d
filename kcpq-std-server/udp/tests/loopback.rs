//! Sockets over loopback: what goes in as a batch comes out as datagrams, and who hears whom.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kcpq_udp::{Path, Socket, is_too_long};

/// Far more than anything here takes; only a failure waits for it.
const LIMIT: Duration = Duration::from_secs(60);

/// By which path a datagram came, and what is in it.
type Came = (Path, Vec<u8>);

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn bind() -> (Socket, SocketAddr) {
    let socket = Socket::bind(any()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Reads `socket` until `done` says that this was what had to come; an error of the socket ends it as well.
fn receive(socket: &mut Socket, done: impl Fn(&[Came]) -> bool) -> io::Result<Vec<Came>> {
    let (begun, mut came) = (Instant::now(), Vec::new());
    while !done(&came) {
        assert!(begun.elapsed() < LIMIT, "{} datagrams came", came.len());
        if !socket.recv(|path, datagram| came.push((path, datagram.to_vec())))? {
            std::thread::yield_now();
        }
    }
    Ok(came)
}

#[test]
fn a_batch_arrives_as_the_datagrams_that_it_was_made_of() {
    let (mut server, addr) = bind();
    let client = Socket::connect(addr).unwrap();
    let from = client.local_addr().unwrap();
    let batch: Vec<u8> = (0..3_500_u32).map(|index| (index / 7) as u8).collect();
    client.sender().send(addr, &batch, Some(1_000)).unwrap();
    let came = receive(&mut server, |came| came.len() == 4).unwrap();
    let expected: Vec<Came> = batch.chunks(1_000).map(|datagram| (from.into(), datagram.to_vec())).collect();
    assert!(came == expected, "{:?}", came.iter().map(|(path, datagram)| (path, datagram.len())).collect::<Vec<_>>());
}

#[test]
fn more_than_one_call_takes_is_read_by_several() {
    let (mut server, addr) = bind();
    // Different lengths and senders, so that the system cannot put them together.
    let clients: Vec<Socket> = (0..50).map(|_| Socket::connect(addr).unwrap()).collect();
    for (number, client) in clients.iter().enumerate() {
        for extra in 0..4 {
            client.sender().send(addr, &vec![number as u8; 1 + 10 * number + extra], None).unwrap();
        }
    }
    let came = receive(&mut server, |came| came.len() == 200).unwrap();
    for (number, client) in clients.iter().enumerate() {
        let from = client.local_addr().unwrap();
        let lengths = came.iter().filter(|(path, _)| *path == from.into()).map(|(_, datagram)| datagram.len());
        assert!(lengths.eq((0..4).map(|extra| 1 + 10 * number + extra)), "client {number}");
    }
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    let (mut server, addr) = bind();
    let client = UdpSocket::bind(any()).unwrap();
    client.send_to(&[], addr).unwrap();
    let came = receive(&mut server, |came| !came.is_empty()).unwrap();
    assert_eq!(came, [(client.local_addr().unwrap().into(), Vec::new())]);
}

#[test]
fn a_socket_with_one_peer_hears_nobody_else() {
    let (server, addr) = bind();
    let mut client = Socket::connect(addr).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], client.local_addr().unwrap().port()));
    UdpSocket::bind(any()).unwrap().send_to(b"stranger", to).unwrap();
    server.sender().send(to, b"peer", None).unwrap();
    let came = receive(&mut client, |came| !came.is_empty()).unwrap();
    assert_eq!(came, [(addr.into(), b"peer".to_vec())]);
}

#[test]
#[cfg(target_os = "linux")]
fn that_nobody_listens_is_told_to_who_has_one_peer_and_not_to_who_has_many() {
    let (mut server, addr) = bind();
    let gone = UdpSocket::bind(any()).unwrap().local_addr().unwrap();
    let mut client = Socket::connect(gone).unwrap();
    client.sender().send(gone, b"is anybody there?", None).unwrap();
    let error = receive(&mut client, |_| false).unwrap_err();
    assert!(kcpq_udp::is_about_peer(&error), "{error}");

    server.sender().send(gone, b"is anybody there?", None).unwrap();
    let healthy = Socket::connect(addr).unwrap();
    healthy.sender().send(addr, b"yes", None).unwrap();
    let came = receive(&mut server, |came| !came.is_empty()).unwrap();
    assert_eq!(came, [(healthy.local_addr().unwrap().into(), b"yes".to_vec())]);
}

#[test]
fn an_address_is_taken_by_one_and_its_holder_shares_it() {
    let (holder, addr) = bind();
    let in_use = |result: io::Result<Socket>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    in_use(Socket::bind(addr));
    if cfg!(target_os = "linux") {
        let (second, third) = (holder.share().unwrap(), holder.share().unwrap());
        assert_eq!([second.local_addr().unwrap(), third.local_addr().unwrap()], [addr; 2]);
        in_use(Socket::bind(addr));
    } else {
        assert_eq!(holder.share().unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn of_sockets_that_share_an_address_each_hears_some_peers() {
    let (first, addr) = bind();
    let mut sockets = [first.share().unwrap(), first.share().unwrap(), first];
    let peers: Vec<_> = (0..64).map(|_| Socket::connect(addr).unwrap()).collect();
    for peer in &peers {
        peer.sender().send(addr, b"onceupon", Some(4)).unwrap();
    }
    let (begun, mut heard) = (Instant::now(), [0; 3]);
    while heard.iter().sum::<usize>() < 2 * peers.len() {
        assert!(begun.elapsed() < LIMIT, "{heard:?}");
        for (heard, socket) in heard.iter_mut().zip(&mut sockets) {
            socket.recv(|_, _| *heard += 1).unwrap();
        }
    }
    // That one of them hears nobody happens once in 10^11 times.
    assert!(heard.iter().all(|&heard| heard > 0 && heard % 2 == 0), "{heard:?}");
}

/// Asks a server that listens on all addresses at some of them: who asked hears nobody but whom it asked.
#[cfg(target_os = "linux")]
fn asks(listen: &str, asked: &[&str]) {
    let mut server = Socket::bind(listen.parse().unwrap()).unwrap();
    let port = server.local_addr().unwrap().port();
    for host in asked {
        let addr: SocketAddr = format!("{host}:{port}").parse().unwrap();
        let mut client = Socket::connect(addr).unwrap();
        client.sender().send(addr, b"onceupon..", Some(4)).unwrap();
        let came = receive(&mut server, |came| came.len() == 3).unwrap();
        let path = came[0].0;
        assert_eq!(path.local.map(|ip| ip.to_canonical()), Some(addr.ip()));
        server.sender().send(path, b"long, long ago", Some(5)).unwrap();
        let came = receive(&mut client, |came| came.len() == 3).unwrap();
        assert_eq!(came[2].1, b" ago");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_answer_comes_from_the_address_that_was_asked() {
    asks("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.3.2.1"]);
    asks("[::]:0", &["127.0.0.2", "[::1]", "127.0.0.3"]);
}

#[test]
#[cfg(target_os = "linux")]
fn who_is_bound_to_an_address_leaves_it_to_the_system() {
    let (mut server, addr) = bind();
    let client = Socket::connect(addr).unwrap();
    client.sender().send(addr, b"where?", None).unwrap();
    let came = receive(&mut server, |came| !came.is_empty()).unwrap();
    assert_eq!(came[0].0.local, None);
}

#[test]
#[cfg(target_os = "linux")]
fn a_broadcast_costs_the_socket_nothing() {
    let mut server = Socket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let segments = server.max_segments();
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    client.set_broadcast(true).unwrap();
    client.send_to(b"is anybody there?", ("127.255.255.255", server.local_addr().unwrap().port())).unwrap();
    let came = receive(&mut server, |came| !came.is_empty()).unwrap();
    assert_eq!(came[0].0.local, None, "nothing leaves from there");
    server.sender().send(came[0].0, b"yes", None).unwrap();
    assert_eq!(server.max_segments(), segments, "segmentation offload goes on");
}

#[test]
#[cfg(target_os = "linux")]
fn a_datagram_that_no_path_carries_is_told_apart_from_other_errors() {
    let (server, addr) = bind();
    assert!(is_too_long(&server.sender().send(addr, &vec![0; 65_508], None).unwrap_err()));
    assert!(!is_too_long(&server.sender().send(SocketAddr::from(([127, 0, 0, 1], 0)), b"", None).unwrap_err()));
}
