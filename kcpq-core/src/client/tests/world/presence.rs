//! What the server says of its sessions, and to whom.

use super::*;
use crate::access::{Access, Group, Permissions, Rules};
use crate::broker::{Audience, Presence};

fn server(audience: Audience) -> broker::Config {
    broker::Config { presence: Presence { audience, ..Presence::default() }, ..broker::Config::default() }
}

fn named(name: &'static str) -> Config {
    Config { name, ..Config::default() }
}

impl<S: Make> World<S> {
    /// What a subscription has got, as text, and forgets it.
    fn heard(&mut self, node: usize, id: SubscriptionId) -> Vec<String> {
        let messages = self.nodes[node].log.messages.remove(&id).unwrap_or_default();
        let text = |payload: Vec<u8>| String::from_utf8(payload).unwrap();
        messages.into_iter().map(|(subject, payload)| [&subject, " ", &text(payload)].concat()).collect()
    }

    fn is_refused(&mut self, node: usize, pattern: &str) -> bool {
        let id = self.nodes[node].client.subscribe(self.now, pattern).unwrap();
        self.run_for(Duration::from_secs(1));
        let told = alloc::format!("SubscribeFailed {{ id: {id:?}, why: Refused(NotPermitted) }}");
        self.nodes[node].log.saw(&told) == 1
    }
}

