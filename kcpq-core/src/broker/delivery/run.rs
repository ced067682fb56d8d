//! A run that is handed to its subscribers: to each of them all its messages at once.

use super::{Publisher, Reached, ToMember};
use crate::broker::context::Context;
use crate::broker::groups::{self, Groups};
use crate::broker::outlet::Level;
use crate::broker::party::Party;
use crate::broker::peer::Peer;
use crate::broker::run::{Alike, Room, Run};
use crate::broker::session::{Receiver, Session};
use crate::broker::shards::Shards;
use crate::broker::table::Table;
use crate::broker::turn::Turn;
use crate::frame::properties;
use crate::lane::Lane;
use crate::subject::Subject;

/// As a [`Delivery`](super::Delivery) of each of its messages, of whom everybody takes each.
pub(in crate::broker) struct RunDelivery<'d, 'p, P: Peer> {
    reached: Reached<'d, 'p, P>,
    subject: Subject<'d>,
    /// The lane in which it was published.
    lane: Lane,
    /// How many of its subscribers are sessions.
    sessions: u32,
    /// One of its subscribers that have least waiting, by number.
    least: Option<Level>,
    other: u32,
}

impl<'d, 'p, P: Peer> RunDelivery<'d, 'p, P> {
    pub(in crate::broker) fn new(
        cx: &'d mut Context<P>,
        table: &'d mut Table<P, Session>,
        shards: &'d mut Shards,
        publisher: &'d mut Publisher<'p>,
        subject: Subject<'d>,
        lane: Lane,
    ) -> Self {
        let reached = Reached { cx, table, shards, publisher };
        Self { reached, subject, lane, sessions: 0, least: None, other: 0 }
    }

    /// The turn that the work is counted in.
    pub(in crate::broker) fn turn(&mut self) -> &mut Turn {
        &mut self.reached.cx.turn
    }

    /// How much there is room for in all queues together, if so many parties take it.
    pub(in crate::broker) fn room_in_all(&self, parties: usize) -> Room {
        let Context { config, stats, .. } = &*self.reached.cx;
        let left = (config.max_queued_total / 2).saturating_sub(stats.queued as usize);
        Room { bytes: left.checked_div(parties).unwrap_or(left), ..Room::MOST }
    }

    /// How much there is room for at one of them, if the first message has so many bytes. `None` if each has to be looked at.
    pub(in crate::broker) fn room(&mut self, to: Party, first: usize) -> Option<Room> {
        let (cx, mut receiver) = self.reached.receiver(to, false)?;
        let lane = receiver.lane_of(self.subject, self.lane);
        let Receiver { queue, outlet, pass, .. } = receiver;
        if pass.is_some_and(|pass| pass.is_filtered && !cx.may_receive(pass, self.subject)) {
            return Some(Room::MOST); // it does not get them
        }
        outlet.room(cx, queue, lane, first)
    }

    /// Deals messages to the members of a group, whose only share this is: to each in turn a run, as far as they take all of it and the
    /// turn lasts. Says how many they were, and of how many bytes; `None` if nobody takes the first one like that.
    pub(in crate::broker) fn deal(
        &mut self,
        groups: &mut Groups,
        found: groups::Found,
        messages: Alike<'_>,
        each: u32,
    ) -> Option<(u32, usize)> {
        let (now, mut rest) = (self.reached.cx.now, messages.known());
        let (mut count, mut len) = (0, 0);
        let longest = groups::TURN.checked_div(rest.first_len() + properties::MEMBER + properties::END).unwrap_or(1);
        while rest.count() > 0 {
            let Self { reached, subject, .. } = self;
            let load = |member| reached.load(*subject, member, true);
            let Some(next) = groups.next(found, (now, rest.count(), longest as u32), load) else { break };
            let ToMember { to, lane, mut property } = ToMember::new(next.member, 0, groups.name(found.share));
            let end = properties::end(property.len());
            // There is room for that as well.
            let _ = property.extend_from_slice(&end);
            let lane = lane.unwrap_or(self.lane);
            let here = self.room_in_all(1);
            let Some((cx, Receiver { queue, outlet, .. })) = self.reached.receiver(to, true) else { break };
            let first = rest.first_len() + property.len();
            let room = outlet.room(cx, queue, lane, first).map(|room| Room { count: next.due, ..room.and(here) });
            let Some(room) = room.filter(|room| room.fits(first)) else {
                groups.give_up(found, &next);
                break;
            };
            let mut run = rest.take(&property, room, (&mut cx.turn, each));
            if run.count() == 0 {
                break;
            }
            outlet.admit_run(cx, queue, &mut run, lane);
            if matches!(to, Party::Session(_)) {
                cx.stats.fan_out.record_many(1, run.count());
            }
            self.reached.publisher.throttle.on_served(now, to);
            groups.give(found, &next, run.count());
            (count, len) = (count + run.count(), len + run.len());
        }
        Some((count, len)).filter(|(count, _)| *count > 0)
    }

    /// Hands it to one of them.
    pub(in crate::broker) fn hand_to(&mut self, to: Party, run: &mut Run<'_>) {
        let Some((cx, mut receiver)) = self.reached.receiver(to, true) else { return };
        self.sessions += u32::from(matches!(to, Party::Session(_)));
        let lane = receiver.lane_of(self.subject, self.lane);
        let Receiver { queue, outlet, pass, .. } = receiver;
        if pass.is_some_and(|pass| pass.is_filtered && !cx.may_receive(pass, self.subject)) {
            cx.stats.messages_withheld += u64::from(run.count());
            outlet.counts.withheld += u64::from(run.count());
            return;
        }
        outlet.admit_run(cx, queue, run, lane);
        let level = outlet.level(cx, queue);
        if self.least.is_none_or(|least| level <= least) {
            (self.least, self.other) = (Some(level), to.into());
        }
    }

    /// What follows from it for the publisher, if its messages have had so many subscribers each; `stays_here` if the gateway is not
    /// handed them.
    pub(in crate::broker) fn finish(self, run: &Run<'_>, subscribers: u32, stays_here: bool) {
        let Reached { cx, publisher, .. } = self.reached;
        cx.stats.no_interest += if stays_here { u64::from(run.count()) } else { 0 };
        if self.sessions > 0 || subscribers == 0 {
            cx.stats.fan_out.record_many(u64::from(self.sessions), run.count());
        }
        if self.least.is_some() {
            publisher.throttle.on_served(cx.now, self.other.into());
        }
    }
}
