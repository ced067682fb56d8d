//! Events that wait to be told and lend nothing.

use super::Client;
use super::event::{Disconnect, Event};
use crate::outbox::FrameStore;
use crate::time::Instant;

/// The latest of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    disconnected: Option<(Disconnect, Option<Instant>)>,
    connected: Option<(bool, bool)>,
    flushed: bool,
    room: Room,
    closed: bool,
}

/// What there is to say of room for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Room {
    /// Nothing: nobody has asked.
    #[default]
    Unasked,
    /// The user was refused for want of it, and waits.
    Awaited,
    /// There is some again.
    Made,
}

impl Pending {
    /// A server answers.
    pub(super) fn connected(&mut self, native: bool, again: bool) {
        self.connected = Some((native, again));
    }

    /// The connection is lost; the next attempt begins at `retry_at`, if ever.
    pub(super) fn disconnected(&mut self, why: Disconnect, retry_at: Option<Instant>) {
        self.connected = None;
        self.disconnected = Some((why, retry_at));
    }

    /// The server has handled more, or the user asks how much.
    pub(super) fn flushed(&mut self) {
        self.flushed = true;
    }

    /// The user was refused for want of room.
    pub(super) fn no_room(&mut self) {
        self.room = Room::Awaited;
    }

    /// There is room now.
    pub(super) fn has_room(&mut self) {
        if self.room == Room::Awaited {
            self.room = Room::Made;
        }
    }

    /// Nothing more comes.
    pub(super) fn closed(&mut self) {
        self.closed = true;
    }
}

impl<S: FrameStore> Client<S> {
    /// The next one.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn poll_pending<'e>(&mut self) -> Option<Event<'e, S>> {
        let pending = &mut self.pending;
        if let Some((why, retry_at)) = pending.disconnected.take() {
            return Some(Event::Disconnected { why, retry_at });
        }
        if let Some((native, again)) = pending.connected.take() {
            return Some(Event::Connected { native, again });
        }
        while let Some((id, outcome)) = self.subscriptions.poll_outcome() {
            if self.requests.on_outcome(id, outcome) {
                continue;
            }
            return Some(match outcome {
                Ok(()) => Event::Subscribed(id),
                Err(why) => {
                    self.stats.subscription_errors += 1;
                    Event::SubscribeFailed { id, why }
                }
            });
        }
        if let Some((request, why)) = self.requests.poll_failed() {
            return Some(Event::RequestFailed { request, why });
        }
        if let Some(event) = self.confirms.poll() {
            return Some(event);
        }
        if let Some(why) = self.wills.poll_refused() {
            return Some(Event::WillRefused(why));
        }
        if core::mem::take(&mut pending.flushed) {
            return Some(Event::Flushed { published: self.outgoing.flushed() });
        }
        if pending.room == Room::Made {
            pending.room = Room::Unasked;
            return Some(Event::Writable);
        }
        core::mem::take(&mut pending.closed).then_some(Event::Closed)
    }
}
