//! What is wanted at the far side of a leaf node's connection, as that has told: patterns, and patterns of queue groups, by the
//! names that they have there.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::{HashMap, HashSet};

use crate::broker::groups;
use crate::router::Router;
use crate::subject::{Limits, Pattern, Subject};

/// See above.
pub(super) struct Wants {
    router: Router,
    /// Patterns, and patterns of groups as [`groups::text`] joins them.
    texts: HashSet<Box<str>, SeedableRandomState>,
    /// Groups by the router's numbers for them, [`PLAIN`] excepted.
    groups: Vec<Option<Group>>,
    /// Places of these that are not used.
    free: Vec<u32>,
    numbers: HashMap<Box<str>, u32, SeedableRandomState>,
    /// There was more than there is room for: it is not known any more what is not wanted.
    is_over: bool,
}

struct Group {
    name: Box<str>,
    /// Patterns that it has.
    patterns: u32,
}

/// What the router calls all who are in no group.
const PLAIN: u32 = 0;
/// So many patterns are remembered, those of groups included.
pub(super) const MAX_WANTS: usize = 1 << 18;
/// No subject here has more, so patterns that do match none.
pub(super) const LIMITS: Limits = Limits { max_len: 4096, max_tokens: u8::MAX };

/// What was made of a pattern that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Added {
    New,
    /// It was known before.
    Known,
    /// No subject here is like that.
    Foreign,
    /// There is no room for it.
    Over,
}

impl core::fmt::Debug for Wants {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wants").field("patterns", &self.len()).field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl Wants {
    /// `seed` is random: peers choose what is hashed.
    pub(super) fn new(seed: u64) -> Self {
        let state = || SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self {
            router: Router::new(seed),
            texts: HashSet::with_hasher(state()),
            groups: Vec::from([None]),
            free: Vec::new(),
            numbers: HashMap::with_hasher(state()),
            is_over: false,
        }
    }

    /// Patterns, those of groups included.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// True if anything may be wanted.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The patterns, each with its group if it has one.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| text.split_once(' ').map_or(&**text, |(pattern, _)| pattern))
    }

    /// Somebody wants what a pattern matches, or a group does.
    pub(super) fn add(&mut self, subject: &str, group: Option<&str>) -> Added {
        let Ok(pattern) = Pattern::new(subject, &LIMITS) else { return Added::Foreign };
        let text = text(subject, group);
        if self.texts.contains(&*text) {
            return Added::Known;
        }
        let number = group.map_or(PLAIN, |name| self.number(name));
        // Many whose `*` stand in ever other places would make each message dear.
        if self.texts.len() >= MAX_WANTS || self.router.admits(pattern, number).is_err() {
            self.is_over = true;
            self.let_go(number);
            return Added::Over;
        }
        if let Some(group) = self.group(number) {
            group.patterns += 1;
        }
        self.router.subscribe(pattern, number);
        self.texts.insert(text);
        Added::New
    }

    /// They do not any more. False if that was not known.
    pub(super) fn remove(&mut self, subject: &str, group: Option<&str>) -> bool {
        let Ok(pattern) = Pattern::new(subject, &LIMITS) else { return false };
        if !self.texts.remove(&*text(subject, group)) {
            return false;
        }
        let Some(number) = group.map_or(Some(PLAIN), |name| self.numbers.get(name).copied()) else { return false };
        self.router.unsubscribe(pattern, number);
        if let Some(group) = self.group(number) {
            group.patterns -= 1;
        }
        self.let_go(number);
        true
    }

    /// Whether somebody wants a message to this subject who is in no group; `tell` is called with each group that does.
    pub(super) fn find(&mut self, subject: Subject<'_>, mut tell: impl FnMut(&str)) -> bool {
        let Self { router, groups, is_over, .. } = self;
        let mut is_plain = *is_over;
        router.route(subject, |number| match groups.get(number as usize) {
            Some(Some(group)) => tell(&group.name),
            _ => is_plain = true,
        });
        is_plain
    }

    fn group(&mut self, number: u32) -> Option<&mut Group> {
        self.groups.get_mut(number as usize)?.as_mut()
    }

    /// The number of a group, which may be a new one.
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let group = Some(Group { name: name.into(), patterns: 0 });
        let number = self.free.pop().unwrap_or(self.groups.len() as u32);
        match self.groups.get_mut(number as usize) {
            Some(place) => *place = group,
            None => self.groups.push(group),
        }
        self.numbers.insert(name.into(), number);
        number
    }

    /// Forgets a group that has no patterns.
    fn let_go(&mut self, number: u32) {
        if let Some(place) = self.groups.get_mut(number as usize)
            && let Some(group) = place.take_if(|group| group.patterns == 0)
        {
            self.numbers.remove(&group.name);
            self.free.push(number);
        }
    }
}

