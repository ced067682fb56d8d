//! Last values in a bucket: what a gateway puts there, what it takes from there, and which of two is the newer one.

use super::*;
use crate::broker::message::Message;
use crate::broker::shards::Told;

/// A gateway that is driven by hand, of a server with one broker.
struct Edge {
    gateway: Gateway,
    now: Instant,
    /// The number of its reader, and how many messages that was handed.
    reader: u32,
    place: u64,
    stamp: u64,
}

/// What was put: its subject, the headers by name, the text, and where the store answers.
#[derive(Debug)]
struct Put {
    subject: String,
    headers: Vec<(String, String)>,
    text: String,
    reply: String,
}

impl Put {
    fn of(message: &Publish<'_>) -> Self {
        let mut headers = Vec::new();
        message.headers(|name, value| headers.push((name.to_string(), value.to_string())));
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        Self { subject: message.subject.into(), headers, text, reply: message.reply.unwrap().into() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(other, value)| (other == name).then_some(&**value))
    }
}

impl Edge {
    fn new(id: u64, prefix: &str) -> Self {
        Self::with(Config { id, prefix: prefix.into(), ..Config::default() })
    }

    fn with(config: Config) -> Self {
        let config = Config { values: "$KV.LAST".into(), ..config };
        let now = Instant::from_millis(10_000);
        let mut edge = Self { gateway: Gateway::new(config, 1, 7).unwrap(), now, reader: 0, place: 0, stamp: 0 };
        edge.told();
        edge
    }

    /// The backbone is there, and the bucket with so many messages.
    fn open(&mut self, pending: u64) {
        self.gateway.on_connected(self.now, 1_000_000);
        self.answer(pending);
    }

    /// The store opens the bucket.
    fn answer(&mut self, pending: u64) {
        let order = self.gateway.poll_store();
        let Some(StoreOrder::Open { id, start: crate::replay::Start::Last, durable: None, .. }) = order else {
            panic!("{order:?}");
        };
        (self.reader, self.place) = (id, 0);
        self.gateway.handle_store(self.now, StoreEvent::Opened { id, first: 1, pending });
        self.turn();
    }

