//! Engines over the stores there are. The core's own tests have this file too, so that there is one way to make an engine.

use heapless::Deque;
use kcpq_core::kcp::{Ack, Config, Kcp, Parts, Sent};
#[cfg(feature = "alloc")]
use kcpq_core::store::Heap;
use kcpq_core::store::{Lent, LentRx, LentTx, SlotInfo, Store};

/// Makes engines: a test runs once for each store.
pub(crate) trait Make: Store {
    fn engine(conv: u32, config: Config) -> Kcp<Self>;
}

#[cfg(feature = "alloc")]
impl Make for Heap {
    fn engine(conv: u32, config: Config) -> Kcp<Self> {
        Kcp::new(conv, config, Parts::heap(&config))
    }
}

fn leak(len: usize) -> &'static mut [u8] {
    Box::leak(vec![0; len].into_boxed_slice())
}

impl Make for Lent<'static> {
    fn engine(conv: u32, config: Config) -> Kcp<Self> {
        let (window, size) = (usize::from(config.recv_window), usize::from(config.mtu));
        let parts = Parts {
            tx: LentTx::new(leak(1 << 20)),
            sent: Box::leak(Box::new(Deque::<Sent, 2048>::new())).as_mut_view(),
            ends: Box::leak(Box::new(Deque::<u32, 256>::new())).as_mut_view(),
            rx: LentRx::new(Box::leak(vec![SlotInfo::EMPTY; window].into_boxed_slice()), leak(window * size)),
            acks: Box::leak(Box::new(Deque::<Ack, 4096>::new())).as_mut_view(),
        };
        Kcp::new(conv, config, parts)
    }
}
