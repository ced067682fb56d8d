//! Proof by linking that the core needs neither `std` nor an allocator.
//!
//! Only `core` is built for this target, and the program defines no global allocator. It drives a whole client over lent
//! memory; what the optimiser cannot see through (`black_box`) it cannot remove from the image.

#![no_std]
#![no_main]

use core::hint::black_box;

use kcpq_core::Instant;
use kcpq_core::client::{Client, Config, Event, Memory};
use kcpq_core::kcp;

const MSS: usize = 488;
const WINDOW: usize = 4;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut memory = Memory::<MSS, WINDOW, 512, 1024, 4>::new();
    let engine = kcp::Config { send_window: WINDOW as u16, recv_window: WINDOW as u16, ..kcp::Config::GAMES };
    let config = Config { kcp: engine, max_datagram: 520, ..Config::default() };
    let mut client = Client::new(config, black_box(1), memory.lend());
    let mut datagram = [0; 520];
    client.connect(Instant::ZERO);
    let subscription = client.subscribe(Instant::ZERO, black_box("commands.*"));
    loop {
        let now = Instant::from_micros(black_box(0));
        client.handle_datagram(now, black_box(&mut datagram));
        client.handle_timeout(now);
        while let Some(event) = client.poll_event() {
            if let Event::Message { message, .. } = &event {
                black_box((message.subject(), message.payload()));
            }
        }
        let _ = black_box(client.publish(now, black_box("sensors.a"), black_box(b"21.5")));
        while let Some(len) = client.poll_transmit(now, &mut datagram) {
            black_box(&datagram[..len]);
        }
        black_box(client.poll_timeout());
        if black_box(false) {
            client.flush(now);
            if let Ok(id) = subscription {
                client.unsubscribe(now, id);
            }
            client.close(now);
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
