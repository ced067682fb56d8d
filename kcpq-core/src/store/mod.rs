//! Where the bytes of a session are kept: one narrow trait, two memories.
//!
//! The engine, the frame reader and the client are written once, over [`Store`]. What they keep lies in
//!
//! * [`Lent`]: containers of fixed capacity that borrow from a `static` of the firmware (no allocator), or
//! * `Heap` (feature `alloc`): ropes of `Bytes`; an idle session holds next to nothing, and a payload that goes to a
//!   thousand subscribers is kept once.
//!
//! Containers hold bytes and small records, and know nothing of what these mean. Every thing that can be full has a name
//! here. `Full` means "later": the same call can succeed once something was acknowledged or taken. `TooLarge` means
//! "never": it does not fit even when empty.
//!
//! ```text
//! outbox -> Tx -> datagram         datagram -> Rx -> Inbox -> message
//!           sent, not                          ahead of a      one over
//!           acknowledged                       gap, or unread  several segments
//! ```
//!
//! What waits before `Tx` are whole frames, so it is kept a floor higher: see `outbox`.

#[cfg(feature = "alloc")]
mod gather;
#[cfg(feature = "alloc")]
mod heap;
#[cfg(feature = "alloc")]
mod index;
#[cfg(feature = "lanes")]
mod lanes;
mod lent;
mod ring;
#[cfg(feature = "alloc")]
mod rope;
#[cfg(test)]
mod tests;

use core::fmt;
#[cfg(feature = "lanes")]
use core::ops::DerefMut;

#[cfg(feature = "alloc")]
pub use gather::Gather;
#[cfg(feature = "alloc")]
pub use heap::{Heap, HeapInbox, HeapRx};
#[cfg(feature = "alloc")]
pub use index::{HeapIndex, HeapText};
#[cfg(all(feature = "lanes", feature = "alloc"))]
pub use lanes::{HeapLanes, HeapNumbers};
#[cfg(feature = "lanes")]
pub use lanes::{Inline, LENT_LANES, LentLanes, LentNumbers, NumberSlot, Numbers, PerLane};
#[cfg(feature = "lanes")]
pub use lent::LentKept;
pub use lent::{Lent, LentInbox, LentRx, NoIndex, SlotInfo};
pub use ring::LentTx;
pub(crate) use ring::{Ring, copy};
#[cfg(feature = "alloc")]
pub use rope::HeapTx;
#[cfg(feature = "alloc")]
pub(crate) use rope::Piece;

/// The kinds of container that a session is made of.
pub trait Store: Sized {
    /// A payload changing hands: `&[u8]` where memory is lent, `Bytes` where it is shared.
    type Body<'b>: AsRef<[u8]>;
    /// A short text kept: a subscription's pattern.
    type Text: Text;
    /// Where to look for a text among records.
    type Index: Index<Self::Text>;
    /// A queue of small records: segments in flight, acknowledgements owed, subscriptions.
    type Queue<T: 'static>: Queue<T>;
    /// The byte stream that was given to the engine and is not yet acknowledged.
    type Tx: TxStream;
    /// Segments that arrived ahead of a gap, or that nobody has read yet.
    type Rx: RxWindow;
    /// The record being put together from several segments.
    type Inbox: Inbox<Self>;
    /// Something for each lane but lane 0.
    #[cfg(feature = "lanes")]
    type Lanes<T>: PerLane<T>;
    /// A value that few sessions have, so that the others have no room for it where memory grows.
    #[cfg(feature = "lanes")]
    type Own<T>: From<T> + DerefMut<Target = T>;
    /// Numbers for the subjects of a lane.
    #[cfg(feature = "lanes")]
    type Numbers: Numbers;

    /// Memory grows: what is needed later is taken then. Where it does not, all there will be was lent.
    const GROWS: bool;

    /// Memory for another stream beside the one that was given, where memory grows.
    fn stream() -> Option<Self::Tx> {
        None
    }

    /// An empty queue, where memory grows.
    #[cfg(any(feature = "lanes", feature = "confirm", feature = "request"))]
    fn queue<T: 'static>() -> Option<Self::Queue<T>> {
        None
    }

    /// Numbers for subjects, where memory grows.
    #[cfg(feature = "lanes")]
    fn numbers() -> Option<Self::Numbers> {
        None
    }
}

