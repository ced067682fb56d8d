//! Subjects and patterns: `*` is one token, `>` is one or more and stands last.
//!
//! The input is patterns and at last a subject with line feeds between them. The core's verdict on each, and on which of
//! the patterns match, is compared with that of a model by recursion; so is what the router finds after some of them
//! were taken out again.

use std::collections::BTreeSet;

use kcpq_core::router::Router;
use kcpq_core::subject::{Limits, Pattern, Subject};

use crate::Seed;

const LIMITS: Limits = Limits { max_len: u16::MAX, max_tokens: u8::MAX };

/// Whether this is a subject: tokens that are not empty, without spaces, ASCII control characters and wildcards.
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
    !token.is_empty() && !matches!(token, "*" | ">") && !token.contains(|c: char| c == ' ' || c.is_ascii_control())
}

/// Whether a valid pattern matches a valid subject. What begins with the server's own token is not for wildcards there.
pub fn model_matches(pattern: &str, subject: &str) -> bool {
    let first = |text: &'_ str| text.split('.').next().unwrap_or_default().to_owned();
    let for_all = matches!(&*first(pattern), "*" | ">");
    !(for_all && first(subject) == "$KCPQ") && tokens_match(pattern, subject)
}

/// The same by recursion over the tokens, whatever these are.
fn tokens_match(pattern: &str, subject: &str) -> bool {
    let first = |text: &'_ str| {
        text.split_once('.').map_or((text.to_owned(), None), |(a, b)| (a.to_owned(), Some(b.to_owned())))
    };
    let ((token, pattern), (word, subject)) = (first(pattern), first(subject));
    match (token.as_str(), pattern, subject) {
        (">", None, _) => true,
        (_, None, None) => token == "*" || token == word,
        (_, Some(pattern), Some(subject)) => (token == "*" || token == word) && tokens_match(&pattern, &subject),
        _ => false,
    }
}

/// Compares the core with the model.
pub fn run(data: &[u8]) {
    let Some((patterns, subject)) = std::str::from_utf8(data).ok().and_then(|text| text.rsplit_once('\n')) else {
        // What is not UTF-8 is refused, with the place where it stops to be.
        assert!(Subject::from_bytes(data, &LIMITS).is_err() || std::str::from_utf8(data).is_ok());
        return;
    };
    let fits = |text: &str| text.len() <= LIMITS.max_len.into() && text.split('.').count() <= LIMITS.max_tokens.into();
    let parsed = Subject::new(subject, &LIMITS);
    assert_eq!(parsed.is_ok(), model_is_subject(subject) && fits(subject), "{subject:?}");
    let mut router = Router::new(data.len() as u64);
    let mut members = BTreeSet::new();
    let patterns: Vec<&str> = patterns.split('\n').take(40).collect();
    for (number, text) in patterns.iter().enumerate() {
        let pattern = Pattern::new(text, &LIMITS);
        assert_eq!(pattern.is_ok(), model_is_pattern(text) && fits(text), "{text:?}");
        let Ok(pattern) = pattern else { continue };
        if let Ok(subject) = parsed {
            assert_eq!(pattern.matches(subject), model_matches(text, subject.as_str()), "{text:?} {subject:?}");
        }
        // Some share a member, and some leave again.
        let member = (number % 7) as u32;
        assert_eq!(router.subscribe(pattern, member), members.insert((*text, member)));
        if number % 3 == 2 {
            assert_eq!(router.unsubscribe(pattern, member), members.remove(&(*text, member)));
        }
    }
    if let Ok(subject) = parsed {
        let expected: BTreeSet<u32> = members
            .iter()
            .filter(|(text, _)| model_matches(text, subject.as_str()))
            .map(|(_, member)| *member)
            .collect();
        let mut told = Vec::new();
        router.route(subject, |member| told.push(member));
        assert_eq!(told.len(), expected.len(), "each member once");
        assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    assert_eq!(router.subscriptions(), members.len());
    for (text, member) in members {
        assert!(Pattern::new(text, &LIMITS).is_ok_and(|pattern| router.unsubscribe(pattern, member)));
    }
    assert_eq!((router.patterns(), router.subscriptions()), (0, 0));
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
    let several = ("several".to_owned(), b"a.*\na.b\n*.b\n>\na.*\na.>\n*.*\na.b.c\na.b".to_vec());
    let reserved = ("reserved".to_owned(), b">\n*.a\n*\n$KCPQ.*\n$KCPQ.>\n$KCPQ\n*.*\n$KCPQ.*\n$KCPQ.a".to_vec());
    let mut seeds = vec![several, reserved];
    seeds.extend(
        pairs.map(|(label, pattern, subject)| (label.to_owned(), format!("{pattern}\n{subject}").into_bytes())),
    );
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_agrees_with_the_specifications_column_for_nats() {
        // Rows as in docs/original.md 7 and in kcpq-core/tests/vectors/subject_matching.json.
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
            (">", "$KCPQ.a", false),
            ("*.a", "$KCPQ.a", false),
            ("$KCPQ.>", "$KCPQ.a", true),
            (">", "$KCPQX.a", true),
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
