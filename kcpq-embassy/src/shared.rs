//! What handles and the runner share: the core's client behind a mutex, and who waits for what.

use core::cell::{Cell, RefCell, RefMut};
use core::task::{Context, Poll};

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::waitqueue::{MultiWakerRegistration, WakerRegistration};
use heapless::Deque;
#[cfg(feature = "confirm")]
use kcpq_core::client::ConfirmId;
use kcpq_core::client::{self, Parts, PublishError, SubscribeFailure, SubscriptionId};
use kcpq_core::store::Lent;
use kcpq_core::{Duration, Instant};

use crate::config::Fitted;
#[cfg(feature = "confirm")]
use crate::confirm::{Expected, Outcome};
use crate::{Config, Ended, Event};

/// Tasks that wait for the same thing without waking each other; more work, but cost wake-ups.
const WAITERS: usize = 4;
/// Events that wait for a reader; of more the oldest are dropped and counted.
const EVENTS: usize = 3;

/// A value that comes later. Not an `Option`: empty it is all zeros, whatever the value is like, so that a `static` of
/// it costs no flash.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Place<T> {
    Empty = 0,
    Full(T) = 1,
}

impl<T> Place<T> {
    pub(crate) fn fill(&mut self, value: T) -> &mut T {
        *self = Self::Full(value);
        match self {
            Self::Full(value) => value,
            Self::Empty => unreachable!(),
        }
    }
}

/// One subscription's place.
pub(crate) struct Slot {
    /// Whose it is; 0: nobody's.
    id: u32,
    acknowledged: bool,
    failed: Place<SubscribeFailure>,
    waker: WakerRegistration,
}

impl Slot {
    pub(crate) const fn new() -> Self {
        Self { id: 0, acknowledged: false, failed: Place::Empty, waker: WakerRegistration::new() }
    }
}

/// Shared by all handles and the runner.
pub(crate) struct Shared<'d, R: RawMutex, const TEXT: usize> {
    lock: Mutex<R, Guarded<'d, TEXT>>,
}

struct Guarded<'d, const TEXT: usize> {
    inner: RefCell<Inner<'d, TEXT>>,
    /// Slots, a bit each, whose subscriptions were dropped while a closure of the user's ran.
    leaving: Cell<u32>,
    /// The same of messages that nobody waits for any more to hear of.
    #[cfg(feature = "confirm")]
    forgetting: Cell<u32>,
}

/// The state machine, in memory that is lent.
pub(crate) type Core<'d, const TEXT: usize> = client::Client<Lent<'d, TEXT>>;

/// What the mutex guards.
pub(crate) struct Inner<'d, const TEXT: usize> {
    pub(crate) core: Core<'d, TEXT>,
    slots: &'d mut [Slot],
    /// Messages of which somebody waits to hear.
    #[cfg(feature = "confirm")]
    pub(crate) expected: &'d mut [Expected],
    now: fn() -> Instant,
    patience: Duration,
    /// A message that waits for its reader.
    held: Option<Held>,
    pub(crate) events: Events,
    pub(crate) closed: bool,
    pub(crate) flushed: u64,
    pub(crate) unread: u32,
    pub(crate) send_errors: u32,
    pub(crate) receive_errors: u32,
    /// A handle has asked for something that the runner has not looked at.
    asked: bool,
    runner: WakerRegistration,
    /// There is room for messages.
    writable: MultiWakerRegistration<WAITERS>,
}

/// What is told to whoever reads events.
pub(crate) struct Events {
    queue: Deque<Event, EVENTS>,
    /// Events that were dropped because nobody had read them.
    pub(crate) missed: u32,
    /// Something has changed: state, events, how far the server has come.
    changed: MultiWakerRegistration<WAITERS>,
}

impl Events {
    #[inline(never)]
    fn tell(&mut self, event: Event) {
        #[cfg(any(feature = "defmt", feature = "log"))]
        event.log();
        if self.queue.is_full() {
            self.queue.pop_front();
            self.missed += 1;
        }
        let _ = self.queue.push_back(event);
        wake(&mut self.changed);
    }
}

