//! Reading a subscription: with a time, from a thread, and to its end.

mod support;

use std::time::{Duration, Instant};

use kcpq_smol::blocking::Wait;
use kcpq_smol::{Client, FlushError, NextError};

use support::{Server, run, wait_for};

#[test]
fn the_next_message_is_waited_for_as_long_as_was_said() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut received = client.subscribe("a").await.unwrap();
        let span = Duration::from_millis(20);
        assert_eq!(received.next().within(span).await.unwrap_err(), NextError::TimedOut { after: span });
        let over = received.next().until(Instant::now()).await.unwrap_err();
        assert_eq!(over, NextError::TimedOut { after: Duration::ZERO });
        assert!(received.try_next().is_none() && received.stats().active);
        client.publish("a", "one").await.unwrap();
        assert_eq!(received.next().within(support::LIMIT).await.unwrap().text(), "one");
        client.close().await.unwrap();
        assert_eq!(received.next().within(support::LIMIT).await.unwrap_err(), NextError::Ended);
        assert!(received.try_next().is_none() && !received.stats().active);
    });
}

#[test]
fn when_unsubscribing_is_ready_the_server_knows() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        for round in 0..50 {
            let one = client.subscribe("a").await.unwrap();
            let twin = client.subscribe("a").await.unwrap();
            let other = client.subscribe("b.*").await.unwrap();
            one.unsubscribe().await.unwrap();
            assert_eq!(client.stats().client.active_subscriptions, 2, "round {round}");
            let (twin, other) = (twin.unsubscribe(), other.unsubscribe().within(support::LIMIT));
            twin.await.unwrap();
            other.await.unwrap();
            // What it shows may be a moment old.
            server.wait_for("no pattern is left", |view| view.patterns == 0);
        }
        let late = client.subscribe("a").await.unwrap();
        server.pause(true);
        while client.ping().within(Duration::from_millis(20)).await.is_ok() {}
        let span = Duration::from_millis(50);
        assert_eq!(late.unsubscribe().within(span).await, Err(FlushError::TimedOut { after: span }));
        server.pause(false);
        server.wait_for("it is ended all the same", |view| view.patterns == 0);
        let last = client.subscribe("a").await.unwrap();
        client.close().await.unwrap();
        last.unsubscribe().await.unwrap();
    });
}

#[test]
fn a_drained_subscription_ends_after_what_it_has_and_the_client_goes_on() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut held = client.subscribe("a").await.unwrap();
        let mut other = client.subscribe("a").await.unwrap();
        for payload in ["one", "two"] {
            client.publish("a", payload).await.unwrap();
        }
        wait_for("both have come", || held.stats().queued == 2);
        held.drain().await.unwrap();
        client.publish("a", "three").await.unwrap();
        for payload in ["one", "two", "three"] {
            assert_eq!(other.next().await.unwrap().text(), payload);
        }
        assert_eq!(held.next().await.unwrap().text(), "one");
        assert_eq!(held.try_next().unwrap().text(), "two");
        assert!(held.next().await.is_none() && !held.stats().active);
    });
}

#[test]
fn a_subscription_ends_after_as_many_messages_as_were_said() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let mut some = client.subscribe("a").await.unwrap();
        let mut none = client.subscribe("a").await.unwrap();
        some.unsubscribe_after(3);
        for number in 0..10_u8 {
            client.publish("a", [number]).await.unwrap();
        }
        wait_for("all have come", || some.stats().received == 10);
        none.unsubscribe_after(0);
        assert!(none.next().await.is_none() && none.try_next().is_none());
        assert_eq!(some.try_next().unwrap().payload(), [0]);
        for number in 1..3_u8 {
            assert_eq!(some.next().await.unwrap().payload(), [number]);
        }
        assert!(some.next().await.is_none() && some.try_next().is_none());
        server.wait_for("no pattern is left", |view| view.patterns == 0);
    });
}

#[test]
fn a_program_without_tasks_waits_on_its_own_thread() {
    let server = Server::start();
    let client = Client::connect(server.addr).wait().unwrap();
    let mut received = client.subscribe("n").wait().unwrap();
    let publisher = std::thread::spawn({
        let client = client.clone();
        move || {
            for number in 0..100_u8 {
                client.publish("n", [number]).wait().unwrap();
            }
            client.request("nobody", "").wait().unwrap_err();
        }
    });
    for (number, message) in received.iter().take(50).enumerate() {
        assert_eq!(message.payload(), [number as u8]);
    }
    assert_eq!(received.next().within(support::LIMIT).wait().unwrap().payload(), [50]);
    publisher.join().unwrap();
    wait_for("all have come", || received.stats().received == 100);
    client.close().wait().unwrap();
    assert_eq!((&mut received).into_iter().count(), 49);
}
