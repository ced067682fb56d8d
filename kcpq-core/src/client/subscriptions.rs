//! The client's subscriptions: each is asked for until the server acknowledges it, again after every reconnect.
//!
//! ```text
//!            SUB sent            acknowledged
//!  Wanted ------------> Asked ----------------> Active
//!    ^                   |  ^
//!    |                   v  | pause over
//!    +-- reconnect --- Pausing      (after the last attempt: failed)
//! ```
//!
//! The server registers a pattern once per session, so of several subscriptions to the same pattern one asks and the
//! others follow, and only the last one to leave sends UNSUB.

use super::config::Config;
use super::event::SubscribeFailure;
use crate::hello::Refusal;
use crate::store::{Queue, Store, Text};
use crate::subject;
use crate::time::Instant;

/// Names a subscription of one client; never used twice, 0 never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SubscriptionId(pub u32);

/// One subscription.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Subscription<T> {
    id: SubscriptionId,
    pattern: T,
    /// Only the newest message of each subject is wanted.
    latest: bool,
    state: State,
    /// It was acknowledged at least once.
    proven: bool,
    /// What came of asking for it, if its user has not been told yet.
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum State {
    Wanted,
    Asked { attempts: u8, until: Instant },
    Pausing { attempts: u8, until: Instant },
    Active,
    Leaving,
    Gone,
}

/// What came of asking for a subscription: it is acknowledged, or has failed.
type Outcome = Result<(), SubscribeFailure>;

