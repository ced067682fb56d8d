//! The server as a library, seen by clients over loopback: its life, its limits, and subscribers that do not keep up.

mod support;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_lite::future::poll_once;
use kcpq_core::broker::{self, SlowConsumer};
use kcpq_core::{frame, kcp, subject};
use kcpq_smol::{Backoff, Builder, Client, Disconnect, Event, Events, Message};
use kcpq_std_server::limits::LimitTooLow;
use kcpq_std_server::{BindError, Config, Server};
use smol::Timer;
use support::port;
use support::relay::{Relay, RelayConfig};
use support::wait::{LIMIT, soon, until};

fn serve(broker: broker::Config) -> Server {
    serve_at("127.0.0.1:0".parse().unwrap(), broker)
}

fn serve_at(listen: SocketAddr, broker: broker::Config) -> Server {
    Server::bind(Config { listen, broker, ..Config::default() }).unwrap()
}

fn stats(server: &Server) -> broker::Stats {
    server.snapshot().unwrap().broker
}

/// A client that notices soon and comes back soon.
fn quick() -> Builder {
    let millis = Duration::from_millis;
    Client::builder()
        .timeout(LIMIT)
        .capacity(10_000)
        .heartbeat(Duration::from_millis(200))
        .connect_timeout(Duration::from_millis(500))
        .reconnect(Some(Backoff { base: millis(200), cap: millis(500) }))
}

