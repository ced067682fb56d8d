//! Finds out how many data and parity shards a peer uses.
//!
//! kcp-go looks for two unbroken runs of datagrams and so needs a stretch without loss; under 20 % loss it never finds
//! them (docs/original.md 2.5). Here each datagram is evidence by itself, in whatever order it comes: of a group of n,
//! its number modulo n is a place, and all places of data lie below all places of parity. For each n from 2 to 255 two
//! bytes remember the highest place of data and the lowest of parity; where they cross, n is out. Once a single n is
//! left, and its two places are neighbours, the counts are known.

use super::header::{Kind, Shards};

/// Evidence gathered since the last contradiction: 254 steps for each datagram, half a kilobyte of memory.
#[derive(Debug)]
pub(super) struct Tuner {
    /// For the group sizes 2, 3, ... 255.
    sizes: [Bounds; 254],
    samples: u32,
    seen_parity: bool,
}

/// What is known about one group size: the number of data shards is in `least..=most`.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: u8,
    most: u8,
}

/// Samples after which evidence that does not decide is thrown away.
const PATIENCE: u32 = 2_048;

impl Tuner {
    pub(super) fn new() -> Self {
        // A group has at least one shard of each kind.
        let sizes = core::array::from_fn(|index| Bounds { least: 1, most: index as u8 + 1 });
        Self { sizes, samples: 0, seen_parity: false }
    }

    /// Takes one datagram as evidence, and tells the counts if they are certain now.
    pub(super) fn sample(&mut self, seqid: u32, kind: Kind) -> Option<Shards> {
        if self.samples >= PATIENCE {
            *self = Self::new();
        }
        let mut found = self.narrow(seqid, kind);
        if found == Found::None {
            // Somewhere a foreign datagram or a change of counts: begin again with what is certainly new.
            *self = Self::new();
            found = self.narrow(seqid, kind);
        }
        match found {
            // A group's worth of evidence at least.
            Found::One(shards) if self.seen_parity && self.samples > u32::from(shards.total()) => Some(shards),
            _ => None,
        }
    }

    fn narrow(&mut self, seqid: u32, kind: Kind) -> Found {
        self.samples += 1;
        self.seen_parity |= kind == Kind::Parity;
        let mut found = Found::None;
        for (total, bounds) in (2_u32..).zip(&mut self.sizes) {
            if bounds.least > bounds.most {
                continue;
            }
            let place = (seqid % total) as u8;
            match kind {
                Kind::Data => bounds.least = bounds.least.max(place + 1),
                Kind::Parity => bounds.most = bounds.most.min(place),
            }
            if bounds.least > bounds.most {
                continue;
            }
            found = match (found, Shards::new(bounds.least, total as u8 - bounds.least)) {
                (Found::None, Ok(shards)) if bounds.least == bounds.most => Found::One(shards),
                _ => Found::Several,
            };
        }
        found
    }
}

/// What the evidence leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    None,
    One(Shards),
    Several,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Datagrams until the counts are certain.
    fn datagrams_needed(shards: Shards, from: u32, loss: f64, rng: &mut Rng) -> Option<u32> {
        let mut tuner = Tuner::new();
        let mut heard = 0;
        for seqid in from..from + 6_000 {
            if rng.f64() < loss {
                continue;
            }
            heard += 1;
            if let Some(found) = tuner.sample(seqid, shards.kind(seqid)) {
                assert_eq!(found, shards);
                return Some(heard);
            }
        }
        None
    }

    #[test]
    fn counts_are_learnt_within_a_few_groups_whatever_the_loss() {
        let mut rng = Rng::with_seed(11);
        for (data, parity) in [(10, 3), (1, 1), (2, 1), (5, 2), (20, 5), (70, 30), (30, 15), (250, 5), (3, 200)] {
            let shards = Shards::new(data, parity).unwrap();
            for from in [0, 7, 1_000_003] {
                for (loss, groups) in [(0.0, 3), (0.05, 4), (0.2, 8)] {
                    let needed = datagrams_needed(shards, from, loss, &mut rng).unwrap();
                    let most = u32::from(shards.total()) * groups + 16;
                    assert!(needed <= most, "{shards:?} from {from} at loss {loss}: {needed} datagrams");
                }
            }
        }
    }

    #[test]
    fn one_kind_alone_never_gives_counts() {
        for kind in [Kind::Data, Kind::Parity] {
            let mut tuner = Tuner::new();
            assert!((0..5_000).all(|seqid| tuner.sample(seqid, kind).is_none()));
        }
    }

    #[test]
    fn a_foreign_datagram_delays_the_answer_and_does_not_falsify_it() {
        let mut tuner = Tuner::new();
        let kcpq = Shards::KCPQ;
        let stream = (0..60).map(|seqid| (seqid, if seqid == 5 { Kind::Parity } else { kcpq.kind(seqid) }));
        let found = stream.filter_map(|(seqid, kind)| tuner.sample(seqid, kind)).last();
        assert_eq!(found, Some(kcpq));
    }
}
