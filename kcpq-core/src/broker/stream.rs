//! Sessions over a stream that the driver carries: a WebSocket (PROTOCOL.md 11), on which nothing is lost, and which
//! has an end.
//!
//! ```text
//! driver --handle_stream--> arrived --frames--> dispatch
//! driver <--poll_stream-- under way <--frames-- queues
//! ```
//!
//! Both ways no more than a window is between the two: what the driver has not been told to be read, and what it has
//! not said to be sent. So a browser that reads slowly fills its queue here as any other slow subscriber does, and one
//! that writes more than it may is not read.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Broker;
use super::context::Context;
use super::event::{Ended, Event, SessionId};
use super::peer::Peer;
use super::session::Session;
use super::sessions::Sessions;
use super::table::Slot;
use crate::access::Credential;
use crate::datagram::Framing;
use crate::frame::{Frame, command};
use crate::hello::CloseReason;
use crate::store::{HeapTx, Room, TxStream};
use crate::time::{Duration, Instant};

/// Bytes that may be between a broker and who carries a session's stream, each way: a single frame may be longer.
pub const STREAM_WINDOW: usize = 256 << 10;
/// Frames are handed out together until there are so many bytes of them.
const TOGETHER: usize = 64 << 10;

/// What a broker has for who carries the stream of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// Whole frames, to be sent. What has become of them is told by
    /// [`Broker::on_stream_sent`](super::Broker::on_stream_sent).
    Frames(Bytes),
    /// So many more of the bytes that came have been read.
    Read(usize),
    /// The session is no more. What was handed out before is to be sent, and the stream to be ended.
    Ended,
}

/// What a session has in place of an engine.
#[derive(Debug)]
pub(super) struct Stream {
    /// What has come and was not read.
    arrived: Vec<u8>,
    /// Bytes that were read, and of which the driver has not been told.
    untold: usize,
    /// Bytes that were read, in all.
    read: u64,
    /// There is no memory for more than is there.
    closed: bool,
    /// What was handed out and not sent: bytes, and messages among them.
    under_way: VecDeque<(usize, u64)>,
    under_way_bytes: usize,
    /// Bytes that were sent, wrapping.
    sent: u32,
    /// Since when nothing of what is under way was sent.
    since: Option<Instant>,
}

impl Stream {
    fn new() -> Self {
        Self {
            arrived: Vec::new(),
            untold: 0,
            read: 0,
            closed: false,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            sent: 0,
            since: None,
        }
    }

    /// What waits to be read, to be read now; the rest comes back by [`put_back`](Self::put_back).
    pub(super) fn take_arrived(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.arrived)
    }

    /// So many of these bytes were read.
    pub(super) fn put_back(&mut self, mut bytes: Vec<u8>, read: usize) {
        self.read += read as u64;
        self.untold += read;
        bytes.drain(..read);
        if !bytes.is_empty() {
            self.arrived = bytes;
        }
    }

    /// Bytes of memory taken by what waits to be read.
    pub(super) fn held(&self) -> usize {
        self.arrived.capacity()
    }

    /// There may come so much more, or any.
    pub(super) fn set_room(&mut self, room: Option<Room>) {
        self.closed = room.is_some_and(|room| room.next == 0);
    }

    /// Bytes that were read, in all.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Bytes that were sent, in all, wrapping.
    pub(super) fn sent(&self) -> u32 {
        self.sent
    }

    /// Bytes that were handed out and not sent.
    pub(super) fn under_way(&self) -> usize {
        self.under_way_bytes
    }

    /// Messages among these.
    pub(super) fn in_doubt(&self) -> u64 {
        self.under_way.iter().map(|(_, messages)| messages).sum()
    }

    /// When it has got nowhere for so long.
    pub(super) fn stalls_at(&self, timeout: Duration) -> Option<Instant> {
        self.since.map(|since| since + timeout)
    }

    /// How many bytes may be handed out.
    pub(super) fn room(&self) -> usize {
        STREAM_WINDOW.saturating_sub(self.under_way_bytes).min(TOGETHER)
    }

    fn hand_out(&mut self, now: Instant, bytes: usize, messages: u64) {
        self.under_way.push_back((bytes, messages));
        self.under_way_bytes += bytes;
        self.since.get_or_insert(now);
    }

    /// So many bytes, the oldest, were sent.
    fn on_sent(&mut self, now: Instant, bytes: usize) {
        let mut bytes = bytes.min(self.under_way_bytes);
        self.under_way_bytes -= bytes;
        self.sent = self.sent.wrapping_add(bytes as u32);
        self.since = (self.under_way_bytes > 0).then_some(now);
        while let Some((front, _)) = self.under_way.front_mut() {
            if *front > bytes {
                *front -= bytes;
                return;
            }
            bytes -= *front;
            self.under_way.pop_front();
        }
    }

    /// What was read and may be told.
    fn take_read(&mut self) -> Option<usize> {
        (self.untold > 0 && !self.closed).then(|| core::mem::take(&mut self.untold))
    }
}

impl Session {
    /// Its frames come and go in a stream of the driver's. Nobody can forge where that comes from.
    fn begin_stream(&mut self) {
        self.begin_proved();
        self.member().stream = Some(Box::new(Stream::new()));
        self.set_stream_dialect(false);
    }

    /// Hands out what there is for its stream, if it has one, as far as there is room.
    pub(super) fn poll_stream<P>(&mut self, cx: &mut Context<P>) -> Option<StreamEvent> {
        let now = cx.now;
        let stream = self.member().stream.as_mut()?;
        if let Some(read) = stream.take_read() {
            return Some(StreamEvent::Read(read));
        }
        let (mut frames, room) = (HeapTx::default(), stream.room());
        let messages = self.move_out(now, &mut cx.waits, &mut frames, room);
        if frames.is_empty() {
            return None;
        }
        let mut bytes = vec![0; frames.len()];
        frames.copy_to(0, &mut bytes);
        self.member().stream.as_mut()?.hand_out(now, bytes.len(), messages);
        Some(StreamEvent::Frames(bytes.into()))
    }
}