/// The next event of this kind.
async fn event(events: &mut Events, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    soon(what, async {
        loop {
            let event = events.next().await.expect("the client is open");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

// --- its life ---

/// Its clients are sent elsewhere, and come with their subscriptions; newcomers pass it over.
#[test]
fn a_server_that_stops_sends_its_clients_to_another() {
    let other = serve(broker::Config::default());
    let successors = other.local_addr().to_string().into();
    let server = serve(broker::Config { successors, ..broker::Config::default() });
    smol::block_on(async {
        let mut clients = Vec::new();
        for builder in [quick(), quick().own_thread()] {
            let client = builder.connect(server.local_addr()).await.unwrap();
            clients.push((client.subscribe("a").await.unwrap(), client.events(), client));
        }
        server.hand_over(Duration::from_millis(10));
        for (heard, events, client) in &mut clients {
            event(events, "the other server", |event| matches!(event, Event::Reconnected { .. })).await;
            client.publish("a", "there").confirmed().await.unwrap();
            assert_eq!(soon("the message", heard.next()).await.unwrap().payload(), b"there");
        }
        assert_eq!((stats(&server).sessions, stats(&other).sessions), (0, 2));
        // One that knows both is not kept out by the one that stops, and one that knows only that is sent on.
        for builder in [quick().or_server(other.local_addr()), quick()] {
            let late = builder.connect(server.local_addr()).await.unwrap();
            late.publish("a", "late").confirmed().await.unwrap();
        }
        for (heard, ..) in &mut clients {
            while soon("the last messages", heard.next()).await.unwrap().payload() != b"late" {}
        }
        assert_eq!(stats(&server).sessions, 0);
        server.shutdown();
    });
}

#[test]
fn a_server_takes_a_free_port_counts_and_forgets_who_left() {
    let (first, second) = (serve(broker::Config::default()), serve(broker::Config::default()));
    assert_ne!(first.local_addr().port(), 0);
    assert_ne!(first.local_addr(), second.local_addr());
    smol::block_on(async {
        let client = quick().connect(first.local_addr()).await.unwrap();
        let mut received = client.subscribe("a.*").await.unwrap();
        client.publish("a.b", "heard").await.unwrap();
        client.publish("b", "not heard").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(soon("the message", received.next()).await.unwrap().payload(), b"heard");
        let counted = stats(&first);
        assert_eq!((counted.sessions, counted.native_sessions, counted.subscriptions), (1, 1, 1));
        assert_eq!((counted.messages_in, counted.messages_out, counted.unrouted), (2, 1, 1));
        assert_eq!(stats(&second), broker::Stats::default());
        client.close().await.unwrap();
        until("the session is forgotten", || stats(&first).sessions == 0).await;
        assert_eq!((stats(&first).subscriptions, stats(&first).native_sessions), (0, 0));
    });
    first.shutdown();
    second.shutdown();
}

#[test]
fn a_queue_group_shares_its_messages_over_clients_and_threads_of_the_server() {
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        shards: if cfg!(target_os = "linux") { 2 } else { 1 },
        ..Config::default()
    };
    let server = Server::bind(config).unwrap();
    smol::block_on(async {
        let mut members = Vec::new();
        for _ in 0..8 {
            let client = quick().connect(server.local_addr()).await.unwrap();
            members.push((client.subscribe("jobs.*").queue("workers").await.unwrap(), client));
        }
        let client = quick().connect(server.local_addr()).await.unwrap();
        let mut all = client.subscribe("jobs.>").await.unwrap();
        for number in 0..800_u32 {
            client.publish("jobs.a", number.to_be_bytes()).await.unwrap();
        }
        for _ in 0..800 {
            soon("each message for who is in no group", all.next()).await.unwrap();
        }
        let mut got = Vec::new();
        while got.len() < 800 {
            for (member, _) in &mut members {
                let number = |message: Message| u32::from_be_bytes(*message.payload().first_chunk().unwrap());
                while let Some(message) = poll_once(member.next()).await.flatten() {
                    got.push(number(message));
                }
            }
            soon("the others", Timer::after(Duration::from_millis(1))).await;
        }
        got.sort_unstable();
        assert!(got.into_iter().eq(0..800), "each once");
        let error = client.subscribe("jobs.a").queue("two words").await.unwrap_err();
        assert!(error.to_string().contains("queue group"), "{error}");
    });
    server.shutdown();
}

#[test]
#[cfg(target_os = "linux")]
fn the_threads_of_a_server_pass_messages_to_each_other_once_and_in_order() {
    const CLIENTS: usize = 12;
    const EACH: usize = 200;
    let server =
        Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), shards: 3, ..Config::default() }).unwrap();
    assert!(matches!(
        Server::bind(Config { listen: server.local_addr(), shards: 3, ..Config::default() }),
        Err(BindError::Bind { .. })
    ));
    smol::block_on(async {
        let mut clients = Vec::new();
        for index in 0..CLIENTS {
            let client = quick().connect(server.local_addr()).await.unwrap();
            let subscription = client.subscribe(if index % 2 == 0 { "all.*" } else { ">" }).await.unwrap();
            clients.push((client, subscription));
        }
        // All subscriptions are acknowledged: from here on nothing may be missed.
        for number in 0..EACH {
            for (index, (client, _)) in clients.iter().enumerate() {
                client.publish(&format!("all.{index}"), number.to_string()).await.unwrap();
            }
        }
        for (_, subscription) in &mut clients {
            let mut next = [0; CLIENTS];
            for _ in 0..CLIENTS * EACH {
                let message = soon("a message", subscription.next()).await.unwrap();
                let from: usize = message.subject().rsplit_once('.').unwrap().1.parse().unwrap();
                assert_eq!(message.payload(), next[from].to_string().as_bytes(), "in order of client {from}");
                next[from] += 1;
            }
        }
        let counted = stats(&server);
        assert_eq!((counted.sessions, counted.messages_in), (CLIENTS as u64, (CLIENTS * EACH) as u64));
        assert_eq!(counted.messages_out, (CLIENTS * CLIENTS * EACH) as u64);
        // Once for each other thread, and not for each of its subscribers.
        assert!((1..=counted.messages_in * 2).contains(&counted.relayed), "{counted:?}");
    });
    server.shutdown();
}

#[test]
#[cfg(target_os = "linux")]
fn clients_are_answered_from_the_address_that_they_asked() {
    for (listen, shards, asked) in
        [("0.0.0.0:0", 1, "127.0.0.2"), ("0.0.0.0:0", 2, "127.0.0.3"), ("[::]:0", 1, "127.0.0.2")]
    {
        let server = Server::bind(Config { listen: listen.parse().unwrap(), shards, ..Config::default() }).unwrap();
        let port = server.local_addr().port();
        smol::block_on(async {
            let client = quick().connect(format!("{asked}:{port}")).await.unwrap();
            let mut received = client.subscribe("n").await.unwrap();
            // Also what is sent many at a time.
            for number in 0..200_u32 {
                client.publish("n", [&number.to_be_bytes()[..], &[0; 4_000]].concat()).await.unwrap();
                let message = soon("a message", received.next()).await.unwrap();
                assert_eq!(message.payload()[..4], number.to_be_bytes());
            }
            client.close().await.unwrap();
        });
        assert_eq!(server.snapshot().unwrap().unsendable, 0);
        server.shutdown();
    }
}

