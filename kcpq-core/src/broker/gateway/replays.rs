//! Subscriptions of sessions to what is stored: each reads from the store as much as its session takes, and where it was when
//! the store or the backbone is back.
//!
//! ```text
//!             Opened                    lost
//!  Opening -----------> Open ------------------------+
//!     ^  |                                           v
//!     |  +-- refused, for the first time: gone     Waiting
//!     +----------------------------------------------+
//!               a moment later, behind the last message that was handed on
//! ```
//!
//! Each time it is opened it has another number at the store, so nothing is taken for its own that belongs to an earlier life.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;

use super::store::{StoreEvent, StoreOrder, StoredMessage};
use super::{Gateway, inbound};
use crate::broker::replays::{Ask, Key, Say};
use crate::broker::shards::Told;
use crate::frame::properties;
use crate::hello::Refusal;
use crate::replay::{Settlement, Start, Stored};
use crate::subject::Subject;
use crate::time::{Duration, Instant};

/// See above.
#[derive(Debug, Default)]
pub(super) struct Replays {
    by_id: BTreeMap<u32, Replay>,
    /// The numbers by the brokers' names for them.
    ids: BTreeMap<(u8, Key), u32>,
    last_id: u32,
    orders: VecDeque<StoreOrder>,
}

#[derive(Debug)]
struct Replay {
    from: u8,
    key: Key,
    number: u32,
    pattern: Box<str>,
    durable: Option<Box<str>>,
    start: Start,
    begun: Instant,
    state: Progress,
    /// Its session knows that it has begun.
    is_proven: bool,
    /// What its session still takes; of that the store was asked for so many.
    credit: u32,
    pulled: u32,
    /// The next message is too large for the bound, and comes alone.
    alone: bool,
    /// The sequence of the first message that was not handed on, and the place of the last one.
    next: Option<u64>,
    place: u64,
    /// It has had all that was stored when it began.
    is_up_to_date: bool,
    /// What is still stored for it.
    backlog: u64,
    /// What its session has not settled: by what the store knows it.
    unsettled: BTreeMap<u64, Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Opening { until: Instant },
    Open { heard: Instant },
    Waiting { until: Instant },
}

/// So many bytes are asked for at a time, unless one message alone has more.
const BYTES: u32 = 256 * 1024;
/// Most messages that a session may have asked for.
const MAX_CREDIT: u32 = 4096;
/// How long the store may take to open one.
const OPENS_WITHIN: Duration = Duration::from_secs(5);
/// One that is lost is opened again after so long.
const PAUSE: Duration = Duration::from_secs(1);
/// The store says at least so often that it is there while messages are waited for, and is asked again if it has not.
const SILENCE: Duration = Duration::from_secs(7);

impl Replay {
    /// Where it is to be opened now.
    fn start(&self, now: Instant) -> Start {
        match (self.next, self.start) {
            // Not all that follows is wanted as long as it has not had the last ones.
            (_, Start::Last) if !self.is_up_to_date => Start::Last,
            (Some(next), _) => Start::From(next),
            (None, Start::Since(span)) => Start::Since(span + now.since(self.begun)),
            (None, start) => start,
        }
    }

    /// When something has to be done without any word.
    fn due(&self) -> Option<Instant> {
        match self.state {
            Progress::Opening { until } | Progress::Waiting { until } => Some(until),
            Progress::Open { heard } => (self.pulled > 0).then(|| heard + SILENCE),
        }
    }

    /// What its session takes more is asked for, if nothing is under way.
    fn pull(&mut self, id: u32, now: Instant, orders: &mut VecDeque<StoreOrder>) {
        if self.pulled > 0 || self.credit == 0 || !matches!(self.state, Progress::Open { .. }) {
            return;
        }
        let (count, bytes) = if self.alone { (1, None) } else { (self.credit, Some(BYTES)) };
        (self.pulled, self.state) = (count, Progress::Open { heard: now });
        orders.push_back(StoreOrder::Pull { id, count, bytes });
    }
}

impl Replays {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// What is still stored for them, as far as that is known.
    pub(super) fn backlog(&self) -> u64 {
        self.by_id.values().map(|replay| replay.backlog).sum()
    }

