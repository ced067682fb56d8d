//! Messages in lanes of which only the latest of each subject counts.

use alloc::collections::BTreeMap;

use super::lanes::{Lanes, lane, pair};
use super::*;
use crate::lane::Lane;
use crate::store::TxStream;

/// Bytes before the filling of a message: its length (u16), its subject, whether only the latest counts, its number (u32).
const HEAD: usize = 8;

fn message(subject: u8, latest: bool, number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![7; HEAD + len];
    bytes[..2].copy_from_slice(&((HEAD + len) as u16).to_be_bytes());
    (bytes[2], bytes[3]) = (subject, latest.into());
    bytes[4..HEAD].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Subject, whether only the latest counts, and number of all that has come of a lane, in that order.
fn read(mut bytes: &[u8]) -> Vec<(u8, bool, u32)> {
    let mut all = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<HEAD>() {
        let (whole, rest) = bytes.split_at(u16::from_be_bytes([head[0], head[1]]).into());
        assert!(whole[HEAD..].iter().all(|byte| *byte == 7));
        all.push((head[2], head[3] == 1, u32::from_be_bytes(*head.last_chunk().unwrap())));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "whole messages");
    all
}

fn both(link: sim::Config, config: Config, seed: u64) -> Lanes {
    let mut pair = pair(link, config, seed);
    for end in [&mut pair.a, &mut pair.b] {
        end.negotiated(Peer { latest: true, ..*end.peer() });
    }
    pair
}

fn send(pair: &mut Lanes, lane: Lane, bytes: &[u8]) {
    pair.a.stream_of(lane).unwrap().push(bytes).unwrap();
    if bytes[3] == 1 {
        pair.a.supersede(lane, bytes.len(), bytes[2].into());
    }
}

/// Whatever the link does: of each subject never something older after something newer, and its newest message comes; what is
/// ordinary comes whole, and before what was sent behind it.
#[test]
fn nothing_older_comes_after_something_newer_and_the_newest_comes() {
    let mut superseded = 0;
    for seed in 0..60 {
        let mut rng = Rng::with_seed(seed);
        let link = sim::Config { burst: if seed % 3 == 0 { 4.0 } else { 1.0 }, ..BAD };
        let config = Config {
            recv_window: if seed % 4 == 0 { 40 } else { 1_024 },
            redundancy: if seed % 2 == 0 { 0 } else { Config::GAMES.redundancy },
            ..Config::GAMES
        };
        let mut pair = both(link, config, seed);
        let lanes = [lane(1), lane(3), lane(6)];
        let (mut sent, mut number) = (BTreeMap::new(), 0);
        for round in 0..600 {
            let lane = lanes[rng.usize(..lanes.len())];
            let latest = rng.u8(..5) > 0;
            let len = if rng.u8(..12) == 0 { rng.usize(..5_000) } else { rng.usize(..300) };
            let subject = rng.u8(..6);
            send(&mut pair, lane, &message(subject, latest, number, len));
            sent.entry(lane).or_insert_with(Vec::new).push((subject, latest, number));
            number += 1;
            if rng.u8(..20) == 0 {
                pair.refused = rng.u8(..) & !2;
                pair.read_on();
            }
            if round == 300 && seed % 5 == 0 {
                pair.a.on_too_long(pair.now, 1_000);
            }
            pair.run_until(pair.now + Duration::from_millis(rng.u64(..20)));
        }
        pair.refused = 0;
        while pair.a.unacked() > 0 {
            pair.read_on();
            assert!(pair.step(), "seed {seed}: stalled");
            assert!(pair.now < Instant::from_millis(600_000), "seed {seed}: more than ten minutes");
        }
        pair.read_on();
        for (lane, sent) in sent {
            let came = read(pair.got(lane));
            let ordinary =
                |all: &[(u8, bool, u32)]| all.iter().filter(|(_, latest, _)| !latest).copied().collect::<Vec<_>>();
            assert_eq!(ordinary(&came), ordinary(&sent), "seed {seed}, {lane}");
            for subject in 0..6 {
                let of = |all: &[(u8, bool, u32)]| -> Vec<u32> {
                    all.iter().filter(|(other, ..)| *other == subject).map(|(.., number)| *number).collect()
                };
                assert!(of(&came).is_sorted_by(|a, b| a < b), "seed {seed}, {lane}: {:?}", of(&came));
                assert_eq!(of(&came).last(), of(&sent).last(), "seed {seed}, {lane}, subject {subject}");
            }
            let mut before = None;
            for (_, latest, number) in &came {
                assert!(
                    before.is_none_or(|before| before < number),
                    "seed {seed}, {lane}: {number} came before its turn"
                );
                if !latest {
                    before = Some(number);
                }
            }
        }
        superseded += pair.a.stats().voids_sent;
        let came: usize = lanes.iter().map(|lane| read(pair.got(*lane)).len()).sum();
        assert_eq!(came as u64 + pair.b.stats().superseded, u64::from(number), "seed {seed}");
        assert!(pair.b.held() < 100_000 && pair.b.front().is_none(), "seed {seed}");
    }
    assert!(superseded > 500, "{superseded}");
}

/// A lost message is not waited for, and nothing is sent again of it but its number.
#[test]
fn what_was_superseded_is_neither_waited_for_nor_sent_again() {
    let config = Config { redundancy: 0, ..Config::GAMES };
    let mut pair = both(sim::Config::clean(Duration::from_millis(20)), config, 1);
    let urgent = lane(1);
    send(&mut pair, urgent, &message(1, true, 0, 900));
    pair.run_for(Duration::from_millis(200));
    pair.there.set_down(true);
    send(&mut pair, urgent, &message(1, true, 1, 900));
    send(&mut pair, urgent, &message(2, true, 2, 900));
    pair.settle();
    pair.there.set_down(false);
    send(&mut pair, urgent, &message(1, true, 3, 900));
    pair.run_for(Duration::from_millis(20));
    assert_eq!(read(pair.got(urgent)), [(1, true, 0), (1, true, 3)], "at once");
    let before = pair.a.stats().segments_sent;
    pair.run_for(Duration::from_millis(2_000));
    assert_eq!(
        read(pair.got(urgent)),
        [(1, true, 0), (1, true, 3), (2, true, 2)],
        "the newest of another subject comes late"
    );
    let stats = *pair.a.stats();
    assert_eq!((pair.a.unacked(), stats.voids_sent, stats.segments_sent - before), (0, 1, 2));
    assert_eq!(pair.b.stats().superseded, 1);
    // What is ordinary is waited for, and what comes behind it with it.
    pair.there.set_down(true);
    send(&mut pair, urgent, &message(1, false, 4, 10));
    pair.settle();
    pair.there.set_down(false);
    send(&mut pair, urgent, &message(1, true, 5, 10));
    pair.run_for(Duration::from_millis(20));
    assert_eq!(read(pair.got(urgent)).len(), 3);
    pair.run_for(Duration::from_millis(2_000));
    assert_eq!(read(pair.got(urgent))[3..], [(1, false, 4), (1, true, 5)]);
}

/// Behind a closed window only the latest of each subject is sent once it opens.
#[test]
fn what_waits_in_the_stream_goes_without_its_data_once_it_is_superseded() {
    let mut pair = both(sim::Config::clean(Duration::from_millis(20)), Config { send_window: 4, ..Config::GAMES }, 1);
    let urgent = lane(1);
    for number in 0..100 {
        send(&mut pair, urgent, &message(1, true, number, 1_000));
    }
    pair.run_for(Duration::from_millis(3_000));
    let came = read(pair.got(urgent));
    assert_eq!((came.last(), pair.a.unacked()), (Some(&(1, true, 99)), 0));
    assert!(came.len() <= 5 && pair.a.stats().voids_sent >= 95, "{came:?}");
}

/// To a peer that does not know such they are messages like any other.
#[test]
fn who_does_not_know_that_gets_every_message() {
    let mut pair = pair(BAD, Config::GAMES, 1);
    let urgent = lane(1);
    for number in 0..300 {
        send(&mut pair, urgent, &message(1, true, number, 100));
        pair.run_for(Duration::from_millis(5));
    }
    pair.run_for(Duration::from_millis(60_000));
    assert!(read(pair.got(urgent)).iter().map(|(.., number)| *number).eq(0..300));
    assert_eq!(pair.a.stats().voids_sent, 0);
}
