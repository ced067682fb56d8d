//! A KCP engine in a dialogue (PROTOCOL.md 2): what it sent is acknowledged, in part or in whole, or comes back to it
//! as if from a peer, between arbitrary datagrams, sends, reads and steps of time.
//!
//! The first two bytes choose the parameters, the rest are operations, each behind a step of time. An engine over each
//! store goes through the same; after every step both must have done the same, be within their bounds, and not ask to
//! be called in the past. Where the module `kcp` reaches arbitrary states by single segments, this one keeps an exchange
//! going: windows, timers and clocks move. Or the datagrams are native ones, with lanes: what comes then says lanes that may
//! contradict themselves.

use heapless::Deque;
use kcpq_core::kcp::{
    Ack, Command, Config, CongestionControl, Early, HEADER, Header, Kcp, LaneParts, LatestMessage, Mode, Origin,
    Parked, Parts, Peer, Sent, Sn, Ts,
};
use kcpq_core::lane::Lane;
use kcpq_core::store::{
    Heap, LENT_LANES, Lent, LentKept, LentNumbers, LentRx, LentTx, NumberSlot, SlotInfo, Store, TxStream,
};
use kcpq_core::{Duration, Instant};

use crate::Seed;

const CONV: u32 = 0x0a0b_0c0d;
const WINDOW: usize = 16;
/// What may be under way: the window, and what urgent lanes may have beyond it.
const UNDER_WAY: usize = WINDOW + Config::URGENT_RESERVE as usize;
/// As long as the longest datagram that is made here, so that the slots refuse nothing that the heap takes.
const SLOT: usize = 512;
/// The most that is queued, by the heap as well.
const STREAM: usize = 4096;

