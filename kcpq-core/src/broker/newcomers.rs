//! Datagrams of peers of whom nothing is known, which wait while there are many of them.
//!
//! To open a session takes many times as long as to find one, and anybody can have one opened who writes a sender into a
//! datagram. So there are so many in a turn at most, and who is here already is served in between. What comes beyond waits in its
//! order, also what would be refused: it may belong to a session that is about to be opened.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

/// See above.
#[derive(Debug)]
pub(super) struct Newcomers<P> {
    waiting: VecDeque<(P, Box<[u8]>)>,
    /// Bytes of memory, about.
    size: usize,
}

/// Most bytes of memory: some ten thousand first datagrams.
const MAX_SIZE: usize = 1024 * 1024;
/// What one takes beside its bytes.
const OVERHEAD: usize = 80;

impl<P> Newcomers<P> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), size: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Keeps a datagram, without its protection. False if there is no room.
    pub(super) fn push(&mut self, from: P, datagram: &[u8]) -> bool {
        let size = self.size + datagram.len() + OVERHEAD;
        let fits = size <= MAX_SIZE;
        if fits {
            self.size = size;
            self.waiting.push_back((from, datagram.into()));
        }
        fits
    }

    /// The one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<(P, Box<[u8]>)> {
        let (from, datagram) = self.waiting.pop_front()?;
        self.size = self.size.saturating_sub(datagram.len() + OVERHEAD);
        Some((from, datagram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_came_first_have_their_turn_first_and_no_more_wait_than_there_is_room_for() {
        let mut newcomers = Newcomers::new();
        let count = (0..).take_while(|number| newcomers.push(*number, &[0; 420])).count();
        assert_eq!(count, MAX_SIZE / 500);
        // One that goes makes room for another one.
        assert_eq!(newcomers.pop().map(|(from, _)| from), Some(0));
        assert!(newcomers.push(count, &[1; 420]) && !newcomers.push(0, &[0; 420]));
        for number in 1..=count {
            assert_eq!(newcomers.pop().map(|(from, _)| from), Some(number));
        }
        assert!(newcomers.is_empty() && newcomers.push(0, &[]));
    }
}
