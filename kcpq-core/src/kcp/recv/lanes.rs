//! Lanes at the receiver (PROTOCOL.md 2.12): each is in order by itself, whatever others have lost.
//!
//! ```text
//! segment --next of its lane?--> sink, or parked where the sink takes no more
//!         `--no--> window, until what is missing of its lane has come
//! ```
//!
//! A message of which only the latest of its subject counts waits for none of its kind. Who has gone before its turn leaves its
//! number in the window, and what is older than it is not handed on any more.
//!
//! Begins with the first segment that says its lane. From then on nothing that is in order stays in the window, so a lane that
//! is not read takes no numbers from the others, only segments of the window that is told.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Receiver, drain};
use crate::kcp::env::Env;
use crate::kcp::segment::{Header, flags};
use crate::kcp::send::{LANE_HEAD, LATEST, LATEST_HEAD, RESERVE, VOID};
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
    /// The newest messages that were handed on before their turn.
    early: Vec<Early>,
}

/// A message that was handed on before its turn: nothing older of its flow is from then on.
#[derive(Debug)]
struct Early {
    lane: Lane,
    flow: u16,
    number: u16,
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

/// What a segment of a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A part of the lane's stream.
    Ordinary,
    /// A message of this flow of which only the latest counts, with so many segments before it that are such as well.
    Latest { flow: u16, run: u16 },
    /// Nothing, or nothing any more.
    Void,
}

/// What stands in front of the data of a segment.
#[derive(Clone, Copy)]
struct Head {
    whose: Place,
    kind: Kind,
    len: usize,
}

impl Head {
    /// Reads it. One that makes no sense says nothing.
    fn read(frg: u8, data: &[u8]) -> Self {
        if frg & flags::LANED != 0
            && let Some((&[lane, low, high], rest)) = data.split_first_chunk::<LANE_HEAD>()
            && let Some(number) = Lane::new(lane & !(LATEST | VOID))
        {
            let whose = Place::Told(number, u16::from_le_bytes([low, high]));
            return match (lane & (LATEST | VOID), rest.first_chunk()) {
                (LATEST, Some(&[flow, flow_high, run, run_high])) => {
                    let (flow, run) = (u16::from_le_bytes([flow, flow_high]), u16::from_le_bytes([run, run_high]));
                    Self { whose, kind: Kind::Latest { flow, run }, len: LATEST_HEAD }
                }
                (0, _) => Self { whose, kind: Kind::Ordinary, len: LANE_HEAD },
                _ => Self { whose, kind: Kind::Void, len: data.len() },
            };
        }
        Self { whose: Place::Untold, kind: Kind::Ordinary, len: 0 }
    }
}

/// What stands in the window for the segment of this number in this lane once its data have gone before their turn.
fn void(lane: Lane, number: u16) -> [u8; LANE_HEAD] {
    let [low, high] = number.to_le_bytes();
    [lane.number() | VOID, low, high]
}

/// True if nothing comes for a segment that says its lane.
pub(super) fn is_void(frg: u8, data: &[u8]) -> bool {
    frg & flags::LANED != 0 && Head::read(frg, data).kind == Kind::Void
}

impl Place {
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
        self.0.as_ref().map_or(0, |state| state.bytes + state.early.capacity() * size_of::<Early>())
    }

    /// Forgets what has come and was not read.
    pub(super) fn forget(&mut self) {
        if let Some(state) = &mut self.0 {
            (state.parked, state.early) = (VecDeque::new(), Vec::new());
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

    /// True if a segment of a lane need not wait for its turn.
    fn may_overtake(&self, lane: Lane, number: u16, kind: Kind) -> bool {
        let Kind::Latest { run, .. } = kind else { return false };
        ahead(number.wrapping_sub(run), self.next[usize::from(lane.number())]) <= 0
    }

    /// A segment of a lane is about to be handed on. False if it is not to be, because something newer was.
    fn admit(&mut self, whose: Place, kind: Kind) -> bool {
        let (Place::Told(lane, number), Kind::Latest { flow, .. }) = (whose, kind) else {
            return kind == Kind::Ordinary;
        };
        let next = self.next[usize::from(lane.number())];
        // Behind all that is in order nothing older can come.
        self.early.retain(|early| early.lane != lane || ahead(early.number, next) >= 0);
        match self.early.iter_mut().find(|early| early.lane == lane && early.flow == flow) {
            Some(early) if ahead(early.number, number) > 0 => return false,
            Some(early) => early.number = number,
            None if number == next => {}
            None => self.early.push(Early { lane, flow, number }),
        }
        true
    }

    /// The next segment of a lane has come, whatever becomes of it.
    fn pass(&mut self, lane: Lane) {
        let next = &mut self.next[usize::from(lane.number())];
        *next = next.wrapping_add(1);
    }

    /// Hands on what is in order of a lane.
    fn hand(&mut self, lane: Lane, data: Handed<'_>, sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        let bytes = match &data {
            Handed::Lent(bytes) => bytes,
            Handed::Own(bytes, skip) => bytes.get(*skip..).unwrap_or_default(),
        };
        let taken = if self.counts[usize::from(lane.number())] > 0 { 0 } else { drain(lane, bytes, sink) };
        if taken < bytes.len() {
            match data {
                Handed::Lent(bytes) => self.park(lane, bytes.get(taken..).unwrap_or_default().to_vec(), 0),
                Handed::Own(bytes, skip) => self.park(lane, bytes, skip + taken),
            }
        }
    }
}

