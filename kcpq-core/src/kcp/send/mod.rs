//! The sending half: the stream, how it is cut into segments, and when these go out.
//!
//! | part | what it decides |
//! |---|---|
//! | `streams` | which lane's turn it is |
//! | `latest` | what is not sent again because a newer message has superseded it |
//! | `in_flight` | nothing: what was sent and is not acknowledged |
//! | `loss` | which of that is lost |
//! | `black_hole` | whether only what is long gets lost |
//! | `pieces` | how what has become too long for its path goes out |
//! | `redundancy` | what is sent before anything is known to be lost |
//! | `ack_delay` | how long the peer collects acknowledgements |
//! | `messages` | where messages end, in message mode |

mod ack_delay;
#[cfg_attr(not(feature = "mtud"), path = "../absent/black_hole.rs")]
mod black_hole;
mod in_flight;
#[cfg(feature = "lanes")]
mod latest;
mod loss;
#[cfg_attr(not(feature = "kcp-modes"), path = "../absent/messages.rs")]
mod messages;
#[cfg_attr(not(feature = "pieces"), path = "../absent/send_pieces.rs")]
mod pieces;
#[cfg_attr(not(feature = "redundancy"), path = "../absent/redundancy.rs")]
mod redundancy;
#[cfg_attr(not(feature = "lanes"), path = "../absent/streams.rs")]
mod streams;

use core::fmt;

pub use in_flight::Sent;
#[cfg(feature = "lanes")]
pub use latest::LatestMessage;

pub(super) use self::in_flight::{Delivered, InFlight};
pub(super) use self::streams::Streams;
#[cfg(feature = "lanes")]
pub(super) use self::streams::{LANE_HEAD, LATEST, LATEST_HEAD, VOID};

use self::ack_delay::AckDelay;
use self::black_hole::BlackHole;
use self::in_flight::{Acked, Lost, Slice};
use self::loss::LossDetection;
use self::messages::Messages;
use self::pieces::CutUp;
use self::redundancy::Redundancy;
use self::streams::Cut;
#[cfg(feature = "lanes")]
use super::LaneParts;
use super::config::{Config, Mode};
use super::congestion::{Congestion, Controller};
use super::env::Env;
use super::native;
use super::packet::Packet;
use super::repair;
use super::rtt::Rtt;
use super::segment::{Command, HEADER, Header, flags};
use super::seq::{Sn, Ts};
use super::timers::Timer;
use crate::lane::{Lane, Priority};
use crate::store::{Full, Store, TxStream};
use crate::time::{Duration, Instant};

/// Why [`Kcp::send`](super::Kcp::send) took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
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

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

pub(super) struct Sender<S: Store> {
    streams: Streams<S>,
    messages: Messages<S>,
    flight: InFlight<S>,
    encoder: repair::Encoder,
    state: State,
}

/// What is known of the peer and of the path to it, and how much was sent since there was nothing left to send.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The peer's advertised window, in segments.
    remote_window: u16,
    congestion: Congestion,
    rtt: Rtt,
    ack_delay: AckDelay,
    loss: LossDetection,
    black_hole: BlackHole,
    cut_up: CutUp,
    redundancy: Redundancy,
    /// Segments of the current burst: new ones sent since there was nothing left to send; and of the one before.
    burst: usize,
    last_burst: usize,
}

impl State {
    fn new(env: &Env) -> Self {
        Self {
            remote_window: Config::UNHEARD_WINDOW,
            congestion: Congestion::new(env.peer.congestion, env.mss() as u32),
            rtt: Rtt::new(),
            ack_delay: AckDelay::new(env.peer.ack_delay),
            loss: LossDetection::new(),
            black_hole: BlackHole::new(),
            cut_up: CutUp::new(),
            redundancy: Redundancy::new(),
            burst: 0,
            last_burst: 0,
        }
    }
}

impl<S: Store> Sender<S> {
    pub(super) fn new(env: &Env, tx: S::Tx, sent: S::Queue<Sent>, ends: S::Queue<u32>) -> Self {
        Self {
            streams: Streams::new(tx),
            messages: Messages::new(ends),
            flight: InFlight::new(sent),
            encoder: repair::Encoder::new(),
            state: State::new(env),
        }
    }

