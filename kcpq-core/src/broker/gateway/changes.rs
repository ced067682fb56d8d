//! Changes of last values by sessions here, until the bucket has them: of each subject the newest.
//!
//! ```text
//!        change            put                stored              heard
//!  none -------> Due ------------> UnderWay ---------> Put(seq) ---------> none
//!                 ^                    |
//!                 +--- no word of it --+  or a newer change meanwhile
//! ```
//!
//! The bucket gives all changes of all servers one order, and the last one counts. What it tells of a subject while one of ours is
//! under way may stand before that or behind it: that is known once ours has its sequence.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::time::{Duration, Instant};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Changes {
    all: BTreeMap<Box<str>, Change>,
    /// Subjects whose changes are to be put, in their order, and some that need not be any more.
    due: VecDeque<Box<str>>,
    /// By the number under which it was put.
    under_way: BTreeMap<u64, Box<str>>,
    timers: VecDeque<(Instant, u64)>,
    /// How many are in the bucket, and have not come from there yet.
    put: usize,
}

/// The last change of a subject.
#[derive(Debug)]
struct Change {
    frame: Option<Bytes>,
    expires: Option<Instant>,
    at: Instant,
    progress: Progress,
    /// What the bucket has told last while this was under way.
    heard: Option<Heard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Due,
    /// It is the one that was put unless it is renewed.
    UnderWay {
        renewed: bool,
    },
    /// The bucket has it under this sequence.
    Put {
        sequence: u64,
    },
}

/// A value of a subject, or that there is none any more, as the bucket tells it.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) sequence: u64,
    /// The MSG or MSGX.
    pub(super) frame: Option<Bytes>,
    pub(super) expires: Option<Instant>,
    /// How long ago it was published, then.
    pub(super) age: (Instant, Duration),
    /// This gateway has put it.
    pub(super) is_own: bool,
    /// Sessions here that are subscribed have not got it otherwise.
    pub(super) is_news: bool,
}

impl Heard {
    /// How long ago it was published.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.age.1 + now.since(self.age.0)
    }
}

/// A change that is to be put.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) subject: Box<str>,
    /// The MSGX, unless there is none any more.
    pub(super) frame: Option<Bytes>,
    pub(super) expires: Option<Instant>,
    /// When it was published.
    pub(super) at: Instant,
}

/// What follows from what the bucket has told.
#[derive(Debug)]
pub(super) enum Verdict {
    /// That is the value now.
    Newer(Heard),
    /// The same, and a change here which the bucket has not had is not put any more.
    Overtakes(Heard),
    /// What is here is newer, or the same; or it will show.
    Older,
}

/// Changes that wait at most.
pub(super) const MAX_CHANGES: usize = 65_536;
/// Of these so many are under way at most.
pub(super) const MAX_UNDER_WAY: usize = 256;
/// Without a word one is put again after this.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

