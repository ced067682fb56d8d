//! Messages on the short way: from the datagram to whoever subscribed, without waiting in the window.
//!
//! Only MSG frames go this way, and only in order. Whatever else comes, and all that comes behind it, waits for
//! [`poll_event`](Client::poll_event).

use alloc::vec::Vec;

use bytes::Bytes;

use super::event::Disconnect;
use super::subscriptions::{SubscriptionId, Subscriptions};
use super::{Client, State};
use crate::frame::{self, Frame, FrameError, Progress, Reader, command};
use crate::store::{Heap, Inbox};
use crate::subject::{self, Subject};
use crate::time::Instant;

/// Frames from this length on, if they had to be put together, are handed over instead of lent.
const WHOLE_FROM: usize = 1024;

/// A frame with a message, whole and checked: see [`Frame::parse`].
#[derive(Debug)]
pub enum Arrived<'d> {
    /// It lies in the datagram.
    Lent(&'d [u8]),
    /// It was put together from several.
    Whole(Bytes),
}

/// Who wants the subject that came last: most messages of a datagram are about the same one.
#[derive(Debug, Default)]
pub(super) struct Recent {
    subject: Vec<u8>,
    /// The first who wants it, and the others.
    first: Option<SubscriptionId>,
    others: Vec<SubscriptionId>,
    known: bool,
}

impl Client<Heap> {
    /// As [`handle_datagram`](Self::handle_datagram), but messages that come in order are handed to `deliver` at once, for
    /// each subscription that matches. [`poll_event`](Self::poll_event) is to be called until `None` before the next one, as
    /// ever: the rest waits there.
    pub fn handle_datagram_with(
        &mut self,
        now: Instant,
        datagram: &mut [u8],
        mut deliver: impl FnMut(SubscriptionId, Arrived<'_>),
    ) {
        if self.current.is_some() || !matches!(self.state, State::Up { .. }) {
            return self.handle_datagram(now, datagram);
        }
        let (frames, subjects) = (self.config.frames, self.config.subjects);
        let mut recent = core::mem::take(&mut self.recent);
        recent.known = false;
        let mut broken = None;
        self.take_in(now, datagram, |reader, subscriptions, stats, bytes| {
            let mut taken = 0;
            while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty() && broken.is_none()) {
                let (count, step) = next(reader, rest, &frames);
                taken += count;
                let bytes = match &step {
                    Step::Stop => break,
                    Step::More => continue,
                    Step::Lent(bytes) => bytes,
                    Step::Whole(bytes) => &bytes[..],
                };
                let frame = match Frame::parse(bytes, &frames) {
                    Ok(frame) => frame,
                    Err(error) => {
                        stats.malformed += 1;
                        // After too long a subject the frame's borders are known all the same.
                        broken = Some(error).filter(|error| !matches!(error, FrameError::SubjectTooLong { .. }));
                        continue;
                    }
                };
                if !recent.is_about(frame.subject) {
                    let Ok(subject) = Subject::from_bytes(frame.subject, &subjects) else {
                        stats.malformed += 1;
                        continue;
                    };
                    recent.look_up(subject, subscriptions);
                }
                stats.messages_received += 1;
                stats.bytes_received += (frame.subject.len() + frame.payload.len()) as u64;
                stats.unmatched += u64::from(recent.first.is_none());
                for id in recent.first.iter().chain(&recent.others) {
                    deliver(
                        *id,
                        match &step {
                            Step::Whole(bytes) => Arrived::Whole(bytes.clone()),
                            _ => Arrived::Lent(bytes),
                        },
                    );
                }
            }
            taken
        });
        self.recent = recent;
        if let Some(error) = broken {
            self.lose(Disconnect::BrokenStream(error));
        }
    }
}

/// What stands next in the stream.
enum Step<'d> {
    /// Nothing for the short way.
    Stop,
    /// A part of a frame.
    More,
    Lent(&'d [u8]),
    Whole(Bytes),
}

/// Reads up to the end of one frame, if it is a message; returns how many bytes of `rest` were taken.
fn next<'d>(reader: &'d mut Reader<Heap>, rest: &'d [u8], frames: &frame::Limits) -> (usize, Step<'d>) {
    let Some(begun) = reader.begun() else { return (0, Step::Stop) };
    if begun.is_empty() {
        let Some((length, [command::MSG, ..])) = rest.split_first_chunk() else { return (0, Step::Stop) };
        let body = u32::from_be_bytes(*length);
        let len = frame::LENGTH.saturating_add(body as usize);
        // What is wrong with others is told by `poll_event`.
        if body > frames.max_body || len < frame::HEAD || len > reader.inbox().capacity() {
            return (0, Step::Stop);
        }
        if let Some(frame) = rest.get(..len) {
            return (len, Step::Lent(frame));
        }
    } else if begun.get(frame::LENGTH) != Some(&command::MSG) {
        return (0, Step::Stop);
    }
    match reader.read(rest) {
        (count, Progress::Assembled) if reader.assembled().len() >= WHOLE_FROM => {
            (count, Step::Whole(reader.inbox().take()))
        }
        (count, Progress::Assembled) => (count, Step::Lent(reader.assembled())),
        (count, Progress::InPlace(frame)) => (count, Step::Lent(frame)),
        (count, Progress::More) => (count, Step::More),
        // Neither comes, as the length was looked at.
        (count, Progress::Oversize { .. } | Progress::Broken(_)) => (count, Step::Stop),
    }
}

impl Recent {
    fn is_about(&self, subject: &[u8]) -> bool {
        self.known && self.subject == subject
    }

    fn look_up(&mut self, subject: Subject<'_>, subscriptions: &Subscriptions<Heap>) {
        let subject = subject.as_str();
        self.subject.clear();
        self.subject.extend_from_slice(subject.as_bytes());
        self.known = true;
        self.others.clear();
        let find = |from| subscriptions.matching(from, |pattern| subject::matches(pattern, subject));
        let found = find(0);
        self.first = found.map(|(_, id)| id);
        let mut at = found;
        while let Some((index, _)) = at {
            at = find(index + 1);
            self.others.extend(at.map(|(_, id)| id));
        }
    }
}
