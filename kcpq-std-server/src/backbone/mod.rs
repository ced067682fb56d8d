//! Several servers as one, over NATS: [`kcpq_core::broker::gateway`] on two connections to a NATS server as its client, or on one
//! as a leaf node of it.
//!
//! A thread of its own carries what the gateway says to the threads of the server and to NATS, and back. None of these waits
//! for it: it is told by a queue, as they tell each other.
//!
//! The protocol is spoken here and not by a client library: those hand out the messages of each subscription by a queue of its
//! own, and what one publisher has sent to two subjects would come out of order.

mod address;
mod connection;
mod credentials;
mod dial;
mod jetstream;
mod leaf;
mod receipt;
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), path = "absent/tls.rs")]
mod tls;
mod wire;

use std::io;
use std::sync::mpsc::TryRecvError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use kcpq_core::Instant;
use kcpq_core::access::RuleError;
use kcpq_core::broker::Relay;
use kcpq_core::broker::gateway::{self, Channel, Gateway, Incoming, Order, Receipt};
use mio::{Events, Interest, Poll, Token};

pub use self::address::{NatsAddress, NatsAddressError};
use self::connection::{Connection, News, Trouble};
pub use self::credentials::{NatsCredentials, NatsCredentialsError};
use self::dial::{Dialed, Dialer};
use self::jetstream::{JetStream, Sent};
use self::receipt::PubAck;
pub use self::tls::{NatsTls, NatsTlsError};
use self::wire::Op;
use crate::failure::Guard;
use crate::handle::{COMMAND, Commands, Handle};
use crate::shard::{Command, now};
use crate::view::BackboneView;

/// NATS servers that several servers of kcpq stand on.
#[derive(Clone, Debug)]
pub struct Backbone {
    /// Servers of one cluster, of which any will do; others that these name are used as well.
    pub servers: Vec<NatsAddress>,
    /// Where these let leaf nodes in ([`NatsAddress::leaf`]): if there are some messages go this way, and only those that anybody
    /// there wants; the others are for what the API of JetStream is needed for: what is stored, and last values.
    pub leaf: Vec<NatsAddress>,
    /// What proves to them who this is, besides what an address says.
    pub credentials: NatsCredentials,
    /// TLS is used with servers that ask for it, and with all if [`require_tls`](Self::require_tls) says so or their address.
    pub tls: Option<NatsTls>,
    /// See [`tls`](Self::tls).
    pub require_tls: bool,
    /// What this is called there.
    pub name: String,
    /// Patterns of what is handed to NATS. One that begins with a wildcard matches no subject that begins with `$`.
    pub export: Vec<Box<str>>,
    /// Patterns of what is taken from there, likewise.
    pub import: Vec<Box<str>>,
    /// First tokens of all subjects there; empty for none.
    pub prefix: Box<str>,
    /// Patterns of what JetStream is to store, whoever publishes it: it is kept until JetStream has said that it has it.
    pub store: Vec<Box<str>>,
    /// The bucket, a key/value one of JetStream, that has the last values of subjects; empty for none. It has to be there.
    pub last_values: Box<str>,
    /// Maximum size of what waits while NATS is away, in bytes; the oldest makes room. As much again may wait for JetStream, of
    /// 65,536 messages at most.
    pub buffer: usize,
    /// Maximum time to hand over what waits when stopping.
    pub linger: Duration,
}

impl Default for Backbone {
    /// Of no servers: everything goes both ways.
    fn default() -> Self {
        let gateway::Config { export, import, prefix, store, buffer, .. } = gateway::Config::default();
        Self {
            servers: Vec::new(),
            leaf: Vec::new(),
            credentials: NatsCredentials::default(),
            tls: None,
            require_tls: false,
            name: "kcpq".into(),
            export,
            import,
            prefix,
            store,
            last_values: "".into(),
            buffer,
            linger: Duration::from_secs(2),
        }
    }
}

impl Backbone {
    fn is_secure(&self, address: &NatsAddress) -> bool {
        self.require_tls || address.tls
    }

    /// Last values are in a bucket.
    pub(crate) fn shares_values(&self) -> bool {
        !self.last_values.is_empty()
    }

