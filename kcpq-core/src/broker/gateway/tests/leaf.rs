//! Servers that are leaf nodes: nobody carries what nobody wants.

use super::*;
use crate::access::Rules;
use crate::client::Confirmed;

fn leaf() -> Config {
    Config { leaf: true, ..Config::default() }
}

/// Servers that are leaf nodes, which are at the backbone.
fn leafs(servers: usize, brokers: usize, homes: &[(usize, usize)]) -> World {
    let mut world = World::with(servers, brokers, homes, &leaf());
    world.connect();
    world
}

impl World {
    /// The client of the backbone does not want anything any more.
    fn leave_there(&mut self) {
        let server = self.servers.len();
        self.backbone.subscriptions.retain(|own| own.server != server);
        self.run();
    }

    /// What leaf nodes have said that they want.
    fn wanted(&self) -> Vec<(&str, Option<&str>)> {
        let own = self.backbone.subscriptions.iter().filter(|own| !own.subject.starts_with("_INBOX."));
        own.map(|own| (&*own.subject, own.group.as_deref())).collect()
    }

    /// Messages of sessions of a server that did not get to its gateway.
    fn stayed(&self, server: usize) -> u64 {
        self.servers[server].brokers.iter().map(|broker| broker.stats().no_interest).sum()
    }
}

#[test]
fn what_nobody_there_wants_stays_at_home_and_what_somebody_wants_goes() {
    let mut world = leafs(2, 2, &[(0, 0), (0, 1), (1, 0)]);
    world.subscribe(1, "a.>");
    world.publish(0, "a.b", "1");
    assert_eq!((world.got(1), world.backbone.seen.len(), world.stayed(0)), (vec!["a.b=1".to_string()], 0, 1));
    // A session at another leaf node does, then a client of the backbone.
    let id = world.subscribe(2, "a.*");
    world.publish(0, "a.b", "2");
    world.publish(0, "a.b.c", "3");
    assert_eq!(world.got(2), ["a.b=2"]);
    assert_eq!((world.backbone.seen.len(), world.stayed(0)), (1, 2));
    world.subscribe_there(7, "*.b.>", None);
    world.run();
    world.publish(0, "a.b.c", "4");
    assert_eq!(world.got_there(), [("a.b.c".into(), "4".into(), None)]);
    // And not any more.
    world.ends[2].client.unsubscribe(world.now, id);
    world.leave_there();
    world.publish(0, "a.b", "5");
    world.publish(0, "a.b.c", "6");
    assert_eq!((world.backbone.seen.len(), world.stayed(0)), (2, 4));
    let stats = world.stats(0);
    assert_eq!((stats.messages_out, stats.no_interest), (2, 0), "what stays does not even get to the gateway");
    assert_eq!(world.got(1).len(), 5, "who is here got all of it");
}

#[test]
fn messages_that_come_together_stay_at_home_as_those_do_that_come_alone() {
    let mut world = leafs(1, 1, &[(0, 0), (0, 0)]);
    for (stayed, got) in [(3, 0), (6, 3), (9, 6)] {
        let client = &mut world.ends[0].client;
        (0..3).for_each(|_| client.publish(world.now, "a.b", b"1").unwrap());
        world.run();
        assert_eq!((world.stayed(0), world.got(1).len(), world.backbone.seen.len()), (stayed, got, 0));
        // As a member of a group, and then for itself as well.
        if stayed == 3 {
            world.join(1, "a.>", "workers");
        } else {
            world.subscribe(1, "a.>");
        }
    }
}

