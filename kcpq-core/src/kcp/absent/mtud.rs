//! Without path MTU discovery datagrams are as long as was agreed, and probes are not understood.

use super::env::Env;
use super::packet::Packet;
use super::segment::Header;
use super::seq::Sn;
use crate::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) struct Mtud;

impl Mtud {
    pub(super) fn new(_: &mut Env) -> Self {
        Self
    }

    pub(super) fn is_known(&self) -> bool {
        false
    }

    pub(super) fn on_probe(&mut self, _: &mut Env, _: Sn) {}

    pub(super) fn on_answer(&mut self, _: &mut Env, _: Sn) {}

    pub(super) fn write_answer(&mut self, _: &mut Env, _: &mut Packet<'_>) {}

    pub(super) fn write_probe(&mut self, _: &mut Env, _: &mut [u8], _: Header, _: Duration) -> Option<usize> {
        None
    }
}
