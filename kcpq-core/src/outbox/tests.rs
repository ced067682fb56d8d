//! One suite, run over the outboxes of all stores there are.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::frame::{Frame, command};
#[cfg(feature = "alloc")]
use crate::store::HeapTx;
use crate::store::{LentTx, TxStream};

fn leak(len: usize) -> &'static mut [u8] {
    Box::leak(vec![0; len].into_boxed_slice())
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64 + payload.len()];
    let frame = Frame { command: command::PUB, subject: b"s", payload };
    let len = frame.encode(&mut out).unwrap();
    out.truncate(len);
    out
}

/// Frames come out whole and in order, and dropping takes the oldest that has not begun to go.
fn an_outbox_keeps_frames<T: TxStream, O: Outbox<T>>(mut outbox: O, mut tx: T, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut waiting: std::collections::VecDeque<Vec<u8>> = Default::default();
    let mut expected: Vec<u8> = Vec::new();
    let mut got: Vec<u8> = Vec::new();
    let mut dropped_mid = 0;
    for round in 0..3_000u32 {
        match rng.u8(..4) {
            0 | 1 => {
                let payload = vec![round as u8; rng.usize(..300)];
                let bytes = frame(&payload);
                if outbox.push(&[&bytes[..7], &bytes[7..]], None).is_ok() {
                    waiting.push_back(bytes);
                }
            }
            2 if round % 7 == 0 => {
                let mid = outbox.mid_frame();
                if outbox.drop_oldest() {
                    assert!(!mid);
                    waiting.pop_front().unwrap();
                } else {
                    dropped_mid += 1;
                }
            }
            _ => {
                if let Some(moved) = outbox.move_to(&mut tx, Instant::ZERO, Dialect::Extended) {
                    for _ in 0..moved.frames {
                        expected.extend(waiting.pop_front().unwrap());
                    }
                    let mut out = vec![0; tx.len()];
                    tx.copy_to(0, &mut out);
                    assert_eq!(out.len(), moved.bytes);
                    got.extend(out);
                    tx.release(moved.bytes);
                }
            }
        }
        assert_eq!(outbox.frames(), waiting.len());
        assert!(got.starts_with(&expected));
    }
    assert!(dropped_mid < 3_000 && expected.len() > 10_000);
}

#[test]
fn outboxes_keep_frames_whole_and_in_order() {
    for seed in 0..5 {
        an_outbox_keeps_frames(LentOutbox::new(leak(1000)), LentTx::new(leak(333)), seed);
        #[cfg(feature = "alloc")]
        an_outbox_keeps_frames(HeapOutbox::default(), HeapTx::default(), seed);
    }
}

/// What is too long goes, wherever it waits; what has begun to go out stays, and so does the order.
fn an_outbox_drops_what_is_too_long<T: TxStream, O: Outbox<T>>(mut outbox: O, mut tx: T, begin: bool) {
    let mut expected = Vec::new();
    for round in 0..10_u8 {
        for len in [10, 60, 20] {
            let bytes = frame(&vec![round; len]);
            outbox.push(&[&bytes[..7], &bytes[7..]], None).unwrap();
            if len < 60 || begin && round == 0 {
                expected.extend(bytes);
            }
        }
        let mut out = [0; 40];
        if begin && round == 0 {
            // The first one, and some of the one that is too long.
            let moved = outbox.move_to(&mut tx, Instant::ZERO, Dialect::Extended).unwrap();
            assert_eq!((moved.bytes, outbox.mid_frame()), (40, true));
            tx.copy_to(0, &mut out);
            assert_eq!(out, expected[..40]);
            tx.release(40);
            expected.drain(..40);
        }
    }
    let limit = frame(&[0; 20]).len() - crate::frame::LENGTH;
    assert_eq!(outbox.drop_longer(limit), if begin { 9 } else { 10 });
    let mut got = Vec::new();
    while outbox.move_to(&mut tx, Instant::ZERO, Dialect::Extended).is_some() {
        let mut out = vec![0; tx.len()];
        tx.copy_to(0, &mut out);
        tx.release(out.len());
        got.extend(out);
    }
    assert_eq!(got, expected);
    assert_eq!((outbox.len(), outbox.frames()), (0, 0));
}

