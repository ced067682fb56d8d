//! What is to be sent, as a stream for each lane, and whose turn it is (PROTOCOL.md 2.12).
//!
//! All lanes have one numbering of segments, so losses, windows and congestion are those of the conversation. What belongs to
//! a lane stands in front of the segment's data; lane 0 needs that only while others have something under way.

use super::in_flight::Slice;
use super::latest::{Latest, Next, Said};
use crate::kcp::segment::flags;
use crate::kcp::seq::Sn;
use crate::kcp::{Config, LaneParts};
use crate::lane::{Lane, Priority};
use crate::store::{PerLane, Store, TxStream};

/// What stands in front of the data of a segment of a lane: the lane u8, and the segment's number in it u16 LE.
pub(in crate::kcp) const LANE_HEAD: usize = 3;
/// The same of one that is a message of which only the latest counts: besides the number of its subject u16 LE, and how many
/// segments before it are such messages u16 LE.
pub(in crate::kcp) const LATEST_HEAD: usize = LANE_HEAD + 4;
/// Bit of the lane: it is such a message.
pub(in crate::kcp) const LATEST: u8 = 1 << 7;
/// Bit of the lane: nothing comes for this number.
pub(in crate::kcp) const VOID: u8 = 1 << 6;
/// The longest data of such a segment: repairs use the bit above for what kind it is.
const LONGEST: usize = i16::MAX as usize;
/// So many segments in a row go before those of a lower priority that wait.
const STREAK: u8 = 15;

/// Whose a segment is.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(in crate::kcp) struct Tag {
    lane: Lane,
    /// Its number in its lane, little-endian; as bytes it fits what is left of a segment's record.
    number: [u8; 2],
    kind: Kind,
}

/// What a segment says of its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Kind {
    /// Nothing.
    #[default]
    Untold,
    /// Lane and number.
    Told,
    /// That it is a message of which only the latest counts as well.
    Latest,
    /// That nothing comes for this number.
    Void,
}

impl Tag {
    /// Of a segment of lane 0 that says nothing of it.
    const MAIN: Self = Self { lane: Lane::NORMAL, number: [0; 2], kind: Kind::Untold };

    /// It is of lane 0.
    pub(super) fn is_main(self) -> bool {
        self.lane.is_main()
    }

    /// Bytes of the segment's data that are not of the stream.
    pub(super) fn head(self) -> usize {
        match self.kind {
            Kind::Untold => 0,
            Kind::Told | Kind::Void => LANE_HEAD,
            Kind::Latest => LATEST_HEAD,
        }
    }

    /// It is a message, and not to be cut.
    pub(super) fn is_whole(self) -> bool {
        self.kind == Kind::Latest
    }

    /// The same as a part of its lane's stream like others.
    pub(super) fn ordinary(self) -> Self {
        Self { kind: if self.is_whole() { Kind::Told } else { self.kind }, ..self }
    }

    /// Nothing comes for its number.
    pub(super) fn is_void(self) -> bool {
        self.kind == Kind::Void
    }

    pub(super) fn priority(self) -> Priority {
        self.lane.priority()
    }

    /// What its header says of that.
    pub(in crate::kcp) fn flags(self) -> u8 {
        if self.kind == Kind::Untold { 0 } else { flags::LANED }
    }

    fn bytes(self, said: Said) -> [u8; LATEST_HEAD] {
        let ([low, high], [flow, flow_high]) = (self.number, said.flow.to_le_bytes());
        let [run, run_high] = said.run.to_le_bytes();
        let kind = match self.kind {
            Kind::Latest => LATEST,
            Kind::Void => VOID,
            Kind::Untold | Kind::Told => 0,
        };
        [self.lane.number() | kind, low, high, flow, flow_high, run, run_high]
    }
}

/// What is to be cut next.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) tag: Tag,
    /// Bytes of its stream that were not sent yet.
    pub(super) unsent: usize,
    /// Where its data begin in its stream, if that is not lane 0.
    pub(super) offset: Option<u32>,
}

/// See the module.
pub(in crate::kcp) struct Streams<S: Store> {
    main: S::Tx,
    /// Those that were begun, or that memory was lent for.
    lanes: Option<S::Own<Lanes<S>>>,
}

struct Lanes<S: Store> {
    others: S::Lanes<Other<S>>,
    /// The number of the next segment of lane 0.
    main_number: u16,
    /// Segments of other lanes that are not acknowledged.
    under_way: usize,
    /// Segments that went in a row before some of a lower priority.
    streak: u8,
    /// Of each priority, and of what went before its time, the lane that was last.
    last: [Lane; 4],
}

