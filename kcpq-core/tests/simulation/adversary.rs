//! What goes wrong, and when it is mended.

use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use kcpq_core::broker::SessionCursor;
use kcpq_core::sim;
use kcpq_core::time::{Duration, Instant};

use crate::plan::Kind;
use crate::rules::Policy;
use crate::world::World;

/// What ends by itself.
enum End {
    Path(usize),
    Server { register: bool },
    Stopping { register: bool },
}

pub(crate) struct Adversary {
    rng: Rng,
    ends: Vec<(Instant, End)>,
    next_fault: Instant,
    next_work: Instant,
    next_save: Instant,
    pause: Duration,
    saved: Vec<(bytes::Bytes, Duration, Option<Duration>)>,
}

/// What happens now and then. All else is a matter of the paths from the beginning.
pub(crate) const SUDDEN: [Kind; 18] = [
    Kind::Narrow,
    Kind::Mtu,
    Kind::Cut,
    Kind::Partition,
    Kind::Rebind,
    Kind::Roam,
    Kind::ClientCrash,
    Kind::ClientClose,
    Kind::Reconnect,
    Kind::ServerCrash,
    Kind::ServerStop,
    Kind::ClientSleep,
    Kind::ServerSleep,
    Kind::ClientJump,
    Kind::ServerJump,
    Kind::Stuck,
    Kind::Rules,
    Kind::Kick,
];

impl Adversary {
    pub(crate) fn new(world: &mut World<'_>) -> Self {
        let mut rng = world.plan.rng(3);
        let pause = Duration::from_millis([150, 600, 2_500][rng.usize(..3)]);
        for index in 0..world.nodes.len() {
            if !world.plan.absent.contains(&index) {
                world.start(index);
            }
            let path = bad(world, index);
            world.set_path(index, path);
        }
        let now = world.now;
        Self { rng, ends: Vec::new(), next_fault: now, next_work: now, next_save: now, pause, saved: Vec::new() }
    }

    /// Lets things go wrong for as long as they are to.
    pub(crate) fn run(&mut self, world: &mut World<'_>) {
        let end = world.now + world.plan.span;
        while world.now < end {
            let next = self.ends.iter().map(|(at, _)| *at).chain([self.next_fault, self.next_work, end]);
            world.run_to(next.min().unwrap_or(end).max(world.now + Duration::from_micros(1)));
            world.answer();
            world.check_memory();
            self.turn(world);
        }
        self.heal(world);
    }

    fn turn(&mut self, world: &mut World<'_>) {
        let now = world.now;
        while let Some(at) = self.ends.iter().position(|(at, _)| *at <= now) {
            let (_, end) = self.ends.swap_remove(at);
            self.end(world, &end);
        }
        if self.next_save <= now {
            self.next_save = now + Duration::from_secs(1);
            if world.server.is_up() {
                self.saved = world.server.save();
            }
        }
        if self.next_work <= now {
            let alive = world.alive();
            if let Some(index) = self.rng.choice(alive) {
                let mut rng = self.rng.fork();
                world.work(index, &mut rng);
            }
            self.next_work = now + Duration::from_micros(self.rng.u64(1_000..60_000));
        }
        if self.next_fault <= now {
            let kinds: Vec<Kind> = SUDDEN.iter().copied().filter(|kind| world.plan.kinds.has(*kind)).collect();
            // The same numbers are drawn whatever is part of it.
            let (kind, node, mut rng) = (self.rng.usize(..SUDDEN.len()), self.rng.usize(..), self.rng.fork());
            if kinds.contains(&SUDDEN[kind]) {
                self.strike(world, SUDDEN[kind], node % world.nodes.len(), &mut rng);
            }
            let pause = self.pause.as_micros() * (1 + kinds.len() as u64) / SUDDEN.len() as u64;
            self.next_fault = now + Duration::from_micros(self.rng.u64(1..=pause.max(1)));
        }
    }

