//! Clients without a connection: how they close, and how they come back.

use super::*;

/// A client that cannot reach its server, with messages that wait.
fn unheard(world: &mut World<Heap>, messages: u8) -> usize {
    world.away = true;
    let node = world.add(Config::default(), CLEAN);
    for n in 0..messages {
        world.publish(node, "a", &[n; 100]).unwrap();
    }
    node
}

#[test]
fn closing_without_a_connection_waits_for_one_and_delivers() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let sub = world.add(Config::default(), CLEAN);
    let id = world.subscribe(sub, "a");
    let node = unheard(&mut world, 5);
    let now = world.now;
    world.nodes[node].client.close(now);
    assert_eq!(world.publish(node, "a", b"late"), Err(PublishError::Closed));
    world.run_for(Duration::from_millis(500));
    world.away = false;
    world.run_until("the end", |world| world.nodes[node].log.saw("Closed") > 0);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[sub].log.payloads(id).len(), 5);
    assert_eq!(world.nodes[node].client.stats().lost_on_close, 0);
}

#[test]
fn what_closing_gives_up_is_counted() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = unheard(&mut world, 5);
    let begun = world.now;
    world.nodes[node].client.close(begun);
    world.run_until("the end", |world| world.nodes[node].log.saw("Closed") > 0);
    assert_eq!(world.now.since(begun), Config::default().linger);
    let stats = world.nodes[node].client.stats();
    assert_eq!((stats.lost_on_close, stats.dropped_overflow), (5, 0));
    // Nothing waits, nothing is waited for.
    let node = unheard(&mut world, 0);
    let now = world.now;
    world.nodes[node].client.close(now);
    assert_eq!(world.nodes[node].client.state(), State::Closed);
}

#[test]
fn closing_while_waiting_for_the_next_attempt_begins_it() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let patient = Backoff { base: Duration::from_secs(1_000), cap: Duration::from_secs(1_000) };
    world.away = true;
    let node = world.add(Config { reconnect: Some(patient), ..Config::default() }, CLEAN);
    world.run_until("no answer", |world| world.nodes[node].log.saw("Disconnected") > 0);
    world.publish(node, "a", b"last words").unwrap();
    world.away = false;
    let now = world.now;
    world.nodes[node].client.close(now);
    world.run_until("the end", |world| world.nodes[node].log.saw("Closed") > 0);
    assert_eq!((world.broker.stats().messages_in, world.nodes[node].client.stats().lost_on_close), (1, 0));
}

#[test]
fn a_client_that_was_closed_before_it_was_asked_to_connect_delivers_if_it_is_asked_in_time() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    let mut client = Heap::client(Config::default(), 99);
    let now = world.now;
    client.publish(now, "a", b"early").unwrap();
    client.close(now);
    assert_eq!(client.poll_timeout().map(|deadline| deadline.at), Some(now + Config::default().linger));
    client.connect(now);
    world.nodes[node].client = client;
    world.run_until("the end", |world| world.nodes[node].log.saw("Closed") > 0);
    assert_eq!(world.broker.stats().messages_in, 1);
}

#[test]
fn closing_takes_as_long_as_something_is_acknowledged() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let narrow = sim::Config { bandwidth: Some(150_000), ..CLEAN };
    let node = world.add(Config::default(), narrow);
    world.run_until("connection", |world| world.nodes[node].log.saw("Connected") > 0);
    for n in 0..100 {
        world.publish(node, "a", &[n; 8_000]).unwrap();
    }
    let begun = world.now;
    world.nodes[node].client.close(begun);
    world.run_until("the end", |world| world.nodes[node].log.saw("Closed") > 0);
    assert!(world.now.since(begun) > Duration::from_secs(5), "{}", world.now.since(begun));
    assert_eq!((world.broker.stats().messages_in, world.nodes[node].client.stats().lost_on_close), (100, 0));
}

