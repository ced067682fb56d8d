//! A broker that hears arbitrary datagrams from several peers, some of them made to be understood: frames of any kind in
//! segments that open a session and go on with it, plain and behind FEC headers, beside parity and noise; and streams of bytes, as
//! WebSockets bring them.
//!
//! Whatever comes: no panic, no deadline in the past, everything it holds within its limits.

use kcpq_core::access::{Access, Group, Limits, Permissions, Rules};
use kcpq_core::broker::{
    Audience, Broker, Config, Event, KeptCursor, LastValues, Peer, Presence, STREAM_WINDOW, SessionId, StreamEvent,
};
use kcpq_core::fec::header;
use kcpq_core::header as native;
use kcpq_core::kcp::{Command, Header, Sn, Ts};
use kcpq_core::{Duration, Instant};

use crate::Seed;

/// A peer is a number; two of them share a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Number(u8);

impl Peer for Number {
    type Host = u8;

    fn host(&self) -> u8 {
        self.0 / 2
    }
}

const SESSIONS: usize = 6;
const QUEUED: usize = 20_000;
const VALUES: usize = 3;
const VALUE_BYTES: usize = 800;
const WILL_BYTES: usize = 250;

/// Feeds the operations that `data` spell: each is a kind, a peer, a length, and as many bytes.
pub fn run(data: &[u8]) {
    let config = Config {
        max_sessions: SESSIONS,
        max_sessions_per_host: 3,
        max_subscriptions: 4,
        max_queued: QUEUED,
        max_queued_total: 3 * QUEUED,
        stateless_replies: 10,
        presence: Presence { audience: Audience::Everybody, addresses: true, per_second: 4 },
        max_will: 100,
        max_wills_total: WILL_BYTES,
        ..Config::default()
    };
    // As original ones they are given last values as well.
    let values = LastValues {
        subjects: vec!["x.>".into()],
        max_subjects: VALUES,
        max_bytes: VALUE_BYTES,
        max_value: 200,
        original: data.len().is_multiple_of(2),
    };
    let broker = Broker::new(config, data.len() as u64).with_last_values(&values);
    let mut broker = broker.expect("patterns that make sense");
    let mut now = Instant::from_millis(1);
    let mut next = [0u32; 8];
    let mut seqid = 0u32;
    // The name of each peer's session, and the last number.
    let mut named = [(0u64, 0u64); 8];
    let mut streams = Streams::default();
    let mut out = vec![0; 20_000];
    let mut rest = data;
    while let [kind, peer, len, tail @ ..] = rest {
        let (payload, tail) = tail.split_at((*len as usize).min(tail.len()));
        rest = tail;
        let peer = peer % 8;
        let mut datagram = Vec::new();
        match kind % 8 {
            // Bytes as they are.
            0 if *kind == 0 => datagram.extend_from_slice(payload),
            // Items for the session that some peer had last, from this one.
            0 => {
                let (name, number) = &mut named[usize::from(kind / 8 % 8)];
                *number += 1;
                datagram.extend(native::header(*name, native::kind::DATA, *number));
                datagram.extend_from_slice(payload);
            }
            // The next segment of the peer's stream.
            1..=4 => {
                if kind % 8 == 4 {
                    datagram.extend([0; header::LEN]);
                }
                let sn = &mut next[peer as usize];
                let head = Header {
                    conv: u32::from(peer),
                    command: Command::Push,
                    frg: 0,
                    wnd: 64,
                    ts: Ts(0),
                    sn: Sn(*sn),
                    una: Sn(u32::from(kind / 8)),
                    len: payload.len() as u32,
                };
                *sn += 1;
                datagram.extend(head.to_bytes());
                datagram.extend_from_slice(payload);
                if kind % 8 == 4 {
                    header::write_data(seqid, &mut datagram).expect("room for a header");
                    seqid = seqid.wrapping_add(1);
                }
            }
            // Parity, or what claims to be.
            5 => {
                datagram.extend(header::Header { seqid, kind: header::Kind::Parity }.to_bytes());
                datagram.extend_from_slice(payload);
                seqid = seqid.wrapping_add(1);
            }
            // The peer begins anew.
            6 => next[peer as usize] = 0,
            // Another way to come: bytes of a stream, or its end. Some never take what they are sent.
            _ if kind / 8 % 4 == 3 => streams.act(&mut broker, now, usize::from(peer), payload),
            // The rules of who may do what change, or time passes.
            _ if kind / 8 % 4 == 1 => broker.set_access(now, Some(&rules(*len))).expect("rules that make sense"),
            _ if kind / 8 % 4 == 2 => broker.set_access(now, None).expect("no rules"),
            _ => now += Duration::from_millis(u64::from(*len) * 500),
        }
        if !datagram.is_empty() {
            broker.handle_datagram(now, Number(peer), &mut datagram);
        }
        broker.handle_timeout(now);
        let mut sent = 0;
        loop {
            while let Some(transmit) = broker.poll_transmit(now, &mut out) {
                assert!(transmit.len > 0 && transmit.len <= out.len());
                sent += 1;
                assert!(sent < 10_000, "it would send for ever");
            }
            if !streams.take(&mut broker, now) {
                break;
            }
            sent += 1;
        }
        while let Some(event) = broker.poll_event() {
            if let Event::Greeted { peer, name: Some(name), .. } = event {
                named[usize::from(peer.0)] = (name, 0);
            }
        }
        if let Some(deadline) = broker.poll_timeout() {
            assert!(deadline.at > now, "a deadline that has passed: {deadline:?}");
        }
        let stats = broker.stats();
        assert!(broker.sessions() <= SESSIONS);
        let page = broker.view_kept(&KeptCursor::default(), VALUES + 1);
        assert!(page.next.is_none() && page.items.len() as u64 == stats.kept && page.items.len() <= VALUES);
        assert!(stats.kept_bytes <= VALUE_BYTES as u64, "{} bytes are kept", stats.kept_bytes);
        assert!(page.items.iter().all(|value| !value.payload().is_empty()), "nothing is no value");
        assert!(page.items.iter().all(|value| value.left.is_none_or(|left| !left.is_zero())), "one that has lapsed");
        assert!(stats.wills <= broker.sessions() as u64 && stats.wills_bytes <= WILL_BYTES as u64, "{stats:?}");
        assert!(stats.subscriptions <= (SESSIONS * 4) as u64);
        // One message always may wait for a session.
        assert!(stats.queued <= (4 * QUEUED + SESSIONS * 300) as u64, "{} bytes wait", stats.queued);
    }
}

