//! The keys of a sealed session (PROTOCOL.md 10.5), or the handshake that is to bring them.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use super::Content;
use super::native::Header;
use crate::header::{HEADER, header, kind};
use crate::seal::{Initiator, TAG, Transport};
use crate::time::Instant;

/// Where there is an allocator it does not make every session larger that has none.
#[cfg(feature = "alloc")]
type Place<T> = Box<T>;
#[cfg(not(feature = "alloc"))]
type Place<T> = T;

/// What a session has of both: never more than one of them, and they share their memory.
#[derive(Debug, Default)]
pub(super) enum Sealing {
    /// Neither. The session is not sealed.
    #[default]
    Off,
    /// A client's handshake. Nothing of the session may be said yet.
    Greeting(Place<Initiator>),
    /// Datagrams are sealed, and none is taken that is not.
    On(Place<Transport>),
}

#[cfg_attr(not(feature = "alloc"), expect(clippy::useless_conversion, reason = "there it is a box"))]
impl Sealing {
    /// A handshake begins.
    pub(super) fn greet(&mut self, initiator: Initiator) {
        *self = Self::Greeting(initiator.into());
    }

    /// Datagrams are sealed from now on.
    pub(super) fn begin(&mut self, transport: Transport) {
        *self = Self::On(transport.into());
    }
}

impl Sealing {
    /// The handshake that is under way.
    pub(super) fn greeting(&mut self) -> Option<&mut Initiator> {
        match self {
            Self::Greeting(initiator) => Some(initiator),
            _ => None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// Bytes behind what is sealed.
    pub(super) fn tail(&self) -> usize {
        if self.is_on() { TAG } else { 0 }
    }

    fn keys(&mut self) -> Option<&mut Transport> {
        match self {
            Self::On(transport) => Some(transport),
            _ => None,
        }
    }

    /// Seals a datagram that has room for the header in front and for the tag behind. `None` if the keys have sealed all
    /// that they may.
    pub(super) fn seal(&mut self, now: Instant, id: u64, number: u64, datagram: &mut [u8]) -> Option<()> {
        let (head, body) = datagram.split_first_chunk_mut::<HEADER>()?;
        *head = header(id, kind::SEALED, number);
        let len = body.len().checked_sub(TAG)?;
        self.keys()?.seal(now, number, head, body, len).ok().map(|_| ())
    }

    /// Opens one in place.
    pub(super) fn open<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<(&'d [u8], Content<'d>)> {
        let (head, body) = datagram.split_first_chunk_mut::<HEADER>()?;
        let len = self.keys()?.open(now, head, body).ok()?.body.len();
        Some(opened(datagram, len))
    }
}

/// What an opened datagram holds: header and a body of `len` bytes.
pub(crate) fn opened(datagram: &[u8], len: usize) -> (&[u8], Content<'_>) {
    let (head, body) = datagram.split_first_chunk::<HEADER>().unwrap_or((&[0; HEADER], &[]));
    (datagram, Content::Native(Header::of(head), body.get(..len).unwrap_or_default()))
}