#[test]
fn outboxes_drop_what_is_too_long() {
    // Quite full, so that what goes to the back of the ring goes around its end.
    for size in [1_160, 1_200, 1_300] {
        an_outbox_drops_what_is_too_long(LentOutbox::new(leak(size)), LentTx::new(leak(40)), false);
        an_outbox_drops_what_is_too_long(LentOutbox::new(leak(size)), LentTx::new(leak(40)), true);
    }
    #[cfg(feature = "alloc")]
    an_outbox_drops_what_is_too_long(HeapOutbox::default(), HeapTx::default(), false);
}

#[cfg(any(feature = "alloc", feature = "ttl"))]
#[test]
fn outboxes_count_the_time_that_is_told_to_a_message() {
    #[cfg(feature = "ttl")]
    tells_the_time(LentOutbox::new(leak(1_000)));
    #[cfg(feature = "alloc")]
    tells_the_time::<HeapTx>(HeapOutbox::default());
}

#[cfg(any(feature = "alloc", feature = "ttl"))]
fn tells_the_time<T>(mut outbox: impl Outbox<T>) {
    let bytes = frame(&[1; 100]);
    outbox.push(&[&bytes[..7], &bytes[7..]], Some(Instant::from_millis(1_000))).unwrap();
    let body = bytes.len() - crate::frame::LENGTH + crate::frame::properties::TTL + crate::frame::properties::END;
    assert_eq!((outbox.drop_longer(body), outbox.drop_longer(body - 1)), (0, 1));
    assert_eq!((outbox.len(), outbox.frames()), (0, 0));
    if cfg!(feature = "properties") {
        // Other properties have a length already.
        let bytes = extended(&[1; 100], &[1, 0, 1, b'a']);
        outbox.push_extended(&[&bytes], Some(Instant::from_millis(1_000))).unwrap();
        let body = bytes.len() - crate::frame::LENGTH + crate::frame::properties::TTL;
        assert_eq!((outbox.drop_longer(body), outbox.drop_longer(body - 1)), (0, 1));
        assert_eq!((outbox.len(), outbox.frames()), (0, 0));
    }
}

#[test]
fn an_outbox_tells_never_from_not_now() {
    let mut outbox = LentOutbox::new(leak(100));
    assert_eq!(outbox.push(&[&[0; 7], &[0; 94]], None), Err(PushError::TooLarge(TooLarge { limit: 100, actual: 101 })));
    outbox.push(&[&frame(&[0; 60])], None).unwrap();
    assert_eq!(outbox.push(&[&frame(&[0; 60])], None), Err(PushError::Full));
}

#[cfg(feature = "alloc")]
#[test]
fn an_idle_heap_session_holds_nothing() {
    let mut outbox = HeapOutbox::default();
    let mut tx = HeapTx::default();
    for _ in 0..1_000 {
        outbox.push(&[&frame(&[1; 100])], None).unwrap();
    }
    while outbox.move_to(&mut tx, Instant::ZERO, Dialect::Extended).is_some() {}
    tx.release(usize::MAX);
    assert_eq!((outbox.len(), outbox.frames(), tx.len()), (0, 0, 0));
}

/// A frame of these properties.
#[cfg(any(feature = "alloc", feature = "ttl", feature = "properties"))]
fn extended(payload: &[u8], properties: &[u8]) -> Vec<u8> {
    let payload = [payload, properties, &(properties.len() as u16).to_be_bytes()].concat();
    let mut out = vec![0; 64 + payload.len()];
    let len = Frame { command: command::PUBX, subject: b"s", payload: &payload }.encode(&mut out).unwrap();
    out.truncate(len);
    out
}