    /// A number that is used once.
    pub(super) fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// The store is to do this.
    pub(super) fn order(&mut self, order: StoreOrder) {
        self.orders.push_back(order);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.by_id.values().filter_map(Replay::due).min()
    }

    /// Opens one, under another number than before if there was one.
    fn open(&mut self, now: Instant, mut replay: Replay) {
        let id = self.next_id();
        self.ids.insert((replay.from, replay.key), id);
        replay.state = Progress::Opening { until: now + OPENS_WITHIN };
        (replay.pulled, replay.place) = (0, 0);
        self.orders.push_back(StoreOrder::Open {
            id,
            pattern: replay.pattern.clone(),
            start: replay.start(now),
            durable: replay.durable.clone(),
        });
        self.by_id.insert(id, replay);
    }

    /// One that has begun is opened again in a moment.
    fn wait(&mut self, id: u32, until: Instant) {
        if let Some(replay) = self.by_id.get_mut(&id) {
            if !matches!(replay.state, Progress::Waiting { .. }) {
                self.orders.push_back(StoreOrder::Close { id });
            }
            replay.state = Progress::Waiting { until };
            replay.pulled = 0;
        }
    }

    /// One is no more.
    fn remove(&mut self, id: u32) -> Option<Replay> {
        let replay = self.by_id.remove(&id)?;
        self.ids.remove(&(replay.from, replay.key));
        Some(replay)
    }
}

impl Gateway {
    // --- sessions ---

    /// A broker asks for something that is about a subscription of a session to what is stored.
    pub(super) fn on_ask(&mut self, now: Instant, from: u8, key: Key, ask: Ask) {
        if let Ask::Open { number, pattern, start, durable, count } = ask {
            return self.open_replay(now, (from, key), number, &pattern, (start, durable), count);
        }
        let Self { replays, stats, .. } = self;
        let Some(id) = replays.ids.get(&(from, key)).copied() else { return };
        let Some(replay) = replays.by_id.get_mut(&id) else { return };
        match ask {
            Ask::Open { .. } => {}
            Ask::More(count) => {
                replay.credit = replay.credit.saturating_add(count).min(MAX_CREDIT);
                replay.pull(id, now, &mut replays.orders);
            }
            Ask::Settle { sequence, settlement } => {
                // Who still works on it has not settled it.
                let handle = match settlement {
                    Settlement::Working => replay.unsettled.get(&sequence).cloned(),
                    _ => replay.unsettled.remove(&sequence),
                };
                let Some(handle) = handle else { return };
                match settlement {
                    Settlement::Ack => stats.replays_acknowledged += 1,
                    Settlement::Nak => stats.replays_returned += 1,
                    Settlement::Term => stats.replays_terminated += 1,
                    Settlement::Working => {}
                }
                replays.orders.push_back(StoreOrder::Settle { handle, settlement });
            }
            Ask::End => {
                let Some(replay) = replays.remove(id) else { return };
                replays.orders.push_back(StoreOrder::Close { id });
                // Whoever is next under its name need not wait for these.
                for handle in replay.unsettled.into_values() {
                    replays.orders.push_back(StoreOrder::Settle { handle, settlement: Settlement::Nak });
                }
            }
        }
    }

    fn open_replay(
        &mut self,
        now: Instant,
        (from, key): (u8, Key),
        number: u32,
        pattern: &str,
        (start, durable): (Start, Option<Box<str>>),
        credit: u32,
    ) {
        let (mut wanted, too_long) = self.subjects.wanted(pattern);
        let refused = match (wanted.is_empty(), self.reaches_store()) {
            _ if too_long => Some((Refusal::NoStream, "the pattern is too long for the backbone")),
            (true, _) => Some((Refusal::NoStream, "nothing of this pattern comes in from the backbone")),
            (false, false) if self.is_leaf() => Some((
                Refusal::StoreAway,
                "there is no connection to the store: a leaf node of NATS has one with --nats, if NATS is there",
            )),
            (false, false) => Some((Refusal::StoreAway, "the backbone is not there")),
            (false, true) => None,
        };
        if let Some((refusal, text)) = refused {
            self.stats.replays_refused += 1;
            return self.say(from, key, Say::Refused { refusal, text: text.into() });
        }
        // A reader has one pattern. What it brings that is not to come in is left out.
        let pattern = match wanted.pop() {
            Some(alone) if wanted.is_empty() => alone,
            _ => self.subjects.there(pattern),
        };
        let replay = Replay {
            from,
            key,
            number,
            pattern,
            durable,
            start,
            begun: now,
            state: Progress::Waiting { until: now },
            is_proven: false,
            credit: credit.min(MAX_CREDIT),
            pulled: 0,
            alone: false,
            next: None,
            place: 0,
            is_up_to_date: false,
            backlog: 0,
            unsettled: BTreeMap::new(),
        };
        self.replays.open(now, replay);
    }

