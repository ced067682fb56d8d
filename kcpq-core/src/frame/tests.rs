#[cfg(not(feature = "alloc"))]
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use fastrand::Rng;

use super::*;
#[cfg(feature = "alloc")]
use crate::store::{Heap as Any, HeapInbox};
use crate::store::{Inbox, Lent, LentInbox, Store};

/// The store of whatever may have either: the allocator's if there is one.
#[cfg(not(feature = "alloc"))]
type Any = Lent<'static>;

#[cfg(feature = "alloc")]
fn inbox(capacity: usize) -> HeapInbox {
    HeapInbox::new(capacity, 64)
}

#[cfg(not(feature = "alloc"))]
fn inbox(capacity: usize) -> LentInbox<'static> {
    LentInbox::new(Box::leak(vec![0; capacity].into_boxed_slice()))
}

fn frame(subject: &[u8], payload: &[u8]) -> Vec<u8> {
    let frame = Frame { command: command::PUB, subject, payload };
    let mut out = vec![0; frame.encoded_len()];
    frame.encode(&mut out).unwrap();
    out
}

/// What a reader said about a stream, without the `More`s.
#[derive(Debug, PartialEq)]
enum Seen {
    Frame(Vec<u8>),
    Oversize { limit: usize, actual: usize },
    Broken(FrameError),
}

fn read<S: Store>(reader: &mut Reader<S>, stream: &[u8], mut piece: impl FnMut() -> usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (mut input, behind) = rest.split_at(piece().clamp(1, rest.len()));
        rest = behind;
        while !input.is_empty() {
            let (taken, read) = reader.read(input);
            match read {
                Ok(None) => {}
                Ok(Some(Whole { in_place: Some(frame), .. })) => seen.push(Seen::Frame(frame.to_vec())),
                Ok(Some(_)) => seen.push(Seen::Frame(reader.inbox().take().as_ref().to_vec())),
                Err(Flaw::Oversize { limit, actual }) => seen.push(Seen::Oversize { limit, actual }),
                Err(Flaw::Frame(error) | Flaw::Stream(error)) => {
                    seen.push(Seen::Broken(error));
                    return seen;
                }
            }
            assert!(taken > 0);
            input = &input[taken..];
        }
    }
    seen
}

#[test]
fn a_frame_longer_than_the_inbox_is_passed_over_and_the_next_one_found() {
    let small = frame(b"a", b"12345");
    let large = frame(b"b", &[7; 200]);
    let stream = [&small[..], &large, &small, &large, &large, &small].concat();
    let note = || Seen::Oversize { limit: 32, actual: large.len() };
    let found = || Seen::Frame(small.clone());
    let want = [found(), note(), found(), note(), note(), found()];
    // In pieces shorter than the large frame, so that it never lies whole in the input.
    for longest in [1, 2, 3, 4, 5, 7, 50, 150] {
        let mut rng = Rng::with_seed(longest as u64);
        let mut any = Reader::<Any>::new(Limits::KCPQ, inbox(32));
        assert_eq!(read(&mut any, &stream, || rng.usize(1..=longest)), want, "pieces of up to {longest}");
        let mut memory = [0; 32];
        let mut rng = Rng::with_seed(longest as u64);
        let mut lent = Reader::<Lent<'_>>::new(Limits::KCPQ, LentInbox::new(&mut memory));
        assert_eq!(read(&mut lent, &stream, || rng.usize(1..=longest)), want, "pieces of up to {longest}");
    }
}

#[test]
fn a_large_frame_that_lies_whole_in_the_input_needs_no_inbox() {
    let large = frame(b"b", &[7; 200]);
    let mut lent = Reader::<Lent<'_>>::new(Limits::KCPQ, LentInbox::new(&mut []));
    assert_eq!(read(&mut lent, &large, || usize::MAX), [Seen::Frame(large.clone())]);
}

#[test]
fn an_inbox_without_room_for_a_length_passes_everything_over() {
    // Less than a length field fits, so a split field cannot be kept; nothing may panic.
    for capacity in 0..LENGTH {
        let mut memory = vec![0; capacity];
        let mut lent = Reader::<Lent<'_>>::new(Limits::KCPQ, LentInbox::new(&mut memory));
        let stream = frame(b"a", b"12345").repeat(3);
        let _ = read(&mut lent, &stream, || 1);
    }
}

#[cfg(feature = "alloc")]
#[test]
fn an_announced_length_reserves_no_memory() {
    // 400 TB in all: no address space would hold them.
    let announced = [&u32::MAX.to_be_bytes()[..], &[command::PUB, 0, 1]].concat();
    let mut readers = Vec::new();
    for _ in 0..100_000 {
        let mut reader = Reader::<Any>::new(Limits::NONE, HeapInbox::new(usize::MAX, 0));
        assert_eq!(reader.read(&announced), (announced.len(), Ok(None)));
        readers.push(reader);
    }
    assert!(readers.iter_mut().all(|reader| reader.inbox().bytes() == announced));
}

#[test]
fn an_error_in_the_length_shows_as_soon_as_the_length_is_there() {
    for (bytes, want) in [
        ([0, 0, 0, 0], FrameError::BodyTooShort { actual: 0 }),
        ([0, 0, 0, 2], FrameError::BodyTooShort { actual: 2 }),
        ([0, 0x80, 0, 1], FrameError::BodyTooLarge { limit: 0x80_0000, actual: 0x80_0001 }),
    ] {
        for longest in 1..=4 {
            let mut reader = Reader::<Any>::new(Limits::KCPQ, inbox(100));
            assert_eq!(read(&mut reader, &bytes, || longest), [Seen::Broken(want)]);
        }
    }
}

#[test]
fn after_a_reset_a_reader_is_at_the_beginning_again() {
    let whole = frame(b"a", b"12345");
    let large = frame(b"b", &[7; 200]);
    for begun in [&whole[..3], &whole[..9], &large[..50]] {
        for longest in [1, 100] {
            let mut memory = [0; 32];
            let mut reader = Reader::<Lent<'_>>::new(Limits::KCPQ, LentInbox::new(&mut memory));
            read(&mut reader, begun, || longest);
            reader.reset();
            assert_eq!(read(&mut reader, &whole, || longest), [Seen::Frame(whole.clone())]);
        }
    }
}

#[test]
fn an_assembled_frame_that_nobody_takes_is_forgotten() {
    let (one, two) = (frame(b"a", b"12345"), frame(b"b", b"6"));
    let mut reader = Reader::<Any>::new(Limits::KCPQ, inbox(100));
    assert_eq!(reader.read(&one[..5]), (5, Ok(None)));
    assert!(matches!(reader.read(&one[5..]), (_, Ok(Some(Whole { in_place: None, .. })))));
    assert_eq!(reader.read(&two[..5]), (5, Ok(None)));
    assert!(matches!(reader.read(&two[5..]), (_, Ok(Some(Whole { in_place: None, .. })))));
    assert_eq!(*Inbox::<Any>::take(reader.inbox()), *two);
}

#[test]
fn nothing_is_taken_from_empty_input() {
    let mut reader = Reader::<Any>::new(Limits::KCPQ, inbox(100));
    assert_eq!(reader.read(&[]), (0, Ok(None)));
    let _ = reader.read(&[0, 0]);
    assert_eq!(reader.read(&[]), (0, Ok(None)));
}
