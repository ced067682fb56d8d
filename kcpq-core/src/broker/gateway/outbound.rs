//! From the brokers to the backbone.

use alloc::boxed::Box;
use alloc::format;

use bytes::Bytes;

use super::leaf::Wanted;
use super::storing::{AGAIN, Again, ID, REPLY};
use super::subjects::{INBOX, Subjects};
use super::values::{AGE, EDGE, OPERATION, STORES};
use super::{Channel, Gateway, Scratch, State, inbound};
use crate::broker::receipts::TOO_LARGE;
use crate::frame::{Frame, LENGTH, Limits, Properties};
use crate::lane::Lane;
use crate::puback::Rejection;
use crate::subject::{self, Subject};
use crate::time::{Duration, Instant};

/// A message that waits for the backbone.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its number among all that came.
    number: u64,
    /// The MSG or MSGX.
    pub(super) frame: Bytes,
    pub(super) expires: Option<Instant>,
    pub(super) lane: Lane,
    pub(super) from: u8,
    /// Its broker has not been told that it is placed.
    is_owed: bool,
    /// Of a leaf node: the queue groups here that have it, with a space between their names; empty if it is not known which.
    pub(super) served: Option<Box<str>>,
}

/// A message as the backbone is to have it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Publish<'m> {
    /// What it is called there.
    pub subject: &'m str,
    /// Where answers are to go.
    pub reply: Option<&'m str>,
    /// Of a leaf node: the queue groups there that are to have it, with a space between their names. Besides it is for whoever
    /// wants it and is in no group.
    pub groups: &'m str,
    /// The message.
    pub payload: &'m [u8],
    pub(super) properties: Properties<'m>,
    pub(super) lane: Lane,
    /// What is left of its time to live.
    pub(super) ttl: Option<Duration>,
    /// It is to be stored.
    pub(super) store: Option<Storing<'m>>,
    /// It is the last value of a subject, for the bucket of these.
    pub(super) value: Option<Putting<'m>>,
    /// See [`size`](Self::size).
    pub(super) size: usize,
}

/// What is said besides of a message that is to be stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storing<'m> {
    pub(super) id: &'m str,
    pub(super) again: Option<Again>,
    /// Where answers are to go.
    pub(super) reply: Option<&'m str>,
}

/// What is said besides of a last value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Putting<'m> {
    /// Who puts it there.
    pub(super) edge: &'m str,
    /// How long ago it was published.
    pub(super) age: Duration,
    /// Where answers are to go.
    pub(super) reply: Option<&'m str>,
    /// There is none any more.
    pub(super) deletes: bool,
}

/// A header that says how many milliseconds a message is still worth something.
pub(super) const TTL: &str = "Kcpq-Ttl-Ms";
/// The number of its lane.
pub(super) const LANE: &str = "Kcpq-Lane";
/// `1` if only the latest of its subject counts.
pub(super) const LATEST: &str = "Kcpq-Latest";

/// Of so many requests at most it is waited for the backbone's word that nobody answers them; with so many it is asked whether it
/// has said all.
const MAX_ASKED: usize = 16 * 1024;
const ASK_AGAIN: usize = 256;

