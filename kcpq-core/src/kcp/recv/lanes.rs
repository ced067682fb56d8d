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

pub(super) use super::lane_head::is_void;
use super::lane_head::{Head, Kind, Place, void};
use super::{Receiver, drain};
use crate::kcp::Config;
use crate::kcp::env::Env;
use crate::kcp::segment::{Header, flags};
use crate::lane::{Each, Lane};
use crate::store::{Queue, RxWindow, Store};

/// What marks a segment of the window whose data have been taken out.
const TAKEN: u8 = 1 << 7;

/// See the module; nothing as long as no segment has said its lane, where memory grows.
pub(super) struct Lanes<S: Store>(Option<S::Own<State<S>>>);

pub(super) struct State<S: Store> {
    /// Some segment has said its lane.
    told: bool,
    /// For each lane the number of the segment that is next.
    next: Each<u16>,
    /// Segments that have said their lane and wait in the window for one of it that is missing.
    waiting: Each<u16>,
    /// What is in order and was not taken by the sink, in the order in which it came to be. No more than the window has segments:
    /// each was one of those.
    parked: S::Queue<Parked<Kept<S>>>,
    /// Bytes of memory that these take, and how many of each lane there are.
    bytes: usize,
    counts: Each<u16>,
    /// The newest messages that were handed on before their turn. No more than the window has segments, since each has left its
    /// number there.
    early: S::Queue<Early>,
}

/// What a window makes of data that have left it.
type Kept<S> = <<S as Store>::Rx as RxWindow>::Kept;

/// A message that was handed on before its turn: nothing older of its flow is from then on.
#[derive(Clone, Copy, Debug)]
pub struct Early {
    lane: Lane,
    flow: u16,
    number: u16,
}

/// Data that are in order and were not read.
#[derive(Debug)]
pub struct Parked<K> {
    lane: Lane,
    /// Bytes that were read.
    read: u16,
    data: K,
}

impl<S: Store> Lanes<S> {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Lends it memory for what is not read, and for what went before its turn.
    pub(super) fn lend(&mut self, parked: S::Queue<Parked<Kept<S>>>, early: S::Queue<Early>) {
        self.0 = Some(State::new(parked, early).into());
    }

    /// Back to the state before any segment has said its lane.
    pub(super) fn clear(&mut self) {
        if let Some(state) = &mut self.0 {
            state.forget();
            (state.told, state.next) = (false, Each::default());
        }
    }

    /// Segments that are kept free for urgent lanes in a window of so many: they are not told.
    pub(super) fn reserve(&self, slots: usize) -> usize {
        if self.are_told() { usize::from(Config::URGENT_RESERVE).min(slots / 4) } else { 0 }
    }

    /// Some segment has said its lane.
    #[inline]
    pub(super) fn are_told(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.told)
    }

    /// Segments that are in order and were not read.
    pub(super) fn parked(&self) -> usize {
        self.0.as_ref().map_or(0, |state| state.parked.len())
    }

    /// Bytes of memory that these take.
    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |state| state.bytes + state.early.len() * size_of::<Early>())
    }

    /// Forgets what has come and was not read.
    #[cfg(feature = "alloc")]
    pub(super) fn forget(&mut self) {
        if let Some(state) = &mut self.0 {
            state.forget();
        }
    }

    /// What is first of all that was not read, and its lane. It lies in the memory of `rx`.
    pub(super) fn front<'d>(&'d self, rx: &'d S::Rx) -> Option<(Lane, &'d [u8])> {
        let parked = self.0.as_ref()?.parked.get(0)?;
        Some((parked.lane, parked.rest(rx)))
    }

    /// Takes `count` bytes of that.
    pub(super) fn consume(&mut self, rx: &mut S::Rx, count: usize) {
        let Some(state) = &mut self.0 else { return };
        if let Some(parked) = state.parked.get_mut(0)
            && parked.take(rx, count)
            && let Some(parked) = state.pop()
        {
            rx.release(parked.data);
            state.parked.shrink();
        }
    }

    /// Offers what was not read to `sink`. Of a lane of which it takes no more it is asked for nothing further. True if anything
    /// was taken.
    pub(super) fn recv(&mut self, rx: &mut S::Rx, sink: &mut impl FnMut(Lane, &[u8]) -> usize) -> bool {
        let Some(state) = &mut self.0 else { return false };
        let (mut any, mut refused, mut index) = (false, 0u8, 0);
        while let Some(parked) = state.parked.get_mut(index) {
            index += 1;
            let bit = 1 << parked.lane.number();
            if refused & bit != 0 {
                continue;
            }
            let taken = drain(parked.lane, parked.rest(rx), sink);
            any |= taken > 0;
            if !parked.take(rx, taken) {
                refused |= bit;
            }
        }
        if any {
            state.let_go(rx);
        }
        any
    }
}

