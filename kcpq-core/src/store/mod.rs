//! The memory map of a session: one narrow trait, two memories.
//!
//! The engine, the frame reader and the client are written once, over [`Store`]. What they keep lies in
//!
//! * [`Lent`]: containers of fixed capacity that borrow from a `static` of the firmware (no allocator), or
//! * `Heap` (feature `alloc`): ropes of `Bytes`; an idle session holds next to nothing, and a payload that goes to a
//!   thousand subscribers is kept once.
//!
//! Every thing that can be full has a name here. `Full` means "later": the same call can succeed once something was
//! acknowledged or taken. `TooLarge` means "never": it does not fit even when empty.
//!
//! ```text
//! publish -> Outbox -> Tx -> datagram        datagram -> Rx -> Inbox -> message
//!            frames    sent, not              ahead of a      a frame over
//!            that wait acknowledged           gap, or unread  several segments
//! ```

#[cfg(feature = "alloc")]
mod heap;
#[cfg(feature = "alloc")]
mod latest;
mod lent;
#[cfg(all(test, feature = "alloc"))]
mod tests;

use core::fmt;

use crate::time::Instant;
#[cfg(feature = "alloc")]
pub use heap::{Heap, HeapInbox, HeapOutbox, HeapRx, HeapTx};
pub use lent::{Lent, LentInbox, LentOutbox, LentRx, LentTx, SlotInfo};

/// The kinds of container that a session is made of.
pub trait Store: Sized {
    /// A payload changing hands: `&[u8]` where memory is lent, `Bytes` where it is shared.
    type Body<'b>: AsRef<[u8]>;
    /// A short text kept: a subscription's pattern.
    type Text: Text;
    /// A queue of small records: segments in flight, acknowledgements owed, subscriptions.
    type Queue<T: 'static>: Queue<T>;
    /// The byte stream that was given to the engine and is not yet acknowledged.
    type Tx: TxStream;
    /// Segments that arrived ahead of a gap, or that nobody has read yet.
    type Rx: RxWindow;
    /// Whole frames that wait for the engine.
    type Outbox: Outbox<Self::Tx>;
    /// The frame being put together.
    type Inbox: Inbox<Self>;
}

/// A text of its own, as long as the store allows.
pub trait Text: AsRef<str> + Sized + 'static {
    /// Keeps a copy of `text`.
    ///
    /// # Errors
    /// [`TooLarge`] when texts of this store are shorter.
    fn new(text: &str) -> Result<Self, TooLarge>;
}

/// No room now; the same can succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Full;

/// More than this memory can ever hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TooLarge {
    /// The most that fits, in bytes.
    pub limit: usize,
    /// What was asked for, in bytes.
    pub actual: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room at the moment")
    }
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, but at most {} fit", self.actual, self.limit)
    }
}

impl core::error::Error for Full {}
impl core::error::Error for TooLarge {}

/// A first-in first-out queue that can be indexed from its front.
pub trait Queue<T> {
    /// Number of entries.
    fn len(&self) -> usize;
    /// True without entries.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Entry `index`, counted from the front.
    fn get(&self, index: usize) -> Option<&T>;
    /// Entry `index`, counted from the front.
    fn get_mut(&mut self, index: usize) -> Option<&mut T>;
    /// Adds `item` at the back, or says that there is no room.
    fn push(&mut self, item: T) -> Result<(), Full>;
    /// Takes the front entry.
    fn pop(&mut self) -> Option<T>;
    /// Takes entry `index` out; the order of the others may change.
    fn swap_remove(&mut self, index: usize) -> Option<T>;
    /// Forgets all entries.
    fn clear(&mut self);
    /// True if another entry fits.
    fn has_room(&self) -> bool;
}

/// The outgoing byte stream: appended at the end, read anywhere, released at the front.
pub trait TxStream {
    /// Bytes held: not released yet.
    fn len(&self) -> usize;
    /// True without bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Appends `bytes`, all or nothing.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Full>;
    /// Copies `out.len()` bytes from `skip` bytes behind the front. The caller stays within [`len`](Self::len); what
    /// lies beyond is left as it was.
    fn copy_to(&mut self, skip: usize, out: &mut [u8]);
    /// Forgets the first `count` bytes.
    fn release(&mut self, count: usize);
    /// Forgets everything.
    fn clear(&mut self);
}

