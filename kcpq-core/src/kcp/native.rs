//! The body of a native datagram: items (PROTOCOL.md 1.5).
//!
//! ```text
//! ACK        | 01 | una u16 | wnd u16 | echo u16 |     everything before `una` has arrived; the segment before it in datagram `echo`
//! ACK-OF     | 0d | una u16 | wnd u16 | sn u16 | echo u16 |    the same of segment `sn`
//! SACK       | 02 | sn u16 | echo u16 |                segment `sn` has arrived, in datagram `echo`
//! WASK       | 03 |
//! WINS       | 04 | una u16 | wnd u16 |                as ACK, without an echo
//! PUSH       | 05 | sn u16 | data, to the end          | 06 | sn u16 | len u16 | data
//! PATIENT    | 25 | 26 | ...                           as PUSH; its acknowledgement may wait for that of the next one
//! LANED      | 45 | 46 | 65 | 66 | 4b | 4c | ...       as PUSH, PATIENT and PIECE; the data begin with their lane
//! REPAIR     | 07 | sn u16 | row u8 | sum, to the end  | 08 | sn u16 | row u8 | len u16 | sum
//! PIECE      | 0b | sn u16 | piece, to the end         | 0c | sn u16 | len u16 | piece
//! PROBE      | 09 | length u16 | padding, to the end
//! PROBE-ACK  | 0a | length u16 |                       all integers little-endian
//! ```
//!
//! It says what KCP's segments say, and what holds for a whole datagram once: the conversation and the datagram's number stand
//! in front of it. The number takes the place of KCP's clock. It is never used twice, so an echo tells which transmission
//! has arrived. Numbers are cut to 16 bits: what is meant is within a window of them.

use super::segment::{Command, HEADER, Header, Malformed, flags};
use super::seq::{Sn, Ts};
use crate::header;
use crate::time::{Duration, Instant};

/// What is kept free in front of a segment's data. No item needs as much; but so a segment is no longer than KCP's header would
/// let it be in a datagram of the same length, for which receivers have room.
pub(super) const HEAD: usize = HEADER - header::HEADER;
/// Less room for data than a full segment leaves is not used.
pub(super) const LEAST: usize = HEAD;
/// What a PUSH, a REPAIR and a PROBE have in front of their data, at most.
const PUSH_HEAD: usize = 5;
const REPAIR_HEAD: usize = 6;
const PROBE_HEAD: usize = 3;
/// Longer data are not moved to save two bytes.
const MOVED: usize = 256;
/// Nor is the length of data left out where there are more bytes of items than that: a relay may cut off what is longer than
/// every path carries, and only a length shows it.
const SHORT: usize = 512;
/// How far ahead of the clock a number still tells the time.
const AHEAD: u64 = 8;

/// How long a receiver may keep the acknowledgement of a segment whose sender is patient.
pub(super) const PATIENCE: Duration = Duration::from_millis(25);

const ACK: u8 = 0x01;
const SACK: u8 = 0x02;
const WASK: u8 = 0x03;
const WINS: u8 = 0x04;
const PUSH_LAST: u8 = 0x05;
const PUSH: u8 = 0x06;
const REPAIR_LAST: u8 = 0x07;
const REPAIR: u8 = 0x08;
const PROBE: u8 = 0x09;
const PROBE_ACK: u8 = 0x0a;
const PIECE_LAST: u8 = 0x0b;
const PIECE: u8 = 0x0c;
const ACK_OF: u8 = 0x0d;
/// What the kind of a PUSH gets in addition if its sender is patient, and that of a PUSH or a PIECE if the data are those of a
/// lane. A segment's header has flags for that in place of `frg`.
const PATIENT: u8 = 0x20;
const LANED: u8 = 0x40;
const MARKS: u8 = PATIENT | if cfg!(feature = "lanes") { LANED } else { 0 };

/// Our datagrams' numbers: each is higher than the one before, and as high as the milliseconds that have passed since the first.
/// So an echo tells for itself how old it is, unless more datagrams were sent than milliseconds went by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// When they began.
    began: Instant,
    /// The lowest that was not used.
    next: u64,
    /// The last that was far ahead of the clock.
    ahead: u64,
    /// When the last new segment was sent, and whether its acknowledgement may be late.
    sent_at: Instant,
    patient: bool,
}

