//! Servers on a backbone that is made of a few lines: it knows what NATS promises, and nothing else.

mod crossing;
mod groups;
mod leaf;
mod lost;
mod model;
mod replays;
mod store;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::SocketAddr;

mod stored;
mod values;

use self::store::Store;
use self::stored::{Stream, Word};
use super::presence::{PATIENCE, PING_EVERY};
use super::*;
use crate::broker::{Broker, Config as BrokerConfig, SlowConsumer};
use crate::client::{self, Client, Event, Parts, SubscriptionId};
use crate::frame::properties::PropertiesBuf;
use crate::kcp::{self, CongestionControl};
use crate::lane::Lane;
use crate::store::Heap;
use crate::time::Duration;

const KCP: kcp::Config =
    kcp::Config { congestion: CongestionControl::Off, send_window: 1024, recv_window: 1024, ..kcp::Config::GAMES };

/// A subscription at the backbone: whose, on which connection, under which number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subscription {
    server: usize,
    on: Channel,
    sid: u64,
    subject: String,
    group: Option<String>,
}

type Seen = (String, Option<String>, Vec<u8>, Vec<(String, String)>);

/// What NATS does: each plain subscription gets a message, and one of each queue group, but none on the connection of its
/// publisher; who asks and has nobody is told so. A leaf node gets each message once, with the groups that it is to see to, and is
/// told what others want.
#[derive(Default)]
struct Backbone {
    subscriptions: Vec<Subscription>,
    /// For each server what it is sent, in order.
    sent: Vec<VecDeque<Sent>>,
    /// For each server that is a leaf node, while it is there, what it was told that others want.
    leafs: BTreeMap<usize, BTreeSet<(String, Option<String>)>>,
    turn: usize,
    is_away: bool,
    /// What others would see: subject, reply, payload, headers.
    seen: Vec<Seen>,
    /// What stores messages.
    streams: Vec<Stream>,
    store: Store,
}

#[derive(Debug)]
enum Sent {
    Message {
        on: Channel,
        sid: u64,
        subject: String,
        reply: Option<String>,
        headers: Vec<(String, String)>,
        status: Option<u16>,
        payload: Vec<u8>,
    },
    Routed {
        subject: String,
        reply: Option<String>,
        groups: Vec<String>,
        headers: Vec<(String, String)>,
        payload: Vec<u8>,
    },
    Interest {
        subject: String,
        group: Option<String>,
        wanted: bool,
    },
    Pong(Channel),
    Receipt {
        subject: String,
        word: Word,
    },
}

fn matches(pattern: &str, subject: &str) -> bool {
    subject::matches(pattern, subject.as_bytes()) || pattern == ">"
}

