//! Messages that a store behind the backbone (JetStream) is to have: each is published there with a subject of the gateway's own
//! to which the store says that it has it, and under an id, so that it can be published again if nothing is said.
//!
//! Nobody else waits for that: sessions here have got the message before. Of those who hear it at the backbone, servers of
//! kcpq pass over what was published there before: see [`AGAIN`].

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use super::leaf::Wanted;
use super::outbound::{Parts, Publish, Storing, Waiting};
use super::stores::Entry;
use super::subjects::Subjects;
use super::{Channel, Gateway, Scratch, State};
use crate::broker::receipts::StoreOutcome;
use crate::frame::{Properties, subject_of};
use crate::puback::{Rejection, Stored};
use crate::time::{Duration, Instant};

/// A header under which the store has each message once, as far back as it looks.
pub(super) const ID: &str = "Nats-Msg-Id";
/// Whom the message is not for, since they may have had it before: `all`, but for the store; or `groups`, whose members have
/// got it where it was published.
pub(super) const AGAIN: &str = "Kcpq-Again";
/// Where answers are to go, which the store's own subject stands in place of.
pub(super) const REPLY: &str = "Kcpq-Reply";

/// What is asked to be stored and has no time to live of its own is given up after this: less than the two minutes for which
/// streams know an id, unless they are told otherwise.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// When there is nobody who stores a subject, it is tried so often if somebody waits to hear that: a stream may be about to be
/// there, after a restart. If it has stored some of this subject before, it is tried for as long as the message has time.
const ATTEMPTS: u32 = 3;
/// Time until then, and each time twice as much, up to five times.
const PAUSE: Duration = Duration::from_millis(250);

/// The backbone's word on a message that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt<'r> {
    /// It is stored.
    Stored(Stored),
    /// The store does not take it.
    Refused {
        /// Why, for people.
        why: &'r str,
        /// It may take it a moment later.
        for_now: bool,
    },
    /// Nobody stores this subject.
    Nobody,
}

impl Gateway {
    /// The gateway's subscription to [`Receipt`]s: messages under this number are for
    /// [`handle_receipt`](Self::handle_receipt), all others for [`handle_message`](Self::handle_message).
    pub const RECEIPTS: u64 = super::interest::RECEIPTS;

    /// Whether a message is to be stored: `Some` with the ticket of who wants to know, if somebody does.
    pub(super) fn is_to_be_stored(&self, parts: &Parts<'_>) -> Option<Option<u32>> {
        match parts.properties.asked() {
            Some(asked) if asked.store.is_some() => Some(Some(asked.number)),
            _ => self.subjects.is_stored(&parts.subject).then_some(None),
        }
    }

    /// Takes a message that is to be stored. Gives it back if there is no room and nobody waits to hear that.
    pub(super) fn take_to_store(
        &mut self,
        now: Instant,
        number: u64,
        waiting: Waiting,
        ticket: Option<u32>,
        is_served: bool,
    ) -> Option<Waiting> {
        let len = waiting.frame.len();
        if !self.stores.has_room(len, self.config.buffer) {
            self.stats.store_full += 1;
            let Some(ticket) = ticket else { return Some(waiting) };
            let why = format!(
                "{} messages of {} bytes wait to be stored, and no more may",
                self.stores.size().0,
                self.stores.size().1
            );
            self.place(now, waiting.from, len);
            self.tell(waiting.from, ticket, Err((Rejection::NotStored, why.into())));
            return None;
        }
        let is_away = self.state == State::Away;
        // It may be a part of many others, which need not be kept as long.
        let mut entry = Entry::new(Bytes::copy_from_slice(&waiting.frame), waiting.expires, waiting.lane, waiting.from);
        entry.ticket = ticket;
        entry.until = entry.expires.or_else(|| ticket.map(|_| now + KEPT_FOR));
        entry.is_owed = !is_away && self.holds_until.is_none();
        (entry.is_served, entry.served) = (is_served, waiting.served);
        if !entry.is_owed {
            self.place(now, entry.from, len);
        }
        if is_away && !is_served {
            entry.is_served = self.serve_groups(now, &entry.frame, entry.lane, entry.expires);
        }
        self.stores.insert(number, entry);
        None
    }

