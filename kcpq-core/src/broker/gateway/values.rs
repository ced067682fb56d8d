//! Last values in a bucket of the store (a key/value bucket of JetStream), which all servers on the backbone share: what a session
//! anywhere has kept is there for who subscribes anywhere, also after a restart.
//!
//! ```text
//!  brokers -- Told::Value --> changes ---- Publish ----> bucket      of each subject the newest, once it is read
//!  brokers <- Told::Value --- values <--- StoreEvent --- bucket      all of it at first, then each change
//! ```
//!
//! Subscribers get a message by the backbone as they do without a bucket; what comes from there is kept. But what they would not
//! have got otherwise they are given as a message: what others than gateways have put there, and what was put while this one was
//! away, or had not begun.
//!
//! Without the backbone values are kept and changed here. When it is back the bucket is read first: of each subject the newest
//! counts, by the time when it was published or stored.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::changes::{Changes, Due, Heard, Verdict};
use super::outbound::{Parts, Publish, Putting};
use super::storing::REPLY;
use super::subjects::{INBOX, Subjects};
use super::{Gateway, HOLDS_FOR, Receipt, Scratch, State, StoreEvent, StoreOrder, StoredMessage, inbound, keys, token};
use crate::broker::message::Message;
use crate::broker::shards::Told;
use crate::frame::Properties;
use crate::lane::Lane;
use crate::puback::Stored;
use crate::replay::Start;
use crate::subject::Subject;
use crate::time::{Duration, Instant};

/// A header of what a gateway has put: which one. Others' is not there where it is published as a message as well.
pub(super) const EDGE: &str = "Kcpq-Edge";
/// How many milliseconds before it was put it was published, if any: so it is known what is newer of what waited.
pub(super) const AGE: &str = "Kcpq-Age-Ms";
/// A header of what is no value: there is none any more.
pub(super) const OPERATION: &str = "KV-Operation";
/// Headers that begin with this are for the store itself.
pub(super) const STORES: &str = "Nats-";

/// So many messages are asked for at a time, of so many bytes unless one alone has more.
const COUNT: u32 = 256;
const BYTES: u32 = 256 * 1024;
/// How long the store may take to open the bucket.
const OPENS_WITHIN: Duration = Duration::from_secs(5);
/// Until the next attempt, where the bucket is not there, or does not take anything at the moment.
const PAUSE: Duration = Duration::from_secs(1);
/// The store says at least so often that it is there, or is asked again.
const SILENCE: Duration = Duration::from_secs(7);

/// See above.
#[derive(Debug)]
pub(super) struct Values {
    /// What the subjects of its keys begin with at the backbone; empty without a bucket.
    bucket: Box<str>,
    /// This gateway's name.
    edge: String,
    changes: Changes,
    reading: Reading,
    /// All that was there has come.
    is_read: bool,
    /// The highest sequence that has come, and since when the backbone has been there.
    seen: u64,
    since: Instant,
    /// Nothing is put before.
    holds_until: Option<Instant>,
    /// The latest stamp that was given or seen.
    clock: u64,
    /// Why it is not there, or does not take something: for people.
    trouble: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
enum Reading {
    Closed { until: Option<Instant> },
    Opening { id: u32, until: Instant },
    Open { id: u32, heard: Instant, pulled: u32, alone: bool, place: u64 },
}

impl Values {
    pub(super) fn new(bucket: &str, id: u64) -> Self {
        Self {
            bucket: bucket.into(),
            edge: token(id),
            changes: Changes::default(),
            reading: Reading::Closed { until: None },
            is_read: false,
            seen: 0,
            since: Instant::ZERO,
            holds_until: None,
            clock: 0,
            trouble: None,
        }
    }

    fn is_on(&self) -> bool {
        !self.bucket.is_empty()
    }

    /// True if this is the number of its reader.
    pub(super) fn is_reader(&self, number: u32) -> bool {
        match self.reading {
            Reading::Closed { .. } => false,
            Reading::Opening { id, .. } | Reading::Open { id, .. } => id == number,
        }
    }

    /// Whether the bucket is read, and how many changes it may not have.
    pub(super) fn size(&self) -> (bool, usize) {
        (self.is_read, self.changes.len())
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let reading = match self.reading {
            Reading::Closed { until } => until,
            Reading::Opening { until, .. } => Some(until),
            Reading::Open { heard, pulled, .. } => (pulled > 0).then(|| heard + SILENCE),
        };
        let changes = Instant::earlier(self.changes.next_timeout(), self.holds_until);
        Instant::earlier(reading, changes)
    }