impl Backbone {
    fn publish(
        &mut self,
        from: Option<usize>,
        (subject, reply): (&str, Option<&str>),
        named: Option<&str>,
        headers: &[(String, String)],
        payload: &[u8],
    ) {
        self.seen.push((subject.into(), reply.map(Into::into), payload.to_vec(), headers.to_vec()));
        let is_own = |other: &Subscription| other.on == Channel::Main && Some(other.server) == from;
        let found = self.subscriptions.iter().filter(|other| matches(&other.subject, subject) && !is_own(other));
        let found: Vec<Subscription> = found.cloned().collect();
        let mut chosen: Vec<Subscription> = found.iter().filter(|other| other.group.is_none()).cloned().collect();
        let mut groups: Vec<_> = found.iter().filter_map(|other| other.group.clone()).collect();
        groups.sort();
        groups.dedup();
        // A leaf node names those that it does not see to.
        groups.retain(|group| named.is_none_or(|named| named.split(' ').any(|name| name == group)));
        for group in groups {
            let members: Vec<_> = found.iter().filter(|other| other.group.as_ref() == Some(&group)).collect();
            self.turn += 1;
            chosen.push(members[self.turn % members.len()].clone());
        }
        let mut routed: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for Subscription { server, group, .. } in chosen.iter().filter(|one| self.leafs.contains_key(&one.server)) {
            routed.entry(*server).or_default().extend(group.clone());
        }
        for (server, groups) in routed {
            self.sent[server].push_back(Sent::Routed {
                subject: subject.into(),
                reply: reply.map(Into::into),
                groups,
                headers: headers.to_vec(),
                payload: payload.to_vec(),
            });
        }
        for Subscription { server, on, sid, .. } in chosen.iter().filter(|one| !self.leafs.contains_key(&one.server)) {
            self.sent[*server].push_back(Sent::Message {
                on: *on,
                sid: *sid,
                subject: subject.into(),
                reply: reply.map(Into::into),
                headers: headers.to_vec(),
                status: None,
                payload: payload.to_vec(),
            });
        }
        let words: Vec<_> =
            self.streams.iter_mut().filter_map(|stream| stream.take(subject, headers, payload)).collect();
        let is_stored = !words.is_empty();
        for (word, from, reply) in words.into_iter().flatten().filter_map(|word| Some((word, from?, reply?))) {
            self.sent[from].push_back(Sent::Receipt { subject: reply.into(), word });
        }
        if let (true, Some(reply), Some(from)) = (chosen.is_empty() && !is_stored, reply, from)
            && !self.leafs.contains_key(&from)
            && let Some(own) = self.subscriptions.iter().find(|own| {
                own.server == from && own.on == Channel::Main && own.group.is_none() && matches(&own.subject, reply)
            })
        {
            let sent = Sent::Message {
                on: own.on,
                sid: own.sid,
                subject: reply.into(),
                reply: None,
                headers: vec![],
                status: Some(503),
                payload: vec![],
            };
            self.sent[from].push_back(sent);
        }
    }

    /// Leaf nodes are told what others want that they have not been told, and what these do not want any more.
    fn spread(&mut self) {
        let Self { subscriptions, sent, leafs, streams, .. } = self;
        for (leaf, told) in leafs {
            let others = subscriptions.iter().filter(|one| one.server != *leaf);
            let mut wanted: BTreeSet<_> = others.map(|one| (one.subject.clone(), one.group.clone())).collect();
            wanted.extend(streams.iter().map(|stream| (stream.pattern().to_string(), None)));
            for ((subject, group), wanted) in
                wanted.difference(told).map(|new| (new, true)).chain(told.difference(&wanted).map(|old| (old, false)))
            {
                let (subject, group) = (subject.clone(), group.clone());
                sent[*leaf].push_back(Sent::Interest { subject, group, wanted });
            }
            *told = wanted;
        }
    }
}

/// A server of kcpq: brokers, and their gateway.
struct Server {
    brokers: Vec<Broker<SocketAddr>>,
    gateway: Gateway,
}

/// A client, and what it was told.
struct End {
    home: (usize, usize),
    client: Client<Heap>,
    got: Vec<(SubscriptionId, String, String)>,
    /// Headers of the last message, and where it wants answers.
    last: (Vec<(String, String)>, Option<String>),
    acknowledged: Vec<SubscriptionId>,
    answers: Vec<String>,
    confirmed: Vec<String>,
    stored: Vec<String>,
    /// What the last message says of how it was stored.
    last_stored: Option<crate::replay::Stored>,
    failed: Option<(SubscriptionId, client::SubscribeFailure)>,
}

struct World {
    now: Instant,
    servers: Vec<Server>,
    backbone: Backbone,
    ends: Vec<End>,
}

fn addr(end: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + end as u16))
}

impl World {
    /// Servers of `brokers` each, and clients of each broker that is named by server and number.
    fn new(servers: usize, brokers: usize, homes: &[(usize, usize)]) -> Self {
        Self::with(servers, brokers, homes, &Config::default())
    }

    fn with(servers: usize, brokers: usize, homes: &[(usize, usize)], config: &Config) -> Self {
        Self::mixed(&vec![config.leaf; servers], brokers, homes, config)
    }

