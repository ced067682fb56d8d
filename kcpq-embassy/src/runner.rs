//! The one task of a client: moves datagrams between the transport and the core, and gives it the time.

use core::fmt;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use embassy_futures::select::{Either, select};
use embassy_futures::yield_now;
use embassy_sync::blocking_mutex::raw::RawMutex;
use kcpq_core::Duration;

use crate::shared::Shared;
use crate::{Timer, Transport};

/// Turns without waiting for anything, after which other tasks come first.
const TURNS: u8 = 8;
/// The wait after an error of the transport, so that it cannot become a busy loop.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the stack may take for a datagram: one whose neighbour does not answer, or whose cable is out, waits for ever, and
/// with it would all timers.
const SEND_TIME: Duration = Duration::from_millis(50);

/// The task of a client: nothing happens unless it runs.
pub struct Runner<'d, R: RawMutex, const TEXT: usize = 64> {
    shared: &'d Shared<'d, R, TEXT>,
    /// Holds the datagram that is being received or sent.
    datagram: &'d mut [u8],
    /// The conversation that the transport's port was taken for.
    conversation: Option<u32>,
}

impl<R: RawMutex, const TEXT: usize> fmt::Debug for Runner<'_, R, TEXT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl<'d, R: RawMutex, const TEXT: usize> Runner<'d, R, TEXT> {
    pub(crate) fn new(shared: &'d Shared<'d, R, TEXT>, datagram: &'d mut [u8]) -> Self {
        Self { shared, datagram, conversation: None }
    }

    /// Connects, and runs until the client is closed. With a [`Backoff`](kcpq_core::client::Backoff), as by default, it
    /// reconnects after every loss, and only [`Client::close`](crate::Client::close) ends it.
    ///
    /// Cancel-safe: if dropped, the client pauses and loses nothing but datagrams; call `run` again to continue, also
    /// over another transport.
    pub async fn run(&mut self, transport: &mut impl Transport, timer: &mut impl Timer) {
        let shared = self.shared;
        shared.with(|inner| {
            let now = inner.now();
            inner.core.connect(now);
        });
        let mut turns = 0;
        loop {
            let (closed, conversation) = shared.with(|inner| {
                inner.look();
                let now = inner.now();
                inner.core.handle_timeout(now);
                inner.deliver();
                (inner.closed, inner.core.conversation())
            });
            if self.conversation.replace(conversation).is_some_and(|before| before != conversation) {
                // If there is no other port to be had, the old one serves as well with a native server.
                let _ = transport.renew().await;
            }
            self.transmit(transport, timer).await;
            if closed {
                return;
            }
            turns += 1;
            if turns >= TURNS {
                turns = 0;
                yield_now().await;
            }
            self.wait(transport, timer).await;
        }
    }

    /// Sends what is due. What the stack does not take soon is lost, as on a bad link.
    async fn transmit<T: Transport>(&mut self, transport: &mut T, timer: &mut impl Timer) {
        loop {
            let len = self.shared.with(|inner| {
                let now = inner.now();
                inner.core.poll_transmit(now, self.datagram)
            });
            let Some(datagram) = len.and_then(|len| self.datagram.get(..len)) else { break };
            let len = datagram.len();
            let until = self.shared.with(|inner| inner.now() + SEND_TIME);
            let too_long = match select(transport.send(datagram), timer.wait_until(until)).await {
                Either::First(Ok(())) => continue,
                Either::First(Err(error)) => T::is_too_long(&error),
                Either::Second(()) => false,
            };
            self.shared.with(|inner| {
                inner.send_errors = inner.send_errors.wrapping_add(1);
                if too_long {
                    let now = inner.now();
                    inner.core.on_too_long(now, len);
                }
            });
        }
        // To have sent may have made room.
        self.shared.with(|inner| inner.deliver());
    }

    /// Waits until there is something to do, and takes in a datagram.
    async fn wait(&mut self, transport: &mut impl Transport, timer: &mut impl Timer) {
        let shared = self.shared;
        let deadline = shared.with(|inner| inner.deadline());
        let received = {
            let mut receive = pin!(transport.receive(self.datagram));
            let mut timeout = pin!(deadline.map(|at| timer.wait_until(at)));
            poll_fn(|cx| {
                if let Poll::Ready(received) = receive.as_mut().poll(cx) {
                    return Poll::Ready(Some(received));
                }
                let asked = shared.with(|inner| inner.poll_asked(cx));
                let over = timeout.as_mut().as_pin_mut().map_or(Poll::Pending, |timeout| timeout.poll(cx));
                if asked.is_ready() || over.is_ready() { Poll::Ready(None) } else { Poll::Pending }
            })
            .await
        };
        match received {
            Some(Ok(len)) => {
                let Some(datagram) = self.datagram.get_mut(..len) else { return };
                shared.with(|inner| {
                    let now = inner.now();
                    inner.core.handle_datagram(now, datagram);
                });
            }
            Some(Err(_)) => {
                let until = shared.with(|inner| {
                    inner.receive_errors = inner.receive_errors.wrapping_add(1);
                    inner.now() + PAUSE
                });
                timer.wait_until(until).await;
            }
            None => {}
        }
    }
}
