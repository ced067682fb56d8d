//! Without confirmations no server says what became of a message.

use core::marker::PhantomData;

use super::event::{ConfirmFailure, Event};
use crate::lane::Lane;
use crate::store::Store;
use crate::time::Instant;

pub(super) struct Confirms<S>(PhantomData<fn() -> S>);

impl<S: Store> Confirms<S> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }

    pub(super) fn concerns(&mut self, _: &[u8]) -> Option<bool> {
        Some(false)
    }

    pub(super) fn on_connected(&mut self, _: bool, _: bool) {}

    pub(super) fn on_lost(&mut self, _: impl Fn(Lane) -> u64) {}

    pub(super) fn on_dropped(&mut self, _: Lane, _: u64) {}

    pub(super) fn on_limit(&mut self, _: usize, _: impl Fn(Lane) -> u64) {}

    pub(super) fn fail_all(&mut self, _: ConfirmFailure) {}

    pub(super) fn on_time(&mut self, _: Instant) {}

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        None
    }

    pub(super) fn poll<'e>(&mut self) -> Option<Event<'e, S>> {
        None
    }
}
