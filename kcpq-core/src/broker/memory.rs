//! Memory for what has come and cannot be handed on yet: frames of which something is missing, segments that wait for
//! earlier ones or to be read, and what is kept to rebuild lost ones with.
//!
//! All sessions share [`max_received_total`](super::Config::max_received_total). While not half of it is taken nobody is
//! held to anything. From there on each may have as much as is left of three quarters (dynamic thresholds, after Choudhury
//! and Hahne), and [`EACH`] in any case. One that has that closes its window and waits for its turn. A turn is another
//! [`CHUNK`]; as many get one at a time as the last quarter has room for, and whoever has had it longest goes on to the end
//! of its frame in any case: so frames that do not fit together get through one after the other. Of those who wait the next
//! is in turn the one that has waited longest and one that has little: so nobody waits for ever, and whoever has come just
//! now need not wait for all who take much.
//!
//! Whoever keeps others waiting has to get on: with more than [`EACH`] it is ended if a chunk takes it longer than
//! [`PATIENCE`].

use alloc::collections::VecDeque;

use super::event::SessionId;
use crate::store::Room;
use crate::time::{Deadline, Duration, Instant, Why};

/// What a session may have however short memory is, in bytes: frames of up to that length always go through.
pub(super) const EACH: u64 = 32 * 1024;
/// The same until it has shown that it is where it says it is.
const STRANGER: u64 = 2 * 1024;
/// What comes in one turn, in bytes.
const CHUNK: u64 = 64 * 1024;
/// What that may take: the frame's buffer grows to twice what there is of it.
const COST: u64 = 2 * CHUNK;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often it is looked who takes longer.
const REVIEW: Duration = Duration::from_secs(1);
/// Of so many that have come last the one that has least is looked for.
const LAST: usize = 64;

/// Of one broker.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    /// The longest frame.
    frame: u64,
    /// Those that wait for their turn, and some that did; and those whose turn it is: the longest first.
    waiting: VecDeque<SessionId>,
    turns: VecDeque<SessionId>,
    /// The next turn is for one that has little.
    for_small: bool,
    /// When to look who does not get on, while somebody waits.
    review_at: Option<Instant>,
    /// Somebody waits, or need not any more: to be seen to.
    pub(super) changed: bool,
}

/// Of one session.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Bytes that it has.
    held: u64,
    stage: Stage,
    /// It stands among those that wait.
    queued: bool,
    /// It is held to a limit.
    pub(super) limited: bool,
    mark: Option<Mark>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    Waiting,
    /// It may have so much.
    Turn {
        limit: u64,
    },
}

/// How far a session had got.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// When it has to have got further.
    until: Instant,
    progress: Progress,
}

/// What has come of a session so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// Bytes of its stream, but for those that wait for earlier ones.
    pub(super) bytes: u64,
    /// Whole messages.
    pub(super) messages: u64,
}

/// What a session is about to take in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// It has not shown where it is.
    pub(super) stranger: bool,
    /// The frames that have begun to come will have so many bytes,
    pub(super) frames: usize,
    /// and can get so many without more memory.
    pub(super) ahead: usize,
    /// So many bytes wait for something that is missing, or to be read.
    pub(super) waiting: usize,
    /// It is not read at present.
    pub(super) paused: bool,
}

impl Memory {
    pub(super) fn new(limit: usize, max_body: u32) -> Self {
        Self {
            limit: limit as u64,
            frame: max_body.into(),
            waiting: VecDeque::new(),
            turns: VecDeque::new(),
            for_small: false,
            review_at: None,
            changed: false,
        }
    }

    /// True if sessions are held to limits when they have `received` bytes in all.
    pub(super) fn is_short(&self, received: u64) -> bool {
        received > self.limit / 2
    }

    /// Memory was given back: there may be some for those who wait.
    pub(super) fn on_released(&mut self) {
        self.changed |= !(self.waiting.is_empty() && self.turns.is_empty());
    }

    /// Everybody who waits, or whose turn it is: there is enough for all.
    pub(super) fn release_all(&mut self) -> impl Iterator<Item = SessionId> {
        self.review_at = None;
        self.turns.drain(..).chain(self.waiting.drain(..))
    }

    /// Forgets the turns of those that do not go on.
    pub(super) fn forget_turns(&mut self, goes_on: impl FnMut(&SessionId) -> bool) {
        self.turns.retain(goes_on);
    }

    /// The next one that may wait for its turn, if there is memory for that. `held` is what a session has.
    pub(super) fn next_waiting(&mut self, received: u64, held: impl Fn(&SessionId) -> u64) -> Option<SessionId> {
        let cost = COST * (self.turns.len() as u64 + 1);
        if !self.turns.is_empty() && received + cost > self.limit {
            return None;
        }
        let for_small = self.for_small;
        self.for_small = !for_small;
        let last = self.waiting.len().saturating_sub(LAST);
        let small = self.waiting.iter().enumerate().skip(last).min_by_key(|(_, id)| held(id)).filter(|_| for_small);
        self.waiting.remove(small.map_or(0, |(index, _)| index))
    }

    /// It is no more.
    pub(super) fn on_ended(&mut self, id: SessionId, share: &Share) {
        if share.queued {
            self.waiting.retain(|waiting| *waiting != id);
        }
        self.on_released();
    }

    /// It is its turn.
    pub(super) fn add_turn(&mut self, id: SessionId) {
        self.turns.push_back(id);
    }