/// A lane other than 0.
struct Other<S: Store> {
    tx: S::Tx,
    /// Where its stream begins, in bytes, wrapping.
    una_offset: u32,
    /// Bytes of it that were cut into segments.
    cut: usize,
    /// The number of its next segment.
    number: u16,
    latest: Latest<S>,
}

impl<S: Store> Streams<S> {
    pub(super) fn new(main: S::Tx) -> Self {
        Self { main, lanes: None }
    }

    pub(super) fn clear(&mut self) {
        self.main.clear();
        if let Some(lanes) = &mut self.lanes {
            lanes.clear();
        }
    }

    /// Memory for one more lane. False if there are as many as there can be.
    pub(super) fn lend(&mut self, LaneParts { tx, messages, subjects }: LaneParts<S>) -> bool {
        let lanes = self.lanes.get_or_insert_with(|| Lanes::new().into());
        lanes.others.lend(Other::new(tx, Latest::new(messages, subjects)))
    }

    pub(super) fn main(&mut self) -> &mut S::Tx {
        &mut self.main
    }

    /// Bytes of all that is not acknowledged.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.main.len() + self.lanes.as_ref().map_or(0, |lanes| lanes.sum(|other| other.tx.len()))
    }

    /// The stream of a lane, for which memory is taken if need be; `next` is the number of the next segment. `None` if the store
    /// has none to take.
    pub(super) fn of(&mut self, lane: Lane, next: Sn) -> Option<&mut S::Tx> {
        if lane.is_main() {
            return Some(&mut self.main);
        }
        let lanes = self.lanes.get_or_insert_with(|| Lanes::new().into());
        if lanes.others.is_empty() {
            // All segments so far are of lane 0.
            lanes.main_number = next.0 as u16;
        }
        let new = || Some(Other::new(S::stream()?, Latest::new(S::queue()?, S::numbers()?)));
        lanes.others.claim(lane, new).map(|other| &mut other.tx)
    }

    fn other(&self, lane: Lane) -> Option<&Other<S>> {
        self.lanes.as_ref()?.others.get(lane)
    }

    fn other_mut(&mut self, lane: Lane) -> Option<&mut Other<S>> {
        self.lanes.as_mut()?.others.get_mut(lane)
    }

    /// Where the stream of another lane begins, in bytes, wrapping; and of all of them together.
    pub(super) fn una_offset(&self, lane: Lane) -> u32 {
        self.other(lane).map_or(0, |other| other.una_offset)
    }

    #[inline]
    pub(super) fn una_offsets(&self) -> u32 {
        self.lanes.as_ref().map_or(0, |lanes| lanes.una_offsets())
    }

    /// Bytes that are not sent yet, of which lane 0 has so many under way; of one lane, and of all.
    #[inline]
    pub(super) fn unsent_of(&self, lane: Lane, main_cut: usize) -> usize {
        if lane.is_main() {
            return self.main.len().saturating_sub(main_cut);
        }
        self.other(lane).map_or(0, Other::unsent)
    }

    #[inline]
    pub(super) fn unsent(&self, main_cut: usize) -> usize {
        let main = self.main.len().saturating_sub(main_cut);
        main + self.lanes.as_ref().map_or(0, |lanes| lanes.sum(Other::unsent))
    }

    /// Bytes of other lanes that were cut into segments.
    #[inline]
    pub(super) fn cut_of_others(&self) -> usize {
        self.lanes.as_ref().map_or(0, |lanes| lanes.sum(|other| other.cut))
    }

    /// Which segment is next, with so many under way and this window of the peer; and how many may be under way for it.
    #[inline(always)] // most have no lanes, and ask for each segment
    pub(super) fn next(&self, main_cut: usize, under_way: usize, window: u16) -> Option<(Cut, u16)> {
        let main = self.main.len().saturating_sub(main_cut);
        match &self.lanes {
            None if main > 0 => Some((Cut { tag: Tag::MAIN, unsent: main, offset: None }, window)),
            None => None,
            Some(lanes) => lanes.next(main, under_way, window),
        }
    }

    /// The most data of a segment that would hold `len` bytes otherwise.
    pub(super) fn longest(tag: Tag, len: usize) -> usize {
        if tag.kind == Kind::Untold { len } else { len.min(LONGEST) }
    }

    /// `len` bytes of this lane were cut into its next segment.
    #[inline]
    pub(super) fn on_cut(&mut self, tag: Tag, len: usize, main_cut: usize) {
        if let Some(lanes) = &mut self.lanes {
            lanes.on_cut(tag, len, self.main.len().saturating_sub(main_cut));
        }
    }

    /// A segment of another lane, with `len` bytes of its stream, has arrived, and so has all before it.
    pub(super) fn release(&mut self, tag: Tag, len: usize) {
        let Some(lanes) = &mut self.lanes else { return };
        lanes.under_way = lanes.under_way.saturating_sub(1);
        if let Some(other) = lanes.others.get_mut(tag.lane) {
            other.tx.release(len);
            other.cut -= len.min(other.cut);
            other.una_offset = other.una_offset.wrapping_add(len as u32);
            other.latest.release(other.una_offset);
        }
    }

    /// The last `len` bytes of a lane's stream are a message of which only the latest of its subject counts; `key` is the hash
    /// of that. Lane 0 has none.
    pub(super) fn supersede(&mut self, lane: Lane, len: u16, key: u64) {
        if let Some(other) = self.other_mut(lane) {
            let end = other.una_offset.wrapping_add(other.tx.len() as u32);
            other.latest.add(end.wrapping_sub(len.into()), len, key);
        }
    }

    /// The same segment, or what goes in its place if it is a message that a newer one has superseded.
    #[inline]
    pub(super) fn or_void(&self, slice: Slice) -> Slice {
        if slice.tag.is_whole()
            && self.other(slice.tag.lane).is_some_and(|other| other.latest.is_stale(slice.skip as u32))
        {
            let tag = Tag { kind: Kind::Void, ..slice.tag };
            return Slice { len: LANE_HEAD as u16, tag, ..slice };
        }
        slice
    }

    /// True if what waits to be cut goes before a lost segment, because it has a higher priority.
    pub(super) fn overtakes(&self, main_cut: usize, lost: Tag) -> bool {
        let main = self.main.len().saturating_sub(main_cut);
        let next = self.lanes.as_ref().and_then(|lanes| lanes.choose(main, true));
        next.is_some_and(|lane| lane.priority() < lost.priority())
    }

    /// There are other lanes.
    pub(super) fn are_several(&self) -> bool {
        self.lanes.as_ref().is_some_and(|lanes| !lanes.others.is_empty())
    }

    /// Writes the segment's data to their place in a datagram.
    #[inline]
    pub(super) fn place(&mut self, slice: &Slice, out: &mut [u8]) {
        if slice.tag.kind != Kind::Untold {
            self.copy_told(slice, 0, out, true);
        } else {
            self.main.place(slice.skip, out);
        }
    }

    /// Copies `out.len()` bytes from byte `from` of the segment's data.
    #[cfg(any(feature = "pieces", feature = "repair"))]
    #[inline]
    pub(in crate::kcp) fn copy_to(&mut self, slice: &Slice, from: usize, out: &mut [u8]) {
        if slice.tag.kind != Kind::Untold {
            self.copy_told(slice, from, out, false);
        } else {
            self.main.copy_to(slice.skip + from, out);
        }
    }

    /// The same for a segment that says its lane, or to its place in a datagram.
    #[cold]
    fn copy_told(&mut self, slice: &Slice, from: usize, out: &mut [u8], placed: bool) {
        let said = match self.other(slice.tag.lane).filter(|_| slice.tag.is_whole()) {
            Some(other) => other.latest.said(slice.skip as u32),
            None => Said::default(),
        };
        let head = slice.tag.bytes(said);
        let len = slice.tag.head();
        let head = head.get(from..len).unwrap_or_default();
        let count = head.len().min(out.len());
        let (first, rest) = out.split_at_mut(count);
        first.copy_from_slice(head.get(..count).unwrap_or_default());
        let from = (from + count).saturating_sub(len);
        let Self { main, lanes, .. } = self;
        if slice.tag.is_main() {
            let skip = slice.skip + from;
            return if placed { main.place(skip, rest) } else { main.copy_to(skip, rest) };
        }
        if let Some(other) = lanes.as_mut().and_then(|lanes| lanes.others.get_mut(slice.tag.lane)) {
            let skip = (slice.skip as u32).wrapping_sub(other.una_offset) as usize + from;
            if placed {
                other.tx.place_beside(main, skip, rest);
            } else {
                other.tx.copy_to(skip, rest);
            }
        }
    }
}

