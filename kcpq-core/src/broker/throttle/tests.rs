//! Publishers and subscribers of different speed, on one broker and on several, in virtual time.

mod slow;

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::broker::{Broker, Config, Relay, SlowConsumer, Stats};
use crate::client::{self, Client, Parts, SubscriptionId};
use crate::kcp::{self, CongestionControl};
use crate::store::Heap;
use crate::time::{Duration, Instant};

/// Little is under way between a broker and a subscriber: what it does not take waits in the broker.
const KCP: kcp::Config =
    kcp::Config { congestion: CongestionControl::Off, send_window: 64, recv_window: 1024, ..kcp::Config::GAMES };
/// A sixteenth of what is usual, as are the speeds.
const HIGH_WATER: usize = 256 << 10;
const MAX_QUEUED: usize = 2 << 20;
const TICK: Duration = Duration::from_millis(1);
/// Bytes of a message.
const SIZE: usize = 1_000;
/// Messages that a publisher has for each tick if it has as many as it likes: 40 MB/s.
const FLOOD: u64 = 40;
const UNLIMITED: usize = usize::MAX;

/// A client, and the way to it.
struct End {
    home: usize,
    client: Client<Heap>,
    /// Bytes that it takes in a tick, and what is left of that.
    pace: usize,
    credit: usize,
    line: VecDeque<Vec<u8>>,
    /// How long each message took that it got.
    delays: Vec<Duration>,
    /// The longest time between two of them, and when the last came.
    gap: Duration,
    last: Option<Instant>,
}

struct World {
    now: Instant,
    brokers: Vec<Broker<SocketAddr>>,
    told: Vec<(usize, usize, Relay)>,
    ends: Vec<End>,
    published: u64,
}

fn addr(end: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + end as u16))
}

impl World {
    /// Connected clients at these brokers.
    fn new(config: Config, homes: &[usize]) -> Self {
        Self::of(homes.iter().max().map_or(1, |most| most + 1), config, homes)
    }

    /// The same with so many brokers.
    fn of(count: usize, config: Config, homes: &[usize]) -> Self {
        let now = Instant::from_millis(1);
        let config = Config {
            kcp: KCP,
            local_datagram: 1_400,
            high_water: config.high_water.min(HIGH_WATER),
            max_queued: MAX_QUEUED,
            ..config
        };
        let mut world = Self {
            now,
            brokers: (0..count).map(|own| Broker::new(config.clone(), 1).with_shards(own, count)).collect(),
            told: Vec::new(),
            ends: Vec::new(),
            published: 0,
        };
        for home in homes {
            world.join(*home);
        }
        world.settle();
        world
    }

    /// One more client, which takes as much as there is. Returns its number.
    fn join(&mut self, home: usize) -> usize {
        let config = client::Config { queue: 1 << 20, kcp: KCP, ..client::Config::default() };
        let mut client = Client::new(config, self.ends.len() as u64, Parts::heap(&config));
        client.connect(self.now);
        self.ends.push(End {
            home,
            client,
            pace: UNLIMITED,
            credit: UNLIMITED,
            line: VecDeque::new(),
            delays: Vec::new(),
            gap: Duration::ZERO,
            last: None,
        });
        self.ends.len() - 1
    }

    fn subscribe(&mut self, end: usize, pattern: &str) -> SubscriptionId {
        let id = self.ends[end].client.subscribe(self.now, pattern).unwrap();
        self.settle();
        id
    }

    fn set_pace(&mut self, end: usize, pace: usize) {
        (self.ends[end].pace, self.ends[end].credit) = (pace, pace);
    }

    /// Publishes up to `count` messages, as far as the client takes them.
    fn publish(&mut self, end: usize, subject: &str, count: u64) {
        let mut payload = vec![7; SIZE];
        payload[..8].copy_from_slice(&self.now.as_micros().to_be_bytes());
        for _ in 0..count {
            if self.ends[end].client.publish(self.now, subject, &payload).is_err() {
                break;
            }
            self.published += 1;
        }
        self.settle();
    }

