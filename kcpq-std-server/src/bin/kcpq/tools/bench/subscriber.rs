//! A subscriber: counts what comes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_lite::future::poll_once;
use hdrhistogram::Histogram;
use kcpq_smol::{Message, Subscription};

use super::clock::Clock;
use super::flow::Flow;
use super::payload;

/// Latency in nanoseconds, with three digits that count; it grows with what it is given.
pub(super) type Latency = Histogram<u64>;

/// An empty histogram.
pub(super) fn latency() -> Latency {
    match Histogram::new(3) {
        Ok(histogram) => histogram,
        // hdrhistogram takes 0 to 5 digits.
        Err(_) => unreachable!("three digits are allowed"),
    }
}

/// What a subscriber has counted; one task writes, others look.
#[derive(Debug)]
pub(super) struct Tally {
    delivered: AtomicU64,
    repeated: AtomicU64,
    missing: AtomicU64,
    dropped: AtomicU64,
    runs: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
    latency: Mutex<Latency>,
}

impl Tally {
    fn new() -> Self {
        Self {
            delivered: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            latency: Mutex::new(latency()),
        }
    }

    /// Messages, each counted once.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// Messages whose number had come before.
    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Relaxed)
    }

    /// Numbers that were passed over.
    pub(super) fn missing(&self) -> u64 {
        self.missing.load(Relaxed)
    }

    /// Messages that the client dropped because this subscriber did not take them in time.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Runs of publishers that messages came from.
    pub(super) fn runs(&self) -> u64 {
        self.runs.load(Relaxed)
    }

    /// When the first message came; 0: none did.
    pub(super) fn first(&self) -> u64 {
        self.first.load(Relaxed)
    }

    /// When the last message came, or one soon before it while more are waiting.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// The latencies so far; they begin anew.
    pub(super) fn take_latency(&self) -> Latency {
        std::mem::replace(&mut *self.latency(), latency())
    }

    fn latency(&self) -> MutexGuard<'_, Latency> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts in a task, until the subscription ends.
pub(super) fn spawn(
    subscription: Subscription,
    clock: Clock,
    flow: Arc<Flow>,
) -> (Arc<Tally>, smol::Task<Subscription>) {
    let tally = Arc::new(Tally::new());
    let counter = Counter { tally: Arc::clone(&tally), clock, flow, runs: Vec::new(), run: 0 };
    (tally, smol::spawn(counter.run(subscription)))
}

/// Publishers that wait for room are told after so many messages at the latest.
const BATCH: u64 = 64;

struct Counter {
    tally: Arc<Tally>,
    clock: Clock,
    flow: Arc<Flow>,
    runs: Vec<Run>,
    /// The index of the one that the last message was of.
    run: usize,
}

/// One run of publishers.
struct Run {
    id: u32,
    /// The next number of each publisher.
    next: Vec<u64>,
}

impl Counter {
    async fn run(mut self, mut subscription: Subscription) -> Subscription {
        let mut begun = false;
        while let Some(message) = subscription.next().await {
            if !std::mem::replace(&mut begun, true) {
                self.tally.first.store(self.clock.now(), Relaxed);
            }
            self.count(&message);
            // The clock is read once for all that waits.
            while let Some(Some(message)) = poll_once(subscription.next()).await {
                self.count(&message);
                if self.tally.delivered().is_multiple_of(BATCH) {
                    self.flow.progressed();
                }
            }
            self.flow.progressed();
            self.tally.last.store(self.clock.now(), Relaxed);
            self.tally.dropped.store(subscription.stats().dropped, Relaxed);
        }
        subscription
    }

    fn count(&mut self, message: &Message) {
        let (sequence, due) = payload::read(message.payload());
        if let Some(sequence) = sequence
            && !self.is_new(payload::run(message.payload()), sequence)
        {
            add(&self.tally.repeated, 1);
            return;
        }
        if let Some(due) = due {
            // Fails only for a histogram that cannot grow.
            let _ = self.tally.latency().record(self.clock.now().saturating_sub(due));
        }
        add(&self.tally.delivered, 1);
    }

    /// Whether a message did not come before; messages of one publisher come in order.
    fn is_new(&mut self, run: u32, sequence: u64) -> bool {
        if self.runs.get(self.run).is_none_or(|last| last.id != run) {
            self.run = self.runs.iter().position(|known| known.id == run).unwrap_or(self.runs.len());
            if self.run == self.runs.len() {
                self.runs.push(Run { id: run, next: Vec::new() });
                self.tally.runs.store(self.runs.len() as u64, Relaxed);
            }
        }
        let Some(Run { next: numbers, .. }) = self.runs.get_mut(self.run) else { return false };
        let (publisher, number) = payload::split(sequence);
        let publisher = usize::from(publisher);
        if publisher >= numbers.len() {
            numbers.resize(publisher + 1, 0);
        }
        let Some(next) = numbers.get_mut(publisher).filter(|next| number >= **next) else { return false };
        if number > *next {
            add(&self.tally.missing, number - *next);
        }
        *next = number + 1;
        true
    }
}

/// Only one task writes, so this needs no read-modify-write.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed) + count, Relaxed);
}
