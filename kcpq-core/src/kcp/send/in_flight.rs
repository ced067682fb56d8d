//! The table of segments in flight: sent and not yet cumulatively acknowledged.
//!
//! Only this file knows what is remembered of a segment. It keeps the sums over the table (bytes in the stream that it
//! covers, bytes in flight, segments that are lost); what a segment's history means is decided elsewhere: loss detection
//! passes its verdict on segments that the table shows it.

use super::streams::Tag;
use crate::kcp::congestion::{Sample, Snapshot};
use crate::kcp::env::Env;
use crate::kcp::seq::{Sn, Ts};
use crate::store::{Full, Queue, Store};
use crate::time::{Duration, Instant};

/// One segment in flight. Its data stay in the stream; its number follows from its place in the table.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sent {
    sent_at: Instant,
    /// Where its data begin, counted in bytes of the stream, wrapping.
    offset: u32,
    /// Its RTO in microseconds, backed off; at most [`Config::MAX_RTO`](crate::kcp::Config::MAX_RTO).
    rto: u32,
    /// The wire's clock when it was last sent, copies not counted, and when it was sent for the first time.
    ts: Ts,
    first_ts: Ts,
    len: u16,
    /// Repair delay: microseconds after it was sent until the last repair that covers it goes out.
    repair_delay: u16,
    frg: u8,
    /// Whose it is.
    tag: Tag,
    /// A repair for it was planned.
    covered: bool,
    /// Copies that it still gets.
    copies: u8,
    /// KCP's `fastack`, TCP's duplicate ACKs: datagrams that acknowledged a later segment since it was last sent; and
    /// when the first of them came.
    overtaken: u8,
    overtaken_at: Instant,
    /// The state of congestion control when it was last sent.
    snapshot: Snapshot,
    acked: bool,
    lost: bool,
    /// Its acknowledgement may be late.
    patient: bool,
    /// It was retransmitted because it was considered lost; and that was for its timer alone, which cannot tell a lost
    /// segment from a late acknowledgement.
    resent: bool,
    timed_out: bool,
}

impl Sent {
    pub(super) fn len(&self) -> u16 {
        self.len
    }

    pub(super) fn tag(&self) -> Tag {
        self.tag
    }

    /// Bytes of its stream.
    pub(super) fn stream_len(&self) -> usize {
        usize::from(self.len).saturating_sub(self.tag.head())
    }

    /// When the last of its planned repairs is out: it cannot be missed before.
    pub(super) fn repaired_at(&self) -> Instant {
        self.sent_at + Duration::from_micros(u64::from(self.repair_delay))
    }

    /// A repair for it was planned.
    pub(super) fn is_covered(&self) -> bool {
        self.covered
    }

    /// Datagrams that acknowledged a later segment since it was last sent.
    pub(super) fn overtaken(&self) -> u8 {
        self.overtaken
    }

    pub(super) fn rto(&self) -> Duration {
        Duration::from_micros(u64::from(self.rto))
    }

    pub(super) fn set_rto(&mut self, rto: Duration) {
        self.rto = rto.as_micros() as u32;
    }

    /// It was retransmitted.
    pub(super) fn is_resent(&self) -> bool {
        self.resent
    }

    /// It was last considered lost because its timer expired, and for no better reason.
    pub(super) fn is_timed_out(&self) -> bool {
        self.timed_out
    }

    /// It was retransmitted because it was overtaken, and not for its timer alone.
    fn was_missed(&self) -> bool {
        self.resent && !self.timed_out
    }
}

/// A segment that has arrived, as far as its acknowledgement tells.
#[derive(Clone, Copy, Debug)]
pub(in crate::kcp) struct Delivered {
    sn: Sn,
    pub(in crate::kcp) sample: Sample,
    /// The acknowledgement may have waited for others.
    late: bool,
}

impl Delivered {
    /// What this tells of the path's round trip.
    pub(in crate::kcp) fn round_trip(&self) -> Option<Duration> {
        (!self.late).then_some(self.sample.rtt)
    }

    /// The one that was sent later.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(in crate::kcp) fn later(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if (other.sample.sent_at, other.sn.distance(self.sn)) > (self.sample.sent_at, 0) => other,
            _ => self,
        }
    }
}

