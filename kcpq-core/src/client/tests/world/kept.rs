//! Last values of subjects, from who publishes them to who subscribes later.

use super::*;
use crate::access::{Access, Group, Permissions, Rules};
use crate::broker::{KeptCursor, LastValues};

/// What a subscriber got: subject, message, and for how long it had been kept if it was no new one.
type Got = (String, String, Option<Duration>);

impl<S: Make> World<S> {
    fn with_values(values: &LastValues) -> Self {
        let mut world = Self::new(broker::Config::default());
        world.broker = Broker::new(broker::Config::default(), 1).with_last_values(values).unwrap();
        world
    }

    fn try_retain(
        &mut self,
        node: usize,
        subject: &str,
        payload: &str,
        ttl: Option<Duration>,
    ) -> Result<(), PublishError> {
        let mut properties = PropertiesBuf::new();
        properties.header("unit", "K").unwrap();
        properties.retain();
        self.nodes[node].client.publish_with(self.now, subject, payload.as_bytes(), properties.properties(), ttl)
    }

    fn retain(&mut self, node: usize, subject: &str, payload: &str) {
        self.try_retain(node, subject, payload, None).unwrap();
        self.run_for(Duration::from_millis(100));
    }

    /// All that a subscription has got, and forgets it.
    fn got(&mut self, (node, id): (usize, SubscriptionId)) -> Vec<Got> {
        let log = &mut self.nodes[node].log;
        let messages = log.messages.remove(&id).unwrap_or_default();
        let kept = log.kept.remove(&id).unwrap_or_default();
        let text = |payload| String::from_utf8(payload).unwrap();
        messages.into_iter().zip(kept).map(|((subject, payload), kept)| (subject, text(payload), kept)).collect()
    }

    /// The same without the times.
    fn values(&mut self, which: (usize, SubscriptionId)) -> Vec<(String, String, bool)> {
        self.got(which).into_iter().map(|(subject, payload, kept)| (subject, payload, kept.is_some())).collect()
    }

    fn listen(&mut self, node: usize, pattern: &str) -> (usize, SubscriptionId) {
        let id = self.subscribe(node, pattern);
        self.run_for(Duration::from_secs(1));
        (node, id)
    }
}

fn value(subject: &str, payload: &str, kept: bool) -> (String, String, bool) {
    (subject.into(), payload.into(), kept)
}

fn the_last_value_comes_first<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let (publisher, sub) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let early = world.listen(sub, "sensors.*");
    for (subject, payload) in [("sensors.a", "1"), ("sensors.b", "1"), ("sensors.a", "2"), ("other", "3")] {
        world.retain(publisher, subject, payload);
    }
    assert_eq!(
        world.values(early),
        [("sensors.a", "1"), ("sensors.b", "1"), ("sensors.a", "2")].map(|(subject, text)| value(subject, text, false)),
        "who is there gets an ordinary message"
    );
    world.run_for(Duration::from_secs(5));
    let late = world.add(Config::default(), CLEAN);
    let late = world.listen(late, "sensors.>");
    let got = world.got(late);
    assert_eq!(
        got.iter().map(|(subject, text, _)| (&**subject, &**text)).collect::<Vec<_>>(),
        [("sensors.a", "2"), ("sensors.b", "1")]
    );
    let ages = got.iter().map(|(.., age)| age.unwrap());
    assert!(ages.clone().all(|age| age >= Duration::from_secs(5) && age < Duration::from_secs(7)), "{got:?}");
    assert_eq!(world.nodes[late.0].log.properties, ["None unit=K "; 2], "with all that it was published with");
    // An empty one takes it away; who is there gets it as a message.
    world.retain(publisher, "sensors.a", "");
    assert_eq!(world.values(late), [value("sensors.a", "", false)]);
    let third = world.listen(publisher, ">");
    assert_eq!(world.values(third), [value("other", "3", true), value("sensors.b", "1", true)]);
    // What is published without the wish changes nothing.
    world.publish(publisher, "sensors.b", b"7").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.values(third), [value("sensors.b", "7", false)]);
    let fourth = world.listen(sub, "sensors.b");
    assert_eq!(world.values(fourth), [value("sensors.b", "1", true)]);
    assert!(
        world.values(early).iter().all(|(_, _, kept)| !kept),
        "what another subscription asked for is not for this one"
    );
    let stats = world.broker.stats();
    assert_eq!((stats.kept, stats.kept_delivered, stats.kept_refused), (2, 5, 0));
    assert_eq!(stats.unrouted, 0, "it is kept, so it is not gone");
}

