//! Messages whose publisher wants to know what becomes of them, in virtual time.

use super::*;
use crate::access::{Access, Group, Limits, Permissions, Rules};
use crate::puback::Rejection;

fn publish<S: Make>(world: &mut World<S>, node: usize, subject: &str, confirmed: &Confirmed<'_>) -> ConfirmId {
    world.nodes[node].client.publish_confirmed(world.now, subject, b"21.5", confirmed).unwrap()
}

impl Log {
    /// How many messages were told to be dropped.
    fn dropped(&self) -> usize {
        self.confirmed.iter().filter(|(_, outcome)| *outcome == Err(ConfirmFailure::Dropped)).count()
    }
}

/// What a client has told of a message.
fn told<S: Make>(world: &World<S>, node: usize, id: ConfirmId) -> Vec<Result<u32, ConfirmFailure>> {
    world.nodes[node].log.confirmed.iter().filter(|(about, _)| *about == id).map(|(_, outcome)| *outcome).collect()
}

fn outcome<S: Make>(world: &mut World<S>, node: usize, id: ConfirmId) -> Result<u32, ConfirmFailure> {
    world.run_until("the word", |world| !told(world, node, id).is_empty());
    told(world, node, id)[0]
}

fn counts_sessions<S: Make>(link: sim::Config) {
    let mut world = World::<S>::new(broker::Config::default());
    let publisher = world.add(Config::default(), link);
    let early = publish(&mut world, publisher, "early", &Confirmed::default());
    assert_eq!(outcome(&mut world, publisher, early), Ok(0), "also of one that waited for the server's first answer");
    let others: Vec<_> = (0..3).map(|_| world.add(Config::default(), link)).collect();
    let ids: Vec<_> = others.iter().map(|other| world.subscribe(*other, "a.*")).collect();
    world.subscribe(others[0], ">"); // and has it once all the same
    world.subscribe(publisher, "a.b");
    let mut properties = PropertiesBuf::new();
    properties.header("unit", "K").unwrap();
    let properties = properties.properties();
    let with = Confirmed { properties, ttl: Some(Duration::from_secs(60)), ..Confirmed::default() };
    let sent: Vec<_> =
        ["a.a", "a.b", "b"].iter().map(|subject| publish(&mut world, publisher, subject, &with)).collect();
    let outcomes: Vec<_> = sent.iter().map(|id| outcome(&mut world, publisher, *id)).collect();
    assert_eq!(outcomes, [Ok(3), Ok(4), Ok(1)]);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.nodes[others[1]].log.payloads(ids[1]), [b"21.5", b"21.5"]);
    assert_eq!(world.nodes[others[1]].log.properties, ["None unit=K ", "None unit=K "]);
    assert!(sent.iter().all(|id| told(&world, publisher, *id).len() == 1), "told once");
    assert_eq!(world.broker.stats().confirmed, 4);
    let next = world.nodes[publisher].client.poll_timeout().map(|deadline| deadline.why);
    assert_ne!(next, Some(crate::time::Why::Request), "no timer is left");
}

#[test]
fn a_publisher_is_told_how_many_sessions_have_its_message() {
    for link in [CLEAN, BAD] {
        counts_sessions::<Heap>(link);
        counts_sessions::<Lent<'static>>(link);
    }
}

#[test]
fn it_is_told_a_round_trip_later() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    world.run_until("the connection", |world| world.nodes[publisher].client.is_connected());
    let asked = world.now;
    let id = publish(&mut world, publisher, "a", &Confirmed::default());
    assert_eq!(outcome(&mut world, publisher, id), Ok(0));
    assert_eq!(world.now.since(asked), Duration::from_millis(20));
}

#[test]
fn a_member_of_a_queue_group_counts_and_one_that_has_no_room_does_not() {
    let config = broker::Config { max_queued: 4_096, ..broker::Config::default() };
    let mut world = World::<Heap>::new(config);
    let nodes: Vec<_> = (0..3).map(|_| world.add(Config::default(), CLEAN)).collect();
    for node in &nodes[1..] {
        world.nodes[*node].client.subscribe_queue(world.now, "a", "workers").unwrap();
    }
    world.run_for(Duration::from_secs(1));
    world.subscribe(nodes[1], "a");
    let id = publish(&mut world, nodes[0], "a", &Confirmed::default());
    assert_eq!(outcome(&mut world, nodes[0], id), Ok(2), "once for itself, and once for the group");
    let large = vec![7; 3_000];
    let plain = world.add(Config::default(), CLEAN);
    world.subscribe(plain, "b");
    let ids: Vec<_> = (0..3)
        .map(|_| world.nodes[nodes[0]].client.publish_confirmed(world.now, "b", &large, &Confirmed::default()).unwrap())
        .collect();
    let outcomes: Vec<_> = ids.into_iter().map(|id| outcome(&mut world, nodes[0], id)).collect();
    let dropped = world.broker.stats().dropped_slow;
    assert!(dropped > 0);
    assert_eq!(outcomes.iter().map(|outcome| u64::from(outcome.unwrap())).sum::<u64>(), 3 - dropped);
}

