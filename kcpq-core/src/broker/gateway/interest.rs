//! What the sessions of all brokers want, and the subscriptions at the backbone that bring it: one for each pattern and for
//! each pattern of a queue group, however many sessions have it. A leaf node has no subscriptions: it [says](Said) what it wants.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::said::Said;
use super::subjects::Subjects;
use super::{Channel, Order, Stats};
use crate::broker::groups::parts;
use crate::broker::party::MAX_SHARDS;
use crate::rng::Rng;
use crate::router::Router;
use crate::subject::{Pattern, Subject};

/// The number of the subscription to answers, and of that to what is said of messages that were to be stored.
pub(super) const ANSWERS: u64 = 1;
pub(super) const RECEIPTS: u64 = 2;
/// Numbers of the router: brokers, and behind them shares of queue groups.
const FIRST_SHARE: u32 = MAX_SHARDS as u32;

/// See above.
pub(super) struct Interest {
    router: Router,
    plain: HashMap<Box<str>, Wanted, SeedableRandomState>,
    shares: Vec<Option<Share>>,
    /// By pattern and group, as [`groups::text`](crate::broker::groups::text) joins them.
    by_text: HashMap<Box<str>, u32, SeedableRandomState>,
    /// What a subscription is for.
    by_sid: HashMap<u64, For, SeedableRandomState>,
    last_sid: u64,
    /// What the queue group begins with that only this gateway is in, and the group: another one each time that the backbone
    /// comes. A server of the backbone that hangs, and was left, still has a member of the last one, and gives that what
    /// comes; or finds it gone, later, and gives it to another member out of its order.
    own: u64,
    joins: u64,
    own_group: Box<str>,
    /// In place of subscriptions, of a leaf node.
    said: Option<Said>,
    /// Where the search for the next broker of a share begins.
    turn: u32,
    found: Vec<u32>,
}

/// A pattern that sessions have.
struct Wanted {
    /// Brokers that have such sessions, as bits.
    brokers: u64,
    subscribed: Subscribed,
}

/// A pattern in a queue group.
struct Share {
    text: Box<str>,
    /// How many members each broker has.
    members: Vec<u32>,
    subscribed: Subscribed,
}

/// At the backbone, under which numbers, and the ping that confirms it.
struct Subscribed {
    subjects: Vec<(u64, Box<str>)>,
    by: u64,
}

/// What a subscription at the backbone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Answers to requests from here.
    Answers,
    /// Sessions, by their patterns.
    Sessions,
    /// A share of a queue group.
    Share(u32),
}

impl core::fmt::Debug for Interest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Interest").field("subscriptions", &self.subscriptions()).finish_non_exhaustive()
    }
}

impl Interest {
    pub(super) fn new(seed: u64, mut rng: Rng, is_leaf: bool) -> Self {
        let state = || SeedableRandomState::with_seed(seed, SharedSeed::global_fixed());
        Self {
            router: Router::new(seed),
            plain: HashMap::with_hasher(state()),
            shares: Vec::new(),
            by_text: HashMap::with_hasher(state()),
            by_sid: HashMap::with_hasher(state()),
            last_sid: RECEIPTS,
            own: rng.u64(..),
            joins: 0,
            own_group: "".into(),
            said: is_leaf.then(|| Said::new(seed)),
            turn: 0,
            found: Vec::new(),
        }
    }

    /// Subscriptions at the backbone, as far as it is there.
    pub(super) fn subscriptions(&self) -> u64 {
        self.said.as_ref().map_or(self.by_sid.len(), Said::len) as u64
    }

    /// What a leaf node has said that it wants.
    pub(super) fn said(&mut self) -> Option<&mut Said> {
        self.said.as_mut()
    }

    /// Patterns that a leaf node is not permitted to want.
    pub(super) fn denials(&self) -> u64 {
        self.said.as_ref().map_or(0, Said::denials)
    }

    // --- patterns ---

    /// Sessions of a broker have a pattern. Which ping confirms it, if one has to.
    pub(super) fn want(
        &mut self,
        broker: u8,
        pattern: Pattern<'_>,
        subjects: &Subjects,
        (on, next): (Channel, u64),
        orders: &mut VecDeque<Order>,
        stats: &mut Stats,
    ) -> Option<(Channel, u64)> {
        self.router.subscribe(pattern, broker.into());
        if let Some(known) = self.plain.get_mut(pattern.as_str()) {
            known.brokers |= 1 << broker;
            return known.subscribed.confirmed_by(on);
        }
        let group = self.own_group.clone();
        let subscribed = self.subscribe(on, pattern.as_str(), &group, For::Sessions, subjects, next, orders, stats);
        let by = subscribed.confirmed_by(on);
        self.plain.insert(pattern.as_str().into(), Wanted { brokers: 1 << broker, subscribed });
        by
    }

