//! Queue groups, from the publisher to the members.

use alloc::collections::BTreeSet;

use super::*;
use crate::access::{Access, Group, Permissions, Rules};

impl World<Heap> {
    /// A member of a group, in a client that is there.
    fn join(&mut self, node: usize, pattern: &str, group: &str) -> SubscriptionId {
        let id = self.nodes[node].client.subscribe_queue(self.now, pattern, group).unwrap();
        let told = alloc::format!("Subscribed({id:?})");
        self.run_until("acknowledgement", |world| world.nodes[node].log.saw(&told) > 0);
        id
    }

    /// The numbers that a subscription has got.
    fn numbers(&self, (node, id): (usize, SubscriptionId)) -> Vec<u32> {
        let payloads = self.nodes[node].log.payloads(id).into_iter();
        payloads.map(|payload| u32::from_be_bytes(*payload.first_chunk().unwrap())).collect()
    }

    /// Publishes messages of these numbers, as the queue takes them.
    fn publish_numbers(&mut self, node: usize, subject: &str, numbers: core::ops::Range<u32>, size: usize) {
        for number in numbers {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(size.max(4), 7);
            while self.publish(node, subject, &payload).is_err() {
                assert!(self.step());
            }
        }
    }
}

fn members(world: &mut World<Heap>, count: usize, link: sim::Config) -> Vec<(usize, SubscriptionId)> {
    let join = |_| {
        let node = world.add(Config::default(), link);
        (node, world.join(node, "jobs.*", "workers"))
    };
    (0..count).map(join).collect()
}

#[test]
fn each_message_goes_to_one_member_and_each_member_gets_as_many() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let watcher = world.add(Config::default(), CLEAN);
    let watched = (watcher, world.subscribe(watcher, "jobs.>"));
    let members = members(&mut world, 8, CLEAN);
    // One after the other, and at once as many as fit.
    for number in 0..400 {
        world.publish_numbers(publisher, "jobs.a", number..number + 1, 100);
        world.run_for(Duration::from_millis(3));
    }
    world.publish_numbers(publisher, "jobs.b", 400..4_000, 100);
    world.run_for(Duration::from_secs(2));
    let each: Vec<_> = members.iter().map(|member| world.numbers(*member)).collect();
    for numbers in &each {
        assert!((490..=510).contains(&numbers.len()), "{} of 4,000", numbers.len());
        assert!(numbers.is_sorted(), "in the order in which they were published");
    }
    let mut all = each.concat();
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..4_000));
    assert_eq!(world.numbers(watched).len(), 4_000, "who is in no group gets all");
    let stats = world.broker.stats();
    assert_eq!((stats.messages_out, stats.unrouted, stats.subscriptions), (8_000, 0, 9));
}

#[test]
fn members_of_one_client_are_members_and_its_other_subscriptions_get_all() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let (node, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let first = (node, world.join(node, "jobs.*", "workers"));
    let second = (node, world.join(node, "jobs.*", "workers"));
    let third = (node, world.join(node, "jobs.a", "workers"));
    let other = (node, world.join(node, "jobs.a", "others"));
    let all = (node, world.subscribe(node, "jobs.*"));
    world.publish_numbers(publisher, "jobs.a", 0..300, 10);
    world.publish_numbers(publisher, "jobs.b", 300..400, 10);
    world.run_for(Duration::from_secs(1));
    let count = |which| world.numbers(which).len();
    assert_eq!([first, second, third].map(count), [150, 150, 100]);
    assert_eq!([other, all].map(count), [300, 400]);
    // Who leaves is no member any more, and the others still are.
    assert!(world.nodes[node].client.unsubscribe(world.now, first.1));
    assert!(world.nodes[node].client.unsubscribe(world.now, third.1));
    world.run_for(Duration::from_secs(1));
    world.publish_numbers(publisher, "jobs.a", 400..500, 10);
    world.run_for(Duration::from_secs(1));
    assert_eq!([first, second, third, other].map(|which| world.numbers(which).len()), [150, 250, 100, 400]);
    assert_eq!(world.broker.stats().subscriptions, 3);
}

