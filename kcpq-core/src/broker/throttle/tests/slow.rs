//! What those cost who take nothing: the others nothing, and the server no more than their bound.

use super::*;

/// One stuck among a hundred.
const CROWD: usize = 100;
const STUCK: usize = 1;

/// A publisher and those who subscribe, of whom one stops taking anything. Returns the most that waited for all from
/// then on.
fn one_stuck(policy: SlowConsumer, subscribe: impl Fn(&mut World, usize)) -> (World, u64) {
    let mut world = World::new(Config { slow_consumer: policy, ..Config::default() }, &[0; 1 + CROWD]);
    for end in STUCK..=CROWD {
        subscribe(&mut world, end);
    }
    world.pass(300, |world, _| world.publish(PUBLISHER, "n", 2));
    world.set_pace(STUCK, 0);
    let mut peak = 0;
    world.pass(2_000, |world, _| {
        world.publish(PUBLISHER, "n", 2);
        peak = peak.max(world.sum(|stats| stats.queued));
    });
    world.pass(20, |_, _| {});
    for end in STUCK + 1..=CROWD {
        assert_eq!(world.got(end), world.published, "{policy:?}: number {end}");
        let longest = world.longest(end);
        assert!(longest <= BOUND, "{policy:?}: {longest:?} for number {end}");
    }
    (world, peak)
}

/// A message and its head.
const FRAME: u64 = SIZE as u64 + 100;

#[test]
fn one_stuck_among_a_hundred_costs_its_bound_and_the_others_nothing() {
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest, SlowConsumer::Disconnect] {
        let (mut world, peak) = one_stuck(policy, |world, end| _ = world.subscribe(end, "n"));
        let most = MAX_QUEUED as u64 + 2 * CROWD as u64 * FRAME;
        assert!((MAX_QUEUED as u64 / 2..=most).contains(&peak), "{policy:?}: {peak} of {most}");
        let (slow, ended) = (world.sum(|stats| stats.slow_consumers), world.sum(|stats| stats.slow_sessions));
        assert_eq!((slow, ended), (1, u64::from(policy == SlowConsumer::Disconnect)), "{policy:?}");
        if policy == SlowConsumer::Disconnect {
            let queued = world.sum(|stats| stats.queued);
            assert!(queued < FRAME, "{queued}: what waited for it is gone, but for its CLOSE");
            continue;
        }
        world.drain();
        assert_eq!(world.got(STUCK) + world.dropped(), world.published, "{policy:?}");
        let last = world.ends[STUCK].delays.last().copied();
        assert!(world.dropped() > 1_000 && last.is_some(), "{policy:?}");
    }
}

/// Of a subscription to the latest messages only there waits one of each subject.
#[test]
fn one_stuck_that_wants_the_latest_only_costs_a_message() {
    let (mut world, peak) = one_stuck(SlowConsumer::DropNewest, |world, end| {
        let now = world.now;
        let wanted = client::Subscribing { latest: end == STUCK, ..Default::default() };
        world.ends[end].client.subscribe_as(now, "n", &wanted).unwrap();
        world.settle();
    });
    assert!(peak <= (2 * CROWD as u64 + 1) * FRAME, "{peak}");
    let superseded = world.sum(|stats| stats.superseded);
    world.drain();
    assert_eq!((world.got(STUCK) + superseded, world.dropped()), (world.published, 0));
    assert!(superseded > 3_000, "{superseded}");
}

/// They fill what there is for all, and would leave everybody a fiftieth of it.
#[test]
fn those_who_are_stuck_give_way_to_who_takes_what_it_gets() {
    const TOTAL: usize = 4 * MAX_QUEUED;
    const HARMFUL: usize = 50;
    let mut world = World::new(Config { max_queued_total: TOTAL, ..Config::default() }, &[0; 2 + HARMFUL]);
    for end in GOOD..2 + HARMFUL {
        world.subscribe(end, "n");
    }
    world.pass(100, |world, _| world.publish(PUBLISHER, "n", 2));
    for end in 2..2 + HARMFUL {
        world.set_pace(end, 0);
    }
    let mut peak = 0;
    world.pass(6_000, |world, tick| {
        // Before it is known who is stuck there is a little for everybody, after that as much as anybody can need.
        let pause = if tick < 1_200 { 20 } else { 400 };
        world.set_pace(GOOD, if tick % 600 >= pause { 20_000 } else { 0 });
        world.publish(PUBLISHER, "n", 2);
        peak = peak.max(world.sum(|stats| stats.queued));
    });
    world.set_pace(GOOD, UNLIMITED);
    world.pass(100, |_, _| {});
    assert_eq!(world.got(GOOD), world.published);
    assert!(peak <= TOTAL as u64, "{peak}");
    let waits = world.sum(|stats| stats.queued);
    assert!((TOTAL as u64 / 4..=TOTAL as u64 / 2 + FRAME).contains(&waits), "{waits} of those who are stuck");
    assert_eq!(world.sum(|stats| stats.slow_consumers), HARMFUL as u64);
    // What they have lost is counted, and what is left comes when they go on.
    world.drain();
    let got: u64 = (2..2 + HARMFUL).map(|end| world.got(end)).sum();
    assert_eq!(got + world.dropped(), HARMFUL as u64 * world.published);
}
