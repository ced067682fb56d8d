//! What handles and the runner share: the client of the core behind a mutex, and who waits for what.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration as StdDuration;

use event_listener::Event as Signal;
use kcpq_core::Instant;
use kcpq_core::client::{self, Arrived, ConfirmFailure, Recipient, RequestId, SubscribeFailure, SubscriptionId};
use kcpq_core::puback::Stored;
use kcpq_core::store::Heap;

use crate::clock::Clock;
use crate::confirm::AllExpected;
use crate::direct::Direct;
use crate::error::StoreFailure;
use crate::events::{Announcer, Event};
use crate::joined::Joined;
use crate::own::Bell;
use crate::queue::Queue;
use crate::request::Asked;
use crate::seal::SealedBy;
use crate::staging::Staging;

/// So many messages that were published while a few others were sent are a stream: to send each handful of it costs more
/// than to publish it, and holds up who does.
const STREAM: u32 = 16;
/// Bytes of a stream that are sent at once: as many as one system call takes.
pub(crate) const BATCH: usize = 64 << 10;

/// Shared by all handles and the runner.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Where messages are published beside the state.
    pub(crate) staging: Staging,
    pub(crate) clock: Clock,
    /// Wakes the runner, if it sleeps.
    pub(crate) wake: Signal,
    /// The same for one that has a thread to itself.
    bell: Option<Arc<Bell>>,
    /// Something that an operation may wait for has changed.
    pub(crate) changed: Signal,
    /// There is room for messages.
    pub(crate) writable: Signal,
    pub(crate) events: Announcer,
    /// How long operations wait.
    pub(crate) timeout: StdDuration,
    /// The same for subscribing; `None`: as long as it takes.
    pub(crate) subscribe_timeout: Option<StdDuration>,
    /// Where the server is, as the user said it.
    pub(crate) addr: String,
    pub(crate) sealed_by: Option<SealedBy>,
}

/// What the mutex guards.
pub(crate) struct State {
    pub(crate) core: client::Client<Heap>,
    pub(crate) queues: HashMap<SubscriptionId, Subscribed>,
    pub(crate) joined: Joined,
    pub(crate) requests: HashMap<RequestId, Asked>,
    pub(crate) confirms: AllExpected<Result<u32, ConfirmFailure>>,
    /// The same of messages that are to be stored.
    pub(crate) stores: AllExpected<Result<Stored, StoreFailure>>,
    /// The runner sleeps.
    pub(crate) idle: bool,
    /// A handle has asked for something that the runner has not looked at yet.
    pub(crate) asked: bool,
    /// Messages that were published since the runner last took what there is to send.
    pub(crate) published: u32,
    /// The runner sleeps for a moment only, while messages gather.
    pub(crate) gathers: bool,
    /// Messages are published while the runner is awake, or waits for more.
    pub(crate) streams: bool,
    /// Messages may be staged beside the state.
    pub(crate) staged: bool,
    /// Sends what is published while the runner sleeps.
    pub(crate) direct: Direct,
    /// Who is to be woken when the lock is released.
    notify: Notify,
    /// How far the server has handled what was published.
    pub(crate) flushed: u64,
    /// Connections made, in all.
    pub(crate) connections: u64,
    /// The system says that nobody listens where the present attempt goes.
    pub(crate) refused: bool,
    /// Why the last attempt failed.
    pub(crate) last_loss: Option<client::Disconnect>,
    pub(crate) closed: bool,
    /// Where the core stood when that was last looked at.
    at: client::State,
    /// Somebody waits for the answer to a PING.
    pub(crate) asks: bool,
    /// Datagrams that the system refused to send.
    pub(crate) unsendable: u64,
    /// Messages in doubt, and messages that were too large, that have been told.
    told: (u64, u32),
}

#[derive(Debug, Default)]
struct Notify {
    runner: bool,
    changed: bool,
    writable: bool,
    /// Those who wait for one thing each.
    waiters: Vec<Waker>,
}

/// The state, locked. When it is released messages may be staged, as far as there is room; and waiters are woken after that, so
/// that they do not block on it at once.
pub(crate) struct Locked<'s> {
    /// Present until it is dropped.
    guard: Option<MutexGuard<'s, State>>,
    shared: &'s Shared,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.guard.as_deref().expect("the guard is taken out on drop only")
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.guard.as_deref_mut().expect("the guard is taken out on drop only")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        shared.staging.renew(self);
        let notify = std::mem::take(&mut self.notify);
        drop(self.guard.take());
        if notify.runner {
            match &self.shared.bell {
                Some(bell) => bell.ring(),
                None => drop(self.shared.wake.notify(1)),
            }
        }
        if notify.changed {
            self.shared.changed.notify(usize::MAX);
        }
        if notify.writable {
            self.shared.writable.notify(usize::MAX);
        }
        notify.waiters.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Something was asked of the core: the runner is woken if it sleeps, and otherwise looks before it does.
    pub(crate) fn nudge(&mut self) {
        (self.asked, self.gathers) = (true, false);
        self.notify.runner |= std::mem::take(&mut self.idle);
    }

    /// More is published as fast as it is sent, and it is not much yet.
    pub(crate) fn is_stream(&self) -> bool {
        self.published >= STREAM && self.core.queued() < BATCH
    }

    /// Nobody listens at any address of the present attempt.
    pub(crate) fn refused(&mut self) {
        self.refused = true;
        self.notify.changed = true;
    }

    /// Ends all subscriptions; their streams end as well.
    pub(crate) fn unsubscribe_all(&mut self, now: Instant) {
        self.joined.clear();
        self.core.hold(false);
        for (id, mut subscribed) in self.queues.drain() {
            self.core.unsubscribe(now, id);
            subscribed.queue.close();
            self.notify.waiters.extend(subscribed.waiter);
        }
    }
}

