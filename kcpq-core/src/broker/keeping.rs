//! How last values are taken in, told to the other shards, and given to those who subscribe later.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use bytes::Bytes;

use super::context::Context;
use super::delivery::{Aim, Delivery, Publisher};
use super::foreign;
use super::hub::Hub;
use super::kept::{Cursor, NotKept, Stamp, Step};
use super::message::Message;
use super::party::Party;
use super::peer::Peer;
use super::receipts::Reach;
use super::session::{Me, Member, Session, asked_for};
use super::table::Table;
use crate::frame::{Frame, command, properties};
use crate::lane::Lane;
use crate::subject::{Subject, is_reserved};
use crate::time::{Duration, Instant};

/// The patterns of which a session is still to be given what was kept when it subscribed. What has come since it has
/// got.
#[derive(Default)]
pub(super) struct CatchUp(VecDeque<Wanted>);

struct Wanted {
    pattern: Box<str>,
    /// Of the subscription that asked; 0 if it has none.
    number: u32,
    /// How far it has come.
    cursor: Cursor,
    /// The last change of the values before it subscribed.
    until: u64,
}

/// Steps of a search in one turn of a session.
const STEPS: u32 = 256;
/// Patterns of which a session may still get something before it is not read any more.
pub(super) const MAX_WANTED: usize = 64;

impl CatchUp {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing more of this pattern is wanted.
    pub(super) fn forget(&mut self, pattern: &str) {
        self.0.retain(|wanted| *wanted.pattern != *pattern);
    }
}

impl Hub {
    // --- in ---

