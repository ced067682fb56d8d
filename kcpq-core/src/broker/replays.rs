//! Subscriptions of sessions to what is stored (PROTOCOL.md 3.15): what a session has of them, and how it is fed.
//!
//! The store is behind the [gateway](super::gateway). A session asks there for as many messages as it has room for, and for
//! more only when these have gone into its queue; so whoever is slow costs a bounded amount of memory, and the store keeps the
//! rest:
//!
//! ```text
//!  session -- Ask::Open, Ask::More ---------> gateway
//!  queue <-- has appetite -- held <-- Say ---- gateway
//! ```

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use super::context::Context;
use super::event::SessionId;
use super::foreign;
use super::hub::Hub;
use super::message::Message;
use super::peer::Peer;
use super::session::{Me, Member};
use super::shards::Told;
use crate::frame::{Frame, Limits, subject_of};
use crate::hello::Refusal;
use crate::lane::Lane;
use crate::replay::{Settlement, Start};
use crate::subject::Subject;

/// Names a subscription to what is stored among those of all sessions of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) session: SessionId,
    /// Used once in this session, unlike the subscription's number.
    pub(super) serial: u32,
}

/// What a broker asks of the gateway.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// The subscription of this number begins, and takes so many messages for now.
    Open { number: u32, pattern: Box<str>, start: Start, durable: Option<Box<str>>, count: u32 },
    /// It takes so many more.
    More(u32),
    /// What is to become of a message.
    Settle { sequence: u64, settlement: Settlement },
    /// It has ended.
    End,
}

/// What the gateway says to that.
#[derive(Clone, Debug)]
pub(super) enum Say {
    /// It has begun: no message of an earlier sequence comes. 0 if that is not known.
    Opened { first: u64 },
    /// It has not begun, and is no more.
    Refused { refusal: Refusal, text: Box<str> },
    /// A message, as a whole MSGX for this subscription.
    Message(Bytes),
}

/// A session has so many at most, each of which may have [`BATCH`] messages on their way.
pub(super) const MAX: usize = 64;
/// Messages that are asked for at a time, and when half of them have gone.
const BATCH: u32 = 256;

/// Those of one session.
#[derive(Default)]
pub(super) struct Replays {
    by_number: BTreeMap<u32, Replay>,
    last_serial: u32,
}

struct Replay {
    serial: u32,
    pattern: Box<str>,
    durable: Option<Box<str>>,
    lane: Lane,
    /// The gateway has said that it has begun.
    is_open: bool,
    /// Messages that were asked for and have not come.
    awaited: u32,
    /// Those that have come and are not in the queue.
    held: VecDeque<Bytes>,
}

/// How a subscription of a number that is used again stands to that which has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is the same, and has begun.
    Open,
    /// It is the same, and it is not known yet whether it begins.
    Asked,
    /// There is none, or another.
    No,
}

impl Replays {
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Numbers and patterns.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        self.by_number.iter().map(|(number, replay)| (*number, &*replay.pattern))
    }

    /// Whether there is one of this number that is the same.
    pub(super) fn know(&self, number: u32, pattern: &str, durable: Option<&str>) -> Known {
        let same = |replay: &&Replay| *replay.pattern == *pattern && replay.durable.as_deref() == durable;
        match self.by_number.get(&number).filter(same) {
            Some(replay) if replay.is_open => Known::Open,
            Some(_) => Known::Asked,
            None => Known::No,
        }
    }

    /// Notes one that is asked for: what is to be told to the gateway. There is none of this number.
    pub(super) fn open(
        &mut self,
        number: u32,
        pattern: &str,
        start: Start,
        durable: Option<&str>,
        lane: Lane,
    ) -> (u32, Ask) {
        self.last_serial = self.last_serial.wrapping_add(1);
        let serial = self.last_serial;
        let (pattern, durable): (Box<str>, Option<Box<str>>) = (pattern.into(), durable.map(Into::into));
        let ask = Ask::Open { number, pattern: pattern.clone(), start, durable: durable.clone(), count: BATCH };
        let replay = Replay { serial, pattern, durable, lane, is_open: false, awaited: BATCH, held: VecDeque::new() };
        self.by_number.insert(number, replay);
        (serial, ask)
    }

    /// Forgets one: its serial number, its pattern, and whether it had begun.
    pub(super) fn remove(&mut self, number: u32) -> Option<(u32, Box<str>, bool)> {
        let Replay { serial, pattern, is_open, .. } = self.by_number.remove(&number)?;
        Some((serial, pattern, is_open))
    }

    /// The serial number of a durable one.
    pub(super) fn durable(&self, number: u32) -> Option<u32> {
        self.by_number.get(&number).filter(|replay| replay.durable.is_some()).map(|replay| replay.serial)
    }

    /// The number of the one that has this serial number.
    pub(super) fn number(&self, serial: u32) -> Option<u32> {
        self.by_number.iter().find_map(|(number, replay)| (replay.serial == serial).then_some(*number))
    }

    /// The gateway says that one has begun. True if it is news.
    pub(super) fn on_opened(&mut self, number: u32) -> bool {
        self.by_number.get_mut(&number).is_some_and(|replay| !core::mem::replace(&mut replay.is_open, true))
    }

    /// A message has come for one.
    pub(super) fn take(&mut self, number: u32, frame: Bytes) {
        if let Some(replay) = self.by_number.get_mut(&number) {
            replay.awaited = replay.awaited.saturating_sub(1);
            replay.held.push_back(frame);
        }
    }
}

