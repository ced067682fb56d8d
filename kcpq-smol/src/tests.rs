//! What cannot be seen from outside: what is left of a client, and servers with several addresses.

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};

use self::support::{Server, run, wait_for};
use crate::operation::Limit;
use crate::shared::Shared;
use crate::{Address, Client, ConnectError};

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
        let limit = Limit::new(std::time::Duration::from_millis(1_000));
        Client::builder().connect_to(Address::from("several"), addrs, limit)
    };
    run(async {
        // An address that nothing can be sent to, two where nobody listens, and the server's.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = connect(vec![nowhere, free(), free(), server.addr]).await.unwrap();
        client.flush().await.unwrap();
        let error = connect(vec![free(), free()]).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");
    });
}