impl Publish<'_> {
    /// Hands each of its headers to `tell`, name and value.
    pub fn headers(&self, mut tell: impl FnMut(&str, &str)) {
        let given = self.properties.headers().filter(|(name, _)| match (self.store, self.value) {
            (_, Some(_)) => !is_of_store(name), // what a publisher says to subscribers is none of the bucket's business
            (Some(_), None) => *name != ID,
            (None, None) => true,
        });
        for (name, value) in given {
            tell(name, value);
        }
        if let Some(Putting { edge, age, reply, deletes }) = self.value {
            tell(EDGE, edge);
            if age.as_millis() > 0 {
                tell(AGE, &format!("{}", age.as_millis()));
            }
            reply.into_iter().for_each(|reply| tell(REPLY, reply));
            if deletes {
                tell(OPERATION, "DEL");
            }
        }
        if let Some(Storing { id, again, reply }) = self.store {
            tell(ID, id);
            again.into_iter().for_each(|again| tell(AGAIN, again.text()));
            reply.into_iter().for_each(|reply| tell(REPLY, reply));
        }
        if let Some(ttl) = self.ttl {
            tell(TTL, &format!("{}", ttl.as_micros().div_ceil(1_000)));
        }
        if !self.lane.is_main() {
            tell(LANE, &format!("{}", self.lane.number()));
        }
        if self.properties.supersedes() {
            tell(LATEST, "1");
        }
    }

    /// Bytes of headers and message as NATS counts them: a line that names the version, one for each header, and an empty one.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The same with its size known.
    pub(super) fn measured(mut self) -> Self {
        let mut size = 0;
        self.headers(|name, value| size += name.len() + value.len() + ": \r\n".len());
        self.size = self.payload.len() + if size > 0 { "NATS/1.0\r\n\r\n".len() + size } else { 0 };
        self
    }
}

/// True if a header of this name says something to the store itself.
fn is_of_store(name: &str) -> bool {
    let begins = name.get(..STORES.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(STORES));
    begins || [OPERATION, EDGE, AGE].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The parts of a frame that matter here.
pub(super) struct Parts<'f> {
    pub(super) subject: Subject<'f>,
    pub(super) message: &'f [u8],
    pub(super) properties: Properties<'f>,
}

impl<'f> Parts<'f> {
    pub(super) fn of(frame: &'f [u8], limits: &subject::Limits) -> Option<Self> {
        let parsed = Frame::parse(frame, &Limits::NONE).ok()?;
        let (message, properties) = parsed.message()?;
        Some(Self { subject: Subject::from_bytes(parsed.subject, limits).ok()?, message, properties })
    }
}

impl Gateway {
    /// Takes messages of a broker, whole frames that follow each other.
    pub(super) fn take_all(&mut self, now: Instant, from: u8, mut frames: Bytes, expires: Option<Instant>, lane: Lane) {
        while let Some(len) = frames.first_chunk().map(|announced| LENGTH + u32::from_be_bytes(*announced) as usize) {
            let frame = frames.split_to(len.min(frames.len()));
            self.last_taken += 1;
            let number = self.last_taken;
            self.take(now, Waiting { number, frame, expires, lane, from, is_owed: true, served: None });
        }
    }

    fn take(&mut self, now: Instant, mut waiting: Waiting) {
        let limits = self.config.subjects;
        let (mut answer, mut store, mut is_served) = (0, None, false);
        let ticket;
        let goes = match Parts::of(&waiting.frame, &limits) {
            // Only the original allows it.
            None => {
                let parsed = Frame::parse(&waiting.frame, &Limits::NONE).ok();
                ticket = parsed.and_then(|frame| frame.message()?.1.ticket());
                self.stats.dropped_unmapped += 1;
                false
            }
            Some(parts) => {
                ticket = parts.properties.ticket();
                store = self.is_to_be_stored(&parts);
                let Parts { subject, message, properties } = parts;
                if self.leaf.is_none() {
                    is_served = properties.is_served() && self.subjects.is_shared(&subject);
                } else if properties.is_served() {
                    waiting.served = Some(self.served(subject));
                }
                if !self.subjects.write_out(&subject, &mut self.scratch.subject) {
                    false
                } else if message.len() > self.max_payload {
                    self.stats.dropped_too_large += 1;
                    answer = TOO_LARGE;
                    false
                } else if is_served && store.is_none() {
                    self.stats.dropped_settled += 1;
                    false
                } else {
                    true
                }
            }
        };
        let (from, len) = (waiting.from, waiting.frame.len());
        if let Some(ticket) = ticket
            && let Some(link) = self.link(from)
        {
            link.answer(now, ticket, answer, !goes || !matches!(store, Some(Some(_))));
        }
        match store.filter(|_| goes) {
            Some(ticket) => {
                let number = waiting.number;
                match self.take_to_store(now, number, waiting, ticket, is_served) {
                    Some(back) => waiting = back,
                    None => return,
                }
            }
            None => {
                if let Some(ticket) = store.flatten() {
                    let why = "what is published to this subject is not handed to the backbone";
                    self.tell(from, ticket, Err((Rejection::NoStream, why.into())));
                }
            }
        }
        let waits = self.state == State::Away || self.holds_until.is_some();
        waiting.is_owed = goes && !waits;
        if !waiting.is_owed {
            self.place(now, from, len);
        }
        if !goes {
            return;
        }
        if self.state == State::Away {
            self.settle(now, waiting);
        } else if waits {
            self.keep(now, waiting);
        } else {
            self.waiting += len;
            self.outbound.push_back(waiting);
        }
    }

