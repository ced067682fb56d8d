//! Clients against the core's broker in virtual time: over bad links, through restarts and sleep, with futures dropped
//! wherever they can be.

#[cfg(feature = "confirm")]
mod confirms;
#[cfg(feature = "lanes")]
mod lanes;
#[cfg(feature = "log")]
mod log;
mod world;

use std::cell::RefCell;
use std::rc::Rc;

use kcpq_embassy::{Config, Disconnect, Duration, Ended, Event, PublishError, State, Timer};

use world::{BAD, CLEAN, Handle, World, cut, now};

type Log = Rc<RefCell<Vec<Vec<u8>>>>;

/// Keeps what comes for `pattern`; ready when the subscription is acknowledged.
fn collect(world: &mut World, client: Handle, pattern: &'static str) -> Log {
    let log = Log::default();
    let copy = log.clone();
    let mut subscription = world.block_on("acknowledgement", async move { client.subscribe(pattern).await.unwrap() });
    world.spawn(async move {
        while let Ok(payload) = subscription.next(|message| message.payload().to_vec()).await {
            copy.borrow_mut().push(payload);
        }
    });
    log
}

fn numbers(from: u32, to: u32) -> Vec<Vec<u8>> {
    (from..to).map(|n| n.to_be_bytes().to_vec()).collect()
}

#[test]
fn a_message_travels_and_is_lent_to_its_reader() {
    let mut world = World::new();
    let (a, b) = (world.client(CLEAN), world.client(CLEAN));
    let mut subscription = world.block_on("acknowledgement", async move { b.subscribe("sensors.*").await.unwrap() });
    let seen = world.block_on("message", async move {
        a.publish("sensors.kitchen", b"21.5").await.unwrap();
        subscription.next(|message| (message.subject().to_owned(), message.payload().to_vec())).await.unwrap()
    });
    assert_eq!(seen, ("sensors.kitchen".into(), b"21.5".to_vec()));
    assert!(matches!(a.state(), State::Up { native: true }));
}

#[test]
fn two_tasks_publish_while_two_receive_over_a_bad_link() {
    const COUNT: u32 = 400;
    let mut world = World::new();
    let client = world.client(BAD);
    let logs = [collect(&mut world, client, "left.*"), collect(&mut world, client, "right.*")];
    for subject in ["left.a", "right.a"] {
        world.spawn(async move {
            for n in 0..COUNT {
                client.publish(subject, &n.to_be_bytes()).await.unwrap();
            }
        });
    }
    world.run_until("all messages", || logs.iter().all(|log| log.borrow().len() as u32 >= COUNT));
    world.run_for(Duration::from_secs(5));
    for log in &logs {
        assert!(*log.borrow() == numbers(0, COUNT), "once, and in order");
    }
    assert_eq!(client.stats().unread, 0);
}

#[test]
fn a_full_queue_makes_publish_wait_and_try_publish_refuse() {
    let mut world = World::new();
    let client = world.client(CLEAN);
    world.block_on("connection", async move { client.connected().await.unwrap() });
    let sent = (0..100).take_while(|_| client.try_publish("a.b", &[7; 100]).is_ok()).count();
    assert!((1..100).contains(&sent));
    assert_eq!(client.try_publish("a.b", &[7; 100]), Err(PublishError::Full));
    world.block_on("room", async move {
        for _ in 0..100 {
            client.publish("a.b", &[7; 100]).await.unwrap();
        }
        client.flush().await.unwrap();
    });
    assert_eq!(world.broker_stats().messages_in, sent as u64 + 100);
    let too_large = world.block_on("refusal", async move { client.publish("a.b", &[7; 1100]).await });
    assert!(matches!(too_large, Err(PublishError::TooLarge(_))));
}

