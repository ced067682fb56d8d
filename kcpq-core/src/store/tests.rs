//! One suite, run over both stores.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;

fn leak(len: usize) -> &'static mut [u8] {
    Box::leak(vec![0; len].into_boxed_slice())
}

fn lent_rx(slots: usize, size: usize) -> LentRx<'static> {
    LentRx::new(Box::leak(vec![SlotInfo::EMPTY; slots].into_boxed_slice()), leak(slots * size))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64 + payload.len()];
    let frame = crate::frame::Frame { command: 3, subject: b"s", payload };
    let len = frame.encode(&mut out).unwrap();
    out.truncate(len);
    out
}

/// Any sequence of pushes, reads and releases gives what a plain vector gives.
fn a_stream_is_a_byte_queue(mut tx: impl TxStream, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut model: Vec<u8> = Vec::new();
    let mut next = 0u8;
    for _ in 0..5_000 {
        match rng.u8(..4) {
            0 => {
                let bytes: Vec<u8> = (0..rng.usize(1..200))
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                if tx.push(&bytes).is_ok() {
                    model.extend(&bytes);
                }
            }
            1 if !model.is_empty() => {
                let count = rng.usize(..=model.len());
                tx.release(count);
                model.drain(..count);
            }
            _ if !model.is_empty() => {
                let skip = rng.usize(..model.len());
                let mut out = vec![0; rng.usize(..=model.len() - skip)];
                tx.copy_to(skip, &mut out);
                assert_eq!(out, model[skip..skip + out.len()]);
            }
            _ => {}
        }
        assert_eq!(tx.len(), model.len());
    }
}

