//! Bulk over engines alone: how much of a link they use, how long they make its queue, and how they share it.

use kcpq_core::kcp::{Config, CongestionControl, Kcp, Origin};
use kcpq_core::sim::{self, Link};
use kcpq_core::store::Heap;
use kcpq_core::time::{Duration, Instant};

use crate::engine::Make;

/// 100 Mbit/s.
const BANDWIDTH: u64 = 12_500_000;
const IP_UDP: usize = 28;

struct Flow {
    from: Kcp<Heap>,
    to: Kcp<Heap>,
    begins: Instant,
    /// Bytes delivered in the part that is measured.
    bytes: u64,
}

struct Outcome {
    /// The part of the link that each flow used, headers included.
    shares: Vec<f64>,
    /// How long a datagram waited in the queue after the first second, in ms: mean, and 95 of 100.
    queue: (f64, f64),
    again: f64,
}

/// Flows of the given configurations, each a second after the other, over one link for `span`; their shares are measured in
/// its last two thirds.
fn run(link: sim::Config, configs: &[Config], span: Duration, seed: u64) -> Outcome {
    let mut there = Link::new(link, seed);
    let mut back = Link::new(sim::Config { bandwidth: None, ..link }, seed + 1_000);
    let start = Instant::from_millis(1);
    let measured_from = start + Duration::from_micros(span.as_micros() / 3);
    let mut flows: Vec<Flow> = configs
        .iter()
        .enumerate()
        .map(|(n, config)| Flow {
            from: Heap::engine(n as u32, *config),
            to: Heap::engine(n as u32, *config),
            begins: start + Duration::from_secs(n as u64),
            bytes: 0,
        })
        .collect();
    let (mut now, end) = (start, start + span);
    let mut buf = vec![0; 2_048];
    let mut waits = Vec::new();
    while now < end {
        for flow in flows.iter_mut().filter(|flow| flow.begins <= now) {
            while flow.from.unsent() < 100_000 {
                flow.from.send(&[7; 50_000]).unwrap();
            }
        }
        loop {
            let mut idle = true;
            while let Some(datagram) = there.recv(now) {
                let conv = u32::from_le_bytes(datagram[..4].try_into().unwrap());
                let flow = &mut flows[conv as usize];
                let mut got = 0;
                let _ = flow.to.handle_datagram(now, &datagram[..datagram.len() - IP_UDP], Origin::Wire, |bytes| {
                    got += bytes.len() as u64;
                    bytes.len()
                });
                flow.bytes += if now >= measured_from { got } else { 0 };
                idle = false;
            }
            while let Some(datagram) = back.recv(now) {
                let conv = u32::from_le_bytes(datagram[..4].try_into().unwrap());
                let _ = flows[conv as usize].from.handle_datagram(now, &datagram, Origin::Wire, |_| 0);
                idle = false;
            }
            for flow in flows.iter_mut().filter(|flow| flow.begins <= now) {
                while let Some(len) = flow.from.poll_transmit(now, &mut buf) {
                    if now >= start + Duration::from_secs(1) {
                        waits.push(there.queueing_delay(now).as_micros() as f64 / 1_000.0);
                    }
                    // What IP and UDP add takes its time as well.
                    there.send(now, &buf[..len + IP_UDP]);
                    idle = false;
                }
                while let Some(len) = flow.to.poll_transmit(now, &mut buf) {
                    back.send(now, &buf[..len]);
                    idle = false;
                }
            }
            if idle {
                break;
            }
        }
        let timeouts = flows.iter().flat_map(|flow| [flow.from.poll_timeout(), flow.to.poll_timeout()]);
        let starts = flows.iter().map(|flow| flow.begins).filter(|at| *at > now);
        let next = [there.next_arrival(), back.next_arrival()].into_iter().chain(timeouts.map(|d| d.map(|d| d.at)));
        now = next.flatten().chain(starts).min().unwrap().max(now + Duration::from_micros(1));
    }
    waits.sort_by(f64::total_cmp);
    let seconds = end.since(measured_from).as_micros() as f64 / 1e6;
    let share = |flow: &Flow| {
        let stats = flow.from.stats();
        // The share of the link that useful bytes with their headers take.
        let headers = 1.0 + (24.0 + IP_UDP as f64) * stats.segments_sent as f64 / stats.bytes_sent as f64;
        flow.bytes as f64 * headers / seconds / BANDWIDTH as f64
    };
    let (sent, again) = flows.iter().fold((0, 0), |(sent, again), flow| {
        (sent + flow.from.stats().segments_sent, again + flow.from.stats().retransmitted)
    });
    Outcome {
        shares: flows.iter().map(share).collect(),
        queue: (waits.iter().sum::<f64>() / waits.len() as f64, waits[waits.len() * 95 / 100]),
        again: again as f64 / sent as f64,
    }
}

const LINK: sim::Config = sim::Config {
    loss: 0.01,
    bandwidth: Some(BANDWIDTH),
    // A round trip's worth.
    queue: 1_250_000,
    mtu: crate::ETHERNET,
    ..sim::Config::clean(Duration::from_millis(50))
};

fn print(name: &str, outcome: &Outcome) {
    let shares: Vec<String> = outcome.shares.iter().map(|share| format!("{:.1} %", share * 100.0)).collect();
    let (mean, most) = outcome.queue;
    println!(
        "{name:44} share {} | queue mean {mean:.1} ms, 95 % below {most:.1} ms | sent again {:.1} %",
        shares.join(", "),
        outcome.again * 100.0
    );
}

#[test]
fn a_link_is_filled_and_its_queue_is_not() {
    for seed in 1..=3 {
        let outcome = run(LINK, &[Config::GAMES], Duration::from_secs(30), seed);
        print("100 Mbit/s, 50 ms, 1 % loss", &outcome);
        assert!(outcome.shares[0] >= 0.85 && outcome.queue.1 < 20.0);
    }
    for (loss, queue) in [(0.0, 1_250_000), (0.1, 1_250_000), (0.01, 150_000)] {
        let outcome = run(sim::Config { loss, queue, ..LINK }, &[Config::GAMES], Duration::from_secs(30), 1);
        print(&format!("{} % loss, queue of {} kB", loss * 100.0, queue / 1_000), &outcome);
        assert!(outcome.shares[0] >= 0.7);
    }
}

#[test]
fn flows_share_a_link() {
    let outcome = run(LINK, &[Config::GAMES; 2], Duration::from_secs(60), 1);
    print("two flows", &outcome);
    assert!(outcome.shares.iter().all(|share| *share >= 0.25));
    // A flow that backs off only when the queue overflows, as TCP of old did.
    let steady = Config { congestion: CongestionControl::Kcp, fast_resend: 2, ..Config::GAMES };
    let link = sim::Config { loss: 0.0, delay: Duration::from_millis(10), queue: 250_000, ..LINK };
    let outcome = run(link, &[steady, Config::GAMES], Duration::from_secs(60), 1);
    print("beside KCP's window, 10 ms", &outcome);
    assert!(outcome.shares.iter().all(|share| *share >= 0.2));
}

/// Why congestion control is on: what the original's `nc = 1` does to a link.
#[test]
fn without_control_the_queue_is_full() {
    let config = Config { congestion: CongestionControl::Off, max_in_flight: u32::MAX, ..Config::GAMES };
    let outcome = run(LINK, &[config], Duration::from_secs(20), 1);
    print("no congestion control", &outcome);
    assert!(outcome.queue.0 > 50.0);
}