    /// Back to the state of a new conversation.
    pub(super) fn reset(&mut self, env: &Env) {
        self.streams.clear();
        self.messages.clear();
        self.flight.reset();
        self.encoder = repair::Encoder::new();
        self.state = State::new(env);
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        self.flight.check();
    }

    #[cfg(test)]
    pub(super) fn start_at(&mut self, sn: Sn, offset: u32) {
        self.flight.start_at(sn, offset);
    }

    /// Tells the congestion control how long segments are from now on.
    pub(super) fn follow_mss(&mut self, env: &Env) {
        self.state.congestion.set_mss(env.mss() as u32);
    }

    /// Begins with the congestion control that was agreed, which knows nothing yet.
    pub(super) fn reset_congestion(&mut self, env: &mut Env) {
        self.state.congestion = Congestion::new(env.peer.congestion, env.mss() as u32);
        env.timers.stop(Timer::Pacing);
    }

    /// The peer delays acknowledgements, by `delay` as long as nothing else is known; or not at all.
    pub(super) fn set_ack_delay(&mut self, delay: Duration) {
        self.state.ack_delay.set(delay);
    }

    pub(super) fn tx(&mut self) -> &mut S::Tx {
        self.streams.main()
    }

    /// The stream of a lane.
    pub(super) fn stream_of(&mut self, lane: Lane) -> Option<&mut S::Tx> {
        self.streams.of(lane, self.flight.una().plus(self.flight.len() as u32))
    }

    /// Memory for one more lane.
    #[cfg(feature = "lanes")]
    pub(super) fn lend_lane(&mut self, parts: LaneParts<S>) -> bool {
        self.streams.lend(parts)
    }

    /// The last `len` bytes of a lane's stream are a message of which only the latest counts; `key` is the hash of its subject.
    #[cfg(feature = "lanes")]
    pub(super) fn supersede(&mut self, lane: Lane, len: u16, key: u64) {
        self.streams.supersede(lane, len, key);
    }

    /// Bytes not yet cut into segments: of all lanes, and of one.
    pub(super) fn unsent(&self) -> usize {
        self.streams.unsent(self.flight.bytes())
    }

    pub(super) fn unsent_of(&self, lane: Lane) -> usize {
        self.streams.unsent_of(lane, self.flight.bytes())
    }

    /// Bytes not yet acknowledged, sent or not.
    pub(super) fn unacked(&self) -> usize {
        self.streams.len()
    }

    /// Offset of the first byte not yet acknowledged, wrapping: in the stream of a lane, and in all of them together.
    pub(super) fn acked_offset_of(&self, lane: Lane) -> u32 {
        if lane.is_main() { self.flight.una_offset() } else { self.streams.una_offset(lane) }
    }

    pub(super) fn acked_offset(&self) -> u32 {
        self.flight.una_offset().wrapping_add(self.streams.una_offsets())
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// Since when the oldest segment in flight waits for its acknowledgement, without the time in which the peer says that it
    /// has no room.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.flight.oldest_at()
    }

    pub(super) fn rtt(&self) -> &Rtt {
        &self.state.rtt
    }

    #[cfg(all(test, feature = "kcp-modes"))]
    pub(super) fn congestion_window(&self) -> u32 {
        self.state.congestion.window()
    }

    pub(super) fn remote_window(&self) -> u16 {
        self.state.remote_window
    }

    #[inline]
    pub(super) fn set_remote_window(&mut self, now: Instant, window: u16) {
        if window.min(self.state.remote_window) == 0 {
            self.on_closed_window(now, window);
        }
        self.state.remote_window = window;
    }

    /// The peer has no room, or has some again.
    #[cold]
    fn on_closed_window(&mut self, now: Instant, window: u16) {
        if window == 0 {
            self.flight.excuse(now);
        } else if self.flight.has_timed_out() {
            // What it has had no room for: its timers may have become long.
            self.flight.lose_oldest(window.into());
        }
    }

    /// Queues `bytes`: more of the stream, or one message.
    pub(super) fn send(&mut self, env: &Env, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.is_empty() {
            return Err(SendError::Empty);
        }
        if env.config.mode != Mode::Stream {
            return self.messages.send(self.streams.main(), self.flight.una_offset(), env.mss(), bytes);
        }
        self.streams.main().push(bytes).map_err(|Full| SendError::Full)
    }

