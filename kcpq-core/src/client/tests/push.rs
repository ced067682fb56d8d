//! The short way is one way to say the same: two clients that differ in nothing else, one told by `handle_datagram`, the
//! other by `handle_datagram_with`, get the same random stream and have to tell, count and answer the same.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use super::super::*;
use crate::datagram::Framing;
use crate::frame::{self, Frame, command, properties};
use crate::kcp::{self, CongestionControl};
use crate::store::{Heap, HeapInbox};

/// The largest frame that is put together; the limit of the protocol is larger, so there is something to pass over.
const INBOX: usize = 8_000;
const KCP: kcp::Config = kcp::Config { congestion: CongestionControl::Off, ..kcp::Config::GAMES };
const CONFIG: Config = Config {
    kcp: KCP,
    max_datagram: 1400,
    native_datagram: 1400,
    local: false,
    framing: Framing::Plain,
    frames: frame::Limits { max_body: 20_000, max_subject: 40 },
    subjects: crate::subject::Limits::DEFAULT,
    connect_timeout: Duration::from_secs(5),
    reconnect: Some(Backoff { base: Duration::from_millis(500), cap: Duration::from_millis(500) }),
    subscribe_timeout: Duration::from_secs(2),
    subscribe_attempts: 3,
    subscribe_pause: Duration::from_secs(1),
    heartbeat: Duration::from_secs(2),
    pong_timeout: Duration::from_secs(4),
    read_timeout: Duration::from_secs(90),
    stall_timeout: Duration::from_secs(20),
    suspect_timeout: Duration::from_secs(1),
    linger: Duration::from_secs(1),
    early: true,
    queue: 1 << 20,
    overflow: Overflow::Refuse,
    name: "kcpq",
};

const PATTERNS: [&str; 6] = ["a.b", "a.*", "a.>", ">", "*.b", "x.y.z"];
const SUBJECTS: [&[u8]; 10] =
    [b"a.b", b"a.b", b"a.b", b"a.c", b"x.y.z", b"nobody.knows", b"", b"a..b", b"a.*", b"\xff\xfe"];

/// A client, and all that it has told since it was last asked.
struct End {
    client: Client<Heap>,
    short: bool,
    told: Vec<String>,
}

impl End {
    fn new(short: bool) -> Self {
        let mut parts = Parts::heap(&CONFIG);
        parts.session.inbox = HeapInbox::new(INBOX, 4096);
        Self { client: Client::new(CONFIG, 5, parts), short, told: Vec::new() }
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        if self.short {
            let told = &mut self.told;
            self.client.handle_datagram_with(now, &mut datagram, |recipient, arrived| {
                let Recipient::Subscription(id) = recipient else { panic!("nobody asked") };
                let before = told.len();
                for bytes in arrived.frames() {
                    let frame = Frame::parse(bytes, &CONFIG.frames).expect("only whole frames are handed out");
                    let (payload, _) = frame.message().expect("only what is understood is handed out");
                    told.push(message(id, &String::from_utf8_lossy(frame.subject), payload));
                }
                assert_eq!(told.len() - before, arrived.count());
            });
        } else {
            self.client.handle_datagram(now, &mut datagram);
        }
        self.poll_events();
    }

    fn poll_events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.told.push(match event {
                Event::Message { subscription, message: m } => message(subscription, m.subject(), m.payload()),
                event => format!("{event:?}"),
            });
        }
    }
}

fn message(id: SubscriptionId, subject: &str, payload: &[u8]) -> String {
    format!("{id:?} {subject} {payload:?}")
}