    /// For each server whether it is a leaf node.
    fn mixed(leafs: &[bool], brokers: usize, homes: &[(usize, usize)], config: &Config) -> Self {
        let servers = leafs.len();
        let now = Instant::from_millis(1);
        let broker_config =
            BrokerConfig { kcp: KCP, slow_consumer: SlowConsumer::DropNewest, ..BrokerConfig::default() };
        let server = |id: usize| Server {
            brokers: (0..brokers)
                .map(|own| Broker::new(broker_config.clone(), 1).with_shards(own, brokers).with_gateway())
                .collect(),
            gateway: Gateway::new(Config { id: id as u64, leaf: leafs[id], ..config.clone() }, brokers, id as u64 + 5)
                .unwrap(),
        };
        let end = |(index, home): (usize, &(usize, usize))| {
            let config = client::Config { queue: 1 << 20, kcp: KCP, ..client::Config::default() };
            let mut client = Client::new(config, index as u64, Parts::heap(&config));
            client.connect(now);
            End {
                home: *home,
                client,
                got: Vec::new(),
                last: Default::default(),
                acknowledged: Vec::new(),
                answers: Vec::new(),
                confirmed: Vec::new(),
                stored: Vec::new(),
                last_stored: None,
                failed: None,
            }
        };
        let mut world = Self {
            now,
            servers: (0..servers).map(server).collect(),
            // One more, for a client of the backbone.
            backbone: Backbone { sent: (0..=servers).map(|_| VecDeque::new()).collect(), ..Backbone::default() },
            ends: homes.iter().enumerate().map(end).collect(),
        };
        world.run();
        world
    }

    fn connect(&mut self) {
        self.backbone.is_away = false;
        (0..self.servers.len()).for_each(|index| self.attach(index));
        self.run();
        // What waited goes out when others are back as well.
        self.pass(HOLDS_FOR);
    }

    /// One server is at the backbone.
    fn attach(&mut self, index: usize) {
        let gateway = &mut self.servers[index].gateway;
        if gateway.is_leaf() {
            self.backbone.leafs.insert(index, BTreeSet::new());
        }
        gateway.on_connected(self.now, 1_000);
    }

    fn disconnect(&mut self) {
        self.backbone.is_away = true;
        self.backbone.subscriptions.clear();
        self.backbone.leafs.clear();
        self.backbone.sent.iter_mut().for_each(VecDeque::clear);
        for server in &mut self.servers {
            server.gateway.on_disconnected(self.now);
        }
        self.run();
    }

    /// One server loses the backbone, which goes on.
    fn lose(&mut self, index: usize) {
        self.backbone.subscriptions.retain(|own| own.server != index);
        self.backbone.leafs.remove(&index);
        self.backbone.sent[index].clear();
        self.servers[index].gateway.on_disconnected(self.now);
    }

    /// Lets everything happen that is due.
    fn run(&mut self) {
        let mut buf = vec![0; 60_000];
        loop {
            let mut idle = true;
            for (index, end) in self.ends.iter_mut().enumerate() {
                while let Some(len) = end.client.poll_transmit(self.now, &mut buf) {
                    let (server, broker) = end.home;
                    self.servers[server].brokers[broker].handle_datagram(self.now, addr(index), &mut buf[..len]);
                    idle = false;
                }
                while let Some(event) = end.client.poll_event() {
                    match event {
                        Event::SubscribeFailed { id, why } => end.failed = Some((id, why)),
                        Event::Subscribed(id) => end.acknowledged.push(id),
                        Event::Confirmed { outcome, .. } => end.confirmed.push(alloc::format!("{outcome:?}")),
                        Event::Stored { outcome, .. } => end.stored.push(stored::text(outcome)),
                        Event::Reply { message, .. } => {
                            end.answers.push(String::from_utf8_lossy(message.payload()).into_owned());
                        }
                        Event::RequestFailed { why, .. } => end.answers.push(alloc::format!("{why:?}")),
                        Event::Message { subscription, message } => {
                            let text = String::from_utf8_lossy(message.payload()).into_owned();
                            let headers = message.properties().headers();
                            let headers = headers.map(|(name, value)| (name.to_string(), value.to_string())).collect();
                            end.last_stored = message.properties().stored();
                            end.last = (headers, message.properties().reply().map(Into::into));
                            end.got.push((subscription, message.subject().into(), text));
                        }
                        _ => {}
                    }
                }
            }
            for server in 0..self.servers.len() {
                idle &= !self.turn(server, &mut buf);
            }
            if idle {
                return;
            }
        }
    }

