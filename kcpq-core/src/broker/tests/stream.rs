//! Sessions over a WebSocket, as far as the broker sees them: a stream of bytes.

use super::*;
use crate::access::{Access, Client as Known, Group, Proof};
use crate::broker::stream::{STREAM_WINDOW, StreamEvent, refusal};
use crate::broker::view::{ClientKind, SessionCursor};
use crate::frame::{Limits, Properties, properties};
use crate::hello::{CloseReason, Subscribe};
use crate::lane::Lane;
use crate::store::{Heap, HeapInbox};

const PEER: u16 = 9;

/// The other end of a stream.
struct Browser {
    id: SessionId,
    /// What came, and how much was told to be read.
    came: Vec<u8>,
    read: usize,
    ended: bool,
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 7], PEER))
}

fn frame(command: u8, subject: &str, payload: &[u8]) -> Vec<u8> {
    let head = Frame::head(command, subject.len(), payload.len()).unwrap();
    [&head, subject.as_bytes(), payload].concat()
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        version: 1,
        features: features::SUPPORTED,
        max_datagram: 1400,
        window: 0,
        max_body: 8 << 20,
        max_subject: 4096,
        max_tokens: 32,
        keep_alive: 15,
        epoch: 0,
        name: "browser",
        session: None,
    };
    let mut out = [0; MAX_WELCOME];
    let len = hello.encode(&mut out);
    frame(command::HELLO, "", &out[..len])
}

fn subscribe(number: u32, pattern: &str) -> Vec<u8> {
    let wanted = Subscribe { number, ..Subscribe::default() };
    let mut out = [0; crate::hello::MAX_SUBSCRIBE];
    let len = wanted.encode(&mut out);
    frame(command::SUB, pattern, &out[..len])
}

impl Browser {
    fn open(room: &mut Room, token: Option<[u8; 32]>) -> Self {
        let id = room.broker.open_stream(room.now, peer(), token).unwrap();
        Self { id, came: Vec::new(), read: 0, ended: false }
    }

    fn greeted(room: &mut Room) -> Self {
        let mut browser = Self::open(room, None);
        browser.send(room, &hello());
        assert_eq!(browser.commands(), [command::WELCOME]);
        browser
    }

    /// Writes, and lets everything happen.
    fn send(&mut self, room: &mut Room, bytes: &[u8]) {
        assert!(room.broker.handle_stream(room.now, self.id, bytes));
        self.settle(room, true);
    }

    fn settle(&mut self, room: &mut Room, reads: bool) {
        loop {
            room.settle();
            let mut sent = 0;
            let mut idle = true;
            while let Some((id, event)) = room.broker.poll_stream() {
                assert_eq!(id, self.id);
                idle = false;
                match event {
                    StreamEvent::Frames(bytes) => {
                        self.came.extend_from_slice(&bytes);
                        sent += bytes.len();
                    }
                    StreamEvent::Read(count) => self.read += count,
                    StreamEvent::Ended => self.ended = true,
                }
            }
            if reads && sent > 0 {
                room.broker.on_stream_sent(room.now, self.id, sent);
            }
            if idle {
                return;
            }
        }
    }

    /// The frames that have come, which are whole: command, subject, payload.
    fn frames(&mut self) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        let bytes = core::mem::take(&mut self.came);
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let frame = Frame::parse(rest, &Limits::NONE).expect("frames are handed out whole");
            frames.push((frame.command, frame.subject.to_vec(), frame.payload.to_vec()));
            rest = &rest[frame.encoded_len()..];
        }
        frames
    }

    fn commands(&mut self) -> Vec<u8> {
        self.frames().into_iter().map(|(command, ..)| command).collect()
    }
}

