//! Parity over the last segments, between peers that both know it: what is lost is rebuilt without a round trip
//! (PROTOCOL.md 2.9).
//!
//! Sliding-window random linear coding (RLC), as in RFC 8681, with the coefficients of a Cauchy matrix in place of
//! random ones: a parity segment is a sum of the segments `first..first + count`, each times a factor that follows from
//! its number and from the parity's row. Any segments that arrive, old or new, and any parities together are equations;
//! as soon as there are as many as segments are missing, these are known.
//!
//! ```text
//! | conv | 85 | row | wnd | ts | first sn | una | len | count u8 | sum of (len u16 LE, data), padded with zeros |
//!          cmd  frg
//! ```
//!
//! The clock of a parity has its top bit turned over. It comes back in the acknowledgement of what it rebuilt, and so
//! tells the sender that the segment itself was lost.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::segment::{HEADER, Header};
use super::seq::{Sn, Ts};
use crate::field::{Multiplier, exp, log};
use crate::store::{Queue, Store, TxStream};

use super::sender::Sender;

/// What a parity adds to the longest segment's data: the count and a length.
pub(super) const OVERHEAD: usize = 3;
/// Maximum segments covered by one parity: the encoding window.
const WINDOW: usize = 12;
/// Segments kept to decode others with: the decoding window.
const KEPT: usize = 32;
/// Maximum pending equations.
const EQUATIONS: usize = 16;
/// Segments without any parity after which nothing is kept any more.
const QUIET: u32 = 1_024;
/// Longer segments are not covered: such datagrams do not leave the machine.
pub(super) const LONGEST: usize = 2_048;

/// The factor of segment `sn` in the parities of `row`: Cauchy's matrix, of which each square part is regular.
fn factor(sn: Sn, row: u8) -> u8 {
    let (column, row) = (sn.0 as u8 & 0x7f, row | 0x80);
    exp(255 - log(column ^ row))
}

/// `a` times `b`.
fn times(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 { 0 } else { exp(log(a) + log(b)) }
}

/// What turns a parity's clock into the time, and back.
pub(super) fn flip(ts: Ts) -> Ts {
    Ts(ts.0 ^ 1 << 31)
}

/// The encoder.
#[derive(Debug)]
pub(super) struct Encoder {
    multiplier: Multiplier,
    row: u8,
    segment: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { multiplier: Multiplier::new(), row: 0, segment: Vec::new() }
    }
}

impl<S: Store> Sender<S> {
    /// Writes a parity over the last segments in flight to the front of `out`.
    pub(super) fn write_parity(&mut self, encoder: &mut Encoder, mut header: Header, out: &mut [u8]) -> Option<usize> {
        let count = self.sent.len().min(WINDOW);
        let from = self.sent.len() - count;
        let longest = (from..self.sent.len()).filter_map(|index| Some(self.sent.get(index)?.len)).max()?;
        let len = usize::from(longest) + OVERHEAD;
        let out = out.get_mut(..HEADER + len)?;
        let (head, body) = out.split_at_mut(HEADER);
        let (first, sum) = body.split_first_mut()?;
        *first = count as u8;
        sum.fill(0);
        encoder.row = (encoder.row + 1) & 0x7f;
        for index in from..self.sent.len() {
            let Some(segment) = self.sent.get(index) else { break };
            encoder.segment.clear();
            encoder.segment.extend(segment.len.to_le_bytes());
            encoder.segment.resize(2 + usize::from(segment.len), 0);
            let skip = segment.offset.wrapping_sub(self.una_offset) as usize;
            self.tx.copy_to(skip, &mut encoder.segment[2..]);
            encoder.multiplier.add(factor(self.una.plus(index as u32), encoder.row), &encoder.segment, sum);
        }
        header.frg = encoder.row;
        header.sn = self.una.plus(from as u32);
        header.ts = flip(header.ts);
        header.len = len as u32;
        head.copy_from_slice(&header.to_bytes());
        Some(HEADER + len)
    }
}

