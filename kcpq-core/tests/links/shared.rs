//! Many thin flows on one narrow link: what they send in all, how late the newest state is, and how they share the link.

use kcpq_core::sim;
use kcpq_core::time::{Duration, Instant};

use crate::crowd::{Crowd, Ends};
use crate::reno::Reno;
use crate::{ms, seeds};

/// So many subscribers to one state, over a link that they share.
#[derive(Clone, Copy)]
struct Work {
    flows: usize,
    size: usize,
    /// What the link carries, in bytes a second.
    bandwidth: u64,
    /// How long a datagram may wait in its queue.
    queue: Duration,
    loss: f64,
    /// Beside a TCP flow.
    tcp: bool,
}

/// Of a state that is sent 60 times a second.
const PERIOD: Duration = Duration::from_micros(16_667);
const DELAY: Duration = ms(15);
/// What lies around a message of 652 bytes: frame, subject, native datagram, UDP, IP.
const HEADERS: usize = 64;
/// No queue is shorter, in bytes.
const LEAST_QUEUE: usize = 6_000;
const SPAN: Duration = Duration::from_secs(12);
/// When a flow has to be settled.
const SETTLED: Duration = Duration::from_secs(2);

impl Work {
    /// On a link with so many times what they need.
    const fn new(flows: usize, times: f64) -> Self {
        let need = (flows * (652 + HEADERS) * 60) as f64;
        Self { flows, size: 652, bandwidth: (need * times) as u64, queue: ms(100), loss: 0.0, tcp: false }
    }

    /// What an update takes where each gets the same.
    fn update(&self) -> f64 {
        let others = u64::from(self.tcp);
        let bytes = (self.size + HEADERS) as f64;
        (bytes / (self.bandwidth as f64 / (self.flows as u64 + others) as f64)).max(PERIOD.as_micros() as f64 / 1e6)
    }
}