#[test]
fn streams_are_byte_queues() {
    for seed in 0..10 {
        a_stream_is_a_byte_queue(LentTx::new(leak(700)), seed);
        a_stream_is_a_byte_queue(HeapTx::default(), seed);
    }
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
                if outbox.push(&[&bytes[..7], &bytes[7..]]).is_ok() {
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
                if let Some(moved) = outbox.move_to(&mut tx, Instant::ZERO, true) {
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
        an_outbox_keeps_frames(HeapOutbox::default(), HeapTx::default(), seed);
    }
}

#[test]
fn an_outbox_tells_never_from_not_now() {
    let mut outbox = LentOutbox::new(leak(100));
    assert_eq!(outbox.push(&[&[0; 7], &[0; 94]]), Err(PushError::TooLarge(TooLarge { limit: 100, actual: 101 })));
    outbox.push(&[&frame(&[0; 60])]).unwrap();
    assert_eq!(outbox.push(&[&frame(&[0; 60])]), Err(PushError::Full));
}

/// A window is a ring of slots that are filled in any order and leave at the front.
fn a_window_is_a_ring(mut rx: impl RxWindow) {
    for start in 0..20u8 {
        rx.put(2, 7, &[start, 2]).unwrap();
        assert!(!rx.has(0) && !rx.has(1) && rx.has(2));
        assert_eq!(rx.front(), None);
        rx.put(0, 0, &[start, 0, 9]).unwrap();
        rx.put(0, 0, &[99]).unwrap();
        assert_eq!(rx.front(), Some((&[start, 0, 9][..], 0)), "the first copy stays");
        rx.consume(2);
        assert_eq!(rx.front(), Some((&[9][..], 0)));
        rx.advance();
        assert_eq!(rx.front(), None);
        rx.advance();
        assert_eq!(rx.peek(0), Some((7, 2)));
        assert_eq!(rx.front(), Some((&[start, 2][..], 7)));
        rx.advance();
        assert!(!rx.has(0));
    }
    assert!(rx.put(rx.slots(), 0, &[1]).is_err());
}

#[test]
fn windows_are_rings() {
    a_window_is_a_ring(lent_rx(5, 16));
    a_window_is_a_ring(HeapRx::new(5));
}

#[test]
fn a_lent_slot_refuses_what_is_larger() {
    let mut rx = lent_rx(2, 16);
    assert_eq!(rx.put(1, 0, &[0; 17]), Err(TooLarge { limit: 16, actual: 17 }));
    assert!(!rx.has(1));
}

fn an_inbox_puts_together<S: Store>(mut inbox: S::Inbox) {
    for _ in 0..3 {
        inbox.write(b"ab");
        inbox.write(b"cd");
        assert_eq!(inbox.bytes(), b"abcd");
        assert_eq!(inbox.take().as_ref(), b"abcd");
        assert_eq!(inbox.bytes(), b"");
        assert_eq!(inbox.adopt(b"xyz").as_ref(), b"xyz");
    }
}

#[test]
fn inboxes_put_frames_together() {
    an_inbox_puts_together::<Lent<'static>>(LentInbox::new(leak(8)));
    an_inbox_puts_together::<Heap>(HeapInbox::new(8, 1024));
    an_inbox_puts_together::<Heap>(HeapInbox::new(8, 0));
}

#[test]
fn an_idle_heap_session_holds_nothing() {
    let mut outbox = HeapOutbox::default();
    let mut tx = HeapTx::default();
    for _ in 0..1_000 {
        outbox.push(&[&frame(&[1; 100])]).unwrap();
    }
    while outbox.move_to(&mut tx, Instant::ZERO, true).is_some() {}
    tx.release(usize::MAX);
    assert_eq!((outbox.len(), outbox.frames(), tx.len()), (0, 0, 0));
}

/// What waits until its time is over is forgotten; what goes out earlier says how much is left, if that is asked for.
fn an_outbox_forgets_in_time<T: TxStream, O: Outbox<T>>(new: impl Fn() -> (O, T)) {
    let at = Instant::from_millis;
    for tell in [false, true] {
        let (mut outbox, mut tx) = new();
        let (plain, short, long) = (frame(b"plain"), frame(b"short"), frame(&[5; 600]));
        outbox.push_until(&[&short[..7], &short[7..8], &short[8..]], at(10)).unwrap();
        outbox.push_until(&[&short], at(30)).unwrap();
        outbox.push(&[&plain]).unwrap();
        outbox.push_until(&[&short], at(15)).unwrap();
        outbox.push_until(&[&long], at(1_000)).unwrap();
        assert_eq!((outbox.expire(at(9)), outbox.frames()), (0, 5));
        assert_eq!((outbox.expire(at(10)), outbox.frames()), (1, 4));
        let (mut got, mut frames, mut expired) = (Vec::new(), 0, 0);
        // In small pieces, so that frames go out in part.
        for _ in 0..20 {
            let Some(moved) = outbox.move_to(&mut tx, at(20), tell) else { break };
            (frames, expired) = (frames + moved.frames, expired + moved.expired);
            assert_eq!(tx.len(), moved.bytes);
            let mut out = vec![0; moved.bytes];
            tx.copy_to(0, &mut out);
            tx.release(moved.bytes);
            got.extend(out);
        }
        let timed = |frame: &[u8], left: u32| {
            let mut frame = frame.to_vec();
            if tell {
                assert!(crate::frame::retime(frame.first_chunk_mut().unwrap(), 0x14, 4));
                frame.extend(left.to_be_bytes());
            }
            frame
        };
        assert_eq!(got, [timed(&short, 10), plain, timed(&long, 980)].concat());
        assert_eq!((frames, expired), (3, 1));
        assert_eq!((outbox.len(), outbox.frames(), outbox.mid_frame()), (0, 0, false));
    }
}

#[test]
fn outboxes_forget_frames_whose_time_is_over() {
    an_outbox_forgets_in_time(|| (LentOutbox::new(leak(1_000)), LentTx::new(leak(111))));
    an_outbox_forgets_in_time(|| (HeapOutbox::default(), HeapTx::default()));
}