/// Moves all that goes at `now` into the stream, in small pieces.
#[cfg(any(feature = "alloc", feature = "ttl", feature = "properties"))]
fn moved<T: TxStream, O: Outbox<T>>(outbox: &mut O, tx: &mut T, now: Instant, peer: Dialect) -> (Vec<u8>, u32, u32) {
    let (mut got, mut frames, mut expired) = (Vec::new(), 0, 0);
    for _ in 0..20 {
        expired += outbox.expire(now);
        let Some(moved) = outbox.move_to(tx, now, peer) else { break };
        frames += moved.frames;
        assert_eq!(tx.len(), moved.bytes);
        let mut out = vec![0; moved.bytes];
        tx.copy_to(0, &mut out);
        tx.release(moved.bytes);
        got.extend(out);
    }
    (got, frames, expired)
}

/// What waits until its time is over is forgotten; what goes out earlier says how much is left, to who knows that.
#[cfg(any(feature = "alloc", feature = "ttl"))]
fn an_outbox_forgets_in_time<T: TxStream, O: Outbox<T>>(new: impl Fn() -> (O, T)) {
    let at = Instant::from_millis;
    for peer in [Dialect::Unknown, Dialect::Plain, Dialect::Extended] {
        let (mut outbox, mut tx) = new();
        let (plain, short, long) = (frame(b"plain"), frame(b"short"), frame(&[5; 600]));
        outbox.push(&[&short[..7], &short[7..8], &short[8..]], Some(at(10))).unwrap();
        outbox.push(&[&short], Some(at(30))).unwrap();
        outbox.push(&[&plain], None).unwrap();
        outbox.push(&[&short], Some(at(15))).unwrap();
        outbox.push(&[&long], Some(at(1_000))).unwrap();
        assert_eq!((outbox.expire(at(9)), outbox.frames()), (0, 5));
        assert_eq!((outbox.expire(at(10)), outbox.frames()), (1, 4));
        let (got, frames, expired) = moved(&mut outbox, &mut tx, at(20), peer);
        let timed = |payload: &[u8], left: u32| {
            let [a, b, c, d] = left.to_be_bytes();
            if peer == Dialect::Extended { extended(payload, &[0x81, 0, 4, a, b, c, d]) } else { frame(payload) }
        };
        assert_eq!(got, [timed(b"short", 10), plain, timed(&[5; 600], 980)].concat());
        assert_eq!((frames, expired), (3, 1));
        assert_eq!((outbox.len(), outbox.frames(), outbox.mid_frame()), (0, 0, false));
    }
}

#[cfg(any(feature = "alloc", feature = "ttl"))]
#[test]
fn outboxes_forget_frames_whose_time_is_over() {
    #[cfg(feature = "ttl")]
    an_outbox_forgets_in_time(|| (LentOutbox::new(leak(1_000)), LentTx::new(leak(111))));
    #[cfg(feature = "alloc")]
    an_outbox_forgets_in_time(|| (HeapOutbox::default(), HeapTx::default()));
}

/// Frames give way to the next one of their subject.
#[cfg(any(feature = "alloc", all(feature = "lanes", feature = "properties")))]
mod latest {
    use super::*;

    /// The parts of a frame that gives way: the subject is the second.
    pub(super) fn parts(frame: &[u8]) -> [&[u8]; 3] {
        let (head, rest) = frame.split_at(crate::frame::HEAD);
        let (subject, rest) = rest.split_at(1);
        [head, subject, rest]
    }

    /// A PUBX of this subject, of one letter.
    pub(super) fn of(subject: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = extended(payload, &[]);
        frame[crate::frame::HEAD] = subject;
        frame
    }

    pub(super) fn push<T, O: Outbox<T>>(outbox: &mut O, frame: &[u8], expires: Option<Instant>) {
        if !outbox.replace(&parts(frame), expires, 20_000) {
            outbox.push_superseding(&parts(frame), expires, 1).unwrap();
        }
    }

