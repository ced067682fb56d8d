//! The sending half of a session: from frames that wait to datagrams, one or many for one system call.

use super::{Session, Speech};
use crate::datagram::{Protection, native};
use crate::hello::Named;
use crate::lane::Lane;
use crate::outbox::{FrameStore, Outbox};
use crate::store::Queue;
#[cfg(feature = "alloc")]
use crate::store::{Gather, HeapTx, Store};
use crate::time::{Duration, Instant};

/// Sessions may have names.
const NAMES: bool = cfg!(feature = "native");

/// When which frames went into the stream.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Mark {
    /// Where they end, in bytes of the stream, wrapping.
    pub(super) end: u32,
    pub(super) frames: u32,
    pub(super) at: Instant,
}

/// Datagrams to be sent to one peer, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Transmit {
    /// Bytes in all.
    pub len: usize,
    /// The length of each datagram but the last, if there are several.
    pub segment: Option<usize>,
    /// It is one that asks whether the path carries a datagram of its length: that the system refuses to send it is an
    /// answer as well.
    pub asks: bool,
}

/// Adds a mark, if there are frames in it; where there is no room it becomes part of the last one.
pub(super) fn push_mark<S: FrameStore>(marks: &mut S::Queue<Mark>, mark: Mark) {
    if mark.frames == 0 || marks.push(mark).is_ok() {
        return;
    }
    let last = marks.len().saturating_sub(1);
    if let Some(last) = marks.get_mut(last) {
        last.end = mark.end;
        last.frames += mark.frames;
    }
}

impl<S: FrameStore> Session<S> {
    /// Writes the next datagram to the front of `out`, and protects it.
    pub(crate) fn poll_transmit(&mut self, now: Instant, protection: &mut Protection, out: &mut [u8]) -> Option<usize> {
        let len = match self.link.poll_parity(out).or_else(|| self.poll_path(now, out)) {
            Some(len) => len,
            None => {
                self.link.on_time(now);
                match self.speech {
                    Speech::Free => {
                        if !self.is_held(now) {
                            self.refill(now);
                        }
                    }
                    Speech::LastWords { gives_up } => {
                        self.speech = if NAMES && gives_up { Speech::GivesUp } else { Speech::Over };
                    }
                    Speech::GivesUp if NAMES => return self.give_up_name(protection, out),
                    Speech::GivesUp => return None,
                    Speech::Over => return None,
                }
                self.switch_form(now);
                let (headroom, tail) = (self.link.headroom(), self.link.tail());
                let (number, room) = (self.kcp.next_number(now), out.len().checked_sub(tail)?);
                let len = self.kcp.poll_transmit(now, out.get_mut(headroom..room)?);
                self.follow_mtu();
                let Some(len) = len else {
                    return if NAMES && self.speech == Speech::GivesUp {
                        self.give_up_name(protection, out)
                    } else {
                        None
                    };
                };
                let len = headroom + len + tail;
                self.link.seal(now, number, out.get_mut(..len)?)?;
                len
            }
        };
        if !self.link.is_sealed() {
            protection.seal(out.get_mut(..len)?);
        }
        Some(len)
    }

    /// Writes as many datagrams to the front of `out` as there are and as fit, `most` at most, all of the same length but the
    /// last. One that asks about the path is longer, and goes alone; so does one that could hold much more, since the next may
    /// be longer.
    #[cfg(feature = "alloc")]
    pub(crate) fn poll_batch(
        &mut self,
        now: Instant,
        protection: &mut Protection,
        out: &mut [u8],
        most: usize,
    ) -> Option<Transmit> {
        let size = usize::from(self.link.max_datagram());
        let first = self.poll_transmit(now, protection, out)?;
        let (mut len, mut count) = (first, 1);
        // A native one that holds a full segment is shorter than it may be: what KCP's header would take is not used.
        let full = first <= size && first + crate::kcp::HEADER > size;
        while full
            && len == count * first
            && count < most
            && let Some(room) = out.get_mut(len..len + first)
            && let Some(written) = self.poll_transmit(now, protection, room)
        {
            len += written;
            count += 1;
        }
        Some(Transmit { len, segment: (count > 1).then_some(first), asks: first > size })
    }