#[test]
fn a_stream_is_a_session_like_any_other() {
    let mut room = Room::new(Config::default(), 1);
    let mut browser = Browser::open(&mut room, None);
    browser.send(&mut room, &hello());
    let frames = browser.frames();
    let welcome = Hello::decode(&frames[0].2).unwrap();
    assert_eq!((welcome.features & features::OF_DATAGRAMS, welcome.session), (0, None));
    assert_ne!(welcome.features & features::PROPERTIES, 0);

    // Cut anywhere.
    for byte in [subscribe(1, "a.*"), subscribe(2, "flood")].concat() {
        browser.send(&mut room, &[byte]);
    }
    assert_eq!(browser.commands(), [command::ACK, command::ACK]);
    let now = room.now;
    room.clients[0].0.subscribe(now, "b").unwrap();
    room.settle();
    let got = room.clients[0].2;
    room.clients[0].0.publish(now, "a.x", b"from afar").unwrap();
    browser.settle(&mut room, true);
    assert_eq!(browser.frames(), [(command::MSG, b"a.x".to_vec(), b"from afar".to_vec())]);
    browser.send(&mut room, &frame(command::PUB, "b", &vec![1; 100_000]));
    assert_eq!(room.clients[0].2, got + 1);
    browser.send(&mut room, &frame(command::PING, "", b""));
    assert_eq!(browser.commands(), [command::PONG]);

    let page = room.broker.view_sessions(now, SessionCursor::default(), 100);
    let view = page.items.into_iter().find(|view| view.id == browser.id).unwrap();
    assert_eq!((view.kind, view.client.as_deref(), view.half_open), (ClientKind::WebSocket, Some("browser"), false));
    assert_eq!((view.messages.messages_in, view.messages.messages_out, view.unacked), (1, 1, 0));

    assert!(room.broker.kick(now, browser.id));
    browser.settle(&mut room, true);
    assert_eq!(browser.frames(), [(command::CLOSE, Vec::new(), vec![CloseReason::Kicked.code()])]);
    assert!(browser.ended && !room.broker.handle_stream(now, browser.id, b""));
    assert_eq!(room.broker.sessions(), 1);
}

#[test]
fn no_more_than_a_window_is_handed_out_and_the_rest_waits_as_for_any_slow_subscriber() {
    let config = Config { max_queued: 1 << 20, throttle_for: Duration::ZERO, ..Config::default() };
    let mut room = Room::new(config, 1);
    let mut browser = Browser::greeted(&mut room);
    browser.send(&mut room, &subscribe(1, "flood"));
    browser.frames();
    assert_eq!(room.flood(0, 3_000, 1_000), 3_000);
    browser.settle(&mut room, false);
    let handed_out = browser.came.len();
    assert!((STREAM_WINDOW..STREAM_WINDOW + 65_536).contains(&handed_out), "{handed_out}");
    let stats = room.broker.stats();
    assert!(stats.queued <= 1 << 20 && stats.dropped_slow > 1_000, "{stats:?}");
    let (first, dropped) = (browser.frames().len(), stats.dropped_slow);

    room.broker.on_stream_sent(room.now, browser.id, handed_out);
    browser.settle(&mut room, true);
    assert_eq!((first + browser.frames().len()) as u64 + dropped, 3_000);
    assert_eq!(room.broker.stats().queued, 0);
}

#[test]
fn one_that_never_reads_ends_and_what_it_did_not_get_is_counted() {
    let mut room = Room::new(Config::default(), 1);
    let mut browser = Browser::greeted(&mut room);
    browser.send(&mut room, &subscribe(1, "flood"));
    room.flood(0, 400, 1_000);
    browser.settle(&mut room, false);
    let before = room.broker.stats();
    for _ in 0..40 {
        room.pass(Duration::from_secs(1));
        browser.settle(&mut room, false);
    }
    assert!(browser.ended);
    let stats = room.broker.stats();
    assert_eq!((stats.stalled_sessions, stats.dropped_closed - before.dropped_closed), (1, 400 + 1), "and the CLOSE");
}

#[test]
fn one_that_is_held_back_is_not_read() {
    let mut room = Room::new(Config { high_water: 64 << 10, ..Config::default() }, 1);
    let now = room.now;
    room.clients[0].0.subscribe(now, "flood").unwrap();
    room.settle();
    let mut browser = Browser::greeted(&mut room);
    room.clients[0].1 = true;
    let before = browser.read;
    let frames: Vec<u8> = (0..3_000).flat_map(|_| frame(command::PUB, "flood", &[3; 1_000])).collect();
    browser.send(&mut room, &frames);
    assert!(browser.read - before < frames.len(), "its subscriber is behind");
    room.clients[0].1 = false;
    for _ in 0..1_000 {
        room.pass(Duration::from_millis(20));
        browser.settle(&mut room, true);
    }
    assert_eq!(browser.read - before, frames.len());
    assert_eq!(room.broker.stats().messages_in, 3_000);
}

