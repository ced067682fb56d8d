use std::collections::HashMap;

use fastrand::Rng;
use futures_lite::future::{block_on, poll_once};
use kcpq_core::frame::properties::tag;

use super::*;

const HOUR: u32 = 3_600_000;

/// A message as it comes from the server, with a time or without.
fn frame(subject: &str, payload: &[u8], left: Option<u32>) -> Vec<u8> {
    let mut body = payload.to_vec();
    if let Some(left) = left {
        body.extend([tag::LEFT, 0, 4]);
        body.extend(left.to_be_bytes());
        body.extend([0, 7]);
    }
    let command = if left.is_some() { command::MSGX } else { command::MSG };
    let frame = Frame { command, subject: subject.as_bytes(), payload: &body };
    let mut out = vec![0; frame.encoded_len()];
    frame.encode(&mut out).unwrap();
    out
}

struct Both {
    queue: Queue,
    outlet: Outlet,
    events: Announcer,
}

impl Both {
    fn new(messages: usize, full: Full, latest: bool) -> Self {
        let rules = Rules { capacity: Capacity { messages, bytes: 1 << 20 }, full, latest };
        let (queue, outlet) = Queue::new("n".into(), rules, Clock::start());
        Self { queue, outlet, events: Announcer::new() }
    }

    fn put(&mut self, subject: &str, payload: &[u8], left: Option<u32>) {
        self.queue.deliver(Arrived::Lent(&frame(subject, payload, left)), &self.events);
        self.queue.flush();
    }

    fn get(&mut self) -> Option<(String, Vec<u8>)> {
        self.outlet.take_now().map(|message| (message.subject().into(), message.payload().into()))
    }

    fn stats(&self) -> SubscriptionStats {
        self.outlet.gauge().stats(true)
    }
}

fn kinds() -> impl Iterator<Item = Both> {
    let rules =
        [(Full::DropNewest, false), (Full::DropOldest, false), (Full::DropNewest, true), (Full::DropOldest, true)];
    rules.into_iter().map(|(full, latest)| Both::new(3, full, latest))
}

#[test]
fn what_is_stale_is_not_read_and_counted() {
    for mut both in kinds() {
        both.put("a", b"stale", Some(0));
        both.put("b", b"fresh", Some(HOUR));
        both.put("c", b"stale", Some(0));
        assert_eq!(both.get(), Some(("b".into(), b"fresh".into())));
        assert_eq!(both.get(), None);
        let stats = both.stats();
        assert_eq!((stats.received, stats.processed, stats.expired, stats.queued), (3, 1, 2, 0));
    }
}

#[test]
fn what_is_stale_makes_room_for_what_is_not() {
    for mut both in kinds() {
        for subject in ["a", "b", "c"] {
            both.put(subject, b"stale", Some(0));
        }
        both.put("d", b"fresh", None);
        assert_eq!(both.get(), Some(("d".into(), b"fresh".into())));
        assert_eq!((both.stats().expired, both.stats().dropped), (3, 0));
    }
}

#[test]
fn the_newest_of_a_subject_stands_in_the_place_of_the_one_before() {
    for full in [Full::DropNewest, Full::DropOldest] {
        let mut both = Both::new(3, full, true);
        for (subject, payload) in [("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4"), ("a", b"5")] {
            both.put(subject, payload, None);
        }
        assert_eq!((both.stats().superseded, both.stats().dropped, both.stats().queued), (2, 0, 3));
        let first = both.get();
        assert_eq!(first, Some(("a".into(), b"5".into())));
        // What was read is not superseded any more.
        both.put("a", b"6", None);
        let rest: Vec<_> = std::iter::from_fn(|| both.get()).map(|(_, payload)| payload[0]).collect();
        assert_eq!(rest, b"246");
    }
}

#[test]
fn of_more_subjects_than_have_room_the_oldest_or_the_newest_are_dropped() {
    for (full, kept) in [(Full::DropOldest, b"345"), (Full::DropNewest, b"123")] {
        for latest in [false, true] {
            let mut both = Both::new(3, full, latest);
            for (subject, payload) in [("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4"), ("e", b"5")] {
                both.put(subject, payload, None);
            }
            assert_eq!(both.stats().dropped, 2);
            let got: Vec<_> = std::iter::from_fn(|| both.get()).map(|(_, payload)| payload[0]).collect();
            assert_eq!(got, kept);
        }
    }
}

