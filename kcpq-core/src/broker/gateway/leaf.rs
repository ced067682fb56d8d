//! A gateway as a leaf node of NATS: the backbone says what it wants, and is handed nothing else.
//!
//! ```text
//!  brokers <- Interest ---- wants <---- LS+, LS- ---- hub      what anybody there wants, but nobody here
//!  brokers -- messages ---> outbound -- LMSG, HMSG -> hub      that alone, with the queue groups there that are to have it
//!  brokers <- messages ---- inbound <-- LMSG, HMSG -- hub
//! ```
//!
//! It is a server to the backbone, and no client: there is one connection, by which nothing comes back that went out; the backbone
//! sends each message once, whatever the number of patterns that match it, and says which queue groups here are to have it. A
//! member of a group that is here comes first, so brokers see to theirs, and the backbone is told of the groups that none here
//! has served. That nobody is there to answer a request is known without asking.
//!
//! What the store keeps it does not reach by this connection: it has one more as a client, which comes and goes by itself.
//!
//! The brokers are told what is wanted there, and hand the gateway that alone. While the backbone is not there, or others are
//! still on their way back to it, they hand over everything that is exported, as they do for a client: it may be wanted then.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::inbound::Incoming;
use super::link::Link;
use super::wants::{Added, LIMITS, Wants};
use super::{Channel, Gateway, State};
use crate::access::{Matcher, RuleError, Rules};
use crate::broker::shards::Told;
use crate::subject::{Subject, is_reserved};
use crate::time::Instant;

/// See above.
pub(super) struct Leaf {
    pub(super) wants: Wants,
    /// Patterns that the brokers were told of, and for how many reasons each.
    told: HashMap<Box<str>, u32, SeedableRandomState>,
    /// They hand over what is wanted there, and not everything that is exported.
    is_narrow: bool,
    /// What may be published, as far as the backbone has said so.
    permitted: Option<Matcher>,
    seed: u64,
}

impl core::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Leaf").field("wants", &self.wants).field("is_narrow", &self.is_narrow).finish_non_exhaustive()
    }
}

/// Who is to have a message there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The groups that were named, if any, and whoever else wants it.
    By { plain: bool },
    /// The backbone does not permit it.
    Denied,
}

impl Leaf {
    pub(super) fn new(seed: u64) -> Self {
        let state = SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self { wants: Wants::new(seed), told: HashMap::with_hasher(state), is_narrow: false, permitted: None, seed }
    }

    /// Who is to have a message to this subject there. The names of queue groups go to `groups`, with a space between them, but
    /// for those here that have been `served`: all of them if it is not known which.
    pub(super) fn ask(&mut self, there: &str, served: Option<&str>, groups: &mut String) -> Wanted {
        groups.clear();
        // One that the backbone allows and we do not is an answer's.
        let Ok(subject) = Subject::new(there, &LIMITS) else { return Wanted::By { plain: true } };
        if self.permitted.as_mut().is_some_and(|permitted| !permitted.permits(subject)) {
            return Wanted::Denied;
        }
        let plain = self.wants.find(subject, |name| {
            let is_served = served.is_some_and(|all| all.is_empty() || all.split(' ').any(|served| served == name));
            if !is_served {
                if !groups.is_empty() {
                    groups.push(' ');
                }
                groups.push_str(name);
            }
        });
        Wanted::By { plain }
    }

    /// There is one reason more, or less, for the brokers to hand over what a pattern matches.
    pub(super) fn tell(&mut self, links: &mut [Link], pattern: &str, wanted: bool) {
        // Nobody is to say what nobody else may hear.
        if is_reserved(pattern.as_bytes()) {
            return;
        }
        let is_news = match self.told.get_mut(pattern) {
            None if wanted => {
                self.told.insert(pattern.into(), 1);
                true
            }
            None => false,
            Some(reasons) if wanted => {
                *reasons += 1;
                false
            }
            Some(reasons) => {
                *reasons -= 1;
                let is_last = *reasons == 0;
                if is_last {
                    self.told.remove(pattern);
                }
                is_last
            }
        };
        if is_news {
            for link in links {
                link.tell(Told::Interest { pattern: pattern.into(), wanted });
            }
        }
    }
}

impl Gateway {
    /// True if this is a leaf node ([`Config::leaf`](super::Config::leaf)).
    pub fn is_leaf(&self) -> bool {
        self.leaf.is_some()
    }

    /// The backbone says that somebody there wants what a pattern matches, or a queue group does, or that nobody does any more.
    /// It may say so from when its connection is there on, before [`on_connected`](Self::on_connected).
    pub fn handle_interest(&mut self, now: Instant, subject: &str, group: Option<&str>, wanted: bool) {
        self.on_heard(now, Channel::Main);
        let Self { leaf: Some(leaf), subjects, links, stats, .. } = self else { return };
        let changed = match wanted {
            true => {
                let added = leaf.wants.add(subject, group);
                stats.wants_refused += u64::from(added == Added::Over);
                added == Added::New
            }
            false => leaf.wants.remove(subject, group),
        };
        if changed && leaf.is_narrow {
            for pattern in subjects.exported(subject) {
                leaf.tell(links, &pattern, wanted);
            }
        }
        self.set_width();
    }

