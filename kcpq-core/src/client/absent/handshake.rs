//! Without sealed sessions there is no handshake but HELLO.

use crate::client::Client;
use crate::outbox::FrameStore;
use crate::session::Session;
use crate::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Handshake(());

impl Handshake {
    pub(super) fn is_wanted(&self) -> bool {
        false
    }

    pub(super) fn begin<S: FrameStore>(&mut self, _: Instant, _: &[u8], _: &mut Session<S>) {}

    pub(super) fn end(&mut self) {}

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub(super) fn poll_transmit<S: FrameStore>(
        &mut self,
        _: Instant,
        _: &mut [u8],
        _: &mut Session<S>,
    ) -> Option<usize> {
        None
    }
}

impl<S: FrameStore> Client<S> {
    pub(super) fn is_greeting(&self) -> bool {
        false
    }

    pub(super) fn handle_greeting(&mut self, _: &mut [u8]) {}
}