#[test]
fn the_last_value_comes_first_and_is_marked() {
    the_last_value_comes_first::<Heap>();
    the_last_value_comes_first::<Lent<'static>>();
}

#[test]
fn each_subscription_gets_them_once_and_again_after_a_reconnect() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.retain(node, "a", "1");
    // Two of one pattern, made before there is a connection, and a third one later; one of them does not want them.
    let other = world.add(Config::default(), CLEAN);
    let (now, client) = (world.now, &mut world.nodes[other].client);
    let first = (other, client.subscribe(now, "a").unwrap());
    let second = (other, client.subscribe(now, "a").unwrap());
    let without = (other, client.subscribe_without_kept(now, "a", false).unwrap());
    world.run_for(Duration::from_secs(1));
    let (third, wide) = (world.listen(other, "a"), world.listen(other, ">"));
    let member = (other, world.nodes[other].client.subscribe_queue(world.now, "a", "workers").unwrap());
    world.run_for(Duration::from_secs(1));
    let all = [first, second, third, wide];
    for which in all {
        assert_eq!(world.values(which), [value("a", "1", true)]);
    }
    assert!(world.got(without).is_empty() && world.got(member).is_empty());
    world.publish(node, "a", b"2").unwrap();
    world.run_for(Duration::from_secs(1));
    for which in [first, second, third, wide, without, member] {
        assert_eq!(world.values(which), [value("a", "2", false)]);
    }
    world.nodes[other].client.reconnect(world.now);
    world.run_for(Duration::from_secs(5));
    for which in all {
        assert_eq!(world.values(which), [value("a", "1", true)], "it is the state now");
    }
    assert!(world.got(without).is_empty() && world.got(member).is_empty());
}

#[test]
fn a_value_lapses_with_its_time_to_live() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.run_for(Duration::from_secs(1));
    world.try_retain(node, "a", "soon over", Some(Duration::from_secs(10))).unwrap();
    world.try_retain(node, "b", "stays", None).unwrap();
    world.run_for(Duration::from_secs(5));
    let first = world.listen(node, "*");
    assert_eq!(world.values(first), [value("a", "soon over", true), value("b", "stays", true)]);
    assert!(world.nodes[node].log.left[0].is_some_and(|left| left < Duration::from_millis(5_100)));
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.broker.stats().kept, world.broker.stats().kept_lapsed), (1, 1));
    let second = world.listen(node, "*");
    assert_eq!(world.values(second), [value("b", "stays", true)]);
}

#[test]
fn who_may_not_have_a_subject_gets_no_value_and_who_may_not_publish_leaves_none() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let permissions = Permissions { publish: Rules::of(None, &["no"]), subscribe: Rules::of(None, &["secret.>"]) };
    let group = Group { permissions, ..Group::default() };
    let access = Access { groups: vec![group], anonymous: Some(0), ..Access::default() };
    world.broker.set_access(world.now, Some(&access)).unwrap();
    let node = world.add(Config::default(), CLEAN);
    for subject in ["no", "secret.a", "yes"] {
        world.retain(node, subject, "1");
    }
    assert_eq!(world.broker.stats().kept, 2);
    let id = world.listen(node, ">");
    assert_eq!(world.values(id), [value("yes", "1", true)]);
    assert_eq!(world.broker.stats().messages_withheld, 1);
}

