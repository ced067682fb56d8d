//! The datagrams of a sealed session around what is encrypted (PROTOCOL.md 10.1).

/// Bytes of the header that all datagrams of native sessions begin with.
pub const HEADER: usize = 12;

/// The fifth byte of a header.
pub mod kind {
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

/// The parts in a row: as many bytes as there is place for, and zeros behind them.
pub(super) fn concat<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    fill(&mut out, parts);
    out
}

/// Copies the parts in a row to the beginning of `out`, as far as there is place.
#[cfg_attr(target_os = "none", inline(never))]
pub(super) fn fill(mut out: &mut [u8], parts: &[&[u8]]) {
    for part in parts {
        let (places, rest) = out.split_at_mut(part.len().min(out.len()));
        places.iter_mut().zip(*part).for_each(|(place, byte)| *place = *byte);
        out = rest;
    }
}

/// The header of a handshake's datagram, if that is what it is to the last bit.
pub(super) fn handshake_id(header: &[u8; HEADER], kind: u8) -> Option<u64> {
    let id = id_of(header);
    (*header == self::header(id, kind, 0)).then_some(id)
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
        assert_eq!(handshake_id(&bytes, kind::INITIAL), None, "its number is 0");
        assert_eq!(handshake_id(&header(5, kind::REPLY, 0), kind::REPLY), Some(5));
        assert_eq!(handshake_id(&header(5, kind::REPLY, 0), kind::RETRY), None);
    }
}