impl<S: Store> Other<S> {
    fn new(tx: S::Tx, latest: Latest<S>) -> Self {
        Self { tx, una_offset: 0, cut: 0, number: 0, latest }
    }

    fn clear(&mut self) {
        self.tx.clear();
        self.latest.clear();
        (self.una_offset, self.cut, self.number) = (0, 0, 0);
    }

    fn unsent(&self) -> usize {
        self.tx.len().saturating_sub(self.cut)
    }
}

/// Lanes as bits.
const fn priority_mask(priority: Priority) -> u8 {
    let (mut mask, mut number) = (0, 0);
    while let Some(lane) = Lane::new(number) {
        if lane.priority() as u8 == priority as u8 {
            mask |= 1 << number;
        }
        number += 1;
    }
    mask
}

const MASKS: [u8; 3] =
    [priority_mask(Priority::Urgent), priority_mask(Priority::Normal), priority_mask(Priority::Bulk)];

/// Whose turn among those of a higher priority is kept behind the turns of each priority.
const BEFORE: usize = MASKS.len();

/// Where the turns of these lanes are kept, which have one priority.
fn turn_of(lanes: u8) -> usize {
    MASKS.iter().position(|mask| mask & lanes != 0).unwrap_or(BEFORE)
}

impl<S: Store> Lanes<S> {
    fn new() -> Self {
        Self { others: Default::default(), main_number: 0, under_way: 0, streak: 0, last: [Lane::NORMAL; 4] }
    }

