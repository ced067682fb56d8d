//! Messages whose publisher is told what became of them, or where they are stored (PROTOCOL.md 3.12).

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use embassy_sync::blocking_mutex::raw::RawMutex;
use embassy_sync::waitqueue::WakerRegistration;
use heapless::String;
use kcpq_core::Duration;
use kcpq_core::client::{self, ConfirmFailure, ConfirmId, PublishError};
use kcpq_core::puback::Stored;

use crate::Publish;
use crate::shared::Place;

/// Bytes that are kept of the reason for which a message is not stored.
const REASON: usize = 48;

/// Memory for `MESSAGES` messages of which somebody waits to hear, 1 to 32: see
/// [`Client::lend_confirms`](crate::Client::lend_confirms).
///
/// All zeros, as [`Resources`](crate::Resources) is.
pub struct ConfirmMemory<const MESSAGES: usize> {
    core: client::ConfirmMemory<MESSAGES>,
    expected: [Expected; MESSAGES],
}

impl<const M: usize> ConfirmMemory<M> {
    /// Unused memory.
    pub const fn new() -> Self {
        const { assert!(M >= 1 && M <= 32, "MESSAGES is 1 to 32") };
        Self { core: client::ConfirmMemory::new(), expected: [const { Expected::NOTHING }; M] }
    }

    /// That of the core, and that of who waits.
    pub(crate) fn parts(&mut self) -> (&mut client::ConfirmMemory<M>, &mut [Expected]) {
        (&mut self.core, &mut self.expected)
    }
}

impl<const M: usize> Default for ConfirmMemory<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const M: usize> fmt::Debug for ConfirmMemory<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfirmMemory").field("messages", &M).finish_non_exhaustive()
    }
}

/// A message of which somebody waits to hear.
pub(crate) struct Expected {
    pub(crate) id: Place<ConfirmId>,
    outcome: Place<Outcome>,
    waker: WakerRegistration,
}

/// What became of it.
#[derive(Clone)]
pub(crate) enum Outcome {
    Confirmed(Result<u32, ConfirmFailure>),
    Stored(Result<Stored, StoreFailure>),
}

impl Outcome {
    /// Of a message that was to be stored, with the beginning of the reason.
    pub(crate) fn stored(outcome: Result<Stored, client::StoreFailure<&str>>) -> Self {
        let beginning = |text: &str| {
            let mut kept = String::new();
            // The first character that has no room is the end.
            let _ = text.chars().try_for_each(|character| kept.push(character));
            kept
        };
        Self::Stored(outcome.map_err(|why| why.map(beginning)))
    }
}

impl Expected {
    pub(crate) const NOTHING: Self = Self { id: Place::Empty, outcome: Place::Empty, waker: WakerRegistration::new() };

    /// Somebody waits to hear of this one.
    pub(crate) fn of(id: ConfirmId) -> Self {
        Self { id: Place::Full(id), ..Self::NOTHING }
    }

    pub(crate) fn is_of(&self, id: ConfirmId) -> bool {
        matches!(self.id, Place::Full(own) if own == id)
    }

    /// It is known what became of it.
    pub(crate) fn tell(&mut self, outcome: Outcome) {
        self.outcome = Place::Full(outcome);
        self.waker.wake();
    }

    /// Ready when that is known; then nobody waits any more.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Outcome> {
        let Place::Full(outcome) = &self.outcome else {
            self.waker.register(cx.waker());
            return Poll::Pending;
        };
        let outcome = outcome.clone();
        *self = Self::NOTHING;
        Poll::Ready(outcome)
    }
}

/// Why a message that was to be stored is not, or why that is not known; of the server's reason the first 48 bytes.
pub type StoreFailure = client::StoreFailure<String<REASON>>;

/// Why it is not known, or known too well, what became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfirmError {
    /// Nothing was published.
    Unpublished(PublishError),
    /// Nothing was published: as many messages wait for the server's word as there is memory for
    /// ([`Client::lend_confirms`](crate::Client::lend_confirms)).
    TooMany,
    /// Nothing was published: the server does not say what becomes of messages, as an original one.
    Unsupported,
    /// It was published, and this came of it.
    Failed(ConfirmFailure),
}

