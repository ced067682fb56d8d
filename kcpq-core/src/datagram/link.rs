//! What lies around a session's segments, and how long its datagrams may be.

use super::parity::Parity;
use super::{Content, Framing};
use crate::fec::header::{self, Numbering, Shards};
use crate::time::{Deadline, Instant};

/// One session's framing, both ways.
///
/// It alone knows how long the session's datagrams may be; whatever else needs a length asks it, or is told.
///
/// ```text
/// |<---------------------- max_datagram --------------------->|   bytes of UDP payload
/// | protection | FEC header |<-------------- mtu ------------>|
/// |<------ headroom ------->|
/// ```
#[derive(Debug)]
pub(crate) struct Link {
    framing: Framing,
    max_datagram: u16,
    /// Bytes that the protection puts in front of what it protects.
    protection: u16,
    numbering: Numbering,
    parity: Parity,
}

impl Link {
    /// Datagrams of at most `max_datagram` bytes of UDP payload, of which the protection takes `protection`.
    pub(crate) fn new(framing: Framing, max_datagram: u16, protection: u16) -> Self {
        let (numbering, parity) = (Numbering::new(Shards::KCPQ), Parity::new());
        let mut link = Self { framing, max_datagram, protection, numbering, parity };
        link.set(framing, max_datagram);
        link
    }

    /// The same for another conversation with nobody known yet.
    pub(crate) fn reset(&mut self, framing: Framing, max_datagram: u16) {
        *self = Self::new(framing, max_datagram, self.protection);
    }

    /// Changes framing and length; the numbering goes on.
    pub(crate) fn set(&mut self, framing: Framing, max_datagram: u16) {
        self.framing = framing;
        self.max_datagram = max_datagram;
        self.parity.set(framing, self.inner_len(), &mut self.numbering);
    }

    /// From now on the protection takes so many bytes.
    pub(crate) fn set_protection(&mut self, protection: u16) {
        self.protection = protection;
        self.set(self.framing, self.max_datagram);
    }

    /// The path carries datagrams with so many bytes of segments.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.set(self.framing, mtu.saturating_add(self.headroom() as u16));
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn is(&self, framing: Framing, max_datagram: u16) -> bool {
        self.framing == framing && self.max_datagram == max_datagram
    }

    /// The longest datagram, in bytes of UDP payload.
    pub(crate) fn max_datagram(&self) -> u16 {
        self.max_datagram
    }

    /// Bytes that the protection takes of each datagram.
    pub(crate) fn protection(&self) -> u16 {
        self.protection
    }

    /// Bytes in front of the segments.
    pub(crate) fn headroom(&self) -> usize {
        usize::from(self.protection) + if self.framing.is_plain() { 0 } else { header::LEN }
    }

    /// Bytes that are left for segments.
    pub(crate) fn mtu(&self) -> u16 {
        self.max_datagram.saturating_sub(self.headroom() as u16)
    }

    /// Bytes inside of the protection.
    fn inner_len(&self) -> u16 {
        self.max_datagram.saturating_sub(self.protection)
    }

    /// Fills in what lies between protection and segments.
    pub(crate) fn seal(&mut self, now: Instant, datagram: &mut [u8]) {
        if !self.framing.is_plain()
            && let Some(inner) = datagram.get_mut(usize::from(self.protection)..)
            && !self.parity.seal(now, inner)
        {
            let _ = header::write_data(self.numbering.data(), inner);
        }
    }

    /// Writes a parity datagram that is owed.
    pub(crate) fn poll_parity(&mut self, out: &mut [u8]) -> Option<usize> {
        let protection = usize::from(self.protection);
        Some(protection + self.parity.poll(out.get_mut(protection..)?)?)
    }

    /// Takes in a datagram without its protection for what it may rebuild. Returns its segments.
    pub(crate) fn open<'d>(&mut self, now: Instant, datagram: &[u8], content: Content<'d>) -> Option<&'d [u8]> {
        match content {
            Content::Plain(segments) => Some(segments),
            Content::Fec(segments) => {
                // The first datagrams of a native peer are FEC-framed as well; it is known by its plain ones.
                self.parity.learn(now, datagram, !self.framing.is_plain());
                Some(segments)
            }
            Content::Parity => {
                self.parity.learn(now, datagram, true);
                None
            }
        }
    }

    /// The segments of a datagram that was rebuilt.
    pub(crate) fn poll_rebuilt(&mut self) -> Option<&[u8]> {
        self.parity.poll_rebuilt()
    }

    /// Drops what is too old to be of use.
    pub(crate) fn on_time(&mut self, now: Instant) {
        self.parity.on_time(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        self.parity.poll_timeout()
    }

    /// What the decoder saw; all zeros without one.
    #[cfg(feature = "fec")]
    pub(crate) fn fec_stats(&self) -> crate::fec::Stats {
        self.parity.stats()
    }
}