impl Numbers {
    /// From now on datagrams are numbered, if this build knows how.
    pub(super) fn begin(now: Instant) -> Option<Self> {
        Some(Self { began: now, next: 0, ahead: 0, sent_at: now, patient: false })
    }

    fn clock(&self, now: Instant) -> u64 {
        now.since(self.began).as_millis()
    }

    /// The number of a datagram that goes out now.
    pub(super) fn next(&self, now: Instant) -> u64 {
        self.next.max(self.clock(now))
    }

    /// The same as segments remember it.
    pub(super) fn stamp(&self, now: Instant) -> Ts {
        Ts(self.next(now) as u32)
    }

    /// Items for the next datagram.
    pub(super) fn items(&self) -> Items {
        Items::default()
    }

    /// The next datagram goes out.
    pub(super) fn on_sent(&mut self, now: Instant) {
        let number = self.next(now);
        if number > self.clock(now) + AHEAD {
            self.ahead = number;
        }
        self.next = number + 1;
    }

    /// A new segment goes out: may its acknowledgement be late? Every second one's, if segments are so `thin` and follow each
    /// other so quickly that the next acknowledgement comes soon; after one that is late the path's round trip would not be
    /// known, nor early what is lost.
    pub(super) fn is_patient(&mut self, now: Instant, thin: bool) -> bool {
        let gap = now.since(core::mem::replace(&mut self.sent_at, now));
        self.patient = thin && !self.patient && gap <= PATIENCE;
        self.patient
    }

    /// How long ago the datagram went out of which this is the echo, as far as the echo tells.
    pub(super) fn age(&self, now: Instant, echo: Ts) -> Option<Duration> {
        let number = self.sent(echo);
        if number <= self.ahead && self.ahead > 0 {
            return None;
        }
        Some(Duration::from_millis(self.clock(now).saturating_sub(number)))
    }

    /// How long ago at least, where an echo does not tell how long: its number was used before its time.
    pub(super) fn least_age(&self, now: Instant, echo: Ts) -> Option<Duration> {
        self.clock(now).checked_sub(self.sent(echo)).map(Duration::from_millis)
    }

    /// The number of the datagram of which this is the echo.
    fn sent(&self, echo: Ts) -> u64 {
        self.next - u64::from((self.next as u32).wrapping_sub(echo.0)).min(self.next)
    }

    /// The datagram that is meant by an echo: the last one that had this number.
    fn echoed(&self, echo: u16) -> Ts {
        let last = (self.next as u32).wrapping_sub(1);
        Ts(last.wrapping_sub(u32::from((last as u16).wrapping_sub(echo))))
    }
}

/// What the items of one datagram are relative to.
pub(super) struct Scene<'n> {
    numbers: &'n Numbers,
    expected: Sn,
    template: Header,
}

impl<'n> Scene<'n> {
    /// `expected` is the next segment that is expected here. `template` has what every item has: its conversation, the peer's
    /// last known window, our first unacknowledged segment as `una`, and the datagram's number as the clock.
    pub(super) fn new(numbers: &'n Numbers, expected: Sn, template: Header) -> Self {
        Self { numbers, expected, template }
    }