struct Outcome {
    /// Bytes sent into the link, of those that it carries.
    sent: f64,
    /// Of the datagrams sent into the link, those that its queue had no room for.
    dropped: f64,
    /// How old the newest state is that a subscriber has, in ms, from [`SETTLED`] on: half, 99 of 100, and the most.
    age: [f64; 3],
    /// Updates that the worst flow got, of the fair share.
    worst: f64,
    /// From when on most are as late as they may be, in s.
    settled: f64,
    /// How long a datagram waits in the queue after the first second, in ms: 95 of 100.
    queue: f64,
    tcp: f64,
    again: f64,
    in_vain: f64,
    repairs: f64,
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// How late a state may be, in ms: three times as late as over an idle link, and one update later.
fn limit(work: &Work) -> f64 {
    3.0 * 2.0 * DELAY.as_micros() as f64 / 1e3 + work.update() * 1e3
}

fn run(work: &Work, ends: &Ends, seed: u64) -> Outcome {
    let link = sim::Config {
        loss: work.loss,
        bandwidth: Some(work.bandwidth),
        queue: ((work.bandwidth * work.queue.as_micros() / 1_000_000) as usize).max(LEAST_QUEUE),
        mtu: crate::ETHERNET + 28,
        ..sim::Config::clean(DELAY)
    };
    let mut crowd = Crowd::new(link, work.flows, ends, seed);
    // What is learned about the link when a session begins is no part of the figures.
    crowd.run_to(crowd.now + Duration::from_secs(1) + Duration::from_micros(seed * 4_321));
    if work.tcp {
        crowd.tcp = Some(Reno::new(crowd.now));
        crowd.run_to(crowd.now + Duration::from_secs(5));
    }
    let start = crowd.now;
    let due = |number: u64| start + Duration::from_micros(PERIOD.as_micros() * number);
    let (link_before, tcp_before) = (*crowd.down.stats(), crowd.tcp.as_ref().map_or(0, Reno::bytes));
    let (mut number, mut ages, mut waits, mut settled) = (0, Vec::new(), Vec::new(), start);
    let mut recent = Vec::new();
    while crowd.now < start + SPAN {
        while due(number) <= crowd.now {
            crowd.publish(number, work.size);
            number += 1;
        }
        let next = Instant::from_millis(crowd.now.as_micros() / 1_000 + 1);
        crowd.run_to(next.min(due(number)));
        if crowd.now < next {
            continue;
        }
        // Once a millisecond.
        let passed = crowd.now.since(start);
        for node in crowd.subscribers() {
            let age = crowd.now.since(node.newest.map_or(start, due)).as_micros() as f64 / 1e3;
            recent.push(age);
            if passed > SETTLED {
                ages.push(age);
            }
        }
        if passed > Duration::from_secs(1) {
            waits.push(crowd.down.queueing_delay(crowd.now).as_micros() as f64 / 1e3);
        }
        if recent.len() >= 100 * work.flows {
            recent.sort_by(f64::total_cmp);
            if quantile(&recent, 0.5) > limit(work) {
                settled = crowd.now;
            }
            recent.clear();
        }
    }
    ages.sort_by(f64::total_cmp);
    waits.sort_by(f64::total_cmp);
    let (link, seconds) = (crowd.down.stats(), crowd.now.since(start).as_micros() as f64 / 1e6);
    let capacity = work.bandwidth as f64 * seconds;
    let sent = (link.bytes - link_before.bytes) as f64;
    let least = crowd.subscribers().iter().map(|node| node.count).min().unwrap_or(0) as f64;
    let stats = crowd.sent();
    let part = |count: u64| 1_000.0 * count as f64 / stats.segments_sent as f64;
    Outcome {
        sent: sent / capacity,
        dropped: (link.overflowed - link_before.overflowed) as f64 / (link.sent - link_before.sent) as f64,
        age: [0.5, 0.99, 1.0].map(|q| quantile(&ages, q)),
        worst: least * work.update() / seconds,
        settled: settled.since(start).as_micros() as f64 / 1e6,
        queue: quantile(&waits, 0.95),
        tcp: (crowd.tcp.as_ref().map_or(0, Reno::bytes) - tcp_before) as f64 / capacity,
        again: part(stats.retransmitted),
        in_vain: part(stats.spurious),
        repairs: part(stats.repairs_sent),
    }
}

impl Outcome {
    fn print(&self, work: &Work) {
        let Work { flows, size, bandwidth, queue, loss, tcp } = *work;
        let [p50, p99, max] = self.age;
        println!(
            "{flows:2} x {size} B, {:6.2} Mbit/s, queue {:3} ms, {:1} %{} | sent {:4.2} dropped {:4.1} % | age p50 {p50:5.1} \
             p99 {p99:6.1} max {max:6.1} ms, limit {:5.1} | worst {:4.2} | settled {:5.2} s | queue {:5.1} ms{} | per 1000: \
             again {:.0}, in vain {:.0}, repairs {:.0}",
            bandwidth as f64 * 8e-6,
            queue.as_millis(),
            loss * 100.0,
            if tcp { ", tcp" } else { "" },
            self.sent,
            self.dropped * 100.0,
            limit(work),
            self.worst,
            self.settled,
            self.queue,
            if tcp { format!(", tcp {:4.2}", self.tcp) } else { String::new() },
            self.again,
            self.in_vain,
            self.repairs,
        );
    }
}

/// What a flow has to reach.
#[derive(Clone, Copy)]
struct Goal {
    /// Most of the link's bytes that may be sent, and of the datagrams that its queue may drop.
    sent: f64,
    dropped: f64,
    /// How late the state may be 99 times of 100, in multiples of [`limit`].
    age: f64,
    /// What the worst flow has to get, of the fair share.
    worst: f64,
}

const GOAL: Goal = Goal { sent: 1.15, dropped: 0.05, age: 1.0, worst: 0.5 };

/// Medians over a few seeds: what happens when is a matter of chance where flows meet in a queue.
fn judge(work: Work, goal: Goal) -> Outcome {
    let outcomes: Vec<Outcome> = (1..=seeds().div_ceil(2)).map(|seed| run(&work, &Ends::default(), seed)).collect();
    let median = |value: &dyn Fn(&Outcome) -> f64| crate::median(outcomes.iter().map(value).collect()).0;
    let outcome = Outcome {
        sent: median(&|outcome| outcome.sent),
        dropped: median(&|outcome| outcome.dropped),
        age: [0, 1, 2].map(|n| median(&|outcome: &Outcome| outcome.age[n])),
        worst: median(&|outcome| outcome.worst),
        settled: median(&|outcome| outcome.settled),
        queue: median(&|outcome| outcome.queue),
        tcp: median(&|outcome| outcome.tcp),
        again: median(&|outcome| outcome.again),
        in_vain: median(&|outcome| outcome.in_vain),
        repairs: median(&|outcome| outcome.repairs),
    };
    outcome.print(&work);
    assert!(outcome.sent <= goal.sent, "{:.2} of the link's bytes sent", outcome.sent);
    assert!(outcome.dropped <= goal.dropped, "{:.3} dropped", outcome.dropped);
    assert!(outcome.age[1] <= goal.age * limit(&work), "state {:.1} ms old", outcome.age[1]);
    assert!(outcome.worst >= goal.worst, "the worst flow gets {:.2}", outcome.worst);
    outcome
}

/// What such links are held to: `sent`, `dropped`, `age`, `worst`.
const fn held(sent: f64, dropped: f64, age: f64, worst: f64) -> Goal {
    Goal { sent, dropped, age, worst }
}

#[test]
fn many_flows_on_one_link() {
    for flows in [32, 64] {
        for times in [1.0, 1.2, 1.5, 3.0] {
            let outcome = judge(Work::new(flows, times), GOAL);
            assert!(outcome.settled <= 1.0);
        }
        // Without a bound 10 times as much is sent as the link carries, and the state is 6 to 10 s old.
        judge(Work::new(flows, 0.9), held(1.1, 0.02, 1.5, 0.6));
        judge(Work::new(flows, 0.7), held(1.1, 0.05, 2.6, 0.5));
        // There is hardly a datagram of each flow under way.
        judge(Work::new(flows, 0.3), held(2.2, 0.5, 45.0, 0.3));
    }
}

#[test]
fn few_flows_on_one_link() {
    for flows in [1, 4] {
        for times in [1.0, 1.2, 1.5, 3.0] {
            judge(Work::new(flows, times), GOAL);
        }
        judge(Work::new(flows, 0.9), held(1.1, 0.03, 2.2, 0.6));
        judge(Work::new(flows, 0.7), held(1.1, 0.05, 2.6, 0.6));
        judge(Work::new(flows, 0.3), held(2.2, 0.5, 40.0, 0.35));
    }
}

/// It is too short to be told from jitter: only what it loses tells it.
#[test]
fn many_flows_and_a_short_queue() {
    for (flows, times, goal) in [
        (32, 0.7, held(1.4, 0.25, 5.0, 0.35)),
        (64, 0.7, held(1.6, 0.35, 7.0, 0.25)),
        (32, 0.9, held(1.2, 0.12, 2.5, 0.5)),
        (32, 1.2, GOAL),
    ] {
        judge(Work { queue: ms(30), ..Work::new(flows, times) }, goal);
    }
}

#[test]
fn many_flows_where_datagrams_get_lost() {
    for (times, goal) in [
        (0.7, held(1.15, 0.07, 4.0, 0.35)),
        (0.9, held(1.15, 0.07, 2.0, 0.45)),
        (1.2, held(1.15, 0.03, 2.0, 0.5)),
        (1.5, held(1.15, 0.05, 1.6, 0.8)),
        (3.0, GOAL),
    ] {
        judge(Work { loss: 0.05, ..Work::new(32, times) }, goal);
    }
    for (times, age) in [(0.7, 2.8), (1.5, 2.4)] {
        judge(Work { loss: 0.05, ..Work::new(1, times) }, held(1.15, 0.07, age, 0.7));
    }
}

/// It keeps the queue full, so that the newest state cannot be younger than that is long.
#[test]
fn many_flows_beside_tcp() {
    for (flows, times) in [(1, 10.0), (32, 1.2), (32, 1.5), (32, 3.0)] {
        let outcome = judge(Work { tcp: true, ..Work::new(flows, times) }, held(1.15, 0.1, 2.4, 0.45));
        assert!(outcome.tcp >= 0.1, "nor is it driven out: {:.2}", outcome.tcp);
    }
}

/// 60 Hz over 150 kbit/s: with messages that fit, and with such that do not.
#[test]
fn one_flow_on_a_very_narrow_link() {
    for (size, goal) in [(150, GOAL), (200, GOAL), (652, held(1.25, 0.2, 8.0, 0.8))] {
        judge(Work { size, bandwidth: 150_000 / 8, queue: ms(300), ..Work::new(1, 1.0) }, goal);
    }
}
