//! Messages that a store behind the backbone is to have, which is made of a few lines as well: what JetStream promises.

use super::*;
use crate::broker::gateway::stores::{MAX_STORES, MAX_UNDER_WAY};
use crate::client::{ConfirmError, Confirmed, StoreFailure};
use crate::puback::Stored;

/// A stream: it has each id once.
#[derive(Default)]
pub(super) struct Stream {
    pattern: &'static str,
    /// Ids and texts.
    has: Vec<(String, String)>,
    /// It takes no more than this, and says why.
    limit: Option<usize>,
    /// It says nothing, or that it cannot now.
    is_mute: bool,
    is_busy: bool,
}

/// What a stream says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    Stored(Stored),
    Full,
    Busy,
}

impl Word {
    pub(super) fn receipt(self) -> Receipt<'static> {
        match self {
            Self::Stored(stored) => Receipt::Stored(stored),
            Self::Full => Receipt::Refused { why: "maximum messages exceeded", for_now: false },
            Self::Busy => Receipt::Refused { why: "no leader", for_now: true },
        }
    }
}

impl Stream {
    pub(super) fn of(pattern: &'static str) -> Self {
        Self { pattern, ..Self::default() }
    }

    pub(super) fn pattern(&self) -> &'static str {
        self.pattern
    }

    /// `None` if it is not for this one; otherwise what is said, if anything.
    pub(super) fn take(&mut self, subject: &str, headers: &[(String, String)], payload: &[u8]) -> Option<Option<Word>> {
        if !matches(self.pattern, subject) {
            return None;
        }
        let id = headers.iter().find(|(name, _)| name == "Nats-Msg-Id").map_or("", |(_, id)| id);
        let known = self.has.iter().position(|(other, _)| !id.is_empty() && other == id);
        let word = match known {
            _ if self.is_busy => Word::Busy,
            Some(at) => Word::Stored(Stored { sequence: at as u64 + 1, duplicate: true }),
            None if self.limit.is_some_and(|limit| self.has.len() >= limit) => Word::Full,
            None => {
                self.has.push((id.into(), String::from_utf8_lossy(payload).into_owned()));
                Word::Stored(Stored { sequence: self.has.len() as u64, duplicate: false })
            }
        };
        Some(Some(word).filter(|_| !self.is_mute))
    }

    fn texts(&self) -> Vec<&str> {
        self.has.iter().map(|(_, text)| &**text).collect()
    }
}

/// What a client was told, in short.
pub(super) fn text(outcome: Result<Stored, StoreFailure<&str>>) -> String {
    match outcome {
        Ok(Stored { sequence, duplicate: false }) => alloc::format!("{sequence}"),
        Ok(Stored { sequence, duplicate: true }) => alloc::format!("{sequence} again"),
        Err(why) => alloc::format!("{why:?}"),
    }
}

const LONG: Confirmed<'_> =
    Confirmed { properties: frame::Properties::NONE, ttl: None, within: Duration::from_secs(600), lane: Lane::NORMAL };

impl World {
    fn store(&mut self, end: usize, subject: &str, text: &str, id: &str) {
        self.store_with(end, subject, text, id, &LONG);
    }

    fn store_with(&mut self, end: usize, subject: &str, text: &str, id: &str, how: &Confirmed<'_>) {
        self.ends[end].client.publish_stored(self.now, subject, text.as_bytes(), id, how).unwrap();
        self.run();
    }

    /// Time passes, second by second.
    fn wait(&mut self, seconds: u64) {
        (0..seconds * 4).for_each(|_| self.pass(Duration::from_millis(250)));
    }

    fn told(&mut self, end: usize) -> Vec<String> {
        core::mem::take(&mut self.ends[end].stored)
    }
}

