//! Where messages meet their subscribers: the router, and what follows from what it says.
//!
//! Publishers and subscribers look alike here, whether they are sessions or other shards.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use super::context::Context;
use super::foreign;
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
use crate::frame::{Frame, LENGTH};
use crate::outbox::HeapOutbox;
use crate::router::{Place, Router, TooManyShapes};
use crate::subject::{Pattern, Subject};
use crate::time::Instant;

/// See above.
pub(super) struct Hub {
    router: Router,
    pub(super) shards: Shards,
    /// Subscribers to the latest only of the message that is being routed; empty between messages.
    deferred: Vec<Subscriber>,
    /// How many subscribers the last message had.
    reach: u32,
}

/// Whose message it is.
pub(super) struct Publisher<'p> {
    party: Party,
    throttle: &'p mut Throttle,
    /// What waits for it as a subscriber: a session that is read is not in the table meanwhile. A shard gets nothing back.
    own: Option<(&'p mut HeapOutbox, &'p mut Outlet, Option<&'p mut Box<Pass>>)>,
    /// Where to note for how long the least patient of its subscribers can be kept waiting, if it wants to know.
    patience: Option<&'p mut Option<Patience>>,
}

impl<'p> Publisher<'p> {
    /// A session, while it is not in the table.
    pub(super) fn session(me: &'p mut Me<'_>) -> Self {
        let Member { throttle, outlet, pass, .. } = &mut *me.member;
        Self {
            party: Party::Session(me.id.slot),
            throttle,
            own: Some((me.queue, outlet, pass.as_mut())),
            patience: None,
        }
    }

    fn shard(index: u8, throttle: &'p mut Throttle) -> Self {
        Self { party: Party::Shard(index), throttle, own: None, patience: None }
    }
}

impl Hub {
    pub(super) fn new(seed: u64, shards: Shards) -> Self {
        Self { router: Router::new(seed), shards, deferred: Vec::new(), reach: 0 }
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
            let others = shards.clone().filter(|shard| members.contains(*shard)).count();
            if let Some(subscribers) = members.len().checked_sub(others).filter(|count| *count > 0) {
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
        self.router.admits(pattern, Subscriber { party: Party::Session(slot), latest }.into())
    }

    /// A session has a pattern that it had not.
    pub(super) fn subscribe(&mut self, pattern: Pattern<'_>, slot: u32, latest: bool) {
        self.router.subscribe(pattern, Subscriber { party: Party::Session(slot), latest }.into());
        self.shards.want(pattern.as_str());
    }

    /// A session has it in the other way.
    pub(super) fn change(&mut self, pattern: Pattern<'_>, slot: u32, latest: bool) {
        let party = Party::Session(slot);
        self.router.unsubscribe(pattern, Subscriber { party, latest: !latest }.into());
        self.router.subscribe(pattern, Subscriber { party, latest }.into());
    }

    /// A session has it no more.
    pub(super) fn unsubscribe(&mut self, pattern: Pattern<'_>, slot: u32, latest: bool) {
        self.router.unsubscribe(pattern, Subscriber { party: Party::Session(slot), latest }.into());
        self.shards.leave(pattern.as_str());
    }

    /// Whether sessions of a shard have a pattern.
    pub(super) fn set_interest(&mut self, shard: u8, pattern: Pattern<'_>, wanted: bool) {
        let number = Subscriber { party: Party::Shard(shard), latest: false }.into();
        if wanted {
            self.router.subscribe(pattern, number);
            self.shards.has_known(shard);
        } else {
            self.router.unsubscribe(pattern, number);
        }
    }

    // --- messages ---

    /// Hands a message to everybody who wants it, each once, and throttles the publisher if need be. False if nobody wants
    /// it.
    pub(super) fn publish<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: Publisher<'_>,
        subject: Subject<'_>,
        message: &mut Message<'_>,
    ) -> bool {
        let Self { router, shards, deferred, reach } = self;
        let reached = Reached { cx, table, shards, publisher };
        let mut delivery = Delivery { reached, subject, message, sessions: 0, behind: None, other: None };
        *reach = 0;
        router.route(subject, |number| {
            *reach += 1;
            let subscriber = Subscriber::from(number);
            if subscriber.latest {
                // It may match another pattern of this session, which wants every message.
                deferred.push(subscriber);
            } else {
                delivery.hand_to(subscriber);
            }
        });
        for subscriber in deferred.drain(..) {
            if !router.was_told(Subscriber { latest: false, ..subscriber }.into()) {
                delivery.hand_to(subscriber);
            }
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
        let mut patience = None;
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
                let mut message = Message::relayed(&frame, expires, self.share_from());
                let publisher = Publisher { patience: Some(&mut patience), ..Publisher::shard(shard, &mut throttle) };
                self.publish(cx, table, publisher, subject, &mut message);
            }
        }
        if let Some(place) = self.shards.throttle(shard) {
            *place = throttle;
        }
        self.shards.has_placed(shard, bytes, patience);
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
    fn hand_to(&mut self, to: Subscriber) {
        let Reached { cx, table, shards, publisher } = &mut self.reached;
        let (queue, outlet, pass) = match to.party {
            party if party == publisher.party => match &mut publisher.own {
                Some((queue, outlet, pass)) => (&mut **queue, &mut **outlet, pass.as_deref_mut()),
                None => return,
            },
            Party::Session(slot) => match table.wake(slot) {
                Some(slot) => slot.session.receiver(),
                None => return,
            },
            // What comes from a shard has gone to the others from there.
            Party::Shard(_) if matches!(publisher.party, Party::Shard(_)) => return,
            Party::Shard(index) => match shards.outlet(index) {
                Some((queue, outlet)) => (queue, outlet, None),
                None => return,
            },
        };
        self.sessions += u32::from(matches!(to.party, Party::Session(_)));
        if pass.is_some_and(|pass| pass.is_filtered && cx.withholds(pass, self.subject)) {
            outlet.counts.withheld += 1;
            return;
        }
        let slow = outlet.admit(cx, queue, self.message, to.latest);
        let level = outlet.level(cx, queue);
        let mut other = Some((level, to.party));
        if level == Level::Behind
            && outlet.holds_until(cx).is_some()
            // One that need not miss anything comes first.
            && !(outlet.is_lossy(cx) && self.behind.is_some_and(|(lossy, _)| !lossy))
        {
            other = self.behind.replace((outlet.is_lossy(cx), to.party)).map(|(_, party)| (level, party));
        }
        if other.is_some_and(|(level, _)| self.other.is_none_or(|(least, _)| level <= least)) {
            self.other = other;
        }
        if let Some(least) = &mut publisher.patience {
            **least = outlet.patience(cx).into_iter().chain(**least).min();
        }
        if slow && let Party::Session(slot) = to.party {
            cx.slow.push_back(slot);
        }
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
