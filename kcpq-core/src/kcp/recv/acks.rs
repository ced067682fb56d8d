//! The acknowledgements that are owed.

use crate::kcp::env::Env;
use crate::kcp::native::PATIENCE;
use crate::kcp::packet::Packet;
use crate::kcp::segment::{Command, Header};
use crate::kcp::seq::{Sn, Ts};
use crate::kcp::timers::Timer;
use crate::store::{Queue, Store};

/// An acknowledgement that is owed.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ack {
    sn: Sn,
    ts: Ts,
}

pub(super) struct Acks<S: Store>(S::Queue<Ack>);

impl<S: Store> Acks<S> {
    pub(super) fn new(queue: S::Queue<Ack>) -> Self {
        Self(queue)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// No echo is owed any more.
    pub(super) fn forget_echoes(&mut self) {
        for index in 0..self.0.len() {
            if let Some(ack) = self.0.get_mut(index) {
                ack.ts = Ts::NONE;
            }
        }
    }

    /// True if none is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The segment of `header` is to be acknowledged; the receive window has `slots` segments. `soon` unless that may wait for
    /// the next one.
    pub(super) fn owe(&mut self, env: &mut Env, header: &Header, slots: usize, soon: bool) {
        // No more than the window has segments: more are doubled ones, and the oldest are left to `una` or to be asked for
        // again. The bound is the engine's, so that every store does the same.
        if !self.0.has_room() || self.0.len() >= slots.max(1) {
            self.0.pop();
        }
        // A store without any room acknowledges by `una` alone.
        let _ = self.0.push(Ack { sn: header.sn, ts: header.ts });
        env.timers.hasten(Timer::Ack, env.now + if soon { env.config.ack_delay } else { PATIENCE });
    }

    /// Writes as many as fit. Everything before `next` has arrived.
    pub(super) fn write(&mut self, env: &mut Env, packet: &mut Packet<'_>, next: Sn) {
        while let Some(ack) = self.0.get(0).copied() {
            // What `una` covers needs no word of its own; the last one goes all the same, for its echo
            // (PROTOCOL.md 2.5).
            if ack.sn.before(next) && self.0.len() > 1 {
                self.0.pop();
                continue;
            }
            let header = Header { command: Command::Ack, sn: ack.sn, ts: ack.ts, ..packet.template() };
            if packet.push(header).is_none() {
                break;
            }
            self.0.pop();
        }
        if self.0.is_empty() {
            env.timers.stop(Timer::Ack);
        }
    }
}
