//! Messages that come together are routed together, and nobody can tell: whatever happens, a broker that does so and one that looks
//! at each message by itself say the same to everybody, count the same, and tell of the same. But who of a queue group gets a message
//! may differ where nobody else wants it.

use alloc::format;
use alloc::string::String;

use proptest::prelude::*;

use super::*;
use crate::access::{Access, Group, Limits, Permissions, Rules};
use crate::broker::stream::StreamEvent;
use crate::broker::view::{PatternCursor, PatternView, SessionCursor, SessionView};
use crate::frame::properties;
use crate::hello::{MAX_SUBSCRIBE, Subscribe};
use crate::lane::Lane;

const SESSIONS: usize = 5;
/// One that hears everything, in some worlds.
const TAP: usize = 4;
/// What begins with `c` is kept, and with `d` it is not for everybody; the last one is the server's own.
const SUBJECTS: [&str; 6] = ["a.x", "a.y", "b", "c.x", "d.x", "$KCPQ.x"];
const PATTERNS: [&str; 7] = ["a.x", "a.*", "b", "c.>", "d.*", ">", "nobody"];
/// The pattern that all subjects match.
const ALL: usize = 5;
/// In the order of their numbers; 0 is none.
const GROUPS: [&str; 3] = ["", "workers", "others"];

#[derive(Clone, Debug)]
enum Op {
    /// A session writes so many of each, which come in two pieces.
    Write { who: usize, items: Vec<Item>, cut: usize },
    /// Everybody but those whose bits are set takes what there is.
    Take { deaf: u8 },
    /// Time goes by.
    Pass { millis: u64 },
    /// Other rules hold.
    Rules { kind: u8 },
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Publish {
        subject: usize,
        len: usize,
        times: usize,
    },
    /// With a time to live, or as one that gives way to the next.
    Extended {
        subject: usize,
        len: usize,
        latest: bool,
    },
    Subscribe {
        pattern: usize,
        latest: bool,
        lane: Option<u8>,
        group: usize,
    },
    Unsubscribe {
        pattern: usize,
        group: usize,
    },
    Ping,
}

fn item() -> impl Strategy<Value = Item> {
    let subject = || prop_oneof![6 => 0..3_usize, 1 => 3..SUBJECTS.len()];
    let len = || prop_oneof![4 => 0..40_usize, 2 => 100..300_usize, 1 => 900..1_300_usize, 1 => 3_900..5_000_usize];
    let pattern = || 0..PATTERNS.len();
    prop_oneof![
        8 => (subject(), len(), 1..30_usize).prop_map(|(subject, len, times)| Item::Publish { subject, len, times }),
        1 => (subject(), len(), any::<bool>())
            .prop_map(|(subject, len, latest)| Item::Extended { subject, len, latest }),
        2 => (pattern(), prop::bool::weighted(0.1), prop::option::weighted(0.2, 0..4_u8), 0..GROUPS.len() + 3)
            .prop_map(|(pattern, latest, lane, group)| Item::Subscribe { pattern, latest, lane, group }),
        1 => (pattern(), 0..GROUPS.len()).prop_map(|(pattern, group)| Item::Unsubscribe { pattern, group }),
        1 => Just(Item::Ping),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..SESSIONS, prop::collection::vec(item(), 1..6), any::<usize>())
            .prop_map(|(who, items, cut)| Op::Write { who, items, cut }),
        4 => prop_oneof![2 => Just(0), 1 => any::<u8>()].prop_map(|deaf| Op::Take { deaf }),
        2 => prop_oneof![0..20_u64, 100..9_000_u64].prop_map(|millis| Op::Pass { millis }),
        1 => (0..4_u8).prop_map(|kind| Op::Rules { kind }),
    ]
}

