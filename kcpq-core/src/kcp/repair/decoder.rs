//! Rebuilds what is lost.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::{LANED, LONGEST, WINDOW, covers, factor, length, times};
use crate::field::{Multiplier, exp, log};
use crate::kcp::segment::{Command, Header, flags};
use crate::kcp::seq::{Sn, Ts};

/// Segments kept to decode others with: the decoding window.
const KEPT: usize = 32;
/// Maximum pending equations.
const EQUATIONS: usize = 16;
/// Bytes of memory that all of it may take, at rest as well, and what equations may: the last [`KEPT`] segments of a
/// datagram of 1,500 bytes each find their place beside them. With less, messages of several segments are late on paths with
/// jitter.
const MOST: usize = 72 * 1024;
const MOST_EQUATIONS: usize = 24 * 1024;
/// Segments without any repair after which nothing is kept any more.
const QUIET: u32 = 1_024;
/// Work that each byte of a segment or repair may cause, in bytes that are multiplied: once for each segment covered and
/// twice for each equation, when all are as long.
const WORK_PER_BYTE: u32 = (WINDOW + 2 * EQUATIONS) as u32;
/// Work that may be saved up: for equations that are as long as can be when what comes is short.
const MAX_CREDIT: u32 = 4 * WORK_PER_BYTE * LONGEST as u32;

/// A segment that was rebuilt.
#[derive(Debug)]
pub(in crate::kcp) struct Rebuilt {
    sn: Sn,
    /// To be echoed.
    ts: Ts,
    /// A length, the data, and padding.
    symbol: Vec<u8>,
}

impl Rebuilt {
    /// The header that it came with, as far as that is known: the rest is that of what rebuilt it.
    pub(in crate::kcp) fn header(&self, by: Header) -> Header {
        let told = self.symbol.first_chunk().is_some_and(|length| u16::from_le_bytes(*length) & LANED != 0);
        let frg = if told { flags::LANED } else { 0 };
        Header { command: Command::Push, frg, sn: self.sn, ts: self.ts, ..by }
    }

    /// The data, or `None` if they contradict themselves.
    pub(in crate::kcp) fn data(&self) -> Option<&[u8]> {
        let (len, rest) = self.symbol.split_first_chunk()?;
        let (data, padding) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len) & !LANED))?;
        padding.iter().all(|byte| *byte == 0).then_some(data)
    }
}

/// A sum of segments that have not come.
#[derive(Debug)]
struct Equation {
    /// Which, and their factors; the first one's is 1.
    missing: Vec<(Sn, u8)>,
    sum: Vec<u8>,
    ts: Ts,
}

impl Equation {
    /// Adds `factor` times `symbol` of segments whose factors are given.
    fn add(&mut self, multiplier: Multiplier, factor: u8, other: &[(Sn, u8)], symbol: &[u8]) {
        if self.sum.len() < symbol.len() {
            self.sum.resize(symbol.len(), 0);
        }
        multiplier.add(factor, symbol, &mut self.sum);
        for (sn, own) in other {
            let change = times(factor, *own);
            match self.missing.iter_mut().find(|(known, _)| known == sn) {
                Some((_, sum)) => *sum ^= change,
                None => self.missing.push((*sn, change)),
            }
        }
        self.missing.retain(|(_, factor)| *factor != 0);
    }

    /// Makes the first factor 1.
    fn normalise(&mut self, multiplier: Multiplier) {
        let Some((_, first)) = self.missing.first().copied().filter(|(_, first)| *first > 1) else { return };
        let inverse = exp(255 - log(first));
        let mut sum = vec![0; self.sum.len()];
        multiplier.add(inverse, &self.sum, &mut sum);
        self.sum = sum;
        for (_, factor) in &mut self.missing {
            *factor = times(*factor, inverse);
        }
    }

    fn factor_of(&self, sn: Sn) -> Option<u8> {
        self.missing.iter().find(|(missing, _)| *missing == sn).map(|(_, factor)| *factor)
    }
}

/// A segment that has come: its length and data.
type Kept = (Sn, Vec<u8>);

/// The decoder: there is nothing to keep before the first repair comes, and none again after [`QUIET`] segments without.
#[derive(Debug)]
pub(in crate::kcp) struct Decoder(Option<Box<Equations>>);

impl Decoder {
    pub(in crate::kcp) fn new() -> Self {
        Self(None)
    }