/// What is still to come when a subscription is ended by other rules does not come.
#[test]
fn nothing_more_is_given_of_a_subscription_that_is_not_permitted_any_more() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config { queue: 4 << 20, ..Config::default() }, CLEAN);
    world.run_for(Duration::from_secs(1));
    for number in 0..2_000 {
        world.try_retain(publisher, &alloc::format!("a.{number}"), &"x".repeat(500), None).unwrap();
    }
    world.run_for(Duration::from_secs(5));
    let sub = world.add(Config::default(), sim::Config { bandwidth: Some(100_000), ..CLEAN });
    let id = world.subscribe(sub, ">");
    world.run_for(Duration::from_secs(2));
    let permissions = Permissions { publish: Rules::default(), subscribe: Rules::of(Some(&["b"]), &[]) };
    let groups = vec![Group { permissions, ..Group::default() }];
    let access = Access { groups, anonymous: Some(0), ..Access::default() };
    world.broker.set_access(world.now, Some(&access)).unwrap();
    let before = world.broker.stats().kept_delivered;
    world.run_for(Duration::from_secs(60));
    assert!(world.nodes[sub].log.saw("SubscribeFailed") == 1 && !world.nodes[sub].log.payloads(id).is_empty());
    assert_eq!(world.broker.stats().kept_delivered, before);
    assert!(before < 1_000, "{before}");
}

#[test]
fn what_is_not_kept_is_told_to_who_wants_it_now_and_then() {
    let values = LastValues { max_subjects: 2, max_value: 200, ..LastValues::default() };
    let mut world = World::<Heap>::with_values(&values);
    let (node, sub) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let live = world.listen(sub, ">");
    for subject in ["a", "b", "c", "d"] {
        world.retain(node, subject, "1");
    }
    let told = "Refused(\"not kept as the last value of c: 2 subjects have a value, which is the limit\")";
    assert_eq!((world.nodes[node].log.saw(told), world.nodes[node].log.saw("Refused")), (1, 1));
    assert_eq!(world.got(live).len(), 4, "whoever is there gets all the same");
    world.run_for(Duration::from_secs(10));
    // Nothing is given out as the last value that is not.
    world.retain(node, "a", &"x".repeat(300));
    assert_eq!(world.nodes[node].log.saw("Refused(\"not kept as the last value of a: a value of "), 1);
    let late = world.listen(sub, "*");
    assert_eq!(world.values(late), [value("b", "1", true)]);
    assert_eq!(world.broker.stats().kept_refused, 3);
    // A server that keeps none says so before, and otherwise keeps none.
    let mut world = World::<Heap>::with_values(&LastValues { max_subjects: 0, ..LastValues::default() });
    let node = world.add(Config::default(), CLEAN);
    assert_eq!(world.try_retain(node, "early", "1", None), Ok(()), "nothing is known yet");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.try_retain(node, "a", "1", None), Err(PublishError::Unsupported));
    assert_eq!((world.broker.stats().messages_in, world.broker.stats().kept), (1, 0));
    assert_eq!(world.nodes[node].client.server().map(|server| server.keeps()), Some(false));
}

#[test]
fn subjects_of_the_configuration_are_kept_whoever_publishes() {
    let values = LastValues { subjects: vec!["state.>".into()], ..LastValues::default() };
    let mut world = World::<Heap>::with_values(&values);
    let node = world.add(Config::default(), CLEAN);
    for (subject, payload) in [("state.a", "1"), ("state.a", "2"), ("state.b", "1"), ("event", "1"), ("state.b", "")] {
        world.publish(node, subject, payload.as_bytes()).unwrap();
        world.run_for(Duration::from_millis(50));
    }
    let late = world.listen(node, ">");
    assert_eq!(world.values(late), [value("state.a", "2", true)]);
    let wrong = LastValues { subjects: vec!["a..b".into()], ..LastValues::default() };
    assert!(Broker::<SocketAddr>::new(broker::Config::default(), 1).with_last_values(&wrong).is_err());
}

