//! FEC against what kcp-go produced (tests/vectors/fec.json says how it was recorded), and against peers that lose,
//! double, reorder, change their counts or lie.

use std::collections::HashSet;

use kcpq_core::fec::{Config, Decoder, Encoder, FecError, Header, Kind, Numbering, Shards, header};
use kcpq_core::rng::Rng;
use kcpq_core::{Duration, Instant};
use serde_json::Value;

const NOW: Instant = Instant::ZERO;
const MAX_SHARD: usize = 1_394;

mod recorded {
    use super::*;

    #[test]
    fn parity_of_the_recorded_session_is_made_to_the_byte() {
        let datagrams = session();
        let mut encoder = Encoder::new(Shards::KCPQ, MAX_SHARD);
        let mut ours = Vec::new();
        for recorded in &datagrams {
            if Header::parse(recorded).unwrap().0.kind == Kind::Data {
                let mut datagram = [&[0; header::LEN], &recorded[header::LEN..]].concat();
                encoder.data(NOW, &mut datagram).unwrap();
                ours.push(datagram);
                ours.extend(parity(&mut encoder));
            }
        }
        assert_eq!(ours, datagrams);
        assert_eq!(ours.len(), 39);
    }

    #[test]
    fn a_long_write_of_the_recorded_session_has_our_headers() {
        let mut numbering = Numbering::new(Shards::KCPQ);
        for recorded in list(&vectors()["write_split"]["datagrams"]) {
            let recorded = hex(&recorded["hex"]);
            let mut ours = recorded.clone();
            ours[..header::LEN].fill(0);
            header::write_data(numbering.data(), &mut ours).unwrap();
            assert_eq!(ours, recorded);
        }
    }

    #[test]
    fn recorded_losses_are_rebuilt_from_the_same_datagrams_to_the_byte() {
        let datagrams = session();
        let vectors = vectors();
        let cases = list(&vectors["loss_cases"]);
        assert_eq!(cases.len(), 19);
        for case in cases {
            let mut decoder = Decoder::new(Config::default());
            let mut rebuilt = Vec::new();
            for seqid in list(&case["fed_seqids"]) {
                let seqid = seqid.as_u64().unwrap();
                let parts = feed(&mut decoder, &datagrams[seqid as usize]).1;
                rebuilt.extend(parts.into_iter().map(|part| (seqid, part)));
            }
            let recorded: Vec<_> = list(&case["recovered"])
                .iter()
                .map(|part| (part["after_seqid"].as_u64().unwrap(), hex(&part["kcp_hex"])))
                .collect();
            assert_eq!(rebuilt, recorded, "{}", case["name"]);
            assert_eq!(decoder.stats().recovered, recorded.len() as u64);
            assert_eq!(decoder.stats().malformed, 0);
        }
    }

    /// The parity of one shard of ones among zeros shows a column of the generator matrix.
    #[test]
    fn every_recorded_generator_matrix_is_ours() {
        let mut sizes = 0;
        let rows = vectors();
        for matrix in list(&rows["parity_matrices"]["matrices"]) {
            let shards = shards(matrix);
            for column in 0..shards.data() {
                let rows = list(&matrix["parity_rows"]);
                let theirs: Vec<u8> = rows.iter().map(|row| row[usize::from(column)].as_u64().unwrap() as u8).collect();
                assert_eq!(column_of(shards, column), theirs, "{shards:?} column {column}");
            }
            sizes += 1;
        }
        let columns: Value = serde_json::from_str(include_str!("vectors/fec_matrices.json")).unwrap();
        for matrix in list(&columns["matrices"]) {
            let shards = shards(matrix);
            for (column, theirs) in (0..).zip(list(&matrix["parity_of_unit_shards"])) {
                assert_eq!(column_of(shards, column), hex(theirs), "{shards:?} column {column}");
            }
            sizes += 1;
        }
        assert_eq!(sizes, 15);
    }

