//! Where messages meet their subscribers: the router, and what follows from what it says.
//!
//! Publishers and subscribers look alike here, whether they are sessions or other shards.

use alloc::vec::Vec;

use bytes::Bytes;

use super::context::Context;
use super::foreign;
use super::message::Message;
use super::outlet::Outlet;
use super::party::{Party, Subscriber};
use super::peer::Peer;
use super::session::Session;
use super::shards::Shards;
use super::table::Table;
use super::throttle::Throttle;
use crate::frame::{Frame, LENGTH};
use crate::outbox::HeapOutbox;
use crate::router::Router;
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
    pub(super) party: Party,
    pub(super) throttle: &'p mut Throttle,
    /// What waits for it as a subscriber: a session that is read is not in the table meanwhile. A shard gets nothing back.
    pub(super) own: Option<(&'p mut HeapOutbox, &'p mut Outlet)>,
}

impl Hub {
    pub(super) fn new(seed: u64, shards: Shards) -> Self {
        Self { router: Router::new(seed), shards, deferred: Vec::new(), reach: 0 }
    }

    /// Patterns registered, each counted once.
    pub(super) fn patterns(&self) -> usize {
        self.router.patterns()
    }

    /// How many subscribers the last message had: the next one is likely to have as many.
    pub(super) fn reach(&self) -> u32 {
        self.reach
    }

    // --- subscriptions ---

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

    /// Hands a message to everybody who wants it, each once. False if nobody does.
    pub(super) fn publish<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: Publisher<'_>,
        subject: Subject<'_>,
        message: Message<'_>,
    ) -> bool {
        let Self { router, shards, deferred, reach } = self;
        let mut delivery = Delivery { cx, table, shards, publisher, message };
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
                let message = Message::relayed(&frame, expires, self.reach);
                let publisher = Publisher { party: Party::Shard(shard), throttle: &mut throttle, own: None };
                self.publish(cx, table, publisher, subject, message);
            }
        }
        if let Some(place) = self.shards.throttle(shard) {
            *place = throttle;
        }
        self.shards.has_placed(shard, bytes, cx.now);
    }
}

/// A message that is handed to its subscribers, one after the other.
struct Delivery<'d, P: Peer> {
    cx: &'d mut Context<P>,
    table: &'d mut Table<P, Session>,
    shards: &'d mut Shards,
    publisher: Publisher<'d>,
    message: Message<'d>,
}

impl<P: Peer> Delivery<'_, P> {
    fn hand_to(&mut self, to: Subscriber) {
        let Self { cx, table, shards, publisher, message } = self;
        let (queue, outlet) = match to.party {
            party if party == publisher.party => match &mut publisher.own {
                Some((queue, outlet)) => (&mut **queue, &mut **outlet),
                None => return,
            },
            Party::Session(slot) => match table.wake(slot) {
                Some(slot) => slot.session.outlet(),
                None => return,
            },
            // What comes from a shard has gone to the others from there.
            Party::Shard(_) if matches!(publisher.party, Party::Shard(_)) => return,
            Party::Shard(index) => match shards.outlet(index) {
                Some(outlet) => outlet,
                None => return,
            },
        };
        let slow = outlet.admit(cx, queue, message, to.latest);
        if let Some(until) = outlet.holds_until(cx, queue) {
            cx.stats.stalls += u64::from(publisher.throttle.hold(until));
            outlet.hold(publisher.party);
        }
        if slow && let Party::Session(slot) = to.party {
            cx.slow.push_back(slot);
        }
    }
}
