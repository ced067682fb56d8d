//! Without lanes there is one stream, and nobody says more of it.

use core::marker::PhantomData;

use super::Receiver;
use crate::kcp::env::Env;
use crate::kcp::segment::Header;
use crate::lane::Lane;
use crate::store::Store;

pub(super) struct Lanes<S>(PhantomData<fn(S)>);

impl<S: Store> Lanes<S> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }

    pub(super) fn clear(&mut self) {}

    pub(super) fn reserve(&self, _: usize) -> usize {
        0
    }

    pub(super) fn are_told(&self) -> bool {
        false
    }

    pub(super) fn parked(&self) -> usize {
        0
    }

    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        0
    }

    #[cfg(feature = "alloc")]
    pub(super) fn forget(&mut self) {}

    pub(super) fn front(&self, _: &S::Rx) -> Option<(Lane, &[u8])> {
        None
    }

    pub(super) fn consume(&mut self, _: &mut S::Rx, _: usize) {}

    pub(super) fn recv(&mut self, _: &mut S::Rx, _: &mut impl FnMut(Lane, &[u8]) -> usize) -> bool {
        false
    }
}

pub(super) fn is_void(_: u8, _: &[u8]) -> bool {
    false
}

impl<S: Store> Receiver<S> {
    pub(super) fn take_in_lane(
        &mut self,
        _: &mut Env,
        _: &Header,
        _: usize,
        _: &[u8],
        _: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) -> bool {
        false
    }
}