    /// What a driver does when others have spoken.
    fn turn(&mut self) {
        self.gateway.handle_timeout(self.now);
        while let Some(on) = self.gateway.poll_order(self.now).map(|order| order.on()) {
            self.gateway.on_pong(self.now, on);
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now += span;
        self.turn();
    }

    /// A session keeps a value, or takes it away.
    fn change(&mut self, subject: &str, text: &str) {
        self.change_with(subject, text, &[]);
    }

    fn change_with(&mut self, subject: &str, text: &str, headers: &[(&str, &str)]) {
        self.stamp = self.stamp.max(self.now.as_micros()) + 1;
        let mut buf = PropertiesBuf::new();
        headers.iter().for_each(|(name, value)| buf.header(name, value).unwrap());
        let frame =
            inbound::frame(subject, text.as_bytes(), buf.properties().as_bytes(), None, false).unwrap().freeze();
        let frame = Message::kept(&frame, None, usize::MAX).stamped(self.stamp, true);
        let frame = frame.filter(|_| !text.is_empty());
        let (subject, stamp, age) = (subject.into(), self.stamp, Duration::ZERO);
        self.gateway.handle_relay(self.now, 0, Relay(Told::Value { subject, stamp, frame, expires: None, age }));
    }

    fn put(&mut self) -> Vec<Put> {
        let mut all = Vec::new();
        while self.gateway.poll_publish(self.now, |message| all.push(Put::of(&message))) {}
        all
    }

    /// What goes by the connection to the store alone.
    fn put_aside(&mut self) -> Vec<Put> {
        let mut all = Vec::new();
        while self.gateway.poll_put(self.now, |message| all.push(Put::of(&message))) {}
        all
    }

    /// The one that was put.
    fn put_one(&mut self) -> Put {
        let mut all = self.put();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn stored(&mut self, put: &Put, sequence: u64) {
        let stored = crate::puback::Stored { sequence, duplicate: false };
        self.gateway.handle_receipt(self.now, &put.reply, Receipt::Stored(stored));
    }

    /// The bucket tells of a key, which so many others follow.
    fn hear(&mut self, sequence: u64, key: &str, text: &str, headers: &[(&str, &str)], pending: u64) {
        self.hear_old(sequence, key, text, headers, pending, Duration::ZERO);
    }

    fn hear_old(
        &mut self,
        sequence: u64,
        key: &str,
        text: &str,
        headers: &[(&str, &str)],
        pending: u64,
        age: Duration,
    ) {
        self.place += 1;
        let subject = alloc::format!("$KV.LAST.{key}");
        let message = StoredMessage {
            id: self.reader,
            subject: &subject,
            headers,
            payload: text.as_bytes(),
            sequence,
            place: self.place,
            deliveries: 1,
            stored_at: 0,
            age,
            pending,
            handle: None,
        };
        self.gateway.handle_store(self.now, StoreEvent::Message(message));
        self.turn();
    }

    /// What the broker is told of values, as `SUBJECT=TEXT`, and what its sessions get as messages, with `!` before it.
    fn told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        let show = |frame: &[u8]| {
            let parsed = frame::Frame::parse(frame, &frame::Limits::NONE).unwrap();
            let (text, properties) = parsed.message().unwrap();
            (String::from_utf8_lossy(text).into_owned(), properties.stamp())
        };
        while let Some((0, Relay(told))) = self.gateway.poll_relay() {
            match told {
                Told::Value { subject, stamp, frame, .. } => {
                    assert!(stamp > self.stamp, "it is later than what the broker has told");
                    let text = frame.map_or(String::new(), |frame| {
                        let (text, stamped) = show(&frame);
                        assert_eq!(stamped, Some((stamp, true)));
                        text
                    });
                    all.push(alloc::format!("{subject}={text}"));
                }
                Told::Messages { frames, .. } => {
                    let (text, stamped) = show(&frames);
                    assert_eq!(stamped, None);
                    all.push(alloc::format!("!{text}"));
                }
                _ => {}
            }
        }
        all
    }

    fn stats(&self) -> Stats {
        self.gateway.stats()
    }
}

#[test]
fn what_the_bucket_has_is_read_before_anything_is_put() {
    let mut edge = Edge::new(1, "");
    edge.change("lamp", "on");
    edge.open(2);
    assert!(edge.put().is_empty() && edge.stats().values_read == 0);
    edge.hear(4, "door", "open", &[("Kcpq-Edge", "other"), ("Unit", "K")], 1);
    assert_eq!(edge.stats().values_read, 0);
    edge.hear(9, "=E6=B8=A9", "7", &[], 0);
    assert_eq!(edge.told(), ["door=open", "温=7"]);
    assert_eq!((edge.stats().values_read, edge.stats().values_waiting), (1, 1));
    let put = edge.put_one();
    assert_eq!((&*put.subject, &*put.text), ("$KV.LAST.lamp", "on"));
    assert_eq!(put.header("Kcpq-Edge"), Some("kcpq0000000000000001"));
    edge.stored(&put, 10);
    assert_eq!(edge.stats().values_waiting, 0);
    // It comes back, and is no news.
    edge.hear(10, "lamp", "on", &[("Kcpq-Edge", "kcpq0000000000000001")], 0);
    assert!(edge.told().is_empty() && edge.put().is_empty());
}

#[test]
fn one_that_is_taken_away_is_deleted_and_a_key_that_is_deleted_is_none() {
    let mut edge = Edge::new(1, "site.7");
    edge.open(0);
    edge.change("a.ä", "1");
    let put = edge.put_one();
    assert_eq!(put.subject, "$KV.LAST.site.7.a.=C3=A4");
    edge.stored(&put, 1);
    edge.change("a.ä", "");
    let put = edge.put_one();
    assert_eq!((put.header("KV-Operation"), &*put.text), (Some("DEL"), ""));
    edge.stored(&put, 2);
    edge.hear(3, "site.7.b", "1", &[], 0);
    for (sequence, operation) in [(4, "DEL"), (5, "PURGE")] {
        edge.hear(sequence, "site.7.b", "", &[("KV-Operation", operation)], 0);
    }
    edge.hear(6, "site.7.b", "", &[], 0);
    assert_eq!(edge.told(), ["b=1", "b=", "b=", "b="]);
    // Of other sites, or none at all.
    edge.hear(7, "site.8.b", "1", &[], 0);
    edge.hear(8, "site.7.b=", "1", &[], 0);
    assert!(edge.told().is_empty());
    assert_eq!(edge.stats().values_unmapped, 1);
}

#[test]
fn of_two_that_change_a_value_at_a_time_the_later_one_in_the_bucket_counts() {
    // The other one is before, and is heard before or after the store's word.
    for first in [true, false] {
        let mut edge = Edge::new(1, "");
        edge.open(0);
        edge.change("a", "ours");
        let put = edge.put_one();
        if first {
            edge.hear(1, "a", "theirs", &[("Kcpq-Edge", "x")], 0);
            edge.stored(&put, 2);
        } else {
            edge.stored(&put, 2);
            edge.hear(1, "a", "theirs", &[("Kcpq-Edge", "x")], 0);
        }
        assert!(edge.told().is_empty(), "ours is the last one");
        edge.hear(2, "a", "ours", &[("Kcpq-Edge", "kcpq0000000000000001")], 0);
        edge.hear(3, "a", "theirs again", &[("Kcpq-Edge", "x")], 0);
        assert_eq!(edge.told(), ["a=theirs again"]);
    }
    // The other one is behind.
    for first in [true, false] {
        let mut edge = Edge::new(1, "");
        edge.open(0);
        edge.change("a", "ours");
        let put = edge.put_one();
        if first {
            edge.hear(2, "a", "theirs", &[("Kcpq-Edge", "x")], 0);
            assert!(edge.told().is_empty(), "it is not known yet");
            edge.stored(&put, 1);
        } else {
            edge.stored(&put, 1);
            edge.hear(2, "a", "theirs", &[("Kcpq-Edge", "x")], 0);
        }
        assert_eq!(edge.told(), ["a=theirs"]);
    }
    // One that changes again meanwhile goes behind all of them.
    let mut edge = Edge::new(1, "");
    edge.open(0);
    edge.change("a", "first");
    let put = edge.put_one();
    edge.change("a", "second");
    edge.change("a", "third");
    assert!(edge.put().is_empty(), "one at a time");
    edge.hear(2, "a", "theirs", &[("Kcpq-Edge", "x")], 0);
    edge.stored(&put, 1);
    assert!(edge.told().is_empty());
    let put = edge.put_one();
    assert_eq!(put.text, "third");
    edge.stored(&put, 3);
    assert_eq!(edge.stats().values_out, 2);
}

#[test]
fn what_was_changed_while_the_backbone_was_away_counts_if_it_is_newer() {
    let mut edge = Edge::new(1, "");
    edge.open(0);
    edge.hear(1, "a", "0", &[("Kcpq-Edge", "x")], 0);
    assert_eq!(edge.told(), ["a=0"]);
    edge.change("d", "1");
    let put = edge.put_one();
    edge.gateway.on_disconnected(edge.now);
    for subject in ["a", "b", "c"] {
        edge.change(subject, "old");
    }
    edge.wait(Duration::from_secs(10));
    edge.change("c", "new");
    edge.wait(Duration::from_secs(2));
    edge.told();
    edge.gateway.on_connected(edge.now, 1_000_000);
    edge.answer(4);
    // Stored 5 s ago: after the first changes, and before the second one; it was published 20 s before that; it has no other.
    edge.hear_old(2, "a", "theirs", &[("Kcpq-Edge", "x")], 3, Duration::from_secs(5));
    edge.hear_old(3, "c", "theirs", &[("Kcpq-Edge", "x")], 2, Duration::from_secs(5));
    let late = [("Kcpq-Edge", "x"), ("Kcpq-Age-Ms", "20000")];
    edge.hear_old(4, "b", "theirs", &late, 1, Duration::from_secs(5));
    let own = [("Kcpq-Edge", "kcpq0000000000000001")];
    edge.hear_old(5, "d", "1", &own, 0, Duration::from_secs(11));
    assert_eq!(edge.told(), ["a=theirs"]);
    assert_eq!((edge.stats().values_overtaken, edge.stats().values_waiting), (1, 3));
    let mut all = edge.put();
    all.sort_by(|a, b| a.subject.cmp(&b.subject));
    let shown: Vec<_> = all.iter().map(|put| (&*put.text, put.header("Kcpq-Age-Ms"))).collect();
    // The last one is there, but it is not known whether that is what was under way.
    assert_eq!(shown, [("old", Some("12000")), ("new", Some("2000")), ("1", Some("12000"))]);
    // What was under way when it was lost is not waited for any more.
    edge.stored(&put, 9);
    assert_eq!(edge.stats().values_waiting, 3);
}

#[test]
fn subscribers_are_given_what_they_would_not_have_got_otherwise() {
    let mut edge = Edge::new(1, "");
    edge.gateway.handle_relay(edge.now, 0, Relay(Told::Interest { pattern: ">".into(), wanted: true }));
    edge.open(1);
    // There was nobody to publish it to before.
    edge.hear(1, "a", "1", &[("Kcpq-Edge", "x")], 0);
    assert_eq!(edge.told(), ["a=1", "!1"]);
    // What another gateway puts there it has published as well, and others have not.
    edge.hear(2, "a", "2", &[("Kcpq-Edge", "x")], 0);
    edge.hear(3, "a", "3", &[], 0);
    edge.hear(4, "a", "", &[("KV-Operation", "DEL")], 0);
    assert_eq!(edge.told(), ["a=2", "a=3", "!3", "a="]);
    edge.gateway.on_disconnected(edge.now);
    edge.gateway.on_connected(edge.now, 1_000_000);
    edge.answer(2);
    edge.hear(3, "b", "3", &[("Kcpq-Edge", "x")], 1);
    edge.hear(5, "c", "5", &[("Kcpq-Edge", "x")], 0);
    assert_eq!(edge.told(), ["b=3", "c=5", "!5"], "what it had told before is no news");
}

#[test]
fn what_no_word_comes_of_is_put_again_and_what_is_refused_is_counted() {
    let mut edge = Edge::new(1, "");
    edge.open(0);
    edge.change("a", "1");
    edge.put_one();
    edge.wait(Duration::from_secs(4));
    assert!(edge.put().is_empty());
    edge.wait(Duration::from_secs(1));
    let put = edge.put_one();
    assert_eq!((edge.stats().values_repeats, &*put.text), (1, "1"));
    // Nobody is there for it, or not now: a moment later.
    let mut put = put;
    for receipt in [Receipt::Nobody, Receipt::Refused { why: "no leader", for_now: true }] {
        edge.gateway.handle_store(edge.now, StoreEvent::Alive { id: edge.reader });
        edge.gateway.handle_receipt(edge.now, &put.reply, receipt);
        assert!(edge.put().is_empty());
        edge.wait(Duration::from_secs(1));
        put = edge.put_one();
    }
    edge.gateway.handle_receipt(edge.now, &put.reply, Receipt::Refused { why: "too large", for_now: false });
    assert_eq!((edge.stats().values_refused, edge.stats().values_waiting), (1, 0));
    assert!(edge.gateway.values_trouble().is_some_and(|why| why.contains("too large")));
    // A publisher has nothing to say to the store.
    let headers =
        [("Nats-Rollup", "all"), ("nats-msg-id", "1"), ("kv-operation", "DEL"), ("Kcpq-Edge", "x"), ("Unit", "K")];
    edge.change_with("b", "1", &headers);
    let put = edge.put_one();
    let names: Vec<_> = put.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["Unit", "Kcpq-Edge"]);
    assert_eq!(put.header("Kcpq-Edge"), Some("kcpq0000000000000001"));
}