    /// A stamp for what came from the bucket now, later than all that was seen here.
    fn stamp(&mut self, now: Instant) -> u64 {
        self.clock = now.as_micros().max(self.clock.saturating_add(1));
        self.clock
    }
}

impl Gateway {
    /// Why the bucket of last values is not there, or does not take something, for people; `None` if all is well.
    pub fn values_trouble(&self) -> Option<&str> {
        self.values.trouble.as_deref()
    }

    // --- out ---

    /// A broker tells the last value of a subject, of one of its sessions.
    pub(super) fn take_value(
        &mut self,
        now: Instant,
        subject: &str,
        stamp: u64,
        told: Option<(bytes::Bytes, Option<Instant>)>,
    ) {
        let Self { values, subjects, scratch: Scratch { subject: out, .. }, stats, .. } = self;
        values.clock = values.clock.max(stamp);
        if !values.is_on() || subject.starts_with(INBOX) || !subjects.write_out(subject, out) {
            return;
        }
        if Subject::new(subject, &self.config.subjects).is_err() {
            stats.values_unmapped += 1; // only the original allows it
            return;
        }
        let (frame, expires) = told.map_or((None, None), |(frame, expires)| (Some(frame), expires));
        if !values.changes.add(now, subject, frame, expires) {
            stats.values_full += 1;
        }
    }