    /// Looks after those who do not get on, as long as somebody waits.
    pub(super) fn watch(&mut self, now: Instant) {
        self.review_at = if self.waiting.is_empty() { None } else { self.review_at.or(Some(now)) };
    }

    /// True if it is time to look who does not get on.
    pub(super) fn is_review_due(&mut self, now: Instant) -> bool {
        let due = self.review_at.is_some_and(|at| at <= now);
        if due {
            self.review_at = Some(now + REVIEW);
        }
        due
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.review_at.map(|at| Deadline { at, why: Why::Memory })
    }
}

impl Share {
    /// Bytes that it has.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// It has so much now. Returns what it had.
    pub(super) fn set_held(&mut self, held: u64) -> u64 {
        core::mem::replace(&mut self.held, held)
    }

    /// True if its window is closed until its turn comes.
    pub(super) fn waits(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// True if it is its turn.
    pub(super) fn has_turn(&self) -> bool {
        matches!(self.stage, Stage::Turn { .. })
    }

    /// How much more session `id` may take in when all have `received` bytes.
    pub(super) fn room(&self, memory: &Memory, received: u64, id: SessionId, wish: Wish) -> Room {
        let limit = match self.stage {
            Stage::Turn { .. } if wish.waiting as u64 > CHUNK => {
                // It is its turn for what is missing, and not for more that waits for that, or to be read.
                return Room { next: usize::from(!wish.paused), waiting: 0 };
            }
            Stage::Turn { limit } if memory.turns.front() == Some(&id) => {
                limit.max(memory.frame.min(wish.frames as u64) + COST)
            }
            Stage::Turn { limit } => limit,
            _ => {
                let rest = (memory.limit / 4 * 3).saturating_sub(received);
                rest.max(if wish.stranger { STRANGER } else { EACH })
            }
        };
        let waiting = usize::try_from(limit.saturating_sub(self.held).div_ceil(2)).unwrap_or(usize::MAX);
        Room { next: waiting.saturating_add(wish.ahead), waiting }
    }

    /// It was worked on, and has this much `room` left. True if it has to wait from now on. Its turn does not come while it is
    /// `paused`, and needs nothing.
    pub(super) fn settle(&mut self, memory: &mut Memory, id: SessionId, room: usize, paused: bool) -> bool {
        let before = self.stage;
        self.stage = match before {
            _ if room == 0 => Stage::Waiting,
            Stage::Turn { .. } if self.held >= EACH => before,
            _ => Stage::Free,
        };
        if self.waits() && !paused && !core::mem::replace(&mut self.queued, true) {
            memory.waiting.push_back(id);
            memory.changed = true;
        }
        if self.stage == before {
            return false;
        }
        memory.changed = true;
        self.mark = None;
        self.waits()
    }

    /// It stands among those that wait no longer. True if it does wait, and is not `paused`: it is its turn then.
    pub(super) fn begin_turn(&mut self, now: Instant, progress: Progress, paused: bool) -> bool {
        self.queued = false;
        if !self.waits() || paused {
            return false;
        }
        self.stage = Stage::Turn { limit: self.held + COST };
        self.mark = Some(Mark { until: now + PATIENCE, progress });
        true
    }

    /// There is enough for all.
    pub(super) fn release(&mut self) {
        *self = Self { held: self.held, ..Self::default() };
    }

    /// True if it has more than what each may have.
    pub(super) fn has_much(&self) -> bool {
        self.held >= EACH
    }

    /// True if it keeps others waiting and does not get on. One that is not to be `judged` need not.
    pub(super) fn is_stuck(&mut self, now: Instant, progress: Progress, judged: bool) -> bool {
        if !self.has_much() || self.waits() || !judged {
            self.mark = None;
            return false;
        }
        let mark = *self.mark.get_or_insert(Mark { until: now + PATIENCE, progress });
        let gets_on =
            progress.bytes.saturating_sub(mark.progress.bytes) >= CHUNK || progress.messages > mark.progress.messages;
        if gets_on {
            self.mark = Some(Mark { until: now + PATIENCE, progress });
        }
        !gets_on && mark.until <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window full of what waits to be read brings no more with each turn.
    #[test]
    fn who_is_not_read_has_no_turn_and_in_one_takes_nothing() {
        let (mut memory, mut share) = (Memory::new(1 << 20, 1 << 18), Share::default());
        let id = SessionId { shard: 0, slot: 0, generation: 1 };
        let wish = |waiting, paused| Wish { stranger: false, frames: 0, ahead: 0, waiting, paused };
        let (now, progress) = (Instant::ZERO, Progress { bytes: 0, messages: 0 });
        share.set_held(200_000);
        assert!(share.settle(&mut memory, id, 0, true));
        assert_eq!(memory.next_waiting(0, |_| 0), None);
        // It is read again, and paused once more before its turn comes.
        share.settle(&mut memory, id, 0, false);
        assert_eq!(memory.next_waiting(0, |_| 0), Some(id));
        assert!(!share.begin_turn(now, progress, true) && !share.has_turn());
        share.settle(&mut memory, id, 0, false);
        assert_eq!(memory.next_waiting(0, |_| 0), Some(id));
        assert!(share.begin_turn(now, progress, false));
        let room = |waiting, paused| share.room(&memory, 0, id, wish(waiting, paused));
        let much = CHUNK as usize + 1;
        assert_eq!(room(much, true), Room { next: 0, waiting: 0 });
        assert_eq!(room(much, false), Room { next: 1, waiting: 0 }, "what is missing");
        assert_eq!(room(much - 1, true), Room { next: CHUNK as usize, waiting: CHUNK as usize });
    }
}
