//! Lanes from publisher to subscriber, in virtual time.

use super::*;
use crate::lane::Lane;

/// What is published here: a lane, a number that counts on in it, and more bytes.
fn payload(lane: Lane, number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![lane.number(); 5 + len];
    payload[1..5].copy_from_slice(&number.to_be_bytes());
    payload
}

fn publish<S: Make>(world: &mut World<S>, node: usize, payload: &[u8]) -> Result<(), PublishError> {
    let lane = Lane::new(payload[0]).unwrap();
    let now = world.now;
    let result = world.nodes[node].client.publish_in(now, lane, "a.b", payload, Properties::NONE, None);
    world.settle();
    result
}

/// Of each lane the numbers that came.
fn numbers<S: Make>(world: &World<S>, node: usize, id: SubscriptionId) -> [Vec<u32>; Lane::COUNT] {
    let mut numbers: [Vec<u32>; Lane::COUNT] = Default::default();
    for payload in world.nodes[node].log.payloads(id) {
        assert!(payload[5..].iter().all(|byte| *byte == payload[0]));
        numbers[usize::from(payload[0])].push(u32::from_be_bytes(payload[1..5].try_into().unwrap()));
    }
    numbers
}

/// The lanes that a client of this store has memory for.
fn lanes<S: Make>() -> &'static [u8] {
    if S::GROWS { &[0, 1, 2, 3, 4, 5, 6, 7] } else { &[0, 1, 3, 6] }
}

fn each_lane_is_in_order<S: Make>(config: Config, seed: u64) {
    let mut world = World::<S>::new(broker::Config::default());
    let publisher = world.add(config, BAD);
    let sub = world.add(config, BAD);
    let mut rng = Rng::with_seed(seed);
    let mut counts = [0; Lane::COUNT];
    // Some wait for the first answer.
    publish(&mut world, publisher, &payload(Lane::BULK, 0, 10)).unwrap();
    counts[6] += 1;
    let id = world.subscribe(sub, "a.*");
    world.run_until("the first", |world| world.broker.stats().messages_in == 1);
    let lanes = lanes::<S>();
    for _ in 0..300 {
        let lane = Lane::new(lanes[rng.usize(..lanes.len())]).unwrap();
        let len = if rng.u8(..10) == 0 { rng.usize(..20_000) } else { rng.usize(..200) };
        let count = &mut counts[usize::from(lane.number())];
        if publish(&mut world, publisher, &payload(lane, *count, len)).is_ok() {
            *count += 1;
        }
        world.run_for(Duration::from_millis(rng.u64(..20)));
    }
    world.run_for(Duration::from_secs(30));
    let mut expected: [Vec<u32>; Lane::COUNT] = core::array::from_fn(|lane| (0..counts[lane]).collect());
    expected[6].remove(0); // nobody was subscribed
    assert_eq!(numbers(&world, sub, id), expected, "seed {seed}");
    let stats = world.nodes[publisher].client.stats();
    assert_eq!((stats.messages_acknowledged, stats.dropped_in_doubt), (stats.messages_sent, 0));
    assert_eq!(world.broker.stats().queued, 0);
}

#[test]
fn each_lane_is_in_order_from_publisher_to_subscriber() {
    for seed in 0..8 {
        each_lane_is_in_order::<Heap>(Config::default(), seed);
    }
    // With parity there are no native datagrams, and so one stream.
    each_lane_is_in_order::<Heap>(
        Config { framing: Framing::Parity(crate::fec::header::Shards::KCPQ), ..Config::default() },
        1,
    );
    for seed in 0..8 {
        each_lane_is_in_order::<Lent<'static>>(Config::default(), seed);
    }
    each_lane_is_in_order::<Lent<'static>>(
        Config { framing: Framing::Parity(crate::fec::header::Shards::KCPQ), ..Config::default() },
        1,
    );
}

