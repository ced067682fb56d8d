//! Clients that may not do everything, and rules that change while they are there.

use super::*;
use crate::access::{Access, Credential, Group, Limits, Permissions, Proof, Rules};
use crate::broker::SessionId;

fn rules(publish: Rules, subscribe: Rules) -> Access {
    limited(publish, subscribe, Limits::default())
}

fn limited(publish: Rules, subscribe: Rules, limits: Limits) -> Access {
    let group = Group { name: "some".into(), permissions: Permissions { publish, subscribe }, limits };
    Access { groups: vec![group], anonymous: Some(0), ..Access::default() }
}

impl<S: Make> World<S> {
    fn with_rules(access: &Access) -> Self {
        let mut world = Self::new(broker::Config::default());
        world.set(access);
        world
    }

    fn set(&mut self, access: &Access) {
        self.broker.set_access(self.now, Some(access)).unwrap();
    }

    fn asks_for(&mut self, node: usize, pattern: &str) -> SubscriptionId {
        let id = self.nodes[node].client.subscribe(self.now, pattern).unwrap();
        self.run_for(Duration::from_secs(1));
        id
    }

    fn publishes(&mut self, node: usize, subject: &str, payload: &[u8]) {
        self.publish(node, subject, payload).unwrap();
        self.run_for(Duration::from_millis(100));
    }
}

fn failed(id: SubscriptionId) -> String {
    alloc::format!("SubscribeFailed {{ id: {id:?}, why: Refused(NotPermitted) }}")
}

fn denied_messages_cost_themselves_only<S: Make>() {
    let mut world = World::<S>::with_rules(&rules(Rules::of(Some(&["open.>"]), &["open.secret"]), Rules::default()));
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(sub, ">");
    for n in 0..3_u8 {
        for subject in ["open.a", "other", "open.secret"] {
            world.publish(publisher, subject, &[n]).unwrap();
        }
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.nodes[sub].log.payloads(id), [[0], [1], [2]]);
    assert_eq!(world.broker.stats().messages_denied, 6);
    let log = &world.nodes[publisher].log;
    assert_eq!((log.saw("Denied(\"other\")"), log.saw("Denied(\"open.secret\")")), (1, 1), "{:?}", log.events);
    assert_eq!((log.saw("Disconnected"), log.saw("Refused")), (0, 0), "the session goes on");
    // After a while it is told again.
    world.run_for(Duration::from_secs(10));
    world.publishes(publisher, "other", b"");
    assert_eq!(world.nodes[publisher].log.saw("Denied(\"other\")"), 2);
}

#[test]
fn denied_messages_are_dropped_and_told_of_and_the_session_lives() {
    denied_messages_cost_themselves_only::<Heap>();
    denied_messages_cost_themselves_only::<Lent<'static>>();
}

#[test]
fn who_goes_through_all_subjects_is_told_of_a_few() {
    let mut world = World::<Heap>::with_rules(&rules(Rules::of(Some(&[]), &[]), Rules::default()));
    let node = world.add(Config::default(), CLEAN);
    for n in 0..200 {
        world.publish(node, &alloc::format!("a.{n}"), b"").unwrap();
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.broker.stats().messages_denied, world.nodes[node].log.saw("Denied(")), (200, 16));
}

fn a_subscription_is_within_what_is_allowed<S: Make>() {
    let mut world =
        World::<S>::with_rules(&rules(Rules::default(), Rules::of(Some(&["a.*", "a.*.>"]), &["a.secret.>"])));
    let node = world.add(Config::default(), CLEAN);
    for pattern in [">", "*", "b", "a.secret.*"] {
        let id = world.asks_for(node, pattern);
        assert_eq!(world.nodes[node].log.saw(&failed(id)), 1, "{pattern}: {:?}", world.nodes[node].log.events);
    }
    assert_eq!((world.broker.stats().subscriptions, world.broker.stats().subscriptions_refused), (0, 4));
    // What is denied of it is not delivered, also to who publishes it.
    let id = world.subscribe(node, "a.>");
    for subject in ["a.secret", "a.secret.key", "a.b.c", "b"] {
        world.publishes(node, subject, subject.as_bytes());
    }
    assert_eq!(world.nodes[node].log.payloads(id), [&b"a.secret"[..], b"a.b.c"]);
    assert_eq!(world.broker.stats().messages_withheld, 1);
}