fn text(subject: &str, group: Option<&str>) -> Box<str> {
    group.map_or_else(|| String::from(subject), |group| groups::text(subject, group)).into()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    fn found(wants: &mut Wants, subject: &str) -> (bool, Vec<String>) {
        let mut groups = Vec::new();
        let plain = wants.find(Subject::new(subject, &LIMITS).unwrap(), |name| groups.push(name.to_string()));
        groups.sort();
        (plain, groups)
    }

    #[test]
    fn what_is_wanted_is_known_as_long_as_it_is() {
        let mut wants = Wants::new(1);
        assert_eq!(found(&mut wants, "a.b"), (false, [].into()));
        assert_eq!(wants.add("a.*", None), Added::New);
        assert_eq!(wants.add("a.>", Some("g")), Added::New);
        assert_eq!(wants.add("a.b", Some("g")), Added::New);
        assert_eq!(wants.add("*.b", Some("h")), Added::New);
        assert_eq!(wants.add("a.b", Some("g")), Added::Known, "another weight");
        assert_eq!(found(&mut wants, "a.b"), (true, ["g".into(), "h".into()].into()), "each group once");
        assert_eq!(found(&mut wants, "a.b.c"), (false, ["g".into()].into()));
        assert!(wants.remove("a.*", None) && !wants.remove("a.*", None) && wants.remove("a.>", Some("g")));
        assert_eq!(found(&mut wants, "a.b"), (false, ["g".into(), "h".into()].into()));
        assert!(wants.remove("a.b", Some("g")) && !wants.remove("a.b", Some("other")));
        assert_eq!(found(&mut wants, "a.b"), (false, ["h".into()].into()));
        // Its number is another group's now.
        assert_eq!(wants.add("a.b", Some("i")), Added::New);
        assert_eq!(found(&mut wants, "a.b"), (false, ["h".into(), "i".into()].into()));
        assert_eq!((wants.len(), wants.groups.len()), (2, 3));
        let mut patterns: Vec<_> = wants.patterns().collect();
        patterns.sort_unstable();
        assert_eq!(patterns, ["*.b", "a.b"]);
    }

    #[test]
    fn what_no_subject_here_is_like_is_passed_over() {
        let mut wants = Wants::new(1);
        let deep = format!("{}.>", "a.".repeat(300));
        for foreign in ["", "a..b", &deep, "a.>.b"] {
            assert_eq!(wants.add(foreign, None), Added::Foreign, "{foreign}");
            assert!(!wants.remove(foreign, None));
        }
        assert!(wants.len() == 0 && !wants.is_over());
    }

    #[test]
    fn who_wants_too_much_gets_all() {
        let mut wants = Wants::new(1);
        let mut over = 0;
        for stars in 0..1_024_u32 {
            let tokens: Vec<_> = (0..12).map(|place| if stars >> place & 1 == 1 { "*" } else { "x" }).collect();
            over += u32::from(wants.add(&tokens.join("."), None) == Added::Over);
        }
        assert!(over > 0 && wants.is_over());
        assert_eq!(found(&mut wants, "something.else"), (true, [].into()));
    }
}