    /// The backbone says what it permits: what may be published, and what may be wanted. To be called before
    /// [`on_connected`](Self::on_connected); until it is, everything is permitted.
    ///
    /// # Errors
    /// One of the patterns is none: nothing has changed.
    pub fn set_permissions(&mut self, publish: &Rules, subscribe: &Rules) -> Result<(), RuleError> {
        let Self { leaf: Some(leaf), interest, .. } = self else { return Ok(()) };
        let (publish, subscribe) = (Matcher::new(publish, leaf.seed)?, Matcher::new(subscribe, leaf.seed)?);
        leaf.permitted = (!publish.is_open()).then_some(publish);
        if let Some(said) = interest.said() {
            said.permit((!subscribe.is_open()).then_some(subscribe));
        }
        Ok(())
    }

    /// The connection of a leaf node to the store is there ([`Channel::Store`]).
    pub fn on_store_connected(&mut self, now: Instant) {
        self.has_store = true;
        self.channels.of_mut(Channel::Store).begin(now);
        self.resume_replays(now);
        self.resume_values(now);
    }

    /// It is lost.
    pub fn on_store_lost(&mut self, now: Instant) {
        if !core::mem::take(&mut self.has_store) {
            return;
        }
        self.channels.of_mut(Channel::Store).end();
        self.suspend_replays(now);
        self.suspend_values();
    }

    /// True if it is there and does not answer any more: it is to be left.
    pub fn is_store_deaf(&self, now: Instant) -> bool {
        self.has_store && self.is_silent(now, Channel::Store)
    }

    /// True if the store can be asked now.
    pub(super) fn reaches_store(&self) -> bool {
        if self.is_leaf() { self.has_store } else { self.state != State::Away }
    }

    /// The next pattern that sessions here want, and the backbone does not permit: for people.
    pub fn poll_denied(&mut self) -> Option<Box<str>> {
        self.interest.said()?.poll_denied()
    }

    /// True if a message to this subject says what became of one that was to be stored: it is for
    /// [`handle_receipt`](Self::handle_receipt).
    pub fn is_receipt(&self, subject: &str) -> bool {
        self.subjects.receipt(subject).is_some()
    }

    /// Takes in a message from the backbone, for whoever has a pattern of its subject, and one member of each of these queue
    /// groups, whose names have a space between them.
    pub fn handle_routed(&mut self, now: Instant, incoming: &Incoming<'_>, groups: &str) {
        self.on_heard(now, incoming.on);
        let mut local = core::mem::take(&mut self.scratch.subject);
        if self.subjects.write_answer_in(incoming.subject, &mut local) {
            self.hand_on(now, incoming, &local, true, &[]);
        } else if self.doubts.is_back(now, incoming.subject, incoming.payload) {
            self.stats.returned += 1;
        } else if self.subjects.write_in(incoming.subject, &mut local) {
            let shares = if groups.is_empty() { Vec::new() } else { self.shares_of(&local, groups) };
            self.hand_on(now, incoming, &local, true, &shares);
        } else {
            self.stats.unwanted += 1;
        }
        self.scratch.subject = local;
    }

    /// The shares of these groups that a subject matches, one of each.
    fn shares_of(&mut self, local: &str, groups: &str) -> Vec<u32> {
        let Ok(subject) = Subject::new(local, &self.config.subjects) else { return Vec::new() };
        let (_, mut shares) = self.interest.route(subject);
        shares.retain(|share| groups.split(' ').any(|name| name == self.interest.group(*share)));
        shares
    }

    /// The names of queue groups here that have got a message to this subject, with a space between them.
    pub(super) fn served(&mut self, subject: Subject<'_>) -> Box<str> {
        let (_, shares) = self.interest.route(subject);
        let names: Vec<&str> = shares.iter().map(|share| self.interest.group(*share)).collect();
        names.join(" ").into()
    }

    /// The brokers hand over what the backbone wants once that is known, and all that is exported before.
    pub(super) fn set_width(&mut self) {
        let Self { leaf: Some(leaf), subjects, links, config, .. } = self else { return };
        let is_narrow = self.state == State::Joined && self.holds_until.is_none() && !leaf.wants.is_over();
        if leaf.is_narrow == is_narrow {
            return;
        }
        leaf.is_narrow = is_narrow;
        let wants: Vec<Box<str>> = leaf.wants.patterns().flat_map(|pattern| subjects.exported(pattern)).collect();
        // What stays is told before what goes, so that nothing falls between.
        let (stays, goes) = if is_narrow { (&wants, &config.export) } else { (&config.export, &wants) };
        stays.iter().for_each(|pattern| leaf.tell(links, pattern, true));
        goes.iter().for_each(|pattern| leaf.tell(links, pattern, false));
    }

    /// The connection is lost: what is wanted there is said anew by the next one.
    pub(super) fn forget_wants(&mut self) {
        self.set_width();
        if let Some(leaf) = &mut self.leaf {
            (leaf.wants, leaf.permitted) = (Wants::new(leaf.seed), None);
        }
        if let Some(said) = self.interest.said() {
            said.permit(None);
        }
    }
}
