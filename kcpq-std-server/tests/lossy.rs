//! Messages of all sizes through a real server over a bad link: each arrives once, in order and intact.
//!
//! `KCPQ_SOAK_MESSAGES` sets how many (5,000 without it).

mod support;

use std::time::{Duration, Instant};

use kcpq_smol::Client;
use kcpq_std_server::{Config, Server};
use support::relay::{Relay, RelayConfig};

const PATIENCE: Duration = Duration::from_secs(3_000);
const LARGEST: u32 = 60_000;

/// A size from 1 to 60,000 bytes: small ones are frequent, large ones happen.
fn size(number: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(number);
    let bits = rng.u32(0..=LARGEST.ilog2());
    rng.u32(1..=LARGEST.min(2 << bits)) as usize
}

fn payload(number: u64) -> Vec<u8> {
    (0..size(number)).map(|at| (number.wrapping_mul(31) as usize).wrapping_add(at * 7) as u8).collect()
}

#[test]
fn messages_of_1_to_60000_bytes_arrive_once_in_order_and_intact() {
    let count: u64 = std::env::var("KCPQ_SOAK_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).unwrap();
    let bad = RelayConfig {
        seed: 11,
        loss: 0.1,
        duplicate: 0.05,
        jitter: Duration::from_millis(30),
        ..RelayConfig::default()
    };
    let relay = Relay::start(server.local_addr(), bad);
    let begun = Instant::now();
    let bytes = smol::block_on(async {
        let builder = || Client::builder().timeout(PATIENCE);
        let subscriber = builder().connect(relay.addr()).await.unwrap();
        let mut messages = subscriber.subscribe("soak.*").capacity(1 << 20).await.unwrap();
        let publisher = builder().connect(relay.addr()).await.unwrap();
        let sending = {
            let publisher = publisher.clone();
            smol::spawn(async move {
                for number in 0..count {
                    publisher.publish("soak.x", payload(number)).await.unwrap();
                }
                publisher.flush().await.unwrap();
            })
        };
        let mut bytes = 0;
        for number in 0..count {
            let message = messages.next().await.unwrap();
            let expected = payload(number);
            assert!(message.payload() == expected, "message {number} was lost, altered or came out of turn");
            bytes += expected.len();
        }
        sending.await;
        assert_eq!(messages.stats().dropped, 0);
        publisher.close().await.unwrap();
        subscriber.close().await.unwrap();
        bytes
    });
    let seconds = begun.elapsed().as_secs_f64();
    let (there, back) = (relay.to_upstream(), relay.to_clients());
    println!(
        "{count} messages, {:.1} MB in {seconds:.1} s: {:.0} messages/s; of {} datagrams {} lost and {} doubled",
        bytes as f64 / 1e6,
        count as f64 / seconds,
        there.received + back.received,
        there.lost + back.lost,
        there.duplicated + back.duplicated
    );
    assert!(there.lost > 100 && back.lost > 100 && there.duplicated > 50);
    let stats = server.snapshot().unwrap().broker;
    assert_eq!((stats.messages_in, stats.dropped_slow, stats.dropped_memory), (count, 0, 0));
    drop(relay);
    server.shutdown();
}