    /// Hands a message to `write`. False if it cannot be: then that is what became of it.
    pub(super) fn hand_over<F: FnOnce(Publish<'_>)>(
        &mut self,
        now: Instant,
        number: u64,
        write: &mut Option<F>,
    ) -> bool {
        let limits = self.config.subjects;
        let Some(entry) = self.stores.get_mut(number) else { return false };
        let (frame, from, len) = (entry.frame.clone(), entry.from, entry.frame.len());
        let (expires, until, lane) = (entry.expires, entry.until, entry.lane);
        let (tries, is_served, served) = (entry.tries, entry.is_served, entry.served.clone());
        let was_owed = core::mem::take(&mut entry.is_owed);
        if was_owed {
            self.place(now, from, len);
        }
        if until.is_some_and(|until| until <= now) {
            self.give_up(now, number);
            return false;
        }
        // It has been looked at before.
        let Some(Parts { subject, message, properties }) = Parts::of(&frame, &limits) else {
            self.give_up(now, number);
            return false;
        };
        let Scratch { subject: out, reply, id: own_id, groups, .. } = &mut self.scratch;
        let given = given_id(properties);
        if given.is_none() {
            self.subjects.write_id(number, own_id);
        }
        let id = given.unwrap_or(own_id);
        let is_mapped = self.subjects.write_out(&subject, out);
        self.subjects.write_receipt(number, reply);
        let mut answers = String::new();
        if let Some(reply) = properties.reply() {
            self.subjects.write_reply_out(reply, &mut answers);
        }
        let again = match (tries, is_served) {
            (0, false) => None,
            (0, true) => Some(Again::Groups),
            _ => Some(Again::All),
        };
        // Members of groups there have had it before, too.
        let served = if tries == 0 { served.as_deref() } else { Some("") };
        let wanted = self.leaf.as_mut().map(|leaf| leaf.ask(out, served, groups));
        let publish = Publish {
            subject: out,
            reply: Some(reply),
            groups,
            payload: message,
            properties,
            lane,
            ttl: expires.map(|at| at.since(now)),
            store: Some(Storing { id, again, reply: (!answers.is_empty()).then_some(&*answers) }),
            value: None,
            size: 0,
        }
        .measured();
        if !is_mapped || !Subjects::fits(publish.subject, reply) {
            self.stats.dropped_unmapped += 1;
            self.end(now, number, Err((Rejection::NoStream, "this subject is none at the backbone".into())));
            return false;
        }
        if publish.size() > self.max_payload {
            self.stats.dropped_too_large += 1;
            self.end(now, number, Err((Rejection::TooLarge, Box::default())));
            return false;
        }
        match wanted {
            Some(Wanted::Denied) => {
                self.stats.dropped_denied += 1;
                self.end(now, number, Err((Rejection::NoStream, "the backbone does not permit this subject".into())));
                return false;
            }
            // A leaf node need not ask whether somebody is there who stores it.
            Some(Wanted::By { plain: false }) if groups.is_empty() => {
                self.stores.on_handed_over(now, number);
                self.settle_receipt(now, number, Receipt::Nobody);
                return false;
            }
            _ => {}
        }
        // Of a leaf node it may have been tried before, without anybody to hand it to.
        let is_first = self.stores.get_mut(number).is_some_and(|entry| !core::mem::replace(&mut entry.is_out, true));
        if is_first {
            self.stats.messages_out += 1;
            self.stats.bytes_out += (publish.subject.len() + message.len()) as u64;
        } else {
            self.stats.store_repeats += 1;
        }
        if let Some(write) = write.take() {
            write(publish);
        }
        self.stores.on_handed_over(now, number);
        true
    }

    /// The backbone says what became of a message that was to be stored; `subject` is the one by which it came.
    pub fn handle_receipt(&mut self, now: Instant, subject: &str, receipt: Receipt<'_>) {
        self.on_heard(now, Channel::Main);
        let Some(number) = self.subjects.receipt(subject) else { return };
        if !self.on_value_receipt(now, number, receipt) {
            self.settle_receipt(now, number, receipt);
        }
    }

