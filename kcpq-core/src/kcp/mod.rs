//! KCP: a reliable byte stream over datagrams (PROTOCOL.md 2).
//!
//! [`Kcp`] knows no frames, no sockets, no keys and no clock. It is driven by events: data queued, a datagram arrived, a
//! deadline reached. There is no tick. To the peer it is ordinary KCP.
//!
//! The driver's order: one input, then [`poll_transmit`](Kcp::poll_transmit) until `None`, then sleep until
//! [`poll_timeout`](Kcp::poll_timeout) or input. Any input is legal in any state, whatever it holds.
//!
//! Kinds of method: *commands* are plain verbs; `handle_` takes from the network; `poll_` gives to the caller; the
//! rest are getters.

mod config;
mod congestion;
mod env;
#[cfg_attr(not(feature = "mtud"), path = "absent/mtud.rs")]
mod mtud;
#[cfg_attr(not(feature = "native"), path = "absent/native.rs")]
mod native;
mod packet;
mod peer;
mod recv;
#[cfg_attr(not(feature = "repair"), path = "absent/repair.rs")]
mod repair;
mod rtt;
mod segment;
mod send;
mod seq;
mod stats;
#[cfg(test)]
mod tests;
mod timers;
mod window_probe;

#[cfg(feature = "alloc")]
use alloc::collections::VecDeque;
use core::fmt;

pub use config::{Config, CongestionControl, Mode};
pub use peer::{MtuSearch, Peer};
pub use recv::Ack;
#[cfg(feature = "lanes")]
pub use recv::{Early, Parked};
pub use rtt::Rtt;
pub use segment::{Command, HEADER, Header, Malformed};
#[cfg(feature = "lanes")]
pub use send::LatestMessage;
pub use send::{SendError, Sent};
pub use seq::{Sn, Ts};
pub use stats::Stats;

use self::env::Env;
use self::mtud::Mtud;
use self::native::{Numbers, Scene};
use self::packet::Packet;
use self::recv::Receiver;
use self::segment::flags;
use self::send::{Delivered, Sender};
use self::window_probe::WindowProbe;
use crate::lane::Lane;
#[cfg(feature = "lanes")]
use crate::store::RxWindow;
#[cfg(feature = "alloc")]
use crate::store::{Heap, HeapRx, HeapTx, Room};
use crate::store::{Store, TooLarge};
use crate::time::{Deadline, Duration, Instant};

/// The memory of one engine.
pub struct Parts<S: Store> {
    /// Bytes given to the engine and not yet acknowledged.
    pub tx: S::Tx,
    /// One entry for each segment in flight; a shorter queue narrows the send window.
    pub sent: S::Queue<Sent>,
    /// Ends of messages, in message mode only.
    pub ends: S::Queue<u32>,
    /// Segments ahead of a gap, or unread.
    pub rx: S::Rx,
    /// Acknowledgements owed.
    pub acks: S::Queue<Ack>,
}

#[cfg(feature = "alloc")]
impl Parts<Heap> {
    /// Memory from the allocator, taken when it is needed.
    pub fn heap(config: &Config) -> Self {
        Self {
            tx: HeapTx::default(),
            sent: VecDeque::new(),
            ends: VecDeque::new(),
            rx: HeapRx::new(usize::from(config.recv_window)),
            acks: VecDeque::new(),
        }
    }
}

/// The memory of a lane besides lane 0, where memory is lent (PROTOCOL.md 2.12).
#[cfg(feature = "lanes")]
pub struct LaneParts<S: Store> {
    /// Bytes given to the lane and not yet acknowledged.
    pub tx: S::Tx,
    /// One entry for each of these messages of which only the latest counts; others go as ordinary ones.
    pub messages: S::Queue<LatestMessage>,
    /// One for each subject of these.
    pub subjects: S::Numbers,
}

#[cfg(feature = "lanes")]
impl<S: Store> fmt::Debug for LaneParts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneParts").finish_non_exhaustive()
    }
}

impl<S: Store> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// How a datagram's segments came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Origin {
    /// From the network, now.
    Wire,
    /// In a native datagram whose number ends in these bits (PROTOCOL.md 1.5).
    Numbered(u32),
    /// Rebuilt from FEC parity: its window is old and its echoes say nothing about the round trip (PROTOCOL.md 2.4).
    Rebuilt,
}

