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

/// The dots of eight bytes of UTF-8, a bit for each, and whether there is anything else but ordinary characters: not 0.
const fn look(bytes: u64) -> (u64, u64) {
    let low = bytes & !HIGH;
    // Up to a space; and 0x7f.
    let illegal = (!low.wrapping_add(all(0x7f - b' ')) | low.wrapping_add(all(1))) & !bytes & HIGH;
    // `*`, `.`, `>`, and `:`, which differ in two bits; a dot has the lower one alone.
    let special = zeros((bytes | all(0x14)) ^ all(b'>'));
    let differs = bytes ^ all(0x04);
    (special, illegal | (differs << 3 | differs << 5) & special)
}

/// True if a text of at least eight bytes is a subject of as many tokens as there may be in it. False says nothing.
pub(super) const fn is_plain(text: &[u8]) -> bool {
    let ([first, ..], [.., last], Some(tail)) = (text, text, text.last_chunk()) else { return false };
    // What is left behind whole words, and some before it once more.
    let (dots, mut wrong) = look(u64::from_le_bytes(*tail));
    wrong |= dots & dots << 8; // an empty token
    let (mut rest, mut before) = (text, 0);
    while let Some((bytes, behind)) = rest.split_first_chunk() {
        let (dots, others) = look(u64::from_le_bytes(*bytes));
        wrong |= others | dots & (dots << 8 | before);
        before = dots >> 56;
        rest = behind;
    }
    wrong == 0 && *first != b'.' && *last != b'.'
}
