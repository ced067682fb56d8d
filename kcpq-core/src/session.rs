//! What both ends of a session share: frames that wait, the engine, and the datagrams around it.
//!
//! ```text
//! control, outbox --frames--> engine --segments--> link --datagram-->
//! ```
//!
//! Frames wait outside of the engine until it is about to send them. So frames of the protocol overtake waiting
//! messages, the oldest message can still be dropped, and what waits survives a reconnect.

use core::fmt;

use crate::datagram::{Content, Framing, Link, SAFE_DATAGRAM, USUAL_DATAGRAM};
use crate::frame::{Frame, command};
use crate::hello::features;
use crate::kcp::{self, CongestionControl, Kcp, MtuSearch, Origin};
use crate::store::{Full, Outbox, PushError, Queue, Store};
use crate::time::{Deadline, Duration, Instant};

/// When which frames went into the stream.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mark {
    /// Where they end, in bytes of the stream, wrapping.
    end: u32,
    frames: u32,
    at: Instant,
}

/// The least retransmission timeout within a machine.
const LOCAL_MIN_RTO: Duration = Duration::from_millis(50);

/// An original peer acknowledges when its clock ticks: a server after this, and nobody knows before it is learned
/// (docs/original.md 3.4). The least timeout is its own (PROTOCOL.md 2.6).
const ORIGINAL_TICK: Duration = Duration::from_millis(20);
const ORIGINAL_MIN_RTO: Duration = Duration::from_millis(30);

/// What is known of a native peer.
pub(crate) struct Native {
    /// The longest datagram that both ends take, protection not counted. How much of that the path between machines
    /// carries is found out, or, if the peer does not help, taken to be what is usual.
    pub(crate) max_datagram: u16,
    /// Bytes that the protection puts around a datagram.
    pub(crate) overhead: u16,
    /// It runs on this machine.
    pub(crate) local: bool,
    /// See [`features`].
    pub(crate) features: u32,
}

/// The memory of one session.
pub struct Parts<S: Store> {
    /// The engine's.
    pub kcp: kcp::Parts<S>,
    /// Frames of the protocol itself (SUB, PING, ...): they go before messages.
    pub control: S::Outbox,
    /// Messages that wait.
    pub outbox: S::Outbox,
    /// One entry for each move from outbox to engine that is not yet acknowledged; the last entry takes what does not
    /// fit.
    pub marks: S::Queue<Mark>,
}

impl<S: Store> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Lets an engine take in a datagram and what it rebuilds. Apart from [`Session`], so that a sink may use the rest of it.
pub(crate) fn handle_datagram<S: Store>(
    kcp: &mut Kcp<S>,
    link: &mut Link,
    now: Instant,
    datagram: &[u8],
    content: Content<'_>,
    sink: &mut impl FnMut(&[u8]) -> usize,
) -> bool {
    let segments = match content {
        Content::Plain(segments) => Some(segments),
        Content::Fec(segments) => {
            link.learn(now, datagram);
            Some(segments)
        }
        Content::Parity => {
            link.learn(now, datagram);
            None
        }
    };
    // First the datagram's own segments, then those that it rebuilds.
    let mut understood =
        segments.is_none_or(|segments| kcp.handle_datagram(now, segments, Origin::Wire, &mut *sink).is_ok());
    while let Some(rebuilt) = link.poll_rebuilt() {
        understood &= kcp.handle_datagram(now, rebuilt, Origin::Rebuilt, &mut *sink).is_ok();
    }
    understood
}

/// One end of a session.
pub(crate) struct Session<S: Store> {
    pub(crate) kcp: Kcp<S>,
    pub(crate) link: Link,
    pub(crate) control: S::Outbox,
    pub(crate) outbox: S::Outbox,
    marks: S::Queue<Mark>,
    /// The end of what was moved into the stream, wrapping.
    moved_to: u32,
    /// Messages moved into the stream, in all.
    moved: u64,
    /// Messages whose last byte the peer has acknowledged, in all.
    acknowledged: u64,
    /// Messages that waited until their time was over, since that was asked for last.
    expired: u64,
    /// The peer understands PUBT.
    tells_ttl: bool,
    /// How long the last acknowledged messages were under way, if that has not been asked for yet.
    latency: Option<Duration>,
}