    /// They have it no more.
    pub(super) fn leave(&mut self, broker: u8, pattern: Pattern<'_>, orders: &mut VecDeque<Order>) {
        self.router.unsubscribe(pattern, broker.into());
        let Some(known) = self.plain.get_mut(pattern.as_str()) else { return };
        known.brokers &= !(1 << broker);
        if known.brokers == 0
            && let Some(Wanted { subscribed, .. }) = self.plain.remove(pattern.as_str())
        {
            match &mut self.said {
                Some(said) => subscribed.subjects.iter().for_each(|(_, subject)| said.leave(subject, orders)),
                None => self.unsubscribe(Channel::Main, subscribed, orders),
            }
        }
    }

    // --- queue groups ---

    /// A broker has so many members of a share. Whether it had none before, and which ping confirms it.
    #[expect(clippy::too_many_arguments, reason = "of a gateway, whose other parts are borrowed apart")]
    pub(super) fn set_members(
        &mut self,
        broker: u8,
        text: &str,
        pattern: Pattern<'_>,
        count: u32,
        subjects: &Subjects,
        (on, next): (Channel, u64),
        orders: &mut VecDeque<Order>,
        stats: &mut Stats,
    ) -> (bool, Option<(Channel, u64)>) {
        let index = match self.by_text.get(text) {
            Some(index) => *index,
            None if count == 0 => return (false, None),
            None => self.open(text, pattern, subjects, (on, next), orders, stats),
        };
        let Some(share) = self.shares.get_mut(index as usize).and_then(Option::as_mut) else { return (false, None) };
        let broker = usize::from(broker);
        if share.members.len() <= broker {
            share.members.resize(broker + 1, 0);
        }
        let all_before = share.members.iter().sum();
        let before = share.members.get_mut(broker).map_or(0, |members| core::mem::replace(members, count));
        let by = share.subscribed.confirmed_by(on);
        if let Some(said) = &mut self.said {
            let (group, all) = (parts(text).1, share.members.iter().sum());
            for (_, subject) in &share.subscribed.subjects {
                said.count(subject, group, all_before, all, orders);
            }
        }
        if share.members.iter().all(|members| *members == 0) {
            self.close(index, pattern, orders);
        }
        (before == 0 && count > 0, by)
    }

    fn open(
        &mut self,
        text: &str,
        pattern: Pattern<'_>,
        subjects: &Subjects,
        (on, next): (Channel, u64),
        orders: &mut VecDeque<Order>,
        stats: &mut Stats,
    ) -> u32 {
        let free = self.shares.iter().position(Option::is_none);
        let index = free.unwrap_or(self.shares.len()) as u32;
        let group = parts(text).1;
        let subscribed = self.subscribe(on, pattern.as_str(), group, For::Share(index), subjects, next, orders, stats);
        let share = Some(Share { text: text.into(), members: Vec::new(), subscribed });
        match self.shares.get_mut(index as usize) {
            Some(place) => *place = share,
            None => self.shares.push(share),
        }
        self.by_text.insert(text.into(), index);
        self.router.subscribe(pattern, FIRST_SHARE + index);
        index
    }

    fn close(&mut self, index: u32, pattern: Pattern<'_>, orders: &mut VecDeque<Order>) {
        let Some(share) = self.shares.get_mut(index as usize).and_then(Option::take) else { return };
        self.by_text.remove(&share.text);
        self.router.unsubscribe(pattern, FIRST_SHARE + index);
        if self.said.is_none() {
            self.unsubscribe(Channel::Groups, share.subscribed, orders);
        }
    }

    /// The name of a share's group.
    pub(super) fn group(&self, share: u32) -> &str {
        let share = self.shares.get(share as usize).and_then(Option::as_ref);
        share.map_or("", |share| parts(&share.text).1)
    }

    /// The broker whose members are to get the next message of a share: as often as it has some.
    pub(super) fn choose(&mut self, share: u32) -> Option<u8> {
        let share = self.shares.get(share as usize)?.as_ref()?;
        let all: u32 = share.members.iter().sum();
        self.turn = self.turn.wrapping_add(1);
        let mut turn = self.turn.checked_rem(all)?;
        let broker = share.members.iter().position(|members| match turn.checked_sub(*members) {
            None => true,
            Some(rest) => {
                turn = rest;
                false
            }
        });
        broker.map(|broker| broker as u8)
    }

    // --- messages ---

    /// What a subscription is for; `None` if it has ended.
    pub(super) fn of(&self, sid: u64) -> Option<For> {
        if sid == ANSWERS { Some(For::Answers) } else { self.by_sid.get(&sid).copied() }
    }

