//! Subscriptions of sessions to what is stored.

use alloc::format;

use super::store::MOMENT;
use super::*;
use crate::client::{Replaying, SubscribeFailure};
use crate::hello::Refusal;
use crate::replay::{Settlement, Start};

fn from(start: Start) -> Replaying<'static> {
    Replaying { start, durable: None, lane: None }
}

fn durable(name: &'static str) -> Replaying<'static> {
    Replaying { start: Start::All, durable: Some(name), lane: None }
}

impl World {
    fn replay(&mut self, end: usize, pattern: &str, wanted: &Replaying<'_>) -> SubscriptionId {
        let id = self.ends[end].client.subscribe_stored(self.now, pattern, wanted).unwrap();
        self.run();
        id
    }

    fn fill(&mut self, subject: &str, texts: core::ops::Range<u32>) {
        for number in texts {
            self.backbone.store.store(self.now, subject, &format!("{number}"));
        }
        self.run();
    }

    fn settle(&mut self, end: usize, id: SubscriptionId, sequence: u64, settlement: Settlement) {
        assert!(self.ends[end].client.settle(self.now, id, sequence, settlement));
        self.run();
    }

    /// The client gives its session up and makes another.
    fn reconnect(&mut self, end: usize) {
        self.ends[end].client.reconnect(self.now);
        self.run(); // the server hears of it
        for _ in 0..20 {
            self.pass(Duration::from_millis(50));
            let now = self.now;
            self.ends[end].client.handle_timeout(now);
            self.run();
        }
        assert!(self.ends[end].client.is_connected());
    }
}

/// One server and its store, with a stream of all.
fn world(brokers: usize, homes: &[(usize, usize)]) -> World {
    let mut world = World::new(1 + homes.iter().map(|home| home.0).max().unwrap(), brokers, homes);
    world.backbone.store.stream = Some(">");
    world.connect();
    world
}

fn numbers(subject: &str, range: core::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("{subject}={number}")).collect()
}

#[test]
fn a_replay_begins_where_it_is_to_and_goes_on_with_what_comes() {
    let mut world = world(2, &[(0, 0), (0, 1)]);
    world.fill("a", 0..3);
    world.pass(Duration::from_secs(10));
    world.fill("b", 3..5);
    world.fill("a", 5..6);
    for (start, wanted) in [
        (Start::All, "a=0 a=1 a=2 b=3 b=4 a=5"),
        (Start::From(3), "a=2 b=3 b=4 a=5"),
        (Start::Since(Duration::from_secs(5)), "b=3 b=4 a=5"),
        (Start::Last, "b=4 a=5"),
        (Start::New, ""),
        (Start::From(100), ""),
    ] {
        let id = world.replay(1, ">", &from(start));
        assert_eq!(world.got(1).join(" "), wanted, "{start:?}");
        assert!(world.ends[1].acknowledged.contains(&id));
        let mark = world.backbone.store.messages.len() as u32;
        world.fill("c", mark..mark + 1);
        // Not by the pattern as well: what is published is not what is stored.
        let live = if start == Start::From(100) { vec![] } else { vec![format!("c={mark}")] };
        assert_eq!(world.got(1), live, "{start:?}");
        world.ends[1].client.unsubscribe(world.now, id);
        world.run();
        world.backbone.store.messages.pop();
        assert_eq!((world.backbone.store.readers(), world.stats(0).replays), (0, 0), "{start:?}");
    }
    // What is known of each, and not its time to live.
    world.replay(1, "b", &from(Start::From(5)));
    assert_eq!(world.got(1), ["b=4"]);
    let stored = world.ends[1].last_stored.unwrap();
    assert_eq!((stored.sequence, stored.deliveries), (5, 1));
    assert_eq!(stored.stored_at, world.backbone.store.messages[4].2.since(Instant::ZERO).as_millis());
    assert_eq!(world.ends[1].last.0, [("Unit".into(), "K".into())]);
}