    /// Lets everything happen that is due.
    fn settle(&mut self) {
        let mut buf = vec![0; 60_000];
        let Self { now, brokers, told, ends, .. } = self;
        let now = *now;
        loop {
            let mut idle = true;
            for (index, end) in ends.iter_mut().enumerate() {
                while end.credit > 0
                    && let Some(mut datagram) = end.line.pop_front()
                {
                    end.credit -= datagram.len().min(end.credit);
                    end.client.handle_datagram(now, &mut datagram);
                    idle = false;
                }
                while let Some(event) = end.client.poll_event() {
                    if let client::Event::Message { message, .. } = event {
                        let at = u64::from_be_bytes(message.payload()[..8].try_into().unwrap());
                        end.delays.push(now.since(Instant::from_micros(at)));
                        end.gap = end.gap.max(now.since(end.last.unwrap_or(now)));
                        end.last = Some(now);
                    }
                }
                while let Some(len) = end.client.poll_transmit(now, &mut buf) {
                    brokers[end.home].handle_datagram(now, addr(index), &mut buf[..len]);
                    idle = false;
                }
            }
            for broker in brokers.iter_mut() {
                while let Some(transmit) = broker.poll_transmit(now, &mut buf) {
                    let end = &mut ends[usize::from(transmit.to.port()) - 1_000];
                    let datagrams = buf[..transmit.len].chunks(transmit.segment.unwrap_or(transmit.len));
                    end.line.extend(datagrams.map(<[u8]>::to_vec));
                    idle = false;
                }
                while broker.poll_event().is_some() {}
            }
            for (from, broker) in brokers.iter_mut().enumerate() {
                while let Some((to, relay)) = broker.poll_relay() {
                    told.push((from, to, relay));
                }
            }
            for (from, to, relay) in told.drain(..) {
                brokers[to].handle_relay(now, from, relay);
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        for end in &mut self.ends {
            end.credit = end.pace;
            end.client.handle_timeout(self.now);
        }
        for broker in &mut self.brokers {
            broker.handle_timeout(self.now);
            assert!(broker.poll_timeout().is_none_or(|deadline| deadline.at >= self.now), "it has just been called");
        }
        self.settle();
    }

    /// Lets so much time pass; `each` is done in each tick, which is counted.
    fn pass(&mut self, millis: u64, mut each: impl FnMut(&mut Self, u64)) {
        for tick in 0..millis {
            self.tick();
            each(self, tick);
        }
    }

    /// Everybody takes what there is, until nothing waits.
    fn drain(&mut self) {
        for end in 0..self.ends.len() {
            self.set_pace(end, UNLIMITED);
        }
        self.pass(2_000, |_, _| {});
        assert_eq!(self.sum(|stats| stats.queued), 0);
    }

    fn sum(&self, read: impl Fn(&Stats) -> u64) -> u64 {
        self.brokers.iter().map(|broker| read(&broker.stats())).sum()
    }

    fn dropped(&self) -> u64 {
        self.sum(|stats| stats.dropped_slow + stats.dropped_relay + stats.dropped_memory + stats.dropped_stuck)
    }

    fn got(&self, end: usize) -> u64 {
        self.ends[end].delays.len() as u64
    }

    fn longest(&self, end: usize) -> Duration {
        self.ends[end].delays.iter().copied().max().unwrap_or_default()
    }

    /// The part of the messages that took longer than a tick.
    fn late(&self, end: usize) -> f64 {
        let late = self.ends[end].delays.iter().filter(|delay| **delay > TICK).count();
        late as f64 / self.got(end) as f64
    }
}

/// What nobody has to bear more of: a piece of 5 ms, and what a test's tick adds.
const BOUND: Duration = Duration::from_millis(6);

/// Where publisher, good and bad subscriber are: all together, one of them elsewhere, all apart.
const HOMES: [[usize; 3]; 5] = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 1, 2]];

const PUBLISHER: usize = 0;
const GOOD: usize = 1;

#[test]
fn who_stops_reading_does_not_delay_the_others() {
    for [publisher, good, bad] in HOMES {
        for count in [1, 10] {
            let mut world = World::of(3, Config::default(), &[publisher, good]);
            world.subscribe(GOOD, "n");
            for _ in 0..count {
                let end = world.join(bad);
                world.subscribe(end, "n");
            }
            world.pass(300, |world, _| world.publish(PUBLISHER, "n", 2));
            for end in 2..world.ends.len() {
                world.set_pace(end, 0);
            }
            world.pass(5_000, |world, _| world.publish(PUBLISHER, "n", 2));
            let (longest, late) = (world.longest(GOOD), world.late(GOOD));
            assert!(longest <= BOUND, "{count} at {bad}: {longest:?}");
            assert!(late <= 0.05, "{count} at {bad}: {late} are late");
            assert!(world.dropped() > 0, "their queues are full");
            world.pass(100, |_, _| {});
            assert_eq!(world.got(GOOD), world.published);
        }
    }
}

