//! [`Rules`] made a router: what a subject or a pattern costs does not grow with the number of rules.
//!
//! The members of the router are two: allowed, and denied. Whether *every* subject that a pattern matches is allowed is
//! asked with subjects as well. Where the pattern has `*` they have a token that no rule has, so that only a wildcard
//! can match it; where it has `>`, one such token, then two, and so on, up to one more than any rule has: from there on all
//! lengths are alike. So the answer is exact, also where several rules are needed, as `a.*` and `a.*.>` for `a.>`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{RuleError, Rules};
use crate::router::Router;
use crate::subject::{Limits, Pattern, Subject, is_reserved};

const ALLOWED: u32 = 0;
const DENIED: u32 = 1;

/// What rules may be like: as a router can have them.
const LIMITS: Limits = Limits { max_len: u16::MAX, max_tokens: u8::MAX };

/// From the end of Unicode's private use area, which nobody has a use for.
const UNUSED: char = '\u{10ff01}';

/// See above.
pub struct Matcher {
    router: Router,
    /// Whatever is not denied is allowed.
    allows_rest: bool,
    deny: Box<[Box<str>]>,
    /// A token that no rule has.
    any: String,
    /// The most tokens of a rule, `>` excepted.
    depth: usize,
    /// A subject that is asked about, kept for its memory.
    example: String,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("patterns", &self.router).field("allows_rest", &self.allows_rest).finish()
    }
}

impl Matcher {
    /// Makes one of rules. `seed` comes from a random source, as that of a [`Router`].
    ///
    /// # Errors
    /// The first pattern that is not one, and what is wrong with it.
    pub fn new(rules: &Rules, seed: u64) -> Result<Self, RuleError> {
        let mut router = Router::new(seed);
        let (mut any, mut depth) = (String::from(UNUSED), 0);
        let allow = rules.allow.as_deref().unwrap_or_default();
        for (member, patterns) in [(ALLOWED, allow), (DENIED, &rules.deny)] {
            for text in patterns {
                let pattern = Pattern::new(text, &LIMITS).map_err(|why| RuleError { pattern: text.clone(), why })?;
                router.subscribe(pattern, member);
                depth = depth.max(pattern.tokens().filter(|token| *token != ">").count());
            }
        }
        while rules.patterns().any(|text| text.split('.').any(|token| token == any)) {
            any.push(UNUSED);
        }
        let allows_rest = rules.allow.is_none();
        Ok(Self { router, allows_rest, deny: rules.deny.as_slice().into(), any, depth, example: String::new() })
    }

    /// True if it permits everything.
    pub fn is_open(&self) -> bool {
        self.allows_rest && self.deny.is_empty()
    }

    /// True if whatever is not denied is allowed, so that nothing has to be named.
    pub(crate) fn allows_rest(&self) -> bool {
        self.allows_rest
    }

    /// True if `subject` is allowed and not denied.
    pub fn permits(&mut self, subject: Subject<'_>) -> bool {
        let (allowed, denied) = self.ask(subject);
        allowed && !denied
    }

    /// True if every subject that `pattern` matches is allowed, and not every one denied.
    pub fn covers(&mut self, pattern: Pattern<'_>) -> bool {
        self.is_open() || {
            let (allowed, denied) = self.ask_all(pattern);
            allowed && !denied
        }
    }

    /// True if `pattern` matches a subject that is denied. Looks at all that are denied, one after the other.
    pub fn denies_some(&self, pattern: Pattern<'_>) -> bool {
        self.deny.iter().any(|denied| overlap(denied, pattern.as_str()))
    }

    /// Whether a subject is allowed, and whether it is denied.
    fn ask(&mut self, subject: Subject<'_>) -> (bool, bool) {
        let (mut allowed, mut denied) = (self.allows_rest, false);
        self.router.route(subject, |member| match member {
            ALLOWED => allowed = true,
            _ => denied = true,
        });
        (allowed, denied)
    }

    /// Whether all subjects that a pattern matches are allowed, and whether all are denied.
    fn ask_all(&mut self, pattern: Pattern<'_>) -> (bool, bool) {
        let mut example = core::mem::take(&mut self.example);
        example.clear();
        let (mut tokens, mut tail) = (0, false);
        for token in pattern.tokens() {
            match token {
                ">" => tail = true, // the last
                "*" => push(&mut example, &self.any),
                literal => push(&mut example, literal),
            }
            tokens += 1;
        }
        if tail {
            push(&mut example, &self.any);
        }
        let deepest = if tail { tokens.max(self.depth + 1).min(usize::from(u8::MAX)) } else { tokens };
        let mut all = (true, true);
        // One that is longer than any subject can be need not be asked about.
        while let Ok(subject) = Subject::new(&example, &LIMITS) {
            let (allowed, denied) = self.ask(subject);
            all = (all.0 && allowed, all.1 && denied);
            if all == (false, false) || tokens >= deepest {
                break;
            }
            push(&mut example, &self.any);
            tokens += 1;
        }
        self.example = example;
        all
    }
}

fn push(subject: &mut String, token: &str) {
    if !subject.is_empty() {
        subject.push('.');
    }
    subject.push_str(token);
}

/// True if a subject exists that both patterns match.
fn overlap(a: &str, b: &str) -> bool {
    // What begins with a wildcard matches none of the subjects that are a server's own.
    if is_reserved(a.as_bytes()) != is_reserved(b.as_bytes()) {
        return false;
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

impl Rules {
    /// Allowed and denied ones.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.allow.iter().flatten().chain(&self.deny).map(|text| &**text)
    }

    /// Rules of these patterns.
    ///
    /// ```
    /// # use kcpq_core::access::Rules;
    /// let rules = Rules::of(Some(&["a.>"]), &["a.b"]);
    /// assert_eq!(rules.patterns().collect::<Vec<_>>(), ["a.>", "a.b"]);
    /// ```
    pub fn of(allow: Option<&[&str]>, deny: &[&str]) -> Self {
        let all = |patterns: &[&str]| patterns.iter().map(|text| Box::from(*text)).collect::<Vec<_>>();
        Self { allow: allow.map(all), deny: all(deny) }
    }
}