/// Far more values than a queue may hold, while what they are of goes on.
#[test]
fn many_values_come_as_the_subscriber_takes_them_and_none_after_a_newer_one() {
    let config = broker::Config { max_queued: 100_000, ..broker::Config::default() };
    let mut world = World::<Heap>::new(config);
    let publisher = world.add(Config { queue: 1 << 20, ..Config::default() }, CLEAN);
    world.run_for(Duration::from_secs(1));
    let subject = |number: u32| alloc::format!("device.{number}.state");
    for number in 0..3_000 {
        let payload = alloc::format!("{:0>200}", 0);
        while world.try_retain(publisher, &subject(number), &payload, None).is_err() {
            assert!(world.step());
        }
        let other = alloc::format!("device.{number}.other");
        while world.try_retain(publisher, &other, "0", None).is_err() {
            assert!(world.step());
        }
    }
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.broker.stats().kept, 6_000);
    let sub = world.add(Config::default(), CLEAN);
    let id = world.nodes[sub].client.subscribe(world.now, "device.*.state").unwrap();
    let mut rng = Rng::with_seed(9);
    for round in 1..200u32 {
        world.run_for(Duration::from_millis(1));
        assert!(world.broker.stats().queued < 100_000);
        world.try_retain(publisher, &subject(rng.u32(..3_000)), &alloc::format!("{round}"), None).unwrap();
    }
    world.run_for(Duration::from_secs(30));
    let mut last = BTreeMap::new();
    for (subject, text, kept) in world.got((sub, id)) {
        let number: u32 = text.parse().unwrap();
        let before = last.insert(subject.clone(), number);
        assert!(before.is_none_or(|before| before < number && kept.is_none()), "{subject}: {number} after {before:?}");
    }
    assert_eq!(last.len(), 3_000, "all of them");
    let stats = world.broker.stats();
    assert_eq!((stats.dropped_slow, stats.dropped_memory, stats.dropped_too_large), (0, 0, 0));
    let now: BTreeMap<_, _> = last.into_iter().collect();
    let mut cursor = Some(KeptCursor::default());
    let mut seen = 0;
    while let Some(from) = cursor {
        let page = world.broker.view_kept(&from, 100);
        for value in &page.items {
            let text = core::str::from_utf8(value.payload()).unwrap();
            assert!(now.get(&*value.subject).is_none_or(|number| *number == text.parse::<u32>().unwrap()));
            seen += 1;
        }
        cursor = page.next;
    }
    assert_eq!(seen, 6_000);
}

#[test]
fn the_values_of_a_servers_last_life_are_kept_on() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    world.run_for(Duration::from_secs(1));
    world.try_retain(node, "a", "1", None).unwrap();
    world.try_retain(node, "b", "2", Some(Duration::from_secs(100))).unwrap();
    world.run_for(Duration::from_secs(10));
    let left = world.broker.view_kept(&KeptCursor::default(), 10);
    assert!(left.next.is_none());
    world.restart(broker::Config::default());
    for value in &left.items {
        world.broker.restore(Instant::ZERO, &value.frame, value.age + Duration::from_secs(3), value.left).unwrap();
    }
    let late = world.add(Config::default(), CLEAN);
    let late = world.listen(late, ">");
    let got = world.got(late);
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|(.., age)| age.is_some_and(|age| age >= Duration::from_secs(13))), "{got:?}");
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.broker.stats().kept, 1);
    // And they can be renewed.
    world.run_until("it is back", |world| world.nodes[node].client.is_connected());
    world.retain(node, "a", "3");
    assert_eq!(world.values(late), [value("a", "3", false)]);
    let refused = world.broker.restore(world.now, &bytes::Bytes::from_static(b"x"), Duration::ZERO, None);
    assert_eq!(refused, Err(broker::NotKept::Malformed));
}
