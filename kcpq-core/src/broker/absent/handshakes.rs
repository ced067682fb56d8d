//! Without keys there are no handshakes.

use core::marker::PhantomData;

use crate::broker::peer::Peer;
use crate::broker::sessions::Sessions;

#[derive(Debug)]
pub(super) struct Handshakes<P>(PhantomData<P>);

impl<P> Handshakes<P> {
    pub(super) fn new(_: u64) -> Self {
        Self(PhantomData)
    }

    pub(super) fn is_on(&self) -> bool {
        false
    }

    pub(super) fn has_late(&self) -> bool {
        false
    }
}

impl<P: Peer> Sessions<P> {
    pub(super) fn open_late(&mut self) {}

    pub(super) fn looks_like_a_strangers(&self, _: &[u8]) -> bool {
        false
    }

    pub(super) fn handle_sealed(&mut self, _: P, _: &mut [u8]) -> bool {
        false
    }
}
