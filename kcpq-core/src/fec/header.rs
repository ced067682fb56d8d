//! The FEC header: kinds, sequence numbers and group sizes. No memory, no arithmetic on the payload.
//!
//! ```text
//! | seqid u32 LE | kind u16 LE | size u16 LE (data only) | ...
//! 0              4             6                         8
//! ```
//!
//! The kind shares its place with the command of a bare KCP segment (81 to 84 in byte 4), so the two cannot be mistaken
//! for each other (PROTOCOL.md 1.1).
//!
//! A client that sends no parity needs this much:
//! ```
//! use kcpq_core::fec::header::{self, Header, Kind, Numbering, Shards};
//!
//! let mut numbering = Numbering::new(Shards::KCPQ);
//! let mut datagram = [0; header::LEN + 24]; // the KCP part lies behind the header
//! header::write_data(numbering.data(), &mut datagram)?;
//! let (header, shard) = Header::parse(&datagram)?;
//! assert_eq!(header.kind, Kind::Data);
//! assert_eq!(shard.len(), 2 + 24);
//! # Ok::<(), kcpq_core::fec::FecError>(())
//! ```

use core::fmt;

/// Bytes in front of the KCP part of a data datagram.
pub const LEN: usize = 8;

/// Bytes in front of the shard: what Reed-Solomon codes starts here, with the size field (PROTOCOL.md 1.3).
pub const SHARD: usize = 6;

/// The largest datagram whose size field can be told in 16 bits.
pub const MAX_DATAGRAM: usize = SHARD + u16::MAX as usize;

const DATA: u16 = 0x00f1;
const PARITY: u16 = 0x00f2;

/// What a datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// KCP segments, in clear.
    Data,
    /// Reed-Solomon bytes.
    Parity,
}

/// The first six bytes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// Number of the datagram, per sender; data and parity count alike.
    pub seqid: u32,
    /// What follows.
    pub kind: Kind,
}

impl Header {
    /// Splits a datagram into its header and its shard (everything from the size field on).
    ///
    /// A size field that claims more than there is, or less than itself, is refused. One that claims less than there is
    /// passes, for the original looks at it only in rebuilt shards and gives KCP all of the datagram
    /// (docs/original.md 2.2).
    ///
    /// # Errors
    /// [`FecError`]: the datagram is none of kcp-go's FEC stack, or is damaged.
    pub fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), FecError> {
        let Some((&[s0, s1, s2, s3, k0, k1], shard)) = datagram.split_first_chunk::<SHARD>() else {
            return Err(FecError::Truncated { len: datagram.len() });
        };
        let kind = match u16::from_le_bytes([k0, k1]) {
            DATA => Kind::Data,
            PARITY => Kind::Parity,
            kind => return Err(FecError::NotFec { kind }),
        };
        let Some(&[z0, z1]) = shard.first_chunk::<2>() else {
            return Err(FecError::Truncated { len: datagram.len() });
        };
        let size = u16::from_le_bytes([z0, z1]);
        if kind == Kind::Data && !(2..=shard.len()).contains(&usize::from(size)) {
            return Err(FecError::Size { size, shard: shard.len() });
        }
        Ok((Self { seqid: u32::from_le_bytes([s0, s1, s2, s3]), kind }, shard))
    }

    /// True if a datagram bears one of the two kinds; it may be damaged all the same. The way to tell a FEC-framed
    /// datagram from bare KCP.
    pub fn is_fec(datagram: &[u8]) -> bool {
        matches!(datagram, [_, _, _, _, k0, k1, ..] if matches!(u16::from_le_bytes([*k0, *k1]), DATA | PARITY))
    }

    /// The six bytes.
    pub const fn to_bytes(self) -> [u8; SHARD] {
        let [s0, s1, s2, s3] = self.seqid.to_le_bytes();
        let [k0, k1] = match self.kind {
            Kind::Data => DATA.to_le_bytes(),
            Kind::Parity => PARITY.to_le_bytes(),
        };
        [s0, s1, s2, s3, k0, k1]
    }
}

