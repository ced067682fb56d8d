//! The one task of a client: moves datagrams between the socket and the core, and gives it the time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::{or, yield_now};
use kcpq_core::Instant;
use kcpq_core::client::{State, Transmit};
use kcpq_udp::{is_about_peer, is_too_long};

use crate::shared::Shared;
use crate::udp::Udp;

/// Receive calls in one turn, so that a flood cannot keep timers and senders waiting.
const RECEIVES: usize = 4;
/// Transmissions in one turn, for the same reason.
const TRANSMITS: usize = 64;
/// The wait after an error of the socket, so that it cannot become a busy loop.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest UDP payload, and so the longest batch of datagrams that one call sends.
const MAX_BATCH: usize = 65_507;

/// Where the server may be: the addresses that its name stands for, and which of them is tried.
pub(crate) struct Route {
    addrs: Vec<SocketAddr>,
    at: usize,
    /// Addresses that were not tried yet in this attempt to connect.
    left: usize,
    /// A server answered at the present address.
    answered: bool,
}

impl Route {
    /// `addrs` is not empty.
    pub(crate) fn new(addrs: Vec<SocketAddr>) -> Self {
        let left = addrs.len().saturating_sub(1);
        Self { addrs, at: 0, left, answered: false }
    }

    /// A socket for the present address; if the system has no way there, for the next one that has not been tried.
    ///
    /// # Errors
    /// The system's, about the last address tried.
    pub(crate) fn open(&mut self) -> io::Result<Udp> {
        loop {
            match Udp::connect(self.addr()) {
                Err(_) if self.advance() => {}
                result => return result,
            }
        }
    }

    fn addr(&self) -> SocketAddr {
        self.addrs.get(self.at).copied().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Another attempt begins: where a server answered, and otherwise one address further on.
    fn begin(&mut self) {
        self.left = self.addrs.len();
        if !std::mem::take(&mut self.answered) {
            self.advance();
        }
        self.left = self.addrs.len().saturating_sub(1);
    }

    /// On to the next address; false when all have been tried.
    fn advance(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.at = (self.at + 1) % self.addrs.len().max(1);
        true
    }
}

pub(crate) struct Runner {
    shared: Arc<Shared>,
    udp: Udp,
    /// Where the socket sends to.
    server: SocketAddr,
    route: Route,
    /// The conversation that the socket was opened for.
    conversation: u32,
    out: Vec<u8>,
    /// Wakes the runner when it sleeps, and when that is. It is set anew only for an earlier moment, or when it has run
    /// out: each setting costs a system call and the waking of whoever waits for all timers.
    timer: Timer,
    alarm: Option<Instant>,
}

impl Runner {
    /// `udp` is from `route`.
    pub(crate) fn new(shared: Arc<Shared>, udp: Udp, route: Route) -> Self {
        let server = route.addr();
        let conversation = {
            let mut state = shared.lock();
            state.direct.renew(&udp, server);
            state.core.conversation()
        };
        Self { shared, udp, server, route, conversation, out: vec![0; MAX_BATCH], timer: Timer::never(), alarm: None }
    }

    /// Runs until the client has closed.
    pub(crate) async fn run(mut self) {
        loop {
            let received = self.receive().await;
            if self.turn() {
                return;
            }
            self.renew_socket();
            let sent = self.transmit().await;
            if received || sent {
                // There may be more; others on this thread come first.
                yield_now().await;
            } else {
                self.sleep().await;
            }
        }
    }

    /// Takes in what is there, up to a bound; true if there may be more.
    async fn receive(&mut self) -> bool {
        for _ in 0..RECEIVES {
            match self.receive_batch() {
                Ok(false) => return false,
                Ok(true) => {}
                Err(error) if is_about_peer(&error) => self.refused(),
                Err(_) => {
                    // Nothing of the peer's; the core's timers decide what becomes of the session.
                    Timer::after(PAUSE).await;
                    return false;
                }
            }
        }
        true
    }

    /// Takes in what one system call gives, and says whether there may be more; the lock is taken once for all of it.
    fn receive_batch(&mut self) -> io::Result<bool> {
        let shared = &self.shared;
        let mut state = None;
        self.udp.socket.recv(|_, datagram| {
            let state = state.get_or_insert_with(|| shared.lock());
            shared.receive(state, datagram);
        })
    }

