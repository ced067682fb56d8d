//! The sessions, which of them have something to send, and when each wants to be looked at again.

use alloc::boxed::Box;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;

use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::Peer;
use super::event::SessionId;
use crate::frame::Reader;
use crate::hello::CloseReason;
use crate::session::Session;
use crate::store::Heap;
use crate::time::Instant;

/// Hashes keys that peers choose, so it is seeded.
pub(super) type Map<K, V> = HashMap<K, V, SeedableRandomState>;

/// One session and what the broker knows of it.
pub(super) struct Slot<P> {
    pub(super) id: SessionId,
    pub(super) peer: P,
    pub(super) session: Session<Heap>,
    pub(super) reader: Reader<Heap>,
    pub(super) member: Member,
    /// The earliest entry for this session among the timers.
    armed: Option<Instant>,
    /// It stands in the list of those that may have something to send.
    ready: bool,
}

/// What concerns the frames of a session.
pub(super) struct Member {
    /// It said HELLO.
    pub(super) native: bool,
    /// The largest frame body that it takes.
    pub(super) max_body: u32,
    /// The patterns, and for each whether only the latest messages are wanted.
    pub(super) patterns: HashMap<Box<str>, bool, SeedableRandomState>,
    pub(super) phase: Phase,
    /// When it was last heard.
    pub(super) heard: Instant,
    /// Its queue was full and it has not caught up.
    pub(super) slow: bool,
    /// Why its bytes are not read at present, if so.
    pub(super) paused: Option<Pause>,
    /// Since when more waits for it than its publishers may add to.
    pub(super) behind: Option<Instant>,
    /// Sessions that are not read because of that.
    pub(super) held: Vec<u32>,
    /// Answers to it that wait for siblings.
    pub(super) unanswered: u32,
    /// Bytes of its queue that the broker's total includes.
    pub(super) accounted: usize,
}

impl Member {
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self {
            native: false,
            max_body: u32::MAX,
            patterns: HashMap::with_hasher(hasher(seed)),
            phase: Phase::Open,
            heard: now,
            slow: false,
            paused: None,
            behind: None,
            held: Vec::new(),
            unanswered: 0,
            accounted: 0,
        }
    }
}

/// Why a session is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// It asks faster than it takes the answers.
    Replies,
    /// Somebody it publishes to is behind; at the latest it goes on at this moment.
    Held { until: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Frames still go out, until the moment; none are read.
    Closing {
        until: Instant,
        reason: CloseReason,
    },
}

/// All sessions of a broker.
pub(super) struct Table<P: Peer> {
    slots: Vec<Option<Box<Slot<P>>>>,
    free: Vec<u32>,
    /// Slots at the front that no session gets.
    reserved: usize,
    generation: u32,
    by_conv: Map<(P, u32), u32>,
    /// The newest session of each peer.
    by_peer: Map<P, u32>,
    by_host: Map<P::Host, u32>,
    ready: VecDeque<u32>,
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Siblings whose publishers may go on (see [`release`](Self::release)).
    pub(super) released: Vec<u32>,
    /// Sessions to be closed because they did not keep up.
    pub(super) doomed: Vec<u32>,
    len: usize,
}