impl<K: 'static> Parked<K> {
    /// What was not read.
    fn rest<'d, R: RxWindow<Kept = K>>(&'d self, rx: &'d R) -> &'d [u8] {
        rx.kept(&self.data).get(usize::from(self.read)..).unwrap_or_default()
    }

    /// Takes `count` bytes of that; true if it was all.
    fn take<R: RxWindow<Kept = K>>(&mut self, rx: &R, count: usize) -> bool {
        // No segment is as long.
        self.read = self.read.saturating_add(u16::try_from(count).unwrap_or(u16::MAX));
        self.rest(rx).is_empty()
    }
}

impl<S: Store> State<S> {
    fn new(parked: S::Queue<Parked<Kept<S>>>, early: S::Queue<Early>) -> Self {
        let none = Each::default();
        Self { told: false, next: none, waiting: none, parked, bytes: 0, counts: none, early }
    }

    /// Forgets what waits. Where memory is lent the window forgets it as well.
    fn forget(&mut self) {
        self.parked.clear();
        self.parked.shrink();
        self.early.clear();
        self.early.shrink();
        (self.bytes, self.counts, self.waiting) = (0, Each::default(), Each::default());
    }

    /// Data that are in order wait to be read. There is room, see [`State`].
    fn park(&mut self, parked: Parked<Kept<S>>) {
        let (lane, weight) = (parked.lane, weight::<S>(&parked));
        if self.parked.push(parked).is_ok() {
            self.bytes += weight;
            self.counts[lane] += 1;
        }
    }

    fn pop(&mut self) -> Option<Parked<Kept<S>>> {
        let parked = self.parked.pop()?;
        self.bytes = self.bytes.saturating_sub(weight::<S>(&parked));
        let count = &mut self.counts[parked.lane];
        *count = count.saturating_sub(1);
        Some(parked)
    }

    /// Lets go of what was read.
    fn let_go(&mut self, rx: &mut S::Rx) {
        for _ in 0..self.parked.len() {
            let Some(parked) = self.pop() else { break };
            if parked.rest(rx).is_empty() {
                rx.release(parked.data);
            } else {
                self.park(parked);
            }
        }
        self.parked.shrink();
    }

    /// Behind all that is in order nothing older can come.
    fn let_go_of_early(&mut self) {
        for _ in 0..self.early.len() {
            let Some(early) = self.early.pop() else { break };
            if ahead(early.number, self.next[early.lane]) >= 0 {
                let _ = self.early.push(early); // where it was
            }
        }
    }

    /// Where the newest message of a flow stands that was handed on before its turn.
    fn early_of(&mut self, lane: Lane, flow: u16) -> Option<&mut u16> {
        let is_it = |early: &Early| early.lane == lane && early.flow == flow;
        let index = (0..self.early.len()).find(|index| self.early.get(*index).is_some_and(is_it))?;
        self.early.get_mut(index).map(|early| &mut early.number)
    }

    /// True if a segment of a lane need not wait for its turn.
    fn may_overtake(&self, lane: Lane, number: u16, kind: Kind) -> bool {
        let Kind::Latest { run, .. } = kind else { return false };
        ahead(number.wrapping_sub(run), self.next[lane]) <= 0
    }

    /// A segment of a lane is about to be handed on. False if it is not to be, because something newer was.
    /// The window has so many `slots`.
    fn admit(&mut self, slots: usize, whose: Place, kind: Kind) -> bool {
        let (Place::Told(lane, number), Kind::Latest { flow, .. }) = (whose, kind) else {
            return kind == Kind::Ordinary;
        };
        self.let_go_of_early();
        let in_turn = number == self.next[lane];
        match self.early_of(lane, flow) {
            Some(newest) if ahead(*newest, number) > 0 => return false,
            Some(newest) => *newest = number,
            None if in_turn => {}
            // There are more only if the peer contradicts itself.
            None => return self.early.len() < slots && self.early.push(Early { lane, flow, number }).is_ok(),
        }
        true
    }

    /// The next segment of a lane has come, whatever becomes of it.
    fn pass(&mut self, lane: Lane) {
        let next = &mut self.next[lane];
        *next = next.wrapping_add(1);
    }

    /// Hands on data in a datagram that are in order in their lane. What is not taken has room beside the window.
    fn hand(&mut self, rx: &mut S::Rx, lane: Lane, data: &[u8], sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        let rest = data.get(self.taken(lane, data, sink)..).unwrap_or_default();
        if !rest.is_empty()
            && let Some(data) = rx.keep(rest)
        {
            self.park(Parked { lane, read: 0, data });
        }
    }

    /// The same for data out of the window, behind so many bytes.
    fn hand_kept(
        &mut self,
        rx: &mut S::Rx,
        lane: Lane,
        data: Kept<S>,
        skip: usize,
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) {
        let mut parked = Parked { lane, read: 0, data };
        let taken = match parked.take(rx, skip) {
            true => 0,
            false => self.taken(lane, parked.rest(rx), sink),
        };
        if parked.take(rx, taken) {
            rx.release(parked.data);
        } else {
            self.park(parked);
        }
    }

    /// How much the sink takes of data of a lane: nothing as long as it has not taken what was before.
    fn taken(&self, lane: Lane, data: &[u8], sink: &mut impl FnMut(Lane, &[u8]) -> usize) -> usize {
        if self.counts[lane] > 0 { 0 } else { drain(lane, data, sink) }
    }
}

