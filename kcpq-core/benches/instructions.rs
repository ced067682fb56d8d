//! Does one thing as often as told, always the same way: a program whose instructions `scripts/instructions` counts.
//!
//! `instructions WORK COUNT`; without arguments it lists the kinds of work.

#[path = "../tests/common/engine.rs"]
mod engine;
#[path = "../tests/common/relay.rs"]
mod relay;

use std::hint::black_box;
use std::net::SocketAddr;

use kcpq_core::broker::{self, Broker, SessionCursor};
use kcpq_core::frame::{Frame, Limits, command};
use kcpq_core::kcp::{Config, Kcp, Origin};
use kcpq_core::router::Router;
use kcpq_core::seal::{
    Cipher, Credentials, HEADER, Initiator, PrivateKey, Responder, TAG, Transport, Unconfirmed, header,
};
use kcpq_core::store::{Heap, Lent};
use kcpq_core::subject::{self, Pattern, Subject};
use kcpq_core::{Duration, Instant};

use self::engine::Make;
use self::relay::Relay;

type Work = (&'static str, fn(u64));

const WORK: [Work; 23] = [
    ("frame", frame),
    ("router-exact", |count| route(count, "temperature")),
    ("router-wildcard", |count| route(count, "*")),
    ("router-hostile", hostile),
    ("engine-heap", bulk::<Heap>),
    ("engine-lent", bulk::<Lent<'static>>),
    ("relay", |count| assert_eq!(Relay::new().run(count, &[7; 128]), count)),
    ("relay-1k", |count| assert_eq!(Relay::new().run(count, &[7; 1024]), count)),
    // A tenth of one of 50 kB: what a message of many datagrams takes.
    ("relay-50k/10", |count| assert_eq!(Relay::new().run(count / 10, &[7; 50_000]), count / 10)),
    ("relay-permitted", |count| assert_eq!(Relay::permitted().run(count, &[7; 128]), count)),
    ("relay-staged", |count| assert_eq!(Relay::staged().run(count, &[7; 128]), count)),
    ("relay-crowded", |count| assert_eq!(Relay::crowded().run(count, &[7; 128]), count)),
    ("relay-mixed", |count| assert_eq!(Relay::mixed().run(count, &[7; 128]), count)),
    ("relay-local", |count| assert_eq!(Relay::local(1).run(count, &[7; 128]), count)),
    ("relay-local-1k", |count| assert_eq!(Relay::local(1).run(count, &[7; 1024]), count)),
    // A hundredth of one for a hundred.
    ("relay-to-100/100", |count| assert_eq!(Relay::local(100).run(count / 100, &[7; 1024]), count / 100 * 100)),
    ("relay-group", |count| assert_eq!(Relay::group(8).run(count, &[7; 128]), count)),
    ("relay-local-group", |count| assert_eq!(Relay::local_group(8).run(count, &[7; 128]), count)),
    // Of a session, a page at a time.
    ("view", views),
    ("first-look", first_looks),
    // A hundredth of one: it is three orders more than everything else here.
    ("handshake/100", |count| handshakes(count / 100)),
    ("seal-open-1k", |count| sealed(count, Cipher::ChaChaPoly)),
    ("aes-seal-open-1k", |count| sealed(count, Cipher::AesGcm)),
];

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(count)) = (args.next(), args.next().and_then(|count| count.parse().ok())) else {
        return WORK.iter().for_each(|(name, _)| println!("{name}"));
    };
    let (_, work) = WORK.iter().find(|(known, _)| *known == name).expect("a kind of work that is listed");
    work(count);
}

/// Encodes and parses a message of 128 bytes.
fn frame(count: u64) {
    let frame = Frame { command: command::PUB, subject: b"sensor.kitchen.temperature", payload: &[7; 128] };
    let mut out = vec![0; frame.encoded_len()];
    for _ in 0..count {
        black_box(frame).encode(&mut out).expect("there is room");
        black_box(Frame::parse(black_box(&out), &Limits::KCPQ)).expect("a whole frame");
    }
}

/// Finds the one match among 10,000 patterns.
fn route(count: u64, last: &str) {
    const PATTERNS: u32 = 10_000;
    let limits = subject::Limits::DEFAULT;
    let mut router = Router::new(1);
    for i in 0..PATTERNS {
        router.subscribe(Pattern::new(&format!("site.{}.sensor.{i}.{last}", i % 100), &limits).unwrap(), i);
    }
    let subjects: Vec<String> = (0..PATTERNS).map(|i| format!("site.{}.sensor.{i}.temperature", i % 100)).collect();
    for text in subjects.iter().cycle().step_by(7).take(count as usize) {
        router.route(Subject::new(text, &limits).unwrap(), |member| {
            black_box(member);
        });
    }
}

/// Routes a message that as many patterns of one member match as it gets: all ways to write 16 tokens as `a` or `*`.
fn hostile(count: u64) {
    let limits = subject::Limits::DEFAULT;
    let mut router = Router::new(1);
    for bits in 0..1 << 16 {
        let tokens: Vec<&str> = (0..16).map(|at| if bits >> at & 1 == 0 { "a" } else { "*" }).collect();
        let text = tokens.join(".");
        let pattern = Pattern::new(&text, &limits).unwrap();
        if router.admits(pattern, 1).is_ok() {
            router.subscribe(pattern, 1);
        }
    }
    let subject = ["a"; 16].join(".");
    for _ in 0..count {
        router.route(Subject::new(&subject, &limits).unwrap(), |member| {
            black_box(member);
        });
    }
}

