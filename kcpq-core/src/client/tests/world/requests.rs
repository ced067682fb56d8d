//! Requests and their answers, in virtual time.

use super::*;

/// Answers each message that asks for it, `times` times.
fn answer<S: Make>(world: &mut World<S>, node: usize, id: SubscriptionId, times: usize) {
    let asked: Vec<_> = world.nodes[node].log.messages.remove(&id).unwrap_or_default();
    for (properties, (_, payload)) in core::mem::take(&mut world.nodes[node].log.properties).iter().zip(asked) {
        let reply = properties.split('"').nth(1).expect("a subject for answers");
        for time in 0..times {
            let text = alloc::format!("{} {time}", String::from_utf8_lossy(&payload));
            world.nodes[node].client.publish(world.now, reply, text.as_bytes()).unwrap();
        }
    }
}

fn ask<S: Make>(world: &mut World<S>, node: usize, subject: &str, payload: &str, replies: u32) -> RequestId {
    let request = Request { replies, within: Duration::from_secs(3), ..Request::default() };
    world.nodes[node].client.request(world.now, subject, payload.as_bytes(), &request).unwrap()
}

fn answers_come_back<S: Make>(link: sim::Config) {
    let mut world = World::<S>::new(broker::Config::default());
    let (asker, other) = (world.add(Config::default(), link), world.add(Config::default(), link));
    let id = world.subscribe(other, "sum");
    // Many in flight, the first before anything was heard of the server.
    let requests: Vec<_> = (0..20).map(|n| ask(&mut world, asker, "sum", &alloc::format!("{n}"), 1)).collect();
    world.run_until("the questions", |world| world.nodes[other].log.payloads(id).len() == 20);
    answer(&mut world, other, id, 1);
    world.run_until("the answers", |world| world.nodes[asker].log.replies.len() == 20);
    let expected: Vec<_> = (0..20).map(|n| (requests[n], alloc::format!("{n} 0"), true)).collect();
    assert_eq!(core::mem::take(&mut world.nodes[asker].log.replies), expected);
    // An answer that nobody waits for any more is counted; a place that is used again has another name.
    let again = ask(&mut world, asker, "sum", "again", 1);
    assert!(!requests.contains(&again));
    world.run_until("the question", |world| world.nodes[other].log.payloads(id).len() == 1);
    answer(&mut world, other, id, 2);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.nodes[asker].log.replies, [(again, "again 0".into(), true)]);
    assert_eq!(world.nodes[asker].client.stats().unmatched, 1);
    assert_eq!(world.nodes[asker].log.saw("RequestFailed"), 0);
    assert_eq!(world.nodes[asker].client.stats().active_subscriptions, 1, "one for all answers");
    assert_eq!(world.nodes[asker].log.saw("Subscribed"), 0, "of which nobody is told");
}

#[test]
fn answers_come_back_to_who_asked() {
    for link in [CLEAN, BAD] {
        answers_come_back::<Heap>(link);
        answers_come_back::<Lent<'static>>(link);
    }
}

#[test]
fn that_nobody_is_subscribed_is_said_at_once() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let asker = world.add(Config::default(), CLEAN);
    world.run_until("the connection", |world| world.nodes[asker].client.is_connected());
    let asked = world.now;
    let request = ask(&mut world, asker, "nobody", "?", 1);
    let told = alloc::format!("RequestFailed {{ request: {request:?}, why: NoResponders }}");
    world.run_until("the word", |world| world.nodes[asker].log.saw(&told) == 1);
    assert_eq!(world.now.since(asked), Duration::from_millis(20), "a round trip");
    // Who publishes to a subject for answers of its own hears of it as well, and nobody else does.
    let mut properties = PropertiesBuf::new();
    properties.reply("mine").unwrap();
    let mine = world.subscribe(asker, "mine");
    world.nodes[asker].client.publish_with(world.now, "nobody", b"", properties.properties(), None).unwrap();
    world.nodes[asker].client.publish(world.now, "nobody", b"").unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[asker].log.payloads(mine), [b""]);
    assert_eq!((world.broker.stats().unrouted, world.nodes[asker].client.stats().unmatched), (3, 0));
}