fn configs() -> impl Strategy<Value = Config> {
    (
        prop_oneof![Just(100), Just(2_000), Just(16_000), Just(1 << 20)],
        prop_oneof![Just(1_500), Just(9_000), Just(50_000)],
        prop_oneof![Just(8_000), Just(60_000), Just(1 << 20)],
        prop_oneof![Just(SlowConsumer::DropNewest), Just(SlowConsumer::DropOldest), Just(SlowConsumer::Disconnect)],
        prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(2))],
        0..30_u8,
        prop_oneof![4 => Just(8 << 20), 1 => Just(1_000)],
    )
        .prop_map(
            |(high_water, max_queued, max_queued_total, slow_consumer, throttle_for, throttle_share, max_body)| {
                Config {
                    high_water,
                    max_queued,
                    max_queued_total,
                    slow_consumer,
                    throttle_for,
                    throttle_share,
                    frames: crate::frame::Limits { max_body, ..crate::frame::Limits::KCPQ },
                    ..Config::default()
                }
            },
        )
}

fn frame(command: u8, subject: &str, payload: &[u8]) -> Vec<u8> {
    let head = Frame::head(command, subject.len(), payload.len()).unwrap();
    [&head, subject.as_bytes(), payload].concat()
}

impl Item {
    /// As frames, each with a payload that no other one has.
    fn write(self, number: &mut u32, out: &mut Vec<u8>) {
        let mut payload = |len: usize| {
            *number += 1;
            let mut bytes = number.to_be_bytes().repeat(len / 4 + 1);
            bytes.truncate(len);
            bytes
        };
        match self {
            Self::Publish { subject, len, times } => {
                (0..times).for_each(|_| out.extend(frame(command::PUB, SUBJECTS[subject], &payload(len))));
            }
            Self::Extended { subject, len, latest } => {
                let property: &[u8] =
                    if latest { &properties::LATEST } else { &[properties::tag::TTL, 0, 4, 0, 0, 1, 0] };
                let payload = [&payload(len), property, &properties::end(property.len())].concat();
                out.extend(frame(command::PUBX, SUBJECTS[subject], &payload));
            }
            Self::Subscribe { pattern, latest, lane, group } => {
                let group = GROUPS.get(group).copied().filter(|name| !name.is_empty());
                let number = number_of(pattern, group);
                let wanted =
                    Subscribe { number, latest, lane: lane.and_then(Lane::new), group, ..Subscribe::default() };
                let mut record = [0; MAX_SUBSCRIBE];
                let len = wanted.encode(&mut record);
                out.extend(frame(command::SUB, PATTERNS[pattern], &record[..len]));
            }
            Self::Unsubscribe { pattern, group } => {
                let group = GROUPS.get(group).copied().filter(|name| !name.is_empty());
                let wanted = Subscribe { number: number_of(pattern, group), ..Subscribe::default() };
                let mut record = [0; MAX_SUBSCRIBE];
                let len = wanted.encode(&mut record);
                out.extend(frame(command::UNSUB, PATTERNS[pattern], &record[..len]));
            }
            Self::Ping => out.extend(frame(command::PING, "", &[])),
        }
    }
}

/// The number of a subscription.
fn number_of(pattern: usize, group: Option<&str>) -> u32 {
    let group = GROUPS.iter().position(|name| Some(*name) == group).unwrap_or(0);
    (1 + group * PATTERNS.len() + pattern) as u32
}

fn rules(kind: u8) -> Option<Access> {
    let deny = |patterns: &[&str]| Rules { allow: None, deny: patterns.iter().map(|text| (*text).into()).collect() };
    let (publish, subscribe) = match kind {
        0 => return None,
        1 => (Rules::default(), Rules::default()),
        _ => (deny(&["b"]), deny(&["d.x"])),
    };
    let limits = Limits { bytes_per_second: (kind == 3).then_some(5_000), ..Limits::default() };
    let groups = vec![Group { permissions: Permissions { publish, subscribe }, limits, ..Group::default() }];
    Some(Access { groups, anonymous: Some(0), local: Some(0), ..Access::default() })
}

/// A broker, and what it has said to each session.
struct World {
    now: Instant,
    broker: Broker<SocketAddr>,
    sessions: Vec<SessionId>,
    /// What came of each that was not told to be sent.
    unsent: Vec<usize>,
    number: u32,
}

