//! A look at a broker while it works: its sessions and patterns, a page at a time.
//!
//! A page takes no more than its share of the thread that serves, however many sessions there are. What comes and goes
//! between two pages may or may not be seen; what is there from the first to the last is.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::event::SessionId;
use super::kept::Cursor;
use super::peer::Peer;
use super::session::Session;
use super::sessions::Sessions;
use super::table::Slot;
use crate::frame::{Frame, Limits};
use crate::hello::CloseReason;
use crate::kcp;
use crate::router::Place;
use crate::time::{Duration, Instant};

/// A part of a whole, and where the rest of it begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page<T, C> {
    /// What was found. It may be empty although there is more.
    pub items: Vec<T>,
    /// Where to go on; `None` if that was all.
    pub next: Option<C>,
}

/// Where to go on among the sessions of a broker; the first by [`Default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCursor(usize);

/// Where to go on among the patterns of a broker; the first by [`Default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatternCursor(Place);

/// A session as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionView<P> {
    /// Which.
    pub id: SessionId,
    /// From where.
    pub peer: P,
    /// What kind of client it has. One that was opened just now counts as an original one until it says HELLO.
    pub kind: ClientKind,
    /// What its client calls itself in HELLO, up to 255 bytes: anything it likes.
    pub client: Option<Arc<str>>,
    /// The name of the identity that it has, if that is known and of interest.
    pub identity: Option<Arc<str>>,
    /// By what it is known in native datagrams (PROTOCOL.md 1.5). Whoever shows it in the clear is taken for its client:
    /// not for everybody's eyes.
    pub native_id: Option<u64>,
    /// Nothing has shown yet that it is where it says it is.
    pub half_open: bool,
    /// Why it is about to end, if it is.
    pub closing: Option<CloseReason>,
    /// Time since it was opened.
    pub age: Duration,
    /// Time since it was last heard.
    pub silent: Duration,
    /// The smoothed round trip (SRTT, RFC 6298); `None` before the first sample.
    pub round_trip: Option<Duration>,
    /// How much it varies (RTTVAR).
    pub round_trip_variation: Duration,
    /// The longest datagram that the path is known to carry, in bytes of UDP payload; for an original client that which it
    /// is sent at most.
    pub path_mtu: usize,
    /// Bytes that wait for it.
    pub queued: usize,
    /// Bytes that were sent, or are about to be, and are not acknowledged.
    pub unacked: usize,
    /// It is not read at present, because somebody it publishes to is behind.
    pub throttled: bool,
    /// Bytes of memory that what has come of it takes as long as it waits: parts of frames, for example.
    pub received: u64,
    /// Its window is closed until there is memory for more of that.
    pub waits_for_memory: bool,
    /// Patterns that it has.
    pub subscriptions: usize,
    /// Messages each way.
    pub messages: SessionStats,
    /// The engine's counters.
    pub transport: kcp::Stats,
}

impl<P> SessionView<P> {
    /// The same, with another way to say from where.
    pub fn map_peer<Q>(self, map: impl FnOnce(P) -> Q) -> SessionView<Q> {
        let Self { id, peer, kind, client, identity, native_id, half_open, closing, age, silent, .. } = self;
        let Self { round_trip, round_trip_variation, path_mtu, queued, unacked, throttled, .. } = self;
        let Self { received, waits_for_memory, subscriptions, messages, transport, .. } = self;
        SessionView {
            id,
            peer: map(peer),
            kind,
            client,
            identity,
            native_id,
            half_open,
            closing,
            age,
            silent,
            round_trip,
            round_trip_variation,
            path_mtu,
            queued,
            unacked,
            throttled,
            received,
            waits_for_memory,
            subscriptions,
            messages,
            transport,
        }
    }
}

/// What kind of client a session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientKind {
    /// It said HELLO.
    Native,
    /// The same, in sealed datagrams (PROTOCOL.md 10).
    Sealed,
    /// A client of the original.
    Original,
    /// The same, with the key of the original's cipher.
    OriginalWithKey,
    /// It came over a WebSocket (PROTOCOL.md 11).
    WebSocket,
}

impl ClientKind {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Native, Self::Sealed, Self::Original, Self::OriginalWithKey, Self::WebSocket];
}

impl ClientKind {
    /// A word for it, as programs may tell it apart.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Sealed => "sealed",
            Self::Original => "original",
            Self::OriginalWithKey => "original_with_key",
            Self::WebSocket => "websocket",
        }
    }
}

