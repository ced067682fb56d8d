//! The server, its clients, what lies between them, and time.

use std::net::{Ipv4Addr, SocketAddr};

use fastrand::Rng;
use kcpq_core::broker::SessionCursor;
use kcpq_core::sim::{self, Link};
use kcpq_core::store::Gather;
use kcpq_core::time::{Duration, Instant};

use crate::clock::Clock;
use crate::end::{Counts, End, Got, News, gathered};
use crate::fleet::{Fleet, Make};
use crate::keys::Shows;
use crate::message::Id;
use crate::oracle::{Oracle, broken};
use crate::plan::Plan;
use crate::report::Tally;
use crate::server::Server;

/// What a socket's buffer holds of datagrams that nobody reads.
const SOCKET: usize = 300;
/// Bytes that a session may hold at rest: what is kept to rebuild lost segments with. It forgets that when memory is short, and
/// may then have 32 KiB.
pub(crate) const EACH: u64 = 72 << 10;
/// So often something may happen at one moment.
const ROUNDS: u32 = 100_000;

/// A client, and where it is.
pub(crate) struct Node<'m> {
    pub(crate) make: Make,
    pub(crate) end: Option<Box<dyn End + 'm>>,
    /// How many processes there were.
    pub(crate) life: u32,
    /// How many connections it has made.
    pub(crate) connection: u32,
    pub(crate) clock: Clock,
    /// Its program reads nothing until then.
    pub(crate) stuck_until: Instant,
    pub(crate) addr: SocketAddr,
    pub(crate) up: Link,
    /// What it has sent from former addresses.
    former: Vec<(SocketAddr, Link)>,
    pub(crate) down: Link,
    /// What its path is like.
    pub(crate) path: sim::Config,
    /// Its program has closed it.
    pub(crate) closing: bool,
    /// When it starts again.
    pub(crate) back_at: Option<Instant>,
    /// Messages before the present connection.
    pub(crate) before: Counts,
}

pub(crate) struct World<'m> {
    pub(crate) plan: Plan,
    pub(crate) now: Instant,
    pub(crate) server: Server,
    pub(crate) nodes: Vec<Node<'m>>,
    pub(crate) oracle: Oracle,
    pub(crate) tally: Tally,
    pub(crate) fleet: Fleet<'m>,
    /// Answers that are to be given: who, to which subject, to which request.
    pub(crate) to_answer: Vec<(usize, String, Id)>,
    rng: Rng,
    buf: Vec<u8>,
    steps: u64,
}

