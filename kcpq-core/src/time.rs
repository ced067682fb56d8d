//! Time as the core sees it: microseconds from a moment of the caller's choosing.
//!
//! The core never reads a clock. Every call that depends on the time takes an [`Instant`], so a test drives hours of
//! protocol in microseconds and a firmware hands in whatever its timer counts. Both types are one `u64`, which costs a
//! Cortex-M less than the seconds and nanoseconds of `core::time::Duration`.

use core::cmp::Ordering;
use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A moment: microseconds since an epoch that the caller chose (584 542 years fit).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

/// A span of time in microseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Duration(u64);

/// When a machine wants to be called again, and why: a driver that wakes too often can say what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The reason.
    pub why: Why,
}

/// What a [`Deadline`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Why {
    /// Something can be sent at once.
    Transmit,
    /// A segment's retransmission timer (RTO).
    Retransmit,
    /// An overtaken segment counts as lost (RACK's reordering timer).
    Reordering,
    /// It is probed whether an outage is over.
    OutageProbe,
    /// Redundancy for what was sent: a repair, or a copy.
    Repair,
    /// The pacer releases the next segment.
    Pacing,
    /// Acknowledgements have waited long enough to be coalesced with data.
    AckDelay,
    /// A closed window is probed.
    WindowProbe,
    /// It is probed whether the path carries longer datagrams, or the peer's probe is answered.
    MtuProbe,
    /// A window that opened is told.
    WindowUpdate,
    /// A partial FEC group is given up or closed.
    Parity,
    /// A heartbeat is due.
    Heartbeat,
    /// The peer was not heard for too long.
    Idle,
    /// A subscription was not acknowledged.
    SubscribeRetry,
    /// A request was not answered, or the server has not said what became of a message.
    Request,
    /// The next attempt to connect, or the end of the present one.
    Reconnect,
    /// A closing session has waited long enough.
    Linger,
    /// A publisher that is held back may go on.
    Throttle,
    /// It is looked at who does not get on while memory is short.
    Memory,
    /// The last value of a subject lapses.
    Lapse,
}

impl Deadline {
    /// The earlier of two.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (&a, &b) {
            (Some(first), Some(second)) if second.at < first.at => b,
            (None, _) => b,
            _ => a,
        }
    }
}

impl Instant {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// Later than any other.
    pub const MAX: Self = Self(u64::MAX);

    /// The moment `micros` microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Milliseconds since the epoch, as KCP's 32-bit clock shows them: wraps after 49.7 days (PROTOCOL.md 2.1).
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn as_wire_millis(self) -> u32 {
        (self.0 / 1_000) as u32
    }

    /// The earlier of two that may be.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(first), Some(second)) if second.0 < first.0 => b,
            (None, _) => b,
            _ => a,
        }
    }

    /// The time from `earlier` to `self`, zero if `earlier` is the later one.
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// More time than any timer here can hold.
    pub const MAX: Self = Self(u64::MAX);

    /// A span of `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A span of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// A span of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// The span in whole microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The span in whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The span times `factor`, at most [`Duration::MAX`].
    #[cfg_attr(target_os = "none", inline(never))]
    pub const fn saturating_mul(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(factor as u64))
    }

    /// The span divided by `by`; `by` of 0 counts as 1.
    pub const fn div(self, by: u32) -> Self {
        Self(self.0 / if by == 0 { 1 } else { by as u64 })
    }

    /// True for a span of no length.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// The derived order, but `min` and `max` are functions where size counts.
macro_rules! ordered {
    ($type:ty) => {
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }

            fn lt(&self, other: &Self) -> bool {
                self.0 < other.0
            }

            fn le(&self, other: &Self) -> bool {
                self.0 <= other.0
            }

            fn gt(&self, other: &Self) -> bool {
                self.0 > other.0
            }

            fn ge(&self, other: &Self) -> bool {
                self.0 >= other.0
            }
        }

        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.0.cmp(&other.0)
            }

            #[cfg_attr(target_os = "none", inline(never))]
            fn max(self, other: Self) -> Self {
                Self(self.0.max(other.0))
            }

            #[cfg_attr(target_os = "none", inline(never))]
            fn min(self, other: Self) -> Self {
                Self(self.0.min(other.0))
            }
        }
    };
}

ordered!(Instant);
ordered!(Duration);

impl Add<Duration> for Instant {
    type Output = Self;

    #[cfg_attr(target_os = "none", inline(never))]
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    #[cfg_attr(target_os = "none", inline(never))]
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl Add for Duration {
    type Output = Self;

    #[cfg_attr(target_os = "none", inline(never))]
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Duration {
    type Output = Self;

    #[cfg_attr(target_os = "none", inline(never))]
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us < 1_000 => write!(f, "{us} us"),
            us if us < 1_000_000 => write!(f, "{}.{:03} ms", us / 1_000, us % 1_000),
            us => write!(f, "{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000),
        }
    }
}

impl From<core::time::Duration> for Duration {
    fn from(span: core::time::Duration) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for core::time::Duration {
    fn from(span: Duration) -> Self {
        Self::from_micros(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::from_micros(u64::MAX) + Duration::MAX, Instant::from_micros(u64::MAX));
        assert_eq!(Instant::ZERO.since(Instant::from_millis(5)), Duration::ZERO);
    }

    #[test]
    fn the_wire_clock_wraps_after_49_days() {
        assert_eq!(Instant::from_millis(u32::MAX as u64).as_wire_millis(), u32::MAX);
        assert_eq!(Instant::from_millis(u32::MAX as u64 + 3).as_wire_millis(), 2);
    }
}
