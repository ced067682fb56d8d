//! Queue groups whose members are at several servers.

use super::*;

#[test]
fn one_member_of_a_group_gets_each_message_wherever_the_members_are() {
    let mut world = World::new(2, 2, &[(0, 0), (0, 1), (1, 0), (1, 1)]);
    world.connect();
    for end in [0, 1, 2] {
        world.join(end, "jobs.>", "workers");
    }
    world.subscribe_there(5, "jobs.*", Some("workers"));
    let watcher = world.subscribe(3, "jobs.>");
    for number in 0..40 {
        world.publish(number % 4, "jobs.a", &alloc::format!("{number}"));
    }
    let mut all: Vec<_> = [0, 1, 2]
        .into_iter()
        .flat_map(|end| {
            let got = world.got(end);
            assert!(!got.is_empty(), "end {end} got none");
            got
        })
        .collect();
    let there = world.got_there();
    assert!(!there.is_empty());
    all.extend(there.into_iter().map(|(subject, text, _)| alloc::format!("{subject}={text}")));
    all.sort();
    let mut wanted = texts("jobs.a=", 40);
    wanted.sort();
    assert_eq!(all, wanted, "one member each");
    let watched = core::mem::take(&mut world.ends[3].got);
    assert!(watched.len() == 40 && watched.iter().all(|(id, ..)| *id == watcher));
    // Others of the same server, and other groups, get theirs.
    world.join(3, "jobs.a", "others");
    world.publish(0, "jobs.a", "x");
    assert_eq!(world.ends[3].got.len(), 2);
}

#[test]
fn without_the_backbone_groups_are_served_here_and_nobody_gets_it_again_later() {
    let mut world = World::new(2, 2, &[(0, 0), (0, 1), (1, 0), (1, 1)]);
    world.join(0, "jobs", "workers");
    world.join(2, "jobs", "workers");
    world.subscribe(3, ">");
    world.publish(1, "jobs", "before");
    assert_eq!(world.got(0), ["jobs=before"]);
    world.publish(1, "news", "before");
    world.request(1, "nobody");
    assert_eq!(world.ends[1].answers, ["NoResponders"]);
    world.connect();
    assert_eq!(world.got(3), ["news=before"], "what waited comes, but for what a member has");
    assert_eq!(world.got(2), [""; 0]);
    world.publish(1, "jobs", "with");
    let with = [world.got(0), world.got(2)].concat();
    assert_eq!(with, ["jobs=with"]);
    // The server has said that groups are the backbone's, and that is gone before the message gets there.
    world.backbone.subscriptions.clear();
    world.ends[1].client.publish(world.now, "jobs", b"between").unwrap();
    let mut buf = vec![0; 60_000];
    while let Some(len) = world.ends[1].client.poll_transmit(world.now, &mut buf) {
        world.servers[0].brokers[1].handle_datagram(world.now, addr(1), &mut buf[..len]);
    }
    world.disconnect();
    assert_eq!(world.got(0), ["jobs=between"]);
    world.publish(1, "jobs", "without");
    assert_eq!(world.got(0), ["jobs=without"]);
    let stats = world.stats(0);
    assert_eq!((stats.dropped_settled, stats.disconnects, stats.waiting), (4, 1, 0));
    world.connect();
    assert_eq!(world.got(2), [""; 0]);
}