#[test]
fn who_asks_is_told_where_a_message_is_stored_and_others_get_it_as_any_other() {
    let mut world = World::new(2, 2, &[(0, 0), (0, 1), (1, 0)]);
    world.backbone.streams.push(Stream::of("orders.>"));
    world.connect();
    world.subscribe(1, "orders.*");
    world.subscribe(2, "orders.*");
    let mut properties = PropertiesBuf::new();
    properties.header("Unit", "K").unwrap();
    properties.reply("answers.here").unwrap();
    let how = Confirmed { properties: properties.properties(), ..LONG };
    for id in ["", "seven", "seven", ""] {
        world.store_with(0, "orders.new", id, id, &how);
    }
    assert_eq!(world.told(0), ["1", "2", "2 again", "3"]);
    assert_eq!(world.backbone.streams[0].texts(), ["", "seven", ""]);
    for end in [1, 2] {
        assert_eq!(world.got(end), ["orders.new=", "orders.new=seven", "orders.new=seven", "orders.new="]);
        let (headers, reply) = &world.ends[end].last;
        assert_eq!(headers, &[("Unit".to_string(), "K".to_string())], "what is between gateway and store stays there");
        assert_eq!(reply.as_deref(), Some("answers.here"));
    }
    let stats = world.stats(0);
    assert_eq!((stats.stored, stats.store_duplicates, stats.storing, stats.messages_out), (4, 1, 0, 4), "{stats:?}");
    // One has given it an id by a header.
    let mut properties = PropertiesBuf::new();
    properties.header("Nats-Msg-Id", "own").unwrap();
    world.store_with(0, "orders.new", "", "", &Confirmed { properties: properties.properties(), ..LONG });
    assert_eq!(world.backbone.streams[0].has.last().unwrap().0, "own");
    let headers = &world.backbone.seen.last().unwrap().3;
    assert_eq!(headers, &[("Nats-Msg-Id".to_string(), "own".to_string())]);
}

#[test]
fn who_asks_is_told_why_a_message_is_not_stored() {
    let config = Config { export: ["orders.>".into(), "none.>".into()].into(), ..Config::default() };
    let mut world = World::with(1, 2, &[(0, 0), (0, 1)], &config);
    world.backbone.streams.push(Stream { limit: Some(1), ..Stream::of("orders.>") });
    world.connect();
    world.subscribe(1, ">");
    world.store(0, "orders.a", "1", "");
    world.store(0, "orders.a", "2", "");
    world.store(0, "orders.a", &"x".repeat(2_000), "");
    world.store(0, "inside", "3", "");
    let told = ["1", "Refused(\"maximum messages exceeded\")", "Unconfirmed(Rejected(TooLarge))", "NoStream"];
    assert_eq!(world.told(0), told);
    // A stream may be about to be there: it is tried three times.
    world.store(0, "none.a", "4", "");
    assert_eq!(world.told(0), [""; 0]);
    world.wait(1);
    assert_eq!(world.told(0), ["NoStream"]);
    assert_eq!(world.got(1).len(), 5, "whoever is here gets all of them");
    assert_eq!(world.stats(0).store_no_stream, 1);
    world.store(0, "none.b", "5", "");
    world.backbone.streams.push(Stream { is_busy: true, ..Stream::of("none.>") });
    world.wait(4);
    assert_eq!(world.told(0), [""; 0], "it cannot now, and may be able later");
    world.backbone.streams[1].is_busy = false;
    world.wait(10);
    assert_eq!(world.told(0), ["1"]);
    // What has stored something of the subject is waited for, until the message's time is over.
    let streams = core::mem::take(&mut world.backbone.streams);
    world.store(0, "none.b", "6", "");
    world.wait(10);
    assert_eq!(world.told(0), [""; 0]);
    world.backbone.streams = streams;
    world.wait(10);
    assert_eq!(world.told(0), ["2"]);
    world.backbone.streams.clear();
    let ttl = Some(Duration::from_secs(9));
    world.store_with(0, "none.b", "7", "", &Confirmed { ttl, ..LONG });
    world.wait(10);
    world.store(0, "none.b", "8", "");
    world.wait(1);
    assert_eq!(world.told(0), ["NoStream", "NoStream"], "and then it is known no more");
    let stats = world.stats(0);
    assert_eq!((stats.stored, stats.store_refused, stats.store_no_stream), (3, 1, 3), "{stats:?}");
    assert_eq!((stats.dropped_too_large, stats.storing, stats.storing_bytes), (1, 0, 0), "{stats:?}");
}