#[test]
fn a_bucket_that_is_not_there_or_misses_something_is_opened_again() {
    let mut edge = Edge::new(1, "");
    edge.gateway.on_connected(edge.now, 1_000_000);
    let Some(StoreOrder::Open { id, pattern, .. }) = edge.gateway.poll_store() else { panic!("no order") };
    assert_eq!(&*pattern, "$KV.LAST.>");
    let refused = StoreEvent::Refused { id, why: crate::hello::Refusal::NoStream, text: "no stream stores it" };
    edge.gateway.handle_store(edge.now, refused);
    assert_eq!(edge.gateway.values_trouble(), Some("no stream stores it"));
    edge.change("a", "1");
    edge.wait(Duration::from_millis(500));
    assert!(edge.gateway.poll_store().is_none() && edge.put().is_empty());
    edge.wait(Duration::from_millis(500));
    edge.answer(1);
    assert!(matches!(edge.gateway.poll_store(), Some(StoreOrder::Pull { .. })));
    edge.place = 1; // the first one is lost
    edge.hear(2, "b", "1", &[], 0);
    assert!(edge.told().is_empty() && matches!(edge.gateway.poll_store(), Some(StoreOrder::Close { .. })));
    edge.answer(1);
    edge.hear(2, "b", "1", &[], 0);
    assert_eq!((edge.told(), edge.gateway.values_trouble()), (vec!["b=1".to_string()], None));
    assert_eq!(edge.put_one().text, "1");
    // It says nothing although it was asked.
    while edge.gateway.poll_store().is_some() {}
    edge.wait(Duration::from_secs(7));
    assert!(matches!(edge.gateway.poll_store(), Some(StoreOrder::Close { .. })));
}

