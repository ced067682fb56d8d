//! The router: which members want a message.
//!
//! Patterns without wildcards are found by one hash lookup of the whole subject. Those with wildcards lie in a trie of
//! tokens; one table holds the edges of all its nodes, so a step costs one lookup however many patterns there are:
//!
//! ```text
//! "a.*.c", "a.>"        root --a--> [1: rest {2}] --*--> [2] --c--> [3: here {1}]
//! ```
//!
//! A lookup goes to at most two nodes for each token and node reached before, so its cost grows with the tokens of the
//! subject and the branches that really exist, never with the number of patterns: a subject of `n` tokens visits at
//! most `2^n` nodes, and to reach `k` of them somebody must have subscribed to patterns that spell them out. The token
//! limit of [`subject::Limits`](crate::subject::Limits) bounds `n`.

mod members;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::hash::BuildHasher;

use foldhash::quality::SeedableRandomState;
use hashbrown::{HashMap, HashTable};

use self::members::Members;
use crate::subject::{Pattern, Subject};

/// Patterns and their members. A member is a small number that the caller gives out, such as the index of a session.
pub struct Router {
    hasher: SeedableRandomState,
    literal: HashMap<Box<str>, Members, SeedableRandomState>,
    /// Indices of nodes, found by their parent and token.
    edges: HashTable<u32>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// For each member the last message that it was told of, so that each hears of it once.
    told: Vec<u64>,
    message: u64,
    /// Nodes still to be visited: index, and the offset of the subject's next token.
    stack: Vec<(u32, u32)>,
    patterns: usize,
    subscriptions: usize,
}

/// A node of the trie. 96 bytes, and its token.
#[derive(Default)]
struct Node {
    parent: u32,
    /// The token of the edge that leads here; empty for the root, `*` for that wildcard.
    token: Box<str>,
    /// Edges that leave from here, the wildcard's included.
    children: u32,
    /// The child for `*`; 0 is none, since the root is nobody's child.
    star: u32,
    /// Members of the pattern that ends here.
    here: Members,
    /// Members of the pattern that ends here with `>`.
    rest: Members,
}

const ROOT: u32 = 0;

impl Router {
    /// An empty router. `seed` is random: peers choose what is hashed here.
    pub fn new(seed: u64) -> Self {
        let state = |seed| SeedableRandomState::with_seed(seed, foldhash::SharedSeed::global_fixed());
        Self {
            hasher: state(seed),
            literal: HashMap::with_hasher(state(seed ^ 1)),
            edges: HashTable::new(),
            nodes: alloc::vec![Node::default()],
            free: Vec::new(),
            told: Vec::new(),
            message: 0,
            stack: Vec::new(),
            patterns: 0,
            subscriptions: 0,
        }
    }

    /// Adds `member` to `pattern`. False if it was there already.
    pub fn subscribe(&mut self, pattern: Pattern<'_>, member: u32) -> bool {
        let seat = member as usize;
        if seat >= self.told.len() {
            self.told.resize(seat + 1, 0);
        }
        let members = if pattern.is_literal() {
            self.literal.entry(pattern.as_str().into()).or_default()
        } else {
            let (node, tail) = self.plant(pattern);
            let node = &mut self.nodes[node as usize];
            if tail { &mut node.rest } else { &mut node.here }
        };
        let first = members.is_empty();
        if !members.insert(member) {
            return false;
        }
        self.patterns += usize::from(first);
        self.subscriptions += 1;
        true
    }

    /// Takes `member` away from `pattern`. False if it was not there.
    pub fn unsubscribe(&mut self, pattern: Pattern<'_>, member: u32) -> bool {
        let emptied = if pattern.is_literal() {
            let Some(members) = self.literal.get_mut(pattern.as_str()) else { return false };
            if !members.remove(member) {
                return false;
            }
            let emptied = members.is_empty();
            if emptied {
                self.literal.remove(pattern.as_str());
            }
            emptied
        } else {
            let Some((index, tail)) = self.find(pattern) else { return false };
            let node = &mut self.nodes[index as usize];
            let members = if tail { &mut node.rest } else { &mut node.here };
            if !members.remove(member) {
                return false;
            }
            let emptied = members.is_empty();
            self.prune(index);
            emptied
        };
        self.patterns -= usize::from(emptied);
        self.subscriptions -= 1;
        true
    }

