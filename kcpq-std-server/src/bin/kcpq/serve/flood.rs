//! A flood of one kind of line is held back, and what was held back is told of.
//!
//! A kind is a place in the program that writes lines. What is asked for by the level, debug or trace, is wanted whole and
//! passes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_io::Timer;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines of one kind that may follow each other at once.
const BURST: u32 = 200;
/// The time that has to pass for one more.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often it is told what was held back.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Bytes of a line that are told to say what was held back.
const EXAMPLE: usize = 120;

/// See above. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flood(Arc<Mutex<HashMap<Identifier, Budget>>>);

/// A token bucket (as GCRA: it keeps the time at which it will be full).
#[derive(Debug)]
struct Budget {
    full_at: Instant,
    /// Lines held back that were not told of, and the first of them.
    held_back: u64,
    example: String,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { full_at: now, held_back: 0, example: String::new() }
    }

    /// True if there may be a line now.
    fn spend(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + INTERVAL;
        let passes = full_at.duration_since(now) <= INTERVAL * BURST;
        if passes {
            self.full_at = full_at;
        }
        passes
    }
}

impl Flood {
    /// Tells again and again of what was held back. It never ends.
    pub(crate) async fn watch(&self) -> Infallible {
        loop {
            Timer::after(TOLD_EVERY).await;
            self.tell();
        }
    }

    /// Tells of what was held back since the last time.
    pub(crate) fn tell(&self) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held_back: Vec<(u64, String)> = kinds
            .values_mut()
            .filter(|kind| kind.held_back > 0)
            .map(|kind| (std::mem::take(&mut kind.held_back), std::mem::take(&mut kind.example)))
            .collect();
        drop(kinds);
        for (count, example) in held_back {
            tracing::warn!(count, example, "more lines of one kind than are written");
        }
    }
}

impl<S: Subscriber> Layer<S> for Flood {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO {
            return true;
        }
        let now = Instant::now();
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(event.metadata().callsite()).or_insert_with(|| Budget::new(now));
        if kind.spend(now) {
            return true;
        }
        if kind.held_back == 0 {
            event.record(&mut Example(&mut kind.example));
        }
        kind.held_back += 1;
        false
    }
}

/// Takes the beginning of a line.
struct Example<'e>(&'e mut String);

impl Visit for Example<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            return;
        }
        let _ = write!(self.0, "{value:?}");
        let mut end = self.0.len().min(EXAMPLE);
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        self.0.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::log::Log;

    #[test]
    fn lines_come_in_a_burst_and_then_slowly() {
        let begin = Instant::now();
        let mut budget = Budget::new(begin);
        assert_eq!((0..1_000).filter(|_| budget.spend(begin)).count() as u32, BURST);
        assert!(budget.spend(begin + INTERVAL) && !budget.spend(begin + INTERVAL));
        let later = begin + INTERVAL * BURST * 10;
        assert_eq!((0..1_000).filter(|_| budget.spend(later)).count() as u32, BURST);
    }

    #[test]
    fn what_is_held_back_is_counted_and_other_lines_are_not_kept_back_with_it() {
        let (reader, writer) = std::io::pipe().unwrap();
        let log = Log::start(writer).unwrap();
        let flood = Flood::default();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(log.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines).with(flood.clone()), || {
            for number in 0..2_000 {
                tracing::warn!("flood {number}");
                tracing::debug!("wanted");
            }
            tracing::info!("other");
            flood.tell();
            // Once.
            flood.tell();
            tracing::info!("end");
        });
        let (mut floods, mut told, mut others, mut wanted) = (0, Vec::new(), 0, 0);
        for line in std::io::BufRead::lines(std::io::BufReader::new(reader)).map(Result::unwrap) {
            wanted += u64::from(line.contains("wanted"));
            others += u64::from(line.ends_with("other"));
            if let Some((_, rest)) = line.split_once("more lines of one kind than are written count=") {
                told.push(rest.to_owned());
            } else {
                floods += u64::from(line.contains("flood "));
            }
            if line.ends_with("end") {
                break;
            }
        }
        let [told] = &told[..] else { panic!("{told:?}") };
        let (count, example) = told.split_once(' ').unwrap();
        assert!(example.starts_with("example=\"flood "), "{told}");
        assert_eq!((count.parse::<u64>().unwrap() + floods, others, wanted), (2_000, 1, 2_000));
        assert!(floods >= u64::from(BURST) && floods < 2_000, "{floods}");
    }
}
