//! A publisher: publishes numbered messages as fast as it may, or when they are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_lite::future::or;
use kcpq_smol::{Client, Pool, PublishError};

use super::args::Phase;
use super::clock::{Clock, nanos};
use super::flow::Flow;
use super::payload;

/// One publisher. Its numbers go on from phase to phase.
#[derive(Debug)]
pub(super) struct Publisher {
    pool: Pool,
    /// One for each session: messages go to them by turns.
    subjects: Vec<String>,
    index: u16,
    clock: Clock,
    payload: Vec<u8>,
    number: u64,
    published: Arc<AtomicU64>,
    flow: Arc<Flow>,
}

/// Without a rate each message of so many carries a time: to read the clock for all would slow down what is measured. With
/// a small window so many of those under way do at least.
const SAMPLE: u64 = 16;
const SAMPLES: u64 = 64;

impl Publisher {
    /// The publisher number `index` of the run that `flow` belongs to.
    pub(super) fn new(pool: Pool, subject: &str, size: usize, index: u16, clock: Clock, flow: Arc<Flow>) -> Self {
        let subjects = subjects(&pool, subject);
        let (mut payload, published) = (vec![b'.'; size], flow.counter(index));
        payload::write_run(&mut payload, flow.run());
        Self { pool, subjects, index, clock, payload, number: 0, published, flow }
    }

    /// Publishes what the phase says, from `begin` on. The buffer is the same for all messages.
    pub(super) async fn run(&mut self, phase: Phase, begin: u64) -> Result<(), PublishError> {
        let end = phase.duration.map(|duration| begin.saturating_add(nanos(duration)));
        let interval = phase.rate.map(|rate| 1e9 / rate);
        let first = self.number;
        let sample = self.flow.window().map_or(SAMPLE, |window| (window / SAMPLES).clamp(1, SAMPLE));
        let mut room = 0;
        loop {
            let sent = self.number - first;
            if phase.count.is_some_and(|count| sent >= count) || self.flow.stop().is_asked() {
                return Ok(());
            }
            if room == 0 {
                let Some(more) = self.flow.room().await else { return Ok(()) };
                room = more;
            }
            room -= 1;
            let due = match interval {
                Some(interval) => Some(begin.saturating_add((sent as f64 * interval) as u64)),
                None if sent.is_multiple_of(sample) => Some(self.clock.now()),
                None => None,
            };
            if due.zip(end).is_some_and(|(due, end)| due >= end) {
                return Ok(());
            }
            if let Some(due) = due.filter(|_| interval.is_some()) {
                or(self.clock.wait(due), self.flow.stop().asked()).await;
            }
            // What is published to one subject comes in order, and is numbered by itself.
            let count = self.subjects.len() as u64;
            let (turn, number) = ((self.number % count) as u16, self.number / count);
            let stream = self.index * count as u16 + turn;
            payload::write(&mut self.payload, payload::sequence(stream, number), due.unwrap_or(0));
            self.pool.publish(&self.subjects[usize::from(turn)], self.payload.as_slice()).await?;
            self.number += 1;
            self.published.store(self.number, Relaxed);
        }
    }
}

/// One subject for each session of the pool, below `subject`; if there is one session only, that itself.
fn subjects(pool: &Pool, subject: &str) -> Vec<String> {
    let sessions = pool.sessions();
    if sessions.len() == 1 {
        return vec![subject.into()];
    }
    let below = |index: usize| format!("{subject}.{index}");
    let of = |session: &Client| (0..).map(below).find(|subject| std::ptr::eq(pool.for_subject(subject), session));
    sessions.iter().filter_map(of).collect()
}
