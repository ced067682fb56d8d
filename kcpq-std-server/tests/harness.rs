//! The tools of the other tests: the relay does what it is told, a child process is heard and ends, and the Go peer gets
//! along with itself over a bad link (so that a failure against it is ours).

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use support::process::Process;
use support::relay::{Relay, RelayConfig};

/// Far more than anything here takes; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends `count` numbered datagrams, a few at a time, and returns which of them came out at `to`. Each round ends when
/// the relay has decided about all datagrams, so the kernel's buffers are never full.
fn send_through(relay: &Relay, from: &UdpSocket, to: &UdpSocket, count: u32) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    let mut buffer = [0; 2048];
    for number in 0..count {
        let before = relay.to_upstream();
        from.send_to(&number.to_be_bytes(), relay.addr()).unwrap();
        let now = loop {
            let now = relay.to_upstream();
            let settled = now.lost + now.cut > before.lost + before.cut
                || now.forwarded - before.forwarded == 1 + now.duplicated - before.duplicated;
            if now.received > before.received && settled {
                break now;
            }
            std::thread::yield_now();
        };
        for _ in before.forwarded..now.forwarded {
            let (len, _) = to.recv_from(&mut buffer).unwrap();
            arrived.push(buffer[..len].to_vec());
        }
    }
    arrived
}

#[test]
fn a_perfect_link_passes_everything_in_order_both_ways() {
    let (client, server) = (socket(), socket());
    let relay = Relay::start(server.local_addr().unwrap(), RelayConfig::default());
    let sent: Vec<Vec<u8>> = (0..100u32).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(send_through(&relay, &client, &server, 100), sent);

    let mut buffer = [0; 16];
    client.send_to(b"last", relay.addr()).unwrap();
    let (_, link) = server.recv_from(&mut buffer).unwrap();
    server.send_to(b"answer", link).unwrap();
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"answer"[..], relay.addr()));
    assert_eq!((relay.to_upstream().forwarded, relay.to_clients().forwarded), (101, 1));
}

#[test]
fn each_client_reaches_the_server_from_a_socket_of_its_own() {
    let (first, second, server) = (socket(), socket(), socket());
    let relay = Relay::start(server.local_addr().unwrap(), RelayConfig::default());
    let mut buffer = [0; 16];
    let mut links = Vec::new();
    for client in [&first, &second, &first] {
        client.send_to(b"x", relay.addr()).unwrap();
        links.push(server.recv_from(&mut buffer).unwrap().1);
    }
    assert_eq!(links[0], links[2]);
    assert_ne!(links[0], links[1]);
    server.send_to(b"to the second", links[1]).unwrap();
    assert_eq!(second.recv(&mut buffer).unwrap(), 13);
}

#[test]
fn the_same_seed_brings_the_same_faults_at_the_configured_rates() {
    let config = RelayConfig { seed: 7, loss: 0.2, duplicate: 0.1, corrupt: 0.1, ..RelayConfig::default() };
    let run = |config| {
        let (client, server) = (socket(), socket());
        let relay = Relay::start(server.local_addr().unwrap(), config);
        (send_through(&relay, &client, &server, 2000), relay.to_upstream())
    };
    let (arrived, counters) = run(config);
    assert_eq!((arrived.clone(), counters), run(config));
    assert_ne!(arrived, run(RelayConfig { seed: 8, ..config }).0);
    assert!((300..500).contains(&counters.lost), "{counters:?}");
    assert!((100..220).contains(&counters.duplicated), "{counters:?}");
    assert!((110..250).contains(&counters.corrupted), "{counters:?}");
    assert_eq!(counters.forwarded, counters.received - counters.lost + counters.duplicated);
    let damaged =
        arrived.iter().filter(|datagram| u32::from_be_bytes(datagram[..].try_into().unwrap()) >= 2000).count();
    assert!(damaged > 0, "an inverted high bit shows as a number that was never sent");
}

#[test]
fn loss_outage_and_upstream_change_while_it_runs() {
    let (client, old, new) = (socket(), socket(), socket());
    let relay = Relay::start(old.local_addr().unwrap(), RelayConfig::default());
    assert_eq!(send_through(&relay, &client, &old, 3).len(), 3);
    relay.set_loss(1.0);
    assert_eq!(send_through(&relay, &client, &old, 3).len(), 0);
    relay.set_loss(0.0);
    relay.set_outage(true);
    assert_eq!(send_through(&relay, &client, &old, 3).len(), 0);
    assert_eq!((relay.to_upstream().lost, relay.to_upstream().cut), (3, 3));
    relay.set_outage(false);
    relay.set_upstream(new.local_addr().unwrap());
    assert_eq!(send_through(&relay, &client, &new, 3).len(), 3);
}

#[test]
fn a_delayed_datagram_arrives_no_sooner_than_its_delay() {
    let (client, server) = (socket(), socket());
    let delay = Duration::from_millis(20);
    let config = RelayConfig { delay, jitter: Duration::from_millis(5), ..RelayConfig::default() };
    let relay = Relay::start(server.local_addr().unwrap(), config);
    let begin = Instant::now();
    assert_eq!(send_through(&relay, &client, &server, 1).len(), 1);
    assert!(begin.elapsed() >= delay);
}

