//! The patterns with wildcards: a trie of tokens.
//!
//! ```text
//! "a.*.c", "a.>"        root --a--> [1: rest {2}] --*--> [2] --c--> [3: here {1}]
//! ```
//!
//! The nodes lie in one vector and the edges of all of them in one hash table, found by parent and token, so a node
//! needs no table of its own and a step is one lookup. `*` is a field of the node: no lookup.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use hashbrown::HashTable;

use super::members::Members;
use super::shrink;
use super::token::Token;
use crate::hash::Secret;
use crate::subject::{Pattern, RESERVED, Subject};

pub(super) struct Trie {
    nodes: Nodes,
    /// Indices of nodes that are not in use.
    free: Vec<u32>,
    /// Indices of the nodes that a token other than `*` leads to.
    edges: HashTable<u32>,
    /// Nodes still to be visited, and the offset of the subject's next token: kept so that routing does not allocate.
    /// No longer than the subject has tokens, and one: each step takes one out and puts two in, a token further on.
    stack: Vec<(u32, u32)>,
    /// How often the nodes have been moved.
    moves: u64,
}

/// 72 bytes. A pattern takes one for each token that it does not share with others, `>` excepted.
#[derive(Default)]
struct Node {
    parent: u32,
    /// The token that leads here; empty for `*` and for the root.
    token: Token,
    /// Edges that leave from here, that of `*` included.
    children: u32,
    /// The child for `*`; 0 is none, since the root is nobody's child.
    star: u32,
    /// Members of the pattern that ends here.
    here: Members,
    /// Members of the pattern that ends here with `>`.
    rest: Members,
}

/// All of them by their indices. Each index that is kept anywhere is one that was given out with a node there, and nodes leave
/// the end only together with all indices ([`Trie::compact`]).
struct Nodes(Vec<Node>);

impl Index<u32> for Nodes {
    type Output = Node;

    #[inline]
    fn index(&self, index: u32) -> &Node {
        &self.0[index as usize]
    }
}

impl IndexMut<u32> for Nodes {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Node {
        &mut self.0[index as usize]
    }
}

impl Nodes {
    fn len(&self) -> usize {
        self.0.len()
    }

    /// A node more, and its index. Four thousand million nodes are 300 GB.
    fn push(&mut self, node: Node) -> u32 {
        self.0.push(node);
        self.0.len() as u32 - 1
    }
}

const ROOT: u32 = 0;
/// The parent of a node that is not in use.
const UNUSED: u32 = u32::MAX;

impl Trie {
    pub(super) fn new() -> Self {
        Self {
            nodes: Nodes(alloc::vec![Node::default()]),
            free: Vec::new(),
            edges: HashTable::new(),
            stack: Vec::new(),
            moves: 0,
        }
    }

    /// The members of the pattern that ends at a node, or that ends there with `>`.
    pub(super) fn at(&self, index: u32, rest: bool) -> Option<&Members> {
        self.nodes.0.get(index as usize).map(|node| if rest { &node.rest } else { &node.here })
    }

    /// The members of each pattern that matches, and where they are: see [`at`](Self::at). Says how many steps that took.
    pub(super) fn matches<'t>(
        &'t mut self,
        secret: &Secret,
        subject: Subject<'_>,
        mut found: impl FnMut(&'t Members, u32, bool),
    ) -> u32 {
        let Self { nodes, edges, stack, .. } = self;
        let subject = subject.as_str().as_bytes();
        stack.clear();
        match crate::subject::behind(subject) {
            None => stack.push((ROOT, 0)),
            // Neither `*` nor `>` matches the first token.
            Some(rest) => stack.extend(
                child(secret, edges, nodes, ROOT, RESERVED.as_bytes())
                    .map(|child| (child, (subject.len() - rest.len()) as u32)),
            ),
        }
        let mut steps = 0;
        while let Some((index, offset)) = stack.pop() {
            steps += 1;
            let node = &nodes[index];
            // A subject has no empty token, so nothing is left only when its last token was taken.
            let Some(rest) = subject.get(offset as usize..).filter(|rest| !rest.is_empty()) else {
                found(&node.here, index, false);
                continue;
            };
            found(&node.rest, index, true);
            if node.children == 0 {
                continue;
            }
            let len = rest.iter().position(|byte| *byte == b'.').unwrap_or(rest.len());
            let next = offset + len as u32 + 1;
            let mut literal = node.children;
            if node.star != 0 {
                literal -= 1;
                stack.push((node.star, next));
            }
            if literal > 0
                && let Some(child) = child(secret, edges, nodes, index, &rest[..len])
            {
                stack.push((child, next));
            }
        }
        steps
    }

