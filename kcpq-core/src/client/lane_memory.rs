//! The memory of a client's lanes without an allocator, lent besides that of the client.

use core::fmt;

use heapless::Deque;

use super::memory::LendError;
use super::{Client, Phase};
use crate::kcp::{self, Early, LatestMessage, Parked};
use crate::outbox::LentOutbox;
use crate::session::{self, Mark};
use crate::store::{LENT_LANES, Lent, LentInbox, LentKept, LentNumbers, LentTx, NumberSlot};

/// Messages of a lane that are under way and of which only the latest counts, and as many subjects; what is more goes as others
/// do.
const LATEST: usize = 8;

/// Memory for `LANES` lanes besides lane 0 (PROTOCOL.md 2.12), 3 at most: of each `BYTES` that wait, `BYTES` that are under way,
/// and a message of `BYTES` that comes in several segments. Any lane may be used; the first ones that are published in, or
/// subscribed to, have the memory for good. `WINDOW` is that of the client.
///
/// All zeros, as [`Memory`](super::Memory) is.
pub struct LaneMemory<const LANES: usize, const BYTES: usize, const WINDOW: usize> {
    lanes: [OneLane<BYTES, WINDOW>; LANES],
    parked: Deque<Parked<LentKept>, WINDOW>,
    early: Deque<Early, WINDOW>,
}

struct OneLane<const BYTES: usize, const WINDOW: usize> {
    tx: [u8; BYTES],
    messages: Deque<LatestMessage, LATEST>,
    subjects: [NumberSlot; LATEST],
    outbox: [u8; BYTES],
    inbox: [u8; BYTES],
    marks: Deque<Mark, WINDOW>,
}

impl<const B: usize, const W: usize> OneLane<B, W> {
    const EMPTY: Self = Self {
        tx: [0; B],
        messages: Deque::new(),
        subjects: [NumberSlot::EMPTY; LATEST],
        outbox: [0; B],
        inbox: [0; B],
        marks: Deque::new(),
    };

    fn lend<const T: usize>(&mut self) -> session::LaneParts<Lent<'_, T>> {
        let Self { tx, messages, subjects, outbox, inbox, marks } = self;
        messages.clear();
        subjects.fill(NumberSlot::EMPTY);
        marks.clear();
        session::LaneParts {
            kcp: kcp::LaneParts {
                tx: LentTx::new(tx),
                messages: messages.as_mut_view(),
                subjects: LentNumbers::new(subjects),
            },
            outbox: LentOutbox::new(outbox),
            inbox: LentInbox::new(inbox),
            marks: marks.as_mut_view(),
        }
    }
}

impl<const L: usize, const B: usize, const W: usize> LaneMemory<L, B, W> {
    /// Empty memory.
    pub const fn new() -> Self {
        const { assert!(L >= 1 && L <= LENT_LANES, "LANES is 1 to 3") };
        Self { lanes: [const { OneLane::EMPTY }; L], parked: Deque::new(), early: Deque::new() }
    }
}

impl<const L: usize, const B: usize, const W: usize> Default for LaneMemory<L, B, W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const L: usize, const B: usize, const W: usize> fmt::Debug for LaneMemory<L, B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneMemory").field("lanes", &L).field("bytes", &B).field("window", &W).finish_non_exhaustive()
    }
}

impl<'a, const TEXT: usize> Client<Lent<'a, TEXT>> {
    /// Lends memory for lanes, once and before [`connect`](Client::connect): without it there is only lane 0, and the server is
    /// told so.
    ///
    /// # Errors
    /// [`LendError`]: there are no lanes then.
    pub fn lend_lanes<const L: usize, const B: usize, const W: usize>(
        &mut self,
        memory: &'a mut LaneMemory<L, B, W>,
    ) -> Result<(), LendError> {
        if !matches!(self.phase, Phase::Idle) || self.session.knows_lanes() {
            return Err(LendError::Late);
        }
        memory.parked.clear();
        memory.early.clear();
        if !self.session.kcp.lend_lanes(memory.parked.as_mut_view(), memory.early.as_mut_view()) {
            return Err(LendError::Window);
        }
        for lane in &mut memory.lanes {
            // There is room for them, see `LaneMemory::new`.
            self.session.lend_lane(lane.lend());
        }
        Ok(())
    }
}
