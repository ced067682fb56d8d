//! The memory of a client without an allocator: one `static`, and its sizes are the only const generics there are.

use core::fmt;

use heapless::{Deque, String};

use super::{Parts, Subscription};
use crate::kcp::{self, Ack, Sent};
use crate::outbox::LentOutbox;
use crate::session::{self, Mark};
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

/// Why memory for one of a client's abilities was not taken.
#[cfg(any(feature = "confirm", feature = "lanes"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LendError {
    /// The client has such memory; or it is for lanes, and the server has been told already that the client knows none.
    Late,
    /// The client's window has more segments than `WINDOW` of the memory.
    Window,
}

#[cfg(any(feature = "confirm", feature = "lanes"))]
impl fmt::Display for LendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Late => "such memory has to be lent once, and that for lanes before the client connects",
            Self::Window => "the window of the memory for lanes is shorter than the client's",
        })
    }
}

#[cfg(any(feature = "confirm", feature = "lanes"))]
impl core::error::Error for LendError {}

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