/// The input, taken piece by piece; zeros behind its end.
struct Bytes<'d>(&'d [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// An engine and what it did in the last step.
struct End<S: Store> {
    kcp: Kcp<S>,
    sent: Vec<Vec<u8>>,
    /// What was read, and each time of which lane.
    read: Vec<u8>,
}

impl<S: Store> End<S> {
    fn new(config: Config, parts: Parts<S>) -> Self {
        Self { kcp: Kcp::new(CONV, config, parts), sent: Vec::new(), read: Vec::new() }
    }

    /// Native datagrams and lanes from here on.
    fn begin_lanes(&mut self, now: Instant) {
        self.kcp.negotiated(Peer { lanes: true, latest: true, pieces: true, repairs: true, ..*self.kcp.peer() });
        self.kcp.begin_numbers(now);
    }

    fn step(&mut self, now: Instant, op: &Op) {
        let read = &mut self.read;
        match op {
            Op::Datagram { bytes, origin, appetite } => {
                let mut left = *appetite;
                let _ = self.kcp.handle_datagram_lanes(now, bytes, *origin, |lane, bytes| {
                    let count = bytes.len().min(left);
                    left -= count;
                    read.push(lane.number());
                    read.extend_from_slice(&bytes[..count]);
                    count
                });
            }
            Op::Send(bytes) if self.kcp.unacked() + bytes.len() <= STREAM => {
                let _ = self.kcp.send(bytes);
            }
            Op::SendIn { lane, bytes, latest } if self.kcp.unacked() + bytes.len() <= STREAM => {
                let stream = self.kcp.stream_of(*lane).expect("memory for three lanes was lent");
                assert!(stream.push(bytes).is_ok());
                if *latest {
                    // One subject of each lane: which number it has is the store's affair.
                    self.kcp.supersede(*lane, bytes.len(), lane.number().into());
                }
            }
            Op::Send(_) | Op::SendIn { .. } | Op::Wait => {}
            Op::Read { most, lanes } => {
                let mut left = *most;
                self.kcp.recv_lanes(now, |lane, bytes| {
                    let wanted = lanes & 1 << lane.number() != 0;
                    let count = if wanted { bytes.len().min(left) } else { 0 };
                    left -= count;
                    read.push(lane.number());
                    read.extend_from_slice(&bytes[..count]);
                    count
                });
            }
            Op::Consume(count) => {
                read.push(self.kcp.front_lane().number());
                let front = self.kcp.front().map_or(0, <[u8]>::len);
                if let Some(front) = self.kcp.front() {
                    read.extend_from_slice(&front[..front.len().min(*count)]);
                }
                self.kcp.consume(now, front.min(*count));
            }
            Op::Message(room) => {
                let mut out = vec![0; *room];
                if let Ok(Some(len)) = self.kcp.recv_message(now, &mut out) {
                    read.extend_from_slice(&out[..len]);
                }
            }
            Op::Reset => self.kcp.reset(CONV),
        }
        self.transmit(now);
        self.check(now);
    }

    fn transmit(&mut self, now: Instant) {
        let mut out = [0; 2048];
        while let Some(len) = self.kcp.poll_transmit(now, &mut out) {
            assert!(len <= usize::from(self.kcp.mtu()));
            // Native items have no header to be looked at.
            let mut rest = if self.kcp.has_lanes() { &[][..] } else { &out[..len] };
            assert!(self.kcp.has_lanes() || len >= HEADER);
            while !rest.is_empty() {
                let (header, data, behind) = Header::split(rest, CONV).expect("what an engine writes is well-formed");
                assert!(header.command != Command::Push || !data.is_empty(), "an empty segment stalls a Go peer");
                assert!(usize::from(header.wnd) <= WINDOW);
                rest = behind;
            }
            self.sent.push(out[..len].to_vec());
            assert!(self.sent.len() < 1_000, "transmission without end");
        }
    }

    fn check(&self, now: Instant) {
        assert!(self.kcp.poll_timeout().is_none_or(|deadline| deadline.at > now), "this would spin");
        let reserve = if self.kcp.has_lanes() { Config::URGENT_RESERVE } else { 0 };
        assert!(self.kcp.in_flight() <= usize::from(self.kcp.config().send_window + reserve));
        assert!(self.kcp.unacked() <= STREAM && self.kcp.unsent() <= self.kcp.unacked());
        assert!(self.kcp.rtt().rto() <= Config::MAX_RTO);
        assert!(self.kcp.front().is_none_or(|front| front.len() <= SLOT));
    }
}

enum Op {
    Datagram {
        bytes: Vec<u8>,
        origin: Origin,
        appetite: usize,
    },
    Send(Vec<u8>),
    /// In another lane than 0; perhaps a message of which only the latest counts.
    SendIn {
        lane: Lane,
        bytes: Vec<u8>,
        latest: bool,
    },
    /// So many bytes, of these lanes.
    Read {
        most: usize,
        lanes: u8,
    },
    Consume(usize),
    Message(usize),
    Reset,
    Wait,
}

/// What is lent for a lane besides lane 0.
struct LaneMemory {
    stream: Vec<u8>,
    /// As many as fit the stream.
    messages: Box<Deque<LatestMessage, 1024>>,
    subjects: [NumberSlot; 1],
}

impl Default for LaneMemory {
    fn default() -> Self {
        Self { stream: vec![0; STREAM], messages: Box::default(), subjects: [NumberSlot::EMPTY] }
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let config = config(bytes.byte(), bytes.byte());

    let (mut stream, mut slots, mut memory) = ([0; STREAM], [SlotInfo::EMPTY; WINDOW], [0; WINDOW * SLOT]);
    let (mut sent, mut ends, mut acks) =
        (Deque::<Sent, UNDER_WAY>::new(), Deque::<u32, STREAM>::new(), Deque::<Ack, 64>::new());
    let (mut parked, mut early) = (Deque::<Parked<LentKept>, WINDOW>::new(), Deque::<Early, WINDOW>::new());
    let mut lanes: [LaneMemory; LENT_LANES] = core::array::from_fn(|_| LaneMemory::default());
    let lent = Parts::<Lent<'_>> {
        tx: LentTx::new(&mut stream),
        sent: sent.as_mut_view(),
        ends: ends.as_mut_view(),
        rx: LentRx::new(&mut slots, &mut memory),
        acks: acks.as_mut_view(),
    };
    let (mut heap, mut lent) = (End::new(config, Parts::heap(&config)), End::new(config, lent));
    assert!(lent.kcp.lend_lanes(parked.as_mut_view(), early.as_mut_view()));
    for LaneMemory { stream, messages, subjects } in &mut lanes {
        let (messages, subjects) = (messages.as_mut_view(), LentNumbers::new(subjects));
        assert!(lent.kcp.lend_lane(LaneParts { tx: LentTx::new(stream), messages, subjects }));
    }
    if data.first().is_some_and(|choice| choice & 64 != 0) {
        heap.kcp.negotiated(Peer { repairs: true, ..*heap.kcp.peer() });
        lent.kcp.negotiated(Peer { repairs: true, ..*lent.kcp.peer() });
    }
    // Streams only have lanes.
    let lanes = data.first().is_some_and(|choice| choice & 128 != 0 && choice & 4 == 0);

    let mut now = Instant::from_millis(u64::from(u32::MAX) - 5_000);
    let mut last = Vec::new();
    if lanes {
        heap.begin_lanes(now);
        lent.begin_lanes(now);
    }
    while !bytes.0.is_empty() {
        now += elapsed(bytes.byte());
        let op = if lanes { next_native(&mut bytes) } else { next_op(&mut bytes, &last, &heap) };
        heap.step(now, &op);
        lent.step(now, &op);
        assert_eq!(heap.sent, lent.sent, "the stores differ in what they send");
        assert_eq!(heap.read, lent.read, "the stores differ in what they deliver");
        assert_eq!(heap.kcp.poll_timeout(), lent.kcp.poll_timeout());
        assert_eq!(heap.kcp.stats(), lent.kcp.stats());
        if let Some(datagram) = heap.sent.pop() {
            last = datagram;
        }
        for read in [&mut heap.read, &mut lent.read] {
            read.clear();
        }
        heap.sent.clear();
        lent.sent.clear();
    }
}

fn config(choice: u8, windows: u8) -> Config {
    let preset = if choice & 1 == 0 { Config::GAMES } else { Config::STEADY };
    Config {
        mtu: if choice & 2 == 0 { SLOT as u16 } else { Config::MIN_MTU },
        mode: if choice & 4 == 0 { Mode::Stream } else { Mode::Message },
        ack_delay: if choice & 8 == 0 { Duration::ZERO } else { Duration::from_millis(5) },
        congestion: [CongestionControl::Off, CongestionControl::Kcp, CongestionControl::Bbr, CongestionControl::Bbr]
            [usize::from(choice >> 4 & 3)],
        send_window: u16::from(windows % WINDOW as u8) + 1,
        recv_window: u16::from((windows >> 4) % WINDOW as u8) + 1,
        ..preset
    }
}

/// From nothing to a minute, small steps being the common ones.
fn elapsed(step: u8) -> Duration {
    match step {
        0..128 => Duration::from_micros(u64::from(step) * 100),
        128..250 => Duration::from_millis(u64::from(step - 128) * 5),
        _ => Duration::from_secs(u64::from(step - 249) * 10),
    }
}

fn next_op(bytes: &mut Bytes<'_>, last: &[u8], end: &End<Heap>) -> Op {
    let kind = bytes.byte();
    let origin = if kind & 0x80 == 0 { Origin::Wire } else { Origin::Rebuilt };
    let appetite = [0, 10, usize::MAX][usize::from(kind >> 5 & 3) % 3];
    let datagram = |bytes| Op::Datagram { bytes, origin, appetite };
    match kind & 0x0f {
        0 => {
            let len = usize::from(bytes.byte()) * 2;
            datagram(bytes.take(len.min(SLOT)))
        }
        // What it sent itself: to a peer of the same numbers that is ordinary traffic.
        1 => datagram(last.to_vec()),
        2 | 3 => datagram(acknowledge(last, bytes.byte())),
        4..8 => datagram(segments(bytes)),
        8 | 9 => Op::Send(vec![bytes.byte(); usize::from(bytes.byte()) * 4]),
        10 => Op::Read { most: usize::from(bytes.byte()) * 8, lanes: u8::MAX },
        11 => Op::Consume(usize::from(bytes.byte())),
        12 => Op::Message(usize::from(bytes.byte()) * 16),
        13 if end.kcp.in_flight() > 0 && bytes.byte() == 0xa5 => Op::Reset,
        _ => Op::Wait,
    }
}

/// The same in native datagrams, with items that are likely to mean something.
fn next_native(bytes: &mut Bytes<'_>) -> Op {
    let kind = bytes.byte();
    let appetite = [0, 10, usize::MAX][usize::from(kind >> 5 & 3) % 3];
    match kind & 0x0f {
        0..9 => {
            let mut item = Vec::new();
            // Data of lanes more often than others.
            let kinds = [0x45, 0x45, 0x46, 0x65, 0x05, 0x4b, 0x07, 0x01, 0x02];
            item.push(kinds[usize::from(kind & 0x0f)]);
            item.extend([bytes.byte() % 32, 0]);
            match item[0] {
                0x01 => item.extend([bytes.byte() % 40, 0, bytes.byte(), 0]),
                0x02 => item.extend([bytes.byte(), 0]),
                0x46 => item.extend([bytes.byte() % 8, 0]),
                0x07 => item.push(bytes.byte()),
                _ => {}
            }
            // A lane, perhaps of a message of which only the latest counts or that is void, a small number, and some data.
            let lane = bytes.byte();
            item.extend([(lane % 9) | lane & 0xc0, bytes.byte() % 8, 0]);
            if lane & 0x80 != 0 {
                item.extend([bytes.byte() % 4, 0, bytes.byte() % 8, 0]);
            }
            let len = bytes.byte() % 64;
            item.extend(bytes.take(len.into()));
            Op::Datagram { bytes: item, origin: Origin::Numbered(bytes.byte().into()), appetite }
        }
        9 => Op::Send(vec![bytes.byte(); usize::from(bytes.byte()) * 4]),
        10 => {
            let choice = bytes.byte();
            let lane = [Lane::URGENT, Lane::new(3).unwrap_or_default(), Lane::BULK][usize::from(choice % 3)];
            let bytes = vec![bytes.byte(); 4 + usize::from(bytes.byte()) * 4];
            Op::SendIn { lane, bytes, latest: choice & 0x80 != 0 }
        }
        11 | 12 => Op::Read { most: usize::from(bytes.byte()) * 8, lanes: bytes.byte() },
        13 => Op::Consume(usize::from(bytes.byte())),
        _ => Op::Wait,
    }
}

/// Acknowledges the data in `datagram`, or only every other segment of it.
fn acknowledge(datagram: &[u8], choice: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = datagram;
    let mut index = 0;
    while let Ok((header, _, behind)) = Header::split(rest, CONV) {
        rest = behind;
        index += 1;
        if header.command != Command::Push || choice >> (index % 4) & 1 == 1 {
            continue;
        }
        let una = if choice & 0x10 == 0 { header.sn.plus(1) } else { header.sn };
        let wnd = u16::from(choice >> 5) * 3;
        let ack = Header { command: Command::Ack, frg: 0, wnd, una, len: 0, ..header };
        out.extend(ack.to_bytes());
    }
    out
}

/// A few segments whose numbers are small, near the wrap, or anything.
fn segments(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=bytes.byte() % 3 {
        let shape = bytes.byte();
        let number = |bytes: &mut Bytes<'_>| match shape >> 6 {
            0 | 1 => u32::from(bytes.byte() % 24),
            2 => u32::from(bytes.byte()).wrapping_sub(128),
            _ => bytes.word(),
        };
        let data = bytes.take(usize::from(shape % 64));
        let header = Header {
            conv: CONV,
            command: [
                Command::Push,
                Command::Push,
                Command::Ack,
                Command::WindowProbe,
                Command::WindowUpdate,
                Command::Repair,
            ][usize::from(bytes.byte() % 6)],
            frg: if shape & 0x20 == 0 { 0 } else { bytes.byte() },
            wnd: u16::from(bytes.byte() % 40),
            ts: Ts(number(bytes)),
            sn: Sn(number(bytes)),
            una: Sn(number(bytes)),
            // A false length is the business of arbitrary datagrams.
            len: data.len() as u32,
        };
        out.extend(header.to_bytes());
        out.extend(data);
    }
    out
}