    #[test]
    fn sequence_numbers_wrap_where_the_recorded_ones_do() {
        let vectors = vectors();
        let wrap = &vectors["seqid_wrap"];
        assert_eq!(u64::from(Shards::KCPQ.paws()), wrap["paws"].as_u64().unwrap());
        let mut encoder = Encoder::new(Shards::KCPQ, 64).starting_at(Shards::KCPQ.paws() - 1);
        let mut ours = Vec::new();
        while ours.len() < list(&wrap["sequence"]).len() {
            let mut datagram = [1; 40];
            encoder.data(NOW, &mut datagram).unwrap();
            ours.push(Header::parse(&datagram).unwrap().0);
            ours.extend(parity(&mut encoder).iter().map(|datagram| Header::parse(datagram).unwrap().0));
        }
        for (ours, recorded) in ours.iter().zip(list(&wrap["sequence"])) {
            let kind = if recorded["flag"] == 0xf1 { Kind::Data } else { Kind::Parity };
            assert_eq!((u64::from(ours.seqid), ours.kind), (recorded["seqid"].as_u64().unwrap(), kind));
        }
    }

    fn vectors() -> Value {
        serde_json::from_str(include_str!("vectors/fec.json")).unwrap()
    }

    fn session() -> Vec<Vec<u8>> {
        list(&vectors()["session_run"]["datagrams"]).iter().map(|datagram| hex(&datagram["hex"])).collect()
    }

    fn shards(matrix: &Value) -> Shards {
        let count = |name: &str| matrix[name].as_u64().unwrap() as u8;
        Shards::new(count("data"), count("parity")).unwrap()
    }

    fn column_of(shards: Shards, column: u8) -> Vec<u8> {
        let mut encoder = Encoder::new(shards, 64);
        for place in 0..shards.data() {
            // The size field is coded too, but the byte behind it tells the same.
            encoder.data(NOW, &mut [[0; header::LEN], [u8::from(place == column); header::LEN]].concat()).unwrap();
        }
        parity(&mut encoder).iter().map(|datagram| datagram[header::LEN]).collect()
    }

    fn list(value: &Value) -> &[Value] {
        value.as_array().unwrap()
    }

    fn hex(value: &Value) -> Vec<u8> {
        let digits = value.as_str().unwrap();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }
}

mod lossy {
    use super::*;

    /// Every KCP part that arrives, in the original or rebuilt, is one that was sent; and every group with enough shards
    /// left comes whole.
    #[test]
    fn whatever_is_lost_doubled_or_swapped_every_group_with_enough_shards_comes_whole() {
        for (seed, (data, parity)) in (1_u64..).zip([(10, 3), (1, 1), (2, 1), (5, 2), (3, 9), (20, 5), (100, 40)]) {
            let shards = Shards::new(data, parity).unwrap();
            let mut rng = Rng::with_seed(seed);
            let sent = stream(shards, 60, 0, &mut rng);
            let mut wire: Vec<&Vec<u8>> = sent.iter().filter(|_| rng.f64() >= 0.12).collect();
            for _ in 0..wire.len() / 8 {
                let at = rng.usize(..wire.len());
                wire.insert(at, wire[at]);
                let near = (at + rng.usize(..6)).min(wire.len() - 1);
                wire.swap(at, near);
            }
            let mut decoder = Decoder::new(Config { shards, ..Config::default() });
            let got: HashSet<Vec<u8>> = wire.iter().flat_map(|datagram| all_parts(&mut decoder, datagram)).collect();

            let arrived: HashSet<&Vec<u8>> = wire.iter().copied().collect();
            let mut rebuilt = 0;
            for group in sent.chunks(shards.total().into()) {
                let shards_left = group.iter().filter(|datagram| arrived.contains(datagram)).count();
                for datagram in &group[..data.into()] {
                    let came = got.contains(&datagram[header::LEN..]);
                    let is_due = arrived.contains(datagram) || shards_left >= usize::from(data);
                    assert!(came || !is_due, "{shards:?}: {:?}", Header::parse(datagram));
                    rebuilt += usize::from(came && !arrived.contains(datagram));
                }
            }
            let all: HashSet<&[u8]> = sent.iter().map(|datagram| &datagram[header::LEN..]).collect();
            assert!(got.iter().all(|part| all.contains(&part[..])), "{shards:?}: something that was never sent");
            let stats = decoder.stats();
            assert!(stats.recovered as usize >= rebuilt && rebuilt > 0 && stats.duplicates > 0, "{stats:?}");
            assert_eq!((stats.malformed, stats.retuned, stats.implausible), (0, 0, 0));
        }
    }