#[test]
fn each_message_comes_once_and_in_order_whatever_kind_a_server_is_of() {
    let homes = [(0, 0), (0, 1), (1, 0), (2, 1)];
    let mut world = World::mixed(&[true, false, true], 2, &homes, &Config::default());
    world.connect();
    for end in 0..4 {
        for pattern in ["a.*", "a.>"] {
            world.subscribe(end, pattern);
        }
    }
    for number in 0..10 {
        for end in 0..4 {
            world.publish(end, "a.b", &alloc::format!("{end}.{number}"));
        }
        world.publish_there("a.b", None, &[], &alloc::format!("9.{number}"));
    }
    for end in 0..4 {
        let got = world.got(end);
        assert_eq!(got.len(), 2 * 50, "end {end}");
        for from in [0, 1, 2, 3, 9] {
            let from = alloc::format!("a.b={from}.");
            let its: Vec<_> = got.iter().filter(|text| text.starts_with(&from)).collect();
            assert!(its.is_sorted() && its.len() == 20, "end {end}: {its:?}");
        }
    }
    assert_eq!((world.stats(0).messages_out, world.stats(0).messages_in), (20, 30));
}

#[test]
fn a_pattern_is_said_once_whatever_reasons_there_are_and_acknowledged_at_once() {
    let config = Config { import: ["a.>".into()].into(), ..leaf() };
    let mut world = World::with(1, 2, &[(0, 0), (0, 1)], &config);
    world.connect();
    // Three patterns, which are the same there.
    let ids = [(0, "a.>"), (1, ">"), (1, "*.>")].map(|(end, pattern)| (end, world.subscribe(end, pattern)));
    assert_eq!(world.wanted(), [("a.>", None)]);
    assert_eq!((world.ends[0].acknowledged.len(), world.ends[1].acknowledged.len()), (1, 2), "none waits for a timer");
    assert_eq!(world.stats(0).subscriptions, 1);
    for (end, id) in ids {
        assert_eq!(world.wanted().len(), 1);
        world.ends[end].client.unsubscribe(world.now, id);
        world.run();
    }
    assert_eq!((world.wanted().len(), world.stats(0).subscriptions), (0, 0));
}

