//! What one UDP payload carries: segments alone, or FEC framing around them, and perhaps a cipher around that
//! (PROTOCOL.md 1).
//!
//! ```text
//! plain   | KCP segment(s) ................................................. |
//! FEC     | seqid u32 LE | f1 00 | size u16 LE | KCP segment(s) ............ |
//! parity  | seqid u32 LE | f2 00 | Reed-Solomon bytes ...................... |
//! native  | id, kind, number 12 | items of KCP's segments ....................... |
//! sealed  | nonce 16 | crc32 4 | any of these .............................. |
//! ```
//!
//! How a datagram is framed is recognised on the way in, for each one; on the way out it is chosen per session. The
//! [`Protection`] belongs to the endpoint, not to a session: a datagram is opened before anyone knows whose it is.

#[cfg_attr(not(feature = "aes"), path = "absent/aes.rs")]
mod aes;
mod link;
#[cfg_attr(not(feature = "native"), path = "absent/native.rs")]
pub(crate) mod native;
#[cfg_attr(not(feature = "fec"), path = "absent/parity.rs")]
mod parity;
mod protection;
#[cfg_attr(not(feature = "sealed"), path = "absent/sealing.rs")]
pub(crate) mod sealing;
#[cfg(all(test, feature = "fec"))]
mod tests;

use core::fmt;

pub(crate) use link::Link;
pub use protection::Protection;

#[cfg(feature = "fec")]
use crate::fec::header::Shards;
use crate::fec::header::{self, Header, Kind};
use crate::kcp::HEADER;

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
    /// A native datagram: header and body.
    Native(native::Header, &'d [u8]),
}

/// Why a datagram is not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
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
    if let Some((header, body)) = native::Header::split(datagram) {
        return Ok(Content::Native(header, body));
    }
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