#[test]
fn a_subscription_is_refused_beyond_what_is_allowed_and_filtered_where_denied() {
    a_subscription_is_within_what_is_allowed::<Heap>();
    a_subscription_is_within_what_is_allowed::<Lent<'static>>();
}

fn new_rules_hold_at_once<S: Make>() {
    let mut world = World::<S>::new(broker::Config::default());
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let (all, one) = (world.subscribe(sub, ">"), world.subscribe(sub, "a.b"));
    world.publishes(publisher, "b", b"before");
    // What was subscribed before there were any rules.
    world.set(&rules(Rules::of(None, &["b"]), Rules::of(Some(&["a.>"]), &[])));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[sub].log.saw(&failed(all)), 1, "{:?}", world.nodes[sub].log.events);
    assert_eq!(world.nodes[sub].log.saw(&failed(one)), 0);
    assert_eq!((world.broker.stats().subscriptions, world.broker.stats().subscriptions_ended), (1, 1));
    world.publishes(publisher, "b", b"denied");
    world.publishes(publisher, "a.b", b"after");
    assert_eq!(world.nodes[publisher].log.saw("Denied(\"b\")"), 1);
    assert_eq!(world.nodes[sub].log.payloads(all), [b"before"]);
    assert_eq!(world.nodes[sub].log.payloads(one), [b"after"]);
    // And what it may do again it can ask for again.
    world.set(&rules(Rules::default(), Rules::of(None, &["a.*"])));
    let again = world.subscribe(sub, ">");
    assert_eq!(world.nodes[sub].log.saw(&failed(one)), 1, "all of it is denied now");
    for (subject, payload) in [("b", b"1"), ("a.b", b"2")] {
        world.publishes(publisher, subject, payload);
    }
    assert_eq!(world.nodes[sub].log.payloads(again), [b"1"]);
    world.broker.set_access(world.now, None).unwrap();
    world.publishes(publisher, "a.b", b"3");
    assert_eq!(world.nodes[sub].log.payloads(again), [b"1", b"3"]);
    assert_eq!(world.nodes[sub].log.saw("Disconnected") + world.nodes[publisher].log.saw("Disconnected"), 0);
}

#[test]
fn new_rules_hold_at_once_for_those_who_are_there() {
    new_rules_hold_at_once::<Heap>();
    new_rules_hold_at_once::<Lent<'static>>();
}

#[test]
fn who_is_not_let_in_is_told_so() {
    let mut world = World::<Heap>::with_rules(&Access::default());
    let node = world.add(Config::default(), CLEAN);
    let told = "Disconnected { why: ByServer(Denied)";
    world.run_until("news", |world| world.nodes[node].log.saw(told) > 0);
    assert_eq!(world.nodes[node].log.saw("Connected"), 0);
    // It asks again, and is let in when it may.
    world.set(&Access::open());
    world.run_until("a connection", |world| world.nodes[node].log.saw("Connected") > 0);
    world.set(&Access::default());
    world.run_until("the end", |world| world.nodes[node].log.saw(told) > 1);
    assert!(world.broker.stats().sessions_denied >= 2);
    world.run_for(Duration::from_millis(300));
    assert_eq!((world.broker.sessions(), world.broker.stats().native_sessions), (0, 0));
}

#[test]
fn an_identity_has_its_limits() {
    let limits = Limits { sessions: Some(2), subscriptions: Some(3), ..Limits::default() };
    let mut world = World::<Heap>::with_rules(&limited(Rules::default(), Rules::default(), limits));
    let nodes: Vec<usize> = (0..2).map(|_| world.add(Config::default(), CLEAN)).collect();
    for pattern in ["a", "b", "c"] {
        world.subscribe(nodes[0], pattern);
    }
    world.asks_for(nodes[0], "d");
    assert_eq!(world.nodes[nodes[0]].log.saw("SubscribeFailed"), 1);
    world.run_until("both", |world| world.nodes[nodes[1]].log.saw("Connected") > 0);
    let third = world.add(Config::default(), CLEAN);
    world.run_until("news", |world| world.nodes[third].log.saw("Disconnected { why: ByServer(Limit)") > 0);
    let now = world.now;
    world.nodes[nodes[1]].client.close(now);
    world.run_until("its turn", |world| world.nodes[third].log.saw("Connected") > 0);
    assert_eq!(world.nodes[nodes[0]].log.saw("Disconnected"), 0);
}

