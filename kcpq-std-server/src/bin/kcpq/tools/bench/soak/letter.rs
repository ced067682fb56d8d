//! What guests write to each other: a message that tells whether it is whole, and in its place.
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | which guest's life it is of, u64 big-endian |
//! | 8..16 | its number in that life, u64 big-endian |
//! | 16 | the lane |
//! | 17.. | a byte that follows from these, again and again |

use std::collections::{HashMap, HashSet};

const HEAD: usize = 17;

/// A message without its filler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) life: u64,
    pub(super) number: u64,
    pub(super) lane: u8,
}

/// What is wrong with one that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not what anybody wrote.
    Altered,
    /// It came before, or one that was written after it did.
    OutOfPlace,
}

impl Letter {
    /// The message, with so many bytes of filler.
    pub(super) fn write(self, filler: usize) -> Vec<u8> {
        let mut payload = Vec::with_capacity(HEAD + filler);
        payload.extend_from_slice(&self.life.to_be_bytes());
        payload.extend_from_slice(&self.number.to_be_bytes());
        payload.push(self.lane);
        payload.resize(HEAD + filler, self.fill());
        payload
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (life, rest) = payload.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (lane, filler) = rest.split_first()?;
        let letter = Self { life: u64::from_be_bytes(*life), number: u64::from_be_bytes(*number), lane: *lane };
        filler.iter().all(|byte| *byte == letter.fill()).then_some(letter)
    }

    fn fill(self) -> u8 {
        let bytes = [self.life.wrapping_mul(31), self.number.wrapping_mul(7)].map(u64::to_be_bytes);
        bytes.as_flattened().iter().fold(self.lane, |fill, byte| fill.rotate_left(3) ^ byte)
    }
}

/// What one subscription has had so far.
#[derive(Debug)]
pub(super) enum Seen {
    /// The last number of each life and lane: messages come in order.
    Ordered(HashMap<(u64, u8), u64>),
    /// All: a member of a queue group gets what another one leaves behind, after later ones.
    Shared(HashSet<(u64, u64)>),
}

impl Seen {
    /// Nothing yet, as a member of a queue group or not.
    pub(super) fn new(shared: bool) -> Self {
        if shared { Self::Shared(HashSet::new()) } else { Self::Ordered(HashMap::new()) }
    }

    /// Takes in a message. A value that the server has `kept` comes again, and in no order.
    ///
    /// # Errors
    /// It is not as it should be.
    pub(super) fn take(&mut self, payload: &[u8], kept: bool) -> Result<(), Wrong> {
        let Letter { life, number, lane } = Letter::read(payload).ok_or(Wrong::Altered)?;
        if kept {
            return Ok(());
        }
        let in_place = match self {
            Self::Ordered(last) => last.insert((life, lane), number).is_none_or(|last| last < number),
            Self::Shared(seen) => seen.insert((life, number)),
        };
        if in_place { Ok(()) } else { Err(Wrong::OutOfPlace) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_altered_or_out_of_place_is_noticed() {
        let letter = |life, number, lane| Letter { life, number, lane }.write(100);
        let mut seen = Seen::new(false);
        for (life, number, lane) in [(1, 1, 0), (1, 3, 0), (2, 1, 0), (1, 2, 7), (1, 4, 0)] {
            assert_eq!(seen.take(&letter(life, number, lane), false), Ok(()));
        }
        assert_eq!(seen.take(&letter(1, 4, 0), false), Err(Wrong::OutOfPlace));
        assert_eq!(seen.take(&letter(1, 2, 0), false), Err(Wrong::OutOfPlace));
        assert_eq!(seen.take(&letter(2, 1, 0), true), Ok(()));
        for at in [0, 8, 16, 17, 116] {
            let mut payload = letter(1, 9, 0);
            payload[at] ^= 1;
            assert_eq!(seen.take(&payload, false), Err(Wrong::Altered), "byte {at}");
        }
        assert_eq!(seen.take(&letter(1, 9, 0)[..16], false), Err(Wrong::Altered));
        let mut seen = Seen::new(true);
        assert_eq!(
            [2, 1, 2].map(|number| seen.take(&letter(1, number, 0), false)),
            [Ok(()), Ok(()), Err(Wrong::OutOfPlace)]
        );
    }
}