/// One end of a KCP conversation.
///
/// Two ends, and between them a link that loses the first datagram. A driver does the same with a socket and a clock:
/// take in what has come, send what is due, sleep until the deadline or until something comes.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kcpq_core::Instant;
/// use kcpq_core::kcp::{Config, Kcp, Origin, Parts};
/// use kcpq_core::store::{Heap, HeapRx, HeapTx};
/// use kcpq_core::time::Deadline;
///
/// fn engine() -> Kcp<Heap> {
///     let config = Config::GAMES;
///     let parts = Parts {
///         tx: HeapTx::default(),
///         sent: Default::default(),
///         ends: Default::default(),
///         rx: HeapRx::new(usize::from(config.recv_window)),
///         acks: Default::default(),
///     };
///     Kcp::new(0x1122_3344, config, parts) // both ends have the same conversation number
/// }
///
/// let (mut a, mut b) = (engine(), engine());
/// let mut now = Instant::ZERO;
/// let mut buffer = [0; 1400]; // holds a datagram: Config::mtu
/// let mut received = Vec::new();
/// let mut losses = 1;
///
/// a.send(b"hello").unwrap();
/// while a.unacked() > 0 {
///     // Datagrams until there are none; what comes in order goes to a sink, which says how much it has taken.
///     while let Some(len) = a.poll_transmit(now, &mut buffer) {
///         if losses > 0 {
///             losses -= 1;
///             continue;
///         }
///         let sink = |bytes: &[u8]| {
///             received.extend_from_slice(bytes);
///             bytes.len()
///         };
///         b.handle_datagram(now, &buffer[..len], Origin::Wire, sink).unwrap();
///     }
///     while let Some(len) = b.poll_transmit(now, &mut buffer) {
///         a.handle_datagram(now, &buffer[..len], Origin::Wire, |_| 0).unwrap();
///     }
///     // Then time passes until something is due: here the retransmission, after 200 ms.
///     if let Some(deadline) = Deadline::earlier(a.poll_timeout(), b.poll_timeout()) {
///         now = now.max(deadline.at);
///     }
/// }
/// assert_eq!(received, b"hello");
/// assert_eq!(a.stats().retransmitted, 1);
/// # }
/// ```
pub struct Kcp<S: Store> {
    conv: u32,
    env: Env,
    sender: Sender<S>,
    receiver: Receiver<S>,
    window_probe: WindowProbe,
    mtud: Mtud,
    last_heard: Option<Instant>,
    /// The peer acknowledges less than it did before.
    forgotten: bool,
}

impl<S: Store> fmt::Debug for Kcp<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kcp")
            .field("conv", &self.conv)
            .field("in_flight", &self.sender.in_flight())
            .field("unacked", &self.sender.unacked())
            .finish_non_exhaustive()
    }
}

impl<S: Store> Kcp<S> {
    /// An engine for conversation `conv`. Values of `config` out of range count as the nearest in range.
    pub fn new(conv: u32, config: Config, parts: Parts<S>) -> Self {
        let mut env = Env::new(config.clamped());
        Self {
            conv,
            sender: Sender::new(&env, parts.tx, parts.sent, parts.ends),
            receiver: Receiver::new(parts.rx, parts.acks),
            window_probe: WindowProbe::default(),
            mtud: Mtud::new(&mut env),
            last_heard: None,
            forgotten: false,
            env,
        }
    }

    /// Begins another conversation in the same memory. What was queued is forgotten; the counters go on.
    pub fn reset(&mut self, conv: u32) {
        self.conv = conv;
        self.env.reset();
        self.sender.reset(&self.env);
        self.receiver.reset();
        self.window_probe = WindowProbe::default();
        self.mtud = Mtud::new(&mut self.env);
        self.last_heard = None;
        self.forgotten = false;
    }

    /// Sets what both ends have agreed upon, or what is known of the peer, in place of what was there; [`Peer::unknown`]
    /// before. Timeouts count from the next sample of the round trip on, and another congestion control starts without
    /// knowledge. It holds until it is replaced, or another conversation begins.
    pub fn negotiated(&mut self, peer: Peer) {
        let before = core::mem::replace(&mut self.env.peer, peer.clamped());
        if before.congestion != peer.congestion {
            self.sender.reset_congestion(&mut self.env);
        }
        if before.repairs != peer.repairs {
            self.sender.follow_mss(&self.env);
        }
        if before.ack_delay != peer.ack_delay {
            self.sender.set_ack_delay(peer.ack_delay);
        }
        if before.mtu_search != peer.mtu_search {
            self.mtud = Mtud::new(&mut self.env);
        }
    }