    /// Splits the first item off `bytes`: as a segment of KCP, its data, and what follows.
    pub(super) fn split<'d>(&self, bytes: &'d [u8]) -> Result<(Header, &'d [u8], &'d [u8]), Malformed> {
        let short = || Malformed::TooShort { actual: bytes.len() };
        let (&kind, rest) = bytes.split_first().ok_or_else(short)?;
        let own = self.template.una;
        let segment = |command, sn: Sn| Header { command, sn, ..self.template };
        let bare = |header, rest| Ok((header, &[][..], rest));
        let (base, frg) = marks(kind);
        match base {
            ACK | ACK_OF | WINS => {
                let (una, rest) = word(rest).ok_or_else(short)?;
                let (wnd, rest) = word(rest).ok_or_else(short)?;
                let una = near(own, una);
                let told = Header { una, wnd, ..segment(Command::WindowUpdate, una) };
                if kind == WINS {
                    return bare(told, rest);
                }
                let (sn, rest) = match kind {
                    ACK_OF => word(rest).map(|(sn, rest)| (near(own, sn), rest)).ok_or_else(short)?,
                    _ => (una.plus(u32::MAX), rest),
                };
                let (echo, rest) = word(rest).ok_or_else(short)?;
                bare(Header { command: Command::Ack, sn, ts: self.numbers.echoed(echo), ..told }, rest)
            }
            SACK => {
                let (sn, rest) = word(rest).ok_or_else(short)?;
                let (echo, rest) = word(rest).ok_or_else(short)?;
                bare(Header { ts: self.numbers.echoed(echo), ..segment(Command::Ack, near(own, sn)) }, rest)
            }
            WASK => bare(segment(Command::WindowProbe, own), rest),
            PUSH_LAST | PUSH | PIECE_LAST | PIECE => {
                let (sn, rest) = word(rest).ok_or_else(short)?;
                let (data, rest) = data(rest, matches!(base, PUSH | PIECE))?;
                let command = if matches!(base, PIECE_LAST | PIECE) { Command::Piece } else { Command::Push };
                let sn = near(self.expected, sn);
                Ok((Header { frg, len: data.len() as u32, ..segment(command, sn) }, data, rest))
            }
            REPAIR_LAST | REPAIR => {
                let (sn, rest) = word(rest).ok_or_else(short)?;
                let (&row, rest) = rest.split_first().ok_or_else(short)?;
                let (sum, rest) = data(rest, kind == REPAIR)?;
                let sn = near(self.expected, sn);
                Ok((Header { frg: row, len: sum.len() as u32, ..segment(Command::Repair, sn) }, sum, rest))
            }
            PROBE => {
                let (length, padding) = word(rest).ok_or_else(short)?;
                if bytes.len() < usize::from(length) {
                    // Cut off on its way: so much is not carried.
                    return Err(Malformed::Length { announced: length.into(), actual: bytes.len() });
                }
                Ok((segment(Command::MtuProbe, Sn(length.into())), padding, &[]))
            }
            PROBE_ACK => {
                let (length, rest) = word(rest).ok_or_else(short)?;
                bare(segment(Command::MtuProbeAck, Sn(length.into())), rest)
            }
            _ => Err(Malformed::Command { actual: kind }),
        }
    }
}

/// The kind of an item without its marks, if it is one that has such, and what they are as flags.
fn marks(kind: u8) -> (u8, u8) {
    let base = kind & !MARKS;
    let known = match base {
        PUSH_LAST | PUSH => true,
        PIECE_LAST | PIECE => kind & PATIENT == 0,
        _ => false,
    };
    if !known {
        return (kind, 0);
    }
    let flag = |mark, flag| if kind & mark != 0 { flag } else { 0 };
    (base, flag(PATIENT, flags::PATIENT) | flag(LANED, flags::LANED))
}

/// What these flags add to the kind of an item.
fn marked(flags: u8) -> u8 {
    let mark = |flag, mark| if flags & flag != 0 { mark } else { 0 };
    mark(flags::PATIENT, PATIENT) | mark(flags::LANED, LANED)
}

/// The number near `known` whose low bits are `low`.
fn near(known: Sn, low: u16) -> Sn {
    let ahead = low.wrapping_sub(known.0 as u16) as i16;
    known.plus(i32::from(ahead) as u32)
}

fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u16::from_le_bytes(*word), rest))
}

/// Data of an announced length, or to the end.
fn data(bytes: &[u8], announced: bool) -> Result<(&[u8], &[u8]), Malformed> {
    if !announced {
        return Ok((bytes, &[]));
    }
    let (len, rest) = word(bytes).ok_or(Malformed::TooShort { actual: bytes.len() })?;
    rest.split_at_checked(len.into()).ok_or_else(|| Malformed::Length { announced: len.into(), actual: rest.len() })
}