#[test]
fn after_a_long_absence_clients_are_back_within_seconds() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let nodes: Vec<usize> = (0..20).map(|_| world.add(Config::default(), CLEAN)).collect();
    world.run_until("connections", |world| nodes.iter().all(|node| world.nodes[*node].log.saw("Connected") > 0));
    world.away = true;
    world.restart(broker::Config::default());
    world.run_for(Duration::from_secs(200));
    world.away = false;
    let begun = world.now;
    world.run_until("all", |world| nodes.iter().all(|node| world.nodes[*node].client.is_connected()));
    assert!(world.now.since(begun) < Duration::from_secs(7), "{}", world.now.since(begun));
}

/// Nothing that a client says reaches its server for so long that it gives the session up, which lives there.
fn a_session_is_given_up_unheard<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    let id = world.subscribe(node, "a");
    world.run_until("connection", |world| world.nodes[node].log.saw("Subscribed") > 0);
    world.away = true;
    world.run_until("loss", |world| world.nodes[node].log.saw("Disconnected") > 0);
    assert_eq!(world.broker.sessions(), 1);
    world.away = false;
    world.run_until("return", |world| world.nodes[node].log.saw("Subscribed") > 1);
    world.run_for(Duration::from_millis(100));
    let stats = world.broker.stats();
    assert_eq!((world.broker.sessions(), stats.sessions_opened, stats.subscriptions), (1, 2, 1));
    world.publish(node, "a", b"one").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.nodes[node].log.payloads(id).len(), world.broker.stats().messages_out), (1, 1));
}

#[test]
fn a_session_that_was_given_up_unheard_is_gone_when_its_client_is_back() {
    a_session_is_given_up_unheard::<Heap>();
    a_session_is_given_up_unheard::<Lent<'static>>();
}

/// Publishers that find a server again before its subscribers do, as after a restart of which these hear later.
#[test]
fn after_a_restart_messages_wait_for_those_who_were_there() {
    for (gone, expected) in [(false, 150), (true, 1_000)] {
        let mut world = World::<Heap>::new(broker::Config::default());
        let publisher = world.add(Config::default(), CLEAN);
        let others: Vec<_> = (0..5).map(|_| world.add(Config::default(), CLEAN)).collect();
        let ids: Vec<_> = others.iter().map(|node| world.subscribe(*node, "a.*")).collect();
        world.subscribe(publisher, "mine");
        let mut there: Vec<_> = world.nodes.iter().map(|node| node.addr).collect();
        if gone {
            there.push(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 1)));
        }
        world.restart(broker::Config::default());
        world.broker.wait_for(world.now, there);
        let begun = world.now;
        world.nodes[publisher].client.reconnect(world.now);
        for n in 0..200 {
            world.publish(publisher, "a.b", &[n; 300]).unwrap();
        }
        world.run_for(Duration::from_millis(30));
        assert!(world.nodes[publisher].client.is_connected());
        assert_eq!((world.broker.stats().messages_in, world.broker.stats().restart_waits), (0, 1));
        for node in &others {
            world.nodes[*node].client.reconnect(world.now);
        }
        world.run_until("the messages", |world| {
            others.iter().zip(&ids).all(|(node, id)| world.nodes[*node].log.payloads(*id).len() == 200)
        });
        let took = world.now.since(begun).as_millis();
        assert!((expected..expected + 100).contains(&took), "{took} ms");
        assert_eq!(world.broker.stats().unrouted, 0);
        // From then on nothing waits.
        let sent = world.now;
        world.publish(publisher, "a.c", b"now").unwrap();
        world.run_until("one more", |world| world.nodes[others[0]].log.payloads(ids[0]).len() == 201);
        assert_eq!(world.now.since(sent), Duration::from_millis(20));
    }
}

#[test]
fn what_waits_survives_attempts_that_fail() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let sub = world.add(Config::default(), CLEAN);
    let id = world.subscribe(sub, "a");
    world.away = true;
    let node = world.add(Config { early: false, ..Config::default() }, CLEAN);
    for n in 0..50 {
        world.publish(node, "a", &[n; 100]).unwrap();
    }
    world.run_until("attempts", |world| world.nodes[node].log.saw("Disconnected") > 3);
    world.away = false;
    world.run_until("delivery", |world| world.nodes[sub].log.payloads(id).len() == 50);
    assert_eq!(world.nodes[node].client.stats().dropped_in_doubt, 0);
}

