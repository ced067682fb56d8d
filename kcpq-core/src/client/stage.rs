//! A stage beside the client: messages are put there without the client, and the client takes them over all at once.
//!
//! A client that several threads use lies behind a lock, and whoever makes its datagrams holds that for long. A stage lies
//! behind a lock of its own, held for as long as it takes to append one message, or to take all of them away:
//!
//! ```text
//! publish ------------------------------> client     what may be refused, or has to wait
//! publish --> stage --take_staged, all--> client     what is certain to be taken
//! ```
//!
//! So nothing is decided anew when messages are taken over: a stage is open as far as the client has said, and what it does
//! not take is for [`Client::publish`], whose errors are exact. Who calls that, or asks what has been published, takes over
//! before; then all is as if there were no stage.

use alloc::vec::Vec;

use bytes::Bytes;

use super::Client;
use super::phase::Phase;
use crate::datagram::SAFE_DATAGRAM;
use crate::frame::{Frame, HEAD, LENGTH, command};
use crate::lane::Lane;
use crate::outbox::{HeapOutbox, Outbox};
use crate::store::Heap;
use crate::subject::{Limits, Subject};

/// Messages that were published, and that their client has yet to take over. Shut at first: see
/// [`Client::open_stage`].
#[derive(Debug, Default)]
pub struct Stage {
    frames: HeapOutbox,
    /// Bytes of their subjects and payloads.
    bytes: u64,
    /// Length of the longest frame.
    longest: usize,
    /// Bytes of frames that still have room; none while it is shut.
    room: usize,
    /// Length of the longest frame that the server takes.
    largest: usize,
    limits: Limits,
    /// The last subject that was found valid: most messages of a stream have the same.
    subject: Vec<u8>,
}

impl Stage {
    /// Takes a message of lane 0 without properties, if its client is certain to take it. If not, it is for
    /// [`Client::publish`].
    pub fn publish(&mut self, subject: &str, payload: &[u8]) -> bool {
        let Some(head) = self.admit(subject, payload.len()) else { return false };
        // It has room: there is always more.
        let _ = self.frames.push(&[&head, subject.as_bytes(), payload], None);
        true
    }

    /// The same for [`Client::publish_bytes`].
    pub fn publish_bytes(&mut self, subject: &str, payload: &Bytes) -> bool {
        let Some(head) = self.admit(subject, payload.len()) else { return false };
        self.frames.push_apart(&[&head, subject.as_bytes()], payload);
        true
    }

    /// The head of a message for which there is room, which counts as taken.
    fn admit(&mut self, subject: &str, payload: usize) -> Option<[u8; HEAD]> {
        let frame = HEAD + subject.len() + payload;
        if frame > self.room || frame > self.largest || !self.is_valid(subject) {
            return None;
        }
        let head = Frame::head(command::PUB, subject.len(), payload)?;
        self.room -= frame;
        self.longest = self.longest.max(frame);
        self.bytes += (subject.len() + payload) as u64;
        Some(head)
    }

    fn is_valid(&mut self, subject: &str) -> bool {
        if self.subject == subject.as_bytes() && !self.subject.is_empty() {
            return true;
        }
        let valid = Subject::new(subject, &self.limits).is_ok();
        if valid {
            self.subject.clear();
            self.subject.extend_from_slice(subject.as_bytes());
        }
        valid
    }

    /// Takes nothing more.
    pub fn shut(&mut self) {
        self.room = 0;
    }

    /// Bytes of frames that have to be taken over.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True if nothing has to be taken over.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

impl Client<Heap> {
    /// Takes over what was staged, as if it were published now, and returns how many messages that were. To be called before
    /// anything that counts what was published, or stands behind it: [`flush`](Self::flush), [`close`](Self::close), another
    /// way to publish. A client that has ended meanwhile counts them as lost
    /// ([`Stats::lost_on_close`](super::Stats::lost_on_close)).
    pub fn take_staged(&mut self, stage: &mut Stage) -> usize {
        let count = stage.frames.frames();
        if count == 0 {
            return 0;
        }
        let longest = core::mem::take(&mut stage.longest);
        self.stats.messages_sent += count as u64;
        self.stats.bytes_sent += core::mem::take(&mut stage.bytes);
        self.outgoing.on_staged(count as u64);
        if self.is_ending() {
            self.outgoing.on_dropped(Lane::NORMAL, count as u64);
            self.stats.lost_on_close += count as u64;
            stage.frames.clear();
            return count;
        }
        stage.frames.hand_over(self.session.outbox.main());
        if longest > usize::from(SAFE_DATAGRAM) {
            self.long_waits = true;
            self.session.hold |= matches!(self.phase, Phase::Connecting { .. });
        }
        if longest > self.largest_message() + LENGTH {
            // The server is another one than when the stage was opened.
            self.drop_longer();
        }
        count
    }

    /// Lets the stage take what there is certainly room for, `most` bytes of frames at most; nothing at all while there may be
    /// another answer than that a message is taken. Anew after each call that publishes, or that may have lost the connection.
    pub fn open_stage(&self, stage: &mut Stage, most: usize) {
        let limits = self.subject_limits();
        if stage.limits != limits {
            stage.subject.clear();
            stage.limits = limits;
        }
        stage.largest = self.largest_message() + LENGTH;
        let waiting = self.session.outbox.len() + stage.len();
        let is_open = self.is_connected() && !self.is_ending() && !self.session.outbox.gives_way();
        stage.room = if is_open { self.config.queue.saturating_sub(waiting).min(most) } else { 0 };
    }
}
