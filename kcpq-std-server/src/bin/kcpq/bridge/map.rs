//! What subjects at the kcpq server are called at NATS, and the other way round.

use std::borrow::Cow;
use std::str::FromStr;

use kcpq_core::subject::{Limits, Pattern, Subject};

/// As deep as can be counted: the one side may have more tokens than the other.
const LIMITS: Limits = Limits { max_tokens: u8::MAX, ..Limits::DEFAULT };
/// Subjects for answers, which the gateway names.
pub(super) const INBOX: &str = "_INBOX.";

/// `KCPQ=NATS`: two patterns with the same wildcards in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    kcpq: Box<str>,
    nats: Box<str>,
}

/// Rules, of which the first one that fits counts. What none fits keeps its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Map(Vec<Rule>);

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kcpq, nats) =
            text.split_once('=').ok_or("it has to be KCPQ=NATS, as in telemetry.>=site.7.telemetry.>")?;
        for pattern in [kcpq, nats] {
            Pattern::new(pattern, &LIMITS).map_err(|error| format!("'{pattern}': {error}"))?;
        }
        let wildcards = |pattern: &str| pattern.split('.').filter(|token| is_wildcard(token)).collect::<String>();
        if wildcards(kcpq) != wildcards(nats) {
            return Err(format!("'{kcpq}' and '{nats}' need the same wildcards in the same order"));
        }
        Ok(Self { kcpq: kcpq.into(), nats: nats.into() })
    }
}

impl Rule {
    /// The pattern of what it makes for NATS.
    pub(super) fn nats(&self) -> &str {
        &self.nats
    }
}

impl Map {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// What a subject of the kcpq server is called at NATS.
    pub(super) fn to_nats<'s>(&self, subject: &'s str) -> Cow<'s, str> {
        self.translate(subject, |rule| (&rule.kcpq, &rule.nats))
    }

    /// What a subject of NATS is called at the kcpq server.
    pub(super) fn to_kcpq<'s>(&self, subject: &'s str) -> Cow<'s, str> {
        self.translate(subject, |rule| (&rule.nats, &rule.kcpq))
    }

    fn translate<'s>(&self, subject: &'s str, sides: impl Fn(&Rule) -> (&str, &str)) -> Cow<'s, str> {
        if self.0.is_empty() || subject.starts_with(INBOX) {
            return subject.into();
        }
        let Ok(parsed) = Subject::new(subject, &LIMITS) else { return subject.into() };
        let fitting = self.0.iter().map(sides).find(|(from, _)| fits(from, parsed));
        fitting.map_or_else(|| subject.into(), |(from, to)| fill(to, &captured(from, subject)).into())
    }
}

/// True if one of the patterns matches the subject.
pub(super) fn any_fits(patterns: &[Box<str>], subject: &str) -> bool {
    Subject::new(subject, &LIMITS).is_ok_and(|subject| patterns.iter().any(|pattern| fits(pattern, subject)))
}

fn fits(pattern: &str, subject: Subject<'_>) -> bool {
    Pattern::new(pattern, &LIMITS).is_ok_and(|pattern| pattern.matches(subject))
}

fn is_wildcard(token: &str) -> bool {
    matches!(token, "*" | ">")
}

/// What the wildcards of a pattern stand for in a subject that it matches.
fn captured<'s>(pattern: &str, subject: &'s str) -> Vec<&'s str> {
    let (mut all, mut rest) = (Vec::new(), subject);
    for token in pattern.split('.') {
        if token == ">" {
            all.push(rest);
            break;
        }
        let (first, behind) = rest.split_once('.').unwrap_or((rest, ""));
        if token == "*" {
            all.push(first);
        }
        rest = behind;
    }
    all
}

/// The pattern with these in the place of its wildcards.
fn fill(pattern: &str, captured: &[&str]) -> String {
    let mut captured = captured.iter();
    let tokens = pattern.split('.').map(|token| {
        let stands_for = if is_wildcard(token) { captured.next() } else { None };
        stands_for.copied().unwrap_or(token)
    });
    tokens.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_called_what_the_first_rule_that_fits_says_both_ways() {
        let rules = ["telemetry.>=site.7.telemetry.>", "cmd.*.set.*=devices.*.cmd.*", "all.>=>", "one=two.three"];
        let map = Map::new(rules.iter().map(|rule| rule.parse().unwrap()).collect());
        for (kcpq, nats) in [
            ("telemetry.a", "site.7.telemetry.a"),
            ("telemetry.a.b.c", "site.7.telemetry.a.b.c"),
            ("cmd.7.set.led", "devices.7.cmd.led"),
            ("one", "two.three"),
            ("all.of.it", "of.it"),
            ("_INBOX.telemetry.a", "_INBOX.telemetry.a"),
        ] {
            assert_eq!(map.to_nats(kcpq), nats);
        }
        for (nats, kcpq) in [
            ("site.7.telemetry.a.b", "telemetry.a.b"),
            ("devices.7.cmd.led", "cmd.7.set.led"),
            // Of two rules the first one counts.
            ("two.three", "all.two.three"),
            ("telemetry.a", "all.telemetry.a"),
            ("_INBOX.x", "_INBOX.x"),
        ] {
            assert_eq!(map.to_kcpq(nats), kcpq);
        }
        assert_eq!(map.to_nats("telemetry"), "telemetry", "> is one token at least");
        assert_eq!(Map::default().to_kcpq("a.b"), "a.b");
    }

    #[test]
    fn a_rule_has_the_same_wildcards_on_both_sides() {
        for wrong in ["a", "a=", "=a", "a.*=b", "a.*=b.>", "a.>=b.*.>", "*.>=>.*", "a b=c", "a..b=c"] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
        for right in ["a=b", "*.a.*=*.*.b", ">=x.>", "*.>=a.*.b.>"] {
            assert!(right.parse::<Rule>().is_ok(), "{right}");
        }
    }
}
