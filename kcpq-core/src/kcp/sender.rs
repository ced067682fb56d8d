//! The sending half: the stream, the table of segments in flight, and retransmission.

use super::config::{Config, Mode};
use super::congestion::{Congestion, Snapshot};
use super::recovery::{Delivered, Recovery};
use super::redundancy::{Burst, Loss, Redundancy};
use super::rhythm::Rhythm;
use super::rtt::Rtt;
use super::segment::{Command, HEADER, Header};
use super::seq::{Sn, Ts};
use super::stats::Stats;
use crate::store::{Full, Queue, Store, TxStream};
use crate::time::{Duration, Instant};

/// One segment in flight. Its data stay in the stream; its number follows from its place in the table.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sent {
    pub(super) sent_at: Instant,
    /// Where its data begin, counted in bytes of the stream, wrapping.
    pub(super) offset: u32,
    /// Its RTO in microseconds, backed off; at most [`Config::MAX_RTO`].
    pub(super) rto: u32,
    /// The wire's clock when it was last sent, copies not counted, and when it was sent for the first time.
    pub(super) ts: Ts,
    pub(super) first_ts: Ts,
    pub(super) len: u16,
    /// Repair delay: microseconds after it was sent until the last repair that covers it goes out.
    pub(super) patience: u16,
    pub(super) frg: u8,
    /// A repair for it was planned.
    pub(super) covered: bool,
    /// Copies that it still gets.
    pub(super) copies: u8,
    /// KCP's `fastack`, TCP's duplicate ACKs: datagrams that acknowledged a later segment since it was last sent; and
    /// when the first of them came.
    pub(super) overtaken: u8,
    pub(super) overtaken_at: Instant,
    /// The state of congestion control when it was last sent.
    pub(super) snapshot: Snapshot,
    pub(super) acked: bool,
    pub(super) lost: bool,
    /// It was retransmitted because it was considered lost; and that was for its timer alone, which cannot tell a lost
    /// segment from a late acknowledgement.
    pub(super) resent: bool,
    pub(super) timed_out: bool,
}

impl Sent {
    /// When the last of its planned copies is out.
    pub(super) fn awaited_from(&self) -> Instant {
        self.sent_at + Duration::from_micros(u64::from(self.patience))
    }
}

/// Why [`Kcp::send`](super::Kcp::send) took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SendError {
    /// Nothing to send: an empty segment would stall a Go peer (PROTOCOL.md 2.3).
    Empty,
    /// No room in the stream at the moment.
    Full,
    /// In message mode, a message of more than 255 segments.
    TooLong {
        /// The longest message in bytes.
        limit: usize,
        /// Its length.
        actual: usize,
    },
}

impl core::fmt::Display for SendError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Empty => f.write_str("nothing to send"),
            Self::Full => f.write_str("no room in the send queue at the moment"),
            Self::TooLong { limit, actual } => {
                write!(f, "message of {actual} bytes, at most {limit} fit 255 segments")
            }
        }
    }
}

impl core::error::Error for SendError {}

/// Most segments of a message: `frg` counts down from 254 (docs/original.md 3.2).
#[cfg(feature = "kcp-modes")]
const MAX_FRAGMENTS: usize = 255;

pub(super) struct Sender<S: Store> {
    pub(super) tx: S::Tx,
    pub(super) sent: S::Queue<Sent>,
    ends: S::Queue<u32>,
    /// Number of the first segment in `sent`.
    pub(super) una: Sn,
    /// Segments acknowledged so far, saturating: how far back a late ACK can be believed.
    pub(super) acknowledged: u16,
    /// Offset of the first byte of `tx`, wrapping.
    pub(super) una_offset: u32,
    /// Bytes of `tx` that segments in `sent` cover.
    cut: usize,
    /// The peer's advertised window, in segments.
    remote_window: u16,
    /// Bytes of a datagram that new segments leave free.
    reserve: usize,
    pub(super) congestion: Congestion,
    pub(super) rtt: Rtt,
    pub(super) rhythm: Rhythm,
    pub(super) recovery: Recovery,
    pub(super) loss: Loss,
    pub(super) redundancy: Redundancy,
    /// The current burst: new segments sent since nothing was left to send.
    pub(super) burst: Burst,
    /// Bytes in flight that are neither acknowledged nor lost.
    pub(super) pipe: u32,
    /// When the pacer releases the next segment.
    pace_at: Option<Instant>,
    /// Entries of `sent` that are marked lost, and the first of them.
    pub(super) lost: usize,
    pub(super) first_lost: Sn,
    /// No retransmission timer of `sent` expires before this.
    pub(super) next_timeout: Option<Instant>,
    /// When the oldest segment in flight became the oldest.
    progress_at: Instant,
    /// When the peer told `una`.
    una_at: Instant,
}

