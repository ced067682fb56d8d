//! What is stored by a real JetStream, read through servers of kcpq.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_lite::future::poll_once;
use kcpq_core::client::SubscribeFailure;
use kcpq_core::hello::Refusal;
use kcpq_smol::{Client, Preset, SettleError, SubscribeError, Subscription};
use kcpq_std_server::{Config, Server};
use serde_json::{Value, json};
use support::edge::{on, serve, stats};
use support::folder::Folder;
use support::jetstream;
use support::nats::{self, Nats, NatsClient};
use support::port;
use support::process::Process;
use support::program::kcpq;
use support::wait::{LIMIT, soon, until};

/// A file that is not written for so long is at rest.
const FILE_RESTS: Duration = Duration::from_millis(500);

/// A NATS server with a store.
fn store(folder: &Folder) -> Nats {
    Nats::start(&["-js", "-sd", folder.0.to_str().unwrap()])
}

async fn client(addr: std::net::SocketAddr) -> Client {
    Client::builder().timeout(LIMIT).connect(addr).await.unwrap()
}

fn stream(there: &mut NatsClient, name: &str, subjects: &[&str]) {
    jetstream::create(there, name, json!({ "subjects": subjects }));
}

/// Publishes numbers to be stored, and waits until they are.
fn fill(there: &mut NatsClient, subject: &str, numbers: std::ops::Range<u32>) {
    fill_with(there, subject, numbers, 0);
}

/// The same with zeros in front of them, so that they have this length.
fn fill_with(there: &mut NatsClient, subject: &str, numbers: std::ops::Range<u32>, len: usize) {
    let inbox = "_INBOX.test.stored";
    there.subscribe(inbox, None);
    let count = numbers.len();
    for (done, number) in numbers.enumerate() {
        there.publish(subject, Some(inbox), &format!("{number:0>len$}"));
        // Not all at once: it sends an answer to each.
        if done >= 500 {
            there.next();
        }
    }
    (0..count.min(500)).for_each(|_| drop(there.next()));
    there.unsubscribe();
}

async fn number(subscription: &mut Subscription) -> u32 {
    soon("a message", subscription.next()).await.unwrap().text().parse().unwrap()
}

async fn numbers(subscription: &mut Subscription, wanted: std::ops::Range<u32>) {
    for wanted in wanted {
        assert_eq!(number(subscription).await, wanted);
    }
}

#[test]
fn ten_thousand_stored_messages_and_then_live_ones_come_once_and_in_order() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("replay-all");
    let nats = store(&folder);
    let mut there = nats.client();
    stream(&mut there, "EVENTS", &["events.>"]);
    fill(&mut there, "events.a", 0..10_000);
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        let (reader, publisher) = (client(server.local_addr()).await, client(server.local_addr()).await);
        let mut all = reader.subscribe("events.>").from_start().await.unwrap();
        // While it reads others go on: it is not known where the one ends and the other begins.
        for count in 0..200 {
            publisher.publish("events.a", (10_000 + count).to_string()).await.unwrap();
            numbers(&mut all, count * 50..count * 50 + 50).await;
        }
        numbers(&mut all, 10_000..10_200).await;
        let message = {
            publisher.publish("events.b", "10200").await.unwrap();
            soon("the last", all.next()).await.unwrap()
        };
        assert_eq!((message.subject(), message.sequence(), message.deliveries()), ("events.b", Some(10_201), 1));
        assert!(message.stored_at().unwrap().elapsed().unwrap() < LIMIT);
        assert_eq!(message.ack(), Err(SettleError::NotDurable));
        assert!(poll_once(all.next()).await.is_none());

        let mut from = reader.subscribe("events.a").from(9_901).await.unwrap();
        numbers(&mut from, 9_900..10_200).await;
        let mut since = reader.subscribe("events.*").since(Duration::from_secs(3_600)).await.unwrap();
        numbers(&mut since, 0..10_201).await;
        let mut last = reader.subscribe("events.>").last().await.unwrap();
        assert_eq!((number(&mut last).await, number(&mut last).await), (10_199, 10_200));
        let mut new = reader.subscribe("events.>").from_now().await.unwrap();
        publisher.publish("events.a", "10201").await.unwrap();
        for subscription in [&mut new, &mut last, &mut since, &mut from, &mut all] {
            assert_eq!(number(subscription).await, 10_201);
            assert!(poll_once(subscription.next()).await.is_none());
        }
        let now = stats(&server);
        assert_eq!((now.replays, now.replays_opened, now.replays_resumed, now.redelivered), (5, 5, 0, 0), "{now:?}");
        drop((all, from, since, last, new));
        until("all are ended", || stats(&server).replays == 0).await;
        let left = || jetstream::ask(&mut nats.client(), "CONSUMER.NAMES.EVENTS", &json!({}));
        until("nothing is left at the store", || left()["total"] == 0).await;
        server.shutdown();
    });
}