/// What can be seen of a broker from outside.
#[derive(Debug, PartialEq)]
struct Seen {
    frames: Vec<Vec<u8>>,
    read: Vec<usize>,
    ended: Vec<bool>,
    events: Vec<Event<SocketAddr>>,
    stats: Stats,
    queueing: u64,
    sessions: Vec<SessionView<SocketAddr>>,
    patterns: Vec<PatternView>,
}

impl World {
    /// One session takes no frames with more than `short` bytes.
    fn new(config: &Config, runs: bool, short: u32) -> Self {
        let values = LastValues { subjects: vec!["c.>".into()], max_subjects: 10, ..LastValues::default() };
        let mut broker = Broker::new(config.clone(), 1).with_last_values(&values).unwrap();
        broker.sessions.cx.runs = runs.then_some(0);
        let now = Instant::from_millis(1);
        let open = |index: usize| {
            let peer = SocketAddr::from(([192, 0, 2, index as u8], 1));
            broker.open_stream(now, peer, None).unwrap()
        };
        let sessions: Vec<_> = (0..SESSIONS).map(open).collect();
        let mut world = Self { now, broker, unsent: vec![0; SESSIONS], sessions, number: 0 };
        for (index, id) in world.sessions.clone().into_iter().enumerate() {
            let hello = Hello {
                version: 1,
                // One knows no properties.
                features: if index == 1 { 0 } else { features::SUPPORTED },
                max_datagram: 1_400,
                window: 0,
                max_body: if index == 2 { short } else { 8 << 20 },
                max_subject: 4_096,
                max_tokens: 32,
                keep_alive: 15,
                epoch: 0,
                name: "",
                session: None,
            };
            let mut payload = [0; MAX_WELCOME];
            let len = hello.encode(&mut payload);
            world.broker.handle_stream(now, id, &frame(command::HELLO, "", &payload[..len]));
        }
        world
    }

    fn act(&mut self, op: &Op) -> Seen {
        let mut seen = Seen {
            frames: vec![Vec::new(); SESSIONS],
            read: vec![0; SESSIONS],
            ended: vec![false; SESSIONS],
            events: Vec::new(),
            stats: Stats::default(),
            queueing: 0,
            sessions: Vec::new(),
            patterns: Vec::new(),
        };
        match op {
            Op::Write { who, items, cut } => {
                let mut bytes = Vec::new();
                items.iter().for_each(|item| item.write(&mut self.number, &mut bytes));
                let (first, second) = bytes.split_at(cut % bytes.len());
                for piece in [first, second] {
                    self.broker.handle_stream(self.now, self.sessions[*who], piece);
                }
            }
            Op::Take { deaf } => self.take(*deaf, &mut seen),
            Op::Pass { millis } => {
                self.now += Duration::from_millis(*millis);
                self.broker.handle_timeout(self.now);
            }
            Op::Rules { kind } => self.broker.set_access(self.now, rules(*kind).as_ref()).unwrap(),
        }
        seen.events.extend(core::iter::from_fn(|| self.broker.poll_event()));
        seen.stats = self.broker.stats();
        // How long each has waited is counted for those that lie together.
        seen.queueing = core::mem::take(&mut seen.stats.queueing).count();
        seen.sessions = self.broker.view_sessions(self.now, SessionCursor::default(), 100).items;
        let mut from = Some(PatternCursor::default());
        while let Some(cursor) = from {
            let page = self.broker.view_patterns(cursor, 1_000);
            seen.patterns.extend(page.items);
            from = page.next;
        }
        seen
    }

    fn take(&mut self, deaf: u8, seen: &mut Seen) {
        let mut buf = vec![0; 60_000];
        loop {
            while self.broker.poll_transmit(self.now, &mut buf).is_some() {}
            let mut idle = true;
            while let Some((id, event)) = self.broker.poll_stream() {
                idle = false;
                let Some(index) = self.sessions.iter().position(|known| *known == id) else { continue };
                match event {
                    StreamEvent::Frames(bytes) => {
                        self.unsent[index] += bytes.len();
                        seen.frames[index].extend_from_slice(&bytes);
                    }
                    StreamEvent::Read(count) => seen.read[index] += count,
                    StreamEvent::Ended => seen.ended[index] = true,
                }
            }
            for (index, unsent) in self.unsent.iter_mut().enumerate() {
                if deaf & 1 << index == 0 && *unsent > 0 {
                    self.broker.on_stream_sent(self.now, self.sessions[index], core::mem::take(unsent));
                    idle = false;
                }
            }
            if idle {
                return;
            }
        }
    }
}

