use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::subject::{Limits, Pattern};

const NOW: Instant = Instant::from_millis(1);

fn kept(limits: LastValues) -> Kept {
    Kept::new(limits, 1).unwrap()
}

fn put(kept: &mut Kept, subject: &str, len: usize) -> Result<(), NotKept> {
    let keeps = kept.judge(subject, len, len == 0)?;
    let stamp = (kept.stamp(NOW), 0);
    kept.put((NOW, Duration::ZERO), subject, keeps.then(|| alloc::vec![7; len].into()), stamp, None, true);
    Ok(())
}

fn subjects(kept: &Kept) -> Vec<&str> {
    kept.from(&Cursor::default()).map(|(subject, _)| subject).collect()
}

/// All that a search finds, with so many steps at a time.
fn found(kept: &Kept, pattern: &str, at_a_time: u32) -> (Vec<String>, u32) {
    let (mut cursor, mut found, mut steps) = (Cursor::default(), Vec::new(), 0);
    loop {
        let mut left = at_a_time;
        let step = kept.next(pattern, &mut cursor, &mut left);
        steps += at_a_time - left;
        match step {
            Step::Found(subject, _) => found.push(subject.into()),
            Step::Pause => assert_eq!(left, 0),
            Step::End => return (found, steps),
        }
    }
}

#[test]
fn a_search_finds_what_looking_at_all_finds() {
    let mut rng = fastrand::Rng::with_seed(11);
    // Characters before and behind the point in the order of bytes.
    let tokens = ["a", "b", "a-", "a/", "ab", "a!b", "-", "/", "é"];
    for _ in 0..300 {
        let mut kept = kept(LastValues::default());
        for _ in 0..rng.usize(..80) {
            let subject: Vec<_> = (0..rng.usize(1..5)).map(|_| *rng.choice(&tokens).unwrap()).collect();
            put(&mut kept, &subject.join("."), 1).unwrap();
        }
        for _ in 0..40 {
            let mut parts: Vec<_> = (0..rng.usize(1..5))
                .map(|_| if rng.u8(..3) == 0 { "*" } else { *rng.choice(&tokens).unwrap() })
                .collect();
            if rng.u8(..4) == 0 {
                parts.push(">");
            }
            let text = parts.join(".");
            let pattern = Pattern::new(&text, &Limits::DEFAULT).unwrap();
            let matches = |subject: &&str| pattern.matches(Subject::new(subject, &Limits::DEFAULT).unwrap());
            let expected: Vec<_> = subjects(&kept).into_iter().filter(matches).collect();
            let (found, steps) = found(&kept, &text, rng.u32(1..4));
            assert_eq!(found, expected, "{text} of {:?}", subjects(&kept));
            assert!(steps as usize <= 2 * kept.size().0 + 1, "{steps} steps for {text}");
        }
    }
}

#[test]
fn a_search_passes_over_what_cannot_match() {
    let mut kept = kept(LastValues::default());
    for device in 0..50 {
        for value in 0..100 {
            put(&mut kept, &format!("site.{device}.value.{value}"), 1).unwrap();
        }
        put(&mut kept, &format!("site.{device}.status"), 1).unwrap();
    }
    for (pattern, count, most) in
        [("site.7.status", 1, 3), ("site.7.>", 101, 104), ("site.*.status", 50, 152), ("other.*", 0, 2), ("site", 0, 3)]
    {
        let (found, steps) = found(&kept, pattern, 1_000);
        assert!(found.len() == count && steps <= most, "{pattern}: {} in {steps} steps", found.len());
    }
}

#[test]
fn what_is_new_is_refused_when_there_is_no_room_and_what_is_known_renewed() {
    let mut kept = kept(LastValues { max_subjects: 2, max_bytes: 1_000, max_value: 500, ..LastValues::default() });
    put(&mut kept, "a", 10).unwrap();
    put(&mut kept, "b", 10).unwrap();
    assert_eq!(put(&mut kept, "c", 10), Err(NotKept::TooMany { limit: 2 }));
    assert_eq!(put(&mut kept, "b", 501), Err(NotKept::TooLarge { limit: 500, actual: 501 }));
    put(&mut kept, "b", 500).unwrap();
    assert_eq!(put(&mut kept, "a", 300), Err(NotKept::NoRoom { limit: 1_000 }));
    put(&mut kept, "b", 20).unwrap();
    put(&mut kept, "a", 300).unwrap();
    assert_eq!(kept.size(), (2, 300 + 20 + 2 * (2 + OVERHEAD)));
    put(&mut kept, "a", 0).unwrap();
    put(&mut kept, "c", 10).unwrap();
    assert_eq!(subjects(&kept), ["b", "c"]);
    let off = Kept::new(LastValues { max_subjects: 0, ..LastValues::default() }, 1).unwrap();
    assert_eq!((off.judge("a", 1, false), off.judge("a", 0, true)), (Err(NotKept::Off), Err(NotKept::Off)));
}

#[test]
fn values_lapse_when_their_time_is_over_and_not_when_that_of_an_older_one_is() {
    let mut kept = kept(LastValues::default());
    let until = |millis| Some(Instant::from_millis(millis));
    for (subject, expires) in [("a", until(10)), ("b", until(10)), ("b", until(30)), ("c", None)] {
        let stamp = (kept.stamp(NOW), 0);
        kept.put((NOW, Duration::ZERO), subject, Some(Bytes::from_static(b"x")), stamp, expires, false);
    }
    assert_eq!(kept.poll_timeout().map(|deadline| deadline.at), until(10));
    assert_eq!((kept.lapse(Instant::from_millis(9)), kept.lapse(Instant::from_millis(10))), (0, 1));
    assert_eq!(subjects(&kept), ["b", "c"]);
    assert_eq!(kept.lapse(Instant::from_millis(30)), 1);
    assert_eq!((kept.poll_timeout(), kept.size()), (None, (1, cost("c", 1))));
}

/// Whatever the order in which brokers hear of each other's values, in the end all have the same.
#[test]
fn the_last_stamp_counts_in_whatever_order_they_come() {
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..200 {
        let told: Vec<_> = (0..30u64)
            .map(|at| {
                let frame = (rng.u8(..3) > 0).then(|| Bytes::from(alloc::vec![at as u8]));
                (*rng.choice(&["a", "b", "c"]).unwrap(), frame, (at / 2, (at % 2) as u8))
            })
            .collect();
        let all = |order: &[usize]| {
            let mut kept = kept(LastValues::default());
            for (subject, frame, stamp) in order.iter().map(|at| &told[*at]) {
                kept.put((NOW, Duration::ZERO), subject, frame.clone(), *stamp, None, true);
            }
            let values = kept.from(&Cursor::default()).map(|(subject, value)| (subject.into(), value.frame.clone()));
            values.collect::<Vec<(String, Bytes)>>()
        };
        let mut order: Vec<_> = (0..told.len()).collect();
        let expected = all(&order);
        rng.shuffle(&mut order);
        assert_eq!(all(&order), expected);
    }
}
