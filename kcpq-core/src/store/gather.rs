//! What need not be copied into a datagram, because the system takes it from where it lies.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::iter;

use bytes::Bytes;

/// Less than this is copied: a slice of its own costs the system as much, or more. It is what long datagrams carry, as those on
/// one machine; with pieces of a KiB a server needs a tenth more time than by copying, with some of 16 KiB a tenth less.
const LEND_FROM: usize = 4096;

/// What of the datagrams in a buffer lies elsewhere, in gaps that were left for it.
///
/// ```text
/// buffer     | head |    (gap)    | head |    (gap)    | rest | head | ...
/// elsewhere         | a message's |      | bytes       |
/// ```
///
/// As [`slices`](Self::slices) they go to a system call that gathers what it sends (`sendmsg` with a vector); whoever needs
/// them in one piece has the gaps [filled](Self::fill). Lengths are those of the datagrams with what lies elsewhere.
#[derive(Debug, Default)]
pub struct Gather {
    /// Handed to the stream that is read, and back.
    pub(super) lent: Option<Box<Lent>>,
}

/// See [`Gather`].
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// Where the buffer begins and how long it is: an address, by which places in it are known, and never followed.
    begin: usize,
    len: usize,
    /// What lies elsewhere, and where its gap begins in the buffer, in this order.
    parts: Vec<(usize, Bytes)>,
}

impl Gather {
    /// Datagrams are about to be written to `out`.
    pub(crate) fn begin(&mut self, out: &[u8]) {
        let lent = self.lent.get_or_insert_default();
        (lent.begin, lent.len) = (out.as_ptr().addr(), out.len());
        lent.parts.clear();
    }

    /// Lets go of what it has: the next datagrams are others.
    pub fn clear(&mut self) {
        if let Some(lent) = &mut self.lent {
            lent.parts.clear();
        }
    }

    fn parts(&self) -> &[(usize, Bytes)] {
        self.lent.as_ref().map_or(&[], |lent| &lent.parts)
    }

    /// True if everything lies in the buffer.
    pub fn is_empty(&self) -> bool {
        self.parts().is_empty()
    }

    /// The datagrams as they are to be sent: what was written to the front of the buffer, as many bytes as was said, and what
    /// lies elsewhere in between. At most two more slices than twice the datagrams, and one for each 4 KiB.
    pub fn slices<'s>(&'s self, datagrams: &'s [u8]) -> impl Iterator<Item = &'s [u8]> + Clone {
        let mut parts = self.parts().iter();
        let mut at = 0;
        let mut part: Option<&Bytes> = None;
        iter::from_fn(move || {
            if let Some(bytes) = part.take() {
                at += bytes.len();
                return Some(&bytes[..]);
            }
            let rest = datagrams.get(at..).filter(|rest| !rest.is_empty())?;
            // What was written behind the datagrams belongs to one that was given up.
            let before = match parts.next().filter(|(begin, bytes)| begin + bytes.len() <= datagrams.len()) {
                Some((begin, bytes)) => {
                    part = Some(bytes);
                    rest.get(..begin.saturating_sub(at))?
                }
                None => rest,
            };
            at += before.len();
            Some(before)
        })
        .filter(|slice| !slice.is_empty())
    }

    /// Copies what lies elsewhere into its gaps: the datagrams are in the buffer then, which is the one that they were written
    /// to.
    pub fn fill(&mut self, datagrams: &mut [u8]) {
        for (begin, bytes) in self.parts() {
            if let Some(gap) = datagrams.get_mut(*begin..begin + bytes.len()) {
                gap.copy_from_slice(bytes);
            }
        }
        self.clear();
    }
}

impl Lent {
    /// Takes what belongs at `place` if it is worth that, and if the place is one in the buffer. False if it is to be copied.
    pub(super) fn lend(&mut self, place: &[u8], bytes: impl FnOnce() -> Bytes) -> bool {
        let at = place.as_ptr().addr().wrapping_sub(self.begin);
        if place.len() < LEND_FROM || at.checked_add(place.len()).is_none_or(|end| end > self.len) {
            return false;
        }
        self.parts.push((at, bytes()));
        true
    }
}