    /// Says whether a server takes it.
    ///
    /// # Errors
    /// One of the patterns is none, or the prefix, or the name of the bucket.
    pub fn check(&self) -> Result<(), RuleError> {
        self.gateway(gateway::Config::default(), 0, 0).map(drop)
    }

    fn gateway(&self, mut config: gateway::Config, shards: usize, seed: u64) -> Result<Gateway, RuleError> {
        config.export.clone_from(&self.export);
        config.import.clone_from(&self.import);
        config.prefix.clone_from(&self.prefix);
        config.store.clone_from(&self.store);
        config.leaf = !self.leaf.is_empty();
        if self.shares_values() {
            config.values = format!("$KV.{}", self.last_values).into();
        }
        config.buffer = self.buffer;
        Gateway::new(config, shards, seed)
    }
}

/// A thread that is about to begin.
pub(crate) struct Prepared(Runner);

/// One that runs. It ends when it is told to.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<BackboneView>>,
}

/// Makes the thread, of which the shards are to know before they begin. `config` has what the backbone does not say.
///
/// # Errors
/// A pattern is none, or the system's.
pub(crate) fn prepare(
    mut backbone: Backbone,
    config: gateway::Config,
    shards: usize,
    seed: u64,
    epoch: StdInstant,
) -> io::Result<Result<(Prepared, Handle), RuleError>> {
    let jetstream = JetStream::new(config.id);
    if !backbone.leaf.is_empty() {
        // Of two leaf nodes of one name a server lets the older one go: that is one which was left, and no other.
        backbone.name = format!("{}-{:016x}", backbone.name, config.id);
    }
    let gateway = match backbone.gateway(config, shards, seed) {
        Ok(gateway) => gateway,
        Err(error) => return Ok(Err(error)),
    };
    let poll = Poll::new()?;
    let (handle, commands) = Handle::new(&poll)?;
    let store_dialer = (!backbone.leaf.is_empty() && !backbone.servers.is_empty())
        .then(|| Dialer::new(handle.clone(), &backbone.servers));
    let runner = Runner {
        dialer: Dialer::new(handle.clone(), if backbone.leaf.is_empty() { &backbone.servers } else { &backbone.leaf }),
        store_dialer,
        backbone,
        gateway,
        jetstream,
        poll,
        events: Events::with_capacity(16),
        commands,
        siblings: Vec::new(),
        own: shards,
        relays: Vec::new(),
        epoch,
        connections: [None, None, None],
        is_joined: false,
        has_store: false,
        store_trouble: None,
        trouble: None,
        told: None,
        complaints: 0,
        told_of_values: None,
        drain_until: None,
        is_flushing: false,
    };
    Ok(Ok((Prepared(runner), handle)))
}

impl Prepared {
    /// Begins, between these shards.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(self, shards: &[Handle], handle: Handle, guard: Guard) -> io::Result<Running> {
        let mut runner = self.0;
        runner.siblings = shards.to_vec();
        runner.relays = shards.iter().map(|_| Vec::new()).collect();
        let thread = std::thread::Builder::new().name("kcpq-backbone".into()).spawn(move || {
            let _guard = guard;
            runner.run();
            runner.view()
        })?;
        Ok(Running { handle, thread: Some(thread) })
    }
}

impl Running {
    /// Hands over what waits, within the linger time, and ends. The shards have ended. How it was with the backbone at last,
    /// unless it has ended before.
    pub(crate) fn end(&mut self, command: Command) -> Option<BackboneView> {
        self.handle.send(command);
        let ended = self.thread.take()?.join();
        if ended.is_err() {
            tracing::error!("the thread of the backbone has panicked");
        }
        ended.ok()
    }
}

/// So many bytes wait for a connection before no more messages are written there.
const AHEAD: usize = 256 * 1024;
/// A trouble that goes on is told again after so long.
const TOLD_FOR: Duration = Duration::from_secs(60);
/// Complaints of NATS that are told, each.
const MAX_TOLD: u64 = 20;

