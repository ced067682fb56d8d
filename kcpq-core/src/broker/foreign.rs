//! Subjects that only the original allows: with spaces and control characters, empty tokens, bytes that are no UTF-8, and
//! wildcards in what is published (docs/original.md 5.1).
//!
//! Its clients may go on using them among each other. For the router such a subject is written as one that is valid here:
//! what is not allowed becomes a character from the end of Unicode's private use area, which nobody else has a use for.
//! What is delivered is the frame as it was published.

use alloc::string::String;

use crate::subject::{Limits, SubjectError};

/// Stand for a byte that is not allowed, from this one on; for one that is no UTF-8; and for an empty token.
const ILLEGAL: u32 = 0x10_fd00;
const NOT_UTF8: u32 = 0x10_fe00;
const EMPTY: char = '\u{10ff00}';

/// What such a subject may be like as the router knows it: as deep as can be counted, and a character that stands for a
/// byte takes four.
pub(super) fn limits(limits: Limits) -> Limits {
    Limits { max_len: limits.max_len.saturating_mul(4), max_tokens: u8::MAX }
}

/// A pattern as the router knows it.
///
/// # Errors
/// [`SubjectError::TooLong`].
pub(super) fn pattern(bytes: &[u8], limits: &Limits) -> Result<String, SubjectError> {
    written(bytes, true, limits)
}

/// A subject as the router knows it.
///
/// # Errors
/// [`SubjectError::TooLong`].
pub(super) fn subject(bytes: &[u8], limits: &Limits) -> Result<String, SubjectError> {
    written(bytes, false, limits)
}

fn written(bytes: &[u8], wildcards: bool, limits: &Limits) -> Result<String, SubjectError> {
    if bytes.len() > usize::from(limits.max_len) {
        return Err(SubjectError::TooLong { limit: limits.max_len, actual: bytes.len() });
    }
    let mut text = String::with_capacity(bytes.len());
    let mut tokens = bytes.split(|byte| *byte == b'.').peekable();
    while let Some(token) = tokens.next() {
        let wildcard = match token {
            b"*" => wildcards,
            b">" => wildcards && tokens.peek().is_none(),
            _ => false,
        };
        match token {
            [] => text.push(EMPTY),
            [byte] if matches!(byte, b'*' | b'>') && !wildcard => push(&mut text, ILLEGAL, *byte),
            _ => write_token(token, &mut text),
        }
        if tokens.peek().is_some() {
            text.push('.');
        }
    }
    Ok(text)
}

fn write_token(token: &[u8], text: &mut String) {
    for chunk in token.utf8_chunks() {
        for char in chunk.valid().chars() {
            match u8::try_from(char) {
                Ok(byte) if byte <= b' ' || byte == 0x7f => push(text, ILLEGAL, byte),
                _ => text.push(char),
            }
        }
        chunk.invalid().iter().for_each(|byte| push(text, NOT_UTF8, *byte));
    }
}

fn push(text: &mut String, base: u32, byte: u8) {
    text.extend(char::from_u32(base + u32::from(byte)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{Pattern, Subject};

    const LIMITS: Limits = Limits { max_len: 1_024, max_tokens: 32 };

    fn matches(pattern: &[u8], subject: &[u8]) -> bool {
        let (pattern, subject) = (super::pattern(pattern, &LIMITS).unwrap(), super::subject(subject, &LIMITS).unwrap());
        let wide = limits(LIMITS);
        Pattern::new(&pattern, &wide).unwrap().matches(Subject::new(&subject, &wide).unwrap())
    }

    #[test]
    fn whatever_the_original_lets_pass_is_routed() {
        let deep = [b'a', b'.'].repeat(200);
        for subject in
            [&b"a b"[..], b"", b".", b"foo..bar", b"a\n.\x7f", b"\xff\xfe.\xc3", b"*", b"foo.>", b"foo.*.x", &deep]
        {
            assert!(matches(subject, subject), "{}", subject.escape_ascii());
        }
        assert!(matches(b"foo.*", b"foo.") && matches(b"foo.*.baz", b"foo..baz") && matches(b"*", b""));
        assert!(matches(b"*.x", b"\xff.x") && matches(b"foo.>", b"foo.a b"));
        assert!(matches(b"foo.>.bar", b"foo.>.bar") && !matches(b"foo.>.bar", b"foo.x.bar"));
        assert!(!matches(b"a\xffb", "a\u{ff}b".as_bytes()) && !matches(b"a b", b"ab") && !matches(b"*", b"a.b"));
        assert!(!matches(b"foo", b"foo.") && !matches(b"foo.bar", b"foo.*"));
    }

    #[test]
    fn ordinary_subjects_stay_as_they_are() {
        for text in ["foo.bar", "sensors.*.x", "a.>", "foo*", "温度.室内"] {
            assert_eq!(written(text.as_bytes(), true, &LIMITS).as_deref(), Ok(text));
        }
        assert!(matches!(written(&[b'a'; 2_000], false, &LIMITS), Err(SubjectError::TooLong { .. })));
    }
}
