//! Without requests no message is an answer to one.

use super::event::{RequestFailure, RequestId, SubscribeFailure};
use super::subscriptions::SubscriptionId;
use crate::frame::Frame;
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Requests(());

impl Requests {
    pub(super) fn new(_: u64) -> Self {
        Self(())
    }

    pub(super) fn is_inbox(&self, _: SubscriptionId) -> bool {
        false
    }

    #[cfg(feature = "alloc")]
    pub(super) fn is_answer(&self, _: &[u8]) -> bool {
        false
    }

    pub(super) fn on_reply(&mut self, _: &[u8]) -> Option<(RequestId, bool)> {
        None
    }

    pub(super) fn hears_of_nobody(&mut self, _: Frame<'_>) -> bool {
        false
    }

    pub(super) fn on_outcome(&mut self, _: SubscriptionId, _: Result<(), SubscribeFailure>) -> bool {
        false
    }

    pub(super) fn fail_all(&mut self, _: RequestFailure) {}

    pub(super) fn on_time(&mut self, _: Instant) {}

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        None
    }

    pub(super) fn poll_failed(&mut self) -> Option<(RequestId, RequestFailure)> {
        None
    }
}
