//! The engine against the `kcp` crate, another implementation of the protocol, over a bad link in virtual time.
//!
//! The link loses, doubles and reorders, but flips no bits: the crate panics on some inputs that no KCP would send.

#[path = "common/engine.rs"]
mod engine;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use fastrand::Rng;
use kcpq_core::kcp::{Config, Kcp, Mode, Origin, SendError};
use kcpq_core::sim::{self, Link};
use kcpq_core::store::{Heap, Lent, Store};
use kcpq_core::{Duration, Instant};

use self::engine::Make;

const CONV: u32 = 0x0506_0708;
const SEEDS: u64 = 6;

/// Messages, or pieces of a stream.
type Messages = Vec<Vec<u8>>;

/// Where the crate puts its datagrams.
#[derive(Clone, Default)]
struct Output(Rc<RefCell<VecDeque<Vec<u8>>>>);

impl io::Write for Output {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The crate's engine and when it wants its next tick.
struct Theirs {
    kcp: kcp::Kcp<Output>,
    output: Output,
    tick: Instant,
}

impl Theirs {
    fn new(mode: Mode, config: &Config) -> Self {
        let output = Output::default();
        let mut kcp = match mode {
            Mode::Stream => kcp::Kcp::new_stream(CONV, output.clone()),
            _ => kcp::Kcp::new(CONV, output.clone()),
        };
        kcp.set_mtu(usize::from(config.mtu)).unwrap();
        kcp.set_nodelay(true, 10, 2, true);
        kcp.set_wndsize(config.send_window, config.recv_window);
        Self { kcp, output, tick: Instant::ZERO }
    }
}

/// Ours, theirs, and the links between them.
struct Pair<S: Store> {
    now: Instant,
    ours: Kcp<S>,
    theirs: Theirs,
    there: Link,
    back: Link,
    /// What each end has read: bytes of a stream, or messages.
    read_by_ours: Messages,
    read_by_theirs: Messages,
}

impl<S: Make> Pair<S> {
    fn new(config: Config, seed: u64) -> Self {
        let link = sim::Config {
            jitter: Duration::from_millis(30),
            loss: 0.1,
            duplicate: 0.05,
            ..sim::Config::clean(Duration::from_millis(20))
        };
        Self {
            now: Instant::from_millis(1),
            ours: S::engine(CONV, config),
            theirs: Theirs::new(config.mode, &config),
            there: Link::new(link, seed),
            back: Link::new(link, !seed),
            read_by_ours: Vec::new(),
            read_by_theirs: Vec::new(),
        }
    }

    fn read_ours(&mut self) {
        if self.ours.config().mode == Mode::Stream {
            let read = &mut self.read_by_ours;
            self.ours.recv(self.now, |bytes| {
                read.push(bytes.to_vec());
                bytes.len()
            });
            return;
        }
        let mut out = [0; 20_000];
        while let Some(len) = self.ours.recv_message(self.now, &mut out).expect("the buffer is large enough") {
            self.read_by_ours.push(out[..len].to_vec());
        }
    }

    fn read_theirs(&mut self) {
        let mut out = [0; 20_000];
        while let Ok(len) = self.theirs.kcp.recv(&mut out) {
            self.read_by_theirs.push(out[..len].to_vec());
        }
    }

    /// Goes to the next moment at which something happens, and handles all of it.
    fn step(&mut self) {
        let events = [
            self.ours.poll_timeout().map(|deadline| deadline.at),
            self.there.next_arrival(),
            self.back.next_arrival(),
            Some(self.theirs.tick),
        ];
        self.now = events.into_iter().flatten().min().expect("their tick").max(self.now);
        while let Some(datagram) = self.back.recv(self.now) {
            // Part of the stream goes straight to the reader, the rest by way of the receive window.
            let read = &mut self.read_by_ours;
            let take = datagram.len() % 3;
            let sink = |bytes: &[u8]| {
                let count = bytes.len() * take / 2;
                read.push(bytes[..count].to_vec());
                count
            };
            self.ours.handle_datagram(self.now, &datagram, Origin::Wire, sink).expect("the crate speaks KCP");
        }
        while let Some(datagram) = self.there.recv(self.now) {
            self.theirs.kcp.input(&datagram).expect("the crate understands us");
        }
        self.read_ours();
        self.read_theirs();
        if self.theirs.tick <= self.now {
            // Rounded down, so that no echo of a tick that is under way lies in the future.
            let millis = self.now.as_wire_millis();
            self.theirs.kcp.update(millis).expect("the output takes everything");
            let wait = self.theirs.kcp.check(millis).max(1);
            self.theirs.tick = self.now + Duration::from_millis(u64::from(wait));
        }
        while let Some(datagram) = self.theirs.output.0.borrow_mut().pop_front() {
            self.back.send(self.now, &datagram);
        }
        let mut buf = [0; 1500];
        while let Some(len) = self.ours.poll_transmit(self.now, &mut buf) {
            self.there.send(self.now, &buf[..len]);
        }
        assert!(self.ours.poll_timeout().is_none_or(|deadline| deadline.at > self.now), "this would spin");
        assert!(self.now < Instant::from_millis(300_000), "took more than five minutes");
    }

