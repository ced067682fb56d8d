//! Lanes: what is urgent beside what is large, over links that lose a tenth.

use std::cell::Cell;

use kcpq_embassy::{Lane, LaneMemory, LendError, Subscribing};

use super::*;

/// What came, and when, in microseconds.
type Times = Rc<RefCell<Vec<(Vec<u8>, u64)>>>;
/// As the clients' window; two lanes besides lane 0.
type Lanes = LaneMemory<2, 2_048, 4>;

/// A client with memory for lanes.
fn client(world: &mut World, link: kcpq_core::sim::Config) -> Handle {
    let (client, mut runner, mut wire, mut alarm) = world.parts(Config::default(), link);
    client.lend_lanes(Box::leak(Box::new(Lanes::new()))).unwrap();
    world.spawn(async move { runner.run(&mut wire, &mut alarm).await });
    client
}

/// Keeps when each message of `pattern` came in, asked for in this lane.
fn times(world: &mut World, client: Handle, pattern: &'static str, lane: Lane) -> Times {
    let log = Times::default();
    let copy = log.clone();
    let wanted = Subscribing { lane: Some(lane), ..Default::default() };
    let mut subscription =
        world.block_on("acknowledgement", async move { client.subscribe_as(pattern, &wanted).await.unwrap() });
    world.spawn(async move {
        while let Ok(payload) = subscription.next(|message| message.payload().to_vec()).await {
            copy.borrow_mut().push((payload, now().as_micros()));
        }
    });
    log
}

/// A megabyte in a bulk lane, and beside it a small message each 100 ms in `lane`; returns the longest time that one of these
/// took, and the mean, in microseconds.
fn beside_a_megabyte(lane: Lane) -> (u64, u64) {
    const BULK: u32 = 2_200;
    let mut world = World::new();
    let (reader, writer) = (client(&mut world, BAD), client(&mut world, BAD));
    let bulk = times(&mut world, reader, "bulk", Lane::BULK);
    let small = times(&mut world, reader, "small", lane);
    let (mut alarm, finished) = (world.alarm(), Rc::new(Cell::new(0)));
    let count = finished.clone();
    world.spawn(async move {
        for number in 0..BULK {
            let mut payload = [7; 480];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            writer.publish("bulk", &payload).lane(Lane::BULK).await.unwrap();
        }
        count.set(count.get() + 1);
    });
    let (copy, bulks) = (finished.clone(), bulk.clone());
    world.spawn(async move {
        while (bulks.borrow().len() as u32) < BULK {
            writer.publish("small", &now().as_micros().to_be_bytes()).lane(lane).await.unwrap();
            alarm.wait_until(now() + Duration::from_millis(100)).await;
        }
        writer.flush().await.unwrap();
        copy.set(copy.get() + 1);
    });
    world.run_until("both", || finished.get() == 2);
    world.run_for(Duration::from_secs(5));
    let numbers = bulk.borrow().iter().map(|(payload, _)| payload[..4].to_vec()).collect::<Vec<_>>();
    assert!(numbers == super::numbers(0, BULK), "a megabyte, once and in order");
    assert_eq!(writer.stats().client.messages_sent, u64::from(BULK) + small.borrow().len() as u64);
    let span = |(sent, came): &(Vec<u8>, u64)| came - u64::from_be_bytes(sent[..8].try_into().unwrap());
    let took: Vec<u64> = small.borrow().iter().map(span).collect();
    assert!(took.len() > 100 && (reader.stats().unread, reader.stats().client.oversize) == (0, 0));
    (took.iter().copied().max().unwrap(), took.iter().sum::<u64>() / took.len() as u64)
}

#[test]
fn what_is_urgent_does_not_wait_for_a_megabyte() {
    let (urgent, mean) = beside_a_megabyte(Lane::URGENT);
    let (_, beside) = beside_a_megabyte(Lane::BULK);
    assert!(mean < beside / 2, "{mean} us on average, {urgent} at most; in the bulk lane itself {beside}");
}

/// State in a lane of its own: of each subject nothing older after something newer, and the newest comes.
#[test]
fn only_the_latest_counts_and_it_comes() {
    let mut world = World::new();
    let (reader, writer) = (client(&mut world, BAD), client(&mut world, BAD));
    let log = times(&mut world, reader, "state.*", Lane::URGENT);
    let mut alarm = world.alarm();
    world.block_on("publishing", async move {
        for number in 0..1_500_u32 {
            let subject = ["state.a", "state.b", "state.c"][number as usize % 3];
            writer.publish(subject, &number.to_be_bytes()).lane(Lane::URGENT).latest().await.unwrap();
            alarm.wait_until(now() + Duration::from_millis(8)).await;
        }
        writer.flush().await.unwrap();
    });
    world.run_for(Duration::from_secs(5));
    let log = log.borrow();
    for subject in 0..3 {
        let came: Vec<u32> =
            log.iter().map(|(payload, _)| u32::from_be_bytes(payload[..4].try_into().unwrap())).collect();
        let of: Vec<u32> = came.into_iter().filter(|number| number % 3 == subject).collect();
        assert!(of.is_sorted_by(|a, b| a < b), "{of:?}");
        assert_eq!(of.last(), Some(&(1_497 + subject)));
    }
    let (sent, came) = (writer.stats(), reader.stats());
    let gone = sent.client.superseded + sent.transport.voids_sent + came.transport.superseded;
    assert!(gone > 0, "what was lost was not sent again: {:?}", sent.client);
    assert_eq!((sent.client.dropped_in_doubt, came.client.malformed), (0, 0));
}

#[test]
fn lanes_take_memory_that_is_lent_in_time() {
    let mut world = World::new();
    let (plain, mut runner, mut wire, mut alarm) = world.parts(Config::default(), CLEAN);
    assert_eq!(plain.publish("a", b"").lane(Lane::URGENT).try_now(), Err(PublishError::Lane));
    let short = Box::leak(Box::new(LaneMemory::<1, 100, 3>::new()));
    assert_eq!(plain.lend_lanes(short), Err(LendError::Window));
    world.spawn(async move { runner.run(&mut wire, &mut alarm).await });
    world.block_on("connection", async move { plain.connected().await.unwrap() });
    assert_eq!(plain.lend_lanes(Box::leak(Box::new(Lanes::new()))), Err(LendError::Late));
    let rich = client(&mut world, CLEAN);
    assert_eq!(rich.lend_lanes(Box::leak(Box::new(Lanes::new()))), Err(LendError::Late));
    rich.publish("a", b"").lane(Lane::URGENT).try_now().unwrap();
    rich.publish("a", b"").lane(Lane::BULK).try_now().unwrap();
    let third = Lane::new(3).unwrap();
    assert_eq!(rich.publish("a", b"").lane(third).try_now(), Err(PublishError::Lane));
    let wanted = Subscribing { lane: Some(third), ..Default::default() };
    let refused = kcpq_embassy::SubscribeError::Invalid(kcpq_core::client::SubscribeError::Lane);
    assert_eq!(rich.subscribe_as_later("a", &wanted).err(), Some(refused));
    // A bulk lane that is full leaves room for others.
    let sent = (0..100).take_while(|_| rich.publish("a", &[7; 100]).lane(Lane::BULK).try_now().is_ok()).count();
    assert!((1..100).contains(&sent));
    rich.publish("a", &[7; 100]).lane(Lane::URGENT).try_now().unwrap();
    rich.publish("a", &[7; 100]).try_now().unwrap();
    world.block_on("all of it", async move { rich.flush().await.unwrap() });
    assert_eq!(world.broker_stats().messages_in, sent as u64 + 4);
}