    /// As [`publish`](Self::publish), for what is to be the last value of its subject: every other shard gets it, for
    /// the same.
    ///
    /// # Errors
    /// Why it is not kept, besides.
    #[inline(never)]
    pub(super) fn publish_kept<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: &mut Publisher<'_>,
        subject: Subject<'_>,
        message: &mut Message<'_>,
    ) -> (Reach, Result<(), NotKept>) {
        // In the lane of those that are told the value later: so none comes in the wrong order.
        message.set_lane(Lane::NORMAL);
        message.set_latest(false);
        let verdict = self.kept.judge(subject.as_str(), message.len_kept(), message.is_blank());
        let stamp = self.kept.stamp(cx.now);
        let keeps = verdict == Ok(true);
        // What is refused takes an older value away; if there is none nobody need know.
        let changes = verdict.is_ok() || self.kept.has(subject.as_str());
        let Some(frame) = changes.then(|| message.stamped(stamp, keeps)).flatten() else {
            return (self.publish(cx, table, publisher, subject, message), verdict.map(drop));
        };
        let (own, shared) = (cx.shard.0 as u8, self.shards.brokers() > 1);
        let value = keeps.then(|| frame.clone());
        let expires = message.expires();
        let gateway = self.shards.shares_values();
        let may_come = shared || gateway.is_some();
        self.kept.put((cx.now, Duration::ZERO), subject.as_str(), value, (stamp, own), expires, may_come);
        gateway.into_iter().for_each(|gateway| self.shards.note_value(gateway, subject.as_str(), stamp));
        let mut elsewhere = 0;
        if shared {
            let mut whole = Message::whole(&frame, expires);
            whole.set_ticket(message.ticket());
            let count = self.shards.brokers();
            let mut delivery = Delivery::new(cx, table, &mut self.shards, publisher, subject, &mut whole);
            (0..count).for_each(|shard| delivery.hand_to(Party::Shard(shard), false, &[]));
            elsewhere = delivery.finish(1).shards;
            (0..count).for_each(|shard| self.shards.note_value(shard, subject.as_str(), stamp));
        }
        let mut reach = self.publish_to(Aim::Here, cx, table, publisher, subject, message);
        reach.shards += elsewhere;
        (reach, verdict.map(drop))
    }

    /// What another shard, or the gateway, says of the last value of a subject: this frame, or none, and for how long it has been
    /// that. One whose time is over is none.
    #[inline(never)]
    pub(super) fn keep_relayed<P>(
        &mut self,
        cx: &mut Context<P>,
        (stamp, shard): Stamp,
        subject: &str,
        frame: Option<&Bytes>,
        (expires, age): (Option<Instant>, Duration),
    ) {
        let frame = frame.filter(|_| expires.is_none_or(|at| at > cx.now));
        let verdict = self.kept.judge(subject, frame.map_or(0, |frame| frame.len()), frame.is_none());
        // There was room where it came from; here others were first.
        cx.stats.kept_refused += u64::from(verdict.is_err());
        let value = frame.filter(|_| verdict == Ok(true)).cloned();
        self.kept.put((cx.now, age), subject, value, (stamp, shard), expires, true);
    }

    /// Keeps a value of the server's last life, which had this `age` and is worth something for so long.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn restore<P>(
        &mut self,
        cx: &Context<P>,
        frame: &Bytes,
        age: Duration,
        left: Option<Duration>,
    ) -> Result<(), NotKept> {
        let parsed = Frame::parse(frame, &cx.config.frames).map_err(|_| NotKept::Malformed)?;
        let written = foreign::subject(parsed.subject, &cx.config.subjects).map_err(|_| NotKept::Malformed)?;
        if is_reserved(written.as_bytes()) {
            return Err(NotKept::Malformed); // no client has published that
        }
        let expires = left.map(|left| cx.now + left);
        let message = Message::kept(frame, expires, usize::MAX);
        let keeps = self.kept.judge(&written, message.len_kept(), message.is_blank())?;
        let stamped = parsed.message().and_then(|(_, properties)| properties.stamp());
        let whole = parsed.command == command::MSGX && parsed.encoded_len() == frame.len();
        let (stamp, value) = match stamped.filter(|_| whole) {
            // All shards have the same bytes.
            Some((stamp, true)) => (stamp, Some(frame.clone())),
            _ => {
                // The same in all shards, which are told of the same ones in the same order.
                let stamp = self.kept.changes() + 1;
                (stamp, message.stamped(stamp, true))
            }
        };
        let value = value.filter(|_| keeps).ok_or(NotKept::Malformed)?;
        self.kept.put((cx.now, age), &written, Some(value), (stamp, 0), expires, false);
        Ok(())
    }

    // --- out ---

    /// A session has subscribed, by this number: it is to be given what is kept.
    #[inline(never)]
    pub(super) fn begin_catch_up<P: Peer>(&self, cx: &mut Context<P>, me: &mut Me<'_>, pattern: &str, number: u32) {
        if self.kept.size().0 == 0 {
            return;
        }
        let wanted = Wanted { pattern: pattern.into(), number, cursor: Cursor::default(), until: self.kept.changes() };
        me.member.catch_up.get_or_insert_default().0.push_back(wanted);
        self.catch_up(cx, me);
    }

    /// Gives a session more of what was kept when it subscribed, as far as its queue takes it without being full. True
    /// if there is more that it could be given at once.
    pub(super) fn catch_up<P: Peer>(&self, cx: &mut Context<P>, me: &mut Me<'_>) -> bool {
        let Me { queue, member, .. } = me;
        if member.is_half_open() {
            return false; // its first answer has to fit what it may be sent
        }
        let Member { catch_up: Some(catch_up), outlet, pass, lanes, .. } = &mut **member else { return false };
        let limits = foreign::limits(cx.config.subjects);
        let mut steps = STEPS;
        while let Some(wanted) = catch_up.0.front_mut() {
            let (subject, value) = match self.kept.next(&wanted.pattern, &mut wanted.cursor, &mut steps) {
                Step::Found(subject, value) => (subject, value),
                Step::Pause => return true,
                Step::End => {
                    catch_up.0.pop_front();
                    continue;
                }
            };
            // It has got what has come since.
            if value.number > wanted.until || value.is_over(cx.now) {
                continue;
            }
            if !outlet.has_appetite(cx, queue, value.frame.len()) {
                wanted.cursor = Cursor::at(subject);
                return false;
            }
            if let Some(pass) = pass.as_deref_mut().filter(|pass| pass.is_filtered)
                && Subject::new(subject, &limits).is_ok_and(|subject| cx.withholds(pass, subject))
            {
                outlet.counts.withheld += 1;
                continue;
            }
            let mut message = Message::kept(&value.frame, value.expires, usize::MAX);
            let said = properties::kept(value.age(cx.now), wanted.number);
            let more = if outlet.is_extended() { &said[..] } else { &[] };
            let before = outlet.counts.messages_out;
            let asked = Subject::new(subject, &limits).ok().zip(lanes.as_deref_mut());
            let lane = asked.and_then(|(subject, lanes)| asked_for(lanes, subject)).unwrap_or_default();
            outlet.admit(cx, queue, &mut message, lane, false, more);
            cx.stats.kept_delivered += outlet.counts.messages_out - before;
        }
        member.catch_up = None;
        false
    }
}