#[test]
fn a_client_says_at_once_what_cannot_be() {
    let mut world = World::new(1, 1, &[(0, 0)]);
    let now = world.now;
    let client = &mut world.ends[0].client;
    let long = "x".repeat(65);
    for id in [&*long, "a\u{7}"] {
        assert_eq!(client.publish_stored(now, "a", b"", id, &LONG), Err(ConfirmError::StoreId));
    }
    // A server without a backbone, which is known before or only later.
    let config = client::Config { kcp: KCP, ..client::Config::default() };
    let mut broker = Broker::<SocketAddr>::new(BrokerConfig { kcp: KCP, ..BrokerConfig::default() }, 1);
    let mut client = Client::new(config, 9, Parts::heap(&config));
    client.connect(now);
    let early = client.publish_stored(now, "a", b"", "", &LONG).unwrap();
    let (mut buf, mut told) = (vec![0; 60_000], Vec::new());
    for _ in 0..4 {
        while let Some(len) = client.poll_transmit(now, &mut buf) {
            broker.handle_datagram(now, addr(0), &mut buf[..len]);
        }
        while let Some(transmit) = broker.poll_transmit(now, &mut buf) {
            client.handle_datagram(now, &mut buf[..transmit.len]);
        }
        while let Some(event) = client.poll_event() {
            if let Event::Stored { id, outcome } = event {
                told.push((id, text(outcome)));
            }
        }
    }
    assert_eq!(told, [(early, "Unconfirmed(Unsupported)".into())]);
    assert_eq!(client.publish_stored(now, "a", b"", "", &LONG), Err(ConfirmError::NoStore));
    assert!(client.publish_confirmed(now, "a", b"", &LONG).is_ok());
}

#[test]
fn without_a_word_it_is_handed_over_again_and_in_the_end_that_is_said() {
    let mut world = World::new(2, 1, &[(0, 0), (1, 0)]);
    world.backbone.streams.push(Stream { is_mute: true, ..Stream::of(">") });
    world.connect();
    world.subscribe(1, "a");
    world.join(1, "a", "g");
    world.store(0, "a", "slow", "");
    world.wait(6);
    assert_eq!(world.told(0), [""; 0]);
    assert_eq!(world.stats(0).store_repeats, 1);
    world.backbone.streams[0].is_mute = false;
    world.wait(10);
    assert_eq!(world.told(0), ["1"], "it is no duplicate that it was handed over twice");
    world.backbone.streams[0].is_mute = true;
    world.store(0, "a", "lost", "mine");
    let ttl = Some(Duration::from_secs(8));
    world.store_with(0, "a", "short", "", &Confirmed { ttl, ..LONG });
    world.wait(9);
    assert_eq!(world.told(0), ["InDoubt"]);
    world.wait(60);
    assert_eq!(world.told(0), ["InDoubt"]);
    assert_eq!(world.backbone.streams[0].texts(), ["slow", "lost", "short"]);
    // Others get it once, by their patterns and in their groups.
    assert_eq!(world.got(1).len(), 6);
    let stats = world.stats(0);
    assert_eq!((stats.store_in_doubt, stats.storing, stats.messages_out), (2, 0, 3), "{stats:?}");
    // That nobody is there any more does not say that it is not stored.
    let streams = core::mem::take(&mut world.backbone.streams);
    world.backbone.streams.push(Stream { is_mute: true, ..Stream::of("b") });
    let ttl = Some(Duration::from_secs(8));
    world.store_with(0, "b", "first", "", &Confirmed { ttl, ..LONG });
    world.backbone.streams.clear();
    world.wait(9);
    assert_eq!(world.told(0), ["InDoubt"]);
    world.backbone.streams = streams;
    // Who asks again under the same id is told where it is.
    world.backbone.streams[0].is_mute = false;
    world.store(0, "a", "lost", "mine");
    assert_eq!(world.told(0), ["2 again"]);
}

