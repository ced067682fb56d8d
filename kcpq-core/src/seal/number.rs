//! A datagram's number: 64 bits counted, 24 of them sent.

/// The whole number of which a datagram shows the low 24 bits: that nearest to `expected`, one more than the highest taken
/// so far (RFC 9000, A.3). Right as long as a datagram is fewer than 2^23 numbers before or behind that.
pub fn expand(low: u32, expected: u64) -> u64 {
    // The distance modulo 2^24, with its sign.
    let distance = (low.wrapping_sub(expected as u32) << 8) as i32 >> 8;
    // None lies before 0; the end of all numbers is out of reach.
    expected.checked_add_signed(distance.into()).unwrap_or_else(|| (low & 0xff_ffff).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: u64 = 1 << 24;

    #[test]
    fn a_number_comes_back_from_its_low_bits_as_long_as_it_is_less_than_half_the_span_away() {
        for expected in [0, 1, 5, SPAN / 2, SPAN - 1, SPAN, SPAN + 1, 7 * SPAN - 3, 1 << 40] {
            for distance in [0, 1, 2, 2_047, SPAN / 2 - 1] {
                for number in [expected + distance, expected.saturating_sub(distance)] {
                    assert_eq!(expand((number % SPAN) as u32, expected), number, "{expected} {distance}");
                }
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_do_not_wrap() {
        assert_eq!(expand(0xff_ffff, 0), 0xff_ffff, "nothing lies before 0");
        assert_eq!(expand(0x80_0000, 0x7f_ffff), 0x80_0000);
        assert_eq!(expand(0xff_ffff, u64::MAX - SPAN), u64::MAX - SPAN);
        assert_eq!(expand(u32::MAX, u64::MAX), u64::MAX);
    }
}
