//! One message on its way to its subscribers, and what follows from that for whoever published it.
//!
//! Publishers and subscribers look alike here, whether they are sessions or other shards.

mod run;

pub(super) use self::run::RunDelivery;

use alloc::vec::Vec;

use super::context::Context;
use super::groups::{self, Groups};
use super::message::Message;
use super::outlet::{Admission, Level, Outlet};
use super::party::Party;
use super::peer::Peer;
use super::receipts::Reach;
use super::session::{Me, Member, Receiver, Session};
use super::shards::Shards;
use super::supply::Patience;
use super::table::Table;
use super::throttle::{Claim, Others, Throttle};
use crate::frame::properties;
use crate::hello::MAX_GROUP;
use crate::lane::Lane;
use crate::subject::Subject;

/// To whom a message may go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// To everybody who wants it.
    All,
    /// To everybody who wants it here: the other shards have it already.
    Here,
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
    own: Option<Receiver<'p>>,
    /// Where to note how its subscribers are off, if it wants to know.
    about: Option<&'p mut About>,
}

/// How those are off whom messages of a shard are for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About {
    /// How long the least patient of them can be kept waiting; `None` if there was nobody.
    pub(super) patience: Option<Patience>,
    /// Of the members of queue groups that were given one that with the least load before (see [`Outlet::load`]): what is given one
    /// behind the other adds to it only until it is sent.
    pub(super) member: Option<(u32, Party)>,
}

impl About {
    /// One more was given to a member that had so much waiting before.
    fn given(&mut self, load: u32, member: Party) {
        self.member = self.member.into_iter().chain([(load, member)]).min_by_key(|(load, _)| *load);
    }

    /// How they were off with messages before, if that has not been told yet, and are with others now.
    pub(super) fn and(self, others: Self, told: bool) -> Self {
        let before = if told { None } else { self.member };
        let least = before.into_iter().chain(others.member).min_by_key(|(load, _)| *load);
        Self { patience: others.patience.or(self.patience), member: least.or(self.member) }
    }
}

impl<'p> Publisher<'p> {
    /// A session, while it is not in the table.
    pub(super) fn session(me: &'p mut Me<'_>) -> Self {
        let Member { throttle, outlet, pass, lanes, .. } = &mut *me.member;
        let own = Receiver::new(me.queue, outlet, pass, lanes);
        Self { party: Party::Session(me.id.slot), throttle, own: Some(own), about: None }
    }

    /// One that has no part in what becomes of its message: a shard, or a session that is about to end. What it has to know
    /// of its subscribers goes to `about`.
    pub(super) fn absent(party: Party, throttle: &'p mut Throttle, about: Option<&'p mut About>) -> Self {
        Self { party, throttle, own: None, about }
    }

    /// True while it is held back.
    pub(super) fn holds(&self) -> bool {
        self.throttle.holds()
    }
}

/// Looks again at whether a publisher is to be held back.
pub(super) fn review<P: Peer>(
    cx: &mut Context<P>,
    table: &mut Table<P, Session>,
    shards: &mut Shards,
    publisher: &mut Publisher<'_>,
) {
    let mut reached = Reached { cx, table, shards, publisher };
    if let Some(by) = reached.publisher.throttle.due(reached.cx.now) {
        reached.throttle_for(by);
    }
}

/// Those whom a publisher can reach.
struct Reached<'d, 'p, P: Peer> {
    cx: &'d mut Context<P>,
    table: &'d mut Table<P, Session>,
    shards: &'d mut Shards,
    publisher: &'d mut Publisher<'p>,
}

impl<P: Peer> Reached<'_, '_, P> {
    /// The rules for what waits for a party.
    fn outlet(&mut self, party: Party) -> Option<(&Context<P>, &mut Outlet)> {
        let Self { cx, table, shards, publisher } = self;
        let outlet = match party {
            party if party == publisher.party => publisher.own.as_mut().map(|own| &mut *own.outlet),
            Party::Session(slot) => table.get_mut(slot).map(|slot| slot.session.outlet().1),
            Party::Shard(index) => shards.outlet(index).map(|(_, outlet)| outlet),
        };
        Some((cx, outlet?))
    }

