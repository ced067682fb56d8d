//! Several brokers as one server. What they tell each other is carried as a test likes: late, and in turns of its own.

mod kept;
#[cfg(feature = "will")]
mod presence;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::access::{Access, Group, Permissions, Rules};
use crate::broker::{Broker, Config, LastValues, PatternCursor, Relay, SessionCursor, SlowConsumer, Stats};
use crate::client::{self, Client, Parts, SubscriptionId};
use crate::frame::Properties;
use crate::frame::properties::PropertiesBuf;
use crate::kcp::{self, CongestionControl};
use crate::rng::Rng;
use crate::store::Heap;
use crate::time::{Duration, Instant};

/// No time passes between a client and its broker.
const KCP: kcp::Config =
    kcp::Config { congestion: CongestionControl::Off, send_window: 1024, recv_window: 1024, ..kcp::Config::GAMES };

/// A client, and what it was told.
struct End {
    home: usize,
    client: Client<Heap>,
    /// It takes no datagrams.
    deaf: bool,
    acknowledged: Vec<SubscriptionId>,
    /// Messages of each subscription: publisher and number.
    got: BTreeMap<SubscriptionId, Vec<(u32, u32)>>,
    /// The headers of each message.
    headers: Vec<String>,
    /// How many sessions have its messages.
    confirmed: Vec<u32>,
    /// The same with their subjects, and whether they had been kept.
    values: BTreeMap<SubscriptionId, Vec<(String, u32, u32, bool)>>,
}

struct Server {
    now: Instant,
    brokers: Vec<Broker<SocketAddr>>,
    /// What was told and has not arrived, by from and to.
    told: Vec<Vec<VecDeque<Relay>>>,
    ends: Vec<End>,
}

fn addr(end: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + end as u16))
}

impl Server {
    fn new(brokers: usize, homes: &[usize], config: &Config) -> Self {
        Self::with_values(brokers, homes, config, &LastValues::default())
    }

    fn with_values(brokers: usize, homes: &[usize], config: &Config, values: &LastValues) -> Self {
        let now = Instant::from_millis(1);
        let broker = |own| {
            let broker = Broker::new(Config { kcp: KCP, ..config.clone() }, 1).with_shards(own, brokers);
            broker.with_last_values(values).unwrap()
        };
        let end = |(index, home): (usize, &usize)| {
            let config = client::Config { queue: 1 << 20, kcp: KCP, ..client::Config::default() };
            let mut client = Client::new(config, index as u64, Parts::heap(&config));
            client.connect(now);
            End {
                home: *home,
                client,
                deaf: false,
                acknowledged: Vec::new(),
                got: BTreeMap::new(),
                headers: Vec::new(),
                confirmed: Vec::new(),
                values: BTreeMap::new(),
            }
        };
        let mut server = Self {
            now,
            brokers: (0..brokers).map(broker).collect(),
            told: (0..brokers).map(|_| (0..brokers).map(|_| VecDeque::new()).collect()).collect(),
            ends: homes.iter().enumerate().map(end).collect(),
        };
        server.settle();
        server
    }

