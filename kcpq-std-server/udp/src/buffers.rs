//! Where received datagrams are written to: memory of the thread, not of the socket, since it is in use only as long as one call
//! of [`Socket::recv`](crate::Socket::recv) takes. Ten thousand sockets that hear little need no more of it than one.

use std::cell::Cell;

use quinn_udp::{BATCH_SIZE, RecvMeta};

/// What one call to the system fills.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) memory: Vec<Vec<u8>>,
    pub(crate) metas: [RecvMeta; BATCH_SIZE],
}

thread_local! {
    static SPARE: Cell<Option<Box<Buffers>>> = const { Cell::new(None) };
}

impl Buffers {
    /// Calls `f` with at least `count` buffers of at least `size` bytes each. They stay with the thread: whoever is called from
    /// within has others.
    pub(crate) fn with<T>(count: usize, size: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        let mut buffers = SPARE.take().unwrap_or_else(|| {
            let (memory, metas) = (Vec::new(), [RecvMeta::default(); BATCH_SIZE]);
            Box::new(Self { memory, metas })
        });
        if buffers.memory.len() < count || buffers.memory.first().is_some_and(|buffer| buffer.len() < size) {
            // Each by itself, and not one copied from the other: the system gives pages that are zero when they are written to.
            let all = buffers.memory.len().max(count);
            buffers.memory = (0..all).map(|_| vec![0; size]).collect();
        }
        let result = f(&mut buffers);
        SPARE.set(Some(buffers));
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_one_set_which_grows_and_who_is_called_from_within_has_another() {
        let lens = |buffers: &Buffers| buffers.memory.iter().map(Vec::len).collect::<Vec<_>>();
        Buffers::with(2, 10, |buffers| buffers.memory[1][9] = 7);
        Buffers::with(1, 5, |buffers| {
            assert_eq!((lens(buffers), buffers.memory[1][9]), (vec![10; 2], 7));
            Buffers::with(1, 5, |others| assert_eq!(lens(others), [5]));
        });
        Buffers::with(3, 10, |buffers| assert_eq!(lens(buffers), [10; 3]));
        Buffers::with(1, 20, |buffers| assert_eq!(lens(buffers), [20; 3]));
    }
}
