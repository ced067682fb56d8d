//! Where the sessions are, which of them have something to send, and when each wants to be looked at again.
//!
//! It does not know what a session is. One that is worked on is taken out, so that the rest of the table can be used
//! meanwhile.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BinaryHeap, VecDeque};
use alloc::vec::Vec;
use core::cmp::Ordering;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use hashbrown::HashMap;

use super::event::SessionId;
use super::peer::Peer;
use crate::time::{Deadline, Instant};

/// The place of one session.
pub(super) struct Slot<P, S> {
    pub(super) id: SessionId,
    pub(super) peer: P,
    pub(super) session: S,
    /// Its conversation, unless it is sealed.
    conv: Option<u32>,
    /// Its name in native datagrams, if it has one.
    name: Option<u64>,
    /// Another address that its datagrams come from.
    pub(super) elsewhere: Option<Elsewhere<P>>,
    /// When the earliest entry for it among the timers runs out.
    armed: Option<Instant>,
    /// It counts among those of its host.
    counted: bool,
    /// It stands in one of the lists of those that may have something to send.
    ready: bool,
}

impl<P, S> Slot<P, S> {
    /// Its name in native datagrams, if it has one.
    pub(super) fn name(&self) -> Option<u64> {
        self.name
    }
}

/// An address that a session may have moved to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elsewhere<P> {
    pub(super) peer: P,
    /// What it was asked to answer, and when.
    pub(super) token: [u8; 8],
    pub(super) asked_at: Instant,
}

/// Hashes keys that peers choose, so it is seeded.
type Map<K, V> = HashMap<K, V, SeedableRandomState>;

/// All sessions of a broker.
pub(super) struct Table<P: Peer, S> {
    slots: Vec<Option<Box<Slot<P, S>>>>,
    free: Vec<u32>,
    generation: u32,
    /// Which broker of the server's it is of.
    shard: u8,
    by_conv: Map<(P, u32), u32>,
    by_name: Map<u64, u32>,
    /// The newest session of each peer.
    by_peer: Map<P, u32>,
    by_host: Map<P::Host, u32>,
    /// Those that may have something to send: who goes first, and who has had much and goes last.
    first: VecDeque<u32>,
    last: VecDeque<u32>,
    timers: BinaryHeap<Timer>,
    len: usize,
}

/// When to look at the session in a slot. The earliest is the greatest: it comes out of the heap first.
#[derive(Clone, Copy)]
struct Timer {
    deadline: Deadline,
    slot: u32,
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.deadline.at, other.slot).cmp(&(self.deadline.at, self.slot))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