impl<S: Store> Session<S> {
    pub(crate) fn new(conv: u32, config: kcp::Config, link: Link, parts: Parts<S>) -> Self {
        let mut session = Self {
            kcp: Kcp::new(conv, config, parts.kcp),
            link,
            control: parts.control,
            outbox: parts.outbox,
            marks: parts.marks,
            moved_to: 0,
            moved: 0,
            acknowledged: 0,
            expired: 0,
            tells_ttl: false,
            latency: None,
        };
        session.fit_mtu();
        session
    }

    /// Begins anew with conversation `conv`. Messages that wait stay; those that were moved into the stream and are not
    /// acknowledged are given up, and their number is returned.
    pub(crate) fn reset(&mut self, conv: u32, framing: Framing) -> u64 {
        // A frame that has begun to go out cannot go on in another stream.
        self.moved += u64::from(self.outbox.drop_begun());
        let in_doubt = self.in_doubt();
        self.kcp.reset(conv);
        self.link = Link::new(framing, self.link.max_datagram());
        self.fit_mtu();
        self.control.clear();
        self.marks.clear();
        self.moved_to = 0;
        self.acknowledged = self.moved;
        self.latency = None;
        self.tells_ttl = false;
        in_doubt
    }

    /// Messages moved into the stream and not acknowledged.
    pub(crate) fn in_doubt(&self) -> u64 {
        self.moved - self.acknowledged
    }

    /// Messages moved into the stream, in all.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Changes how datagrams are framed, and the engine's share of them with it.
    pub(crate) fn set_framing(&mut self, framing: Framing, max_datagram: u16) {
        self.link.set(framing, max_datagram);
        self.fit_mtu();
    }

    /// The same with an original peer. With one on this machine (`local`) there is no link to share.
    pub(crate) fn set_original(&mut self, framing: Framing, max_datagram: u16, local: bool) {
        let mut peer = kcp::Peer::unknown(self.kcp.config());
        peer.min_rto = ORIGINAL_MIN_RTO;
        peer.ack_delay = ORIGINAL_TICK;
        if local {
            peer.congestion = CongestionControl::Off;
        }
        self.kcp.negotiated(peer);
        self.set_framing(framing, max_datagram);
    }

    /// The same with a native peer.
    pub(crate) fn set_native(&mut self, framing: Framing, native: &Native) {
        let Native { max_datagram, overhead, local, features } = *native;
        let plain = |feature| framing == Framing::Plain && features & features::SUPPORTED & feature != 0;
        let mut peer = kcp::Peer::unknown(self.kcp.config());
        peer.repairs = plain(features::REPAIR);
        let length = if local {
            // There is no link to share, and silence is a busy process.
            peer.congestion = CongestionControl::Off;
            peer.min_rto = LOCAL_MIN_RTO;
            max_datagram
        } else if plain(features::PROBES) {
            peer.mtu_search = Some(MtuSearch { longest: max_datagram, overhead });
            max_datagram.min(SAFE_DATAGRAM - overhead)
        } else {
            max_datagram.min(USUAL_DATAGRAM - overhead)
        };
        self.kcp.negotiated(peer);
        self.set_framing(framing, length);
        self.tells_ttl = features & features::TTL != 0;
    }

    fn fit_mtu(&mut self) {
        self.kcp.set_mtu(self.link.mtu());
    }

    /// Queues a frame of the protocol.
    pub(crate) fn control(&mut self, command: u8, subject: &[u8], payload: &[u8]) -> Result<(), Full> {
        let head = Frame::head(command, subject.len(), payload.len()).ok_or(Full)?;
        self.control.push(&[&head, subject, payload]).map_err(|_| Full)
    }

    /// Queues a message.
    pub(crate) fn message(&mut self, command: u8, subject: &[u8], payload: &[u8]) -> Result<(), PushError> {
        let head = Frame::head(command, subject.len(), payload.len()).ok_or(PushError::Full)?;
        self.outbox.push(&[&head, subject, payload])
    }

