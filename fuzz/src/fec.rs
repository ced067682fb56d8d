//! The FEC decoder on arbitrary datagrams, between those of a true encoder of which some are lost, doubled or late: what
//! it rebuilds is what was sent, and what it keeps stays within its bound.

use std::collections::HashSet;

use kcpq_core::fec::header::{self, Shards};
use kcpq_core::fec::{Config, Decoder, Encoder};
use kcpq_core::{Duration, Instant};

use crate::Seed;

const MAX_BYTES: usize = 40_000;

/// Each byte of `data` decides about one datagram.
pub fn run(data: &[u8]) {
    let [layout, rest @ ..] = data else { return };
    let shards = Shards::new(1 + layout % 12, 1 + layout / 16 % 5).expect("small counts");
    let mut encoder = Encoder::new(shards, 300);
    let mut decoder = Decoder::new(Config { max_bytes: MAX_BYTES, ..Config::default() });
    let mut now = Instant::ZERO;
    let mut sent: HashSet<Vec<u8>> = HashSet::new();
    let mut noise = false;
    let mut late: Vec<Vec<u8>> = Vec::new();
    let mut out = [0; 400];
    for (number, choice) in rest.iter().enumerate() {
        now += Duration::from_millis(u64::from(choice >> 5));
        let mut datagrams = Vec::new();
        let mut datagram = vec![*choice; header::LEN + 24 + number % 200];
        datagram[header::LEN..header::LEN + 4].copy_from_slice(&(number as u32).to_le_bytes());
        encoder.data(now, &mut datagram).expect("it fits");
        sent.insert(datagram[header::LEN..].to_vec());
        datagrams.push(datagram);
        while let Some(len) = encoder.poll_parity(&mut out) {
            datagrams.push(out[..len].to_vec());
        }
        for datagram in datagrams {
            match choice % 8 {
                0 => {}
                1 => late.push(datagram),
                2 => {
                    deliver(&mut decoder, now, &datagram, &sent, noise);
                    deliver(&mut decoder, now, &datagram, &sent, noise);
                }
                3 => {
                    // Something that no encoder has sent.
                    noise = true;
                    let from = number % rest.len();
                    deliver(&mut decoder, now, &rest[from..rest.len().min(from + 64)], &sent, noise);
                    let mut damaged = datagram;
                    let at = usize::from(*choice) % damaged.len();
                    damaged[at] ^= 0x40;
                    deliver(&mut decoder, now, &damaged, &sent, noise);
                }
                4 => {
                    deliver(&mut decoder, now, &datagram, &sent, noise);
                    for datagram in late.drain(..) {
                        deliver(&mut decoder, now, &datagram, &sent, noise);
                    }
                }
                _ => deliver(&mut decoder, now, &datagram, &sent, noise),
            }
        }
        assert!(decoder.kept_bytes() <= MAX_BYTES, "{} bytes are kept", decoder.kept_bytes());
    }
}

fn deliver(decoder: &mut Decoder, now: Instant, datagram: &[u8], sent: &HashSet<Vec<u8>>, noise: bool) {
    let _ = decoder.open(now, datagram);
    while let Some(rebuilt) = decoder.poll_recovered() {
        // With forged shards among them nobody can tell what comes out; KCP looks at it again.
        assert!(noise || sent.contains(rebuilt), "rebuilt what was never sent");
    }
}

/// Streams without loss, with some, and with everything.
pub fn seeds() -> Vec<Seed> {
    let stream = |layout: u8, choices: &[u8]| [&[layout][..], &choices.repeat(20)].concat();
    vec![
        ("clean".to_owned(), stream(9 + 16 * 2, &[7])),
        ("losses".to_owned(), stream(9 + 16 * 2, &[7, 7, 0, 7, 5, 7, 0, 6, 7])),
        ("late-and-doubled".to_owned(), stream(3 + 16, &[7, 1, 2, 4, 7, 0, 7])),
        ("noise".to_owned(), stream(4 + 16, &[7, 3, 2, 4, 11, 0, 19])),
    ]
}
