//! What a server says of a message whose publisher wants to know: the payload of PUBACK (PROTOCOL.md 3.12).
//!
//! ```text
//!  0        4      5          9          17
//! +--------+------+----------+----------+-------+
//! | number | code | sessions | sequence | flags |     all big-endian; the third only with code 0, the last two only then and
//! +--------+------+----------+----------+-------+     of a message that was to be stored
//! ```

use core::fmt;

/// What became of one message. The subject of the frame holds a text for people, empty if it was routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PubAck {
    /// The number that the publisher gave it.
    pub number: u32,
    /// To how many sessions it goes, or why to none.
    pub outcome: Result<u32, Rejection>,
    /// Where it was stored, if it was to be and has been.
    pub stored: Option<Stored>,
}

/// Where a message was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stored {
    /// Its number in the stream that has it, from 1.
    pub sequence: u64,
    /// It was there already: this is the number of the one before it that had the same id.
    pub duplicate: bool,
}

impl Stored {
    const DUPLICATE: u8 = 1 << 0;
    const LEN: usize = 9;

    fn encode(self) -> [u8; Self::LEN] {
        let [a, b, c, d, e, f, g, h] = self.sequence.to_be_bytes();
        [a, b, c, d, e, f, g, h, if self.duplicate { Self::DUPLICATE } else { 0 }]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, rest) = bytes.split_first_chunk()?;
        let duplicate = rest.first()? & Self::DUPLICATE != 0;
        Some(Self { sequence: u64::from_be_bytes(*sequence), duplicate })
    }
}

/// Why a server has not routed a message, or not done with it what its publisher wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Rejection {
    /// Subject or properties make no sense to it.
    Invalid,
    /// The client may not publish to this subject.
    NotPermitted,
    /// The client has published more bytes in a second than it may.
    TooFast,
    /// It was routed, but is not kept as the last value of its subject, as the publisher wanted.
    NotKept,
    /// It was routed at this server, but is too large for the backbone that connects it to others.
    TooLarge,
    /// It was routed, but no stream stores this subject.
    NoStream,
    /// It was routed, but it is not known whether it is stored: nothing was said of that in time.
    InDoubt,
    /// It was routed, but is not stored, for a reason that the text says.
    NotStored,
    /// A reason that this version does not know.
    Other(u8),
}

impl Rejection {
    fn code(self) -> u8 {
        match self {
            Self::Invalid => 1,
            Self::NotPermitted => 2,
            Self::TooFast => 3,
            Self::NotKept => 4,
            Self::TooLarge => 5,
            Self::NoStream => 6,
            Self::InDoubt => 7,
            Self::NotStored => 8,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("the server does not accept the subject, or what the message carries"),
            Self::NotPermitted => f.write_str("the server does not permit to publish to this subject"),
            Self::TooFast => f.write_str("more bytes in a second than the server permits"),
            Self::NotKept => f.write_str("the server has routed the message, but does not keep it as the last value"),
            Self::TooLarge => f.write_str("the server has routed the message, but its backbone takes none so large"),
            Self::NoStream => f.write_str("the server has routed the message, but no stream stores this subject"),
            Self::InDoubt => f.write_str(
                "the server has routed the message, but it is not known whether it is stored: \
                 the backbone has not said so in time",
            ),
            Self::NotStored => f.write_str("the server has routed the message, but it is not stored"),
            Self::Other(code) => write!(f, "refused by the server (code {code})"),
        }
    }
}

impl PubAck {
    /// The most bytes of a payload.
    pub const MAX_LEN: usize = Self::LEN + Stored::LEN;
    /// The bytes up to the number of sessions.
    const LEN: usize = 9;

    /// Writes the payload to the front of `out`; returns its length.
    pub fn encode(self, out: &mut [u8; Self::MAX_LEN]) -> usize {
        out[..4].copy_from_slice(&self.number.to_be_bytes());
        match self.outcome {
            Ok(sessions) => {
                out[4] = 0;
                out[5..Self::LEN].copy_from_slice(&sessions.to_be_bytes());
                match self.stored {
                    Some(stored) => {
                        out[Self::LEN..].copy_from_slice(&stored.encode());
                        Self::MAX_LEN
                    }
                    None => Self::LEN,
                }
            }
            Err(rejection) => {
                out[4] = rejection.code();
                5
            }
        }
    }

    /// Reads a payload; `None` if it is cut short. What follows is ignored.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (number, rest) = payload.split_first_chunk()?;
        let (code, rest) = rest.split_first()?;
        let mut stored = None;
        let outcome = match code {
            0 => {
                let (sessions, rest) = rest.split_first_chunk()?;
                stored = Stored::decode(rest);
                Ok(u32::from_be_bytes(*sessions))
            }
            1 => Err(Rejection::Invalid),
            2 => Err(Rejection::NotPermitted),
            3 => Err(Rejection::TooFast),
            4 => Err(Rejection::NotKept),
            5 => Err(Rejection::TooLarge),
            6 => Err(Rejection::NoStream),
            7 => Err(Rejection::InDoubt),
            8 => Err(Rejection::NotStored),
            code => Err(Rejection::Other(*code)),
        };
        Some(Self { number: u32::from_be_bytes(*number), outcome, stored })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_understood() {
        for code in 0..=255 {
            let payload = [0, 0, 1, 2, code, 0, 0, 0, 7, 9];
            let ack = PubAck::decode(&payload).unwrap();
            assert_eq!((ack.number, ack.outcome.ok(), ack.stored), (258, (code == 0).then_some(7), None));
            let mut out = [0; PubAck::MAX_LEN];
            let len = ack.encode(&mut out);
            assert_eq!(out[..len], payload[..len]);
            assert_eq!(PubAck::decode(&payload[..len]), Some(ack));
            assert_eq!(PubAck::decode(&payload[..len - 1]), None);
        }
    }

    #[test]
    fn where_it_is_stored_stands_behind() {
        for (flags, duplicate) in [(0, false), (1, true)] {
            let payload = [0, 0, 0, 5, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 9, flags];
            let stored = Some(Stored { sequence: 1 << 56 | 9, duplicate });
            let ack = PubAck { number: 5, outcome: Ok(2), stored };
            assert_eq!(PubAck::decode(&payload), Some(ack));
            assert_eq!(PubAck::decode(&payload[..17]), Some(PubAck { stored: None, ..ack }));
            let mut out = [0; PubAck::MAX_LEN];
            assert_eq!((ack.encode(&mut out), out), (payload.len(), payload));
        }
    }
}
