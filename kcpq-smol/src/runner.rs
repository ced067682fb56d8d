//! The one task of a client: moves datagrams between the socket and the core, and gives it the time.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use event_listener::EventListener;
use futures_lite::future::{or, yield_now};
use kcpq_core::Instant;
use kcpq_core::client::{Disconnect, State, Transmit};
use kcpq_core::hello::CloseReason;
use kcpq_core::store::Gather;
use kcpq_udp::{Socket, is_about_peer, is_too_long};

use crate::events::Event;
use crate::own::Own;
use crate::paths::{Path, Paths};
use crate::route::Route;
use crate::scratch::Scratch;
use crate::shared::Shared;
use crate::udp::is_about_source;

/// How long messages gather that are published as fast as they are sent.
const GATHER: kcpq_core::Duration = kcpq_core::Duration::from_micros(50);
/// Receive calls in one turn, so that a flood cannot keep timers and senders waiting.
const RECEIVES: usize = 4;
/// Transmissions in one turn, for the same reason.
const TRANSMITS: usize = 64;
/// The wait after an error of the socket, so that it cannot become a busy loop.
const PAUSE: Duration = Duration::from_millis(50);
/// When names that stand for nothing are looked up again, if there is no other address.
const LOOK_UP: kcpq_core::Duration = kcpq_core::Duration::from_secs(2);
/// Servers that one that stops can send its clients to.
const SUCCESSORS: usize = 16;

pub(crate) struct Runner {
    shared: Arc<Shared>,
    route: Route,
    paths: Paths,
    /// The conversation that the sockets were opened for.
    conversation: u32,
    /// The names are being looked up, or have been, since the last attempt.
    looked_up: bool,
    /// When names that stand for nothing are looked up again.
    look_up_at: Option<Instant>,
    /// More is published as fast as it is sent: it gathers for a moment.
    gathers: bool,
    /// What of the datagrams that are being sent lies elsewhere.
    gather: Gather,
    /// Wakes the runner when it sleeps, and when that is. It is set anew only for an earlier moment, or when it has run
    /// out: each setting costs a system call and the waking of whoever waits for all timers.
    timer: Timer,
    alarm: Option<Instant>,
    /// How it waits instead, if it has a thread to itself.
    own: Option<Own>,
}

impl Runner {
    /// With `paths` on which the present attempt to connect has begun; none if there is no address yet.
    pub(crate) fn new(shared: Arc<Shared>, route: Route, paths: Paths, own: Option<Own>) -> Self {
        let conversation = shared.lock().core.conversation();
        let look_up_at = (!route.is_known()).then_some(Instant::ZERO);
        let (gather, timer) = (Gather::default(), Timer::never());
        let mut runner = Self {
            shared,
            route,
            paths,
            conversation,
            looked_up: false,
            look_up_at,
            gathers: false,
            gather,
            timer,
            alarm: None,
            own,
        };
        runner.tell_sender();
        runner
    }

    /// Runs until the client has closed.
    pub(crate) async fn run(mut self) {
        loop {
            let received = self.receive().await;
            let closed = self.turn();
            self.renew_paths();
            let sent = self.transmit().await;
            if closed {
                return;
            }
            self.follow_address();
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
            let Some(path) = self.paths.settled() else { return self.receive_first() };
            match receive_batch(&self.shared, path) {
                Ok(Batch { more: true, .. }) => {}
                Ok(Batch { alone, .. }) => {
                    if alone && self.own.is_none() {
                        // Who waits for it has it before its acknowledgement is made.
                        yield_now().await;
                    }
                    return false;
                }
                Err(error) if is_about_peer(&error) => {
                    self.refused(0);
                }
                Err(_) => {
                    // Nothing of the peer's; the core's timers decide what becomes of the session.
                    Timer::after(PAUSE).await;
                    return false;
                }
            }
        }
        true
    }

    /// The same while several addresses are tried: whoever answers first is it.
    fn receive_first(&mut self) -> bool {
        let (mut index, mut more) = (0, false);
        while let Some(path) = self.paths.get_mut(index) {
            let received = receive_batch(&self.shared, path);
            if self.shared.lock().core.last_heard().is_some() {
                self.paths.settle(index);
                self.tell_sender();
                return true;
            }
            let about_peer = received.as_ref().is_err_and(is_about_peer);
            // The socket behind it has its index then.
            if !(about_peer && self.refused(index)) {
                index += 1;
            }
            more |= about_peer || received.is_ok_and(|batch| batch.more);
        }
        more
    }

    /// The system says that nobody listens there: a hint for the core, or while connecting a reason to try the server's next
    /// address at once. True if the socket was closed in favour of others.
    fn refused(&mut self, index: usize) -> bool {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let connecting = matches!(state.core.state(), State::Connecting { .. });
        let next = connecting && self.paths.refused(now, index);
        if !next {
            state.core.suspect(now);
            if connecting {
                state.refused();
            }
        }
        drop(state);
        if next {
            self.tell_sender();
        }
        next
    }

