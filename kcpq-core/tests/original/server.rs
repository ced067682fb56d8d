//! Our client and an original server, which forgets its sessions when it is started again and says nothing of it: what
//! comes from an address that it does not know makes a new session, whatever the number of the segment.

use std::collections::BTreeMap;

use kcpq_core::client::{Client, Config, Event, Parts};
use kcpq_core::datagram::{self, Content};
use kcpq_core::frame::{Frame, command};
use kcpq_core::kcp::Header;
use kcpq_core::sim::{self, Link};
use kcpq_core::store::Heap;
use kcpq_core::time::{Duration, Instant};

use crate::ms;
use crate::peer::Ticking;

/// One client and its server.
struct World {
    now: Instant,
    client: Client<Heap>,
    up: Link,
    down: Link,
    /// Sessions by conversation. The client has a socket of its own for each.
    sessions: BTreeMap<u32, Ticking>,
    /// The conversation that subscribed last.
    subscriber: Option<u32>,
    events: Vec<(String, Instant)>,
    received: u64,
}

impl World {
    fn new(config: Config, link: sim::Config) -> Self {
        let mut world = Self {
            now: Instant::from_millis(1),
            client: Client::new(config, 5, Parts::heap(&config)),
            up: Link::new(link, 1),
            down: Link::new(link, 2),
            sessions: BTreeMap::new(),
            subscriber: None,
            events: Vec::new(),
            received: 0,
        };
        world.client.connect(world.now);
        world.client.subscribe(world.now, "a.*").unwrap();
        world.settle();
        world.run_until("subscribed", |world| world.saw("Subscribed") == 1);
        world
    }

    fn saw(&self, text: &str) -> usize {
        self.events.iter().filter(|(event, _)| event.starts_with(text)).count()
    }

    fn settle(&mut self) {
        let now = self.now;
        let mut buf = vec![0; 2_000];
        loop {
            let mut idle = true;
            while let Some(datagram) = self.up.recv(now) {
                idle = false;
                let Ok(Content::Fec(segments) | Content::Plain(segments)) = datagram::parse(&datagram) else {
                    continue;
                };
                let Some((conv, _)) = Header::peek(segments) else { continue };
                let session = self.sessions.entry(conv).or_insert_with(|| Ticking::new(conv, ms(20), ms(1), now));
                session.handle_datagram(now, segments);
                for (command, subject, payload) in session.frames() {
                    let answer = match command {
                        command::SUB => {
                            self.subscriber = Some(conv);
                            (command::OK, [b"subscribed to ", &subject[..]].concat(), Vec::new())
                        }
                        command::PUB if self.subscriber == Some(conv) => (command::MSG, subject, payload),
                        command::PUB => continue,
                        command::PING => (command::PONG, Vec::new(), Vec::new()),
                        other => {
                            let text = format!("handle error: unknown command: {other}");
                            (command::ERR, text.into_bytes(), Vec::new())
                        }
                    };
                    session.write(&Frame { command: answer.0, subject: &answer.1, payload: &answer.2 });
                    session.next = now;
                }
            }
            for session in self.sessions.values_mut() {
                if session.ticks(now) {
                    while let Some(len) = session.kcp.poll_transmit(now, &mut buf) {
                        self.down.send(now, &buf[..len]);
                        idle = false;
                    }
                }
            }
            while let Some(mut datagram) = self.down.recv(now) {
                self.client.handle_datagram(now, &mut datagram);
                idle = false;
            }
            while let Some(event) = self.client.poll_event() {
                match event {
                    Event::Message { .. } => self.received += 1,
                    event => self.events.push((format!("{event:?}"), now)),
                }
                idle = false;
            }
            while let Some(len) = self.client.poll_transmit(now, &mut buf) {
                self.up.send(now, &buf[..len]);
                idle = false;
            }
            if idle {
                return;
            }
        }
    }

