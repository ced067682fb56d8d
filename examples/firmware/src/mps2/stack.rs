//! Stack checks: high-water mark (cortex-m-rt's `paint-stack`) and an MPU guard.

unsafe extern "C" {
    static mut _stack_start: u32; // top
    static mut _stack_end: u32; // bottom: first word above the statics
}

/// log2 of the guard's size, which must exceed the largest stack frame.
const GUARD_LOG2: u32 = 10;

fn bounds() -> (usize, usize) {
    (&raw const _stack_start as usize, &raw const _stack_end as usize)
}

fn guard_base() -> usize {
    let size = 1usize << GUARD_LOG2;
    (bounds().1 + size - 1) & !(size - 1)
}

/// ARMv7-M MPU (M3, M4, M7): no access to 1 KiB at the bottom of the stack. A push into
/// it is a HardFault, and that handler runs with the MPU off (HFNMIENA = 0).
pub fn guard() {
    let wr = |reg: usize, v: u32| unsafe { (reg as *mut u32).write_volatile(v) };
    wr(0xe000_ed98, 0); // RNR: region 0
    wr(0xe000_ed9c, guard_base() as u32); // RBAR
    wr(0xe000_eda0, (1 << 28) | ((GUARD_LOG2 - 1) << 1) | 1); // RASR: no access, XN, size, on
    wr(0xe000_ed94, (1 << 2) | 1); // CTRL: default map for the rest, on
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// (used at most, there is) in bytes.
pub fn high_water() -> (usize, usize) {
    let top = bounds().0;
    let bottom = guard_base() + (1 << GUARD_LOG2);
    let mut p = bottom;
    while p < top && unsafe { (p as *const u32).read_volatile() } == cortex_m_rt::STACK_PAINT_VALUE {
        p += 4;
    }
    (top - p, top - bottom)
}