#[test]
fn a_leaf_node_has_a_connection_of_its_own_to_the_store_which_comes_and_goes_by_itself() {
    let mut edge = Edge::with(Config { leaf: true, ..Config::default() });
    edge.gateway.on_connected(edge.now, 1_000_000);
    edge.turn();
    assert_eq!((edge.gateway.stats().joined, edge.gateway.poll_store()), (1, None), "it is not reached by the other");
    edge.gateway.on_store_connected(edge.now);
    edge.answer(0);
    edge.change("lamp", "on");
    assert!(edge.put().is_empty(), "it is not for the hub");
    let mut all = edge.put_aside();
    let put = all.pop().unwrap();
    assert_eq!((all.len(), &*put.subject, &*put.text), (0, "$KV.LAST.lamp", "on"));
    edge.stored(&put, 1);
    assert_eq!(edge.gateway.stats().values_waiting, 0);
    // Without the hub nothing would be said of it.
    edge.gateway.on_disconnected(edge.now);
    edge.change("lamp", "off");
    assert!(edge.put_aside().is_empty());
    assert_eq!((edge.gateway.stats().joined, edge.gateway.stats().values_read), (0, 1), "it is still there");
    edge.gateway.on_connected(edge.now, 1_000_000);
    edge.turn();
    assert_eq!(edge.put_aside().len(), 1);
    // One of them answers no more: that is left, and the other one not.
    edge.now += PING_EVERY;
    edge.gateway.handle_timeout(edge.now);
    let asked: Vec<_> = core::iter::from_fn(|| edge.gateway.poll_order(edge.now).map(|order| order.on())).collect();
    assert_eq!(asked, [Channel::Main, Channel::Store]);
    edge.gateway.on_pong(edge.now, Channel::Main);
    let late = edge.now + PATIENCE;
    assert!(edge.gateway.is_store_deaf(late) && !edge.gateway.is_deaf(late));
    edge.gateway.on_store_lost(edge.now);
    let stats = edge.gateway.stats();
    assert_eq!((stats.joined, stats.values_read, stats.values_waiting), (1, 0, 1));
    assert!(!edge.gateway.is_store_deaf(late));
    // What it may not have is put again when it is back.
    edge.gateway.on_store_connected(edge.now);
    edge.answer(0);
    assert_eq!(edge.put_aside().len(), 1);
}