    /// The number of the first segment that is not acknowledged.
    pub(super) fn una(&self) -> Sn {
        self.flight.una()
    }

    /// Segment `sn` has arrived; `ts` is the echo of when that copy was sent. `None` if that says nothing new.
    pub(super) fn on_ack(&mut self, env: &mut Env, sn: Sn, ts: Ts) -> Option<Delivered> {
        let Acked { news, delivered, echoed, least_age } = self.flight.ack(env, sn, ts);
        if echoed {
            env.proved = true;
        } else if !env.proved {
            return None;
        }
        if let Some(age) = least_age.filter(|age| self.state.rtt.smoothed().is_some_and(|smoothed| *age > smoothed)) {
            self.on_round_trip(env, age);
        }
        if let Some(arrival) = news {
            let state = &mut self.state;
            state.congestion.on_acked(env.now, arrival.len);
            state.loss.on_progress(env);
            state.loss.on_arrival(&arrival);
            state.black_hole.on_arrival(arrival.len, |len| env.fits(len));
            state.redundancy.sample(!arrival.first);
            if arrival.spurious {
                env.stats.spurious += 1;
                state.congestion.on_spurious();
            }
        }
        delivered
    }

    /// True if the peer cannot be the one that this conversation began with: `acked` was sent after the peer had told that
    /// everything before our `una` had arrived, and with its acknowledgement it tells less. A server that was started again
    /// acknowledges what falls into the window of its new, empty session (docs/original.md 4.3).
    pub(super) fn has_fallen_back(&self, una: Sn, acked: &Delivered) -> bool {
        acked.sample.snapshot.is_some() && una.before(self.flight.una()) && acked.sample.sent_at > self.flight.una_at()
    }

    /// Everything before `una` has arrived.
    pub(super) fn on_una(&mut self, env: &mut Env, una: Sn) {
        let Self { flight, streams, state, .. } = self;
        let arrived = |segment: &Sent| {
            state.congestion.on_acked(env.now, segment.len());
            state.black_hole.on_arrival(segment.len(), |len| env.fits(len));
            if !(segment.is_timed_out() && state.ack_delay.is_expected()) {
                state.redundancy.sample(segment.is_resent());
            }
        };
        let other = |segment: &Sent| streams.release(segment.tag(), segment.stream_len());
        let Some(bytes) = flight.release(env.now, una, arrived, other) else { return };
        self.streams.main().release(bytes);
        self.state.loss.on_progress(env);
        if self.flight.is_empty() {
            self.state.loss.on_empty(env);
        }
        self.state.congestion.on_progress(self.state.remote_window);
    }

    /// A datagram's sample of the round trip.
    pub(super) fn on_round_trip(&mut self, env: &Env, sample: Duration) {
        let margin = env.peer.rto_margin.max(self.state.ack_delay.rto_margin());
        self.state.rtt.sample(sample, margin, env.peer.min_rto, Config::MAX_RTO);
    }

    /// A datagram acknowledged `delivered`: what was sent before and is still missing has been overtaken.
    pub(super) fn on_delivered(&mut self, env: &mut Env, delivered: Delivered) {
        let tail = self.unsent() == 0;
        let Self { flight, state, .. } = self;
        let least = state.rtt.least().unwrap_or(Duration::ZERO);
        state.ack_delay.on_acknowledged(env.now, !flight.is_empty(), least);
        state.congestion.set_ack_delay(state.ack_delay.estimate());
        state.congestion.on_sample(env.now, &delivered.sample, flight.pipe());
        let lost = state.loss.on_delivered(env, flight, &state.rtt, delivered, tail);
        self.on_overtaken(env, lost);
    }

    /// Nothing is known of the path, and what is in flight is sent again.
    pub(super) fn on_new_path(&mut self, env: &mut Env) {
        self.state.rtt = Rtt::new();
        self.reset_congestion(env);
        self.flight.lose_oldest(self.flight.len());
    }