    /// Lets everything happen that is due between clients and their brokers.
    fn settle(&mut self) {
        let mut buf = vec![0; 60_000];
        loop {
            let mut idle = true;
            for (index, end) in self.ends.iter_mut().enumerate().filter(|(_, end)| !end.deaf) {
                while let Some(len) = end.client.poll_transmit(self.now, &mut buf) {
                    self.brokers[end.home].handle_datagram(self.now, addr(index), &mut buf[..len]);
                    idle = false;
                }
                while let Some(event) = end.client.poll_event() {
                    match event {
                        client::Event::Subscribed(id) => end.acknowledged.push(id),
                        client::Event::Confirmed { outcome, .. } => end.confirmed.extend(outcome.ok()),
                        client::Event::Message { subscription, message } => {
                            if message.payload().is_empty() {
                                continue; // there is no value any more
                            }
                            let [from, number] =
                                [0, 4].map(|at| u32::from_be_bytes(message.payload()[at..at + 4].try_into().unwrap()));
                            let (subject, kept) = (message.subject().into(), message.properties().kept().is_some());
                            end.values.entry(subscription).or_default().push((subject, from, number, kept));
                            let headers = message.properties().headers().map(|(name, value)| format!("{name}={value}"));
                            end.headers.push(headers.collect());
                            end.got.entry(subscription).or_default().push((from, number));
                        }
                        _ => {}
                    }
                }
            }
            for broker in &mut self.brokers {
                while let Some(transmit) = broker.poll_transmit(self.now, &mut buf) {
                    let end = &mut self.ends[usize::from(transmit.to.port()) - 1_000];
                    for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                        if !end.deaf {
                            end.client.handle_datagram(self.now, datagram);
                        }
                    }
                    idle = false;
                }
                while broker.poll_event().is_some() {}
            }
            if idle {
                break;
            }
        }
        for (from, broker) in self.brokers.iter_mut().enumerate() {
            while let Some((to, relay)) = broker.poll_relay() {
                self.told[from][to].push_back(relay);
            }
        }
    }

    /// Carries the next thing that one broker told another. False if there is none.
    fn carry(&mut self, from: usize, to: usize) -> bool {
        let Some(relay) = self.told[from][to].pop_front() else { return false };
        self.brokers[to].handle_relay(self.now, from, relay);
        self.settle();
        true
    }

    fn carry_all(&mut self) {
        let count = self.brokers.len();
        while (0..count * count).any(|pair| self.carry(pair / count, pair % count)) {}
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        for broker in &mut self.brokers {
            broker.handle_timeout(self.now);
        }
        for end in &mut self.ends {
            end.client.handle_timeout(self.now);
        }
        self.settle();
    }

    fn publish(&mut self, end: usize, subject: &str, number: u32, size: usize) -> bool {
        let mut payload = [(end as u32).to_be_bytes(), number.to_be_bytes()].concat();
        payload.resize(size.max(8), 7);
        let taken = self.ends[end].client.publish(self.now, subject, &payload).is_ok();
        self.settle();
        taken
    }

    fn sum(&self, read: impl Fn(&Stats) -> u64) -> u64 {
        self.brokers.iter().map(|broker| read(&broker.stats())).sum()
    }
}

/// A subscription, as the model sees it.
struct Known {
    end: usize,
    id: SubscriptionId,
    pattern: &'static str,
    left: bool,
    /// What was published before may still be on its way, and come.
    since: u32,
    /// What has to come, because it was acknowledged when that was published; and what may.
    must: Vec<(u32, u32)>,
    may: Vec<(u32, u32)>,
}

fn matches(pattern: &str, subject: &str) -> bool {
    pattern == ">" || pattern == "*" || pattern == subject
}

#[test]
fn permissions_hold_across_shards_and_end_what_they_end_everywhere() {
    let mut server = Server::new(2, &[0, 1], &Config::default());
    let permissions = Permissions { publish: Rules::of(None, &["b"]), subscribe: Rules::of(None, &["secret.>"]) };
    let group = Group { permissions, ..Group::default() };
    let mut access = Access { groups: vec![group], anonymous: Some(0), ..Access::default() };
    let set = |server: &mut Server, access: &Access| {
        for broker in &mut server.brokers {
            broker.set_access(server.now, Some(access)).unwrap();
        }
        server.settle();
        server.carry_all();
    };
    set(&mut server, &access);
    let id = server.ends[0].client.subscribe(server.now, ">").unwrap();
    server.settle();
    server.carry_all();
    for (number, subject) in (0..).zip(["a", "b", "secret.a", "secret"]) {
        server.publish(1, subject, number, 8);
        server.carry_all();
    }
    assert_eq!(server.ends[0].got[&id], [(1, 0), (1, 3)]);
    assert_eq!((server.sum(|stats| stats.messages_denied), server.sum(|stats| stats.messages_withheld)), (1, 1));
    // What has ended here nobody there sends any more.
    access.groups[0].permissions.subscribe = Rules::of(Some(&["c"]), &[]);
    set(&mut server, &access);
    server.publish(1, "a", 9, 8);
    assert_eq!(server.brokers[1].stats().unrouted, 1);
    assert_eq!((server.sum(|stats| stats.subscriptions_ended), server.sum(|stats| stats.subscriptions)), (1, 0));
}

