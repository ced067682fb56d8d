//! Last wills: when they are published, and when not.

use super::*;
use crate::access::{Access, Group, Permissions, Rules};
use crate::client::Will;

const WILL: Will<'static> = Will { subject: "gone.a", payload: b"without a word", retain: false };

impl<S: Make> World<S> {
    /// Somebody who hears of wills, and somebody who leaves one.
    fn with_will(config: broker::Config, will: Will<'static>) -> (Self, (usize, SubscriptionId), usize) {
        let mut world = Self::new(config);
        let watcher = world.add(Config::default(), CLEAN);
        let id = world.subscribe(watcher, "gone.*");
        let node = world.add(Config::default(), CLEAN);
        let now = world.now;
        world.nodes[node].client.set_will(now, will).unwrap();
        world.run_for(Duration::from_secs(1));
        (world, (watcher, id), node)
    }

    fn published(&self, (node, id): (usize, SubscriptionId)) -> Vec<&[u8]> {
        self.nodes[node].log.payloads(id)
    }

    /// Between a node and the server nothing arrives any more, or all does.
    fn cut(&mut self, node: usize, cut: bool) {
        let link = if cut { sim::Config { loss: 1.0, ..CLEAN } } else { CLEAN };
        (self.nodes[node].up, self.nodes[node].down) = (SimLink::new(link, 1), SimLink::new(link, 2));
    }
}

fn who_goes_without_a_word<S: Make>() {
    let (mut world, watch, node) = World::<S>::with_will(broker::Config::default(), WILL);
    assert_eq!((world.broker.stats().wills, world.nodes[node].log.saw("WillRefused")), (1, 0));
    let now = world.now;
    world.nodes[node].client.suspend(now);
    world.run_for(Duration::from_secs(115));
    assert!(world.published(watch).is_empty());
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.published(watch), [WILL.payload]);
    let stats = world.broker.stats();
    assert_eq!((stats.wills, stats.wills_bytes, stats.wills_published, stats.wills_refused), (0, 0, 1, 0));
    // When it is back it has left it again.
    let now = world.now;
    world.nodes[node].client.resume(now);
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.broker.stats().wills, world.published(watch).len()), (1, 1));
}

#[test]
fn the_will_of_who_goes_without_a_word_is_published_once_and_left_again() {
    who_goes_without_a_word::<Heap>();
    who_goes_without_a_word::<Lent<'static>>();
}

fn who_says_goodbye<S: Make>() {
    let (mut world, watch, node) = World::<S>::with_will(broker::Config::default(), WILL);
    // Another connection is no end either.
    let now = world.now;
    world.nodes[node].client.reconnect(now);
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.broker.sessions(), world.broker.stats().wills), (2, 1));
    let now = world.now;
    world.nodes[node].client.close(now);
    world.run_for(Duration::from_secs(200));
    assert_eq!((world.broker.stats().wills, world.published(watch).len()), (0, 0));
}

#[test]
fn the_will_of_who_says_goodbye_is_forgotten() {
    who_says_goodbye::<Heap>();
    who_says_goodbye::<Lent<'static>>();
}

/// Its client has given a session up and made another, and the server does not know that.
fn who_comes_back<S: Make>() {
    let (mut world, watch, node) = World::<S>::with_will(broker::Config::default(), WILL);
    world.no_farewells = true;
    world.cut(node, true);
    world.run_until("a loss", |world| world.nodes[node].log.saw("Disconnected") > 0);
    world.cut(node, false);
    world
        .run_until("another session", |world| world.nodes[node].log.saw("Connected { native: true, again: true }") > 0);
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.broker.sessions(), world.broker.stats().wills), (3, 1), "the former session is still there");
    world.run_for(Duration::from_secs(200));
    assert_eq!((world.broker.sessions(), world.published(watch).len()), (2, 0));
    // What it takes back while it is away is not published either.
    world.cut(node, true);
    let now = world.now;
    world.nodes[node].client.clear_will(now);
    world.run_until("a loss", |world| world.nodes[node].log.saw("Disconnected") > 1);
    world.cut(node, false);
    world.run_for(Duration::from_secs(200));
    assert_eq!((world.broker.stats().wills, world.published(watch).len()), (0, 0));
}

#[test]
fn who_comes_back_in_another_session_is_not_declared_dead() {
    who_comes_back::<Heap>();
    who_comes_back::<Lent<'static>>();
}