#[test]
fn what_is_refused_says_why() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let permissions = Permissions { publish: Rules::of(None, &["secret.>"]), ..Permissions::default() };
    let limits = Limits { bytes_per_second: Some(1_000), ..Limits::default() };
    let group = Group { name: "some".into(), permissions, limits };
    let access = Access { groups: vec![group], anonymous: Some(0), ..Access::default() };
    world.broker.set_access(world.now, Some(&access)).unwrap();
    let publisher = world.add(Config::default(), CLEAN);
    for n in 0..3 {
        let id = publish(&mut world, publisher, "secret.a", &Confirmed::default());
        assert_eq!(outcome(&mut world, publisher, id), Err(ConfirmFailure::Rejected(Rejection::NotPermitted)), "{n}");
    }
    let fast: Vec<_> = (0..200).map(|_| publish(&mut world, publisher, "a", &Confirmed::default())).collect();
    let outcomes: Vec<_> = fast.into_iter().map(|id| outcome(&mut world, publisher, id)).collect();
    assert_eq!(outcomes[0], Ok(0));
    assert_eq!(outcomes[199], Err(ConfirmFailure::Rejected(Rejection::TooFast)));
    // A subject that this server finds too deep, of a message that waited until it was there.
    let config = broker::Config {
        subjects: crate::subject::Limits { max_tokens: 2, ..crate::subject::Limits::default() },
        ..broker::Config::default()
    };
    let mut world = World::<Heap>::new(config);
    let publisher = world.add(Config::default(), CLEAN);
    let id = publish(&mut world, publisher, "a.b.c", &Confirmed::default());
    assert_eq!(outcome(&mut world, publisher, id), Err(ConfirmFailure::Rejected(Rejection::Invalid)));
    assert_eq!(world.nodes[publisher].log.saw("Refused"), 0, "it is told once");
    assert_eq!(world.broker.stats().messages_refused, 1);
    // Its own server's limit, the queue's rule, and the end.
    let frames = frame::Limits { max_body: 2_000, ..frame::Limits::default() };
    let mut world = World::<Heap>::new(broker::Config { frames, ..broker::Config::default() });
    let publisher = world.add(Config::default(), CLEAN);
    let large = world.nodes[publisher].client.publish_confirmed(world.now, "a", &[7; 3_000], &Confirmed::default());
    assert_eq!(outcome(&mut world, publisher, large.unwrap()), Err(ConfirmFailure::TooLarge));
    let last = publish(&mut world, publisher, "a", &Confirmed::default());
    world.away = true;
    world.nodes[publisher].client.close(world.now);
    assert_eq!(outcome(&mut world, publisher, last), Err(ConfirmFailure::Closed));
    let refused = world.nodes[publisher].client.publish_confirmed(world.now, "a", b"", &Confirmed::default());
    assert_eq!(refused, Err(ConfirmError::Refused(PublishError::Closed)));
}

fn goes_to_the_next_server<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let config = Config { suspect_timeout: Duration::from_millis(100), ..Config::default() };
    let publisher = world.add(config, CLEAN);
    world.run_until("the connection", |world| world.nodes[publisher].client.is_connected());
    let patient = Confirmed { within: Duration::from_secs(600), ..Confirmed::default() };
    let sent = publish(&mut world, publisher, "a", &patient);
    world.settle(); // it is on its way
    world.restart(broker::Config::default());
    assert_eq!(outcome(&mut world, publisher, sent), Err(ConfirmFailure::InDoubt));
    world.away = true;
    let waits = publish(&mut world, publisher, "a", &patient);
    let short = publish(&mut world, publisher, "a", &Confirmed { within: Duration::from_secs(1), ..patient });
    assert_eq!(outcome(&mut world, publisher, short), Err(ConfirmFailure::TimedOut));
    world.away = false;
    assert_eq!(outcome(&mut world, publisher, waits), Ok(0));
    assert_eq!(world.broker.stats().messages_in, 2, "nothing was sent twice");
    assert_eq!(told(&world, publisher, short).len(), 1, "and the late word is of no interest");
}

