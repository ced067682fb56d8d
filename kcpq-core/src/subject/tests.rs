use alloc::string::{String, ToString};
use alloc::vec::Vec;

use fastrand::Rng;

use super::*;

const LIMITS: Limits = Limits::DEFAULT;

fn subject(text: &str) -> Result<Subject<'_>, SubjectError> {
    Subject::new(text, &LIMITS)
}

fn pattern(text: &str) -> Result<Pattern<'_>, SubjectError> {
    Pattern::new(text, &LIMITS)
}

#[test]
fn a_fault_common_to_both_kinds_is_named_with_its_place() {
    use SubjectError::*;
    let rows = [
        ("", Empty),
        (".", EmptyToken { at: 0 }),
        (".foo", EmptyToken { at: 0 }),
        ("foo.", EmptyToken { at: 4 }),
        ("foo..bar", EmptyToken { at: 4 }),
        ("温.", EmptyToken { at: 4 }),
        ("a b", Illegal { at: 1, byte: b' ' }),
        (" ", Illegal { at: 0, byte: b' ' }),
        ("a.b\t", Illegal { at: 3, byte: b'\t' }),
        ("a\r\n", Illegal { at: 1, byte: b'\r' }),
        ("\0", Illegal { at: 0, byte: 0 }),
        ("a\u{7f}", Illegal { at: 1, byte: 0x7f }),
        ("a..b c", EmptyToken { at: 2 }), // the first fault counts
        ("a b..c", Illegal { at: 1, byte: b' ' }),
    ];
    for (text, error) in rows {
        assert_eq!(subject(text), Err(error), "{text:?}");
        assert_eq!(pattern(text), Err(error), "{text:?}");
    }
}

#[test]
fn a_wildcard_is_a_whole_token_and_stands_in_patterns_only() {
    use SubjectError::*;
    for (text, at) in [("*", 0), (">", 0), ("foo.*", 4), ("foo.>", 4), ("*.foo", 0), ("foo.*.bar", 4)] {
        assert_eq!(subject(text), Err(Wildcard { at }), "{text}");
        assert_eq!(pattern(text).map(Pattern::is_literal), Ok(false), "{text}");
    }
    for (text, at) in [(">.foo", 0), ("foo.>.bar", 4), (">.>", 0)] {
        assert_eq!(pattern(text), Err(TailNotLast { at }), "{text}");
    }
    for text in ["foo*", "*foo", "**", ">>", "*>", "a.>b.c", "foo*.bar", "-", "温度.室内"] {
        assert_eq!(subject(text).map(Subject::as_str), Ok(text));
        assert_eq!(pattern(text).map(Pattern::is_literal), Ok(true), "{text}");
    }
}

#[test]
fn what_is_the_servers_own_is_matched_by_its_name_alone() {
    for (text, reserved) in [("$KCPQ", true), ("$KCPQ.a", true), ("$KCPQX", false), ("a.$KCPQ", false), ("$KCP", false)]
    {
        assert_eq!((subject(text).unwrap().is_reserved(), pattern(text).unwrap().is_reserved()), (reserved, reserved));
    }
    let matches = |text: &str, to: &str| pattern(text).unwrap().matches(subject(to).unwrap());
    for text in [">", "*", "*.a", "*.>", "*.*"] {
        assert!(!matches(text, "$KCPQ") && !matches(text, "$KCPQ.a"), "{text}");
    }
    assert!(matches("$KCPQ.>", "$KCPQ.a.b") && matches("$KCPQ.*", "$KCPQ.a") && matches(">", "$KCPQX.a"));
    assert!(!matches("$KCPQ.>", "$KCPQ"));
}

