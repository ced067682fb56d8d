//! Frames that wait for room in the outgoing stream, and which of them are dropped meanwhile.
//!
//! They wait outside of the engine until it is about to send them, so what waits can still be overtaken, dropped or
//! superseded. A message may carry a time to live: one that still waits when it is over is forgotten, and one that goes
//! out earlier says what is left of it. Time and other properties are for peers that understand them (PROTOCOL.md 3.7):
//! others get the message without.
//!
//! What is decided here is decided for both memories. How frames lie in them differs: [`LentOutbox`] is a ring of bytes
//! in which frames tell their own length, `HeapOutbox` a rope whose pieces can be shared with other outboxes.

#[cfg(feature = "alloc")]
mod heap;
#[cfg_attr(not(feature = "lanes"), path = "absent/lanes.rs")]
mod lanes;
#[cfg(feature = "alloc")]
mod latest;
mod lent;
#[cfg(test)]
mod tests;

#[cfg(feature = "alloc")]
pub use heap::HeapOutbox;
#[cfg(feature = "alloc")]
pub(crate) use heap::Waits;
pub(crate) use lanes::Queues;
pub use lent::LentOutbox;

use crate::store::{Store, TooLarge};
use crate::time::Instant;

/// A store that keeps frames as well, for which it has to know what a frame is.
pub trait FrameStore: Store {
    /// Whole frames that wait for the engine.
    type Outbox: Outbox<Self::Tx>;

    /// Memory for another outbox, where memory grows.
    fn outbox() -> Option<Self::Outbox> {
        None
    }
}

/// Whole frames that wait for room in the outgoing stream `T`. A frame carries its own length, so the boundaries need no
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
    /// Appends one frame, given in parts; all or nothing. One with an `expires` is a PUB whose first part holds the whole
    /// head: it is to be forgotten if it still waits at that moment.
    ///
    /// # Errors
    /// [`PushError`]: nothing was appended.
    fn push(&mut self, parts: &[&[u8]], expires: Option<Instant>) -> Result<(), PushError>;
    /// When the front frame is to be forgotten; `None`: never, or there is none, or it has been moved in part.
    fn expires(&self) -> Option<Instant>;
    /// Forgets the oldest frame of which nothing was moved yet. False if there is none.
    fn drop_oldest(&mut self) -> bool;
    /// Forgets the rest of the front frame if it has been moved in part: the stream that has its beginning is no more.
    /// False if there is none.
    fn drop_begun(&mut self) -> bool;
    /// The same for a PUBX, whose properties are not for every peer.
    ///
    /// # Errors
    /// [`PushError`]: nothing was appended.
    fn push_extended(&mut self, parts: &[&[u8]], expires: Option<Instant>) -> Result<(), PushError> {
        self.push(parts, expires)
    }
    /// The same for one that gives way to the next one of its subject (see [`replace`](Self::replace)), which is the second part,
    /// behind the head. Where memory grows `seed` decides how these are found.
    ///
    /// # Errors
    /// [`PushError`]: nothing was appended.
    fn push_superseding(&mut self, parts: &[&[u8]], expires: Option<Instant>, _seed: u64) -> Result<(), PushError> {
        self.push_extended(parts, expires)
    }
    /// Puts a frame in the place of the one of its subject that was appended by
    /// [`push_superseding`](Self::push_superseding) and still waits. False if there is none, or if more than `limit` bytes
    /// would wait then.
    fn replace(&mut self, _parts: &[&[u8]], _expires: Option<Instant>, _limit: usize) -> bool {
        false
    }
    /// What waits of this subject gives way no more: something is about to be appended that stands behind it.
    fn hold(&mut self, _subject: &[u8]) {}
    /// Moves bytes into the stream, as many as fit and as are convenient, but nothing behind a frame whose time runs: in
    /// the stream it does not count any more, so such a frame is moved at its turn and alone. To a peer that knows
    /// properties it says what is left at `now`; to others all go without properties. `None` when nothing could be moved.
    fn move_to(&mut self, stream: &mut T, now: Instant, peer: Dialect) -> Option<Moved>;
    /// Forgets the frames whose bodies are longer than `limit` bytes on the wire and of which nothing was moved yet, and says
    /// how many those were. The others stay in their order.
    fn drop_longer(&mut self, limit: usize) -> u32;
    /// Forgets everything, and gives back what an idle session need not hold.
    fn clear(&mut self);

    /// Exchanges with another one where it is counted how long frames wait, if somebody counts that.
    fn swap_waits_with(&mut self, _other: &mut Self)
    where
        Self: Sized,
    {
    }

    /// Forgets the frames at the front whose time is over at `now`, and says how many those were. What waits behind a
    /// frame that stays is not looked at.
    fn expire(&mut self, now: Instant) -> u32 {
        let mut expired = 0;
        while self.expires().is_some_and(|at| at <= now) && self.drop_oldest() {
            expired += 1;
        }
        expired
    }
}

/// What is known of how a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Nothing yet: a frame with properties, other than its time, waits.
    Unknown,
    /// It knows no properties.
    Plain,
    /// It knows properties.
    Extended,
}

/// What went from an outbox into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Bytes moved.
    pub bytes: usize,
    /// Frames whose last byte was among them.
    pub frames: u32,
    /// A hash of the subject, if it was one frame that gives way to the next one of that.
    pub latest: Option<u64>,
}

/// Why a frame cannot wait in an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// Not now.
    Full,
    /// Never.
    TooLarge(TooLarge),
}