/// A server that listens on all addresses of both families, on one port.
fn serve_both_families(shards: usize) -> Server {
    loop {
        let free = Server::bind(Config { listen: "0.0.0.0:0".parse().unwrap(), ..Config::default() }).unwrap();
        let port = free.local_addr().port();
        free.shutdown();
        let [listen, also] = [format!("0.0.0.0:{port}"), format!("[::]:{port}")].map(|addr| addr.parse().unwrap());
        match Server::bind(Config { listen, listen_also: vec![also], shards, ..Config::default() }) {
            Ok(server) => return server,
            // Another test has taken it meanwhile, of one family or of both.
            Err(BindError::Bind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_server_listens_on_several_addresses_and_its_clients_meet() {
    for shards in if cfg!(target_os = "linux") { [1, 3] } else { [1, 1] } {
        let listen_also = ["[::1]:0", "127.0.0.1:0"].map(|addr| addr.parse().unwrap()).to_vec();
        let listen = "127.0.0.1:0".parse().unwrap();
        let of_three = Server::bind(Config { listen, listen_also, shards, ..Config::default() }).unwrap();
        for server in [of_three, serve_both_families(shards)] {
            let loopback = |addr: &SocketAddr| match addr.is_ipv4() {
                true => SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port())),
                false => SocketAddr::from((Ipv6Addr::LOCALHOST, addr.port())),
            };
            let asked: Vec<_> = server.local_addrs().iter().map(loopback).collect();
            smol::block_on(async {
                let mut clients = Vec::new();
                for addr in &asked {
                    let client = quick().connect(*addr).await.unwrap();
                    clients.push((client.subscribe("n").await.unwrap(), client));
                }
                for (_, client) in &clients {
                    client.publish("n", "x").await.unwrap();
                }
                for (received, _) in &mut clients {
                    for _ in &asked {
                        soon("a message", received.next()).await.unwrap();
                    }
                }
                let (counted, each) = (stats(&server), asked.len() as u64);
                assert_eq!((counted.sessions, counted.messages_out), (each, each * each));
                for (_, client) in clients {
                    client.close().await.unwrap();
                }
            });
            server.shutdown();
        }
    }
    let listen_also = vec!["127.0.0.1:0".parse().unwrap(); Config::MAX_LISTENERS];
    let error = Server::bind(Config { listen_also, ..Config::default() }).unwrap_err();
    assert!(matches!(error, BindError::TooManyListeners), "{error:?}");
}

#[test]
fn an_address_in_use_is_told_with_the_address_and_is_free_at_once_after_a_shutdown() {
    let addr = port::free_addr();
    let server = serve_at(addr, broker::Config::default());
    let error = Server::bind(Config { listen: addr, ..Config::default() }).unwrap_err();
    assert!(matches!(error, BindError::Bind { addr: told, .. } if told == addr), "{error:?}");
    server.shutdown();
    serve_at(addr, broker::Config::default()).shutdown();
}

#[test]
fn a_stopping_server_delivers_what_waits_and_then_says_why_it_goes() {
    let server = serve(broker::Config::default());
    // A round trip long enough that most of it waits when the server is told to stop.
    let slow = RelayConfig { seed: 1, delay: Duration::from_millis(10), ..RelayConfig::default() };
    let relay = Relay::start(server.local_addr(), slow);
    smol::block_on(async {
        let publisher = quick().connect(server.local_addr()).await.unwrap();
        let subscriber = quick().connect(relay.addr()).await.unwrap();
        let mut received = subscriber.subscribe("n").await.unwrap();
        let (mut at_publisher, mut at_subscriber) = (publisher.events(), subscriber.events());
        for number in 0..1_000_u16 {
            publisher.publish("n", [&number.to_be_bytes()[..], &[0; 1_000]].concat()).await.unwrap();
        }
        publisher.flush().await.unwrap();
        smol::unblock(move || server.shutdown()).await;
        for number in 0..1_000_u16 {
            let message = soon("what waited", received.next()).await.unwrap();
            assert_eq!(message.payload()[..2], number.to_be_bytes());
        }
        for events in [&mut at_publisher, &mut at_subscriber] {
            let told = event(events, "the goodbye", |event| matches!(event, Event::Disconnected { .. })).await;
            let Event::Disconnected { why: Disconnect::ByServer(reason), .. } = told else { panic!("{told:?}") };
            assert_eq!(reason.to_string(), "the server stops");
        }
    });
}

#[test]
fn clients_go_on_with_the_server_that_follows_at_the_same_address() {
    let addr = port::free_addr();
    let first = serve_at(addr, broker::Config::default());
    smol::block_on(async {
        let client = quick().connect(addr).await.unwrap();
        let mut received = client.subscribe("n").await.unwrap();
        let mut events = client.events();
        smol::unblock(move || first.shutdown()).await;
        event(&mut events, "the end", |event| matches!(event, Event::Disconnected { .. })).await;
        client.publish("n", "in between").await.unwrap();
        let second = serve_at(addr, broker::Config::default());
        event(&mut events, "the return", |event| matches!(event, Event::Reconnected { native: true })).await;
        client.publish("n", "after").await.unwrap();
        for expected in ["in between", "after"] {
            let message = soon("a message", received.next()).await.unwrap();
            assert_eq!(message.payload(), expected.as_bytes());
        }
        smol::unblock(move || second.shutdown()).await;
    });
}

// --- its limits ---

#[test]
fn more_sessions_than_allowed_are_refused_in_words() {
    let per_host = broker::Config { max_sessions_per_host: 1, ..broker::Config::default() };
    for broker in [broker::Config { max_sessions: 1, ..broker::Config::default() }, per_host] {
        let server = serve(broker);
        smol::block_on(async {
            let first = quick().connect(server.local_addr()).await.unwrap();
            let refused = quick().reconnect(None).connect(server.local_addr()).await.unwrap_err();
            assert_eq!(refused.to_string(), "no connection: the server closed the session: a limit was reached");
            assert_eq!((stats(&server).sessions, stats(&server).sessions_refused > 0), (1, true));
            // The place of one that leaves is free.
            first.close().await.unwrap();
            until("the session is forgotten", || stats(&server).sessions == 0).await;
            quick().reconnect(None).connect(server.local_addr()).await.unwrap();
        });
    }
}

/// A limit: its name, the least value that works, and how it is set.
type Limit = (&'static str, u64, fn(&mut broker::Config, u64));

const LIMITS: [Limit; 11] = [
    ("max_sessions", 1, |broker, value| broker.max_sessions = value as usize),
    ("max_sessions_per_host", 1, |broker, value| broker.max_sessions_per_host = value as usize),
    ("max_subscriptions", 1, |broker, value| broker.max_subscriptions = value as usize),
    ("subjects.max_tokens", 1, |broker, value| broker.subjects.max_tokens = value as u8),
    ("subjects.max_len", 1, |broker, value| broker.subjects.max_len = value as u16),
    ("frames.max_subject", 1, |broker, value| broker.frames.max_subject = value as u16),
    ("frames.max_body", 285, |broker, value| broker.frames.max_body = value as u32),
    ("max_datagram", 128, |broker, value| broker.max_datagram = value as u16),
    ("native_datagram", 128, |broker, value| broker.native_datagram = value as u16),
    ("local_datagram", 128, |broker, value| broker.local_datagram = value as u16),
    ("idle_timeout in ms", 1_000, |broker, value| broker.idle_timeout = kcpq_core::Duration::from_millis(value)),
];

#[test]
fn limits_that_let_nobody_in_are_refused_and_the_least_that_is_taken_works() {
    for (what, least, set) in LIMITS {
        let mut broker = broker::Config::default();
        set(&mut broker, least - 1);
        let listen = "127.0.0.1:0".parse().unwrap();
        let refused = Server::bind(Config { listen, broker, ..Config::default() }).unwrap_err();
        let BindError::Limit(limit) = refused else { panic!("{what}: {refused}") };
        assert_eq!(limit, LimitTooLow { what, least, actual: least - 1 });
    }
    let mut broker = broker::Config::default();
    for (_, least, set) in LIMITS {
        set(&mut broker, least);
    }
    let server = serve(broker);
    smol::block_on(async {
        // The longest name that a client can have makes the longest HELLO.
        let name = std::str::from_utf8(&[b'n'; 255]).unwrap();
        let client = quick().name(name).connect(server.local_addr()).await.unwrap();
        let mut received = client.subscribe("a").await.unwrap();
        client.publish("a", [7; 200]).await.unwrap();
        assert_eq!(soon("the message", received.next()).await.unwrap().payload(), [7; 200]);
    });
    server.shutdown();
}

#[test]
fn a_session_goes_on_behind_a_nat_that_forgets_it() {
    const MESSAGES: u64 = 300;
    for shards in if cfg!(target_os = "linux") { vec![1, 4] } else { vec![1] } {
        let server =
            Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), shards, ..Config::default() }).unwrap();
        let relay = Relay::start(server.local_addr(), RelayConfig::default());
        smol::block_on(async {
            let subscriber = quick().connect(relay.addr()).await.unwrap();
            let mut heard = subscriber.subscribe("a").capacity(MESSAGES as usize).await.unwrap();
            let publisher = quick().connect(server.local_addr()).await.unwrap();
            for number in 0..MESSAGES {
                if number % 100 == 50 {
                    relay.rebind();
                }
                publisher.publish("a", number.to_be_bytes()).await.unwrap();
                Timer::after(Duration::from_millis(5)).await;
            }
            for number in 0..MESSAGES {
                let message = soon("the message", heard.next()).await.unwrap();
                assert_eq!(message.payload(), number.to_be_bytes(), "each once and in order");
            }
            assert_eq!(subscriber.stats().client.reconnects, 0);
            until("it moved each time", || stats(&server).sessions_moved == 3).await;
        });
        server.shutdown();
    }
}

