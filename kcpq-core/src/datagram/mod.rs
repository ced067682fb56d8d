//! What one UDP payload carries: segments alone, or FEC framing around them, and perhaps a cipher around that
//! (PROTOCOL.md 1).
//!
//! ```text
//! plain   | KCP segment(s) ................................................. |
//! FEC     | seqid u32 LE | f1 00 | size u16 LE | KCP segment(s) ............ |
//! parity  | seqid u32 LE | f2 00 | Reed-Solomon bytes ...................... |
//! sealed  | nonce 16 | crc32 4 | any of these .............................. |
//! ```
//!
//! How a datagram is framed is recognised on the way in, for each one; on the way out it is chosen per session. The
//! [`Protection`] belongs to the endpoint, not to a session: a datagram is opened before anyone knows whose it is.

mod protection;
#[cfg(all(test, feature = "fec"))]
mod tests;

#[cfg(feature = "fec")]
use alloc::boxed::Box;
use core::fmt;

pub use protection::Protection;

use crate::fec::header::{self, Header, Kind, Numbering, Shards};
#[cfg(feature = "fec")]
use crate::fec::{Decoder, Encoder};
use crate::kcp::HEADER;
#[cfg(feature = "fec")]
use crate::time::Why;
use crate::time::{Deadline, Instant};

/// What every path carries, in bytes of UDP payload (RFC 8899, `BASE_PLPMTU`): sessions begin with it.
pub const SAFE_DATAGRAM: u16 = 1200;
/// What the original takes for granted.
pub const USUAL_DATAGRAM: u16 = 1400;
/// What native peers look for at most on a path: Ethernet with jumbo frames of 9000 bytes, less its headers.
pub const PATH_DATAGRAM: u16 = 8952;
/// Datagrams between native peers on one machine, in bytes of UDP payload: four of them make one batch.
pub const LOCAL_DATAGRAM: u16 = 16_000;

/// How a session's datagrams are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Framing {
    /// Segments alone: between native peers.
    Plain,
    /// A FEC header before them, the numbers of parity left out: what every kind of server understands
    /// (PROTOCOL.md 4.2).
    Fec,
    /// The same with parity after each group. Original peers understand [`Shards::KCPQ`] only.
    #[cfg(feature = "fec")]
    Parity(Shards),
}