impl Shared {
    /// A message was queued, or there was no room: it leaves at once, or the runner is woken to see to it, or will look.
    pub(crate) fn published(&self, state: &mut State, queued: bool) {
        state.published += 1;
        state.streams |= state.gathers || !state.idle;
        if state.gathers {
            if !queued || state.core.queued() >= BATCH {
                state.nudge();
            }
            return;
        }
        if state.asked || !state.idle {
            return;
        }
        let State { core, direct, .. } = &mut *state;
        let sent = direct.send(self.now(), core);
        self.deliver(state);
        if !sent {
            state.nudge();
        }
    }
}

/// A subscription, as the runner sees it.
pub(crate) struct Subscribed {
    pub(crate) queue: Queue,
    /// What came of asking for it.
    pub(crate) outcome: Option<Result<(), SubscribeFailure>>,
    /// Who waits for that: ten thousand who wait at a time are not to be woken for each other's.
    pub(crate) waiter: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(
        core: client::Client<Heap>,
        timeout: StdDuration,
        subscribe_timeout: Option<StdDuration>,
        events: Announcer,
        addr: String,
        sealed_by: Option<SealedBy>,
        bell: Option<Arc<Bell>>,
    ) -> Self {
        let state = State {
            core,
            queues: HashMap::new(),
            joined: Joined::default(),
            requests: HashMap::new(),
            confirms: HashMap::new(),
            stores: HashMap::new(),
            idle: false,
            asked: false,
            published: 0,
            gathers: false,
            streams: false,
            staged: false,
            direct: Direct::default(),
            notify: Notify::default(),
            flushed: 0,
            connections: 0,
            refused: false,
            last_loss: None,
            closed: false,
            at: client::State::Idle,
            asks: false,
            unsendable: 0,
            told: (0, 0),
        };
        Self {
            state: Mutex::new(state),
            staging: Staging::default(),
            clock: Clock::start(),
            wake: Signal::new(),
            bell,
            changed: Signal::new(),
            writable: Signal::new(),
            events,
            timeout,
            subscribe_timeout,
            addr,
            sealed_by,
        }
    }

