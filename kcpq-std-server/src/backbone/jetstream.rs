//! The store behind the backbone: JetStream, spoken in JSON to subjects that begin with `$JS.`
//! (<https://docs.nats.io/reference/reference-protocols/nats_api_reference>). No socket here: what there is to say is
//! [taken](JetStream::take_said), and what comes for it is [handed in](JetStream::handle).
//!
//! Each reader of the gateway is a pull consumer: an ephemeral one that acknowledges nothing, or the durable one of a name.
//! What it pulls comes to an inbox of its own, whose subscription ends with it, so that nothing more is sent there.

mod answer;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use kcpq_core::Instant;
use kcpq_core::broker::gateway::{Gateway, StoreEvent, StoreOrder, StoredMessage};
use kcpq_core::hello::Refusal;
use kcpq_core::replay::{Settlement, Start};
use serde_json::{Value, json};

use self::answer::{Answer, NO_CONSUMER, Place, refusal, stream};
use super::wire::{self, Headers};
use crate::view::StreamView;

/// Numbers of its subscriptions: this one for answers, and behind it those of readers. The gateway's own are lower.
const ANSWERS: u64 = 1 << 63;
/// How long the server keeps a consumer that nobody asks for anything: one whose reader is slow, or whose server is gone.
const KEPT_FOR: Duration = Duration::from_secs(300);
/// How long it waits for messages before it says that there were none, and how often it says meanwhile that it waits.
const PULL_WAITS: Duration = Duration::from_secs(30);
const BEATS: Duration = Duration::from_secs(3);

/// See above.
#[derive(Debug)]
pub(super) struct JetStream {
    /// What its inboxes begin with.
    inbox: String,
    /// It listens for answers.
    listens: bool,
    readers: HashMap<u32, Reader>,
    /// Questions that are not answered, by number.
    asked: HashMap<u64, Question>,
    /// Those about all streams.
    listings: HashMap<u64, Listing>,
    last_question: u64,
    said: Vec<u8>,
}

/// Somebody who reads.
#[derive(Debug)]
struct Reader {
    pattern: Box<str>,
    start: Start,
    durable: Option<Box<str>>,
    /// The stream and the consumer, once they are known.
    stream: String,
    consumer: String,
    /// How often it has asked for messages, and how many bytes may still come of what it has asked for last, if there is a
    /// bound.
    pulls: u64,
    left: Option<usize>,
    /// Nobody reads any more; but what was under way then is to go back.
    is_closing: bool,
}

/// What a reader waits to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Which streams have the messages.
    Find,
    /// What the consumer of its name is like.
    Inspect,
    /// That there is a consumer.
    Create,
    /// Anything: all that was under way has come before.
    Close,
}

#[derive(Debug)]
struct Question {
    reader: u32,
    step: Step,
}

/// Somebody wants to know which streams there are.
#[derive(Debug)]
struct Listing {
    found: Vec<StreamView>,
    reply: Sender<Result<Vec<StreamView>, String>>,
}

impl Listing {
    fn end(self, found: Result<(), String>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(found.map(|()| self.found));
    }
}

/// A message as NATS has sent it.
pub(super) struct Sent<'m> {
    pub(super) sid: u64,
    pub(super) subject: &'m str,
    pub(super) reply: Option<&'m str>,
    pub(super) headers: &'m Headers<'m>,
    pub(super) payload: &'m [u8],
}

impl JetStream {
    /// `id` tells it from all others at the backbone: random.
    pub(super) fn new(id: u64) -> Self {
        Self {
            inbox: format!("_INBOX.kcpq{id:016x}s"),
            listens: false,
            readers: HashMap::new(),
            asked: HashMap::new(),
            listings: HashMap::new(),
            last_question: 0,
            said: Vec::new(),
        }
    }

    /// The connection is another one, which knows nothing of what was before.
    pub(super) fn reset(&mut self) {
        self.listens = false;
        self.readers.clear();
        self.asked.clear();
        for listing in self.listings.drain().map(|(_, listing)| listing) {
            listing.end(Err("the backbone was lost".into()));
        }
        self.said.clear();
    }

