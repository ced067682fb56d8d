//! Arithmetic in GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1 (0x11d) and generator 2 (PROTOCOL.md 1.3).
//!
//! A product with a constant is the sum of two table look-ups, one for each half of the other factor's byte. Sixteen
//! entries fit a vector register, so the processor's byte shuffle does 16 to 64 look-ups at once. The instructions are
//! chosen at run time (feature `std`) or by the compiler's target; `fearless_simd` keeps the `unsafe` of that.

use fearless_simd::{Level, prelude::*, u8x16};

/// Powers of 2, twice over so that a sum of two logarithms needs no reduction.
static EXP: [u8; 510] = LOG_EXP.1;
/// Logarithms to base 2; that of 0 does not exist and is never asked for.
static LOG: [u8; 256] = LOG_EXP.0;
/// For each constant, its products with 0x00..0x0f, then with 0x00..0xf0.
static PRODUCTS: [[[u8; 16]; 2]; 256] = products();

const LOG_EXP: ([u8; 256], [u8; 510]) = log_exp();

/// Logarithm of `a`, which must not be 0.
pub(crate) fn log(a: u8) -> u32 {
    debug_assert_ne!(a, 0);
    u32::from(LOG[usize::from(a)])
}

/// 2 to the power of `log`, reduced modulo 255.
pub(crate) fn exp(log: u32) -> u8 {
    EXP[(log % 255) as usize]
}

/// Multiplies with the widest instructions there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Multiplier(Level);

impl Multiplier {
    pub(crate) fn new() -> Self {
        Self(Level::try_detect().unwrap_or(Level::baseline()))
    }

    /// `sum[i] ^= factor * shard[i]`, for as far as both reach.
    pub(crate) fn add(self, factor: u8, shard: &[u8], sum: &mut [u8]) {
        let tables = &PRODUCTS[usize::from(factor)];
        if self.0.is_fallback() {
            return add_bytes(tables, shard, sum);
        }
        fearless_simd::dispatch!(self.0, simd => add_vectors(simd, tables, shard, sum));
    }
}

/// Whole registers first, then blocks of 16, the last of them padded.
#[inline(always)]
fn add_vectors<S: Simd>(simd: S, [low, high]: &[[u8; 16]; 2], shard: &[u8], sum: &mut [u8]) {
    let reach = shard.len().min(sum.len());
    let (Some(shard), Some(sum)) = (shard.get(..reach), sum.get_mut(..reach)) else { return };
    let (low, high) = (u8x16::from_slice(simd, low), u8x16::from_slice(simd, high));

    let (low_wide, high_wide) = (S::u8s::block_splat(low), S::u8s::block_splat(high));
    let (mut shards, mut sums) = (shard.chunks_exact(S::u8s::LEN), sum.chunks_exact_mut(S::u8s::LEN));
    for (shard, sum) in (&mut shards).zip(&mut sums) {
        add_vector::<S, S::u8s>(simd, low_wide, high_wide, shard, sum);
    }

    let (shards, rest) = shards.remainder().as_chunks::<16>();
    let (sums, rest_sum) = sums.into_remainder().as_chunks_mut::<16>();
    for (shard, sum) in shards.iter().zip(sums) {
        add_vector::<S, u8x16<S>>(simd, low, high, shard, sum);
    }
    if !rest.is_empty() {
        let (mut shard, mut sum) = ([0; 16], [0; 16]);
        shard.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        add_vector::<S, u8x16<S>>(simd, low, high, &shard, &mut sum);
        rest_sum.iter_mut().zip(sum).for_each(|(to, from)| *to ^= from);
    }
}

#[inline(always)]
fn add_vector<S: Simd, V: SimdInt<S, Element = u8, ByteVector = V>>(
    simd: S,
    low: V,
    high: V,
    shard: &[u8],
    sum: &mut [u8],
) {
    let bytes = V::from_slice(simd, shard);
    let product =
        low.swizzle_dyn_within_blocks(bytes & V::splat(simd, 0x0f)) ^ high.swizzle_dyn_within_blocks(bytes >> 4);
    (V::from_slice(simd, sum) ^ product).store_slice(sum);
}

#[inline(always)]
fn add_bytes([low, high]: &[[u8; 16]; 2], shard: &[u8], sum: &mut [u8]) {
    for (byte, sum) in shard.iter().zip(sum) {
        *sum ^= low[usize::from(byte & 0x0f)] ^ high[usize::from(byte >> 4)];
    }
}

const fn log_exp() -> ([u8; 256], [u8; 510]) {
    let (mut log, mut exp) = ([0; 256], [0; 510]);
    let (mut power, mut value) = (0, 1_usize);
    while power < 255 {
        exp[power] = value as u8;
        exp[power + 255] = value as u8;
        log[value] = power as u8;
        value <<= 1;
        if value > 0xff {
            value ^= 0x11d;
        }
        power += 1;
    }
    (log, exp)
}

const fn products() -> [[[u8; 16]; 2]; 256] {
    let mut tables = [[[0; 16]; 2]; 256];
    let mut factor = 1;
    while factor < 256 {
        let mut nibble = 1;
        while nibble < 16 {
            tables[factor][0][nibble] = product(factor, nibble);
            tables[factor][1][nibble] = product(factor, nibble << 4);
            nibble += 1;
        }
        factor += 1;
    }
    tables
}

/// Of two factors that are not 0.
const fn product(a: usize, b: usize) -> u8 {
    let (log, exp) = &LOG_EXP;
    exp[log[a] as usize + log[b] as usize]
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    /// Schoolbook: shift, add, reduce.
    fn slow(mut a: u8, mut b: u8) -> u8 {
        let mut sum = 0;
        while b != 0 {
            if b & 1 != 0 {
                sum ^= a;
            }
            a = (a << 1) ^ if a & 0x80 != 0 { 0x1d } else { 0 };
            b >>= 1;
        }
        sum
    }

    #[test]
    fn every_product_is_the_schoolbook_one_at_every_length() {
        let bytes: Vec<u8> = (0..=255).collect();
        for factor in 0..=255 {
            let mut sum = vec![0x5a; 256];
            Multiplier::new().add(factor, &bytes, &mut sum);
            for (&byte, sum) in bytes.iter().zip(sum) {
                assert_eq!(sum ^ 0x5a, slow(factor, byte), "{factor} * {byte}");
            }
        }
        for (shard, room) in [(0, 5), (1, 1), (63, 64), (64, 63), (65, 300), (200, 129), (255, 255)] {
            let (mut sum, mut plain) = (vec![1; room], vec![1; room]);
            Multiplier::new().add(0xb7, &bytes[..shard], &mut sum);
            add_bytes(&PRODUCTS[0xb7], &bytes[..shard], &mut plain);
            assert_eq!(sum, plain, "{shard} bytes into {room}");
        }
    }

    #[test]
    fn logarithms_and_powers_undo_each_other() {
        for a in 1..=255 {
            assert_eq!(exp(log(a)), a);
            assert_eq!(exp(log(a) + 255), a);
        }
    }
}
