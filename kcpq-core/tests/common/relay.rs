//! A publisher, a broker and its subscribers between which no time passes.

use std::net::{Ipv4Addr, SocketAddr};

use kcpq_core::access::{Access, Group, Permissions, Rules};
use kcpq_core::broker::{self, Broker};
use kcpq_core::client::{self, Client, Parts, Stage};
use kcpq_core::datagram::LOCAL_DATAGRAM;
use kcpq_core::kcp::{self, CongestionControl};
use kcpq_core::store::Heap;
use kcpq_core::{Duration, Instant};

/// There is no link whose pace could be kept.
const KCP: kcp::Config =
    kcp::Config { congestion: CongestionControl::Off, send_window: 256, recv_window: 256, ..kcp::Config::GAMES };
const PUBLISHER: usize = 0;
const PATTERN: &str = "sensor.*.temperature";
const SUBJECTS: [&str; 2] = ["sensor.kitchen.temperature", "sensor.parlour.temperature"];
/// Messages published before datagrams are carried; so many that something waits for each member of a queue group; and about
/// how many bytes of them at most.
const BATCH: u64 = 100;
const LONG_BATCH: u64 = 2_000;
const BATCH_BYTES: u64 = 256 * 1024;

/// See above.
pub(crate) struct Relay {
    now: Instant,
    /// From where all clients come.
    host: Ipv4Addr,
    broker: Broker<SocketAddr>,
    /// The publisher first.
    clients: Vec<Client<Heap>>,
    /// Beside the publisher, if it has one.
    stage: Option<Stage>,
    /// Of the messages, in turn.
    subjects: &'static [&'static str],
    batch: u64,
    received: u64,
    buf: Vec<u8>,
}

/// Not on the broker's machine.
const AFAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

impl Relay {
    /// All are connected, and the subscriber has subscribed.
    pub(crate) fn new() -> Self {
        Self::with_access(None)
    }

    /// The subscriber has more waiting for it at times.
    pub(crate) fn crowded() -> Self {
        Self { batch: LONG_BATCH, ..Self::new() }
    }

    /// No two messages that follow each other are about the same.
    pub(crate) fn mixed() -> Self {
        Self { subjects: &SUBJECTS, ..Self::new() }
    }

    /// The publisher puts messages on a stage, as where others hold its client.
    pub(crate) fn staged() -> Self {
        let mut relay = Self { stage: Some(Stage::default()), ..Self::new() };
        relay.take_staged();
        relay
    }

    /// The same with so many members of a queue group in the subscriber's place.
    pub(crate) fn group(members: u64) -> Self {
        Self::group_at(AFAR, members)
    }

    /// The same on the broker's machine, where datagrams are long.
    pub(crate) fn local_group(members: u64) -> Self {
        Self::group_at(Ipv4Addr::LOCALHOST, members)
    }

    fn group_at(host: Ipv4Addr, members: u64) -> Self {
        let mut relay = Self { batch: LONG_BATCH, ..Self::between(host, 1 + members, None) };
        for client in relay.clients.iter_mut().skip(1) {
            client.subscribe_queue(relay.now, PATTERN, "workers").unwrap();
        }
        relay.settled()
    }

    /// The same on the broker's machine, where datagrams are long, with so many subscribers.
    pub(crate) fn local(subscribers: u64) -> Self {
        let mut relay = Self { batch: LONG_BATCH, ..Self::between(Ipv4Addr::LOCALHOST, 1 + subscribers, None) };
        for client in relay.clients.iter_mut().skip(1) {
            client.subscribe(relay.now, PATTERN).unwrap();
        }
        relay.settled()
    }

    /// The same with a thousand rules for who may publish to what, and for who may be given what.
    pub(crate) fn permitted() -> Self {
        let rooms = |what: &str| (0..1_000).map(|room| format!("sensor.{what}-{room}.>").into()).collect::<Vec<_>>();
        let mut allow = rooms("room");
        allow.push("sensor.kitchen.*".into());
        let publish = Rules { allow: Some(allow), deny: Vec::new() };
        let subscribe = Rules { allow: None, deny: rooms("vault") };
        let groups = vec![Group { permissions: Permissions { publish, subscribe }, ..Group::default() }];
        Self::with_access(Some(&Access { groups, anonymous: Some(0), ..Access::default() }))
    }