struct Runner {
    backbone: Backbone,
    gateway: Gateway,
    jetstream: JetStream,
    dialer: Dialer,
    /// Of a leaf node that is to reach the store.
    store_dialer: Option<Dialer>,
    poll: Poll,
    events: Events,
    commands: Commands,
    siblings: Vec<Handle>,
    /// Its number among these: behind the last one.
    own: usize,
    relays: Vec<Vec<Relay>>,
    epoch: StdInstant,
    /// In the order of [`Channel::ALL`].
    connections: [Option<Connection>; 3],
    /// The gateway knows that those are there which it needs; and, of a leaf node, the one to the store.
    is_joined: bool,
    has_store: bool,
    /// Why that is not there.
    store_trouble: Option<String>,
    /// Why NATS is not there, and what was told of that when.
    trouble: Option<String>,
    told: Option<(StdInstant, String)>,
    complaints: u64,
    /// What was told of the bucket of last values.
    told_of_values: Option<String>,
    drain_until: Option<StdInstant>,
    is_flushing: bool,
}

impl Runner {
    fn run(&mut self) {
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.dial();
            self.receive();
            let now = self.now();
            self.gateway.handle_timeout(now);
            if self.gateway.is_deaf(now) {
                self.lose(&Trouble::Silent);
            }
            if self.gateway.is_store_deaf(now) {
                self.lose_store(&Trouble::Silent);
            }
            // Who waits for NATS waits longer than who waits for a thread.
            self.send();
            self.relay();
            self.tell_of_values();
            if self.drain_until.is_some_and(|until| self.has_drained() || until <= StdInstant::now()) {
                return self.take_leave();
            }
            self.wait();
        }
    }

    fn now(&self) -> Instant {
        now(self.epoch)
    }

    /// Says what is wrong with the bucket of last values, once, and that it is well again.
    fn tell_of_values(&mut self) {
        let trouble = self.gateway.values_trouble();
        if self.told_of_values.as_deref() == trouble {
            return;
        }
        let bucket = &*self.backbone.last_values;
        match trouble {
            Some(why) => tracing::warn!(bucket, why, "last values are not in their bucket: it is tried again"),
            None => tracing::info!(bucket, "last values are in their bucket"),
        }
        self.told_of_values = trouble.map(str::to_owned);
    }

    /// What is lost with this thread is said.
    fn take_leave(&self) {
        let gateway::Stats { storing, values_waiting, .. } = self.gateway.stats();
        if storing > 0 {
            tracing::warn!(messages = storing, "JetStream has not said of some messages that it has stored them");
        }
        if values_waiting > 0 {
            tracing::warn!(
                values = values_waiting,
                "the bucket of last values may not have some that have changed here"
            );
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Relays(from, relays) => {
                let now = self.now();
                for relay in relays {
                    self.gateway.handle_relay(now, from, relay);
                }
            }
            Command::Backbone(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.view());
            }
            Command::Streams(reply) if self.reaches_store() => self.jetstream.list(reply),
            Command::Streams(reply) => {
                let why = match self.gateway.is_leaf() {
                    true => "there is no connection to JetStream: a leaf node has one with --nats, if NATS is there",
                    false => "the backbone is not there",
                };
                let _ = reply.send(Err(why.into()));
            }
            Command::Ping(reply) => {
                let _ = reply.send(());
            }
            Command::Drain => {
                self.drain_until = Some(StdInstant::now() + self.backbone.linger);
                self.gateway.drain();
            }
            _ => {} // nobody asks it for anything else
        }
    }

    /// JetStream can be asked.
    fn reaches_store(&self) -> bool {
        if self.gateway.is_leaf() { self.has_store } else { self.is_joined }
    }

    fn view(&self) -> BackboneView {
        let main = self.connections[0].as_ref().filter(|_| self.is_joined);
        BackboneView {
            stats: self.gateway.stats(),
            server: main.map(|connection| connection.address.to_string()),
            trouble: self.trouble.clone().filter(|_| !self.is_joined),
            store_trouble: self.store_trouble.clone(),
            values_trouble: self.gateway.values_trouble().filter(|_| self.reaches_store()).map(str::to_owned),
            complaints: self.complaints,
        }
    }

    // --- NATS's presence ---

    /// Connects, as far as it is to.
    fn dial(&mut self) {
        let [main, groups, store] = &self.connections;
        match (main, groups) {
            (None, _) => self.dialer.dial_next(),
            // Of a cluster the same server: another one may hear of a subscription later.
            (Some(main), None) if main.is_ready() && !self.gateway.is_leaf() => {
                self.dialer.dial_again(&main.address, main.peer);
            }
            _ => {}
        }
        if let Some(dialer) = self.store_dialer.as_mut().filter(|_| store.is_none()) {
            dialer.dial_next();
        }
        if let Some(dialed) = self.dialer.poll() {
            let on = if self.connections[0].is_some() { Channel::Groups } else { Channel::Main };
            self.take_in(on, dialed);
        }
        if let Some(dialed) = self.store_dialer.as_mut().and_then(Dialer::poll) {
            self.take_in(Channel::Store, dialed);
        }
    }

    /// A connection has come about, or not.
    fn take_in(&mut self, on: Channel, dialed: Dialed) {
        let connection = dialed.and_then(|(stream, address, peer)| {
            let mut connection = Connection::new(stream, address, peer);
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registered = self.poll.registry().register(&mut connection.stream, Token(place(on)), interest);
            registered.map(|()| connection).map_err(|error| Trouble::Unreachable(error.to_string()))
        });
        match connection {
            Ok(connection) => self.connections[place(on)] = Some(connection),
            Err(trouble) => self.lose_one(on, &trouble),
        }
    }

    /// One is lost, and those with it that are nothing without it.
    fn lose_one(&mut self, on: Channel, trouble: &Trouble) {
        if on == Channel::Store { self.lose_store(trouble) } else { self.lose(trouble) }
    }

    /// The connection of a leaf node to the store is given up: messages go on.
    fn lose_store(&mut self, trouble: &Trouble) {
        let Some(dialer) = &mut self.store_dialer else { return };
        let connection = self.connections[place(Channel::Store)].take();
        let server = connection.map_or_else(|| dialer.last(), |store| store.address.to_string());
        dialer.pause();
        let (why, now) = (trouble.to_string(), self.now());
        if std::mem::take(&mut self.has_store) || self.store_trouble.as_ref() != Some(&why) {
            tracing::warn!(server, why, "no connection to JetStream: it is tried again and again, and messages go on");
        }
        self.store_trouble = Some(why);
        self.gateway.on_store_lost(now);
        self.jetstream.reset();
    }

    /// All connections are given up, but a leaf node's to the store.
    fn lose(&mut self, trouble: &Trouble) {
        let server = self.connections[0].as_ref().map_or_else(|| self.dialer.last(), |main| main.address.to_string());
        for on in [Channel::Main, Channel::Groups] {
            drop(self.connections[place(on)].take());
        }
        let why = trouble.to_string();
        let is_told = self.told.as_ref().is_some_and(|(at, told)| at.elapsed() < TOLD_FOR && *told == why);
        let now = self.now();
        // A leaf node may have heard what is wanted there before it has joined.
        self.gateway.on_disconnected(now);
        if std::mem::take(&mut self.is_joined) {
            tracing::warn!(server, why, "the backbone is lost: it is tried again, and local messages go on");
            if !self.gateway.is_leaf() {
                self.jetstream.reset();
            }
        } else if !is_told {
            tracing::warn!(server, why, "no backbone: it is tried again and again, and local messages go on");
        }
        if !is_told {
            self.told = Some((StdInstant::now(), why.clone()));
        }
        self.trouble = Some(why);
        self.dialer.pause();
    }

    /// The gateway is told of the connections that are ready.
    fn join(&mut self) {
        let now = self.now();
        if let Some(store) = self.connections[place(Channel::Store)].as_ref().filter(|store| store.is_ready())
            && !std::mem::replace(&mut self.has_store, true)
        {
            tracing::info!(server = %store.address, "the connection to JetStream is there");
            self.store_dialer.iter_mut().for_each(|dialer| dialer.succeed(&store.others));
            self.store_trouble = None;
            self.gateway.on_store_connected(now);
        }
        let [Some(main), groups, _] = &self.connections else { return };
        let is_whole = self.gateway.is_leaf() || groups.as_ref().is_some_and(Connection::is_ready);
        if self.is_joined || !main.is_ready() || !is_whole {
            return;
        }
        let (max_payload, server) = (main.max_payload, main.address.to_string());
        self.dialer.succeed(&main.others);
        self.is_joined = true;
        (self.told, self.trouble) = (None, None);
        let is_leaf = self.gateway.is_leaf();
        tracing::info!(server, max_payload, is_leaf, "the backbone is there");
        self.gateway.on_connected(now, max_payload);
    }

    /// The gateway knows that a connection is there.
    fn is_there(&self, on: Channel) -> bool {
        if on == Channel::Store { self.has_store } else { self.is_joined }
    }

    // --- in ---

    fn receive(&mut self) {
        let now = self.now();
        for on in Channel::ALL {
            // While the server has enough NATS keeps the rest.
            if self.is_there(on) && !self.gateway.may_read() {
                continue;
            }
            let Self { gateway, jetstream, connections, backbone, complaints, .. } = self;
            let Some(connection) = &mut connections[place(on)] else { continue };
            let received = connection.receive(backbone, |news| match news {
                News::Message(
                    Op::Message { sid: Gateway::RECEIPTS, subject, headers, payload, .. }
                    | Op::Routed { subject, headers, payload, .. },
                ) if gateway.is_receipt(subject) => {
                    if headers.status == Some(Incoming::NOBODY) {
                        gateway.handle_receipt(now, subject, Receipt::Nobody);
                    } else if let Some(ack) = PubAck::read(payload) {
                        if let PubAck::Refused { why, .. } = &ack {
                            *complaints += 1;
                            if *complaints <= MAX_TOLD {
                                tracing::warn!(why, "JetStream does not store a message");
                            }
                        }
                        gateway.handle_receipt(now, subject, ack.receipt());
                    }
                }
                News::Message(Op::Message { sid, subject, reply, headers, payload }) if JetStream::has(sid) => {
                    gateway.on_heard(now, on);
                    jetstream.handle(now, &Sent { sid, subject, reply, headers: &headers, payload }, gateway);
                }
                News::Message(Op::Message { sid, subject, reply, headers, payload }) => {
                    let (status, headers) = (headers.status, &headers.all[..]);
                    gateway.handle_message(now, &Incoming { on, sid, subject, reply, headers, status, payload });
                }
                News::Message(Op::Routed { subject, reply, groups, headers, payload }) => {
                    let (status, headers) = (headers.status, &headers.all[..]);
                    let incoming = Incoming { on, sid: 0, subject, reply, headers, status, payload };
                    gateway.handle_routed(now, &incoming, groups);
                }
                News::Message(Op::Interest { subject, group, wanted }) => {
                    gateway.handle_interest(now, subject, group, wanted);
                }
                News::Message(_) => {}
                News::Permissions { publish, subscribe } => {
                    if let Err(error) = gateway.set_permissions(&publish, &subscribe) {
                        *complaints += 1;
                        tracing::warn!(%error, "NATS permits a leaf node what is no subject: everything is taken for permitted");
                    }
                }
                News::Pong => gateway.on_pong(now, on),
                News::Complaint(why) => {
                    *complaints += 1;
                    if *complaints <= MAX_TOLD {
                        tracing::warn!(why, "NATS does not do what it was told");
                    }
                }
            });
            let is_late = connection.deadline().is_some_and(|at| at <= StdInstant::now());
            match received {
                Err(trouble) => self.lose_one(on, &trouble),
                Ok(()) if is_late => self.lose_one(on, &Trouble::Silent),
                Ok(()) => {}
            }
        }
        self.join();
    }

    // --- out ---

    /// Tells the shards what there is to tell.
    fn relay(&mut self) {
        while let Some((to, relay)) = self.gateway.poll_relay() {
            if let Some(relays) = self.relays.get_mut(to) {
                relays.push(relay);
            }
        }
        for (relays, sibling) in self.relays.iter_mut().zip(&self.siblings).filter(|(relays, _)| !relays.is_empty()) {
            sibling.send(Command::Relays(self.own, std::mem::take(relays)));
        }
    }

    /// Hands NATS what there is for it, as far as there is room.
    fn send(&mut self) {
        let now = self.now();
        loop {
            let Self { gateway, jetstream, connections, complaints, .. } = self;
            let mut goes_on = false;
            while let Some(order) = gateway.poll_store() {
                jetstream.order(order);
            }
            let of_store = if gateway.is_leaf() { Channel::Store } else { Channel::Main };
            if let Some(connection) = &mut connections[place(of_store)] {
                connection.out().append(&mut jetstream.take_said());
            }
            while let Some(order) = gateway.poll_order(now) {
                let Some(connection) = &mut connections[place(order.on())] else { continue };
                let out = connection.out();
                match order {
                    Order::Subscribe { sid, subject, group, .. } => {
                        wire::subscribe(out, sid, &subject, group.as_deref());
                    }
                    Order::Unsubscribe { sid, .. } => wire::unsubscribe(out, sid),
                    Order::Want { subject, group, weight } => leaf::want(out, &subject, group.as_deref(), weight),
                    Order::Unwant { subject, group } => leaf::unwant(out, &subject, group.as_deref()),
                    Order::Ping { .. } => out.extend_from_slice(b"PING\r\n"),
                }
            }
            let publish = if gateway.is_leaf() { leaf::publish } else { wire::publish };
            let [main, _, store] = connections;
            if let Some(main) = main {
                while main.waiting() < AHEAD && gateway.poll_publish(now, |message| publish(main.out(), &message)) {
                    goes_on = true;
                }
            }
            if let Some(store) = store {
                while store.waiting() < AHEAD && gateway.poll_put(now, |message| wire::publish(store.out(), &message)) {
                    goes_on = true;
                }
            }
            while let Some(pattern) = gateway.poll_denied() {
                *complaints += 1;
                if *complaints <= MAX_TOLD {
                    tracing::warn!(%pattern, "NATS does not permit this server to have what it matches: only local messages come");
                }
            }
            let mut failed = None;
            for (on, connection) in Channel::ALL.into_iter().zip(connections) {
                let Some(connection) = connection else { continue };
                match connection.send() {
                    Ok(()) => goes_on &= connection.waiting() == 0,
                    Err(trouble) => failed = Some((on, trouble)),
                }
            }
            if let Some((on, trouble)) = failed {
                return self.lose_one(on, &trouble);
            }
            if !goes_on {
                return;
            }
        }
    }

    /// True if NATS has all that it is to have, or is not there.
    fn has_drained(&mut self) -> bool {
        if !self.is_joined {
            return true;
        }
        if self.gateway.stats().waiting == 0 && !std::mem::replace(&mut self.is_flushing, true) {
            self.gateway.flush();
            self.send();
        }
        self.is_flushing && self.gateway.is_flushed()
    }

    // --- waiting ---

    /// Waits for NATS, a command, or until the time is over.
    fn wait(&mut self) {
        let epoch = self.epoch;
        let deadline =
            self.gateway.poll_timeout().map(|deadline| epoch + Duration::from_micros(deadline.at.as_micros()));
        let greetings = self.connections.iter().flatten().filter_map(Connection::deadline);
        let [main, _, store] = &self.connections;
        let dialing = main.is_none().then(|| self.dialer.next()).flatten();
        let store_dialing = self.store_dialer.as_ref().filter(|_| store.is_none()).and_then(Dialer::next);
        let all = greetings.chain(deadline).chain(dialing).chain(store_dialing).chain(self.drain_until);
        let may_read = self.gateway.may_read();
        let is_readable = Channel::ALL.into_iter().zip(&self.connections).any(|(on, connection)| {
            connection.as_ref().is_some_and(|connection| connection.readable) && (may_read || !self.is_there(on))
        });
        let until = all.min().map(|at| at.saturating_duration_since(StdInstant::now()));
        let wait = if is_readable || !self.commands.may_sleep() { Some(Duration::ZERO) } else { until };
        if let Err(error) = self.poll.poll(&mut self.events, wait)
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::warn!(%error, "waiting for the backbone failed");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.commands.wakes();
        for event in self.events.iter().filter(|event| event.token() != COMMAND) {
            if let Some(Some(connection)) = self.connections.get_mut(event.token().0) {
                connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                connection.ends |= event.is_read_closed() || event.is_error();
                connection.writable |= event.is_writable() || event.is_error();
            }
        }
    }
}

fn place(on: Channel) -> usize {
    match on {
        Channel::Main => 0,
        Channel::Groups => 1,
        Channel::Store => 2,
    }
}
