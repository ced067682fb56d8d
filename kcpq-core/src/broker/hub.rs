//! Where messages meet their subscribers: the router, and what follows from what it says.
//!
//! Publishers and subscribers look alike here, whether they are sessions or other shards.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::context::Context;
use super::foreign;
use super::groups::{self, Change, Groups};
use super::message::{self, Message};
use super::outlet::{Level, Outlet};
use super::party::{Party, Subscriber};
use super::pass::Pass;
use super::peer::Peer;
use super::session::{Me, Member, Session};
use super::shards::Shards;
use super::supply::Patience;
use super::table::Table;
use super::throttle::{Claim, Others, Throttle};
use crate::frame::{Frame, LENGTH, properties, subject_of};
use crate::hello::MAX_GROUP;
use crate::outbox::HeapOutbox;
use crate::router::{Place, Router, TooManyShapes};
use crate::subject::{Pattern, Subject};
use crate::time::Instant;

/// See above.
pub(super) struct Hub {
    router: Router,
    groups: Groups,
    pub(super) shards: Shards,
    /// Who wants the message that is being routed, by the router's numbers; and of these the shares of groups.
    wanted_by: Vec<u32>,
    shares: Vec<groups::Found>,
    /// How many subscribers the last message had.
    reach: u32,
}

/// To whom a message may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// To everybody who wants it.
    All,
    /// To no queue group: another shard has seen to these.
    Each,
    /// To this queue group alone.
    Group(u32),
}

/// Whose message it is.
pub(super) struct Publisher<'p> {
    party: Party,
    throttle: &'p mut Throttle,
    /// What waits for it as a subscriber: a session that is read is not in the table meanwhile. A shard gets nothing back.
    own: Option<(&'p mut HeapOutbox, &'p mut Outlet, Option<&'p mut Box<Pass>>)>,
    /// Where to note how its subscribers are off, if it wants to know.
    about: Option<&'p mut About>,
}

/// How those are off whom messages of a shard are for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About {
    /// How long the least patient of them can be kept waiting; `None` if there was nobody.
    pub(super) patience: Option<Patience>,
    /// The load of the member of a queue group that was given the last one (see [`Outlet::load`]).
    pub(super) load: Option<u32>,
}

impl<'p> Publisher<'p> {
    /// A session, while it is not in the table.
    pub(super) fn session(me: &'p mut Me<'_>) -> Self {
        let Member { throttle, outlet, pass, .. } = &mut *me.member;
        Self { party: Party::Session(me.id.slot), throttle, own: Some((me.queue, outlet, pass.as_mut())), about: None }
    }

    fn shard(index: u8, throttle: &'p mut Throttle) -> Self {
        Self { party: Party::Shard(index), throttle, own: None, about: None }
    }
}

impl Hub {
    pub(super) fn new(seed: u64, shards: Shards) -> Self {
        Self {
            router: Router::new(seed),
            groups: Groups::new(seed),
            shards,
            wanted_by: Vec::new(),
            shares: Vec::new(),
            reach: 0,
        }
    }

    /// Patterns registered, each counted once.
    pub(super) fn patterns(&self) -> usize {
        self.router.patterns()
    }

    /// Shows patterns of sessions here, and how many of these have each, from a place on: see [`Router::visit`].
    pub(super) fn visit(&self, from: Place, count: usize, mut visit: impl FnMut(&str, usize)) -> Option<Place> {
        let shards = 0..u32::from(self.shards.count());
        self.router.visit(from, count, |pattern, members| {
            // Shards have the lowest numbers.
            let mut subscribers = members.len() - shards.clone().filter(|shard| members.contains(*shard)).count();
            if !self.groups.is_empty() {
                members.for_each(|number| {
                    if let Subscriber::Share(share) = number.into() {
                        subscribers = subscribers - 1 + self.groups.here(share);
                    }
                });
            }
            if subscribers > 0 {
                visit(pattern, subscribers);
            }
        })
    }

    /// From which size on a message is kept once for all: it is likely to have as many subscribers as the last one.
    pub(super) fn share_from(&self) -> usize {
        message::share_from(self.reach)
    }

    // --- subscriptions ---

    /// Whether messages stay cheap if a session has this pattern as well. What other shards' sessions have was asked there.
    pub(super) fn admits(&self, pattern: Pattern<'_>, slot: u32, latest: bool) -> Result<(), TooManyShapes> {
        self.router.admits(pattern, Subscriber::session(slot, latest).into())
    }

