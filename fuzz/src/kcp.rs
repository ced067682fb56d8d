//! A KCP engine under arbitrary datagrams, calls and times (PROTOCOL.md 2).
//!
//! The input is a configuration byte and a list of operations. The same list drives an engine over each store; both
//! must behave alike to the byte, and what they send must satisfy [`check_sent`], which reads it independently.

use heapless::Deque;
use kcpq_core::kcp::{Ack, Config, Kcp, Mode, Origin, Parts, Peer, Sent};
use kcpq_core::store::{Lent, LentRx, LentTx, SlotInfo, Store};
use kcpq_core::{Duration, Instant};

use crate::Seed;

const CONV: u32 = 0x1122_3344;
const HEADER: usize = 24;
const MTU: u16 = 128;
const WINDOW: u16 = 16;
/// Bytes that the outgoing stream holds.
const STREAM: usize = 4096;
/// Bytes that a slot of the receive window holds: no shorter than the longest datagram of an input.
const SLOT: usize = 256;
/// More records than an input can ask for, so that only the named bounds above are ever reached.
const RECORDS: usize = 8192;

/// What an operation's first byte, modulo 8, asks for.
mod op {
    /// The next byte is a length, then come so many bytes of a datagram.
    pub(super) const DATAGRAM: u8 = 0;
    /// A datagram of one segment: command, `sn` and `una` in one byte each, 2 bytes `wnd`, and a length of data.
    pub(super) const SEGMENT: u8 = 1;
    /// Sends as many bytes as the next byte says.
    pub(super) const SEND: u8 = 2;
    /// The reader is willing to take as many bytes as the next byte says.
    pub(super) const RECV: u8 = 3;
    /// As many milliseconds pass as the next byte says.
    pub(super) const WAIT: u8 = 4;
    /// Time passes up to the engine's next deadline.
    pub(super) const DEADLINE: u8 = 5;
    /// As `SEGMENT`, but as if rebuilt.
    pub(super) const REBUILT: u8 = 6;
    /// Another conversation begins.
    pub(super) const RESET: u8 = 7;
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some((&choice, operations)) = data.split_first() else { return };
    let preset = [Config::GAMES, Config::VIDEO, Config::STEADY][usize::from(choice >> 1) % 3];
    let mode = if choice & 1 == 0 { Mode::Stream } else { Mode::Message };
    let config = Config { mtu: MTU, send_window: WINDOW, recv_window: WINDOW, mode, ..preset };

    let (mut tx, mut slots) = ([0; STREAM], [SlotInfo::EMPTY; WINDOW as usize]);
    let mut bytes = [0; SLOT * WINDOW as usize];
    let (mut sent, mut ends) = (Deque::<Sent, RECORDS>::new(), Deque::<u32, RECORDS>::new());
    let mut acks = Deque::<Ack, RECORDS>::new();
    let lent: Parts<Lent<'_>> = Parts {
        tx: LentTx::new(&mut tx),
        sent: sent.as_mut_view(),
        ends: ends.as_mut_view(),
        rx: LentRx::new(&mut slots, &mut bytes),
        acks: acks.as_mut_view(),
    };
    let repairs = choice & 0x80 != 0;
    let heap = drive(Kcp::new(CONV, config, Parts::heap(&config)), repairs, operations);
    assert_eq!(heap, drive(Kcp::new(CONV, config, lent), repairs, operations));
}

/// What an engine did: everything it sent, then everything it delivered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Trace {
    sent: Vec<(Instant, Vec<u8>)>,
    got: Vec<u8>,
}

