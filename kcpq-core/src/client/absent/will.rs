//! Without last wills nothing is left with the server.

use super::Client;
use crate::outbox::FrameStore;

#[derive(Debug, Default)]
pub(super) struct Wills(());

#[allow(clippy::unused_self)]
impl Wills {
    pub(super) fn on_connected(&mut self) {}

    pub(super) fn poll_refused(&mut self) -> Option<&'static str> {
        None
    }

    pub(super) fn is_refusal(_: &[u8]) -> bool {
        false
    }
}

#[allow(clippy::unused_self)]
impl<S: FrameStore> Client<S> {
    pub(super) fn send_will(&mut self) {}
}
