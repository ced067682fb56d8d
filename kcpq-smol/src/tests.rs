//! What cannot be seen from outside: what is left of a client, and servers with several addresses.

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use self::support::{Server, run, soon, wait_for};
use crate::operation::Limit;
use crate::route::Resolver;
use crate::shared::Shared;
use crate::{Address, Backoff, Builder, Client, ConnectError, Disconnect, Event, SubscribeError, SubscribeFailure};

fn watch(client: &Client) -> Weak<Shared> {
    Arc::downgrade(&client.handle().0)
}

/// The runner holds the shared state as long as it runs, and callbacks do.
fn ends(shared: &Weak<Shared>) {
    wait_for("the tasks have ended", || shared.strong_count() == 0);
}

#[test]
fn no_task_outlives_a_client() {
    let server = Server::start();
    let shared = run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let shared = watch(&client);
        let _stream = client.subscribe("a").await.unwrap();
        let _callback = client.subscribe("a").for_each(|_| {}).await.unwrap();
        client.publish("a", "b").await.unwrap();
        shared
    });
    ends(&shared);
}

#[test]
fn no_task_outlives_a_client_whose_server_has_gone() {
    let server = Server::start();
    let client = run(async { Client::connect(server.addr).await.unwrap() });
    let shared = watch(&client);
    client.try_publish("a", "b").unwrap();
    drop(server);
    drop(client);
    ends(&shared);
}

#[test]
fn no_task_outlives_a_closed_client() {
    let server = Server::start();
    let client = run(async { Client::connect(server.addr).await.unwrap() });
    let shared = watch(&client);
    run(client.close().into_future()).unwrap();
    wait_for("the runner has ended", || shared.strong_count() == 1);
}

#[test]
fn of_a_servers_addresses_those_that_refuse_are_passed_over() {
    let free = || UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::start();
    let connect = |addrs: Vec<SocketAddr>| {
        let limit = Limit::new(Duration::from_millis(1_000));
        Client::builder().connect_to(vec![Address::from("several")], addrs, limit)
    };
    run(async {
        // An address that nothing can be sent to, two where nobody listens, and the server's.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = connect(vec![nowhere, free(), free(), server.addr]).await.unwrap();
        client.flush().await.unwrap();
        let error = connect(vec![free(), free()]).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        // One that is silent may still answer.
        let (_hole, nobody) = black_hole();
        let error = connect(vec![free(), nobody]).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    });
}

