//! Where messages meet their subscribers: who has which pattern, and who gets a message.

mod runs;
mod wanted;

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

pub(super) use self::runs::Routed;
use self::wanted::Wanted;
use super::context::Context;
use super::delivery::{self, About, Aim, Delivery, Publisher};
use super::foreign;
use super::groups::{self, Change, Groups};
use super::kept::Kept;
use super::message::{self, Message};
use super::party::{Party, Subscriber};
use super::peer::Peer;
use super::receipts::{Reach, Receipts};
use super::session::{Me, Receiver, Session};
use super::shards::Shards;
use super::table::Table;
use super::throttle::Throttle;
use super::turn;
use crate::frame::{Frame, LENGTH, subject_of};
use crate::lane::{Asked, Lane};
use crate::router::{Place, Router, TooManyShapes};
use crate::subject::{Pattern, Subject};
use crate::time::{Duration, Instant};

/// See above.
pub(super) struct Hub {
    router: Router,
    groups: Groups,
    pub(super) kept: Kept,
    pub(super) shards: Shards,
    /// Publishers that wait to hear from other shards who has their messages.
    pub(super) receipts: Receipts,
    /// Who wants the message that is being routed, by the router's numbers; and of these the shares of groups.
    wanted_by: Vec<u32>,
    shares: Vec<groups::Found>,
    /// How many subscribers the last message had.
    reach: u32,
}

/// What was found beside those whose numbers were noted.
#[derive(Clone, Copy)]
struct Found {
    /// What each message takes of a turn's work, beside that it is read.
    work: u32,
    /// So many have it already.
    elsewhere: u32,
    /// The gateway, if it wants it as well.
    gateway: Option<u8>,
    /// The gateway, if it does not.
    aloof: Option<u8>,
}

impl Hub {
    pub(super) fn new(seed: u64, shards: Shards) -> Self {
        Self {
            router: Router::new(seed),
            groups: Groups::new(seed),
            kept: Kept::default(),
            shards,
            receipts: Receipts::new(seed),
            wanted_by: Vec::new(),
            shares: Vec::new(),
            reach: 0,
        }
    }

    /// Patterns registered, each counted once.
    pub(super) fn patterns(&self) -> usize {
        self.router.patterns()
    }

    /// True if anybody wants to hear what the server says of its sessions.
    pub(super) fn is_watched(&self) -> bool {
        self.router.reserved() > 0
    }