/// A segment that was rebuilt.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub(super) sn: Sn,
    /// To be echoed.
    pub(super) ts: Ts,
    /// A length, the data, and padding.
    symbol: Vec<u8>,
}

impl Rebuilt {
    /// The data, or `None` if they contradict themselves.
    pub(super) fn data(&self) -> Option<&[u8]> {
        let (len, rest) = self.symbol.split_first_chunk()?;
        let (data, padding) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
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

/// The decoder, by Gaussian elimination as segments and parities come. It keeps the last [`KEPT`] segments, from the
/// first parity on until [`QUIET`] segments came without any.
#[derive(Debug)]
pub(super) struct Decoder {
    multiplier: Multiplier,
    kept: Box<[Option<Kept>; KEPT]>,
    /// Solved for their first missing segments: none of these is in another one.
    equations: Vec<Equation>,
    quiet: u32,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { multiplier: Multiplier::new(), kept: Box::new([const { None }; KEPT]), equations: Vec::new(), quiet: 0 }
    }

    /// True when no parity has come for so long that it is not worth its memory.
    pub(super) fn is_idle(&self) -> bool {
        self.quiet > QUIET
    }

    /// A segment has come that was not there.
    pub(super) fn on_segment(&mut self, sn: Sn, data: &[u8]) {
        self.quiet = self.quiet.saturating_add(1);
        let place = sn.0 as usize % KEPT;
        let mut symbol = self.kept[place].take().map(|(_, symbol)| symbol).unwrap_or_default();
        symbol.clear();
        symbol.extend((data.len() as u16).to_le_bytes());
        symbol.extend_from_slice(data);
        let known = [(sn, 1)];
        let solved_for = |equation: &Equation| equation.missing.first().is_some_and(|(first, _)| *first == sn);
        if let Some(index) = self.equations.iter().position(solved_for) {
            // No other one has it, and this one is to be solved for another.
            let mut equation = self.equations.swap_remove(index);
            // What is subtracted is added, in this field.
            equation.add(self.multiplier, 1, &known, &symbol);
            self.insert(equation);
        } else {
            for equation in &mut self.equations {
                if let Some(factor) = equation.factor_of(sn) {
                    equation.add(self.multiplier, factor, &known, &symbol);
                }
            }
        }
        self.kept[place] = Some((sn, symbol));
    }

    /// A parity has come. `has` says which segments have. False if it says nothing new.
    pub(super) fn on_parity(&mut self, header: &Header, body: &[u8], has: impl Fn(Sn) -> bool) -> bool {
        self.quiet = 0;
        let Some((&count, sum)) = body.split_first() else { return false };
        if usize::from(count) > WINDOW || sum.len() < 2 || sum.len() > LONGEST + 2 {
            return false;
        }
        let mut new = Equation { missing: Vec::new(), sum: sum.to_vec(), ts: header.ts };
        for sn in (0..u32::from(count)).map(|index| header.sn.plus(index)) {
            let factor = factor(sn, header.frg);
            if !has(sn) {
                new.missing.push((sn, factor));
                continue;
            }
            match &self.kept[sn.0 as usize % KEPT] {
                Some((kept, symbol)) if *kept == sn && symbol.len() <= sum.len() => {
                    self.multiplier.add(factor, symbol, &mut new.sum);
                }
                _ => return false, // it came before anything was kept
            }
        }
        self.insert(new)
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
        true
    }

    /// A segment that is known by now. It is to be handed back to [`on_segment`](Self::on_segment).
    pub(super) fn poll(&mut self) -> Option<Rebuilt> {
        let index = self.equations.iter().position(|equation| equation.missing.len() == 1)?;
        let Equation { missing, sum, ts } = self.equations.swap_remove(index);
        let (sn, _) = missing.first().copied()?;
        Some(Rebuilt { sn, ts, symbol: sum })
    }
}