impl From<client::ConfirmError> for ConfirmError {
    fn from(why: client::ConfirmError) -> Self {
        match why {
            client::ConfirmError::Refused(error) => Self::Unpublished(error),
            client::ConfirmError::TooMany => Self::TooMany,
            _ => Self::Unsupported,
        }
    }
}

impl fmt::Display for ConfirmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpublished(error) => error.fmt(f),
            Self::TooMany => client::ConfirmError::TooMany.fmt(f),
            Self::Unsupported => client::ConfirmError::Unsupported.fmt(f),
            Self::Failed(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for ConfirmError {}

/// Why a message is not stored, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StoreError {
    /// Nothing was published.
    Unpublished(PublishError),
    /// Nothing was published: as many messages wait for the server's word as there is memory for
    /// ([`Client::lend_confirms`](crate::Client::lend_confirms)).
    TooMany,
    /// Nothing was published: the server has no backbone that stores messages, as an original one.
    Unsupported,
    /// Nothing was published: the id is longer than 64 bytes, or has a control character.
    Id,
    /// It was published, and this came of it.
    Failed(StoreFailure),
}

impl StoreError {
    /// True if the message may be stored all the same, or be so later: publishing it again is safe under an id of its own.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Failed(why) if why.is_in_doubt())
    }
}

impl From<client::ConfirmError> for StoreError {
    fn from(why: client::ConfirmError) -> Self {
        match why {
            client::ConfirmError::Refused(error) => Self::Unpublished(error),
            client::ConfirmError::TooMany => Self::TooMany,
            client::ConfirmError::StoreId => Self::Id,
            _ => Self::Unsupported,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpublished(error) => error.fmt(f),
            Self::TooMany => client::ConfirmError::TooMany.fmt(f),
            Self::Unsupported => client::ConfirmError::NoStore.fmt(f),
            Self::Id => client::ConfirmError::StoreId.fmt(f),
            Self::Failed(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for StoreError {}

/// How long the server's word is waited for.
const WITHIN: Duration = Duration::from_secs(5);

/// A message that is about to be queued, and then waited for.
struct Asking<'p, 'd, R: RawMutex, const TEXT: usize> {
    publish: Publish<'p, 'd, R, TEXT>,
    within: Duration,
    /// Where it is waited for, once it is queued.
    slot: Option<usize>,
}

impl<R: RawMutex, const TEXT: usize> Asking<'_, '_, R, TEXT> {
    /// Ready when it is known what became of it; it is to be stored under this id if so.
    fn poll(&mut self, cx: &Context<'_>, store: Option<&str>) -> Poll<Result<Outcome, client::ConfirmError>> {
        let Self { publish, within, slot } = self;
        let polled = publish.shared.with(|inner| {
            let place = match *slot {
                Some(place) => place,
                None => {
                    let confirmed = publish.confirmed_with(*within);
                    let (subject, payload) = (publish.subject, publish.payload);
                    let asked = inner.expect(|core, now| match store {
                        None => core.publish_confirmed(now, subject, payload, &confirmed),
                        Some(id) => core.publish_stored(now, subject, payload, id, &confirmed),
                    });
                    match asked {
                        Ok(place) => *slot.insert(place),
                        Err(client::ConfirmError::Refused(PublishError::Full)) => {
                            inner.on_room(cx);
                            return Poll::Pending;
                        }
                        Err(why) => return Poll::Ready(Err(why)),
                    }
                }
            };
            inner.poll_expected(place, cx).map(Ok)
        });
        if polled.is_ready() {
            self.slot = None;
        }
        polled
    }
}

impl<R: RawMutex, const TEXT: usize> Drop for Asking<'_, '_, R, TEXT> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.publish.shared.forget(slot);
        }
    }
}

/// Publishes a message; ready when the server has said to how many sessions it has given it. Made by [`Publish::confirmed`].
///
/// Nothing is sent twice: if the connection is lost while the message is on its way, that is an error, and it may have
/// arrived. While disconnected it waits in the queue.
///
/// Cancel-safe: if dropped before it is ready, the server's word is not waited for any more; the message may have been published.
#[must_use = "nothing is published until it is awaited"]
pub struct Confirm<'p, 'd, R: RawMutex, const TEXT: usize = 64> {
    asking: Asking<'p, 'd, R, TEXT>,
}

impl<'p, 'd, R: RawMutex, const TEXT: usize> Confirm<'p, 'd, R, TEXT> {
    pub(crate) fn new(publish: Publish<'p, 'd, R, TEXT>) -> Self {
        Self { asking: Asking { publish, within: WITHIN, slot: None } }
    }