    /// Shows patterns of sessions here, how many of these have each and how many messages each has matched, from a place on: see
    /// [`Router::visit`].
    pub(super) fn visit(&self, from: Place, count: usize, mut visit: impl FnMut(&str, usize, u32)) -> Option<Place> {
        let shards = 0..u32::from(self.shards.count());
        self.router.visit(from, count, |pattern, members| {
            // Shards have the lowest numbers.
            let mut subscribers = members.len() - shards.clone().filter(|shard| members.contains(*shard)).count();
            if !self.groups.is_empty() || self.shards.gateway().is_some() {
                members.for_each(|number| match number.into() {
                    Subscriber::Share(share) => subscribers = subscribers - 1 + self.groups.here(share),
                    Subscriber::Abroad => subscribers -= 1,
                    _ => {}
                });
            }
            if subscribers > 0 || members.messages() > 0 {
                visit(pattern, subscribers, members.messages());
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

    /// Whether the gateway sees to queue groups of a pattern's subjects.
    pub(super) fn set_abroad(&mut self, pattern: Pattern<'_>, is: bool) {
        if is {
            self.router.subscribe(pattern, Subscriber::Abroad.into());
        } else {
            self.router.unsubscribe(pattern, Subscriber::Abroad.into());
        }
    }

    // --- queue groups ---

    /// A subscription of a session takes part in a group. Its pattern is had by the session as well, as far as it matters how
    /// dear that is.
    pub(super) fn join(&mut self, text: &str, pattern: Pattern<'_>, slot: u32, number: u32, lane: Asked) {
        let change = self.groups.join(text, groups::Member::Session { slot, number, lane });
        self.router.charge(pattern, Subscriber::session(slot, false).into());
        self.follow(pattern, change, true);
        self.shards.count_members(text, change.here, change.here == 1);
    }

    /// It goes on to take part, and wants its messages in this lane, or in none of its own.
    pub(super) fn set_member_lane(&mut self, text: &str, slot: u32, number: u32, lane: Asked) {
        self.groups.change(text, groups::Member::Session { slot, number, lane });
    }

    /// It takes part no more. False if it did not.
    pub(super) fn part(&mut self, text: &str, pattern: Pattern<'_>, slot: u32, number: u32) -> bool {
        let Some(change) = self.groups.leave(text, groups::Member::Session { slot, number, lane: Asked::default() })
        else {
            return false;
        };
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
    /// if need be. Says who has it.
    pub(super) fn publish<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: &mut Publisher<'_>,
        subject: Subject<'_>,
        message: &mut Message<'_>,
    ) -> Reach {
        self.publish_to(Aim::All, cx, table, publisher, subject, message)
    }

    /// Hands what the session in this slot did not get as a member of groups to others of these, also to its own others if it
    /// goes on as `me`. Says for how many messages there is nobody.
    pub(super) fn give_back<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        slot: u32,
        mut me: Option<&mut Me<'_>>,
        returns: Vec<(Box<str>, Bytes, Option<Instant>)>,
    ) -> u64 {
        let limits = foreign::limits(cx.config.subjects);
        let mut left = 0;
        for (text, frame, expires) in returns {
            let group = self.groups.named(groups::parts(&text).1);
            let subject = Subject::from_bytes(subject_of(&frame), &limits);
            let given = group.zip(subject.ok()).is_some_and(|(group, subject)| {
                let party = Party::Session(slot);
                let mut throttle = Throttle::default();
                let mut publisher = match &mut me {
                    Some(me) => Publisher::session(me),
                    None => Publisher::absent(party, &mut throttle, None),
                };
                let mut message = Message::returned(&frame, expires);
                self.publish_to(Aim::Group(group), cx, table, &mut publisher, subject, &mut message).subscribers > 0
            });
            cx.stats.requeued += u64::from(given);
            left += u64::from(!given);
        }
        left
    }

    /// As [`publish`](Self::publish), aimed at some of them.
    pub(super) fn publish_to<P: Peer>(
        &mut self,
        aim: Aim,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: &mut Publisher<'_>,
        subject: Subject<'_>,
        message: &mut Message<'_>,
    ) -> Reach {
        // Where it was published: what is told of it elsewhere is the same message.
        let is_here = matches!(aim, Aim::All | Aim::Here);
        let found = self.look_up(aim, subject, is_here.into());
        let (mut wanted, shards) = self.wanted(aim, found);
        let mut delivery = Delivery::new(cx, table, shards, publisher, subject, message);
        delivery.charge(found.work);
        let reach = wanted.hand(&mut delivery);
        let reached = delivery.finish(reach);
        self.reach = reach;
        reached
    }

    /// Finds out who wants a message on this subject, which is counted as so many.
    #[inline(never)]
    fn look_up(&mut self, aim: Aim, subject: Subject<'_>, count: u32) -> Found {
        let Self { router, shards, wanted_by, .. } = self;
        let gateway = shards.gateway();
        let its_number = gateway.map_or(u32::MAX, |index| Subscriber::Every(Party::Shard(index)).into());
        let is_here = matches!(aim, Aim::All | Aim::Here);
        let mut is_for_gateway = false;
        wanted_by.clear();
        let steps = router.route_counted(subject, count, |number| {
            if number == its_number {
                is_for_gateway = is_here;
            } else {
                wanted_by.push(number);
            }
        });
        let work = steps / turn::STEPS + wanted_by.len() as u32;
        let mut elsewhere = 0;
        match aim {
            Aim::Group(_) => wanted_by.retain(|number| matches!(Subscriber::from(*number), Subscriber::Share(_))),
            Aim::Here => {
                let all = wanted_by.len();
                wanted_by.retain(|number| !matches!(Subscriber::from(*number), Subscriber::Every(Party::Shard(_))));
                elsewhere = (all - wanted_by.len()) as u32;
            }
            Aim::All | Aim::Each => {}
        }
        let aloof = gateway.filter(|_| is_here && !is_for_gateway);
        Found { work, elsewhere, gateway: gateway.filter(|_| is_for_gateway), aloof }
    }

    /// Those who were found last, and the shards.
    #[inline]
    fn wanted(&mut self, aim: Aim, found: Found) -> (Wanted<'_>, &mut Shards) {
        let Self { router, groups, shards, wanted_by, shares, .. } = self;
        let Found { elsewhere, gateway, aloof, .. } = found;
        (Wanted { router, groups, aim, by: wanted_by, shares, gateway, aloof, elsewhere }, shards)
    }

    /// Hands messages of another shard in one lane, whole MSGs that follow each other, to the sessions here.
    pub(super) fn publish_relayed<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        shard: u8,
        (lane, mut frames): (Lane, Bytes),
        expires: Option<Instant>,
    ) {
        let Some(mut throttle) = self.shards.throttle(shard).map(core::mem::take) else { return };
        let bytes = frames.len();
        let (mut about, mut answers) = (About::default(), Vec::new());
        // The shard wrote them.
        while let Some(len) = frames.first_chunk().map(|announced| LENGTH + u32::from_be_bytes(*announced) as usize) {
            let frame = frames.split_to(len.min(frames.len()));
            let is_over = expires.is_some_and(|at| at <= cx.now);
            cx.stats.expired += u64::from(is_over);
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
                let (_, properties) = parsed.message().unwrap_or_default();
                let (group, ticket, stamp) = (properties.group(), properties.ticket(), properties.stamp());
                let latest = properties.supersedes();
                if is_over {
                    // Nobody gets it, but what was the last value before is so no more.
                    if let Some((stamp, _)) = stamp {
                        self.keep_relayed(cx, (stamp, shard), subject.as_str(), None, (expires, Duration::ZERO));
                    }
                    continue;
                }
                let aim = match group.map(|(name, _)| self.groups.named(name)) {
                    None => Aim::Each,
                    Some(Some(group)) => Aim::Group(group),
                    Some(None) => {
                        cx.stats.unrouted += 1; // its last member has left meanwhile
                        continue;
                    }
                };
                let mut message = match stamp {
                    None => Message::relayed(&frame, expires, self.share_from()),
                    Some(stamp) => {
                        let message = Message::kept(&frame, expires, self.share_from());
                        // One with a ticket lies among others, and would keep all of them.
                        let alone = ticket.and_then(|_| message.stamped(stamp.0, stamp.1));
                        let value = alone.as_ref().unwrap_or(&frame);
                        let value = Some(value).filter(|_| stamp.1);
                        self.keep_relayed(cx, (stamp.0, shard), subject.as_str(), value, (expires, Duration::ZERO));
                        message
                    }
                };
                message.set_lane(lane);
                message.set_latest(latest);
                message.set_asked(group.map(|(_, asked)| asked));
                // If it goes on from here it is asked about from here.
                let mine = ticket.filter(|_| aim != Aim::Each).map(|_| self.receipts.ticket());
                message.set_ticket(mine);
                let mut publisher = Publisher::absent(Party::Shard(shard), &mut throttle, Some(&mut about));
                let reach = self.publish_to(aim, cx, table, &mut publisher, subject, &mut message);
                cx.stats.unrouted += u64::from(reach.subscribers == 0 && aim != Aim::Each);
                if let Some(ticket) = ticket {
                    let known = mine.map(|mine| self.receipts.relayed(mine, shard, ticket, reach));
                    answers.push((ticket, known.unwrap_or(reach.sessions)));
                }
            }
        }
        if let Some(place) = self.shards.throttle(shard) {
            *place = throttle;
        }
        self.shards.has_placed(shard, bytes, about, answers);
    }

    // --- back-pressure ---

    /// Looks again at whether a publisher is to be held back.
    pub(super) fn review<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: &mut Publisher<'_>,
    ) {
        delivery::review(cx, table, &mut self.shards, publisher);
    }

    /// The same for all shards as publishers.
    pub(super) fn review_shards<P: Peer>(&mut self, cx: &mut Context<P>, table: &mut Table<P, Session>) {
        while let Some(shard) = self.shards.due(cx.now) {
            let Some(mut throttle) = self.shards.throttle(shard).map(core::mem::take) else { return };
            self.review(cx, table, &mut Publisher::absent(Party::Shard(shard), &mut throttle, None));
            if let Some(place) = self.shards.throttle(shard) {
                *place = throttle;
            }
            self.shards.tell_again(shard);
        }
    }

    /// Finds out how those are off now whom other shards publish to, and who had enough when they did.
    pub(super) fn review_receivers<P: Peer>(&mut self, cx: &mut Context<P>, table: &mut Table<P, Session>) {
        for shard in 0..self.shards.count() {
            if let Some(Party::Session(slot)) = self.shards.least_loaded(shard) {
                let load = table.get_mut(slot).map(|slot| {
                    let Receiver { queue, outlet, .. } = slot.session.receiver();
                    outlet.load(cx, queue, 1)
                });
                if load.is_none_or(|load| load == 0) {
                    self.shards.set_unloaded(shard);
                }
            }
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
