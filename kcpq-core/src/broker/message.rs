//! A message on its way to its subscribers: the frame that came, made the MSG that leaves.
//!
//! A PUB differs from its MSG in the command byte, a PUBT in the time to live behind the message as well. So the frame is
//! not parsed and written anew but used as it came, with another head; and where several subscribers keep it, or it is
//! long, all of them keep the same bytes.

use bytes::{Bytes, BytesMut};

use crate::frame::{self, HEAD, Head, command};
use crate::outbox::{HeapOutbox, Outbox};
use crate::store::{HeapInbox, Inbox};
use crate::time::Instant;

/// Messages from this size on are kept once for all their subscribers, if these are likely to be several: a count of
/// references each costs less than a copy each.
const SHARE_FROM: usize = 1024;
/// And for a single one from this size on.
const SHARE_ALONE_FROM: usize = 4096;

/// See above.
pub(super) struct Message<'f> {
    /// The frame up to the end of the message.
    bytes: &'f [u8],
    /// Bytes behind it that its head still counts: a time to live.
    cut: usize,
    /// When it is to be forgotten where it still waits.
    expires: Option<Instant>,
    /// The MSG, once it exists by itself.
    shared: Option<Bytes>,
    /// From which size on it is to exist.
    share_from: usize,
}

impl<'f> Message<'f> {
    /// The message of a whole PUB, or PUBT if it expires; kept once for all subscribers if it has `share_from` bytes.
    pub(super) fn published(frame: &'f [u8], expires: Option<Instant>, share_from: usize) -> Self {
        let cut = tail(expires);
        let bytes = frame.get(..frame.len().saturating_sub(cut)).unwrap_or_default();
        Self { bytes, cut, expires, shared: None, share_from }
    }

    /// A message that is a MSG already, whose bytes stay for as long as somebody wants them.
    pub(super) fn made(msg: &'f Bytes, expires: Option<Instant>) -> Self {
        Self { bytes: msg, cut: 0, expires, shared: Some(msg.clone()), share_from: 0 }
    }

    /// A MSG that came together with others, from another shard: a small one would keep all of them.
    pub(super) fn relayed(msg: &'f Bytes, expires: Option<Instant>, share_from: usize) -> Self {
        let shared = (msg.len() >= SHARE_FROM || expires.is_some()).then(|| msg.clone());
        Self { bytes: msg, cut: 0, expires, shared, share_from }
    }

    /// Bytes of the frame as it was published.
    pub(super) fn frame_len(&self) -> usize {
        self.bytes.len() + self.cut
    }

    /// Bytes of the MSG.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of its body, as its length field says.
    pub(super) fn body_len(&self) -> usize {
        self.bytes.len() - frame::LENGTH
    }

    /// Appends the message to what waits for one subscriber.
    pub(super) fn append_to(&mut self, queue: &mut HeapOutbox) {
        if self.bytes.len() < self.share_from && self.expires.is_none() {
            // Copied next to the other small ones: cheaper than a count of references each.
            if let Some((head, rest)) = self.head() {
                let _ = queue.push(&[&head, rest], None);
            }
            return;
        }
        queue.push_shared(self.shared(), self.expires);
    }

    /// The same where only the latest message of each subject is to wait, in the place of the one before unless more than
    /// `limit` bytes would wait then. True if there was one.
    pub(super) fn supersede_in(&mut self, queue: &mut HeapOutbox, limit: usize) -> bool {
        queue.supersede(&self.shared(), self.expires, limit)
    }

    /// The same where there was none before. `seed` is random: peers choose the subjects.
    pub(super) fn append_latest_to(&mut self, queue: &mut HeapOutbox, seed: u64) {
        queue.push_latest(self.shared(), self.expires, seed);
    }

    /// The head of the MSG, and what follows it.
    fn head(&self) -> Option<([u8; HEAD], &[u8])> {
        let (head, rest) = self.bytes.split_first_chunk::<HEAD>()?;
        Some((Head::from_bytes(*head).untimed(command::MSG, self.cut).to_bytes(), rest))
    }

    /// The MSG by itself, for all who keep it.
    fn shared(&mut self) -> Bytes {
        if self.shared.is_none()
            && let Some((head, rest)) = self.head()
        {
            let mut frame = BytesMut::with_capacity(self.bytes.len());
            frame.extend_from_slice(&head);
            frame.extend_from_slice(rest);
            self.shared = Some(frame.freeze());
        }
        self.shared.clone().unwrap_or_default()
    }
}

/// From which size on a message is kept once for all, if it has so many subscribers.
pub(super) fn share_from(reach: u32) -> usize {
    if reach > 1 { SHARE_FROM } else { SHARE_ALONE_FROM }
}

/// Takes a PUB, or a PUBT that expires, out of where it was assembled, as a MSG: only the head is written again.
pub(super) fn take_assembled(inbox: &mut HeapInbox, expires: Option<Instant>) -> Bytes {
    let cut = tail(expires);
    if let Some(head) = inbox.bytes_mut().first_chunk_mut() {
        *head = Head::from_bytes(*head).untimed(command::MSG, cut).to_bytes();
    }
    let mut msg = inbox.take();
    msg.truncate(msg.len() - cut);
    inbox.clear();
    msg
}

/// Bytes of the time to live behind a message, by when it expires.
fn tail(expires: Option<Instant>) -> usize {
    if expires.is_some() { frame::TTL } else { 0 }
}