    fn step(&mut self, limit: Instant) {
        let timeout = self.client.poll_timeout().map(|deadline| deadline.at);
        let ticks = self.sessions.values().map(|session| session.next);
        let next = [timeout, self.up.next_arrival(), self.down.next_arrival(), Some(limit)];
        let next = next.into_iter().flatten().chain(ticks).min().unwrap();
        self.now = next.max(self.now + Duration::from_micros(1));
        self.client.handle_timeout(self.now);
        self.settle();
    }

    fn run_to(&mut self, end: Instant) {
        while self.now < end {
            self.step(end);
        }
    }

    fn run_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let limit = self.now + Duration::from_secs(300);
        while !done(self) {
            assert!(self.now < limit, "not {what} within five minutes: {:?}", self.events);
            self.step(limit);
        }
    }

    /// Publishes `count` messages, one each `period`.
    fn publish(&mut self, count: u64, period: Duration) {
        for _ in 0..count {
            let _ = self.client.publish(self.now, "a.b", b"hello");
            self.settle();
            self.run_to(self.now + period);
        }
    }

    /// The server is started again; returns how long it takes until the client has noticed, and is back.
    fn restart(&mut self) -> (Duration, String) {
        let at = self.now;
        self.sessions.clear();
        self.subscriber = None;
        self.events.clear();
        self.run_until("back", |world| world.saw("Subscribed") == 1);
        let lost = self.events.iter().find(|(event, _)| event.starts_with("Disconnected")).unwrap();
        (lost.1.since(at), lost.0.clone())
    }
}

fn clean() -> sim::Config {
    sim::Config::clean(ms(10))
}

#[test]
fn a_restart_is_noticed_by_the_next_heartbeat_of_a_client_that_only_listens() {
    for sent in [0, 50, 1_100] {
        let mut world = World::new(Config::default(), clean());
        world.publish(sent, ms(100));
        assert_eq!(world.received, sent);
        world.run_to(world.now + ms(2_000));
        let (noticed, why) = world.restart();
        assert!(noticed < Duration::from_secs(20), "after {noticed:?}: {why}");
        // While the numbers of its segments fall into the new session's window, the acknowledgement alone tells.
        let expected = if sent < 1_000 { "Forgotten" } else { "Unanswered" };
        assert!(why.contains(expected), "{why}");
        world.publish(3, ms(10));
        world.run_to(world.now + ms(500));
        assert_eq!(world.received, sent + 3);
    }
}

#[test]
fn a_restart_is_noticed_at_once_by_a_client_that_publishes() {
    let mut world = World::new(Config::default(), clean());
    world.publish(20, ms(50));
    let at = world.now;
    world.sessions.clear();
    world.events.clear();
    let _ = world.client.publish(world.now, "a.b", b"into the dark");
    world.settle();
    world.run_until("lost", |world| world.saw("Disconnected") == 1);
    assert!(world.now.since(at) < ms(200), "{:?}", world.events);
}

#[test]
fn a_bad_link_is_no_restart() {
    let link = sim::Config { loss: 0.2, jitter: ms(60), duplicate: 0.05, ..sim::Config::clean(ms(60)) };
    let mut world = World::new(Config::default(), link);
    world.events.clear();
    world.publish(4_000, ms(30));
    world.run_to(world.now + Duration::from_secs(10));
    assert_eq!(world.saw("Disconnected"), 0, "{:?}", world.events);
    assert_eq!(world.received, 4_000);
}

/// An outage is no reason to give up a session before the time that a PING has.
#[test]
fn a_short_outage_is_no_restart() {
    let mut world = World::new(Config::default(), clean());
    world.publish(10, ms(50));
    world.events.clear();
    for link in [&mut world.up, &mut world.down] {
        link.set_down(true);
    }
    world.publish(30, ms(100));
    for link in [&mut world.up, &mut world.down] {
        link.set_down(false);
    }
    world.run_to(world.now + Duration::from_secs(40));
    assert_eq!(world.saw("Disconnected"), 0, "{:?}", world.events);
    assert_eq!(world.received, 40);
}