    /// Lets timers run out and hands out what there is to tell; true once the client has closed.
    fn turn(&mut self) -> bool {
        let now = self.shared.now();
        let (at, closed) = {
            let mut state = self.shared.lock();
            state.asked = false;
            state.core.handle_timeout(now);
            self.shared.deliver(&mut state);
            (state.core.state(), state.closed)
        };
        match at {
            State::Up { .. } => {
                if let Some(path) = self.paths.settled() {
                    self.route.answered(path.server);
                }
            }
            // The names may stand for something else by the next attempt.
            State::Waiting { .. } if !std::mem::replace(&mut self.looked_up, true) => {
                self.leave_closed(now);
                self.route.look_up();
            }
            _ => {}
        }
        if self.look_up_at.is_some_and(|at| at <= now) {
            self.look_up_at = None;
            self.route.look_up();
        }
        self.paths.on_time(now);
        closed
    }

    /// If the server stops, or lets nobody in, others come before it in the next attempt: those that it has named, if any.
    fn leave_closed(&mut self, now: Instant) {
        let Some(server) = self.paths.settled().map(|path| path.server) else { return };
        let mut state = self.shared.lock();
        let Some(Disconnect::ByServer(CloseReason::Shutdown | CloseReason::Limit | CloseReason::Denied)) =
            state.last_loss
        else {
            return;
        };
        let successors = state.core.successors().filter_map(|server| server.parse().ok()).take(SUCCESSORS).collect();
        let was_up = self.route.is_proven(server);
        let another = self.route.closed(server, successors);
        state.core.set_path(self.route.is_local(), self.route.datagram());
        // Those whose connection is lost wait a little, each for another time: there may be many.
        if another && !was_up {
            state.core.hurry(now);
        }
    }

    /// Gives a new conversation sockets of its own.
    fn renew_paths(&mut self) {
        let conversation = self.shared.lock().core.conversation();
        if conversation != self.conversation {
            self.conversation = conversation;
            self.looked_up = false;
            self.begin();
        }
    }

    /// An attempt to connect begins.
    fn begin(&mut self) {
        let now = self.shared.now();
        let limit = match self.shared.lock().core.state() {
            State::Connecting { until } => until.since(now),
            _ => kcpq_core::Duration::ZERO,
        };
        // If the system has no way to the server now, it is asked again later.
        let _ = self.paths.begin(now, self.route.candidates(), limit);
        self.tell_sender();
    }