#[test]
fn a_restarted_server_is_found_again_and_subscriptions_come_back() {
    let mut world = World::new();
    let (a, b) = (world.client(BAD), world.client(BAD));
    let log = collect(&mut world, b, "a.b");
    world.block_on("flush", async move {
        a.publish("a.b", b"before").await.unwrap();
        a.flush().await.unwrap();
    });
    world.run_until("first message", || log.borrow().len() == 1);
    world.set_away(true);
    world.run_for(Duration::from_secs(2));
    world.restart();
    world.set_away(false);
    world.run_for(Duration::from_secs(60));
    assert!(a.stats().client.reconnects >= 1 && b.stats().client.reconnects >= 1);
    world.block_on("publish", async move { a.publish("a.b", b"after").await.unwrap() });
    world.run_until("second message", || log.borrow().len() == 2);
    assert_eq!(*log.borrow(), [b"before".to_vec(), b"after".to_vec()]);
}

#[test]
fn a_message_larger_than_the_inbox_is_kept_back_by_the_server_and_counted_there() {
    let mut world = World::new();
    let (small, roomy) = (world.client(BAD), world.client(BAD));
    let log = collect(&mut world, small, "a.>");
    world.block_on("publish", async move {
        roomy.publish("a.b", b"before").await.unwrap();
        roomy.publish("a.b", &[1; 5000]).await.unwrap();
        roomy.publish("a.b", b"after").await.unwrap();
    });
    world.run_until("the one behind", || log.borrow().len() == 2);
    assert_eq!(*log.borrow(), [b"before".to_vec(), b"after".to_vec()]);
    assert_eq!(world.broker_stats().dropped_too_large, 1);
    assert_eq!(small.stats().client.oversize, 0);
    assert_eq!(small.stats().client.reconnects, 0);
}

#[test]
fn nothing_is_lost_or_doubled_however_often_futures_are_dropped() {
    for every in 0..4 {
        const COUNT: u32 = 150;
        let mut world = World::new();
        let (client, mut runner, mut wire, mut alarm) = world.parts(Config::default(), BAD);
        world.spawn(async move {
            // A dropped runner forgets at most datagrams; a round in which it gets nothing done would never end.
            cut(every + 3, async || runner.run(&mut wire, &mut alarm).await).await;
        });
        world.block_on("connection", async move { cut(every, async || client.connected().await).await.unwrap() });
        let log = Log::default();
        let copy = log.clone();
        let mut subscription = world.block_on("acknowledgement", async move {
            let subscription = client.subscribe_later("a.*").unwrap();
            cut(every, async || subscription.acknowledged().await).await.unwrap();
            subscription
        });
        world.spawn(async move {
            loop {
                let next = cut(every, async || subscription.next(|message| message.payload().to_vec()).await);
                let Ok(payload) = next.await else { return };
                copy.borrow_mut().push(payload);
            }
        });
        world.spawn(async move {
            for n in 0..COUNT {
                cut(every, async || client.publish("a.b", &n.to_be_bytes()).await).await.unwrap();
            }
        });
        world.run_until("all messages", || log.borrow().len() as u32 >= COUNT);
        world.block_on("flush", async move { cut(every, async || client.flush().await).await.unwrap() });
        world.run_for(Duration::from_secs(2));
        assert!(*log.borrow() == numbers(0, COUNT), "dropped after {every} polls");
        world.block_on("close", async move { cut(every, async || client.close().await).await });
        assert_eq!(client.state(), State::Closed);
    }
}

#[test]
fn a_subscription_that_is_dropped_while_it_is_made_is_taken_back() {
    let mut world = World::new();
    let client = world.client(CLEAN);
    world.block_on("connection", async move { client.connected().await.unwrap() });
    for _ in 0..20 {
        world.spawn(async move {
            let mut subscribe = std::pin::pin!(client.subscribe("a.*"));
            // Polled once, and dropped.
            let _ = futures_lite::future::poll_once(&mut subscribe).await;
        });
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(world.broker_stats().subscriptions, 0);
    // There is room for as many as ever.
    let all = world.block_on("acknowledgements", async move {
        let mut all = Vec::new();
        for pattern in ["a", "b", "c", "d"] {
            all.push(client.subscribe(pattern).await.unwrap());
        }
        all
    });
    assert!(client.subscribe_later("e").is_err());
    assert_eq!(world.broker_stats().subscriptions, 4);
    drop(all);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.broker_stats().subscriptions, 0);
}

