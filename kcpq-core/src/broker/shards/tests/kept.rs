//! Last values of subjects in several brokers.

use alloc::boxed::Box;

use bytes::Bytes;

use super::*;
use crate::broker::KeptCursor;

/// A subscription to last values, as the model sees it.
struct Watch {
    end: usize,
    id: SubscriptionId,
    /// The numbers of each subject as they came, and whether they were kept ones.
    got: BTreeMap<String, Vec<(u32, u32, bool)>>,
}

/// Publishers everywhere, subscribers that come and go, and relays that are late: nobody is given an older value after
/// a newer one of the same publisher, and in the end every broker has the same.
#[test]
fn last_values_reach_all_shards_in_order_and_come_to_be_the_same_everywhere() {
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let mut server = Server::new(3, &[0, 1, 2, 0, 1, 2], &Config::default());
        server.carry_all();
        let subject = |rng: &mut Rng| format!("s.{}", rng.u8(..6));
        let mut watches: Vec<Watch> = Vec::new();
        let mut last: BTreeMap<(usize, String), u32> = BTreeMap::new();
        for number in 0..400_u32 {
            let end = rng.usize(..6);
            match rng.u8(..8) {
                0 => {
                    let id =
                        server.ends[end].client.subscribe(server.now, ["s.*", ">", "s.1"][rng.usize(..3)]).unwrap();
                    watches.push(Watch { end, id, got: BTreeMap::new() });
                }
                1 if watches.len() > 4 => {
                    let gone = watches.swap_remove(rng.usize(..watches.len()));
                    server.ends[gone.end].client.unsubscribe(server.now, gone.id);
                }
                2..=5 => {
                    let subject = subject(&mut rng);
                    let mut properties = PropertiesBuf::new();
                    properties.header("subject", &subject).unwrap();
                    properties.retain();
                    let payload = match rng.u8(..5) {
                        0 => Vec::new(),
                        size => {
                            let mut payload = [(end as u32).to_be_bytes(), number.to_be_bytes()].concat();
                            payload.resize(if size == 1 { 6_000 } else { 20 }, 7);
                            payload
                        }
                    };
                    let taken = server.ends[end].client.publish_with(
                        server.now,
                        &subject,
                        &payload,
                        properties.properties(),
                        None,
                    );
                    taken.unwrap();
                    last.insert((end, subject), number);
                }
                _ => {
                    for _ in 0..rng.u8(..6) {
                        server.carry(rng.usize(..3), rng.usize(..3));
                    }
                    server.now += Duration::from_micros(rng.u64(..3));
                }
            }
            server.settle();
        }
        server.carry_all();
        for watch in &mut watches {
            for (subject, from, number, kept) in server.ends[watch.end].values.remove(&watch.id).unwrap_or_default() {
                watch.got.entry(subject).or_default().push((from, number, kept));
            }
            for (subject, got) in &watch.got {
                for publisher in 0..6 {
                    let of = got.iter().filter(|(from, ..)| *from == publisher).map(|(_, number, _)| *number);
                    assert!(of.is_sorted_by(|a, b| a < b), "seed {seed}, {subject}: {got:?}");
                }
                assert!(
                    got.iter().skip(1).all(|(.., kept)| !kept),
                    "only the first one was kept, seed {seed}: {got:?}"
                );
            }
        }
        let values = |broker: &Broker<SocketAddr>| {
            let page = broker.view_kept(&KeptCursor::default(), 100);
            page.items.into_iter().map(|value| (value.subject, value.frame)).collect::<Vec<_>>()
        };
        let first = values(&server.brokers[0]);
        assert!(server.brokers.iter().all(|broker| values(broker) == first), "the same everywhere, seed {seed}");
        // A newcomer is given them wherever it is, and what it is given is what somebody published last.
        for home in 0..3 {
            let id = server.ends[home].client.subscribe(server.now, "s.>").unwrap();
            server.settle();
            server.carry_all();
            let got = server.ends[home].values.remove(&id).unwrap_or_default();
            assert_eq!(got.len(), first.len());
            for (subject, from, number, kept) in got {
                assert!(kept && last[&(from as usize, subject)] == number, "seed {seed}");
            }
        }
        assert_eq!(server.sum(|stats| stats.queued + stats.dropped_relay + stats.kept_refused), 0);
    }
}

#[test]
fn limits_on_last_values_hold_in_every_shard() {
    let values = LastValues { max_subjects: 3, ..LastValues::default() };
    let mut server = Server::with_values(2, &[0, 1], &Config::default(), &values);
    server.carry_all();
    let mut properties = PropertiesBuf::new();
    properties.retain();
    // Both take what the other does not know of yet.
    for number in 0..3 {
        for end in 0..2 {
            let (client, subject) = (&mut server.ends[end].client, format!("{end}.{number}"));
            client.publish_with(server.now, &subject, &[0; 8], properties.properties(), None).unwrap();
        }
    }
    server.settle();
    assert_eq!(server.sum(|stats| stats.kept_refused), 0);
    server.carry_all();
    assert!(server.brokers.iter().all(|broker| broker.stats().kept == 3));
    assert_eq!(server.sum(|stats| stats.kept_refused), 6);
    server.ends[0].client.publish_with(server.now, "more", &[0; 8], properties.properties(), None).unwrap();
    server.settle();
    server.carry_all();
    assert_eq!(server.sum(|stats| stats.kept_refused), 7);
}