#[test]
fn properties_cross_from_shard_to_shard() {
    let mut server = Server::new(2, &[0, 1, 1], &Config::default());
    for end in 1..3 {
        server.ends[end].client.subscribe(server.now, "a").unwrap();
    }
    server.settle();
    server.carry_all();
    let mut properties = PropertiesBuf::new();
    properties.header("x", "y").unwrap();
    let properties = properties.properties();
    for (size, ttl) in [(8, None), (8, Some(Duration::from_secs(9))), (5_000, None)] {
        let payload = vec![0; size];
        for properties in [properties, Properties::NONE] {
            server.ends[0].client.publish_with(server.now, "a", &payload, properties, ttl).unwrap();
        }
    }
    server.settle();
    server.carry_all();
    for end in &server.ends[1..] {
        assert_eq!(end.got.values().next().map(Vec::len), Some(6));
        assert_eq!(end.headers, ["x=y", "", "x=y", "", "x=y", ""]);
    }
}

#[test]
fn what_is_published_anywhere_after_a_subscription_was_acknowledged_comes_once_and_in_order() {
    for seed in 0..30 {
        let mut rng = Rng::with_seed(seed);
        let mut server = Server::new(3, &[0, 1, 2, 0, 1, 2], &Config::default());
        server.carry_all();
        let mut known: Vec<Known> = Vec::new();
        for number in 0..800 {
            let end = rng.usize(..6);
            match rng.u8(..8) {
                0 => {
                    let pattern = ["a", "b", "c", ">", "*"][rng.usize(..5)];
                    let id = server.ends[end].client.subscribe(server.now, pattern).unwrap();
                    known.push(Known {
                        end,
                        id,
                        pattern,
                        left: false,
                        since: number,
                        must: Vec::new(),
                        may: Vec::new(),
                    });
                    server.settle();
                }
                1 => {
                    let acknowledged =
                        |known: &&mut Known| !known.left && server.ends[known.end].acknowledged.contains(&known.id);
                    if known.len() > 6
                        && let Some(gone) = known.iter_mut().find(acknowledged)
                    {
                        gone.left = true;
                        server.ends[gone.end].client.unsubscribe(server.now, gone.id);
                        server.settle();
                    }
                }
                2..=5 => {
                    let subject = ["a", "b", "c"][rng.usize(..3)];
                    for known in known.iter_mut().filter(|known| matches(known.pattern, subject)) {
                        let acknowledged = server.ends[known.end].acknowledged.contains(&known.id);
                        let list = if acknowledged && !known.left { &mut known.must } else { &mut known.may };
                        list.push((end as u32, number));
                    }
                    let size = if rng.u8(..5) == 0 { 6_000 } else { 20 };
                    assert!(server.publish(end, subject, number, size));
                }
                _ => {
                    for _ in 0..rng.u8(..6) {
                        server.carry(rng.usize(..3), rng.usize(..3));
                    }
                }
            }
        }
        server.carry_all();
        server.pass(Duration::from_millis(20));
        server.carry_all();
        for known in &known {
            let got = server.ends[known.end].got.remove(&known.id).unwrap_or_default();
            for publisher in 0..6 {
                let of = |list: &[(u32, u32)]| -> Vec<u32> {
                    list.iter().filter(|(from, _)| *from == publisher).map(|(_, number)| *number).collect()
                };
                assert!(of(&got).is_sorted_by(|a, b| a < b), "once and in order, seed {seed}");
            }
            // Who unsubscribes may miss what was under way.
            assert!(
                known.left || known.must.iter().all(|message| got.contains(message)),
                "nothing is lost, seed {seed}"
            );
            let expected = |message: &(u32, u32)| known.must.contains(message) || known.may.contains(message);
            assert!(
                got.iter().all(|message| message.1 < known.since || expected(message)),
                "nothing else, seed {seed}"
            );
        }
        assert!(server.sum(|stats| stats.relayed) > 100);
        assert_eq!(server.sum(|stats| stats.queued + stats.dropped_relay + stats.dropped_slow), 0);
    }
}