#[test]
fn a_message_that_nobody_reads_is_passed_over_after_the_patience() {
    let mut world = World::new();
    let (a, b) = (world.client(CLEAN), world.client(CLEAN));
    let lazy = world.block_on("acknowledgement", async move { b.subscribe("lazy").await.unwrap() });
    let log = collect(&mut world, b, "busy");
    let begin = now();
    world.block_on("publish", async move {
        a.publish("lazy", b"zzz").await.unwrap();
        a.publish("busy", b"!").await.unwrap();
    });
    world.run_until("the message behind", || !log.borrow().is_empty());
    assert!(now().since(begin) >= Config::default().patience);
    assert_eq!(b.stats().unread, 1);
    let id = lazy.id();
    world.block_on("event", async move { while b.next_event().await != Event::Unread(id) {} });
}

/// What a message needs from `a` to `b`, after `a` has slept for `span`.
fn wakes(span: Duration, restart: bool) -> (Duration, World, Handle) {
    let mut world = World::new();
    let (a, b) = (world.client(CLEAN), world.client(CLEAN));
    let log = collect(&mut world, b, "a.b");
    world.block_on("flush", async move {
        a.publish("a.b", b"before").await.unwrap();
        a.flush().await.unwrap();
    });
    world.run_until("first message", || log.borrow().len() == 1);
    a.suspend();
    world.run_for(Duration::from_millis(100));
    world.run_for(span);
    if restart {
        world.restart();
        // The other one notices by itself.
        world.run_for(Duration::from_secs(60));
    }
    a.resume();
    let begin = now();
    world.block_on("publish", async move { a.publish("a.b", b"after").await.unwrap() });
    if !restart {
        world.run_until("second message", || log.borrow().len() == 2);
    }
    (now().since(begin), world, a)
}

#[test]
fn after_a_short_sleep_the_session_goes_on_and_a_message_goes_out_at_once() {
    let (took, world, a) = wakes(Duration::from_secs(60), false);
    assert!(took <= Duration::from_millis(20), "{took}");
    assert_eq!(a.stats().client.reconnects, 0);
    assert_eq!(world.sessions(), 2);
}

#[test]
fn after_a_long_sleep_a_new_session_and_the_message_share_the_first_flight() {
    for minutes in [2, 10, 600] {
        let (took, _world, a) = wakes(Duration::from_secs(minutes * 60), false);
        assert!(took <= Duration::from_millis(20), "{took}");
        assert_eq!(a.stats().client.reconnects, 1);
        assert_eq!(a.stats().client.dropped_in_doubt, 0);
    }
}

#[test]
fn a_stack_that_takes_nothing_holds_up_neither_timers_nor_the_end() {
    let mut world = World::new();
    let a = world.client(CLEAN);
    world.block_on("connection", async move { while !matches!(a.next_event().await, Event::Connected { .. }) {} });
    world.set_stuck(0, true);
    world.block_on("publish", async move { a.publish("a", b"waits").await.unwrap() });
    world.run_for(Duration::from_secs(2));
    assert!(a.stats().send_errors > 0);
    world.set_stuck(0, false);
    world.run_until("message", || a.stats().client.messages_acknowledged == 1);
    // And again, to the end.
    world.set_stuck(0, true);
    world.block_on("loss", async move { while !matches!(a.next_event().await, Event::Disconnected { .. }) {} });
    world.block_on("close", async move { a.close().await });
}

#[test]
fn datagrams_that_the_stack_finds_too_long_become_shorter() {
    let mut world = World::new();
    let a = world.client(CLEAN);
    world.block_on("connection", async move { while !matches!(a.next_event().await, Event::Connected { .. }) {} });
    world.set_longest(0, 400);
    // The first is cut for the path as it was, the others for what it is found to be.
    for _ in 0..2 {
        world.block_on("publish", async move { a.publish("a", &[1; 450]).await.unwrap() });
    }
    world.run_for(Duration::from_secs(1));
    let stats = a.stats();
    assert!(stats.send_errors > 0 && stats.transport.narrowed > 0, "{stats:?}");
    world.set_longest(0, usize::MAX);
    world.run_until("messages", || a.stats().client.messages_acknowledged == 2);
}

