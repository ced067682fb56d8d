//! One thread with a broker and its socket, and how threads tell each other of messages.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, TryRecvError};
use std::time::Duration as StdDuration;

use kcpq_core::Instant;
use kcpq_core::access::Access;
use kcpq_core::broker::{Broker, Forward, KeptCursor, PatternCursor, Relay, SessionCursor, SessionId, Transmit};
use kcpq_core::store::Gather;
use kcpq_udp::{Socket, is_too_long};
use mio::{Events, Interest, Poll, Token};

use crate::events::EventLog;
use crate::handle::{Commands, Handle};
use crate::peer::Client;
use crate::register::Reporter;
use crate::server::Snapshot;
use crate::stream::{self, Streams};
use crate::values;
use crate::view::{BackboneView, Counters, KeptPage, PatternPage, SessionPage, StreamView};

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
    /// Say how it is with the backbone; for the thread that has it.
    Backbone(Sender<BackboneView>),
    /// Say which streams there are behind it, or why that is not known; likewise.
    Streams(Sender<Result<Vec<StreamView>, String>>),
    /// Say that the thread works.
    Ping(Sender<()>),
    /// Replace the rules of who may do what by these, which have been checked.
    SetAccess(Option<Arc<Access>>),
    /// Open no more sessions, and let those go over this time that can be told to.
    HandOver(StdDuration),
    /// End all sessions, then the thread.
    Drain,
    /// End the thread.
    Stop,
    /// Take in what another shard tells.
    Relays(usize, Vec<Relay>),
    /// Take in a datagram that came to another shard.
    Forward(Box<Forward<Client>>),
    /// Serve a client over a stream.
    OpenStream(Box<stream::Opening>),
    /// Something has become of a stream.
    Stream(u64, stream::Change),
    /// Fail as a defect would.
    #[cfg(test)]
    Panic,
}

/// Receive calls in one turn, and datagrams after which there is no further one, so that a flood cannot keep timers,
/// commands and those who are to be sent something waiting.
const RECEIVES: usize = 8;
const DATAGRAMS: usize = 512;
/// Most bytes in one call: what the length of a UDP datagram can tell, less the headers.
const MAX_BATCH: usize = 65_000;
/// The wait after an error of the socket that says nothing about a peer, so that it cannot become a busy loop; and the
/// longest for room in a full one.
const PAUSE: StdDuration = StdDuration::from_millis(50);

/// A socket of a shard: it has one for each address that the server listens on.
struct Listener {
    socket: Socket,
    /// The socket again, as the poller knows it.
    registered: mio::net::UdpSocket,
    /// There may be something to read. The poller tells of what is new only, so the socket is read until it is empty.
    readable: bool,
}