impl Framing {
    fn is_plain(self) -> bool {
        self == Self::Plain
    }
}

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'d> {
    /// Segments alone.
    Plain(&'d [u8]),
    /// Segments behind a FEC header.
    Fec(&'d [u8]),
    /// Parity over earlier and later datagrams.
    Parity,
}

/// Why a datagram is not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Rejected {
    /// Shorter than a segment with its framing.
    TooShort {
        /// Its length.
        actual: usize,
    },
    /// Its FEC header makes no sense.
    Fec(crate::fec::FecError),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { actual } => write!(f, "datagram of {actual} bytes is shorter than a segment"),
            Self::Fec(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Rejected {}

/// Looks at a datagram's framing.
///
/// # Errors
/// [`Rejected`], for the counters.
pub fn parse(datagram: &[u8]) -> Result<Content<'_>, Rejected> {
    let too_short = Rejected::TooShort { actual: datagram.len() };
    if datagram.len() < HEADER {
        return Err(too_short);
    }
    if !Header::is_fec(datagram) {
        return Ok(Content::Plain(datagram));
    }
    match Header::parse(datagram).map_err(Rejected::Fec)?.0.kind {
        Kind::Parity => Ok(Content::Parity),
        Kind::Data => match datagram.get(header::LEN..) {
            Some(segments) if segments.len() >= HEADER => Ok(Content::Fec(segments)),
            _ => Err(too_short),
        },
    }
}

/// The conversation that parity belongs to. Each row of the code sums up to one, so what is equal in all shards of a
/// group, as `conv` is, stands unchanged in their parity (PROTOCOL.md 1.3). A forged one finds a session as well, which
/// then drops what cannot be.
pub fn conversation_of_parity(datagram: &[u8]) -> Option<u32> {
    datagram.get(header::LEN..)?.first_chunk().map(|conv| u32::from_le_bytes(*conv))
}

/// One session's framing, both ways.
#[derive(Debug)]
pub(crate) struct Link {
    framing: Framing,
    /// Of what lies inside the protection.
    max_datagram: u16,
    numbering: Numbering,
    #[cfg(feature = "fec")]
    encoder: Option<Box<Encoder>>,
    /// Made when the first FEC datagram comes.
    #[cfg(feature = "fec")]
    decoder: Option<Box<Decoder>>,
}

impl Link {
    /// Datagrams of at most `max_datagram` bytes, protection not counted.
    pub(crate) fn new(framing: Framing, max_datagram: u16) -> Self {
        let mut link = Self {
            framing,
            max_datagram,
            numbering: Numbering::new(Shards::KCPQ),
            #[cfg(feature = "fec")]
            encoder: None,
            #[cfg(feature = "fec")]
            decoder: None,
        };
        link.set(framing, max_datagram);
        link
    }

    /// Changes framing and size; the numbering goes on.
    pub(crate) fn set(&mut self, framing: Framing, max_datagram: u16) {
        #[cfg(feature = "fec")]
        {
            if let Some(encoder) = &self.encoder {
                self.numbering = encoder.numbering();
            }
            self.encoder = match framing {
                Framing::Parity(shards) => Some(encoder(shards, max_datagram, self.numbering)),
                _ => None,
            };
            if framing.is_plain() {
                self.decoder = None;
            }
        }
        self.framing = framing;
        self.max_datagram = max_datagram;
    }

    #[cfg(feature = "alloc")]
    pub(crate) fn is(&self, framing: Framing, max_datagram: u16) -> bool {
        self.framing == framing && self.max_datagram == max_datagram
    }

    /// The longest datagram, protection not counted.
    pub(crate) fn max_datagram(&self) -> u16 {
        self.max_datagram
    }

    /// Bytes in front of the segments.
    pub(crate) fn headroom(&self) -> usize {
        if self.framing.is_plain() { 0 } else { header::LEN }
    }

    /// Bytes that are left for segments.
    pub(crate) fn mtu(&self) -> u16 {
        self.max_datagram.saturating_sub(self.headroom() as u16)
    }

    /// Fills in what lies in front of the segments.
    pub(crate) fn seal(&mut self, now: Instant, datagram: &mut [u8]) {
        if self.framing.is_plain() {
            return;
        }
        #[cfg(feature = "fec")]
        if let Some(encoder) = &mut self.encoder {
            // It fits: the engine keeps to `mtu`.
            let _ = encoder.data(now, datagram);
            return;
        }
        let _ = now;
        let _ = header::write_data(self.numbering.data(), datagram);
    }

    /// Writes a parity datagram that is owed.
    pub(crate) fn poll_parity(&mut self, out: &mut [u8]) -> Option<usize> {
        #[cfg(feature = "fec")]
        return self.encoder.as_mut()?.poll_parity(out);
        #[cfg(not(feature = "fec"))]
        {
            let _ = out;
            None
        }
    }

    /// Takes in a FEC datagram, data or parity, for what it may rebuild.
    pub(crate) fn learn(&mut self, now: Instant, datagram: &[u8]) {
        #[cfg(feature = "fec")]
        {
            // The first datagrams of a native peer are FEC-framed as well; it is known by its plain ones.
            if self.framing.is_plain() && self.decoder.is_none() && !matches!(parse(datagram), Ok(Content::Parity)) {
                return;
            }
            let decoder = self.decoder.get_or_insert_with(|| Box::new(Decoder::new(Default::default())));
            // What it refuses it has counted.
            let _ = decoder.open(now, datagram);
        }
        #[cfg(not(feature = "fec"))]
        let _ = (now, datagram);
    }

    /// The segments of a datagram that was rebuilt.
    pub(crate) fn poll_rebuilt(&mut self) -> Option<&[u8]> {
        #[cfg(feature = "fec")]
        return self.decoder.as_mut()?.poll_recovered();
        #[cfg(not(feature = "fec"))]
        None
    }

    /// Drops what is too old to be of use.
    pub(crate) fn on_time(&mut self, now: Instant) {
        #[cfg(feature = "fec")]
        if let Some(decoder) = &mut self.decoder {
            decoder.handle_timeout(now);
        }
        #[cfg(not(feature = "fec"))]
        let _ = now;
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        #[cfg(feature = "fec")]
        return self.decoder.as_ref()?.poll_timeout().map(|at| Deadline { at, why: Why::Parity });
        #[cfg(not(feature = "fec"))]
        None
    }

    /// What the decoder saw; all zeros without one.
    #[cfg(feature = "fec")]
    pub(crate) fn fec_stats(&self) -> crate::fec::Stats {
        self.decoder.as_ref().map(|decoder| decoder.stats()).unwrap_or_default()
    }
}

#[cfg(feature = "fec")]
fn encoder(shards: Shards, max_datagram: u16, earlier: Numbering) -> Box<Encoder> {
    let encoder = Encoder::new(shards, usize::from(max_datagram).saturating_sub(header::SHARD));
    Box::new(encoder.behind(earlier))
}
