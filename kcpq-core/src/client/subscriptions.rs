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
//! others follow, and only the last one to leave sends UNSUB. Members of queue groups each ask for themselves, and so
//! does who wants the values that the server has kept, or what is stored: they are for the subscription that asked.

use super::config::Config;
use super::event::SubscribeFailure;
use super::phase::Server;
use super::replay::Replay;
use super::span::Span;
use crate::hello::{Ack, REPLAYS, Refusal, Subscribe};
use crate::lane::Asked;
#[cfg(any(feature = "alloc", feature = "queue"))]
use crate::store::TooLarge;
use crate::store::{Index, Queue, Store, Text};
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
    /// The pattern; and behind a space, which neither of them has, the queue group in which it is had.
    text: T,
    /// Only the newest message of each subject is wanted.
    latest: bool,
    /// The values that the server has kept are not.
    without_kept: bool,
    /// The lane in which they are to come.
    lane: Asked,
    /// There is a group.
    member: bool,
    /// What is stored is wanted, from there.
    replay: Replay,
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

/// What is wanted of the messages of a subscription.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants {
    /// Of those of one subject that wait only the newest.
    pub(super) latest: bool,
    /// Only those that are published from now on, and no kept values.
    pub(super) without_kept: bool,
    /// In this lane, if not in the one in which each was published.
    pub(super) lane: Asked,
    /// What is stored.
    pub(super) replay: Replay,
}

/// What a server knows, of what it has to know before it is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Knows {
    groups: bool,
    replays: bool,
}

impl Knows {
    #[cfg(all(test, feature = "alloc"))]
    pub(super) const ALL: Self = Self { groups: true, replays: true };

    /// What is known of one.
    pub(super) fn of(server: Option<&Server>) -> Self {
        Self {
            groups: GROUPS && server.is_some_and(Server::groups),
            replays: REPLAYS && server.is_some_and(Server::replays),
        }
    }
}

/// What came of asking for a subscription: it is acknowledged, or has failed.
type Outcome = Result<(), SubscribeFailure>;

/// What [`Subscriptions::send_requests`] wants to be sent.
pub(super) enum Request<'t> {
    Subscribe { pattern: &'t str, record: Subscribe<'t> },
    Unsubscribe { number: u32, pattern: &'t str },
}

/// All subscriptions of a client. What is done for one of them costs those of its pattern, where the store has an index, and
/// not all.
pub(super) struct Subscriptions<S: Store> {
    /// In the order in which they were made.
    table: S::Queue<Subscription<S::Text>>,
    /// Where those of a pattern are.
    index: S::Index,
    last_id: u32,
    /// For these something may have to be sent without any timer.
    todo: Span,
    /// Of these there may be something to tell.
    news: Span,
    /// How many are to be taken out, once their users have been told, or more.
    gone: u16,
    /// No timer in the table runs out before this.
    next_timeout: Option<Instant>,
    /// A subscription that was proven before is not acknowledged any more.
    unanswered: bool,
}

impl<S: Store> Subscriptions<S> {
    pub(super) fn new(table: S::Queue<Subscription<S::Text>>) -> Self {
        Self {
            table,
            index: S::Index::default(),
            last_id: 0,
            todo: Span::default(),
            news: Span::default(),
            gone: 0,
            next_timeout: None,
            unanswered: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.table.has_room()
    }

    /// Adds a subscription, to a pattern or to one [in a group](in_group); there is room.
    pub(super) fn add(&mut self, text: S::Text, wants: Wants) -> Option<SubscriptionId> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let id = SubscriptionId(self.last_id);
        self.index.insert(&text, id.0);
        let member = parts(text.as_ref()).1.is_some();
        let Wants { latest, without_kept, lane, replay } = wants;
        let state = State::Wanted;
        let (proven, outcome) = (false, None);
        let entry = Subscription { id, text, latest, without_kept, lane, member, replay, state, proven, outcome };
        let index = self.table.len();
        self.table.push(entry).ok()?;
        self.look_at(index);
        Some(id)
    }

