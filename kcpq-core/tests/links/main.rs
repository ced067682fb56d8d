//! Latency over bad links, in virtual time: the same seeds give the same figures on every machine, so they can be judged.
//!
//! `cargo test --release -p kcpq-core --features full --test links -- --nocapture` prints the table; `KCPQ_LINK_SEEDS=100`
//! runs more seeds. A message crosses the link twice, so the floor is twice its delay. Latency counts from when a message was due.

mod bulk;
mod crowd;
#[path = "../common/engine.rs"]
mod engine;
mod lanes;
mod latest;
mod reno;
mod shared;
mod world;

use kcpq_core::kcp;
use kcpq_core::sim;
use kcpq_core::time::{Duration, Instant};

use self::world::{Setup, World};

/// A flow over a link.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    /// Propagation delay of one hop.
    delay: Duration,
    loss: f64,
    burst: f64,
    size: usize,
    period: Duration,
}

/// What it has to reach, as medians over the seeds: in multiples of the floor, and of the payload.
#[derive(Clone, Copy)]
struct Goal {
    p50: f64,
    p99: f64,
    p999: f64,
    bytes: f64,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const SMALL: Work = Work { name: "200 B, 50 Hz", delay: ms(15), loss: 0.0, burst: 1.0, size: 200, period: ms(20) };
const VIDEO: Work = Work { name: "8000 B, 60 Hz", size: 8_000, period: Duration::from_micros(16_667), ..SMALL };
const TICKS: Work = Work { name: "128 B, 200 Hz", delay: ms(25), size: 128, period: ms(5), ..SMALL };

/// Latencies of one run in multiples of the floor, sorted.
struct Run {
    latencies: Vec<f64>,
    /// Bytes on the wire over those of the payload, for one crossing.
    bytes: f64,
    /// Of both senders.
    sent: kcp::Stats,
}

impl Run {
    fn quantile(&self, q: f64) -> f64 {
        self.latencies[((self.latencies.len() as f64 * q).ceil() as usize).clamp(1, self.latencies.len()) - 1]
    }
}

fn run(work: &Work, setup: &Setup, seed: u64, count: u64) -> Run {
    let mut world = World::new(setup, seed);
    // The connection's own frames, and what is learned about the link, are no part of the figures.
    let warm_up = count / 10;
    let start = world.now + ms(1_000);
    let due = |number: u64| start + Duration::from_micros(work.period.as_micros() * number);
    let mut before = 0;
    for number in 0..count + warm_up {
        world.run_to(due(number));
        if number == warm_up {
            before = world.wire_bytes();
        }
        world.publish(number, work.size).unwrap();
    }
    let bytes = world.wire_bytes() - before;
    world.run_to(due(count + warm_up) + Duration::from_secs(20));
    let numbers: Vec<u64> = world.arrivals.iter().map(|(number, _)| *number).collect();
    assert!(numbers == (0..count + warm_up).collect::<Vec<_>>(), "each once and in order");
    let floor = 2.0 * work.delay.as_micros() as f64;
    let mut latencies: Vec<f64> = world.arrivals[warm_up as usize..]
        .iter()
        .map(|(number, at)| at.since(due(*number)).as_micros() as f64 / floor)
        .collect();
    latencies.sort_by(f64::total_cmp);
    let mut sent = *world.publisher.client.transport();
    sent.add(&world.broker.transport());
    Run { latencies, bytes: bytes as f64 / (2 * count * work.size as u64) as f64, sent }
}

fn seeds() -> u64 {
    std::env::var("KCPQ_LINK_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[values.len() - 1])
}

/// Runs the seeds, prints a line (medians, and in brackets the worst) and holds the medians against the goal.
fn judge(work: &Work, setup: &Setup, goal: &Goal) {
    // Half a minute of each flow at least.
    let count = (30_000_000 / work.period.as_micros()).max(3_000);
    let runs: Vec<Run> = (1..=seeds()).map(|seed| run(work, setup, seed, count)).collect();
    let column = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value).collect());
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|q| column(&|run: &Run| run.quantile(q)));
    let bytes = column(&|run| run.bytes);
    let mut sent = kcp::Stats::default();
    runs.iter().for_each(|run| sent.add(&run.sent));
    println!(
        "{:14} {:2} ms, {:4.1} % x{} | p50 {:4.2} | p99 {:4.2} ({:4.2}) goal {:4.2} | p99.9 {:4.2} ({:4.2}) | max {:4.2} \
         | bytes {:4.2} | per 1000 segments: repairs {}, again {}, in vain {}",
        work.name,
        work.delay.as_millis(),
        work.loss * 100.0,
        work.burst,
        p50.0,
        p99.0,
        p99.1,
        goal.p99,
        p999.0,
        p999.1,
        max.1,
        bytes.0,
        sent.repairs_sent * 1_000 / sent.segments_sent,
        sent.retransmitted * 1_000 / sent.segments_sent,
        sent.spurious * 1_000 / sent.segments_sent,
    );
    let reached = [(p50.0, goal.p50), (p99.0, goal.p99), (p999.0, goal.p999), (bytes.0, goal.bytes)];
    assert!(reached.iter().all(|(is, goal)| is <= goal), "p50, p99, p99.9, bytes: is, goal: {reached:.2?}");
}