    /// The state, with all that was published before, and nothing is published meanwhile. A panic elsewhere while it was held
    /// (a callback never runs under it) leaves it usable.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let mut locked = self.lock_beside();
        if std::mem::take(&mut locked.staged) {
            let taken = self.staging.shut(&mut locked.core);
            locked.published += taken;
        }
        locked
    }

    /// The same for the runner where it takes long: others go on staging what they publish, which is taken over at the end.
    pub(crate) fn lock_beside(&self) -> Locked<'_> {
        Locked { guard: Some(self.state.lock().unwrap_or_else(PoisonError::into_inner)), shared: self }
    }

    /// The time, as the core counts it.
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// A queue that was full has room, or is gone: more is taken in, unless another one is full.
    pub(crate) fn go_on(&self) {
        let mut state = self.lock();
        let held = state.queues.values().any(|subscribed| subscribed.queue.is_stopped());
        state.core.hold(held);
        state.nudge();
    }

    /// Takes in a datagram, and hands out what the core has to tell. True if there were messages in it that came in order.
    pub(crate) fn receive(&self, state: &mut State, datagram: &mut [u8]) -> bool {
        let State { core, queues, joined, requests, .. } = &mut *state;
        // Subscriptions that were given something, in a row; and whether one is full that drops nothing.
        let (mut given, mut is_full): (Option<SubscriptionId>, bool) = (None, false);
        core.handle_datagram_with(self.now(), datagram, |recipient, frame| {
            let id = match recipient {
                Recipient::Subscription(id) => id,
                Recipient::Request { id, last } => {
                    if let Some(asked) = requests.get_mut(&id) {
                        asked.answered(frame, last, &self.events);
                    }
                    return;
                }
            };
            let Some(id) = joined.queue_of(id, &frame) else { return };
            if let Some(before) = given.replace(id).filter(|before| *before != id)
                && let Some(subscribed) = queues.get_mut(&before)
            {
                subscribed.queue.flush();
            }
            if let Some(subscribed) = queues.get_mut(&id) {
                is_full |= subscribed.queue.deliver(frame, &self.events);
            }
        });
        if let Some(subscribed) = given.and_then(|id| queues.get_mut(&id)) {
            subscribed.queue.flush();
        }
        if is_full {
            state.core.hold(true);
        }
        self.deliver(state);
        given.is_some()
    }

    /// Hands out what the core has to tell.
    pub(crate) fn deliver(&self, state: &mut State) {
        let State { core, queues, joined, requests, confirms, stores, .. } = state;
        let State { flushed, connections, last_loss, closed, at, asks, notify, told, .. } = state;
        let (mut changed, mut writable) = (false, false);
        while let Some(event) = core.poll_event() {
            match event {
                client::Event::Message { subscription, message } => {
                    let frame = Arrived::Whole(message.into_parts().0);
                    let queue = joined.queue_of(subscription, &frame);
                    if let Some(subscribed) = queue.and_then(|id| queues.get_mut(&id))
                        && subscribed.queue.deliver(frame, &self.events)
                    {
                        core.hold(true);
                    }
                }
                client::Event::Reply { request, message, last } => {
                    let (frame, _, _) = message.into_parts();
                    if let Some(asked) = requests.get_mut(&request) {
                        asked.answered(Arrived::Whole(frame), last, &self.events);
                    }
                }
                client::Event::RequestFailed { request, why } => {
                    if let Some(asked) = requests.get_mut(&request) {
                        asked.failed(why);
                    }
                }
                client::Event::Confirmed { id, outcome } => {
                    notify.waiters.extend(confirms.get_mut(&id).and_then(|expected| expected.tell(outcome)));
                }
                client::Event::Stored { id, outcome } => {
                    let outcome = outcome.map_err(|why| why.map(Box::from));
                    notify.waiters.extend(stores.get_mut(&id).and_then(|expected| expected.tell(outcome)));
                }
                client::Event::Connected { native, again } => {
                    *connections += 1;
                    changed = true;
                    let event = if again { Event::Reconnected { native } } else { Event::Connected { native } };
                    self.events.announce(event);
                }
                client::Event::Disconnected { why, retry_at } => {
                    *last_loss = Some(why);
                    changed = true;
                    let retry_in = retry_at.map(|at| StdDuration::from(at.since(self.now())));
                    self.events.announce(Event::Disconnected { why, retry_in });
                }
                client::Event::Subscribed(id) => {
                    if let Some(subscribed) = queues.get_mut(&id) {
                        subscribed.outcome = Some(Ok(()));
                        notify.waiters.extend(subscribed.waiter.take());
                    }
                }
                client::Event::SubscribeFailed { id, why } => {
                    if let Some(first) = joined.first(id).and_then(|first| queues.get_mut(&first))
                        && first.outcome.is_some_and(|outcome| outcome.is_ok())
                    {
                        // Without one of its patterns it is not what was asked for.
                        first.queue.close();
                    }
                    if let Some(subscribed) = queues.get_mut(&id) {
                        if subscribed.outcome.is_some() {
                            // It had been acknowledged before: its stream ends, and whoever listens is told.
                            self.events.announce(Event::SubscriptionLost { pattern: subscribed.queue.pattern(), why });
                            subscribed.queue.close();
                        }
                        subscribed.outcome = Some(Err(why));
                        notify.waiters.extend(subscribed.waiter.take());
                    }
                }
                client::Event::Flushed { published } => {
                    *flushed = published;
                    changed = true;
                }
                client::Event::Writable => writable = true,
                client::Event::Oversize(size) => {
                    self.events.announce(Event::Oversize { actual: size.actual, limit: size.limit });
                }
                client::Event::Denied(subject) => self.events.announce(Event::Denied { subject: subject.into() }),
                client::Event::WillRefused(why) => self.events.announce(Event::WillRefused { why: why.into() }),
                client::Event::Refused(text) => self.events.announce(Event::Refused { text: text.into() }),
                client::Event::Closed => {
                    // What was staged meanwhile is lost as well.
                    self.staging.shut(core);
                    *closed = true;
                    changed = true;
                    writable = true;
                    for subscribed in queues.values_mut() {
                        subscribed.queue.close();
                        notify.waiters.extend(subscribed.waiter.take());
                    }
                    let lost = core.stats().lost_on_close;
                    if lost > 0 {
                        self.events.announce(Event::Lost { messages: lost });
                    }
                    self.events.announce(Event::Closed);
                    self.events.close();
                }
                _ => {}
            }
        }
        let now = core.dropped();
        if now != *told && !*closed {
            let (in_doubt, too_large) = (now.0 - told.0, now.1 - told.1);
            if in_doubt > 0 {
                self.events.announce(Event::InDoubt { messages: in_doubt });
            }
            if too_large > 0 {
                self.events.announce(Event::TooLarge { messages: too_large.into(), limit: core.largest_message() });
            }
            *told = now;
        }
        if *asks && core.heartbeat_outstanding().is_none() {
            *asks = false;
            changed = true;
        }
        let now = core.state();
        notify.changed |= changed || std::mem::replace(at, now) != now;
        notify.writable |= writable;
    }
}

/// Keeps the client alive: when the last of these is dropped, the session is closed.
pub(crate) struct Handle(pub(crate) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        // Leaves a mark; the runner does the rest.
        let mut state = self.0.lock();
        let now = self.0.now();
        state.core.close(now);
        state.nudge();
    }
}
