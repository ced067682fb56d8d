//! Messages that are stored: where a subscription to them begins, what is said of each, and what becomes of it
//! (PROTOCOL.md 3.15). The bytes of it; all integers are big-endian.

use crate::time::Duration;

/// Where a subscription to stored messages begins, in the order in which they were stored. What is stored later follows.
///
/// ```text
///  0      1
/// +------+-------+
/// | kind | value |     u8, u64: 0 all, 1 from a sequence, 2 since so many ms ago, 3 last of each subject, 4 only new
/// +------+-------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Start {
    /// With the oldest that there is.
    All,
    /// With the first of this sequence or a later one.
    From(u64),
    /// With the first that was stored no longer ago than this; in whole milliseconds.
    Since(Duration),
    /// With the newest of each subject.
    Last,
    /// With none of those that there are.
    New,
    /// Of a kind that this version does not know: nobody asks for that.
    Other(u8),
}

impl Start {
    /// Bytes of it.
    pub const LEN: usize = 9;

    /// Its bytes.
    pub fn encode(self) -> [u8; Self::LEN] {
        let (kind, value) = match self {
            Self::All => (0, 0),
            Self::From(sequence) => (1, sequence),
            Self::Since(span) => (2, span.as_micros().div_ceil(1_000)),
            Self::Last => (3, 0),
            Self::New => (4, 0),
            Self::Other(kind) => (kind, 0),
        };
        let mut bytes = [0; Self::LEN];
        let (head, rest) = bytes.split_at_mut(1);
        head.fill(kind);
        rest.copy_from_slice(&u64::to_be_bytes(value));
        bytes
    }

    /// Reads it.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        let [kind, value @ ..] = bytes;
        let value = u64::from_be_bytes(*value);
        match kind {
            0 => Self::All,
            1 => Self::From(value),
            2 => Self::Since(Duration::from_millis(value)),
            3 => Self::Last,
            4 => Self::New,
            kind => Self::Other(*kind),
        }
    }
}

/// The longest name of a durable subscription, in bytes.
pub const MAX_DURABLE: usize = 32;

/// True if this is a name for a durable subscription: 1 to [`MAX_DURABLE`] bytes of `A-Z`, `a-z`, `0-9`, `-`, `_`.
pub fn is_durable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_DURABLE).contains(&name.len()) && name.bytes().all(plain)
}

/// What a server says of a stored message: the value of the property [`STORED`](crate::frame::properties::tag::STORED).
///
/// ```text
///  0        4          12          20           24
/// +--------+----------+-----------+------------+
/// | number | sequence | stored_at | deliveries |
/// +--------+----------+-----------+------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stored {
    /// The number of the subscription that alone it is for.
    pub number: u32,
    /// Its place among all that are stored with it.
    pub sequence: u64,
    /// When it was stored, in milliseconds since 1970 (UTC), by the store's clock.
    pub stored_at: u64,
    /// How often it was delivered to this subscription, this time included; 1 unless that is durable.
    pub deliveries: u32,
}

impl Stored {
    /// Bytes of it.
    pub const LEN: usize = 24;

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (number, rest) = bytes.split_at_mut(4);
        number.copy_from_slice(&self.number.to_be_bytes());
        let (sequence, rest) = rest.split_at_mut(8);
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        let (stored_at, deliveries) = rest.split_at_mut(8);
        stored_at.copy_from_slice(&self.stored_at.to_be_bytes());
        deliveries.copy_from_slice(&self.deliveries.to_be_bytes());
        bytes
    }

    /// Reads it; `None` if it is cut short. What follows is ignored.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (stored_at, rest) = rest.split_first_chunk()?;
        Some(Self {
            number: u32::from_be_bytes(*number),
            sequence: u64::from_be_bytes(*sequence),
            stored_at: u64::from_be_bytes(*stored_at),
            deliveries: u32::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

/// What is to become of a message of a durable subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Settlement {
    /// It is done with, and does not come again.
    Ack,
    /// It is to come again.
    Nak,
    /// It is never to come again, although it is not done with.
    Term,
    /// It is still worked on: the time after which it would come again begins anew.
    Working,
}

/// The payload of MSGACK: what is to become of one message.
///
/// ```text
///  0        4          12     13
/// +--------+----------+------+
/// | number | sequence | kind |     0 ack, 1 nak, 2 term, 3 working
/// +--------+----------+------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MsgAck {
    /// The number of the subscription.
    pub number: u32,
    /// The message's place among all that are stored with it.
    pub sequence: u64,
    /// What is to become of it.
    pub settlement: Settlement,
}

impl MsgAck {
    /// Bytes of it.
    pub const LEN: usize = 13;

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (number, rest) = bytes.split_at_mut(4);
        number.copy_from_slice(&self.number.to_be_bytes());
        let (sequence, kind) = rest.split_at_mut(8);
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        kind.fill(match self.settlement {
            Settlement::Ack => 0,
            Settlement::Nak => 1,
            Settlement::Term => 2,
            Settlement::Working => 3,
        });
        bytes
    }

    /// Reads it; `None` if it is cut short, or of a kind that this version does not know. What follows is ignored.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let settlement = match rest.first()? {
            0 => Settlement::Ack,
            1 => Settlement::Nak,
            2 => Settlement::Term,
            3 => Settlement::Working,
            _ => return None,
        };
        Some(Self { number: u32::from_be_bytes(*number), sequence: u64::from_be_bytes(*sequence), settlement })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for start in [Start::All, Start::From(7), Start::Since(Duration::from_millis(9)), Start::Last, Start::New] {
            assert_eq!(Start::decode(&start.encode()), start);
        }
        assert_eq!(Start::Since(Duration::from_micros(1)).encode()[8], 1, "rounded up: nothing is missing");
        assert_eq!(Start::decode(&[5, 0, 0, 0, 0, 0, 0, 0, 0]), Start::Other(5));
        let stored = Stored { number: 1, sequence: 1 << 40, stored_at: 1 << 41, deliveries: 3 };
        assert_eq!(Stored::decode(&stored.encode()), Some(stored));
        for settlement in [Settlement::Ack, Settlement::Nak, Settlement::Term, Settlement::Working] {
            let ack = MsgAck { number: 9, sequence: 1 << 50, settlement };
            assert_eq!(MsgAck::decode(&ack.encode()), Some(ack));
            assert!((0..MsgAck::LEN).all(|len| MsgAck::decode(&ack.encode()[..len]).is_none()));
        }
        assert!((0..Stored::LEN).all(|len| Stored::decode(&stored.encode()[..len]).is_none()));
        assert_eq!(MsgAck::decode(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 4]), None);
    }

    #[test]
    fn names_are_plain() {
        assert!(is_durable("worker-7_B") && is_durable(&"x".repeat(MAX_DURABLE)));
        for name in ["", "a b", "a.b", "a*", "ä", "a\n", "x>"] {
            assert!(!is_durable(name), "{name}");
        }
        assert!(!is_durable(&"x".repeat(MAX_DURABLE + 1)));
    }
}