    /// Finds what is lost by the timers that are due.
    pub(super) fn on_time(&mut self, env: &mut Env) {
        if env.timers.is_due(Timer::Reordering, env.now) {
            let tail = self.unsent() == 0;
            let lost = self.state.loss.on_reordering_timer(env, &mut self.flight, &self.state.rtt, tail);
            self.on_overtaken(env, lost);
        }
        let Self { flight, state, .. } = self;
        if env.timers.is_due(Timer::Rto, env.now) {
            let lost = state.loss.on_rto(env, flight, &state.rtt, state.ack_delay.is_expected());
            if lost.segments > 0 {
                state.congestion.on_lost(lost.bytes, lost.longest);
                state.congestion.on_timeout();
                state.black_hole.on_lost(env.longest_of(lost.longest));
            }
        }
        if env.timers.is_due(Timer::OutageProbe, env.now) {
            let burst = state.last_burst.max(state.burst);
            let lost = state.loss.on_outage_probe(env, flight, &state.rtt, burst);
            state.congestion.on_lost(lost.bytes, lost.longest);
            state.black_hole.on_lost(env.longest_of(lost.longest));
        }
    }

    /// Segments were found lost by acknowledgements of later ones.
    fn on_overtaken(&mut self, env: &Env, lost: Lost) {
        if lost.segments > 0 {
            self.state.black_hole.on_lost(env.longest_of(lost.longest));
            self.state.congestion.on_lost(lost.bytes, lost.longest);
            self.state.congestion.on_fast_loss(self.flight.len() as u32, env.config.fast_resend);
        }
    }

    /// True if the path has room for more than has to be sent, as far as is known.
    pub(super) fn is_calm(&self, env: &Env) -> bool {
        self.state.congestion.is_calm(env.now)
    }

    /// True if it seems that only the longer segments get lost.
    pub(super) fn suspects_black_hole(&self) -> bool {
        self.state.black_hole.is_suspected()
    }

    /// Datagrams of the present length, which may be another than before, do arrive.
    pub(super) fn trust_path(&mut self, env: &Env) {
        self.state.black_hole = BlackHole::new();
        self.follow_mss(env);
    }

    /// The path carries less than before: what is in flight and longer does not arrive, and goes again in pieces. That is
    /// no sign of a full link.
    #[cold]
    pub(super) fn on_narrowed(&mut self, env: &Env) {
        self.trust_path(env);
        self.flight.timed_out(|segment| !env.fits(segment.len()));
    }

    /// How long the next datagram may be: as long as all, or as the segment that has become too long for its path, if it
    /// cannot go in pieces. It may be in luck, or its datagram be cut up by the network.
    #[inline]
    pub(super) fn mtu(&mut self, env: &Env) -> usize {
        if env.stats.narrowed == 0 { env.mtu.into() } else { self.mtu_narrowed(env) }
    }

    #[cold]
    fn mtu_narrowed(&mut self, env: &Env) -> usize {
        let mtu = usize::from(env.mtu);
        if env.pieces() {
            return mtu;
        }
        let len = self.flight.first_lost().and_then(|index| self.flight.slice(index)).map_or(0, |slice| slice.len);
        mtu.max(HEADER + usize::from(len))
    }

    /// Writes the next segment, a lost one or a new one. False when nothing may go, or nothing fits.
    pub(super) fn write_segment(&mut self, env: &mut Env, packet: &mut Packet<'_>) -> bool {
        self.try_write_segment(env, packet).is_some()
    }