/// Wakes all who wait there. Not inlined: it is needed in several places.
#[inline(never)]
fn wake(waiters: &mut MultiWakerRegistration<WAITERS>) {
    waiters.wake();
}

#[derive(Clone, Copy)]
struct Held {
    id: SubscriptionId,
    until: Instant,
}

impl<'d, R: RawMutex, const TEXT: usize> Shared<'d, R, TEXT> {
    pub(crate) fn new(
        config: &Config,
        sizes: Fitted,
        now: fn() -> Instant,
        seed: u64,
        parts: Parts<Lent<'d, TEXT>>,
        slots: &'d mut [Slot],
    ) -> Self {
        let inner = Inner {
            core: client::Client::new(config.fit(sizes), seed, parts),
            slots,
            #[cfg(feature = "confirm")]
            expected: &mut [],
            now,
            patience: config.patience,
            held: None,
            events: Events { queue: Deque::new(), missed: 0, changed: MultiWakerRegistration::new() },
            closed: false,
            flushed: 0,
            unread: 0,
            send_errors: 0,
            receive_errors: 0,
            asked: false,
            runner: WakerRegistration::new(),
            writable: MultiWakerRegistration::new(),
        };
        Self {
            lock: Mutex::new(Guarded {
                inner: RefCell::new(inner),
                leaving: Cell::new(0),
                #[cfg(feature = "confirm")]
                forgetting: Cell::new(0),
            }),
        }
    }

    /// Runs `f` on the state.
    ///
    /// # Panics
    /// When a closure that was given to [`Subscription::next`](crate::Subscription::next) comes here.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Inner<'d, TEXT>) -> T) -> T {
        self.lock.lock(|guarded| f(&mut guarded.borrow()))
    }

    /// Ends the subscription in `slot`; while a message is lent, as soon as it is given back.
    pub(crate) fn leave(&self, slot: usize) {
        self.lock.lock(|guarded| match guarded.inner.try_borrow_mut() {
            Ok(mut inner) => inner.remove(slot),
            Err(_) => guarded.leaving.set(guarded.leaving.get() | 1 << slot),
        });
    }

    /// Nobody waits any more to hear of the message in `slot`; while a message is lent, as soon as it is given back.
    #[cfg(feature = "confirm")]
    pub(crate) fn forget(&self, slot: usize) {
        self.lock.lock(|guarded| match guarded.inner.try_borrow_mut() {
            Ok(mut inner) => inner.forget(slot),
            Err(_) => guarded.forgetting.set(guarded.forgetting.get() | 1 << slot),
        });
    }
}

impl<'d, const TEXT: usize> Guarded<'d, TEXT> {
    /// The state, once what was to leave has left. Not inlined: it is needed in two dozen places.
    #[inline(never)]
    fn borrow(&self) -> RefMut<'_, Inner<'d, TEXT>> {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { panic!("a client is used while it lends a message") };
        each(self.leaving.take(), |slot| inner.remove(slot));
        #[cfg(feature = "confirm")]
        each(self.forgetting.take(), |slot| inner.forget(slot));
        inner
    }
}