/// What is asked with a value on its way to other shards is no part of it: everybody keeps the same bytes, and for each
/// value no more than its own.
#[test]
fn a_value_that_its_publisher_has_confirmed_is_the_same_in_all_shards() {
    let mut server = Server::new(2, &[0, 1], &Config::default());
    let id = server.ends[1].client.subscribe(server.now, ">").unwrap();
    server.settle();
    server.carry_all();
    let mut properties = PropertiesBuf::new();
    properties.retain();
    let properties = properties.properties();
    for number in 0..3_u8 {
        let confirmed = client::Confirmed { properties, ..client::Confirmed::default() };
        let subject = format!("s.{number}");
        server.ends[0].client.publish_confirmed(server.now, &subject, &[number; 8], &confirmed).unwrap();
    }
    server.settle();
    server.carry_all();
    assert_eq!((&server.ends[0].confirmed[..], server.ends[1].got[&id].len()), (&[1, 1, 1][..], 3));
    let kept = |broker: &Broker<SocketAddr>| {
        let page = broker.view_kept(&KeptCursor::default(), 10);
        page.items.into_iter().map(|view| view.frame).collect::<Vec<_>>()
    };
    assert_eq!(kept(&server.brokers[0]).len(), 3);
    assert_eq!(kept(&server.brokers[0]), kept(&server.brokers[1]));
}

/// The last values that a broker has.
fn values(broker: &Broker<SocketAddr>) -> Vec<(Box<str>, Bytes)> {
    let page = broker.view_kept(&KeptCursor::default(), 100);
    page.items.into_iter().map(|value| (value.subject, value.frame)).collect()
}

fn retain(server: &mut Server, end: usize, subject: &str, payload: &[u8], ttl: Option<Duration>) {
    let mut properties = PropertiesBuf::new();
    properties.retain();
    let client = &mut server.ends[end].client;
    client.publish_with(server.now, subject, payload, properties.properties(), ttl).unwrap();
    server.settle();
}

/// Queues that are too short, and times that are over on the way: subscribers miss messages, which is counted, and in the end
/// every broker has the same values all the same.
#[test]
fn what_was_lost_on_its_way_to_a_shard_is_not_missing_from_its_last_values() {
    let mut lost = [0; 2];
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let slow_consumer = [SlowConsumer::DropNewest, SlowConsumer::DropOldest][rng.usize(..2)];
        let config = Config { max_queued: 1_500, slow_consumer, ..Config::default() };
        let mut server = Server::new(3, &[0, 1, 2], &config);
        let watch = server.ends[2].client.subscribe(server.now, "s.>").unwrap();
        server.settle();
        server.carry_all();
        for number in 0..200_u32 {
            match rng.u8(..4) {
                0 => {
                    for _ in 0..rng.u8(..8) {
                        server.carry(rng.usize(..3), rng.usize(..3));
                    }
                    server.pass(Duration::from_millis(rng.u64(..20)));
                }
                _ => {
                    let (end, subject) = (rng.usize(..3), format!("s.{}", rng.u8(..6)));
                    let payload = [(end as u32).to_be_bytes(), number.to_be_bytes()].concat();
                    let payload = if rng.u8(..5) == 0 { &[][..] } else { &payload };
                    let ttl = (rng.u8(..3) == 0).then(|| Duration::from_millis(rng.u64(1..30)));
                    retain(&mut server, end, &subject, payload, ttl);
                }
            }
        }
        server.carry_all();
        server.pass(Duration::from_millis(30));
        server.carry_all();
        let first = values(&server.brokers[0]);
        let all: Vec<_> = server.brokers.iter().map(values).collect();
        assert!(all.iter().all(|values| *values == first), "the same everywhere, seed {seed}: {all:?}");
        let came = server.ends[2].values.remove(&watch).unwrap_or_default();
        for publisher in 0..3 {
            for subject in 0..6 {
                let of = came.iter().filter(|(on, from, ..)| *from == publisher && *on == format!("s.{subject}"));
                assert!(of.is_sorted_by(|a, b| a.2 < b.2), "seed {seed}: {came:?}");
            }
        }
        lost[0] += server.sum(|stats| stats.dropped_relay);
        lost[1] += server.sum(|stats| stats.expired);
        assert_eq!(server.sum(|stats| stats.queued + stats.kept_refused), 0, "seed {seed}");
    }
    assert!(lost.iter().all(|count| *count > 100), "{lost:?} messages were dropped, and too old, on the way");
}

/// Nothing more comes of the subject, so nothing else would mend that.
#[test]
fn a_value_whose_time_is_over_on_its_way_takes_the_one_before_with_it() {
    let mut server = Server::new(2, &[0, 1], &Config::default());
    server.carry_all();
    retain(&mut server, 0, "s", b"first 12", None);
    server.carry_all();
    assert!(server.brokers.iter().all(|broker| values(broker).len() == 1));
    retain(&mut server, 0, "s", b"second 1", Some(Duration::from_millis(5)));
    server.now += Duration::from_millis(10);
    server.carry_all();
    server.pass(Duration::ZERO);
    assert!(server.brokers.iter().all(|broker| values(broker).is_empty()));
    assert_eq!(server.sum(|stats| stats.expired), 1);
}