#[test]
fn who_wants_what_is_not_there_is_told_so_at_once() {
    let mut world = World::new(1, 1, &[(0, 0)]);
    let refused = |world: &mut World, pattern: &str, wanted: &Replaying<'_>| {
        let id = world.replay(0, pattern, wanted);
        let (failed, why) = world.ends[0].failed.take().expect("it fails");
        assert_eq!(failed, id);
        why
    };
    let why = refused(&mut world, ">", &from(Start::All));
    assert_eq!(why, SubscribeFailure::Refused(Refusal::StoreAway), "there is no backbone");
    world.connect();
    let why = refused(&mut world, ">", &from(Start::All));
    assert_eq!(why, SubscribeFailure::Refused(Refusal::NoStream));
    world.backbone.store.stream = Some(">");
    world.replay(0, "a", &durable("d"));
    assert_eq!(world.ends[0].failed, None);
    let why = refused(&mut world, "b", &durable("d"));
    assert_eq!(why, SubscribeFailure::Refused(Refusal::DurableInUse));
    let why = refused(&mut world, "$KCPQ.x", &from(Start::All));
    assert!(matches!(why, SubscribeFailure::Refused(_)), "{why:?}");
    assert_eq!(world.stats(0).replays_refused, 3, "the rest was not asked for");
    let error = world.ends[0].client.subscribe_stored(world.now, "a", &durable("not.so"));
    assert_eq!(error, Err(client::SubscribeError::Durable));
    // A server without a gateway says what it cannot do.
    let mut broker = Broker::new(BrokerConfig { kcp: KCP, ..BrokerConfig::default() }, 1);
    let config = client::Config { kcp: KCP, ..client::Config::default() };
    let mut alone = Client::new(config, 9, Parts::heap(&config));
    alone.connect(world.now);
    let id = alone.subscribe_stored(world.now, "a", &from(Start::All)).unwrap();
    let (mut buf, mut failed) = (vec![0; 60_000], None);
    for _ in 0..10 {
        while let Some(len) = alone.poll_transmit(world.now, &mut buf) {
            broker.handle_datagram(world.now, addr(0), &mut buf[..len]);
        }
        while let Some(transmit) = broker.poll_transmit(world.now, &mut buf) {
            for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                alone.handle_datagram(world.now, datagram);
            }
        }
        while let Some(event) = alone.poll_event() {
            if let Event::SubscribeFailed { id, why } = event {
                failed = Some((id, why));
            }
        }
    }
    assert_eq!(failed, Some((id, SubscribeFailure::NoReplays)));
}

#[test]
fn a_slow_reader_costs_a_bounded_amount_and_others_nothing() {
    let mut world = world(1, &[(0, 0), (0, 0)]);
    for number in 0..20_000 {
        world.backbone.store.messages.push(("a".into(), format!("{number:0>400}"), world.now));
    }
    world.ends[0].client.hold(true);
    world.replay(0, "a", &from(Start::All));
    let held = world.backbone.store.handed_out;
    // A window, a queue, and what was asked for.
    assert!(held > 0 && held < 12_000, "{held}");
    assert!(world.stats(0).replay_backlog > 8_000);
    for _ in 0..5 {
        world.pass(Duration::from_secs(1));
        assert!(world.backbone.store.handed_out < 12_000);
    }
    world.replay(1, "a", &from(Start::All));
    assert_eq!(world.got(1).len(), 20_000);
    world.ends[0].client.hold(false);
    world.run();
    for _ in 0..100 {
        world.pass(Duration::from_millis(200));
    }
    let got = world.got(0);
    let wanted: Vec<_> = (0..20_000).map(|number| format!("a={number:0>400}")).collect();
    assert!(got == wanted, "{} came", got.len());
    let stats = world.servers[0].brokers[0].stats();
    assert_eq!((stats.dropped_slow, stats.dropped_memory, stats.dropped_too_large), (0, 0, 0));
}

#[test]
fn what_is_large_comes_alone() {
    let mut world = world(1, &[(0, 0)]);
    for number in 0..6 {
        let len = if number % 2 == 0 { 10 } else { 300_000 };
        world.backbone.store.messages.push(("a".into(), "x".repeat(len), world.now));
    }
    world.replay(0, "a", &from(Start::All));
    for _ in 0..200 {
        world.pass(Duration::from_millis(100));
    }
    let got: Vec<_> = world.got(0).iter().map(|text| text.trim_start_matches("a=").len()).collect();
    assert_eq!(got, [10, 300_000, 10, 300_000, 10, 300_000]);
}

#[test]
fn lost_and_back_nothing_is_missing_and_nothing_comes_twice() {
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let mut world = world(2, &[(0, 0), (0, 1), (0, 1)]);
        world.backbone.store.loses = rng.bool().then(|| rng.u64(7..40));
        let mut stored = rng.u32(0..300);
        world.fill("a", 0..stored);
        let starts = [from(Start::All), from(Start::From(10)), from(Start::New)];
        let wanted: Vec<_> = [0, 9, stored].into_iter().collect();
        for (end, start) in starts.iter().enumerate() {
            world.replay(end, "a", start);
        }
        let mut up = true;
        for _ in 0..60 {
            match rng.u8(..10) {
                0 if up => {
                    world.disconnect();
                    world.backbone.store.lose(0);
                    up = false;
                }
                1..3 if !up => {
                    world.connect();
                    up = true;
                }
                3 => world.backbone.store.expire_pulls(),
                4 => {
                    // The store has forgotten who reads.
                    world.backbone.store.lose(0);
                    world.pass(Duration::from_secs(13));
                }
                5 => world.reconnect(rng.usize(..3)),
                _ => {
                    let more = rng.u32(0..40);
                    world.fill("a", stored..stored + more);
                    stored += more;
                }
            }
            if rng.bool() {
                world.pass(Duration::from_millis(rng.u64(0..2_000)));
            }
        }
        if !up {
            world.connect();
        }
        world.backbone.store.loses = None;
        for _ in 0..40 {
            world.pass(MOMENT);
            for end in 0..3 {
                let now = world.now;
                world.ends[end].client.handle_timeout(now);
            }
            world.run();
        }
        for (end, first) in wanted.into_iter().enumerate() {
            assert_eq!(world.ends[end].failed, None, "seed {seed}");
            let first = first.min(stored);
            assert_eq!(world.got(end), numbers("a", first..stored), "seed {seed}, reader {end}");
        }
    }
}