/// A client in lent memory uses the first lanes that it is asked to, in either direction, and says so of others.
#[test]
fn lent_memory_is_for_the_first_lanes_that_are_used() {
    let mut world = World::<Lent<'static>>::new(broker::Config::default());
    let (one, other) = (world.add(Config::default(), BAD), world.add(Config::default(), BAD));
    let (now, wanted) = (world.now, |lane| Subscribing { lane: Lane::new(lane), ..Default::default() });
    let client = &mut world.nodes[one].client;
    let ids = [2, 5].map(|lane| client.subscribe_as(now, "a.b", &wanted(lane)).unwrap());
    client.publish_in(now, Lane::BULK, "a.b", b"0", Properties::NONE, None).unwrap();
    assert_eq!(client.publish_in(now, Lane::URGENT, "a.b", b"1", Properties::NONE, None), Err(PublishError::Lane));
    assert_eq!(client.subscribe_as(now, "a.b", &wanted(7)), Err(SubscribeError::Lane));
    assert_eq!((client.stats().publish_errors, client.stats().subscription_errors), (1, 1));
    world.run_until("the subscriptions", |world| world.nodes[one].log.saw("Subscribed") == 2);
    for number in 0..50 {
        publish(&mut world, other, &payload(Lane::new(number % 4 % 3).unwrap(), number.into(), 10)).unwrap();
        world.run_for(Duration::from_millis(20));
    }
    world.run_for(Duration::from_secs(10));
    for id in ids {
        assert!(world.nodes[one].log.payloads(id).len() >= 50, "whichever lane they were published in");
    }
    let memory = || Box::leak(Box::new(LaneMemory::<1, 100, 32>::new()));
    assert_eq!(world.nodes[one].client.lend_lanes(memory()), Err(LendError::Late));
    let mut idle = Client::new(Config::default(), 1, Box::leak(Box::new(Pocket::new())).lend());
    assert_eq!(idle.publish_in(now, Lane::BULK, "a.b", b"", Properties::NONE, None), Err(PublishError::Lane));
    assert_eq!(idle.lend_lanes(Box::leak(Box::new(LaneMemory::<1, 100, 31>::new()))), Err(LendError::Window));
    idle.lend_lanes(memory()).unwrap();
    idle.publish_in(now, Lane::BULK, "a.b", b"", Properties::NONE, None).unwrap();
}

/// What comes in a lane that nobody asked for has memory as long as there is some; then it is passed over, and told.
#[test]
fn what_comes_in_a_lane_without_memory_is_told() {
    let now = Instant::from_millis(1);
    let mut session = Lent::client(Config::default(), 1).session;
    session.kcp.negotiated(crate::kcp::Peer { lanes: true, ..*session.kcp.peer() });
    session.kcp.begin_numbers(now);
    let mut frame = [0; 20];
    let len = Frame { command: command::MSG, subject: b"a.b", payload: b"1" }.encode(&mut frame).unwrap();
    for number in 0..4 {
        let item = [&[0x45, number, 0, number + 1, 0, 0], &frame[..len]].concat();
        let origin = crate::kcp::Origin::Numbered(number.into());
        session.kcp.handle_datagram_lanes(now, &item, origin, |_, _| 0).unwrap();
    }
    for _ in 0..3 {
        let found = session.poll_frame(now).unwrap().unwrap();
        assert_eq!(session.frame(found).subject, b"a.b");
        session.leave(now, found);
    }
    let passed_over = session.poll_frame(now).unwrap().err();
    assert_eq!(passed_over, Some(frame::Flaw::Oversize { limit: 0, actual: len }));
    assert!(session.poll_frame(now).is_none());
}

/// A server that was started again is a new session: each lane goes on in order, and what is in doubt is counted.
#[test]
fn lanes_go_on_after_a_restart_of_the_server() {
    go_on_after_a_restart::<Heap>();
    go_on_after_a_restart::<Lent<'static>>();
}

