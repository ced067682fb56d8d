//! A server and its clients in one process and in virtual time, with everything that can go wrong, and rules that must hold
//! whatever does (PROTOCOL.md 6). All of it follows from a seed.
//!
//! ```text
//! cargo test -p kcpq-core --features full --test simulation -- --nocapture       some seeds, and what they have reached
//! KCPQ_SIM_COUNT=10000 cargo test ...                                            more
//! KCPQ_SIM_FIRST=5000 ...                                                        from another one on
//! KCPQ_SIM_SEED=17 KCPQ_SIM_WITHOUT=loss,client3 cargo test ...                  one, without some of it
//! KCPQ_SIM_TRACE=1 KCPQ_SIM_SEED=17 ...                                          and all that happens in it
//! ```

mod adversary;
mod clock;
mod end;
#[path = "../common/engine.rs"]
mod engine;
mod finish;
mod fleet;
mod keys;
mod load;
mod message;
mod oracle;
mod original;
#[path = "../original/peer.rs"]
mod peer;
mod plan;
mod report;
mod rules;
mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kcpq_core::broker::{Config, LastValues, SlowConsumer};
use kcpq_core::time::Duration;

use crate::adversary::Adversary;
use crate::finish::finish;
use crate::fleet::{Fleet, POCKETS, Pocket};
use crate::plan::{Kind, Plan};
use crate::report::Tally;
use crate::server::Server;
use crate::world::World;

/// How many seeds are tried if nothing else is said.
const SEEDS: u64 = 120;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How the server of a simulation is set up.
fn server(plan: &Plan) -> Server {
    let mut rng = plan.rng(4);
    let policies = [SlowConsumer::DropNewest, SlowConsumer::DropOldest, SlowConsumer::Disconnect];
    let mut config = Config { slow_consumer: policies[rng.usize(..3)], ..Config::default() };
    if plan.kinds.has(Kind::ShortQueues) {
        config.max_queued = rng.usize(2_000..200_000);
        config.high_water = config.max_queued / 8;
    }
    if plan.kinds.has(Kind::LittleMemory) {
        config.max_queued_total = rng.usize(100_000..2_000_000);
        config.max_received_total = rng.usize(200_000..2_000_000);
    }
    let values = match plan.kinds.has(Kind::Retain) {
        true => LastValues { subjects: vec!["auto.*".into()], ..LastValues::default() },
        false => LastValues { max_subjects: 0, ..LastValues::default() },
    };
    Server::new(config, values, plan.shards, plan.rng(5))
}

/// Runs a simulation. What it has reached.
fn simulate(plan: &Plan) -> Tally {
    let mut pockets: Vec<Pocket> = match plan.kinds.has(Kind::Lent) {
        true => (0..POCKETS).map(|_| Pocket::default()).collect(),
        false => Vec::new(),
    };
    let mut world = World::new(plan, Fleet::new(plan, &mut pockets), server(plan));
    let mut adversary = Adversary::new(&mut world);
    adversary.run(&mut world);
    finish(&mut world);
    let World { server, mut tally, oracle, .. } = world;
    tally.server(&server.stats());
    server.ended.iter().for_each(|why| tally.ended(*why));
    tally.add("delivered", oracle.delivered);
    tally
}

/// What went wrong, if anything did.
fn attempt(plan: &Plan) -> Result<Tally, String> {
    catch_unwind(AssertUnwindSafe(|| simulate(plan))).map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default()
    })
}

/// The rule that is broken, or the first words of a panic.
fn rule(why: &str) -> &str {
    why.split(':').next().unwrap_or_default()
}

/// A smaller plan in which the same rule is broken.
fn shrink(plan: &Plan, why: &str) -> (Plan, String) {
    let (mut plan, mut why) = (plan.clone(), why.to_owned());
    loop {
        let smaller = plan.smaller().find_map(|smaller| {
            let found = attempt(&smaller).err()?;
            (rule(&found) == rule(&why)).then_some((smaller, found))
        });
        match smaller {
            Some(smaller) => (plan, why) = smaller,
            None => return (plan, why),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is '{text}', which is no number")))
}

/// Runs many. What they have reached, and those in which a rule is broken.
fn search(first: u64, count: u64) -> (Tally, Vec<(Plan, String)>) {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let (tally, failures) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let enough = number("KCPQ_SIM_FAILURES").unwrap_or(1) as usize;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let plan = Plan::of(seed);
                    match attempt(&plan) {
                        Ok(reached) => tally.lock().unwrap().merge(&reached),
                        Err(why) => {
                            eprintln!("seed {seed}: {why}");
                            let mut failures = failures.lock().unwrap();
                            failures.push((plan, why));
                            stop.store(failures.len() >= enough, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    (tally.into_inner().unwrap(), failures.into_inner().unwrap())
}

#[test]
fn whatever_goes_wrong_the_rules_of_delivery_hold() {
    if let Some(seed) = number("KCPQ_SIM_SEED") {
        let mut plan = Plan::of(seed);
        plan.leave_out(&std::env::var("KCPQ_SIM_WITHOUT").unwrap_or_default());
        plan.traced = std::env::var_os("KCPQ_SIM_TRACE").is_some();
        println!("seed {seed}: {plan}");
        simulate(&plan).print();
        return;
    }
    let (first, count) = (number("KCPQ_SIM_FIRST").unwrap_or(0), number("KCPQ_SIM_COUNT").unwrap_or(SEEDS));
    // What fails is told once, and not for each attempt to make it smaller.
    let hook = std::panic::take_hook();
    if std::env::var_os("KCPQ_SIM_LOUD").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let (tally, failures) = search(first, count);
    let shrinks = std::env::var_os("KCPQ_SIM_RAW").is_none();
    let told: Vec<String> = failures
        .iter()
        .map(|(plan, why)| {
            let (small, why) = if shrinks { shrink(plan, why) } else { (plan.clone(), why.clone()) };
            format!(
                "seed {}: {why}\n  {small}\n  KCPQ_SIM_SEED={} KCPQ_SIM_WITHOUT={} cargo test -p kcpq-core --features full \
                 --test simulation -- whatever_goes_wrong --nocapture",
                plan.seed,
                plan.seed,
                small.left_out()
            )
        })
        .collect();
    std::panic::set_hook(hook);
    tally.print();
    assert!(told.is_empty(), "{}", told.join("\n"));
    let missing = if count >= SEEDS { tally.missing(count) } else { Vec::new() };
    assert!(missing.is_empty(), "never reached, though the simulation claims to: {}", missing.join("; "));
}

/// Or nothing could be replayed.
#[test]
fn a_seed_makes_the_same_simulation_each_time() {
    for seed in [1, 2, 71] {
        let plan = Plan::of(seed);
        assert!(simulate(&plan) == simulate(&plan), "seed {seed} has reached different things");
    }
}
