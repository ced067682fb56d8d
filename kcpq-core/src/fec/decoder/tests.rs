use super::*;
use crate::fec::{Encoder, Numbering};

/// A datagram of this number, of the kind that has its place there.
fn datagram(seqid: u32, kind: Kind) -> Vec<u8> {
    let mut datagram = alloc::vec![7; 60];
    let len = (datagram.len() - header::LEN + 2) as u16;
    let head = Header { seqid, kind }.to_bytes();
    datagram.splice(..head.len() + 2, head.into_iter().chain(len.to_le_bytes()));
    datagram
}

#[test]
fn memory_is_counted_and_given_back() {
    let mut encoder = Encoder::new(Shards::KCPQ, 1_400);
    let mut decoder = Decoder::new(Config::default());
    let mut now = Instant::ZERO;
    assert_eq!(decoder.held(), 0);
    for index in 0..10 {
        let mut datagram = [7; 200];
        encoder.data(now, &mut datagram).unwrap();
        if index > 0 {
            decoder.open(now, &datagram).unwrap();
        }
    }
    assert!(decoder.held() > decoder.kept_bytes() && decoder.kept_bytes() == 9 * 194);
    let mut out = [0; 1_400];
    let len = encoder.poll_parity(&mut out).unwrap();
    decoder.open(now, &out[..len]).unwrap();
    assert!(decoder.poll_recovered().is_some());
    assert!(decoder.spare.capacity() >= 10 * 194 && decoder.given.capacity() >= 194);
    assert_eq!(decoder.held(), decoder.spare.capacity() + decoder.given.capacity(), "a buffer for the next group");
    assert_eq!((decoder.stats().data, decoder.stats().parity), (9, 1));
    now += Config::default().keep;
    decoder.handle_timeout(now);
    assert_eq!(decoder.held(), 0);
}

#[test]
fn what_three_groups_had_no_parity_for_is_not_kept() {
    let mut numbering = Numbering::new(Shards::KCPQ);
    let mut decoder = Decoder::new(Config::default());
    let mut come = 0;
    for index in 0..60 {
        let datagram = datagram(numbering.data(), Kind::Data);
        if index % 10 > 0 {
            decoder.open(Instant::ZERO, &datagram).unwrap();
            come += 1;
            assert_eq!(decoder.kept_bytes() > 0, come <= 30, "after {come}");
        }
    }
}

#[test]
fn counts_are_looked_for_as_long_as_there_may_be_parity() {
    let mut decoder = Decoder::new(Config::default());
    for seqid in 0..=3 * 255 {
        assert_eq!(decoder.tuner.is_some(), seqid > 10, "before {seqid}");
        decoder.open(Instant::ZERO, &datagram(seqid, Kind::Data)).unwrap();
    }
    assert!(decoder.tuner.is_none());
}

#[test]
fn a_number_is_believed_that_is_near_the_last_one() {
    let shards = Shards::KCPQ;
    let below = |distance: u32| 0_u32.wrapping_sub(distance);
    for (seqid, is_believed) in
        [(1_024, true), (1_025, false), (below(1_024), true), (below(1_025), false), (shards.paws(), false)]
    {
        let mut decoder = Decoder::new(Config::default());
        decoder.open(Instant::ZERO, &datagram(seqid, shards.kind(seqid))).unwrap();
        assert_eq!(decoder.stats().implausible, u64::from(!is_believed), "{seqid}");
        assert_eq!(decoder.kept_bytes() > 0, is_believed);
    }
}

#[test]
fn counters_of_several_decoders_add_up() {
    let one = Stats {
        data: 1,
        parity: 2,
        recovered: 3,
        useless_parity: 4,
        expired_parity: 5,
        duplicates: 6,
        late: 7,
        implausible: 8,
        malformed: 9,
        crowded: 10,
        retuned: 11,
    };
    let mut sum = one;
    sum.add(&one);
    sum.add(&one);
    let expected = Stats {
        data: 3,
        parity: 6,
        recovered: 9,
        useless_parity: 12,
        expired_parity: 15,
        duplicates: 18,
        late: 21,
        implausible: 24,
        malformed: 27,
        crowded: 30,
        retuned: 33,
    };
    assert_eq!(sum, expected);
}

#[test]
fn the_largest_buffer_is_used_again_unless_it_is_too_large() {
    let mut spare = Vec::new();
    let mut after = |capacity: usize, is_done: bool| {
        let mut group = Group::new(0, Vec::with_capacity(capacity));
        if is_done {
            group.drop_shards();
        }
        recycle(&mut spare, &mut group);
        spare.capacity()
    };
    let uses = [(100, false, 0), (100, true, 100), (50, true, 100), (200, true, 200), (SPARE + 1, true, 200)];
    for (capacity, is_done, spare) in uses.into_iter().chain([(SPARE, true, SPARE)]) {
        assert_eq!(after(capacity, is_done), spare, "after one of {capacity}");
    }
}

#[test]
fn a_rebuilt_shard_ends_where_its_size_says() {
    let cuts: [(&[u8], Option<&[u8]>); 9] = [
        (&[2, 0], Some(&[2, 0])),
        (&[2, 0, 0], Some(&[2, 0])),
        (&[3, 0, 7, 0], Some(&[3, 0, 7])),
        (&[3, 0, 7, 9], None),
        (&[4, 0, 7], None),
        (&[1, 0], None),
        (&[1, 0, 0], None),
        (&[0, 0], None),
        (&[2], None),
    ];
    for (shard, expected) in cuts {
        assert_eq!(cut(shard.to_vec()).as_deref(), expected, "{shard:?}");
    }
}
