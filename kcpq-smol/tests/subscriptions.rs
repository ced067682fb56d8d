//! Subscriptions: queues, callbacks, counters and events.

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use kcpq_smol::{Client, CloseError, Event, Overflow, Preset};

use support::{Server, run, soon, wait_for};

#[test]
fn a_full_subscription_drops_the_newest_and_counts() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut events = client.events();
        let mut small = client.subscribe("n").capacity(10).await.unwrap();
        let large = client.subscribe("n").capacity(1_000).await.unwrap();
        for number in 0..50_u8 {
            client.publish("n", [number]).await.unwrap();
        }
        wait_for("all have come", || large.stats().received == 50);
        let stats = small.stats();
        assert_eq!((stats.received, stats.dropped, stats.queued, stats.processed), (50, 40, 10, 0));
        assert_eq!((large.stats().dropped, large.stats().queued), (0, 50));
        for number in 0..10_u8 {
            assert_eq!(small.next().await.unwrap().payload(), [number]);
        }
        let Some(Event::Dropped { pattern, total: 1 }) = events.next().await else { panic!("another event") };
        assert_eq!(&*pattern, "n");
        client.publish("n", "one more").await.unwrap();
        assert_eq!(small.next().await.unwrap().payload(), b"one more");
        assert_eq!(small.stats().dropped, 40);
    });
}

#[test]
fn a_queue_is_bounded_in_bytes_as_well_and_a_burst_has_room() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let burst = client.subscribe("n").await.unwrap();
        // Frames of 7 bytes, the subject and the payload.
        let mut small = client.subscribe("n").max_bytes(10 * (7 + 1 + 100)).await.unwrap();
        let mut tiny = client.subscribe("n").max_bytes(1).await.unwrap();
        for _ in 0..5_000 {
            client.publish("n", [0; 100]).await.unwrap();
        }
        wait_for("all have come", || burst.stats().received == 5_000);
        assert_eq!((burst.stats().dropped, burst.stats().queued), (0, 5_000));
        assert_eq!((small.stats().queued, tiny.stats().queued), (10, 1));
        // What was taken makes room.
        for _ in 0..3 {
            small.next().await.unwrap();
        }
        tiny.next().await.unwrap();
        for _ in 0..5 {
            client.publish("n", [0; 100]).await.unwrap();
        }
        wait_for("all have come", || burst.stats().received == 5_005);
        assert_eq!((small.stats().queued, tiny.stats().queued), (10, 1));
        // One alone has room.
        let mut large = client.subscribe("large").max_bytes(1).await.unwrap();
        client.publish("large", [0; 50_000]).await.unwrap();
        assert_eq!(large.next().await.unwrap().payload().len(), 50_000);
    });
}

#[test]
fn a_slow_reader_of_the_latest_gets_the_newest_of_each_subject() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut state = client.subscribe("state.*").latest().await.unwrap();
        let mut plain = client.subscribe("state.*").await.unwrap();
        for number in 0..1_000_u32 {
            client.publish(&format!("state.{}", number % 7), number.to_be_bytes()).await.unwrap();
        }
        wait_for("all have come", || state.stats().received == 1_000);
        let stats = state.stats();
        assert_eq!((stats.superseded, stats.dropped, stats.queued), (993, 0, 7));
        let mut got = Vec::new();
        while let Some(message) = state.try_next() {
            got.push(u32::from_be_bytes(*message.payload().first_chunk().unwrap()));
        }
        got.sort_unstable();
        assert_eq!(got, (993..1_000).collect::<Vec<_>>());
        // Who wants every message gets every message.
        for number in 0..1_000_u32 {
            assert_eq!(plain.next().await.unwrap().payload(), number.to_be_bytes());
        }
        assert_eq!((plain.stats().superseded, plain.stats().processed), (0, 1_000));
    });
}

