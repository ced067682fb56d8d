//! Peers of the original's kind, in Go: they notice nothing.
//!
//! `KCPQ_GO_MESSAGES` sets how many messages the runs over a bad link carry (5,000 without it); the long form is
//!
//! ```text
//! KCPQ_REQUIRE_GO=1 KCPQ_GO_MESSAGES=100000 cargo test --release -p kcpq-std-server --test go -- --nocapture
//! ```

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kcpq_core::broker;
use kcpq_core::cipher::Key;
use kcpq_core::datagram::Framing;
use kcpq_core::fec::header::Shards;
use kcpq_smol::{Client, Event};
use kcpq_std_server::{Config, Server};
use smol::stream::StreamExt;
use support::process::Process;
use support::relay::{Relay, RelayConfig};
use support::wait::soon;

const PATIENCE: Duration = Duration::from_secs(240);
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// How the peers' datagrams are made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layers {
    Fec,
    /// With parity from our side as well.
    Parity,
    Aes,
    AesParity,
}

impl Layers {
    const ALL: [Self; 4] = [Self::Fec, Self::Parity, Self::Aes, Self::AesParity];
    /// The original's two versions, with a server of ours as it is without options.
    const VERSIONS: [Self; 2] = [Self::Fec, Self::Aes];

    fn parity(self) -> bool {
        matches!(self, Self::Parity | Self::AesParity)
    }

    fn aes(self) -> bool {
        matches!(self, Self::Aes | Self::AesParity)
    }

    fn key(self) -> Option<Key> {
        self.aes().then(|| Key::from_hex(KEY).unwrap())
    }
}

fn go(peer: &Path, layers: Layers, args: &[&str]) -> Command {
    let mut command = Command::new(peer);
    command.args(args).arg("-strict").env("KCPQ_AES256_KEY_HEX", KEY);
    if layers.aes() {
        command.arg("-aes");
    }
    command
}

fn serve(layers: Layers) -> Server {
    let mut broker = broker::Config::default();
    if layers.parity() {
        broker.compat_framing = Framing::Parity(Shards::KCPQ);
    }
    let listen = "127.0.0.1:0".parse().unwrap();
    Server::bind(Config { listen, broker, compat_key: layers.key(), ..Config::default() }).unwrap()
}

async fn connect(addr: SocketAddr, layers: Layers) -> Client {
    let mut builder = Client::builder().timeout(Duration::from_secs(20)).capacity(1_000_000);
    if layers.parity() {
        builder = builder.parity();
    }
    if let Some(key) = layers.key() {
        builder = builder.compat_aes256(key);
    }
    builder.connect(addr).await.unwrap()
}

/// Milliseconds from flush to flush, and so what an acknowledgement waits: as the original's clients have it, as its servers
/// have it, and slower.
const INTERVALS: [&str; 3] = ["10", "20", "40"];

/// A server of Go's, and where it listens.
fn go_server(peer: &Path, layers: Layers, listen: &str, args: &[&str]) -> (Process, SocketAddr) {
    let args = [&["serve", "-listen", listen], args].concat();
    let mut server = Process::spawn(&mut go(peer, layers, &args));
    let addr = server.expect_line("listening ", PATIENCE).parse().unwrap();
    (server, addr)
}

