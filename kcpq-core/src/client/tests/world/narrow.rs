//! Links that carry less than is wanted at once, and keep what is too much in a long queue.

use super::*;

/// The first burst alone waits for half a second, where a round trip takes 20 ms: what is late must not be taken for lost, or
/// copies fill the link, and more of them follow the longer these take.
#[test]
fn a_burst_into_a_long_queue_does_not_drown_in_its_own_copies() {
    for latency in [10, 50] {
        let mut world = World::<Heap>::new(broker::Config::default());
        let publisher = world.add(Config { queue: 4 << 20, ..Config::default() }, CLEAN);
        world.run_for(Duration::from_secs(1));
        let link = sim::Config::clean(Duration::from_millis(latency));
        let sub = world.add(Config::default(), sim::Config { bandwidth: Some(100_000), ..link });
        let id = world.subscribe(sub, ">");
        let begun = world.now;
        for number in 0..2_000 {
            world.publish(publisher, &alloc::format!("a.{number}"), &[7; 500]).unwrap();
        }
        world.run_until("all of 1 MB", |world| world.nodes[sub].log.payloads(id).len() == 2_000);
        let (took, again) = (world.now.since(begun), world.broker.transport().retransmitted);
        assert!(took < Duration::from_secs(14), "{latency}: {took}, 10 s on the link");
        assert!(again < 100, "{latency}: {again}");
    }
}
