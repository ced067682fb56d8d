//! A network that falls apart without a word: one of two servers is cut off from NATS, or the NATS servers that both stand on are from
//! each other, and come back. Local messages go on on both sides, and the sums agree.

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

/// What is between the far server and NATS.
trait Way {
    fn cut(&self);
    fn mend(&self);
}

impl Way for Wall {
    fn cut(&self) {
        self.go_up();
    }

    fn mend(&self) {
        self.come_down();
    }
}

/// The far server is cut off, twice.
async fn are_cut_off_and_one_again(sides: &mut [Side; 2], way: &impl Way) {
    load("both hear both", sides, |[near, far]| near.heard_of("far") > 100 && far.heard_of("near") > 100).await;
    for round in 1..=2 {
        way.cut();
        load("it is noticed", sides, |[_, far]| far.stats().disconnects == round).await;
        // Nobody is held back meanwhile.
        go_on_at_home(sides).await;
        assert_eq!(sides[0].stats().disconnects, 0);
        way.mend();
        load("it is back", sides, |[_, far]| far.stats().joined == 1).await;
        hear_each_other(sides).await;
    }
    all_has_come(sides).await;
    let [near, far] = &*sides;
    // What was cut off has handed over all but what it had been rid of just before it was: that is counted.
    let (here, there) = (near.stats(), far.stats());
    let missing = u64::from(far.next) - near.heard.of("far").len() as u64;
    assert!(missing <= there.in_doubt && there.dropped_away + there.expired == 0, "{missing} {there:?}");
    assert_eq!(there.messages_out, u64::from(far.next), "{there:?}");
    // To who is cut off NATS hands nothing over later.
    let missing = u64::from(near.next) - far.heard.of("near").len() as u64;
    assert!(missing > 0 && here.messages_out == u64::from(near.next), "{missing} {here:?}");
}

/// Each hears what is published at its own server from now on.
async fn go_on_at_home(sides: &mut [Side; 2]) {
    let before = [sides[0].next, sides[1].next];
    load("local messages go on", sides, |sides| {
        sides.iter().zip(before).all(|(side, before)| side.heard_of(side.name) > before + 100)
    })
    .await;
}

/// Each hears what is published at the other one from now on.
async fn hear_each_other(sides: &mut [Side; 2]) {
    let before = [sides[0].next, sides[1].next];
    load("both hear both again", sides, |[near, far]| {
        near.heard_of("far") > before[1] && far.heard_of("near") > before[0]
    })
    .await;
}

/// Nothing more is published, and the last message is everywhere. At its own server each was heard, and nowhere twice or out of its
/// order.
async fn all_has_come(sides: &mut [Side; 2]) {
    for side in &*sides {
        side.publisher.flush().await.unwrap();
    }
    load("all has come", sides, |sides| sides.iter().all(|side| side.stats().waiting == 0)).await;
    let last = [sides[0].next, sides[1].next];
    soon("the rest", async {
        while sides.iter().any(|side| [side.heard_of("near"), side.heard_of("far")] != last) {
            for side in &mut *sides {
                side.heard.drain(&mut side.listener).await;
            }
            Timer::after(Duration::from_millis(2)).await;
        }
    })
    .await;
    let [near, far] = &*sides;
    for (side, other) in [(near, far), (far, near)] {
        assert!(side.heard.of(side.name).iter().copied().eq(0..side.next), "at its server nothing is missing");
        let numbers = side.heard.of(other.name);
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
        assert_eq!(side.stats().messages_in, numbers.len() as u64);
    }
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
        are_cut_off_and_one_again(&mut sides, &wall).await;
    });
}

#[cfg(target_os = "linux")]
mod packets {
    //! The same where the packets themselves get lost: who connects hears nothing, and what was written waits at its sender.

    use std::net::{Ipv4Addr, TcpStream};
    use std::path::Path;

    use super::*;
    use crate::support::folder::Folder;
    use crate::support::network::{self, Link, Machine};
    use crate::support::process::Process;
    use crate::support::wait::until;

    impl Way for Link<'_> {
        fn cut(&self) {
            Link::cut(self);
        }

