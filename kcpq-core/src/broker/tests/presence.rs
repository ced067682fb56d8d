//! Original clients and the subjects that are the server's own; wills that make no sense.

use super::forged::{frame, hello_of, push};
use super::*;

const STRANGER: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7)), 7);

/// What a session of a room is answered in the clear, of which these frames come.
fn answer(room: &mut Room, sn: u32, frames: &[u8]) -> Vec<u8> {
    room.broker.handle_datagram(room.now, STRANGER, &mut push(5, sn, 0, frames));
    let (mut buf, mut all) = (vec![0; 60_000], Vec::new());
    while let Some(transmit) = room.broker.poll_transmit(room.now, &mut buf) {
        all.extend_from_slice(&buf[..transmit.len]);
    }
    all
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| *window == *text.as_bytes())
}

#[test]
fn original_clients_do_not_publish_where_the_server_does_and_ask_in_vain() {
    let mut room = Room::new(Config::default(), 0);
    let told = answer(&mut room, 0, &frame(command::PUB, b"$KCPQ.session.opened.x", b"{}"));
    assert!(has(&told, "not permitted to publish to $KCPQ.session.opened.x, which is the server's own"));
    let told = answer(&mut room, 1, &frame(command::PUB, b"$KCPQ.a b", b"{}"));
    assert!(has(&told, "not permitted to publish"), "a subject that only the original allows");
    let told = answer(&mut room, 2, &frame(command::PUB, b"$KCPQ.a b", b"{}"));
    assert!(!has(&told, "not permitted"), "now and then");
    let told = answer(&mut room, 3, &frame(command::SUB, b"$KCPQ.>", &[]));
    assert!(has(&told, "not permitted to subscribe to $KCPQ.>"));
    let told = answer(&mut room, 4, &frame(command::WILL, b"a", &[0; 10]));
    assert!(has(&told, "unknown command: 24"));
    let stats = room.broker.stats();
    assert_eq!((stats.messages_denied, stats.subscriptions_refused, stats.unknown_commands), (3, 1, 1));
    assert_eq!((stats.wills, stats.sessions, room.broker.patterns()), (0, 1, 0));
}

#[test]
fn wills_that_make_no_sense_are_refused_and_the_session_goes_on() {
    let mut room = Room::new(Config::default(), 0);
    let key = 7_u64.to_be_bytes();
    let will = |subject: &[u8], rest: &[u8]| frame(command::WILL, subject, &[&key[..], rest].concat());
    let frames = [
        hello_of(features::SUPPORTED & !features::NATIVE),
        frame(command::WILL, b"a", &[0; 7]),
        will(b"a", b""),
        will(b"a", &[0, 9]),
        will(b"a..b", &[0, 0]),
        will(b"a.*", &[0, 0]),
        // What only a server says.
        will(b"a", &[5, 0, 4, 0, 0, 0, 1, 0, 7]),
        will(b"", b""),
        frame(command::WILL, b"a", &[1; 10]),
    ];
    answer(&mut room, 0, &frames.concat());
    let stats = room.broker.stats();
    assert_eq!((stats.wills, stats.wills_refused, stats.sessions), (0, 7, 1));
    // Right in the end.
    answer(&mut room, 1, &will(b"a", b"gone\0\0"));
    assert_eq!((room.broker.stats().wills, room.broker.stats().wills_bytes), (1, 14));
    // Nobody has shown that there was a client.
    room.pass(Duration::from_secs(200));
    let stats = room.broker.stats();
    assert_eq!((stats.wills, stats.wills_bytes, stats.wills_published, stats.wills_refused), (0, 0, 0, 8));
}