    /// A session has a pattern that it had not.
    pub(super) fn subscribe(&mut self, pattern: Pattern<'_>, slot: u32, latest: bool) {
        self.router.subscribe(pattern, Subscriber::session(slot, latest).into());
        self.shards.want(pattern.as_str());
    }

    /// A session has it in the other way.
    pub(super) fn change(&mut self, pattern: Pattern<'_>, slot: u32, latest: bool) {
        self.router.unsubscribe(pattern, Subscriber::session(slot, !latest).into());
        self.router.subscribe(pattern, Subscriber::session(slot, latest).into());
    }

    /// A session has it no more.
    pub(super) fn unsubscribe(&mut self, pattern: Pattern<'_>, slot: u32, latest: bool) {
        self.router.unsubscribe(pattern, Subscriber::session(slot, latest).into());
        self.shards.leave(pattern.as_str());
    }

    /// Whether sessions of a shard have a pattern.
    pub(super) fn set_interest(&mut self, shard: u8, pattern: Pattern<'_>, wanted: bool) {
        let number = Subscriber::Every(Party::Shard(shard)).into();
        if wanted {
            self.router.subscribe(pattern, number);
            self.shards.has_known(shard);
        } else {
            self.router.unsubscribe(pattern, number);
        }
    }

    // --- queue groups ---

    /// A subscription of a session takes part in a group. Its pattern is had by the session as well, as far as it matters how
    /// dear that is.
    pub(super) fn join(&mut self, text: &str, pattern: Pattern<'_>, slot: u32, number: u32) {
        let change = self.groups.join(text, groups::Member::Session { slot, number });
        self.router.charge(pattern, Subscriber::session(slot, false).into());
        self.follow(pattern, change, true);
        self.shards.count_members(text, change.here, change.here == 1);
    }

    /// It takes part no more. False if it did not.
    pub(super) fn part(&mut self, text: &str, pattern: Pattern<'_>, slot: u32, number: u32) -> bool {
        let Some(change) = self.groups.leave(text, groups::Member::Session { slot, number }) else { return false };
        self.router.discharge(pattern, Subscriber::session(slot, false).into());
        self.follow(pattern, change, false);
        self.shards.count_members(text, change.here, false);
        true
    }

    /// So many subscriptions of sessions of a shard take part.
    pub(super) fn set_members(&mut self, shard: u8, text: &str, pattern: Pattern<'_>, count: u32) {
        let member = groups::Member::Shard { index: shard, count };
        let before = self.groups.leave(text, member);
        if let Some(change) = before {
            self.follow(pattern, change, false);
        }
        if count > 0 {
            let change = self.groups.join(text, member);
            self.follow(pattern, change, true);
            if before.is_none() {
                self.shards.has_known(shard);
            }
        }
    }

    /// A share has come with somebody, or left.
    fn follow(&mut self, pattern: Pattern<'_>, change: Change, has_come: bool) {
        let Some(number) = change.share.map(|share| Subscriber::Share(share).into()) else { return };
        if has_come {
            self.router.subscribe(pattern, number);
        } else {
            self.router.unsubscribe(pattern, number);
        }
    }

    // --- messages ---