#[test]
fn a_message_crosses_once_for_all_sessions_of_a_sibling() {
    let mut server = Server::new(2, &[0, 1, 1, 1], &Config::default());
    for end in 1..4 {
        server.ends[end].client.subscribe(server.now, "a").unwrap();
        server.ends[end].client.subscribe(server.now, ">").unwrap();
    }
    server.settle();
    assert!(server.ends.iter().all(|end| end.acknowledged.is_empty()), "the sibling does not know yet");
    server.carry_all();
    assert!(server.ends[1..].iter().all(|end| end.acknowledged.len() == 2));
    server.publish(0, "a", 0, 100);
    server.carry_all();
    assert_eq!((server.brokers[0].stats().relayed, server.brokers[1].stats().messages_out), (1, 3));
    // With the last of them the interest goes.
    for end in 1..4 {
        server.ends[end].client.close(server.now);
    }
    server.settle();
    server.carry_all();
    server.publish(0, "a", 1, 100);
    assert_eq!((server.brokers[0].stats().relayed, server.brokers[0].stats().unrouted), (1, 1));
}

#[test]
fn what_a_sibling_has_for_its_sessions_comes_before_they_are_closed() {
    let mut server = Server::new(2, &[0, 1], &Config::default());
    server.ends[1].client.subscribe(server.now, "a").unwrap();
    server.settle();
    server.carry_all();
    for number in 0..10 {
        server.publish(0, "a", number, 100);
    }
    let now = server.now;
    for broker in &mut server.brokers {
        broker.drain(now);
    }
    server.settle();
    assert_eq!(server.brokers[1].sessions(), 1, "it waits for the other's last messages");
    server.carry_all();
    assert_eq!(server.ends[1].got.values().map(Vec::len).sum::<usize>(), 10);
    server.pass(Duration::from_millis(50));
    assert_eq!(server.brokers.iter().map(Broker::sessions).sum::<usize>(), 0);

    // A sibling that does not answer is waited for no longer than everything else.
    let mut server = Server::new(2, &[0], &Config::default());
    server.brokers[0].drain(server.now);
    server.settle();
    assert_eq!(server.brokers[0].sessions(), 1);
    server.pass(Config::default().linger);
    server.pass(Duration::from_millis(50));
    assert_eq!(server.brokers[0].sessions(), 0);
}

#[test]
fn publishers_are_held_back_while_a_subscriber_of_a_sibling_is_behind_and_nothing_is_dropped() {
    let config = Config { high_water: 100_000, max_queued: 10 << 20, ..Config::default() };
    let mut server = Server::new(2, &[0, 1, 1], &config);
    for end in [1, 2] {
        server.ends[end].client.subscribe(server.now, "flood").unwrap();
    }
    server.settle();
    server.carry_all();
    server.ends[1].deaf = true;
    let mut sent = 0;
    while server.publish(0, "flood", sent, 1_000) {
        sent += 1;
        server.carry_all();
        assert!(sent < 10_000, "the publisher feels it");
    }
    assert!(server.sum(|stats| stats.queued) < 4 << 20);
    server.ends[1].deaf = false;
    let before = sent;
    for _ in 0..300 {
        server.pass(Duration::from_millis(20));
        server.carry_all();
        while sent < before + 3_000 && server.publish(0, "flood", sent, 1_000) {
            sent += 1;
            server.carry_all();
        }
    }
    assert_eq!(sent, before + 3_000, "it goes on");
    assert_eq!(server.sum(|stats| stats.dropped_slow + stats.dropped_relay + stats.queued), 0);
    for end in [1, 2] {
        assert_eq!(server.ends[end].got.values().map(Vec::len).sum::<usize>(), sent as usize);
    }
}

