//! State that supersedes itself, over links that lose: how old is what the subscriber knows?

use kcpq_core::kcp;
use kcpq_core::lane::Lane;
use kcpq_core::sim;
use kcpq_core::time::{Duration, Instant};

use crate::world::{Setup, World};
use crate::{ETHERNET, median, ms, seeds};

/// 60 Hz.
const PERIOD: Duration = Duration::from_micros(16_667);
const COUNT: u64 = 60 * 60;
const SIZE: usize = 200;

/// What a run shows.
struct Ages {
    /// How old the newest state is that the subscriber has, in milliseconds, looked at every millisecond and sorted.
    ages: Vec<f64>,
    /// Bytes on the wire over those of the payload, for one crossing.
    bytes: f64,
    sent: kcp::Stats,
}

impl Ages {
    fn quantile(&self, q: f64) -> f64 {
        self.ages[((self.ages.len() as f64 * q).ceil() as usize).clamp(1, self.ages.len()) - 1]
    }
}

fn run(setup: &Setup, latest: bool, seed: u64) -> Ages {
    let mut world = World::new(setup, seed);
    let start = world.now + ms(1_000);
    let due = |number: u64| start + Duration::from_micros(PERIOD.as_micros() * number);
    let before = world.wire_bytes();
    for number in 0..COUNT {
        world.run_to(due(number));
        match latest {
            true => world.publish_latest(Lane::URGENT, number, SIZE).unwrap(),
            false => world.publish_in(Lane::URGENT, number, SIZE).unwrap(),
        }
    }
    let bytes = world.wire_bytes() - before;
    world.run_to(due(COUNT) + Duration::from_secs(5));
    assert!(world.arrivals.is_sorted_by(|(a, _), (b, _)| a < b), "never something older after something newer");
    assert_eq!(world.arrivals.last().map(|(number, _)| *number), Some(COUNT - 1), "the newest comes");
    assert!(latest || world.arrivals.len() as u64 == COUNT);
    let (mut ages, mut arrivals, mut known) = (Vec::new(), world.arrivals.iter().peekable(), 0);
    let mut at: Instant = due(60);
    while at < due(COUNT) {
        while let Some((number, _)) = arrivals.next_if(|(_, came)| *came <= at) {
            known = *number;
        }
        ages.push(at.since(due(known)).as_micros() as f64 / 1e3);
        at += ms(1);
    }
    ages.sort_by(f64::total_cmp);
    let mut sent = *world.publisher.client.transport();
    sent.add(&world.broker.transport());
    Ages { ages, bytes: bytes as f64 / (2 * COUNT * SIZE as u64) as f64, sent }
}

/// Prints a line, and returns the medians over the seeds of p50 and p99 in milliseconds, and of the bytes.
fn measure(name: &str, setup: &Setup, latest: bool) -> [f64; 3] {
    let runs: Vec<Ages> = (1..=seeds()).map(|seed| run(setup, latest, seed)).collect();
    let column = |value: &dyn Fn(&Ages) -> f64| median(runs.iter().map(value).collect());
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|q| column(&|run: &Ages| run.quantile(q)));
    let bytes = column(&|run| run.bytes);
    let mut sent = kcp::Stats::default();
    runs.iter().for_each(|run| sent.add(&run.sent));
    println!(
        "{name:44} age p50 {:.1} ms | p99 {:.1} | p99.9 {:.1} | max {:.1} | bytes {:.2} | per 1000 segments: repairs {}, again \
         {}, void {}",
        p50.0,
        p99.0,
        p999.0,
        max.1,
        bytes.0,
        sent.repairs_sent * 1_000 / sent.segments_sent,
        sent.retransmitted * 1_000 / sent.segments_sent,
        sent.voids_sent * 1_000 / sent.segments_sent,
    );
    [p50.0, p99.0, bytes.0]
}

/// State at 60 Hz over two hops of 15 ms: at best it is 30 ms old when it comes, and 47 ms when the next one does.
#[test]
fn the_age_of_state_at_60_hz() {
    for loss in [0.0, 0.05, 0.1] {
        let link = sim::Config { loss, mtu: ETHERNET, ..sim::Config::clean(ms(15)) };
        let native = Setup::native(link);
        let mut plain = native.clone();
        plain.client.kcp.redundancy = 0;
        plain.broker.kcp.redundancy = 0;
        for (redundancy, setup) in [("repairs", native), ("no repairs", plain)] {
            let name = |kind| format!("{kind}, {:.0} % loss each way, {redundancy}", loss * 100.0);
            let [p50, p99, bytes] = measure(&name("every message"), &setup, false);
            let [latest_p50, latest_p99, latest_bytes] = measure(&name("latest"), &setup, true);
            assert!(
                latest_p50 <= p50 + 0.5 && latest_p99 <= p99 + 0.5,
                "{latest_p50:.1} {latest_p99:.1}, {p50:.1} {p99:.1}"
            );
            assert!(latest_bytes <= bytes * 1.05, "{latest_bytes:.2} {bytes:.2}");
            assert!(loss == 0.0 || redundancy == "repairs" || latest_p99 < p99 * 0.8, "{latest_p99:.1} {p99:.1}");
        }
    }
}