fn drive<S: Store>(mut engine: Kcp<S>, repairs: bool, operations: &[u8]) -> Trace {
    if repairs {
        engine.negotiated(Peer { repairs: true, ..*engine.peer() });
    }
    let mut trace = Trace::default();
    let mut now = Instant::from_millis(1);
    let mut appetite = 0;
    let mut input = Input(operations);
    while let Some(operation) = input.byte() {
        match operation % 8 {
            op::DATAGRAM => {
                let length = input.byte().unwrap_or(0);
                let datagram = input.take(usize::from(length));
                deliver(&mut engine, now, datagram, Origin::Wire, &mut appetite, &mut trace);
            }
            kind @ (op::SEGMENT | op::REBUILT) => {
                let datagram = input.segment(engine.conv());
                let origin = if kind == op::SEGMENT { Origin::Wire } else { Origin::Rebuilt };
                deliver(&mut engine, now, &datagram, origin, &mut appetite, &mut trace);
            }
            op::SEND => {
                let count = usize::from(input.byte().unwrap_or(0));
                if engine.unacked() + count <= STREAM {
                    let _ = engine.send(&vec![operation; count]);
                }
            }
            op::RECV => {
                appetite = usize::from(input.byte().unwrap_or(0));
                recv(&mut engine, now, &mut appetite, &mut trace);
            }
            op::WAIT => now += Duration::from_millis(u64::from(input.byte().unwrap_or(0))),
            op::DEADLINE => now = engine.poll_timeout().map_or(now, |deadline| deadline.at.max(now)),
            _ => engine.reset(engine.conv().wrapping_add(1)),
        }
        settle(&mut engine, now, &mut trace);
    }
    trace
}

fn deliver<S: Store>(
    engine: &mut Kcp<S>,
    now: Instant,
    datagram: &[u8],
    origin: Origin,
    appetite: &mut usize,
    trace: &mut Trace,
) {
    let _ = engine.handle_datagram(now, datagram, origin, |bytes| feed(bytes, appetite, trace));
}

/// A reader that takes no more than it is willing to.
fn feed(bytes: &[u8], appetite: &mut usize, trace: &mut Trace) -> usize {
    let count = bytes.len().min(*appetite);
    *appetite -= count;
    trace.got.extend_from_slice(&bytes[..count]);
    count
}

fn recv<S: Store>(engine: &mut Kcp<S>, now: Instant, appetite: &mut usize, trace: &mut Trace) {
    if engine.config().mode == Mode::Stream {
        engine.recv(now, |bytes| feed(bytes, appetite, trace));
        return;
    }
    let mut message = [0; SLOT * WINDOW as usize];
    while let Some(length) = engine.message_len().filter(|length| length <= appetite) {
        assert_eq!(engine.recv_message(now, &mut message), Ok(Some(length)));
        // An empty message costs appetite too, or an endless row of them would be read here.
        *appetite -= length.max(1).min(*appetite);
        trace.got.extend_from_slice(&message[..length]);
        if *appetite == 0 {
            break;
        }
    }
}

/// Takes everything that is due, and looks at what must hold whenever an engine is at rest.
fn settle<S: Store>(engine: &mut Kcp<S>, now: Instant, trace: &mut Trace) {
    let mut out = [0; 2 * MTU as usize];
    let before = trace.sent.len();
    while let Some(length) = engine.poll_transmit(now, &mut out) {
        check_sent(&out[..length], engine.conv());
        trace.sent.push((now, out[..length].to_vec()));
        assert!(trace.sent.len() - before <= RECORDS, "one moment has no end");
    }
    assert!(engine.poll_timeout().is_none_or(|deadline| deadline.at > now), "what is due was not sent");
    assert!(engine.in_flight() <= usize::from(WINDOW));
    assert!(engine.unacked() <= STREAM && engine.unsent() <= engine.unacked());
}

/// What every datagram must be (PROTOCOL.md 2.1, 2.3): whole segments of this conversation, no longer than the MTU, of
/// known commands, and data in PUSH and REPAIR alone, which are never empty.
fn check_sent(datagram: &[u8], conv: u32) {
    assert!((HEADER..=usize::from(MTU)).contains(&datagram.len()));
    let mut rest = datagram;
    while !rest.is_empty() {
        let (head, behind) = rest.split_first_chunk::<HEADER>().expect("a whole header");
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        assert_eq!(word(0), conv);
        assert!((81..=85).contains(&head[4]), "command {}", head[4]);
        assert_eq!(word(20) > 0, matches!(head[4], 81 | 85), "data in PUSH and REPAIR and nowhere else");
        (_, rest) = behind.split_at_checked(word(20) as usize).expect("all the data announced");
    }
}