/// What an acknowledgement tells.
pub(super) struct Acked {
    /// The segment was not known to have arrived.
    pub(super) news: Option<Arrival>,
    pub(super) delivered: Option<Delivered>,
    /// It echoes our clock of lately, for a segment that was sent.
    pub(super) echoed: bool,
    /// If nothing else tells how old the copy is that has arrived: at least so old.
    pub(super) least_age: Option<Duration>,
}

/// How old an echo may be to prove that the peer has received something.
const RECENT: Duration = Duration::from_secs(4);

/// The first acknowledgement of a segment.
pub(super) struct Arrival {
    pub(super) len: u16,
    /// The first transmission has arrived.
    pub(super) first: bool,
    /// Reordering: it came, this long after it was first missed.
    pub(super) late: Option<Duration>,
    /// A retransmission was spurious.
    pub(super) spurious: bool,
}

/// Segments that were found lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    pub(super) segments: usize,
    pub(super) bytes: u32,
    /// The length of the longest.
    pub(super) longest: u16,
}

/// Where a segment lies.
#[derive(Clone, Copy)]
pub(in crate::kcp) struct Slice {
    pub(in crate::kcp) sn: Sn,
    pub(in crate::kcp) frg: u8,
    pub(in crate::kcp) len: u16,
    /// From the front of the stream of lane 0; of another lane where its data begin, wrapping.
    pub(in crate::kcp) skip: usize,
    pub(in crate::kcp) tag: Tag,
}

/// The table.
pub(in crate::kcp) struct InFlight<S: Store> {
    sent: S::Queue<Sent>,
    sums: Sums,
}

/// What is known of the table as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Number of the first segment, and where the stream begins, in bytes, wrapping.
    una: Sn,
    una_offset: u32,
    /// When the peer told `una`.
    una_at: Instant,
    /// When the oldest segment became the oldest.
    oldest_at: Instant,
    /// Bytes of the stream of lane 0 that the segments cover.
    bytes: usize,
    /// Bytes in flight that are neither acknowledged nor lost.
    pipe: u32,
    /// Segments that are lost, and the first of them; a window has no more.
    lost: u16,
    first_lost: Sn,
    /// Segments acknowledged so far, saturating: how far back a late ACK can be believed.
    acknowledged: u16,
}

impl Sums {
    /// Segment `sn` is lost.
    #[cfg_attr(target_os = "none", inline(never))]
    fn add_lost(&mut self, sn: Sn, len: u16) {
        if self.lost == 0 || sn.before(self.first_lost) {
            self.first_lost = sn;
        }
        self.lost += 1;
        self.pipe = self.pipe.saturating_sub(u32::from(len));
    }
}

impl<S: Store> InFlight<S> {
    pub(super) fn new(sent: S::Queue<Sent>) -> Self {
        Self { sent, sums: Sums::default() }
    }

    pub(super) fn reset(&mut self) {
        self.sent.clear();
        self.sums = Sums::default();
    }

    #[cfg(test)]
    pub(super) fn start_at(&mut self, sn: Sn, offset: u32) {
        self.sums.una = sn;
        self.sums.una_offset = offset;
    }

