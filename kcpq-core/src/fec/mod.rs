//! Forward error correction as kcp-go frames it (PROTOCOL.md 1.2, 1.3).
//!
//! Datagrams go out in groups: `data` of them carry KCP, then `parity` more carry Reed-Solomon bytes, and any `data` of
//! the whole group rebuild the rest without waiting for a retransmission.
//!
//! ```text
//! data:    | seqid u32 LE | f1 00 | size u16 LE | KCP segments ... |      size = 2 + length of the KCP part
//!          0              4       6             8
//! parity:  | seqid u32 LE | f2 00 | Reed-Solomon over bytes 6.. of the group's data, padded with zeros |
//!          0              4       6
//! ```
//!
//! - [`header`] reads and writes the eight bytes and numbers the datagrams. It is always there, and needs neither memory
//!   nor arithmetic: whoever does not know its peer speaks in data shards and sends no parity (PROTOCOL.md 4.2).
//! - `Encoder` and `Decoder` (feature `fec`) make parity, and use it.
//!
//! Where the cipher is used it goes around all of this; see the `cipher` module.

pub mod header;

#[cfg(feature = "fec")]
mod code;
#[cfg(feature = "fec")]
mod decoder;
#[cfg(feature = "fec")]
mod encoder;
#[cfg(feature = "fec")]
mod group;
#[cfg(feature = "fec")]
mod tuner;

#[cfg(feature = "fec")]
pub use decoder::{Config, Decoder, Stats};
#[cfg(feature = "fec")]
pub use encoder::Encoder;
pub use header::{FecError, Header, Kind, Numbering, Shards, ShardsError};