    #[test]
    fn groups_are_rebuilt_across_the_wrap() {
        let shards = Shards::KCPQ;
        let mut rng = Rng::with_seed(5);
        let sent = stream(shards, 6, shards.paws() - 3 * 13, &mut rng);
        assert_eq!(Header::parse(&sent[39]).unwrap().0.seqid, 0);
        let mut decoder = Decoder::new(Config::default());
        let kept = sent.iter().enumerate().filter(|(index, _)| index % 13 != 4 && index % 13 != 7);
        for (_, datagram) in kept {
            feed(&mut decoder, datagram);
        }
        // The very first number is far from 0 and is believed with the second, which costs nothing here.
        assert_eq!(decoder.stats().recovered, 12);
    }

    /// The experiments of tests/vectors/fec.json: kcp-go needs 274 datagrams at 5 % loss, and never learns them at 20 %.
    #[test]
    fn foreign_counts_are_learnt_under_loss_and_nothing_false_is_rebuilt_meanwhile() {
        let count = |data, parity| Shards::new(data, parity).unwrap();
        let cases = [
            (count(1, 1), Shards::KCPQ),
            (Shards::KCPQ, count(5, 2)),
            (Shards::KCPQ, count(20, 5)),
            (count(20, 5), Shards::KCPQ),
        ];
        for (seed, (expected, real)) in (20_u64..).zip(cases) {
            for loss in [0.0, 0.05, 0.2] {
                let mut rng = Rng::with_seed(seed);
                let sent = stream(real, 1_000 / u32::from(real.data()), 0, &mut rng);
                let all: HashSet<&[u8]> = sent.iter().map(|datagram| &datagram[header::LEN..]).collect();
                let mut decoder = Decoder::new(Config { shards: expected, ..Config::default() });
                let mut learnt = None;
                for (index, datagram) in sent.iter().enumerate() {
                    if rng.f64() < loss {
                        continue;
                    }
                    let parts = all_parts(&mut decoder, datagram);
                    assert!(parts.iter().all(|part| all.contains(&part[..])), "{expected:?} {real:?} {loss}");
                    if learnt.is_none() && decoder.shards() == real {
                        learnt = Some(index);
                    }
                }
                let groups = learnt.unwrap() / usize::from(real.total());
                assert!(groups <= 6, "{expected:?} to {real:?} at loss {loss}: after {groups} groups");
                assert_eq!((decoder.shards(), decoder.stats().retuned), (real, 1));
                assert!(decoder.stats().recovered > 0 || loss == 0.0);
            }
        }
    }

    #[test]
    fn three_groups_are_kept_and_the_oldest_gives_way() {
        let shards = Shards::KCPQ;
        for first in [0, shards.paws() - 2 * 13] {
            let sent = stream(shards, 5, first, &mut Rng::with_seed(13));
            let groups: Vec<_> = sent.chunks(13).collect();
            let mut decoder = Decoder::new(Config::default());
            for group in [3, 1, 2] {
                // One less than would do.
                groups[group][2..11].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
            }
            assert_eq!(decoder.stats().late, 0);
            feed(&mut decoder, &groups[0][2]);
            assert_eq!(decoder.stats().late, 1, "three behind the newest");
            feed(&mut decoder, &groups[4][2]);
            feed(&mut decoder, &groups[1][11]);
            assert_eq!((decoder.stats().late, decoder.stats().expired_parity), (2, 1), "it was given up");
            for (group, recovered) in [(2, 2), (3, 4)] {
                feed(&mut decoder, &groups[group][11]);
                assert_eq!(decoder.stats().recovered, recovered, "group {group} from {first}");
            }
            assert_eq!(decoder.kept_bytes(), groups[4][2].len() - header::LEN + 2);
        }
    }

