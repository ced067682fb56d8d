//! Many tasks on one client, and futures that are dropped half-way.

mod support;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_lite::future::{or, poll_once, yield_now};
use kcpq_smol::{Client, Event, FlushError, PublishError, PublishRefusal, SubscribeError, Subscription};

use support::{Server, run, soon, wait_for};

/// The number that a payload begins with.
fn number(payload: &[u8]) -> u64 {
    payload.first_chunk().copied().map_or(u64::MAX, u64::from_be_bytes)
}

async fn numbers(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(number(subscription.next().await.unwrap().payload()));
    }
    all
}

#[test]
fn many_tasks_publish_and_each_ones_messages_keep_their_order() {
    const TASKS: u64 = 20;
    const EACH: u64 = 300;
    let server = Server::start();
    run(async {
        let client = Client::builder().queue(20_000).connect(server.addr).await.unwrap();
        let mut all = client.subscribe("task.*").capacity(100_000).await.unwrap();
        let tasks = (0..TASKS).map(|task| {
            let client = client.clone();
            smol::spawn(async move {
                let subject = format!("task.{task}");
                for number in 0..EACH {
                    client.publish(&subject, number.to_be_bytes()).await.unwrap();
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut next = [0; TASKS as usize];
        for _ in 0..TASKS * EACH {
            let message = all.next().await.unwrap();
            let task: usize = message.subject().strip_prefix("task.").unwrap().parse().unwrap();
            assert_eq!(number(message.payload()), next[task], "of task {task}");
            next[task] += 1;
        }
        for task in tasks {
            task.await;
        }
    });
}

#[test]
fn of_publishes_dropped_at_random_moments_those_that_were_ready_arrive_once_and_no_others() {
    let server = Server::start();
    run(async {
        let mut rng = Rng::with_seed(5);
        let publisher = Client::builder().queue(3_000).connect(server.addr).await.unwrap();
        let subscriber = Client::connect(server.addr).await.unwrap();
        let mut received = subscriber.subscribe("n").capacity(100_000).await.unwrap();
        let (mut queued, mut given_up) = (Vec::new(), 0);
        for number in 0..3_000_u64 {
            let mut payload = vec![0; rng.usize(8..900)];
            payload[..8].copy_from_slice(&number.to_be_bytes());
            let patience = rng.u32(0..4);
            let publish = async { publisher.publish("n", &payload).await.is_ok() };
            let gives_up = async {
                for _ in 0..patience {
                    yield_now().await;
                }
                false
            };
            if or(publish, gives_up).await { queued.push(number) } else { given_up += 1 }
        }
        publisher.flush().within(support::LIMIT).await.unwrap();
        assert!(given_up > 0 && !queued.is_empty(), "{given_up} given up, {} queued", queued.len());
        assert_eq!(numbers(&mut received, queued.len()).await, queued);
        publisher.publish("n", u64::MAX.to_be_bytes()).await.unwrap();
        assert_eq!(numbers(&mut received, 1).await, [u64::MAX], "nothing came twice");
    });
}

#[test]
fn waiting_for_a_message_can_be_given_up_without_losing_one() {
    let server = Server::start();
    run(async {
        let mut rng = Rng::with_seed(6);
        let client = Client::connect(server.addr).await.unwrap();
        let mut received = client.subscribe("n").capacity(10_000).await.unwrap();
        let (mut sent, mut seen) = (0_u64, 0_u64);
        while seen < 2_000 {
            for _ in 0..rng.u32(0..4) {
                client.publish("n", sent.to_be_bytes()).await.unwrap();
                sent += 1;
            }
            let patience = rng.u32(0..3);
            let gives_up = async {
                for _ in 0..patience {
                    yield_now().await;
                }
                None
            };
            if let Some(message) = or(received.next(), gives_up).await {
                assert_eq!(number(message.payload()), seen);
                seen += 1;
            }
        }
    });
}

#[test]
fn a_subscription_dropped_before_its_acknowledgement_is_taken_back() {
    let server = Server::start();
    let client = run(async {
        let client = Client::connect(server.addr).await.unwrap();
        let kept = client.subscribe("kept.>").await.unwrap();
        let mut rng = Rng::with_seed(7);
        for index in 0..200 {
            let pattern = format!("dropped.{}", index % 20);
            let mut subscribe = Box::pin(async { client.subscribe(&pattern).await });
            for _ in 0..rng.u32(1..4) {
                if poll_once(&mut subscribe).await.is_some() {
                    break;
                }
                yield_now().await;
            }
        }
        (client, kept)
    });
    server.wait_for("one pattern is left", |view| view.patterns == 1 && view.stats.subscriptions == 1);
    assert_eq!(client.0.stats().client.active_subscriptions, 1);
}

#[test]
fn a_full_queue_holds_publishers_back_and_all_of_them_go_on() {
    let server = Server::start();
    run(async {
        let client = Client::builder().queue(10_000).connect(server.addr).await.unwrap();
        let mut received = client.subscribe("n").capacity(100_000).await.unwrap();
        server.pause(true);
        let mut count = 0_u64;
        while client.try_publish("n", [0; 1_000]).is_ok() {
            count += 1;
        }
        // What is under way has left the queue; the window is the bound then.
        while client.publish("n", [0; 1_000]).within(Duration::from_millis(50)).await.is_ok() {
            count += 1;
        }
        assert!(matches!(client.try_publish("n", [0; 1_000]), Err(PublishError::Refused(PublishRefusal::Full))));
        let error = client.publish("n", [0; 1_000]).within(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "the queue of messages to send stayed full for 1ms");
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let client = client.clone();
                smol::spawn(async move { client.publish("n", [0; 1_000]).within(support::LIMIT).await })
            })
            .collect();
        server.pause(false);
        for task in waiting {
            task.await.unwrap();
            count += 1;
        }
        numbers(&mut received, count as usize).await;
    });
}

#[test]
fn a_client_on_a_thread_of_its_own_or_the_users_executor_needs_no_other() {
    let server = Server::start();
    // Whoever blocks the global executor does not stop them: as many tasks as it has threads and more.
    let gate = std::sync::Arc::new(std::sync::Mutex::new(()));
    let closed = gate.lock().unwrap();
    for _ in 0..64 {
        let gate = std::sync::Arc::clone(&gate);
        smol::spawn(async move { drop(gate.lock().unwrap()) }).detach();
    }
    let travels = |client: Client| async move {
        let mut received = client.subscribe("a").await.unwrap();
        client.publish("a", "b").await.unwrap();
        assert_eq!(received.next().await.unwrap().payload(), b"b");
        client.close().await.unwrap();
    };
    for builder in [Client::builder().own_thread(), Client::builder().spin(Duration::from_millis(1))] {
        run(async { travels(builder.connect(server.addr).await.unwrap()).await });
    }
    let executor = std::sync::Arc::new(smol::Executor::new());
    let mine = std::sync::Arc::clone(&executor);
    let builder = Client::builder().executor(move |task| mine.spawn(task).detach());
    run(executor.run(async { travels(builder.connect(server.addr).await.unwrap()).await }));
    drop(closed);
}

#[test]
fn operations_end_at_their_deadline() {
    let server = Server::start();
    run(async {
        let client = Client::builder().timeout(Duration::from_millis(80)).connect(server.addr).await.unwrap();
        server.pause(true);
        client.publish("a", "b").await.unwrap();
        let error = client.flush().await.unwrap_err();
        assert_eq!(error, FlushError::TimedOut { after: Duration::from_millis(80) });
        let error = client.subscribe("a").within(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error, SubscribeError::TimedOut { after: Duration::from_millis(20) });
        let error = client.subscribe("a").until(Instant::now()).await.unwrap_err();
        assert_eq!(error, SubscribeError::TimedOut { after: Duration::ZERO });
        server.pause(false);
        client.flush().within(support::LIMIT).await.unwrap();
        client.subscribe("a").within(support::LIMIT).await.unwrap();
    });
    wait_for("the session ends", || server.view().sessions == 0);
}

/// Lets four threads publish at full speed until the client is closed by what `ends` does; returns how many messages were taken.
fn publish_until_closed(client: &Client, ends: impl FnOnce()) -> u64 {
    let (taken, begun) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    assert!(begun.elapsed() < support::LIMIT, "the client does not end");
                    match client.try_publish("n", [0; 100]) {
                        Ok(()) => drop(taken.fetch_add(1, Relaxed)),
                        Err(PublishError::Refused(PublishRefusal::Full)) => std::thread::yield_now(),
                        Err(error) => break assert_eq!(error, PublishError::Refused(PublishRefusal::Closed)),
                    }
                }
            });
        }
        wait_for("they publish", || taken.load(Relaxed) > 2_000);
        ends();
    });
    taken.load(Relaxed)
}

