//! Messages that lie one behind the other and are about the same: who wants them is looked up once.

use super::Hub;
use super::wanted::Wanted;
use crate::broker::context::Context;
use crate::broker::delivery::{Aim, Delivery, Publisher, RunDelivery};
use crate::broker::groups;
use crate::broker::message::{self, Message};
use crate::broker::party::{Party, Subscriber};
use crate::broker::peer::Peer;
use crate::broker::run::{Alike, Room, Run};
use crate::broker::session::Session;
use crate::broker::table::Table;
use crate::lane::{Lane, Priority};
use crate::subject::Subject;

/// What became of messages that were read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Routed {
    /// Bytes of their frames.
    pub(in crate::broker) len: usize,
    pub(in crate::broker) count: u32,
    /// How many of them had no subscriber.
    pub(in crate::broker) unrouted: u32,
}

impl Hub {
    /// Does with messages of `subject` what [`publish`](Self::publish) does with each, from the first on: with as many as are to be read
    /// in this turn before their publisher is held back.
    pub(in crate::broker) fn publish_run<P: Peer>(
        &mut self,
        cx: &mut Context<P>,
        table: &mut Table<P, Session>,
        publisher: &mut Publisher<'_>,
        subject: Subject<'_>,
        (lane, messages): (Lane, Alike<'_>),
    ) -> Routed {
        let Some(first) = messages.frames().next() else { return Routed::default() };
        let mut reach = self.reach;
        let found = self.look_up(Aim::All, subject, 0);
        let (mut wanted, shards) = self.wanted(Aim::All, found);
        let mut delivery = RunDelivery::new(cx, table, shards, publisher, subject, lane);
        let mut routed = Routed::default();
        if let Some(room) = wanted.room(&mut delivery, first.len()) {
            reach = wanted.len() as u32;
            // One alone is given a copy, in memory that is used again.
            let share_from = if reach > 1 { message::share_from(reach) } else { usize::MAX };
            let mut run = Run::read(messages, room, (delivery.turn(), found.work), share_from);
            wanted.parties().for_each(|party| delivery.hand_to(party, &mut run));
            delivery.finish(&run, reach, wanted.aloof.is_some());
            let unrouted = if reach == 0 { run.count() } else { 0 };
            routed = Routed { len: run.len(), count: run.count(), unrouted };
        } else if let Some((count, len)) =
            wanted.only_group().and_then(|group| delivery.deal(wanted.groups, group, messages, found.work))
        {
            cx.stats.no_interest += if wanted.aloof.is_some() { u64::from(count) } else { 0 };
            reach = 1;
            routed = Routed { len, count, unrouted: 0 };
        } else {
            // What becomes of each has to be seen.
            for frame in messages.frames() {
                let waits = publisher.holds() && lane.priority() != Priority::Urgent;
                if routed.count > 0 && (waits || cx.turn.is_used_up()) {
                    break;
                }
                cx.turn.charge_frame(frame.len());
                cx.turn.charge(found.work);
                let mut message = Message::published(frame, message::share_from(reach));
                message.set_lane(lane);
                let mut delivery = Delivery::new(cx, table, shards, publisher, subject, &mut message);
                reach = wanted.hand(&mut delivery);
                delivery.finish(reach);
                routed.len += frame.len();
                routed.count += 1;
                routed.unrouted += u32::from(reach == 0);
            }
        }
        self.reach = reach;
        self.router.route_counted(subject, routed.count, |_| ());
        routed
    }
}

impl Wanted<'_> {
    /// How many they are, if no groups are among them.
    fn len(&self) -> usize {
        self.by.len() + usize::from(self.gateway.is_some())
    }

    /// Who they are, likewise.
    fn parties(&self) -> impl Iterator<Item = Party> {
        self.by.iter().map(|number| Party::from(*number)).chain(self.gateway.map(Party::Shard))
    }

    /// The share of the group that they are, if they are the members of one alone.
    fn only_group(&self) -> Option<groups::Found> {
        match (self.by, self.gateway) {
            ([number], None) => match Subscriber::from(*number) {
                Subscriber::Share(share) => Some(self.groups.found(share)),
                _ => None,
            },
            _ => None,
        }
    }

    /// How much there is room for at all of them, if at least the `first` message, of so many bytes, finds some. `None` if it has to be seen what
    /// becomes of each.
    fn room<P: Peer>(&self, delivery: &mut RunDelivery<'_, '_, P>, first: usize) -> Option<Room> {
        // Of those who want the latest only, and of the members of a group, each message finds its own.
        let takes_all = |number: &u32| matches!(Subscriber::from(*number), Subscriber::Every(_));
        if !self.by.iter().all(takes_all) {
            return None;
        }
        let all = delivery.room_in_all(self.len());
        let room = self.parties().try_fold(all, |room, party| Some(room.and(delivery.room(party, first)?)))?;
        Some(room).filter(|room| room.fits(first))
    }
}
