//! Opens FEC datagrams and rebuilds lost ones.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::group::{Group, State, Taken};
use super::header::{self, FecError, Header, Kind, Shards};
use super::tuner::Tuner;
use crate::field::Multiplier;
use crate::time::{Duration, Instant};

/// One receiver's decoder.
///
/// [`open`](Self::open) each datagram, give KCP the part it returns, then the parts that
/// [`poll_recovered`](Self::poll_recovered) has until `None`. Those may be in any order, and may also arrive in the
/// original; KCP drops what it had.
///
/// What peers may do: lose, double and reorder datagrams, send parity or none, use other counts than expected, change
/// them, number absurdly. Data always reach KCP; parity that makes no sense is dropped and counted.
///
/// Memory: at most three groups with [`Config::max_bytes`] of shards in all, in buffers of at most 32 KB or twice what
/// they hold; a spare buffer of at most 32 KB; while a group is rebuilt, at most the length of its parity again; and half
/// a kilobyte while the peer's counts are being found out. A peer without parity costs three groups at the start and
/// nothing from then on; a silent one nothing from [`Config::keep`] on, if [`handle_timeout`](Self::handle_timeout) is
/// called.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    multiplier: Multiplier,
    /// What the peer uses, as far as known.
    shards: Shards,
    /// Gathers evidence from the first datagram that does not fit `shards` until the counts are certain; nothing is
    /// rebuilt meanwhile.
    tuner: Option<Box<Tuner>>,
    /// Sorted from the oldest to the newest, no more than [`GROUPS`].
    groups: VecDeque<Group>,
    /// The buffer of a group that is done, for the next; at most [`SPARE`] bytes.
    spare: Vec<u8>,
    /// The last sequence number that made sense.
    last: u32,
    /// A number far off the last: believed once another one comes near it.
    suspect: Option<u32>,
    /// Data datagrams since the last parity.
    without_parity: u32,
    /// When shards were last taken in.
    active: Option<Instant>,
    recovered: VecDeque<Vec<u8>>,
    /// The one that was handed out last.
    given: Vec<u8>,
    stats: Stats,
}

/// What a [`Decoder`] expects, and what it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// The counts expected until the peer's datagrams say otherwise.
    pub shards: Shards,
    /// The most bytes of shards kept. A group that is larger cannot be rebuilt: 10/3 at 1400 bytes takes 18 KB.
    pub max_bytes: usize,
    /// Shards are dropped when none has come for so long: KCP has repaired the loss by then.
    pub keep: Duration,
}

impl Default for Config {
    /// 10/3, 128 KB (94 full shards; 10/3 itself never needs more than 54 KB), 10 s.
    fn default() -> Self {
        Self { shards: Shards::KCPQ, max_bytes: 128 << 10, keep: Duration::from_secs(10) }
    }
}

/// What a [`Decoder`] saw, in datagrams unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Stats {
    /// Data that came.
    pub data: u64,
    /// Parity that came.
    pub parity: u64,
    /// Data rebuilt from parity.
    pub recovered: u64,
    /// Parity of groups that needed no more of it.
    pub useless_parity: u64,
    /// Parity given up with a group that never had enough shards.
    pub expired_parity: u64,
    /// Shards that came twice.
    pub duplicates: u64,
    /// Shards of groups that were left behind.
    pub late: u64,
    /// Sequence numbers far off, or at the wrong place while the peer's counts are unknown.
    pub implausible: u64,
    /// Damaged datagrams, groups whose shards contradict each other, rebuilt data that cannot be data.
    pub malformed: u64,
    /// Groups larger than [`Config::max_bytes`].
    pub crowded: u64,
    /// Times that the peer's counts turned out to be others than assumed.
    pub retuned: u64,
}

impl Stats {
    /// Adds the counters of another decoder.
    pub fn add(&mut self, other: &Self) {
        self.data += other.data;
        self.parity += other.parity;
        self.recovered += other.recovered;
        self.useless_parity += other.useless_parity;
        self.expired_parity += other.expired_parity;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.implausible += other.implausible;
        self.malformed += other.malformed;
        self.crowded += other.crowded;
        self.retuned += other.retuned;
    }
}

/// Groups kept: reordering further apart than that is not worth memory, kcp-go keeps as many.
const GROUPS: u32 = 3;

/// The largest buffer that is used again: a group of 10/3 at 1400 bytes fits.
const SPARE: usize = 32 << 10;

/// How far apart two numbers of one stream may be before the second needs another to be believed.
const PLAUSIBLE: u32 = 1_024;

