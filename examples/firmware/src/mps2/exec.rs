//! Thread-mode executor that idles with WFI. QEMU runs WFE as a no-op, so embassy's own
//! thread executor spins at 100 % of a host core; WFI halts the virtual CPU.

use core::sync::atomic::{AtomicBool, Ordering};
use embassy_executor::{Spawner, raw};

static PENDING: AtomicBool = AtomicBool::new(false);

#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    PENDING.store(true, Ordering::Release);
}

pub struct Executor(raw::Executor);

#[allow(clippy::new_without_default)]
impl Executor {
    pub fn new() -> Self {
        Self(raw::Executor::new(core::ptr::null_mut()))
    }
    pub fn run(&'static mut self, init: impl FnOnce(Spawner)) -> ! {
        init(self.0.spawner());
        loop {
            PENDING.store(false, Ordering::Release);
            unsafe { self.0.poll() };
            // With PRIMASK set, WFI still wakes on a pending interrupt, so nothing
            // slips in between the check and the sleep.
            cortex_m::interrupt::disable();
            if !PENDING.load(Ordering::Acquire) {
                cortex_m::asm::wfi();
            }
            unsafe { cortex_m::interrupt::enable() };
        }
    }
}