#[test]
fn a_full_subscription_may_drop_the_oldest() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut events = client.events();
        let mut small = client.subscribe("n").capacity(10).drop_oldest().await.unwrap();
        for number in 0..50_u8 {
            client.publish("n", [number]).await.unwrap();
        }
        wait_for("all have come", || small.stats().received == 50);
        assert_eq!((small.stats().dropped, small.stats().queued), (40, 10));
        for number in 40..50_u8 {
            assert_eq!(small.next().await.unwrap().payload(), [number]);
        }
        let Some(Event::Dropped { total: 1, .. }) = events.next().await else { panic!("another event") };
        let mut newest = client.subscribe("m.*").latest().capacity(1).drop_newest().await.unwrap();
        for subject in ["m.a", "m.b", "m.a"] {
            client.publish(subject, subject).await.unwrap();
        }
        // The server may have superseded one itself.
        let there = || server.view().stats.superseded;
        wait_for("all have come", || newest.stats().received + there() == 3);
        assert_eq!((newest.stats().dropped, newest.stats().superseded + there()), (1, 1));
        assert_eq!(newest.next().await.unwrap().subject(), "m.a");
    });
}

#[test]
fn a_message_whose_time_is_over_is_not_read() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut received = client.subscribe("n").await.unwrap();
        let ttl = Duration::from_millis(200);
        let begun = Instant::now();
        client.publish("n", "stale").ttl(ttl).await.unwrap();
        client.publish("n", "fresh").ttl(Duration::from_secs(3_600)).await.unwrap();
        wait_for("the time is over", || begun.elapsed() > 2 * ttl && received.stats().queued > 0);
        assert_eq!(received.next().await.unwrap().payload(), b"fresh");
        // Wherever it was by then.
        let elsewhere = || client.stats().client.expired + server.view().stats.expired;
        wait_for("it is counted", || received.stats().expired + elsewhere() == 1);
    });
}

#[test]
fn a_slow_viewer_is_counted_as_dropping_with_each_preset() {
    let server = Server::start();
    for preset in [Preset::GAMES, Preset::VIDEO, Preset::STEADY] {
        run(async {
            let client = Client::builder().capacity(8).preset(preset).connect(server.addr).await.unwrap();
            let mut events = client.events();
            let viewer = client.subscribe("video").await.unwrap();
            for _ in 0..40 {
                client.publish("video", vec![0; 20_000]).await.unwrap();
            }
            wait_for("all frames have come", || viewer.stats().received == 40);
            assert_eq!((viewer.stats().queued, viewer.stats().dropped), (8, 32));
            assert!(matches!(soon(events.next()).await, Some(Event::Dropped { .. })));
        });
    }
}

#[test]
fn a_callback_gets_all_messages_in_order_and_may_block_without_holding_up_the_client() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut events = client.events();
        let (seen, all) = mpsc::channel();
        let (go_on, gate) = mpsc::channel::<()>();
        let subscription = client.subscribe("n").capacity(1_000).for_each(move |message| {
            if message.payload() == [0] {
                gate.recv().unwrap();
            }
            seen.send(message.payload()[0]).unwrap();
        });
        let subscription = subscription.await.unwrap();
        for number in 0..100_u8 {
            client.publish("n", [number]).await.unwrap();
        }
        // The callback stands still; the rest goes on.
        let begun = Instant::now();
        while begun.elapsed() <= Duration::from_millis(120) {
            client.flush().await.unwrap();
        }
        wait_for("all have come", || subscription.stats().received == 100);
        assert_eq!(subscription.stats().processed, 0);
        go_on.send(()).unwrap();
        let took = loop {
            match soon(events.next()).await.unwrap() {
                Event::SlowHandler { pattern, took } if &*pattern == "n" => break took,
                _ => {}
            }
        };
        assert!(took > Duration::from_millis(100));
        wait_for("all are dealt with", || subscription.stats().processed == 100);
        assert_eq!(all.try_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert!(subscription.stats().active);
        drop(subscription);
        wait_for("it is ended", || server.view().patterns == 0);
    });
}

#[test]
fn the_client_closes_when_its_last_handle_goes() {
    let server = Server::start();
    let (client, stream, callback) = run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let stream = client.subscribe("a").await.unwrap();
        let callback = client.clone().subscribe("b").for_each(|_| {}).await.unwrap();
        (client, stream, callback)
    });
    server.wait_for("both are there", |view| view.patterns == 2);
    drop(client);
    drop(stream);
    server.wait_for("one is ended", |view| view.patterns == 1);
    assert_eq!(server.view().sessions, 1, "a callback keeps the session");
    let begun = Instant::now();
    drop(callback);
    server.wait_for("the session is closed", |view| view.sessions == 0);
    // The server's own limits are 120 s for silence.
    assert!(begun.elapsed() < support::LIMIT);
}

