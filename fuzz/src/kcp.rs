//! KCP input (WIRE.md 2.1): arbitrary datagrams.
//!
//! [`Segments`] reads a datagram independently of the engine, so that what an engine sends can be judged by it.

use crate::Seed;

/// The bytes of a segment's header.
pub const HEADER: usize = 24;

/// One segment of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The conversation.
    pub conv: u32,
    /// 81 PUSH, 82 ACK, 83 WASK, 84 WINS.
    pub cmd: u8,
    /// Fragments of the message still to follow.
    pub frg: u8,
    /// The sender's free receive window in segments.
    pub wnd: u16,
    /// A clock in milliseconds.
    pub ts: u32,
    /// The segment's number.
    pub sn: u32,
    /// The first number not received.
    pub una: u32,
    /// What a PUSH carries.
    pub data: &'a [u8],
}

/// Reads the segments of a datagram. Ends where the rest is no whole segment.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    /// What is not read yet.
    pub rest: &'a [u8],
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<HEADER>()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (data, rest) = rest.split_at_checked(word(20) as usize)?;
        self.rest = rest;
        let wnd = u16::from_le_bytes([head[6], head[7]]);
        let (conv, ts, sn, una) = (word(0), word(8), word(12), word(16));
        Some(Segment { conv, cmd: head[4], frg: head[5], wnd, ts, sn, una, data })
    }
}

/// The bytes of a segment.
pub fn encode(segment: &Segment<'_>) -> Vec<u8> {
    let Segment { conv, cmd, frg, wnd, ts, sn, una, data } = segment;
    let length = u32::try_from(data.len()).expect("segments here are short");
    let mut bytes = conv.to_le_bytes().to_vec();
    bytes.extend([*cmd, *frg]);
    bytes.extend(wnd.to_le_bytes());
    for word in [*ts, *sn, *una, length] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(*data);
    bytes
}

/// What the reader reads, its encoder writes again.
pub fn run(data: &[u8]) {
    let mut segments = Segments { rest: data };
    let again: Vec<u8> = segments.by_ref().flat_map(|segment| encode(&segment)).collect();
    assert_eq!([&again, segments.rest].concat(), data);
}

/// The conversation of the seeds; an engine under test should have this one.
pub const CONV: u32 = 0x1122_3344;

/// Each command, several segments in one datagram, numbers at the wrap-around, and headers that lie.
pub fn seeds() -> Vec<Seed> {
    let segment = |cmd, sn, una, data: &'static [u8]| {
        encode(&Segment { conv: CONV, cmd, frg: 0, wnd: 32, ts: 1000, sn, una, data })
    };
    let foreign = Segment { conv: !CONV, cmd: 81, frg: 0, wnd: 32, ts: 0, sn: 0, una: 0, data: b"hello" };
    let mut lying = segment(81, 0, 0, b"hello");
    lying[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    vec![
        ("push", segment(81, 0, 0, b"hello")),
        ("push-empty", segment(81, 0, 0, b"")),
        ("push-ahead", segment(81, 31, 0, b"hello")),
        ("ack", segment(82, 0, 0, b"")),
        ("wask-wins", [segment(83, 0, 0, b""), segment(84, 0, 0, b"")].concat()),
        ("several", [segment(82, 0, 1, b""), segment(81, 0, 1, b"one"), segment(81, 1, 1, b"two")].concat()),
        ("wrap", [segment(81, u32::MAX, u32::MAX, b"last"), segment(81, 0, u32::MAX, b"first")].concat()),
        ("unknown-command", segment(99, 0, 0, b"")),
        ("foreign-conv", encode(&foreign)),
        ("lying-length", lying),
    ]
}