#[test]
fn without_the_backbone_it_waits_and_goes_when_that_is_back_and_is_stored_once() {
    let mut world = World::new(2, 2, &[(0, 0), (0, 1), (1, 0), (1, 1)]);
    world.backbone.streams.push(Stream::of(">"));
    world.join(1, "a", "g");
    world.store(0, "a", "before", "");
    assert_eq!(world.got(1), ["a=before"]);
    world.connect();
    world.subscribe(2, "a");
    world.join(3, "a", "g");
    assert_eq!(world.told(0), ["1"]);
    // It has it, and its word is lost; others wait with it.
    world.backbone.streams[0].is_mute = true;
    world.store(0, "a", "under way", "");
    world.backbone.streams[0].is_mute = false;
    world.disconnect();
    let during = world.got(1).len() + world.got(3).len();
    assert_eq!(during, 1, "one member has it");
    for text in ["away 1", "away 2"] {
        world.store(0, "a", text, "");
    }
    world.publish(0, "a", "plain");
    let ttl = Some(Duration::from_secs(2));
    world.store_with(0, "a", "too late", "", &Confirmed { ttl, ..LONG });
    assert_eq!(world.got(1), ["a=away 1", "a=away 2", "a=plain", "a=too late"]);
    assert_eq!((world.stats(0).storing, world.stats(0).waiting), (4, 0), "{:?}", world.stats(0));
    world.wait(3);
    assert_eq!(world.told(0), ["InDoubt"]);
    world.connect();
    assert_eq!(world.told(0), ["2", "3", "4"]);
    assert_eq!(world.backbone.streams[0].texts(), ["before", "under way", "away 1", "away 2"]);
    assert_eq!(world.got(2), ["a=under way", "a=away 1", "a=away 2"]);
    assert_eq!(world.got(3), [""; 0], "members have got it before");
    let stats = world.stats(0);
    assert_eq!((stats.stored, stats.store_in_doubt, stats.in_doubt, stats.store_repeats), (4, 1, 0, 1), "{stats:?}");
}

#[test]
fn what_is_stored_goes_in_its_order_among_the_others() {
    let mut world = World::new(1, 1, &[(0, 0)]);
    world.backbone.streams.push(Stream::of(">"));
    for number in 0..20 {
        if number % 3 == 0 {
            world.store(0, "a", &alloc::format!("{number}"), "");
        } else {
            world.publish(0, "a", &alloc::format!("{number}"));
        }
    }
    world.connect();
    assert_eq!(world.backbone.streams[0].texts().len(), 20);
    assert!(world.backbone.streams[0].texts().into_iter().eq(texts("", 20)));
}

#[test]
fn a_session_that_is_gone_is_told_nothing_and_what_it_has_published_is_stored() {
    let mut world = World::new(1, 2, &[(0, 0), (0, 1)]);
    world.backbone.streams.push(Stream::of(">"));
    world.store(0, "a", "1", "");
    world.ends[0].client.close(world.now);
    world.run();
    world.wait(3);
    assert_eq!(world.told(0), ["Unconfirmed(Closed)"]);
    assert_eq!(world.servers[0].brokers[0].sessions(), 0);
    world.connect();
    assert_eq!((world.backbone.streams[0].texts(), world.stats(0).stored), (vec!["1"], 1));
    world.store(1, "a", "2", "");
    assert_eq!(world.told(1), ["2"]);
}