/// Each member gets its messages in the lane that it has asked for, also when it asks for another one.
#[cfg(feature = "lanes")]
#[test]
fn each_member_has_its_own_lane() {
    use crate::client::Subscribing;
    use crate::lane::Lane;

    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let node = world.add(Config::default(), sim::Config { bandwidth: Some(100_000), ..CLEAN });
    world.run_until("the connection", |world| world.nodes[node].client.is_connected());
    let mut join = |lane| {
        let wanted = Subscribing { lane, group: Some("workers"), ..Subscribing::default() };
        let id = world.nodes[node].client.subscribe_as(world.now, "jobs.*", &wanted).unwrap();
        world.run_for(Duration::from_millis(200));
        (node, id)
    };
    let [bulk, normal, urgent] = [Some(Lane::BULK), None, Some(Lane::URGENT)].map(&mut join);
    world.publish_numbers(publisher, "jobs.a", 0..300, 1_000);
    world.run_for(Duration::from_millis(1_700));
    let [bulk_count, normal_count, urgent_count] = [bulk, normal, urgent].map(|which| world.numbers(which).len());
    assert!(
        urgent_count > 80 && normal_count < 80 && bulk_count < normal_count,
        "{urgent_count} {normal_count} {bulk_count}"
    );
    world.run_for(Duration::from_secs(20));
    let counts = [bulk, normal, urgent].map(|which| world.numbers(which).len());
    assert!(counts.iter().sum::<usize>() == 300 && counts.iter().all(|count| (90..=110).contains(count)), "{counts:?}");
}

#[test]
fn memberships_are_asked_for_again_after_a_restart() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let members = members(&mut world, 2, CLEAN);
    world.restart(broker::Config::default());
    world.run_until("both are back", |world| world.broker.stats().subscriptions == 2);
    world.run_until("the publisher is back", |world| world.nodes[publisher].client.is_connected());
    world.publish_numbers(publisher, "jobs.a", 0..100, 10);
    world.run_for(Duration::from_secs(1));
    assert!(members.iter().all(|member| world.numbers(*member).len() == 50));
}

/// A link that carries nothing any more.
fn cut(world: &mut World<Heap>, node: usize) {
    let dead = sim::Config { loss: 1.0, ..CLEAN };
    (world.nodes[node].up, world.nodes[node].down) = (SimLink::new(dead, 1), SimLink::new(dead, 2));
}

#[test]
fn what_waits_for_a_member_that_dies_goes_to_the_others() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    // So narrow that much waits for each of them.
    let narrow = sim::Config { bandwidth: Some(100_000), ..CLEAN };
    let members = members(&mut world, 2, narrow);
    world.publish_numbers(publisher, "jobs.a", 0..1_000, 1_000);
    world.run_for(Duration::from_secs(1));
    let before = world.numbers(members[0]).len();
    cut(&mut world, members[0].0);
    world.run_for(Duration::from_secs(1));
    assert!(before < 200 && world.numbers(members[1]).len() < 400, "most still waits");
    world.run_until("the session ends", |world| world.broker.stats().requeued > 0);
    world.run_for(Duration::from_secs(20));
    let (first, second) = (world.numbers(members[0]), world.numbers(members[1]));
    let unique: BTreeSet<_> = first.iter().chain(&second).collect();
    assert_eq!(unique.len(), first.len() + second.len(), "nothing twice");
    let stats = world.broker.stats();
    // Of what was under way some has come.
    let accounted = first.len() + second.len() + stats.dropped_closed as usize;
    assert!((1_000..1_000 + stats.dropped_closed as usize).contains(&accounted), "{accounted}");
    assert!(stats.dropped_closed < 150 && stats.requeued > 200, "{} under way", stats.dropped_closed);
}

#[test]
fn what_waits_for_a_member_that_leaves_goes_to_the_others() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let members = members(&mut world, 2, sim::Config { bandwidth: Some(100_000), ..CLEAN });
    let other = members[0].0;
    let all = (other, world.subscribe(other, "news"));
    for number in 0..40 {
        world.publish_numbers(publisher, "jobs.a", number * 10..number * 10 + 10, 1_000);
        world.publish_numbers(publisher, "news", number..number + 1, 1_000);
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.nodes[other].client.unsubscribe(world.now, members[0].1));
    world.run_until("it has left", |world| world.broker.stats().requeued > 0);
    world.run_for(Duration::from_secs(20));
    let second = world.numbers(members[1]);
    assert!(second.len() > 250, "{}", second.len());
    assert!(world.numbers(all).into_iter().eq(0..40), "what else waits for its session stays, in order");
}

#[test]
fn what_waits_for_a_member_that_leaves_goes_to_another_one_of_its_own_client() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let node = world.add(Config::default(), sim::Config { bandwidth: Some(100_000), ..CLEAN });
    let first = (node, world.join(node, "jobs.*", "workers"));
    let second = (node, world.join(node, "jobs.*", "workers"));
    world.publish_numbers(publisher, "jobs.a", 0..400, 1_000);
    world.run_for(Duration::from_secs(1));
    assert!(world.nodes[node].client.unsubscribe(world.now, first.1));
    world.run_for(Duration::from_secs(20));
    let stats = world.broker.stats();
    assert!(
        stats.requeued > 100 && stats.dropped_closed == 0,
        "{} given, {} lost",
        stats.requeued,
        stats.dropped_closed
    );
    assert!(world.numbers(second).len() > 300);
}