/// How many messages went in runs. Of a queue group nobody may be alone with what it wants.
fn compare(config: &Config, ops: &[Op]) -> u32 {
    let (mut together, mut alone) = (World::new(config, true, 1_000), World::new(config, false, 1_000));
    for op in ops.iter().chain([&Op::Take { deaf: 0 }]) {
        let (with, without) = (together.act(op), alone.act(op));
        for (with, without) in with.frames.iter().zip(&without.frames) {
            assert!(with == without, "{op:?}: {}, not {}", listed(with), listed(without));
        }
        assert_eq!(with, without, "{op:?}");
        if with.ended[TAP] {
            break;
        }
    }
    together.broker.sessions.cx.runs.unwrap_or(0)
}

/// Frames, in short.
fn listed(bytes: &[u8]) -> String {
    crate::frame::frames(bytes).fold(String::new(), |listed, bytes| {
        let frame = Frame::parse(bytes, &crate::frame::Limits::NONE).unwrap();
        let begin = &frame.payload[..frame.payload.len().min(4)];
        listed
            + &format!(
                " {}:{}:{begin:?}+{}",
                frame.command,
                String::from_utf8_lossy(frame.subject),
                frame.payload.len()
            )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2 * ProptestConfig::default().cases, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn a_run_is_as_its_messages_one_by_one(
        config in configs(), mut ops in prop::collection::vec(op(), 1..40), tapped: bool,
    ) {
        for op in &mut ops {
            let Op::Write { who, items, .. } = op else { continue };
            items.iter_mut().for_each(|item| match item {
                Item::Subscribe { group, .. } if !tapped => *group = 0,
                Item::Unsubscribe { pattern: ALL, .. } if tapped && *who == TAP => *item = Item::Ping,
                _ => {}
            });
        }
        if tapped {
            ops.insert(0, write(TAP, &[subscribe(ALL, 0)]));
        }
        compare(&config, &ops);
    }

    #[test]
    fn members_of_a_queue_group_together_get_of_a_run_what_they_get_of_its_messages(
        mut ops in prop::collection::vec(op(), 1..40),
    ) {
        for op in &mut ops {
            match op {
                // Whatever one has not taken others would get after what came later, and there is room for everything.
                Op::Take { .. } | Op::Rules { .. } => *op = Op::Take { deaf: 0 },
                Op::Pass { .. } => {}
                Op::Write { items, .. } => {
                    let leaves = matches!(items[0], Item::Unsubscribe { .. });
                    items.retain_mut(|item| {
                        if let Item::Subscribe { latest, lane, .. } = item {
                            (*latest, *lane) = (false, None);
                        }
                        !matches!(item, Item::Extended { .. }) && matches!(item, Item::Unsubscribe { .. }) == leaves
                    });
                    items.push(Item::Ping);
                }
            }
        }
        compare_in_all(&ops);
    }

    /// However little room there is, whoever takes nothing, leaves or is ended.
    #[test]
    fn no_message_of_a_run_goes_to_two_members_of_a_queue_group(
        config in configs(), ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut world = World::new(&config, true, 1_000);
        let mut given = Vec::new();
        for op in ops.iter().chain([&Op::Take { deaf: 0 }]) {
            given.extend(world.act(op).frames.iter().flat_map(|bytes| members(bytes)).filter(|(_, _, number)| number.is_some()));
        }
        let all = given.len();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), all);
    }
}

