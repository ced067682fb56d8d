//! Who the sessions are, and what they may do: the rules of [`access`](crate::access), and who is there.
//!
//! A session without a [`Pass`] is one of which nothing is known yet; its first frame shows what it is, unless a handshake
//! has shown that before. Without a guard nobody has one.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::pass::Pass;
use crate::access::{Access, AccessError, Credential, Limits, Matcher, Rules};
use crate::hello::CloseReason;
use crate::subject::{Pattern, Subject};
use crate::time::Instant;

/// See above.
pub(super) struct Guard {
    grants: Vec<Grant>,
    identities: Vec<Identity>,
    /// Peers choose what is looked up, so it is seeded.
    known: HashMap<Credential, u32, SeedableRandomState>,
}

/// What the members of a group may do.
struct Grant {
    publish: Matcher,
    subscribe: Matcher,
    limits: Limits,
}

struct Identity {
    name: Arc<str>,
    grant: usize,
    /// How many it has at present.
    sessions: usize,
}

/// Why a message may not be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// Because of its subject.
    Subject,
    /// Because it is more than so many bytes in a second.
    Excess { rate: u64 },
}

impl Guard {
    /// A guard before whom nobody has come yet. `seed` is random.
    pub(super) fn new(access: &Access, seed: u64) -> Result<Self, AccessError> {
        let matcher = |group: &str, rules: &Rules| {
            Matcher::new(rules, seed).map_err(|error| AccessError::Rule { group: group.into(), error })
        };
        let mut grants = Vec::with_capacity(access.groups.len());
        for group in &access.groups {
            let publish = matcher(&group.name, &group.permissions.publish)?;
            let subscribe = matcher(&group.name, &group.permissions.subscribe)?;
            grants.push(Grant { publish, subscribe, limits: group.limits });
        }
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        let mut guard = Self { grants, identities: Vec::new(), known: HashMap::with_hasher(state) };
        let kinds = [
            (Credential::Anonymous, "anonymous", access.anonymous),
            (Credential::Local, "anonymous-local", access.local),
            (Credential::Sealed, "anonymous-sealed", access.sealed),
            (Credential::Shared, "shared", access.shared),
            (Credential::Original, "original", access.original),
            (Credential::OriginalWithKey, "original-with-key", access.original_with_key),
        ];
        for (credential, name, group) in kinds {
            if let Some(group) = group {
                guard.add(credential, name.into(), group)?;
            }
        }
        for client in &access.clients {
            guard.add(client.proof.into(), client.name.clone(), client.group)?;
        }
        Ok(guard)
    }

    fn add(&mut self, credential: Credential, name: Arc<str>, grant: usize) -> Result<(), AccessError> {
        if grant >= self.grants.len() {
            return Err(AccessError::UnknownGroup { name });
        }
        let index = self.identities.len() as u32; // each takes more than a byte of memory
        if self.known.insert(credential, index).is_some() {
            return Err(AccessError::DoubledKey { name });
        }
        self.identities.push(Identity { name, grant, sessions: 0 });
        Ok(())
    }

    // --- who ---

    /// True if somebody who shows this is known.
    pub(super) fn knows(&self, credential: &Credential) -> bool {
        self.find(credential).is_some()
    }

    /// The same, where whoever shows something that is not known is not worth as much as who shows nothing.
    pub(super) fn knows_exactly(&self, credential: &Credential) -> bool {
        self.known.contains_key(credential)
    }

    /// The number of an identity.
    fn find(&self, credential: &Credential) -> Option<u32> {
        let found = self.known.get(credential).copied();
        match credential {
            Credential::Key(_) | Credential::Token(_) => found.or_else(|| self.known.get(&Credential::Sealed).copied()),
            _ => found,
        }
    }