    /// Queues a PUB that is dropped if it has not been moved into the stream at `expires`.
    pub(crate) fn publish_until(&mut self, subject: &[u8], payload: &[u8], expires: Instant) -> Result<(), PushError> {
        let head = Frame::head(command::PUB, subject.len(), payload.len()).ok_or(PushError::Full)?;
        self.outbox.push_until(&[&head, subject, payload], expires)
    }

    /// Drops messages at the front of the queue whose time is over. True if there were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let expired = self.outbox.expire(now);
        self.expired += u64::from(expired);
        expired > 0
    }

    /// Messages that were dropped because their time was over, since the last call.
    pub(crate) fn take_expired(&mut self) -> u64 {
        core::mem::take(&mut self.expired)
    }

    /// Moves frames into the stream, as many as the next datagram needs.
    fn refill(&mut self, now: Instant) {
        let enough = self.kcp.mss();
        while self.kcp.unsent() < enough {
            let control_first = !self.outbox.mid_frame() && !self.control.is_empty();
            let from = if control_first { &mut self.control } else { &mut self.outbox };
            let Some(moved) = from.move_to(self.kcp.stream(), now, self.tells_ttl) else { return };
            self.expired += u64::from(moved.expired);
            self.moved_to = self.moved_to.wrapping_add(moved.bytes as u32);
            if !control_first {
                self.moved += u64::from(moved.frames);
                self.mark(now, moved.frames);
            }
        }
    }

    fn mark(&mut self, now: Instant, frames: u32) {
        if frames == 0 {
            return;
        }
        let mark = Mark { end: self.moved_to, frames, at: now };
        if self.marks.push(mark).is_ok() {
            return;
        }
        let last = self.marks.len().saturating_sub(1);
        if let Some(last) = self.marks.get_mut(last) {
            last.end = mark.end;
            last.frames += frames;
        }
    }

    /// Takes in a datagram; bytes in order go to `sink` (see [`Kcp::handle_datagram`]). False if part of it was not
    /// understood.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
        content: Content<'_>,
        mut sink: impl FnMut(&[u8]) -> usize,
    ) -> bool {
        let Self { kcp, link, .. } = self;
        handle_datagram(kcp, link, now, datagram, content, &mut sink)
    }

    /// To be called after the engine has taken in datagrams.
    pub(crate) fn after_input(&mut self, now: Instant) {
        let mtu = self.kcp.mtu();
        if mtu > self.link.mtu() {
            // The path carries more than was known. Only plain datagrams are asked about.
            self.link.set(Framing::Plain, mtu);
        }
        let acked = self.kcp.acked_offset();
        while let Some(mark) = self.marks.get(0).copied() {
            if (acked.wrapping_sub(mark.end) as i32) < 0 {
                return;
            }
            self.marks.pop();
            self.acknowledged += u64::from(mark.frames);
            self.latency = Some(now.since(mark.at));
        }
    }

    /// The latency of the messages acknowledged last, once.
    pub(crate) fn take_latency(&mut self) -> Option<Duration> {
        self.latency.take()
    }

    /// True when all that was queued has been acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.control.is_empty() && self.outbox.is_empty() && self.kcp.unacked() == 0
    }

    /// Writes the next datagram to the front of `out`.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        if let Some(len) = self.link.poll_parity(out) {
            return Some(len);
        }
        self.link.on_time(now);
        self.refill(now);
        let headroom = self.link.headroom();
        let len = self.kcp.poll_transmit(now, out.get_mut(headroom..)?)?;
        self.link.seal(now, out.get_mut(..headroom + len)?);
        Some(headroom + len)
    }

    /// Writes what is owed to a peer that has closed the session: a datagram of acknowledgements.
    pub(crate) fn last_words(&mut self, now: Instant, out: &mut [u8]) -> Option<usize> {
        let headroom = self.link.headroom();
        let len = self.kcp.poll_transmit(now, out.get_mut(headroom..)?)?;
        self.link.seal(now, out.get_mut(..headroom + len)?);
        Some(headroom + len)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Deadline> {
        Deadline::earlier(self.kcp.poll_timeout(), self.link.poll_timeout())
    }
}