    fn try_write_segment(&mut self, env: &mut Env, packet: &mut Packet<'_>) -> Option<()> {
        if self.state.cut_up.is_any()
            && let Some(written) = self.write_piece(env, packet)
        {
            return written.then_some(());
        }
        let room = packet.room()?;
        env.timers.stop(Timer::Pacing);
        let next = self.next(env);
        if (self.flight.has_lost()
            || next.is_some()
            || self.state.congestion.is_holding() && self.has_room(env, self.window(env)))
            && let Some(at) = self.state.congestion.release_at(env.now, self.flight.has_lost())
        {
            env.timers.start(Timer::Pacing, at);
            return None;
        }
        let (index, whole, patient) = match self.flight.next_lost(self.streams.are_several()) {
            Some(index) if !(next.is_some() && self.is_overtaken(index)) => {
                (index, self.goes_again(env, packet, index)?, false)
            }
            _ => (self.cut(env, next?, room, packet.len() == 0)?, true, self.is_patient(env)),
        };
        let Self { flight, streams, state, .. } = self;
        let slice = streams.or_void(flight.slice(index)?);
        if whole && usize::from(slice.len) > room {
            return None;
        }
        let snapshot = state.congestion.on_sent(env.now, slice.len, flight.pipe());
        let rto = state.rtt.rto() + if patient { native::PATIENCE } else { Duration::ZERO };
        let (again, rto) = flight.on_sent(env, index, rto, patient, snapshot)?;
        state.loss.on_sent(env, rto);
        if again {
            env.stats.retransmitted += 1;
        }
        if again && state.congestion.is_calm(env.now) {
            state.redundancy.on_resent(env, flight, &state.rtt, index);
        }
        if whole {
            return self.put(env, packet, Slice { frg: slice.frg | if patient { flags::PATIENT } else { 0 }, ..slice });
        }
        state.cut_up.begin(slice.sn);
        self.write_piece(env, packet)?.then_some(())
    }

    /// True if a new segment goes before the lost one, because its lane has a higher priority.
    fn is_overtaken(&self, index: usize) -> bool {
        let lost = self.flight.slice(index).filter(|_| self.streams.are_several());
        lost.is_some_and(|lost| self.streams.overtakes(self.flight.bytes(), lost.tag))
    }

    /// Whether the acknowledgement of a new segment may be late: of a thin flow on a clean path, where nothing is to be learnt
    /// by it.
    fn is_patient(&self, env: &mut Env) -> bool {
        let thin = self.unsent() == 0 && self.state.burst == 1 && self.state.redundancy.is_clean();
        env.numbers.as_mut().is_some_and(|numbers| numbers.is_patient(env.now, thin))
    }

    /// Whether the lost segment `index` may go in this datagram: true as it is, false in pieces.
    #[cold]
    fn goes_again(&self, env: &Env, packet: &mut Packet<'_>, index: usize) -> Option<bool> {
        let len = self.slice(index)?.len;
        if self.flight.is_resent(index) && !packet.takes_again(len) {
            return None;
        }
        Some(env.fits(len) || !env.pieces())
    }

    /// Where segment `index` lies, or what goes in its place.
    fn slice(&self, index: usize) -> Option<Slice> {
        self.flight.slice(index).map(|slice| self.streams.or_void(slice))
    }

    /// Writes a segment as it goes out now.
    fn put(&mut self, env: &mut Env, packet: &mut Packet<'_>, slice: Slice) -> Option<()> {
        let Slice { sn, frg, len, tag, .. } = slice;
        let (command, frg, ts, len) = (Command::Push, frg | tag.flags(), env.ts(), u32::from(len));
        let data = packet.push(Header { command, frg, ts, sn, len, ..packet.template() })?;
        self.streams.place(&slice, data);
        env.stats.segments_sent += 1;
        #[cfg(feature = "lanes")]
        {
            env.stats.voids_sent += u64::from(tag.is_void());
        }
        Some(())
    }

    /// True if congestion control bounds the rate because of others.
    #[inline]
    pub(super) fn is_bounded(&self) -> bool {
        self.state.congestion.is_bounded()
    }

    /// True if what `waits` elsewhere has to go on waiting, because the rate is bounded.
    pub(super) fn is_held(&mut self, env: &Env, waits: bool) -> bool {
        let unsent = self.unsent();
        self.state.congestion.hold(env.now, waits, unsent, self.flight.pipe())
    }

    /// Of whose data the next new segment is, if windows and memory have room for it.
    #[inline(always)] // into the one place that asks
    fn next(&self, env: &Env) -> Option<Cut> {
        let Self { streams, flight, .. } = self;
        let (cut, window) = streams.next(flight.bytes(), flight.len(), self.window(env))?;
        self.has_room(env, window).then_some(cut)
    }

    /// How many segments may be under way for the peer and our own memory.
    fn window(&self, env: &Env) -> u16 {
        env.config.send_window.min(self.state.remote_window)
    }