#[test]
fn sessions_that_were_never_heard_throttle_nobody() {
    for [publisher, good, bad] in HOMES {
        let mut world = World::of(3, Config::default(), &[publisher, good]);
        world.subscribe(GOOD, "n");
        world.pass(5_000, |world, tick| {
            if tick.is_multiple_of(500) {
                // As if its datagrams were forged: what is sent to it is not answered.
                let end = world.join(bad);
                world.set_pace(end, 0);
                world.subscribe(end, "n");
            }
            world.publish(PUBLISHER, "n", 2);
        });
        assert!(world.longest(GOOD) <= TICK, "{:?}", world.longest(GOOD));
        assert_eq!((world.sum(|stats| stats.throttled), world.got(GOOD)), (0, world.published));
        assert!(world.dropped() > 0, "their queues are full");
    }
}

/// What all may have together is taken by those who never read: their queues are the long ones, and pay.
#[test]
fn long_queues_of_others_cost_a_short_one_nothing() {
    let config = Config { max_queued_total: 4 * MAX_QUEUED, ..Config::default() };
    let mut world = World::new(config, &[0, 0]);
    world.subscribe(GOOD, "n");
    world.set_pace(GOOD, 2_500);
    for _ in 0..20 {
        let end = world.join(0);
        world.set_pace(end, 0);
        world.subscribe(end, "n");
    }
    // In bursts, so that something waits for who does read as well.
    world.pass(4_000, |world, tick| {
        if tick.is_multiple_of(10) {
            world.publish(PUBLISHER, "n", 20);
        }
    });
    assert!(world.sum(|stats| stats.dropped_memory) > 1_000 && world.sum(|stats| stats.dropped_slow) == 0);
    world.pass(100, |_, _| {});
    assert_eq!((world.got(GOOD), world.published), (8_000, 8_000));
}

#[test]
fn a_subscriber_at_a_tenth_of_the_rate_does_not_delay_the_others_and_gets_its_tenth() {
    for policy in [SlowConsumer::DropNewest, SlowConsumer::DropOldest] {
        for [publisher, good, bad] in HOMES {
            let config = Config { slow_consumer: policy, ..Config::default() };
            let mut world = World::new(config, &[publisher, good, bad]);
            world.subscribe(GOOD, "n");
            world.subscribe(2, "n");
            world.set_pace(2, 500);
            world.pass(6_000, |world, _| world.publish(PUBLISHER, "n", 5));
            let (longest, late) = (world.longest(GOOD), world.late(GOOD));
            assert!(longest <= BOUND && late <= 0.06, "{policy:?} at {bad}: {longest:?}, {late} are late");
            world.pass(100, |_, _| {});
            assert_eq!(world.got(GOOD), world.published);
            assert!(world.got(2) > 2_400, "{policy:?} at {bad}: {}", world.got(2));
            world.drain();
            assert!(world.dropped() > 10_000, "{}", world.dropped());
            assert_eq!(world.got(2) + world.dropped(), world.published, "{policy:?} at {bad}");
        }
    }
}

#[test]
fn who_was_never_heard_does_not_hide_from_a_slow_one_those_who_wait() {
    for [publisher, good, bad] in HOMES {
        let mut world = World::of(3, Config::default(), &[publisher, good, bad]);
        world.subscribe(GOOD, "n");
        world.subscribe(2, "n");
        world.set_pace(2, 2_000);
        for home in [publisher, good] {
            let end = world.join(home);
            world.set_pace(end, 0);
            world.subscribe(end, "n");
        }
        world.pass(3_000, |world, _| world.publish(PUBLISHER, "n", 4));
        let (longest, late) = (world.longest(GOOD), world.late(GOOD));
        assert!(longest <= BOUND && late <= 0.06, "at {bad}: {longest:?}, {late} are late");
    }
}

#[test]
fn beside_a_flood_who_is_too_slow_sets_the_pace_only_until_it_misses_messages() {
    for [publisher, good, bad] in HOMES {
        let mut world = World::new(Config::default(), &[publisher, good, bad]);
        world.subscribe(GOOD, "n");
        world.subscribe(2, "n");
        world.set_pace(GOOD, 20_000);
        world.set_pace(2, 2_000);
        world.pass(3_000, |world, _| world.publish(PUBLISHER, "n", FLOOD));
        assert!(world.ends[GOOD].gap <= Duration::from_millis(110), "at {bad}: {:?}", world.ends[GOOD].gap);
        assert!(world.dropped() > 0);
        let before = world.got(GOOD);
        world.ends[GOOD].gap = Duration::ZERO;
        world.pass(4_500, |world, _| world.publish(PUBLISHER, "n", FLOOD));
        // Datagrams of 1400 bytes with headers.
        let got = (world.got(GOOD) - before) * SIZE as u64;
        assert!(got > 4_500 * 20_000 * 85 / 100, "at {bad}: {got}");
        assert!(world.ends[GOOD].gap <= Duration::from_millis(110), "at {bad}: {:?}", world.ends[GOOD].gap);
        world.drain();
        assert_eq!(world.got(GOOD), world.published, "at {bad}");
        assert!(world.got(2) * SIZE as u64 > 7_500 * 2_000 * 80 / 100);
        assert_eq!(world.got(2) + world.dropped(), world.published);
    }
}