#[test]
fn a_sibling_that_takes_nothing_costs_bounded_memory_and_what_it_misses_is_counted() {
    let config = Config { high_water: 50_000, max_queued: 200_000, ..Config::default() };
    let mut server = Server::new(2, &[0, 1, 0], &config);
    for end in [1, 2] {
        server.ends[end].client.subscribe(server.now, "flood").unwrap();
    }
    server.settle();
    server.carry_all();
    // From here on nothing is carried, as if the other thread had stopped.
    let mut sent = 0;
    while sent < 2_000 {
        if server.publish(0, "flood", sent, 1_000) {
            sent += 1;
        } else {
            server.pass(Duration::from_millis(100));
        }
    }
    for _ in 0..20 {
        server.pass(Duration::from_millis(100));
    }
    let stats = server.brokers[0].stats();
    assert!(stats.throttled > 0 && stats.dropped_relay > 0);
    assert!(stats.relayed <= 201, "{} of 1 kB wait", stats.relayed);
    assert_eq!(stats.relayed + stats.dropped_relay, u64::from(sent));
    assert_eq!(server.ends[2].got.values().map(Vec::len).sum::<usize>(), sent as usize, "others get everything");
}

/// Each shows its own sessions and patterns, by ids that tell them apart.
#[test]
fn what_another_shard_wants_is_not_shown_as_a_subscriber() {
    let mut server = Server::new(3, &[0, 0, 2], &Config::default());
    let now = server.now;
    for (end, pattern) in [(0, "a"), (1, "a"), (2, "a"), (2, "b.>")] {
        server.ends[end].client.subscribe(now, pattern).unwrap();
    }
    server.settle();
    server.carry_all();
    let mut shown = Vec::new();
    for (own, broker) in server.brokers.iter_mut().enumerate() {
        assert!(broker.patterns() >= 2, "it knows what others want");
        let (mut from, mut patterns) = (Some(PatternCursor::default()), BTreeMap::new());
        while let Some(at) = from {
            let page = broker.view_patterns(at, 1);
            patterns.extend(page.items.into_iter().map(|view| (view.pattern.into_string(), view.subscribers)));
            from = page.next;
        }
        let page = broker.view_sessions(now, SessionCursor::default(), 100);
        assert!(page.items.iter().all(|view| view.id.shard() == own) && page.next.is_none());
        shown.push((page.items.len(), patterns.into_iter().collect::<Vec<_>>()));
    }
    let list = |all: &[(&str, usize)]| all.iter().map(|(text, count)| ((*text).into(), *count)).collect::<Vec<_>>();
    assert_eq!(shown, [(2, list(&[("a", 2)])), (0, list(&[])), (1, list(&[("a", 1), ("b.>", 1)]))]);
}

/// Members of a group, of which each client has at most one.
struct Crew {
    server: Server,
    members: Vec<(usize, SubscriptionId)>,
}

impl Crew {
    fn join(&mut self, end: usize) {
        let Self { server, members } = self;
        let id = server.ends[end].client.subscribe_queue(server.now, "jobs.*", "crew").unwrap();
        members.push((end, id));
        server.settle();
    }

    fn got(&self, (end, id): (usize, SubscriptionId)) -> &[(u32, u32)] {
        self.server.ends[end].got.get(&id).map_or(&[], Vec::as_slice)
    }
}