/// Who carries the streams of peers, as a driver does.
#[derive(Default)]
struct Streams {
    open: [Option<Carried>; 8],
}

struct Carried {
    id: SessionId,
    /// Bytes that came and were not told to be read; that were handed out and not told to be sent.
    unread: usize,
    unsent: usize,
}

impl Streams {
    /// The bytes are for the stream of this peer, which is opened if there is none; if there are none it ends.
    fn act(&mut self, broker: &mut Broker<Number>, now: Instant, peer: usize, bytes: &[u8]) {
        let place = &mut self.open[peer];
        match place {
            None => {
                let token = bytes.first().filter(|first| **first > 200).map(|first| [*first; 32]);
                let id = broker.open_stream(now, Number(16 + peer as u8), token);
                *place = id.ok().map(|id| Carried { id, unread: 0, unsent: 0 });
            }
            Some(stream) if bytes.is_empty() => {
                broker.on_stream_lost(now, stream.id);
                assert!(!broker.handle_stream(now, stream.id, b"late"));
            }
            Some(stream) => {
                assert!(broker.handle_stream(now, stream.id, bytes), "one that has ended says so");
                stream.unread += bytes.len();
            }
        }
    }

    /// True if there was something.
    fn take(&mut self, broker: &mut Broker<Number>, now: Instant) -> bool {
        let (mut sent, mut any) = (Vec::new(), false);
        while let Some((id, event)) = broker.poll_stream() {
            any = true;
            let place = self
                .open
                .iter_mut()
                .enumerate()
                .find(|(_, stream)| stream.as_ref().is_some_and(|known| known.id == id));
            let (peer, place) = place.expect("a stream that was opened");
            let stream = place.as_mut().expect("it was found");
            match event {
                StreamEvent::Frames(frames) => {
                    let mut rest = &frames[..];
                    while !rest.is_empty() {
                        let frame = kcpq_core::frame::Frame::parse(rest, &kcpq_core::frame::Limits::NONE);
                        rest = &rest[frame.expect("whole frames").encoded_len()..];
                    }
                    stream.unsent += frames.len();
                    assert!(stream.unsent < STREAM_WINDOW + QUEUED + (64 << 10), "{} bytes", stream.unsent);
                    sent.push((peer, id, frames.len()));
                }
                StreamEvent::Read(bytes) => {
                    stream.unread = stream.unread.checked_sub(bytes).expect("no more than came");
                }
                StreamEvent::Ended => *place = None,
            }
        }
        for (peer, id, bytes) in sent.into_iter().filter(|(peer, ..)| *peer != 7) {
            if let Some(stream) = &mut self.open[peer] {
                stream.unsent -= bytes;
            }
            broker.on_stream_sent(now, id, bytes);
        }
        any
    }
}