/// Fills in the header of a data datagram: the first [`LEN`] bytes of `datagram`, whose KCP part follows them.
///
/// # Errors
/// [`FecError::Truncated`] below [`LEN`] bytes, [`FecError::TooLong`] beyond [`MAX_DATAGRAM`]; nothing is written then.
pub fn write_data(seqid: u32, datagram: &mut [u8]) -> Result<(), FecError> {
    let len = datagram.len();
    let Some(size) = len.checked_sub(SHARD).filter(|&size| size >= LEN - SHARD) else {
        return Err(FecError::Truncated { len });
    };
    let (Ok(size), Some(head)) = (u16::try_from(size), datagram.first_chunk_mut::<LEN>()) else {
        return Err(FecError::TooLong { len, max: MAX_DATAGRAM });
    };
    let ([s0, s1, s2, s3, k0, k1], [z0, z1]) = (Header { seqid, kind: Kind::Data }.to_bytes(), size.to_le_bytes());
    *head = [s0, s1, s2, s3, k0, k1, z0, z1];
    Ok(())
}

/// How many data and parity datagrams make a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Shards {
    data: u8,
    parity: u8,
}

impl Shards {
    /// What the original uses, on every session: 10 data, 3 parity.
    pub const KCPQ: Self = Self { data: 10, parity: 3 };

    /// The most shards a group can have.
    pub const MAX: u8 = 255;

    /// `data` and `parity` from 1, together at most [`Shards::MAX`].
    ///
    /// # Errors
    /// [`ShardsError`] if a count is 0 or the sum too large.
    pub const fn new(data: u8, parity: u8) -> Result<Self, ShardsError> {
        if data == 0 || parity == 0 || data.checked_add(parity).is_none() {
            return Err(ShardsError { data, parity });
        }
        Ok(Self { data, parity })
    }

    /// Data datagrams in a group.
    pub const fn data(self) -> u8 {
        self.data
    }

    /// Parity datagrams in a group.
    pub const fn parity(self) -> u8 {
        self.parity
    }

    /// All datagrams of a group, 2 to 255.
    pub const fn total(self) -> u8 {
        self.data + self.parity
    }

    /// The number after the last one: sequence numbers start again at 0 before a group could straddle the wrap
    /// (PROTOCOL.md 1.2).
    pub const fn paws(self) -> u32 {
        self.groups() * self.divisor()
    }

    /// How many groups there are before the numbers start again.
    pub const fn groups(self) -> u32 {
        u32::MAX / self.divisor()
    }

    /// What the datagram of that number is.
    pub const fn kind(self, seqid: u32) -> Kind {
        if self.position(seqid) < self.data { Kind::Data } else { Kind::Parity }
    }

    /// The place of a number in its group, from 0.
    pub const fn position(self, seqid: u32) -> u8 {
        // Below the divisor, which is a u8.
        (seqid % self.divisor()) as u8
    }

    /// [`total`](Self::total), which is never 0, in a form that the compiler believes.
    const fn divisor(self) -> u32 {
        match self.total() {
            0 => 1,
            total => total as u32,
        }
    }
}

/// Hands out the sequence numbers of one sender.
///
/// Parity numbers that nobody asked for are skipped, so a sender without parity numbers its data as one whose parity
/// was lost on the way, which is what every version of kcp-go understands (docs/original.md 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Numbering {
    shards: Shards,
    next: u32,
}

impl Numbering {
    /// Starts at 0, as every session does in both directions.
    pub const fn new(shards: Shards) -> Self {
        Self { shards, next: 0 }
    }

    /// Starts at the group that `seqid` belongs to; for tests of the wrap.
    pub const fn starting_at(shards: Shards, seqid: u32) -> Self {
        let seqid = seqid % shards.paws();
        Self { shards, next: seqid - seqid % shards.total() as u32 }
    }

    /// Goes on with the next group that nothing has been sent of, laid out as `shards`.
    pub const fn next_group(self, shards: Shards) -> Self {
        let total = self.shards.total() as u32;
        let group = self.next.div_ceil(total).saturating_mul(total);
        Self::starting_at(shards, group.saturating_add(shards.total() as u32 - 1))
    }

    /// The group's layout.
    pub const fn shards(&self) -> Shards {
        self.shards
    }

    /// The number of the next data datagram.
    pub const fn data(&mut self) -> u32 {
        let position = self.shards.position(self.next);
        if position >= self.shards.data {
            self.step((self.shards.total() - position) as u32);
        }
        let seqid = self.next;
        self.step(1);
        seqid
    }

    /// The number of the next parity datagram, if the group's data are all out and its parity is not.
    pub const fn parity(&mut self) -> Option<u32> {
        if self.shards.position(self.next) < self.shards.data {
            return None;
        }
        let seqid = self.next;
        self.step(1);
        Some(seqid)
    }

