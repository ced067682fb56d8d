//! Which subjects cross, and what they are called on the other side.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::{Config, TOKEN, token};
use crate::access::RuleError;
use crate::subject::{Limits, Pattern, Subject, is_reserved, matches};

/// What every subject for answers begins with.
pub(super) const INBOX: &str = "_INBOX.";
/// What stands behind a gateway's token in subjects for what is said of messages that were to be stored.
const RECEIPT: &str = "-stored.";
/// The backbone takes no longer line for a subscription or a message, with what else stands there.
const MAX_LINE: usize = 4_000;
/// As deep as can be counted: a prefix comes to it.
const LIMITS: Limits = Limits { max_len: 4096, max_tokens: u8::MAX };

/// See above.
#[derive(Debug)]
pub(super) struct Subjects {
    export: Vec<Box<str>>,
    import: Vec<Box<str>>,
    /// Patterns of what is to be stored.
    store: Vec<Box<str>>,
    /// Patterns of what goes both ways.
    shared: Vec<Box<str>>,
    /// With the dot behind it.
    prefix: String,
    /// What the gateway's own subjects for answers begin with, and the pattern of all of them.
    inbox: String,
    answers: String,
    /// What the subjects begin with by which the backbone says that it has stored something.
    receipts: String,
    /// What ids begin with that the gateway gives messages which are to be stored.
    ids: String,
}

impl Subjects {
    pub(super) fn new(config: &Config) -> Result<Self, RuleError> {
        for text in config.export.iter().chain(&config.import).chain(&config.store) {
            Pattern::new(text, &LIMITS).map_err(|why| RuleError { pattern: text.clone(), why })?;
        }
        if !config.prefix.is_empty() {
            Subject::new(&config.prefix, &LIMITS).map_err(|why| RuleError { pattern: config.prefix.clone(), why })?;
        }
        let mut shared: Vec<Box<str>> = Vec::new();
        for (out, back) in config.export.iter().flat_map(|out| config.import.iter().map(move |back| (out, back))) {
            shared.extend(intersection(out, back).map(Into::into).filter(|pattern| !shared.contains(pattern)));
        }
        let inbox = format!("{INBOX}{}.", token(config.id));
        Ok(Self {
            export: config.export.clone(),
            import: config.import.clone(),
            store: config.store.clone(),
            shared,
            prefix: if config.prefix.is_empty() { String::new() } else { format!("{}.", config.prefix) },
            answers: format!("{inbox}>"),
            receipts: format!("{INBOX}{}{RECEIPT}", token(config.id)),
            ids: format!("{}-", token(config.id)),
            inbox,
        })
    }

    /// What all subjects there begin with, with the dot behind it; empty for nothing.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Patterns of what goes out and comes in: of these the backbone sees to queue groups.
    pub(super) fn shared(&self) -> &[Box<str>] {
        &self.shared
    }

    /// True if a subject goes out and comes in.
    pub(super) fn is_shared(&self, subject: &str) -> bool {
        permits(&self.export, subject) && permits(&self.import, subject)
    }

    /// True if messages to a subject come in.
    pub(super) fn comes_in(&self, subject: &str) -> bool {
        permits(&self.import, subject)
    }

    /// True if what is published to a subject is to be stored, whoever does. Answers are for who asked alone.
    pub(super) fn is_stored(&self, subject: &str) -> bool {
        !subject.starts_with(INBOX) && permits(&self.store, subject)
    }

    /// The pattern of subjects here to which answers for the backbone are published.
    pub(super) fn answers(&self) -> &str {
        &self.answers
    }

    /// The pattern of subjects there to which answers for this server are published.
    pub(super) fn answers_there(&self) -> &str {
        &self.answers
    }

    /// The pattern of subjects there by which it is said what became of messages that were to be stored.
    pub(super) fn receipts_there(&self) -> String {
        format!("{}*", self.receipts)
    }

    /// Writes the one for the message of this number.
    pub(super) fn write_receipt(&self, number: u64, out: &mut String) {
        write_number(&self.receipts, number, out);
    }

    /// Writes the id that the gateway gives the message of this number.
    pub(super) fn write_id(&self, number: u64, out: &mut String) {
        write_number(&self.ids, number, out);
    }

    /// The number of the message that one of them is for.
    pub(super) fn receipt(&self, subject: &str) -> Option<u64> {
        subject.strip_prefix(&*self.receipts)?.parse().ok()
    }

