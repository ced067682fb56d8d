//! What finding the members of one message costs, for few and for many subscriptions.
//!
//! `cargo bench -p kcpq-core --features full --bench router`
//!
//! Each subject is drawn from all those that are subscribed to, so with many subscriptions its entries are in memory
//! rather than in the caches: the difference between 10 and 1 M is what a cache miss costs.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use kcpq_core::router::Router;
use kcpq_core::subject::{Limits, Pattern, Subject};

const LIMITS: Limits = Limits::DEFAULT;

fn pattern(text: &str) -> Pattern<'_> {
    Pattern::new(text, &LIMITS).unwrap()
}

fn subject(text: &str) -> Subject<'_> {
    Subject::new(text, &LIMITS).unwrap()
}

/// Members found.
fn route(router: &mut Router, text: &str) -> u32 {
    let mut found = 0;
    router.route(subject(text), |member| {
        black_box(member);
        found += 1;
    });
    found
}

/// `count` patterns of one member each, of which every subject matches one.
fn one_match(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for (kind, last) in [("exact", "temperature"), ("star", "*"), ("tail", ">")] {
        for count in [10u32, 10_000, 1_000_000] {
            let mut router = Router::new(1);
            for i in 0..count {
                router.subscribe(pattern(&format!("site.{}.sensor.{i}.{last}", i % 100)), i);
            }
            let mut rng = Rng::with_seed(2);
            let subjects: Vec<String> = (0..65_536)
                .map(|_| rng.u32(..count))
                .map(|i| format!("site.{}.sensor.{i}.temperature", i % 100))
                .collect();
            let mut next = subjects.iter().cycle();
            group.bench_function(BenchmarkId::new(kind, count), |b| {
                b.iter(|| assert_eq!(route(&mut router, next.next().unwrap()), 1));
            });
        }
    }
    group.finish();
}

/// The most nodes that ten tokens can lead to: somebody subscribed to all 1024 ways to write them.
fn worst_case(c: &mut Criterion) {
    let mut router = Router::new(1);
    for bits in 0..1024u32 {
        let tokens: Vec<&str> = (0..10).map(|at| if bits >> at & 1 == 0 { "a" } else { "*" }).collect();
        router.subscribe(pattern(&(tokens.join(".") + ".z")), bits);
    }
    c.bench_function("route/worst/1024", |b| b.iter(|| assert_eq!(route(&mut router, "a.a.a.a.a.a.a.a.a.a.b"), 0)));
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out");
    for count in [1u32, 1_000, 100_000] {
        let mut router = Router::new(1);
        for member in 0..count {
            router.subscribe(pattern("game.*.state"), member);
        }
        group.throughput(Throughput::Elements(count.into()));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| assert_eq!(route(&mut router, "game.7.state"), count));
        });
    }
    group.finish();
}

fn come_and_go(c: &mut Criterion) {
    let mut group = c.benchmark_group("unsubscribe and subscribe");
    for (kind, last) in [("exact", "temperature"), ("tail", ">")] {
        let texts: Vec<String> = (0..1_000_000).map(|i| format!("site.{}.sensor.{i}.{last}", i % 100)).collect();
        let mut router = Router::new(1);
        for (member, text) in (0..).zip(&texts) {
            router.subscribe(pattern(text), member);
        }
        let mut rng = Rng::with_seed(3);
        group.bench_function(BenchmarkId::new(kind, texts.len()), |b| {
            b.iter(|| {
                let member = rng.usize(..texts.len());
                let pattern = pattern(&texts[member]);
                assert!(router.unsubscribe(pattern, member as u32) && router.subscribe(pattern, member as u32));
            });
        });
    }
    group.bench_function("one of 100000 members", |b| {
        let mut router = Router::new(1);
        for member in 0..100_000 {
            router.subscribe(pattern("game.*.state"), member);
        }
        let mut rng = Rng::with_seed(4);
        b.iter(|| {
            let member = rng.u32(..100_000);
            let pattern = pattern("game.*.state");
            assert!(router.unsubscribe(pattern, member) && router.subscribe(pattern, member));
        });
    });
    group.finish();
}

fn checks(c: &mut Criterion) {
    let bytes = b"site.42.sensor.123456.temperature";
    c.bench_function("check a subject of 33 bytes", |b| {
        b.iter(|| Subject::from_bytes(black_box(bytes), &LIMITS).unwrap());
    });
    let (text, wild) = (subject("site.42.sensor.123456.temperature"), pattern("site.*.sensor.*.>"));
    c.bench_function("match one pattern", |b| b.iter(|| black_box(wild).matches(black_box(text))));
}

criterion_group!(benches, one_match, worst_case, fan_out, come_and_go, checks);
criterion_main!(benches);