/// Of messages for members: of which group, of which length, and their numbers, if they are long enough for one.
fn members(bytes: &[u8]) -> impl Iterator<Item = (u32, usize, Option<u32>)> {
    crate::frame::frames(bytes).filter_map(|bytes| {
        let frame = Frame::parse(bytes, &crate::frame::Limits::NONE).unwrap();
        let (message, properties) = frame.message()?;
        let number = message.first_chunk().map(|number| u32::from_be_bytes(*number));
        Some(((properties.member()? - 1) / PATTERNS.len() as u32, message.len(), number))
    })
}

/// What one that is no member of a group is told, and what the members of each are: which of them, and in which order each.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    alone: Vec<Vec<u8>>,
    /// By the group's number and the message. All of them take each.
    members: Vec<(u32, Vec<u8>)>,
}

impl Heard {
    fn of(frames: &[Vec<u8>]) -> Self {
        let mut heard = Self::default();
        for bytes in frames {
            let (mut alone, mut last) = (Vec::new(), [0_u32; GROUPS.len()]);
            for bytes in crate::frame::frames(bytes) {
                let frame = Frame::parse(bytes, &crate::frame::Limits::NONE).unwrap();
                let (message, properties) = frame.message().unwrap_or_default();
                let Some(number) = properties.member() else {
                    alone.extend_from_slice(bytes);
                    continue;
                };
                let group = (number - 1) / PATTERNS.len() as u32;
                if let Some(number) = message.first_chunk().map(|number| u32::from_be_bytes(*number)) {
                    let before = core::mem::replace(&mut last[group as usize], number);
                    assert!(before <= number, "{number} after {before}, of group {group}");
                }
                heard.members.push((group, [frame.subject, b" ", message].concat()));
            }
            heard.alone.push(alone);
        }
        heard.members.sort_unstable();
        heard
    }
}

/// How many messages went in runs.
fn compare_in_all(ops: &[Op]) -> u32 {
    let config = Config { high_water: 4 << 20, max_queued: 8 << 20, max_queued_total: 64 << 20, ..Config::default() };
    let (mut together, mut alone) = (World::new(&config, true, 8 << 20), World::new(&config, false, 8 << 20));
    for op in ops.iter().chain([&Op::Take { deaf: 0 }]) {
        let [mut with, mut without] = [&mut together, &mut alone].map(|world| {
            let seen = world.act(op);
            let taken = world.act(&Op::Take { deaf: 0 });
            Seen { frames: core::iter::zip(seen.frames, taken.frames).map(|(a, b)| [a, b].concat()).collect(), ..taken }
        });
        let frames = [&mut with, &mut without].map(|seen| core::mem::take(&mut seen.frames));
        assert_eq!(Heard::of(&frames[0]), Heard::of(&frames[1]), "{op:?}");
        with.sessions.clear();
        without.sessions.clear();
        assert_eq!(with, without, "{op:?}");
    }
    together.broker.sessions.cx.runs.unwrap_or(0)
}

fn publish(subject: usize, len: usize, times: usize) -> Item {
    Item::Publish { subject, len, times }
}

fn subscribe(pattern: usize, group: usize) -> Item {
    Item::Subscribe { pattern, latest: false, lane: None, group }
}

fn write(who: usize, items: &[Item]) -> Op {
    Op::Write { who, items: items.to_vec(), cut: 0 }
}

#[test]
fn messages_that_come_together_go_together_as_long_as_there_is_room() {
    let config = Config { high_water: 40_000, max_queued: 100_000, ..Config::default() };
    let all = [write(0, &[subscribe(0, 0)]), write(1, &[subscribe(1, 0)]), write(2, &[publish(0, 30, 500)])];
    assert_eq!(compare(&config, &all), 500);
    // Nobody waits for their subject, or who publishes it alone.
    assert_eq!(compare(&config, &all[2..]), 500);
    assert_eq!(compare(&config, &[write(2, &[subscribe(0, 0), publish(0, 30, 500)])]), 500);
    // Others come between, and another subscriber in the middle.
    let mixed =
        [publish(0, 30, 10), publish(1, 30, 10), Item::Ping, publish(1, 30, 10), subscribe(5, 0), publish(1, 30, 10)];
    assert_eq!(compare(&config, &[&all[..2], &[write(2, &mixed)]].concat()), 40);
}

