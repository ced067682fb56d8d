//! One thread with a broker and its socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration as StdDuration;

use async_channel::{Receiver, Sender, TryRecvError};
use async_io::Timer;
use futures_lite::future::{or, pending};
use kcpq_core::Instant;
use kcpq_core::broker::{Broker, Event};

use crate::server::Snapshot;
use kcpq_smol::udp::Udp;

/// What a shard is asked to do.
pub(crate) enum Command {
    /// Send a snapshot of the counters.
    Snapshot(Sender<Snapshot>),
    /// End all sessions, then the thread.
    Drain,
}

/// Receive calls in one turn, so that a flood cannot keep timers and commands waiting.
const RECEIVES: usize = 8;
/// Most bytes in one call: what the length of a UDP datagram can tell, less the headers.
const MAX_BATCH: usize = 65_000;
/// The wait after an error of the socket that says nothing about a peer, so that it cannot become a busy loop.
const PAUSE: StdDuration = StdDuration::from_millis(50);

pub(crate) struct Shard {
    udp: Udp,
    broker: Broker<SocketAddr>,
    commands: Receiver<Command>,
    epoch: std::time::Instant,
    out: Vec<u8>,
    draining: bool,
    /// Datagrams that the system refused to send.
    unsendable: u64,
}

/// Why a turn began.
enum Wake {
    Socket(io::Result<()>),
    Timer,
    Command(Option<Command>),
}

impl Shard {
    pub(crate) fn new(udp: Udp, broker: Broker<SocketAddr>, commands: Receiver<Command>, max_datagram: u16) -> Self {
        let batch = usize::from(max_datagram) * udp.max_segments().max(1);
        let out = vec![0; batch.min(MAX_BATCH.max(usize::from(max_datagram)))];
        Self { udp, broker, commands, epoch: std::time::Instant::now(), out, draining: false, unsendable: 0 }
    }

    /// Serves until it is told to drain and has done so, or nobody can tell it anything any more.
    pub(crate) async fn run(mut self) {
        loop {
            let busy = self.receive().await;
            self.broker.handle_timeout(self.now());
            self.log_events();
            self.transmit().await;
            self.log_events();
            if self.draining && self.broker.sessions() == 0 {
                return;
            }
            if busy {
                match self.commands.try_recv() {
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Closed) => return,
                }
                continue;
            }
            match self.wait().await {
                Wake::Socket(Ok(())) | Wake::Timer => {}
                Wake::Socket(Err(error)) => {
                    tracing::warn!(%error, "waiting for the socket failed");
                    Timer::after(PAUSE).await;
                }
                Wake::Command(Some(command)) => self.command(command),
                Wake::Command(None) => return,
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Takes in what is there, up to a bound; true if there may be more.
    async fn receive(&mut self) -> bool {
        for _ in 0..RECEIVES {
            let now = self.now();
            let broker = &mut self.broker;
            match self.udp.recv(|from, datagram| broker.handle_datagram(now, from, datagram)) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "receiving failed");
                    Timer::after(PAUSE).await;
                    return false;
                }
            }
        }
        true
    }

    async fn transmit(&mut self) {
        while let Some(transmit) = self.broker.poll_transmit(self.now(), &mut self.out) {
            let contents = &self.out[..transmit.len];
            loop {
                match self.udp.send(transmit.to, contents, transmit.segment) {
                    Ok(()) => break,
                    // The socket is full: that is back-pressure, not loss.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.udp.writable().await.is_err() {
                            break;
                        }
                    }
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

    async fn wait(&mut self) -> Wake {
        let deadline = self.broker.poll_timeout().map(|deadline| {
            let at = self.epoch + StdDuration::from_micros(deadline.at.as_micros());
            Timer::at(at)
        });
        let timer = async {
            match deadline {
                Some(timer) => {
                    timer.await;
                    Wake::Timer
                }
                None => pending().await,
            }
        };
        let socket = async { Wake::Socket(self.udp.readable().await) };
        let command = async { Wake::Command(self.commands.recv().await.ok()) };
        or(socket, or(timer, command)).await
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
                let _ = reply.try_send(snapshot);
            }
            Command::Drain => {
                let now = self.now();
                self.broker.drain(now);
                self.draining = true;
            }
        }
    }

    fn log_events(&mut self) {
        while let Some(event) = self.broker.poll_event() {
            match event {
                Event::Opened { id, peer } => tracing::info!(session = %id, %peer, "session opened"),
                Event::Greeted { id, version } => tracing::debug!(session = %id, version, "native client"),
                Event::Closed { id, peer, why, undelivered } => {
                    tracing::info!(session = %id, %peer, undelivered, "session closed: {why}");
                }
                Event::Refused { peer } => tracing::warn!(%peer, "session refused: too many"),
                Event::Slow { id, peer } => tracing::warn!(session = %id, %peer, "subscriber does not keep up"),
                _ => {}
            }
        }
    }
}
