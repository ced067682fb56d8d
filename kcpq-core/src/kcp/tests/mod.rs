//! The engine in virtual time over a simulated link, on all stores there are.

#[path = "../../../tests/common/engine.rs"]
mod engine;
#[cfg(all(feature = "lanes", feature = "repair", feature = "pieces"))]
mod lanes;
#[cfg(all(feature = "lanes", feature = "repair", feature = "pieces"))]
mod latest;
#[cfg(all(feature = "lanes", feature = "repair", feature = "pieces"))]
mod lent_lanes;
#[cfg(feature = "pieces")]
mod mtu;
#[cfg(all(feature = "native", feature = "repair"))]
mod native;
#[cfg(feature = "kcp-modes")]
mod wrap;

use alloc::vec;
use alloc::vec::Vec;

use fastrand::Rng;

use self::engine::Make;
use super::*;
use crate::sim::{self, Link};
#[cfg(feature = "alloc")]
use crate::store::Heap as Any;
use crate::store::Lent;
#[cfg(feature = "alloc")]
use crate::store::Room;
use crate::time::Duration;

/// The store of whatever may have either: the allocator's if there is one.
#[cfg(not(feature = "alloc"))]
type Any = Lent<'static>;

const CONV: u32 = 0x0102_0304;

/// Two engines and the links between them.
struct Pair<A: Store, B: Store> {
    now: Instant,
    a: Kcp<A>,
    b: Kcp<B>,
    there: Link,
    back: Link,
    /// Bytes that `b` has read.
    got: Vec<u8>,
    /// The same of other lanes than 0, by their numbers.
    by_lane: [Vec<u8>; Lane::COUNT],
    /// Bytes that `b` will still take, and lanes of which it takes nothing, as bits.
    appetite: usize,
    refused: u8,
    /// Every datagram that `a` sent: when, and its bytes.
    trace: Vec<(Instant, Vec<u8>)>,
    /// Datagrams are native ones; their number stands in front.
    numbered: bool,
}

/// What has come.
fn arrived(numbered: bool, datagram: &[u8]) -> (Origin, &[u8]) {
    match datagram.split_first_chunk() {
        Some((number, items)) if numbered => (Origin::Numbered(u32::from_le_bytes(*number)), items),
        _ => (Origin::Wire, datagram),
    }
}

fn transmit<S: Store>(numbered: bool, kcp: &mut Kcp<S>, now: Instant, buf: &mut [u8]) -> Option<usize> {
    if !numbered {
        return kcp.poll_transmit(now, buf);
    }
    let number = kcp.next_number(now) as u32;
    let len = kcp.poll_transmit(now, &mut buf[4..])?;
    buf[..4].copy_from_slice(&number.to_le_bytes());
    Some(4 + len)
}

impl<A: Store, B: Store> Pair<A, B> {
    fn new(a: Kcp<A>, b: Kcp<B>, link: sim::Config, seed: u64) -> Self {
        let now = Instant::from_millis(1);
        let (there, back) = (Link::new(link, seed), Link::new(link, seed ^ 0x5555));
        Self {
            now,
            a,
            b,
            there,
            back,
            got: Vec::new(),
            by_lane: Default::default(),
            appetite: usize::MAX,
            refused: 0,
            trace: Vec::new(),
            numbered: false,
        }
    }