#[test]
fn what_was_published_before_the_last_handle_went_still_arrives() {
    let server = Server::start();
    run(async {
        let subscriber = Client::connect(server.addr).await.unwrap();
        let mut received = subscriber.subscribe("n").capacity(1_000).await.unwrap();
        let publisher = Client::connect(server.addr).await.unwrap();
        for number in 0..200_u8 {
            publisher.publish("n", [number]).await.unwrap();
        }
        drop(publisher);
        for number in 0..200_u8 {
            assert_eq!(received.next().await.unwrap().payload(), [number]);
        }
    });
}

#[test]
fn a_drained_client_has_delivered_everything_and_its_streams_end_after_what_they_hold() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut held = client.subscribe("n").await.unwrap();
        client.publish("n", "1").await.unwrap();
        wait_for("it has come", || held.stats().queued == 1);
        for _ in 0..500 {
            client.publish("other", [0; 500]).await.unwrap();
        }
        client.drain().await.unwrap();
        assert_eq!(held.next().await.unwrap().payload(), b"1");
        assert!(held.next().await.is_none());
        assert!(!held.stats().active);
    });
    server.wait_for("all have arrived and the session is closed", |view| {
        view.stats.messages_in == 501 && view.sessions == 0
    });
}

#[test]
fn without_a_connection_the_overflow_policy_decides_and_is_counted() {
    let server = Server::start();
    run(async {
        let client = Client::builder().queue(1_000).overflow(Overflow::DropOldest).connect(server.addr).await.unwrap();
        let mut events = client.events();
        drop(server);
        // Something has to be sent for the loss to be noticed.
        client.publish("a", "b").await.unwrap();
        while !matches!(soon(events.next()).await, Some(Event::Disconnected { .. })) {}
        for _ in 0..100 {
            client.publish("a", [0; 100]).await.unwrap();
        }
        let stats = client.stats();
        assert!(stats.client.dropped_overflow >= 90, "{stats:?}");
        assert!(!client.is_connected());
        // Nobody is there to say goodbye to, nor to deliver the rest to.
        let messages = 101 + 1 - stats.client.dropped_overflow - client.stats().client.dropped_in_doubt;
        let refused = client.close().await.unwrap_err();
        let CloseError::Lost { messages: lost } = refused else { panic!("{refused}") };
        assert!((1..=messages).contains(&lost), "{lost} of {messages}");
        loop {
            match soon(events.next()).await {
                Some(Event::Lost { messages }) => break assert_eq!(messages, lost),
                event => assert!(event.is_some()),
            }
        }
    });
}

#[test]
fn several_patterns_of_one_subscription_keep_the_order_and_give_each_message_once() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut all = client.subscribe("a.*").and("b.>").and("*.x").await.unwrap();
        let mut single = client.subscribe("b.x").await.unwrap();
        for number in 0..300 {
            let subject = ["a.x", "b.x", "c.x", "b.c.d", "a.y"][number % 5];
            client.publish(subject, number.to_string()).await.unwrap();
        }
        for number in 0..300 {
            assert_eq!(soon(all.next()).await.unwrap().text(), number.to_string());
        }
        assert_eq!(soon(single.next()).await.unwrap().text(), "1");
        let shown = || server.view().patterns;
        wait_for("four patterns are there", || shown() == 4);
        drop(all);
        wait_for("the other one is left", || shown() == 1);
        client.publish("b.x", "more").await.unwrap();
        assert_eq!(soon(single.next()).await.unwrap().text(), "6");
    });
}

#[test]
fn what_is_left_of_its_time_is_told() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut received = client.subscribe("t").await.unwrap();
        client.publish("t", "").ttl(Duration::from_secs(60)).await.unwrap();
        client.publish("t", "").await.unwrap();
        let left = soon(received.next()).await.unwrap().left().unwrap();
        assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(1), "{left:?}");
        assert_eq!(soon(received.next()).await.unwrap().left(), None);
    });
}
