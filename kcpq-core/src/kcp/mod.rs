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
#[cfg(feature = "alloc")]
mod path;
mod probe;
mod receiver;
mod recovery;
mod redundancy;
#[cfg(feature = "fec")]
mod repair;
mod rhythm;
mod rtt;
mod segment;
mod sender;
mod seq;
mod stats;
#[cfg(all(test, feature = "alloc"))]
mod tests;

#[cfg(feature = "fec")]
use alloc::boxed::Box;
#[cfg(feature = "alloc")]
use alloc::collections::VecDeque;
use core::fmt;

pub use config::{Config, CongestionControl, Mode};
pub use receiver::Ack;
pub use rtt::Rtt;
pub use segment::{Command, HEADER, Header, Malformed};
pub use sender::{SendError, Sent};
pub use seq::{Sn, Ts};
pub use stats::Stats;

use self::probe::Probe;
use self::receiver::Receiver;
use self::sender::Sender;
#[cfg(feature = "alloc")]
use crate::store::{Heap, HeapRx, HeapTx};
use crate::store::{Store, TooLarge};
use crate::time::{Deadline, Duration, Instant, Why};

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
    /// Rebuilt from parity: its window is old and its echoes say nothing about the round trip (PROTOCOL.md 2.4).
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
    config: Config,
    sender: Sender<S>,
    receiver: Receiver<S>,
    probe: Probe,
    /// Microcontrollers send what every path carries.
    #[cfg(feature = "alloc")]
    path: path::Path,
    last_heard: Option<Instant>,
    /// The peer acknowledges less than it did before.
    forgotten: bool,
    /// Makes parity, if the peer can use some.
    #[cfg(feature = "fec")]
    encoder: Option<repair::Encoder>,
    /// Made when the first parity comes.
    #[cfg(feature = "fec")]
    decoder: Option<Box<repair::Decoder>>,
    stats: Stats,
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
        let config = config.clamped();
        Self {
            conv,
            config,
            sender: Sender::new(&config, parts.tx, parts.sent, parts.ends),
            receiver: Receiver::new(parts.rx, parts.acks),
            probe: Probe::default(),
            #[cfg(feature = "alloc")]
            path: path::Path::default(),
            last_heard: None,
            forgotten: false,
            #[cfg(feature = "fec")]
            encoder: None,
            #[cfg(feature = "fec")]
            decoder: None,
            stats: Stats::default(),
        }
    }

    /// Begins another conversation in the same memory. What was queued is forgotten; the counters go on.
    pub fn reset(&mut self, conv: u32) {
        self.conv = conv;
        self.sender.reset(&self.config);
        self.receiver.reset();
        self.probe = Probe::default();
        #[cfg(feature = "alloc")]
        {
            self.path = path::Path::default();
        }
        self.last_heard = None;
        self.forgotten = false;
        #[cfg(feature = "fec")]
        {
            self.encoder = None;
            self.decoder = None;
        }
    }

    /// Says that both ends know parity segments ([`Command::Parity`]). For stream mode.
    #[cfg(feature = "fec")]
    pub fn use_parity(&mut self) {
        self.encoder.get_or_insert_with(repair::Encoder::new);
        self.sender.reserve(repair::OVERHEAD);
    }

    /// Changes how long datagrams may be, from the next new segment on. Segments in flight keep their length, so a
    /// smaller value is for before the first `send`.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.config.mtu = mtu.max(Config::MIN_MTU);
    }

    /// Looks for longer datagrams than those of the present MTU that the path carries, up to `most` bytes; the MTU grows
    /// with what is found. `overhead` bytes of a datagram lie around its segments. The other end has to know
    /// [`Command::Probe`].
    #[cfg(feature = "alloc")]
    pub fn search_mtu(&mut self, most: u16, overhead: u16) {
        self.path.search(most, overhead);
    }

    /// Chooses another congestion control, which starts without knowledge.
    pub fn set_congestion(&mut self, congestion: CongestionControl) {
        if self.config.congestion != congestion {
            self.config.congestion = congestion;
            self.sender.set_congestion(&self.config);
        }
    }

    /// Changes the least retransmission timeout, and by how much it is longer than the round trip at least; they count from
    /// the next sample of the round trip on.
    pub fn set_patience(&mut self, least: Duration, margin: Duration) {
        self.config.min_rto = least.min(Config::MAX_RTO);
        self.config.rto_margin = margin.min(Config::MAX_RTO);
    }

    /// The peer acknowledges when its clock ticks, and not at once: `tick` apart, until its acknowledgements have shown how
    /// often that is.
    pub fn expect_ticks(&mut self, tick: Duration) {
        self.sender.rhythm.expect(tick);
    }

    /// Queues bytes of the stream, or in message mode one message; all or nothing.
    ///
    /// # Errors
    /// [`SendError`]: nothing was queued.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.sender.send(&self.config, bytes)
    }

    /// The outgoing stream, to append to it in stream mode without a copy.
    pub fn stream(&mut self) -> &mut S::Tx {
        self.sender.tx()
    }

    /// Offers the bytes that have arrived in order to `sink`, which returns how many it took; ends when it takes none
    /// or there are no more. True if anything was taken. For stream mode.
    pub fn recv(&mut self, now: Instant, mut sink: impl FnMut(&[u8]) -> usize) -> bool {
        self.receiver.recv(now, &self.config, &mut sink)
    }

    /// The next bytes that have arrived in order, up to the end of one segment; they stay until
    /// [`consume`](Self::consume) takes them.
    pub fn front(&self) -> Option<&[u8]> {
        self.receiver.front()
    }

    /// Takes `count` bytes of what [`front`](Self::front) shows; of an empty segment, 0.
    pub fn consume(&mut self, now: Instant, count: usize) {
        self.receiver.consume(now, &self.config, count);
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
        self.receiver.recv_message(now, &self.config, out);
        Ok(Some(len))
    }

    /// Takes in the segments of one datagram. In stream mode, bytes that are in order and ahead of which nothing waits
    /// go straight from the datagram to `sink`, which returns how many it took; what it leaves is kept for
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
        let mut newest = None;
        let mut sample = None;
        let mut rest = segments;
        let mut first = true;
        let result = loop {
            if !first && rest.len() < HEADER {
                break Ok(()); // trailing bytes are ignored, as in the original
            }
            let (header, data, behind) = match Header::split(rest, self.conv) {
                Ok(parts) => parts,
                Err(error) => break Err(error),
            };
            if first {
                first = false;
                self.last_heard = Some(self.last_heard.map_or(now, |at| at.max(now)));
                self.stats.datagrams_received += 1;
            }
            rest = behind;
            if origin == Origin::Wire {
                self.sender.set_remote_window(header.wnd);
            }
            if header.command == Command::Ack {
                // Before `una` is applied, which may cover the very segment whose echo this is.
                if let Some(delivered) = self.sender.on_ack(now, header.sn, header.ts, &mut self.stats) {
                    sample = Some(delivered.rtt());
                    self.forgotten |= delivered.is_exact() && self.sender.has_fallen_back(header.una, &delivered);
                    newest = Some(delivered.later(newest));
                }
            }
            self.sender.on_una(now, header.una);
            match header.command {
                Command::Push => {
                    if self.receiver.on_push(now, &self.config, &header, data, &mut sink, &mut self.stats) {
                        self.rebuild(now, header, Some(data), &mut sink);
                    }
                }
                Command::Parity if self.has_parity() => self.on_parity(now, header, data, &mut sink),
                Command::Parity => break Err(Malformed::Command { actual: header.command as u8 }),
                #[cfg(feature = "alloc")]
                Command::Probe if self.path.is_known() => self.path.on_probe(now, header.sn),
                #[cfg(feature = "alloc")]
                Command::ProbeAck if self.path.is_known() => {
                    if let Some(mtu) = self.path.on_answer(self.config.mtu, header.sn) {
                        self.set_mtu(mtu);
                    }
                }
                Command::Probe | Command::ProbeAck => {
                    break Err(Malformed::Command { actual: header.command as u8 });
                }
                Command::AskWindow => self.receiver.on_ask(now),
                Command::Ack | Command::TellWindow => {}
            }
        };
        if let Some(sample) = sample.filter(|_| origin == Origin::Wire) {
            let margin = self.config.rto_margin.max(self.sender.rhythm.margin());
            self.sender.rtt.sample(sample, margin, self.config.min_rto, Config::MAX_RTO);
        }
        if let Some(delivered) = newest {
            self.sender.on_delivered(now, &self.config, delivered, &mut self.stats);
        }
        if result.is_err() {
            self.stats.malformed += 1;
        }
        result
    }

    /// Takes in parity.
    fn on_parity(&mut self, now: Instant, header: Header, body: &[u8], sink: &mut impl FnMut(&[u8]) -> usize) {
        #[cfg(feature = "fec")]
        {
            let decoder = self.decoder.get_or_insert_with(|| Box::new(repair::Decoder::new()));
            if decoder.on_parity(&header, body, |sn| self.receiver.has(sn)) {
                self.rebuild(now, header, None, sink);
            }
        }
        #[cfg(not(feature = "fec"))]
        let _ = (now, header, body, sink);
    }

    /// Lets the decoder know segment `header`, if `data` came, and takes in what can be rebuilt.
    fn rebuild(&mut self, now: Instant, header: Header, data: Option<&[u8]>, sink: &mut impl FnMut(&[u8]) -> usize) {
        #[cfg(feature = "fec")]
        {
            let Some(decoder) = &mut self.decoder else { return };
            if let Some(data) = data {
                decoder.on_segment(header.sn, data);
                if decoder.is_idle() {
                    self.decoder = None;
                    return;
                }
            }
            while let Some(rebuilt) = decoder.poll() {
                let Some(data) = rebuilt.data() else {
                    self.stats.malformed += 1;
                    continue;
                };
                let header = Header { command: Command::Push, frg: 0, sn: rebuilt.sn, ts: rebuilt.ts, ..header };
                if self.receiver.on_push(now, &self.config, &header, data, sink, &mut self.stats) {
                    self.stats.rebuilt += 1;
                    decoder.on_segment(rebuilt.sn, data);
                }
            }
        }
        #[cfg(not(feature = "fec"))]
        let _ = (now, header, data, sink);
    }

    /// Writes a parity to the front of `out` if one is due, or may ride along with something new.
    #[cfg(feature = "fec")]
    fn write_parity(&mut self, now: Instant, template: Header, out: &mut [u8], rides: bool) -> Option<usize> {
        let encoder = self.encoder.as_mut().filter(|_| self.sender.takes_parity(now, rides))?;
        let fresh = out.len() >= usize::from(self.config.mtu);
        let header = Header { command: Command::Parity, ts: sender::now_ts(now), ..template };
        let written = self.sender.write_parity(encoder, header, out);
        self.stats.repairs_sent += u64::from(written.is_some());
        // Without room it goes in the next datagram.
        if written.is_some() || fresh {
            self.sender.parity_done(now, written.is_some());
        }
        written
    }

    /// True if both ends know parity, and segments of the present size are worth it.
    fn has_parity(&self) -> bool {
        #[cfg(feature = "fec")]
        return self.encoder.is_some()
            && self.config.mode == Mode::Stream
            && usize::from(self.config.mtu) <= repair::LONGEST;
        #[cfg(not(feature = "fec"))]
        false
    }

    /// Writes a PROBE, which is longer than the MTU, to the front of `out`, if one is due and fits.
    #[cfg(feature = "alloc")]
    fn write_probe(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let round_trip = self.sender.rtt.smoothed().unwrap_or(Duration::ZERO);
        let len = self.path.poll(now, self.config.mtu, out.len(), round_trip)?;
        let datagram = out.get_mut(..usize::from(len))?;
        let header = Header {
            conv: self.conv,
            command: Command::Probe,
            frg: 0,
            wnd: self.receiver.window(&self.config),
            ts: sender::now_ts(now),
            sn: Sn(len.into()),
            una: self.receiver.next(),
            len: u32::from(len) - HEADER as u32,
        };
        datagram.fill(0);
        datagram[..HEADER].copy_from_slice(&header.to_bytes());
        self.stats.path_probes += 1;
        Some(datagram.len())
    }

    /// Writes the next datagram's segments to the front of `out` and returns their length, at most
    /// [`Config::mtu`]; `None` when nothing is due. What is due follows from `now`: there is no separate call for
    /// timeouts. When there is nothing else a longer datagram may ask whether the path carries it, if `out` has room.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let len = self.write_datagram(now, out);
        #[cfg(feature = "alloc")]
        let len = len.or_else(|| self.write_probe(now, out));
        self.stats.datagrams_sent += u64::from(len.is_some());
        len
    }

    /// Writes the segments that are due.
    fn write_datagram(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let limit = out.len().min(usize::from(self.config.mtu));
        let (out, _) = out.split_at_mut_checked(limit)?;
        self.sender.on_time(now, &self.config, &mut self.stats);
        let template = Header {
            conv: self.conv,
            command: Command::Ack,
            frg: 0,
            wnd: self.receiver.window(&self.config),
            ts: Ts(0),
            sn: Sn(0),
            una: self.receiver.next(),
            len: 0,
        };
        let mut at = self.receiver.write_acks(now, template, out, false);
        let waiting = self.sender.unsent() > 0 && self.sender.remote_window() == 0;
        // Without room the question is not asked yet, so that its timer does not run on: it goes in the next datagram.
        if out.len() - at >= HEADER && self.probe.ask(now, waiting, &self.config) {
            put(out, &mut at, template, Command::AskWindow);
            self.stats.window_probes += 1;
        }
        if self.receiver.tell_due().is_some_and(|due| due <= now)
            && out.len() - at >= HEADER
            && self.receiver.take_tell(now)
        {
            put(out, &mut at, template, Command::TellWindow);
        }
        #[cfg(feature = "alloc")]
        if out.len() - at >= HEADER
            && let Some(sn) = self.path.take_answer()
        {
            put(out, &mut at, Header { sn, ..template }, Command::ProbeAck);
        }
        let before_data = at;
        loop {
            let fresh = at == 0;
            let Some(room) = out.get_mut(at..) else { break };
            let Some(len) = self.sender.next_segment(now, &self.config, template, room, fresh, &mut self.stats) else {
                break;
            };
            at += len;
        }
        let rides = at > before_data;
        while let Some(room) = out.get_mut(at..)
            && let Some(len) = self.sender.write_copy(now, template, room, rides, &mut self.stats)
        {
            at += len;
        }
        #[cfg(feature = "fec")]
        if let Some(room) = out.get_mut(at..)
            && let Some(len) = self.write_parity(now, template, room, rides)
        {
            at += len;
        }
        if self.sender.unsent() == 0 {
            self.sender.end_burst(now, &self.config, self.has_parity());
        }
        if at > before_data && at < out.len() {
            // Acknowledgements that still wait for company have found it.
            at += self.receiver.write_acks(now, template, out.get_mut(at..).unwrap_or_default(), true);
        }
        (at > 0).then_some(at)
    }

    /// When [`poll_transmit`](Self::poll_transmit) will next have something that it has not now, and why.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let mut next = Deadline { at: Instant::MAX, why: Why::AckDelay };
        next.hasten(&self.receiver.ack_due(), Why::AckDelay);
        next.hasten(&self.sender.next_timeout(), Why::Retransmit);
        next.hasten(&self.sender.pace_at(), Why::Pacing);
        next.hasten(&self.receiver.tell_due(), Why::WindowTell);
        next.hasten(&self.probe.due(), Why::WindowProbe);
        #[cfg(feature = "alloc")]
        next.hasten(&self.path.due(), Why::PathProbe);
        (next.at < Instant::MAX).then_some(next)
    }

    /// The conversation's number.
    pub fn conv(&self) -> u32 {
        self.conv
    }

    /// The parameters in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Most data bytes in one segment.
    pub fn mss(&self) -> usize {
        self.sender.mss(&self.config)
    }

    /// Bytes queued and not yet sent for the first time.
    pub fn unsent(&self) -> usize {
        self.sender.unsent()
    }

    /// Bytes queued and not yet acknowledged.
    pub fn unacked(&self) -> usize {
        self.sender.unacked()
    }

    /// Where in the outgoing stream the first byte not yet acknowledged lies; wraps at 2^32.
    pub fn acked_offset(&self) -> u32 {
        self.sender.acked_offset()
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

    /// Since when nothing was acknowledged although something is in flight: a dead link, by time.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.sender.stalled_since()
    }

    /// Round-trip time and retransmission timeout.
    pub fn rtt(&self) -> &Rtt {
        &self.sender.rtt
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Lets a test begin near the end of the numbers.
    #[cfg(all(test, feature = "alloc"))]
    fn start_at(&mut self, send: Sn, offset: u32, recv: Sn) {
        self.sender.start_at(send, offset);
        self.receiver.start_at(recv);
    }
}

/// Appends a segment without data, if there is room.
fn put(out: &mut [u8], at: &mut usize, template: Header, command: Command) -> bool {
    let Some(place) = out.get_mut(*at..*at + HEADER) else { return false };
    place.copy_from_slice(&Header { command, ..template }.to_bytes());
    *at += HEADER;
    true
}