    fn say(&mut self, from: u8, key: Key, say: Say) {
        if let Some(link) = self.link(from) {
            link.tell(Told::Say { key, say });
        }
    }

    // --- the store ---

    /// The next thing that the store is to do; to be called until `None` after anything else was. `None` as well while the
    /// backbone is not there.
    pub fn poll_store(&mut self) -> Option<StoreOrder> {
        if !self.reaches_store() {
            return None;
        }
        self.replays.orders.pop_front()
    }

    /// Takes in what the store has to say. What it says of a number that is over has no effect, but that messages go back.
    pub fn handle_store(&mut self, now: Instant, event: StoreEvent<'_>) {
        if self.values.is_reader(event.id()) {
            return self.on_value_event(now, event);
        }
        match event {
            StoreEvent::Opened { id, first, .. } => {
                let Some(replay) = self.replays.by_id.get_mut(&id) else { return };
                replay.state = Progress::Open { heard: now };
                if replay.durable.is_none() && replay.next.is_none() && first > 0 && replay.start != Start::Last {
                    replay.next = Some(first);
                }
                let news = !core::mem::replace(&mut replay.is_proven, true);
                let (from, key, first) = (replay.from, replay.key, replay.next.unwrap_or_default());
                replay.pull(id, now, &mut self.replays.orders);
                if news {
                    self.stats.replays_opened += 1;
                    self.say(from, key, Say::Opened { first });
                } else {
                    self.stats.replays_resumed += 1;
                }
            }
            StoreEvent::Refused { id, why, text } => self.on_refused(now, id, why, text),
            StoreEvent::Message(message) => self.on_stored(now, &message),
            StoreEvent::Alive { id } => {
                if let Some(Replay { state: Progress::Open { heard }, .. }) = self.replays.by_id.get_mut(&id) {
                    *heard = now;
                }
            }
            StoreEvent::Ended { id, too_large } => {
                let Replays { by_id, orders, .. } = &mut self.replays;
                if let Some(replay) = by_id.get_mut(&id) {
                    (replay.pulled, replay.alone) = (0, too_large);
                    replay.pull(id, now, orders);
                }
            }
            StoreEvent::Lost { id } => self.replays.wait(id, now + PAUSE),
        }
    }

    /// The store does not open one. Of one that had begun it is asked again and again.
    fn on_refused(&mut self, now: Instant, id: u32, refusal: Refusal, text: &str) {
        let Some(replay) = self.replays.by_id.get(&id) else { return };
        self.stats.replays_refused += 1;
        if replay.is_proven {
            return self.replays.wait(id, now + PAUSE);
        }
        let (from, key) = (replay.from, replay.key);
        self.replays.remove(id);
        self.say(from, key, Say::Refused { refusal, text: text.into() });
    }

