//! The datagrams of a sealed session around what is encrypted (PROTOCOL.md 10.1).

use crate::header::{HEADER, header, id_of};

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
    use crate::header::kind;

    #[test]
    fn a_handshake_has_no_number() {
        assert_eq!(handshake_id(&header(5, kind::REPLY, 1), kind::REPLY), None);
        assert_eq!(handshake_id(&header(5, kind::REPLY, 0), kind::REPLY), Some(5));
        assert_eq!(handshake_id(&header(5, kind::REPLY, 0), kind::RETRY), None);
    }
}