impl<P: Peer> Table<P> {
    pub(super) fn new(seed: u64) -> Self {
        let state = |salt: u64| SeedableRandomState::with_seed(seed ^ salt, foldhash::SharedSeed::global_fixed());
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            reserved: 0,
            generation: 0,
            by_conv: Map::with_hasher(state(1)),
            by_peer: Map::with_hasher(state(2)),
            by_host: Map::with_hasher(state(3)),
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            released: Vec::new(),
            doomed: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn of_host(&self, host: P::Host) -> usize {
        self.by_host.get(&host).map_or(0, |count| *count as usize)
    }

    pub(super) fn find(&self, peer: P, conv: u32) -> Option<u32> {
        self.by_conv.get(&(peer, conv)).copied()
    }

    pub(super) fn newest(&self, peer: P) -> Option<u32> {
        self.by_peer.get(&peer).copied()
    }

    /// Adds a session; `conv` and `peer` find it from now on.
    pub(super) fn insert(
        &mut self,
        peer: P,
        session: Session<Heap>,
        reader: Reader<Heap>,
        member: Member,
    ) -> SessionId {
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        self.generation = self.generation.wrapping_add(1);
        let id = SessionId { slot: index, generation: self.generation };
        self.by_conv.insert((peer, session.kcp.conv()), index);
        self.by_peer.insert(peer, index);
        *self.by_host.entry(peer.host()).or_insert(0) += 1;
        let slot = Box::new(Slot { id, peer, session, reader, member, armed: None, ready: false });
        match self.slots.get_mut(index as usize) {
            Some(place) => *place = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        self.len += 1;
        id
    }

    /// Lets those go on who were held back because of `member`, if it has caught up.
    pub(super) fn release(&mut self, member: &mut Member, queued: usize, stall_at: usize) {
        if member.behind.is_some() && queued <= stall_at / 2 {
            member.behind = None;
            for publisher in member.held.drain(..) {
                if (publisher as usize) < self.reserved {
                    self.released.push(publisher);
                } else {
                    self.go_on(publisher);
                }
            }
        }
    }

    /// Lets a publisher go on that was held back.
    pub(super) fn go_on(&mut self, publisher: u32) {
        if let Some(slot) = self.get_mut(publisher)
            && let Some(Pause::Held { until }) = &mut slot.member.paused
        {
            *until = Instant::ZERO;
            self.wake(publisher);
        }
    }

    /// Keeps the first `count` slots free of sessions: their numbers are those of siblings.
    pub(super) fn reserve(&mut self, count: usize) {
        self.reserved = count;
        self.slots.resize_with(count, || None);
    }

    /// Takes a session out to work on it; it must come back by [`put_back`](Self::put_back) or leave by
    /// [`forget`](Self::forget).
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Slot<P>>> {
        self.slots.get_mut(index as usize)?.take()
    }

    pub(super) fn put_back(&mut self, slot: Box<Slot<P>>) {
        let index = slot.id.slot as usize;
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
        }
    }

    /// A session that was taken out does not come back.
    pub(super) fn forget(&mut self, slot: &Slot<P>) {
        self.by_conv.remove(&(slot.peer, slot.session.kcp.conv()));
        if self.by_peer.get(&slot.peer) == Some(&slot.id.slot) {
            self.by_peer.remove(&slot.peer);
        }
        if let Some(count) = self.by_host.get_mut(&slot.peer.host()) {
            *count -= 1;
            if *count == 0 {
                self.by_host.remove(&slot.peer.host());
            }
        }
        self.free.push(slot.id.slot);
        self.len -= 1;
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Slot<P>> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<P>> {
        self.slots.iter().flatten().map(|slot| &**slot)
    }

    /// Notes that a session that stands in the table may have something to send.
    pub(super) fn wake(&mut self, index: u32) {
        if let Some(Some(slot)) = self.slots.get_mut(index as usize)
            && !slot.ready
        {
            slot.ready = true;
            self.ready.push_back(index);
        }
    }

    /// The next session that may have something to send, taken out.
    pub(super) fn take_ready(&mut self) -> Option<Box<Slot<P>>> {
        loop {
            let index = self.ready.pop_front()?;
            if let Some(mut slot) = self.take(index) {
                if slot.ready {
                    slot.ready = false;
                    return Some(slot);
                }
                self.put_back(slot);
            }
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Sets the time at which a session that was taken out wants to be looked at. A later time than the one that is set
    /// costs nothing: the earlier entry is looked at once and set anew.
    pub(super) fn arm(&mut self, slot: &mut Slot<P>, at: Instant) {
        if slot.armed.is_none_or(|armed| at < armed) {
            slot.armed = Some(at);
            self.timers.push(Reverse((at, slot.id.slot)));
        }
    }

    /// The next session whose time has come, `None` if there is no more; its timer is off then.
    pub(super) fn expire(&mut self, now: Instant) -> Option<u32> {
        loop {
            let Reverse((at, index)) = *self.timers.peek()?;
            if at > now {
                return None;
            }
            self.timers.pop();
            if let Some(slot) = self.get_mut(index)
                && slot.armed == Some(at)
            {
                slot.armed = None;
                return Some(index);
            }
        }
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// The slots in use, to go through them while they change.
    pub(super) fn indices(&self) -> Vec<u32> {
        self.iter().map(|slot| slot.id.slot).collect()
    }
}

/// A hasher state for sets of a session, from the broker's seed.
pub(super) fn hasher(seed: u64) -> SeedableRandomState {
    SeedableRandomState::with_seed(seed, foldhash::SharedSeed::global_fixed())
}
