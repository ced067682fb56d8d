//! Lanes in lent memory: what holds for the heap holds there, within the bounds of what was lent.

use alloc::boxed::Box;

use heapless::Deque;

use super::lanes::lane;
use super::*;
use crate::kcp::{Early, LaneParts, LatestMessage, Parked};
use crate::store::{Heap, LENT_LANES, LentKept, LentNumbers, LentTx, NumberSlot, TxStream};

/// Messages of a lane in its stream of which only the latest counts.
const LATEST: usize = 64;

fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

/// An engine with memory for so many lanes of so many bytes each.
fn engine(config: Config, lanes: usize, bytes: usize) -> Kcp<Lent<'static>> {
    let mut kcp = Lent::engine(CONV, config);
    let (parked, early) = (leak(Deque::<Parked<LentKept>, 64>::new()), leak(Deque::<Early, 64>::new()));
    assert!(kcp.lend_lanes(parked.as_mut_view(), early.as_mut_view()));
    for _ in 0..lanes {
        assert!(kcp.lend_lane(LaneParts {
            tx: LentTx::new(Box::leak(vec![0; bytes].into_boxed_slice())),
            messages: leak(Deque::<LatestMessage, LATEST>::new()).as_mut_view(),
            subjects: LentNumbers::new(leak([NumberSlot::EMPTY; LATEST])),
        }));
    }
    kcp
}

/// Two native ends that know all there is.
fn joined<A: Store, B: Store>(mut a: Kcp<A>, mut b: Kcp<B>, link: sim::Config, seed: u64) -> Pair<A, B> {
    a.negotiated(Peer { repairs: true, pieces: true, lanes: true, latest: true, ..*a.peer() });
    b.negotiated(Peer { repairs: true, pieces: true, lanes: true, latest: true, ..*b.peer() });
    a.begin_numbers(Instant::from_millis(1));
    b.begin_numbers(Instant::from_millis(1));
    let mut pair = Pair::new(a, b, link, seed);
    pair.numbered = true;
    pair
}

/// What came in each of these lanes, and when datagrams of which length were sent.
type Story = (Vec<Vec<u8>>, Vec<(Instant, usize)>, Stats);

const USED: [u8; 4] = [0, 1, 3, 6];

/// Publishes in several lanes, some of it so that only the latest of a subject counts, while now and then some lanes are not read.
fn story<A: Store, B: Store>(mut pair: Pair<A, B>, seed: u64) -> Story {
    let mut rng = Rng::with_seed(seed);
    for round in 0..500_u32 {
        let lane = lane(USED[rng.usize(..USED.len())]);
        let (len, latest) = (if rng.u8(..10) == 0 { rng.usize(1..3_000) } else { rng.usize(1..200) }, rng.bool());
        let mut data = payload(len, round.into());
        data[0] = lane.number();
        let subject = u64::from(rng.u8(..4));
        // What is under way fits in any case: what there is no room for would be another story for each store.
        if pair.a.unacked() < 15_000 {
            pair.a.stream_of(lane).unwrap().push(&data).unwrap();
            if latest && !lane.is_main() && len < 300 {
                pair.a.supersede(lane, len, subject);
            }
        }
        if rng.u8(..10) == 0 {
            pair.refused = rng.u8(..) & !2;
            pair.read_on();
        }
        pair.run_until(pair.now + Duration::from_millis(rng.u64(..30)));
    }
    pair.refused = 0;
    while pair.a.unacked() > 0 {
        pair.read_on();
        assert!(pair.step(), "seed {seed}: stalled");
        assert!(pair.now < Instant::from_millis(600_000), "seed {seed}: more than ten minutes");
    }
    pair.read_on();
    assert_eq!(pair.b.front(), None, "seed {seed}");
    let came = USED.map(|number| pair.got(lane(number)).to_vec()).to_vec();
    let sent = pair.trace.iter().map(|(at, datagram)| (*at, datagram.len())).collect();
    (came, sent, *pair.b.stats())
}

/// Whatever the link does and whichever lanes are not read, both stores send the same at the same times, and deliver the same.
#[test]
fn both_stores_do_the_same_with_lanes() {
    let mut superseded = 0;
    for seed in 0..40 {
        let link = sim::Config { burst: if seed % 3 == 0 { 4.0 } else { 1.0 }, ..BAD };
        let window = [8, 16, 40, 64][seed as usize % 4];
        let config = Config { mtu: 512, send_window: 64, recv_window: window, ..Config::GAMES };
        let heap = story(joined(Heap::engine(CONV, config), Heap::engine(CONV, config), link, seed), seed);
        let (a, b) = (engine(config, LENT_LANES, 20_000), engine(config, LENT_LANES, 20_000));
        let lent = story(joined(a, b, link, seed), seed);
        assert!(heap.0 == lent.0, "seed {seed}: what comes");
        assert!(heap.1 == lent.1, "seed {seed}: what is sent");
        assert_eq!(heap.2, lent.2, "seed {seed}");
        superseded += lent.2.superseded;
    }
    assert!(superseded > 50, "{superseded}");
}

