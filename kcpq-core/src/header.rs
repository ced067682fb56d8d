//! The header of the datagrams of native sessions, sealed or not (PROTOCOL.md 1.5).
//!
//! ```text
//!  0        4      5        9        12
//! +--------+------+--------+--------+-----------------
//! | id     | kind | id     | number | body                  all integers little-endian
//! | high 4 | 1    | low 4  | 3      |
//! +--------+------+--------+--------+-----------------
//! ```
//!
//! The fifth byte tells all kinds of datagrams apart: KCP has its command there, FEC its mark. The number grows with each
//! datagram of one direction of one session; of its 64 bits the lowest 24 are sent.

/// Bytes of a header.
pub const HEADER: usize = 12;

/// The fifth byte of a header.
pub mod kind {
    /// Items as they are (PROTOCOL.md 1.5).
    pub const DATA: u8 = 0x80;
    /// A sealed datagram, under the first key and every second one after it.
    pub const SEALED: u8 = 0x81;
    /// The client's first message of a handshake.
    pub const INITIAL: u8 = 0x82;
    /// The server's answer to it.
    pub const REPLY: u8 = 0x83;
    /// A cookie, with which to send the first message again.
    pub const RETRY: u8 = 0x84;
    /// The server does not know this session.
    pub const RESET: u8 = 0x85;
    /// A sealed datagram, under the second key and every second one after it.
    pub const SEALED_ODD: u8 = 0x89;
}

/// A header: `id` stands around the kind, its upper half first, each half in little endian; of `number` the low 24 bits.
pub const fn header(id: u64, kind: u8, number: u64) -> [u8; HEADER] {
    let [e, f, g, h, a, b, c, d] = id.to_le_bytes();
    let [x, y, z, ..] = number.to_le_bytes();
    [a, b, c, d, kind, e, f, g, h, x, y, z]
}

/// The id in a header.
pub const fn id_of(header: &[u8; HEADER]) -> u64 {
    let [a, b, c, d, _, e, f, g, h, ..] = *header;
    u64::from_le_bytes([e, f, g, h, a, b, c, d])
}

/// The kind in a header.
pub const fn kind_of(header: &[u8; HEADER]) -> u8 {
    header[4]
}

/// The low 24 bits of the number in a header.
pub const fn low_number_of(header: &[u8; HEADER]) -> u32 {
    let [.., x, y, z] = *header;
    u32::from_le_bytes([x, y, z, 0])
}

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

    #[test]
    fn the_fields_lie_where_the_specification_draws_them() {
        let bytes = header(0x1122_3344_5566_7788, kind::INITIAL, 0xfe_dcba);
        assert_eq!(bytes, [0x44, 0x33, 0x22, 0x11, 0x82, 0x88, 0x77, 0x66, 0x55, 0xba, 0xdc, 0xfe]);
        assert_eq!((id_of(&bytes), kind_of(&bytes)), (0x1122_3344_5566_7788, 0x82));
        assert_eq!(low_number_of(&bytes), 0xfe_dcba);
    }

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