    /// Bytes of memory that it takes.
    #[inline]
    pub(in crate::kcp) fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |equations| equations.held())
    }

    /// A segment has come that was not there. False if nothing can follow from that.
    #[inline]
    pub(in crate::kcp) fn on_segment(&mut self, sn: Sn, flags: u8, data: &[u8]) -> bool {
        let Some(equations) = &mut self.0 else { return false };
        equations.on_segment(sn, flags, data);
        true
    }

    /// Nothing comes for a segment that was not there: repairs know its data, and nothing else does.
    #[inline]
    pub(in crate::kcp) fn on_void(&mut self, sn: Sn) {
        if let Some(equations) = &mut self.0 {
            equations.kept[sn.0 as usize % KEPT] = Some((sn, Vec::new()));
        }
    }

    /// A repair has come. `has` says which segments have. False if it says nothing new.
    pub(in crate::kcp) fn on_repair(&mut self, header: &Header, body: &[u8], has: impl Fn(Sn) -> bool) -> bool {
        self.0.get_or_insert_with(|| Box::new(Equations::new())).on_repair(header, body, has)
    }

    /// A segment that is known by now. It is to be handed back to [`on_segment`](Self::on_segment).
    pub(in crate::kcp) fn poll(&mut self) -> Option<Rebuilt> {
        if self.0.as_ref().is_some_and(|equations| equations.quiet > QUIET) {
            self.0 = None;
        }
        self.0.as_mut()?.poll()
    }
}

/// What is known of segments that have not come, by Gaussian elimination as segments and repairs come; and the last
/// [`KEPT`] segments.
#[derive(Debug)]
struct Equations {
    multiplier: Multiplier,
    kept: [Option<Kept>; KEPT],
    /// Bytes that these take, and where the newest of them is.
    bytes: usize,
    newest: usize,
    /// Solved for their first missing segments: none of these is in another one.
    equations: Vec<Equation>,
    /// Segments since the last repair.
    quiet: u32,
    /// Work that what came may still cause, so that nobody can keep a processor busy with little.
    credit: u32,
}

impl Equations {
    fn new() -> Self {
        Self {
            multiplier: Multiplier::new(),
            kept: [const { None }; KEPT],
            bytes: 0,
            newest: 0,
            equations: Vec::new(),
            quiet: 0,
            credit: MAX_CREDIT,
        }
    }

    #[inline(never)]
    fn held(&self) -> usize {
        size_of::<Self>() + self.equations.capacity() * size_of::<Equation>() + self.bytes + self.held_by_equations()
    }

    fn held_by_equations(&self) -> usize {
        let held = |equation: &Equation| equation.sum.capacity() + equation.missing.capacity() * size_of::<(Sn, u8)>();
        self.equations.iter().map(held).sum()
    }

    /// Forgets the oldest of what is kept, if it takes too much memory.
    fn trim(&mut self) {
        while self.equations.len() > 1 && self.held_by_equations() > MOST_EQUATIONS {
            self.equations.remove(0);
        }
        let newest = self.newest;
        let mut oldest = (1..KEPT).map(|further| (newest + further) % KEPT);
        while self.held() > MOST
            && let Some(place) = oldest.next()
        {
            let forgotten = self.kept.get_mut(place).and_then(Option::take);
            self.bytes -= forgotten.map_or(0, |(_, symbol)| symbol.capacity());
        }
    }

    /// `bytes` came, and up to `additions` sums over the longest equation are to follow. False if that is more work than
    /// what came is worth.
    fn afford(&mut self, bytes: usize, additions: usize) -> bool {
        let earned = WORK_PER_BYTE * bytes.min(LONGEST) as u32;
        self.credit = self.credit.saturating_add(earned).min(MAX_CREDIT);
        self.pay(bytes, additions)
    }

    /// The same for work of which it was not known that it would follow.
    fn pay(&mut self, bytes: usize, additions: usize) -> bool {
        let longest = self.equations.iter().map(|equation| equation.sum.len()).max().unwrap_or(0).max(bytes);
        let Some(left) = self.credit.checked_sub((longest * additions) as u32) else { return false };
        self.credit = left;
        true
    }