#[test]
fn what_was_on_its_way_is_in_doubt_and_what_waited_goes_to_the_next_server() {
    goes_to_the_next_server::<Heap>();
    goes_to_the_next_server::<Lent<'static>>();
}

/// A microcontroller's client waits for as many words as it was lent memory for, and no other message is published meanwhile.
#[test]
fn memory_that_is_lent_has_room_for_as_many_as_it_was_lent_for() {
    let mut bare = Client::new(Config::default(), 1, Box::leak(Box::new(Pocket::new())).lend());
    let refused = bare.publish_confirmed(Instant::ZERO, "a", b"", &Confirmed::default());
    assert_eq!(refused, Err(ConfirmError::TooMany), "none was lent");
    let mut world = World::<Lent<'static>>::new(broker::Config::default());
    let publisher = world.add(Config::default(), CLEAN);
    let memory = Box::leak(Box::new(ConfirmMemory::<1>::new()));
    assert_eq!(world.nodes[publisher].client.lend_confirms(memory), Err(LendError::Late));
    let ids: Vec<_> = (0..8).map(|_| publish(&mut world, publisher, "a", &Confirmed::default())).collect();
    let more = |world: &mut World<_>| {
        world.nodes[publisher].client.publish_confirmed(world.now, "a", b"", &Confirmed::default())
    };
    assert_eq!(more(&mut world), Err(ConfirmError::TooMany));
    let sent = world.nodes[publisher].client.stats().messages_sent;
    assert_eq!((sent, world.nodes[publisher].client.forget_confirmation(ids[3])), (8, true));
    let another = more(&mut world).unwrap();
    assert_eq!(outcome(&mut world, publisher, another), Ok(0));
    let told_of: Vec<_> = ids.iter().map(|id| told(&world, publisher, *id).len()).collect();
    assert_eq!(told_of, [1, 1, 1, 0, 1, 1, 1, 1], "it is not heard of one that was forgotten");
    // A connection that is lost takes them all, and each is told of once.
    let ids: Vec<_> = (0..8).map(|_| publish(&mut world, publisher, "a", &Confirmed::default())).collect();
    world.settle();
    world.restart(broker::Config::default());
    let outcomes: Vec<_> = ids.iter().map(|id| outcome(&mut world, publisher, *id)).collect();
    assert_eq!(outcomes, [Err(ConfirmFailure::InDoubt); 8]);
    assert!(more(&mut world).is_ok());
}

/// Each message that makes room is told of while the one that needs it is given its name.
#[test]
fn messages_that_push_each_other_out_of_a_full_queue_have_different_names() {
    let mut world = World::<Heap>::new(broker::Config::default());
    world.away = true;
    let publisher = world.add(Config { overflow: Overflow::DropOldest, queue: 90, ..Config::default() }, CLEAN);
    let ids: Vec<_> = (0..20).map(|_| publish(&mut world, publisher, "a", &Confirmed::default())).collect();
    world.away = false;
    world.run_for(Duration::from_secs(30));
    let all: alloc::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(all.len(), ids.len(), "{ids:?}");
    assert!(ids.iter().all(|id| told(&world, publisher, *id).len() == 1));
    assert_eq!(told(&world, publisher, ids[0]), [Err(ConfirmFailure::Dropped)]);
    assert_eq!(world.nodes[publisher].client.stats().dropped_overflow, world.nodes[publisher].log.dropped() as u64);
}

#[test]
fn a_full_queue_says_which_were_dropped() {
    for (overflow, dropped) in [(Overflow::DropOldest, 0), (Overflow::DropNewest, 2)] {
        let mut world = World::<Heap>::new(broker::Config::default());
        world.away = true;
        let publisher = world.add(Config { overflow, queue: 60, ..Config::default() }, CLEAN);
        let ids: Vec<_> = (0..3).map(|_| publish(&mut world, publisher, "a", &Confirmed::default())).collect();
        assert_eq!(outcome(&mut world, publisher, ids[dropped]), Err(ConfirmFailure::Dropped));
        assert!(world.nodes[publisher].client.forget_confirmation(ids[1]));
        assert!(!world.nodes[publisher].client.forget_confirmation(ids[1]));
        world.away = false;
        assert_eq!(outcome(&mut world, publisher, ids[2 - dropped]), Ok(0));
        assert_eq!(told(&world, publisher, ids[1]), []);
    }
}
