//! In programs on tokio: with its schedulers, its tasks and its timers.

mod support;

use std::time::Duration;

use kcpq_smol::{Client, Event};
use tokio::runtime::{Builder, Runtime};

use support::Server;

fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.enable_all().build().unwrap())
}

#[test]
fn a_client_works_in_both_of_tokios_schedulers() {
    for runtime in runtimes() {
        let server = Server::start();
        runtime.block_on(async {
            let client = Client::connect(server.addr).await.unwrap();
            let mut questions = client.subscribe("double").await.unwrap();
            let answering = tokio::spawn({
                let client = client.clone();
                async move {
                    while let Some(question) = questions.next().await {
                        question.respond(&client, [question.payload(), question.payload()].concat()).await.unwrap();
                    }
                }
            });
            let asked: Vec<_> = (0..50_u8)
                .map(|number| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let answer = client.request("double", [number]).within(support::LIMIT).await.unwrap();
                        assert_eq!(answer.payload(), [number, number]);
                    })
                })
                .collect();
            for asked in asked {
                asked.await.unwrap();
            }
            client.close().await.unwrap();
            answering.await.unwrap();
        });
        drop(server);
    }
}

#[test]
fn its_timers_and_the_clients_go_together() {
    for runtime in runtimes() {
        let server = Server::start();
        runtime.block_on(async {
            let client = Client::connect(server.addr).await.unwrap();
            let mut received = client.subscribe("a").await.unwrap();
            // A future that is dropped by tokio loses no message.
            assert!(tokio::time::timeout(Duration::from_millis(10), received.next()).await.is_err());
            assert!(received.next().within(Duration::from_millis(10)).await.is_err());
            client.publish("a", "b").await.unwrap();
            let message = tokio::time::timeout(support::LIMIT, received.next()).await.unwrap().unwrap();
            assert_eq!(message.text(), "b");
            let mut events = client.events();
            client.force_reconnect();
            loop {
                tokio::select! {
                    event = events.next() => if matches!(event, Some(Event::Reconnected { .. })) { break },
                    () = tokio::time::sleep(support::LIMIT) => panic!("it does not come back"),
                }
            }
            client.drain().await.unwrap();
        });
        drop(server);
    }
}

/// The client's own task may run there as well.
#[test]
fn a_clients_task_may_be_tokios() {
    for runtime in runtimes() {
        let server = Server::start();
        runtime.block_on(async {
            let spawn = |task| {
                tokio::spawn(task);
            };
            let client = Client::builder().executor(spawn).connect(server.addr).await.unwrap();
            let mut received = client.subscribe("a").await.unwrap();
            client.publish("a", "b").await.unwrap();
            assert_eq!(received.next().await.unwrap().text(), "b");
            client.close().await.unwrap();
        });
    }
}