    #[inline(never)]
    fn on_segment(&mut self, sn: Sn, flags: u8, data: &[u8]) {
        self.quiet = self.quiet.saturating_add(1);
        if !covers(data.len()) {
            return; // no repair covers it
        }
        let place = place(sn);
        let former = self.kept.get_mut(place).and_then(Option::take);
        let mut symbol = former.map(|(_, symbol)| symbol).unwrap_or_default();
        self.bytes -= symbol.capacity();
        symbol.clear();
        symbol.reserve_exact(2 + data.len());
        symbol.extend(length(data.len() as u16, flags));
        symbol.extend_from_slice(data);
        let known = [(sn, 1)];
        let affordable = self.afford(symbol.len(), self.equations.len());
        let solved_for = |equation: &Equation| equation.missing.first().is_some_and(|(first, _)| *first == sn);
        if let Some(index) = self.equations.iter().position(solved_for) {
            // No other one has it, and this one is to be solved for another.
            let mut equation = self.equations.swap_remove(index);
            if affordable && self.pay(equation.sum.len(), 2 * self.equations.len() + 2) {
                // What is subtracted is added, in this field.
                equation.add(self.multiplier, 1, &known, &symbol);
                self.insert(equation);
            }
        } else if !affordable {
            self.equations.retain(|equation| equation.factor_of(sn).is_none());
        } else {
            for equation in &mut self.equations {
                if let Some(factor) = equation.factor_of(sn) {
                    equation.add(self.multiplier, factor, &known, &symbol);
                }
            }
        }
        if let Some(kept) = self.kept.get_mut(place) {
            self.bytes += symbol.capacity();
            *kept = Some((sn, symbol));
        }
        self.newest = place;
        self.trim();
    }

    fn on_repair(&mut self, header: &Header, body: &[u8], has: impl Fn(Sn) -> bool) -> bool {
        self.quiet = 0;
        let Some((&count, sum)) = body.split_first() else { return false };
        if usize::from(count) > WINDOW || sum.len() < 2 || sum.len() > LONGEST + 2 {
            return false;
        }
        if !self.afford(sum.len(), usize::from(count) + 2 * self.equations.len() + 1) {
            return false;
        }
        let mut new = Equation { missing: Vec::new(), sum: sum.to_vec(), ts: header.ts };
        for sn in (0..u32::from(count)).map(|index| header.sn.plus(index)) {
            let factor = factor(sn, header.frg);
            if !has(sn) {
                new.missing.push((sn, factor));
                continue;
            }
            match self.symbol_of(sn) {
                Some([]) => new.missing.push((sn, factor)),
                Some(symbol) if symbol.len() <= sum.len() => self.multiplier.add(factor, symbol, &mut new.sum),
                _ => return false, // it came before anything was kept
            }
        }
        self.insert(new)
    }

    /// What is kept of a segment.
    fn symbol_of(&self, sn: Sn) -> Option<&[u8]> {
        let (kept, symbol) = self.kept.get(place(sn))?.as_ref()?;
        (*kept == sn).then_some(symbol)
    }

    /// Solves an equation for a segment that no other is solved for. False if the others say the same already.
    fn insert(&mut self, mut new: Equation) -> bool {
        for known in &self.equations {
            if let Some(factor) = known.missing.first().and_then(|(sn, _)| new.factor_of(*sn)) {
                new.add(self.multiplier, factor, &known.missing, &known.sum);
            }
        }
        new.normalise(self.multiplier);
        let Some((pivot, _)) = new.missing.first().copied() else { return false };
        for known in &mut self.equations {
            if let Some(factor) = known.factor_of(pivot) {
                known.add(self.multiplier, factor, &new.missing, &new.sum);
            }
        }
        if self.equations.len() == EQUATIONS {
            self.equations.remove(0);
        }
        self.equations.push(new);
        self.trim();
        true
    }

    fn poll(&mut self) -> Option<Rebuilt> {
        let index = self.equations.iter().position(|equation| equation.missing.len() == 1)?;
        let Equation { missing, sum, ts } = self.equations.swap_remove(index);
        let (sn, _) = missing.first().copied()?;
        Some(Rebuilt { sn, ts, symbol: sum })
    }
}