#[test]
fn the_members_of_a_group_get_as_many_wherever_they_are() {
    // Two, three and five members; publishers at all.
    let homes = [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 0, 1, 2];
    let mut crew = Crew { server: Server::new(3, &homes, &Config::default()), members: Vec::new() };
    (0..10).for_each(|end| crew.join(end));
    crew.server.carry_all();
    for number in 0..1_000 {
        assert!(crew.server.publish(10 + number as usize % 3, "jobs.a", number, 20));
        if number % 50 == 0 {
            crew.server.carry_all();
        }
    }
    crew.server.carry_all();
    let counts: Vec<_> = crew.members.iter().map(|member| crew.got(*member).len()).collect();
    assert!(counts.iter().all(|count| (98..=102).contains(count)), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), 1_000);
    let (mut shown, mut messages) = (Vec::new(), 0);
    for broker in &crew.server.brokers {
        let mut from = Some(PatternCursor::default());
        while let Some(at) = from {
            let page = broker.view_patterns(at, 100);
            shown.extend(page.items.iter().map(|view| (view.pattern.to_string(), view.subscribers)));
            messages += page.items.iter().map(|view| view.messages).sum::<u32>();
            from = page.next;
        }
    }
    assert_eq!(shown, [2, 3, 5].map(|here| ("jobs.*".into(), here)));
    assert_eq!(messages, 1_000, "each is counted once, where it was published");
    // Those of the third are gone: the others share.
    for end in 5..10 {
        crew.server.ends[end].client.close(crew.server.now);
    }
    crew.server.settle();
    crew.server.carry_all();
    for number in 0..100 {
        assert!(crew.server.publish(12, "jobs.b", number, 20));
    }
    crew.server.carry_all();
    let more = crew.members[..5].iter().zip(counts).map(|(member, before)| crew.got(*member).len() - before);
    assert!(more.clone().all(|more| more == 20), "{:?}", more.collect::<Vec<_>>());
}

/// What is on the way to another thread does not wait for its members: where much comes, much is.
#[test]
fn the_members_of_a_group_get_as_many_although_another_thread_hears_late() {
    let homes = [0, 0, 0, 0, 1, 1, 1, 1, 0];
    let mut crew = Crew { server: Server::new(2, &homes, &Config::default()), members: Vec::new() };
    (0..8).for_each(|end| crew.join(end));
    crew.server.carry_all();
    let mut number = 0;
    for _ in 0..100 {
        for _ in 0..2 {
            crew.server.pass(Duration::from_millis(1));
            for _ in 0..1_000 {
                let mut payload = [8_u32.to_be_bytes(), u32::to_be_bytes(number)].concat();
                payload.resize(128, 7);
                let Server { now, ends, .. } = &mut crew.server;
                number += u32::from(ends[8].client.publish(*now, "jobs.a", &payload).is_ok());
            }
            crew.server.settle();
        }
        // Every 2 ms it comes to it, and hears all that it has been told before it sends any of it.
        let Server { now, brokers, told, .. } = &mut crew.server;
        told[0][1].drain(..).for_each(|relay| brokers[1].handle_relay(*now, 0, relay));
        crew.server.settle();
        crew.server.carry_all();
    }
    let counts: Vec<_> = crew.members.iter().map(|member| crew.got(*member).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), number as usize);
    let (fewest, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - fewest <= most / 50, "{counts:?}");
}

