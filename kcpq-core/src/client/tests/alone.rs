//! A client, and a server that does what a test wants, as an original one could.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::*;
use crate::frame::{Flaw, Reader, Sink, Whole, command};
use crate::hello::CloseReason;

/// Reads what comes and looks at nothing.
pub(super) struct PassOver;

impl Sink<Any> for PassOver {
    fn wants(&mut self, _: &Reader<Any>, _: &[u8]) -> bool {
        true
    }

    fn frame(&mut self, _: Whole<'_>, _: &mut <Any as crate::store::Store>::Inbox) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn flaw(&mut self, flaw: Flaw) {
        panic!("{flaw:?}");
    }
}

#[test]
fn a_client_announces_what_its_memory_holds() {
    let mut memory = Memory::<488, 4, 512, 300, 4>::new();
    let client = Client::new(Config::default(), 1, memory.lend());
    assert_eq!(client.hello().max_body, 300 - frame::LENGTH as u32);
    #[cfg(feature = "alloc")]
    assert_eq!(Heap::client(Config::default(), 1).hello().max_body, Config::default().frames.max_body);
}

#[test]
fn a_message_larger_than_the_inbox_is_passed_over_and_told() {
    let mut memory = Memory::<1376, 4, 512, 300, 4>::new();
    let mut client = Client::new(Config::default(), 1, memory.lend());
    let now = Instant::from_millis(1);
    client.connect(now);
    client.subscribe(now, "a").unwrap();
    let mut buf = [0; 1500];
    // A server that does not know the client's limits.
    let mut server = server(client.conversation());
    server.control(command::OK, b"subscribed to a", &[]).unwrap();
    server.message(command::MSG, b"a", &[1; 5_000]).unwrap();
    server.message(command::MSG, b"a", b"small").unwrap();
    let (mut told, mut messages) = (Vec::new(), Vec::new());
    for step in 0..100 {
        let now = now + Duration::from_millis(step);
        while let Some(len) = server.poll_transmit(now, &mut Protection::default(), &mut buf) {
            client.handle_datagram(now, &mut buf[..len]);
        }
        while let Some(event) = client.poll_event() {
            match event {
                Event::Oversize(size) => told.push((size.limit, size.actual)),
                Event::Message { message, .. } => messages.push(message.payload().to_vec()),
                _ => {}
            }
        }
        while let Some(len) = client.poll_transmit(now, &mut buf) {
            let content = datagram::parse(&buf[..len]).unwrap();
            server.handle_datagram(now, &buf[..len], content, &mut PassOver);
        }
    }
    assert_eq!(told, [(300, frame::HEAD + 1 + 5_000)]);
    assert_eq!(messages, [b"small"]);
    assert_eq!(client.stats().oversize, 1);
}

#[test]
fn what_an_original_server_does_not_know_is_told_once_it_is_there() {
    let (mut client, now) = (Any::client(Config::default(), 1), Instant::from_millis(1));
    client.connect(now);
    client.subscribe(now, "a").unwrap();
    let mut server = server(client.conversation());
    // The first one is what it says to HELLO.
    for frame in [(command::ERR, &b"handle error: unknown command: 32"[..]), (command::OK, b"subscribed to a")] {
        server.control(frame.0, frame.1, &[]).unwrap();
    }
    server.control(command::ERR, b"handle error: unknown command: 99", &[]).unwrap();
    let (mut buf, mut told) = ([0; 1500], Vec::new());
    while let Some(len) = server.poll_transmit(now, &mut Protection::default(), &mut buf) {
        client.handle_datagram(now, &mut buf[..len]);
    }
    while let Some(event) = client.poll_event() {
        if let Event::Refused(text) = event {
            told.push(text.as_bytes().to_vec());
        }
    }
    assert_eq!(told, [b"handle error: unknown command: 99"]);
}

fn who_waits_for_room_is_told_before_the_end<S: Make>() {
    let (mut client, now) = (S::client(Config { queue: 200, ..Config::default() }, 1), Instant::from_millis(1));
    client.connect(now);
    while client.publish(now, "a", &[7; 100]) != Err(PublishError::Full) {}
    client.close(now);
    let (mut told, mut buf) = (Vec::new(), [0; 1500]);
    for second in 0..60 {
        let now = now + Duration::from_secs(second);
        client.handle_timeout(now);
        while let Some(event) = client.poll_event() {
            match event {
                Event::Writable => told.push("room"),
                Event::Closed => told.push("the end"),
                _ => {}
            }
        }
        // Whoever has ended has nothing to send, which makes no room.
        while told.ends_with(&["the end"]) && S::transmit(&mut client, now, &mut buf).is_some() {}
    }
    assert_eq!(told, ["room", "the end"]);
}

