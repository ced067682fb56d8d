//! The measurement, whatever is spoken: when messages are published, what has come of them, and what is printed.

use std::io::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

/// Without a rate each message of so many carries a time, as with `kcpq bench`.
const SAMPLE: u64 = 16;
/// A message carries its number (u64, big-endian) and when it was due (ns, 0: not timed).
const HEADER: usize = 16;
/// How long nothing has to come before the rest is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Work {
    /// Bytes of each message, 16 at least
    #[arg(long, default_value_t = 128)]
    pub(crate) size: usize,
    /// How long to publish
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Messages per second, due at fixed times; without it as many as it takes
    #[arg(long)]
    rate: Option<f64>,
    /// Subscribers
    #[arg(long, default_value_t = 1)]
    pub(crate) subs: usize,
    /// Most messages under way to the slowest subscriber
    #[arg(long, default_value_t = 10_000)]
    window: u64,
    /// How long to publish before measuring
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    warmup: Duration,
}

/// What publishes. Messages may wait in it, for a call that writes many.
pub(crate) trait Publish {
    /// Takes one message.
    fn push(&mut self, payload: Payload) -> Result<()>;
    /// Whether those that wait are enough for a call.
    fn is_full(&self) -> bool;
    /// Writes those that wait.
    fn flush(&mut self) -> Result<()>;
}

/// What a message says, before it is filled up to its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    number: u64,
    due: u64,
}

impl Payload {
    /// Puts all `size` bytes of it at the end.
    pub(crate) fn append(self, size: usize, bytes: &mut Vec<u8>) {
        let begin = bytes.len();
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.due.to_be_bytes());
        bytes.resize(begin + size, b'.');
    }
}

/// What a subscriber has counted.
struct Tally {
    delivered: AtomicU64,
    last: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

/// What publisher and subscribers know of each other.
pub(crate) struct Shared {
    begun: Instant,
    tallies: Vec<Tally>,
    publisher: Thread,
    /// The publisher sleeps until there is room.
    waits: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    /// For this thread as the publisher, and that many subscribers.
    ///
    /// # Errors
    ///
    /// If the work is none.
    pub(crate) fn new(work: &Work) -> Result<Arc<Self>> {
        if work.size < HEADER || work.subs == 0 {
            return Err(Error::new(ErrorKind::InvalidInput, "--size must be 16 at least, and --subs 1"));
        }
        Ok(Arc::new(Self {
            begun: Instant::now(),
            tallies: (0..work.subs).map(|_| Tally::new()).collect(),
            publisher: thread::current(),
            waits: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }))
    }

    /// Whether all has been measured.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// How late a message came to a subscriber.
    pub(crate) fn time(&self, subscriber: usize, payload: &[u8]) {
        let due = payload.get(8..HEADER).and_then(|due| due.try_into().ok()).map_or(0, u64::from_be_bytes);
        if due != 0 {
            let took = self.now().saturating_sub(due);
            // Fails only for a histogram that cannot grow.
            let _ = self.tallies[subscriber].latency.lock().unwrap_or_else(PoisonError::into_inner).record(took);
        }
    }

    /// So many messages have come to a subscriber.
    pub(crate) fn count(&self, subscriber: usize, messages: u64) {
        let tally = &self.tallies[subscriber];
        tally.last.store(self.now(), SeqCst);
        tally.delivered.fetch_add(messages, SeqCst);
        if self.waits.load(SeqCst) {
            self.publisher.unpark();
        }
    }

    fn now(&self) -> u64 {
        // Not 0, which stands for "not timed".
        self.begun.elapsed().as_nanos() as u64 + 1
    }

    fn slowest(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.delivered.load(SeqCst)).min().unwrap_or(u64::MAX)
    }
}