    #[test]
    fn a_group_is_kept_no_longer_than_configured_and_memory_is_given_back() {
        let sent = stream(Shards::KCPQ, 1, 0, &mut Rng::with_seed(2));
        let mut decoder = Decoder::new(Config::default());
        assert_eq!(decoder.poll_timeout(), None);
        for datagram in &sent[1..10] {
            feed(&mut decoder, datagram);
        }
        assert!(decoder.kept_bytes() > 0);
        let late = NOW + Duration::from_secs(10);
        assert_eq!(decoder.poll_timeout(), Some(late));
        decoder.handle_timeout(late);
        assert_eq!((decoder.kept_bytes(), decoder.poll_timeout()), (0, None));
        assert_eq!(decoder.open(late, &sent[10]), Ok(None));
        assert_eq!(decoder.poll_recovered(), None);
    }
}

mod economy {
    use super::*;

    #[test]
    fn a_peer_that_sends_no_parity_is_soon_kept_nothing_of() {
        for skip in [true, false] {
            let mut decoder = Decoder::new(Config::default());
            let mut numbering = Numbering::new(Shards::KCPQ);
            let mut most = 0;
            for index in 0..5_000 {
                let mut datagram = vec![7; 1_400];
                header::write_data(if skip { numbering.data() } else { index }, &mut datagram).unwrap();
                assert_eq!(feed(&mut decoder, &datagram), (Some(datagram[header::LEN..].to_vec()), vec![]));
                most = most.max(decoder.kept_bytes());
            }
            assert!(most <= 3 * 10 * MAX_SHARD);
            assert_eq!((decoder.kept_bytes(), decoder.poll_timeout()), (0, None));
            assert_eq!((decoder.shards(), decoder.stats().retuned), (Shards::KCPQ, 0));
        }
    }

    #[test]
    fn parity_that_nobody_needs_is_counted() {
        let sent = stream(Shards::KCPQ, 2, 0, &mut Rng::with_seed(14));
        let (first, second) = sent.split_at(13);
        let mut decoder = Decoder::new(Config::default());
        let mut useless = |datagrams: &[Vec<u8>]| {
            datagrams.iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
            (decoder.stats().useless_parity, decoder.stats().expired_parity)
        };
        assert_eq!(useless(&first[1..]), (2, 0), "one of three rebuilds what is missing");
        assert_eq!(useless(&first[..1]), (2, 0), "it comes after all");
        assert_eq!(useless(&second[..9]), (2, 0));
        let (last, parity) = (&second[9..10], &second[10..]);
        assert_eq!(useless(last), (2, 0));
        assert_eq!(useless(parity), (5, 0), "nothing was lost");
        let mut decoder = Decoder::new(Config::default());
        for datagram in [&first[10..11], &first[..10]].concat() {
            // The tenth datagram rebuilds the one that comes then.
            feed(&mut decoder, &datagram);
        }
        assert_eq!((decoder.stats().useless_parity, decoder.stats().recovered), (0, 1));
    }

    #[test]
    fn where_memory_is_short_older_groups_give_way_to_newer_ones() {
        let mut encoder = Encoder::new(Shards::KCPQ, MAX_SHARD);
        let mut groups = [Vec::new(), Vec::new()];
        for group in &mut groups {
            for _ in 0..10 {
                let mut datagram = vec![7; 100];
                encoder.data(NOW, &mut datagram).unwrap();
                group.push(datagram);
            }
            group.extend(parity(&mut encoder));
        }
        const SHARD: usize = 100 - header::LEN + 2;
        for (begun, other) in [(0, 1), (1, 0)] {
            let mut decoder = Decoder::new(Config { max_bytes: 12 * SHARD, ..Config::default() });
            groups[begun][1..9].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
            feed(&mut decoder, &groups[begun][10]);
            [1, 2, 10].into_iter().for_each(|index| drop(feed(&mut decoder, &groups[other][index])));
            assert_eq!((decoder.kept_bytes(), decoder.stats().crowded), (12 * SHARD, 0));
            feed(&mut decoder, &groups[other][3]);
            let (kept, crowded) = if begun < other { (4, 0) } else { (9, 1) };
            assert_eq!(decoder.kept_bytes(), kept * SHARD, "begun with group {begun}");
            assert_eq!((decoder.stats().crowded, decoder.stats().expired_parity), (crowded, 1));
            // What is left of the older one comes too late, and the newer one is rebuilt.
            groups[0][9..].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
            assert_eq!((decoder.stats().recovered, decoder.stats().expired_parity), (0, 3));
            groups[1][4..].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
            assert_eq!(decoder.stats().recovered, 1, "begun with group {begun}");
        }
    }

