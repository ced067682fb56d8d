//! What one UDP payload carries: segments alone, or FEC framing around them (WIRE.md 1).
//!
//! ```text
//! plain   | KCP segment(s) ................................................. |
//! FEC     | seqid u32 LE | f1 00 | size u16 LE | KCP segment(s) ............ |
//! parity  | seqid u32 LE | f2 00 | Reed-Solomon bytes ...................... |
//! ```
//!
//! How a datagram is framed is recognised on the way in, for each one; on the way out it is chosen per session. A cipher
//! lies around all of this and belongs to the endpoint, not to a session: a datagram is opened before anyone knows
//! whose it is.

use core::fmt;

use crate::kcp::HEADER;
use crate::time::Instant;

/// Length of the FEC header in front of segments.
pub const FEC_HEADER: usize = 8;
const TYPE_DATA: [u8; 2] = [0xf1, 0x00];
const TYPE_PARITY: [u8; 2] = [0xf2, 0x00];
/// Data and parity datagrams in a group of the original (WIRE.md 1.2).
const GROUP: u32 = 13;
const GROUP_DATA: u32 = 10;

/// How a session's datagrams are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Framing {
    /// Segments alone: between native peers.
    Plain,
    /// A FEC header before them, the numbers of parity left out: what every kind of server understands (WIRE.md 11).
    Fec,
}

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'d> {
    /// Segments.
    Segments(&'d [u8]),
    /// Parity over earlier and later datagrams.
    Parity(&'d [u8]),
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
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { actual } => write!(f, "datagram of {actual} bytes is shorter than a segment"),
        }
    }
}

impl core::error::Error for Rejected {}

/// Looks at a datagram's framing.
///
/// # Errors
/// [`Rejected`], for the counters.
pub fn parse(datagram: &[u8]) -> Result<(Framing, Content<'_>), Rejected> {
    let too_short = Rejected::TooShort { actual: datagram.len() };
    if datagram.len() < HEADER {
        return Err(too_short);
    }
    match datagram.get(4..6) {
        Some(kind) if kind == TYPE_DATA => match datagram.get(FEC_HEADER..) {
            Some(segments) if segments.len() >= HEADER => Ok((Framing::Fec, Content::Segments(segments))),
            _ => Err(too_short),
        },
        Some(kind) if kind == TYPE_PARITY => Ok((Framing::Fec, Content::Parity(datagram))),
        _ => Ok((Framing::Plain, Content::Segments(datagram))),
    }
}

/// One session's outgoing framing.
#[derive(Debug)]
pub(crate) struct Link {
    framing: Framing,
    max_datagram: u16,
    next_seqid: u32,
}

impl Link {
    /// Datagrams of at most `max_datagram` bytes.
    pub(crate) fn new(framing: Framing, max_datagram: u16) -> Self {
        Self { framing, max_datagram, next_seqid: 0 }
    }

    /// Back to the first datagram of a session.
    pub(crate) fn reset(&mut self, framing: Framing) {
        *self = Self::new(framing, self.max_datagram);
    }

    /// Changes framing and size; the numbering goes on.
    pub(crate) fn set(&mut self, framing: Framing, max_datagram: u16) {
        self.framing = framing;
        self.max_datagram = max_datagram;
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// The longest datagram.
    pub(crate) fn max_datagram(&self) -> u16 {
        self.max_datagram
    }

    /// Bytes in front of the segments.
    pub(crate) fn headroom(&self) -> usize {
        match self.framing {
            Framing::Plain => 0,
            Framing::Fec => FEC_HEADER,
        }
    }

    /// Bytes that are left for segments.
    pub(crate) fn mtu(&self) -> u16 {
        self.max_datagram.saturating_sub(self.headroom() as u16)
    }

    /// Fills in what lies in front of the segments.
    pub(crate) fn seal(&mut self, _now: Instant, datagram: &mut [u8]) {
        if self.framing == Framing::Plain {
            return;
        }
        let size = (datagram.len() - 6) as u16;
        datagram[..4].copy_from_slice(&self.next_seqid.to_le_bytes());
        datagram[4..6].copy_from_slice(&TYPE_DATA);
        datagram[6..8].copy_from_slice(&size.to_le_bytes());
        self.next_seqid = next_seqid(self.next_seqid);
    }

    /// Writes a parity datagram that is owed.
    pub(crate) fn poll_parity(&mut self, _out: &mut [u8]) -> Option<usize> {
        None
    }
}

/// The number of the data datagram after `seqid`: parity's numbers are passed over, and a group never straddles the
/// wrap (WIRE.md 1.2).
fn next_seqid(seqid: u32) -> u32 {
    let paws = u32::MAX / GROUP * GROUP;
    let next = if seqid % GROUP == GROUP_DATA - 1 { seqid + 1 + GROUP - GROUP_DATA } else { seqid + 1 };
    if next >= paws { 0 } else { next }
}
