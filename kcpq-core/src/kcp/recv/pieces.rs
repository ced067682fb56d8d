//! Segments that come in pieces (PIECE, PROTOCOL.md 2.11): what was sent when the path carried more.
//!
//! What is kept is paid for by what has arrived, and bounded: the segments that are expected next go before others.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::kcp::seq::Sn;

/// What stands before the data of a piece: where it begins in its segment, and how long that is, both u16 LE.
pub(in crate::kcp) const PIECE_HEAD: usize = 4;
/// Most pieces kept, over all segments.
const PIECES: usize = 1_024;
/// Most bytes kept, over all segments.
const BYTES: usize = 256 * 1024;

/// One piece, as it came.
#[derive(Debug)]
struct Piece {
    sn: Sn,
    offset: u16,
    /// The length of the segment.
    total: u16,
    data: Box<[u8]>,
}

impl Piece {
    fn end(&self) -> usize {
        usize::from(self.offset) + self.data.len()
    }
}

/// Pieces of segments that are not complete, in the order of segments and of where they begin.
#[derive(Debug)]
pub(in crate::kcp) struct Pieces {
    kept: Vec<Piece>,
    bytes: usize,
}

impl Pieces {
    /// This end understands them.
    pub(in crate::kcp) const KNOWN: bool = true;

    pub(super) const fn new() -> Self {
        Self { kept: Vec::new(), bytes: 0 }
    }

    /// Bytes of memory that they take.
    pub(super) fn held(&self) -> usize {
        if self.kept.is_empty() { 0 } else { self.bytes + self.kept.capacity() * size_of::<Piece>() }
    }

    /// A piece has come. The whole segment, if nothing of it is missing now.
    pub(super) fn on_piece(&mut self, sn: Sn, body: &[u8]) -> Option<Vec<u8>> {
        let (&[o0, o1, t0, t1], data) = body.split_first_chunk::<PIECE_HEAD>()?;
        let (offset, total) = (u16::from_le_bytes([o0, o1]), u16::from_le_bytes([t0, t1]));
        if data.is_empty() || usize::from(offset) + data.len() > usize::from(total) {
            return None;
        }
        let first = self.kept.partition_point(|piece| piece.sn.before(sn));
        let count = self.kept.iter().skip(first).take_while(|piece| piece.sn == sn).count();
        let same = self.kept.get(first..first + count).unwrap_or_default();
        if same.iter().any(|piece| piece.total != total) || is_covered(same, offset, data.len()) {
            return None; // it contradicts what came before, or says nothing new
        }
        if !self.make_room(sn, data.len()) {
            return None;
        }
        let at = self.kept.partition_point(|piece| piece.sn.before(sn) || piece.sn == sn && piece.offset < offset);
        self.bytes += data.len();
        self.kept.insert(at, Piece { sn, offset, total, data: data.into() });
        self.take_whole(first, total)
    }

    /// Forgets what belongs to segments before `next`, which have arrived.
    #[inline]
    pub(super) fn forget_before(&mut self, next: Sn) {
        if !self.kept.is_empty() {
            self.forget(next);
        }
    }

    #[cold]
    fn forget(&mut self, next: Sn) {
        if self.kept.first().is_some_and(|piece| piece.sn.before(next)) {
            let count = self.kept.partition_point(|piece| piece.sn.before(next));
            self.drop_range(0, count);
        }
    }

    /// Makes room for a piece of segment `sn` at the cost of later segments. False if there are none.
    fn make_room(&mut self, sn: Sn, len: usize) -> bool {
        while self.bytes + len > BYTES || self.kept.len() >= PIECES {
            let Some(last) = self.kept.last().map(|piece| piece.sn).filter(|last| sn.before(*last)) else {
                return false;
            };
            let first = self.kept.partition_point(|piece| piece.sn.before(last));
            self.drop_range(first, self.kept.len());
        }
        true
    }

    /// Takes out the segment whose pieces begin at `first`, if they cover it.
    fn take_whole(&mut self, first: usize, total: u16) -> Option<Vec<u8>> {
        let total = usize::from(total);
        let sn = self.kept.get(first)?.sn;
        let (mut end, mut last) = (0, first);
        while let Some(piece) = self.kept.get(last).filter(|piece| piece.sn == sn) {
            if usize::from(piece.offset) > end {
                return None;
            }
            end = end.max(piece.end());
            last += 1;
        }
        if end < total {
            return None;
        }
        let mut whole = Vec::with_capacity(total);
        for piece in self.kept.get(first..last).unwrap_or_default() {
            let known = whole.len().saturating_sub(piece.offset.into());
            whole.extend_from_slice(piece.data.get(known..).unwrap_or_default());
        }
        self.drop_range(first, last);
        Some(whole)
    }