impl<P: Peer, S> Table<P, S> {
    pub(super) fn new(seed: u64) -> Self {
        let state = |salt: u64| SeedableRandomState::with_seed(seed ^ salt, SharedSeed::global_fixed());
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            generation: 0,
            shard: 0,
            by_conv: Map::with_hasher(state(1)),
            by_peer: Map::with_hasher(state(2)),
            by_host: Map::with_hasher(state(3)),
            by_name: Map::with_hasher(state(4)),
            first: VecDeque::new(),
            last: VecDeque::new(),
            timers: BinaryHeap::new(),
            len: 0,
        }
    }

    /// It is that of broker number `shard` of the server.
    pub(super) fn set_shard(&mut self, shard: u8) {
        self.shard = shard;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Places in which there are sessions, or were.
    pub(super) fn places(&self) -> usize {
        self.slots.len()
    }

    /// Sessions of a host that [`count`](Self::count) was called for.
    pub(super) fn of_host(&self, host: P::Host) -> usize {
        self.by_host.get(&host).map_or(0, |count| *count as usize)
    }

    pub(super) fn find(&self, peer: P, conv: u32) -> Option<u32> {
        self.by_conv.get(&(peer, conv)).copied()
    }

    /// The session of this name.
    pub(super) fn find_named(&self, name: u64) -> Option<u32> {
        self.by_name.get(&name).copied()
    }

    /// Gives a session that was taken out a name, by which it is found from now on.
    pub(super) fn name(&mut self, slot: &mut Slot<P, S>, name: u64) {
        if let Some(old) = slot.name.replace(name) {
            self.by_name.remove(&old);
        }
        self.by_name.insert(name, slot.id.slot);
    }

    /// A session that was taken out is at another address from now on.
    pub(super) fn move_to(&mut self, slot: &mut Slot<P, S>, peer: P) {
        self.forget_address(slot);
        slot.peer = peer;
        slot.elsewhere = None;
        self.know_address(slot);
    }

    pub(super) fn newest(&self, peer: P) -> Option<u32> {
        self.by_peer.get(&peer).copied()
    }

    /// Adds a session; `conv`, if it has one, and `peer` find it from now on.
    pub(super) fn insert(&mut self, peer: P, conv: Option<u32>, session: S) -> SessionId {
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        self.generation = self.generation.wrapping_add(1);
        let id = SessionId { shard: self.shard, slot: index, generation: self.generation };
        let slot =
            Slot { id, peer, session, conv, name: None, elsewhere: None, armed: None, counted: false, ready: false };
        let slot = Box::new(slot);
        self.know_address(&slot);
        match self.slots.get_mut(index as usize) {
            Some(place) => *place = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        self.len += 1;
        id
    }

    /// A session is known to be of its host. Returns how many there are of it now.
    pub(super) fn count(&mut self, slot: &mut Slot<P, S>) -> usize {
        slot.counted = true;
        let count = self.by_host.entry(slot.peer.host()).or_insert(0);
        *count += 1;
        *count as usize
    }

    /// Takes a session out to work on it; it must come back by [`put_back`](Self::put_back) or leave by
    /// [`forget`](Self::forget).
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Slot<P, S>>> {
        self.slots.get_mut(index as usize)?.take()
    }

    /// With `wakes` it may have something to send.
    pub(super) fn put_back(&mut self, mut slot: Box<Slot<P, S>>, wakes: bool) {
        if wakes && !slot.ready {
            slot.ready = true;
            self.first.push_back(slot.id.slot);
        }
        self.put(slot);
    }

    /// The same for one that may have more than others, which go first.
    pub(super) fn put_last(&mut self, mut slot: Box<Slot<P, S>>) {
        if !slot.ready {
            slot.ready = true;
            self.last.push_back(slot.id.slot);
        }
        self.put(slot);
    }

    fn put(&mut self, slot: Box<Slot<P, S>>) {
        if let Some(place) = self.slots.get_mut(slot.id.slot as usize) {
            *place = Some(slot);
        }
    }

    /// A session that was taken out does not come back.
    pub(super) fn forget(&mut self, slot: &Slot<P, S>) {
        self.forget_address(slot);
        if let Some(name) = slot.name {
            self.by_name.remove(&name);
        }
        self.free.push(slot.id.slot);
        self.len -= 1;
    }

    fn know_address(&mut self, slot: &Slot<P, S>) {
        if let Some(conv) = slot.conv {
            self.by_conv.insert((slot.peer, conv), slot.id.slot);
        }
        self.by_peer.insert(slot.peer, slot.id.slot);
        if slot.counted {
            *self.by_host.entry(slot.peer.host()).or_insert(0) += 1;
        }
    }

    fn forget_address(&mut self, slot: &Slot<P, S>) {
        if let Some(conv) = slot.conv
            && self.by_conv.get(&(slot.peer, conv)) == Some(&slot.id.slot)
        {
            self.by_conv.remove(&(slot.peer, conv));
        }
        if self.by_peer.get(&slot.peer) == Some(&slot.id.slot) {
            self.by_peer.remove(&slot.peer);
        }
        if let Some(count) = self.by_host.get_mut(&slot.peer.host()).filter(|_| slot.counted) {
            *count -= 1;
            if *count == 0 {
                self.by_host.remove(&slot.peer.host());
            }
        }
    }

    /// A session that is not taken out.
    pub(super) fn get(&self, index: u32) -> Option<&Slot<P, S>> {
        self.slots.get(index as usize)?.as_deref()
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Slot<P, S>> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    /// The same, and notes that it may have something to send.
    pub(super) fn wake(&mut self, index: u32) -> Option<&mut Slot<P, S>> {
        let slot = self.slots.get_mut(index as usize)?.as_deref_mut()?;
        if !slot.ready {
            slot.ready = true;
            self.first.push_back(index);
        }
        Some(slot)
    }

    /// The sessions that are not taken out.
    pub(super) fn iter(&self) -> impl Iterator<Item = &S> {
        self.slots.iter().flatten().map(|slot| &slot.session)
    }

    /// The slots in use, to go through them while they change.
    pub(super) fn indices(&self) -> Vec<u32> {
        self.slots.iter().flatten().map(|slot| slot.id.slot).collect()
    }

    /// The next session that may have something to send, taken out, and whether it is one of those that go last; with
    /// `last` it is one of these if there are any.
    pub(super) fn take_ready(&mut self, last: bool) -> Option<(Box<Slot<P, S>>, bool)> {
        loop {
            let is_last = self.first.is_empty() || last && !self.last.is_empty();
            let index = if is_last { self.last.pop_front()? } else { self.first.pop_front()? };
            if let Some(mut slot) = self.take(index) {
                if slot.ready {
                    slot.ready = false;
                    return Some((slot, is_last));
                }
                self.put_back(slot, false);
            }
        }
    }

    pub(super) fn has_ready(&self) -> bool {
        !(self.first.is_empty() && self.last.is_empty())
    }

    /// Sets the time at which a session that was taken out wants to be looked at. A later time than the one that is set
    /// costs nothing: the earlier entry is looked at once and set anew.
    pub(super) fn arm(&mut self, slot: &mut Slot<P, S>, deadline: Deadline) {
        if slot.armed.is_none_or(|armed| deadline.at < armed) {
            slot.armed = Some(deadline.at);
            self.timers.push(Timer { deadline, slot: slot.id.slot });
        }
    }

    /// The next session whose time has come, `None` if there is no more; its timer is off then.
    pub(super) fn expire(&mut self, now: Instant) -> Option<&mut Slot<P, S>> {
        loop {
            let Timer { deadline, slot } = *self.timers.peek()?;
            if deadline.at > now {
                return None;
            }
            self.timers.pop();
            if self.get_mut(slot).is_some_and(|slot| slot.armed == Some(deadline.at)) {
                let slot = self.get_mut(slot)?;
                slot.armed = None;
                return Some(slot);
            }
        }
    }

    /// When the next timer runs out, and what it was set for.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.peek().map(|timer| timer.deadline)
    }
}