    fn settle_receipt(&mut self, now: Instant, number: u64, receipt: Receipt<'_>) {
        // What was published again is answered again.
        let Some(entry) = self.stores.get_mut(number) else { return };
        let again = entry.tries > 1;
        entry.nobody += u32::from(receipt == Receipt::Nobody);
        let is_known = receipt == Receipt::Nobody && self.known.has(subject_of(&entry.frame));
        match receipt {
            Receipt::Stored(stored) => {
                self.known.add(subject_of(&entry.frame));
                // Under an id of ours nobody else has stored anything.
                let is_ours = stored.duplicate && again && self.has_own_id(number);
                let stored = Stored { duplicate: stored.duplicate && !is_ours, ..stored };
                self.stats.stored += 1;
                self.stats.store_duplicates += u64::from(stored.duplicate);
                self.end(now, number, Ok(stored));
            }
            Receipt::Refused { for_now: true, .. } => self.put_off(now, number),
            Receipt::Refused { why, for_now: false } => {
                self.stats.store_refused += 1;
                self.end(now, number, Err((Rejection::NotStored, why.into())));
            }
            Receipt::Nobody if !is_known && entry.ticket.is_some() && entry.nobody >= ATTEMPTS => {
                self.give_up(now, number);
            }
            Receipt::Nobody => self.put_off(now, number),
        }
    }

    /// It is tried again a moment later.
    fn put_off(&mut self, now: Instant, number: u64) {
        let Some(entry) = self.stores.get_mut(number) else { return };
        let pause = PAUSE.saturating_mul(1 << entry.refusals.min(5));
        entry.refusals = entry.refusals.saturating_add(1);
        self.stores.put_off(number, now + pause);
    }

    /// Lets the time of messages run out.
    pub(super) fn expire_stores(&mut self, now: Instant) {
        while let Some(number) = self.stores.on_time(now) {
            self.give_up(now, number);
        }
    }

    /// It is not waited for any more.
    fn give_up(&mut self, now: Instant, number: u64) {
        let Some(entry) = self.stores.get_mut(number) else { return };
        // Of one that nothing was said of some stream may have it.
        let why = if entry.tries > 0 && entry.nobody >= entry.tries {
            self.known.forget(subject_of(&entry.frame));
            self.stats.store_no_stream += 1;
            Rejection::NoStream
        } else {
            self.stats.store_in_doubt += 1;
            Rejection::InDoubt
        };
        self.end(now, number, Err((why, Box::default())));
    }

    /// That is what became of it.
    fn end(&mut self, now: Instant, number: u64, outcome: StoreOutcome) {
        let Some(entry) = self.stores.remove(number) else { return };
        if entry.is_owed {
            self.place(now, entry.from, entry.frame.len());
        }
        if let Some(ticket) = entry.ticket {
            self.tell(entry.from, ticket, outcome);
        }
    }

    /// The backbone is lost: queue groups here get what was not handed over, and all is handed over again when it is back.
    pub(super) fn keep_stores(&mut self, now: Instant) {
        let mut stores = core::mem::take(&mut self.stores);
        for entry in stores.iter_mut() {
            if core::mem::take(&mut entry.is_owed) {
                self.place(now, entry.from, entry.frame.len());
            }
            if entry.tries == 0 && !entry.is_served {
                entry.is_served = self.serve_groups(now, &entry.frame, entry.lane, entry.expires);
            }
        }
        stores.on_lost();
        self.stores = stores;
    }

    pub(super) fn tell(&mut self, broker: u8, ticket: u32, outcome: StoreOutcome) {
        if let Some(link) = self.link(broker) {
            link.tell_stored(ticket, outcome);
        }
    }

    /// Nobody else has given it an id.
    fn has_own_id(&mut self, number: u64) -> bool {
        let limits = self.config.subjects;
        let Some(entry) = self.stores.get_mut(number) else { return false };
        Parts::of(&entry.frame, &limits).is_some_and(|Parts { properties, .. }| given_id(properties).is_none())
    }
}

/// The id that its publisher has given a message.
fn given_id(properties: Properties<'_>) -> Option<&str> {
    let asked = properties.asked().and_then(|asked| asked.store);
    asked.filter(|id| !id.is_empty()).or_else(|| properties.header(ID).next())
}

/// See [`AGAIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Groups,
    All,
}

impl Again {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::All => "all",
        }
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        [Self::Groups, Self::All].into_iter().find(|again| again.text() == text)
    }
}
