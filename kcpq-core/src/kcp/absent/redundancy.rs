//! Without redundancy nothing is sent before it is known to be lost.

use super::in_flight::InFlight;
use crate::kcp::env::Env;
use crate::kcp::rtt::Rtt;
use crate::store::Store;

#[derive(Clone, Copy, Debug)]
pub(super) struct Redundancy;

impl Redundancy {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn sample(&mut self, _: bool) {}

    pub(super) fn is_clean(&self) -> bool {
        false
    }

    pub(super) fn on_new(&mut self, _: usize) {}

    pub(super) fn plan<S: Store>(&mut self, _: &mut Env, _: &mut InFlight<S>, _: &Rtt, _: usize, _: bool) {}

    pub(super) fn on_resent<S: Store>(&mut self, _: &mut Env, _: &mut InFlight<S>, _: &Rtt, _: usize) {}

    pub(super) fn is_repair_due(&self, _: &Env, _: bool) -> bool {
        false
    }

    pub(super) fn on_repair(&mut self, _: &mut Env, _: bool) {}

    pub(super) fn take_copy<S: Store>(&mut self, _: &mut Env, _: &mut InFlight<S>, _: usize, _: bool) -> Option<usize> {
        None
    }
}