/// Rules of several kinds.
fn rules(kind: u8) -> Access {
    let rules =
        |allow: bool, deny: bool| Rules::of(allow.then_some(&["a.>", "x.*"]), if deny { &["*.b"] } else { &[] });
    let permissions =
        Permissions { publish: rules(kind & 1 != 0, kind & 2 != 0), subscribe: rules(kind & 4 != 0, kind & 8 != 0) };
    let limits = Limits {
        sessions: (kind & 16 != 0).then_some(2),
        subscriptions: (kind & 16 != 0).then_some(1),
        bytes_per_second: (kind & 32 != 0).then_some(100),
        queued: (kind & 32 != 0).then_some(1_000),
    };
    let groups = vec![Group { permissions, limits, ..Group::default() }];
    let (anonymous, original) = ((kind & 64 == 0).then_some(0), (kind & 128 == 0).then_some(0));
    Access { groups, anonymous, original, ..Access::default() }
}

/// A frame of the protocol.
fn frame(command: u8, subject: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 7 + subject.len() + payload.len()];
    kcpq_core::frame::Frame { command, subject: subject.as_bytes(), payload }.encode(&mut bytes);
    bytes
}

/// A segment of peer 3 about datagrams of so many bytes.
fn about_path(command: Command, len: u32) -> [u8; kcpq_core::kcp::HEADER] {
    Header { conv: 3, command, frg: 0, wnd: 64, ts: Ts(0), sn: Sn(len), una: Sn(0), len: 0 }.to_bytes()
}

/// An operation as [`run`] reads it.
fn op(kind: u8, peer: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, peer, payload.len() as u8], payload].concat()
}