impl Listener {
    /// Lets the poller know that the socket was read until it was empty: on Windows it tells of nothing more before.
    fn emptied(&mut self) {
        self.readable = false;
        let _ = self.registered.try_io(|| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// A thread that waits for its sockets, its timers and its commands by itself: a reactor shared with other threads would
/// hand each datagram from one to the other.
pub(crate) struct Shard {
    listeners: Vec<Listener>,
    poll: Poll,
    events: Events,
    pub(crate) broker: Broker<Client>,
    log: EventLog,
    /// Keeps note of who has sessions, for the next life of the server.
    reporter: Option<Reporter>,
    /// Tells when the last values of subjects have changed.
    values: Option<values::Reporter>,
    commands: Commands,
    epoch: std::time::Instant,
    out: Vec<u8>,
    /// What of the datagrams in `out` lies elsewhere, if the system takes it from there.
    gather: Gather,
    gathers: bool,
    /// The other shards of the server, and which of all this one is; what is to be told to each.
    siblings: Vec<Handle>,
    own: usize,
    relays: Vec<Vec<Relay>>,
    pub(crate) streams: Streams,
    draining: bool,
    /// Datagrams that the system refused to send.
    pub(crate) unsendable: u64,
    /// For how long it looks for something to do before it sleeps.
    pub(crate) spin: StdDuration,
}

impl Shard {
    /// # Errors
    /// The system's, when it has no way to wait for the sockets.
    pub(crate) fn new(
        sockets: Vec<Socket>,
        broker: Broker<Client>,
        epoch: std::time::Instant,
        max_datagram: u16,
        reporter: Option<Reporter>,
        values: Option<values::Reporter>,
    ) -> io::Result<(Self, Handle)> {
        let segments = sockets.iter().map(Socket::max_segments).min().unwrap_or(1);
        let gathers = sockets.iter().all(|socket| socket.sender().gathers());
        let batch = usize::from(max_datagram) * segments;
        let out = vec![0; batch.min(MAX_BATCH.max(usize::from(max_datagram)))];
        let poll = Poll::new()?;
        let mut listeners = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets.into_iter().enumerate() {
            let mut registered = mio::net::UdpSocket::from_std(socket.socket().try_clone()?);
            poll.registry().register(&mut registered, Token(index), Interest::READABLE)?;
            listeners.push(Listener { socket, registered, readable: true });
        }
        let (handle, commands) = Handle::new(&poll)?;
        let shard = Self {
            listeners,
            poll,
            events: Events::with_capacity(16),
            broker,
            log: EventLog::default(),
            reporter,
            values,
            commands,
            epoch,
            out,
            gather: Gather::default(),
            gathers,
            siblings: Vec::new(),
            own: 0,
            relays: Vec::new(),
            streams: Streams::default(),
            draining: false,
            unsendable: 0,
            spin: StdDuration::ZERO,
        };
        Ok((shard, handle))
    }

    /// Forgets what came before all shards had their sockets: it may belong to another one, and is sent again.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn discard(&mut self) -> io::Result<()> {
        for Listener { socket, .. } in &mut self.listeners {
            while socket.recv(|_, _| {})? {}
        }
        Ok(())
    }

    /// Names all shards of the server, of which this is number `own`, and behind them the thread of the backbone, if there is
    /// one.
    pub(crate) fn join(&mut self, own: usize, all: &[Handle]) {
        self.own = own;
        self.siblings = all.to_vec();
        self.relays = all.iter().map(|_| Vec::new()).collect();
    }

    /// Serves until it is told to stop, or to drain and has done so. The sockets are to live until all shards have ended:
    /// without them the system would give their peers' datagrams to others. Nobody waits for commands any more.
    pub(crate) fn run(mut self) -> Vec<Socket> {
        self.serve();
        if let Some(values) = self.values.take() {
            values.finish(&self.broker);
        }
        self.sockets()
    }

    fn serve(&mut self) {
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(Command::Stop) => return,
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.receive();
            let now = self.now();
            self.broker.handle_timeout(now);
            self.log.handle_timeout(now);
            self.log_events();
            // What others are to do goes to them before this one sends: they can do so at the same time.
            self.relay();
            self.transmit();
            self.feed_streams();
            self.relay();
            self.log_events();
            if let Some(values) = &mut self.values {
                values.look_at(&self.broker);
            }
            if self.draining && self.broker.is_drained() {
                return;
            }
            self.rest();
        }
    }

    /// Waits for something to do, unless there is: then it only looks at the addresses of which nothing is known, so that a
    /// flood at one keeps nobody from another.
    fn rest(&mut self) {
        if self.listeners.iter().all(|listener| !listener.readable) {
            let deadline = [self.broker.poll_timeout().map(|deadline| deadline.at), self.log.poll_timeout()];
            let mut wait = deadline.into_iter().flatten().min().map(|at| {
                let at = self.epoch + StdDuration::from_micros(at.as_micros());
                at.saturating_duration_since(std::time::Instant::now())
            });
            if !self.commands.may_sleep() {
                self.wait(Some(StdDuration::ZERO));
            } else if !self.find_work(&mut wait) {
                self.wait(wait);
            }
            self.commands.wakes();
        } else if self.listeners.iter().any(|listener| !listener.readable) {
            self.wait(Some(StdDuration::ZERO));
        }
    }

    /// Looks again and again for a while, if that is wanted, because to be woken takes longer. True if there is something to
    /// do; otherwise `wait` is what is left of it.
    fn find_work(&mut self, wait: &mut Option<StdDuration>) -> bool {
        if self.spin.is_zero() {
            return false;
        }
        let spin = wait.map_or(self.spin, |wait| wait.min(self.spin));
        let begun = std::time::Instant::now();
        loop {
            // At least once: what is to be done at once may be what a turn has left, and somebody else's is the next.
            self.wait(Some(StdDuration::ZERO));
            if !self.events.is_empty() {
                return true;
            }
            if begun.elapsed() >= spin {
                break;
            }
            // Where others have to wait for a processor they go first.
            std::thread::yield_now();
        }
        *wait = wait.map(|wait| wait.saturating_sub(begun.elapsed()));
        *wait == Some(StdDuration::ZERO)
    }

    fn sockets(self) -> Vec<Socket> {
        self.listeners.into_iter().map(|listener| listener.socket).collect()
    }

    pub(crate) fn now(&self) -> Instant {
        now(self.epoch)
    }

    /// Takes in what is there, up to a bound for each address.
    fn receive(&mut self) {
        let Self { listeners, broker, epoch, .. } = self;
        for (index, listener) in listeners.iter_mut().enumerate() {
            let mut datagrams = 0;
            for _ in 0..RECEIVES {
                if !listener.readable || datagrams >= DATAGRAMS {
                    break;
                }
                let now = now(*epoch);
                let each = |path, datagram: &mut [u8]| {
                    datagrams += 1;
                    broker.handle_datagram(now, Client { path, listener: index as u8 }, datagram);
                };
                match listener.socket.recv(each) {
                    Ok(true) => {}
                    Ok(false) => listener.emptied(),
                    Err(error) => {
                        tracing::warn!(%error, "receiving failed");
                        std::thread::sleep(PAUSE);
                        break;
                    }
                }
            }
        }
    }

    /// Sends what is due.
    fn transmit(&mut self) {
        while let Some(transmit) = self.poll_transmit() {
            // Who came to an address that the server does not listen on any more is not told.
            while let Some(Listener { socket, .. }) = self.listeners.get(usize::from(transmit.to.listener)) {
                let datagrams = self.gather.slices(&self.out[..transmit.len]);
                match socket.sender().send_slices(transmit.to.path, datagrams, transmit.segment) {
                    Ok(()) => break,
                    // The socket is full: that is back-pressure, not loss.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.watch(transmit.to, Interest::READABLE | Interest::WRITABLE);
                        self.wait(Some(PAUSE));
                        self.watch(transmit.to, Interest::READABLE);
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
    }

    /// Lets the broker write what is due to the front of `out`, but for what the system takes from where it lies.
    fn poll_transmit(&mut self) -> Option<Transmit<Client>> {
        let now = self.now();
        if self.gathers {
            self.broker.poll_transmit_gather(now, &mut self.out, &mut self.gather)
        } else {
            self.broker.poll_transmit(now, &mut self.out)
        }
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

    /// Chooses what is waited for of the socket by which a client came. Room to send is of interest only when there was
    /// none: it comes after each datagram.
    fn watch(&mut self, client: Client, interest: Interest) {
        let index = usize::from(client.listener);
        let Some(Listener { registered, .. }) = self.listeners.get_mut(index) else { return };
        if let Err(error) = self.poll.registry().reregister(registered, Token(index), interest) {
            tracing::warn!(%error, "cannot choose what to wait for");
        }
    }

    /// Waits for the sockets, a command, or until the time is over.
    fn wait(&mut self, timeout: Option<StdDuration>) {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "waiting for the socket failed");
                std::thread::sleep(PAUSE);
                self.listeners.iter_mut().for_each(|listener| listener.readable = true);
                return;
            }
        }
        for event in &self.events {
            if let Some(listener) = self.listeners.get_mut(event.token().0) {
                listener.readable = true;
            }
        }
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
            Command::OpenStream(opening) => self.open_stream(*opening),
            Command::Stream(key, change) => self.change_stream(key, change),
            Command::Forward(forward) => self.broker.handle_forward(self.now(), *forward),
            Command::SetAccess(access) => {
                let now = self.now();
                if let Err(error) = self.broker.set_access(now, access.as_deref()) {
                    tracing::error!(%error, "the rules of who may do what stay as they were");
                }
            }
            // Another thread's; who asked hears that there is nobody.
            Command::Backbone(reply) => drop(reply),
            Command::Streams(reply) => drop(reply),
            Command::Stop => {}
            #[cfg(test)]
            Command::Panic => panic!("as it was told"),
            Command::HandOver(over) => {
                let now = self.now();
                self.broker.hand_over(now, over.into());
            }
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

/// The time since then.
pub(crate) fn now(epoch: std::time::Instant) -> Instant {
    Instant::from_micros(u64::try_from(epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use kcpq_core::broker;

    use super::*;

    /// On as many addresses of this machine.
    fn shard(listeners: usize) -> (Shard, Handle) {
        let sockets = (0..listeners).map(|_| Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap()).collect();
        let broker = Broker::new(broker::Config::default(), 1);
        Shard::new(sockets, broker, std::time::Instant::now(), 1_400, None, None).unwrap()
    }

    #[test]
    fn a_thread_that_spins_finds_what_comes_and_does_not_sleep_over_its_timers() {
        let (mut shard, handle) = shard(1);
        shard.receive();
        let hour = StdDuration::from_secs(3_600);
        let mut wait = Some(hour);
        assert!(!shard.find_work(&mut wait) && wait == Some(hour), "it sleeps unless it is told otherwise");
        shard.spin = StdDuration::from_millis(1);
        assert!(!shard.find_work(&mut None), "there was nothing");
        assert!(
            !shard.find_work(&mut wait) && wait.unwrap() <= hour - shard.spin,
            "it sleeps no longer than its timer"
        );
        shard.spin = hour;
        assert!(shard.find_work(&mut Some(StdDuration::from_micros(1))), "a timer has run out");
        let addr = shard.listeners[0].socket.local_addr().unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 30], addr).unwrap();
        assert!(shard.find_work(&mut None) && shard.listeners[0].readable);
        shard.receive();
        handle.send(Command::Stop);
        assert!(shard.find_work(&mut None) && !shard.listeners[0].readable, "a command is something to do");
        // Something is to be done at once: what has come meanwhile is seen all the same.
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 30], addr).unwrap();
        assert!(shard.find_work(&mut Some(StdDuration::ZERO)) && shard.listeners[0].readable);
    }

    #[test]
    fn an_address_with_much_to_read_keeps_nobody_from_another() {
        let (mut shard, _handle) = shard(2);
        let quiet = shard.listeners[1].socket.local_addr().unwrap();
        shard.receive();
        assert!(shard.listeners.iter().all(|listener| !listener.readable), "both are empty");
        shard.listeners[0].readable = true;
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 30], quiet).unwrap();
        shard.rest();
        assert!(shard.listeners[1].readable);
        shard.receive();
        let stats = shard.broker.stats();
        assert_eq!((stats.malformed_datagrams + stats.stray_datagrams, shard.listeners[1].readable), (1, false));
    }
}