#[test]
fn a_preset_undoes_nothing_that_was_set_before_it() {
    use crate::{Overflow, Preset, PrivateKey, SharedSecret};
    type Setting = (&'static str, fn(Builder) -> Builder);
    const SECOND: Duration = Duration::from_secs(1);
    let settings: [Setting; 19] = [
        ("timeout", |builder| builder.timeout(SECOND)),
        ("name", |builder| builder.name("tester")),
        ("capacity", |builder| builder.capacity(7)),
        ("max_bytes", |builder| builder.max_bytes(7_000)),
        ("queue", |builder| builder.queue(7_000)),
        ("overflow", |builder| builder.overflow(Overflow::DropOldest)),
        ("reconnect", |builder| builder.reconnect(None)),
        ("heartbeat", |builder| builder.heartbeat(SECOND)),
        ("connect_timeout", |builder| builder.connect_timeout(SECOND)),
        ("read_timeout", |builder| builder.read_timeout(SECOND)),
        ("max_datagram", |builder| builder.max_datagram(700)),
        ("compat_aes256", |builder| builder.compat_aes256(crate::Key::from_hex(&"7".repeat(64)).unwrap())),
        ("server_key", |builder| builder.server_key(PrivateKey::from_bytes(&[7; 32]).public())),
        ("identity", |builder| builder.identity(PrivateKey::from_bytes(&[7; 32]))),
        ("secret", |builder| builder.secret(SharedSecret::from_bytes(&[7; 32]))),
        ("parity", Builder::parity),
        ("own_thread", Builder::own_thread),
        ("spin", |builder| builder.spin(SECOND)),
        ("or_server", |builder| builder.or_server("other:4000")),
    ];
    let shown = |builder: &Builder| format!("{builder:?}");
    for preset in [Preset::GAMES, Preset::VIDEO, Preset::STEADY] {
        let alone = shown(&Client::builder().preset(preset));
        for (name, set) in settings {
            let before = shown(&set(Client::builder()).preset(preset));
            assert_eq!(before, shown(&set(Client::builder().preset(preset))), "{name}");
            assert_ne!(before, alone, "{name} has to show");
        }
    }
}

/// A socket that never answers.
fn black_hole() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// Names stand for what the test says.
fn names(addrs: &Arc<Mutex<Option<Vec<SocketAddr>>>>) -> Resolver {
    let addrs = Arc::clone(addrs);
    Resolver(Arc::new(move |_| {
        let found = addrs.lock().unwrap().clone().ok_or_else(|| std::io::ErrorKind::NotFound.into());
        Box::pin(async move { found })
    }))
}

fn quick() -> Builder {
    let millis = Duration::from_millis;
    Client::builder()
        .heartbeat(Duration::from_millis(200))
        .timeout(support::LIMIT)
        .connect_timeout(Duration::from_millis(500))
        .reconnect(Some(Backoff { base: millis(100), cap: millis(100) }))
}

/// On each place where a client's task may run: it waits in different ways there.
fn everywhere(builder: &Builder) -> [Builder; 3] {
    let own = builder.clone().own_thread();
    [builder.clone(), own.clone(), own.spin(Duration::from_millis(1))]
}

/// Waits until a server that was told to pause does.
async fn stand_still(client: &Client) {
    loop {
        client.publish("still", "there?").await.unwrap();
        if client.flush().within(Duration::from_millis(50)).await.is_err() {
            return;
        }
    }
}

#[test]
fn an_address_that_does_not_answer_does_not_keep_the_client_from_the_next() {
    let (_hole, nobody) = black_hole();
    for builder in everywhere(&Client::builder()) {
        let server = Server::start();
        run(async {
            let client = builder.or_server(server.addr).connect(nobody).await.unwrap();
            let mut received = client.subscribe("a").await.unwrap();
            client.publish("a", "b").await.unwrap();
            assert_eq!(received.next().await.unwrap().payload(), b"b");
            assert_eq!(client.stats().client.connection_errors, 0, "it was one attempt");
            assert_eq!(server.view().sessions, 1);
        });
    }
}

#[test]
fn a_server_whose_name_gets_another_address_is_found_again() {
    everywhere(&quick()).into_iter().for_each(find_again);
}

fn find_again(builder: Builder) {
    let (old, new) = (Server::start(), Server::start());
    let addrs = Arc::new(Mutex::new(Some(vec![old.addr])));
    run(async {
        let client = builder.resolver(names(&addrs)).connect("telemetry.example").await.unwrap();
        let mut received = client.subscribe("a").await.unwrap();
        // At first no name server answers: the old address is tried again, where nobody is.
        *addrs.lock().unwrap() = None;
        let mut events = client.events();
        drop(old);
        while !matches!(soon(events.next()).await, Some(Event::Disconnected { why: Disconnect::NoAnswer, .. })) {}
        *addrs.lock().unwrap() = Some(vec![new.addr]);
        while !matches!(soon(events.next()).await, Some(Event::Reconnected { .. })) {}
        client.publish("a", "b").await.unwrap();
        assert_eq!(soon(received.next()).await.unwrap().payload(), b"b");
        new.wait_for("it is there", |view| view.sessions == 1);
    });
}

#[test]
fn a_client_may_be_there_before_its_server_and_before_its_servers_name() {
    everywhere(&quick()).into_iter().for_each(be_there_before);
}

fn be_there_before(builder: Builder) {
    let (hole, nobody) = black_hole();
    let addrs = Arc::new(Mutex::new(None));
    let client = builder.resolver(names(&addrs)).connect_in_background("telemetry.example").unwrap();
    run(async {
        let mut events = client.events();
        for number in 0..100_u8 {
            client.publish("n", [number]).await.unwrap();
        }
        let event = soon(events.next()).await;
        assert!(matches!(&event, Some(Event::Unresolved { why, .. }) if why.kind() == std::io::ErrorKind::NotFound));
        *addrs.lock().unwrap() = Some(vec![nobody]);
        while !matches!(soon(events.next()).await, Some(Event::Disconnected { .. })) {}
        drop(hole);
        let server = Server::start_at(nobody, kcpq_core::broker::Config::default());
        // It waits for the connection, however long that takes.
        let _received = client.subscribe("n").await.unwrap();
        assert!(client.is_connected());
        client.flush().await.unwrap();
        assert_eq!(server.view().stats.messages_in, 100, "attempts that fail take nothing with them");
    });
}

#[test]
fn the_first_listener_of_a_client_in_the_background_hears_of_its_connection() {
    let server = Server::start();
    let client = Client::builder().connect_in_background(server.addr).unwrap();
    wait_for("it is connected", || client.is_connected());
    run(async {
        assert!(matches!(client.events().next().await, Some(Event::Connected { native: true })));
        let mut second = client.events();
        client.close().await.unwrap();
        assert!(matches!(second.next().await, Some(Event::Closed)));
    });
}

#[test]
fn a_subscription_has_the_time_for_all_its_attempts() {
    let attempts = Duration::from_secs(3 * 5 + 2);
    assert!(Client::builder().subscribe_patience().is_some_and(|span| span > attempts));
    let chosen = Client::builder().timeout(Duration::from_secs(1));
    assert_eq!(chosen.subscribe_patience(), Some(Duration::from_secs(1)));
    // The client is the one who gives up.
    let server = Server::start();
    let config = kcpq_core::client::Config {
        subscribe_timeout: kcpq_core::Duration::from_millis(50),
        subscribe_pause: kcpq_core::Duration::from_millis(10),
        ..kcpq_core::client::Config::default()
    };
    run(async {
        let client = Client::builder().config(config).connect(server.addr).await.unwrap();
        server.pause(true);
        stand_still(&client).await;
        let error = client.subscribe("a").await.unwrap_err();
        assert_eq!(error, SubscribeError::Failed(SubscribeFailure::Unanswered { attempts: 3 }));
    });
}

#[test]
fn a_logger_is_told_how_many_messages_are_in_doubt() {
    let server = Server::start();
    run(async {
        let client = quick().connect(server.addr).await.unwrap();
        let mut events = client.events();
        server.pause(true);
        stand_still(&client).await;
        for _ in 0..3 {
            client.publish("a", [0; 1_000]).await.unwrap();
        }
        wait_for("they are under way", || client.stats().queued == 0);
        drop(server);
        loop {
            match soon(events.next()).await {
                Some(Event::InDoubt { messages }) => break assert!((3..=4).contains(&messages), "{messages}"),
                event => assert!(matches!(event, Some(Event::Disconnected { .. })), "{event:?}"),
            }
        }
    });
}