impl Decoder {
    /// A decoder that has seen nothing and holds nothing.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            multiplier: Multiplier::new(),
            shards: config.shards,
            tuner: None,
            groups: VecDeque::new(),
            spare: Vec::new(),
            last: 0,
            suspect: None,
            without_parity: 0,
            active: None,
            recovered: VecDeque::new(),
            given: Vec::new(),
            stats: Stats::default(),
        }
    }

    /// Opens a datagram: its KCP part if it is data, `None` if it is parity.
    ///
    /// Recovered parts that were not fetched are dropped.
    ///
    /// # Errors
    /// [`FecError`] if it is no FEC datagram or a damaged one.
    pub fn open<'d>(&mut self, now: Instant, datagram: &'d [u8]) -> Result<Option<&'d [u8]>, FecError> {
        self.recovered.clear();
        let (header, shard) = match Header::parse(datagram) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.stats.malformed += 1;
                return Err(error);
            }
        };
        self.handle_timeout(now);
        match header.kind {
            Kind::Data => {
                self.stats.data += 1;
                self.without_parity = self.without_parity.saturating_add(1);
            }
            Kind::Parity => {
                self.stats.parity += 1;
                self.without_parity = 0;
            }
        }
        if self.without_parity <= GROUPS * u32::from(Shards::MAX) {
            self.consider(now, header, shard);
        } else {
            // Whatever the counts, parity would have come by now.
            self.tuner = None;
            self.release();
        }
        Ok(match header.kind {
            Kind::Data => datagram.get(header::LEN..),
            Kind::Parity => None,
        })
    }

    /// The next KCP part that was rebuilt.
    pub fn poll_recovered(&mut self) -> Option<&[u8]> {
        let Some(shard) = self.recovered.pop_front() else {
            self.given = Vec::new();
            return None;
        };
        self.given = shard;
        self.given.get(header::LEN - header::SHARD..)
    }

    /// When kept shards are worthless; `None` if nothing is kept.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.active? + self.config.keep)
    }

    /// Drops shards, and gives their memory back, if none has come for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.release();
        }
    }

    /// The counts that the peer is believed to use.
    pub fn shards(&self) -> Shards {
        self.shards
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes of shards kept at present.
    pub fn kept_bytes(&self) -> usize {
        self.groups.iter().map(Group::size).sum()
    }

    /// Bytes of memory that all of that takes, which is more.
    pub(crate) fn held(&self) -> usize {
        self.groups.iter().map(Group::held).sum::<usize>() + self.spare.capacity() + self.given.capacity()
    }

    fn consider(&mut self, now: Instant, header: Header, shard: &[u8]) {
        let Header { seqid, kind } = header;
        // A peer that sent no parity for as many groups as are kept will hardly send any: nothing is kept for it. The
        // next parity changes that.
        let is_quiet = self.without_parity > GROUPS * u32::from(self.shards.data());
        if is_quiet {
            self.release();
        }
        if !self.is_plausible(seqid) || !self.fits(seqid, kind) || seqid >= self.shards.paws() {
            self.stats.implausible += 1;
            return;
        }
        if is_quiet {
            return;
        }
        let Some(index) = self.group(seqid / u32::from(self.shards.total())) else {
            self.stats.late += 1;
            return;
        };
        self.active = Some(now);
        let is_open = self.groups.get(index).is_some_and(|group| group.state() == State::Open);
        if !is_open || self.make_room(index, shard.len()) {
            self.take(index, header, shard);
        } else if let Some(group) = self.groups.get_mut(index) {
            self.stats.crowded += 1;
            self.stats.expired_parity += u64::from(group.waiting_parity());
            group.drop_shards();
            recycle(&mut self.spare, group);
        }
    }

    /// True unless the number is far from all that came before and stands alone with that.
    fn is_plausible(&mut self, seqid: u32) -> bool {
        let near = |other: u32| seqid.wrapping_sub(other).wrapping_add(PLAUSIBLE) <= 2 * PLAUSIBLE;
        if near(self.last) {
            self.last = seqid;
            self.suspect = None;
            return true;
        }
        if self.suspect.is_some_and(near) {
            // The stream did jump. Groups of before cannot be completed any more.
            self.give_up_all();
            self.last = seqid;
            self.suspect = None;
            return true;
        }
        self.suspect = Some(seqid);
        false
    }

    /// True if the number stands at the right place of its group. If not, the counts are found out anew.
    fn fits(&mut self, seqid: u32, kind: Kind) -> bool {
        if self.tuner.is_none() {
            if self.shards.kind(seqid) == kind {
                return true;
            }
            self.tuner = Some(Box::new(Tuner::new()));
        }
        let Some(shards) = self.tuner.as_mut().and_then(|tuner| tuner.sample(seqid, kind)) else { return false };
        self.tuner = None;
        if shards != self.shards {
            self.give_up_all();
            self.shards = shards;
            self.stats.retuned += 1;
        }
        true
    }

    /// The place in `groups` of the group with that number; a new one if it is ahead, `None` if it was left behind.
    fn group(&mut self, number: u32) -> Option<usize> {
        if let Some(index) = self.groups.iter().position(|group| group.number == number) {
            return Some(index);
        }
        let all = self.shards.groups();
        // How many groups `number` is ahead of `other`, the short way round.
        let ahead = |other: u32| {
            let forward = (number + all - other % all) % all;
            if forward <= all / 2 { i64::from(forward) } else { i64::from(forward) - i64::from(all) }
        };
        let newest = self.groups.back().map_or(0, |group| ahead(group.number));
        if newest <= -i64::from(GROUPS) {
            return None;
        }
        let index = self.groups.iter().position(|group| ahead(group.number) < 0).unwrap_or(self.groups.len());
        // The oldest go when a newer group comes, or if they are too far behind it.
        let span = i64::from(GROUPS) - 1;
        let stale = self.groups.iter().take_while(|group| ahead(group.number) > span).count();
        for _ in 0..stale {
            self.give_up_oldest();
        }
        let group = Group::new(number, core::mem::take(&mut self.spare));
        let index = index.saturating_sub(stale);
        self.groups.insert(index, group);
        Some(index)
    }

    /// Gives up older groups until `len` more bytes fit.
    fn make_room(&mut self, index: usize, len: usize) -> bool {
        while self.kept_bytes() + len > self.config.max_bytes {
            let Some(other) = self.groups.iter().take(index).position(|group| group.size() > 0) else { return false };
            if let Some(group) = self.groups.get_mut(other) {
                self.stats.expired_parity += u64::from(group.waiting_parity());
                group.drop_shards();
                recycle(&mut self.spare, group);
            }
        }
        true
    }

    fn take(&mut self, index: usize, header: Header, shard: &[u8]) {
        let (shards, multiplier) = (self.shards, self.multiplier);
        let Some(group) = self.groups.get_mut(index) else { return };
        let waiting = u64::from(group.waiting_parity());
        match group.take(shards, shards.position(header.seqid), header.kind, shard) {
            Taken::Kept | Taken::Complete => {}
            Taken::Duplicate => self.stats.duplicates += 1,
            Taken::Unneeded if group.state() == State::Complete => {
                self.stats.useless_parity += u64::from(header.kind == Kind::Parity);
            }
            Taken::Unneeded => self.stats.expired_parity += u64::from(header.kind == Kind::Parity),
            Taken::Contradiction => {
                self.stats.malformed += 1;
                self.stats.expired_parity += waiting;
            }
            Taken::Enough => {
                let rebuilt = group.rebuild(shards, multiplier);
                for shard in rebuilt {
                    match cut(shard) {
                        Some(shard) => {
                            self.stats.recovered += 1;
                            self.recovered.push_back(shard);
                        }
                        None => self.stats.malformed += 1,
                    }
                }
            }
        }
        recycle(&mut self.spare, group);
    }

    fn give_up_oldest(&mut self) {
        if let Some(mut group) = self.groups.pop_front() {
            self.stats.expired_parity += u64::from(group.waiting_parity());
            group.drop_shards();
            recycle(&mut self.spare, &mut group);
        }
    }

    fn give_up_all(&mut self) {
        while !self.groups.is_empty() {
            self.give_up_oldest();
        }
    }

    /// Gives all memory back.
    pub(crate) fn release(&mut self) {
        if self.active.take().is_some() {
            self.give_up_all();
            self.groups = VecDeque::new();
            self.spare = Vec::new();
            self.recovered = VecDeque::new();
            self.given = Vec::new();
        }
    }
}

/// Keeps the buffer of a group that is done, unless it is too large or there is one.
fn recycle(spare: &mut Vec<u8>, group: &mut Group) {
    if let Some(buffer) = group.take_buffer()
        && spare.capacity() < buffer.capacity()
        && buffer.capacity() <= SPARE
    {
        *spare = buffer;
    }
}

/// Cuts a rebuilt shard to its size field. What the field leaves over must be padding, or the shards did not belong
/// together.
fn cut(mut shard: Vec<u8>) -> Option<Vec<u8>> {
    let size = usize::from(u16::from_le_bytes(*shard.first_chunk()?));
    let padding = shard.get(size.max(2)..)?;
    if size < 2 || padding.iter().any(|&byte| byte != 0) {
        return None;
    }
    shard.truncate(size);
    Some(shard)
}
