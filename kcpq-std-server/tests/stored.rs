//! Messages that JetStream is to store, with a real NATS server: those who publish them are told where they are, and each is there
//! once.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kcpq_smol::{Client, StoreError, StoreFailure, Stored};
use kcpq_std_server::{Backbone, Config, Server};
use serde_json::{Value, json};
use support::edge::{bind, client, joined, on, stats};
use support::jetstream::JetStream;
use support::nats::{self, NatsClient};
use support::port;
use support::process::Process;
use support::program::kcpq;
use support::wait::{LIMIT, soon, until};

/// Makes a stream of these subjects, which takes `most` messages at most, if that is not -1, and refuses more.
fn make_stream(there: &JetStream, name: &str, subjects: &[&str], most: i64) {
    there.create(name, json!({ "subjects": subjects, "max_msgs": most, "discard": "new", "allow_direct": true }));
}

/// Servers of one cluster, and on all of them a stream of these subjects.
fn cluster(name: &str, stream: &str, subjects: &[&str]) -> Vec<JetStream> {
    let ports = [port::free(), port::free(), port::free()];
    let routes = ports.map(|port| format!("nats://127.0.0.1:{port}"));
    let start = |(index, route): (usize, &String)| {
        let called = format!("{name}-{index}");
        let args = ["-n", &called, "--cluster_name", name, "--cluster", route, "--routes", &routes.join(",")];
        JetStream::start_with(&called, &args)
    };
    let all: Vec<JetStream> = routes.iter().enumerate().map(start).collect();
    let config =
        json!({ "name": stream, "subjects": subjects, "storage": "file", "num_replicas": 3, "allow_direct": true });
    // They have to choose who leads before.
    let begun = Instant::now();
    while all[0].try_ask(&format!("STREAM.CREATE.{stream}"), &config).is_none_or(|made| made["error"] != Value::Null) {
        assert!(begun.elapsed() < LIMIT, "no stream on the cluster");
    }
    all
}

/// Which of them leads a stream; `None` if nobody does.
fn leader_of(all: &[JetStream], stream: &str) -> Option<usize> {
    let info = all
        .iter()
        .find_map(|one| one.nats.is_running().then(|| one.try_ask(&format!("STREAM.INFO.{stream}"), &json!({})))?)?;
    info["cluster"]["leader"].as_str()?.rsplit_once('-')?.1.parse().ok()
}

/// All that a stream has: numbers and texts.
fn content(there: &JetStream, name: &str) -> BTreeMap<u64, String> {
    let state = there.ask(&format!("STREAM.INFO.{name}"), &json!({}))["state"].clone();
    let (first, last) = (state["first_seq"].as_u64().unwrap(), state["last_seq"].as_u64().unwrap());
    let mut client = there.nats.client();
    client.subscribe("_INBOX.all.*", None);
    let message = |client: &mut NatsClient, number: u64| {
        let (subject, inbox) = (format!("$JS.API.DIRECT.GET.{name}"), format!("_INBOX.all.{number}"));
        client.publish(&subject, Some(&inbox), &json!({ "seq": number }).to_string());
        let heard = client.next();
        assert!(heard.headers.contains(&format!("Nats-Sequence: {number}\r\n")), "{heard:?}");
        heard.text
    };
    (first..=last).filter(|_| last > 0).map(|number| (number, message(&mut client, number))).collect()
}

/// At this number.
const fn at(sequence: u64) -> Stored {
    Stored { sequence, duplicate: false }
}

