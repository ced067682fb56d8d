//! Two engines under operations that proptest picks: whatever happens, the bytes arrive once and in order, memory stays
//! bounded, and no deadline lies in the past. Before that, the short stories of what was wrong once.

#[path = "common/engine.rs"]
mod engine;

use kcpq_core::kcp::{Command, Config, CongestionControl, HEADER, Header, Kcp, Origin, Sn, Ts};
use kcpq_core::sim::{self, Link};
use kcpq_core::store::{Heap, Lent, Store};
use kcpq_core::{Duration, Instant};
use proptest::prelude::*;

use self::engine::Make;

/// The most that either end queues; the lent stream holds more.
const QUEUE: usize = 100_000;

#[derive(Clone, Debug)]
enum Op {
    /// The end queues so many bytes, if there is room.
    Send { end: usize, len: usize },
    /// The end reads at most so many bytes.
    Read { end: usize, most: usize },
    /// The end takes so many bytes as they arrive, and lets the rest wait.
    Appetite { end: usize, bytes: usize },
    /// Time goes by, from one event to the next.
    Run { millis: u64 },
    /// Time jumps, and what was due is late.
    Jump { millis: u64 },
    /// The link of one direction changes.
    Loss { link: usize, percent: u8 },
    /// The link of one direction is cut, or whole again.
    Outage { link: usize, down: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let end = 0..2_usize;
    prop_oneof![
        6 => (end.clone(), prop_oneof![1..200_usize, 1..30_000_usize]).prop_map(|(end, len)| Op::Send { end, len }),
        4 => (end.clone(), prop_oneof![1..100_usize, 1..50_000_usize]).prop_map(|(end, most)| Op::Read { end, most }),
        2 => (end.clone(), prop_oneof![Just(0), Just(usize::MAX), 1..20_000_usize])
            .prop_map(|(end, bytes)| Op::Appetite { end, bytes }),
        6 => (0..500_u64).prop_map(|millis| Op::Run { millis }),
        1 => (0..100_000_u64).prop_map(|millis| Op::Jump { millis }),
        1 => (end.clone(), 0..50_u8).prop_map(|(link, percent)| Op::Loss { link, percent }),
        1 => (end, any::<bool>()).prop_map(|(link, down)| Op::Outage { link, down }),
    ]
}

fn configs() -> impl Strategy<Value = Config> {
    (
        prop_oneof![Just(Config::GAMES), Just(Config::VIDEO), Just(Config::STEADY)],
        1..40_u16,
        1..40_u16,
        64..1400_u16,
        0..20_u64,
    )
        .prop_map(|(preset, send_window, recv_window, mtu, delay)| Config {
            send_window,
            recv_window,
            mtu,
            ack_delay: Duration::from_millis(delay),
            congestion: if send_window % 2 == 0 { preset.congestion } else { CongestionControl::Off },
            ..preset
        })
}

/// One end, and what the test knows about it.
struct End<S: Store> {
    kcp: Kcp<S>,
    config: Config,
    /// Bytes of the pattern queued here, and read from the other end.
    queued: u64,
    read: u64,
    /// Bytes that are taken as they arrive.
    appetite: usize,
}

/// Byte `at` of the stream that every end sends.
fn pattern(at: u64) -> u8 {
    (at ^ (at >> 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]
}

/// Checks that `bytes` come next in the pattern.
fn expect_next(read: &mut u64, bytes: &[u8]) {
    for byte in bytes {
        assert_eq!(*byte, pattern(*read), "byte {read}");
        *read += 1;
    }
}

impl<S: Make> End<S> {
    fn new(config: Config) -> Self {
        // A lent slot is as long as this end's own datagrams. The other's may be longer: those pass only while they are
        // in order and read at once.
        let config = config.clamped();
        Self { kcp: S::engine(7, config), config, queued: 0, read: 0, appetite: usize::MAX }
    }

    fn send(&mut self, len: usize) {
        if self.kcp.unacked() + len <= QUEUE {
            let bytes: Vec<_> = (self.queued..).take(len).map(pattern).collect();
            self.kcp.send(&bytes).unwrap();
            self.queued += len as u64;
        }
    }

    fn read(&mut self, now: Instant, most: usize) {
        let (read, mut left) = (&mut self.read, most);
        self.kcp.recv(now, |bytes| {
            let count = bytes.len().min(left);
            left -= count;
            expect_next(read, &bytes[..count]);
            count
        });
    }

    fn input(&mut self, now: Instant, datagram: &[u8]) {
        let (read, appetite) = (&mut self.read, &mut self.appetite);
        let sink = |bytes: &[u8]| {
            let count = bytes.len().min(*appetite);
            *appetite -= count;
            expect_next(read, &bytes[..count]);
            count
        };
        self.kcp.handle_datagram(now, datagram, Origin::Wire, sink).expect("an engine understands another");
    }

    fn transmit(&mut self, now: Instant, link: &mut Link) {
        let mut buf = [0; 2_000];
        while let Some(len) = self.kcp.poll_transmit(now, &mut buf) {
            assert!((1..=usize::from(self.config.mtu)).contains(&len));
            link.send(now, &buf[..len]);
        }
    }

    fn check(&self, now: Instant) {
        let deadline = self.kcp.poll_timeout();
        assert!(deadline.is_none_or(|deadline| deadline.at > now), "{deadline:?} at {now:?} would spin");
        assert!(self.kcp.in_flight() <= usize::from(self.config.send_window));
        assert!(self.kcp.unacked() <= QUEUE && self.kcp.unsent() <= self.kcp.unacked());
        assert_eq!(self.kcp.unacked() > self.kcp.unsent(), self.kcp.in_flight() > 0);
        assert_eq!(self.kcp.stats().malformed, 0);
    }
}

struct World<A: Store, B: Store> {
    now: Instant,
    a: End<A>,
    b: End<B>,
    links: [Link; 2],
}

const LINK: sim::Config =
    sim::Config { jitter: Duration::from_millis(30), duplicate: 0.05, ..sim::Config::clean(Duration::from_millis(10)) };

impl<A: Make, B: Make> World<A, B> {
    fn new(a: Config, b: Config, seed: u64) -> Self {
        let links = [Link::new(LINK, seed), Link::new(LINK, !seed)];
        Self { now: Instant::from_millis(1), a: End::new(a), b: End::new(b), links }
    }

    fn settle(&mut self) {
        while let Some(datagram) = self.links[0].recv(self.now) {
            self.b.input(self.now, &datagram);
        }
        while let Some(datagram) = self.links[1].recv(self.now) {
            self.a.input(self.now, &datagram);
        }
        self.a.transmit(self.now, &mut self.links[0]);
        self.b.transmit(self.now, &mut self.links[1]);
        self.a.check(self.now);
        self.b.check(self.now);
        assert!(self.b.read <= self.a.queued && self.a.read <= self.b.queued);
    }

    fn next(&self) -> Option<Instant> {
        let deadlines = [self.a.kcp.poll_timeout(), self.b.kcp.poll_timeout()].map(|deadline| deadline.map(|d| d.at));
        deadlines.into_iter().chain(self.links.iter().map(Link::next_arrival)).flatten().min()
    }

    fn run(&mut self, millis: u64) {
        self.settle();
        let end = self.now + Duration::from_millis(millis);
        while let Some(next) = self.next().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Send { end: 0, len } => self.a.send(len),
            Op::Send { len, .. } => self.b.send(len),
            Op::Read { end: 0, most } => self.a.read(self.now, most),
            Op::Read { most, .. } => self.b.read(self.now, most),
            Op::Appetite { end: 0, bytes } => self.a.appetite = bytes,
            Op::Appetite { bytes, .. } => self.b.appetite = bytes,
            Op::Run { millis } => self.run(millis),
            Op::Jump { millis } => self.now += Duration::from_millis(millis),
            Op::Loss { link, percent } => {
                self.links[link].set_config(sim::Config { loss: f64::from(percent) / 100.0, ..LINK });
            }
            Op::Outage { link, down } => self.links[link].set_down(down),
        }
        self.settle();
    }

    /// With links that carry and readers that read, everything arrives, and then it is quiet.
    fn finish(&mut self) {
        for link in &mut self.links {
            link.set_down(false);
            link.set_config(LINK);
        }
        (self.a.appetite, self.b.appetite) = (usize::MAX, usize::MAX);
        self.a.read(self.now, usize::MAX);
        self.b.read(self.now, usize::MAX);
        self.settle();
        let end = self.now + Duration::from_secs(3_600);
        while self.now < end {
            let Some(next) = self.next() else { break };
            self.now = next.max(self.now);
            self.settle();
        }
        assert_eq!((self.a.read, self.b.read), (self.b.queued, self.a.queued), "all that was queued has arrived");
        assert_eq!((self.a.kcp.unacked(), self.b.kcp.unacked()), (0, 0));
        assert_eq!(self.next(), None, "then nothing is due any more");
    }
}

fn story<A: Make, B: Make>(a: Config, b: Config, seed: u64, ops: &[Op]) {
    let mut world = World::<A, B>::new(a, b, seed);
    for op in ops {
        world.apply(op);
    }
    world.finish();
}

#[test]
fn a_segment_too_large_for_its_slot_is_read_once_however_often_it_comes() {
    let mut world = World::<Heap, Lent<'static>>::new(Config::GAMES, Config { mtu: 100, ..Config::GAMES }, 1);
    world.b.appetite = 300;
    world.a.send(1_000);
    world.run(2_000);
    assert_eq!(world.b.read, 300);
    assert!(world.b.kcp.stats().refused > 1, "it came again and again");
    world.b.appetite = 500;
    world.run(2_000);
    assert_eq!(world.b.read, 800, "each time from where the reader stopped");
    world.finish();
}

#[test]
fn a_question_about_the_window_that_finds_no_room_goes_in_the_next_datagram() {
    let config = Config { mtu: Config::MIN_MTU, ..Config::GAMES };
    let mut end = End::<Heap>::new(config);
    let now = Instant::from_millis(1);
    let header =
        Header { conv: 7, command: Command::WindowUpdate, frg: 0, wnd: 0, ts: Ts(0), sn: Sn(0), una: Sn(0), len: 0 };
    end.input(now, &header.to_bytes());
    end.send(10);
    assert_eq!(end.kcp.poll_transmit(now, &mut [0; 64]), None);
    // Two acknowledgements, which fill a datagram, fall due together with the question.
    let now = end.kcp.poll_timeout().unwrap().at;
    let ahead = [2, 4].map(|sn| Header { command: Command::Push, sn: Sn(sn), ..header }.to_bytes());
    end.input(now, ahead.as_flattened());
    assert_eq!(end.kcp.poll_transmit(now, &mut [0; 64]), Some(2 * HEADER));
    let mut out = [0; 64];
    assert_eq!(end.kcp.poll_transmit(now, &mut out), Some(HEADER));
    assert_eq!(out[4], Command::WindowProbe as u8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn bytes_stay_in_order_queues_bounded_and_deadlines_ahead(
        a in configs(), b in configs(), seed in any::<u64>(), ops in prop::collection::vec(op(), 1..60),
    ) {
        story::<Heap, Heap>(a, b, seed, &ops);
        story::<Lent<'static>, Heap>(a, b, seed, &ops);
    }
}
