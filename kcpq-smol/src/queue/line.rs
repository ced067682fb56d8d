//! Messages in the order in which they came; those that come when it is full are dropped.
//!
//! Small messages lie one behind the other in long runs, and the reader takes all runs there are at once: messages are cut
//! from them on its thread.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use kcpq_core::client::Arrived;
use kcpq_core::{Duration, Instant};

use super::{Capacity, Counters, add};
use crate::clock::Clock;
use crate::message::Message;
use crate::sync::{Mutex, MutexGuard, atomic::Ordering::Relaxed};

/// Small messages share buffers of so many bytes: a subscription that hears little holds a short one, and each that is filled soon
/// is followed by one of twice its length.
const SHORT_RUN: usize = 2 * 1024;
const LONG_RUN: usize = 64 * 1024;
const SOON: Duration = Duration::from_millis(100);

/// Whole frames, one behind the other. One whose time runs is alone.
#[derive(Debug, Default)]
struct Run {
    frames: Bytes,
    expires: Option<Instant>,
}

impl Run {
    fn is_over(&self, clock: Clock) -> bool {
        self.expires.is_some_and(|at| at <= clock.now())
    }
}

/// Runs on their way to the reader.
#[derive(Debug, Default)]
struct Line(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    runs: VecDeque<Run>,
    /// The reader, if it waits.
    waker: Option<Waker>,
    closed: bool,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what waits, and wakes the reader.
    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.lock();
        change(&mut waiting);
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// How many bytes the buffer has that follows one of `length`, which was filled in this time.
fn next_length(length: usize, took: Duration) -> usize {
    if took < SOON { (2 * length).min(LONG_RUN) } else { SHORT_RUN }
}

/// Both sides of an empty one.
pub(super) fn queue(capacity: Capacity, counters: Arc<Counters>, clock: Clock) -> (Filler, Reader) {
    let line = Arc::new(Line::default());
    let reader = Reader {
        line: Arc::clone(&line),
        run: Run::default(),
        runs: VecDeque::new(),
        counters: Arc::clone(&counters),
        clock,
    };
    let filler = Filler {
        line,
        run: BytesMut::new(),
        filled: false,
        length: SHORT_RUN,
        begun: Instant::ZERO,
        capacity,
        room: 0,
        bytes_room: 0,
        queued: 0,
        bytes_queued: 0,
        timed: false,
        counters,
        clock,
    };
    (filler, reader)
}

/// The filling side.
pub(super) struct Filler {
    line: Arc<Line>,
    /// Messages in a row that were taken in and are not in line yet.
    run: BytesMut,
    /// There are any.
    filled: bool,
    /// How many bytes its buffer was made for, and when.
    length: usize,
    begun: Instant,
    capacity: Capacity,
    /// Messages and bytes that certainly have room.
    room: u64,
    bytes_room: u64,
    /// Messages queued so far, and bytes of those that did not expire in line.
    queued: u64,
    bytes_queued: u64,
    /// There have been messages whose time runs.
    timed: bool,
    counters: Arc<Counters>,
    clock: Clock,
}

impl Filler {
    /// Queues a message, or several for which there is [room](Self::find_room), and says how many were dropped.
    pub(super) fn take(&mut self, arrived: Arrived<'_>, expires: Option<Instant>) -> u64 {
        let (len, count) = (arrived.bytes().len() as u64, arrived.count() as u64);
        self.find_room(len, count);
        // One alone has room, however long it is.
        if self.room < count || self.bytes_room < len && self.bytes_queued > self.counters.taken.load(Relaxed) {
            return count;
        }
        self.room -= count;
        self.queued += count;
        self.bytes_room = self.bytes_room.saturating_sub(len);
        self.bytes_queued += len;
        if expires.is_some() {
            self.timed = true;
            self.flush();
        }
        match arrived {
            Arrived::Lent(frames) | Arrived::Run(frames, _) => {
                if self.run.capacity() - self.run.len() < frames.len() {
                    self.flush();
                    let now = self.clock.now();
                    let length = next_length(self.length, now.since(self.begun));
                    if length < self.length {
                        // Otherwise it would be as long again as it has been.
                        self.run = BytesMut::new();
                    }
                    (self.length, self.begun) = (length, now);
                    self.run.reserve(frames.len().max(self.length));
                }
                self.run.extend_from_slice(frames);
                self.filled = true;
                if expires.is_some() {
                    self.push_run(expires);
                }
            }
            Arrived::Whole(frames) => {
                self.flush();
                self.line.change(|waiting| waiting.runs.push_back(Run { frames, expires }));
            }
        }
        0
    }

    /// True if so many messages of so many bytes in all have room.
    pub(super) fn find_room(&mut self, len: u64, count: u64) -> bool {
        if !self.has_room(len, count) {
            self.look_for_room();
            if !self.has_room(len, count) && self.timed && self.forget() {
                self.look_for_room();
            }
        }
        self.has_room(len, count)
    }

    fn has_room(&self, len: u64, count: u64) -> bool {
        self.room >= count && self.bytes_room >= len
    }

    fn look_for_room(&mut self) {
        let Counters { processed, expired, taken, .. } = &*self.counters;
        let waiting = self.queued.saturating_sub(processed.load(Relaxed) + expired.load(Relaxed));
        self.room = (self.capacity.messages.max(1) as u64).saturating_sub(waiting);
        let waiting = self.bytes_queued.saturating_sub(taken.load(Relaxed));
        self.bytes_room = (self.capacity.bytes as u64).saturating_sub(waiting);
    }

    /// Forgets the messages at the front of the line whose time is over. True if there were any.
    fn forget(&mut self) -> bool {
        let mut waiting = self.line.lock();
        let before = self.bytes_queued;
        while let Some(run) = waiting.runs.front().filter(|run| run.is_over(self.clock)) {
            self.bytes_queued -= run.frames.len() as u64;
            self.counters.expired.fetch_add(1, Relaxed);
            waiting.runs.pop_front();
        }
        self.bytes_queued != before
    }

    /// Hands over what was queued.
    pub(super) fn flush(&mut self) {
        if self.filled {
            self.push_run(None);
        }
    }

    fn push_run(&mut self, expires: Option<Instant>) {
        self.filled = false;
        let frames = self.run.split().freeze();
        self.line.change(|waiting| waiting.runs.push_back(Run { frames, expires }));
    }

    /// No more messages come.
    pub(super) fn close(&mut self) {
        self.flush();
        self.line.change(|waiting| waiting.closed = true);
    }
}

/// The emptying side, with what it has taken out of the line.
pub(super) struct Reader {
    line: Arc<Line>,
    run: Run,
    runs: VecDeque<Run>,
    counters: Arc<Counters>,
    clock: Clock,
}

impl Reader {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(message) = self.pop() {
                return Poll::Ready(Some(message));
            }
            let mut waiting = self.line.lock();
            if waiting.runs.is_empty() {
                if waiting.closed {
                    return Poll::Ready(None);
                }
                waiting.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            mem::swap(&mut self.runs, &mut waiting.runs);
        }
    }

    pub(super) fn next_now(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.pop() {
                return Some(message);
            }
            mem::swap(&mut self.runs, &mut self.line.lock().runs);
            if self.runs.is_empty() {
                return None;
            }
        }
    }

    /// The next message of what was taken out.
    fn pop(&mut self) -> Option<Message> {
        loop {
            while self.run.frames.is_empty() {
                self.run = self.runs.pop_front()?;
            }
            if self.run.is_over(self.clock) {
                let Run { frames, .. } = mem::take(&mut self.run);
                self.counters.expired.fetch_add(1, Relaxed);
                add(&self.counters.taken, frames.len() as u64);
                continue;
            }
            let message = Message::cut(&mut self.run.frames);
            if message.is_none() {
                // The core hands out whole frames only.
                self.run.frames.clear();
            }
            return message;
        }
    }

    pub(super) fn hand_over(&mut self) -> Self {
        let (run, runs) = (mem::take(&mut self.run), mem::take(&mut self.runs));
        Self { line: Arc::clone(&self.line), run, runs, counters: Arc::clone(&self.counters), clock: self.clock }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.line.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_much_has_long_buffers_and_who_hears_little_again_short_ones() {
        let mut length = SHORT_RUN;
        let lengths: Vec<usize> = (0..7)
            .map(|_| {
                length = next_length(length, Duration::from_millis(99));
                length
            })
            .collect();
        assert_eq!(lengths, [4_096, 8_192, 16_384, 32_768, 65_536, 65_536, 65_536]);
        assert_eq!(next_length(length, SOON), SHORT_RUN);
    }
}
