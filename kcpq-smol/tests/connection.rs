//! Where the connection stands, with whom it is, and another one on demand.

mod support;

use kcpq_core::broker::Config;
use kcpq_smol::{Client, ConnectionState, Disconnect, Event};

use support::{Server, run, soon, wait_for};

#[test]
fn a_client_knows_its_server() {
    let config = Config { name: "the server".into(), ..Config::default() };
    let server = Server::start_at("127.0.0.1:0".parse().unwrap(), config);
    run(async {
        let client = Client::builder().name(format!("client {}", 7)).connect(server.addr).await.unwrap();
        let info = client.server_info().unwrap();
        assert_eq!((info.name.as_str(), info.native, info.address), ("the server", true, Some(server.addr)));
        assert_eq!((info.max_message, info.max_subject, info.max_tokens), (8 << 20, Some(4096), Some(32)));
        assert!(info.keep_alive.is_some() && info.epoch.is_some());
        client.close().await.unwrap();
        assert_eq!(client.server_info(), None);
    });
}

#[test]
fn the_state_of_the_connection_can_be_asked_for_and_followed() {
    let server = Server::start();
    run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let connected = ConnectionState::Connected { native: true };
        assert_eq!(client.state(), connected);
        let mut watch = client.watch();
        assert_eq!(watch.wait_for(ConnectionState::is_connected).await, Some(connected));
        let mut following = client.watch();
        let follower = smol::spawn(async move {
            let mut seen = Vec::new();
            while let Some(state) = following.changed().await {
                seen.push(state);
            }
            seen
        });
        let addr = server.addr;
        drop(server);
        client.force_reconnect();
        let away = soon(watch.wait_for(|state| matches!(state, ConnectionState::Connecting))).await;
        assert_eq!(away, Some(ConnectionState::Connecting));
        let _server = Server::start_at(addr, Config::default());
        assert_eq!(soon(watch.wait_for(ConnectionState::is_connected)).await, Some(connected));
        client.close().await.unwrap();
        assert_eq!(watch.wait_for(ConnectionState::is_connected).await, None);
        let seen = soon(follower).await;
        // Those that did not last it may have missed.
        assert!(seen.last() == Some(&ConnectionState::Closed) && seen.is_sorted_by(|a, b| a != b), "{seen:?}");
    });
}

#[test]
fn another_connection_is_made_at_once_when_it_is_asked_for() {
    let server = Server::start();
    run(async {
        // It would never be made otherwise.
        let client = Client::builder().reconnect(None).connect(server.addr).await.unwrap();
        let mut received = client.subscribe("a").await.unwrap();
        let mut events = client.events();
        client.force_reconnect();
        client.publish("a", "meanwhile").await.unwrap();
        let event = soon(events.next()).await;
        assert!(matches!(event, Some(Event::Disconnected { why: Disconnect::Requested, .. })), "{event:?}");
        assert!(matches!(soon(events.next()).await, Some(Event::Reconnected { native: true })));
        wait_for("it is subscribed again", || client.stats().client.active_subscriptions == 1);
        client.publish("a", "afterwards").await.unwrap();
        while soon(received.next()).await.unwrap().payload() != b"afterwards" {}
        client.flush().await.unwrap();
    });
    server.wait_for("no session is left", |view| view.sessions == 0);
}