    /// Hands a message to everybody who wants it, each once, and to one member of each queue group, and throttles the publisher
    /// if need be. False if nobody wants it.
    pub(super) fn publish<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: Publisher<'_>,
        subject: Subject<'_>,
        message: &mut Message<'_>,
    ) -> bool {
        self.publish_to(Aim::All, cx, table, publisher, subject, message)
    }

    /// Hands what the session in this slot did not get as a member of groups to others of these. Says for how many messages
    /// there is nobody.
    pub(super) fn give_back<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        slot: u32,
        returns: Vec<(Box<str>, Bytes, Option<Instant>)>,
    ) -> u64 {
        let limits = foreign::limits(cx.config.subjects);
        let mut left = 0;
        for (text, frame, expires) in returns {
            let group = self.groups.named(groups::parts(&text).1);
            let subject = Subject::from_bytes(subject_of(&frame), &limits);
            let given = group.zip(subject.ok()).is_some_and(|(group, subject)| {
                let party = Party::Session(slot);
                let publisher = Publisher { party, throttle: &mut Throttle::default(), own: None, about: None };
                let mut message = Message::returned(&frame, expires);
                self.publish_to(Aim::Group(group), cx, table, publisher, subject, &mut message)
            });
            cx.stats.requeued += u64::from(given);
            left += u64::from(!given);
        }
        left
    }

    /// The same, aimed at some of them.
    fn publish_to<P: Peer>(
        &mut self,
        aim: Aim,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: Publisher<'_>,
        subject: Subject<'_>,
        message: &mut Message<'_>,
    ) -> bool {
        let Self { router, groups, shards, wanted_by, shares, reach } = self;
        let reached = Reached { cx, table, shards, publisher };
        let mut delivery = Delivery { reached, subject, message, sessions: 0, behind: None, other: None };
        wanted_by.clear();
        router.route(subject, |number| wanted_by.push(number));
        if let Aim::Group(_) = aim {
            wanted_by.retain(|number| matches!(Subscriber::from(*number), Subscriber::Share(_)));
        }
        let mut latest = false;
        for number in wanted_by.iter() {
            match Subscriber::from(*number) {
                Subscriber::Every(party) => delivery.hand_to(party, false, &[]),
                Subscriber::Latest(_) => latest = true,
                Subscriber::Share(share) => shares.push(groups.found(share)),
            }
        }
        if latest {
            for number in wanted_by.iter() {
                // It may match another pattern of this session, which wants every message.
                if let Subscriber::Latest(slot) = Subscriber::from(*number)
                    && !router.was_told(Subscriber::Every(Party::Session(slot)).into())
                {
                    delivery.hand_to(Party::Session(slot), true, &[]);
                }
            }
        }
        *reach = (wanted_by.len() - shares.len()) as u32;
        if !shares.is_empty() {
            *reach += delivery.hand_to_groups(aim, groups, shares);
            shares.clear();
        }
        // One that only other shards want is counted there.
        if delivery.sessions > 0 || *reach == 0 {
            delivery.reached.cx.stats.fan_out.record(u64::from(delivery.sessions));
        }
        delivery.finish();
        *reach > 0
    }

    /// Hands messages of another shard, whole MSGs that follow each other, to the sessions here.
    pub(super) fn publish_relayed<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        shard: u8,
        mut frames: Bytes,
        expires: Option<Instant>,
    ) {
        let Some(mut throttle) = self.shards.throttle(shard).map(core::mem::take) else { return };
        let bytes = frames.len();
        let mut about = About::default();
        // The shard wrote them.
        while let Some(len) = frames.first_chunk().map(|announced| LENGTH + u32::from_be_bytes(*announced) as usize) {
            let frame = frames.split_to(len.min(frames.len()));
            if expires.is_some_and(|at| at <= cx.now) {
                cx.stats.expired += 1;
                continue;
            }
            if let Ok(parsed) = Frame::parse(&frame, &cx.config.frames) {
                let limits = cx.config.subjects;
                let written;
                let subject = match Subject::from_bytes(parsed.subject, &limits) {
                    // The other shard has seen that its publisher may do that.
                    Err(_) => {
                        written = foreign::subject(parsed.subject, &limits).unwrap_or_default();
                        Subject::new(&written, &foreign::limits(limits))
                    }
                    valid => valid,
                };
                let Ok(subject) = subject else { continue };
                let group = parsed.message().and_then(|(_, properties)| properties.group());
                let aim = match group.map(|group| self.groups.named(group)) {
                    None => Aim::Each,
                    Some(Some(group)) => Aim::Group(group),
                    Some(None) => {
                        cx.stats.unrouted += 1; // its last member has left meanwhile
                        continue;
                    }
                };
                let mut message = Message::relayed(&frame, expires, self.share_from());
                let publisher = Publisher { about: Some(&mut about), ..Publisher::shard(shard, &mut throttle) };
                let routed = self.publish_to(aim, cx, table, publisher, subject, &mut message);
                cx.stats.unrouted += u64::from(!routed && aim != Aim::Each);
            }
        }
        if let Some(place) = self.shards.throttle(shard) {
            *place = throttle;
        }
        self.shards.has_placed(shard, bytes, about);
    }

    // --- back-pressure ---

    /// Looks again at whether a publisher is to be held back.
    pub(super) fn review<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: Publisher<'_>,
    ) {
        let mut reached = Reached { cx, table, shards: &mut self.shards, publisher };
        if let Some(by) = reached.publisher.throttle.due(reached.cx.now) {
            reached.throttle_for(by);
        }
    }

    /// The same for all shards as publishers.
    pub(super) fn review_shards<P: Peer>(&mut self, cx: &mut Context<P>, table: &mut Table<P, Session>) {
        while let Some(shard) = self.shards.due(cx.now) {
            let Some(mut throttle) = self.shards.throttle(shard).map(core::mem::take) else { return };
            self.review(cx, table, Publisher::shard(shard, &mut throttle));
            if let Some(place) = self.shards.throttle(shard) {
                *place = throttle;
            }
            self.shards.tell_again(shard);
        }
    }

    /// Finds out how long those can be kept waiting now whom other shards publish to, and who had enough when they did.
    pub(super) fn review_patience<P: Peer>(&mut self, cx: &mut Context<P>, table: &mut Table<P, Session>) {
        for shard in 0..self.shards.count() {
            let Some(served) = self.shards.fed(shard).map(|throttle| throttle.served(cx.now)) else { continue };
            let patience = |party| match party {
                Party::Session(slot) => table.get_mut(slot)?.session.outlet().1.patience(cx),
                Party::Shard(_) => None,
            };
            if let Some(patience) = served.filter_map(patience).min() {
                self.shards.set_patience(shard, patience);
            }
        }
    }
}