    pub(in crate::kcp) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(in crate::kcp) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.sent.has_room()
    }

    /// The number of the first segment.
    pub(super) fn una(&self) -> Sn {
        self.sums.una
    }

    /// Where the stream begins, counted in bytes, wrapping.
    pub(super) fn una_offset(&self) -> u32 {
        self.sums.una_offset
    }

    /// When the peer told `una`.
    pub(super) fn una_at(&self) -> Instant {
        self.sums.una_at
    }

    /// When the oldest segment became the oldest.
    pub(super) fn oldest_at(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.sums.oldest_at)
    }

    /// It is known why the oldest segment is not acknowledged: its time begins anew.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.sums.oldest_at = now;
    }

    /// True if the timer of the oldest segment has run out.
    pub(super) fn has_timed_out(&self) -> bool {
        self.sent.get(0).is_some_and(Sent::is_timed_out)
    }

    /// Bytes of the stream of lane 0 that the segments cover.
    pub(super) fn bytes(&self) -> usize {
        self.sums.bytes
    }

    /// Bytes in flight that are neither acknowledged nor lost.
    pub(super) fn pipe(&self) -> u32 {
        self.sums.pipe
    }

    /// True if segments are lost and not yet retransmitted.
    pub(super) fn has_lost(&self) -> bool {
        self.sums.lost > 0
    }

    /// What is summed up is what it would be if it were counted now, when all segments are sent.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let all = || (0..self.sent.len()).filter_map(|index| self.sent.get(index));
        assert_eq!(usize::from(self.sums.lost), all().filter(|segment| segment.lost).count(), "segments that are lost");
        let under_way = all().filter(|segment| !segment.lost && !segment.acked);
        assert_eq!(self.sums.pipe, under_way.map(|segment| u32::from(segment.len)).sum::<u32>(), "bytes under way");
    }

    /// Adds a segment of `len` bytes, which begins where the last one of lane 0 ends, or at the `offset` of its own lane. It is
    /// sent by [`on_sent`](Self::on_sent).
    pub(super) fn push(&mut self, now: Instant, len: u16, frg: u8, tag: Tag, offset: Option<u32>) -> Result<(), Full> {
        let was_empty = self.is_empty();
        self.sent.push(Sent {
            sent_at: now,
            offset: offset.unwrap_or_else(|| self.sums.una_offset.wrapping_add(self.sums.bytes as u32)),
            rto: 0,
            ts: Ts::default(),
            first_ts: Ts::default(),
            len,
            repair_delay: 0,
            covered: false,
            frg,
            tag,
            copies: 0,
            overtaken: 0,
            overtaken_at: now,
            snapshot: Snapshot::default(),
            acked: false,
            lost: false,
            patient: false,
            resent: false,
            timed_out: false,
        })?;
        if was_empty {
            self.sums.oldest_at = now;
        }
        if tag.is_main() {
            self.sums.bytes += usize::from(len) - tag.head();
        }
        Ok(())
    }

    /// Where segment `index` lies.
    pub(in crate::kcp) fn slice(&self, index: usize) -> Option<Slice> {
        let segment = self.sent.get(index)?;
        let begin = if segment.tag.is_main() { self.sums.una_offset } else { 0 };
        Some(Slice {
            sn: self.sums.una.plus(index as u32),
            frg: segment.frg,
            len: segment.len,
            skip: segment.offset.wrapping_sub(begin) as usize,
            tag: segment.tag,
        })
    }

    /// Segment `index` is sent: for the first time with `rto`, or again because it is lost; `patient` if its acknowledgement
    /// may be late. Returns whether it goes again, and its RTO.
    pub(super) fn on_sent(
        &mut self,
        env: &Env,
        index: usize,
        rto: Duration,
        patient: bool,
        snapshot: Snapshot,
    ) -> Option<(bool, Duration)> {
        let segment = self.sent.get_mut(index)?;
        let again = core::mem::take(&mut segment.lost);
        segment.patient = patient;
        segment.snapshot = snapshot;
        segment.sent_at = env.now;
        segment.ts = env.ts();
        if again {
            segment.overtaken = 0;
            segment.repair_delay = 0;
            segment.covered = false;
            segment.copies = 0;
            segment.resent = true;
            self.sums.lost -= 1;
        } else {
            segment.set_rto(rto);
            segment.first_ts = segment.ts;
        }
        self.sums.pipe += u32::from(segment.len);
        Some((again, segment.rto()))
    }

    /// The first segment that is lost.
    pub(super) fn first_lost(&mut self) -> Option<usize> {
        if self.sums.lost == 0 {
            return None;
        }
        let from = usize::try_from(self.sums.first_lost.distance(self.sums.una)).unwrap_or(0);
        let found = (from..self.sent.len()).find(|index| self.sent.get(*index).is_some_and(|segment| segment.lost));
        match found {
            Some(index) => self.sums.first_lost = self.sums.una.plus(index as u32),
            None => self.sums.lost = 0,
        }
        found
    }

    /// The first segment that is lost; if there are several lanes, of those of the highest priority.
    pub(super) fn next_lost(&mut self, lanes: bool) -> Option<usize> {
        let first = self.first_lost()?;
        if !lanes {
            return Some(first);
        }
        let lost = |index: &usize| self.sent.get(*index).filter(|segment| segment.lost);
        let all = (first..self.sent.len()).filter(|index| lost(index).is_some());
        all.min_by_key(|index| lost(index).map(|segment| segment.tag.priority()))
    }

    /// Segment `sn` has arrived; `ts` is the echo of when that copy was sent.
    pub(super) fn ack(&mut self, env: &Env, sn: Sn, ts: Ts) -> Acked {
        let now = env.now;
        let age = env.age(ts);
        let recent = age.is_some_and(|age| age <= RECENT);
        let by_echo =
            age.map(|rtt| Delivered { sn, sample: Sample { sent_at: now - rtt, rtt, snapshot: None }, late: false });
        let index = usize::try_from(sn.distance(self.sums.una)).ok();
        let Some(segment) = index.and_then(|index| self.sent.get_mut(index)) else {
            // Covered by `una` before: the echo alone must do. A number never sent is no sample (docs/original.md 3.5).
            let known = (1..=i32::from(self.sums.acknowledged)).contains(&self.sums.una.distance(sn));
            let delivered = by_echo.filter(|_| known);
            let least_age = if known && delivered.is_none() { env.least_age(ts) } else { None };
            return Acked { news: None, delivered, echoed: known && recent, least_age };
        };
        let delivered = if segment.ts == ts {
            // To the microsecond, whatever the echo tells of its age.
            let rtt = now.since(segment.sent_at);
            let sample = Sample { sent_at: segment.sent_at, rtt, snapshot: Some(segment.snapshot) };
            Some(Delivered { sn, sample, late: segment.patient })
        } else {
            by_echo
        };
        let echoed = delivered.is_some_and(|delivered| delivered.sample.rtt <= RECENT);
        if !(env.proved || echoed) {
            // Anybody may say so. It goes again, and may be acknowledged by who received it.
            return Acked { news: None, delivered: None, echoed, least_age: None };
        }
        let first = ts == segment.first_ts;
        let news = if core::mem::replace(&mut segment.acked, true) {
            None
        } else {
            if core::mem::take(&mut segment.lost) {
                self.sums.lost -= 1;
            } else {
                self.sums.pipe = self.sums.pipe.saturating_sub(u32::from(segment.len));
            }
            Some(Arrival {
                len: segment.len,
                first,
                late: (first && (segment.overtaken > 0 || segment.was_missed()))
                    .then(|| now.since(segment.overtaken_at)),
                spurious: segment.resent && first && ts != segment.ts,
            })
        };
        let least_age = if delivered.is_none() { env.least_age(ts) } else { None };
        Acked { news, delivered, echoed, least_age }
    }

    /// Everything before `una` has arrived. Shows the segments that were not known to have, and those of `other` lanes, and
    /// returns how many bytes leave the stream of lane 0; `None` if that is no news, or was never sent.
    pub(super) fn release(
        &mut self,
        now: Instant,
        una: Sn,
        mut arrived: impl FnMut(&Sent),
        mut other: impl FnMut(&Sent),
    ) -> Option<usize> {
        let news = una.distance(self.sums.una);
        if news <= 0 || news as usize > self.sent.len() {
            return None;
        }
        let mut bytes = 0;
        for _ in 0..news {
            let Some(segment) = self.sent.pop() else { break };
            if segment.tag.is_main() {
                bytes += segment.stream_len();
            } else {
                other(&segment);
            }
            self.sums.lost -= u16::from(segment.lost);
            if !segment.acked {
                if !segment.lost {
                    self.sums.pipe = self.sums.pipe.saturating_sub(u32::from(segment.len));
                }
                arrived(&segment);
            }
        }
        let sums = &mut self.sums;
        sums.una = una;
        sums.una_at = now;
        sums.oldest_at = now;
        sums.acknowledged = sums.acknowledged.saturating_add(news as u16);
        sums.una_offset = sums.una_offset.wrapping_add(bytes as u32);
        sums.bytes -= bytes.min(sums.bytes);
        if sums.first_lost.before(una) {
            sums.first_lost = una;
        }
        Some(bytes)
    }

    /// Shows the segments that were sent before `newest` and are missing: overtaken, and by `count` datagrams more than
    /// before. Those that `is_lost` says are lost.
    pub(super) fn overtaken_by(
        &mut self,
        now: Instant,
        newest: &Delivered,
        count: u8,
        mut is_lost: impl FnMut(&Sent) -> bool,
    ) -> Lost {
        let mut lost = Lost::default();
        for index in 0..self.sent.len() {
            let sn = self.sums.una.plus(index as u32);
            let Some(segment) = self.sent.get_mut(index) else { break };
            let newest_at = newest.sample.sent_at;
            let later = segment.sent_at > newest_at || segment.sent_at == newest_at && !sn.before(newest.sn);
            if later && !segment.resent {
                break; // and so were all behind it
            }
            if later || segment.acked || segment.lost {
                continue;
            }
            if segment.overtaken == 0 && !segment.was_missed() {
                // If it goes again, it is from here on that its first transmission may turn out to be late.
                segment.overtaken_at = now;
            }
            segment.overtaken = segment.overtaken.saturating_add(count);
            if is_lost(segment) {
                segment.lost = true;
                segment.timed_out = false;
                lost.add(segment.len);
                self.sums.add_lost(sn, segment.len);
            }
        }
        lost
    }

    /// Shows the segments whose acknowledgement is waited for. Those that `is_lost` says are lost, by their timer.
    pub(super) fn timed_out(&mut self, mut is_lost: impl FnMut(&mut Sent) -> bool) -> Lost {
        let mut lost = Lost::default();
        for index in 0..self.sent.len() {
            let Some(segment) = self.sent.get_mut(index) else { break };
            if segment.acked || segment.lost || !is_lost(segment) {
                continue;
            }
            segment.lost = true;
            segment.timed_out = true;
            lost.add(segment.len);
            self.sums.add_lost(self.sums.una.plus(index as u32), segment.len);
        }
        lost
    }

    /// The index of segment `sn`, unless it has arrived.
    #[cfg(feature = "pieces")]
    pub(super) fn index_of(&self, sn: Sn) -> Option<usize> {
        let index = usize::try_from(sn.distance(self.sums.una)).ok()?;
        self.sent.get(index).filter(|segment| !segment.acked)?;
        Some(index)
    }

    /// True if segment `index` was retransmitted before.
    pub(super) fn is_resent(&self, index: usize) -> bool {
        self.sent.get(index).is_some_and(|segment| segment.resent)
    }

    /// The oldest `count` segments that have not arrived are lost, by the timer.
    pub(super) fn lose_oldest(&mut self, count: usize) -> Lost {
        let mut lost = Lost::default();
        let mut left = count;
        for index in 0..self.sent.len() {
            let Some(segment) = self.sent.get_mut(index).filter(|_| left > 0) else { break };
            if segment.acked {
                continue;
            }
            left -= 1;
            if !segment.lost {
                segment.lost = true;
                segment.timed_out = true;
                lost.add(segment.len);
                self.sums.add_lost(self.sums.una.plus(index as u32), segment.len);
            }
        }
        lost
    }
}