fn go_on_after_a_restart<S: Make>() {
    for seed in 0..5 {
        let mut world = World::<S>::new(broker::Config::default());
        let (publisher, sub) = (world.add(Config::default(), BAD), world.add(Config::default(), BAD));
        let id = world.subscribe(sub, "a.b");
        let mut rng = Rng::with_seed(seed);
        let mut counts = [0; Lane::COUNT];
        for round in 0..400 {
            if round == 150 {
                world.restart(broker::Config::default());
            }
            let lane = Lane::new(lanes::<S>()[rng.usize(..lanes::<S>().len())]).unwrap();
            let count = &mut counts[usize::from(lane.number())];
            let published = publish(&mut world, publisher, &payload(lane, *count, rng.usize(..3_000)));
            assert!(published.is_ok() || !S::GROWS, "there is always room");
            *count += u32::from(published.is_ok());
            world.run_for(Duration::from_millis(rng.u64(..200)));
        }
        world.run_for(Duration::from_secs(60));
        let came = numbers(&world, sub, id);
        for (lane, numbers) in came.iter().enumerate() {
            assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}, lane {lane}: {numbers:?}");
            assert_eq!(numbers.last(), counts[lane].checked_sub(1).as_ref(), "seed {seed}, lane {lane}");
        }
        let stats = world.nodes[publisher].client.stats();
        assert_eq!(stats.reconnects, 1);
        assert_eq!(stats.messages_acknowledged + stats.dropped_in_doubt, u64::from(counts.iter().sum::<u32>()));
    }
}

/// `flush` waits for what was published in whichever lane.
#[test]
fn a_flush_waits_for_all_lanes() {
    waits_for_all_lanes::<Heap>(60_000);
    waits_for_all_lanes::<Lent<'static>>(3_000);
}

fn waits_for_all_lanes<S: Make>(longest: usize) {
    for link in [CLEAN, BAD, sim::Config { bandwidth: Some(100_000), ..CLEAN }] {
        let mut world = World::<S>::new(broker::Config::default());
        let publisher = world.add(Config::default(), link);
        let sub = world.add(Config::default(), CLEAN);
        world.subscribe(sub, "a.b");
        world.run_until("the connection", |world| world.nodes[publisher].client.is_connected());
        let mut count = 0;
        for round in 0..10 {
            for (lane, len) in [(6, longest), (0, 500), (1, 100), (3, longest.min(5_000))] {
                publish(&mut world, publisher, &payload(Lane::new(lane).unwrap(), round, len)).unwrap();
                count += 1;
            }
            let wanted = world.nodes[publisher].client.flush(world.now);
            assert_eq!(wanted, count);
            let told = alloc::format!("Flushed {{ published: {wanted} }}");
            // Others go on meanwhile.
            world.run_until("the flush", |world| world.nodes[publisher].log.saw(&told) > 0);
            assert!(world.broker.stats().messages_in >= count, "{:?}", world.broker.stats().messages_in);
        }
    }
}

/// What waits in whichever lane goes before the end of a session, whoever ends it.
#[test]
fn nothing_that_waits_in_a_lane_is_lost_by_closing() {
    for ended_by_server in [false, true] {
        let mut world = World::<Heap>::new(broker::Config { linger: Duration::from_secs(60), ..Default::default() });
        let narrow = sim::Config { bandwidth: Some(200_000), loss: 0.05, ..CLEAN };
        let (publisher, sub) = (world.add(Config::default(), narrow), world.add(Config::default(), narrow));
        let id = world.subscribe(sub, "a.b");
        world.run_until("the connection", |world| world.nodes[publisher].client.is_connected());
        for (number, lane) in [6, 1, 0, 3].into_iter().cycle().take(20).enumerate() {
            publish(&mut world, publisher, &payload(Lane::new(lane).unwrap(), number as u32, 10_000)).unwrap();
        }
        if ended_by_server {
            world.run_until("all at the server", |world| world.broker.stats().messages_in == 20);
            assert!(world.nodes[sub].log.payloads(id).len() < 20);
            world.broker.drain(world.now);
            world.run_until("the end", |world| world.nodes[sub].log.saw("Disconnected { why: ByServer(Shutdown)") > 0);
        } else {
            world.nodes[publisher].client.close(world.now);
            world.run_until("the end", |world| world.nodes[publisher].client.state() == State::Closed);
            assert_eq!(world.nodes[publisher].client.stats().lost_on_close, 0);
            world.run_for(Duration::from_secs(10));
        }
        assert_eq!(world.nodes[sub].log.payloads(id).len(), 20, "ended by the server: {ended_by_server}");
    }
}

