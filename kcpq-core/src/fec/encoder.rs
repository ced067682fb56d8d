//! Makes parity, a datagram at a time.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::code::Interpolation;
use super::header::{self, FecError, Header, Kind, Numbering, Shards};
use crate::field::Multiplier;
use crate::time::{Duration, Instant};

/// One sender's encoder: numbers data datagrams and owes parity after each group of them.
///
/// Each datagram is taken into the parity when it goes out, so no data are kept: the memory is `parity * max_shard`
/// bytes, taken with the first datagram. Call [`data`](Self::data) for each datagram in the order they are sent, then
/// [`poll_parity`](Self::poll_parity) until `None`.
pub struct Encoder {
    numbering: Numbering,
    multiplier: Multiplier,
    /// The largest shard, in bytes: a datagram without its first six.
    max_shard: usize,
    /// For each data shard, its factor in each parity shard.
    factors: Box<[u8]>,
    /// The parity shards as far as they are known, `max_shard` bytes each; empty before the first datagram.
    parity: Vec<u8>,
    /// Data shards of the present group that are in.
    taken: u8,
    /// The longest of them.
    longest: usize,
    /// Parity shards of a full group that are out.
    given: u8,
    /// When the last datagram went out.
    last: Option<Instant>,
    stale_after: Option<Duration>,
}

impl Encoder {
    /// The pause before a group's last datagram from which newer kcp-go (5.6.10 on) sends no parity
    /// (docs/original.md 2.3).
    pub const STALE_AFTER: Duration = Duration::from_millis(500);

    /// An encoder whose datagrams are at most `max_shard` + 6 bytes long (1394 for the original's 1400).
    ///
    /// Groups are never stale, as in the versions of kcp-go that the original uses.
    pub fn new(shards: Shards, max_shard: usize) -> Self {
        let points: Vec<u8> = (0..shards.data()).collect();
        let code = Interpolation::new(&points);
        let mut factors = vec![0; usize::from(shards.data()) * usize::from(shards.parity())];
        for row in 0..shards.parity() {
            let column = factors.iter_mut().skip(usize::from(row)).step_by(usize::from(shards.parity()));
            for (place, factor) in column.zip(code.factors(shards.data() + row)) {
                *place = factor;
            }
        }
        Self {
            numbering: Numbering::new(shards),
            multiplier: Multiplier::new(),
            // A size field at least, or there is nothing to code.
            max_shard: max_shard.clamp(2, u16::MAX.into()),
            factors: factors.into_boxed_slice(),
            parity: Vec::new(),
            taken: 0,
            longest: 0,
            given: 0,
            last: None,
            stale_after: None,
        }
    }

    /// Sends no parity for a group whose last datagram came more than `pause` after the one before it: what went out
    /// earlier was long repaired by KCP, and an idle session would pay for it with each heartbeat. The numbers are
    /// skipped as if the parity had been lost.
    #[must_use]
    pub fn with_stale_after(mut self, pause: Option<Duration>) -> Self {
        self.stale_after = pause;
        self
    }

    /// Numbers the datagrams behind those of another sender of the same session, from a whole group on.
    #[must_use]
    pub fn behind(mut self, earlier: Numbering) -> Self {
        self.numbering = earlier.next_group(self.numbering.shards());
        self
    }

    /// What it numbers with.
    pub fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// Numbers the datagrams from the group of `seqid` on; for tests of the wrap.
    #[must_use]
    pub fn starting_at(mut self, seqid: u32) -> Self {
        self.numbering = Numbering::starting_at(self.numbering.shards(), seqid);
        self
    }

    /// Fills in the first eight bytes of a data datagram, whose KCP part lies behind them, and takes it into the parity.
    /// Parity of the last group that was not fetched is skipped.
    ///
    /// # Errors
    /// [`FecError::Truncated`] if it is shorter than the header, [`FecError::TooLong`] if it is longer than promised; then
    /// nothing has changed.
    pub fn data(&mut self, now: Instant, datagram: &mut [u8]) -> Result<(), FecError> {
        let (len, max) = (datagram.len(), self.max_shard + header::SHARD);
        if len < header::LEN {
            return Err(FecError::Truncated { len });
        }
        if len > max {
            return Err(FecError::TooLong { len, max });
        }
        let shards = self.numbering.shards();
        if self.taken == shards.data() {
            self.taken = 0;
        }
        header::write_data(self.numbering.data(), datagram)?;
        if self.taken == 0 {
            self.start_group();
        }
        let shard = datagram.get(header::SHARD..).unwrap_or_default();
        let rows = usize::from(shards.parity());
        let factors = self.factors.chunks_exact(rows).nth(self.taken.into()).unwrap_or_default();
        for (&factor, parity) in factors.iter().zip(self.parity.chunks_exact_mut(self.max_shard)) {
            self.multiplier.add(factor, shard, parity);
        }
        self.longest = self.longest.max(shard.len());
        self.taken += 1;
        if self.taken == shards.data() && self.is_stale(now) {
            self.given = shards.parity();
        }
        self.last = Some(now);
        Ok(())
    }

    /// The next parity datagram that is owed, header included, and its length in `out`.
    ///
    /// `None` if none is owed, or if `out` is shorter than [`parity_len`](Self::parity_len).
    pub fn poll_parity(&mut self, out: &mut [u8]) -> Option<usize> {
        let len = self.parity_len()?;
        let out = out.get_mut(..len)?;
        let parity = self.parity.chunks_exact(self.max_shard).nth(self.given.into())?.get(..self.longest)?;
        let seqid = self.numbering.parity()?;
        let (head, body) = out.split_at_mut_checked(header::SHARD)?;
        head.copy_from_slice(&Header { seqid, kind: Kind::Parity }.to_bytes());
        body.copy_from_slice(parity);
        self.given += 1;
        Some(len)
    }

    /// Length of the parity datagram that is owed next; all of a group are as long as its longest data datagram.
    pub fn parity_len(&self) -> Option<usize> {
        let shards = self.numbering.shards();
        (self.taken == shards.data() && self.given < shards.parity()).then_some(header::SHARD + self.longest)
    }

    /// The group's layout.
    pub fn shards(&self) -> Shards {
        self.numbering.shards()
    }

    fn start_group(&mut self) {
        if self.parity.is_empty() {
            self.parity = vec![0; usize::from(self.numbering.shards().parity()) * self.max_shard];
        } else {
            for parity in self.parity.chunks_exact_mut(self.max_shard) {
                parity.iter_mut().take(self.longest).for_each(|byte| *byte = 0);
            }
        }
        self.longest = 0;
        self.given = 0;
    }

    fn is_stale(&self, now: Instant) -> bool {
        match (self.stale_after, self.last) {
            (Some(pause), Some(last)) => now.since(last) > pause,
            _ => false,
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("numbering", &self.numbering)
            .field("taken", &self.taken)
            .field("owed", &self.parity_len())
            .finish_non_exhaustive()
    }
}
