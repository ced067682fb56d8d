//! Messages of which only the latest of each subject counts, from publisher to subscriber.

use super::*;
use crate::frame::Properties;
use crate::lane::Lane;

/// What is published: which subject, and a number that counts on in it.
fn payload(subject: u8, number: u32, len: usize) -> Vec<u8> {
    let mut payload = vec![subject; 5 + len];
    payload[1..5].copy_from_slice(&number.to_be_bytes());
    payload
}

fn publish(world: &mut World<Heap>, node: usize, lane: Lane, payload: &[u8]) -> Result<(), PublishError> {
    let (now, subject) = (world.now, alloc::format!("state.{}", payload[0]));
    let result = world.nodes[node].client.publish_in(now, lane, &subject, payload, Properties::LATEST, None);
    world.settle();
    result
}

/// The numbers that came of each of `count` subjects.
fn numbers(world: &World<Heap>, node: usize, id: SubscriptionId, count: u8) -> Vec<Vec<u32>> {
    let mut numbers = vec![Vec::new(); count.into()];
    for payload in world.nodes[node].log.payloads(id) {
        assert!(payload[5..].iter().all(|byte| *byte == payload[0]));
        numbers[usize::from(payload[0])].push(u32::from_be_bytes(payload[1..5].try_into().unwrap()));
    }
    numbers
}

#[test]
fn of_each_subject_nothing_older_comes_after_something_newer_and_the_newest_comes() {
    for (seed, lane) in [(1, Lane::URGENT), (2, Lane::BULK), (3, Lane::NORMAL), (4, Lane::URGENT)] {
        let mut world = World::<Heap>::new(broker::Config::default());
        let (publisher, sub) = (world.add(Config::default(), BAD), world.add(Config::default(), BAD));
        let id = world.subscribe(sub, "state.*");
        let mut rng = Rng::with_seed(seed);
        let mut last = [None; 4];
        for number in 0..600 {
            let subject = rng.u8(..4);
            // Some are longer than a segment.
            let len = if rng.u8(..10) == 0 { 4_000 } else { rng.usize(..300) };
            publish(&mut world, publisher, lane, &payload(subject, number, len)).unwrap();
            last[usize::from(subject)] = Some(number);
            world.run_for(Duration::from_millis(rng.u64(..15)));
        }
        world.run_for(Duration::from_secs(30));
        let came = numbers(&world, sub, id, 4);
        for (numbers, last) in came.iter().zip(last) {
            assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}: {numbers:?}");
            assert_eq!(numbers.last().copied(), last, "seed {seed}");
        }
        let (own, stats) = (world.nodes[publisher].client.stats(), world.broker.stats());
        assert_eq!((own.messages_acknowledged + own.superseded, own.dropped_in_doubt), (own.messages_sent, 0));
        assert_eq!(stats.queued, 0);
        let superseded = world.nodes[sub].client.transport().superseded + world.broker.transport().superseded;
        assert_eq!(superseded > 10, !lane.is_main(), "seed {seed}: {superseded} in {lane}");
    }
}

/// As long as there is no connection the queue holds one message of each subject.
#[test]
fn what_waits_for_a_connection_is_superseded() {
    for lane in [Lane::NORMAL, Lane::URGENT] {
        let mut world = World::<Heap>::new(broker::Config::default());
        let config = Config { queue: 4_096, ..Config::default() };
        let (publisher, sub) = (world.add(config, CLEAN), world.add(Config::default(), CLEAN));
        let id = world.subscribe(sub, "state.*");
        world.run_until("the connection", |world| world.nodes[publisher].client.is_connected());
        world.nodes[publisher].up.set_down(true);
        for number in 0..2_000 {
            publish(&mut world, publisher, lane, &payload((number % 4) as u8, number, 500)).unwrap();
            world.run_for(Duration::from_millis(5));
        }
        let wanted = world.nodes[publisher].client.flush(world.now);
        world.nodes[publisher].up.set_down(false);
        let told = alloc::format!("Flushed {{ published: {wanted} }}");
        world.run_until("all is handled", |world| world.nodes[publisher].log.saw(&told) > 0);
        world.run_for(Duration::from_secs(1));
        let came = numbers(&world, sub, id, 4);
        assert!(
            came.iter().map(|numbers| numbers.last()).eq([1_996, 1_997, 1_998, 1_999].iter().map(Some)),
            "{came:?}"
        );
        let stats = world.nodes[publisher].client.stats();
        assert!(stats.superseded > 1_000, "{stats:?}");
        assert_eq!(stats.messages_acknowledged + stats.superseded + stats.dropped_in_doubt, stats.messages_sent);
    }
}

/// A subscriber that is far behind is sent the newest of each subject, and one that wants the latest gets them without being
/// waited for.
#[test]
fn a_slow_subscriber_gets_the_newest() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let slow = sim::Config { bandwidth: Some(20_000), ..CLEAN };
    let (publisher, sub) = (world.add(Config::default(), CLEAN), world.add(Config::default(), slow));
    let id = world.subscribe(sub, "state.*");
    for number in 0..3_000 {
        publish(&mut world, publisher, Lane::URGENT, &payload((number % 3) as u8, number, 400)).unwrap();
        world.run_for(Duration::from_millis(2));
    }
    let behind = world.broker.stats().queued;
    world.run_for(Duration::from_millis(500));
    let came = numbers(&world, sub, id, 3);
    assert!(
        came.iter().map(|numbers| numbers.last()).eq([2_997, 2_998, 2_999].iter().map(Some)),
        "half a second later"
    );
    assert!(behind < 3 * 500 && world.broker.stats().superseded > 1_000, "{behind} bytes wait");
}

/// Each message that its publisher wants to hear of comes to the server.
#[test]
fn what_is_confirmed_is_not_superseded_on_its_way_to_the_server() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let (publisher, sub) = (world.add(Config::default(), BAD), world.add(Config::default(), CLEAN));
    let id = world.subscribe(sub, "state.*");
    world.run_until("the connection", |world| world.nodes[publisher].client.is_connected());
    let properties = Properties::LATEST;
    let confirmed =
        Confirmed { properties, lane: Lane::URGENT, within: Duration::from_secs(60), ..Confirmed::default() };
    for number in 0..200 {
        let now = world.now;
        let client = &mut world.nodes[publisher].client;
        client.publish_confirmed(now, "state.1", &payload(1, number, 10), &confirmed).unwrap();
        world.settle();
        world.run_for(Duration::from_millis(3));
    }
    world.run_for(Duration::from_secs(20));
    assert_eq!((world.broker.stats().messages_in, world.broker.stats().confirmed), (200, 200));
    assert_eq!(numbers(&world, sub, id, 2)[1].last(), Some(&199));
}

/// A client with parity has one stream, and so has one in lent memory.
#[test]
fn who_knows_no_lanes_is_sent_messages_like_any_other() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let parity = Config { framing: Framing::Parity(crate::fec::header::Shards::KCPQ), ..Config::default() };
    let (publisher, sub) = (world.add(parity, BAD), world.add(parity, BAD));
    let id = world.subscribe(sub, "state.*");
    for number in 0..300 {
        publish(&mut world, publisher, Lane::URGENT, &payload(1, number, 100)).unwrap();
        world.run_for(Duration::from_millis(10));
    }
    world.run_for(Duration::from_secs(20));
    let came = &numbers(&world, sub, id, 2)[1];
    assert!(came.is_sorted_by(|a, b| a < b) && came.last() == Some(&299));
    assert_eq!(world.broker.transport().voids_sent, 0);
}
