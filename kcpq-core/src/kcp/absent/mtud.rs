//! Without path MTU discovery datagrams are as long as was agreed until the system refuses them, and probes are not
//! understood.

use super::config::Config;
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

    pub(super) fn begin(&mut self, _: &mut Env) {}

    pub(super) fn is_known(&self) -> bool {
        false
    }

    pub(super) fn on_probe(&mut self, _: &mut Env, _: Sn) {}

    pub(super) fn on_answer(&mut self, _: &mut Env, _: Sn) -> bool {
        false
    }

    pub(super) fn on_sent(&mut self, _: &mut Env, _: usize) {}

    pub(super) fn is_quiet(&self, _: &Env, _: bool) -> bool {
        true
    }

    pub(super) fn suspect(&mut self, _: &mut Env, _: bool) {}

    pub(super) fn on_too_long(&mut self, env: &mut Env, len: u16) -> bool {
        let shorter = (len - len / 8).max(Config::MIN_MTU);
        let news = len <= env.mtu && shorter < env.mtu;
        if news {
            env.mtu = shorter;
            env.stats.narrowed += 1;
        }
        news
    }

    pub(super) fn on_time(&mut self, _: &mut Env) -> bool {
        false
    }

    pub(super) fn write_answer(&mut self, _: &mut Env, _: &mut Packet<'_>) {}

    pub(super) fn put_off(&mut self, _: &mut Env) {}

    pub(super) fn write_probe(&mut self, _: &mut Env, _: &mut [u8], _: Header, _: Duration) -> Option<usize> {
        None
    }
}