    /// For how long the server's word is waited for, from when there was room for the message: 5 s unless said otherwise.
    pub fn within(mut self, span: Duration) -> Self {
        self.asking.within = span;
        self
    }
}

impl<R: RawMutex, const TEXT: usize> Future for Confirm<'_, '_, R, TEXT> {
    type Output = Result<u32, ConfirmError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.asking.poll(cx, None).map(|outcome| match outcome {
            Ok(Outcome::Confirmed(outcome)) => outcome.map_err(ConfirmError::Failed),
            Ok(Outcome::Stored(_)) => Err(ConfirmError::Unsupported),
            Err(why) => Err(why.into()),
        })
    }
}

impl<R: RawMutex, const TEXT: usize> fmt::Debug for Confirm<'_, '_, R, TEXT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").field("subject", &self.asking.publish.subject).finish_non_exhaustive()
    }
}

/// Publishes a message; ready when a stream behind the server's backbone (JetStream) has stored it, with its number there. Made by
/// [`Publish::stored`].
///
/// Subscribers get the message as any other, and nobody else waits. If nobody knows whether it is stored, it can be published
/// again under the same [`id`](Self::id): as far back as the stream looks, two minutes unless it was told otherwise, it has each id
/// once. While disconnected it waits in the queue.
///
/// Cancel-safe: if dropped before it is ready, the server's word is not waited for any more; the message may have been
/// published, and stored.
#[must_use = "nothing is published until it is awaited"]
pub struct Store<'p, 'd, R: RawMutex, const TEXT: usize = 64> {
    asking: Asking<'p, 'd, R, TEXT>,
    id: &'p str,
}

impl<'p, 'd, R: RawMutex, const TEXT: usize> Store<'p, 'd, R, TEXT> {
    pub(crate) fn new(publish: Publish<'p, 'd, R, TEXT>) -> Self {
        Self { asking: Asking { publish, within: WITHIN, slot: None }, id: "" }
    }

    /// Gives the message an id: text of at most 64 bytes without control characters. An empty one is none.
    pub fn id(mut self, id: &'p str) -> Self {
        self.id = id;
        self
    }

    /// For how long the server's word is waited for, from when there was room for the message: 5 s unless said otherwise. The
    /// server tries for a minute.
    pub fn within(mut self, span: Duration) -> Self {
        self.asking.within = span;
        self
    }
}

impl<R: RawMutex, const TEXT: usize> Future for Store<'_, '_, R, TEXT> {
    type Output = Result<Stored, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { asking, id } = &mut *self;
        asking.poll(cx, Some(id)).map(|outcome| match outcome {
            Ok(Outcome::Stored(outcome)) => outcome.map_err(StoreError::Failed),
            Ok(Outcome::Confirmed(_)) => Err(StoreError::Unsupported),
            Err(why) => Err(why.into()),
        })
    }
}

impl<R: RawMutex, const TEXT: usize> fmt::Debug for Store<'_, '_, R, TEXT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asking, id } = self;
        f.debug_struct("Store").field("subject", &asking.publish.subject).field("id", id).finish_non_exhaustive()
    }
}