    /// The members of `pattern`; none, and a place for them, if it is new. They must not stay empty.
    pub(super) fn plant(&mut self, secret: &Secret, pattern: Pattern<'_>) -> &mut Members {
        let mut at = ROOT;
        for token in pattern.tokens() {
            if token == ">" {
                return &mut self.nodes[at].rest;
            }
            at = match self.step(secret, at, token) {
                Some(child) => child,
                None => self.grow(secret, at, token),
            };
        }
        &mut self.nodes[at].here
    }

    /// Takes `member` away; nothing if it was not there, otherwise whether it was the last.
    pub(super) fn remove(&mut self, secret: &Secret, pattern: Pattern<'_>, member: u32) -> Option<bool> {
        let (mut at, mut tail) = (ROOT, false);
        for token in pattern.tokens() {
            if token == ">" {
                tail = true; // the last token
            } else {
                at = self.step(secret, at, token)?;
            }
        }
        let node = &mut self.nodes[at];
        let members = if tail { &mut node.rest } else { &mut node.here };
        if !members.remove(member) {
            return None;
        }
        let last = members.is_empty();
        if last {
            self.prune(secret, at);
        }
        Some(last)
    }

    fn step(&self, secret: &Secret, parent: u32, token: &str) -> Option<u32> {
        if token == "*" {
            return Some(self.nodes[parent].star).filter(|star| *star != 0);
        }
        child(secret, &self.edges, &self.nodes, parent, token.as_bytes())
    }

