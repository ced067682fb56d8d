//! The keys of a sealed session (PROTOCOL.md 10.5).

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use super::Content;
use super::native::Header;
use crate::header::{HEADER, header, kind};
use crate::seal::{TAG, Transport};
use crate::time::Instant;

/// Where there is an allocator they do not make every session larger that has none.
#[cfg(feature = "alloc")]
type Keys = Box<Transport>;
#[cfg(not(feature = "alloc"))]
type Keys = Transport;

/// None, as long as a session is not sealed.
#[derive(Debug, Default)]
pub(super) struct Sealing(Option<Keys>);

impl Sealing {
    /// Datagrams are sealed from now on, and none is taken that is not.
    #[cfg_attr(not(feature = "alloc"), expect(clippy::useless_conversion, reason = "there it is a box"))]
    pub(super) fn begin(&mut self, transport: Transport) {
        self.0 = Some(transport.into());
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Bytes behind what is sealed.
    pub(super) fn tail(&self) -> usize {
        if self.is_on() { TAG } else { 0 }
    }

    /// Seals a datagram that has room for the header in front and for the tag behind. `None` if the keys have sealed all
    /// that they may.
    pub(super) fn seal(&mut self, now: Instant, id: u64, number: u64, datagram: &mut [u8]) -> Option<()> {
        let (head, body) = datagram.split_first_chunk_mut::<HEADER>()?;
        *head = header(id, kind::SEALED, number);
        let len = body.len().checked_sub(TAG)?;
        self.0.as_mut()?.seal(now, number, head, body, len).ok().map(|_| ())
    }

    /// Opens one in place.
    pub(super) fn open<'d>(&mut self, now: Instant, datagram: &'d mut [u8]) -> Option<(&'d [u8], Content<'d>)> {
        let (head, body) = datagram.split_first_chunk_mut::<HEADER>()?;
        let len = self.0.as_mut()?.open(now, head, body).ok()?.body.len();
        Some(opened(datagram, len))
    }
}

/// What an opened datagram holds: header and a body of `len` bytes.
pub(crate) fn opened(datagram: &[u8], len: usize) -> (&[u8], Content<'_>) {
    let (head, body) = datagram.split_first_chunk::<HEADER>().unwrap_or((&[0; HEADER], &[]));
    (datagram, Content::Native(Header::of(head), body.get(..len).unwrap_or_default()))
}