/// Each shard knows of the others only that they have members.
#[test]
fn of_a_group_that_member_is_found_who_may_have_a_message_and_it_does_not_go_around_for_ever() {
    let homes = [0, 1, 2, 3, 0, 1, 2, 3];
    let mut crew = Crew { server: Server::new(4, &homes, &Config::default()), members: Vec::new() };
    (0..4).for_each(|end| crew.join(end));
    crew.server.carry_all();
    let permissions = Permissions { subscribe: Rules::of(None, &["jobs.secret"]), ..Permissions::default() };
    let group = Group { permissions, ..Group::default() };
    let access = Access { groups: vec![group], anonymous: Some(0), ..Access::default() };
    for may in [Some(0), Some(1), Some(2), Some(3), None] {
        for (own, broker) in crew.server.brokers.iter_mut().enumerate() {
            broker.set_access(crew.server.now, Some(&access).filter(|_| may != Some(own))).unwrap();
        }
        crew.server.settle();
        let count = |crew: &Crew| [0, 1, 2, 3].map(|member| crew.got(crew.members[member]).len());
        let (before, lost) = (count(&crew), crew.server.sum(|stats| stats.unrouted));
        for number in 0..40 {
            assert!(crew.server.publish(4 + number as usize % 4, "jobs.secret", number, 20));
        }
        (4..8).for_each(|end| crew.server.confirm(end, "jobs.secret", None));
        crew.server.carry_all();
        let now = count(&crew);
        for member in 0..4 {
            assert_eq!(now[member] - before[member], if may == Some(member) { 44 } else { 0 }, "{may:?}");
        }
        assert_eq!(crew.server.sum(|stats| stats.unrouted) - lost, if may.is_none() { 44 } else { 0 });
        for end in &mut crew.server.ends[4..8] {
            assert_eq!(core::mem::take(&mut end.confirmed), [u32::from(may.is_some())], "{may:?}");
        }
    }
}

#[test]
fn each_message_comes_to_one_member_while_they_come_and_go() {
    let mut sum = (0, 0);
    for seed in 0..40 {
        let mut rng = Rng::with_seed(seed);
        let homes = [0, 1, 2, 0, 1, 2, 0, 1, 2];
        let mut crew = Crew { server: Server::new(3, &homes, &Config::default()), members: Vec::new() };
        let mut active: Vec<Option<SubscriptionId>> = vec![None; 6];
        let mut sent = 0;
        for _ in 0..1_500 {
            let end = rng.usize(..6);
            match (rng.u8(..8), active[end]) {
                (0, None) => {
                    crew.join(end);
                    active[end] = crew.members.last().map(|(_, id)| *id);
                }
                // Nothing waits for it here, so nothing that it was given is lost.
                (1, Some(id)) => {
                    crew.server.ends[end].client.unsubscribe(crew.server.now, id);
                    active[end] = None;
                    crew.server.settle();
                }
                (2..=5, _) => {
                    assert!(crew.server.publish(6 + rng.usize(..3), "jobs.a", sent, 20));
                    sent += 1;
                }
                _ => {
                    for _ in 0..rng.u8(..6) {
                        crew.server.carry(rng.usize(..3), rng.usize(..3));
                    }
                }
            }
        }
        crew.server.carry_all();
        let mut got: Vec<u32> =
            crew.members.iter().flat_map(|m| crew.got(*m).iter().map(|(_, number)| *number)).collect();
        got.sort_unstable();
        assert!(got.is_sorted_by(|a, b| a < b), "none twice, seed {seed}");
        let unrouted = crew.server.sum(|stats| stats.unrouted);
        assert_eq!(got.len() as u64 + unrouted, u64::from(sent), "all come or are counted, seed {seed}");
        assert!(unrouted < u64::from(sent) / 3, "{unrouted} of {sent}, seed {seed}");
        sum = (sum.0 + unrouted, sum.1 + u64::from(sent));
    }
    // At times nobody is there, or it is not known yet who is.
    assert!(sum.0 < sum.1 / 10, "{sum:?}");
}

#[test]
fn subscribers_and_waits_of_a_message_add_up_over_shards() {
    let mut server = Server::new(2, &[0, 0, 1, 1], &Config::default());
    for end in [1, 2, 3] {
        server.ends[end].client.subscribe(server.now, "a").unwrap();
    }
    server.settle();
    server.carry_all();
    assert!(server.publish(0, "a", 1, 8) && server.publish(2, "nobody", 1, 8));
    server.settle();
    server.carry_all();
    let mut sum = Stats::default();
    server.brokers.iter().for_each(|broker| sum.add(&broker.stats()));
    // One on the shard of its publisher, two on the other, and the message that nobody wanted.
    assert_eq!((sum.fan_out.count(), sum.fan_out.sum()), (3, 3));
    assert_eq!(sum.queueing.count(), 3);
}

