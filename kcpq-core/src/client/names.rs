//! What both ends call themselves, and who takes the server's place.

use alloc::boxed::Box;

use super::Client;
use crate::hello::CloseReason;
use crate::outbox::FrameStore;

#[derive(Debug, Default)]
pub(super) struct Names {
    own: Option<Box<str>>,
    server: Option<Box<str>>,
    successors: Box<str>,
}

impl Names {
    /// The client's, which is `fixed` unless another one was given.
    pub(super) fn own(&self, fixed: &'static str) -> &str {
        self.own.as_deref().unwrap_or(fixed)
    }

    /// The server calls itself so.
    pub(super) fn on_server(&mut self, name: &str) {
        if self.server.as_deref() != Some(name) {
            self.server = Some(name.into());
        }
    }

    /// The server has said CLOSE.
    pub(super) fn on_close(&mut self, payload: &[u8]) {
        self.successors = CloseReason::successors(payload).into();
    }
}

impl<S: FrameStore> Client<S> {
    /// The same with a name that is known only now, in place of [`Config::name`](super::Config::name); to be chosen before
    /// [`connect`](Self::connect). At most 255 bytes are sent.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Self {
        self.names.own = Some(name.into());
        self
    }

    /// What the present server calls itself, if it is a native one.
    pub fn server_name(&self) -> Option<&str> {
        self.names.server.as_deref().filter(|_| self.server.is_some())
    }

    /// Who takes the place of the server that has closed the last connection because it stops, as `host:port`, those first
    /// that are to be tried first (PROTOCOL.md 3.6); nobody if it has not said so. It is the word of that server, as good as
    /// the session in which it was said.
    pub fn successors(&self) -> impl Iterator<Item = &str> {
        self.names.successors.split(',').filter(|server| !server.is_empty())
    }
}
