//! embassy-time driver on two CMSDK APB timers (32-bit down counters at 25 MHz).
//! TIMER0 runs free over all 32 bits and its wrap interrupt (every 171 s) extends it
//! to 64; TIMER1 is a one-shot alarm. No periodic tick.

use super::vectors::Irq;
use core::cell::{Cell, RefCell};
use core::task::Waker;
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

const T0: usize = 0x4000_0000;
const T1: usize = 0x4000_1000;
const CTRL: usize = 0x0;
const VALUE: usize = 0x4;
const RELOAD: usize = 0x8;
const INT: usize = 0xc; // read: pending; write 1: clear
const EN: u32 = 1;
const INTEN: u32 = 8;
const DIV: u64 = 25; // timer clocks per embassy tick (1 MHz)

fn rd(base: usize, reg: usize) -> u32 {
    unsafe { ((base + reg) as *const u32).read_volatile() }
}
fn wr(base: usize, reg: usize, v: u32) {
    unsafe { ((base + reg) as *mut u32).write_volatile(v) }
}

struct Cmsdk {
    started: Mutex<Cell<bool>>,
    wraps: Mutex<Cell<u32>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static DRIVER: Cmsdk = Cmsdk {
    started: Mutex::new(Cell::new(false)),
    wraps: Mutex::new(Cell::new(0)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

impl Cmsdk {
    fn clocks(&self, cs: CriticalSection) -> u64 {
        if !self.started.borrow(cs).get() {
            return 0;
        }
        let mut v = rd(T0, VALUE);
        if rd(T0, INT) & 1 != 0 {
            // a wrap whose interrupt has not run yet
            wr(T0, INT, 1);
            let w = self.wraps.borrow(cs);
            w.set(w.get() + 1);
            v = rd(T0, VALUE);
            while v == 0 {
                v = rd(T0, VALUE); // shows 0 for one clock before it reloads
            }
        }
        ((self.wraps.borrow(cs).get() as u64) << 32) | (!v) as u64
    }

    /// False when `at` has already passed.
    fn set_alarm(&self, cs: CriticalSection, at: u64) -> bool {
        wr(T1, CTRL, 0);
        wr(T1, INT, 1);
        if at == u64::MAX {
            return true;
        }
        let (now, target) = (self.clocks(cs), at.saturating_mul(DIV));
        if target <= now {
            return false;
        }
        let dt = (target - now).min(0x7fff_ffff) as u32; // far ones fire early and re-arm
        wr(T1, RELOAD, dt);
        wr(T1, VALUE, dt);
        wr(T1, CTRL, EN | INTEN);
        true
    }

    fn rearm(&self, cs: CriticalSection) {
        let mut q = self.queue.borrow(cs).borrow_mut();
        let mut next = q.next_expiration(self.clocks(cs) / DIV);
        while !self.set_alarm(cs, next) {
            next = q.next_expiration(self.clocks(cs) / DIV);
        }
    }
}

impl Driver for Cmsdk {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.clocks(cs) / DIV)
    }
    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let changed = self.queue.borrow(cs).borrow_mut().schedule_wake(at, waker);
            if changed {
                self.rearm(cs);
            }
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn TIMER0() {
    critical_section::with(|cs| {
        let _ = DRIVER.clocks(cs); // counts the wrap, clears the flag
    });
}

#[unsafe(no_mangle)]
extern "C" fn TIMER1() {
    critical_section::with(|cs| DRIVER.rearm(cs));
}

/// Call once, before anything uses embassy-time.
pub fn init() {
    critical_section::with(|cs| {
        for t in [T0, T1] {
            wr(t, CTRL, 0);
            wr(t, INT, 1);
        }
        wr(T0, RELOAD, 0xffff_ffff);
        wr(T0, VALUE, 0xffff_ffff);
        wr(T0, CTRL, EN | INTEN);
        DRIVER.started.borrow(cs).set(true);
    });
    unsafe {
        cortex_m::peripheral::NVIC::unmask(Irq::Timer0);
        cortex_m::peripheral::NVIC::unmask(Irq::Timer1);
    }
}
