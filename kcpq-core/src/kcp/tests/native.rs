//! Engines whose datagrams are native ones.

use super::*;
use crate::store::Heap;

fn numbered<A: Make, B: Make>(link: sim::Config, seed: u64, repairs: bool) -> Pair<A, B> {
    let (mut a, mut b) = (A::engine(CONV, Config::GAMES), B::engine(CONV, Config::GAMES));
    a.begin_numbers(Instant::from_millis(1));
    b.begin_numbers(Instant::from_millis(1));
    if repairs {
        know_repairs(&mut a);
        know_repairs(&mut b);
    }
    let mut pair = Pair::new(a, b, link, seed);
    pair.numbered = true;
    pair
}

#[test]
fn bytes_arrive_once_and_in_order() {
    let data = payload(500_000, 1);
    for seed in 0..5 {
        for repairs in [false, true] {
            deliver(numbered::<Heap, Heap>(BAD, seed, repairs), &data);
            deliver(numbered::<Lent<'static>, Lent<'static>>(BAD, seed, repairs), &data);
            deliver(numbered::<Lent<'static>, Heap>(BAD, seed, repairs), &data[..100_000]);
        }
    }
}

/// Kind, number and first number (PROTOCOL.md 1.5), and a length only where it is worth more than the two bytes that it takes.
#[test]
fn a_short_datagram_leaves_out_the_length_of_its_last_data() {
    let len = |bytes: usize| {
        let mut engine = Heap::engine(CONV, Config::GAMES);
        engine.begin_numbers(Instant::from_millis(1));
        let mut out = [0; 1_500];
        while engine.poll_transmit(Instant::from_millis(1), &mut out).is_some() {}
        engine.send(&vec![7; bytes]).unwrap();
        engine.poll_transmit(Instant::from_millis(1), &mut out).unwrap()
    };
    assert_eq!([len(1), len(100), len(600)], [1 + 3, 100 + 3, 600 + 5]);
}

/// One message each `gap` over this link; returns how many datagrams came back for how many messages.
fn thin_flow(pair: &mut Pair<Heap, Heap>, gap: Duration, messages: usize) -> u64 {
    let before = pair.a.stats().datagrams_received;
    for _ in 0..messages {
        pair.a.send(&[7; 200]).unwrap();
        pair.run_until(pair.now + gap);
    }
    pair.run_for(Duration::from_millis(200));
    assert_eq!(pair.a.unacked(), 0);
    pair.a.stats().datagrams_received - before
}

const CLEAN: sim::Config = sim::Config { jitter: Duration::ZERO, loss: 0.0, duplicate: 0.0, ..BAD };

#[test]
fn on_a_clean_path_every_second_message_of_a_thin_flow_is_acknowledged() {
    let mut pair = numbered::<Heap, Heap>(CLEAN, 1, true);
    thin_flow(&mut pair, Duration::from_millis(20), 100);
    let acks = thin_flow(&mut pair, Duration::from_millis(20), 400);
    assert!((200..210).contains(&acks), "{acks} datagrams came back");
    assert_eq!(pair.a.stats().retransmitted, 0);
    // What waited for the next one tells nothing of the path.
    let rtt = pair.a.rtt().smoothed().unwrap();
    assert!((Duration::from_millis(40)..Duration::from_millis(41)).contains(&rtt), "{rtt:?}");
}

#[test]
fn where_the_next_one_is_far_or_something_gets_lost_each_is_acknowledged_at_once() {
    let mut pair = numbered::<Heap, Heap>(CLEAN, 1, true);
    thin_flow(&mut pair, Duration::from_millis(30), 100);
    assert!(thin_flow(&mut pair, Duration::from_millis(30), 100) >= 100);
    let mut pair = numbered::<Heap, Heap>(sim::Config { loss: 0.02, ..CLEAN }, 1, true);
    thin_flow(&mut pair, Duration::from_millis(20), 500);
    assert!(thin_flow(&mut pair, Duration::from_millis(20), 100) >= 96);
}
