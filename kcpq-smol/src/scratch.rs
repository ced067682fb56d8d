//! Memory to write datagrams to. It is in use only until the system has taken them, so a thread has it, and not each of the clients
//! whose tasks run there: ten thousand of them that say little need no more of it than one.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// The longest UDP payload, and so the longest batch of datagrams that one call sends.
const MAX_BATCH: usize = 65_507;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Room for as much as one call sends. It goes back to the thread where it is dropped, for whoever is next.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn take() -> Self {
        let spare = SPARE.take();
        Self(if spare.is_empty() { vec![0; MAX_BATCH] } else { spare })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A thread that is about to end has no use for it.
        let _ = SPARE.try_with(|spare| spare.set(std::mem::take(&mut self.0)));
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_one_however_many_were_in_use() {
        let mut first = Scratch::take();
        first[0] = 7;
        let second = Scratch::take();
        assert_eq!((first.len(), second.len(), second[0]), (MAX_BATCH, MAX_BATCH, 0));
        drop((second, first));
        let again = Scratch::take();
        assert_eq!((again[0], Scratch::take()[0]), (7, 0));
    }
}