        fn mend(&self) {
            Link::mend(self);
        }
    }

    /// NATS on a machine, reached there.
    async fn start(machine: &Machine, addr: Ipv4Addr, args: &[&str]) -> (Process, String) {
        let mut command = machine.command("nats-server");
        let process = Process::spawn(command.args(["-a", "0.0.0.0", "-p", "4222"]).args(args));
        until("NATS listens", || TcpStream::connect((addr, 4222)).is_ok()).await;
        (process, format!("nats://{addr}:4222"))
    }

    #[test]
    fn the_link_to_nats_loses_all_packets() {
        if !nats::is_there() || !network::of_its_own("packets::the_link_to_nats_loses_all_packets") {
            return;
        }
        let (this, machine) = (Machine::this(), Machine::new());
        let [near, far] = [1, 2].map(|number| Link::between(&this, &machine, number));
        smol::block_on(async {
            let (_nats, url) = start(&machine, near.addr(1), &[]).await;
            let through_far = url.replace(&near.addr(1).to_string(), &far.addr(1).to_string());
            let mut sides = [Side::start("near", &url).await, Side::start("far", &through_far).await];
            are_cut_off_and_one_again(&mut sides, &far).await;
        });
    }

    #[test]
    fn a_cluster_of_nats_falls_apart_and_grows_together() {
        if !nats::is_there() || !network::of_its_own("packets::a_cluster_of_nats_falls_apart_and_grows_together") {
            return;
        }
        let (this, first, second) = (Machine::this(), Machine::new(), Machine::new());
        let (near, far) = (Link::between(&this, &first, 1), Link::between(&this, &second, 2));
        let between = Link::between(&first, &second, 3);
        let folder = Folder::new("partition");
        let config = |own: usize| {
            let (own, other) = (between.addr(own), between.addr(1 - own));
            // That a route is dead it finds out within seconds, in place of minutes.
            let text = format!(
                "ping_interval: \"1s\"\nping_max: 2\nhttp: \"0.0.0.0:8222\"\n\
                 cluster {{ name: test, listen: \"{own}:6222\", no_advertise: true, connect_retries: 1000,\n\
                 routes: [\"nats://{other}:6222\"] }}\n"
            );
            folder.write(&format!("{own}.conf"), &text)
        };
        smol::block_on(async {
            let mut running = Vec::new();
            for (own, (machine, link)) in [(&first, &near), (&second, &far)].into_iter().enumerate() {
                running.push(start(machine, link.addr(1), &["-c", Path::to_str(&config(own)).unwrap()]).await);
            }
            let mut sides = [Side::start("near", &running[0].1).await, Side::start("far", &running[1].1).await];
            hear_each_other(&mut sides).await;
            // Mended before anybody has noticed: nothing is lost.
            between.cut();
            go_on_at_home(&mut sides).await;
            between.mend();
            hear_each_other(&mut sides).await;
            for side in &sides {
                let other = if side.name == "near" { "far" } else { "near" };
                let numbers = side.heard.of(other);
                assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "nothing is missing");
            }
            // Until they take each other for dead: what is published meanwhile NATS does not keep.
            between.cut();
            for link in [&near, &far] {
                load("no route is left", &mut sides, |_| routes(link.addr(1)) == 0).await;
            }
            go_on_at_home(&mut sides).await;
            between.mend();
            hear_each_other(&mut sides).await;
            all_has_come(&mut sides).await;
            for side in &sides {
                let stats = side.stats();
                assert_eq!((stats.disconnects, stats.messages_out), (0, u64::from(side.next)), "{stats:?}");
            }
            let missing = u64::from(sides[0].next) - sides[1].heard.of("near").len() as u64;
            assert!(missing > 0, "the cut was noticed, and nothing was lost by it");
        });
    }

    /// Routes to others that a NATS server has.
    fn routes(addr: Ipv4Addr) -> u64 {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect((addr, 8222)).unwrap();
        write!(stream, "GET /routez HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let document: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        document["num_routes"].as_u64().unwrap()
    }
}
