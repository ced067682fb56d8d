//! The measurement: publish, receive, count.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::Flags;
use crate::protocol::{Broker, Frame};
use crate::tls::{Stream, Tls};

/// Bytes that one call writes, and reads.
const WRITE: usize = 32 << 10;
const READ: usize = 256 << 10;
/// Without a rate each message of so many carries a time, as with `kcpq bench`.
const SAMPLE: u64 = 16;
/// A message carries its number (u64, big-endian) and when it was due (ns, 0: not timed).
const HEADER: usize = 16;
/// How long nothing has to come before the rest is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a subscriber has counted.
struct Tally {
    delivered: AtomicU64,
    last: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

struct Shared {
    begun: Instant,
    tallies: Vec<Tally>,
    publisher: Thread,
    /// The publisher sleeps until there is room.
    waits: AtomicBool,
    over: AtomicBool,
}

/// Measures and prints; false when messages were lost.
pub(crate) fn run(flags: &Flags) -> Result<bool> {
    let too_small = flags.size < HEADER || flags.subs == 0;
    if too_small {
        return Err(Error::new(ErrorKind::InvalidInput, "--size must be 16 at least, and --subs 1"));
    }
    let shared = Arc::new(Shared {
        begun: Instant::now(),
        tallies: (0..flags.subs).map(|_| Tally::new()).collect(),
        publisher: thread::current(),
        waits: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let tls = flags.tls_ca.as_deref().map(Tls::load).transpose()?;
    let mut threads = Vec::new();
    for index in 0..flags.subs {
        let stream = flags.broker.subscriber(flags.addr, tls.as_ref(), index)?;
        let reader = Reader::new(flags.broker, stream, flags.size, index, Arc::clone(&shared))?;
        threads.push(thread::Builder::new().stack_size(256 << 10).spawn(move || reader.run())?);
    }
    let mut publisher = Publisher::new(flags, tls.as_ref(), Arc::clone(&shared))?;
    publisher.run(flags.warmup)?;
    publisher.settle();
    for tally in &shared.tallies {
        tally.latency.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
    let before = publisher.number;
    let begin = shared.now();
    publisher.run(flags.duration)?;
    publisher.settle();
    let lossless = report(flags, &shared, publisher.number - before, before, begin);
    shared.over.store(true, SeqCst);
    Ok(lossless)
}

fn report(flags: &Flags, shared: &Shared, published: u64, before: u64, begin: u64) -> bool {
    let delivered: u64 = shared.tallies.iter().map(|tally| tally.delivered.load(SeqCst).saturating_sub(before)).sum();
    let last = shared.tallies.iter().map(|tally| tally.last.load(SeqCst)).max().unwrap_or(begin);
    let seconds = last.saturating_sub(begin) as f64 / 1e9;
    let mut latency = histogram();
    for tally in &shared.tallies {
        // Fails only for a histogram that cannot grow.
        let _ = latency.add(&*tally.latency.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let lost = (published * flags.subs as u64).saturating_sub(delivered);
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
            "bytes_per_s": rate * flags.size as f64,
            "latency_us": {
                "p50": micros(50.0), "p90": micros(90.0), "p99": micros(99.0), "p999": micros(99.9),
                "max": latency.max() as f64 / 1e3,
            },
        })
    );
    lost == 0
}

impl Shared {
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

struct Publisher {
    stream: Stream,
    shared: Arc<Shared>,
    frame: Frame,
    size: usize,
    rate: Option<f64>,
    window: u64,
    number: u64,
    batch: Vec<u8>,
}

impl Publisher {
    fn new(flags: &Flags, tls: Option<&Tls>, shared: Arc<Shared>) -> Result<Self> {
        let stream = flags.broker.publisher(flags.addr, tls)?;
        let answers = stream.try_clone()?;
        let frame = flags.broker.published(flags.size);
        let watch = Arc::clone(&shared);
        // Redis answers each message. NATS, which alone is spoken to by TLS, says nothing but a PING now and then.
        if let Some(answers) = answers {
            thread::spawn(move || drain(answers, &watch));
        }
        Ok(Self {
            stream,
            shared,
            frame,
            size: flags.size,
            rate: flags.rate,
            window: flags.window.max(1),
            number: 0,
            batch: Vec::with_capacity(2 * WRITE + flags.size),
        })
    }

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
            self.push(due);
            self.stream.write_all(&self.batch)?;
            self.batch.clear();
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
                let first = self.number;
                while room > 0 && (self.batch.is_empty() || self.batch.len() + self.size < WRITE) {
                    let timed = self.number.is_multiple_of(SAMPLE);
                    self.push(if timed { self.shared.now() } else { 0 });
                    room -= 1;
                }
                self.stream.write_all(&self.batch)?;
                self.batch.clear();
                debug_assert!(self.number > first);
                now = self.shared.now();
            }
        }
        Ok(())
    }

    fn push(&mut self, due: u64) {
        self.batch.extend_from_slice(&self.frame.head);
        let begin = self.batch.len();
        self.batch.extend_from_slice(&self.number.to_be_bytes());
        self.batch.extend_from_slice(&due.to_be_bytes());
        self.batch.resize(begin + self.size, b'.');
        self.batch.extend_from_slice(self.frame.tail);
        self.number += 1;
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

/// Takes what the broker tells a publisher. Its question whether we are there stays unanswered: an answer could come
/// between the halves of a message, and NATS closes only after several, minutes apart.
fn drain(mut stream: TcpStream, shared: &Shared) {
    let mut buffer = vec![0; READ];
    while !shared.over.load(SeqCst) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

struct Reader {
    broker: Broker,
    stream: Stream,
    frame: Frame,
    size: usize,
    index: usize,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are filled.
    filled: usize,
}

impl Reader {
    fn new(broker: Broker, stream: Stream, size: usize, index: usize, shared: Arc<Shared>) -> Result<Self> {
        let frame = broker.delivered(size);
        let buffer = vec![0; READ.max(2 * (frame.head.len() + size + frame.tail.len()))];
        Ok(Self { broker, stream, frame, size, index, shared, buffer, filled: 0 })
    }

    fn run(mut self) {
        while !self.shared.over.load(Relaxed) {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return,
                Ok(len) => self.filled += len,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => return,
            }
            if let Err(error) = self.take() {
                eprintln!("rivals: subscriber {}: {error}", self.index);
                return;
            }
        }
    }

    /// Takes all whole messages.
    fn take(&mut self) -> Result<()> {
        let tally = &self.shared.tallies[self.index];
        let head = self.frame.head.len();
        let whole = head + self.size + self.frame.tail.len();
        let (question, answer) = self.broker.heartbeat();
        let (mut at, mut count) = (0, 0);
        loop {
            let rest = &self.buffer[at..self.filled];
            if rest.starts_with(&self.frame.head) {
                if rest.len() < whole {
                    break;
                }
                let payload = &rest[head..];
                let due = payload[8..HEADER].try_into().map_or(0, u64::from_be_bytes);
                if due != 0 {
                    let took = self.shared.now().saturating_sub(due);
                    // Fails only for a histogram that cannot grow.
                    let _ = tally.latency.lock().unwrap_or_else(PoisonError::into_inner).record(took);
                }
                at += whole;
                count += 1;
            } else if !question.is_empty() && rest.starts_with(question) {
                self.stream.write_all(answer)?;
                at += question.len();
            } else if rest.len() >= head {
                let text = String::from_utf8_lossy(&rest[..head]);
                return Err(Error::new(ErrorKind::InvalidData, format!("unexpected {text:?}")));
            } else {
                break;
            }
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        if count > 0 {
            tally.last.store(self.shared.now(), SeqCst);
            tally.delivered.fetch_add(count, SeqCst);
            if self.shared.waits.load(SeqCst) {
                self.shared.publisher.unpark();
            }
        }
        Ok(())
    }
}
