//! The last values of subjects, kept for those who subscribe later (PROTOCOL.md 3.11).
//!
//! Every broker (shard) of a server has all of them, so that a subscriber finds them where it is. A value comes to the
//! others among the messages that they are told, in their order: what a broker has kept is never newer than what its
//! subscribers have been given. Where several publish to one subject the last stamp counts, everywhere: a hybrid
//! logical clock (Kulkarni et al., 2014), which is later than all that was seen before, and the broker's number.

mod search;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;

use bytes::Bytes;

pub(super) use self::search::{Cursor, Step};
use super::config::LastValues;
use crate::access::{Matcher, RuleError, Rules};
use crate::subject::Subject;
use crate::time::{Deadline, Duration, Instant, Why};

/// See above.
#[derive(Default)]
pub(super) struct Kept {
    limits: LastValues,
    /// Subjects whose values are kept whoever publishes them.
    chosen: Option<Box<Matcher>>,
    /// In the order of bytes, so that those that begin alike lie together.
    values: BTreeMap<Box<str>, Value>,
    /// What they take, in bytes.
    bytes: usize,
    /// When which of them lapse, and their numbers.
    lapses: BTreeMap<(Instant, u64), Box<str>>,
    cleared: Cleared,
    /// The latest stamp that was given or seen.
    clock: u64,
    /// Changes so far; each value has the number of the change that brought it.
    changes: u64,
}

/// The last value of one subject.
pub(super) struct Value {
    /// A MSGX, with the stamp among its properties.
    pub(super) frame: Bytes,
    pub(super) stamp: Stamp,
    pub(super) number: u64,
    at: Instant,
    /// How long it had been kept then, in another life of the server.
    before: Duration,
    pub(super) expires: Option<Instant>,
}

/// When something was published, and which broker took it in.
pub(super) type Stamp = (u64, u8);

/// Why a message is not kept as the last value of its subject. Those who are subscribed have got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotKept {
    /// The server keeps none.
    Off,
    /// It is too large: subject, message and properties.
    TooLarge {
        /// The most bytes.
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// So many subjects have a value already.
    TooMany {
        /// The most subjects.
        limit: usize,
    },
    /// All values together would take too much memory.
    NoRoom {
        /// The most bytes.
        limit: usize,
    },
    /// It is no message.
    Malformed,
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("this server keeps no last values"),
            Self::TooLarge { limit, actual } => write!(f, "a value of {actual} bytes, the limit is {limit}"),
            Self::TooMany { limit } => write!(f, "{limit} subjects have a value, which is the limit"),
            Self::NoRoom { limit } => write!(f, "all values together would take more than {limit} bytes"),
            Self::Malformed => f.write_str("it is no message"),
        }
    }
}

impl core::error::Error for NotKept {}

/// What a value takes beside its frame and twice its subject: the tables, and what the allocator adds.
const OVERHEAD: usize = 128;
/// Most values that lapse in one step.
const MAX_LAPSES: usize = 256;

impl Kept {
    /// # Errors
    /// One of the patterns is none.
    pub(super) fn new(limits: LastValues, seed: u64) -> Result<Self, RuleError> {
        let rules = Rules { allow: Some(limits.subjects.clone()), deny: Default::default() };
        let chosen = Box::new(Matcher::new(&rules, seed)?);
        let is_on = limits.max_subjects > 0;
        Ok(Self { chosen: Some(chosen).filter(|_| is_on && !limits.subjects.is_empty()), limits, ..Self::default() })
    }

    /// It keeps any.
    pub(super) fn is_on(&self) -> bool {
        self.limits.max_subjects > 0
    }

    /// Subscribers that do not know native frames get them as well.
    pub(super) fn is_for_original(&self) -> bool {
        self.limits.original
    }

    /// The value of this subject is kept, whether its publisher wants that or not.
    pub(super) fn chooses(&mut self, subject: Subject<'_>) -> bool {
        self.chosen.as_mut().is_some_and(|chosen| chosen.permits(subject))
    }

    // --- values come and go ---

    /// A stamp for what is published now, later than all others that were seen here.
    pub(super) fn stamp(&mut self, now: Instant) -> u64 {
        self.clock = now.as_micros().max(self.clock.saturating_add(1));
        self.clock
    }

    /// Whether a message of `len` bytes becomes the value of its subject. If it is `blank` there is none from then on.
    ///
    /// # Errors
    /// Why it does not. There is none from then on: an older one would not be the last.
    pub(super) fn judge(&self, subject: &str, len: usize, blank: bool) -> Result<bool, NotKept> {
        let LastValues { max_subjects, max_bytes, max_value, .. } = self.limits;
        if !self.is_on() {
            return Err(NotKept::Off);
        }
        if blank {
            return Ok(false);
        }
        if len > max_value {
            return Err(NotKept::TooLarge { limit: max_value, actual: len });
        }
        let known = self.values.get(subject).map_or(0, |value| cost(subject, value.frame.len()));
        if known == 0 && self.values.len() >= max_subjects {
            return Err(NotKept::TooMany { limit: max_subjects });
        }
        if self.bytes - known + cost(subject, len) > max_bytes {
            return Err(NotKept::NoRoom { limit: max_bytes });
        }
        Ok(true)
    }

