//! A server that goes and comes back.

mod support;

use std::time::Duration;

use kcpq_core::broker::Config;
use kcpq_smol::{Backoff, Builder, Client, Disconnect, Event};

use support::{Server, run, soon};

/// A client that notices soon and comes back soon.
fn quick() -> Builder {
    let millis = Duration::from_millis;
    Client::builder()
        .heartbeat(Duration::from_millis(200))
        .connect_timeout(Duration::from_millis(500))
        .timeout(support::LIMIT)
        .reconnect(Some(Backoff { base: millis(200), cap: millis(500) }))
}

#[test]
fn fifty_clients_come_back_by_themselves_when_their_server_is_killed_and_started_again() {
    const CLIENTS: usize = 50;
    let server = Server::start();
    run(async {
        let mut clients = Vec::new();
        for index in 0..CLIENTS {
            let client = quick().connect(server.addr).await.unwrap();
            let own = client.subscribe(&format!("client.{index}")).await.unwrap();
            let all = client.subscribe("client.*").await.unwrap();
            let events = client.events();
            clients.push((client, own, all, events));
        }
        let addr = server.addr;
        drop(server);
        for (.., events) in &mut clients {
            let event = soon(events.next()).await;
            assert!(matches!(event, Some(Event::Disconnected { retry_in: Some(_), .. })), "{event:?}");
        }
        let server = Server::start_at(addr, Config::default());
        for (client, .., events) in &mut clients {
            while !matches!(soon(events.next()).await, Some(Event::Reconnected { native: true })) {}
            assert_eq!(client.stats().client.reconnects, 1);
        }
        support::wait_for("every subscription is acknowledged again", || {
            clients.iter().all(|(client, ..)| client.stats().client.active_subscriptions == 2)
        });
        server.wait_for("it has all of them", |view| view.stats.subscriptions == 2 * CLIENTS as u64);
        for (index, (client, ..)) in clients.iter().enumerate() {
            client.publish(&format!("client.{index}"), "again").await.unwrap();
        }
        for (_, own, all, _) in &mut clients {
            assert_eq!(soon(own.next()).await.unwrap().payload(), b"again");
            for _ in 0..CLIENTS {
                assert_eq!(soon(all.next()).await.unwrap().payload(), b"again");
            }
        }
    });
}

#[test]
fn messages_published_while_the_server_is_away_arrive_when_it_is_back() {
    for builder in [quick(), quick().own_thread()] {
        arrive_when_it_is_back(builder);
    }
}

fn arrive_when_it_is_back(builder: Builder) {
    let server = Server::start();
    run(async {
        let client = builder.connect(server.addr).await.unwrap();
        let mut received = client.subscribe("n").capacity(1_000).await.unwrap();
        let mut events = client.events();
        let addr = server.addr;
        drop(server);
        while !matches!(soon(events.next()).await, Some(Event::Disconnected { .. })) {}
        for number in 0..100_u8 {
            client.publish("n", [number]).await.unwrap();
        }
        let _server = Server::start_at(addr, Config::default());
        client.flush().await.unwrap();
        for number in 0..100_u8 {
            assert_eq!(soon(received.next()).await.unwrap().payload(), [number]);
        }
    });
}

#[test]
fn a_client_told_not_to_reconnect_closes_when_its_server_goes() {
    let server = Server::start();
    run(async {
        let client = quick().reconnect(None).connect(server.addr).await.unwrap();
        let mut received = client.subscribe("n").await.unwrap();
        let mut events = client.events();
        drop(server);
        let event = soon(events.next()).await;
        let Some(Event::Disconnected { why, retry_in: None }) = event else { panic!("{event:?}") };
        assert!(matches!(why, Disconnect::Forgotten | Disconnect::Silent), "{why}");
        assert!(matches!(soon(events.next()).await, Some(Event::Closed)));
        assert!(soon(received.next()).await.is_none());
    });
}
