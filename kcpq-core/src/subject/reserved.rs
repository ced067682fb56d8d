//! Subjects that only servers publish to (PROTOCOL.md 3.13).

/// The first token of subjects that only servers publish to.
pub const RESERVED: &str = "$KCPQ";

/// True if `text`, a subject or a pattern, begins with that token.
#[inline]
pub(crate) fn is_reserved(text: &[u8]) -> bool {
    behind(text).is_some()
}

/// What follows that token, and the dot behind it; `None` if `text` does not begin with it.
#[inline]
pub(crate) fn behind(text: &[u8]) -> Option<&[u8]> {
    match text.strip_prefix(RESERVED.as_bytes())? {
        [] => Some(&[]),
        [b'.', rest @ ..] => Some(rest),
        _ => None,
    }
}
