//! What the messages of a simulation are like: from each of its bytes it can be told whose it is, and whether it is whole.

/// Names a message: the client that has published it, and which of all that this one has published it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) node: usize,
    pub(crate) number: u32,
}

/// Bytes of the shortest message.
pub(crate) const HEAD: usize = 12;

/// Bytes that follow each other without a pattern that a shifted or a mixed-up message could have as well.
fn word(id: Id, index: usize) -> [u8; 8] {
    let seed = (id.node as u64) << 48 | u64::from(id.number) << 24 | index as u64;
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).to_be_bytes()
}

/// The message of this name with `len` bytes, or the shortest if that is less.
pub(crate) fn write(id: Id, len: usize) -> Vec<u8> {
    let len = len.max(HEAD);
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&(id.node as u32).to_be_bytes());
    bytes.extend_from_slice(&id.number.to_be_bytes());
    bytes.extend_from_slice(&(len as u32).to_be_bytes());
    let mut index = 0;
    while bytes.len() < len {
        bytes.extend_from_slice(&word(id, index));
        index += 1;
    }
    bytes.truncate(len);
    bytes
}

/// The name of a message, if every one of its bytes is as it was written.
pub(crate) fn read(bytes: &[u8]) -> Option<Id> {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let id = Id { node: number(0)? as usize, number: number(4)? };
    let whole = number(8)? as usize == bytes.len();
    let mut words = bytes.get(HEAD..)?.chunks(8).enumerate();
    (whole && words.all(|(index, chunk)| word(id, index).starts_with(chunk))).then_some(id)
}

#[test]
fn a_message_with_a_changed_missing_or_additional_byte_is_none() {
    let id = Id { node: 3, number: 70_000 };
    for len in [HEAD, 13, 20, 1_000] {
        let whole = write(id, len);
        assert_eq!((whole.len(), read(&whole)), (len, Some(id)));
        for at in 0..len {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            assert_ne!(read(&changed), Some(id), "byte {at} of {len}");
        }
        assert_eq!(read(&whole[..len - 1]), None);
        assert_eq!(read(&[&whole[..], &[7]].concat()), None);
    }
}
