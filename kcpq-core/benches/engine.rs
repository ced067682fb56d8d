//! Bulk transfer between two engines in memory, without loss: what a segment costs, beside the `kcp` crate.

#[path = "../tests/common/engine.rs"]
mod engine;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kcpq_core::kcp::{Config, Kcp, Origin};
use kcpq_core::store::{Heap, Lent, Store};
use kcpq_core::{Duration, Instant};

use self::engine::Make;

const CONV: u32 = 7;
const BYTES: usize = 10_000_000;
/// The data of one segment.
const SEGMENT: usize = 1376;
const SEGMENTS: usize = BYTES.div_ceil(SEGMENT);
const CONFIG: Config = Config { send_window: 128, recv_window: 128, ..Config::GAMES };
/// Time of a datagram's way, and of theirs between two ticks.
const STEP: Duration = Duration::from_millis(10);
/// Queued ahead of what was sent.
const AHEAD: usize = 150_000;

/// Everything from one end to the other. A round sends what is due and takes in what the other end sent.
fn ours<S: Store>(a: &mut Kcp<S>, b: &mut Kcp<S>, now: &mut Instant) -> usize {
    let chunk = [7; SEGMENT];
    let mut buf = [0; 1500];
    let (mut queued, mut read) = (0, 0);
    while read < BYTES {
        while queued < BYTES && a.unacked() < AHEAD {
            let count = chunk.len().min(BYTES - queued);
            a.send(&chunk[..count]).expect("there is room");
            queued += count;
        }
        *now += STEP;
        while let Some(len) = a.poll_transmit(*now, &mut buf) {
            b.handle_datagram(*now, &buf[..len], Origin::Wire, |bytes| {
                read += bytes.len();
                bytes.len()
            })
            .expect("a well-formed datagram");
        }
        while let Some(len) = b.poll_transmit(*now, &mut buf) {
            a.handle_datagram(*now, &buf[..len], Origin::Wire, |_| 0).expect("a well-formed datagram");
        }
    }
    read
}

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

fn theirs_end() -> (kcp::Kcp<Output>, Output) {
    let output = Output::default();
    let mut kcp = kcp::Kcp::new_stream(CONV, output.clone());
    kcp.set_nodelay(true, 10, 2, true);
    kcp.set_wndsize(CONFIG.send_window, CONFIG.recv_window);
    (kcp, output)
}

/// The same with the crate; its output costs one allocation for each datagram.
fn theirs() -> usize {
    let chunk = [7; SEGMENT];
    let mut buf = [0; 1500];
    let ((mut a, from_a), (mut b, from_b)) = (theirs_end(), theirs_end());
    let (mut queued, mut read) = (0, 0);
    let mut millis = 0;
    while read < BYTES {
        while queued < BYTES && a.wait_snd() * SEGMENT < AHEAD {
            let count = chunk.len().min(BYTES - queued);
            a.send(&chunk[..count]).expect("not too long");
            queued += count;
        }
        millis += 10;
        a.update(millis).expect("the output takes everything");
        while let Some(datagram) = from_a.0.borrow_mut().pop_front() {
            b.input(&datagram).expect("a well-formed datagram");
        }
        while let Ok(len) = b.recv(&mut buf) {
            read += len;
        }
        b.update(millis).expect("the output takes everything");
        while let Some(datagram) = from_b.0.borrow_mut().pop_front() {
            a.input(&datagram).expect("a well-formed datagram");
        }
    }
    read
}

fn bench_store<S: Make>(c: &mut Criterion, name: &str) {
    let mut group = c.benchmark_group("10 MB");
    group.throughput(Throughput::Elements(SEGMENTS as u64)).sample_size(10);
    group.bench_function(name, |bench| {
        let (mut a, mut b) = (S::engine(CONV, CONFIG), S::engine(CONV, CONFIG));
        let mut now = Instant::from_millis(1);
        bench.iter(|| ours(&mut a, &mut b, &mut now));
    });
    group.finish();
}

fn engines(c: &mut Criterion) {
    bench_store::<Heap>(c, "heap");
    bench_store::<Lent<'static>>(c, "lent");
    let mut group = c.benchmark_group("10 MB");
    group.throughput(Throughput::Elements(SEGMENTS as u64)).sample_size(10);
    group.bench_function("kcp crate", |bench| bench.iter(theirs));
    group.finish();
}

criterion_group!(benches, engines);
criterion_main!(benches);
