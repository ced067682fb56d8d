//! How far what was published has come.

/// Messages, counted from the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outgoing {
    /// Taken from the user; dropped ones and those in doubt included.
    published: u64,
    /// Dropped from the queue; expired ones included.
    dropped: u64,
    /// How far the user wants to know that the server has handled them.
    wanted: u64,
    /// How far the server has said so.
    flushed: u64,
}

impl Outgoing {
    /// A message was taken.
    pub(super) fn on_published(&mut self) {
        self.published += 1;
    }

    /// How many messages were taken: the number of the last one.
    #[cfg(feature = "confirm")]
    pub(super) fn published(&self) -> u64 {
        self.published
    }

    /// How many messages do not wait any more, when so many have been `moved` into the stream: the number of the last one of
    /// these.
    pub(super) fn gone(&self, moved: u64) -> u64 {
        moved + self.dropped
    }

    /// Messages were dropped from the queue.
    pub(super) fn on_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// The user wants to know when all that was published has been handled. Returns how many messages that are.
    pub(super) fn want_flush(&mut self) -> u64 {
        self.wanted = self.wanted.max(self.published);
        self.wanted
    }

    /// How many messages a PING is to be sent behind now, when so many have been `moved` into the stream: all that it covers
    /// have to be there before it is.
    pub(super) fn flush_due(&self, moved: u64) -> Option<u64> {
        (self.wanted > self.flushed && self.gone(moved) >= self.wanted).then_some(self.wanted)
    }

    /// The server has handled the first `published` messages.
    pub(super) fn on_flushed(&mut self, published: u64) {
        self.flushed = published;
    }

    /// How many messages the server is known to have handled.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed
    }
}
