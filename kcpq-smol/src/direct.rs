//! Sending from the thread that publishes.
//!
//! A message that is published while the runner sleeps leaves at once, without waking another thread on its way. That
//! holds for single messages: those that follow each other closely are left to the runner, which sends many at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use kcpq_core::client::Client;
use kcpq_core::store::Heap;
use kcpq_core::{Duration, Instant};
use kcpq_udp::Sender;

use crate::scratch::Scratch;
use crate::udp::Udp;

/// Messages that come closer to each other are not single ones.
const APART: Duration = Duration::from_micros(250);
/// Datagrams sent for one message at most; the rest is the runner's.
const DATAGRAMS: usize = 2;
/// The runner sleeps no longer than this after something went on, so that the timers of what is sent meanwhile need no
/// waking of their own. Less than the usual retransmission timeout; a shorter one wakes the runner.
const WATCH: Duration = Duration::from_millis(20);

/// What it takes to send.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    to: Option<(Arc<Sender>, SocketAddr)>,
    /// A datagram that the socket did not take: it is the runner's to send.
    left: Vec<u8>,
    last: Instant,
    /// When the runner wakes by itself.
    armed: Option<Instant>,
    /// Something was sent since the runner last slept for long.
    active: bool,
}

impl Direct {
    /// From now on by this socket; with none, all is the runner's to send.
    pub(crate) fn renew(&mut self, path: Option<(&Udp, SocketAddr)>) {
        self.to = path.map(|(udp, server)| (Arc::clone(udp.socket.sender()), server));
        self.left = Vec::new();
    }

    /// Where the server is, if it is known.
    pub(crate) fn server(&self) -> Option<SocketAddr> {
        self.to.as_ref().map(|(_, server)| *server)
    }

    /// When the runner, which goes to sleep, is to wake by itself: at `deadline`, or earlier.
    pub(crate) fn arm(&mut self, now: Instant, deadline: Option<Instant>) -> Option<Instant> {
        let watch = std::mem::take(&mut self.active).then(|| now + WATCH);
        self.armed = match (deadline, watch) {
            (Some(deadline), Some(watch)) => Some(deadline.min(watch)),
            (deadline, watch) => deadline.or(watch),
        };
        self.armed
    }

    /// Sends what is due, to be called while the runner sleeps. False if the runner has to be woken.
    pub(crate) fn send(&mut self, now: Instant, core: &mut Client<Heap>) -> bool {
        let Some((sender, server)) = &self.to else { return false };
        if !self.left.is_empty() || now.since(self.last) < APART {
            return false;
        }
        self.last = now;
        self.active = true;
        let mut out = Scratch::take();
        // What would ask whether the path carries more is the runner's.
        let Some(out) = out.get_mut(..core.max_datagram()) else { return false };
        for _ in 0..DATAGRAMS {
            let Some(len) = core.poll_transmit(now, out) else {
                // The runner sleeps on, unless it would miss a timer.
                let deadline = core.poll_timeout().map(|deadline| deadline.at);
                return deadline.is_none_or(|at| self.armed.is_some_and(|armed| armed <= at));
            };
            let Some(datagram) = out.get(..len) else { return false };
            if sender.send(*server, datagram, None).is_err() {
                self.left = datagram.to_vec();
                return false;
            }
        }
        false
    }

    /// Moves what the socket did not take to `out`; returns its length.
    pub(crate) fn take_left(&mut self, out: &mut [u8]) -> usize {
        let left = std::mem::take(&mut self.left);
        let Some(place) = out.get_mut(..left.len()) else { return 0 };
        place.copy_from_slice(&left);
        left.len()
    }
}
