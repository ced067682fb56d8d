//! A flow that behaves as TCP does: it sends as much as a window allows that grows by one segment each round trip, and is
//! halved when something is lost (RFC 5681). What it carries does not matter, so nothing is sent twice.

use std::collections::BTreeMap;

use kcpq_core::time::{Duration, Instant};

/// Of a full segment on Ethernet, without what is counted for each datagram anyway.
const SEGMENT: usize = 1_472;
/// A segment that so many later ones have overtaken is lost.
const OVERTAKEN: u64 = 3;
/// When nothing is acknowledged for so long all is lost.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Reno {
    /// Number of the next segment.
    next: u64,
    in_flight: BTreeMap<u64, ()>,
    /// In segments.
    window: f64,
    threshold: f64,
    /// Losses of segments before this one are answered for.
    recovered: u64,
    heard_at: Instant,
    pub(crate) acknowledged: u64,
}

impl Reno {
    pub(crate) fn new(now: Instant) -> Self {
        let (window, threshold) = (10.0, f64::INFINITY);
        Self { next: 0, in_flight: BTreeMap::new(), window, threshold, recovered: 0, heard_at: now, acknowledged: 0 }
    }

    /// Bytes that have arrived.
    pub(crate) fn bytes(&self) -> u64 {
        self.acknowledged * SEGMENT as u64
    }

    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.in_flight.len() as f64 >= self.window {
            return None;
        }
        if self.in_flight.is_empty() {
            self.heard_at = now;
        }
        let mut segment = vec![0; SEGMENT];
        segment[..8].copy_from_slice(&self.next.to_be_bytes());
        self.in_flight.insert(self.next, ());
        self.next += 1;
        Some(segment)
    }

    /// What the other end answers.
    pub(crate) fn acknowledge(segment: &[u8]) -> Vec<u8> {
        segment[..8].to_vec()
    }

    pub(crate) fn on_acknowledged(&mut self, now: Instant, acknowledgement: &[u8]) {
        let number = u64::from_be_bytes(acknowledgement.try_into().unwrap());
        self.heard_at = now;
        if self.in_flight.remove(&number).is_some() {
            self.acknowledged += 1;
            self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
        }
        let rest = self.in_flight.split_off(&number.saturating_sub(OVERTAKEN - 1));
        let lost = std::mem::replace(&mut self.in_flight, rest);
        if lost.last_key_value().is_some_and(|(last, ())| *last >= self.recovered) {
            self.recovered = self.next;
            self.window = (self.window / 2.0).max(2.0);
            self.threshold = self.window;
        }
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.heard_at + TIMEOUT
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if now >= self.poll_timeout() {
            self.in_flight.clear();
            self.threshold = (self.window / 2.0).max(2.0);
            (self.window, self.recovered, self.heard_at) = (1.0, self.next, now);
        }
    }
}