#[test]
fn lengths_and_depths_count_up_to_their_limits() {
    let limits = Limits { max_len: 7, max_tokens: 3 };
    let deep = |text| Subject::new(text, &limits).map(|_| ());
    assert_eq!(deep("a.b.c"), Ok(()));
    assert_eq!(deep("a.b.ccc"), Ok(()));
    assert_eq!(deep("a.b.cccc"), Err(SubjectError::TooLong { limit: 7, actual: 8 }));
    assert_eq!(deep("a.b.c.d"), Err(SubjectError::TooDeep { limit: 3 }));
    assert_eq!(Pattern::new("a.b.c.>", &limits), Err(SubjectError::TooDeep { limit: 3 }));
    assert_eq!(Subject::new("a", &Limits { max_len: 1, max_tokens: 0 }), Err(SubjectError::TooDeep { limit: 0 }));

    let widest = Limits { max_len: u16::MAX, max_tokens: u8::MAX };
    let text = "a.".repeat(254) + "a";
    assert_eq!(Subject::new(&text, &widest).map(|subject| subject.tokens().count()), Ok(255));
    assert_eq!(Subject::new(&(text + ".a"), &widest), Err(SubjectError::TooDeep { limit: 255 }));
}

#[test]
fn bytes_are_refused_where_they_stop_being_utf8() {
    assert_eq!(Subject::from_bytes(b"a.b", &LIMITS), subject("a.b"));
    assert_eq!(Subject::from_bytes(b"a.\xff", &LIMITS), Err(SubjectError::NotUtf8 { at: 2 }));
    assert_eq!(Pattern::from_bytes("温".as_bytes().split_at(2).0, &LIMITS), Err(SubjectError::NotUtf8 { at: 0 }));
    assert_eq!(Pattern::from_bytes(b"", &LIMITS), Err(SubjectError::Empty));
    // What is too long is not even looked at.
    let long = [0xff; 4097];
    assert_eq!(Subject::from_bytes(&long, &LIMITS), Err(SubjectError::TooLong { limit: 4096, actual: 4097 }));
}

#[test]
fn constants_are_checked_by_the_compiler() {
    const TEMPERATURE: Subject<'static> = match Subject::new("sensors.temperature", &LIMITS) {
        Ok(subject) => subject,
        Err(_) => panic!("a subject"),
    };
    assert_eq!(TEMPERATURE.as_str(), "sensors.temperature");
    const ROOMS: Pattern<'static> = crate::pattern!("sensors.*.>");
    const KITCHEN: Subject<'static> = crate::subject!(concat!("sensors.kitchen", ".temperature"));
    assert!(ROOMS.matches(KITCHEN) && !ROOMS.matches(TEMPERATURE));
}

#[test]
fn a_checked_text_is_taken_wherever_text_is() {
    let (subject, pattern) = (crate::subject!("a.b"), crate::pattern!("a.*"));
    let taken = |text: &str| text.len();
    assert_eq!((taken(&subject), taken(&pattern)), (3, 3));
    assert_eq!(std::format!("{subject} {pattern:>5}"), "a.b   a.*");
}

#[test]
fn what_is_wrong_begins_what_an_error_says() {
    let errors = [
        SubjectError::Empty,
        SubjectError::EmptyToken { at: 0 },
        SubjectError::Wildcard { at: 0 },
        SubjectError::TailNotLast { at: 0 },
        SubjectError::NotUtf8 { at: 0 },
    ];
    for error in errors {
        let (what, said) = (error.what(), std::format!("{error}"));
        let first = |text: &str| text.split([' ', ',']).take(3).collect::<std::vec::Vec<_>>().join(" ");
        assert!(said.starts_with("invalid subject: ") && what.starts_with("invalid subject: "));
        assert_eq!(first(what), first(&said.replace(" at byte 0", "")), "{said}");
    }
}

#[test]
fn errors_say_what_and_where() {
    let rows = [
        (SubjectError::Empty, "invalid subject: it is empty"),
        (SubjectError::EmptyToken { at: 4 }, "invalid subject: empty token at byte 4"),
        (SubjectError::Illegal { at: 1, byte: b' ' }, "invalid subject: space at byte 1"),
        (SubjectError::Illegal { at: 1, byte: b'\n' }, "invalid subject: control character 0x0a at byte 1"),
        (SubjectError::Wildcard { at: 0 }, "invalid subject: wildcard at byte 0, which only a subscription may have"),
        (SubjectError::TailNotLast { at: 4 }, "invalid subject: '>' at byte 4 is not the last token"),
        (SubjectError::TooLong { limit: 4096, actual: 5000 }, "invalid subject: 5000 bytes, the limit is 4096"),
        (SubjectError::TooDeep { limit: 32 }, "invalid subject: more than 32 tokens"),
        (SubjectError::NotUtf8 { at: 7 }, "invalid subject: not UTF-8 at byte 7"),
    ];
    for (error, text) in rows {
        assert_eq!(error.to_string(), text);
    }
}