    /// For the entry of this index there may be something to send.
    fn look_at(&mut self, index: usize) {
        self.todo.add(index);
    }

    /// There is something to tell of the entry of this index.
    fn has_news(&mut self, index: usize) {
        self.news.add(index);
    }

    /// The entry of this index is to be taken out.
    #[cfg_attr(target_os = "none", inline(never))]
    fn let_go(&mut self, index: usize) {
        if let Some(entry) = self.table.get_mut(index) {
            entry.state = State::Gone;
            self.index.remove(&entry.text, entry.id.0);
            self.gone = self.gone.saturating_add(1);
        }
    }

    /// The same as with [`look_at`](Self::look_at) for all that wait for the server to register the pattern of this one, which
    /// does not ask any more.
    fn look_at_others(&mut self, index: usize) {
        let Some(entry) = self.table.get(index) else { return };
        let mut todo = self.todo;
        self.same(&entry.text).for_each(|(index, _)| todo.add(index));
        self.todo = todo;
    }

    /// Ends a subscription. False if there is none of that name.
    pub(super) fn remove(&mut self, id: SubscriptionId) -> bool {
        let Some((index, entry)) = self.find(id).filter(|(_, entry)| entry.is_listed()) else { return false };
        entry.outcome = None;
        let before = core::mem::replace(&mut entry.state, State::Leaving);
        match before {
            State::Wanted => self.let_go(index),
            State::Asked { .. } | State::Pausing { .. } => self.look_at_others(index),
            _ => {}
        }
        self.look_at(index);
        true
    }

    /// There is no connection: everything is to be asked for again.
    pub(super) fn on_disconnect(&mut self) {
        for index in 0..self.table.len() {
            let Some(entry) = self.table.get_mut(index) else { break };
            if entry.outcome == Some(Ok(())) {
                entry.outcome = None;
            }
            match entry.state {
                State::Leaving => self.let_go(index),
                State::Gone => {}
                _ => entry.state = State::Wanted,
            }
        }
        self.next_timeout = None;
        self.unanswered = false;
        self.todo = Span::all(self.table.len());
        self.sweep();
    }

    /// Number of acknowledged subscriptions.
    pub(super) fn active(&self) -> u32 {
        let entries = (0..self.table.len()).filter_map(|index| self.table.get(index));
        entries.filter(|entry| entry.state == State::Active).count() as u32
    }

    /// The SUB or UNSUB numbered `number` was carried out or refused.
    /// `first` is what an acknowledgement says of what is [stored](Ack::first).
    pub(super) fn on_ack(&mut self, now: Instant, config: &Config, ack: Ack, first: Option<u64>) {
        let found = self.find(SubscriptionId(ack.number));
        let Some((index, entry)) = found.filter(|(_, entry)| entry.is_asked()) else { return };
        match ack.refusal {
            None if entry.is_alone() => {
                entry.replay.on_begun(first);
                entry.is_confirmed();
                self.has_news(index);
            }
            None => {
                let Ok(pattern) = S::Text::new(entry.text.as_ref()) else { return };
                let latest = entry.latest;
                self.confirm(&pattern, latest);
            }
            Some(Refusal::StoreAway) if REPLAYS && entry.proven => {
                // It was there, and will be again.
                let until = now + config.subscribe_pause;
                entry.state = State::Pausing { attempts: 0, until };
                self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
            }
            Some(refusal) => self.fail(index, SubscribeFailure::Refused(refusal)),
        }
    }

    /// The server has ended what was subscribed to `pattern`: it is not permitted any more.
    pub(super) fn on_ended(&mut self, pattern: &str) {
        for index in 0..self.table.len() {
            let Some(entry) = self.table.get(index) else { break };
            if entry.state == State::Active && entry.pattern() == pattern {
                self.fail(index, SubscribeFailure::Refused(Refusal::NotPermitted));
            }
        }
    }