#[test]
fn subscriptions_and_messages_beyond_a_limit_are_refused_and_the_session_goes_on() {
    let server = serve(broker::Config {
        max_subscriptions: 2,
        frames: frame::Limits { max_body: 1_000, ..frame::Limits::KCPQ },
        subjects: subject::Limits { max_tokens: 3, ..subject::Limits::DEFAULT },
        ..broker::Config::default()
    });
    smol::block_on(async {
        let client = quick().connect(server.local_addr()).await.unwrap();
        let mut kept = client.subscribe("a.b.c").await.unwrap();
        let _second = client.subscribe("second").await.unwrap();
        let third = client.subscribe("third").await.unwrap_err();
        assert_eq!(third.to_string(), "subscription failed: the session has too many subscriptions");
        let deep = client.subscribe("a.b.c.d").await.unwrap_err();
        assert_eq!(deep.to_string(), "invalid subject: more than 3 tokens", "known from its WELCOME");
        let large = client.publish("a.b.c", [0; 1_000]).await.unwrap_err();
        assert!(large.to_string().contains("too large") && large.to_string().contains("1000"), "{large}");
        assert_eq!(stats(&server).subscriptions_refused, 1);
        client.publish("a.b.c", "still here").await.unwrap();
        assert_eq!(soon("the message", kept.next()).await.unwrap().payload(), b"still here");
        assert_eq!((stats(&server).sessions_opened, stats(&server).broken_sessions), (1, 0));
    });
    server.shutdown();
}