#[test]
fn what_is_urgent_goes_before_what_waits() {
    let mut room = Room::new(Config::default(), 1);
    let mut browser = Browser::greeted(&mut room);
    browser.send(&mut room, &[subscribe(1, "flood"), subscribe(2, "urgent")].concat());
    browser.frames();
    room.flood(0, 600, 1_000);
    browser.settle(&mut room, false);
    let handed_out = browser.came.len();
    browser.frames();
    let now = room.now;
    room.clients[0].0.publish_in(now, Lane::URGENT, "urgent", b"!", Properties::NONE, None).unwrap();
    room.settle();
    room.broker.on_stream_sent(room.now, browser.id, handed_out);
    browser.settle(&mut room, true);
    assert_eq!(browser.frames()[0].1, b"urgent");
}

#[test]
fn who_is_lost_leaves_a_will_and_who_breaks_the_protocol_is_told() {
    let mut room = Room::new(Config::default(), 1);
    let now = room.now;
    room.clients[0].0.subscribe(now, "status").unwrap();
    room.settle();
    let mut browser = Browser::greeted(&mut room);
    browser.send(
        &mut room,
        &frame(command::WILL, "status", &[&[0, 0, 0, 0, 0, 0, 0, 5][..], b"gone", &properties::end(0)].concat()),
    );
    let got = room.clients[0].2;
    room.broker.on_stream_lost(now, browser.id);
    browser.settle(&mut room, true);
    assert!(browser.ended);
    assert_eq!(room.clients[0].2, got + 1);
    let mut why = None;
    while let Some(event) = room.broker.poll_event() {
        if let Event::Closed { why: ended, .. } = event {
            why = Some(ended);
        }
    }
    assert_eq!(why, Some(Ended::Lost));

    let mut browser = Browser::greeted(&mut room);
    browser.send(&mut room, &[0, 0, 0, 1, 9, 9, 9, 9]);
    assert_eq!(browser.commands(), [command::ERR, command::CLOSE]);
    assert!(browser.ended);
}

#[test]
fn a_token_lets_in_whom_it_is_of_and_nobody_else() {
    let mut room = Room::new(Config::default(), 0);
    let group = Group { name: "all".into(), ..Group::default() };
    let known = Known { name: "page".into(), proof: Proof::Token([7; 32]), group: 0 };
    // Who knows the server's key, in the clear nobody has shown that.
    let access = Access { groups: vec![group], clients: vec![known], sealed: Some(0), ..Access::default() };
    room.broker.set_access(room.now, Some(&access)).unwrap();
    for (token, commands) in
        [(Some([7; 32]), &[command::WELCOME][..]), (Some([8; 32]), &[command::CLOSE]), (None, &[command::CLOSE])]
    {
        let mut browser = Browser::open(&mut room, token);
        room.broker.handle_stream(room.now, browser.id, &hello());
        browser.settle(&mut room, true);
        let frames = browser.frames();
        assert_eq!(frames.iter().map(|(command, ..)| *command).collect::<Vec<_>>(), commands, "{token:?}");
        if commands == [command::CLOSE] {
            assert_eq!(frames[0].2, [CloseReason::Denied.code()]);
            assert!(browser.ended);
        } else {
            assert_eq!(room.broker.identity(browser.id), Some("page"));
        }
    }
}

#[test]
fn one_too_many_is_refused() {
    let mut room = Room::new(Config { max_sessions_per_host: 2, ..Config::default() }, 0);
    let mut port = PEER;
    let mut open = |room: &mut Room| {
        port += 1;
        room.broker.open_stream(room.now, SocketAddr::from(([192, 0, 2, 7], port)), None)
    };
    let first = open(&mut room).unwrap();
    open(&mut room).unwrap();
    assert_eq!(open(&mut room), Err(CloseReason::Limit));
    room.broker.on_stream_lost(room.now, first);
    assert!(open(&mut room).is_ok());
    room.broker.drain(room.now);
    assert_eq!(open(&mut room), Err(CloseReason::Shutdown));
    let mut reader = crate::frame::Reader::<Heap>::new(Limits::NONE, HeapInbox::new(64, 0));
    let bytes = refusal(CloseReason::Limit);
    let (_, read) = reader.read(&bytes);
    assert_eq!(read.unwrap().unwrap().head.frame(&bytes).payload, [CloseReason::Limit.code()]);
}