/// Those whom a publisher can reach.
struct Reached<'d, P: Peer> {
    cx: &'d mut Context<P>,
    table: &'d mut Table<P, Session>,
    shards: &'d mut Shards,
    publisher: Publisher<'d>,
}

impl<P: Peer> Reached<'_, P> {
    /// The rules for what waits for a party.
    fn outlet(&mut self, party: Party) -> Option<(&Context<P>, &mut Outlet)> {
        let Self { cx, table, shards, publisher } = self;
        let outlet = match party {
            party if party == publisher.party => publisher.own.as_mut().map(|(_, outlet, _)| &mut **outlet),
            Party::Session(slot) => table.get_mut(slot).map(|slot| slot.session.outlet().1),
            Party::Shard(index) => shards.outlet(index).map(|(_, outlet)| outlet),
        };
        Some((cx, outlet?))
    }

    /// Holds the publisher back, or lets it go on, now that `by` is behind, or was.
    #[cold]
    fn throttle_for(&mut self, by: Party) {
        let now = self.cx.now;
        let claim = self.outlet(by).and_then(|(cx, outlet)| {
            outlet.holds_until(cx).map(|limit| Claim { by, limit, lossy: outlet.is_lossy(cx) })
        });
        let Some(claim) = claim else {
            return self.publisher.throttle.release(now, &self.cx.config);
        };
        let mut others = Others::None;
        for party in self.publisher.throttle.served(now).filter(|party| *party != by) {
            let other = self.outlet(party).and_then(|(cx, outlet)| Some((outlet.is_behind(), outlet.patience(cx)?)));
            others = others.max(match other {
                None => Others::None,
                Some((true, _)) => Others::Behind,
                Some((false, patience)) if patience.lasts(now) => Others::Patient,
                Some(_) => Others::Waiting,
            });
        }
        let Self { cx, publisher, .. } = self;
        let news = !publisher.throttle.holds();
        if !publisher.throttle.hold(now, &cx.config, claim, others) {
            return;
        }
        cx.stats.throttled += u64::from(news);
        let party = publisher.party;
        if publisher.throttle.list(by)
            && let Some((_, outlet)) = self.outlet(by)
        {
            outlet.list(party);
        }
    }
}

/// A message that is handed to its subscribers, one after the other.
struct Delivery<'d, 'm, P: Peer> {
    reached: Reached<'d, P>,
    subject: Subject<'d>,
    message: &'d mut Message<'m>,
    /// How many of its subscribers are sessions.
    sessions: u32,
    /// One of them that is behind, and whether it misses messages.
    behind: Option<(bool, Party)>,
    /// One of the others: of those that have least waiting.
    other: Option<(Level, Party)>,
}