#[test]
fn what_cannot_be_read_is_said_with_its_reason() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("replay-no");
    let nats = store(&folder);
    let mut there = nats.client();
    stream(&mut there, "ONE", &["one.>"]);
    stream(&mut there, "TWO", &["two.>", "three"]);
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        let client = client(server.local_addr()).await;
        let refused = async |pattern: &str, durable: Option<&str>| {
            let subscribe = client.subscribe(pattern).from_start();
            let subscribe = match durable {
                Some(name) => subscribe.durable(name),
                None => subscribe,
            };
            match soon("an answer", subscribe.into_future()).await {
                Err(SubscribeError::Failed(SubscribeFailure::Refused(why))) => why,
                other => panic!("{pattern}: {other:?}"),
            }
        };
        assert_eq!(refused("four", None).await, Refusal::NoStream);
        assert_eq!(refused(">", None).await, Refusal::NoStream);
        assert_eq!(refused("*.x", None).await, Refusal::NoStream);
        let _durable = client.subscribe("one.*").durable("worker").await.unwrap();
        assert_eq!(refused("one.a", Some("worker")).await, Refusal::DurableInUse);
        let both = client.subscribe("one.>").from_start().queue("workers").await;
        assert!(matches!(both, Err(SubscribeError::QueueOfStored)), "{both:?}");
        server.shutdown();

        // Without a store, and without a backbone.
        let bare = Nats::start(&[]);
        let server = serve(on(&[bare.url()])).await;
        let client = self::client(server.local_addr()).await;
        let why = soon("an answer", client.subscribe("one.>").from_start().into_future()).await;
        let away = SubscribeError::Failed(SubscribeFailure::Refused(Refusal::StoreAway));
        assert_eq!(why.unwrap_err(), away);
        server.shutdown();
        let server = Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).unwrap();
        let client = self::client(server.local_addr()).await;
        let why = soon("an answer", client.subscribe("one.>").from_start().into_future()).await;
        assert_eq!(why.unwrap_err(), SubscribeError::Failed(SubscribeFailure::NoReplays));
        server.shutdown();
    });
}

#[test]
fn a_slow_reader_holds_nobody_up_and_misses_nothing() {
    const COUNT: u32 = 10_000;
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("replay-slow");
    let nats = store(&folder);
    let mut there = nats.client();
    stream(&mut there, "EVENTS", &["events.>"]);
    fill_with(&mut there, "events.a", 0..COUNT, 4_000);
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        // Within a machine a window is of long datagrams.
        let slow = Client::builder().timeout(LIMIT).preset(Preset::GAMES.windows(64, 64));
        let slow = slow.connect(server.local_addr()).await.unwrap();
        let fast = client(server.local_addr()).await;
        let mut slowly = slow.subscribe("events.a").from_start().capacity(100).await.unwrap();
        let mut quickly = fast.subscribe("events.a").from_start().await.unwrap();
        numbers(&mut quickly, 0..COUNT).await;
        assert!(stats(&server).replay_backlog > 0, "the rest is still at the store");
        numbers(&mut slowly, 0..COUNT).await;
        assert_eq!(slowly.stats().dropped, 0);
        assert_eq!(stats(&server).replayed, u64::from(2 * COUNT));
        server.shutdown();
    });
}

