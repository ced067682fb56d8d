//! What the documents are made of: asked for when it is needed, and kept for a second.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use kcpq_core::broker::KeptView;
use kcpq_core::kcp;
use kcpq_std_server::{BackboneView, Counters, ReceiveQueues, Session, View, broker};
use smol::Timer;

use super::messages::{Viewer, Viewing};
use super::patterns::Patterns;
use super::recent::Recent;
use super::websocket::Door;

/// What does not change.
#[derive(Clone, Debug)]
pub(in super::super) struct About {
    /// What the server is called.
    pub(in super::super) name: String,
    /// When it was started.
    pub(in super::super) started: SystemTime,
    /// Its limits.
    pub(in super::super) max_sessions: usize,
    pub(in super::super) max_message: u32,
    pub(in super::super) max_queued: usize,
    pub(in super::super) max_queued_total: usize,
}

/// All sessions and counters at one moment.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) at: SystemTime,
    pub(super) sessions: Vec<Session>,
    /// Of each thread.
    pub(super) shards: Vec<Counters>,
    pub(super) queues: Option<ReceiveQueues>,
    /// How it is with the backbone, if there is one.
    pub(super) backbone: Option<BackboneView>,
    /// How often the file of last values could not be written.
    pub(super) kept_write_failures: u64,
    /// What sessions did since the look before.
    pub(super) recent: Rc<Recent>,
}

impl Look {
    /// Sessions and messages: the sum.
    pub(super) fn broker(&self) -> broker::Stats {
        let mut sum = broker::Stats::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.broker));
        sum
    }

    /// The smoothed round trip, in seconds, that a share of the open sessions have at most; `None` if none is known.
    pub(super) fn round_trips(&self, shares: [f64; 4]) -> [Option<f64>; 4] {
        let known = self.sessions.iter().filter_map(|session| session.round_trip);
        let mut all: Vec<u64> = known.map(|span| span.as_micros()).collect();
        all.sort_unstable();
        let at = |share: f64| (all.len().saturating_sub(1) as f64 * share).round() as usize;
        shares.map(|share| all.get(at(share)).map(|micros| *micros as f64 / 1e6))
    }

    /// The engines: the sum.
    pub(super) fn transport(&self) -> kcp::Stats {
        let mut sum = kcp::Stats::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.transport));
        sum
    }

    pub(super) fn unsendable(&self) -> u64 {
        self.shards.iter().map(|shard| shard.unsendable).sum()
    }
}

/// Looks at the server, no more than once a second at each thing.
#[derive(Debug)]
pub(super) struct Looker {
    view: View,
    pub(super) about: About,
    /// What is published.
    pub(super) viewer: Rc<Viewer>,
    /// Who may come by WebSocket, if anybody may.
    pub(super) door: Option<Door>,
    look: Kept<Look>,
    /// The last look's, for the next one.
    recent: RefCell<Option<Rc<Recent>>>,
    patterns: Kept<Patterns>,
    /// The last look's, for the next one.
    patterns_before: RefCell<Option<Rc<Patterns>>>,
    values: Kept<Vec<KeptView>>,
}

/// What was looked at last, and when.
#[derive(Debug)]
struct Kept<T>(RefCell<Option<(Instant, Rc<T>)>>);

/// For how long a look is good enough.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// How long a thread may take to show that it works.
const PULSE: Duration = Duration::from_secs(2);

impl Looker {
    pub(super) fn new(view: View, about: About, viewing: Viewing, door: Option<Door>) -> Self {
        Self {
            view,
            about,
            viewer: Rc::new(Viewer::new(viewing)),
            door,
            look: Kept::default(),
            recent: RefCell::default(),
            patterns: Kept::default(),
            patterns_before: RefCell::default(),
            values: Kept::default(),
        }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// True if all threads of the server work.
    pub(super) fn is_healthy(&self) -> bool {
        self.view.answers(PULSE)
    }

    /// Sessions and counters; `None` if a thread of the server has ended.
    pub(super) fn look(&self) -> Option<Rc<Look>> {
        self.look.fresh(|| {
            let sessions: Vec<Session> = self.view.sessions().collect();
            let recent = Rc::new(Recent::new(Instant::now(), &sessions, self.recent.borrow().as_deref()));
            self.recent.replace(Some(Rc::clone(&recent)));
            // Behind the sessions, so that what their engines have counted is in it.
            let shards = self.view.counters()?;
            let (queues, backbone) = (self.view.receive_queues(), self.view.backbone());
            let kept_write_failures = self.view.kept_write_failures();
            Some(Look { at: SystemTime::now(), sessions, shards, queues, backbone, kept_write_failures, recent })
        })
    }

    /// Patterns; `None` if a thread of the server has ended.
    pub(super) fn patterns(&self) -> Option<Rc<Patterns>> {
        let patterns = self.patterns.fresh(|| {
            let found = self.view.patterns()?.into_iter();
            let found = found.map(|(text, pattern)| (text, pattern.subscribers, pattern.messages));
            Some(Patterns::new(Instant::now(), found, self.patterns_before.borrow().as_deref()))
        });
        self.patterns_before.replace(patterns.clone());
        patterns
    }

    /// The last values of subjects, in their order; `None` if a thread of the server has ended.
    pub(super) fn kept(&self) -> Option<Rc<Vec<KeptView>>> {
        self.values.fresh(|| self.view.kept())
    }

    /// Waits until what is kept is of no use any more.
    pub(super) async fn stale(&self) {
        let recent = self.recent.borrow().as_ref().map(|recent| recent.until());
        let patterns = self.patterns_before.borrow().as_ref().map(|patterns| patterns.until());
        let kept = [self.look.until(), self.patterns.until(), self.values.until()];
        match kept.into_iter().chain([recent, patterns]).flatten().min() {
            Some(at) => drop(Timer::at(at).await),
            None => std::future::pending().await,
        }
    }

    /// Drops what is of no use any more.
    pub(super) fn forget(&self) {
        self.look.forget();
        self.patterns.forget();
        self.values.forget();
        self.recent.borrow_mut().take_if(|recent| recent.is_over(Instant::now()));
        self.patterns_before.borrow_mut().take_if(|patterns| patterns.is_over(Instant::now()));
    }
}

impl<T> Kept<T> {
    fn fresh(&self, look: impl FnOnce() -> Option<T>) -> Option<Rc<T>> {
        self.forget();
        if let Some((_, kept)) = &*self.0.borrow() {
            return Some(Rc::clone(kept));
        }
        let seen = Rc::new(look()?);
        // From when it was there: however long a look takes, it is not the only thing that is done.
        *self.0.borrow_mut() = Some((Instant::now(), Rc::clone(&seen)));
        Some(seen)
    }

    fn until(&self) -> Option<Instant> {
        self.0.borrow().as_ref().map(|(at, _)| *at + FRESH_FOR)
    }

    fn forget(&self) {
        if self.until().is_some_and(|until| until <= Instant::now()) {
            self.0.replace(None);
        }
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}