#[test]
fn of_a_group_it_is_said_how_many_members_it_has() {
    let mut gateway = Gateway::new(leaf(), 2, 1).unwrap();
    gateway.on_connected(Instant::ZERO, 1_000);
    gateway.on_pong(Instant::ZERO, Channel::Main);
    while gateway.poll_order(Instant::ZERO).is_some() {}
    let mut weights = Vec::new();
    for (broker, count) in [(0, 1), (1, 2), (0, 3), (1, 0), (0, 3), (0, 0)] {
        gateway.handle_relay(Instant::ZERO, broker, Relay(Told::Members { text: "a g".into(), count }));
        while let Some(order) = gateway.poll_order(Instant::ZERO) {
            match order {
                Order::Want { weight, .. } => weights.push(weight),
                Order::Unwant { .. } => weights.push(0),
                Order::Ping { .. } => gateway.on_pong(Instant::ZERO, Channel::Main),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(weights, [1, 3, 5, 3, 0], "and nothing where nothing has changed");
}

#[test]
fn members_here_come_first_and_others_get_what_none_here_can() {
    let mut world = leafs(2, 2, &[(0, 0), (0, 1), (1, 0), (1, 1)]);
    world.join(1, "jobs.>", "workers");
    world.join(2, "jobs.*", "workers");
    world.join(3, "jobs.*", "auditors");
    world.subscribe_there(5, "jobs.a", Some("workers"));
    world.run();
    for number in 0..20 {
        world.publish(0, "jobs.a", &alloc::format!("{number}"));
    }
    assert_eq!(world.got(1), texts("jobs.a=", 20), "members of its own server");
    assert_eq!((world.got(2), world.got_there().len()), (Vec::<String>::new(), 0));
    assert_eq!(world.got(3), texts("jobs.a=", 20), "the other group has none there");
    // At the other server there is a member as well; from there it is its turn.
    world.publish(3, "jobs.a", "x");
    assert_eq!((world.got(1).len(), world.got(2), world.got(3)), (0, vec!["jobs.a=x".into()], vec!["jobs.a=x".into()]));
    // Who comes from elsewhere shares among all.
    for number in 0..60 {
        world.publish_there("jobs.a", None, &[], &alloc::format!("{number}"));
    }
    let mut all: Vec<_> = [1, 2].into_iter().flat_map(|end| world.got(end)).collect();
    assert!(all.len() > 10 && all.len() < 60, "{}", all.len());
    all.extend(world.got_there().into_iter().map(|(subject, text, _)| alloc::format!("{subject}={text}")));
    all.sort();
    let mut wanted = texts("jobs.a=", 60);
    wanted.sort();
    assert_eq!((all, world.got(3).len()), (wanted, 60));
}

#[test]
fn a_message_is_for_members_and_others_as_it_says() {
    let mut world = leafs(1, 1, &[(0, 0), (0, 0)]);
    let member = world.join(0, "a", "g");
    let plain = world.subscribe(1, "a");
    let tell = |world: &mut World, groups: &str, text: &str| {
        let gateway = &mut world.servers[0].gateway;
        let (subject, payload) = ("a", text.as_bytes());
        let incoming =
            Incoming { on: Channel::Main, sid: 0, subject, reply: None, headers: &[], status: None, payload };
        gateway.handle_routed(world.now, &incoming, groups);
        world.run();
    };
    tell(&mut world, "", "1");
    tell(&mut world, "other g", "2");
    tell(&mut world, "other", "3");
    let got = |world: &mut World, end: usize| {
        let got = core::mem::take(&mut world.ends[end].got);
        got.into_iter().map(|(id, _, text)| (id, text)).collect::<Vec<_>>()
    };
    assert_eq!(got(&mut world, 0), [(member, "2".into())]);
    assert_eq!(got(&mut world, 1), ["1", "2", "3"].map(|text| (plain, text.into())));
    assert_eq!((world.stats(0).messages_in, world.stats(0).unwanted), (3, 0));
    world.ends[1].client.unsubscribe(world.now, plain);
    world.run();
    tell(&mut world, "", "4");
    assert_eq!((world.got(0).len(), world.stats(0).unwanted), (0, 1), "it is for no member");
}

#[test]
fn who_asks_hears_without_a_round_trip_that_nobody_is_there() {
    let mut world = leafs(2, 2, &[(0, 0), (0, 1), (1, 1)]);
    world.backbone.is_away = true;
    world.request(0, "ask.me");
    assert_eq!((world.ends[0].answers.clone(), world.backbone.seen.len()), (vec!["NoResponders".to_string()], 0));
    world.backbone.is_away = false;
    world.subscribe(2, "ask.me");
    world.request(0, "ask.me");
    let reply = world.ends[2].last.1.clone().unwrap();
    world.publish(2, &reply, "here");
    assert_eq!(world.ends[0].answers, ["NoResponders", "here"]);
    // Clients of the backbone answer, and ask; answers are wanted, or go nowhere.
    world.subscribe_there(7, "ask.nats", Some("services"));
    world.run();
    world.request(0, "ask.nats");
    let (_, _, reply) = world.got_there().pop().unwrap();
    world.publish_there(&reply.unwrap(), None, &[], "from there");
    assert_eq!(world.ends[0].answers.last().unwrap(), "from there");
    world.subscribe_there(8, "_INBOX.theirs.*", None);
    world.run();
    world.publish_there("ask.me", Some("_INBOX.theirs.1"), &[], "?");
    let reply = world.ends[2].last.1.clone().unwrap();
    world.publish(2, &reply, "to there");
    assert_eq!(world.got_there(), [("_INBOX.theirs.1".into(), "to there".into(), None)]);
    world.leave_there();
    let seen = world.backbone.seen.len();
    world.publish(2, &reply, "too late");
    assert_eq!((world.backbone.seen.len(), world.stats(1).no_interest), (seen, 1));
}

#[test]
fn what_waited_goes_to_who_wants_it_then_and_to_no_group_that_has_had_it() {
    let mut world = World::with(2, 1, &[(0, 0), (0, 0), (1, 0), (1, 0)], &leaf());
    world.join(1, "jobs", "workers");
    world.join(2, "jobs", "workers");
    world.join(3, "jobs", "auditors");
    world.subscribe(3, "news");
    for subject in ["jobs", "news", "other"] {
        world.publish(0, subject, "before");
    }
    world.request(0, "ask.nobody");
    assert_eq!((world.got(1), world.ends[0].answers.len()), (vec!["jobs=before".to_string()], 1));
    assert_eq!(world.stats(0).waiting, 3, "while it is not known what is wanted all waits");
    world.connect();
    assert_eq!(world.got(2), [""; 0], "its group has had it");
    assert_eq!(world.got(3), ["jobs=before", "news=before"]);
    let stats = world.stats(0);
    assert_eq!((stats.messages_out, stats.no_interest, stats.waiting), (2, 1, 0), "nobody wants the other");
    // Lost and back: what it wanted is forgotten, and said again.
    assert!(stats.wants > 0);
    world.lose(0);
    assert_eq!(world.stats(0).wants, 0);
    world.publish(0, "news", "meanwhile");
    world.publish(0, "other", "meanwhile");
    world.attach(0);
    world.run();
    world.publish(0, "other", "held");
    world.pass(HOLDS_FOR);
    assert_eq!(world.got(3), ["news=meanwhile"]);
    let stayed = world.stayed(0);
    world.publish(0, "other", "after");
    assert_eq!((world.stats(0).no_interest, world.stayed(0)), (3, stayed + 1));
    assert_eq!(world.stats(0).in_doubt, 2, "no ping has confirmed them");
}

#[test]
fn subjects_have_a_prefix_there_and_only_what_is_named_crosses() {
    let config = Config {
        export: ["out.>".into(), "both.>".into()].into(),
        import: ["in.>".into(), "both.>".into()].into(),
        prefix: "site".into(),
        ..leaf()
    };
    let mut world = World::with(1, 2, &[(0, 0), (0, 1)], &config);
    world.connect();
    world.subscribe(1, ">");
    assert_eq!(world.wanted(), [("site.in.>", None), ("site.both.>", None)]);
    world.subscribe_there(1, "site.*.a", None);
    world.run();
    for subject in ["out.a", "in.a", "both.a", "other", "out.b"] {
        world.publish(0, subject, "1");
    }
    let seen: Vec<_> = world.backbone.seen.iter().map(|(subject, ..)| subject.clone()).collect();
    assert_eq!(seen, ["site.out.a", "site.both.a"]);
    assert_eq!(world.stayed(0), 3);
    world.got(1);
    for subject in ["site.in.a", "site.both.a", "site.out.a", "in.a", "site.$KCPQ.sessions"] {
        world.publish_there(subject, None, &[], "2");
    }
    assert_eq!(world.got(1), ["in.a=2", "both.a=2"]);
}

#[test]
fn what_is_not_permitted_is_neither_said_nor_published() {
    let mut world = World::with(1, 1, &[(0, 0), (0, 0)], &leaf());
    let publish = Rules::of(Some(&["out.>", "_INBOX.>"]), &["out.secret"]);
    let subscribe = Rules::of(Some(&["in.>", "_INBOX.>"]), &[]);
    world.servers[0].gateway.set_permissions(&publish, &subscribe).unwrap();
    world.connect();
    world.subscribe(1, "in.a");
    world.subscribe(1, "private");
    world.join(1, "private.>", "g");
    assert_eq!(world.wanted(), [("in.a", None)]);
    assert_eq!(world.ends[1].acknowledged.len(), 3, "here they have it");
    let gateway = &mut world.servers[0].gateway;
    let denied: Vec<_> = core::iter::from_fn(|| gateway.poll_denied()).collect();
    assert_eq!(denied, ["private".into(), Box::from("private.>")]);
    assert_eq!(world.stats(0).patterns_refused, 2);
    world.subscribe_there(1, ">", None);
    world.run();
    for subject in ["out.a", "out.secret", "other"] {
        world.publish(0, subject, "1");
    }
    assert_eq!(world.got_there(), [("out.a".into(), "1".into(), None)]);
    assert_eq!(world.stats(0).dropped_denied, 2);
    assert!(world.servers[0].gateway.set_permissions(&Rules::of(Some(&["a..b"]), &[]), &Rules::of(None, &[])).is_err());
    // The next connection says its own.
    world.disconnect();
    world.connect();
    assert_eq!(world.wanted().len(), 3);
}

#[test]
fn who_says_too_much_gets_all() {
    let mut world = leafs(1, 1, &[(0, 0)]);
    world.publish(0, "a", "1");
    for stars in 0..1_024_u32 {
        let tokens: Vec<_> = (0..12).map(|place| if stars >> place & 1 == 1 { "*" } else { "x" }).collect();
        world.servers[0].gateway.handle_interest(world.now, &tokens.join("."), None, true);
    }
    world.run();
    world.publish(0, "a", "2");
    let stats = world.stats(0);
    assert!(stats.wants_refused > 0 && stats.wants > 0, "{stats:?}");
    assert_eq!((world.backbone.seen.len(), world.stayed(0)), (1, 1));
    // Another connection may say less.
    world.disconnect();
    world.connect();
    world.publish(0, "a", "3");
    assert_eq!((world.backbone.seen.len(), world.stayed(0)), (1, 2));
}

#[test]
fn what_is_to_be_stored_is_as_soon_as_somebody_stores_it() {
    const LONG: Confirmed<'_> = Confirmed {
        properties: frame::Properties::NONE,
        ttl: None,
        within: Duration::from_secs(600),
        lane: Lane::NORMAL,
    };
    let config = Config { store: ["ruled.>".into()].into(), ..leaf() };
    let mut world = World::with(2, 2, &[(0, 0), (0, 1), (1, 0)], &config);
    world.connect();
    world.join(1, "orders.>", "workers");
    world.join(2, "orders.>", "workers");
    world.subscribe(2, "orders.>");
    let store = |world: &mut World, subject: &str| {
        world.ends[0].client.publish_stored(world.now, subject, b"1", "", &LONG).unwrap();
        world.run();
        (0..8).for_each(|_| world.pass(Duration::from_millis(250)));
        core::mem::take(&mut world.ends[0].stored)
    };
    // Nobody, so nothing is handed over, and who waits is told after some attempts.
    assert_eq!(store(&mut world, "else"), ["NoStream"]);
    world.publish(0, "ruled.a", "2");
    assert_eq!((world.backbone.seen.len(), world.stats(0).storing), (0, 1));
    for pattern in ["orders.>", "ruled.>"] {
        world.backbone.streams.push(Stream::of(pattern));
    }
    world.run();
    (0..40).for_each(|_| world.pass(Duration::from_millis(250)));
    assert_eq!(world.stats(0).storing, 0, "by rule it is kept until somebody does");
    assert_eq!(store(&mut world, "orders.new"), ["1"]);
    assert_eq!((world.got(1), world.got(2)), (vec!["orders.new=1".to_string()], vec!["orders.new=1".to_string()]));
    let headers = &world.backbone.seen.last().unwrap().3;
    assert!(headers.iter().all(|(name, _)| name != "Kcpq-Again"), "which groups have it is not said by a header");
    let stats = world.stats(0);
    assert_eq!((stats.stored, stats.store_no_stream, stats.messages_out, stats.store_repeats), (2, 1, 2, 0));
}

#[test]
fn what_a_hub_hands_on_after_it_hung_does_not_come_back_to_who_gave_it() {
    let mut world = leafs(2, 1, &[(0, 0), (0, 0), (1, 0)]);
    world.subscribe(1, "a");
    world.subscribe(2, "a");
    world.pass(PING_EVERY);
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
    world.attach(0);
    world.pass(HOLDS_FOR);
    world.got(1);
    for text in ["1", "1", "1", "2", "3"] {
        world.publish_there("a", None, &[], text);
    }
    assert_eq!(world.got(1), ["a=1", "a=3"], "each once more that was not known to be there");
    assert_eq!(world.stats(0).returned, 3);
}