/// The two, and a server that says anything.
struct Pair {
    rng: Rng,
    now: Instant,
    ends: [End; 2],
    server: Session<Heap>,
    /// What the two told, in all.
    told: Vec<String>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let now = Instant::from_millis(1);
        let mut ends = [false, true].map(End::new);
        for end in &mut ends {
            end.client.connect(now);
        }
        let server = server(ends[0].client.conversation());
        Self { rng: Rng::with_seed(seed), now, ends, server, told: Vec::new() }
    }

    fn both(&mut self, mut act: impl FnMut(&mut Client<Heap>, Instant) -> String) {
        let [a, b] = &mut self.ends;
        assert_eq!(act(&mut a.client, self.now), act(&mut b.client, self.now));
    }

    /// One command of the user, now and then.
    fn command(&mut self, ids: &mut Vec<SubscriptionId>) {
        let pattern = *self.rng.choice(&PATTERNS).unwrap();
        self.act(pattern, ids);
        // As after any input: what was caused is told before the next.
        for end in &mut self.ends {
            end.poll_events();
        }
        self.compare();
    }

    fn act(&mut self, pattern: &str, ids: &mut Vec<SubscriptionId>) {
        match self.rng.u8(..30) {
            0..=2 if ids.len() < 5 => {
                let now = self.now;
                let made = self.ends.each_mut().map(|end| end.client.subscribe(now, pattern).unwrap());
                assert_eq!(made[0], made[1]);
                ids.push(made[0]);
            }
            3 if !ids.is_empty() => {
                let id = ids.swap_remove(self.rng.usize(..ids.len()));
                self.both(|client, now| client.unsubscribe(now, id).to_string());
            }
            4..=6 => self.both(|client, now| format!("{:?}", client.publish(now, "a.b", b"hello"))),
            7 => self.both(|client, now| client.flush(now).to_string()),
            _ => {}
        }
    }

    /// Puts something into the server's stream.
    fn say(&mut self) {
        let rng = &mut self.rng;
        let len = match rng.u8(..20) {
            0 => rng.usize(..INBOX + 200),
            1..=2 => rng.usize(..4_000),
            _ => rng.usize(..100),
        };
        let payload: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
        let number = rng.u32(..6);
        let extended = [&payload[..], &tail(number)].concat();
        let subject = *rng.choice(&SUBJECTS).unwrap();
        let (command, subject, payload) = match rng.u16(..1_000) {
            0..=29 => (command::PONG, &b""[..], &b""[..]),
            30..=59 => (command::OK, &b"subscribed to a.b"[..], &b""[..]),
            60..=69 => (command::ERR, &b"handle error: bad weather"[..], &b""[..]),
            70..=79 => (command::ERR, &b"handle error: unknown command"[..], &b""[..]),
            80..=89 => (rng.u8(..), subject, &payload[..len.min(50)]),
            90..=93 => (command::MSG, &[b'l'; 41][..], &payload[..]),
            94 => (command::CLOSE, &b""[..], &b"\x01"[..]),
            // For a member of a queue group; with another property before that, as far as it is one; said anyhow.
            100..=399 => (command::MSGX, subject, &extended[..]),
            400..=419 => (command::MSGX, subject, &payload[..]),
            _ => (command::MSG, subject, &payload[..]),
        };
        let mut bytes = vec![0; Frame { command, subject, payload }.encoded_len()];
        Frame { command, subject, payload }.encode(&mut bytes).unwrap();
        match rng.u16(..1_000) {
            // The length, or whatever lies there, is wrong.
            0 => bytes[rng.usize(..4)] ^= 1 << rng.u8(..8),
            1 => bytes[5] ^= 1,
            2 => drop(bytes.pop()),
            _ => {}
        }
        // Many are like the one before.
        let times = if command == command::MSGX { self.rng.usize(1..5) } else { 1 };
        (0..times).for_each(|_| self.server.kcp.send(&bytes).unwrap());
    }

    /// Carries what the server sends: some is lost, doubled or overtaken.
    fn carry(&mut self) {
        let mut buf = [0; 1500];
        let mut on_the_way = Vec::new();
        while let Some(len) = self.server.poll_transmit(self.now, &mut Protection::default(), &mut buf) {
            on_the_way.push(buf[..len].to_vec());
        }
        for at in 1..on_the_way.len() {
            if self.rng.u8(..10) == 0 {
                on_the_way.swap(at - 1, at);
            }
        }
        for mut datagram in on_the_way {
            let copies = match self.rng.u8(..50) {
                0..=2 => 0,
                3 => 2,
                _ => 1,
            };
            if self.rng.u8(..200) == 0 {
                let at = self.rng.usize(..datagram.len());
                datagram[at] ^= 1;
            }
            for _ in 0..copies {
                for end in &mut self.ends {
                    end.handle_datagram(self.now, &datagram);
                }
                self.compare();
            }
            if self.rng.bool() {
                self.answer();
            }
        }
        self.answer();
    }

    /// Carries what the clients send, which is the same, to the server.
    fn answer(&mut self) {
        let mut bufs = [[0; 1500]; 2];
        loop {
            let [a, b] = &mut self.ends;
            let [to_a, to_b] = &mut bufs;
            let len = a.client.poll_transmit(self.now, to_a);
            assert_eq!(len, b.client.poll_transmit(self.now, to_b), "both send");
            let Some(len) = len else { break };
            assert_eq!(to_a[..len], to_b[..len], "both send the same");
            if let Ok(content) = crate::datagram::parse(&to_a[..len]) {
                self.server.handle_datagram(self.now, &to_a[..len], content, &mut super::alone::PassOver);
            }
            self.server.after_input(self.now);
        }
        for end in &mut self.ends {
            end.poll_events();
        }
        self.compare();
    }

    fn compare(&mut self) {
        let [a, b] = &mut self.ends;
        assert_eq!(a.told, b.told);
        assert_eq!(format!("{:?}", a.client.stats()), format!("{:?}", b.client.stats()));
        assert_eq!(format!("{:?}", a.client.transport()), format!("{:?}", b.client.transport()));
        assert_eq!(a.client.state(), b.client.state());
        assert_eq!(a.client.poll_timeout(), b.client.poll_timeout());
        b.told.clear();
        self.told.append(&mut a.told);
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        for end in &mut self.ends {
            end.client.handle_timeout(self.now);
            end.poll_events();
        }
        self.compare();
        let conv = self.ends[0].client.conversation();
        if self.server.kcp.conv() != conv {
            self.server = server(conv);
        }
    }

    fn saw(&self, text: &str) -> usize {
        self.told.iter().filter(|told| told.contains(text)).count()
    }
}