/// Where a segment is kept, in the place of the one that many before it.
fn place(sn: Sn) -> usize {
    sn.0 as usize % KEPT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kcp::seq::Ts;

    fn repair(first: u32, count: u8, row: u8, len: usize) -> (Header, Vec<u8>) {
        let mut body = vec![7; len + 1];
        body[0] = count;
        let len = body.len() as u32;
        let header =
            Header { conv: 1, command: Command::Repair, frg: row, wnd: 1, ts: Ts(0), sn: Sn(first), una: Sn(0), len };
        (header, body)
    }

    /// A repair in this row over segments from `first` on.
    fn repair_of(first: u32, row: u8, segments: &[&[u8]]) -> (Header, Vec<u8>) {
        let longest = segments.iter().map(|data| data.len()).max().unwrap_or(0);
        let mut sum = vec![0; 2 + longest];
        for (sn, data) in (first..).zip(segments) {
            let symbol = [&length(data.len() as u16, 0)[..], data].concat();
            Multiplier::new().add(factor(Sn(sn), row), &symbol, &mut sum);
        }
        let (header, mut body) = repair(first, segments.len() as u8, row, sum.len());
        body[1..].copy_from_slice(&sum);
        (header, body)
    }

    #[test]
    fn as_many_segments_are_rebuilt_as_there_are_repairs() {
        const FIRST: u32 = 100;
        let segments: [&[u8]; 5] = [b"one", b"seven", b"twelve", b"", b"thirteen"];
        // Which of them come, before the repairs and between them.
        for (before, between) in [(&[0, 4][..], &[2][..]), (&[], &[0, 1, 2]), (&[1, 2, 3], &[]), (&[3], &[4, 0])] {
            let (mut decoder, mut come, mut rebuilt) = (Decoder::new(), Vec::new(), Vec::new());
            let mut poll = |decoder: &mut Decoder, come: &mut Vec<usize>| {
                while let Some(segment) = decoder.poll() {
                    let place = (segment.sn.0 - FIRST) as usize;
                    assert_eq!(segment.data(), Some(segments[place]), "{before:?}, then {between:?}");
                    decoder.on_segment(segment.sn, 0, segments[place]);
                    come.push(place);
                    rebuilt.push(place);
                }
            };
            // With it begins what is kept.
            let (header, body) = repair_of(0, 1, &[b"of before"]);
            decoder.on_repair(&header, &body, |_| true);
            for place in before {
                decoder.on_segment(Sn(FIRST + *place as u32), 0, segments[*place]);
                come.push(*place);
            }
            let missing = segments.len() - before.len() - between.len();
            for row in 0..missing as u8 {
                let (header, body) = repair_of(FIRST, row, &segments);
                decoder.on_repair(&header, &body, |sn| come.contains(&((sn.0 - FIRST) as usize)));
                poll(&mut decoder, &mut come);
            }
            for place in between {
                decoder.on_segment(Sn(FIRST + *place as u32), 0, segments[*place]);
                come.push(*place);
                poll(&mut decoder, &mut come);
            }
            come.sort_unstable();
            assert_eq!((come.as_slice(), rebuilt.len()), (&[0, 1, 2, 3, 4][..], missing));
        }
    }

    #[test]
    fn what_is_kept_is_counted_and_sums_are_as_long_as_a_segment_can_make_them() {
        let mut equations = Equations::new();
        let empty = equations.held();
        equations.on_segment(Sn(0), 0, &[7; 100]);
        assert_eq!(equations.held() - empty, 2 + 100, "the segment behind its length");
        for (row, len, is_taken) in [(0, 1, false), (1, 2, true), (2, LONGEST + 2, true), (3, LONGEST + 3, false)] {
            equations.credit = MAX_CREDIT;
            let (header, body) = repair(1, 8, row, len);
            let before = equations.equations.len();
            assert_eq!(equations.on_repair(&header, &body, |_| false), is_taken, "{len}");
            assert_eq!(equations.equations.len() > before, is_taken, "{len}");
        }
    }

    /// Segments and sums that are as long as can be, of which some are missing for good.
    #[test]
    fn it_takes_no_more_memory_than_a_session_may_have() {
        let (mut decoder, mut most) = (Decoder::new(), 0);
        let comes = |sn: u32| !sn.is_multiple_of(5);
        for sn in 0..1_000 {
            if comes(sn) {
                decoder.on_segment(Sn(sn), 0, &[7; LONGEST]);
            }
            let (header, body) = repair(sn.saturating_sub(11), 12, (sn % 128) as u8, LONGEST + 2);
            decoder.on_repair(&header, &body, |known| known.0 <= sn && comes(known.0));
            while decoder.poll().is_some() {}
            most = most.max(decoder.held());
        }
        assert!((40 << 10..72 << 10).contains(&most), "{most} bytes");
    }

    /// Repairs of three bytes that each make two kilobytes be multiplied thirty times: chains of them fitted into one
    /// datagram.
    #[test]
    fn work_is_paid_for_by_what_came() {
        let mut equations = Equations::new();
        let (mut sent, mut done) = (0, 0);
        for round in 0..100_000u32 {
            // Equations of full length over segments that never come, then short ones that meet all of them.
            let (len, first) = if round % 50 < 16 { (LONGEST, round % 16) } else { (2, 0) };
            let (header, body) = repair(first, 12, (round % 128) as u8, len);
            sent += body.len() + 24;
            let before = equations.credit;
            equations.on_repair(&header, &body, |_| false);
            let earned = (before + WORK_PER_BYTE * (body.len() - 1) as u32).min(MAX_CREDIT);
            done += u64::from(earned - equations.credit);
            if round % 7 == 0 {
                equations.on_segment(Sn(round % 16), 0, &[1]);
            }
        }
        let per_byte = done / sent as u64;
        assert!(per_byte <= u64::from(WORK_PER_BYTE), "{per_byte} for each byte");
    }
}
