//! Encoding and parsing frames.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kcpq_core::frame::{Frame, Limits, Reader, Whole, command};
use kcpq_core::store::{Heap, HeapInbox, Inbox, Lent, LentInbox, Store};

const SUBJECT: &[u8] = b"sensor.kitchen.temperature";
const SIZES: [usize; 3] = [128, 1024, 50_000];
/// The data of one segment, as a reader gets them.
const SEGMENT: usize = 1376;

fn encoded(payload: &[u8]) -> Vec<u8> {
    let frame = Frame { command: command::PUB, subject: SUBJECT, payload };
    let mut out = vec![0; frame.encoded_len()];
    frame.encode(&mut out).expect("there is room");
    out
}

/// Reads one frame that comes in segments; returns its length.
fn read<S: Store>(reader: &mut Reader<S>, stream: &[u8]) -> usize {
    let mut len = 0;
    for segment in stream.chunks(SEGMENT) {
        len = match reader.read(segment).1 {
            Ok(Some(Whole { in_place: Some(frame), .. })) => reader.inbox().adopt(frame).as_ref().len(),
            Ok(Some(_)) => reader.inbox().take().as_ref().len(),
            _ => 0,
        };
    }
    len
}

fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for size in SIZES {
        let payload = vec![7; size];
        let bytes = encoded(&payload);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("encode/{size}"), |b| {
            let mut out = vec![0; bytes.len()];
            let frame = Frame { command: command::PUB, subject: SUBJECT, payload: &payload };
            b.iter(|| black_box(frame).encode(&mut out));
        });
        group.bench_function(format!("parse/{size}"), |b| {
            b.iter(|| Frame::parse(black_box(&bytes), &Limits::KCPQ));
        });
        group.bench_function(format!("read by segments, heap/{size}"), |b| {
            let mut reader = Reader::<Heap>::new(Limits::KCPQ, HeapInbox::new(1 << 20, 4096));
            b.iter(|| read(&mut reader, black_box(&bytes)));
        });
        group.bench_function(format!("read by segments, lent/{size}"), |b| {
            let mut memory = vec![0; 1 << 16];
            let mut reader = Reader::<Lent<'_>>::new(Limits::KCPQ, LentInbox::new(&mut memory));
            b.iter(|| read(&mut reader, black_box(&bytes)));
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