    /// A look-up is over.
    fn looked_up(&mut self, found: io::Result<()>) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        match found {
            Ok(()) => {}
            // With addresses that are known the next attempt goes there.
            Err(_) if self.route.is_known() => return,
            Err(error) => {
                self.look_up_at = Some(now + LOOK_UP);
                self.shared.events.announce(Event::Unresolved { why: Arc::new(error), retry_in: LOOK_UP.into() });
                return;
            }
        }
        match state.core.state() {
            at @ (State::Idle | State::Waiting { .. }) => {
                state.core.set_path(self.route.is_local(), self.route.datagram());
                if at == State::Idle {
                    state.core.connect(now);
                }
            }
            State::Connecting { .. } if !self.paths.iter().any(|path| self.route.contains(path.server)) => {
                drop(state);
                self.begin();
            }
            _ => {}
        }
    }

    /// Who sends without the runner has to know the socket.
    fn tell_sender(&mut self) {
        let path = self.paths.settled().map(|path| (&path.udp, path.server));
        self.shared.lock().direct.renew(path);
    }

    /// Sends what is due, up to a bound; true if there may be more.
    async fn transmit(&mut self) -> bool {
        let mut out = Scratch::take();
        let left = self.shared.lock().direct.take_left(&mut out);
        if left > 0 {
            self.gather.clear();
            self.send(&mut out, Transmit { len: left, segment: None, asks: false }).await;
        }
        self.gathers = false;
        for _ in 0..TRANSMITS {
            let Some(transmit) = self.poll_transmit(&mut out) else { return false };
            self.send(&mut out, transmit).await;
            if self.own.is_none() && self.shared.lock().is_stream() {
                self.gathers = true;
                return false;
            }
        }
        true
    }

    /// Sends what lies in `out`. What the system refuses is counted, and KCP sends again what matters.
    /// Ends: each error is acted on once, and a full socket empties.
    async fn send(&mut self, out: &mut [u8], Transmit { len, segment, asks }: Transmit) {
        let (mut refused, mut rebound) = (false, false);
        let Some(batch) = out.get_mut(..len) else { return };
        loop {
            let Some(path) = self.paths.settled() else {
                self.gather.fill(batch);
                return self.paths.say(self.shared.now(), batch, segment);
            };
            match path.udp.socket.sender().send_slices(path.server, self.gather.slices(batch), segment) {
                Ok(()) => return,
                // The socket is full: that is back-pressure, not loss.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if path.udp.writable().await.is_err() {
                        Timer::after(PAUSE).await;
                    }
                }
                // The error is about an earlier datagram; this one was not sent because of it.
                Err(error) if is_about_peer(&error) && !refused => {
                    refused = true;
                    self.refused(0);
                }
                Err(error) if is_too_long(&error) => {
                    let now = self.shared.now();
                    return self.shared.lock().core.on_too_long(now, segment.unwrap_or(len));
                }
                Err(_) if asks => return,
                Err(error) if is_about_source(&error) && !rebound && self.paths.rebind().is_ok() => {
                    rebound = true;
                    self.tell_sender();
                    self.shared.lock().core.on_new_address(self.shared.now());
                }
                Err(_) => {
                    self.shared.lock().unsendable += 1;
                    return;
                }
            }
        }
    }

    /// Moves to the address that the system would send from, if the server is not heard at the present one.
    fn follow_address(&mut self) {
        let now = self.shared.now();
        if self.shared.lock().core.doubts_address(now) && self.paths.has_another_source() && self.paths.rebind().is_ok()
        {
            self.tell_sender();
            self.shared.lock().core.on_new_address(now);
        }
    }

    /// Lets the core write what is due to the front of `out`.
    fn poll_transmit(&mut self, out: &mut [u8]) -> Option<Transmit> {
        let mut state = self.shared.lock_beside();
        self.shared.staging.renew(&mut state);
        let now = self.shared.now();
        self.gather.clear();
        let transmit = match self.paths.settled().map(|path| &path.udp.socket) {
            Some(socket) if socket.sender().gathers() => {
                state.core.poll_transmit_gather(now, out, socket.max_segments(), &mut self.gather)
            }
            // Some may be for several paths.
            socket => state.core.poll_transmit_batch(now, out, socket.map_or(1, Socket::max_segments)),
        };
        self.shared.deliver(&mut state);
        state.published = 0;
        transmit
    }

    /// Waits for the socket, a deadline, or a handle.
    async fn sleep(&mut self) {
        let woken = self.shared.wake.listen();
        let now = self.shared.now();
        let deadline = {
            let mut state = self.shared.lock();
            if state.asked || state.published > 0 && !self.gathers {
                return;
            }
            (state.idle, state.gathers) = (true, self.gathers);
            state.streams &= self.gathers;
            if self.gathers {
                Some(now + GATHER)
            } else {
                let own = Instant::earlier(self.paths.next_at(), self.look_up_at);
                let deadline = Instant::earlier(state.core.poll_timeout().map(|deadline| deadline.at), own);
                state.direct.arm(now, deadline)
            }
        };
        let found = self.wait(now, deadline, woken).await;
        {
            let mut state = self.shared.lock();
            (state.idle, state.gathers) = (false, false);
        }
        if let Some(found) = found {
            self.looked_up(found);
        }
    }

    /// Waits, and returns what a look-up has found if one is over.
    async fn wait(&mut self, now: Instant, deadline: Option<Instant>, woken: EventListener) -> Option<io::Result<()>> {
        let Self { paths, route, timer, own, shared, alarm, .. } = self;
        if let Some(own) = own {
            let until = deadline.map(|deadline| shared.clock.at(deadline));
            let Ok(found) = own.wait(paths, route, until) else {
                // Without a poller it looks now and then.
                Timer::after(PAUSE).await;
                return None;
            };
            return found;
        }
        if let Some(deadline) = deadline
            && alarm.is_none_or(|alarm| alarm <= now || deadline < alarm)
        {
            *alarm = Some(deadline);
            timer.set_at(shared.clock.at(deadline));
        }
        let socket = async {
            if paths.readable().await.is_err() {
                Timer::after(PAUSE).await;
            }
            None
        };
        let timer = async {
            timer.await;
            None
        };
        let woken = async {
            woken.await;
            None
        };
        let looked_up = poll_fn(|cx| route.poll_looked_up(cx).map(Some));
        or(woken, or(socket, or(timer, looked_up))).await
    }
}

/// What one system call has given.
struct Batch {
    /// There may be more.
    more: bool,
    /// It was one datagram, with messages that somebody waits for.
    alone: bool,
}

/// Takes in what one system call gives; the lock is taken once for all of it.
fn receive_batch(shared: &Shared, path: &mut Path) -> io::Result<Batch> {
    let (mut state, mut datagrams, mut messages) = (None, 0u32, false);
    let more = path.udp.socket.recv(|_, datagram| {
        let state = state.get_or_insert_with(|| shared.lock_beside());
        messages |= shared.receive(state, datagram);
        datagrams += 1;
    })?;
    if !more {
        path.udp.emptied();
    }
    Ok(Batch { more, alone: messages && datagrams == 1 })
}
