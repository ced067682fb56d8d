//! A store that is made of a few lines: it knows what the driver of one promises, and nothing else.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::matches;
use crate::broker::gateway::{Gateway, StoreEvent, StoreOrder, StoredMessage};
use crate::hello::Refusal;
use crate::replay::{Settlement, Start};
use crate::time::{Duration, Instant};

/// What it has to say, to which server.
#[derive(Debug)]
enum Said {
    Opened(u32, u64),
    Refused(u32, Refusal),
    Message { id: u32, index: usize, place: u64, deliveries: u32, pending: u64, handle: Option<String> },
    Ended(u32, bool),
}

#[derive(Debug)]
struct Reader {
    server: usize,
    id: u32,
    pattern: String,
    /// Those up to this index it has had.
    next: usize,
    /// Only the last of each subject, of those before this.
    last_until: usize,
    place: u64,
    durable: Option<String>,
    /// What it has asked for, and how many bytes at most.
    wanted: u32,
    bytes: Option<u32>,
}

/// What is remembered of a durable name.
#[derive(Debug, Default)]
struct Durable {
    pattern: String,
    next: usize,
    /// Handed out and not settled: by index, how often, and whether it is to come again at once.
    pending: BTreeMap<usize, (u32, bool)>,
    done: Vec<usize>,
}

#[derive(Default)]
pub(super) struct Store {
    /// Subject, text and when it was stored. The sequence is the index and 1.
    pub(super) messages: Vec<(String, String, Instant)>,
    readers: Vec<Reader>,
    durables: BTreeMap<String, Durable>,
    said: VecDeque<(usize, Said)>,
    /// Patterns of the stream.
    pub(super) stream: Option<&'static str>,
    /// Every so many'th message for a reader gets lost.
    pub(super) loses: Option<u64>,
    pub(super) handed_out: u64,
    pub(super) opened: u64,
}

impl Store {
    pub(super) fn store(&mut self, now: Instant, subject: &str, text: &str) {
        self.messages.push((subject.into(), text.into(), now));
        self.serve();
    }

    /// What is settled under a name, in order.
    pub(super) fn done(&self, name: &str) -> Vec<String> {
        let done = self.durables.get(name).map(|durable| durable.done.clone()).unwrap_or_default();
        done.into_iter().map(|index| self.messages[index].1.clone()).collect()
    }

    pub(super) fn readers(&self) -> usize {
        self.readers.len()
    }

    /// A server is gone: its readers are nobody's, and what they have had is in doubt.
    pub(super) fn lose(&mut self, server: usize) {
        self.readers.retain(|reader| reader.server != server);
        self.said.retain(|(to, _)| *to != server);
    }

    /// The time in which what was handed out should have been settled is over.
    pub(super) fn tire(&mut self) {
        for durable in self.durables.values_mut() {
            durable.pending.values_mut().for_each(|(_, again)| *again = true);
        }
        self.serve();
    }

    pub(super) fn take(&mut self, now: Instant, server: usize, order: StoreOrder) {
        match order {
            StoreOrder::Open { id, pattern, start, durable } => self.open(now, server, id, &pattern, start, durable),
            StoreOrder::Pull { id, count, bytes } => {
                let reader = self.readers.iter_mut().find(|reader| (reader.server, reader.id) == (server, id));
                if let Some(reader) = reader {
                    assert_eq!(reader.wanted, 0, "one at a time");
                    (reader.wanted, reader.bytes) = (count, bytes);
                }
            }
            StoreOrder::Settle { handle, settlement } => {
                let (name, index) = handle.split_once(' ').unwrap();
                let durable = self.durables.get_mut(name).unwrap();
                let index = index.parse().unwrap();
                match settlement {
                    Settlement::Ack | Settlement::Term => {
                        if durable.pending.remove(&index).is_some() {
                            durable.done.push(index);
                        }
                    }
                    Settlement::Nak => {
                        if let Some((_, again)) = durable.pending.get_mut(&index) {
                            *again = true;
                        }
                    }
                    Settlement::Working => {}
                }
            }
            StoreOrder::Close { id } => self.readers.retain(|reader| (reader.server, reader.id) != (server, id)),
        }
        self.serve();
    }

    fn open(&mut self, now: Instant, server: usize, id: u32, pattern: &str, start: Start, durable: Option<Box<str>>) {
        self.opened += 1;
        let refused = match (self.stream, &durable) {
            (None, _) => Some(Refusal::NoStream),
            (Some(stream), _) if !matches(stream, pattern) => Some(Refusal::NoStream),
            (_, Some(name)) => {
                let known = self.durables.get(&**name);
                known.filter(|known| known.pattern != pattern).map(|_| Refusal::DurableInUse)
            }
            _ => None,
        };
        if let Some(refusal) = refused {
            return self.said.push_back((server, Said::Refused(id, refusal)));
        }
        let count = self.messages.len();
        let (next, last_until) = match start {
            Start::All => (0, 0),
            Start::From(sequence) => (sequence.saturating_sub(1) as usize, 0),
            Start::Since(span) => {
                let old = |(_, _, at): &&(String, String, Instant)| *at + span < now;
                (self.messages.iter().take_while(old).count(), 0)
            }
            Start::Last => (0, count),
            Start::New => (count, 0),
            Start::Other(kind) => panic!("kind {kind}"),
        };
        if let Some(name) = &durable {
            let fresh = || Durable { pattern: pattern.into(), next, ..Durable::default() };
            self.durables.entry(name.to_string()).or_insert_with(fresh);
        }
        let durable = durable.map(|name| name.to_string());
        let (pattern, place, wanted, bytes) = (pattern.into(), 0, 0, None);
        self.readers.push(Reader { server, id, pattern, next, last_until, place, durable, wanted, bytes });
        self.said.push_back((server, Said::Opened(id, next as u64 + 1)));
    }