fn native(work: &Work) -> Setup {
    Setup::native(sim::Config { loss: work.loss, burst: work.burst, mtu: ETHERNET, ..sim::Config::clean(work.delay) })
}

/// What Ethernet carries of a UDP datagram over IPv4.
const ETHERNET: usize = 1472;

/// `loss` in percent, and the goal.
type Row = (f64, Goal);

fn rows(work: Work, rows: &[Row]) {
    for (loss, goal) in rows {
        let work = Work { loss: loss / 100.0, ..work };
        judge(&work, &native(&work), goal);
    }
}

const ANY: f64 = f64::INFINITY;

const fn goal(p50: f64, p99: f64, p999: f64, bytes: f64) -> Goal {
    Goal { p50, p99, p999, bytes }
}

#[test]
fn small_messages() {
    // What a message takes without any loss: 1.43 times its bytes, acknowledgements and all headers included.
    rows(
        SMALL,
        &[
            (0.0, goal(1.0, 1.0, 1.0, 1.45)),
            (1.0, goal(1.0, 1.2, 2.0, 3.0)),
            (5.0, goal(1.0, 1.35, 2.5, 3.05)),
            // For 1.6 a third copy would be needed (below).
            (10.0, goal(1.0, 1.8, 3.0, 3.1)),
        ],
    );
    let work = Work { loss: 0.1, ..SMALL };
    let mut setup = native(&work);
    setup.client.kcp.redundancy = 170;
    setup.broker.kcp.redundancy = 170;
    judge(&work, &setup, &goal(1.0, 1.6, 2.8, 4.2));
    rows(Work { delay: ms(2), ..SMALL }, &[(3.0, goal(1.0, 3.0, 5.0, 3.1))]);
    rows(TICKS, &[(5.0, goal(1.0, 1.3, 1.6, 3.1))]);
    rows(Work { burst: 4.0, ..SMALL }, &[(5.0, goal(1.0, 4.0, ANY, 3.3))]);
}

/// What nobody else can read is as early, and costs 16 bytes a datagram more.
#[test]
fn sealed_messages() {
    for (work, loss, goal) in [
        (SMALL, 0.0, goal(1.0, 1.0, 1.0, 1.6)),
        (SMALL, 5.0, goal(1.0, 1.35, 2.5, 3.3)),
        (VIDEO, 0.0, goal(1.0, 1.0, 1.0, 1.06)),
        (VIDEO, 5.0, goal(1.1, 1.5, 2.5, 1.55)),
    ] {
        let work = Work { loss: loss / 100.0, ..work };
        judge(&work, &Setup { sealed: true, ..native(&work) }, &goal);
    }
}

#[test]
fn messages_of_several_segments() {
    rows(
        VIDEO,
        &[
            (0.0, goal(1.0, 1.0, 1.0, 1.05)),
            (1.0, goal(1.1, 1.2, 2.5, 1.5)),
            (3.0, goal(1.1, 1.35, 2.5, 1.5)),
            (5.0, goal(1.1, 1.5, 2.5, 1.5)),
            (10.0, goal(1.1, 2.2, 4.0, 1.5)),
        ],
    );
    rows(Work { delay: ms(2), ..VIDEO }, &[(3.0, goal(1.0, 3.0, 5.0, 1.5))]);
    rows(Work { burst: 4.0, ..VIDEO }, &[(5.0, goal(1.1, 3.6, ANY, 1.6))]);
}

/// What a path's jitter costs is the jitter: it is no queue that others, or this flow, would have to make shorter.
#[test]
fn on_a_path_that_jitters() {
    for (jitter, p99) in [(10, 1.8), (20, 2.4), (50, 4.2)] {
        for work in [SMALL, Work { size: 652, ..SMALL }, VIDEO] {
            let link = sim::Config::clean(work.delay);
            let link = sim::Config { jitter: Duration::from_millis(jitter), mtu: ETHERNET, ..link };
            print!("{jitter} ms of jitter: ");
            judge(&work, &Setup::native(link), &goal(p99, p99, p99 + 0.3, 3.2));
        }
    }
}

/// Nor where it loses as well, as radio links do.
#[test]
fn on_a_path_that_jitters_and_loses() {
    for (jitter, loss, p99) in [(10, 2.0, 1.8), (20, 2.0, 2.4), (50, 2.0, 4.2), (20, 10.0, 4.3)] {
        for work in [SMALL, Work { size: 652, ..SMALL }, VIDEO] {
            let work = Work { loss: loss / 100.0, ..work };
            let mut setup = native(&work);
            setup.link.jitter = Duration::from_millis(jitter);
            print!("{jitter} ms of jitter: ");
            judge(&work, &setup, &goal(p99, p99, p99 + 1.6, 3.3));
        }
    }
}

