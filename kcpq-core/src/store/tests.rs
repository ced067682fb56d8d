//! One suite, run over all stores there are.

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
        #[cfg(feature = "alloc")]
        a_stream_is_a_byte_queue(HeapTx::default(), seed);
    }
}

#[cfg(feature = "alloc")]
/// What comes in any order is there, and at its place; what is missing is not.
#[test]
fn a_window_holds_what_came_whatever_came_first() {
    for seed in 0..50 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut heap, mut lent) = (HeapRx::new(100), lent_rx(100, 8));
        let mut model: alloc::collections::VecDeque<Option<u8>> = (0..100).map(|_| None).collect();
        for step in 0..3_000u32 {
            if rng.u8(..3) == 0 {
                let present = model.pop_front().flatten();
                model.push_back(None);
                for front in [heap.front(), lent.front()] {
                    assert_eq!(front.map(|(data, _)| data[0]), present, "seed {seed}, step {step}");
                }
                heap.advance();
                lent.advance();
            } else {
                let slot = if rng.bool() { rng.usize(..100) } else { rng.usize(..5) };
                let byte = step as u8;
                heap.put(slot, 1, &[byte]).unwrap();
                lent.put(slot, 1, &[byte]).unwrap();
                model[slot].get_or_insert(byte);
            }
            for (slot, present) in model.iter().enumerate() {
                assert_eq!((heap.has(slot), lent.has(slot)), (present.is_some(), present.is_some()));
                assert_eq!(heap.peek(slot), present.map(|_| (1, 1)));
            }
        }
    }
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
    #[cfg(feature = "alloc")]
    a_window_is_a_ring(HeapRx::new(5));
}

/// Whatever leaves the window in whichever order and is read in another: all of it stays as it was, and all memory is used again.
#[cfg(all(feature = "lanes", feature = "alloc"))]
#[test]
fn what_is_kept_beside_a_window_has_the_memory_that_it_had_there() {
    for seed in 0..50 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut heap, mut lent) = (HeapRx::new(16), lent_rx(16, 8));
        let mut kept: Vec<(Vec<u8>, LentKept)> = Vec::new();
        for step in 0..3_000u32 {
            let data = vec![step as u8; rng.usize(..8)];
            match rng.u8(..5) {
                0 => {
                    heap.advance();
                    lent.advance();
                }
                1 if !kept.is_empty() => {
                    let (data, own) = kept.swap_remove(rng.usize(..kept.len()));
                    assert_eq!(lent.kept(&own), data, "seed {seed}, step {step}");
                    lent.release(own);
                }
                2 => {
                    let (slot, left) = (rng.usize(..16), &data[..data.len().min(3)]);
                    let (one, other) = (heap.exchange(slot, 3, left), lent.exchange(slot, 3, left));
                    assert_eq!(one.is_some(), other.is_some());
                    kept.extend(one.zip(other));
                }
                3 if lent.can_keep(data.len()) => {
                    kept.push((heap.keep(&data).unwrap(), lent.keep(&data).unwrap()));
                }
                _ if lent.can_keep(data.len()) => {
                    let slot = rng.usize(..16);
                    heap.put(slot, 0, &data).unwrap();
                    lent.put(slot, 0, &data).unwrap();
                }
                _ => {}
            }
            for slot in 0..16 {
                assert_eq!(heap.get(slot), lent.get(slot), "seed {seed}, step {step}");
            }
        }
        kept.drain(..).for_each(|(_, own)| lent.release(own));
        (0..16).for_each(|_| lent.advance());
        let all: Vec<_> = (0..16).map(|_| lent.keep(&[1; 8]).unwrap()).collect();
        assert!(!lent.can_keep(8) && lent.keep(&[1; 8]).is_none() && lent.keep(&[1; 3]).is_some());
        assert!(all.iter().all(|own| lent.kept(own) == [1; 8]));
    }
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
        assert_eq!(inbox.duplicate().as_ref(), b"abcd");
        assert_eq!(inbox.take().as_ref(), b"abcd");
        inbox.clear();
        assert_eq!(inbox.bytes(), b"");
        assert_eq!(inbox.adopt(b"xyz").as_ref(), b"xyz");
    }
}

#[test]
fn inboxes_put_frames_together() {
    an_inbox_puts_together::<Lent<'static>>(LentInbox::new(leak(8)));
    #[cfg(feature = "alloc")]
    for arena in [1024, 0] {
        an_inbox_puts_together::<Heap>(HeapInbox::new(8, arena));
    }
}

#[cfg(feature = "alloc")]
#[test]
fn a_record_takes_no_more_than_twice_what_there_is_of_it_nor_more_than_it_will_have_and_is_not_kept() {
    let mut inbox = HeapInbox::new(1 << 20, 0);
    let mut left = 1_000_000;
    while left > 0 {
        let len = left.min(1_300);
        Inbox::<Heap>::expect(&mut inbox, left);
        Inbox::<Heap>::write(&mut inbox, &[7; 1_300][..len]);
        left -= len;
        let (had, held) = (1_000_000 - left, Inbox::<Heap>::held(&inbox));
        assert!(inbox.capacity_now() <= held.max(2_600), "{} for {held}", inbox.capacity_now());
        assert_eq!(held, (2 * had).min(1_000_000));
        assert!(Inbox::<Heap>::ahead(&inbox) == if held < 1_000_000 { 0 } else { left });
    }
    let record = Inbox::<Heap>::take(&mut inbox);
    assert_eq!((record.len(), inbox.capacity_now()), (1_000_000, 0), "nothing of it is kept besides the record");
    assert!(record.is_unique());
}