    /// Lets a session in.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(&mut self, credential: Credential) -> Result<Box<Pass>, CloseReason> {
        self.would_admit(&credential)?;
        self.readmit(credential)
    }

    /// Says whether it would.
    ///
    /// # Errors
    /// Why not: [`CloseReason::Denied`] if nobody is known who shows this.
    pub(super) fn would_admit(&self, credential: &Credential) -> Result<(), CloseReason> {
        let index = self.find(credential).ok_or(CloseReason::Denied)?;
        let limit = self.grant(index).and_then(|grant| grant.limits.sessions);
        let full = |identity: &Identity| limit.is_some_and(|limit| identity.sessions >= limit);
        if self.identity(index).is_none_or(full) { Err(CloseReason::Limit) } else { Ok(()) }
    }

    /// The same for a session that was there before these rules, whatever the limit is.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn readmit(&mut self, credential: Credential) -> Result<Box<Pass>, CloseReason> {
        let index = self.find(&credential).ok_or(CloseReason::Denied)?;
        let identity = self.identities.get_mut(index as usize).ok_or(CloseReason::Denied)?;
        identity.sessions += 1;
        Ok(Box::new(Pass::new(credential, identity.name.clone(), index)))
    }

    /// A session that was let in is no more.
    pub(super) fn leave(&mut self, pass: &Pass) {
        if let Some(identity) = self.identities.get_mut(pass.identity() as usize) {
            identity.sessions = identity.sessions.saturating_sub(1);
        }
    }

    fn identity(&self, index: u32) -> Option<&Identity> {
        self.identities.get(index as usize)
    }

    fn grant(&self, index: u32) -> Option<&Grant> {
        self.grants.get(self.identity(index)?.grant)
    }

    fn grant_mut(&mut self, index: u32) -> Option<&mut Grant> {
        let grant = self.identity(index)?.grant;
        self.grants.get_mut(grant)
    }

    // --- what ---

    /// The limits that hold for a session beside those for all.
    pub(super) fn limits(&self, pass: &Pass) -> Limits {
        self.grant(pass.identity()).map(|grant| grant.limits).unwrap_or_default()
    }

    /// True if a session may publish to `subject`, however much.
    pub(super) fn permits(&mut self, pass: &mut Pass, subject: Subject<'_>) -> bool {
        let Some(grant) = self.grant_mut(pass.identity()) else { return false };
        grant.publish.is_open() || pass.published.judge(subject, |subject| grant.publish.permits(subject))
    }

    /// Whether a session may publish a message of `len` bytes to `subject`.
    pub(super) fn may_publish(
        &mut self,
        now: Instant,
        pass: &mut Pass,
        subject: Subject<'_>,
        len: usize,
    ) -> Result<(), Forbidden> {
        if !self.permits(pass, subject) {
            return Err(Forbidden::Subject);
        }
        match self.limits(pass).bytes_per_second {
            Some(rate) if !pass.spend(now, len, rate) => Err(Forbidden::Excess { rate }),
            _ => Ok(()),
        }
    }

    /// True if a session may subscribe to `pattern`, and notes what this means for its messages.
    pub(super) fn may_subscribe(&mut self, pass: &mut Pass, pattern: Pattern<'_>) -> bool {
        let Some(grant) = self.grant_mut(pass.identity()) else { return false };
        let may = grant.subscribe.covers(pattern);
        pass.is_filtered |= may && grant.subscribe.denies_some(pattern);
        may
    }

    /// True if what a session may subscribe to is named.
    pub(super) fn names_subjects(&self, pass: &Pass) -> bool {
        self.grant(pass.identity()).is_some_and(|grant| !grant.subscribe.allows_rest())
    }

    /// True if a session that is filtered may get a message of `subject`.
    pub(super) fn may_receive(&mut self, pass: &mut Pass, subject: Subject<'_>) -> bool {
        let Some(grant) = self.grant_mut(pass.identity()) else { return false };
        pass.received.judge(subject, |subject| grant.subscribe.permits(subject))
    }
}
