//! What SUB and UNSUB do.

use alloc::boxed::Box;
use alloc::format;

use bytes::BytesMut;

use super::{Dispatch, MAX_TEXT, cut, push};
use crate::broker::foreign;
use crate::broker::groups::{parts, text};
use crate::broker::membership::{self, Membership};
use crate::broker::peer::Peer;
use crate::broker::presence::{SUBSCRIBED, UNSUBSCRIBED};
use crate::broker::session::Me;
use crate::broker::turn;
use crate::frame::{Frame, command};
use crate::hello::{Ack, Refusal, Subscribe, is_group};
use crate::lane::{Asked, Lane};
use crate::outbox::HeapOutbox;
use crate::subject::Pattern;

impl<P: Peer> Dispatch<'_, P> {
    pub(super) fn subscribe(&mut self, frame: Frame<'_>) {
        self.cx.turn.charge(turn::ENTRY);
        let record = self.record(frame.payload);
        let number = record.map(|record| record.number);
        let limits = self.cx.config.subjects;
        let written;
        let pattern = match Pattern::from_bytes(frame.subject, &limits) {
            Err(_) if !self.me.member.native => {
                written = foreign::pattern(frame.subject, &limits);
                written.as_deref().map_err(|error| *error).and_then(|text| Pattern::new(text, &foreign::limits(limits)))
            }
            parsed => parsed,
        };
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(error) => {
                self.tell_refused(error);
                return self.refuse(number, Refusal::InvalidPattern, &format!("{error}"));
            }
        };
        if (self.cx.guard.is_some() || pattern.is_reserved()) && !self.may_subscribe(pattern) {
            let text = format!("not permitted to subscribe to {}", pattern.as_str());
            return self.refuse(number, Refusal::NotPermitted, &text);
        }
        if let Some(record) = &record
            && (record.stored.is_some() || record.durable.is_some())
        {
            return self.subscribe_stored(record, pattern);
        }
        if let Some(Subscribe { number, group: Some(group), lane, .. }) = record {
            return self.join(number, pattern, group, lane);
        }
        let latest = record.is_some_and(|record| record.latest);
        let Me { id, member, .. } = &mut self.me;
        let above = number.is_some_and(|number| number > member.asked);
        member.asked = member.asked.max(number.unwrap_or_default());
        let is_new = !member.patterns.contains_key(pattern.as_str());
        if let Some(known) = member.patterns.get_mut(pattern.as_str()) {
            // Asked for again, perhaps in another way.
            if core::mem::replace(known, latest) != latest {
                self.hub.change(pattern, id.slot, latest);
            }
        } else {
            let limit = self.cx.max_subscriptions(member.pass.as_deref());
            if member.subscriptions() >= limit {
                let text = format!("too many subscriptions: the limit is {limit} for each session");
                return self.refuse(number, Refusal::TooManySubscriptions, &text);
            }
            if let Err(excess) = self.hub.admits(pattern, id.slot, latest) {
                return self.refuse(number, Refusal::TooManySubscriptions, &format!("{excess}"));
            }
            member.patterns.insert(pattern.as_str().into(), latest);
            self.hub.subscribe(pattern, id.slot, latest);
            self.cx.stats.subscriptions += 1;
            self.cx.say_subscription(self.hub, SUBSCRIBED, (*id, member), pattern.as_str(), None);
        }
        self.me.member.set_lane(self.cx.seed, pattern, record.and_then(|record| record.lane));
        // One that is asked for again has got them; another one of the same pattern is told them as its own.
        let wants_kept = record.map_or_else(|| self.hub.kept.is_for_original(), |record| !record.without_kept);
        if wants_kept && (is_new || above && self.me.member.outlet.is_extended()) {
            self.hub.begin_catch_up(self.cx, &mut self.me, pattern.as_str(), number.unwrap_or_default());
        }
        self.acknowledge(number, "subscribed to ", frame.subject);
    }

    /// A SUB of a pattern in a queue group.
    fn join(&mut self, number: u32, pattern: Pattern<'_>, group: &str, lane: Option<Lane>) {
        let (seed, Me { id, member, .. }) = (self.cx.seed, &mut self.me);
        let refusal = if !is_group(group) {
            Some("the name of a queue group is 1 to 64 bytes without spaces and control characters")
        } else if !member.outlet.is_extended() {
            Some("queue groups are for clients that know properties of messages")
        } else {
            None
        };
        if let Some(text) = refusal {
            return self.refuse(Some(number), Refusal::InvalidPattern, text);
        }
        let text = text(pattern.as_str(), group);
        let lane = lane.map(Asked::of).unwrap_or_default();
        let known = member.membership.as_ref().and_then(|membership| membership.get(number));
        if known != Some(&text) {
            let limit = self.cx.max_subscriptions(member.pass.as_deref());
            let in_groups = member.membership.as_ref().map_or(0, |membership| membership.len());
            if member.subscriptions() >= limit || in_groups >= membership::MAX {
                let limit = limit.min(membership::MAX);
                let text = format!("too many subscriptions in queue groups: the limit is {limit} for each session");
                return self.refuse(Some(number), Refusal::TooManySubscriptions, &text);
            }
            if let Err(excess) = self.hub.admits(pattern, id.slot, false) {
                return self.refuse(Some(number), Refusal::TooManySubscriptions, &format!("{excess}"));
            }
            // A number that is used again is another subscription's from here on.
            self.part(number);
            let Me { id, member, .. } = &mut self.me;
            member.membership.get_or_insert_with(|| Box::new(Membership::new(seed))).insert(number, &text);
            self.hub.join(&text, pattern, id.slot, number, lane);
            self.cx.stats.subscriptions += 1;
            self.cx.say_subscription(self.hub, SUBSCRIBED, (*id, member), pattern.as_str(), Some(group));
        } else {
            self.hub.set_member_lane(&text, id.slot, number, lane);
        }
        self.acknowledge(Some(number), "", pattern.as_str().as_bytes());
    }

    /// Ends a subscription in a queue group. What waits for it goes to others of the group. False if there is none of this
    /// number.
    fn part(&mut self, number: u32) -> bool {
        let Self { cx, hub, table, me, .. } = self;
        let Some(membership) = &mut me.member.membership else { return false };
        let Some(text) = membership.get(number).map(Box::<str>::from) else { return false };
        let mut parted = false;
        if let Ok(pattern) = Pattern::new(parts(&text).0, &foreign::limits(cx.config.subjects))
            && hub.part(&text, pattern, me.id.slot, number)
        {
            cx.stats.subscriptions -= 1;
            parted = true;
        }
        if membership.may_search(cx.now) {
            let returns = membership.take_from(me.queue, Some(number));
            membership.remove(number);
            let left = hub.give_back(cx, table, me.id.slot, Some(me), returns);
            cx.stats.dropped_closed += left;
        } else {
            membership.remove(number);
        }
        if parted {
            let (pattern, group) = parts(&text);
            cx.say_subscription(hub, UNSUBSCRIBED, (me.id, me.member), pattern, Some(group));
        }
        true
    }

    pub(super) fn unsubscribe(&mut self, frame: Frame<'_>) {
        self.cx.turn.charge(turn::ENTRY);
        let number = self.record(frame.payload).map(|record| record.number);
        if let Some(number) = number
            && (self.part(number) || self.end_replay(number))
        {
            return self.acknowledge(Some(number), "", frame.subject);
        }
        let limits = self.cx.config.subjects;
        let written;
        let pattern = match Pattern::from_bytes(frame.subject, &limits) {
            Err(_) if !self.me.member.native => {
                written = foreign::pattern(frame.subject, &limits).unwrap_or_default();
                Pattern::new(&written, &foreign::limits(limits))
            }
            parsed => parsed,
        };
        if let Ok(pattern) = pattern
            && let Some(latest) = self.me.member.patterns.remove(pattern.as_str())
        {
            self.me.member.set_lane(self.cx.seed, pattern, None);
            self.hub.unsubscribe(pattern, self.me.id.slot, latest);
            self.cx.stats.subscriptions -= 1;
            self.cx.say_subscription(self.hub, UNSUBSCRIBED, (self.me.id, self.me.member), pattern.as_str(), None);
            if let Some(catch_up) = &mut self.me.member.catch_up {
                catch_up.forget(pattern.as_str());
            }
        }
        // Also when it was never subscribed, as the original does (PROTOCOL.md 3.2).
        self.acknowledge(number, "unsubscribed from ", frame.subject);
    }

    /// What a native SUB or UNSUB says besides the pattern.
    fn record<'p>(&self, payload: &'p [u8]) -> Option<Subscribe<'p>> {
        Subscribe::decode(payload).filter(|_| self.me.member.native)
    }

    /// By number to a native client, else OK with the text.
    pub(super) fn acknowledge(&mut self, number: Option<u32>, prefix: &str, pattern: &[u8]) {
        if let Some(number) = number {
            return self.answer(command::ACK, &[], &Ack { number, refusal: None }.encode());
        }
        // Too long a text would end an original client's session; the bare pattern does as well (docs/original.md 5.1,
        // 5.3).
        let prefix = if prefix.len() + pattern.len() > MAX_TEXT { "" } else { prefix };
        let mut text = BytesMut::with_capacity(prefix.len() + pattern.len());
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(pattern);
        self.answer(command::OK, &text, &[]);
    }

    /// By number to a native client, else ERR with the text.
    pub(super) fn refuse(&mut self, number: Option<u32>, refusal: Refusal, text: &str) {
        self.cx.turn.charge(turn::ENTRY);
        self.cx.stats.subscriptions_refused += 1;
        match number {
            Some(number) => {
                self.answer(command::ACK, text.as_bytes(), &Ack { number, refusal: Some(refusal) }.encode());
            }
            None => self.answer(command::ERR, cut(text).as_bytes(), &[]),
        }
    }

    /// Answers a SUB or UNSUB, once all shards know what was asked of them. Later answers do not overtake it.
    fn answer(&mut self, command: u8, subject: &[u8], payload: &[u8]) {
        if !self.hub.shards.are_asked() {
            return self.reply(command, subject, payload);
        }
        let mut answer = HeapOutbox::default();
        push(&mut answer, command, subject, payload);
        self.me.member.unanswered += 1;
        self.hub.shards.answer_later(self.me.id, answer);
    }
}