    /// True if there is a value of this subject.
    pub(super) fn has(&self, subject: &str) -> bool {
        self.values.contains_key(subject)
    }

    /// The value of this subject.
    pub(super) fn get(&self, subject: &str) -> Option<&Value> {
        self.values.get(subject)
    }

    /// From this stamp on the subject has this value, or none; unless it is known what it has from a later one on. With
    /// `shared` another broker may still tell of an earlier one.
    pub(super) fn put(
        &mut self,
        (now, before): (Instant, Duration),
        subject: &str,
        frame: Option<Bytes>,
        stamp: Stamp,
        expires: Option<Instant>,
        shared: bool,
    ) {
        self.clock = self.clock.max(stamp.0);
        let later = self.values.get(subject).is_some_and(|value| value.stamp > stamp);
        if later || self.cleared.is_later(subject, stamp) {
            return;
        }
        self.changes += 1;
        self.remove(subject);
        let Some(frame) = frame else {
            if shared {
                self.cleared.note(subject, stamp);
            }
            return;
        };
        self.bytes += cost(subject, frame.len());
        if let Some(at) = expires {
            self.lapses.insert((at, self.changes), subject.into());
        }
        let value = Value { frame, stamp, number: self.changes, at: now, before, expires };
        self.values.insert(subject.into(), value);
    }

    /// The stamp of what it was.
    fn remove(&mut self, subject: &str) -> Option<Stamp> {
        let value = self.values.remove(subject)?;
        self.bytes -= cost(subject, value.frame.len());
        if let Some(at) = value.expires {
            self.lapses.remove(&(at, value.number));
        }
        Some(value.stamp)
    }

    /// Lets values go whose time is over, a number of them at a time. Says how many.
    pub(super) fn lapse(&mut self, now: Instant) -> u64 {
        let mut count = 0;
        while count < MAX_LAPSES as u64
            && let Some(((at, _), _)) = self.lapses.first_key_value()
            && *at <= now
            && let Some((_, subject)) = self.lapses.pop_first()
        {
            self.changes += 1;
            if let Some(stamp) = self.remove(&subject) {
                // Another broker may still tell of one from before.
                self.cleared.note(&subject, stamp);
            }
            count += 1;
        }
        count
    }

    /// When the next one lapses.
    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.lapses.first_key_value().map(|((at, _), _)| Deadline { at: *at, why: Why::Lapse })
    }

    // --- getters ---

    /// How many there are, and the bytes that they take.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.values.len(), self.bytes)
    }

    /// How often they have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The next value of a subject that the pattern matches, from where the cursor stands. It takes `steps`, as many as
    /// there are at most.
    pub(super) fn next(&self, pattern: &str, cursor: &mut Cursor, steps: &mut u32) -> Step<'_> {
        search::next(&self.values, pattern, cursor, steps)
    }

    /// Those from a subject on, in their order.
    pub(super) fn from<'k>(&'k self, cursor: &Cursor) -> impl Iterator<Item = (&'k str, &'k Value)> + use<'k> {
        self.values.range::<str, _>(cursor.bounds()).map(|(subject, value)| (&**subject, value))
    }
}

impl Value {
    /// For how long it has been kept.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.before + now.since(self.at)
    }

    /// True if it is not worth anything any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

fn cost(subject: &str, len: usize) -> usize {
    2 * subject.len() + len + OVERHEAD
}

/// Of which subjects there is no value any more, of late, and since which stamp: what another broker tells of them may
/// be older.
#[derive(Default)]
struct Cleared {
    recent: VecDeque<(Box<str>, Stamp)>,
    /// The latest of the stamps.
    latest: Stamp,
}

/// How many are remembered. What is told on the way of so many more has come by then.
const MAX_CLEARED: usize = 1024;

impl Cleared {
    fn note(&mut self, subject: &str, stamp: Stamp) {
        if self.recent.len() == MAX_CLEARED {
            self.recent.pop_front();
        }
        self.latest = self.latest.max(stamp);
        self.recent.push_back((subject.into(), stamp));
    }

    fn is_later(&self, subject: &str, stamp: Stamp) -> bool {
        // Most stamps are later than all of these.
        stamp < self.latest && self.recent.iter().any(|(cleared, at)| **cleared == *subject && *at > stamp)
    }
}