/// What a session has sent and was to get, from its opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Messages received from it.
    pub messages_in: u64,
    /// Bytes of these messages' frames.
    pub bytes_in: u64,
    /// Of these messages those refused: invalid subject.
    pub refused: u64,
    /// Those dropped because it may not publish to that subject.
    pub denied: u64,
    /// Those dropped because it has sent more bytes in a second than it may.
    pub excess: u64,
    /// Those that nobody had subscribed to.
    pub unrouted: u64,
    /// Messages queued for it.
    pub messages_out: u64,
    /// Bytes of these messages' frames.
    pub bytes_out: u64,
    /// Messages dropped: its queue was full.
    pub dropped_slow: u64,
    /// Messages dropped: larger than it accepts.
    pub dropped_too_large: u64,
    /// Messages dropped: all queues together were full.
    pub dropped_memory: u64,
    /// Messages dropped that had been queued: it took nothing, and gave way to others.
    pub dropped_stuck: u64,
    /// Messages dropped: their time to live was over before they could be sent.
    pub expired: u64,
    /// Messages replaced in its queue by a newer one of their subject.
    pub superseded: u64,
    /// Messages that it may not have although its patterns match.
    pub withheld: u64,
    /// Times that it had to wait for others because it asked for more than its share of the thread's time.
    pub turn_waits: u64,
}

/// A pattern, how many have it, and how much it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PatternView {
    /// The pattern.
    pub pattern: Box<str>,
    /// Sessions of this broker that have it; none if those of other shards have.
    pub subscribers: usize,
    /// Messages of this broker's sessions that it has matched since it was first subscribed to, modulo 2^32: for rates.
    pub messages: u32,
}

/// Where to go on among the last values of subjects; the first by [`Default`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptCursor(Cursor);

/// The last value of a subject at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptView {
    /// The subject. What only original clients allow in one shows as characters of Unicode's private use area.
    pub subject: Box<str>,
    /// The message, as a frame for [`Broker::restore`](super::Broker::restore).
    pub frame: Bytes,
    /// For how long it has been kept.
    pub age: Duration,
    /// For how long it is still worth something, if not always.
    pub left: Option<Duration>,
}

impl KeptView {
    /// The message itself.
    pub fn payload(&self) -> &[u8] {
        let frame = Frame::parse(&self.frame, &Limits::NONE).ok();
        frame.and_then(|frame| Some(frame.message()?.0)).unwrap_or_default()
    }
}

impl<P: Peer> Sessions<P> {
    /// A page of sessions: those in the next `slots` places. What their engines have counted goes into the total.
    pub(super) fn view(&mut self, from: SessionCursor, slots: usize) -> Page<SessionView<P>, SessionCursor> {
        let Self { cx, table, .. } = self;
        let end = from.0.saturating_add(slots.max(1)).min(table.places());
        let mut items = Vec::with_capacity(end.saturating_sub(from.0));
        for index in from.0..end {
            if let Some(slot) = table.get_mut(index as u32) {
                slot.session.count(&mut cx.transport);
                items.push(view(slot, cx.now, cx.headroom > 0));
            }
        }
        Page { items, next: (end < table.places()).then_some(SessionCursor(end)) }
    }

    /// A page of last values, the next `places`.
    pub(super) fn view_kept(&self, from: &KeptCursor, places: usize) -> Page<KeptView, KeptCursor> {
        let now = self.cx.now;
        let mut rest = self.hub.kept.from(&from.0);
        let items: Vec<_> = rest
            .by_ref()
            .take(places.max(1))
            .map(|(subject, value)| KeptView {
                subject: subject.into(),
                frame: value.frame.clone(),
                age: value.age(now),
                left: value.expires.map(|at| at.since(now)),
            })
            .collect();
        let next = rest.next().and_then(|_| items.last()).map(|last| KeptCursor(Cursor::behind(&last.subject)));
        Page { items, next }
    }

    /// A page of patterns, out of `places` places.
    pub(super) fn view_patterns(&self, from: PatternCursor, places: usize) -> Page<PatternView, PatternCursor> {
        let mut items = Vec::new();
        let next = self.hub.visit(from.0, places.max(1), |pattern, subscribers, messages| {
            items.push(PatternView { pattern: pattern.into(), subscribers, messages });
        });
        Page { items, next: next.map(PatternCursor) }
    }
}

fn view<P: Peer>(slot: &Slot<P, Session>, now: Instant, has_key: bool) -> SessionView<P> {
    let session = &slot.session;
    let member = session.as_member();
    let flow = session.flow();
    SessionView {
        id: slot.id,
        peer: slot.peer,
        kind: session.kind(has_key),
        client: member.client.clone(),
        identity: session.pass().and_then(|pass| pass.name().cloned()),
        native_id: slot.name(),
        half_open: session.is_half_open(),
        closing: session.closes_because(),
        age: now.since(member.opened),
        silent: now.since(session.last_heard()),
        round_trip: flow.round_trip,
        round_trip_variation: flow.round_trip_variation,
        path_mtu: flow.path_mtu,
        queued: flow.queued,
        unacked: flow.unacked,
        throttled: member.throttle.holds(),
        received: member.share.held(),
        waits_for_memory: member.share.waits(),
        subscriptions: member.subscriptions(),
        messages: member.outlet.counts,
        transport: *session.stats(),
    }
}
