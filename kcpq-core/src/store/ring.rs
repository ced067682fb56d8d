//! A ring of bytes over a borrowed slice, and the outgoing stream made of one.
//!
//! The ring keeps an index beside its count; none is derived from a wrapping offset, which would be wrong after 2^32
//! bytes unless the capacity were a power of two.

use super::{Full, TxStream};

/// A ring of bytes over a borrowed slice.
#[derive(Debug)]
pub(crate) struct Ring<'a> {
    buf: &'a mut [u8],
    head: usize,
    len: usize,
}

impl<'a> Ring<'a> {
    pub(crate) fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, head: 0, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buf.len()
    }

    pub(crate) fn room(&self) -> usize {
        self.buf.len() - self.len
    }

    /// Index of the byte `at` places behind the front. `at` is at most the capacity.
    fn index(&self, at: usize) -> usize {
        let index = self.head + at;
        if index >= self.buf.len() { index - self.buf.len() } else { index }
    }

    /// Appends what fits and returns how much that was.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let bytes = bytes.get(..self.room()).unwrap_or(bytes);
        let Some((start, end)) = self.buf.split_at_mut_checked(self.index(self.len)) else { return 0 };
        let first = copy(bytes, end);
        let count = first + copy(bytes.get(first..).unwrap_or_default(), start);
        self.len += count;
        count
    }

    /// The bytes from `skip` on, in at most two runs.
    pub(crate) fn slices(&self, skip: usize) -> (&[u8], &[u8]) {
        let skip = skip.min(self.len);
        let count = self.len - skip;
        let (start, end) = self.buf.split_at_checked(self.index(skip)).unwrap_or_default();
        let first = end.get(..count).unwrap_or(end);
        (first, start.get(..count - first.len()).unwrap_or_default())
    }

    /// Copies from `skip` on as much as there is and `out` takes, and returns how much that was.
    pub(crate) fn copy_to(&self, skip: usize, out: &mut [u8]) -> usize {
        let (a, b) = self.slices(skip);
        let count = copy(a, out);
        count + copy(b, out.get_mut(count..).unwrap_or_default())
    }

    /// True if these bytes are there from `skip` on.
    pub(crate) fn is(&self, skip: usize, bytes: &[u8]) -> bool {
        let (a, b) = self.slices(skip);
        a.iter().chain(b).take(bytes.len()).eq(bytes)
    }

    /// Writes over what is there from `skip` on. The caller stays within what is held.
    pub(crate) fn patch(&mut self, skip: usize, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let index = self.index(skip + at);
            if let Some(place) = self.buf.get_mut(index) {
                *place = *byte;
            }
        }
    }

    /// Forgets the first `count` bytes.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn release(&mut self, count: usize) {
        let count = count.min(self.len);
        self.head = self.index(count);
        self.len -= count;
    }

    /// Moves the first `count` bytes to the end.
    pub(crate) fn rotate(&mut self, count: usize) {
        for _ in 0..count.min(self.len) {
            let mut byte = [0];
            self.copy_to(0, &mut byte);
            self.release(1);
            self.write(&byte);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.head = 0;
        self.len = 0;
    }
}

/// Copies what fits from the front of `from` to the front of `to`, and returns how much that was. Cannot panic.
pub(crate) fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..count), to.get_mut(..count)) {
        to.copy_from_slice(from);
    }
    count
}

/// [`TxStream`] over a borrowed slice.
#[derive(Debug)]
pub struct LentTx<'a>(Ring<'a>);

impl<'a> LentTx<'a> {
    /// A stream that holds at most `buf.len()` bytes. One segment's worth for each segment of the send window lets
    /// the window fill.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self(Ring::new(buf))
    }

    /// Bytes that fit.
    pub(crate) fn room(&self) -> usize {
        self.0.room()
    }

    /// Appends what fits and returns how much that was.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.write(bytes)
    }
}

impl TxStream for LentTx<'_> {
    fn len(&self) -> usize {
        self.0.len
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.len() > self.0.room() {
            return Err(Full);
        }
        self.0.write(bytes);
        Ok(())
    }

    fn copy_to(&mut self, skip: usize, out: &mut [u8]) {
        self.0.copy_to(skip, out);
    }

    fn release(&mut self, count: usize) {
        self.0.release(count);
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