#[test]
fn what_threads_publish_while_their_client_is_closed_arrives_or_is_refused() {
    for _ in 0..10 {
        let server = Server::start();
        let client = run(async { Client::connect(server.addr).await.unwrap() });
        let taken = publish_until_closed(&client, || run(client.close().within(support::LIMIT).into_future()).unwrap());
        server.wait_for("the session ends", |view| view.sessions == 0);
        assert_eq!((server.view().stats.messages_in, client.stats().client.messages_sent), (taken, taken));
    }
}

#[test]
fn what_threads_publish_while_their_client_ends_arrives_or_is_counted() {
    for _ in 0..10 {
        let server = Server::start();
        let client = Client::builder().name("publisher").reconnect(None);
        let (client, mut events) = run(async {
            let client = client.connect(server.addr).await.unwrap();
            let events = client.events();
            (client, events)
        });
        let taken = publish_until_closed(&client, || server.kick("publisher"));
        server.wait_for("the session ends", |view| view.sessions == 0);
        let stats = client.stats().client;
        assert_eq!(stats.messages_sent, taken);
        // Of what was under way some arrived.
        let (arrived, in_doubt) = (server.view().stats.messages_in, stats.dropped_in_doubt);
        assert!(arrived + stats.lost_on_close >= taken, "{arrived} arrived, {} lost of {taken}", stats.lost_on_close);
        assert!(arrived + stats.lost_on_close <= taken + in_doubt);
        let lost = run(async {
            let mut lost = 0;
            while let Some(event) = soon(events.next()).await {
                if let Event::Lost { messages } = event {
                    lost = messages;
                }
            }
            lost
        });
        assert_eq!(lost, stats.lost_on_close, "all of it was told");
    }
}

#[test]
fn whoever_asks_is_told_of_all_that_was_published_before() {
    let server = Server::start();
    let client = run(async { Client::connect(server.addr).await.unwrap() });
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..300 {
                    for _ in 0..20 {
                        run(client.publish("n", [0; 50])).unwrap();
                        done.fetch_add(1, SeqCst);
                    }
                    let before = done.load(SeqCst);
                    assert!(client.stats().client.messages_sent >= before);
                }
                let before = done.load(SeqCst);
                run(client.flush().within(support::LIMIT).into_future()).unwrap();
                server.wait_for("what was flushed", |view| view.stats.messages_in >= before);
            });
        }
    });
    assert_eq!(client.stats().client.messages_sent, 3 * 300 * 20);
}