#[test]
fn a_will_is_replaced_and_taken_back_within_a_session() {
    let (mut world, watch, node) = World::<Heap>::with_will(broker::Config::default(), WILL);
    let now = world.now;
    world.nodes[node].client.set_will(now, Will { payload: b"another", ..WILL }).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.broker.stats().wills, 1);
    world.nodes[node].client.suspend(world.now);
    world.run_for(Duration::from_secs(150));
    assert_eq!(world.published(watch), [b"another"]);
    world.nodes[node].client.resume(world.now);
    world.run_for(Duration::from_secs(5));
    world.nodes[node].client.clear_will(world.now);
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.broker.stats().wills, world.broker.stats().wills_bytes), (0, 0));
    world.nodes[node].client.suspend(world.now);
    world.run_for(Duration::from_secs(150));
    assert_eq!(world.published(watch).len(), 1);
}

#[test]
fn who_is_thrown_out_leaves_a_will_and_a_server_that_stops_keeps_it_to_itself() {
    let (mut world, watch, node) = World::<Heap>::with_will(broker::Config::default(), WILL);
    let view = world.broker.view_sessions(world.now, broker::SessionCursor::default(), 10);
    let id = view.items.iter().find(|session| session.peer == world.nodes[node].addr).unwrap().id;
    assert!(world.broker.kick(world.now, id));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.published(watch), [WILL.payload]);
    world.run_until("a session", |world| world.broker.stats().wills == 1);
    world.broker.drain(world.now);
    world.run_for(Duration::from_secs(3));
    assert_eq!((world.published(watch).len(), world.broker.stats().wills), (1, 0));
}

#[test]
fn a_will_can_become_the_last_value_of_its_subject() {
    let (mut world, watch, node) = World::<Heap>::with_will(broker::Config::default(), Will { retain: true, ..WILL });
    world.nodes[node].client.suspend(world.now);
    world.run_for(Duration::from_secs(150));
    assert_eq!((world.published(watch), world.broker.stats().kept), (vec![WILL.payload], 1));
    let later = world.add(Config::default(), CLEAN);
    let id = world.subscribe(later, "gone.>");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.published((later, id)), [WILL.payload]);
}

#[test]
fn a_will_that_the_server_does_not_take_is_told_of() {
    let permissions = Permissions { publish: Rules::of(Some(&["gone.>", "$KCPQ.>"]), &[]), ..Permissions::default() };
    let group = Group { name: "some".into(), permissions, ..Group::default() };
    let mut access = Access { groups: vec![group], anonymous: Some(0), ..Access::default() };
    let config = broker::Config { max_will: 100, max_wills_total: 150, ..broker::Config::default() };
    let mut world = World::<Heap>::new(config);
    world.broker.set_access(world.now, Some(&access)).unwrap();
    let nodes: Vec<usize> = (0..2).map(|_| world.add(Config::default(), CLEAN)).collect();
    world.run_for(Duration::from_secs(1));
    let leave = |world: &mut World<Heap>, node: usize, subject: &'static str, len: usize| {
        let will = Will { subject, payload: &[7; 200][..len], retain: false };
        let now = world.now;
        world.nodes[node].client.set_will(now, will).unwrap();
        world.run_for(Duration::from_secs(1));
        world.nodes[node].log.events.pop().unwrap_or_default()
    };
    let refused = |why: &str| alloc::format!("WillRefused(\"last will not taken: {why}\")");
    assert_eq!(leave(&mut world, nodes[0], "other", 1), refused("not permitted to publish to other"));
    assert_eq!(leave(&mut world, nodes[0], "$KCPQ.x", 1), refused("not permitted to publish to $KCPQ.x"));
    assert_eq!(leave(&mut world, nodes[0], "gone.a", 100), refused("it has 115 bytes, the limit is 100"));
    assert!(leave(&mut world, nodes[0], "gone.a", 80).starts_with("Connected"));
    let full = "there is no room for more, the limit is 150 bytes for all clients together";
    assert_eq!(leave(&mut world, nodes[1], "gone.b", 80), refused(full));
    let stats = world.broker.stats();
    assert_eq!((stats.wills, stats.wills_bytes, stats.wills_refused), (1, 95, 4));
    // And it is asked again whether it may when it comes to that.
    access.groups[0].permissions.publish = Rules::of(Some(&[]), &[]);
    world.broker.set_access(world.now, Some(&access)).unwrap();
    world.nodes[nodes[0]].client.suspend(world.now);
    world.run_for(Duration::from_secs(150));
    let stats = world.broker.stats();
    assert_eq!((stats.wills, stats.wills_published, stats.wills_refused), (0, 0, 5));
}

#[test]
fn a_will_outlives_another_address() {
    let (mut world, watch, node) = World::<Heap>::with_will(broker::Config::default(), WILL);
    world.nodes[node].addr.set_port(9);
    world.nodes[node].client.on_new_address(world.now);
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.broker.stats().sessions_moved, world.broker.stats().wills), (1, 1));
    world.nodes[node].client.suspend(world.now);
    world.run_for(Duration::from_secs(150));
    assert_eq!(world.published(watch), [WILL.payload]);
}