    /// A new child of `parent`.
    fn grow(&mut self, secret: &Secret, parent: u32, token: &str) -> u32 {
        let star = token == "*";
        let token = if star { Token::default() } else { Token::from(token.as_bytes()) };
        let node = Node { parent, token, ..Node::default() };
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index] = node;
                index
            }
            None => self.nodes.push(node),
        };
        self.nodes[parent].children += 1;
        if star {
            self.nodes[parent].star = index;
        } else {
            let Self { edges, nodes, .. } = self;
            edges.insert_unique(hash(secret, nodes, index), index, |index| hash(secret, nodes, *index));
        }
        index
    }

    /// Takes out nodes that lead nowhere, from `index` upwards, and gives memory back when little of it is used.
    fn prune(&mut self, secret: &Secret, mut index: u32) {
        while index != ROOT {
            let node = &self.nodes[index];
            if node.children > 0 || !node.here.is_empty() || !node.rest.is_empty() {
                break;
            }
            let (parent, star) = (node.parent, node.token.is_empty());
            if !star {
                let hash = hash(secret, &self.nodes, index);
                if let Ok(edge) = self.edges.find_entry(hash, |edge| *edge == index) {
                    edge.remove();
                }
            }
            self.nodes[index] = Node { parent: UNUSED, ..Node::default() };
            self.free.push(index);
            let parent_node = &mut self.nodes[parent];
            parent_node.children -= 1;
            if star {
                parent_node.star = 0;
            }
            index = parent;
        }
        if self.nodes.len() > 64 && self.used() < self.nodes.len() / 4 {
            self.compact(secret);
        } else {
            let nodes = &self.nodes;
            shrink(&mut self.edges, |index| hash(secret, nodes, *index));
        }
    }

    /// Moves the nodes together. It costs as much as a hash table that grows to this size, and comes as seldom: at
    /// least three nodes have left for each one that is moved.
    fn compact(&mut self, secret: &Secret) {
        let used = self.used();
        let mut moved = alloc::vec![ROOT; self.nodes.len()];
        let mut nodes = Nodes(Vec::with_capacity(used * 2));
        for (node, to) in core::mem::take(&mut self.nodes.0).into_iter().zip(&mut moved) {
            if node.parent != UNUSED {
                *to = nodes.push(node);
            }
        }
        // The root stays where it is, so none stays none.
        let to = |index: u32| moved.get(index as usize).copied().unwrap_or(ROOT);
        for node in &mut nodes.0 {
            (node.parent, node.star) = (to(node.parent), to(node.star));
        }
        let mut edges = HashTable::with_capacity(used);
        for index in 1..nodes.len() as u32 {
            if !nodes[index].token.is_empty() {
                edges.insert_unique(hash(secret, &nodes, index), index, |index| hash(secret, &nodes, *index));
            }
        }
        *self = Self { nodes, edges, free: Vec::new(), stack: core::mem::take(&mut self.stack), moves: self.moves + 1 };
    }

    /// Shows the patterns that end at the nodes from `at` on, `count` at most; `None` if there are no more.
    pub(super) fn visit(&self, at: usize, count: usize, visit: &mut dyn FnMut(&str, &Members)) -> Option<usize> {
        let end = at.saturating_add(count).min(self.nodes.len());
        for (index, node) in self.nodes.0.iter().enumerate().take(end).skip(at) {
            if node.here.is_empty() && node.rest.is_empty() {
                continue;
            }
            let mut text = self.path(index as u32);
            if !node.here.is_empty() {
                visit(&text, &node.here);
            }
            if !node.rest.is_empty() {
                text.push_str(if text.is_empty() { ">" } else { ".>" });
                visit(&text, &node.rest);
            }
        }
        (end < self.nodes.len()).then_some(end)
    }

    /// The tokens that lead to a node.
    fn path(&self, index: u32) -> String {
        let up = |index: &u32| self.nodes.0.get(*index as usize).map(|node| node.parent).filter(|_| *index != ROOT);
        let mut way: Vec<u32> = core::iter::successors(Some(index), up).filter(|index| *index != ROOT).collect();
        way.reverse();
        let tokens = way.iter().filter_map(|index| self.nodes.0.get(*index as usize)).map(|node| &node.token);
        let mut path = String::new();
        for token in tokens {
            if !path.is_empty() {
                path.push('.');
            }
            let token = if token.is_empty() { b"*" } else { token.as_bytes() };
            path.push_str(core::str::from_utf8(token).unwrap_or_default());
        }
        path
    }

    /// Another number if the nodes have been moved.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// Nodes in use, the root included.
    pub(super) fn used(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Nodes that a match visits.
    #[cfg(test)]
    pub(super) fn visited(&mut self, secret: &Secret, subject: Subject<'_>) -> usize {
        let mut visited = 0;
        // Once for each: what ends there, or what goes on.
        self.matches(secret, subject, |_, _, _| visited += 1);
        visited
    }

    /// Nodes, free places and edges for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize, usize) {
        (self.nodes.0.capacity(), self.free.capacity(), self.edges.capacity())
    }

    /// Places for nodes still to be visited, for which there is memory.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.stack.capacity()
    }
}

/// The child of `parent` for a token other than `*`.
fn child(secret: &Secret, edges: &HashTable<u32>, nodes: &Nodes, parent: u32, token: &[u8]) -> Option<u32> {
    let same = |index: &u32| {
        let node = &nodes[*index];
        node.parent == parent && node.token.as_bytes() == token
    };
    edges.find(secret.hash(parent, token), same).copied()
}

/// The hash of the edge that leads to a node.
fn hash(secret: &Secret, nodes: &Nodes, index: u32) -> u64 {
    let node = &nodes[index];
    secret.hash(node.parent, node.token.as_bytes())
}

#[cfg(all(test, target_pointer_width = "64"))]
#[test]
fn the_sizes_that_the_comments_state_are_true() {
    assert_eq!(size_of::<Members>(), 16);
    assert_eq!(size_of::<Token>(), 24);
    assert_eq!(size_of::<Node>(), 72);
}
