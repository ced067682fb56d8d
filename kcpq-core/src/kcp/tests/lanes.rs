//! Several lanes in one conversation.

use super::*;
use crate::store::{Heap, TxStream};

pub(super) type Lanes = Pair<Heap, Heap>;

/// Two native ends that know all there is.
pub(super) fn pair(link: sim::Config, config: Config, seed: u64) -> Lanes {
    let (mut a, mut b) = (Heap::engine(CONV, config), Heap::engine(CONV, config));
    for end in [&mut a, &mut b] {
        end.negotiated(Peer { repairs: true, pieces: true, lanes: true, ..*end.peer() });
        end.begin_numbers(Instant::from_millis(1));
    }
    let mut pair = Pair::new(a, b, link, seed);
    pair.numbered = true;
    pair
}

impl<A: Store, B: Store> Pair<A, B> {
    fn send(&mut self, lane: Lane, bytes: &[u8]) {
        self.a.stream_of(lane).unwrap().push(bytes).unwrap();
    }

    pub(super) fn got(&self, lane: Lane) -> &[u8] {
        if lane.is_main() { &self.got } else { &self.by_lane[usize::from(lane.number())] }
    }

    /// Reads what was left, of all lanes but those that are refused.
    pub(super) fn read_on(&mut self) {
        let Self { b, got, by_lane, refused, .. } = self;
        b.recv_lanes(self.now, |lane, bytes| {
            if *refused & 1 << lane.number() != 0 {
                return 0;
            }
            let place = if lane.is_main() { &mut *got } else { &mut by_lane[usize::from(lane.number())] };
            place.extend_from_slice(bytes);
            bytes.len()
        });
        self.settle();
    }
}

pub(super) fn lane(number: u8) -> Lane {
    Lane::new(number).unwrap()
}

const CLEAN: sim::Config = sim::Config::clean(Duration::from_millis(20));