fn sessions_come_and_go<S: Make>() {
    let mut world = World::<S>::new(server(Audience::Everybody));
    let watcher = world.add(named("watcher"), CLEAN);
    let all = world.subscribe(watcher, ">");
    let id = world.subscribe(watcher, "$KCPQ.>");
    let opened = world.subscribe(watcher, "$KCPQ.session.opened.*");
    world.run_for(Duration::from_secs(1));
    let own = "$KCPQ.session.subscribed.- {\"event\":\"subscribed\",\"cid\":\"0.1\",\"name\":\"watcher\",\"subject\":";
    let of = |subject: &str| [own, "\"", subject, "\"}"].concat();
    assert_eq!(world.heard(watcher, id), [of("$KCPQ.>"), of("$KCPQ.session.opened.*")], "its own as well");
    let node = world.add(named("a \"b\""), CLEAN);
    let sub = world.subscribe(node, "x.*");
    let now = world.now;
    world.nodes[node].client.unsubscribe(now, sub);
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    world.nodes[node].client.close(now);
    world.run_for(Duration::from_secs(1));
    let who = r#""cid":"1.2","name":"a \"b\"""#;
    let said =
        |event: &str, more: &str| alloc::format!("$KCPQ.session.{event}.- {{\"event\":\"{event}\",{who},{more}}}");
    let heard = world.heard(watcher, id);
    let expected = [
        said("opened", r#""kind":"native""#),
        said("subscribed", r#""subject":"x.*""#),
        said("unsubscribed", r#""subject":"x.*""#),
        said("closed", r#""reason":"client""#),
    ];
    assert_eq!(heard, expected, "although its SUB stands behind HELLO");
    assert_eq!(world.heard(watcher, opened), [said("opened", r#""kind":"native""#)]);
    assert!(world.heard(watcher, all).is_empty(), "a wildcard does not match it");
    assert_eq!(world.broker.stats().presence, 6);
}

#[test]
fn sessions_are_said_to_come_and_go_and_what_they_subscribe_to() {
    sessions_come_and_go::<Heap>();
    sessions_come_and_go::<Lent<'static>>();
}

fn nobody_else_publishes_there<S: Make>() {
    let mut world = World::<S>::new(server(Audience::Everybody));
    let (watcher, node) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(watcher, "$KCPQ.session.opened.*");
    let like = world.subscribe(watcher, "$KCPQR.x");
    world.heard(watcher, id);
    for subject in ["$KCPQ.session.opened.me", "$KCPQ", "$KCPQR.x"] {
        world.publish(node, subject, b"forged").unwrap();
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.heard(watcher, id).is_empty());
    assert_eq!(world.heard(watcher, like), ["$KCPQR.x forged"], "only the token itself");
    assert_eq!(world.broker.stats().messages_denied, 2);
    assert_eq!(world.nodes[node].log.saw("Denied(\"$KCPQ"), 2, "{:?}", world.nodes[node].log.events);
}

#[test]
fn nobody_else_publishes_where_the_server_does() {
    nobody_else_publishes_there::<Heap>();
    nobody_else_publishes_there::<Lent<'static>>();
}

#[test]
fn who_hears_of_sessions_has_to_be_permitted_to() {
    let mut world = World::<Heap>::new(server(Audience::Nobody));
    let node = world.add(Config::default(), CLEAN);
    assert!(world.is_refused(node, "$KCPQ.>") && !world.is_refused(node, "$KCPQx.>"));
    let mut world = World::<Heap>::new(server(Audience::Permitted));
    let node = world.add(Config::default(), CLEAN);
    assert!(world.is_refused(node, "$KCPQ.>"), "there are no rules");
    for (allow, deny, refused) in [
        (None, &[][..], true),
        (Some(&[">"][..]), &[], true),
        (Some(&[">", "$KCPQ.>"]), &[], false),
        (Some(&["$KCPQ.session.closed.*"]), &[], true),
        (Some(&["$KCPQ.>"]), &["$KCPQ.>"], true),
    ] {
        for audience in [Audience::Permitted, Audience::Everybody] {
            let permissions = Permissions { subscribe: Rules::of(allow, deny), ..Permissions::default() };
            let group = Group { name: "some".into(), permissions, ..Group::default() };
            let access = Access { groups: vec![group], anonymous: Some(0), ..Access::default() };
            let mut world = World::<Heap>::new(server(audience));
            world.broker.set_access(world.now, Some(&access)).unwrap();
            let node = world.add(Config::default(), CLEAN);
            let open = audience == Audience::Everybody && allow.is_none();
            assert_eq!(world.is_refused(node, "$KCPQ.>"), refused && !open, "{allow:?} {deny:?} {audience:?}");
        }
    }
}

#[test]
fn what_is_denied_of_it_is_withheld_and_new_rules_end_it() {
    let rules = |deny: &[&str]| {
        let permissions = Permissions { subscribe: Rules::of(Some(&["$KCPQ.>"]), deny), ..Permissions::default() };
        let group = Group { name: "some".into(), permissions, ..Group::default() };
        Access { groups: vec![group], anonymous: Some(0), ..Access::default() }
    };
    let mut world = World::<Heap>::new(server(Audience::Permitted));
    world.broker.set_access(world.now, Some(&rules(&["$KCPQ.session.subscribed.>"]))).unwrap();
    let watcher = world.add(Config::default(), CLEAN);
    let id = world.subscribe(watcher, "$KCPQ.>");
    world.run_for(Duration::from_secs(1));
    world.heard(watcher, id);
    world.add(Config::default(), CLEAN);
    world.run_for(Duration::from_secs(1));
    let heard = world.heard(watcher, id);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].starts_with("$KCPQ.session.opened.anonymous {"), "{heard:?}");
    assert!(heard[0].contains(r#""authorized_user":"anonymous""#), "{heard:?}");
    world.broker.set_access(world.now, None).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.broker.stats().subscriptions_ended, world.broker.stats().subscriptions), (1, 0));
}

#[test]
fn a_flood_of_sessions_is_no_flood_of_notices() {
    let presence = Presence { audience: Audience::Everybody, per_second: 5, addresses: true };
    let mut world = World::<Heap>::new(broker::Config { presence, ..broker::Config::default() });
    let watcher = world.add(Config::default(), CLEAN);
    let opened = world.subscribe(watcher, "$KCPQ.session.opened.>");
    let missed = world.subscribe(watcher, "$KCPQ.server.missed");
    world.run_for(Duration::from_secs(2));
    world.heard(watcher, opened);
    for _ in 0..20 {
        world.add(Config::default(), CLEAN);
    }
    world.run_for(Duration::from_secs(2));
    let heard = world.heard(watcher, opened);
    assert_eq!(heard.len(), 5, "{heard:?}");
    assert!(heard[0].ends_with(r#""ip":"192.0.2.1","port":5001}"#), "{heard:?}");
    assert_eq!(world.heard(watcher, missed), [r#"$KCPQ.server.missed {"event":"missed","count":15}"#]);
    assert_eq!(world.broker.stats().presence_missed, 15);
}

#[test]
fn a_session_that_is_gone_or_slow_is_said_to_be_so_with_the_reason() {
    let config = broker::Config { max_queued: 2_000, high_water: 1_000, ..server(Audience::Everybody) };
    let mut world = World::<Heap>::new(config);
    let (watcher, node) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    world.subscribe(node, "a");
    let slow = world.subscribe(watcher, "$KCPQ.session.slow.*");
    let closed = world.subscribe(watcher, "$KCPQ.session.closed.*");
    let now = world.now;
    world.nodes[node].client.suspend(now);
    for _ in 0..100 {
        world.publish(watcher, "a", &[0; 1_000]).unwrap();
        world.run_for(Duration::from_millis(20));
    }
    assert_eq!(world.heard(watcher, slow), [r#"$KCPQ.session.slow.- {"event":"slow","cid":"1.2","name":"kcpq"}"#]);
    world.run_for(Duration::from_secs(150));
    let heard = world.heard(watcher, closed);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(heard[0].contains(r#""reason":"idle"}"#) || heard[0].contains(r#""reason":"stalled"}"#), "{heard:?}");
}

#[test]
fn a_server_says_that_it_stops_and_that_it_is_back() {
    let mut world = World::<Heap>::new(server(Audience::Everybody));
    let watcher = world.add(Config::default(), CLEAN);
    let id = world.subscribe(watcher, "$KCPQ.server.*");
    let there = world.nodes[watcher].addr;
    world.restart(server(Audience::Everybody));
    world.broker.wait_for(world.now, [there]);
    world.nodes[watcher].client.reconnect(world.now);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.heard(watcher, id), [r#"$KCPQ.server.started {"event":"started","server_name":"kcpq"}"#]);
    world.broker.drain(world.now);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.heard(watcher, id), [r#"$KCPQ.server.stopping {"event":"stopping","server_name":"kcpq"}"#]);
}

/// Whoever opened sessions from forged addresses would be heard of.
#[test]
fn who_never_was_there_is_not_said_to_come_or_go() {
    let mut world = World::<Heap>::new(server(Audience::Everybody));
    let watcher = world.add(Config::default(), CLEAN);
    let id = world.subscribe(watcher, "$KCPQ.session.>");
    world.run_for(Duration::from_secs(1));
    world.heard(watcher, id);
    let lost = sim::Config { loss: 1.0, ..CLEAN };
    let forged = world.add(Config { reconnect: None, ..Config::default() }, CLEAN);
    world.nodes[forged].client.subscribe(world.now, "a").unwrap();
    world.nodes[forged].down = SimLink::new(lost, 1);
    world.run_for(Duration::from_secs(60));
    assert_eq!((world.broker.stats().half_open_sessions, world.broker.sessions()), (1, 1));
    assert!(world.heard(watcher, id).is_empty());
}