    /// Unless something ordinary stands between them.
    fn takes_the_place<T: TxStream, O: Outbox<T>>(mut outbox: O, mut tx: T) {
        push(&mut outbox, &of(b's', b"1"), None);
        push(&mut outbox, &of(b's', b"22"), None);
        outbox.hold(b"another");
        push(&mut outbox, &of(b's', b"3"), None);
        outbox.hold(b"s");
        outbox.push(&[&frame(b"4")], None).unwrap();
        push(&mut outbox, &of(b's', b"5"), None);
        push(&mut outbox, &of(b's', b"6"), None);
        assert_eq!(outbox.frames(), 3);
        let mut latest = || outbox.move_to(&mut tx, Instant::from_millis(1), Dialect::Extended).unwrap().latest;
        let keys = [latest(), latest(), latest()];
        assert!(keys[0].is_some() && keys[0] == keys[2] && keys[1].is_none(), "{keys:?}");
        let mut bytes = vec![0; tx.len()];
        tx.copy_to(0, &mut bytes);
        assert_eq!(bytes, [of(b's', b"3"), frame(b"4"), of(b's', b"6")].concat());
    }

    #[test]
    fn the_latest_takes_the_place_of_the_one_before_and_overtakes_nothing() {
        #[cfg(all(feature = "lanes", feature = "properties"))]
        takes_the_place(LentOutbox::new(leak(1_000)), LentTx::new(leak(1_000)));
        #[cfg(feature = "alloc")]
        takes_the_place(HeapOutbox::default(), HeapTx::default());
    }
}

/// Whatever waits, gives way, expires or is dropped: what comes out of both memories is the same.
#[cfg(all(feature = "alloc", feature = "lanes", feature = "properties", feature = "ttl"))]
#[test]
fn both_outboxes_supersede_alike() {
    let at = Instant::from_millis;
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut heap, mut lent) = (HeapOutbox::default(), LentOutbox::new(leak(20_000)));
        let (mut heap_tx, mut lent_tx) = (HeapTx::default(), LentTx::new(leak(20_000)));
        for round in 0..400_u64 {
            let payload = vec![round as u8; rng.usize(..40)];
            let subject = b'a' + rng.u8(..4);
            let expires = (rng.u8(..4) == 0).then(|| at(round + rng.u64(..40)));
            match rng.u8(..8) {
                0..5 => {
                    let frame = latest::of(subject, &payload);
                    latest::push::<HeapTx, _>(&mut heap, &frame, expires);
                    latest::push::<LentTx<'_>, _>(&mut lent, &frame, expires);
                }
                5 => {
                    let mut frame = frame(&payload);
                    frame[crate::frame::HEAD] = subject;
                    let parts = latest::parts(&frame);
                    Outbox::<HeapTx>::hold(&mut heap, &[subject]);
                    lent.hold(&[subject]);
                    Outbox::<HeapTx>::push(&mut heap, &parts, expires).unwrap();
                    lent.push(&parts, expires).unwrap();
                }
                6 => {
                    assert_eq!(Outbox::<HeapTx>::drop_oldest(&mut heap), lent.drop_oldest(), "seed {seed}");
                }
                _ => {
                    let one = moved(&mut heap, &mut heap_tx, at(round), Dialect::Extended);
                    assert_eq!(one, moved(&mut lent, &mut lent_tx, at(round), Dialect::Extended), "seed {seed}");
                }
            }
            assert_eq!(Outbox::<HeapTx>::frames(&heap), lent.frames(), "seed {seed}, round {round}");
        }
    }
}

