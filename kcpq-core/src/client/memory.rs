//! The memory of a client without an allocator: one `static`, and its sizes are the only const generics there are.

use core::fmt;

use heapless::{Deque, String};

#[cfg(feature = "lanes")]
use super::{Client, Phase};
use super::{Parts, Subscription};
use crate::kcp::{self, Ack, Sent};
#[cfg(feature = "lanes")]
use crate::kcp::{Early, LatestMessage, Parked};
use crate::outbox::LentOutbox;
use crate::session::{self, Mark};
#[cfg(feature = "lanes")]
use crate::store::{LENT_LANES, LentKept, LentNumbers, NumberSlot};
use crate::store::{Lent, LentInbox, LentRx, LentTx, SlotInfo};

/// Bytes for frames of the protocol that wait: HELLO and some SUBs. What finds no room is sent later.
const CONTROL: usize = 256;

/// Memory for one client: `WINDOW` segments each way of `MSS` data bytes, `QUEUE` bytes of messages that wait, messages
/// of up to `INBOX` bytes over several segments, and `SUBSCRIPTIONS` patterns of up to `TEXT` bytes.
///
/// All zeros, so a `static` of it lies in `.bss` and costs no flash. The engine's configuration should match:
/// `mtu = MSS + 24`, both windows `WINDOW`.
pub struct Memory<
    const MSS: usize,
    const WINDOW: usize,
    const QUEUE: usize,
    const INBOX: usize,
    const SUBSCRIPTIONS: usize,
    const TEXT: usize = 64,
> {
    tx: [[u8; MSS]; WINDOW],
    sent: Deque<Sent, WINDOW>,
    ends: Deque<u32, 1>,
    rx: [[u8; MSS]; WINDOW],
    slots: [SlotInfo; WINDOW],
    acks: Deque<Ack, WINDOW>,
    control: [u8; CONTROL],
    outbox: [u8; QUEUE],
    marks: Deque<Mark, WINDOW>,
    inbox: [u8; INBOX],
    subscriptions: Deque<Subscription<String<TEXT>>, SUBSCRIPTIONS>,
}

impl<const M: usize, const W: usize, const Q: usize, const I: usize, const S: usize, const T: usize>
    Memory<M, W, Q, I, S, T>
{
    /// Empty memory.
    pub const fn new() -> Self {
        Self {
            tx: [[0; M]; W],
            sent: Deque::new(),
            ends: Deque::new(),
            rx: [[0; M]; W],
            slots: [SlotInfo::EMPTY; W],
            acks: Deque::new(),
            control: [0; CONTROL],
            outbox: [0; Q],
            marks: Deque::new(),
            inbox: [0; I],
            subscriptions: Deque::new(),
        }
    }

    /// Lends the memory to a client.
    pub fn lend(&mut self) -> Parts<Lent<'_, T>> {
        self.sent.clear();
        self.ends.clear();
        self.acks.clear();
        self.marks.clear();
        self.subscriptions.clear();
        self.slots.fill(SlotInfo::EMPTY);
        Parts {
            session: session::Parts {
                kcp: kcp::Parts {
                    tx: LentTx::new(self.tx.as_flattened_mut()),
                    sent: self.sent.as_mut_view(),
                    ends: self.ends.as_mut_view(),
                    rx: LentRx::new(&mut self.slots, self.rx.as_flattened_mut()),
                    acks: self.acks.as_mut_view(),
                },
                control: LentOutbox::new(&mut self.control),
                outbox: LentOutbox::new(&mut self.outbox),
                inbox: LentInbox::new(&mut self.inbox),
                marks: self.marks.as_mut_view(),
            },
            subscriptions: self.subscriptions.as_mut_view(),
        }
    }
}

impl<const M: usize, const W: usize, const Q: usize, const I: usize, const S: usize, const T: usize> Default
    for Memory<M, W, Q, I, S, T>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const M: usize, const W: usize, const Q: usize, const I: usize, const S: usize, const T: usize> fmt::Debug
    for Memory<M, W, Q, I, S, T>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("mss", &M).field("window", &W).finish_non_exhaustive()
    }
}

/// Messages of a lane that are under way and of which only the latest counts, and as many subjects; what is more goes as others
/// do.
#[cfg(feature = "lanes")]
const LATEST: usize = 8;

/// Memory for `LANES` lanes besides lane 0 (PROTOCOL.md 2.12), 3 at most: of each `BYTES` that wait, `BYTES` that are under way,
/// and a message of `BYTES` that comes in several segments. Any lane may be used; the first ones that are published in, or
/// subscribed to, have the memory for good. `WINDOW` is that of the client.
///
/// All zeros, as [`Memory`] is.
#[cfg(feature = "lanes")]
pub struct LaneMemory<const LANES: usize, const BYTES: usize, const WINDOW: usize> {
    lanes: [OneLane<BYTES, WINDOW>; LANES],
    parked: Deque<Parked<LentKept>, WINDOW>,
    early: Deque<Early, WINDOW>,
}

#[cfg(feature = "lanes")]
struct OneLane<const BYTES: usize, const WINDOW: usize> {
    tx: [u8; BYTES],
    messages: Deque<LatestMessage, LATEST>,
    subjects: [NumberSlot; LATEST],
    outbox: [u8; BYTES],
    inbox: [u8; BYTES],
    marks: Deque<Mark, WINDOW>,
}

#[cfg(feature = "lanes")]
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

#[cfg(feature = "lanes")]
impl<const L: usize, const B: usize, const W: usize> LaneMemory<L, B, W> {
    /// Empty memory.
    pub const fn new() -> Self {
        const { assert!(L >= 1 && L <= LENT_LANES, "LANES is 1 to 3") };
        Self { lanes: [const { OneLane::EMPTY }; L], parked: Deque::new(), early: Deque::new() }
    }
}

#[cfg(feature = "lanes")]
impl<const L: usize, const B: usize, const W: usize> Default for LaneMemory<L, B, W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "lanes")]
impl<const L: usize, const B: usize, const W: usize> fmt::Debug for LaneMemory<L, B, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneMemory").field("lanes", &L).field("bytes", &B).field("window", &W).finish_non_exhaustive()
    }
}

/// Why memory for lanes was not taken.
#[cfg(feature = "lanes")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LendError {
    /// The client was connected already, or lent such memory: its server has been told what it knows.
    Late,
    /// The client's window has more segments than `WINDOW` of the memory.
    Window,
}

#[cfg(feature = "lanes")]
impl fmt::Display for LendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "memory for lanes has to be lent once, and before the client connects",
            Self::Window => "the window of the memory for lanes is shorter than the client's",
        })
    }
}

#[cfg(feature = "lanes")]
impl core::error::Error for LendError {}

#[cfg(feature = "lanes")]
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

#[cfg(feature = "alloc")]
impl Parts<crate::store::Heap> {
    /// Memory from the allocator, for the windows and frame sizes of `config`.
    pub fn heap(config: &super::Config) -> Self {
        use crate::outbox::HeapOutbox;
        use crate::store::HeapInbox;
        Self {
            session: session::Parts {
                kcp: kcp::Parts::heap(&config.kcp),
                control: HeapOutbox::default(),
                outbox: HeapOutbox::default(),
                inbox: HeapInbox::new((config.frames.max_body as usize).saturating_add(crate::frame::LENGTH), ARENA),
                marks: Default::default(),
            },
            subscriptions: Default::default(),
        }
    }
}

/// Size of the buffers that small messages share, in bytes.
#[cfg(feature = "alloc")]
const ARENA: usize = 16 * 1024;