#[test]
fn who_publishes_is_told_where_it_is_stored_or_why_it_is_not() {
    if !nats::is_there() {
        return;
    }
    let jetstream = JetStream::start("stored");
    make_stream(&jetstream, "ORDERS", &["orders.>", "edge.orders.>"], 4);
    smol::block_on(async {
        let server =
            bind(Backbone { export: ["orders.>".into(), "none".into()].into(), ..on(&[jetstream.nats.url()]) });
        let other = bind(on(&[jetstream.nats.url()]));
        joined(&server).await;
        joined(&other).await;
        let (client, near, far) = (client(&server).await, client(&server).await, client(&other).await);
        let mut near = near.subscribe("orders.*").await.unwrap();
        let mut far = far.subscribe("orders.*").await.unwrap();
        assert_eq!(client.publish("orders.a", "1").stored().header("Unit", "K").await, Ok(at(1)));
        assert_eq!(client.publish("orders.a", "2").stored().id("two").await, Ok(at(2)));
        let again = client.publish("orders.b", "2").stored().id("two").await;
        assert_eq!(again, Ok(Stored { sequence: 2, duplicate: true }));
        // Several at a time, of which each is told its own.
        let (third, fourth) = futures_lite::future::zip(
            client.publish("orders.a", "3").stored().into_future(),
            client.publish("orders.a", "4").stored().into_future(),
        )
        .await;
        assert_eq!((third, fourth), (Ok(at(3)), Ok(at(4))));
        let refused = client.publish("orders.a", "5").stored().await;
        assert_eq!(refused, Err(StoreError::Failed(StoreFailure::Refused("maximum messages exceeded".into()))));
        for subject in ["none", "inside"] {
            let none = client.publish(subject, "6").stored().await;
            assert_eq!(none, Err(StoreError::Failed(StoreFailure::NoStream)), "{subject}");
        }
        let long = client.publish("orders.a", "7").stored().id("x".repeat(65)).await;
        assert_eq!(long, Err(StoreError::Id));
        // Subscribers get all of them, whether they are stored or not, and nothing of what is between servers and JetStream.
        for subscription in [&mut near, &mut far] {
            for text in ["1", "2", "2", "3", "4", "5"] {
                let message = soon("the message", subscription.next()).await.unwrap();
                assert_eq!((&*message.text(), message.reply_to()), (text, None));
                let headers: Vec<_> = message.headers().iter().collect();
                assert_eq!(headers, if text == "1" { vec![("Unit", "K")] } else { vec![] });
            }
        }
        let stats = stats(&server);
        assert_eq!((stats.stored, stats.store_duplicates, stats.store_refused), (5, 1, 1), "{stats:?}");
        assert_eq!((stats.store_no_stream, stats.storing, stats.store_repeats), (1, 0, 2), "{stats:?}");
    });
    let texts: Vec<_> = content(&jetstream, "ORDERS").into_values().collect();
    assert_eq!(texts, ["1", "2", "3", "4"]);
}

#[test]
fn a_server_that_stores_nothing_says_so_at_once() {
    smol::block_on(async {
        let server = Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).unwrap();
        let client = client(&server).await;
        let refused = client.publish("a", "").stored().await;
        assert_eq!(refused, Err(StoreError::Unsupported));
        assert_eq!(refused.unwrap_err().to_string(), "the server has no backbone that stores messages");
    });
}

/// One who publishes until it is told to stop, and again what nobody knows of.
async fn keep_storing(
    client: Client,
    name: usize,
    stops: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
) -> Vec<(u64, String)> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if stops.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("{name} {number}");
        let stored = loop {
            match client.publish("orders.x", &text).stored().id(&text).within(LIMIT).await {
                Ok(stored) => break stored,
                Err(error) => assert!(error.is_in_doubt(), "{error:?}"),
            }
        };
        acknowledged.push((stored.sequence, text));
        count.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[test]