#[test]
fn a_member_that_takes_nothing_is_passed_over() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let members = members(&mut world, 4, CLEAN);
    cut(&mut world, members[0].0);
    for number in 0..2_000 {
        world.publish_numbers(publisher, "jobs.a", number..number + 1, 1_000);
        world.run_for(Duration::from_millis(2));
    }
    world.run_for(Duration::from_secs(1));
    let got: usize = members[1..].iter().map(|member| world.numbers(*member).len()).sum();
    assert!(got > 1_900, "{got} of 2,000: it is given no more than it could be known to take");
}

#[test]
fn a_slow_member_gets_less() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let fast = members(&mut world, 1, CLEAN)[0];
    let slow = members(&mut world, 1, sim::Config { bandwidth: Some(50_000), ..CLEAN })[0];
    for number in 0..2_000 {
        world.publish_numbers(publisher, "jobs.a", number..number + 1, 1_000);
        world.run_for(Duration::from_millis(4));
    }
    let count = |which| world.numbers(which).len();
    assert!(count(fast) > 1_300 && count(slow) > 200, "{} and {}", count(fast), count(slow));
}

#[test]
fn who_may_not_have_a_message_does_not_get_it_and_the_others_do() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let permissions = Permissions { subscribe: Rules::of(None, &["jobs.secret"]), ..Permissions::default() };
    let group = |permissions| Group { permissions, ..Group::default() };
    let access = Access { groups: vec![group(permissions)], anonymous: Some(0), ..Access::default() };
    world.broker.set_access(world.now, Some(&access)).unwrap();
    let publisher = world.add(Config::default(), CLEAN);
    let members = members(&mut world, 2, CLEAN);
    world.publish_numbers(publisher, "jobs.secret", 0..10, 10);
    world.publish_numbers(publisher, "jobs.a", 10..20, 10);
    world.run_for(Duration::from_secs(1));
    assert!(members.iter().all(|member| world.numbers(*member).len() == 5));
    assert_eq!(world.broker.stats().unrouted, 10);
    // What is not permitted any more ends, also in a group.
    let permissions = Permissions { subscribe: Rules::of(Some(&["a"]), &[]), ..Permissions::default() };
    let access = Access { groups: vec![group(permissions)], anonymous: Some(0), ..Access::default() };
    world.broker.set_access(world.now, Some(&access)).unwrap();
    world.run_for(Duration::from_secs(1));
    assert!(members.iter().all(|(node, _)| world.nodes[*node].log.saw("SubscribeFailed") == 1));
    assert_eq!((world.broker.stats().subscriptions, world.broker.stats().subscriptions_ended), (0, 2));
}

#[test]
fn what_is_no_group_is_refused_and_so_are_too_many() {
    let mut world = World::<Heap>::new(broker::Config { max_subscriptions: 5_000, ..broker::Config::default() });
    let node = world.add(Config::default(), CLEAN);
    for name in ["", "two words", "a\n", &"g".repeat(65)] {
        let error = world.nodes[node].client.subscribe_queue(world.now, "a", name);
        assert_eq!(error, Err(SubscribeError::Group), "{name:?}");
    }
    world.join(node, "a", &"g".repeat(64));
    for count in 1..=1_024 {
        world.nodes[node].client.subscribe_queue(world.now, "a", &alloc::format!("g{count}")).unwrap();
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.nodes[node].log.saw("Subscribed("), world.nodes[node].log.saw("SubscribeFailed")), (1_024, 1));
}

/// The server has registered it by then: it would be given messages that its client has nobody for.
#[test]
fn who_gives_up_waiting_to_be_a_member_is_none() {
    let config = Config { subscribe_timeout: Duration::from_millis(50), subscribe_attempts: 1, ..Config::default() };
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let node = world.add(config, sim::Config { delay: Duration::from_millis(200), ..CLEAN });
    world.run_for(Duration::from_secs(2));
    world.nodes[node].client.subscribe_queue(world.now, "a", "g").unwrap();
    world.run_until("it gives up", |world| world.nodes[node].log.saw("SubscribeFailed") == 1);
    world.run_until("it is a member", |world| world.broker.stats().subscriptions == 1);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.broker.stats().subscriptions, 0);
    world.publish(publisher, "a", b"nobody").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.broker.stats().unrouted, 1);
}

/// Only a server says whom alone a message is for.
#[test]
fn a_publisher_cannot_say_for_which_subscription_a_message_is() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let member = members(&mut world, 1, CLEAN)[0];
    let forged = frame::properties::member(member.1.0);
    let properties = Properties::parse(&forged).unwrap();
    world.nodes[publisher].client.publish_with(world.now, "other", b"1234", properties, None).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.numbers(member).len(), world.broker.stats().messages_refused), (0, 1));
}