#[test]
fn what_is_lost_comes_back_and_no_message_is_missing_or_doubled() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("replay-lost");
    let mut nats = store(&folder);
    let mut there = nats.client();
    stream(&mut there, "EVENTS", &["events.>"]);
    fill(&mut there, "events.a", 0..1_000);
    smol::block_on(async {
        let server = serve(on(&[nats.url()])).await;
        let client = client(server.local_addr()).await;
        let mut all = client.subscribe("events.>").from_start().await.unwrap();
        numbers(&mut all, 0..500).await;
        // The store is gone and back.
        nats.kill();
        until("the backbone is lost", || stats(&server).joined == 0).await;
        nats.restart();
        until("it is back", || stats(&server).joined == 1).await;
        let mut there = nats.client();
        fill(&mut there, "events.a", 1_000..1_100);
        numbers(&mut all, 500..1_100).await;
        // The client's session is another one.
        client.force_reconnect();
        fill(&mut there, "events.a", 1_100..1_200);
        numbers(&mut all, 1_100..1_200).await;
        // Somebody has taken the consumer away.
        let names = jetstream::ask(&mut there, "CONSUMER.NAMES.EVENTS", &json!({}));
        for name in names["consumers"].as_array().unwrap() {
            jetstream::ask(&mut there, &format!("CONSUMER.DELETE.EVENTS.{}", name.as_str().unwrap()), &json!({}));
        }
        fill(&mut there, "events.a", 1_200..1_300);
        numbers(&mut all, 1_200..1_300).await;
        assert!(poll_once(all.next()).await.is_none());
        assert!(stats(&server).replays_resumed >= 2);
        server.shutdown();
    });
}

#[test]
fn a_durable_subscription_survives_the_deaths_of_both_servers() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("replay-durable");
    let mut nats = store(&folder);
    let mut there = nats.client();
    stream(&mut there, "JOBS", &["jobs.>"]);
    // What is not acknowledged comes again after a second: else it takes the store half a minute to know that a server is dead.
    let config = json!({
        "durable_name": "worker", "ack_policy": "explicit", "deliver_policy": "all", "filter_subject": "jobs.>",
        "ack_wait": 1_000_000_000u64, "max_ack_pending": 50,
    });
    jetstream::ask(
        &mut there,
        "CONSUMER.DURABLE.CREATE.JOBS.worker",
        &json!({ "stream_name": "JOBS", "config": config }),
    );
    fill(&mut there, "jobs.a", 0..200);
    smol::block_on(async {
        let addr = port::free_addr();
        let start = |nats: &Nats| {
            let mut command = kcpq();
            command.args(["serve", "-l", &addr.to_string(), "--nats", &nats.url()]);
            Process::spawn(&mut command)
        };
        let mut process = Some(start(&nats));
        let client = Client::builder().timeout(LIMIT).connect_in_background(addr).unwrap();
        let begun = Instant::now();
        let mut jobs = loop {
            // Until it has joined the backbone.
            match client.subscribe("jobs.>").durable("worker").await {
                Ok(jobs) => break jobs,
                Err(SubscribeError::Failed(SubscribeFailure::Refused(Refusal::StoreAway))) => {}
                Err(error) => panic!("{error}"),
            }
        };
        // All below this are done with, as the store knows.
        let (mut seen, mut settled, mut deaths, mut done) = (BTreeSet::new(), 0, 0, None);
        let file = folder.0.join("jetstream/$G/streams/JOBS/obs/worker/o.dat");
        while seen.len() < 300 || deaths < 2 {
            assert!(begun.elapsed() < 2 * LIMIT, "{} of 300 after {deaths} deaths", seen.len());
            if deaths == 0 && seen.len() >= 50 || deaths == 1 && seen.len() == 200 {
                let info = jetstream::ask(&mut nats.client(), "CONSUMER.INFO.JOBS.worker", &json!({}));
                let floor = info["ack_floor"]["stream_seq"].as_u64().unwrap();
                // It writes its file several times in a second, and forgets all if it is killed just then.
                let rests = || file.metadata().unwrap().modified().unwrap().elapsed().unwrap() > FILE_RESTS;
                if deaths == 0 {
                    (settled, deaths) = (floor, 1);
                    drop(process.take()); // SIGKILL
                    process = Some(start(&nats));
                } else if floor == 200 && done.get_or_insert_with(Instant::now).elapsed() > FILE_RESTS && rests() {
                    (settled, deaths) = (floor, 2);
                    nats.kill();
                    nats.restart();
                    fill(&mut nats.client(), "jobs.b", 200..300);
                }
            }
            let Ok(message) = jobs.next().within(Duration::from_millis(20)).await else { continue };
            let job: u32 = message.text().parse().unwrap();
            assert!(u64::from(job) >= settled, "job {job} was done with before death {deaths}");
            if message.ack().is_ok() {
                seen.insert(job);
            }
        }
        assert_eq!((deaths, seen.len()), (2, 300), "none is lost");
        drop(process);
    });
}