    /// True if congestion control and memory have room for another segment as well, where so many may be under way.
    #[inline]
    fn has_room(&self, env: &Env, window: u16) -> bool {
        let Self { streams, flight, state, .. } = self;
        let window = u32::from(window).min(state.congestion.window());
        flight.len() < window as usize
            && flight.has_room()
            && state.congestion.admits(flight.pipe())
            && (flight.is_empty()
                || state.congestion.is_rate_based()
                || flight.bytes() + streams.cut_of_others() < env.config.max_in_flight as usize)
    }

    /// Cuts the next segment off its stream, as the windows allow, and returns its index. `fresh`: it would be the first
    /// of its datagram.
    fn cut(&mut self, env: &mut Env, next: Cut, room: usize, fresh: bool) -> Option<usize> {
        let Cut { tag, unsent, offset } = next;
        let (index, mss) = (self.flight.len(), env.mss());
        let stream = env.config.mode == Mode::Stream;
        // A message that is longer than a segment goes as others do.
        let most = || Streams::<S>::longest(tag, if fresh { mss.min(room) } else { mss });
        let tag = if tag.is_whole() && unsent + tag.head() > most() { tag.ordinary() } else { tag };
        let (want, frg) = if stream {
            ((unsent + tag.head()).min(Streams::<S>::longest(tag, mss)), 0)
        } else {
            self.messages.next(self.flight.una_offset().wrapping_add(self.flight.bytes() as u32), mss)?
        };
        // Coalescing: the rest of a datagram is worth filling, but not with less than a quarter of an MSS. A datagram that is
        // shorter than others from the start may have no longer one behind it, as where the peer's address is not proved.
        let fill = stream && !tag.is_whole() && want > room && (fresh || room >= mss / 4);
        let len = if fill { room } else { want };
        if len > room || len <= tag.head() {
            return None;
        }
        let cut = self.flight.bytes();
        self.flight.push(env.now, len as u16, frg, tag, offset).ok()?;
        self.streams.on_cut(tag, len - tag.head(), cut);
        let state = &mut self.state;
        if index == 0 {
            state.loss.on_progress(env);
            state.ack_delay.on_begin(env.now);
        }
        if tag.priority() == Priority::Urgent {
            state.congestion.on_urgent(env.now);
        }
        state.burst += 1;
        state.redundancy.on_new(len);
        env.stats.bytes_sent += len as u64;
        if !stream {
            self.messages.on_cut(frg);
        }
        Some(index)
    }

    /// Writes the redundancy that is due, or `rides` along with something new.
    pub(super) fn write_redundancy(&mut self, env: &mut Env, packet: &mut Packet<'_>, rides: bool) {
        while self.write_copy(env, packet, rides).is_some() {}
        if self.state.redundancy.is_repair_due(env, rides) {
            // One that was planned before the peer said that it knows none is not made.
            let known = env.repairs();
            let whole = !known || packet.len() == 0 && packet.capacity() >= usize::from(env.mtu);
            let written = known && self.encoder.write(&self.flight, &mut self.streams, packet, env.ts());
            env.stats.repairs_sent += u64::from(written);
            // Without room it goes in the next datagram.
            if written || whole {
                self.state.redundancy.on_repair(env, written);
            }
        }
    }

    /// Writes a copy of a segment, with the clock of this moment, so that its echo tells which copy arrived.
    fn write_copy(&mut self, env: &mut Env, packet: &mut Packet<'_>, rides: bool) -> Option<()> {
        let index = self.state.redundancy.take_copy(env, &mut self.flight, packet.room()?, rides)?;
        env.stats.repairs_sent += 1;
        let slice = self.slice(index)?;
        self.put(env, packet, slice)
    }

    /// Ends the burst if all that was queued has been sent.
    pub(super) fn end_burst(&mut self, env: &mut Env) {
        if self.unsent() > 0 || self.state.congestion.is_holding() {
            return;
        }
        let Self { flight, state, .. } = self;
        let burst = core::mem::take(&mut state.burst);
        state.congestion.on_app_limited(flight.pipe());
        if burst > 0 {
            state.last_burst = burst;
            let room = state.congestion.is_calm(env.now);
            state.redundancy.plan(env, flight, &state.rtt, burst, room);
        }
    }
}
