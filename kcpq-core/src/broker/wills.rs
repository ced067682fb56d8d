//! Last wills: a message that a client leaves with the server, which publishes it when the client's session ends without a
//! CLOSE of the client (PROTOCOL.md 3.14).
//!
//! A client shows the same key in all of its sessions: in a new one it says what its will is now, and whatever an earlier one
//! has left is void, also at another broker (shard) of the server. Otherwise a client that came back would be declared dead when
//! the server gives up its former session.

use alloc::boxed::Box;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::context::Context;
use super::delivery::Publisher;
use super::dispatch::read;
use super::event::SessionId;
use super::message::Message;
use super::party::Party;
use super::pass::Pass;
use super::peer::Peer;
use super::session::{Member, Session};
use super::sessions::Sessions;
use super::stats::Stats;
use super::table::{Slot, Table};
use super::throttle::Throttle;
use crate::frame::Frame;
use crate::subject::Subject;

/// Which session has left the will under a key. Clients choose the keys, so it is seeded.
pub(super) struct Wills(HashMap<u64, SessionId, SeedableRandomState>);

/// What a session has left.
pub(super) struct Will {
    /// Names the client, in whatever session.
    pub(super) key: u64,
    /// A whole PUBX; `None` if it was taken back.
    message: Option<Box<[u8]>>,
}

impl Wills {
    pub(super) fn new(seed: u64) -> Self {
        Self(HashMap::with_hasher(SeedableRandomState::with_seed(seed, SharedSeed::global_fixed())))
    }
}

impl Will {
    /// One of this client, which is none yet.
    pub(super) fn of(key: u64) -> Self {
        Self { key, message: None }
    }

    fn take(&mut self, stats: &mut Stats) -> Option<Box<[u8]>> {
        let message = self.message.take()?;
        stats.wills -= 1;
        stats.wills_bytes -= message.len() as u64;
        Some(message)
    }
}

impl<P> Context<P> {
    /// A session leaves this PUBX, in place of what it has left before.
    pub(super) fn leave_will(&mut self, id: SessionId, will: &mut Will, message: Box<[u8]>) {
        will.take(&mut self.stats);
        self.stats.wills += 1;
        self.stats.wills_bytes += message.len() as u64;
        will.message = Some(message);
        self.wills.0.insert(will.key, id);
    }

    /// What this session has left is void.
    pub(super) fn void_will(&mut self, id: SessionId, member: &mut Member) -> Option<Box<[u8]>> {
        let will = member.will.as_mut()?;
        let message = will.take(&mut self.stats)?;
        if self.wills.0.get(&will.key) == Some(&id) {
            self.wills.0.remove(&will.key);
        }
        Some(message)
    }

    /// What another session has left under this key is void.
    pub(super) fn void_wills_of(&mut self, table: &mut Table<P, Session>, key: u64)
    where
        P: Peer,
    {
        if let Some(id) = self.wills.0.get(&key).copied()
            && let Some(slot) = table.get_mut(id.slot).filter(|slot| slot.id == id)
        {
            self.void_will(id, slot.session.member());
        }
    }

    /// True if a session may have a message for this subject published.
    pub(super) fn permits_will(&mut self, pass: Option<&mut Box<Pass>>, subject: Subject<'_>) -> bool {
        !subject.is_reserved()
            && match (&mut self.guard, pass) {
                (None, _) => true,
                (Some(guard), Some(pass)) => guard.permits(pass, subject),
                (Some(_), None) => false,
            }
    }
}

impl<P: Peer> Sessions<P> {
    /// A session that is taken out ends: what it has left is published, unless its client wanted the end, or will be back.
    pub(super) fn end_will(&mut self, slot: &mut Slot<P, Session>, publishes: bool) {
        let Some(message) = self.cx.void_will(slot.id, slot.session.member()) else { return };
        if publishes && !self.publish_will(slot, &message) {
            self.cx.stats.wills_refused += 1;
        }
    }

    /// False if that is not permitted any more, or if nothing has shown that there was a client.
    fn publish_will(&mut self, slot: &mut Slot<P, Session>, message: &[u8]) -> bool {
        let Self { cx, hub, table, .. } = self;
        let Ok(frame) = Frame::parse(message, &cx.config.frames) else { return false };
        let Ok((subject, cut, properties)) = read(frame, &cx.config.subjects) else { return false };
        let member = slot.session.member();
        if member.is_half_open() || !cx.permits_will(member.pass.as_mut(), subject) {
            return false;
        }
        let expires = properties.ttl().map(|ttl| cx.now + ttl);
        let share_from = hub.share_from();
        let mut message = Message::extended(message, cut, properties.for_subscribers(), expires, share_from);
        let mut throttle = Throttle::default();
        let mut publisher = Publisher::absent(Party::Session(slot.id.slot), &mut throttle, None);
        let reach = if properties.retains() || hub.kept.chooses(subject) {
            let (reach, kept) = hub.publish_kept(cx, table, &mut publisher, subject, &mut message);
            cx.stats.kept_refused += u64::from(kept.is_err());
            reach
        } else {
            hub.publish(cx, table, &mut publisher, subject, &mut message)
        };
        cx.stats.unrouted += u64::from(reach.subscribers == 0);
        cx.stats.wills_published += 1;
        true
    }
}
