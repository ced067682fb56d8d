//! Without confirmations no server says what became of a message.

use super::event::{ConfirmFailure, Event};
use crate::lane::Lane;
use crate::store::Store;
use crate::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Confirms(());

impl Confirms {
    pub(super) fn on_puback(&mut self, _: &[u8], _: &[u8]) -> bool {
        true
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

    pub(super) fn poll<'e, S: Store>(&mut self) -> Option<Event<'e, S>> {
        None
    }
}
