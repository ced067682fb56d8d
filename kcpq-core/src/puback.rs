//! What a server says of a message whose publisher wants to know: the payload of PUBACK (PROTOCOL.md 3.12).
//!
//! ```text
//!  0        4      5          9
//! +--------+------+----------+
//! | number | code | sessions |     all big-endian; the last one only with code 0
//! +--------+------+----------+
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
}

/// Why a server has not routed a message.
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
            Self::Other(code) => write!(f, "refused by the server (code {code})"),
        }
    }
}

impl PubAck {
    /// The most bytes of a payload.
    pub const MAX_LEN: usize = 9;

    /// Writes the payload to the front of `out`; returns its length.
    pub fn encode(self, out: &mut [u8; Self::MAX_LEN]) -> usize {
        out[..4].copy_from_slice(&self.number.to_be_bytes());
        match self.outcome {
            Ok(sessions) => {
                out[4] = 0;
                out[5..].copy_from_slice(&sessions.to_be_bytes());
                Self::MAX_LEN
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
        let outcome = match code {
            0 => Ok(u32::from_be_bytes(*rest.first_chunk()?)),
            1 => Err(Rejection::Invalid),
            2 => Err(Rejection::NotPermitted),
            3 => Err(Rejection::TooFast),
            4 => Err(Rejection::NotKept),
            5 => Err(Rejection::TooLarge),
            code => Err(Rejection::Other(*code)),
        };
        Some(Self { number: u32::from_be_bytes(*number), outcome })
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
            assert_eq!((ack.number, ack.outcome.ok()), (258, (code == 0).then_some(7)));
            let mut out = [0; PubAck::MAX_LEN];
            let len = ack.encode(&mut out);
            assert_eq!(out[..len], payload[..len]);
            assert_eq!(PubAck::decode(&payload[..len]), Some(ack));
            assert_eq!(PubAck::decode(&payload[..len - 1]), None);
        }
    }
}