fn count() -> u64 {
    std::env::var("KCPQ_GO_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000)
}

/// The report of `sub`: everything came, once, in order and whole, and our datagrams were such as the original hears.
fn assert_all(report: &str, count: u64) {
    assert!(report.contains("\"strict_dropped\":0"), "{report}");
    assert_messages(report, count);
}

/// The same without a look at what was not heard: hints to sessions that a server does not know are meant not to be.
fn assert_messages(report: &str, count: u64) {
    for field in ["lost", "duplicated", "reordered", "corrupt"] {
        assert!(report.contains(&format!("\"{field}\":0")), "{field}: {report}");
    }
    assert!(report.contains(&format!("\"received\":{count},")), "{report}");
}

fn last_line(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().into()
}

/// One Go publisher, one Go subscriber, and a server between them.
fn between_go_peers(peer: &Path, layers: Layers, addr: SocketAddr, size: usize, count: u64, rate: Option<u32>) {
    let (addr, number, size) = (addr.to_string(), count.to_string(), size.to_string());
    let args = ["sub", "-s", &addr, "-subject", "test.*", "-count", &number, "-timeout", "200s"];
    let mut subscriber = Process::spawn(&mut go(peer, layers, &args));
    subscriber.expect_line("subscribed", PATIENCE);
    let rate = rate.map(|rate| rate.to_string());
    let mut args =
        vec!["pub", "-s", &addr, "-subject", "test.x", "-count", &number, "-size", &size, "-timeout", "200s"];
    if let Some(rate) = &rate {
        args.extend(["-rate", rate]);
    }
    let published = last_line(&Process::spawn(&mut go(peer, layers, &args)).wait(PATIENCE));
    assert!(published.contains(&format!("\"published\":{count}")) && published.contains("\"strict_dropped\":0"));
    assert_all(&last_line(&subscriber.wait(PATIENCE)), count);
}

#[test]
fn go_peers_meet_through_our_server() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::ALL {
        let server = serve(layers);
        for (size, count) in [(12, 2_000), (1_024, 1_000), (1_000_000, 5)] {
            between_go_peers(&peer, layers, server.local_addr(), size, count, None);
        }
        let snapshot = server.snapshot().unwrap().broker;
        assert_eq!((snapshot.malformed_datagrams, snapshot.native_sessions, snapshot.dropped_slow), (0, 0, 0));
        server.shutdown();
    }
}

#[test]
fn go_peers_meet_through_our_server_over_a_bad_link() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::ALL {
        let server = serve(layers);
        let config = RelayConfig { seed: 7, loss: 0.1, duplicate: 0.02, ..RelayConfig::default() };
        let relay = Relay::start(server.local_addr(), config);
        between_go_peers(&peer, layers, relay.addr(), 200, count(), Some(4_000));
        between_go_peers(&peer, layers, relay.addr(), 1_000_000, 2, None);
        assert!(relay.to_upstream().lost > 50 && relay.to_clients().lost > 50);
        drop(relay);
        server.shutdown();
    }
}

/// Both ways at once between our client and two Go peers, through whatever server is at `addr`.
fn between_us_and_go(peer: &Path, layers: Layers, addr: SocketAddr, size: usize, count: u64) {
    let (text, number, bytes) = (addr.to_string(), count.to_string(), size.to_string());
    smol::block_on(async {
        let client = connect(addr, layers).await;
        let mut received = client.subscribe("to-us.*").await.unwrap();
        let args = ["sub", "-s", &text, "-subject", "to-go.*", "-count", &number, "-timeout", "200s"];
        let mut subscriber = Process::spawn(&mut go(peer, layers, &args));
        subscriber.expect_line("subscribed", PATIENCE);
        // Go's publisher has no pause of its own, and a server's queue for a subscriber has an end.
        let args = [
            "pub", "-s", &text, "-subject", "to-us.x", "-count", &number, "-size", &bytes, "-rate", "4000", "-timeout",
            "200s",
        ];
        let publisher = Process::spawn(&mut go(peer, layers, &args));
        let publishing = smol::spawn({
            let client = client.clone();
            async move {
                for number in 0..count {
                    client.publish("to-go.x", support::go::message(number, size)).await.unwrap();
                    if number % 4 == 0 {
                        smol::Timer::after(Duration::from_millis(1)).await;
                    }
                }
                client.flush().within(PATIENCE).await.unwrap();
            }
        });
        for number in 0..count {
            let message = soon("a message from Go", received.next()).await.unwrap();
            assert!(message.payload() == support::go::message(number, size), "message {number} of {size} bytes");
        }
        publishing.await;
        assert_eq!(received.stats().dropped, 0);
        last_line(&publisher.wait(PATIENCE));
        assert_all(&last_line(&subscriber.wait(PATIENCE)), count);
        client.flush().await.unwrap();
        assert_eq!(received.stats().received, count, "each once");
        client.close().await.unwrap();
    });
}

/// Small ones in number, and some that fill many datagrams.
fn sizes() -> [(usize, u64); 3] {
    [(12, count()), (1_024, count().div_ceil(5)), (1_000_000, 2)]
}

const LOSSY: RelayConfig =
    RelayConfig { seed: 3, loss: 0.1, duplicate: 0.02, corrupt: 0.0, delay: Duration::ZERO, jitter: Duration::ZERO };