/// One that gives way goes whole, so that it can be a segment of its own; one for which there is never room as others do.
#[cfg(all(feature = "lanes", feature = "properties"))]
#[test]
fn what_gives_way_goes_whole_and_waits_for_room() {
    let (mut outbox, mut tx) = (LentOutbox::new(leak(500)), LentTx::new(leak(100)));
    let (short, long) = (latest::of(b'a', &[1; 60]), latest::of(b'b', &[2; 120]));
    outbox.push(&[&frame(&[0; 30])], None).unwrap();
    latest::push::<LentTx<'_>, _>(&mut outbox, &short, None);
    latest::push::<LentTx<'_>, _>(&mut outbox, &long, None);
    let mut go = |room: usize| {
        tx.release(room);
        outbox.move_to(&mut tx, Instant::ZERO, Dialect::Extended).map(|moved| (moved.bytes, moved.latest.is_some()))
    };
    assert_eq!(go(0), Some((frame(&[0; 30]).len(), false)));
    assert_eq!(go(0), None, "there is no room for all of it");
    assert_eq!(go(100), Some((short.len(), true)));
    assert_eq!(go(0), None);
    assert_eq!(go(100), Some((100, false)), "it is longer than the stream");
    assert_eq!(go(100), Some((long.len() - 100, false)));
    assert_eq!((outbox.len(), outbox.frames()), (0, 0));
}

/// Who knows properties gets them, others get the message, and as long as that is not known it waits. With `ttl` there are
/// times as well.
#[cfg(any(feature = "alloc", feature = "properties"))]
fn an_outbox_knows_whom_properties_are_for<T: TxStream, O: Outbox<T>>(new: impl Fn() -> (O, T), ttl: bool) {
    let at = Instant::from_millis;
    let reply = [1, 0, 3, b'a', b'.', b'b'];
    let until = |millis| ttl.then(|| at(millis));
    for peer in [Dialect::Plain, Dialect::Extended] {
        let (mut outbox, mut tx) = new();
        outbox.push(&[&frame(b"before")], None).unwrap();
        outbox.push_extended(&[&extended(b"one", &reply)], None).unwrap();
        outbox.push(&[&frame(b"between")], None).unwrap();
        outbox.push_extended(&[&extended(b"two", &reply)], until(50)).unwrap();
        outbox.push_extended(&[&extended(b"", &reply)], until(10)).unwrap();
        outbox.push(&[&frame(b"after")], until(60)).unwrap();
        let (early, ..) = moved(&mut outbox, &mut tx, at(5), Dialect::Unknown);
        // Frames that lie together may wait for each other.
        assert!(early.is_empty() || early == frame(b"before"));
        let (late, _, expired) = moved(&mut outbox, &mut tx, at(20), peer);
        let shown = |payload: &[u8], properties: &[u8], left: u8| {
            let time = if ttl { &[0x81, 0, 4, 0, 0, 0, left][..] } else { &[] };
            let properties = [properties, time].concat();
            if peer == Dialect::Plain || properties.is_empty() {
                frame(payload)
            } else {
                extended(payload, &properties)
            }
        };
        let one = if peer == Dialect::Plain { frame(b"one") } else { extended(b"one", &reply) };
        let third = if ttl { Vec::new() } else { shown(b"", &reply, 0) };
        let (two, after) = (shown(b"two", &reply, 30), shown(b"after", &[], 40));
        let expected = [frame(b"before"), one, frame(b"between"), two, third, after].concat();
        assert_eq!([early, late].concat(), expected, "{peer:?}");
        assert_eq!(expired, u32::from(ttl));
        assert_eq!((outbox.len(), outbox.frames(), outbox.mid_frame()), (0, 0, false));
    }
}

#[cfg(any(feature = "alloc", feature = "properties"))]
#[test]
fn outboxes_know_whom_properties_are_for() {
    #[cfg(feature = "properties")]
    an_outbox_knows_whom_properties_are_for(
        || (LentOutbox::new(leak(1_000)), LentTx::new(leak(31))),
        cfg!(feature = "ttl"),
    );
    #[cfg(feature = "alloc")]
    an_outbox_knows_whom_properties_are_for(|| (HeapOutbox::default(), HeapTx::default()), true);
}