#[test]
fn nothing_comes_behind_the_end() {
    who_waits_for_room_is_told_before_the_end::<Any>();
    who_waits_for_room_is_told_before_the_end::<Lent<'static>>();
}

fn a_message_is_for_all_who_stay<S: Make>() {
    let mut client = S::client(Config::default(), 1);
    let now = Instant::from_millis(1);
    client.connect(now);
    let ids = ["a.b", "a.*", "a.>", ">"].map(|pattern| client.subscribe(now, pattern).unwrap());
    let mut server = server(client.conversation());
    server.message(command::MSG, b"a.b", b"first").unwrap();
    server.message(command::MSG, b"a.b", b"second").unwrap();
    let mut buf = [0; 1500];
    while let Some(len) = server.poll_transmit(now, &mut Protection::default(), &mut buf) {
        client.handle_datagram(now, &mut buf[..len]);
    }
    let next = |client: &mut Client<S>| match client.poll_event() {
        Some(Event::Message { subscription, message }) => Some((subscription, message.payload()[0])),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut client), Some((ids[0], b'f')));
    assert!(client.unsubscribe(now, ids[0]));
    assert_eq!(next(&mut client), Some((ids[1], b'f')));
    assert!(client.unsubscribe(now, ids[2]), "before it was given the message");
    assert_eq!(next(&mut client), Some((ids[3], b'f')));
    assert_eq!(next(&mut client), Some((ids[1], b's')));
    assert_eq!(next(&mut client), Some((ids[3], b's')));
    assert!(client.poll_event().is_none());
    assert_eq!((client.stats().messages_received, client.stats().unmatched), (2, 0));
}

#[test]
fn a_message_goes_to_all_subscriptions_that_match_while_others_leave() {
    a_message_is_for_all_who_stay::<Any>();
    a_message_is_for_all_who_stay::<Lent<'static>>();
}

fn what_nobody_wants_is_counted<S: Make>() {
    let mut client = S::client(Config::default(), 1);
    let now = Instant::from_millis(1);
    client.connect(now);
    for pattern in ["a", "b.*"] {
        client.subscribe(now, pattern).unwrap();
    }
    let mut server = server(client.conversation());
    server.message(command::MSG, b"c", b"for nobody").unwrap();
    let mut buf = [0; 1500];
    while let Some(len) = server.poll_transmit(now, &mut Protection::default(), &mut buf) {
        client.handle_datagram(now, &mut buf[..len]);
    }
    while let Some(event) = client.poll_event() {
        assert!(!matches!(event, Event::Message { .. }));
    }
    let stats = client.stats();
    assert_eq!((stats.messages_received, stats.unmatched, stats.total_subscriptions), (1, 1, 2));
}

#[test]
fn a_message_for_no_subscription_is_counted() {
    what_nobody_wants_is_counted::<Any>();
    what_nobody_wants_is_counted::<Lent<'static>>();
}

#[cfg(feature = "lanes")]
#[test]
fn memory_for_lanes_is_lent_once() {
    let mut client = <Lent<'static>>::client(Config::default(), 1);
    let memory = Box::leak(Box::new(LaneMemory::<3, 20_000, 32>::new()));
    assert!(matches!(client.lend_lanes(memory), Err(LendError::Late)));
}