    /// The same, for whoever sends what lies elsewhere from there: then `gather` has that. What has to be encrypted, or to be
    /// protected against loss as a whole, is written to `out`.
    #[cfg(feature = "alloc")]
    pub(crate) fn poll_gathered(
        &mut self,
        now: Instant,
        protection: &mut Protection,
        out: &mut [u8],
        most: usize,
        gather: &mut Gather,
    ) -> Option<Transmit>
    where
        S: Store<Tx = HeapTx>,
    {
        gather.begin(out);
        if !self.link.is_only_framed() {
            return self.poll_batch(now, protection, out, most);
        }
        self.kcp.stream().swap_gather(gather);
        let transmit = self.poll_batch(now, protection, out, most);
        self.kcp.stream().swap_gather(gather);
        transmit
    }

    /// True while no frame may go: those that there are wait where they may still expire, or give way to newer ones.
    #[inline]
    fn is_held(&mut self, now: Instant) -> bool {
        let Self { control, outbox, hold, kcp, .. } = self;
        kcp.is_held(now, || !(control.is_empty() && (*hold || outbox.is_empty())))
    }

    /// Moves frames into the stream, as many as the next datagram needs.
    fn refill(&mut self, now: Instant) {
        self.refill_lanes(now);
        if self.is_cut_short() {
            return;
        }
        let enough = self.kcp.mss();
        while self.kcp.unsent_of(Lane::NORMAL) < enough {
            let control_first = !self.outbox.main().mid_frame() && !self.control.is_empty();
            if self.hold && !control_first {
                return;
            }
            let from = if control_first { &mut self.control } else { self.outbox.main() };
            let expired = from.expire(now);
            self.on_expired(Lane::NORMAL, expired);
            let from = if control_first { &mut self.control } else { self.outbox.main() };
            let Some(moved) = from.move_to(self.kcp.stream(), now, self.dialect) else { return };
            self.moved_to = self.moved_to.wrapping_add(moved.bytes as u32);
            if control_first {
                self.control_to = self.moved_to;
            } else {
                self.moved += u64::from(moved.frames);
                self.mark(now, moved.frames);
            }
        }
    }

    /// Nothing more is sent until the next [`reset`](Session::reset), but for one datagram with what is `told` to the peer,
    /// which waits as a frame of the protocol, and one that gives up the session by its name: what is told stands behind all that
    /// has begun to go out, and need not come through.
    pub(crate) fn part(&mut self, now: Instant, told: bool) {
        if self.speech != Speech::Free {
            return;
        }
        if told {
            self.hold = true;
            self.refill(now);
        }
        // Who has no name yet, or is still about to agree upon keys, has nothing to give up.
        let gives_up = NAMES && self.farewell().is_some();
        self.speech = match told {
            true => Speech::LastWords { gives_up },
            false if gives_up => Speech::GivesUp,
            false => Speech::Over,
        };
    }

    /// True if the peer has yet to hear that the session was given up.
    pub(crate) fn owes_farewell(&self) -> bool {
        NAMES && matches!(self.speech, Speech::LastWords { gives_up: true } | Speech::GivesUp)
    }

    /// Writes the datagram that gives the session up, if it has a name.
    fn give_up_name(&mut self, protection: &mut Protection, out: &mut [u8]) -> Option<usize> {
        self.speech = Speech::Over;
        self.write_farewell(self.farewell()?, protection, out)
    }

    /// Writes the datagram that gives a session up: this one, or one before it, whose form was the same.
    pub(crate) fn write_farewell(&self, to: Named, protection: &mut Protection, out: &mut [u8]) -> Option<usize> {
        let farewell = native::reset(to);
        let headroom = if self.link.is_sealed() { 0 } else { protection.headroom() };
        let place = out.get_mut(..headroom + farewell.len())?;
        place.get_mut(headroom..)?.copy_from_slice(&farewell);
        if !self.link.is_sealed() {
            protection.seal(place);
        }
        Some(place.len())
    }

    pub(super) fn mark(&mut self, now: Instant, frames: u32) {
        push_mark::<S>(&mut self.marks, Mark { end: self.moved_to, frames, at: now });
    }

    /// Takes note of what the peer has acknowledged, and how long that was under way.
    pub(super) fn on_acknowledged(&mut self, now: Instant) {
        if let Some(latency) = self.lanes.on_acknowledged(now, &self.kcp) {
            self.latency = Some(latency);
        }
        let acked = self.kcp.acked_offset_of(Lane::NORMAL);
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
}