#[test]
fn a_message_that_takes_the_room_of_many_is_told_once() {
    let mut both = Both::new(100, Full::DropOldest, false);
    let mut heard = both.events.listen();
    for _ in 0..100 {
        both.put("a", &[0; 5_000], None);
    }
    both.put("a", &vec![1; 1 << 20], None);
    assert_eq!((both.stats().dropped, both.stats().queued), (100, 1));
    let Some(Event::Dropped { total: 100, .. }) = block_on(heard.next()) else { panic!("it was not told") };
    assert_eq!(both.get().unwrap().1.len(), 1 << 20, "one alone has room");
    assert!(block_on(poll_once(heard.next())).is_none());
}

/// Whatever comes and goes: each message is accounted for, no more wait than may, and those of a subject stay in order.
#[test]
fn each_message_is_read_or_counted_with_its_reason() {
    let mut rng = Rng::with_seed(1);
    for round in 0..200 {
        let (messages, bytes) = (rng.usize(1..20), rng.usize(50..2_000));
        let full = if rng.bool() { Full::DropNewest } else { Full::DropOldest };
        let rules = Rules { capacity: Capacity { messages, bytes }, full, latest: rng.bool() };
        let (mut queue, mut outlet) = Queue::new("n".into(), rules, Clock::start());
        let events = Announcer::new();
        let (mut read, mut last) = (0, HashMap::<String, u32>::new());
        for number in 0..500_u32 {
            let subject = ["a", "b", "c", "d.e", "f"][rng.usize(..5)];
            let payload = [&number.to_be_bytes()[..], &vec![0; rng.usize(..300)]].concat();
            let left = [None, Some(HOUR), Some(0)][rng.usize(..3)];
            let frame = frame(subject, &payload, left);
            if rng.bool() {
                queue.deliver(Arrived::Lent(&frame), &events);
            } else {
                queue.deliver(Arrived::Whole(frame.into()), &events);
            }
            queue.flush();
            let stats = outlet.gauge().stats(true);
            assert!(stats.queued <= messages, "round {round}: {stats:?}");
            for _ in 0..rng.usize(..3) {
                let Some(message) = outlet.take_now() else { break };
                let number = u32::from_be_bytes(*message.payload().first_chunk().unwrap());
                assert!(last.insert(message.subject().into(), number).is_none_or(|before| before < number));
                read += 1;
            }
            let stats = outlet.gauge().stats(true);
            assert_eq!((stats.received, stats.processed), (u64::from(number) + 1, read));
        }
        read += std::iter::from_fn(|| outlet.take_now()).count() as u64;
        let SubscriptionStats { received, processed, dropped, superseded, expired, queued, .. } =
            outlet.gauge().stats(true);
        assert_eq!((received, processed, queued), (500, read, 0), "round {round}");
        assert_eq!(received, processed + dropped + superseded + expired, "round {round}");
        assert!(rules.latest || superseded == 0);
    }
}

#[test]
fn a_reader_that_waits_is_woken_by_what_comes_and_by_the_end() {
    for mut both in kinds() {
        let mut outlet = both.outlet.hand_over();
        let reader = std::thread::spawn(move || {
            let mut next = || block_on(std::future::poll_fn(|cx| outlet.take_next(cx)));
            (next().map(|message| message.payload().to_vec()), next().is_none())
        });
        both.put("a", b"1", None);
        // Whether it waits again by then or not.
        both.queue.close();
        assert_eq!(reader.join().unwrap(), (Some(b"1".to_vec()), true));
    }
}

#[test]
fn several_that_come_together_are_queued_and_dropped_like_single_ones() {
    let mut rng = Rng::with_seed(3);
    for (mut alone, mut together) in kinds().zip(kinds()) {
        for _ in 0..1_000 {
            let (subject, count) = (["a", "b"][rng.usize(..2)], rng.usize(2..6));
            let frames: Vec<_> = (0..count).map(|_| frame(subject, &vec![rng.u8(..); rng.usize(..20)], None)).collect();
            for frame in &frames {
                alone.queue.deliver(Arrived::Lent(frame), &alone.events);
            }
            together.queue.deliver(Arrived::Run(&frames.concat(), count), &together.events);
            alone.queue.flush();
            together.queue.flush();
            assert_eq!(alone.stats(), together.stats());
            for _ in 0..rng.usize(..6) {
                assert_eq!(alone.get(), together.get());
            }
        }
        assert!(alone.stats().processed > 300);
    }
}
