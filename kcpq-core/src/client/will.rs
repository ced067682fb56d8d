//! The client's last will: a message that the server publishes if the session ends without a CLOSE of the client (PROTOCOL.md
//! 3.14). It is said again in each session.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use super::Client;
use super::event::PublishError;
use crate::frame::{HEAD, LENGTH, Properties, command, properties};
use crate::hello::Notice;
use crate::outbox::{FrameStore, Outbox};
use crate::rng::Rng;
use crate::store::TooLarge;
use crate::subject::Subject;
use crate::time::Instant;

/// A last will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'w> {
    /// Where it is published.
    pub subject: &'w str,
    /// What it says.
    pub payload: &'w [u8],
    /// It is to be kept as the last value of its subject.
    pub retain: bool,
}

/// What a will is kept in: without an allocator it stays where it is.
#[cfg(feature = "alloc")]
type Memory<T> = Box<T>;
#[cfg(not(feature = "alloc"))]
type Memory<T> = &'static T;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Wills {
    will: Option<(Memory<str>, Memory<[u8]>, bool)>,
    /// By what servers know this client in all of its sessions; random, and 0 as long as it has left nothing.
    key: u64,
    /// The server of this session does not know yet what the will is.
    due: bool,
    /// Why it is not there, as far as that is found out here.
    refused: Option<&'static str>,
}

impl Wills {
    /// A session begins.
    pub(super) fn on_connected(&mut self) {
        self.due = self.key != 0;
        self.refused = None;
    }

    /// Why there is none, once.
    pub(super) fn poll_refused(&mut self) -> Option<&'static str> {
        self.refused.take()
    }

    /// True if this is the payload of an ERR that is about a will.
    pub(super) fn is_refusal(payload: &[u8]) -> bool {
        matches!(Notice::decode(payload), Some(Notice::WillRefused(_)))
    }

    fn change(&mut self, rng: &mut Rng, will: Option<(Memory<str>, Memory<[u8]>, bool)>) {
        if self.key == 0 {
            self.key = rng.u64(1..);
        }
        (self.will, self.due) = (will, true);
    }
}

/// Bytes of the key.
const KEY: usize = 8;

impl<S: FrameStore> Client<S> {
    /// Leaves a last will with the server, in place of an earlier one, now and in each later session: it is published if the
    /// session ends and this client has not [closed](Self::close) it. The server may not take it, which
    /// [`Event::WillRefused`](super::Event::WillRefused) says.
    ///
    /// # Errors
    /// [`PublishError`]: nothing has changed.
    #[cfg(feature = "alloc")]
    pub fn set_will(&mut self, now: Instant, will: Will<'_>) -> Result<(), PublishError> {
        self.set_now(now);
        self.check_will(will)?;
        self.wills.change(&mut self.rng, Some((will.subject.into(), will.payload.into(), will.retain)));
        self.advance();
        Ok(())
    }

    /// The same without an allocator. The memory for frames of the protocol holds a will of 230 bytes, subject included.
    ///
    /// # Errors
    /// As there.
    #[cfg(not(feature = "alloc"))]
    pub fn set_will(&mut self, now: Instant, will: Will<'static>) -> Result<(), PublishError> {
        self.set_now(now);
        self.check_will(will)?;
        self.wills.change(&mut self.rng, Some((will.subject, will.payload, will.retain)));
        self.advance();
        Ok(())
    }

    /// Takes the last will back, if there is one.
    pub fn clear_will(&mut self, now: Instant) {
        self.set_now(now);
        if self.wills.will.is_some() {
            self.wills.change(&mut self.rng, None);
            self.advance();
        }
    }

    fn check_will(&self, will: Will<'_>) -> Result<(), PublishError> {
        if self.is_ending() {
            return Err(PublishError::Closed);
        }
        Subject::new(will.subject, &self.subject_limits()).map_err(PublishError::Subject)?;
        let properties = properties_of(will.retain).as_bytes().len() + properties::END;
        let actual = HEAD - LENGTH + will.subject.len() + KEY + will.payload.len() + properties;
        let limit = self.largest_message();
        if actual > limit {
            return Err(PublishError::TooLarge(TooLarge { limit, actual }));
        }
        Ok(())
    }

    /// Queues what the server does not know yet. What finds no room is sent by a later call.
    pub(super) fn send_will(&mut self) {
        if !(self.wills.due && self.is_connected()) {
            return;
        }
        if !self.server.is_some_and(|server| server.wills()) {
            self.wills.due = false;
            self.wills.refused = self.wills.will.is_some().then_some("the server does not know last wills");
            return;
        }
        let key = self.wills.key.to_be_bytes();
        let (subject, payload, retain) = match &self.wills.will {
            Some((subject, payload, retain)) => (&**subject, &**payload, *retain),
            None => ("", &[][..], false),
        };
        let properties = properties_of(retain).as_bytes();
        let parts = [&key, payload, properties, &properties::end(properties.len())];
        let never = self.session.control.is_empty();
        let queued = self.session.control_in_parts(command::WILL, subject.as_bytes(), parts).is_ok();
        self.wills.due = !queued && !never;
        if !queued && never {
            self.wills.refused = Some("the last will is larger than the memory for frames of the protocol");
        }
    }
}

fn properties_of(retain: bool) -> Properties<'static> {
    if retain { Properties::RETAIN } else { Properties::NONE }
}
