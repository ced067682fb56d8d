//! Without repairs none are made, and none are understood.

use super::packet::Packet;
use super::segment::Header;
use super::send::{InFlight, Streams};
use super::seq::{Sn, Ts};
use crate::store::Store;
use crate::time::Duration;

pub(super) const OVERHEAD: usize = 0;

pub(super) fn covers(_: usize) -> bool {
    false
}

pub(super) fn age(now: Ts, echo: Ts) -> Option<Duration> {
    u64::try_from(now.millis_since(echo)).ok().map(Duration::from_millis)
}

#[derive(Debug)]
pub(super) struct Encoder;

impl Encoder {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn write<S: Store>(&mut self, _: &InFlight<S>, _: &mut Streams<S>, _: &mut Packet<'_>, _: Ts) -> bool {
        false
    }
}

#[derive(Debug)]
pub(super) struct Decoder;

/// There is none.
pub(super) enum Rebuilt {}

impl Rebuilt {
    pub(super) fn header(&self, _: Header) -> Header {
        match *self {}
    }

    pub(super) fn data(&self) -> Option<&[u8]> {
        match *self {}
    }
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self
    }

    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        0
    }

    pub(super) fn on_segment(&mut self, _: Sn, _: u8, _: &[u8]) -> bool {
        false
    }

    pub(super) fn on_void(&mut self, _: Sn) {}

    pub(super) fn on_repair(&mut self, _: &Header, _: &[u8], _: impl Fn(Sn) -> bool) -> bool {
        false
    }

    pub(super) fn poll(&mut self) -> Option<Rebuilt> {
        None
    }
}