    /// The index of the next message for a reader, and how often it has been handed out with this.
    fn next(&mut self, reader: usize) -> Option<(usize, u32)> {
        let Self { messages, readers, durables, .. } = self;
        let reader = &mut readers[reader];
        if let Some(name) = &reader.durable {
            let durable = durables.get_mut(name).unwrap();
            if let Some((index, (count, again))) = durable.pending.iter_mut().find(|(_, (_, again))| *again) {
                (*count, *again) = (*count + 1, false);
                return Some((*index, *count));
            }
            while durable.next < messages.len() {
                durable.next += 1;
                if matches(&reader.pattern, &messages[durable.next - 1].0) {
                    durable.pending.insert(durable.next - 1, (1, false));
                    return Some((durable.next - 1, 1));
                }
            }
            return None;
        }
        while reader.next < messages.len() {
            let index = reader.next;
            let subject = &messages[index].0;
            let is_superseded = index < reader.last_until
                && messages[index + 1..reader.last_until].iter().any(|(other, ..)| other == subject);
            if matches(&reader.pattern, subject) && !is_superseded {
                reader.next += 1;
                return Some((index, 1));
            }
            reader.next += 1;
        }
        None
    }

    /// Hands out what is wanted and there.
    fn serve(&mut self) {
        for index in 0..self.readers.len() {
            while self.readers[index].wanted > 0 {
                let before = self.readers[index].next;
                let Some((message, deliveries)) = self.next(index) else { break };
                let len = self.messages[message].1.len() as u32;
                let pattern = self.readers[index].pattern.clone();
                let after = self.messages[message + 1..].iter();
                let pending = after.filter(|(subject, ..)| matches(&pattern, subject)).count() as u64;
                let reader = &mut self.readers[index];
                if let Some(bytes) = &mut reader.bytes {
                    if len > *bytes {
                        assert!(reader.durable.is_none(), "not needed so far");
                        (reader.next, reader.wanted) = (before, 0);
                        self.said.push_back((reader.server, Said::Ended(reader.id, true)));
                        break;
                    }
                    *bytes -= len;
                }
                reader.wanted -= 1;
                reader.place += 1;
                self.handed_out += 1;
                let handle = reader.durable.as_ref().map(|name| alloc::format!("{name} {message}"));
                let (id, place) = (reader.id, reader.place);
                if self.loses.is_none_or(|every| !self.handed_out.is_multiple_of(every)) {
                    let said = Said::Message { id, index: message, place, deliveries, pending, handle };
                    self.said.push_back((reader.server, said));
                }
            }
        }
    }

    /// Lets those who wait for longer know that there was nothing.
    pub(super) fn expire_pulls(&mut self) {
        for reader in self.readers.iter_mut().filter(|reader| reader.wanted > 0) {
            reader.wanted = 0;
            self.said.push_back((reader.server, Said::Ended(reader.id, false)));
        }
    }

    /// Tells a gateway what there is for it. False if there is nothing.
    pub(super) fn tell(&mut self, now: Instant, server: usize, gateway: &mut Gateway) -> bool {
        let mut any = false;
        while let Some(place) = self.said.iter().position(|(to, _)| *to == server) {
            any = true;
            let (_, said) = self.said.remove(place).unwrap();
            let event = match &said {
                Said::Opened(id, first) => StoreEvent::Opened { id: *id, first: *first, pending: 0 },
                Said::Refused(id, why) => StoreEvent::Refused { id: *id, why: *why, text: "as it is" },
                Said::Ended(id, too_large) => StoreEvent::Ended { id: *id, too_large: *too_large },
                Said::Message { id, index, place, deliveries, pending, handle } => {
                    let (subject, text, at) = &self.messages[*index];
                    StoreEvent::Message(StoredMessage {
                        id: *id,
                        subject,
                        headers: &[("Unit", "K"), ("Kcpq-Ttl-Ms", "1")],
                        payload: text.as_bytes(),
                        sequence: *index as u64 + 1,
                        place: *place,
                        deliveries: *deliveries,
                        stored_at: at.since(Instant::ZERO).as_millis(),
                        age: now.since(*at),
                        pending: *pending,
                        handle: handle.as_deref(),
                    })
                }
            };
            gateway.handle_store(now, event);
        }
        any
    }
}

/// More than the gateway waits before it opens something again.
pub(super) const MOMENT: Duration = Duration::from_secs(2);
