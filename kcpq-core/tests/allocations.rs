//! In the steady state nothing allocates for each message or segment: buffers are shared and used again.
//!
//! What is left are the shared buffers themselves, so the bounds are per many messages or segments, not zero.

#[path = "common/engine.rs"]
mod engine;
#[path = "common/relay.rs"]
mod relay;

use allocation_counter::measure;
use bytes::Bytes;
use kcpq_core::kcp::{Command, Config, Header, Kcp, Origin, Sn, Ts};
use kcpq_core::store::{Heap, Lent, Store};
use kcpq_core::{Duration, Instant};

use self::engine::Make;
use self::relay::Relay;

/// Allocations in a run of `count`.
fn allocations(count: u64, mut run: impl FnMut(u64)) -> u64 {
    // Until every buffer has grown as far as it does.
    run(count);
    measure(|| run(count)).count_total
}

/// Allocations in carrying 20,000 messages of `size` bytes.
fn relay_allocations(mut relay: Relay, size: usize) -> u64 {
    let made = allocations(20_000, |count| assert_eq!(relay.run(count, &vec![7; size]), count)) - 1;
    println!("{made} allocations for 20000 messages of {size} bytes");
    made
}

#[test]
fn several_messages_from_publisher_through_broker_to_subscriber_share_an_allocation() {
    // Measured in batches of 100: two for each batch, which are buffers for runs of messages and for what the
    // subscriber is given.
    assert!(relay_allocations(Relay::new(), 128) <= 20_000 / 100 * 3);
    assert!(relay_allocations(Relay::new(), 16) <= 20_000 / 100 * 3);
    // Nor on their way over a stage, but for the buffers there.
    assert!(relay_allocations(Relay::staged(), 128) <= 20_000 / 100 * 4);
    // Nor those that go their ways one by one, or many in a long datagram.
    assert!(relay_allocations(Relay::mixed(), 128) <= 20_000 / 100 * 3);
    assert!(relay_allocations(Relay::local(1), 128) <= 20_000 / 100 * 3);
    assert!(relay_allocations(Relay::local_group(8), 128) <= 20_000 / 100 * 3);
    // Whether they are permitted is known.
    assert!(relay_allocations(Relay::permitted(), 16) <= 20_000 / 100 * 3);
    // Nor where much waits, for one or for members of a queue group by turns.
    assert!(relay_allocations(Relay::crowded(), 128) <= 20_000 / 100 * 3);
    assert!(relay_allocations(Relay::group(8), 128) <= 20_000 / 100 * 3);
}

/// HELLO and one segment at the end of the window are two datagrams of a stranger; they must not cost a table of 4096
/// places.
#[test]
fn a_segment_far_ahead_costs_what_it_is() {
    let mut kcp = Heap::engine(7, Config::GAMES);
    let header =
        |sn| Header { conv: 7, command: Command::Push, frg: 0, wnd: 32, ts: Ts(1), sn: Sn(sn), una: Sn(0), len: 10 };
    let push = |sn| [&header(sn).to_bytes()[..], &[7; 10]].concat();
    let mut take = |sn| {
        let datagram = push(sn);
        measure(|| kcp.handle_datagram(Instant::from_millis(1), &datagram, Origin::Wire, <[u8]>::len).unwrap())
            .bytes_max
    };
    let (first, far) = (take(0), take(4_095));
    println!("{first} bytes for the first segment, {far} for one far ahead");
    assert!(far < 1_024);
    // As many as there is room for, far from each other first: what each costs stays near what it is.
    let all: u64 = (1..4_000).rev().step_by(7).map(&mut take).sum();
    assert!(all < 4_000 / 7 * 512, "{all}");
}

/// Carries `count` segments from one end to the other.
fn bulk<S: Store>(ends: &mut [Kcp<S>; 2], now: &mut Instant, count: u64, send: impl Fn(&mut Kcp<S>, &Bytes)) {
    let [a, b] = ends;
    let mut buf = [0; 1500];
    let segment = Bytes::from(vec![7; a.mss()]);
    let (mut sent, mut read) = (0, 0);
    while read < count * segment.len() as u64 {
        while sent < count && a.unacked() < 100 * segment.len() {
            send(a, &segment);
            sent += 1;
        }
        *now += Duration::from_millis(10);
        while let Some(len) = a.poll_transmit(*now, &mut buf) {
            b.handle_datagram(*now, &buf[..len], Origin::Wire, |bytes| {
                read += bytes.len() as u64;
                bytes.len()
            })
            .expect("a well-formed datagram");
        }
        while let Some(len) = b.poll_transmit(*now, &mut buf) {
            a.handle_datagram(*now, &buf[..len], Origin::Wire, |_| 0).expect("a well-formed datagram");
        }
    }
}

/// Allocations in carrying `COUNT` segments; a few belong to the test, which makes the bytes to send.
fn bulk_allocations<S: Make>(send: impl Fn(&mut Kcp<S>, &Bytes)) -> u64 {
    let config = Config { send_window: 128, recv_window: 128, ..Config::GAMES };
    let mut ends = [S::engine(7, config), S::engine(7, config)];
    let mut now = Instant::from_millis(1);
    let made = allocations(COUNT, |count| bulk(&mut ends, &mut now, count, &send));
    println!("{made} allocations for {COUNT} segments");
    made
}

const COUNT: u64 = 20_000;
/// Those of the test.
const FEW: u64 = 4;

#[test]
fn the_engine_allocates_nothing_for_a_segment_and_on_the_heap_keeps_a_copy_of_what_is_not_shared() {
    let copied = |kcp: &mut Kcp<Lent<'static>>, segment: &Bytes| kcp.send(segment).unwrap();
    assert!(bulk_allocations(copied) <= FEW);
    let shared = |kcp: &mut Kcp<Heap>, segment: &Bytes| kcp.stream().push_shared(segment.clone());
    assert!(bulk_allocations(shared) <= FEW);
    let copied = |kcp: &mut Kcp<Heap>, segment: &Bytes| kcp.send(segment).unwrap();
    assert!(bulk_allocations(copied) <= COUNT + FEW);
}
