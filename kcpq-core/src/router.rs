//! Placeholder until the trie lands.
use crate::subject::{Pattern, Subject};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
/// Patterns and members.
#[derive(Debug)]
pub struct Router(BTreeMap<String, Vec<u32>>);
impl Router {
    /// New.
    pub fn new(_seed: u64) -> Self {
        Self(BTreeMap::new())
    }
    /// Adds.
    pub fn subscribe(&mut self, pattern: Pattern<'_>, member: u32) -> bool {
        let set = self.0.entry(pattern.as_str().into()).or_default();
        if set.contains(&member) {
            return false;
        }
        set.push(member);
        true
    }
    /// Removes.
    pub fn unsubscribe(&mut self, pattern: Pattern<'_>, member: u32) -> bool {
        let Some(set) = self.0.get_mut(pattern.as_str()) else { return false };
        let before = set.len();
        set.retain(|m| *m != member);
        let gone = before != set.len();
        if set.is_empty() {
            self.0.remove(pattern.as_str());
        }
        gone
    }
    /// Routes.
    pub fn route(&mut self, subject: Subject<'_>, mut f: impl FnMut(u32)) {
        let mut seen = Vec::new();
        for (p, set) in &self.0 {
            if crate::subject::matches(p, subject.as_str()) {
                for m in set {
                    if !seen.contains(m) {
                        seen.push(*m);
                        f(*m);
                    }
                }
            }
        }
    }
    /// Patterns.
    pub fn patterns(&self) -> usize {
        self.0.len()
    }
}