    const fn step(&mut self, count: u32) {
        // At most 255 past a number below paws, which is at most u32::MAX; a group's end is never passed.
        self.next = self.next.wrapping_add(count);
        if self.next == self.shards.paws() {
            self.next = 0;
        }
    }
}

/// Why a datagram is no FEC datagram, or cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FecError {
    /// Too short for a header.
    Truncated {
        /// Bytes there were.
        len: usize,
    },
    /// Neither data nor parity: bare KCP, an out-of-band datagram of newer kcp-go, or noise.
    NotFec {
        /// Bytes 4 and 5.
        kind: u16,
    },
    /// The size field claims more than the datagram holds, or less than itself.
    Size {
        /// What it claims.
        size: u16,
        /// Bytes from the size field on.
        shard: usize,
    },
    /// Longer than the size field, or the memory set aside for a shard, can take.
    TooLong {
        /// Bytes there were.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
}

impl fmt::Display for FecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { len } => write!(f, "{len} bytes are too short for an FEC header"),
            Self::NotFec { kind } => write!(f, "kind {kind:#06x} is neither FEC data nor parity"),
            Self::Size { size, shard } => write!(f, "size field {size} does not fit a shard of {shard} bytes"),
            Self::TooLong { len, max } => write!(f, "datagram of {len} bytes exceeds {max}"),
        }
    }
}

impl core::error::Error for FecError {}

/// A group that cannot be: a count of 0, or more than [`Shards::MAX`] together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ShardsError {
    /// Data shards asked for.
    pub data: u8,
    /// Parity shards asked for.
    pub parity: u8,
}

impl fmt::Display for ShardsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, parity } = self;
        write!(f, "{data} data and {parity} parity shards: each must be 1 or more, together at most {}", Shards::MAX)
    }
}

impl core::error::Error for ShardsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_skip_the_parity_that_is_not_sent() {
        let mut numbering = Numbering::new(Shards::KCPQ);
        let numbers: [u32; 12] = core::array::from_fn(|_| numbering.data());
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14]);
        assert_eq!(numbering.parity(), None);
    }

    #[test]
    fn numbers_wrap_between_groups_with_parity_and_without() {
        let shards = Shards::KCPQ;
        assert_eq!(shards.paws(), 4_294_967_287);
        let mut numbering = Numbering::starting_at(shards, u32::MAX);
        assert_eq!(numbering.data(), 0, "there are no numbers from paws on");
        let mut numbering = Numbering::starting_at(shards, shards.paws() - 1);
        for position in 0..10 {
            assert_eq!(numbering.data(), shards.paws() - 13 + position);
        }
        let mut without = numbering;
        assert_eq!(without.data(), 0);
        for position in 10..13 {
            assert_eq!(numbering.parity(), Some(shards.paws() - 13 + position));
        }
        assert_eq!(numbering.data(), 0);
        // 255 divides 2^32 - 1, so the last number itself is used.
        let wide = Shards::new(200, 55).unwrap();
        let mut numbering = Numbering::starting_at(wide, u32::MAX - 1);
        assert_eq!((wide.paws(), numbering.data()), (u32::MAX, u32::MAX - 255));
    }

    #[test]
    fn shards_exist_only_when_valid() {
        assert_eq!(Shards::new(10, 3), Ok(Shards::KCPQ));
        assert!(Shards::new(254, 1).is_ok());
        for (data, parity) in [(0, 1), (1, 0), (255, 1), (128, 128)] {
            assert_eq!(Shards::new(data, parity), Err(ShardsError { data, parity }));
        }
    }

    #[test]
    fn damaged_headers_are_refused_with_the_facts() {
        let mut datagram = [0; 20];
        write_data(7, &mut datagram).unwrap();
        assert_eq!(Header::parse(&datagram).unwrap().0, Header { seqid: 7, kind: Kind::Data });
        for len in 0..LEN {
            assert_eq!(Header::parse(&datagram[..len]), Err(FecError::Truncated { len }));
            assert_eq!(write_data(7, &mut datagram[..len]), Err(FecError::Truncated { len }));
        }
        assert_eq!(Header::parse(&datagram[..19]), Err(FecError::Size { size: 14, shard: 13 }));
        datagram[6] = 1;
        assert_eq!(Header::parse(&datagram), Err(FecError::Size { size: 1, shard: 14 }));
        datagram[4] = 0xf3;
        assert_eq!(Header::parse(&datagram), Err(FecError::NotFec { kind: 0xf3 }));
        assert!(!Header::is_fec(&datagram));
    }
}