#[test]
fn what_is_to_be_stored_by_rule_is_kept_until_it_is_whoever_has_published_it() {
    let rule = |buffer| Config { store: ["orders.>".into()].into(), export: [].into(), buffer, ..Config::default() };
    let mut world = World::with(1, 2, &[(0, 0), (0, 1)], &rule(8 << 20));
    world.subscribe(1, ">");
    for text in ["1", "2"] {
        world.publish(0, "orders.a", text);
        world.publish(0, "others", text);
    }
    world.wait(200);
    assert_eq!((world.got(1).len(), world.stats(0).storing), (4, 2), "it waits for as long as it takes");
    world.connect();
    world.wait(100);
    assert_eq!(world.stats(0).storing, 2, "nobody stores it yet");
    world.backbone.streams.push(Stream { limit: Some(2), ..Stream::of("orders.>") });
    world.wait(10);
    assert_eq!(world.backbone.streams[0].texts(), ["1", "2"]);
    world.publish(0, "orders.a", "3");
    let stats = world.stats(0);
    assert_eq!((stats.stored, stats.store_refused, stats.storing), (2, 1, 0), "{stats:?}");
    assert_eq!(stats.store_no_stream, 0, "nobody has given it up");
    // What is an answer is none of it.
    world.subscribe_there(7, "_INBOX.theirs", None);
    world.publish(0, "_INBOX.kcpq0000000000000000.theirs", "answer");
    assert_eq!((world.got_there().len(), world.stats(0).storing), (1, 0));
    // Somebody asks for it besides.
    world.backbone.streams[0].limit = None;
    world.store(0, "orders.b", "4", "four");
    assert_eq!(world.told(0), ["3"]);
}

#[test]
fn no_more_wait_to_be_stored_than_may() {
    let config = Config { store: ["rule".into()].into(), buffer: 1_000, ..Config::default() };
    let mut world = World::with(1, 2, &[(0, 0), (0, 1)], &config);
    world.backbone.streams.push(Stream::of(">"));
    let long = "x".repeat(100);
    for _ in 0..20 {
        world.store(0, "a", &long, "");
        world.publish(0, "rule", &long);
    }
    let stats = world.stats(0);
    assert!(stats.storing_bytes <= 1_000 && stats.storing > 5, "{stats:?}");
    assert_eq!(stats.store_full + stats.storing, 40, "{stats:?}");
    let refused = world.told(0);
    assert!(!refused.is_empty() && refused.iter().all(|text| text.contains("no more may")), "{refused:?}");
    // What is to be stored by rule goes at least as others do.
    assert_eq!(stats.waiting + stats.dropped_away + refused.len() as u64, stats.store_full);
    world.connect();
    assert_eq!(world.told(0).len() + refused.len(), 20);
    let after = world.stats(0);
    assert_eq!((after.storing, after.stored), (0, stats.storing), "{after:?}");
}

#[test]
fn while_too_many_are_under_way_the_others_go_on() {
    let config = Config { buffer: 64 << 20, ..Config::default() };
    let mut world = World::with(1, 1, &[(0, 0)], &config);
    world.backbone.streams.push(Stream { is_mute: true, ..Stream::of("a") });
    world.connect();
    for _ in 0..MAX_UNDER_WAY + 10 {
        world.ends[0].client.publish_stored(world.now, "a", b"x", "", &LONG).unwrap();
    }
    world.publish(0, "b", "plain");
    assert_eq!(world.backbone.seen.last().unwrap().0, "b");
    assert_eq!(world.backbone.streams[0].has.len(), MAX_UNDER_WAY);
    world.backbone.streams[0].is_mute = false;
    world.wait(12);
    assert_eq!(world.told(0).len(), MAX_UNDER_WAY + 10);
    const { assert!(MAX_UNDER_WAY < MAX_STORES) };
    assert_eq!(world.stats(0).storing, 0);
}
