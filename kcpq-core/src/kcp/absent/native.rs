//! Without native datagrams there are KCP's segments only.

use crate::kcp::segment::{Command, Header, Malformed};
use crate::kcp::seq::{Sn, Ts};
use crate::time::{Duration, Instant};

pub(super) const HEAD: usize = 0;
pub(super) const LEAST: usize = 1;
pub(super) const PATIENCE: Duration = Duration::ZERO;

/// There are none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Numbers {}

impl Numbers {
    pub(super) fn begin(_: Instant) -> Option<Self> {
        None
    }

    pub(super) fn items(&self) -> Items {
        match *self {}
    }

    pub(super) fn next(&self, _: Instant) -> u64 {
        match *self {}
    }

    pub(super) fn stamp(&self, _: Instant) -> Ts {
        match *self {}
    }

    pub(super) fn on_sent(&mut self, _: Instant) {
        match *self {}
    }

    pub(super) fn is_patient(&mut self, _: Instant, _: bool) -> bool {
        match *self {}
    }

    pub(super) fn age(&self, _: Instant, _: Ts) -> Option<Duration> {
        match *self {}
    }

    pub(super) fn least_age(&self, _: Instant, _: Ts) -> Option<Duration> {
        match *self {}
    }
}

pub(super) struct Scene<'n> {
    numbers: &'n Numbers,
}

impl<'n> Scene<'n> {
    pub(super) fn new(numbers: &'n Numbers, _: Sn, _: Header) -> Self {
        Self { numbers }
    }

    pub(super) fn split<'d>(&self, _: &'d [u8]) -> Result<(Header, &'d [u8], &'d [u8]), Malformed> {
        match *self.numbers {}
    }
}

/// There are none.
#[derive(Clone, Copy, Debug)]
pub(super) enum Items {}

impl Items {
    pub(super) fn push(&mut self, _: &mut [u8], _: usize, _: &Header, _: &Header) -> Option<usize> {
        match *self {}
    }

    pub(super) fn head(_: Command) -> usize {
        0
    }

    pub(super) fn finish(&self, _: &mut [u8], _: usize) -> usize {
        match *self {}
    }
}
