//! The router: which members want a message.
//!
//! A member is a number that the caller gives out, such as the index of a session. The router knows nothing about what
//! it stands for, how many patterns it may have, or how the message gets there.
//!
//! ```text
//! route("a.b.c") -> literal   one lookup of the whole subject:    "a.b.c"
//!                -> trie      one lookup per node and token:      "a.*.c"  "a.>"  ">"
//!                -> told      if several match: who was not told yet
//! ```
//!
//! # What a message costs
//! Its cost does not grow with the number of subscriptions, cache misses apart. Literal patterns take one lookup of the
//! subject. Those with wildcards take a step for each node of the trie whose path matches the beginning of the subject:
//! two ways lead on from a node, the token itself and `*`, so these could be 2^0 + 2^1 + … + 2^n of a subject of `n`
//! tokens, if somebody holds subscriptions that spell them all out. [`Router::admits`] says whether a pattern keeps that
//! within bounds: some 2,800 nodes in all, 256 because of one member, whoever asks it before it subscribes. What is counted
//! are the places of `*`, not patterns. The walk is a loop, not a recursion.
//!
//! # Memory
//! It is given back as patterns leave: each table shrinks when less than a quarter of it is used. Routing allocates
//! nothing once it has seen a subject as deep. A pattern of one member takes an allocation for its text if it has no
//! wildcard, and otherwise 72 bytes for each token that it shares with no other.
//!
//! ```
//! use kcpq_core::router::Router;
//! use kcpq_core::subject::{Limits, Pattern, Subject};
//!
//! let limits = Limits::DEFAULT;
//! let mut router = Router::new(0x5eed); // from a random source: peers choose what is hashed
//! router.subscribe(Pattern::new("sensors.*", &limits)?, 7);
//! router.subscribe(Pattern::new("sensors.>", &limits)?, 7);
//! let mut told = Vec::new();
//! router.route(Subject::new("sensors.kitchen", &limits)?, |member| told.push(member));
//! assert_eq!(told, [7]);
//! # Ok::<(), kcpq_core::subject::SubjectError>(())
//! ```

mod literal;
mod members;
mod recent;
mod shapes;
#[cfg(test)]
mod tests;
mod token;
mod trie;

use alloc::vec::Vec;
use core::fmt;

use hashbrown::HashTable;

use self::literal::Literal;
pub(crate) use self::members::Members;
use self::recent::{Found, Recent};
use self::shapes::{Excess, Shapes};
use self::trie::Trie;
use crate::hash::Secret;
use crate::subject::{Pattern, Subject};

/// Why a pattern is not to be added: a message could take too many steps (see the module's "What a message costs").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooManyShapes {
    /// Because of the member's own patterns.
    OfMember {
        /// The most steps that they may add up to.
        limit: u32,
    },
    /// Because of those of all members together.
    OfAll {
        /// The most steps that they may add up to.
        limit: u32,
    },
}

impl fmt::Display for TooManyShapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, whose) = match *self {
            Self::OfMember { limit } => (limit, "for each session"),
            Self::OfAll { limit } => (limit, "for all sessions together"),
        };
        write!(f, "too many patterns with several wildcards at different places: the limit is {limit} steps {whose}")
    }
}

impl core::error::Error for TooManyShapes {}

/// A place among the patterns of a router; the first by [`Default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// It is among those with wildcards; the others come first.
    trie: bool,
    at: usize,
    /// What is in which place holds as long as nothing has been moved since.
    moves: u64,
    /// How often it was begun anew.
    begun: u8,
}

/// How often those of one kind are gone through from the beginning because something has been moved.
const MAX_BEGUN: u8 = 16;

/// Patterns and their members.
pub struct Router {
    secret: Secret,
    literal: Literal,
    trie: Trie,
    shapes: Shapes,
    /// For each member the last message that it was told of, so that it is told of each once.
    told: Vec<u64>,
    message: u64,
    recent: Recent,
    patterns: usize,
    subscriptions: usize,
    /// Of these such of patterns that only a server's own messages match.
    reserved: usize,
}

impl Router {
    /// An empty router. `seed` comes from a random source: peers choose what is hashed here, and who knows the seed can
    /// make lookups slow. It has no influence on who is told, only on the order.
    pub fn new(seed: u64) -> Self {
        Self {
            secret: Secret::new(seed),
            literal: Literal::default(),
            trie: Trie::new(),
            shapes: Shapes::default(),
            told: Vec::new(),
            message: 0,
            recent: Recent::default(),
            patterns: 0,
            subscriptions: 0,
            reserved: 0,
        }
    }

    /// Says whether messages stay cheap if `member` has `pattern` as well. [`subscribe`](Self::subscribe) does not ask.
    ///
    /// # Errors
    /// [`TooManyShapes`]. Patterns with one `*` within their first 32 tokens, or none, are always welcome.
    pub fn admits(&self, pattern: Pattern<'_>, member: u32) -> Result<(), TooManyShapes> {
        self.shapes.admits(&self.secret, pattern, member).map_err(|excess| match excess {
            Excess::OfMember => TooManyShapes::OfMember { limit: shapes::WORK_OF_MEMBER },
            Excess::OfAll => TooManyShapes::OfAll { limit: shapes::WORK },
        })
    }