    fn strike(&mut self, world: &mut World<'_>, kind: Kind, index: usize, rng: &mut Rng) {
        let now = world.now;
        let longest = [200, 3_000, 12_000][rng.usize(..3)];
        let a_while = Duration::from_millis(rng.u64(1..longest));
        let until = now + a_while;
        let alive = world.is_alive(index);
        world.trace(|| format!("fault: {} {index} {a_while}", kind.name()));
        let path = world.nodes[index].path;
        match kind {
            Kind::Narrow => {
                let bandwidth = Some([20_000, 100_000, 1_000_000][rng.usize(..3)]);
                world.set_path(index, sim::Config { bandwidth, queue: rng.usize(3_000..100_000), ..path });
                self.ends.push((until, End::Path(index)));
            }
            Kind::Mtu => {
                world.set_path(index, sim::Config { mtu: rng.usize(1_300..1_500), ..path });
                self.ends.push((until, End::Path(index)));
            }
            Kind::Cut => {
                world.set_path(index, sim::Config { cut: rng.usize(1_300..1_500), ..path });
                self.ends.push((until, End::Path(index)));
            }
            Kind::Partition => {
                let which = rng.u8(..3);
                world.nodes[index].up.set_down(which != 0);
                world.nodes[index].down.set_down(which != 1);
                self.ends.push((until, End::Path(index)));
            }
            Kind::Rebind => {
                let mut addr = world.nodes[index].addr;
                addr.set_port(addr.port().wrapping_add(100).max(1_024));
                world.move_to(index, addr);
            }
            Kind::Roam => {
                let host = Ipv4Addr::new(198, 51, 100 + rng.u8(..100), 1 + index as u8);
                let mut addr = world.nodes[index].addr;
                addr.set_ip(IpAddr::V4(host));
                world.move_to(index, addr);
            }
            Kind::ClientCrash if alive => {
                world.kill(index);
                world.nodes[index].back_at = Some(until);
            }
            Kind::ClientClose if alive => {
                let node = &mut world.nodes[index];
                node.closing = true;
                if let Some(end) = &mut node.end {
                    end.close(node.clock.read(now));
                }
                node.back_at = Some(until);
            }
            Kind::Reconnect if alive => {
                let node = &mut world.nodes[index];
                if let Some(end) = &mut node.end {
                    end.reconnect(node.clock.read(now));
                }
            }
            Kind::ServerCrash if world.server.is_up() => {
                let register = world.plan.kinds.has(Kind::Register) && rng.bool();
                world.server.end();
                self.ends.push((until, End::Server { register }));
            }
            Kind::ServerStop if world.server.is_up() => {
                let register = world.plan.kinds.has(Kind::Register) && rng.bool();
                world.server.drain(now);
                self.ends.push((now + Duration::from_secs(3), End::Stopping { register }));
            }
            Kind::ClientSleep => world.nodes[index].clock.sleep_until(until),
            Kind::ServerSleep => world.server.clock.sleep_until(until),
            Kind::ClientJump => world.nodes[index].clock.jump(a_while),
            Kind::ServerJump => world.server.clock.jump(a_while),
            Kind::Stuck if !world.nodes[index].make.push => world.nodes[index].stuck_until = until,
            Kind::Rules => set_policy(world, Policy::draw(rng, false)),
            Kind::Kick => kick(world, rng),
            _ => return,
        }
        world.tally.count(&format!("fault: {}", kind.name()));
    }

    fn end(&mut self, world: &mut World<'_>, end: &End) {
        world.trace(|| "a fault ends".into());
        match *end {
            End::Path(index) => {
                let path = bad(world, index);
                world.set_path(index, path);
                world.nodes[index].up.set_down(false);
                world.nodes[index].down.set_down(false);
            }
            End::Stopping { register } => {
                // What was kept is written at the end, if there is a file.
                if world.server.is_up() {
                    self.saved = world.server.save();
                    world.tally.count(if world.server.is_drained() { "stopped: drained" } else { "stopped: late" });
                    world.server.end();
                }
                self.end(world, &End::Server { register });
            }
            End::Server { register } => {
                if world.server.is_up() {
                    return;
                }
                let now = world.now;
                world.server.start(now, register);
                if register {
                    world.server.restore(now, &self.saved);
                }
                world.oracle.restarts.push(now);
                world.tally.count(if register { "started with a register" } else { "started without a register" });
            }
        }
    }

    /// Nothing goes wrong any more.
    fn heal(&mut self, world: &mut World<'_>) {
        for (_, end) in std::mem::take(&mut self.ends) {
            self.end(world, &end);
        }
        let policy = if world.plan.kinds.has(Kind::Rules) { Policy::draw(&mut self.rng, true) } else { Policy::OPEN };
        set_policy(world, policy);
        let now = world.now;
        world.server.clock.sleep_until(now);
        for index in 0..world.nodes.len() {
            let node = &mut world.nodes[index];
            node.clock.sleep_until(now);
            node.stuck_until = now;
            let path = node.make.path;
            world.set_path(index, path);
            if node_is_gone(world, index) {
                world.start(index);
            }
        }
    }
}

fn node_is_gone(world: &World<'_>, index: usize) -> bool {
    world.nodes[index].end.is_none() && !world.plan.absent.contains(&index)
}

/// What a path is like as long as things go wrong.
fn bad(world: &World<'_>, index: usize) -> sim::Config {
    let (plan, make) = (&world.plan, &world.nodes[index].make);
    let mut rng = plan.rng(2_000 + index as u64);
    let mut has = |kind| rng.bool() && plan.kinds.has(kind);
    let mut path = make.path;
    if has(Kind::Loss) {
        path.loss = 0.05;
    }
    if has(Kind::Bursts) {
        (path.loss, path.burst) = (0.1, 8.0);
    }
    if has(Kind::Duplicate) {
        path.duplicate = 0.2;
    }
    if has(Kind::Corrupt) {
        // UDP's checksum finds it; what it does not, sealed sessions must.
        if make.shows.is_sealed() { path.corrupt = 0.1 } else { path.loss = path.loss.max(0.1) }
    }
    if has(Kind::Jitter) {
        path.jitter = Duration::from_millis(rng.u64(1..100));
    }
    path
}

fn set_policy(world: &mut World<'_>, policy: Policy) {
    let now = world.now;
    world.server.set_access(now, policy.access());
    world.oracle.policies.push((now, policy));
}

fn kick(world: &mut World<'_>, rng: &mut Rng) {
    let now = world.server.clock.read(world.now);
    for broker in &mut world.server.brokers {
        let sessions = broker.view_sessions(now, SessionCursor::default(), 1_000).items;
        if let Some(session) = rng.choice(&sessions) {
            broker.kick(now, session.id);
            return;
        }
    }
}