    /// The brokers whose sessions want a message by their patterns, and one share of each queue group that its subject matches.
    pub(super) fn route(&mut self, subject: Subject<'_>) -> (Vec<u8>, Vec<u32>) {
        self.found.clear();
        let Self { router, found, .. } = self;
        router.route(subject, |number| found.push(number));
        let brokers = found.iter().filter(|number| **number < FIRST_SHARE).map(|number| *number as u8).collect();
        let mut shares: Vec<u32> = Vec::new();
        for share in self.found.iter().filter_map(|number| number.checked_sub(FIRST_SHARE)) {
            if shares.iter().all(|known| self.group(*known) != self.group(share)) {
                shares.push(share);
            }
        }
        (brokers, shares)
    }

    /// Calls `tell` with each broker whose sessions want a message by their patterns.
    pub(super) fn brokers(&mut self, subject: Subject<'_>, mut tell: impl FnMut(u8)) {
        self.router.route(subject, |number| {
            if number < FIRST_SHARE {
                tell(number as u8);
            }
        });
    }

    /// True if sessions here want it, by their patterns or in queue groups.
    pub(super) fn is_wanted(&mut self, subject: Subject<'_>) -> bool {
        let mut any = false;
        self.router.route(subject, |_| any = true);
        any
    }

    // --- subscriptions ---

    /// Orders all of them again, from a backbone that knows none.
    pub(super) fn subscribe_again(&mut self, orders: &mut VecDeque<Order>, next: [u64; 2]) {
        let [main, groups] = next;
        if let Some(said) = &mut self.said {
            said.say_again(orders);
            let plain = self.plain.values_mut().map(|wanted| &mut wanted.subscribed);
            let shares = self.shares.iter_mut().flatten().map(|share| &mut share.subscribed);
            return plain.chain(shares).for_each(|subscribed| subscribed.by = main);
        }
        self.joins += 1;
        self.own_group = format!("kcpq-{:016x}-{}", self.own, self.joins).into();
        for wanted in self.plain.values_mut() {
            wanted.subscribed.order(Channel::Main, &self.own_group, orders);
            wanted.subscribed.by = main;
        }
        for share in self.shares.iter_mut().flatten() {
            share.subscribed.order(Channel::Groups, parts(&share.text).1, orders);
            share.subscribed.by = groups;
        }
    }

    /// Ends all of them at the backbone. What it has sent until it hears that is for those who wanted it.
    pub(super) fn take_leave(&self, orders: &mut VecDeque<Order>) {
        if self.said.is_some() {
            return; // a leaf node has none: what it has said that it wants comes until its connection ends
        }
        let plain = self.plain.values().map(|wanted| (Channel::Main, &wanted.subscribed));
        let shares = self.shares.iter().flatten().map(|share| (Channel::Groups, &share.subscribed));
        for (on, subscribed) in plain.chain(shares) {
            orders.extend(subscribed.subjects.iter().map(|(sid, _)| Order::Unsubscribe { on, sid: *sid }));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "of a gateway, whose other parts are borrowed apart")]
    fn subscribe(
        &mut self,
        on: Channel,
        pattern: &str,
        group: &str,
        purpose: For,
        subjects: &Subjects,
        next: u64,
        orders: &mut VecDeque<Order>,
        stats: &mut Stats,
    ) -> Subscribed {
        let (wanted, is_refused) = subjects.wanted(pattern);
        stats.patterns_refused += u64::from(is_refused);
        if let Some(said) = &mut self.said {
            if purpose == For::Sessions {
                wanted.iter().for_each(|subject| said.want(subject, orders));
            } // of a share it is said how many members it has
            return Subscribed { subjects: wanted.into_iter().map(|subject| (0, subject)).collect(), by: next };
        }
        let numbered = wanted.into_iter().map(|subject| {
            self.last_sid += 1;
            self.by_sid.insert(self.last_sid, purpose);
            (self.last_sid, subject)
        });
        let subscribed = Subscribed { subjects: numbered.collect(), by: next };
        subscribed.order(on, group, orders);
        subscribed
    }

    fn unsubscribe(&mut self, on: Channel, subscribed: Subscribed, orders: &mut VecDeque<Order>) {
        for (sid, _) in subscribed.subjects {
            self.by_sid.remove(&sid);
            orders.push_back(Order::Unsubscribe { on, sid });
        }
    }
}

impl Subscribed {
    /// The ping that confirms it; `None` if there is nothing to confirm.
    fn confirmed_by(&self, on: Channel) -> Option<(Channel, u64)> {
        (!self.subjects.is_empty()).then_some((on, self.by))
    }

    fn order(&self, on: Channel, group: &str, orders: &mut VecDeque<Order>) {
        orders.extend(self.subjects.iter().map(|(sid, subject)| Order::Subscribe {
            on,
            sid: *sid,
            subject: subject.clone(),
            group: Some(group.into()),
        }));
    }
}
