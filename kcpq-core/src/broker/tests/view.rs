//! What a look at a broker shows, and that a session can be ended from outside.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use super::*;
use crate::broker::view::{ClientKind, PatternCursor, SessionCursor, SessionView};
use crate::client::Disconnect;
use crate::hello::CloseReason;

/// All sessions, in pages of `slots` places.
fn sessions(room: &mut Room, slots: usize) -> Vec<SessionView<SocketAddr>> {
    let (mut all, mut at) = (Vec::new(), Some(SessionCursor::default()));
    while let Some(from) = at {
        let page = room.broker.view_sessions(room.now, from, slots);
        assert!(page.items.len() <= slots);
        all.extend(page.items);
        at = page.next;
    }
    all
}

/// All patterns, in pages of `places` places.
fn patterns(broker: &Broker<SocketAddr>, places: usize) -> BTreeMap<String, usize> {
    let (mut all, mut at) = (BTreeMap::new(), Some(PatternCursor::default()));
    while let Some(from) = at {
        let page = broker.view_patterns(from, places);
        all.extend(page.items.iter().map(|view| (view.pattern.to_string(), view.subscribers)));
        at = page.next;
    }
    all
}

#[test]
fn a_session_is_shown_with_whose_it_is_and_what_went_through_it() {
    let mut room = Room::new(Config { max_queued: 1_000, ..Config::default() }, 2);
    let now = room.now;
    for pattern in ["a.*", "b"] {
        room.clients[0].0.subscribe(now, pattern).unwrap();
    }
    room.settle();
    room.clients[0].1 = true; // hears no more
    for (subject, size) in [("a.1", 10), ("b", 900), ("b", 900), ("nobody", 1)] {
        room.clients[1].0.publish(now, subject, &vec![0; size]).unwrap();
        room.settle();
    }
    room.pass(Duration::from_millis(5));
    let all = sessions(&mut room, 64);
    let [subscriber, publisher] = &all[..] else { panic!("{all:?}") };
    for (view, index) in [(subscriber, 0), (publisher, 1)] {
        assert_eq!((view.peer, view.kind), (Room::addr(index), ClientKind::Native));
        assert_eq!(view.client.as_deref(), Some(client::Config::default().name));
        assert!(view.native_id.is_some() && !view.half_open && view.closing.is_none() && view.identity.is_none());
        assert!(view.round_trip.is_some());
        assert_eq!(view.age, Duration::from_millis(5));
        assert!(view.silent <= view.age);
        assert!(view.path_mtu >= 1_200);
    }
    assert_eq!((subscriber.subscriptions, publisher.subscriptions), (2, 0));
    let frame = |subject: &str, size: usize| (crate::frame::HEAD + subject.len() + size) as u64;
    let stats = publisher.messages;
    assert_eq!((stats.messages_in, stats.unrouted, stats.messages_out), (4, 1, 0));
    assert_eq!(stats.bytes_in, frame("a.1", 10) + 2 * frame("b", 900) + frame("nobody", 1));
    // The third one still fits behind those that are on their way, or does not.
    let stats = subscriber.messages;
    assert_eq!(stats.messages_out + stats.dropped_slow, 3);
    assert_eq!(stats.messages_in, 0);
    assert!(subscriber.unacked > 0);
    let sum = room.broker.stats();
    assert_eq!((sum.messages_in, sum.messages_out), (4, stats.messages_out));
}

#[test]
fn what_is_dropped_for_one_session_is_counted_there_by_reason() {
    let mut room = Room::new(Config { max_queued: 1_000, ..Config::default() }, 2);
    let now = room.now;
    room.clients[0].0.subscribe(now, "flood").unwrap();
    room.settle();
    room.clients[0].1 = true;
    let sent = room.flood(1, 2_000, 900);
    let all = sessions(&mut room, 1);
    let stats = all[0].messages;
    assert!(stats.dropped_slow > 0 && stats.dropped_slow == room.broker.stats().dropped_slow);
    assert_eq!(stats.messages_out + stats.dropped_slow, all[1].messages.messages_in);
    assert!(all[1].messages.messages_in <= sent);
    assert_eq!(all[1].messages.dropped_slow, 0);
}

#[test]
fn who_stays_is_on_one_page_and_those_who_come_and_go_do_not_hide_it() {
    let mut room = Room::new(Config::default(), 30);
    let (mut seen, mut at) = (BTreeMap::new(), Some(SessionCursor::default()));
    while let Some(from) = at {
        let page = room.broker.view_sessions(room.now, from, 7);
        for view in page.items {
            *seen.entry(view.peer.port()).or_insert(0) += 1;
        }
        at = page.next;
        // One of those who are to go, and another who comes.
        let leaving = 3 * (seen.len() % 10);
        let now = room.now;
        room.clients[leaving].0.close(now);
        room.settle();
        room.add_client();
        room.settle();
    }
    for index in (0..30).filter(|index| index % 3 != 0) {
        assert_eq!(seen.get(&(1_000 + index)), Some(&1), "{index}");
    }
}