    /// Adds `member` to `pattern`. False if it was there already.
    ///
    /// The numbers of members should be dense: 8 bytes are held for each up to the highest that was ever seen.
    pub fn subscribe(&mut self, pattern: Pattern<'_>, member: u32) -> bool {
        self.recent.forget();
        let members = if pattern.is_literal() {
            self.literal.plant(&self.secret, pattern.as_str().as_bytes())
        } else {
            self.trie.plant(&self.secret, pattern)
        };
        let first = members.is_empty();
        if !members.insert(member) {
            return false;
        }
        self.shapes.add(&self.secret, pattern, member);
        self.patterns += usize::from(first);
        self.subscriptions += 1;
        self.reserved += usize::from(pattern.is_reserved());
        let needed = member as usize + 1;
        if self.told.len() < needed {
            self.told.resize(needed, 0);
        }
        true
    }

    /// Counts `pattern` among those of `member` as far as [`admits`](Self::admits) is concerned, although it gets its messages in
    /// another way.
    pub(crate) fn charge(&mut self, pattern: Pattern<'_>, member: u32) {
        self.shapes.add(&self.secret, pattern, member);
    }

    /// Takes that back.
    pub(crate) fn discharge(&mut self, pattern: Pattern<'_>, member: u32) {
        self.shapes.remove(&self.secret, pattern, member);
    }

    /// Takes `member` away from `pattern`. False if it was not there.
    pub fn unsubscribe(&mut self, pattern: Pattern<'_>, member: u32) -> bool {
        self.recent.forget();
        let removed = if pattern.is_literal() {
            self.literal.remove(&self.secret, pattern.as_str().as_bytes(), member)
        } else {
            self.trie.remove(&self.secret, pattern, member)
        };
        let Some(last) = removed else { return false };
        self.shapes.remove(&self.secret, pattern, member);
        self.patterns -= usize::from(last);
        self.subscriptions -= 1;
        self.reserved -= usize::from(pattern.is_reserved());
        true
    }

    /// Calls `tell` once for each member with a pattern that matches, however many of its patterns do. In no
    /// particular order.
    pub fn route(&mut self, subject: Subject<'_>, tell: impl FnMut(u32)) {
        self.route_counted(subject, 0, tell);
    }

    /// The same, counted as so many messages for each pattern that matches. Says how many steps it took.
    pub(crate) fn route_counted(&mut self, subject: Subject<'_>, count: u32, mut tell: impl FnMut(u32)) -> u32 {
        self.message += 1;
        let Self { secret, literal, trie, told, message, recent, .. } = self;
        let bytes = subject.as_str().as_bytes();
        let mut steps = 1;
        let only = match recent.get(bytes) {
            Some(found) => found.and_then(|found| match found {
                Found::Literal(place) => literal.at(place),
                Found::Node(index, rest) => trie.at(index, rest),
            }),
            None => {
                let mut tell_new = |members: &Members| {
                    members.count(count);
                    members.for_each(|member| {
                        if let Some(last) = told.get_mut(member as usize)
                            && *last != *message
                        {
                            *last = *message;
                            tell(member);
                        }
                    });
                };
                // Most messages match one pattern, whose members are distinct: they wait until a second one is found.
                let place = literal.find(secret, bytes);
                let mut only = place.and_then(|place| Some((literal.at(place)?, Found::Literal(place))));
                let mut several = false;
                steps = trie.matches(secret, subject, |members, index, rest| {
                    if members.is_empty() {
                        return;
                    }
                    if !several && only.is_none() {
                        only = Some((members, Found::Node(index, rest)));
                        return;
                    }
                    several = true;
                    if let Some((first, _)) = only.take() {
                        tell_new(first);
                    }
                    tell_new(members);
                });
                if several {
                    recent.forget();
                } else {
                    recent.set(bytes, only.map(|(_, found)| found));
                }
                only.map(|(members, _)| members)
            }
        };
        if let Some(members) = only {
            members.count(count);
            members.for_each(tell);
        }
        steps
    }

    /// True if `member` was told of the message that was routed last, beside others with other patterns. Not known, and
    /// false, for a message that matched one pattern only.
    pub fn was_told(&self, member: u32) -> bool {
        self.told.get(member as usize) == Some(&self.message)
    }

    /// Shows patterns from a place on: what lies in `count` places of the tables at most. Returns where to go on. A pattern
    /// that is there from the first to the last call is shown; one may be shown again, as it is then, if others came and
    /// went meanwhile. So many that the tables are put in order all the time can make it miss some.
    pub(crate) fn visit(&self, from: Place, count: usize, mut visit: impl FnMut(&str, &Members)) -> Option<Place> {
        let Place { trie, mut at, moves, mut begun } = from;
        let now = if trie { self.trie.moves() } else { self.literal.moves() };
        if at > 0 && moves != now && begun < MAX_BEGUN {
            (at, begun) = (0, begun + 1);
        }
        let next =
            if trie { self.trie.visit(at, count, &mut visit) } else { self.literal.visit(at, count, &mut visit) };
        match next {
            Some(at) => Some(Place { trie, at, moves: now, begun }),
            None if trie => None,
            None => Some(Place { trie: true, ..Place::default() }),
        }
    }

    /// Patterns that have members.
    pub fn patterns(&self) -> usize {
        self.patterns
    }

    /// Members of all patterns, added up.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Of these such of patterns that [only a server's own messages match](Pattern::is_reserved).
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("patterns", &self.patterns)
            .field("subscriptions", &self.subscriptions)
            .field("nodes", &self.trie.used())
            .finish_non_exhaustive()
    }
}

/// Gives memory back when less than a quarter is used; half of what stays is free, so that it is not asked for again
/// with the next entry.
/// True if it did so.
fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) -> bool {
    let shrinks = table.capacity() > 64 && table.len() < table.capacity() / 4;
    if shrinks {
        table.shrink_to(table.len() * 2, hash);
    }
    shrinks
}
