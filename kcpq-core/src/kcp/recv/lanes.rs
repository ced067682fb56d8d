//! Lanes at the receiver (PROTOCOL.md 2.12): each is in order by itself, whatever others have lost.
//!
//! ```text
//! segment --next of its lane?--> sink, or parked where the sink takes no more
//!         `--no--> window, until what is missing of its lane has come
//! ```
//!
//! Begins with the first segment that says its lane. From then on nothing that is in order stays in the window, so a lane that
//! is not read takes no numbers from the others, only segments of the window that is told.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Receiver, drain};
use crate::kcp::env::Env;
use crate::kcp::segment::{Header, flags};
use crate::kcp::send::{LANE_HEAD, RESERVE};
use crate::lane::Lane;
use crate::store::{RxWindow, Store};

/// What marks a segment of the window whose data have been taken out.
const TAKEN: u8 = 1 << 7;

/// See the module; nothing as long as no segment has said its lane.
#[derive(Debug)]
pub(super) struct Lanes(Option<Box<State>>);

#[derive(Debug)]
struct State {
    /// For each lane the number of the segment that is next.
    next: [u16; Lane::COUNT],
    /// Segments that have said their lane and wait in the window for one of it that is missing.
    waiting: [u16; Lane::COUNT],
    /// What is in order and was not taken by the sink, in the order in which it came to be.
    parked: VecDeque<Parked>,
    /// Bytes of memory that these take, and how many of each lane there are.
    bytes: usize,
    counts: [u16; Lane::COUNT],
}

#[derive(Debug)]
struct Parked {
    lane: Lane,
    data: Vec<u8>,
    /// Bytes of it that were read.
    read: usize,
}

/// Whose data of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The segment of this number in this lane.
    Told(Lane, u16),
    /// Lane 0, behind all that was sent before.
    Untold,
}

impl Place {
    /// Reads what stands in front of the data, and says how long that is. One that makes no sense says nothing.
    fn read(frg: u8, data: &[u8]) -> (Self, usize) {
        if frg & flags::LANED != 0
            && let Some(&[lane, low, high]) = data.first_chunk::<LANE_HEAD>()
            && let Some(lane) = Lane::new(lane)
        {
            return (Self::Told(lane, u16::from_le_bytes([low, high])), LANE_HEAD);
        }
        (Self::Untold, 0)
    }

    fn lane(self) -> Lane {
        match self {
            Self::Told(lane, _) => lane,
            Self::Untold => Lane::NORMAL,
        }
    }
}

impl Lanes {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Segments that are kept free for urgent lanes in a window of so many: they are not told.
    pub(super) fn reserve(&self, slots: usize) -> usize {
        if self.are_told() { usize::from(RESERVE).min(slots / 4) } else { 0 }
    }

    /// Some segment has said its lane.
    pub(super) fn are_told(&self) -> bool {
        self.0.is_some()
    }

    /// Segments that are in order and were not read.
    pub(super) fn parked(&self) -> usize {
        self.0.as_ref().map_or(0, |state| state.parked.len())
    }

    /// Bytes of memory that these take.
    pub(super) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |state| state.bytes)
    }

    /// Forgets what has come and was not read.
    pub(super) fn forget(&mut self) {
        if let Some(state) = &mut self.0 {
            state.parked = VecDeque::new();
            (state.bytes, state.counts, state.waiting) = (0, Default::default(), Default::default());
        }
    }

    /// What is first of all that was not read, and its lane.
    pub(super) fn front(&self) -> Option<(Lane, &[u8])> {
        let parked = self.0.as_ref()?.parked.front()?;
        Some((parked.lane, parked.data.get(parked.read..).unwrap_or_default()))
    }

    /// Takes `count` bytes of that.
    pub(super) fn consume(&mut self, count: usize) {
        let Some(state) = &mut self.0 else { return };
        if let Some(parked) = state.parked.front_mut() {
            parked.read += count;
            if parked.read >= parked.data.len() {
                state.pop();
            }
        }
    }

    /// Offers what was not read to `sink`. Of a lane of which it takes no more it is asked for nothing further. True if anything
    /// was taken.
    pub(super) fn recv(&mut self, sink: &mut impl FnMut(Lane, &[u8]) -> usize) -> bool {
        let Some(state) = &mut self.0 else { return false };
        let (mut any, mut refused, mut index) = (false, 0u8, 0);
        while let Some(parked) = state.parked.get_mut(index) {
            index += 1;
            let bit = 1 << parked.lane.number();
            if refused & bit != 0 || parked.read == parked.data.len() {
                continue;
            }
            let taken = drain(parked.lane, parked.data.get(parked.read..).unwrap_or_default(), sink);
            any |= taken > 0;
            parked.read += taken;
            if parked.read < parked.data.len() {
                refused |= bit;
            }
        }
        state.let_go();
        any
    }
}

impl State {
    fn park(&mut self, lane: Lane, data: Vec<u8>, read: usize) {
        self.bytes += size_of::<Parked>() + data.capacity();
        self.counts[usize::from(lane.number())] += 1;
        self.parked.push_back(Parked { lane, data, read });
    }

    fn pop(&mut self) {
        if let Some(Parked { lane, data, .. }) = self.parked.pop_front() {
            self.bytes = self.bytes.saturating_sub(size_of::<Parked>() + data.capacity());
            self.counts[usize::from(lane.number())] -= 1;
        }
        if self.parked.is_empty() {
            self.parked = VecDeque::new();
        }
    }

    /// Lets go of what was read.
    fn let_go(&mut self) {
        let all = core::mem::take(&mut self.parked);
        (self.bytes, self.counts) = (0, Default::default());
        for Parked { lane, data, read } in all {
            if read < data.len() {
                self.park(lane, data, read);
            }
        }
    }