    /// A party as a subscriber, to which something is to be sent if it `wakes`.
    #[inline]
    fn receiver(&mut self, party: Party, wakes: bool) -> Option<(&mut Context<P>, Receiver<'_>)> {
        let Self { cx, table, shards, publisher } = self;
        let receiver = match party {
            party if party == publisher.party => publisher.own.as_mut()?.again(),
            Party::Session(slot) if wakes => table.wake(slot)?.session.receiver(),
            Party::Session(slot) => table.get_mut(slot)?.session.receiver(),
            Party::Shard(index) => {
                let (queue, outlet) = shards.outlet(index)?;
                Receiver::shard(queue, outlet)
            }
        };
        Some((cx, receiver))
    }

    /// What a member of a group has waiting (see [`Outlet::load`]); `None` if it cannot have the message. Other `shards` only
    /// if they are wanted.
    fn load(&mut self, subject: Subject<'_>, member: groups::Member, shards: bool) -> Option<u32> {
        let Self { cx, table, shards: all, publisher } = self;
        let Receiver { queue, outlet, pass, .. } = match member {
            groups::Member::Session { slot, .. } if Party::Session(slot) == publisher.party => {
                publisher.own.as_mut()?.again()
            }
            groups::Member::Session { slot, .. } => table.get_mut(slot)?.session.receiver(),
            groups::Member::Shard { index, count } => {
                let (queue, outlet) = all.outlet(index).filter(|_| shards)?;
                return Some(outlet.load(cx, queue, count));
            }
        };
        let may_have = pass.is_none_or(|pass| !pass.is_filtered || cx.may_receive(pass, subject));
        may_have.then(|| outlet.load(cx, queue, 1))
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

/// How a message goes to the member of a group that was chosen: to whom, and what is told beside it.
struct ToMember {
    to: Party,
    /// The lane that the member has asked for, if any.
    lane: Option<Lane>,
    /// With room for what stands behind properties.
    property: heapless::Vec<u8, { properties::GROUP + MAX_GROUP + properties::END }>,
}

impl ToMember {
    /// `asked` counts the brokers that were asked for a member of the group before.
    fn new(member: groups::Member, asked: u8, group: &str) -> Self {
        let mut property = heapless::Vec::new();
        // There is room: a name has at most `MAX_GROUP` bytes.
        let mut write = |bytes: &[u8]| _ = property.extend_from_slice(bytes);
        match member {
            groups::Member::Session { slot, number, lane } => {
                write(&properties::member(number));
                Self { to: Party::Session(slot), lane: lane.get(), property }
            }
            groups::Member::Shard { index, .. } => {
                write(&properties::group(asked, group.len()));
                write(group.as_bytes());
                Self { to: Party::Shard(index), lane: None, property }
            }
        }
    }
}

/// A message that is handed to its subscribers, one after the other.
pub(super) struct Delivery<'d, 'p, 'm, P: Peer> {
    reached: Reached<'d, 'p, P>,
    subject: Subject<'d>,
    message: &'d mut Message<'m>,
    /// How many of its subscribers are sessions, and who has it now.
    sessions: u32,
    reach: Reach,
    /// One of its subscribers that is behind, and whether it misses messages.
    behind: Option<(bool, Party)>,
    /// One of the others, by number: of those that have least waiting.
    least: Option<Level>,
    other: u32,
}

impl<'d, 'p, 'm, P: Peer> Delivery<'d, 'p, 'm, P> {
    pub(super) fn new(
        cx: &'d mut Context<P>,
        table: &'d mut Table<P, Session>,
        shards: &'d mut Shards,
        publisher: &'d mut Publisher<'p>,
        subject: Subject<'d>,
        message: &'d mut Message<'m>,
    ) -> Self {
        let reached = Reached { cx, table, shards, publisher };
        let reach = Reach::default();
        Self { reached, subject, message, sessions: 0, reach, behind: None, least: None, other: 0 }
    }