/// Calls `f` with the number of each bit that is set.
fn each(mut bits: u32, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

impl<'d, const TEXT: usize> Inner<'d, TEXT> {
    #[inline(never)]
    pub(crate) fn now(&self) -> Instant {
        (self.now)()
    }

    /// Makes the runner look.
    #[inline(never)]
    pub(crate) fn nudge(&mut self) {
        self.asked = true;
        self.runner.wake();
    }

    /// The runner looks: what was asked for so far it sees.
    pub(crate) fn look(&mut self) {
        self.asked = false;
    }

    /// Ready when the runner was asked to look.
    pub(crate) fn poll_asked(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.runner.register(cx.waker());
        if self.asked { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn on_change(&mut self, cx: &Context<'_>) {
        self.events.changed.register(cx.waker());
    }

    /// Ready when a message was taken or refused, and not because there was no room.
    pub(crate) fn poll_taken(
        &mut self,
        cx: &Context<'_>,
        taken: Result<(), PublishError>,
    ) -> Poll<Result<(), PublishError>> {
        if taken == Err(PublishError::Full) {
            self.on_room(cx);
            return Poll::Pending;
        }
        self.nudge();
        Poll::Ready(taken)
    }

    pub(crate) fn on_room(&mut self, cx: &Context<'_>) {
        self.writable.register(cx.waker());
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.events.queue.pop_front()
    }

    // --- subscriptions ---

    /// Asks for a subscription and gives it a slot.
    pub(crate) fn add(
        &mut self,
        pattern: &str,
        latest: bool,
    ) -> Result<(SubscriptionId, usize), client::SubscribeError> {
        self.add_with(|core, now| match latest {
            false => core.subscribe(now, pattern),
            true => core.subscribe_latest(now, pattern),
        })
    }

    /// The same, however the core is asked.
    pub(crate) fn add_with(
        &mut self,
        ask: impl FnOnce(&mut Core<'d, TEXT>, Instant) -> Result<SubscriptionId, client::SubscribeError>,
    ) -> Result<(SubscriptionId, usize), client::SubscribeError> {
        let now = self.now();
        let mut slots = self.slots.iter_mut().enumerate();
        let (free, slot) = slots.find(|(_, slot)| slot.id == 0).ok_or(client::SubscribeError::TooMany)?;
        let id = ask(&mut self.core, now)?;
        *slot = Slot { id: id.0, ..Slot::new() };
        self.nudge();
        Ok((id, free))
    }

    fn remove(&mut self, slot: usize) {
        let Some(slot) = self.slots.get_mut(slot) else { return };
        let id = SubscriptionId(slot.id);
        *slot = Slot::new();
        let now = self.now();
        self.core.unsubscribe(now, id);
        if self.held.is_some_and(|held| held.id == id) {
            self.release();
        }
        self.nudge();
    }

    /// Ready when the subscription in `slot` is acknowledged or has ended.
    pub(crate) fn poll_acknowledged(&mut self, slot: usize, cx: &Context<'_>) -> Poll<Result<(), Ended>> {
        let is_there = |slot: &Slot| slot.acknowledged && matches!(slot.failed, Place::Empty);
        if self.slots.get(slot).is_some_and(is_there) {
            return Poll::Ready(Ok(()));
        }
        self.poll_ended(slot, cx).map(Err)
    }

    /// Ready when there is a message for the subscription in `slot`, which `read` is shown, or when it has ended.
    pub(crate) fn poll_message<T>(
        &mut self,
        slot: usize,
        id: SubscriptionId,
        cx: &Context<'_>,
        read: impl FnOnce(&client::Message<&[u8]>) -> T,
    ) -> Poll<Result<T, Ended>> {
        if self.held.is_some_and(|held| held.id == id)
            && let Some(message) = self.core.held_message()
        {
            let read = read(&message);
            self.release();
            // The window may have opened, and the next message may be somebody else's.
            self.deliver();
            self.nudge();
            return Poll::Ready(Ok(read));
        }
        self.poll_ended(slot, cx).map(Err)
    }

    /// Ready when it has ended. Not inlined: it is needed in two places.
    #[inline(never)]
    fn poll_ended(&mut self, slot: usize, cx: &Context<'_>) -> Poll<Ended> {
        let Some(slot) = self.slots.get_mut(slot) else { return Poll::Ready(Ended::Closed) };
        if let Place::Full(why) = slot.failed {
            return Poll::Ready(Ended::Failed(why));
        }
        if self.closed {
            return Poll::Ready(Ended::Closed);
        }
        slot.waker.register(cx.waker());
        Poll::Pending
    }

    // --- messages of which somebody waits to hear ---

    /// Publishes a message, and waits to hear of it; says where.
    #[cfg(feature = "confirm")]
    pub(crate) fn expect(
        &mut self,
        publish: impl FnOnce(&mut Core<'d, TEXT>, Instant) -> Result<ConfirmId, client::ConfirmError>,
    ) -> Result<usize, client::ConfirmError> {
        let now = self.now();
        let mut places = self.expected.iter_mut().enumerate();
        let free = places.find(|(_, expected)| matches!(expected.id, Place::Empty));
        let (slot, expected) = free.ok_or(client::ConfirmError::TooMany)?;
        *expected = Expected::of(publish(&mut self.core, now)?);
        self.nudge();
        Ok(slot)
    }

    /// Ready when it is known what became of the message in `slot`.
    #[cfg(feature = "confirm")]
    pub(crate) fn poll_expected(&mut self, slot: usize, cx: &Context<'_>) -> Poll<Outcome> {
        self.expected.get_mut(slot).map_or(Poll::Pending, |expected| expected.poll(cx))
    }

    #[cfg(feature = "confirm")]
    fn forget(&mut self, slot: usize) {
        let Some(expected) = self.expected.get_mut(slot) else { return };
        if let Place::Full(id) = core::mem::replace(expected, Expected::NOTHING).id {
            self.core.forget_confirmation(id);
        }
    }

    /// It is known what became of a message.
    #[cfg(feature = "confirm")]
    fn tell(expected: &mut [Expected], id: ConfirmId, outcome: Outcome) {
        if let Some(expected) = expected.iter_mut().find(|expected| expected.is_of(id)) {
            expected.tell(outcome);
        }
    }

    // --- events ---

    /// The message that waits for its reader waits no longer.
    fn release(&mut self) {
        self.held = None;
        self.core.release_message();
    }

    /// Takes from the core what it has to tell, up to the next message, which waits for its reader.
    pub(crate) fn deliver(&mut self) {
        let now = self.now();
        if let Some(held) = self.held {
            if !self.core.holds_message() {
                // Its connection is gone, and with it the memory that it was in.
                self.held = None;
                self.unread += 1;
            } else if held.until <= now {
                self.release();
                self.unread += 1;
                self.events.tell(Event::Unread(held.id));
            }
        }
        let Self { core, slots, held, events, writable, .. } = self;
        #[cfg(feature = "confirm")]
        let Self { expected, .. } = self;
        while let Some(event) = core.poll_event() {
            match event {
                client::Event::Message { subscription: id, .. } => {
                    if let Some(slot) = slots.iter_mut().find(|slot| slot.id == id.0) {
                        slot.waker.wake();
                        *held = Some(Held { id, until: now + self.patience });
                        core.hold_message();
                    }
                }
                client::Event::Subscribed(id) => {
                    if let Some(slot) = slots.iter_mut().find(|slot| slot.id == id.0) {
                        slot.acknowledged = true;
                        slot.waker.wake();
                    }
                }
                client::Event::SubscribeFailed { id, why } => {
                    if let Some(slot) = slots.iter_mut().find(|slot| slot.id == id.0) {
                        slot.failed = Place::Full(why);
                        slot.waker.wake();
                    }
                }
                client::Event::Flushed { published } => {
                    self.flushed = published;
                    wake(&mut events.changed);
                }
                #[cfg(feature = "confirm")]
                client::Event::Confirmed { id, outcome } => Self::tell(expected, id, Outcome::Confirmed(outcome)),
                #[cfg(feature = "confirm")]
                client::Event::Stored { id, outcome } => Self::tell(expected, id, Outcome::stored(outcome)),
                client::Event::Writable => wake(writable),
                client::Event::Connected { native, again } => events.tell(Event::Connected { native, again }),
                client::Event::Disconnected { why, retry_at } => events.tell(Event::Disconnected { why, retry_at }),
                client::Event::Oversize(size) => events.tell(Event::Oversize(size)),
                client::Event::Denied(_) => events.tell(Event::Denied),
                client::Event::WillRefused(_) => events.tell(Event::WillRefused),
                client::Event::Refused(_) => events.tell(Event::Refused),
                client::Event::Closed => {
                    self.closed = true;
                    wake(writable);
                    for slot in &mut **slots {
                        slot.waker.wake();
                    }
                    events.tell(Event::Closed);
                }
                _ => {}
            }
        }
    }

    /// When the runner has to look, whatever happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let core = self.core.poll_timeout().map(|deadline| deadline.at);
        let held = self.held.map(|held| held.until);
        Instant::earlier(core, held)
    }
}
