//! QEMU's `mps2-an385`: a Cortex-M3 with two timers and a LAN9118 Ethernet controller.

pub mod args;
pub mod exec;
pub mod lan9118;
pub mod stack;
pub mod time;
mod vectors;

use cortex_m_semihosting::{debug, hio};

/// QEMU's standard output.
///
/// # Errors
/// Without semihosting.
pub fn stdout() -> Result<hio::HostStream, ()> {
    hio::hstdout()
}

/// QEMU's standard error.
///
/// # Errors
/// Without semihosting.
pub fn stderr() -> Result<hio::HostStream, ()> {
    hio::hstderr()
}

/// Ends QEMU with exit status 0 or 1.
pub fn exit(ok: bool) -> ! {
    debug::exit(if ok { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}