    /// What is to be said to NATS.
    pub(super) fn take_said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }

    /// True if a subscription of this number is one of these.
    pub(super) fn has(sid: u64) -> bool {
        sid >= ANSWERS
    }

    // --- out ---

    /// Does what the gateway wants.
    pub(super) fn order(&mut self, order: StoreOrder) {
        match order {
            StoreOrder::Open { id, pattern, start, durable } => {
                let question = json!({ "subject": &*pattern });
                let (stream, consumer) = (String::new(), String::new());
                let reader =
                    Reader { pattern, start, durable, stream, consumer, pulls: 0, left: None, is_closing: false };
                self.readers.insert(id, reader);
                self.ask(id, Step::Find, "STREAM.NAMES", &question);
            }
            StoreOrder::Pull { id, count, bytes } => self.pull(id, count, bytes),
            StoreOrder::Settle { handle, settlement } => {
                let word: &[u8] = match settlement {
                    Settlement::Ack => b"+ACK",
                    Settlement::Nak => b"-NAK",
                    Settlement::Term => b"+TERM",
                    Settlement::Working => b"+WPI",
                };
                wire::say(&mut self.said, &handle, None, word);
            }
            StoreOrder::Close { id } => self.close(id),
        }
    }

    /// Says which streams there are, once the store has said it.
    pub(super) fn list(&mut self, reply: Sender<Result<Vec<StreamView>, String>>) {
        self.list_on(Listing { found: Vec::new(), reply });
    }

    /// The store lists some at a time.
    fn list_on(&mut self, listing: Listing) {
        let number = self.say_question("STREAM.LIST", &json!({ "offset": listing.found.len() }));
        self.listings.insert(number, listing);
    }

    fn ask(&mut self, reader: u32, step: Step, what: &str, question: &Value) {
        let number = self.say_question(what, question);
        self.asked.insert(number, Question { reader, step });
    }

    /// Asks something, and says under which number that is answered.
    fn say_question(&mut self, what: &str, question: &Value) -> u64 {
        if !std::mem::replace(&mut self.listens, true) {
            wire::subscribe(&mut self.said, ANSWERS, &format!("{}.api.*", self.inbox), None);
        }
        self.last_question += 1;
        let reply = format!("{}.api.{}", self.inbox, self.last_question);
        let body = if question.is_null() { String::new() } else { question.to_string() };
        wire::say(&mut self.said, &format!("$JS.API.{what}"), Some(&reply), body.as_bytes());
        self.last_question
    }

    fn pull(&mut self, id: u32, count: u32, bytes: Option<u32>) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        reader.pulls += 1;
        reader.left = bytes.map(|bytes| bytes as usize);
        let mut wanted = json!({
            "batch": count,
            "expires": nanoseconds(PULL_WAITS),
            "idle_heartbeat": nanoseconds(BEATS),
        });
        if let Some(bytes) = bytes {
            wanted["max_bytes"] = json!(bytes);
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", reader.stream, reader.consumer);
        let reply = format!("{}.{id}.{}", self.inbox, reader.pulls);
        wire::say(&mut self.said, &subject, Some(&reply), wanted.to_string().as_bytes());
    }

    fn close(&mut self, id: u32) {
        let Some(reader) = self.readers.get_mut(&id) else { return };
        if reader.consumer.is_empty() {
            // What it waits for is seen to when that comes.
            self.readers.remove(&id);
            return;
        }
        wire::unsubscribe(&mut self.said, ANSWERS | u64::from(id));
        let (stream, consumer) = (reader.stream.clone(), reader.consumer.clone());
        if reader.durable.is_some() {
            reader.is_closing = true;
            self.ask(id, Step::Close, &format!("CONSUMER.INFO.{stream}.{consumer}"), &Value::Null);
        } else {
            self.readers.remove(&id);
            self.delete(&stream, &consumer);
        }
    }

    /// What is not deleted goes by itself.
    fn delete(&mut self, stream: &str, consumer: &str) {
        wire::say(&mut self.said, &format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}"), None, b"");
    }

    // --- in ---

    /// Takes in what has come by a subscription of [these](Self::has), and tells the gateway.
    pub(super) fn handle(&mut self, now: Instant, sent: &Sent<'_>, gateway: &mut Gateway) {
        if sent.sid == ANSWERS {
            let number = sent.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let Some(number): Option<u64> = number else { return };
            if let Some(Question { reader, step }) = self.asked.remove(&number) {
                self.answered(now, reader, step, sent, gateway);
            } else if let Some(listing) = self.listings.remove(&number) {
                self.listed(listing, sent);
            }
            return;
        }
        let id = sent.sid as u32;
        let Some(reader) = self.readers.get_mut(&id) else { return };
        match sent.headers.status {
            Some(status) => {
                // Of an earlier pull it says nothing of this one.
                let is_current = sent.subject.rsplit('.').next() == Some(&*reader.pulls.to_string());
                let reason = sent.headers.reason;
                let event = match status {
                    100 => StoreEvent::Alive { id },
                    404 | 408 => StoreEvent::Ended { id, too_large: false },
                    409 if reason.contains("MaxBytes") && !reason.contains("Request") => {
                        StoreEvent::Ended { id, too_large: true }
                    }
                    _ => {
                        tracing::debug!(id, status, reason, "a reader of JetStream is lost: it is made anew");
                        StoreEvent::Lost { id }
                    }
                };
                if is_current && !reader.is_closing {
                    gateway.handle_store(now, event);
                }
            }
            None => {
                let Some(place) = sent.reply.and_then(Place::read) else { return };
                let Place { deliveries, sequence, place, stored_at, pending } = place;
                let handle = sent.reply.filter(|_| reader.durable.is_some());
                // As the server counts. When nothing is left to the byte it says no word of that (2.9).
                let size = sent.subject.len() + sent.reply.map_or(0, str::len) + sent.headers.size + sent.payload.len();
                let is_over = reader.left.as_mut().is_some_and(|left| {
                    *left = left.saturating_sub(size);
                    *left == 0
                });
                let stored = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(stored_at));
                // What was stored in the future, by a clock that is not ours, is new.
                let age = stored.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
                gateway.handle_store(
                    now,
                    StoreEvent::Message(StoredMessage {
                        id,
                        subject: sent.subject,
                        headers: &sent.headers.all,
                        payload: sent.payload,
                        sequence,
                        place,
                        deliveries,
                        stored_at,
                        age: age.into(),
                        pending,
                        handle,
                    }),
                );
                if is_over {
                    gateway.handle_store(now, StoreEvent::Ended { id, too_large: false });
                }
            }
        }
    }

    /// More streams are known.
    fn listed(&mut self, mut listing: Listing, sent: &Sent<'_>) {
        let answer = match Answer::read(sent) {
            Answer::Done(answer) => answer,
            Answer::Error { text, .. } => return listing.end(Err(text)),
        };
        let streams = answer["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
        listing.found.extend(streams.iter().map(stream));
        let goes_on =
            !streams.is_empty() && answer["total"].as_u64().is_some_and(|all| all > listing.found.len() as u64);
        if goes_on && listing.found.len() < MAX_STREAMS { self.list_on(listing) } else { listing.end(Ok(())) }
    }

    /// A question has been answered.
    fn answered(&mut self, now: Instant, id: u32, step: Step, sent: &Sent<'_>, gateway: &mut Gateway) {
        let answer = Answer::read(sent);
        if step == Step::Close {
            self.readers.remove(&id);
            return;
        }
        if !self.readers.contains_key(&id) {
            // Nobody reads any more; what was made for it meanwhile goes.
            if let (Step::Create, Answer::Done(answer)) = (step, &answer)
                && answer["config"]["durable_name"].is_null()
                && let (Some(stream), Some(name)) = (answer["stream_name"].as_str(), answer["name"].as_str())
            {
                self.delete(stream, name);
            }
            return;
        }
        let done = match (step, answer) {
            (Step::Find, Answer::Done(answer)) => self.found(id, &answer),
            (Step::Inspect, Answer::Done(answer)) => self.inspected(id, &answer),
            (Step::Inspect, Answer::Error { number: NO_CONSUMER, .. }) => {
                self.create(id);
                Ok(None)
            }
            (Step::Create | Step::Close, Answer::Done(answer)) => self.created(id, &answer),
            (_, Answer::Error { code, number, text }) => Err((refusal(code, number), text)),
        };
        match done {
            Ok(None) => {}
            Ok(Some((first, pending))) => {
                wire::subscribe(&mut self.said, ANSWERS | u64::from(id), &format!("{}.{id}.*", self.inbox), None);
                gateway.handle_store(now, StoreEvent::Opened { id, first, pending });
            }
            Err((why, text)) => {
                self.readers.remove(&id);
                tracing::debug!(id, text, "JetStream has nothing for a reader");
                gateway.handle_store(now, StoreEvent::Refused { id, why, text: &text });
            }
        }
    }

    /// These streams have messages of its pattern.
    fn found(&mut self, id: u32, answer: &Value) -> Stepped {
        let Some(reader) = self.readers.get_mut(&id) else { return Ok(None) };
        let streams: Vec<&str> = answer["streams"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match streams[..] {
            [] => return Err((Refusal::NoStream, format!("no stream stores messages of '{}'", reader.pattern))),
            [stream] => reader.stream = stream.to_owned(),
            _ => {
                let mut text = format!("several streams store messages of '{}', and one is needed:", reader.pattern);
                for stream in streams.iter().take(8) {
                    let _ = write!(text, " {stream}");
                }
                return Err((Refusal::NoStream, text));
            }
        }
        match &reader.durable {
            Some(name) => {
                let subject = format!("CONSUMER.INFO.{}.{name}", reader.stream);
                self.ask(id, Step::Inspect, &subject, &Value::Null);
            }
            None => self.create(id),
        }
        Ok(None)
    }

    /// The consumer of its name is like this.
    fn inspected(&mut self, id: u32, answer: &Value) -> Stepped {
        let Some(reader) = self.readers.get_mut(&id) else { return Ok(None) };
        let (config, name) = (&answer["config"], reader.durable.as_deref().unwrap_or_default());
        let filter = config["filter_subject"].as_str().unwrap_or_default();
        let other = if filter != &*reader.pattern {
            Some(format!("the durable consumer '{name}' is for '{filter}', not for '{}'", reader.pattern))
        } else if config["deliver_subject"].is_string() {
            Some(format!("the durable consumer '{name}' pushes messages, and one that is asked for them is needed"))
        } else if config["ack_policy"] != "explicit" {
            Some(format!("the durable consumer '{name}' does not want each message to be acknowledged by itself"))
        } else {
            None
        };
        if let Some(text) = other {
            return Err((Refusal::DurableInUse, text));
        }
        reader.consumer = name.to_owned();
        Ok(Some((0, pending(answer))))
    }

    fn create(&mut self, id: u32) {
        let Some(reader) = self.readers.get(&id) else { return };
        let mut config = json!({ "filter_subject": &*reader.pattern, "replay_policy": "instant" });
        match reader.start {
            Start::From(sequence) => {
                config["deliver_policy"] = json!("by_start_sequence");
                config["opt_start_seq"] = json!(sequence.max(1));
            }
            Start::Since(span) => {
                let at = SystemTime::now().checked_sub(span.into()).unwrap_or(SystemTime::UNIX_EPOCH);
                config["deliver_policy"] = json!("by_start_time");
                config["opt_start_time"] = json!(humantime::format_rfc3339_millis(at).to_string());
            }
            Start::Last => config["deliver_policy"] = json!("last_per_subject"),
            Start::New => config["deliver_policy"] = json!("new"),
            _ => config["deliver_policy"] = json!("all"),
        }
        let subject = match &reader.durable {
            Some(name) => {
                config["durable_name"] = json!(&**name);
                config["ack_policy"] = json!("explicit");
                format!("CONSUMER.DURABLE.CREATE.{}.{name}", reader.stream)
            }
            None => {
                config["ack_policy"] = json!("none");
                config["inactive_threshold"] = json!(nanoseconds(KEPT_FOR));
                config["mem_storage"] = json!(true);
                format!("CONSUMER.CREATE.{}", reader.stream)
            }
        };
        let question = json!({ "stream_name": reader.stream, "config": config });
        self.ask(id, Step::Create, &subject, &question);
    }

    fn created(&mut self, id: u32, answer: &Value) -> Stepped {
        let Some(reader) = self.readers.get_mut(&id) else { return Ok(None) };
        let Some(name) = answer["name"].as_str() else {
            return Err((Refusal::StoreRefused, "JetStream has not named the consumer".into()));
        };
        reader.consumer = name.to_owned();
        // The sequence of the last message that it takes to be handed out.
        let before = answer["delivered"]["stream_seq"].as_u64().filter(|_| reader.durable.is_none());
        Ok(Some((before.map_or(0, |before| before + 1), pending(answer))))
    }
}

/// What comes of a step: the reader begins with a message of this sequence, and so many are stored for it; or it waits for the next
/// step; or why it does not begin.
type Stepped = Result<Option<(u64, u64)>, (Refusal, String)>;

/// How many messages are stored for a consumer; as many as there can be if it does not say that.
fn pending(consumer: &Value) -> u64 {
    consumer["num_pending"].as_u64().unwrap_or(u64::MAX)
}

/// Streams that are listed at most.
const MAX_STREAMS: usize = 10_000;

fn nanoseconds(span: Duration) -> u64 {
    span.as_nanos() as u64
}