#[test]
fn what_is_published_beyond_a_rate_is_dropped_and_told_of() {
    let limits = Limits { bytes_per_second: Some(10_000), ..Limits::default() };
    let mut world = World::<Heap>::with_rules(&limited(Rules::default(), Rules::default(), limits));
    let (sub, publisher) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(sub, "a");
    for n in 0..50_u8 {
        world.publish(publisher, "a", &[n; 992]).unwrap(); // and 8 bytes of frame
    }
    world.run_for(Duration::from_millis(100));
    // A second's worth, and the message that begins before it is over.
    let got: Vec<u8> = world.nodes[sub].log.payloads(id).iter().map(|payload| payload[0]).collect();
    assert_eq!((got, world.broker.stats().dropped_excess), ((0..=10).collect(), 39));
    assert_eq!(world.nodes[publisher].log.saw("Refused(\"more than 10000 bytes in a second"), 1);
    assert_eq!(world.nodes[publisher].log.saw("Disconnected"), 0);
    // Later the next, however long it is, and nothing behind it for as long as it takes.
    world.run_for(Duration::from_secs(10));
    world.publish(publisher, "a", &[100; 99_992]).unwrap();
    world.publish(publisher, "a", b"at once").unwrap();
    world.run_for(Duration::from_millis(100));
    assert_eq!((world.nodes[sub].log.payloads(id).len(), world.broker.stats().dropped_excess), (12, 40));
    world.run_for(Duration::from_secs(10));
    world.publishes(publisher, "a", b"later");
    assert_eq!(world.nodes[sub].log.payloads(id).last(), Some(&&b"later"[..]));
}

#[test]
fn a_queue_of_an_identity_holds_no_more_than_it_may() {
    let limits = Limits { queued: Some(20_000), ..Limits::default() };
    let mut world = World::<Heap>::with_rules(&limited(Rules::default(), Rules::default(), limits));
    let narrow = sim::Config { bandwidth: Some(1_000), ..CLEAN };
    let (sub, publisher) = (world.add(Config::default(), narrow), world.add(Config::default(), CLEAN));
    world.subscribe(sub, "a");
    for n in 0..100_u8 {
        world.publishes(publisher, "a", &[n; 1_000]);
        assert!(world.broker.stats().queued <= 20_000 + 2_000, "{}", world.broker.stats().queued);
    }
    assert!(world.broker.stats().dropped_slow > 0);
}

#[test]
fn a_key_decides_who_somebody_is() {
    let key = [7; 32];
    let mut access = rules(Rules::of(Some(&[]), &[]), Rules::default());
    access.groups.push(Group { name: "own".into(), ..Group::default() });
    access.clients.push(crate::access::Client { name: "kitchen".into(), proof: Proof::Key(key), group: 1 });
    let mut world = World::<Heap>::with_rules(&access);
    let (sub, node) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    let id = world.subscribe(sub, "a");
    world.publishes(node, "a", b"as anybody");
    assert!(world.broker.lets_in(&Credential::Key(key)) && !world.broker.lets_in(&Credential::Key([8; 32])));
    // As a handshake does; here for a session that is there.
    let session = SessionId::of(1, 2);
    assert_eq!(world.broker.identity(session), Some("anonymous"));
    assert!(world.broker.identify(world.now, session, Credential::Key(key)));
    assert_eq!(world.broker.identity(session), Some("kitchen"));
    world.publishes(node, "a", b"as itself");
    assert_eq!(world.nodes[sub].log.payloads(id), [b"as itself"]);
    // Whoever becomes somebody else leaves a place, and whoever goes leaves its own.
    access.groups[0].limits.sessions = Some(2);
    world.set(&access);
    let third = world.add(Config::default(), CLEAN);
    world.run_until("its place", |world| world.nodes[third].log.saw("Connected") > 0);
    let fourth = world.add(Config::default(), CLEAN);
    world.run_until("no place", |world| world.nodes[fourth].log.saw("Disconnected { why: ByServer(Limit)") > 0);
    // It stays who it is when the rules change, and goes when it is not known any more.
    access.groups[1].permissions.publish = Rules::of(None, &["a"]);
    world.set(&access);
    world.publishes(node, "a", b"not any more");
    assert_eq!(world.nodes[sub].log.payloads(id).len(), 1);
    access.clients.clear();
    world.set(&access);
    world.run_until("the end", |world| world.nodes[node].log.saw("Disconnected { why: ByServer(Denied)") > 0);
    assert_eq!(world.nodes[sub].log.saw("Disconnected") + world.nodes[third].log.saw("Disconnected"), 0);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.broker.sessions(), 2, "as many as may be there");
}

