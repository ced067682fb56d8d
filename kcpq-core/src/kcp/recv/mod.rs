//! The receiving half: reordering, the window that is advertised, and the acknowledgements that are owed.

mod acks;
#[cfg(feature = "lanes")]
mod lane_head;
#[cfg_attr(not(feature = "lanes"), path = "../absent/recv_lanes.rs")]
mod lanes;
#[cfg_attr(not(feature = "pieces"), path = "../absent/recv_pieces.rs")]
mod pieces;

pub use acks::Ack;
#[cfg(feature = "lanes")]
pub use lanes::{Early, Parked};

#[cfg(feature = "pieces")]
pub(super) use self::pieces::PIECE_HEAD;

use self::acks::Acks;
use self::lanes::Lanes;
pub(super) use self::pieces::Pieces;
use super::config::{Config, Mode};
use super::env::Env;
use super::packet::Packet;
use super::repair::Decoder;
use super::segment::{Command, Header, flags};
use super::seq::Sn;
use super::timers::Timer;
use crate::lane::Lane;
use crate::store::{Room, RxWindow, Store};
use crate::time::Duration;

/// Window updates (WINS) sent after a zero window has opened again, unless the peer sends before.
const WINDOW_UPDATES: u8 = 8;
/// Interval of the first two window updates; it doubles with each further one.
const WINDOW_UPDATE_INTERVAL: Duration = Duration::from_millis(50);

/// What keeping a segment takes besides its data, in bytes, where memory is short.
const BESIDES: usize = 64;

pub(super) struct Receiver<S: Store> {
    rx: S::Rx,
    acks: Acks<S>,
    decoder: Decoder,
    pieces: Pieces,
    lanes: Lanes<S>,
    place: Place,
}

/// Where reception has got to.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The next number expected.
    next: Sn,
    /// Segments in order at the front of the window that were not read yet.
    ready: usize,
    /// Bytes of segment `next` that were read when it came, although its rest was too large to be kept.
    partial: usize,
    /// Window updates still to be sent.
    updates: u8,
}