/// What retransmission does alone.
#[test]
fn without_repairs() {
    let plain = |work: &Work| {
        let mut setup = native(work);
        setup.client.kcp.redundancy = 0;
        setup.broker.kcp.redundancy = 0;
        setup
    };
    for (work, loss, goal) in [(SMALL, 5.0, goal(1.0, 2.7, ANY, 1.9)), (VIDEO, 5.0, goal(2.0, 4.6, ANY, 1.35))] {
        let work = Work { loss: loss / 100.0, ..work };
        judge(&work, &plain(&work), &goal);
    }
}

#[test]
fn delivery_resumes_after_an_outage() {
    for work in [SMALL, VIDEO] {
        let mut resumed = Vec::new();
        for seed in 1..=seeds() {
            let mut world = World::new(&native(&work), seed);
            let start = world.now + ms(1_000);
            let (down, up) = (start + ms(3_000), start + ms(5_000));
            let mut number = 0;
            let mut is_down = false;
            while world.now < start + ms(8_000) {
                let due = start + Duration::from_micros(work.period.as_micros() * number);
                world.run_to(due);
                let now_down = world.now >= down && world.now < up;
                if now_down != is_down {
                    is_down = now_down;
                    for node in [&mut world.publisher, &mut world.subscriber] {
                        node.up.set_down(is_down);
                        node.down.set_down(is_down);
                    }
                }
                world.publish(number, work.size).unwrap();
                number += 1;
            }
            world.run_to(world.now + Duration::from_secs(20));
            assert!(world.arrivals.iter().map(|(number, _)| *number).eq(0..number), "each once and in order");
            let first = world.arrivals.iter().map(|(_, at)| *at).find(|at| *at >= up).unwrap();
            let caught_up = world.arrivals.iter().find(|(n, at)| {
                let due = start + Duration::from_micros(work.period.as_micros() * n);
                *at >= up && at.since(due).as_micros() < 3 * work.delay.as_micros()
            });
            let round_trip = 2.0 * work.delay.as_micros() as f64;
            let trips = |at: Instant| at.since(up).as_micros() as f64 / round_trip;
            resumed.push((trips(first), caught_up.map_or(f64::INFINITY, |(_, at)| trips(*at))));
        }
        let (first, caught_up): (Vec<f64>, Vec<f64>) = resumed.into_iter().unzip();
        let (first, caught_up) = (median(first), median(caught_up));
        println!(
            "{:14} outage of 2 s: first message after {:.2} round trips ({:.2}), caught up after {:.2} ({:.2})",
            work.name, first.0, first.1, caught_up.0, caught_up.1
        );
        assert!(first.1 <= 1.5 && caught_up.1 <= 7.0);
    }
}

/// The first acknowledgement proves where a client is. If it gets lost the next one has to, although the server has sent more
/// datagrams than milliseconds have passed meanwhile, so that their numbers say nothing of their age.
#[test]
fn who_sends_much_from_the_start_is_known_although_its_first_acknowledgement_is_lost() {
    let link = sim::Config { bandwidth: Some(5_000_000), queue: 500_000, mtu: ETHERNET, ..sim::Config::clean(ms(50)) };
    let mut world = World::begin(&Setup::native(link), 1);
    world.run_to(world.now + ms(75));
    world.publisher.up.set_down(true);
    while !world.publisher.client.is_connected() {
        assert!(world.now < Instant::from_millis(10_000), "not connected within ten seconds");
        world.step(None);
    }
    world.run_to(world.now + ms(1));
    world.publisher.up.set_down(false);
    let end = world.now + Duration::from_secs(40);
    while world.now < end {
        while world.publisher.client.queued() < 100_000
            && world.publisher.client.publish(world.now, "other", &[7; 10_000]).is_ok()
        {}
        world.run_to(world.now + ms(5));
        assert!(world.publisher.client.is_connected(), "{} ms before the end", end.since(world.now).as_millis());
    }
}

/// Between machines there is congestion control, however long the datagrams are that both ends agree upon.
#[test]
fn long_datagrams_are_not_taken_for_one_machine() {
    let link = sim::Config { bandwidth: Some(1_250_000), ..sim::Config::clean(ms(10)) };
    let mut setup = Setup::native(link);
    setup.client.native_datagram = 20_000;
    setup.broker.native_datagram = 20_000;
    let mut world = World::new(&setup, 1);
    let end = world.now + ms(5_000);
    let (mut number, mut longest) = (0, Duration::ZERO);
    while world.now < end {
        while world.publish(number, 10_000).is_ok() {
            number += 1;
        }
        world.run_to(world.now + ms(5));
        longest = longest.max(world.publisher.up.queueing_delay(world.now));
        longest = longest.max(world.subscriber.down.queueing_delay(world.now));
    }
    assert!(world.arrivals.len() > 400, "{} of {number} messages in 5 s", world.arrivals.len());
    assert!(longest < ms(200), "the queue was {longest} long");
}
