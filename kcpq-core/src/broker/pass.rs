//! What the guard keeps of one session: who it is, what was decided of late, and how fast it may go on.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::access::Credential;
use crate::subject::Subject;
use crate::time::{Duration, Instant};

/// See above.
pub(super) struct Pass {
    credential: Credential,
    /// What the identity is called; nothing if there were no rules yet.
    name: Option<Arc<str>>,
    /// The guard's number for it.
    identity: u32,
    /// One of its patterns matches something that it may not have.
    pub(super) is_filtered: bool,
    pub(super) published: Verdicts,
    pub(super) received: Verdicts,
    /// Subjects that it was told it may not publish to, and when, oldest first.
    told: VecDeque<(Box<str>, Instant)>,
    /// When it may publish a second's worth again.
    full_at: Instant,
    /// When it was last told that it publishes more than it may.
    told_excess: Option<Instant>,
}

/// No guard has so many.
const NOBODY: u32 = u32::MAX;
/// How long it is not told of a subject again.
const TOLD_FOR: Duration = Duration::from_secs(10);
/// How many subjects it is told of within that time. A client that goes through all must not fill anything.
const MAX_TOLD: usize = 16;
/// How far ahead it may be of its bytes per second.
const BURST: Duration = Duration::from_secs(1);

impl Pass {
    pub(super) fn new(credential: Credential, name: Arc<str>, identity: u32) -> Self {
        Self { name: Some(name), identity, ..Self::of_nobody(credential) }
    }

    /// As long as there are no rules: what it has shown is remembered.
    pub(super) fn of_nobody(credential: Credential) -> Self {
        Self {
            credential,
            name: None,
            identity: NOBODY,
            is_filtered: false,
            published: Verdicts::default(),
            received: Verdicts::default(),
            told: VecDeque::new(),
            full_at: Instant::ZERO,
            told_excess: None,
        }
    }

    /// The guard is another one, to which this session is nobody. It keeps its name.
    pub(super) fn detach(&mut self) {
        (self.identity, self.is_filtered) = (NOBODY, false);
    }

    /// What it has shown.
    pub(super) fn credential(&self) -> Credential {
        self.credential
    }

    /// What its identity is called.
    pub(super) fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// The guard's number for its identity.
    pub(super) fn identity(&self) -> u32 {
        self.identity
    }

    /// True if it is to be told that it may not publish to `subject`: once in a while.
    pub(super) fn tells(&mut self, now: Instant, subject: Subject<'_>) -> bool {
        while self.told.front().is_some_and(|(_, at)| *at + TOLD_FOR <= now) {
            self.told.pop_front();
        }
        let news = self.told.len() < MAX_TOLD && !self.told.iter().any(|(told, _)| **told == *subject.as_str());
        if news {
            self.told.push_back((subject.as_str().into(), now));
        }
        news
    }

    // --- bytes per second ---

    /// True if it may publish `len` bytes more, at `rate` bytes in a second: a token bucket (as GCRA, which keeps the time
    /// at which it will be full) with a second's worth. Whatever its size a message may go if the one before was no excess.
    pub(super) fn spend(&mut self, now: Instant, len: usize, rate: u64) -> bool {
        let full_at = self.full_at.max(now);
        if full_at > now + BURST {
            return false;
        }
        let micros = (len as u64).saturating_mul(1_000_000).div_ceil(rate.max(1));
        self.full_at = full_at + Duration::from_micros(micros);
        true
    }

    /// True if it is to be told that it publishes more than it may: once in a while.
    pub(super) fn tells_excess(&mut self, now: Instant) -> bool {
        let news = self.told_excess.is_none_or(|at| at + TOLD_FOR <= now);
        if news {
            self.told_excess = Some(now);
        }
        news
    }
}

/// What was decided of the last few subjects: most sessions have to do with few.
#[derive(Default)]
pub(super) struct Verdicts {
    recent: Vec<(Box<str>, bool)>,
    next: usize,
}

/// How many are kept of a session.
const RECENT: usize = 4;
/// Longer subjects are looked up each time.
const LONGEST: usize = 128;

impl Verdicts {
    /// What `decide` says of `subject`, or said.
    pub(super) fn judge(&mut self, subject: Subject<'_>, decide: impl FnOnce(Subject<'_>) -> bool) -> bool {
        let text = subject.as_str();
        if let Some((_, verdict)) = self.recent.iter().find(|(known, _)| **known == *text) {
            return *verdict;
        }
        let verdict = decide(subject);
        if text.len() <= LONGEST {
            match self.recent.get_mut(self.next) {
                Some(place) => *place = (text.into(), verdict),
                None => self.recent.push((text.into(), verdict)),
            }
            self.next = (self.next + 1) % RECENT;
        }
        verdict
    }
}