#[test]
fn what_is_refused_comes_again_and_what_is_left_goes_to_the_next() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("replay-nak");
    let nats = store(&folder);
    let mut there = nats.client();
    stream(&mut there, "JOBS", &["jobs.>"]);
    fill(&mut there, "jobs.a", 0..3);
    smol::block_on(async {
        let servers = [serve(on(&[nats.url()])).await, serve(on(&[nats.url()])).await];
        let first = client(servers[0].local_addr()).await;
        let mut jobs = first.subscribe("jobs.>").durable("w").await.unwrap();
        let mut messages = Vec::new();
        for _ in 0..3 {
            messages.push(soon("a job", jobs.next()).await.unwrap());
        }
        messages[0].ack().unwrap();
        messages[1].nak().unwrap();
        let again = soon("it comes again", jobs.next()).await.unwrap();
        assert_eq!((&*again.text(), again.deliveries()), ("1", 2));
        again.term().unwrap();
        messages[2].working().unwrap();
        first.ping().await.unwrap();
        // What is left goes to the next of the name, wherever it is.
        drop(jobs);
        let second = client(servers[1].local_addr()).await;
        let mut jobs = second.subscribe("jobs.>").durable("w").await.unwrap();
        let left = soon("what is left", jobs.next()).await.unwrap();
        assert_eq!((&*left.text(), left.deliveries()), ("2", 2));
        left.ack().unwrap();
        until("all is settled", || {
            let info = jetstream::ask(&mut nats.client(), "CONSUMER.INFO.JOBS.w", &json!({}));
            info["num_ack_pending"] == 0 && info["ack_floor"]["stream_seq"] == 3
        })
        .await;
        let stats = stats(&servers[0]);
        assert_eq!((stats.replays_acknowledged, stats.replays_returned, stats.replays_terminated), (1, 1, 1));
        servers.into_iter().for_each(Server::shutdown);
    });
}

#[test]
fn the_program_reads_what_is_stored_and_shows_what_there_is() {
    if !nats::is_there() {
        return;
    }
    let folder = Folder::new("replay-program");
    let nats = store(&folder);
    let mut there = nats.client();
    stream(&mut there, "EVENTS", &["events.>"]);
    stream(&mut there, "EMPTY", &["nothing"]);
    fill(&mut there, "events.a", 0..5);
    let mut command = kcpq();
    command.args(["serve", "-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--nats", &nats.url()]);
    let mut server = Process::spawn(&mut command);
    let listens = server.expect_line("listening on ", LIMIT);
    let http = server.expect_line("monitoring on http://", LIMIT);
    server.expect_logged("the backbone is there", LIMIT);
    let run = |args: &[&str]| {
        let output = kcpq().args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let sub = |args: &[&str]| run(&[&["sub", "-s", &listens, "events.>"], args].concat());
    let (_, all, said) = sub(&["--from-start", "--lines", "-c", "5"]);
    assert_eq!(all, "0\n1\n2\n3\n4\n", "{said}");
    let (_, some, said) = sub(&["--from", "4", "--json", "-c", "2"]);
    let first: Value = serde_json::from_str(some.lines().next().unwrap()).expect(&said);
    assert_eq!((&first["sequence"], &first["payload"], &first["deliveries"]), (&json!(4), &json!("3"), &json!(1)));
    let (_, last, said) = sub(&["--last", "--lines", "-c", "1"]);
    assert_eq!(last, "4\n", "{said}");
    // What was printed under a name does not come again.
    assert_eq!(sub(&["--durable", "d", "--lines", "-c", "3"]).1, "0\n1\n2\n");
    assert_eq!(sub(&["--durable", "d", "--lines", "-c", "2"]).1, "3\n4\n");
    let (well, _, said) = run(&["sub", "-s", &listens, "other", "--from-start"]);
    assert!(!well && said.contains("no stream, or no single one"), "{said}");

    let (_, list, said) = run(&["stream", "ls", "--http", &http]);
    assert!(list.lines().count() == 2 && list.contains("EVENTS  5 messages"), "{list} {said}");
    let (_, info, _) = run(&["stream", "info", "EVENTS", "--http", &http]);
    assert!(info.contains("sequences 1 to 5"), "{info}");
    let (well, _, said) = run(&["stream", "info", "OTHER", "--http", &http]);
    assert!(!well && said.contains("there is no stream 'OTHER'"), "{said}");
}
