//! Repairs over the last segments, between peers that both know them: what is lost is rebuilt without a round trip
//! (PROTOCOL.md 2.9).
//!
//! Sliding-window random linear coding (RLC), as in RFC 8681, with the coefficients of a Cauchy matrix in place of
//! random ones: a REPAIR segment is a sum of the segments `first..first + count`, each times a factor that follows from
//! its number and from the repair's row. Any segments that arrive, old or new, and any repairs together are equations;
//! as soon as there are as many as segments are missing, these are known.
//!
//! ```text
//! | conv | 85 | row | wnd | ts | first sn | una | len | count u8 | sum of (len u16 LE, data), padded with zeros |
//!          cmd  frg
//! ```
//!
//! The top bit of a length says that the data are those of a lane.
//!
//! The clock of a repair has its top bit turned over. It comes back in the acknowledgement of what it rebuilt, and so
//! tells the sender that the segment itself was lost.

mod decoder;
mod encoder;

pub(super) use self::decoder::Decoder;
pub(super) use self::encoder::Encoder;

use super::segment::flags;
use super::seq::{Sn, Ts};
use crate::field::{exp, log};
use crate::time::Duration;

/// What a repair adds to the longest segment's data: the count and a length.
pub(super) const OVERHEAD: usize = 3;
/// Maximum segments covered by one repair: the encoding window.
const WINDOW: usize = 12;
/// Most data bytes of a segment that is covered: what is longer than most datagrams costs more than it is worth.
const LONGEST: usize = 2_048;

/// True if repairs are made over segments of `len` bytes of data.
pub(super) fn covers(len: usize) -> bool {
    len <= LONGEST
}

/// The top bit of a length: the data begin with a lane.
const LANED: u16 = 1 << 15;

/// What stands in front of the data of a segment with these flags.
fn length(len: u16, flags: u8) -> [u8; 2] {
    (len | if flags & flags::LANED != 0 { LANED } else { 0 }).to_le_bytes()
}

/// The factor of segment `sn` in the repairs of `row`: Cauchy's matrix, of which each square part is regular.
fn factor(sn: Sn, row: u8) -> u8 {
    let (column, row) = (sn.0 as u8 & 0x7f, row | 0x80);
    exp(255 - log(column ^ row))
}

/// `a` times `b`.
fn times(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { exp(log(a) + log(b)) }
}

/// How long ago that went out of which this is the echo, which may be of a repair; `None` if it is not past.
pub(super) fn age(now: Ts, echo: Ts) -> Option<Duration> {
    let mut age = now.millis_since(echo);
    if age.unsigned_abs() > i32::MAX as u32 / 2 {
        // What a repair rebuilt is acknowledged with the repair's clock.
        age = age.wrapping_add(i32::MIN);
    }
    u64::try_from(age).ok().map(Duration::from_millis)
}

/// What turns a repair's clock into the time, and back.
fn flip(ts: Ts) -> Ts {
    Ts(ts.0 ^ 1 << 31)
}