/// Publishes a megabyte now and then, and something small all the time; returns the longest time that the small took.
fn longest(lanes: [Lane; 2], wanted: Option<Lane>) -> (Duration, u64) {
    let mut world = World::<Heap>::new(broker::Config { high_water: 256 << 10, ..Default::default() });
    // What is fast at the publisher waits for the subscriber at the server.
    let (fast, slow) = (CLEAN, sim::Config { bandwidth: Some(500_000), ..CLEAN });
    let config = Config { queue: 4 << 20, ..Config::default() };
    let (publisher, sub) = (world.add(config, fast), world.add(config, slow));
    let now = world.now;
    let small = world.nodes[sub].client.subscribe_as(now, "small", &Subscribing { lane: wanted, ..Default::default() });
    let small = small.unwrap();
    world.subscribe(sub, "large");
    let megabyte = vec![0; 1_000_000];
    let (mut longest, mut sent) = (Duration::ZERO, 0);
    for round in 0..400_u64 {
        let (now, client) = (world.now, &mut world.nodes[publisher].client);
        if round % 40 == 20 {
            let _ = client.publish_in(now, lanes[1], "large", &megabyte, Properties::NONE, None);
        }
        let number = now.as_micros().to_be_bytes();
        if client.publish_in(now, lanes[0], "small", &number, Properties::NONE, None).is_ok() {
            sent += 1;
        }
        let end = world.now + Duration::from_millis(20);
        while world.now < end {
            let before = world.nodes[sub].log.payloads(small).len();
            world.step();
            for payload in &world.nodes[sub].log.payloads(small)[before..] {
                let at = Instant::from_micros(u64::from_be_bytes((*payload).try_into().unwrap()));
                longest = longest.max(world.now.since(at));
            }
        }
    }
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.nodes[sub].log.payloads(small).len(), sent);
    (longest, world.broker.stats().throttled)
}

/// Neither what waits at the server nor that its publisher is held back for it keeps what is urgent.
#[test]
fn what_is_urgent_does_not_wait_for_a_slow_subscriber() {
    let (urgent, throttled) = longest([Lane::URGENT, Lane::BULK], None);
    assert!(throttled > 0, "the publisher was held back");
    assert!(urgent < Duration::from_millis(100), "{urgent:?}");
    let (one, _) = longest([Lane::NORMAL, Lane::NORMAL], None);
    assert!(one > Duration::from_secs(1), "{one:?}");
}

/// A subscriber says in which lane it wants something, however that was published.
#[test]
fn a_subscription_has_its_lane() {
    let (asked, _) = longest([Lane::URGENT, Lane::BULK], Some(Lane::BULK));
    assert!(asked > Duration::from_secs(1), "{asked:?}");
    let (asked, _) = longest([Lane::NORMAL, Lane::BULK], Some(Lane::URGENT));
    assert!(asked < Duration::from_millis(400), "at the publisher it is held back: {asked:?}");
}

/// One lane that fills the queue of its publisher, or that of a subscriber, leaves room for others.
#[test]
fn a_full_lane_leaves_room_for_others() {
    let mut world = World::<Heap>::new(broker::Config { max_queued: 100_000, ..Default::default() });
    let (publisher, sub) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(sub, "a.b");
    world.run_until("the connection", |world| world.nodes[publisher].client.is_connected());
    for node in [publisher, sub] {
        world.nodes[node].up.set_down(true);
        world.nodes[node].down.set_down(true);
    }
    let mut number = 0;
    while publish(&mut world, publisher, &payload(Lane::BULK, number, 10_000)).is_ok() {
        number += 1;
    }
    assert!(number > 90);
    for number in 0..10 {
        publish(&mut world, publisher, &payload(Lane::URGENT, number, 10_000)).unwrap();
    }
    let mut more = 10;
    while publish(&mut world, publisher, &payload(Lane::URGENT, more, 10_000)).is_ok() {
        more += 1;
    }
    assert!(more < 40, "{more}: there is a bound");
    world.nodes[publisher].up.set_down(false);
    world.nodes[publisher].down.set_down(false);
    world.run_for(Duration::from_secs(8));
    world.nodes[sub].up.set_down(false);
    world.nodes[sub].down.set_down(false);
    world.run_for(Duration::from_secs(60));
    let came = numbers(&world, sub, id);
    let stats = world.broker.stats();
    assert!(stats.dropped_slow > 0 && came[6].len() < number as usize, "the bulk lane was full");
    assert!(!came[1].is_empty(), "the urgent one had room");
    assert_eq!(came.iter().map(Vec::len).sum::<usize>() as u64 + stats.dropped_slow, u64::from(number + more));
}
