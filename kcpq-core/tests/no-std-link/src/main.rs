//! Proof by linking that the core needs neither `std` nor an allocator.
//!
//! Only `core` is built for this target, and the program defines no global allocator.

#![no_std]
#![no_main]

use core::hint::black_box;
use kcpq_core::{Duration, Instant};

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut now = Instant::from_millis(0);
    loop {
        // What the optimiser cannot see it cannot remove: the core's code is in the image.
        let later = black_box(Instant::from_micros(black_box(now.as_micros()).wrapping_add(1)));
        let waited: Duration = later.since(now);
        black_box((later.as_wire_millis(), waited.div(black_box(3))));
        now = later;
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
