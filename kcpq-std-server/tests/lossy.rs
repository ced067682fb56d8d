//! The promise over a bad link: every message once, in order, intact.
//!
//! `KCPQ_SOAK_MESSAGES` sets how many messages travel (20,000 without it); a million is
//!
//! ```text
//! KCPQ_SOAK_MESSAGES=1000000 cargo test --release -p kcpq-std-server --test lossy -- --nocapture
//! ```

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kcpq_core::broker;
use kcpq_smol::Client;
use kcpq_std_server::{Config, Server};
use support::relay::{Relay, RelayConfig};

const SEED: u64 = 2;
const LARGEST: usize = 60_000;
/// Messages that the publisher may be ahead of the subscriber. The server's queue for a subscriber has a limit, behind
/// which messages are dropped, as they should be; here none may be.
const AHEAD: usize = 1_000;
/// How long a single message may take; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The messages of a run, the same for both ends.
struct Messages {
    random: fastrand::Rng,
    pool: Vec<u8>,
}

impl Messages {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(SEED);
        let mut pool = vec![0; 2 * LARGEST];
        random.fill(&mut pool);
        Self { random, pool }
    }

    /// The next payload: from 1 to 60,000 bytes, as many of 1 to 10 as of 1,000 to 10,000.
    fn next(&mut self) -> &[u8] {
        let len = (LARGEST as f64).powf(self.random.f64()).round() as usize;
        let at = self.random.usize(..=self.pool.len() - len);
        &self.pool[at..at + len]
    }
}

fn count() -> u64 {
    std::env::var("KCPQ_SOAK_MESSAGES").ok().map_or(20_000, |text| text.parse().expect("KCPQ_SOAK_MESSAGES: a number"))
}

fn subject(number: u64) -> String {
    format!("lossy.{number}")
}

async fn connect(addr: SocketAddr) -> Client {
    Client::builder().timeout(PATIENCE).capacity(2 * AHEAD).connect(addr).await.unwrap()
}

#[test]
fn every_message_arrives_once_in_order_and_intact_over_a_link_that_loses_doubles_and_reorders() {
    let broker = broker::Config { max_queued: 2 * AHEAD * LARGEST, ..broker::Config::default() };
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::bind(Config { listen, broker, ..Config::default() }).unwrap();
    let jitter = Duration::from_millis(30);
    let config = RelayConfig { seed: SEED, loss: 0.1, duplicate: 0.05, jitter, ..RelayConfig::default() };
    let relay = Relay::start(server.local_addr(), config);
    let count = count();
    let begun = Instant::now();
    let bytes = smol::block_on(async {
        let publisher = connect(relay.addr()).await;
        let subscriber = connect(relay.addr()).await;
        let mut received = subscriber.subscribe("lossy.*").await.unwrap();
        let (ahead, arrived) = async_channel::bounded(AHEAD);
        let publishing = smol::spawn(async move {
            let mut messages = Messages::new();
            for number in 0..count {
                // Waits while the subscriber is too far behind; an end that has gone is told by its own panic.
                let _ = ahead.send(()).await;
                publisher.publish(&subject(number), messages.next()).await.unwrap();
            }
            publisher.flush().await.unwrap();
            let stats = publisher.stats();
            publisher.close().await.unwrap();
            stats
        });
        let mut messages = Messages::new();
        let mut bytes = 0;
        for number in 0..count {
            let late = async {
                smol::Timer::after(PATIENCE).await;
                panic!("message {number} does not come: {:?}", received_late(&subscriber));
            };
            let message = smol::future::or(received.next(), late).await.expect("the client is open");
            let payload = messages.next();
            assert_eq!(message.subject(), subject(number));
            // Not assert_eq, which would print all of both.
            assert!(message.payload() == payload, "message {number} of {} bytes was altered", payload.len());
            bytes += payload.len();
            let _ = arrived.recv().await;
        }
        let sent = publishing.await;
        assert_eq!((sent.client.messages_sent, sent.client.dropped_in_doubt), (count, 0));
        assert_eq!(received.stats().dropped, 0);
        // Nothing comes behind the last one: what was sent twice arrived once.
        subscriber.flush().await.unwrap();
        assert_eq!(received.stats().received, count);
        subscriber.close().await.unwrap();
        bytes
    });
    let took = begun.elapsed().as_secs_f64();
    let (up, down) = (relay.to_upstream(), relay.to_clients());
    println!(
        "{count} messages, {:.1} MB in {took:.1} s: {:.0} messages/s, {:.2} MB/s",
        bytes as f64 / 1e6,
        count as f64 / took,
        bytes as f64 / 1e6 / took
    );
    println!("to the server: {up:?}\nto the clients: {down:?}");
    assert!(up.lost > up.received / 20 && down.lost > down.received / 20, "the link was too good");
    let snapshot = server.snapshot().unwrap().broker;
    assert_eq!((snapshot.messages_in, snapshot.messages_out), (count, count));
    assert_eq!((snapshot.dropped_slow, snapshot.dropped_memory, snapshot.malformed_datagrams), (0, 0, 0));
    server.shutdown();
}

/// What a failure is explained with.
fn received_late(client: &Client) -> kcpq_smol::Stats {
    client.stats().client
}