#[test]
fn who_is_on_the_servers_machine_may_do_what_others_may_not_as_long_as_it_stays_there() {
    let own = |index: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, 9_000 + index as u16));
    let mut access = Access { anonymous: None, local: Some(0), ..rules(Rules::default(), Rules::default()) };
    let mut world = World::<Heap>::with_rules(&access);
    let (local, other) = (world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN));
    world.nodes[local].addr = own(local);
    let told = "Disconnected { why: ByServer(Denied)";
    world.run_until("it is told", |world| world.nodes[other].log.saw(told) > 0);
    let id = world.subscribe(local, "a");
    world.publishes(local, "a", b"1");
    assert_eq!(world.nodes[local].log.payloads(id), [b"1"]);
    // Rules that make no difference of it let it stay as one of the others, and the other way round.
    access.anonymous = access.local.take();
    world.set(&access);
    world.publishes(local, "a", b"2");
    (access.anonymous, access.local) = (None, Some(0));
    world.set(&access);
    world.publishes(local, "a", b"3");
    assert_eq!(world.nodes[local].log.payloads(id), [b"1", b"2", b"3"]);
    assert_eq!(world.nodes[local].log.saw("Disconnected"), 0);
    // Elsewhere it is not what it was here.
    world.nodes[local].addr = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 1));
    world.publishes(local, "a", b"4");
    world.run_for(Duration::from_secs(5));
    assert_eq!((world.broker.stats().sessions_moved, world.nodes[local].log.payloads(id).len()), (0, 3));
}

#[test]
fn who_has_been_elsewhere_is_not_on_the_servers_machine_any_more() {
    let mut access = rules(Rules::default(), Rules::default());
    let mut world = World::<Heap>::with_rules(&access);
    let node = world.add(Config::default(), CLEAN);
    world.nodes[node].addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9_000));
    let id = world.subscribe(node, "a");
    world.nodes[node].addr = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 1));
    world.publishes(node, "a", b"1");
    world.run_until("it moves", |world| world.broker.stats().sessions_moved == 1);
    world.run_until("it goes on", |world| world.nodes[node].log.payloads(id).len() == 1);
    (access.anonymous, access.local) = (None, Some(0));
    world.set(&access);
    world.run_until("the end", |world| world.nodes[node].log.saw("Disconnected { why: ByServer(Denied)") > 0);
}

#[test]
fn rules_that_make_no_sense_change_nothing() {
    let mut world = World::<Heap>::with_rules(&rules(Rules::of(None, &["b"]), Rules::default()));
    let node = world.add(Config::default(), CLEAN);
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    let mut broken = rules(Rules::of(Some(&["a..b"]), &[]), Rules::default());
    let error = world.broker.set_access(now, Some(&broken)).unwrap_err();
    assert_eq!(alloc::format!("{error}"), "group 'some': pattern 'a..b': invalid subject: empty token at byte 2");
    broken.groups.clear();
    let error = world.broker.set_access(now, Some(&broken)).unwrap_err();
    assert_eq!(alloc::format!("{error}"), "the group of 'anonymous' does not exist");
    world.publishes(node, "b", b"");
    assert_eq!(world.broker.stats().messages_denied, 1);
}