impl Hub {
    /// Puts what has come for a session's replays into its queue, as far as that is not full, and asks for more where that
    /// has gone.
    pub(super) fn feed<P: Peer>(&mut self, cx: &mut Context<P>, me: &mut Me<'_>) {
        let Me { id, queue, member, .. } = me;
        if member.is_half_open() || !member.is_open() {
            return;
        }
        let Member { replays: Some(replays), outlet, pass, .. } = &mut **member else { return };
        let limits = foreign::limits(cx.config.subjects);
        // One of each by turns.
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for replay in replays.by_number.values_mut() {
                let Some(frame) = replay.held.front() else { continue };
                if !outlet.has_appetite(cx, queue, frame.len()) {
                    continue;
                }
                let Some(frame) = replay.held.pop_front() else { continue };
                goes_on = true;
                if let Some(pass) = pass.as_deref_mut().filter(|pass| pass.is_filtered)
                    && Subject::from_bytes(subject_of(&frame), &limits).is_ok_and(|subject| cx.withholds(pass, subject))
                {
                    outlet.counts.withheld += 1;
                    // It would be withheld the next time, and stand in the way of others.
                    let stored = Frame::parse(&frame, &Limits::NONE).ok().and_then(|frame| frame.message()?.1.stored());
                    if let Some(stored) = stored.filter(|_| replay.durable.is_some()) {
                        let key = Key { session: *id, serial: replay.serial };
                        let ask = Ask::Settle { sequence: stored.sequence, settlement: Settlement::Term };
                        self.shards.tell_gateway(Told::Ask { key, ask });
                    }
                    continue;
                }
                let mut message = Message::relayed(&frame, None, self.share_from());
                outlet.admit(cx, queue, &mut message, replay.lane, false, &[]);
            }
        }
        for replay in replays.by_number.values_mut() {
            if replay.is_open && replay.held.is_empty() && replay.awaited <= BATCH / 2 {
                let count = BATCH - replay.awaited;
                replay.awaited = BATCH;
                let key = Key { session: *id, serial: replay.serial };
                self.shards.tell_gateway(Told::Ask { key, ask: Ask::More(count) });
            }
        }
    }

    /// Ends those of a session whose patterns it `may` not have any more. Says which patterns they had, and whether they had begun.
    pub(super) fn review_replays(
        &mut self,
        id: SessionId,
        replays: &mut Option<Box<Replays>>,
        mut may: impl FnMut(&str) -> bool,
    ) -> Vec<(Box<str>, bool)> {
        let mut ended = Vec::new();
        let Some(replays) = replays else { return ended };
        replays.by_number.retain(|_, Replay { serial, pattern, is_open, .. }| {
            let stays = may(pattern);
            if !stays {
                self.shards.tell_gateway(Told::Ask { key: Key { session: id, serial: *serial }, ask: Ask::End });
                ended.push((pattern.clone(), *is_open));
            }
            stays
        });
        ended
    }

    /// Ends all of a session's. Says which patterns they had.
    pub(super) fn end_replays(&mut self, id: SessionId, replays: &mut Option<Box<Replays>>) -> Vec<Box<str>> {
        let ended = replays.take().into_iter().flat_map(|replays| replays.by_number.into_values());
        let end = |Replay { serial, pattern, .. }| {
            self.shards.tell_gateway(Told::Ask { key: Key { session: id, serial }, ask: Ask::End });
            pattern
        };
        ended.map(end).collect()
    }
}