// --- subscribers that do not keep up ---

/// Messages to a healthy subscriber and to one whose link is cut; then the link is back. What the cut one received of
/// what a server that `keeps` it kept for it.
async fn cut_off(server: &Server, count: u32, keeps: bool) -> (Vec<u32>, Client) {
    let relay = Relay::start(server.local_addr(), RelayConfig { seed: 1, ..RelayConfig::default() });
    // Patient: it stays in its session while it hears nothing.
    let cut = Client::builder().timeout(LIMIT).capacity(10_000).connect(relay.addr()).await.unwrap();
    let mut cut_receives = cut.subscribe("n").await.unwrap();
    let healthy = quick().connect(server.local_addr()).await.unwrap();
    let mut receives = healthy.subscribe("n").await.unwrap();
    relay.set_outage(true);
    for number in 0..count {
        healthy.publish("n", [&number.to_be_bytes()[..], &[0; 4_000]].concat()).await.unwrap();
        // One after the other: the healthy one keeps up, whatever the machine is busy with.
        let message = soon("a message to the healthy one", receives.next()).await.unwrap();
        assert_eq!(message.payload()[..4], number.to_be_bytes());
    }
    relay.set_outage(false);
    let mut numbers = Vec::new();
    // One that is disconnected gets nothing more.
    let expected = if keeps { u64::from(count) - stats(server).dropped_slow } else { 0 };
    while (numbers.len() as u64) < expected {
        let message = soon("what was kept for the slow one", cut_receives.next()).await.unwrap();
        numbers.push(u32::from_be_bytes(*message.payload().first_chunk().unwrap()));
    }
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(cut_receives.stats().dropped, 0);
    (numbers, cut)
}

