use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use fastrand::Rng;

use super::*;
use crate::subject::{self, Pattern, Subject};

const LIMITS: subject::Limits = subject::Limits::DEFAULT;

fn pattern(text: &str) -> Pattern<'_> {
    Pattern::new(text, &LIMITS).unwrap()
}

fn subject(text: &str) -> Subject<'_> {
    Subject::new(text, &LIMITS).unwrap()
}

fn matcher(allow: Option<&[&str]>, deny: &[&str]) -> Matcher {
    Matcher::new(&Rules::of(allow, deny), 7).unwrap()
}

/// Everything of 1 to `depth` of these tokens.
fn all(tokens: &[&str], depth: usize) -> Vec<String> {
    let mut longest: Vec<String> = tokens.iter().map(|token| String::from(*token)).collect();
    let mut all = longest.clone();
    for _ in 1..depth {
        longest = longest.iter().flat_map(|head| tokens.iter().map(move |token| format!("{head}.{token}"))).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// All patterns of up to three tokens.
fn patterns() -> Vec<String> {
    let plain = all(&["a", "b", "*"], 3);
    let tails = all(&["a", "b", "*"], 2).into_iter().map(|head| format!("{head}.>"));
    plain.iter().cloned().chain(tails).chain([">".into()]).collect()
}

#[test]
fn subjects_and_patterns_are_judged_as_by_counting_them_out() {
    // `c` and `d` stand for all tokens that no rule has, and five tokens are more than any rule has.
    let subjects = all(&["a", "b", "c", "d"], 5);
    let patterns = patterns();
    let mut rng = Rng::with_seed(0xacce55);
    let some = |rng: &mut Rng, most: usize| -> Vec<Box<str>> {
        let count = rng.usize(..=most);
        (0..count).map(|_| patterns[rng.usize(..patterns.len())].as_str().into()).collect()
    };
    let mut seen = [0; 4];
    for _ in 0..60 {
        let rules = Rules { allow: rng.bool().then(|| some(&mut rng, 4)), deny: some(&mut rng, 3) };
        let mut matcher = Matcher::new(&rules, rng.u64(..)).unwrap();
        let any = |rules: &[Box<str>], subject| rules.iter().any(|rule| pattern(rule).matches(subject));
        let judged: Vec<(Subject<'_>, bool, bool)> = subjects
            .iter()
            .map(|text| subject(text))
            .map(|s| (s, rules.allow.as_deref().is_none_or(|allow| any(allow, s)), any(&rules.deny, s)))
            .collect();
        for (subject, allowed, denied) in &judged {
            assert_eq!(matcher.permits(*subject), *allowed && !denied, "{rules:?} {subject:?}");
        }
        for text in &patterns {
            let pattern = pattern(text);
            let matched = || judged.iter().filter(|(subject, ..)| pattern.matches(*subject));
            let covers = matched().all(|(_, allowed, _)| *allowed) && !matched().all(|(_, _, denied)| *denied);
            let denies = matched().any(|(_, _, denied)| *denied);
            assert_eq!(matcher.covers(pattern), covers, "{rules:?} {text}");
            assert_eq!(matcher.denies_some(pattern), denies, "{rules:?} {text}");
            seen[usize::from(covers) * 2 + usize::from(denies)] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "every case was there: {seen:?}");
}

#[test]
fn several_rules_together_may_allow_what_none_allows_alone() {
    let mut rules = matcher(Some(&["a.*", "a.*.>"]), &[]);
    assert!(rules.covers(pattern("a.>")) && rules.covers(pattern("a.*.b")) && !rules.covers(pattern("*.>")));
    let mut rules = matcher(Some(&["a.*", "a.*.*.>"]), &[]);
    assert!(!rules.covers(pattern("a.>")), "two tokens behind it are not allowed");
}

#[test]
fn what_is_denied_is_left_out_and_refused_where_nothing_is_left() {
    let mut rules = matcher(None, &["secret.>"]);
    assert!(rules.covers(pattern(">")) && rules.denies_some(pattern(">")));
    assert!(!rules.covers(pattern("secret.*")) && !rules.covers(pattern("secret.a.>")));
    assert!(rules.covers(pattern("secret")) && !rules.denies_some(pattern("secret")));
    assert!(matcher(None, &[]).is_open() && !matcher(Some(&[]), &[]).covers(pattern("a")));
}

#[test]
fn a_token_of_the_rules_is_never_taken_for_any() {
    let odd = "\u{10ff01}";
    let mut rules = matcher(Some(&[odd, "\u{10ff01}\u{10ff01}"]), &[]);
    assert!(!rules.covers(pattern("*")) && !rules.covers(pattern(">")) && rules.covers(pattern(odd)));
}

#[test]
fn rules_that_are_no_patterns_are_refused_with_the_pattern() {
    let error = Matcher::new(&Rules::of(None, &["a.>.b"]), 1).unwrap_err();
    assert_eq!(error, RuleError { pattern: "a.>.b".into(), why: SubjectError::TailNotLast { at: 2 } });
}

#[test]
fn what_is_the_servers_own_has_to_be_named() {
    let mut rules = matcher(Some(&[">"]), &[]);
    assert!(!rules.permits(subject("$KCPQ.a")) && !rules.covers(pattern("$KCPQ.>")) && rules.covers(pattern(">")));
    let mut rules = matcher(Some(&[">", "$KCPQ.>"]), &["$KCPQ.a.>"]);
    assert!(
        rules.permits(subject("$KCPQ.b")) && rules.covers(pattern("$KCPQ.>")) && !rules.covers(pattern("$KCPQ.a.*"))
    );
    // Whoever has everything else need not be asked about each message because of it.
    assert!(!rules.denies_some(pattern(">")) && rules.denies_some(pattern("$KCPQ.*.b")));
}