    /// The backbone is lost, and what was to go there is settled here, or waits.
    pub(super) fn settle_all(&mut self, now: Instant) {
        self.waiting = 0;
        for mut waiting in core::mem::take(&mut self.outbound) {
            let len = waiting.frame.len();
            if core::mem::take(&mut waiting.is_owed)
                && let Some(link) = self.link(waiting.from)
            {
                link.place(now, len);
            }
            self.settle(now, waiting);
        }
    }

    /// What becomes of a message while there is no backbone: it waits for that, unless it is a request that nobody answers,
    /// or queue groups here have it.
    fn settle(&mut self, now: Instant, waiting: Waiting) {
        let limits = self.config.subjects;
        if let Some(Parts { subject, properties, .. }) = Parts::of(&waiting.frame, &limits) {
            let (brokers, shares) = self.interest.route(subject);
            if brokers.is_empty()
                && shares.is_empty()
                && let Some(reply) = properties.reply()
            {
                self.stats.dropped_settled += 1;
                return self.say_nobody(reply);
            }
            if self.serve_groups(now, &waiting.frame, waiting.lane, waiting.expires) {
                self.stats.dropped_settled += 1;
                return;
            }
        }
        self.keep(now, waiting);
    }

    /// Hands a message to queue groups here, as far as the backbone would see to them. False if there is none.
    pub(super) fn serve_groups(&mut self, now: Instant, frame: &Bytes, lane: Lane, expires: Option<Instant>) -> bool {
        if self.leaf.is_some() {
            return false; // brokers have seen to them
        }
        let limits = self.config.subjects;
        let Some(Parts { subject, message, properties }) = Parts::of(frame, &limits) else { return false };
        let (_, shares) = self.interest.route(subject);
        if shares.is_empty() || !self.subjects.is_shared(&subject) {
            return false;
        }
        for share in shares {
            let group = self.interest.group(share);
            let frame = inbound::frame(&subject, message, properties.for_subscribers().as_bytes(), Some(group), false);
            if let Some(frame) = frame
                && let Some(broker) = self.interest.choose(share)
                && let Some(link) = self.links.get_mut(usize::from(broker))
            {
                link.send(&frame, lane, expires.filter(|at| *at > now));
            }
        }
        true
    }

    /// So many bytes of a broker's messages have found their place.
    pub(super) fn place(&mut self, now: Instant, broker: u8, bytes: usize) {
        if let Some(link) = self.link(broker) {
            link.place(now, bytes);
        }
    }

    /// Lets a message wait, and the oldest make room for it.
    fn keep(&mut self, now: Instant, waiting: Waiting) {
        self.waiting += waiting.frame.len();
        self.outbound.push_back(waiting);
        while self.waiting > self.config.buffer
            && let Some(oldest) = self.outbound.pop_front()
        {
            self.waiting -= oldest.frame.len();
            let over = oldest.expires.is_some_and(|at| at <= now);
            *if over { &mut self.stats.expired } else { &mut self.stats.dropped_away } += 1;
        }
    }