/// There are as many lanes as memory was lent for, and a new conversation may use others.
#[test]
fn lanes_are_those_that_memory_was_lent_for() {
    let config = Config { mtu: 512, recv_window: 16, ..Config::GAMES };
    let link = sim::Config::clean(Duration::from_millis(20));
    let mut pair = joined(engine(config, 2, 1_000), engine(config, 2, 1_000), link, 1);
    for round in 0..3 {
        for number in [round, round + 1] {
            assert!(pair.a.stream_of(lane(number + 1)).is_some(), "lane {}", number + 1);
        }
        assert!(pair.a.stream_of(lane(7)).is_none() && pair.a.stream_of(Lane::NORMAL).is_some());
        let stream = pair.a.stream_of(lane(round + 1)).unwrap();
        stream.push(&[round; 1_000]).unwrap();
        assert!(stream.push(&[1]).is_err(), "no more than was lent");
        pair.run_for(Duration::from_millis(500));
        assert_eq!(pair.got(lane(round + 1)), [round; 1_000]);
        pair.a.reset(CONV);
        pair.b.reset(CONV);
        pair = joined(pair.a, pair.b, link, 2);
    }
}

/// Without memory for what waits beside the window there is none of it that a peer could use, and no engine says otherwise.
#[test]
fn a_window_that_is_longer_than_what_was_lent_has_no_lanes() {
    let mut kcp = Lent::engine(CONV, Config { recv_window: 65, ..Config::GAMES });
    let (parked, early) = (leak(Deque::<Parked<LentKept>, 64>::new()), leak(Deque::<Early, 64>::new()));
    assert!(!kcp.lend_lanes(parked.as_mut_view(), early.as_mut_view()));
    kcp.negotiated(Peer { lanes: true, ..*kcp.peer() });
    kcp.begin_numbers(Instant::from_millis(1));
    assert!(kcp.stream_of(lane(1)).is_none());
    let item = [0x45, 0, 0, 1, 0, 0, 7];
    let _ = kcp.handle_datagram_lanes(Instant::from_millis(2), &item, Origin::Numbered(0), |_, bytes| bytes.len());
    assert_eq!((kcp.stats().refused, kcp.stats().segments_received), (1, 0));
}

/// Segments that contradict themselves cost no memory for good, and nothing that is in order is lost.
#[test]
fn lies_about_lanes_leave_all_memory_free() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let mut kcp = engine(Config { mtu: 512, recv_window: 16, ..Config::GAMES }, 1, 100);
        kcp.negotiated(Peer { lanes: true, latest: true, pieces: true, repairs: true, ..*kcp.peer() });
        kcp.begin_numbers(Instant::from_millis(1));
        let mut now = Instant::from_millis(2);
        for number in 0..400 {
            let kinds = [0x45, 0x05, 0x65, 0x4b, 0x45];
            let mut item = vec![kinds[rng.usize(..kinds.len())], rng.u8(..20), 0];
            item.extend([rng.u8(..9) | [0, 0, 0x80, 0x40][rng.usize(..4)], rng.u8(..8), 0]);
            item.extend((0..rng.usize(..40)).map(|_| rng.u8(..4)));
            let hungry = rng.bool();
            let sink = |_: Lane, bytes: &[u8]| if hungry { bytes.len() } else { 0 };
            let _ = kcp.handle_datagram_lanes(now, &item, Origin::Numbered(number), sink);
            if rng.u8(..10) == 0 {
                kcp.recv_lanes(now, |_, bytes| bytes.len());
            }
            now += Duration::from_millis(1);
        }
        kcp.recv_lanes(now, |_, bytes| bytes.len());
        assert_eq!(kcp.front(), None, "seed {seed}");
        // All of the window can be filled once more.
        kcp.reset(CONV);
        kcp.negotiated(Peer { lanes: true, ..*kcp.peer() });
        kcp.begin_numbers(now);
        let before = kcp.stats().segments_received;
        for sn in (0..16).rev() {
            let item = [0x45, sn, 0, 1, sn, 0, 7, 7, 7, 7];
            let _ = kcp.handle_datagram_lanes(now, &item, Origin::Numbered(sn.into()), |_, _| 0);
        }
        assert_eq!(kcp.stats().segments_received - before, 16);
        let mut read = 0;
        kcp.recv_lanes(now, |_, bytes| {
            read += bytes.len();
            bytes.len()
        });
        assert_eq!(read, 16 * 4);
    }
}
