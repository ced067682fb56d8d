//! Long messages of a publisher that is held back: they are put together as they come, in the memory that their subscribers
//! share afterwards, and wait there instead of in the receive window, from which they would have to be copied once more.
//!
//! They count as unread segments, so that the window that the publisher is told is what it would be otherwise, but for the one
//! that is next.

use alloc::collections::VecDeque;

use bytes::Bytes;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    messages: VecDeque<Waiting>,
    /// Of all messages.
    bytes: usize,
}

/// A whole frame, with the head of a MSG.
#[derive(Debug)]
struct Waiting {
    msg: Bytes,
    /// How many segments of the session had been read when it was whole, wrapping; `None` as long as that is not known.
    end: Option<u32>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of memory that it takes.
    pub(super) fn held(&self) -> usize {
        self.bytes + self.messages.capacity() * size_of::<Waiting>()
    }

    /// Another one has come.
    pub(super) fn push(&mut self, msg: Bytes) {
        self.bytes += msg.len();
        self.messages.push_back(Waiting { msg, end: None });
    }

    /// The next one, which waits no longer.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let Waiting { msg, .. } = self.messages.pop_front()?;
        self.bytes -= msg.len();
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        Some(msg)
    }

    /// So many segments have been read now. Returns how many of them count as unread.
    pub(super) fn settle(&mut self, read: u32) -> usize {
        for waiting in self.messages.iter_mut().rev() {
            if waiting.end.is_some() {
                break;
            }
            waiting.end = Some(read);
        }
        let next = self.messages.front().and_then(|waiting| waiting.end);
        next.map_or(0, |end| read.wrapping_sub(end) as usize)
    }

    /// Nobody will get them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn what_is_behind_the_next_message_counts_as_unread() {
        let mut backlog = Backlog::default();
        let message = |len: usize| Bytes::from([7].repeat(len));
        assert_eq!(backlog.settle(u32::MAX - 1), 0);
        backlog.push(message(100));
        // It is not known better where it ended.
        assert_eq!(backlog.settle(u32::MAX), 0);
        backlog.push(message(200));
        backlog.push(message(300));
        assert_eq!(backlog.settle(2), 3);
        assert_eq!(backlog.settle(4), 5);
        assert!(backlog.held() >= 600);
        assert_eq!(backlog.pop().map(|msg| msg.len()), Some(100));
        assert_eq!(backlog.settle(4), 2);
        let rest: Vec<usize> = core::iter::from_fn(|| backlog.pop()).map(|msg| msg.len()).collect();
        assert_eq!(rest, [200, 300]);
        assert_eq!((backlog.settle(4), backlog.held(), backlog.is_empty()), (0, 0, true));
    }
}
