//! Messages of which the newest are kept: newer ones take the place of older ones of their subject, or of the oldest there
//! are. The reader takes one at a time, for what it had taken out could not be replaced any more.
//!
//! They lie in the queue that the server has for each subscriber, so both keep and drop the same.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kcpq_core::Instant;
use kcpq_core::client::Arrived;
use kcpq_core::outbox::{HeapOutbox, Outbox};

use super::{Counters, Full, Rules, add};
use crate::clock::Clock;
use crate::message::Message;
use crate::sync::{Mutex, MutexGuard, atomic::Ordering::Relaxed};

/// Messages shorter than this lie by themselves: they may stay long after what they came with is gone.
const COPY_BELOW: usize = 4096;

#[derive(Default)]
struct Waiting {
    queue: HeapOutbox,
    /// The reader, if it waits.
    waker: Option<Waker>,
    closed: bool,
}

/// What both sides share.
#[derive(Clone)]
struct Shared {
    waiting: Arc<Mutex<Waiting>>,
    counters: Arc<Counters>,
    clock: Clock,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expired(&self, count: u32) {
        self.counters.expired.fetch_add(count.into(), Relaxed);
    }
}

/// Both sides of an empty one.
pub(super) fn queue(rules: Rules, counters: Arc<Counters>, clock: Clock) -> (Filler, Reader) {
    let shared = Shared { waiting: Arc::default(), counters, clock };
    // Peers choose the subjects, and should not know where these lie.
    let seed = RandomState::new().hash_one(());
    (Filler { shared: shared.clone(), rules, seed }, Reader { shared })
}

/// The filling side.
pub(super) struct Filler {
    shared: Shared,
    rules: Rules,
    seed: u64,
}

impl Filler {
    /// Queues a message, and says how many were dropped because of it.
    pub(super) fn take(&mut self, arrived: Arrived<'_>, expires: Option<Instant>) -> u64 {
        let frame = match arrived {
            Arrived::Whole(bytes) if bytes.len() >= COPY_BELOW => bytes,
            lent => Bytes::copy_from_slice(lent.bytes()),
        };
        let Self { shared, rules: Rules { capacity, full, latest }, seed } = self;
        let mut waiting = shared.lock();
        let queue = &mut waiting.queue;
        let mut dropped = 0;
        loop {
            if *latest && queue.supersede(&frame, expires, capacity.bytes) {
                add(&shared.counters.superseded, 1);
                break;
            }
            if capacity.has_room(queue.frames(), queue.len(), frame.len()) {
                if *latest {
                    queue.push_latest(frame, expires, *seed);
                } else {
                    queue.push_shared(frame, expires);
                }
                break;
            }
            match queue.expire(shared.clock.now()) {
                0 => dropped += 1,
                count => {
                    shared.expired(count);
                    continue;
                }
            }
            if *full == Full::DropNewest {
                return dropped;
            }
            queue.drop_oldest();
        }
        wake(waiting);
        dropped
    }

    /// No more messages come.
    pub(super) fn close(&mut self) {
        let mut waiting = self.shared.lock();
        waiting.closed = true;
        wake(waiting);
    }
}

/// Wakes the reader, which is better done without the lock.
fn wake(mut waiting: MutexGuard<'_, Waiting>) {
    let waker = waiting.waker.take();
    drop(waiting);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The emptying side.
#[derive(Clone)]
pub(super) struct Reader {
    shared: Shared,
}

impl Reader {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let mut waiting = self.shared.lock();
        let next = self.pop(&mut waiting);
        if next.is_none() && !waiting.closed {
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(next)
    }

    pub(super) fn next_now(&mut self) -> Option<Message> {
        self.pop(&mut self.shared.lock())
    }

    /// The next message whose time is not over.
    fn pop(&self, waiting: &mut Waiting) -> Option<Message> {
        loop {
            let (mut frame, expires) = waiting.queue.take_front()?;
            if expires.is_none_or(|at| self.shared.clock.now() < at)
                && let message @ Some(_) = Message::cut(&mut frame)
            {
                return message;
            }
            self.shared.expired(1);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }
}