/// The items of a datagram that is being filled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Items {
    /// `una` and window were told.
    told: bool,
    /// Where the last item begins and what it has in front of its data, if its length need not be announced.
    last: Option<(usize, usize)>,
}

impl Items {
    /// Appends `segment` at `len` of `out`; `template` tells our `una` and window. Returns where its data, which
    /// `segment.len` says, begin; `None` if it has no room.
    pub(super) fn push(&mut self, out: &mut [u8], len: usize, template: &Header, segment: &Header) -> Option<usize> {
        let Header { command, sn, ts, frg, len: count, .. } = *segment;
        let (una, wnd, sn16) = (Sn16(template.una.0 as u16), Sn16(template.wnd), Sn16(sn.0 as u16));
        let mut item = Item { out, at: len };
        let told = self.told;
        match command {
            Command::Ack if ts == Ts::NONE => item.una(told, una, wnd)?,
            Command::Ack if sn.before(template.una) && !told => {
                let last = sn.plus(1) == template.una;
                item.put(&[if last { ACK } else { ACK_OF }])?.word(una)?.word(wnd)?;
                if !last {
                    item.word(sn16)?;
                }
                item.word(Sn16(ts.0 as u16))?;
            }
            Command::Ack => {
                item.una(told, una, wnd)?;
                item.put(&[SACK])?.word(sn16)?.word(Sn16(ts.0 as u16))?;
            }
            Command::WindowUpdate => item.una(false, una, wnd)?,
            Command::WindowProbe => {
                item.put(&[WASK])?;
            }
            Command::Push => {
                item.put(&[PUSH | marked(frg)])?.word(sn16)?.word(Sn16(count as u16))?;
            }
            Command::Piece => {
                item.put(&[PIECE | marked(frg)])?.word(sn16)?.word(Sn16(count as u16))?;
            }
            Command::Repair => {
                item.put(&[REPAIR])?.word(sn16)?.put(&[frg])?.word(Sn16(count as u16))?;
            }
            Command::MtuProbe => {
                item.put(&[PROBE])?.word(sn16)?;
            }
            Command::MtuProbeAck => {
                item.put(&[PROBE_ACK])?.word(sn16)?;
            }
        }
        let begin = item.at;
        item.out.len().checked_sub(begin + count as usize)?;
        self.told |= matches!(command, Command::Ack | Command::WindowUpdate);
        self.last = None;
        if matches!(command, Command::Push | Command::Piece | Command::Repair) && count as usize <= MOVED {
            self.last = Some((len, begin - len));
        }
        Some(begin)
    }

    /// Bytes in front of the data of a segment with this command, at most.
    pub(super) fn head(command: Command) -> usize {
        match command {
            Command::Repair => REPAIR_HEAD,
            Command::MtuProbe => PROBE_HEAD,
            _ => PUSH_HEAD,
        }
    }

    /// Ends the datagram, of which `len` bytes are written: the length of the last data need not be announced in a short one.
    /// Returns how long it is then.
    pub(super) fn finish(&self, out: &mut [u8], len: usize) -> usize {
        let Some((at, head)) = self.last.filter(|_| len <= SHORT) else { return len };
        if let Some(kind) = out.get_mut(at) {
            *kind -= 1;
        }
        if let Some(data) = out.get_mut((at + head).saturating_sub(2)..len).filter(|data| data.len() >= 2) {
            data.copy_within(2.., 0);
        }
        len - 2
    }
}

/// Sixteen bits of a number or a length.
#[derive(Clone, Copy)]
struct Sn16(u16);

/// The place of an item.
struct Item<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl Item<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<&mut Self> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(self)
    }

    fn word(&mut self, word: Sn16) -> Option<&mut Self> {
        self.put(&word.0.to_le_bytes())
    }

    /// Tells `una` and window, unless that was done.
    fn una(&mut self, told: bool, una: Sn16, wnd: Sn16) -> Option<()> {
        if !told {
            self.put(&[WINS])?.word(una)?.word(wnd)?;
        }
        Some(())
    }
}