    /// Calls `tell` once for each member with a pattern that matches, however many of its patterns do.
    pub fn route(&mut self, subject: Subject<'_>, mut tell: impl FnMut(u32)) {
        let subject = subject.as_str();
        self.message += 1;
        let (told, message) = (&mut self.told, self.message);
        let mut tell_all = |members: &Members| {
            for member in members.iter() {
                if let Some(last) = told.get_mut(member as usize)
                    && *last != message
                {
                    *last = message;
                    tell(member);
                }
            }
        };
        if let Some(members) = self.literal.get(subject) {
            tell_all(members);
        }
        self.stack.clear();
        self.stack.push((ROOT, 0));
        while let Some((index, offset)) = self.stack.pop() {
            let node = &self.nodes[index as usize];
            let Some(rest) = subject.get(offset as usize..).filter(|rest| !rest.is_empty()) else {
                tell_all(&node.here);
                continue;
            };
            tell_all(&node.rest);
            if node.children == 0 {
                continue;
            }
            let token = rest.split('.').next().unwrap_or_default();
            let next = offset + token.len() as u32 + 1;
            if node.star != 0 {
                self.stack.push((node.star, next));
            }
            if let Some(child) = child(&self.edges, &self.nodes, &self.hasher, index, token) {
                self.stack.push((child, next));
            }
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

    /// Nodes of the trie in use, the root included.
    pub fn nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// The node where a pattern with wildcards ends, and whether it ends with `>`; made if need be.
    fn plant(&mut self, pattern: Pattern<'_>) -> (u32, bool) {
        let mut at = ROOT;
        for token in pattern.tokens() {
            if token == ">" {
                return (at, true);
            }
            at = match self.step(at, token) {
                Some(child) => child,
                None => self.grow(at, token),
            };
        }
        (at, false)
    }

    fn find(&self, pattern: Pattern<'_>) -> Option<(u32, bool)> {
        let mut at = ROOT;
        for token in pattern.tokens() {
            if token == ">" {
                return Some((at, true));
            }
            at = self.step(at, token)?;
        }
        Some((at, false))
    }

    fn step(&self, parent: u32, token: &str) -> Option<u32> {
        if token == "*" {
            return Some(self.nodes[parent as usize].star).filter(|star| *star != 0);
        }
        child(&self.edges, &self.nodes, &self.hasher, parent, token)
    }

    fn grow(&mut self, parent: u32, token: &str) -> u32 {
        let node = Node { parent, token: token.into(), ..Node::default() };
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.nodes[parent as usize].children += 1;
        if token == "*" {
            self.nodes[parent as usize].star = index;
        } else {
            let Self { edges, nodes, hasher, .. } = self;
            let hash = hasher.hash_one((parent, token));
            edges.insert_unique(hash, index, |index| {
                let node = &nodes[*index as usize];
                hasher.hash_one((node.parent, &*node.token))
            });
        }
        index
    }

    /// Takes out nodes that lead nowhere, from `index` upwards.
    fn prune(&mut self, mut index: u32) {
        while index != ROOT {
            let node = &self.nodes[index as usize];
            if node.children > 0 || !node.here.is_empty() || !node.rest.is_empty() {
                return;
            }
            let node = core::mem::take(&mut self.nodes[index as usize]);
            let parent = &mut self.nodes[node.parent as usize];
            parent.children -= 1;
            if &*node.token == "*" {
                parent.star = 0;
            } else {
                let hash = self.hasher.hash_one((node.parent, &*node.token));
                if let Ok(edge) = self.edges.find_entry(hash, |edge| *edge == index) {
                    edge.remove();
                }
            }
            self.free.push(index);
            index = node.parent;
        }
        if self.nodes() == 1 {
            // The last one: what the trie took is given back.
            self.nodes.truncate(1);
            self.nodes.shrink_to_fit();
            self.free = Vec::new();
            self.edges = HashTable::new();
        }
    }
}

/// The child of `parent` for a literal token.
fn child(
    edges: &HashTable<u32>,
    nodes: &[Node],
    hasher: &SeedableRandomState,
    parent: u32,
    token: &str,
) -> Option<u32> {
    let hash = hasher.hash_one((parent, token));
    let same = |index: &u32| {
        let node = &nodes[*index as usize];
        node.parent == parent && &*node.token == token
    };
    edges.find(hash, same).copied()
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router")
            .field("patterns", &self.patterns)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}