/// A subscription to every message comes and goes beside one to the latest: what was queued for it has its place, and nothing that
/// is newer comes before it.
#[test]
#[cfg(feature = "alloc")]
fn nothing_takes_a_place_before_a_frame_of_its_subject_that_does_not_give_way() {
    let mut outbox = HeapOutbox::default();
    let shared = |number: u8| bytes::Bytes::from(frame(&[number; 9]));
    outbox.push_latest(shared(1), None, 7);
    assert!(outbox.has_latest());
    outbox.settle_place(b"s");
    outbox.push_shared(shared(2), None);
    assert!(!outbox.supersede(&shared(3), None, usize::MAX));
    outbox.push_latest(shared(3), None, 7);
    assert!(outbox.supersede(&shared(4), None, usize::MAX));
    // One for which there is no room in the place of the one before may come behind it, and is the latest then.
    let longer = bytes::Bytes::from(frame(&[5; 90]));
    assert!(!outbox.supersede(&longer, None, 0));
    outbox.push_latest(longer, None, 7);
    assert!(outbox.supersede(&shared(6), None, 0));
    let mut came = Vec::new();
    while let Some((bytes, _)) = outbox.take_front() {
        came.push(bytes.last().copied().unwrap());
    }
    assert_eq!(came, [1, 2, 4, 6]);
}

/// A long payload stays where it lies, from the queue to the stream, and counts like any other frame.
#[cfg(feature = "alloc")]
#[test]
fn a_frame_whose_payload_lies_apart_is_one_like_any_other() {
    use bytes::Bytes;

    use crate::store::Gather;

    let at = Instant::from_millis;
    let (long, short) = (Bytes::from(vec![5; 9_000]), Bytes::from(vec![6; 90]));
    let head = |payload: &[u8]| {
        let whole = frame(payload);
        whole[..whole.len() - payload.len()].to_vec()
    };
    let push = |outbox: &mut HeapOutbox, payload: &Bytes| {
        let head = head(payload);
        outbox.push_apart(&[&head[..7], &head[7..]], payload);
    };
    let filled = || {
        let mut outbox = HeapOutbox::default();
        outbox.push(&[&frame(b"before")], None).unwrap();
        push(&mut outbox, &long);
        push(&mut outbox, &short);
        outbox.push(&[&frame(b"after")], None).unwrap();
        outbox
    };
    let all = [frame(b"before"), frame(&long), frame(&short), frame(b"after")];
    let mut outbox = filled();
    assert_eq!((outbox.len(), outbox.frames()), (all.concat().len(), 4));
    assert!(!long.is_unique() && short.is_unique(), "what is short is copied");
    let mut other = HeapOutbox::default();
    outbox.append_to(&mut other);
    assert_eq!((outbox.len(), outbox.frames(), other.frames()), (0, 0, 4));
    // It leaves by reference.
    let (mut tx, mut out, mut gather) = (HeapTx::default(), vec![0; 20_000], Gather::default());
    while other.move_to(&mut tx, at(1), Dialect::Plain).is_some() {}
    let out = &mut out[..tx.len()];
    gather.begin(out);
    tx.swap_gather(&mut gather);
    tx.place(0, out);
    tx.swap_gather(&mut gather);
    assert_eq!(gather.slices(out).collect::<Vec<_>>().concat(), all.concat());
    assert!(gather.slices(out).any(|slice| slice.as_ptr() == long.as_ptr() && slice.len() == long.len()));
    // Whole, where it is taken out.
    let (mut outbox, mut taken) = (filled(), Vec::new());
    while let Some((bytes, expires)) = outbox.take_front() {
        assert_eq!(expires, None);
        taken.extend_from_slice(&bytes);
    }
    assert_eq!((taken, outbox.len(), outbox.frames()), (all.concat(), 0, 0));
    // Dropped, as the oldest or because it is too long, and as a whole.
    let mut outbox = filled();
    assert!(outbox.drop_oldest() && outbox.drop_oldest());
    assert_eq!((outbox.len(), outbox.frames()), (all[2..].concat().len(), 2));
    let mut outbox = filled();
    assert_eq!((outbox.drop_longer(8_000), outbox.frames()), (1, 3));
    assert_eq!(outbox.drop_longer(9_100), 0);
    let mut outbox = filled();
    assert_eq!((outbox.drop_longer(9_100), outbox.frames(), outbox.len()), (0, 4, all.concat().len()));
}
