//! A backbone that answers no more, and goes on after all.

use super::*;

#[test]
fn a_backbone_that_answers_no_more_is_left_and_what_it_had_for_certain_is_known() {
    let mut world = World::new(1, 1, &[(0, 0)]);
    world.connect();
    world.publish(0, "a", "1");
    world.pass(PING_EVERY); // it is asked, and has it
    world.backbone.is_away = true;
    world.publish(0, "a", "2");
    world.publish(0, "a", "3");
    let gateway = &mut world.servers[0].gateway;
    world.now += PING_EVERY;
    gateway.handle_timeout(world.now);
    assert_eq!(gateway.poll_order(world.now), Some(Order::Ping { on: Channel::Main }));
    assert_eq!(gateway.poll_order(world.now), Some(Order::Ping { on: Channel::Groups }));
    assert!(!gateway.is_deaf(world.now));
    assert!(gateway.is_deaf(world.now + PATIENCE));
    gateway.on_disconnected(world.now);
    let stats = gateway.stats();
    assert_eq!((stats.messages_out, stats.in_doubt, stats.joined), (3, 2, 0));
}

#[test]
fn what_a_backbone_that_was_left_still_has_is_for_a_group_that_nobody_is_in_any_more() {
    let mut gateway = Gateway::new(Config::default(), 1, 1).unwrap();
    gateway.handle_relay(Instant::ZERO, 0, Relay(Told::Interest { pattern: "a".into(), wanted: true }));
    let mut groups = Vec::new();
    for _ in 0..3 {
        gateway.on_connected(Instant::ZERO, 1_000);
        let orders = core::iter::from_fn(|| gateway.poll_order(Instant::ZERO));
        groups.extend(orders.filter_map(|order| match order {
            Order::Subscribe { subject, group, .. } if &*subject == "a" => group,
            _ => None,
        }));
        gateway.on_disconnected(Instant::ZERO);
    }
    let distinct: BTreeSet<_> = groups.iter().collect();
    assert_eq!((groups.len(), distinct.len()), (3, 3), "{groups:?}");
}

#[test]
fn what_a_backbone_hands_on_after_it_hung_does_not_come_back_to_who_gave_it() {
    let mut world = World::new(1, 1, &[(0, 0), (0, 0)]);
    let id = world.subscribe(1, "a");
    world.connect();
    world.publish(0, "a", "before");
    world.pass(PING_EVERY); // it is asked, and has it
    world.backbone.is_away = true;
    for text in ["1", "2", "1"] {
        world.publish(0, "a", text);
    }
    let gateway = &mut world.servers[0].gateway;
    world.now += PING_EVERY;
    gateway.handle_timeout(world.now);
    while gateway.poll_order(world.now).is_some() {}
    world.now += PATIENCE;
    assert!(gateway.is_deaf(world.now));
    world.lose(0);
    world.connect();
    for text in ["before", "1", "1", "1", "2", "3"] {
        world.publish_there("a", None, &[], text);
    }
    world.run();
    let got: Vec<String> = core::mem::take(&mut world.ends[1].got)
        .into_iter()
        .map(|(from, _, text)| {
            assert_eq!(from, id);
            text
        })
        .collect();
    assert_eq!(got, ["before", "1", "2", "1", "before", "1", "3"], "each once more that was not known to be there");
    assert_eq!(world.servers[0].gateway.stats().returned, 3);
}