#[test]
fn a_session_that_the_server_lost_during_sleep_is_given_up_soon() {
    let (_, mut world, a) = wakes(Duration::from_secs(1), true);
    world.run_for(Duration::from_secs(3));
    assert!(matches!(a.state(), State::Up { .. }));
    assert_eq!(a.stats().client.reconnects, 1);
    let why = world.block_on("event", async move {
        loop {
            if let Event::Disconnected { why, .. } = a.next_event().await {
                return why;
            }
        }
    });
    assert_eq!(why, Disconnect::Forgotten);
}

#[test]
fn while_suspended_nothing_is_sent_and_no_timer_runs() {
    let mut world = World::new();
    let client = world.client(CLEAN);
    world.block_on("connection", async move { client.connected().await.unwrap() });
    world.run_for(Duration::from_secs(1));
    client.suspend();
    let sent = client.stats().transport.datagrams_sent;
    client.try_publish("a.b", b"later").unwrap();
    world.run_for(Duration::from_secs(80));
    assert_eq!(client.stats().transport.datagrams_sent, sent);
    client.resume();
    world.block_on("flush", async move { client.flush().await.unwrap() });
    assert_eq!(world.broker_stats().messages_in, 1);
}

#[test]
fn a_closed_client_says_so_everywhere() {
    let mut world = World::new();
    let client = world.client(CLEAN);
    let mut subscription = world.block_on("acknowledgement", async move { client.subscribe("a").await.unwrap() });
    let mut alarm = world.alarm();
    world.spawn(async move {
        alarm.wait_until(now() + Duration::from_secs(1)).await;
        client.close().await;
    });
    let ended = world.block_on("end", async move { subscription.next(|_| ()).await });
    assert_eq!(ended, Err(Ended::Closed));
    assert_eq!(client.try_publish("a", b""), Err(PublishError::Closed));
    assert!(world.block_on("refusal", async move { client.connected().await }).is_err());
    assert_eq!(world.sessions(), 0);
}

#[test]
fn of_state_that_waits_at_the_server_only_the_newest_comes() {
    const COUNT: u32 = 100;
    let mut world = World::new();
    let (reader, writer) = (world.client(CLEAN), world.client(CLEAN));
    let state = world.block_on("acknowledgement", async move { reader.subscribe_latest("state.*").await.unwrap() });
    world.block_on("flush", async move {
        for n in 0..COUNT {
            writer.publish("state.a", &[n as u8; 400]).await.unwrap();
        }
        writer.flush().await.unwrap();
    });
    world.run_for(Duration::from_secs(1));
    let log = Log::default();
    let (copy, mut state) = (log.clone(), state);
    world.spawn(async move {
        while let Ok(payload) = state.next(|message| message.payload().to_vec()).await {
            copy.borrow_mut().push(payload);
        }
    });
    world.run_until("the newest", || log.borrow().last().is_some_and(|payload| payload[0] == COUNT as u8 - 1));
    // What was in the window when the reader fell behind, and what it came back to.
    assert!(log.borrow().len() < 20, "{} of {COUNT}", log.borrow().len());
    assert_eq!(world.broker_stats().superseded as usize, COUNT as usize - log.borrow().len());
    assert_eq!(reader.stats().unread, 0);
}