/// The rule as it is spoken, by recursion over the tokens.
fn model(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => model(pattern, subject),
        ([token, pattern @ ..], [word, subject @ ..]) => token == word && model(pattern, subject),
        _ => false,
    }
}

#[test]
fn random_pairs_match_as_a_plain_model_says() {
    const TOKENS: [&str; 8] = ["*", "*", "a", "b", "ab", "a*", ">b", "温"];
    let mut rng = Rng::with_seed(0x5eed);
    let mut matched = 0;
    for _ in 0..20_000 {
        let mut text = |alphabet: &[&'static str], tail: bool| {
            let mut tokens: Vec<&str> = (0..rng.usize(1..4)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
            if tail && rng.u8(..3) == 0 {
                tokens.push(">");
            }
            tokens
        };
        let (ours, theirs) = (text(&TOKENS, true), text(&TOKENS[2..], false));
        let (joined, published): (String, String) = (ours.join("."), theirs.join("."));
        let (joined, published) = (pattern(&joined).unwrap(), subject(&published).unwrap());
        assert_eq!(joined.matches(published), model(&ours, &theirs), "{joined:?} {published:?}");
        assert!(joined.tokens().eq(ours.iter().copied()));
        assert_eq!(joined.is_literal(), subject(joined.as_str()).is_ok());
        assert!(pattern(published.as_str()).is_ok_and(|same| same.matches(published)), "a subject matches itself");
        matched += usize::from(model(&ours, &theirs));
    }
    assert!(matched > 1_000, "only {matched} pairs matched");
}

#[test]
fn random_texts_are_taken_or_refused_as_a_plain_model_says() {
    const PIECES: [&str; 10] = [".", ".", "*", ">", "a", "bc", " ", "\u{1}", "温", "\u{3000}"];
    let mut rng = Rng::with_seed(0xc0de);
    for _ in 0..20_000 {
        let text: String = (0..rng.usize(..8)).map(|_| PIECES[rng.usize(..PIECES.len())]).collect();
        let tokens: Vec<&str> = text.split('.').collect();
        let fine = tokens.iter().all(|token| !token.is_empty() && !token.contains([' ', '\u{1}']));
        let tails = tokens[..tokens.len() - 1].contains(&">");
        let wild = tokens.contains(&"*") || tokens.contains(&">");
        assert_eq!(pattern(&text).is_ok(), fine && !tails, "{text:?}");
        assert_eq!(subject(&text).is_ok(), fine && !wild, "{text:?}");
    }
}

#[test]
fn what_is_plain_at_a_quick_look_is_a_subject() {
    let mut rng = Rng::with_seed(1);
    let letters = ["a", "b", "Z", "~", "é", "温", "\u{80}", "\u{10ffff}"];
    let others = [".", ".", ".", "..", "*", ">", ":", " ", "\u{7f}", "\0", "\u{1f}", "!"];
    let mut plain = 0;
    for _ in 0..200_000 {
        let odd = rng.u8(..4);
        let text: String = (0..rng.usize(..70))
            .map(|_| match rng.u8(..16) < odd {
                true => others[rng.usize(..others.len())],
                false => letters[rng.usize(..letters.len())],
            })
            .collect();
        let quick = plain::is_plain(text.as_bytes());
        plain += u32::from(quick);
        let checked = walk(text.as_bytes(), 255, false);
        assert!(!quick || checked.is_ok(), "{text:?}");
        let ordinary = text.len() >= 8 && !text.contains(['*', '>', ':']);
        assert!(quick || !ordinary || checked.is_err(), "{text:?} is plain");
    }
    assert!(plain > 50_000, "{plain}");
}