impl<P: Peer> Delivery<'_, '_, P> {
    /// Hands it to one of them, or the `latest` of its subject only; with `more` properties to a member of a group.
    fn hand_to(&mut self, to: Party, latest: bool, more: &[u8]) {
        let Reached { cx, table, shards, publisher } = &mut self.reached;
        let (queue, outlet, pass) = match to {
            party if party == publisher.party => match &mut publisher.own {
                Some((queue, outlet, pass)) => (&mut **queue, &mut **outlet, pass.as_deref_mut()),
                None => return,
            },
            Party::Session(slot) => match table.wake(slot) {
                Some(slot) => slot.session.receiver(),
                None => return,
            },
            // What comes from a shard has gone to the others from there.
            Party::Shard(_) if matches!(publisher.party, Party::Shard(_)) && more.is_empty() => return,
            Party::Shard(index) => match shards.outlet(index) {
                Some((queue, outlet)) => (queue, outlet, None),
                None => return,
            },
        };
        self.sessions += u32::from(matches!(to, Party::Session(_)));
        if pass.is_some_and(|pass| pass.is_filtered && cx.withholds(pass, self.subject)) {
            outlet.counts.withheld += 1;
            return;
        }
        let slow = outlet.admit(cx, queue, self.message, latest, more);
        let level = outlet.level(cx, queue);
        let mut other = Some((level, to));
        if level == Level::Behind
            && outlet.holds_until(cx).is_some()
            // One that need not miss anything comes first.
            && !(outlet.is_lossy(cx) && self.behind.is_some_and(|(lossy, _)| !lossy))
        {
            other = self.behind.replace((outlet.is_lossy(cx), to)).map(|(_, party)| (level, party));
        }
        if other.is_some_and(|(level, _)| self.other.is_none_or(|(least, _)| level <= least)) {
            self.other = other;
        }
        if let Some(about) = &mut publisher.about {
            about.patience = outlet.patience(cx).into_iter().chain(about.patience).min();
            if !more.is_empty() {
                about.load = Some(outlet.load(cx, queue, 1));
            }
        }
        if slow && let Party::Session(slot) = to {
            cx.slow.push_back(slot);
        }
    }

    /// Hands it to one member of each group of these shares, as far as they are aimed at. Says to how many.
    #[inline(never)]
    fn hand_to_groups(&mut self, aim: Aim, groups: &mut Groups, shares: &mut Vec<groups::Found>) -> u32 {
        shares.retain(|found| match aim {
            Aim::All => true,
            Aim::Each => false,
            Aim::Group(group) => found.group == group,
        });
        shares.sort_unstable_by_key(|found| found.group);
        let mut count = 0;
        for shares in shares.chunk_by(|a, b| a.group == b.group) {
            // Another shard that has chosen this one knew of members here; only if these have left they are looked for elsewhere.
            let relayed = matches!(self.reached.publisher.party, Party::Shard(_));
            let mut chosen = groups.choose(shares, |member| self.load(member, !relayed));
            if relayed && chosen.is_none() {
                chosen = groups.choose(shares, |member| self.load(member, true));
            }
            match chosen {
                Some(groups::Member::Session { slot, number }) => {
                    self.hand_to(Party::Session(slot), false, &properties::member(number));
                }
                Some(groups::Member::Shard { index, .. }) => {
                    let name = shares.first().map_or("", |found| groups.name(found.share)).as_bytes();
                    let head = properties::group(name.len());
                    let mut property = [0; properties::HEAD + MAX_GROUP];
                    for (place, byte) in property.iter_mut().zip(head.iter().chain(name)) {
                        *place = *byte;
                    }
                    let len = head.len() + name.len();
                    self.hand_to(Party::Shard(index), false, property.get(..len).unwrap_or_default());
                }
                None => continue,
            }
            count += 1;
        }
        count
    }

    /// What a member of a group has waiting (see [`Outlet::load`]); `None` if it cannot have the message. Other `shards` only
    /// if they are wanted, and not the one that the message came from.
    fn load(&mut self, member: groups::Member, shards: bool) -> Option<u32> {
        let Reached { cx, table, shards: all, publisher } = &mut self.reached;
        let (queue, outlet, pass) = match member {
            groups::Member::Session { slot, .. } if Party::Session(slot) == publisher.party => {
                let (queue, outlet, pass) = publisher.own.as_mut()?;
                (&mut **queue, &mut **outlet, pass.as_deref_mut())
            }
            groups::Member::Session { slot, .. } => table.get_mut(slot)?.session.receiver(),
            groups::Member::Shard { index, count } => {
                if !shards || publisher.party == Party::Shard(index) {
                    return None;
                }
                let (queue, outlet) = all.outlet(index)?;
                return Some(outlet.load(cx, queue, count));
            }
        };
        let may_have = pass.is_none_or(|pass| !pass.is_filtered || cx.may_receive(pass, self.subject));
        may_have.then(|| outlet.load(cx, queue, 1))
    }

    /// What follows from it for the publisher.
    fn finish(&mut self) {
        let Reached { cx, publisher, .. } = &mut self.reached;
        if let Some((_, party)) = self.other {
            publisher.throttle.on_served(cx.now, party);
        }
        if let Some((_, by)) = self.behind
            && !publisher.throttle.holds()
        {
            self.reached.throttle_for(by);
        }
    }
}