#[test]
fn a_durable_subscription_gets_what_is_not_settled_and_nothing_that_is() {
    let mut world = world(2, &[(0, 0), (0, 1), (1, 0)]);
    world.fill("a", 0..5);
    let id = world.replay(0, "a", &durable("d"));
    assert_eq!(world.got(0), numbers("a", 0..5));
    for sequence in [1, 2, 2, 99] {
        world.settle(0, id, sequence, Settlement::Ack);
    }
    assert_eq!(world.backbone.store.done("d"), ["0", "1"]);
    world.settle(0, id, 3, Settlement::Nak);
    assert_eq!(world.got(0), ["a=2"]);
    assert_eq!(world.ends[0].last_stored.unwrap().deliveries, 2);
    world.settle(0, id, 4, Settlement::Term);
    world.settle(0, id, 5, Settlement::Working);
    world.settle(0, id, 5, Settlement::Ack);
    let stats = world.stats(0);
    assert_eq!(
        (stats.replays_acknowledged, stats.replays_returned, stats.replays_terminated, stats.redelivered),
        (3, 1, 1, 1)
    );
    // The session ends with one that it has not settled: it comes to the next one under the name at once, at any server.
    world.ends[0].client.unsubscribe(world.now, id);
    world.run();
    let other = world.replay(2, "a", &durable("d"));
    assert_eq!(world.got(2), ["a=2"]);
    // Several share what comes.
    let third = world.replay(1, "a", &durable("d"));
    world.fill("a", 5..205);
    let (left, right) = (world.got(1), world.got(2));
    assert_eq!(left.len() + right.len(), 200);
    let mut all = [left, right].concat();
    all.sort_by_key(|text| text[2..].parse::<u32>().unwrap());
    assert_eq!(all, numbers("a", 5..205));
    for sequence in 3..=205 {
        world.settle(2, other, sequence, Settlement::Ack);
        world.settle(1, third, sequence, Settlement::Ack);
    }
    assert_eq!(world.backbone.store.done("d").len(), 205);
    world.backbone.store.tire();
    world.run();
    assert_eq!((world.got(1).len(), world.got(2).len()), (0, 0));
}

#[test]
fn what_is_settled_while_the_backbone_is_away_stays_settled() {
    let mut world = world(1, &[(0, 0)]);
    world.fill("a", 0..4);
    let id = world.replay(0, "a", &durable("d"));
    assert_eq!(world.got(0).len(), 4);
    world.disconnect();
    world.backbone.store.lose(0);
    world.settle(0, id, 1, Settlement::Ack);
    world.settle(0, id, 2, Settlement::Ack);
    world.connect();
    world.backbone.store.tire();
    world.run();
    assert_eq!(world.got(0), numbers("a", 2..4));
    // A client whose session is another one goes on where its acknowledgements stand.
    world.settle(0, id, 3, Settlement::Ack);
    world.reconnect(0);
    assert_eq!(world.got(0), numbers("a", 3..4));
    assert_eq!(world.ends[0].last_stored.unwrap().deliveries, 3);
}

#[test]
fn who_comes_back_while_the_store_is_away_waits_for_it() {
    let mut world = world(1, &[(0, 0)]);
    world.fill("a", 0..4);
    world.replay(0, "a", &from(Start::All));
    assert_eq!(world.got(0).len(), 4);
    world.disconnect();
    world.backbone.store.lose(0);
    world.reconnect(0);
    world.fill("a", 4..8);
    assert_eq!(world.got(0).len(), 0);
    world.connect();
    for _ in 0..10 {
        world.pass(MOMENT);
        let now = world.now;
        world.ends[0].client.handle_timeout(now);
        world.run();
    }
    assert_eq!((world.got(0), world.ends[0].failed), (numbers("a", 4..8), None));
}

#[test]
fn only_what_comes_in_is_replayed_under_its_name_here() {
    let config = Config { import: ["in.>".into(), "both.>".into()].into(), prefix: "site".into(), ..Config::default() };
    let mut world = World::with(1, 1, &[(0, 0)], &config);
    world.backbone.store.stream = Some(">");
    world.connect();
    for subject in ["site.in.a", "site.out.a", "in.a", "site.both.a"] {
        world.fill(subject, 0..1);
    }
    world.replay(0, ">", &from(Start::All));
    assert_eq!(world.got(0), ["in.a=0", "both.a=0"]);
    world.replay(0, "in.*", &from(Start::All));
    assert_eq!(world.got(0), ["in.a=0"]);
    world.replay(0, "out.>", &from(Start::All));
    assert_eq!(world.ends[0].failed.take().unwrap().1, SubscribeFailure::Refused(Refusal::NoStream));
    assert_eq!(world.stats(0).dropped_unmapped, 1, "by the pattern of all that is under the prefix");
}
