//! What a datagram costs between the engine and the socket: FEC 10+3 and the compatible cipher, at 1400 bytes.
//!
//! `fec/encode` does what kcp-go's `BenchmarkFECEncode` does, in its unit: one data datagram of 1500 bytes, its share of
//! the group's parity included.

use core::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kcpq_core::Instant;
use kcpq_core::cipher::{CompatAes256Cfb, Key};
use kcpq_core::fec::{Config, Decoder, Encoder, Kind, Shards, header};

const DATAGRAM: usize = 1_400;
/// The payload of kcp-go's benchmark.
const KCPGO: usize = 1_500;

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fec/encode");
    for len in [DATAGRAM, KCPGO] {
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("10+3 of {len} bytes"), |bencher| {
            let mut encoder = Encoder::new(Shards::KCPQ, KCPGO);
            let (mut datagram, mut parity) = (vec![0x5a; len], vec![0; len]);
            bencher.iter(|| {
                encoder.data(Instant::ZERO, &mut datagram).unwrap();
                while let Some(len) = encoder.poll_parity(&mut parity) {
                    black_box(&parity[..len]);
                }
            });
        });
    }
}

/// The time for a group of thirteen, of which `lost` do not arrive.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fec/decode");
    group.throughput(Throughput::Bytes(10 * DATAGRAM as u64));
    for lost in [0, 1, 3] {
        group.bench_function(format!("10+3 of {DATAGRAM} bytes, {lost} lost"), |bencher| {
            let mut datagrams = one_group();
            let mut decoder = Decoder::new(Config::default());
            let mut first = 0_u32;
            bencher.iter(|| {
                let mut rebuilt = 0;
                for (seqid, datagram) in (first..).zip(&mut datagrams).skip(lost) {
                    // The next group's numbers, with the same content.
                    datagram[..4].copy_from_slice(&seqid.to_le_bytes());
                    black_box(decoder.open(Instant::ZERO, datagram).unwrap());
                    while let Some(part) = decoder.poll_recovered() {
                        black_box(part);
                        rebuilt += 1;
                    }
                }
                assert_eq!(rebuilt, lost);
                first = (first + 13) % Shards::KCPQ.paws();
            });
        });
    }
}

fn one_group() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(Shards::KCPQ, DATAGRAM);
    let mut datagrams = Vec::new();
    for fill in 0..10 {
        let mut datagram = vec![fill; DATAGRAM];
        encoder.data(Instant::ZERO, &mut datagram).unwrap();
        datagrams.push(datagram);
    }
    let mut parity = vec![0; DATAGRAM];
    while encoder.poll_parity(&mut parity).is_some() {
        datagrams.push(parity.clone());
    }
    assert_eq!(header::Header::parse(&parity).unwrap().0.kind, Kind::Parity);
    datagrams
}

fn cipher(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("aes-256-cfb");
    group.throughput(Throughput::Bytes(DATAGRAM as u64));
    let cipher = CompatAes256Cfb::new(&Key::from_bytes(&[0x42; Key::LEN]));
    group.bench_function(format!("seal {DATAGRAM} bytes"), |bencher| {
        let mut datagram = vec![0x5a; DATAGRAM];
        bencher.iter(|| cipher.seal([7; 16], black_box(&mut datagram)));
    });
    group.bench_function(format!("open {DATAGRAM} bytes"), |bencher| {
        let mut sealed = vec![0x5a; DATAGRAM];
        cipher.seal([7; 16], &mut sealed).unwrap();
        let mut datagram = sealed.clone();
        // With a copy, for opening consumes the datagram.
        bencher.iter(|| {
            datagram.copy_from_slice(&sealed);
            cipher.open(&mut datagram).map(|body| body.len())
        });
    });
}

criterion_group!(benches, encode, decode, cipher);
criterion_main!(benches);
