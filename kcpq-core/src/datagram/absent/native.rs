//! Without native datagrams there are none, and no session has a name.

use crate::hello::Named;
use crate::kcp::Origin;

#[cfg(feature = "alloc")]
pub(crate) const CHALLENGE_LEN: usize = 8;

/// There is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {}

impl Header {
    /// The session's name.
    pub fn id(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn is_sealed(&self) -> bool {
        match *self {}
    }

    pub(crate) fn split(_: &[u8]) -> Option<(Self, &[u8])> {
        None
    }
}

pub(crate) fn reset(_: Named) -> [u8; 0] {
    []
}

pub(crate) fn read_reset(_: &[u8]) -> Option<Named> {
    None
}

/// No session has one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity(());

impl Identity {
    pub(super) fn named(&self) -> Option<Named> {
        None
    }

    pub(super) fn agree(&mut self, _: Named, _: bool) {}

    pub(super) fn leads(&self) -> bool {
        false
    }

    pub(super) fn begin(&mut self) {}

    pub(super) fn is_active(&self) -> bool {
        false
    }

    pub(super) fn headroom(&self) -> usize {
        0
    }

    pub(super) fn seal(&self, _: u64, _: &mut [u8]) {}

    pub(super) fn open<'d>(&mut self, header: Header, _: &'d [u8]) -> (&'d [u8], Origin) {
        match header {}
    }

    #[cfg(feature = "alloc")]
    pub(super) fn is_newest(&self) -> bool {
        false
    }

    #[cfg(feature = "alloc")]
    pub(super) fn answer(&self) -> Option<[u8; CHALLENGE_LEN]> {
        None
    }

    #[cfg(feature = "alloc")]
    pub(super) fn write_challenge(&self, _: [u8; CHALLENGE_LEN], _: &mut [u8]) -> Option<usize> {
        None
    }

    pub(super) fn owes_answer(&self) -> bool {
        false
    }

    pub(super) fn write_answer(&mut self, _: &mut [u8]) -> Option<usize> {
        None
    }
}
