//! The one task of a client: moves datagrams between the socket and the core, and gives it the time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::{or, pending, yield_now};

use crate::shared::Shared;
use crate::udp::Udp;

/// Receive calls in one turn, so that a flood cannot keep timers and senders waiting.
const RECEIVES: usize = 4;
/// Transmissions in one turn, for the same reason.
const TRANSMITS: usize = 64;
/// The wait after an error of the socket, so that it cannot become a busy loop.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Runner {
    shared: Arc<Shared>,
    udp: Udp,
    server: SocketAddr,
    /// The conversation that the socket was opened for.
    conversation: u32,
    max_datagram: usize,
    out: Vec<u8>,
}

impl Runner {
    pub(crate) fn new(shared: Arc<Shared>, udp: Udp, server: SocketAddr, max_datagram: u16) -> Self {
        let conversation = shared.lock().core.conversation();
        let max_datagram = usize::from(max_datagram);
        let out = vec![0; max_datagram * udp.max_segments().max(1)];
        Self { shared, udp, server, conversation, max_datagram, out }
    }

    /// Runs until the client has closed.
    pub(crate) async fn run(mut self) {
        loop {
            let received = self.receive().await;
            let more = self.timers();
            if !more {
                return;
            }
            self.renew_socket();
            let sent = self.transmit().await;
            if received || sent {
                // There may be more; others on this thread come first.
                yield_now().await;
                continue;
            }
            self.sleep().await;
        }
    }

    /// Takes in what is there, up to a bound; true if there may be more.
    async fn receive(&mut self) -> bool {
        for _ in 0..RECEIVES {
            match self.receive_batch() {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.refused(),
                Err(_) => {
                    // Nothing of the peer's; the core's timers decide what becomes of the session.
                    Timer::after(PAUSE).await;
                    return false;
                }
            }
        }
        true
    }

    /// Takes in what one system call gives; the lock is taken once for all of it.
    fn receive_batch(&mut self) -> io::Result<usize> {
        let shared = &self.shared;
        let mut state = None;
        self.udp.recv(|_, datagram| {
            let state = state.get_or_insert_with(|| shared.lock());
            state.core.handle_datagram(shared.now(), datagram);
            shared.deliver(state);
        })
    }

    /// The system says that nobody listens there: a hint.
    fn refused(&self) {
        let now = self.shared.now();
        self.shared.lock().core.suspect(now);
    }

    /// Lets the core's timers run out; false once the client has closed.
    fn timers(&self) -> bool {
        let mut state = self.shared.lock();
        let now = self.shared.now();
        state.core.handle_timeout(now);
        self.shared.deliver(&mut state);
        !state.closed
    }

    /// Gives a new conversation a socket of its own.
    fn renew_socket(&mut self) {
        let conversation = self.shared.lock().core.conversation();
        if conversation != self.conversation {
            // If there is none to be had the old one serves as well, with a native server.
            if let Ok(udp) = Udp::connect(self.server) {
                self.udp = udp;
            }
            self.conversation = conversation;
        }
    }

    /// Sends what is due, up to a bound; true if there may be more.
    async fn transmit(&mut self) -> bool {
        for _ in 0..TRANSMITS {
            let (len, segment) = self.fill();
            if len == 0 {
                return false;
            }
            loop {
                match self.udp.send(self.server, &self.out[..len], segment) {
                    Ok(()) => break,
                    // The socket is full: that is back-pressure, not loss.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if self.udp.writable().await.is_err() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        self.refused();
                        break;
                    }
                    // KCP sends again what matters.
                    Err(_) => break,
                }
            }
        }
        true
    }

    /// Collects datagrams of one length, the last one may be shorter. Returns the bytes, and the length of each if there
    /// are several.
    fn fill(&mut self) -> (usize, Option<usize>) {
        let mut state = self.shared.lock();
        let now = self.shared.now();
        let (mut len, mut first) = (0, 0);
        while len + self.max_datagram <= self.out.len() {
            let room = &mut self.out[len..len + self.max_datagram];
            let Some(written) = state.core.poll_transmit(now, room) else { break };
            first = if len == 0 { written } else { first };
            len += written;
            if written < first || written < state.core.max_datagram() {
                break;
            }
        }
        self.shared.deliver(&mut state);
        (len, (len > first).then_some(first))
    }

    /// Waits for the socket, a deadline, or a handle.
    async fn sleep(&self) {
        let woken = self.shared.wake.listen();
        let deadline = {
            let mut state = self.shared.lock();
            state.idle = true;
            state.core.poll_timeout()
        };
        let socket = async {
            if self.udp.readable().await.is_err() {
                Timer::after(PAUSE).await;
            }
        };
        let timer = async {
            match deadline {
                Some(deadline) => {
                    Timer::at(self.shared.at(deadline.at)).await;
                }
                None => pending().await,
            }
        };
        or(woken, or(socket, timer)).await;
        self.shared.lock().idle = false;
    }
}
