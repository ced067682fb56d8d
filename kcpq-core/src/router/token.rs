//! One token of a pattern, as a node of the trie keeps it.

use alloc::boxed::Box;

/// The longest token that needs no allocation of its own: what is left of the 24 bytes that `Long` takes anyway.
const INLINE: usize = 22;

/// The bytes of a token. 24 bytes, and an allocation for those longer than [`INLINE`].
///
/// A `Box<str>` is 16 bytes, but the allocation behind it 32 with the usual allocators.
pub(super) enum Token {
    /// Length and bytes.
    Short(u8, [u8; INLINE]),
    Long(Box<[u8]>),
}

impl Token {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Short(0, _))
    }
}

impl From<&[u8]> for Token {
    fn from(token: &[u8]) -> Self {
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..token.len()), u8::try_from(token.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(token);
                Self::Short(len, bytes)
            }
            _ => Self::Long(token.into()),
        }
    }
}

impl Default for Token {
    fn default() -> Self {
        Self::Short(0, [0; INLINE])
    }
}