    /// Queues the next of `ours` and `theirs` while there is room, as two applications would.
    fn feed(&mut self, ours: &mut VecDeque<Vec<u8>>, theirs: &mut VecDeque<Vec<u8>>) {
        while let Some(message) = ours.front() {
            if self.ours.unsent() > 20_000 {
                break;
            }
            match self.ours.send(message) {
                Ok(()) => ours.pop_front(),
                Err(SendError::Full) => break,
                Err(error) => panic!("{error}"),
            };
        }
        while let Some(message) = theirs.front() {
            if self.theirs.kcp.wait_snd() > 100 {
                break;
            }
            self.theirs.kcp.send(message).expect("a message of less than 128 segments");
            theirs.pop_front();
        }
    }
}

fn messages(seed: u64) -> Messages {
    let mut rng = Rng::with_seed(seed);
    (0..120)
        .map(|_| {
            let longest = if rng.bool() { 100 } else { 8_000 };
            (0..rng.usize(1..=longest)).map(|_| rng.u8(..)).collect()
        })
        .collect()
}

/// Both ends send and read at once. Returns what was sent and what arrived: to theirs, to ours.
fn exchange<S: Make>(config: Config, seed: u64) -> [(Messages, Messages); 2] {
    let mut pair = Pair::<S>::new(config, seed);
    let (ours, theirs) = (messages(seed), messages(seed + 1_000));
    let (mut rest_of_ours, mut rest_of_theirs) = (VecDeque::from(ours.clone()), VecDeque::from(theirs.clone()));
    let total = |all: &Messages| all.iter().map(Vec::len).sum::<usize>();
    while total(&pair.read_by_theirs) < total(&ours)
        || total(&pair.read_by_ours) < total(&theirs)
        || pair.ours.unacked() > 0
        || pair.theirs.kcp.wait_snd() > 0
    {
        pair.feed(&mut rest_of_ours, &mut rest_of_theirs);
        pair.step();
    }
    assert!(pair.there.stats().lost > 0 && pair.back.stats().lost > 0, "the link was bad");
    // Late copies and the last acknowledgements must change nothing.
    let end = pair.now + Duration::from_secs(1);
    while pair.now < end {
        pair.step();
    }
    [(ours, pair.read_by_theirs), (theirs, pair.read_by_ours)]
}

fn streams_arrive<S: Make>() {
    for seed in 0..SEEDS {
        for (sent, arrived) in exchange::<S>(Config { recv_window: 128, send_window: 128, ..Config::GAMES }, seed) {
            assert!(arrived.concat() == sent.concat(), "seed {seed}");
        }
    }
}

fn messages_arrive<S: Make>() {
    let config = Config { mode: Mode::Message, recv_window: 128, send_window: 128, ..Config::GAMES };
    for seed in 0..SEEDS {
        for (sent, arrived) in exchange::<S>(config, seed) {
            assert!(arrived == sent, "seed {seed}");
        }
    }
}

#[test]
fn streams_arrive_once_and_in_order_in_both_directions_with_heap_memory() {
    streams_arrive::<Heap>();
}

#[test]
fn streams_arrive_once_and_in_order_in_both_directions_with_lent_memory() {
    streams_arrive::<Lent<'static>>();
}

#[test]
fn messages_arrive_once_and_whole_in_both_directions_with_heap_memory() {
    messages_arrive::<Heap>();
}

#[test]
fn messages_arrive_once_and_whole_in_both_directions_with_lent_memory() {
    messages_arrive::<Lent<'static>>();
}