    /// The subscription of this index has come to nothing. Others of its pattern ask in its place.
    fn fail(&mut self, index: usize, why: SubscribeFailure) {
        if let Some(entry) = self.table.get_mut(index) {
            entry.outcome = Some(Err(why));
        }
        self.let_go(index);
        self.has_news(index);
        self.look_at_others(index);
    }

    /// The server has registered `pattern`: everything that waits for it is active, but for those that want every
    /// message if one that wants the `latest` was meant.
    pub(super) fn confirm(&mut self, pattern: &S::Text, latest: bool) {
        let Self { table, index, news, .. } = self;
        for place in index.places(pattern, table.len()) {
            let Some(index) = S::Index::position(place, |number| position(table, SubscriptionId(number))) else {
                continue;
            };
            let Some(entry) = table.get_mut(index) else { continue };
            let other = latest && !entry.latest;
            if entry.is_pending() && !other && !entry.replay.is_wanted() && entry.text.is(pattern) {
                entry.is_confirmed();
                news.add(index);
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
                        // The server may have done so all the same, or do so yet: what was asked for is on its way.
                        entry.outcome = Some(Err(SubscribeFailure::Unanswered { attempts }));
                        entry.state = State::Leaving;
                        self.has_news(index);
                        self.look_at_others(index);
                        self.look_at(index);
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

    /// Sends what is to be sent, through `send`, which says whether it had room. Members of queue groups, and who wants what is
    /// stored, wait until it is known whether the server `knows` such, and fail if it does not.
    pub(super) fn send_requests(
        &mut self,
        now: Instant,
        config: &Config,
        knows: Option<Knows>,
        mut send: impl FnMut(Request<'_>) -> bool,
    ) {
        let todo = self.todo.take(self.table.len());
        if todo.is_empty() {
            return;
        }
        for index in todo.clone() {
            let Some(entry) = self.table.get(index) else { break };
            // Most have nothing to do, and need no look at all the others.
            match entry.state {
                State::Wanted | State::Leaving => {}
                State::Pausing { until, .. } if until <= now => {}
                State::Asked { .. } | State::Pausing { .. } | State::Active | State::Gone => continue,
            }
            let (pattern, group) = parts(entry.text.as_ref());
            let needs = match (entry.replay.is_wanted(), group) {
                _ if entry.state == State::Leaving => None,
                (true, _) => Some((knows.map(|knows| knows.replays), SubscribeFailure::NoReplays)),
                (false, Some(_)) => Some((knows.map(|knows| knows.groups), SubscribeFailure::Unsupported)),
                (false, None) => None,
            };
            match needs {
                None | Some((Some(true), _)) => {}
                Some((None, _)) => {
                    self.look_at(index);
                    continue;
                }
                Some((Some(false), why)) => {
                    self.fail(index, why);
                    continue;
                }
            }
            let follows = entry.state == State::Leaving || !entry.asks_alone();
            let (number, twin) = (entry.id.0, if follows { self.twin(index, entry) } else { None });
            let (request, next) = match (entry.state, twin) {
                (State::Wanted, Some(State::Active)) => (None, State::Active),
                (State::Leaving, Some(_)) => (None, State::Gone),
                (State::Leaving, None) => (Some(Request::Unsubscribe { number, pattern }), State::Gone),
                (State::Wanted, Some(_)) => continue,
                (state, _) => {
                    let attempts = if let State::Pausing { attempts, .. } = state { attempts + 1 } else { 1 };
                    let latest = if entry.is_alone() { entry.latest } else { self.all_latest(&entry.text) };
                    let until = now + config.subscribe_timeout;
                    let (without_kept, lane) = (MARKED && entry.without_kept, entry.lane.get());
                    let (stored, durable) = entry.replay.asks(now);
                    let record = Subscribe { number, latest, without_kept, lane, group, stored, durable };
                    (Some(Request::Subscribe { pattern, record }), State::Asked { attempts, until })
                }
            };
            if let Some(request) = request
                && !send(request)
            {
                self.todo.set(index..todo.end);
                return;
            }
            let Some(entry) = self.table.get_mut(index) else { break };
            entry.state = next;
            match next {
                State::Active => {
                    entry.is_confirmed();
                    self.has_news(index);
                }
                State::Asked { until, .. } => {
                    self.next_timeout = Instant::earlier(self.next_timeout, Some(until));
                }
                _ => self.let_go(index),
            }
        }
        self.sweep();
    }

    /// The subscriptions of this text, in no particular order, without those to what is stored.
    fn same<'t>(&'t self, text: &'t S::Text) -> impl Iterator<Item = (usize, &'t Subscription<S::Text>)> {
        let places = self.index.places(text, self.table.len());
        places.filter_map(move |place| {
            let index = S::Index::position(place, |number| position(&self.table, SubscriptionId(number)))?;
            let entry = self.table.get(index).filter(|entry| entry.text.is(text) && !entry.replay.is_wanted())?;
            Some((index, entry))
        })
    }

    /// The state of another subscription to the same pattern that the server knows, or that is about to ask for it.
    fn twin(&self, index: usize, entry: &Subscription<S::Text>) -> Option<State> {
        if entry.is_alone() {
            return None;
        }
        let leaving = entry.state == State::Leaving;
        // One that wants every message is not served by one that wants the latest only.
        let every = !leaving && !entry.latest;
        let others = self.same(&entry.text).filter(|(other, twin)| *other != index && !(every && twin.latest));
        let mut best = None;
        for (_, twin) in others {
            match twin.state {
                State::Active => return Some(State::Active),
                // Of those that want every message none is active while another one asks, unless that asks alone.
                state @ (State::Asked { .. } | State::Pausing { .. }) if every && !MARKED => return Some(state),
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
        self.same(pattern).all(|(_, entry)| entry.latest || !entry.is_listed())
    }

    /// Takes out what is gone and needs no word to its user, once that is worth moving all others up.
    fn sweep(&mut self) {
        let enough = self.gone == u16::MAX || usize::from(self.gone) * 2 > self.table.len();
        if !enough && (self.gone == 0 || self.table.has_room()) {
            return;
        }
        self.gone = 0;
        // Around once, so that the others stay in their order.
        for _ in 0..self.table.len() {
            if let Some(entry) = self.table.pop() {
                let is_gone = entry.state == State::Gone;
                if !is_gone || entry.outcome.is_some() {
                    self.gone = self.gone.saturating_add(is_gone.into());
                    let _ = self.table.push(entry);
                }
            }
        }
        for span in [&mut self.todo, &mut self.news] {
            span.on_moved(self.table.len());
        }
    }

    /// What a user is to be told, once.
    pub(super) fn poll_outcome(&mut self) -> Option<(SubscriptionId, Outcome)> {
        let news = self.news.take(self.table.len());
        for index in news.clone() {
            if let Some(entry) = self.table.get_mut(index)
                && let Some(outcome) = entry.outcome.take()
            {
                self.news.set(index..news.end);
                return Some((entry.id, outcome));
            }
        }
        self.sweep();
        None
    }

    /// The first subscription behind `last`, in the order in which they were made, that messages to `subject` are for. Members
    /// of queue groups, and who wants what is stored, get what is for them alone.
    pub(super) fn next_for(&self, subject: &[u8], last: Option<SubscriptionId>) -> Option<SubscriptionId> {
        let first = last.map_or(0, |last| self.behind(last));
        (first..self.table.len()).filter_map(|index| self.table.get(index)).find_map(|entry| {
            let wants = entry.is_listed() && !entry.is_alone() && subject::matches(entry.text.as_ref(), subject);
            wants.then_some(entry.id)
        })
    }

    /// The subscription of this number, if its user still wants messages.
    pub(super) fn addressee(&self, number: u32) -> Option<SubscriptionId> {
        Some(SubscriptionId(number)).filter(|id| self.is_listed(*id))
    }

    /// A message that was stored, with this sequence, is handed out to the subscription of this number.
    pub(super) fn on_handed_out(&mut self, number: u32, sequence: u64) {
        if let Some((_, entry)) = self.find(SubscriptionId(number)) {
            entry.replay.on_handed_out(sequence);
        }
    }

    /// How many there are, those that end included.
    #[cfg(feature = "alloc")]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Those that were made after `last`, and whose user still wants messages, with their patterns. Without those that
    /// get what is for them alone.
    #[cfg(feature = "alloc")]
    pub(super) fn listed_behind(&self, last: Option<SubscriptionId>) -> impl Iterator<Item = (SubscriptionId, &str)> {
        let first = last.map_or(0, |last| self.behind(last));
        let entries = (first..self.table.len()).filter_map(|index| self.table.get(index));
        entries.filter(|entry| entry.is_listed() && !entry.is_alone()).map(|entry| (entry.id, entry.text.as_ref()))
    }

    /// True if the user of the subscription still wants messages.
    pub(super) fn is_listed(&self, id: SubscriptionId) -> bool {
        let entry = position(&self.table, id).and_then(|index| self.table.get(index));
        entry.is_some_and(Subscription::is_listed)
    }

    /// True if it was ended, and the server is still to be told.
    pub(super) fn is_leaving(&self, id: SubscriptionId) -> bool {
        let entry = position(&self.table, id).and_then(|index| self.table.get(index));
        entry.is_some_and(|entry| entry.state == State::Leaving)
    }

    /// The index of the first subscription that was made after `id`.
    fn behind(&self, id: SubscriptionId) -> usize {
        behind(&self.table, id)
    }

    /// The entry of this name, and its index.
    fn find(&mut self, id: SubscriptionId) -> Option<(usize, &mut Subscription<S::Text>)> {
        let index = position(&self.table, id)?;
        Some((index, self.table.get_mut(index)?))
    }
}

/// There are queue groups. Where there is no way to ask for one no code for them is left.
const GROUPS: bool = cfg!(any(feature = "alloc", feature = "queue"));

/// Kept values are marked and told whom they are for. Where marks are not known nobody asks for them beside others.
const MARKED: bool = cfg!(feature = "properties");

/// The text of a subscription to `pattern` in a queue group.
#[cfg(any(feature = "alloc", feature = "queue"))]
pub(super) fn in_group<T: Text>(pattern: &str, group: &str) -> Result<T, TooLarge> {
    T::concat([pattern, " ", group])
}

/// The pattern of a text, and the group.
fn parts(text: &str) -> (&str, Option<&str>) {
    if !GROUPS {
        return (text, None);
    }
    text.split_once(' ').map_or((text, None), |(pattern, group)| (pattern, Some(group)))
}

/// The index of the first subscription of a table that was made after `id`.
fn behind<T>(table: &impl Queue<Subscription<T>>, id: SubscriptionId) -> usize {
    let (mut low, mut high) = (0, table.len());
    while low < high {
        let middle = low.midpoint(high);
        if table.get(middle).is_some_and(|entry| entry.id <= id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The index of the subscription of this name.
fn position<T>(table: &impl Queue<Subscription<T>>, id: SubscriptionId) -> Option<usize> {
    let index = behind(table, id).checked_sub(1)?;
    table.get(index).filter(|entry| entry.id == id)?;
    Some(index)
}

impl<T: Text> Subscription<T> {
    fn pattern(&self) -> &str {
        parts(self.text.as_ref()).0
    }
}

impl<T> Subscription<T> {
    /// It gets what is for it alone: as a member of a queue group, or as what is stored.
    fn is_alone(&self) -> bool {
        GROUPS && self.member || self.replay.is_wanted()
    }

    /// The server has registered it, which its user is to be told.
    fn is_confirmed(&mut self) {
        self.state = State::Active;
        self.proven = true;
        self.outcome = Some(Ok(()));
    }

    /// It asks even if another one of its pattern has: for the values that the server has kept.
    fn asks_alone(&self) -> bool {
        MARKED && !self.without_kept
    }

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
