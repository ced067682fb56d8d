//! State beside what is large, in one session over a narrow link.

use kcpq_core::lane::Lane;
use kcpq_core::sim;
use kcpq_core::time::{Duration, Instant};

use crate::world::{Setup, World};
use crate::{ETHERNET, Run, median, ms, seeds};

/// 10 Mbit/s each way on both hops, with 100 ms of queue.
const LINK: sim::Config =
    sim::Config { bandwidth: Some(1_250_000), queue: 125_000, mtu: ETHERNET, ..sim::Config::clean(ms(15)) };
/// 60 Hz.
const PERIOD: Duration = Duration::from_micros(16_667);
const BULK: u64 = 1 << 63;
const TRANSFER: usize = 1_000_000;

/// How often something large is published.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// One megabyte in so much time.
    Every(Duration),
    /// As much as the queue takes.
    All,
}

/// Latencies of the state in multiples of the floor, and how many transfers have arrived.
fn run(setup: &Setup, [state, bulk]: [Lane; 2], beside: Beside, seed: u64) -> (Run, usize) {
    let mut world = World::new(setup, seed);
    let start = world.now + ms(1_000);
    let due = |number: u64| start + Duration::from_micros(PERIOD.as_micros() * number);
    let (count, mut transfers, mut next) = (60 * 30, 0, start);
    for number in 0..count {
        world.run_to(due(number));
        while match beside {
            Beside::Nothing => false,
            Beside::Every(_) => next <= world.now,
            Beside::All => true,
        } {
            if let Beside::Every(span) = beside {
                next += span;
            }
            if world.publish_in(bulk, BULK | transfers, TRANSFER).is_err() {
                break;
            }
            transfers += 1;
        }
        world.publish_in(state, number, 200).unwrap();
    }
    world.run_to(due(count) + Duration::from_secs(20));
    let (large, small): (Vec<_>, Vec<_>) = world.arrivals.iter().partition(|(number, _)| number & BULK != 0);
    assert!(small.iter().map(|(number, _)| *number).eq(0..count), "each once and in order");
    assert!(large.iter().map(|(number, _)| number & !BULK).eq(0..transfers), "each once and in order");
    let floor = 2.0 * setup.link.delay.as_micros() as f64;
    let late = |(number, at): &(u64, Instant)| at.since(due(*number)).as_micros() as f64 / floor;
    let mut latencies: Vec<f64> = small.iter().map(late).collect();
    latencies.sort_by(f64::total_cmp);
    (Run { latencies, bytes: 0.0, sent: *world.publisher.client.transport() }, large.len())
}

/// Prints a line, and returns the medians over the seeds of p50 and p99.
fn measure(name: &str, setup: &Setup, lanes: [Lane; 2], beside: Beside) -> (f64, f64) {
    let runs: Vec<(Run, usize)> = (1..=seeds()).map(|seed| run(setup, lanes, beside, seed)).collect();
    let column = |q: f64| median(runs.iter().map(|(run, _)| run.quantile(q)).collect());
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(column);
    println!(
        "{name:44} p50 {:.2} | p99 {:.2} ({:.2}) | p99.9 {:.2} | max {:.2} | {} transfers of 1 MB in 30 s",
        p50.0, p99.0, p99.1, p999.0, max.1, runs[0].1
    );
    (p50.0, p99.0)
}

/// The goal of lanes: a large transfer leaves the state alone.
#[test]
fn state_beside_a_large_transfer() {
    let (normal, urgent, bulk) = (Lane::NORMAL, Lane::URGENT, Lane::BULK);
    let every = Beside::Every(Duration::from_secs(2));
    let (native, lossy) = (Setup::native(LINK), Setup::native(sim::Config { loss: 0.01, ..LINK }));
    let sealed = Setup { sealed: true, ..native.clone() };
    let (_, alone) = measure("state alone", &native, [urgent, bulk], Beside::Nothing);
    let (_, p99) = measure("lanes, 1 MB every 2 s", &native, [urgent, bulk], every);
    let (_, full) = measure("lanes, 1 MB after 1 MB", &native, [urgent, bulk], Beside::All);
    let (_, sealed) = measure("lanes, 1 MB every 2 s, sealed", &sealed, [urgent, bulk], every);
    let (_, with_loss) = measure("lanes, 1 MB every 2 s, 1 % loss", &lossy, [urgent, bulk], every);
    let (_, one) = measure("one lane, 1 MB every 2 s", &native, [normal, normal], every);
    assert!(
        alone <= 1.05 && [p99, full, sealed].iter().all(|p99| *p99 <= 1.3),
        "{alone:.2} {p99:.2} {full:.2} {sealed:.2}"
    );
    // A loss costs a round trip, and nothing else does.
    assert!(with_loss <= 2.5 && one > 20.0, "{with_loss:.2} {one:.2}");
}