#[test]
fn our_client_and_go_peers_meet_through_our_server_over_a_bad_link() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::ALL {
        let server = serve(layers);
        let relay = Relay::start(server.local_addr(), LOSSY);
        for (size, count) in sizes() {
            between_us_and_go(&peer, layers, relay.addr(), size, count);
        }
        assert!(relay.to_upstream().lost > 50 && relay.to_clients().lost > 50);
        let snapshot = server.snapshot().unwrap().broker;
        assert_eq!((snapshot.dropped_slow, snapshot.broken_sessions, snapshot.unknown_commands), (0, 0, 0));
        drop(relay);
        server.shutdown();
    }
}

#[test]
fn our_client_and_go_peers_meet_through_a_go_server_over_a_bad_link() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::ALL {
        let (server, upstream) = go_server(&peer, layers, "127.0.0.1:0", &["-queue", "100000"]);
        let relay = Relay::start(upstream, LOSSY);
        for (size, count) in sizes() {
            between_us_and_go(&peer, layers, relay.addr(), size, count);
        }
        server.terminate();
        let report = last_line(&server.wait(PATIENCE));
        assert!(report.contains("\"strict_dropped\":0"), "{report}");
    }
}

#[test]
fn our_clients_meet_through_a_go_server_over_a_bad_link() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::ALL {
        let (server, upstream) = go_server(&peer, layers, "127.0.0.1:0", &["-queue", "100000"]);
        let relay = Relay::start(upstream, LOSSY);
        smol::block_on(async {
            let publisher = connect(relay.addr(), layers).await;
            let subscriber = connect(relay.addr(), layers).await;
            let mut received = subscriber.subscribe("a.*").await.unwrap();
            for number in 0..1_000 {
                let size = if number % 100 == 0 { 40_000 } else { 100 };
                publisher.publish("a.b", support::go::message(number, size)).await.unwrap();
            }
            publisher.flush().within(PATIENCE).await.unwrap();
            for number in 0..1_000 {
                let message = soon("a message", received.next()).await.unwrap();
                assert!(message.payload() == support::go::message(number, message.payload().len()), "{number}");
            }
            // Nothing of ours was answered with ERR but HELLO, and the session is an original one.
            assert!(publisher.is_connected());
            publisher.close().await.unwrap();
            subscriber.close().await.unwrap();
        });
        server.terminate();
        let report = last_line(&server.wait(PATIENCE));
        assert!(report.contains("\"strict_dropped\":0"), "{report}");
    }
}

#[test]
fn a_go_subscriber_goes_on_with_a_server_that_replaced_ours() {
    let Some(peer) = support::go::peer() else { return };
    let first = serve(Layers::Fec);
    let relay = Relay::start(first.local_addr(), RelayConfig { seed: 1, ..RelayConfig::default() });
    let addr = relay.addr().to_string();
    let args = [
        "sub",
        "-s",
        &addr,
        "-subject",
        "news",
        "-count",
        "10",
        "-timeout",
        "100s",
        "-reconnect",
        "-ping",
        "200ms",
        "-read-timeout",
        "1s",
    ];
    let mut subscriber = Process::spawn(&mut go(&peer, Layers::Fec, &args));
    subscriber.expect_line("subscribed", PATIENCE);
    // Gone without a word, as after a crash; another one takes its place.
    drop(first);
    let second = serve(Layers::Fec);
    relay.set_upstream(second.local_addr());
    subscriber.expect_line("subscribed", PATIENCE);
    let direct = second.local_addr().to_string();
    let args = ["pub", "-s", &direct, "-subject", "news", "-count", "10", "-size", "100"];
    last_line(&Process::spawn(&mut go(&peer, Layers::Fec, &args)).wait(PATIENCE));
    assert_messages(&last_line(&subscriber.wait(PATIENCE)), 10);
}

#[test]
fn video_reaches_go_subscribers_of_each_rhythm() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::VERSIONS {
        let server = serve(layers);
        let addr = server.local_addr().to_string();
        let subscribers = INTERVALS.map(|interval| {
            let args = ["sub", "-s", &addr, "-subject", "video", "-count", "90", "-interval", interval];
            let mut subscriber = Process::spawn(&mut go(&peer, layers, &args));
            subscriber.expect_line("subscribed", PATIENCE);
            subscriber
        });
        let args = ["pub", "-s", &addr, "-subject", "video", "-count", "90", "-size", "150000", "-rate", "30"];
        last_line(&Process::spawn(&mut go(&peer, layers, &args)).wait(PATIENCE));
        for subscriber in subscribers {
            assert_all(&last_line(&subscriber.wait(PATIENCE)), 90);
        }
        assert_eq!(server.snapshot().unwrap().broker.dropped_slow, 0);
        server.shutdown();
    }
}