impl Server {
    /// Publishes a message, and asks who has it.
    fn confirm(&mut self, end: usize, subject: &str, ttl: Option<Duration>) {
        let confirmed = client::Confirmed { ttl, ..client::Confirmed::default() };
        self.ends[end].client.publish_confirmed(self.now, subject, &[0; 8], &confirmed).unwrap();
        self.settle();
    }
}

#[test]
fn a_publisher_is_told_of_the_sessions_of_all_shards() {
    let mut server = Server::new(3, &[0, 0, 1, 1, 2], &Config::default());
    for end in 0..5 {
        server.ends[end].client.subscribe(server.now, "all").unwrap();
        if end > 1 {
            server.ends[end].client.subscribe_queue(server.now, "all", "workers").unwrap();
            server.ends[end].client.subscribe(server.now, "far").unwrap();
        }
    }
    server.settle();
    server.carry_all();
    server.confirm(0, "all", None);
    server.confirm(0, "far", Some(Duration::from_secs(60)));
    server.confirm(0, "nobody", None);
    assert_eq!(server.ends[0].confirmed, [0], "that there is nobody is known at once");
    server.carry_all();
    assert_eq!(server.ends[0].confirmed, [0, 6, 3]);
    assert_eq!(server.sum(|stats| stats.confirmed), 3);
}

/// What shards tell each other of a message is not for subscribers.
#[test]
fn a_confirmed_message_with_headers_is_the_same_on_all_shards() {
    let mut properties = PropertiesBuf::new();
    properties.header("unit", "K").unwrap();
    for (size, ttl) in [(8, None), (2_000, None), (8, Some(60)), (2_000, Some(60))] {
        let mut server = Server::new(2, &[0, 0, 1], &Config::default());
        for end in [1, 2] {
            server.ends[end].client.subscribe(server.now, "a").unwrap();
        }
        server.settle();
        server.carry_all();
        let mut confirmed = client::Confirmed::default();
        (confirmed.properties, confirmed.ttl) = (properties.properties(), ttl.map(Duration::from_secs));
        server.ends[0].client.publish_confirmed(server.now, "a", &vec![0; size], &confirmed).unwrap();
        server.settle();
        server.carry_all();
        assert_eq!(server.ends[0].confirmed, [2]);
        let [here, there] = [1, 2].map(|end| &server.ends[end]);
        assert_eq!((&here.headers[..], &there.headers[..]), (&["unit=K".into()][..], &["unit=K".into()][..]));
        let [here, there] = [here, there].map(|end| end.client.stats());
        assert_eq!((here.bytes_received, there.malformed), (there.bytes_received, 0), "{size} bytes, {ttl:?}");
    }
}

#[test]
fn a_publisher_is_told_of_messages_that_are_dropped_on_the_way_to_another_shard() {
    let mut server = Server::new(2, &[0, 1, 0], &Config { max_queued: 2_000, ..Config::default() });
    server.ends[1].client.subscribe(server.now, "far").unwrap();
    server.settle();
    server.carry_all();
    // Its time is over before the other shard has it.
    server.confirm(0, "far", Some(Duration::from_millis(5)));
    server.pass(Duration::from_millis(10));
    server.carry_all();
    assert_eq!(server.ends[0].confirmed, [0]);
    // The other shard takes nothing for a while, and so much is not kept for it.
    for _ in 0..200 {
        server.confirm(0, "far", None);
    }
    server.carry_all();
    let dropped = server.sum(|stats| stats.dropped_relay);
    let got: u32 = server.ends[0].confirmed.iter().sum();
    assert!(dropped > 0);
    assert_eq!((server.ends[0].confirmed.len(), u64::from(got)), (201, 200 - dropped));
    // Nobody waits for the word any more.
    server.confirm(0, "far", None);
    server.ends[0].client.close(server.now);
    server.settle();
    server.carry_all();
    assert_eq!(server.sum(|stats| stats.sessions), 2);
}