    /// Changes how long the segments of one datagram may be, from the next new segment on. Segments in flight keep their
    /// length, so a smaller value is for before the first `send`.
    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.env.mtu = mtu.max(Config::MIN_MTU);
        self.sender.follow_mss(&self.env);
    }

    /// The system has refused a datagram with `len` bytes of segments as too long for the path (EMSGSIZE). Later ones are
    /// shorter, and what is in flight and too long goes again: in pieces if the peer knows these, otherwise as it is.
    pub fn on_too_long(&mut self, now: Instant, len: u16) {
        self.env.now = now;
        if self.mtud.on_too_long(&mut self.env, len) {
            self.sender.on_narrowed(&self.env);
        }
    }

    /// Demands a proof that the peer is where it says it is: until an acknowledgement echoes our clock, which begins at
    /// `clock`, a random number, its word counts little: no more than the first window is sent, nothing but an acknowledgement
    /// acknowledges, and neither the path nor an outage is probed. To be called before anything else happens.
    #[cfg(feature = "alloc")]
    pub(crate) fn demand_proof(&mut self, clock: u32) {
        self.env.demand_proof(clock);
    }

    /// False as long as a proof is demanded and was not given.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_proved(&self) -> bool {
        self.env.proved
    }

    /// From now on native datagrams are sent (PROTOCOL.md 1.5), whose numbers begin at 0. For stream mode. What was sent before
    /// goes on. Without the feature `native` nothing changes.
    pub fn begin_numbers(&mut self, now: Instant) {
        self.env.now = now;
        if self.env.numbers.is_none() {
            self.env.numbers = Numbers::begin(now);
            self.receiver.forget_echoes();
            self.receiver.owe_window_update(&mut self.env);
            self.mtud.begin(&mut self.env);
        }
    }

    /// The peer has proved in another way that it is where it says it is.
    #[cfg(feature = "alloc")]
    pub(crate) fn prove(&mut self) {
        self.env.proved = true;
    }

    /// The peer was heard by something else than segments.
    #[cfg(feature = "sealed")]
    pub(crate) fn on_heard(&mut self, now: Instant) {
        self.last_heard = Some(now);
    }

    /// Bytes of memory taken by what has come and waits: for earlier segments, to be read, or to be of use for others.
    #[cfg(feature = "alloc")]
    pub(crate) fn held(&self) -> usize {
        self.receiver.held()
    }

    /// Bytes of memory taken by segments that wait for earlier ones, or to be read.
    #[cfg(feature = "alloc")]
    pub(crate) fn waiting(&self) -> usize {
        self.receiver.waiting()
    }

    /// How much more may be taken in, where memory is short: the window that is told follows, and what comes all the
    /// same is not acknowledged. With 0 it is closed.
    #[cfg(feature = "alloc")]
    pub(crate) fn set_room(&mut self, now: Instant, room: Option<Room>) {
        self.env.now = now;
        self.receiver.set_room(&mut self.env, room);
    }

    /// How many segments have been read, wrapping. `None` where each lane goes on by itself.
    #[cfg(feature = "alloc")]
    pub(crate) fn read_to(&self) -> Option<u32> {
        self.receiver.read_to()
    }

    /// So many segments that were read count as unread: what was in them is not dealt with yet.
    #[cfg(feature = "alloc")]
    pub(crate) fn set_elsewhere(&mut self, now: Instant, segments: usize) {
        self.env.now = now;
        self.receiver.set_elsewhere(&mut self.env, segments);
    }

    /// Forgets what is only kept to rebuild others with.
    #[cfg(feature = "alloc")]
    pub(crate) fn forget_helpers(&mut self) {
        self.receiver.forget_helpers();
    }

    /// Forgets what has come and was not read, because nobody will.
    #[cfg(feature = "alloc")]
    pub(crate) fn forget_received(&mut self) {
        self.receiver.forget();
    }

    /// The peer is told the window and what has arrived, as soon as possible.
    pub(crate) fn owe_window_update(&mut self, now: Instant) {
        self.env.now = now;
        self.receiver.owe_window_update(&mut self.env);
    }

    /// A native datagram goes out that has nothing of the engine in it. Returns its number.
    pub(crate) fn take_number(&mut self, now: Instant) -> Option<u64> {
        let numbers = self.env.numbers.as_mut()?;
        let number = numbers.next(now);
        numbers.on_sent(now);
        Some(number)
    }

    /// One of the ends is at another address: nothing is known of the path, and what is in flight is sent again.
    pub(crate) fn on_new_path(&mut self, now: Instant) {
        self.env.now = now;
        self.sender.on_new_path(&mut self.env);
    }

    /// The number of the next native datagram; 0 before they [begin](Self::begin_numbers).
    pub fn next_number(&self, now: Instant) -> u64 {
        self.env.numbers.as_ref().map_or(0, |numbers| numbers.next(now))
    }

    /// True if acknowledgements wait to be sent.
    pub(crate) fn owes_acks(&self) -> bool {
        self.receiver.owes_acks()
    }

    /// Queues bytes of the stream, or in message mode one message; all or nothing.
    ///
    /// # Errors
    /// [`SendError`]: nothing was queued.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.sender.send(&self.env, bytes)
    }

    /// The outgoing stream, to append to it in stream mode without a copy.
    pub fn stream(&mut self) -> &mut S::Tx {
        self.sender.tx()
    }

    /// The outgoing stream of a lane, to append to it as to [`stream`](Self::stream). `None` as long as there are no other lanes
    /// than 0 ([`has_lanes`](Self::has_lanes)), or the store has no memory for them.
    pub fn stream_of(&mut self, lane: Lane) -> Option<&mut S::Tx> {
        if lane.is_main() {
            return Some(self.sender.tx());
        }
        if self.has_lanes() { self.sender.stream_of(lane) } else { None }
    }

    /// Says that the last `len` bytes of a lane's stream, which is not that of lane 0, are a message of which only the latest of
    /// its subject counts (PROTOCOL.md 2.12); `key` is a hash of that, 64 bits without known collisions. Of the same subject
    /// what was not sent yet, or gets lost, is not sent any more. Without effect if the peer does not know such.
    #[cfg(feature = "lanes")]
    pub fn supersede(&mut self, lane: Lane, len: usize, key: u64) {
        if self.env.peer.latest
            && let Ok(len) = u16::try_from(len)
        {
            self.sender.supersede(lane, len, key);
        }
    }

    /// Lends memory for what has come in lanes: one entry of each queue for each segment of the window, or more. Before the first
    /// datagram. False if there are fewer, and then there are no lanes. Where memory grows it is not needed.
    #[cfg(feature = "lanes")]
    pub fn lend_lanes(&mut self, parked: S::Queue<Parked<<S::Rx as RxWindow>::Kept>>, early: S::Queue<Early>) -> bool {
        self.receiver.lend_lanes(parked, early)
    }

    /// Lends memory for a lane besides lane 0, to send in it, whichever it will be. False if there are as many as there can be,
    /// or if memory grows.
    #[cfg(feature = "lanes")]
    pub fn lend_lane(&mut self, parts: LaneParts<S>) -> bool {
        self.sender.lend_lane(parts)
    }

    /// True if there are other lanes than 0: both ends know them, and native datagrams are sent.
    pub fn has_lanes(&self) -> bool {
        cfg!(feature = "lanes") && self.env.peer.lanes && self.env.numbers.is_some()
    }

    /// Offers the bytes that have arrived in order to `sink`, which returns how many it took; ends when it takes none
    /// or there are no more. True if anything was taken. For stream mode, without lanes.
    pub fn recv(&mut self, now: Instant, mut sink: impl FnMut(&[u8]) -> usize) -> bool {
        self.recv_lanes(now, |_, bytes| sink(bytes))
    }

    /// As [`recv`](Self::recv), with the lane of the bytes. One of which the sink takes no more does not hold up the others.
    pub fn recv_lanes(&mut self, now: Instant, mut sink: impl FnMut(Lane, &[u8]) -> usize) -> bool {
        self.env.now = now;
        self.receiver.recv(&mut self.env, &mut sink)
    }

    /// The next bytes that have arrived in order, up to the end of one segment; they stay until
    /// [`consume`](Self::consume) takes them.
    pub fn front(&self) -> Option<&[u8]> {
        self.receiver.front().map(|(_, data)| data)
    }

    /// The lane of these bytes.
    pub fn front_lane(&self) -> Lane {
        self.receiver.front().map_or(Lane::NORMAL, |(lane, _)| lane)
    }

    /// Takes `count` bytes of what [`front`](Self::front) shows; of an empty segment, 0.
    pub fn consume(&mut self, now: Instant, count: usize) {
        self.env.now = now;
        self.receiver.consume(&mut self.env, count);
    }

    /// The length of the next message, once all of it is there. For message mode.
    pub fn message_len(&self) -> Option<usize> {
        self.receiver.message_len()
    }

    /// Copies the next message to the front of `out`; `None` if none is complete. For message mode.
    ///
    /// # Errors
    /// [`TooLarge`] when `out` is shorter than the message, which then stays.
    pub fn recv_message(&mut self, now: Instant, out: &mut [u8]) -> Result<Option<usize>, TooLarge> {
        let Some(len) = self.message_len() else { return Ok(None) };
        if len > out.len() {
            return Err(TooLarge { limit: out.len(), actual: len });
        }
        self.env.now = now;
        self.receiver.recv_message(&mut self.env, out);
        Ok(Some(len))
    }

    /// Takes in the segments of one datagram, without lanes. In stream mode, bytes that are in order and ahead of which
    /// nothing waits go straight from the datagram to `sink`, which returns how many it took; what it leaves is kept for
    /// [`recv`](Self::recv). A sink that takes nothing makes this a plain receive queue.
    ///
    /// # Errors
    /// [`Malformed`] for the counters: what came before the offending segment has taken effect.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        segments: &[u8],
        origin: Origin,
        mut sink: impl FnMut(&[u8]) -> usize,
    ) -> Result<(), Malformed> {
        self.handle_datagram_lanes(now, segments, origin, |_, bytes| sink(bytes))
    }

    /// As [`handle_datagram`](Self::handle_datagram), with the lane of the bytes: these are in order in each lane, whatever
    /// others miss.
    ///
    /// # Errors
    /// The same.
    #[inline]
    pub fn handle_datagram_lanes(
        &mut self,
        now: Instant,
        segments: &[u8],
        origin: Origin,
        mut sink: impl FnMut(Lane, &[u8]) -> usize,
    ) -> Result<(), Malformed> {
        self.env.now = now;
        let mut acked = None;
        let mut rest = segments;
        let mut first = true;
        let result = loop {
            let (header, data, behind) = match self.split(rest, origin, first) {
                Ok(Some(parts)) => parts,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if first {
                first = false;
                self.last_heard = Some(self.last_heard.map_or(now, |at| at.max(now)));
                self.env.stats.datagrams_received += 1;
            }
            rest = behind;
            if let Err(error) = self.on_segment(&header, data, origin, &mut acked, &mut sink) {
                break Err(error);
            }
        };
        if let Some(Acked { round_trip, newest }) = acked {
            if let Some(round_trip) = round_trip.filter(|_| origin != Origin::Rebuilt) {
                self.sender.on_round_trip(&self.env, round_trip);
            }
            self.sender.on_delivered(&mut self.env, newest);
        }
        self.env.stats.malformed += u64::from(result.is_err());
        result
    }

    /// Splits the next segment, the `first` of its datagram or a further one, off `bytes`; `None` at the end.
    #[inline]
    fn split<'d>(&self, bytes: &'d [u8], origin: Origin, first: bool) -> Result<Option<Split<'d>>, Malformed> {
        match (self.env.numbers.as_ref(), origin.number()) {
            (Some(_), Some(_)) if bytes.is_empty() => Ok(None),
            (Some(numbers), Some(ts)) => {
                let (conv, una, wnd) = (self.conv, self.sender.una(), self.sender.remote_window());
                let template = Header { conv, command: Command::Ack, frg: 0, wnd, ts, sn: una, una, len: 0 };
                let scene = Scene::new(numbers, self.receiver.next(), template);
                scene.split(bytes).map(Some)
            }
            // Trailing bytes are ignored, as in the original.
            (_, None) if !first && bytes.len() < HEADER => Ok(None),
            (numbers, None) => {
                let (mut header, data, rest) = Header::split(bytes, self.conv)?;
                if numbers.is_some() && header.command != Command::Ack {
                    // A straggler, whose clock cannot be echoed any more, and which has no flags.
                    (header.ts, header.frg) = (Ts::NONE, 0);
                }
                Ok(Some((header, data, rest)))
            }
            (None, Some(_)) => Err(Malformed::Command { actual: bytes.first().copied().unwrap_or(0) }),
        }
    }

    /// True if it says a lane to one who has not agreed to such.
    #[inline]
    fn is_foreign_lane(&self, header: &Header) -> bool {
        header.frg & flags::LANED != 0
            && self.env.numbers.is_some()
            && !self.env.peer.lanes
            && matches!(header.command, Command::Push | Command::Piece)
    }

    /// Takes in one segment. What it acknowledges is added to `acked`.
    #[cfg_attr(target_os = "none", inline(never))]
    fn on_segment(
        &mut self,
        header: &Header,
        data: &[u8],
        origin: Origin,
        acked: &mut Option<Acked>,
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) -> Result<(), Malformed> {
        if self.is_foreign_lane(header) {
            return Err(Malformed::Command { actual: header.command as u8 });
        }
        let env = &mut self.env;
        if origin != Origin::Rebuilt {
            let most = if env.proved { u16::MAX } else { Config::UNHEARD_WINDOW };
            self.sender.set_remote_window(env.now, header.wnd.min(most));
        }
        let proved = env.proved;
        if header.command == Command::Ack
            // Before `una` is applied, which may cover the very segment whose echo this is.
            && let Some(delivered) = self.sender.on_ack(env, header.sn, header.ts)
        {
            self.forgotten |= self.sender.has_fallen_back(header.una, &delivered);
            let newest = delivered.later(acked.map(|acked| acked.newest));
            let before = acked.and_then(|acked| acked.round_trip);
            *acked = Some(Acked { round_trip: delivered.round_trip().or(before), newest });
        }
        if !proved && env.proved {
            self.sender.set_remote_window(env.now, header.wnd);
            self.mtud.begin(env);
        }
        if env.proved {
            self.sender.on_una(env, header.una);
        }
        match header.command {
            Command::Push => self.receiver.on_push(env, header, data, sink),
            Command::Repair if env.repairs() => self.receiver.on_repair(env, header, data, sink),
            Command::Piece if env.pieces() => self.receiver.on_piece(env, header, data, sink),
            Command::WindowProbe => self.receiver.on_window_probe(env),
            Command::MtuProbe if self.mtud.is_known() => self.mtud.on_probe(env, header.sn),
            Command::MtuProbeAck if self.mtud.is_known() => {
                if self.mtud.on_answer(env, header.sn) {
                    self.sender.trust_path(env);
                }
            }
            Command::Ack | Command::WindowUpdate => {}
            Command::Repair | Command::Piece | Command::MtuProbe | Command::MtuProbeAck => {
                return Err(Malformed::Command { actual: header.command as u8 });
            }
        }
        Ok(())
    }

    /// Writes the next datagram's segments to the front of `out` and returns their length, at most [`mtu`](Self::mtu);
    /// `None` when nothing is due. What is due follows from `now`: there is no separate call for timeouts. When there is
    /// nothing else a longer datagram may ask whether the path carries it, if `out` has room.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        self.env.now = now;
        self.sender.on_time(&mut self.env);
        let suspected = self.sender.suspects_black_hole();
        if !self.mtud.is_quiet(&self.env, suspected) {
            self.look_for_mtu(suspected);
        }
        let template = Header {
            conv: self.conv,
            command: Command::Ack,
            frg: 0,
            wnd: self.receiver.window(&self.env),
            ts: Ts(0),
            sn: Sn(0),
            una: self.receiver.next(),
            len: 0,
        };
        let limit = out.len().min(self.sender.mtu(&self.env));
        let (segments, _) = out.split_at_mut_checked(limit)?;
        let len = self.write_segments(Packet::new(&self.env, segments, template)).or_else(|| {
            if !(suspected || self.sender.is_calm(&self.env)) {
                self.mtud.put_off(&mut self.env);
                return None;
            }
            let round_trip = self.sender.rtt().smoothed().unwrap_or(Duration::ZERO);
            self.mtud.write_probe(&mut self.env, out, template, round_trip)
        });
        if let Some(len) = len {
            self.env.stats.datagrams_sent += 1;
            self.mtud.on_sent(&mut self.env, len);
            if let Some(numbers) = &mut self.env.numbers {
                numbers.on_sent(now);
            }
        }
        len
    }

    /// What losses, answers and the time say of how long datagrams may be.
    #[inline(never)]
    fn look_for_mtu(&mut self, suspected: bool) {
        self.mtud.suspect(&mut self.env, suspected);
        if self.mtud.on_time(&mut self.env) {
            self.sender.on_narrowed(&self.env);
        }
    }

    /// Writes the segments that are due.
    fn write_segments(&mut self, mut packet: Packet<'_>) -> Option<usize> {
        let (env, packet) = (&mut self.env, &mut packet);
        self.receiver.write_acks(env, packet);
        let waiting = self.sender.remote_window() == 0 && self.sender.unacked() > 0;
        self.window_probe.write(env, packet, waiting);
        self.receiver.write_window_update(env, packet);
        self.mtud.write_answer(env, packet);
        let before_data = packet.len();
        while self.sender.write_segment(env, packet) {}
        self.sender.write_redundancy(env, packet, packet.len() > before_data);
        self.sender.end_burst(env);
        if packet.len() > before_data && !packet.is_full() {
            self.receiver.coalesce_acks(env, packet);
        }
        packet.finish()
    }

    /// When [`poll_transmit`](Self::poll_transmit) will next have something that it has not now, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.env.timers.next(self.sender.in_flight() > 0)
    }

    /// The conversation's number.
    pub fn conv(&self) -> u32 {
        self.conv
    }

    /// The parameters that the engine was made with.
    pub fn config(&self) -> &Config {
        &self.env.config
    }

    /// What holds for the present conversation.
    pub fn peer(&self) -> &Peer {
        &self.env.peer
    }

    /// How long the segments of one datagram may be at present, headers included.
    pub fn mtu(&self) -> u16 {
        self.env.mtu
    }

    /// Most data bytes in one segment.
    pub fn mss(&self) -> usize {
        self.env.mss()
    }

    /// Bytes queued and not yet sent for the first time.
    pub fn unsent(&self) -> usize {
        self.sender.unsent()
    }

    /// The same in one lane.
    pub fn unsent_of(&self, lane: Lane) -> usize {
        self.sender.unsent_of(lane)
    }

    /// True if what `waits` to get into the stream does better to go on waiting, because congestion control lets nothing new go
    /// at present. A timer or an acknowledgement says when it may.
    #[inline]
    pub(crate) fn is_held(&mut self, now: Instant, waits: impl FnOnce() -> bool) -> bool {
        self.sender.is_bounded() && {
            self.env.now = now;
            self.sender.is_held(&self.env, waits())
        }
    }

    /// Bytes queued and not yet acknowledged.
    pub fn unacked(&self) -> usize {
        self.sender.unacked()
    }

    /// Where in the outgoing stream the first byte not yet acknowledged lies, or the sum of that over all lanes; wraps at 2^32.
    pub fn acked_offset(&self) -> u32 {
        self.sender.acked_offset()
    }

    /// The same in the stream of one lane.
    pub fn acked_offset_of(&self, lane: Lane) -> u32 {
        self.sender.acked_offset_of(lane)
    }

    /// Segments sent and not yet acknowledged.
    pub fn in_flight(&self) -> usize {
        self.sender.in_flight()
    }

    /// The peer's free window in segments, as last told.
    pub fn remote_window(&self) -> u16 {
        self.sender.remote_window()
    }

    /// True if the peer has lost this conversation and knows only what came since, as a server does that was started
    /// again. What is sent to it goes nowhere.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// When a segment of this conversation last arrived.
    pub fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// Since when nothing was acknowledged although something is in flight, without the time in which the peer says that it
    /// has no room: a dead link, by time.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.sender.stalled_since()
    }

    /// Round-trip time and retransmission timeout.
    pub fn rtt(&self) -> &Rtt {
        self.sender.rtt()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.env.stats
    }

    /// Lets a test begin near the end of the numbers.
    #[cfg(test)]
    fn start_at(&mut self, send: Sn, offset: u32, recv: Sn) {
        self.sender.start_at(send, offset);
        self.receiver.start_at(recv);
    }
}

/// A segment's header, its data, and what follows.
type Split<'d> = (Header, &'d [u8], &'d [u8]);

impl Origin {
    /// The number of the datagram, if it is a native one.
    fn number(self) -> Option<Ts> {
        match self {
            Self::Numbered(number) => Some(Ts(number)),
            Self::Wire | Self::Rebuilt => None,
        }
    }
}

/// What the acknowledgements of one datagram tell.
#[derive(Clone, Copy)]
struct Acked {
    /// The round trip of the last one.
    round_trip: Option<Duration>,
    /// Of the segments that have arrived, the one sent last.
    newest: Delivered,
}