/// How far `number` is ahead of `other` in their lane.
fn ahead(number: u16, other: u16) -> i16 {
    number.wrapping_sub(other) as i16
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
        let (parked, early, counts) = (VecDeque::new(), Vec::new(), [0; Lane::COUNT]);
        let mut state = Box::new(State { next, waiting, parked, bytes: 0, counts, early });
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
        env: &mut Env,
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
        let Head { whose, kind, len } = Head::read(laned, data);
        let lane = whose.lane();
        let in_turn = match whose {
            // With nothing missing before it nothing can be missing of its lane.
            _ if ahead == 0 => true,
            Place::Told(lane, number) => state.next[usize::from(lane.number())] == number,
            Place::Untold => false,
        };
        if !in_turn {
            let early = match whose {
                Place::Told(lane, number) if state.may_overtake(lane, number, kind) => Some(void(lane, number)),
                _ => None,
            };
            let kept = rx.put(ahead, laned, early.as_ref().map_or(data, |void| &void[..])).is_ok();
            state.waiting[usize::from(lane.number())] += u16::from(kept && whose != Place::Untold);
            let wanted = early.is_some() && kept && state.admit(whose, kind);
            if wanted {
                state.hand(lane, Handed::Lent(data.get(len..).unwrap_or_default()), sink);
            }
            env.stats.superseded += u64::from(kept && !wanted && (early.is_some() || kind == Kind::Void));
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
        let wanted = state.admit(whose, kind);
        state.pass(lane);
        if wanted {
            state.hand(lane, Handed::Lent(data.get(len + partial..).unwrap_or_default()), sink);
        }
        env.stats.superseded += u64::from(!wanted);
        self.hand_on(env, lane, if ahead == 0 { 0 } else { ahead + 1 }, sink);
        true
    }

    /// Hands on what has waited in the window for what has come of this lane; the next segment of it is not before `from`.
    fn hand_on(&mut self, env: &mut Env, lane: Lane, from: usize, sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        self.hand_lane(env, lane, from, sink);
        let slots = self.rx.slots();
        for _ in 0..slots {
            let Some((frg, _)) = self.rx.get(0) else { return };
            if frg != TAKEN {
                // Nothing is missing before it.
                let Some(lane) = self.hand_slot(env, 0, sink) else { return };
                self.hand_lane(env, lane, 1, sink);
            }
            self.rx.advance();
            self.place.next = self.place.next.plus(1);
        }
    }

    /// The same for the segments of this lane that follow each other, from `slot` on.
    fn hand_lane(&mut self, env: &mut Env, lane: Lane, from: usize, sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        let number = usize::from(lane.number());
        // Those of the lane that go on waiting.
        let mut left = 0;
        for slot in from..self.rx.slots() {
            let Self { rx, lanes: Lanes(Some(state)), .. } = &mut *self else { return };
            if state.waiting[number] <= left {
                return;
            }
            let Some((frg, data)) = rx.get(slot).filter(|(frg, _)| *frg != TAKEN) else { continue };
            let Head { whose, kind, .. } = Head::read(frg, data);
            match whose {
                Place::Told(other, sn) if other == lane => {
                    left += u16::from(state.next[number] != sn);
                    if state.next[number] == sn || state.may_overtake(lane, sn, kind) {
                        self.hand_slot(env, slot, sink);
                    } else if kind != Kind::Void {
                        return; // numbers of a lane are in order, and what is behind this one waits for it
                    }
                }
                // What says nothing of lanes comes behind all.
                Place::Untold if lane.is_main() => return,
                Place::Told(..) | Place::Untold => {}
            }
        }
    }

    /// Hands on the segment in this slot, and says of which lane it was. One that goes before its turn leaves its number there.
    fn hand_slot(&mut self, env: &mut Env, slot: usize, sink: &mut impl FnMut(Lane, &[u8]) -> usize) -> Option<Lane> {
        let Self { rx, lanes: Lanes(Some(state)), .. } = self else { return None };
        let (frg, data) = rx.get(slot)?;
        let Head { whose, kind, len } = Head::read(frg, data);
        let lane = whose.lane();
        let number = usize::from(lane.number());
        let early = match whose {
            Place::Told(_, sn) if slot > 0 && state.next[number] != sn => Some(void(lane, sn)),
            _ => None,
        };
        let wanted = match early {
            Some(_) => state.admit(whose, kind),
            None => {
                if let Place::Told(_, sn) = whose {
                    state.waiting[number] = state.waiting[number].saturating_sub(1);
                    state.next[number] = sn;
                }
                let wanted = state.admit(whose, kind);
                state.pass(lane);
                wanted
            }
        };
        let data = match early {
            Some(void) => rx.exchange(slot, flags::LANED, &void)?,
            None => rx.exchange(slot, TAKEN, &[])?,
        };
        if wanted {
            state.hand(lane, Handed::Own(data, len), sink);
        }
        env.stats.superseded += u64::from(!wanted && kind != Kind::Void);
        Some(lane)
    }
}
