//! One thread with a broker and its socket, and how threads tell each other of messages.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::time::Duration as StdDuration;

use kcpq_core::Instant;
use kcpq_core::access::Access;
use kcpq_core::broker::{Broker, Forward, KeptCursor, PatternCursor, Relay, SessionCursor, SessionId};
use kcpq_udp::{Socket, is_too_long};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::events::EventLog;
use crate::peer::Client;
use crate::register::Reporter;
use crate::server::Snapshot;
use crate::values;
use crate::view::{Counters, KeptPage, PatternPage, SessionPage};

/// What a shard is asked to do.
pub(crate) enum Command {
    /// Send a snapshot of the counters.
    Snapshot(Sender<Snapshot>),
    /// Send those that never go back.
    Counters(Sender<Counters>),
    /// Send a page of sessions.
    Sessions(SessionCursor, Sender<SessionPage>),
    /// Send a page of patterns.
    Patterns(PatternCursor, Sender<PatternPage>),
    /// Send a page of last values.
    Kept(KeptCursor, Sender<KeptPage>),
    /// End a session, and say whether it was there.
    Kick(SessionId, Sender<bool>),
    /// Say that the thread works.
    Ping(Sender<()>),
    /// Replace the rules of who may do what by these, which have been checked.
    SetAccess(Option<Arc<Access>>),
    /// End all sessions, then the thread.
    Drain,
    /// End the thread.
    Stop,
    /// Take in what another shard tells.
    Relays(usize, Vec<Relay>),
    /// Take in a datagram that came to another shard.
    Forward(Box<Forward<Client>>),
    /// Fail as a defect would.
    #[cfg(test)]
    Panic,
}

/// How to reach a shard from another thread.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl Handle {
    /// Makes the shard do something. False if it has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        let sent = self.commands.send(command).is_ok();
        self.wake();
        sent
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a thread of the server cannot be woken");
        }
    }
}

/// Receive calls in one turn, so that a flood cannot keep timers and commands waiting.
const RECEIVES: usize = 8;
/// Most bytes in one call: what the length of a UDP datagram can tell, less the headers.
const MAX_BATCH: usize = 65_000;
/// The wait after an error of the socket that says nothing about a peer, so that it cannot become a busy loop; and the
/// longest for room in a full one.
const PAUSE: StdDuration = StdDuration::from_millis(50);

const SOCKET: Token = Token(0);
const COMMAND: Token = Token(1);

/// A thread that waits for its socket, its timers and its commands by itself: a reactor shared with other threads would
/// hand each datagram from one to the other.
pub(crate) struct Shard {
    socket: Socket,
    poll: Poll,
    events: Events,
    /// The socket again, as the poller knows it.
    registered: mio::net::UdpSocket,
    pub(crate) broker: Broker<Client>,
    log: EventLog,
    /// Keeps note of who has sessions, for the next life of the server.
    reporter: Option<Reporter>,
    /// Tells when the last values of subjects have changed.
    values: Option<values::Reporter>,
    commands: Receiver<Command>,
    epoch: std::time::Instant,
    out: Vec<u8>,
    /// The other shards of the server, and which of all this one is; what is to be told to each.
    siblings: Vec<Handle>,
    own: usize,
    relays: Vec<Vec<Relay>>,
    draining: bool,
    /// Datagrams that the system refused to send.
    pub(crate) unsendable: u64,
}

impl Shard {
    /// # Errors
    /// The system's, when it has no way to wait for the socket.
    pub(crate) fn new(
        socket: Socket,
        broker: Broker<Client>,
        epoch: std::time::Instant,
        max_datagram: u16,
        reporter: Option<Reporter>,
        values: Option<values::Reporter>,
    ) -> io::Result<(Self, Handle)> {
        let (sender, commands) = mpsc::channel();
        let batch = usize::from(max_datagram) * socket.max_segments();
        let out = vec![0; batch.min(MAX_BATCH.max(usize::from(max_datagram)))];
        let poll = Poll::new()?;
        let mut registered = mio::net::UdpSocket::from_std(socket.socket().try_clone()?);
        poll.registry().register(&mut registered, SOCKET, Interest::READABLE)?;
        let handle = Handle { commands: sender, waker: Arc::new(Waker::new(poll.registry(), COMMAND)?) };
        let shard = Self {
            socket,
            poll,
            events: Events::with_capacity(16),
            registered,
            broker,
            log: EventLog::default(),
            reporter,
            values,
            commands,
            epoch,
            out,
            siblings: Vec::new(),
            own: 0,
            relays: Vec::new(),
            draining: false,
            unsendable: 0,
        };
        Ok((shard, handle))
    }