    /// The system says that nobody listens there: a hint for the core, or a reason to try the server's next address.
    fn refused(&mut self) {
        if !self.try_next_address() {
            let now = self.shared.now();
            self.shared.lock().core.suspect(now);
        }
    }

    /// While connecting, goes on with the server's next address. False when there is none.
    fn try_next_address(&mut self) -> bool {
        let connecting = matches!(self.shared.lock().core.state(), State::Connecting { .. });
        let next = connecting && self.route.advance();
        if next {
            self.open_socket();
        }
        next
    }

    /// Lets the core's timers run out and hands out what there is to tell; true once the client has closed.
    fn turn(&mut self) -> bool {
        let mut state = self.shared.lock();
        state.asked = false;
        let now = self.shared.now();
        state.core.handle_timeout(now);
        self.shared.deliver(&mut state);
        self.route.answered |= state.core.is_connected();
        state.closed
    }

    /// Gives a new conversation a socket of its own.
    fn renew_socket(&mut self) {
        let conversation = self.shared.lock().core.conversation();
        if conversation != self.conversation {
            self.conversation = conversation;
            self.route.begin();
            self.open_socket();
        }
    }

    fn open_socket(&mut self) {
        // If there is none to be had, the old one serves as well with a native server.
        if let Ok(udp) = self.route.open() {
            self.udp = udp;
            self.server = self.route.addr();
            self.shared.lock().direct.renew(&self.udp, self.server);
        }
    }

    /// Sends what is due, up to a bound; true if there may be more.
    async fn transmit(&mut self) -> bool {
        let left = self.shared.lock().direct.take_left(&mut self.out);
        if left > 0 {
            self.send(Transmit { len: left, segment: None, asks: false }).await;
        }
        for _ in 0..TRANSMITS {
            let Some(transmit) = self.poll_transmit() else { return false };
            self.send(transmit).await;
        }
        true
    }

    /// Sends what lies in `out`. What the system refuses is counted, and KCP sends again what matters.
    /// Ends: an address is left once, and a full socket empties.
    async fn send(&mut self, Transmit { len, segment, asks }: Transmit) {
        let mut refused = false;
        loop {
            let Some(batch) = self.out.get(..len) else { return };
            match self.udp.socket.sender().send(self.server, batch, segment) {
                Ok(()) => return,
                // The socket is full: that is back-pressure, not loss.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.udp.writable().await.is_err() {
                        Timer::after(PAUSE).await;
                    }
                }
                // The error is about an earlier datagram; this one was not sent because of it.
                Err(error) if is_about_peer(&error) && !refused => {
                    refused = true;
                    self.refused();
                }
                Err(error) if is_too_long(&error) => {
                    let now = self.shared.now();
                    return self.shared.lock().core.on_too_long(now, segment.unwrap_or(len));
                }
                Err(_) if asks => return,
                Err(_) => {
                    self.shared.lock().unsendable += 1;
                    if !self.try_next_address() {
                        return;
                    }
                }
            }
        }
    }

    /// Lets the core write what is due to the front of `out`.
    fn poll_transmit(&mut self) -> Option<Transmit> {
        let mut state = self.shared.lock();
        let now = self.shared.now();
        let transmit = state.core.poll_transmit_batch(now, &mut self.out, self.udp.socket.max_segments());
        self.shared.deliver(&mut state);
        transmit
    }

    /// Waits for the socket, a deadline, or a handle.
    async fn sleep(&mut self) {
        let woken = self.shared.wake.listen();
        let now = self.shared.now();
        let deadline = {
            let mut state = self.shared.lock();
            if state.asked {
                return;
            }
            state.idle = true;
            let deadline = state.core.poll_timeout().map(|deadline| deadline.at);
            state.direct.arm(now, deadline)
        };
        if let Some(deadline) = deadline
            && self.alarm.is_none_or(|alarm| alarm <= now || deadline < alarm)
        {
            self.alarm = Some(deadline);
            self.timer.set_at(self.shared.at(deadline));
        }
        let Self { udp, timer, .. } = self;
        let socket = async {
            if udp.readable().await.is_err() {
                Timer::after(PAUSE).await;
            }
        };
        let timer = async {
            timer.await;
        };
        or(woken, or(socket, timer)).await;
        self.shared.lock().idle = false;
    }
}
