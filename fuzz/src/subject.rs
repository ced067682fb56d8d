//! Subjects and patterns: `*` is one token, `>` is one or more and stands last.
//!
//! The input is a pattern and a subject with a line feed between them. [`model_matches`] says whether they match.

use crate::Seed;

/// Whether this is a subject: tokens that are not empty, without white space, control characters and wildcards.
/// Lengths and depths are not looked at.
pub fn model_is_subject(text: &str) -> bool {
    text.split('.').all(is_literal)
}

/// Whether this is a pattern: a subject in which a token may be `*` and the last one `>`.
pub fn model_is_pattern(text: &str) -> bool {
    let (head, last) = text.rsplit_once('.').map_or((None, text), |(head, last)| (Some(head), last));
    let head_is_fine = head.is_none_or(|head| head.split('.').all(|token| token == "*" || is_literal(token)));
    head_is_fine && (matches!(last, "*" | ">") || is_literal(last))
}

fn is_literal(token: &str) -> bool {
    !token.is_empty() && !matches!(token, "*" | ">") && !token.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// Whether a valid pattern matches a valid subject, by recursion over the tokens.
pub fn model_matches(pattern: &str, subject: &str) -> bool {
    let first = |text: &'_ str| {
        text.split_once('.').map_or((text.to_owned(), None), |(a, b)| (a.to_owned(), Some(b.to_owned())))
    };
    let ((token, pattern), (word, subject)) = (first(pattern), first(subject));
    match (token.as_str(), pattern, subject) {
        (">", None, _) => true,
        (_, None, None) => token == "*" || token == word,
        (_, Some(pattern), Some(subject)) => (token == "*" || token == word) && model_matches(&pattern, &subject),
        _ => false,
    }
}

/// Laws of matching, on the model.
pub fn run(data: &[u8]) {
    let Some((pattern, subject)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    if model_is_subject(subject) {
        assert!(model_is_pattern(subject), "a subject is a pattern");
        assert!(model_matches(subject, subject), "and matches itself");
        assert!(model_matches(">", subject));
        if model_is_pattern(pattern) && model_matches(pattern, subject) {
            let (tokens, words) = (pattern.split('.').count(), subject.split('.').count());
            assert!(if pattern.ends_with('>') { tokens <= words } else { tokens == words });
        }
    }
}

/// Matches and near misses of each rule, and invalid texts.
pub fn seeds() -> Vec<Seed> {
    let pairs = [
        ("equal", "foo.bar", "foo.bar"),
        ("star", "foo.*", "foo.bar"),
        ("star-missing", "foo.*", "foo"),
        ("star-deeper", "foo.*", "foo.bar.baz"),
        ("star-inside", "foo.*.baz", "foo.bar.baz"),
        ("rest", "foo.>", "foo.bar.baz"),
        ("rest-of-nothing", "foo.>", "foo"),
        ("all", ">", "foo"),
        ("star-and-rest", "*.>", "foo.bar"),
        ("rest-not-last", "foo.>.bar", "foo.x.bar"),
        ("star-in-token", "foo*", "foobar"),
        ("empty-token", "foo..bar", "foo..bar"),
        ("empty", "", ""),
        ("space", "foo.*", "foo. bar"),
        ("unicode", "温度.*", "温度.室内"),
        ("deep", "a.*.c.*.e.*.g.>", "a.b.c.d.e.f.g.h.i"),
    ];
    pairs.map(|(label, pattern, subject)| (label.to_owned(), format!("{pattern}\n{subject}").into_bytes())).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_agrees_with_the_specifications_column_for_nats() {
        // WIRE.md 6.
        let rows = [
            ("foo.bar", "FOO.BAR", false),
            ("*", "foo", true),
            ("*", "foo.bar", false),
            ("foo.*", "foo.bar", true),
            ("foo.*", "foo", false),
            ("foo.*", "foo.bar.baz", false),
            ("foo.>", "foo", false),
            ("foo.>", "foo.bar.baz", true),
            ("foo.>", "foobar", false),
            (">", "foo.bar", true),
            ("*.>", "foo.bar", true),
            ("foo.*.>", "foo.bar.baz", true),
            ("*.*.>", "a.b.c", true),
            ("foo*", "foobar", false),
            ("温度.*", "温度.室内", true),
        ];
        for (pattern, subject, expected) in rows {
            assert!(model_is_pattern(pattern) && model_is_subject(subject), "{pattern} {subject}");
            assert_eq!(model_matches(pattern, subject), expected, "{pattern} {subject}");
        }
        for invalid in ["", ".>", "foo..bar", "*..*", "foo.>.bar", "foo.", "a b"] {
            assert!(!model_is_pattern(invalid), "{invalid:?}");
        }
    }
}