/// Little fits between the server and a subscriber: 32 segments under way and 64 KiB in the queue.
fn narrow(slow_consumer: SlowConsumer) -> Server {
    serve(broker::Config {
        kcp: kcp::Config { send_window: 32, ..kcp::Config::VIDEO },
        max_queued: 64 << 10,
        slow_consumer,
        ..broker::Config::default()
    })
}

#[test]
fn a_slow_subscriber_misses_the_newest_and_every_missed_message_is_counted() {
    let server = narrow(SlowConsumer::DropNewest);
    smol::block_on(async {
        let (numbers, _client) = cut_off(&server, 100, true).await;
        assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
        let counted = stats(&server);
        assert_eq!((counted.slow_consumers, counted.slow_sessions), (1, 0));
        assert_eq!((counted.dropped_memory, counted.dropped_closed), (0, 0));
        assert_eq!(numbers.len() as u64 + counted.dropped_slow, 100);
    });
}

#[test]
fn a_slow_subscriber_misses_the_oldest_if_that_is_the_policy() {
    let server = narrow(SlowConsumer::DropOldest);
    smol::block_on(async {
        let (numbers, _client) = cut_off(&server, 100, true).await;
        assert_eq!(numbers.last(), Some(&99));
        assert_eq!(numbers[0], 0, "what was under way is not taken back");
        assert_eq!(numbers.len() as u64 + stats(&server).dropped_slow, 100);
    });
}

#[test]
fn a_slow_subscriber_is_disconnected_if_that_is_the_policy() {
    let server = narrow(SlowConsumer::Disconnect);
    smol::block_on(async {
        let (_, client) = cut_off(&server, 100, false).await;
        let counted = stats(&server);
        assert_eq!((counted.slow_consumers, counted.slow_sessions), (1, 1));
        assert!(counted.dropped_slow > 0);
        // It hears of it, from the goodbye or because its session is gone, and may come back.
        until("the slow one is told", || client.stats().client.connection_errors > 0).await;
    });
}

