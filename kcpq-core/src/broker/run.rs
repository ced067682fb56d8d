//! Messages that lie one behind the other and go the same way: PUBs of one subject, in one lane, of one publisher.
//!
//! A run is routed as one, and nobody can tell: all is as if its messages had come one by one. So there are only such in it as all of
//! its subscribers take, and as leave each of them as the first one does: where one would be dropped, or make a subscriber
//! have enough or be behind, the run ends. What comes behind is a run of its own, or goes its way alone.

use bytes::{Bytes, BytesMut};

use super::turn::Turn;
use crate::frame::{Head, LENGTH, Limits, alike, command, frames, set_commands};
use crate::outbox::HeapOutbox;

/// See above.
pub(super) struct Run<'f> {
    /// The PUBs, as they came.
    frames: &'f [u8],
    count: u32,
    /// What each of them has behind it when it leaves, as a MSGX; if nothing, they leave as MSGs.
    tail: &'f [u8],
    /// The MSGs, once they exist by themselves, and from which size on they are to.
    shared: Option<Bytes>,
    share_from: usize,
}

/// How much there may be in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes of all its frames.
    pub(super) bytes: usize,
    /// Bytes of each.
    pub(super) longest: usize,
    /// How many.
    pub(super) count: u32,
}

/// Bytes of the longest run: what lies together in an outbox, and in the longest datagram.
const LONGEST: usize = 16 * 1024;

/// PUBs of one subject that have come together.
#[derive(Clone, Copy)]
pub(super) struct Alike<'f> {
    /// What they are the beginning of.
    input: &'f [u8],
    subject: &'f [u8],
    /// Bytes of the longest frame that there may be.
    longest: usize,
}

impl<'f> Alike<'f> {
    /// Those that `input` begins with, if another one follows the first: otherwise there is nothing to save.
    #[inline]
    pub(super) fn begin(input: &'f [u8], limits: &Limits) -> Option<Self> {
        let (head, rest) = input.split_first_chunk()?;
        let head = Head::from_bytes(*head);
        let (next, behind) = input.get(head.frame_len()..)?.split_first_chunk()?;
        let next = Head::from_bytes(*next);
        let subject = rest.get(..usize::from(head.subject_len))?;
        let is_next = head.command == command::PUB
            && (next.command, next.subject_len) == (head.command, head.subject_len)
            && head.subject_len <= limits.max_subject
            && behind.starts_with(subject);
        let longest = (limits.max_body as usize).saturating_add(LENGTH);
        is_next.then_some(Self { input, subject, longest })
    }

    pub(super) fn subject(&self) -> &'f [u8] {
        self.subject
    }

    /// Each of their frames; what follows the last one is not looked at.
    #[inline]
    pub(super) fn frames(&self) -> impl Iterator<Item = &'f [u8]> + use<'f> {
        let (longest, mut rest) = (self.longest, self.input);
        let lens = alike(self.input, command::PUB, self.subject).take_while(move |len| *len <= longest);
        lens.map_while(move |len| rest.split_off(..len))
    }

    /// Those that may be in a run, each of them looked at.
    pub(super) fn known(&self) -> Known<'f> {
        let (mut len, mut count) = (0, 0);
        for frame in self.frames().map(<[u8]>::len).take_while(|frame| *frame <= LONGEST) {
            if len + frame > LONGEST {
                break;
            }
            len += frame;
            count += 1;
        }
        Known { frames: self.input.get(..len).unwrap_or_default(), count }
    }
}

/// PUBs that are known to be of one subject.
pub(super) struct Known<'f> {
    frames: &'f [u8],
    count: u32,
}

impl<'f> Known<'f> {
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the first frame.
    pub(super) fn first_len(&self) -> usize {
        self.lens().next().unwrap_or(0)
    }

    fn lens(&self) -> impl Iterator<Item = usize> + use<'f> {
        frames(self.frames).map(<[u8]>::len)
    }

    /// Takes out a run for one subscriber, as [`Run::read`] does; its messages leave with `tail` behind each.
    pub(super) fn take<'t>(&mut self, tail: &'t [u8], room: Room, turn: (&mut Turn, u32)) -> Run<'t>
    where
        'f: 't,
    {
        let (len, count) = fill(self.lens(), tail.len(), room, turn);
        self.count -= count;
        let frames = self.frames.split_off(..len).unwrap_or_default();
        Run { frames, count, tail, shared: None, share_from: usize::MAX }
    }
}

/// Of frames with these lengths, which leave with so many bytes more, those that there is room for, and work of the turn: their
/// bytes as they come, and how many they are.
fn fill(lens: impl Iterator<Item = usize>, more: usize, room: Room, (turn, each): (&mut Turn, u32)) -> (usize, u32) {
    let (mut len, mut left, mut count) = (0, room.bytes, 0);
    for frame in lens {
        let leaves = frame + more;
        if leaves > room.longest || leaves > left || count == room.count || turn.is_used_up() {
            break;
        }
        turn.charge_frame(frame);
        turn.charge(each);
        (len, left, count) = (len + frame, left - leaves, count + 1);
    }
    (len, count)
}

impl Room {
    /// Whatever others say.
    pub(super) const MOST: Self = Self { bytes: LONGEST, longest: LONGEST, count: u32::MAX };

    /// What is room here and there.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            longest: self.longest.min(other.longest),
            count: self.count.min(other.count),
        }
    }

    /// True if there is room for one message of so many bytes.
    pub(super) fn fits(self, len: usize) -> bool {
        len <= self.bytes && len <= self.longest
    }
}

impl<'f> Run<'f> {
    /// Takes messages from the first on, as far as there is room and work of the turn left: each takes so much beside what it takes
    /// to read it. Kept once for all subscribers if they have `share_from` bytes.
    pub(super) fn read(messages: Alike<'f>, room: Room, turn: (&mut Turn, u32), share_from: usize) -> Self {
        let (len, count) = fill(messages.frames().map(<[u8]>::len), 0, room, turn);
        Self { frames: messages.input.get(..len).unwrap_or_default(), count, tail: &[], shared: None, share_from }
    }

    /// Bytes of its frames, as they came.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// And as they leave.
    pub(super) fn len_out(&self) -> usize {
        self.frames.len() + self.count as usize * self.tail.len()
    }

    /// How many messages.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Appends its messages to what waits for one subscriber.
    pub(super) fn append_to(&mut self, queue: &mut HeapOutbox) {
        if !self.tail.is_empty() {
            return queue.push_run_with(self.frames, self.count, self.tail);
        }
        if self.frames.len() < self.share_from {
            return queue.push_run(self.frames, self.count, command::MSG);
        }
        let Self { frames, count, shared, .. } = self;
        let msgs = shared.get_or_insert_with(|| {
            let mut msgs = BytesMut::from(*frames);
            set_commands(&mut msgs, command::MSG);
            msgs.freeze()
        });
        queue.push_shared_run(msgs.clone(), *count);
    }
}
