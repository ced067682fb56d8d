//! A network that falls apart: one of two servers is cut off from NATS without a word, and comes back. Local messages go on on both
//! sides, and the sums agree.

mod support;

use std::time::Duration;

use kcpq_core::broker::gateway;
use kcpq_smol::{Client, Subscription};
use kcpq_std_server::Server;
use smol::Timer;
use support::edge;
use support::nats::{self, Nats};
use support::tally::Tally;
use support::wait::{LIMIT, soon};
use support::wall::Wall;

/// A server with somebody who publishes numbered messages, and somebody who listens to those of both.
struct Side {
    name: &'static str,
    server: Server,
    publisher: Client,
    listener: Subscription,
    next: u32,
    heard: Tally,
}

impl Side {
    async fn start(name: &'static str, url: &str) -> Self {
        let server = edge::serve(edge::on(&[url.to_owned()])).await;
        let client = || Client::builder().timeout(LIMIT).capacity(100_000).connect(server.local_addr());
        let (publisher, listener) = (client().await.unwrap(), client().await.unwrap());
        let listener = listener.subscribe("load").await.unwrap();
        Self { name, server, publisher, listener, next: 0, heard: Tally::default() }
    }

    async fn step(&mut self) {
        for _ in 0..5 {
            self.publisher.publish("load", format!("{} {}", self.name, self.next)).await.unwrap();
            self.next += 1;
        }
        self.heard.drain(&mut self.listener).await;
    }

    fn stats(&self) -> gateway::Stats {
        edge::stats(&self.server)
    }

    /// The number behind the last one that it has heard of somebody.
    fn heard_of(&self, name: &str) -> u32 {
        self.heard.of(name).last().map_or(0, |last| last + 1)
    }
}

/// Both publish and listen, until the condition holds.
async fn load(what: &str, sides: &mut [Side; 2], condition: impl Fn(&[Side; 2]) -> bool) {
    soon(what, async {
        while !condition(sides) {
            for side in sides.iter_mut() {
                side.step().await;
            }
            Timer::after(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[test]
fn a_server_that_is_cut_off_from_nats_goes_on_and_is_one_with_the_other_again() {
    if !nats::is_there() {
        return;
    }
    let nats = Nats::start(&[]);
    let wall = Wall::before(nats.port);
    smol::block_on(async {
        let mut sides = [Side::start("near", &nats.url()).await, Side::start("far", &wall.url()).await];
        load("both hear both", &mut sides, |[near, far]| near.heard_of("far") > 100 && far.heard_of("near") > 100)
            .await;
        for round in 1..=2 {
            wall.go_up();
            load("it is noticed", &mut sides, |[_, far]| far.stats().disconnects == round).await;
            // Nobody is held back meanwhile.
            let before = [sides[0].next, sides[1].next];
            load("local messages go on", &mut sides, |sides| {
                sides.iter().zip(before).all(|(side, before)| side.heard_of(side.name) > before + 100)
            })
            .await;
            assert_eq!(sides[0].stats().disconnects, 0);
            wall.come_down();
            load("it is back", &mut sides, |[_, far]| far.stats().joined == 1).await;
            let before = [sides[0].next, sides[1].next];
            load("both hear both again", &mut sides, |[near, far]| {
                near.heard_of("far") > before[1] && far.heard_of("near") > before[0]
            })
            .await;
        }
        for side in &sides {
            side.publisher.flush().await.unwrap();
        }
        load("all has come", &mut sides, |sides| sides.iter().all(|side| side.stats().waiting == 0)).await;
        let last = [sides[0].next, sides[1].next];
        soon("the rest", async {
            while sides.iter().any(|side| [side.heard_of("near"), side.heard_of("far")] != last) {
                for side in &mut sides {
                    side.heard.drain(&mut side.listener).await;
                }
                Timer::after(Duration::from_millis(2)).await;
            }
        })
        .await;
        let [near, far] = &sides;
        for (side, other) in [(near, far), (far, near)] {
            assert!(side.heard.of(side.name).iter().copied().eq(0..side.next), "at its server nothing is missing");
            let numbers = side.heard.of(other.name);
            assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
            assert_eq!(side.stats().messages_in, numbers.len() as u64);
        }
        // What was cut off has handed over all but what it had been rid of just before it was: that is counted.
        let (here, there) = (near.stats(), far.stats());
        let missing = u64::from(far.next) - near.heard.of("far").len() as u64;
        assert!(missing <= there.in_doubt && there.dropped_away + there.expired == 0, "{missing} {there:?}");
        assert_eq!(there.messages_out, u64::from(far.next), "{there:?}");
        // To who is cut off NATS hands nothing over later.
        let missing = u64::from(near.next) - far.heard.of("near").len() as u64;
        assert!(missing > 0 && here.messages_out == u64::from(near.next), "{missing} {here:?}");
    });
}