/// What redundancy has planned for each segment.
#[cfg(feature = "redundancy")]
impl<S: Store> InFlight<S> {
    /// The last `count` segments have repairs to come, the last of them `delay` from now, and so many copies each.
    pub(super) fn cover_last(&mut self, count: usize, delay: Duration, copies: u8) {
        for index in self.sent.len().saturating_sub(count)..self.sent.len() {
            if let Some(segment) = self.sent.get_mut(index) {
                segment.repair_delay = delay.as_micros() as u16;
                segment.covered = true;
                segment.copies = copies;
            }
        }
    }

    /// Segment `index`, which was just retransmitted, has a copy to come, `delay` from now.
    pub(super) fn double(&mut self, index: usize, delay: Duration) {
        if let Some(segment) = self.sent.get_mut(index) {
            segment.repair_delay = delay.as_micros() as u16;
            segment.copies = 1;
        }
    }

    /// The first segment of at most `room` bytes, sent before now, that has a copy to come, which is taken.
    pub(super) fn take_copy(&mut self, now: Instant, room: usize) -> Option<usize> {
        let index = (0..self.sent.len()).find(|index| {
            self.sent.get(*index).is_some_and(|segment| {
                let waits = segment.copies > 0 && !(segment.acked || segment.lost);
                waits && segment.sent_at < now && usize::from(segment.len) <= room
            })
        })?;
        self.sent.get_mut(index)?.copies -= 1;
        Some(index)
    }
}

impl Lost {
    fn add(&mut self, len: u16) {
        self.segments += 1;
        self.bytes += u32::from(len);
        self.longest = self.longest.max(len);
    }
}