    /// That takes so much work.
    pub(super) fn charge(&mut self, work: u32) {
        self.reached.cx.turn.charge(work);
    }

    /// Hands it to one of them, or the `latest` of its subject only; with `more` properties to a member of a group.
    pub(super) fn hand_to(&mut self, to: Party, latest: bool, more: &[u8]) {
        let Reached { cx, table, shards, publisher } = &mut self.reached;
        let mut lane = self.message.lane();
        // A member of a group gets each of them.
        let latest = latest || self.message.is_latest() && more.is_empty();
        let mut receiver = match to {
            Party::Session(_) if to == publisher.party => match &mut publisher.own {
                Some(own) => own.again(),
                None => return,
            },
            Party::Session(slot) => match table.wake(slot) {
                Some(slot) => slot.session.receiver(),
                None => return,
            },
            // What comes from a shard has gone to the others from there.
            Party::Shard(_) if matches!(publisher.party, Party::Shard(_)) && more.is_empty() => return,
            Party::Shard(index) => {
                if let Some(ticket) = self.message.ticket() {
                    return self.ask(index, more, ticket);
                }
                if self.message.is_latest() {
                    return self.tell_latest(index, more);
                }
                match shards.outlet(index) {
                    Some((queue, outlet)) => Receiver::shard(queue, outlet),
                    None => return,
                }
            }
        };
        self.sessions += u32::from(matches!(to, Party::Session(_)));
        if more.is_empty() {
            lane = receiver.lane_of(self.subject, lane);
        }
        let Receiver { queue, outlet, pass, .. } = receiver;
        if pass.is_some_and(|pass| pass.is_filtered && cx.withholds(pass, self.subject)) {
            outlet.counts.withheld += 1;
            return;
        }
        if let Some(about) = publisher.about.as_mut().filter(|_| !more.is_empty()) {
            about.given(outlet.load(cx, queue, 1), to);
        }
        let Admission { taken, slow } = outlet.admit(cx, queue, self.message, lane, latest, more);
        let level = outlet.level(cx, queue);
        let mut other = Some(to);
        if level == Level::Behind
            && outlet.holds_until(cx).is_some()
            // One that need not miss anything comes first.
            && !(outlet.is_lossy(cx) && self.behind.is_some_and(|(lossy, _)| !lossy))
        {
            other = self.behind.replace((outlet.is_lossy(cx), to)).map(|(_, party)| party);
        }
        if let Some(party) = other.filter(|_| self.least.is_none_or(|least| level <= least)) {
            (self.least, self.other) = (Some(level), party.into());
        }
        if let Some(about) = &mut publisher.about {
            about.patience = outlet.patience(cx).into_iter().chain(about.patience).min();
        }
        match to {
            Party::Session(slot) => {
                self.reach.sessions += u32::from(taken);
                if slow {
                    cx.slow.push_back(slot);
                }
            }
            Party::Shard(_) => self.reach.shards += u32::from(taken),
        }
    }

    /// The same to another shard, which is to know that only the latest of its subject counts.
    #[cold]
    fn tell_latest(&mut self, index: u8, more: &[u8]) {
        self.message.set_latest(false);
        self.hand_to(Party::Shard(index), false, &[more, &properties::LATEST].concat());
        self.message.set_latest(true);
    }

    /// The same to another shard, which is to say how many sessions got it.
    #[cold]
    fn ask(&mut self, index: u8, more: &[u8], ticket: u32) {
        let (more, before) = ([more, &properties::ticket(ticket)].concat(), self.reach.shards);
        self.message.set_ticket(None);
        self.hand_to(Party::Shard(index), false, &more);
        self.message.set_ticket(Some(ticket));
        if self.reach.shards > before {
            self.reached.shards.ask(index, ticket);
        }
    }

    /// True if its publisher wants to know that it is stored.
    pub(super) fn is_to_be_stored(&self) -> bool {
        self.message.store().is_some()
    }

