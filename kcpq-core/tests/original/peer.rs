//! A peer as the original's: it moves when its clock ticks.

use kcpq_core::frame::{Frame, Limits};
use kcpq_core::kcp::{Config, CongestionControl, Kcp, Origin};
use kcpq_core::store::Heap;
use kcpq_core::time::{Duration, Instant};

use crate::engine::Make;
use crate::ms;

/// How the original sets up KCP, in both roles but for the interval.
const ORIGINAL: Config = Config {
    mtu: 1392,
    send_window: 1024,
    recv_window: 1024,
    max_in_flight: u32::MAX,
    interval: ms(10),
    ack_delay: Duration::ZERO,
    min_rto: ms(30),
    rto_margin: ms(10),
    outage_probes: Duration::ZERO,
    redundancy: 0,
    congestion: CongestionControl::Off,
    ..Config::GAMES
};

/// One end that moves only when its clock ticks.
pub(crate) struct Ticking {
    pub(crate) kcp: Kcp<Heap>,
    tick: Duration,
    /// Each tick comes up to this much later than it should.
    jitter: Duration,
    pub(crate) next: Instant,
    rng: fastrand::Rng,
    /// What it has read, not yet cut into frames.
    stream: Vec<u8>,
}

impl Ticking {
    pub(crate) fn new(conv: u32, tick: Duration, jitter: Duration, now: Instant) -> Self {
        let config = Config { interval: tick, rto_margin: tick, ..ORIGINAL };
        // The clocks of different peers tick at different times.
        let next = now + Duration::from_micros(u64::from(conv % 7) * 1_733);
        Self {
            kcp: Heap::engine(conv, config),
            tick,
            jitter,
            next,
            rng: fastrand::Rng::with_seed(conv.into()),
            stream: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, frame: &Frame<'_>) {
        let mut bytes = vec![0; frame.encoded_len()];
        frame.encode(&mut bytes);
        self.kcp.send(&bytes).unwrap();
    }

    pub(crate) fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let before = self.kcp.unacked();
        let stream = &mut self.stream;
        let _ = self.kcp.handle_datagram(now, datagram, Origin::Wire, |bytes| {
            stream.extend_from_slice(bytes);
            bytes.len()
        });
        self.kcp.unacked() < before
    }

    /// True if the clock has ticked by `now`.
    pub(crate) fn ticks(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.tick + Duration::from_micros(self.rng.u64(..=self.jitter.as_micros()));
        true
    }

    /// The frames that have arrived.
    pub(crate) fn frames(&mut self) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut at = 0;
        while let Ok(frame) = Frame::parse(&self.stream[at..], &Limits::KCPQ) {
            at += frame.encoded_len();
            frames.push((frame.command, frame.subject.to_vec(), frame.payload.to_vec()));
        }
        self.stream.drain(..at);
        frames
    }
}