impl<S: Store> Receiver<S> {
    pub(super) fn new(rx: S::Rx, acks: S::Queue<Ack>) -> Self {
        Self {
            rx,
            acks: Acks::new(acks),
            decoder: Decoder::new(),
            pieces: Pieces::new(),
            lanes: Lanes::new(),
            place: Place::default(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.rx.clear();
        self.acks.clear();
        self.decoder = Decoder::new();
        self.pieces = Pieces::new();
        self.lanes.clear();
        self.place = Place::default();
    }

    #[cfg(test)]
    pub(super) fn start_at(&mut self, sn: Sn) {
        self.place.next = sn;
    }

    /// From here on echoes are of another kind; those that are owed are forgotten.
    pub(super) fn forget_echoes(&mut self) {
        self.acks.forget_echoes();
    }

    /// Everything before this number has arrived.
    pub(super) fn next(&self) -> Sn {
        self.place.next
    }

    fn slots(&self, config: &Config) -> usize {
        self.rx.slots().min(usize::from(config.recv_window))
    }

    /// Segments in order that were not read yet.
    #[inline]
    fn unread(&self) -> usize {
        self.place.ready + self.apart()
    }

    /// Those of them that do not lie in the window.
    #[inline]
    fn apart(&self) -> usize {
        self.lanes.parked() + self.rx.elsewhere()
    }

    /// Free segments, as advertised.
    pub(super) fn window(&self, env: &Env) -> u16 {
        let slots = self.slots(&env.config);
        let free = slots.saturating_sub(self.unread() + self.lanes.reserve(slots));
        match self.rx.room() {
            None => free as u16,
            Some(room) => limited(free, room.next, env),
        }
    }

    /// Takes in one data segment, and what can be rebuilt by it. What is in order and unread goes through `sink`, which
    /// returns how much it took.
    #[inline]
    pub(super) fn on_push(
        &mut self,
        env: &mut Env,
        header: &Header,
        data: &[u8],
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) {
        if !self.take_in(env, header, data, sink) {
            return;
        }
        if lanes::is_void(header.frg, data) {
            self.decoder.on_void(header.sn);
        } else if self.decoder.on_segment(header.sn, header.frg, data) {
            self.rebuild(env, header, sink);
        }
    }

    /// Takes in a piece of a segment, and the segment if it is whole then.
    #[cold]
    pub(super) fn on_piece(
        &mut self,
        env: &mut Env,
        header: &Header,
        body: &[u8],
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) {
        let ahead = usize::try_from(header.sn.distance(self.place.next));
        match ahead.map(|ahead| ahead + self.place.ready) {
            Ok(slot) if slot + self.apart() >= self.slots(&env.config) => env.stats.refused += 1,
            Ok(slot) if !self.rx.has(slot) && self.rx.room().is_some_and(|room| room.next == 0) => {
                self.refuse(env);
            }
            Ok(slot) if !self.rx.has(slot) => {
                if let Some(data) = self.pieces.on_piece(header.sn, body) {
                    self.on_push(env, &Header { command: Command::Push, ..*header }, &data, sink);
                }
            }
            _ => {
                // Its acknowledgement was lost.
                env.stats.duplicates += 1;
                self.acks.owe(env, header, self.slots(&env.config), true);
            }
        }
        self.pieces.forget_before(self.place.next);
    }

    /// Takes in one repair, and what can be rebuilt by it.
    pub(super) fn on_repair(
        &mut self,
        env: &mut Env,
        header: &Header,
        body: &[u8],
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) {
        let Self { rx, decoder, place: Place { next, ready, .. }, .. } = self;
        if rx.room().is_some_and(|room| room.next == 0) {
            return; // what it would help to is sent again as well
        }
        let has = |sn: Sn| usize::try_from(sn.distance(*next)).map_or(true, |ahead| rx.has(ahead + *ready));
        if decoder.on_repair(header, body, has) {
            self.rebuild(env, header, sink);
        }
    }

    /// Takes in the segments that are known since that of `header` has come.
    fn rebuild(&mut self, env: &mut Env, header: &Header, sink: &mut impl FnMut(Lane, &[u8]) -> usize) {
        while let Some(rebuilt) = self.decoder.poll() {
            let Some(data) = rebuilt.data() else {
                env.stats.malformed += 1;
                continue;
            };
            let header = rebuilt.header(*header);
            if self.take_in(env, &header, data, sink) {
                env.stats.rebuilt += 1;
                self.decoder.on_segment(header.sn, header.frg, data);
            }
        }
    }

    /// Takes in a data segment. True if it was new.
    fn take_in(
        &mut self,
        env: &mut Env,
        header: &Header,
        data: &[u8],
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) -> bool {
        let slots = self.slots(&env.config);
        let ahead = header.sn.distance(self.place.next);
        let slot = match usize::try_from(ahead) {
            Ok(ahead) => ahead + self.place.ready,
            Err(_) => {
                // Old: the acknowledgement was lost, or the network doubled it.
                env.stats.duplicates += 1;
                self.acks.owe(env, header, slots, true);
                return false;
            }
        };
        if slot + self.apart() >= slots {
            env.stats.refused += 1;
            return false;
        }
        if self.rx.has(slot) {
            env.stats.duplicates += 1;
            self.acks.owe(env, header, slots, true);
            return false;
        }
        if self.rx.room().is_some() && !self.use_room(data.len(), ahead > 0) {
            return self.refuse(env);
        }
        if header.frg & flags::LANED != 0 && env.peer.lanes || self.lanes.are_told() {
            return self.take_in_told(env, header, slot, data, sink);
        }
        let in_order = ahead == 0 && self.place.ready == 0 && env.config.mode == Mode::Stream;
        let mut rest = data;
        if in_order {
            let had = self.place.partial.min(data.len());
            self.place.partial = had + drain(Lane::NORMAL, data.get(had..).unwrap_or_default(), sink);
            rest = data.get(self.place.partial..).unwrap_or_default();
        }
        if in_order && rest.is_empty() {
            self.rx.advance();
            self.place.next = self.place.next.plus(1);
        } else if self.rx.put(slot, header.frg, rest).is_err() {
            env.stats.refused += 1;
            return false;
        }
        if in_order {
            self.place.partial = 0;
        }
        self.on_news(env, data.len());
        while self.rx.has(self.place.ready) {
            self.place.ready += 1;
            self.place.next = self.place.next.plus(1);
        }
        self.pieces.forget_before(self.place.next);
        self.acks.owe(env, header, slots, ahead > 0 || !self.may_wait(env, header));
        if env.config.mode == Mode::Stream {
            self.recv(env, sink);
        }
        true
    }

    /// A new segment with so many bytes has been taken in.
    #[inline(always)]
    fn on_news(&mut self, env: &mut Env, len: usize) {
        // The peer sends: it knows the window.
        self.place.updates = 0;
        env.timers.stop(Timer::WindowUpdate);
        env.stats.segments_received += 1;
        env.stats.bytes_received += len as u64;
    }

    /// The same as [`take_in`](Self::take_in) for a new segment, once there are lanes.
    #[inline(never)]
    fn take_in_told(
        &mut self,
        env: &mut Env,
        header: &Header,
        slot: usize,
        data: &[u8],
        sink: &mut impl FnMut(Lane, &[u8]) -> usize,
    ) -> bool {
        let ahead = slot - self.place.ready;
        if !self.take_in_lane(env, header, ahead, data, sink) {
            env.stats.refused += 1;
            return false;
        }
        self.on_news(env, data.len());
        self.pieces.forget_before(self.place.next);
        self.acks.owe(env, header, self.slots(&env.config), ahead > 0 || !self.may_wait(env, header));
        true
    }

    /// So many of the bytes that have room have come, in a segment that `waits` for others or not. False if there was none.
    #[cold]
    fn use_room(&mut self, len: usize, waits: bool) -> bool {
        let Some(Room { next, waiting }) = self.rx.room() else { return true };
        let (left, cost) = if waits { (waiting, len + BESIDES) } else { (next, len) };
        self.rx.set_room(Some(Room { next: next.saturating_sub(cost), waiting: waiting.saturating_sub(cost) }));
        left > 0
    }

    /// There is no memory for a segment. It is not acknowledged, and so comes again; its sender is told that it has to wait.
    #[cold]
    fn refuse(&mut self, env: &mut Env) -> bool {
        env.stats.refused += 1;
        self.on_window_probe(env);
        false
    }

    /// True if the acknowledgement of a segment that has come in its turn may wait for that of the next one.
    fn may_wait(&self, env: &Env, header: &Header) -> bool {
        env.numbers.is_some() && header.frg & flags::PATIENT != 0 && !self.owes_acks()
    }

    /// Offers in-order bytes to `sink` until it takes no more. True if anything was taken.
    pub(super) fn recv(&mut self, env: &mut Env, sink: &mut impl FnMut(Lane, &[u8]) -> usize) -> bool {
        if self.unread() == 0 {
            return false;
        }
        let closed = self.window(env) == 0;
        let mut any = self.lanes.recv(&mut self.rx, sink);
        while self.place.ready > 0 {
            let Some((data, _)) = self.rx.front() else { break };
            let len = data.len();
            let taken = drain(Lane::NORMAL, data, sink);
            any |= taken > 0;
            if taken < len {
                self.rx.consume(taken);
                break;
            }
            self.pop();
        }
        self.reopen(env, closed);
        any
    }

    /// The length of the next message, once all of it is there.
    pub(super) fn message_len(&self) -> Option<usize> {
        let mut len = 0;
        for slot in 0..self.place.ready {
            let (frg, bytes) = self.rx.peek(slot)?;
            len += bytes;
            if frg == 0 {
                return Some(len);
            }
        }
        None
    }

    /// Copies the next message, which is known to fit, to `out`.
    pub(super) fn recv_message(&mut self, env: &mut Env, out: &mut [u8]) {
        let closed = self.window(env) == 0;
        let mut at = 0;
        while let Some((data, frg)) = self.rx.front() {
            if let Some(place) = out.get_mut(at..at + data.len()) {
                place.copy_from_slice(data);
            }
            at += data.len();
            self.pop();
            if frg == 0 {
                break;
            }
        }
        self.reopen(env, closed);
    }

    /// The unread bytes that are first, and of which lane they are.
    pub(super) fn front(&self) -> Option<(Lane, &[u8])> {
        if self.place.ready == 0 {
            return self.lanes.front(&self.rx);
        }
        self.rx.front().map(|(data, _)| (Lane::NORMAL, data))
    }

    /// Takes `count` of the bytes that [`front`](Self::front) showed.
    pub(super) fn consume(&mut self, env: &mut Env, count: usize) {
        let Some(len) = self.front().map(|(_, data)| data.len()) else { return };
        if count < len && self.place.ready > 0 {
            self.rx.consume(count);
            return;
        }
        let closed = self.window(env) == 0;
        if self.place.ready > 0 {
            self.pop();
        } else {
            self.lanes.consume(&mut self.rx, count);
        }
        self.reopen(env, closed);
    }

    /// The front segment leaves the window.
    fn pop(&mut self) {
        self.rx.advance();
        self.place.ready = self.place.ready.saturating_sub(1);
    }

    /// Begins the window updates (WINS) for a zero window that has opened again. They are repeated, since the peer may
    /// wait seconds for a lost one (PROTOCOL.md 2.7).
    fn reopen(&mut self, env: &mut Env, closed: bool) {
        if closed && self.window(env) > 0 {
            self.place.updates = WINDOW_UPDATES;
            env.timers.start(Timer::WindowUpdate, env.now);
        }
    }

    /// A window probe (WASK) came: a window update is owed.
    pub(super) fn on_window_probe(&mut self, env: &mut Env) {
        self.place.updates = self.place.updates.max(1);
        env.timers.start(Timer::WindowUpdate, env.now);
    }

    /// The peer is told the window and what has arrived.
    pub(super) fn owe_window_update(&mut self, env: &mut Env) {
        self.on_window_probe(env);
    }

    /// Bytes of memory taken by what waits for earlier segments, or to be read, or to be of use for others.
    #[cfg(feature = "alloc")]
    pub(super) fn held(&self) -> usize {
        self.waiting() + self.pieces.held() + self.decoder.held()
    }

    /// Bytes of memory taken by segments that wait for earlier ones, or to be read.
    #[cfg(feature = "alloc")]
    pub(super) fn waiting(&self) -> usize {
        self.rx.held() + self.lanes.held()
    }

    /// How much more may be taken in, where memory is short. Whoever was told that there is no room is told when there is.
    #[cfg(feature = "alloc")]
    pub(super) fn set_room(&mut self, env: &mut Env, room: Option<Room>) {
        let closed = self.window(env) == 0;
        self.rx.set_room(room);
        self.reopen(env, closed);
    }

    /// How many segments have been read, wrapping. `None` where each lane goes on by itself.
    #[cfg(feature = "alloc")]
    pub(super) fn read_to(&self) -> Option<u32> {
        (!self.lanes.are_told()).then(|| self.place.next.0.wrapping_sub(self.place.ready as u32))
    }

    /// So many segments that were read count as unread.
    #[cfg(feature = "alloc")]
    pub(super) fn set_elsewhere(&mut self, env: &mut Env, segments: usize) {
        if segments != self.rx.elsewhere() {
            let closed = self.window(env) == 0;
            self.rx.set_elsewhere(segments);
            self.reopen(env, closed);
        }
    }

    /// Forgets what is only kept to be of use for others.
    #[cfg(feature = "alloc")]
    pub(super) fn forget_helpers(&mut self) {
        self.decoder = Decoder::new();
    }

    /// Forgets what has come and was not read, because nobody will.
    #[cfg(feature = "alloc")]
    pub(super) fn forget(&mut self) {
        self.rx.clear();
        self.lanes.forget();
        self.decoder = Decoder::new();
        self.pieces = Pieces::new();
        self.place.ready = 0;
    }

    /// True if acknowledgements wait to be sent.
    pub(super) fn owes_acks(&self) -> bool {
        !self.acks.is_empty()
    }

    /// Writes a window update, if one is due and fits.
    pub(super) fn write_window_update(&mut self, env: &mut Env, packet: &mut Packet<'_>) {
        if !env.timers.is_due(Timer::WindowUpdate, env.now) || !packet.push_bare(Command::WindowUpdate) {
            return;
        }
        let sent = WINDOW_UPDATES.saturating_sub(self.place.updates).min(10);
        self.place.updates = self.place.updates.saturating_sub(1);
        if self.place.updates == 0 {
            env.timers.stop(Timer::WindowUpdate);
        } else {
            env.timers.start(Timer::WindowUpdate, env.now + WINDOW_UPDATE_INTERVAL.saturating_mul(1 << sent));
        }
    }

    /// Writes the acknowledgements that are due, as many as fit.
    pub(super) fn write_acks(&mut self, env: &mut Env, packet: &mut Packet<'_>) {
        if env.timers.is_due(Timer::Ack, env.now) {
            self.acks.write(env, packet, self.place.next);
        }
    }

    /// Writes those as well that still wait for data to be coalesced with.
    pub(super) fn coalesce_acks(&mut self, env: &mut Env, packet: &mut Packet<'_>) {
        self.acks.write(env, packet, self.place.next);
    }
}

/// The window where only so many bytes have `room`.
#[cold]
fn limited(free: usize, room: usize, env: &Env) -> u16 {
    free.min(room.div_ceil(env.mss().max(1))) as u16
}

/// Offers `data` of a lane until the sink takes no more; returns how much it took.
fn drain(lane: Lane, data: &[u8], sink: &mut impl FnMut(Lane, &[u8]) -> usize) -> usize {
    let mut taken = 0;
    while let Some(rest) = data.get(taken..).filter(|rest| !rest.is_empty()) {
        match sink(lane, rest).min(rest.len()) {
            0 => break,
            count => taken += count,
        }
    }
    taken
}
