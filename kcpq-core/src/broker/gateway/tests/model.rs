//! Whatever comes and goes, in any order: a model of what has to hold.

use super::*;

/// A subscription of the model below.
struct Known {
    end: usize,
    id: SubscriptionId,
    pattern: &'static str,
    group: Option<&'static str>,
    /// Numbers of the messages that it has got.
    got: Vec<u32>,
    left: bool,
}

/// Servers, clients and the backbone come and go; what has to hold at any time is looked at, and in the end that all is well.
fn come_and_go(seed: u64, may_be_leafs: bool) {
    const PATTERNS: [&str; 5] = [">", "a.*", "a.>", "*.b", "a.b"];
    const SUBJECTS: [&str; 4] = ["a.b", "a.c", "x.b", "x.y"];
    let mut rng = Rng::with_seed(seed);
    let (servers, brokers) = (rng.usize(2..4), rng.usize(1..3));
    let homes: Vec<_> = (0..6).map(|_| (rng.usize(..servers), rng.usize(..brokers))).collect();
    let config = Config { buffer: 2_000, ..Config::default() };
    // Leaf nodes and others, as it falls.
    let leafs: Vec<_> = (0..servers).map(|_| may_be_leafs && rng.u8(..3) > 0).collect();
    let mut world = World::mixed(&leafs, brokers, &homes, &config);
    let mut known: Vec<Known> = Vec::new();
    let mut publishers = Vec::new();
    let mut buf = vec![0; 60_000];
    let mut is_up = vec![false; servers];
    for step in 0..400 {
        match rng.u8(..20) {
            0..2 => {
                let (end, pattern) = (rng.usize(..6), *rng.choice(&PATTERNS).unwrap());
                let group = rng.bool().then(|| *rng.choice(&["g", "h"]).unwrap());
                let client = &mut world.ends[end].client;
                let id = match group {
                    Some(group) => client.subscribe_queue(world.now, pattern, group),
                    None => client.subscribe(world.now, pattern),
                };
                known.push(Known { end, id: id.unwrap(), pattern, group, got: Vec::new(), left: false });
            }
            2 if known.len() > 4 => {
                let one = rng.usize(..known.len());
                if !core::mem::replace(&mut known[one].left, true) {
                    let Known { end, id, .. } = known[one];
                    world.ends[end].client.unsubscribe(world.now, id);
                }
            }
            3 => {
                let index = rng.usize(..servers);
                is_up[index] = !is_up[index];
                if !is_up[index] {
                    world.lose(index);
                } else {
                    world.attach(index);
                }
            }
            4 => world.pass(Duration::from_millis(rng.u64(..1_500))),
            _ => {
                let (end, subject) = (rng.usize(..6), *rng.choice(&SUBJECTS).unwrap());
                let number = publishers.len() as u32;
                publishers.push((end, subject, step));
                let payload = alloc::format!("{number}");
                world.ends[end].client.publish(world.now, subject, payload.as_bytes()).unwrap();
            }
        }
        if rng.bool() {
            world.run();
        } else {
            // Some are slower than others.
            for _ in 0..rng.usize(..4) {
                let (end, server) = (rng.usize(..6), rng.usize(..servers));
                let (home, broker) = world.ends[end].home;
                while let Some(len) = world.ends[end].client.poll_transmit(world.now, &mut buf) {
                    world.servers[home].brokers[broker].handle_datagram(world.now, addr(end), &mut buf[..len]);
                }
                world.turn(server, &mut buf);
            }
        }
        check(&mut world, &mut known, &publishers, seed);
    }
    // In the end everybody is there, and all comes everywhere.
    for (index, is_up) in is_up.iter().enumerate() {
        if !is_up {
            world.attach(index);
        }
    }
    world.run();
    for _ in 0..4 {
        world.pass(Duration::from_secs(1));
    }
    check(&mut world, &mut known, &publishers, seed);
    let fresh = publishers.len() as u32;
    for end in 0..6 {
        for subject in SUBJECTS {
            let number = publishers.len();
            publishers.push((end, subject, 400));
            world.publish(end, subject, &alloc::format!("{number}"));
        }
    }
    check(&mut world, &mut known, &publishers, seed);
    let limits = subject::Limits::DEFAULT;
    for (number, (_, subject, _)) in publishers.iter().enumerate().skip(fresh as usize) {
        let number = number as u32;
        let wants = |one: &&Known| {
            let pattern = Pattern::new(one.pattern, &limits).unwrap();
            !one.left && pattern.matches(subject::Subject::new(subject, &limits).unwrap())
        };
        for one in known.iter().filter(wants).filter(|one| one.group.is_none()) {
            assert!(one.got.contains(&number), "seed {seed}: {number} on {subject} is missing at {}", one.end);
        }
        for group in ["g", "h"] {
            let members: Vec<_> = known.iter().filter(wants).filter(|one| one.group == Some(group)).collect();
            let got = members.iter().filter(|one| one.got.contains(&number)).count();
            assert_eq!(got, usize::from(!members.is_empty()), "seed {seed}: {number} on {subject} in {group}");
        }
    }
    for (index, server) in world.servers.iter().enumerate() {
        let stats = server.gateway.stats();
        assert_eq!(stats.waiting, 0, "seed {seed}");
        if brokers == 1 {
            let relayed = server.brokers[0].stats().relayed;
            let handed = stats.messages_out + stats.no_interest;
            let all = handed + stats.dropped_away + stats.dropped_settled + stats.expired;
            assert_eq!(relayed, all, "seed {seed}, server {index}: {stats:?}");
        }
    }
}

/// Each message once at each subscription, once in each group, and in the order of its publisher.
fn check(world: &mut World, known: &mut [Known], publishers: &[(usize, &'static str, usize)], seed: u64) {
    for end in 0..6 {
        for (id, _, text) in core::mem::take(&mut world.ends[end].got) {
            let number: u32 = text.parse().unwrap();
            let one = known.iter_mut().find(|one| (one.end, one.id) == (end, id)).unwrap();
            let from = publishers[number as usize].0;
            let before = one.got.iter().rev().find(|before| publishers[**before as usize].0 == from);
            assert!(
                // What members get by another way, as the backbone comes, may overtake.
                one.group.is_some() || before.is_none_or(|before| *before < number),
                "seed {seed}: end {end} has got {number} after {before:?}"
            );
            one.got.push(number);
        }
    }
    for group in ["g", "h"] {
        let mut all: Vec<u32> =
            known.iter().filter(|one| one.group == Some(group)).flat_map(|one| one.got.iter().copied()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(count, all.len(), "seed {seed}: group {group} has got a message twice");
    }
}

#[test]
fn whatever_comes_and_goes_nobody_gets_a_message_twice_and_in_the_end_all_is_well() {
    for seed in 0..60 {
        come_and_go(seed, false);
    }
}

#[test]
fn the_same_holds_of_leaf_nodes_also_beside_others() {
    for seed in 0..120 {
        come_and_go(seed, true);
    }
}
