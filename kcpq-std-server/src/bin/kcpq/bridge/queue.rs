//! What waits for the kcpq server: it is bounded, and the oldest makes room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use event_listener::Event;
use kcpq_smol::{Bytes, Lane};

/// A message for the kcpq server.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) subject: Box<str>,
    /// Where answers are to go.
    pub(super) reply: Option<Box<str>>,
    pub(super) headers: Vec<(Box<str>, Box<str>)>,
    pub(super) payload: Bytes,
    pub(super) lane: Lane,
    /// Of its subject only the latest counts.
    pub(super) latest: bool,
    /// When it is worth nothing any more.
    pub(super) expires: Option<Instant>,
}

impl Waiting {
    /// Bytes that it is taken for.
    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.subject.len() + self.payload.len() + headers + OVERHEAD
    }
}

/// What a message takes besides what it says.
const OVERHEAD: usize = 128;

/// See above. One thread fills it, another empties it.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    changed: Event,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Waiting>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// With room for so many bytes; one message has room, however long it is.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default(), changed: Event::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message. How many had to go for it.
    pub(super) fn push(&self, message: Waiting) -> u64 {
        let mut dropped = 0;
        let mut state = self.lock();
        state.bytes += message.size();
        state.messages.push_back(message);
        while state.bytes > self.capacity && state.messages.len() > 1 {
            if let Some(oldest) = state.messages.pop_front() {
                state.bytes -= oldest.size();
                dropped += 1;
            }
        }
        drop(state);
        self.changed.notify(usize::MAX);
        dropped
    }

    /// The next one; `None` when it is closed, and empty.
    pub(super) async fn next(&self) -> Option<Waiting> {
        loop {
            // Listening comes before looking, so that nothing is missed between the two.
            let changed = self.changed.listen();
            {
                let mut state = self.lock();
                if let Some(message) = state.messages.pop_front() {
                    state.bytes -= message.size();
                    return Some(message);
                }
                if state.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify(usize::MAX);
    }

    /// Messages and bytes that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let state = self.lock();
        (state.messages.len(), state.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Waiting {
        let payload = text.as_bytes().to_vec().into();
        let subject = "a".into();
        Waiting { subject, reply: None, headers: Vec::new(), payload, lane: Lane::NORMAL, latest: false, expires: None }
    }

    #[test]
    fn the_oldest_makes_room_and_one_has_room_however_long() {
        async_io::block_on(async {
            let queue = Queue::new(3 * (OVERHEAD + 2));
            assert_eq!((0..5).map(|number| queue.push(message(&number.to_string()))).sum::<u64>(), 2);
            assert_eq!(queue.waiting(), (3, 3 * (OVERHEAD + 2)));
            assert_eq!(queue.next().await.unwrap().payload, "2");
            assert_eq!(queue.push(message(&"x".repeat(1_000))), 2);
            queue.close();
            assert_eq!(queue.next().await.unwrap().payload.len(), 1_000);
            assert!(queue.next().await.is_none());
            assert_eq!(queue.waiting(), (0, 0));
        });
    }
}