#[test]
fn jitter_changes_the_order_and_loses_nothing() {
    let (client, server) = (socket(), socket());
    let config = RelayConfig { jitter: Duration::from_millis(20), ..RelayConfig::default() };
    let relay = Relay::start(server.local_addr().unwrap(), config);
    let sent: Vec<u8> = (0..50).collect();
    for number in &sent {
        client.send_to(&[*number], relay.addr()).unwrap();
    }
    let mut buffer = [0; 16];
    let mut arrived: Vec<u8> = Vec::new();
    while arrived.len() < sent.len() {
        server.recv_from(&mut buffer).unwrap();
        arrived.push(buffer[0]);
    }
    assert_ne!(arrived, sent);
    arrived.sort_unstable();
    assert_eq!(arrived, sent);
}

#[test]
fn a_stream_with_a_window_goes_through_whole() {
    const TOTAL: u32 = 50_000;
    const WINDOW: u32 = 32;
    let (client, server) = (socket(), socket());
    let relay = Relay::start(server.local_addr().unwrap(), RelayConfig::default());
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        for _ in 0..TOTAL {
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..len], from).unwrap();
        }
    });
    let begin = Instant::now();
    let mut buffer = [0; 2048];
    let datagram = [7; 1400];
    for number in 0..TOTAL + WINDOW {
        if number < TOTAL {
            client.send_to(&datagram, relay.addr()).unwrap();
        }
        if number >= WINDOW {
            assert_eq!(client.recv(&mut buffer).unwrap(), datagram.len());
        }
    }
    echo.join().unwrap();
    println!("{:.0} datagrams/s, both directions together", f64::from(2 * TOTAL) / begin.elapsed().as_secs_f64());
    assert_eq!(relay.to_clients().forwarded, u64::from(TOTAL));
}

#[cfg(unix)]
#[test]
fn a_child_is_heard_line_by_line_and_its_end_is_reported() {
    let mut child = Process::spawn(Command::new("sh").args(["-c", "echo a 1; echo b; echo a 2; echo why >&2; exit 3"]));
    assert_eq!(child.expect_line("a ", PATIENCE), "1");
    assert_eq!(child.expect_line("a ", PATIENCE), "2");
    let output = child.wait(PATIENCE);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"a 1\nb\na 2\n"[..], &b"why\n"[..]));
}

#[cfg(unix)]
#[test]
#[should_panic(expected = "no line \"never\"")]
fn a_line_that_does_not_come_is_a_failure_with_the_output_in_it() {
    Process::spawn(Command::new("echo").arg("something else")).expect_line("never", PATIENCE);
}

/// One Go server behind a relay, one Go subscriber, one Go publisher.
fn go_meets_go(flags: &[&str], config: RelayConfig, count: u32, size: u32) {
    let Some(peer) = support::go::peer() else { return };
    let go = |arguments: &[&str]| {
        let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        Process::spawn(Command::new(&peer).args(arguments).args(flags).env("KCPQ_AES256_KEY_HEX", key))
    };
    let mut server = go(&["serve"]);
    let upstream: SocketAddr = server.expect_line("listening ", PATIENCE).parse().unwrap();
    let relay = Relay::start(upstream, config);
    let addr = relay.addr().to_string();
    let (count_text, size_text) = (count.to_string(), size.to_string());
    let mut sub = go(&["sub", "-s", &addr, "-subject", "load.*", "-count", &count_text]);
    sub.expect_line("subscribed", PATIENCE);
    let publish = go(&["pub", "-s", &addr, "-subject", "load.a", "-count", &count_text, "-size", &size_text]);
    let published = publish.wait(PATIENCE * 2);
    assert!(published.status.success(), "{published:?}");
    let received = sub.wait(PATIENCE * 2);
    assert!(received.status.success(), "{received:?}");
    let report = String::from_utf8(received.stdout).unwrap();
    let expected = format!(r#"{{"received":{count},"lost":0,"duplicated":0,"reordered":0,"corrupt":0,"#);
    assert!(report.contains(&expected), "{report}");
    assert_eq!(relay.to_upstream().lost > 0, config.loss > 0.0);
    #[cfg(unix)]
    {
        server.terminate();
        let end = server.wait(PATIENCE);
        assert_eq!(String::from_utf8_lossy(&end.stdout).lines().last(), Some(r#"{"sessions":2,"strict_dropped":0}"#));
    }
}

/// A tenth of the datagrams is lost in each direction.
const LOSSY: RelayConfig =
    RelayConfig { seed: 1, loss: 0.1, duplicate: 0.02, corrupt: 0.0, delay: Duration::ZERO, jitter: Duration::ZERO };

#[test]
fn the_go_peer_loses_nothing_over_plain_kcp() {
    go_meets_go(&["-fec", "off"], LOSSY, 2000, 12);
}

#[test]
fn the_go_peer_loses_nothing_with_fec() {
    go_meets_go(&["-strict"], LOSSY, 2000, 1024);
}

#[test]
fn the_go_peer_loses_nothing_with_fec_and_aes_on_a_link_that_inverts_bits() {
    go_meets_go(&["-strict", "-aes"], RelayConfig { corrupt: 0.02, ..LOSSY }, 2000, 1024);
}

#[test]
fn the_go_peer_passes_megabytes_on() {
    go_meets_go(&["-strict"], RelayConfig::default(), 4, 1_000_000);
}