    /// The gateway is not handed it: nobody there wants it.
    pub(super) fn stays_here(&mut self) {
        self.reached.cx.stats.no_interest += u64::from(!self.subject.is_reserved());
    }

    /// Hands it to the gateway, which is to know whether queue groups here have it, and whether it is to be stored.
    #[cold]
    pub(super) fn hand_to_gateway(&mut self, index: u8, served: bool) {
        if matches!(self.reached.publisher.party, Party::Shard(_)) {
            return;
        }
        let served: &[u8] = if served { &properties::SERVED } else { &[] };
        let before = self.reach.shards;
        match self.message.store() {
            None => self.hand_to(Party::Shard(index), false, served),
            Some((ticket, id)) => {
                let more = [served, &properties::store(ticket, id.len()), id.as_bytes()].concat();
                self.hand_to(Party::Shard(index), false, &more);
            }
        }
        self.reach.gateway = Some(self.reach.shards > before);
    }

    /// Hands it to one member of each group of these shares, as far as they are aimed at. Says to how many.
    #[inline(never)]
    pub(super) fn hand_to_groups(&mut self, aim: Aim, groups: &mut Groups, shares: &mut Vec<groups::Found>) -> u32 {
        shares.retain(|found| match aim {
            Aim::All | Aim::Here => true,
            Aim::Each => false,
            Aim::Group(group) => found.group == group,
        });
        shares.sort_unstable_by_key(|found| found.group);
        let mut count = 0;
        for shares in shares.chunk_by(|a, b| a.group == b.group) {
            count += u32::from(self.hand_to_group(groups, shares));
        }
        count
    }

    /// The same for one group, of which these are the shares. True if there is somebody who can have it.
    #[inline(never)]
    pub(super) fn hand_to_group(&mut self, groups: &mut Groups, shares: &[groups::Found]) -> bool {
        let now = self.reached.cx.now;
        let chosen = match self.message.asked() {
            None => groups.choose(shares, now, |member| self.reached.load(self.subject, member, true)),
            // Another shard knew of members here. If these have left, or may not have it, one of the others is asked that have least
            // waiting; and if that leads nowhere either, all of them one after the other.
            Some(asked) => {
                let (own, count) = self.reached.cx.shard;
                let (from, asked) = (self.reached.publisher.party, u64::from(asked));
                let mut chosen = groups.choose(shares, now, |member| self.reached.load(self.subject, member, false));
                if chosen.is_none() && asked < count {
                    let is_from =
                        |member| matches!(member, groups::Member::Shard { index, .. } if Party::Shard(index) == from);
                    chosen = groups.choose(shares, now, |member| {
                        self.reached.load(self.subject, member, true).filter(|_| !is_from(member))
                    });
                }
                chosen.or_else(|| groups.next_shard(shares, own as u8, from).filter(|_| asked < 2 * count))
            }
        };
        let Some(member) = chosen else { return false };
        let name = shares.first().map_or("", |found| groups.name(found.share));
        let ToMember { to, lane, property } =
            ToMember::new(member, self.message.asked().map_or(0, |asked| asked + 1), name);
        let published = self.message.lane();
        self.message.set_lane(lane.unwrap_or(published));
        self.hand_to(to, false, &property);
        self.message.set_lane(published);
        true
    }

    /// What follows from it for the publisher, if it has had so many subscribers.
    pub(super) fn finish(&mut self, subscribers: u32) -> Reach {
        // One that only other shards want is counted there.
        if self.sessions > 0 || subscribers == 0 {
            self.reached.cx.stats.fan_out.record(u64::from(self.sessions));
        }
        let Reached { cx, publisher, .. } = &mut self.reached;
        if self.least.is_some() {
            publisher.throttle.on_served(cx.now, self.other.into());
        }
        if let Some((_, by)) = self.behind
            && !publisher.throttle.holds()
        {
            self.reached.throttle_for(by);
        }
        Reach { subscribers, ..self.reach }
    }
}