    /// True if it is such a subject, of whatever gateway: nobody but a store answers there.
    pub(super) fn is_receipt(reply: &str) -> bool {
        let rest = reply.strip_prefix(INBOX).and_then(|rest| rest.strip_prefix(TOKEN)).and_then(|rest| rest.get(16..));
        rest.is_some_and(|rest| rest.starts_with(RECEIPT))
    }

    // --- out ---

    /// Writes what a message's subject is called there. `false` if it does not go out.
    pub(super) fn write_out(&self, subject: &str, out: &mut String) -> bool {
        out.clear();
        if let Some(rest) = subject.strip_prefix(&*self.inbox) {
            out.push_str(INBOX);
            out.push_str(rest);
            return true;
        }
        if subject.starts_with(INBOX) || !permits(&self.export, subject) {
            return false;
        }
        out.push_str(&self.prefix);
        out.push_str(subject);
        true
    }

    /// Writes what the subject for answers to a message is called there.
    pub(super) fn write_reply_out(&self, reply: &str, out: &mut String) {
        out.clear();
        if let Some(rest) = reply.strip_prefix(&*self.inbox) {
            out.push_str(INBOX);
            out.push_str(rest);
        } else if let Some(rest) = reply.strip_prefix(INBOX) {
            out.push_str(&self.inbox);
            out.push_str(rest);
        } else {
            out.push_str(&self.prefix);
            out.push_str(reply);
        }
    }

    /// True if the backbone takes a line with these.
    pub(super) fn fits(subject: &str, reply: &str) -> bool {
        subject.len() + reply.len() <= MAX_LINE
    }

    // --- in ---

    /// Writes what a message's subject there is called here. `false` if it does not come in.
    pub(super) fn write_in(&self, subject: &str, out: &mut String) -> bool {
        out.clear();
        let Some(rest) = subject.strip_prefix(&*self.prefix) else { return false };
        if rest.starts_with(INBOX) || !permits(&self.import, rest) {
            return false;
        }
        out.push_str(rest);
        true
    }

    /// The same for one to which an answer for this server came.
    pub(super) fn write_answer_in(&self, subject: &str, out: &mut String) -> bool {
        out.clear();
        let Some(rest) = subject.strip_prefix(&*self.inbox) else { return false };
        out.push_str(INBOX);
        out.push_str(rest);
        true
    }

    /// Writes what the subject for answers to a message from there is called here. `false` if it has no name here.
    pub(super) fn write_reply_in(&self, reply: &str, out: &mut String) -> bool {
        out.clear();
        if let Some(rest) = reply.strip_prefix(INBOX) {
            out.push_str(&self.inbox);
            out.push_str(rest);
            return true;
        }
        let Some(rest) = reply.strip_prefix(&*self.prefix).filter(|rest| permits(&self.export, rest)) else {
            return false;
        };
        out.push_str(rest);
        true
    }

    // --- patterns ---

    /// What a pattern is called there.
    pub(super) fn there(&self, pattern: &str) -> Box<str> {
        format!("{}{pattern}", self.prefix).into()
    }

    /// The patterns of what goes out of here and matches a pattern there. Answers are another matter.
    pub(super) fn exported(&self, there: &str) -> Vec<Box<str>> {
        let below = (!self.prefix.is_empty()).then(|| intersection(&format!("{}>", self.prefix), there));
        let here = match &below {
            None => there,
            Some(Some(below)) => below.strip_prefix(&*self.prefix).unwrap_or_default(),
            Some(None) => return Vec::new(),
        };
        let mut all: Vec<Box<str>> = Vec::new();
        if here.starts_with(INBOX) {
            return all;
        }
        for part in self.export.iter().filter_map(|export| intersection(export, here)) {
            if !all.iter().any(|known| **known == *part) {
                all.push(part.into());
            }
        }
        all
    }

    /// What is to be subscribed to there so that all comes that sessions want with this pattern and may come in; and whether
    /// some of it cannot be.
    pub(super) fn wanted(&self, pattern: &str) -> (Vec<Box<str>>, bool) {
        if is_reserved(pattern.as_bytes()) || pattern.starts_with(INBOX) {
            return (Vec::new(), false);
        }
        let (mut all, mut too_long): (Vec<Box<str>>, bool) = (Vec::new(), false);
        for part in self.import.iter().filter_map(|import| intersection(import, pattern)) {
            let subject: Box<str> = format!("{}{part}", self.prefix).into();
            if subject.len() > MAX_LINE {
                too_long = true;
            } else if !all.contains(&subject) {
                all.push(subject);
            }
        }
        (all, too_long)
    }
}