#[test]
fn only_the_first_attempt_puts_early_messages_in_doubt() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let node = unheard(&mut world, 50);
    let in_doubt = |world: &World<Heap>| world.nodes[node].client.stats().dropped_in_doubt;
    let attempts = |count| move |world: &World<Heap>| world.nodes[node].log.saw("Disconnected") == count;
    world.run_until("an attempt", attempts(2));
    let first = in_doubt(&world);
    assert!(first > 0);
    world.run_until("attempts", attempts(5));
    world.away = false;
    world.run_until("delivery", |world| world.broker.stats().messages_in + first == 50);
    assert_eq!(in_doubt(&world), first);
}

/// Messages of 20, 2,000, 20 and 2,000 bytes wait for a server that takes 1,000.
#[test]
fn what_waits_and_is_too_large_for_the_returning_server_is_dropped_and_the_session_goes_on() {
    for first in [true, false] {
        let mut world = World::<Heap>::new(broker::Config::default());
        let sub = world.add(Config::default(), CLEAN);
        world.subscribe(sub, "a");
        world.away = true;
        let node = world.add(Config::default(), CLEAN);
        if !first {
            world.away = false;
            world.run_until("connection", |world| world.nodes[node].log.saw("Connected") > 0);
            world.away = true;
            world.run_until("loss", |world| world.nodes[node].log.saw("Disconnected") > 0);
        }
        let mut small = broker::Config::default();
        small.frames.max_body = 1_000;
        world.restart(small);
        for len in [20, 2_000, 20, 2_000] {
            world.publish(node, "a", &vec![7; len]).unwrap();
        }
        world.away = false;
        world.run_until("subscription", |world| world.nodes[sub].client.stats().active_subscriptions == 1);
        let ends = |world: &World<Heap>| world.nodes[node].log.saw("Disconnected");
        world.run_until("messages", |world| world.broker.stats().messages_in == 2);
        let before = ends(&world);
        world.publish(node, "a", b"goes on").unwrap();
        world.run_until("messages", |world| world.broker.stats().messages_in == 3);
        let stats = world.nodes[node].client.stats();
        assert_eq!((stats.dropped_too_large, stats.dropped_in_doubt, ends(&world)), (2, 0, before));
        assert_eq!((world.broker.stats().broken_sessions, world.nodes[node].client.largest_message()), (0, 1_000));
        let now = world.now;
        let wanted = world.nodes[node].client.flush(now);
        assert_eq!(wanted, 5);
        world.run_until("flush", |world| world.nodes[node].log.saw("Flushed") > 0);
    }
}

/// Without a source of random numbers a device that was started again has the port and the conversation of before.
fn restarts_with_the_same_seed<S: Make>(seconds: u64) -> Duration {
    let mut world = World::<S>::new(broker::Config::default());
    let node = world.add(Config::default(), CLEAN);
    let id = world.subscribe(node, "a");
    for n in 0..50 {
        world.publish(node, "a", &[n]).unwrap();
        world.run_for(Duration::from_millis(20));
    }
    assert_eq!(world.nodes[node].log.payloads(id).len(), 50);
    world.nodes[node].client = S::client(Config::default(), node as u64 * 7 + 3);
    world.nodes[node].log = Log::default();
    world.run_for(Duration::from_secs(seconds));
    let begun = world.now;
    world.nodes[node].client.connect(begun);
    let again = world.subscribe(node, "b");
    let took = world.now.since(begun);
    world.publish(node, "b", b"there").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[node].log.payloads(again), [b"there"]);
    took
}

#[test]
fn a_device_that_was_started_again_with_the_same_seed_is_let_in_within_two_seconds() {
    for seconds in [0, 1, 60] {
        for took in
            [restarts_with_the_same_seed::<Heap>(seconds), restarts_with_the_same_seed::<Lent<'static>>(seconds)]
        {
            assert!(took < Duration::from_secs(2), "after {seconds} s it took {took}");
        }
    }
}
