//! One direction: takes packets from one TUN device, gives them to the other when the link says so.

use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant as Clock;

use hdrhistogram::Histogram;
use kcpq_core::sim::{Config, Link, Stats};
use kcpq_core::time::{Duration, Instant};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tun_rs::SyncDevice;

/// Packets that are taken before it is looked whether one is due.
const BATCH: usize = 16;
/// More than any device's MTU.
const BUFFER: usize = 65_536;
/// Above all that has no real-time priority itself, on the kernel's scale of 1 to 99 as the crate maps it.
const PRIORITY: u8 = 50;

/// One direction of the link, with its thread running.
#[derive(Debug)]
pub(crate) struct Forwarder {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    link: Link,
    begun: Clock,
    down_until: Instant,
    realtime: bool,
    /// The link's counters when counting began.
    base: Stats,
    /// Bytes of what IP and TCP or UDP carry.
    payload: u64,
    delivered: u64,
    /// How long packets waited for the bandwidth.
    queueing: Histogram<u64>,
    /// How much later than the link says they were delivered.
    lateness: Histogram<u64>,
    error: Option<String>,
}

impl Forwarder {
    /// Starts to forward from `input` to `output`.
    pub(crate) fn spawn(
        config: Config,
        seed: u64,
        begun: Clock,
        input: Arc<SyncDevice>,
        output: Arc<SyncDevice>,
    ) -> Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            config,
            link: Link::new(config, seed),
            begun,
            down_until: Instant::ZERO,
            realtime: false,
            base: Stats::default(),
            payload: 0,
            delivered: 0,
            queueing: histogram(),
            lateness: histogram(),
            error: None,
        }));
        let forwarder = Self { shared };
        let shared = Arc::clone(&forwarder.shared);
        thread::Builder::new().name("link".into()).spawn(move || {
            let realtime = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
            let priority = ThreadPriority::try_from(PRIORITY).unwrap_or(ThreadPriority::Max);
            let raised = set_thread_priority_and_policy(thread_native_id(), priority, realtime);
            lock(&shared).realtime = raised.is_ok();
            if let Err(error) = forward(&shared, &input, &output) {
                eprintln!("link: {error}");
                lock(&shared).error = Some(error.to_string());
            }
        })?;
        Ok(forwarder)
    }

    /// Loses everything from now on for `length`.
    pub(crate) fn outage(&self, length: Duration) {
        let mut shared = lock(&self.shared);
        shared.down_until = shared.now() + length;
    }

    /// Drops packets longer than `mtu` bytes from now on.
    pub(crate) fn narrow(&self, mtu: usize) {
        let mut shared = lock(&self.shared);
        shared.config.mtu = mtu;
        let config = shared.config;
        shared.link.set_config(config);
    }

    /// Begins to count anew.
    pub(crate) fn reset(&self) {
        let mut shared = lock(&self.shared);
        shared.base = *shared.link.stats();
        (shared.payload, shared.delivered) = (0, 0);
        shared.queueing.reset();
        shared.lateness.reset();
    }

    /// What it has carried since counting began. `bytes` are IP packets put in, lost ones included, `payload` what
    /// these carry above TCP or UDP; times in microseconds.
    pub(crate) fn stats(&self) -> Value {
        let shared = lock(&self.shared);
        let (now, base) = (shared.link.stats(), &shared.base);
        json!({
            "packets": now.sent - base.sent,
            "bytes": now.bytes - base.bytes,
            "payload": shared.payload,
            "lost": now.lost - base.lost,
            "overflowed": now.overflowed - base.overflowed,
            "delivered": shared.delivered,
            "queueing_us": percentiles(&shared.queueing),
            "late_us": percentiles(&shared.lateness),
            "realtime": shared.realtime,
            "error": shared.error,
        })
    }
}

impl Shared {
    fn now(&self) -> Instant {
        Instant::from_micros(self.begun.elapsed().as_micros() as u64)
    }

    fn put(&mut self, packet: &[u8]) {
        let now = self.now();
        self.payload += payload(packet) as u64;
        // Fails only for a histogram that cannot grow.
        let _ = self.queueing.record(self.link.queueing_delay(now).as_micros());
        self.link.set_down(now < self.down_until);
        self.link.send(now, packet);
    }

    /// The next packet that is due.
    fn take(&mut self) -> Option<Vec<u8>> {
        let (now, due) = (self.now(), self.link.next_arrival()?);
        let packet = self.link.recv(now)?;
        let _ = self.lateness.record(now.since(due).as_micros());
        self.delivered += 1;
        Some(packet)
    }

    /// How long until one is.
    fn pause(&self) -> Option<Timespec> {
        let micros = self.link.next_arrival()?.since(self.now()).as_micros();
        Some(Timespec { tv_sec: (micros / 1_000_000) as i64, tv_nsec: (micros % 1_000_000 * 1_000) as i64 })
    }
}

fn forward(shared: &Mutex<Shared>, input: &SyncDevice, output: &SyncDevice) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let pause = {
            let mut shared = lock(shared);
            for _ in 0..BATCH {
                match input.recv(&mut buffer) {
                    Ok(len) => shared.put(buffer.get(..len).unwrap_or_default()),
                    Err(error) if retry(&error) => break,
                    // The device has gone with its namespace, at this process's end.
                    Err(error) if error.raw_os_error() == Some(Errno::BADFD.raw_os_error()) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            while let Some(packet) = shared.take() {
                // A device that is not up yet takes nothing.
                let _ = output.send(&packet);
            }
            shared.pause()
        };
        match poll(&mut [PollFd::new(input, PollFlags::IN)], pause.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether there is just nothing to read.
fn retry(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// How many bytes an IPv4 packet carries above TCP or UDP; above IP, if it is of another protocol.
fn payload(packet: &[u8]) -> usize {
    let byte = |at: usize| usize::from(packet.get(at).copied().unwrap_or(0));
    let ip = byte(0) % 16 * 4;
    let transport = match byte(9) {
        6 => byte(ip + 12) / 16 * 4,
        17 => 8,
        _ => 0,
    };
    packet.len().saturating_sub(ip + transport)
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let at = |percentile| histogram.value_at_percentile(percentile);
    json!({ "p50": at(50.0), "p95": at(95.0), "p99": at(99.0), "max": histogram.max() })
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_is_what_follows_the_headers() {
        let mut packet = [0; 100];
        packet[0] = 0x45;
        packet[9] = 17;
        assert_eq!(payload(&packet), 72);
        packet[9] = 6;
        packet[32] = 0x80;
        assert_eq!(payload(&packet), 48);
        packet[9] = 1;
        assert_eq!(payload(&packet), 80);
        assert_eq!(payload(&[]), 0);
    }
}