/// Carries full segments from one engine to another.
fn bulk<S: Make>(count: u64) {
    let config = Config { send_window: 128, recv_window: 128, ..Config::GAMES };
    let (mut a, mut b): (Kcp<S>, Kcp<S>) = (S::engine(7, config), S::engine(7, config));
    let mut now = Instant::from_millis(1);
    let mut buf = [0; 1500];
    let segment = vec![7; a.mss()];
    let (mut sent, mut read) = (0, 0);
    while read < count as usize * segment.len() {
        while sent < count && a.unacked() < 100 * segment.len() {
            a.send(&segment).expect("there is room");
            sent += 1;
        }
        now += Duration::from_millis(10);
        while let Some(len) = a.poll_transmit(now, &mut buf) {
            b.handle_datagram(now, &buf[..len], Origin::Wire, |bytes| {
                read += bytes.len();
                bytes.len()
            })
            .expect("a well-formed datagram");
        }
        while let Some(len) = b.poll_transmit(now, &mut buf) {
            a.handle_datagram(now, &buf[..len], Origin::Wire, |_| 0).expect("a well-formed datagram");
        }
    }
}

/// A server and the first message of a client that has a key.
fn first_message() -> (Responder, Initiator) {
    let (client, server) = (PrivateKey::from_bytes(&[1; 32]), PrivateKey::from_bytes(&[2; 32]));
    let public = server.public();
    let credentials = Credentials::Identity { key: &client, server: &public };
    let initiator = Initiator::new(7, credentials, Cipher::ChaChaPoly, &[3; 32], &[7; 60]).expect("it fits");
    (Responder::new(Some(server), None), initiator)
}

/// What a look at sessions takes.
fn views(count: u64) {
    const PAGE: u16 = 128;
    let mut broker = Broker::<SocketAddr>::new(broker::Config::default(), 1);
    let mut answers = [0; 60_000];
    for number in 0..PAGE {
        // A segment with a byte of a frame opens a session, each in a turn of its own.
        let mut datagram = u32::from(number + 1).to_le_bytes().to_vec();
        datagram.extend([81, 0, 32, 0]);
        datagram.extend([0; 12]);
        datagram.extend([1, 0, 0, 0, 0]);
        broker.handle_datagram(Instant::ZERO, SocketAddr::from(([192, 0, 2, 1], number)), &mut datagram);
        while broker.poll_transmit(Instant::ZERO, &mut answers).is_some() {}
    }
    for _ in 0..count / u64::from(PAGE) {
        let page = broker.view_sessions(Instant::ZERO, SessionCursor::default(), usize::from(PAGE));
        assert_eq!(page.items.len(), usize::from(PAGE));
        black_box(page);
    }
}

/// What a server spends on a first message from a stranger.
fn first_looks(count: u64) {
    let (responder, initiator) = first_message();
    let mut datagram = initiator.datagram().to_vec();
    datagram[HEADER + 1] ^= 1;
    for _ in 0..count {
        assert!(responder.look(black_box(&mut datagram)).is_err());
    }
}

/// The server's part of a handshake with a client that has a key.
fn handshakes(count: u64) {
    let (responder, initiator) = first_message();
    for number in 0..count {
        let mut datagram = initiator.datagram().to_vec();
        let pending = responder.open(responder.look(&mut datagram).expect("true")).expect("true");
        let mut entropy = [4; 32];
        entropy[..8].copy_from_slice(&number.to_le_bytes());
        black_box::<Unconfirmed>(pending.reply(&entropy, &[7; 60]).expect("it fits"));
    }
}

/// Seals and opens datagrams with a KiB in them.
fn sealed(count: u64, cipher: Cipher) {
    let server = PrivateKey::from_bytes(&[2; 32]);
    let public = server.public();
    let credentials = Credentials::Anonymous { server: &public };
    let mut initiator = Initiator::new(7, credentials, cipher, &[3; 32], &[]).expect("it fits");
    let responder = Responder::new(Some(server), None);
    let mut datagram = initiator.datagram().to_vec();
    let pending = responder.open(responder.look(&mut datagram).expect("true")).expect("true");
    let mut unconfirmed: Unconfirmed = pending.reply(&[4; 32], &[]).expect("it fits");
    let mut reply = unconfirmed.datagram().to_vec();
    let (mut client, _): (Transport, _) = initiator.handle_reply(&mut reply).expect("true");
    let now = Instant::from_millis(1);
    let (mut head, mut body) = (header(9, 0, 0), [7; 1024 + TAG]);
    client.seal(now, 0, &mut head, &mut body, 1024).expect("the first");
    let (mut server, _): (Transport, _) = unconfirmed.confirm(now, &head, &mut body).expect("true");
    for number in 1..count {
        client.seal(now, number, &mut head, black_box(&mut body), 1024).expect("there is room");
        server.open(now, &head, black_box(&mut body)).expect("true");
    }
}