/// The operations not yet read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// A well-formed segment from a few bytes: arbitrary ones seldom get beyond the check of the conversation.
    fn segment(&mut self, conv: u32) -> Vec<u8> {
        let mut next = || self.byte().unwrap_or(0);
        let (cmd, sn, una, wnd) = (next(), next(), next(), [next(), next()]);
        let length = next();
        let data = self.take(usize::from(length).min(SLOT - HEADER));
        // Numbers around zero, on both sides of the wrap.
        let number = |byte: u8| i32::from(byte.cast_signed()).cast_unsigned();
        segment(conv, 81 + cmd % 5, number(sn), number(una), wnd, data)
    }
}

fn segment(conv: u32, cmd: u8, sn: u32, una: u32, wnd: [u8; 2], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("segments here are short");
    let mut bytes = conv.to_le_bytes().to_vec();
    bytes.extend([cmd, 0, wnd[0], wnd[1]]);
    for word in [1, sn, una, length] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(data);
    bytes
}

/// Each command, several segments in one datagram, headers that lie, and conversations with loss on either side.
pub fn seeds() -> Vec<Seed> {
    let whole = |cmd, sn, una, data: &[u8]| segment(CONV, cmd, sn, una, [32, 0], data);
    let mut lying = whole(81, 0, 0, b"hello");
    lying[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let datagrams = [
        ("push", whole(81, 0, 0, b"hello")),
        ("push-empty", whole(81, 0, 0, b"")),
        ("push-ahead", whole(81, 15, 0, b"hello")),
        ("push-too-far-ahead", whole(81, 16, 0, b"hello")),
        ("ack-of-nothing", whole(82, 0, 0, b"")),
        ("ask-and-tell", [whole(83, 0, 0, b""), whole(84, 0, 0, b"")].concat()),
        ("several", [whole(82, 0, 1, b""), whole(81, 0, 1, b"one"), whole(81, 1, 1, b"two")].concat()),
        ("unknown-command", whole(99, 0, 0, b"")),
        ("foreign", segment(!CONV, 81, 0, 0, [32, 0], b"hello")),
        ("lying-length", lying),
    ];
    let mut seeds: Vec<Seed> = Vec::new();
    for (label, bytes) in datagrams {
        let length = u8::try_from(bytes.len()).expect("datagrams here are short");
        let operations = [&[op::RECV, 255, op::DATAGRAM, length][..], &bytes, &[op::RECV, 255]].concat();
        seeds.extend(
            [("stream", 0), ("message", 1)]
                .map(|(mode, choice)| (format!("{label}-{mode}"), [&[choice][..], &operations].concat())),
        );
    }

    let ack = |sn| [op::SEGMENT, 1, sn, 0, 32, 0, 0];
    let push = |sn| [op::SEGMENT, 0, sn, 0, 32, 0, 2, b'h', b'i'];
    let sender = [&[op::SEND, 255, op::SEND, 255, op::DEADLINE][..], &ack(1), &ack(2), &ack(3), &[op::DEADLINE; 3]];
    let receiver = [&push(1)[..], &push(0), &[op::RECV, 3], &push(2), &[op::RECV, 9], &push(2), &[op::DEADLINE]];
    let closed = [&[op::SEND, 200][..], &[op::SEGMENT, 3, 0, 0, 0, 0, 0], &[op::DEADLINE; 6], &ack(0), &[op::RESET]];
    for (label, operations) in
        [("sender", sender.concat()), ("receiver", receiver.concat()), ("closed", closed.concat())]
    {
        seeds.extend((0..6).map(|choice| (format!("{label}-{choice}"), [&[choice][..], &operations].concat())));
    }
    seeds
}