/// Exchanges that go well, and badly.
pub fn seeds() -> Vec<Seed> {
    let send = [1, 8, b'x', 200];
    let acknowledge = [130, 2, 0xe0];
    let lose = [200, 15];
    let push = [5, 0x44, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 32, 0, 0, 0];
    let read = [1, 10, 255];
    let ask = [1, 4, 0, 0, 3, 9, 0, 0, 0];
    // Segment, lane, number in the lane.
    let lane = |sn: u8, lane: u8, number: u8| [1, 0x40, sn, lane, number, 4, b'l', b'a', b'n', b'e', sn];
    // The same of lane 1, with flow and run of a message of which only the latest counts; and a void one.
    let latest = |sn: u8, number: u8, flow: u8, run: u8| [1, 0x40, sn, 0x88, number, flow, run, 2, b'l', b'a', sn];
    let void = |sn: u8, number: u8| [1, 0x40, sn, 0x40, number, 0, sn];
    let story =
        |label: &str, setup: [u8; 2], steps: &[&[u8]]| (label.to_owned(), [&setup[..], &steps.concat()].concat());
    vec![
        story("acknowledged", [0, 0xff], &[&send, &acknowledge, &send, &acknowledge]),
        story("lost", [1, 0x88], &[&send, &lose, &send, &lose, &acknowledge]),
        story("message", [4, 0xff], &[&send, &[1, 1], &[1, 12, 255], &push]),
        story("reflected", [2, 0x1f], &[&push, &push, &ask, &read, &send, &[1, 0x41], &acknowledge]),
        story("paced", [32, 0xff], &[&send, &acknowledge, &send, &send, &acknowledge, &lose]),
        story("repaired", [64, 0xff], &[&send, &lose, &acknowledge, &push, &[1, 0x41], &send, &[1, 1], &[1, 0x41]]),
        story(
            "in lanes",
            [128, 0xff],
            &[&lane(0, 1, 0), &lane(2, 3, 0), &lane(4, 1, 2), &lane(3, 1, 1), &lane(1, 3, 1), &[1, 11, 255, 9]],
        ),
        story(
            "superseded",
            [128, 0xff],
            &[
                &latest(2, 2, 1, 2),
                &latest(1, 1, 1, 1),
                &latest(5, 5, 0, 0),
                &void(0, 0),
                &void(4, 4),
                &latest(3, 3, 2, 0),
            ],
        ),
        story(
            "lanes of its own",
            [128, 0xff],
            &[
                &[1, 10, 0, b'u', 20],
                &[1, 10, 0x80, b's', 20],
                &[1, 10, 0x80, b't', 20],
                &[1, 10, 2, b'b', 250],
                &send,
                // What it has sent is acknowledged in part: number, and what has come before it.
                &[40, 7, 4, 4, 0],
                &[200, 15],
                &[1, 10, 0x81, b'm', 3],
                &lose,
            ],
        ),
        story("congested", [24, 0xf3], &[&send, &send, &[140, 2, 0x51], &[140, 2, 0x10], &lose, &[251, 15]]),
    ]
}
