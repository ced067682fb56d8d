//! Black holes (RFC 8899 4.3): a path that carries shorter datagrams only loses all longer ones without a word.
//!
//! The suspicion: long segments were found lost several times, and none as long as the shortest of them has arrived since.
//! Loss alone looks like that at times, and so does an outage. What becomes of it is decided by asking (see `mtud`).

use crate::kcp::mtud::SHORT;

/// How often long segments have to be found lost.
const LOSSES: u8 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) struct BlackHole {
    losses: u8,
    /// Of the longest segments that were lost each time, the shortest.
    len: u16,
}

impl BlackHole {
    pub(super) const fn new() -> Self {
        Self { losses: 0, len: u16::MAX }
    }

    /// Segments were found lost, the longest of them of `len` bytes.
    pub(super) fn on_lost(&mut self, len: u16) {
        if len > SHORT {
            self.losses = self.losses.saturating_add(1);
            self.len = self.len.min(len);
        }
    }

    /// A segment of `len` bytes has arrived, which says something if it came whole, not in pieces.
    #[inline]
    pub(super) fn on_arrival(&mut self, len: u16, came_whole: impl FnOnce(u16) -> bool) {
        if len >= self.len && came_whole(len) {
            *self = Self::new();
        }
    }

    pub(super) fn is_suspected(self) -> bool {
        self.losses >= LOSSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(losses: &[u16], arrival: u16) -> bool {
        let mut black_hole = BlackHole::new();
        losses.iter().for_each(|len| black_hole.on_lost(*len));
        black_hole.on_arrival(arrival, |_| true);
        black_hole.is_suspected()
    }

    #[test]
    fn what_gets_lost_again_and_again_and_is_longer_than_what_arrives_is_suspicious() {
        assert!(after(&[1400, 1400, 1400], 100));
        assert!(!after(&[1400, 1400], 100));
        assert!(!after(&[100, 100, 100], 50), "no path is as narrow");
        assert!(!after(&[1400, 1400, 1400], 1400));
        // Of a jumbo path a part has become narrower.
        assert!(after(&[8900, 8900, 5000], 4000) && !after(&[8900, 8900, 5000], 5000));
    }
}
