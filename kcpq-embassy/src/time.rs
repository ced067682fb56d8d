//! Clock and timers by embassy-time (feature `embassy-time`).

use kcpq_core::Instant;

/// The current time, for [`Resources::split`](crate::Resources::split).
pub fn now() -> Instant {
    Instant::from_micros(embassy_time::Instant::now().as_micros())
}

/// Timers of embassy-time.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timer;

impl crate::Timer for Timer {
    fn wait_until(&mut self, at: Instant) -> impl Future<Output = ()> {
        // Rounded up to the next tick: to wake before the moment would be to wake twice.
        let at = embassy_time::Instant::from_micros(at.as_micros());
        embassy_time::Timer::at(embassy_time::Instant::from_ticks(at.as_ticks().saturating_add(1)))
    }
}