    fn on_stored(&mut self, now: Instant, message: &StoredMessage<'_>) {
        let StoredMessage { id, sequence, place, deliveries, stored_at, pending, handle, .. } = *message;
        let settle = |settlement| handle.map(|handle| StoreOrder::Settle { handle: handle.into(), settlement });
        let Some(replay) = self.replays.by_id.get_mut(&id) else {
            // Its session has gone meanwhile.
            self.stats.unwanted += 1;
            return self.replays.orders.extend(settle(Settlement::Nak));
        };
        replay.pulled = replay.pulled.saturating_sub(1);
        (replay.backlog, replay.alone) = (pending, false);
        if let Progress::Open { heard } = &mut replay.state {
            *heard = now;
        }
        if replay.durable.is_none() {
            if place != replay.place + 1 {
                // Some were lost on the way.
                return self.replays.wait(id, now);
            }
            replay.place = place;
            replay.is_up_to_date |= pending == 0;
            if replay.next.is_some_and(|next| sequence < next) {
                return replay.pull(id, now, &mut self.replays.orders); // it was handed on before
            }
            replay.next = sequence.checked_add(1);
        }
        let (from, key, stored) =
            (replay.from, replay.key, Stored { number: replay.number, sequence, stored_at, deliveries });
        let frame = self.stored_frame(message, &stored);
        let Replays { by_id, orders, .. } = &mut self.replays;
        let Some(replay) = by_id.get_mut(&id) else { return };
        match frame {
            Some(frame) => {
                replay.credit = replay.credit.saturating_sub(1);
                if let Some(handle) = handle {
                    replay.unsettled.insert(sequence, handle.into());
                }
                self.stats.replayed += 1;
                self.stats.redelivered += u64::from(deliveries > 1);
                if let Some(link) = self.links.get_mut(usize::from(from)) {
                    link.tell(Told::Say { key, say: Say::Message(frame.freeze()) });
                }
            }
            // It would be the same the next time.
            None => orders.extend(settle(Settlement::Term)),
        }
        replay.pull(id, now, orders);
    }

    /// The MSGX of a message for its session; `None` if it is none for sessions of this server, which is counted. Its time to
    /// live does not count: how long it stays is the stream's to say.
    fn stored_frame(&mut self, message: &StoredMessage<'_>, stored: &Stored) -> Option<bytes::BytesMut> {
        let mut local = core::mem::take(&mut self.scratch.subject);
        let is_ours = self.subjects.write_in(message.subject, &mut local);
        let frame = match Subject::new(&local, &self.config.subjects).ok().filter(|_| is_ours) {
            Some(subject) => {
                let inbound::Said { properties, .. } = self.read(message.headers, true);
                let all = [properties.properties().as_bytes(), &properties::stored(stored)[..]].concat();
                let frame = inbound::frame(&subject, message.payload, &all, None, false)
                    .filter(|frame| frame.len() <= self.config.frames.max_body as usize);
                self.stats.dropped_too_large += u64::from(frame.is_none());
                frame
            }
            None => {
                self.stats.dropped_unmapped += 1;
                None
            }
        };
        self.scratch.subject = local;
        frame
    }

    // --- time, and the backbone ---

    /// Lets their timers run out.
    pub(super) fn on_store_time(&mut self, now: Instant) {
        let due = |(id, replay): (&u32, &Replay)| replay.due().filter(|at| *at <= now).map(|_| *id);
        let due: Vec<u32> = self.replays.by_id.iter().filter_map(due).collect();
        for id in due {
            match self.replays.by_id.get(&id).map(|replay| replay.state) {
                Some(Progress::Waiting { .. }) => {
                    if let Some(replay) = self.replays.remove(id) {
                        self.replays.open(now, replay);
                    }
                }
                Some(Progress::Opening { .. }) => {
                    self.replays.orders.push_back(StoreOrder::Close { id });
                    let text = format!("the store has not answered within {} s", OPENS_WITHIN.as_millis() / 1_000);
                    self.on_refused(now, id, Refusal::StoreAway, &text);
                }
                Some(Progress::Open { .. }) => self.replays.wait(id, now),
                None => {}
            }
        }
    }

    /// The backbone is there: those that had begun go on.
    pub(super) fn resume_replays(&mut self, now: Instant) {
        for replay in self.replays.by_id.values_mut() {
            replay.state = Progress::Waiting { until: now };
        }
        self.on_store_time(now);
    }

    /// The backbone is lost, and the store with it. What sessions have settled it is told later.
    pub(super) fn suspend_replays(&mut self, now: Instant) {
        self.replays.orders.retain(|order| matches!(order, StoreOrder::Settle { .. }));
        let fresh = |(id, replay): (&u32, &Replay)| (!replay.is_proven).then_some(*id);
        let fresh: Vec<u32> = self.replays.by_id.iter().filter_map(fresh).collect();
        for id in fresh {
            self.on_refused(now, id, Refusal::StoreAway, "the backbone was lost");
        }
        for replay in self.replays.by_id.values_mut() {
            (replay.state, replay.pulled) = (Progress::Waiting { until: now }, 0);
        }
    }
}