    /// Hands the next message for the backbone to `write`, as long as it is there. False if there is none. To be called as long
    /// as there is room for more on the way there.
    pub fn poll_publish(&mut self, now: Instant, write: impl FnOnce(Publish<'_>)) -> bool {
        let mut write = Some(write);
        if self.state == State::Away {
            return false;
        }
        if self.leaf.is_none() && self.put_value(now, &mut write) {
            return true;
        }
        if self.holds_until.is_some_and(|until| until > now) {
            return false;
        }
        let limits = self.config.subjects;
        loop {
            // In the order in which they came.
            let plain = self.outbound.front().map(|waiting| waiting.number);
            if let Some(number) = self.stores.next_due().filter(|number| plain.is_none_or(|plain| *number < plain)) {
                if self.hand_over(now, number, &mut write) {
                    return true;
                }
                continue;
            }
            let Some(Waiting { frame, expires, lane, from, is_owed, served, .. }) = self.outbound.pop_front() else {
                return false;
            };
            self.waiting -= frame.len();
            if is_owed && let Some(link) = self.links.get_mut(usize::from(from)) {
                link.place(now, frame.len());
            }
            if expires.is_some_and(|at| at <= now) {
                self.stats.expired += 1;
                continue;
            }
            // It has been looked at before.
            let Some(Parts { subject, message, properties }) = Parts::of(&frame, &limits) else { continue };
            if !self.subjects.write_out(&subject, &mut self.scratch.subject) {
                continue;
            }
            let reply = properties.reply();
            if let Some(leaf) = &mut self.leaf {
                let Scratch { subject: there, groups, .. } = &mut self.scratch;
                let is_wanted = match leaf.ask(there, served.as_deref(), groups) {
                    Wanted::By { plain } => plain || !groups.is_empty(),
                    Wanted::Denied => {
                        self.stats.dropped_denied += 1;
                        continue;
                    }
                };
                if !is_wanted {
                    self.stats.no_interest += 1;
                    if let Some(reply) = reply.filter(|_| !self.interest.is_wanted(subject)) {
                        self.say_nobody(reply);
                    }
                    continue;
                }
            }
            self.scratch.reply.clear();
            if let Some(reply) = reply {
                self.subjects.write_reply_out(reply, &mut self.scratch.reply);
            }
            if !Subjects::fits(&self.scratch.subject, &self.scratch.reply) {
                self.stats.dropped_unmapped += 1;
                continue;
            }
            let publish = Publish {
                subject: &self.scratch.subject,
                reply: reply.map(|_| &*self.scratch.reply),
                groups: &self.scratch.groups,
                payload: message,
                properties,
                lane,
                ttl: expires.map(|at| at.since(now)),
                store: None,
                value: None,
                size: 0,
            }
            .measured();
            if publish.size() > self.max_payload {
                self.stats.dropped_too_large += 1;
                continue;
            }
            // A leaf node has seen that somebody is there.
            if let Some(reply) = reply.filter(|reply| self.leaf.is_none() && reply.starts_with(INBOX))
                && !self.interest.is_wanted(subject)
            {
                let main = self.channels.of_mut(Channel::Main);
                if self.asked.len() < MAX_ASKED {
                    self.asked.push_back((main.sent + 1, Box::from(reply)));
                }
                main.news |= self.asked.len().is_multiple_of(ASK_AGAIN);
            }
            self.stats.messages_out += 1;
            if self.subjects.comes_in(&subject)
                && self.doubts.hand_over(self.stats.messages_out, publish.subject, message)
            {
                self.channels.of_mut(Channel::Main).news = true;
            }
            self.stats.bytes_out += (publish.subject.len() + message.len()) as u64;
            self.gone += 1;
            if let Some(write) = write {
                write(publish);
            }
            return true;
        }
    }
}
