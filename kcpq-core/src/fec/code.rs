//! The code of klauspost/reedsolomon, seen as what it is: interpolation.
//!
//! Its matrix is `V * inverse(top of V)` with `V[r][c] = r^c` (PROTOCOL.md 1.3). Row r of V evaluates a polynomial at
//! r, and the inverse finds the polynomial that passes through the data at 0, 1, 2... So the shards of a group are the
//! values of one polynomial at 0, 1, 2..., of a degree below the number of data shards, and any that many values give
//! all others by Lagrange's formula. No matrix is inverted, neither to encode nor to decode, and none can be singular.

use alloc::vec::Vec;

use crate::field::{exp, log};

/// The factors by which the values at some points add up to the value at another.
#[derive(Debug)]
pub(super) struct Interpolation<'p> {
    /// Where values are known; all different.
    points: &'p [u8],
    /// For each point, the logarithm of the product of its distances to all the others.
    spans: Vec<u32>,
}

impl<'p> Interpolation<'p> {
    /// `points` must be all different. Work grows with the square of their number, at most 254 here.
    pub(super) fn new(points: &'p [u8]) -> Self {
        let span = |&x: &u8| points.iter().filter(|&&other| other != x).map(|&other| log(x ^ other)).sum();
        Self { points, spans: points.iter().map(span).collect() }
    }

    /// The factor of each known value in the value at `target`, which must be none of the points.
    pub(super) fn factors(&self, target: u8) -> impl Iterator<Item = u8> {
        let whole: u32 = self.points.iter().map(|&x| log(target ^ x)).sum();
        let factor = move |(&x, &span): (&u8, &u32)| {
            // Divided by the own distance and by the span: 255 - l is the logarithm of the inverse.
            exp(whole + (255 - log(target ^ x)) + (255 - span % 255))
        };
        self.points.iter().zip(&self.spans).map(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_rows_are_those_of_the_specification() {
        let points: Vec<u8> = (0..10).collect();
        let code = Interpolation::new(&points);
        let rows: Vec<Vec<u8>> = (10..13).map(|row| code.factors(row).collect()).collect();
        assert_eq!(rows[0], [129, 150, 175, 184, 210, 196, 254, 232, 3, 2]);
        assert_eq!(rows[1], [150, 129, 184, 175, 196, 210, 232, 254, 2, 3]);
        assert_eq!(rows[2], [191, 214, 98, 10, 6, 111, 223, 183, 5, 4]);
    }
}