#[test]
fn windows_of_go_peers_complete_at_each_rhythm() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::VERSIONS {
        let server = serve(layers);
        let addr = server.local_addr().to_string();
        for interval in INTERVALS {
            for (size, window, count) in [("128", "1000", "4000"), ("1024", "500", "2000"), ("50000", "16", "80")] {
                let args = ["bench", "-s", &addr, "-subs", "2", "-size", size, "-window", window, "-count", count];
                let args = [&args[..], &["-duration", "200s", "-interval", interval]].concat();
                let report = last_line(&Process::spawn(&mut go(&peer, layers, &args)).wait(PATIENCE));
                assert!(report.contains(&format!("\"published\":{count},")), "{size} B, {interval} ms: {report}");
                assert!(report.contains("\"lost\":0,\"repeated\":0,"), "{size} B, {interval} ms: {report}");
            }
        }
        assert_eq!(server.snapshot().unwrap().broker.dropped_slow, 0);
        server.shutdown();
    }
}

#[test]
fn our_clients_meet_through_go_servers_of_each_rhythm() {
    let Some(peer) = support::go::peer() else { return };
    for layers in Layers::VERSIONS {
        for interval in INTERVALS {
            let (server, addr) = go_server(&peer, layers, "127.0.0.1:0", &["-interval", interval]);
            smol::block_on(async {
                let publisher = connect(addr, layers).await;
                let subscriber = connect(addr, layers).await;
                let mut received = subscriber.subscribe("video").await.unwrap();
                let mut frames = smol::Timer::interval(Duration::from_millis(16));
                for number in 0..60 {
                    frames.next().await;
                    publisher.publish("video", support::go::message(number, 50_000)).await.unwrap();
                }
                publisher.flush().within(PATIENCE).await.unwrap();
                for number in 0..60 {
                    let message = soon("a frame", received.next()).await.unwrap();
                    assert!(message.payload() == support::go::message(number, 50_000), "{number}, {interval} ms");
                }
                assert_eq!((received.stats().received, received.stats().dropped), (60, 0));
                publisher.close().await.unwrap();
                subscriber.close().await.unwrap();
            });
            server.terminate();
            let report = last_line(&server.wait(PATIENCE));
            assert!(report.contains("\"strict_dropped\":0"), "{report}");
        }
    }
}

/// How soon a client has to notice that its server has forgotten it, although nothing happens on the session.
const NOTICE: Duration = Duration::from_secs(20);

/// The next server at the address knows nothing of the session, and the original has no word for that: it acknowledges what
/// comes, and answers nothing.
#[test]
fn our_idle_subscriber_goes_on_with_a_go_server_that_restarted() {
    let Some(peer) = support::go::peer() else { return };
    std::thread::scope(|scope| {
        for layers in Layers::VERSIONS {
            let peer = &peer;
            scope.spawn(move || idle_subscriber_of_a_server_that_restarts(peer, layers));
        }
    });
}

fn idle_subscriber_of_a_server_that_restarts(peer: &Path, layers: Layers) {
    let (first, addr) = go_server(peer, layers, "127.0.0.1:0", &[]);
    let listen = addr.to_string();
    smol::block_on(async {
        let client = connect(addr, layers).await;
        let mut received = client.subscribe("news").await.unwrap();
        let mut events = client.events();
        first.terminate();
        last_line(&first.wait(PATIENCE));
        let (second, _) = go_server(peer, layers, &listen, &[]);

        let noticed =
            async { while !matches!(events.next().await.expect("the client goes on"), Event::Reconnected { .. }) {} };
        let late = async {
            smol::Timer::after(NOTICE).await;
            panic!("{layers:?}: nothing noticed within {NOTICE:?}");
        };
        smol::future::or(noticed, late).await;
        // The server handles this session's frames in order, and so the subscription before this.
        client.flush().within(PATIENCE).await.unwrap();
        let args = ["pub", "-s", &listen, "-subject", "news", "-count", "10", "-size", "100"];
        last_line(&Process::spawn(&mut go(peer, layers, &args)).wait(PATIENCE));
        for number in 0..10 {
            let message = soon("news", received.next()).await.unwrap();
            assert!(message.payload() == support::go::message(number, 100), "{layers:?}: {number}");
        }
        client.close().await.unwrap();
        second.terminate();
        last_line(&second.wait(PATIENCE));
    });
}