#[test]
fn a_message_that_is_held_stays_until_it_is_released_and_other_events_come_meanwhile() {
    let mut client = <Lent<'static>>::client(Config { reconnect: None, ..Config::default() }, 1);
    let now = Instant::from_millis(1);
    client.connect(now);
    let id = client.subscribe(now, "a").unwrap();
    let mut server = server(client.conversation());
    server.control(command::OK, b"subscribed to a", &[]).unwrap();
    // One that lies in one segment, one that is put together, and one behind.
    for payload in [&b"first"[..], &[2; 3_000], b"third"] {
        server.message(command::MSG, b"a", payload).unwrap();
    }
    let mut buf = [0; 1500];
    let mut carry = |client: &mut Client<Lent<'static>>, server: &mut Session<Any>| {
        while let Some(len) = server.poll_transmit(now, &mut Protection::default(), &mut buf) {
            client.handle_datagram(now, &mut buf[..len]);
        }
    };
    carry(&mut client, &mut server);
    assert!(matches!(client.poll_event(), Some(Event::Connected { native: false, again: false })));
    client.hold_message();
    assert!(client.held_message().is_none(), "there is none to hold");
    assert!(matches!(client.poll_event(), Some(Event::Subscribed(acknowledged)) if acknowledged == id));
    for len in [5, 3_000] {
        assert!(matches!(client.poll_event(), Some(Event::Message { subscription, .. }) if subscription == id));
        client.hold_message();
        assert!(client.poll_event().is_none());
        client.flush(now);
        assert!(matches!(client.poll_event(), Some(Event::Flushed { published: 0 })));
        for _ in 0..2 {
            assert_eq!(client.held_message().map(|message| message.payload().len()), Some(len));
        }
        client.release_message();
        assert!(client.held_message().is_none());
    }
    assert!(matches!(client.poll_event(), Some(Event::Message { message, .. }) if message.payload() == b"third"));
    client.hold_message();
    server.message(command::CLOSE, b"", &[CloseReason::Shutdown.code()]).unwrap();
    carry(&mut client, &mut server);
    assert!(client.poll_event().is_none(), "CLOSE stands behind the message");
    client.handle_timeout(now + Duration::from_secs(90));
    assert!(client.held_message().is_none(), "its connection is gone");
    assert!(matches!(client.poll_event(), Some(Event::Disconnected { why: Disconnect::Silent, .. })));
    assert!(matches!(client.poll_event(), Some(Event::Closed)));
    assert!(client.poll_event().is_none());
}

#[test]
fn subscribing_to_a_server_that_says_nothing_fails_after_three_attempts() {
    let mut client = Any::client(Config { reconnect: None, ..Config::default() }, 1);
    let mut now = Instant::from_millis(1);
    client.connect(now);
    let mut buf = [0; 1500];
    while client.poll_transmit(now, &mut buf).is_some() {}
    // A server that answers PONG to everything.
    let mut server = server(client.conversation());
    let id = client.subscribe(now, "a").unwrap();
    server.control(command::PONG, &[], &[]).unwrap();
    let mut failed = None;
    while failed.is_none() && now < Instant::from_millis(60_000) {
        while let Some(len) = server.poll_transmit(now, &mut Protection::default(), &mut buf) {
            client.handle_datagram(now, &mut buf[..len]);
        }
        while let Some(event) = client.poll_event() {
            if let Event::SubscribeFailed { id: which, why } = event {
                assert_eq!((which, why), (id, SubscribeFailure::Unanswered { attempts: 3 }));
                failed = Some(now);
            }
        }
        while let Some(len) = client.poll_transmit(now, &mut buf) {
            let content = datagram::parse(&buf[..len]).unwrap();
            server.handle_datagram(now, &buf[..len], content, &mut PassOver);
        }
        now += Duration::from_millis(10);
        client.handle_timeout(now);
    }
    // 5 s, 1 s pause, 5 s, 1 s pause, 5 s.
    let after = failed.expect("a failure").as_micros() / 1_000_000;
    assert_eq!(after, 17);
}

fn closed_with_a_message_in_doubt<S: Make>() {
    let mut client = S::client(Config::default(), 1);
    let now = Instant::from_millis(1);
    client.connect(now);
    client.publish(now, "a", b"unanswered").unwrap();
    while client.poll_transmit(now, &mut [0; 1500]).is_some() {}
    client.close(now);
    client.handle_timeout(now + Config::default().linger);
    assert_eq!(client.state(), State::Closed);
    let stats = client.stats();
    assert_eq!((stats.messages_sent, stats.messages_acknowledged, stats.dropped_in_doubt), (1, 0, 1));
}

#[test]
fn what_is_in_doubt_when_a_client_is_closed_is_counted_once() {
    closed_with_a_message_in_doubt::<Any>();
    closed_with_a_message_in_doubt::<Lent<'static>>();
}