/// Has a record of `end` bytes come; returns what was held and could come at its first bytes, and how often its memory moved.
#[cfg(feature = "alloc")]
fn a_record_comes(inbox: &mut HeapInbox, end: usize) -> (usize, usize, usize) {
    let (mut first, mut moves, mut at) = (None, 0, None);
    for left in (1..=end).rev().step_by(1_000) {
        Inbox::<Heap>::expect(inbox, left);
        Inbox::<Heap>::write(inbox, &[7; 1_000][..left.min(1_000)]);
        let (held, ahead) = (Inbox::<Heap>::held(inbox), Inbox::<Heap>::ahead(inbox));
        assert!(inbox.capacity_now() <= held.max(2_000), "{} for {held}", inbox.capacity_now());
        first.get_or_insert((held, ahead));
        let lies = inbox.bytes().as_ptr();
        moves += usize::from(at.replace(lies).is_some_and(|before| before != lies));
    }
    assert_eq!(Inbox::<Heap>::take(inbox).as_ref(), vec![7; end]);
    Inbox::<Heap>::clear(inbox);
    assert_eq!((inbox.capacity_now(), Inbox::<Heap>::held(inbox)), (0, 0), "an idle one holds nothing");
    let (held, ahead) = first.unwrap();
    (held, ahead, moves)
}

#[cfg(feature = "alloc")]
#[test]
fn a_record_after_others_of_its_length_lies_where_it_stays_from_its_first_byte_on() {
    let mut inbox = HeapInbox::new(1 << 20, 0);
    assert_eq!(a_record_comes(&mut inbox, 50_000).0, 2_000, "what is only announced costs nothing");
    assert_eq!(a_record_comes(&mut inbox, 50_000), (50_000, 49_000, 0));
    assert_eq!(a_record_comes(&mut inbox, 30_000), (30_000, 29_000, 0), "nor more than it will have");
    // Memory that is not for one record only.
    assert_eq!(a_record_comes(&mut inbox, 1_000_000).0, 30_000);
    assert_eq!(a_record_comes(&mut inbox, 1_000_000).0, 64 * 1024);
    Inbox::<Heap>::be_frugal(&mut inbox);
    assert_eq!(a_record_comes(&mut inbox, 50_000).0, 2_000);
}

/// Datagrams of any lengths, each a few bytes of its own and some of a stream whose pieces are shared or not; what is gathered
/// is what would have been copied.
#[cfg(feature = "alloc")]
#[test]
fn what_is_gathered_is_what_would_have_been_copied() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let mut tx = HeapTx::default();
        let mut gather = Gather::default();
        let (mut stream, mut shared): (Vec<u8>, usize) = (Vec::new(), 0);
        let (mut buffer, mut copied) = (vec![0; 200_000], vec![0; 200_000]);
        gather.begin(&buffer);
        tx.swap_gather(&mut gather);
        for _ in 0..rng.usize(1..20) {
            let len = rng.usize(1..20_000);
            let bytes: Vec<u8> = core::iter::repeat_with(|| rng.u8(..)).take(len).collect();
            stream.extend(&bytes);
            if rng.bool() {
                shared += bytes.len();
                tx.push_shared(bytes.into());
            } else {
                tx.append(Piece::from(bytes));
            }
        }
        tx.release(stream.len() / 4);
        stream.drain(..stream.len() / 4);
        let (mut at, mut skip) = (0, 0);
        while skip < stream.len() && at + 30_000 < buffer.len() {
            let (head, data) = (rng.usize(0..30), rng.usize(1..16_000).min(stream.len() - skip));
            buffer[at..at + head].fill(rng.u8(..));
            let own = buffer[at..at + head].to_vec();
            copied[at..at + head].copy_from_slice(&own);
            at += head;
            tx.place(skip, &mut buffer[at..at + data]);
            tx.copy_to(skip, &mut copied[at..at + data]);
            (at, skip) = (at + data, skip + data);
        }
        // One that was written and given up, and another place than the buffer.
        tx.place(0, &mut buffer[at..at + stream.len().min(6_000)]);
        let mut elsewhere = vec![0; stream.len().min(7_000)];
        tx.place(0, &mut elsewhere);
        assert_eq!(elsewhere, stream[..elsewhere.len()]);
        tx.swap_gather(&mut gather);
        assert_eq!(gather.slices(&buffer[..at]).collect::<Vec<_>>().concat(), copied[..at]);
        assert!(gather.slices(&buffer[..at]).all(|slice| !slice.is_empty()));
        gather.fill(&mut buffer[..at]);
        assert!(gather.is_empty() && buffer[..at] == copied[..at], "{shared} bytes were shared");
        assert_eq!(gather.slices(&buffer[..at]).count(), usize::from(at > 0));
    }
}