/// A lamp that says on which it was switched, with the unit that the wish for it came with.
#[cfg(feature = "request")]
#[test]
fn a_request_is_answered_and_one_that_nobody_can_answer_fails_at_once() {
    use kcpq_embassy::{PropertiesWriter, RequestError};

    let mut world = World::new();
    let (lamp, hand) = (world.client(CLEAN), world.client(CLEAN));
    let mut wishes = world.block_on("acknowledgement", async move { lamp.subscribe("lamp.*").await.unwrap() });
    world.spawn(async move {
        while let Ok((reply, payload)) = wishes
            .next(|message| {
                let reply = message.properties().reply().unwrap_or_default();
                (reply.to_owned(), message.payload().to_vec())
            })
            .await
        {
            let mut memory = [0; 32];
            let mut headers = PropertiesWriter::new(&mut memory);
            headers.header("Unit", "lux").unwrap();
            // Answers that come late are passed over.
            if payload != b"late" {
                lamp.publish_with(&reply, &payload, headers.properties()).await.unwrap();
            }
        }
    });
    let heard = world.block_on("answers", async move {
        let mut inbox = hand.inbox(0x5ec2e7).await.unwrap();
        let unanswered = futures_lite::future::poll_once(Box::pin(inbox.request("lamp.a", b"late", |_| ()))).await;
        assert!(unanswered.is_none(), "given up");
        let mut heard = Vec::new();
        for wish in [&b"10"[..], b"20"] {
            let answer = inbox.request("lamp.a", wish, |message| {
                let unit = message.properties().header("Unit").next().map(str::to_owned);
                (message.payload().to_vec(), unit)
            });
            heard.push(answer.await.unwrap());
        }
        assert_eq!(inbox.request("door.a", b"", |_| ()).await, Err(RequestError::NoResponders));
        assert!(matches!(inbox.request("a..b", b"", |_| ()).await, Err(RequestError::Refused(_))));
        heard
    });
    let lux = Some("lux".to_owned());
    assert_eq!(heard, [(b"10".to_vec(), lux.clone()), (b"20".to_vec(), lux)]);
}

#[cfg(feature = "queue")]
#[test]
fn each_message_goes_to_one_member_of_a_queue_group() {
    let mut world = World::new();
    let (boss, workers) = (world.client(CLEAN), [world.client(CLEAN), world.client(CLEAN)]);
    let logs = workers.map(|worker| {
        let log = Log::default();
        let copy = log.clone();
        let mut jobs =
            world.block_on("acknowledgement", async move { worker.subscribe_queue("jobs.*", "crew").await.unwrap() });
        world.spawn(async move {
            while let Ok(payload) = jobs.next(|message| message.payload().to_vec()).await {
                copy.borrow_mut().push(payload);
            }
        });
        log
    });
    world.block_on("publish", async move {
        for n in 0..40_u32 {
            boss.publish("jobs.a", &n.to_be_bytes()).await.unwrap();
        }
        boss.flush().await.unwrap();
    });
    world.run_until("all", || logs.iter().map(|log| log.borrow().len()).sum::<usize>() >= 40);
    world.run_for(Duration::from_secs(1));
    let mut all: Vec<_> = logs.iter().flat_map(|log| log.borrow().clone()).collect();
    all.sort_unstable();
    assert!(logs.iter().all(|log| log.borrow().len() > 5) && all == numbers(0, 40), "each once");
    let [worker, _] = workers;
    assert!(world.block_on("refusal", async move { worker.subscribe_queue("a", "two words").await }).is_err());
    let long = "x".repeat(60);
    assert!(world.block_on("refusal", async move { worker.subscribe_queue("a.b.c", &long).await }).is_err());
}

#[cfg(feature = "will")]
#[test]
fn the_will_of_a_client_that_is_lost_is_published_and_one_that_finds_no_room_is_told_of() {
    use kcpq_embassy::Will;

    let mut world = World::new();
    let (device, watcher) = (world.client(CLEAN), world.client(CLEAN));
    let log = collect(&mut world, watcher, "gone.*");
    world.block_on("connection", async move { device.connected().await.unwrap() });
    let larger = Will { subject: "gone.device", payload: &[7; 240], retain: false };
    device.set_will(larger).unwrap();
    let told = world.block_on("a word", async move {
        loop {
            let event = device.next_event().await;
            if event == Event::WillRefused {
                return event;
            }
        }
    });
    assert_eq!((told, world.broker_stats().wills), (Event::WillRefused, 0));
    assert!(device.set_will(Will { subject: "gone.>", ..larger }).is_err());
    device.set_will(Will { payload: b"without a word", retain: true, ..larger }).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.broker_stats().wills, device.state()), (1, State::Up { native: true }));
    device.suspend();
    world.run_for(Duration::from_secs(130));
    assert_eq!((&log.borrow()[..], world.broker_stats().kept), (&[b"without a word".to_vec()][..], 1));
    device.resume();
    world.run_until("it again", || device.state() == State::Up { native: true });
    world.run_for(Duration::from_secs(1));
    device.clear_will();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.broker_stats().wills, 0);
}