    #[test]
    fn a_peer_that_begins_to_send_parity_late_is_helped_from_the_next_group_on() {
        let mut rng = Rng::with_seed(9);
        let sent = stream(Shards::KCPQ, 12, 0, &mut rng);
        let mut decoder = Decoder::new(Config::default());
        let is_data = |datagram: &&Vec<u8>| Header::parse(datagram).unwrap().0.kind == Kind::Data;
        sent[..10 * 13].iter().filter(is_data).for_each(|datagram| drop(feed(&mut decoder, datagram)));
        assert_eq!(decoder.kept_bytes(), 0);
        sent[10 * 13..11 * 13].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
        sent[11 * 13 + 1..].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
        assert_eq!(decoder.stats().recovered, 1);
    }

    #[test]
    fn parity_of_a_stale_group_is_skipped_with_its_numbers() {
        let mut encoder = Encoder::new(Shards::KCPQ, 64).with_stale_after(Some(Encoder::STALE_AFTER));
        let mut owed = Vec::new();
        let mut now = NOW;
        for index in 0..30_u32 {
            // The second group ends with a heartbeat after a long pause.
            now += Duration::from_millis(if index == 19 { 501 } else { 500 });
            let mut datagram = [0; 60];
            encoder.data(now, &mut datagram).unwrap();
            assert_eq!(Header::parse(&datagram).unwrap().0.seqid, index + index / 10 * 3);
            owed.push(parity(&mut encoder).len());
        }
        assert_eq!((owed[9], owed[19], owed[29]), (3, 0, 3));
        assert_eq!(owed.iter().sum::<usize>(), 6);
    }

    #[test]
    fn parity_that_nobody_fetched_is_skipped_with_its_numbers() {
        let mut encoder = Encoder::new(Shards::KCPQ, 64);
        let mut datagram = [0; 60];
        for _ in 0..10 {
            encoder.data(NOW, &mut datagram).unwrap();
        }
        assert_eq!(encoder.parity_len(), Some(60));
        assert_eq!(encoder.poll_parity(&mut [0; 59]), None);
        assert_eq!(encoder.poll_parity(&mut [0; 200]), Some(60));
        encoder.data(NOW, &mut datagram).unwrap();
        assert_eq!(Header::parse(&datagram).unwrap().0.seqid, 13);
        assert_eq!(encoder.poll_parity(&mut [0; 200]), None);
    }

    #[test]
    fn parity_is_owed_when_a_group_is_complete() {
        let mut encoder = Encoder::new(Shards::KCPQ, 64);
        for _ in 0..10 {
            assert_eq!(encoder.parity_len(), None);
            encoder.data(NOW, &mut [0; header::LEN]).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(encoder.parity_len(), Some(header::LEN));
            assert_eq!(encoder.poll_parity(&mut [0; 64]), Some(header::LEN));
        }
        assert_eq!(encoder.parity_len(), None);
    }

    #[test]
    fn a_datagram_that_does_not_fit_changes_nothing() {
        let (mut one, mut other) = (Encoder::new(Shards::KCPQ, 64), Encoder::new(Shards::KCPQ, 64));
        for fill in 0..10 {
            assert_eq!(one.data(NOW, &mut [0; 71]), Err(FecError::TooLong { len: 71, max: 70 }));
            assert_eq!(one.data(NOW, &mut [0; 7]), Err(FecError::Truncated { len: 7 }));
            one.data(NOW, &mut [fill; 70]).unwrap();
            other.data(NOW, &mut [fill; 70]).unwrap();
        }
        assert_eq!(parity(&mut one), parity(&mut other));
    }
}

mod hostile {
    use super::*;