impl<P: Peer> Sessions<P> {
    /// Opens a session over a stream. One that shows nothing is an anonymous native one, wherever it is.
    pub(super) fn open_stream(&mut self, peer: P, token: Option<[u8; 32]>) -> Result<SessionId, CloseReason> {
        if self.cx.stops {
            return Err(CloseReason::Shutdown);
        }
        if !self.make_room(peer) {
            return Err(CloseReason::Limit);
        }
        let mut session = Session::new(&mut self.cx, 0, Framing::Plain);
        session.begin_stream();
        let id = self.table.insert(peer, None, session);
        let mut slot = self.table.take(id.slot).ok_or(CloseReason::Limit)?;
        self.table.count(&mut slot);
        self.cx.stats.sessions_opened += 1;
        self.cx.tell(Event::Opened { id, peer });
        if let Some(hash) = token {
            let shown = Credential::Token(hash);
            // A token that is not known is worth less than none: in the clear it says nothing of the server's key.
            let known = self.cx.guard.as_ref().is_none_or(|guard| guard.knows_exactly(&shown));
            let let_in = match known {
                true => self.cx.identify(id, slot.session.member(), shown),
                false => {
                    self.cx.stats.sessions_denied += 1;
                    Err(CloseReason::Denied)
                }
            };
            if let Err(reason) = let_in {
                self.begin_closing(&mut slot, reason);
            }
        }
        self.put_back(slot, true);
        self.see_to_others();
        Ok(id)
    }

    /// Bytes have come of a session's stream. False if it is no more.
    pub(super) fn handle_stream(&mut self, id: SessionId, bytes: &[u8]) -> bool {
        let now = self.cx.now;
        let Some(slot) = self.of_stream(id) else { return false };
        slot.session.heard_stream(now);
        if let Some(stream) = &mut slot.session.member().stream {
            stream.arrived.extend_from_slice(bytes);
        }
        self.receive(id.slot, None);
        self.see_to_others();
        true
    }

    /// So many bytes that were handed out of a session have been sent.
    pub(super) fn on_stream_sent(&mut self, id: SessionId, bytes: usize) {
        let now = self.cx.now;
        let Some(slot) = self.of_stream(id) else { return };
        if let Some(stream) = &mut slot.session.member().stream {
            stream.on_sent(now, bytes);
        }
        if let Some(slot) = self.table.take(id.slot) {
            self.put_back(slot, true);
        }
        self.see_to_others();
    }

    /// The stream of a session has ended without its CLOSE.
    pub(super) fn on_stream_lost(&mut self, id: SessionId) {
        if self.of_stream(id).is_some()
            && let Some(slot) = self.table.take(id.slot)
        {
            let why = slot.session.closes_because().map_or(Ended::Lost, Ended::ByBroker);
            self.remove(slot, why);
            self.see_to_others();
        }
    }

    /// The session of this id, if it has a stream.
    fn of_stream(&mut self, id: SessionId) -> Option<&mut Slot<P, Session>> {
        let slot = self.table.get_mut(id.slot).filter(|slot| slot.id == id)?;
        slot.session.member().stream.is_some().then_some(slot)
    }
}

/// The frame by which somebody is told why there is no session.
pub fn refusal(reason: CloseReason) -> Vec<u8> {
    let mut frame = Frame::head(command::CLOSE, 0, 1).map_or_else(Vec::new, Vec::from);
    frame.push(reason.code());
    frame
}

/// Sessions over a WebSocket: the driver carries their bytes. What is said of streams that are no more is passed over.
impl<P: Peer> Broker<P> {
    /// Opens a session whose frames come and go in a stream, with the hash of a token if its client has shown one.
    /// `peer` is another one than that of any datagram. If a token lets nobody in, the client is told so (CLOSE 8) and
    /// the session ends.
    ///
    /// # Errors
    /// Why there is no room: [`refusal`] is the frame that says so.
    pub fn open_stream(&mut self, now: Instant, peer: P, token: Option<[u8; 32]>) -> Result<SessionId, CloseReason> {
        self.sessions.cx.advance(now);
        self.sessions.open_stream(peer, token)
    }

    /// Takes in bytes of a stream, cut anywhere; no more than [`STREAM_WINDOW`] beyond those that are told to be
    /// [`Read`](StreamEvent::Read). False if the session is no more.
    pub fn handle_stream(&mut self, now: Instant, id: SessionId, bytes: &[u8]) -> bool {
        self.sessions.cx.advance(now);
        self.sessions.handle_stream(id, bytes)
    }

    /// So many bytes of the [`Frames`](StreamEvent::Frames) of a session have been sent.
    pub fn on_stream_sent(&mut self, now: Instant, id: SessionId, bytes: usize) {
        self.sessions.cx.advance(now);
        self.sessions.on_stream_sent(id, bytes);
    }

    /// A stream has ended, or what it carried made no sense.
    pub fn on_stream_lost(&mut self, now: Instant, id: SessionId) {
        self.sessions.cx.advance(now);
        self.sessions.on_stream_lost(id);
    }

    /// What there is for a stream; to be called until `None` when [`poll_transmit`](Self::poll_transmit) has nothing
    /// more.
    pub fn poll_stream(&mut self) -> Option<(SessionId, StreamEvent)> {
        self.sessions.streams.pop_front()
    }
}