impl<'m> World<'m> {
    pub(crate) fn new(plan: &Plan, mut fleet: Fleet<'m>, mut server: Server) -> Self {
        let now = Instant::from_millis(1);
        server.start(now, false);
        let makes: Vec<Make> = (0..plan.clients).map(|index| fleet.draw(plan, index)).collect();
        let node = |(index, make): (usize, Make)| {
            let path = make.path;
            Node {
                make,
                end: None,
                life: 0,
                connection: 0,
                clock: Clock::default(),
                stuck_until: Instant::ZERO,
                addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1 + index as u8), 5_000)),
                up: Link::new(path, plan.seed ^ index as u64),
                former: Vec::new(),
                down: Link::new(path, !plan.seed ^ index as u64),
                path,
                closing: false,
                back_at: None,
                before: Counts::default(),
            }
        };
        let nodes: Vec<_> = makes.into_iter().enumerate().map(node).collect();
        Self {
            plan: plan.clone(),
            now,
            server,
            oracle: Oracle::new(nodes.iter().map(|node| node.make.shows).collect()),
            nodes,
            tally: Tally::default(),
            fleet,
            to_answer: Vec::new(),
            rng: plan.rng(1),
            buf: vec![0; 65_000],
            steps: 0,
        }
    }

    /// Starts a client's process.
    pub(crate) fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.life += 1;
        (node.back_at, node.closing, node.before) = (None, false, Counts::default());
        let Some(mut end) = self.fleet.make(&node.make, index, node.life, node.clock.read(self.now)) else {
            return; // no memory is left for another one
        };
        end.connect(node.clock.read(self.now));
        node.end = Some(end);
        // Another process has another socket.
        let mut addr = node.addr;
        addr.set_port(addr.port().wrapping_add(1).max(1_024));
        self.move_to(index, addr);
        for (pattern, how) in self.nodes[index].make.subscriptions.clone() {
            self.subscribe(index, &pattern, how);
        }
    }

    /// Ends a client's process without a word.
    pub(crate) fn kill(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.end.take().is_some() {
            self.oracle.on_death(index, node.life, self.now);
        }
    }

    /// A client has another address. What is on its way from the former one arrives, what is on its way to it is lost.
    pub(crate) fn move_to(&mut self, index: usize, addr: SocketAddr) {
        let seed = self.rng.u64(..);
        self.oracle.moves.push((index, self.now));
        let node = &mut self.nodes[index];
        let up = std::mem::replace(&mut node.up, Link::new(node.path, !seed));
        node.former.push((node.addr, up));
        node.former.retain(|(_, link)| link.next_arrival().is_some());
        (node.addr, node.down) = (addr, Link::new(node.path, seed));
    }

    pub(crate) fn set_path(&mut self, index: usize, path: sim::Config) {
        let node = &mut self.nodes[index];
        node.path = path;
        node.up.set_config(path);
        node.down.set_config(path);
    }

    pub(crate) fn is_alive(&self, index: usize) -> bool {
        self.nodes[index].end.is_some() && !self.nodes[index].closing
    }

    pub(crate) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| self.is_alive(*index)).collect()
    }

    /// Lets everything happen that happens now.
    pub(crate) fn settle(&mut self) {
        let mut rounds = 0;
        loop {
            let mut moved = self.settle_server();
            for index in 0..self.nodes.len() {
                moved |= self.settle_node(index);
            }
            if !moved {
                return;
            }
            rounds += 1;
            if rounds > ROUNDS {
                broken!("rest", "something goes on and on at {:?}", self.now);
            }
        }
    }

    fn settle_server(&mut self) -> bool {
        let (now, mut moved) = (self.now, false);
        let awake = self.server.is_up() && !self.server.clock.is_asleep(now);
        for node in &mut self.nodes {
            let mut read = 0;
            let current = (&node.addr, &mut node.up);
            for (addr, up) in node.former.iter_mut().map(|(addr, up)| (&*addr, up)).chain([current]) {
                while (awake || !self.server.is_up())
                    && let Some(mut datagram) = up.recv(now)
                {
                    read += 1;
                    if awake && read <= SOCKET {
                        self.server.handle_datagram(now, *addr, &mut datagram);
                        moved = true;
                    }
                }
            }
        }
        if !awake {
            return moved;
        }
        moved |= self.server.carry(now);
        let (traced, at) = (self.plan.traced, now.as_micros() as f64 / 1e6);
        self.server.take_events(|what| {
            if traced {
                println!("{at:>12.6} {what}");
            }
        });
        let local = self.server.clock.read(now);
        for shard in 0..self.server.brokers.len() {
            let mut gather = Gather::default();
            while let Some(transmit) =
                self.server.brokers[shard].poll_transmit_gather(local, &mut self.buf, &mut gather)
            {
                moved = true;
                gathered(&gather, &mut self.buf[..transmit.len]);
                let longest = transmit.segment.unwrap_or(transmit.len);
                let Some(node) = self.nodes.iter_mut().find(|node| node.addr == transmit.to) else { continue };
                if longest > node.make.system_mtu {
                    if !transmit.asks {
                        self.server.on_too_long(now, transmit.to, shard, longest);
                    }
                    continue;
                }
                for datagram in self.buf[..transmit.len].chunks(longest) {
                    node.down.send(now, datagram);
                }
            }
        }
        moved
    }

    fn settle_node(&mut self, index: usize) -> bool {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(end) = &mut node.end else {
            while node.down.recv(now).is_some() {}
            return false;
        };
        if node.clock.is_asleep(now) {
            return false;
        }
        let (local, mut moved, mut read) = (node.clock.read(now), false, 0);
        let mut news = Vec::new();
        let reads = node.stuck_until <= now;
        while let Some(mut datagram) = node.down.recv(now) {
            read += 1;
            if read > SOCKET {
                continue;
            }
            moved = true;
            end.handle_datagram(local, &mut datagram);
            while reads && let Some(one) = end.poll_news() {
                news.push(one);
            }
        }
        while reads && let Some(one) = end.poll_news() {
            moved = true;
            news.push(one);
        }
        if end.takes_moved() {
            let mut addr = node.addr;
            addr.set_port(addr.port().wrapping_add(1).max(1_024));
            self.move_to(index, addr);
        }
        let node = &mut self.nodes[index];
        let Some(end) = &mut node.end else { return moved };
        while let Some(transmit) = end.poll_transmit(local, &mut self.buf) {
            moved = true;
            let longest = transmit.segment.unwrap_or(transmit.len);
            if longest > node.make.system_mtu {
                if !transmit.asks {
                    end.on_too_long(local, longest);
                }
                continue;
            }
            for datagram in self.buf[..transmit.len].chunks(longest) {
                node.up.send(now, datagram);
            }
        }
        if end.queued() > node.make.queue + 1_000_000 {
            broken!("memory", "{} bytes wait in client {index}", end.queued());
        }
        for one in news {
            self.on_news(index, one);
        }
        moved
    }

    fn on_news(&mut self, index: usize, news: News) {
        self.trace(|| format!("client {index} {}: {news:?}", self.nodes[index].life));
        let (now, node) = (self.now, &mut self.nodes[index]);
        let life = node.life;
        match news {
            News::Connected => node.connection += 1,
            News::Disconnected(why, counts) => {
                self.tally.disconnected(why);
                node.before = counts;
                self.oracle.on_loss(index, now);
            }
            News::Subscribed(id) => {
                if let Some(sub) = self.oracle.sub(index, life, id) {
                    sub.acked = true;
                }
            }
            News::SubscribeFailed(id, why) => {
                self.tally.count(&format!("subscription failed: {why}"));
                if let Some(sub) = self.oracle.sub(index, life, id) {
                    sub.alive = false;
                }
            }
            News::Message(subscription, got) => {
                let connection = node.connection;
                let id = self.oracle.on_message(now, (index, life, subscription), connection, &got);
                self.want_answer(index, id, &got);
            }
            News::Reply { request, got, last } => {
                self.oracle.on_reply((index, life, request), &got, last);
                self.tally.count("reply");
            }
            News::RequestFailed(request, why) => {
                self.tally.count(&format!("request failed: {why}"));
                self.oracle.on_request_failed((index, life, request), why);
            }
            News::Confirmed(number, outcome) => {
                self.tally.confirmed(outcome);
                self.oracle.on_confirmed((index, life, number), outcome);
            }
            News::Flushed => self.tally.count("flushed"),
            News::Denied => self.tally.count("denied"),
            News::Closed => {
                node.end = None;
                self.oracle.on_death(index, life, now);
            }
        }
    }

    /// Who gets a request answers it.
    fn want_answer(&mut self, index: usize, request: Id, got: &Got) {
        if let Some(reply) = &got.reply
            && got.subject.starts_with("req.")
        {
            self.to_answer.push((index, reply.clone(), request));
        }
    }

    /// What peers can make the server keep has limits (PROTOCOL.md 6), whatever they do.
    pub(crate) fn check_memory(&mut self) {
        // One message may always wait for each session and each other shard, and one frame of each shard may be begun beyond the
        // limit, with what comes in a turn; what of it is behind something that is missing waits beside it.
        const MESSAGE: u64 = 320_000;
        const TURN: u64 = 128 << 10;
        let now = self.server.clock.read(self.now);
        for broker in &mut self.server.brokers {
            let (stats, config) = (broker.stats(), &self.server.config);
            let queued = config.max_queued_total as u64 + (stats.sessions + self.server.shards as u64) * MESSAGE;
            let received = config.max_received_total as u64 + stats.sessions * EACH + 2 * MESSAGE + TURN;
            if stats.queued > queued || stats.received > received {
                let sessions = broker.view_sessions(now, SessionCursor::default(), 1_000).items;
                let held: Vec<_> = sessions.iter().map(|session| (session.peer, session.received)).collect();
                broken!(
                    "memory",
                    "{} bytes are queued, {} received, of {queued} and {received}: {held:?}",
                    stats.queued,
                    stats.received
                );
            }
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Instant> {
        let server = if self.server.is_up() { self.server.next() } else { None };
        let nodes = self.nodes.iter().flat_map(|node| {
            let former = node.former.iter().filter_map(|(_, up)| up.next_arrival()).min();
            let up = Instant::earlier(node.up.next_arrival(), former).map(|at| match self.server.is_up() {
                true => self.server.clock.no_earlier(at),
                false => at,
            });
            let down = node.down.next_arrival();
            let Some(end) = &node.end else { return [up, down, node.back_at] };
            let timer = end.poll_timeout().map(|at| node.clock.when(at));
            let stuck = (node.stuck_until > self.now).then_some(node.stuck_until);
            [up, down.map(|at| node.clock.no_earlier(at)), Instant::earlier(timer, stuck)]
        });
        nodes.flatten().chain(server).min()
    }

    /// Lets time pass until something happens, `end` at the latest.
    pub(crate) fn step(&mut self, end: Instant) {
        self.steps += 1;
        if self.steps > 3_000_000 {
            broken!("rest", "{} steps until {:?}", self.steps, self.now);
        }
        let next = self.next().unwrap_or(end).max(self.now + Duration::from_micros(1));
        self.now = next.min(end.max(self.now));
        if self.server.is_up() && !self.server.clock.is_asleep(self.now) {
            self.server.handle_timeout(self.now);
        }
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if node.back_at.is_some_and(|at| at <= self.now) && node.end.is_none() {
                self.start(index);
                continue;
            }
            if let Some(end) = &mut node.end
                && !node.clock.is_asleep(self.now)
                && end.poll_timeout().is_some_and(|at| at <= node.clock.read(self.now))
            {
                end.handle_timeout(node.clock.read(self.now));
            }
        }
        self.settle();
    }

    pub(crate) fn run_to(&mut self, end: Instant) {
        self.settle();
        while self.now < end {
            self.step(end);
        }
    }

    /// True if `done` came true within that time.
    pub(crate) fn run_until(&mut self, within: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + within;
        self.settle();
        while !done(self) {
            if self.now >= end {
                return false;
            }
            self.step(end);
        }
        true
    }

    /// Tells what happens, if whoever replays a seed wants that.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.plan.traced {
            println!("{:>12.6} {}", self.now.as_micros() as f64 / 1e6, what());
        }
    }

    /// What a node shows of itself.
    pub(crate) fn shows(&self, index: usize) -> Shows {
        self.nodes[index].make.shows
    }
}