/// In each lane everything once and in order, whatever the link does, whichever lanes are not read for a while, and whatever
/// becomes of the path's MTU.
#[test]
fn each_lane_is_in_order_and_nothing_is_lost_or_doubled() {
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let link = sim::Config { burst: if seed % 3 == 0 { 4.0 } else { 1.0 }, ..BAD };
        let config = Config { recv_window: if seed % 4 == 0 { 40 } else { 1_024 }, ..Config::GAMES };
        let mut pair = pair(link, config, seed);
        if seed % 5 == 0 {
            // The first numbers of lanes and segments wrap around.
            let start = Sn(u32::MAX - 20);
            pair.a.start_at(start, u32::MAX - 1_000, Sn(7));
            pair.b.start_at(Sn(7), 0, start);
        }
        let mut sent: [Vec<u8>; Lane::COUNT] = Default::default();
        for round in 0..400 {
            let number = rng.usize(..Lane::COUNT);
            let data = payload(if rng.u8(..8) == 0 { rng.usize(1..20_000) } else { rng.usize(1..300) }, rng.u64(..));
            pair.send(lane(number as u8), &data);
            sent[number].extend(data);
            if rng.u8(..20) == 0 {
                pair.refused = rng.u8(..) & !2;
                pair.read_on();
            }
            if round == 200 && seed % 2 == 0 {
                pair.a.on_too_long(pair.now, 1_000);
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
        for lane in Lane::all() {
            assert!(pair.got(lane) == sent[usize::from(lane.number())], "seed {seed}: {lane}");
        }
        assert_eq!((pair.b.held() > 100_000, pair.b.front()), (false, None), "seed {seed}");
        // What was missing has come, so what comes next need not say its lane.
        pair.send(Lane::NORMAL, b"plain again");
        pair.settle();
        assert_eq!(kind_of_last(&pair), 0x05, "seed {seed}");
    }
}

/// The kind of the first PUSH of the last datagram, which begins with it.
fn kind_of_last(pair: &Lanes) -> u8 {
    pair.trace.last().unwrap().1[4]
}

#[test]
fn without_other_lanes_not_a_byte_is_different() {
    let trace = |lanes| {
        let mut pair = pair(BAD, Config::GAMES, 3);
        for end in [&mut pair.a, &mut pair.b] {
            end.negotiated(Peer { lanes, ..*end.peer() });
        }
        deliver(pair, &payload(200_000, 1))
    };
    assert!(trace(true) == trace(false));
}

/// The segment with this content is lost on its way; returns after how long that of the other lane had come.
fn late(lost: Lane, other: Lane) -> Duration {
    let mut pair = pair(CLEAN, Config { redundancy: 0, ..Config::GAMES }, 1);
    pair.send(Lane::NORMAL, b"warm");
    pair.run_for(Duration::from_millis(200));
    pair.there.set_down(true);
    pair.send(lost, &[1; 900]);
    pair.settle();
    pair.there.set_down(false);
    pair.send(other, &[2; 900]);
    let (begun, before) = (pair.now, pair.got(other).len());
    while pair.got(other).len() < before + 900 {
        assert!(pair.step());
    }
    let took = pair.now.since(begun);
    pair.run_for(Duration::from_millis(2_000));
    assert_eq!((pair.got(lost).last(), pair.a.unacked()), (Some(if lost == other { &2 } else { &1 }), 0));
    took
}

#[test]
fn what_one_lane_has_lost_another_does_not_wait_for() {
    let delay = CLEAN.delay;
    for (lost, other) in [(3, 4), (4, 0), (1, 6), (6, 1)] {
        assert_eq!(late(lane(lost), lane(other)), delay, "{lost} was lost, {other} came");
    }
    for same in [0, 3] {
        assert!(late(lane(same), lane(same)) > delay.saturating_mul(2), "in one lane there is order");
    }
    // Nobody knows whose it was: what says no lane is behind all that was sent before.
    assert_eq!(late(lane(0), lane(3)), delay);
}

/// What goes first is what has the higher priority, and what has the same goes by turns.
#[test]
fn lanes_have_their_shares() {
    let link = sim::Config { bandwidth: Some(125_000), mtu: 1_472, ..CLEAN };
    let mut pair = pair(link, Config::GAMES, 1);
    for number in [0, 3, 5, 1, 6] {
        pair.send(lane(number), &payload(200_000, number.into()));
    }
    pair.run_for(Duration::from_millis(1_500));
    let shares = |pair: &Lanes| [1, 0, 3, 5, 6].map(|number| pair.got(lane(number)).len());
    let [urgent, a, b, c, bulk] = shares(&pair);
    assert!(urgent > 10 * (a + b + c) && a + b + c > 2_000 && urgent < 200_000, "{:?}", shares(&pair));
    pair.run_for(Duration::from_millis(1_500));
    let [urgent, a, b, c, bulk_then] = shares(&pair);
    assert_eq!(urgent, 200_000);
    let (least, most) = (a.min(b).min(c), a.max(b).max(c));
    assert!(most - least < 5_000 && least > 20_000, "{:?}", shares(&pair));
    assert!(bulk_then > bulk && bulk_then < least / 3, "{:?}", shares(&pair));
    pair.run_for(Duration::from_millis(8_000));
    assert_eq!(shares(&pair), [200_000; 5]);
}

/// What is not read of one lane keeps the window from being opened further, but not the urgent lanes from using it.
#[test]
fn a_lane_that_is_not_read_does_not_hold_up_urgent_ones() {
    let mut pair = pair(CLEAN, Config { recv_window: 64, ..Config::GAMES }, 1);
    pair.refused = 1 << Lane::BULK.number();
    pair.send(Lane::BULK, &payload(500_000, 1));
    pair.run_for(Duration::from_millis(2_000));
    assert!(pair.got(Lane::BULK).is_empty() && pair.a.unacked() > 0);
    for round in 1..200 {
        pair.send(Lane::URGENT, &[7; 100]);
        pair.run_for(Duration::from_millis(40));
        assert_eq!(pair.got(Lane::URGENT).len(), 100 * round);
    }
    assert!(pair.b.held() < 64 * 2_048);
    pair.refused = 0;
    while pair.a.unacked() > 0 {
        pair.read_on();
        assert!(pair.step() && pair.now < Instant::from_millis(60_000));
    }
    assert!(pair.got(Lane::BULK) == payload(500_000, 1));
}

/// After a burst of losses in a bulk lane what is urgent does not wait for all of it to be sent again.
#[test]
fn pieces_go_out_however_narrow_the_path_has_become() {
    let mut pair = pair(CLEAN, Config { redundancy: 0, ..Config::GAMES }, 1);
    pair.there.set_down(true);
    pair.send(Lane::NORMAL, &[1; 1_300]);
    pair.settle();
    pair.there.set_down(false);
    pair.a.on_too_long(pair.now, 150);
    assert!(pair.a.mtu() < 100, "{}", pair.a.mtu());
    let before = pair.trace.len();
    while pair.got.len() < 1_300 {
        assert!(pair.step() && pair.now < Instant::from_millis(10_000));
    }
    assert!(pair.trace[before..].iter().all(|(_, datagram)| datagram.len() < 150));
}

#[test]
fn what_is_urgent_goes_before_what_is_sent_again() {
    let link = sim::Config { bandwidth: Some(1_250_000), mtu: 1_472, ..CLEAN };
    let mut pair = pair(link, Config { redundancy: 0, ..Config::GAMES }, 1);
    pair.send(Lane::BULK, &payload(4_000_000, 1));
    pair.run_for(Duration::from_millis(1_000));
    pair.there.set_down(true);
    pair.run_for(Duration::from_millis(60));
    pair.there.set_down(false);
    let mut longest = Duration::ZERO;
    for round in 1..20 {
        pair.send(Lane::URGENT, &[7; 100]);
        let begun = pair.now;
        while pair.got(Lane::URGENT).len() < 100 * round {
            assert!(pair.step());
        }
        longest = longest.max(pair.now.since(begun));
        pair.run_until(begun + Duration::from_millis(25));
    }
    assert!(pair.a.stats().retransmitted > 3, "{:?}", pair.a.stats());
    // Its delay, and what the link has in its queue: a segment takes 12 ms of it.
    assert!(longest < CLEAN.delay + Duration::from_millis(60), "{longest:?}");
}

#[test]
fn what_is_urgent_and_lost_is_sent_again_before_what_waits() {
    let link = sim::Config { bandwidth: Some(1_250_000), mtu: 1_472, ..CLEAN };
    let mut pair = pair(link, Config { redundancy: 0, ..Config::GAMES }, 1);
    pair.send(Lane::BULK, &payload(4_000_000, 1));
    pair.run_for(Duration::from_millis(1_000));
    pair.there.set_down(true);
    pair.send(Lane::URGENT, &[7; 100]);
    pair.settle();
    pair.there.set_down(false);
    let begun = pair.now;
    while pair.got(Lane::URGENT).len() < 100 {
        assert!(pair.step());
    }
    assert!(pair.a.unsent() > 100_000, "something waits");
    // That it is lost is seen after a round trip, and it is sent twice.
    let took = pair.now.since(begun);
    assert!(took < Duration::from_millis(120), "{took:?}");
}

#[test]
fn who_has_not_agreed_takes_no_lanes() {
    let mut pair = pair(CLEAN, Config::GAMES, 1);
    pair.b.negotiated(Peer { lanes: false, ..*pair.b.peer() });
    pair.send(lane(3), b"lane");
    pair.run_for(Duration::from_millis(100));
    assert_eq!((pair.got(lane(3)), pair.b.stats().malformed > 0), (&[][..], true));
    assert!(pair.b.stream_of(lane(3)).is_none());
}

/// Segments that contradict themselves cost nobody else anything.
#[test]
fn lies_about_lanes_are_harmless() {
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let mut b = Heap::engine(CONV, Config { recv_window: 64, ..Config::GAMES });
        b.negotiated(Peer { lanes: true, pieces: true, repairs: true, ..*b.peer() });
        b.begin_numbers(Instant::from_millis(1));
        let mut now = Instant::from_millis(2);
        for number in 0..400 {
            let kinds = [0x45, 0x05, 0x65, 0x4b, 0x45];
            let mut item = vec![kinds[rng.usize(..kinds.len())], rng.u8(..80), 0];
            item.extend([rng.u8(..9), rng.u8(..8), 0]);
            item.extend((0..rng.usize(..40)).map(|_| rng.u8(..)));
            let hungry = rng.bool();
            let sink = |_: Lane, bytes: &[u8]| if hungry { bytes.len() } else { 0 };
            let _ = b.handle_datagram_lanes(now, &item, Origin::Numbered(number), sink);
            if rng.u8(..10) == 0 {
                b.recv_lanes(now, |_, bytes| bytes.len());
            }
            now += Duration::from_millis(1);
            assert!(b.held() < 64 * 1_000, "{} bytes are held", b.held());
        }
        b.recv_lanes(now, |_, bytes| bytes.len());
        assert_eq!(b.front(), None, "seed {seed}");
    }
}