impl Changes {
    /// How many the bucket may not have.
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.put
    }

    /// A session has changed a value. False if there is no room to remember that.
    pub(super) fn add(&mut self, now: Instant, subject: &str, frame: Option<Bytes>, expires: Option<Instant>) -> bool {
        if let Some(change) = self.all.get_mut(subject) {
            (change.frame, change.expires, change.at) = (frame, expires, now);
            match &mut change.progress {
                Progress::Due => {}
                Progress::UnderWay { renewed } => *renewed = true,
                progress @ Progress::Put { .. } => {
                    *progress = Progress::Due;
                    self.put -= 1;
                    self.due.push_back(subject.into());
                }
            }
            return true;
        }
        if self.len() >= MAX_CHANGES {
            return false;
        }
        let change = Change { frame, expires, at: now, progress: Progress::Due, heard: None };
        self.all.insert(subject.into(), change);
        self.due.push_back(subject.into());
        true
    }

    /// The next one that is to be put; its subject is due no more.
    pub(super) fn next_due(&mut self) -> Option<Due> {
        while self.under_way.len() < MAX_UNDER_WAY
            && let Some(subject) = self.due.pop_front()
        {
            if let Some(change) = self.all.get(&subject).filter(|change| change.progress == Progress::Due) {
                let (frame, expires, at) = (change.frame.clone(), change.expires, change.at);
                return Some(Due { subject, frame, expires, at });
            }
        }
        None
    }

    /// The next one is put, under this number.
    pub(super) fn on_under_way(&mut self, now: Instant, subject: Box<str>, number: u64) {
        if let Some(change) = self.all.get_mut(&subject) {
            (change.progress, change.heard) = (Progress::UnderWay { renewed: false }, None);
            self.under_way.insert(number, subject);
            self.timers.push_back((now + PATIENCE, number));
        }
    }

    /// There is a word on what was put under this number: its subject.
    pub(super) fn take_under_way(&mut self, number: u64) -> Option<Box<str>> {
        self.under_way.remove(&number)
    }

    /// The bucket has it under this sequence. What it has told meanwhile, if that stands behind it.
    pub(super) fn on_put(&mut self, subject: &str, sequence: u64) -> Option<Heard> {
        let change = self.all.get_mut(subject)?;
        let heard = change.heard.take();
        if change.progress == (Progress::UnderWay { renewed: true }) {
            change.progress = Progress::Due; // and goes behind what was heard
            self.due.push_back(subject.into());
            return None;
        }
        match heard {
            Some(heard) if heard.sequence >= sequence => {
                self.all.remove(subject);
                Some(heard).filter(|heard| heard.sequence > sequence)
            }
            _ => {
                change.progress = Progress::Put { sequence };
                self.put += 1;
                None
            }
        }
    }

    /// The bucket does not take it; a newer one it may.
    pub(super) fn on_refused(&mut self, subject: &str) {
        match self.all.get(subject).map(|change| change.progress) {
            Some(Progress::UnderWay { renewed: true }) => self.put_again(subject),
            _ => _ = self.remove(subject),
        }
    }

    /// It is put again, or what it has become meanwhile.
    pub(super) fn put_again(&mut self, subject: &str) {
        if let Some(change) = self.all.get_mut(subject)
            && matches!(change.progress, Progress::UnderWay { .. })
        {
            (change.progress, change.heard) = (Progress::Due, None);
            self.due.push_back(subject.into());
        }
    }

    /// It is not put.
    pub(super) fn remove(&mut self, subject: &str) -> bool {
        let removed = self.all.remove(subject);
        self.put -= usize::from(removed.as_ref().is_some_and(|change| matches!(change.progress, Progress::Put { .. })));
        removed.is_some()
    }

    /// The bucket tells of a subject. Whether a change here that it has not had is older is known by their times.
    pub(super) fn meet(&mut self, now: Instant, subject: &str, heard: Heard) -> Verdict {
        let Some(change) = self.all.get_mut(subject) else {
            return if heard.is_own { Verdict::Older } else { Verdict::Newer(heard) };
        };
        let (progress, at) = (change.progress, change.at);
        match progress {
            Progress::Put { sequence } if heard.sequence < sequence => Verdict::Older,
            Progress::Put { sequence } => {
                self.remove(subject);
                if heard.sequence > sequence { Verdict::Newer(heard) } else { Verdict::Older }
            }
            Progress::UnderWay { .. } => {
                change.heard = Some(heard);
                Verdict::Older
            }
            // One of ours from before, or the same: it is put again then.
            Progress::Due if heard.is_own || heard.age(now) > now.since(at) => Verdict::Older,
            Progress::Due => {
                self.remove(subject);
                Verdict::Overtakes(heard)
            }
        }
    }

    /// The bucket is read anew: all that it had it tells again.
    pub(super) fn on_read_anew(&mut self) {
        self.all.retain(|_, change| !matches!(change.progress, Progress::Put { .. }));
        self.put = 0;
    }

    /// The backbone is lost: no word comes any more.
    pub(super) fn on_lost(&mut self) {
        self.timers.clear();
        let lost = core::mem::take(&mut self.under_way);
        lost.values().for_each(|subject| self.put_again(subject));
    }

    /// Lets time run out: what no word came of is put again. How many are.
    pub(super) fn on_time(&mut self, now: Instant) -> u64 {
        let mut count = 0;
        while let Some((_, number)) = self.timers.front().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_front();
            if let Some(subject) = self.under_way.remove(&number) {
                self.put_again(&subject);
                count += 1;
            }
        }
        count
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.front().filter(|_| !self.under_way.is_empty()).map(|(at, _)| *at)
    }
}