    /// Forgets what came before all shards had their sockets: it may belong to another one, and is sent again.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn discard(&mut self) -> io::Result<()> {
        while self.socket.recv(|_, _| {})? {}
        Ok(())
    }

    /// Names all shards of the server, of which this is number `own`.
    pub(crate) fn join(&mut self, own: usize, all: &[Handle]) {
        self.own = own;
        self.siblings = all.to_vec();
        self.relays = all.iter().map(|_| Vec::new()).collect();
    }

    /// Serves until it is told to stop, or to drain and has done so. The socket is to live until all shards have ended:
    /// without it the system would give its peers' datagrams to others. Nobody waits for commands any more.
    pub(crate) fn run(mut self) -> Socket {
        self.serve();
        if let Some(values) = self.values.take() {
            values.finish(&self.broker);
        }
        self.socket
    }

    fn serve(&mut self) {
        // The poller tells of what is new only, so the socket is read until it is empty.
        let mut busy = true;
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop) => return,
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            busy = busy && self.receive();
            let now = self.now();
            self.broker.handle_timeout(now);
            self.log.handle_timeout(now);
            self.log_events();
            busy |= self.transmit();
            self.relay();
            self.log_events();
            if let Some(values) = &mut self.values {
                values.look_at(&self.broker);
            }
            if self.draining && self.broker.is_drained() {
                return;
            }
            if !busy {
                let deadline = [self.broker.poll_timeout().map(|deadline| deadline.at), self.log.poll_timeout()];
                let wait = deadline.into_iter().flatten().min().map(|at| {
                    let at = self.epoch + StdDuration::from_micros(at.as_micros());
                    at.saturating_duration_since(std::time::Instant::now())
                });
                busy = self.wait(wait);
            }
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Takes in what is there, up to a bound; true if there may be more.
    fn receive(&mut self) -> bool {
        for _ in 0..RECEIVES {
            let now = self.now();
            let broker = &mut self.broker;
            match self.socket.recv(|path, datagram| broker.handle_datagram(now, Client(path), datagram)) {
                Ok(false) => {
                    self.emptied();
                    return false;
                }
                Ok(true) => {}
                Err(error) => {
                    tracing::warn!(%error, "receiving failed");
                    std::thread::sleep(PAUSE);
                    return true;
                }
            }
        }
        true
    }

    /// Lets the poller know that the socket was read until it was empty: on Windows it tells of nothing more before.
    fn emptied(&self) {
        let _ = self.registered.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }

    /// Sends what is due; true if the socket may have become readable meanwhile.
    fn transmit(&mut self) -> bool {
        let mut readable = false;
        while let Some(transmit) = self.broker.poll_transmit(self.now(), &mut self.out) {
            loop {
                match self.socket.sender().send(transmit.to.0, &self.out[..transmit.len], transmit.segment) {
                    Ok(()) => break,
                    // The socket is full: that is back-pressure, not loss.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.watch(Interest::READABLE | Interest::WRITABLE);
                        self.wait(Some(PAUSE));
                        self.watch(Interest::READABLE);
                        readable = true;
                    }
                    Err(error) if is_too_long(&error) => {
                        let len = transmit.segment.unwrap_or(transmit.len);
                        self.broker.on_too_long(self.now(), transmit.to, len);
                        break;
                    }
                    Err(_) if transmit.asks => break,
                    Err(error) => {
                        // KCP sends again what matters; a peer that cannot be reached times out.
                        self.unsendable += 1;
                        tracing::debug!(%error, to = %transmit.to, len = transmit.len, "cannot send");
                        break;
                    }
                }
            }
        }
        readable
    }

    /// Tells the other shards what there is to tell.
    fn relay(&mut self) {
        while let Some((to, forward)) = self.broker.poll_forward() {
            if let Some(sibling) = self.siblings.get(to) {
                sibling.send(Command::Forward(Box::new(forward)));
            }
        }
        while let Some((to, relay)) = self.broker.poll_relay() {
            if let Some(relays) = self.relays.get_mut(to) {
                relays.push(relay);
            }
        }
        for (relays, sibling) in self.relays.iter_mut().zip(&self.siblings).filter(|(relays, _)| !relays.is_empty()) {
            // One that has ended stops with the server, and its sessions with it.
            sibling.send(Command::Relays(self.own, std::mem::take(relays)));
        }
    }

    /// Chooses what of the socket is waited for. Room to send is of interest only when there was none: it comes after
    /// each datagram.
    fn watch(&mut self, interest: Interest) {
        if let Err(error) = self.poll.registry().reregister(&mut self.registered, SOCKET, interest) {
            tracing::warn!(%error, "cannot choose what to wait for");
        }
    }

    /// Waits for the socket, a command, or until the time is over; true if the socket may have become readable.
    fn wait(&mut self, timeout: Option<StdDuration>) -> bool {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "waiting for the socket failed");
                std::thread::sleep(PAUSE);
                return true;
            }
        }
        self.events.iter().any(|event| event.token() == SOCKET)
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Snapshot(reply) => {
                let snapshot = Snapshot {
                    broker: self.broker.stats(),
                    transport: self.broker.transport(),
                    fec: self.broker.fec(),
                    unsendable: self.unsendable,
                };
                // Whoever asked may have gone.
                let _ = reply.send(snapshot);
            }
            Command::Counters(reply) => {
                let _ = reply.send(self.counters());
            }
            Command::Sessions(from, reply) => {
                let _ = reply.send(self.sessions(from));
            }
            Command::Patterns(from, reply) => {
                let _ = reply.send(self.patterns(from));
            }
            Command::Kept(from, reply) => {
                let _ = reply.send(self.kept(&from));
            }
            Command::Kick(id, reply) => {
                let now = self.now();
                let _ = reply.send(self.broker.kick(now, id));
            }
            Command::Ping(reply) => {
                let _ = reply.send(());
            }
            Command::Relays(from, relays) => {
                let now = self.now();
                for relay in relays {
                    self.broker.handle_relay(now, from, relay);
                }
            }
            Command::Forward(forward) => self.broker.handle_forward(self.now(), *forward),
            Command::SetAccess(access) => {
                let now = self.now();
                if let Err(error) = self.broker.set_access(now, access.as_deref()) {
                    tracing::error!(%error, "the rules of who may do what stay as they were");
                }
            }
            Command::Stop => {}
            #[cfg(test)]
            Command::Panic => panic!("as it was told"),
            // A second time it would begin its time anew.
            Command::Drain if self.draining => {}
            Command::Drain => {
                let now = self.now();
                self.broker.drain(now);
                self.draining = true;
            }
        }
    }

    fn log_events(&mut self) {
        while let Some(event) = self.broker.poll_event() {
            if let Some(reporter) = &self.reporter {
                reporter.tell(&event);
            }
            let now = self.now();
            self.log.write(now, event);
        }
    }
}
