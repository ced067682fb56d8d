//! The shards of one group, and how the lost ones are rebuilt.

use alloc::vec;
use alloc::vec::Vec;

use super::code::Interpolation;
use super::header::{Kind, Shards};
use crate::field::Multiplier;

/// What has come of one group. Its bytes lie in one buffer, which another group takes over in the end.
#[derive(Debug)]
pub(super) struct Group {
    /// The sequence number divided by the group's size.
    pub(super) number: u32,
    /// The shards that are kept, in the order in which they came.
    kept: Vec<Kept>,
    bytes: Vec<u8>,
    /// Places of which a shard came; they outlive the shards, to tell a duplicate from a late one.
    seen: [u64; 4],
    data: u8,
    parity: u8,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    place: u8,
    start: usize,
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Data are missing.
    Open,
    /// All data came, or were rebuilt: nothing is kept.
    Complete,
    /// Shards that contradict each other, or more of them than there was room for: nothing is kept.
    Dropped,
}

/// What became of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Kept,
    /// The group is enough to rebuild what it lacks.
    Enough,
    /// The group's data are all there, and no parity: with any it would have been [`Enough`](Self::Enough) before.
    Complete,
    /// Came before.
    Duplicate,
    /// The group needs nothing any more.
    Unneeded,
    /// Contradicts the group's other shards: all of it is dropped.
    Contradiction,
}

impl Group {
    /// A group that keeps its shards in `buffer`, which must be empty.
    pub(super) fn new(number: u32, buffer: Vec<u8>) -> Self {
        Self { number, kept: Vec::new(), bytes: buffer, seen: [0; 4], data: 0, parity: 0, state: State::Open }
    }

    /// Bytes of the shards that are kept.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory that these take.
    pub(super) fn held(&self) -> usize {
        self.bytes.capacity() + self.kept.capacity() * size_of::<Kept>()
    }

    /// Parity that waits in vain if the group is given up now.
    pub(super) fn waiting_parity(&self) -> u8 {
        if self.state == State::Open { self.parity } else { 0 }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes a shard of that place in the group.
    pub(super) fn take(&mut self, shards: Shards, place: u8, kind: Kind, shard: &[u8]) -> Taken {
        let (word, bit) = (usize::from(place / 64), 1 << (place % 64));
        let Some(seen) = self.seen.get_mut(word) else { return Taken::Contradiction };
        if *seen & bit != 0 {
            return Taken::Duplicate;
        }
        *seen |= bit;
        if self.state != State::Open {
            return Taken::Unneeded;
        }
        if self.contradicts(shards, kind, shard.len()) {
            self.close(State::Dropped);
            return Taken::Contradiction;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(shard);
        self.kept.push(Kept { place, start, end: self.bytes.len() });
        match kind {
            Kind::Data => self.data += 1,
            Kind::Parity => self.parity += 1,
        }
        if self.data == shards.data() {
            self.close(State::Complete);
            return Taken::Complete;
        }
        if self.kept.len() >= usize::from(shards.data()) { Taken::Enough } else { Taken::Kept }
    }

    /// Drops what is kept, and gives up on what is missing.
    pub(super) fn drop_shards(&mut self) {
        self.close(State::Dropped);
    }

    /// The buffer, emptied, once nothing is kept any more.
    pub(super) fn take_buffer(&mut self) -> Option<Vec<u8>> {
        (self.state != State::Open).then(|| core::mem::take(&mut self.bytes))
    }

    /// Rebuilds the missing data shards, padded to the length of the parity. To be called after [`Taken::Enough`]; it
    /// completes the group.
    ///
    /// Each costs one pass over every shard at hand, and they are together no longer than the parity that was kept.
    pub(super) fn rebuild(&mut self, shards: Shards, multiplier: Multiplier) -> Vec<Vec<u8>> {
        let known = self.kept.get(..shards.data().into()).unwrap_or_default();
        let points: Vec<u8> = known.iter().map(|kept| kept.place).collect();
        let len = known.iter().map(|kept| kept.end - kept.start).max().unwrap_or(0);
        let code = Interpolation::new(&points);
        let rebuild = |place| {
            let mut shard = vec![0; len];
            for (factor, kept) in code.factors(place).zip(known) {
                multiplier.add(factor, self.bytes.get(kept.start..kept.end).unwrap_or_default(), &mut shard);
            }
            shard
        };
        let rebuilt = (0..shards.data()).filter(|place| !points.contains(place)).map(rebuild).collect();
        self.close(State::Complete);
        rebuilt
    }

    fn close(&mut self, state: State) {
        self.state = state;
        self.kept = Vec::new();
        self.bytes.clear();
    }

    /// Parity is as long as the longest data of its group: all of one length, and no data longer. Also what bounds the
    /// work and memory of a rebuild by the bytes that were sent for it.
    fn contradicts(&self, shards: Shards, kind: Kind, len: usize) -> bool {
        let is_parity = |kept: &&Kept| kept.place >= shards.data();
        self.kept.iter().any(|kept| {
            let other = kept.end - kept.start;
            match (kind, is_parity(&kept)) {
                (Kind::Parity, true) => len != other,
                (Kind::Parity, false) => len < other,
                (Kind::Data, true) => len > other,
                (Kind::Data, false) => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_complete_with_all_its_data_and_its_memory_is_counted() {
        let shards = Shards::new(3, 2).unwrap();
        let mut group = Group::new(0, Vec::with_capacity(100));
        let taken: Vec<Taken> = (0..3).map(|place| group.take(shards, place, Kind::Data, &[place; 20])).collect();
        assert_eq!(taken, [Taken::Kept, Taken::Kept, Taken::Complete], "not only enough of them");
        let mut group = Group::new(1, Vec::with_capacity(100));
        group.take(shards, 0, Kind::Data, &[7; 20]);
        let of_shards = group.held() - 100;
        assert!(of_shards >= size_of::<Kept>() && of_shards.is_multiple_of(size_of::<Kept>()), "{of_shards}");
    }
}