/// What [`Subscriptions::send_requests`] wants to be sent.
pub(super) enum Request<'t> {
    Subscribe { number: u32, pattern: &'t str, latest: bool },
    Unsubscribe { number: u32, pattern: &'t str },
}

/// All subscriptions of a client.
pub(super) struct Subscriptions<S: Store> {
    /// In the order in which they were made.
    table: S::Queue<Subscription<S::Text>>,
    last_id: u32,
    /// Something may have to be sent without any timer, for this entry or one behind it.
    todo: Option<usize>,
    /// There may be something to tell, of this entry or one behind it.
    news: Option<usize>,
    /// There is one to be taken out.
    gone: bool,
    /// No timer in the table runs out before this.
    next_timeout: Option<Instant>,
    /// A subscription that was proven before is not acknowledged any more.
    unanswered: bool,
}

impl<S: Store> Subscriptions<S> {
    pub(super) fn new(table: S::Queue<Subscription<S::Text>>) -> Self {
        Self { table, last_id: 0, todo: None, news: None, gone: false, next_timeout: None, unanswered: false }
    }

    pub(super) fn has_room(&self) -> bool {
        self.table.has_room()
    }

    /// Adds a subscription; there is room.
    pub(super) fn add(&mut self, pattern: S::Text, latest: bool) -> Option<SubscriptionId> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let id = SubscriptionId(self.last_id);
        let entry = Subscription { id, pattern, latest, state: State::Wanted, proven: false, outcome: None };
        let index = self.table.len();
        self.table.push(entry).ok()?;
        self.look_at(index);
        Some(id)
    }

    /// The entry of this index, or another one behind it, may have something to send.
    fn look_at(&mut self, index: usize) {
        self.todo = Some(self.todo.map_or(index, |todo| todo.min(index)));
    }

    /// There is something to tell of the entry of this index.
    fn has_news(&mut self, index: usize) {
        self.news = Some(self.news.map_or(index, |news| news.min(index)));
    }

    /// Ends a subscription. False if there is none of that name.
    pub(super) fn remove(&mut self, id: SubscriptionId) -> bool {
        let Some((_, entry)) = self.find(id).filter(|(_, entry)| entry.is_listed()) else { return false };
        entry.outcome = None;
        let was_wanted = entry.state == State::Wanted;
        entry.state = if was_wanted { State::Gone } else { State::Leaving };
        self.gone |= was_wanted;
        // Another one of the same pattern may have to ask in its place.
        self.look_at(0);
        true
    }

    /// There is no connection: everything is to be asked for again.
    pub(super) fn on_disconnect(&mut self) {
        for index in 0..self.table.len() {
            let Some(entry) = self.table.get_mut(index) else { break };
            entry.state = match entry.state {
                State::Leaving | State::Gone => State::Gone,
                _ => State::Wanted,
            };
            if entry.outcome == Some(Ok(())) {
                entry.outcome = None;
            }
        }
        self.next_timeout = None;
        self.unanswered = false;
        self.gone = true;
        self.sweep();
        self.look_at(0);
    }

    /// Number of acknowledged subscriptions.
    pub(super) fn active(&self) -> u32 {
        (0..self.table.len())
            .filter(|index| self.table.get(*index).is_some_and(|entry| entry.state == State::Active))
            .count() as u32
    }

    /// The SUB or UNSUB numbered `number` was carried out or refused.
    pub(super) fn on_ack(&mut self, number: u32, refusal: Option<Refusal>) {
        let found = self.find(SubscriptionId(number));
        let Some((index, entry)) = found.filter(|(_, entry)| entry.is_asked()) else { return };
        match refusal {
            None => {
                let Ok(pattern) = S::Text::new(entry.pattern.as_ref()) else { return };
                let latest = entry.latest;
                self.confirm(&pattern, latest);
            }
            Some(refusal) => {
                entry.state = State::Gone;
                entry.outcome = Some(Err(SubscribeFailure::Refused(refusal)));
                self.gone = true;
                self.has_news(index);
                self.look_at(0);
            }
        }
    }

    /// The server has ended what was subscribed to `pattern`: it is not permitted any more.
    pub(super) fn on_ended(&mut self, pattern: &str) {
        for index in 0..self.table.len() {
            let Some(entry) = self.table.get_mut(index) else { break };
            if entry.state == State::Active && entry.pattern.as_ref() == pattern {
                entry.state = State::Gone;
                entry.outcome = Some(Err(SubscribeFailure::Refused(Refusal::NotPermitted)));
                self.gone = true;
                self.has_news(index);
            }
        }
    }

    /// The server has registered `pattern`: everything that waits for it is active, but for those that want every message
    /// and have not asked, if one that wants the `latest` was meant.
    pub(super) fn confirm(&mut self, pattern: &S::Text, latest: bool) {
        for index in 0..self.table.len() {
            let Some(entry) = self.table.get_mut(index) else { break };
            let other = latest && !entry.latest && entry.state == State::Wanted;
            if entry.is_pending() && !other && entry.pattern.is(pattern) {
                entry.state = State::Active;
                entry.proven = true;
                entry.outcome = Some(Ok(()));
                self.has_news(index);
            }
        }
    }

    /// Lets timers run out.
    pub(super) fn on_time(&mut self, now: Instant, config: &Config) {
        if self.next_timeout.is_none_or(|at| now < at) {
            return;
        }
        self.next_timeout = None;
        for index in 0..self.table.len() {
            let Some(entry) = self.table.get_mut(index) else { break };
            match entry.state {
                State::Asked { attempts, until } if until <= now => {
                    if attempts < config.subscribe_attempts {
                        entry.state = State::Pausing { attempts, until: now + config.subscribe_pause };
                    } else if entry.proven {
                        self.unanswered = true;
                    } else {
                        entry.state = State::Gone;
                        entry.outcome = Some(Err(SubscribeFailure::Unanswered { attempts }));
                        self.gone = true;
                        self.has_news(index);
                    }
                }
                State::Pausing { until, .. } if until <= now => self.look_at(index),
                _ => {}
            }
            let Some(entry) = self.table.get(index) else { break };
            if let State::Asked { until, .. } | State::Pausing { until, .. } = entry.state
                && until > now
            {
                self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// True if a subscription that worked before is not acknowledged any more.
    pub(super) fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// Sends what is to be sent, through `send`, which says whether it had room.
    pub(super) fn send_requests(&mut self, now: Instant, config: &Config, mut send: impl FnMut(Request<'_>) -> bool) {
        let Some(first) = self.todo.take() else { return };
        for index in first..self.table.len() {
            let Some(entry) = self.table.get(index) else { break };
            // Most have nothing to do, and need no look at all the others.
            match entry.state {
                State::Wanted | State::Leaving => {}
                State::Pausing { until, .. } if until <= now => {}
                State::Asked { .. } | State::Pausing { .. } | State::Active | State::Gone => continue,
            }
            let pattern = entry.pattern.as_ref();
            let (number, twin) = (entry.id.0, self.twin(index, &entry.pattern));
            let latest = self.all_latest(&entry.pattern);
            let next = match (entry.state, twin) {
                (State::Wanted, Some(State::Active)) => State::Active,
                (State::Wanted, None) => {
                    if !send(Request::Subscribe { number, pattern, latest }) {
                        self.todo = Some(index);
                        return;
                    }
                    State::Asked { attempts: 1, until: now + config.subscribe_timeout }
                }
                (State::Pausing { attempts, until }, _) if until <= now => {
                    if !send(Request::Subscribe { number, pattern, latest }) {
                        self.todo = Some(index);
                        return;
                    }
                    State::Asked { attempts: attempts + 1, until: now + config.subscribe_timeout }
                }
                (State::Leaving, None) => {
                    if !send(Request::Unsubscribe { number, pattern }) {
                        self.todo = Some(index);
                        return;
                    }
                    State::Gone
                }
                (State::Leaving, Some(_)) => State::Gone,
                (state, _) => state,
            };
            let Some(entry) = self.table.get_mut(index) else { break };
            let active = next == State::Active && entry.state != State::Active;
            if active {
                entry.proven = true;
                entry.outcome = Some(Ok(()));
            }
            entry.state = next;
            self.gone |= next == State::Gone;
            if active {
                self.has_news(index);
            }
            if let State::Asked { until, .. } = next {
                self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
            }
        }
        self.sweep();
    }

    /// The state of another subscription to the same pattern that the server knows, or that is about to ask for it.
    fn twin(&self, index: usize, pattern: &S::Text) -> Option<State> {
        let leaving = self.table.get(index).is_some_and(|entry| entry.state == State::Leaving);
        let others = (0..self.table.len()).filter(|other| *other != index);
        let same = others.filter_map(|other| self.table.get(other)).filter(|entry| entry.pattern.is(pattern));
        // One that wants every message is not served by one that wants the latest only.
        let every = !leaving && self.table.get(index).is_some_and(|entry| !entry.latest);
        let same = same.filter(|entry| !(every && entry.latest));
        let mut best = None;
        for entry in same {
            match entry.state {
                State::Active => return Some(State::Active),
                state @ (State::Asked { .. } | State::Pausing { .. }) => best = Some(state),
                // For one that leaves it is enough that another stays; of several that are wanted the first asks.
                State::Wanted if leaving => best = best.or(Some(State::Wanted)),
                _ => {}
            }
        }
        best
    }

    /// True if all subscriptions to `pattern` want the latest only.
    fn all_latest(&self, pattern: &S::Text) -> bool {
        let mut entries = (0..self.table.len()).filter_map(|index| self.table.get(index));
        entries.all(|entry| entry.latest || !entry.is_listed() || !entry.pattern.is(pattern))
    }

    /// Takes out what is gone and needs no word to its user.
    fn sweep(&mut self) {
        if !core::mem::take(&mut self.gone) {
            return;
        }
        // Those behind move up.
        self.todo = self.todo.map(|_| 0);
        self.news = self.news.map(|_| 0);
        // Around once, so that the others stay in their order.
        for _ in 0..self.table.len() {
            if let Some(entry) = self.table.pop()
                && (entry.state != State::Gone || entry.outcome.is_some())
            {
                self.gone |= entry.state == State::Gone;
                let _ = self.table.push(entry);
            }
        }
    }

    /// What a user is to be told, once.
    pub(super) fn poll_outcome(&mut self) -> Option<(SubscriptionId, Outcome)> {
        for index in self.news.take()?..self.table.len() {
            if let Some(entry) = self.table.get_mut(index)
                && let Some(outcome) = entry.outcome.take()
            {
                let id = entry.id;
                self.news = Some(index);
                if outcome.is_err() {
                    self.look_at(0);
                }
                return Some((id, outcome));
            }
        }
        self.sweep();
        None
    }

    /// The first subscription behind `last`, in the order in which they were made, that messages to `subject` are for.
    pub(super) fn next_for(&self, subject: &[u8], last: Option<SubscriptionId>) -> Option<SubscriptionId> {
        let first = last.map_or(0, |last| self.behind(last));
        (first..self.table.len()).filter_map(|index| self.table.get(index)).find_map(|entry| {
            (entry.is_listed() && subject::matches(entry.pattern.as_ref(), subject)).then_some(entry.id)
        })
    }

    /// How many there are, those that end included.
    #[cfg(feature = "alloc")]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Those that were made after `last`, and whose user still wants messages, with their patterns.
    #[cfg(feature = "alloc")]
    pub(super) fn listed_behind(&self, last: Option<SubscriptionId>) -> impl Iterator<Item = (SubscriptionId, &str)> {
        let first = last.map_or(0, |last| self.behind(last));
        let entries = (first..self.table.len()).filter_map(|index| self.table.get(index));
        entries.filter(|entry| entry.is_listed()).map(|entry| (entry.id, entry.pattern.as_ref()))
    }

    /// True if the user of the subscription still wants messages.
    pub(super) fn is_listed(&self, id: SubscriptionId) -> bool {
        let entry = self.behind(id).checked_sub(1).and_then(|index| self.table.get(index));
        entry.is_some_and(|entry| entry.id == id && entry.is_listed())
    }

    /// The index of the first subscription that was made after `id`.
    fn behind(&self, id: SubscriptionId) -> usize {
        let (mut low, mut high) = (0, self.table.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.table.get(middle).is_some_and(|entry| entry.id <= id) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The entry of this name, and its index.
    fn find(&mut self, id: SubscriptionId) -> Option<(usize, &mut Subscription<S::Text>)> {
        let index = self.behind(id).checked_sub(1)?;
        let entry = self.table.get_mut(index).filter(|entry| entry.id == id)?;
        Some((index, entry))
    }
}

impl<T> Subscription<T> {
    fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked { .. } | State::Pausing { .. })
    }

    fn is_pending(&self) -> bool {
        self.state == State::Wanted || self.is_asked()
    }

    /// Its user still wants messages.
    fn is_listed(&self) -> bool {
        self.state == State::Active || self.is_pending()
    }
}
