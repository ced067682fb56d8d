//! What crosses, what it is called there, and what is asked for.

use super::*;

#[test]
fn whoever_subscribes_anywhere_gets_each_message_once_and_in_order() {
    let mut world = World::new(3, 2, &[(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]);
    world.connect();
    // Overlapping patterns, at all of them.
    for end in 0..5 {
        for pattern in ["a.*", "a.>", ">"] {
            world.subscribe(end, pattern);
        }
    }
    assert_eq!(
        world.backbone.subscriptions.len(),
        3 * (3 + 2),
        "each pattern once for each server, answers and receipts"
    );
    for number in 0..10 {
        for end in 0..5 {
            world.publish(end, "a.b", &alloc::format!("{end}.{number}"));
        }
        world.publish_there("a.b", None, &[], &alloc::format!("9.{number}"));
    }
    for end in 0..5 {
        assert_eq!(world.ends[end].acknowledged.len(), 3);
        let got = world.got(end);
        for from in [0, 1, 2, 3, 4, 9] {
            // Once for each of its three subscriptions.
            let wanted: Vec<_> = texts(&alloc::format!("a.b={from}."), 10)
                .into_iter()
                .flat_map(|text| [text.clone(), text.clone(), text])
                .collect();
            let from = alloc::format!("a.b={from}.");
            let its: Vec<_> = got.iter().filter(|text| text.starts_with(&from)).cloned().collect();
            assert_eq!(its, wanted, "end {end}");
        }
    }
    let stats = world.stats(0);
    assert_eq!((stats.messages_out, stats.messages_in, stats.joined), (20, 40, 1));
    // When one of them is gone, too.
    let id = world.ends[0].acknowledged[0];
    world.ends[0].client.unsubscribe(world.now, id);
    world.run();
    world.publish_there("a.b", None, &[], "after");
    assert_eq!(world.got(0).len(), 2);
}

#[test]
fn what_the_backbone_has_sent_before_it_hears_that_a_server_stops_is_handed_on() {
    let mut world = World::new(1, 1, &[(0, 0), (0, 0)]);
    world.connect();
    let before = world.backbone.subscriptions.len();
    world.subscribe(0, "a");
    world.join(1, "a", "workers");
    world.servers[0].gateway.drain();
    // It is on its way when the backbone hears that.
    world.backbone.publish(None, ("a", None), None, &[], b"sent");
    let sent = core::mem::take(&mut world.backbone.sent[0]);
    world.run();
    world.backbone.sent[0].extend(sent);
    world.run();
    assert_eq!((world.got(0), world.got(1)), (vec!["a=sent".into()], vec!["a=sent".into()]));
    assert_eq!(world.backbone.subscriptions.len(), before, "those for answers and receipts");
    world.publish_there("a", None, &[], "afterwards");
    assert_eq!((world.got(0).len(), world.got(1).len(), world.stats(0).unwanted), (0, 0, 0));
}

#[test]
fn a_pattern_is_wanted_as_long_as_any_thread_has_it() {
    for first in [0, 1] {
        let mut world = World::new(1, 2, &[(0, first), (0, 1 - first)]);
        world.connect();
        world.subscribe(0, "a");
        let id = world.subscribe(1, "a");
        world.ends[1].client.unsubscribe(world.now, id);
        world.run();
        world.publish_there("a", None, &[], "x");
        assert_eq!((world.got(0).len(), world.got(1).len()), (1, 0), "thread {first} began");
    }
}

#[test]
fn a_pattern_is_asked_for_once_and_given_back_when_nobody_has_it() {
    let mut world = World::new(1, 2, &[(0, 0), (0, 1), (0, 0)]);
    world.connect();
    let before = world.backbone.subscriptions.len();
    let ids = [0, 1, 2].map(|end| world.subscribe(end, "x.>"));
    assert_eq!(world.backbone.subscriptions.len(), before + 1);
    for (end, id) in ids.into_iter().enumerate() {
        assert_eq!(world.backbone.subscriptions.len(), before + 1);
        world.ends[end].client.unsubscribe(world.now, id);
        world.run();
    }
    assert_eq!(world.backbone.subscriptions.len(), before);
    assert_eq!(world.stats(0).subscriptions, 0);
    // What is the server's own, and where only one client expects answers, is not asked for at all.
    world.subscribe(0, "_INBOX.mine.*");
    assert_eq!(world.backbone.subscriptions.len(), before);
}

#[test]
fn a_subscription_is_acknowledged_when_the_backbone_has_it_or_is_not_there() {
    let mut world = World::new(1, 2, &[(0, 0), (0, 1)]);
    world.subscribe(0, "early");
    assert_eq!(world.ends[0].acknowledged.len(), 1, "there is no backbone");
    world.connect();
    // It has heard nothing yet.
    let mut held = Vec::new();
    world.ends[1].client.subscribe(world.now, "late").unwrap();
    let mut buf = vec![0; 60_000];
    for _ in 0..20 {
        let end = &mut world.ends[1];
        while let Some(len) = end.client.poll_transmit(world.now, &mut buf) {
            world.servers[0].brokers[1].handle_datagram(world.now, addr(1), &mut buf[..len]);
        }
        world.turn(0, &mut buf);
        held.extend(world.backbone.sent[0].drain(..));
    }
    assert!(held.iter().any(|sent| matches!(sent, Sent::Pong(Channel::Main))));
    while world.ends[1].client.poll_event().is_some_and(|event| !matches!(event, Event::Subscribed(_))) {}
    assert!(world.ends[1].acknowledged.is_empty(), "the backbone has not confirmed it");
    world.backbone.sent[0].extend(held);
    world.run();
    assert_eq!(world.ends[1].acknowledged.len(), 1);
}

#[test]
fn requests_are_answered_from_anywhere_and_who_asks_hears_that_nobody_is_there() {
    let mut world = World::new(2, 2, &[(0, 0), (0, 1), (1, 1)]);
    world.connect();
    // Nobody, anywhere.
    world.request(0, "ask.me");
    assert_eq!(world.ends[0].answers, ["NoResponders"]);
    // At another server.
    world.subscribe(2, "ask.me");
    world.request(0, "ask.me");
    assert_eq!(world.got(2), ["ask.me=?"]);
    let reply = world.ends[2].last.1.clone().unwrap();
    assert!(reply.starts_with("_INBOX."), "{reply}");
    world.publish(2, &reply, "here");
    assert_eq!(world.ends[0].answers, ["NoResponders", "here"]);
    // At this one: what the backbone says of nobody is of no interest, and the answer does not leave it.
    world.subscribe(1, "local.only");
    let seen = world.backbone.seen.len();
    world.request(0, "local.only");
    let reply = world.ends[1].last.1.clone().unwrap();
    world.publish(1, &reply, "local");
    assert_eq!(world.ends[0].answers, ["NoResponders", "here", "local"]);
    assert_eq!(world.backbone.seen.len(), seen + 1);
    // A client of the backbone answers, and asks.
    world.subscribe_there(7, "ask.nats", None);
    world.request(0, "ask.nats");
    let (_, _, reply) = world.got_there().pop().unwrap();
    world.publish_there(&reply.unwrap(), None, &[], "from there");
    assert_eq!(world.ends[0].answers.last().unwrap(), "from there");
    world.subscribe_there(8, "_INBOX.theirs.>", None);
    world.publish_there("ask.me", Some("_INBOX.theirs.1"), &[], "?");
    let reply = world.ends[2].last.1.clone().unwrap();
    world.publish(2, &reply, "to there");
    assert_eq!(world.got_there(), [("_INBOX.theirs.1".into(), "to there".into(), None)]);
    assert_eq!(world.stats(0).nobody, 1);
}

#[test]
fn nobody_gets_at_the_answers_of_others() {
    let mut world = World::new(2, 1, &[(0, 0), (1, 0), (1, 0)]);
    world.connect();
    let watcher = 2;
    for pattern in [">", "_INBOX.>", "_INBOX.*.>", "*.*.*"] {
        world.subscribe(watcher, pattern);
    }
    world.subscribe(0, "ask");
    world.publish_there("_INBOX.of.nats", None, &[], "secret");
    world.publish_there("_INBOX.kcpq0000000000000000.sensors.x", None, &[], "injected");
    world.request(1, "ask");
    let reply = world.ends[0].last.1.clone().unwrap();
    world.publish(0, &reply, "answer");
    assert_eq!(world.ends[1].answers, ["answer"]);
    // It is at the server of who asked, where it could listen before: by its patterns, and to no other server's.
    let got: Vec<_> = world.got(watcher).into_iter().filter(|text| !text.ends_with("answer")).collect();
    assert_eq!(got, ["ask=?"], "{got:?}");
    world.publish(0, "_INBOX.somebody.1", "not an answer");
    assert!(world.backbone.seen.iter().all(|(.., payload, _)| payload != b"not an answer"));
}

#[test]
fn what_waits_is_bounded_counted_and_worth_something() {
    let config = Config { buffer: 1_000, ..Config::default() };
    let mut world = World::with(2, 1, &[(0, 0), (1, 0), (0, 0)], &config);
    world.subscribe(1, ">");
    world.subscribe(2, ">");
    for number in 0..100 {
        world.publish(0, "a", &alloc::format!("{number:0100}"));
    }
    world.ends[0].client.publish_for(world.now, "a", b"short-lived", Duration::from_millis(50)).unwrap();
    world.ends[0].client.publish_for(world.now, "a", b"long-lived", Duration::from_secs(50)).unwrap();
    world.run();
    assert_eq!(world.got(2).len(), 102, "local messages go on");
    let stats = world.stats(0);
    assert!(stats.waiting_bytes <= 1_000 && stats.waiting == 100 + 2 - stats.dropped_away, "{stats:?}");
    assert!(stats.dropped_away > 80);
    world.pass(Duration::from_millis(100));
    world.connect();
    let got = world.got(1);
    let after = world.stats(0);
    assert_eq!(got.len() as u64, after.messages_out);
    assert_eq!(after.messages_out + after.dropped_away + after.expired, 102);
    assert_eq!((after.expired, after.waiting), (1, 0));
    assert_eq!(got.last().unwrap(), "a=long-lived");
    assert_eq!(got[0], alloc::format!("a={:0100}", stats.dropped_away), "the oldest made room");
}

#[test]
fn what_a_message_carries_crosses_as_headers() {
    let mut world = World::new(2, 1, &[(0, 0), (1, 0)]);
    world.connect();
    world.subscribe(1, ">");
    let mut properties = PropertiesBuf::new();
    properties.header("Unit", "K").unwrap();
    properties.header("Unit", "°C").unwrap();
    properties.reply("answers.here").unwrap();
    properties.latest();
    let ttl = Some(Duration::from_millis(1_500));
    let urgent = Lane::URGENT;
    world.ends[0].client.publish_in(world.now, urgent, "a", b"1", properties.properties(), ttl).unwrap();
    world.run();
    let (subject, reply, _, headers) = world.backbone.seen.last().unwrap().clone();
    assert_eq!((&*subject, reply.as_deref()), ("a", Some("answers.here")));
    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let mut wanted = vec![("Unit", "K"), ("Unit", "°C"), ("Kcpq-Ttl-Ms", "1500"), ("Kcpq-Latest", "1")];
    if crate::lane::LANES > 1 {
        wanted.insert(3, ("Kcpq-Lane", "1"));
    }
    assert_eq!(headers, wanted);
    let (headers, reply) = world.ends[1].last.clone();
    assert_eq!(reply.as_deref(), Some("answers.here"));
    assert_eq!(headers, [("Unit".into(), "K".into()), ("Unit".into(), "°C".into())]);
    // What cannot be said here is left out, and counted.
    world.publish_there("b", Some("wild.*"), &[("A", "1"), ("B", "\u{1}"), ("", "x"), ("Kcpq-Lane", "99")], "2");
    let (headers, reply) = world.ends[1].last.clone();
    assert_eq!((headers, reply), (vec![("A".into(), "1".into())], None));
    assert_eq!(world.stats(1).stripped, 3);
    assert_eq!(world.got(1), ["a=1", "b=2"]);
}

#[test]
fn only_what_is_named_crosses_under_its_prefix() {
    let config = Config {
        export: ["out.>".into(), "both.>".into()].into(),
        import: ["in.>".into(), "both.>".into()].into(),
        prefix: "site".into(),
        ..Config::default()
    };
    let mut world = World::with(1, 2, &[(0, 0), (0, 1)], &config);
    world.connect();
    world.subscribe(1, ">");
    world.join(1, "both.>", "g");
    world.join(1, "out.>", "g");
    for subject in ["out.a", "in.a", "both.a", "other"] {
        world.publish(0, subject, "1");
    }
    let seen: Vec<_> = world.backbone.seen.iter().map(|(subject, ..)| subject.clone()).collect();
    assert_eq!(seen, ["site.out.a", "site.both.a"]);
    // By the pattern, and by the group: where it does not come in, the group is this server's alone.
    let mut got = world.got(1);
    got.sort();
    assert_eq!(got, ["both.a=1", "both.a=1", "in.a=1", "other=1", "out.a=1", "out.a=1"]);
    for subject in ["site.in.a", "site.both.a", "site.out.a", "in.a", "site.$KCPQ.sessions", "$JS.x"] {
        world.publish_there(subject, None, &[], "2");
    }
    let mut got = world.got(1);
    got.sort();
    assert_eq!(got, ["both.a=2", "both.a=2", "in.a=2"]);
}

#[test]
fn a_message_too_large_for_the_backbone_is_said_to_its_publisher() {
    let mut world = World::new(2, 2, &[(0, 0), (0, 1), (1, 0)]);
    world.connect();
    world.subscribe(1, "a");
    world.subscribe(2, "a");
    let confirmed = client::Confirmed { within: Duration::from_secs(2), ..client::Confirmed::default() };
    for size in [10, 2_000] {
        world.ends[0].client.publish_confirmed(world.now, "a", &vec![7; size], &confirmed).unwrap();
        world.run();
    }
    assert_eq!(world.ends[0].confirmed, ["Ok(1)", "Err(Rejected(TooLarge))"], "sessions of this server count");
    assert_eq!((world.got(1).len(), world.got(2).len()), (2, 1));
    assert_eq!(world.stats(0).dropped_too_large, 1);
}