#[test]
fn a_flood_goes_at_the_pace_of_the_slowest_that_is_not_too_slow_and_loses_nothing() {
    for [publisher, good, bad] in HOMES {
        for pace in [18_000, 10_000, 7_000] {
            let mut world = World::new(Config::default(), &[publisher, good, bad]);
            world.subscribe(GOOD, "n");
            world.subscribe(2, "n");
            world.set_pace(GOOD, 20_000);
            world.set_pace(2, pace);
            world.pass(4_000, |world, _| world.publish(PUBLISHER, "n", FLOOD));
            let got = world.got(2) * SIZE as u64;
            assert!(got > 4_000 * pace as u64 * 90 / 100, "{pace} at {bad}: {got}");
            assert!(world.ends[GOOD].gap <= Duration::from_millis(110), "at {bad}: {:?}", world.ends[GOOD].gap);
            world.drain();
            assert_eq!((world.dropped(), world.got(2)), (0, world.published), "{pace} at {publisher}{good}{bad}");
        }
    }
}

#[test]
fn a_flood_for_one_subscriber_goes_at_its_pace_and_loses_nothing() {
    for home in [0, 1] {
        // At 60 KB/s a sixteenth of the queue takes longer than a session may throttle others.
        for pace in [500, 5_000, 20_000, UNLIMITED] {
            let mut world = World::new(Config::default(), &[0, home]);
            world.subscribe(GOOD, "n");
            world.set_pace(GOOD, pace);
            world.pass(3_000, |world, _| world.publish(PUBLISHER, "n", FLOOD));
            let got = world.got(GOOD) * SIZE as u64;
            assert!(got > 3_000 * (pace as u64).min(FLOOD * SIZE as u64) * 90 / 100, "{pace} at {home}: {got}");
            world.drain();
            world.drain();
            assert_eq!((world.dropped(), world.got(GOOD)), (0, world.published), "{pace} at {home}");
        }
    }
}

#[test]
fn a_flood_for_several_that_are_as_fast_on_the_whole_loses_nothing() {
    for homes in [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 2]] {
        let mut world = World::new(Config::default(), &homes);
        for end in 1..4 {
            world.subscribe(end, "n");
        }
        world.pass(2_500, |world, tick| {
            // Each stands still for a tenth of the time, one after the other.
            for end in 1..4 {
                let stands = (tick / 30 + 3 * end as u64).is_multiple_of(10);
                world.set_pace(end, if stands { 0 } else { 20_000 });
            }
            world.publish(PUBLISHER, "n", FLOOD);
        });
        let got = world.got(GOOD) * SIZE as u64;
        assert!(got > 2_500 * 18_000 * 85 / 100, "{homes:?}: {got}");
        world.drain();
        world.drain();
        assert_eq!(world.dropped(), 0, "{homes:?}");
        assert!((1..4).all(|end| world.got(end) == world.published));
    }
}

#[test]
fn publishers_that_flood_the_same_subscriber_share_its_pace() {
    for homes in [[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 1, 0], [0, 1, 2, 0]] {
        let mut world = World::new(Config::default(), &homes);
        world.subscribe(3, ">");
        world.set_pace(3, 20_000);
        let mut published = [0; 3];
        world.pass(4_000, |world, _| {
            for (publisher, count) in published.iter_mut().enumerate() {
                let before = world.published;
                world.publish(publisher, ["a", "b", "c"][publisher], FLOOD / 2);
                *count += world.published - before;
            }
        });
        // What comes from other shards comes in larger portions.
        let least = if homes[1] == homes[0] && homes[2] == homes[0] { 3 } else { 10 };
        assert!(published.iter().all(|count| count * least * 3 / 2 > world.published), "{homes:?}: {published:?}");
        world.drain();
        world.drain();
        assert_eq!((world.dropped(), world.got(3)), (0, world.published), "{homes:?}");
    }
}

#[test]
fn a_publisher_that_hears_itself_is_throttled_by_itself() {
    // Less than what is under way to it.
    let mut world = World::new(Config { high_water: 32 << 10, ..Config::default() }, &[0]);
    world.subscribe(PUBLISHER, "n");
    world.set_pace(PUBLISHER, 5_000);
    world.pass(3_000, |world, _| world.publish(PUBLISHER, "n", FLOOD));
    assert!(world.sum(|stats| stats.throttled) > 0);
    world.drain();
    world.drain();
    assert_eq!((world.dropped(), world.got(PUBLISHER)), (0, world.published));
}