    /// What a server does. False if there was nothing.
    fn turn(&mut self, index: usize, buf: &mut [u8]) -> bool {
        let Self { now, servers, backbone, ends } = self;
        let (now, Server { brokers, gateway }) = (*now, &mut servers[index]);
        let mut any = false;
        let count = brokers.len();
        for own in 0..count {
            while let Some(transmit) = brokers[own].poll_transmit(now, buf) {
                let end = &mut ends[usize::from(transmit.to.port()) - 1_000];
                for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                    end.client.handle_datagram(now, datagram);
                }
                any = true;
            }
            while brokers[own].poll_event().is_some() {}
            while let Some((to, relay)) = brokers[own].poll_relay() {
                any = true;
                match brokers.get_mut(to) {
                    Some(broker) => broker.handle_relay(now, own, relay),
                    None => gateway.handle_relay(now, own, relay),
                }
            }
        }
        backbone.spread();
        while let Some(sent) = backbone.sent[index].pop_front() {
            any = true;
            match sent {
                Sent::Interest { subject, group, wanted } => {
                    gateway.handle_interest(now, &subject, group.as_deref(), wanted);
                }
                Sent::Routed { subject, reply, groups, headers, payload } => {
                    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
                    let incoming = Incoming {
                        on: Channel::Main,
                        sid: 0,
                        subject: &subject,
                        reply: reply.as_deref(),
                        headers: &headers,
                        status: None,
                        payload: &payload,
                    };
                    gateway.handle_routed(now, &incoming, &groups.join(" "));
                }
                Sent::Pong(on) => gateway.on_pong(now, on),
                Sent::Receipt { subject, word } => gateway.handle_receipt(now, &subject, word.receipt()),
                Sent::Message { sid: Gateway::RECEIPTS, subject, .. } => {
                    gateway.handle_receipt(now, &subject, Receipt::Nobody);
                }
                Sent::Message { on, sid, subject, reply, headers, status, payload } => {
                    let headers: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
                    gateway.handle_message(
                        now,
                        &Incoming {
                            on,
                            sid,
                            subject: &subject,
                            reply: reply.as_deref(),
                            headers: &headers,
                            status,
                            payload: &payload,
                        },
                    );
                }
            }
        }
        while let Some(order) = gateway.poll_order(now) {
            any = true;
            match order {
                Order::Subscribe { on, sid, subject, group } => backbone.subscriptions.push(Subscription {
                    server: index,
                    on,
                    sid,
                    subject: subject.into(),
                    group: group.map(Into::into),
                }),
                Order::Unsubscribe { on, sid } => {
                    backbone.subscriptions.retain(|other| (other.server, other.on, other.sid) != (index, on, sid));
                }
                Order::Want { subject, group, .. } => {
                    let (subject, group) = (subject.into(), group.map(Into::into));
                    let own = Subscription { server: index, on: Channel::Main, sid: 0, subject, group };
                    if !backbone.subscriptions.contains(&own) {
                        backbone.subscriptions.push(own); // otherwise it is another weight
                    }
                }
                Order::Unwant { subject, group } => {
                    let (subject, group) = (subject.into(), group.map(Into::into));
                    let own = Subscription { server: index, on: Channel::Main, sid: 0, subject, group };
                    assert!(backbone.subscriptions.contains(&own), "{own:?} was not wanted");
                    backbone.subscriptions.retain(|other| *other != own);
                }
                Order::Ping { on } => {
                    backbone.spread(); // what it says of others stands before
                    backbone.sent[index].push_back(Sent::Pong(on));
                }
            }
        }
        while let Some(order) = gateway.poll_store() {
            any = true;
            backbone.store.take(now, index, order);
        }
        any |= backbone.store.tell(now, index, gateway);
        while gateway.poll_publish(now, |message| {
            let mut headers = Vec::new();
            message.headers(|name, value| headers.push((name.to_string(), value.to_string())));
            let size: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
            assert_eq!(message.size(), message.payload.len() + if size > 0 { size + 12 } else { 0 });
            let named = backbone.leafs.contains_key(&index).then_some(message.groups);
            backbone.publish(Some(index), (message.subject, message.reply), named, &headers, message.payload);
        }) {
            any = true;
        }
        while let Some((to, relay)) = gateway.poll_relay() {
            any = true;
            brokers[to].handle_relay(now, count, relay);
        }
        any
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        for server in &mut self.servers {
            server.brokers.iter_mut().for_each(|broker| broker.handle_timeout(self.now));
            server.gateway.handle_timeout(self.now);
        }
        self.ends.iter_mut().for_each(|end| end.client.handle_timeout(self.now));
        self.run();
    }

    fn subscribe(&mut self, end: usize, pattern: &str) -> SubscriptionId {
        let id = self.ends[end].client.subscribe(self.now, pattern).unwrap();
        self.run();
        id
    }

    fn join(&mut self, end: usize, pattern: &str, group: &str) -> SubscriptionId {
        let id = self.ends[end].client.subscribe_queue(self.now, pattern, group).unwrap();
        self.run();
        id
    }

    fn publish(&mut self, end: usize, subject: &str, text: &str) {
        self.ends[end].client.publish(self.now, subject, text.as_bytes()).unwrap();
        self.run();
    }

    fn request(&mut self, end: usize, subject: &str) {
        let request = client::Request { within: Duration::from_secs(2), ..client::Request::default() };
        self.ends[end].client.request(self.now, subject, b"?", &request).unwrap();
        self.run();
    }

    /// Somebody who is a client of the backbone subscribes.
    fn subscribe_there(&mut self, sid: u64, subject: &str, group: Option<&str>) {
        let (server, group) = (self.servers.len(), group.map(Into::into));
        self.backbone.subscriptions.push(Subscription {
            server,
            on: Channel::Groups,
            sid,
            subject: subject.into(),
            group,
        });
    }

    fn publish_there(&mut self, subject: &str, reply: Option<&str>, headers: &[(&str, &str)], text: &str) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.backbone.publish(None, (subject, reply), None, &headers, text.as_bytes());
        self.run();
    }

    /// What the client of the backbone has got: subject, text, where answers are to go.
    fn got_there(&mut self) -> Vec<(String, String, Option<String>)> {
        let sent = self.backbone.sent.last_mut().unwrap().drain(..);
        let all = sent.filter_map(|sent| match sent {
            Sent::Message { subject, reply, payload, .. } => {
                Some((subject, String::from_utf8(payload).unwrap(), reply))
            }
            Sent::Routed { .. } | Sent::Interest { .. } | Sent::Pong(_) | Sent::Receipt { .. } => None,
        });
        all.collect()
    }

    /// What an end has got, as `SUBJECT=TEXT`, each once for each of its subscriptions.
    fn got(&mut self, end: usize) -> Vec<String> {
        let got = core::mem::take(&mut self.ends[end].got);
        got.into_iter().map(|(_, subject, text)| alloc::format!("{subject}={text}")).collect()
    }

    fn stats(&self, server: usize) -> Stats {
        self.servers[server].gateway.stats()
    }
}

fn texts(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| alloc::format!("{prefix}{number}")).collect()
}
