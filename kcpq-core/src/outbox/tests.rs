//! One suite, run over the outboxes of all stores there are.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
#[cfg(any(feature = "alloc", feature = "ttl"))]
use crate::frame::Head;
#[cfg(feature = "alloc")]
use crate::store::HeapTx;
use crate::store::{LentTx, TxStream};

fn leak(len: usize) -> &'static mut [u8] {
    Box::leak(vec![0; len].into_boxed_slice())
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64 + payload.len()];
    let frame = crate::frame::Frame { command: 3, subject: b"s", payload };
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
        #[cfg(feature = "alloc")]
        an_outbox_keeps_frames(HeapOutbox::default(), HeapTx::default(), seed);
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
    while outbox.move_to(&mut tx, Instant::ZERO, true).is_some() {}
    tx.release(usize::MAX);
    assert_eq!((outbox.len(), outbox.frames(), tx.len()), (0, 0, 0));
}

#[cfg(any(feature = "alloc", feature = "ttl"))]
/// What waits until its time is over is forgotten; what goes out earlier says how much is left, if that is asked for.
fn an_outbox_forgets_in_time<T: TxStream, O: Outbox<T>>(new: impl Fn() -> (O, T)) {
    let at = Instant::from_millis;
    for tell in [false, true] {
        let (mut outbox, mut tx) = new();
        let (plain, short, long) = (frame(b"plain"), frame(b"short"), frame(&[5; 600]));
        outbox.push(&[&short[..7], &short[7..8], &short[8..]], Some(at(10))).unwrap();
        outbox.push(&[&short], Some(at(30))).unwrap();
        outbox.push(&[&plain], None).unwrap();
        outbox.push(&[&short], Some(at(15))).unwrap();
        outbox.push(&[&long], Some(at(1_000))).unwrap();
        assert_eq!((outbox.expire(at(9)), outbox.frames()), (0, 5));
        assert_eq!((outbox.expire(at(10)), outbox.frames()), (1, 4));
        let (mut got, mut frames, mut expired) = (Vec::new(), 0, 0);
        // In small pieces, so that frames go out in part.
        for _ in 0..20 {
            expired += outbox.expire(at(20));
            let Some(moved) = outbox.move_to(&mut tx, at(20), tell) else { break };
            frames += moved.frames;
            assert_eq!(tx.len(), moved.bytes);
            let mut out = vec![0; moved.bytes];
            tx.copy_to(0, &mut out);
            tx.release(moved.bytes);
            got.extend(out);
        }
        let timed = |frame: &[u8], left: u32| {
            let mut frame = frame.to_vec();
            if tell {
                let head = frame.first_chunk_mut().unwrap();
                *head = Head::from_bytes(*head).timed(4).unwrap().to_bytes();
                frame.extend(left.to_be_bytes());
            }
            frame
        };
        assert_eq!(got, [timed(&short, 10), plain, timed(&long, 980)].concat());
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