    #[test]
    fn damaged_datagrams_are_refused_and_counted() {
        let mut decoder = Decoder::new(Config::default());
        let sent = stream(Shards::KCPQ, 1, 0, &mut Rng::with_seed(3));
        for len in 0..header::LEN {
            assert_eq!(decoder.open(NOW, &sent[0][..len]), Err(FecError::Truncated { len }));
        }
        let cut = &sent[0][..sent[0].len() - 1];
        assert!(matches!(decoder.open(NOW, cut), Err(FecError::Size { .. })));
        assert_eq!(decoder.open(NOW, &[81; 24]), Err(FecError::NotFec { kind: 0x5151 }));
        assert_eq!((decoder.stats().malformed, decoder.kept_bytes()), (10, 0));
    }

    /// A lying peer codes shards whose size fields cannot be.
    #[test]
    fn rebuilt_shards_with_an_absurd_size_field_are_dropped_and_counted() {
        for size in [0_u16, 1, 60, 1_000, u16::MAX] {
            let mut decoder = Decoder::new(Config { shards: Shards::new(1, 1).unwrap(), ..Config::default() });
            // With one data shard the parity is its copy; 58 bytes, the last of them no padding.
            let head = Header { seqid: 1, kind: Kind::Parity }.to_bytes();
            let datagram = [&head[..], &size.to_le_bytes(), &[9; 56]].concat();
            assert_eq!(feed(&mut decoder, &datagram), (None, vec![]));
            assert_eq!((decoder.stats().malformed, decoder.stats().recovered), (1, 0), "size {size}");
        }
    }

    #[test]
    fn shards_that_contradict_each_other_take_their_group_with_them() {
        let sent = stream(Shards::KCPQ, 2, 0, &mut Rng::with_seed(4));
        let mut decoder = Decoder::new(Config::default());
        sent[1..11].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
        assert_eq!(decoder.stats().recovered, 1);
        // Two parity shards of different lengths, in the next group.
        sent[15..24].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
        let mut shorter = sent[24].clone();
        shorter.pop();
        let mut decoder = Decoder::new(Config::default());
        feed(&mut decoder, &sent[23]);
        feed(&mut decoder, &shorter);
        sent[15..23].iter().chain(&sent[25..]).for_each(|datagram| drop(feed(&mut decoder, datagram)));
        assert_eq!((decoder.stats().malformed, decoder.stats().recovered, decoder.kept_bytes()), (1, 0, 0));
        assert_eq!(decoder.stats().expired_parity, 2, "the first, and the one that came after all");
    }

    #[test]
    fn an_absurd_number_disturbs_nothing_and_two_that_agree_are_followed() {
        let sent = stream(Shards::KCPQ, 3, 0, &mut Rng::with_seed(6));
        let mut decoder = Decoder::new(Config::default());
        let mut absurd = sent[2].clone();
        for (index, datagram) in sent[..13].iter().enumerate().skip(1) {
            feed(&mut decoder, datagram);
            absurd[..4].copy_from_slice(&(0x7000_0000 + 50_000 * index as u32).to_le_bytes());
            assert!(feed(&mut decoder, &absurd).0.is_some(), "data reach KCP all the same");
        }
        assert_eq!((decoder.stats().recovered, decoder.stats().implausible), (1, 12));
        // The sender begins anew elsewhere: the first datagram is doubted and so not kept, the others are.
        let moved = stream(Shards::KCPQ, 1, 13 * 1_000_000, &mut Rng::with_seed(7));
        moved[2..].iter().for_each(|datagram| drop(feed(&mut decoder, datagram)));
        assert_eq!((decoder.stats().recovered, decoder.stats().implausible), (1 + 3, 13));
        sent[26..].iter().skip(1).for_each(|datagram| drop(feed(&mut decoder, datagram)));
        assert_eq!(decoder.stats().recovered, 4 + 2, "and back");
    }

