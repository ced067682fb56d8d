//! Proof by linking that the core needs neither `std` nor an allocator.
//!
//! Only `core` is built for this target, and the program defines no global allocator. It drives an engine and a frame
//! reader over lent memory; what the optimiser cannot see through (`black_box`) it cannot remove from the image.

#![no_std]
#![no_main]

use core::hint::black_box;

use heapless::Deque;
use kcpq_core::Instant;
use kcpq_core::frame::{Limits, Progress, Reader};
use kcpq_core::kcp::{Ack, Config, Kcp, Origin, Parts, Sent};
use kcpq_core::store::{Lent, LentInbox, LentRx, LentTx, SlotInfo};

const MTU: u16 = 512;
const WINDOW: u16 = 4;

#[cortex_m_rt::entry]
fn main() -> ! {
    let (mut tx, mut rx) = ([0; 1024], [0; MTU as usize * WINDOW as usize]);
    let (mut inbox, mut slots) = ([0; 512], [SlotInfo::EMPTY; WINDOW as usize]);
    let (mut sent, mut ends) = (Deque::<Sent, { WINDOW as usize }>::new(), Deque::<u32, 1>::new());
    let mut acks = Deque::<Ack, 8>::new();
    let parts: Parts<Lent<'_>> = Parts {
        tx: LentTx::new(&mut tx),
        sent: sent.as_mut_view(),
        ends: ends.as_mut_view(),
        rx: LentRx::new(&mut slots, &mut rx),
        acks: acks.as_mut_view(),
    };
    let config = Config { mtu: MTU, send_window: WINDOW, recv_window: WINDOW, ..Config::GAMES };
    let mut engine = Kcp::new(black_box(1), config, parts);
    let mut reader = Reader::<Lent<'_>>::new(Limits::KCPQ, LentInbox::new(&mut inbox));
    let mut datagram = [0; MTU as usize];
    loop {
        let now = Instant::from_micros(black_box(0));
        let _ = black_box(engine.handle_datagram(now, black_box(&datagram), Origin::Wire, |bytes| {
            let (taken, progress) = reader.read(bytes);
            black_box(matches!(progress, Progress::Assembled));
            taken
        }));
        let _ = black_box(engine.send(black_box(b"a message")));
        black_box(engine.poll_transmit(now, black_box(&mut datagram)));
        black_box(engine.poll_timeout());
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
