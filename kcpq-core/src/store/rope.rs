//! Bytes in pieces, each with memory of its own or shared with others, and the outgoing stream made of them.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::gather::{Gather, Lent};
use super::heap::SPARE;
use super::{Full, TxStream};

/// Bytes that lie together; some at the front may be gone already.
#[derive(Debug)]
pub(crate) struct Piece {
    data: Data,
    start: usize,
}

#[derive(Debug)]
enum Data {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        Self { data: Data::Own(bytes), start: 0 }
    }
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self { data: Data::Shared(bytes), start: 0 }
    }
}

impl Piece {
    pub(crate) fn bytes(&self) -> &[u8] {
        let all: &[u8] = match &self.data {
            Data::Own(bytes) => bytes,
            Data::Shared(bytes) => bytes,
        };
        all.get(self.start..).unwrap_or_default()
    }

    /// Its memory, to change and append to it; `None` if others may see it.
    pub(crate) fn own(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.data {
            Data::Own(bytes) => Some(bytes),
            Data::Shared(_) => None,
        }
    }

    /// Length of its own memory in use, whatever is gone of it; `None` if others may see it.
    pub(crate) fn own_len(&self) -> Option<usize> {
        match &self.data {
            Data::Own(bytes) => Some(bytes.len()),
            Data::Shared(_) => None,
        }
    }

    /// Some of the bytes, to be kept by others as well: its memory is not its own from then on.
    fn slice(&mut self, from: usize, count: usize) -> Bytes {
        let all = match &mut self.data {
            Data::Own(bytes) => Bytes::from(core::mem::take(bytes)),
            Data::Shared(bytes) => bytes.clone(),
        };
        let slice = all.slice(self.start + from..self.start + from + count);
        self.data = Data::Shared(all);
        slice
    }

    /// Forgets `count` bytes at its front.
    pub(crate) fn skip(&mut self, count: usize) {
        self.start += count;
    }

    /// The bytes, to be kept by others as well.
    pub(crate) fn share(self) -> Bytes {
        let bytes = match self.data {
            Data::Own(bytes) => bytes.into(),
            Data::Shared(bytes) => bytes,
        };
        bytes.slice(self.start..)
    }
}

/// [`TxStream`] as a rope.
#[derive(Debug, Default)]
pub struct HeapTx {
    pieces: VecDeque<Piece>,
    len: usize,
    /// Where the last read ended, as a piece's index and the bytes of the stream before that piece: reads go forward,
    /// so the next one need not walk from the front.
    cursor: (usize, usize),
    spare: Vec<u8>,
    /// Where to leave what need not be copied, while somebody gathers that.
    gather: Option<Box<Lent>>,
}

impl HeapTx {
    /// Appends `bytes` by reference.
    pub fn push_shared(&mut self, bytes: Bytes) {
        self.append(bytes.into());
    }

    pub(crate) fn append(&mut self, piece: Piece) {
        self.len += piece.bytes().len();
        self.pieces.push_back(piece);
    }

    /// Exchanges where to leave what need not be copied.
    pub(crate) fn swap_gather(&mut self, gather: &mut Gather) {
        core::mem::swap(&mut self.gather, &mut gather.lent);
    }

    /// Shows the pieces of `out.len()` bytes from `skip` bytes behind the front: where in a piece they begin, and their places.
    #[inline]
    fn read(&mut self, skip: usize, out: &mut [u8], mut each: impl FnMut(&mut Piece, usize, &mut [u8])) {
        let (mut index, mut before) = if skip >= self.cursor.1 { self.cursor } else { (0, 0) };
        let mut out = out;
        let mut skip = skip;
        while let Some(piece) = self.pieces.get_mut(index) {
            let held = piece.bytes().len();
            if let Some(from) = skip.checked_sub(before).filter(|from| *from <= held) {
                let count = (held - from).min(out.len());
                let (place, rest) = out.split_at_mut(count);
                each(piece, from, place);
                out = rest;
                skip += count;
            }
            if out.is_empty() {
                break;
            }
            before += held;
            index += 1;
        }
        self.cursor = (index, before);
    }

    /// An emptied buffer, if one was kept.
    pub(crate) fn take_spare(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.spare)
    }
}

impl TxStream for HeapTx {
    fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.push_shared(Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn copy_to(&mut self, skip: usize, out: &mut [u8]) {
        self.read(skip, out, copy);
    }

    fn place(&mut self, skip: usize, out: &mut [u8]) {
        let Some(mut gather) = self.gather.take() else { return self.read(skip, out, copy) };
        self.read(skip, out, |piece, from, place| {
            if !gather.lend(place, || piece.slice(from, place.len())) {
                copy(piece, from, place);
            }
        });
        self.gather = Some(gather);
    }

    #[cfg(feature = "lanes")]
    fn place_beside(&mut self, main: &mut Self, skip: usize, out: &mut [u8]) {
        core::mem::swap(&mut self.gather, &mut main.gather);
        self.place(skip, out);
        core::mem::swap(&mut self.gather, &mut main.gather);
    }

    fn release(&mut self, count: usize) {
        let mut count = count.min(self.len);
        self.len -= count;
        let (mut index, mut before) = self.cursor;
        while let Some(front) = self.pieces.front_mut() {
            let held = front.bytes().len();
            if count < held {
                front.skip(count);
                // What was before the cursor shrinks, unless the cursor stands on this piece.
                before = if index == 0 { 0 } else { before.saturating_sub(count) };
                break;
            }
            count -= held;
            (index, before) = if index == 0 { (0, 0) } else { (index - 1, before.saturating_sub(held)) };
            if let Some(Piece { data: Data::Own(mut bytes), .. }) = self.pieces.pop_front()
                && bytes.capacity() <= SPARE
            {
                bytes.clear();
                self.spare = bytes;
            }
        }
        self.cursor = (index, before);
    }

    fn clear(&mut self) {
        *self = Self { gather: self.gather.take(), ..Self::default() };
    }
}

/// Copies what of a piece begins at `from` to its place.
fn copy(piece: &mut Piece, from: usize, place: &mut [u8]) {
    if let Some(bytes) = piece.bytes().get(from..from + place.len()) {
        place.copy_from_slice(bytes);
    }
}