    #[test]
    fn a_flood_of_parity_alone_costs_bounded_memory_and_rebuilds_nothing() {
        let mut decoder = Decoder::new(Config::default());
        let mut rng = Rng::with_seed(8);
        for index in 0..20_000_u32 {
            let seqid = if index % 3 == 0 { rng.u32(..) } else { index };
            let mut datagram = vec![0x33; rng.usize(8..1_500)];
            datagram[..6].copy_from_slice(&Header { seqid, kind: Kind::Parity }.to_bytes());
            assert_eq!(feed(&mut decoder, &datagram), (None, vec![]));
            assert!(decoder.kept_bytes() <= Config::default().max_bytes);
        }
        let stats = decoder.stats();
        assert_eq!((stats.parity, stats.recovered, stats.retuned), (20_000, 0, 0));
    }

    #[test]
    fn counts_that_change_again_and_again_are_followed_within_bounds() {
        let mut decoder = Decoder::new(Config { max_bytes: 12_000, ..Config::default() });
        let mut rng = Rng::with_seed(10);
        let mut first = 0;
        let mut followed = 0;
        for _ in 0..40 {
            let shards = Shards::new(rng.u8(1..100), rng.u8(1..40)).unwrap();
            first += u32::from(shards.total()) - first % u32::from(shards.total());
            for datagram in stream(shards, 8, first, &mut rng).iter().filter(|_| rng.f64() > 0.02) {
                feed(&mut decoder, datagram);
                assert!(decoder.kept_bytes() <= 12_000);
            }
            first += 8 * u32::from(shards.total());
            followed += u32::from(decoder.shards() == shards);
        }
        assert_eq!(followed, 40);
        assert!(decoder.stats().crowded > 0);
    }

    #[test]
    fn noise_of_every_kind_never_panics_nor_outgrows_its_bound() {
        let mut rng = Rng::with_seed(12);
        for _ in 0..8 {
            let mut decoder = Decoder::new(Config { max_bytes: 20_000, ..Config::default() });
            let mut now = NOW;
            for _ in 0..4_000 {
                let mut datagram: Vec<u8> = (0..rng.usize(..400)).map(|_| rng.u8(..)).collect();
                if let Some(head) = datagram.first_chunk_mut::<8>() {
                    let near = if rng.u8(..) < 8 { u32::MAX - 60 } else { 0 };
                    head[..4].copy_from_slice(&near.wrapping_add(rng.u32(..90)).to_le_bytes());
                    head[4..6].copy_from_slice(&[0xf1 + rng.u8(..2), 0]);
                    head[6..].copy_from_slice(&rng.u16(..420).to_le_bytes());
                }
                now += Duration::from_millis(rng.u64(..200));
                let _ = decoder.open(now, &datagram);
                while decoder.poll_recovered().is_some() {}
                assert!(decoder.kept_bytes() <= 20_000);
            }
        }
    }
}

/// The datagrams of so many groups, parity included, of random lengths.
fn stream(shards: Shards, groups: u32, first: u32, rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(shards, MAX_SHARD).starting_at(first);
    let mut sent = Vec::new();
    for _ in 0..groups * u32::from(shards.data()) {
        let mut datagram: Vec<u8> = (0..rng.usize(40..400)).map(|_| rng.u8(..)).collect();
        encoder.data(NOW, &mut datagram).unwrap();
        sent.push(datagram);
        sent.extend(parity(&mut encoder));
    }
    sent
}

fn parity(encoder: &mut Encoder) -> Vec<Vec<u8>> {
    let mut out = vec![0; MAX_SHARD + header::SHARD];
    core::iter::from_fn(|| encoder.poll_parity(&mut out).map(|len| out[..len].to_vec())).collect()
}

/// What a datagram brings: its own KCP part, and those it let the decoder rebuild.
fn feed(decoder: &mut Decoder, datagram: &[u8]) -> (Option<Vec<u8>>, Vec<Vec<u8>>) {
    let own = decoder.open(NOW, datagram).unwrap().map(<[u8]>::to_vec);
    let mut rebuilt = Vec::new();
    while let Some(part) = decoder.poll_recovered() {
        rebuilt.push(part.to_vec());
    }
    (own, rebuilt)
}

fn all_parts(decoder: &mut Decoder, datagram: &[u8]) -> Vec<Vec<u8>> {
    let (own, rebuilt) = feed(decoder, datagram);
    own.into_iter().chain(rebuilt).collect()
}