impl Tally {
    fn new() -> Self {
        Self { delivered: AtomicU64::new(0), last: AtomicU64::new(0), latency: Mutex::new(histogram()) }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Publishes, and prints what has come of it; false when messages were lost.
pub(crate) fn measure(work: &Work, shared: Arc<Shared>, publish: impl Publish) -> Result<bool> {
    let mut publisher = Publisher { publish, shared, rate: work.rate, window: work.window.max(1), number: 0 };
    publisher.run(work.warmup)?;
    publisher.settle();
    let shared = Arc::clone(&publisher.shared);
    for tally in &shared.tallies {
        tally.latency.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
    let before = publisher.number;
    let begin = shared.now();
    publisher.run(work.duration)?;
    publisher.settle();
    let lossless = report(work, &shared, publisher.number - before, before, begin);
    shared.over.store(true, SeqCst);
    Ok(lossless)
}

fn report(work: &Work, shared: &Shared, published: u64, before: u64, begin: u64) -> bool {
    let delivered: u64 = shared.tallies.iter().map(|tally| tally.delivered.load(SeqCst).saturating_sub(before)).sum();
    let last = shared.tallies.iter().map(|tally| tally.last.load(SeqCst)).max().unwrap_or(begin);
    let seconds = last.saturating_sub(begin) as f64 / 1e9;
    let mut latency = histogram();
    for tally in &shared.tallies {
        // Fails only for a histogram that cannot grow.
        let _ = latency.add(&*tally.latency.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let lost = (published * work.subs as u64).saturating_sub(delivered);
    let micros = |percentile: f64| latency.value_at_percentile(percentile) as f64 / 1e3;
    let rate = delivered as f64 / seconds;
    println!(
        "{}",
        json!({
            "published": published,
            "delivered": delivered,
            "lost": lost,
            "seconds": seconds,
            "msgs_per_s": rate,
            "bytes_per_s": rate * work.size as f64,
            "latency_us": {
                "p50": micros(50.0), "p90": micros(90.0), "p99": micros(99.0), "p999": micros(99.9),
                "max": latency.max() as f64 / 1e3,
            },
        })
    );
    lost == 0
}

struct Publisher<P> {
    publish: P,
    shared: Arc<Shared>,
    rate: Option<f64>,
    window: u64,
    number: u64,
}

impl<P: Publish> Publisher<P> {
    fn run(&mut self, duration: Duration) -> Result<()> {
        let begin = self.shared.now();
        let end = begin + duration.as_nanos() as u64;
        match self.rate {
            Some(rate) => self.paced(begin, end, 1e9 / rate),
            None => self.flat_out(end),
        }
    }

    /// Messages are due at fixed times, whatever happens.
    fn paced(&mut self, begin: u64, end: u64, interval: f64) -> Result<()> {
        for sent in 0u64.. {
            let due = begin + (sent as f64 * interval) as u64;
            if due >= end {
                break;
            }
            if due > self.shared.now() {
                // The timers of kcpq's client, which are finer than those of a sleeping thread.
                async_io::block_on(async_io::Timer::at(self.shared.begun + Duration::from_nanos(due)));
            }
            self.push(due)?;
            self.publish.flush()?;
        }
        Ok(())
    }

    fn flat_out(&mut self, end: u64) -> Result<()> {
        let mut now = self.shared.now();
        while now < end {
            let mut room = self.room();
            if room == 0 {
                break;
            }
            while room > 0 && now < end {
                while room > 0 && !self.publish.is_full() {
                    let timed = self.number.is_multiple_of(SAMPLE);
                    self.push(if timed { self.shared.now() } else { 0 })?;
                    room -= 1;
                }
                self.publish.flush()?;
                now = self.shared.now();
            }
        }
        Ok(())
    }

    fn push(&mut self, due: u64) -> Result<()> {
        self.publish.push(Payload { number: self.number, due })?;
        self.number += 1;
        Ok(())
    }

    /// Waits until messages may be published; 0: nothing has come for long.
    fn room(&self) -> u64 {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            self.shared.waits.store(true, SeqCst);
            let slowest = self.shared.slowest();
            let room = (slowest + self.window).saturating_sub(self.number);
            // Not for a few, so that the batches stay whole.
            if room > self.window / 4 {
                self.shared.waits.store(false, SeqCst);
                return room;
            }
            if slowest != seen {
                (seen, since) = (slowest, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return 0;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Waits until all has come, or nothing more does.
    fn settle(&self) {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let slowest = self.shared.slowest();
            if slowest >= self.number {
                return;
            }
            if slowest != seen {
                (seen, since) = (slowest, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
