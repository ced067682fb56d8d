//! Who may do what: identities, and permissions per subject.
//!
//! Plain data, as a configuration has it; whoever enforces it makes a [`Matcher`] of each list of patterns. What cannot be
//! decided here is who somebody is: a session says HELLO or does not, and a handshake proves a public key.
//!
//! ```text
//! Credential -> identity: a name, and a group -> Permissions { publish, subscribe }, Limits
//! ```
//!
//! The model is that of NATS: patterns that are allowed and patterns that are denied, for publishing and for subscribing.
//! What no list is given for is allowed; what is denied is denied whatever else allows it.
//!
//! * A message may be published if its subject matches an allowed pattern and no denied one.
//! * A subscription is accepted if *every* subject that its pattern matches matches an allowed pattern, and *not every* one
//!   a denied pattern. What it matches and is denied is not delivered.
//!
//! So who may subscribe to `>` but not to `secret.>` can ask for `>` and gets the rest, as in NATS; who may subscribe to
//! `a.*` cannot ask for `a.>`, since it would not get what it asked for.
//!
//! ```
//! use kcpq_core::access::{Matcher, Rules};
//! use kcpq_core::subject::{Limits, Pattern, Subject};
//!
//! let rules = Rules { allow: Some(vec!["sensors.>".into()]), deny: vec!["sensors.*.key".into()] };
//! let mut matcher = Matcher::new(&rules, 0x5eed)?; // from a random source: peers choose what is hashed
//! let limits = Limits::DEFAULT;
//! assert!(matcher.permits(Subject::new("sensors.kitchen.temperature", &limits)?));
//! assert!(!matcher.permits(Subject::new("sensors.kitchen.key", &limits)?));
//! assert!(matcher.covers(Pattern::new("sensors.kitchen.>", &limits)?));
//! assert!(!matcher.covers(Pattern::new(">", &limits)?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod matcher;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

pub use matcher::Matcher;

use crate::subject::SubjectError;

/// Who may do what at a server. Without it everybody may do everything.
///
/// Groups are named by their place in [`groups`](Self::groups). [`Default`] lets nobody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What may be done.
    pub groups: Vec<Group>,
    /// Who is known by a key or a token of its own.
    pub clients: Vec<Client>,
    /// The group of native clients that prove nothing, not even that they know the server's key; `None`: they are not let in.
    pub anonymous: Option<usize>,
    /// The group of those of them that are on the server's own machine; `None`: the same as of the others.
    pub local: Option<usize>,
    /// The group of clients in sealed sessions that have no key of their own, or none that is known; `None`: they are not let
    /// in.
    pub sealed: Option<usize>,
    /// The group of clients that have the secret which they share with the server; `None`: they are not let in.
    pub shared: Option<usize>,
    /// The group of the original's clients (version 2.0); `None`: they are not let in.
    pub original: Option<usize>,
    /// The group of the original's clients that have the key of its cipher (version 2.1); `None`: they are not let in.
    pub original_with_key: Option<usize>,
}

/// What its members may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// What it is called in messages to operators.
    pub name: Box<str>,
    /// Subjects.
    pub permissions: Permissions,
    /// How much, beside the limits that hold for all.
    pub limits: Limits,
}

/// A client that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What it is called in logs and events.
    pub name: Arc<str>,
    /// By what.
    pub proof: Proof,
    /// Its group.
    pub group: usize,
}

/// By what a client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Its public key.
    Key([u8; 32]),
    /// The hash of its token.
    Token([u8; 32]),
}

impl From<Proof> for Credential {
    fn from(proof: Proof) -> Self {
        match proof {
            Proof::Key(key) => Self::Key(key),
            Proof::Token(hash) => Self::Token(hash),
        }
    }
}

/// What may be published and subscribed to. [`Default`] allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects of messages that it sends.
    pub publish: Rules,
    /// Subjects of messages that it receives.
    pub subscribe: Rules,
}

/// Patterns that are allowed, and those that are denied all the same. [`Default`] allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What is allowed; `None`: everything, empty: nothing.
    pub allow: Option<Vec<Box<str>>>,
    /// What is not.
    pub deny: Vec<Box<str>>,
}

/// Limits on one identity; `None` where only those hold that are for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of sessions at the same time.
    pub sessions: Option<usize>,
    /// Maximum number of subscriptions of each session.
    pub subscriptions: Option<usize>,
    /// Maximum number of bytes that a session may publish in a second, subjects included, with a second's worth as a burst.
    /// What is more is dropped and counted, and the client is told now and then. Whatever its size, a message is not too much
    /// if what came before it was not.
    pub bytes_per_second: Option<u64>,
    /// Maximum size of the queue of each session, in bytes. A single message always fits.
    pub queued: Option<usize>,
}

/// What somebody shows to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Credential {
    /// Nothing, as a native client.
    Anonymous,
    /// Nothing, as a native client on the server's own machine, where rules make a difference of that.
    Local,
    /// Nothing, as a client of the original.
    Original,
    /// The key of the original's cipher, as a client of the original.
    OriginalWithKey,
    /// Nothing, in a sealed session.
    Sealed,
    /// The secret that it shares with the server.
    Shared,
    /// A public key, and that it has the private one. A key that is not known is worth as much as none.
    Key([u8; 32]),
    /// A token of this hash. One that is not known is worth as much as none.
    Token([u8; 32]),
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The pattern.
    pub pattern: Box<str>,
    /// What is wrong with it.
    pub why: SubjectError,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pattern '{}': {}", self.pattern, self.why)
    }
}

impl core::error::Error for RuleError {}

/// Why an [`Access`] makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessError {
    /// A pattern is not one.
    Rule {
        /// The group whose pattern it is.
        group: Box<str>,
        /// What is wrong.
        error: RuleError,
    },
    /// There is no such group.
    UnknownGroup {
        /// Whose group it should be.
        name: Arc<str>,
    },
    /// Two clients have the same key or token.
    DoubledKey {
        /// The second one.
        name: Arc<str>,
    },
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { group, error } => write!(f, "group '{group}': {error}"),
            Self::UnknownGroup { name } => write!(f, "the group of '{name}' does not exist"),
            Self::DoubledKey { name } => write!(f, "the key or token of '{name}' is another client's as well"),
        }
    }
}

impl core::error::Error for AccessError {}

impl Access {
    /// Everybody who proves nothing may do everything.
    pub fn open() -> Self {
        let all = Some(0);
        let groups = [Group { name: "all".into(), ..Group::default() }].into();
        Self {
            groups,
            clients: Vec::new(),
            anonymous: all,
            local: None,
            sealed: all,
            shared: all,
            original: all,
            original_with_key: all,
        }
    }

    /// Whoever has a key may do everything: the server's public one, the secret, or the key of the original's cipher.
    pub fn with_keys() -> Self {
        Self { anonymous: None, original: None, ..Self::open() }
    }

    /// The part of the limits that each of `count` brokers of one server keeps to.
    #[must_use]
    pub fn shared_by(mut self, count: usize) -> Self {
        for Group { limits, .. } in &mut self.groups {
            limits.sessions = limits.sessions.map(|sessions| sessions.div_ceil(count.max(1)));
        }
        self
    }
}