    fn drop_range(&mut self, from: usize, to: usize) {
        self.bytes -= self.kept.drain(from..to).map(|piece| piece.data.len()).sum::<usize>();
        if self.kept.is_empty() {
            self.kept = Vec::new();
        }
    }
}

/// True if `pieces`, in order, have the `len` bytes from `offset` on.
fn is_covered(pieces: &[Piece], offset: u16, len: usize) -> bool {
    let (mut from, to) = (usize::from(offset), usize::from(offset) + len);
    for piece in pieces {
        if usize::from(piece.offset) <= from {
            from = from.max(piece.end());
        }
    }
    from >= to
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn body(data: &[u8], from: usize, to: usize) -> Vec<u8> {
        let mut body = Vec::from((from as u16).to_le_bytes());
        body.extend((data.len() as u16).to_le_bytes());
        body.extend(&data[from..to]);
        body
    }

    #[test]
    fn pieces_come_in_any_order_cut_in_any_way_and_more_than_once() {
        for seed in 0..200 {
            let mut rng = Rng::with_seed(seed);
            let data: Vec<u8> = (0..rng.usize(1..9_000)).map(|_| rng.u8(..)).collect();
            let (mut pieces, mut whole) = (Pieces::new(), None);
            let mut tries = 0;
            while whole.is_none() {
                let from = rng.usize(..data.len());
                let to = data.len().min(from + rng.usize(1..3_000));
                // The edges are met by chance alone otherwise.
                let (from, to) = match rng.u8(..8) {
                    0 => (0, to - from),
                    1 => (data.len() - (to - from), data.len()),
                    _ => (from, to),
                };
                whole = pieces.on_piece(Sn(7), &body(&data, from, to));
                tries += 1;
                assert!(tries < 10_000, "seed {seed}");
            }
            assert!(whole.is_some_and(|whole| whole == data), "seed {seed}");
            assert_eq!((pieces.kept.len(), pieces.bytes, pieces.kept.capacity()), (0, 0, 0));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_expected_next_goes_before_the_rest() {
        let data: Vec<u8> = (0..16_000).map(|n| n as u8).collect();
        let mut pieces = Pieces::new();
        for sn in (10..200).rev() {
            for at in (0..15_000).step_by(1_000) {
                assert!(pieces.on_piece(Sn(sn), &body(&data, at, at + 1_000)).is_none());
                assert!(pieces.bytes <= BYTES);
            }
        }
        assert!(pieces.kept.first().is_some_and(|piece| piece.sn == Sn(10)));
        // One byte each.
        for sn in 0..200 {
            for at in 0..100 {
                assert!(pieces.on_piece(Sn(sn), &body(&data, at * 2, at * 2 + 1)).is_none());
                assert!(pieces.kept.len() <= PIECES);
            }
        }
        for at in (0..16_000).step_by(1_000) {
            if let Some(whole) = pieces.on_piece(Sn(0), &body(&data, at, at + 1_000)) {
                assert!(whole == data && at == 15_000);
                return;
            }
        }
        panic!("the segment that is expected next has no room");
    }

    #[test]
    fn lies_are_refused() {
        let mut pieces = Pieces::new();
        for lie in [&[][..], &[0, 0, 5], &[0, 0, 5, 0], &[5, 0, 5, 0, 1], &[0, 0, 1, 0, 1, 2], &[255, 255, 255, 255, 1]]
        {
            assert!(pieces.on_piece(Sn(1), lie).is_none());
        }
        assert!(pieces.kept.is_empty());
        assert!(pieces.on_piece(Sn(1), &[0, 0, 3, 0, 1]).is_none());
        assert!(pieces.on_piece(Sn(1), &[1, 0, 2, 0, 1]).is_none(), "of another length");
        assert_eq!(pieces.on_piece(Sn(1), &[1, 0, 3, 0, 2, 3]), Some(Vec::from([1, 2, 3])));
    }

    #[test]
    fn what_came_whole_is_forgotten() {
        let mut pieces = Pieces::new();
        for sn in [u32::MAX, 0, 1] {
            assert!(pieces.on_piece(Sn(sn), &[0, 0, 3, 0, 1]).is_none());
        }
        pieces.forget_before(Sn(1));
        assert_eq!((pieces.kept.len(), pieces.bytes), (1, 1));
    }
}