/// It is no message: who listens to everything does not get it, and nobody counts it.
#[test]
fn that_nobody_is_subscribed_is_said_to_the_request_alone() {
    fn says<S: Make>() {
        let mut world = World::<S>::new(broker::Config::default());
        let asker = world.add(Config::default(), CLEAN);
        let all = world.subscribe(asker, "_INBOX.>");
        ask(&mut world, asker, "nobody", "?", 1);
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.nodes[asker].log.saw("RequestFailed"), 1);
        assert!(world.nodes[asker].log.payloads(all).is_empty());
        assert_eq!(world.nodes[asker].client.stats().messages_received, 0);
    }
    says::<Heap>();
    says::<Lent<'static>>();
}

#[test]
fn several_may_answer_until_the_time_is_over_or_enough_have() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let asker = world.add(Config::default(), CLEAN);
    let others = [world.add(Config::default(), CLEAN), world.add(Config::default(), CLEAN)];
    let ids = others.map(|other| world.subscribe(other, "who"));
    let three = ask(&mut world, asker, "who", "three", 3);
    let all = ask(&mut world, asker, "who", "all", u32::MAX);
    let silent = ask(&mut world, asker, "who", "forgotten", 1);
    assert!(world.nodes[asker].client.forget_request(silent) && !world.nodes[asker].client.forget_request(silent));
    let asked = world.now;
    world.run_for(Duration::from_millis(100));
    for (other, id) in others.into_iter().zip(ids) {
        answer(&mut world, other, id, 2);
    }
    let told = alloc::format!("RequestFailed {{ request: {all:?}, why: TimedOut }}");
    world.run_until("the end", |world| world.nodes[asker].log.saw(&told) == 1);
    assert_eq!(world.now.since(asked), Duration::from_secs(3));
    let log = &world.nodes[asker].log;
    let of = |request| log.replies.iter().filter(|(id, ..)| *id == request).map(|(.., last)| *last).collect::<Vec<_>>();
    assert_eq!((of(three), of(all), of(silent)), (vec![false, false, true], vec![false; 4], vec![]));
    assert_eq!(log.saw("RequestFailed"), 1);
    let next = world.nodes[asker].client.poll_timeout().map(|deadline| deadline.why);
    assert_ne!(next, Some(crate::time::Why::Request), "no timer is left");
}

#[test]
fn a_request_survives_a_lost_connection_or_ends_with_its_time_or_its_client() {
    let mut world = World::<Heap>::new(broker::Config::default());
    let asker = world.add(Config { suspect_timeout: Duration::from_millis(100), ..Config::default() }, CLEAN);
    let other = world.add(Config::default(), CLEAN);
    world.run_until("the connection", |world| world.nodes[asker].client.is_connected());
    world.restart(broker::Config::default());
    world
        .run_until("the end", |world| world.nodes[other].log.saw("Disconnected") + world.nodes[asker].log.saw("D") > 1);
    let id = world.subscribe(other, "sum");
    let kept = ask(&mut world, asker, "sum", "kept", 1);
    world.run_until("the question", |world| world.nodes[other].log.payloads(id).len() == 1);
    answer(&mut world, other, id, 1);
    world.run_until("the answer", |world| world.nodes[asker].log.replies == [(kept, "kept 0".into(), true)]);
    world.away = true;
    let late = ask(&mut world, asker, "sum", "late", 1);
    let told = alloc::format!("RequestFailed {{ request: {late:?}, why: TimedOut }}");
    world.run_until("the end of its time", |world| world.nodes[asker].log.saw(&told) == 1);
    let last = ask(&mut world, asker, "sum", "last", 1);
    world.nodes[asker].client.close(world.now);
    let told = alloc::format!("RequestFailed {{ request: {last:?}, why: Closed }}");
    world.run_until("the end of the client", |world| world.nodes[asker].log.saw(&told) == 1);
    let refused = world.nodes[asker].client.request(world.now, "sum", b"", &Request::default());
    assert_eq!(refused, Err(RequestError::Refused(PublishError::Closed)));
}