impl<S: Store> Sender<S> {
    pub(super) fn new(config: &Config, tx: S::Tx, sent: S::Queue<Sent>, ends: S::Queue<u32>) -> Self {
        Self {
            tx,
            sent,
            ends,
            una: Sn(0),
            acknowledged: 0,
            una_offset: 0,
            cut: 0,
            remote_window: Config::UNHEARD_WINDOW,
            congestion: Congestion::new(config.congestion, usize::from(config.mtu) - HEADER),
            reserve: 0,
            rtt: Rtt::new(),
            rhythm: Rhythm::default(),
            recovery: Recovery::new(),
            loss: Loss::default(),
            redundancy: Redundancy::default(),
            burst: Burst::default(),
            pipe: 0,
            pace_at: None,
            lost: 0,
            first_lost: Sn(0),
            next_timeout: None,
            progress_at: Instant::ZERO,
            una_at: Instant::ZERO,
        }
    }

    /// Back to the state of a new conversation.
    pub(super) fn reset(&mut self, config: &Config) {
        self.tx.clear();
        self.sent.clear();
        self.ends.clear();
        self.una = Sn(0);
        self.acknowledged = 0;
        self.una_offset = 0;
        self.cut = 0;
        self.remote_window = Config::UNHEARD_WINDOW;
        self.congestion = Congestion::new(config.congestion, usize::from(config.mtu) - HEADER);
        self.reserve = 0;
        self.rtt = Rtt::new();
        self.rhythm = Rhythm::default();
        self.recovery = Recovery::new();
        self.loss = Loss::default();
        self.redundancy = Redundancy::default();
        self.burst = Burst::default();
        self.pipe = 0;
        self.pace_at = None;
        self.lost = 0;
        self.next_timeout = None;
    }

    #[cfg(all(test, feature = "alloc"))]
    pub(super) fn start_at(&mut self, sn: Sn, offset: u32) {
        self.una = sn;
        self.una_offset = offset;
    }

    pub(super) fn set_congestion(&mut self, config: &Config) {
        self.congestion = Congestion::new(config.congestion, self.mss(config));
        self.pace_at = None;
    }

    /// Most data bytes in one segment.
    pub(super) fn mss(&self, config: &Config) -> usize {
        usize::from(config.mtu).saturating_sub(HEADER + self.reserve).max(1)
    }