    /// Hands on what is next of a lane.
    fn hand(&mut self, lane: Lane, data: Handed<'_>, sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        let number = usize::from(lane.number());
        self.next[number] = self.next[number].wrapping_add(1);
        let bytes = match &data {
            Handed::Lent(bytes) => bytes,
            Handed::Own(bytes, skip) => bytes.get(*skip..).unwrap_or_default(),
        };
        let taken = if self.counts[number] > 0 { 0 } else { drain(lane, bytes, sink) };
        if taken < bytes.len() {
            match data {
                Handed::Lent(bytes) => self.park(lane, bytes.get(taken..).unwrap_or_default().to_vec(), 0),
                Handed::Own(bytes, skip) => self.park(lane, bytes, skip + taken),
            }
        }
    }
}

/// Data of a segment: in the datagram, or taken out of the window with so many bytes in front of them.
enum Handed<'d> {
    Lent(&'d [u8]),
    Own(Vec<u8>, usize),
}

impl<S: Store> Receiver<S> {
    /// A segment has said its lane for the first time: what is in order and was not read leaves the window.
    #[cold]
    fn begin_lanes(&mut self) {
        // All that was in order was of lane 0.
        let mut next = [0; Lane::COUNT];
        next[0] = self.place.next.0 as u16;
        let waiting = [0; Lane::COUNT];
        let mut state = Box::new(State { next, waiting, parked: VecDeque::new(), bytes: 0, counts: [0; Lane::COUNT] });
        while self.place.ready > 0 {
            if let Some((data, _)) = self.rx.front() {
                state.park(Lane::NORMAL, data.to_vec(), 0);
            }
            self.pop();
        }
        self.lanes.0 = Some(state);
    }

    /// Takes in a new segment for which there is room, `ahead` of the next one in all.
    pub(super) fn take_in_lane(
        &mut self,
        env: &Env,
        header: &Header,
        ahead: usize,
        data: &[u8],
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) -> bool {
        if !self.lanes.are_told() {
            self.begin_lanes();
        }
        let Self { rx, lanes: Lanes(Some(state)), place, .. } = self else { return false };
        // The beginning of it may have been read when it could not be kept.
        let partial = if ahead == 0 { core::mem::take(&mut place.partial) } else { 0 };
        let laned = if env.peer.lanes { header.frg & flags::LANED } else { 0 };
        let (whose, head) = Place::read(laned, data);
        let lane = whose.lane();
        let in_turn = match whose {
            // With nothing missing before it nothing can be missing of its lane.
            _ if ahead == 0 => true,
            Place::Told(lane, number) => state.next[usize::from(lane.number())] == number,
            Place::Untold => false,
        };
        if !in_turn {
            let kept = rx.put(ahead, laned, data).is_ok();
            state.waiting[usize::from(lane.number())] += u16::from(kept && whose != Place::Untold);
            return kept;
        }
        if ahead == 0 {
            rx.advance();
            place.next = place.next.plus(1);
        } else if rx.put(ahead, TAKEN, &[]).is_err() {
            return false;
        }
        if let Place::Told(_, number) = whose {
            state.next[usize::from(lane.number())] = number;
        }
        state.hand(lane, Handed::Lent(data.get(head + partial..).unwrap_or_default()), sink);
        self.hand_on(lane, if ahead == 0 { 0 } else { ahead + 1 }, sink);
        true
    }

    /// Hands on what has waited in the window for what has come of this lane; the next segment of it is not before `from`.
    fn hand_on(&mut self, lane: Lane, from: usize, sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        self.hand_lane(lane, from, sink);
        let slots = self.rx.slots();
        for _ in 0..slots {
            let Some((frg, _)) = self.rx.get(0) else { return };
            if frg != TAKEN {
                // Nothing is missing before it.
                let Some(lane) = self.hand_slot(0, sink) else { return };
                self.hand_lane(lane, 1, sink);
            }
            self.rx.advance();
            self.place.next = self.place.next.plus(1);
        }
    }

    /// The same for the segments of this lane that follow each other, from `slot` on.
    fn hand_lane(&mut self, lane: Lane, from: usize, sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        let number = usize::from(lane.number());
        for slot in from..self.rx.slots() {
            let Self { rx, lanes: Lanes(Some(state)), .. } = &mut *self else { return };
            if state.waiting[number] == 0 {
                return;
            }
            let Some((frg, data)) = rx.get(slot).filter(|(frg, _)| *frg != TAKEN) else { continue };
            match Place::read(frg, data).0 {
                Place::Told(other, sn) if other == lane && state.next[number] == sn => {
                    self.hand_slot(slot, sink);
                }
                // Numbers of a lane are in order, and what says nothing of lanes comes behind all.
                Place::Told(other, _) if other == lane => return,
                Place::Untold if lane.is_main() => return,
                Place::Told(..) | Place::Untold => {}
            }
        }
    }

    /// Hands on the segment in this slot, and says of which lane it was.
    fn hand_slot(&mut self, slot: usize, sink: &mut impl FnMut(Lane, &[u8]) -> usize) -> Option<Lane> {
        let Self { rx, lanes: Lanes(Some(state)), .. } = self else { return None };
        let (frg, data) = rx.get(slot)?;
        let (whose, head) = Place::read(frg, data);
        let number = usize::from(whose.lane().number());
        if let Place::Told(_, sn) = whose {
            state.waiting[number] = state.waiting[number].saturating_sub(1);
            state.next[number] = sn;
        }
        let data = rx.take(slot, TAKEN)?;
        state.hand(whose.lane(), Handed::Own(data, head), sink);
        Some(whose.lane())
    }
}