    /// None was begun.
    fn clear(&mut self) {
        self.others.release(Other::clear);
        (self.under_way, self.streak, self.last) = (0, 0, [Lane::NORMAL; 4]);
    }

    /// The lanes that have something to be cut, as bits, and those of them that have the highest priority. With a closed window
    /// only the urgent ones count.
    fn waiting(&self, main: usize, open: bool) -> (u8, u8) {
        let others = self.others.iter().filter(|(_, other)| other.unsent() > 0);
        let all = others.fold(u8::from(main > 0), |bits, (lane, _)| bits | 1 << lane.number());
        let all = if open { all } else { all & MASKS[0] };
        (all, MASKS.iter().map(|mask| all & mask).find(|bits| *bits != 0).unwrap_or(0))
    }

    #[cold]
    fn sum(&self, count: impl Fn(&Other<S>) -> usize) -> usize {
        self.others.iter().map(|(_, other)| count(other)).sum()
    }

    #[cold]
    fn una_offsets(&self) -> u32 {
        self.others.iter().fold(0, |sum, (_, other)| sum.wrapping_add(other.una_offset))
    }

    /// See [`Streams::next`]; so many bytes of lane 0 wait.
    #[cold]
    fn next(&self, main: usize, under_way: usize, window: u16) -> Option<(Cut, u16)> {
        let lane = self.choose(main, under_way < usize::from(window))?;
        let window =
            if lane.priority() == Priority::Urgent { window.saturating_add(Config::URGENT_RESERVE) } else { window };
        let cut = if lane.is_main() {
            let kind = if self.under_way > 0 { Kind::Told } else { Kind::Untold };
            let tag = Tag { lane, number: self.main_number.to_le_bytes(), kind };
            Cut { tag, unsent: main, offset: None }
        } else {
            let other = self.others.get(lane)?;
            let start = other.una_offset.wrapping_add(other.cut as u32);
            let (kind, unsent) = match other.latest.next(start, other.unsent()) {
                Next::Message(len) => (Kind::Latest, len),
                Next::Bytes(len) => (Kind::Told, len),
            };
            Cut { tag: Tag { lane, number: other.number.to_le_bytes(), kind }, unsent, offset: Some(start) }
        };
        Some((cut, window))
    }

    /// Whose turn it is: the highest priority's, but from time to time that of another; in it the next one in turn.
    fn choose(&self, main: usize, open: bool) -> Option<Lane> {
        let (all, best) = self.waiting(main, open);
        let lower = all & !best;
        let (among, turn) = if self.streak >= STREAK && lower != 0 { (lower, BEFORE) } else { (best, turn_of(best)) };
        let behind = among & !(u8::MAX >> (7 - self.last[turn].number()));
        let first = if behind != 0 { behind } else { among };
        Lane::new(first.trailing_zeros() as u8)
    }

    /// `len` bytes of a lane were cut; so many bytes of lane 0 waited.
    #[cold]
    fn on_cut(&mut self, tag: Tag, len: usize, main: usize) {
        self.take_turn(tag.lane, main);
        if tag.is_main() {
            self.main_number = self.main_number.wrapping_add(1);
        } else if let Some(other) = self.others.get_mut(tag.lane) {
            other.cut += len;
            let end = other.una_offset.wrapping_add(other.cut as u32);
            other.latest.on_cut(other.number, end, tag.is_whole());
            other.number = other.number.wrapping_add(1);
            self.under_way += 1;
        }
    }

    fn take_turn(&mut self, lane: Lane, main: usize) {
        let (all, best) = self.waiting(main, true);
        let goes_before = best & 1 << lane.number() != 0 && all & !best != 0;
        let turn = if best & 1 << lane.number() != 0 { turn_of(best) } else { BEFORE };
        self.streak = if goes_before { self.streak.saturating_add(1) } else { 0 };
        self.last[turn] = lane;
    }
}