/// What stands behind a message that is for this subscription alone, as a member of a queue group.
fn tail(number: u32) -> Vec<u8> {
    let member = properties::member(number);
    [&member[..], &properties::end(member.len())].concat()
}

fn server(conv: u32) -> Session<Heap> {
    Session::new(conv, KCP, CONFIG.frames, Link::new(Framing::Plain, 1400, 0), Parts::heap(&CONFIG).session)
}

#[test]
fn the_short_way_tells_counts_and_answers_what_the_long_one_does() {
    let mut sum = [0; 8];
    for seed in 0..30 {
        let mut pair = Pair::new(seed);
        let mut ids = Vec::new();
        for _ in 0..250 {
            pair.command(&mut ids);
            for _ in 0..pair.rng.usize(..8) {
                pair.say();
            }
            pair.carry();
            let span = pair.rng.u64(1..=60);
            pair.pass(Duration::from_millis(span));
        }
        let stats = pair.ends[1].client.stats();
        let seen = [
            stats.messages_received as usize,
            stats.unmatched as usize,
            stats.malformed as usize,
            pair.saw("Oversize("),
            pair.saw("BrokenStream"),
            pair.saw("ByServer"),
            pair.saw("Subscribed("),
            stats.reconnects as usize,
        ];
        for (sum, seen) in sum.iter_mut().zip(seen) {
            *sum += seen;
        }
    }
    assert!(sum.iter().all(|seen| *seen > 20), "the streams had everything in them: {sum:?}");
}

/// What a client that is up hands out at once when `frames` come, and how many events wait behind.
fn at_once(frames: &[(u8, &[u8], &[u8])]) -> (Vec<usize>, usize) {
    let mut pair = Pair::new(1);
    pair.both(|client, now| format!("{:?}", client.subscribe(now, "a.>")));
    pair.server.control(command::PONG, b"", b"").unwrap();
    pair.pass(Duration::from_millis(10));
    while !pair.ends[1].client.is_connected() {
        pair.carry();
        pair.pass(Duration::from_millis(10));
    }
    for (command, subject, payload) in frames {
        pair.server.message(*command, subject, payload).unwrap();
    }
    let (mut lens, mut waiting) = (Vec::new(), 0);
    let mut buf = [0; 1500];
    let client = &mut pair.ends[1].client;
    while let Some(len) = pair.server.poll_transmit(pair.now, &mut Protection::default(), &mut buf) {
        client.handle_datagram_with(pair.now, &mut buf[..len], |_, arrived| {
            lens.push(arrived.bytes().len());
        });
        while client.poll_event().is_some() {
            waiting += 1;
        }
    }
    (lens, waiting)
}

#[test]
fn messages_in_order_are_handed_out_at_once_and_what_follows_another_frame_waits() {
    let message = (command::MSG, &b"a.b"[..], &[7; 10][..]);
    assert_eq!(at_once(&[message; 3]), (vec![20, 40], 0), "once it is known who wants the first, the others together");
    assert_eq!(at_once(&[message, (command::ERR, b"no", b""), message]), (vec![20], 2));
    let long = (command::MSG, &b"a.b"[..], &[7; 5_000][..]);
    assert_eq!(at_once(&[message, long, message]), (vec![20, 5_010, 20], 0), "over several segments");
}

#[test]
fn messages_for_a_member_of_a_queue_group_are_handed_out_together_as_long_as_they_are_for_the_same() {
    let (mine, other) = ([&[7; 10], &tail(1)[..]].concat(), [&[7; 10], &tail(9)[..]].concat());
    let (mine, other) = ((command::MSGX, &b"a.b"[..], &mine[..]), (command::MSGX, &b"a.b"[..], &other[..]));
    assert_eq!(at_once(&[mine; 4]), (vec![29, 3 * 29], 0));
    assert_eq!(at_once(&[mine, mine, other, mine, mine]), (vec![29, 29, 29, 29], 0), "nobody has the other's number");
    let plain = (command::MSG, &b"a.b"[..], &[7; 10][..]);
    assert_eq!(at_once(&[mine, mine, plain, plain, mine]), (vec![29, 29, 40, 29], 0));
    let blank = tail(1);
    let blank = (command::MSGX, &b"a.b"[..], &blank[..]);
    assert_eq!(at_once(&[mine, blank, blank]), (vec![29, 2 * 19], 0), "a message of no bytes is one");
    let short = (command::MSGX, &b"a.b"[..], &blank.2[2..]);
    assert_eq!(at_once(&[mine, short, mine]), (vec![29, 29], 0), "this is none");
}