/// The receive window: a ring of segments counted from the first that was not yet taken.
pub trait RxWindow {
    /// The most segments it can hold.
    fn slots(&self) -> usize;
    /// Stores `data` in `slot` unless something is there already.
    ///
    /// # Errors
    /// [`TooLarge`] when a slot cannot hold so many bytes, or there is no such slot.
    fn put(&mut self, slot: usize, frg: u8, data: &[u8]) -> Result<(), TooLarge>;
    /// True if `slot` holds a segment.
    fn has(&self, slot: usize) -> bool;
    /// The rest of the front segment, and its fragment number.
    fn front(&self) -> Option<(&[u8], u8)>;
    /// The fragment number and the length of the segment in `slot`.
    fn peek(&self, slot: usize) -> Option<(u8, usize)>;
    /// Takes `count` bytes off the front segment.
    fn consume(&mut self, count: usize);
    /// Moves the window on by one segment, whether the front slot holds one or not.
    fn advance(&mut self);
    /// Forgets everything.
    fn clear(&mut self);
}

/// Whole frames that wait for room in the outgoing stream. A frame carries its own length, so the boundaries need no
/// list.
pub trait Outbox<T> {
    /// Bytes that wait.
    fn len(&self) -> usize;
    /// True if nothing waits.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Frames that wait, a partly moved one included.
    fn frames(&self) -> usize;
    /// True if the front frame has been moved in part, so that no other frame may go before the rest of it.
    fn mid_frame(&self) -> bool;
    /// Appends one frame, given in parts; all or nothing.
    ///
    /// # Errors
    /// [`PushError`]: nothing was appended.
    fn push(&mut self, parts: &[&[u8]]) -> Result<(), PushError>;
    /// Appends one PUB, given in parts, that is to be forgotten if it still waits at `expires`; all or nothing.
    ///
    /// # Errors
    /// [`PushError`]: nothing was appended.
    fn push_until(&mut self, parts: &[&[u8]], expires: Instant) -> Result<(), PushError>;
    /// Forgets the frames at the front whose time is over at `now`, and says how many those were. What waits behind a
    /// frame that stays is not looked at.
    fn expire(&mut self, now: Instant) -> u32;
    /// Forgets the oldest frame of which nothing was moved yet. False if there is none.
    fn drop_oldest(&mut self) -> bool;
    /// Forgets the rest of the front frame if it has been moved in part: the stream that has its beginning is no more.
    /// False if there is none.
    fn drop_begun(&mut self) -> bool;
    /// Moves bytes into the stream, as many as fit and as are convenient; frames whose time is over at `now` are
    /// forgotten instead. With `tell` a PUB whose time runs becomes a PUBT that says what is left. `None` when nothing
    /// could be moved or forgotten.
    fn move_to(&mut self, stream: &mut T, now: Instant, tell: bool) -> Option<Moved>;
    /// Forgets everything, and gives back what an idle session need not hold.
    fn clear(&mut self);
}

/// What went from an outbox into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes moved.
    pub bytes: usize,
    /// Frames whose last byte was among them.
    pub frames: u32,
    /// Frames that were forgotten because their time was over.
    pub expired: u32,
}

/// Why a frame cannot wait in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// Not now.
    Full,
    /// Never.
    TooLarge(TooLarge),
}

/// The frame being put together from several segments.
pub trait Inbox<S: Store> {
    /// The longest frame it can hold, in bytes.
    fn capacity(&self) -> usize;
    /// The bytes of the current frame so far.
    fn bytes(&self) -> &[u8];
    /// Appends to the current frame. The caller has checked the frame's length against [`capacity`](Self::capacity);
    /// no memory is taken for bytes that have not arrived.
    fn write(&mut self, data: &[u8]);
    /// Hands out the finished frame; the next [`write`](Self::write) begins a new one.
    fn take(&mut self) -> S::Body<'_>;
    /// Hands out the finished frame and keeps it.
    fn duplicate(&mut self) -> S::Body<'_>;
    /// Hands out a frame that lies whole in `source` and needs no putting together.
    fn adopt<'b>(&'b mut self, source: &'b [u8]) -> S::Body<'b>;
    /// Forgets the current frame.
    fn clear(&mut self);
}
