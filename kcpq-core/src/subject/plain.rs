//! A quick look at a text, eight bytes at a time: most subjects are plain, and need no other.

const fn all(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The highest bit of each byte.
const HIGH: u64 = all(0x80);

/// The highest bit of each byte that is 0.
const fn zeros(bytes: u64) -> u64 {
    !((bytes & !HIGH).wrapping_add(!HIGH) | bytes) & HIGH
}

/// The dots of eight bytes of UTF-8, a bit for each; `None` if there is anything else but ordinary characters.
const fn dots(bytes: u64) -> Option<u64> {
    let low = bytes & !HIGH;
    // Up to a space; and 0x7f.
    let illegal = !(low.wrapping_add(all(0x7f - b' ')) | bytes) | low.wrapping_add(all(1)) & !bytes;
    let dots = zeros(bytes ^ all(b'.'));
    // `*`, `.`, `>`, and `:`, which differ in two bits.
    let special = zeros((bytes | all(0x14)) ^ all(b'>'));
    if (illegal & HIGH) | (special ^ dots) == 0 { Some(dots) } else { None }
}

/// True if a text of at least eight bytes is a subject of as many tokens as there may be in it. False says nothing.
pub(super) const fn is_plain(text: &[u8]) -> bool {
    let ([first, ..], [.., last], Some(tail)) = (text, text, text.last_chunk()) else { return false };
    if *first == b'.' || *last == b'.' {
        return false;
    }
    let (mut rest, mut before) = (text, 0);
    while let Some((bytes, behind)) = rest.split_first_chunk() {
        let Some(dots) = dots(u64::from_le_bytes(*bytes)) else { return false };
        if dots & (dots << 8 | before) != 0 {
            return false; // an empty token
        }
        before = dots >> 56;
        rest = behind;
    }
    // What is left, and some before it once more.
    match dots(u64::from_le_bytes(*tail)) {
        Some(dots) => dots & dots << 8 == 0,
        None => false,
    }
}
