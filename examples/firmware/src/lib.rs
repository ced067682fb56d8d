//! What the firmware is made of: a small machine (`mps2`) and the application (`app`), which knows no machine.

#![no_std]

#[cfg(feature = "client")]
pub mod app;
#[cfg(feature = "confirm")]
pub mod archive;
pub mod mps2;

/// Says a line: text by semihosting, or defmt.
#[cfg(not(feature = "defmt"))]
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        use core::fmt::Write as _;
        if let Ok(mut out) = $crate::mps2::stdout() {
            let _ = writeln!(out, $($text)*);
        }
    }};
}

/// Says a line: text by semihosting, or defmt.
#[cfg(feature = "defmt")]
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { defmt::info!($($text)*) };
}