    fn with_access(access: Option<&Access>) -> Self {
        let mut relay = Self::between(AFAR, 2, access);
        relay.clients[1].subscribe(relay.now, PATTERN).unwrap();
        relay.settled()
    }

    /// So many clients that connect from there.
    fn between(host: Ipv4Addr, clients: u64, access: Option<&Access>) -> Self {
        let now = Instant::from_millis(1);
        let mut config = client::Config { kcp: KCP, local: host.is_loopback(), ..client::Config::default() };
        if config.local {
            config.native_datagram = LOCAL_DATAGRAM;
        }
        let connect = |seed| {
            let mut client = Client::new(config, seed, Parts::heap(&config));
            client.connect(now);
            client
        };
        let clients = (1..=clients).map(connect).collect();
        let mut broker = Broker::new(broker::Config { kcp: KCP, ..broker::Config::default() }, 1);
        broker.set_access(now, access).unwrap();
        Self {
            now,
            host,
            broker,
            clients,
            stage: None,
            subjects: &SUBJECTS[..1],
            batch: BATCH,
            received: 0,
            buf: vec![0; 60_000],
        }
    }

    /// Once all are connected and have subscribed.
    fn settled(mut self) -> Self {
        self.carry();
        self.pass();
        self
    }

    /// Carries `count` messages of `payload`; returns how many arrived.
    pub(crate) fn run(&mut self, count: u64, payload: &[u8]) -> u64 {
        let before = self.received;
        let batch = (BATCH_BYTES / payload.len().max(1) as u64).clamp(1, self.batch);
        for (sent, subject) in (1..=count).zip(self.subjects.iter().cycle()) {
            self.publish(subject, payload);
            if sent % batch == 0 || sent == count {
                self.take_staged();
                self.carry();
                self.pass();
            }
        }
        self.received - before
    }

    fn publish(&mut self, subject: &str, payload: &[u8]) {
        if self.stage.as_mut().is_some_and(|stage| stage.publish(subject, payload)) {
            return;
        }
        self.take_staged();
        self.clients[PUBLISHER].publish(self.now, subject, payload).unwrap();
    }

    fn take_staged(&mut self) {
        if let Some(stage) = &mut self.stage {
            self.clients[PUBLISHER].take_staged(stage);
            self.clients[PUBLISHER].open_stage(stage, usize::MAX);
        }
    }

    fn pass(&mut self) {
        self.now += Duration::from_millis(10);
        self.broker.handle_timeout(self.now);
        for client in &mut self.clients {
            client.handle_timeout(self.now);
        }
        self.carry();
    }

    /// Lets everything happen that is due.
    fn carry(&mut self) {
        let Self { now, host, broker, clients, received, buf, .. } = self;
        let (now, host) = (*now, *host);
        loop {
            let mut idle = true;
            for (index, client) in clients.iter_mut().enumerate() {
                while let Some(len) = client.poll_transmit(now, buf) {
                    broker.handle_datagram(now, SocketAddr::from((host, 1_000 + index as u16)), &mut buf[..len]);
                    idle = false;
                }
            }
            while let Some(transmit) = broker.poll_transmit(now, buf) {
                let client = &mut clients[usize::from(transmit.to.port()) - 1_000];
                for datagram in buf[..transmit.len].chunks_mut(transmit.segment.unwrap_or(transmit.len)) {
                    client.handle_datagram_with(now, datagram, |_, arrived| *received += arrived.count() as u64);
                    while let Some(event) = client.poll_event() {
                        *received += u64::from(matches!(event, client::Event::Message { .. }));
                    }
                }
                idle = false;
            }
            while broker.poll_event().is_some() {}
            if idle {
                return;
            }
        }
    }
}