#[cfg(feature = "retain")]
#[test]
fn a_last_value_is_kept_for_who_subscribes_later_until_it_is_taken_away() {
    let mut world = World::new();
    let (writer, reader) = (world.client(CLEAN), world.client(CLEAN));
    world.block_on("publish", async move {
        writer.publish_retained("lamp", b"on").await.unwrap();
        writer.flush().await.unwrap();
        writer.try_publish_retained("door", b"open").unwrap();
        writer.flush().await.unwrap();
    });
    let (lamp, all) = (collect(&mut world, reader, "lamp"), collect(&mut world, reader, "*"));
    world.run_until("the values", || lamp.borrow().len() == 1 && all.borrow().len() == 2);
    assert_eq!((lamp.borrow()[0].clone(), all.borrow().concat()), (b"on".to_vec(), b"openon".to_vec()));
    world.block_on("publish", async move {
        writer.publish_retained("lamp", b"").await.unwrap();
        writer.flush().await.unwrap();
    });
    let late = collect(&mut world, writer, ">");
    world.run_until("the other", || !late.borrow().is_empty());
    world.run_for(Duration::from_secs(1));
    assert_eq!(*late.borrow(), [b"open"]);
}

/// More than is under way at once while the server is away: what comes behind waits in the queue.
#[cfg(feature = "ttl")]
fn fill_the_window(world: &mut World, client: Handle) -> usize {
    const COUNT: usize = 9;
    world.set_away(true);
    world.block_on("room", async move {
        for _ in 0..COUNT {
            client.publish("a", &[0; 300]).await.unwrap();
        }
    });
    world.run_for(Duration::from_millis(100));
    COUNT
}

#[cfg(feature = "ttl")]
#[test]
fn what_is_too_old_to_be_of_use_is_not_sent() {
    let ttl = Duration::from_secs(2);
    let mut world = World::new();
    let (reader, writer) = (world.client(CLEAN), world.client(CLEAN));
    let log = collect(&mut world, reader, "a");
    let before = fill_the_window(&mut world, writer);
    for n in 0..3 {
        writer.try_publish_for("a", &[n], ttl).unwrap();
    }
    writer.try_publish("a", b"kept").unwrap();
    world.run_for(Duration::from_secs(10));
    world.set_away(false);
    world.run_until("what waited", || log.borrow().last().is_some_and(|last| last == b"kept"));
    world.block_on("publish", async move { writer.publish_for("a", b"fresh", ttl).await.unwrap() });
    world.run_until("the last", || log.borrow().last().is_some_and(|last| last == b"fresh"));
    assert_eq!(log.borrow()[before..], [b"kept".to_vec(), b"fresh".to_vec()]);
    assert_eq!(writer.stats().client.expired, 3);
}

#[cfg(feature = "ttl")]
#[test]
fn a_message_that_waits_for_room_counts_its_time_from_the_call() {
    let mut world = World::new();
    let (reader, writer) = (world.client(CLEAN), world.client(CLEAN));
    let log = collect(&mut world, reader, "a");
    fill_the_window(&mut world, writer);
    while writer.try_publish("a", &[1; 300]).is_ok() {}
    world.spawn(async move { writer.publish_for("a", &[2; 300], Duration::from_secs(2)).await.unwrap() });
    world.run_for(Duration::from_secs(5));
    world.set_away(false);
    world.run_for(Duration::from_secs(5));
    let count = log.borrow().len() as u64;
    assert!(log.borrow().iter().all(|payload| payload[0] < 2), "too old by then");
    let stats = writer.stats().client;
    assert_eq!((stats.expired, stats.messages_sent), (1, count + 1));
}
