//! The 24-byte segment header (PROTOCOL.md 2.1).
//!
//! ```text
//!  0       4     5     6       8       12      16      20      24
//! +-------+-----+-----+-------+-------+-------+-------+-------+------------
//! | conv  | cmd | frg | wnd   | ts    | sn    | una   | len   | data (PUSH)     all integers little-endian
//! +-------+-----+-----+-------+-------+-------+-------+-------+------------
//! ```

use core::fmt;

use super::seq::{Sn, Ts};

/// Length of a segment's header in bytes.
pub const HEADER: usize = 24;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
#[non_exhaustive]
pub enum Command {
    /// Carries data.
    Push = 81,
    /// Acknowledges one segment.
    Ack = 82,
    /// WASK: probes a window that is closed.
    WindowProbe = 83,
    /// WINS: tells the window, which every header does.
    WindowUpdate = 84,
    /// REPAIR: carries a sum of several segments; between native peers only.
    Repair = 85,
    /// PROBE: carries padding up to a length in question, which is its number; between native peers only.
    MtuProbe = 86,
    /// PROBE-ACK: a PROBE of this number has come.
    MtuProbeAck = 87,
    /// PIECE: carries a part of a segment that has become too long for its path; between native peers only.
    Piece = 88,
}

/// What the header of a segment of a native datagram has in place of `frg`, which is 0 there (PROTOCOL.md 1.5).
pub(super) mod flags {
    /// Its acknowledgement may wait.
    pub(in crate::kcp) const PATIENT: u8 = 1;
    /// Its data begin with the lane that it is of.
    pub(in crate::kcp) const LANED: u8 = 2;
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// The conversation; the same in both directions.
    pub conv: u32,
    /// What the segment is for.
    pub command: Command,
    /// Fragments of the same message that follow this one.
    pub frg: u8,
    /// Free segments in the sender's receive window.
    pub wnd: u16,
    /// PUSH: when it was sent, by the sender's clock. ACK: the same, echoed.
    pub ts: Ts,
    /// PUSH: the segment's number. ACK: the number acknowledged.
    pub sn: Sn,
    /// Everything before this number was received.
    pub una: Sn,
    /// Bytes of data that follow.
    pub len: u32,
}

/// Why a datagram, or the rest of it, was not understood. What came before in it has taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Malformed {
    /// Shorter than one header.
    TooShort {
        /// Bytes there were.
        actual: usize,
    },
    /// Of another conversation.
    Conversation {
        /// The number it carries.
        actual: u32,
    },
    /// The announced data are longer than the datagram.
    Length {
        /// Bytes announced.
        announced: u32,
        /// Bytes there were.
        actual: usize,
    },
    /// No such command.
    Command {
        /// The command byte.
        actual: u8,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { actual } => write!(f, "datagram of {actual} bytes, a segment has at least {HEADER}"),
            Self::Conversation { actual } => write!(f, "segment of another conversation ({actual})"),
            Self::Length { announced, actual } => {
                write!(f, "segment announces {announced} bytes of data, {actual} are there")
            }
            Self::Command { actual } => write!(f, "unknown segment command {actual}"),
        }
    }
}

impl core::error::Error for Malformed {}

impl Header {
    /// The conversation and the sequence number that a datagram begins with, before anything about it is known.
    pub fn peek(datagram: &[u8]) -> Option<(u32, Sn)> {
        let header: &[u8; HEADER] = datagram.first_chunk()?;
        Some((word(header, 0), Sn(word(header, 12))))
    }

    /// Splits the first segment off `bytes`: header, data, and what follows.
    ///
    /// # Errors
    /// See [`Malformed`]; the order of the checks is the original's (docs/original.md 3.3).
    pub fn split(bytes: &[u8], conv: u32) -> Result<(Self, &[u8], &[u8]), Malformed> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(Malformed::TooShort { actual: bytes.len() });
        };
        let actual = word(header, 0);
        if actual != conv {
            return Err(Malformed::Conversation { actual });
        }
        let len = word(header, 20);
        let Some((data, rest)) = rest.split_at_checked(len as usize) else {
            return Err(Malformed::Length { announced: len, actual: rest.len() });
        };
        let command = match header[4] {
            81 => Command::Push,
            82 => Command::Ack,
            83 => Command::WindowProbe,
            84 => Command::WindowUpdate,
            85 => Command::Repair,
            86 => Command::MtuProbe,
            87 => Command::MtuProbeAck,
            88 => Command::Piece,
            actual => return Err(Malformed::Command { actual }),
        };
        let header = Self {
            conv,
            command,
            frg: header[5],
            wnd: u16::from_le_bytes([header[6], header[7]]),
            ts: Ts(word(header, 8)),
            sn: Sn(word(header, 12)),
            una: Sn(word(header, 16)),
            len,
        };
        Ok((header, data, rest))
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[0..4].copy_from_slice(&self.conv.to_le_bytes());
        out[4] = self.command as u8;
        out[5] = self.frg;
        out[6..8].copy_from_slice(&self.wnd.to_le_bytes());
        out[8..12].copy_from_slice(&self.ts.0.to_le_bytes());
        out[12..16].copy_from_slice(&self.sn.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.una.0.to_le_bytes());
        out[20..24].copy_from_slice(&self.len.to_le_bytes());
        out
    }
}

/// The little-endian word at a constant offset of a header.
fn word(header: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