    /// Leaves room for what a parity over segments is longer than they are.
    #[cfg(feature = "fec")]
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.reserve = bytes;
    }

    pub(super) fn tx(&mut self) -> &mut S::Tx {
        &mut self.tx
    }

    /// Bytes not yet cut into segments.
    pub(super) fn unsent(&self) -> usize {
        self.tx.len().saturating_sub(self.cut)
    }

    /// Bytes not yet acknowledged, sent or not.
    pub(super) fn unacked(&self) -> usize {
        self.tx.len()
    }

    /// Offset of the first byte not yet acknowledged, wrapping.
    pub(super) fn acked_offset(&self) -> u32 {
        self.una_offset
    }

    pub(super) fn in_flight(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn remote_window(&self) -> u16 {
        self.remote_window
    }

    pub(super) fn set_remote_window(&mut self, window: u16) {
        self.remote_window = window;
    }

    /// Since when the oldest segment in flight waits for its acknowledgement.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (!self.sent.is_empty()).then_some(self.progress_at)
    }

    /// When the pacer releases the next segment, if one is ready.
    pub(super) fn pace_at(&self) -> Option<Instant> {
        self.pace_at
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if self.sent.is_empty() {
            return None;
        }
        let timeout = Instant::earlier(self.next_timeout, self.recovery.next_check());
        Instant::earlier(timeout, self.redundancy.due())
    }

    /// Queues `bytes`: more of the stream, or one message.
    pub(super) fn send(&mut self, config: &Config, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.is_empty() {
            return Err(SendError::Empty);
        }
        match config.mode {
            Mode::Stream => self.tx.push(bytes).map_err(|Full| SendError::Full),
            #[cfg(feature = "kcp-modes")]
            Mode::Message => self.send_message(config, bytes),
        }
    }

    #[cfg(feature = "kcp-modes")]
    fn send_message(&mut self, config: &Config, bytes: &[u8]) -> Result<(), SendError> {
        let limit = MAX_FRAGMENTS * self.mss(config);
        if bytes.len() > limit {
            return Err(SendError::TooLong { limit, actual: bytes.len() });
        }
        if !self.ends.has_room() {
            return Err(SendError::Full);
        }
        self.tx.push(bytes).map_err(|Full| SendError::Full)?;
        let end = self.una_offset.wrapping_add(self.tx.len() as u32);
        // There was room above.
        let _ = self.ends.push(end);
        Ok(())
    }

    /// True if the peer cannot be the one that this conversation began with: `acked` was sent after the peer had told that
    /// everything before our `una` had arrived, and with its acknowledgement it tells less. A server that was started again
    /// acknowledges what falls into the window of its new, empty session (docs/original.md 4.3).
    pub(super) fn has_fallen_back(&self, una: Sn, acked: &Delivered) -> bool {
        una.before(self.una) && acked.sent_at() > self.una_at
    }

    /// Everything before `una` has arrived. True if that is news.
    pub(super) fn on_una(&mut self, now: Instant, una: Sn) -> bool {
        let news = una.distance(self.una);
        if news <= 0 || news as usize > self.sent.len() {
            return false; // old, or a number that was never sent
        }
        let mut bytes = 0;
        for _ in 0..news {
            let Some(segment) = self.sent.pop() else { break };
            bytes += usize::from(segment.len);
            self.lost -= usize::from(segment.lost);
            if !segment.acked {
                self.congestion.on_acked(now, segment.len);
                if !segment.lost {
                    self.pipe = self.pipe.saturating_sub(u32::from(segment.len));
                }
                if !(segment.timed_out && self.rhythm.collects()) {
                    self.loss.sample(segment.resent);
                }
            }
        }
        self.una = una;
        self.una_at = now;
        self.acknowledged = self.acknowledged.saturating_add(news as u16);
        self.una_offset = self.una_offset.wrapping_add(bytes as u32);
        self.cut -= bytes.min(self.cut);
        self.tx.release(bytes);
        self.progress_at = now;
        self.recovery.on_progress(now);
        if self.sent.is_empty() {
            self.next_timeout = None;
            self.recovery.on_empty();
        }
        if self.first_lost.before(una) {
            self.first_lost = una;
        }
        self.congestion.on_progress(self.remote_window);
        true
    }

    /// Writes the next segment, a lost one or a new one, to the front of `out`. `fresh` says that `out` is a whole
    /// datagram. `None` when nothing may go, or nothing fits.
    pub(super) fn next_segment(
        &mut self,
        now: Instant,
        config: &Config,
        header: Header,
        out: &mut [u8],
        fresh: bool,
        stats: &mut Stats,
    ) -> Option<usize> {
        let room = out.len().checked_sub(HEADER)?;
        self.pace_at = None;
        if self.lost > 0 || self.may_cut(config) {
            self.pace_at = self.congestion.wait(now);
            if self.pace_at.is_some() {
                return None;
            }
        }
        let index = if self.lost > 0 { self.find_lost() } else { None };
        let index = match index {
            Some(index) => index,
            None => self.cut_segment(now, config, room, fresh, stats)?,
        };
        let rto = self.rtt.rto();
        let segment = self.sent.get_mut(index)?;
        if usize::from(segment.len) > room {
            return None;
        }
        let again = core::mem::take(&mut segment.lost);
        segment.snapshot = self.congestion.on_sent(now, segment.len, self.pipe);
        self.pipe += u32::from(segment.len);
        segment.sent_at = now;
        segment.ts = now_ts(now);
        if again {
            segment.overtaken = 0;
            segment.patience = 0;
            segment.covered = false;
            segment.copies = 0;
            segment.resent = true;
            self.lost -= 1;
            stats.retransmitted += 1;
        } else {
            segment.rto = rto.as_micros() as u32;
            segment.first_ts = segment.ts;
        }
        let timeout = now + Duration::from_micros(u64::from(segment.rto));
        self.next_timeout = Instant::earlier(self.next_timeout, Some(timeout));
        if again {
            self.plan_copy(now, config, index);
        }
        self.put_segment(now, index, header, out, stats)
    }

    /// Writes segment `index` as it goes out now to the front of `out`, which has room for it.
    pub(super) fn put_segment(
        &mut self,
        now: Instant,
        index: usize,
        mut header: Header,
        out: &mut [u8],
        stats: &mut Stats,
    ) -> Option<usize> {
        let segment = self.sent.get(index)?;
        let len = usize::from(segment.len);
        let (head, data) = out.get_mut(..HEADER + len)?.split_at_mut(HEADER);
        header.command = Command::Push;
        header.frg = segment.frg;
        header.ts = now_ts(now);
        header.sn = self.una.plus(index as u32);
        header.len = len as u32;
        head.copy_from_slice(&header.to_bytes());
        self.tx.copy_to(segment.offset.wrapping_sub(self.una_offset) as usize, data);
        stats.segments_sent += 1;
        Some(HEADER + len)
    }

    /// The first lost segment's index.
    fn find_lost(&mut self) -> Option<usize> {
        let from = usize::try_from(self.first_lost.distance(self.una)).unwrap_or(0);
        let found = (from..self.sent.len()).find(|index| self.sent.get(*index).is_some_and(|segment| segment.lost));
        match found {
            Some(index) => self.first_lost = self.una.plus(index as u32),
            None => self.lost = 0,
        }
        found
    }

    /// True if there are data for another segment, and windows and memory have room for it.
    fn may_cut(&self, config: &Config) -> bool {
        let in_flight = self.sent.len();
        let window = u32::from(config.send_window.min(self.remote_window)).min(self.congestion.window());
        self.unsent() > 0
            && in_flight < window as usize
            && self.sent.has_room()
            && self.congestion.admits(self.pipe)
            && (in_flight == 0 || self.congestion.knows_the_link() || self.cut < config.max_in_flight as usize)
    }

    /// Cuts a new segment off the stream if the windows allow one, and returns its index.
    fn cut_segment(
        &mut self,
        now: Instant,
        config: &Config,
        room: usize,
        fresh: bool,
        stats: &mut Stats,
    ) -> Option<usize> {
        if !self.may_cut(config) {
            return None;
        }
        let (unsent, in_flight) = (self.unsent(), self.sent.len());
        let mss = self.mss(config);
        let offset = self.una_offset.wrapping_add(self.cut as u32);
        let (want, frg) = match config.mode {
            Mode::Stream => (unsent.min(mss), 0),
            #[cfg(feature = "kcp-modes")]
            Mode::Message => {
                let end = *self.ends.get(0)?;
                let rest = end.wrapping_sub(offset) as usize;
                (rest.min(mss), rest.div_ceil(mss).saturating_sub(1) as u8)
            }
        };
        // Coalescing: the rest of a datagram is worth filling, but not with less than a quarter of an MSS.
        let fill = config.mode == Mode::Stream && !fresh && want > room && room >= mss / 4;
        let len = if fill { room } else { want };
        if len > room || len == 0 {
            return None;
        }
        let segment = Sent {
            sent_at: now,
            offset,
            rto: 0,
            ts: Ts::default(),
            first_ts: Ts::default(),
            len: len as u16,
            patience: 0,
            covered: false,
            frg,
            copies: 0,
            overtaken: 0,
            overtaken_at: now,
            snapshot: Snapshot::default(),
            acked: false,
            lost: false,
            resent: false,
            timed_out: false,
        };
        self.sent.push(segment).ok()?;
        if in_flight == 0 {
            self.progress_at = now;
            self.recovery.begin(now);
            self.rhythm.on_begin(now);
        }
        self.burst.segments += 1;
        self.burst.bytes += len;
        self.cut += len;
        stats.bytes_sent += len as u64;
        #[cfg(feature = "kcp-modes")]
        if config.mode == Mode::Message && frg == 0 {
            self.ends.pop();
        }
        Some(in_flight)
    }
}

pub(super) fn now_ts(now: Instant) -> Ts {
    Ts(now.as_wire_millis())
}