/// A text of its own, as long as the store allows.
pub trait Text: AsRef<str> + Sized + 'static {
    /// Keeps a copy of `text`.
    ///
    /// # Errors
    /// [`TooLarge`] when texts of this store are shorter.
    fn new(text: &str) -> Result<Self, TooLarge>;

    /// Keeps a copy of these texts, one behind the other.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[cfg(any(feature = "alloc", feature = "queue"))]
    fn concat(parts: [&str; 3]) -> Result<Self, TooLarge>;

    /// True if both are the same.
    fn is(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

/// Where records of a text may be in a queue of records that have numbers. Memory that grows knows the numbers; memory that is
/// lent is small, and has all records looked at.
pub trait Index<T: Text>: Default {
    /// A record of this text and number is there.
    fn insert(&mut self, text: &T, number: u32);
    /// It is not any more.
    fn remove(&mut self, text: &T, number: u32);
    /// Where to look for the records of `text` among `len`, in no particular order; there may be others.
    fn places(&self, text: &T, len: usize) -> impl Iterator<Item = u32>;
    /// The position of the record at such a place. `find` tells that of a number.
    fn position(place: u32, find: impl FnOnce(u32) -> Option<usize>) -> Option<usize>;
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
    /// Forgets all entries.
    fn clear(&mut self);
    /// True if another entry fits.
    fn has_room(&self) -> bool;
    /// The most entries that it can hold, if there is a bound.
    fn capacity(&self) -> usize {
        usize::MAX
    }
    /// Gives back what an empty one need not hold, where memory grows.
    fn shrink(&mut self) {}
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
    /// The same for a place in a datagram, which may stay a gap if whoever sends it gathers what lies elsewhere.
    #[inline]
    fn place(&mut self, skip: usize, out: &mut [u8]) {
        self.copy_to(skip, out);
    }
    /// The same for a stream beside the one that knows who gathers.
    #[cfg(feature = "lanes")]
    fn place_beside(&mut self, _main: &mut Self, skip: usize, out: &mut [u8]) {
        self.copy_to(skip, out);
    }
    /// Forgets the first `count` bytes.
    fn release(&mut self, count: usize);
    /// Forgets everything.
    fn clear(&mut self);
}

/// How many more bytes a receive window may take, where memory is shared with others and short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of what comes next, and goes on to where there is room for it.
    pub next: usize,
    /// Of what has to wait for something that is missing.
    pub waiting: usize,
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
    /// The segment in `slot`, wherever that is: its fragment number and its data.
    #[cfg(feature = "lanes")]
    fn get(&self, slot: usize) -> Option<(u8, &[u8])>;
    /// Data that were taken out of the window and have not been read.
    #[cfg(feature = "lanes")]
    type Kept: 'static;
    /// Takes the data out of `slot`, which stays in use, with this fragment number and `data` in place of them: three bytes at
    /// most.
    #[cfg(feature = "lanes")]
    fn exchange(&mut self, slot: usize, frg: u8, data: &[u8]) -> Option<Self::Kept>;
    /// True if there is room for a segment of so many bytes, wherever in the window or beside it.
    #[cfg(feature = "lanes")]
    fn can_keep(&self, len: usize) -> bool;
    /// Keeps data beside the window; `None` if there is no room for them.
    #[cfg(feature = "lanes")]
    fn keep(&mut self, data: &[u8]) -> Option<Self::Kept>;
    /// Data that are kept.
    #[cfg(feature = "lanes")]
    fn kept<'k>(&'k self, kept: &'k Self::Kept) -> &'k [u8];
    /// These have been read.
    #[cfg(feature = "lanes")]
    fn release(&mut self, kept: Self::Kept);
    /// Bytes of memory that they take, where memory is shared with others.
    #[cfg(feature = "lanes")]
    fn weight(_kept: &Self::Kept) -> usize {
        0
    }
    /// Takes `count` bytes off the front segment.
    fn consume(&mut self, count: usize);
    /// Moves the window on by one segment, whether the front slot holds one or not.
    fn advance(&mut self);
    /// Bytes of memory that its segments take, where memory is shared with others; 0 where it is its own.
    fn held(&self) -> usize {
        0
    }
    /// How much more it may take, where memory is shared with others and short.
    fn room(&self) -> Option<Room> {
        None
    }
    /// Sets that, where memory is shared.
    fn set_room(&mut self, _room: Option<Room>) {}
    /// Segments that have left the window and count as unread all the same, where such are kept.
    fn elsewhere(&self) -> usize {
        0
    }
    /// Sets that, where such are kept.
    fn set_elsewhere(&mut self, _segments: usize) {}
    /// Forgets everything.
    fn clear(&mut self);
}

/// A record put together from pieces.
pub trait Inbox<S: Store> {
    /// The longest record it can hold, in bytes.
    fn capacity(&self) -> usize;
    /// The bytes of the present record so far.
    fn bytes(&self) -> &[u8];
    /// So many bytes of the present record are still to come: no memory is taken for them, and none beyond them.
    fn expect(&mut self, _missing: usize) {}
    /// Appends to the present record. The caller has checked its length against [`capacity`](Self::capacity).
    fn write(&mut self, data: &[u8]);
    /// Another one like it, without a record, where memory grows.
    fn another(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
    /// Hands out the finished record; [`clear`](Self::clear) is to be called before a new one begins.
    fn take(&mut self) -> S::Body<'_>;
    /// Hands out the finished record and keeps it.
    fn duplicate(&mut self) -> S::Body<'_>;
    /// Hands out a record that lies in one piece in `source` and needs no putting together.
    fn adopt<'b>(&'b mut self, source: &'b [u8]) -> S::Body<'b>;
    /// Forgets the present record.
    fn clear(&mut self);
    /// Takes no memory for the next record because of those before.
    fn be_frugal(&mut self) {}
    /// Bytes of memory that the present record takes, or may take with what comes next, where memory is shared with others;
    /// 0 where it is its own.
    fn held(&self) -> usize {
        0
    }
    /// Bytes that the present record will have once it is whole, where memory is shared with others.
    fn announced(&self) -> usize {
        0
    }
    /// Bytes that can come to it without more of that.
    fn ahead(&self) -> usize {
        usize::MAX
    }
}