/// Bytes of memory that something parked takes, where memory is shared.
fn weight<S: Store>(parked: &Parked<Kept<S>>) -> usize {
    size_of::<Parked<Kept<S>>>() + S::Rx::weight(&parked.data)
}

/// How far `number` is ahead of `other` in their lane.
fn ahead(number: u16, other: u16) -> i16 {
    number.wrapping_sub(other) as i16
}

impl<S: Store> Receiver<S> {
    /// A segment has said its lane for the first time: what is in order and was not read leaves the window. Without effect if
    /// there is no memory for lanes.
    #[cold]
    fn begin_lanes(&mut self) {
        if self.lanes.0.is_none()
            && let (Some(parked), Some(early)) = (S::queue(), S::queue())
        {
            self.lanes.lend(parked, early);
        }
        let Self { rx, lanes: Lanes(Some(state)), place, .. } = self else { return };
        // All that was in order was of lane 0.
        state.next[Lane::NORMAL] = place.next.0 as u16;
        state.told = true;
        while place.ready > 0 {
            let rest = rx.front().map_or(0, |(data, _)| data.len());
            if let Some(data) = rx.exchange(0, TAKEN, &[]) {
                let mut parked = Parked { lane: Lane::NORMAL, read: 0, data };
                let read = parked.rest(rx).len().saturating_sub(rest);
                if parked.take(rx, read) {
                    rx.release(parked.data);
                } else {
                    state.park(parked);
                }
            }
            rx.advance();
            place.ready -= 1;
        }
    }

    /// Lends memory for lanes: see [`Kcp::lend_lanes`](crate::kcp::Kcp::lend_lanes).
    pub(in crate::kcp) fn lend_lanes(&mut self, parked: S::Queue<Parked<Kept<S>>>, early: S::Queue<Early>) -> bool {
        let segments = parked.capacity().min(early.capacity());
        if segments >= self.rx.slots() {
            self.lanes.lend(parked, early);
        }
        segments >= self.rx.slots()
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
        if !rx.can_keep(data.len()) {
            return false;
        }
        // The beginning of it may have been read when it could not be kept.
        let partial = if ahead == 0 { core::mem::take(&mut place.partial) } else { 0 };
        let laned = if env.peer.lanes { header.frg & flags::LANED } else { 0 };
        let Head { whose, kind, len } = Head::read(laned, data);
        let lane = whose.lane();
        let in_turn = match whose {
            // With nothing missing before it nothing can be missing of its lane.
            _ if ahead == 0 => true,
            Place::Told(lane, number) => state.next[lane] == number,
            Place::Untold => false,
        };
        if !in_turn {
            let early = match whose {
                Place::Told(lane, number) if state.may_overtake(lane, number, kind) => Some(void(lane, number)),
                _ => None,
            };
            let kept = rx.put(ahead, laned, early.as_ref().map_or(data, |void| &void[..])).is_ok();
            state.waiting[lane] += u16::from(kept && whose != Place::Untold);
            let wanted = early.is_some() && kept && state.admit(rx.slots(), whose, kind);
            if wanted {
                state.hand(rx, lane, data.get(len..).unwrap_or_default(), sink);
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
            state.next[lane] = number;
        }
        let wanted = state.admit(rx.slots(), whose, kind);
        state.pass(lane);
        if wanted {
            state.hand(rx, lane, data.get(len + partial..).unwrap_or_default(), sink);
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
        // Those of the lane that go on waiting.
        let mut left = 0;
        for slot in from..self.rx.slots() {
            let Self { rx, lanes: Lanes(Some(state)), .. } = &mut *self else { return };
            if state.waiting[lane] <= left {
                return;
            }
            let Some((frg, data)) = rx.get(slot).filter(|(frg, _)| *frg != TAKEN) else { continue };
            let Head { whose, kind, .. } = Head::read(frg, data);
            match whose {
                Place::Told(other, sn) if other == lane => {
                    left += u16::from(state.next[lane] != sn);
                    if state.next[lane] == sn || state.may_overtake(lane, sn, kind) {
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
        let early = match whose {
            Place::Told(_, sn) if slot > 0 && state.next[lane] != sn => Some(void(lane, sn)),
            _ => None,
        };
        let wanted = match early {
            Some(_) => state.admit(rx.slots(), whose, kind),
            None => {
                if let Place::Told(_, sn) = whose {
                    state.waiting[lane] = state.waiting[lane].saturating_sub(1);
                    state.next[lane] = sn;
                }
                let wanted = state.admit(rx.slots(), whose, kind);
                state.pass(lane);
                wanted
            }
        };
        let data = match early {
            Some(void) => rx.exchange(slot, flags::LANED, &void)?,
            None => rx.exchange(slot, TAKEN, &[])?,
        };
        if wanted {
            state.hand_kept(rx, lane, data, len, sink);
        } else {
            rx.release(data);
        }
        env.stats.superseded += u64::from(!wanted && kind != Kind::Void);
        Some(lane)
    }
}