    /// Handles everything due at this moment.
    fn settle(&mut self) {
        let mut buf = [0; 16_000];
        loop {
            let mut idle = true;
            while let Some(datagram) = self.there.recv(self.now) {
                let (origin, datagram) = arrived(self.numbered, &datagram);
                let Self { got, by_lane, appetite, refused, .. } = self;
                let _ = self.b.handle_datagram_lanes(self.now, datagram, origin, |lane, bytes| {
                    let taken = *refused & 1 << lane.number() == 0;
                    let count = if taken { bytes.len().min(*appetite) } else { 0 };
                    *appetite -= count;
                    let place = if lane.is_main() { &mut *got } else { &mut by_lane[usize::from(lane.number())] };
                    place.extend_from_slice(&bytes[..count]);
                    count
                });
                idle = false;
            }
            while let Some(datagram) = self.back.recv(self.now) {
                let (origin, datagram) = arrived(self.numbered, &datagram);
                let _ = self.a.handle_datagram(self.now, datagram, origin, |_| 0);
                idle = false;
            }
            while let Some(len) = transmit(self.numbered, &mut self.a, self.now, &mut buf) {
                self.trace.push((self.now, buf[..len].to_vec()));
                self.there.send(self.now, &buf[..len]);
                idle = false;
            }
            while let Some(len) = transmit(self.numbered, &mut self.b, self.now, &mut buf) {
                self.back.send(self.now, &buf[..len]);
                idle = false;
            }
            if idle {
                self.a.sender.check();
                return;
            }
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let ends = [self.a.poll_timeout(), self.b.poll_timeout()].map(|deadline| deadline.map(|deadline| deadline.at));
        let links = [self.there.next_arrival(), self.back.next_arrival()];
        links.into_iter().chain(ends).flatten().min()
    }

    /// Goes to the next moment at which something happens; false if nothing ever will.
    fn step(&mut self) -> bool {
        self.settle();
        let Some(next) = self.next() else { return false };
        assert!(next >= self.now, "a deadline in the past would spin");
        self.now = next.max(self.now + Duration::from_micros(1));
        self.settle();
        true
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end && self.step() {}
    }

    /// Goes on to this moment, whether something happens until then or not.
    fn run_until(&mut self, end: Instant) {
        self.settle();
        while self.next().is_some_and(|next| next <= end) {
            self.step();
        }
        self.now = end;
    }
}

/// Both ends know repairs.
#[cfg(feature = "repair")]
fn know_repairs<S: Store>(kcp: &mut Kcp<S>) {
    kcp.negotiated(Peer { repairs: true, ..*kcp.peer() });
}

fn payload(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

const BAD: sim::Config = sim::Config {
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(30),
    loss: 0.1,
    burst: 1.0,
    duplicate: 0.05,
    corrupt: 0.0,
    bandwidth: None,
    queue: usize::MAX,
    mtu: usize::MAX,
    cut: usize::MAX,
};

/// Sends `data` from one end to the other and expects it there; returns the trace.
fn transfer<A: Make, B: Make>(config: Config, link: sim::Config, data: &[u8], seed: u64) -> Vec<(Instant, Vec<u8>)> {
    transfer_between(A::engine(CONV, config), B::engine(CONV, config), link, data, seed)
}

fn transfer_between<A: Store, B: Store>(
    a: Kcp<A>,
    b: Kcp<B>,
    link: sim::Config,
    data: &[u8],
    seed: u64,
) -> Vec<(Instant, Vec<u8>)> {
    deliver(Pair::new(a, b, link, seed), data)
}

/// Lets one end send `data` and expects it at the other one.
fn deliver<A: Store, B: Store>(mut pair: Pair<A, B>, data: &[u8]) -> Vec<(Instant, Vec<u8>)> {
    let mut rest = data;
    while pair.got.len() < data.len() || pair.a.unacked() > 0 {
        // As an application would: a little ahead of what was sent.
        while !rest.is_empty() && pair.a.unsent() < 20_000 {
            let count = rest.len().min(1_000);
            pair.a.send(&rest[..count]).unwrap();
            rest = &rest[count..];
        }
        assert!(pair.step(), "stalled at {} of {} bytes", pair.got.len(), data.len());
        assert!(pair.now < Instant::from_millis(600_000), "took more than ten minutes");
    }
    assert!(pair.got == data, "bytes were altered");
    pair.trace
}

#[test]
fn bytes_arrive_once_and_in_order_over_a_bad_link() {
    let data = payload(500_000, 1);
    for seed in 0..5 {
        for config in [Config::GAMES, Config::VIDEO] {
            transfer::<Any, Any>(config, BAD, &data, seed);
            transfer::<Lent<'static>, Lent<'static>>(config, BAD, &data, seed);
        }
        #[cfg(feature = "kcp-modes")]
        transfer::<Lent<'static>, Any>(Config::STEADY, BAD, &data[..100_000], seed);
    }
}

#[test]
fn both_stores_give_the_same_trace() {
    let data = payload(300_000, 2);
    for seed in 0..5 {
        let heap = transfer::<Any, Any>(Config::GAMES, BAD, &data, seed);
        let lent = transfer::<Lent<'static>, Lent<'static>>(Config::GAMES, BAD, &data, seed);
        assert!(heap == lent, "seed {seed}: {} and {} datagrams", heap.len(), lent.len());
    }
}

#[test]
fn numbers_and_clocks_wrap_around() {
    let data = payload(200_000, 3);
    let start = Sn(u32::MAX - 10);
    for seed in 0..5 {
        let mut a = Any::engine(CONV, Config::GAMES);
        let mut b = Lent::engine(CONV, Config::GAMES);
        a.start_at(start, u32::MAX - 1_000, Sn(7));
        b.start_at(Sn(7), 0, start);
        let mut pair = Pair::new(a, b, BAD, seed);
        // The wire's clock wraps during the run.
        pair.now = Instant::from_millis(u64::from(u32::MAX) - 300);
        pair.a.send(&data).unwrap();
        while pair.got.len() < data.len() {
            assert!(pair.step());
        }
        assert!(pair.got == data);
    }
}

#[cfg(feature = "kcp-modes")]
#[test]
fn messages_keep_their_boundaries() {
    let config = Config { mode: Mode::Message, recv_window: 64, ..Config::GAMES };
    let mut rng = Rng::with_seed(4);
    for seed in 0..4 {
        let (a, b) = (Lent::engine(CONV, config), Any::engine(CONV, config));
        let mut pair = Pair::new(a, b, BAD, seed);
        let messages: Vec<Vec<u8>> = (0..200).map(|n| payload(1 + rng.usize(..5_000), n)).collect();
        let mut waiting = messages.iter();
        let mut next = waiting.next();
        let mut received = Vec::new();
        while received.len() < messages.len() {
            while let Some(message) = next {
                match pair.a.send(message) {
                    Ok(()) => next = waiting.next(),
                    Err(error) => {
                        assert_eq!(error, SendError::Full);
                        break;
                    }
                }
            }
            assert!(pair.step());
            let mut out = [0; 5_000];
            while let Some(len) = pair.b.recv_message(pair.now, &mut out).unwrap() {
                received.push(out[..len].to_vec());
            }
        }
        assert!(received == messages);
    }
}

#[cfg(feature = "kcp-modes")]
#[test]
fn a_new_conversation_has_nothing_of_the_messages_of_the_last_one() {
    let mut kcp = Any::engine(CONV, Config { mode: Mode::Message, ..Config::GAMES });
    kcp.send(&[1; 300]).unwrap();
    kcp.reset(CONV + 1);
    kcp.send(&[2; 10]).unwrap();
    let mut out = [0; 500];
    assert_eq!(kcp.poll_transmit(Instant::ZERO, &mut out), Some(HEADER + 10));
    assert_eq!((out[5], &out[HEADER..HEADER + 10]), (0, &[2; 10][..]), "a whole message");
}

#[cfg(feature = "kcp-modes")]
#[test]
fn a_message_may_have_255_segments_and_no_more() {
    let config = Config { mode: Mode::Message, ..Config::GAMES };
    let mut a = Any::engine(CONV, config);
    let limit = 255 * a.mss();
    assert_eq!(a.send(&vec![0; limit + 1]), Err(SendError::TooLong { limit, actual: limit + 1 }));
    assert_eq!(a.unacked(), 0, "nothing was queued");
    let mut pair = Pair::new(a, Any::engine(CONV, config), sim::Config::clean(Duration::from_millis(1)), 1);
    pair.a.send(&vec![7; limit]).unwrap();
    pair.run_for(Duration::from_secs(1));
    let mut small = [0; 10];
    assert_eq!(pair.b.recv_message(pair.now, &mut small), Err(TooLarge { limit: 10, actual: limit }));
    let mut out = vec![0; limit];
    assert_eq!(pair.b.recv_message(pair.now, &mut out), Ok(Some(limit)));
    assert!(out.iter().all(|byte| *byte == 7));
}

#[test]
fn a_slow_reader_closes_the_window_and_opens_it_again() {
    let config = Config { recv_window: 8, ..Config::GAMES };
    for (loss, seed) in [(0.0, 1), (0.3, 2), (0.3, 3)] {
        let link = sim::Config { loss, ..sim::Config::clean(Duration::from_millis(5)) };
        let mut pair = Pair::new(Any::engine(CONV, config), Lent::engine(CONV, config), link, seed);
        let data = payload(60_000, seed);
        pair.appetite = 100;
        pair.a.send(&data).unwrap();
        pair.run_for(Duration::from_secs(20));
        assert!(pair.got.len() == 100, "the rest waits");
        assert_eq!(pair.a.remote_window(), 0);
        assert!(pair.a.stats().window_probes > 0, "a closed window is asked about");
        let mut end = None;
        while pair.got.len() < data.len() {
            let got = &mut pair.got;
            pair.b.recv(pair.now, |bytes| {
                got.extend_from_slice(bytes);
                bytes.len()
            });
            pair.appetite = usize::MAX;
            end = Some(pair.now);
            assert!(pair.step());
        }
        assert!(pair.got == data);
        assert!(end.is_some());
    }
}

#[test]
fn a_lost_segment_is_sent_again_after_later_ones_were_acknowledged() {
    let link = sim::Config::clean(Duration::from_millis(50));
    let mut pair = Pair::new(Any::engine(CONV, Config::GAMES), Any::engine(CONV, Config::GAMES), link, 1);
    pair.a.send(&[1; 100]).unwrap();
    pair.run_for(Duration::from_millis(500));
    pair.there.set_down(true);
    pair.a.send(&[2; 100]).unwrap();
    pair.settle();
    pair.there.set_down(false);
    for n in 3..6 {
        pair.now += Duration::from_millis(2);
        pair.a.send(&[n; 100]).unwrap();
        pair.settle();
    }
    let before = pair.now;
    while pair.got.len() < 500 {
        assert!(pair.step());
    }
    assert_eq!(pair.a.stats().lost_timeout, 0, "no timer was needed");
    assert!(pair.a.stats().lost_fast >= 1);
    assert!(pair.now.since(before) < Duration::from_millis(160));
}

#[cfg(feature = "bbr")]
#[test]
fn a_peer_that_acknowledges_at_its_ticks_is_neither_sent_things_twice_nor_taken_for_a_narrow_link() {
    let tick = Duration::from_millis(20);
    let config = Config { congestion: CongestionControl::Bbr, ..Config::GAMES };
    let ticking = Config { interval: tick, ack_delay: tick, recv_window: 1024, ..config };
    let link = sim::Config::clean(Duration::from_micros(100));
    let mut pair = Pair::new(Any::engine(CONV, config), Any::engine(CONV, ticking), link, 1);
    // A first answer came at once, before it was known who the peer is.
    pair.b.env.config.ack_delay = Duration::ZERO;
    pair.a.send(b"hello").unwrap();
    pair.run_for(Duration::from_millis(50));
    pair.b.env.config.ack_delay = tick;
    let peer = Peer { min_rto: Duration::from_millis(30), rto_margin: tick, ack_delay: tick, ..*pair.a.peer() };
    pair.a.negotiated(peer);
    let end = pair.now + Duration::from_secs(3);
    while pair.now < end {
        while pair.a.unsent() < 20_000 {
            pair.a.send(&[7; 1_000]).unwrap();
        }
        assert!(pair.step());
    }
    assert!(pair.got.len() > 30_000_000, "{} bytes in 3 s", pair.got.len());
    assert!(pair.a.stats().retransmitted < 50, "{:?}", pair.a.stats());
}

#[test]
fn nothing_is_sent_while_nothing_is_due() {
    let link = sim::Config::clean(Duration::from_millis(5));
    let mut pair = Pair::new(Any::engine(CONV, Config::GAMES), Any::engine(CONV, Config::GAMES), link, 1);
    pair.a.send(b"hello").unwrap();
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.got, b"hello");
    assert_eq!(pair.a.poll_timeout(), None);
    assert_eq!(pair.b.poll_timeout(), None);
    assert_eq!((pair.a.stats().datagrams_sent, pair.b.stats().datagrams_sent), (1, 1));
}

#[test]
fn small_writes_share_a_segment() {
    let mut a = Any::engine(CONV, Config::GAMES);
    for _ in 0..10 {
        a.send(&[7; 100]).unwrap();
    }
    let mut buf = [0; 2048];
    assert_eq!(a.poll_transmit(Instant::ZERO, &mut buf), Some(HEADER + 1_000));
    assert_eq!(a.poll_transmit(Instant::ZERO, &mut buf), None);
}

#[test]
fn no_more_than_32_segments_go_to_a_peer_that_was_not_heard() {
    let mut a = Any::engine(CONV, Config::GAMES);
    a.send(&[0; 200_000]).unwrap();
    let mut buf = [0; 2048];
    let mut count = 0;
    while a.poll_transmit(Instant::ZERO, &mut buf).is_some() {
        count += 1;
    }
    assert_eq!(count, 32);
}

#[test]
fn a_dead_link_shows_by_time() {
    let link = sim::Config { loss: 1.0, ..sim::Config::clean(Duration::from_millis(5)) };
    let mut pair = Pair::new(Any::engine(CONV, Config::GAMES), Any::engine(CONV, Config::GAMES), link, 1);
    let begun = pair.now;
    pair.a.send(b"hello").unwrap();
    pair.run_for(Duration::from_secs(30));
    assert_eq!(pair.a.stalled_since(), Some(begun));
    assert!(pair.a.stats().retransmitted > 5);
}

/// A receiver without memory for them drops segments that it had told a window for. Who sent them is told, takes that for no
/// dead link, and sends them at once when there is memory again.
#[cfg(feature = "alloc")]
#[test]
fn what_was_refused_for_want_of_memory_goes_again_as_soon_as_there_is_some() {
    let round_trip = Duration::from_millis(10);
    let link = sim::Config::clean(Duration::from_millis(5));
    let config = Config { congestion: CongestionControl::Off, ..Config::GAMES };
    let mut pair = Pair::new(Heap::engine(CONV, config), Heap::engine(CONV, config), link, 1);
    let data = payload(60_000, 1);
    pair.a.send(&data[..1_000]).unwrap();
    pair.run_for(Duration::from_secs(1));
    pair.a.send(&data[1_000..]).unwrap();
    pair.b.set_room(pair.now, Some(Room { next: 20_000, waiting: 20_000 }));
    pair.run_for(Duration::from_secs(45));
    assert!(pair.got.len() < 30_000 && pair.b.stats().refused > 0 && pair.a.in_flight() > 0);
    let stalled = pair.a.stalled_since().map(|since| pair.now.since(since));
    assert!(stalled.is_some_and(|span| span < Duration::from_secs(20)), "{stalled:?}");
    pair.b.set_room(pair.now, None);
    pair.run_for(round_trip.saturating_mul(3));
    assert!(pair.got == data, "{} bytes", pair.got.len());
}

/// A peer that has stopped, and to which more and more is sent.
#[test]
fn however_much_waits_for_one_who_is_silent_little_of_it_is_sent_again() {
    let config = Config { congestion: CongestionControl::Off, ..Config::GAMES };
    let link = sim::Config::clean(Duration::from_micros(100));
    let mut pair = Pair::new(Any::engine(CONV, config), Any::engine(CONV, config), link, 1);
    let publish = |pair: &mut Pair<_, _>, seconds: usize| {
        for _ in 0..seconds * 400 {
            let _ = pair.a.send(&[7; 128]);
            pair.run_until(pair.now + Duration::from_micros(2_500));
        }
    };
    publish(&mut pair, 1);
    assert_eq!(pair.a.stats().retransmitted, 0);
    pair.there.set_down(true);
    publish(&mut pair, 4);
    let first = pair.a.stats().retransmitted;
    publish(&mut pair, 6);
    let then = pair.a.stats().retransmitted - first;
    assert!((50..4_000).contains(&first) && (50..1_200).contains(&then), "{first} in 4 s, {then} in 6 s more");
    pair.there.set_down(false);
    pair.run_until(pair.now + Duration::from_secs(2));
    assert_eq!(pair.a.in_flight(), 0);
}

#[test]
fn lies_are_refused_without_harm() {
    let mut kcp = Any::engine(CONV, Config::GAMES);
    let now = Instant::from_millis(5);
    let mut took = 0;
    let mut handle = |kcp: &mut Kcp<Any>, bytes: &[u8]| {
        kcp.handle_datagram(now, bytes, Origin::Wire, |bytes| {
            took += bytes.len();
            bytes.len()
        })
    };
    for len in 0..HEADER {
        assert_eq!(handle(&mut kcp, &vec![0; len]), Err(Malformed::TooShort { actual: len }));
    }
    let push = Header { conv: CONV, command: Command::Push, frg: 0, wnd: 32, ts: Ts(0), sn: Sn(0), una: Sn(0), len: 0 };
    let foreign = Header { conv: 9, ..push }.to_bytes();
    assert_eq!(handle(&mut kcp, &foreign), Err(Malformed::Conversation { actual: 9 }));
    let lying = Header { len: 5, ..push }.to_bytes();
    assert_eq!(handle(&mut kcp, &lying), Err(Malformed::Length { announced: 5, actual: 0 }));
    let lying = Header { len: u32::MAX, ..push }.to_bytes();
    assert!(handle(&mut kcp, &lying).is_err());
    let mut unknown = push.to_bytes();
    unknown[4] = 99;
    assert_eq!(handle(&mut kcp, &unknown), Err(Malformed::Command { actual: 99 }));
    // Beyond the window: neither stored nor acknowledged.
    for sn in [1024, 0x7fff_ffff, 0x8000_0001] {
        let _ = handle(&mut kcp, &Header { sn: Sn(sn), ..push }.to_bytes());
    }
    // Acknowledgements of what was never sent change nothing.
    for una in [1, 0x7fff_ffff, u32::MAX] {
        handle(&mut kcp, &Header { command: Command::Ack, sn: Sn(una), una: Sn(una), ..push }.to_bytes()).unwrap();
    }
    assert_eq!(kcp.rtt().smoothed(), None);
    assert_eq!(took, 0);
    assert_eq!(kcp.stats().malformed, HEADER as u64 + 4);
}

#[test]
fn random_datagrams_never_panic_and_stay_bounded() {
    let mut rng = Rng::with_seed(7);
    let mut heap = Any::engine(CONV, Config::GAMES);
    let mut lent = Lent::engine(CONV, Config { recv_window: 16, ..Config::GAMES });
    let mut now = Instant::ZERO;
    let mut buf = [0; 2048];
    for _ in 0..100_000 {
        now += Duration::from_micros(rng.u64(..100_000));
        let mut datagram = Vec::new();
        for _ in 0..rng.usize(1..4) {
            let len = rng.usize(..40);
            let small = |rng: &mut Rng| if rng.bool() { rng.u32(..50) } else { rng.u32(..) };
            let header = Header {
                conv: CONV,
                command: [Command::Push, Command::Ack, Command::WindowProbe, Command::WindowUpdate][rng.usize(..4)],
                frg: rng.u8(..),
                wnd: rng.u16(..),
                ts: Ts(small(&mut rng)),
                sn: Sn(small(&mut rng)),
                una: Sn(small(&mut rng)),
                len: len as u32,
            };
            datagram.extend(header.to_bytes());
            datagram.extend((0..len).map(|n| n as u8));
        }
        let take = rng.bool();
        let _ = heap.handle_datagram(now, &datagram, Origin::Wire, |bytes| if take { bytes.len() } else { 0 });
        let _ = lent.handle_datagram(now, &datagram, Origin::Wire, |bytes| if take { bytes.len() } else { 0 });
        if rng.u8(..8) == 0 {
            let _ = heap.send(&[1; 100]);
            let _ = lent.send(&[1; 100]);
        }
        while heap.poll_transmit(now, &mut buf).is_some() {}
        while lent.poll_transmit(now, &mut buf).is_some() {}
        assert!(heap.poll_timeout().is_none_or(|deadline| deadline.at > now));
        assert!(lent.poll_timeout().is_none_or(|deadline| deadline.at > now));
    }
}

/// Segments lost at random, some repairs too: what the equations determine is rebuilt, and it is what was sent.
#[cfg(feature = "repair")]
#[test]
fn repairs_rebuild_what_they_determine() {
    let (mut lost, mut rebuilt) = (0, 0);
    for seed in 0..30 {
        let mut rng = Rng::with_seed(seed);
        let link = sim::Config { loss: 0.1, ..sim::Config::clean(Duration::from_millis(20)) };
        let mut pair = Pair::new(Any::engine(CONV, Config::GAMES), Any::engine(CONV, Config::GAMES), link, seed);
        know_repairs(&mut pair.a);
        know_repairs(&mut pair.b);
        let mut data = Vec::new();
        for n in 0..400 {
            let burst = payload(rng.usize(1..9_000), n);
            pair.a.send(&burst).unwrap();
            data.extend(burst);
            pair.run_for(Duration::from_millis(15));
        }
        pair.run_for(Duration::from_secs(5));
        assert!(pair.got == data, "seed {seed}: bytes were altered");
        lost += pair.there.stats().lost;
        rebuilt += pair.b.stats().rebuilt;
        assert_eq!((pair.a.stats().malformed, pair.b.stats().malformed), (0, 0));
    }
    // A quarter of what is sent are repairs, whose loss costs nothing.
    assert!(rebuilt * 10 > lost * 6, "{rebuilt} rebuilt of {lost} lost");
}

/// What one may send and what one understands are two things; and it is the segment's length that counts.
#[cfg(feature = "repair")]
#[test]
fn repairs_are_understood_and_small_messages_repaired_however_long_datagrams_may_be() {
    const JUMBO: Config = Config { mtu: 8_952, ..Config::GAMES };
    let link = sim::Config { loss: 0.05, ..sim::Config::clean(Duration::from_millis(15)) };
    for (config, long) in [(Config::GAMES, 0), (JUMBO, 0), (JUMBO, 20_000)] {
        let mut pair = Pair::new(Any::engine(CONV, config), Any::engine(CONV, JUMBO), link, 1);
        know_repairs(&mut pair.a);
        know_repairs(&mut pair.b);
        let mut data = Vec::new();
        for n in 0..1_000 {
            // Small messages behind long ones, in segments that no repair covers.
            let message = payload(if n % 10 == 0 { long.max(200) } else { 200 }, n);
            pair.a.send(&message).unwrap();
            data.extend(message);
            pair.run_for(Duration::from_millis(20));
        }
        pair.run_for(Duration::from_secs(5));
        assert!(pair.got == data, "bytes were altered");
        assert_eq!((pair.a.stats().malformed, pair.b.stats().malformed), (0, 0));
        let rebuilt = pair.b.stats().rebuilt;
        assert!(rebuilt > 10, "{rebuilt} rebuilt at {} and up to {long} bytes", config.mtu);
        // No segment above 2048 bytes of data is covered.
        for (_, datagram) in &pair.trace {
            let mut rest = &datagram[..];
            while let Ok((header, _, behind)) = Header::split(rest, CONV) {
                assert!(header.command != Command::Repair || header.len <= 2_048 + 3);
                rest = behind;
            }
        }
    }
}

#[cfg(feature = "redundancy")]
#[test]
fn a_peer_that_knows_no_repairs_gets_copies() {
    let link = sim::Config { loss: 0.05, ..sim::Config::clean(Duration::from_millis(15)) };
    let mut late = [0; 2];
    for (late, redundancy) in late.iter_mut().zip([0, 100]) {
        let config = Config { redundancy, ..Config::GAMES };
        let mut pair = Pair::new(Any::engine(CONV, config), Lent::engine(CONV, config), link, 1);
        for n in 1..=2_000 {
            let due = pair.now;
            pair.a.send(&[n as u8; 200]).unwrap();
            while pair.now < due + Duration::from_millis(20) && pair.step() {}
            *late += usize::from(pair.got.len() < n * 200);
            pair.now = pair.now.max(due + Duration::from_millis(20));
        }
        pair.run_for(Duration::from_secs(1));
        assert_eq!(pair.got.len(), 400_000);
        assert_eq!(redundancy > 0, pair.a.stats().repairs_sent > 0);
    }
    assert!(late[1] * 4 < late[0], "late without and with copies: {late:?}");
}

// Without copies, which come before it is sent again, more is sent again.
#[cfg(feature = "redundancy")]
#[test]
fn segments_that_overtake_each_other_teach_patience() {
    let link = sim::Config { jitter: Duration::from_millis(12), ..sim::Config::clean(Duration::from_millis(20)) };
    let mut pair = Pair::new(Any::engine(CONV, Config::GAMES), Any::engine(CONV, Config::GAMES), link, 3);
    let mut early = 0;
    for n in 0..2_000 {
        pair.a.send(&[7; 500]).unwrap();
        pair.run_for(Duration::from_millis(3));
        if n == 500 {
            early = pair.a.stats().retransmitted;
        }
    }
    let later = pair.a.stats().retransmitted - early;
    assert!(early > 0 && pair.a.stats().spurious > 0, "at first it is taken for loss");
    assert!(later < 1_500 / 20, "{later} of 1500 sent again for nothing");
}

#[test]
fn the_last_segments_of_a_burst_are_probed_and_time_tells_about_the_rest() {
    let link = sim::Config::clean(Duration::from_millis(50));
    let mut pair = Pair::new(Any::engine(CONV, Config::GAMES), Any::engine(CONV, Config::GAMES), link, 1);
    pair.a.send(&[1; 100]).unwrap();
    pair.run_for(Duration::from_millis(500));
    pair.there.set_down(true);
    pair.a.send(&[2; 20_000]).unwrap();
    pair.settle();
    pair.there.set_down(false);
    let begun = pair.now;
    while pair.got.len() < 20_100 {
        assert!(pair.step());
    }
    // After one sample the timer is three round trips long.
    assert!(pair.now.since(begun) < Duration::from_millis(460), "a timer, a round trip, and half of one");
    // Two by the timer, eight by the first probe.
    assert!(pair.a.stats().lost_timeout <= 10 && pair.a.stats().lost_fast >= 5, "{:?}", pair.a.stats());
}

#[cfg(feature = "kcp-modes")]
#[test]
fn congestion_control_takes_its_reaction_back_when_nothing_was_lost() {
    let config = Config { min_rto: Duration::from_millis(5), rto_margin: Duration::from_millis(4), ..Config::STEADY };
    let mut pair = Pair::new(
        Any::engine(CONV, config),
        Any::engine(CONV, config),
        sim::Config::clean(Duration::from_millis(10)),
        1,
    );
    for _ in 0..100 {
        pair.a.send(&[1; 5_000]).unwrap();
        pair.run_for(Duration::from_millis(30));
    }
    // The link becomes longer from one moment to the next: the timers run out for nothing.
    let longer = sim::Config::clean(Duration::from_millis(40));
    pair.there.set_config(longer);
    pair.back.set_config(longer);
    let mut least = u32::MAX;
    for _ in 0..20 {
        pair.a.send(&[1; 5_000]).unwrap();
        pair.run_for(Duration::from_millis(30));
        least = least.min(pair.a.sender.congestion_window());
    }
    assert!(pair.a.stats().spurious > 0);
    assert!(least < 4 && pair.a.sender.congestion_window() > 4, "{least}");
}

#[cfg(all(feature = "bbr", feature = "mtud"))]
/// A path that turns out to carry `len` bytes.
fn carries(len: u32) -> [u8; HEADER] {
    let (wnd, sn) = (u16::MAX, Sn(len));
    let command = Command::MtuProbeAck;
    Header { conv: CONV, command, frg: 0, wnd, ts: Ts(0), sn, una: Sn(0), len: 0 }.to_bytes()
}

#[cfg(all(feature = "bbr", feature = "mtud"))]
#[test]
fn the_initial_window_of_bbr_is_of_segments_as_long_as_the_path_carries() {
    let config = Config { congestion: CongestionControl::Bbr, ..Config::GAMES };
    for (longest, window) in [(1_400, 32), (8_000, 9), (60_000, 3)] {
        let mut kcp = Any::engine(CONV, config);
        let mtu_search = Some(MtuSearch { longest, overhead: 0, native: false });
        kcp.negotiated(Peer { mtu_search, ..*kcp.peer() });
        kcp.set_mtu(1_200);
        let mut out = vec![0; 65_535];
        assert_eq!(kcp.poll_transmit(Instant::ZERO, &mut out), Some(longest.into()), "a probe");
        kcp.handle_datagram(Instant::ZERO, &carries(longest.into()), Origin::Wire, |_| 0).unwrap();
        while kcp.send(&[0; 10_000]).is_ok() && kcp.unsent() < 2_000_000 {}
        let mut full = 0;
        while let Some(len) = kcp.poll_transmit(Instant::ZERO, &mut out) {
            full += usize::from(len == usize::from(longest));
        }
        assert_eq!(full, window, "segments of {longest} bytes");
    }
}

#[cfg(all(feature = "bbr", feature = "mtud"))]
#[test]
fn what_was_agreed_holds_for_one_conversation_and_what_was_configured_for_all() {
    let config = Config { congestion: CongestionControl::Bbr, ..Config::GAMES };
    let mut kcp = Any::engine(CONV, config);
    let agreed = Peer {
        min_rto: Duration::from_millis(50),
        rto_margin: Duration::MAX,
        ack_delay: Duration::from_millis(20),
        congestion: CongestionControl::Off,
        repairs: true,
        pieces: true,
        lanes: true,
        latest: true,
        mtu_search: Some(MtuSearch { longest: 8_000, overhead: 0, native: false }),
    };
    kcp.negotiated(agreed);
    kcp.set_mtu(1_200);
    assert_eq!(*kcp.peer(), Peer { rto_margin: Config::MAX_RTO, ..agreed });
    assert_eq!((*kcp.config(), kcp.mtu()), (config, 1_200));
    assert_eq!(kcp.poll_transmit(Instant::ZERO, &mut [0; 9_000]), Some(8_000), "a probe");
    kcp.handle_datagram(Instant::ZERO, &carries(8_000), Origin::Wire, |_| 0).unwrap();
    assert_eq!(kcp.mtu(), 8_000);
    kcp.reset(CONV + 1);
    assert_eq!((*kcp.config(), kcp.mtu()), (config, config.mtu));
    assert_eq!(*kcp.peer(), Peer::unknown(&config));
    assert_eq!(kcp.poll_transmit(Instant::ZERO, &mut [0; 9_000]), None);
}

/// Bursts of `segments` every `gap` milliseconds over a link that loses nothing and lets datagrams overtake each other; what
/// was sent again, of how many.
fn needless(delay: u64, gap: u64, segments: usize) -> (u64, u64) {
    let (delay, jitter) = (Duration::from_millis(delay), Duration::from_millis(24));
    let link = sim::Config { delay, jitter, ..sim::Config::clean(delay) };
    let mut pair =
        Pair::new(<Any as Make>::engine(CONV, Config::GAMES), <Any as Make>::engine(CONV, Config::GAMES), link, 5);
    let data = payload(if segments > 1 { 1000 } else { 200 }, 1);
    for _ in 0..1_000 {
        for _ in 0..segments {
            pair.a.send(&data).unwrap();
        }
        let end = pair.now + Duration::from_millis(gap);
        pair.run_until(end);
    }
    let stats = pair.a.stats();
    (stats.retransmitted, stats.segments_sent)
}

#[test]
fn reordering_is_learned_from_what_was_sent_again_for_nothing() {
    for (delay, gap, segments) in [(20, 20, 1), (20, 10, 1), (20, 5, 1), (50, 20, 1), (20, 33, 4)] {
        let (again, sent) = needless(delay, gap, segments);
        assert!(again * 20 < sent, "{again} of {sent} at {delay} ms, {segments} every {gap} ms");
    }
}
