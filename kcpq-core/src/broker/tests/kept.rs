//! Last values for sessions that cannot be told what they are, and searches that find nothing.

use super::forged::{frame, hello_of, push};
use super::*;
use crate::frame::properties::PropertiesBuf;
use crate::kcp::{Command, Header, Sn};

const STRANGER: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7)), 7);

/// A server with one client, which has published these subjects.
fn room(values: &LastValues, subjects: impl Iterator<Item = String>) -> Room {
    let mut room = Room::new(Config::default(), 0);
    room.broker = Broker::new(Config { kcp: KCP, ..Config::default() }, 1).with_last_values(values).unwrap();
    room.add_client();
    room.settle();
    let mut properties = PropertiesBuf::new();
    properties.retain();
    for subject in subjects {
        let client = &mut room.clients[0].0;
        client.publish_with(room.now, &subject, b"value", properties.properties(), None).unwrap();
        room.settle();
    }
    room
}

/// How often the value of `a` is among what a session is sent, in the clear, of which these frames come.
fn sent(room: &mut Room, sn: u32, frames: &[u8]) -> usize {
    room.broker.handle_datagram(room.now, STRANGER, &mut push(5, sn, 0, frames));
    let (mut buf, mut all) = (vec![0; 60_000], Vec::new());
    while let Some(transmit) = room.broker.poll_transmit(room.now, &mut buf) {
        assert_eq!((transmit.to, transmit.segment), (STRANGER, None));
        all.extend_from_slice(&buf[..transmit.len]);
        // It acknowledges, and so shows that it is there.
        let (mut rest, mut acks) = (&buf[..transmit.len], Vec::new());
        while let Ok((header, _, behind)) = Header::split(rest, 5) {
            if header.command == Command::Push {
                let una = Sn(header.sn.0 + 1);
                acks.extend(Header { command: Command::Ack, wnd: 4096, una, len: 0, ..header }.to_bytes());
            }
            rest = behind;
        }
        if !acks.is_empty() {
            room.broker.handle_datagram(room.now, STRANGER, &mut acks);
        }
    }
    let value = frame(command::MSG, b"a", b"value");
    all.windows(value.len()).filter(|bytes| **bytes == *value).count()
}

#[test]
fn original_clients_get_values_only_if_they_are_to_and_native_ones_without_a_mark() {
    for original in [false, true] {
        let values = LastValues { original, ..LastValues::default() };
        let mut room = room(&values, ["a".into()].into_iter());
        assert_eq!(sent(&mut room, 0, &frame(command::SUB, b"a", &[])), usize::from(original));
        assert_eq!(sent(&mut room, 1, &frame(command::SUB, b"a", &[])), 0, "it has that pattern");
        assert_eq!(sent(&mut room, 2, &frame(command::SUB, b">", &[])), usize::from(original));
    }
    let mut room = room(&LastValues::default(), ["a".into()].into_iter());
    let hello = hello_of(features::SUPPORTED & !(features::PROPERTIES | features::NATIVE));
    assert_eq!(sent(&mut room, 0, &[hello, frame(command::SUB, b"a", &[0, 0, 0, 1])].concat()), 1);
    assert_eq!(sent(&mut room, 1, &frame(command::SUB, b"a", &[0, 0, 0, 2])), 0, "its subscriptions are one to it");
    assert_eq!(sent(&mut room, 2, &frame(command::SUB, b"*", &[0, 0, 0, 3, 4])), 0, "it wants none");
}

/// Whoever asks for what takes long to find is not worked for without end.
#[test]
fn a_long_search_leaves_time_for_others() {
    let values = LastValues { max_bytes: 64 << 20, ..LastValues::default() };
    let mut room = room(&values, (0..20_000).map(|number| alloc::format!("a{number}.b")));
    room.add_client();
    room.settle();
    room.clients[1].0.subscribe(room.now, "*.c").unwrap();
    let mut buf = vec![0; 60_000];
    while let Some(len) = room.clients[1].0.poll_transmit(room.now, &mut buf) {
        room.broker.handle_datagram(room.now, Room::addr(1), &mut buf[..len]);
    }
    let mut turns = 0;
    loop {
        while let Some(transmit) = room.broker.poll_transmit(room.now, &mut buf) {
            assert_eq!(transmit.to, Room::addr(1), "its acknowledgement");
        }
        turns += 1;
        if room.broker.poll_timeout().is_none_or(|deadline| deadline.at > room.now) {
            break;
        }
    }
    // Each subject takes two steps.
    assert!((5..30).contains(&turns), "{turns} turns");
}