fn write_number(before: &str, number: u64, out: &mut String) {
    out.clear();
    // Writing to memory does not fail.
    let _ = write!(out, "{before}{number}");
}

/// True if one of the patterns matches the subject. What begins with `$` has to be named, and is never the server's own.
fn permits(patterns: &[Box<str>], subject: &str) -> bool {
    let named = |pattern: &str| !subject.starts_with('$') || pattern.starts_with('$');
    !is_reserved(subject.as_bytes())
        && patterns.iter().any(|pattern| named(pattern) && matches(pattern, subject.as_bytes()))
}

/// The pattern of what both match; `None` if that is nothing. Of the first one a wildcard in front does not stand for what
/// begins with `$`.
fn intersection(rule: &str, pattern: &str) -> Option<String> {
    if rule.starts_with(['*', '>']) && pattern.starts_with('$') || is_reserved(rule.as_bytes()) {
        return None;
    }
    let mut out: Vec<&str> = Vec::new();
    let (mut left, mut right) = (rule.split('.'), pattern.split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Some(out.join(".")),
            (Some(">"), Some(token)) => {
                out.extend([token].into_iter().chain(right));
                return Some(out.join("."));
            }
            (Some(token), Some(">")) => {
                out.extend([token].into_iter().chain(left));
                return Some(out.join("."));
            }
            (Some("*"), Some(token)) | (Some(token), Some("*")) => out.push(token),
            (Some(a), Some(b)) if a == b => out.push(a),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(import: &[&str], export: &[&str], prefix: &str) -> Subjects {
        let list = |patterns: &[&str]| patterns.iter().map(|pattern| Box::from(*pattern)).collect();
        let config =
            Config { id: 7, import: list(import), export: list(export), prefix: prefix.into(), ..Config::default() };
        Subjects::new(&config).unwrap()
    }

    #[test]
    fn two_patterns_have_one_in_common_or_none() {
        for (a, b, both) in [
            (">", "a.b", Some("a.b")),
            ("a.>", ">", Some("a.>")),
            ("a.*", "*.b", Some("a.b")),
            ("a.>", "*.b.c", Some("a.b.c")),
            ("a.>", "*.*.>", Some("a.*.>")),
            ("a.b.>", "a.*", None),
            ("a", "b", None),
            ("a.>", "a", None),
            ("*", "a.b", None),
            (">", "$KV.a", None),
            ("$KV.>", ">", Some("$KV.>")),
            ("$KCPQ.>", ">", None),
        ] {
            assert_eq!(intersection(a, b).as_deref(), both, "{a} {b}");
        }
    }

    #[test]
    fn subjects_have_a_prefix_there_and_only_those_cross_that_are_named() {
        let subjects = subjects(&["in.>", "both.>"], &["out.*", "both.a.>"], "edge.1");
        let mut out = String::new();
        assert!(subjects.write_out("out.a", &mut out));
        assert_eq!(out, "edge.1.out.a");
        assert!(!subjects.write_out("out.a.b", &mut out) && !subjects.write_out("in.a", &mut out));
        assert!(subjects.write_in("edge.1.in.a", &mut out));
        assert_eq!(out, "in.a");
        assert!(!subjects.write_in("in.a", &mut out) && !subjects.write_in("edge.1.out.a", &mut out));
        assert_eq!(subjects.shared(), [Box::from("both.a.>")]);
        assert!(subjects.is_shared("both.a.b") && !subjects.is_shared("both.b.b"));
        assert_eq!(subjects.wanted("*.x").0, [Box::from("edge.1.in.x"), "edge.1.both.x".into()]);
        assert_eq!(subjects.wanted("out.>").0, []);
    }

    #[test]
    fn what_is_wanted_there_is_named_as_it_is_here_as_far_as_it_goes_out() {
        let some = subjects(&[">"], &["out.*", "both.a.>", "$KV.b.>"], "edge.1");
        for (there, here) in [
            (">", &["out.*", "both.a.>", "$KV.b.>"][..]),
            ("edge.1.out.x", &["out.x"]),
            ("edge.*.*.a.b", &["both.a.b"]),
            ("*.1.both.>", &["both.a.>"]),
            ("edge.2.>", &[]),
            ("edge.1", &[]),
            ("out.x", &[]),
            ("edge.1.in.x", &[]),
            ("edge.1.$KV.b.x", &["$KV.b.x"]),
        ] {
            let all: Vec<Box<str>> = here.iter().map(|text| Box::from(*text)).collect();
            assert_eq!(some.exported(there), all, "{there}");
        }
        let all = subjects(&[">"], &[">"], "");
        assert_eq!(all.exported("a.*"), [Box::from("a.*")]);
        for there in ["$SYS.>", "$KCPQ.>", "$LDS.x", "_INBOX.x.*"] {
            assert_eq!(all.exported(there), [], "{there}");
        }
    }

    #[test]
    fn what_is_the_servers_own_and_what_is_not_named_does_not_cross() {
        let all = subjects(&[">"], &[">", "$KV.b.>", "$KCPQ.>"], "");
        let mut out = String::new();
        for subject in ["$KCPQ.sessions", "$SYS.x", "$JS.API.x", "$KV.c.x", "_INBOX.a.b"] {
            assert!(!all.write_out(subject, &mut out) && !all.write_in(subject, &mut out), "{subject}");
        }
        assert!(all.write_out("$KV.b.x", &mut out) && !all.write_in("$KV.b.x", &mut out));
        assert_eq!(all.wanted("$KCPQ.>").0, []);
        assert_eq!(all.wanted("_INBOX.abc.*").0, []);
        assert!(Subjects::new(&Config { prefix: "a.*".into(), ..Config::default() }).is_err());
        assert!(Subjects::new(&Config { export: ["a".into(), "a..b".into()].into(), ..Config::default() }).is_err());
    }

    #[test]
    fn by_rule_is_stored_what_is_named_and_no_answer() {
        let store = |patterns: &[&str]| patterns.iter().map(|pattern| Box::from(*pattern)).collect();
        let some = Subjects::new(&Config { store: store(&["a.>", "$KV.b.>"]), ..Config::default() }).unwrap();
        assert!(
            some.is_stored("a.b") && some.is_stored("$KV.b.x") && !some.is_stored("b") && !some.is_stored("$KV.c.x")
        );
        let all = Subjects::new(&Config { store: store(&[">"]), ..Config::default() }).unwrap();
        assert!(all.is_stored("a"));
        for subject in ["$KV.b.x", "$KCPQ.sessions", "_INBOX.kcpq0000000000000000.x", "_INBOX.x"] {
            assert!(!all.is_stored(subject), "{subject}");
        }
        assert!(Subjects::new(&Config { store: store(&["a..b"]), ..Config::default() }).is_err());
    }

    #[test]
    fn subjects_for_answers_are_the_gateways_there_and_there_and_back_they_are_the_same() {
        let subjects = subjects(&[">"], &[">"], "p");
        let (mut there, mut here) = (String::new(), String::new());
        subjects.write_reply_out("_INBOX.abc.1", &mut there);
        assert_eq!(there, "_INBOX.kcpq0000000000000007.abc.1");
        assert!(subjects.write_answer_in(&there, &mut here));
        assert_eq!(here, "_INBOX.abc.1");
        assert!(subjects.write_reply_in("_INBOX.nats.1", &mut here));
        assert_eq!(here, "_INBOX.kcpq0000000000000007.nats.1");
        assert!(subjects.write_out(&here, &mut there));
        assert_eq!(there, "_INBOX.nats.1");
        subjects.write_receipt(12, &mut there);
        assert_eq!(there, "_INBOX.kcpq0000000000000007-stored.12");
        assert_eq!((subjects.receipt(&there), Subjects::is_receipt(&there)), (Some(12), true));
        assert!(
            Subjects::is_receipt("_INBOX.kcpqfedcba9876543210-stored.1")
                && !subjects.write_answer_in(&there, &mut here)
        );
        assert!(
            !Subjects::is_receipt("_INBOX.kcpq0000000000000007.abc.1") && !Subjects::is_receipt("_INBOX.kcpq-stored.1")
        );
        subjects.write_reply_out("answers", &mut there);
        assert_eq!(there, "p.answers");
        assert!(subjects.write_reply_in(&there, &mut here) && here == "answers");
        assert!(!subjects.write_reply_in("answers", &mut here));
    }
}