/// Twenty that keep up get everything beside one that is stuck, which costs its bound: of each policy.
#[test]
fn one_stuck_subscriber_costs_its_bound_and_the_others_nothing() {
    const COUNT: u32 = 60;
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest, SlowConsumer::Disconnect] {
        let server = narrow(policy);
        smol::block_on(async {
            let relay = Relay::start(server.local_addr(), RelayConfig { seed: 1, ..RelayConfig::default() });
            let stuck = Client::builder().timeout(LIMIT).reconnect(None).connect(relay.addr()).await.unwrap();
            let _receives = stuck.subscribe("n").await.unwrap();
            let mut others = Vec::new();
            for _ in 0..20 {
                let client = quick().connect(server.local_addr()).await.unwrap();
                let receives = client.subscribe("n").await.unwrap();
                others.push((client, receives));
            }
            let publisher = quick().connect(server.local_addr()).await.unwrap();
            relay.set_outage(true);
            for number in 0..COUNT {
                publisher.publish("n", [&number.to_be_bytes()[..], &[0; 4_000]].concat()).await.unwrap();
                for (_, receives) in &mut others {
                    let message = soon("a message to one that keeps up", receives.next()).await.unwrap();
                    assert_eq!(message.payload()[..4], number.to_be_bytes(), "{policy:?}");
                }
            }
            let counted = stats(&server);
            let frame = 4_004 + 20;
            assert!(counted.queued <= (64 << 10) + frame, "{policy:?}: {} bytes", counted.queued);
            let missed = counted.dropped_slow + counted.dropped_closed;
            assert!(counted.slow_consumers == 1 && missed > 0, "{policy:?}: {missed} missed");
            assert_eq!(counted.slow_sessions, u64::from(policy == SlowConsumer::Disconnect));
            let queued = u64::from(COUNT) * 21 - if policy == SlowConsumer::DropNewest { missed } else { 0 };
            assert!(counted.messages_out <= queued, "{policy:?}: {} of {queued}", counted.messages_out);
            assert!(others.iter().all(|(client, _)| client.stats().client.connection_errors == 0));
        });
        server.shutdown();
    }
}

/// A server, a subscriber whose link is cut, and a publisher.
async fn behind(latest: bool) -> (Server, Relay, Client, kcpq_smol::Subscription, Client) {
    let kcp = kcp::Config { send_window: 32, ..kcp::Config::VIDEO };
    let server = serve(broker::Config { kcp, local_datagram: 1_400, ..broker::Config::default() });
    let relay = Relay::start(server.local_addr(), RelayConfig { seed: 1, ..RelayConfig::default() });
    let cut = Client::builder().timeout(LIMIT).capacity(10_000).connect(relay.addr()).await.unwrap();
    let subscribe = cut.subscribe("n");
    let receives = if latest { subscribe.latest().await } else { subscribe.await }.unwrap();
    let publisher = quick().connect(server.local_addr()).await.unwrap();
    relay.set_outage(true);
    (server, relay, cut, receives, publisher)
}

#[test]
fn stale_messages_for_a_slow_subscriber_are_dropped_and_counted() {
    smol::block_on(async {
        let (server, relay, _cut, mut receives, publisher) = behind(false).await;
        for number in 0..100u32 {
            let payload = [&number.to_be_bytes()[..], &[0; 4_000]].concat();
            publisher.publish("n", payload).ttl(Duration::from_millis(1)).await.unwrap();
        }
        publisher.publish("n", 100u32.to_be_bytes()).await.unwrap();
        publisher.flush().await.unwrap();
        relay.set_outage(false);
        let mut numbers = Vec::new();
        while numbers.last() != Some(&100) {
            let message = soon("what is not stale", receives.next()).await.unwrap();
            numbers.push(u32::from_be_bytes(*message.payload().first_chunk().unwrap()));
        }
        assert!(numbers.is_sorted(), "{numbers:?}");
        let expired = stats(&server).expired + publisher.stats().client.expired;
        assert_eq!(numbers.len() as u64 + expired + receives.stats().expired, 101);
        assert!(expired > 0);
    });
}

#[test]
fn a_slow_subscriber_to_the_latest_gets_the_newest() {
    smol::block_on(async {
        let (server, relay, _cut, mut receives, publisher) = behind(true).await;
        for number in 0..100u32 {
            publisher.publish("n", [&number.to_be_bytes()[..], &[0; 4_000]].concat()).await.unwrap();
        }
        publisher.flush().await.unwrap();
        relay.set_outage(false);
        let mut numbers = Vec::new();
        while numbers.last() != Some(&99) {
            let message = soon("the newest", receives.next()).await.unwrap();
            numbers.push(u32::from_be_bytes(*message.payload().first_chunk().unwrap()));
        }
        assert!(numbers.is_sorted(), "{numbers:?}");
        let superseded = stats(&server).superseded;
        assert_eq!(numbers.len() as u64 + superseded + receives.stats().superseded, 100);
        assert!(superseded > 0);
    });
}