/// Conversations of both kinds of client.
pub fn seeds() -> Vec<Seed> {
    let original = [
        op(4, 1, &frame(1, "a.*", b"")),
        op(4, 2, &frame(3, "a.b", b"hello")),
        op(4, 1, &frame(5, "", b"")),
        op(5, 1, &[7; 60]),
        op(4, 1, &frame(2, "a.*", b"")),
        op(7, 0, &[0; 250]),
    ]
    .concat();
    let mut hello = [0; kcpq_core::hello::MAX_WELCOME];
    let len = kcpq_core::hello::Hello {
        version: 1,
        features: 0x1fd,
        max_datagram: 1_500,
        window: 32,
        max_body: 1 << 20,
        max_subject: 100,
        max_tokens: 8,
        keep_alive: 15,
        epoch: 0,
        name: "fuzz",
        session: None,
    }
    .encode(&mut hello);
    let native = [
        op(4, 3, &frame(0x10, "", &hello[..len])),
        op(1, 3, &frame(1, ">", &[0, 0, 0, 9])),
        op(1, 3, &frame(1, "x.*", &[0, 0, 0, 10, 1])),
        op(1, 3, &frame(3, "x.y", &[1; 200])),
        op(1, 3, &frame(3, "x..y", b"")),
        op(1, 3, &frame(0x15, "x.y", &[1, 1, 0x81, 0, 4, 0, 0, 3, 232, 0, 7])),
        op(1, 3, &frame(0x15, "x.y", &[1, 1, 1, 0, 1, b'r', 2, 0, 3, 1, b'n', b'v', 0, 10])),
        op(1, 3, &frame(0x15, "x.y", &[1, 1, 0x41, 0, 0, 0, 3])),
        op(1, 3, &frame(0x15, "x.y", &[1, 1, 0x83, 0, 4, 0, 0, 0, 9, 0, 7])),
        op(1, 3, &frame(0x15, "x..y", &[1, 1, 0x83, 0, 4, 0, 0, 0, 9, 0, 7])),
        op(1, 3, &frame(0x15, "x.y", &[1, 1])),
        // To be kept: for ever, for a second, too long; given to a later subscription, once; and taken away.
        op(1, 3, &frame(0x15, "a", &[1, 0x82, 0, 0, 0, 3])),
        op(1, 3, &frame(0x15, "b.c", &[1, 0x82, 0, 0, 0x81, 0, 4, 0, 0, 3, 232, 0, 10])),
        op(1, 3, &frame(0x15, "d", &[&[1; 200][..], &[0x82, 0, 0, 0, 3]].concat())),
        op(1, 3, &frame(1, "*", &[0, 0, 0, 11])),
        op(1, 3, &frame(1, "*", &[0, 0, 0, 11])),
        op(1, 3, &frame(1, "*", &[0, 0, 0, 12])),
        op(1, 3, &frame(1, "a", &[0, 0, 0, 13, 4])),
        op(1, 3, &frame(0x15, "x.y", &[1, 6, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 11])),
        op(1, 3, &frame(0x15, "a", &[0x82, 0, 0, 0, 3])),
        // A will; watching; one that is too long; one taken back; one that makes no sense.
        op(1, 3, &frame(0x18, "x.y", &[0, 0, 0, 0, 0, 0, 0, 7, 1, 0x82, 0, 0, 0, 3])),
        op(1, 3, &frame(1, "$KCPQ.>", &[0, 0, 0, 14])),
        op(1, 3, &frame(3, "$KCPQ.a", b"")),
        op(1, 3, &frame(0x18, "x.y", &[&[0, 0, 0, 0, 0, 0, 0, 7][..], &[1; 100], &[0, 0]].concat())),
        op(1, 3, &frame(0x18, "x.y", &[0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0])),
        op(1, 3, &frame(0x18, "", &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0])),
        op(1, 3, &frame(0x18, "x.y", &[0, 0, 0, 0, 0, 0, 0, 7, 2, 0, 0])),
        op(1, 3, &frame(0x18, "x.y", &[0, 0, 0])),
        op(1, 3, &frame(77, "", b"")),
        op(1, 3, &frame(0x12, "", &[0])),
        op(0, 3, &about_path(Command::MtuProbe, 1_300)),
        op(0, 3, &about_path(Command::MtuProbeAck, 1_400)),
        op(1, 3, b"late"),
        op(6, 3, b""),
        op(1, 3, &[0, 0, 0, 1, 9]),
    ]
    .concat();
    let streamed = [
        op(31, 0, b""),
        op(31, 0, &frame(0x10, "", &hello[..len])),
        op(31, 0, &[frame(1, "x.*", &[0, 0, 0, 9]), frame(3, "x.y", &[1; 90]), frame(5, "", b"")].concat()),
        op(31, 0, &frame(0x15, "x.y", &[1, 1, 0x81, 0, 4, 0, 0, 3, 232, 0, 7])[..9]),
        op(31, 0, &frame(0x15, "x.y", &[1, 1, 0x81, 0, 4, 0, 0, 3, 232, 0, 7])[9..]),
        op(31, 0, &frame(0x18, "x.y", &[0, 0, 0, 0, 0, 0, 0, 7, 1, 0x82, 0, 0, 0, 3])),
        op(31, 7, &[]),
        op(31, 7, &frame(0x10, "", &hello[..len])),
        op(31, 7, &frame(1, "x.*", &[0, 0, 0, 9])),
        op(31, 0, &frame(3, "x.y", &[1; 90])),
        op(31, 0, b""),
        op(31, 2, &[250]),
        op(31, 2, &[0, 0, 0, 1, 9]),
        op(31, 1, &[]),
        op(31, 1, &frame(0x12, "", &[0])),
        op(7, 0, &[0; 250]),
    ]
    .concat();
    let moving = [
        op(4, 3, &frame(0x10, "", &hello[..len])),
        // WINS, then SUB, then the same from elsewhere, and an answer to the challenge that nobody could know.
        op(24, 3, &[4, 1, 0, 32, 0]),
        op(24, 3, &[&[5, 1, 0][..], &frame(1, ">", &[0, 0, 0, 9])].concat()),
        op(24, 5, &[&[6, 2, 0, 13, 0][..], &frame(3, "x.y", &[1; 3]), &[2, 1, 0, 5, 0]].concat()),
        op(24, 5, &[0x11, 1, 2, 3, 4, 5, 6, 7, 8]),
        op(24, 3, &[1, 2, 0, 32, 0, 7, 0]),
        op(32, 3, &[3]),
    ]
    .concat();
    let restricted =
        [&op(7 + 8, 0, &[0; 0x3f])[..], &native, &op(7 + 8, 0, &[0; 0xff]), &original, &op(7 + 16, 0, &[])];
    let restricted = restricted.concat();
    vec![
        ("original".to_owned(), original),
        ("native".to_owned(), native),
        ("streamed".to_owned(), streamed),
        ("moving".to_owned(), moving),
        ("restricted".to_owned(), restricted),
        ("noise".to_owned(), op(0, 0, &[0; 40])),
    ]
}