fn nats_is_killed_under_load_and_what_was_acknowledged_is_there_once() {
    if !nats::is_there() {
        return;
    }
    let mut jetstream = JetStream::start("stored-killed");
    make_stream(&jetstream, "ORDERS", &["orders.>"], -1);
    smol::block_on(async {
        let server = bind(on(&[jetstream.nats.url()]));
        joined(&server).await;
        let (stops, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut publishers = Vec::new();
        for name in 0..20 {
            let client = client(&server).await;
            publishers.push(smol::spawn(keep_storing(client, name, Arc::clone(&stops), Arc::clone(&count))));
        }
        for round in 0..3 {
            let before = count.load(Ordering::Relaxed);
            until("messages are stored", || count.load(Ordering::Relaxed) > before + 300).await;
            let lost = stats(&server).disconnects;
            if round == 0 && cfg!(unix) {
                // It has all that is under way, and says nothing of it any more.
                jetstream.nats.signal("-STOP");
                until("all are handed over", || {
                    let stats = stats(&server);
                    stats.messages_out == stats.stored + publishers.len() as u64
                })
                .await;
            }
            jetstream.nats.kill();
            until("it is noticed", || stats(&server).disconnects > lost).await;
            until("all wait for it", || stats(&server).storing == publishers.len() as u64).await;
            jetstream.nats.restart();
            joined(&server).await;
        }
        stops.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for publisher in publishers {
            acknowledged.extend(soon("the last word", publisher).await);
        }
        let all = content(&jetstream, "ORDERS");
        for (number, text) in &acknowledged {
            assert_eq!(all.get(number), Some(text), "acknowledged, and not there");
        }
        let texts: BTreeSet<_> = all.values().collect();
        assert_eq!(texts.len(), all.len(), "each is there once");
        assert_eq!(texts.len(), acknowledged.len(), "and nothing else");
        let stats = stats(&server);
        assert_eq!((stats.stored, stats.storing), (acknowledged.len() as u64, 0), "{stats:?}");
        assert!(stats.store_repeats > 0 || !cfg!(unix), "{stats:?}");
        assert_eq!(stats.store_in_doubt, 0, "{stats:?}");
    });
}

#[test]
fn the_leader_of_a_stream_is_killed_and_what_was_acknowledged_is_there_once() {
    if !nats::is_there() {
        return;
    }
    let mut cluster = cluster("stored-led", "ORDERS", &["orders.>"]);
    smol::block_on(async {
        let mut leader = None;
        until("somebody leads", || {
            leader = leader_of(&cluster, "ORDERS");
            leader.is_some()
        })
        .await;
        let leader = leader.unwrap();
        let near = (leader + 1) % cluster.len();
        let server = bind(on(&[cluster[near].nats.url()]));
        joined(&server).await;
        let (stops, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut publishers = Vec::new();
        for name in 0..20 {
            let client = client(&server).await;
            publishers.push(smol::spawn(keep_storing(client, name, Arc::clone(&stops), Arc::clone(&count))));
        }
        until("messages are stored", || count.load(Ordering::Relaxed) > 300).await;
        cluster[leader].nats.kill();
        let before = count.load(Ordering::Relaxed);
        // Each of them has been told by another leader.
        until("it goes on with another one", || count.load(Ordering::Relaxed) > before + 300).await;
        stops.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for publisher in publishers {
            acknowledged.extend(soon("the last word", publisher).await);
        }
        let all = content(&cluster[near], "ORDERS");
        for (number, text) in &acknowledged {
            assert_eq!(all.get(number), Some(text), "acknowledged, and not there");
        }
        let texts: BTreeSet<_> = all.values().collect();
        assert_eq!((texts.len(), all.len()), (acknowledged.len(), acknowledged.len()), "each is there once");
        let stats = stats(&server);
        assert_eq!((stats.disconnects, stats.store_in_doubt, stats.store_no_stream), (0, 0, 0), "{stats:?}");
        assert!(stats.store_repeats > 0, "{stats:?}");
    });
}

#[test]
fn what_is_to_be_stored_by_rule_is_stored_whoever_publishes_it_and_whenever_nats_is_there() {
    if !nats::is_there() {
        return;
    }
    let mut jetstream = JetStream::start("stored-rule");
    make_stream(&jetstream, "RULE", &["site.rule.>"], -1);
    smol::block_on(async {
        let rule = Backbone {
            export: [].into(),
            store: ["rule.>".into()].into(),
            prefix: "site".into(),
            ..on(&[jetstream.nats.url()])
        };
        let server = bind(rule);
        joined(&server).await;
        let publisher = client(&server).await;
        let mut count = 0_u64;
        for _ in 0..3 {
            let lost = stats(&server).disconnects;
            for _ in 0..500 {
                publisher.publish("rule.a", format!("{count}")).await.unwrap();
                count += 1;
            }
            jetstream.nats.kill();
            until("it is noticed", || stats(&server).disconnects > lost).await;
            for _ in 0..100 {
                publisher.publish("rule.b", format!("{count}")).await.unwrap();
                count += 1;
            }
            publisher.flush().await.unwrap();
            until("they wait", || stats(&server).storing >= 100).await;
            jetstream.nats.restart();
            until("all are stored", || stats(&server).stored == count).await;
        }
        let mut numbers: Vec<u64> = content(&jetstream, "RULE").values().map(|text| text.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..count), "each is there once");
        let stats = stats(&server);
        assert_eq!((stats.storing, stats.store_full, stats.in_doubt), (0, 0, 0), "{stats:?}");
    });
}

#[test]
fn who_only_listens_and_answers_is_not_taken_for_a_stream() {
    if !nats::is_there() {
        return;
    }
    let jetstream = JetStream::start("stored-answered");
    smol::block_on(async {
        let server = bind(on(&[jetstream.nats.url()]));
        joined(&server).await;
        let client = client(&server).await;
        let mut there = jetstream.nats.client();
        there.subscribe("orders", None);
        let answering = async {
            let heard = smol::unblock(move || {
                let heard = there.next();
                there.publish(heard.reply.as_deref().unwrap(), None, "thanks");
                there.flush();
                heard
            })
            .await;
            assert!(heard.headers.contains("Nats-Msg-Id: kcpq"), "{heard:?}");
        };
        let asking = client.publish("orders", "x").ttl(Duration::from_secs(1)).stored().into_future();
        let (asked, ()) = futures_lite::future::zip(asking, answering).await;
        assert_eq!(asked, Err(StoreError::Failed(StoreFailure::InDoubt)));
        assert_eq!(stats(&server).store_in_doubt, 1);
    });
}

#[test]
fn the_program_publishes_to_a_stream_and_shows_how_that_goes() {
    if !nats::is_there() {
        return;
    }
    let mut jetstream = JetStream::start("stored-program");
    make_stream(&jetstream, "ORDERS", &["orders.>", "rule"], 4);
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--http", "0", "--log-format", "text"]);
    command.args(["--nats", &jetstream.nats.url(), "--nats-stored", "rule other.>"]);
    let mut server = Process::spawn(&mut command);
    let addr = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT);
    server.expect_logged("the backbone is there", LIMIT);
    let publish = |args: &[&str]| -> Output { kcpq().args(["pub", "-s", &addr]).args(args).output().unwrap() };
    let says = |output: &Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let well = |text: &str| (Some(0), text.to_owned(), String::new());
    assert_eq!(says(&publish(&["--stored", "orders.a", "1"])), well("1\n"));
    assert_eq!(says(&publish(&["--stored", "--id", "x", "orders.a", "2"])), well("2\n"));
    assert_eq!(says(&publish(&["--stored", "--id", "x", "orders.a", "2"])), well("2 duplicate\n"));
    assert_eq!(says(&publish(&["--stored", "--id", "y", "--count", "1", "orders.a", "3"])), well("3\n"));
    assert_eq!(says(&publish(&["--stored", "--id", "y1", "orders.a", "3"])), well("3 duplicate\n"));
    assert_eq!(says(&publish(&["rule", "4"])), well(""));
    let shown = |which: &str| -> Value {
        let mut stream = std::net::TcpStream::connect(&http).unwrap();
        let mut answer = String::new();
        std::io::Write::write_all(&mut stream, format!("GET {which} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    smol::block_on(until("all are stored", || shown("/varz")["backbone"]["storing"]["stored"] == 6));
    let (code, _, why) = says(&publish(&["--stored", "orders.a", "5"]));
    assert!(code == Some(1) && why.contains("maximum messages exceeded"), "{code:?} {why}");
    let (code, _, why) = says(&publish(&["--stored", "nothing", "5"]));
    assert!(code == Some(1) && why.contains("no stream stores its subject"), "{code:?} {why}");
    server.expect_logged("JetStream does not store a message", LIMIT);
    jetstream.nats.kill();
    server.expect_logged("the backbone is lost", LIMIT);
    let (code, _, why) = says(&publish(&["--stored", "--ttl", "100ms", "orders.a", "6"]));
    assert!(code == Some(3) && why.contains("nothing was said in time"), "{code:?} {why}");
    jetstream.nats.restart();
    smol::block_on(async {
        let check = || kcpq().args(["check", "-s", &addr, "--http", &http]).output().unwrap();
        until("the check says so", || {
            String::from_utf8_lossy(&check().stdout)
                .contains("3 messages that were to be stored may not be, and 0 wait")
        })
        .await;
    });
    let storing = shown("/varz")["backbone"]["storing"].clone();
    assert_eq!((&storing["refused"], &storing["no_stream"], &storing["in_doubt"]), (&json!(1), &json!(1), &json!(1)));
}