    /// Of a leaf node: hands the next change of a last value to `write`, for the connection to the store. False if there is none for
    /// now. What the store says of it comes by the other connection, as of all that is to be stored: without that nothing is put.
    pub fn poll_put(&mut self, now: Instant, write: impl FnOnce(Publish<'_>)) -> bool {
        self.has_store && self.state != State::Away && self.put_value(now, &mut Some(write))
    }

    /// Hands the next change to `write`. False if there is none for now.
    pub(super) fn put_value<F: FnOnce(Publish<'_>)>(&mut self, now: Instant, write: &mut Option<F>) -> bool {
        let limits = self.config.subjects;
        if !self.values.is_read || self.values.holds_until.is_some_and(|until| until > now) {
            return false;
        }
        while let Some(Due { subject, frame, expires, at }) = self.values.changes.next_due() {
            let Self { values, subjects, scratch, stats, .. } = self;
            let Scratch { subject: out, reply, id: there, .. } = scratch;
            // One whose time is over is none any more, but the bucket may have an older one.
            let frame = frame.filter(|_| expires.is_none_or(|at| at > now));
            let parts = frame.as_ref().and_then(|frame| Parts::of(frame, &limits));
            let (payload, properties) = match &parts {
                Some(parts) => (parts.message, parts.properties.for_subscribers()),
                None => (&[][..], Properties::NONE),
            };
            let number = self.last_taken + 1;
            let is_mapped = subjects.write_out(&subject, there);
            out.clear();
            out.push_str(&values.bucket);
            out.push('.');
            keys::write(there, out);
            subjects.write_receipt(number, reply);
            let mut answers = String::new();
            if let Some(reply) = properties.reply() {
                subjects.write_reply_out(reply, &mut answers);
            }
            let publish = Publish {
                subject: out,
                reply: Some(reply),
                groups: "",
                payload,
                properties,
                lane: Lane::NORMAL,
                ttl: expires.filter(|_| parts.is_some()).map(|at| at.since(now)),
                store: None,
                value: Some(Putting {
                    edge: &values.edge,
                    age: now.since(at),
                    reply: Some(&*answers).filter(|answers| !answers.is_empty()),
                    deletes: parts.is_none(),
                }),
                size: 0,
            }
            .measured();
            if !is_mapped || !Subjects::fits(publish.subject, reply) || publish.size() > self.max_payload {
                let is_large = publish.size() > self.max_payload;
                *if is_large { &mut stats.values_refused } else { &mut stats.values_unmapped } += 1;
                values.changes.remove(&subject);
                continue;
            }
            stats.values_out += 1;
            if let Some(write) = write.take() {
                write(publish);
            }
            self.last_taken = number;
            values.changes.on_under_way(now, subject, number);
            return true;
        }
        false
    }

    /// The store says what became of what was put under this number. False if it is of something else.
    pub(super) fn on_value_receipt(&mut self, now: Instant, number: u64, receipt: Receipt<'_>) -> bool {
        let Some(subject) = self.values.changes.take_under_way(number) else { return false };
        match receipt {
            Receipt::Stored(Stored { sequence, .. }) => {
                self.values.trouble.take_if(|_| self.values.is_read);
                if let Some(heard) = self.values.changes.on_put(&subject, sequence) {
                    self.take_over(now, &subject, heard);
                }
            }
            Receipt::Refused { why, for_now: false } => {
                self.stats.values_refused += 1;
                self.values.trouble = Some(format!("it does not take the value of {subject}: {why}").into());
                self.values.changes.on_refused(&subject);
            }
            Receipt::Refused { for_now: true, .. } | Receipt::Nobody => {
                self.stats.values_repeats += 1;
                self.values.changes.put_again(&subject);
                self.values.holds_until = Some(now + PAUSE);
            }
        }
        true
    }

    // --- in ---

    /// The reader of the bucket has something to tell.
    pub(super) fn on_value_event(&mut self, now: Instant, event: StoreEvent<'_>) {
        match event {
            StoreEvent::Opened { id, pending, .. } => {
                self.values.reading = Reading::Open { id, heard: now, pulled: 0, alone: false, place: 0 };
                if pending == 0 {
                    self.on_values_read();
                }
            }
            StoreEvent::Refused { text, .. } => {
                self.values.trouble = Some(text.into());
                self.values.reading = Reading::Closed { until: Some(now + PAUSE) };
            }
            StoreEvent::Message(message) => self.on_value_message(now, &message),
            StoreEvent::Alive { .. } => {
                if let Reading::Open { heard, .. } = &mut self.values.reading {
                    *heard = now;
                }
                // It has nothing more to hand out.
                self.on_values_read();
            }
            StoreEvent::Ended { too_large, .. } => {
                if let Reading::Open { heard, pulled, alone, .. } = &mut self.values.reading {
                    (*heard, *pulled, *alone) = (now, 0, too_large);
                }
            }
            StoreEvent::Lost { .. } => self.close_values(Some(now + PAUSE)),
        }
    }

    fn on_values_read(&mut self) {
        if !core::mem::replace(&mut self.values.is_read, true) {
            self.values.trouble = None;
        }
    }

    fn on_value_message(&mut self, now: Instant, message: &StoredMessage<'_>) {
        let Reading::Open { heard, pulled, alone, place, .. } = &mut self.values.reading else { return };
        (*heard, *pulled, *alone) = (now, pulled.saturating_sub(1), false);
        if message.place != *place + 1 {
            return self.close_values(Some(now)); // some were lost on the way
        }
        *place = message.place;
        if let Some((subject, heard)) = self.read_value(now, message) {
            match self.values.changes.meet(now, &subject, heard) {
                Verdict::Newer(heard) => self.take_over(now, &subject, heard),
                Verdict::Overtakes(heard) => {
                    self.stats.values_overtaken += 1;
                    self.take_over(now, &subject, heard);
                }
                Verdict::Older => {}
            }
        }
        self.values.seen = self.values.seen.max(message.sequence);
        if message.pending == 0 {
            self.on_values_read();
        }
    }

    /// What a message of the bucket says; `None` if it is of no subject that comes in.
    fn read_value(&mut self, now: Instant, message: &StoredMessage<'_>) -> Option<(String, Heard)> {
        let header =
            |wanted: &str| message.headers.iter().find_map(|(name, value)| (*name == wanted).then_some(*value));
        let key = message.subject.strip_prefix(&*self.values.bucket)?.strip_prefix('.')?;
        let there = keys::read(key);
        let mut local = String::new();
        if there.as_ref().is_some_and(|there| !self.subjects.write_in(there, &mut local)) {
            return None; // of another prefix, or it is not to come in
        }
        let Some(subject) = Subject::new(&local, &self.config.subjects).ok().filter(|_| there.is_some()) else {
            self.stats.values_unmapped += 1;
            return None;
        };
        let waited = header(AGE).and_then(|age| age.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
        let own = |name: &str| [EDGE, AGE, OPERATION].contains(&name) || name.starts_with(STORES);
        let headers: Vec<_> = message.headers.iter().copied().filter(|(name, _)| !own(name)).collect();
        let inbound::Said { mut properties, ttl, .. } = self.read(&headers, true);
        if let Some(reply) = header(REPLY) {
            let is_there = self.subjects.write_reply_in(reply, &mut self.scratch.reply)
                && Subject::new(&self.scratch.reply, &self.config.subjects).is_ok()
                && properties.reply(&self.scratch.reply).is_ok();
            self.stats.stripped += u64::from(!is_there);
        }
        let is_none = message.payload.is_empty() || header(OPERATION).is_some_and(|operation| operation != "PUT");
        let is_over = ttl.is_some_and(|ttl| ttl <= message.age);
        let mut frame = None;
        if !is_none && !is_over {
            let whole = inbound::frame(&subject, message.payload, properties.properties().as_bytes(), None, false);
            frame = whole.filter(|frame| frame.len() <= self.config.frames.max_body as usize);
            self.stats.dropped_too_large += u64::from(frame.is_none());
        }
        let edge = header(EDGE);
        let is_new = !self.values.is_read && message.sequence > self.values.seen;
        // What was put later, or waited for the backbone, comes as a message.
        let is_missed = is_new && message.age >= now.since(self.values.since) && waited < HOLDS_FOR;
        let heard = Heard {
            sequence: message.sequence,
            frame: frame.map(bytes::BytesMut::freeze),
            expires: ttl
                .map(|ttl| now + Duration::from_micros(ttl.as_micros().saturating_sub(message.age.as_micros()))),
            age: (now, message.age + waited),
            is_own: edge == Some(&*self.values.edge),
            is_news: edge.is_none() || is_missed,
        };
        Some((local, heard))
    }

    /// That is the last value of a subject from now on.
    fn take_over(&mut self, now: Instant, subject: &str, heard: Heard) {
        let (age, stamp) = (heard.age(now), self.values.stamp(now));
        let Heard { frame, expires, is_news, .. } = heard;
        let frame = frame.filter(|_| expires.is_none_or(|at| at > now));
        // As brokers tell it each other.
        let value = frame.as_ref().and_then(|frame| Message::kept(frame, None, usize::MAX).stamped(stamp, true));
        self.stats.values_in += 1;
        let Self { links, interest, config, .. } = self;
        for link in links.iter_mut() {
            link.tell_value(Told::Value { subject: subject.into(), stamp, frame: value.clone(), expires, age });
        }
        if let Some(frame) = frame.filter(|_| is_news)
            && let Ok(subject) = Subject::new(subject, &config.subjects)
        {
            interest.brokers(subject, |broker| {
                if let Some(link) = links.get_mut(usize::from(broker)) {
                    link.send(&frame, Lane::NORMAL, expires);
                }
            });
        }
    }

    // --- time, and the backbone ---

    /// The backbone is there.
    pub(super) fn resume_values(&mut self, now: Instant) {
        if self.values.is_on() {
            self.values.since = now;
            self.open_values(now);
        }
    }

    /// The backbone is lost: what it may not have is put when it is back.
    pub(super) fn suspend_values(&mut self) {
        self.values.changes.on_lost();
        self.values.reading = Reading::Closed { until: None };
        (self.values.is_read, self.values.holds_until) = (false, None);
    }

    fn open_values(&mut self, now: Instant) {
        let id = self.replays.next_id();
        let mut pattern = format!("{}.", self.values.bucket);
        keys::write(self.subjects.prefix(), &mut pattern);
        pattern.push('>');
        self.values.is_read = false;
        self.values.changes.on_read_anew();
        self.values.reading = Reading::Opening { id, until: now + OPENS_WITHIN };
        self.replays.order(StoreOrder::Open { id, pattern: pattern.into(), start: Start::Last, durable: None });
    }

    /// It is read anew at that time.
    fn close_values(&mut self, until: Option<Instant>) {
        if let Reading::Opening { id, .. } | Reading::Open { id, .. } = self.values.reading {
            self.replays.order(StoreOrder::Close { id });
        }
        self.values.reading = Reading::Closed { until };
        self.values.is_read = false;
    }

    /// Lets time run out, and asks for more if that is wanted.
    pub(super) fn on_values_time(&mut self, now: Instant) {
        if !self.reaches_store() || !self.values.is_on() {
            return;
        }
        self.values.holds_until.take_if(|until| *until <= now);
        self.stats.values_repeats += self.values.changes.on_time(now);
        match self.values.reading {
            Reading::Closed { until } if until.is_some_and(|until| until <= now) => self.open_values(now),
            Reading::Opening { until, .. } if until <= now => {
                self.values.trouble = Some("the store says nothing of the bucket".into());
                self.close_values(Some(now + PAUSE));
            }
            Reading::Open { heard, pulled, .. } if pulled > 0 && heard + SILENCE <= now => {
                self.close_values(Some(now));
            }
            Reading::Open { id, pulled: 0, alone, place, .. } if self.may_read() => {
                let (count, bytes) = if alone { (1, None) } else { (COUNT, Some(BYTES)) };
                self.values.reading = Reading::Open { id, heard: now, pulled: count, alone, place };
                self.replays.order(StoreOrder::Pull { id, count, bytes });
            }
            _ => {}
        }
    }
}