#[test]
fn a_page_looks_at_no_more_than_it_is_told_to() {
    let mut room = Room::new(Config::default(), 10);
    let now = room.now;
    for index in 0..9 {
        room.clients[index].0.close(now);
    }
    room.settle();
    assert_eq!(room.broker.sessions(), 1);
    let page = room.broker.view_sessions(now, SessionCursor::default(), 5);
    assert!(page.items.is_empty() && page.next.is_some());
    assert_eq!(sessions(&mut room, 5).len(), 1);
}

#[test]
fn the_engines_total_never_goes_back_and_is_whole_after_a_look() {
    let mut room = Room::new(Config::default(), 4);
    let mut last = 0;
    for round in 0..4 {
        let now = room.now;
        room.clients[3].0.publish(now, "x", &[round; 100]).unwrap();
        room.settle();
        let open = room.broker.transport().segments_received;
        sessions(&mut room, 2);
        let total = room.broker.transport_total().segments_received;
        assert!(total >= last && total >= open, "{total} {last} {open}");
        assert!(round > 0 || total == open);
        last = total;
        room.clients[usize::from(round)].0.close(now);
        room.settle();
        assert!(room.broker.transport_total().segments_received >= last);
    }
    assert_eq!(room.broker.sessions(), 0);
    assert!(room.broker.transport_total().segments_received > last);
}

#[test]
fn a_session_that_is_kicked_gets_what_waits_then_close_with_the_reason() {
    let mut room = Room::new(Config::default(), 2);
    let now = room.now;
    let id = sessions(&mut room, 64)[0].id;
    assert!(room.broker.kick(now, id));
    assert!(!room.broker.kick(now, id), "it is about to end");
    assert_eq!(sessions(&mut room, 64)[0].closing, Some(CloseReason::Kicked));
    let mut buf = vec![0; 60_000];
    let mut told = None;
    while let Some(transmit) = room.broker.poll_transmit(now, &mut buf) {
        let client = &mut room.clients[usize::from(transmit.to.port()) - 1_000].0;
        for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
            client.handle_datagram(now, datagram);
        }
    }
    while let Some(event) = room.clients[0].0.poll_event() {
        if let client::Event::Disconnected { why, retry_at } = event {
            told = Some((why, retry_at.is_some()));
        }
    }
    assert_eq!(told, Some((Disconnect::ByServer(CloseReason::Kicked), true)), "it may come back");
    room.settle();
    let left = sessions(&mut room, 64);
    assert!(left.iter().all(|view| view.id != id));
    assert!(!room.broker.kick(now, id), "it is no more");
    assert_eq!(room.broker.stats().sessions_kicked, 1);
}

#[test]
fn patterns_are_shown_with_the_sessions_that_have_them() {
    let mut room = Room::new(Config::default(), 3);
    let now = room.now;
    for (index, pattern) in [(0, "a"), (1, "a"), (2, "a"), (0, "a.*"), (1, "a.*"), (2, ">")] {
        room.clients[index].0.subscribe(now, pattern).unwrap();
        room.settle();
    }
    for places in [1, 3, 100] {
        let all: Vec<_> = patterns(&room.broker, places).into_iter().collect();
        assert_eq!(all, [(">".to_string(), 1), ("a".to_string(), 3), ("a.*".to_string(), 2)]);
    }
}

#[test]
fn an_id_is_read_as_it_is_written() {
    for (shard, text) in [(0, "3.17"), (2, "2.3.17"), (63, "63.0.4294967295")] {
        let id: SessionId = text.parse().unwrap();
        assert_eq!((id.shard(), id.to_string().as_str()), (shard, text));
    }
    for text in ["", "3", "3.", ".3", "a.b", "-1.2", "300.1.2", "1.2.3.4", "1.99999999999"] {
        assert!(text.parse::<SessionId>().is_err(), "{text}");
    }
}

#[test]
fn how_long_messages_wait_and_how_many_get_each_is_counted() {
    let mut room = Room::new(Config::default(), 4);
    let now = room.now;
    for index in 0..3 {
        room.clients[index].0.subscribe(now, "a").unwrap();
    }
    room.settle();
    for subject in ["a", "nobody"] {
        room.clients[3].0.publish(now, subject, b"x").unwrap();
    }
    room.settle();
    let stats = room.broker.stats();
    assert_eq!((stats.fan_out.count(), stats.fan_out.sum()), (2, 3));
    assert_eq!(stats.fan_out.buckets().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(0, 1), (5, 1)]);
    assert_eq!((stats.queueing.count(), stats.queueing.sum()), (3, 0));

    // One that hears no more has what does not fit into its window wait.
    room.clients[0].1 = true;
    for _ in 0..200 {
        room.clients[3].0.publish(room.now, "a", &[0; 20_000]).unwrap();
        room.pass(Duration::from_millis(1));
    }
    room.pass(Duration::from_millis(300));
    let before = room.broker.stats().queueing;
    room.clients[0].1 = false;
    room.pass(Duration::from_millis(3_000));
    let after = room.broker.stats().queueing;
    assert_eq!(after.count(), 3 + 3 * 200);
    let late = |histogram: &crate::histogram::Histogram<_>| {
        histogram.buckets().filter(|(up_to, _)| *up_to > 250_000).map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!(late(&before), 0);
    assert!(late(&after) > 50, "{after:?}");
}