/// Members of a group by turns, the latest in the place of the one before, what is dropped for one that is behind: who wants them
/// is looked up once all the same.
#[test]
fn messages_go_together_also_where_what_becomes_of_each_has_to_be_seen() {
    let config = Config { high_water: 1_000, max_queued: 10_000, ..Config::default() };
    let flood = write(2, &[publish(0, 30, 500)]);
    let latest = Item::Subscribe { pattern: 0, latest: true, lane: None, group: 0 };
    // Somebody else wants them as well.
    let grouped = [write(0, &[subscribe(0, 1)]), write(3, &[subscribe(1, 1), latest])];
    assert_eq!(compare(&config, &[&grouped[..], core::slice::from_ref(&flood)].concat()), 500);
    let subscribed = write(0, &[subscribe(0, 0)]);
    assert_eq!(compare(&config, &[subscribed.clone(), flood.clone()]), 500);
    // One that takes what it gets holds its publisher back, and lets it go on.
    assert!(compare(&config, &[subscribed, Op::Take { deaf: 0 }, flood]) > 300);
}

/// Each gets as many as any other, lying together, and what is left over goes to those whose turn is next.
#[test]
fn a_run_is_dealt_to_the_members_of_a_group() {
    let members: Vec<_> = [0, 1, 3, 4].map(|who| write(who, &[subscribe(who % 2, 1)])).into();
    // One of them knows no properties, and so is no member.
    let all = [&members[..], &[write(2, &[publish(0, 30, 500)])]].concat();
    assert_eq!(compare_in_all(&all), 500);
    let config = Config { high_water: 4 << 20, max_queued: 8 << 20, ..Config::default() };
    let mut world = World::new(&config, true, 1_000);
    let three = [0, 2, 3].map(|who| write(who, &[subscribe(0, 1)]));
    three.iter().for_each(|op| _ = world.act(op));
    world.act(&Op::Take { deaf: 0 });
    let mut runs = |times| {
        world.act(&write(4, &[publish(0, 30, times)]));
        let seen = world.act(&Op::Take { deaf: 0 });
        [0, 2, 3].map(|who| {
            let numbers: Vec<u32> = crate::frame::frames(&seen.frames[who])
                .map(|bytes| {
                    let frame = Frame::parse(bytes, &crate::frame::Limits::NONE).unwrap();
                    u32::from_be_bytes(*frame.payload.first_chunk().unwrap())
                })
                .collect();
            if times == 30 {
                assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{who}: {numbers:?}");
            }
            numbers.len()
        })
    };
    assert_eq!(runs(30), [10, 10, 10]);
    assert_eq!(runs(7), [3, 2, 2]);
    assert_eq!(runs(2), [0, 1, 1]);
    assert_eq!(runs(2), [1, 1, 0]);
    // Those of a turn that was not over.
    assert_eq!(runs(4), [1, 1, 2]);
    assert!(world.broker.sessions.cx.runs >= Some(45));
}

#[test]
fn what_is_kept_and_what_is_permitted_by_its_size_goes_one_by_one() {
    let config = Config::default();
    assert_eq!(compare(&config, &[write(2, &[publish(3, 30, 500)])]), 0);
    assert_eq!(compare(&config, &[Op::Rules { kind: 2 }, write(2, &[publish(0, 30, 500)])]), 500);
    assert_eq!(compare(&config, &[Op::Rules { kind: 3 }, write(2, &[publish(0, 30, 500)])]), 0);
}

/// So many are routed as there is work of a turn left, and then it is the turn of others.
#[test]
fn a_turn_is_over_behind_the_same_message() {
    let config = Config { high_water: 4 << 20, ..Config::default() };
    let all = [
        write(0, &[subscribe(0, 0)]),
        write(1, &[subscribe(1, 0)]),
        write(2, &[publish(0, 0, 3_000)]),
        write(3, &[publish(0, 1, 3_000)]),
        Op::Take { deaf: 0 },
        Op::Pass { millis: 1 },
        Op::Take { deaf: 0 },
    ];
    assert!(compare(&config, &all) > 5_900);
}
